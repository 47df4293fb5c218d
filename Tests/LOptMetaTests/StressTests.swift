import Foundation
import Testing

@testable import LOptMeta

struct StressTests {
    private static let task = NetworkTask.mlp(
        "t", EvaluationSynthetic.friedman(60, seed: 1), [5], 1, .tanh, .squaredError, batch: 8)

    private func step(_ task: any TrainingTask, _ step: Int) -> (loss: Float, start: [Float], gradient: [Float]) {
        let parameters = TaskParameters(RunSettings(task: task, horizon: 10, seed: 1))
        var gradient = [Float](repeating: .nan, count: parameters.count)
        let loss = task.makeWorker().loss(parameters.parameters, gradient: &gradient, seed: 1, step: step)
        return (loss, Array(parameters.values), gradient)
    }

    @Test func `an altered task is the other but for what is said`() {
        let base = step(Self.task, 3)
        let halved = AlteredTask("half", Self.task) { step, loss, gradient, tensors in
            // Weight and bias of a layer each; the last has the output's bias, the end of the gradient.
            guard step == 3, tensors.map(\.count) == [50, 5, 5, 1] else { return }
            for i in tensors[1] { gradient[i] *= 0.5 }
            gradient[tensors[3].lowerBound] = loss
        }
        let altered = step(halved, 3)
        #expect(altered.loss == base.loss && altered.start == base.start)
        for i in 0..<61 { #expect(altered.gradient[i] == (i == 60 ? base.loss : (50..<55).contains(i) ? base.gradient[i] / 2 : base.gradient[i])) }
        #expect(step(halved, 2).gradient == step(Self.task, 2).gradient)
        let moved = step(AlteredTask("moved", Self.task, offset: 4), 3)
        #expect(moved.start == base.start.map { $0 + 4 } && abs(moved.loss - base.loss) < 1e-5 * base.loss)
        #expect(step(AlteredTask("scaled", Self.task, start: 0), 3).start.allSatisfy { $0 == 0 })
    }

    @Test func `an optimizer for each layer steps each tensor once, as one that has its layer alone`() throws {
        let weights = try NamedWeights("star"), settings = RunSettings(task: Self.task, horizon: 20, seed: 1)
        let together = TaskParameters(settings), separate = try SeparateOptimizers(weights.weights, together)
        let first = TaskParameters(settings), alone = try LearnedOptimizer(weights.weights, first, tensors: 0..<2)
        var random = Random(5)
        for _ in 0..<20 {
            for i in 0..<together.count {
                together.gradient[i] = Float(random.normal())
                first.gradient[i] = together.gradient[i]
            }
            try separate.step(learningRateScale: 1)
            try alone.step(learningRateScale: 1)
        }
        let start = Array(TaskParameters(settings).values)
        #expect(Array(together.values)[..<55] == Array(first.values)[..<55])
        #expect(Array(first.values)[55...] == start[55...], "tensors that it does not have stay where they are")
        for i in 0..<61 { #expect(together.values[i] != start[i], "element \(i)") }
    }

    @Test func `a rise of a tenth is an explosion, and so is what is no number`() {
        func exploded(_ worst: Double) -> Bool { StressTable.Outcome(final: 0.1, worst: worst).hasExploded }
        #expect([1, 1.05, 1.2, .infinity, .nan].map(exploded) == [false, false, true, true, true])
    }

    @Test func `a table names what exploded, and threads change nothing`() async throws {
        let weights = [try NamedWeights("star")]
        let growing = AlteredTask("uphill", Self.task) { _, _, gradient, tensors in for i in 0..<61 { gradient[i] *= -1 } }
        let patterns = [StressPattern(name: "downhill", task: Self.task, steps: 100), StressPattern(name: "uphill", task: growing, steps: 100)]
        let table = try await StressTable(patterns, weights: weights, threads: 1)
        #expect(table.optimizers == ["lopt star", "lopt star, known horizon", "Adam 0.001", "Adam, best of 7"])
        #expect(table.outcomes.map { $0.map(\.hasExploded)[..<3] } == [[false, false, false], [true, true, true]])
        #expect(table.outcomes[0].allSatisfy { $0.final < 1 } && table.outcomes[1].allSatisfy { $0.final > 1 && $0.worst >= $0.final })
        #expect(table.text.contains("of 2 patterns: lopt star 1, lopt star, known horizon 1, Adam 0.001 1"))
        #expect(try await StressTable(patterns, weights: weights, threads: 2).text == table.text)
    }

    @Test func `patterns have names of their own`() {
        let patterns = StressPattern.all()
        #expect(Set(patterns.map(\.name)).count == patterns.count && patterns.count >= 24)
        #expect(patterns.contains { $0.isPerLayer })
    }
}
