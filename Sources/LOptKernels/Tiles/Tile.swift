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

    /// As many elements further as a `Wide` has; returns how far its second vector is from its first.
    @inline(__always)
    mutating func advanceWide() -> Int {
        let first = offset
        advance()
        #if LOPT_AVX512
        let up = offset &- first
        advance()
        return up
        #else
        return 0
        #endif
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

/// The tiles of a chunk, one after the other, their channels made. One copy of it serves all passes.
///
/// Of rank >= 2, tiles lie within one run each, column range by column range, so that the channels of the columns serve all rows. Where runs
/// are too short to fill vectors, a tile is of several whole rows. Of rank < 2, there are no channels.
struct Tiles {
    private let maker: ChannelMaker
    private let chunk: lopt_chunk
    private let run: Int, inner: Int, middle: Int, rows: Int
    private let isShort: Bool
    /// With one tile to the row, the next row follows, or (middle > 1) one that is prefetched well enough.
    private let ahead: Int
    private var plane: Int, column: Int, row: Int
    /// Rows whose channels are made, as far as `row` is behind it.
    private var batchStart = 0, batchEnd: Int
    /// Of rank < 2.
    private var flat: Int

    @inline(__always)
    init(_ rule: lopt_rule, _ t: lopt_tensor_view, _ chunk: lopt_chunk, _ scratch: Scratch, _ kind: Channels) {
        maker = ChannelMaker(rule, t, scratch, kind)
        self.chunk = chunk
        (run, inner, middle, rows) = (Int(t.run), Int(t.inner), Int(t.middle), Int(t.rows))
        isShort = t.short_runs != 0
        ahead = chunk.column1 - chunk.column0 > LOPT_TILE ? run * middle : 0
        flat = Int(chunk.column0)
        // As after the last row of a plane before the first.
        (plane, column) = (Int(chunk.plane0) - 1, Int(chunk.column1))
        (row, batchEnd) = (Int(chunk.row1), Int(chunk.row1))
    }

    @inline(never)
    mutating func next() -> Tile? {
        if maker.t.factored == 0 { return nextFlat() }
        if row == Int(chunk.row1) {
            column += LOPT_TILE
            if column >= Int(chunk.column1) || isShort {
                plane += 1
                column = Int(chunk.column0)
                if plane == Int(chunk.plane1) { return nil }
            }
            row = Int(chunk.row0)
            batchEnd = row
            makeColumns()
        }
        return isShort ? nextShort() : nextOfRun()
    }

    @inline(__always)
    private mutating func nextFlat() -> Tile? {
        guard flat < Int(chunk.column1) else { return nil }
        // Never read.
        let none = Axis(channels: maker.scratch.lead, stride: 0, start: 0, period: 1)
        let tile = Tile(offset: flat, count: min(LOPT_TILE, Int(chunk.column1) - flat), lead: none, trail: none)
        flat += LOPT_TILE
        return tile
    }

    private var width: Int { isShort ? run : min(LOPT_TILE, Int(chunk.column1) - column) }

    @inline(__always)
    private func makeColumns() {
        maker.makeTrail(plane * run + column, width)
        if isShort { maker.extend(maker.scratch.trail, Scratch.channelStride, run) }
    }

    @inline(__always)
    private func trail(period: Int) -> Axis {
        Axis(channels: maker.scratch.trail, stride: Scratch.channelStride, start: 0, period: period)
    }

    @inline(__always)
    private mutating func nextOfRun() -> Tile {
        let firstLine = plane / middle * rows * middle + plane % middle
        if row == batchEnd {
            batchStart = row
            batchEnd = min(row + Scratch.rowBatch, Int(chunk.row1))
            if inner == 1 { maker.makeRows(firstLine + row * middle, middle, batchEnd - row) }
        }
        let line = firstLine + row * middle
        let lead = inner == 1 ? maker.splatRow(row - batchStart) : maker.makeInner(line * inner, column % inner, width)
        row += 1
        return Tile(offset: line * run + column, count: width, ahead: ahead, lead: lead, trail: trail(period: Axis.linear))
    }

    @inline(__always)
    private mutating func nextShort() -> Tile {
        let count = min(LOPT_TILE / run, Int(chunk.row1) - row), first = plane * rows + row
        maker.makeRows(first, 1, count)
        let lead = maker.expandRows(count, run)
        row += count
        return Tile(offset: first * run, count: count * run, lead: lead, trail: trail(period: run))
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
