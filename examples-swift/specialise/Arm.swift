import Foundation
import LOptMeta

/// A workload of one's own: a small network learns to reach with a planar arm of two joints.
///
/// The network 2 -> 24 -> 24 -> 2, tanh, turns a target (x, y) into two joint angles; the loss is the mean squared distance
/// between the hand, which the forward kinematics put there, and the target. There are no data: targets are drawn anew
/// for each minibatch.
struct Arm: TrainingTask {
    static let hidden = 24, batch = 16
    static let lengths: (upper: Float, lower: Float) = (1, 0.8)

    let name = "two_joint_arm"
    let tensors = [
        TensorSpec("w0", [2, hidden]), TensorSpec("b0", [hidden]),
        TensorSpec("w1", [hidden, hidden]), TensorSpec("b1", [hidden]),
        TensorSpec("w2", [hidden, 2]), TensorSpec("b2", [2]),
    ]
    /// Microseconds, about: decides how often a long unroll is drawn.
    let stepCost = 40.0

    func initialize(_ parameters: UnsafeMutablePointer<Float>, seed: UInt64) {
        var random = Random(seed, 1)
        var offset = 0
        for tensor in tensors {
            let isMatrix = tensor.shape.count == 2
            let deviation = isMatrix ? 1 / Double(tensor.shape[0]).squareRoot() : 0
            for i in 0..<tensor.count { parameters[offset + i] = Float(deviation * random.normal()) }
            offset += tensor.count
        }
    }

    func makeWorker() -> any TaskWorker { ArmWorker() }
}

/// The arm's loss and gradient, written out as a C program would.
final class ArmWorker: TaskWorker {
    private var h0 = [Float](repeating: 0, count: Arm.hidden)
    private var h1 = [Float](repeating: 0, count: Arm.hidden)
    private var d1 = [Float](repeating: 0, count: Arm.hidden)
    private let count = Arm().parameterCount

    func loss(_ p: UnsafePointer<Float>, gradient: UnsafeMutablePointer<Float>, seed: UInt64, step: Int) -> Float {
        var random = Random(seed, UInt64(step), 2)
        gradient.update(repeating: 0, count: count)
        var sum: Float = 0
        for _ in 0..<Arm.batch { sum += reach(ArmWorker.target(&random), p, gradient) }
        for i in 0..<count { gradient[i] /= Float(Arm.batch) }
        return sum / Float(Arm.batch)
    }

    func heldOutLoss(_ p: UnsafePointer<Float>) -> Float? {
        var random = Random(0x686f6c64, 3)
        var sum: Float = 0
        for _ in 0..<256 { sum += reach(ArmWorker.target(&random), p, nil) }
        return sum / 256
    }

    /// Uniform over the ring that the hand can reach, in front of the shoulder.
    private static func target(_ random: inout Random) -> (x: Float, y: Float) {
        let (upper, lower) = (Double(Arm.lengths.upper), Double(Arm.lengths.lower))
        let near = (upper - lower) * (upper - lower), far = (upper + lower) * (upper + lower)
        let radius = random.uniform(near...far).squareRoot(), angle = random.uniform(-1.2...1.2)
        return (Float(radius * cos(angle)), Float(radius * sin(angle)))
    }

    /// The squared distance for one target; adds its gradient.
    private func reach(_ target: (x: Float, y: Float), _ p: UnsafePointer<Float>, _ g: UnsafeMutablePointer<Float>?) -> Float {
        let n = Arm.hidden
        let w0 = 0, b0 = 2 * n, w1 = 3 * n, b1 = w1 + n * n, w2 = b1 + n, b2 = w2 + 2 * n
        for j in 0..<n { h0[j] = tanhf(p[w0 + j] * target.x + p[w0 + n + j] * target.y + p[b0 + j]) }
        for j in 0..<n { h1[j] = p[b1 + j] }
        for i in 0..<n {
            for j in 0..<n { h1[j] += h0[i] * p[w1 + i * n + j] }
        }
        var shoulder = p[b2], elbow = p[b2 + 1]
        for j in 0..<n {
            h1[j] = tanhf(h1[j])
            shoulder += h1[j] * p[w2 + 2 * j]
            elbow += h1[j] * p[w2 + 2 * j + 1]
        }
        let (upper, lower) = Arm.lengths
        let x = upper * cosf(shoulder) + lower * cosf(shoulder + elbow)
        let y = upper * sinf(shoulder) + lower * sinf(shoulder + elbow)
        let ex = x - target.x, ey = y - target.y
        guard let g else { return ex * ex + ey * ey }

        let dElbow = 2 * lower * (ey * cosf(shoulder + elbow) - ex * sinf(shoulder + elbow))
        let dShoulder = dElbow + 2 * upper * (ey * cosf(shoulder) - ex * sinf(shoulder))
        g[b2] += dShoulder
        g[b2 + 1] += dElbow
        for j in 0..<n {
            g[w2 + 2 * j] += dShoulder * h1[j]
            g[w2 + 2 * j + 1] += dElbow * h1[j]
            d1[j] = (dShoulder * p[w2 + 2 * j] + dElbow * p[w2 + 2 * j + 1]) * (1 - h1[j] * h1[j])
            g[b1 + j] += d1[j]
        }
        for i in 0..<n {
            var d: Float = 0
            for j in 0..<n {
                g[w1 + i * n + j] += d1[j] * h0[i]
                d += d1[j] * p[w1 + i * n + j]
            }
            d *= 1 - h0[i] * h0[i]
            g[w0 + i] += d * target.x
            g[w0 + n + i] += d * target.y
            g[b0 + i] += d
        }
        return ex * ex + ey * ey
    }
}
