import Foundation
import Testing

@testable import LOptMeta

struct EvaluationTests {
    private let tasks: [Bowl] = [
        Bowl(noise: 0.1), Bowl(name: "steep", curvatures: [30, 3, 0.3], noise: 0.1),
        Bowl(name: "broken", breaksAt: 30, hasHeldOutLoss: false),
    ]

    private func evaluation(_ tasks: [any TrainingTask], horizons: [Int] = [20, 60]) throws -> Evaluation {
        try Evaluation(tasks: tasks, weights: [NamedWeights("star")], horizons: horizons, seeds: 2)
    }

    private func run(_ evaluation: Evaluation, _ directory: ScratchDirectory, threads: Int) async throws -> [RunResult] {
        try await evaluation.run(log: RunLog(directory: directory.url), threads: threads) { _ in }
    }

    @Test func `the number of threads changes no byte of log and report`() async throws {
        let evaluation = try evaluation(tasks)
        var files: [[Data]] = []
        for threads in [1, 4] {
            let directory = ScratchDirectory()
            let results = try await run(evaluation, directory, threads: threads)
            try EvaluationReport(evaluation, results).write(evaluation, results, to: directory.url)
            files.append(try ["runs.jsonl", "report.json", "curves.json"].map { try Data(contentsOf: directory.url.appendingPathComponent($0)) })
        }
        #expect(files[0] == files[1])
    }

    @Test func `what is finished is not run again, and a line cut short is`() async throws {
        let evaluation = try evaluation(tasks)
        let directory = ScratchDirectory()
        let first = try await run(evaluation, directory, threads: 2)
        let file = directory.url.appendingPathComponent("runs.jsonl")
        let whole = try Data(contentsOf: file)
        try whole.dropLast(whole.count / 3).write(to: file)
        let kept = whole.dropLast(whole.count / 3).count { $0 == UInt8(ascii: "\n") }

        let log = try RunLog(directory: directory.url)
        var made = 0
        let missing = evaluation.jobs().count { log.result($0.key) == nil }
        #expect(missing == first.count - kept)
        let again = try await evaluation.run(log: log, threads: 2) { made = $0.allRuns }
        #expect(made == missing, "runs made: \(made), missing were \(missing)")
        #expect(again == first)
        #expect(try Data(contentsOf: file) == whole)
    }

    @Test func `a task that changed is run again`() async throws {
        let directory = ScratchDirectory()
        _ = try await run(evaluation([Bowl()]), directory, threads: 2)
        let changed = try await run(evaluation([Bowl(curvatures: [2, 0.1])]), directory, threads: 2)
        let fresh = try await run(evaluation([Bowl(curvatures: [2, 0.1])]), ScratchDirectory(), threads: 2)
        #expect(changed == fresh)
    }

    @Test func `longer runs serve shorter horizons, with the same result`() async throws {
        let directory = ScratchDirectory()
        _ = try await run(evaluation(tasks, horizons: [20, 60]), directory, threads: 2)
        let short = try evaluation(tasks, horizons: [20])
        let reused = try await run(short, directory, threads: 2)
        #expect(reused == (try await run(short, ScratchDirectory(), threads: 2)))
    }

    @Test func `a line of the log that does not parse is named`() throws {
        let directory = ScratchDirectory()
        try FileManager.default.createDirectory(at: directory.url, withIntermediateDirectories: true)
        try Data("{}\n{}\n".utf8).write(to: directory.url.appendingPathComponent("runs.jsonl"))
        #expect(throws: LOptMetaError.self) { try RunLog(directory: directory.url) }
    }

    @Test func `the baseline is the member with the least loss, and ratios are to it`() async throws {
        let evaluation = try evaluation([tasks[1]])
        let results = try await run(evaluation, ScratchDirectory(), threads: 2)
        let report = EvaluationReport(evaluation, results)
        let star = evaluation.learned[0]
        let losses = report.tasks[0].losses.filter { $0.horizon == 60 }
        let best = try #require(
            losses.filter { $0.optimizer.hasPrefix("adamw") && $0.optimizer.hasSuffix("constant") }
                .min { $0.trainingLoss < $1.trainingLoss })
        let ours = try #require(losses.first { $0.optimizer == star.id })
        let entry = try #require(report.comparison(star, with: .adamW, horizon: 60)?.tasks.first)
        #expect(entry.against == best.optimizer)
        let floor = LossTable.floorFactor * report.tasks[0].initialLoss
        let ratio = (ours.trainingLoss + floor) / (best.trainingLoss + floor)
        #expect(abs(entry.ratio - ratio) < 1e-12, "\(entry.ratio), not \(ratio)")
        // On held-out losses it is another member, that with the least of these.
        let adams = losses.filter { $0.optimizer.hasPrefix("adamw") && $0.optimizer.hasSuffix("constant") }
        for (found, measure) in [(entry.heldOutRatio, \.heldOutLoss), (entry.bestHeldOutRatio, \.bestHeldOutLoss)]
            as [(Double?, KeyPath<EvaluationReport.LossEntry, Double?>)]
        {
            let least = try #require(adams.compactMap { $0[keyPath: measure] }.min())
            let expected = try (#require(ours[keyPath: measure]) + floor) / (least + floor)
            #expect(abs(try #require(found) / expected - 1) < 1e-12)
        }
        #expect(entry.heldOutAgainst == adams.min { ($0.heldOutLoss ?? 0) < ($1.heldOutLoss ?? 0) }?.optimizer)
    }

