import CLOptShims

/// A number of hidden units known at compile time, or not.
protocol Width {
    static func units(_ rule: lopt_rule) -> Int
}

enum Eight: Width {
    @inline(__always) static func units(_ rule: lopt_rule) -> Int { 8 }
}
enum Sixteen: Width {
    @inline(__always) static func units(_ rule: lopt_rule) -> Int { 16 }
}
enum ThirtyTwo: Width {
    @inline(__always) static func units(_ rule: lopt_rule) -> Int { 32 }
}
enum AnyWidth: Width {
    @inline(__always) static func units(_ rule: lopt_rule) -> Int { Int(rule.hidden) }
}

/// Wider networks, for 16 elements at a time: features and hidden units in scratch memory that stays in the first-level
/// cache, four or eight units in registers at a time. The width is a multiple of 8; a network of another width has units
/// with weights 0 added to it.
struct Blocked<W: Width>: Network {
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

    @inline(__always)
    func begin(_ tile: Tile) {}

    @inline(__always)
    func heads(
        _ e: Element, _ i: Int, _ lead: Floats, _ leadStride: Int, _ trail: Floats, _ trailStride: Int
    ) -> Heads {
        let units = W.units(rule)
        let last = lastHidden(e, lead, leadStride, trail, trailStride)
        var out = Block4(bias: rule.head_weights + 4 * units)
        for j in 0..<units { out.add(lopt_load(last + j * lanes), rule.head_weights + 4 * j) }
        return Heads(direction: out.a, magnitude: out.b, nominal: out.c, regularization: out.d)
    }

    /// The last hidden layer, `units` vectors.
    @inline(__always)
    private func lastHidden(
        _ e: Element, _ lead: Floats, _ leadStride: Int, _ trail: Floats, _ trailStride: Int
    ) -> Floats {
        let units = W.units(rule), momenta = Int(rule.momenta)
        var features = 0
        let factors = TileFactors(lead: lead, leadStride: leadStride, trail: trail, trailStride: trailStride)
        forEachFeature(e, rule, t, units, factors) { x, _ in
            lopt_store(scratch.features + features * lanes, x)
            features += 1
        }
        let half = units * lanes
        var from: MutableFloats = scratch.hidden, to = scratch.hidden + half
        var block = 0
        while block < units {
            let sum: Block
            if t.factored != 0 {
                let unit = momenta + block
                sum = Block(lead + unit * leadStride, leadStride, trail + unit * trailStride, trailStride)
            } else {
                sum = Block(bias: t.bias + block)
            }
            dense(sum, scratch.features, features, t.element_weights + block, units, from + block * lanes)
            block += Block.units
        }
        var w: Floats = rule.hidden_weights
        for _ in 1..<Int(rule.hidden_layers) {
            let bias = w + units * units
            block = 0
            while block < units {
                dense(Block(bias: bias + block), from, units, w + block, units, to + block * lanes)
                block += Block.units
            }
            w = bias + units
            (from, to) = (to, from)
        }
        return Floats(from)
    }

    /// One block of units of a layer with ReLU: `count` inputs, weights of one input `units` floats apart.
    @inline(__always)
    private func dense(
        _ start: Block, _ inputs: Floats, _ count: Int, _ weights: Floats, _ units: Int, _ out: MutableFloats
    ) {
        var sum = start
        for i in 0..<count { sum.add(lopt_load(inputs + i * lanes), weights + i * units) }
        sum.storeReLU(out)
    }
}

/// As many units as the registers hold: 8 accumulators on AVX-512, 4 (of two registers each) elsewhere.
#if LOPT_AVX512
typealias Block = Block8
#else
typealias Block = Block4
#endif

extension Block4 {
    static var units: Int { 4 }

    @inline(__always)
    func storeReLU(_ out: MutableFloats) {
        let r = rectified
        lopt_store(out, r.a)
        lopt_store(out + lanes, r.b)
        lopt_store(out + 2 * lanes, r.c)
        lopt_store(out + 3 * lanes, r.d)
    }
}

struct Block8 {
    private var low: Block4, high: Block4
    static var units: Int { 8 }

    @inline(__always)
    init(_ lead: Floats, _ leadStride: Int, _ trail: Floats, _ trailStride: Int) {
        low = Block4(lead, leadStride, trail, trailStride)
        high = Block4(lead + 4 * leadStride, leadStride, trail + 4 * trailStride, trailStride)
    }

    @inline(__always)
    init(bias: Floats) {
        low = Block4(bias: bias)
        high = Block4(bias: bias + 4)
    }

    @inline(__always)
    mutating func add(_ x: Vector, _ w: Floats) {
        low.add(x, w)
        high.add(x, w + 4)
    }

    @inline(__always)
    func storeReLU(_ out: MutableFloats) {
        low.storeReLU(out)
        high.storeReLU(out + 4 * lanes)
    }
}
