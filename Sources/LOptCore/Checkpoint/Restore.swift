import CLOptShims

/// Restoring checkpoints. Everything is looked at before anything is changed: the table of contents against the tensors
/// that are there, then the digests of the data; copying into memory of the right sizes cannot fail any more.
extension Optimizer {
    /// Reads a checkpoint from a file. Throws `.io`, `.noMemory`, `.checkpoint` if it is damaged and `.mismatch`, naming the
    /// first difference, if it is of something else.
    public mutating func restore(_ path: UnsafePointer<CChar>, _ contents: CheckpointContents) throws(LOptError) {
        let file = try InputFile(path: path)
        // Not to read gigabytes of something else into memory; what is elsewhere may be in the file too.
        let expected = try size(.parameters)
        guard elsewhere > 0 || shared > 0 || file.size <= 2 * expected + 65_536 else {
            throw LOptError(
                .mismatch, "'\(path)' has \(file.size) bytes; a checkpoint of these tensors has \(expected) at most")
        }
        let memory = try FileContents(of: file, allocator: options.allocator)
        try read(memory.bytes, contents)
    }

    /// Reads a checkpoint from memory.
    public mutating func read(_ bytes: UnsafeRawBufferPointer, _ contents: CheckpointContents) throws(LOptError) {
        try checkSwap()
        if contents.contains(.parameters) { try checkParameters() }
        // More than the longest names can take: a hostile header is not to cost minutes.
        let headerLimit = 65_536 + 16_384 * count
        var reader = try CheckpointReader(bytes, headerLimit: headerLimit, options.allocator)
        try checkMetadata(reader.table)
        try visit(&reader, contents, changing: false)
        try checkNames(reader.table)
        try reader.checkDigests()
        try visit(&reader, contents, changing: true)
        guard contents.contains(.parameters) else { return }
        for i in 0..<count { tensors[i].memory.putOutParameters(0..<tensors[i].geometry.count) }
    }

    private func checkMetadata(_ table: borrowing SafeTensors) throws(LOptError) {
        guard let format = table.metadata("format"), format.hasBytes(of: "lopt-checkpoint") else {
            throw LOptError(.checkpoint, "metadata 'format' is not 'lopt-checkpoint': this is no checkpoint of lopt")
        }
        guard let version = table.metadata("format_version"), version.hasBytes(of: "1") else {
            throw LOptError(.checkpoint, "metadata 'format_version' is not '1', the only one this library knows")
        }
        guard let weights = table.metadata("weights") else {
            throw LOptError(.checkpoint, "metadata 'weights' is missing")
        }
        let own = Message(hexadecimal: digest), older = Message(hexadecimal: digestWithoutSafeguards)
        guard table.isMetadata("weights", own) || table.isMetadata("weights", older) else {
            throw LOptError(.mismatch, "the checkpoint is of weights with digest \(weights), this optimizer has \(own)")
        }
    }

