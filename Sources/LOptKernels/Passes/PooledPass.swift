import CLOptShims

/// The one pass of a step with weights of kind pooled: momenta and second moment take in the gradient, the parameters take the
/// step whose size is known beforehand, and what the next step wants to know is summed up. Two momenta.
///
/// A tile of elements is gone through twice while it is in the first-level cache, and part of the lanes by part of the lanes where
/// registers are few: so the sums that are live at a time fit in.
func pooledPass(
    _ rule: lopt_rule, _ t: lopt_tensor_view, _ step: lopt_pooled, _ begin: Int, _ end: Int,
    _ total: UnsafeMutablePointer<Double>, _ memory: MutableFloats
) {
    let scratch = PooledScratch(memory)
    var sums = Sums(lane: scratch.sums, slots: Int(LOPT_SUMS_POOLED), total: total)
    var offset = begin
    while offset < end {
        let count = min(LOPT_TILE, end - offset), vectors = (count + lanes - 1) / lanes, isWhole = count % lanes == 0
        // The loops know neither a scale nor a rest of a vector: what has one goes through scratch memory.
        var gradient: Floats = t.gradient + offset, parameter: MutableFloats = t.parameter + offset
        if !isWhole || t.gradient_scale != 1 {
            copy(gradient, scratch.gradient, count, lopt_splat(t.gradient_scale))
            gradient = Floats(scratch.gradient)
        }
        if !isWhole {
            copy(parameter, scratch.parameter, count, lopt_splat(1))
            parameter = scratch.parameter
        }
        let bytes = step.momenta_are_bf16 != 0 ? 2 : 4
        let tile = PooledTile(
            rule: rule, step: step, gradient: gradient, parameter: parameter, second: t.second_moment + offset,
            first: UnsafeMutableRawPointer(t.momentum) + offset * bytes, plane: Int(t.plane_stride) * bytes, count: vectors * lanes,
            scratch: scratch, number: UInt32(truncatingIfNeeded: offset - begin))
        if step.writes != 0 { tile.advance(sums, writes: true) } else { tile.advance(sums, writes: false) }
        tile.correlate(sums)
        if !isWhole && step.writes != 0 {
            let to: MutableFloats = t.parameter + offset
            forEachVectorOnce(count) { i, n in store(to + i, lopt_load(scratch.parameter + i), n) }
        }
        sums.added(vectors)
        offset += count
    }
    sums.flush()
}

/// Times `scale`, and 0 up to the end of the last vector.
@inline(never)
private func copy(_ from: Floats, _ to: MutableFloats, _ count: Int, _ scale: Vector) {
    forEachVectorOnce(count) { i, n in lopt_store(to + i, load(from + i, n) * scale) }
}

/// The scratch memory of one worker, for weights of kind pooled.
struct PooledScratch {
    let sums: MutableFloats
    /// A tile: gradient and parameter where the caller's cannot be used as they are, the parameter as it was.
    let gradient, parameter, before: MutableFloats
    /// h, a_1 and a_2 of a tile, between its two loops.
    let h, a1, a2: MutableFloats
    /// Sums over the parameters that are not yet found to be finite.
    let counted: MutableFloats

    static let floats = (Int(LOPT_SUMS_POOLED) + 3) * lanes + 6 * Int(LOPT_TILE)

    @inline(__always)
    init(_ memory: MutableFloats) {
        let tile = Int(LOPT_TILE)
        sums = memory
        gradient = sums + Int(LOPT_SUMS_POOLED) * lanes
        parameter = gradient + tile
        before = parameter + tile
        h = before + tile
        a1 = h + tile
        a2 = a1 + tile
        counted = a2 + tile
    }
}

private typealias Part = lopt_part

/// Whole vectors of elements that lie side by side.
private struct PooledTile {
    let rule: lopt_rule
    let step: lopt_pooled
    let gradient: Floats
    let parameter, second: MutableFloats
    /// The first momentum, f32 or bf16, and how many bytes after it the second is.
    let first: UnsafeMutableRawPointer
    let plane: Int
    let count: Int
    let scratch: PooledScratch
    /// Of the first element, for the noise of the rounding.
    let number: UInt32

