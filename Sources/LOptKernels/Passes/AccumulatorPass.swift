import CLOptShims

/// The accumulator pass: momenta and second moment (and, for rank < 2, the diagonal accumulators) take in the gradient, and the sums of
/// squares of all element-wise features are taken, for the second-moment normalisers.
///
/// Each tile is gone through once for the second moment and once for each momentum: the tile stays in the first-level
/// cache, few accumulators are live at a time, and any number of momenta takes the same code.
func accumulatorPass(
    _ rule: lopt_rule, _ t: lopt_tensor_view, _ chunk: lopt_chunk, _ total: UnsafeMutablePointer<Double>,
    _ memory: MutableFloats
) {
    let scratch = Scratch(memory, rule)
    let slots = LOPT_SUM_MOMENTA + Int(rule.momenta) * LOPT_SUMS_PER_MOMENTUM
    var sums = Sums(lane: scratch.sums, slots: slots, total: total)
    if t.factored != 0 && rule.reads_features == 0 {
        forEachStretch(t, chunk) { offset, count in
            secondMoment(rule, t, offset, count, 0, sums, scratch.rsqrt)
            for k in 0..<Int(rule.momenta) { momentumAlone(rule, t, offset, count, k, sums, scratch.rsqrt) }
            sums.added((count + lanes - 1) / lanes)
        }
    } else if t.factored != 0 {
        var tiles = Tiles(rule, t, chunk, scratch, .factors)
        while let tile = tiles.next() {
            secondMoment(rule, t, tile.offset, tile.count, tile.ahead, sums, scratch.rsqrt)
            for k in 0..<Int(rule.momenta) { momentum(rule, t, tile, k, sums, scratch.rsqrt) }
            sums.added((tile.count + lanes - 1) / lanes)
        }
    } else {
        var offset = Int(chunk.column0)
        while offset < Int(chunk.column1) {
            let count = min(LOPT_TILE, Int(chunk.column1) - offset)
            secondMoment(rule, t, offset, count, 0, sums, scratch.rsqrt)
            for k in 0..<Int(rule.momenta) { diagonal(rule, t, offset, count, k, sums, scratch.rsqrt) }
            sums.added((count + lanes - 1) / lanes)
            offset += count
        }
    }
    sums.flush()
}

/// v <- beta v + (1 - beta) g^2; leaves rsqrt(v + 1e-6) in `rsqrt`. One copy serves all kinds of tile.
@inline(never)
private func secondMoment(
    _ rule: lopt_rule, _ t: lopt_tensor_view, _ offset: Int, _ count: Int, _ ahead: Int, _ sums: Sums, _ rsqrt: MutableFloats
) {
    let beta = lopt_splat(rule.rms_beta), rate = lopt_splat(rule.rms_rate)
    let gradient = Gradient(t, offset), parameter = t.parameter + offset, second = t.second_moment + offset
    var g1 = sums[LOPT_SUM_G], g2 = sums[LOPT_SUM_G2]
    var p2 = sums[LOPT_SUM_P2], v2 = sums[LOPT_SUM_V2]
    var r2 = sums[LOPT_SUM_RSQRT_V2]
    var live = sums[LOPT_SUM_LIVE], live2 = sums[LOPT_SUM_LIVE_P2], nonfinite = sums[LOPT_SUM_NONFINITE]
    forEachVector(count) { i, n in
        if ahead != 0 {
            lopt_prefetch(gradient.values + (i + ahead))
            lopt_prefetch(parameter + (i + ahead))
            lopt_prefetch(second + (i + ahead))
        }
        let g = gradient.vector(i, n), raw = load(parameter + i, n), p = lopt_finite(raw)
        let q = g * g, strange = lopt_nonfinite_lanes(raw)
        let v = lopt_fma(beta, load(second + i, n), rate * q)
        store(second + i, v, n)
        let rs = masked(lopt_rsqrt(v + lopt_splat(1e-6)), n)
        lopt_store(rsqrt + i, rs)
        g1 += g
        g2 += q
        p2 = lopt_fma(p, p, p2)
        v2 = lopt_fma(v, v, v2)
        r2 = lopt_fma(rs, rs, r2)
        live += lopt_positive(lopt_splat(1) - strange, v)
        live2 += lopt_positive(p * p, v)
        nonfinite += strange
    }
    sums[LOPT_SUM_G] = g1
    sums[LOPT_SUM_G2] = g2
    sums[LOPT_SUM_P2] = p2
    sums[LOPT_SUM_V2] = v2
    sums[LOPT_SUM_RSQRT_V2] = r2
    sums[LOPT_SUM_LIVE] = live
    sums[LOPT_SUM_LIVE_P2] = live2
    sums[LOPT_SUM_NONFINITE] = nonfinite
}

@inline(__always)
private func firstSlot(_ k: Int) -> Int {
    LOPT_SUM_MOMENTA + k * LOPT_SUMS_PER_MOMENTUM
}

