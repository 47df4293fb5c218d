import Testing

@testable import LOptCore
import LOptReference

/// The extensions beyond the authors' rule, against values computed by hand.
@Suite struct ReferenceExtensionTests {
    /// STAR whose network is all zeros, K = 2: without extensions the step is 0.5 * G.
    private static func architecture(_ estimator: Architecture.NominalEstimator) -> Architecture {
        var architecture = Architecture()
        architecture.momenta = 2
        architecture.initialMomentumDecays = [0.5, 0.75, 0, 0, 0, 0, 0, 0]
        architecture.initialRMSDecay = 0.75
        architecture.nominalStepsize = 0.5
        architecture.nominalController = true
        architecture.nominalEstimator = estimator
        architecture.expMult = [1, 2, 3]
        return architecture
    }

    private static func zeros(_ architecture: Architecture) -> [Double] {
        Array(repeating: 0, count: architecture.metaParameters)
    }

    // MARK: - tensor_scale

    /// phi for K = 2 at the first step: p = (3, -4), g = (1, -1), m1 = g / 2, m2 = g / 4, v = 1 / 4.
    private static let phi: [Double] = [
        Double.log(12.5.squareRoot() + 1e-3) + 2,
        Double.log(0.5 / (1 + 1e-12) + 1e-3) + 1.5,
        Double.log(0.25 / (1 + 1e-12) + 1e-3) + 1.5,
        Double.log(0.5 / 0.250001.squareRoot() + 1e-3) + 1,
        Double.log(0.25 / 0.250001.squareRoot() + 1e-3) + 1,
        Double.log(2.0) / 5 - 1,
    ]

    @Test(arguments: [[2], [1, 2]])
    func `every tensor scale has its weight`(shape: [Int]) {
        var architecture = Self.architecture(.sgd)
        architecture.tensorScale = true
        #expect(architecture.count(of: .tensorScale) == 7)
        let phi = Self.phi + [1]
        for i in phi.indices {
            var theta = Self.zeros(architecture)
            theta[architecture.offset(of: .tensorScale) + i] = 0.75
            let optimizer = ReferenceOptimizer(architecture: architecture, theta: theta)
            var state = optimizer.makeState(shape: shape)
            var p: [Double] = [3, -4]
            optimizer.step(parameters: &p, gradient: [1, -1], state: &state)
            let step = 0.5 * Double.exp(0.75 * phi[i] * 2)
            #expect(abs(p[0] - (3 - step)) < 1e-12 * step, "phi \(i): \(p[0]) in place of \(3 - step)")
            #expect(abs(p[1] - (-4 + step)) < 1e-12 * step, "phi \(i): \(p[1]) in place of \(-4 + step)")
        }
    }

    /// After g = (1, -1) and then (-1, 1): m1 = (0.5 - 1) / 2 g, m2 = (0.75 - 1) / 4 g. The parameters seen are those
    /// before the second step.
    @Test func `tensor scales see updated momenta and parameters before the step`() {
        var architecture = Self.architecture(.sgd)
        architecture.tensorScale = true
        var theta = Self.zeros(architecture)
        let weights = [0.125, 0.25, -0.125, 0, 0, 0, 0]
        theta.replaceSubrange(architecture.offset(of: .tensorScale)..., with: weights)
        let optimizer = ReferenceOptimizer(architecture: architecture, theta: theta)
        var state = optimizer.makeState(shape: [2])
        var p: [Double] = [3, -4]
        optimizer.step(parameters: &p, gradient: [1, -1], state: &state)
        let before = p
        optimizer.step(parameters: &p, gradient: [-1, 1], state: &state)
        let rms = ((before[0] * before[0] + before[1] * before[1]) / 2).squareRoot()
        let n = 0.125 * (Double.log(rms + 1e-3) + 2) + 0.25 * (Double.log(0.25 / (1 + 1e-12) + 1e-3) + 1.5)
            - 0.125 * (Double.log(0.0625 / (1 + 1e-12) + 1e-3) + 1.5)
        let step = 0.5 * Double.exp(2 * n)
        #expect(abs(p[0] - (before[0] + step)) < 1e-12 * step)
        #expect(abs(p[1] - (before[1] - step)) < 1e-12 * step)
    }

