import Foundation

extension EvaluationReport {
    /// The tables for the terminal: held-out losses first, then steps to one of them, then training losses, then task by task.
    public func text(_ evaluation: Evaluation) -> String {
        let baselines = evaluation.baselines.map(\.name), learned = evaluation.learned
        var parts = [
            """
            \(tasks.count) tasks, \(seeds) \(seeds == 1 ? "seed" : "seeds"). Ratios are of losses, geometric means over the tasks; below 1 the learned optimizer is better. Of a tuned
            baseline each task, horizon and measure has its best member: least held-out loss for held-out losses, highest accuracy, least
            training loss. The others are as their libraries have them. In brackets 95 % bootstrap intervals over the tasks.
            """,
            "HELD-OUT LOSS AT THE END, its ratio to that of each rival (and the tasks won)",
        ]
        parts += horizons.map { "after \(Format.count($0)) steps\n\n" + headline($0, baselines, learned) }
        parts.append("HELD-OUT LOSS AND ACCURACY, at the end and at the best moment of each run")
        parts += learned.map { "\($0.label)\n\n" + heldOut($0, baselines) }
        parts.append(
            """
            STEPS TO A HELD-OUT LOSS: what AdamW tuned on it reaches with a constant step in three quarters of the steps. Parts of the tasks on
            which a contestant gets there in no more than so many times the steps of the fastest one; score: the mean of that from 1 to 4
            times; reached: within the horizon, at any time.
            """)
        parts += profiles.filter { !$0.tasks.isEmpty }.map { "after \(Format.count($0.horizon)) steps\n\n" + EvaluationReport.profile($0) }
        parts.append(
            """
            TRAINING LOSS, the mean of the last 5 % of the steps. Speed-up: steps that the baseline needs for its final loss over those that the
            learned optimizer needs for it; the median over the tasks, where a task on which it never gets there counts as 0, and on how
            many it does.
            """)
        // An average changes nothing of the training.
        parts += learned.filter { !$0.isAveraged }.map { "\($0.label)\n\n" + training($0, baselines) }
        parts.append("TASK BY TASK, held-out loss at the end: of AdamW tuned on it with a constant step, and the others' over it")
        parts += horizons.map { "after \(Format.count($0)) steps\n\n" + byTask($0, evaluation) }
        return parts.joined(separator: "\n\n") + "\n"
    }

    /// Losses on one task, for the terminal: of each baseline's best member and of each learned optimizer.
    public func losses(of name: String, _ evaluation: Evaluation) -> String {
        guard let task = tasks.first(where: { $0.name == name }) else { return "" }
        var table = TextTable(header: ["optimizer"] + horizons.flatMap { ["\(Format.count($0)) steps", "held out"] })
        for (name, specs) in evaluation.baselines.map({ ($0.name, $0.specs) }) + evaluation.learned.map({ ($0.label, [$0]) }) {
            table.add([name] + horizons.flatMap { horizon in
                [EvaluationReport.least(task, specs, horizon, \.trainingLoss), EvaluationReport.least(task, specs, horizon, \.heldOutLoss)]
                    .map { $0.map(Format.short) ?? "-" }
            })
        }
        return table.text
    }

    private static func least(
        _ task: TaskEntry, _ specs: [OptimizerSpec], _ horizon: Int, _ measure: (LossEntry) -> Double?
    ) -> Double? {
        let ids = Set(specs.map(\.id))
        return task.losses.filter { $0.horizon == horizon && ids.contains($0.optimizer) }.compactMap(measure).min()
    }

    /// Rows of a learned optimizer's table: each baseline at each horizon.
    private func rows(_ spec: OptimizerSpec, _ baselines: [String], _ cells: (Comparison) -> [String]) -> [[String]] {
        baselines.flatMap { name in
            comparisons.filter { $0.optimizer == spec.id && $0.baseline == name && !$0.tasks.isEmpty }
                .map { [name, Format.count($0.horizon)] + cells($0) }
        }
    }