    /// Goes through all that the checkpoint must hold, in the order in which it was written; checks it, or copies it.
    private mutating func visit(
        _ reader: inout CheckpointReader, _ contents: CheckpointContents, changing: Bool
    ) throws(LOptError) {
        let none = UnsafeRawBufferPointer(start: nil, count: 0)
        let numbers = try Allocation<Double>(5, options.allocator)
        let counters = try Allocation<Int64>(4, options.allocator)
        let pooled = try Allocation<Double>(Tensor.pooledNumbers, options.allocator)
        // Before there were two forms of weight decay there was this one.
        numbers.pointer[2] = Double(WeightDecayForm.perStep.rawValue)
        numbers.pointer[3] = 1
        numbers.pointer[4] = 0
        try reader.take(none, Tensor.optionsSuffix, .f64, into: numbers.pointer, 2...5)
        try Optimizer.checkRestored(numbers.pointer[0], "lr_scale")
        try Optimizer.checkRestored(numbers.pointer[1], "weight_decay")
        guard let form = Int32(exactly: numbers.pointer[2]).flatMap(WeightDecayForm.init(rawValue:)) else {
            throw LOptError(.checkpoint, "weight_decay_form is \(numbers.pointer[2]); allowed are 0 and 1")
        }
        guard let decaying = Int32(exactly: numbers.pointer[4]).flatMap(WeightDecayTensors.init(rawValue:)) else {
            throw LOptError(.checkpoint, "weight_decay_tensors is \(numbers.pointer[4]); allowed are 0 and 1")
        }
        try Optimizer.asCheckpoint { () throws(LOptError) in try Optimizer.checkGradientScale(numbers.pointer[3]) }
        if changing {
            (learningRateScale, weightDecay, weightDecayForm) = (numbers.pointer[0], numbers.pointer[1], form)
            (gradientScale, weightDecayTensors) = (numbers.pointer[3], decaying)
        }
        if architecture.kind == .pooled {
            try reader.take(none, Optimizer.totalStepsSuffix, .i64, into: counters.pointer, 1...1)
            guard counters.pointer[0] >= 0 else {
                throw LOptError(.checkpoint, "total_steps is \(counters.pointer[0]); it must not be negative")
            }
            if changing { totalSteps = counters.pointer[0] }
        }
        var found = 0
        for i in 0..<count where !tensors[i].isElsewhere {
            let t = tensors[i]
            if contents.contains(.shard), reader.index(t.identity.name, "/momentum") == nil { continue }
            let cut = try reader.cut(t, into: counters.pointer, contents)
            guard cut.isWhole || architecture.kind == .pooled else {
                throw LOptError(.checkpoint, "'\(t.identity.name)/rows' is there, which weights of this kind have not")
            }
            if cut.isSkipped { continue }
            if cut.completes(after: t.report.restoredRows) { found += 1 }
            let rows = cut.file.count, sections = t.sections(momenta: architecture.momenta, contents, rows: cut.isWhole ? nil : rows)
            for j in 0..<sections.count {
                guard let section = sections[j] else { continue }
                try reader.take(t.identity.name, section, cut, changing: changing)
            }
            // Without an average in the checkpoint, or here, there is none yet.
            counters.pointer[3] = 0
            try reader.take(t.identity.name, Tensor.stepSuffix, .i64, into: counters.pointer, 3...4)
            for j in 0..<4 where counters.pointer[j] < 0 || counters.pointer[j] > Optimizer.largestCount {
                throw LOptError(
                    .checkpoint, "'\(t.identity.name)/step' has \(counters.pointer[j]); allowed are 0 to 2^53")
            }
            if t.memory.average == nil { counters.pointer[3] = 0 }
            if counters.pointer[3] > 0, let section = t.averageSection(rows: cut.isWhole ? nil : rows) {
                try reader.take(t.identity.name, section, cut, changing: changing)
            }
            numbers.pointer[3] = 0
            try reader.take(t.identity.name, Tensor.optionsSuffix, .f64, into: numbers.pointer, 3...4)
            try Optimizer.checkRestored(numbers.pointer[0], "lr_scale of a tensor")
            try Optimizer.checkRestored(numbers.pointer[1], "weight_decay_scale of a tensor")
            guard numbers.pointer[2] == 0 || numbers.pointer[2] == 1 else {
                throw LOptError(.checkpoint, "frozen is \(numbers.pointer[2]); allowed are 0 and 1")
            }
            try Optimizer.checkRestored(numbers.pointer[3], "step size of a tensor")
            if changing {
                tensors[i].progress.steps = counters.pointer[0]
                tensors[i].progress.stepsSkipped = counters.pointer[1]
                tensors[i].progress.nonfinite = counters.pointer[2]
                tensors[i].progress.averaged = counters.pointer[3]
                tensors[i].options.learningRateScale = numbers.pointer[0]
                tensors[i].options.weightDecayScale = numbers.pointer[1]
                tensors[i].options.isFrozen = numbers.pointer[2] != 0
                tensors[i].progress.stepSize = numbers.pointer[3]
                tensors[i].report.restoredRows = cut.restored(after: t.report.restoredRows)
                tensors[i].memory.shared?.pointee.isPending = false
            }
            guard architecture.kind == .pooled else { continue }
            try reader.take(
                t.identity.name, Tensor.pooledSuffix, .f64, into: pooled.pointer, Tensor.pooledNumbers...Tensor.pooledNumbers)
            for j in 0..<Tensor.pooledNumbers where !(abs(pooled.pointer[j]) <= 1e60) {
                throw LOptError(
                    .checkpoint, "'\(t.identity.name)/pooled' has \(pooled.pointer[j]); allowed are -1e60 to 1e60")
            }
            if changing {
                for j in 0..<PooledTerm.dynamic { tensors[i].progress.pooled.values[j] = pooled.pointer[j] }
                tensors[i].progress.pooled.peak = max(pooled.pointer[PooledTerm.dynamic], 0)
                tensors[i].progress.pooled.slow = max(pooled.pointer[PooledTerm.dynamic + 1], 0)
                tensors[i].progress.pooled.isKnown = pooled.pointer[PooledTerm.dynamic + 2] != 0
            }
        }
        if changing { restored = found }
    }

    /// Where counters stop: above any number of steps that can be taken, and exact in f64, which is what readers may use.
    static let largestCount: Int64 = 1 << 53

