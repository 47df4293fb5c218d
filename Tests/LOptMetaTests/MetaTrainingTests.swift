import Foundation
import LOptCore
import Testing

@testable import LOptMeta

@Suite struct MetaTrainingTests {
    static func configuration(_ method: MetaTrainingConfiguration.Method, rule: Architecture? = nil)
        -> MetaTrainingConfiguration
    {
        var first = MetaTrainingConfiguration.Stage("first", outerSteps: 7, groups: [.decays, .nominal])
        first.method = method
        first.pairs = 3
        first.sigma = 0.05
        first.learningRate = 0.02
        first.unrolls.shortestHorizon = 10
        first.unrolls.longestHorizon = 60
        first.unrolls.freeCost = 0
        var second = first
        second.name = "second"
        second.groups = MetaParameters.Group.allCases
        var configuration = MetaTrainingConfiguration(stages: [first, second])
        configuration.objective.segments = 10
        if let rule { configuration.rule = rule }
        return configuration
    }

    static func trainer(_ configuration: MetaTrainingConfiguration, threads: Int) throws -> MetaTrainer<NoisyBowls> {
        let start = MetaParameters(structuredStartOf: configuration.rule, seed: 3)
        return try MetaTrainer(configuration, start: start, tasks: NoisyBowls(), threads: threads)
    }

    @Test(arguments: MetaTrainingConfiguration.Method.allCases)
    func `the number of threads changes no bit`(_ method: MetaTrainingConfiguration.Method) async throws {
        var averages: [[Double]] = []
        for threads in [1, 2, 5] {
            let trainer = try Self.trainer(Self.configuration(method), threads: threads)
            try await trainer.run { _ in .goOn }
            #expect(trainer.isFinished)
            averages.append(trainer.state.average)
        }
        #expect(averages[0] == averages[1])
        #expect(averages[0] == averages[2])
        #expect(averages[0].contains { $0 != 0 })
    }

    @Test(arguments: MetaTrainingConfiguration.Method.allCases, [1, 5, 7, 9, 13])
    func `a run stopped and resumed has the bits of one that was not`(
        _ method: MetaTrainingConfiguration.Method, _ stop: Int
    ) async throws {
        let whole = try Self.trainer(Self.configuration(method), threads: 2)
        try await whole.run { _ in .goOn }
        let first = try Self.trainer(Self.configuration(method), threads: 3)
        try await first.run { $0.outerStep < stop ? .goOn : .stop }
        #expect(first.state.outerStep == stop)
        let saved = try JSONEncoder().encode(first.checkpoint())
        let restored = try JSONDecoder().decode(MetaTrainingState.self, from: saved)
        let second = try MetaTrainer(resuming: restored, start: first.parameters, tasks: NoisyBowls(), threads: 2)
        try await second.run { _ in .goOn }
        #expect(second.state.average == whole.state.average)
        #expect(second.state.innerSteps == whole.state.innerSteps)
        #expect(second.state.recent.value == whole.state.recent.value)
    }

    @Test(arguments: MetaTrainingConfiguration.Method.allCases)
    func `meta-training lowers the objective on unrolls that it never saw`(
        _ method: MetaTrainingConfiguration.Method
    ) async throws {
        var configuration = Self.configuration(method)
        configuration.stages = [configuration.stages[0]]
        configuration.stages[0].outerSteps = 60
        configuration.stages[0].pairs = 6
        configuration.stages[0].groups = [.nominal]
        let trainer = try Self.trainer(configuration, threads: 2)
        let validation = Validation(tasks: (100..<112).map { NoisyBowls().task($0) }, horizons: [40])
        let start = [Double](repeating: 0, count: trainer.parameters.count)
        let before = await validation.objective(trainer.parameters, start, configuration.objective, threads: 2)
        try await trainer.run { _ in .goOn }
        let after = await validation.objective(
            trainer.parameters, trainer.state.average, configuration.objective, threads: 2)
        #expect(after < before - 0.3, "objective \(before) before, \(after) after")
    }

    @Test(arguments: [
        Architecture.smallFC, .star(extensions: false), .star(extensions: true), .pooled,
        {
            var rule = Architecture.star(extensions: true)
            rule.hiddenSize = 9
            rule.hiddenLayers = 3
            rule.momenta = 2
            rule.initialMomentumDecays = [0.5, 0.99, 0, 0, 0, 0, 0, 0]
            rule.initialAdafactorDecays = [0.9, 0.999, 0, 0, 0, 0, 0, 0]
            rule.aggregateNominalMagnitude = false
            rule.regularizationController = true
            rule.weightDecay = 1e-4
            rule.normalizeBlackbox = true
            rule.nominalEstimator = .sgdm
            return rule
        }(),
    ])
    func `every rule is meta-trained and its weights read back`(_ rule: Architecture) async throws {
        var configuration = Self.configuration(rule.kind == .pooled ? .nres : .full, rule: rule)
        if rule.kind == .smallFC { configuration.stages[0].groups = [.decays, .network] }
        if rule.kind == .pooled { configuration.stages[0].groups = [.decays, .step] }
        let trainer = try Self.trainer(configuration, threads: 2)
        try await trainer.run { _ in .goOn }
        #expect(trainer.isFinished)
        let weights = try trainer.weights()
        #expect(weights.architecture == rule)
        let moved = zip(trainer.state.average, trainer.parameters.groups).filter { $0.0 != 0 }
        #expect(moved.count == trainer.parameters.count, "\(moved.count) of \(trainer.parameters.count) numbers moved")
    }

