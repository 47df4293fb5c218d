import CLOptShims
import LOptCore

/// The rule of kind pooled in f64, plain and slow; its twin in the core is Pooled.swift. Read from top to bottom: accumulators,
/// statistics, sizes, direction, step.
public struct ReferencePooled: Sendable {
    public let architecture: Architecture
    public let theta: [Double]
    /// What the momenta are kept in, f32 or bf16.
    public let momentumType: ElementType

    public init(architecture: Architecture, theta: [Double], momentumType: ElementType = .f32) {
        precondition(architecture.kind == .pooled && theta.count == architecture.metaParameters, "theta does not fit")
        self.architecture = architecture
        self.theta = theta
        self.momentumType = momentumType
    }

    /// What the optimizer remembers of a tensor.
    public struct State: Sendable {
        public let shape: [Int]
        public var t = 0
        /// m_k, [2][n], and v, [n].
        public var momentum: [[Double]]
        public var secondMoment: [Double]
        /// The dynamic statistics of the last step; nil before the first.
        public var statistics: [Double]?
        /// A slow maximum of the mean of g^2.
        public var peak = 0.0
        /// A slow average of the mean of g^2, of at most the peak of its time.
        public var slow = 0.0
        public var stepSize = 0.0

        public init(shape: [Int]) {
            self.shape = shape
            secondMoment = Array(repeating: 0, count: shape.reduce(1, *))
            momentum = Array(repeating: secondMoment, count: 2)
        }
    }

    /// The most that a step takes off a parameter by its learned decay.
    public static let largestDecay = 0.1

    // MARK: Accumulators

    private func rate(_ initialDecay: Double, _ offset: Int) -> Double { (1 - initialDecay) * lopt_system_exp(10 * theta[offset]) }

    /// 1 - beta of v, in [0, 1].
    public var secondMomentRate: Double { min(max(rate(architecture.initialRMSDecay, architecture.rmsDecayOffset), 0), 1) }

    /// 1 - beta of m_k, at least 0.6 times that of v and at most 1.
    public func momentumRate(_ k: Int) -> Double {
        let own = rate(architecture.initialMomentumDecays[k], architecture.momentumDecaysOffset + k)
        return min(max(own, 0.6 * secondMomentRate), 1)
    }

    /// m_k of an element after step t, from 0, as one of the two bf16 numbers around it: the lower half of its 32 bits and a random number
    /// of 16 bits carry into the upper half, or not. The random number is a hash.
    public static func rounded(_ m: Double, t: Int, element i: Int, _ k: Int) -> Double {
        var key = UInt64(t) &* 0x9e37_79b9_7f4a_7c15 &+ UInt64(i / 32_768) &* 0xd1b5_4a32_d192_ed03
        key = (key ^ (key >> 30)) &* 0xbf58_476d_1ce4_e5b9
        key = (key ^ (key >> 27)) &* 0x94d0_49bb_1331_11eb
        key ^= key >> 31
        var x = UInt32(i % 32_768) &* 0x9e37_79b1 &+ UInt32(truncatingIfNeeded: key)
        x = (x ^ (x >> 14)) &* 0xc2b2_ae35
        x ^= x >> 16
        let random = k == 0 ? x & 0xffff : x >> 16
        return Double(Float(bitPattern: (Float(m).bitPattern &+ random) & 0xffff_0000))
    }

    // MARK: One step

