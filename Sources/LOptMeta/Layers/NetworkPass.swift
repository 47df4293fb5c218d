/// Forward and backward passes of a stack of layers over one batch; owns values, gradients and what the layers save.
struct NetworkPass<S: NetworkScalar>: ~Copyable {
    let layers: [Layer]
    /// Rows of the input of each layer, and of the output last.
    private let rows: [Int]
    /// Where the tensors of each layer begin.
    private let offsets: [Int]
    /// Output of each layer, its gradient, and what the layer saves.
    private let values: [UnsafeMutablePointer<S>]
    private let gradients: [UnsafeMutablePointer<S>]
    private let saved: [UnsafeMutablePointer<S>]
    /// The layer that adds the input of this one, -1: none.
    private let addedBy: [Int]

    init(_ layers: [Layer], rows inputRows: Int) {
        self.layers = layers
        var rows = [inputRows], offsets = [0]
        for layer in layers {
            rows.append(layer.outputRows(rows[rows.count - 1]))
            offsets.append(offsets[offsets.count - 1] + layer.parameterCount)
        }
        func buffer(_ count: Int) -> UnsafeMutablePointer<S> {
            let memory = UnsafeMutablePointer<S>.allocate(capacity: max(count, 1))
            memory.initialize(repeating: 0, count: max(count, 1))
            return memory
        }
        values = layers.indices.map { buffer(rows[$0 + 1] * layers[$0].outputWidth) }
        gradients = layers.indices.map { buffer(rows[$0 + 1] * layers[$0].outputWidth) }
        saved = layers.indices.map { buffer(layers[$0].savedCount(rows[$0])) }
        for case (let i, .batchNorm(let width)) in layers.enumerated() { BatchNorm(rows[i], width).begin(saved[i]) }
        var addedBy = [Int](repeating: -1, count: layers.count)
        for (j, layer) in layers.enumerated() {
            if case .addEarlier(let back, _) = layer { addedBy[j - back] = j }
        }
        self.addedBy = addedBy
        self.rows = rows
        self.offsets = offsets
    }

    deinit {
        for memory in values { memory.deallocate() }
        for memory in gradients { memory.deallocate() }
        for memory in saved { memory.deallocate() }
    }

    var output: UnsafeMutablePointer<S> { values[layers.count - 1] }
    /// Of the output; to be filled before `backward`.
    var outputGradient: UnsafeMutablePointer<S> { gradients[layers.count - 1] }
    var outputRows: Int { rows[layers.count] }
    var outputWidth: Int { layers[layers.count - 1].outputWidth }

    /// Running averages of the batch norms, in the order of the layers: all that one minibatch leaves to the next.
    var runningStatistics: [S] {
        get { normalizations.flatMap { Array($0) } }
        nonmutating set {
            precondition(newValue.count == normalizations.reduce(0) { $0 + $1.count }, "running statistics of another network")
            var values = newValue.makeIterator()
            for running in normalizations { for j in running.indices { running[j] = values.next() ?? 0 } }
        }
    }

    private var normalizations: [UnsafeMutableBufferPointer<S>] {
        layers.indices.compactMap { i in
            if case .batchNorm(let width) = layers[i] { BatchNorm(rows[i], width).running(saved[i]) } else { nil }
        }
    }

    /// - Parameter isTraining: whether batch norms go by the minibatch, and their running averages take it in.
    func forward(_ parameters: UnsafePointer<S>, _ input: UnsafePointer<S>, isTraining: Bool = true) {
        var x = input
        for i in layers.indices {
            let p = parameters + offsets[i], y = values[i], s = saved[i], n = rows[i]
            switch layers[i] {
            case .dense(let inputs, let outputs, _): Dense.forward(p, x, y, n, inputs, outputs)
            case .activation(let kind, let width): ActivationLayer.forward(kind, x, y, s, n * width)
            case .layerNorm(let width): LayerNorm.forward(p, x, y, s, n, width)
            case .batchNorm(let width):
                let norm = BatchNorm(n, width)
                if isTraining { norm.forward(p, x, y, s) } else { norm.judge(p, x, y, s) }
            case .embedding(let tokens, let width, _): Embedding.forward(p, x, y, n, tokens, width)
            case .attention(let width, let heads, let length): Attention(width, heads, length, n).forward(p, x, y, s)
            case .recurrent(let inputs, let width, let length): Recurrent(inputs, width, length, n).forward(p, x, y, s)
            case .convolution(let side, let inputs, let outputs, let stride, let hasBias):
                Convolution(side, inputs, outputs, stride, hasBias: hasBias, n).forward(p, x, y, s)
            case .meanOverRows(let each, let width): MeanOverRows.forward(x, y, n / each, each, width)
            case .flatten(_, let width): y.update(from: x, count: n * width)
            case .addEarlier(let back, let width):
                let earlier = i - back > 0 ? UnsafePointer(values[i - back - 1]) : input
                for j in 0..<n * width { y[j] = x[j] + earlier[j] }
            }
            x = UnsafePointer(y)
        }
    }

    /// After `forward` in training of the same parameters and input; writes every element of `gradient`.
    func backward(_ parameters: UnsafePointer<S>, _ input: UnsafePointer<S>, _ gradient: UnsafeMutablePointer<S>) {
        for i in layers.indices.reversed() {
            let x = i > 0 ? UnsafePointer(values[i - 1]) : input
            // Nobody asks for the gradient of the input.
            let dx = i > 0 ? gradients[i - 1] : nil
            let p = parameters + offsets[i], dp = gradient + offsets[i], dy = gradients[i], s = saved[i], n = rows[i]
            switch layers[i] {
            case .dense(let inputs, let outputs, _): Dense.backward(p, x, dy, dp, dx, n, inputs, outputs)
            case .activation(_, let width): ActivationLayer.backward(dy, s, dx, n * width)
            case .layerNorm(let width): LayerNorm.backward(p, x, dy, dp, dx, s, n, width)
            case .batchNorm(let width): BatchNorm(n, width).backward(p, x, dy, dp, dx, s)
            case .embedding(let tokens, let width, _): Embedding.backward(x, dy, dp, n, tokens, width)
            case .attention(let width, let heads, let length):
                Attention(width, heads, length, n).backward(p, x, dy, dp, dx, s)
            case .recurrent(let inputs, let width, let length):
                Recurrent(inputs, width, length, n).backward(p, x, values[i], dy, dp, dx, s)
            case .convolution(let side, let inputs, let outputs, let stride, let hasBias):
                Convolution(side, inputs, outputs, stride, hasBias: hasBias, n).backward(p, dy, dp, dx, s)
            case .meanOverRows(let each, let width): MeanOverRows.backward(dy, dx, n / each, each, width)
            case .flatten(_, let width), .addEarlier(_, let width): dx?.update(from: dy, count: n * width)
            }
            if let dx, addedBy[i] >= 0 {
                let added = gradients[addedBy[i]]
                for j in 0..<n * layers[i].inputWidth { dx[j] += added[j] }
            }
        }
    }
}
