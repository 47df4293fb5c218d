import Foundation
import Testing

@testable import LOptMeta

struct ReportTests {
    @Test func `curves of every task are written: of each baseline's best member at the longest horizon, and of the weights`() async throws {
        let directory = ScratchDirectory()
        let evaluation = try Evaluation(
            tasks: [Bowl(), Bowl(name: "broken, \"early\"", breaksAt: 5)], weights: [NamedWeights("star")], horizons: [10, 30], seeds: 1, withSGDM: true)
        let results = try await evaluation.run(log: RunLog(directory: directory.url), threads: 2) { _ in }
        let report = EvaluationReport(evaluation, results)
        try report.write(evaluation, results, to: directory.url)
        struct Curve: Decodable {
            let task: String, series: String, optimizer: String, steps: [Int], losses: [Double]
        }
        let curves = try JSONDecoder().decode([Curve].self, from: directory.url.appending(path: "curves.json").readFile())
        for task in report.tasks {
            let own = curves.filter { $0.task == task.name }
            #expect(
                own.map(\.series) == [
                    "AdamW tuned", "AdamW tuned, cosine", "SGDM tuned", "SGDM tuned, cosine", "AdamW 0.001", "AdamW 0.001, cosine", "NAdamW",
                    "schedule-free AdamW", "Prodigy", "lopt star", "lopt star, known horizon", "lopt star, cosine", "lopt star, averaged",
                ])
            #expect(own.allSatisfy { $0.steps.last == 30 && $0.steps.count == $0.losses.count })
            let adam = task.losses.filter { $0.horizon == 30 && $0.optimizer.hasPrefix("adamw") && $0.optimizer.hasSuffix("constant") }
            #expect(own[0].losses.last == adam.map(\.trainingLoss).min())
        }
    }

    @Test func `held-out losses come first, training losses last but one, and every rival and mode is there`() async throws {
        let evaluation = try Evaluation(tasks: [Bowl(), Bowl(name: "other")], weights: [NamedWeights("star")], horizons: [20], seeds: 1)
        let results = try await evaluation.run(log: RunLog(directory: ScratchDirectory().url), threads: 2) { _ in }
        let report = EvaluationReport(evaluation, results), text = report.text(evaluation)
        let headings = [
            "HELD-OUT LOSS AT THE END", "HELD-OUT LOSS AND ACCURACY", "STEPS TO A HELD-OUT LOSS", "TRAINING LOSS", "TASK BY TASK",
        ].compactMap { text.range(of: $0)?.lowerBound }
        #expect(headings.count == 5 && headings == headings.sorted())
        for name in evaluation.baselines.map(\.name) + evaluation.learned.map(\.label) { #expect(text.contains(name), "\(name)") }
        // In the first table, the ratio of the report and the tasks won.
        let comparison = try #require(report.comparison(evaluation.learned[1], with: .prodigy, horizon: 20))
        let ratio = try #require(comparison.heldOutRatio?.value), wins = comparison.tasks.count { ($0.heldOutRatio ?? 1) < 1 }
        #expect(text.prefix(upTo: headings[1]).contains("\(Format.short(ratio)) (\(wins))"))
        #expect(comparison.worstTask == comparison.tasks.max { ($0.heldOutRatio ?? 0) < ($1.heldOutRatio ?? 0) }?.task)
    }

    @Test func `numbers are printed as people write them`() {
        #expect(Format.short(0.012345) == "0.0123" && Format.short(12345.6) == "12346" && Format.short(1e-7) == "1.00e-07")
        #expect(Format.count(20_000) == "20,000" && Format.count(999) == "999" && Format.count(-1_234_567) == "-1,234,567")
        #expect([0, 1, 20, 1000, 0.05, 1e-6].map(Format.round) == ["0", "1", "20", "1,000", "0.05", "1e-6"])
    }
}
