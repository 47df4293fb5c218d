import Foundation

extension EvaluationReport {
    /// Tables of the paper's experiment, task by task: who trains as well as tuned AdamW, who does not settle, who diverges.
    public func transferText(_ evaluation: Evaluation) -> String {
        let measures: [(String, KeyPath<LossEntry, Double?>)] = [
            ("TRAINING LOSS, the mean of the last 5 % of the steps", \.training), ("HELD-OUT LOSS AT THE END", \.heldOutLoss),
        ]
        let tables = measures.filter { _, measure in tasks.contains { $0.losses.contains { $0[keyPath: measure] != nil } } }.flatMap { title, measure in
            horizons.map { "\(title), after \(Format.count($0)) steps\n\n" + transferTable($0, evaluation, measure) }
        }
        return """
            \(tasks.count) tasks, \(seeds) \(seeds == 1 ? "seed" : "seeds"). Losses of AdamW tuned on the task (the best of \(Baseline.adamW.specs.count)), and those of the others over them; below 1 is better. In brackets what the
            training loss has risen to from its least along the run, where it is more than 1.5 times that; a cross: so many runs diverged, and a loss above
            ten times the first counts as that. The means are geometric, over the tasks that are not \(TransferTasks.name), the task of meta-training.


            """ + tables.joined(separator: "\n\n") + "\n"
    }

    private func transferTable(_ horizon: Int, _ evaluation: Evaluation, _ measure: KeyPath<LossEntry, Double?>) -> String {
        let rivals = evaluation.baselines.filter { $0 != .adamW }.map { ($0.name, $0.specs) }
        let others = rivals + evaluation.learned.map { ($0.label, [$0]) }
        var table = TextTable(header: ["task", "parameters", "first loss", "AdamW tuned"] + others.map(\.0))
        var ratios = others.map { _ in [Double]() }, (rose, ended) = (others.map { _ in 0 }, others.map { _ in 0 })
        for task in tasks {
            guard let reference = best(task, Baseline.adamW.specs, horizon, measure) else { continue }
            let floor = floorFactor * task.initialLoss
            var row = [task.name, Format.count(task.parameters), Format.short(task.initialLoss), Format.short(reference.loss)]
            for (i, (_, specs)) in others.enumerated() {
                guard let (loss, entry) = best(task, specs, horizon, measure) else {
                    row.append("-")
                    continue
                }
                let ratio = (max(loss, 0) + floor) / (max(reference.loss, 0) + floor)
                if task.name != TransferTasks.name { ratios[i].append(ratio) }
                row.append(Format.short(ratio) + EvaluationReport.mark(entry, floor: floor))
                rose[i] += EvaluationReport.rise(entry, floor: floor) > EvaluationReport.leastRise ? 1 : 0
                ended[i] += entry.trainingLoss > task.initialLoss ? 1 : 0
            }
            table.add(row)
        }
        if ratios.contains(where: { $0.count > 1 }) {
            table.add(["mean", "", "", ""] + ratios.map { Interval.geometricMean($0).map { Format.short($0.value) } ?? "-" })
        }
        if measure == \.training {
            table.add(["tasks with a loss risen from its least", "", "", ""] + rose.map(String.init))
            table.add(["tasks with a loss above the first", "", "", ""] + ended.map(String.init))
        }
        return table.text
    }

    /// The member that is best in a measure, with its loss.
    private func best(
        _ task: TaskEntry, _ specs: [OptimizerSpec], _ horizon: Int, _ measure: KeyPath<LossEntry, Double?>
    ) -> (loss: Double, entry: LossEntry)? {
        let ids = Set(specs.map(\.id))
        return task.losses.filter { $0.horizon == horizon && ids.contains($0.optimizer) }
            .compactMap { entry in entry[keyPath: measure].map { (loss: $0, entry: entry) } }.min { $0.loss < $1.loss }
    }

    /// From here on a training loss counts as risen: minibatches alone do not do that.
    private static let leastRise = 1.5

    private static func rise(_ entry: LossEntry, floor: Double) -> Double { (entry.trainingLoss + floor) / (entry.leastTrainingLoss + floor) }

    /// What shows that a run does not settle.
    private static func mark(_ entry: LossEntry, floor: Double) -> String {
        let rise = rise(entry, floor: floor)
        return (rise > leastRise ? " (\(Format.short(rise)))" : "") + (entry.divergences > 0 ? " \u{00d7}\(entry.divergences)" : "")
    }
}

extension EvaluationReport.LossEntry {
    /// As every measure is: there may be none.
    fileprivate var training: Double? { trainingLoss }
}
