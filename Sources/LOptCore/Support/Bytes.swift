import CLOptShims

/// Text is bytes here: comparing Swift's String would pull the Unicode tables into the library.
extension UnsafeRawBufferPointer {
    init(_ text: StaticString) {
        self.init(start: text.utf8Start, count: text.utf8CodeUnitCount)
    }

    /// The bytes of a C string up to its 0.
    init(cString text: UnsafePointer<CChar>) {
        self.init(start: text, count: lopt_system_length(text, Int.max))
    }

    func hasBytes(of other: UnsafeRawBufferPointer) -> Bool {
        count == other.count && compare(with: other) == 0
    }

    func hasBytes(of text: StaticString) -> Bool { hasBytes(of: UnsafeRawBufferPointer(text)) }

    /// Negative, 0 or positive as `self` comes before, equals or comes after `other` in the order of their bytes.
    func compare(with other: UnsafeRawBufferPointer) -> Int {
        let common = Swift.min(count, other.count)
        if common > 0, let a = baseAddress, let b = other.baseAddress {
            let order = lopt_system_compare(a, b, common)
            if order != 0 { return Int(order) }
        }
        return count - other.count
    }

    /// Whether so many bytes put in, left out or replaced at most make one of the other. Both are short.
    func isNear(_ other: UnsafeRawBufferPointer, within changes: Int) -> Bool {
        guard abs(count - other.count) <= changes else { return false }
        var same = 0
        while same < count, same < other.count, self[same] == other[same] { same += 1 }
        guard same < count || same < other.count else { return true }
        guard changes > 0 else { return false }
        let a = UnsafeRawBufferPointer(rebasing: dropFirst(same)), b = UnsafeRawBufferPointer(rebasing: other.dropFirst(same))
        let shorterA = UnsafeRawBufferPointer(rebasing: a.dropFirst()), shorterB = UnsafeRawBufferPointer(rebasing: b.dropFirst())
        return shorterA.isNear(shorterB, within: changes - 1) || shorterA.isNear(b, within: changes - 1)
            || a.isNear(shorterB, within: changes - 1)
    }

    func hasZero() -> Bool {
        for byte in self where byte == 0 { return true }
        return false
    }

    /// The length of the UTF-8 sequence that begins at `position`: 1 to 4, or 0 if there is none (a stray continuation,
    /// an overlong form, a surrogate, a value above 10FFFF, a sequence cut short).
    func utf8Length(at position: Int) -> Int {
        let first = self[position]
        if first < 0x80 { return 1 }
        let length = first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4
        guard first >= 0xc2, first <= 0xf4, length <= count - position else { return 0 }
        for i in 1..<length where self[position + i] & 0xc0 != 0x80 { return 0 }
        let second = self[position + 1]
        switch first {
        case 0xe0: return second >= 0xa0 ? length : 0
        case 0xed: return second <= 0x9f ? length : 0
        case 0xf0: return second >= 0x90 ? length : 0
        case 0xf4: return second <= 0x8f ? length : 0
        default: return length
        }
    }
}

extension Message {
    /// Calls `body` with the text's bytes.
    func withBytes(_ body: (UnsafeRawBufferPointer) throws(LOptError) -> Void) throws(LOptError) {
        let error: LOptError? = withCString { text in
            do throws(LOptError) {
                try body(UnsafeRawBufferPointer(start: text, count: count))
                return nil
            } catch {
                return error
            }
        }
        if let error { throw error }
    }
}