    @Test func `a run that diverges counts as ten times the initial loss, after the divergence only`() async throws {
        let evaluation = try evaluation([tasks[2]])
        let report = EvaluationReport(evaluation, try await run(evaluation, ScratchDirectory(), threads: 2))
        for entry in report.tasks[0].losses {
            let isCapped = entry.horizon == 60
            #expect(entry.divergences == (isCapped ? 2 : 0), "\(entry.optimizer) at \(entry.horizon)")
            #expect((entry.trainingLoss == 10 * report.tasks[0].initialLoss) == isCapped)
            #expect(entry.heldOutLoss == nil && entry.accuracy == nil)
        }
        let comparison = try #require(report.comparison(evaluation.learned[0], with: .adamW, horizon: 60))
        #expect(comparison.divergences == 2 && comparison.ratio?.value == 1)
    }

    @Test func `a speed-up of an optimizer over itself is 1, and over a twice as slow one 2`() throws {
        func result(_ optimizer: String, slowness: Double) -> RunResult {
            let points = LossCurve.points(horizons: [1000])
            var curve = LossCurve()
            (curve.steps, curve.losses) = (points, points.map { 1 / (1 + Double($0) / slowness) })
            return RunResult(
                task: "bowl", optimizer: optimizer, seed: 1, horizons: [1000], initialLoss: 1, divergedAt: nil,
                outcomes: [RunResult.Outcome(horizon: 1000, trainingLoss: curve.losses.last ?? 0)], curve: curve,
                heldOut: HeldOutCurve(), endsWithHorizon: false)
        }
        let star = OptimizerSpec(.lopt(try NamedWeights("star")), .constant)
        for (slowness, expected) in [(10.0, 1.0), (5, 2)] {
            let results = [
                result(star.id, slowness: slowness), result(Baseline.untunedAdamW.specs[0].id, slowness: 10),
            ]
            let comparison = Comparison(
                star, with: .untunedAdamW, horizon: 1000, tasks: ["bowl"], LossTable(results, horizons: [1000]))
            let speedUp = try #require(comparison.tasks.first).speedUp
            #expect(abs(speedUp / expected - 1) < 0.08, "\(speedUp), not \(expected)")
        }
    }

    @Test func `what was never reached counts as 0 in the median speed-up, and not as its bound in a mean`() throws {
        // Curves that fall to a floor of their own; the baseline's is 0.1 on every task.
        func result(_ task: String, _ optimizer: String, slowness: Double, floor: Double) -> RunResult {
            let points = LossCurve.points(horizons: [1000])
            var curve = LossCurve()
            (curve.steps, curve.losses) = (points, points.map { max(1 / (1 + Double($0) / slowness), floor) })
            return RunResult(
                task: task, optimizer: optimizer, seed: 1, horizons: [1000], initialLoss: 1, divergedAt: nil,
                outcomes: [RunResult.Outcome(horizon: 1000, trainingLoss: floor)], curve: curve, heldOut: HeldOutCurve(),
                endsWithHorizon: false)
        }
        let star = OptimizerSpec(.lopt(try NamedWeights("star")), .constant), adam = Baseline.untunedAdamW.specs[0].id
        // Four times as fast on two of five tasks, twice on one, never there on two: whatever the others' bounds, the third is 2.
        let ours: [(slowness: Double, floor: Double)] = [(2.5, 0.01), (2.5, 0.01), (5, 0.01), (10, 0.5), (10, 0.11)]
        func comparison(_ kept: [Int]) -> Comparison {
            let results = kept.flatMap { i in
                [
                    result("task\(i)", star.id, slowness: ours[i].slowness, floor: ours[i].floor),
                    result("task\(i)", adam, slowness: 10, floor: 0.1),
                ]
            }
            return Comparison(
                star, with: .untunedAdamW, horizon: 1000, tasks: kept.map { "task\($0)" }, LossTable(results, horizons: [1000]))
        }
        let all = comparison([0, 1, 2, 3, 4])
        #expect(all.tasks.map(\.isReached) == [true, true, true, false, false])
        #expect(all.reached == 3)
        #expect(all.speedUp?.value == all.tasks[2].speedUp && abs(all.tasks[2].speedUp / 2 - 1) < 0.15, "\(all.tasks[2].speedUp)")
        // Bounds of 0.1 and above would lift a mean; most of these were never reached.
        #expect(comparison([2, 3, 4]).speedUp?.value == 0)
        #expect(comparison([2, 3]).speedUp?.value == 0, "the lower of the two in the middle")
        #expect(comparison([0]).speedUp?.value == comparison([0]).tasks[0].speedUp)
    }

