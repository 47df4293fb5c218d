/// The meta-training distribution: small networks of many kinds, noisy quadratics. Held-out suite and validation tasks are
/// others (`EvaluationSuite`).
public struct TaskDistribution: TaskSource {
    private let data: BundledData
    /// Windows of the text, shorter than any of the evaluation suite.
    private let texts: [Dataset]

    /// As it is named in the provenance of weights. Change it when the distribution changes.
    public static let name = "distribution-3"

    /// Of all its tasks, for the provenance too.
    public static let dataSources = [
        "digits", "fading", "figures", "low rank", "mixture", "persuasion", "phases", "prototype images", "quadratic", "relaxation",
        "scaled features", "surface", "tables", "teacher labels", "teacher regression",
    ]

    static let textLengths = [8, 12]

    /// Throws `LOptMetaError` if the bundled data are not found.
    public init() throws { self.init(data: try BundledData(DataFolder.find())) }

    init(data: BundledData) {
        self.data = data
        texts = TaskDistribution.textLengths.map { data.persuasion.windows($0) }
    }

    public func task(_ seed: UInt64) -> any TrainingTask {
        var random = Random(seed, 0x7a5c)
        let choice = random.uniform()
        return switch choice {
        case ..<0.10: digits(&random)
        case ..<0.16: images(&random)
        case ..<0.21: autoencoder(&random)
        case ..<0.32: regression(&random)
        case ..<0.42: classification(&random)
        case ..<0.50: figures(&random)
        case ..<0.62: table(&random)
        case ..<0.66: sigmoids(&random)
        case ..<0.70: coordinates(&random)
        case ..<0.73: equation(&random)
        case ..<0.77: embedding(&random)
        case ..<0.81: normalized(&random)
        case ..<0.84: quadratic(&random)
        case ..<0.88: logistic(&random)
        case ..<0.92: convolution(&random)
        case ..<0.97: recurrent(&random)
        default: transformer(&random)
        }
    }

    // MARK: What networks are made of

    private static let activations: [Activation] = [.relu, .tanh, .swish]
    private static let batches = [1, 1, 2, 4, 8, 16, 32, 32, 64, 128]

    private struct Shape {
        let hidden: [Int]
        let activation: Activation
        let gain: Double
        let batch: Int
        var name: String { "\(hidden.map(String.init).joined(separator: "x"))_\(activation.rawValue)" }
    }

    /// 0 to 10 hidden layers, few mostly; narrow when deep.
    private func shape(_ random: inout Random, leastDepth: Int = 0) -> Shape {
        let depth = max(random.pick([0, 1, 1, 2, 2, 3, 3, 4, 5, 6, 8, 10]), leastDepth)
        let width = random.pick(depth > 3 ? [8, 16, 24, 32, 48] : [8, 16, 24, 32, 48, 64, 128])
        let isTapered = random.bool(0.3)
        let hidden = (0..<depth).map { isTapered ? max(width >> $0, 8) : width }
        let batch = random.pick(width > 64 ? [8, 16, 32] : TaskDistribution.batches)
        return Shape(
            hidden: hidden, activation: random.pick(TaskDistribution.activations), gain: random.logUniform(0.5...2),
            batch: batch)
    }

    private func mlp(
        _ data: Dataset, _ outputs: Int, _ loss: NetworkLoss, _ random: inout Random, leastDepth: Int = 0
    ) -> NetworkTask {
        let shape = shape(&random, leastDepth: leastDepth)
        return NetworkTask(
            family: "mlp", shape.name,
            layers: NetworkShapes.mlp(data.inputCount, shape.hidden, outputs, shape.activation, gain: shape.gain), data: data,
            loss: loss, batch: shape.batch)
    }

    // MARK: Families

    /// All of them, or few that are learnt by heart, a part of their labels wrong.
    private func digits(_ random: inout Random) -> NetworkTask {
        guard random.bool(0.4) else { return mlp(data.digits, 10, .crossEntropy, &random) }
        let count = random.pick([100, 300, 900]), labelNoise = random.pick([0, 0, 0.2, 0.4])
        return mlp(data.digitImages.few("digits\(count)", count: count, labelNoise: labelNoise), 10, .crossEntropy, &random)
    }

    private func images(_ random: inout Random) -> NetworkTask {
        let classes = random.pick([3, 5, 10])
        let data = Synthetic.images(random.pick([1500, 4000]), side: 8, classes: classes, seed: random.next())
        return mlp(data, classes, .crossEntropy, &random)
    }

    private func figures(_ random: inout Random) -> NetworkTask {
        let classes = random.pick([2, 3, 4])
        let data = Synthetic.figures(random.pick([600, 1500]), classes: classes, seed: random.next())
        return mlp(data, classes, .crossEntropy, &random, leastDepth: 1)
    }

