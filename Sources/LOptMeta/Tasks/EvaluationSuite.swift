/// Tasks that meta-training never sees: no network of it has the layers of one of these, and no data set or generator is shared with
/// it or with the validation tasks.
public struct EvaluationSuite: Sendable {
    public struct Entry: Sendable {
        public let task: any TrainingTask
        /// The kind of task.
        public let family: String
    }

    public let entries: [Entry]
    /// For choosing weights while they are made; not those of the suite, nor of the distribution, whose data they share.
    public let validation: [any TrainingTask]

    /// Throws `LOptMetaError` if the bundled data are not found.
    public init() throws { self.init(data: try BundledData(DataFolder.find())) }

    init(data: BundledData) {
        entries = (EvaluationSuite.images(data.evaluation) + EvaluationSuite.sequences(data.evaluation)
            + EvaluationSuite.tables(data.evaluation) + EvaluationSuite.functions(data.evaluation)).map { Entry(task: $0, family: $0.family) }
            + EvaluationSuite.units(data.evaluation)
        validation = ValidationTasks.make(data)
    }

    private static func images(_ data: EvaluationData) -> [NetworkTask] {
        let fashion = data.fashion, oneHot = data.images.oneHot("fashion-onehot"), mirror = data.images.mirrored("fashion")
        return [
            .mlp("mlp", fashion, [64, 64], 10, .relu, batch: 64),
            .mlp("wide_mlp", fashion, [192], 10, .gelu, batch: 48),
            .mlp("deep_tanh", fashion, Array(repeating: 40, count: 8), 10, .tanh, batch: 40, gain: 1),
            NetworkTask(
                family: "residual", "3x40_gelu", layers: NetworkShapes.residual(196, 40, 3, 10), data: fashion, loss: .crossEntropy,
                batch: 48),
            NetworkTask(
                family: "normalized_mlp", "60x60_gelu", layers: NetworkShapes.normalized(196, [60, 60], 10, .gelu), data: fashion,
                loss: .crossEntropy, batch: 48),
            NetworkTask(
                family: "sigmoid_squared_error", "48x48_sigmoid",
                layers: NetworkShapes.mlp(196, [48, 48], 10, .sigmoid, gain: 1) + [.activation(.sigmoid, width: 10)], data: oneHot,
                loss: .squaredError, batch: 32),
            NetworkTask(
                family: "convolution", "6x12_relu", layers: NetworkShapes.convolution(side: 14, channels: [6, 12], classes: 10, .relu),
                data: fashion, loss: .crossEntropy, batch: 16, rows: 196),
            NetworkTask(
                family: "normalized_convolution", "6x12_gelu",
                layers: NetworkShapes.normalizedConvolution(side: 14, channels: [6, 12], classes: 10, .gelu), data: fashion,
                loss: .crossEntropy, batch: 16, rows: 196),
            NetworkTask(
                family: "batch_normalized_convolution", "8x16_relu",
                layers: NetworkShapes.batchNormalizedConvolution(side: 14, channels: [8, 16], classes: 10, .relu), data: fashion,
                loss: .crossEntropy, batch: 32, rows: 196),
            NetworkTask(
                family: "residual_convolution", "2x12_relu",
                layers: NetworkShapes.residualConvolution(side: 14, channels: 12, blocks: 2, classes: 10), data: fashion,
                loss: .crossEntropy, batch: 24, rows: 196),
            .mlp("autoencoder", mirror, [48, 12, 48], 196, .sigmoid, .bernoulli, batch: 48, gain: 1),
            // Learnt by heart, with labels of which a third is wrong, and one example at a time.
            .mlp("memorized", data.images.few("fashion200", count: 200), [64, 64], 10, .relu, batch: 20),
            .mlp("label_noise", data.images.few("fashion1000-noisy", count: 1000, labelNoise: 0.3), [96], 10, .relu, batch: 32),
            .mlp("online", fashion, [32], 10, .relu, batch: 1),
        ]
    }

    private static func sequences(_ data: EvaluationData) -> [NetworkTask] {
        let text = data.shakespeare.windows(24), short = data.shakespeare.windows(16), tokens = data.shakespeare.alphabet
        let adding = EvaluationSynthetic.adding(3000, length: 12, seed: 9101)
        return [
            NetworkTask(
                family: "recurrent", "gru32", layers: NetworkShapes.recurrent(tokens: tokens, width: 32, length: 24), data: text,
                loss: .crossEntropy, batch: 8, rows: 24),
            NetworkTask(
                family: "recurrent", "gru24_mean",
                layers: [
                    .recurrent(inputs: 2, width: 24, length: 12), .meanOverRows(rows: 12, width: 24),
                    .dense(inputs: 24, outputs: 1, gain: 1),
                ], data: adding, loss: .squaredError, batch: 24, rows: 12),
            NetworkTask(
                family: "transformer", "2x24h4_gelu",
                layers: NetworkShapes.transformer(tokens: tokens, width: 24, heads: 4, blocks: 2, length: 24, .gelu), data: text,
                loss: .crossEntropy, batch: 8, rows: 24),
            NetworkTask(
                family: "transformer", "1x40h2_relu",
                layers: NetworkShapes.transformer(tokens: tokens, width: 40, heads: 2, blocks: 1, length: 16, .relu), data: short,
                loss: .crossEntropy, batch: 8, rows: 16),
        ]
    }

