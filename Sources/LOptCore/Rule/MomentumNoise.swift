/// Momenta of weights of kind pooled may be kept in bf16, 2 bytes each. To nearest, a momentum that takes in 0.1 % of each gradient would stand
/// still: a bf16 number has 8 bits, and most steps of such an average are less than half of the distance of two. So it is rounded
/// stochastically, to either neighbour with the probability that makes it right in the mean, and averages are kept whatever their
/// span. The noise is a hash of where and when, which is the same on every instruction set, any number of threads, and after a restore:
/// of the number of the step and of the chunk here, of the element in the chunk in `lopt_part_noise`.
enum MomentumNoise {
    /// What the noise of a chunk in the step after `step` steps begins with; `chunk` counts in the whole tensor.
    static func key(step: Int64, chunk: Int) -> UInt32 {
        // The finaliser of splitmix64 (Steele, Lea and Flood, 2014), of two odd multiples that meet nowhere near.
        var x = UInt64(bitPattern: step) &* 0x9e37_79b9_7f4a_7c15 &+ UInt64(bitPattern: Int64(chunk)) &* 0xd1b5_4a32_d192_ed03
        x = (x ^ x >> 30) &* 0xbf58_476d_1ce4_e5b9
        x = (x ^ x >> 27) &* 0x94d0_49bb_1331_11eb
        return UInt32(truncatingIfNeeded: x ^ x >> 31)
    }
}
