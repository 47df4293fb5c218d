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
    /// -1: nothing yet.
    var steps: Int64 = -1
    /// The t of the weights, log(1 + min(t, 30000) / 30) / 5.
    var tau = 0.0
    /// What is added to log-step and log-decay.
    var logs = SIMD2<Double>()
    var step = PooledTerms(), decay = PooledTerms()
    /// The ranges of the terms, that of the 1 included.
    var least = PooledTerms(), most = PooledTerms()
}

/// A number for each term, 0 behind the last: so that a tensor's sums over all are a few operations on vectors.
struct PooledTerms {
    var first = SIMD8<Double>(), second = SIMD8<Double>(), third = SIMD8<Double>()

    init() {}
    init(_ first: SIMD8<Double>, _ second: SIMD8<Double>, _ third: SIMD8<Double>) {
        (self.first, self.second, self.third) = (first, second, third)
    }
    init(_ value: (Int) -> Double) {
        for i in 0..<8 { (first[i], second[i]) = (value(i), value(8 + i)) }
        for i in 16..<PooledTerm.count { third[i - 16] = value(i) }
    }

    subscript(i: Int) -> Double { i < 8 ? first[i] : i < 16 ? second[i - 8] : third[i - 16] }

    @inline(__always)
    func clamped(_ least: PooledTerms, _ most: PooledTerms) -> PooledTerms {
        PooledTerms(
            PooledTerms.clamp(first, least.first, most.first), PooledTerms.clamp(second, least.second, most.second),
            PooledTerms.clamp(third, least.third, most.third))
    }

    @inline(__always)
    private static func clamp(_ x: SIMD8<Double>, _ least: SIMD8<Double>, _ most: SIMD8<Double>) -> SIMD8<Double> {
        var y = x
        for i in 0..<8 { y[i] = min(max(x[i], least[i]), most[i]) }
        return y
    }

    /// The sum of the products, of places that are 8, then 4, 2 and 1 apart.
    @inline(__always)
    func dot(_ x: PooledTerms) -> Double {
        let eight = (first * x.first + second * x.second) + third * x.third
        let four = eight.lowHalf + eight.highHalf, two = four.lowHalf + four.highHalf
        return two.x + two.y
    }
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
    public var scheduleStepOffset: Int { statisticsStepOffset + 3 * PooledTerm.count }
    public var statisticsDecayOffset: Int { scheduleStepOffset + 11 }
    public var horizonStepOffset: Int { statisticsDecayOffset + 3 * PooledTerm.count }
    public var horizonDecayOffset: Int { horizonStepOffset + 2 * 8 }
    public var directionOffset: Int { horizonDecayOffset + 8 }
    public var statisticsRangesOffset: Int { directionOffset + 2 * Architecture.directionTerms }
    var pooledMetaParameters: Int { statisticsRangesOffset + 2 * (PooledTerm.statistics + 2) }

    /// Whether what a step does depends on the number of steps in all.
    func usesTotalSteps(_ theta: UnsafePointer<Float>) -> Bool {
        guard kind == .pooled else { return false }
        for i in horizonStepOffset..<directionOffset where theta[i] != 0 { return true }
        // The last rows of the weights of the statistics.
        for i in (2 * PooledTerm.count)..<(3 * PooledTerm.count)
        where theta[statisticsStepOffset + i] != 0 || theta[statisticsDecayOffset + i] != 0 {
            return true
        }
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
    /// As the next step sees them, not clamped.
    @inline(__always)
    func pooledTerms(_ place: LayerPosition) -> PooledTerms {
        let v = progress.pooled.values, isVector = identity.extentsAboveOne < 2
        return PooledTerms(
            SIMD8(v[0], v[1], v[2], v[3], v[4], v[5], v[6], v[7]),
            SIMD8(
                v[8], v[9], identity.logElements / 5 - 1, isVector ? 1 : 0, isVector ? 0 : identity.logLeastExtent / 3 - 1, place.tensors,
                place.isFirst ? 1 : 0, place.isLast ? 1 : 0),
            SIMD8(place.inputs, place.outputs, 1, 0, 0, 0, 0, 0))
    }
}

extension Optimizer {
    /// Of weights of kind pooled: what a tensor's next step sees, 18 statistics not clamped, and its log-step and log-decay, which are;
    /// nil before the first step.
    public func pooledStatistics(_ index: Int) throws(LOptError) -> [20 of Double]? {
        try checkIndex(index)
        guard architecture.kind == .pooled, tensors[index].progress.pooled.isKnown else { return nil }
        let t = tensors + index, place = LayerPosition(index, shape, logTensors: ScalarMath.log(Double(count)))
        var time = rule.pooledTime(t.pointee.progress.steps, totalSteps: totalSteps)
        let logs = rule.pooledLogs(t, place, &time), terms = t.pointee.pooledTerms(place)
        var values = [20 of Double](repeating: 0)
        for i in 0..<PooledTerm.statistics { values[i] = terms[i] }
        (values[PooledTerm.statistics], values[PooledTerm.statistics + 1]) = (logs.step, logs.decay)
        return values
    }
}

extension Rule {
    /// A learned decay below it is none: 1 minus it would be a rounding of f32, which large parameters follow step after step.
    static let leastDecay = 1e-6
    /// 1 - beta of the slow average of the mean of g^2.
    static let slowRate = 0.02