    /// The step; leaves h and a_k in scratch memory. The reciprocal root of one part is under way while the part before it uses
    /// its own: it takes longer than all the rest.
    @inline(__always)
    func advance(_ sums: Sums, writes: Bool) {
        let first1 = first.assumingMemoryBound(to: Float.self), first2 = (first + plane).assumingMemoryBound(to: Float.self)
        let half1 = first, half2 = first + plane, areHalves = step.momenta_are_bf16 != 0
        let takesIn = step.updates_state != 0
        @inline(__always) func decay(_ beta: Float, _ rate: Float) -> (Part, Part) {
            (lopt_part_splat(takesIn ? beta : 1), lopt_part_splat(takesIn ? rate : 0))
        }
        let (betaV, rateV) = decay(rule.rms_beta, rule.rms_rate)
        let (beta1, rate1) = decay(rule.momentum_beta[0], rule.momentum_rate[0])
        let (beta2, rate2) = decay(rule.momentum_beta[1], rule.momentum_rate[1])
        let c1 = lopt_part_splat(step.momentum1), c2 = lopt_part_splat(step.momentum2)
        let c = lopt_part_splat(step.gradient), scale = lopt_part_splat(step.scale)
        let apart = lopt_part_splat(min(step.scale * step.disagreement, Float.greatestFiniteMagnitude))
        let keep = lopt_part_splat(step.keep), idle = lopt_part_splat(step.idle_keep)
        let epsilon = lopt_part_splat(step.epsilon), zero = lopt_part_splat(0), one = lopt_part_splat(1)
        @inline(__always) func begin(_ i: Int) -> (g: Part, v: Part, r: Part) {
            let g = lopt_part_load(gradient + i)
            let v = lopt_part_fma(betaV, lopt_part_load(second + i), rateV * (g * g))
            return (g, v, lopt_part_rsqrt(v + epsilon))
        }
        for part in stride(from: 0, to: lanes, by: Int(LOPT_PART)) {
            @inline(__always) func slot(_ number: Int) -> MutableFloats { sums.lane + (number * lanes + part) }
            @inline(__always) func sum(_ number: Int) -> Part { lopt_part_load(slot(number)) }
            var live = sum(LOPT_POOLED_LIVE), live2 = sum(LOPT_POOLED_LIVE_P2), p2 = sum(LOPT_POOLED_P2), u2 = sum(LOPT_POOLED_U2)
            let last = count - lanes + part
            var i = part
            var (g, v, r) = begin(i)
            while i <= last {
                let next = begin(min(i + lanes, last))
                let before = lopt_part_load(parameter + i)
                lopt_part_store(second + i, v)
                let m1: Part, m2: Part
                if areHalves {
                    let noise = lopt_part_noise(step.noise_key, number &+ UInt32(truncatingIfNeeded: i))
                    m1 = lopt_part_bf16(lopt_part_fma(beta1, lopt_part_load_bf16(half1 + 2 * i), rate1 * g), lopt_part_low_half(noise))
                    m2 = lopt_part_bf16(lopt_part_fma(beta2, lopt_part_load_bf16(half2 + 2 * i), rate2 * g), lopt_part_high_half(noise))
                    lopt_part_store_bf16(half1 + 2 * i, m1)
                    lopt_part_store_bf16(half2 + 2 * i, m2)
                } else {
                    m1 = lopt_part_fma(beta1, lopt_part_load(first1 + i), rate1 * g)
                    m2 = lopt_part_fma(beta2, lopt_part_load(first2 + i), rate2 * g)
                    lopt_part_store(first1 + i, m1)
                    lopt_part_store(first2 + i, m2)
                }
                let h = g * r, a1 = m1 * r, a2 = m2 * r, d = lopt_part_fma(c1, a1, c2 * a2)
                lopt_part_store(scratch.h + i, h)
                lopt_part_store(scratch.a1 + i, a1)
                lopt_part_store(scratch.a2 + i, a2)
                let u = lopt_part_fma(c, h, d) * lopt_part_where_negative(h * d, apart, scale)
                u2 = lopt_part_fma(u, u, u2)
                p2 = lopt_part_fma(before, before, p2)
                live += lopt_part_where_positive(v, one, zero)
                var p = before
                if writes {
                    p = lopt_part_fms(before, lopt_part_where_positive(v, keep, idle), u)
                    lopt_part_store(scratch.before + i, before)
                    lopt_part_store(parameter + i, p)
                }
                live2 += lopt_part_where_positive(v, p * p, zero)
                (g, v, r) = next
                i += lanes
            }
            lopt_part_store(scratch.counted + part, live)
            lopt_part_store(scratch.counted + (lanes + part), live2)
            lopt_part_store(scratch.counted + (2 * lanes + part), p2)
            lopt_part_store(slot(LOPT_POOLED_U2), u2)
        }
        // Parameters that are not finite, or too large for a sum of squares, show in the sums. The tile is then counted once more.
        let live2 = lopt_load(scratch.counted + lanes), p2 = lopt_load(scratch.counted + 2 * lanes)
        if !lopt_sum(p2 + live2).isFinite { return recount(sums, writes ? Floats(scratch.before) : Floats(parameter)) }
        sums[LOPT_POOLED_LIVE] = lopt_load(scratch.counted)
        sums[LOPT_POOLED_LIVE_P2] = live2
        sums[LOPT_POOLED_P2] = p2
    }

