/// What one run left behind: a task, an optimizer, a seed, and the horizons it covers.
public struct RunResult: Codable, Equatable, Sendable {
    /// After `horizon` steps.
    public struct Outcome: Codable, Equatable, Sendable {
        public let horizon: Int
        /// The mean of the last 5 % of the steps.
        public let trainingLoss: Double
    }

    public let task: String
    /// `OptimizerSpec.id`.
    public let optimizer: String
    public let seed: Int
    /// The horizons asked for, ascending; those behind a divergence have no outcome.
    public let horizons: [Int]
    /// Of the first minibatch, before any step: the same for every optimizer. 0 if it is not finite.
    public let initialLoss: Double
    /// The step, from 0, at which it diverged (`TrainingRun`), where the run ended.
    public let divergedAt: Int?
    public let outcomes: [Outcome]
    public let curve: LossCurve
    public let heldOut: HeldOutCurve

    /// What tells a run apart from the others of an evaluation.
    struct Key: Hashable {
        let task: String
        let optimizer: String
        let seed: Int
        /// A schedule that ends belongs to one horizon; one constant run serves all, and has 0 here.
        let horizon: Int
    }
    let endsWithHorizon: Bool
    var key: Key {
        Key(task: task, optimizer: optimizer, seed: seed, horizon: endsWithHorizon ? horizons.last ?? 0 : 0)
    }

    /// What a run for these horizons alone would have left behind; they must be among its own.
    func restricted(to some: [Int]) -> RunResult {
        let last = some.max() ?? 0
        return RunResult(
            task: task, optimizer: optimizer, seed: seed, horizons: some, initialLoss: initialLoss,
            divergedAt: divergedAt.flatMap { $0 < last ? $0 : nil },
            outcomes: outcomes.filter { some.contains($0.horizon) },
            curve: curve.restricted(to: LossCurve.points(horizons: some)),
            heldOut: heldOut.restricted(to: HeldOutCurve.points(horizons: some)), endsWithHorizon: endsWithHorizon)
    }

    public func outcome(at horizon: Int) -> Outcome? { outcomes.first { $0.horizon == horizon } }
}