    /// Every tensor here was found in the checkpoint; now the other way round.
    private func checkNames(_ table: borrowing SafeTensors) throws(LOptError) {
        let suffix: StaticString = "/momentum"
        for i in 0..<table.count {
            let name = table[i].name
            let length = name.count - suffix.utf8CodeUnitCount
            guard length > 0, UnsafeRawBufferPointer(rebasing: name[length...]).hasBytes(of: suffix) else { continue }
            let tensor = UnsafeRawBufferPointer(rebasing: name[..<length])
            guard index(of: tensor) != nil else { throw LOptError(.mismatch, "the checkpoint has a tensor '\(tensor)', this optimizer has not") }
        }
    }

    @inline(never)
    private static func checkRestored(_ value: Double, _ name: StaticString) throws(LOptError) {
        try asCheckpoint { () throws(LOptError) in try checkScale(value, name) }
    }

    /// What a caller may not pass makes a damaged checkpoint.
    private static func asCheckpoint(_ check: () throws(LOptError) -> Void) throws(LOptError) {
        do throws(LOptError) {
            try check()
        } catch {
            throw LOptError(.checkpoint, error.message)
        }
    }
}

extension SafeTensors {
    fileprivate func isMetadata(_ key: StaticString, _ value: Message) -> Bool {
        guard let found = metadata(key) else { return false }
        return value.withCString { found.hasBytes(of: UnsafeRawBufferPointer(cString: $0)) }
    }
}

/// The rows of a tensor that are here, and those that a checkpoint has of it.
private struct RowCut {
    let own, file: Range<Int>
    let isShard: Bool

    var isWhole: Bool { own == file }
    var isCovered: Bool { own.isEmpty || file.lowerBound <= own.lowerBound && file.upperBound >= own.upperBound }
    var common: Range<Int> { own.clamped(to: file) }

    /// Of a shard that has none of the rows. Where there are none to be had, part 0 says how far the tensor is.
    var isSkipped: Bool { isShard && !isCovered && common.isEmpty || isShard && own.isEmpty && file.lowerBound > 0 }

    /// Up to which row there is all, if it was all up to `row` before.
    @inline(never)
    func restored(after row: Int) -> Int { file.lowerBound <= max(own.lowerBound, row) ? file.upperBound : row }

    /// With it the tensor is restored.
    @inline(never)
    func completes(after row: Int) -> Bool { isCovered || restored(after: row) >= own.upperBound && file.lowerBound < own.upperBound }
}

/// Finds the arrays of a checkpoint by name, checks or copies them.
private struct CheckpointReader: ~Copyable {
    let table: SafeTensors
    private let bytes: UnsafeRawBufferPointer
    /// For the name of an array: that of a tensor and a suffix.
    private let name: Allocation<UInt8>
    /// Where the array after the last one found would be.
    private var next = 0

    init(_ bytes: UnsafeRawBufferPointer, headerLimit: Int, _ allocator: Allocator) throws(LOptError) {
        let name = try Allocation<UInt8>(Optimizer.longestName + 32, allocator)
        table = try SafeTensors(bytes: bytes, status: .checkpoint, headerLimit: headerLimit, allocator: allocator)
        self.name = name
        self.bytes = bytes
    }

    /// The data are those that were written, as they lie, or array by array in whatever order.
    func checkDigests() throws(LOptError) {
        let checksum = Message(hexadecimal: dataDigest)
        if table.isMetadata("checksum", checksum) || table.isMetadata("content", Message(hexadecimal: contentDigest)) {
            return
        }
        guard let written = table.metadata("checksum") else {
            throw LOptError(.checkpoint, "metadata 'checksum' is missing, and 'content' is not that of the data")
        }
        throw LOptError(.checkpoint, "the data have checksum \(checksum), the metadata say \(written): damaged")
    }

    private var dataDigest: UInt64 {
        var start = bytes.count
        for i in 0..<table.count { start = min(start, table[i].data.lowerBound) }
        var digest = Digest()
        digest.update(UnsafeRawBufferPointer(rebasing: bytes[start...]))
        return digest.value
    }

    private var contentDigest: UInt64 {
        var digest = ContentDigest()
        for i in 0..<table.count {
            let entry = table[i]
            digest.update(UnsafeRawBufferPointer(rebasing: bytes[entry.data]))
            digest.end(entry.name)
        }
        return digest.value
    }

    private func full(_ tensor: UnsafeRawBufferPointer, _ suffix: StaticString) -> UnsafeRawBufferPointer {
        for i in 0..<tensor.count { name.pointer[i] = tensor[i] }
        let count = tensor.count + suffix.utf8CodeUnitCount
        for i in tensor.count..<count { name.pointer[i] = suffix.utf8Start[i - tensor.count] }
        return UnsafeRawBufferPointer(start: name.pointer, count: count)
    }

    /// Where an array of a tensor is.
    @inline(never)
    func index(_ tensor: UnsafeRawBufferPointer, _ suffix: StaticString) -> Int? {
        table.index(of: full(tensor, suffix), near: next)
    }

