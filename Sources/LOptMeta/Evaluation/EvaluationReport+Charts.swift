import Foundation

extension EvaluationReport {
    /// Colours that stay apart for colour-blind readers (Okabe and Ito).
    private enum Palette {
        static let learned = ["#d55e00", "#0072b2", "#009e73", "#cc79a7"]
        static let horizons = ["#56b4e9", "#0072b2", "#009e73", "#e69f00", "#d55e00", "#cc79a7"]
        static func pick(_ colors: [String], _ i: Int) -> String { colors[i % colors.count] }
    }

    /// Writes `curves/TASK.svg` for every task, and for every learned optimizer `ratio-NAME.svg` and `speedup-NAME.svg`: pictures of
    /// the table's rows against Adam tuned under the same schedule, over the tasks of families not meta-trained on if there are some.
    public func writeCharts(_ evaluation: Evaluation, _ results: [RunResult], to directory: URL) throws {
        let table = LossTable(results, horizons: horizons)
        for task in tasks {
            try curves(task.name, evaluation, table).svg().write(to: directory.appendingPathComponent("curves/\(task.name).svg"))
        }
        for weights in evaluation.weights {
            for schedule in Evaluation.schedules {
                let spec = OptimizerSpec(.lopt(weights), schedule)
                let name = schedule == .constant ? weights.name : "\(weights.name)-\(schedule.rawValue)"
                try ratios(spec).svg().write(to: directory.appendingPathComponent("ratio-\(name).svg"))
                try speedUps(spec).svg().write(to: directory.appendingPathComponent("speedup-\(name).svg"))
            }
        }
    }

    /// Of the best member of every baseline at the longest horizon, and of the learned optimizers.
    private func curves(_ task: String, _ evaluation: Evaluation, _ table: LossTable) -> LineChart {
        let horizon = horizons[horizons.count - 1]
        func line(_ spec: OptimizerSpec, _ color: String, width: Double, dash: String?) -> LineChart.Line? {
            guard let curve = table.entry(task: task, optimizer: spec.id, horizon: horizon)?.curve else { return nil }
            let points = zip(curve.steps, curve.losses).map { (x: Double($0), y: $1) }
            return LineChart.Line(label: spec.label, color: color, dash: dash, width: width, points: points)
        }
        func best(_ baseline: Baseline) -> OptimizerSpec {
            let losses = baseline.specs.map {
                table.entry(task: task, optimizer: $0.id, horizon: horizon)?.trainingLoss ?? .infinity
            }
            return baseline.specs[losses.indices.min { losses[$0] < losses[$1] } ?? 0]
        }
        var lines = [
            line(best(.untunedAdam), "#bbbbbb", width: 1.5, dash: "2 3"), line(best(.sgdm), "#e69f00", width: 1.5, dash: nil),
            line(best(.cosineSGDM), "#e69f00", width: 1.5, dash: "6 4"), line(best(.adam), "#333333", width: 1.5, dash: nil),
            line(best(.cosineAdam), "#333333", width: 1.5, dash: "6 4"),
        ]
        for (i, weights) in evaluation.weights.enumerated() {
            let color = Palette.pick(Palette.learned, i)
            lines.append(line(OptimizerSpec(.lopt(weights), .constant), color, width: 2.5, dash: nil))
            lines.append(line(OptimizerSpec(.lopt(weights), .cosine), color, width: 2.5, dash: "6 4"))
        }
        return LineChart(
            title: task, xLabel: "steps", yLabel: "training loss, mean of \(seeds) seeds", lines: lines.compactMap { $0 },
            marks: horizons.dropLast().map { Double($0) }, leastY: table.floor(task: task) / 10)
    }

    private func ratios(_ spec: OptimizerSpec) -> DotChart {
        chart(
            spec, title: "final training loss over that of",
            xLabel: "ratio of final losses (logarithmic)", sides: ("lopt better", "lopt worse"),
            value: { ($0.ratio, false) }, summary: "geometric mean", \.ratio)
    }

    private func speedUps(_ spec: OptimizerSpec) -> DotChart {
        chart(
            spec, title: "speed-up over",
            xLabel: "steps of the baseline to its final loss / steps of lopt to it (hollow: not reached, at most this)",
            sides: ("lopt slower", "lopt faster"), value: { ($0.speedUp, !$0.isReached) }, summary: "median", \.speedUp)
    }

    private func chart(
        _ spec: OptimizerSpec, title: String, xLabel: String, sides: (left: String, right: String),
        value: (Comparison.TaskEntry) -> (value: Double, isBound: Bool), summary: String,
        _ interval: (Comparison) -> Interval?
    ) -> DotChart {
        let baseline: Baseline = spec.schedule == .constant ? .adam : .cosineAdam
        let isUnseen = !unseenComparisons.isEmpty
        let rows = (isUnseen ? unseenComparisons : comparisons).filter {
            $0.optimizer == spec.id && $0.baseline == baseline.name
        }
        let series = rows.enumerated().map { i, comparison in
            DotChart.Series(
                label: "\(Format.count(comparison.horizon)) steps", color: Palette.pick(Palette.horizons, i),
                values: comparison.tasks.map(value), summary: interval(comparison))
        }
        let names = rows.first?.tasks.map(\.task) ?? []
        return DotChart(
            title: "\(spec.label): \(title) \(baseline.name), \(names.count) tasks\(isUnseen ? " of families not meta-trained on" : "")",
            xLabel: xLabel, sides: sides, rows: names, series: series, summary: summary)
    }
}
