import Foundation
import LOptCore
import LOptReference
import Testing

@testable import LOptMeta

struct UpdateRuleTests {
    /// The parameters after a number of steps on a noiseless bowl of one dimension.
    private func end(_ method: OptimizerSpec.Method, curvature: Float, steps: Int) throws -> Double {
        let run = try TrainingRun(RunSettings(task: Bowl(curvatures: [curvature]), horizon: steps, seed: 1), method)
        run.advance(steps)
        return Double(run.parameters.values[0])
    }

    @Test func `Adam takes the steps of its paper`() throws {
        var (x, m, v) = (1.0, 0.0, 0.0)
        for t in 1...50 {
            let g = 0.7 * x
            m = 0.9 * m + 0.1 * g
            v = 0.999 * v + 0.001 * g * g
            x -= 0.01 * (m / (1 - pow(0.9, Double(t)))) / ((v / (1 - pow(0.999, Double(t)))).squareRoot() + 1e-8)
        }
        let found = try end(.adam(learningRate: 0.01), curvature: 0.7, steps: 50)
        #expect(abs(found - x) < 1e-5, "\(found), not \(x)")
    }

    @Test func `momentum SGD follows the heavy ball`() throws {
        var (x, m) = (1.0, 0.0)
        for _ in 0..<50 {
            m = 0.9 * m + 0.7 * x
            x -= 0.02 * m
        }
        let found = try end(.sgdm(learningRate: 0.02), curvature: 0.7, steps: 50)
        #expect(abs(found - x) < 1e-5, "\(found), not \(x)")
    }

    @Test func `the learned optimizer steps as the reference does`() throws {
        let weights = try NamedWeights("star")
        let architecture = weights.weights.architecture
        let theta = (0..<architecture.metaParameters).map { Double(weights.weights.theta[$0]) }
        let reference = ReferenceOptimizer(architecture: architecture, theta: theta)
        var (x, state) = ([1.0, 1.0], reference.makeState(shape: [2]))
        for _ in 0..<50 { reference.step(parameters: &x, gradient: [x[0], 0.1 * x[1]], state: &state) }
        let run = try TrainingRun(RunSettings(task: Bowl(), horizon: 50, seed: 1), .lopt(weights))
        run.advance(50)
        for i in 0..<2 {
            #expect(abs(Double(run.parameters.values[i]) - x[i]) < 1e-4, "element \(i): \(run.parameters.values[i]), not \(x[i])")
        }
    }

    @Test func `a learning-rate scale of 0 stops every optimizer`() throws {
        let parameters = TaskParameters(RunSettings(task: Bowl(), horizon: 3, seed: 1))
        let rules: [any UpdateRule] = [
            Adam(rate: 1, parameters), MomentumSGD(rate: 1, parameters),
            try LearnedOptimizer(try NamedWeights("star").weights, parameters),
        ]
        parameters.gradient.update(repeating: 0.5, count: 2)
        for rule in rules {
            for _ in 0..<3 { try rule.step(learningRateScale: 0) }
            #expect(Array(parameters.values) == [1, 1])
        }
    }

    @Test func `the cosine begins at 1, halves in the middle and ends at 0`() {
        #expect(Schedule.cosine.scale(at: 0, of: 100) == 1)
        #expect(abs(Schedule.cosine.scale(at: 50, of: 100) - 0.5) < 1e-12)
        #expect(Schedule.cosine.scale(at: 100, of: 100) < 1e-12)
        #expect(Schedule.constant.scale(at: 99, of: 100) == 1)
        #expect(Schedule.linear.scale(at: 25, of: 100) == 0.75)
    }
}
