import CLOptShims

// The rule of kind pooled: a step of one pass over a tensor. Its twin in the reference is ReferencePooled.swift.
//
//     p <- p (1 - min(s exp(r), 0.1, d / 2)) - s G,   s = nominal_stepsize exp(n)
//
// d is the size of the last step beside that of the parameters: decay never takes a tensor farther than half of a gradient's step.
// An element that has never had a gradient, as a mask, has none.
//
// The log-step n and the log-decay r are log-linear in statistics of the tensor, pooled in its last step from quantities that are
// normalised for each element and hence bounded, each clamped to the range that meta-training showed. Nothing of it depends on
// another tensor's gradient, on the unit of the gradients or on the caller's scales.

/// The terms of the log-step and of the log-decay: the statistics of a tensor, then 1.
public enum PooledTerm {
    /// log(RMS(p) + 1e-3) + 2 over the elements that have ever had a gradient.
    public static let size = 0
    /// log(RMS(a_k) + 1e-3) + 1 of a_k = m_k r: how much of the gradient is signal, on two timescales.
    public static let signal = 1
    /// log(RMS(h) + 1e-3) of h = g r: the gradient against its own history.
    public static let gradient = 3
    /// The cosines of h with a_k as they were before it.
    public static let agreement = 4
    /// 4 mean |h| / RMS(h) - 3: how many elements share in the gradient.
    public static let density = 6
    /// log(RMS(g) / peak + 1e-4) / 2, the peak a slow maximum of RMS(g); and the same of a slow average of g^2.
    public static let vanishing = 7
    /// log(s RMS(G) / (RMS(p) + 1e-3) + 1e-6) / 2 + 3, the caller's scales left out.
    public static let update = 9
    /// Those above are known after the first pass alone.
    public static let dynamic = 10
    /// log(elements) / 5 - 1.
    public static let elements = 10
    /// 1 for a tensor of fewer than two extents above 1.
    public static let vector = 11
    /// log(the least extent above 1) / 3 - 1; 0 for vectors.
    public static let extent = 12
    /// log(number of tensors) / 2 - 1.
    public static let tensors = 13
    /// Whether it belongs to the first or the last layer, see `LayerPosition`.
    public static let first = 14
    public static let last = 15
    /// log(width) / 3 - 1 of what goes into the network and of what comes out, see `LayerPosition`; 0 where no tensor tells.
    public static let inputs = 16
    public static let outputs = 17
    public static let statistics = 18
    public static let bias = 18
    public static let count = 19
}

/// Where a tensor stands in its network, and how wide that is at its ends.
public struct LayerPosition: Equatable, Sendable {
    public let isFirst, isLast: Bool
    /// The statistics of the network.
    public let tensors, inputs, outputs: Double

    /// `inputs`, `outputs`: widths, nil if no tensor tells.
    public init(tensors: Int = 1, isFirst: Bool = true, isLast: Bool = true, inputs: Int? = nil, outputs: Int? = nil) {
        var shape = NetworkShape()
        shape.inputs = inputs.map { ScalarMath.log(Double($0)) / 3 - 1 } ?? 0
        shape.outputs = outputs.map { ScalarMath.log(Double($0)) / 3 - 1 } ?? 0
        self.init(shape, logTensors: ScalarMath.log(Double(tensors)), isFirst: isFirst, isLast: isLast)
    }

    private init(_ shape: NetworkShape, logTensors: Double, isFirst: Bool, isLast: Bool) {
        (self.isFirst, self.isLast) = (isFirst, isLast)
        (tensors, inputs, outputs) = (logTensors / 2 - 1, shape.inputs, shape.outputs)
    }

    /// Of tensor `index`.
    init(_ index: Int, _ shape: NetworkShape, logTensors: Double) {
        self.init(
            shape, logTensors: logTensors, isFirst: shape.secondLayer < 0 || index < shape.secondLayer, isLast: index >= shape.lastLayer)
    }
}

