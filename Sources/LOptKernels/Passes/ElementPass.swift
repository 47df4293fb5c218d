import CLOptShims

/// The element pass: a step, or the rest of one, that needs no network: p <- keep caller_keep p - w.
func elementPass(
    _ rule: lopt_rule, _ t: lopt_tensor_view, _ apply: lopt_apply, _ begin: Int, _ end: Int,
    _ total: UnsafeMutablePointer<Double>, _ memory: MutableFloats
) {
    var sums = Sums(lane: Scratch(memory, rule).sums, slots: LOPT_SUMS_UPDATE, total: total)
    let keep = lopt_splat(apply.decay_keep * apply.caller_keep), scale = lopt_splat(apply.nominal_scale)
    let slot = LOPT_SUM_W2
    var offset = begin
    while offset < end {
        let count = min(LOPT_TILE, end - offset)
        var squares = sums[slot]
        forEachVector(count) { i, n in
            let at = offset + i
            let v = lopt_load(t.second_moment + at), p = load(t.parameter + at, n)
            // The features' reciprocal root is computed here only if the direction uses it.
            let e = Element(
                g: Gradient(t, at).vector(0, n), p: p, rs: lopt_rsqrt(v + lopt_splat(1e-6)), at: at, lanes: n)
            let w = direction(rule, t, e) * scale
            squares += masked(w * w, n)
            if apply.write != 0 { store(t.parameter + at, p * keep - w, n) }
        }
        sums[slot] = squares
        sums.added((count + lanes - 1) / lanes)
        offset += count
    }
    sums.flush()
}