    private static func tables(_ data: EvaluationData) -> [NetworkTask] {
        let cancer = data.breastCancer
        return [
            .mlp("tabular_mlp", cancer.dataset, [24, 24], 2, .gelu, batch: 16),
            NetworkTask(
                family: "logistic_unscaled", "linear", layers: [.dense(inputs: 13, outputs: 3, gain: 0.01)],
                data: data.wine.unscaled, loss: .crossEntropy, batch: 24),
            NetworkTask(
                family: "logistic_unscaled", "linear", layers: [.dense(inputs: 30, outputs: 2, gain: 0.01)], data: cancer.unscaled,
                loss: .crossEntropy, batch: 32),
            NetworkTask(
                family: "sigmoid_squared_error", "12_sigmoid",
                layers: NetworkShapes.mlp(4, [12], 3, .sigmoid, gain: 1) + [.activation(.sigmoid, width: 3)], data: data.iris.oneHot,
                loss: .squaredError, batch: 1),
            .mlp("autoencoder", cancer.mirror, [14, 4, 14], 30, .tanh, .squaredError, batch: 24, gain: 1),
            .mlp("tabular_regression", data.doctorVisits.regression, [36, 36], 1, .gelu, .squaredError, batch: 48),
        ]
    }

    private static func functions(_ data: EvaluationData) -> [NetworkTask] {
        let friedman = EvaluationSynthetic.friedman(1200, seed: 9102), oscillator = EvaluationSynthetic.oscillator(2500, seed: 9103)
        let few = EvaluationSynthetic.friedman(150, seed: 9109)
        let ratings = EvaluationSynthetic.ratings(6000, users: 60, items: 40, rank: 4, seed: 9104)
        return [
            .mlp("surrogate", oscillator, [44, 44], 2, .tanh, .squaredError, batch: 48, gain: 1),
            .mlp("noisy_regression", friedman, [36, 18], 1, .relu, .squaredError, batch: 24),
            .mlp("full_batch", few, [24], 1, .tanh, .squaredError, batch: few.trainCount),
            .mlp("spirals", EvaluationSynthetic.spirals(1000, arms: 3, noise: 0.02, seed: 9105), [28, 28], 3, .tanh, batch: 24),
            NetworkTask(
                family: "coordinate_network", "48x48_sine",
                // The first layer's waves have up to some dozen radians from edge to edge.
                layers: NetworkShapes.coordinates(2, [48, 48], 1, gain: 15), data: data.picture, loss: .squaredError, batch: 96),
            NetworkTask(
                family: "embedding", "8_32_relu",
                layers: [
                    .embedding(tokens: 100, width: 8, length: 2), .flatten(rows: 2, width: 8),
                    .dense(inputs: 16, outputs: 32, gain: 1.4), .activation(.relu, width: 32), .dense(inputs: 32, outputs: 1, gain: 1),
                ], data: ratings, loss: .squaredError, batch: 32, rows: 2),
            NetworkTask(
                family: "physics_informed", "28x28_tanh", layers: NetworkShapes.mlp(1, [28, 28], 1, .tanh, gain: 1.5),
                data: EvaluationSynthetic.poisson(600, seed: 9106), loss: .linearEquation, batch: 32, rows: 3),
        ]
    }

    /// The same kinds in other units of the loss.
    private static func units(_ data: EvaluationData) -> [Entry] {
        let fashion = NetworkTask.mlp("mlp", data.fashion, [48], 10, .gelu, batch: 32)
        let friedman = NetworkTask.mlp(
            "noisy_regression", EvaluationSynthetic.friedman(1200, seed: 9107), [32, 32], 1, .gelu, .squaredError, batch: 32)
        let small = NetworkTask.mlp(
            "small_targets", EvaluationSynthetic.oscillator(2000, noise: 0.1, scale: 0.01, seed: 9108), [32, 32], 2, .gelu, .squaredError, batch: 32)
        return [
            Entry(task: ScaledLoss(fashion, by: 1e-5), family: "small_loss_unit"),
            Entry(task: ScaledLoss(friedman, by: 1e4), family: "large_loss_unit"), Entry(task: small, family: "small_targets"),
        ]
    }
}

extension NetworkTask {
    /// Hidden layers of these widths.
    static func mlp(
        _ family: String, _ data: Dataset, _ hidden: [Int], _ outputs: Int, _ activation: Activation,
        _ loss: NetworkLoss = .crossEntropy, batch: Int, gain: Double = 1.4
    ) -> NetworkTask {
        NetworkTask(
            family: family, "\(hidden.map(String.init).joined(separator: "x"))_\(activation.rawValue)",
            layers: NetworkShapes.mlp(data.inputCount, hidden, outputs, activation, gain: gain), data: data, loss: loss,
            batch: batch)
    }
}
