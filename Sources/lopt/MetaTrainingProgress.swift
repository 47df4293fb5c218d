import Dispatch
import Foundation
import LOptCore
import LOptMeta

/// What is trained on: the distribution of small networks, one task, or one workload.
enum MetaTrainingTasks: TaskSource {
    case distribution(TaskDistribution)
    case one(any TrainingTask)
    case workload(CWorkload)

    func task(_ seed: UInt64) -> any TrainingTask {
        switch self {
        case .distribution(let tasks): tasks.task(seed)
        case .one(let task): task
        case .workload(let workload): workload
        }
    }

    /// For the provenance of weights.
    var name: String {
        switch self {
        case .distribution: TaskDistribution.name
        case .one(let task): task.name
        case .workload(let workload): workload.name
        }
    }

    /// Likewise.
    var dataSources: [String] {
        switch self {
        case .distribution: TaskDistribution.dataSources
        case .one(let task): [task.dataSource]
        case .workload(let workload): [workload.dataSource]
        }
    }

    /// Judged by tasks that are not trained on; or by the one task, at the longest horizon of the unrolls, from four starts that are in none.
    func validation(_ configuration: MetaTrainingConfiguration) throws -> Validation {
        switch self {
        case .distribution: Validation(tasks: try EvaluationSuite().validation, horizons: [200, 1000, 5000])
        case .one(let task):
            Validation(
                tasks: Array(repeating: task, count: 4), horizons: [configuration.stages.map(\.unrolls.longestHorizon).max() ?? 1])
        case .workload(let workload): Validation(tasks: [workload], horizons: [200, 1000])
        }
    }
}

/// A meta-trainer and where it came from.
struct MetaTrainingSession {
    let trainer: MetaTrainer<MetaTrainingTasks>
    let tasks: MetaTrainingTasks
    let startName: String
    let commit: String
    let dataSources: [String]?
    let ranks: any Ranks
}

/// Runs a meta-trainer: a line every few seconds, a checkpoint every few minutes, an orderly stop on an interrupt. Of several ranks
/// rank 0 decides, prints and writes.
final class MetaTrainingProgress {
    private let session: MetaTrainingSession
    private let directory: RunDirectory
    private let workers: Int
    private let validation: Validation
    private var trainer: MetaTrainer<MetaTrainingTasks> { session.trainer }
    private var isFirst: Bool { session.ranks.rank == 0 }

    /// Throws if the bundled data are not found.
    init(session: MetaTrainingSession, directory: RunDirectory, workers: Int) throws {
        validation = try session.tasks.validation(session.trainer.state.configuration)
        (self.session, self.directory, self.workers) = (session, directory, workers)
    }

    func run(minutes: Double?, checkpointMinutes: Double) async throws {
        let interrupt = Interrupt {
            standardError("meta-train: stopping after this outer step; once more stops at once, and keeps what was saved last")
        }
        let begin = ContinuousClock.now
        func elapsed() -> Double { (ContinuousClock.now - begin) / .seconds(1) }
        let total = trainer.state.configuration.outerSteps
        var isStopping = false
        var report = ProgressReport(trainer.state, expectedInnerSteps: trainer.expectedInnerSteps())
        while !trainer.isFinished && !isStopping {
            let checkpointAt = elapsed() + 60 * checkpointMinutes
            try await trainer.run { state in
                if isFirst { report.show(state) }
                isStopping = interrupt.isPending || minutes.map { elapsed() >= 60 * $0 } ?? false
                return isStopping || elapsed() >= checkpointAt ? .stop : .goOn
            }
            isStopping = session.ranks.decide(isStopping)
            try await save()
            report.restart()
        }
        guard isFirst else { return }
        let state = trainer.state
        print(
            state.outerStep < total
                ? "stopped at outer step \(state.outerStep) of \(total); go on with --resume --out \(directory.url.path)"
                : "done: \(total) outer steps, \(state.innerSteps) inner steps, \(Int(state.seconds)) s")
        print("weights: \(directory.weightsURL.path)")
    }

    private func save() async throws {
        var value: Double?
        if isFirst {
            value = await validation.objective(
                trainer.parameters, trainer.state.average, trainer.state.configuration.objective, threads: workers)
        }
        trainer.record(validation: value)
        let state = try trainer.checkpoint()
        guard isFirst, let value else { return }
        let checkpoint = RunDirectory.Checkpoint(
            state: state, start: trainer.parameters.base, startName: session.startName,
            tasks: session.tasks.name, commit: session.commit, dataSources: session.dataSources)
        try directory.write(checkpoint, weights: trainer.weights())
        print(String(format: "saved at outer step %d; objective on validation tasks %.4f", trainer.state.outerStep, value))
        fflush(nil)
    }
}

/// A line every few seconds: outer step, stage, throughput, the objective, the expected end.
private struct ProgressReport {
    private var clock = ProgressClock()
    /// Inner steps when this process began, and at the last line.
    private let begin: Int
    private var last: Int
    private let expectedInnerSteps: [Double]

    init(_ state: MetaTrainingState, expectedInnerSteps: [Double]) {
        (begin, last) = (state.innerSteps, state.innerSteps)
        self.expectedInnerSteps = expectedInnerSteps
    }

    /// After a pause that does not count.
    mutating func restart() { clock.restart() }

    mutating func show(_ state: MetaTrainingState) {
        let done = Double(state.innerSteps - begin)
        guard let (seconds, left) = clock.tick(done / (done + state.innerStepsLeft(expectedInnerSteps))) else { return }
        print(
            String(
                format: "%6d / %d  %@  %7.0f inner steps/s  objective %+.3f  diverged %4.1f %%  about %@ left",
                state.outerStep, state.configuration.outerSteps,
                state.currentStage.name.padding(toLength: 8, withPad: " ", startingAt: 0) as NSString,
                Double(state.innerSteps - last) / seconds, state.recentObjective, 100 * state.recentDiverged, left as NSString))
        fflush(nil)
        last = state.innerSteps
    }
}
