import CLOptShims

/// Networks so wide that a matrix product pays: all features of a tile are laid out as a matrix [features x elements], each
/// already divided by its size, and every layer is one call of sgemm.
struct MatrixProducts: Network {
    private let rule: lopt_rule
    private let t: lopt_tensor_view
    private let features: MutableFloats
    private let hidden: MutableFloats
    private let out: MutableFloats

    static var channels: Channels { .features }
    private static var stride: Int { Scratch.channelStride }

    @inline(__always)
    init(_ rule: lopt_rule, _ t: lopt_tensor_view, _ scratch: Scratch) {
        self.rule = rule
        self.t = t
        features = scratch.blas
        hidden = features + (4 + 8 * Int(rule.momenta)) * Self.stride
        out = hidden + 2 * Int(rule.hidden) * Self.stride
    }

    @inline(never)
    func begin(_ tile: Tile) {
        layOut(tile)
        let units = Int(rule.hidden), columns = (tile.count + lanes - 1) / lanes * lanes
        var from = hidden, to = hidden + units * Self.stride
        multiply(rule.first_weights, units, 4 + 8 * Int(rule.momenta), features, columns, from)
        addBiasAndReLU(from, t.bias, columns)
        var w: Floats = rule.hidden_weights
        for _ in 1..<Int(rule.hidden_layers) {
            multiply(w, units, units, from, columns, to)
            addBiasAndReLU(to, w + units * units, columns)
            w += units * units + units
            (from, to) = (to, from)
        }
        multiply(rule.head_weights, LOPT_HEADS, units, from, columns, out)
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

    @inline(__always)
    func heads(
        _ e: Element, _ i: Int, _ lead: Floats, _ leadStride: Int, _ trail: Floats, _ trailStride: Int
    ) -> Heads {
        Heads(
            direction: head(LOPT_HEAD_DIRECTION, i), magnitude: head(LOPT_HEAD_MAGNITUDE, i),
            nominal: head(LOPT_HEAD_NOMINAL, i),
            regularization: head(LOPT_HEAD_REGULARIZATION, i))
    }

    @inline(__always)
    private func head(_ index: Int, _ i: Int) -> Vector {
        let bias = rule.head_weights[4 * Int(rule.hidden) + index]
        return lopt_load(out + index * Self.stride + i) + lopt_splat(bias)
    }

    @inline(__always)
    private func addBiasAndReLU(_ layer: MutableFloats, _ bias: Floats, _ columns: Int) {
        for j in 0..<Int(rule.hidden) {
            let row = layer + j * Self.stride
            var i = 0
            while i < columns {
                lopt_store(row + i, relu(lopt_load(row + i) + lopt_splat(bias[j])))
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
