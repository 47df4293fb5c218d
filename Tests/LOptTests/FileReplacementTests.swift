import Foundation
import Testing

@testable import LOptCore

/// A file is replaced at once or not at all, and nothing is left beside it.
@Suite struct FileReplacementTests {
    private func write(
        _ path: String, _ pieces: [[UInt8]], commits: Bool = true, allocator: Allocator = .system
    ) throws(LOptError) {
        var sink = try ByteSink(replacing: path, allocator)
        for piece in pieces {
            let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: piece.count, alignment: 1)
            defer { memory.deallocate() }
            memory.copyBytes(from: piece)
            try sink.write(UnsafeRawBufferPointer(memory))
        }
        if commits { try sink.commit() }
    }

    private func contents(_ path: String) -> [UInt8]? {
        FileManager.default.contents(atPath: path).map { Array($0) }
    }

    /// Pieces below, at and above the size of the buffer.
    @Test func `pieces of any size are written in order`() throws {
        let directory = try TemporaryDirectory()
        var noise = Noise(state: 3)
        let sizes = [0, 1, 65535, 1, 65536, 0, 65537, 3, 200_000, 65536, 7, 65530, 65535, 65535]
        let pieces = sizes.map { (0..<$0).map { _ in UInt8.random(in: 0...255, using: &noise) } }
        for count in 0...pieces.count {
            try write(directory.path("f"), Array(pieces.prefix(count)))
            #expect(contents(directory.path("f")) == Array(pieces.prefix(count).joined()))
        }
        #expect(directory.names == ["f"])
    }

    @Test func `the file is the old one until the commit`() throws {
        let directory = try TemporaryDirectory()
        try write(directory.path("f"), [[1, 2, 3]])
        try write(directory.path("f"), [[4], [UInt8](repeating: 5, count: 100_000)], commits: false)
        #expect(contents(directory.path("f")) == [1, 2, 3])
        #expect(directory.names == ["f"])
        var sink = try ByteSink(replacing: directory.path("f"), .system)
        try sink.write("new")
        #expect(contents(directory.path("f")) == [1, 2, 3])
        #expect(directory.names.count == 2)
        try sink.commit()
        #expect(contents(directory.path("f")) == Array("new".utf8))
        #expect(directory.names == ["f"])
    }

    /// Bytes that cannot be written, as on a full disk: the process may write no file beyond 32 MB here.
    @Test func `the file is the old one after a write that fails`() throws {
        let directory = try TemporaryDirectory()
        try write(directory.path("f"), [[1, 2, 3]])
        let ledger = MemoryLedger()
        var old = rlimit()
        #expect(getrlimit(__rlimit_resource_t(1), &old) == 0)
        var new = old
        new.rlim_cur = 32 << 20
        #expect(setrlimit(__rlimit_resource_t(1), &new) == 0)
        let piece = [UInt8](repeating: 7, count: 1 << 20)
        let error = failure { () throws(LOptError) in
            try write(directory.path("f"), Array(repeating: piece, count: 33), allocator: ledger.allocator)
        }
        #expect(setrlimit(__rlimit_resource_t(1), &old) == 0)
        #expect(error?.status == .io)
        #expect(error?.description.hasPrefix("cannot write '") == true)
        #expect(error?.description.hasSuffix("/f': File too large") == true, "\(error?.description ?? "written")")
        #expect(contents(directory.path("f")) == [1, 2, 3])
        #expect(directory.names == ["f"])
        #expect(ledger.isBalanced)
    }

    @Test func `the file is the old one when the content fails`() throws {
        let directory = try TemporaryDirectory()
        try write(directory.path("f"), [[1, 2, 3]])
        for stage in 0..<3 {
            let error = failure { () throws(LOptError) in
                try SafeTensorsWriter.write(
                    to: ByteSink(replacing: directory.path("f"), .system),
                    describe: { writer throws(LOptError) in
                        if stage == 0 { throw LOptError(.mismatch, "no description") }
                        try writer.tensor(UnsafeRawBufferPointer("x" as StaticString), .u8, SafeTensors.Shape(2))
                    },
                    data: { writer throws(LOptError) in
                        try writer.data(UnsafeRawBufferPointer("1" as StaticString))
                        if stage == 1 { throw LOptError(.mismatch, "no data") }
                    })
            }
            #expect(error?.status == (stage == 2 ? .invalidArgument : .mismatch))
            #expect(contents(directory.path("f")) == [1, 2, 3])
            #expect(directory.names == ["f"])
        }
    }

    @Test func `every failed allocation is reported`() throws {
        let directory = try TemporaryDirectory()
        for n in 0..<2 {
            let ledger = MemoryLedger(failing: n)
            let error = failure { () throws(LOptError) in
                try write(directory.path("f"), [[1]], allocator: ledger.allocator)
            }
            #expect(error?.status == .noMemory)
            #expect(ledger.isBalanced)
            #expect(directory.names == [])
        }
        let ledger = MemoryLedger()
        try write(directory.path("f"), [[1]], allocator: ledger.allocator)
        #expect(ledger.calls == 2)
        #expect(ledger.isBalanced)
    }
}

