/// Names, paths and values that came from outside.
extension Message {
    /// Two of them and a sentence fit into a message.
    private static let longestText = 96
    /// Of a text that is longer. The end of a path says more than its beginning.
    private static let longestHead = 32

    /// UTF-8 as it stands; control characters and bytes that are none of UTF-8 as "\x1b". A text that takes more than 96
    /// bytes so has "..." in its middle.
    @inline(never)
    mutating func append(untrusted text: UnsafeRawBufferPointer) {
        let limit = Message.longestText
        guard text.count > limit || text.printedSize(0) > limit else { return append(characters: text, 0..<text.count) }
        var headSize = 0
        var head = 0
        while true {
            let next = text.character(at: head)
            guard headSize + next.printedSize <= Message.longestHead else { break }
            headSize += next.printedSize
            head += next.size
        }
        append(characters: text, 0..<head)
        append(literal: "...")
        // No byte takes less than one. Not from within a sequence, of which at most three bytes are left.
        let room = limit - headSize - 3
        var tail = max(text.count - room, head)
        for _ in 0..<3 where text[tail] & 0xc0 == 0x80 { tail += 1 }
        while text.printedSize(tail) > room { tail += text.character(at: tail).size }
        append(characters: text, tail..<text.count)
    }

    @inline(never)
    mutating func append(cString text: UnsafePointer<CChar>) { append(untrusted: UnsafeRawBufferPointer(cString: text)) }

    private mutating func append(characters text: UnsafeRawBufferPointer, _ range: Range<Int>) {
        var position = range.lowerBound
        while position < range.upperBound {
            let next = text.character(at: position)
            for i in position..<(position + next.size) {
                if next.isPrintable { append(byte: text[i]) } else { append(escape: text[i]) }
            }
            position += next.size
        }
    }

    private mutating func append(escape byte: UInt8) {
        append(literal: "\\x")
        append(hexadecimal: byte >> 4)
        append(hexadecimal: byte & 15)
    }

    mutating func append(hexadecimal digit: UInt8) {
        append(byte: digit < 10 ? UInt8(ascii: "0") + digit : UInt8(ascii: "a") + digit - 10)
    }
}

/// A UTF-8 sequence, or a byte that is part of none.
private struct PrintedCharacter {
    let size: Int
    let isPrintable: Bool

    var printedSize: Int { isPrintable ? size : 4 * size }
}

extension UnsafeRawBufferPointer {
    fileprivate func character(at position: Int) -> PrintedCharacter {
        let size = utf8Length(at: position)
        let first = self[position]
        guard size > 0, first >= 0x20, first != 0x7f else { return PrintedCharacter(size: 1, isPrintable: false) }
        guard size > 1 else { return PrintedCharacter(size: 1, isPrintable: true) }
        let second = self[position + 1]
        // U+0080 to U+009F are control characters too.
        guard first != 0xc2 || second >= 0xa0 else { return PrintedCharacter(size: 2, isPrintable: false) }
        guard first == 0xe2, size == 3 else { return PrintedCharacter(size: size, isPrintable: true) }
        // U+2028 to U+202E and U+2066 to U+2069 end a line, or turn the direction of the text behind them.
        let third = self[position + 2]
        let isControl = second == 0x80 ? third >= 0xa8 && third <= 0xae : second == 0x81 && third >= 0xa6 && third <= 0xa9
        return PrintedCharacter(size: 3, isPrintable: !isControl)
    }

    /// How many bytes the text from `position` on takes in a message.
    fileprivate func printedSize(_ position: Int) -> Int {
        var position = position
        var size = 0
        while position < count {
            let next = character(at: position)
            size += next.printedSize
            position += next.size
        }
        return size
    }
}
