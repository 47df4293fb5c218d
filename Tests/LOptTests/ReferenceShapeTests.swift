import Testing

@testable import LOptCore
import LOptReference

/// Shapes: the step of an element depends on its place along the axes, not on how the tensor is stored.
@Suite struct ReferenceShapeTests {
    /// A STAR with everything on and meta-parameters without structure.
    private static let optimizer: ReferenceOptimizer<Double> = {
        var architecture = Architecture()
        architecture.stepMult = 0.1
        architecture.nominalStepsize = 0.01
        architecture.nominalController = true
        architecture.regularizationController = true
        architecture.weightDecay = 0.01
        architecture.aggregateNominalMagnitude = true
        architecture.normalizeBlackbox = true
        architecture.expMult = [0.1, 0.2, 0.3]
        var theta = noise(architecture.metaParameters, seed: 1)
        for i in 0..<architecture.weightOffset(0) { theta[i] *= 0.02 }
        return ReferenceOptimizer(architecture: architecture, theta: theta)
    }()

    @Test func `extents of one change nothing`() {
        let plain = trajectory(shape: [3, 5], order: Array(0..<15))
        #expect(trajectory(shape: [1, 3, 1, 5], order: Array(0..<15)) == plain)
        #expect(trajectory(shape: [1, 1, 3, 1, 1, 5, 1, 1], order: Array(0..<15)) == plain)
    }

    /// For every order of the axes of a tensor without ties: the same numbers at the permuted places.
    @Test(arguments: [[2, 3, 4], [3, 1, 4], [2, 3, 4, 5], [7, 2], [2, 3, 1, 1, 4, 1, 1, 1]])
    func `the order of the axes changes nothing`(shape: [Int]) {
        let count = shape.reduce(1, *)
        let expected = trajectory(shape: shape, order: Array(0..<count))
        for shift in 1..<shape.count {
            let axes = shape.indices.map { ($0 + shift) % shape.count }
            let order = permutation(of: shape, axes: axes)
            let permuted = trajectory(shape: axes.map { shape[$0] }, order: order)
            for (place, i) in order.enumerated() {
                #expect(abs(permuted[place] - expected[i]) < 1e-12, "axes \(axes), element \(i)")
            }
        }
    }

    @Test(arguments: [[0], [0, 3], [3, 0], [0, 0], [2, 0, 4], [1, 0, 0, 5]])
    func `tensors without elements take steps`(shape: [Int]) {
        var state = Self.optimizer.makeState(shape: shape)
        var p: [Double] = []
        for _ in 0..<3 { Self.optimizer.step(parameters: &p, gradient: [], state: &state) }
        #expect(state.t == 3)
        #expect(state.momentum == [[], [], []])
        #expect((state.row + state.column).allSatisfy { $0.allSatisfy { $0 == 0 } })
    }

    @Test func `rank zero is a tensor of one element`() {
        #expect(trajectory(shape: [], order: [0]) == trajectory(shape: [1], order: [0]))
    }

    @Test func `a scale of zero moves only the state`() {
        let (start, g) = (noise(6, seed: 2), noise(6, seed: 3))
        var (scaled, plain) = (start, start)
        var scaledState = Self.optimizer.makeState(shape: [2, 3])
        var plainState = scaledState
        Self.optimizer.step(
            parameters: &scaled, gradient: g, state: &scaledState, learningRateScale: 0, weightDecay: 0.5)
        Self.optimizer.step(parameters: &plain, gradient: g, state: &plainState)
        #expect(scaled == start)
        #expect(plain != start)
        #expect(scaledState.momentum == plainState.momentum && scaledState.row == plainState.row)
        #expect(scaledState.t == 1)
    }

    /// p <- p + s * (the rule's own step - wd p), wd p no more than p.
    @Test(arguments: [0.5, 100])
    func `the caller's scale and weight decay per step are their formulas`(decay: Double) {
        let (start, g) = (noise(6, seed: 2), noise(6, seed: 3))
        var (scaled, plain) = (start, start)
        var scaledState = Self.optimizer.makeState(shape: [2, 3])
        var plainState = scaledState
        Self.optimizer.step(
            parameters: &scaled, gradient: g, state: &scaledState, learningRateScale: 0.25, weightDecay: decay,
            weightDecayForm: .perStep)
        Self.optimizer.step(parameters: &plain, gradient: g, state: &plainState)
        for i in start.indices {
            let expected = start[i] + 0.25 * (plain[i] - start[i]) - min(0.25 * decay, 1) * start[i]
            #expect(abs(scaled[i] - expected) < 1e-14)
        }
    }

    /// p <- (p - s u)(1 - s wd step_size) - s w, for elements of one step size; at least 0 is kept.
    @Test(arguments: [0.5, 1e9])
    func `the caller's weight decay by step size is its formula`(decay: Double) {
        let (start, g) = (noise(6, seed: 2), noise(6, seed: 3))
        var architecture = Self.optimizer.architecture
        architecture.aggregateNominalMagnitude = true
        architecture.stepMult = 0
        architecture.weightDecay = 0
        let optimizer = ReferenceOptimizer(architecture: architecture, theta: Self.optimizer.theta)
        var (decayed, plain) = (start, start)
        var decayedState = optimizer.makeState(shape: [2, 3])
        var plainState = decayedState
        optimizer.step(parameters: &decayed, gradient: g, state: &decayedState, learningRateScale: 0.25, weightDecay: decay)
        optimizer.step(parameters: &plain, gradient: g, state: &plainState, learningRateScale: 0.25)
        #expect(plainState.stepSize > 0 && plainState.stepSize == decayedState.stepSize)
        for i in start.indices {
            let expected = plain[i] - min(0.25 * decay * plainState.stepSize, 1) * start[i]
            #expect(abs(decayed[i] - expected) < 1e-14)
        }
    }

    /// The parameters after five steps; `order[place]` says which element of the unpermuted tensor lies at a place.
    private func trajectory(shape: [Int], order: [Int]) -> [Double] {
        var state = Self.optimizer.makeState(shape: shape)
        let start = noise(order.count, seed: 4)
        var p = order.map { start[$0] }
        for step in 0..<5 {
            let g = noise(order.count, seed: 5 + UInt64(step))
            Self.optimizer.step(parameters: &p, gradient: order.map { g[$0] }, state: &state)
        }
        return p
    }

    /// Of every place of the permuted tensor, row-major, the place in the tensor of shape `shape`.
    private func permutation(of shape: [Int], axes: [Int]) -> [Int] {
        let strides = shape.indices.map { shape[($0 + 1)...].reduce(1, *) }
        return (0..<shape.reduce(1, *)).map { place in
            var (rest, index) = (place, 0)
            for axis in axes.reversed() {
                index += rest % shape[axis] * strides[axis]
                rest /= shape[axis]
            }
            return index
        }
    }
}

/// Numbers in -1 ..< 1 without structure (splitmix64).
func noise(_ count: Int, seed: UInt64) -> [Double] {
    var state = seed &* 0x9E37_79B9_7F4A_7C15
    return (0..<count).map { _ in
        state &+= 0x9E37_79B9_7F4A_7C15
        var z = (state ^ (state >> 30)) &* 0xBF58_476D_1CE4_E5B9
        z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
        return Double((z ^ (z >> 31)) >> 11) / Double(1 << 52) - 1
    }
}
