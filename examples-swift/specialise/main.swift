// Specialises the shipped weights to one workload, and shows what that gained.
//
//     swift run -c release specialise [MINUTES] [FOLDER]
//
// The workload is in Arm.swift; to take one of your own, write a TrainingTask like it and name it here.
import Foundation
import LOptCore
import LOptMeta

/// The workload with whatever seed: what differs from unroll to unroll is start, minibatches and horizon.
struct OneWorkload: TaskSource {
    let task: any TrainingTask
    func task(_ seed: UInt64) -> any TrainingTask { task }
}

/// Ends the process with a line on standard error.
func end(_ line: String, _ code: Int32) -> Never {
    try? FileHandle.standardError.write(contentsOf: Data((line + "\n").utf8))
    exit(code)
}

let arguments = CommandLine.arguments
guard let minutes = arguments.count > 1 ? Double(arguments[1]) : 10, minutes > 0, minutes.isFinite, arguments.count <= 3 else {
    end("usage: specialise [MINUTES] [FOLDER]     (MINUTES is a number above 0, 10 if not given; FOLDER is specialised)", 2)
}
do {
    try await specialise(
        Arm(), minutes: minutes,
        folder: URL(filePath: arguments.count > 2 ? arguments[2] : "specialised", directoryHint: .isDirectory))
} catch {
    end("specialise: \(error)", 1)
}
if fflush(nil) != 0 { end("specialise: the output cannot be written", 1) }

func specialise(_ workload: some TrainingTask, minutes: Double, folder: URL) async throws {
    let threads = ProcessInfo.processInfo.activeProcessorCount

    // One stage, from the shipped weights on, with the horizons that the workload is trained for. It trains the nominal term and the
    // decays, some forty numbers: in ten minutes the network's hundreds would be a random walk.
    let shipped = try Weights(builtin: "star", allocator: .system)
    var stage = MetaTrainingConfiguration.Stage("nominal", outerSteps: 4000, groups: [.decays, .nominal, .lateDecay])
    stage.sigma = 0.04
    stage.clip = 2
    stage.learningRate = 4e-3
    stage.unrolls.shortestHorizon = 200
    stage.unrolls.longestHorizon = 2000
    stage.unrolls.reparameterized = 0
    stage.unrolls.scheduled = 0
    stage.unrolls.freeCost = 0
    var configuration = MetaTrainingConfiguration(stages: [stage])
    configuration.rule = shipped.architecture
    configuration.averaging = 0.98

    let trainer = try MetaTrainer(
        configuration, start: MetaParameters(continuing: shipped), tasks: OneWorkload(task: workload), threads: threads)
    let begin = ContinuousClock.now
    var clock = ProgressClock(every: .seconds(10))
    print("specialising 'star' to \(workload.name), \(workload.parameterCount) parameters, for \(minutes) minutes")
    try await trainer.run { state in
        let share = (ContinuousClock.now - begin) / .seconds(minutes * 60)
        if let left = clock.tick(share)?.left {
            print("  outer step \(state.outerStep), objective \(String(format: "%.3f", state.recentObjective)), \(left) left")
            fflush(nil)
            trainer.record(validation: nil)
        }
        return share > 1 ? .stop : .goOn
    }

    // Before and after, and tuned Adam, on starts and minibatches that were in no unroll.
    let directory = RunDirectory(folder.path)
    try directory.create()
    try directory.write(
        RunDirectory.Checkpoint(
            state: try trainer.checkpoint(), start: trainer.parameters.base, startName: "star", tasks: workload.name,
            commit: "unknown"),
        weights: trainer.weights())
    let evaluation = try Evaluation(
        tasks: [workload],
        weights: [
            NamedWeights("star"), NamedWeights(name: "specialised", weights: trainer.weights()),
        ],
        horizons: [200, 1000, 2000], seeds: 5)
    clock = ProgressClock()
    let results = try await evaluation.run(log: RunLog(directory: folder), threads: threads) { progress in
        if let left = clock.tick(progress.share)?.left { print("  evaluating: \(Int(100 * progress.share)) %, \(left) left") }
    }
    let report = EvaluationReport(evaluation, results)
    try report.write(evaluation, results, to: folder)
    print(report.losses(of: workload.name, evaluation))
    print("weights: \(directory.weightsURL.path); scripts/plot \(folder.path) draws the curves")
}
