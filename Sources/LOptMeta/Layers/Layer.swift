/// A function applied to every element.
public enum Activation: String, CaseIterable, Sendable {
    case relu, tanh, sigmoid, swish, gelu, sine
}

/// A layer of a network. Values are matrices: a row for each example, or for each position of each example (sequences: row
/// example * length + position; images: row example * pixels + pixel, channels last).
public enum Layer: Equatable, Sendable {
    /// y = x W + b; `gain` scales the start, a normal of variance gain^2 / inputs.
    case dense(inputs: Int, outputs: Int, gain: Double)
    case activation(Activation, width: Int)
    /// y = (x - mean) / sqrt(variance + 1e-5) * scale + shift over each row.
    case layerNorm(width: Int)
    /// The same over each column, with mean and variance of the minibatch in training and running averages of them else (`BatchNorm`).
    case batchNorm(width: Int)
    /// Rows of a table, for tokens.
    case embedding(tokens: Int, width: Int, length: Int)
    /// Causal self-attention over sequences of `length` rows, with `heads` heads, queries, keys and values of width / heads.
    case attention(width: Int, heads: Int, length: Int)
    /// A gated recurrent unit over sequences of `length` rows.
    case recurrent(inputs: Int, width: Int, length: Int)
    /// 3 x 3, zero padding of 1, over images of side x side; side must be even for a stride of 2. A batch norm behind it takes any bias
    /// away again, so that it has none there.
    case convolution(side: Int, inputs: Int, outputs: Int, stride: Int, hasBias: Bool = true)
    /// The mean over the rows of each example.
    case meanOverRows(rows: Int, width: Int)
    /// Each example's rows side by side in one.
    case flatten(rows: Int, width: Int)
    /// y = x + the input of the layer `back` places before this one.
    case addEarlier(back: Int, width: Int)
}

extension Layer {
    var inputWidth: Int {
        switch self {
        case .dense(let inputs, _, _), .recurrent(let inputs, _, _), .convolution(_, let inputs, _, _, _): inputs
        case .activation(_, let width), .layerNorm(let width), .batchNorm(let width), .attention(let width, _, _), .meanOverRows(_, let width),
            .flatten(_, let width), .addEarlier(_, let width):
            width
        case .embedding: 1
        }
    }

    var outputWidth: Int {
        switch self {
        case .dense(_, let outputs, _), .convolution(_, _, let outputs, _, _): outputs
        case .recurrent(_, let width, _), .embedding(_, let width, _): width
        case .flatten(let rows, let width): rows * width
        default: inputWidth
        }
    }

    /// Rows of the output for so many of the input.
    func outputRows(_ rows: Int) -> Int {
        switch self {
        case .meanOverRows(let each, _), .flatten(let each, _): rows / each
        case .convolution(_, _, _, let stride, _): rows / (stride * stride)
        default: rows
        }
    }

    /// Numbers that the backward pass needs beside input and output, for so many rows of the input.
    func savedCount(_ rows: Int) -> Int {
        switch self {
        case .activation: rows * outputWidth
        case .layerNorm: 2 * rows
        case .batchNorm(let width): 6 * width
        case .attention(let width, let heads, let length): 2 * 3 * rows * width + 2 * rows * heads * length + 2 * rows * width
        case .recurrent(_, let width, _): 13 * rows * width
        case .convolution(_, let inputs, _, let stride, _): 2 * rows / (stride * stride) * 9 * inputs
        default: 0
        }
    }

    /// Its tensors; `name` is that of the layer.
    func tensors(_ name: String) -> [TensorSpec] {
        switch self {
        case .dense(let inputs, let outputs, _):
            [TensorSpec("\(name).weight", [inputs, outputs]), TensorSpec("\(name).bias", [outputs])]
        case .layerNorm(let width), .batchNorm(let width): [TensorSpec("\(name).scale", [width]), TensorSpec("\(name).shift", [width])]
        case .embedding(let tokens, let width, _): [TensorSpec("\(name).table", [tokens, width])]
        case .attention(let width, _, _):
            [TensorSpec("\(name).qkv", [width, 3 * width]), TensorSpec("\(name).output", [width, width])]
        case .recurrent(let inputs, let width, _):
            [
                TensorSpec("\(name).input", [inputs, 3 * width]), TensorSpec("\(name).state", [width, 3 * width]),
                TensorSpec("\(name).bias", [3 * width]),
            ]
        case .convolution(_, let inputs, let outputs, _, let hasBias):
            [TensorSpec("\(name).kernel", [3, 3, inputs, outputs])] + (hasBias ? [TensorSpec("\(name).bias", [outputs])] : [])
        default: []
        }
    }

    var parameterCount: Int { tensors("").reduce(0) { $0 + $1.count } }

    /// Writes the start of its tensors.
    func initialize(_ p: UnsafeMutablePointer<Float>, _ random: inout Random) {
        func normal(_ from: Int, _ count: Int, _ deviation: Double) {
            for i in from..<(from + count) { p[i] = Float(deviation * random.normal()) }
        }
        for i in 0..<parameterCount { p[i] = 0 }
        switch self {
        case .dense(let inputs, let outputs, let gain):
            normal(0, inputs * outputs, gain / Double(inputs).squareRoot())
        case .layerNorm(let width), .batchNorm(let width): for i in 0..<width { p[i] = 1 }
        case .embedding(let tokens, let width, _): normal(0, tokens * width, 0.3)
        case .attention(let width, _, _):
            normal(0, 4 * width * width, 1 / Double(width).squareRoot())
        case .recurrent(let inputs, let width, _):
            normal(0, 3 * inputs * width, 1 / Double(inputs).squareRoot())
            normal(3 * inputs * width, 3 * width * width, 1 / Double(width).squareRoot())
        case .convolution(_, let inputs, let outputs, _, _):
            normal(0, 9 * inputs * outputs, (2 / Double(9 * inputs)).squareRoot())
        default: break
        }
    }
}
