import CLOptShims

// The per-tensor arithmetic of the extensions tensor_scale, tensor_schedule, tensor_count and tensor_ranges. Its twin in the
// reference is ReferenceTensorStatistics.swift.

/// What the extensions' log-step sees of a tensor in a step, in the order of the columns of `tensor_ranges`, not yet clamped:
/// size of the parameters, K persistences of the gradient, K signal-to-noise ratios, number of elements, rank < 2, gradient
/// against its history, number of tensors.
struct TensorStatistics {
    /// 5 + 2 K of them, for K up to 8.
    private(set) var values = [21 of Double](repeating: 0)

    /// - Parameters:
    ///   - sums: of the accumulator pass in this step.
    ///   - tensors: how many the optimizer has.
    init(_ t: Tensor, _ sums: TensorSums, momenta: Int, tensors: Int) {
        // Sums of f32 squares may overflow; a logarithm of infinity would reach every parameter.
        func rms(_ meanSquare: Double) -> Double { min(meanSquare, 1e60).squareRoot() }
        let gradient = rms(sums.mean(Int(LOPT_SUM_G2)))
        values[0] = ScalarMath.log(rms(sums.liveParameter) + 1e-3) + 2
        for k in 0..<momenta {
            let persistence = rms(sums.mean(k, Int(LOPT_SUM_M2))) / (gradient + 1e-12)
            values[1 + k] = ScalarMath.log(persistence + 1e-3) + 1.5
            let signalToNoise = rms(sums.mean(k, Int(LOPT_SUM_M_RSQRT_V2)))
            values[1 + momenta + k] = ScalarMath.log(signalToNoise + 1e-3) + 1
        }
        let others = 1 + 2 * momenta
        values[others] = ScalarMath.log(sums.count) / 5 - 1
        values[others + 1] = t.identity.extentsAboveOne < 2 ? 1 : 0
        let history = rms(sums.mean(Int(LOPT_SUM_V2))).squareRoot()
        values[others + 2] = ScalarMath.log(gradient / (history + 1e-12) + 1e-3)
        values[others + 3] = ScalarMath.log(Double(tensors)) / 2 - 1
    }
}

extension Optimizer {
    /// The statistics of a tensor in its last step, `architecture.statistics` of them, not clamped; nil before the first and with weights
    /// of kind pooled. With sums over idle or skipped steps left as they were.
    public func lastStatistics(_ index: Int) throws(LOptError) -> [21 of Double]? {
        try checkIndex(index)
        let t = tensors[index]
        guard t.progress.steps > 0, t.geometry.count > 0, architecture.kind != .pooled else { return nil }
        return TensorStatistics(t, TensorSums(t), momenta: architecture.momenta, tensors: count).values
    }

    /// The nominal log-step of a tensor in its last step; nil before the first, and without a nominal term.
    public func lastLogStep(_ index: Int) throws(LOptError) -> Double? {
        try checkIndex(index)
        let a = architecture, size = tensors[index].progress.stepSize
        guard size > 0, a.nominalStepsize > 0, a.expMult[1] != 0 else { return nil }
        return ScalarMath.log(size / a.nominalStepsize) / a.expMult[1]
    }
}

extension Rule {
    /// What the extensions add to the nominal log-step of a tensor, before the whole is clamped: sum_i u_i phi_i of tensor_scale,
    /// w_0 psi + tau sum_i w_i (phi, psi, 1)_i of tensor_schedule and (c_0 + tau c_1) times the number of tensors' logarithm of
    /// tensor_count, every statistic clamped to its range.
    func logStepShift(_ t: Tensor, _ sums: TensorSums, tensors: Int) -> Double {
        let a = architecture
        guard a.tensorScale, plan.nominal != .off else { return 0 }
        let statistics = TensorStatistics(t, sums, momenta: a.momenta, tensors: tensors)
        let ranges = a.ranges(theta)
        func phi(_ i: Int) -> Double {
            let range = a.statisticRange(i, in: ranges)
            return min(max(statistics.values[i], range.least), range.most)
        }
        let tau = a.tensorSchedule || a.tensorCount ? Architecture.scheduleTime(t.progress.steps) : 0
        let scales = a.count(of: .tensorScale)
        let u = theta + a.offset(of: .tensorScale), w = theta + a.offset(of: .tensorSchedule)
        let c = theta + a.offset(of: .tensorCount)
        var n = 0.0
        for i in 0..<scales { n += (Double(u[i]) + (a.tensorSchedule ? tau * Double(w[1 + i]) : 0)) * phi(i) }
        if a.tensorCount { n += (Double(c[0]) + tau * Double(c[1])) * phi(scales + 1) }
        guard a.tensorSchedule else { return n }
        let psi = phi(scales)
        return n + Double(w[0]) * psi + tau * (Double(w[1 + scales]) * psi + Double(w[2 + scales]))
    }
}

// MARK: - Ranges

extension Rule {
    /// The nominal log-step of a head with what the extensions add to it. The authors' rule knows no limits.
    func logStep(head n: Double, shift: Double) -> Double {
        let limits = logStepLimits
        return min(max(n + shift, limits.least), limits.most)
    }

    var logStepLimits: (least: Double, most: Double) {
        architecture.tensorScale ? architecture.statisticRange(architecture.statistics, theta) : (-.infinity, .infinity)
    }
}

extension Architecture {
    /// Statistics of a tensor that the extension `tensorScale` and those on it see, and the column of the log-step in
    /// `tensor_ranges`.
    public var statistics: Int { 5 + 2 * momenta }

    /// Where statistic `i` is clamped; i = `statistics` is the nominal log-step with all that was added to it. Without the
    /// extension `tensorRanges`, what ordinary training shows, and sizes and numbers of tensors as networks have them: any weights may come without.
    public func statisticRange(_ i: Int, _ theta: UnsafePointer<Float>) -> (least: Double, most: Double) {
        statisticRange(i, in: ranges(theta))
    }

    func ranges(_ theta: UnsafePointer<Float>) -> UnsafePointer<Float>? { tensorRanges ? theta + offset(of: .tensorRanges) : nil }

    func statisticRange(_ i: Int, in ranges: UnsafePointer<Float>?) -> (least: Double, most: Double) {
        guard let ranges else { return defaultStatisticRange(i) }
        return (Double(ranges[i]), Double(ranges[statistics + 1 + i]))
    }

    public func defaultStatisticRange(_ i: Int) -> (least: Double, most: Double) {
        switch i {
        case 0: return (-5, 5)
        case ...momenta: return (-6, 3)
        case ...(2 * momenta): return (-6, 2)
        case 1 + 2 * momenta: return (-1, 5)
        case 2 + 2 * momenta: return (0, 1)
        case 3 + 2 * momenta: return (-7, 8)
        case 4 + 2 * momenta: return (-1, 3)
        // In units of weights that nobody knows here: wide.
        default: return (-12, 5)
        }
    }

    /// tau = log(1 + min(t, 30,000) / 30) / 5 of the extension tensor_schedule: 0 at first, 0.7 at 1,000 steps. It ends where no
    /// meta-training has been: a step size that goes on as a power of t would end in one that is nothing or far too much.
    public static func scheduleTime(_ step: Int64) -> Double { ScalarMath.log(1 + min(Double(step), lastScheduledStep) / 30) / 5 }
}
