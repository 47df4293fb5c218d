import Foundation

/// 1/2 (x - xi)' H (x - xi) with xi normal: H has log-uniformly spread eigenvalues from 1/condition to 1, times `scale`, and is
/// turned by a Householder reflection.
public struct NoisyQuadratic: TrainingTask {
    public let size: Int
    public let condition: Double
    /// Standard deviation of xi.
    public let noise: Double
    public let scale: Double
    public let seed: UInt64
    public var name: String { "quadratic_\(size)_condition\(Int(condition))_noise\(noise)_scale\(scale)" }
    public var tensors: [TensorSpec] { [TensorSpec("x", [size])] }
    public var dataSource: String { "quadratic" }
    public var stepCost: Double { 2 + 0.05 * Double(size) }

    public init(size: Int, condition: Double, noise: Double, scale: Double, seed: UInt64) {
        (self.size, self.condition, self.noise, self.scale, self.seed) = (size, condition, noise, scale, seed)
    }

    public func initialize(_ parameters: UnsafeMutablePointer<Float>, seed: UInt64) {
        var random = Random(seed, 0x1417)
        for i in 0..<size { parameters[i] = Float(random.normal()) }
    }

    public func makeWorker() -> any TaskWorker { NoisyQuadraticWorker(self) }
}

final class NoisyQuadraticWorker: TaskWorker {
    private let task: NoisyQuadratic
    private let eigenvalues: [Float]
    /// Of length 1: the reflection is x - 2 (v'x) v.
    private let mirror: [Float]
    private var offset: [Float]

    init(_ task: NoisyQuadratic) {
        self.task = task
        var random = Random(task.seed, 0x4d)
        eigenvalues = (0..<task.size).map {
            Float(task.scale * pow(task.condition, -Double($0) / Double(max(task.size - 1, 1))))
        }
        let normals = (0..<task.size).map { _ in random.normal() }
        let length = normals.reduce(0) { $0 + $1 * $1 }.squareRoot()
        mirror = normals.map { Float($0 / length) }
        offset = [Float](repeating: 0, count: task.size)
    }

    func loss(
        _ parameters: UnsafePointer<Float>, gradient: UnsafeMutablePointer<Float>, seed: UInt64, step: Int
    ) -> Float {
        var random = Random(seed, UInt64(step), 0xba7c)
        let n = task.size, noise = Float(task.noise)
        for i in 0..<n { offset[i] = parameters[i] - noise * Float(random.normal()) }
        return value(gradient)
    }

    /// Without noise.
    func heldOutLoss(_ parameters: UnsafePointer<Float>) -> Float? {
        for i in 0..<task.size { offset[i] = parameters[i] }
        return value(nil)
    }

    private func value(_ gradient: UnsafeMutablePointer<Float>?) -> Float {
        reflect()
        var loss: Float = 0
        for i in offset.indices {
            let slope = eigenvalues[i] * offset[i]
            loss += 0.5 * slope * offset[i]
            offset[i] = slope
        }
        reflect()
        if let gradient { for i in offset.indices { gradient[i] = offset[i] } }
        return loss
    }

    private func reflect() {
        var product: Float = 0
        for i in offset.indices { product += mirror[i] * offset[i] }
        for i in offset.indices { offset[i] -= 2 * product * mirror[i] }
    }
}