    private func table(_ random: inout Random) -> NetworkTask {
        let classes = random.pick([2, 2, 3, 4]), isRaw = random.bool(0.4)
        let data = Synthetic.table(
            random.pick([100, 200, 600, 1500]), random.pick([3, 4, 8, 12, 20, 28]), classes, separation: random.uniform(0.5...2.5),
            isRaw: isRaw, seed: random.next())
        guard random.bool(isRaw ? 0.75 : 0.2) else { return mlp(data, classes, .crossEntropy, &random) }
        return NetworkTask(
            family: "logistic", "linear", layers: [.dense(inputs: data.inputCount, outputs: classes, gain: 0.01)], data: data,
            loss: .crossEntropy, batch: random.pick([4, 8, 16, 64]))
    }

    /// Sigmoids throughout and a squared error, as older codes have them.
    private func sigmoids(_ random: inout Random) -> NetworkTask {
        let isDigits = random.bool(0.3), classes = isDigits ? 10 : random.pick([2, 3, 4]), batch = random.pick([1, 1, 4, 16])
        let data = isDigits
            ? self.data.digitImages.oneHot("digits-onehot")
            : Synthetic.table(
                random.pick([120, 400]), random.pick([4, 8, 16]), classes, separation: random.uniform(1...2.5), isRaw: false, isOneHot: true,
                seed: random.next())
        let hidden = Array(repeating: random.pick([8, 16, 24]), count: random.pick([1, 1, 2]))
        return NetworkTask(
            family: "sigmoids", hidden.map(String.init).joined(separator: "x"),
            layers: NetworkShapes.mlp(data.inputCount, hidden, classes, .sigmoid, gain: random.logUniform(0.7...1.5))
                + [.activation(.sigmoid, width: classes)],
            data: data, loss: .squaredError, batch: batch)
    }

    /// Networks over the coordinates of a plane.
    private func coordinates(_ random: inout Random) -> NetworkTask {
        let outputs = random.pick([1, 3]), isSine = random.bool(), depth = random.pick([1, 2, 3])
        let data = Synthetic.surface(random.pick([900, 3000]), waves: random.pick([3, 6]), outputs: outputs, seed: random.next())
        let hidden = Array(repeating: random.pick([16, 24, 32]), count: depth)
        return NetworkTask(
            family: "coordinates", "\(hidden.map(String.init).joined(separator: "x"))_\(isSine ? "sine" : "tanh")",
            layers: isSine
                ? NetworkShapes.coordinates(2, hidden, outputs, gain: random.logUniform(2...12))
                : NetworkShapes.mlp(2, hidden, outputs, .tanh, gain: random.logUniform(1...4)),
            data: data, loss: .squaredError, batch: random.pick([16, 32, 64]))
    }

    private func equation(_ random: inout Random) -> NetworkTask {
        let hidden = Array(repeating: random.pick([12, 20]), count: random.pick([1, 2]))
        return NetworkTask(
            family: "equation", "\(hidden.map(String.init).joined(separator: "x"))_tanh",
            layers: NetworkShapes.mlp(1, hidden, 1, .tanh, gain: random.logUniform(1...3)),
            data: Synthetic.relaxation(600, seed: random.next()), loss: .linearEquation, batch: random.pick([8, 16, 32]), rows: 3)
    }

    private func embedding(_ random: inout Random) -> NetworkTask {
        let tokens = random.pick([20, 50]), width = random.pick([4, 6]), hidden = random.pick([12, 24])
        return NetworkTask(
            family: "embedding", "\(width)_\(hidden)_relu",
            layers: [
                .embedding(tokens: 2 * tokens, width: width, length: 2), .flatten(rows: 2, width: width),
                .dense(inputs: 2 * width, outputs: hidden, gain: 1.4), .activation(.relu, width: hidden),
                .dense(inputs: hidden, outputs: 1, gain: 1),
            ],
            data: Synthetic.phases(random.pick([800, 4000]), tokens: tokens, noise: random.pick([0, 0.3]), seed: random.next()),
            loss: .squaredError, batch: random.pick([8, 16, 32]), rows: 2)
    }

    private func autoencoder(_ random: inout Random) -> NetworkTask {
        let isDigits = random.bool()
        let width = random.pick([16, 24, 32])
        let data = isDigits
            ? self.data.digitsMirror
            : Synthetic.lowRank(
                random.pick([200, 600]), width, rank: random.pick([3, 6, 10]), power: random.uniform(0...1.5), seed: random.next())
        let bottleneck = random.pick([2, 4, 8, 16]), side = random.pick([16, 24, 32])
        let activation = random.pick(TaskDistribution.activations)
        let hidden = random.bool() ? [bottleneck] : [side, bottleneck, side]
        return NetworkTask(
            family: "autoencoder", "\(hidden.map(String.init).joined(separator: "x"))_\(activation.rawValue)",
            layers: NetworkShapes.mlp(data.inputCount, hidden, data.inputCount, activation, gain: random.logUniform(0.7...1.5)),
            data: data, loss: isDigits && random.bool() ? .bernoulli : .squaredError,
            batch: random.pick([16, 32, 64]))
    }

