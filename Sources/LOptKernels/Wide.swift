import CLOptShims

/// What a network works on at a time, `lopt_wide`: with AVX-512 two vectors, so that the sums of one are under way while those of
/// the other wait; elsewhere one, which is two registers or four.
#if LOPT_AVX512
typealias Wide = SIMD32<Float>

// Swift's own fall apart into lanes.
extension SIMD32 where Scalar == Float {
    @inline(__always) static func + (a: Self, b: Self) -> Self { lopt_add(a, b) }
    @inline(__always) static func * (a: Self, b: Self) -> Self { lopt_multiply(a, b) }
}
#else
typealias Wide = Vector
#endif

/// Sixteen lanes from `pointer`, the others from `up` floats further.
@inline(__always)
func loadWide(_ pointer: Floats, _ up: Int = lanes) -> Wide {
    #if LOPT_AVX512
    lopt_join(lopt_load(pointer), lopt_load(pointer + up))
    #else
    lopt_load(pointer)
    #endif
}

/// The first `count` values at `pointer`, 0 in the lanes beyond.
@inline(__always)
func loadWide(_ pointer: Floats, count: Int) -> Wide {
    #if LOPT_AVX512
    if count == LOPT_WIDE { return loadWide(pointer) }
    return lopt_join(loadFirst(pointer, min(count, lanes)), loadFirst(pointer + lanes, max(count - lanes, 0)))
    #else
    load(pointer, count)
    #endif
}

@inline(__always)
func storeWide(_ pointer: MutableFloats, _ value: Wide) {
    lopt_store(pointer, lopt_low(value))
    #if LOPT_AVX512
    lopt_store(pointer + lanes, lopt_high(value))
    #endif
}

/// Where the channels of a `Wide` of a tile are: channel c of its first vector at `lead + c * leadStride`, of its second `leadUp` further.
struct ChannelPlace {
    private let lead: Floats, trail: Floats
    private let leadStride: Int, trailStride: Int
    private let leadUp: Int, trailUp: Int

    /// The next one.
    @inline(__always)
    init(_ tile: Tile, _ leadPhase: inout Phase, _ trailPhase: inout Phase) {
        lead = tile.lead.channels + leadPhase.offset
        trail = tile.trail.channels + trailPhase.offset
        (leadStride, trailStride) = (tile.lead.stride, tile.trail.stride)
        leadUp = leadPhase.advanceWide()
        trailUp = trailPhase.advanceWide()
    }

    @inline(__always)
    func lead(_ channel: Int) -> Wide { loadWide(lead + channel * leadStride, leadUp) }
    @inline(__always)
    func trail(_ channel: Int) -> Wide { loadWide(trail + channel * trailStride, trailUp) }
}
