/// What the header of a safetensors file says, object by object. Run without tables it checks and counts; with them it
/// fills them in.
struct SafeTensorsParser {
    private var scanner: JSONScanner
    private let dataStart: Int
    private let dataSize: Int
    private let entries: UnsafeMutablePointer<SafeTensors.Entry>?
    private let pairs: UnsafeMutablePointer<SafeTensors.Pair>?
    private(set) var entryCount = 0
    private(set) var pairCount = 0
    private var hasMetadata = false

    /// - Parameters:
    ///   - text: room for the decoded names and values, `header.count` bytes.
    ///   - entries: room for as many tensors as the header was found to have, or nil.
    ///   - pairs: the same for pairs of metadata.
    init(
        _ header: UnsafeRawBufferPointer, dataSize: Int, text: UnsafeMutablePointer<UInt8>, status: LOptStatus,
        entries: UnsafeMutablePointer<SafeTensors.Entry>? = nil, pairs: UnsafeMutablePointer<SafeTensors.Pair>? = nil
    ) {
        scanner = JSONScanner(header, decoded: text, status: status)
        dataStart = 8 + header.count
        self.dataSize = dataSize
        self.entries = entries
        self.pairs = pairs
    }

    mutating func parse() throws(LOptError) {
        var more = try scanner.opens("{", "}")
        while more {
            let start = scanner.position
            let name = try scanner.string()
            try scanner.expect(":")
            if name.hasBytes(of: "__metadata__") {
                guard !hasMetadata else { throw scanner.failure("a second __metadata__", at: start) }
                hasMetadata = true
                try metadata()
            } else {
                try tensor(name)
            }
            more = try scanner.continues("}")
        }
        // The format pads with spaces, so that the data are aligned.
        scanner.skipSpace()
        guard scanner.isAtEnd else { throw scanner.failure("something after the closing '}'") }
    }

    private mutating func metadata() throws(LOptError) {
        var more = try scanner.opens("{", "}")
        while more {
            let key = try scanner.string()
            try scanner.expect(":")
            let value = try scanner.string()
            if let pairs { (pairs + pairCount).initialize(to: SafeTensors.Pair(key: key, value: value)) }
            pairCount += 1
            more = try scanner.continues("}")
        }
    }
}

// MARK: - A tensor

extension SafeTensorsParser {
    private struct Fields {
        var type: SafeTensors.ElementType?
        var shape: SafeTensors.Shape?
        var offsets: Range<Int>?
    }

    private mutating func tensor(_ name: UnsafeRawBufferPointer) throws(LOptError) {
        let start = scanner.position
        var fields = Fields()
        var more = try scanner.opens("{", "}")
        while more {
            try field(of: name, &fields)
            more = try scanner.continues("}")
        }
        guard let type = fields.type, let shape = fields.shape, let offsets = fields.offsets else {
            throw scanner.failure("tensor '\(name)' without dtype, shape or data_offsets", at: start)
        }
        guard let size = type.size(shape) else {
            throw scanner.failure(
                "tensor '\(name)' of \(type.name) \(shape.text), which is no whole number of bytes or too many",
                at: start)
        }
        guard size == offsets.count else {
            throw scanner.failure(
                "tensor '\(name)' of \(type.name) \(shape.text) needs \(size) bytes, its offsets have \(offsets.count),",
                at: start)
        }
        if let entries {
            let data = (dataStart + offsets.lowerBound)..<(dataStart + offsets.upperBound)
            (entries + entryCount).initialize(
                to: SafeTensors.Entry(name: name, type: type, shape: shape, data: data))
        }
        entryCount += 1
    }

    private mutating func field(of name: UnsafeRawBufferPointer, _ fields: inout Fields) throws(LOptError) {
        scanner.skipSpace()
        let start = scanner.position
        let mark = scanner.mark
        let field = try scanner.string()
        try scanner.expect(":")
        let isNew: Bool
        if field.hasBytes(of: "dtype") {
            isNew = fields.type == nil
            fields.type = try elementType()
        } else if field.hasBytes(of: "shape") {
            isNew = fields.shape == nil
            fields.shape = try shape()
        } else if field.hasBytes(of: "data_offsets") {
            isNew = fields.offsets == nil
            fields.offsets = try offsets()
        } else {
            throw scanner.failure("tensor '\(name)' has an unknown field '\(field)'", at: start)
        }
        guard isNew else { throw scanner.failure("tensor '\(name)' has '\(field)' twice", at: start) }
        scanner.release(mark)
    }

    private mutating func elementType() throws(LOptError) -> SafeTensors.ElementType {
        scanner.skipSpace()
        let start = scanner.position
        let name = try scanner.string()
        guard let type = SafeTensors.ElementType(name: name) else {
            throw scanner.failure("unknown dtype '\(name)'", at: start)
        }
        return type
    }

    private mutating func shape() throws(LOptError) -> SafeTensors.Shape {
        var shape = SafeTensors.Shape()
        var more = try scanner.opens("[", "]")
        while more {
            let extent = try scanner.integer()
            guard shape.append(extent) else {
                throw scanner.failure("a rank above \(SafeTensors.maximumRank)")
            }
            more = try scanner.continues("]")
        }
        return shape
    }

    private mutating func offsets() throws(LOptError) -> Range<Int> {
        try scanner.expect("[")
        scanner.skipSpace()
        let start = scanner.position
        let begin = try scanner.integer()
        try scanner.expect(",")
        let end = try scanner.integer()
        try scanner.expect("]")
        guard begin <= end, end <= dataSize else {
            throw scanner.failure(
                "data_offsets [\(begin), \(end)], which do not lie in \(dataSize) bytes of data,", at: start)
        }
        return begin..<end
    }
}
