import Foundation
import Testing

@testable import LOptCore

private func text(_ text: StaticString) -> UnsafeRawBufferPointer { UnsafeRawBufferPointer(text) }

/// Files that the writer writes.
@Suite struct SafeTensorsWriterTests {
    struct Tensor: Sendable {
        let name: [UInt8]
        let type: SafeTensors.ElementType
        let shape: [Int]

        var shapeValue: SafeTensors.Shape {
            var shape = SafeTensors.Shape()
            for extent in self.shape { shape.append(extent) }
            return shape
        }
    }

    /// A file of these contents, its data 0, 1, 2, ...
    private func write(metadata: [(String, String)], _ tensors: [Tensor], pieces: Int = 1000) throws -> [UInt8] {
        func describe(_ writer: inout SafeTensorsWriter) throws(LOptError) {
            for (key, value) in metadata {
                let (key, value) = (copy(Array(key.utf8)), copy(Array(value.utf8)))
                defer {
                    key.deallocate()
                    value.deallocate()
                }
                try writer.metadata(UnsafeRawBufferPointer(key), UnsafeRawBufferPointer(value))
            }
            for tensor in tensors {
                let name = copy(tensor.name)
                defer { name.deallocate() }
                try writer.tensor(UnsafeRawBufferPointer(name), tensor.type, tensor.shapeValue)
            }
        }
        let size = tensors.reduce(0) { $0 + $1.type.size($1.shapeValue)! }
        let whole = try SafeTensorsWriter.size(describe: describe)
        var file = [UInt8](repeating: 0xee, count: whole)
        try file.withUnsafeMutableBytes { memory in
            try SafeTensorsWriter.write(to: ByteSink(memory: memory), describe: describe) { writer throws(LOptError) in
                var position = 0
                while position < size {
                    let piece = (position..<min(position + pieces, size)).map { UInt8(truncatingIfNeeded: $0) }
                    let memory = copy(piece)
                    defer { memory.deallocate() }
                    try writer.data(UnsafeRawBufferPointer(memory))
                    position += piece.count
                }
            }
        }
        return file
    }

    private func copy(_ bytes: [UInt8]) -> UnsafeMutableRawBufferPointer {
        let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: bytes.count, alignment: 1)
        memory.copyBytes(from: bytes)
        return memory
    }


    @Test func `written files read back`() throws {
        let every = String((1..<128).map { Character(Unicode.Scalar($0)!) })
        let metadata = [("", "é€😀\u{7f}\u{80}\u{7ff}\u{800}\u{ffff}\u{10000}\u{10ffff}"), (every, every), ("k", "")]
        let tensors = [
            Tensor(name: Array("z".utf8), type: .f32, shape: [3, 5]),
            Tensor(name: Array("a/momentum \"1\" \\ \n".utf8), type: .f64, shape: []),
            Tensor(name: Array("empty".utf8), type: .i64, shape: [7, 0, 9]),
            Tensor(name: [], type: .u8, shape: [Int](repeating: 1, count: 15) + [4001]),
        ]
        let file = try write(metadata: metadata, tensors)
        let found = try contents(of: file)
        #expect(found.metadata == Dictionary(uniqueKeysWithValues: metadata))
        #expect(found.tensors.count == tensors.count)
        var position = file.count - (60 + 8 + 4001)
        #expect(position % 64 == 0)
        for tensor in tensors {
            let name = String(decoding: tensor.name, as: UTF8.self)
            let size = tensor.type.size(tensor.shapeValue)!
            #expect(found.tensors[name] == .init(
                type: tensor.type.name.description, shape: tensor.shape, data: position..<(position + size)))
            position += size
        }
        let data = (0..<4069).map { UInt8(truncatingIfNeeded: $0) }
        #expect(Array(file.suffix(4069)) == data)
    }

    @Test func `data are aligned for every length of the header`() throws {
        for length in 1...130 {
            let name = [UInt8](repeating: 0x78, count: length)
            let file = try write(metadata: [], [Tensor(name: name, type: .u8, shape: [1])])
            #expect(try contents(of: file).tensors.values.first?.data.lowerBound == file.count - 1)
            #expect((file.count - 1) % 64 == 0)
        }
    }

    @Test func `empty files are written`() throws {
        #expect(try contents(of: write(metadata: [], [])) == contents(of: safeTensorsFile("{}")))
        #expect(try contents(of: write(metadata: [("a", "b")], [])).metadata == ["a": "b"])
    }

    @Test func `the suffix is part of the name`() throws {
        var file = [UInt8](repeating: 0, count: 128)
        try file.withUnsafeMutableBytes { memory in
            try SafeTensorsWriter.write(
                to: ByteSink(memory: memory),
                describe: { writer throws(LOptError) in
                    let name = text("w")
                    try writer.tensor(name, suffix: "/v", .f32, SafeTensors.Shape(0, 3))
                }, data: { _ in })
        }
        #expect(try contents(of: file).tensors.keys.sorted() == ["w/v"])
    }
}

