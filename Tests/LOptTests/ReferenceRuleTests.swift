import Testing

@testable import LOptCore
import LOptReference

/// Parts of the rule that the goldens, all of K = 3 and two hidden layers, cannot show, against closed forms. On a tensor
/// of equal gradients and equal parameters every feature is one number.
@Suite struct ReferenceRuleTests {
    private static let g = 0.3
    private static let p = -0.7

    /// small_fc_lopt with a step of minus the direction, and a different decay for every accumulator.
    private static func architecture(momenta: Int, hiddenLayers: Int = 2, hiddenSize: Int = 4) -> Architecture {
        var architecture = Architecture()
        architecture.kind = .smallFC
        architecture.stepMult = 1
        architecture.momenta = momenta
        architecture.hiddenLayers = hiddenLayers
        architecture.hiddenSize = hiddenSize
        architecture.initialRMSDecay = 0.95
        for k in 0..<momenta {
            architecture.initialMomentumDecays[k] = 0.1 * Double(k + 1)
            architecture.initialAdafactorDecays[k] = 0.97 - 0.08 * Double(k)
        }
        return architecture
    }

    /// Every feature on the first step, in the order of the rule, from its closed form.
    private static func features(of architecture: Architecture, rank: Int) -> [Double] {
        let c = ReferenceDecays<Double>(architecture: architecture, theta: Array(repeating: 0, count: 100))
        let m = c.momentum.map { $0 * g }
        let v = c.secondMoment * g * g
        let factored = c.factored.map { $0 * (g * g + 1e-30) }
        let gradientFactor = factored.map {
            rank >= 2 ? 1 / ($0 / ($0 + 1e-9)).squareRoot() / $0.squareRoot() : 1 / ($0 + 1e-9).squareRoot()
        }
        let momentumFactor = rank >= 2 ? gradientFactor : factored.map { 1 / ($0 + 1e-6).squareRoot() }
        var features = [g, p] + m + [v]
        features += m.map { $0 / (v + 1e-6).squareRoot() }
        features += [1 / (v + 1e-6).squareRoot()]
        features += gradientFactor.map { g * $0 }
        features += factored + factored
        features += (factored + factored).map { 1 / ($0 + 1e-8).squareRoot() }
        features += zip(m, momentumFactor).map { $0 * $1 }
        return features.map { $0 / (1e-5 + $0 * $0).squareRoot() }
    }

    @Test(arguments: [1, 2, 3, 8], [[], [5], [2, 3], [3, 1, 2]])
    func `every feature has its place`(momenta: Int, shape: [Int]) {
        let architecture = Self.architecture(momenta: momenta)
        let expected = Self.features(of: architecture, rank: shape.count)
        #expect(expected.count == architecture.features)
        for (input, feature) in expected.enumerated() {
            let optimizer = ReferenceOptimizer(architecture: architecture, theta: passing(input, architecture))
            let step = firstSteps(optimizer, shape: shape, count: 1)[0]
            #expect(abs(step - feature) < 1e-12, "feature \(input): \(step) in place of \(feature)")
        }
    }

    @Test(arguments: 1...4, [1, 3, 8, 33])
    func `a network of any depth and width is evaluated as written`(hiddenLayers: Int, hiddenSize: Int) {
        let architecture = Self.architecture(momenta: 2, hiddenLayers: hiddenLayers, hiddenSize: hiddenSize)
        let expected = Self.features(of: architecture, rank: 1)
        for input in [0, 1, architecture.features - 1] {
            let optimizer = ReferenceOptimizer(architecture: architecture, theta: passing(input, architecture))
            #expect(abs(firstSteps(optimizer, shape: [3], count: 1)[0] - expected[input]) < 1e-12)
        }
    }

    @Test func `hidden units below zero are zero`() {
        let architecture = Self.architecture(momenta: 1)
        var theta = passing(0, architecture)
        let unit = architecture.hiddenSize - 1
        theta[architecture.biasOffset(1) + unit] = -200
        theta[architecture.biasOffset(2)] = 0.25
        let optimizer = ReferenceOptimizer(architecture: architecture, theta: theta)
        #expect(firstSteps(optimizer, shape: [3], count: 1) == [0.25])
    }

