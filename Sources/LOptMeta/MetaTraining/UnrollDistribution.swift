/// How unrolls are drawn.
public struct UnrollDistribution: Codable, Equatable, Sendable {
    /// Horizons are drawn log-uniformly from this range of steps.
    public var shortestHorizon = 50
    public var longestHorizon = 3000
    /// Part of the unrolls with a schedule, cosine or linear.
    public var scheduled = 0.25
    /// Part of the unrolls that are reparameterised by one factor in [1/2, 4]; half of them also by 1.5 or 1/1.5 per tensor.
    public var reparameterized = 0.5
    /// Part of the unrolls that end with the held-out loss, of tasks that have one.
    public var heldOut = 0.5
    /// Microseconds: an unroll that costs more is drawn less often, in proportion to cost ^ -1/2. 0: all are drawn alike.
    public var freeCost = 3000.0

    public init() {}

    /// The same for the same seed.
    public func draw(_ tasks: some TaskSource, seed: UInt64) -> RunSettings {
        var random = Random(seed, 0xd4a3)
        while true {
            let task = tasks.task(random.next())
            let horizon = Int(random.logUniform(Double(shortestHorizon)...Double(max(longestHorizon, shortestHorizon))))
            let cost = Double(horizon) * task.stepCost
            if freeCost > 0 && random.uniform() > (freeCost / cost).squareRoot() { continue }
            var settings = RunSettings(task: task, horizon: horizon, seed: random.next())
            if random.bool(scheduled) { settings.schedule = random.bool() ? .cosine : .linear }
            if random.bool(reparameterized) {
                let all = random.logUniform(0.5...4), isPerTensor = random.bool()
                settings.tensorScales = task.tensors.map { _ in
                    Float(isPerTensor ? all * (random.bool() ? 1.5 : 1 / 1.5) : all)
                }
            }
            settings.endsWithHeldOutLoss = random.bool(heldOut)
            return settings
        }
    }
}

extension UnrollDistribution {
    /// The mean horizon of 64 draws, for an estimate of what a stage costs.
    public func meanHorizon(_ tasks: some TaskSource) -> Double {
        (0..<64).reduce(0) { $0 + Double(draw(tasks, seed: Random.mix(UInt64($1) + 0x4042)).horizon) } / 64
    }
}

/// Where the tasks of meta-training come from: a distribution, or one workload.
public protocol TaskSource: Sendable {
    /// The same task for the same seed.
    func task(_ seed: UInt64) -> any TrainingTask
}
