/// Another task in another unit of the loss: its losses and gradients times a number.
public struct ScaledLoss: TrainingTask {
    private let task: any TrainingTask
    private let factor: Float

    public init(_ task: any TrainingTask, by factor: Float) { (self.task, self.factor) = (task, factor) }

    public var name: String { "\(task.name)_loss\(Format.round(Double(factor)).replacing(",", with: ""))" }
    public var tensors: [TensorSpec] { task.tensors }
    public var dataSource: String { task.dataSource }
    public var stepCost: Double { task.stepCost }
    public func initialize(_ parameters: UnsafeMutablePointer<Float>, seed: UInt64) { task.initialize(parameters, seed: seed) }
    public func makeWorker() -> any TaskWorker { Worker(task.makeWorker(), factor, count: task.parameterCount) }

    private final class Worker: TaskWorker {
        private let worker: any TaskWorker
        private let factor: Float
        private let count: Int

        init(_ worker: any TaskWorker, _ factor: Float, count: Int) { (self.worker, self.factor, self.count) = (worker, factor, count) }

        func loss(_ parameters: UnsafePointer<Float>, gradient: UnsafeMutablePointer<Float>, seed: UInt64, step: Int) -> Float {
            let loss = worker.loss(parameters, gradient: gradient, seed: seed, step: step)
            for i in 0..<count { gradient[i] *= factor }
            return factor * loss
        }

        var state: [Float] {
            get { worker.state }
            set { worker.state = newValue }
        }

        func heldOutLoss(_ parameters: UnsafePointer<Float>) -> Float? { worker.heldOutLoss(parameters).map { factor * $0 } }

        func heldOutScore(_ parameters: UnsafePointer<Float>) -> HeldOutScore? {
            worker.heldOutScore(parameters).map { HeldOutScore(loss: factor * $0.loss, accuracy: $0.accuracy) }
        }
    }
}