    /// n = 1 without the controller, and the tensor scales add to it all the same.
    @Test func `tensor scales add to a nominal magnitude that is not controlled`() {
        var architecture = Self.architecture(.sgd)
        architecture.tensorScale = true
        architecture.nominalController = false
        var theta = Self.zeros(architecture)
        theta[architecture.offset(of: .tensorScale) + 6] = 0.25
        let optimizer = ReferenceOptimizer(architecture: architecture, theta: theta)
        var state = optimizer.makeState(shape: [1])
        var p: [Double] = [3]
        optimizer.step(parameters: &p, gradient: [1], state: &state)
        #expect(abs(p[0] - (3 - 0.5 * Double.exp(2 * 1.25))) < 1e-12)
    }

    @Test func `tensor scales of weight zero change nothing`() {
        let plain = Self.architecture(.adamAggMo)
        var scaled = plain
        scaled.tensorScale = true
        let theta = noise(plain.metaParameters, seed: 1).map { 0.1 * $0 }
        let optimizers = [
            ReferenceOptimizer(architecture: plain, theta: theta),
            ReferenceOptimizer(architecture: scaled, theta: theta + Array(repeating: 0, count: scaled.count(of: .tensorScale))),
        ]
        let results = optimizers.map { optimizer in
            var state = optimizer.makeState(shape: [2, 3])
            var p = noise(6, seed: 2)
            for step in 0..<3 { optimizer.step(parameters: &p, gradient: noise(6, seed: 3 + UInt64(step)), state: &state) }
            return p
        }
        #expect(results[0] == results[1])
    }

    /// With 0.75 at `weight` and 0 elsewhere, the step at t of p = (3, -4) with g = (1, -1) has the log-step n.
    private static func expectLogStep(_ n: Double, _ architecture: Architecture, weight: Int, t: Int, tensors: Int = 1) {
        var theta = zeros(architecture)
        theta[weight] = 0.75
        let optimizer = ReferenceOptimizer(architecture: architecture, theta: theta)
        var state = optimizer.makeState(shape: [1, 2])
        state.t = t
        var p: [Double] = [3, -4]
        optimizer.step(parameters: &p, gradient: [1, -1], state: &state, tensors: tensors)
        let step = 0.5 * Double.exp(2 * n)
        #expect(abs(p[0] - (3 - step)) < 1e-12 * step, "weight \(weight), t \(t): \(p[0]) in place of \(3 - step)")
    }

    // MARK: - tensor_schedule

    /// psi for g = (1, -1): v = 1 / 4 in both elements, so RMS(v) = 1 / 4. At t = 0, tau is 0.
    @Test func `every term of the tensor schedule has its weight and its time`() {
        var architecture = Self.architecture(.sgd)
        (architecture.tensorScale, architecture.tensorSchedule) = (true, true)
        #expect(architecture.count(of: .tensorSchedule) == 10)
        let terms = Self.phi + [1, Double.log(1 / (0.5 + 1e-12) + 1e-3), 1]
        for t in [0, 1, 600, 30_000, 1 << 40] {
            let tau = Double.log(1 + Double(min(t, 30_000)) / 30) / 5
            for i in 0..<10 {
                let n = 0.75 * (i == 0 ? terms[7] : tau * terms[i - 1])
                Self.expectLogStep(n, architecture, weight: architecture.offset(of: .tensorSchedule) + i, t: t)
            }
        }
    }

    @Test(arguments: [0, 1, 2])
    func `an extension of tensor_scale needs it`(which: Int) {
        var architecture = Self.architecture(.adamAggMo)
        (architecture.tensorSchedule, architecture.tensorCount, architecture.tensorRanges) = (which == 0, which == 1, which == 2)
        #expect(throws: LOptError.self) { _ = try architecture.checked() }
    }

    // MARK: - tensor_count

