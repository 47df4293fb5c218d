import CLOptShims
import LOptCore

/// f64 for the oracle, f32 to see what rounding alone does.
public protocol ReferenceScalar: BinaryFloatingPoint, Sendable {
    static func exp(_ x: Self) -> Self
    static func log(_ x: Self) -> Self
    static func tanh(_ x: Self) -> Self
}

extension Double: ReferenceScalar {
    public static func exp(_ x: Double) -> Double { lopt_system_exp(x) }
    public static func log(_ x: Double) -> Double { lopt_system_log(x) }
    public static func tanh(_ x: Double) -> Double { lopt_system_tanh(x) }
}

extension Float: ReferenceScalar {
    public static func exp(_ x: Float) -> Float { lopt_system_expf(x) }
    public static func log(_ x: Float) -> Float { lopt_system_logf(x) }
    public static func tanh(_ x: Float) -> Float { lopt_system_tanhf(x) }
}

/// 1 - beta of every accumulator, in this form because beta is close to 1.
public struct ReferenceDecays<Scalar: ReferenceScalar>: Sendable {
    /// K values, in any range.
    public var momentum: [Scalar]
    /// In [0, 1].
    public var secondMoment: Scalar
    /// K values in [0, 1].
    public var factored: [Scalar]

    public init(momentum: [Scalar], secondMoment: Scalar, factored: [Scalar]) {
        self.momentum = momentum
        self.secondMoment = secondMoment
        self.factored = factored
    }

    /// 1 - beta = (1 - beta0) * exp(10 theta). The authors' code clips beta of the second moment and of the factored
    /// accumulators to [0, 1], but not that of the momenta.
    public init(architecture: Architecture, theta: [Scalar]) {
        func oneMinusBeta(_ initialDecay: Double, _ offset: Int) -> Scalar {
            Scalar(1 - initialDecay) * Scalar.exp(10 * theta[offset])
        }
        momentum = (0..<architecture.momenta).map {
            oneMinusBeta(architecture.initialMomentumDecays[$0], architecture.momentumDecaysOffset + $0)
        }
        secondMoment = min(max(oneMinusBeta(architecture.initialRMSDecay, architecture.rmsDecayOffset), 0), 1)
        factored = (0..<architecture.momenta).map {
            min(max(oneMinusBeta(architecture.initialAdafactorDecays[$0], architecture.adafactorDecaysOffset + $0), 0), 1)
        }
    }
}

/// One axis of a row-major tensor.
struct ReferenceAxis: Sendable {
    let extent: Int
    let stride: Int

    init(_ axis: Int, of shape: [Int]) {
        extent = shape[axis]
        stride = shape[(axis + 1)...].reduce(1, *)
    }

    /// Where element `i` of the tensor lies in the tensor without this axis.
    func collapsed(_ i: Int) -> Int { i / (extent * stride) * stride + i % stride }
}

/// What the optimizer remembers of one tensor of n elements.
public struct ReferenceState<Scalar: ReferenceScalar>: Sendable {
    public let shape: [Int]
    /// n.
    public let count: Int
    /// nil if the tensor is of rank 0 or 1.
    public let axes: (d1: Int, d0: Int)?
    /// t: steps taken.
    public var t = 0
    /// nominal_stepsize exp(n exp_mult1) of the last step that had a gradient; 0 before the first.
    public var stepSize: Scalar = 0
    /// m, [K][n].
    public var momentum: [[Scalar]]
    /// v, [n].
    public var secondMoment: [Scalar]
    /// Rank >= 2: [K][n / shape[d0]] and [K][n / shape[d1]], row-major without that axis; else empty.
    public var row: [[Scalar]]
    public var column: [[Scalar]]
    /// Rank 0 and 1: [K][n]; else empty.
    public var diagonal: [[Scalar]]

    /// All zero, for K = `momenta`. `axes` must be two different axes of a tensor of rank >= 2, and nil for others; the
    /// rule's own come from `factoredAxes`, see `ReferenceOptimizer.makeState`.
    public init(shape: [Int], momenta: Int, axes: (d1: Int, d0: Int)?) {
        func zeros(without axis: Int?) -> [Scalar] {
            Array(repeating: 0, count: shape.indices.reduce(1) { $1 == axis ? $0 : $0 * shape[$1] })
        }
        func averages(_ zeros: [Scalar]) -> [[Scalar]] { Array(repeating: zeros, count: momenta) }
        self.shape = shape
        self.axes = axes
        secondMoment = zeros(without: nil)
        count = secondMoment.count
        momentum = averages(secondMoment)
        row = axes.map { averages(zeros(without: $0.d0)) } ?? []
        column = axes.map { averages(zeros(without: $0.d1)) } ?? []
        diagonal = axes == nil ? averages(secondMoment) : []
    }
}
