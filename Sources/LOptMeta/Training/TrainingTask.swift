/// A tensor of a task: its name and shape, row-major, input-major for a weight matrix.
public struct TensorSpec: Equatable, Sendable {
    public let name: String
    public let shape: [Int]
    public var count: Int { shape.reduce(1, *) }

    public init(_ name: String, _ shape: [Int]) {
        self.name = name
        self.shape = shape
    }
}

/// A training problem: tensors, a seeded start, seeded minibatches, a loss and its gradient.
///
/// A value that several threads read; what a training run writes to is in its `TaskWorker`. All parameters are f32, tensor
/// after tensor in one buffer of `parameterCount` numbers, in the order of `tensors`.
///
/// Everything is a function of the seeds given: the same seed gives the same start and the same minibatches, bit for bit.
public protocol TrainingTask: Sendable {
    /// Names what it is, as `mlp_digits_64x64_relu_b32`.
    var name: String { get }
    var tensors: [TensorSpec] { get }
    /// The data set or generator of its examples: tasks that share one are not independent. The default is its name.
    var dataSource: String { get }
    /// A rough number of microseconds that a step costs, gradient and update. A function of the task alone, never measured:
    /// it decides how often an unroll is drawn, which must be the same everywhere.
    var stepCost: Double { get }
    /// Writes the start to `parameters`.
    func initialize(_ parameters: UnsafeMutablePointer<Float>, seed: UInt64)
    /// What one thread needs to compute losses: activations, a minibatch.
    func makeWorker() -> any TaskWorker
}

extension TrainingTask {
    public var dataSource: String { name }
    public var parameterCount: Int { tensors.reduce(0) { $0 + $1.count } }
    public var stepCost: Double { 2 + 0.02 * Double(parameterCount) }
}

/// Computes losses for one thread at a time.
public protocol TaskWorker: AnyObject {
    /// The loss on the minibatch number `step` of the stream `seed`, and its gradient with respect to `parameters`, every
    /// element of which is written. A loss that is not finite is allowed: the run has diverged.
    func loss(
        _ parameters: UnsafePointer<Float>, gradient: UnsafeMutablePointer<Float>, seed: UInt64, step: Int
    ) -> Float

    /// What the worker keeps from one minibatch to the next, beside the parameters: running averages of batch norms. Empty where it keeps
    /// nothing (the default). It is set to what it was of a worker of the same task.
    var state: [Float] { get set }

    /// The mean loss on data that are in no minibatch, nil where the task has none (the default).
    func heldOutLoss(_ parameters: UnsafePointer<Float>) -> Float?

    /// The same with the accuracy of a classification; the default has none.
    func heldOutScore(_ parameters: UnsafePointer<Float>) -> HeldOutScore?
}

extension TaskWorker {
    public var state: [Float] {
        get { [] }
        set { precondition(newValue.isEmpty, "a worker without a state of its own") }
    }
    public func heldOutLoss(_ parameters: UnsafePointer<Float>) -> Float? { nil }
    public func heldOutScore(_ parameters: UnsafePointer<Float>) -> HeldOutScore? {
        heldOutLoss(parameters).map { HeldOutScore(loss: $0, accuracy: nil) }
    }
}

/// What held-out data say of parameters.
public struct HeldOutScore: Sendable {
    /// The mean over the examples.
    public let loss: Float
    /// The part of the examples whose class is right; nil where it is no classification.
    public let accuracy: Float?

    public init(loss: Float, accuracy: Float?) { (self.loss, self.accuracy) = (loss, accuracy) }
}
