import Foundation

extension EvaluationReport {
    /// A line of a task's picture, mean over the seeds.
    private struct Curve: Encodable {
        let task: String
        /// `Baseline.name`, whose best member at the longest horizon this is, or `OptimizerSpec.label` of a learned optimizer.
        let series: String
        /// `OptimizerSpec.label`.
        let optimizer: String
        let steps: [Int]
        let losses: [Double]
        /// Of the member with the least held-out loss, which may be another; empty where the task has none.
        let heldOutSteps: [Int]
        let heldOutLosses: [Double]
    }

    /// Writes `report.json` and, with the learning curves of every baseline's best member and of every learned optimizer, `curves.json`
    /// into the directory: what `scripts/plot` draws.
    public func write(_ evaluation: Evaluation, _ results: [RunResult], to directory: URL) throws {
        try directory.appending(path: "report.json").writeFile(JSONEncoder.readable.encode(self))
        let table = LossTable(results, horizons: horizons), horizon = horizons[horizons.count - 1]
        let series = evaluation.baselines.map { ($0.name, $0.specs) } + evaluation.learned.map { ($0.label, [$0]) }
        let curves = tasks.flatMap { task in
            series.compactMap { name, specs -> Curve? in
                let entries = specs.compactMap { spec in
                    table.entry(task: task.name, optimizer: spec.id, horizon: horizon).map { (spec, $0) }
                }
                let heldOut = entries.compactMap(\.1.heldOut).min { $0.end < $1.end }
                return entries.min { $0.1.trainingLoss < $1.1.trainingLoss }.map { spec, entry in
                    Curve(
                        task: task.name, series: name, optimizer: spec.label, steps: entry.curve.steps, losses: entry.curve.losses,
                        heldOutSteps: heldOut?.steps ?? [], heldOutLosses: heldOut?.losses ?? [])
                }
            }
        }
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        try directory.appending(path: "curves.json").writeFile(encoder.encode(curves))
    }
}
