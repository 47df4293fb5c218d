import Testing

@testable import LOptCore

/// Decimal numbers to doubles, against those of the standard library, which round correctly.
@Suite struct DecimalTests {
    private func parse(_ text: String) -> Double? {
        Array(text.utf8).withUnsafeBytes { DecimalScanner.number($0) }
    }

    private func list(_ text: String) -> [Double]? {
        Array(text.utf8).withUnsafeBytes { text in
            DecimalScanner.list(text).map { list in (0..<list.count).map { list.values[$0] } }
        }
    }

    @Test(arguments: [
        "0", "-0", "0.0", "0e5", "1", "-1", "0.9", "0.99", "0.999", "1e-12", "1E+2", "1.5e+3", "123456789", "0.0002",
        "1e22", "1e23", "9007199254740993", "9007199254740992.5", "9007199254740995", "0.1", "0.3",
        "2.2250738585072011e-308", "2.2250738585072014e-308", "4.9e-324", "2.4703282292062327e-324",
        "2.4703282292062328e-324", "1e-400", "0e-99999999999",
        "1.7976931348623157e308", "1.7976931348623158e308", "1.797693134862315808e308", "8.98846567431158e307",
        "0.000000000000000000000000000000000000000000000000000000000001", "1e-99999999999999999999",
        "123456789012345678",
    ])
    func `numbers are rounded to the nearest`(text: String) throws {
        let expected = try #require(Double(text))
        #expect(parse(text)?.bitPattern == expected.bitPattern, "\(String(describing: parse(text))) for \(text)")
    }

    @Test func `numbers too large are infinite`() {
        let long = "1" + String(repeating: "0", count: 400)
        for text in ["1e309", "1.7976931348623159e308", "-1e400", "1e99999999999999999999", long] {
            #expect(parse(text)?.isInfinite == true)
        }
    }

    /// Up to 19 digits are rounded exactly, more to within one unit in the last place.
    @Test func `random numbers are rounded to the nearest`() throws {
        var noise = Noise(state: 7)
        for _ in 0..<5000 {
            let digits = String(String(noise.next()).prefix(Int.random(in: 1...19, using: &noise)))
            let text = "\(digits)e\(Int.random(in: -345...300, using: &noise))"
            let expected = try #require(Double(text))
            #expect(parse(text)?.bitPattern == expected.bitPattern, "\(text)")
        }
        for _ in 0..<500 {
            let text = "0.\(noise.next())\(noise.next())\(noise.next())e\(Int.random(in: -300...300, using: &noise))"
            let (value, expected) = (try #require(parse(text)), try #require(Double(text)))
            #expect(abs(value - expected) <= expected.ulp, "\(text)")
        }
    }

    @Test(arguments: [
        "", " 1", "1 ", "+1", "-", ".5", "5.", "01", "-01", "00", "1e", "1e+", "1e-", "1.e5", "1,5", "0x10", "inf", "nan",
        "NaN", "Infinity", "1_000", "1e5.5", "--1", "1.2.3", "1f", "\0", "1\0", "٣", "[1]", "true", "1e 5",
    ])
    func `other text is no number`(text: String) {
        #expect(parse(text) == nil)
    }

    @Test func `lists are parsed`() {
        #expect(list("[0.9, 0.99, 0.999]") == [0.9, 0.99, 0.999])
        #expect(list("[]") == [])
        #expect(list("[ ]") == [])
        #expect(list(" [1,2 ,  3]") == [1, 2, 3])
        #expect(list("[1,2,3,4,5,6,7,8]") == [1, 2, 3, 4, 5, 6, 7, 8])
    }

    @Test(arguments: [
        "", "1", "[", "]", "[1", "[1,", "[1,]", "[,1]", "[1 2]", "[1,2]]", "[1,2] x", "[[1]]", "[\"1\"]", "[true]",
        "[nan]", "[01]",
        "[1,2,3,4,5,6,7,8,9]", "{1}", "(1, 2)",
    ])
    func `other text is no list`(text: String) {
        #expect(list(text) == nil)
    }

    @Test func `every double reads back`() throws {
        var noise = Noise(state: 11)
        var tried = 0
        while tried < 1000 {
            let value = Double(bitPattern: noise.next())
            guard value.isFinite else { continue }
            tried += 1
            #expect(parse("\(value)")?.bitPattern == value.bitPattern, "\(value)")
        }
        for exponent in stride(from: -1074, through: 1023, by: 9) {
            let power = Double(sign: .plus, exponent: exponent, significand: 1)
            for value in [power, power.nextDown] { #expect(parse("\(value)")?.bitPattern == value.bitPattern) }
        }
    }
}
