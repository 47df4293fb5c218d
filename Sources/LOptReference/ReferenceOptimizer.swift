import LOptCore

// The update rule once more, plain and slow: STAR (Harrison, Metz, Sohl-Dickstein, NeurIPS 2022, arXiv:2209.11208) and
// small_fc_lopt (Metz et al., 2022, arXiv:2203.11860) as the authors' JAX code computes them, and this project's
// extensions. It is what the fused kernels are tested against, and it is tested against the authors' code. Read it from
// top to bottom: accumulators, features, network, step. Nothing that ships calls it.

/// The update rule for frozen meta-parameters `theta`. It keeps no state of its own.
public struct ReferenceOptimizer<Scalar: ReferenceScalar>: Sendable {
    public let architecture: Architecture
    /// Laid out by the offsets of `architecture`.
    public let theta: [Scalar]
    public let decays: ReferenceDecays<Scalar>

    /// - Parameters:
    ///   - theta: `architecture.metaParameters` values; its decays are used unless `decays` are given.
    ///   - decays: in place of those of `theta`: a run of the authors' code in f32 has decays that differ from them,
    ///     because it computes 1 - beta through a difference that cancels.
    public init(architecture: Architecture, theta: [Scalar], decays: ReferenceDecays<Scalar>? = nil) {
        precondition(theta.count == architecture.metaParameters, "theta does not fit the architecture")
        self.architecture = architecture
        self.theta = theta
        self.decays = decays ?? ReferenceDecays(architecture: architecture, theta: theta)
    }

    /// The state before the first step of a row-major tensor of this shape; rank 0 is the shape [].
    public func makeState(shape: [Int]) -> ReferenceState<Scalar> {
        let axes = shape.map { Int64($0) }.withUnsafeBufferPointer { factoredAxes(shape: $0) }
        return ReferenceState(shape: shape, momenta: architecture.momenta, axes: axes)
    }
}

// MARK: - Accumulators

extension ReferenceOptimizer {
    /// Takes the gradient g into every average. None is corrected for its start from zero.
    @_specialize(where Scalar == Float)
    @_specialize(where Scalar == Double)
    public func accumulate(gradient g: [Scalar], into state: inout ReferenceState<Scalar>) {
        guard state.count > 0 else { return }
        let squares = g.map { $0 * $0 }
        let q = g.map { $0 * $0 + 1e-30 }
        average(&state.secondMoment, squares, decays.secondMoment)
        for k in 0..<architecture.momenta {
            average(&state.momentum[k], g, decays.momentum[k])
        }
        if let (d1, d0) = state.axes {
            let rowMean = mean(q, over: ReferenceAxis(d0, of: state.shape))
            let columnMean = mean(q, over: ReferenceAxis(d1, of: state.shape))
            for k in 0..<architecture.momenta {
                average(&state.row[k], rowMean, decays.factored[k])
                average(&state.column[k], columnMean, decays.factored[k])
            }
        } else {
            for k in 0..<architecture.momenta {
                average(&state.diagonal[k], q, decays.factored[k])
            }
        }
    }

    /// a <- beta a + (1 - beta) x
    private func average(_ a: inout [Scalar], _ x: [Scalar], _ oneMinusBeta: Scalar) {
        for i in a.indices { a[i] = (1 - oneMinusBeta) * a[i] + oneMinusBeta * x[i] }
    }
}

// MARK: - Features

extension ReferenceOptimizer {
    /// The 4 + 8 K features of every element from the updated accumulators, [features][n], each divided by its size over
    /// the whole tensor.
    @_specialize(where Scalar == Float)
    @_specialize(where Scalar == Double)
    public func features(parameters p: [Scalar], gradient g: [Scalar], state: ReferenceState<Scalar>) -> [[Scalar]] {
        let m = state.momentum
        let v = state.secondMoment
        let inverseRoot = v.map { rsqrt($0 + 1e-6) }
        let factored = factoredFeatures(gradient: g, state: state)
        // A parameter that is not finite would reach the others through the means of the heads.
        var features = [g, finite(p)] + m + [v]
        features += m.map { product($0, inverseRoot) }
        features += [inverseRoot]
        features += factored
        return features.map { normalised($0) }
    }

