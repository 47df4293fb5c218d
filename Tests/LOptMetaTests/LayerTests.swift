import Testing

@testable import LOptMeta

@Suite struct LayerTests {
    static let stacks: [(String, [Layer], rows: Int, tokens: Int)] = [
        ("dense", NetworkShapes.mlp(5, [7, 6], 3, .tanh), 4, 0),
        ("swish, gelu, sigmoid, sine", Activation.allCases.filter { $0 != .relu }.flatMap {
            [Layer.dense(inputs: 5, outputs: 5, gain: 1), .activation($0, width: 5)]
        }, 3, 0),
        ("layer norm", NetworkShapes.normalized(5, [6, 6], 3, .tanh), 4, 0),
        ("recurrent", NetworkShapes.recurrent(tokens: 6, width: 5, length: 4), 12, 6),
        ("two recurrent", [
            .recurrent(inputs: 3, width: 4, length: 5), .recurrent(inputs: 4, width: 2, length: 5),
        ], 10, 0),
        ("transformer", NetworkShapes.transformer(tokens: 6, width: 4, heads: 2, blocks: 2, length: 5, .swish), 10, 6),
        ("convolution", NetworkShapes.convolution(side: 4, channels: [3, 2], classes: 3, .tanh), 32, 0),
        ("batch norm", NetworkShapes.batchNormalizedConvolution(side: 4, channels: [3, 2], classes: 3, .tanh), 32, 0),
        ("residual with batch norms", NetworkShapes.residualConvolution(side: 4, channels: 3, blocks: 1, classes: 2).map {
            // A kink of relu is no place for finite differences.
            if case .activation(_, let width) = $0 { .activation(.swish, width: width) } else { $0 }
        }, 48, 0),
        ("flatten", [
            .convolution(side: 4, inputs: 2, outputs: 3, stride: 2), .activation(.swish, width: 3), .flatten(rows: 4, width: 3),
            .dense(inputs: 12, outputs: 2, gain: 1),
        ], 32, 0),
    ]

    /// A start away from zeros, in Double.
    static func parameters(_ layers: [Layer]) -> [Double] {
        var random = Random(11)
        return layers.flatMap { layer in
            var start = [Float](repeating: 0, count: layer.parameterCount)
            start.withUnsafeMutableBufferPointer { if let base = $0.baseAddress { layer.initialize(base, &random) } }
            return start.map { Double($0) + 0.1 * random.normal() }
        }
    }

    static func input(_ layers: [Layer], _ rows: Int, _ tokens: Int) -> [Double] {
        var random = Random(12)
        return (0..<rows * layers[0].inputWidth).map { _ in tokens > 0 ? Double(random.index(tokens)) : random.normal() }
    }

    /// sum_i c_i y_i of the output, c fixed, and its gradient.
    static func value<S: NetworkScalar>(
        _ layers: [Layer], _ rows: Int, _ parameters: [S], _ input: [S]
    ) -> (value: Double, gradient: [S]) {
        let pass = NetworkPass<S>(layers, rows: rows)
        var gradient = [S](repeating: 99, count: parameters.count)
        pass.forward(parameters, input)
        var value = 0.0, random = Random(13)
        for i in 0..<pass.outputRows * pass.outputWidth {
            let c = random.normal()
            value += c * Double(pass.output[i])
            pass.outputGradient[i] = S(c)
        }
        gradient.withUnsafeMutableBufferPointer { pass.backward(parameters, input, $0.baseAddress!) }
        return (value, gradient)
    }

    @Test(arguments: stacks.indices)
    func `gradients are those of finite differences in f64`(_ index: Int) {
        let (name, layers, rows, tokens) = Self.stacks[index]
        var parameters = Self.parameters(layers)
        let input = Self.input(layers, rows, tokens)
        let gradient = Self.value(layers, rows, parameters, input).gradient
        let size = gradient.map(abs).max() ?? 0
        var worst = 0.0
        for i in parameters.indices {
            let before = parameters[i], h = 1e-5
            parameters[i] = before + h
            let up = Self.value(layers, rows, parameters, input).value
            parameters[i] = before - h
            let down = Self.value(layers, rows, parameters, input).value
            parameters[i] = before
            worst = max(worst, abs((up - down) / (2 * h) - gradient[i]) / size)
        }
        #expect(size > 0.01)
        #expect(worst < 1e-7, "\(name): worst difference \(worst) of the largest gradient")
    }

    @Test(arguments: stacks.indices)
    func `Float follows Double`(_ index: Int) {
        let (name, layers, rows, tokens) = Self.stacks[index]
        let parameters = Self.parameters(layers), input = Self.input(layers, rows, tokens)
        let exact = Self.value(layers, rows, parameters, input)
        let single = Self.value(layers, rows, parameters.map { Float($0) }, input.map { Float($0) })
        let size = exact.gradient.map(abs).max() ?? 0
        let worst = zip(exact.gradient, single.gradient).map { abs($0 - Double($1)) / size }.max() ?? 1
        #expect(worst < 2e-5, "\(name): worst difference \(worst) of the largest gradient")
    }

    @Test func `exp in Float is good to 3e-7`() {
        let x = (-8700..<8700).map { Float($0) * 0.01 + 0.003 }
        var y = [Float](repeating: 0, count: x.count)
        y.withUnsafeMutableBufferPointer { Float.exp(x, $0.baseAddress!, x.count) }
        for (x, y) in zip(x, y) {
            var exact = 0.0
            Double.exp([Double(x)], &exact, 1)
            guard abs(Double(y) / exact - 1) > 3e-7 else { continue }
            Issue.record("exp(\(x)) is \(y), exact \(exact)")
            return
        }
    }
}
