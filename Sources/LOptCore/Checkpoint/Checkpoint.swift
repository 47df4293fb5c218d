import CLOptShims

/// Checkpoints: the accumulators and counters of every tensor that is not elsewhere in a safetensors file.
///
/// Tensors of the file: `<name>/parameter` if asked for, `<name>/momentum` [K, shape], `<name>/second_moment` [shape],
/// `<name>/row` and `<name>/column` (rank >= 2: [K, shape without the reduced axis]) or `<name>/diagonal` [K, shape], all
/// f32 but for momenta that the optimizer keeps in bf16, and with averages `<name>/average` [shape]; `<name>/step`, i64 [3]: steps taken, skipped, elements not finite, and as a
/// fourth with averages the steps in them; `<name>/options`, f64 [4]: scales of learning rate and weight decay, frozen, the step
/// size of the last step; and `/options`, f64 [3] to [5]: learning-rate scale, weight decay, its form, the gradient scale and the
/// tensors that decay, of the optimizer; the last two are left out where they are 1 and 0.
/// Of weights of kind pooled there are no row, column and diagonal, but `<name>/pooled`, f64 [13]: the statistics of the last
/// step, the peak and the slow average of g^2, whether they are known; and `/total_steps`, i64 [1]. Of a tensor of which other rows are elsewhere the arrays have
/// those that are here, and `<name>/rows`, i64 [2], is the first of them and how many the whole tensor has.
/// Version 0.1.0 wrote no step size and the first two of these: it knew weight decay per step alone.
/// Metadata: `format`, `format_version`, `weights` (their digest), `checksum` and `content` (see `CheckpointDigests`; version
/// 0.1.0 wrote the first alone).
extension Optimizer {
    private static let format: StaticString = "lopt-checkpoint"

    /// The size of the checkpoint that `writeCheckpoint` would write now.
    @inline(never)
    public func checkpointSize(_ contents: CheckpointContents) throws(LOptError) -> Int {
        try checkSwap()
        if contents.contains(.parameters) { try checkParameters() }
        return try size(contents)
    }

    func size(_ contents: CheckpointContents) throws(LOptError) -> Int {
        try SafeTensorsWriter.size { writer throws(LOptError) in try describe(&writer, contents, CheckpointDigests()) }
    }

    /// Writes a checkpoint into a file, which is replaced at once, or not at all if this throws.
    public func save(_ path: UnsafePointer<CChar>, _ contents: CheckpointContents) throws(LOptError) {
        _ = try prepareCheckpoint(contents, room: .max)
        try write(to: try ByteSink(replacing: path, options.allocator), contents)
    }

    /// Writes a checkpoint into memory of at least `checkpointSize` bytes.
    public func write(
        _ memory: UnsafeMutableRawBufferPointer, _ contents: CheckpointContents
    ) throws(LOptError) {
        let size = try prepareCheckpoint(contents, room: memory.count)
        try write(to: ByteSink(memory: UnsafeMutableRawBufferPointer(rebasing: memory[..<size])), contents)
    }

    private func write(to sink: consuming ByteSink, _ contents: CheckpointContents) throws(LOptError) {
        takeInParameters(0..<count)
        var digests = CheckpointDigests()
        try give(contents, to: &digests)
        try SafeTensorsWriter.write(
            to: sink,
            describe: { writer throws(LOptError) in try describe(&writer, contents, digests) },
            data: { writer throws(LOptError) in try give(contents, to: &writer) })
    }

    /// How many of its own options a checkpoint holds: one that uses nothing newer is what it was before there was that.
    private var optionNumbers: Int { weightDecayTensors != .all ? 5 : gradientScale == 1 ? 3 : 4 }

    /// How many counters a checkpoint holds of a tensor.
    private var counterNumbers: Int { options.average.kind == .none ? 3 : 4 }

    private func describe(
        _ writer: inout SafeTensorsWriter, _ contents: CheckpointContents, _ digests: CheckpointDigests
    ) throws(LOptError) {
        try writer.metadata("format", Message(stringLiteral: Optimizer.format))
        try writer.metadata("format_version", "1")
        try writer.metadata("weights", Message(hexadecimal: digest))
        try writer.metadata("checksum", Message(hexadecimal: digests.data.value))
        try writer.metadata("content", Message(hexadecimal: digests.content.value))
        try writer.tensor(UnsafeRawBufferPointer(Tensor.optionsSuffix), .f64, SafeTensors.Shape(optionNumbers))
        if architecture.kind == .pooled {
            try writer.tensor(UnsafeRawBufferPointer(Optimizer.totalStepsSuffix), .i64, SafeTensors.Shape(1))
        }
        for i in 0..<count where !tensors[i].isElsewhere {
            let t = tensors[i]
            let sections = t.sections(momenta: architecture.momenta, contents)
            for j in 0..<sections.count {
                guard let section = sections[j] else { continue }
                try writer.tensor(t.identity.name, suffix: section.suffix, SafeTensors.ElementType(section.type), section.shape)
            }
            if let section = t.averageSection() {
                try writer.tensor(t.identity.name, suffix: section.suffix, .f32, section.shape)
            }
            try writer.tensor(t.identity.name, suffix: Tensor.stepSuffix, .i64, SafeTensors.Shape(counterNumbers))
            try writer.tensor(t.identity.name, suffix: Tensor.optionsSuffix, .f64, SafeTensors.Shape(4))
            if architecture.kind == .pooled {
                try writer.tensor(t.identity.name, suffix: Tensor.pooledSuffix, .f64, SafeTensors.Shape(Tensor.pooledNumbers))
            }
            if t.memory.shared != nil { try writer.tensor(t.identity.name, suffix: Tensor.rowsSuffix, .i64, SafeTensors.Shape(2)) }
        }
    }