    /// What `advance` sums of the parameters, element by element: those that are not finite count as 0.
    @inline(never)
    private func recount(_ sums: Sums, _ before: Floats) {
        let one = lopt_splat(1)
        var i = 0
        while i < count {
            let raw = lopt_load(before + i), v = lopt_load(second + i)
            let strange = lopt_nonfinite_lanes(raw), found = lopt_finite(raw), left = lopt_finite(lopt_load(parameter + i))
            sums[LOPT_POOLED_LIVE] += lopt_positive(one - strange, v)
            sums[LOPT_POOLED_LIVE_P2] += lopt_positive(left * left, v)
            sums[LOPT_POOLED_P2] = lopt_fma(found, found, sums[LOPT_POOLED_P2])
            sums[LOPT_POOLED_NONFINITE] += strange
            i += lanes
        }
    }

    /// The second loop: products of h, a_1 and a_2 with one another.
    @inline(__always)
    func correlate(_ sums: Sums) {
        for part in stride(from: 0, to: lanes, by: Int(LOPT_PART)) {
            @inline(__always) func slot(_ number: Int) -> MutableFloats { sums.lane + (number * lanes + part) }
            @inline(__always) func sum(_ number: Int) -> Part { lopt_part_load(slot(number)) }
            var h2 = sum(LOPT_POOLED_H2), h1 = sum(LOPT_POOLED_H)
            var aa = (sum(LOPT_POOLED_A2), sum(LOPT_POOLED_A2 + 1)), ha = (sum(LOPT_POOLED_HA), sum(LOPT_POOLED_HA + 1))
            var i = part
            while i < count {
                let h = lopt_part_load(scratch.h + i), a1 = lopt_part_load(scratch.a1 + i), a2 = lopt_part_load(scratch.a2 + i)
                h2 = lopt_part_fma(h, h, h2)
                h1 += lopt_part_abs(h)
                aa = (lopt_part_fma(a1, a1, aa.0), lopt_part_fma(a2, a2, aa.1))
                ha = (lopt_part_fma(h, a1, ha.0), lopt_part_fma(h, a2, ha.1))
                i += lanes
            }
            lopt_part_store(slot(LOPT_POOLED_H2), h2)
            lopt_part_store(slot(LOPT_POOLED_H), h1)
            lopt_part_store(slot(LOPT_POOLED_A2), aa.0)
            lopt_part_store(slot(LOPT_POOLED_A2 + 1), aa.1)
            lopt_part_store(slot(LOPT_POOLED_HA), ha.0)
            lopt_part_store(slot(LOPT_POOLED_HA + 1), ha.1)
        }
    }
}