/// What the shapes of the tensors tell of the network, in their order.
struct NetworkShape {
    /// The tensors that begin the second and the last layer; -1: there is none. A layer begins with a tensor of two extents above 1.
    var secondLayer = -1, lastLayer = -1
    /// The statistics of the widths at the ends, 0 without a matrix. What goes in: the narrower side of the first matrix, or one number if
    /// two vectors and more are before it, as [1, 28] and its bias are. What comes out: that of the last matrix, or the size of the vector
    /// that ends the network, if it is less: a bias of one output behind [28, 1].
    var inputs = 0.0, outputs = 0.0
    private var lastWidth = 0.0

    init() {}

    /// Of `count` tensors.
    init(_ tensors: UnsafePointer<Tensor>, _ count: Int) {
        for i in 0..<count { add(tensors[i].identity, i) }
    }

    /// Tensor `index` comes next.
    mutating func add(_ tensor: TensorIdentity, _ index: Int) {
        let width = tensor.logWidth / 3 - 1
        if tensor.extentsAboveOne > 1 {
            if lastLayer < 0 { inputs = index < 2 ? width : -1 }
            if lastLayer >= 0 && secondLayer < 0 { secondLayer = index }
            (lastLayer, lastWidth) = (index, width)
            outputs = width
        } else if lastLayer >= 0 {
            outputs = min(lastWidth, tensor.logElements / 3 - 1)
        }
    }
}

/// What the rule makes of the number of steps taken before: most often the same for all tensors.
struct PooledTime {
    let steps: Int64
    /// The t of the weights, log(1 + min(t, 30000) / 30) / 5.
    let tau: Double
    /// S(log(1 + t)) of the log-step.
    let schedule: Double
}

/// What a step leaves behind for the next one.
struct PooledState {
    /// The dynamic statistics of the last step, not clamped.
    var values = [10 of Double](repeating: 0)
    /// A slow maximum of the mean of g^2: it rises at most fourfold in a step, so that one spike does not make it forget, and
    /// falls by 0.2 % in a step.
    var peak = 0.0
    /// A slow average of the mean of g^2, of at most the peak of its time.
    var slow = 0.0
    /// The statistics have been taken.
    var isKnown = false
}

extension Architecture {
    public static let scheduleTimes: [11 of Double] = [0, 1, 3, 10, 30, 100, 300, 1000, 3000, 10_000, 30_000]
    public static let horizonParts: [8 of Double] = [0, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 1]
    /// Weights of the direction: of a_1, a_2, h, and the factor where gradient and momenta disagree.
    public static let directionTerms = 4

    /// The blocks of meta-parameters, in the order of their offsets.
    public var statisticsStepOffset: Int { momenta + 1 }
    public var scheduleStepOffset: Int { statisticsStepOffset + 2 * PooledTerm.count }
    public var statisticsDecayOffset: Int { scheduleStepOffset + 11 }
    public var horizonStepOffset: Int { statisticsDecayOffset + 2 * PooledTerm.count }
    public var horizonDecayOffset: Int { horizonStepOffset + 2 * 8 }
    public var directionOffset: Int { horizonDecayOffset + 8 }
    public var statisticsRangesOffset: Int { directionOffset + 2 * Architecture.directionTerms }
    var pooledMetaParameters: Int { statisticsRangesOffset + 2 * (PooledTerm.statistics + 2) }

    /// Whether what a step does depends on the number of steps in all.
    func usesTotalSteps(_ theta: UnsafePointer<Float>) -> Bool {
        guard kind == .pooled else { return false }
        for i in horizonStepOffset..<directionOffset where theta[i] != 0 { return true }
        return false
    }

