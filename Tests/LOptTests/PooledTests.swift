import LOptMeta
import LOptReference
import Testing

@testable import LOptCore

/// Weights of kind pooled: the fused pass computes what the plain program computes, and nothing a gradient does leads out of what
/// the weights allow.
@Suite struct PooledTests {
    /// Those of the statistics, of the log-step and of the log-decay.
    static let ranges = PooledTerm.statistics + 2

    /// Random but for direction and ranges. `spread` is the size of what the statistics do to the log-step.
    static func weights(_ seed: UInt64, spread: Double = 0.2) -> (architecture: Architecture, theta: [Double]) {
        let a = Architecture.pooled
        var theta = noise(a.metaParameters, seed: seed).map { spread * 1.7 * $0 }
        for i in 0..<3 { theta[i] *= 0.1 }
        let direction = [0.5, 0.4, 0.1, 0.6, 0.1, -0.1, 0.05, -0.1]
        for i in 0..<8 { theta[a.directionOffset + i] = direction[i] }
        for i in 0..<ranges {
            let range = Architecture.defaultPooledRange(i)
            theta[a.statisticsRangesOffset + i] = range.least
            theta[a.statisticsRangesOffset + ranges + i] = range.most
        }
        // As a file has them.
        return (a, theta.map { Double(Float($0)) })
    }

    struct Caller: CustomTestStringConvertible, Sendable {
        var scale = 1.0
        var decay = 0.0
        /// total_steps from a step on.
        var totals: [Int: Int] = [:]
        var momentumType = ElementType.f32
        var testDescription: String { "scale \(scale), decay \(decay), totals \(totals), momenta \(momentumType)" }
    }

