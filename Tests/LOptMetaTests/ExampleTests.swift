import Foundation
import LOptMeta
import Testing

@testable import specialise

/// The workload of examples-swift/specialise.
@Suite struct ExampleTests {
    private let arm = Arm()

    private func start() -> [Float] {
        var p = [Float](repeating: 0, count: arm.parameterCount)
        p.withUnsafeMutableBufferPointer { if let base = $0.baseAddress { arm.initialize(base, seed: 7) } }
        return p
    }

    private func loss(_ worker: any TaskWorker, _ p: [Float], _ g: inout [Float]) -> Float {
        g.withUnsafeMutableBufferPointer { worker.loss(p, gradient: $0.baseAddress!, seed: 1, step: 2) }
    }

    /// f32: differences over 0.01 are good to about 1e-4 of the largest gradient, and their own error is 1e-4.
    @Test func `the arm's gradient is that of finite differences`() {
        let worker = arm.makeWorker()
        var p = start()
        var gradient = p, scratch = p
        _ = loss(worker, p, &gradient)
        let largest = gradient.map(abs).max() ?? 0
        #expect(largest > 0.1)
        for i in stride(from: 0, to: p.count, by: 5) {
            let before = p[i]
            p[i] = before + 0.01
            let up = loss(worker, p, &scratch)
            p[i] = before - 0.01
            let down = loss(worker, p, &scratch)
            p[i] = before
            let difference = abs((up - down) / 0.02 - gradient[i])
            #expect(difference < 1e-3 * largest, "parameter \(i): \(gradient[i]), off by \(difference)")
        }
    }

    @Test func `the arm learns to reach, and its held-out loss is of other targets`() {
        let run = TaskTests.train(arm, rate: 3e-3, steps: 300)
        #expect(run.last < 0.1 * run.first, "loss \(run.first) at first, \(run.last) at last")
        #expect((run.heldOut ?? 1) < 0.2, "held-out loss \(run.heldOut ?? .nan)")
    }
}