/// m_k <- beta_k m_k + (1 - beta_k) g, rank >= 2.
@inline(__always)
private func momentum(
    _ rule: lopt_rule, _ t: lopt_tensor_view, _ tile: Tile, _ k: Int, _ sums: Sums, _ rsqrt: Floats
) {
    let beta = lopt_splat(rule.momentum_beta[k]), rate = lopt_splat(rule.momentum_rate[k])
    let gradient = Gradient(t, tile.offset)
    let moment = t.momentum + k * Int(t.plane_stride) + tile.offset
    let leadFactor = tile.lead.channels + k * tile.lead.stride
    let trailFactor = tile.trail.channels + k * tile.trail.stride
    var lead = Phase(tile.lead), trail = Phase(tile.trail)
    let slot = firstSlot(k)
    var m2 = sums[slot + LOPT_SUM_M2], mr2 = sums[slot + LOPT_SUM_M_RSQRT_V2]
    var fg2 = sums[slot + LOPT_SUM_FACTORED_G2], fm2 = sums[slot + LOPT_SUM_FACTORED_M2]
    forEachVectorOnce(tile.count) { i, n in
        if tile.ahead != 0 { lopt_prefetch(moment + (i + tile.ahead)) }
        let g = gradient.vector(i, n)
        let m = lopt_fma(beta, load(moment + i, n), rate * g)
        store(moment + i, m, n)
        let factor = lopt_load(leadFactor + lead.offset) * lopt_load(trailFactor + trail.offset)
        let mr = m * lopt_load(rsqrt + i), fg = g * factor, fm = m * factor
        m2 = lopt_fma(m, m, m2)
        mr2 = lopt_fma(mr, mr, mr2)
        fg2 = lopt_fma(fg, fg, fg2)
        fm2 = lopt_fma(fm, fm, fm2)
        lead.advance()
        trail.advance()
    }
    sums[slot + LOPT_SUM_M2] = m2
    sums[slot + LOPT_SUM_M_RSQRT_V2] = mr2
    sums[slot + LOPT_SUM_FACTORED_G2] = fg2
    sums[slot + LOPT_SUM_FACTORED_M2] = fm2
}

/// The same without the factored features, which only the network reads.
@inline(__always)
private func momentumAlone(
    _ rule: lopt_rule, _ t: lopt_tensor_view, _ offset: Int, _ count: Int, _ k: Int, _ sums: Sums, _ rsqrt: Floats
) {
    let beta = lopt_splat(rule.momentum_beta[k]), rate = lopt_splat(rule.momentum_rate[k])
    let gradient = Gradient(t, offset)
    let moment = t.momentum + k * Int(t.plane_stride) + offset
    let slot = firstSlot(k)
    var m2 = sums[slot + LOPT_SUM_M2], mr2 = sums[slot + LOPT_SUM_M_RSQRT_V2]
    forEachVector(count) { i, n in
        let m = lopt_fma(beta, load(moment + i, n), rate * gradient.vector(i, n))
        store(moment + i, m, n)
        let mr = m * lopt_load(rsqrt + i)
        m2 = lopt_fma(m, m, m2)
        mr2 = lopt_fma(mr, mr, mr2)
    }
    sums[slot + LOPT_SUM_M2] = m2
    sums[slot + LOPT_SUM_M_RSQRT_V2] = mr2
}

/// The same for rank < 2, and diag_k <- beta_k diag_k + (1 - beta_k) (g^2 + 1e-30).
@inline(__always)
private func diagonal(
    _ rule: lopt_rule, _ t: lopt_tensor_view, _ offset: Int, _ count: Int, _ k: Int, _ sums: Sums, _ rsqrt: Floats
) {
    let beta = lopt_splat(rule.momentum_beta[k]), rate = lopt_splat(rule.momentum_rate[k])
    let factoredBeta = lopt_splat(rule.factored_beta[k]), factoredRate = lopt_splat(rule.factored_rate[k])
    let gradient = Gradient(t, offset)
    let moment = t.momentum + k * Int(t.plane_stride) + offset
    let accumulator = t.diagonal + k * Int(t.plane_stride) + offset
    let slot = firstSlot(k)
    forEachVectorOnce(count) { i, n in
        let g = gradient.vector(i, n)
        let m = lopt_fma(beta, load(moment + i, n), rate * g)
        store(moment + i, m, n)
        let d = masked(
            lopt_fma(factoredBeta, load(accumulator + i, n), factoredRate * (g * g + lopt_splat(1e-30))), n)
        store(accumulator + i, d, n)
        let f = DiagonalFeatures(g: g, m: m, d: d)
        let mr = m * lopt_load(rsqrt + i), root = masked(f.root, n)
        add(m, sums, slot + LOPT_SUM_M2)
        add(mr, sums, slot + LOPT_SUM_M_RSQRT_V2)
        add(f.gradient, sums, slot + LOPT_SUM_FACTORED_G2)
        add(f.momentum, sums, slot + LOPT_SUM_FACTORED_M2)
        add(d, sums, slot + LOPT_SUM_DIAGONAL2)
        add(root, sums, slot + LOPT_SUM_RSQRT_DIAGONAL2)
    }
}

@inline(__always)
private func add(_ x: Vector, _ sums: Sums, _ slot: Int) {
    sums[slot] = lopt_fma(x, x, sums[slot])
}

/// The features of rank < 2 that stand where the factored ones stand for rank >= 2. Each epsilon in its own place.
struct DiagonalFeatures {
    /// g rsqrt(max(diag + 1e-9, 1e-9))
    let gradient: Vector
    /// m (diag + 1e-6)^-1/2
    let momentum: Vector
    /// rsqrt(diag + 1e-8)
    let root: Vector

    @inline(__always)
    init(g: Vector, m: Vector, d: Vector) {
        gradient = g * lopt_rsqrt(lopt_max(d + lopt_splat(1e-9), lopt_splat(1e-9)))
        momentum = m * lopt_rsqrt(d + lopt_splat(1e-6))
        root = lopt_rsqrt(d + lopt_splat(1e-8))
    }
}
