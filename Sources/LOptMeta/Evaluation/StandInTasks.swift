import Foundation

/// Tasks that need no data, until the evaluation suite takes their place in `TaskList`.
enum StandInTasks {
    static var all: [any TrainingTask] {
        [
            NoisyQuadratic(dimension: 32, condition: 10, noise: 0.1), NoisyQuadratic(dimension: 32, condition: 1e3, noise: 0.1),
            NoisyQuadratic(dimension: 32, condition: 1e3, noise: 0), NoisyQuadratic(dimension: 256, condition: 100, noise: 1),
            LogisticRegression(features: 20, condition: 1), LogisticRegression(features: 20, condition: 100),
        ]
    }
}

/// 1/2 sum_i h_i (x_i - xi_i)^2 with h logarithmically spaced from 1 / condition to 1 and xi normal, of standard deviation
/// `noise`: the noisy quadratic model with a diagonal Hessian.
private struct NoisyQuadratic: TrainingTask {
    let dimension: Int
    let condition: Double
    let noise: Double
    var name: String { "quadratic_\(dimension)_c\(Int(condition))_n\(noise)" }
    var tensors: [TensorSpec] { [TensorSpec("x", [dimension])] }
    var curvatures: [Float] {
        (0..<dimension).map { Float(pow(condition, -Double($0) / Double(max(dimension - 1, 1)))) }
    }

    func initialize(_ parameters: UnsafeMutablePointer<Float>, seed: UInt64) {
        var random = Random(seed, 1)
        for i in 0..<dimension { parameters[i] = Float(random.normal()) }
    }

    func makeWorker() -> any TaskWorker { NoisyQuadraticWorker(self) }
}

private final class NoisyQuadraticWorker: TaskWorker {
    private let task: NoisyQuadratic
    private let curvatures: [Float]

    init(_ task: NoisyQuadratic) {
        self.task = task
        curvatures = task.curvatures
    }

    func loss(
        _ parameters: UnsafePointer<Float>, gradient: UnsafeMutablePointer<Float>, seed: UInt64, step: Int
    ) -> Float {
        var random = Random(seed, 2, UInt64(step))
        var loss: Float = 0
        for i in curvatures.indices {
            let offset = parameters[i] - (task.noise > 0 ? Float(task.noise * random.normal()) : 0)
            gradient[i] = curvatures[i] * offset
            loss += 0.5 * curvatures[i] * offset * offset
        }
        return loss
    }

    func heldOutLoss(_ parameters: UnsafePointer<Float>) -> Float? {
        curvatures.indices.reduce(0) { $0 + 0.5 * curvatures[$1] * parameters[$1] * parameters[$1] }
    }
}

/// Two classes of normal features whose scales are logarithmically spaced from 1 to 1 / condition; labels from a random
/// plane, 10 % of them wrong; minibatches of 32 of 512 examples, 512 held out.
private struct LogisticRegression: TrainingTask {
    let features: Int
    let condition: Double
    static let examples = 512
    static let batch = 32
    var name: String { "logistic_\(features)_c\(Int(condition))" }
    var tensors: [TensorSpec] { [TensorSpec("w", [features, 1]), TensorSpec("b", [1])] }

    func initialize(_ parameters: UnsafeMutablePointer<Float>, seed: UInt64) {
        for i in 0..<parameterCount { parameters[i] = 0 }
    }

    func makeWorker() -> any TaskWorker { LogisticRegressionWorker(self) }
}

private final class LogisticRegressionWorker: TaskWorker {
    private let features: Int
    private var inputs: [Float] = []
    private var labels: [Float] = []

    init(_ task: LogisticRegression) {
        features = task.features
        var random = Random(7, UInt64(task.features), UInt64(task.condition))
        let plane = (0..<features).map { _ in Float(random.normal()) }
        for _ in 0..<(2 * LogisticRegression.examples) {
            var score: Float = 0
            for i in 0..<features {
                let x = Float(random.normal())
                score += plane[i] * x
                inputs.append(x * Float(pow(task.condition, -Double(i) / Double(features - 1))))
            }
            labels.append((score > 0) != random.bool(0.1) ? 1 : -1)
        }
    }

    func loss(
        _ parameters: UnsafePointer<Float>, gradient: UnsafeMutablePointer<Float>, seed: UInt64, step: Int
    ) -> Float {
        var random = Random(seed, 3, UInt64(step))
        for i in 0...features { gradient[i] = 0 }
        var loss: Float = 0
        let share = 1 / Float(LogisticRegression.batch)
        for _ in 0..<LogisticRegression.batch {
            let example = random.index(LogisticRegression.examples)
            let margin = self.margin(parameters, example)
            loss += share * logisticLoss(margin)
            let slope = -share * labels[example] / (1 + exp(margin))
            for i in 0..<features { gradient[i] += slope * inputs[example * features + i] }
            gradient[features] += slope
        }
        return loss
    }

    func heldOutLoss(_ parameters: UnsafePointer<Float>) -> Float? {
        let heldOut = LogisticRegression.examples..<(2 * LogisticRegression.examples)
        return heldOut.reduce(0) { $0 + logisticLoss(margin(parameters, $1)) } / Float(heldOut.count)
    }

    private func margin(_ parameters: UnsafePointer<Float>, _ example: Int) -> Float {
        var score = parameters[features]
        for i in 0..<features { score += parameters[i] * inputs[example * features + i] }
        return labels[example] * score
    }

    /// log(1 + exp(-margin)), without overflow.
    private func logisticLoss(_ margin: Float) -> Float {
        max(-margin, 0) + log1p(exp(-abs(margin)))
    }
}
