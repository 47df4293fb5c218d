/// What a network's outputs are compared with. Each is a mean over the examples of a minibatch.
public enum NetworkLoss: String, Sendable {
    /// Softmax cross entropy, mean over the output rows; targets are labels.
    case crossEntropy
    /// Half the squared error, mean over the outputs.
    case squaredError
    /// Sigmoid cross entropy, mean over the outputs; targets are probabilities.
    case bernoulli
    /// Half the squared error of a linear equation between the outputs of an example's rows; targets are a coefficient for
    /// each row and what the sum has to be.
    case linearEquation
}

/// A network trained on minibatches of a data set.
public struct NetworkTask: TrainingTask {
    public let name: String
    public let family: String
    public let layers: [Layer]
    public let data: Dataset
    public var dataSource: String { data.source }
    public let loss: NetworkLoss
    public private(set) var batch: Int
    public let tensors: [TensorSpec]
    /// Rows of the network's input for each example: 1, a sequence's length or an image's pixels.
    let rows: Int

    /// `data` must fit: inputs to rows * width of the first layer, targets to the outputs or, for labels, to the output rows.
    public init(
        family: String, _ variant: String, layers: [Layer], data: Dataset, loss: NetworkLoss, batch: Int, rows: Int = 1
    ) {
        self.family = family
        name = "\(family)_\(data.name)_\(variant)_b\(batch)"
        (self.layers, self.data, self.loss, self.batch, self.rows) = (layers, data, loss, batch, rows)
        tensors = layers.enumerated().flatMap { $1.tensors("layer\($0)") }
        precondition(data.inputCount == rows * (layers.first?.inputWidth ?? 0), "\(name): inputs do not fit")
    }

    public func initialize(_ parameters: UnsafeMutablePointer<Float>, seed: UInt64) {
        var random = Random(seed, 0x1417)
        var offset = 0
        for layer in layers {
            layer.initialize(parameters + offset, &random)
            offset += layer.parameterCount
        }
    }

    public func makeWorker() -> any TaskWorker { NetworkWorker(self) }

    var isClassification: Bool { loss == .crossEntropy || data.isOneHot }

    /// Its own minibatch does, unless the held-out examples are fewer, or one at a time would take long.
    var heldOutBatch: Int {
        let heldOut = data.count - data.trainCount
        return batch > 1 && batch <= heldOut ? batch : max(1, min(32, heldOut))
    }

    func with(batch: Int) -> NetworkTask {
        var task = self
        task.batch = batch
        return task
    }

    /// Microseconds of multiplications (two passes back for one forth), of activations and of the update.
    public var stepCost: Double {
        var n = batch * rows, cost = 3.0
        for layer in layers {
            let p = Double(layer.parameterCount)
            cost += 0.01 * p + 0.5
            cost += Double(n) * (3 * 2 * p / 20_000 + 0.004 * Double(layer.outputWidth))
            if case .recurrent(_, _, let length) = layer { cost += Double(length) * 4 }
            n = layer.outputRows(n)
        }
        return cost
    }
}

/// Computes loss and gradient of a `NetworkTask`, in Float or Double.
struct NetworkLossPass<S: NetworkScalar>: ~Copyable {
    private let task: NetworkTask
    private let pass: NetworkPass<S>
    private let inputs: UnsafeMutablePointer<S>
    private let targets: UnsafeMutablePointer<S>
    private let scratch: UnsafeMutablePointer<S>

    init(_ task: NetworkTask) {
        self.task = task
        pass = NetworkPass(task.layers, rows: task.batch * task.rows)
        inputs = .allocate(capacity: task.batch * task.data.inputCount)
        targets = .allocate(capacity: task.batch * task.data.targetCount)
        scratch = .allocate(capacity: pass.outputRows * pass.outputWidth)
        inputs.initialize(repeating: 0, count: task.batch * task.data.inputCount)
        targets.initialize(repeating: 0, count: task.batch * task.data.targetCount)
        scratch.initialize(repeating: 0, count: pass.outputRows * pass.outputWidth)
    }

    deinit {
        inputs.deallocate()
        targets.deallocate()
        scratch.deallocate()
    }

    /// A minibatch of the training examples, drawn with replacement; all of them, where it is as large.
    func draw(_ seed: UInt64, _ step: Int) {
        guard task.batch != task.data.trainCount else {
            for i in 0..<task.batch { fill(i, i) }
            return
        }
        var random = Random(seed, UInt64(step), 0xba7c)
        for i in 0..<task.batch { fill(i, random.index(task.data.trainCount)) }
    }

    private func fill(_ i: Int, _ example: Int) {
        task.data.copy(example, inputs + i * task.data.inputCount, targets + i * task.data.targetCount)
    }

    var runningStatistics: [S] {
        get { pass.runningStatistics }
        nonmutating set { pass.runningStatistics = newValue }
    }

    /// The loss on the minibatch, and its gradient if asked for. Without a gradient it is judged, not trained on.
    func loss(_ parameters: UnsafePointer<S>, _ gradient: UnsafeMutablePointer<S>?) -> S {
        pass.forward(parameters, inputs, isTraining: gradient != nil)
        let value = switch task.loss {
        case .crossEntropy: crossEntropy()
        case .squaredError: squaredError()
        case .bernoulli: bernoulli()
        case .linearEquation: linearEquation()
        }
        if let gradient { pass.backward(parameters, inputs, gradient) }
        return value
    }

