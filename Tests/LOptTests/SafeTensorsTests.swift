import Foundation
import Testing

@testable import LOptCore

/// What the reader of safetensors files accepts, finds and asks of memory; `SafeTensorsFaultTests` has what it refuses.
@Suite struct SafeTensorsTests {
    @Test func `the smallest file has nothing`() throws {
        let nothing = try contents(of: safeTensorsFile("{}"))
        #expect(nothing.tensors.isEmpty && nothing.metadata.isEmpty)
    }

    @Test func `fields and tensors come in any order`() throws {
        let header = """
            {"b":{"data_offsets":[8,12],"dtype":"I32","shape":[]}, "__metadata__" : {"k":"v" , "":""},\t
            "a" :{ "shape" : [ 2 , 1 ] ,"dtype":"F32","data_offsets":[ 0,8 ] },
            "none":{"dtype":"F64","data_offsets":[8,8],"shape":[3,0]}}   \r\n
            """
        let size = header.utf8.count
        let found = try contents(of: safeTensorsFile(header, data: 12))
        #expect(found.metadata == ["k": "v", "": ""])
        #expect(found.tensors["a"] == .init(type: "F32", shape: [2, 1], data: (8 + size)..<(16 + size)))
        #expect(found.tensors["b"] == .init(type: "I32", shape: [], data: (16 + size)..<(20 + size)))
        #expect(found.tensors["none"] == .init(type: "F64", shape: [3, 0], data: (16 + size)..<(16 + size)))
        #expect(found.tensors.count == 3)
    }

