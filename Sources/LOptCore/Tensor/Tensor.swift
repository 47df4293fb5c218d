import CLOptShims

/// What a caller may set for one tensor.
public struct TensorOptions: Sendable {
    /// Multiplies the optimizer's learning-rate scale.
    public var learningRateScale = 1.0
    /// Multiplies the optimizer's weight decay.
    public var weightDecayScale = 1.0
    /// Steps pass the tensor over.
    public var isFrozen = false

    public init() {}

    /// With the optimizer's own scale: what multiplies the tensor's step. Products count as at most `Optimizer.largestScale`.
    func learningRate(_ optimizersScale: Double) -> Double { min(optimizersScale * learningRateScale, Optimizer.largestScale) }
    /// With the optimizer's own weight decay, likewise.
    func weightDecay(_ optimizersDecay: Double) -> Double { min(optimizersDecay * weightDecayScale, Optimizer.largestScale) }
}

/// One tensor of an optimizer: the caller's memory, the state, and what its steps need. Plain memory; the optimizer owns it.
struct Tensor {
    var name: UnsafeMutablePointer<UInt8>
    var nameCount: Int
    var shape: SIMD8<Int64>
    var rank: Int
    var geometry: Geometry
    var view: lopt_tensor_view
    var options = TensorOptions()

    /// Steps taken; the t of the rule is this number before the step.
    var steps: Int64 = 0
    var stepsSkipped: Int64 = 0
    var nonfinite: Int64 = 0
    /// Steps in which the gradient was 0 everywhere and the tensor rested.
    var stepsIdle: Int64 = 0
    /// Updates that the guard made smaller, see `UpdateLimit`.
    var updatesLimited: Int64 = 0
    /// Of the last step, for `lopt_stats`: sums of squares over the elements.
    var last = StepSums()
    /// Which of the optimizer's steps it was, `Optimizer.lastStep`; 0 before the first.
    var lastStep = 0
    /// In it the tensor was idle.
    var wasIdle = false

    /// Of the last step that was not idle: nominal_stepsize exp(n), without the caller's scales. 0 before the first.
    var stepSize = 0.0

    /// `Optimizer.memoryChanges` when this tensor's memory was last found good for a step.
    var boundAt = 0
    /// Where the parameter is.
    var span = Span.none
    /// In the orders of names and of memory, for `OrderedIndex`.
    var links = SIMD4<Int32>(repeating: -1)

    /// This step: the tensor is frozen, or its gradient was not finite.
    var isSkipped = false
    /// This step: the gradient is 0 everywhere, and the weights have the tensor rest then.
    var isIdle = false
    var apply = lopt_apply()
    /// This step: what the guard multiplies the update by.
    var limit = UpdateLimit.none

    // MARK: Memory

    /// All floats of the tensor in one allocation.
    var floats: UnsafeMutablePointer<Float>
    var floatCount: Int
    /// Sums of the chunks and means, in one allocation.
    var doubles: UnsafeMutablePointer<Double>
    var doubleCount: Int
    /// The largest |g| of each chunk of sweep A, as bits.
    var largest: UnsafeMutablePointer<Int32>

    var sumsB: UnsafeMutablePointer<Double> { doubles }
    var sumsC: UnsafeMutablePointer<Double> { doubles + geometry.chunks * Int(LOPT_SUMS_B) }
    var sumsD: UnsafeMutablePointer<Double> { sumsC + geometry.chunks * Int(LOPT_SUMS_C) }
    /// For each k: the means of lead^2, rsqrt(lead)^2, trail^2, rsqrt(trail)^2.
    var means: UnsafeMutablePointer<Double> { sumsD + geometry.flatChunks * Int(LOPT_SUMS_C) }

    /// The rank that counts for the extensions: [64, 1] is a vector.
    var extentsAboveOne: Int {
        var number = 0
        for axis in 0..<rank where shape[axis] > 1 { number += 1 }
        return number
    }

    /// One piece of work does a whole step of it.
    var isSmall: Bool { geometry.chunks <= 1 }
}

/// Sums of squares over the elements of a tensor in its last step.
struct StepSums {
    var gradient = 0.0
    var parameter = 0.0
    var blackbox = 0.0
    var nominal = 0.0
    /// Of blackbox times nominal.
    var cross = 0.0
    /// Their number.
    var nonfiniteParameters = 0.0

    /// Of the change of the parameters, decay not counted.
    var update: Double { blackbox + nominal + 2 * cross }

    mutating func dropUpdate() { (blackbox, nominal, cross) = (0, 0, 0) }

    static func + (a: StepSums, b: StepSums) -> StepSums {
        StepSums(
            gradient: a.gradient + b.gradient, parameter: a.parameter + b.parameter, blackbox: a.blackbox + b.blackbox,
            nominal: a.nominal + b.nominal, cross: a.cross + b.cross,
            nonfiniteParameters: a.nonfiniteParameters + b.nonfiniteParameters)
    }
}

