/// The tokens of a safetensors header: the few forms of JSON that it may hold, with strings decoded. It knows no nesting
/// and so needs no recursion; what may follow what is the parser's.
///
/// Strings are decoded, each with a 0 after it, into memory of the caller's as long as the text: with its two quotes a
/// string is never shorter in the text than decoded.
struct JSONScanner {
    let text: UnsafeRawBufferPointer
    let status: LOptStatus
    private(set) var position = 0
    private let decoded: UnsafeMutablePointer<UInt8>
    private var decodedCount = 0

    /// Where the header begins in the file, after its length.
    private static let origin = 8

    /// - Parameter decoded: at least `text.count` bytes, which must live as long as the strings are used.
    init(_ text: UnsafeRawBufferPointer, decoded: UnsafeMutablePointer<UInt8>, status: LOptStatus) {
        self.text = text
        self.decoded = decoded
        self.status = status
    }

    /// An error about the byte at `position`, or about where the scanner is.
    func failure(_ what: Message, at position: Int? = nil) -> LOptError {
        LOptError(status, "safetensors header: \(what) at byte \(JSONScanner.origin + (position ?? self.position))")
    }
}

// MARK: - Punctuation

extension JSONScanner {
    var isAtEnd: Bool { position == text.count }

    mutating func skipSpace() {
        while position < text.count, JSONScanner.isSpace(text[position]) { position += 1 }
    }

    private static func isSpace(_ byte: UInt8) -> Bool {
        byte == 0x20 || byte == 0x0a || byte == 0x0d || byte == 0x09
    }

    private func isNext(_ byte: UInt8) -> Bool { position < text.count && text[position] == byte }

    mutating func expect(_ punctuation: Unicode.Scalar) throws(LOptError) {
        skipSpace()
        let byte = UInt8(ascii: punctuation)
        guard isNext(byte) else { throw expected(byte) }
        position += 1
    }

    private func expected(_ byte: UInt8) -> LOptError {
        var what: Message = "expected '"
        what.append(byte: byte)
        what.append(byte: UInt8(ascii: "'"))
        return failure(what)
    }

    /// Takes the bracket that opens an object or array; false if it is closed at once.
    mutating func opens(_ open: Unicode.Scalar, _ close: Unicode.Scalar) throws(LOptError) -> Bool {
        try expect(open)
        skipSpace()
        guard isNext(UInt8(ascii: close)) else { return true }
        position += 1
        return false
    }

    /// Takes the comma before the next element of an object or array, or the bracket that closes it (false).
    mutating func continues(_ close: Unicode.Scalar) throws(LOptError) -> Bool {
        skipSpace()
        if isNext(UInt8(ascii: ",")) {
            position += 1
            return true
        }
        try expect(close)
        return false
    }
}

// MARK: - Numbers

extension JSONScanner {
    /// A whole number from 0 to 2^63 - 1, without sign, leading zeros, fraction or exponent.
    mutating func integer() throws(LOptError) -> Int {
        skipSpace()
        let start = position
        var value = 0
        while position < text.count, text[position] >= UInt8(ascii: "0"), text[position] <= UInt8(ascii: "9") {
            let (tens, overflow) = value.multipliedReportingOverflow(by: 10)
            let (next, carry) = tens.addingReportingOverflow(Int(text[position] - UInt8(ascii: "0")))
            guard !overflow, !carry else { throw failure("a number above 2^63 - 1", at: start) }
            value = next
            position += 1
        }
        guard position > start else { throw failure("expected a whole number, at least 0,") }
        guard position == start + 1 || text[start] != UInt8(ascii: "0") else {
            throw failure("a number with leading zeros", at: start)
        }
        return value
    }
}

// MARK: - Strings

extension JSONScanner {
    /// What `release` takes to forget the strings decoded since.
    var mark: Int { decodedCount }
    mutating func release(_ mark: Int) { decodedCount = mark }

