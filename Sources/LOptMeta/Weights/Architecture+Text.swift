import LOptCore

// Architectures in the words of a weights file.

extension String {
    init(_ message: Message) { self = message.withCString { String(cString: $0) } }
}

extension Message.Interpolation {
    public mutating func appendInterpolation(_ text: String) {
        Array(text.utf8).withUnsafeBytes { appendInterpolation($0) }
    }
}

extension RawRepresentable where RawValue: FixedWidthInteger {
    /// Of an enumeration that is numbered from 0 on.
    static var all: [Self] {
        Array(sequence(state: RawValue.zero) { number in
            defer { number += 1 }
            return Self(rawValue: number)
        })
    }
}

extension Architecture {
    func values(ofEveryKind: Bool = false) -> [ConstructorValue] {
        Array(sequence(state: 0) { i in
            defer { i += 1 }
            return value(i, ofEveryKind: ofEveryKind)
        })
    }

    /// In the order of theta.
    var blocks: [MetaParameterBlock] {
        Array(sequence(state: 0) { i in
            defer { i += 1 }
            return block(i)
        })
    }

    /// The inputs phi of the extension tensor_scale, in the order of its weights.
    var tensorScaleInputs: [String] {
        ["log RMS(p)"] + (1...momenta).map { "log RMS(m\($0)) / RMS(g)" }
            + (1...momenta).map { "log RMS(m\($0) rsqrt(v))" } + ["log elements", "rank < 2"]
    }

    /// The columns of tensor_ranges.
    var rangeNames: [String] {
        tensorScaleInputs + ["log RMS(g) / sqrt(RMS(v))", "log tensors", "log-step"]
    }
}

extension ConstructorValue {
    /// As a weights file spells it, with the fewest digits that read back as the same double.
    var text: String {
        switch form {
        case .integer: Int(exactly: values[0]).map { "\($0)" } ?? ConstructorValue.decimal(values[0])
        case .number: ConstructorValue.decimal(values[0])
        case .flag: values[0] == 1 ? "true" : "false"
        case .estimator: "\(Architecture.NominalEstimator(rawValue: UInt8(values[0]))?.name ?? "")"
        case .list: "[" + (0..<count).map { ConstructorValue.decimal(values[$0]) }.joined(separator: ", ") + "]"
        }
    }

    /// 1e-6 rather than 1e-06.
    private static func decimal(_ value: Double) -> String {
        "\(value)".replacing("e-0", with: "e-").replacing("e+", with: "e")
    }
}

extension Architecture {
    /// This architecture if its values are what a weights file could declare, with unused lanes of the decays 0.
    ///
    /// Throws `.weights` for a value out of its bounds, `.invalidArgument` for one of star that is set for another kind and for an
    /// extension without that which it needs.
    public func checked() throws(LOptError) -> Architecture {
        var result = self
        try result.forEachValue { item throws(LOptError) in
            guard item.isValid else {
                throw LOptError(.weights, "\(item.key) is \(item.text); allowed is \(item.expectation)")
            }
            for i in item.count..<8 { item.values[i] = 0 }
        }
        for block in blocks {
            guard let needed = block.needs, !self[needed] else { continue }
            throw LOptError(
                .invalidArgument, "\(block.name) is set without \(self.block(of: needed).name), which it needs")
        }
        guard kind != .star else { return result }
        // What a kind has no name for must not change what it computes.
        var plain = Architecture(kind), items = result.values().makeIterator()
        try plain.forEachValue { item throws(LOptError) in item = items.next() ?? item }
        guard result == plain else { throw LOptError(.invalidArgument, "a value that only star has is set for \(kind.name)") }
        return result
    }
}
