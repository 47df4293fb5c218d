import CLOptShims

/// How a tensor lies in memory, and how it is cut into chunks. Both follow from the shape alone, so that sums are taken in
/// the same order whatever the number of threads.
struct Geometry {
    /// [outer, rows, middle, columns, inner], see lopt_kernels.h; for rank < 2 all 1 but `count`.
    var count = 1
    var isFactored = false
    var outer = 1, rows = 1, middle = 1, columns = 1, inner = 1
    /// Rank >= 2: the row statistic of the rule is the leading one.
    var leadIsRow = true
    /// The chunks of the accumulator pass and the network pass.
    var chunks = 1
    private var cut = Cut()
    /// The gradient pass keeps sums of the rows and of the columns of each chunk. It has the chunks of the other passes, but where these
    /// would hold few columns for each inner index and so nearly as many sums as elements.
    private(set) var sums = Cut()
    private(set) var sumChunks = 1

    /// How a plane is cut; small planes go several to a chunk.
    struct Cut {
        var planesPerChunk = 1
        var rowsPerChunk = 1, rowChunks = 1
        /// Of elements of a run; with `inner`, of columns.
        var columnsPerChunk = 1, columnChunks = 1
        /// Inner indices in a chunk, 0: the chunk is not cut along them.
        var innerPerChunk = 0, innerChunks = 1

        var chunksPerPlane: Int { rowChunks * columnChunks * innerChunks }
    }

    /// Elements in a chunk, about: 0.1 to 0.2 ms of work, hundreds of times what handing it out costs.
    static let chunkElements = 32_768
    /// Of the contiguous run of a row: its column sums then stay in the first-level cache.
    static let chunkRun = 4096
    /// Row chunks of one plane, at the most: each has column sums of its own.
    static let mostRowChunks = 64
    /// Columns or rows in a chunk from which its sums are few beside its elements.
    static let fewSums = 16
    static let mostElements = 1 << 48

    var run: Int { columns * inner }
    var planes: Int { outer * middle }
    var leadCount: Int { isFactored ? planes * rows * inner : 0 }
    var trailCount: Int { isFactored ? planes * run : 0 }
    /// The element pass knows no rows.
    @inline(__always)
    var flatChunks: Int { (count + Geometry.chunkElements - 1) / Geometry.chunkElements }
    /// Its elements of chunk `index`.
    @inline(__always)
    func flatChunk(_ index: Int) -> Range<Int> {
        index * Geometry.chunkElements..<min(count, (index + 1) * Geometry.chunkElements)
    }
    /// Runs so short that a vector holds several rows.
    var hasShortRuns: Bool { inner == 1 && middle == 1 && (run < 16 || (run < 64 && run % 16 != 0)) }

    /// Throws for a rank or an extent out of range.
    init(shape: UnsafeBufferPointer<Int64>) throws(LOptError) {
        count = try Geometry.elements(shape)
        guard count > 0 else {
            chunks = 0
            sumChunks = 0
            return
        }
        guard let axes = factoredAxes(shape: shape) else {
            chunks = flatChunks
            sumChunks = flatChunks
            return
        }
        isFactored = true
        let first = min(axes.d1, axes.d0), second = max(axes.d1, axes.d0)
        for axis in 0..<shape.count {
            let extent = Int(shape[axis])
            if axis < first {
                outer *= extent
            } else if axis == first {
                rows = extent
            } else if axis < second {
                middle *= extent
            } else if axis == second {
                columns = extent
            } else {
                inner *= extent
            }
        }
        // row is the mean over d0: it keeps the rows if d0 is the column axis.
        leadIsRow = axes.d0 == second
        cut = wholeRuns()
        sums = inner * Geometry.fewSums > cut.columnsPerChunk && cut.chunksPerPlane > 1 ? innerBlocks() : cut
        chunks = Geometry.pieces(planes, cut.planesPerChunk) * cut.chunksPerPlane
        sumChunks = Geometry.pieces(planes, sums.planesPerChunk) * sums.chunksPerPlane
    }

    /// Of a tensor whose rows and columns do not matter.
    init(flat count: Int) {
        self.count = count
        chunks = flatChunks
        sumChunks = flatChunks
    }

