/// What a caller may set for one tensor.
public struct TensorOptions: Sendable {
    /// Multiplies the optimizer's learning-rate scale.
    public var learningRateScale = 1.0
    /// Multiplies the optimizer's weight decay.
    public var weightDecayScale = 1.0
    /// Steps pass the tensor over.
    public var isFrozen = false

    public init() {}

    /// With the optimizer's own scale: what multiplies the tensor's step. Products count as at most `Optimizer.largestScale`.
    func learningRate(_ optimizersScale: Double) -> Double { min(optimizersScale * learningRateScale, Optimizer.largestScale) }
    /// With the optimizer's own weight decay, likewise.
    func weightDecay(_ optimizersDecay: Double) -> Double { min(optimizersDecay * weightDecayScale, Optimizer.largestScale) }
}
