import Foundation

/// Saves the derivative, which costs little beside the function itself.
enum ActivationLayer {
    static func forward<S: NetworkScalar>(
        _ kind: Activation, _ x: UnsafePointer<S>, _ y: UnsafeMutablePointer<S>, _ slope: UnsafeMutablePointer<S>,
        _ count: Int
    ) {
        switch kind {
        case .relu:
            for i in 0..<count {
                let isOn: S = x[i] > 0 ? 1 : 0
                y[i] = x[i] * isOn
                slope[i] = isOn
            }
        case .tanh:
            tanh(x, y, count)
            for i in 0..<count { slope[i] = 1 - y[i] * y[i] }
        case .sigmoid:
            sigmoid(x, y, count, scale: 1)
            for i in 0..<count { slope[i] = y[i] * (1 - y[i]) }
        case .swish: swish(x, y, slope, count, scale: 1)
        // x sigmoid(1.702 x) (Hendrycks and Gimpel 2016).
        case .gelu: swish(x, y, slope, count, scale: 1.702)
        case .sine:
            for i in 0..<count {
                y[i] = S(sin(Double(x[i])))
                slope[i] = S(cos(Double(x[i])))
            }
        }
    }

    static func backward<S: NetworkScalar>(
        _ dy: UnsafePointer<S>, _ slope: UnsafePointer<S>, _ dx: UnsafeMutablePointer<S>?, _ count: Int
    ) {
        guard let dx else { return }
        for i in 0..<count { dx[i] = dy[i] * slope[i] }
    }

    private static func swish<S: NetworkScalar>(
        _ x: UnsafePointer<S>, _ y: UnsafeMutablePointer<S>, _ slope: UnsafeMutablePointer<S>, _ count: Int, scale: S
    ) {
        sigmoid(x, slope, count, scale: scale)
        for i in 0..<count {
            let s = slope[i]
            y[i] = x[i] * s
            slope[i] = s + scale * x[i] * s * (1 - s)
        }
    }

    /// y = 1 / (1 + exp(-scale x)).
    static func sigmoid<S: NetworkScalar>(
        _ x: UnsafePointer<S>, _ y: UnsafeMutablePointer<S>, _ count: Int, scale: S
    ) {
        for i in 0..<count { y[i] = -scale * x[i] }
        S.exp(y, y, count)
        for i in 0..<count { y[i] = 1 / (1 + y[i]) }
    }

    /// y = 1 - 2 / (1 + exp(2 x)); absolute error 1e-7 in Float.
    static func tanh<S: NetworkScalar>(_ x: UnsafePointer<S>, _ y: UnsafeMutablePointer<S>, _ count: Int) {
        for i in 0..<count { y[i] = 2 * x[i] }
        S.exp(y, y, count)
        for i in 0..<count { y[i] = 1 - 2 / (1 + y[i]) }
    }
}
