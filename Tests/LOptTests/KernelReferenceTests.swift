import Testing

@testable import LOptCore
import LOptReference

/// The fused kernels against the scalar reference in f64, where the goldens do not reach: other widths, depths and numbers
/// of momenta, tensors of several chunks, all combinations of flags, the extensions, the caller's scales.
@Suite struct KernelReferenceTests {
    /// Weights at random, of a size that lets the network neither die nor explode.
    static func theta(_ a: Architecture, seed: UInt64) -> [Double] {
        let noise = noise(a.metaParameters, seed: seed)
        return (0..<a.metaParameters).map { i in
            let size = i < a.weightOffset(0) ? 0.02 : 0.5 / Double(max(a.hiddenSize, 4)).squareRoot()
            return Double(Float(noise[i] * size))
        }
    }

    /// Steps the reference and the kernels of each instruction set on the same gradients, the fused ones beside `others` idle tensors;
    /// returns the largest difference of an update (`updateDifference`). Each step starts where the first of the kernels are, so that
    /// roundings do not add up and the reference, which is slow, runs once.
    static func compare(
        _ a: Architecture, _ shape: [Int], on sets: [InstructionSet] = [.avx512], threads: Int = 2, steps: Int = 5,
        scale: Double = 1, decay: Double = 0, form: WeightDecayForm = .byStepSize, maxUpdateRatio: Double = 0, seed: UInt64 = 1,
        theta given: [Double]? = nil, others: Int = 0, idle: Range<Int> = 0..<0, strange: Double? = nil
    ) throws -> Double {
        let theta = given ?? theta(a, seed: seed)
        let count = shape.reduce(1, *)
        var initial = noise(count, seed: seed + 1).map { Double(Float($0)) }
        if let strange { initial[count / 2] = strange }
        let runs = try sets.map { isa in
            let run = try FusedRun(a, theta: theta, isa: isa, threads: threads) {
                $0.learningRateScale = scale
                $0.weightDecay = decay
                $0.weightDecayForm = form
                $0.maxUpdateRatio = maxUpdateRatio
            }
            try run.add("tensor", shape: shape, initial: initial)
            for i in 0..<others { try run.add("other \(i)", shape: [3], initial: [0, 0, 0]) }
            return run
        }
        let reference = ReferenceOptimizer<Double>(architecture: a, theta: theta)
        var state = reference.makeState(shape: shape)
        var worst = 0.0
        for step in 0..<steps {
            let size = step == 2 ? 100.0 : 0.1
            let gradient = noise(count, seed: seed + 10 + UInt64(step)).map { idle.contains(step) ? 0 : Float($0 * size) }
            let start = runs[0].parameters(0), before = start.map(Double.init)
            var expected = before
            reference.step(
                parameters: &expected, gradient: gradient.map { Double($0) }, state: &state,
                learningRateScale: scale, weightDecay: decay, weightDecayForm: form, maxUpdateRatio: maxUpdateRatio, tensors: 1 + others)
            for run in runs {
                run.setParameters(0, start)
                run.setGradient(0, gradient)
                try run.step()
                worst = max(worst, updateDifference(run.parameters(0), expected, from: before))
            }
        }
        return worst
    }

    /// STAR as the paper has it, all terms on.
    static var star: Architecture {
        var a = Architecture()
        a.expMult = [0.1, 1, 0.1]
        a.nominalStepsize = 0.01
        a.nominalController = true
        a.regularizationController = true
        a.weightDecay = 1e-3
        a.stepMult = 1e-3
        return a
    }

    /// The same with what decides the passes of a step as the six lowest bits say: aggregates, controllers, no blackbox term.
    static func star(_ bits: Int) -> Architecture {
        var a = star
        a.aggregateMagnitude = bits & 1 != 0
        a.aggregateNominalMagnitude = bits & 2 != 0
        a.aggregateRegularizationMagnitude = bits & 4 != 0
        a.nominalController = bits & 8 == 0
        a.regularizationController = bits & 16 == 0
        if bits & 32 != 0 { a.stepMult = 0 }
        return a
    }

