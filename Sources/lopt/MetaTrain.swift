import ArgumentParser
import Foundation
import LOptCore
import LOptMeta

struct MetaTrain: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "meta-train",
        abstract: "Meta-trains the weights of a learned optimizer by evolution strategies.",
        discussion: """
            Writes DIR/weights.safetensors, DIR/run.json (configuration, curve, commit) and DIR/checkpoint.json, every few \
            minutes and at the end; an interrupt (Ctrl-C) stops after the outer step, and all that was done is kept. --resume goes \
            on from the checkpoint, bit for bit. The result depends on the configuration and its seed, not on the number of threads.

            Under Open MPI's mpirun the pairs of an outer step are divided among the ranks, on one machine or many that share the folder; \
            the numbers are those of one process, and a run goes on with any number of ranks.

            A recipe has stages; --print-configuration shows all values as JSON, to be changed and given to --configuration.

              lopt meta-train --out runs/pooled                                   # an hour on two cores; all day with --effort 10
              lopt meta-train --out runs/pooled --resume
              lopt ranges runs/pooled/weights.safetensors --out pooled.safetensors
              lopt meta-train --recipe small_fc --effort 0.1 --out runs/small_fc  # 15 minutes
              mpirun -n 4 lopt meta-train --out runs/pooled                       # four processes
              lopt meta-train --workload ./libtask.so --start pooled --out runs/mine
              lopt meta-train --recipe star-one-task --task mlp_fashion_32_relu_b64 --out runs/star-1
            """)

    @Option(help: "Folder of the run; it is made if need be.")
    var out: String?
    @Option(help: "\(Recipe.allCases.map(\.rawValue).joined(separator: ", ")); pooled if none is named.")
    var recipe: Recipe?
    @Option(help: ArgumentHelp("Takes all values from a JSON file in place of a recipe.", valueName: "file"))
    var configuration: String?
    @Flag(help: "Prints the configuration as JSON and ends.")
    var printConfiguration = false
    @Flag(help: "Goes on from the checkpoint in the folder.")
    var resume = false
    @Option(help: ArgumentHelp(
        "Starts from weights and their rule, instead of from the rule's own start. \(weightsKinds).", valueName: "weights"))
    var start: String?
    @Flag(help: "With --start: adds the extensions of the configuration's rule that the weights lack, at 0, where they change nothing.")
    var extend = false
    @Option(help: ArgumentHelp(
        "Trains on this workload alone, a shared library with the functions of lopt_workload.h.", valueName: "file"))
    var workload: String?
    @Option(help: ArgumentHelp("Trains on this task alone; lopt evaluate --list and lopt evaluate --transfer --list have the names.", valueName: "name"))
    var task: String?
    @Option(help: "Multiplies the outer steps of all stages of the recipe; 1 if not given.")
    var effort: Double?
    @Option(help: "Of all randomness.")
    var seed: UInt64?
    @OptionGroup
    var threads: ThreadOptions
    @Option(help: "Stops after this many minutes, to be resumed.")
    var minutes: Double?
    @Option(help: "Minutes between checkpoints.")
    var checkpointMinutes = 3.0

    func validate() throws {
        if let effort, !(effort > 0 && effort <= 1e6) {
            throw ValidationError("--effort is \(effort); allowed is above 0 to 1000000")
        }
        if configuration != nil, recipe != nil || effort != nil {
            throw ValidationError("--configuration stands in place of --recipe and --effort")
        }
        guard checkpointMinutes > 0 else {
            throw ValidationError("checkpoint-minutes is \(checkpointMinutes); it must be above 0")
        }
        guard out != nil || printConfiguration else { throw ValidationError("--out is needed: the folder of the run") }
        guard task == nil || workload == nil else { throw ValidationError("--task and --workload each name what is trained on; give one") }
        guard start != nil || !extend else { throw ValidationError("--extend says how to take over weights: it needs --start") }
        if resume && start != nil {
            throw ValidationError("--resume goes on with the weights of the checkpoint; --start does not go with it")
        }
    }

    func run() async throws {
        if printConfiguration {
            print(String(decoding: try JSONEncoder.readable.encode(chosenConfiguration()), as: UTF8.self))
            return
        }
        let directory = RunDirectory(out ?? "")
        let workers = threads.count
        let ranks = try OpenMPI.ranks()
        let session = try resume ? resumed(directory, workers, ranks) : begun(directory, workers, ranks)
        let progress = try MetaTrainingProgress(session: session, directory: directory, workers: workers)
        try await progress.run(minutes: minutes, checkpointMinutes: checkpointMinutes)
        (ranks as? OpenMPI)?.finish()
    }

    private func chosenConfiguration() throws -> MetaTrainingConfiguration {
        guard let configuration else { return (recipe ?? .pooled).configuration(effort: effort ?? 1, seed: seed ?? 1) }
        var chosen = try MetaTrainingConfiguration(contentsOf: URL(filePath: configuration))
        if let seed { chosen.seed = seed }
        return chosen
    }

    private func begun(_ directory: RunDirectory, _ workers: Int, _ ranks: any Ranks) throws -> MetaTrainingSession {
        guard !directory.hasCheckpoint else {
            throw LOptMetaError(
                "'\(directory.url.path)' holds a run already: go on with --resume, or name another folder")
        }
        var chosen = try chosenConfiguration()
        let parameters: MetaParameters, tasks = try chosenTasks()
        var dataSources = tasks.dataSources
        if let start {
            let named = try NamedWeights(start)
            dataSources = named.dataSources(with: dataSources)
            let kind = named.weights.architecture.kind
            guard kind == chosen.rule.kind else {
                throw LOptMetaError(
                    "--start '\(start)' has weights of kind \(kind.name), and \(configurationName) is made for \(chosen.rule.kind.name)")
            }
            parameters = extend
                ? MetaParameters(continuing: named.weights, extendedBy: chosen.rule)
                : MetaParameters(continuing: named.weights)
            chosen.rule = parameters.architecture
        } else {
            parameters = MetaParameters(structuredStartOf: chosen.rule, seed: chosen.seed)
        }
        try directory.create()
        let trainer = try MetaTrainer(chosen, start: parameters, tasks: tasks, threads: workers, ranks: ranks)
        return MetaTrainingSession(
            trainer: trainer, tasks: tasks, startName: start ?? RunDirectory.structuredStart, commit: currentCommit(),
            dataSources: dataSources, ranks: ranks)
    }

    private func resumed(_ directory: RunDirectory, _ workers: Int, _ ranks: any Ranks) throws -> MetaTrainingSession {
        guard directory.hasCheckpoint else {
            throw LOptMetaError("there is no checkpoint in '\(directory.url.path)' to resume from")
        }
        let checkpoint = try directory.readCheckpoint()
        try checkThatChosen(is: checkpoint)
        let architecture = checkpoint.state.configuration.rule
        guard let parameters = MetaParameters(continuing: checkpoint.start, of: architecture) else {
            throw LOptMetaError("the start in '\(directory.checkpointURL.path)' does not fit its rule")
        }
        let tasks = try chosenTasks()
        guard tasks.name == checkpoint.tasks else {
            throw LOptMetaError(
                "'\(out ?? "")' was begun with the tasks \(checkpoint.tasks), not with \(tasks.name); --task names one task, --workload a library")
        }
        let trainer = try MetaTrainer(resuming: checkpoint.state, start: parameters, tasks: tasks, threads: workers, ranks: ranks)
        return MetaTrainingSession(
            trainer: trainer, tasks: tasks, startName: checkpoint.startName, commit: checkpoint.commit,
            dataSources: checkpoint.dataSources, ranks: ranks)
    }

    private func chosenTasks() throws -> MetaTrainingTasks {
        if let task { return .one(try TaskList.task(task)) }
        guard let workload else { return .distribution(try TaskDistribution()) }
        let task = try CWorkload(contentsOf: URL(filePath: workload))
        task.warnOfGradient()
        return .workload(task)
    }

    /// A run goes on with what it was begun with; whoever names something else would wait for another result than that.
    private func checkThatChosen(is checkpoint: RunDirectory.Checkpoint) throws {
        var begun = checkpoint.state.configuration
        guard recipe != nil || configuration != nil || effort != nil || seed != nil else { return }
        // A seed alone says nothing about the rest.
        var chosen = begun
        if recipe != nil || configuration != nil || effort != nil { chosen = try chosenConfiguration() }
        if let seed { chosen.seed = seed } else { begun.seed = chosen.seed }
        guard let what = chosen.difference(from: begun, exceptRule: checkpoint.startName != RunDirectory.structuredStart)
        else { return }
        throw LOptMetaError(
            "'\(out ?? "")' was begun with another configuration than is named here (\(what)); --resume alone goes on with its own, "
                + "which is in run.json")
    }

    private var configurationName: String {
        configuration.map { "the configuration '\($0)'" } ?? "the recipe \((recipe ?? .pooled).rawValue)"
    }
}

extension Recipe: ExpressibleByArgument {}

/// The commit of the working directory's repository, to be written beside what was made with it; "unknown" elsewhere.
func currentCommit() -> String {
    let git = Process(), output = Pipe()
    git.executableURL = URL(filePath: "/usr/bin/env")
    git.arguments = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
    git.standardOutput = output
    git.standardError = FileHandle.nullDevice
    guard (try? git.run()) != nil else { return "unknown" }
    let text = String(decoding: output.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
    git.waitUntilExit()
    let commit = text.trimmingCharacters(in: .whitespacesAndNewlines)
    return git.terminationStatus == 0 && !commit.isEmpty ? commit : "unknown"
}