    /// Before any has been measured.
    public static func defaultPooledRange(_ i: Int) -> (least: Double, most: Double) {
        switch i {
        case PooledTerm.size: (-4, 4)
        case PooledTerm.signal..<PooledTerm.gradient: (-5, 2)
        case PooledTerm.gradient: (-5, 2)
        case PooledTerm.agreement..<PooledTerm.density: (-1, 1)
        case PooledTerm.density: (-3, 1)
        case PooledTerm.vanishing..<PooledTerm.update: (-4, 0.1)
        case PooledTerm.update: (-2, 3)
        case PooledTerm.elements, PooledTerm.extent, PooledTerm.tensors, PooledTerm.inputs, PooledTerm.outputs: (-1, 2)
        case PooledTerm.statistics: (-8, 2)
        case PooledTerm.statistics + 1: (-16, 4)
        default: (0, 1)
        }
    }
}

extension Tensor {
    /// Statistic `i` as the next step sees it, not clamped.
    @inline(__always)
    func pooledStatistic(_ i: Int, _ position: LayerPosition) -> Double {
        switch i {
        case ..<PooledTerm.dynamic: progress.pooled.values[i]
        case PooledTerm.elements: identity.logElements / 5 - 1
        case PooledTerm.vector: identity.extentsAboveOne < 2 ? 1 : 0
        case PooledTerm.extent: identity.extentsAboveOne < 2 ? 0 : identity.logLeastExtent / 3 - 1
        case PooledTerm.tensors: position.tensors
        case PooledTerm.first: position.isFirst ? 1 : 0
        case PooledTerm.last: position.isLast ? 1 : 0
        case PooledTerm.inputs: position.inputs
        default: position.outputs
        }
    }
}

extension Optimizer {
    /// Of weights of kind pooled: what a tensor's next step sees, 18 statistics not clamped, and its log-step and log-decay, which are;
    /// nil before the first step.
    public func pooledStatistics(_ index: Int) throws(LOptError) -> [20 of Double]? {
        try checkIndex(index)
        guard architecture.kind == .pooled, tensors[index].progress.pooled.isKnown else { return nil }
        let t = tensors[index], place = LayerPosition(index, shape, logTensors: ScalarMath.log(Double(count)))
        let logs = rule.pooledLogs(tensors + index, place, rule.pooledTime(t.progress.steps), totalSteps: totalSteps)
        var values = [20 of Double](repeating: 0)
        for i in 0..<PooledTerm.statistics { values[i] = t.pooledStatistic(i, place) }
        (values[PooledTerm.statistics], values[PooledTerm.statistics + 1]) = (logs.step, logs.decay)
        return values
    }
}

extension Rule {
    /// A learned decay below it is none: 1 minus it would be a rounding of f32, which large parameters follow step after step.
    static let leastDecay = 1e-6
    /// 1 - beta of the slow average of the mean of g^2.
    static let slowRate = 0.02

    /// What the rule makes of the number of steps taken before.
    func pooledTime(_ steps: Int64) -> PooledTime {
        let times = Architecture.scheduleTimes
        // In log(1 + t); the interval is found without a logarithm.
        return PooledTime(
            steps: steps, tau: Architecture.scheduleTime(steps),
            schedule: interpolate(theta + architecture.scheduleStepOffset, at: Double(steps), 11, { times[$0] }) { ScalarMath.log(1 + $0) })
    }

