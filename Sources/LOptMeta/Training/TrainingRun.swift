/// A task in training: its parameters, an update rule, and the stream of minibatches of one seed.
///
/// The same task, optimizer and seed take the same steps, bit for bit. One thread at a time.
public final class TrainingRun {
    public let task: any TrainingTask
    public let seed: UInt64
    /// Steps taken.
    public private(set) var steps = 0
    private let parameters: UnsafeMutablePointer<Float>
    private let gradient: UnsafeMutablePointer<Float>
    private let worker: any TaskWorker
    private let rule: any UpdateRule

    /// At the task's start of this seed. Throws what `Optimizer` throws.
    public init(_ task: any TrainingTask, _ method: OptimizerSpec.Method, seed: UInt64) throws {
        let count = task.parameterCount
        let parameters = UnsafeMutablePointer<Float>.allocate(capacity: max(count, 1))
        let gradient = UnsafeMutablePointer<Float>.allocate(capacity: max(count, 1))
        do {
            rule = switch method {
            case .adam(let rate): Adam(rate: rate, parameters, gradient, count: count)
            case .sgdm(let rate): MomentumSGD(rate: rate, parameters, gradient, count: count)
            case .lopt(let weights):
                try LearnedOptimizer(weights.weights, tensors: task.tensors, parameters, gradient)
            }
        } catch {
            parameters.deallocate()
            gradient.deallocate()
            throw error
        }
        gradient.initialize(repeating: 0, count: count)
        task.initialize(parameters, seed: seed)
        (self.task, self.seed, self.parameters, self.gradient) = (task, seed, parameters, gradient)
        worker = task.makeWorker()
    }

    deinit {
        parameters.deallocate()
        gradient.deallocate()
    }

    /// Takes the step and returns the loss of its minibatch before it. If that is not finite, no step is taken.
    public func step(learningRateScale: Double = 1) throws -> Float {
        let loss = worker.loss(parameters, gradient: gradient, seed: seed, step: steps)
        guard loss.isFinite else { return loss }
        try rule.step(learningRateScale: learningRateScale)
        steps += 1
        return loss
    }

    /// nil where the task has none.
    public var heldOutLoss: Float? { worker.heldOutLoss(parameters) }

    /// `task.parameterCount` values. They live as long as the run.
    public var values: UnsafeBufferPointer<Float> {
        UnsafeBufferPointer(start: parameters, count: task.parameterCount)
    }
}
