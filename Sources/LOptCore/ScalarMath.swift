/// exp, log and tanh in f64 for the handful of numbers that a step needs once per tensor. Our own, from + - * / alone:
/// libm's differ between versions and processors, and the bits of a step must not.
enum ScalarMath {
    /// e^x within 1e-15 relative; the argument is clamped to +-700, where the result is a normal number.
    static func exp(_ argument: Double) -> Double {
        let x = min(max(argument, -700), 700)
        // n is the nearest integer to x / ln 2: adding 1.5 * 2^52 rounds, and leaves it in the low bits.
        let shifter = 6_755_399_441_055_744.0
        let shifted = x * 1.442_695_040_888_963_4 + shifter
        let n = shifted - shifter
        let r = (x - n * 0.693_147_180_369_123_8) - n * 1.908_214_929_270_587_7e-10
        var e = 1.0
        var k = 14.0
        while k >= 1 {
            e = 1 + e * r / k
            k -= 1
        }
        return e * Double(bitPattern: UInt64(bitPattern: Int64(n) + 1023) << 52)
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
        var k = 21.0
        while k >= 1 {
            sum = sum * s2 + 1 / k
            k -= 2
        }
        return 2 * s * sum + Double(exponent) * 0.693_147_180_559_945_3
    }

    /// tanh x within 1e-15 absolute.
    static func tanh(_ x: Double) -> Double {
        let e = exp(2 * min(max(x, -20), 20))
        return (e - 1) / (e + 1)
    }
}
