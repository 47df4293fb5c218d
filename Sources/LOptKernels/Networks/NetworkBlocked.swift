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

/// Wider networks: features and hidden units in scratch memory that stays in the first-level cache, four or eight units in
/// registers at a time. The width is a multiple of 8; a network of another width has units
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

    @inline(never)
    func evaluate(_ tile: Tile, nominalAlone: Bool) {
        let units = W.units(rule)
        forEachWide(rule, t, tile, scratch) { i, e, place in
            let last = lastHidden(e, place)
            var out = Block4(bias: rule.head_weights + 4 * units)
            for j in 0..<units { out.add(loadWide(last + j * Self.step), rule.head_weights + 4 * j) }
            out.store(scratch, i)
        }
    }

    /// Floats from one feature or unit to the next.
    private static var step: Int { Int(LOPT_WIDE) }

    /// The last hidden layer.
    @inline(__always)
    private func lastHidden(_ e: Inputs, _ place: ChannelPlace) -> Floats {
        let units = W.units(rule), momenta = Int(rule.momenta)
        var features = 0
        forEachFeature(e, rule, t, units, place) { x, _ in
            storeWide(scratch.features + features * Self.step, x)
            features += 1
        }
        let half = units * Self.step
        var from: MutableFloats = scratch.hidden, to = scratch.hidden + half
        var block = 0
        while block < units {
            let sum = t.factored != 0 ? Block(place, momenta + block) : Block(bias: t.bias + block)
            dense(sum, scratch.features, features, t.element_weights + block, units, from + block * Self.step)
            block += Block.units
        }
        var w: Floats = rule.hidden_weights
        for _ in 1..<Int(rule.hidden_layers) {
            let bias = w + units * units
            block = 0
            while block < units {
                dense(Block(bias: bias + block), from, units, w + block, units, to + block * Self.step)
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
        for i in 0..<count { sum.add(loadWide(inputs + i * Self.step), weights + i * units) }
        sum.storeReLU(out)
    }
}

/// As many units as the registers hold: 8 accumulators on AVX-512, 4 elsewhere, of two registers each.
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
        let step = Int(LOPT_WIDE)
        storeWide(out, r.a)
        storeWide(out + step, r.b)
        storeWide(out + 2 * step, r.c)
        storeWide(out + 3 * step, r.d)
    }
}

struct Block8 {
    private var low: Block4, high: Block4
    static var units: Int { 8 }

    @inline(__always)
    init(_ place: ChannelPlace, _ channel: Int) {
        low = Block4(place, channel)
        high = Block4(place, channel + 4)
    }

    @inline(__always)
    init(bias: Floats) {
        low = Block4(bias: bias)
        high = Block4(bias: bias + 4)
    }

    @inline(__always)
    mutating func add(_ x: Wide, _ w: Floats) {
        low.add(x, w)
        high.add(x, w + 4)
    }

    @inline(__always)
    func storeReLU(_ out: MutableFloats) {
        low.storeReLU(out)
        high.storeReLU(out + 4 * Int(LOPT_WIDE))
    }
}
