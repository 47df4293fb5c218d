/// Tasks for choosing weights while they are made: other networks than those of the distribution, on its data.
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
        ]
    }
}