    @Test func `held-out data are looked at along a run and at its end, and a horizon has the same moments in a longer run`() async throws {
        let directory = ScratchDirectory()
        let both = try evaluation([tasks[0]], horizons: [100, 400])
        let results = try await run(both, directory, threads: 2)
        for result in results {
            #expect(result.heldOut.steps == HeldOutCurve.points(horizons: result.horizons) && result.heldOut.accuracies == nil)
            #expect(result.heldOut.losses.allSatisfy { $0 != nil })
        }
        #expect(HeldOutCurve.points(horizon: 400).count >= 20 && HeldOutCurve.points(horizon: 400).last == 400)
        let alone = try evaluation([tasks[0]], horizons: [100])
        let (one, other) = try await (run(alone, directory, threads: 2), run(alone, ScratchDirectory(), threads: 2))
        #expect(one == other)
    }

    private func curve(_ losses: [Int: Double], horizon: Int, accuracy: [Int: Double]? = nil, until: Int = .max) -> HeldOutCurve {
        var (result, last, right) = (HeldOutCurve(), 1.0, 0.0)
        for step in HeldOutCurve.points(horizon: horizon) where step <= until {
            last = losses[step] ?? last
            right = accuracy?[step] ?? right
            result.add(step, HeldOutScore(loss: Float(last), accuracy: accuracy.map { _ in Float(right) }))
        }
        return result
    }

    @Test func `the best moment is each seed's own, the end is the end, and what diverged counts as its cap and as wrong`() throws {
        let a = curve([20: 0.5, 60: 0.25, 80: 0.75], horizon: 100, accuracy: [50: 0.75, 80: 0.5])
        let b = curve([80: 0.5], horizon: 100, accuracy: [20: 0.25, 90: 1])
        let summary = try #require(HeldOutSummary([(a, 10), (b, 10)], horizon: 100, hasAccuracy: true))
        #expect((summary.end, summary.best) == (0.625, 0.375))
        #expect(summary.accuracy == 0.75 && summary.bestAccuracy == 0.875)
        let early = curve([20: 0.5], horizon: 100, accuracy: [20: 1], until: 50)
        let broken = try #require(HeldOutSummary([(early, 10)], horizon: 100, hasAccuracy: true))
        #expect((broken.end, broken.best, broken.accuracy, broken.bestAccuracy) == (10, 0.5, 0, 1))
    }

    @Test func `steps to a loss lie on the line between two moments`() throws {
        let summary = try #require(HeldOutSummary([(curve([50: 0.5, 55: 0.25], horizon: 100), 10)], horizon: 100, hasAccuracy: false))
        #expect(summary.stepsToReach(0.5) == 50 && summary.stepsToReach(0.375) == 52.5 && summary.stepsToReach(0.75) == 47.5)
        #expect(summary.stepsToReach(0.2) == nil && summary.stepsToReach(2) == 1)
    }

