import Foundation
import LOptCore
import LOptReference
import Testing

@testable import LOptMeta

struct StabilityTests {
    /// The nominal term alone, of a size that nothing changes.
    private func nominal(_ estimator: Architecture.NominalEstimator, size: Double) -> ReferenceOptimizer<Double> {
        var architecture = Architecture()
        architecture.nominalStepsize = size
        architecture.nominalController = true
        architecture.nominalEstimator = estimator
        architecture.expMult = [1, 1, 1]
        architecture.stepMult = 0
        return ReferenceOptimizer(
            architecture: architecture, theta: Array(repeating: 0, count: architecture.metaParameters))
    }

    private func limit(_ response: LinearResponse) throws -> Double { try #require(response.largestStableCurvature) }

    private func expectEqual(_ found: Double, _ expected: Double, within tolerance: Double, _ what: String) {
        #expect(abs(found / expected - 1) < tolerance, "\(what): \(found), not \(expected)")
    }

    @Test func `the eigenvalue of largest magnitude is found, real, complex or repeated`() {
        var rotation = SquareMatrix(size: 2)
        rotation.values = [0, -1.1, 1.1, 0]
        expectEqual(rotation.spectralRadius, 1.1, within: 1e-9, "complex")
        var jordan = SquareMatrix(size: 2)
        jordan.values = [0.9, 1000, 0, 0.9]
        expectEqual(jordan.spectralRadius, 0.9, within: 1e-6, "repeated")
        var diagonal = SquareMatrix(size: 3)
        diagonal.values = [0.2, 0, 0, 0, -3, 0, 0, 0, 1]
        expectEqual(diagonal.spectralRadius, 3, within: 1e-9, "negative")
        #expect(SquareMatrix(size: 2).spectralRadius == 0)
    }

    /// Of kind pooled with a step size that nothing changes and the momentum alone: Adam without its bias correction.
    @Test func `probing weights of kind pooled finds Adam's limit, and the learned decay as drift`() throws {
        var a = Architecture(.pooled)
        (a.initialMomentumDecays, a.initialRMSDecay) = ([0.9, 0.9, 0, 0, 0, 0, 0, 0], 0.99)
        var theta = [Double](repeating: 0, count: a.metaParameters)
        for i in 0..<(PooledTerm.statistics + 2) {
            theta[a.statisticsRangesOffset + i] = -20
            theta[a.statisticsRangesOffset + PooledTerm.statistics + 2 + i] = 20
        }
        (theta[a.directionOffset], theta[a.directionOffset + 3]) = (1, 1)
        theta[a.statisticsDecayOffset + PooledTerm.bias] = -1
        let response = ResponseProbe().response(ReferencePooled(architecture: a, theta: theta), noise: 0.1, steps: 2000)
        expectEqual(response.settled, 0.01 / 0.1, within: 0.1, "alpha")
        expectEqual(response.drift, 0.01 * exp(-1), within: 1e-3, "drift")
        #expect(response.rates.allSatisfy { abs($0 - 0.1) < 1e-12 })
        expectEqual(try limit(response), 38 * 0.1 / 0.01, within: 0.1, "limit")
    }

    @Test func `known optimizers have their known limits`() throws {
        expectEqual(try limit(.sgd(rate: 0.1)), 2 / 0.1, within: 2e-3, "SGD")
        expectEqual(try limit(.sgdm(rate: 0.1)), 3.8 / 0.1, within: 2e-3, "SGDM")
        expectEqual(try limit(.adam(rate: 1e-3, noise: 0.01)), 38 * 0.01 / 1e-3, within: 2e-3, "Adam")
    }

    @Test func `probing the SGD estimator finds 2 over its size`() throws {
        let response = ResponseProbe().response(nominal(.sgd, size: 0.05), noise: 0.3, steps: 20)
        expectEqual(response.settled, 0.05, within: 1e-6, "alpha")
        #expect(abs(response.drift) < 1e-6, "drift \(response.drift)")
        expectEqual(try limit(response), 2 / 0.05, within: 2e-3, "limit")
        for h in [1.0, 30, 39, 41, 100] {
            expectEqual(response.spectralRadius(curvature: h), max(abs(1 - 0.05 * h), 0.999), within: 1e-5, "h = \(h)")
        }
    }

    @Test func `probing the SGDM estimator finds 2 (1 + beta) over (1 - beta) times its size`() throws {
        let response = ResponseProbe().response(nominal(.sgdm, size: 0.05), noise: 0.3, steps: 20)
        expectEqual(response.settled, 0.05, within: 1e-6, "alpha")
        expectEqual(try limit(response), 2 * (1 + 0.999) / ((1 - 0.999) * 0.05), within: 0.05, "limit")
        // What the limit is without the tolerance.
        let exact = 2 * (1 + 0.999) / ((1 - 0.999) * 0.05)
        #expect(response.spectralRadius(curvature: exact * 0.9999) < 1)
        #expect(response.spectralRadius(curvature: exact * 1.0001) > 1)
    }

    @Test func `the Adam estimator is the SGDM one over the noise`() {
        // v after 20,000 steps is that of the noise up to its sampling, a few per cent for each element.
        let adam = ResponseProbe().response(nominal(.adam, size: 0.05), noise: 0.3, steps: 20_000)
        expectEqual(adam.settled, 0.05 / 0.3, within: 0.02, "alpha")
    }

    @Test func `runs stay at rest below the limit and leave it above`() throws {
        for estimator in [Architecture.NominalEstimator.sgd, .aggMo] {
            let rule = nominal(estimator, size: 0.05)
            let limit = try limit(ResponseProbe().response(rule, noise: 0.1, steps: 20))
            func end(curvature h: Double) -> Double {
                var (x, state) = ([1e-3, -1e-3], rule.makeState(shape: [2]))
                for _ in 0..<2000 { rule.step(parameters: &x, gradient: x.map { h * $0 }, state: &state) }
                return abs(x[0])
            }
            #expect(end(curvature: 0.97 * limit) < 1e-2, "\(estimator) below \(limit): \(end(curvature: 0.97 * limit))")
            #expect(!(end(curvature: 1.03 * limit) < 1), "\(estimator) above \(limit): \(end(curvature: 1.03 * limit))")
        }
    }

    /// How much a deviation of 1e-7 has grown after at most 200 steps of the real rule with everything it has: all
    /// accumulators, all elements together, every draw of the noise.
    private func growth(_ rule: ReferenceOptimizer<Double>, curvature h: Double, noise: Double) -> Double {
        var random = Random(3)
        var held = rule.makeState(shape: [8, 8])
        func draw() -> [Double] { (0..<64).map { _ in noise * random.normal() } }
        for _ in 0..<1000 { rule.accumulate(gradient: draw(), into: &held) }
        held.t = 1000
        let minimum = (0..<64).map { _ in 0.1 * random.normal() }
        var (moved, deviation) = (held, (0..<64).map { _ in 1e-7 * noise / h * random.normal() })
        func size() -> Double { deviation.reduce(0) { $0 + $1 * $1 }.squareRoot() }
        let start = size()
        for _ in 0..<200 where size() < 1e4 * start {
            let g = draw()
            var (p, q) = (minimum, zip(minimum, deviation).map { $0 + $1 })
            rule.step(parameters: &p, gradient: g, state: &held)
            rule.step(parameters: &q, gradient: zip(g, deviation).map { $0 + h * $1 }, state: &moved)
            deviation = zip(q, p).map { $0 - $1 }
        }
        return size() / start
    }

    @Test(arguments: ["star", "star-authors-rule"], [0.001, 0.1])
    func `a small deviation shrinks below the limit of learned weights and grows above`(name: String, noise: Double) throws {
        let named = try NamedWeights(name)
        let architecture = named.weights.architecture
        let theta = (0..<architecture.metaParameters).map { Double(named.weights.theta[$0]) }
        let rule = ReferenceOptimizer(architecture: architecture, theta: theta)
        var probe = ResponseProbe()
        probe.shape = [8, 8]
        let limit = try limit(probe.response(rule, noise: noise, steps: 1000))
        let below = growth(rule, curvature: 0.85 * limit, noise: noise)
        let above = growth(rule, curvature: 1.15 * limit, noise: noise)
        #expect(below < 1, "at 0.85 of the limit \(limit): \(below)")
        #expect(above > 100, "at 1.15 of the limit \(limit): \(above)")
    }

    @Test func `the answers of nominal and blackbox term add up to that of the whole`() throws {
        let named = try NamedWeights("star-authors-rule")
        let report = StabilityReport(named, steps: 100, noises: [0.01], curvatures: [1, 1e9])
        let whole = try #require(report.entry(.whole, noise: 0.01))
        let nominal = try #require(report.entry(.blackboxOff, noise: 0.01)).response
        let blackbox = try #require(report.entry(.nominalOff, noise: 0.01)).response
        expectEqual(whole.response.settled, nominal.settled + blackbox.settled, within: 1e-6, "settled")
        expectEqual(1 + whole.response.drift, 1 + nominal.drift + blackbox.drift, within: 1e-9, "drift")
        #expect(whole.spectralRadii[1] > 1)
    }

    @Test func `what is not there cannot be turned off`() throws {
        let star = StabilityReport(try NamedWeights("star"), steps: 10, noises: [0.1], curvatures: [1])
        #expect(Set(star.entries.map(\.variant)) == [.whole, .preconditioningOff], "its blackbox is off already")
    }
}
