/// Tasks for choosing weights while they are made, `lopt evaluate --validation`: other networks than those of the distribution, on its
/// data and generators. As those of the evaluation, half of them can be learnt by heart.
enum ValidationTasks {
    static func make(_ data: BundledData) -> [any TrainingTask] { images(data) + sequences(data) + tables(data) + functions() }

    private static func images(_ data: BundledData) -> [any TrainingTask] {
        let images = Synthetic.images(4000, side: 8, classes: 10, seed: 8010)
        return [
            NetworkTask.mlp("validation_mlp", data.digits, [72, 36], 10, .gelu, batch: 36),
            NetworkTask.mlp("validation_deep", data.digits, Array(repeating: 36, count: 7), 10, .tanh, batch: 36, gain: 1),
            NetworkTask(
                family: "validation_normalized", "52x52_gelu", layers: NetworkShapes.normalized(64, [52, 52], 10, .gelu), data: data.digits,
                loss: .crossEntropy, batch: 36),
            NetworkTask(
                family: "validation_convolution", "10x10_relu",
                layers: NetworkShapes.convolution(side: 8, channels: [10, 10], classes: 10, .relu), data: data.digits,
                loss: .crossEntropy, batch: 20, rows: 64),
            NetworkTask(
                family: "validation_convolution", "6x10_gelu",
                layers: NetworkShapes.normalizedConvolution(side: 8, channels: [6, 10], classes: 10, .gelu), data: images,
                loss: .crossEntropy, batch: 12, rows: 64),
            NetworkTask(
                family: "validation_residual", "3x36_gelu", layers: NetworkShapes.residual(64, 36, 3, 10), data: images,
                loss: .crossEntropy, batch: 40),
            NetworkTask.mlp("validation_memorized", data.digitImages.few("digits150", count: 150), [60, 60], 10, .relu, batch: 20),
            NetworkTask.mlp(
                "validation_label_noise", data.digitImages.few("digits700-noisy", count: 700, labelNoise: 0.3), [100], 10, .relu, batch: 28),
            NetworkTask.mlp("validation_online", images, [36], 10, .relu, batch: 1),
            NetworkTask(
                family: "validation_sigmoids", "44x44",
                layers: NetworkShapes.mlp(64, [44, 44], 10, .sigmoid, gain: 1) + [.activation(.sigmoid, width: 10)],
                data: data.digitImages.oneHot("digits-onehot"), loss: .squaredError, batch: 20),
        ]
    }

    private static func sequences(_ data: BundledData) -> [any TrainingTask] {
        let text = data.persuasion.windows(16), tokens = data.persuasion.alphabet
        return [
            NetworkTask(
                family: "validation_recurrent", "gru20", layers: NetworkShapes.recurrent(tokens: tokens, width: 20, length: 16), data: text,
                loss: .crossEntropy, batch: 6, rows: 16),
            NetworkTask(
                family: "validation_recurrent", "gru36", layers: NetworkShapes.recurrent(tokens: tokens, width: 36, length: 24),
                data: data.persuasion.windows(24), loss: .crossEntropy, batch: 12, rows: 24),
            NetworkTask(
                family: "validation_recurrent", "gru20_mean",
                layers: [
                    .recurrent(inputs: 2, width: 20, length: 12), .meanOverRows(rows: 12, width: 20),
                    .dense(inputs: 20, outputs: 1, gain: 1),
                ],
                data: Synthetic.fading(2500, length: 12, seed: 8011), loss: .squaredError, batch: 20, rows: 12),
            NetworkTask(
                family: "validation_transformer", "20h2_relu",
                layers: NetworkShapes.transformer(tokens: tokens, width: 20, heads: 2, blocks: 1, length: 16, .relu), data: text,
                loss: .crossEntropy, batch: 6, rows: 16),
        ]
    }