    @Test(
        arguments: [[], [1], [7], [5, 9], [64, 3], [1, 33, 1], [40, 1000], [3, 4, 5, 6], [70_001]],
        [
            Caller(), Caller(totals: [0: 30]), Caller(scale: 0.5, decay: 0.3, totals: [0: 500, 12: 25, 33: 0]),
            Caller(decay: 0.3, momentumType: .bf16),
        ])
    func `the kernels follow the reference on every instruction set, geometry and horizon`(shape: [Int], caller: Caller) throws {
        let (architecture, theta) = Self.weights(UInt64(shape.count) + 1)
        let rule = ReferencePooled(architecture: architecture, theta: theta, momentumType: caller.momentumType)
        // Three layers of a matrix and a vector, the tensor at hand the matrix or vector of the second.
        let isVector = shape.filter { $0 > 1 }.count < 2
        let shapes = isVector ? [[6, 5], [5], [5, 4], shape, [4, 2]] : [[6, 5], [5], shape, [4], [4, 2]]
        let at = isVector ? 3 : 2, count = shape.reduce(1, *)
        for isa in FusedRun.instructionSets {
            let run = try FusedRun(architecture, theta: theta, isa: isa, threads: 2) {
                ($0.learningRateScale, $0.weightDecay, $0.momentumType) = (caller.scale, caller.decay, caller.momentumType)
            }
            for (i, shape) in shapes.enumerated() {
                try run.add("\(i)", shape: shape, initial: noise(shape.reduce(1, *), seed: UInt64(i)))
            }
            var states = [at, 0, 4].map { ReferencePooled.State(shape: shapes[$0]) }
            let places = [(false, false), (true, false), (false, true)].map {
                LayerPosition(tensors: 5, isFirst: $0.0, isLast: $0.1, inputs: 5, outputs: 2)
            }
            var total = 0
            for step in 0..<40 {
                if let new = caller.totals[step] {
                    total = new
                    try run.setTotalSteps(Int64(total))
                }
                // Gradients that persist, vanish for a while, and are 0 for one step.
                let size = step == 20 ? 0 : (25..<30).contains(step) ? 1e-4 : 1.0
                var expected: [[Double]] = [], moved: [Double] = [], start: [[Double]] = []
                for (one, i) in [at, 0, 4].enumerated() {
                    let p = run.parameters(i).map(Double.init)
                    let gradient = zip(noise(p.count, seed: UInt64(100 + 7 * step + i)), p).map { Float(size * ($0 + 0.3 * $1)) }
                    run.setGradient(i, gradient)
                    var after = p
                    rule.step(
                        parameters: &after, gradient: gradient.map(Double.init), state: &states[one],
                        learningRateScale: caller.scale, weightDecay: caller.decay, position: places[one], totalSteps: total)
                    expected.append(after)
                    start.append(p)
                    moved.append(zip(after, p).map { abs($0 - $1) }.max() ?? 0)
                }
                try run.step()
                for (one, i) in [at, 0, 4].enumerated() {
                    let found = run.parameters(i)
                    // The rounding of p, of the largest update, and of terms of it that cancel. Where gradient and momenta just
                    // disagree, one ulp decides; those few elements may differ.
                    let rounding = 3e-5 * moved[one] + 2e-5 * caller.scale * states[one].stepSize
                    let worse = found.indices.filter {
                        abs(Double(found[$0]) - expected[one][$0]) > 1.2e-7 * abs(expected[one][$0]) + rounding
                    }
                    // An ulp of f32 decides to which bf16 number one momentum of 65,536 is rounded, and the next ones remember it.
                    let few = caller.momentumType == .bf16 ? 1 + found.count / 500 : count / 20_000
                    #expect(worse.count <= few, "\(isa), step \(step), tensor \(i): \(worse.count) of \(found.count)")
                    if size != 0 { #expect(moved[one] > 0) }
                }
            }
            #expect(states[0].t == 39)
        }
    }

    /// A run of 60 steps of two matrices and a vector, gradients given by `gradient(step, tensor, element, noise)`.
    private func run(
        _ weights: (architecture: Architecture, theta: [Double]), ratio: Double = 0, steps: Int = 60,
        _ gradient: (Int, Int, Int, Double) -> Float, _ look: (FusedRun, Int, [[Float]]) throws -> Void
    ) throws {
        let run = try FusedRun(weights.architecture, theta: weights.theta) { $0.maxUpdateRatio = ratio }
        let shapes = [[16, 24], [24], [24, 5]]
        for (i, shape) in shapes.enumerated() {
            try run.add("\(i)", shape: shape, initial: noise(shape.reduce(1, *), seed: UInt64(i)))
        }
        for step in 0..<steps {
            let before = (0..<3).map { run.parameters($0) }
            for (i, shape) in shapes.enumerated() {
                let random = noise(shape.reduce(1, *), seed: UInt64(50 + 3 * step + i))
                run.setGradient(i, random.indices.map { gradient(step, i, $0, random[$0]) })
            }
            try run.step()
            try look(run, step, before)
        }
    }

    @Test(arguments: [1e-6, 1e-3, 0x1p-20, 0x1p20, 1e3, 1e6])
    func `gradients of any unit give the same updates`(_ unit: Double) throws {
        let weights = Self.weights(3)
        var ends: [[[Float]]] = [], starts: [[Float]] = []
        for unit in [1, unit] {
            try run(weights, { Float(unit * ($3 + 0.3 * Double($2 % 3 - 1)) * ($0 % 20 > 15 ? 1e-3 : 1)) }) { run, step, before in
                if step == 0 { starts = before }
                if step == 59 { ends.append((0..<3).map { run.parameters($0) }) }
            }
        }
        for i in 0..<3 {
            let moved = zip(ends[0][i], starts[i]).map { abs($0 - $1) }.max() ?? 0
            #expect(moved > 0.01)
            for (a, b) in zip(ends[0][i], ends[1][i]) { #expect(abs(a - b) <= 1e-4 * moved + 1e-6 * abs(a)) }
        }
    }

    /// Sizes of the gradients by step and element.
    enum Wild: String, CaseIterable {
        case spikes, vanishing, fading, giant, alternating, sparse, lastStepOnly

        func size(_ step: Int, _ element: Int) -> Double {
            switch self {
            case .spikes: step % 13 == 7 ? 1e12 : 1
            case .vanishing: step < 10 ? 1 : step < 20 ? 1e-3 : step < 35 ? 1e-12 : 1e-30
            case .fading: Double.pow(0.1, step)
            case .giant: element == 5 ? 1e14 : 1
            case .alternating: step % 2 == 0 ? 1e7 : 1e-7
            case .sparse: element % 11 == step % 11 ? 1 : 0
            case .lastStepOnly: step == 59 ? 1e10 : element == 0 ? 1e-15 : 0
            }
        }
    }

    /// Shapes of a network, and the widths of what goes in and comes out; nil: no tensor tells.
    static let ends: [(shapes: [[Int]], inputs: Int?, outputs: Int?)] = [
        ([[784, 64], [64], [64, 10], [10]], 64, 10), ([[2, 48], [48], [48, 48], [48], [48, 3], [3]], 2, 3), ([[48, 2], [48], [3, 48]], 2, 3),
        // One number in, one out, however they are written; one output and no bias.
        ([[1, 28], [28], [28, 28], [28], [28, 1], [1]], 1, 1), ([[28], [28, 1], [28, 28], [1, 28], [1, 1]], 1, 1), ([[5, 28], [28], [28]], 5, 5),
        // Kernels, a norm at the end, one matrix, none.
        ([[6, 1, 3, 3], [6], [12, 6, 3, 3], [12], [12, 10], [10]], 9, 10), ([[65, 24], [24, 48], [24]], 24, 24), ([[13, 3]], 3, 3),
        ([[1000]], nil, nil), ([[28], [28], [28], [1]], nil, nil), ([], nil, nil),
    ]

    @Test(arguments: ends.indices)
    func `the widths of what goes into a network and comes out are told by its shapes`(_ index: Int) throws {
        let (shapes, inputs, outputs) = Self.ends[index], (architecture, theta) = Self.weights(3)
        let run = try FusedRun(architecture, theta: theta)
        for (i, shape) in shapes.enumerated() { try run.add("\(i)", shape: shape, initial: noise(shape.reduce(1, *), seed: 1)) }
        let place = LayerPosition(0, run.optimizer.shape, logTensors: 0), expected = LayerPosition(inputs: inputs, outputs: outputs)
        #expect(abs(place.inputs - expected.inputs) < 1e-12 && abs(place.outputs - expected.outputs) < 1e-12)
    }

    @Test(arguments: Wild.allCases, [0.2, 2.0])
    func `no gradients lead statistics, step size or update out of their ranges`(_ wild: Wild, _ spread: Double) throws {
        let weights = Self.weights(11, spread: spread), a = weights.architecture
        let rule = ReferencePooled(architecture: a, theta: weights.theta)
        func range(_ i: Int) -> ClosedRange<Double> {
            weights.theta[a.statisticsRangesOffset + i]...weights.theta[a.statisticsRangesOffset + Self.ranges + i]
        }
        // |h| and |a_k| are at most the roots of 1 / (1 - beta) of v and of (1 - beta_k)^2 / ((1 - beta) (1 - beta_k^2 / beta)).
        let v = rule.secondMomentRate
        let bounds = (0..<2).map { k in
            let r = rule.momentumRate(k)
            return r / (v * (1 - (1 - r) * (1 - r) / (1 - v))).squareRoot()
        } + [1 / v.squareRoot()]
        var sizes: Set<Double> = []
        try run(weights, { Float($3 * wild.size($0, $2)) }) { run, step, before in
            let tau = Architecture.scheduleTime(Int64(step))
            let mix = (0..<3).map { abs(weights.theta[a.directionOffset + $0] + tau * weights.theta[a.directionOffset + 4 + $0]) }
            let most = 2 * zip(mix, bounds).reduce(0) { $0 + $1.0 * $1.1 }
            for i in 0..<3 {
                let t = run.optimizer.tensors[i]
                guard t.progress.steps > 0 else { continue }
                for j in 0..<PooledTerm.dynamic { #expect(t.progress.pooled.values[j].isFinite, "step \(step), statistic \(j)") }
                for j in PooledTerm.agreement..<PooledTerm.density { #expect((-1...1).contains(t.progress.pooled.values[j])) }
                let rule = run.optimizer.rule, place = LayerPosition(tensors: 3, isFirst: i < 2, isLast: i == 2)
                var time = rule.pooledTime(t.progress.steps, totalSteps: 0)
                let logs = rule.pooledLogs(run.optimizer.tensors + i, place, &time)
                #expect(range(PooledTerm.statistics).contains(logs.step) && range(PooledTerm.statistics + 1).contains(logs.decay))
                let size = t.progress.stepSize
                let n = ScalarMath.log(size / a.nominalStepsize)
                #expect(n >= range(PooledTerm.statistics).lowerBound - 1e-9 && n <= range(PooledTerm.statistics).upperBound + 1e-9)
                sizes.insert(size)
                for (old, new) in zip(before[i], run.parameters(i)) {
                    #expect(abs(new - old) <= Float(size * most * 1.001) + 0.1001 * abs(old) + 1e-7, "step \(step), tensor \(i)")
                }
            }
        }
        // Where they are not driven from one end of their range to the other, step sizes follow the statistics.
        if spread < 1 { #expect(sizes.count > 3) }
    }

    @Test(arguments: [0, 30])
    func `without a direction the learned decay takes nothing, however large it is`(_ total: Int64) throws {
        var (a, theta) = Self.weights(5)
        for i in 0..<(3 * PooledTerm.count) { theta[a.statisticsDecayOffset + i] = i == PooledTerm.bias ? 60 : 0 }
        theta[a.statisticsRangesOffset + 2 * Self.ranges - 1] = 80
        for i in 0..<(2 * Architecture.directionTerms) { theta[a.directionOffset + i] = 0 }
        try run((a, theta), { Float($3 * ($0 == 4 ? 0 : 1)) }) { run, step, before in
            if step == 0 { try run.setTotalSteps(total) }
            for i in 0..<3 {
                for (old, new) in zip(before[i], run.parameters(i)) { #expect(abs(new - old) <= 1e-6 * abs(old), "step \(step)") }
            }
        }
    }

    @Test(arguments: [1e2, 1e3, 1e4])
    func `parameters that are large beside their steps are not pulled to 0`(_ offset: Double) {
        var (a, theta) = Self.weights(5)
        for i in 0..<(3 * PooledTerm.count) { theta[a.statisticsDecayOffset + i] = i == PooledTerm.bias ? 60 : 0 }
        theta[a.statisticsRangesOffset + 2 * Self.ranges - 1] = 80
        let rule = ReferencePooled(architecture: a, theta: theta)
        var state = ReferencePooled.State(shape: [8, 8]), p = noise(64, seed: 6).map { offset + 0.1 * $0 }
        for step in 0..<500 {
            rule.step(parameters: &p, gradient: p.map { $0 - offset - 1 }, state: &state)
            #expect(p.allSatisfy { abs($0 - offset - 1) < 3 }, "step \(step)")
        }
    }

    @Test(arguments: Wild.allCases, [1e-4, 3e-4])
    func `the guard holds in every step, the first included`(_ wild: Wild, _ ratio: Double) throws {
        var limited = false
        try run(Self.weights(7), ratio: ratio, { Float($3 * wild.size($0, $2)) }) { run, step, before in
            for i in 0..<3 {
                let s = try run.optimizer.statistics(i)
                #expect(s.updateRMS <= 1.0001 * ratio * max(s.parameterRMS, 1e-3), "step \(step), tensor \(i)")
                limited = limited || s.updatesLimited > 0
            }
        }
        #expect(limited)
    }

    @Test(arguments: [Float.nan, .infinity, -1e9, 3e38])
    func `a parameter that is not finite, or a mask, touches no other`(_ value: Float) throws {
        let weights = Self.weights(9)
        var ends: [[Float]] = []
        for strange in [0.25, value] {
            let run = try FusedRun(weights.architecture, theta: weights.theta)
            var initial = noise(96, seed: 1)
            initial[40] = Double(strange)
            try run.add("t", shape: [8, 12], initial: initial)
            for step in 0..<20 {
                var gradient = noise(96, seed: UInt64(step) + 2).map { Float($0) }
                gradient[40] = 0
                run.setGradient(0, gradient)
                try run.step()
            }
            ends.append(run.parameters(0))
        }
        for i in 0..<96 where i != 40 { #expect(ends[0][i] == ends[1][i], "element \(i)") }
    }
}

extension Double {
    fileprivate static func pow(_ base: Double, _ exponent: Int) -> Double { (0..<exponent).reduce(1) { x, _ in x * base } }
}