    /// Each is there for a reason: chunks of rows, of planes, of columns; runs too short for a vector, and just too long;
    /// inner extents below, at and above the width of a vector, and above a tile; several middle planes; extents of 1.
    static let shapes: [[Int]] = [
        [], [1], [15], [16], [17], [513], [40_000],
        [300, 300], [2, 9000], [9000, 2], [1000, 10], [10, 1000], [5000, 1], [700, 48], [700, 47], [64, 64],
        [16, 16, 3, 3], [300, 20, 3, 3], [40, 40, 16], [24, 24, 23], [600, 600, 1], [3, 3, 40, 60], [30, 4, 50],
        [20, 20, 20, 20], [5, 7, 3, 6, 4], [2, 2, 2, 2, 2, 2, 2, 2], [1, 1, 1], [1, 40, 1, 30, 1], [12, 11, 6, 6, 6, 6],
        // One chunk of rows that is more than one chunk of elements.
        [9, 4000], [13, 2600], [3000, 11], [1, 11, 3, 1000],
        // Blocks of inner indices in the gradient pass.
        [20, 19, 18, 18],
    ]

    @Test(arguments: shapes)
    func `the kernels follow the reference in every geometry`(_ shape: [Int]) throws {
        // The parameters are written by the element pass, whose chunks are others.
        var aggregated = Self.star
        aggregated.aggregateNominalMagnitude = true
        #expect(try Self.compare(aggregated, shape, steps: 3) <= updateTolerance, "\(shape), nominal magnitude aggregated")
        #expect(try Self.compare(Self.star, shape, on: FusedRun.instructionSets) <= updateTolerance, "\(shape)")
    }

    @Test(arguments: [1, 3, 4, 5, 8, 13, 16, 24, 32, 33, 64])
    func `the kernels follow the reference at every width, depth and number of momenta`(_ width: Int) throws {
        for (depth, momenta) in [(1, 3), (2, 3), (4, 1), (3, 5), (2, 8)] {
            for kind in [Architecture.Kind.star, .smallFC] {
                var a = Self.star
                a.kind = kind
                a.hiddenSize = width
                a.hiddenLayers = depth
                a.momenta = momenta
                a.initialMomentumDecays = [0.9, 0.99, 0.999, 0.5, 0.7, 0.95, 0.97, 0.995]
                a.initialAdafactorDecays = a.initialMomentumDecays
                for lane in momenta..<8 {
                    a.initialMomentumDecays[lane] = 0
                    a.initialAdafactorDecays[lane] = 0
                }
                for shape in [[130], [33, 47], [8, 8, 3, 3], [60, 10]] {
                    let difference = try Self.compare(a, shape, on: FusedRun.instructionSets, steps: 4)
                    #expect(difference <= updateTolerance, "\(kind) depth \(depth), K \(momenta), \(shape)")
                }
            }
        }
    }

    /// They are left out: a row of another feature must not come in their place.
    @Test(arguments: [4, 5, 8, 32])
    func `rows of the first layer that are 0 change nothing`(_ width: Int) throws {
        var a = Self.star
        a.hiddenSize = width
        for round in 0..<8 {
            var theta = Self.theta(a, seed: 1)
            for feature in 0..<a.features where (feature * 5 + round * 3) % 8 < round {
                for unit in 0..<width { theta[a.weightOffset(0) + feature * width + unit] = 0 }
            }
            for shape in [[130], [33, 47]] {
                let difference = try Self.compare(a, shape, on: FusedRun.instructionSets, steps: 3, theta: theta)
                #expect(difference <= updateTolerance, "round \(round), \(shape)")
            }
        }
    }

    @Test(arguments: [257, 300, 512])
    func `networks so wide that OpenBLAS multiplies their matrices follow the reference`(_ width: Int) throws {
        for (depth, momenta) in [(1, 3), (2, 2)] {
            var a = Self.star
            a.hiddenSize = width
            a.hiddenLayers = depth
            a.momenta = momenta
            if momenta == 2 {
                a.initialMomentumDecays[2] = 0
                a.initialAdafactorDecays[2] = 0
            }
            #expect(try !FusedRun(a, theta: Self.theta(a, seed: 1)).optimizer.lacksBLAS, "libopenblas.so.0 was not loaded")
            for shape in [[19], [20, 7], [3, 4, 3], [2, 600]] {
                for aggregates in [false, true] {
                    a.aggregateNominalMagnitude = aggregates
                    #expect(try Self.compare(a, shape, threads: 1, steps: 2) <= updateTolerance, "depth \(depth), \(shape)")
                }
                // The network's direction alone, which the nominal term would cover.
                var blackbox = a
                (blackbox.nominalStepsize, blackbox.weightDecay, blackbox.stepMult) = (0, 0, 0.1)
                #expect(try Self.compare(blackbox, shape, threads: 1, steps: 2) <= updateTolerance, "depth \(depth), \(shape)")
            }
        }
    }

