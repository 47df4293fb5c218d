import Foundation
import LOptCore
import Testing

@testable import LOptMeta

@Suite struct BatchNormTests {
    private static func matrix(_ rows: Int, _ width: Int, seed: UInt64) -> [Double] {
        var random = Random(seed)
        return (0..<rows * width).map { Double($0 % width) + (1 + Double($0 % width)) * random.normal() }
    }

    private static func column(_ x: [Double], _ j: Int, _ width: Int) -> (mean: Double, squares: Double) {
        let values = stride(from: j, to: x.count, by: width).map { x[$0] }
        let mean = values.reduce(0, +) / Double(values.count)
        return (mean, values.reduce(0) { $0 + ($1 - mean) * ($1 - mean) })
    }

    @Test func `in training each column has the mean of its shift and the deviation of its scale`() {
        let pass = NetworkPass<Double>([.batchNorm(width: 3)], rows: 40), x = Self.matrix(40, 3, seed: 1)
        pass.forward([2, 0.5, 3, 7, -1, 0], x)
        let y = (0..<120).map { pass.output[$0] }
        for (j, (scale, shift)) in [(2.0, 7.0), (0.5, -1), (3, 0)].enumerated() {
            let (mean, squares) = Self.column(y, j, 3)
            #expect(abs(mean - shift) < 1e-12 && abs((squares / 40).squareRoot() / scale - 1) < 1e-5, "column \(j)")
        }
    }

    @Test func `running averages take a tenth of every minibatch of the training, and nothing of what is judged`() {
        let pass = NetworkPass<Double>([.batchNorm(width: 2)], rows: 5), parameters = [1.0, 1, 0, 0]
        #expect(pass.runningStatistics == [0, 0, 1, 1])
        var expected = pass.runningStatistics
        for seed in 1...4 as ClosedRange<UInt64> {
            let x = Self.matrix(5, 2, seed: seed)
            pass.forward(parameters, x)
            for j in 0..<2 {
                let (mean, squares) = Self.column(x, j, 2)
                expected[j] = 0.9 * expected[j] + 0.1 * mean
                expected[2 + j] = 0.9 * expected[2 + j] + 0.1 * squares / 4
            }
            pass.forward(parameters, Self.matrix(5, 2, seed: 100 + seed), isTraining: false)
        }
        for (a, b) in zip(pass.runningStatistics, expected) { #expect(abs(a - b) < 1e-12) }
    }

    @Test func `what is judged is normalised by the running averages, each row by itself`() {
        let pass = NetworkPass<Double>([.batchNorm(width: 2)], rows: 3), x = Self.matrix(3, 2, seed: 5)
        pass.runningStatistics = [1, -2, 4, 0.25]
        pass.forward([3, 1, 0.5, -1], x, isTraining: false)
        for r in 0..<3 {
            let first = 3 * (x[2 * r] - 1) / (4 + 1e-5).squareRoot() + 0.5, second = (x[2 * r + 1] + 2) / (0.25 + 1e-5).squareRoot() - 1
            #expect(abs(pass.output[2 * r] - first) < 1e-12 && abs(pass.output[2 * r + 1] - second) < 1e-12, "row \(r)")
        }
    }

    private static func task(batch: Int) -> NetworkTask {
        NetworkTask(
            family: "t", "batch_norm", layers: NetworkShapes.batchNormalizedConvolution(side: 8, channels: [3, 4], classes: 10, .relu),
            data: TaskTests.data.digits, loss: .crossEntropy, batch: batch, rows: 64)
    }

    @Test func `a worker whose held-out examples need another minibatch judges them with the statistics of its own`() throws {
        // Of 360 held-out examples 352 are judged, 32 at a time, whatever the minibatch.
        let parameters = TaskParameters(RunSettings(task: Self.task(batch: 32), horizon: 20, seed: 1))
        let run = TrainingRun(parameters, Adam(rate: 0.01, parameters))
        run.advance(20)
        let fresh = Self.task(batch: 32).makeWorker(), other = Self.task(batch: 1).makeWorker()
        let values = try #require(parameters.values.baseAddress), trained = try #require(run.heldOutLoss)
        #expect(fresh.heldOutLoss(values) != trained)
        (fresh.state, other.state) = (run.workerState, run.workerState)
        #expect(fresh.heldOutLoss(values) == trained && other.heldOutLoss(values) == trained)
        #expect(run.heldOutLoss == trained)
    }

    @Test func `an unroll with batch norms goes on from a snapshot with its running averages, bit for bit`() throws {
        var settings = RunSettings(task: Self.task(batch: 8), horizon: 30, seed: 3)
        settings.endsWithHeldOutLoss = true
        let weights = try Weights(builtin: "star", allocator: .system)
        var whole = try Unroll(settings, Objective(), weights: weights), begun = try Unroll(settings, Objective(), weights: weights)
        _ = whole.run(30)
        _ = begun.run(11)
        let snapshot = try JSONDecoder().decode(Unroll.Snapshot.self, from: JSONEncoder().encode(begun.snapshot()))
        var resumed = try Unroll(settings, Objective(), weights: weights)
        try resumed.resume(snapshot)
        _ = resumed.run(30)
        #expect(resumed.value() == whole.value())
        var other = try Unroll(RunSettings(task: TaskTests.suite.entries[0].task, horizon: 30, seed: 3), Objective(), weights: weights)
        #expect(throws: LOptError.self) { try other.resume(snapshot) }
    }
}