    /// Features 10 to 27 for K = 3: the factored gradient, the row and column accumulators, their reciprocal roots, the
    /// factored momenta.
    private func factoredFeatures(gradient g: [Scalar], state: ReferenceState<Scalar>) -> [[Scalar]] {
        let m = state.momentum
        guard let (d1, d0) = state.axes else {
            let diagonal = state.diagonal
            let gradient = diagonal.map { product(g, $0.map { rsqrt(max($0 + 1e-9, 1e-9)) }) }
            let inverseRoot = diagonal.map { $0.map { rsqrt($0 + 1e-8) } }
            let momentum = m.indices.map { k in product(m[k], diagonal[k].map { rsqrt($0 + 1e-6) }) }
            return gradient + diagonal + diagonal + inverseRoot + inverseRoot + momentum
        }
        let tensorD0 = ReferenceAxis(d0, of: state.shape)
        let tensorD1 = ReferenceAxis(d1, of: state.shape)
        let row = state.row.map { broadcast($0, along: tensorD0, count: state.count) }
        let column = state.column.map { broadcast($0, along: tensorD1, count: state.count) }
        let factor = m.indices.map { k in
            product(
                broadcast(rowFactor(state.row[k], state), along: tensorD0, count: state.count),
                column[k].map { rsqrt(max($0, 1e-9)) })
        }
        let gradient = factor.map { product(g, $0) }
        let inverseRoots = (row + column).map { $0.map { rsqrt($0 + 1e-8) } }
        let momentum = m.indices.map { k in product(m[k], factor[k]) }
        return gradient + row + column + inverseRoots + momentum
    }

    /// R = rsqrt(max(row / (mean(row over d1) + 1e-9), 1e-9)), in the shape of `row`, which lacks the axis d0.
    private func rowFactor(_ row: [Scalar], _ state: ReferenceState<Scalar>) -> [Scalar] {
        guard let (d1, d0) = state.axes else { return [] }
        var shape = state.shape
        shape.remove(at: d0)
        let rowD1 = ReferenceAxis(d1 < d0 ? d1 : d1 - 1, of: shape)
        let rowMean = mean(row, over: rowD1)
        return row.indices.map { i in rsqrt(max(row[i] / (rowMean[rowD1.collapsed(i)] + 1e-9), 1e-9)) }
    }

    /// x * rsqrt(1e-5 + mean(x^2)). In f64 even for f32, where v^2 would overflow for gradients above 4e9.
    private func normalised(_ x: [Scalar]) -> [Scalar] {
        let scale = Scalar(1 / (1e-5 + meanSquare(x)).squareRoot())
        return x.map { $0 * scale }
    }

    /// tanh(t / s - 1) for the eleven timescales: the same for every element, and not normalised.
    public func stepFeatures(t: Int) -> [Scalar] {
        Architecture.timescales.indices.map { Scalar.tanh(Scalar(t) / Scalar(Architecture.timescales[$0]) - 1) }
    }
}

// MARK: - Network

extension ReferenceOptimizer {
    /// The multilayer perceptron for one element: features and step features in; direction, magnitude and, for STAR,
    /// nominal and regularisation magnitude out.
    public func network(_ input: [Scalar]) -> [Scalar] {
        var x = input
        for layer in 0..<architecture.layers {
            let width = architecture.fanOut(layer)
            let w = architecture.weightOffset(layer)
            let b = architecture.biasOffset(layer)
            var y = Array(theta[b..<(b + width)])
            for i in x.indices {
                for j in 0..<width { y[j] += x[i] * theta[w + i * width + j] }
            }
            x = layer < architecture.hiddenLayers ? y.map { max($0, 0) } : y
        }
        return x
    }

    /// The network for every element, [outputs][n].
    private func outputs(features: [[Scalar]], t: Int, count: Int) -> [[Scalar]] {
        let stepFeatures = stepFeatures(t: t)
        var outputs = Array(repeating: [Scalar](repeating: 0, count: count), count: architecture.outputs)
        for i in 0..<count {
            let output = network(features.map { $0[i] } + stepFeatures)
            for j in output.indices { outputs[j][i] = output[j] }
        }
        return outputs
    }
}

// MARK: - Step