    @Test(arguments: 0..<64)
    func `every combination of aggregates, controllers and terms follows the reference`(_ bits: Int) throws {
        var a = Self.star(bits)
        a.normalizeBlackbox = bits % 3 == 0
        a.selfnormalizeBlackbox = bits % 5 == 0
        let estimators: [Architecture.NominalEstimator] = [.sgd, .sgdm, .aggMo, .adam, .adamAggMo]
        a.nominalEstimator = estimators[bits % 5]
        for shape in [[130], [33, 47], [300, 150]] {
            let difference = try Self.compare(a, shape, steps: 4)
            #expect(difference <= updateTolerance, "\(shape)")
        }
    }

    @Test(arguments: 0..<8)
    func `without nominal term, decay or blackbox the kernels follow the reference`(_ bits: Int) throws {
        var a = Self.star
        if bits & 1 != 0 { a.stepMult = 0 }
        if bits & 2 != 0 { a.nominalStepsize = 0 }
        if bits & 4 != 0 { a.weightDecay = 0 }
        for shape in [[130], [33, 47]] {
            #expect(try Self.compare(a, shape) <= updateTolerance, "\(shape)")
        }
    }

    @Test(arguments: [true, false], 0..<4)
    func `scale, schedule and count of tensors and nominal_epsilon follow the reference`(_ aggregates: Bool, _ bits: Int) throws {
        var a = Self.star
        a.tensorScale = true
        (a.tensorSchedule, a.tensorCount) = (bits & 1 != 0, bits & 2 != 0)
        a.nominalEpsilon = 1e-12
        a.aggregateNominalMagnitude = aggregates
        for controller in [true, false] {
            a.nominalController = controller
            for shape in [[], [130], [33, 47], [300, 300]] {
                #expect(try Self.compare(a, shape, others: 20 * (bits & 2)) <= updateTolerance, "\(shape)")
            }
        }
    }

    @Test(arguments: [0, 0.1, 3], [WeightDecayForm.byStepSize, .perStep])
    func `the caller's learning-rate scale and weight decay follow the reference`(_ scale: Double, _ form: WeightDecayForm) throws {
        for bits in 0..<8 {
            var a = Self.star
            a.aggregateNominalMagnitude = bits & 1 != 0
            a.aggregateMagnitude = bits & 2 != 0
            if bits & 4 != 0 { a.stepMult = 0 }
            for decay in [0.01, 5] {
                #expect(try Self.compare(a, [33, 47], scale: scale, decay: decay, form: form) <= updateTolerance, "\(bits), decay \(decay)")
            }
        }
        var a = Self.star
        a.nominalStepsize = 0
        #expect(try Self.compare(a, [33, 47], scale: scale, decay: 5, form: form) <= updateTolerance)
        a = Self.star.withoutStar
        #expect(try Self.compare(a, [33, 47], scale: scale, decay: 5, form: form) <= updateTolerance)
    }

    @Test(arguments: [true, false])
    func `statistics and log-step are kept to their ranges as in the reference`(_ aggregates: Bool) throws {
        var a = Self.star
        (a.tensorScale, a.tensorSchedule, a.tensorCount, a.tensorRanges) = (true, true, true, true)
        a.aggregateNominalMagnitude = aggregates
        var theta = Self.theta(a, seed: 1)
        for i in 0...a.statistics {
            theta[a.offset(of: .tensorRanges) + i] = -1 + 0.0625 * Double(i)
            theta[a.offset(of: .tensorRanges) + a.statistics + 1 + i] = -0.5 + 0.0625 * Double(i)
        }
        for shape in [[], [130], [33, 47], [1, 130, 1], [300, 300]] {
            #expect(try Self.compare(a, shape, theta: theta, others: 5) <= updateTolerance, "\(shape)")
        }
    }

