/// Unrolls that meta-training is judged by while it runs: always the same ones, constant scale, no reparameterisation.
public struct Validation: Sendable {
    public let unrolls: [RunSettings]

    /// Each task at each horizon.
    public init(tasks: [any TrainingTask], horizons: [Int]) {
        unrolls = tasks.enumerated().flatMap { i, task in
            horizons.map { RunSettings(task: task, horizon: $0, seed: Random.mix(UInt64(i) + 0x7a11)) }
        }
    }

    /// The mean objective of the weights at z.
    public func objective(
        _ parameters: MetaParameters, _ z: [Double], _ objective: Objective, threads: Int
    ) async -> Double {
        let values = await concurrentMap(unrolls, threads: threads) { Validation.value($0, parameters, z, objective) }
        return values.reduce(0, +) / Double(max(values.count, 1))
    }

    private static func value(
        _ settings: RunSettings, _ parameters: MetaParameters, _ z: [Double], _ objective: Objective
    ) -> Double {
        guard let weights = try? parameters.weights(z),
            var unroll = try? Unroll(settings, objective, weights: weights)
        else { return objective.cap }
        _ = unroll.run(settings.horizon)
        return unroll.value()
    }
}
