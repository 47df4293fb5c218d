import CLOptShims

/// Frozen meta-trained weights: the architecture of a learned optimizer and its meta-parameters, checked in full.
///
/// They own their memory, never change, and may be read by several threads at once.
public struct Weights: ~Copyable {
    public let architecture: Architecture
    /// Of everything that the weights compute with: architecture and meta-parameters, bit for bit. Metadata that say only
    /// where they come from do not count.
    public let digest: UInt64
    /// The same without `tensorRanges` and `skipIdleTensors`, which change no number of ordinary training and no state.
    let digestWithoutSafeguards: UInt64
    private let values: Allocation<Float>
    /// The table of the file that they come from, for its metadata.
    let file: SafeTensors?

    /// `architecture.metaParameters` values, laid out as `architecture.block` says. They live as long as the weights.
    public var theta: UnsafePointer<Float> { UnsafePointer(values.pointer) }

    /// The value of a key in the file's metadata, nil if there is none. It lives as long as the weights.
    public func metadata(key: UnsafePointer<CChar>) -> UnsafePointer<CChar>? {
        guard let value = file?.metadata(UnsafeRawBufferPointer(cString: key)) else { return nil }
        return value.baseAddress?.assumingMemoryBound(to: CChar.self)
    }

    /// The pairs of the file's metadata, numbered as the file has them; nil behind the last. They live as long as the
    /// weights.
    public func metadata(at index: Int) -> SafeTensors.Pair? { file?.metadata(at: index) }
}

// MARK: - Where weights come from

extension Weights {
    /// A weights file has a few kilobytes; the widest network allowed has 3.4 MB, and notes may take the rest of 1 MB.
    static let maximumFileSize = 8 << 20
    public static let maximumHeaderSize = 1 << 20

    /// Weights from the bytes of a weights file (docs/weights-file.md), which are copied.
    ///
    /// Throws `.weights` with a line that names what is wrong, `.noMemory`.
    public init(bytes: UnsafeRawBufferPointer, allocator: Allocator) throws(LOptError) {
        let file = try SafeTensors(
            bytes: bytes, status: .weights, headerLimit: Weights.maximumHeaderSize, allocator: allocator)
        let architecture = try Architecture(metadataOf: file)
        // Before memory is asked for: a few bytes of metadata may declare a network of megabytes.
        try architecture.checkTensors(of: file)
        let values = try Allocation<Float>(architecture.metaParameters, allocator)
        try architecture.readTensors(of: file, bytes, into: values.pointer)
        try self.init(architecture, values: values, file: consume file)
    }

    /// Weights of `architecture.metaParameters` values, which are copied. The architecture is one that a file could declare.
    public init(
        _ architecture: Architecture, copying theta: UnsafePointer<Float>, allocator: Allocator
    ) throws(LOptError) {
        let values = try Allocation<Float>(architecture.metaParameters, allocator)
        for i in 0..<architecture.metaParameters { values.pointer[i] = theta[i] }
        try self.init(architecture, values: values, file: nil)
    }

    private init(
        _ architecture: Architecture, values: consuming Allocation<Float>, file: consuming SafeTensors?
    ) throws(LOptError) {
        try architecture.checkValues(values.pointer)
        digest = architecture.digest(values.pointer, laidOutBy: architecture)
        digestWithoutSafeguards = architecture.withoutSafeguards.digest(values.pointer, laidOutBy: architecture)
        self.architecture = architecture
        self.values = values
        self.file = file
    }

    /// Weights from a file. Throws what `init(bytes:)` throws, `.io`, and `.invalidArgument` for a path that is longer
    /// than the system's limit.
    public init(path: UnsafePointer<CChar>, allocator: Allocator) throws(LOptError) {
        let file = try InputFile(path: path)
        guard file.size <= Weights.maximumFileSize else {
            throw LOptError(
                .weights, "'\(path)' has \(file.size) bytes; weights have at most \(Weights.maximumFileSize)")
        }
        try self.init(contents: FileContents(of: file, allocator: allocator), allocator: allocator)
    }

    /// Their own parameter, so that the contents stay until all has been read.
    private init(contents: borrowing FileContents, allocator: Allocator) throws(LOptError) {
        try self.init(bytes: contents.bytes, allocator: allocator)
    }

    /// Weights compiled into the library; nil is the default. Throws `.invalidArgument` for an unknown name, `.noMemory`.
    public init(builtin name: UnsafePointer<CChar>?, allocator: Allocator) throws(LOptError) {
        var bytes: UnsafePointer<UInt8>?
        var size = 0
        var index: Int32 = 0
        while let candidate = lopt_builtin_weights(index, &bytes, &size) {
            let wanted = UnsafeRawBufferPointer(cString: name ?? candidate)
            if wanted.hasBytes(of: UnsafeRawBufferPointer(cString: candidate)) {
                try self.init(bytes: UnsafeRawBufferPointer(start: bytes, count: size), allocator: allocator)
                return
            }
            index += 1
        }
        throw Weights.unknownBuiltin(name)
    }

    private static func unknownBuiltin(_ name: UnsafePointer<CChar>?) -> LOptError {
        var bytes: UnsafePointer<UInt8>?
        var size = 0
        var message: Message = "no built-in weights are named '"
        if let name { message.append(cString: name) }
        message.append(literal: "'; there are")
        var index: Int32 = 0
        while let candidate = lopt_builtin_weights(index, &bytes, &size) {
            message.append(literal: index == 0 ? " " : ", ")
            message.append(cString: candidate)
            index += 1
        }
        return LOptError(.invalidArgument, message)
    }
}