    private func regression(_ random: inout Random) -> NetworkTask {
        let outputs = random.pick([1, 1, 4])
        // A part with small targets: gradients of 10^-3 and below.
        let scale = random.bool(0.7) ? 1 : random.logUniform(0.01...10)
        let data = Synthetic.regression(
            random.pick([128, 400, 1200, 4000]), random.pick([4, 8, 16, 32]), outputs, power: random.uniform(0...1),
            noise: random.pick([0, 0, 0.05, 0.2, 0.5]), scale: scale, seed: random.next())
        return mlp(data, outputs, .squaredError, &random)
    }

    private func classification(_ random: inout Random) -> NetworkTask {
        let classes = random.pick([2, 3, 5, 10]), inputs = random.pick([8, 16, 32])
        let count = random.pick([150, 400, 1200, 4000]), labelNoise = random.pick([0, 0, 0.05, 0.2])
        let data = random.bool()
            ? Synthetic.classification(
                count, inputs, classes, power: random.uniform(0...1), labelNoise: labelNoise, seed: random.next())
            : Synthetic.mixture(
                count, inputs, classes, separation: random.uniform(0.5...2), labelNoise: labelNoise, seed: random.next())
        return mlp(data, classes, .crossEntropy, &random)
    }

    private func normalized(_ random: inout Random) -> NetworkTask {
        let shape = shape(&random, leastDepth: 1)
        let data = random.bool()
            ? self.data.digits
            : Synthetic.classification(600, 16, 10, power: 0.5, labelNoise: 0.05, seed: random.next())
        return NetworkTask(
            family: "normalized", shape.name,
            layers: NetworkShapes.normalized(data.inputCount, shape.hidden, 10, shape.activation), data: data,
            loss: .crossEntropy, batch: shape.batch)
    }

    private func quadratic(_ random: inout Random) -> NoisyQuadratic {
        NoisyQuadratic(
            size: random.pick([10, 30, 100]), condition: random.logUniform(3...1000), noise: random.pick([0, 0.01, 0.1, 0.5]),
            scale: random.logUniform(0.01...10), seed: random.next())
    }

    private func logistic(_ random: inout Random) -> NetworkTask {
        let data = Synthetic.scaledFeatures(
            random.pick([200, 800]), random.pick([8, 20]), decades: random.uniform(0...2.5), seed: random.next())
        return NetworkTask(
            family: "logistic", "linear", layers: [.dense(inputs: data.inputCount, outputs: 2, gain: 0.1)], data: data,
            loss: .crossEntropy, batch: random.pick([8, 32, 128]))
    }

    private func convolution(_ random: inout Random) -> NetworkTask {
        let channels = random.pick([[4], [4, 8], [6, 6]]), activation = random.pick([Activation.relu, .swish])
        let images = random.bool() ? data.digits : Synthetic.images(2500, side: 8, classes: 10, seed: random.next())
        return NetworkTask(
            family: "convolution", "\(channels.map(String.init).joined(separator: "x"))_\(activation.rawValue)",
            layers: NetworkShapes.convolution(side: 8, channels: channels, classes: 10, activation), data: images,
            loss: .crossEntropy, batch: random.pick([8, 16]), rows: 64)
    }

    private func recurrent(_ random: inout Random) -> NetworkTask {
        if random.bool(0.4) {
            let width = random.pick([8, 12, 16]), length = random.pick([6, 9])
            return NetworkTask(
                family: "recurrent", "gru\(width)_mean",
                layers: [
                    .recurrent(inputs: 2, width: width, length: length), .meanOverRows(rows: length, width: width),
                    .dense(inputs: width, outputs: 1, gain: 1),
                ],
                data: Synthetic.fading(random.pick([400, 2000]), length: length, seed: random.next()), loss: .squaredError,
                batch: random.pick([8, 16]), rows: length)
        }
        let text = random.pick(texts), width = random.pick([8, 12, 16])
        return NetworkTask(
            family: "recurrent", "gru\(width)",
            layers: NetworkShapes.recurrent(tokens: data.persuasion.alphabet, width: width, length: text.inputCount), data: text,
            loss: .crossEntropy, batch: random.pick([2, 4, 8]), rows: text.inputCount)
    }

    private func transformer(_ random: inout Random) -> NetworkTask {
        let text = random.pick(texts), width = random.pick([8, 12, 16]), heads = random.pick([1, 2])
        let activation = random.pick([Activation.relu, .swish])
        return NetworkTask(
            family: "transformer", "\(width)h\(heads)_\(activation.rawValue)",
            layers: NetworkShapes.transformer(
                tokens: data.persuasion.alphabet, width: width, heads: heads, blocks: 1, length: text.inputCount, activation),
            data: text, loss: .crossEntropy, batch: random.pick([2, 4, 8]), rows: text.inputCount)
    }
}
