import Foundation
import Testing

@testable import LOptCore

/// Reading whole files: every fault is an error that has the system's reason, never a wrong result.
@Suite struct FileTests {
    private func read(_ path: String, allocator: Allocator = .system) throws(LOptError) -> [UInt8] {
        let file = try InputFile(path: path)
        let contents = try FileContents(of: file, allocator: allocator)
        return Array(contents.bytes)
    }

    private func fault(_ path: String) -> LOptError? {
        failure { () throws(LOptError) in _ = try read(path) }
    }

    @Test(arguments: [0, 1, 4095, 4096, 1_000_003])
    func `whole files are read`(count: Int) throws {
        let directory = try TemporaryDirectory()
        let bytes = (0..<count).map { UInt8(truncatingIfNeeded: $0 ^ $0 >> 8) }
        try Data(bytes).write(to: URL(fileURLWithPath: directory.path("f")))
        #expect(try read(directory.path("f")) == bytes)
    }

    @Test func `a missing file has the system's reason`() throws {
        let directory = try TemporaryDirectory()
        let error = fault(directory.path("absent"))
        #expect(error?.status == .io)
        #expect(error?.description.hasPrefix("cannot open '/") == true)
        #expect(error?.description.hasSuffix("absent': No such file or directory") == true)
        #expect(fault("")?.description == "cannot open '': No such file or directory")
    }

    @Test func `only regular files are read`() throws {
        let directory = try TemporaryDirectory()
        #expect(fault(directory.url.path)?.description.hasSuffix("is not a regular file") == true)
        // Nobody writes to this pipe: to open it in the usual way would wait for ever.
        #expect(mkfifo(directory.path("pipe"), 0o600) == 0)
        #expect(fault(directory.path("pipe"))?.description.hasSuffix("is not a regular file") == true)
        #expect(fault("/dev/zero")?.status == .io)
    }

    @Test func `paths are bounded`() throws {
        let long = fault("/" + String(repeating: "x", count: 4095))
        #expect(long?.status == .invalidArgument)
        #expect(long?.description.hasSuffix("has more than 4095 bytes") == true)
        // 4,095 bytes are for the system to refuse.
        #expect(fault("/" + String(repeating: "x", count: 4094))?.status == .io)
        #expect(fault(String(repeating: "./", count: 2047) + "x")?.status == .io)
    }

    @Test func `memory that is not there is reported`() throws {
        let directory = try TemporaryDirectory()
        #expect(truncate(directory.path("huge"), 0) == -1)
        try Data().write(to: URL(fileURLWithPath: directory.path("huge")))
        #expect(truncate(directory.path("huge"), 4096) == 0)
        let ledger = MemoryLedger()
        ledger.limit = 1024
        let error = failure { () throws(LOptError) in
            _ = try read(directory.path("huge"), allocator: ledger.allocator)
        }
        #expect(error?.status == .noMemory)
        #expect(ledger.isBalanced)
    }

    @Test func `files that change while they are read are refused`() throws {
        let directory = try TemporaryDirectory()
        let path = directory.path("f")
        for (size, message) in [(50, "ended at byte 50 of 100: it was cut while it was read"),
                                (101, "grew beyond its 100 bytes while it was read")] {
            try Data(repeating: 1, count: 100).write(to: URL(fileURLWithPath: path))
            let error = failure { () throws(LOptError) in
                let file = try InputFile(path: path)
                #expect(truncate(path, size) == 0)
                _ = try FileContents(of: file, allocator: .system)
            }
            #expect(error?.status == .io)
            #expect(error?.description.hasSuffix(message) == true, "\(error?.description ?? "read")")
        }
        // Its size is given as 0, and there is more.
        #expect(fault("/proc/self/status")?.description.contains("grew beyond its 0 bytes") == true)
    }

    @Test func `parts of a file are read`() throws {
        let directory = try TemporaryDirectory()
        try Data((0..<200).map { UInt8($0) }).write(to: URL(fileURLWithPath: directory.path("f")))
        let file = try InputFile(path: directory.path("f"))
        let part = UnsafeMutableRawBufferPointer.allocate(byteCount: 10, alignment: 1)
        defer { part.deallocate() }
        for offset in [0, 1, 190] {
            try file.read(into: part, at: offset)
            #expect(Array(part) == (offset..<(offset + 10)).map { UInt8($0) })
        }
        let error = failure { () throws(LOptError) in try file.read(into: part, at: 191) }
        #expect(error?.status == .io)
    }
}
