/// A learned optimizer against a baseline after a number of steps, task by task and over all tasks.
///
/// Of a grid, what counts on a task is the member that is best in the measure at hand: the least held-out loss for held-out losses,
/// the least training loss for these.
public struct Comparison: Codable, Sendable {
    public struct TaskEntry: Codable, Sendable {
        public let task: String
        /// Of held-out losses at the end; below 1 the learned optimizer is better. nil where the task has none.
        public let heldOutRatio: Double?
        /// `OptimizerSpec.id` of the baseline's member in it.
        public let heldOutAgainst: String?
        /// Of the least held-out losses of the runs.
        public let bestHeldOutRatio: Double?
        /// On held-out examples at the end; nil where it is no classification.
        public let accuracy: Double?
        public let baselineAccuracy: Double?
        /// The highest of the runs.
        public let bestAccuracy: Double?
        public let baselineBestAccuracy: Double?
        /// Of final training losses, and the member in it, of which the rest is.
        public let ratio: Double
        public let against: String
        /// Steps that the baseline needs for its final training loss over the steps that the learned optimizer needs for it.
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
    public let heldOutRatio: Interval?
    public let bestHeldOutRatio: Interval?
    public let ratio: Interval?
    /// Tasks with a ratio below 1.
    public let heldOutWins: Interval?
    public let bestHeldOutWins: Interval?
    public let wins: Interval?
    /// The task with the largest ratio of held-out losses at the end.
    public let worstTask: String?
    /// Means over the classifications.
    public let accuracy: Double?
    public let baselineAccuracy: Double?
    public let bestAccuracy: Double?
    public let baselineBestAccuracy: Double?
    /// The median over the tasks, of an even number the lower of the two in the middle. A task where the learned optimizer never
    /// got there counts as 0: no bound is averaged.
    public let speedUp: Interval?
    /// Tasks where it got there.
    public let reached: Int
    /// Runs that diverged.
    public let divergences: Int
    public let baselineDivergences: Int

    init(_ spec: OptimizerSpec, with baseline: Baseline, horizon: Int, tasks names: [String], _ table: LossTable) {
        tasks = names.compactMap { Comparison.entry(spec, baseline, horizon, $0, table) }
        optimizer = spec.id
        self.baseline = baseline.name
        self.horizon = horizon
        let heldOut = tasks.compactMap(\.heldOutRatio), best = tasks.compactMap(\.bestHeldOutRatio)
        heldOutRatio = Interval.geometricMean(heldOut)
        bestHeldOutRatio = Interval.geometricMean(best)
        ratio = Interval.geometricMean(tasks.map(\.ratio))
        heldOutWins = Interval.count(heldOut.map { $0 < 1 })
        bestHeldOutWins = Interval.count(best.map { $0 < 1 })
        wins = Interval.count(tasks.map { $0.ratio < 1 })
        worstTask = tasks.filter { $0.heldOutRatio != nil }.max { ($0.heldOutRatio ?? 0) < ($1.heldOutRatio ?? 0) }?.task
        accuracy = Comparison.mean(tasks.compactMap(\.accuracy))
        baselineAccuracy = Comparison.mean(tasks.compactMap(\.baselineAccuracy))
        bestAccuracy = Comparison.mean(tasks.compactMap(\.bestAccuracy))
        baselineBestAccuracy = Comparison.mean(tasks.compactMap(\.baselineBestAccuracy))
        speedUp = Interval.lowerMedian(tasks.map { $0.isReached ? $0.speedUp : 0 })
        reached = tasks.count { $0.isReached }
        divergences = tasks.reduce(0) { $0 + $1.divergences }
        baselineDivergences = tasks.reduce(0) { $0 + $1.baselineDivergences }
    }

    private static func mean(_ values: [Double]) -> Double? { values.isEmpty ? nil : values.reduce(0, +) / Double(values.count) }

    private static func entry(
        _ spec: OptimizerSpec, _ baseline: Baseline, _ horizon: Int, _ task: String, _ table: LossTable
    ) -> TaskEntry? {
        let members = baseline.specs.compactMap { spec in
            table.entry(task: task, optimizer: spec.id, horizon: horizon).map { (spec: spec, entry: $0) }
        }
        guard let (best, theirs) = members.min(by: { $0.entry.trainingLoss < $1.entry.trainingLoss }),
            let ours = table.entry(task: task, optimizer: spec.id, horizon: horizon)
        else { return nil }
        // The least of a measure of the held-out data, and whose it is.
        func least(_ measure: (HeldOutSummary) -> Double?) -> (value: Double, spec: OptimizerSpec)? {
            members.compactMap { member in
                member.entry.heldOut.flatMap(measure).map { (value: $0, spec: member.spec) }
            }.min { $0.value < $1.value }
        }
        func ratio(_ measure: (HeldOutSummary) -> Double?) -> Double? {
            ours.heldOut.flatMap(measure).flatMap { a in least(measure).map { table.ratio(a, to: $0.value, task: task) } }
        }
        let target = max(theirs.trainingLoss, table.floor(task: task))
        let theirSteps = theirs.curve.stepsToReach(target, within: horizon) ?? horizon
        let ourSteps = ours.curve.stepsToReach(target)
        return TaskEntry(
            task: task, heldOutRatio: ratio(\.end), heldOutAgainst: least(\.end)?.spec.id, bestHeldOutRatio: ratio(\.best),
            accuracy: ours.heldOut?.accuracy, baselineAccuracy: least { $0.accuracy.map { -$0 } }.map { -$0.value },
            bestAccuracy: ours.heldOut?.bestAccuracy, baselineBestAccuracy: least { $0.bestAccuracy.map { -$0 } }.map { -$0.value },
            ratio: table.ratio(ours.trainingLoss, to: theirs.trainingLoss, task: task), against: best.id,
            speedUp: Double(theirSteps) / Double(ourSteps ?? ours.curve.steps.last ?? horizon), isReached: ourSteps != nil,
            divergences: ours.divergences, baselineDivergences: theirs.divergences)
    }
}