extension Tensor {
    /// Allocates the state of a tensor, zero: t = 0.
    init(
        name: UnsafeRawBufferPointer, shape: UnsafeBufferPointer<Int64>, parameter: UnsafeMutablePointer<Float>?,
        gradient: UnsafePointer<Float>?, rule: lopt_rule, features: Int, allocator: Allocator
    ) throws(LOptError) {
        let geometry = try Geometry(shape: shape)
        let layout = Layout(geometry, momenta: Int(rule.momenta), hidden: Int(rule.hidden), features: features)
        let doubles = geometry.chunks * Int(LOPT_SUMS_B + LOPT_SUMS_C) + geometry.flatChunks * Int(LOPT_SUMS_C)
            + 4 * Int(rule.momenta)
        self.geometry = geometry
        nameCount = name.count
        rank = shape.count
        self.shape = SIMD8(repeating: 0)
        for axis in 0..<shape.count { self.shape[axis] = shape[axis] }
        floatCount = layout.count
        doubleCount = doubles

        self.name = try allocator.allocate(UInt8.self, name.count)
        do {
            floats = try allocator.allocateZeroed(Float.self, layout.count)
        } catch {
            allocator.deallocate(self.name, name.count)
            throw error
        }
        do {
            self.doubles = try allocator.allocateZeroed(Double.self, doubles)
        } catch {
            allocator.deallocate(floats, layout.count)
            allocator.deallocate(self.name, name.count)
            throw error
        }
        do {
            largest = try allocator.allocateZeroed(Int32.self, geometry.sumChunks)
        } catch {
            allocator.deallocate(self.doubles, doubles)
            allocator.deallocate(floats, layout.count)
            allocator.deallocate(self.name, name.count)
            throw error
        }
        for i in 0..<name.count { self.name[i] = name[i] }
        view = layout.view(geometry, floats)
        view.parameter = parameter
        view.gradient = gradient
    }

    func free(_ allocator: Allocator) {
        allocator.deallocate(name, nameCount)
        allocator.deallocate(floats, floatCount)
        allocator.deallocate(doubles, doubleCount)
        allocator.deallocate(largest, geometry.sumChunks)
    }

    /// Bytes of accumulators: momenta, second moment, and row and column or diagonal ones.
    func stateBytes(momenta: Int) -> Int {
        let perElement = geometry.isFactored ? 1 + momenta : 1 + 2 * momenta
        return 4 * (geometry.count * perElement + momenta * (geometry.leadCount + geometry.trailCount))
    }

    var memoryBytes: Int {
        Allocator.bytes(UInt8.self, nameCount) + Allocator.bytes(Float.self, floatCount)
            + Allocator.bytes(Double.self, doubleCount) + Allocator.bytes(Int32.self, geometry.sumChunks)
    }

    var nameBytes: UnsafeRawBufferPointer { UnsafeRawBufferPointer(start: name, count: nameCount) }
}

/// Where the arrays of a tensor lie in its floats. Each starts on a cache line and is followed by room for a vector load
/// that reaches past its end.
private struct Layout {
    private(set) var count = 0
    private let planeStride: Int
    private let secondMoment, momentum, diagonal, lead, trail, leadFactor, trailFactor, leadPartial, trailPartial: Int
    private let elementWeights, leadWeights, trailWeights, bias, featureScale: Int

    init(_ g: Geometry, momenta: Int, hidden: Int, features: Int) {
        // Planes a multiple of 4096 bytes apart would compete for the same sets of the first-level cache.
        let stride = Layout.rounded(g.count) + (g.count >= 1024 ? 208 : 0)
        planeStride = stride
        var next = 0
        func take(_ floats: Int) -> Int {
            let start = next
            next += Layout.rounded(floats)
            return start
        }
        secondMoment = take(stride)
        momentum = take(momenta * stride)
        diagonal = take(g.isFactored ? 0 : momenta * stride)
        lead = take(momenta * g.leadCount)
        trail = take(momenta * g.trailCount)
        leadFactor = take(momenta * g.leadCount)
        trailFactor = take(momenta * g.trailCount)
        leadPartial = take(g.sums.columnChunks * g.leadCount)
        trailPartial = take(g.sums.rowChunks * g.trailCount)
        elementWeights = take((4 + 6 * momenta) * hidden)
        leadWeights = take(2 * momenta * hidden)
        trailWeights = take(2 * momenta * hidden)
        bias = take(hidden)
        featureScale = take(features)
        count = next
    }

    /// At least LOPT_PADDING floats more, a multiple of 16.
    private static func rounded(_ floats: Int) -> Int { (floats + 31) / 16 * 16 }

    func view(_ g: Geometry, _ floats: UnsafeMutablePointer<Float>) -> lopt_tensor_view {
        var v = lopt_tensor_view()
        v.count = Int64(g.count)
        v.factored = g.isFactored ? 1 : 0
        v.second_moment = floats + secondMoment
        v.momentum = floats + momentum
        v.diagonal = floats + diagonal
        v.plane_stride = Int64(planeStride)
        v.planes = Int64(g.planes)
        v.rows = Int64(g.rows)
        v.middle = Int64(g.middle)
        v.run = Int64(g.run)
        v.inner = Int64(g.inner)
        v.columns = Int64(g.columns)
        v.lead_count = Int64(g.leadCount)
        v.trail_count = Int64(g.trailCount)
        v.lead_is_row = g.leadIsRow ? 1 : 0
        v.short_runs = g.isFactored && g.hasShortRuns ? 1 : 0
        v.row_chunks = Int64(g.sums.rowChunks)
        v.column_chunks = Int64(g.sums.columnChunks)
        v.lead = floats + lead
        v.trail = floats + trail
        v.lead_factor = floats + leadFactor
        v.trail_factor = floats + trailFactor
        v.lead_partial = floats + leadPartial
        v.trail_partial = floats + trailPartial
        v.element_weights = UnsafePointer(floats + elementWeights)
        v.lead_weights = UnsafePointer(floats + leadWeights)
        v.trail_weights = UnsafePointer(floats + trailWeights)
        v.bias = UnsafePointer(floats + bias)
        v.feature_scale = UnsafePointer(floats + featureScale)
        return v
    }
}
