import LOptCore

/// How the meta-parameters theta of a rule depend on the numbers z that meta-training searches:
/// theta_j = base_j + scale_j * z_index(j).
///
/// Scales make one perturbation size fit all. Several theta may share one z (the late step features, which shorter
/// unrolls than their timescale tell nothing about), and a theta may have none: it stays at its base.
public struct MetaParameters: Sendable {
    /// What a number of z moves; a stage of meta-training names the groups that it trains.
    public enum Group: String, Codable, CaseIterable, Sendable {
        /// Offsets of the decays of momenta, second moment and factored accumulators.
        case decays
        /// Of the nominal term: the bias of its log-step, the step features and the bias of the hidden unit that carries its
        /// schedule, the tensor scales.
        case nominal
        /// The schedule beyond 1,000 steps, one number.
        case lateDecay = "late_decay"
        /// Everything else in the network.
        case network
    }

    public let architecture: Architecture
    public private(set) var base: [Float]
    private var scale: [Float]
    private var index: [Int]
    public private(set) var groups: [Group] = []

    /// Numbers in z.
    public var count: Int { groups.count }

    /// Step features from this one on (timescale 1,000) are late.
    static let firstLateFeature = 6

    /// theta for z.
    public func theta(_ z: [Double]) -> [Float] {
        var theta = base
        for j in theta.indices where index[j] >= 0 { theta[j] += scale[j] * Float(z[index[j]]) }
        return theta
    }

    /// Weights with the values of z. Throws `LOptError` where z leads out of what weights may be (not finite).
    public func weights(_ z: [Double]) throws(LOptError) -> Weights {
        let values = UnsafeMutableBufferPointer<Float>.allocate(capacity: base.count)
        defer { values.deallocate() }
        _ = values.initialize(from: theta(z))
        return try Weights(architecture: architecture, theta: UnsafeBufferPointer(values), allocator: .system)
    }
}

// MARK: - Starts

extension MetaParameters {
    /// A start for meta-training, z = 0.
    ///
    /// With a nominal controller: hidden unit 0 carries relu(sum_s w_s tanh(t/s - 1)) through all layers and drives the
    /// nominal log-step alone, so that the step size is constant at first and falls with log t from 1,000 steps on. All other output
    /// weights are 0, so the rule starts as its nominal term. The network behind is random: normal with variance 1 / fan-in.
    /// Without: random throughout, as the authors' code starts.
    public init(structuredStartOf architecture: Architecture, seed: UInt64) {
        var random = Random(seed, 0x57a7)
        let a = architecture
        var theta = [Float](repeating: 0, count: a.metaParameters)
        for layer in 0..<a.layers {
            let deviation = 1 / Double(a.fanIn(layer)).squareRoot()
            for i in 0..<a.fanIn(layer) * a.fanOut(layer) {
                theta[a.weightOffset(layer) + i] = Float(deviation * random.normal())
            }
        }
        let isStructured = a.kind == .star && a.nominalController
        if isStructured { MetaParameters.structure(&theta, a) }
        if a.tensorRanges { MetaParameters.writeDefaultRanges(a, &theta) }
        self.init(architecture: a, base: theta, isStructured: isStructured)
    }

    /// The weights given, to be trained further.
    public init(continuing weights: borrowing Weights) {
        self.init(continuing: weights, extendedBy: weights.architecture)
    }

    /// The weights given, with the extensions tensor_scale, tensor_schedule and tensor_count of `rule` where they lack them, which
    /// begin at 0, where they change nothing; with tensor_ranges at its defaults, and with skip_idle_tensors.
    public init(continuing weights: borrowing Weights, extendedBy rule: Architecture) {
        let old = weights.architecture
        var new = old
        if old.kind == .star {
            new.tensorScale = old.tensorScale || rule.tensorScale
            new.tensorSchedule = old.tensorSchedule || rule.tensorSchedule
            new.tensorCount = old.tensorCount || rule.tensorCount
            new.tensorRanges = old.tensorRanges || rule.tensorRanges
            new.skipIdleTensors = old.skipIdleTensors || rule.skipIdleTensors
        }
        var theta = [Float](repeating: 0, count: new.metaParameters)
        func copy(_ from: Int, _ to: Int, _ count: Int) { for i in 0..<count { theta[to + i] = weights.theta[from + i] } }
        copy(0, 0, old.tensorScaleOffset)
        copy(old.tensorScaleOffset, new.tensorScaleOffset, old.tensorScales)
        copy(old.tensorScheduleOffset, new.tensorScheduleOffset, old.tensorSchedules)
        copy(old.tensorCountOffset, new.tensorCountOffset, old.tensorCounts)
        if new.tensorRanges { MetaParameters.writeDefaultRanges(new, &theta) }
        copy(old.tensorRangesOffset, new.tensorRangesOffset, old.tensorRangeValues)
        self.init(architecture: new, base: theta, isStructured: new.kind == .star && new.nominalController)
    }

