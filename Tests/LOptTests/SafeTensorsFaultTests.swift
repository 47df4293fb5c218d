import Testing

@testable import LOptCore

/// A file that the format does not allow is refused, with a line that says what is wrong and where.
@Suite struct SafeTensorsFaultTests {
    struct Fault: Sendable, CustomTestStringConvertible {
        let file: [UInt8]
        let message: String
        var testDescription: String { message }

        init(_ header: String, data: Int = 0, _ message: String) {
            file = safeTensorsFile(header, data: data)
            self.message = message
        }

        init(bytes: [UInt8], _ message: String) {
            file = bytes
            self.message = message
        }
    }

    /// Both readers, that of weights and that of checkpoints.
    private func check(_ fault: Fault) {
        for status in [LOptStatus.weights, .checkpoint] {
            let ledger = MemoryLedger()
            let error = failure { () throws(LOptError) in
                _ = try contents(of: fault.file, status: status, allocator: ledger.allocator)
            }
            #expect(error?.status == status)
            #expect(error?.description.contains(fault.message) == true, "\(error?.description ?? "accepted")")
            #expect(ledger.isBalanced)
        }
    }

    private static let length: [Fault] = [
        Fault(bytes: [], "it has 0 bytes, and 8 hold the header's length alone"),
        Fault(bytes: [2, 0, 0, 0, 0, 0, 0], "it has 7 bytes"),
        Fault(bytes: [2, 0, 0, 0, 0, 0, 0, 0], "a header of 2 bytes in a file of 8"),
        Fault(bytes: [3, 0, 0, 0, 0, 0, 0, 0] + Array("{}".utf8), "a header of 3 bytes in a file of 10"),
        Fault(bytes: [0, 0xe1, 0xf5, 5, 0, 0, 0, 0] + Array("{}".utf8), "a header of 100000000 bytes in a file of 10"),
        Fault(bytes: [1, 0xe1, 0xf5, 5, 0, 0, 0, 0] + Array("{}".utf8), "100000001 bytes, at most 100000000 are"),
        Fault(bytes: [UInt8](repeating: 255, count: 16), "a header of 18446744073709551615 bytes"),
        Fault(bytes: [0, 0, 0, 0, 0, 0, 0, 0], "expected '{' at byte 8"),
        Fault(bytes: [1, 0, 0, 0, 0, 0, 0, 0] + Array("{}".utf8), "expected a string at byte 9"),
    ]

    @Test(arguments: length) func `a wrong length of the header is refused`(fault: Fault) { check(fault) }

