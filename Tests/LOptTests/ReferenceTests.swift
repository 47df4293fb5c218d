import Testing

@testable import LOptCore
import LOptReference

/// The scalar reference against trajectories of the authors' own JAX code.
@Suite struct ReferenceTests {
    @Test func `every golden case is there`() {
        #expect(GoldenCase.names.count == 25)
    }

    /// The decays of the f64 runs are those of theta to 1e-12, so this tests their formula too. What is left is rounding,
    /// in another order of sums: 1.5e-12 in the worst case.
    @Test(arguments: GoldenCase.names)
    func `f64 matches the authors' code`(name: String) throws {
        let golden = try GoldenCase.load(name, .f64)
        let worst = replay(golden, ReferenceOptimizer<Double>(golden), scale: largest)
        #expect(worst.parameters.size <= 1e-9, "\(worst.parameters)")
        #expect(worst.accumulators.size <= 1e-9, "\(worst.accumulators)")
    }

    /// What the rounding of the f32 run itself comes to: the f64 reference with the decays which that run had.
    ///
    /// - 1e-6 of max(1, max|p|) in general: the authors' code differs from itself by up to 6e-7 between its jitted and its
    ///   eager form.
    /// - 5e-6 where all gradients are zero and the blackbox is normalised: rsqrt(0 + 1e-6) multiplies the blackbox, and
    ///   the rounding of the network with it, by 1000.
    /// - 5e-5 for 300 steps of STAR: the same factor while gradients are small, and every rounding of the parameters comes
    ///   back in the gradients.
    @Test(arguments: GoldenCase.names)
    func `f64 with the decays of the f32 run matches it`(name: String) throws {
        let golden = try GoldenCase.load(name, .f32)
        let optimizer = ReferenceOptimizer<Double>(golden, decays: golden.runDecays())
        let worst = replay(golden, optimizer, scale: atLeastOne)
        let tolerance = ["long_nom_star": 5e-5, "x_nom_zero": 5e-6][name] ?? 1e-6
        #expect(worst.parameters.size <= tolerance, "\(worst.parameters)")
    }

    /// The same with the reference in f32 too, and its accumulators: averages of at most 300 terms, rounded otherwise.
    ///
    /// 300 steps of STAR amplify rounding so much that a change of the last bit of some initial parameters moves one
    /// element of w0 by up to 8e-5, so two f32 programs cannot be held to the 5e-5 by which one of them differs from f64.
    @Test(arguments: GoldenCase.names)
    func `f32 matches the authors' code with its decays`(name: String) throws {
        let golden = try GoldenCase.load(name, .f32)
        let optimizer = ReferenceOptimizer<Float>(golden, decays: golden.runDecays())
        let worst = replay(golden, optimizer, scale: atLeastOne)
        let tolerance = ["long_nom_star": 1e-4, "x_nom_zero": 5e-6][name] ?? 1e-6
        #expect(worst.parameters.size <= tolerance, "\(worst.parameters)")
        #expect(worst.accumulators.size <= (name == "long_nom_star" ? 1e-4 : 2e-6), "\(worst.accumulators)")
    }

    /// With decays of theta, 1 - beta differs by up to 6e-5, relatively, from that of the f32 run, which lost its digits;
    /// hence 2e-5, and 3e-4 where 300 steps feed it back.
    @Test(arguments: GoldenCase.names)
    func `f32 matches the authors' code with decays of theta`(name: String) throws {
        let golden = try GoldenCase.load(name, .f32)
        let worst = replay(golden, ReferenceOptimizer<Float>(golden), scale: atLeastOne)
        #expect(worst.parameters.size <= (name == "long_nom_star" ? 3e-4 : 2e-5), "\(worst.parameters)")
    }

