/// Writes a safetensors file piece by piece to memory or to a file, of whatever size, without holding it.
///
/// The header comes first in the file and says where everything lies, so a file is described twice and then its data are
/// written once:
///
///     try SafeTensorsWriter.write(
///         to: ByteSink(replacing: path, allocator),
///         describe: { writer in                              // called twice; must say the same both times
///             try writer.metadata("kind", value)             // metadata first
///             try writer.tensor(name, .f32, shape)           // then the tensors
///         },
///         data: { writer in                                  // called once
///             try writer.data(bytes)                         // all of the data, in the order of the tensors
///         })
///
/// The header is padded with spaces so that the data begin at a multiple of 64 bytes. That no name occurs twice is the
/// caller's to see to.
public struct SafeTensorsWriter: ~Copyable {
    /// Of the data, in the file: a cache line, which aligns every element type too.
    static let alignment = 64

    private var sink: ByteSink
    private var headerSize = 0
    private var dataSize = 0
    private var dataWritten = 0
    private var pairCount = 0
    private var tensorCount = 0

    private init(_ sink: consuming ByteSink) {
        self.sink = sink
    }
}

// MARK: - A whole file

extension SafeTensorsWriter {
    /// What `describe` and `data` are called with.
    public typealias Body = (inout SafeTensorsWriter) throws(LOptError) -> Void

    /// The size of the file that `describe` describes.
    public static func size(describe: Body) throws(LOptError) -> Int {
        let (header, data) = try measure(describe)
        let (size, overflow) = (8 + padded(header)).addingReportingOverflow(data)
        guard !overflow else { throw LOptError(.invalidArgument, "a file of more than 2^63 - 1 bytes") }
        return size
    }

    /// Writes a file. A sink that replaces a file has replaced it when this returns, and left it alone when this throws.
    ///
    /// Throws what the sink and the closures throw, and `.invalidArgument` for a name or value that is not UTF-8, for
    /// metadata after a tensor, and for data that are not those described.
    public static func write(to sink: consuming ByteSink, describe: Body, data: Body) throws(LOptError) {
        let (headerSize, dataSize) = try measure(describe)
        let paddedSize = padded(headerSize)
        var writer = SafeTensorsWriter(sink)
        try withUnsafeBytes(of: UInt64(paddedSize).littleEndian) { size throws(LOptError) in
            try writer.sink.write(size)
        }
        try describe(&writer)
        try writer.closeHeader()
        guard writer.headerSize == headerSize, writer.dataSize == dataSize else {
            throw LOptError(
                .invalidArgument, "a file was described in two ways: \(headerSize), \(writer.headerSize) bytes")
        }
        for _ in headerSize..<paddedSize { try writer.sink.write(" ") }
        try data(&writer)
        guard writer.dataWritten == dataSize else {
            throw LOptError(.invalidArgument, "\(writer.dataWritten) bytes of data written, \(dataSize) described")
        }
        try writer.sink.commit()
    }

    private static func measure(_ describe: Body) throws(LOptError) -> (header: Int, data: Int) {
        var writer = SafeTensorsWriter(ByteSink())
        try describe(&writer)
        try writer.closeHeader()
        let size = padded(writer.headerSize)
        guard size <= SafeTensors.maximumHeaderSize else {
            throw LOptError(
                .invalidArgument, "a header of \(size) bytes, at most \(SafeTensors.maximumHeaderSize) are allowed")
        }
        return (writer.headerSize, writer.dataSize)
    }

    /// The length of a header of `size` bytes with the spaces that align the data.
    private static func padded(_ size: Int) -> Int { (8 + size + alignment - 1) / alignment * alignment - 8 }
}

// MARK: - The header

extension SafeTensorsWriter {
    /// A pair of the metadata.
    public mutating func metadata(_ key: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer) throws(LOptError) {
        guard tensorCount == 0 else { throw LOptError(.invalidArgument, "metadata '\(key)' after a tensor") }
        try emit(pairCount == 0 ? "{\"__metadata__\":{" : ",")
        pairCount += 1
        try emit(quoted: key)
        try emit(":")
        try emit(quoted: value)
    }

