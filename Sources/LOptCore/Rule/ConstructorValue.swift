/// One constructor value as the metadata of a weights file hold it: text under the name that the authors' constructors
/// and docs/update-rule.md give it. Whole numbers, truth values (0, 1) and estimators (their number) are kept as doubles, so
/// that one form serves reading, checking, writing and the digest. The table of them is in Architecture+Values.swift.
public struct ConstructorValue: Sendable {
    public enum Form: Sendable {
        case integer, number, list, flag, estimator
    }
    public enum Origin: Sendable {
        case authors
        /// An extension of this project.
        case ours
        /// One that joined after the first checkpoints were written: left out of the digest while it has its default.
        case oursLater
    }

    public let key: StaticString
    public let form: Form
    public let origin: Origin
    let bounds: Bounds
    /// How many numbers a list may have.
    public let lengths: ClosedRange<Int>
    public var values: SIMD8<Double>
    public var count: Int

    /// Of each number, from the least to the most.
    struct Bounds: Sendable {
        let least: Double
        let most: Double
        /// For messages: "a number {text}".
        let text: StaticString

        private static var largest: Double { Double(Float.greatestFiniteMagnitude) }

        static var hiddenSize: Bounds { Bounds(least: 1, most: Double(Architecture.maximumHiddenSize), text: "of 1 to 512") }
        static var hiddenLayers: Bounds { Bounds(least: 1, most: Double(Architecture.maximumHiddenLayers), text: "of 1 to 4") }
        static var flag: Bounds { Bounds(least: 0, most: 1, text: "") }
        static var estimator: Bounds { Bounds(least: 0, most: 4, text: "") }
        /// beta0 of a moving average; 1 would never take anything in.
        static var decay: Bounds { Bounds(least: 0, most: 1.0.nextDown, text: "of at least 0 and below 1") }
        /// What the kernels compute in f32.
        static var finite: Bounds { Bounds(least: -largest, most: largest, text: "that f32 can hold") }
        static var nonnegative: Bounds { Bounds(least: 0, most: largest, text: "of at least 0 that f32 can hold") }
        /// Kernels flush denormals, and rsqrt(0) would be infinite.
        static var epsilon: Bounds {
            Bounds(least: Double(Float.leastNormalMagnitude), most: largest, text: "of at least 1.2e-38 that f32 can hold")
        }
    }

    func has(key other: StaticString) -> Bool { UnsafeRawBufferPointer(key).hasBytes(of: other) }

    /// Whether it is what an `Architecture` has of which nothing is said.
    public var isDefault: Bool {
        var i = 0
        while let usual = Architecture().value(i, ofEveryKind: true) {
            if usual.has(key: key) { return usual.count == count && usual.values == values }
            i += 1
        }
        return false
    }

    var isLeftOutOfDigest: Bool { origin == .oursLater && isDefault }
}

// MARK: - Text

extension ConstructorValue {
    /// Takes the value from its text; false if it is none of its form and bounds.
    public mutating func parse(_ text: UnsafeRawBufferPointer) -> Bool {
        switch form {
        case .integer, .number:
            if form == .integer { for byte in text where byte < 0x30 || byte > 0x39 { return false } }
            guard let value = DecimalScanner.number(text) else { return false }
            values[0] = value
        case .list:
            // A single number may stand without brackets: small_fc's exp_mult is one in its constructor.
            if lengths.upperBound == 1, let value = DecimalScanner.number(text) {
                values[0] = value
            } else {
                guard let list = DecimalScanner.list(text) else { return false }
                (values, count) = list
            }
        case .flag:
            guard text.hasBytes(of: "true") || text.hasBytes(of: "false") else { return false }
            values[0] = text.hasBytes(of: "true") ? 1 : 0
        case .estimator:
            var number: UInt8 = 0
            while let one = Architecture.NominalEstimator(rawValue: number), !text.hasBytes(of: one.name) { number += 1 }
            values[0] = Double(number)
        }
        return isValid
    }

    public var isValid: Bool {
        guard lengths.contains(count) else { return false }
        for i in 0..<count where !(values[i] >= bounds.least && values[i] <= bounds.most) { return false }
        return true
    }

    /// What is allowed, for messages.
    public var expectation: Message {
        switch form {
        case .integer: return "a whole number \(bounds.text)"
        case .number: return "a number \(bounds.text)"
        case .flag: return "true or false"
        case .estimator: return "SGD, SGDM, AggMo, Adam or AdamAggMo"
        case .list:
            if lengths.lowerBound == lengths.upperBound {
                return "a list of \(lengths.lowerBound), each a number \(bounds.text)"
            }
            return "a list of \(lengths.lowerBound) to \(lengths.upperBound), each a number \(bounds.text)"
        }
    }
}

extension Architecture.Kind {
    /// As the metadata spell it.
    public var name: StaticString {
        switch self {
        case .star: "star"
        case .smallFC: "small_fc"
        case .pooled: "pooled"
        }
    }
}

extension Architecture.NominalEstimator {
    /// As the authors' constructor spells it.
    public var name: StaticString {
        switch self {
        case .sgd: "SGD"
        case .sgdm: "SGDM"
        case .aggMo: "AggMo"
        case .adam: "Adam"
        case .adamAggMo: "AdamAggMo"
        }
    }
}