    private static func tables(_ data: BundledData) -> [any TrainingTask] {
        let raw = Synthetic.table(160, 10, 3, separation: 2, isRaw: true, seed: 8012)
        return [
            NetworkTask.mlp(
                "validation_mlp", Synthetic.classification(900, 20, 6, power: 0.4, labelNoise: 0.05, seed: 8002), [36, 36, 36], 6, .tanh,
                batch: 20),
            // More examples than a run goes through often.
            NetworkTask.mlp(
                "validation_many", Synthetic.classification(6000, 48, 10, power: 0.3, labelNoise: 0, seed: 8006), [72, 72], 10, .relu,
                batch: 48),
            NetworkTask.mlp(
                "validation_table", Synthetic.table(500, 24, 2, separation: 1, isRaw: false, seed: 8013), [20, 20], 2, .gelu, batch: 12),
            NetworkTask(
                family: "validation_unscaled", "linear", layers: [.dense(inputs: 18, outputs: 2, gain: 0.01)],
                data: Synthetic.scaledFeatures(1500, 18, decades: 2.5, seed: 8009), loss: .crossEntropy, batch: 20),
            NetworkTask(
                family: "validation_unscaled", "linear", layers: [.dense(inputs: 10, outputs: 3, gain: 0.01)], data: raw, loss: .crossEntropy,
                batch: 20),
            NetworkTask(
                family: "validation_sigmoids", "10",
                layers: NetworkShapes.mlp(5, [10], 3, .sigmoid, gain: 1) + [.activation(.sigmoid, width: 3)],
                data: Synthetic.table(150, 5, 3, separation: 2, isRaw: false, isOneHot: true, seed: 8014), loss: .squaredError, batch: 1),
            NetworkTask.mlp(
                "validation_autoencoder", Synthetic.lowRank(900, 28, rank: 5, power: 0.8, seed: 8003), [20, 5, 20], 28, .sigmoid,
                .squaredError, batch: 36),
        ]
    }

    private static func functions() -> [any TrainingTask] {
        let few = Synthetic.regression(150, 8, 1, power: 0.2, noise: 0.2, scale: 1, seed: 8015)
        return [
            NetworkTask.mlp(
                "validation_mlp", Synthetic.regression(900, 10, 2, power: 0.4, noise: 0.1, scale: 1, seed: 8001), [28, 28], 2, .relu,
                .squaredError, batch: 20),
            NetworkTask.mlp(
                "validation_many", Synthetic.regression(5000, 12, 3, power: 0.3, noise: 0, scale: 1, seed: 8007), [52, 52], 3, .gelu,
                .squaredError, batch: 52),
            NetworkTask.mlp(
                "validation_noise", Synthetic.regression(1000, 10, 1, power: 0.2, noise: 0.3, scale: 1, seed: 8016), [36, 20], 1, .gelu,
                .squaredError, batch: 20),
            NetworkTask.mlp("validation_full_batch", few, [20], 1, .tanh, .squaredError, batch: few.trainCount),
            NetworkTask.mlp(
                "validation_coordinates", Synthetic.surface(900, waves: 4, outputs: 2, seed: 8004), [36, 36], 2, .tanh, .squaredError,
                batch: 36),
            NetworkTask.mlp(
                "validation_many", Synthetic.surface(6000, waves: 6, outputs: 1, seed: 8008), [52, 52, 52], 1, .tanh, .squaredError, batch: 52),
            NetworkTask(
                family: "validation_coordinates", "40x40_sine", layers: NetworkShapes.coordinates(2, [40, 40], 1, gain: 8),
                data: Synthetic.surface(3000, waves: 6, outputs: 1, seed: 8017), loss: .squaredError, batch: 80),
            NetworkTask.mlp("validation_figures", Synthetic.figures(900, classes: 2, seed: 8018), [20, 20], 2, .relu, batch: 20),
            NetworkTask.mlp("validation_figures", Synthetic.figures(900, classes: 3, seed: 8019), [30, 30], 3, .tanh, batch: 28),
            NetworkTask(
                family: "validation_equation", "24x24_tanh", layers: NetworkShapes.mlp(1, [24, 24], 1, .tanh, gain: 1.5),
                data: Synthetic.relaxation(600, seed: 8020), loss: .linearEquation, batch: 20, rows: 3),
            NetworkTask(
                family: "validation_embedding", "5_20_relu",
                layers: [
                    .embedding(tokens: 80, width: 5, length: 2), .flatten(rows: 2, width: 5), .dense(inputs: 10, outputs: 20, gain: 1.4),
                    .activation(.relu, width: 20), .dense(inputs: 20, outputs: 1, gain: 1),
                ],
                data: Synthetic.phases(4000, tokens: 40, noise: 0.2, seed: 8021), loss: .squaredError, batch: 20, rows: 2),
            NoisyQuadratic(size: 50, condition: 300, noise: 0.05, scale: 0.3, seed: 8005),
        ]
    }
}
