import LOptCore

/// How the meta-parameters theta of a rule depend on the numbers z that meta-training searches:
/// theta_j = base_j + scale_j * z_index(j).
///
/// Scales make one perturbation size fit all. Several theta may share one z (the late step features, which shorter
/// unrolls than their timescale tell nothing about), and a theta may have none: it stays at its base.
public struct MetaParameters: Sendable {
    public typealias Group = MetaParameterGroup

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
        try Weights(architecture: architecture, theta: theta(z))
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
    ///
    /// Of kind pooled: about tuned Adam's step on small networks, constant at first, falling from 1,000 steps on; with a known
    /// horizon, falling to its end.
    public init(structuredStartOf architecture: Architecture, seed: UInt64) {
        if architecture.kind == .pooled {
            self.init(architecture: architecture, base: MetaParameters.pooledStart(architecture), isStructured: false)
            return
        }
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
        for block in a.blocks { MetaParameters.begin(block, a, &theta) }
        self.init(architecture: a, base: theta, isStructured: isStructured)
    }

    /// The weights given, to be trained further.
    public init(continuing weights: borrowing Weights) {
        self.init(continuing: weights, extendedBy: weights.architecture)
    }

    /// The weights given, with the extensions of `rule` that are tensors where they lack them, which begin where they change
    /// nothing, and with skip_idle_tensors.
    public init(continuing weights: borrowing Weights, extendedBy rule: Architecture) {
        let old = weights.architecture
        var new = old
        if old.kind == .star {
            for which in Architecture.Extension.all { new[which] = old[which] || rule[which] }
            new.skipIdleTensors = old.skipIdleTensors || rule.skipIdleTensors
        }
        var theta = [Float](repeating: 0, count: new.metaParameters)
        for block in new.blocks { MetaParameters.begin(block, new, &theta) }
        for block in old.blocks {
            var to = block.offset
            if case .extension(let which) = block.owner { to = new.offset(of: which) }
            for i in 0..<block.count { theta[to + i] = weights.theta[block.offset + i] }
        }
        self.init(architecture: new, base: theta, isStructured: new.kind == .star && new.nominalController)
    }

    /// The same from a checkpoint; nil if `base` does not have as many values as the architecture.
    public init?(continuing base: [Float], of architecture: Architecture) {
        guard base.count == architecture.metaParameters else { return nil }
        self.init(
            architecture: architecture, base: base,
            isStructured: architecture.kind == .star && architecture.nominalController)
    }

    private static func begin(_ block: MetaParameterBlock, _ a: Architecture, _ theta: inout [Float]) {
        guard case .extension(let which) = block.owner else { return }
        for i in 0..<block.count { theta[block.offset + i] = Float(a.initialValue(of: which, at: i)) }
    }

    private static func pooledStart(_ a: Architecture) -> [Float] {
        var theta = [Float](repeating: 0, count: a.metaParameters)
        func put(_ offset: Int, _ values: [Float]) { for (i, value) in values.enumerated() { theta[offset + i] = value } }
        let step = a.statisticsStepOffset, decay = a.statisticsDecayOffset
        theta[step + PooledTerm.size] = 0.8
        theta[step + PooledTerm.vector] = 0.5
        theta[step + PooledTerm.tensors] = -0.5
        theta[step + PooledTerm.bias] = -1.2
        theta[decay + PooledTerm.bias] = -2
        theta[decay + PooledTerm.vector] = -2
        put(a.scheduleStepOffset, [-1.8, -1.3, -1, -0.5, -0.2, 0, 0, -0.4, -1, -1.8, -2.5])
        put(a.horizonStepOffset, [0, 0.2, 0.3, 0.5, 0.3, -0.7, -2, -3.5])
        put(a.directionOffset, [0.5, 0.5, 0.1, 0.8])
        for i in 0..<(PooledTerm.statistics + 2) {
            let range = Architecture.defaultPooledRange(i)
            theta[a.statisticsRangesOffset + i] = Float(range.least)
            theta[a.statisticsRangesOffset + PooledTerm.statistics + 2 + i] = Float(range.most)
        }
        return theta
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
        for block in a.blocks {
            for i in 0..<block.count {
                guard let group = isStructured ? MetaParameters.structuredGroup(of: i, in: block, a) : block.group else { continue }
                // The late features share one number.
                let isLate = group == .lateDecay, j = block.offset + i
                index[j] = isLate ? groups.firstIndex(of: group) ?? groups.count : groups.count
                scale[j] = isLate ? 0.5 : block.scale
                if index[j] == groups.count { groups.append(group) }
            }
        }
    }

    /// That of value `i` of a block in a structured start, where one hidden unit carries the schedule; nil: it stays.
    private static func structuredGroup(of i: Int, in block: MetaParameterBlock, _ a: Architecture) -> Group? {
        guard case .layer(let layer) = block.owner else { return block.group }
        let unit = i % a.fanOut(layer), input = i / a.fanOut(layer), isBias = block.columns == nil
        if layer == 0, !isBias, input - a.features >= firstLateFeature { return unit == 0 ? .lateDecay : nil }
        let isSchedule = layer == 0 && unit == 0 && (isBias || input >= a.features)
        let isLogStep = layer == a.hiddenLayers && isBias && unit == nominalOutput
        return isSchedule || isLogStep ? .nominal : block.group
    }
}

// MARK: - JSON

extension MetaParameterGroup: Codable, CaseIterable {
    public static var allCases: [MetaParameterGroup] { all }

    public init(from decoder: any Decoder) throws {
        let container = try decoder.singleValueContainer(), name = try container.decode(String.self)
        guard let group = Self.all.first(where: { "\($0.name)" == name }) else {
            throw DecodingError.dataCorruptedError(
                in: container, debugDescription: "there is no group '\(name)'; there are \(Self.names)")
        }
        self = group
    }

    public func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        try container.encode("\(name)")
    }

    /// For messages.
    static var names: String { all.map { "\($0.name)" }.joined(separator: ", ") }
}

extension MetaParameterGroup {
    /// All of a rule of kind pooled.
    static let ofPooled: [MetaParameterGroup] = [.decays, .step, .decay, .horizon, .direction]
}