    /// The bytes of an array that must be there with this type and shape, or as a row of numbers with as many of `counts`.
    private mutating func find(
        _ tensor: UnsafeRawBufferPointer, _ suffix: StaticString, _ type: SafeTensors.ElementType,
        _ shape: SafeTensors.Shape, or counts: ClosedRange<Int>? = nil
    ) throws(LOptError) -> UnsafeRawBufferPointer {
        guard let index = index(tensor, suffix) else {
            throw LOptError(.mismatch, "the checkpoint has no '\(full(tensor, suffix))'")
        }
        next = index + 1
        let entry = table[index]
        let length = entry.shape.elements ?? 0, isRow = entry.shape == SafeTensors.Shape(length)
        guard entry.type == type, entry.shape == shape || isRow && counts?.contains(length) == true else {
            throw LOptError(
                .mismatch,
                "'\(entry.name)' is \(type.name) \(shape.text) here, \(entry.type.name) \(entry.shape.text) in the checkpoint")
        }
        return UnsafeRawBufferPointer(rebasing: bytes[entry.data])
    }

    /// An array of the state. Momenta that were kept in another type than they are here are rounded to nearest, or have zeros behind them.
    @inline(never)
    mutating func take(
        _ tensor: UnsafeRawBufferPointer, _ section: CheckpointSection, _ cut: RowCut, changing: Bool
    ) throws(LOptError) {
        var type = section.type
        if section.isMomentum, let index = index(tensor, section.suffix), table[index].type == .f32 || table[index].type == .bf16 {
            type = table[index].type == .f32 ? .f32 : .bf16
        }
        let data = try find(tensor, section.suffix, SafeTensors.ElementType(type), section.shape)
        guard changing, let source = data.baseAddress, section.pieceBytes > 0 else { return }
        // All of it, or the rows that there are here and there.
        var from = 0, to = 0, count = section.pieceBytes / section.type.bytes
        if !cut.isWhole {
            let row = count / cut.own.count, common = cut.common
            from = (common.lowerBound - cut.file.lowerBound) * row
            to = (common.lowerBound - cut.own.lowerBound) * row
            count = common.count * row
        }
        let stride = data.count / section.pieces
        for i in 0..<section.pieces {
            guard let target = section.piece(i).baseAddress else { return }
            let piece = source + i * stride
            if type == section.type {
                lopt_system_copy(target + to * type.bytes, piece + from * type.bytes, count * type.bytes)
                continue
            }
            for j in 0..<count {
                lopt_element_store(target, to + j, section.type.rawValue, lopt_element_load(piece, from + j, type.rawValue))
            }
        }
    }

    /// Which rows of a tensor the checkpoint has.
    @inline(never)
    mutating func cut(
        _ t: Tensor, into numbers: UnsafeMutablePointer<Int64>, _ contents: CheckpointContents
    ) throws(LOptError) -> RowCut {
        let whole = 0..<(t.identity.rank > 0 ? Int(t.identity.shape[0]) : 1)
        var file = whole
        if index(t.identity.name, Tensor.rowsSuffix) != nil {
            try take(t.identity.name, Tensor.rowsSuffix, .i64, into: numbers, 2...2)
            // The extent of the rows is in the shape of every array; those are compared with one another later.
            let shape = index(t.identity.name, "/momentum").map { table[$0].shape }
            let count = shape.map { $0.rank > 1 ? $0[1] : 0 } ?? 0
            guard numbers[1] == Int64(whole.count), numbers[0] >= 0, numbers[0] <= numbers[1], count <= whole.count - Int(numbers[0]) else {
                throw LOptError(
                    .mismatch,
                    "the checkpoint has \(count) from \(numbers[0]) on of \(numbers[1]) rows of '\(t.identity.name)', which has \(whole.count) rows here")
            }
            file = Int(numbers[0])..<(Int(numbers[0]) + count)
        }
        let cut = RowCut(own: t.rows, file: file, isShard: contents.contains(.shard))
        guard cut.isShard || cut.isCovered else {
            throw LOptError(
                .mismatch,
                "the checkpoint has \(file.count) from \(file.lowerBound) on of the rows of '\(t.identity.name)'; LOPT_SHARD takes what there is")
        }
        return cut
    }

    /// A few numbers, as many of `counts` as the checkpoint has: the least or the most.
    @inline(never)
    mutating func take<T: BitwiseCopyable>(
        _ tensor: UnsafeRawBufferPointer, _ suffix: StaticString, _ type: SafeTensors.ElementType,
        into numbers: UnsafeMutablePointer<T>, _ counts: ClosedRange<Int>
    ) throws(LOptError) {
        let data = try find(tensor, suffix, type, SafeTensors.Shape(counts.upperBound), or: counts)
        if let source = data.baseAddress { lopt_system_copy(numbers, source, data.count) }
    }
}
