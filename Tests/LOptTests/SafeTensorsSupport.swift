import Foundation

@testable import LOptCore

/// The root of the repository.
let repository = URL(fileURLWithPath: #filePath)
    .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()

/// A file of this header, as it stands, and `count` bytes of data 0, 1, 2, ...
func safeTensorsFile(_ header: String, data count: Int = 0) -> [UInt8] {
    safeTensorsFile(Array(header.utf8), data: (0..<count).map { UInt8(truncatingIfNeeded: $0) })
}

func safeTensorsFile(_ header: [UInt8], data: [UInt8]) -> [UInt8] {
    withUnsafeBytes(of: UInt64(header.count).littleEndian) { Array($0) } + header + data
}

/// What a table of contents says, as Swift values.
struct Contents: Equatable {
    struct Tensor: Equatable {
        var type: String
        var shape: [Int]
        var data: Range<Int>
    }

    var tensors: [String: Tensor] = [:]
    var metadata: [String: String] = [:]

    init(_ file: borrowing SafeTensors) {
        for i in 0..<file.count {
            let entry = file[i]
            tensors[String(decoding: entry.name, as: UTF8.self)] = Tensor(
                type: entry.type.name.description, shape: (0..<entry.shape.rank).map { entry.shape[$0] },
                data: entry.data)
        }
        var i = 0
        while let pair = file.metadata(at: i) {
            metadata[String(decoding: pair.key, as: UTF8.self)] = String(decoding: pair.value, as: UTF8.self)
            i += 1
        }
    }
}

/// Reads the table of contents of a file in memory.
func contents(
    of file: [UInt8], status: LOptStatus = .weights, allocator: Allocator = .system
) throws(LOptError) -> Contents {
    // A copy of the exact size: a read behind the end shows under a sanitizer.
    let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: file.count, alignment: 1)
    defer { memory.deallocate() }
    memory.copyBytes(from: file)
    return Contents(try SafeTensors(bytes: UnsafeRawBufferPointer(memory), status: status, allocator: allocator))
}

/// A counter of splitmix64's kind: numbers that differ from run to run of nothing.
struct Noise: RandomNumberGenerator {
    var state: UInt64

    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var z = state
        z = (z ^ z >> 30) &* 0xbf58_476d_1ce4_e5b9
        z = (z ^ z >> 27) &* 0x94d0_49bb_1331_11eb
        return z ^ z >> 31
    }
}
