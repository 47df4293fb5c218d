import CLOptShims

/// The one pass of a step with weights of kind pooled: momenta and second moment take in the gradient, the parameters take the
/// step whose size is known beforehand, and what the next step wants to know is summed up. Three momenta.
func pooledPass(
    _ rule: lopt_rule, _ t: lopt_tensor_view, _ step: lopt_pooled, _ begin: Int, _ end: Int,
    _ total: UnsafeMutablePointer<Double>, _ memory: MutableFloats
) {
    var sums = Sums(lane: Scratch(memory, rule).sums, slots: Int(LOPT_SUMS_POOLED), total: total)
    var offset = begin
    while offset < end {
        let count = min(LOPT_TILE, end - offset)
        tile(rule, t, step, offset, count, sums, updates: step.updates_state != 0, writes: step.writes != 0)
        sums.added((count + lanes - 1) / lanes)
        offset += count
    }
    sums.flush()
}

@inline(__always)
private func tile(
    _ rule: lopt_rule, _ t: lopt_tensor_view, _ step: lopt_pooled, _ offset: Int, _ count: Int, _ sums: Sums, updates: Bool,
    writes: Bool
) {
    let stride = Int(t.plane_stride), one = lopt_splat(1)
    let gradient = Gradient(t, offset), parameter = t.parameter + offset, second = t.second_moment + offset
    let first1 = t.momentum + offset, first2 = first1 + stride, first3 = first2 + stride
    let betaV = lopt_splat(rule.rms_beta), rateV = lopt_splat(rule.rms_rate), epsilon = lopt_splat(step.epsilon)
    let beta1 = lopt_splat(rule.momentum_beta[0]), rate1 = lopt_splat(rule.momentum_rate[0])
    let beta2 = lopt_splat(rule.momentum_beta[1]), rate2 = lopt_splat(rule.momentum_rate[1])
    let beta3 = lopt_splat(rule.momentum_beta[2]), rate3 = lopt_splat(rule.momentum_rate[2])
    let c1 = lopt_splat(step.momentum1), c2 = lopt_splat(step.momentum2), c3 = lopt_splat(step.momentum3)
    let c = lopt_splat(step.gradient), disagreement = lopt_splat(step.disagreement)
    let keep = lopt_splat(step.keep), idle = lopt_splat(step.idle_keep), scale = lopt_splat(step.scale)
    var live = sums[LOPT_POOLED_LIVE], live2 = sums[LOPT_POOLED_LIVE_P2], p2 = sums[LOPT_POOLED_P2]
    var nonfinite = sums[LOPT_POOLED_NONFINITE], g2 = sums[LOPT_POOLED_G2], u2 = sums[LOPT_POOLED_U2], h2 = sums[LOPT_POOLED_H2]
    var a2 = (sums[LOPT_POOLED_A2], sums[LOPT_POOLED_A2 + 1], sums[LOPT_POOLED_A2 + 2])
    var ha = (sums[LOPT_POOLED_HA], sums[LOPT_POOLED_HA + 1], sums[LOPT_POOLED_HA + 2])
    var a13 = sums[LOPT_POOLED_A1A3], a23 = sums[LOPT_POOLED_A2A3]
    forEachVectorOnce(count) { i, n in
        let g = gradient.vector(i, n), raw = load(parameter + i, n)
        let q = g * g
        var v = lopt_load(second + i), m1 = lopt_load(first1 + i), m2 = lopt_load(first2 + i), m3 = lopt_load(first3 + i)
        if updates {
            v = lopt_fma(betaV, v, rateV * q)
            m1 = lopt_fma(beta1, m1, rate1 * g)
            m2 = lopt_fma(beta2, m2, rate2 * g)
            m3 = lopt_fma(beta3, m3, rate3 * g)
            store(second + i, v, n)
            store(first1 + i, m1, n)
            store(first2 + i, m2, n)
            store(first3 + i, m3, n)
        }
        let r = lopt_fast_rsqrt(v + epsilon)
        let h = g * r, x1 = m1 * r, x2 = m2 * r, x3 = m3 * r
        let d = lopt_fma(c1, x1, lopt_fma(c2, x2, c3 * x3))
        let whole = lopt_fma(c, h, d)
        let u = lopt_where_negative(h * d, disagreement * whole, whole) * scale
        let p = lopt_fma(raw, lopt_where_negative(-v, keep, idle), -u)
        if writes { store(parameter + i, p, n) }
        let strange = lopt_nonfinite_lanes(raw), found = lopt_finite(raw), left = writes ? lopt_finite(p) : found
        live += lopt_positive(one - strange, v)
        live2 += lopt_positive(left * left, v)
        p2 = lopt_fma(found, found, p2)
        nonfinite += strange
        g2 += q
        u2 = lopt_fma(u, u, u2)
        h2 = lopt_fma(h, h, h2)
        a2 = (lopt_fma(x1, x1, a2.0), lopt_fma(x2, x2, a2.1), lopt_fma(x3, x3, a2.2))
        ha = (lopt_fma(h, x1, ha.0), lopt_fma(h, x2, ha.1), lopt_fma(h, x3, ha.2))
        a13 = lopt_fma(x1, x3, a13)
        a23 = lopt_fma(x2, x3, a23)
    }
    sums[LOPT_POOLED_LIVE] = live
    sums[LOPT_POOLED_LIVE_P2] = live2
    sums[LOPT_POOLED_P2] = p2
    sums[LOPT_POOLED_NONFINITE] = nonfinite
    sums[LOPT_POOLED_G2] = g2
    sums[LOPT_POOLED_U2] = u2
    sums[LOPT_POOLED_H2] = h2
    (sums[LOPT_POOLED_A2], sums[LOPT_POOLED_A2 + 1], sums[LOPT_POOLED_A2 + 2]) = a2
    (sums[LOPT_POOLED_HA], sums[LOPT_POOLED_HA + 1], sums[LOPT_POOLED_HA + 2]) = ha
    sums[LOPT_POOLED_A1A3] = a13
    sums[LOPT_POOLED_A2A3] = a23
}
