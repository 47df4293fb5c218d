extension NamedWeights {
    /// In the metadata of a weights file: the data sets and generators that the weights were meta-trained on, separated by commas.
    static let dataSourcesKey = "data_sources"

    /// `TrainingTask.dataSource` of all tasks that the weights were meta-trained on; nil if their file does not say.
    public var dataSources: [String]? {
        weights.notes.first { $0.key == NamedWeights.dataSourcesKey }
            .map { $0.value.split(separator: ",").map { $0.trimmingPrefix { $0 == " " } }.map(String.init) }
    }

    /// Those of weights that go on from these with others: each once, in alphabetical order.
    public func dataSources(with others: [String]) -> [String] { Set((dataSources ?? []) + others).sorted() }

    /// Throws an `LOptMetaError` if the weights were meta-trained on the data of one of the tasks, by what their file says: they would be
    /// judged by what they have seen.
    public func requireUnseen(_ tasks: [any TrainingTask]) throws {
        let seen = Set(dataSources ?? []), shared = tasks.filter { seen.contains($0.dataSource) }
        guard let first = shared.first else { return }
        throw LOptMetaError(
            "weights '\(name)' were meta-trained on \(first.dataSource), the data of \(shared.count) of the \(tasks.count) tasks, as \(first.name); "
                + "these cannot judge them")
    }
}