// MARK: - Faults

extension SafeTensorsWriterTests {
    private func failure(
        room: Int = 64 + 4, describe: SafeTensorsWriter.Body? = nil,
        data: SafeTensorsWriter.Body = { writer throws(LOptError) in try writer.data(text("1234")) }
    ) -> LOptError? {
        let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: room, alignment: 1)
        defer { memory.deallocate() }
        return LOptTests.failure { () throws(LOptError) in
            try SafeTensorsWriter.write(to: ByteSink(memory: memory), describe: describe ?? fourBytes, data: data)
        }
    }

    private func fourBytes(_ writer: inout SafeTensorsWriter) throws(LOptError) {
        try writer.tensor(text("x"), .u8, SafeTensors.Shape(4))
    }

    @Test func `data must be what was described`() {
        #expect(failure() == nil)
        let short = failure(data: { writer throws(LOptError) in try writer.data(text("123")) })
        #expect(short?.status == .invalidArgument)
        #expect(short?.description == "3 bytes of data written, 4 described")
        let long = failure(data: { writer throws(LOptError) in try writer.data(text("12345")) })
        #expect(long?.description == "more data than the 4 bytes described")
    }

    @Test func `memory must be large enough`() {
        for room in 0..<68 {
            let error = failure(room: room)
            #expect(error?.status == .invalidArgument)
            #expect(error?.description == "memory of \(room) bytes is too small")
        }
    }

    @Test func `both descriptions must agree`() {
        var calls = 0
        let error = failure(describe: { writer throws(LOptError) in
            calls += 1
            try writer.tensor(text("x"), .u8, SafeTensors.Shape(calls))
        })
        #expect(error?.status == .invalidArgument)
        #expect(error?.description.contains("described in two ways") == true)
    }

    @Test func `names must be allowed`() {
        let reserved = failure(describe: { writer throws(LOptError) in
            try writer.tensor(text("__metadata__"), .u8, SafeTensors.Shape(4))
        })
        #expect(reserved?.description == "no tensor may have the name '__metadata__'")
        let late = failure(describe: { writer throws(LOptError) in
            try fourBytes(&writer)
            try writer.metadata("k", "v")
        })
        #expect(late?.description == "metadata 'k' after a tensor")
        let large = failure(describe: { writer throws(LOptError) in
            for _ in 0..<16 { try writer.tensor(text("x"), .u8, SafeTensors.Shape(1 << 59)) }
        })
        #expect(large?.description == "tensor 'x' of U8 [576460752303423488] is too large for a file")
        for text: [UInt8] in [[0x61, 0x80], [0xc3], [0xed, 0xa0, 0x80]] {
            let memory = copy(text)
            defer { memory.deallocate() }
            let error = failure(describe: { writer throws(LOptError) in
                try writer.tensor(UnsafeRawBufferPointer(memory), .u8, SafeTensors.Shape(4))
            })
            #expect(error?.status == .invalidArgument)
            #expect(error?.description.contains("is not UTF-8 at byte") == true)
        }
    }
}
