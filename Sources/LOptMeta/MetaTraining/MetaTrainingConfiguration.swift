import Foundation
import LOptCore

/// Everything that decides the outcome of meta-training, to be written beside the weights. The same configuration gives the
/// same weights, whatever the number of threads.
public struct MetaTrainingConfiguration: Codable, Equatable, Sendable {
    public var rule = Architecture.star(extensions: true)
    public var seed: UInt64 = 1
    public var stages: [Stage]
    public var objective = Objective()
    /// Outer steps that an estimate may lag behind the iterate that it moves: batch b is evaluated at the iterate after b - delay
    /// updates, so that no core waits for the longest unroll of a batch.
    public var delay = 2
    /// Of the exponential average of the iterates, which is what becomes the weights.
    public var averaging = 0.99

    public init(stages: [Stage]) { self.stages = stages }
}

extension MetaTrainingConfiguration {
    /// From the JSON that `lopt meta-train --print-configuration` prints. Throws for what cannot be read, for what is
    /// no configuration or has a key that none has: a misspelt one would else leave the default in its place.
    public init(contentsOf url: URL) throws {
        let data = try url.readFile()
        do {
            self = try JSONDecoder().decode(MetaTrainingConfiguration.self, from: data)
            let known = try JSONSerialization.jsonObject(with: JSONEncoder().encode(self))
            if let unknown = MetaTrainingConfiguration.unknownKey(try JSONSerialization.jsonObject(with: data), known) {
                throw LOptMetaError("'\(url.path)': there is no key \(unknown)")
            }
        } catch let error as DecodingError {
            throw LOptMetaError("'\(url.path)' is not a configuration: \(error.line)")
        }
    }

    /// The first key of `given` that `known` lacks, with those that are allowed beside it. Everything known is written, so
    /// what was read and comes out again is all there is.
    private static func unknownKey(_ given: Any, _ known: Any, path: String = "") -> String? {
        if let given = given as? [String: Any], let known = known as? [String: Any] {
            for key in given.keys.sorted() {
                let here = path.isEmpty ? key : "\(path).\(key)"
                guard let value = known[key] else {
                    return "'\(here)'; there are \(known.keys.sorted().joined(separator: ", "))"
                }
                if let found = unknownKey(given[key] ?? 0, value, path: here) { return found }
            }
        } else if let given = given as? [Any], let known = known as? [Any] {
            for (i, (a, b)) in zip(given, known).enumerated() {
                if let found = unknownKey(a, b, path: "\(path)[\(i)]") { return found }
            }
        }
        return nil
    }

    /// What of a run these settings do not share with `other`, as a word for a message; nil if nothing. A rule that came with
    /// weights to start from is theirs.
    public func difference(from other: MetaTrainingConfiguration, exceptRule: Bool) -> String? {
        if !exceptRule && rule != other.rule { return "rule" }
        if seed != other.seed { return "seed" }
        if objective != other.objective { return "objective" }
        if (delay, averaging) != (other.delay, other.averaging) { return "delay or averaging" }
        if stages.map(\.name) != other.stages.map(\.name) { return "stages" }
        return zip(stages, other.stages).first { $0 != $1 }.map {
            $0.outerSteps != $1.outerSteps ? "outer steps of stage '\($0.name)'" : "stage '\($0.name)'"
        }
    }

    public enum Method: String, Codable, CaseIterable, Sendable {
        /// Antithetic evolution strategies over whole unrolls.
        case full
        /// Persistent evolution strategies (Vicol, Metz and Sohl-Dickstein 2021): each outer step takes unrolls one segment of
        /// the objective further, with a new perturbation.
        case pes
        /// Evolution strategies with reused noise (Li, Harrison, Sohl-Dickstein, Smith and Metz 2023): a pair keeps its perturbation,
        /// task and horizon for a whole unroll, and every outer step takes it `Episodes.chunk` steps further.
        case nres

        /// A pair lives from one outer step to the next.
        var keepsPairs: Bool { self != .full }
    }