    public mutating func metadata(_ key: StaticString, _ value: Message) throws(LOptError) {
        try value.withBytes { value throws(LOptError) in try metadata(UnsafeRawBufferPointer(key), value) }
    }

    /// A tensor, whose data begin where those of the one before it end. Its name is `name` with `suffix` behind it.
    public mutating func tensor(
        _ name: UnsafeRawBufferPointer, suffix: StaticString = "", _ type: SafeTensors.ElementType,
        _ shape: SafeTensors.Shape
    ) throws(LOptError) {
        guard let size = type.size(shape), !dataSize.addingReportingOverflow(size).overflow else {
            throw LOptError(.invalidArgument, "tensor '\(name)' of \(type.name) \(shape.text) is too large for a file")
        }
        guard !name.hasBytes(of: "__metadata__") || suffix.utf8CodeUnitCount > 0 else {
            throw LOptError(.invalidArgument, "no tensor may have the name '__metadata__'")
        }
        try openTensor()
        try emit("\"")
        try emit(escaped: name)
        try emit(escaped: UnsafeRawBufferPointer(suffix))
        try emit("\":{\"dtype\":\"")
        try emit(type.name)
        try emit("\",\"shape\":[")
        for axis in 0..<shape.rank { try emit(number: axis == 0 ? "\(shape[axis])" : ",\(shape[axis])") }
        try emit(number: "],\"data_offsets\":[\(dataSize),\(dataSize + size)]}")
        dataSize += size
    }

    private mutating func openTensor() throws(LOptError) {
        if tensorCount > 0 {
            try emit(",")
        } else {
            try emit(pairCount > 0 ? "}," : "{")
        }
        tensorCount += 1
    }

    private mutating func closeHeader() throws(LOptError) {
        if tensorCount > 0 {
            try emit("}")
        } else {
            try emit(pairCount > 0 ? "}}" : "{}")
        }
    }

    private mutating func emit(_ bytes: UnsafeRawBufferPointer) throws(LOptError) {
        try sink.write(bytes)
        headerSize += bytes.count
    }

    private mutating func emit(_ text: StaticString) throws(LOptError) { try emit(UnsafeRawBufferPointer(text)) }

    private mutating func emit(number text: Message) throws(LOptError) {
        try text.withBytes { bytes throws(LOptError) in try emit(bytes) }
    }

    private mutating func emit(quoted text: UnsafeRawBufferPointer) throws(LOptError) {
        try emit("\"")
        try emit(escaped: text)
        try emit("\"")
    }

    /// UTF-8 as it stands; what JSON does not allow in a string, escaped.
    private mutating func emit(escaped text: UnsafeRawBufferPointer) throws(LOptError) {
        var plain = 0
        var position = 0
        while position < text.count {
            let byte = text[position]
            let length = text.utf8Length(at: position)
            guard length > 0 else { throw LOptError(.invalidArgument, "'\(text)' is not UTF-8 at byte \(position)") }
            if byte < 0x20 || byte == UInt8(ascii: "\"") || byte == UInt8(ascii: "\\") {
                try emit(UnsafeRawBufferPointer(rebasing: text[plain..<position]))
                try emit(escape: byte)
                plain = position + 1
            }
            position += length
        }
        try emit(UnsafeRawBufferPointer(rebasing: text[plain...]))
    }

    private mutating func emit(escape byte: UInt8) throws(LOptError) {
        var text: Message = "\\u00"
        text.append(hexadecimal: byte >> 4)
        text.append(hexadecimal: byte & 15)
        try emit(number: text)
    }
}

// MARK: - The data

extension SafeTensorsWriter {
    /// Further bytes of the data section: tensor after tensor, in pieces of any size.
    public mutating func data(_ bytes: UnsafeRawBufferPointer) throws(LOptError) {
        guard bytes.count <= dataSize - dataWritten else {
            throw LOptError(.invalidArgument, "more data than the \(dataSize) bytes described")
        }
        try sink.write(bytes)
        dataWritten += bytes.count
    }
}
