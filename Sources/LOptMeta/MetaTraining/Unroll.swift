import Foundation
import LOptCore

/// A learned optimizer at work on a task: owns the parameters, the optimizer's state and the objective so far. It can be
/// stopped after any step and go on with other weights.
///
/// A run of one thread is a function of settings and weights, bit for bit.
public struct Unroll: ~Copyable {
    public let settings: UnrollSettings
    public let objective: Objective
    public private(set) var step = 0
    public private(set) var hasDiverged = false
    /// The loss of the first minibatch.
    public private(set) var firstLoss = Double.nan
    private(set) var optimizer: Optimizer
    private let worker: any TaskWorker
    /// As the task sees them; parameter and gradient as the optimizer sees them follow, where they differ.
    private let memory: UnsafeMutablePointer<Float>
    private let count: Int
    private let tensorCounts: [Int]
    private var segmentSums: [Double]
    private var segmentSteps: [Int]

    public init(_ settings: UnrollSettings, _ objective: Objective, weights: borrowing Weights) throws(LOptError) {
        let count = settings.task.parameterCount, isScaled = !settings.tensorScales.isEmpty
        let memory = UnsafeMutablePointer<Float>.allocate(capacity: (isScaled ? 4 : 2) * count)
        memory.initialize(repeating: 0, count: (isScaled ? 4 : 2) * count)
        settings.task.initialize(memory, seed: settings.seed)
        do {
            optimizer = try Unroll.optimizer(settings, weights, memory, count)
        } catch {
            memory.deallocate()
            throw error
        }
        self.settings = settings
        self.objective = objective
        self.memory = memory
        self.count = count
        tensorCounts = settings.task.tensors.map(\.count)
        worker = settings.task.makeWorker()
        segmentSums = [Double](repeating: 0, count: objective.segments)
        segmentSteps = [Int](repeating: 0, count: objective.segments)
    }

    deinit { memory.deallocate() }

    private static func optimizer(
        _ settings: UnrollSettings, _ weights: borrowing Weights, _ memory: UnsafeMutablePointer<Float>, _ count: Int
    ) throws(LOptError) -> Optimizer {
        var options = OptimizerOptions()
        options.threads = 1
        options.nonfinite = .error
        var optimizer = try Optimizer(weights, options)
        let isScaled = !settings.tensorScales.isEmpty
        let seen = isScaled ? memory + 2 * count : memory
        var offset = 0
        for (i, tensor) in settings.task.tensors.enumerated() {
            if isScaled {
                let factor = 1 / settings.tensorScales[i]
                for j in offset..<(offset + tensor.count) { seen[j] = memory[j] * factor }
            }
            try add(tensor, &optimizer, seen + offset, seen + count + offset)
            offset += tensor.count
        }
        return optimizer
    }

    private static func add(
        _ tensor: TensorSpec, _ optimizer: inout Optimizer, _ parameter: UnsafeMutablePointer<Float>,
        _ gradient: UnsafeMutablePointer<Float>
    ) throws(LOptError) {
        var name = tensor.name
        let shape = tensor.shape.map { Int64($0) }
        let result: Result<Int, LOptError> = name.withUTF8 { bytes in
            shape.withUnsafeBufferPointer { shape in
                do throws(LOptError) {
                    return .success(
                        try optimizer.addTensor(
                            name: UnsafeRawBufferPointer(bytes), parameter: parameter, gradient: gradient, shape: shape))
                } catch {
                    return .failure(error)
                }
            }
        }
        _ = try result.get()
    }

    public var isFinished: Bool { step >= settings.horizon || hasDiverged }

    /// Goes on with other weights of the same architecture.
    public mutating func setWeights(_ weights: borrowing Weights) throws(LOptError) {
        try optimizer.setWeights(weights)
    }

    /// Runs up to `steps` steps and returns how many it took: fewer at the horizon, or when the run diverges, which is when
    /// the loss or a gradient is not finite, or the loss is 10^6 times the first.
    public mutating func run(_ steps: Int) -> Int {
        let begin = step, end = min(step + steps, settings.horizon)
        while step < end && !hasDiverged {
            takeStep()
            step += 1
        }
        return step - begin
    }

