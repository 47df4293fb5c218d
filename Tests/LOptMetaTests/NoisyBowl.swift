import LOptMeta

/// A noisy quadratic for tests: sum_i h_i (x_i - xi)^2 / 2, h from 1 to `condition` / 100.
struct NoisyBowl: TrainingTask {
    var size = 12
    var condition = 100.0
    var name: String { "bowl_\(size)_\(condition)" }
    var tensors: [TensorSpec] { [TensorSpec("x", [size]), TensorSpec("y", [size, 2])] }

    func initialize(_ parameters: UnsafeMutablePointer<Float>, seed: UInt64) {
        var random = Random(seed, 1)
        for i in 0..<parameterCount { parameters[i] = Float(random.normal()) }
    }

    func makeWorker() -> any TaskWorker { Worker(task: self) }

    final class Worker: TaskWorker {
        let task: NoisyBowl
        let count: Int
        init(task: NoisyBowl) {
            self.task = task
            count = task.parameterCount
        }

        func loss(
            _ parameters: UnsafePointer<Float>, gradient: UnsafeMutablePointer<Float>, seed: UInt64, step: Int
        ) -> Float {
            var random = Random(seed, UInt64(step))
            var sum: Float = 0
            for i in 0..<count {
                let h = Float(task.condition / 100) * Float(i + 1) / Float(count)
                let offset = parameters[i] - 0.05 * Float(random.normal())
                gradient[i] = h * offset
                sum += 0.5 * h * offset * offset
            }
            return sum
        }

        func heldOutLoss(_ parameters: UnsafePointer<Float>) -> Float? {
            (0..<count).reduce(0) { $0 + parameters[$1] * parameters[$1] }
        }
    }
}

/// Bowls of conditions that depend on the seed.
struct NoisyBowls: TaskSource {
    func task(_ seed: UInt64) -> any TrainingTask {
        NoisyBowl(size: 4 + Int(seed % 12), condition: [10, 100, 1000][Int(seed / 16 % 3)])
    }
}
