/// Tasks for choosing weights while they are made, `lopt evaluate --validation`: other networks than those of the distribution, on its
/// data and generators.
enum ValidationTasks {
    static func make(_ data: BundledData) -> [any TrainingTask] {
        let text = data.persuasion.windows(16)
        return [
            NetworkTask.mlp("validation_mlp", data.digits, [72, 36], 10, .gelu, batch: 36),
            NetworkTask.mlp(
                "validation_mlp", Synthetic.regression(900, 10, 2, power: 0.4, noise: 0.1, scale: 1, seed: 8001), [28, 28], 2,
                .relu, .squaredError, batch: 20),
            NetworkTask.mlp(
                "validation_mlp", Synthetic.classification(900, 20, 6, power: 0.4, labelNoise: 0.05, seed: 8002),
                [36, 36, 36], 6, .tanh, batch: 20),
            NetworkTask.mlp("validation_deep", data.digits, Array(repeating: 36, count: 7), 10, .tanh, batch: 36, gain: 1),
            NetworkTask.mlp(
                "validation_autoencoder", Synthetic.lowRank(900, 28, rank: 5, power: 0.8, seed: 8003), [20, 5, 20], 28, .sigmoid,
                .squaredError, batch: 36),
            NetworkTask.mlp(
                "validation_coordinates", Synthetic.surface(900, waves: 4, outputs: 2, seed: 8004), [36, 36], 2, .tanh,
                .squaredError, batch: 36),
            NetworkTask(
                family: "validation_recurrent", "gru20",
                layers: NetworkShapes.recurrent(tokens: data.persuasion.alphabet, width: 20, length: 16), data: text, loss: .crossEntropy,
                batch: 6, rows: 16),
            NetworkTask(
                family: "validation_transformer", "20h2_relu",
                layers: NetworkShapes.transformer(tokens: data.persuasion.alphabet, width: 20, heads: 2, blocks: 1, length: 16, .relu),
                data: text, loss: .crossEntropy, batch: 6, rows: 16),
            NoisyQuadratic(size: 50, condition: 300, noise: 0.05, scale: 0.3, seed: 8005),
            // More examples than a run goes through often.
            NetworkTask.mlp(
                "validation_many", Synthetic.classification(6000, 48, 10, power: 0.3, labelNoise: 0, seed: 8006), [72, 72], 10, .relu,
                batch: 48),
            NetworkTask.mlp(
                "validation_many", Synthetic.regression(5000, 12, 3, power: 0.3, noise: 0, scale: 1, seed: 8007), [52, 52], 3, .gelu,
                .squaredError, batch: 52),
            NetworkTask.mlp("validation_many", Synthetic.surface(6000, waves: 6, outputs: 1, seed: 8008), [52, 52, 52], 1, .tanh, .squaredError, batch: 52),
            NetworkTask(
                family: "validation_normalized", "52x52_gelu", layers: NetworkShapes.normalized(64, [52, 52], 10, .gelu), data: data.digits,
                loss: .crossEntropy, batch: 36),
            NetworkTask(
                family: "validation_convolution", "10x10_relu",
                layers: NetworkShapes.convolution(side: 8, channels: [10, 10], classes: 10, .relu), data: data.digits,
                loss: .crossEntropy, batch: 20, rows: 64),
            NetworkTask(
                family: "validation_unscaled", "linear", layers: [.dense(inputs: 18, outputs: 2, gain: 0.01)],
                data: Synthetic.scaledFeatures(1500, 18, decades: 2.5, seed: 8009), loss: .crossEntropy, batch: 20),
            NetworkTask(
                family: "validation_recurrent", "gru36",
                layers: NetworkShapes.recurrent(tokens: data.persuasion.alphabet, width: 36, length: 24), data: data.persuasion.windows(24),
                loss: .crossEntropy, batch: 12, rows: 24),
        ]
    }
}
