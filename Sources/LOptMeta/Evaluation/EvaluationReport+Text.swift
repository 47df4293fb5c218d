extension EvaluationReport {
    /// The tables for the terminal: each learned optimizer against each baseline, then against the best task by task.
    public func text(learned: [OptimizerSpec]) -> String {
        var parts = [
            """
            \(tasks.count) tasks, \(seeds) \(seeds == 1 ? "seed" : "seeds"). Ratios are of final training losses (mean of the last 5 % of the steps),
            geometric means over the tasks; below 1 the learned optimizer is better. A baseline's learning rate is the best of
            its grid for each task and horizon. Speed-up: steps that the baseline needs for its final loss over those that the
            learned optimizer needs for it; the median over the tasks, where a task on which it never gets there counts as 0, and
            on how many it does. In brackets 95 % bootstrap intervals over the tasks.
            """
        ]
        for spec in learned {
            parts.append("\(spec.label)\n\n" + summary(comparisons, spec))
            if !unseenComparisons.isEmpty {
                parts.append(
                    "\(spec.label), over the tasks of families that were not meta-trained on\n\n"
                        + summary(unseenComparisons, spec))
            }
            parts.append("\(spec.label), ratio to the best of all baselines (and speed-up) after\n\n" + byTask(spec))
        }
        return parts.joined(separator: "\n\n") + "\n"
    }

    /// Losses on one task, for the terminal: of each baseline's best member and of each learned optimizer.
    public func losses(of name: String) -> String {
        guard let task = tasks.first(where: { $0.name == name }) else { return "" }
        var table = TextTable(
            header: ["optimizer"] + horizons.flatMap { ["\(Format.count($0)) steps", "held out"] })
        func cells(_ id: (Int) -> String?) -> [String] {
            horizons.flatMap { horizon -> [String] in
                let entry = id(horizon).flatMap { id in
                    task.losses.first { $0.optimizer == id && $0.horizon == horizon }
                }
                return [
                    entry.map { Format.short($0.trainingLoss) } ?? "-", entry?.heldOutLoss.map { Format.short($0) } ?? "-",
                ]
            }
        }
        for baseline in Baseline.all {
            let ids = Set(baseline.specs.map(\.id))
            table.add([baseline.name] + cells { horizon in
                task.losses.filter { $0.horizon == horizon && ids.contains($0.optimizer) }
                    .min { $0.trainingLoss < $1.trainingLoss }?.optimizer
            })
        }
        for weights in weights {
            for schedule in Evaluation.schedules {
                let id = "lopt \(weights.name) \(weights.digest) \(schedule.rawValue)"
                table.add(["lopt \(weights.name)" + (schedule == .constant ? "" : ", cosine")] + cells { _ in id })
            }
        }
        return table.text
    }

    private func summary(_ comparisons: [Comparison], _ spec: OptimizerSpec) -> String {
        var table = TextTable(header: [
            "baseline", "steps", "ratio", "tasks won", "held-out ratio", "median speed-up", "reached", "diverged",
            "(baseline)",
        ])
        for baseline in Baseline.all {
            for horizon in horizons {
                guard
                    let c = comparisons.first(where: {
                        $0.optimizer == spec.id && $0.baseline == baseline.name && $0.horizon == horizon
                    })
                else { continue }
                table.add([
                    baseline.name, Format.count(horizon), Format.interval(c.ratio),
                    Format.count(c.wins) + " of \(c.tasks.count)", Format.interval(c.heldOutRatio),
                    Format.interval(c.speedUp), "\(c.reached) of \(c.tasks.count)", "\(c.divergences)",
                    "\(c.baselineDivergences)",
                ])
            }
        }
        return table.text
    }

    /// A speed-up that is only an upper bound has a `<`.
    private func byTask(_ spec: OptimizerSpec) -> String {
        var table = TextTable(header: ["task", "parameters"] + horizons.map { "\(Format.count($0)) steps" })
        for (i, task) in tasks.enumerated() {
            let cells = horizons.map { horizon in
                guard let entry = comparison(spec, with: .best, horizon: horizon)?.tasks[i] else { return "-" }
                let diverged = entry.divergences > 0 ? " diverged: \(entry.divergences)" : ""
                return "\(Format.short(entry.ratio)) (\(entry.isReached ? "" : "<")\(Format.short(entry.speedUp)))" + diverged
            }
            table.add([task.name, Format.count(task.parameters)] + cells)
        }
        return table.text
    }
}
