import LOptCore

// The per-tensor arithmetic of the extensions tensor_scale, tensor_schedule, tensor_count and tensor_ranges, plain and slow; its
// twin in the core is TensorStatistics.swift.

extension ReferenceOptimizer {
    /// What the extensions' log-step sees of a tensor: how large the parameters are, how persistent the gradient is, how it
    /// compares with its noise and with its history, whatever its unit, which normalised features cannot show; how many elements the
    /// tensor has, whether it is a vector, and how many tensors there are. Not yet clamped.
    public func tensorStatistics(
        parameters p: [Scalar], gradient g: [Scalar], state: ReferenceState<Scalar>, tensors: Int
    ) -> [Scalar] {
        let m = state.momentum
        let inverseRoot = state.secondMoment.map { 1 / ($0 + 1e-6).squareRoot() }
        // An element that never had a gradient may be a mask of -1e9, one that is not finite a fault: neither is the tensor's size.
        let live = p.indices.filter { p[$0].isFinite && state.secondMoment[$0] > 0 }.map { p[$0] }
        var statistics = [Scalar.log(rms(live) + 1e-3) + 2]
        statistics += m.map { Scalar.log(rms($0) / (rms(g) + 1e-12) + 1e-3) + 1.5 }
        statistics += m.map { m in Scalar.log(rms(m.indices.map { m[$0] * inverseRoot[$0] }) + 1e-3) + 1 }
        statistics += [Scalar.log(Scalar(state.count)) / 5 - 1, state.shape.filter { $0 > 1 }.count < 2 ? 1 : 0]
        statistics += [Scalar.log(rms(g) / (rms(state.secondMoment).squareRoot() + 1e-12) + 1e-3)]
        return statistics + [Scalar.log(Scalar(tensors)) / 2 - 1]
    }

    /// The nominal log-step of every element from that of the network: with the extension `tensorScale`,
    ///
    ///     n + sum_i u_i phi_i + w_0 psi + tau sum_i w_i (phi, psi, 1)_i + (c_0 + tau c_1) chi
    ///
    /// phi the statistics but the last two, psi of `tensorSchedule`, chi of `tensorCount`; tau lets every coefficient change with
    /// the logarithm of the step. Each statistic, and at the end the sum, is clamped to its range.
    func logSteps(
        _ n: [Scalar], parameters p: [Scalar], gradient g: [Scalar], state: ReferenceState<Scalar>, tensors: Int
    ) -> [Scalar] {
        guard architecture.tensorScale, state.count > 0 else { return n }
        let a = architecture
        let statistics = tensorStatistics(parameters: p, gradient: g, state: state, tensors: tensors)
        let clamped = statistics.indices.map { clamp(statistics[$0], toRange: $0) }
        let phi = clamped.dropLast(2), psi = clamped[clamped.count - 2], chi = clamped[clamped.count - 1]
        let tau = Scalar.log(1 + min(Scalar(state.t), Scalar(Architecture.lastScheduledStep)) / 30) / 5
        var shift = phi.indices.reduce(Scalar(0)) { $0 + theta[a.offset(of: .tensorScale) + $1] * phi[$1] }
        if a.tensorSchedule {
            let w = theta[a.offset(of: .tensorSchedule)...].prefix(a.count(of: .tensorSchedule)).map { $0 }
            let terms = phi + [psi, 1]
            shift += w[0] * psi + tau * terms.indices.reduce(0) { $0 + w[1 + $1] * terms[$1] }
        }
        if a.tensorCount {
            let c = a.offset(of: .tensorCount)
            shift += (theta[c] + tau * theta[c + 1]) * chi
        }
        return n.map { clamp($0 + shift, toRange: a.statistics) }
    }

    private func clamp(_ x: Scalar, toRange i: Int) -> Scalar {
        let a = architecture
        guard a.tensorRanges else {
            let range = a.defaultStatisticRange(i)
            return min(max(x, Scalar(range.least)), Scalar(range.most))
        }
        let ranges = a.offset(of: .tensorRanges)
        return min(max(x, theta[ranges + i]), theta[ranges + a.statistics + 1 + i])
    }
}
