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
        let found = try end(.adamW(learningRate: 0.01, weightDecay: 0), curvature: 0.7, steps: 50)
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
            Adam(rate: 1, weightDecay: 0.1, parameters), MomentumSGD(rate: 1, parameters), NAdamW(parameters), Prodigy(parameters),
            ScheduleFreeAdamW(rate: 1, parameters), AveragedRule(Adam(rate: 1, parameters), parameters),
            try LearnedOptimizer(try NamedWeights("star").weights, parameters),
        ]
        parameters.gradient.update(repeating: 0.5, count: 2)
        for rule in rules {
            for _ in 0..<3 { try rule.step(learningRateScale: 0) }
            #expect(Array(parameters.values) == [1, 1])
        }
    }

    /// Of Tests/Goldens/rivals.py, which packages have been compared with.
    private struct Golden: Decodable {
        struct Points: Decodable {
            let start: [Double], parameters: [[Double]], evaluated: [[Double]]?
        }
        let curvature: [Double], centre: [Double], noise: [[Double]], shown: [Int], rules: [String: Points]
    }

    @Test(arguments: [
        ("adamw", .init(.adamW(learningRate: 0.01, weightDecay: 0.1), .constant)),
        ("adamw cosine", .init(.adamW(learningRate: 0.01, weightDecay: 0.1), .cosine)), ("nadamw", Baseline.nadamW.specs[0]),
        ("schedule-free adamw", Baseline.scheduleFreeAdamW.specs[0]), ("prodigy", Baseline.prodigy.specs[0]),
    ] as [(String, OptimizerSpec)])
    func `optimizers that lopt is compared with take the steps of their packages`(_ name: String, _ spec: OptimizerSpec) throws {
        let folder = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        let golden = try JSONDecoder().decode(Golden.self, from: Data(contentsOf: folder.appending(path: "Goldens/rivals.json")))
        let expected = try #require(golden.rules[name])
        let task = StoredNoise(start: expected.start, curvature: golden.curvature, centre: golden.centre, noise: golden.noise)
        var settings = RunSettings(task: task, horizon: golden.noise.count, seed: 1)
        settings.schedule = spec.schedule
        settings.divergenceFactor = .infinity
        let run = try TrainingRun(settings, spec.method)
        for (i, step) in golden.shown.enumerated() {
            run.advance(step - run.step)
            for (found, wanted, place) in [
                (run.parameters.values.map(Double.init), expected.parameters[i], "parameters"),
                (StoredNoise.Worker.lastJudged(by: run), (expected.evaluated ?? expected.parameters)[i], "where it is judged"),
            ] {
                for j in wanted.indices {
                    let error = abs(found[j] - wanted[j]), allowed = 3e-5 * max(abs(wanted[j] - expected.start[j]), 0.01)
                    #expect(error < allowed, "\(name), step \(step), \(place), element \(j): \(found[j]), not \(wanted[j])")
                }
            }
        }
    }

    @Test func `an average of the parameters forgets the start, and is judged in their place alone`() throws {
        let settings = RunSettings(task: Bowl(curvatures: [0.5]), horizon: 100, seed: 1)
        let averaged = try TrainingRun(settings, .sgdm(learningRate: 0.02), averaged: true)
        let plain = try TrainingRun(settings, .sgdm(learningRate: 0.02))
        var mean = 1.0
        for t in 1...100 {
            averaged.advance(1)
            plain.advance(1)
            mean += 10 / Double(t + 10) * (Double(plain.parameters.values[0]) - mean)
            #expect(averaged.parameters.values[0] == plain.parameters.values[0])
        }
        let loss = try Double(#require(averaged.heldOutLoss))
        #expect(abs(loss - 0.25 * mean * mean) < 1e-6, "\(loss), not \(0.25 * mean * mean)")
    }

    @Test func `the warm-up of AlgoPerf rises over 2 % of the steps and falls like a cosine`() {
        let schedule = Schedule.warmupCosine
        #expect((0..<5).map { schedule.scale(at: $0, of: 200) } == [0, 0.25, 0.5, 0.75, 1])
        #expect(abs(schedule.scale(at: 102, of: 200) - 0.5) < 1e-12 && schedule.scale(at: 200, of: 200) < 1e-12)
        #expect(schedule.scale(at: 0, of: 10) == 1, "a run too short for a warm-up has none")
    }

    @Test func `the cosine begins at 1, halves in the middle and ends at 0`() {
        #expect(Schedule.cosine.scale(at: 0, of: 100) == 1)
        #expect(abs(Schedule.cosine.scale(at: 50, of: 100) - 0.5) < 1e-12)
        #expect(Schedule.cosine.scale(at: 100, of: 100) < 1e-12)
        #expect(Schedule.constant.scale(at: 99, of: 100) == 1)
        #expect(Schedule.linear.scale(at: 25, of: 100) == 0.75)
    }
}

/// 1/2 sum h (x - c)^2 whose gradient has a stored noise; tells where its held-out loss was judged.
private struct StoredNoise: TrainingTask {
    let start: [Double], curvature: [Double], centre: [Double], noise: [[Double]]
    var name: String { "stored noise" }
    var tensors: [TensorSpec] { [TensorSpec("x", [start.count])] }

    func initialize(_ parameters: UnsafeMutablePointer<Float>, seed: UInt64) {
        for i in start.indices { parameters[i] = Float(start[i]) }
    }

    func makeWorker() -> any TaskWorker { Worker(self) }

    final class Worker: TaskWorker {
        private let task: StoredNoise
        @TaskLocal static var judged = Box()
        final class Box: @unchecked Sendable { var values: [Double] = [] }

        init(_ task: StoredNoise) { self.task = task }

        static func lastJudged(by run: TrainingRun) -> [Double] {
            let box = Box()
            $judged.withValue(box) { _ = run.heldOutLoss }
            return box.values
        }

        func loss(_ parameters: UnsafePointer<Float>, gradient: UnsafeMutablePointer<Float>, seed: UInt64, step: Int) -> Float {
            var loss = 0.0
            for i in task.start.indices {
                let offset = Double(parameters[i]) - task.centre[i]
                gradient[i] = Float(task.curvature[i] * offset + task.noise[step][i])
                loss += task.curvature[i] * offset * offset / 2
            }
            return Float(loss)
        }

        func heldOutLoss(_ parameters: UnsafePointer<Float>) -> Float? {
            Worker.judged.values = task.start.indices.map { Double(parameters[$0]) }
            return 0
        }
    }
}
