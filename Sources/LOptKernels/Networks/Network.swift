import CLOptShims

/// What a network is given of some elements, but for their row and column.
struct Inputs {
    let g: Wide
    let p: Wide
    let v: Wide
    /// rsqrt(v + 1e-6)
    let rs: Wide
    private let momenta, diagonals: Floats
    private let plane: Int
    private let up: Int

    /// Our own arrays may be read past their end; what lies there goes no further than the unused lanes.
    @inline(__always)
    init(_ t: lopt_tensor_view, _ at: Int, _ count: Int) {
        up = count > lanes ? lanes : 0
        g = Gradient(t, at).wide(count)
        p = loadWide(t.parameter + at, count: count)
        v = loadWide(t.second_moment + at, up)
        rs = lopt_rsqrt(v + lopt_wide_splat(1e-6))
        momenta = Floats(t.momentum + at)
        diagonals = t.factored != 0 ? momenta : Floats(t.diagonal + at)
        plane = Int(t.plane_stride)
    }

    @inline(__always)
    func momentum(_ k: Int) -> Wide { loadWide(momenta + k * plane, up) }
    /// Rank < 2.
    @inline(__always)
    func diagonal(_ k: Int) -> Wide { loadWide(diagonals + k * plane, up) }
}

/// Evaluates the network for the elements of a tile, into `scratch.heads`; rsqrt(v + 1e-6) goes into `scratch.rsqrt`. The first
/// layer's sums over row and column features come in the tile's channels, the bias with the row's; of rank < 2 there are none.
protocol Network {
    init(_ rule: lopt_rule, _ t: lopt_tensor_view, _ scratch: Scratch)
    static var channels: Channels { get }
    /// `nominalAlone`: no other head is needed.
    func evaluate(_ tile: Tile, nominalAlone: Bool)
}

/// Calls `body(i, inputs, channels)` for the elements of a tile, as many as a `Wide` has at a time.
@inline(__always)
func forEachWide(
    _ rule: lopt_rule, _ t: lopt_tensor_view, _ tile: Tile, _ scratch: Scratch, _ body: (Int, Inputs, ChannelPlace) -> Void
) {
    var lead = Phase(tile.lead), trail = Phase(tile.trail)
    var i = 0
    while i < tile.count {
        if tile.ahead != 0 { prefetch(rule, t, tile.offset + i + tile.ahead) }
        let inputs = Inputs(t, tile.offset + i, min(Int(LOPT_WIDE), tile.count - i))
        storeWide(scratch.rsqrt + i, inputs.rs)
        body(i, inputs, ChannelPlace(tile, &lead, &trail))
        i += Int(LOPT_WIDE)
    }
}

@inline(__always)
private func prefetch(_ rule: lopt_rule, _ t: lopt_tensor_view, _ first: Int) {
    for at in stride(from: first, to: first + Int(LOPT_WIDE), by: lanes) {
        lopt_prefetch(t.gradient + at)
        lopt_prefetch(t.parameter + at)
        lopt_prefetch(t.second_moment + at)
        for k in 0..<Int(rule.momenta) { lopt_prefetch(t.momentum + (k * Int(t.plane_stride) + at)) }
    }
}

/// Sums of four hidden units.
struct Block4 {
    var a: Wide, b: Wide, c: Wide, d: Wide

    /// What the row and the column contribute, in four channels.
    @inline(__always)
    init(_ place: ChannelPlace, _ channel: Int) {
        a = place.lead(channel) + place.trail(channel)
        b = place.lead(channel + 1) + place.trail(channel + 1)
        c = place.lead(channel + 2) + place.trail(channel + 2)
        d = place.lead(channel + 3) + place.trail(channel + 3)
    }

    @inline(__always)
    init(bias: Floats) {
        a = lopt_wide_splat(bias[0])
        b = lopt_wide_splat(bias[1])
        c = lopt_wide_splat(bias[2])
        d = lopt_wide_splat(bias[3])
    }

    @inline(__always)
    mutating func add(_ x: Wide, _ w: Floats) {
        a = lopt_fma(x, lopt_wide_splat(w[0]), a)
        b = lopt_fma(x, lopt_wide_splat(w[1]), b)
        c = lopt_fma(x, lopt_wide_splat(w[2]), c)
        d = lopt_fma(x, lopt_wide_splat(w[3]), d)
    }

