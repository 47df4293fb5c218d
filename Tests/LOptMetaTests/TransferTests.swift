import Foundation
import LOptCore
import Testing

@testable import LOptMeta

@Suite struct TransferTests {
    /// Weights as a run leaves them whose tasks had these data.
    private func weights(_ directory: ScratchDirectory, _ sources: [String]?, name: String = "run") throws -> NamedWeights {
        let run = RunDirectory(directory.url.appending(path: name).path)
        try run.create()
        let configuration = Recipe.smallFCOneTask.configuration(), start = MetaParameters(structuredStartOf: configuration.rule, seed: 1)
        let trainer = try MetaTrainer(configuration, start: start, tasks: NoisyBowls(), threads: 1)
        try run.write(
            RunDirectory.Checkpoint(
                state: trainer.checkpoint(), start: start.base, startName: "structured", tasks: "bowls", commit: "none", dataSources: sources),
            weights: trainer.weights())
        return try NamedWeights(run.url.path)
    }

    @Test func `weights say on which data they were meta-trained, and are refused on tasks of these`() throws {
        let directory = ScratchDirectory(), suite = TaskTests.suite.entries.map(\.task)
        let fashion = try weights(directory, ["fashion", "low rank"]), other = try weights(directory, ["persuasion"], name: "other")
        #expect(fashion.dataSources == ["fashion", "low rank"])
        #expect(try weights(directory, nil, name: "unsaid").dataSources == nil)
        let count = suite.count { $0.dataSource == "fashion" }
        #expect { try fashion.requireUnseen(suite) } throws: {
            "\($0)".contains("'run' were meta-trained on fashion, the data of \(count) of the \(suite.count) tasks, as mlp_fashion_64x64_relu_b64")
        }
        #expect(throws: Never.self) { try fashion.requireUnseen(suite.filter { $0.dataSource != "fashion" }) }
        #expect(throws: Never.self) { try other.requireUnseen(suite) }
        // What goes on with weights has seen what they have.
        #expect(fashion.dataSources(with: ["digits", "fashion"]) == ["digits", "fashion", "low rank"])
    }

    @Test func `weights of one task are moved to other kinds of network on other data, and may be taken back to where they come from`() throws {
        let source = TransferTasks.source(TaskTests.data), others = TransferTasks.others(TaskTests.data)
        #expect(source.name == TransferTasks.name && source.dataSource == "fashion")
        #expect(others.allSatisfy { $0.dataSource != "fashion" })
        let kinds: [(String, (Layer) -> Bool)] = [
            ("batch norm", { if case .batchNorm = $0 { true } else { false } }), ("recurrent", { if case .recurrent = $0 { true } else { false } }),
            ("attention", { if case .attention = $0 { true } else { false } }), ("skip", { if case .addEarlier = $0 { true } else { false } }),
        ]
        for (kind, isOfKind) in kinds { #expect(others.contains { $0.layers.contains(where: isOfKind) }, "\(kind)") }
        for task in others {
            let run = TaskTests.train(task, rate: 3e-3, steps: 200)
            #expect(run.last < 0.97 * run.first && run.heldOut?.isFinite == true, "\(task.name): loss \(run.first) at first, \(run.last) at last")
        }
        let directory = ScratchDirectory(), all: [any TrainingTask] = [source] + others
        let fashion = try weights(directory, ["fashion"]), digits = try weights(directory, ["digits"], name: "digits")
        let evaluation = try Evaluation.transfer(tasks: all, weights: [fashion], horizons: [2000], seeds: 1)
        #expect(evaluation.learned.map(\.schedule) == [.constant] && !evaluation.learned[0].isAveraged)
        #expect(throws: LOptMetaError.self) { try Evaluation.transfer(tasks: all, weights: [digits], horizons: [2000], seeds: 1) }
    }

    @Test func `a task is found by its whole name, in whatever list it is`() throws {
        for task in try TaskList.transfer() + TaskList.all() + TaskList.validation() { #expect(try TaskList.task(task.name).name == task.name) }
        #expect { try TaskList.task("mlp_fashion") } throws: { "\($0)".contains("no task is called 'mlp_fashion'") }
    }

    @Test func `the two rules of the paper's comparison are trained alike but for the learning rate, all of their numbers, on whole runs of 2,000 steps`() {
        var star = Recipe.starOneTask.configuration(), smallFC = Recipe.smallFCOneTask.configuration()
        #expect(star.rule == .star(extensions: false) && smallFC.rule == .smallFC)
        for configuration in [star, smallFC] {
            let parameters = MetaParameters(structuredStartOf: configuration.rule, seed: 1)
            #expect(Set(parameters.groups) == Set(configuration.stages[0].groups))
            #expect(configuration.stages[0].unrolls.shortestHorizon == 2000 && configuration.stages[0].unrolls.longestHorizon == 2000)
        }
        smallFC.rule = star.rule
        (star.stages[0].groups, star.stages[0].learningRate) = (smallFC.stages[0].groups, smallFC.stages[0].learningRate)
        #expect(star == smallFC)
    }

    /// Losses from 1 to their least at step 100 and to their end at step 1,000, where nothing diverges.
    private func result(_ task: String, _ optimizer: String, least: Double, end: Double, divergedAt: Int? = nil) -> RunResult {
        let points = LossCurve.points(horizons: [1000]).filter { $0 <= divergedAt ?? .max }
        var curve = LossCurve()
        (curve.steps, curve.losses) = (points, points.map { $0 < 50 ? 1 : $0 < 500 ? least : end })
        return RunResult(
            task: task, optimizer: optimizer, seed: 1, horizons: [1000], initialLoss: 1, divergedAt: divergedAt,
            outcomes: divergedAt == nil ? [RunResult.Outcome(horizon: 1000, trainingLoss: end)] : [], curve: curve, heldOut: HeldOutCurve(),
            endsWithHorizon: false)
    }

    @Test func `the table has ratios to tuned AdamW, what a loss has risen to from its least, and who diverged`() throws {
        let names = [TransferTasks.name, "settles", "rises", "diverges"]
        let evaluation = try Evaluation.transfer(
            tasks: names.map { Bowl(name: $0) }, weights: [NamedWeights("star")], horizons: [1000], seeds: 1)
        let star = evaluation.learned[0].id
        var results: [RunResult] = []
        for name in names {
            for (i, spec) in Baseline.adamW.specs.enumerated() { results.append(result(name, spec.id, least: 0.4, end: i == 3 ? 0.25 : 0.5)) }
        }
        results += [
            result(names[0], star, least: 0.125, end: 0.125), result(names[1], star, least: 0.25, end: 0.25),
            result(names[2], star, least: 0.1, end: 0.5), result(names[3], star, least: 0.5, end: 1, divergedAt: 700),
        ]
        let text = EvaluationReport(evaluation, results).transferText(evaluation)
        func row(_ name: String) throws -> String { String(try #require(text.split(separator: "\n").first { $0.hasPrefix(name + " ") })) }
        #expect(try row(names[0]).hasSuffix(" 0.500"))
        #expect(try row(names[1]).hasSuffix(" 1.00"))
        #expect(try row(names[2]).hasSuffix(" 2.00 (5.00)"))
        // Ten times the first loss, of which the least is a twentieth.
        #expect(try row(names[3]).hasSuffix(" 40.0 (20.0) \u{00d7}1"))
        // Without the task of meta-training: the cube root of 1 x 2 x 40.
        #expect(try row("mean").hasSuffix(" 4.31"))
        #expect(try row("tasks with a loss risen from its least").hasSuffix(" 2"))
        #expect(try row("tasks with a loss above the first").hasSuffix(" 1"))
    }
}