    /// A part of the run, with settings of its own. The outer optimizer starts anew in each.
    public struct Stage: Codable, Equatable, Sendable {
        public var name: String
        public var outerSteps: Int
        public var method = Method.full
        /// Antithetic pairs of an outer step.
        public var pairs = 8
        /// PES: an outer step takes every `rounds`-th pair further, so pairs * rounds live at once.
        public var rounds = 4
        /// Standard deviation of a perturbation, in units of z (`MetaParameters`).
        public var sigma = 0.03
        /// Of the outer Adam; it falls to a tenth along a cosine.
        public var learningRate = 3e-3
        /// Decay of the network towards its start with each outer step, in units of the learning rate (decoupled L2).
        public var decay = 0.02
        /// A pair's difference D counts as c tanh(D / c).
        public var clip = 0.6
        /// The estimate's norm is clipped to this many times the running norm of those before it.
        public var normClip = 3.0
        /// What is trained.
        public var groups: [MetaParameters.Group]
        public var unrolls = UnrollDistribution()
        /// Of the method nres; of the others, if there are any, known horizons and gates.
        public var episodes: Episodes?

        public init(_ name: String, outerSteps: Int, groups: [MetaParameters.Group]) {
            (self.name, self.outerSteps, self.groups) = (name, outerSteps, groups)
        }

        /// An unroll, as its episodes have it; the same for the same seed.
        func draw(_ tasks: some TaskSource, seed: UInt64) -> RunSettings {
            let drawn = unrolls.draw(tasks, seed: seed)
            return (episodes ?? (method == .nres ? Episodes() : nil))?.amend(drawn, seed: seed) ?? drawn
        }
    }

    public var outerSteps: Int { stages.reduce(0) { $0 + $1.outerSteps } }

    /// The stage of an outer step and the steps of it before that one.
    func stage(of outerStep: Int) -> (index: Int, step: Int) {
        var begin = 0
        for (i, stage) in stages.enumerated() {
            if outerStep < begin + stage.outerSteps { return (i, outerStep - begin) }
            begin += stage.outerSteps
        }
        return (stages.count - 1, stages[stages.count - 1].outerSteps)
    }

    /// Throws `LOptMetaError` for what cannot be run.
    public func validate() throws {
        do throws(LOptError) { _ = try rule.checked() } catch { throw LOptMetaError("\(error)") }
        func require(_ condition: Bool, _ message: String) throws {
            guard condition else { throw LOptMetaError(message) }
        }
        try require(!stages.isEmpty, "there is no stage; at least one is needed")
        try require((0...16).contains(delay), "delay is \(delay); allowed are 0 to 16")
        try require(averaging >= 0 && averaging < 1, "averaging is \(averaging); allowed are 0 to below 1")
        try require((1...1000).contains(objective.segments), "segments is \(objective.segments); allowed are 1 to 1000")
        try require(
            objective.floor > 0 && objective.cap > 0 && (0...1).contains(objective.trajectoryWeight),
            "the objective's floor and cap must be above 0 and its trajectoryWeight in 0 to 1")
        for stage in stages {
            let name = "stage '\(stage.name)'"
            try require((0...100_000_000).contains(stage.outerSteps), "\(name): outerSteps is \(stage.outerSteps)")
            try require((1...4096).contains(stage.pairs), "\(name): pairs is \(stage.pairs); allowed are 1 to 4096")
            try require(stage.sigma > 0 && stage.sigma.isFinite, "\(name): sigma is \(stage.sigma); it must be above 0")
            try require(
                stage.learningRate > 0 && stage.learningRate.isFinite,
                "\(name): learningRate is \(stage.learningRate); it must be above 0")
            try require(
                stage.clip > 0 && stage.normClip > 0 && stage.decay >= 0,
                "\(name): clip and normClip must be above 0, decay at least 0")
            try require(
                !stage.method.keepsPairs || stage.rounds > delay,
                "\(name): rounds is \(stage.rounds); with a delay of \(delay), pairs that live on need at least \(delay + 1)")
            try require(!stage.groups.isEmpty, "\(name): groups is empty; allowed are "
                + MetaParameters.Group.names)
            let episodes = stage.episodes ?? Episodes()
            try require(episodes.chunk >= 1, "\(name): chunk is \(episodes.chunk); it must be at least 1")
            try require(
                (0...1).contains(episodes.known) && (0...1).contains(episodes.gated),
                "\(name): known and gated are parts, 0 to 1")
            let unrolls = stage.unrolls
            try require(
                1 <= unrolls.shortestHorizon && unrolls.shortestHorizon <= unrolls.longestHorizon,
                "\(name): horizons are \(unrolls.shortestHorizon) to \(unrolls.longestHorizon); at least 1, in order")
            try require(
                [unrolls.scheduled, unrolls.reparameterized, unrolls.heldOut].allSatisfy { (0...1).contains($0) },
                "\(name): scheduled, reparameterized and heldOut are parts, 0 to 1")
        }
    }
}
