import Foundation
import LOptCore

/// What changes the parameters of a run, given their gradient.
public protocol UpdateRule: AnyObject {
    /// One step with the gradient that is in memory now. Throws for a gradient that it does not take; the parameters are as before then.
    func step(learningRateScale: Double) throws(GradientRefused)

    /// Where held-out data are to be judged, `count` values: nil, the default, where the parameters are.
    var evaluationPoint: UnsafePointer<Float>? { get }
}

extension UpdateRule {
    public var evaluationPoint: UnsafePointer<Float>? { nil }
}

/// The gradient is not finite.
public struct GradientRefused: Error {}

/// Adam as `OptimizerSpec.Method.adamW` has it, state in f32. A gradient that is not finite makes the next loss so.
public final class Adam: UpdateRule {
    private let rate: Double
    private let weightDecay: Double
    private let memory: TaskParameters
    private var m: [Float]
    private var v: [Float]
    private var (power1, power2) = (1.0, 1.0)

    /// - Parameter weightDecay: decoupled: a step multiplies parameters by 1 - rate * weightDecay first.
    public init(rate: Double, weightDecay: Double = 0, _ memory: TaskParameters) {
        (self.rate, self.weightDecay, self.memory) = (rate, weightDecay, memory)
        m = Array(repeating: 0, count: memory.count)
        v = m
    }

    public func step(learningRateScale: Double) {
        power1 *= 0.9
        power2 *= 0.999
        let size = Float(rate * learningRateScale / (1 - power1))
        let correction = Float(1 / (1 - power2)), keep = Float(1 - rate * learningRateScale * weightDecay)
        let (p, g, count) = (memory.parameters, memory.gradient, memory.count)
        m.withUnsafeMutableBufferPointer { m in
            v.withUnsafeMutableBufferPointer { v in
                for i in 0..<count {
                    m[i] = 0.9 * m[i] + 0.1 * g[i]
                    v[i] = 0.999 * v[i] + 0.001 * g[i] * g[i]
                    p[i] = keep * p[i] - size * m[i] / ((v[i] * correction).squareRoot() + 1e-8)
                }
            }
        }
    }
}

/// Gradient descent with heavy-ball momentum 0.9, state in f32. A gradient that is not finite makes the next loss so.
public final class MomentumSGD: UpdateRule {
    private let rate: Double
    private let memory: TaskParameters
    private var m: [Float]

    public init(rate: Double, _ memory: TaskParameters) {
        (self.rate, self.memory) = (rate, memory)
        m = Array(repeating: 0, count: memory.count)
    }

    public func step(learningRateScale: Double) {
        let size = Float(rate * learningRateScale)
        let (p, g, count) = (memory.parameters, memory.gradient, memory.count)
        m.withUnsafeMutableBufferPointer { m in
            for i in 0..<count {
                m[i] = 0.9 * m[i] + g[i]
                p[i] -= size * m[i]
            }
        }
    }
}

/// The learned optimizer as it ships, on the calling thread alone, and refusing what it would skip by default: a gradient that is not
/// finite.
public final class LearnedOptimizer: UpdateRule {
    private let memory: TaskParameters
    private(set) var optimizer: Optimizer

    /// - Parameter tensors: of the task, those that it steps; nil: all.
    public init(_ weights: borrowing Weights, _ memory: TaskParameters, tensors: Range<Int>? = nil) throws(LOptError) {
        self.memory = memory
        var options = OptimizerOptions()
        options.threads = 1
        options.nonfinite = .error
        if memory.settings.schedule == .known { options.totalSteps = Int64(memory.settings.horizon) }
        var optimizer = try Optimizer(weights, options)
        var offset = 0
        for (i, tensor) in memory.settings.task.tensors.enumerated() {
            defer { offset += tensor.count }
            guard tensors?.contains(i) ?? true else { continue }
            let name = Array(tensor.name.utf8), shape = tensor.shape.map { Int64($0) }
            try name.withUnsafeBufferPointer { name throws(LOptError) in
                try shape.withUnsafeBufferPointer { shape throws(LOptError) in
                    _ = try optimizer.addTensor(
                        name: UnsafeRawBufferPointer(name), parameter: memory.parameters + offset,
                        gradient: memory.gradient + offset, shape: shape)
                }
            }
        }
        self.optimizer = optimizer
    }

    public func step(learningRateScale: Double) throws(GradientRefused) {
        do throws(LOptError) {
            if optimizer.learningRateScale != learningRateScale { try optimizer.setLearningRateScale(learningRateScale) }
            _ = try optimizer.step()
        } catch {
            // Nothing else can be wrong with tensors that were taken, and a scale of a schedule.
            throw GradientRefused()
        }
    }

    /// Goes on with other weights of the same architecture.
    public func setWeights(_ weights: borrowing Weights) throws(LOptError) { try optimizer.setWeights(weights) }

    /// A checkpoint of the runtime, with the parameters.
    func checkpoint() throws(LOptError) -> Data {
        let bytes = UnsafeMutableRawBufferPointer.allocate(byteCount: try optimizer.checkpointSize(.parameters), alignment: 16)
        defer { bytes.deallocate() }
        try optimizer.write(bytes, .parameters)
        return Data(bytes)
    }

    /// Throws `.checkpoint` and `.mismatch` for one of other weights or tensors.
    func restore(_ checkpoint: Data) throws(LOptError) {
        let bytes = UnsafeMutableRawBufferPointer.allocate(byteCount: checkpoint.count, alignment: 16)
        defer { bytes.deallocate() }
        checkpoint.copyBytes(to: bytes)
        try optimizer.read(UnsafeRawBufferPointer(bytes), .parameters)
    }
}
