import CLOptShims

/// Between the gradient pass and the accumulator pass: the factored accumulators row_k and col_k take in the means of g^2, and the factors R_k and C_k
/// of update-rule.md section 1 are made from them, if a network reads them. Also returns, for each k, the means of lead^2, rsqrt(lead + 1e-8)^2 and
/// the same of trail: an element-wise feature that depends on the row only has the mean square of the rows.
func updateFactors(_ rule: lopt_rule, _ t: lopt_tensor_view, _ means: UnsafeMutablePointer<Double>) {
    let leadCount = Int(t.lead_count), trailCount = Int(t.trail_count)
    reducePartials(t.lead_partial, Int(t.column_chunks), leadCount, t.partial_scale / Double(t.columns))
    reducePartials(t.trail_partial, Int(t.row_chunks), trailCount, t.partial_scale / Double(t.rows))
    for k in 0..<Int(rule.momenta) {
        let beta = rule.factored_beta[k], rate = rule.factored_rate[k]
        let lead = t.lead + k * leadCount, trail = t.trail + k * trailCount
        let leadFactor = t.lead_factor + k * leadCount, trailFactor = t.trail_factor + k * trailCount
        let mean = means + 4 * k
        (mean[0], mean[1]) = decay(lead, t.lead_partial, leadCount, beta, rate)
        (mean[2], mean[3]) = decay(trail, t.trail_partial, trailCount, beta, rate)
        if rule.reads_features == 0 { continue }
        if t.lead_is_row != 0 {
            rowFactorsOfLead(t, lead, leadFactor)
            columnFactors(trail, trailFactor, trailCount)
        } else {
            rowFactorsOfTrail(t, trail, trailFactor)
            columnFactors(lead, leadFactor, leadCount)
        }
    }
}

/// The mean over the chunks, into the first: the q of the rule without its 1e-30.
private func reducePartials(_ partial: MutableFloats, _ chunks: Int, _ count: Int, _ scale: Double) {
    for i in 0..<count {
        var sum = 0.0
        for chunk in 0..<chunks { sum += Double(partial[chunk * count + i]) }
        partial[i] = Float(sum * scale)
    }
}

/// a <- beta a + rate (q + 1e-30); returns the means of a^2 and of 1 / (a + 1e-8).
private func decay(_ a: MutableFloats, _ q: Floats, _ count: Int, _ beta: Float, _ rate: Float) -> (Double, Double) {
    var squares = 0.0, reciprocals = 0.0
    forEachVectorOnce(count) { i, n in
        let updated = lopt_fma(lopt_splat(beta), load(a + i, n), lopt_splat(rate) * (load(q + i, n) + lopt_splat(1e-30)))
        store(a + i, updated, n)
        let root = masked(lopt_rsqrt(updated + lopt_splat(1e-8)), n)
        let valid = masked(updated, n)
        squares += Double(lopt_sum(valid * valid))
        reciprocals += Double(lopt_sum(root * root))
    }
    return (squares / Double(count), reciprocals / Double(count))
}

/// C = rsqrt(max(col, 1e-9)).
private func columnFactors(_ column: Floats, _ factor: MutableFloats, _ count: Int) {
    forEachVectorOnce(count) { i, n in
        store(factor + i, lopt_rsqrt(lopt_max(load(column + i, n), lopt_splat(1e-9))), n)
    }
}

/// R = rsqrt(max(row / (mean + 1e-9), 1e-9)).
@inline(__always)
private func rowFactor(_ row: Float, _ mean: Double) -> Float {
    1 / max(row / (Float(mean) + 1e-9), 1e-9).squareRoot()
}

/// Row statistics that lie in `lead`: their mean is over the rows, for each outer, middle and inner.
private func rowFactorsOfLead(_ t: lopt_tensor_view, _ lead: Floats, _ factor: MutableFloats) {
    let rows = Int(t.rows), step = Int(t.middle * t.inner)
    for outer in 0..<Int(t.planes / t.middle) {
        for i in 0..<step {
            let start = outer * rows * step + i
            var sum = 0.0
            for row in 0..<rows { sum += Double(lead[start + row * step]) }
            let mean = sum / Double(rows)
            for row in 0..<rows { factor[start + row * step] = rowFactor(lead[start + row * step], mean) }
        }
    }
}

/// Row statistics that lie in `trail`: their mean is over the columns, for each plane and inner.
private func rowFactorsOfTrail(_ t: lopt_tensor_view, _ trail: Floats, _ factor: MutableFloats) {
    let columns = Int(t.columns), inner = Int(t.inner)
    for plane in 0..<Int(t.planes) {
        for k in 0..<inner {
            let start = plane * Int(t.run) + k
            var sum = 0.0
            for column in 0..<columns { sum += Double(trail[start + column * inner]) }
            let mean = sum / Double(columns)
            for column in 0..<columns {
                factor[start + column * inner] = rowFactor(trail[start + column * inner], mean)
            }
        }
    }
}
