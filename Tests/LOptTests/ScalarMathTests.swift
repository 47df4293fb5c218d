import CLOptShims
import Testing

@testable import LOptCore

@Suite("Logarithms and exponentials of a step")
struct ScalarMathTests {
    /// Over all exponents and mantissas, and around the root of 2, where the mantissa is halved.
    static let numbers: [Double] = (0..<4000).map { lopt_system_exp(noise(1, seed: UInt64($0))[0] * 400) }
        + [1, 1.414_213_562_373_095, 1.414_213_562_373_095_2, 2, 0.5, 1e-300, 1e300, 1e-3, 1 + 1e-15]

    @Test func `eight logarithms at once have the bits of one after the other`() {
        for begin in stride(from: 0, to: Self.numbers.count - 8, by: 8) {
            let x = SIMD8(Self.numbers[begin..<begin + 8]), logs = ScalarMath.log(x)
            for i in 0..<8 { #expect(logs[i].bitPattern == ScalarMath.log(x[i]).bitPattern, "\(x[i])") }
        }
    }

    @Test func `logarithms and exponentials are those of libm to the last bits`() {
        for x in Self.numbers {
            let log = lopt_system_log(x)
            #expect(abs(ScalarMath.log(x) - log) <= 4e-16 * max(abs(log), 1))
            guard abs(log) < 690 else { continue }
            #expect(abs(ScalarMath.exp(log) / lopt_system_exp(log) - 1) <= 2e-15)
        }
    }

    @Test func `four exponentials at once are those of libm to the last bits, whatever stands beside them`() {
        for (i, x) in Self.numbers.enumerated() {
            let log = lopt_system_log(x), lane = i % 4
            guard abs(log) < 690 else { continue }
            var x = SIMD4(Double.nan, -1e9, 1e9, 0)
            x[lane] = log
            let powers = ScalarMath.exp(x)
            #expect(abs(powers[lane] / lopt_system_exp(log) - 1) <= 2e-15)
            #expect(lane == 0 || powers[0].isNaN)
            #expect(lane == 2 || powers[2] == ScalarMath.exp(700) && powers[2].isFinite)
            #expect(lane == 1 || powers[1] > 0 && powers[1] < 1e-300)
        }
    }
}
