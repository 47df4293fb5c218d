import Foundation

/// What an evaluation found. Nothing in it depends on when or on how many threads it ran.
public struct EvaluationReport: Codable, Sendable {
    public struct WeightsEntry: Codable, Sendable {
        public let name: String
        public let digest: String
    }
    public struct TaskEntry: Codable, Sendable {
        public let name: String
        public let parameters: Int
        /// Of the first minibatch, mean over the seeds.
        public let initialLoss: Double
        public let losses: [LossEntry]
    }
    /// Means over the seeds after `horizon` steps.
    public struct LossEntry: Codable, Sendable {
        /// `OptimizerSpec.id`.
        public let optimizer: String
        public let horizon: Int
        public let trainingLoss: Double
        /// Of the points of the training curve up to there.
        public let leastTrainingLoss: Double
        /// At the end, and the least of the run; nil where the task has none.
        public let heldOutLoss: Double?
        public let bestHeldOutLoss: Double?
        /// On held-out examples; nil where it is no classification.
        public let accuracy: Double?
        public let bestAccuracy: Double?
        /// How many seeds diverged.
        public let divergences: Int
    }

    public let horizons: [Int]
    public let seeds: Int
    /// Of the initial loss: what a diverged run counts as, and what is added on both sides of a ratio.
    public let capFactor: Double
    public let floorFactor: Double
    public let weights: [WeightsEntry]
    public let tasks: [TaskEntry]
    public let comparisons: [Comparison]
    /// Steps to a held-out loss, for each horizon.
    public let profiles: [TargetProfile]

    /// - Parameter results: those of `evaluation.run`.
    public init(_ evaluation: Evaluation, _ results: [RunResult]) {
        let table = LossTable(results, horizons: evaluation.horizons)
        horizons = evaluation.horizons
        seeds = evaluation.seeds
        capFactor = LossTable.capFactor
        floorFactor = LossTable.floorFactor
        weights = evaluation.weights.map { WeightsEntry(name: $0.name, digest: $0.digest) }
        tasks = evaluation.tasks.map { task in
            let entries = (evaluation.rivals + evaluation.learned).flatMap { spec in
                evaluation.horizons.compactMap { horizon in
                    table.entry(task: task.name, optimizer: spec.id, horizon: horizon).map {
                        LossEntry(
                            optimizer: spec.id, horizon: horizon, trainingLoss: $0.trainingLoss,
                            leastTrainingLoss: $0.leastTrainingLoss, heldOutLoss: $0.heldOut?.end,
                            bestHeldOutLoss: $0.heldOut?.best, accuracy: $0.heldOut?.accuracy,
                            bestAccuracy: $0.heldOut?.bestAccuracy, divergences: $0.divergences)
                    }
                }
            }
            return TaskEntry(
                name: task.name, parameters: task.parameterCount, initialLoss: table.initialLoss(task: task.name),
                losses: entries)
        }
        let names = evaluation.tasks.map(\.name)
        comparisons = evaluation.learned.flatMap { spec in
            evaluation.horizons.flatMap { horizon in
                evaluation.baselines.map { Comparison(spec, with: $0, horizon: horizon, tasks: names, table) }
            }
        }
        let contestants = evaluation.baselines.map { (name: $0.name, specs: $0.specs) }
            + evaluation.learned.map { (name: $0.label, specs: [$0]) }
        profiles = evaluation.horizons.map { TargetProfile(contestants, horizon: $0, tasks: names, table) }
    }

    public func comparison(_ spec: OptimizerSpec, with baseline: Baseline, horizon: Int) -> Comparison? {
        comparisons.first { $0.optimizer == spec.id && $0.baseline == baseline.name && $0.horizon == horizon }
    }
}
