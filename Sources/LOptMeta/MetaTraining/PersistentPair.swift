import Foundation
import LOptCore

/// A pair of unrolls that lives from one outer step to the next: with PES each time with a new perturbation, with nres with one for
/// its whole life.
///
/// One job at a time may touch it; the trainer sees to that (`rounds` > `delay`).
final class PersistentPair<Source: TaskSource>: @unchecked Sendable {
    private let tasks: Source
    private let plan: PersistentPairPlan
    /// How often it has begun anew.
    private var life: UInt64 = 0
    private var settings: RunSettings?
    private var positive = Branch(), negative = Branch()
    /// The sum of the directions of this life.
    private var accumulated: [Double] = []
    private var segment = 0

    /// One of the two unrolls, and the z of its weights.
    private struct Branch: ~Copyable {
        var unroll: Unroll?
        var z: [Double] = []
    }

    init(_ tasks: Source, _ plan: PersistentPairPlan) {
        (self.tasks, self.plan) = (tasks, plan)
    }

    /// Takes both unrolls one segment, or with reused noise one chunk, further.
    func advance(_ pair: PairPlan) -> PairEstimate {
        if pair.stage.method == .nres { return advanceChunk(pair) }
        var estimate = PairEstimate()
        let direction = pair.direction()
        if settings == nil { begin(pair) }
        guard let settings else { return estimate }
        for i in direction.indices { accumulated[i] += direction[i] }
        estimate.direction = accumulated
        let steps = PersistentPair.steps(segment, settings.horizon, pair.objective)
        let weight = pair.objective.weight(segment)
        let values = runBoth(direction, steps, pair, &estimate, worst: pair.objective.cap) { $0.unroll?.segmentValues()[segment] }
        estimate.difference = weight * Double(pair.objective.segments) * (values[0] - values[1])
        estimate.value = (values[0] + values[1]) / 2
        segment += 1
        let hasEnded = segment == pair.objective.segments || (life == 1 && segment >= plan.firstLifeSegments)
        if hasEnded || estimate.diverged == 2 { self.settings = nil }
        return estimate
    }

    private func advanceChunk(_ pair: PairPlan) -> PairEstimate {
        var estimate = PairEstimate()
        if settings == nil {
            begin(pair)
            accumulated = pair.direction()
        }
        guard let settings else { return estimate }
        estimate.direction = accumulated
        let parts = pair.stage.episodes ?? Episodes(), chunk = parts.chunk, part = Double(chunk) / Double(settings.horizon)
        let isLast = (segment + 1) * chunk >= settings.horizon
        let cap = pair.objective.cap, worst = (training: cap, heldOut: cap, end: cap)
        let values = runBoth(accumulated, chunk, pair, &estimate, worst: worst) { $0.unroll?.takeChunkValues() }
        func difference(_ a: Double, _ b: Double) -> Double { 2 * tanh((a - b) / 2) }
        let heldOut = difference(values[0].heldOut, values[1].heldOut)
        estimate.difference = part * (parts.training * difference(values[0].training, values[1].training) + parts.heldOut * heldOut)
        if isLast { estimate.difference += parts.trainingEnd * difference(values[0].end, values[1].end) + parts.heldOutEnd * heldOut }
        estimate.value = (values[0].heldOut + values[1].heldOut) / 2
        segment += 1
        if isLast || estimate.diverged == 2 || (life == 1 && segment >= plan.firstLifeSegments) { self.settings = nil }
        return estimate
    }

    /// Both branches `steps` steps further, on either side of the pair's z: their values, the positive one's first.
    private func runBoth<Value>(
        _ direction: [Double], _ steps: Int, _ pair: PairPlan, _ estimate: inout PairEstimate, worst: Value,
        _ read: (inout Branch) -> Value?
    ) -> [Value] {
        [1.0, -1.0].map { sign in
            var z = pair.z
            for i in z.indices { z[i] += sign * pair.stage.sigma * direction[i] }
            let branch = sign > 0
                ? run(&positive, z, steps, pair, worst: worst, read) : run(&negative, z, steps, pair, worst: worst, read)
            estimate.innerSteps += branch.steps
            estimate.diverged += branch.diverged ? 1 : 0
            return branch.value
        }
    }

    private func draw(_ stage: MetaTrainingConfiguration.Stage, _ life: UInt64) -> RunSettings {
        stage.draw(tasks, seed: Random.mix(plan.seed ^ Random.mix(life)))
    }

    private func begin(_ pair: PairPlan) {
        settings = draw(pair.stage, life)
        accumulated = [Double](repeating: 0, count: pair.z.count)
        segment = 0
        life += 1
        positive = Branch()
        negative = Branch()
    }

    private static func steps(_ segment: Int, _ horizon: Int, _ objective: Objective) -> Int {
        (segment + 1) * horizon / objective.segments - segment * horizon / objective.segments
    }

    /// Takes a branch `steps` steps further with the weights of z. The value is what `read` makes of it, or `worst` where there is none.
    private func run<Value>(
        _ branch: inout Branch, _ z: [Double], _ steps: Int, _ pair: PairPlan, worst: Value, _ read: (inout Branch) -> Value?
    ) -> (value: Value, steps: Int, diverged: Bool) {
        guard let settings else { return (worst, 0, true) }
        do throws(LOptError) {
            let weights = try pair.parameters.weights(z)
            if segment == 0 {
                branch.unroll = try Unroll(settings, pair.objective, weights: weights)
            } else {
                try branch.unroll?.setWeights(weights)
            }
            branch.z = z
        } catch {
            return (worst, 0, true)
        }
        let taken = branch.unroll?.run(steps) ?? 0
        return (read(&branch) ?? worst, taken, branch.unroll?.hasDiverged ?? true)
    }
}

struct PersistentPairPlan: Sendable {
    let seed: UInt64
    /// Its first life ends after so many segments, so that not all pairs begin anew at once.
    let firstLifeSegments: Int
}

// MARK: - Checkpoints

struct PersistentPairSnapshot: Codable, Sendable {
    var life: UInt64
    var segment: Int
    var accumulated: [Double]
    /// Of the positive and the negative unroll; none: the next segment begins a new life.
    var unrolls: [Unroll.Snapshot] = []
    /// Of the weights that they ran with last.
    var z: [[Double]] = []
}

extension PersistentPair {
    func snapshot() throws(LOptError) -> PersistentPairSnapshot {
        var snapshot = PersistentPairSnapshot(life: life, segment: segment, accumulated: accumulated)
        guard settings != nil else { return snapshot }
        if let one = try positive.unroll?.snapshot(), let other = try negative.unroll?.snapshot() {
            snapshot.unrolls = [one, other]
            snapshot.z = [positive.z, negative.z]
        }
        return snapshot
    }

    func restore(
        _ snapshot: PersistentPairSnapshot, _ parameters: MetaParameters, _ stage: MetaTrainingConfiguration.Stage,
        _ objective: Objective
    ) throws(LOptError) {
        life = snapshot.life
        segment = snapshot.segment
        accumulated = snapshot.accumulated
        guard snapshot.unrolls.count == 2, snapshot.z.count == 2 else { return }
        let drawn = draw(stage, life - 1)
        settings = drawn
        func resumed(_ i: Int) throws(LOptError) -> Unroll {
            var unroll = try Unroll(drawn, objective, weights: parameters.weights(snapshot.z[i]))
            try unroll.resume(snapshot.unrolls[i])
            return unroll
        }
        positive.unroll = try resumed(0)
        negative.unroll = try resumed(1)
        positive.z = snapshot.z[0]
        negative.z = snapshot.z[1]
    }
}