    static func elements(_ shape: UnsafeBufferPointer<Int64>) throws(LOptError) -> Int {
        guard shape.count <= 8 else { throw LOptError(.invalidArgument, "rank is \(shape.count); allowed are 0 to 8") }
        var count = 1
        var isEmpty = false
        for axis in 0..<shape.count {
            let extent = Int(shape[axis])
            guard extent >= 0 else {
                throw LOptError(.invalidArgument, "shape[\(axis)] is \(extent); it must not be negative")
            }
            if extent == 0 { isEmpty = true }
            let (product, overflow) = count.multipliedReportingOverflow(by: max(extent, 1))
            guard !overflow, product <= mostElements else {
                throw LOptError(.invalidArgument, "shape[\(axis)] = \(extent) makes more than 2^48 elements")
            }
            count = product
        }
        return isEmpty ? 0 : count
    }

    private static func pieces(_ count: Int, _ size: Int) -> Int { (count + size - 1) / size }

    /// The least size of which `pieces(count, most)` pieces are enough.
    private static func even(_ count: Int, _ most: Int) -> Int { pieces(count, pieces(count, most)) }

    /// Chunks of stretches of runs.
    private func wholeRuns() -> Cut {
        var cut = Cut()
        if run <= Geometry.chunkRun && rows <= Geometry.chunkElements / run {
            cut.planesPerChunk = max(1, Geometry.chunkElements / (rows * run))
            cut.rowsPerChunk = rows
            cut.columnsPerChunk = run
        } else {
            cut.columnsPerChunk = (Geometry.even(run, Geometry.chunkRun) + 15) / 16 * 16
            cut.columnChunks = Geometry.pieces(run, cut.columnsPerChunk)
            let leastRows = Geometry.pieces(rows, Geometry.mostRowChunks)
            cut.rowsPerChunk = max(leastRows, Geometry.pieces(Geometry.chunkElements, cut.columnsPerChunk))
            cut.rowChunks = Geometry.pieces(rows, cut.rowsPerChunk)
        }
        return cut
    }

    /// Chunks of many rows and many columns, and of as many inner indices as make twice the usual chunk: each of its sums is of
    /// 16 elements or more, unless the tensor has fewer rows or columns.
    private func innerBlocks() -> Cut {
        var cut = Cut()
        cut.innerPerChunk = (Geometry.even(inner, 128) + 15) / 16 * 16
        cut.innerChunks = Geometry.pieces(inner, cut.innerPerChunk)
        cut.columnsPerChunk = Geometry.even(columns, 2 * Geometry.fewSums)
        cut.columnChunks = Geometry.pieces(columns, cut.columnsPerChunk)
        let leastRows = Geometry.pieces(rows, Geometry.mostRowChunks)
        let block = cut.columnsPerChunk * cut.innerPerChunk
        cut.rowsPerChunk = Geometry.even(rows, max(leastRows, Geometry.pieces(2 * Geometry.chunkElements, block)))
        cut.rowChunks = Geometry.pieces(rows, cut.rowsPerChunk)
        return cut
    }

    func chunk(_ index: Int) -> lopt_chunk { chunk(index, cut) }

    /// Of the gradient pass.
    func sumChunk(_ index: Int) -> lopt_chunk { chunk(index, sums) }

    private func chunk(_ index: Int, _ cut: Cut) -> lopt_chunk {
        var chunk = lopt_chunk()
        if !isFactored {
            let elements = flatChunk(index)
            (chunk.column0, chunk.column1) = (Int64(elements.lowerBound), Int64(elements.upperBound))
            return chunk
        }
        let plane = index / cut.chunksPerPlane * cut.planesPerChunk
        let block = index % cut.chunksPerPlane / cut.innerChunks, innerChunk = index % cut.innerChunks
        let rowChunk = block / cut.columnChunks, columnChunk = block % cut.columnChunks
        let across = cut.innerPerChunk > 0 ? columns : run
        chunk.plane0 = Int64(plane)
        chunk.plane1 = Int64(min(planes, plane + cut.planesPerChunk))
        chunk.row_chunk = Int64(rowChunk)
        chunk.row0 = Int64(rowChunk * cut.rowsPerChunk)
        chunk.row1 = Int64(min(rows, (rowChunk + 1) * cut.rowsPerChunk))
        chunk.column_chunk = Int64(columnChunk)
        chunk.column0 = Int64(columnChunk * cut.columnsPerChunk)
        chunk.column1 = Int64(min(across, (columnChunk + 1) * cut.columnsPerChunk))
        chunk.inner0 = Int64(innerChunk * cut.innerPerChunk)
        chunk.inner1 = Int64(min(inner, (innerChunk + 1) * cut.innerPerChunk))
        return chunk
    }
}
