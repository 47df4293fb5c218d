/// A learned optimizer against a baseline after a number of steps, task by task and over all tasks.
public struct Comparison: Codable, Sendable {
    public struct TaskEntry: Codable, Sendable {
        public let task: String
        /// `OptimizerSpec.id` of the baseline's member with the lowest final training loss on this task at this horizon,
        /// mean over the seeds.
        public let against: String
        /// Of final training losses; below 1 the learned optimizer is better.
        public let ratio: Double
        /// Of held-out losses, of the same two; nil where the task has none.
        public let heldOutRatio: Double?
        /// Steps that the baseline needs for its final loss over the steps that the learned optimizer needs for it.
        public let speedUp: Double
        /// False if the learned optimizer never got there: `speedUp` counts its whole run then, and is an upper bound of what it
        /// would be.
        public let isReached: Bool
        /// How many seeds diverged.
        public let divergences: Int
        public let baselineDivergences: Int
    }

    /// `OptimizerSpec.id`.
    public let optimizer: String
    /// `Baseline.name`.
    public let baseline: String
    public let horizon: Int
    public let tasks: [TaskEntry]
    /// Geometric means over the tasks.
    public let ratio: Interval?
    public let heldOutRatio: Interval?
    /// The median over the tasks, of an even number the lower of the two in the middle. A task where the learned optimizer never
    /// got there counts as 0: no bound is averaged.
    public let speedUp: Interval?
    /// Tasks where it got there.
    public let reached: Int
    /// Tasks with a ratio below 1.
    public let wins: Interval?
    /// Runs that diverged.
    public let divergences: Int
    public let baselineDivergences: Int

    init(_ spec: OptimizerSpec, with baseline: Baseline, horizon: Int, tasks names: [String], _ table: LossTable) {
        tasks = names.compactMap { Comparison.entry(spec, baseline, horizon, $0, table) }
        optimizer = spec.id
        self.baseline = baseline.name
        self.horizon = horizon
        ratio = Interval.geometricMean(tasks.map(\.ratio))
        heldOutRatio = Interval.geometricMean(tasks.compactMap(\.heldOutRatio))
        speedUp = Interval.lowerMedian(tasks.map { $0.isReached ? $0.speedUp : 0 })
        reached = tasks.count { $0.isReached }
        wins = Interval.count(tasks.map { $0.ratio < 1 })
        divergences = tasks.reduce(0) { $0 + $1.divergences }
        baselineDivergences = tasks.reduce(0) { $0 + $1.baselineDivergences }
    }

    private static func entry(
        _ spec: OptimizerSpec, _ baseline: Baseline, _ horizon: Int, _ task: String, _ table: LossTable
    ) -> TaskEntry? {
        let candidates = baseline.specs.compactMap { spec in
            table.entry(task: task, optimizer: spec.id, horizon: horizon).map { (spec, $0) }
        }
        guard let (best, theirs) = candidates.min(by: { $0.1.trainingLoss < $1.1.trainingLoss }),
            let ours = table.entry(task: task, optimizer: spec.id, horizon: horizon)
        else { return nil }
        let target = max(theirs.trainingLoss, table.floor(task: task))
        let theirSteps = theirs.curve.stepsToReach(target, within: horizon) ?? horizon
        let ourSteps = ours.curve.stepsToReach(target)
        let heldOut = theirs.heldOutLoss.flatMap { b in ours.heldOutLoss.map { table.ratio($0, to: b, task: task) } }
        return TaskEntry(
            task: task, against: best.id, ratio: table.ratio(ours.trainingLoss, to: theirs.trainingLoss, task: task),
            heldOutRatio: heldOut, speedUp: Double(theirSteps) / Double(ourSteps ?? ours.curve.steps.last ?? horizon),
            isReached: ourSteps != nil, divergences: ours.divergences, baselineDivergences: theirs.divergences)
    }
}