    @Test func `step features start at t = 0`() {
        let architecture = Self.architecture(momenta: 1)
        let timescales: [Double] = [1, 3, 10, 30, 100, 300, 1000, 3000, 10000, 30000, 100_000]
        for (i, s) in timescales.enumerated() {
            let theta = passing(architecture.features + i, architecture)
            let steps = firstSteps(ReferenceOptimizer(architecture: architecture, theta: theta), shape: [2], count: 4)
            for (t, step) in steps.enumerated() {
                #expect(abs(step - Double.tanh(Double(t) / s - 1)) < 1e-12, "timescale \(s), t \(t)")
            }
        }
    }

    /// w = nominal_stepsize * G with a network of zeros, for n = 0.
    @Test(arguments: [1, 2, 8])
    func `every estimator has its nominal direction, with any number of momenta`(momenta: Int) {
        var architecture = Self.architecture(momenta: momenta)
        architecture.kind = .star
        architecture.nominalStepsize = 0.5
        architecture.nominalController = true
        let c = (1...momenta).map { 1 - 0.1 * Double($0) }
        let mean = c.reduce(0, +) / Double(momenta) * Self.g
        let root = (0.05 * Self.g * Self.g + 1e-6).squareRoot()
        let directions: [(Architecture.NominalEstimator, Double)] = [
            (.sgd, Self.g), (.sgdm, c[momenta - 1] * Self.g), (.aggMo, mean),
            (.adam, c[momenta - 1] * Self.g / root), (.adamAggMo, mean / root),
        ]
        for (estimator, direction) in directions {
            architecture.nominalEstimator = estimator
            let theta = [Double](repeating: 0, count: architecture.metaParameters)
            let step = firstSteps(ReferenceOptimizer(architecture: architecture, theta: theta), shape: [2, 2], count: 1)[0]
            #expect(abs(step - 0.5 * direction) < 1e-12, "\(estimator): \(step) in place of \(0.5 * direction)")
        }
    }

    /// z = 1 - weight_decay * exp(r * exp_mult2), and r = 0 without the controller, whatever the network says.
    @Test(arguments: [false, true])
    func `the rule's own weight decay is its formula`(regularizationController: Bool) {
        var architecture = Self.architecture(momenta: 2)
        architecture.kind = .star
        architecture.weightDecay = 0.125
        architecture.expMult = [1, 1, 3]
        architecture.regularizationController = regularizationController
        var theta = [Double](repeating: 0, count: architecture.metaParameters)
        theta[architecture.biasOffset(2) + 3] = 0.5
        let step = firstSteps(ReferenceOptimizer(architecture: architecture, theta: theta), shape: [3], count: 1)[0]
        let expected = Self.p * 0.125 * (regularizationController ? Double.exp(1.5) : 1)
        #expect(abs(step - expected) < 1e-12, "\(step) in place of \(expected)")
    }

    /// What a tensor of equal values loses in each of its first steps; all its elements move alike.
    private func firstSteps(_ optimizer: ReferenceOptimizer<Double>, shape: [Int], count: Int) -> [Double] {
        var state = optimizer.makeState(shape: shape)
        var p = [Double](repeating: Self.p, count: state.count)
        return (0..<count).map { t in
            #expect(state.t == t)
            let before = p[0]
            optimizer.step(parameters: &p, gradient: p.map { _ in Self.g }, state: &state)
            #expect(p.allSatisfy { $0 == p[0] })
            return before - p[0]
        }
    }

    /// Meta-parameters of a network whose first output is the given input, which may be negative: the bias of the first
    /// layer lifts it above zero, that of the last takes it back. The last unit of every hidden layer carries it.
    private func passing(_ input: Int, _ architecture: Architecture) -> [Double] {
        let lift = 8.0
        let unit = architecture.hiddenSize - 1
        var theta = [Double](repeating: 0, count: architecture.metaParameters)
        for layer in 0..<architecture.layers {
            let from = layer == 0 ? input : unit
            let to = layer == architecture.hiddenLayers ? 0 : unit
            theta[architecture.weightOffset(layer) + from * architecture.fanOut(layer) + to] = 1
        }
        theta[architecture.biasOffset(0) + unit] = lift
        theta[architecture.biasOffset(architecture.hiddenLayers)] = -lift
        return theta
    }
}
