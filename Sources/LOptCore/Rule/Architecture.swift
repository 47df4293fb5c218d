/// What the learned optimizer computes: the constructor values of the authors' classes `MLPNomLOpt` ("star") and
/// `AdafacMLPLOpt` ("small_fc"), and the extensions of this project. Read from the metadata of a weights file; drives
/// the scalar reference and the kernels alike.
///
/// Names and defaults are those of the constructors; `hidden_size` there is `hiddenSize` here.
public struct Architecture: Equatable, Sendable {
    /// The raw value is part of the digest.
    public enum Kind: UInt8, Sendable {
        /// STAR: direction, magnitude, nominal magnitude and regularisation magnitude.
        case star
        /// small_fc_lopt: direction and magnitude.
        case smallFC
        /// A step of one pass whose size is log-linear in pooled statistics of the tensor, see Pooled.swift.
        case pooled
    }

    /// The direction G of the nominal term. The raw value is part of the digest.
    public enum NominalEstimator: UInt8, Sendable {
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

    /// Bit i: the extension of raw value i, which is a tensor of the weights file. The digest has them so.
    private(set) var extensionBits: UInt64 = 0
    /// A tensor whose gradient is 0 everywhere rests in that step: nothing of it changes, its step counter included, but for the
    /// caller's weight decay.
    public var skipIdleTensors = false
    /// In place of the 1e-6 of rsqrt(v + 1e-6), in the nominal direction alone.
    public var nominalEpsilon = 1e-6

    /// Whether an extension that is a tensor is on.
    public subscript(which: Extension) -> Bool {
        get { extensionBits & which.bit != 0 }
        set { extensionBits = newValue ? extensionBits | which.bit : extensionBits & ~which.bit }
    }

    public init() {}

    /// What weights of a kind begin with.
    public init(_ kind: Kind) {
        self.kind = kind
        guard kind == .pooled else { return }
        (stepMult, nominalStepsize, skipIdleTensors, momenta) = (0, 0.01, true, 2)
        (initialMomentumDecays[2], initialAdafactorDecays[2]) = (0, 0)
    }
}

extension Architecture {
    /// Features per parameter: g, p, m (K), v, m rsqrt(v) (K), rsqrt(v), factored g (K), row (K), column (K), their
    /// reciprocal roots (2 K), factored m (K). 28 for K = 3.
    public var features: Int { 4 + 8 * momenta }
    public var inputs: Int { features + Architecture.timescales.count }
    /// Direction, magnitude and, for STAR, nominal and regularisation magnitude.
    public var outputs: Int { kind == .star ? 4 : 2 }
    public var layers: Int { kind == .pooled ? 0 : hiddenLayers + 1 }

    /// Rows of w_l.
    public func fanIn(_ layer: Int) -> Int { layer == 0 ? inputs : hiddenSize }
    /// Columns of w_l, elements of b_l.
    public func fanOut(_ layer: Int) -> Int { layer == hiddenLayers ? outputs : hiddenSize }

    /// Where each meta-parameter lies in one flat buffer: momentum, rms and adafactor decay offsets, then w and b of each
    /// layer, then the extensions that are on. `block` has them all. Kind pooled has others, see Pooled.swift.
    public var momentumDecaysOffset: Int { 0 }
    public var rmsDecayOffset: Int { momenta }
    public var adafactorDecaysOffset: Int { momenta + 1 }
    public func weightOffset(_ layer: Int) -> Int {
        var offset = 2 * momenta + 1
        for l in 0..<layer { offset += (fanIn(l) + 1) * fanOut(l) }
        return offset
    }
    public func biasOffset(_ layer: Int) -> Int { weightOffset(layer) + fanIn(layer) * fanOut(layer) }
}
