/// Loss curves and held-out losses of every optimizer on every task, averaged over the seeds.
///
/// A run has diverged at a horizon if its loss was not finite before it, or is above 10 times the initial loss there. Its
/// loss then counts as that cap: large, finite, and of the task's own scale.
struct LossTable {
    static let capFactor = 10.0
    /// Of the initial loss, added on both sides of a ratio. What is below a millionth of where training began is rounding
    /// (f32 has 7 digits) and memorised data; without a floor one task whose loss goes to 0 would decide a geometric mean.
    static let floorFactor = 1e-6

    /// Of one optimizer on one task at one horizon.
    struct Entry {
        let curve: LossCurve
        let trainingLoss: Double
        /// Of the curve's points up to the horizon.
        let leastTrainingLoss: Double
        /// nil where the task has none.
        let heldOut: HeldOutSummary?
        let divergences: Int
    }
    private struct Key: Hashable {
        let task: String
        let optimizer: String
        let horizon: Int
    }
    private var entries: [Key: Entry] = [:]
    private var initialLosses: [String: Double] = [:]

    /// - Parameter results: those of `Evaluation.run`.
    init(_ results: [RunResult], horizons: [Int]) {
        for (task, runs) in Dictionary(grouping: results, by: \.task) {
            let bySeed = Dictionary(runs.map { ($0.seed, abs($0.initialLoss)) }) { a, _ in a }
            initialLosses[task] = bySeed.sorted { $0.key < $1.key }.reduce(0) { $0 + $1.value } / Double(bySeed.count)
            // A run that diverged at once has none to show, and counts as the others do.
            let hasHeldOut = runs.contains { !$0.heldOut.steps.isEmpty }
            let hasAccuracy = runs.contains { $0.heldOut.accuracies != nil }
            for (optimizer, runs) in Dictionary(grouping: runs, by: \.optimizer) {
                for horizon in horizons {
                    let seeds = runs.filter { $0.horizons.contains(horizon) }.sorted { $0.seed < $1.seed }
                    entries[Key(task: task, optimizer: optimizer, horizon: horizon)] =
                        LossTable.entry(seeds, horizon, hasHeldOut: hasHeldOut, hasAccuracy: hasAccuracy)
                }
            }
        }
    }

    /// Of runs that differ in the seed alone.
    private static func entry(_ runs: [RunResult], _ horizon: Int, hasHeldOut: Bool, hasAccuracy: Bool) -> Entry? {
        guard let first = runs.first else { return nil }
        let points = LossCurve.points(horizons: first.horizons)
        let curve = LossCurve.mean(runs.map { ($0.curve, cap($0)) }, at: points)
        guard let end = points.firstIndex(of: horizon) else { return nil }
        let heldOut = hasHeldOut
            ? HeldOutSummary(runs.map { ($0.heldOut, cap($0)) }, horizon: horizon, hasAccuracy: hasAccuracy) : nil
        return Entry(
            curve: curve, trainingLoss: curve.losses[end], leastTrainingLoss: curve.losses[...end].min() ?? 0, heldOut: heldOut,
            divergences: runs.count { ($0.outcome(at: horizon)?.trainingLoss ?? .infinity) > cap($0) })
    }

    private static func cap(_ run: RunResult) -> Double {
        capFactor * max(abs(run.initialLoss), Double(Float.leastNormalMagnitude))
    }

    func entry(task: String, optimizer: String, horizon: Int) -> Entry? {
        entries[Key(task: task, optimizer: optimizer, horizon: horizon)]
    }

    /// Mean over the seeds.
    func initialLoss(task: String) -> Double { initialLosses[task] ?? 0 }

    /// (a + floor) / (b + floor); losses are not negative, and what is counts as 0.
    func ratio(_ a: Double, to b: Double, task: String) -> Double {
        let floor = floor(task: task)
        return (max(a, 0) + floor) / (max(b, 0) + floor)
    }

    func floor(task: String) -> Double {
        LossTable.floorFactor * max(initialLoss(task: task), Double(Float.leastNormalMagnitude))
    }
}
