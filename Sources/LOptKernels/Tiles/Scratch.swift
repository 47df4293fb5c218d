import CLOptShims

/// The scratch memory of one worker, cut into its arrays. Channels are the per-row or per-column quantities that an element
/// needs: K factors, then the `hidden` sums of the first layer over the features of the row or column.
struct Scratch {
    /// Floats from one channel of a tile to the next.
    static let channelStride = Int(LOPT_TILE) + 2 * lanes
    /// Rows whose channels are made at a time.
    static let rowBatch = 64

    let lead: MutableFloats
    let trail: MutableFloats
    /// Channels of a batch of rows; in short-run mode of up to a tile of rows.
    let rows: MutableFloats
    /// Accumulators and factors of a batch of rows that do not lie side by side.
    let gathered: MutableFloats
    /// 2 K vectors.
    let folded: MutableFloats
    /// rsqrt(v + 1e-6) of a tile.
    let rsqrt: MutableFloats
    /// Slots of sums, 16 lanes each.
    let sums: MutableFloats
    /// Features of a `Wide` of elements, then two layers of hidden units.
    let features: MutableFloats
    let hidden: MutableFloats
    /// Heads of a tile.
    let heads: MutableFloats
    /// BLAS path: features x tile, hidden x tile twice.
    let blas: MutableFloats

    /// For the gradient pass: accumulators for inner > 1, at most one for each vector of a run of a chunk.
    static let gradientPassFloats = 4096 + lanes

    @inline(__always)
    init(_ memory: MutableFloats, _ rule: lopt_rule) {
        let sizes = Scratch.sizes(rule)
        lead = memory
        trail = lead + sizes.channels
        rows = trail + sizes.channels
        gathered = rows + sizes.channels
        folded = gathered + sizes.gathered
        rsqrt = folded + sizes.folded
        sums = rsqrt + Scratch.channelStride
        features = sums + LOPT_SUMS_MOMENTS * lanes
        hidden = features + sizes.features
        heads = hidden + sizes.hidden
        blas = heads + LOPT_HEADS * Scratch.channelStride
    }

    typealias Sizes = (channels: Int, gathered: Int, folded: Int, features: Int, hidden: Int, blas: Int)

    @inline(__always)
    static func sizes(_ rule: lopt_rule) -> Sizes {
        let momenta = Int(rule.momenta), hidden = Int(rule.hidden)
        let isBLAS = rule.path == Int32(LOPT_PATH_BLAS)
        let folds = isBLAS ? 2 * momenta : hidden
        let columns = 4 + 8 * momenta + 2 * hidden
        return (
            channels: (momenta + folds) * channelStride,
            gathered: 2 * momenta * (rowBatch + lanes),
            folded: 2 * momenta * lanes,
            features: (4 + 6 * momenta) * Int(LOPT_WIDE),
            hidden: 2 * hidden * Int(LOPT_WIDE),
            blas: isBLAS ? columns * channelStride : 0
        )
    }

    static func floats(_ rule: lopt_rule) -> Int {
        let s = sizes(rule)
        let all = 3 * s.channels + s.gathered + s.folded + channelStride + LOPT_SUMS_MOMENTS * lanes
            + s.features + s.hidden + LOPT_HEADS * channelStride + s.blas
        return max(all, gradientPassFloats, PooledScratch.floats)
    }
}
