import ArgumentParser
import Foundation
import LOptMeta

struct Specialise: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Goes on with meta-training of weights on one workload, a shared library in C, and shows what that gained.",
        discussion: """
            The library has the functions of lopt_workload.h; examples-c/workload.c is one. Training runs of a tenth of --steps to all of them \
            are made until the minutes are over, or Ctrl-C; then the new weights are compared with those that it began with, with tuned \
            AdamW and others, on seeds that were in no run.

            Writes DIR/weights.safetensors, for lopt_weights_load, run.json and checkpoint.json as meta-train does, and what evaluate leaves. \
            `lopt meta-train --resume --workload LIBRARY --out DIR` goes on with it.

              cc -O3 -shared -fPIC task.c -o libtask.so -lm
              lopt specialise --workload ./libtask.so --steps 1000
            """)

    @Option(help: ArgumentHelp("The library.", valueName: "file"))
    var workload: String
    @Option(help: ArgumentHelp("\(weightsKinds): what to begin with, of kind pooled or star."))
    var weights = "pooled"
    @Option(help: "Steps of the training that the weights are for.")
    var steps = 2000
    @Option(help: "How long to train; the comparison comes on top of it.")
    var minutes = 10.0
    @Option(help: "Folder for what is written; it is made if need be.")
    var out = "specialised"
    @Option(help: "Runs of each optimizer in the comparison.")
    var seeds = 5
    @Option(help: "Of all randomness.")
    var seed: UInt64 = 1
    @OptionGroup
    var threads: ThreadOptions

    func validate() throws {
        guard minutes > 0, minutes <= 1e6 else { throw ValidationError("--minutes is \(minutes); allowed is above 0 to 1000000") }
        guard (1...10_000_000).contains(steps) else { throw ValidationError("--steps is \(steps); allowed are 1 to 10000000") }
        guard (1...1000).contains(seeds) else { throw ValidationError("--seeds is \(seeds); allowed are 1 to 1000") }
    }

    func run() async throws {
        let task = try CWorkload(contentsOf: URL(filePath: workload))
        task.warnOfGradient()
        let directory = RunDirectory(out)
        guard !directory.hasCheckpoint else {
            throw LOptMetaError(
                "'\(directory.url.path)' holds a run already: name another folder, or go on with lopt meta-train --resume --workload \(workload) --out \(out)")
        }
        var specialisation = try Specialisation(of: task, from: NamedWeights(weights), steps: steps)
        (specialisation.seed, specialisation.seeds) = (seed, seeds)
        specialisation.threads = threads.count
        print(
            "'\(weights)' goes on with \(task.name): \(task.tensors.count) tensors, \(task.parameterCount) parameters, "
                + "\(task.hasHeldOutLoss ? "with" : "no") held-out loss")
        let interrupt = Interrupt { standardError("specialise: stopping after this outer step, and comparing; once more stops at once") }
        var clock = ProgressClock()
        let specialised = try await specialisation.train(minutes: minutes, into: directory, commit: currentCommit()) { state, share in
            if let left = clock.tick(share)?.left {
                standardError(
                    "specialise: outer step \(state.outerStep), objective \(String(format: "%.3f", state.recentObjective)), about \(left) left")
            }
            return interrupt.isPending ? .stop : .goOn
        }
        clock = ProgressClock()
        print(
            try await specialisation.compare(specialised, in: directory.url) { progress in
                if let left = clock.tick(progress.share)?.left {
                    standardError("specialise: comparing, \(Int(100 * progress.share)) %, about \(left) left")
                }
            })
        print("weights: \(directory.weightsURL.path); scripts/plot \(directory.url.path) draws the curves")
    }
}

extension CWorkload {
    /// Not an error: a loss may be one that has no slope to compare with.
    func warnOfGradient() {
        let ratio = gradientOverSlope
        guard !(0.8...1.25).contains(ratio) else { return }
        standardError(
            String(
                format: "warning: at the start the gradient of '%@' is %.3g times what the loss changes by along it; is one of them summed over the "
                    + "minibatch and the other a mean, or the sign another?", name as NSString, ratio))
    }
}
