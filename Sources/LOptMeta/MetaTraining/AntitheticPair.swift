import LOptCore

/// What one antithetic pair tells an outer step.
struct PairEstimate: Codable, Sendable {
    /// f(z + sigma d) - f(z - sigma d).
    var difference = 0.0
    /// d, of PES the sum of those since the unroll began.
    var direction: [Double] = []
    /// Of both unrolls: the mean of f, inner steps, and how many diverged.
    var value = 0.0
    var innerSteps = 0
    var diverged = 0
}

/// Two unrolls that differ in nothing but the sign of a perturbation, with the numbers that name it.
struct PairPlan: Sendable {
    let parameters: MetaParameters
    let objective: Objective
    let stage: MetaTrainingConfiguration.Stage
    /// The numbers of z that the stage trains; the others are not perturbed.
    let isTrained: [Bool]
    /// The iterate.
    let z: [Double]
    let seed: UInt64

    func direction() -> [Double] {
        var random = Random(seed, 0xe95)
        return isTrained.map { $0 ? random.normal() : 0 }
    }

    func weights(_ sign: Double, _ direction: [Double]) throws(LOptError) -> Weights {
        var moved = z
        for i in moved.indices { moved[i] += sign * stage.sigma * direction[i] }
        return try parameters.weights(moved)
    }

    /// Both unrolls to their horizon.
    func runWhole(_ tasks: some TaskSource) -> PairEstimate {
        let settings = stage.draw(tasks, seed: seed)
        var estimate = PairEstimate()
        estimate.direction = direction()
        var values: [Double] = []
        for sign in [1.0, -1.0] {
            do throws(LOptError) {
                var unroll = try Unroll(settings, objective, weights: weights(sign, estimate.direction))
                estimate.innerSteps += unroll.run(settings.horizon)
                estimate.diverged += unroll.hasDiverged ? 1 : 0
                values.append(unroll.value())
            } catch {
                // Weights that are not finite: as bad as a diverged run.
                estimate.diverged += 1
                values.append(objective.cap)
            }
        }
        estimate.difference = values[0] - values[1]
        estimate.value = (values[0] + values[1]) / 2
        return estimate
    }
}
