import Foundation
import LOptCore

/// Searches the meta-parameters of a rule by evolution strategies.
///
/// Everything is a function of configuration, start and tasks: estimates are computed on as many threads and ranks as there are,
/// and added up in the order of their numbers. `run` may be called again to go on.
public final class MetaTrainer<Source: TaskSource> {
    public let parameters: MetaParameters
    public private(set) var state: MetaTrainingState
    private let tasks: Source
    private let threads: Int
    private let ranks: any Ranks
    private var persistent: [PersistentPair<Source>] = []

    /// What the caller wants after an outer step.
    public enum Order: Sendable { case goOn, stop }

    /// A new run. Throws `LOptMetaError`.
    public init(
        _ configuration: MetaTrainingConfiguration, start: MetaParameters, tasks: Source, threads: Int, ranks: any Ranks = OneRank()
    ) throws {
        try configuration.validate()
        parameters = start
        self.tasks = tasks
        self.threads = max(threads, 1)
        self.ranks = ranks
        state = MetaTrainingState(configuration, count: start.count)
    }

    /// A run that goes on from a checkpoint; start and tasks are those of then.
    public init(
        resuming state: MetaTrainingState, start: MetaParameters, tasks: Source, threads: Int, ranks: any Ranks = OneRank()
    ) throws {
        try state.configuration.validate()
        guard state.average.count == start.count, state.iterates.allSatisfy({ $0.count == start.count }),
            !state.iterates.isEmpty
        else {
            throw LOptMetaError("the checkpoint has \(state.average.count) numbers, its start \(start.count)")
        }
        parameters = start
        self.state = state
        self.tasks = tasks
        self.threads = max(threads, 1)
        self.ranks = ranks
        try revive()
    }

    public var isFinished: Bool { state.outerStep >= state.configuration.outerSteps }

    /// The average of the iterates as weights.
    public func weights() throws(LOptError) -> Weights { try parameters.weights(state.average) }

    /// Inner steps of an outer step of each stage, about: to tell when a run will end.
    public func expectedInnerSteps() -> [Double] {
        let segments = Double(state.configuration.objective.segments)
        return state.configuration.stages.map { stage in
            let whole = stage.unrolls.meanHorizon(tasks) * Double(2 * stage.pairs)
            return switch stage.method {
            case .full: whole
            case .pes: whole / segments
            case .nres: Double(2 * stage.pairs * (stage.episodes ?? Episodes()).chunk)
            }
        }
    }

    // MARK: The loop

    /// Estimates that were asked for: a queue of batches, one for each outer step.
    private struct Batches {
        /// Estimates of the batches from the one of the next update on, in the order of their pairs.
        var estimates: [[PairEstimate?]] = []
        /// The next pair to be asked for.
        var batch: Int
        var pair = 0
        /// The first batch that is not begun any more.
        var end = Int.max

        /// Behind the last batch of which a pair was asked for.
        var begun: Int { pair > 0 ? batch + 1 : batch }
    }

    /// Runs until all outer steps are done or `afterStep` says stop; returns when nothing is in flight, with a state that can be
    /// saved. `afterStep` sees the state after each update; of several ranks that of rank 0 decides. All of them call it.
    public func run(afterStep: (MetaTrainingState) -> Order) async throws {
        var clock = ContinuousClock.now
        var batches = Batches(batch: state.outerStep + state.pending.count)
        batches.estimates = state.pending.map { $0 as [PairEstimate?] }
        state.pending = []
        if isFinished { batches.end = batches.begun }
        var failure: (any Error)?
        await runConcurrently(threads: threads) {
            do {
                while batches.end == .max, let done = try completeBatch(&batches) {
                    update(done)
                    let now = ContinuousClock.now
                    state.seconds += (now - clock) / .seconds(1)
                    clock = now
                    if ranks.decide(afterStep(state) == .stop) || isFinished { batches.end = ranks.largest(batches.begun) }
                }
            } catch {
                failure = error
                return nil
            }
            return nextJob(&batches)
        } take: { (batch: Int, pair: Int, estimate: PairEstimate) in
            batches.estimates[batch - state.outerStep][pair] = estimate
        }
        if let failure { throw failure }
        state.pending = try batches.estimates.map { try ranks.complete($0, isOwn: ranks.owns) }
    }

    private typealias Job = @Sendable () -> (batch: Int, pair: Int, estimate: PairEstimate)

    /// The next estimate that this rank can compute now, if there is one. When stopping, batches begun are completed, no others begin.
    private func nextJob(_ batches: inout Batches) -> Job? {
        let configuration = state.configuration
        while batches.batch < min(configuration.outerSteps, batches.end), batches.batch <= state.outerStep + configuration.delay {
            let batch = batches.batch, pair = batches.pair
            let (index, step) = configuration.stage(of: batch)
            let stage = configuration.stages[index]
            if pair == 0 {
                if batches.estimates.count <= batch - state.outerStep {
                    batches.estimates.append([PairEstimate?](repeating: nil, count: stage.pairs))
                }
                if stage.method.keepsPairs && (step == 0 || persistent.isEmpty) { persistent = newPersistent(index, stage) }
            }
            batches.pair += 1
            if batches.pair == stage.pairs { (batches.batch, batches.pair) = (batch + 1, 0) }
            guard ranks.owns(pair) else { continue }
            let plan = PairPlan(
                parameters: parameters, objective: configuration.objective, stage: stage, isTrained: isTrained(stage),
                z: state.iterate(after: batch - configuration.delay),
                seed: Random.mix(Random.mix(configuration.seed ^ Random.mix(UInt64(batch))) ^ UInt64(pair)))
            switch stage.method {
            case .full:
                return { [tasks] in (batch, pair, plan.runWhole(tasks)) }
            case .pes, .nres:
                let one = persistent[step % stage.rounds * stage.pairs + pair]
                return { (batch, pair, one.advance(plan)) }
            }
        }
        return nil
    }

