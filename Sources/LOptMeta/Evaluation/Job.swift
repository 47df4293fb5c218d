import LOptCore

/// A run that an evaluation needs.
struct Job: Sendable {
    let task: any TrainingTask
    let spec: OptimizerSpec
    let seed: Int
    /// Ascending, at least one; exactly one where the schedule ends with it.
    let horizons: [Int]

    var steps: Int { horizons[horizons.count - 1] }
    var key: RunResult.Key {
        RunResult.Key(
            task: task.name, optimizer: spec.id, seed: seed, horizon: spec.schedule.endsWithHorizon ? steps : 0)
    }
    /// Of its share of the whole, for the expected end: a step costs some microseconds beside what its parameters cost.
    var cost: Double { Double(steps) * (Double(task.parameterCount) + 1000) }

    /// Throws what `Optimizer` throws.
    func run() throws -> RunResult {
        var settings = RunSettings(task: task, horizon: steps, seed: UInt64(seed))
        settings.schedule = spec.schedule
        // A baseline that comes back from far away counts by where it ends (`LossTable`).
        settings.divergenceFactor = .infinity
        let run = try TrainingRun(settings, spec.method, averaged: spec.isAveraged)
        var losses: [Float] = []
        losses.reserveCapacity(steps)
        var curve = LossCurve()
        var heldOut = HeldOutCurve()
        var outcomes: [RunResult.Outcome] = []
        let curvePoints = Set(LossCurve.points(horizons: horizons)), heldOutPoints = Set(HeldOutCurve.points(horizons: horizons))
        for point in curvePoints.union(heldOutPoints).sorted() {
            run.advance(point - run.step) { losses.append($1) }
            guard !run.hasDiverged else { break }
            if heldOutPoints.contains(point), let score = run.heldOutScore { heldOut.add(point, score) }
            guard curvePoints.contains(point) else { continue }
            curve.steps.append(point)
            curve.losses.append(LossCurve.value(of: losses, at: point))
            if horizons.contains(point) {
                outcomes.append(RunResult.Outcome(horizon: point, trainingLoss: curve.losses[curve.losses.count - 1]))
            }
        }
        return RunResult(
            task: task.name, optimizer: spec.id, seed: seed, horizons: horizons,
            initialLoss: run.firstLoss.isFinite ? run.firstLoss : 0, divergedAt: run.hasDiverged ? run.step - 1 : nil,
            outcomes: outcomes, curve: curve, heldOut: heldOut, endsWithHorizon: spec.schedule.endsWithHorizon)
    }
}
