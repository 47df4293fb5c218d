import ArgumentParser
import Foundation
import LOptMeta

struct Evaluate: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Compares learned optimizers with AdamW, tuned and not, NAdamW, schedule-free AdamW and Prodigy.",
        discussion: """
            Every task, none of whose data meta-training sees, is trained with AdamW of 7 learning rates and 2 decays, constant and \
            with cosine decay; with AdamW, NAdamW, schedule-free AdamW and Prodigy as their libraries have them; and with the \
            learned optimizers, nothing tuned: constant, told the number of steps, with the same cosine, and judged at an average \
            of the parameters. Held-out loss and accuracy are taken along every run. Finished runs are kept in DIR/runs.jsonl; \
            after Ctrl-C the same command goes on where it was stopped. Results are tables, DIR/report.json and DIR/curves.json, \
            which scripts/plot draws; they do not depend on the number of threads.

              lopt evaluate --tasks mlp,noisy_regression --horizons 200 --seeds 1   # a minute on two cores
              lopt evaluate                              # all 34 tasks, 3 seeds, 200 and 1,000 steps: half an hour
              lopt evaluate --horizons 200,1000,5000     # two hours
              lopt evaluate --weights runs/a --weights runs/b            # folders of lopt meta-train
              lopt evaluate --validation --weights runs/a --weights runs/b   # which of them is to be evaluated
              lopt evaluate --transfer --weights runs/star-1 --weights runs/small_fc-1 --horizons 2000,10000   # meta-trained on one task

            Weights whose file says that they were meta-trained on the data of a task are refused.
            """)

    @Option(help: ArgumentHelp("\(weightsKinds); may be given several times."))
    var weights: [String] = ["pooled"]

    @Option(help: "Only tasks whose names contain this, or one of several separated by commas.")
    var tasks: String?

    @Flag(help: "The tasks that judge a run of meta-training, on its data, to choose among weights; not the evaluation's.")
    var validation = false

    @Flag(help: "The paper's experiment: the tasks are those that weights meta-trained on one are moved to, beside AdamW tuned and not.")
    var transfer = false

    @Option(help: "Numbers of steps, separated by commas.")
    var horizons = "200,1000"

    @Option(help: "Runs of each optimizer on each task.")
    var seeds = 3

    @Flag(
        inversion: .prefixedNo,
        help: "Momentum SGD of 9 learning rates among the baselines too; an evaluation takes half as long again.")
    var sgdm = false

    @Option(help: "Directory for runs, report and curves.")
    var out = "evaluation"

    @Option(help: "Runs at a time; the default is the number of processors.")
    var threads = ProcessInfo.processInfo.activeProcessorCount

    @Flag(help: "List the tasks and stop.")
    var list = false

    func validate() throws {
        guard (1...1024).contains(threads) else {
            throw ValidationError("--threads is \(threads); allowed are 1 to 1024")
        }
        if validation && transfer { throw ValidationError("--validation and --transfer each name tasks; give one") }
        if transfer && sgdm { throw ValidationError("--transfer compares with AdamW alone; --sgdm does not go with it") }
        guard (1...1000).contains(seeds) else { throw ValidationError("--seeds is \(seeds); allowed are 1 to 1000") }
        _ = try horizonList()
    }

    func run() async throws {
        let tasks = try TaskList.select(
            self.tasks.map(splitList) ?? [], from: transfer ? TaskList.transfer() : validation ? TaskList.validation() : TaskList.all())
        guard !list else {
            for task in tasks { print("\(task.name)  \(task.tensors.count) tensors, \(task.parameterCount) parameters") }
            return
        }
        let weights = try NamedWeights.all(weights)
        if !validation && !transfer { for weights in weights { try weights.requireUnseen(tasks) } }
        let evaluation = try transfer
            ? Evaluation.transfer(tasks: tasks, weights: weights, horizons: horizonList(), seeds: seeds)
            : Evaluation(tasks: tasks, weights: weights, horizons: horizonList(), seeds: seeds, withSGDM: sgdm)
        let directory = URL(fileURLWithPath: out, isDirectory: true)
        let log = try RunLog(directory: directory)
        let interrupt = Interrupt { [url = log.url] in
            standardError(
                "evaluate: stopped; \(RunLog.count(in: url)) finished runs are kept in \(url.path), and the same command goes on from them")
            _exit(130)
        }
        standardError("evaluate: what is finished is kept in \(log.url.path), whenever you stop it")
        var clock = ProgressClock()
        let results = try await evaluation.run(log: log, threads: threads) { progress in
            guard let left = clock.tick(progress.share)?.left else { return }
            standardError(
                "evaluate: \(progress.runs) of \(progress.allRuns) runs, \(Int(100 * progress.share)) %, about \(left) left")
        }
        withExtendedLifetime(interrupt) {}
        let report = EvaluationReport(evaluation, results)
        try report.write(evaluation, results, to: directory)
        print(transfer ? report.transferText(evaluation) : report.text(evaluation), terminator: "")
        print("\nwritten to \(directory.path)")
    }

    private func horizonList() throws -> [Int] {
        try splitList(horizons).map { text in
            guard let steps = Int(text), (1...10_000_000).contains(steps) else {
                throw ValidationError("--horizons has '\(text)'; allowed are whole numbers from 1 to 10000000")
            }
            return steps
        }
    }
}

func splitList(_ text: String) -> [String] {
    text.split(separator: ",").map { $0.trimmingCharacters(in: .whitespaces) }
}
