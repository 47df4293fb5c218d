import ArgumentParser
import Foundation
import LOptMeta

struct Ranges: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Measures what weights see while they train the tasks of meta-training, and writes weights that are clamped to it.",
        discussion: """
            The last thing to do with weights that were meta-trained. Every statistic of a tensor that the log-step reads, and the \
            log-step itself, gets the range in which it lies in training runs drawn as meta-training draws them (statistics_ranges \
            of kind pooled, tensor_ranges of star), so that nothing outside of training can make steps that training never saw; and \
            a tensor whose gradient is 0 rests (skip_idle_tensors). All other numbers stay as they are. About a minute; the \
            ranges do not depend on the number of threads.

              lopt ranges runs/pooled/weights.safetensors --out pooled.safetensors
            """)

    @Argument(help: ArgumentHelp("\(weightsKinds), of kind pooled or with the extension tensor_scale."))
    var weights: String
    @Option(help: "The weights file to write; without it the ranges are only printed.")
    var out: String?
    @Option(help: "Training runs.")
    var runs = 400
    @Option(help: "The part of all values that is left out at either end.")
    var tail = 0.003
    @Option(help: "Of all randomness.")
    var seed: UInt64 = 1
    @OptionGroup
    var threads: ThreadOptions

    func validate() throws {
        guard (1...1_000_000).contains(runs) else { throw ValidationError("--runs is \(runs); allowed are 1 to 1000000") }
        guard tail >= 0, tail < 0.5 else { throw ValidationError("--tail is \(tail); allowed are 0 to below 0.5") }
    }

    func run() async throws {
        let named = try NamedWeights(weights)
        var ranges = StatisticRanges()
        (ranges.runs, ranges.tail, ranges.seed) = (runs, tail, seed)
        let recipe = named.weights.architecture.kind == .pooled ? Recipe.pooled : Recipe.star
        let stages = recipe.configuration().stages, stage = stages[stages.count - 1]
        var clock = ProgressClock()
        let bounded = try await ranges.bounded(
            named, try TaskDistribution(), stage: stage, threads: threads.count
        ) { done in
            guard let left = clock.tick(Double(done) / Double(runs))?.left else { return }
            standardError("ranges: \(done) of \(runs) runs, about \(left) left")
        }
        print(WeightsInspection(bounded).rangesText)
        guard let out else { return }
        let note = "lopt ranges, commit \(currentCommit()), \(runs) runs of tasks \(TaskDistribution.name), tail \(tail), seed \(seed)"
        let notes = named.notes.map { ($0.key, $0.value) }.filter { $0.0 != "ranges" } + [("ranges", note)]
        try bounded.weights.write(to: URL(filePath: out), notes: notes)
        print("wrote \(out)")
    }
}
