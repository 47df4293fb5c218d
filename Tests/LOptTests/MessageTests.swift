import Testing

@testable import LOptCore

/// What does not fit into a message is cut between two characters, and the message says so.
@Suite struct MessageTests {
    private func text(_ message: Message) -> [UInt8] {
        message.withCString { text in Array(UnsafeRawBufferPointer(cString: text)) }
    }

    @Test(arguments: ["n", "ß", "重", "🧠"])
    func `a message is cut between characters`(letter: String) {
        for before in 0...255 {
            var message: Message = ""
            var whole: [UInt8] = []
            for _ in 0..<before {
                message.append(byte: UInt8(ascii: "-"))
                whole.append(UInt8(ascii: "-"))
            }
            for _ in 0..<300 {
                for byte in letter.utf8 { message.append(byte: byte) }
                whole += letter.utf8
            }
            let bytes = text(message)
            #expect(bytes.count == Message.capacity)
            #expect(String(validatingUTF8: bytes.map { CChar(bitPattern: $0) } + [0]) != nil, "\(before) bytes before")
            let kept = Array(bytes.reversed().drop { $0 == UInt8(ascii: ".") }.reversed())
            #expect(Array(whole.prefix(kept.count)) == kept)
            #expect((3...6).contains(bytes.count - kept.count))
            #expect(message.count == bytes.count)
        }
    }

    @Test func `a message that fits is whole`() {
        var message: Message = ""
        for _ in 0..<Message.capacity { message.append(byte: UInt8(ascii: "x")) }
        #expect(text(message) == [UInt8](repeating: UInt8(ascii: "x"), count: Message.capacity))
    }
}
