import Foundation

/// Adam (Kingma and Ba 2014) on z, with its norm clipped and a decoupled decay towards 0, the start.
struct OuterOptimizer: Codable {
    private var first: [Double]
    private var second: [Double]
    private var steps = 0
    private var runningNorm = 0.0

    private static let beta1 = 0.9, beta2 = 0.99, epsilon = 1e-8

    init(count: Int) {
        first = [Double](repeating: 0, count: count)
        second = first
    }

    /// One step of the numbers that `isTrained` names; `decays` names those that decay.
    mutating func step(
        _ z: inout [Double], gradient: [Double], stage: MetaTrainingConfiguration.Stage, progress: Double,
        isTrained: [Bool], decays: [Bool]
    ) {
        let scale = clip(gradient, stage.normClip)
        steps += 1
        let rate = stage.learningRate * (0.1 + 0.9 * 0.5 * (1 + cos(Double.pi * progress)))
        let correction1 = 1 - pow(OuterOptimizer.beta1, Double(steps))
        let correction2 = 1 - pow(OuterOptimizer.beta2, Double(steps))
        for i in z.indices where isTrained[i] {
            let g = gradient[i] * scale
            first[i] += (1 - OuterOptimizer.beta1) * (g - first[i])
            second[i] += (1 - OuterOptimizer.beta2) * (g * g - second[i])
            z[i] -= rate * (first[i] / correction1) / ((second[i] / correction2).squareRoot() + OuterOptimizer.epsilon)
            if decays[i] { z[i] -= rate * stage.decay * z[i] }
        }
    }

    /// The factor that brings the norm down to `limit` times the running norm.
    private mutating func clip(_ gradient: [Double], _ limit: Double) -> Double {
        let norm = gradient.reduce(0) { $0 + $1 * $1 }.squareRoot()
        guard norm > 0 else { return 1 }
        let factor = runningNorm > 0 ? min(1, limit * runningNorm / norm) : 1
        runningNorm = runningNorm > 0 ? 0.95 * runningNorm + 0.05 * norm * factor : norm
        return factor
    }
}