    @Test(arguments: GoldenCase.names)
    func `decays of theta are those of the run`(name: String) throws {
        for precision in GoldenCase.Precision.allCases {
            let golden = try GoldenCase.load(name, precision)
            let decays = ReferenceDecays(architecture: golden.architecture, theta: golden.theta)
            let ours = decays.momentum + [decays.secondMoment] + decays.factored
            let run = golden.oneMinusDecays
            for (x, y) in zip(ours, run.momentum + [run.secondMoment] + run.factored) {
                // The f32 run's own 1 - beta has an error of 6e-8 / 0.001.
                #expect(abs(x - y) <= (precision == .f64 ? 1e-12 : 6e-5) * y)
            }
        }
    }
}

extension GoldenCase {
    /// The decays the run really had, in the precision asked for.
    func runDecays<Scalar: ReferenceScalar>() -> ReferenceDecays<Scalar> {
        ReferenceDecays(
            momentum: oneMinusDecays.momentum.map { Scalar($0) }, secondMoment: Scalar(oneMinusDecays.secondMoment),
            factored: oneMinusDecays.factored.map { Scalar($0) })
    }
}

extension ReferenceOptimizer {
    /// With the decays of theta unless others are given.
    init(_ golden: GoldenCase, decays: ReferenceDecays<Scalar>? = nil) {
        self.init(architecture: golden.architecture, theta: golden.theta.map { Scalar($0) }, decays: decays)
    }
}

private func largest(_ x: [Double]) -> Double { x.reduce(0) { max($0, $1.magnitude) } }
private func atLeastOne(_ x: [Double]) -> Double { max(1, largest(x)) }

/// Takes all steps of all tensors and returns the largest differences: of parameters over all steps, in units of
/// `scale(expected)`, and of accumulators after the last, in units of their largest magnitude.
private func replay<Scalar: ReferenceScalar>(
    _ golden: GoldenCase, _ optimizer: ReferenceOptimizer<Scalar>, scale: ([Double]) -> Double
) -> (parameters: Difference, accumulators: Difference) {
    var worst = (parameters: Difference(), accumulators: Difference())
    for tensor in golden.tensors {
        var state = tensor.followsStableOrder
            ? optimizer.makeState(shape: tensor.shape)
            : ReferenceState(shape: tensor.shape, momenta: golden.architecture.momenta, axes: tensor.axes)
        var p = tensor.initial.map { Scalar($0) }
        for step in 0..<golden.steps {
            optimizer.step(parameters: &p, gradient: tensor.gradient(step: step, parameters: p), state: &state)
            guard let expected = tensor.expected(step: step) else { continue }
            worst.parameters.take(p, expected, scale(expected), "\(tensor.name) step \(step)")
        }
        let accumulators = [
            ("momentum", state.momentum, tensor.momentum), ("second moment", [state.secondMoment], [tensor.secondMoment]),
            ("row", state.row, tensor.row), ("column", state.column, tensor.column),
            ("diagonal", state.diagonal, tensor.diagonal),
        ]
        for (name, actual, expected) in accumulators {
            #expect(actual.count == expected.count, "\(tensor.name) \(name)")
            for (k, (a, e)) in zip(actual, expected).enumerated() {
                worst.accumulators.take(a, e, largest(e), "\(tensor.name) \(name) \(k)")
            }
        }
    }
    return worst
}

/// The largest of many differences, and where it was.
struct Difference: CustomStringConvertible {
    private(set) var size = 0.0
    private(set) var description = "equal"

    /// A NaN counts as the largest there is.
    mutating func take<Scalar: BinaryFloatingPoint>(
        _ actual: [Scalar], _ expected: [Double], _ scale: Double, _ place: @autoclosure () -> String
    ) {
        guard actual.count == expected.count else {
            size = .infinity
            description = "\(place()): \(actual.count) values in place of \(expected.count)"
            return
        }
        for i in expected.indices where Double(actual[i]) != expected[i] {
            let difference = abs(Double(actual[i]) - expected[i]) / scale
            if difference <= size { continue }
            if size.isNaN { return }
            size = difference
            description = "\(place()) element \(i): \(actual[i]) in place of \(expected[i]), \(difference) of \(scale)"
        }
    }
}
