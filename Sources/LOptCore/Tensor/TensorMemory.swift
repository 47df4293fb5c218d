import CLOptShims

/// The memory of a tensor's own: one allocation with the accumulators, what a step needs beside them, and the name.
struct TensorMemory {
    /// As the kernels see the tensor, the caller's memory included.
    var view: lopt_tensor_view
    /// Sums of the accumulator pass, LOPT_SUMS_MOMENTS of them for each chunk; before it, for rank < 2, of g^2 of
    /// each chunk of the gradient pass. From the end of the pass on the first chunk's are those of the tensor.
    let momentSums: UnsafeMutablePointer<Double>
    /// Sums of the last network or element pass, LOPT_SUMS_UPDATE of them for each chunk.
    let stepSums: UnsafeMutablePointer<Double>
    /// For each k: the means of lead^2, rsqrt(lead)^2, trail^2, rsqrt(trail)^2.
    let factorMeans: UnsafeMutablePointer<Double>
    /// The largest |g| of each chunk of the gradient pass, as bits.
    let largest: UnsafeMutablePointer<Int32>
    /// Of a tensor of which other rows are elsewhere, to be initialised; and `SharedRows.slots` numbers for each chunk, then the sums of all.
    let shared: UnsafeMutablePointer<SharedRows>?
    let chunkSums: UnsafeMutablePointer<Double>
    /// Of the parameters, if it was asked for.
    let average: UnsafeMutablePointer<Float>?
    /// What the caller's memory holds, and where it is; without a copy in f32 the view has it too.
    let types: ElementTypes
    /// What the view's momenta are: f32, or bf16 side by side.
    let momentumType: ElementType
    private(set) var callerParameter: UnsafeMutablePointer<Float>?
    private(set) var callerGradient: UnsafePointer<Float>?
    /// Copies in f32 of what is of another type, see Elements.swift.
    let master, gradientStaging: UnsafeMutablePointer<Float>?
    /// Room for the name.
    let name: UnsafeMutablePointer<UInt8>

    private let floats: UnsafeMutablePointer<Float>
    private let count: Int

    /// All zero.
    init(
        _ g: Geometry, nameBytes: Int, rule: lopt_rule, _ architecture: Architecture, isAveraged: Bool, _ types: ElementTypes,
        momentumType: ElementType, isShared: Bool, _ allocator: Allocator
    ) throws(LOptError) {
        let layout = Layout(
            g, nameBytes: nameBytes, rule, architecture, isAveraged: isAveraged, types, momentumType: momentumType, isShared: isShared)
        count = layout.count
        let floats = try allocator.allocateZeroed(Float.self, layout.count)
        self.floats = floats
        view = layout.view(g, floats)
        func part<T>(_ offset: Int, _ type: T.Type) -> UnsafeMutablePointer<T> {
            UnsafeMutableRawPointer(floats + offset).assumingMemoryBound(to: type)
        }
        momentSums = part(layout.momentSums, Double.self)
        stepSums = part(layout.stepSums, Double.self)
        factorMeans = part(layout.factorMeans, Double.self)
        largest = part(layout.largest, Int32.self)
        chunkSums = part(layout.chunkSums, Double.self)
        shared = isShared ? part(layout.shared, SharedRows.self) : nil
        average = isAveraged ? floats + layout.average : nil
        self.types = types
        self.momentumType = momentumType
        master = types.parameter == .f32 ? nil : floats + layout.master
        gradientStaging = types.gradient == .f32 ? nil : floats + layout.gradient
        name = part(layout.name, UInt8.self)
    }

    mutating func bind(_ parameter: UnsafeMutablePointer<Float>?, _ gradient: UnsafePointer<Float>?) {
        (callerParameter, callerGradient) = (parameter, gradient)
        view.parameter = master ?? parameter
        view.gradient = gradientStaging.map { UnsafePointer($0) } ?? gradient
    }

    func free(_ allocator: Allocator) { allocator.deallocate(floats, count) }

    var bytes: Int { Allocator.bytes(Float.self, count) }
}

/// Where the parts lie, in floats. Each starts on a cache line and is followed by room for a vector load that reaches past its end.
private struct Layout {
    private(set) var count = 0
    private let planeStride: Int
    private let hasDiagonal: Bool
    private let secondMoment, momentum, diagonal, lead, trail, leadFactor, trailFactor, leadPartial, trailPartial: Int
    private let elementWeights, leadWeights, trailWeights, bias, featureScale: Int
    let momentSums, stepSums, factorMeans, largest, shared, chunkSums, average, master, gradient, name: Int

    init(
        _ g: Geometry, nameBytes: Int, _ rule: lopt_rule, _ architecture: Architecture, isAveraged: Bool, _ types: ElementTypes,
        momentumType: ElementType, isShared: Bool
    ) {
        let isPooled = architecture.kind == .pooled, momenta = Int(rule.momenta)
        let hidden = isPooled ? 0 : Int(rule.hidden), features = isPooled ? 0 : architecture.features
        hasDiagonal = !g.isFactored && !isPooled
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
        momentum = take((momenta * stride * momentumType.bytes + 3) / 4)
        diagonal = take(hasDiagonal ? momenta * stride : 0)
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
        momentSums = take(2 * g.chunks * Int(LOPT_SUMS_MOMENTS))
        stepSums = take(2 * max(g.chunks, g.flatChunks) * Int(LOPT_SUMS_UPDATE))
        factorMeans = take(2 * 4 * momenta)
        largest = take(g.sumChunks)
        shared = isShared ? take((MemoryLayout<SharedRows>.size + 3) / 4) : next
        chunkSums = isShared ? take(2 * (g.flatChunks * SharedRows.slots + Int(LOPT_SUMS_POOLED))) : next
        average = take(isAveraged ? g.count : 0)
        master = take(types.parameter == .f32 ? 0 : g.count)
        gradient = take(types.gradient == .f32 ? 0 : g.count)
        name = take((nameBytes + 3) / 4)
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
        if hasDiagonal { v.diagonal = floats + diagonal }
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
