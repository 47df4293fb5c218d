/// What the learned optimizer computes: the constructor values of the authors' classes `MLPNomLOpt` ("star") and
/// `AdafacMLPLOpt` ("small_fc"), and the extensions of this project. Read from the metadata of a weights file; drives
/// the scalar reference and the kernels alike.
///
/// Names and defaults are those of the constructors; `hidden_size` there is `hiddenSize` here.
public struct Architecture: Equatable, Sendable {
    public enum Kind: Sendable {
        /// STAR: direction, magnitude, nominal magnitude and regularisation magnitude.
        case star
        /// small_fc_lopt: direction and magnitude.
        case smallFC
    }

    /// The direction G of the nominal term.
    public enum NominalEstimator: Sendable {
        /// The gradient.
        case sgd
        /// The slowest momentum, m_K.
        case sgdm
        /// The mean of the momenta.
        case aggMo
        /// m_K * rsqrt(v + eps).
        case adam
        /// The mean of the momenta * rsqrt(v + eps).
        case adamAggMo
    }

    public static let maximumHiddenSize = 512
    public static let maximumHiddenLayers = 4
    public static let maximumMomenta = 8
    /// Where tau of the extension `tensorSchedule` ends.
    public static let lastScheduledStep = 30_000.0
    /// Timescales of the step features tanh(t / s - 1).
    public static let timescales: [11 of Double] = [1, 3, 10, 30, 100, 300, 1000, 3000, 10000, 30000, 100_000]

    public var kind = Kind.star
    public var hiddenSize = 4
    public var hiddenLayers = 2

    /// K, the number of momenta and of factored accumulators. The rule pairs them, so there are equally many.
    public var momenta = 3
    /// beta0 of momenta, second moment and factored accumulators; lanes from `momenta` on are 0.
    public var initialMomentumDecays: SIMD8<Double> = [0.9, 0.99, 0.999, 0, 0, 0, 0, 0]
    public var initialRMSDecay = 0.999
    public var initialAdafactorDecays: SIMD8<Double> = [0.9, 0.99, 0.999, 0, 0, 0, 0, 0]

    /// Of the magnitude, the nominal magnitude and the regularisation magnitude.
    public var expMult: SIMD3<Double> = [0.001, 0.001, 0.001]
    public var stepMult = 0.001
    public var nominalStepsize = 0.0
    public var weightDecay = 0.0
    public var nominalController = false
    public var regularizationController = false
    public var nominalEstimator = NominalEstimator.adamAggMo
    public var aggregateMagnitude = false
    public var aggregateNominalMagnitude = false
    public var aggregateRegularizationMagnitude = false
    public var normalizeBlackbox = false
    public var selfnormalizeBlackbox = false

    // MARK: Extensions, off by default

    /// The nominal log-step also sees scales of the tensor: n += sum_i u_i phi_i.
    public var tensorScale = false
    /// With `tensorScale`, what the scales say may change with the logarithm of the step, and one scale more is seen:
    /// n += w_0 psi + tau sum_i w_i (phi, psi, 1)_i.
    public var tensorSchedule = false
    /// With `tensorScale`, the log-step also sees how many tensors the optimizer has: n += (c_0 + tau c_1) (log(count) / 2 - 1).
    public var tensorCount = false
    /// With `tensorScale`, the range in which each statistic and the log-step itself are clamped comes with the weights; else it is
    /// the default of `statisticRange`.
    public var tensorRanges = false
    /// A tensor whose gradient is 0 everywhere rests in that step: nothing of it changes, its step counter included, but for the
    /// caller's weight decay.
    public var skipIdleTensors = false
    /// In place of the 1e-6 of rsqrt(v + 1e-6), in the nominal direction alone.
    public var nominalEpsilon = 1e-6

    public init() {}
}

extension Architecture {
    /// Features per parameter: g, p, m (K), v, m rsqrt(v) (K), rsqrt(v), factored g (K), row (K), column (K), their
    /// reciprocal roots (2 K), factored m (K). 28 for K = 3.
    public var features: Int { 4 + 8 * momenta }
    public var inputs: Int { features + Architecture.timescales.count }
    /// Direction, magnitude and, for STAR, nominal and regularisation magnitude.
    public var outputs: Int { kind == .star ? 4 : 2 }
    /// Weights of the extension `tensorScale`: log RMS(p), K persistences, K signal-to-noise ratios, size, rank < 2.
    public var tensorScales: Int { tensorScale ? 3 + 2 * momenta : 0 }
    /// Weights of the extension `tensorSchedule`: of psi, then of tau times each phi, psi and 1.
    public var tensorSchedules: Int { tensorSchedule ? 3 + tensorScales : 0 }
    /// Weights of the extension `tensorCount`.
    public var tensorCounts: Int { tensorCount ? 2 : 0 }
    /// Numbers of the extension `tensorRanges`: the least, then the most of every statistic and of the log-step.
    public var tensorRangeValues: Int { tensorRanges ? 2 * (statistics + 1) : 0 }
    public var layers: Int { hiddenLayers + 1 }

    /// Rows of w_l.
    public func fanIn(_ layer: Int) -> Int { layer == 0 ? inputs : hiddenSize }
    /// Columns of w_l, elements of b_l.
    public func fanOut(_ layer: Int) -> Int { layer == hiddenLayers ? outputs : hiddenSize }

    /// Where each meta-parameter lies in one flat buffer: momentum, rms and adafactor decay offsets, then w and b of each
    /// layer, then the tensor scales, the tensor schedule, the tensor count and the tensor ranges.
    public var momentumDecaysOffset: Int { 0 }
    public var rmsDecayOffset: Int { momenta }
    public var adafactorDecaysOffset: Int { momenta + 1 }
    public func weightOffset(_ layer: Int) -> Int {
        var offset = 2 * momenta + 1
        for l in 0..<layer { offset += (fanIn(l) + 1) * fanOut(l) }
        return offset
    }
    public func biasOffset(_ layer: Int) -> Int { weightOffset(layer) + fanIn(layer) * fanOut(layer) }
    public var tensorScaleOffset: Int { weightOffset(layers) }
    public var tensorScheduleOffset: Int { tensorScaleOffset + tensorScales }
    public var tensorCountOffset: Int { tensorScheduleOffset + tensorSchedules }
    public var tensorRangesOffset: Int { tensorCountOffset + tensorCounts }
    /// The number of meta-parameters.
    public var metaParameters: Int { tensorRangesOffset + tensorRangeValues }

    /// 1 - beta = (1 - beta0) * exp(10 theta), in this form because 1 - (1 - x) would cancel.
    ///
    /// Second moment and factored accumulators clip beta, hence 1 - beta, to [0, 1]; momenta do not.
}