    /// A string's bytes, which are UTF-8; a 0 follows them. They may hold a 0 too.
    mutating func string() throws(LOptError) -> UnsafeRawBufferPointer {
        skipSpace()
        guard isNext(UInt8(ascii: "\"")) else { throw failure("expected a string") }
        let opening = position
        let start = decodedCount
        position += 1
        while position < text.count {
            let byte = text[position]
            if byte == UInt8(ascii: "\"") {
                position += 1
                append(0)
                return UnsafeRawBufferPointer(start: decoded + start, count: decodedCount - 1 - start)
            }
            if byte == UInt8(ascii: "\\") {
                try escape()
            } else {
                try character()
            }
        }
        throw failure("a string that does not end", at: opening)
    }

    private mutating func append(_ byte: UInt8) {
        decoded[decodedCount] = byte
        decodedCount += 1
    }

    private mutating func character() throws(LOptError) {
        guard text[position] >= 0x20 else { throw failure("a control character in a string") }
        let length = text.utf8Length(at: position)
        guard length > 0 else { throw failure("a string that is not UTF-8") }
        for _ in 0..<length {
            append(text[position])
            position += 1
        }
    }

    private mutating func escape() throws(LOptError) {
        let start = position
        position += 2
        guard position <= text.count else { throw failure("a string that does not end", at: start) }
        switch text[position - 1] {
        case UInt8(ascii: "\""): append(0x22)
        case UInt8(ascii: "\\"): append(0x5c)
        case UInt8(ascii: "/"): append(0x2f)
        case UInt8(ascii: "b"): append(0x08)
        case UInt8(ascii: "f"): append(0x0c)
        case UInt8(ascii: "n"): append(0x0a)
        case UInt8(ascii: "r"): append(0x0d)
        case UInt8(ascii: "t"): append(0x09)
        case UInt8(ascii: "u"): try unicodeEscape(start)
        default: throw failure("an unknown escape in a string", at: start)
        }
    }

    /// The rest of \uXXXX, or of two of them for a character beyond 16 bits.
    private mutating func unicodeEscape(_ start: Int) throws(LOptError) {
        let first = try hexadecimal()
        guard first & 0xf800 == 0xd800 else { return append(scalar: first) }
        guard first < 0xdc00, isNext(UInt8(ascii: "\\")), position + 1 < text.count,
            text[position + 1] == UInt8(ascii: "u")
        else { throw failure("half of a surrogate pair", at: start) }
        position += 2
        let second = try hexadecimal()
        guard second & 0xfc00 == 0xdc00 else { throw failure("half of a surrogate pair", at: start) }
        append(scalar: 0x10000 + (first & 0x3ff) << 10 + second & 0x3ff)
    }

    private mutating func hexadecimal() throws(LOptError) -> UInt32 {
        var value: UInt32 = 0
        for _ in 0..<4 {
            guard position < text.count, let digit = JSONScanner.digit(text[position]) else {
                throw failure("expected a hexadecimal digit")
            }
            value = value << 4 | digit
            position += 1
        }
        return value
    }

    private static func digit(_ byte: UInt8) -> UInt32? {
        switch byte {
        case UInt8(ascii: "0")...UInt8(ascii: "9"): return UInt32(byte - UInt8(ascii: "0"))
        case UInt8(ascii: "a")...UInt8(ascii: "f"): return UInt32(byte - UInt8(ascii: "a")) + 10
        case UInt8(ascii: "A")...UInt8(ascii: "F"): return UInt32(byte - UInt8(ascii: "A")) + 10
        default: return nil
        }
    }

    /// The character's UTF-8. (Shorter than its escape, as the memory for decoded strings needs.)
    private mutating func append(scalar: UInt32) {
        func low(_ shift: UInt32) -> UInt8 { UInt8(0x80 | scalar >> shift & 0x3f) }
        if scalar < 0x80 {
            append(UInt8(scalar))
        } else if scalar < 0x800 {
            append(UInt8(0xc0 | scalar >> 6))
            append(low(0))
        } else if scalar < 0x10000 {
            append(UInt8(0xe0 | scalar >> 12))
            append(low(6))
            append(low(0))
        } else {
            append(UInt8(0xf0 | scalar >> 18))
            append(low(12))
            append(low(6))
            append(low(0))
        }
    }
}
