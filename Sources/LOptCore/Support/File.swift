import CLOptShims

/// A regular file that is open for reading.
public struct InputFile: ~Copyable {
    /// When it was opened.
    public let size: Int
    private let file: Int32
    /// For messages.
    private let path: Message

    /// Throws `.io` for a file that cannot be opened or is not a regular file, with the system's reason;
    /// `.invalidArgument` for a path longer than the system's limit.
    public init(path: UnsafePointer<CChar>) throws(LOptError) {
        try checkLength(path)
        var file: Int32
        var error: Int32 = 0
        repeat {
            file = lopt_system_open_nonblocking(path)
            if file < 0 { error = lopt_system_errno() }
        } while file < 0 && lopt_system_is_interrupted(error) != 0
        guard file >= 0 else { throw LOptError.system("cannot open", "\(path)", error) }
        let size = lopt_system_file_size(file)
        guard size >= 0 else {
            error = lopt_system_errno()
            _ = lopt_system_close(file)
            if size == -2 { throw LOptError(.io, "'\(path)' is not a regular file") }
            throw LOptError.system("cannot find the size of", "\(path)", error)
        }
        self.file = file
        self.size = Int(size)
        self.path = "\(path)"
    }

    deinit { _ = lopt_system_close(file) }

    /// Fills `memory` with the bytes from `offset` on. Throws `.io`, also if the file ends before.
    public func read(into memory: UnsafeMutableRawBufferPointer, at offset: Int) throws(LOptError) {
        guard let start = memory.baseAddress else { return }
        var done = 0
        while done < memory.count {
            let count = try readSome(start + done, memory.count - done, at: offset + done)
            guard count > 0 else {
                throw LOptError(
                    .io, "'\(path)' ended at byte \(offset + done) of \(size): it was cut while it was read")
            }
            done += count
        }
    }

    /// Throws `.io` if there is something behind the last byte, as when another process is still writing the file.
    func checkEnd() throws(LOptError) {
        var byte: UInt8 = 0
        guard try readSome(&byte, 1, at: size) == 0 else {
            throw LOptError(.io, "'\(path)' grew beyond its \(size) bytes while it was read")
        }
    }

    private func readSome(_ memory: UnsafeMutableRawPointer, _ count: Int, at offset: Int) throws(LOptError) -> Int {
        while true {
            let result = lopt_system_read_at(file, memory, count, Int64(offset))
            if result >= 0 { return result }
            let error = lopt_system_errno()
            guard lopt_system_is_interrupted(error) != 0 else { throw LOptError.system("cannot read", path, error) }
        }
    }
}

/// A whole file in memory.
public struct FileContents: ~Copyable {
    private let memory: Allocation<UInt8>

    /// Reads all of `file`. Throws `.io`, `.noMemory`.
    public init(of file: borrowing InputFile, allocator: Allocator) throws(LOptError) {
        let memory = try Allocation<UInt8>(file.size, allocator)
        try file.read(into: memory.mutableBytes, at: 0)
        try file.checkEnd()
        self.memory = memory
    }

    /// They live as long as this does.
    public var bytes: UnsafeRawBufferPointer { memory.bytes }
}

/// A file that takes another's place at once: written under another name in the same directory, synced and renamed. So
/// the file at the path is always the old one or the new one, whole, even if the machine stops in the middle. The new one
/// has the permissions of the old one.
///
/// If this goes before `commit`, or `commit` throws, the old file is as it was and the new one is removed. A symbolic
/// link at the path is replaced, not followed; a directory, a pipe, a socket or a device is not replaced.
struct FileReplacement: ~Copyable {
    private static let bufferSize = 65536
    private static let attempts = 10_000

    private let allocator: Allocator
    /// The path with its 0, then that of the temporary file.
    private let paths: Allocation<CChar>
    private let pathSize: Int
    private let buffer: Allocation<UInt8>
    private var buffered = 0
    private var file: Int32

    private var path: UnsafePointer<CChar> { UnsafePointer(paths.pointer) }
    private var temporary: UnsafePointer<CChar> { UnsafePointer(paths.pointer + pathSize) }

    /// Throws `.io` if no file can be created beside `path` or what is there may not be replaced, `.invalidArgument` for a
    /// path longer than the system's limit, `.noMemory`.
    init(path: UnsafePointer<CChar>, allocator: Allocator) throws(LOptError) {
        let length = try checkLength(path)
        if let kind = lopt_system_irreplaceable(path) { throw LOptError(.io, "cannot replace '\(path)': \(kind)") }
        let pathSize = length + 1
        let paths = try Allocation<CChar>(pathSize + maximumPath, allocator)
        lopt_system_copy(paths.pointer, path, pathSize)
        let buffer = try Allocation<UInt8>(FileReplacement.bufferSize, allocator)
        file = try FileReplacement.create(beside: path, length, paths.pointer + pathSize)
        // Before the first byte: what was kept from others stays so. A file system may know no permissions.
        _ = lopt_system_copy_permissions(file, path)
        self.allocator = allocator
        self.paths = paths
        self.pathSize = pathSize
        self.buffer = buffer
    }

