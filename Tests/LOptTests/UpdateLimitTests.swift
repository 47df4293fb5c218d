import Testing

@testable import LOptCore
import LOptReference

/// The guard `maxUpdateRatio`: RMS(update) <= ratio max(RMS(p), 1e-3), and without it nothing is different.
@Suite struct UpdateLimitTests {
    private static let star = KernelReferenceTests.star

    /// Both with ratios that bind at every step, at some, and at none.
    @Test(arguments: 0..<64)
    func `the kernels limit updates as the reference does, for every plan of passes`(_ bits: Int) throws {
        let a = KernelReferenceTests.star(bits)
        for ratio in [1e-4, 5e-3, 10] {
            for shape in [[], [300], [20, 33], [16, 3, 7]] {
                let difference = try KernelReferenceTests.compare(
                    a, shape, steps: 3, scale: 0.9, decay: 1e-3, maxUpdateRatio: ratio, seed: UInt64(bits + 2))
                #expect(difference <= updateTolerance, "ratio \(ratio), \(shape), \(a.flagsText)")
            }
        }
    }

    @Test(arguments: [[40_000], [300, 300], [2, 9000], [20, 20, 20, 20], [5]])
    func `tensors of many chunks are limited as a whole, on every instruction set`(_ shape: [Int]) throws {
        for aggregates in [false, true] {
            var a = Self.star
            a.aggregateNominalMagnitude = aggregates
            let difference = try KernelReferenceTests.compare(a, shape, on: FusedRun.instructionSets, maxUpdateRatio: 1e-3)
            #expect(difference <= updateTolerance, "aggregates \(aggregates)")
        }
    }

    @Test func `the update is as large as the limit allows, and the counter counts`() throws {
        for aggregates in 0..<8 {
            var a = Self.star
            a.aggregateMagnitude = aggregates & 1 != 0
            a.aggregateNominalMagnitude = aggregates & 2 != 0
            a.regularizationController = aggregates & 4 != 0
            a.weightDecay = 0
            let theta = KernelReferenceTests.theta(a, seed: 3)
            let run = try FusedRun(a, theta: theta) { $0.maxUpdateRatio = 1e-3 }
            let shape = [60, 700]
            try run.add("large", shape: shape, initial: noise(42_000, seed: 4))
            try run.add("zero", shape: [50], initial: [Double](repeating: 0, count: 50))
            for step in 0..<5 {
                run.setGradient(0, noise(42_000, seed: 20 + UInt64(step)).map { Float($0) })
                run.setGradient(1, noise(50, seed: 30 + UInt64(step)).map { Float($0) })
                let before = run.parameters(0), zeroBefore = run.parameters(1)
                try run.step()
                let moved = rms(zip(run.parameters(0), before).map { Double($0) - Double($1) })
                let most = 1e-3 * rms(before.map { Double($0) })
                #expect(abs(moved / most - 1) < 1e-4, "step \(step), \(a.flagsText): \(moved) of \(most)")
                let statistics = try run.optimizer.statistics(0)
                #expect(abs(statistics.updateRMS / most - 1) < 1e-4, "\(statistics.updateRMS) of \(most)")
                #expect(statistics.updatesLimited == Int64(step + 1))
                // A tensor of zeros may move by the ratio of 1e-3.
                let fromZero = rms(zip(run.parameters(1), zeroBefore).map { Double($0) - Double($1) })
                if step == 0 { #expect(abs(fromZero / 1e-6 - 1) < 1e-4, "\(fromZero)") }
            }
            #expect(try run.optimizer.statistics(nil).updatesLimited == 10)
        }
    }

    @Test func `a limit that never binds changes no bit, nor does the number of threads`() throws {
        for aggregates in 0..<8 {
            var a = Self.star
            a.aggregateMagnitude = aggregates & 1 != 0
            a.aggregateNominalMagnitude = aggregates & 2 != 0
            if aggregates & 4 != 0 { a.stepMult = 0 }
            let theta = KernelReferenceTests.theta(a, seed: 5)
            func train(_ ratio: Double, _ threads: Int) throws -> [[Float]] {
                let run = try FusedRun(a, theta: theta, threads: threads) { $0.maxUpdateRatio = ratio }
                let shapes = [[400, 301], [70_000], [9, 4000], [7]]
                for shape in shapes {
                    try run.add("\(shape)", shape: shape, initial: noise(shape.reduce(1, *), seed: 6))
                }
                for step in 0..<3 {
                    for (i, shape) in shapes.enumerated() {
                        run.setGradient(i, noise(shape.reduce(1, *), seed: 7 + UInt64(step)).map { Float($0) })
                    }
                    try run.step()
                }
                if ratio == 1e6 { #expect(try run.optimizer.statistics(nil).updatesLimited == 0) }
                return shapes.indices.map { run.parameters($0) }
            }
            #expect(try train(0, 1) == train(1e6, 2), "\(a.flagsText)")
            #expect(try train(1e-3, 1) == train(1e-3, 3), "\(a.flagsText)")
        }
    }

    @Test func `an update that is not finite is not applied`() throws {
        for aggregates in [false, true] {
            var a = Self.star
            a.aggregateNominalMagnitude = aggregates
            var theta = KernelReferenceTests.theta(a, seed: 8)
            theta[0] = 0
            let run = try FusedRun(a, theta: theta) {
                $0.maxUpdateRatio = 0.1
                $0.learningRateScale = 1e30
            }
            let initial = noise(500, seed: 9)
            try run.add("a", shape: [500], initial: initial)
            run.setGradient(0, noise(500, seed: 10).map { Float($0) })
            // u and w of about 1e28: their squares do not fit f32.
            try run.step()
            #expect(run.parameters(0) == initial.map { Float($0) })
            let statistics = try run.optimizer.statistics(0)
            #expect(statistics.updatesLimited == 1 && statistics.updateRMS == 0 && statistics.steps == 1)
        }
    }

    @Test(arguments: [-1, .nan, .infinity, -.infinity, 1e31])
    func `a ratio out of range is refused by name`(_ ratio: Double) throws {
        let theta = KernelReferenceTests.theta(Self.star, seed: 1)
        let error = #expect(throws: LOptError.self) {
            _ = try FusedRun(Self.star, theta: theta) { $0.maxUpdateRatio = ratio }
        }
        #expect(error?.status == .invalidArgument)
    }

    private func rms(_ x: [Double]) -> Double { (x.reduce(0) { $0 + $1 * $1 } / Double(x.count)).squareRoot() }
}

extension Architecture {
    /// What decides the plan of passes.
    fileprivate var flagsText: String {
        "step_mult \(stepMult), aggregates \(aggregateMagnitude) \(aggregateNominalMagnitude) "
            + "\(aggregateRegularizationMagnitude), controllers \(nominalController) \(regularizationController)"
    }
}
