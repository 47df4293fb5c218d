import CLOptShims

/// The outputs of the network for 16 elements. small_fc has the first two only; the others are then 0.
struct Heads {
    var direction: Vector
    var magnitude: Vector
    var nominal: Vector
    var regularization: Vector
}

/// What a network is given of 16 elements: where they are, and the features that the step needs as well.
struct Element {
    let g: Vector
    let p: Vector
    let v: Vector
    /// rsqrt(v + 1e-6)
    let rs: Vector
    /// m_0; m_k lies k planes further.
    let momentum: Floats
    /// Rank < 2: likewise.
    let diagonal: Floats
    let lanes: Int
}

/// Evaluates the network for the elements of a tile. The first layer's sums over row and column features come in the
/// tile's channels; the bias comes with the row's.
protocol Network {
    init(_ rule: lopt_rule, _ t: lopt_tensor_view, _ scratch: Scratch)
    static var channels: Channels { get }
    /// Before the first vector of a tile; `tile` has no channels for rank < 2.
    func begin(_ tile: Tile)
    /// `i` is the first element of the vector within the tile.
    func heads(_ e: Element, _ i: Int, _ lead: Floats, _ leadStride: Int, _ trail: Floats, _ trailStride: Int) -> Heads
    /// Whether the nominal head alone is cheaper than all heads; `nominalHead` is called only then.
    static var hasCheapNominalHead: Bool { get }
    func nominalHead(
        _ e: Element, _ i: Int, _ lead: Floats, _ leadStride: Int, _ trail: Floats, _ trailStride: Int
    ) -> Vector
}

extension Network {
    static var hasCheapNominalHead: Bool { false }

    @inline(__always)
    func nominalHead(
        _ e: Element, _ i: Int, _ lead: Floats, _ leadStride: Int, _ trail: Floats, _ trailStride: Int
    ) -> Vector {
        heads(e, i, lead, leadStride, trail, trailStride).nominal
    }
}

/// Sums of four hidden units.
struct Block4 {
    var a: Vector, b: Vector, c: Vector, d: Vector

    /// Of 16 elements with the channels of their row and column.
    @inline(__always)
    init(_ lead: Floats, _ leadStride: Int, _ trail: Floats, _ trailStride: Int) {
        a = lopt_load(lead) + lopt_load(trail)
        b = lopt_load(lead + leadStride) + lopt_load(trail + trailStride)
        c = lopt_load(lead + 2 * leadStride) + lopt_load(trail + 2 * trailStride)
        d = lopt_load(lead + 3 * leadStride) + lopt_load(trail + 3 * trailStride)
    }

    @inline(__always)
    init(bias: Floats) {
        a = lopt_splat(bias[0])
        b = lopt_splat(bias[1])
        c = lopt_splat(bias[2])
        d = lopt_splat(bias[3])
    }

    @inline(__always)
    mutating func add(_ x: Vector, _ w: Floats) {
        a = lopt_fma(x, lopt_splat(w[0]), a)
        b = lopt_fma(x, lopt_splat(w[1]), b)
        c = lopt_fma(x, lopt_splat(w[2]), c)
        d = lopt_fma(x, lopt_splat(w[3]), d)
    }

    @inline(__always)
    var rectified: Block4 {
        var r = self
        r.a = relu(a)
        r.b = relu(b)
        r.c = relu(c)
        r.d = relu(d)
        return r
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

/// Calls `body(feature, weights)` for the element-wise features in the order of `element_weights`.
@inline(__always)
func forEachFeature(
    _ e: Element, _ rule: lopt_rule, _ t: lopt_tensor_view, _ hidden: Int, _ tile: TileFactors,
    _ body: (Vector, Floats) -> Void
) {
    var w: Floats = t.element_weights
    body(e.g, w)
    // A parameter that is not finite would reach the others through the means of the heads.
    body(lopt_finite(e.p), w + hidden)
    body(e.v, w + 2 * hidden)
    body(e.rs, w + 3 * hidden)
    w += 4 * hidden
    let stride = Int(t.plane_stride)
    if t.factored != 0 {
        for k in 0..<Int(rule.momenta) {
            let m = lopt_load(e.momentum + k * stride)
            let factor = lopt_load(tile.lead + k * tile.leadStride) * lopt_load(tile.trail + k * tile.trailStride)
            body(m, w)
            body(m * e.rs, w + hidden)
            body(e.g * factor, w + 2 * hidden)
            body(m * factor, w + 3 * hidden)
            w += 4 * hidden
        }
    } else {
        for k in 0..<Int(rule.momenta) {
            let m = lopt_load(e.momentum + k * stride)
            let d = lopt_load(e.diagonal + k * stride)
            let f = DiagonalFeatures(g: e.g, m: m, d: d)
            body(m, w)
            body(m * e.rs, w + hidden)
            body(f.gradient, w + 2 * hidden)
            body(f.momentum, w + 3 * hidden)
            body(d, w + 4 * hidden)
            body(f.root, w + 5 * hidden)
            w += 6 * hidden
        }
    }
}

/// The factor channels at the position of a vector.
struct TileFactors {
    let lead: Floats
    let leadStride: Int
    let trail: Floats
    let trailStride: Int
}

/// Width 4, STAR's: features and hidden units never leave the registers.
struct Width4: Network {
    private let rule: lopt_rule
    private let t: lopt_tensor_view

    static var channels: Channels { .folded }
    static var hasCheapNominalHead: Bool { true }

    @inline(__always)
    init(_ rule: lopt_rule, _ t: lopt_tensor_view, _ scratch: Scratch) {
        self.rule = rule
        self.t = t
    }

    @inline(__always)
    func begin(_ tile: Tile) {}

    @inline(__always)
    private func lastHidden(
        _ e: Element, _ lead: Floats, _ leadStride: Int, _ trail: Floats, _ trailStride: Int
    ) -> Block4 {
        let momenta = Int(rule.momenta)
        var h: Block4
        if t.factored != 0 {
            h = Block4(lead + momenta * leadStride, leadStride, trail + momenta * trailStride, trailStride)
        } else {
            h = Block4(bias: t.bias)
        }
        let factors = TileFactors(lead: lead, leadStride: leadStride, trail: trail, trailStride: trailStride)
        forEachFeature(e, rule, t, 4, factors) { x, w in h.add(x, w) }
        h = h.rectified
        var w: Floats = rule.hidden_weights
        for _ in 1..<Int(rule.hidden_layers) {
            h = h.layer(w).rectified
            w += 20
        }
        return h
    }

    @inline(__always)
    func heads(
        _ e: Element, _ i: Int, _ lead: Floats, _ leadStride: Int, _ trail: Floats, _ trailStride: Int
    ) -> Heads {
        let out = lastHidden(e, lead, leadStride, trail, trailStride).layer(rule.head_weights)
        return Heads(direction: out.a, magnitude: out.b, nominal: out.c, regularization: out.d)
    }

    @inline(__always)
    func nominalHead(
        _ e: Element, _ i: Int, _ lead: Floats, _ leadStride: Int, _ trail: Floats, _ trailStride: Int
    ) -> Vector {
        let h = lastHidden(e, lead, leadStride, trail, trailStride)
        let w: Floats = rule.head_weights + 2
        var n = lopt_fma(h.a, lopt_splat(w[0]), lopt_splat(w[16]))
        n = lopt_fma(h.b, lopt_splat(w[4]), n)
        n = lopt_fma(h.c, lopt_splat(w[8]), n)
        return lopt_fma(h.d, lopt_splat(w[12]), n)
    }
}
