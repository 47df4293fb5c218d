/// Everything that a training run depends on beside its optimizer.
public struct RunSettings: Sendable {
    public let task: any TrainingTask
    /// Steps.
    public let horizon: Int
    public var schedule = Schedule.constant
    /// Reparameterisation: the optimizer sees parameter / scale and gradient * scale, one factor for each tensor; empty: 1.
    public var tensorScales: [Float] = []
    /// For each tensor when its gradients are small; empty: never.
    public var gates: [GradientGate] = []
    /// Of the start and of the minibatches.
    public var seed: UInt64
    /// A loss above this many times the first one is a divergence: what has gone so far astray is not worth its time in meta-training.
    public var divergenceFactor = 1e6
    /// Of an unroll of meta-training: whether its last segments' value is that of the held-out loss, where the task has one.
    public var endsWithHeldOutLoss = false

    public init(task: any TrainingTask, horizon: Int, seed: UInt64) {
        (self.task, self.horizon, self.seed) = (task, horizon, seed)
    }
}

/// Multiplies the gradient of a tensor in the first steps of every period: heads that take turns, experts, units that rest.
public struct GradientGate: Sendable {
    public let period: Int
    public let closed: Int
    public let factor: Float

    public init(period: Int, closed: Int, factor: Float) { (self.period, self.closed, self.factor) = (period, closed, factor) }

    func factor(at step: Int) -> Float { step % period < closed ? factor : 1 }
}
