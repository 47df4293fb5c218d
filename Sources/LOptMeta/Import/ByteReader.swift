import Foundation

/// Takes bytes off a file from front to back; what would lie behind its end is an error, never a trap.
struct ByteReader {
    let bytes: [UInt8]
    private(set) var position: Int
    private let end: Int

    init(_ bytes: [UInt8], _ range: Range<Int>? = nil) {
        self.bytes = bytes
        position = range?.lowerBound ?? 0
        end = range?.upperBound ?? bytes.count
    }

    var left: Int { end - position }

    /// The next `count` bytes, as their place in the file.
    mutating func take(_ count: Int) throws -> Range<Int> {
        guard count >= 0, count <= left else {
            throw LOptMetaError("the file is cut short: \(count) bytes are needed at byte \(position), \(left) are left")
        }
        defer { position += count }
        return position..<(position + count)
    }

    mutating func little(_ count: Int) throws -> Int {
        bytes[try take(count)].reversed().reduce(0) { $0 << 8 | Int($1) }
    }

    mutating func big(_ count: Int) throws -> Int {
        // Eight bytes of which the first is 128 or more are no number of anything here; they become negative, which `take` refuses.
        bytes[try take(count)].reduce(0) { $0 << 8 | Int($1) }
    }

    mutating func text(_ count: Int) throws -> String { String(decoding: bytes[try take(count)], as: UTF8.self) }
}
