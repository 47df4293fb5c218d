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
    /// The chunks of sweeps A, B and C.
    var chunks = 1
    private(set) var rowChunks = 1, columnChunks = 1
    private var planesPerChunk = 1, rowsPerChunk = 1, columnsPerChunk = 1

    /// Elements in a chunk, about: 0.1 to 0.2 ms of work, hundreds of times what handing it out costs.
    static let chunkElements = 32_768
    /// Of the contiguous run of a row: its column sums then stay in the first-level cache.
    static let chunkRun = 4096
    /// Row chunks of one plane, at the most: each has column sums of its own.
    static let mostRowChunks = 64
    static let mostElements = 1 << 48

    var run: Int { columns * inner }
    var planes: Int { outer * middle }
    var leadCount: Int { isFactored ? planes * rows * inner : 0 }
    var trailCount: Int { isFactored ? planes * run : 0 }
    /// Sweep D knows no rows.
    var flatChunks: Int { (count + Geometry.chunkElements - 1) / Geometry.chunkElements }
    /// Runs so short that a vector holds several rows.
    var hasShortRuns: Bool { inner == 1 && middle == 1 && (run < 16 || (run < 64 && run % 16 != 0)) }

    /// Throws for a rank or an extent out of range.
    init(shape: UnsafeBufferPointer<Int64>) throws(LOptError) {
        count = try Geometry.elements(shape)
        guard count > 0 else {
            chunks = 0
            return
        }
        guard let axes = factoredAxes(shape: shape) else {
            chunks = flatChunks
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
        cut()
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

    private mutating func cut() {
        let planeElements = rows * run
        if planeElements <= Geometry.chunkElements && run <= Geometry.chunkRun {
            planesPerChunk = max(1, Geometry.chunkElements / planeElements)
            rowsPerChunk = rows
            columnsPerChunk = run
            chunks = (planes + planesPerChunk - 1) / planesPerChunk
        } else {
            let wanted = (run + Geometry.chunkRun - 1) / Geometry.chunkRun
            columnsPerChunk = ((run + wanted - 1) / wanted + 15) / 16 * 16
            columnChunks = (run + columnsPerChunk - 1) / columnsPerChunk
            let leastRows = (rows + Geometry.mostRowChunks - 1) / Geometry.mostRowChunks
            rowsPerChunk = max(leastRows, (Geometry.chunkElements + columnsPerChunk - 1) / columnsPerChunk)
            rowChunks = (rows + rowsPerChunk - 1) / rowsPerChunk
            chunks = planes * rowChunks * columnChunks
        }
    }

    func chunk(_ index: Int) -> lopt_chunk {
        var chunk = lopt_chunk()
        if !isFactored {
            chunk.column0 = Int64(index * Geometry.chunkElements)
            chunk.column1 = Int64(min(count, (index + 1) * Geometry.chunkElements))
            return chunk
        }
        let within = rowChunks * columnChunks
        let plane = index / within * planesPerChunk
        let rowChunk = index % within / columnChunks, columnChunk = index % columnChunks
        chunk.plane0 = Int64(plane)
        chunk.plane1 = Int64(min(planes, plane + planesPerChunk))
        chunk.row_chunk = Int32(rowChunk)
        chunk.row0 = Int64(rowChunk * rowsPerChunk)
        chunk.row1 = Int64(min(rows, (rowChunk + 1) * rowsPerChunk))
        chunk.column_chunk = Int32(columnChunk)
        chunk.column0 = Int64(columnChunk * columnsPerChunk)
        chunk.column1 = Int64(min(run, (columnChunk + 1) * columnsPerChunk))
        return chunk
    }
}
