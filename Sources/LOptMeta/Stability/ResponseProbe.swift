import LOptCore
import LOptReference

/// A rule in f64 as the probe sees it.
public protocol ProbedRule {
    associatedtype State
    /// 1 - beta of each momentum.
    var momentumRates: [Double] { get }
    func makeState(shape: [Int]) -> State
    /// What a step does to the state, the parameters held; whether it counts is open.
    func hold(parameters: [Double], gradient: [Double], into state: inout State)
    func step(parameters: inout [Double], gradient: [Double], state: inout State)
    func setSteps(_ t: Int, of state: inout State)
    func momenta(_ state: inout State, _ change: (inout [[Double]]) -> Void)
}

extension ReferenceOptimizer<Double>: ProbedRule {
    public var momentumRates: [Double] { decays.momentum }

    public func hold(parameters: [Double], gradient: [Double], into state: inout ReferenceState<Double>) {
        accumulate(gradient: gradient, into: &state)
    }

    public func step(parameters: inout [Double], gradient: [Double], state: inout ReferenceState<Double>) {
        step(parameters: &parameters, gradient: gradient, state: &state, learningRateScale: 1)
    }

    public func setSteps(_ t: Int, of state: inout ReferenceState<Double>) { state.t = t }

    public func momenta(_ state: inout ReferenceState<Double>, _ change: (inout [[Double]]) -> Void) { change(&state.momentum) }
}

extension ReferencePooled: ProbedRule {
    public var momentumRates: [Double] { (0..<architecture.momenta).map(momentumRate) }

    public func makeState(shape: [Int]) -> State { State(shape: shape) }

    public func hold(parameters: [Double], gradient: [Double], into state: inout State) {
        var parameters = parameters
        step(parameters: &parameters, gradient: gradient, state: &state, learningRateScale: 0)
    }

    public func step(parameters: inout [Double], gradient: [Double], state: inout State) {
        step(parameters: &parameters, gradient: gradient, state: &state, learningRateScale: 1)
    }

    public func setSteps(_ t: Int, of state: inout State) { state.t = t }

    public func momenta(_ state: inout State, _ change: (inout [[Double]]) -> Void) { change(&state.momentum) }
}

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
    public func response<Rule: ProbedRule>(_ rule: Rule, noise: Double, steps: Int) -> LinearResponse {
        var random = Random(seed, UInt64(steps))
        var state = rule.makeState(shape: shape)
        let count = shape.reduce(1, *), rates = rule.momentumRates
        let parameters = (0..<count).map { _ in parameterSize * random.normal() }
        for _ in 0..<steps {
            rule.hold(parameters: parameters, gradient: (0..<count).map { _ in noise * random.normal() }, into: &state)
        }
        var sums = [Double](repeating: 0, count: 2 + rates.count)
        for _ in 0..<draws {
            rule.setSteps(steps, of: &state)
            let gradient = (0..<count).map { _ in noise * random.normal() }
            let signs = (0..<count).map { _ in random.bool() ? 1.0 : -1.0 }
            for input in sums.indices {
                sums[input] += difference(rule, input, parameters, gradient, state, signs) / Double(draws)
            }
            rule.hold(parameters: parameters, gradient: gradient, into: &state)
        }
        return LinearResponse(drift: sums[0], gradient: sums[1], momenta: Array(sums[2...]), rates: rates)
    }

    /// Minus the derivative of the step by parameters (0), gradient (1) or momentum (2 and on), mean over the elements.
    private func difference<Rule: ProbedRule>(
        _ rule: Rule, _ input: Int, _ parameters: [Double], _ gradient: [Double], _ state: Rule.State, _ signs: [Double]
    ) -> Double {
        func rms(_ x: [Double]) -> Double { (x.reduce(0) { $0 + $1 * $1 } / Double(x.count)).squareRoot() }
        var size = rms(input == 0 ? parameters : gradient), state = state
        if input > 1 { rule.momenta(&state) { size = rms($0[input - 2]) } }
        let delta = 1e-5 * size
        guard delta > 0 else { return 0 }
        func step(_ side: Double) -> [Double] {
            var (p, g, s) = (parameters, gradient, state)
            let change = signs.map { side * delta * $0 }
            func add(_ x: inout [Double]) { for i in change.indices { x[i] += change[i] } }
            switch input {
            case 0: add(&p)
            case 1: add(&g)
            default: rule.momenta(&s) { add(&$0[input - 2]) }
            }
            let start = p
            rule.step(parameters: &p, gradient: g, state: &s)
            return p.indices.map { p[$0] - start[$0] }
        }
        let (up, down) = (step(1), step(-1))
        return -signs.indices.reduce(0) { $0 + signs[$1] * (up[$1] - down[$1]) } / (2 * delta * Double(signs.count))
    }
}
