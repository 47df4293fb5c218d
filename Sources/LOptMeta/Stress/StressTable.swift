import Foundation
import LOptCore

/// How learned optimizers, and Adam beside them, come through trainings that have wrecked optimizers.
public struct StressTable: Sendable {
    /// Of one optimizer in one pattern.
    public struct Outcome: Sendable {
        /// The loss at the end over that at the start, each a mean over the same minibatches; the geometric mean over the seeds.
        public let final: Double
        /// The largest of a run, looked at every twentieth of it, over that at the start; the largest of all seeds. Infinite if it diverged.
        public let worst: Double
        /// Whether a loss rose more than a tenth above its start.
        public var hasExploded: Bool { !(worst <= 1.1) }
    }

    public let patterns: [String]
    /// `OptimizerSpec.label`, and for Adam the best of its rates.
    public let optimizers: [String]
    /// For each pattern, of each optimizer.
    public let outcomes: [[Outcome]]

    private static let seeds = 1...3
    private static let moments = 20

    /// Runs all patterns, on `threads` threads, whose number changes nothing. Throws what `Optimizer` throws.
    public init(weights: [NamedWeights], threads: Int) async throws {
        try await self.init(StressPattern.all(), weights: weights, threads: threads)
    }

    init(_ patterns: [StressPattern], weights: [NamedWeights], threads: Int) async throws {
        let adam = Baseline.rates.map { OptimizerSpec(.adamW(learningRate: $0, weightDecay: 0), .constant) }
        let learned = weights.flatMap { weights in
            [Schedule.constant, .known].map { OptimizerSpec(.lopt(weights), $0) }
        }
        self.patterns = patterns.map(\.name)
        optimizers = learned.map(\.label) + ["Adam 0.001", "Adam, best of \(adam.count)"]
        let untuned = Baseline.rates.firstIndex(of: 1e-3) ?? 0
        outcomes = try await concurrentMap(patterns, threads: threads) { pattern in
            let rates = try adam.map { try StressTable.outcome(pattern, $0) }
            let best = rates.min { $0.final < $1.final } ?? rates[untuned]
            return try learned.map { try StressTable.outcome(pattern, $0) } + [rates[untuned], best]
        } done: { _, _ in }
    }

    private static func outcome(_ pattern: StressPattern, _ spec: OptimizerSpec) throws -> Outcome {
        let runs = try seeds.map { try run(pattern, spec, seed: UInt64($0)) }
        let logs = runs.map { log(max($0.final, 1e-9)) }
        return Outcome(final: exp(logs.reduce(0, +) / Double(logs.count)), worst: runs.map(\.worst).max() ?? .infinity)
    }

    private static func run(_ pattern: StressPattern, _ spec: OptimizerSpec, seed: UInt64) throws -> Outcome {
        var settings = RunSettings(task: pattern.task, horizon: pattern.steps, seed: seed)
        settings.schedule = spec.schedule
        settings.divergenceFactor = .infinity
        let parameters = TaskParameters(settings)
        let rule: any UpdateRule = switch spec.method {
        case .lopt(let weights) where pattern.isPerLayer: try SeparateOptimizers(weights.weights, parameters)
        case .lopt(let weights): try LearnedOptimizer(weights.weights, parameters)
        case .adamW(let rate, _): Adam(rate: rate, parameters)
        default: preconditionFailure("the table has lopt and Adam alone")
        }
        let run = TrainingRun(parameters, rule), judge = Judge(pattern.task, count: parameters.count)
        let start = judge.loss(parameters)
        var (last, worst) = (start, start)
        for i in 1...moments {
            run.advance(pattern.steps * i / moments - run.step)
            last = run.hasDiverged ? .infinity : judge.loss(parameters)
            worst = last.isFinite ? max(worst, last) : .infinity
        }
        return Outcome(final: last / start, worst: worst / start)
    }

    /// The mean loss over minibatches that are in no run.
    private final class Judge {
        private let worker: any TaskWorker
        private var gradient: [Float]

        init(_ task: any TrainingTask, count: Int) {
            worker = task.makeWorker()
            gradient = Array(repeating: 0, count: count)
        }

        func loss(_ parameters: TaskParameters) -> Double {
            guard let values = parameters.values.baseAddress else { return 0 }
            let count = 100
            return (0..<count).reduce(0) { sum, i in
                sum + Double(worker.loss(values, gradient: &gradient, seed: 0x57e5, step: i)) / Double(count)
            }
        }
    }

    public var text: String {
        var table = TextTable(header: ["final loss / first (largest on the way)"] + optimizers)
        for (pattern, row) in zip(patterns, outcomes) {
            table.add([pattern] + row.map { outcome in
                "\(Format.short(outcome.final)) (\(Format.short(outcome.worst)))\(outcome.hasExploded ? " !" : "  ")"
            })
        }
        let exploded = optimizers.indices.map { i in "\(optimizers[i]) \(outcomes.count { $0[i].hasExploded })" }
        return table.text + "\n\n!: a loss more than a tenth above its start; of \(patterns.count) patterns: "
            + exploded.joined(separator: ", ") + "\n"
    }
}

/// Learned optimizers side by side, one for the tensors of each layer.
final class SeparateOptimizers: UpdateRule {
    private let parts: [LearnedOptimizer]

    init(_ weights: borrowing Weights, _ memory: TaskParameters) throws(LOptError) {
        let layers = memory.settings.task.tensors.map { $0.name.split(separator: ".").first ?? "" }
        var parts: [LearnedOptimizer] = [], begin = 0
        for end in 1...layers.count where end == layers.count || layers[end] != layers[begin] {
            parts.append(try LearnedOptimizer(weights, memory, tensors: begin..<end))
            begin = end
        }
        self.parts = parts
    }

    func step(learningRateScale: Double) throws(GradientRefused) {
        for part in parts { try part.step(learningRateScale: learningRateScale) }
    }
}
