import Foundation
import LOptCore

/// How far an evaluation is.
public struct EvaluationProgress: Sendable {
    public fileprivate(set) var runs: Int
    public let allRuns: Int
    /// Of the expected cost, in 0 ... 1.
    public fileprivate(set) var share: Double
}

/// Weights against tuned baselines on a set of tasks.
public struct Evaluation: Sendable {
    public let tasks: [any TrainingTask]
    public let weights: [NamedWeights]
    /// Ascending, in steps.
    public let horizons: [Int]
    /// Runs of each optimizer on each task: seeds 1 to this.
    public let seeds: Int
    /// What the learned optimizers are compared with.
    public let baselines: [Baseline]
    private let modes: [OptimizerSpec.Mode]

    /// Throws for an empty list, a horizon or number of seeds below 1, and names that occur twice.
    public init(
        tasks: [any TrainingTask], weights: [NamedWeights], horizons: [Int], seeds: Int, withSGDM: Bool = false
    ) throws {
        try self.init(
            tasks: tasks, weights: weights, horizons: horizons, seeds: seeds,
            baselines: Baseline.all.filter { withSGDM || ($0 != .sgdm && $0 != .cosineSGDM) }, modes: OptimizerSpec.Mode.learned)
    }

    /// The paper's experiment: AdamW tuned and not beside weights that are left alone, all without a schedule.
    ///
    /// Throws likewise, and for weights that were meta-trained on the data of a task that is not `TransferTasks.name`.
    public static func transfer(tasks: [any TrainingTask], weights: [NamedWeights], horizons: [Int], seeds: Int) throws -> Evaluation {
        for weights in weights { try weights.requireUnseen(tasks.filter { $0.name != TransferTasks.name }) }
        return try Evaluation(
            tasks: tasks, weights: weights, horizons: horizons, seeds: seeds, baselines: [.adamW, .untunedAdamW],
            modes: [OptimizerSpec.Mode(.constant, false)])
    }

    private init(
        tasks: [any TrainingTask], weights: [NamedWeights], horizons: [Int], seeds: Int, baselines: [Baseline], modes: [OptimizerSpec.Mode]
    ) throws {
        guard !tasks.isEmpty else { throw LOptMetaError("there are no tasks to evaluate on") }
        guard let least = horizons.min() else { throw LOptMetaError("there is no horizon") }
        guard least >= 1 else { throw LOptMetaError("a horizon is \(least) steps; allowed are 1 and more") }
        guard seeds >= 1 else { throw LOptMetaError("the number of seeds is \(seeds); allowed are 1 and more") }
        for (names, what) in [(tasks.map(\.name), "tasks"), (weights.map(\.name), "weights")] {
            if let twice = names.first(where: { name in names.count { $0 == name } > 1 }) {
                throw LOptMetaError("two \(what) are called '\(twice)'; results could not be told apart")
            }
        }
        (self.tasks, self.weights, self.seeds) = (tasks, weights, seeds)
        (self.baselines, self.modes) = (baselines, modes)
        self.horizons = Set(horizons).sorted()
    }

    /// Every weights in each mode: nothing known, the number of steps known, with a cosine of the caller's, and averaged; of a transfer
    /// the first alone.
    public var learned: [OptimizerSpec] {
        weights.flatMap { weights in
            modes.map { OptimizerSpec(.lopt(weights), $0.schedule, isAveraged: $0.isAveraged) }
        }
    }

    /// Of the baselines, each once.
    var rivals: [OptimizerSpec] {
        var seen: Set<OptimizerSpec> = []
        return baselines.flatMap(\.specs).filter { seen.insert($0).inserted }
    }

    /// A run for each task, optimizer and seed; for each horizon too where the schedule ends with it.
    func jobs() -> [Job] {
        var jobs: [Job] = []
        for task in tasks {
            for spec in rivals + learned {
                for seed in 1...seeds {
                    let runs = spec.schedule.endsWithHorizon ? horizons.map { [$0] } : [horizons]
                    jobs += runs.map { Job(task: task, spec: spec, seed: seed, horizons: $0) }
                }
            }
        }
        return jobs
    }

    /// Makes the runs that the log lacks, on `threads` threads, and returns all, in the order of `jobs`.
    ///
    /// A run is one thread's, so that their number changes no result. A stored run counts if it covers the horizons and the
    /// task still begins with the loss stored: a task that was changed is run again.
    ///
    /// - Parameter report: told how far it is, at first and after each run.
    public func run(log: RunLog, threads: Int, report: (EvaluationProgress) -> Void) async throws -> [RunResult] {
        let jobs = jobs()
        let starts = try initialLosses()
        func stored(_ job: Job) -> RunResult? {
            guard let result = log.result(job.key), Set(job.horizons).isSubset(of: result.horizons),
                result.initialLoss == starts[StartKey(task: job.task.name, seed: job.seed)]
            else { return nil }
            return result.restricted(to: job.horizons)
        }
        // In random order what is done is a fair sample of what is left, and the expected end is soon right.
        var random = Random(0x6c6f_7074)
        let missing = jobs.filter { stored($0) == nil }.shuffled(using: &random)
        var progress = EvaluationProgress(runs: 0, allRuns: missing.count, share: 0)
        if !missing.isEmpty { report(progress) }
        let cost = missing.reduce(0) { $0 + $1.cost }
        _ = try await concurrentMap(missing, threads: threads) { try $0.run() } done: { job, result in
            try log.add(result)
            progress.runs += 1
            progress.share += job.cost / cost
            report(progress)
        }
        if !missing.isEmpty { try log.sort() }
        return try jobs.map { job in
            guard let result = stored(job) else {
                throw LOptMetaError("task '\(job.task.name)' does not begin with the same loss each time")
            }
            return result
        }
    }

    private struct StartKey: Hashable {
        let task: String
        let seed: Int
    }

    /// The loss of the first minibatch of every task and seed, 0 where it is not finite.
    private func initialLosses() throws -> [StartKey: Double] {
        var losses: [StartKey: Double] = [:]
        for task in tasks {
            for seed in 1...seeds {
                let settings = RunSettings(task: task, horizon: 1, seed: UInt64(seed))
                let run = try TrainingRun(settings, .sgdm(learningRate: 0))
                run.advance(1)
                losses[StartKey(task: task.name, seed: seed)] = run.firstLoss.isFinite ? run.firstLoss : 0
            }
        }
        return losses
    }
}