    /// All data in the order of `describe`.
    private func give<T: PieceTaker & ~Copyable>(_ contents: CheckpointContents, to taker: inout T) throws(LOptError) {
        let numbers = try Allocation<Double>(5, options.allocator)
        let counters = try Allocation<Int64>(4, options.allocator)
        let pooled = try Allocation<Double>(Tensor.pooledNumbers, options.allocator)
        numbers.pointer[0] = learningRateScale
        numbers.pointer[1] = weightDecay
        numbers.pointer[2] = Double(weightDecayForm.rawValue)
        numbers.pointer[3] = gradientScale
        numbers.pointer[4] = Double(weightDecayTensors.rawValue)
        try taker.take(UnsafeRawBufferPointer(rebasing: numbers.bytes[..<(8 * optionNumbers)]))
        taker.end(UnsafeRawBufferPointer(start: nil, count: 0), Tensor.optionsSuffix)
        if architecture.kind == .pooled {
            counters.pointer[0] = totalSteps
            try taker.take(UnsafeRawBufferPointer(rebasing: counters.bytes[..<8]))
            taker.end(UnsafeRawBufferPointer(start: nil, count: 0), Optimizer.totalStepsSuffix)
        }
        for i in 0..<count where !tensors[i].isElsewhere {
            let t = tensors[i]
            let sections = t.sections(momenta: architecture.momenta, contents)
            for j in 0..<sections.count {
                guard let section = sections[j] else { continue }
                for piece in 0..<section.pieces { try taker.take(UnsafeRawBufferPointer(section.piece(piece))) }
                taker.end(t.identity.name, section.suffix)
            }
            if let section = t.averageSection() {
                try taker.take(UnsafeRawBufferPointer(section.piece(0)))
                taker.end(t.identity.name, section.suffix)
            }
            counters.pointer[0] = t.progress.steps
            counters.pointer[1] = t.progress.stepsSkipped
            counters.pointer[2] = t.progress.nonfinite
            counters.pointer[3] = t.progress.averaged
            try taker.take(UnsafeRawBufferPointer(rebasing: counters.bytes[..<(8 * counterNumbers)]))
            taker.end(t.identity.name, Tensor.stepSuffix)
            numbers.pointer[0] = t.options.learningRateScale
            numbers.pointer[1] = t.options.weightDecayScale
            numbers.pointer[2] = t.options.isFrozen ? 1 : 0
            numbers.pointer[3] = t.progress.stepSize
            try taker.take(UnsafeRawBufferPointer(rebasing: numbers.bytes[..<32]))
            taker.end(t.identity.name, Tensor.optionsSuffix)
            guard architecture.kind == .pooled else { continue }
            for j in 0..<PooledTerm.dynamic { pooled.pointer[j] = t.progress.pooled.values[j] }
            pooled.pointer[PooledTerm.dynamic] = t.progress.pooled.peak
            pooled.pointer[PooledTerm.dynamic + 1] = t.progress.pooled.slow
            pooled.pointer[PooledTerm.dynamic + 2] = t.progress.pooled.isKnown ? 1 : 0
            try taker.take(pooled.bytes)
            taker.end(t.identity.name, Tensor.pooledSuffix)
            guard let shared = t.memory.shared else { continue }
            counters.pointer[0] = Int64(shared.pointee.own.lowerBound)
            counters.pointer[1] = Int64(shared.pointee.division.rows)
            try taker.take(UnsafeRawBufferPointer(rebasing: counters.bytes[..<16]))
            taker.end(t.identity.name, Tensor.rowsSuffix)
        }
    }
}

extension Message {
    /// Sixteen hexadecimal digits.
    init(hexadecimal value: UInt64) {
        self.init()
        for digit in 0..<16 {
            append(hexadecimal: UInt8(truncatingIfNeeded: value >> UInt64(60 - 4 * digit)) & 15)
        }
    }
}
