/// Another task, made harder for an optimizer: its gradients are altered, it starts or lies elsewhere, or its tensors have other shapes.
struct AlteredTask: TrainingTask {
    /// Of a step with its loss, before the optimizer sees it: the gradient, and where each tensor of the task lies in it.
    typealias Alteration = @Sendable (_ step: Int, _ loss: Float, _ gradient: UnsafeMutablePointer<Float>, _ tensors: [Range<Int>]) -> Void

    private let task: any TrainingTask
    let name: String
    let tensors: [TensorSpec]
    /// Factor of the start.
    private let start: Float
    /// Added to every parameter: the optimizer sees it, the task does not.
    private let offset: Float
    private let alteration: Alteration?

    init(
        _ name: String, _ task: any TrainingTask, tensors: [TensorSpec]? = nil, start: Float = 1, offset: Float = 0,
        alteration: Alteration? = nil
    ) {
        (self.name, self.task, self.start, self.offset, self.alteration) = (name, task, start, offset, alteration)
        self.tensors = tensors ?? task.tensors
    }

    var dataSource: String { task.dataSource }

    func initialize(_ parameters: UnsafeMutablePointer<Float>, seed: UInt64) {
        task.initialize(parameters, seed: seed)
        for i in 0..<parameterCount { parameters[i] = start * parameters[i] + offset }
    }

    func makeWorker() -> any TaskWorker { Worker(self) }

    private final class Worker: TaskWorker {
        private let altered: AlteredTask
        private let worker: any TaskWorker
        private let ranges: [Range<Int>]
        private var moved: [Float]

        init(_ altered: AlteredTask) {
            self.altered = altered
            worker = altered.task.makeWorker()
            var ranges: [Range<Int>] = []
            for tensor in altered.task.tensors {
                let begin = ranges.last?.upperBound ?? 0
                ranges.append(begin..<begin + tensor.count)
            }
            self.ranges = ranges
            moved = Array(repeating: 0, count: altered.parameterCount)
        }

        func loss(_ parameters: UnsafePointer<Float>, gradient: UnsafeMutablePointer<Float>, seed: UInt64, step: Int) -> Float {
            for i in moved.indices { moved[i] = parameters[i] - altered.offset }
            let loss = worker.loss(moved, gradient: gradient, seed: seed, step: step)
            altered.alteration?(step, loss, gradient, ranges)
            return loss
        }
    }
}
