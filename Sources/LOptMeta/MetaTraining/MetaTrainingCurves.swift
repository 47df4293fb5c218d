import Foundation

/// Meta-training runs beside each other: how well the weights did on the validation tasks, over the inner
/// steps it took, which, unlike seconds, are the same on every machine.
public struct MetaTrainingCurves: Sendable {
    /// A run by the name of its folder.
    public struct Run: Sendable {
        public let name: String
        public let outerSteps: Int
        public let innerSteps: Int
        public let seconds: Double
        /// Points with a validation objective, in the order of time.
        public let points: [(innerSteps: Int, objective: Double)]
        let objective: Objective
    }

    public let runs: [Run]

    /// Throws `LOptMetaError` for a folder without a readable `run.json`, and for runs that did not have the same
    /// objective: their values mean different things.
    public init(_ directories: [RunDirectory]) throws {
        runs = try directories.map { directory in
            let record = try directory.readRecord()
            return Run(
                name: directory.url.lastPathComponent, outerSteps: record.outerSteps, innerSteps: record.innerSteps,
                seconds: record.seconds,
                points: record.curve.compactMap { point in point.validation.map { (point.innerSteps, $0) } },
                objective: record.configuration.objective)
        }
        guard let first = runs.first else { throw LOptMetaError("there is no run to show") }
        if let other = runs.first(where: { $0.objective != first.objective }) {
            throw LOptMetaError("'\(other.name)' has another objective than '\(first.name)'; they cannot be compared")
        }
        if let empty = runs.first(where: { $0.points.isEmpty }) {
            throw LOptMetaError("'\(empty.name)' has no validation yet; it comes with the first checkpoint")
        }
    }

    public var text: String {
        var table = TextTable(header: ["run", "outer steps", "inner steps", "minutes", "validation objective", "best"])
        for run in runs {
            table.add([
                run.name, Format.count(run.outerSteps), Format.count(run.innerSteps),
                String(format: "%.1f", run.seconds / 60),
                run.points.last.map { String(format: "%.4f", $0.objective) } ?? "-",
                run.points.map(\.objective).min().map { String(format: "%.4f", $0) } ?? "-",
            ])
        }
        return table.text
    }
}
