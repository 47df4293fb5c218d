/// Decimal numbers to doubles, without libc: strtod takes the caller's locale, in which 0.9 may be 0,9. Nothing here is fast; a weights file has some twenty numbers.
struct DecimalScanner {
    private let text: UnsafeRawBufferPointer
    private var position = 0

    init(_ text: UnsafeRawBufferPointer) { self.text = text }

    /// The text as one number in the grammar of JSON, or nil.
    static func number(_ text: UnsafeRawBufferPointer) -> Double? {
        var scanner = DecimalScanner(text)
        guard let value = scanner.number(), scanner.position == text.count else { return nil }
        return value
    }

    /// The text as a JSON list of up to 8 numbers, "[0.9, 0.99]", and how many they are; nil if it is none.
    static func list(_ text: UnsafeRawBufferPointer) -> (values: SIMD8<Double>, count: Int)? {
        var scanner = DecimalScanner(text)
        var values = SIMD8<Double>(repeating: 0)
        var count = 0
        guard scanner.take("[") else { return nil }
        if !scanner.take("]") {
            repeat {
                scanner.skipSpaces()
                guard count < 8, let value = scanner.number() else { return nil }
                values[count] = value
                count += 1
            } while scanner.take(",")
            guard scanner.take("]") else { return nil }
        }
        return scanner.position == text.count ? (values, count) : nil
    }

    private mutating func skipSpaces() {
        while position < text.count, text[position] == 0x20 { position += 1 }
    }

    /// Takes the byte, after spaces, if it is next.
    private mutating func take(_ punctuation: Unicode.Scalar) -> Bool {
        skipSpaces()
        return takeNext(punctuation)
    }

    private mutating func takeNext(_ character: Unicode.Scalar) -> Bool {
        guard position < text.count, text[position] == UInt8(ascii: character) else { return false }
        position += 1
        return true
    }

    private mutating func digit() -> UInt64? {
        guard position < text.count, text[position] >= UInt8(ascii: "0"), text[position] <= UInt8(ascii: "9") else {
            return nil
        }
        position += 1
        return UInt64(text[position - 1] - UInt8(ascii: "0"))
    }

    /// A JSON number: -?(0|[1-9][0-9]*)([.][0-9]+)?([eE][+-]?[0-9]+)?, rounded to the nearest double (within one unit in
    /// the last place if it has more than 19 significant digits). What is too large is infinite.
    private mutating func number() -> Double? {
        let isNegative = takeNext("-")
        var digits = Digits()
        guard let first = digit() else { return nil }
        digits.append(first)
        while first != 0, let next = digit() { digits.append(next) }
        if takeNext(".") {
            guard let tenth = digit() else { return nil }
            digits.append(fraction: tenth)
            while let next = digit() { digits.append(fraction: next) }
        }
        if takeNext("e") || takeNext("E") {
            let isExponentNegative = takeNext("-")
            if !isExponentNegative { _ = takeNext("+") }
            guard let first = digit() else { return nil }
            var exponent = Int(first)
            // A million is far beyond any double, and 10^9 digits of mantissa are beyond any file.
            while let next = digit() { exponent = min(10 * exponent + Int(next), 2_000_000_000) }
            digits.exponent += isExponentNegative ? -exponent : exponent
        }
        let magnitude = Double(digits.mantissa, timesTenTo: digits.exponent)
        return isNegative ? -magnitude : magnitude
    }

    /// The first 19 significant digits, which fit 64 bits, as mantissa * 10^exponent.
    private struct Digits {
        var mantissa: UInt64 = 0
        var exponent = 0
        private var count = 0

        mutating func append(_ digit: UInt64) {
            if count == 19 {
                exponent += 1
            } else {
                mantissa = 10 * mantissa + digit
                if mantissa > 0 { count += 1 }
            }
        }

        mutating func append(fraction digit: UInt64) {
            append(digit)
            exponent -= 1
        }
    }
}

extension Double {
    /// mantissa * 10^exponent, rounded to nearest, ties to even.
    init(_ mantissa: UInt64, timesTenTo exponent: Int) {
        // 2^64 * 10^-344 is below half of the least subnormal, 4.9e-324, and 10^309 above the greatest double.
        if mantissa == 0 || exponent < -344 {
            self = 0
        } else if exponent > 308 {
            self = .infinity
        } else {
            var wide = WideInteger(mantissa)
            // Enough bits that more than 53 are left when 10^-exponent < 2^(4 * -exponent) is divided away.
            let shift = exponent < 0 ? 4 * -exponent + 64 : 0
            wide.shiftLeft(shift)
            let isInexact = wide.scale(byTenTo: exponent)
            self = wide.double(shiftedRight: shift, isInexact: isInexact)
        }
    }
}