    private static let grammar: [Fault] = [
        Fault(" ", "expected '{' at byte 9"),
        Fault("[]", "expected '{' at byte 8"),
        Fault("null", "expected '{' at byte 8"),
        Fault("{", "expected a string at byte 9"),
        Fault("{}}", "something after the closing '}' at byte 10"),
        Fault("{} x", "something after the closing '}' at byte 11"),
        Fault("{}\0", "something after the closing '}' at byte 10"),
        Fault("{,}", "expected a string at byte 9"),
        Fault("{1:2}", "expected a string at byte 9"),
        Fault(#"{"__metadata__":{},}"#, "expected a string at byte 27"),
        Fault(#"{"__metadata__" {}}"#, "expected ':' at byte 24"),
        Fault(#"{"__metadata__":null}"#, "expected '{' at byte 24"),
        Fault(#"{"__metadata__":[]}"#, "expected '{' at byte 24"),
        Fault(#"{"__metadata__":{"a":1}}"#, "expected a string at byte 29"),
        Fault(#"{"__metadata__":{"a":{"b":"c"}}}"#, "expected a string at byte 29"),
        Fault(#"{"__metadata__":{"a":"b" "c":"d"}}"#, "expected '}' at byte 33"),
        Fault(#"{"__metadata__":{"a":"b",}}"#, "expected a string at byte 33"),
        Fault(#"{"__metadata__":{"a"}}"#, "expected ':' at byte 28"),
        Fault(#"{"__metadata__":{}"#, "expected '}' at byte 26"),
        Fault(#"{"x":[]}"#, "expected '{' at byte 13"),
        Fault(#"{"x":"y"}"#, "expected '{' at byte 13"),
        Fault(#"{"x":{}}"#, "tensor 'x' without dtype, shape or data_offsets at byte 13"),
        Fault(#"{"x":{"dtype":"U8","shape":[0]}}"#, "tensor 'x' without dtype, shape or data_offsets"),
        Fault(#"{"x":{"dtype":"U8","data_offsets":[0,0]}}"#, "tensor 'x' without dtype, shape or data_offsets"),
        Fault(#"{"x":{"shape":[0],"data_offsets":[0,0]}}"#, "tensor 'x' without dtype, shape or data_offsets"),
        Fault(#"{"x":{"dtype":"U8","extra":1}}"#, "tensor 'x' has an unknown field 'extra' at byte 27"),
        Fault(#"{"x":{"dtype":"u8"}}"#, "unknown dtype 'u8' at byte 22"),
        Fault(#"{"x":{"dtype":8}}"#, "expected a string at byte 22"),
        Fault(#"{"x":{"dtype":["U8"]}}"#, "expected a string at byte 22"),
        Fault(#"{"x":{"shape":3}}"#, "expected '[' at byte 22"),
        Fault(#"{"x":{"shape":[[3]]}}"#, "expected a whole number, at least 0, at byte 23"),
        Fault(#"{"x":{"shape":[3,]}}"#, "expected a whole number, at least 0, at byte 25"),
        Fault(#"{"x":{"shape":[3}}"#, "expected ']' at byte 24"),
        Fault(#"{"x":{"shape":[3 4]}}"#, "expected ']' at byte 25"),
        Fault(#"{"x":{"data_offsets":[]}}"#, "expected a whole number, at least 0, at byte 30"),
        Fault(#"{"x":{"data_offsets":[0]}}"#, "expected ',' at byte 31"),
        Fault(#"{"x":{"data_offsets":[0,0,0]}}"#, "expected ']' at byte 33"),
        Fault(#"{"x":{"data_offsets":{"begin":0}}}"#, "expected '[' at byte 29"),
        Fault(String(repeating: "[", count: 100_000), "expected '{' at byte 8"),
        Fault(String(repeating: #"{"a":"#, count: 100_000), "unknown field 'a' at byte 14"),
        Fault(#"{"__metadata__":{"a":"# + String(repeating: "[", count: 100_000), "expected a string at byte 29"),
        Fault(#"{"x":{"shape":"# + String(repeating: "[", count: 100_000), "expected a whole number, at least 0, at byte 23"),
    ]

    @Test(arguments: grammar) func `a header that is no JSON is refused`(fault: Fault) { check(fault) }

    private static let numbers: [Fault] = [
        Fault(#"{"x":{"shape":[-1]}}"#, "expected a whole number, at least 0, at byte 23"),
        Fault(#"{"x":{"shape":[01]}}"#, "a number with leading zeros at byte 23"),
        Fault(#"{"x":{"shape":[1.0]}}"#, "expected ']' at byte 24"),
        Fault(#"{"x":{"shape":[1e2]}}"#, "expected ']' at byte 24"),
        Fault(#"{"x":{"shape":[9223372036854775808]}}"#, "a number above 2^63 - 1 at byte 23"),
        Fault(#"{"x":{"shape":[99999999999999999999999]}}"#, "a number above 2^63 - 1 at byte 23"),
        Fault(#"{"x":{"shape":[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1]}}"#, "a rank above 16"),
        Fault(
            #"{"x":{"dtype":"U8","shape":[9223372036854775807,2],"data_offsets":[0,0]}}"#,
            "no whole number of bytes or too many"),
        Fault(
            #"{"x":{"dtype":"F64","shape":[1152921504606846976],"data_offsets":[0,0]}}"#,
            "F64 [1152921504606846976], which is no whole number of bytes or too many at byte 13"),
        Fault(#"{"x":{"dtype":"F4","shape":[3],"data_offsets":[0,1]}}"#, data: 1, "no whole number of bytes"),
        Fault(
            #"{"x":{"data_offsets":[2,1]}}"#, data: 2,
            "data_offsets [2, 1], which do not lie in 2 bytes of data, at byte 30"),
        Fault(#"{"x":{"data_offsets":[0,3]}}"#, data: 2, "data_offsets [0, 3], which do not lie in 2 bytes of data"),
        Fault(
            #"{"x":{"data_offsets":[9223372036854775806,9223372036854775807]}}"#, data: 2,
            "data_offsets [9223372036854775806, 9223372036854775807]"),
        Fault(
            #"{"x":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}}"#, data: 4,
            "tensor 'x' of F32 [2] needs 8 bytes, its offsets have 4, at byte 13"),
        Fault(#"{"x":{"dtype":"F32","shape":[0],"data_offsets":[0,4]}}"#, data: 4, "needs 0 bytes, its offsets have 4"),
    ]

    @Test(arguments: numbers) func `a number of the header that is none is refused`(fault: Fault) { check(fault) }

    /// A header of one tensor whose name is these bytes.
    private static func named(_ name: [UInt8]) -> [UInt8] {
        let rest = #"":{"dtype":"U8","shape":[],"data_offsets":[0,1]}}"#
        return safeTensorsFile(Array("{\"".utf8) + name + Array(rest.utf8), data: [0])
    }

    private static let strings: [Fault] = [
        Fault(#"{"x"#, "a string that does not end at byte 9"),
        Fault(#"{"x\"#, "a string that does not end at byte 11"),
        Fault(#"{"x\""#, "a string that does not end at byte 9"),
        Fault(#"{"\x"#, "an unknown escape in a string at byte 10"),
        Fault(#"{"\u12"#, "expected a hexadecimal digit at byte 14"),
        Fault(#"{"\u12g4":1}"#, "expected a hexadecimal digit at byte 14"),
        Fault(#"{"\ud800":1}"#, "half of a surrogate pair at byte 10"),
        Fault(#"{"\udc00":1}"#, "half of a surrogate pair at byte 10"),
        Fault(#"{"\ud800\u0041":1}"#, "half of a surrogate pair at byte 10"),
        Fault(#"{"\ud800\ud800":1}"#, "half of a surrogate pair at byte 10"),
        Fault(#"{"\ud800\n":1}"#, "half of a surrogate pair at byte 10"),
        Fault(#"{"\ud800\"#, "half of a surrogate pair at byte 10"),
        Fault("{\"a\nb\":1}", "a control character in a string at byte 11"),
        Fault("{\"\0\":1}", "a control character in a string at byte 10"),
        Fault("{'x':1}", "expected a string at byte 9"),
        Fault(bytes: named([0x80]), "a string that is not UTF-8 at byte 10"),
        Fault(bytes: named([0xff]), "not UTF-8 at byte 10"),
        Fault(bytes: named([0x41, 0xc3]), "not UTF-8 at byte 11"),
        Fault(bytes: named([0xc0, 0x80]), "not UTF-8 at byte 10"),
        Fault(bytes: named([0xc1, 0xbf]), "not UTF-8 at byte 10"),
        Fault(bytes: named([0xe0, 0x9f, 0xbf]), "not UTF-8 at byte 10"),
        Fault(bytes: named([0xed, 0xa0, 0x80]), "not UTF-8 at byte 10"),
        Fault(bytes: named([0xe2, 0x82]), "not UTF-8 at byte 10"),
        Fault(bytes: named([0xf0, 0x8f, 0xbf, 0xbf]), "not UTF-8 at byte 10"),
        Fault(bytes: named([0xf4, 0x90, 0x80, 0x80]), "not UTF-8 at byte 10"),
        Fault(bytes: named([0xf5, 0x80, 0x80, 0x80]), "not UTF-8 at byte 10"),
        Fault(bytes: safeTensorsFile(Array("{\"".utf8) + [0xf0, 0x9f], data: []), "not UTF-8 at byte 10"),
    ]

    @Test(arguments: strings) func `a string of the header that is none is refused`(fault: Fault) { check(fault) }

    private static func tensor(_ name: String, _ begin: Int, _ end: Int) -> String {
        #""\#(name)":{"dtype":"U8","shape":[\#(end - begin)],"data_offsets":[\#(begin),\#(end)]}"#
    }

    private static func tensors(_ list: String...) -> String { "{" + list.joined(separator: ",") + "}" }

    private static let coverage: [Fault] = [
        Fault("{}", data: 1, "1 bytes of data, but the tensors end at 0"),
        Fault(tensors(tensor("a", 0, 2)), data: 3, "3 bytes of data, but the tensors end at 2"),
        Fault(tensors(tensor("a", 1, 2)), data: 2, "leave a hole: 'a' begins at offset 1, the one before it ends at 0"),
        Fault(
            tensors(tensor("b", 3, 4), tensor("a", 0, 2)), data: 4,
            "leave a hole: 'b' begins at offset 3, the one before it ends at 2"),
        Fault(
            tensors(tensor("b", 1, 4), tensor("a", 0, 2)), data: 4,
            "overlap: 'b' begins at offset 1, the one before it ends at 2"),
        Fault(tensors(tensor("a", 0, 4), tensor("b", 0, 4)), data: 4, "overlap"),
        Fault(tensors(tensor("a", 0, 4), tensor("b", 1, 1)), data: 4, "overlap: 'b' begins at offset 1"),
        Fault(tensors(tensor("a", 0, 4), tensor("b", 1, 3)), data: 4, "overlap: 'b' begins at offset 1"),
    ]

    @Test(arguments: coverage) func `tensors that do not cover the data are refused`(fault: Fault) { check(fault) }

    private static let duplicates: [Fault] = [
        Fault(tensors(tensor("a", 0, 1), tensor("a", 1, 2)), data: 2, "two tensors have the name 'a'"),
        Fault(
            tensors(tensor("a", 0, 1), tensor("b", 1, 2), tensor(#"\u0061"#, 2, 3)), data: 3,
            "two tensors have the name 'a'"),
        Fault(#"{"__metadata__":{"k":"1","l":"2","k":"1"}}"#, "the key 'k' is twice in the metadata"),
        Fault(#"{"__metadata__":{},"\u005f_metadata__":{}}"#, "a second __metadata__ at byte 27"),
        Fault(#"{"x":{"dtype":"U8","dtype":"U8"}}"#, "tensor 'x' has 'dtype' twice at byte 27"),
        Fault(#"{"x":{"shape":[1],"shape":[1]}}"#, "tensor 'x' has 'shape' twice at byte 26"),
        Fault(#"{"x":{"data_offsets":[0,0],"data_offsets":[0,0]}}"#, "tensor 'x' has 'data_offsets' twice at byte 35"),
    ]

    @Test(arguments: duplicates) func `what occurs twice is refused`(fault: Fault) { check(fault) }
}
