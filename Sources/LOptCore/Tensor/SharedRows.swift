import CLOptShims

/// How the rows of a tensor (indices of its first axis) go to several optimizers, in order: in pieces that begin and end where a chunk
/// does, so that everybody's chunks are those of the whole tensor. Follows from the shape and the number of parts alone.
public struct RowDivision {
    /// Rows of the whole tensor, and elements of one.
    let rows, rowElements: Int
    /// Rows of a piece, the least number that makes whole chunks.
    private let unit: Int

    /// Throws for a tensor that has no rows or no elements, and for a rank or an extent out of range.
    @inline(never)
    public init(_ shape: UnsafeBufferPointer<Int64>) throws(LOptError) {
        let elements = try Geometry.elements(shape)
        guard shape.count > 0 else { throw LOptError(.invalidArgument, "rank is 0; rows are those of a tensor of rank 1 to 8") }
        guard elements > 0 else { throw LOptError(.invalidArgument, "a tensor without elements has no rows to be divided") }
        rows = Int(shape[0])
        rowElements = elements / rows
        // chunkElements is a power of two, so this is it divided by the greatest common divisor.
        unit = Geometry.chunkElements / min(rowElements & -rowElements, Geometry.chunkElements)
    }

    /// Part 0 has most.
    @inline(never)
    public func rows(of part: Int, in parts: Int) -> Range<Int> {
        let pieces = (rows + unit - 1) / unit
        func begin(_ part: Int) -> Int { min(rows, (part * pieces + parts - 1) / parts * unit) }
        return begin(part)..<begin(part + 1)
    }

    @inline(never)
    func chunks(of part: Int, in parts: Int) -> Int {
        (rows(of: part, in: parts).count * rowElements + Geometry.chunkElements - 1) / Geometry.chunkElements
    }
}

/// What the optimizers do that have the rows of a tensor between them: an all-gather of doubles, as `lopt_gather` has it.
public struct Gather {
    /// (context, own numbers, those of all parts in their order, how many each has); 0: done.
    public typealias Run = @convention(c) (
        UnsafeMutableRawPointer?, UnsafePointer<Double>?, UnsafeMutablePointer<Double>?, Int64
    ) -> Int32

    let run: Run
    let context: UnsafeMutableRawPointer?
    let part, parts: Int

    public static let mostParts = 1 << 20

    public init(run: @escaping Run, context: UnsafeMutableRawPointer?, part: Int, parts: Int) throws(LOptError) {
        try Gather.check(part: part, parts: parts)
        (self.run, self.context, self.part, self.parts) = (run, context, part, parts)
    }

    @inline(never)
    public static func check(part: Int, parts: Int) throws(LOptError) {
        guard parts >= 1 && parts <= mostParts && part >= 0 && part < parts else {
            throw LOptError(.invalidArgument, "part is \(part) of \(parts); parts may be 1 to 1048576, part 0 to parts - 1")
        }
    }
}

/// Of a tensor of which some rows are here. The rule goes by the whole: what it needs to know is exchanged, see Exchange.swift.
struct SharedRows {
    let division: RowDivision
    let own: Range<Int>
    /// Of the whole tensor.
    let elements: Int
    /// The most that a part has.
    let mostChunks: Int

    // Of the whole gradient.
    var largest: UInt32 = 0
    var squares = 0.0
    var nonfinite: Int64 = 0
    // Of the own rows.
    var ownSquares = 0.0
    var ownNonfinite: Int64 = 0

    /// The sums of the last pass are still to become statistics: everybody's are known with the next exchange. What else they need:
    var isPending = false
    var scale = 0.0
    var gradientSquares = 0.0

    /// For each chunk: the sum of g^2 and the largest |g| as bits, then the sums of the pooled pass.
    static let slots = 2 + Int(LOPT_SUMS_POOLED)

    init(_ division: RowDivision, _ gather: Gather) {
        self.division = division
        own = division.rows(of: gather.part, in: gather.parts)
        elements = division.rows * division.rowElements
        mostChunks = division.chunks(of: 0, in: gather.parts)
    }

    /// Numbers of a part in an exchange: how many elements of the gradient are not finite, and the chunks.
    var numbers: Int { 1 + mostChunks * SharedRows.slots }
}

extension Tensor {
    /// Of the whole tensor, wherever its rows are.
    var elements: Int { memory.shared?.pointee.elements ?? geometry.count }

    /// The number in the whole tensor of the first chunk that is here.
    var firstChunk: Int { memory.shared.map { $0.pointee.own.lowerBound * $0.pointee.division.rowElements / Geometry.chunkElements } ?? 0 }

    /// Which rows are here; a single number counts as one.
    var rows: Range<Int> { memory.shared?.pointee.own ?? 0..<(identity.rank > 0 ? Int(identity.shape[0]) : 1) }
}