    @Test func `the tensor count has its weight and its time`() {
        var architecture = Self.architecture(.sgd)
        (architecture.tensorScale, architecture.tensorSchedule, architecture.tensorCount) = (true, true, true)
        #expect(architecture.metaParameters == architecture.offset(of: .tensorSchedule) + 12)
        for (t, tensors) in [(0, 1), (0, 50), (600, 1), (600, 50), (1 << 40, 7)] {
            let tau = Double.log(1 + Double(min(t, 30_000)) / 30) / 5
            for i in 0..<2 {
                let n = 0.75 * (i == 0 ? 1 : tau) * (Double.log(Double(tensors)) / 2 - 1)
                Self.expectLogStep(n, architecture, weight: architecture.offset(of: .tensorCount) + i, t: t, tensors: tensors)
            }
        }
    }

    // MARK: - tensor_ranges

    /// With a weight of 1 on one statistic and a range of its own for it, that statistic is clamped, and no other.
    @Test(arguments: [(-0.25, 0.25), (-9, -8), (8, 9), (-100, 100)])
    func `every statistic is clamped to its range`(least: Double, most: Double) {
        var architecture = Self.architecture(.sgd)
        (architecture.tensorScale, architecture.tensorSchedule, architecture.tensorCount) = (true, true, true)
        architecture.tensorRanges = true
        #expect(architecture.statistics == 9 && architecture.count(of: .tensorRanges) == 20)
        let statistics = Self.phi + [1, Double.log(1 / (0.5 + 1e-12) + 1e-3), Double.log(7.0) / 2 - 1]
        for i in 0...9 {
            let weight = switch i {
            case ..<7: architecture.offset(of: .tensorScale) + i
            case 7: architecture.offset(of: .tensorSchedule)
            default: architecture.offset(of: .tensorCount)
            }
            var theta = Self.zeros(architecture)
            for j in 0...9 {
                theta[architecture.offset(of: .tensorRanges) + j] = j == i ? least : -1000
                theta[architecture.offset(of: .tensorRanges) + 10 + j] = j == i ? most : 1000
            }
            theta[weight] = 1
            let optimizer = ReferenceOptimizer(architecture: architecture, theta: theta)
            var state = optimizer.makeState(shape: [2])
            var p: [Double] = [3, -4]
            optimizer.step(parameters: &p, gradient: [1, -1], state: &state, tensors: 7)
            let n = min(max(i == 9 ? statistics[8] : statistics[i], least), most)
            #expect(abs(state.stepSize / (0.5 * Double.exp(2 * n)) - 1) < 1e-9, "statistic \(i)")
        }
    }

    /// Weights without ranges have the defaults: nothing that a gradient or a parameter does leads out of them.
    @Test(arguments: [[-1e30, 1e-30], [1e15, 1e-15], [0, 1e-30]], [[1e30, -1e30], [0, 0], [Double.nan, 1], [.infinity, 1e9]])
    func `the log-step stays in its range`(gradient: [Double], parameters: [Double]) {
        var architecture = Self.architecture(.adamAggMo)
        (architecture.tensorScale, architecture.tensorSchedule, architecture.tensorCount) = (true, true, true)
        architecture.expMult = [1, 1, 1]
        var theta = noise(architecture.metaParameters, seed: 3)
        for i in 0..<architecture.weightOffset(0) { theta[i] = 0 }
        let optimizer = ReferenceOptimizer(architecture: architecture, theta: theta)
        let range = architecture.defaultStatisticRange(architecture.statistics)
        var state = optimizer.makeState(shape: [2])
        for step in 0..<200 {
            var p = parameters
            optimizer.step(
                parameters: &p, gradient: step % 20 < 10 ? gradient : [1e-30, 0], state: &state, tensors: 1 << (step % 30))
            let n = Double.log(state.stepSize / 0.5)
            #expect(n >= range.least - 1e-9 && n <= range.most + 1e-9)
        }
    }