    /// What the rule makes of the number of steps taken before. `totalSteps`: that the training will take; 0: not known.
    func pooledTime(_ steps: Int64, totalSteps: Int64) -> PooledTime {
        let a = architecture, times = Architecture.scheduleTimes
        var time = PooledTime(steps: steps, tau: Architecture.scheduleTime(steps)), part = 0.0
        // In log(1 + t); the interval is found without a logarithm.
        time.logs.x = interpolate(theta + a.scheduleStepOffset, at: Double(steps), 11, { times[$0] }) { ScalarMath.log(1 + $0) }
        if totalSteps > 0 {
            let parts = Architecture.horizonParts, size = ScalarMath.log(Double(totalSteps)) / 2 - 3.4
            part = min(Double(steps) / Double(totalSteps), 1)
            time.logs.x += interpolate(theta + a.horizonStepOffset, at: part, 8, { parts[$0] }) { $0 }
            time.logs.x += size * interpolate(theta + a.horizonStepOffset + 8, at: part, 8, { parts[$0] }) { $0 }
            time.logs.y = interpolate(theta + a.horizonDecayOffset, at: part, 8, { parts[$0] }) { $0 }
        }
        func weights(_ offset: Int) -> PooledTerms {
            PooledTerms { i in
                let one = theta + (offset + i)
                return Double(one[0]) + time.tau * Double(one[PooledTerm.count]) + part * Double(one[2 * PooledTerm.count])
            }
        }
        (time.step, time.decay) = (weights(a.statisticsStepOffset), weights(a.statisticsDecayOffset))
        let least = theta + a.statisticsRangesOffset, most = least + (PooledTerm.statistics + 2)
        time.least = PooledTerms { $0 < PooledTerm.bias ? Double(least[$0]) : 1 }
        time.most = PooledTerms { $0 < PooledTerm.bias ? Double(most[$0]) : 1 }
        return time
    }

    /// The log-step and the log-decay of a tensor's next step.
    func pooledLogs(
        _ t: UnsafePointer<Tensor>, _ place: LayerPosition, _ time: UnsafePointer<PooledTime>
    ) -> (step: Double, decay: Double) {
        let own = t.pointee.pooledTerms(place).clamped(time.pointee.least, time.pointee.most)
        let least = theta + architecture.statisticsRangesOffset, most = least + (PooledTerm.statistics + 2)
        func clamp(_ x: Double, _ i: Int) -> Double { min(max(x, Double(least[i])), Double(most[i])) }
        return (
            clamp(time.pointee.step.dot(own) + time.pointee.logs.x, PooledTerm.statistics),
            clamp(time.pointee.decay.dot(own) + time.pointee.logs.y, PooledTerm.statistics + 1)
        )
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

    /// The step size nominal_stepsize exp(n) of a tensor, and what the pass over it does.
    func pooledStep(
        _ t: UnsafePointer<Tensor>, _ place: LayerPosition, _ caller: CallerScales, _ time: UnsafePointer<PooledTime>
    ) -> (size: Double, step: lopt_pooled) {
        let logs = pooledLogs(t, place, time)
        // exp(n), exp(r), and the last step beside the parameters.
        let powers = ScalarMath.exp(
            SIMD4(min(max(logs.step, -87.3), 88.3), logs.decay, 2 * (t.pointee.progress.pooled.values[PooledTerm.update] - 3), 0))
        var size = architecture.nominalStepsize * powers.x
        size = size.isFinite ? min(size, Optimizer.largestScale) : 0
        var step = lopt_pooled()
        let tau = time.pointee.tau, mix = theta + architecture.directionOffset
        func weight(_ i: Int) -> Float { mix[i] + Float(tau) * mix[Architecture.directionTerms + i] }
        step.updates_state = 1
        step.writes = caller.learningRate > 0 && t.pointee.step.limit > 0 ? 1 : 0
        step.epsilon = Float(max(1e-8 * t.pointee.progress.pooled.peak, 1e-36))
        (step.momentum1, step.momentum2) = (weight(0), weight(1))
        step.gradient = weight(2)
        step.disagreement = min(max(weight(3), 0), 2)
        var learned = min(size * powers.y * caller.learnedDecay, 0.1, powers.z / 2)
        if learned < Rule.leastDecay { learned = 0 }
        learned *= caller.learningRate
        func keep(_ learned: Double) -> Float {
            Float(max((1 - learned) * (1 - caller.decayByStepSize * size) - caller.decayPerStep, 0))
        }
        (step.keep, step.idle_keep) = (keep(learned), keep(0))
        step.scale = Float(min(caller.learningRate * t.pointee.step.limit * size, 3e38))
        return (size, step)
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
