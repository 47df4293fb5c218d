import LOptCore
import LOptReference

/// Measures the linear response of a learned optimizer at rest, in f64 and with the scalar reference.
///
/// A tensor lies at its minimum, and its gradient is noise. The accumulators see t steps of that while the parameters are
/// held: that is the state at rest, and it exists whether or not the optimizer would stay in it. Then, for some gradients
/// more, parameters, gradient and momenta are each moved by a small +-delta, with a random sign for each element, and the
/// central difference of the step is averaged over elements and draws. With random signs what one element does to another
/// through the norms over the tensor averages out, and what is left is an element's answer to itself.
public struct ResponseProbe: Sendable {
    public var shape = [16, 16]
    /// Root mean square of the parameters, which features and tensor scales see.
    public var parameterSize = 0.1
    public var draws = 16
    public var seed: UInt64 = 1

    public init() {}

    /// - Parameters:
    ///   - noise: standard deviation of every gradient element.
    ///   - steps: t.
    public func response(_ rule: ReferenceOptimizer<Double>, noise: Double, steps: Int) -> LinearResponse {
        var random = Random(seed, UInt64(steps))
        var state = rule.makeState(shape: shape)
        let parameters = (0..<state.count).map { _ in parameterSize * random.normal() }
        for _ in 0..<steps {
            rule.accumulate(gradient: (0..<state.count).map { _ in noise * random.normal() }, into: &state)
        }
        state.t = steps
        let momenta = rule.architecture.momenta
        var sums = [Double](repeating: 0, count: 2 + momenta)
        for _ in 0..<draws {
            let gradient = (0..<state.count).map { _ in noise * random.normal() }
            let signs = (0..<state.count).map { _ in random.bool() ? 1.0 : -1.0 }
            for input in sums.indices {
                sums[input] += difference(rule, input, parameters, gradient, state, signs) / Double(draws)
            }
            rule.accumulate(gradient: gradient, into: &state)
        }
        return LinearResponse(
            drift: sums[0], gradient: sums[1], momenta: Array(sums[2...]), rates: rule.decays.momentum)
    }

    /// Minus the derivative of the step by parameters (0), gradient (1) or momentum (2 and on), mean over the elements.
    private func difference(
        _ rule: ReferenceOptimizer<Double>, _ input: Int, _ parameters: [Double], _ gradient: [Double],
        _ state: ReferenceState<Double>, _ signs: [Double]
    ) -> Double {
        func rms(_ x: [Double]) -> Double { (x.reduce(0) { $0 + $1 * $1 } / Double(x.count)).squareRoot() }
        let size = input == 0 ? rms(parameters) : input == 1 ? rms(gradient) : rms(state.momentum[input - 2])
        let delta = 1e-5 * size
        guard delta > 0 else { return 0 }
        func step(_ side: Double) -> [Double] {
            var (p, g, s) = (parameters, gradient, state)
            for i in signs.indices {
                let change = side * delta * signs[i]
                switch input {
                case 0: p[i] += change
                case 1: g[i] += change
                default: s.momentum[input - 2][i] += change
                }
            }
            let start = p
            rule.step(parameters: &p, gradient: g, state: &s)
            return p.indices.map { p[$0] - start[$0] }
        }
        let (up, down) = (step(1), step(-1))
        return -signs.indices.reduce(0) { $0 + signs[$1] * (up[$1] - down[$1]) } / (2 * delta * Double(signs.count))
    }
}
