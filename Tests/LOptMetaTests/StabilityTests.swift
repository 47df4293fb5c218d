import Foundation
import LOptCore
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

    @Test func `the answer to a deviation is that of the state map, element by element`() throws {
        // One step of the real rule with learned weights from a state at rest, moved as a whole, against the matrix.
        let named = try NamedWeights("star-authors-rule")
        let report = StabilityReport(named, steps: 100, noises: [0.01], curvatures: [1, 1e9])
        let whole = try #require(report.entry(.whole, noise: 0.01))
        let nominal = try #require(report.entry(.blackboxOff, noise: 0.01))
        let blackbox = try #require(report.entry(.nominalOff, noise: 0.01))
        let sum = nominal.response.settled + blackbox.response.settled
        expectEqual(whole.response.settled, sum, within: 1e-3, "the terms add up")
        expectEqual(whole.response.drift + 1, nominal.response.drift + blackbox.response.drift + 1, within: 1e-6, "drifts")
        #expect(whole.spectralRadii[1] > 1)
        #expect(report.text.contains("preconditioning off"))
    }

    @Test func `what is not there cannot be turned off`() throws {
        let star = StabilityReport(try NamedWeights("star"), steps: 10, noises: [0.1], curvatures: [1])
        #expect(Set(star.entries.map(\.variant)) == [.whole, .preconditioningOff], "its blackbox is off already")
    }
}
