import Foundation

/// How an optimizer at rest at a minimum, driven by gradient noise, answers small deviations: its update, linearised.
///
/// The noisy quadratic model is the loss 1/2 (x - xi)' H (x - xi) with xi random. There an optimizer without memory is
/// x+ = A x + (I - A) xi with A = I - (alpha I + P) H, alpha of the nominal term and P of the blackbox, stable where the
/// spectral radius of A is below 1 (Harrison, Metz and Sohl-Dickstein 2022). Ours remembers momenta, so the state is an
/// element's deviation x and its K momenta m_k, and A becomes the matrix of
///
///     x+   = (1 - drift - gradient h) x - sum_k momentum_k m_k
///     m_k+ = rate_k h x + (1 - rate_k) m_k
///
/// for a direction of curvature h. The averages of squares are no part of the state: with a gradient whose mean is 0 they
/// answer a deviation in second order only. They set the scale, and it is the noise of the gradient that sets them.
///
/// This says where small deviations begin to grow, not how far: a rule that divides by the root of v does not run away
/// then, because v grows with the deviation until the step is small enough again.
public struct LinearResponse: Codable, Equatable, Sendable {
    /// How far the parameter falls back by itself for each unit that it is off, as with weight decay.
    public let drift: Double
    /// Step against the gradient of this step, for each unit of it, its way through the momenta included.
    public let gradient: Double
    /// Step against each momentum as it was before this step, for each unit of it.
    public let momenta: [Double]
    /// 1 - beta of each momentum.
    public let rates: [Double]

    public init(drift: Double = 0, gradient: Double, momenta: [Double] = [], rates: [Double] = []) {
        (self.drift, self.gradient, self.momenta, self.rates) = (drift, gradient, momenta, rates)
    }

    /// The step for each unit of a gradient that stays, all momenta settled: alpha + P of the paper.
    public var settled: Double { gradient + momenta.reduce(0, +) }

    /// A, of dimension 1 + K, for a direction of curvature `h`.
    func stateMap(curvature h: Double) -> SquareMatrix {
        var a = SquareMatrix(size: 1 + momenta.count)
        a[0, 0] = 1 - drift - gradient * h
        for k in momenta.indices {
            a[0, k + 1] = -momenta[k]
            a[k + 1, 0] = rates[k] * h
            a[k + 1, k + 1] = 1 - rates[k]
        }
        return a
    }

    public func spectralRadius(curvature h: Double) -> Double {
        guard !momenta.isEmpty else { return abs(1 - drift - gradient * h) }
        // The same matrix in units of m in which both its off-diagonal parts are of one size: h spans twenty decades.
        var a = stateMap(curvature: h)
        for k in 1...momenta.count {
            let (up, down) = (abs(a[0, k]), abs(a[k, 0]))
            guard up > 0, down > 0 else { continue }
            let sign: Double = a[0, k] < 0 ? -1 : 1
            a[0, k] = sign * (up * down).squareRoot()
            a[k, 0] = (up * down).squareRoot()
        }
        return a.spectralRadius
    }

    /// A deviation that takes more than 1,000 steps to grow by a factor of e is not counted as unstable: what is measured
    /// has sampling noise, and a drift that slow is the business of the gradient.
    public static let tolerance = 1e-3
    /// Curvatures that are looked at, ten a decade.
    static let curvatures = (-80...120).map { pow(10, Double($0) / 10) }

    /// The least curvature from 1e-8 to 1e12 at which the spectral radius is above 1 + `tolerance`; nil if there is none.
    public var largestStableCurvature: Double? {
        func isUnstable(_ h: Double) -> Bool { spectralRadius(curvature: h) > 1 + LinearResponse.tolerance }
        guard let first = LinearResponse.curvatures.firstIndex(where: isUnstable) else { return nil }
        guard first > 0 else { return LinearResponse.curvatures[0] }
        var (stable, unstable) = (LinearResponse.curvatures[first - 1], LinearResponse.curvatures[first])
        while unstable / stable > 1 + 1e-9 {
            let middle = (stable * unstable).squareRoot()
            if isUnstable(middle) { unstable = middle } else { stable = middle }
        }
        return stable
    }
}

// MARK: - Closed forms

extension LinearResponse {
    /// Gradient descent: stable where rate h < 2.
    public static func sgd(rate: Double) -> LinearResponse { LinearResponse(gradient: rate) }

    /// m <- beta m + g, p <- p - rate m: stable where rate h < 2 (1 + beta).
    public static func sgdm(rate: Double, beta: Double = 0.9) -> LinearResponse {
        LinearResponse(gradient: rate, momenta: [rate * beta / (1 - beta)], rates: [1 - beta])
    }

    /// Adam long after its start, its second moment that of the noise: stable where rate h < 2 (1 + beta1) / (1 - beta1)
    /// times the noise's standard deviation.
    public static func adam(rate: Double, noise: Double, beta1: Double = 0.9) -> LinearResponse {
        let size = rate / noise
        return LinearResponse(gradient: size * (1 - beta1), momenta: [size * beta1], rates: [1 - beta1])
    }
}
