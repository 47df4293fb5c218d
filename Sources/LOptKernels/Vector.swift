import CLOptShims

/// Sixteen f32 lanes: one AVX-512 register, two of AVX2, four of SSE2 or NEON. The width is the same on all of them, so
/// that sums are taken in the same order and give the same bits.
typealias Vector = SIMD16<Float>

typealias Floats = UnsafePointer<Float>
typealias MutableFloats = UnsafeMutablePointer<Float>

let lanes = 16

/// The first `count` of 16 values at `pointer`, 0 in the lanes beyond. In most loops `count` is a constant 16 but for the
/// last turn, and the test is folded away.
@inline(__always)
func load(_ pointer: Floats, _ count: Int) -> Vector {
    count == lanes ? lopt_load(pointer) : loadFirst(pointer, count)
}

@inline(__always)
func store(_ pointer: MutableFloats, _ value: Vector, _ count: Int) {
    if count == lanes { lopt_store(pointer, value) } else { storeFirst(pointer, value, count) }
}

/// The g of the rule from some element on: what the caller's array holds times the factor for it.
struct Gradient {
    let values: Floats
    private let factor: Float
    private var scale: Vector { lopt_splat(factor) }

    @inline(__always)
    init(_ t: lopt_tensor_view, _ offset: Int) {
        values = t.gradient + offset
        factor = t.gradient_scale
    }

    @inline(__always)
    func vector(_ i: Int, _ count: Int) -> Vector { load(values + i, count) * scale }
    @inline(__always)
    func wide(_ count: Int) -> Wide { loadWide(values, count: count) * lopt_wide_splat(factor) }
}

/// `value` with 0 in the lanes from `count` on.
@inline(__always)
func masked(_ value: Vector, _ count: Int) -> Vector {
    count == lanes ? value : lopt_first(value, Int32(truncatingIfNeeded: count))
}

#if LOPT_AVX512 || LOPT_AVX2
// By masks, without a call: before a call, the vectors of the whole loop would have to leave the registers.
@inline(__always)
func loadFirst(_ pointer: Floats, _ count: Int) -> Vector {
    lopt_load_first(pointer, Int32(truncatingIfNeeded: count))
}

@inline(__always)
func storeFirst(_ pointer: MutableFloats, _ value: Vector, _ count: Int) {
    lopt_store_first(pointer, value, Int32(truncatingIfNeeded: count))
}
#else
@inline(never)
func loadFirst(_ pointer: Floats, _ count: Int) -> Vector {
    var value = Vector(repeating: 0)
    withUnsafeMutablePointer(to: &value) { value in
        let lane = UnsafeMutableRawPointer(value).assumingMemoryBound(to: Float.self)
        for i in 0..<count { lane[i] = lopt_load1(pointer + i) }
    }
    return value
}

@inline(never)
func storeFirst(_ pointer: MutableFloats, _ value: Vector, _ count: Int) {
    withUnsafePointer(to: value) { value in
        let lane = UnsafeRawPointer(value).assumingMemoryBound(to: Float.self)
        for i in 0..<count { lopt_store1(pointer + i, lane[i]) }
    }
}
#endif

/// Calls `body(i, 16)` for i = 0, 16, ... and `body(i, rest)` for what is left of `count`.
@inline(__always)
func forEachVector(_ count: Int, _ body: (Int, Int) -> Void) {
    var i = 0
    while i + lanes <= count {
        body(i, lanes)
        i += lanes
    }
    if i < count { body(i, count - i) }
}

/// The same with one copy of `body`, for bodies so large that a second costs more than the tests of the count.
@inline(__always)
func forEachVectorOnce(_ count: Int, _ body: (Int, Int) -> Void) {
    var i = 0
    while i < count {
        body(i, min(lanes, count - i))
        i += lanes
    }
}

/// e^x, relative error below 2e-7, the argument clamped to where the result is a normal number (-87.3 to 88.3).
///
/// x = n ln 2 + r with |r| <= ln 2 / 2; e^r by its Taylor polynomial of degree 7, 2^n through the exponent bits. n is
/// rounded by adding 1.5 * 2^23, which leaves it in the low bits of the sum: no instruction beyond SSE2 is needed.
@inline(__always)
func exp(_ argument: Vector) -> Vector {
    let x = lopt_min(lopt_max(argument, lopt_splat(-87.3)), lopt_splat(88.3))
    let shifter = lopt_splat(12_582_912)
    let shifted = lopt_fma(x, lopt_splat(1.442_695_04), shifter)
    let n = shifted - shifter
    // ln 2 in two parts, the first with few enough bits for n times it to be exact.
    var r = lopt_fma(n, lopt_splat(-0.693_145_751_953_125), x)
    r = lopt_fma(n, lopt_splat(-1.428_606_765_330_187e-6), r)
    var e = lopt_splat(1.0 / 5040)
    e = lopt_fma(e, r, lopt_splat(1.0 / 720))
    e = lopt_fma(e, r, lopt_splat(1.0 / 120))
    e = lopt_fma(e, r, lopt_splat(1.0 / 24))
    e = lopt_fma(e, r, lopt_splat(1.0 / 6))
    e = lopt_fma(e, r, lopt_splat(0.5))
    e = lopt_fma(e, r, lopt_splat(1))
    e = lopt_fma(e, r, lopt_splat(1))
    // 0x4b400000 is the shifter: what is left of its bits is n; + 127 << 23 happens in the addition of e's exponent.
    let scale = lopt_ishift_left23(lopt_iadd(lopt_bits(shifted), 127 &- 0x4b40_0000))
    return e * lopt_from_bits(scale)
}