    @Test(arguments: ["star", "star-authors-rule"])
    func `a start may be given extensions, which change nothing at first`(_ name: String) throws {
        let weights = try Weights(builtin: name, allocator: .system)
        var rule = Architecture()
        (rule.tensorScale, rule.tensorSchedule, rule.tensorCount) = (true, true, true)
        let plain = MetaParameters(continuing: weights), extended = MetaParameters(continuing: weights, extendedBy: rule)
        #expect(extended.architecture.tensorCount && extended.architecture.tensorScale && extended.architecture.tensorSchedule)
        let searched = { (a: Architecture) in a.metaParameters - a.count(of: .tensorRanges) }
        #expect(extended.count == plain.count + searched(extended.architecture) - searched(plain.architecture))
        let settings = RunSettings(task: NoisyQuadratic(size: 10, condition: 30, noise: 0.1, scale: 1, seed: 1), horizon: 40, seed: 2)
        let values = try [plain, extended].map { parameters in
            var unroll = try Unroll(
                settings, Objective(), weights: try parameters.weights([Double](repeating: 0, count: parameters.count)))
            _ = unroll.run(settings.horizon)
            return unroll.value()
        }
        #expect(values[0] == values[1])
    }

    @Test func `a configuration reads back from its file, and a key at any depth that none has is refused`() throws {
        let scratch = ScratchDirectory()
        try FileManager.default.createDirectory(at: scratch.url, withIntermediateDirectories: true)
        let file = scratch.url.appending(path: "c.json")
        for recipe in Recipe.allCases {
            let whole = try JSONEncoder().encode(recipe.configuration())
            try whole.write(to: file)
            #expect(try MetaTrainingConfiguration(contentsOf: file) == recipe.configuration())
            let text = String(decoding: whole, as: UTF8.self)
            // A key more in every object there is.
            for place in text.indices where text[place] == "{" {
                var other = text
                other.insert(contentsOf: "\"mispelt\":1,", at: other.index(after: place))
                try Data(other.utf8).write(to: file)
                #expect { try MetaTrainingConfiguration(contentsOf: file) } throws: {
                    "\($0)".contains("'\(file.path)': there is no key '") && "\($0)".contains("mispelt'; there are ")
                }
            }
        }
        // An absent key of the rule takes its default, so that a misspelt one would not be missed.
        let text = String(decoding: try JSONEncoder().encode(Recipe.star.configuration()), as: UTF8.self)
        try Data(text.replacing("\"nominal_stepsize\"", with: "\"nominal_step_size\"").utf8).write(to: file)
        #expect { try MetaTrainingConfiguration(contentsOf: file) } throws: { "\($0)".contains("no key 'rule.nominal_step_size'") }
        try Data("{".utf8).write(to: file)
        #expect(throws: LOptMetaError.self) { try MetaTrainingConfiguration(contentsOf: file) }
    }

    @Test func `another configuration than that of the run is named by what differs`() {
        let star = Recipe.star.configuration()
        #expect(star.difference(from: star, exceptRule: false) == nil)
        #expect(Recipe.starAuthorsRule.configuration().difference(from: star, exceptRule: false) == "rule")
        #expect(Recipe.starAuthorsRule.configuration().difference(from: star, exceptRule: true) == nil)
        #expect(Recipe.star.configuration(effort: 0.5).difference(from: star, exceptRule: true) == "outer steps of stage 'nominal'")
        #expect(Recipe.star.configuration(seed: 2).difference(from: star, exceptRule: true) == "seed")
        #expect(Recipe.smallFC.configuration().difference(from: star, exceptRule: true) == "stages")
        var changed = star
        changed.stages[1].clip = 1
        #expect(changed.difference(from: star, exceptRule: true) == "stage 'late'")
        changed = star
        changed.objective.floor = 1e-4
        #expect(changed.difference(from: star, exceptRule: true) == "objective")
    }

    @Test func `what cannot be run is refused by name`() throws {
        func message(_ change: (inout MetaTrainingConfiguration) -> Void) -> String {
            var configuration = Self.configuration(.pes)
            change(&configuration)
            do {
                try configuration.validate()
                return "accepted"
            } catch {
                return "\(error)"
            }
        }
        #expect(message { _ in } == "accepted")
        #expect(message { $0.stages[0].sigma = 0 }.contains("sigma is 0"))
        #expect(message { $0.stages[1].rounds = 2 }.contains("'second': rounds is 2"))
        #expect(message { $0.stages = [] }.contains("no stage"))
        #expect(message { $0.rule.momenta = 0 } == "momenta is 0; allowed are 1 to 8")
        #expect(message { $0.rule.weightDecay = -1 } == "weight_decay is -1.0; allowed is a number of at least 0 that f32 can hold")
        #expect(message { $0.rule.tensorScale = false } == "tensor_schedule is set without tensor_scale, which it needs")
        #expect(message { $0.stages[0].unrolls.longestHorizon = 1 }.contains("horizons are 10 to 1"))
        var episodes = Episodes()
        episodes.chunk = 0
        #expect(message { $0.stages[1].episodes = episodes }.contains("chunk is 0"))
        (episodes.chunk, episodes.known) = (1, 2)
        #expect(message { $0.stages[1].episodes = episodes }.contains("known and gated"))
    }
}
