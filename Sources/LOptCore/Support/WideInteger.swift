/// A natural number of up to 1536 bits: enough for every double times the power of ten that makes it an integer. The scanner of
/// decimals needs it to round exactly.
struct WideInteger {
    private static let words = 24
    private static let tenTo19: UInt64 = 10_000_000_000_000_000_000

    /// The lowest 64 bits first.
    private var word = InlineArray<24, UInt64>(repeating: 0)

    init(_ value: UInt64) { word[0] = value }

    /// `count` >= 0; the result must fit.
    mutating func shiftLeft(_ count: Int) {
        let (whole, bits) = (count / 64, UInt64(count % 64))
        var i = WideInteger.words
        while i > 0 {
            i -= 1
            let high = i >= whole ? word[i - whole] : 0
            let low = i > whole ? word[i - whole - 1] : 0
            word[i] = bits == 0 ? high : high << bits | low >> (64 - bits)
        }
    }

    /// Multiplies by 10^exponent, which must fit, or for a negative one divides, rounding down; true if that lost
    /// something.
    mutating func scale(byTenTo exponent: Int) -> Bool {
        var left = exponent.magnitude
        var isInexact = false
        while left > 0 {
            let step = min(left, 19)
            var power: UInt64 = 1
            for _ in 0..<step { power *= 10 }
            if exponent > 0 {
                multiply(by: power)
            } else if divide(by: power) != 0 {
                isInexact = true
            }
            left -= step
        }
        return isInexact
    }

    private mutating func multiply(by factor: UInt64) {
        var carry: UInt64 = 0
        for i in 0..<WideInteger.words {
            let (high, low) = word[i].multipliedFullWidth(by: factor)
            let (sum, overflow) = low.addingReportingOverflow(carry)
            word[i] = sum
            carry = high + (overflow ? 1 : 0)
        }
    }

    /// Returns the remainder.
    private mutating func divide(by divisor: UInt64) -> UInt64 {
        var remainder: UInt64 = 0
        var i = WideInteger.words
        while i > 0 {
            i -= 1
            (word[i], remainder) = divisor.dividingFullWidth((remainder, word[i]))
        }
        return remainder
    }

    private var bitWidth: Int {
        var i = WideInteger.words
        while i > 0, word[i - 1] == 0 { i -= 1 }
        return i == 0 ? 0 : 64 * i - word[i - 1].leadingZeroBitCount
    }

    private func bit(_ index: Int) -> Bool { word[index / 64] >> UInt64(index % 64) & 1 == 1 }

    private func isZero(below index: Int) -> Bool {
        for i in 0..<(index / 64) where word[i] != 0 { return false }
        return word[index / 64] & (1 << UInt64(index % 64) - 1) == 0
    }

    /// self / 2^count to the nearest integer, ties to even, or nil if that is 2^64 or more; `isInexact` says that the
    /// number meant is a little larger than this one.
    private func integer(shiftedRight count: Int, isInexact: Bool) -> UInt64? {
        guard bitWidth - count <= 64, count < 64 * WideInteger.words else { return bitWidth <= count ? 0 : nil }
        let (whole, bits) = (count / 64, UInt64(count % 64))
        var quotient = word[whole] >> bits
        if bits > 0, whole + 1 < WideInteger.words { quotient |= word[whole + 1] << (64 - bits) }
        guard count > 0, bit(count - 1) else { return quotient }
        let isTie = !isInexact && isZero(below: count - 1)
        guard !isTie || quotient & 1 == 1 else { return quotient }
        return quotient == .max ? nil : quotient + 1
    }

    /// self / 2^count to the nearest double, ties to even.
    func double(shiftedRight count: Int, isInexact: Bool) -> Double {
        // The last of 53 bits, or that of the subnormals.
        let last = max(bitWidth - 53, count - 1074, 0)
        guard let significand = integer(shiftedRight: last, isInexact: isInexact) else { return .infinity }
        return Double(sign: .plus, exponent: last - count, significand: Double(significand))
    }
}
