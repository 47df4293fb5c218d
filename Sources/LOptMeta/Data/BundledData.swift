/// The bundled real data, each loaded once: for meta-training what is here, for evaluation alone `evaluation`.
public struct BundledData: Sendable {
    /// 1,797 images of 8 x 8, pixels from 0 to 1; every fifth in the shuffled order is held out.
    public let digits: Dataset
    let digitImages: Images
    public let digitsMirror: Dataset
    public let persuasion: Text
    public let evaluation: EvaluationData

    public init(_ folder: DataFolder) throws {
        let images = try Images(folder, "digits", side: 8, white: 16, seed: 0xd161)
        digitImages = images
        digits = images.labelled("digits")
        digitsMirror = images.mirrored("digits")
        persuasion = try Text(folder, "persuasion-volume-one", source: "persuasion")
        evaluation = try EvaluationData(folder)
    }

    /// A text as tokens.
    public struct Text: Sendable {
        let source: String
        let tokens: [Float]
        /// The number of different characters; they are tokens in the order of their bytes.
        public let alphabet: Int

        init(_ folder: DataFolder, _ name: String, source: String) throws {
            let bytes = try folder.read("text/\(name).txt"), letters = Set(bytes).sorted()
            var token = [Float](repeating: 0, count: 256)
            for (i, letter) in letters.enumerated() { token[Int(letter)] = Float(i) }
            tokens = bytes.map { token[Int($0)] }
            alphabet = letters.count
            self.source = source
        }

        /// Windows of so many characters.
        public func windows(_ length: Int) -> Dataset {
            Dataset("\(source)\(length)", source: source, tokens: tokens, length: length)
        }
    }

    /// `folder`/`name`/images-idx3-ubyte and labels-idx1-ubyte in a shuffled order; the last fifth is held out.
    struct Images: Sendable {
        let source: String
        let inputs: [Float]
        let labels: [Float]
        private var trainCount: Int { labels.count * 4 / 5 }

        /// - Parameter white: what pixels are divided by.
        init(_ folder: DataFolder, _ name: String, side: Int, white: Float, seed: UInt64) throws {
            let images = try folder.read("\(name)/images-idx3-ubyte"), labels = try folder.read("\(name)/labels-idx1-ubyte")
            let count = labels.count - 8, pixels = side * side
            guard count > 0, images.count == 16 + pixels * count else {
                throw LOptMetaError("the \(name) have \(images.count) bytes of images and \(labels.count) of labels")
            }
            var order = Array(0..<count), random = Random(seed)
            order.shuffle(using: &random)
            source = name
            inputs = order.flatMap { i in images[(16 + pixels * i)..<(16 + pixels * (i + 1))].map { Float($0) / white } }
            self.labels = order.map { Float(labels[8 + $0]) }
        }

        func labelled(_ name: String) -> Dataset {
            Dataset(name, source: source, inputs: inputs, targets: labels, count: labels.count, trainCount: trainCount)
        }

        func mirrored(_ name: String) -> Dataset {
            Dataset(name, source: source, mirroring: inputs, count: labels.count, trainCount: trainCount)
        }

        /// With 1 for the class and 0 for the others as targets.
        func oneHot(_ name: String) -> Dataset {
            Dataset(
                name, source: source, inputs: inputs, targets: oneHotTargets(labels, classes: 10), count: labels.count,
                trainCount: trainCount, isOneHot: true)
        }

        /// The first `count` for training, a part of their labels drawn anew, and all that are held out.
        func few(_ name: String, count: Int, labelNoise: Double = 0) -> Dataset {
            let pixels = inputs.count / labels.count, kept = Array(0..<count) + Array(trainCount..<labels.count)
            var random = Random(0x6e6f, UInt64(count))
            let noisy = kept.map { i in i < count && random.bool(labelNoise) ? Float(random.index(10)) : labels[i] }
            return Dataset(
                name, source: source, inputs: kept.flatMap { inputs[($0 * pixels)..<(($0 + 1) * pixels)] }, targets: noisy,
                count: kept.count, trainCount: count)
        }
    }
}

/// Rows that are 0 but for a 1 at the label.
func oneHotTargets(_ labels: [Float], classes: Int) -> [Float] {
    labels.flatMap { label in (0..<classes).map { Float($0) == label ? 1 : 0 } }
}