    /// The same from a checkpoint; nil if `base` does not have as many values as the architecture.
    public init?(continuing base: [Float], of architecture: Architecture) {
        guard base.count == architecture.metaParameters else { return nil }
        self.init(
            architecture: architecture, base: base,
            isStructured: architecture.kind == .star && architecture.nominalController)
    }

    private static func writeDefaultRanges(_ a: Architecture, _ theta: inout [Float]) {
        for i in 0...a.statistics {
            let range = a.defaultStatisticRange(i)
            theta[a.tensorRangesOffset + i] = Float(range.least)
            theta[a.tensorRangesOffset + a.statistics + 1 + i] = Float(range.most)
        }
    }

    private static func structure(_ theta: inout [Float], _ a: Architecture) {
        let h = a.hiddenSize
        for input in 0..<a.inputs {
            let row = a.weightOffset(0) + input * h
            theta[row] = 0
            guard input >= a.features else { continue }
            let isLate = input - a.features >= firstLateFeature
            for unit in 0..<h { theta[row + unit] = isLate && unit == 0 ? lateSlope : 0 }
        }
        // tanh is -0.76 at t far below s; 1 keeps the unit above 0, where relu lets it through.
        let late = Float(Architecture.timescales.count - firstLateFeature)
        theta[a.biasOffset(0)] = lateSlope * late
        for layer in 1..<a.hiddenLayers {
            for i in 0..<h {
                theta[a.weightOffset(layer) + i * h] = i == 0 ? 1 : 0
                theta[a.weightOffset(layer) + i] = i == 0 ? 1 : 0
            }
        }
        let last = a.hiddenLayers
        for i in 0..<h * a.outputs { theta[a.weightOffset(last) + i] = 0 }
        theta[a.weightOffset(last) + nominalOutput] = -1
        // exp(n exp_mult) = 1 before the late decay.
        let early = lateSlope * late * Float(1 - 0.7616)
        theta[a.biasOffset(last) + nominalOutput] = early
    }

    /// Each late feature takes the log-step down by 1.76 times this: by about 1 for each factor of 3 in t, as 1/t would.
    private static let lateSlope: Float = 0.6
    private static let nominalOutput = 2

    private init(architecture a: Architecture, base: [Float], isStructured: Bool) {
        architecture = a
        self.base = base
        scale = [Float](repeating: 1, count: base.count)
        index = [Int](repeating: -1, count: base.count)
        func own(_ j: Int, _ group: Group, scale factor: Float = 1) {
            index[j] = groups.count
            scale[j] = factor
            groups.append(group)
        }
        // An offset is multiplied by 10 and enters an exponent.
        for j in 0..<a.weightOffset(0) { own(j, .decays, scale: 0.5) }
        var late = -1
        for layer in 0..<a.layers {
            for i in 0..<(a.fanIn(layer) + 1) {
                for unit in 0..<a.fanOut(layer) {
                    let j = a.weightOffset(layer) + i * a.fanOut(layer) + unit
                    let feature = i - a.features
                    let isStepFeature = layer == 0 && feature >= 0 && i < a.inputs
                    if isStructured && isStepFeature && feature >= MetaParameters.firstLateFeature {
                        guard unit == 0 else { continue }
                        if late < 0 {
                            late = groups.count
                            groups.append(.lateDecay)
                        }
                        index[j] = late
                        scale[j] = 0.5
                        continue
                    }
                    let isSchedule = layer == 0 && unit == 0 && i >= a.features
                    let isLogStep = layer == a.hiddenLayers && i == a.hiddenSize && unit == MetaParameters.nominalOutput
                    own(j, isStructured && (isSchedule || isLogStep) ? .nominal : .network)
                }
            }
        }
        // Ranges are measured, see StatisticRanges, and not searched for.
        for j in a.tensorScaleOffset..<a.tensorRangesOffset { own(j, .nominal) }
    }
}
