import Foundation
import LOptCore

/// One workload, whatever the seed: what differs from unroll to unroll is start, minibatches and horizon.
public struct OneWorkload: TaskSource {
    public let task: any TrainingTask
    public init(_ task: any TrainingTask) { self.task = task }
    public func task(_ seed: UInt64) -> any TrainingTask { task }
}

/// Goes on with meta-training of weights on one workload, and shows what that gained.
public struct Specialisation: Sendable {
    public let workload: any TrainingTask
    public let base: NamedWeights
    /// Steps of the training runs that the weights are for; unrolls have a tenth of them to all.
    public let steps: Int
    public var seed: UInt64 = 1
    public var threads = ProcessInfo.processInfo.activeProcessorCount
    /// Runs of each optimizer when it is compared, of seeds that no unroll has.
    public var seeds = 5

    /// Throws an `LOptMetaError` for weights without a nominal term of their own size: of kind small_fc, or a star with its controller off.
    public init(of workload: any TrainingTask, from base: NamedWeights, steps: Int) throws {
        (self.workload, self.base, self.steps) = (workload, base, steps)
        let rule = base.weights.architecture
        guard rule.kind == .pooled || rule.kind == .star && rule.nominalController else {
            throw LOptMetaError(
                "weights '\(base.name)' are of kind \(rule.kind.name)\(rule.kind == .star ? " without nominal_controller" : ""); specialised can be "
                    + "those of kind pooled, and of kind star with nominal_controller")
        }
    }

    /// One stage, from the base on. It trains what decides on step size, weight decay and direction, some tens of numbers: in minutes the
    /// hundreds of a network would be a random walk.
    var configuration: MetaTrainingConfiguration {
        let rule = base.weights.architecture, isPooled = rule.kind == .pooled
        var stage = MetaTrainingConfiguration.Stage(
            "workload", outerSteps: 4000,
            groups: isPooled ? MetaParameters.Group.ofPooled : [.decays, .nominal, .lateDecay])
        stage.sigma = 0.04
        stage.clip = 2
        stage.learningRate = 4e-3
        stage.unrolls.shortestHorizon = max(steps / 10, 1)
        stage.unrolls.longestHorizon = steps
        stage.unrolls.reparameterized = 0
        stage.unrolls.scheduled = 0
        stage.unrolls.freeCost = 0
        if isPooled {
            // Half of the unrolls are told their length, as half of the users tell theirs.
            var episodes = Episodes()
            episodes.gated = 0
            stage.episodes = episodes
        }
        var configuration = MetaTrainingConfiguration(stages: [stage])
        configuration.rule = rule
        configuration.seed = seed
        configuration.averaging = 0.98
        return configuration
    }

    /// Trains for so many minutes, or until `report`, which is told of each outer step and the part of the time that is over, says stop,
    /// and leaves a run's three files in the folder.
    public func train(
        minutes: Double, into directory: RunDirectory, commit: String,
        report: (_ state: MetaTrainingState, _ share: Double) -> MetaTrainer<OneWorkload>.Order
    ) async throws -> NamedWeights {
        try directory.create()
        let trainer = try MetaTrainer(
            configuration, start: MetaParameters(continuing: base.weights), tasks: OneWorkload(workload), threads: threads)
        let begin = ContinuousClock.now
        var clock = ProgressClock(every: .seconds(10))
        try await trainer.run { state in
            let share = (ContinuousClock.now - begin) / .seconds(minutes * 60)
            if clock.tick(share) != nil { trainer.record(validation: nil) }
            return report(state, share) == .stop || share > 1 ? .stop : .goOn
        }
        trainer.record(validation: nil)
        try directory.write(
            RunDirectory.Checkpoint(
                state: try trainer.checkpoint(), start: trainer.parameters.base, startName: base.name, tasks: workload.name, commit: commit,
                dataSources: base.dataSources(with: [workload.dataSource])),
            weights: trainer.weights())
        return NamedWeights(name: "\(base.name)-specialised", weights: try trainer.weights())
    }

    /// Base and specialised weights beside tuned AdamW and the other rivals, on starts and minibatches that were in no unroll, for a tenth of
    /// the steps, half of them and all; the table, and in the folder what `lopt evaluate` leaves there.
    public func compare(_ specialised: NamedWeights, in folder: URL, report: (EvaluationProgress) -> Void) async throws -> String {
        let evaluation = try Evaluation(
            tasks: [workload], weights: [base, specialised], horizons: [max(steps / 10, 1), max(steps / 2, 1), steps], seeds: seeds)
        let results = try await evaluation.run(log: RunLog(directory: folder), threads: threads, report: report)
        let comparison = EvaluationReport(evaluation, results)
        try comparison.write(evaluation, results, to: folder)
        return comparison.losses(of: workload.name, evaluation)
    }
}
