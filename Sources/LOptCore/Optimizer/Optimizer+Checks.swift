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
        if let other = index(of: name) { throw LOptError(.invalidArgument, "name '\(name)' is taken by tensor \(other)") }
    }

    /// The number of the tensor of this name.
    func index(of name: UnsafeRawBufferPointer) -> Int? {
        names.find(tensors) { $0.identity.name.compare(with: name) }
    }

    /// These rows of a tensor of this shape can be here, and they alone. Returns how many elements they have.
    @inline(never)
    func checkRows(_ rows: Range<Int>, _ shape: UnsafeBufferPointer<Int64>) throws(LOptError) -> Int {
        guard let gather = options.gather else {
            throw LOptError(.invalidArgument, "options.gather is not set; rows of a tensor are stepped together with those of other parts")
        }
        guard architecture.kind == .pooled else {
            throw LOptError(.invalidArgument, "rows of a tensor need weights of kind pooled; with others a tensor is whole")
        }
        guard options.maxUpdateRatio == 0 else {
            throw LOptError(.invalidArgument, "max_update_ratio must be 0 with rows of a tensor")
        }
        let division = try RowDivision(shape), own = division.rows(of: gather.part, in: gather.parts)
        guard rows == own else {
            throw LOptError(
                .invalidArgument, "rows are \(rows.count) from \(rows.lowerBound) on; this part has \(own.count) from \(own.lowerBound) on (lopt_rows_of)")
        }
        return own.count * division.rowElements
    }

    /// What a parameter shares memory with, but for its own gradient, is refused when it gets the memory. Gradients may
    /// share memory with each other.
    func checkMemory(
        _ parameter: UnsafeMutablePointer<Float>?, _ gradient: UnsafePointer<Float>?, _ elements: Int, _ types: ElementTypes
    ) throws(LOptError) -> Span {
        let p = try Span(parameter, elements, types.parameter, "parameter"), g = try Span(gradient, elements, types.gradient, "gradient")
        if p.overlaps(g) { throw LOptError(.invalidArgument, "parameter and gradient overlap in memory") }
        try checkFree(p, "parameter")
        try checkFree(g, "gradient")
        return p
    }

    /// No parameter lies there.
    func checkFree(_ span: Span, _ what: Message) throws(LOptError) {
        guard !span.isEmpty,
            let other = parameterMemory.find(tensors, { $0.place.span.end <= span.start ? -1 : $0.place.span.start >= span.end ? 1 : 0 })
        else { return }
        throw LOptError(
            .invalidArgument, "\(what) overlaps the parameter of tensor '\(tensors[other].identity.name)' in memory")
    }
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
