import Foundation
import LOptCore

extension Weights {
    /// Weights from their values, with the checks of a file and no metadata.
    ///
    /// Throws what `init(bytes:)` throws; `.weights` and `.invalidArgument` as `Architecture.checked`; `.invalidArgument` if `theta`
    /// does not have `architecture.metaParameters` values.
    public init(architecture: Architecture, theta: [Float], allocator: Allocator = .system) throws(LOptError) {
        let checked = try architecture.checked()
        guard theta.count == checked.metaParameters else {
            throw LOptError(.invalidArgument, "theta has \(theta.count) values, its architecture \(checked.metaParameters)")
        }
        try self.init(checked, copying: theta, allocator: allocator)
    }

    /// Writes a weights file, which reads back as weights of the same digest. Its metadata are the constructor values,
    /// the notes, and of the notes of the file that these weights come from those whose keys are not among them.
    ///
    /// Throws an `LOptMetaError` with the path and what failed: a note whose key is empty, occurs twice, is that of a
    /// constructor value or nearly, notes beyond 1 MB, or the system's reason; the file at `url` is as it was then.
    public borrowing func write(to url: URL, notes: [(key: String, value: String)]) throws {
        let ours = Set(notes.map(\.key))
        let file = WeightsFileContents(
            architecture: architecture, theta: (0..<architecture.metaParameters).map { theta[$0] },
            notes: notes + self.notes.filter { !ours.contains($0.key) })
        do throws(LOptError) {
            try file.check(notes)
            try file.write(to: ByteSink(replacing: url.path, .system))
        } catch {
            throw LOptMetaError("'\(url.path)': \(error)")
        }
    }

    /// The metadata of the file that are no constructor values: where the weights come from.
    public var notes: [(key: String, value: String)] {
        let reserved = architecture.reservedKeys
        return metadata.filter { !reserved.contains($0.key) }
    }

    /// All pairs of the file's metadata.
    var metadata: [(key: String, value: String)] {
        var pairs: [(key: String, value: String)] = []
        while let pair = metadata(at: pairs.count) {
            pairs.append((String(decoding: pair.key, as: UTF8.self), String(decoding: pair.value, as: UTF8.self)))
        }
        return pairs
    }
}

extension Architecture {
    /// Those that a file says of the weights themselves.
    fileprivate var reservedKeys: Set<String> { Set(values().map { "\($0.key)" } + ["kind", "format_version"]) }
}

/// What a weights file says, put into words once: it is gone through for the size of the header, the header and the data.
private struct WeightsFileContents {
    let architecture: Architecture
    let theta: [Float]
    private let metadata: [(key: [UInt8], value: [UInt8])]
    /// In the order of their names.
    private let blocks: [(name: [UInt8], block: MetaParameterBlock)]

    init(architecture: Architecture, theta: [Float], notes: [(key: String, value: String)] = []) {
        (self.architecture, self.theta) = (architecture, theta)
        let said = [("format_version", "1"), ("kind", "\(architecture.kind.name)")]
            + architecture.values().map { ("\($0.key)", $0.text) }
        metadata = (said + notes).map { (Array($0.0.utf8), Array($0.1.utf8)) }
        blocks = architecture.blocks.map { (Array(String($0.name).utf8), $0) }
            .sorted { $0.0.lexicographicallyPrecedes($1.0) }
    }

    private func describe(_ writer: inout SafeTensorsWriter) throws(LOptError) {
        for (key, value) in metadata {
            try key.withBytes { key throws(LOptError) in
                try value.withBytes { value throws(LOptError) in try writer.metadata(key, value) }
            }
        }
        for (name, block) in blocks {
            try name.withBytes { name throws(LOptError) in try writer.tensor(name, .f32, block.shape) }
        }
    }

    func size() throws(LOptError) -> Int { try SafeTensorsWriter.size(describe: describe) }

    func write(to sink: consuming ByteSink) throws(LOptError) {
        try SafeTensorsWriter.write(to: sink, describe: describe) { writer throws(LOptError) in
            for (_, block) in blocks {
                try theta[block.offset..<(block.offset + block.count)].withUnsafeBufferPointer { values throws(LOptError) in
                    try writer.data(UnsafeRawBufferPointer(values))
                }
            }
        }
    }

    func check(_ notes: [(key: String, value: String)]) throws(LOptError) {
        let reserved = architecture.reservedKeys, spelling = ConstructorKeys(of: architecture)
        var seen: Set<String> = []
        for (key, value) in notes {
            guard !key.isEmpty else { throw LOptError(.invalidArgument, "a note has an empty key") }
            guard !reserved.contains(key) else {
                throw LOptError(.invalidArgument, "a note has the key '\(key)', which is that of a constructor value")
            }
            guard !key.utf8.contains(0), !value.utf8.contains(0) else {
                throw LOptError(.invalidArgument, "the note '\(key)' has a character U+0000")
            }
            try Array(key.utf8).withBytes { key throws(LOptError) in try spelling.checkSpelling(of: key, .invalidArgument) }
            guard seen.insert(key).inserted else { throw LOptError(.invalidArgument, "two notes have the key '\(key)'") }
        }
        let header = try size() - 8 - 4 * theta.count
        guard header <= Weights.maximumHeaderSize else {
            throw LOptError(
                .invalidArgument,
                "the notes make a header of \(header) bytes; at most \(Weights.maximumHeaderSize) are read again")
        }
    }
}

extension [UInt8] {
    fileprivate func withBytes(_ body: (UnsafeRawBufferPointer) throws(LOptError) -> Void) throws(LOptError) {
        try withUnsafeBufferPointer { bytes throws(LOptError) in try body(UnsafeRawBufferPointer(bytes)) }
    }
}
