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

    private func run(_ evaluation: Evaluation, _ directory: ScratchDirectory, threads: Int) throws -> [RunResult] {
        try evaluation.run(log: RunLog(directory: directory.url), threads: threads) { _ in }
    }

    @Test func `the number of threads changes no byte of log and report`() throws {
        let evaluation = try evaluation(tasks)
        let files = try [1, 4].map { threads in
            let directory = ScratchDirectory()
            let results = try run(evaluation, directory, threads: threads)
            try EvaluationReport(evaluation, results).write(to: directory.url)
            return try ["runs.jsonl", "report.json"].map {
                try Data(contentsOf: directory.url.appendingPathComponent($0))
            }
        }
        #expect(files[0] == files[1])
    }

    @Test func `what is finished is not run again, and a line cut short is`() throws {
        let evaluation = try evaluation(tasks)
        let directory = ScratchDirectory()
        let first = try run(evaluation, directory, threads: 2)
        let file = directory.url.appendingPathComponent("runs.jsonl")
        let whole = try Data(contentsOf: file)
        try whole.dropLast(whole.count / 3).write(to: file)
        let kept = whole.dropLast(whole.count / 3).count { $0 == UInt8(ascii: "\n") }

        let log = try RunLog(directory: directory.url)
        let counter = Counter()
        let missing = evaluation.jobs().count { log.result($0.key) == nil }
        #expect(missing == first.count - kept)
        let again = try evaluation.run(log: log, threads: 2) { counter.value = $0.allRuns }
        #expect(counter.value == missing, "runs made: \(counter.value), missing were \(missing)")
        #expect(again == first)
        #expect(try Data(contentsOf: file) == whole)
    }

    @Test func `a task that changed is run again`() throws {
        let directory = ScratchDirectory()
        _ = try run(evaluation([Bowl()]), directory, threads: 2)
        let changed = try run(evaluation([Bowl(curvatures: [2, 0.1])]), directory, threads: 2)
        let fresh = try run(evaluation([Bowl(curvatures: [2, 0.1])]), ScratchDirectory(), threads: 2)
        #expect(changed == fresh)
    }

    @Test func `longer runs serve shorter horizons, with the same result`() throws {
        let directory = ScratchDirectory()
        _ = try run(evaluation(tasks, horizons: [20, 60]), directory, threads: 2)
        let short = try evaluation(tasks, horizons: [20])
        let reused = try run(short, directory, threads: 2)
        #expect(reused == (try run(short, ScratchDirectory(), threads: 2)))
    }

    @Test func `a line of the log that does not parse is named`() throws {
        let directory = ScratchDirectory()
        try FileManager.default.createDirectory(at: directory.url, withIntermediateDirectories: true)
        try Data("{}\n{}\n".utf8).write(to: directory.url.appendingPathComponent("runs.jsonl"))
        #expect(throws: EvaluationError.self) { try RunLog(directory: directory.url) }
    }

    @Test func `the baseline is the member with the least loss, and ratios are to it`() throws {
        let evaluation = try evaluation([tasks[1]])
        let results = try run(evaluation, ScratchDirectory(), threads: 2)
        let report = EvaluationReport(evaluation, results)
        let star = evaluation.learned[0]
        let losses = report.tasks[0].losses.filter { $0.horizon == 60 }
        let best = try #require(
            losses.filter { $0.optimizer.hasPrefix("adam") && $0.optimizer.hasSuffix("constant") }
                .min { $0.trainingLoss < $1.trainingLoss })
        let ours = try #require(losses.first { $0.optimizer == star.id })
        let entry = try #require(report.comparison(star, with: .adam, horizon: 60)?.tasks.first)
        #expect(entry.against == best.optimizer)
        let floor = LossTable.floorFactor * report.tasks[0].initialLoss
        let ratio = (ours.trainingLoss + floor) / (best.trainingLoss + floor)
        #expect(abs(entry.ratio - ratio) < 1e-12, "\(entry.ratio), not \(ratio)")
        let heldOut = try (#require(ours.heldOutLoss) + floor) / (#require(best.heldOutLoss) + floor)
        #expect(abs(try #require(entry.heldOutRatio) / heldOut - 1) < 1e-12)
    }

    @Test func `a run that diverges counts as ten times the initial loss, after the divergence only`() throws {
        let evaluation = try evaluation([tasks[2]])
        let report = EvaluationReport(evaluation, try run(evaluation, ScratchDirectory(), threads: 2))
        for entry in report.tasks[0].losses {
            let isCapped = entry.horizon == 60
            #expect(entry.divergences == (isCapped ? 2 : 0), "\(entry.optimizer) at \(entry.horizon)")
            #expect((entry.trainingLoss == 10 * report.tasks[0].initialLoss) == isCapped)
            #expect(entry.heldOutLoss == nil)
        }
        let comparison = try #require(report.comparison(evaluation.learned[0], with: .best, horizon: 60))
        #expect(comparison.divergences == 2 && comparison.ratio?.value == 1)
    }

    @Test func `a speed-up of an optimizer over itself is 1, and over a twice as slow one 2`() throws {
        func result(_ optimizer: String, slowness: Double) -> RunResult {
            let points = LossCurve.points(horizons: [1000])
            var curve = LossCurve()
            (curve.steps, curve.losses) = (points, points.map { 1 / (1 + Double($0) / slowness) })
            return RunResult(
                task: "bowl", optimizer: optimizer, seed: 1, horizons: [1000], initialLoss: 1, divergedAt: nil,
                outcomes: [RunResult.Outcome(horizon: 1000, trainingLoss: curve.losses.last ?? 0, heldOutLoss: nil)],
                curve: curve, isCosine: false)
        }
        let star = OptimizerSpec(.lopt(try NamedWeights("star")), .constant)
        for (slowness, expected) in [(10.0, 1.0), (5, 2)] {
            let results = [
                result(star.id, slowness: slowness), result(Baseline.untunedAdam.specs[0].id, slowness: 10),
            ]
            let comparison = Comparison(
                star, with: .untunedAdam, horizon: 1000, tasks: ["bowl"], LossTable(results, horizons: [1000]))
            let speedUp = try #require(comparison.tasks.first).speedUp
            #expect(abs(speedUp / expected - 1) < 0.08, "\(speedUp), not \(expected)")
        }
    }

    @Test func `names that do not exist or occur twice are refused`() throws {
        #expect(throws: EvaluationError.self) { try TaskList.select(["bowl", "cup"], from: tasks) }
        #expect(try TaskList.select(["steep"], from: tasks).map(\.name) == ["steep"])
        #expect(throws: EvaluationError.self) { try evaluation([Bowl(), Bowl()]) }
        #expect(throws: EvaluationError.self) { try evaluation([]) }
        #expect(throws: EvaluationError.self) { try evaluation(tasks, horizons: [0]) }
        #expect(throws: EvaluationError.self) { try NamedWeights("none-of-these") }
        #expect(throws: EvaluationError.self) { try NamedWeights("/nowhere/star.safetensors") }
    }
}

private final class Counter: @unchecked Sendable {
    var value = 0
}
