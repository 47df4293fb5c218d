// The table of an architecture's meta-parameters: what a weights file holds, where it lies in theta, what meta-training does
// with it. Reading, writing, digest, meta-training and `lopt inspect` go by it. The values that stand in a file's metadata are in
// ConstructorValue.swift.

/// A block of meta-parameters: one tensor of a weights file.
public struct MetaParameterBlock: Sendable {
    public enum Owner: Equatable, Sendable {
        /// The averages over gradients, whose decays these are.
        case accumulators
        case layer(Int)
        case `extension`(Architecture.Extension)
        /// Of kind pooled: all but its accumulators.
        case pooled
    }

    private let word: StaticString
    public let owner: Owner
    /// nil if meta-training leaves it alone.
    public let group: MetaParameterGroup?
    /// How far a value moves when the number that meta-training searches moves by 1.
    public let scale: Float
    /// The extension without which this one is refused.
    public let needs: Architecture.Extension?
    /// The shape: [rows, columns], or [rows] if there are none.
    public let rows: Int, columns: Int?
    /// Of its first value in theta.
    public fileprivate(set) var offset: Int

    fileprivate init(
        _ word: StaticString, _ rows: Int, by columns: Int? = nil, _ owner: Owner, _ group: MetaParameterGroup?,
        scale: Float = 1, needs: Architecture.Extension? = nil, at offset: Int = 0
    ) {
        (self.word, self.rows, self.columns, self.owner) = (word, rows, columns, owner)
        (self.group, self.scale, self.needs, self.offset) = (group, scale, needs, offset)
    }

    public var count: Int { rows * (columns ?? 1) }
    /// The least, then the most of what is clamped.
    var isRanges: Bool { owner != .accumulators && group == nil }
    public var shape: SafeTensors.Shape { columns.map { SafeTensors.Shape(rows, $0) } ?? SafeTensors.Shape(rows) }

    /// As the file has it: w0, tensor_scale.
    public var name: Message {
        if case .layer(let layer) = owner { return "\(word)\(layer)" }
        return "\(word)"
    }
}

/// Meta-parameters that meta-training moves together: a stage of it names the groups that it trains.
public enum MetaParameterGroup: UInt8, Sendable {
    /// Offsets of the decays of momenta, second moment and factored accumulators.
    case decays
    /// Of the nominal term: the bias of its log-step, the step features and the bias of the hidden unit that carries its
    /// schedule, the tensor scales.
    case nominal
    /// The schedule beyond 1,000 steps, one number.
    case lateDecay
    /// Everything else in the network.
    case network
    /// Of kind pooled: the log-step, the log-decay, what a known horizon adds to them, the direction.
    case step, decay, horizon, direction

    public var name: StaticString {
        switch self {
        case .decays: "decays"
        case .nominal: "nominal"
        case .lateDecay: "late_decay"
        case .network: "network"
        case .step: "step"
        case .decay: "decay"
        case .horizon: "horizon"
        case .direction: "direction"
        }
    }
}

// MARK: - The table

extension Architecture {
    /// An extension of the authors' rule that is a tensor of the weights file: there, it is on. Its raw value is its bit in the
    /// digest and its place in theta: another joins at the end.
    public enum Extension: Int, Sendable {
        /// The nominal log-step also sees scales of the tensor: n += sum_i u_i phi_i.
        case tensorScale
        /// What the scales say may change with the logarithm of the step, and one scale more is seen:
        /// n += w_0 psi + tau sum_i w_i (phi, psi, 1)_i.
        case tensorSchedule
        /// The log-step also sees how many tensors the optimizer has: n += (c_0 + tau c_1) (log(count) / 2 - 1).
        case tensorCount
        /// The range in which each statistic and the log-step itself are clamped comes with the weights, the least of each, then
        /// the most; else it is the default of `statisticRange`.
        case tensorRanges

        var bit: UInt64 { 1 << UInt64(rawValue) }
    }

    /// Block `index` in the order of theta; nil behind the last.
    public func block(_ index: Int) -> MetaParameterBlock? {
        typealias Block = MetaParameterBlock
        if kind == .pooled { return pooledBlock(index) }
        let layer = (index - 3) / 2
        switch index {
        // An offset is multiplied by 10 and enters an exponent: a small scale.
        case 0: return Block("momentum_decays", momenta, .accumulators, .decays, scale: 0.5, at: momentumDecaysOffset)
        case 1: return Block("rms_decays", 1, .accumulators, .decays, scale: 0.5, at: rmsDecayOffset)
        case 2: return Block("adafactor_decays", momenta, .accumulators, .decays, scale: 0.5, at: adafactorDecaysOffset)
        case ..<(3 + 2 * layers):
            return index % 2 == 1
                ? Block("w", fanIn(layer), by: fanOut(layer), .layer(layer), .network, at: weightOffset(layer))
                : Block("b", fanOut(layer), .layer(layer), .network, at: biasOffset(layer))
        default:
            var bits = extensionBits
            for _ in (3 + 2 * layers)..<index { bits &= bits &- 1 }
            return Extension(rawValue: bits.trailingZeroBitCount).map { block(of: $0) }
        }
    }