    /// The log-step and the log-decay of a tensor's next step. `totalSteps`: that the training will take; 0: not known.
    func pooledLogs(
        _ t: UnsafePointer<Tensor>, _ position: LayerPosition, _ time: PooledTime, totalSteps: Int64
    ) -> (step: Double, decay: Double) {
        let a = architecture, least = theta + a.statisticsRangesOffset, most = least + (PooledTerm.statistics + 2)
        @inline(__always) func clamp(_ x: Double, _ i: Int) -> Double { min(max(x, Double(least[i])), Double(most[i])) }
        // Both at once: W_0 + tau W_1 and U_0 + tau U_1, of the log-step and of the log-decay.
        let step = theta + a.statisticsStepOffset, decay = theta + a.statisticsDecayOffset
        @inline(__always) func pair(_ i: Int) -> SIMD2<Double> { SIMD2(Double(step[i]), Double(decay[i])) }
        @inline(__always) func weights(_ i: Int) -> SIMD2<Double> { pair(i) + time.tau * pair(PooledTerm.count + i) }
        var sum = weights(PooledTerm.bias)
        // Statistic by statistic: an array of them would cost a small tensor a sixth of its step.
        @inline(__always) func add(_ i: Int) { sum += weights(i) * clamp(t.pointee.pooledStatistic(i, position), i) }
        for i in 0..<PooledTerm.dynamic { sum += weights(i) * clamp(t.pointee.progress.pooled.values[i], i) }
        add(PooledTerm.elements)
        add(PooledTerm.vector)
        add(PooledTerm.extent)
        add(PooledTerm.tensors)
        add(PooledTerm.first)
        add(PooledTerm.last)
        add(PooledTerm.inputs)
        add(PooledTerm.outputs)
        var n = sum.x + time.schedule, r = sum.y
        if totalSteps > 0 {
            let total = Double(totalSteps), part = min(Double(t.pointee.progress.steps) / total, 1), parts = Architecture.horizonParts
            let size = ScalarMath.log(total) / 2 - 3.4
            n += interpolate(theta + a.horizonStepOffset, at: part, 8, { parts[$0] }) { $0 }
            n += size * interpolate(theta + a.horizonStepOffset + 8, at: part, 8, { parts[$0] }) { $0 }
            r += interpolate(theta + a.horizonDecayOffset, at: part, 8, { parts[$0] }) { $0 }
        }
        return (clamp(n, PooledTerm.statistics), clamp(r, PooledTerm.statistics + 1))
    }

    /// Linear in scale(x) between knots, constant outside of them; `scale` grows with x.
    private func interpolate(
        _ values: UnsafePointer<Float>, at x: Double, _ count: Int, _ knot: (Int) -> Double, scale: (Double) -> Double
    ) -> Double {
        var i = 0
        while i < count - 2 && x > knot(i + 1) { i += 1 }
        let left = scale(knot(i)), right = scale(knot(i + 1)), part = min(max((scale(x) - left) / (right - left), 0), 1)
        return Double(values[i]) + part * (Double(values[i + 1]) - Double(values[i]))
    }

    /// What the pass over a tensor does.
    func pooledStep(_ t: UnsafePointer<Tensor>, _ caller: CallerScales, _ time: PooledTime, decay: Double) -> lopt_pooled {
        var step = lopt_pooled()
        let tau = time.tau, mix = theta + architecture.directionOffset
        func weight(_ i: Int) -> Float { mix[i] + Float(tau) * mix[Architecture.directionTerms + i] }
        step.updates_state = 1
        step.writes = caller.learningRate > 0 && t.pointee.step.limit > 0 ? 1 : 0
        step.epsilon = Float(max(1e-8 * t.pointee.progress.pooled.peak, 1e-36))
        (step.momentum1, step.momentum2) = (weight(0), weight(1))
        step.gradient = weight(2)
        step.disagreement = min(max(weight(3), 0), 2)
        let size = t.pointee.progress.stepSize
        let update = ScalarMath.exp(2 * (t.pointee.progress.pooled.values[PooledTerm.update] - 3))
        var learned = min(size * ScalarMath.exp(decay) * caller.learnedDecay, 0.1, update / 2)
        if learned < Rule.leastDecay { learned = 0 }
        learned *= caller.learningRate
        func keep(_ learned: Double) -> Float {
            Float(max((1 - learned) * (1 - caller.decayByStepSize * size) - caller.decayPerStep, 0))
        }
        (step.keep, step.idle_keep) = (keep(learned), keep(0))
        step.scale = Float(min(caller.learningRate * t.pointee.step.limit * size, 3e38))
        return step
    }

