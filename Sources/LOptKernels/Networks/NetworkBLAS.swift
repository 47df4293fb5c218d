import CLOptShims

/// Networks so wide that a matrix product pays: all features of a tile are laid out as a matrix [features x elements], each
/// already divided by its size, and every layer is one call of sgemm.
struct MatrixProducts: Network {
    private let rule: lopt_rule
    private let t: lopt_tensor_view
    private let features: MutableFloats
    private let hidden: MutableFloats
    private let scratch: Scratch

    static var channels: Channels { .features }
    private static var stride: Int { Scratch.channelStride }

    @inline(__always)
    init(_ rule: lopt_rule, _ t: lopt_tensor_view, _ scratch: Scratch) {
        self.rule = rule
        self.t = t
        self.scratch = scratch
        features = scratch.blas
        hidden = features + (4 + 8 * Int(rule.momenta)) * Self.stride
    }

    @inline(never)
    func evaluate(_ tile: Tile, nominalAlone: Bool) {
        layOut(tile)
        let units = Int(rule.hidden), columns = (tile.count + lanes - 1) / lanes * lanes
        var from = hidden, to = hidden + units * Self.stride
        multiply(rule.first_weights, units, 4 + 8 * Int(rule.momenta), features, columns, from)
        addBias(from, t.bias, units, columns) { lopt_relu($0) }
        var w: Floats = rule.hidden_weights
        for _ in 1..<Int(rule.hidden_layers) {
            multiply(w, units, units, from, columns, to)
            addBias(to, w + units * units, units, columns) { lopt_relu($0) }
            w += units * units + units
            (from, to) = (to, from)
        }
        multiply(rule.head_weights, LOPT_HEADS, units, from, columns, scratch.heads)
        addBias(scratch.heads, rule.head_weights + LOPT_HEADS * units, LOPT_HEADS, columns) { $0 }
    }

    /// output [units x columns] = weights^T input, weights [inputs x units], input [inputs x columns].
    @inline(__always)
    private func multiply(
        _ weights: Floats, _ units: Int, _ inputs: Int, _ input: Floats, _ columns: Int, _ output: MutableFloats
    ) {
        guard let sgemm = rule.sgemm else { return }
        let m = Int32(units), n = Int32(columns), k = Int32(inputs), stride = Int32(Self.stride)
        sgemm(
            Int32(LOPT_CBLAS_ROW_MAJOR), Int32(LOPT_CBLAS_TRANSPOSE), Int32(LOPT_CBLAS_NO_TRANSPOSE), m, n, k, 1, weights, m,
            input, stride, 0, output, stride)
    }

    /// Adds to each row of a layer its bias and makes of it what `activated` says.
    @inline(__always)
    private func addBias(
        _ layer: MutableFloats, _ bias: Floats, _ units: Int, _ columns: Int, _ activated: (Vector) -> Vector
    ) {
        for j in 0..<units {
            let row = layer + j * Self.stride
            var i = 0
            while i < columns {
                lopt_store(row + i, activated(lopt_load(row + i) + lopt_splat(bias[j])))
                i += lanes
            }
        }
    }

    /// Writes one feature of 16 elements, in the order of update-rule.md section 2.
    @inline(__always)
    private func put(_ feature: Int, _ i: Int, _ x: Vector) {
        lopt_store(features + feature * Self.stride + i, x * lopt_splat(t.feature_scale[feature]))
    }

    @inline(__always)
    private func layOut(_ tile: Tile) {
        let momenta = Int(rule.momenta), stride = Int(t.plane_stride)
        var lead = Phase(tile.lead), trail = Phase(tile.trail)
        forEachVectorOnce(tile.count) { i, n in
            let at = tile.offset + i
            let g = Gradient(t, at).vector(0, n), v = lopt_load(t.second_moment + at)
            let rs = lopt_rsqrt(v + lopt_splat(1e-6))
            lopt_store(scratch.rsqrt + i, rs)
            put(0, i, g)
            put(1, i, lopt_finite(load(t.parameter + at, n)))
            put(2 + momenta, i, v)
            put(3 + 2 * momenta, i, rs)
            for k in 0..<momenta {
                let m = lopt_load(t.momentum + k * stride + at)
                put(2 + k, i, m)
                put(3 + momenta + k, i, m * rs)
                if t.factored != 0 {
                    putFactored(k, i, g, m, tile, lead.offset, trail.offset)
                } else {
                    putDiagonal(k, i, g, m, lopt_load(t.diagonal + k * stride + at))
                }
            }
            lead.advance()
            trail.advance()
        }
    }

    @inline(__always)
    private func putFactored(
        _ k: Int, _ i: Int, _ g: Vector, _ m: Vector, _ tile: Tile, _ leadOffset: Int, _ trailOffset: Int
    ) {
        let momenta = Int(rule.momenta)
        let lead = tile.lead.channels + leadOffset, trail = tile.trail.channels + trailOffset
        let factor = lopt_load(lead + k * tile.lead.stride) * lopt_load(trail + k * tile.trail.stride)
        put(4 + 2 * momenta + k, i, g * factor)
        put(4 + 7 * momenta + k, i, m * factor)
        // These come normalised in the channels.
        let row = t.lead_is_row != 0 ? 0 : momenta, column = momenta - row
        for root in 0..<2 {
            let channel = momenta + root * momenta + k, feature = 4 + (3 + 2 * root) * momenta + k
            let leading = lopt_load(lead + channel * tile.lead.stride)
            let trailing = lopt_load(trail + channel * tile.trail.stride)
            lopt_store(features + (feature + row) * Self.stride + i, leading)
            lopt_store(features + (feature + column) * Self.stride + i, trailing)
        }
    }

    @inline(__always)
    private func putDiagonal(_ k: Int, _ i: Int, _ g: Vector, _ m: Vector, _ d: Vector) {
        let momenta = Int(rule.momenta)
        let f = DiagonalFeatures(g: g, m: m, d: d)
        put(4 + 2 * momenta + k, i, f.gradient)
        put(4 + 3 * momenta + k, i, d)
        put(4 + 4 * momenta + k, i, d)
        put(4 + 5 * momenta + k, i, f.root)
        put(4 + 6 * momenta + k, i, f.root)
        put(4 + 7 * momenta + k, i, f.momentum)
    }
}