    /// p <- p (1 - s min(size e^r, 0.1, d / 2)) (1 - s wd size) - s size G with size = nominal_stepsize e^n, d the size of the last step
    /// relative to that of p, and a learned decay below 1e-6, or of an element that has never had a
    /// gradient, is none; nothing if g is 0 everywhere.
    ///
    /// - Parameters:
    ///   - s, wd: a caller's learning-rate scale and weight decay by step size.
    ///   - totalSteps: 0 if not known.
    public func step(
        parameters p: inout [Double], gradient g: [Double], state: inout State, learningRateScale s: Double = 1,
        weightDecay wd: Double = 0, position place: LayerPosition = LayerPosition(), totalSteps: Int = 0
    ) {
        let least = Double(Float.leastNormalMagnitude)
        guard g.contains(where: { abs($0) >= least }) else {
            p = p.map { $0 * (1 - s * wd * state.stepSize) }
            return
        }
        let known = state.statistics != nil
        for i in g.indices {
            state.secondMoment[i] += secondMomentRate * (g[i] * g[i] - state.secondMoment[i])
            for k in 0..<2 {
                state.momentum[k][i] += momentumRate(k) * (g[i] - state.momentum[k][i])
                if momentumType == .bf16 { state.momentum[k][i] = Self.rounded(state.momentum[k][i], t: state.t, element: i, k) }
            }
        }
        // The unit of the gradients: 1e-4 of their size, of the largest in the first step.
        let largest = g.map(abs).max() ?? 0
        var epsilon = max(1e-8 * state.peak, 1e-36)
        if !known { epsilon = max(1e-10 * largest * largest, 1e-36) }
        if !known {
            let direction = direction(g, state, epsilon)
            note(p, g, &state, epsilon, direction: direction, size: size(0, state, place, totalSteps).step)
            epsilon = max(1e-8 * state.peak, 1e-36)
        }
        let (size, decay) = size(state.t, state, place, totalSteps)
        state.stepSize = size
        let G = direction(g, state, epsilon)
        let update = lopt_system_exp(2 * ((state.statistics?[PooledTerm.update] ?? 0) - 3))
        let learned = min(size * lopt_system_exp(decay), Self.largestDecay, update / 2)
        let own = 1 - s * (learned < 1e-6 ? 0 : learned), callers = 1 - s * wd * size
        for i in p.indices { p[i] = p[i] * (state.secondMoment[i] > 0 ? own * callers : callers) - s * size * G[i] }
        note(p, g, &state, epsilon, direction: G, size: size)
        state.t += 1
    }

    // MARK: Direction

    /// D = c_1 a_1 + c_2 a_2, a_k = m_k rsqrt(v + epsilon); G = D + c_3 h, h = g rsqrt(v + epsilon), times c_4 where h
    /// and D disagree. Every c is a number and tau times another.
    private func direction(_ g: [Double], _ state: State, _ epsilon: Double) -> [Double] {
        let tau = tau(state.t), offset = architecture.directionOffset
        let c = (0..<4).map { theta[offset + $0] + tau * theta[offset + 4 + $0] }
        return g.indices.map { i in
            let r = 1 / (state.secondMoment[i] + epsilon).squareRoot(), h = g[i] * r
            let d = (0..<2).reduce(0) { $0 + c[$1] * state.momentum[$1][i] * r }
            return (d + c[2] * h) * (h * d < 0 ? min(max(c[3], 0), 2) : 1)
        }
    }

    private func tau(_ t: Int) -> Double { Architecture.scheduleTime(Int64(t)) }

    // MARK: Sizes

    /// nominal_stepsize e^n, and r.
    private func size(_ t: Int, _ state: State, _ place: LayerPosition, _ totalSteps: Int) -> (step: Double, decay: Double) {
        let (n, r) = logs(t, statistics(state, place), totalSteps: totalSteps)
        return (architecture.nominalStepsize * lopt_system_exp(n), r)
    }

    /// What log-step and log-decay see of a tensor, not clamped: the dynamic statistics of its last step, 0 before the first, and those of
    /// its shape and place.
    public func statistics(_ state: State, _ place: LayerPosition) -> [Double] {
        let extents = state.shape.filter { $0 > 1 }, isVector = extents.count < 2
        return (state.statistics ?? Array(repeating: 0, count: PooledTerm.dynamic)) + [
            lopt_system_log(Double(max(state.secondMoment.count, 1))) / 5 - 1, isVector ? 1 : 0,
            isVector ? 0 : lopt_system_log(Double(extents.min() ?? 1)) / 3 - 1, place.tensors,
            place.isFirst ? 1 : 0, place.isLast ? 1 : 0, place.inputs, place.outputs,
        ]
    }