extension ReferenceOptimizer {
    /// One step: p <- (p (1 - s weight_decay exp(r exp_mult2)) - s u) (1 - s wd step_size) - s w, which for s = 1 and wd = 0 is
    /// the authors' rule, p <- z p - u - w. step_size is nominal_stepsize exp(n exp_mult1), or without a nominal term |step_mult|.
    ///
    /// - Parameters:
    ///   - p: the parameters, n values in row-major order.
    ///   - g: the gradient, likewise.
    ///   - state: made by `makeState` for the tensor's shape.
    ///   - s: a caller's learning-rate scale.
    ///   - wd: a caller's decoupled weight decay.
    ///   - form: `.perStep`: 1 - s weight_decay exp(r exp_mult2) - s wd, whatever the step size.
    ///   - maxUpdateRatio: the guard of `UpdateLimit`; 0: none.
    ///   - tensors: how many the optimizer has, for the extension `tensorCount`.
    @_specialize(where Scalar == Float)
    @_specialize(where Scalar == Double)
    public func step(
        parameters p: inout [Scalar], gradient g: [Scalar], state: inout ReferenceState<Scalar>,
        learningRateScale s: Scalar = 1, weightDecay wd: Scalar = 0, weightDecayForm form: WeightDecayForm = .byStepSize,
        maxUpdateRatio: Double = 0, tensors: Int = 1
    ) {
        precondition(p.count == state.count && g.count == state.count, "the tensor does not have the state's shape")
        let perStep = form == .perStep ? min(s * wd, 1) : 0, byStepSize = form == .byStepSize ? s * wd : 0
        if architecture.skipIdleTensors, state.count > 0, g.allSatisfy({ abs($0) < Scalar(Float.leastNormalMagnitude) }) {
            let keep = max(1 - perStep - byStepSize * state.stepSize, 0)
            for i in p.indices { p[i] *= keep }
            return
        }
        accumulate(gradient: g, into: &state)
        let features = features(parameters: p, gradient: g, state: state)
        let outputs = outputs(features: features, t: state.t, count: state.count)
        let u = blackbox(outputs, gradient: g, state: state)
        let stepSizes = stepSizes(outputs, parameters: p, gradient: g, state: &state, tensors: tensors)
        let w = hasNominal ? product(stepSizes, nominalDirection(gradient: g, state: state)) : p.map { _ in 0 }
        let decay = decay(outputs)
        var limit = Scalar(1)
        if maxUpdateRatio > 0, state.count > 0 {
            let update = p.indices.map { s * (u[$0] + w[$0]) }
            limit = Scalar(
                UpdateLimit.factor(ratio: maxUpdateRatio, update: meanSquare(update), parameter: meanSquare(finite(p))))
        }
        state.t += 1
        guard limit > 0 else { return }
        for i in p.indices {
            let keep = max(1 - byStepSize * stepSizes[i], 0)
            p[i] = (p[i] * (1 - s * decay[i] - perStep) - s * limit * u[i]) * keep - s * limit * w[i]
        }
    }

    /// u = d * exp(a * exp_mult0) * step_mult
    private func blackbox(_ outputs: [[Scalar]], gradient g: [Scalar], state: ReferenceState<Scalar>) -> [Scalar] {
        let d = outputs[0]
        let a = architecture.aggregateMagnitude ? aggregated(outputs[1]) : outputs[1]
        let expMult = Scalar(architecture.expMult[0])
        let stepMult = Scalar(architecture.stepMult)
        var u = d.indices.map { d[$0] * Scalar.exp(a[$0] * expMult) * stepMult }
        if architecture.normalizeBlackbox { u = product(u, state.secondMoment.map { rsqrt($0 + 1e-6) }) }
        if architecture.selfnormalizeBlackbox { u = product(u, aggregated(g)) }
        return u
    }

    private var hasNominal: Bool { architecture.kind == .star && architecture.nominalStepsize != 0 }

