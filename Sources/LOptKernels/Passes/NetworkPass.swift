import CLOptShims

/// The network pass: features, network and step of a chunk, as `apply` says.
@inline(__always)
func networkPass<N: Network>(
    _ network: N.Type, _ rule: lopt_rule, _ t: lopt_tensor_view, _ apply: lopt_apply, _ chunk: lopt_chunk,
    _ total: UnsafeMutablePointer<Double>, _ memory: MutableFloats
) {
    let scratch = Scratch(memory, rule)
    let network = N(rule, t, scratch)
    var sums = Sums(lane: scratch.sums, slots: LOPT_SUMS_UPDATE, total: total)
    var tiles = Tiles(rule, t, chunk, scratch, N.channels)
    while let tile = tiles.next() {
        step(network, rule, t, apply, tile, sums)
        sums.added((tile.count + lanes - 1) / lanes)
    }
    sums.flush()
}

// One copy for all tiles of a network, which is inlined whole.
@inline(never)
private func step<N: Network>(
    _ network: N, _ rule: lopt_rule, _ t: lopt_tensor_view, _ apply: lopt_apply, _ tile: Tile, _ sums: Sums
) {
    network.begin(tile)
    var lead = Phase(tile.lead), trail = Phase(tile.trail)
    forEachVectorOnce(tile.count) { i, n in
        let at = tile.offset + i
        if tile.ahead != 0 { prefetch(rule, t, at + tile.ahead) }
        // Our own arrays may be read past their end; what lies there goes no further than the unused lanes.
        let v = lopt_load(t.second_moment + at)
        let e = Element(
            g: Gradient(t, at).vector(0, n), p: load(t.parameter + at, n), v: v, rs: lopt_rsqrt(v + lopt_splat(1e-6)),
            momentum: t.momentum + at, diagonal: t.factored != 0 ? Floats(t.momentum) : Floats(t.diagonal + at), lanes: n)
        let leads = tile.lead.channels + lead.offset, trails = tile.trail.channels + trail.offset
        if N.hasCheapNominalHead && Int(apply.head_sums) == LOPT_HEAD_SUMS_NOMINAL {
            let n = network.nominalHead(e, i, leads, tile.lead.stride, trails, tile.trail.stride)
            let slot = LOPT_SUM_NOMINAL
            sums[slot] = sums[slot] + masked(n, e.lanes)
        } else {
            let heads = network.heads(e, i, leads, tile.lead.stride, trails, tile.trail.stride)
            finish(rule, t, apply, e, heads, at, sums)
        }
        lead.advance()
        trail.advance()
    }
}

@inline(__always)
private func prefetch(_ rule: lopt_rule, _ t: lopt_tensor_view, _ at: Int) {
    lopt_prefetch(t.gradient + at)
    lopt_prefetch(t.parameter + at)
    lopt_prefetch(t.second_moment + at)
    for k in 0..<Int(rule.momenta) { lopt_prefetch(t.momentum + (k * Int(t.plane_stride) + at)) }
}

/// p <- (keep p - u) caller_keep - w for 16 elements.
@inline(__always)
private func finish(
    _ rule: lopt_rule, _ t: lopt_tensor_view, _ apply: lopt_apply, _ e: Element, _ heads: Heads, _ at: Int, _ sums: Sums
) {
    if Int(apply.head_sums) != LOPT_HEAD_SUMS_NONE {
        add(heads.magnitude, e.lanes, sums, LOPT_SUM_MAGNITUDE)
        add(heads.nominal, e.lanes, sums, LOPT_SUM_NOMINAL)
        add(heads.regularization, e.lanes, sums, LOPT_SUM_REGULARIZATION)
    }
    var u = lopt_splat(0)
    if Int(apply.blackbox) != LOPT_TERM_OFF {
        let isNumber = Int(apply.blackbox) == LOPT_TERM_NUMBER
        let magnitude = isNumber ? lopt_splat(apply.blackbox_magnitude) : heads.magnitude
        u = heads.direction * exp(magnitude * lopt_splat(rule.exp_mult_magnitude)) * lopt_splat(apply.blackbox_scale)
        if rule.normalize_blackbox != 0 { u *= e.rs }
        add(u * u, e.lanes, sums, LOPT_SUM_U2)
    }
    var w = lopt_splat(0)
    var callerKeep = lopt_splat(apply.caller_keep)
    if Int(apply.nominal) != LOPT_TERM_OFF {
        w = direction(rule, t, e) * lopt_splat(apply.nominal_scale)
        if Int(apply.nominal) == LOPT_TERM_PER_ELEMENT {
            let n = heads.nominal + lopt_splat(apply.nominal_offset)
            let logStep = lopt_min(lopt_max(n, lopt_splat(apply.nominal_least)), lopt_splat(apply.nominal_most))
            let size = exp(logStep * lopt_splat(rule.exp_mult_nominal))
            w *= size
            callerKeep = lopt_max(callerKeep - lopt_splat(apply.caller_decay) * size, lopt_splat(0))
        }
        add(u * w, e.lanes, sums, LOPT_SUM_UW)
        add(w * w, e.lanes, sums, LOPT_SUM_W2)
    }
    guard apply.write != 0 else { return }
    var keep = lopt_splat(apply.decay_keep)
    if Int(apply.decay) == LOPT_TERM_PER_ELEMENT {
        let r = exp(heads.regularization * lopt_splat(rule.exp_mult_regularization))
        keep = keep - lopt_splat(apply.decay_scale) * r
    }
    let p = (e.p * keep - u) * callerKeep
    store(t.parameter + at, Int(apply.nominal) == LOPT_TERM_MEASURED ? p : p - w, e.lanes)
}

@inline(__always)
private func add(_ x: Vector, _ count: Int, _ sums: Sums, _ slot: Int) {
    sums[slot] = sums[slot] + masked(x, count)
}

/// G of the nominal term.
@inline(__always)
func direction(_ rule: lopt_rule, _ t: lopt_tensor_view, _ e: Element) -> Vector {
    var sum = e.g * lopt_splat(rule.gradient_weight)
    for k in 0..<Int(rule.momenta) {
        let m = lopt_load(e.momentum + k * Int(t.plane_stride))
        sum = lopt_fma(m, lopt_splat(rule.direction_weights[k]), sum)
    }
    guard rule.direction_normalized != 0 else { return sum }
    if rule.nominal_epsilon_is_own != 0 { return sum * lopt_rsqrt(e.v + lopt_splat(rule.nominal_epsilon)) }
    return sum * e.rs
}