    /// The log-step n and the log-decay r at step t of a tensor with these statistics.
    public func logs(_ t: Int, _ statistics: [Double], totalSteps: Int = 0) -> (step: Double, decay: Double) {
        let a = architecture, phi = statistics.enumerated().map { clamp($1, $0) } + [1]
        let part = totalSteps > 0 ? min(Double(t) / Double(totalSteps), 1) : 0
        func weight(_ offset: Int) -> Double { theta[offset] + tau(t) * theta[offset + phi.count] + part * theta[offset + 2 * phi.count] }
        var n = 0.0, r = 0.0
        for (i, x) in phi.enumerated() {
            n += weight(a.statisticsStepOffset + i) * x
            r += weight(a.statisticsDecayOffset + i) * x
        }
        let times = (0..<11).map { lopt_system_log(1 + Architecture.scheduleTimes[$0]) }
        n += interpolate(a.scheduleStepOffset, times, lopt_system_log(1 + Double(t)))
        if totalSteps > 0 {
            let parts = (0..<8).map { Architecture.horizonParts[$0] }
            n += interpolate(a.horizonStepOffset, parts, part)
            n += (lopt_system_log(Double(totalSteps)) / 2 - 3.4) * interpolate(a.horizonStepOffset + 8, parts, part)
            r += interpolate(a.horizonDecayOffset, parts, part)
        }
        return (clamp(n, PooledTerm.statistics), clamp(r, PooledTerm.statistics + 1))
    }

    private func clamp(_ x: Double, _ i: Int) -> Double {
        let offset = architecture.statisticsRangesOffset
        return min(max(x, theta[offset + i]), theta[offset + PooledTerm.statistics + 2 + i])
    }

    /// Linear between knots, constant outside of them.
    private func interpolate(_ offset: Int, _ knots: [Double], _ x: Double) -> Double {
        let right = knots.firstIndex { $0 > x } ?? knots.count
        if right == knots.count { return theta[offset + knots.count - 1] }
        if right == 0 { return theta[offset] }
        let part = (x - knots[right - 1]) / (knots[right] - knots[right - 1])
        return theta[offset + right - 1] + part * (theta[offset + right] - theta[offset + right - 1])
    }

    // MARK: Statistics

    /// Over the elements that have ever had a gradient; see `PooledTerm` for what they are.
    private func note(
        _ p: [Double], _ g: [Double], _ state: inout State, _ epsilon: Double, direction: [Double], size: Double
    ) {
        let live = Double(max(state.secondMoment.filter { $0 > 0 }.count, 1))
        let r = state.secondMoment.map { 1 / ($0 + epsilon).squareRoot() }
        let h = g.indices.map { g[$0] * r[$0] }, a = state.momentum.map { m in m.indices.map { m[$0] * r[$0] } }
        func mean(_ x: [Double], _ y: [Double]) -> Double { zip(x, y).reduce(0) { $0 + $1.0 * $1.1 } / live }
        func log(_ x: Double) -> Double { lopt_system_log(x) }
        func cosine(_ product: Double, _ x2: Double, _ y2: Double) -> Double {
            let length = (max(x2, 0) * max(y2, 0)).squareRoot()
            return length > 1e-12 ? min(max(product / length, -1), 1) : 0
        }
        let moved = p.indices.map { state.secondMoment[$0] > 0 ? p[$0] : 0 }, parameterSize = mean(moved, moved).squareRoot()
        let g2 = mean(g, g)
        state.peak = state.statistics == nil ? g2 : min(max(g2, 0.998 * state.peak), 4 * state.peak)
        state.slow = state.statistics == nil ? g2 : state.slow + 0.02 * (min(g2, state.peak) - state.slow)
        let G = (direction.reduce(0) { $0 + $1 * $1 } / Double(direction.count)).squareRoot()
        var values = [log(parameterSize + 1e-3) + 2]
        values += a.map { log(mean($0, $0).squareRoot() + 1e-3) + 1 }
        values += [log(mean(h, h).squareRoot() + 1e-3)]
        values += (0..<2).map { k in
            // beta a_k as it was before g.
            let before = a[k].indices.map { a[k][$0] - momentumRate(k) * h[$0] }
            // What is left of a_k once g is gone may be rounding alone, as in the first step: then it counts as nothing.
            return cosine(mean(h, before), mean(h, h), mean(before, before) + 1e-4 * mean(a[k], a[k]))
        }
        values += [4 * cosine(h.reduce(0) { $0 + abs($1) } / live, mean(h, h), 1) - 3]
        values += [g2, state.slow].map { log(($0 / max(state.peak, 1e-60)).squareRoot() + 1e-4) / 2 }
        values += [log(size * G / (parameterSize + 1e-3) + 1e-6) / 2 + 3]
        state.statistics = values
    }
}
