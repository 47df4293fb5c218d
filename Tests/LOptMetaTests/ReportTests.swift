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

    @Test func `numbers are printed as people write them`() {
        #expect(Format.short(0.012345) == "0.0123" && Format.short(12345.6) == "12346" && Format.short(1e-7) == "1.00e-07")
        #expect(Format.count(20_000) == "20,000" && Format.count(999) == "999" && Format.count(-1_234_567) == "-1,234,567")
        #expect([0, 1, 20, 1000, 0.05, 1e-6].map(Format.round) == ["0", "1", "20", "1,000", "0.05", "1e-6"])
    }
}
