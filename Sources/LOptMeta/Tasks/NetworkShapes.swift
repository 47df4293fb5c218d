/// Stacks of layers by name.
enum NetworkShapes {
    /// Hidden layers of these widths, each with the activation.
    static func mlp(_ inputs: Int, _ hidden: [Int], _ outputs: Int, _ activation: Activation, gain: Double = 1.4) -> [Layer] {
        var layers: [Layer] = [], width = inputs
        for next in hidden {
            layers += [.dense(inputs: width, outputs: next, gain: gain), .activation(activation, width: next)]
            width = next
        }
        return layers + [.dense(inputs: width, outputs: outputs, gain: 1)]
    }

    /// Convolutions, the first of stride 1, the others of 2, the mean over the pixels, a classifier.
    static func convolution(side: Int, channels: [Int], classes: Int, _ activation: Activation) -> [Layer] {
        convolution(side: side, channels: channels, classes: classes, activation, .none)
    }

    /// The same with a layer norm over the channels of each pixel before each activation.
    static func normalizedConvolution(side: Int, channels: [Int], classes: Int, _ activation: Activation) -> [Layer] {
        convolution(side: side, channels: channels, classes: classes, activation, .layer)
    }

    /// The same with a batch norm, and without biases before it.
    static func batchNormalizedConvolution(side: Int, channels: [Int], classes: Int, _ activation: Activation) -> [Layer] {
        convolution(side: side, channels: channels, classes: classes, activation, .batch)
    }

    private enum Norm { case none, layer, batch }

    private static func convolution(
        side: Int, channels: [Int], classes: Int, _ activation: Activation, _ norm: Norm
    ) -> [Layer] {
        var layers: [Layer] = [], inputs = 1, side = side
        for (i, outputs) in channels.enumerated() {
            let stride = i == 0 ? 1 : 2
            layers.append(.convolution(side: side, inputs: inputs, outputs: outputs, stride: stride, hasBias: norm != .batch))
            switch norm {
            case .none: break
            case .layer: layers.append(.layerNorm(width: outputs))
            case .batch: layers.append(.batchNorm(width: outputs))
            }
            layers.append(.activation(activation, width: outputs))
            side /= stride
            inputs = outputs
        }
        return layers + [
            .meanOverRows(rows: side * side, width: inputs), .dense(inputs: inputs, outputs: classes, gain: 1),
        ]
    }

    /// Token embedding, a recurrent layer, next-token logits.
    static func recurrent(tokens: Int, width: Int, length: Int) -> [Layer] {
        [
            .embedding(tokens: tokens, width: width, length: length),
            .recurrent(inputs: width, width: width, length: length), .dense(inputs: width, outputs: tokens, gain: 1),
        ]
    }

    /// A decoder of pre-norm blocks: attention and a feed-forward network of twice the width, each with a skip. Positions are
    /// not encoded: the causal mask alone tells them apart.
    static func transformer(tokens: Int, width: Int, heads: Int, blocks: Int, length: Int, _ activation: Activation) -> [Layer] {
        var layers: [Layer] = [.embedding(tokens: tokens, width: width, length: length)]
        for _ in 0..<blocks {
            layers += [
                .layerNorm(width: width), .attention(width: width, heads: heads, length: length),
                .addEarlier(back: 2, width: width),
                .layerNorm(width: width), .dense(inputs: width, outputs: 2 * width, gain: 1),
                .activation(activation, width: 2 * width), .dense(inputs: 2 * width, outputs: width, gain: 0.5),
                .addEarlier(back: 4, width: width),
            ]
        }
        return layers + [.layerNorm(width: width), .dense(inputs: width, outputs: tokens, gain: 1)]
    }

    /// Dense layers with a layer norm before each activation.
    static func normalized(_ inputs: Int, _ hidden: [Int], _ outputs: Int, _ activation: Activation) -> [Layer] {
        var layers: [Layer] = [], width = inputs
        for next in hidden {
            layers += [
                .dense(inputs: width, outputs: next, gain: 1), .layerNorm(width: next), .activation(activation, width: next),
            ]
            width = next
        }
        return layers + [.dense(inputs: width, outputs: outputs, gain: 1)]
    }

    /// Blocks of two dense layers with a skip around them.
    static func residual(_ inputs: Int, _ width: Int, _ blocks: Int, _ outputs: Int) -> [Layer] {
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

    /// A convolution of stride 2, then blocks of two convolutions with a skip around them, a batch norm behind each, the mean over the
    /// pixels, a classifier (He et al. 2016).
    static func residualConvolution(side: Int, channels: Int, blocks: Int, classes: Int) -> [Layer] {
        func normalized(_ side: Int, _ inputs: Int, stride: Int = 1) -> [Layer] {
            [.convolution(side: side, inputs: inputs, outputs: channels, stride: stride, hasBias: false), .batchNorm(width: channels)]
        }
        let relu = Layer.activation(.relu, width: channels), inner = side / 2
        var layers = normalized(side, 1, stride: 2) + [relu]
        for _ in 0..<blocks {
            layers += normalized(inner, channels) + [relu] + normalized(inner, channels) + [.addEarlier(back: 5, width: channels), relu]
        }
        return layers + [.meanOverRows(rows: inner * inner, width: channels), .dense(inputs: channels, outputs: classes, gain: 1)]
    }

    /// Hidden layers of sines over coordinates; `gain` is that of the first layer, the largest wave numbers (Sitzmann et al. 2020).
    static func coordinates(_ inputs: Int, _ hidden: [Int], _ outputs: Int, gain: Double) -> [Layer] {
        var layers = mlp(inputs, hidden, outputs, .sine)
        layers[0] = .dense(inputs: inputs, outputs: hidden[0], gain: gain)
        return layers
    }
}
