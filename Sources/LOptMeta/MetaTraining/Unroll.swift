import Foundation
import LOptCore

/// A training run of a learned optimizer with the losses of its segments, from which follows its objective. It can be stopped after
/// any step, kept as a snapshot and gone on with, with other weights too.
public struct Unroll: ~Copyable {
    public let objective: Objective
    private let training: TrainingRun
    private let rule: LearnedOptimizer
    /// Sum and number of the losses of each segment.
    private var segmentSums: [Double]
    private var segmentSteps: [Int]
    /// Of the steps since `takeChunkValues`, and of the last tenth of the run so far.
    private var chunk = Losses(), ending = Losses()

    public init(_ settings: RunSettings, _ objective: Objective, weights: borrowing Weights) throws(LOptError) {
        let parameters = TaskParameters(settings)
        rule = try LearnedOptimizer(weights, parameters)
        training = TrainingRun(parameters, rule)
        self.objective = objective
        segmentSums = Array(repeating: 0, count: objective.segments)
        segmentSteps = Array(repeating: 0, count: objective.segments)
    }

    public var settings: RunSettings { training.settings }
    /// As `TrainingRun` has them.
    public var step: Int { training.step }
    public var hasDiverged: Bool { training.hasDiverged }
    public var isFinished: Bool { training.isFinished }
    public var firstLoss: Double { training.firstLoss }

    /// Goes on with other weights of the same architecture.
    public mutating func setWeights(_ weights: borrowing Weights) throws(LOptError) { try rule.setWeights(weights) }

    /// Runs up to `steps` steps and returns how many it took: fewer at the horizon, or when the run diverges.
    public mutating func run(_ steps: Int) -> Int {
        let (training, objective) = (training, objective)
        return training.advance(steps) { step, loss in
            let segment = objective.segment(step, of: training.settings.horizon)
            segmentSums[segment] += Double(loss)
            segmentSteps[segment] += 1
            chunk.add(loss)
            if step >= training.settings.horizon - max(training.settings.horizon / 10, 1) { ending.add(loss) }
        }
    }

    // MARK: The objective

    /// Values of all segments: of those not reached by a diverged run, the cap.
    public func segmentValues() -> [Double] {
        (0..<objective.segments).map { i in
            // A horizon shorter than the number of segments leaves some empty: the next one speaks for them.
            var next = i
            while next < objective.segments - 1 && segmentSteps[next] == 0 { next += 1 }
            let steps = segmentSteps[next]
            guard steps > 0, !(hasDiverged && next >= objective.segment(step, of: settings.horizon)) else { return objective.cap }
            return objective.value(meanLoss: segmentSums[next] / Double(steps), first: firstLoss)
        }
    }

    /// Of a run that is finished.
    public func value() -> Double {
        var values = segmentValues()
        if settings.endsWithHeldOutLoss, !hasDiverged, let loss = training.heldOutLoss {
            let value = objective.value(meanLoss: Double(loss), first: firstLoss)
            for i in values.indices.suffix(max(values.count / 10, 1)) { values[i] = value }
        }
        return objective.combine(values)
    }

    /// For the method nres: values of the mean loss since the last call, of the held-out loss now, of the mean loss at the end so far.
    mutating func takeChunkValues() -> (training: Double, heldOut: Double, end: Double) {
        defer { chunk = Losses() }
        guard !hasDiverged, chunk.steps > 0 else { return (objective.cap, objective.cap, objective.cap) }
        let mean = objective.value(meanLoss: chunk.mean, first: firstLoss)
        let heldOut = training.heldOutLoss.map { objective.value(meanLoss: Double($0), first: firstLoss) } ?? mean
        return (mean, heldOut, objective.value(meanLoss: ending.mean, first: firstLoss))
    }

    /// The statistics of a tensor in the last step, and behind them its log-step; nil if the tensor was idle.
    func lastStatistics(_ tensor: Int) throws(LOptError) -> [Float]? {
        if rule.optimizer.architecture.kind == .pooled {
            guard let values = try rule.optimizer.pooledStatistics(tensor), try rule.optimizer.statistics(tensor).gradientRMS > 0
            else { return nil }
            return values.indices.map { Float(values[$0]) }
        }
        guard let values = try rule.optimizer.lastStatistics(tensor), let logStep = try rule.optimizer.lastLogStep(tensor),
            try rule.optimizer.statistics(tensor).gradientRMS > 0
        else { return nil }
        return (0..<rule.optimizer.architecture.statistics).map { Float(values[$0]) } + [Float(logStep)]
    }

    // MARK: Snapshots

    /// An unroll as it stands, to be gone on with in another process.
    public struct Snapshot: Codable, Sendable {
        fileprivate var step: Int
        fileprivate var hasDiverged: Bool
        fileprivate var firstLoss: Double?
        fileprivate var segmentSums: [Double]
        fileprivate var segmentSteps: [Int]
        fileprivate var ending: Losses?
        fileprivate var optimizer: Data
        /// Bits of `TaskWorker.state`, which need not be finite; nil: there is none.
        fileprivate var worker: [UInt32]?
    }

    public func snapshot() throws(LOptError) -> Snapshot {
        Snapshot(
            step: step, hasDiverged: hasDiverged, firstLoss: firstLoss.isFinite ? firstLoss : nil,
            segmentSums: segmentSums, segmentSteps: segmentSteps, ending: ending, optimizer: try rule.checkpoint(),
            worker: training.workerState.isEmpty ? nil : training.workerState.map(\.bitPattern))
    }

    /// Goes on where the snapshot was taken; settings and weights are those of then. Throws `.checkpoint` and `.mismatch` if
    /// they are not.
    public mutating func resume(_ snapshot: Snapshot) throws(LOptError) {
        let state = (snapshot.worker ?? []).map { Float(bitPattern: $0) }
        guard state.count == training.workerState.count else {
            throw LOptError(.mismatch, "the snapshot has \(state.count) running statistics, its task \(training.workerState.count)")
        }
        try rule.restore(snapshot.optimizer)
        training.resume(
            step: snapshot.step, hasDiverged: snapshot.hasDiverged, firstLoss: snapshot.firstLoss ?? .nan, workerState: state)
        (segmentSums, segmentSteps, ending) = (snapshot.segmentSums, snapshot.segmentSteps, snapshot.ending ?? Losses())
    }
}

/// A mean of losses as it grows.
private struct Losses: Codable, Sendable {
    var sum = 0.0
    var steps = 0
    var mean: Double { sum / Double(max(steps, 1)) }

    mutating func add(_ loss: Float) { (sum, steps) = (sum + Double(loss), steps + 1) }
}
