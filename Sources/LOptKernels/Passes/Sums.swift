import CLOptShims

/// Sums over the elements of a chunk: f32 in the 16 lanes for at most `limit` vectors, then f64. What is added in which
/// order depends on the shape of the tensor alone.
struct Sums {
    /// slots x 16 floats of scratch memory.
    let lane: MutableFloats
    let slots: Int
    let total: UnsafeMutablePointer<Double>
    private var pending = 0

    /// 64 additions of f32 numbers of like size: a relative error of 64 * 2^-24 = 4e-6 at the very worst, 3e-7 typically.
    static let limit = 64

    @inline(__always)
    init(lane: MutableFloats, slots: Int, total: UnsafeMutablePointer<Double>) {
        self.lane = lane
        self.slots = slots
        self.total = total
        for i in 0..<slots { lopt_store(lane + i * lanes, lopt_splat(0)) }
    }

    @inline(__always)
    subscript(slot: Int) -> Vector {
        get { lopt_load(lane + slot * lanes) }
        nonmutating set { lopt_store(lane + slot * lanes, newValue) }
    }

    /// To be called after at most `vectors` vectors were added to each slot.
    @inline(__always)
    mutating func added(_ vectors: Int) {
        pending += vectors
        if pending >= Sums.limit { flush() }
    }

    @inline(never)
    mutating func flush() {
        pending = 0
        for i in 0..<slots {
            total[i] += Double(lopt_sum(lopt_load(lane + i * lanes)))
            lopt_store(lane + i * lanes, lopt_splat(0))
        }
    }
}
