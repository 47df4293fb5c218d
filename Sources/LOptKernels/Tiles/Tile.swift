import CLOptShims

/// Up to 512 elements that lie side by side in memory, with the channels of their rows and columns.
///
/// Channel c of element i is at `lead[c * leadStride + phase(i)]`, the phase advancing with i and wrapping at the period:
/// a row's channels have period 1 (inner = 1: sixteen copies of one number) or inner; when several rows share a vector the
/// columns have the period of a run instead. A period p is stored with its first 16 values repeated after it, so that a
/// vector load never has to wrap.
struct Tile {
    var offset: Int
    var count: Int
    /// Elements from here to the next tile, if that does not lie right behind this one; else 0. Passes ask for the memory of
    /// the next tile while they are at this one: a processor's own prefetching follows rows, not columns of tiles.
    var ahead = 0
    var lead: Axis
    var trail: Axis
}

struct Axis {
    var channels: Floats
    var stride: Int
    var start: Int
    var period: Int

    /// Not periodic within a tile.
    static let linear = Int.max
}

/// A position in the channels of a tile.
struct Phase {
    private(set) var offset: Int
    private let step: Int
    private let period: Int

    @inline(__always)
    init(_ axis: Axis) {
        offset = axis.start
        period = axis.period
        step = axis.period > lanes ? lanes : lanes % axis.period
    }

    /// Sixteen elements further.
    @inline(__always)
    mutating func advance() {
        offset &+= step
        if offset >= period { offset &-= period }
    }
}

/// What is made of the row and column statistics for each tile.
enum Channels {
    /// The K factors: all that the accumulator pass needs.
    case factors
    /// And the sums of the first layer over their features.
    case folded
    /// And the 2 K features themselves, normalised: BLAS path.
    case features
}

/// Calls `body` for each tile of a chunk of a tensor of rank >= 2.
@inline(__always)
func forEachTile(
    _ rule: lopt_rule, _ t: lopt_tensor_view, _ chunk: lopt_chunk, _ scratch: Scratch, _ kind: Channels,
    _ body: (Tile) -> Void
) {
    let maker = ChannelMaker(rule, t, scratch, kind)
    for plane in Int(chunk.plane0)..<Int(chunk.plane1) {
        if t.short_runs != 0 {
            forEachShortTile(maker, t, chunk, plane, body)
        } else {
            forEachRunTile(maker, t, chunk, plane, body)
        }
    }
}

/// Calls `body(offset, count)` for stretches of a chunk of a tensor of rank >= 2 that lie side by side in memory, in the order of
/// memory and across the ends of rows where nothing lies between them: all that needs no rows and columns.
@inline(__always)
func forEachStretch(_ t: lopt_tensor_view, _ chunk: lopt_chunk, _ body: (Int, Int) -> Void) {
    let run = Int(t.run), middle = Int(t.middle), rows = Int(t.rows)
    let column = Int(chunk.column0), width = Int(chunk.column1) - column, lines = Int(chunk.row1 - chunk.row0)
    let isWhole = width == run && middle == 1
    for plane in Int(chunk.plane0)..<Int(chunk.plane1) {
        let first = plane / middle * rows * middle + plane % middle + Int(chunk.row0) * middle
        for line in 0..<(isWhole ? 1 : lines) {
            var offset = (first + line * middle) * run + column
            let end = offset + (isWhole ? lines * run : width)
            while offset < end {
                let count = min(LOPT_TILE, end - offset)
                body(offset, count)
                offset += count
            }
        }
    }
}

/// Tiles within one run each, column range by column range, so that the channels of the columns serve all rows.
@inline(__always)
private func forEachRunTile(
    _ maker: ChannelMaker, _ t: lopt_tensor_view, _ chunk: lopt_chunk, _ plane: Int, _ body: (Tile) -> Void
) {
    let run = Int(t.run), inner = Int(t.inner), middle = Int(t.middle)
    let firstLine = plane / middle * Int(t.rows) * middle + plane % middle
    let stride = Scratch.channelStride
    // With one tile to the row, the next row follows, or (middle > 1) one that is prefetched well enough.
    let ahead = chunk.column1 - chunk.column0 > LOPT_TILE ? run * middle : 0
    var column = Int(chunk.column0)
    while column < Int(chunk.column1) {
        let count = min(LOPT_TILE, Int(chunk.column1) - column)
        maker.makeTrail(plane * run + column, count)
        let trail = Axis(channels: maker.scratch.trail, stride: stride, start: 0, period: Axis.linear)
        var row = Int(chunk.row0)
        while row < Int(chunk.row1) {
            let last = min(row + Scratch.rowBatch, Int(chunk.row1))
            if inner == 1 { maker.makeRows(firstLine + row * middle, middle, last - row) }
            for r in row..<last {
                let line = firstLine + r * middle
                let lead: Axis
                if inner == 1 {
                    lead = maker.splatRow(r - row)
                } else {
                    lead = maker.makeInner(line * inner, column % inner, count)
                }
                body(Tile(offset: line * run + column, count: count, ahead: ahead, lead: lead, trail: trail))
            }
            row = last
        }
        column += count
    }
}

/// Tiles of whole rows whose runs are too short to fill vectors.
@inline(__always)
private func forEachShortTile(
    _ maker: ChannelMaker, _ t: lopt_tensor_view, _ chunk: lopt_chunk, _ plane: Int, _ body: (Tile) -> Void
) {
    let run = Int(t.run), rows = Int(t.rows)
    maker.makeTrail(plane * run, run)
    maker.extend(maker.scratch.trail, Scratch.channelStride, run)
    let trail = Axis(channels: maker.scratch.trail, stride: Scratch.channelStride, start: 0, period: run)
    let batch = LOPT_TILE / run
    var row = Int(chunk.row0)
    while row < Int(chunk.row1) {
        let count = min(batch, Int(chunk.row1) - row)
        maker.makeRows(plane * rows + row, 1, count)
        let lead = maker.expandRows(count, run)
        body(Tile(offset: (plane * rows + row) * run, count: count * run, lead: lead, trail: trail))
        row += count
    }
}