    /// nominal_stepsize exp(n).
    func pooledStepSize(_ n: Double) -> Double {
        let size = architecture.nominalStepsize * ScalarMath.exp(min(max(n, -87.3), 88.3))
        return size.isFinite ? min(size, Optimizer.largestScale) : 0
    }

    /// The statistics of a pass, for the next step. `scale`: that of the pass, the caller's included.
    func notePooled(_ t: inout Tensor, _ sums: UnsafePointer<Double>, scale: Double) {
        let live = max(sums[Int(LOPT_POOLED_LIVE)], 1), count = Double(t.elements)
        func mean(_ slot: Int) -> Double { min(max(sums[slot] / live, -1e60), 1e60) }
        let size2 = mean(Int(LOPT_POOLED_LIVE_P2)), h2 = mean(Int(LOPT_POOLED_H2)), g2 = mean(Int(LOPT_POOLED_G2))
        let a2 = (mean(Int(LOPT_POOLED_A2)), mean(Int(LOPT_POOLED_A2) + 1))
        let isKnown = t.progress.pooled.isKnown
        let peak = isKnown ? min(max(g2, 0.998 * t.progress.pooled.peak), 4 * t.progress.pooled.peak) : g2
        let slow = isKnown ? t.progress.pooled.slow + Rule.slowRate * (min(g2, peak) - t.progress.pooled.slow) : g2
        (t.progress.pooled.peak, t.progress.pooled.slow) = (peak, slow)
        // RMS of p, a_1, a_2, h, g and its slow average against the peak, and G; u = scale G.
        let direction2 = max(sums[Int(LOPT_POOLED_U2)], 0) / count, unit = max(peak, 1e-60)
        let squares = SIMD8(size2, a2.0, a2.1, h2, g2 / unit, slow / unit, direction2, 0)
        var roots = squares.replacing(with: 0, where: squares .< 0).squareRoot()
        let direction = scale > 0 ? roots[6] / scale : 0
        roots[6] = t.progress.stepSize * min(direction, 1e30) / (roots[0] + 1e-3)
        let logs = ScalarMath.log(roots + SIMD8(1e-3, 1e-3, 1e-3, 1e-3, 1e-4, 1e-4, 1e-6, 1))
        t.progress.pooled.values[PooledTerm.size] = logs[0] + 2
        t.progress.pooled.values[PooledTerm.signal] = logs[1] + 1
        t.progress.pooled.values[PooledTerm.signal + 1] = logs[2] + 1
        t.progress.pooled.values[PooledTerm.gradient] = logs[3]
        t.progress.pooled.values[PooledTerm.vanishing] = logs[4] / 2
        t.progress.pooled.values[PooledTerm.vanishing + 1] = logs[5] / 2
        t.progress.pooled.values[PooledTerm.update] = logs[6] / 2 + 3
        for k in 0..<2 {
            let own2 = squares[1 + k], ha = mean(Int(LOPT_POOLED_HA) + k)
            // m before it took in g: beta a_old = a - (1 - beta) h.
            let rate = Double(kernel.momentum_rate[k])
            // What is left of it may be rounding alone, as in the first step: then it counts as nothing.
            let before2 = max(own2 - 2 * rate * ha + rate * rate * h2, 0) + 1e-4 * own2
            t.progress.pooled.values[PooledTerm.agreement + k] = Rule.cosine(ha - rate * h2, h2, before2)
        }
        // Of |h| with 1: a cosine as well.
        t.progress.pooled.values[PooledTerm.density] = 4 * Rule.cosine(mean(Int(LOPT_POOLED_H)), h2, 1) - 3
        t.progress.pooled.isKnown = true
    }

    private static func cosine(_ product: Double, _ x2: Double, _ y2: Double) -> Double {
        let length = (max(x2, 0) * max(y2, 0)).squareRoot()
        return length > 1e-12 ? min(max(product / length, -1), 1) : 0
    }
}
