import LOptCore

/// What changes the parameters of a run, given their gradient. Both lie in memory that outlives the rule.
public protocol UpdateRule: AnyObject {
    /// One step with the gradient that is in memory now.
    func step(learningRateScale: Double) throws
}

/// Adam as `OptimizerSpec.Method.adam` has it, state in f32.
final class Adam: UpdateRule {
    private let rate: Double
    private let parameters: UnsafeMutablePointer<Float>
    private let gradient: UnsafePointer<Float>
    private var m: [Float]
    private var v: [Float]
    private var (power1, power2) = (1.0, 1.0)

    init(rate: Double, _ parameters: UnsafeMutablePointer<Float>, _ gradient: UnsafePointer<Float>, count: Int) {
        (self.rate, self.parameters, self.gradient) = (rate, parameters, gradient)
        m = Array(repeating: 0, count: count)
        v = m
    }

    func step(learningRateScale: Double) {
        power1 *= 0.9
        power2 *= 0.999
        let size = Float(rate * learningRateScale / (1 - power1))
        let correction = Float(1 / (1 - power2))
        let (p, g, count) = (parameters, gradient, m.count)
        m.withUnsafeMutableBufferPointer { m in
            v.withUnsafeMutableBufferPointer { v in
                for i in 0..<count {
                    m[i] = 0.9 * m[i] + 0.1 * g[i]
                    v[i] = 0.999 * v[i] + 0.001 * g[i] * g[i]
                    p[i] -= size * m[i] / ((v[i] * correction).squareRoot() + 1e-8)
                }
            }
        }
    }
}

/// Gradient descent with heavy-ball momentum 0.9, state in f32.
final class MomentumSGD: UpdateRule {
    private let rate: Double
    private let parameters: UnsafeMutablePointer<Float>
    private let gradient: UnsafePointer<Float>
    private var m: [Float]

    init(rate: Double, _ parameters: UnsafeMutablePointer<Float>, _ gradient: UnsafePointer<Float>, count: Int) {
        (self.rate, self.parameters, self.gradient) = (rate, parameters, gradient)
        m = Array(repeating: 0, count: count)
    }

    func step(learningRateScale: Double) {
        let size = Float(rate * learningRateScale)
        let (p, g, count) = (parameters, gradient, m.count)
        m.withUnsafeMutableBufferPointer { m in
            for i in 0..<count {
                m[i] = 0.9 * m[i] + g[i]
                p[i] -= size * m[i]
            }
        }
    }
}

/// The learned optimizer as it ships, on the calling thread alone. A step whose gradient is not finite is skipped.
final class LearnedOptimizer: UpdateRule {
    private var optimizer: Optimizer

    init(
        _ weights: borrowing Weights, tensors: [TensorSpec], _ parameters: UnsafeMutablePointer<Float>,
        _ gradient: UnsafePointer<Float>
    ) throws {
        var options = OptimizerOptions()
        options.threads = 1
        optimizer = try Optimizer(weights, options)
        var offset = 0
        for tensor in tensors {
            let shape = tensor.shape.map { Int64($0) }
            try Array(tensor.name.utf8).withUnsafeBytes { name in
                try shape.withUnsafeBufferPointer { shape in
                    _ = try optimizer.addTensor(
                        name: name, parameter: parameters + offset, gradient: gradient + offset, shape: shape)
                }
            }
            offset += tensor.count
        }
    }

    func step(learningRateScale: Double) throws {
        if optimizer.learningRateScale != learningRateScale { try optimizer.setLearningRateScale(learningRateScale) }
        _ = try optimizer.step()
    }
}