    private func pooledBlock(_ index: Int) -> MetaParameterBlock? {
        typealias Block = MetaParameterBlock
        let terms = PooledTerm.count, parts = Architecture.horizonParts.count
        switch index {
        case 0: return Block("momentum_decays", momenta, .accumulators, .decays, scale: 0.5, at: momentumDecaysOffset)
        case 1: return Block("rms_decays", 1, .accumulators, .decays, scale: 0.5, at: rmsDecayOffset)
        case 2: return Block("statistics_step", 3, by: terms, .pooled, .step, at: statisticsStepOffset)
        case 3: return Block("schedule_step", Architecture.scheduleTimes.count, .pooled, .step, scale: 1.5, at: scheduleStepOffset)
        // A decay matters little beside the chaos of a training: it takes larger perturbations to see which way is better.
        case 4: return Block("statistics_decay", 3, by: terms, .pooled, .decay, scale: 4, at: statisticsDecayOffset)
        case 5: return Block("horizon_step", 2, by: parts, .pooled, .horizon, scale: 1.5, at: horizonStepOffset)
        case 6: return Block("horizon_decay", parts, .pooled, .horizon, scale: 6, at: horizonDecayOffset)
        case 7: return Block("direction", 2, by: Architecture.directionTerms, .pooled, .direction, scale: 1.5, at: directionOffset)
        // Measured, not searched for.
        case 8: return Block("statistics_ranges", 2, by: PooledTerm.statistics + 2, .pooled, nil, at: statisticsRangesOffset)
        default: return nil
        }
    }

    /// The block of an extension, and where it lies or would lie.
    public func block(of which: Extension) -> MetaParameterBlock {
        var block = row(which)
        block.offset = offset(of: which)
        return block
    }

    private func row(_ which: Extension) -> MetaParameterBlock {
        typealias Block = MetaParameterBlock
        let own = Block.Owner.extension(which)
        switch which {
        case .tensorScale: return Block("tensor_scale", 3 + 2 * momenta, own, .nominal)
        case .tensorSchedule: return Block("tensor_schedule", 6 + 2 * momenta, own, .nominal, needs: .tensorScale)
        case .tensorCount: return Block("tensor_count", 2, own, .nominal, needs: .tensorScale)
        // Measured, not searched for.
        case .tensorRanges: return Block("tensor_ranges", 2, by: statistics + 1, own, nil, needs: .tensorScale)
        }
    }

    /// Value `index` of an extension's block before it is trained, with which the extension changes nothing.
    public func initialValue(of which: Extension, at index: Int) -> Double {
        switch which {
        case .tensorScale, .tensorSchedule, .tensorCount: return 0
        case .tensorRanges:
            let range = defaultStatisticRange(index % (statistics + 1))
            return index <= statistics ? range.least : range.most
        }
    }
}

// MARK: - What follows from it

extension Architecture {
    func forEachBlock(_ body: (MetaParameterBlock) throws(LOptError) -> Void) throws(LOptError) {
        var i = 0
        while let block = self.block(i) {
            try body(block)
            i += 1
        }
    }

    public var tensorScale: Bool { get { self[.tensorScale] } set { self[.tensorScale] = newValue } }
    public var tensorSchedule: Bool { get { self[.tensorSchedule] } set { self[.tensorSchedule] = newValue } }
    public var tensorCount: Bool { get { self[.tensorCount] } set { self[.tensorCount] = newValue } }
    public var tensorRanges: Bool { get { self[.tensorRanges] } set { self[.tensorRanges] = newValue } }

    /// How many values an extension has here: 0 if it is off.
    public func count(of which: Extension) -> Int { self[which] ? row(which).count : 0 }

    public func offset(of which: Extension) -> Int { offset(ofExtension: which.rawValue) }

    /// The number of meta-parameters.
    public var metaParameters: Int { kind == .pooled ? pooledMetaParameters : offset(ofExtension: .max) }

    private func offset(ofExtension number: Int) -> Int {
        var offset = weightOffset(layers), i = 0
        while i < number, let lower = Extension(rawValue: i) {
            offset += count(of: lower)
            i += 1
        }
        return offset
    }
}