    private func headline(_ horizon: Int, _ baselines: [String], _ learned: [OptimizerSpec]) -> String {
        var table = TextTable(header: ["against"] + learned.map(\.label))
        for name in baselines {
            table.add([name] + learned.map { spec in
                let comparison = comparisons.first { $0.optimizer == spec.id && $0.baseline == name && $0.horizon == horizon }
                return comparison?.heldOutRatio.map { "\(Format.short($0.value)) (\(Int(comparison?.heldOutWins?.value ?? 0)))" } ?? "-"
            })
        }
        return table.text
    }

    private func heldOut(_ spec: OptimizerSpec, _ baselines: [String]) -> String {
        func percent(_ accuracy: Double?, _ other: Double?) -> String {
            guard let accuracy, let other else { return "-" }
            return String(format: "%.1f (%.1f)", 100 * accuracy, 100 * other)
        }
        var table = TextTable(header: [
            "against", "steps", "held-out ratio", "won", "at best moment", "won", "accuracy %", "at best", "worst task",
        ])
        for row in rows(spec, baselines, { c in
            let count = c.tasks.count { $0.heldOutRatio != nil }
            let worst = c.worstTask.flatMap { name in c.tasks.first { $0.task == name } }
            return [
                Format.interval(c.heldOutRatio), "\(Int(c.heldOutWins?.value ?? 0)) of \(count)", Format.interval(c.bestHeldOutRatio),
                "\(Int(c.bestHeldOutWins?.value ?? 0))", percent(c.accuracy, c.baselineAccuracy),
                percent(c.bestAccuracy, c.baselineBestAccuracy),
                worst.map { "\(Format.short($0.heldOutRatio ?? 0)) \($0.task)" } ?? "-",
            ]
        }) { table.add(row) }
        return table.text
    }

    private static func profile(_ profile: TargetProfile) -> String {
        var table = TextTable(header: ["optimizer", "reached", "score"] + TargetProfile.factors.map { "\(Format.round($0)) x" })
        for contestant in profile.contestants {
            table.add(
                [contestant.name, "\(contestant.reached) of \(profile.tasks.count)", String(format: "%.2f", contestant.score)]
                    + contestant.parts.map { String(format: "%.2f", $0) })
        }
        return table.text
    }

    private func training(_ spec: OptimizerSpec, _ baselines: [String]) -> String {
        var table = TextTable(header: ["against", "steps", "ratio", "won", "median speed-up", "reached", "diverged", "(baseline)"])
        for row in rows(spec, baselines, { c in
            [
                Format.interval(c.ratio), "\(Int(c.wins?.value ?? 0)) of \(c.tasks.count)", Format.interval(c.speedUp),
                "\(c.reached)", "\(c.divergences)", "\(c.baselineDivergences)",
            ]
        }) { table.add(row) }
        return table.text
    }

    private func byTask(_ horizon: Int, _ evaluation: Evaluation) -> String {
        let others = evaluation.baselines.filter { $0 != .adamW }.map { ($0.name, $0.specs) } + evaluation.learned.map { ($0.label, [$0]) }
        var table = TextTable(header: ["task", "parameters", "AdamW tuned"] + others.map(\.0))
        for task in tasks {
            guard let reference = EvaluationReport.least(task, Baseline.adamW.specs, horizon, \.heldOutLoss) else {
                table.add([task.name, Format.count(task.parameters), "-"])
                continue
            }
            table.add([task.name, Format.count(task.parameters), Format.short(reference)] + others.map { _, specs in
                EvaluationReport.least(task, specs, horizon, \.heldOutLoss).map { loss in
                    let floor = floorFactor * task.initialLoss
                    return Format.short((max(loss, 0) + floor) / (max(reference, 0) + floor))
                } ?? "-"
            })
        }
        return table.text
    }
}
