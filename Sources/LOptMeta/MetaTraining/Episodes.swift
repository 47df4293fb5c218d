/// What the method nres knows beyond the unrolls that a stage draws.
public struct Episodes: Codable, Equatable, Sendable {
    /// Inner steps of a pair in an outer step.
    public var chunk = 50
    /// Part of the unrolls that are told their horizon; they have no schedule.
    public var known = 0.5
    /// Part of the unrolls in which some tensors' gradients come and go.
    public var gated = 0.12
    /// Weights of the objective's parts, values of `Objective` each: the training and the held-out loss along the way, with equal weight
    /// on every step, and at the end.
    public var training = 0.15
    public var heldOut = 0.5
    public var trainingEnd = 0.15
    public var heldOutEnd = 0.6

    public init() {}

    /// An unroll drawn for a stage, as an episode of the same seed.
    func amend(_ settings: RunSettings, seed: UInt64) -> RunSettings {
        var settings = settings, random = Random(seed, 0xe915)
        if random.bool(known) { settings.schedule = .known }
        guard random.bool(gated) else { return settings }
        settings.gates = settings.task.tensors.map { _ in
            let period = Int(random.logUniform(10...1000)), closed = Int(Double(period) * random.uniform(0.2...0.9))
            return GradientGate(
                period: period, closed: random.bool() ? closed : 0,
                factor: random.bool() ? 0 : Float(random.logUniform(1e-4...0.1)))
        }
        return settings
    }
}
