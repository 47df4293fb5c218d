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
        for (data, count, inputs) in [(Self.data.digits, 1797, 64), (Self.data.evaluation.fashion, 5000, 196)] {
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

    @Test func `the suite has many kinds, and shares no data set or generator with meta-training and its validation`() {
        #expect(Self.suite.entries.count >= 24 && Set(Self.suite.entries.map(\.family)).count >= 12)
        let evaluated = Set(Self.suite.entries.map(\.task.dataSource))
        let drawn = Set((0..<800 as Range<UInt64>).map { Self.distribution.task($0).dataSource })
        #expect(drawn.sorted() == TaskDistribution.dataSources)
        #expect(drawn.isSuperset(of: Self.suite.validation.map(\.dataSource)))
        #expect(evaluated.count >= 10 && evaluated.isDisjoint(with: drawn), "\(evaluated.intersection(drawn))")
        // By content too: no line of one text is in the other, whatever the sets are called.
        func lines(_ name: String) throws -> Set<Substring> {
            let text = String(decoding: try DataFolder.find().read("text/\(name).txt"), as: UTF8.self)
            return Set(text.split(separator: "\n").filter { $0.count > 25 })
        }
        #expect(throws: Never.self) {
            let shared = try lines("persuasion-volume-one").intersection(lines("shakespeare"))
            #expect(shared.isEmpty, "\(shared)")
        }
    }

    @Test func `every task of the suite has held-out data, and its accuracy if it is a classification`() {
        for task in Self.suite.entries.map(\.task) {
            let parameters = TaskParameters(RunSettings(task: task, horizon: 1, seed: 1))
            let score = TrainingRun(parameters, Adam(rate: 0, parameters)).heldOutScore
            #expect(score?.loss.isFinite == true, "\(task.name)")
            guard let network = task as? NetworkTask else { continue }
            #expect((score?.accuracy != nil) == (network.loss == .crossEntropy || network.data.isOneHot), "\(task.name)")
        }
    }

    /// Classes as unit vectors, through an identity: outputs name the class of the inputs. Of the 20 held out, a quarter has another label.
    @Test func `accuracy is the part of the examples whose class has the largest output, whatever loss and minibatch`() throws {
        let classes = (0..<60).map { $0 % 4 }, labels = classes.enumerated().map { $0 >= 40 && $0 % 4 == 0 ? ($1 + 1) % 4 : $1 }
        let inputs = oneHotTargets(classes.map { Float($0) }, classes: 4), targets = labels.map { Float($0) }
        let labelled = Dataset("a", source: "a", inputs: inputs, targets: targets, count: 60, trainCount: 40)
        let oneHot = Dataset(
            "b", source: "b", inputs: inputs, targets: oneHotTargets(targets, classes: 4), count: 60, trainCount: 40, isOneHot: true)
        for (data, loss) in [(labelled, NetworkLoss.crossEntropy), (oneHot, .squaredError)] {
            for batch in [1, 20, 40] {
                let task = NetworkTask(
                    family: "t", "identity", layers: [.dense(inputs: 4, outputs: 4, gain: 1)], data: data, loss: loss, batch: batch)
                let identity = (0..<20).map { Float($0 < 16 && $0 % 5 == 0 ? 1 : 0) }
                let score = try #require(task.makeWorker().heldOutScore(identity))
                #expect(score.accuracy == 0.75, "\(loss), minibatches of \(batch)")
                // Errors of 1 in two of four outputs in a quarter of the examples.
                if loss == .squaredError { #expect(abs(score.loss - 0.0625) < 1e-6, "minibatches of \(batch)") }
            }
        }
    }

    @Test func `a minibatch of all examples is all of them each time, and a unit of the loss scales it and its gradient`() {
        let data = EvaluationSynthetic.friedman(50, seed: 1)
        let task = NetworkTask.mlp("t", data, [4], 1, .tanh, .squaredError, batch: 40), scaled = ScaledLoss(task, by: 1e-3)
        var start = [Float](repeating: 0, count: task.parameterCount), gradient = start, other = start
        start.withUnsafeMutableBufferPointer { task.initialize($0.baseAddress!, seed: 1) }
        let worker = task.makeWorker()
        let first = worker.loss(start, gradient: &gradient, seed: 1, step: 0)
        #expect(worker.loss(start, gradient: &other, seed: 2, step: 7) == first && gradient == other)
        let small = scaled.makeWorker()
        #expect(small.loss(start, gradient: &other, seed: 1, step: 0) == 1e-3 * first && other == gradient.map { 1e-3 * $0 })
        #expect(small.heldOutLoss(start) == worker.heldOutLoss(start).map { 1e-3 * $0 })
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
            NetworkTask(
                family: "t", "le", layers: NetworkShapes.mlp(1, [5], 1, .tanh), data: EvaluationSynthetic.poisson(50, seed: 1),
                loss: .linearEquation, batch: 3, rows: 3),
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
