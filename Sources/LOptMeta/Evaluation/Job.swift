import LOptCore

/// A run that an evaluation needs.
struct Job: Sendable {
    let task: any TrainingTask
    let spec: OptimizerSpec
    let seed: Int
    /// Ascending, at least one. Of a cosine exactly one.
    let horizons: [Int]

    var steps: Int { horizons[horizons.count - 1] }
    var key: RunResult.Key {
        RunResult.Key(
            task: task.name, optimizer: spec.id, seed: seed, horizon: spec.schedule == .cosine ? steps : 0)
    }
    /// Of its share of the whole, for the expected end: a step costs some microseconds beside what its parameters cost.
    var cost: Double { Double(steps) * (Double(task.parameterCount) + 1000) }

    /// Throws what `Optimizer` throws.
    func run() throws -> RunResult {
        var settings = RunSettings(task: task, horizon: steps, seed: UInt64(seed))
        settings.schedule = spec.schedule
        // A baseline that comes back from far away counts by where it ends (`LossTable`).
        settings.divergenceFactor = .infinity
        let run = try TrainingRun(settings, spec.method)
        var losses: [Float] = []
        losses.reserveCapacity(steps)
        var curve = LossCurve()
        var outcomes: [RunResult.Outcome] = []
        for point in LossCurve.points(horizons: horizons) {
            run.advance(point - run.step) { losses.append($1) }
            guard !run.hasDiverged else { break }
            curve.steps.append(point)
            curve.losses.append(LossCurve.value(of: losses, at: point))
            if horizons.contains(point) { outcomes.append(outcome(of: run, curve)) }
        }
        return RunResult(
            task: task.name, optimizer: spec.id, seed: seed, horizons: horizons,
            initialLoss: run.firstLoss.isFinite ? run.firstLoss : 0, divergedAt: run.hasDiverged ? run.step - 1 : nil,
            outcomes: outcomes, curve: curve, isCosine: spec.schedule == .cosine)
    }

    private func outcome(of run: TrainingRun, _ curve: LossCurve) -> RunResult.Outcome {
        let heldOut = run.heldOutLoss.map { Double($0) }
        return RunResult.Outcome(
            horizon: run.step, trainingLoss: curve.losses[curve.losses.count - 1],
            heldOutLoss: heldOut.flatMap { $0.isFinite ? $0 : nil })
    }
}