    @Test func `strings are decoded`() throws {
        let header = #"""
            {"\u005f_metadata__":{"\"\\\/\b\f\n\r\t":"\u0041\u00e9\u20AC\ud83d\uDE00","é€😀":"\u0000"},
            "t\u0065xt":{"d\u0074ype":"\u00558","shape":[1],"data_offsets":[0,1]}}
            """#
        let found = try contents(of: safeTensorsFile(header, data: 1))
        #expect(found.metadata == ["\"\\/\u{8}\u{c}\n\r\t": "Aé€😀", "é€😀": "\0"])
        #expect(found.tensors["text"]?.type == "U8")
    }

    @Test(arguments: [
        ("BOOL", 8), ("F4", 4), ("F6_E2M3", 6), ("F6_E3M2", 6), ("U8", 8), ("I8", 8), ("F8_E5M2", 8), ("F8_E4M3", 8),
        ("F8_E8M0", 8), ("I16", 16), ("U16", 16), ("F16", 16), ("BF16", 16), ("I32", 32), ("U32", 32), ("F32", 32),
        ("C64", 64), ("F64", 64), ("I64", 64), ("U64", 64),
    ])
    func `every type has its size`(type: String, bits: Int) throws {
        let header = #"{"x":{"dtype":"\#(type)","shape":[3,4],"data_offsets":[0,\#(12 * bits / 8)]}}"#
        #expect(try contents(of: safeTensorsFile(header, data: 12 * bits / 8)).tensors["x"]?.type == type)
        let short = failure { () throws(LOptError) in
            _ = try contents(of: safeTensorsFile(header, data: 12 * bits / 8 - 1))
        }
        #expect(short?.status == .weights)
    }

    @Test func `rank sixteen is read`() throws {
        let shape = [Int](repeating: 1, count: 15) + [2]
        let header = #"{"x":{"dtype":"U8","shape":\#(shape),"data_offsets":[0,2]}}"#
        #expect(try contents(of: safeTensorsFile(header, data: 2)).tensors["x"]?.shape == shape)
    }

    /// Files written by the authors' library.
    @Test func `golden files are read`() throws {
        let folder = repository.appendingPathComponent("Tests/Goldens").resolvingSymlinksInPath()
        let files = try FileManager.default.contentsOfDirectory(at: folder, includingPropertiesForKeys: nil)
            .filter { $0.pathExtension == "safetensors" }
        #expect(files.count > 40)
        for file in files {
            let golden = try GoldenFile(contentsOf: file)
            let found = try contents(of: Array(Data(contentsOf: file)), status: .checkpoint)
            #expect(found.tensors.mapValues { $0.shape } == golden.tensors.mapValues { $0.shape }, "\(file.path)")
        }
    }

    @Test func `an open file reads like its bytes`() throws {
        let directory = try TemporaryDirectory()
        let bytes = try Data(contentsOf: repository.appendingPathComponent("weights/star.safetensors"))
        for count in [0, 7, 8, 9, 1400, bytes.count - 1, bytes.count] {
            let path = directory.path("\(count)")
            try bytes.prefix(count).write(to: URL(fileURLWithPath: path))
            let file = try InputFile(path: path)
            let ledger = MemoryLedger()
            var found: Contents?
            let error = failure { () throws(LOptError) in
                found = Contents(try SafeTensors(file: file, status: .weights, allocator: ledger.allocator))
            }
            var expected: Contents?
            let expectedError = failure { () throws(LOptError) in
                expected = try contents(of: Array(bytes.prefix(count)))
            }
            #expect(found == expected)
            #expect(error?.description == expectedError?.description)
            #expect(ledger.isBalanced)
        }
    }
}

// MARK: - Looking up

extension SafeTensorsTests {
    /// A checkpoint of 10,000 tensors: each of 50,000 names is found, from whichever number the search is begun.
    @Test func `every name is found`() throws {
        let count = 50_000
        var order = Array(0..<count)
        var noise = Noise(state: 1)
        order.shuffle(using: &noise)
        let entries = order.enumerated().map {
            #""t\#($1)/m":{"dtype":"U8","shape":[],"data_offsets":[\#($0),\#($0 + 1)]}"#
        }
        let pairs = (0..<1000).map { #""k\#($0)":"v\#($0)""# }
        let metadata = #"{"__metadata__":{\#(pairs.joined(separator: ","))},"#
        let bytes = safeTensorsFile(metadata + entries.joined(separator: ",") + "}", data: count)
        try bytes.withUnsafeBytes { bytes in
            let file = try SafeTensors(bytes: bytes, status: .checkpoint, allocator: .system)
            var wrong = 0
            for (i, number) in order.enumerated() {
                var name = "t\(number)/m"
                name.withUTF8 { text in
                    let text = UnsafeRawBufferPointer(text)
                    if file.index(of: text) != i || file.index(of: text, near: i) != i { wrong += 1 }
                    if bytes[file[i].data.lowerBound] != UInt8(truncatingIfNeeded: i) { wrong += 1 }
                }
            }
            for i in 0..<1000 {
                var key = "k\(i)"
                let value = key.withUTF8 { file.metadata(UnsafeRawBufferPointer($0)) }
                if value.map({ String(decoding: $0, as: UTF8.self) }) != "v\(i)" { wrong += 1 }
            }
            let behind = file.index(of: "t0/m", near: count) ?? -1, before = file.index(of: "t0/m", near: -1) ?? -1
            #expect(behind == before && behind == order.firstIndex(of: 0))
            let absent = [file.index(of: ""), file.index(of: "t"), file.index(of: "t1/"), file.index(of: "t1/m0")]
            #expect(wrong == 0)
            #expect(absent == [nil, nil, nil, nil])
            let noValue = file.metadata("k") == nil && file.metadata("k1000") == nil && file.metadata("") == nil
            #expect(noValue)
        }
    }
}

// MARK: - Memory

extension SafeTensorsTests {
    /// Headers made to need as much memory for each of their bytes as can be.
    @Test(arguments: ["tensors", "metadata", "text"])
    func `memory is bounded by the header`(kind: String) throws {
        let count = 2000
        let header: String
        switch kind {
        case "tensors":
            let tensors = (0..<count).map { #""\#($0)":{"dtype":"U8","shape":[],"data_offsets":[\#($0),\#($0 + 1)]}"# }
            header = "{" + tensors.joined(separator: ",") + "}"
        case "metadata":
            let pairs = (0..<count).map { #""\#($0)":"""# }
            header = #"{"__metadata__":{"# + pairs.joined(separator: ",") + "}}"
        default:
            header = #"{"__metadata__":{"":"\#(String(repeating: "x", count: 100_000))"}}"#
        }
        let ledger = MemoryLedger()
        _ = try contents(of: safeTensorsFile(header, data: kind == "tensors" ? count : 0), allocator: ledger.allocator)
        #expect(ledger.peak <= 6 * header.utf8.count + 4 * 64, "\(ledger.peak) bytes for \(header.utf8.count)")
        #expect(ledger.isBalanced)
    }

    /// A length that the file does not have asks for no memory, and a header that is wrong at its end only for its text.
    @Test func `memory is asked for only when the header is there`() throws {
        let ledger = MemoryLedger()
        var file = safeTensorsFile("{}")
        for length in [3, 1 << 20, 100_000_001, UInt64.max] {
            file.replaceSubrange(0..<8, with: withUnsafeBytes(of: UInt64(length).littleEndian) { Array($0) })
            #expect(failure { () throws(LOptError) in _ = try contents(of: file, allocator: ledger.allocator) } != nil)
        }
        #expect(ledger.calls == 0)
        let tensors = (0..<1000).map { #""\#($0)":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}"# }
        let header = "{" + tensors.joined(separator: ",")
        let error = failure { () throws(LOptError) in
            _ = try contents(of: safeTensorsFile(header), allocator: ledger.allocator)
        }
        #expect(error?.status == .weights)
        #expect(ledger.peak <= header.utf8.count + 64)
        #expect(ledger.isBalanced)
    }

    @Test func `every failed allocation is reported`() throws {
        let header = #"{"__metadata__":{"k":"v"},"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}}"#
        let file = safeTensorsFile(header, data: 2)
        let counting = MemoryLedger()
        _ = try contents(of: file, allocator: counting.allocator)
        #expect(counting.calls == 4)
        for n in 0..<counting.calls {
            let ledger = MemoryLedger(failing: n)
            let error = failure { () throws(LOptError) in _ = try contents(of: file, allocator: ledger.allocator) }
            #expect(error?.status == .noMemory)
            #expect(ledger.isBalanced)
        }
    }
}