    private mutating func takeStep() {
        let loss = Double(worker.loss(memory, gradient: memory + count, seed: settings.seed, step: step))
        if step == 0 { firstLoss = loss }
        guard loss.isFinite, loss <= 1e6 * max(firstLoss, 1e-6) else {
            hasDiverged = true
            return
        }
        let segment = objective.segment(step, of: settings.horizon)
        segmentSums[segment] += loss
        segmentSteps[segment] += 1
        if !settings.tensorScales.isEmpty { rescale(memory + count, to: memory + 3 * count) }
        do throws(LOptError) {
            if settings.schedule != .constant {
                try optimizer.setLearningRateScale(settings.schedule.scale(at: step, of: settings.horizon))
            }
            _ = try optimizer.step()
        } catch {
            // Gradients that are not finite; nothing else can be wrong with tensors that were taken.
            hasDiverged = true
        }
        if !settings.tensorScales.isEmpty { rescale(memory + 2 * count, to: memory) }
    }

    /// Both ways it is a product: parameter = scale * what the optimizer sees, and so is the gradient that it sees.
    private func rescale(_ from: UnsafePointer<Float>, to: UnsafeMutablePointer<Float>) {
        var offset = 0
        for i in tensorCounts.indices {
            let factor = settings.tensorScales[i]
            for j in offset..<(offset + tensorCounts[i]) { to[j] = from[j] * factor }
            offset += tensorCounts[i]
        }
    }

    // MARK: The objective

    /// Values of all segments: of those not reached by a diverged run, the cap.
    public func segmentValues() -> [Double] {
        (0..<objective.segments).map { i in
            // A horizon shorter than the number of segments leaves some empty: the next one speaks for them.
            var next = i
            while next < objective.segments - 1 && segmentSteps[next] == 0 { next += 1 }
            guard segmentSteps[next] > 0, !(hasDiverged && next >= objective.segment(step, of: settings.horizon)) else {
                return objective.cap
            }
            return objective.value(meanLoss: segmentSums[next] / Double(segmentSteps[next]), first: firstLoss)
        }
    }

    /// Of a run that is finished.
    public func value() -> Double {
        var values = segmentValues()
        if settings.endsWithHeldOutLoss, !hasDiverged, let loss = worker.heldOutLoss(memory) {
            let value = objective.value(meanLoss: Double(loss), first: firstLoss)
            for i in values.indices.suffix(max(values.count / 10, 1)) { values[i] = value }
        }
        return objective.combine(values)
    }

    // MARK: Snapshots

    /// Sum and number of the losses of each segment.
    var segmentTotals: (sums: [Double], steps: [Int]) { (segmentSums, segmentSteps) }

    func checkpoint() throws(LOptError) -> Data {
        let size = try optimizer.checkpointSize(.parameters)
        let bytes = UnsafeMutableRawBufferPointer.allocate(byteCount: size, alignment: 16)
        defer { bytes.deallocate() }
        try optimizer.write(bytes, .parameters)
        return Data(bytes)
    }

    /// Goes on where the snapshot was taken; settings and weights are those of then. Throws `.checkpoint` and `.mismatch` if
    /// they are not.
    public mutating func resume(_ snapshot: Snapshot) throws(LOptError) {
        let bytes = UnsafeMutableRawBufferPointer.allocate(byteCount: snapshot.optimizer.count, alignment: 16)
        defer { bytes.deallocate() }
        snapshot.optimizer.copyBytes(to: bytes)
        try optimizer.read(UnsafeRawBufferPointer(bytes), .parameters)
        if !settings.tensorScales.isEmpty { rescale(memory + 2 * count, to: memory) }
        step = snapshot.step
        hasDiverged = snapshot.hasDiverged
        firstLoss = snapshot.firstLoss ?? .nan
        segmentSums = snapshot.segmentSums
        segmentSteps = snapshot.segmentSteps
    }
}