    @inline(__always)
    var rectified: Block4 {
        var r = self
        r.a = lopt_relu(a)
        r.b = lopt_relu(b)
        r.c = lopt_relu(c)
        r.d = lopt_relu(d)
        return r
    }

    /// As the four heads of the elements from `i` on.
    @inline(__always)
    func store(_ scratch: Scratch, _ i: Int) {
        let heads = scratch.heads + i
        storeWide(heads + LOPT_HEAD_DIRECTION * Scratch.channelStride, a)
        storeWide(heads + LOPT_HEAD_MAGNITUDE * Scratch.channelStride, b)
        storeWide(heads + LOPT_HEAD_NOMINAL * Scratch.channelStride, c)
        storeWide(heads + LOPT_HEAD_REGULARIZATION * Scratch.channelStride, d)
    }

    /// The next layer of four units: w is 4 x 4, then 4 biases.
    @inline(__always)
    func layer(_ w: Floats) -> Block4 {
        var next = Block4(bias: w + 16)
        next.add(a, w)
        next.add(b, w + 4)
        next.add(c, w + 8)
        next.add(d, w + 12)
        return next
    }
}

/// Calls `body(feature, weights)` for the element-wise features in the order of `element_weights`, as far as they have any.
@inline(__always)
func forEachFeature(
    _ e: Inputs, _ rule: lopt_rule, _ t: lopt_tensor_view, _ hidden: Int, _ place: ChannelPlace,
    _ body: (Wide, Floats) -> Void
) {
    var w: Floats = t.element_weights
    var live = t.live_features
    // Of the next feature.
    @inline(__always) func take(_ feature: @autoclosure () -> Wide) {
        if live & 1 != 0 {
            body(feature(), w)
            w += hidden
        }
        live >>= 1
    }
    take(e.g)
    // A parameter that is not finite would reach the others through the means of the heads.
    take(lopt_finite(e.p))
    take(e.v)
    take(e.rs)
    for k in 0..<Int(rule.momenta) {
        let m = e.momentum(k)
        take(m)
        take(m * e.rs)
        if t.factored != 0 {
            let factor = place.lead(k) * place.trail(k)
            take(e.g * factor)
            take(m * factor)
        } else {
            // As in `DiagonalFeatures`.
            let d = e.diagonal(k), least = lopt_wide_splat(1e-9)
            take(e.g * lopt_rsqrt(lopt_max(d + least, least)))
            take(m * lopt_rsqrt(d + lopt_wide_splat(1e-6)))
            take(d)
            take(lopt_rsqrt(d + lopt_wide_splat(1e-8)))
        }
    }
}

/// Width 4, STAR's: features and hidden units never leave the registers.
struct Width4: Network {
    private let rule: lopt_rule
    private let t: lopt_tensor_view
    private let scratch: Scratch

    static var channels: Channels { .folded }

    @inline(__always)
    init(_ rule: lopt_rule, _ t: lopt_tensor_view, _ scratch: Scratch) {
        self.rule = rule
        self.t = t
        self.scratch = scratch
    }

    @inline(never)
    func evaluate(_ tile: Tile, nominalAlone: Bool) {
        let heads: Floats = rule.head_weights
        forEachWide(rule, t, tile, scratch) { i, e, place in
            let h = lastHidden(e, place)
            if nominalAlone {
                let w = heads + LOPT_HEAD_NOMINAL
                var n = lopt_fma(h.a, lopt_wide_splat(w[0]), lopt_wide_splat(w[16]))
                n = lopt_fma(h.b, lopt_wide_splat(w[4]), n)
                n = lopt_fma(h.c, lopt_wide_splat(w[8]), n)
                n = lopt_fma(h.d, lopt_wide_splat(w[12]), n)
                storeWide(scratch.heads + (LOPT_HEAD_NOMINAL * Scratch.channelStride + i), n)
            } else {
                h.layer(heads).store(scratch, i)
            }
        }
    }

    @inline(__always)
    private func lastHidden(_ e: Inputs, _ place: ChannelPlace) -> Block4 {
        var h = t.factored != 0 ? Block4(place, Int(rule.momenta)) : Block4(bias: t.bias)
        forEachFeature(e, rule, t, 4, place) { x, w in h.add(x, w) }
        h = h.rectified
        var w: Floats = rule.hidden_weights
        for _ in 1..<Int(rule.hidden_layers) {
            h = h.layer(w).rectified
            w += 20
        }
        return h
    }
}