    /// A mask that never had a gradient, and what is not finite, are not part of the tensor's size; extents of 1 are no rank.
    @Test func `the size is of live parameters`() {
        var architecture = Self.architecture(.sgd)
        architecture.tensorScale = true
        let optimizer = ReferenceOptimizer(architecture: architecture, theta: Self.zeros(architecture))
        var state = optimizer.makeState(shape: [1, 4, 1])
        let g = [1.0, 1, 0, 1]
        optimizer.accumulate(gradient: g, into: &state)
        let statistics = optimizer.tensorStatistics(parameters: [3, -4, -1e9, .nan], gradient: g, state: state, tensors: 1)
        #expect(abs(statistics[0] - (Double.log(12.5.squareRoot() + 1e-3) + 2)) < 1e-12)
        #expect(statistics[6] == 1)
    }

    // MARK: - skip_idle_tensors

    @Test func `an idle tensor stays as it is but for the caller's decay`() {
        var architecture = Self.architecture(.adamAggMo)
        architecture.skipIdleTensors = true
        let optimizer = ReferenceOptimizer(architecture: architecture, theta: Self.zeros(architecture))
        var state = optimizer.makeState(shape: [2])
        var p: [Double] = [3, -4]
        optimizer.step(parameters: &p, gradient: [0, 0], state: &state, weightDecay: 1)
        #expect(p == [3, -4] && state.t == 0)
        optimizer.step(parameters: &p, gradient: [0, 1], state: &state)
        let (before, held) = (p, state)
        optimizer.step(parameters: &p, gradient: [-0.0, 1e-40], state: &state)
        #expect(p == before)
        #expect(state.t == 1 && state.momentum == held.momentum && state.secondMoment == held.secondMoment)
        optimizer.step(parameters: &p, gradient: [0, 0], state: &state, learningRateScale: 0.5, weightDecay: 0.25)
        #expect(state.stepSize == 0.5)
        for i in 0..<2 { #expect(abs(p[i] - before[i] * (1 - 0.5 * 0.25 * 0.5)) < 1e-15) }
        architecture.skipIdleTensors = false
        let authors = ReferenceOptimizer(architecture: architecture, theta: Self.zeros(architecture))
        authors.step(parameters: &p, gradient: [0, 0], state: &state)
        #expect(state.t == 2)
    }

    // MARK: - nominal_epsilon

    /// With g = 1e-5: v = 2.5e-11, so that the authors' 1e-6 makes the step 160 times smaller than 1e-12 does.
    @Test(arguments: [1e-6, 1e-12])
    func `nominal_epsilon is under the root of the nominal direction`(epsilon: Double) {
        for (estimator, momentum) in [(Architecture.NominalEstimator.adam, 0.25), (.adamAggMo, 0.375)] {
            var architecture = Self.architecture(estimator)
            architecture.nominalEpsilon = epsilon
            let optimizer = ReferenceOptimizer(architecture: architecture, theta: Self.zeros(architecture))
            var state = optimizer.makeState(shape: [2])
            var p: [Double] = [0, 0]
            optimizer.step(parameters: &p, gradient: [1e-5, 0], state: &state)
            let step = 0.5 * momentum * 1e-5 / (2.5e-11 + epsilon).squareRoot()
            #expect(abs(p[0] + step) < 1e-12 * step, "\(p[0]) in place of \(-step)")
            #expect(p[1] == 0)
        }
    }

    /// The blackbox's own normaliser and the features keep the authors' 1e-6.
    @Test func `nominal_epsilon leaves the rest alone`() {
        var architecture = Self.architecture(.sgd)
        architecture.normalizeBlackbox = true
        architecture.stepMult = 1
        architecture.expMult = [0, 0, 0]
        architecture.nominalStepsize = 0
        let theta = noise(architecture.metaParameters, seed: 1).map { 0.1 * $0 }
        let results = [1e-6, 1e-12].map { epsilon in
            architecture.nominalEpsilon = epsilon
            let optimizer = ReferenceOptimizer(architecture: architecture, theta: theta)
            var state = optimizer.makeState(shape: [2])
            var p: [Double] = [3, -4]
            optimizer.step(parameters: &p, gradient: [1e-5, 2e-5], state: &state)
            return p
        }
        #expect(results[0] == results[1])
        #expect(results[0] != [3, -4])
    }
}