    deinit {
        guard file >= 0 else { return }
        _ = lopt_system_close(file)
        _ = lopt_system_unlink(paths.pointer + pathSize)
    }

    /// Creates "<directory>/.lopt-<process>-<number>.tmp", whose length does not depend on the target's, and stores its
    /// path.
    private static func create(
        beside path: UnsafePointer<CChar>, _ length: Int, _ temporary: UnsafeMutablePointer<CChar>
    ) throws(LOptError) -> Int32 {
        var directory = length
        while directory > 0, path[directory - 1] != CChar(UInt8(ascii: "/")) { directory -= 1 }
        lopt_system_copy(temporary, path, directory)
        var number = 0
        while true {
            let name: Message = ".lopt-\(lopt_system_process())-\(number).tmp"
            guard directory + name.count < maximumPath else {
                throw LOptError(
                    .invalidArgument, "the directory of '\(path)' has \(directory) bytes: too long for a path")
            }
            name.withCString { lopt_system_copy(temporary + directory, $0, name.count + 1) }
            let file = lopt_system_create_exclusive(temporary)
            if file >= 0 { return file }
            let error = lopt_system_errno()
            if lopt_system_file_exists(error) != 0, number < attempts {
                number += 1
            } else if lopt_system_is_interrupted(error) == 0 {
                throw LOptError.system("cannot create a file beside", "\(path)", error)
            }
        }
    }

    mutating func write(_ bytes: UnsafeRawBufferPointer) throws(LOptError) {
        guard let start = bytes.baseAddress else { return }
        if bytes.count > buffer.count - buffered { try flush() }
        if bytes.count >= buffer.count { return try writeThrough(start, bytes.count) }
        lopt_system_copy(buffer.pointer + buffered, start, bytes.count)
        buffered += bytes.count
    }

    private mutating func flush() throws(LOptError) {
        try writeThrough(buffer.pointer, buffered)
        buffered = 0
    }

    private func writeThrough(_ bytes: UnsafeRawPointer, _ count: Int) throws(LOptError) {
        var done = 0
        while done < count {
            let result = lopt_system_write(file, bytes + done, count - done)
            if result > 0 {
                done += result
                continue
            }
            guard result < 0 else { throw LOptError(.io, "cannot write '\(path)': the system takes no more bytes") }
            let error = lopt_system_errno()
            guard lopt_system_is_interrupted(error) != 0 else { throw failure("cannot write", error) }
        }
    }

    /// Puts the new file in the place of the old one.
    consuming func commit() throws(LOptError) {
        try flush()
        while lopt_system_sync(file) != 0 {
            let error = lopt_system_errno()
            guard lopt_system_is_interrupted(error) != 0 else { throw failure("cannot sync", error) }
        }
        guard lopt_system_rename(temporary, path) == 0 else { throw failure("cannot replace", lopt_system_errno()) }
        _ = lopt_system_close(file)
        file = -1
        syncDirectory()
    }

    /// Makes the new name durable. An error here is not reported: the file has been replaced already, which a call that
    /// fails must not have done, and a machine that stops now comes back with one of the two files, whole. Some
    /// directories may be written but not read, and some file systems sync no directories.
    private func syncDirectory() {
        var end = pathSize - 1
        while end > 0, path[end - 1] != CChar(UInt8(ascii: "/")) { end -= 1 }
        if end == 0 {
            paths.pointer[0] = CChar(UInt8(ascii: "."))
            end = 1
        }
        paths.pointer[end] = 0
        let directory = lopt_system_open_directory(path)
        guard directory >= 0 else { return }
        while lopt_system_sync(directory) != 0, lopt_system_is_interrupted(lopt_system_errno()) != 0 {}
        _ = lopt_system_close(directory)
    }

    private func failure(_ action: StaticString, _ error: Int32) -> LOptError {
        LOptError.system(action, "\(path)", error)
    }
}

/// Linux's PATH_MAX: bytes of a path with its 0.
private let maximumPath = 4096

/// The length of a path, if the system would take it.
@discardableResult
private func checkLength(_ path: UnsafePointer<CChar>) throws(LOptError) -> Int {
    let length = lopt_system_length(path, maximumPath)
    guard length < maximumPath else {
        throw LOptError(.invalidArgument, "path '\(path)' has more than \(maximumPath - 1) bytes")
    }
    return length
}

extension LOptError {
    /// `.io`, with the system's text for `error`.
    fileprivate static func system(_ action: StaticString, _ path: Message, _ error: Int32) -> LOptError {
        LOptError(.io, "\(action) '\(path)': \(reason(error))")
    }

    /// The system's text for `error`.
    static func reason(_ error: Int32) -> Message {
        var memory = InlineArray<128, CChar>(repeating: 0)
        return withUnsafeMutablePointer(to: &memory) { memory in
            let text = UnsafeMutableRawPointer(memory).assumingMemoryBound(to: CChar.self)
            guard let reason = lopt_system_error_text(error, text, 128) else { return "error \(error)" }
            return "\(UnsafePointer(reason))"
        }
    }
}
