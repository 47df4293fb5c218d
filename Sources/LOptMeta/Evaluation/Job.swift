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
        let run = try TrainingRun(task, spec.method, seed: UInt64(seed))
        let points = LossCurve.points(horizons: horizons)
        var losses: [Float] = []
        losses.reserveCapacity(steps)
        var curve = LossCurve()
        var outcomes: [RunResult.Outcome] = []
        var divergedAt: Int?
        for t in 0..<steps {
            let loss = try run.step(learningRateScale: spec.schedule.scale(at: t, of: steps))
            guard loss.isFinite else {
                divergedAt = t
                break
            }
            losses.append(loss)
            guard t + 1 == points[curve.steps.count] else { continue }
            curve.steps.append(t + 1)
            curve.losses.append(LossCurve.value(of: losses, at: t + 1))
            if horizons.contains(t + 1) { outcomes.append(outcome(of: run, curve)) }
        }
        return RunResult(
            task: task.name, optimizer: spec.id, seed: seed, horizons: horizons,
            initialLoss: losses.first.map { Double($0) } ?? 0, divergedAt: divergedAt, outcomes: outcomes, curve: curve,
            isCosine: spec.schedule == .cosine)
    }

    private func outcome(of run: TrainingRun, _ curve: LossCurve) -> RunResult.Outcome {
        let heldOut = run.heldOutLoss.map { Double($0) }
        return RunResult.Outcome(
            horizon: run.steps, trainingLoss: curve.losses[curve.losses.count - 1],
            heldOutLoss: heldOut.flatMap { $0.isFinite ? $0 : nil })
    }
}