// MARK: - Paths

extension FileReplacementTests {
    @Test func `a directory that is not there is reported`() throws {
        let directory = try TemporaryDirectory()
        let error = failure { () throws(LOptError) in try write(directory.path("absent/f"), [[1]]) }
        #expect(error?.status == .io)
        #expect(error?.description.hasPrefix("cannot create a file beside '") == true)
        #expect(error?.description.hasSuffix("/absent/f': No such file or directory") == true)
    }

    @Test func `a directory is not replaced`() throws {
        let directory = try TemporaryDirectory()
        #expect(mkdir(directory.path("d"), 0o700) == 0)
        let error = failure { () throws(LOptError) in try write(directory.path("d"), [[1]]) }
        #expect(error?.status == .io)
        #expect(error?.description.hasSuffix("/d': Is a directory") == true)
        #expect(directory.names == ["d"])
        #expect(failure { () throws(LOptError) in try write("", [[1]]) }?.status == .io)
    }

    @Test func `temporary files of others are left alone`() throws {
        let directory = try TemporaryDirectory()
        let others = (0..<3).map { ".lopt-\(getpid())-\($0).tmp" }
        for name in others { try Data([9]).write(to: URL(fileURLWithPath: directory.path(name))) }
        try write(directory.path("f"), [[1]])
        #expect(directory.names == others + ["f"])
        #expect(contents(directory.path("f")) == [1])
        for name in others { #expect(contents(directory.path(name)) == [9]) }
    }

    @Test func `the longest name is written`() throws {
        let directory = try TemporaryDirectory()
        let name = String(repeating: "n", count: 255)
        try write(directory.path(name), [[1]])
        #expect(directory.names == [name])
        #expect(failure { () throws(LOptError) in try write(directory.path(name + "n"), [[1]]) }?.status == .io)
        #expect(directory.names == [name])
    }

    @Test func `paths are bounded`() throws {
        let long = failure { () throws(LOptError) in try write("/" + String(repeating: "x", count: 4095), [[1]]) }
        #expect(long?.status == .invalidArgument)
        #expect(long?.description.hasSuffix("has more than 4095 bytes") == true)
        // The path itself is short enough, that of a temporary file beside it is not.
        let nearly = failure { () throws(LOptError) in try write(String(repeating: "./", count: 2046) + "x", [[1]]) }
        #expect(nearly?.status == .invalidArgument)
        #expect(nearly?.description.hasSuffix("has 4092 bytes: too long for a path") == true)
    }

    @Test func `a path without a directory is in the current one`() throws {
        let name = "lopt-tests-\(UUID().uuidString)"
        defer { unlink(name) }
        try write(name, [[1, 2]])
        #expect(contents(name) == [1, 2])
    }

    @Test func `a symbolic link is replaced, not followed`() throws {
        let directory = try TemporaryDirectory()
        try write(directory.path("target"), [[1]])
        #expect(symlink(directory.path("target"), directory.path("link")) == 0)
        try write(directory.path("link"), [[2]])
        #expect(contents(directory.path("target")) == [1])
        #expect(contents(directory.path("link")) == [2])
        #expect(directory.names == ["link", "target"])
    }

    /// Readers see one file or the other, whole.
    @Test func `readers never see a part`() async throws {
        let directory = try TemporaryDirectory()
        let path = directory.path("f")
        try write(path, [[UInt8](repeating: 0, count: 100_000)])
        let reader = Task.detached { () -> Int in
            var torn = 0
            for _ in 0..<300 {
                guard let bytes = FileManager.default.contents(atPath: path) else {
                    torn += 1
                    continue
                }
                let first = bytes.first ?? 0
                if bytes.count != 100_000 + Int(first) || bytes.contains(where: { $0 != first }) { torn += 1 }
            }
            return torn
        }
        for round in 1...100 {
            try write(path, [[UInt8](repeating: UInt8(round), count: 100_000 + round)])
        }
        #expect(await reader.value == 0)
    }
}
