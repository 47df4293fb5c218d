import Foundation
import LOptCore

/// The folder of a meta-training run: `checkpoint.json` to go on from, `run.json` with configuration and curve, and
/// `weights.safetensors`. Each file is replaced at once or not at all.
public struct RunDirectory: Sendable {
    public let url: URL
    public var checkpointURL: URL { url.appending(path: "checkpoint.json") }
    public var recordURL: URL { url.appending(path: "run.json") }
    public var weightsURL: URL { url.appending(path: RunDirectory.weightsName) }
    static let weightsName = "weights.safetensors"

    public init(_ path: String) { url = URL(filePath: path, directoryHint: .isDirectory) }

    /// What `startName` says of a run that began with the rule's own start.
    public static let structuredStart = "structured"

    /// What a checkpoint holds beside the state: everything that the run was started with.
    public struct Checkpoint: Codable, Sendable {
        public var state: MetaTrainingState
        /// The values that z = 0 stands for, and what was named as their origin.
        public var start: [Float]
        public var startName: String
        /// The tasks, as the command line named them.
        public var tasks: String
        public var commit: String
        /// Data sets and generators of the tasks, and of what the weights at the start say that they came from; nil of a run that was
        /// begun before this was kept.
        public var dataSources: [String]?

        public init(
            state: MetaTrainingState, start: [Float], startName: String, tasks: String, commit: String, dataSources: [String]?
        ) {
            (self.state, self.start, self.startName, self.tasks, self.commit) = (state, start, startName, tasks, commit)
            self.dataSources = dataSources
        }
    }

    /// Throws for a folder that cannot be made.
    public func create() throws { try url.makeFolder() }

    public var hasCheckpoint: Bool { checkpointURL.isFile }

    public func readCheckpoint() throws -> Checkpoint {
        do {
            return try JSONDecoder().decode(Checkpoint.self, from: checkpointURL.readFile())
        } catch let error as DecodingError {
            throw LOptMetaError("'\(checkpointURL.path)' is not a checkpoint of lopt meta-train: \(error.line)")
        }
    }

    /// What `run.json` says: everything but what only resuming needs.
    struct Record: Codable {
        var configuration: MetaTrainingConfiguration
        var start: String
        var tasks: String
        var commit: String
        var outerSteps: Int
        var innerSteps: Int
        var seconds: Double
        var curve: [MetaTrainingPoint]
    }

    /// Throws if `run.json` cannot be read or is something else.
    func readRecord() throws -> Record {
        do {
            return try JSONDecoder().decode(Record.self, from: recordURL.readFile())
        } catch let error as DecodingError {
            throw LOptMetaError("'\(recordURL.path)' is not the record of a run of lopt meta-train: \(error.line)")
        }
    }

    /// Writes all three files.
    public func write(_ checkpoint: Checkpoint, weights: borrowing Weights) throws {
        let state = checkpoint.state
        try checkpointURL.writeFile(JSONEncoder().encode(checkpoint))
        let record = Record(
            configuration: state.configuration, start: checkpoint.startName, tasks: checkpoint.tasks,
            commit: checkpoint.commit, outerSteps: state.outerStep, innerSteps: state.innerSteps,
            seconds: state.seconds, curve: state.curve)
        try recordURL.writeFile(JSONEncoder.readable.encode(record))
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        let configuration = String(decoding: try encoder.encode(state.configuration), as: UTF8.self)
        let data = checkpoint.dataSources.map { [(NamedWeights.dataSourcesKey, $0.joined(separator: ", "))] } ?? []
        try weights.write(to: weightsURL, notes: data + [
            ("provenance", "lopt meta-train, commit \(checkpoint.commit), start \(checkpoint.startName), tasks \(checkpoint.tasks)"),
            ("outer_steps", "\(state.outerStep) of \(state.configuration.outerSteps)"),
            ("inner_steps", "\(state.innerSteps)"),
            ("seconds", "\(Int(state.seconds))"),
            ("seed", "\(state.configuration.seed)"),
            ("configuration", configuration),
        ])
    }
}
