/// The tasks that `lopt evaluate` knows: networks held out from meta-training, some of them on data that it uses
/// (`EvaluationSuite`).
public enum TaskList {
    /// Throws `LOptMetaError` if the bundled data are not found.
    public static func all() throws -> [any TrainingTask] { try EvaluationSuite().entries.map(\.task) }

    /// Those for choosing weights, before the others are looked at. Throws likewise.
    public static func validation() throws -> [any TrainingTask] { try EvaluationSuite().validation }

    /// Those of the paper's experiment (`TransferTasks`), the one of meta-training first. Throws likewise.
    public static func transfer() throws -> [any TrainingTask] {
        let data = try BundledData(DataFolder.find())
        return [TransferTasks.source(data)] + TransferTasks.others(data) as [NetworkTask]
    }

    /// The task of that name, of all three lists. Throws likewise, and for a name that none has.
    public static func task(_ name: String) throws -> any TrainingTask {
        let tasks = try transfer() + all() + validation()
        if let task = tasks.first(where: { $0.name == name }) { return task }
        throw LOptMetaError("no task is called '\(name)'; lopt evaluate --list, with --transfer or --validation, has the names")
    }

    /// The tasks whose names contain one of the filters, all if there is none, in the order of the list. Throws for a
    /// filter that fits no task.
    public static func select(_ filters: [String], from tasks: [any TrainingTask]) throws -> [any TrainingTask] {
        for filter in filters where !tasks.contains(where: { $0.name.contains(filter) }) {
            throw LOptMetaError(
                "no task's name contains '\(filter)'; there are \(tasks.map(\.name).joined(separator: ", "))")
        }
        return filters.isEmpty ? tasks : tasks.filter { task in filters.contains { task.name.contains($0) } }
    }
}
