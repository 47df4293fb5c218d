/// The experiment of the paper: weights are meta-trained on `source` alone, for runs of 2,000 steps, and then train `others`: other
/// networks on other data, for longer.
enum TransferTasks {
    /// That of `source`.
    static let name = "mlp_fashion_32_relu_b64"

    /// One hidden layer of 32 units on Fashion-MNIST.
    static func source(_ data: BundledData) -> NetworkTask { .mlp("mlp", data.evaluation.fashion, [32], 10, .relu, batch: 64) }

    static func others(_ data: BundledData) -> [NetworkTask] {
        let digits = data.digits, visits = data.evaluation.doctorVisits.regression
        let text = data.evaluation.shakespeare, windows = text.windows(20)
        return [
            NetworkTask(
                family: "batch_normalized_convolution", "8x12_relu",
                layers: NetworkShapes.batchNormalizedConvolution(side: 8, channels: [8, 12], classes: 10, .relu), data: digits,
                loss: .crossEntropy, batch: 32, rows: 64),
            NetworkTask(
                family: "residual_convolution", "1x10_relu",
                layers: NetworkShapes.residualConvolution(side: 8, channels: 10, blocks: 1, classes: 10), data: digits,
                loss: .crossEntropy, batch: 32, rows: 64),
            NetworkTask(
                family: "residual", "2x16_gelu", layers: NetworkShapes.residual(visits.inputCount, 16, 2, 1), data: visits, loss: .squaredError,
                batch: 32),
            NetworkTask(
                family: "recurrent", "gru20", layers: NetworkShapes.recurrent(tokens: text.alphabet, width: 20, length: 20), data: windows,
                loss: .crossEntropy, batch: 8, rows: 20),
            NetworkTask(
                family: "transformer", "1x20h2_gelu",
                layers: NetworkShapes.transformer(tokens: text.alphabet, width: 20, heads: 2, blocks: 1, length: 20, .gelu), data: windows,
                loss: .crossEntropy, batch: 8, rows: 20),
            .mlp("deep_tanh", digits, Array(repeating: 24, count: 6), 10, .tanh, batch: 32, gain: 1),
        ]
    }
}
