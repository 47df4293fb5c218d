import Testing

@testable import LOptCore

/// The fused f32 kernels against the trajectories of the authors' own code in f64, which knows no rounding worth the name:
/// what is left is the rounding of the kernels.
@Suite struct KernelGoldenTests {
    struct Setting: Sendable, CustomTestStringConvertible {
        let name: String
        let isa: InstructionSet
        let threads: Int
        var testDescription: String { "\(name), \(isa), \(threads) threads" }
    }

    static let settings: [Setting] = GoldenCase.names.flatMap { name in
        FusedRun.instructionSets.flatMap { isa in
            [1, 2, 5].map { Setting(name: name, isa: isa, threads: $0) }
        }
    }

    @Test(arguments: settings)
    func `the kernels follow the trajectories of the authors' code`(_ setting: Setting) throws {
        let golden = try GoldenCase.load(setting.name, .f64)
        let run = try FusedRun(golden.architecture, theta: golden.theta, isa: setting.isa, threads: setting.threads)
        // One tensor has other axes in the golden than this project defines.
        let tensors = golden.tensors.filter(\.followsStableOrder)
        for tensor in tensors { try run.add(tensor.name, shape: tensor.shape, initial: tensor.initial) }
        var compared = 0
        var way = tensors.map { _ in 0.0 }, last = tensors.map { $0.initial }
        for step in 0..<golden.steps {
            for (i, tensor) in tensors.enumerated() {
                run.setGradient(i, tensor.gradient(step: step, parameters: run.parameters(i)))
            }
            guard case .done = try run.step() else {
                Issue.record("step \(step) was skipped")
                return
            }
            for (i, tensor) in tensors.enumerated() {
                guard let expected = tensor.expected(step: step) else { continue }
                // Roundings add up on the way, and where gradients depend on the parameters they grow: long_nom_star ends 8e-6 of it off.
                way[i] += largestMove(last[i], expected)
                last[i] = expected
                let difference = updateDifference(
                    run.parameters(i), expected, from: tensor.initial, steps: step + 1, relativeTo: way[i])
                #expect(
                    difference <= updateTolerance,
                    "\(tensor.name) \(tensor.shape) after step \(step): \(difference)")
                compared += 1
            }
        }
        #expect(compared > 0)
    }
}
