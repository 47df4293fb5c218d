import CLOptShims

/// Makes the channels of rows and columns: factors, and what the first layer needs of the features that depend on the row
/// or the column only (update-rule.md section 4).
struct ChannelMaker {
    let t: lopt_tensor_view
    let scratch: Scratch
    private let momenta: Int
    private let hidden: Int
    private let kind: Channels
    /// K factors and the folds.
    let channels: Int

    @inline(__always)
    init(_ rule: lopt_rule, _ t: lopt_tensor_view, _ scratch: Scratch, _ kind: Channels) {
        self.t = t
        self.scratch = scratch
        self.kind = kind
        momenta = Int(rule.momenta)
        hidden = Int(rule.hidden)
        switch kind {
        case .factors: channels = momenta
        case .folded: channels = momenta + hidden
        case .features: channels = 3 * momenta
        }
    }

    /// Channels of `count` columns from `index` of the trailing statistics on.
    @inline(never)
    func makeTrail(_ index: Int, _ count: Int) {
        let planes = Int(t.trail_count)
        make(
            t.trail + index, t.trail_factor + index, planes, count, scratch.trail, t.trail_weights, bias: false,
            scales: t.lead_is_row != 0 ? columnScale : rowScale)
    }

    /// Channels of `count` rows, whose leading statistics lie `step` apart from `index` on. inner = 1.
    @inline(never)
    func makeRows(_ index: Int, _ step: Int, _ count: Int) {
        var planes = Int(t.lead_count)
        var accumulators = t.lead + index, factors = t.lead_factor + index
        if step != 1 {
            let stride = Scratch.rowBatch + lanes
            for k in 0..<momenta {
                for i in 0..<count {
                    scratch.gathered[k * stride + i] = accumulators[k * planes + i * step]
                    scratch.gathered[(momenta + k) * stride + i] = factors[k * planes + i * step]
                }
            }
            accumulators = scratch.gathered
            factors = scratch.gathered + momenta * stride
            planes = stride
        }
        make(
            accumulators, factors, planes, count, scratch.rows, t.lead_weights, bias: true,
            scales: t.lead_is_row != 0 ? rowScale : columnScale)
    }

    /// The channels of one row of the batch, as sixteen copies each.
    @inline(__always)
    func splatRow(_ row: Int) -> Axis {
        for c in 0..<channels {
            lopt_store(scratch.lead + c * lanes, lopt_splat(scratch.rows[c * Scratch.channelStride + row]))
        }
        return Axis(channels: scratch.lead, stride: lanes, start: 0, period: 1)
    }

    /// The channels of the batch's rows, each value repeated for the `run` elements of its row.
    @inline(never)
    func expandRows(_ count: Int, _ run: Int) -> Axis {
        for c in 0..<channels {
            let from = scratch.rows + c * Scratch.channelStride
            let to = scratch.lead + c * Scratch.channelStride
            for row in 0..<count {
                // Whole vectors: what is written too far is written again by the next row, or lies in the padding.
                var i = 0
                while i < run {
                    lopt_store(to + row * run + i, lopt_splat(from[row]))
                    i += lanes
                }
            }
        }
        return Axis(channels: scratch.lead, stride: Scratch.channelStride, start: 0, period: Axis.linear)
    }

    /// The channels of one row with inner > 1, `count` elements from `first` (mod inner) on.
    @inline(never)
    func makeInner(_ index: Int, _ first: Int, _ count: Int) -> Axis {
        let inner = Int(t.inner), planes = Int(t.lead_count)
        let scales = t.lead_is_row != 0 ? rowScale : columnScale
        if inner <= count {
            make(t.lead + index, t.lead_factor + index, planes, inner, scratch.lead, t.lead_weights, bias: true,
                scales: scales)
            extend(scratch.lead, Scratch.channelStride, inner)
            return Axis(channels: scratch.lead, stride: Scratch.channelStride, start: first, period: inner)
        }
        // Less than one period: what is needed, in order; it wraps at most once.
        let head = min(count, inner - first)
        make(t.lead + index + first, t.lead_factor + index + first, planes, head, scratch.lead, t.lead_weights,
            bias: true, scales: scales)
        if head < count {
            make(t.lead + index, t.lead_factor + index, planes, count - head, scratch.lead + head, t.lead_weights,
                bias: true, scales: scales)
        }
        return Axis(channels: scratch.lead, stride: Scratch.channelStride, start: 0, period: Axis.linear)
    }

    /// Repeats the first 16 values of each channel of period `period` after its end.
    @inline(__always)
    func extend(_ buffer: MutableFloats, _ stride: Int, _ period: Int) {
        for c in 0..<channels {
            let channel = buffer + c * stride
            for i in 0..<lanes { channel[period + i] = channel[i] }
        }
    }

    /// Where the normalisers of row and column features lie in the 4 + 8 K features of update-rule.md section 2.
    private var rowScale: Int { 4 + 3 * momenta }
    private var columnScale: Int { 4 + 4 * momenta }

    /// Writes whole vectors: up to 15 floats past `count` in each channel.
    @inline(never)
    private func make(
        _ accumulators: Floats, _ factors: Floats, _ planes: Int, _ count: Int, _ out: MutableFloats,
        _ weights: Floats?, bias: Bool, scales: Int
    ) {
        let stride = Scratch.channelStride
        var i = 0
        while i < count {
            for k in 0..<momenta {
                lopt_store(out + k * stride + i, lopt_load(factors + k * planes + i))
            }
            if kind != .factors {
                for k in 0..<momenta {
                    let a = lopt_load(accumulators + k * planes + i)
                    lopt_store(scratch.folded + 2 * k * lanes, a)
                    lopt_store(scratch.folded + (2 * k + 1) * lanes, lopt_rsqrt(a + lopt_splat(1e-8)))
                }
            }
            if kind == .folded, let weights { fold(out + momenta * stride + i, weights, bias) }
            if kind == .features { normalise(out + momenta * stride + i, scales) }
            i += lanes
        }
    }

    @inline(__always)
    private func fold(_ out: MutableFloats, _ weights: Floats, _ bias: Bool) {
        for j in 0..<hidden {
            var sum = bias ? lopt_splat(t.bias[j]) : lopt_splat(0)
            for f in 0..<(2 * momenta) {
                sum = lopt_fma(lopt_load(scratch.folded + f * lanes), lopt_splat(weights[f * hidden + j]), sum)
            }
            lopt_store(out + j * Scratch.channelStride, sum)
        }
    }

    /// The accumulators, then their reciprocal roots, each divided by its size.
    @inline(__always)
    private func normalise(_ out: MutableFloats, _ scales: Int) {
        for k in 0..<momenta {
            let raw = lopt_load(scratch.folded + 2 * k * lanes)
            let root = lopt_load(scratch.folded + (2 * k + 1) * lanes)
            lopt_store(out + k * Scratch.channelStride, raw * lopt_splat(t.feature_scale[scales + k]))
            lopt_store(
                out + (momenta + k) * Scratch.channelStride,
                root * lopt_splat(t.feature_scale[scales + 2 * momenta + k]))
        }
    }
}
