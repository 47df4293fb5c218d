import Foundation

/// xoshiro256++ (Blackman and Vigna 2019), seeded through SplitMix64: small, fast, and the same on every machine.
///
/// A stream is named by numbers, `Random(seed, step)`, never shared: who draws when changes nothing.
public struct Random: RandomNumberGenerator, Sendable {
    private var a: UInt64, b: UInt64, c: UInt64, d: UInt64

    /// The stream of these numbers; another order is another stream.
    public init(_ seed: UInt64, _ more: UInt64...) {
        var state = seed
        for number in more { state = Random.mix(state) ^ number }
        func next() -> UInt64 {
            state &+= 0x9e37_79b9_7f4a_7c15
            return Random.mix(state)
        }
        (a, b, c, d) = (next(), next(), next(), next())
    }

    /// The finaliser of SplitMix64.
    public static func mix(_ x: UInt64) -> UInt64 {
        var z = x &+ 0x9e37_79b9_7f4a_7c15
        z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
        z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
        return z ^ (z >> 31)
    }

    public mutating func next() -> UInt64 {
        let sum = a &+ d
        let result = (sum << 23 | sum >> 41) &+ a
        let t = b << 17
        c ^= a
        d ^= b
        b ^= c
        a ^= d
        c ^= t
        d = d << 45 | d >> 19
        return result
    }

    /// Uniform in [0, 1).
    public mutating func uniform() -> Double { Double(next() >> 11) * 0x1p-53 }

    public mutating func uniform(_ range: ClosedRange<Double>) -> Double {
        range.lowerBound + (range.upperBound - range.lowerBound) * uniform()
    }

    /// Its logarithm is uniform.
    public mutating func logUniform(_ range: ClosedRange<Double>) -> Double {
        exp(uniform(log(range.lowerBound)...log(range.upperBound)))
    }

    /// Uniform in 0 ..< count, without the modulo's bias worth speaking of: count is far below 2^32.
    public mutating func index(_ count: Int) -> Int {
        Int(((next() >> 32) &* UInt64(count)) >> 32)
    }

    public mutating func bool(_ probability: Double = 0.5) -> Bool { uniform() < probability }

    public mutating func pick<T>(_ values: [T]) -> T { values[index(values.count)] }

    /// Standard normal (Box and Muller; the sine is dropped, so that a draw never depends on the one before).
    public mutating func normal() -> Double {
        let radius = (-2 * log(1 - uniform())).squareRoot()
        return radius * cos(2 * Double.pi * uniform())
    }
}