    /// The estimates of the next update, those of other ranks among them, if all that are this rank's are there.
    private func completeBatch(_ batches: inout Batches) throws -> [PairEstimate]? {
        guard let first = batches.estimates.first, first.indices.allSatisfy({ first[$0] != nil || !ranks.owns($0) }) else { return nil }
        batches.estimates.removeFirst()
        return try ranks.complete(first, isOwn: ranks.owns)
    }

    private func isTrained(_ stage: MetaTrainingConfiguration.Stage) -> [Bool] {
        parameters.groups.map { stage.groups.contains($0) }
    }

    private func update(_ estimates: [PairEstimate]) {
        let configuration = state.configuration
        let (index, step) = configuration.stage(of: state.outerStep)
        let stage = configuration.stages[index]
        if step == 0 { state.outer = OuterOptimizer(count: parameters.count) }
        var gradient = [Double](repeating: 0, count: parameters.count)
        for estimate in estimates {
            let clipped = stage.clip * tanh(estimate.difference / stage.clip)
            let factor = clipped / (2 * stage.sigma * Double(estimates.count))
            for i in gradient.indices { gradient[i] += factor * estimate.direction[i] }
            state.innerSteps += estimate.innerSteps
            state.recent.value += estimate.value
            state.recent.pairs += 1
            state.recent.diverged += estimate.diverged
        }
        var z = state.iterate(after: state.outerStep)
        state.outer.step(
            &z, gradient: gradient, stage: stage, progress: Double(step) / Double(stage.outerSteps),
            isTrained: isTrained(stage), decays: parameters.groups.map { $0 == .network })
        state.outerStep += 1
        state.iterates.append(z)
        if state.iterates.count > configuration.delay + 1 { state.iterates.removeFirst() }
        // Early on, the plain mean of what there is.
        let weight = max(1 - configuration.averaging, 1 / Double(state.outerStep))
        for i in z.indices { state.average[i] += weight * (z[i] - state.average[i]) }
    }

    // MARK: The curve

    /// Adds a point to the curve: means since the last one.
    public func record(validation: Double?) {
        guard state.recent.pairs > 0 else { return }
        state.curve.append(
            MetaTrainingPoint(
                outerStep: state.outerStep, seconds: state.seconds, innerSteps: state.innerSteps,
                objective: state.recent.value / Double(state.recent.pairs),
                diverged: Double(state.recent.diverged) / Double(2 * state.recent.pairs), validation: validation))
        state.recent = MetaTrainingState.Recent()
    }

    // MARK: Pairs that live on

    private func newPersistent(_ index: Int, _ stage: MetaTrainingConfiguration.Stage) -> [PersistentPair<Source>] {
        let segments = state.configuration.objective.segments
        return (0..<stage.pairs * stage.rounds).map { i in
            let seed = Random.mix(state.configuration.seed ^ Random.mix(UInt64(index) << 32 | UInt64(i) | 1 << 62))
            return PersistentPair(tasks, PersistentPairPlan(seed: seed, firstLifeSegments: 1 + i % segments))
        }
    }

    /// The state with what is needed to go on, to be saved when nothing is in flight (after `run`). All ranks call it.
    public func checkpoint() throws -> MetaTrainingState {
        var saved = state
        let own = try persistent.enumerated().map { i, pair in ownsPersistent(i) ? try pair.snapshot() : nil }
        saved.persistent = try ranks.complete(own, isOwn: ownsPersistent)
        return saved
    }

    /// The stage of the last batch that was begun, when nothing is in flight.
    private var begunStage: (index: Int, stage: MetaTrainingConfiguration.Stage) {
        let index = state.configuration.stage(of: max(state.outerStep + state.pending.count - 1, 0)).index
        return (index, state.configuration.stages[index])
    }

    private func ownsPersistent(_ index: Int) -> Bool { ranks.owns(index % begunStage.stage.pairs) }

    private func revive() throws {
        let saved = state.persistent
        state.persistent = []
        let (index, stage) = begunStage
        guard !saved.isEmpty, stage.method.keepsPairs else { return }
        persistent = newPersistent(index, stage)
        guard persistent.count == saved.count else {
            throw LOptMetaError("the checkpoint has \(saved.count) persistent pairs, its stage \(persistent.count)")
        }
        for (i, s) in saved.enumerated() where ownsPersistent(i) {
            try persistent[i].restore(s, parameters, stage, state.configuration.objective)
        }
    }
}
