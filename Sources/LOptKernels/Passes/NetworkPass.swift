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
        network.evaluate(tile, nominalAlone: Int(apply.head_sums) == LOPT_HEAD_SUMS_NOMINAL)
        step(rule, t, apply, tile, scratch, sums)
        sums.added((tile.count + lanes - 1) / lanes)
    }
    sums.flush()
}

/// What of a tile a step reads, beside the heads of a network.
struct Element {
    let g: Vector
    let p: Vector
    /// rsqrt(v + 1e-6)
    let rs: Vector
    /// The place in the tensor, and how many there are.
    let at: Int
    let lanes: Int
}

/// The step of the elements of a tile, whose heads have been evaluated; one copy for all networks.
@inline(never)
private func step(
    _ rule: lopt_rule, _ t: lopt_tensor_view, _ apply: lopt_apply, _ tile: Tile, _ scratch: Scratch, _ sums: Sums
) {
    forEachVectorOnce(tile.count) { i, n in
        let at = tile.offset + i, heads = scratch.heads + i
        @inline(__always) func head(_ index: Int) -> Vector { lopt_load(heads + index * Scratch.channelStride) }
        if Int(apply.head_sums) == LOPT_HEAD_SUMS_NOMINAL {
            add(head(LOPT_HEAD_NOMINAL), n, sums, LOPT_SUM_NOMINAL)
        } else {
            let e = Element(
                g: Gradient(t, at).vector(0, n), p: load(t.parameter + at, n), rs: lopt_load(scratch.rsqrt + i), at: at, lanes: n)
            let all = Heads(
                direction: head(LOPT_HEAD_DIRECTION), magnitude: head(LOPT_HEAD_MAGNITUDE), nominal: head(LOPT_HEAD_NOMINAL),
                regularization: head(LOPT_HEAD_REGULARIZATION))
            finish(rule, t, apply, e, all, sums)
        }
    }
}

/// The outputs of the network for 16 elements. small_fc has the first two only; the others are then 0.
private struct Heads {
    let direction: Vector
    let magnitude: Vector
    let nominal: Vector
    let regularization: Vector
}

/// p <- (keep p - u) caller_keep - w for 16 elements.
@inline(__always)
private func finish(
    _ rule: lopt_rule, _ t: lopt_tensor_view, _ apply: lopt_apply, _ e: Element, _ heads: Heads, _ sums: Sums
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
    store(t.parameter + e.at, Int(apply.nominal) == LOPT_TERM_MEASURED ? p : p - w, e.lanes)
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
        let m = lopt_load(t.momentum + (k * Int(t.plane_stride) + e.at))
        sum = lopt_fma(m, lopt_splat(rule.direction_weights[k]), sum)
    }
    guard rule.direction_normalized != 0 else { return sum }
    if rule.nominal_epsilon_is_own != 0 {
        return sum * lopt_rsqrt(lopt_load(t.second_moment + e.at) + lopt_splat(rule.nominal_epsilon))
    }
    return sum * e.rs
}
