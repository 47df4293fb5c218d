/// exp, log and tanh in f64 for the handful of numbers that a step needs once per tensor. Our own, from + - * / alone:
/// libm's differ between versions and processors, and the bits of a step must not.
enum ScalarMath {
    /// 1 / 14!, 1 / 13!, ..., 1 / 0!.
    private static let reciprocalFactorials: [15 of Double] = [
        1.147_074_559_772_972_5e-11, 1.605_904_383_682_161_3e-10, 2.087_675_698_786_81e-9, 2.505_210_838_544_172e-8,
        2.755_731_922_398_589e-7, 2.755_731_922_398_589_3e-6, 2.480_158_730_158_730_2e-5, 1.984_126_984_126_984e-4,
        1.388_888_888_888_889e-3, 8.333_333_333_333_333e-3, 4.166_666_666_666_666_4e-2, 1.666_666_666_666_666_6e-1,
        0.5, 1, 1,
    ]

    /// 1 / 21, 1 / 19, ..., 1.
    private static let oddReciprocals: [11 of Double] = [
        1.0 / 21, 1.0 / 19, 1.0 / 17, 1.0 / 15, 1.0 / 13, 1.0 / 11, 1.0 / 9, 1.0 / 7, 1.0 / 5, 1.0 / 3, 1,
    ]

    /// e^x within 1e-15 relative; the argument is clamped to +-700, where the result is a normal number. NaN gives NaN.
    static func exp(_ argument: Double) -> Double {
        let x = min(max(argument, -700), 700)
        // n is the nearest integer to x / ln 2: adding 1.5 * 2^52 rounds, and leaves it in the low bits.
        let shifter = 6_755_399_441_055_744.0
        let shifted = x * 1.442_695_040_888_963_4 + shifter
        let n = shifted - shifter
        let r = (x - n * 0.693_147_180_369_123_8) - n * 1.908_214_929_270_587_7e-10
        var e = 0.0
        for k in 0..<reciprocalFactorials.count { e = e * r + reciprocalFactorials[k] }
        // From the bits, because converting a NaN to an integer would end the process.
        let exponent = shifted.bitPattern &- shifter.bitPattern &+ 1023
        return e * Double(bitPattern: exponent << 52)
    }

    /// The same of four numbers at once, in the time of one and a half.
    static func exp(_ argument: SIMD4<Double>) -> SIMD4<Double> {
        let raised = argument.replacing(with: -700, where: argument .< -700), x = raised.replacing(with: 700, where: raised .> 700)
        let shifter = SIMD4<Double>(repeating: 6_755_399_441_055_744)
        let shifted = x * 1.442_695_040_888_963_4 + shifter
        let n = shifted - shifter
        let r = (x - n * 0.693_147_180_369_123_8) - n * 1.908_214_929_270_587_7e-10
        // The even and the odd powers apart: half as long a chain.
        let r2 = r * r
        var even = SIMD4(repeating: reciprocalFactorials[0]), odd = SIMD4(repeating: reciprocalFactorials[1])
        for k in stride(from: 2, to: 14, by: 2) {
            even = even * r2 + reciprocalFactorials[k]
            odd = odd * r2 + reciprocalFactorials[k + 1]
        }
        let e = (even * r2 + 1) + odd * r
        let exponent = unsafeBitCast(shifted, to: SIMD4<UInt64>.self) &- unsafeBitCast(shifter, to: SIMD4<UInt64>.self) &+ 1023
        return e * unsafeBitCast(exponent &<< 52, to: SIMD4<Double>.self)
    }

    /// ln x of a positive, finite, normal number, within 1e-15 absolute near 1 and relative elsewhere.
    static func log(_ x: Double) -> Double {
        var exponent = Int64(bitPattern: x.bitPattern >> 52) - 1023
        var m = Double(bitPattern: x.bitPattern & 0x000f_ffff_ffff_ffff | 0x3ff0_0000_0000_0000)
        if m > 1.414_213_562_373_095 {
            m /= 2
            exponent += 1
        }
        // ln m = 2 atanh(s), |s| < 0.172: the series to s^21 leaves 1e-17.
        let s = (m - 1) / (m + 1), s2 = s * s
        var sum = 0.0
        for k in 0..<oddReciprocals.count { sum = sum * s2 + oddReciprocals[k] }
        return 2 * s * sum + Double(exponent) * 0.693_147_180_559_945_3
    }

    /// The same of eight numbers at once, in the time of two.
    static func log(_ x: SIMD8<Double>) -> SIMD8<Double> {
        let bits = unsafeBitCast(x, to: SIMD8<UInt64>.self)
        var m = unsafeBitCast(bits & 0x000f_ffff_ffff_ffff | 0x3ff0_0000_0000_0000, to: SIMD8<Double>.self)
        // In the low bits of 2^52 an integer is a number.
        var exponent = unsafeBitCast(bits &>> 52 | 0x4330_0000_0000_0000, to: SIMD8<Double>.self) - (4_503_599_627_370_496 + 1023)
        let isLarge = m .> 1.414_213_562_373_095
        m.replace(with: m * 0.5, where: isLarge)
        exponent.replace(with: exponent + 1, where: isLarge)
        let s = (m - 1) / (m + 1), s2 = s * s
        var sum = SIMD8<Double>(repeating: 0)
        for k in 0..<oddReciprocals.count { sum = sum * s2 + oddReciprocals[k] }
        return 2 * s * sum + exponent * 0.693_147_180_559_945_3
    }

    /// tanh x within 1e-15 absolute.
    static func tanh(_ x: Double) -> Double {
        let e = exp(2 * min(max(x, -20), 20))
        return (e - 1) / (e + 1)
    }
}
