/// Tasks that meta-training never sees: no network of it has the layers of one of these. Their data are not all its own: those of the
/// digits and of the text are what meta-training trains other networks on, and of the validation tasks too.
public struct EvaluationSuite: Sendable {
    /// A task and whether its family is one of the meta-training distribution.
    public struct Entry: Sendable {
        public let task: any TrainingTask
        public let family: String
    }

    public let entries: [Entry]
    /// For choosing weights while they are made; not those of the suite, nor of the distribution.
    public let validation: [any TrainingTask]

    /// Throws `LOptMetaError` if the bundled data are not found.
    public init() throws { self.init(data: try BundledData(DataFolder.find())) }

    init(data: BundledData) {
        entries = EvaluationSuite.entries(data)
        validation = EvaluationSuite.validation(data)
    }

    private static func mlp(
        _ family: String, _ data: Dataset, _ hidden: [Int], _ outputs: Int, _ activation: Activation,
        _ loss: NetworkLoss = .crossEntropy, batch: Int, gain: Double = 1.4
    ) -> NetworkTask {
        NetworkTask(
            family: family, "\(hidden.map(String.init).joined(separator: "x"))_\(activation.rawValue)",
            layers: NetworkShapes.mlp(data.inputCount, hidden, outputs, activation, gain: gain), data: data, loss: loss,
            batch: batch)
    }

    private static func entries(_ data: BundledData) -> [Entry] {
        let near: [any TrainingTask] = [
            mlp("mlp", data.digits, [100], 10, .relu, batch: 50),
            mlp("mlp", data.digits, [80, 80, 80], 10, .gelu, batch: 40),
            mlp(
                "mlp", Synthetic.regression(2000, 12, 3, power: 0.7, noise: 0.1, scale: 1, seed: 9001), [40, 40], 3, .tanh,
                .squaredError, batch: 48),
            mlp(
                "mlp", Synthetic.mixture(3000, 24, 12, separation: 1.2, labelNoise: 0.1, seed: 9002), [56, 28], 12, .gelu,
                batch: 48),
            mlp("mlp", data.fashion, [64, 64], 10, .relu, batch: 64),
        ]
        let text = data.text(length: 24), surface = Synthetic.surface(2000, waves: 8, outputs: 1, seed: 9003)
        let far: [(String, any TrainingTask)] = [
            ("deep_tanh", mlp("deep_tanh", data.digits, Array(repeating: 64, count: 8), 10, .tanh, batch: 64, gain: 1)),
            ("sigmoid_network", mlp("sigmoid_network", data.digits, [64, 64], 10, .sigmoid, batch: 64, gain: 1)),
            (
                "sigmoid_autoencoder",
                mlp("sigmoid_autoencoder", data.digitsMirror, [48, 10, 48], 64, .sigmoid, .bernoulli, batch: 64, gain: 1)
            ),
            ("wide_mlp", mlp("wide_mlp", data.digits, [256, 256], 10, .relu, batch: 64)),
            (
                "deep_convolution",
                NetworkTask(
                    family: "deep_convolution", "8x16x16_gelu",
                    layers: NetworkShapes.convolution(side: 8, channels: [8, 16, 16], classes: 10, .gelu), data: data.digits,
                    loss: .crossEntropy, batch: 24, rows: 64)
            ),
            (
                "long_recurrent",
                NetworkTask(
                    family: "long_recurrent", "gru32", layers: NetworkShapes.recurrent(tokens: data.alphabet, width: 32, length: 24),
                    data: text, loss: .crossEntropy, batch: 10, rows: 24)
            ),
            (
                "deep_transformer",
                NetworkTask(
                    family: "deep_transformer", "2x24h4_gelu",
                    layers: NetworkShapes.transformer(
                        tokens: data.alphabet, width: 24, heads: 4, blocks: 2, length: 24, .gelu),
                    data: text, loss: .crossEntropy, batch: 10, rows: 24)
            ),
            ("coordinate_network", mlp("coordinate_network", surface, [40, 40], 1, .sine, .squaredError, batch: 48)),
            (
                "ill_conditioned_tabular",
                mlp("ill_conditioned_tabular", Synthetic.scaledFeatures(1500, 30, decades: 3, seed: 9004), [30], 2, .gelu, batch: 48)
            ),
            (
                "small_gradients",
                mlp(
                    "small_gradients", Synthetic.regression(1500, 12, 2, power: 0.5, noise: 0.05, scale: 1e-3, seed: 9005),
                    [40, 40], 2, .gelu, .squaredError, batch: 48)
            ),
            (
                "residual",
                NetworkTask(
                    family: "residual", "3x40_gelu", layers: residual(64, 40, 3, 10), data: data.digits, loss: .crossEntropy,
                    batch: 48)
            ),
            ("large_quadratic", NoisyQuadratic(size: 400, condition: 5000, noise: 0.2, scale: 1, seed: 9006)),
        ]
        return near.map { Entry(task: $0, family: "mlp") } + far.map { Entry(task: $1, family: $0) }
    }

    /// Blocks of two dense layers with a skip around them.
    private static func residual(_ inputs: Int, _ width: Int, _ blocks: Int, _ outputs: Int) -> [Layer] {
        var layers: [Layer] = [.dense(inputs: inputs, outputs: width, gain: 1)]
        for _ in 0..<blocks {
            layers += [
                .activation(.gelu, width: width), .dense(inputs: width, outputs: width, gain: 1),
                .activation(.gelu, width: width), .dense(inputs: width, outputs: width, gain: 0.5),
                .addEarlier(back: 4, width: width),
            ]
        }
        return layers + [.dense(inputs: width, outputs: outputs, gain: 1)]
    }

    private static func validation(_ data: BundledData) -> [any TrainingTask] {
        let text = data.text(length: 16)
        return [
            mlp("validation_mlp", data.digits, [72, 36], 10, .gelu, batch: 36),
            mlp(
                "validation_mlp", Synthetic.regression(900, 10, 2, power: 0.4, noise: 0.1, scale: 1, seed: 8001), [28, 28], 2,
                .relu, .squaredError, batch: 20),
            mlp(
                "validation_mlp", Synthetic.classification(900, 20, 6, power: 0.4, labelNoise: 0.05, seed: 8002),
                [36, 36, 36], 6, .tanh, batch: 20),
            mlp("validation_deep", data.digits, Array(repeating: 36, count: 7), 10, .tanh, batch: 36, gain: 1),
            mlp(
                "validation_autoencoder", Synthetic.lowRank(900, 28, rank: 5, power: 0.8, seed: 8003), [20, 5, 20], 28, .sigmoid,
                .squaredError, batch: 36),
            mlp(
                "validation_coordinates", Synthetic.surface(900, waves: 4, outputs: 2, seed: 8004), [36, 36], 2, .tanh,
                .squaredError, batch: 36),
            NetworkTask(
                family: "validation_recurrent", "gru20",
                layers: NetworkShapes.recurrent(tokens: data.alphabet, width: 20, length: 16), data: text, loss: .crossEntropy,
                batch: 6, rows: 16),
            NetworkTask(
                family: "validation_transformer", "20h2_relu",
                layers: NetworkShapes.transformer(tokens: data.alphabet, width: 20, heads: 2, blocks: 1, length: 16, .relu),
                data: text, loss: .crossEntropy, batch: 6, rows: 16),
            NoisyQuadratic(size: 50, condition: 300, noise: 0.05, scale: 0.3, seed: 8005),
        ]
    }
}
