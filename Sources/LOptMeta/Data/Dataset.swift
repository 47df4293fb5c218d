/// Examples in memory: the first `trainCount` are for training, the others are held out.
///
/// An example has `inputCount` inputs and `targetCount` targets, all as Float; a label or a token is a whole number.
public final class Dataset: Sendable {
    public let name: String
    /// Where the examples come from, whatever is made of them: a bundled set or a generator. Meta-training and evaluation share none.
    public let source: String
    public let count: Int
    public let trainCount: Int
    public let inputCount: Int
    public let targetCount: Int
    /// Whether targets are all 0 but one, which is the class.
    public let isOneHot: Bool
    private let storage: Storage

    private enum Storage: Sendable {
        case table(inputs: [Float], targets: [Float])
        /// Targets are the inputs.
        case mirror(inputs: [Float])
        /// An example is a window of tokens, its targets the tokens one place on; windows begin `stride` tokens apart.
        case windows(tokens: [Float], stride: Int)
    }

    public init(
        _ name: String, source: String, inputs: [Float], targets: [Float], count: Int, trainCount: Int, isOneHot: Bool = false
    ) {
        precondition(count > 0 && trainCount > 0 && trainCount <= count)
        (self.name, self.source, self.isOneHot) = (name, source, isOneHot)
        self.count = count
        self.trainCount = trainCount
        inputCount = inputs.count / count
        targetCount = targets.count / count
        storage = .table(inputs: inputs, targets: targets)
    }

    /// Generated examples, four fifths of them for training.
    static func generated(
        _ name: String, source: String, _ inputs: [Float], _ targets: [Float], count: Int, isOneHot: Bool = false
    ) -> Dataset {
        Dataset(name, source: source, inputs: inputs, targets: targets, count: count, trainCount: count * 4 / 5, isOneHot: isOneHot)
    }

    /// To be reproduced by an autoencoder.
    public init(_ name: String, source: String, mirroring inputs: [Float], count: Int, trainCount: Int) {
        (self.name, self.source, isOneHot) = (name, source, false)
        self.count = count
        self.trainCount = trainCount
        inputCount = inputs.count / count
        targetCount = inputCount
        storage = .mirror(inputs: inputs)
    }

    /// Windows of `length` tokens of a text; the last tenth of the text is held out.
    public init(_ name: String, source: String, tokens: [Float], length: Int) {
        let stride = 1
        (self.name, self.source, isOneHot) = (name, source, false)
        count = (tokens.count - length - 1) / stride
        trainCount = count * 9 / 10 - length
        inputCount = length
        targetCount = length
        storage = .windows(tokens: tokens, stride: stride)
    }

    /// Writes example `index`.
    func copy<S: NetworkScalar>(_ index: Int, _ x: UnsafeMutablePointer<S>, _ y: UnsafeMutablePointer<S>) {
        func put(_ from: [Float], _ begin: Int, _ to: UnsafeMutablePointer<S>, _ count: Int) {
            from.withUnsafeBufferPointer { from in for i in 0..<count { to[i] = S(from[begin + i]) } }
        }
        switch storage {
        case .table(let inputs, let targets):
            put(inputs, index * inputCount, x, inputCount)
            put(targets, index * targetCount, y, targetCount)
        case .mirror(let inputs):
            put(inputs, index * inputCount, x, inputCount)
            put(inputs, index * inputCount, y, inputCount)
        case .windows(let tokens, let stride):
            put(tokens, index * stride, x, inputCount)
            put(tokens, index * stride + 1, y, inputCount)
        }
    }
}