    @Test(arguments: [1, 3], [WeightDecayForm.byStepSize, .perStep])
    func `idle tensors rest, and the caller's decay of them goes on`(_ threads: Int, _ form: WeightDecayForm) throws {
        for bits in 0..<8 {
            var a = Self.star
            a.skipIdleTensors = true
            (a.aggregateNominalMagnitude, a.aggregateMagnitude) = (bits & 1 != 0, bits & 4 != 0)
            if bits & 2 != 0 { (a.stepMult, a.weightDecay) = (0, 0) }
            // Where each element has a step size of its own, a tensor has none, but for one of a single element.
            for shape in (a.aggregateNominalMagnitude ? [[]] : []) + [[130], [33, 47], [300, 300]] {
                for idle in [0..<2, 1..<4] {
                    let difference = try Self.compare(a, shape, threads: threads, decay: 2, form: form, maxUpdateRatio: 1, idle: idle)
                    #expect(difference <= updateTolerance, "\(shape), idle \(idle)")
                }
            }
        }
    }

    @Test(arguments: [Double.nan, .infinity, -.infinity])
    func `a parameter that is not finite stays alone`(_ value: Double) throws {
        for bits in 0..<8 {
            var a = Self.star
            (a.aggregateNominalMagnitude, a.aggregateMagnitude, a.tensorScale) = (bits & 1 != 0, bits & 2 != 0, bits & 4 != 0)
            for shape in [[130], [33, 47]] {
                #expect(try Self.compare(a, shape, maxUpdateRatio: 1, strange: value) <= updateTolerance, "\(shape)")
            }
        }
    }

    // MARK: Heads that see the step alone

    /// A nominal head that only hidden unit 0 leads to, which reads step features alone.
    private static func constantNominal(_ a: Architecture) -> [Double] {
        var theta = theta(a, seed: 11)
        for i in 0..<a.features { theta[a.weightOffset(0) + i * a.hiddenSize] = 0 }
        for layer in 1..<a.hiddenLayers {
            for i in 1..<a.hiddenSize { theta[a.weightOffset(layer) + i * a.hiddenSize] = 0 }
        }
        for i in 1..<a.hiddenSize { theta[a.weightOffset(a.hiddenLayers) + i * a.outputs + 2] = 0 }
        return theta
    }

    @Test(arguments: [1, 2, 4], [false, true])
    func `a nominal head that sees the step alone needs no network`(_ layers: Int, _ aggregates: Bool) throws {
        var a = Self.star
        (a.hiddenLayers, a.aggregateNominalMagnitude) = (layers, aggregates)
        (a.stepMult, a.regularizationController) = (0, false)
        (a.tensorScale, a.tensorSchedule, a.tensorCount) = (true, true, true)
        let theta = Self.constantNominal(a)
        #expect(StepPlan(a, theta).letters == "A E")
        for shape in [[], [130], [33, 47], [300, 300], [9, 4000]] {
            #expect(try Self.compare(a, shape, theta: theta) <= updateTolerance, "\(shape)")
            #expect(try Self.compare(a, shape, maxUpdateRatio: 1e-3, theta: theta) <= updateTolerance, "\(shape), limited")
        }
        var reads = theta
        reads[a.weightOffset(0) + 5 * a.hiddenSize] = 1e-3
        #expect(StepPlan(a, reads).letters == (aggregates ? "A N' E" : "A N"))
        #expect(try Self.compare(a, [33, 47], theta: reads) <= updateTolerance)
    }

    @Test(arguments: 0..<8)
    func `a nominal head that sees the step alone is a number beside terms that need the network`(_ bits: Int) throws {
        var a = Self.star
        a.aggregateNominalMagnitude = true
        a.aggregateMagnitude = bits & 1 != 0
        a.aggregateRegularizationMagnitude = bits & 2 != 0
        a.regularizationController = bits & 4 != 0
        let theta = Self.constantNominal(a)
        #expect(StepPlan(a, theta).nominal == .known)
        for shape in [[130], [33, 47], [300, 300]] {
            #expect(try Self.compare(a, shape, theta: theta) <= updateTolerance, "\(shape)")
            #expect(try Self.compare(a, shape, maxUpdateRatio: 1e-3, theta: theta) <= updateTolerance, "\(shape), limited")
        }
    }
}
