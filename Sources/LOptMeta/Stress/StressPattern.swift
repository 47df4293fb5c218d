/// A training that has wrecked optimizers: what happens in it, and how many steps it takes.
struct StressPattern: Sendable {
    let name: String
    let task: any TrainingTask
    var steps = 1000
    /// Whether each layer has an optimizer of its own.
    var isPerLayer = false

    /// The patterns, on small networks and generated data. Steps count from 0.
    static func all() -> [StressPattern] {
        let network = mlp([24, 24], .tanh), names = network.tensors.map(\.name)
        func altered(_ name: String, _ alteration: @escaping AlteredTask.Alteration) -> StressPattern {
            StressPattern(name: name, task: AlteredTask(name, network, alteration: alteration))
        }
        func scaled(_ name: String, _ factor: @escaping @Sendable (Int) -> Float) -> StressPattern {
            altered(name) { step, _, gradient, tensors in scale(gradient, 0..<(tensors.last?.upperBound ?? 0), factor(step)) }
        }
        func turns(_ length: Int, factor: Float) -> StressPattern {
            altered("layers in turns of \(length), the resting gradients x \(Format.round(Double(factor)))") { step, _, gradient, tensors in
                // Weight and bias of a layer rest together; the first and the others take turns.
                for (i, tensor) in tensors.enumerated() where (i / 2 == 0) == (step / length % 2 == 0) { scale(gradient, tensor, factor) }
            }
        }
        let zeros = [
            scaled("gradients are 0 from step 200 on") { $0 < 200 ? 1 : 0 }, scaled("gradients are 0 until step 500") { $0 < 500 ? 0 : 1 },
            scaled("a gradient in one step of 50 from step 200 on") { $0 < 200 || $0 % 50 == 0 ? 1 : 0 },
            scaled("gradients x 1e-6 but in one step of 50 from step 200 on") { $0 < 200 || $0 % 50 == 0 ? 1 : 1e-6 },
            scaled("gradients x 1e-6 from step 200 on") { $0 < 200 ? 1 : 1e-6 },
            altered("gradients are 0 while the loss is below half of the first") { _, loss, gradient, tensors in
                if loss < 0.25 { scale(gradient, 0..<(tensors.last?.upperBound ?? 0), 0) }
            },
            turns(20, factor: 0), turns(100, factor: 0), turns(100, factor: 1e-5),
            StressPattern(name: "embedding rows met once in a thousand steps", task: rare(), steps: 3000),
        ]
        let spikes = [
            scaled("gradients x 1e3 in one step of 100") { $0 % 100 == 50 ? 1e3 : 1 },
            scaled("gradients x 1e6 in step 300") { $0 == 300 ? 1e6 : 1 },
            altered("one element of the gradient x 1e9 in step 300") { step, _, gradient, _ in if step == 300 { gradient[0] *= 1e9 } },
        ]
        let units = ([1e-6, 1e-3, 1e3, 1e6] as [Float]).map {
            StressPattern(name: "loss x \(Format.round(Double($0)))", task: ScaledLoss(network, by: $0))
        } + ([0.1, 10] as [Float]).map {
            StressPattern(name: "start x \(Format.round(Double($0)))", task: AlteredTask("start \($0)", network, start: $0))
        } + [
            StressPattern(
                name: "parameters near 1,000 that have to move by 1",
                task: AlteredTask("offset", NoisyQuadratic(size: 64, condition: 1, noise: 0.01, scale: 1, seed: 5), offset: 1000)),
            StressPattern(
                name: "a quadratic of condition 1e6",
                task: NoisyQuadratic(size: 50, condition: 1e6, noise: 0.01, scale: 1, seed: 6)),
        ]
        let deep = mlp(Array(repeating: 20, count: 4), .tanh)
        let tensors = [
            StressPattern(name: "all tensors in one optimizer", task: deep),
            StressPattern(name: "an optimizer for each layer", task: deep, isPerLayer: true),
            StressPattern(
                name: "the network as one flat vector",
                task: AlteredTask("flat", deep, tensors: [TensorSpec("all", [deep.parameterCount])])),
            StressPattern(
                name: "biases as columns of a matrix",
                task: AlteredTask("columns", network, tensors: zip(names, network.tensors).map { TensorSpec($0, $1.shape + [1]) })),
        ]
        let sigmoid = [1, 32].map { batch in
            StressPattern(
                name: "sigmoid network, squared error, \(batch == 1 ? "one example a step" : "batches of \(batch)")",
                task: squaredSigmoid([24], batch: batch))
        } + [StressPattern(name: "sigmoid network of three hidden layers, squared error", task: squaredSigmoid([20, 20, 20], batch: 32))]
        return zeros + spikes + units + tensors + sigmoid
    }

    private static func scale(_ gradient: UnsafeMutablePointer<Float>, _ range: Range<Int>, _ factor: Float) {
        for i in range { gradient[i] *= factor }
    }

    private static func mlp(_ hidden: [Int], _ activation: Activation) -> NetworkTask {
        .mlp("stress", EvaluationSynthetic.friedman(600, seed: 9201), hidden, 1, activation, .squaredError, batch: 32, gain: 1)
    }

    private static func squaredSigmoid(_ hidden: [Int], batch: Int) -> NetworkTask {
        let bands = EvaluationSynthetic.bands(600, classes: 4, seed: 9202)
        return NetworkTask(
            family: "stress", "\(hidden)",
            layers: NetworkShapes.mlp(8, hidden, 4, .sigmoid, gain: 1) + [.activation(.sigmoid, width: 4)], data: bands,
            loss: .squaredError, batch: batch)
    }

    private static func rare() -> NetworkTask {
        let ratings = EvaluationSynthetic.ratings(4000, users: 1000, items: 20, rank: 2, seed: 9203)
        return NetworkTask(
            family: "stress", "embedding",
            layers: [
                .embedding(tokens: 1020, width: 4, length: 2), .flatten(rows: 2, width: 4), .dense(inputs: 8, outputs: 12, gain: 1),
                .activation(.tanh, width: 12), .dense(inputs: 12, outputs: 1, gain: 1),
            ], data: ratings, loss: .squaredError, batch: 1, rows: 2)
    }
}
