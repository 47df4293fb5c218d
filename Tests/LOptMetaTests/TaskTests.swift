import Foundation
import Testing

@testable import LOptMeta

@Suite struct TaskTests {
    static let data = try! BundledData(DataFolder.find())
    static let distribution = TaskDistribution(data: data)
    static let suite = EvaluationSuite(data: data)

    /// With Adam.
    static func train(_ task: any TrainingTask, rate: Double, steps: Int) -> (first: Double, last: Double, heldOut: Float?) {
        let parameters = TaskParameters(RunSettings(task: task, horizon: steps, seed: 1))
        let run = TrainingRun(parameters, Adam(rate: rate, parameters))
        var losses: [Double] = []
        run.advance(steps) { losses.append(Double($1)) }
        let tenth = max(steps / 10, 1)
        return (losses.prefix(3).reduce(0, +) / 3, losses.suffix(tenth).reduce(0, +) / Double(tenth), run.heldOutLoss)
    }

    @Test func `the images are what their sources say`() {
        for (data, count, inputs) in [(Self.data.digits, 1797, 64), (Self.data.fashion, 5000, 196)] {
            #expect((data.count, data.inputCount, data.targetCount) == (count, inputs, 1))
            #expect(data.trainCount == count * 4 / 5)
            var perClass = [Int](repeating: 0, count: 10), largest: Float = 0, least: Float = 1
            var x = [Float](repeating: 0, count: inputs), y: [Float] = [0]
            for i in 0..<count {
                data.copy(i, &x, &y)
                perClass[Int(y[0])] += 1
                largest = max(largest, x.max() ?? 2)
                least = min(least, x.min() ?? -1)
            }
            #expect((least, largest) == (0, 1), "\(data.name)")
            #expect(perClass.allSatisfy { abs($0 - count / 10) < count / 50 }, "\(data.name): \(perClass)")
        }
    }

    @Test func `every task of the suite and of the validation set can be learned`() {
        for task in Self.suite.entries.map(\.task) + Self.suite.validation where task.parameterCount < 20_000 {
            let run = Self.train(task, rate: 3e-3, steps: 150)
            let isLearned = run.last < 0.97 * run.first
            #expect(isLearned, "\(task.name): loss \(run.first) at first, \(run.last) at last")
            #expect(run.heldOut.map { $0.isFinite } ?? true, "\(task.name): held-out loss \(run.heldOut ?? 0)")
        }
    }

    @Test func `nearly every drawn task can be learned, and losses are finite`() {
        var learned = 0
        for seed in 0..<120 as Range<UInt64> {
            let task = Self.distribution.task(seed)
            guard task.parameterCount < 8000 else {
                learned += 1
                continue
            }
            let best = [1e-3, 1e-2].map { Self.train(task, rate: $0, steps: 60) }.min { $0.last < $1.last }
            #expect(best?.first.isFinite == true, "\(task.name)")
            if let best, best.last < 0.98 * best.first { learned += 1 }
        }
        #expect(learned >= 105, "\(learned) of 120 were learned")
    }

    @Test func `the distribution, the validation tasks and the suite have no task in common`() {
        let suite = Set(Self.suite.entries.map(\.task.name)), validation = Set(Self.suite.validation.map(\.name))
        #expect(suite.count == Self.suite.entries.count)
        #expect(validation.count == Self.suite.validation.count)
        #expect(suite.isDisjoint(with: validation))
        var drawn: Set<String> = []
        for seed in 0..<3000 as Range<UInt64> { drawn.insert(Self.distribution.task(seed).name) }
        #expect(drawn.count > 1500)
        #expect(drawn.isDisjoint(with: suite), "\(drawn.intersection(suite))")
        #expect(drawn.isDisjoint(with: validation), "\(drawn.intersection(validation))")
        // By structure, whatever the names: no drawn network has the layers of one of the suite's.
        let held = (Self.suite.entries.map(\.task) + Self.suite.validation).compactMap { ($0 as? NetworkTask)?.layers.map(Self.shape) }
        for seed in 0..<3000 as Range<UInt64> {
            guard let layers = (Self.distribution.task(seed) as? NetworkTask)?.layers.map(Self.shape) else { continue }
            #expect(!held.contains(layers), "\(layers)")
        }
    }

    /// A layer without the size of its start.
    static func shape(_ layer: Layer) -> Layer {
        if case .dense(let inputs, let outputs, _) = layer { return .dense(inputs: inputs, outputs: outputs, gain: 0) }
        return layer
    }

    @Test func `families of the suite that count as unseen are not drawn`() {
        let unseen = Set(Self.suite.entries.filter { !$0.isFamilyTrained }.map(\.family))
        for seed in 0..<500 as Range<UInt64> {
            if let task = Self.distribution.task(seed) as? NetworkTask { #expect(!unseen.contains(task.family)) }
        }
        #expect(unseen.count >= 10)
    }

    @Test func `the same seeds give the same start and the same minibatches`() {
        for seed in 0..<30 as Range<UInt64> {
            let one = Self.train(Self.distribution.task(seed), rate: 1e-3, steps: 4)
            let other = Self.train(Self.distribution.task(seed), rate: 1e-3, steps: 4)
            #expect(one.last == other.last)
        }
    }

    @Test func `the loss gradient is that of finite differences, for every loss`() throws {
        let tasks = [
            NetworkTask(family: "t", "ce", layers: NetworkShapes.mlp(64, [5], 10, .tanh), data: Self.data.digits, loss: .crossEntropy, batch: 3),
            NetworkTask(family: "t", "se", layers: NetworkShapes.mlp(64, [5], 64, .tanh), data: Self.data.digitsMirror, loss: .squaredError, batch: 3),
            NetworkTask(family: "t", "be", layers: NetworkShapes.mlp(64, [5], 64, .tanh), data: Self.data.digitsMirror, loss: .bernoulli, batch: 3),
        ]
        for task in tasks {
            var start = [Float](repeating: 0, count: task.parameterCount)
            start.withUnsafeMutableBufferPointer { task.initialize($0.baseAddress!, seed: 3) }
            var p = start.map(Double.init), gradient = p
            let pass = NetworkLossPass<Double>(task)
            pass.draw(4, 5)
            _ = gradient.withUnsafeMutableBufferPointer { pass.loss(p, $0.baseAddress!) }
            for i in stride(from: 0, to: p.count, by: 17) {
                let before = p[i]
                p[i] = before + 1e-5
                let up = pass.loss(p, nil)
                p[i] = before - 1e-5
                let down = pass.loss(p, nil)
                p[i] = before
                let difference = abs((up - down) / 2e-5 - gradient[i])
                #expect(difference < 1e-8, "\(task.name), parameter \(i): \(difference)")
            }
        }
    }
}
