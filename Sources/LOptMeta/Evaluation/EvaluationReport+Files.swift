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
    }

    /// Writes `report.json` and, with the learning curves of every baseline's best member and of every learned optimizer, `curves.json`
    /// into the directory: what `scripts/plot` draws.
    public func write(_ evaluation: Evaluation, _ results: [RunResult], to directory: URL) throws {
        try directory.appending(path: "report.json").writeFile(JSONEncoder.readable.encode(self))
        let table = LossTable(results, horizons: horizons), horizon = horizons[horizons.count - 1]
        let series = Baseline.all.dropLast().map { ($0.name, $0.specs) } + evaluation.learned.map { ($0.label, [$0]) }
        let curves = tasks.flatMap { task in
            series.compactMap { name, specs -> Curve? in
                let entries = specs.compactMap { spec in
                    table.entry(task: task.name, optimizer: spec.id, horizon: horizon).map { (spec, $0) }
                }
                return entries.min { $0.1.trainingLoss < $1.1.trainingLoss }.map { spec, entry in
                    Curve(
                        task: task.name, series: name, optimizer: spec.label, steps: entry.curve.steps, losses: entry.curve.losses)
                }
            }
        }
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        try directory.appending(path: "curves.json").writeFile(encoder.encode(curves))
    }
}