    /// Over at most 512 of the held-out examples, in whole minibatches; nil if there are too few.
    func heldOutScore(_ parameters: UnsafePointer<S>) -> (loss: S, accuracy: S?)? {
        let first = task.data.trainCount, batches = min(task.data.count - first, 512) / task.batch
        guard batches > 0 else { return nil }
        // Spread over what there is: windows of a text overlap their neighbours.
        let stride = (task.data.count - first) / (batches * task.batch)
        var sum: S = 0, right = 0
        for b in 0..<batches {
            for i in 0..<task.batch { fill(i, first + (b * task.batch + i) * stride) }
            sum += loss(parameters, nil)
            if task.isClassification { right += rightClasses() }
        }
        let accuracy = task.isClassification ? S(right) / S(batches * pass.outputRows) : nil
        return (sum / S(batches), accuracy)
    }

    /// Output rows whose largest number is that of the label, or of the one target that is not 0.
    private func rightClasses() -> Int {
        let width = pass.outputWidth
        func largest(_ x: UnsafePointer<S>) -> Int { (1..<width).reduce(0) { x[$1] > x[$0] ? $1 : $0 } }
        return (0..<pass.outputRows).count { r in
            let label = task.loss == .crossEntropy ? Int(targets[r]) : largest(targets + r * width)
            return largest(pass.output + r * width) == label
        }
    }

    private func crossEntropy() -> S {
        let rows = pass.outputRows, width = pass.outputWidth, y = pass.output, d = pass.outputGradient
        for r in 0..<rows {
            var largest = y[r * width]
            for j in 1..<width where y[r * width + j] > largest { largest = y[r * width + j] }
            for j in 0..<width { scratch[r * width + j] = y[r * width + j] - largest }
        }
        S.exp(scratch, d, rows * width)
        var loss = 0.0
        for r in 0..<rows {
            var sum: S = 0
            for j in 0..<width { sum += d[r * width + j] }
            let label = r * width + Int(targets[r]), factor = 1 / (sum * S(rows))
            loss += Double(S.log(sum) - scratch[label])
            for j in 0..<width { d[r * width + j] *= factor }
            d[label] -= 1 / S(rows)
        }
        return S(loss / Double(rows))
    }

    private func squaredError() -> S {
        let count = pass.outputRows * pass.outputWidth, y = pass.output, d = pass.outputGradient
        var loss: S = 0
        for i in 0..<count {
            let error = y[i] - targets[i]
            loss += error * error
            d[i] = error / S(count)
        }
        return loss / (2 * S(count))
    }

    private func linearEquation() -> S {
        let terms = pass.outputRows / task.batch, y = pass.output, d = pass.outputGradient
        var loss: S = 0
        for e in 0..<task.batch {
            let coefficients = targets + e * (terms + 1), y = y + e * terms, d = d + e * terms
            var error = -coefficients[terms]
            for i in 0..<terms { error += coefficients[i] * y[i] }
            loss += error * error
            for i in 0..<terms { d[i] = error * coefficients[i] / S(task.batch) }
        }
        return loss / S(2 * task.batch)
    }

    /// log(1 + exp(-|y|)) + max(y, 0) - target y, without overflow.
    private func bernoulli() -> S {
        let count = pass.outputRows * pass.outputWidth, y = pass.output, d = pass.outputGradient
        for i in 0..<count { scratch[i] = -abs(y[i]) }
        S.exp(scratch, scratch, count)
        var loss: S = 0
        for i in 0..<count {
            let e = scratch[i]
            loss += S.log(1 + e) + max(y[i], 0) - targets[i] * y[i]
            let sigmoid = y[i] >= 0 ? 1 / (1 + e) : e / (1 + e)
            d[i] = (sigmoid - targets[i]) / S(count)
        }
        return loss / S(count)
    }
}

final class NetworkWorker: TaskWorker {
    private let task: NetworkTask
    private let pass: NetworkLossPass<Float>
    /// For held-out examples, where these need another minibatch.
    private lazy var heldOutWorker = task.heldOutBatch == task.batch ? nil : NetworkWorker(task.with(batch: task.heldOutBatch))

    init(_ task: NetworkTask) {
        self.task = task
        pass = NetworkLossPass(task)
    }

    func loss(
        _ parameters: UnsafePointer<Float>, gradient: UnsafeMutablePointer<Float>, seed: UInt64, step: Int
    ) -> Float {
        pass.draw(seed, step)
        return pass.loss(parameters, gradient)
    }

    var state: [Float] {
        get { pass.runningStatistics }
        set { pass.runningStatistics = newValue }
    }

    func heldOutLoss(_ parameters: UnsafePointer<Float>) -> Float? { heldOutScore(parameters)?.loss }

    func heldOutScore(_ parameters: UnsafePointer<Float>) -> HeldOutScore? {
        if let heldOutWorker {
            heldOutWorker.state = state
            return heldOutWorker.heldOutScore(parameters)
        }
        return pass.heldOutScore(parameters).map { HeldOutScore(loss: $0.loss, accuracy: $0.accuracy) }
    }
}
