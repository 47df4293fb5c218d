import Foundation
import LOptReference
import Testing

@testable import LOptCore

/// The extensions of the default weights against Tests/Goldens/extensions.py, a program in numpy that shares nothing with the sources.
@Suite struct ExtensionGoldenTests {
    struct Golden: Decodable {
        let shape: [Int]
        let start: [Double]
        let gradients: [[Double]]
        let parameters: [[Double]]
    }

    static func goldens() throws -> [String: Golden] {
        let folder = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        return try JSONDecoder().decode([String: Golden].self, from: Data(contentsOf: folder.appending(path: "Goldens/extensions.json")))
    }

    @Test(arguments: ["matrix", "vector", "column"])
    func `the reference computes what the formulas say`(_ name: String) throws {
        let goldens = try Self.goldens(), golden = try #require(goldens[name])
        let weights = try Weights(builtin: "star", allocator: .system), a = weights.architecture
        #expect(a.tensorScale && a.tensorSchedule && a.tensorCount && a.tensorRanges && a.skipIdleTensors && a.nominalEpsilon != 1e-6)
        let rule = ReferenceOptimizer(architecture: a, theta: (0..<a.metaParameters).map { Double(weights.theta[$0]) })
        var state = rule.makeState(shape: golden.shape), p = golden.start
        for (step, gradient) in golden.gradients.enumerated() {
            rule.step(parameters: &p, gradient: gradient, state: &state, tensors: goldens.count)
            for i in p.indices { #expect(abs(p[i] - golden.parameters[step][i]) <= 1e-12, "step \(step), element \(i)") }
        }
    }

    /// Within a part of the update: parameters of 1 would hide much of a small step.
    @Test(arguments: [InstructionSet.baseline, .avx2, .avx512].filter { $0 <= .available })
    func `the kernels compute what the formulas say`(_ isa: InstructionSet) throws {
        let goldens = try Self.goldens().sorted { $0.key < $1.key }
        let weights = try Weights(builtin: "star", allocator: .system), a = weights.architecture
        let run = try FusedRun(a, theta: (0..<a.metaParameters).map { Double(weights.theta[$0]) }, isa: isa)
        for (name, golden) in goldens { try run.add(name, shape: golden.shape, initial: golden.start) }
        for step in goldens[0].value.gradients.indices {
            for i in goldens.indices { run.setGradient(i, goldens[i].value.gradients[step].map { Float($0) }) }
            try run.step()
            for (i, (name, golden)) in goldens.enumerated() {
                let before = step == 0 ? golden.start : golden.parameters[step - 1]
                let moved = zip(golden.parameters[step], before).map { abs($0 - $1) }.max() ?? 0
                for (found, expected) in zip(run.parameters(i), golden.parameters[step]) {
                    // What rounding of the parameters has left so far, and 2e-5 of the largest update.
                    let tolerance = Double(step + 1) * 6e-8 * (abs(expected) + 0.1) + 2e-5 * moved
                    #expect(abs(Double(found) - expected) <= tolerance, "\(name), step \(step)")
                }
            }
        }
    }
}