    /// nominal_stepsize * exp(n * exp_mult1) of every element, which multiplies G; |step_mult| without a nominal term. Keeps one for
    /// steps without a gradient: that of all elements or, where they differ, that of a head of 0.
    private func stepSizes(
        _ outputs: [[Scalar]], parameters p: [Scalar], gradient g: [Scalar], state: inout ReferenceState<Scalar>, tensors: Int
    ) -> [Scalar] {
        guard hasNominal else {
            state.stepSize = Scalar(abs(architecture.stepMult))
            return p.map { _ in state.stepSize }
        }
        var n = architecture.nominalController ? outputs[2] : p.map { _ in 1 }
        if architecture.aggregateNominalMagnitude { n = aggregated(n) }
        let common = n.allSatisfy { $0 == n[0] } ? n.first ?? 0 : 0
        let logSteps = logSteps(n + [common], parameters: p, gradient: g, state: state, tensors: tensors)
        var sizes = logSteps.map { Scalar(architecture.nominalStepsize) * Scalar.exp($0 * Scalar(architecture.expMult[1])) }
        // Weights that compute no number take no step.
        sizes = sizes.map { $0.isFinite ? min($0, Scalar(Optimizer.largestScale)) : 0 }
        state.stepSize = sizes.removeLast()
        return sizes
    }

    /// G.
    private func nominalDirection(gradient g: [Scalar], state: ReferenceState<Scalar>) -> [Scalar] {
        let m = state.momentum
        let slowest = m[architecture.momenta - 1]
        let meanMomentum = g.indices.map { i in m.reduce(0) { $0 + $1[i] } / Scalar(architecture.momenta) }
        let epsilon = Scalar(architecture.nominalEpsilon)
        let inverseRoot = state.secondMoment.map { rsqrt($0 + epsilon) }
        switch architecture.nominalEstimator {
        case .sgd: return g
        case .sgdm: return slowest
        case .aggMo: return meanMomentum
        case .adam: return product(slowest, inverseRoot)
        case .adamAggMo: return product(meanMomentum, inverseRoot)
        }
    }

    /// weight_decay * exp(r * exp_mult2), what the rule itself takes off a parameter of 1; 0 for small_fc_lopt.
    private func decay(_ outputs: [[Scalar]]) -> [Scalar] {
        guard architecture.kind == .star else { return outputs[0].map { _ in 0 } }
        var r = architecture.regularizationController ? outputs[3] : outputs[3].map { _ in 0 }
        if architecture.aggregateRegularizationMagnitude { r = aggregated(r) }
        let expMult = Scalar(architecture.expMult[2])
        let weightDecay = Scalar(architecture.weightDecay)
        return r.map { weightDecay * Scalar.exp($0 * expMult) }
    }
}

// MARK: - Arithmetic

extension ReferenceOptimizer {
    private func rsqrt(_ x: Scalar) -> Scalar { 1 / x.squareRoot() }

    private func product(_ x: [Scalar], _ y: [Scalar]) -> [Scalar] { x.indices.map { x[$0] * y[$0] } }

    /// What is not finite as 0.
    private func finite(_ x: [Scalar]) -> [Scalar] { x.map { $0.isFinite ? $0 : 0 } }

    /// Sums run in f64 even for f32, as those of the kernels do. 0 of nothing.
    private func meanSquare(_ x: [Scalar]) -> Double {
        x.reduce(0) { $0 + Double($1) * Double($1) } / Double(max(x.count, 1))
    }

    func rms(_ x: [Scalar]) -> Scalar { Scalar(meanSquare(x).squareRoot()) }

    /// The mean over the tensor, for every element.
    private func aggregated(_ x: [Scalar]) -> [Scalar] {
        let mean = Scalar(x.reduce(0) { $0 + Double($1) } / Double(x.count))
        return x.map { _ in mean }
    }

    private func mean(_ x: [Scalar], over axis: ReferenceAxis) -> [Scalar] {
        guard !x.isEmpty else { return [] }
        var sums = [Double](repeating: 0, count: x.count / axis.extent)
        for i in x.indices { sums[axis.collapsed(i)] += Double(x[i]) }
        return sums.map { Scalar($0 / Double(axis.extent)) }
    }

    /// Repeats `x` along an axis of a tensor of `count` elements.
    private func broadcast(_ x: [Scalar], along axis: ReferenceAxis, count: Int) -> [Scalar] {
        (0..<count).map { x[axis.collapsed($0)] }
    }
}
