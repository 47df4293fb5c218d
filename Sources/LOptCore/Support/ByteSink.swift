import CLOptShims

/// Where a file's bytes go, in order: to a file that takes another's place, to memory, or nowhere, to be counted.
public struct ByteSink: ~Copyable {
    /// Bytes written so far.
    public private(set) var count = 0
    private var file: FileReplacement?
    private let memory: UnsafeMutableRawBufferPointer?

    /// Counts the bytes.
    public init() {
        file = nil
        memory = nil
    }

    /// Writes to memory, which must live as long as the sink. More bytes than it has are `.invalidArgument`.
    public init(memory: UnsafeMutableRawBufferPointer) {
        file = nil
        self.memory = memory
    }

    /// Writes a new file, which replaces the one at `path`, if there is one, when `commit` is called: not before, and not
    /// at all if the sink goes without. Throws `.io`, `.invalidArgument` for a path longer than the system's limit, and
    /// `.noMemory`.
    public init(replacing path: UnsafePointer<CChar>, _ allocator: Allocator) throws(LOptError) {
        file = try FileReplacement(path: path, allocator: allocator)
        memory = nil
    }

    /// Throws `.io`, `.invalidArgument`.
    public mutating func write(_ bytes: UnsafeRawBufferPointer) throws(LOptError) {
        if let memory, let start = memory.baseAddress, let source = bytes.baseAddress {
            guard bytes.count <= memory.count - count else {
                throw LOptError(.invalidArgument, "memory of \(memory.count) bytes is too small")
            }
            lopt_system_copy(start + count, source, bytes.count)
        }
        try file?.write(bytes)
        count += bytes.count
    }

    mutating func write(_ text: StaticString) throws(LOptError) { try write(UnsafeRawBufferPointer(text)) }

    /// Nothing more will come. Throws `.io`: the old file is as it was then.
    public consuming func commit() throws(LOptError) {
        if let file { try file.commit() }
    }
}
