import CLOptShims

/// What a checkpoint holds beside the state.
public struct CheckpointContents: OptionSet, Sendable {
    public let rawValue: UInt32
    public init(rawValue: UInt32) { self.rawValue = rawValue }

    /// The parameters, so that one file is a consistent whole.
    public static let parameters = CheckpointContents(rawValue: 1)
    /// To be restored: it may have some of the tensors alone, the others stay as they are.
    public static let shard = CheckpointContents(rawValue: 2)
}

/// An array of a tensor as a checkpoint holds it: `pieces` pieces of `pieceBytes`, `stride` bytes apart in memory and side
/// by side in the file; f32, or momenta in bf16.
struct CheckpointSection {
    let suffix: StaticString
    let type: ElementType
    /// Files may have it in either type.
    let isMomentum: Bool
    let shape: SafeTensors.Shape
    let pieces: Int
    let pieceBytes: Int
    let stride: Int
    let memory: UnsafeMutableRawPointer?

    func piece(_ index: Int) -> UnsafeMutableRawBufferPointer {
        guard let memory, pieceBytes > 0 else { return UnsafeMutableRawBufferPointer(start: nil, count: 0) }
        return UnsafeMutableRawBufferPointer(start: memory + index * stride, count: pieceBytes)
    }
}

extension SafeTensors.ElementType {
    init(_ type: ElementType) { self = type == .bf16 ? .bf16 : .f32 }
}

/// The arrays of one tensor, in the order of the file.
struct CheckpointSections {
    private(set) var count = 0
    private var sections: [5 of CheckpointSection?] = [nil, nil, nil, nil, nil]

    mutating func append(_ section: CheckpointSection) {
        sections[count] = section
        count += 1
    }

    subscript(index: Int) -> CheckpointSection? { sections[index] }
}

/// Takes the data of a checkpoint piece by piece, in the order of the file.
protocol PieceTaker: ~Copyable {
    mutating func take(_ bytes: UnsafeRawBufferPointer) throws(LOptError)
    /// What came since the last array was the array `name` with `suffix` behind it.
    mutating func end(_ name: UnsafeRawBufferPointer, _ suffix: StaticString)
}

extension SafeTensorsWriter: PieceTaker {
    @inline(never)
    mutating func take(_ bytes: UnsafeRawBufferPointer) throws(LOptError) { try data(bytes) }
    func end(_ name: UnsafeRawBufferPointer, _ suffix: StaticString) {}
}

extension Optimizer {
    /// I64, of weights of kind pooled alone: steps the training will take.
    static let totalStepsSuffix: StaticString = "/total_steps"
}

extension Tensor {
    /// I64: steps, steps skipped, elements that were not finite.
    static let stepSuffix: StaticString = "/step"
    /// I64, of a tensor of which other rows are elsewhere: the first row, and how many the whole tensor has.
    static let rowsSuffix: StaticString = "/rows"
    /// F32, as the parameter; and I64, in a row with those of `stepSuffix`, the steps in it.
    static let averageSuffix: StaticString = "/average"
    /// F64: learning-rate scale, weight decay scale, frozen, step size.
    static let optionsSuffix: StaticString = "/options"

    /// F64, of weights of kind pooled alone: the dynamic statistics of the last step, peak and slow average, whether they are known.
    static let pooledSuffix: StaticString = "/pooled"
    static let pooledNumbers = PooledTerm.dynamic + 3

    /// Shape and names are those of update-rule terms: row lacks the axis of the largest extent, column that of the second
    /// largest; the axis of the decays comes first. `rows`: how many the file has, if not those that are here.
    func sections(momenta: Int, _ contents: CheckpointContents, rows: Int? = nil) -> CheckpointSections {
        let count = geometry.count, view = memory.view, rows = rows ?? memory.shared?.pointee.own.count
        var result = CheckpointSections()
        // Those of 16 bits go on from more than the caller has.
        if contents.contains(.parameters) || memory.types.parameter.isNarrow {
            result.append(section("/parameter", identity.whole(rows), 1, count, 0, view.parameter))
        }
        result.append(
            section(
                "/momentum", identity.stacked(momenta, nil, rows), momenta, count, Int(view.plane_stride), view.momentum,
                memory.momentumType))
        result.append(section("/second_moment", identity.whole(rows), 1, count, 0, view.second_moment))
        guard geometry.isFactored else {
            if view.diagonal == nil { return result }
            result.append(
                section("/diagonal", identity.stacked(momenta, nil), momenta, count, Int(view.plane_stride), view.diagonal))
            return result
        }
        let (d1, d0) = identity.axes
        let lead = (geometry.leadCount, view.lead), trail = (geometry.trailCount, view.trail)
        let row = geometry.leadIsRow ? lead : trail, column = geometry.leadIsRow ? trail : lead
        result.append(section("/row", identity.stacked(momenta, d0), momenta, row.0, row.0, row.1))
        result.append(section("/column", identity.stacked(momenta, d1), momenta, column.0, column.0, column.1))
        return result
    }

    /// Beside them, if there is one.
    func averageSection(rows: Int? = nil) -> CheckpointSection? {
        memory.average.map {
            section(Tensor.averageSuffix, identity.whole(rows ?? memory.shared?.pointee.own.count), 1, geometry.count, 0, $0)
        }
    }

    private func section(
        _ suffix: StaticString, _ shape: SafeTensors.Shape, _ pieces: Int, _ count: Int, _ stride: Int,
        _ memory: UnsafeMutablePointer<Float>?, _ momentumType: ElementType? = nil
    ) -> CheckpointSection {
        let type = momentumType ?? .f32
        return CheckpointSection(
            suffix: suffix, type: type, isMomentum: momentumType != nil, shape: shape, pieces: pieces, pieceBytes: type.bytes * count,
            stride: type.bytes * stride, memory: UnsafeMutableRawPointer(memory))
    }
}

extension TensorIdentity {
    /// With another extent of the first axis, if there is one to be put there.
    fileprivate func whole(_ rows: Int?) -> SafeTensors.Shape {
        var result = SafeTensors.Shape()
        for axis in 0..<rank { result.append(axis == 0 ? rows ?? Int(shape[axis]) : Int(shape[axis])) }
        return result
    }

    fileprivate func stacked(_ momenta: Int, _ left: Int?, _ rows: Int? = nil) -> SafeTensors.Shape {
        var result = SafeTensors.Shape(momenta)
        for axis in 0..<rank where axis != left { result.append(axis == 0 ? rows ?? Int(shape[axis]) : Int(shape[axis])) }
        return result
    }

    fileprivate var axes: (d1: Int, d0: Int) {
        withUnsafeBytes(of: shape) { bytes in
            factoredAxes(shape: UnsafeBufferPointer(rebasing: bytes.bindMemory(to: Int64.self)[..<rank])) ?? (0, 0)
        }
    }
}
