import CLOptShims

extension Optimizer {
    public static let longestName = 255

    /// 1 to 255 bytes of UTF-8 without control characters, not taken.
    func checkName(_ name: UnsafeRawBufferPointer) throws(LOptError) {
        guard name.count >= 1 && name.count <= Optimizer.longestName else {
            throw LOptError(.invalidArgument, "name has \(name.count) bytes; allowed are 1 to 255")
        }
        guard isPrintableUTF8(name) else {
            throw LOptError(.invalidArgument, "name '\(name)' is not UTF-8 without control characters")
        }
        for i in 0..<count where tensors[i].nameBytes.hasBytes(of: name) {
            throw LOptError(.invalidArgument, "name '\(name)' is taken by tensor \(i)")
        }
    }

    /// Parameter memory is nobody else's; gradients may share memory with each other, and with nothing else.
    func checkMemory(
        _ parameter: UnsafeMutablePointer<Float>?, _ gradient: UnsafePointer<Float>?, _ elements: Int, except: Int?
    ) throws(LOptError) {
        guard elements > 0 else { return }
        guard let parameter else { throw LOptError(.invalidArgument, "parameter is NULL") }
        guard let gradient else { throw LOptError(.invalidArgument, "gradient is NULL") }
        let p = try Span(parameter, elements, "parameter"), g = try Span(gradient, elements, "gradient")
        guard !p.overlaps(g) else {
            throw LOptError(.invalidArgument, "parameter and gradient overlap in memory")
        }
        for i in 0..<count where i != except && tensors[i].geometry.count > 0 {
            let other = tensors[i]
            guard let otherParameter = other.view.parameter, let otherGradient = other.view.gradient else { continue }
            let q = try Span(otherParameter, other.geometry.count, "parameter")
            let h = try Span(otherGradient, other.geometry.count, "gradient")
            if p.overlaps(q) { throw overlap("parameter", "the parameter", other) }
            if p.overlaps(h) { throw overlap("parameter", "the gradient", other) }
            if g.overlaps(q) { throw overlap("gradient", "the parameter", other) }
        }
    }

    private func overlap(_ what: StaticString, _ whose: StaticString, _ other: Tensor) -> LOptError {
        LOptError(.invalidArgument, "\(what) overlaps \(whose) of tensor '\(other.nameBytes)' in memory")
    }
}

/// A range of addresses.
private struct Span {
    let start: UInt, end: UInt

    init(_ pointer: UnsafeRawPointer, _ elements: Int, _ name: StaticString) throws(LOptError) {
        start = UInt(bitPattern: pointer)
        let (end, overflow) = start.addingReportingOverflow(UInt(elements) * 4)
        guard !overflow else { throw LOptError(.invalidArgument, "\(name) reaches past the end of the address space") }
        self.end = end
    }

    func overlaps(_ other: Span) -> Bool { start < other.end && other.start < end }
}

/// No byte below 0x20, no 0x7f, and well-formed.
private func isPrintableUTF8(_ text: UnsafeRawBufferPointer) -> Bool {
    var position = 0
    while position < text.count {
        let length = text.utf8Length(at: position)
        guard length > 0, text[position] >= 0x20, text[position] != 0x7f else { return false }
        position += length
    }
    return true
}
