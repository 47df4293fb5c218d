/// Steps to a held-out loss, and a performance profile over the tasks, as AlgoPerf has it (Dahl et al. 2023).
///
/// A task's target is the least held-out loss, mean over the seeds, that AdamW tuned on it reaches with a constant step in the
/// first three quarters of the horizon. A contestant's factor is its steps to the target over those of the fastest contestant; one
/// that does not get there within the horizon has none.
public struct TargetProfile: Codable, Sendable {
    public struct Contestant: Codable, Sendable {
        /// `Baseline.name`, of a grid its fastest member on each task, or `OptimizerSpec.label` of a learned optimizer.
        public let name: String
        /// For each task; nil if it never got there.
        public let steps: [Double?]
        public let reached: Int
        /// Parts of the tasks with a factor of no more than each of `factors`.
        public let parts: [Double]
        /// The mean of that part over the factors from 1 to 4.
        public let score: Double
    }

    public static let factors = [1, 1.5, 2, 3, 4]
    public let horizon: Int
    /// Those with held-out data.
    public let tasks: [String]
    public let targets: [Double]
    public let contestants: [Contestant]

    init(_ contestants: [(name: String, specs: [OptimizerSpec])], horizon: Int, tasks names: [String], _ table: LossTable) {
        var (tasks, targets): ([String], [Double]) = ([], [])
        for name in names {
            let members = Baseline.adamW.specs.compactMap { table.entry(task: name, optimizer: $0.id, horizon: horizon)?.heldOut }
            let reached = members.compactMap { summary in
                zip(summary.steps, summary.losses).filter { 4 * $0.0 <= 3 * horizon }.map(\.1).min()
            }
            guard let target = reached.min() else { continue }
            tasks.append(name)
            targets.append(target)
        }
        let steps = contestants.map { contestant in
            zip(tasks, targets).map { task, target in
                contestant.specs.compactMap {
                    table.entry(task: task, optimizer: $0.id, horizon: horizon)?.heldOut?.stepsToReach(target)
                }.min()
            }
        }
        let fastest = tasks.indices.map { i in steps.compactMap { $0[i] }.min() ?? .infinity }
        self.contestants = zip(contestants, steps).map { contestant, steps in
            let ratios = zip(steps, fastest).map { steps, fastest in steps.map { $0 / fastest } ?? .infinity }
            let count = Double(max(tasks.count, 1))
            return Contestant(
                name: contestant.name, steps: steps, reached: steps.count { $0 != nil },
                parts: TargetProfile.factors.map { factor in Double(ratios.count { $0 <= factor + 1e-9 }) / count },
                score: ratios.reduce(0) { $0 + max(4 - $1, 0) / 3 } / count)
        }
        (self.horizon, self.tasks, self.targets) = (horizon, tasks, targets)
    }
}