    @Test func `a performance profile counts tasks within a factor of the fastest, to a target of three quarters of the steps`() throws {
        // On both tasks AdamW has 0.5 after 40 steps, and 0.1 after the three quarters, which is no target.
        let adam = Baseline.adamW.specs[3], star = OptimizerSpec(.lopt(try NamedWeights("star")), .constant)
        func result(_ task: String, _ spec: OptimizerSpec, _ losses: [Int: Double]) -> RunResult {
            var training = LossCurve()
            training.steps = LossCurve.points(horizons: [100])
            training.losses = training.steps.map { _ in 1 }
            return RunResult(
                task: task, optimizer: spec.id, seed: 1, horizons: [100], initialLoss: 1, divergedAt: nil,
                outcomes: [RunResult.Outcome(horizon: 100, trainingLoss: 1)], curve: training, heldOut: curve(losses, horizon: 100),
                endsWithHorizon: false)
        }
        let table = LossTable(
            [
                result("a", adam, [35: 0.6, 40: 0.5, 80: 0.1]), result("a", star, [15: 0.6, 20: 0.5]),
                result("b", adam, [35: 0.6, 40: 0.5, 80: 0.1]), result("b", star, [100: 0.51]),
            ], horizons: [100])
        let profile = TargetProfile([("AdamW", [adam]), ("lopt", [star])], horizon: 100, tasks: ["a", "b"], table)
        #expect(profile.targets == [0.5, 0.5])
        let (theirs, ours) = (profile.contestants[0], profile.contestants[1])
        #expect(theirs.steps == [40, 40] && ours.steps == [20, nil] && ours.reached == 1)
        #expect(theirs.parts == [0.5, 0.5, 1, 1, 1] && ours.parts == [0.5, 0.5, 0.5, 0.5, 0.5])
        #expect(abs(theirs.score - 5.0 / 6) < 1e-12 && abs(ours.score - 0.5) < 1e-12)
    }

    @Test func `weights of two runs have names of their own, from their folders`() throws {
        let directory = ScratchDirectory()
        func put(_ path: String) throws -> String {
            let url = directory.url.appending(path: path)
            try FileManager.default.createDirectory(at: url.deletingLastPathComponent(), withIntermediateDirectories: true)
            try FileManager.default.copyItem(atPath: "weights/star.safetensors", toPath: url.path)
            return url.path
        }
        let a = try put("one/weights.safetensors"), b = try put("two/weights.safetensors")
        let folder = directory.url.appending(path: "one").path
        #expect(try NamedWeights.all([a, b]).map(\.name) == ["one", "two"])
        #expect(try NamedWeights.all([folder, b, "star"]).map(\.name) == ["one", "two", "star"])
        let c = try put("other/one/weights.safetensors"), d = try put("other/star.safetensors"), e = try put("third/star.safetensors")
        #expect(try NamedWeights.all([a, c]).map(\.name).map { $0.hasSuffix("-one") } == [true, true])
        #expect(try NamedWeights.all([c, d, e, "star"]).map(\.name) == ["one", "other-star", "third-star", "star"])
        #expect(throws: LOptMetaError.self) { try Evaluation(tasks: [Bowl()], weights: NamedWeights.all([a, a]), horizons: [1], seeds: 1) }
        #expect(throws: Never.self) { try Evaluation(tasks: [Bowl()], weights: NamedWeights.all([a, c]), horizons: [1], seeds: 1) }
    }

    @Test func `what the system refuses is one line with the path and its reason`() throws {
        let directory = ScratchDirectory()
        func expect(_ path: String, _ reason: String, _ body: () throws -> Void) {
            #expect { try body() } throws: { "\($0)" == "'\(path)' cannot be \(reason)" }
        }
        try FileManager.default.createDirectory(at: directory.url, withIntermediateDirectories: true)
        let file = directory.url.appending(path: "file").path, within = file + "/folder"
        try Data("{}\n".utf8).write(to: URL(filePath: file))
        expect(within, "made: Not a directory") { _ = try RunLog(directory: URL(filePath: within)) }
        expect(within, "made: Not a directory") { try RunDirectory(within).create() }
        expect(within + "/checkpoint.json", "read: Not a directory") { _ = try RunDirectory(within).readCheckpoint() }
        let none = directory.url.appending(path: "none").path
        expect(none, "read: No such file or directory") { _ = try MetaTrainingConfiguration(contentsOf: URL(filePath: none)) }
        expect(directory.url.path, "read: Is a directory") { _ = try MetaTrainingConfiguration(contentsOf: directory.url) }
        expect("/dev/full", "written: No space left on device") { try URL(filePath: "/dev/full").writeFile(Data("x".utf8)) }
        var status = stat()
        #expect(stat("/dev/full", &status) == 0 && status.st_mode & S_IFMT == S_IFCHR, "a device is not replaced")
    }

    @Test func `names that do not exist or occur twice are refused`() throws {
        #expect(throws: LOptMetaError.self) { try TaskList.select(["bowl", "cup"], from: tasks) }
        #expect(try TaskList.select(["steep"], from: tasks).map(\.name) == ["steep"])
        #expect(throws: LOptMetaError.self) { try evaluation([Bowl(), Bowl()]) }
        #expect(throws: LOptMetaError.self) { try evaluation([]) }
        #expect(throws: LOptMetaError.self) { try evaluation(tasks, horizons: [0]) }
        #expect(throws: LOptMetaError.self) { try NamedWeights("none-of-these") }
        #expect(throws: LOptMetaError.self) { try NamedWeights("/nowhere/star.safetensors") }
    }
}
