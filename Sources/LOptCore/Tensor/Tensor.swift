import CLOptShims

/// One tensor of an optimizer. Plain memory; the optimizer owns it.
struct Tensor {
    let identity: TensorIdentity
    /// Another optimizer has it: here are its name and shape, no elements.
    let isElsewhere: Bool
    let geometry: Geometry
    var memory: TensorMemory
    var options = TensorOptions()
    var progress = TensorProgress()
    var report = TensorReport()
    var place = TensorPlace()
    var step = StepScratch()

    /// At t = 0. `rows`: of a shared tensor so many elements are here.
    init(
        name: UnsafeRawBufferPointer, shape: UnsafeBufferPointer<Int64>, parameter: UnsafeMutablePointer<Float>?,
        gradient: UnsafePointer<Float>?, rule: lopt_rule, architecture: Architecture, isAveraged: Bool, isElsewhere: Bool, types: ElementTypes,
        momentumType: ElementType, rows: Int? = nil, allocator: Allocator
    ) throws(LOptError) {
        var elements = isElsewhere ? 0 : try Geometry.elements(shape)
        if let rows { elements = rows }
        geometry = architecture.kind == .pooled || isElsewhere ? Geometry(flat: elements) : try Geometry(shape: shape)
        self.isElsewhere = isElsewhere
        memory = try TensorMemory(
            geometry, nameBytes: name.count, rule: rule, architecture, isAveraged: isAveraged, types, momentumType: momentumType,
            isShared: rows != nil, allocator)
        memory.bind(parameter, gradient)
        identity = TensorIdentity(copying: name, to: memory.name, shape: shape)
    }

    /// Steps take no notice of it.
    @inline(__always)
    var isPassedOver: Bool { options.isFrozen || isElsewhere }

    /// One piece of work does a whole step of it.
    @inline(__always)
    var isSmall: Bool { geometry.chunks <= 1 }

    /// Bits of the largest magnitude of the gradient, as the gradient pass found it; of the rows that are here, and of all.
    var largestGradient: UInt32 { memory.shared?.pointee.largest ?? ownLargestGradient }

    var ownLargestGradient: UInt32 {
        var largest: Int32 = 0
        for chunk in 0..<geometry.sumChunks { largest = max(largest, memory.largest[chunk]) }
        return UInt32(bitPattern: largest)
    }

    /// Bytes of accumulators: momenta, second moment, row and column or diagonal ones, and the average.
    func stateBytes(momenta: Int) -> Int {
        let own = geometry.isFactored || memory.view.diagonal == nil ? 1 + momenta : 1 + 2 * momenta
        let perElement = own + (memory.average == nil ? 0 : 1) + (memory.types.parameter.isNarrow ? 1 : 0)
        let saved = (4 - memory.momentumType.bytes) * momenta * geometry.count
        return 4 * (geometry.count * perElement + momenta * (geometry.leadCount + geometry.trailCount)) - saved
    }
}

/// What the caller knows a tensor by.
struct TensorIdentity {
    let name: UnsafeRawBufferPointer
    private(set) var shape = SIMD8<Int64>(repeating: 0)
    let rank: Int
    /// The rank that counts for the extensions: [64, 1] is a vector.
    private(set) var extentsAboveOne = 0
    /// Logarithms of the number of elements, of the least extent above 1, 0 if there is none, and of the elements over the greatest extent:
    /// of a matrix the narrower side. Every step of kind pooled reads them.
    let logElements, logLeastExtent, logWidth: Double

    init(copying name: UnsafeRawBufferPointer, to memory: UnsafeMutablePointer<UInt8>, shape extents: UnsafeBufferPointer<Int64>) {
        for i in 0..<name.count { memory[i] = name[i] }
        self.name = UnsafeRawBufferPointer(start: memory, count: name.count)
        rank = extents.count
        var elements = 1.0, least = Double.infinity, greatest = 1.0
        for axis in 0..<rank {
            shape[axis] = extents[axis]
            elements *= Double(extents[axis])
            greatest = max(greatest, Double(extents[axis]))
            guard extents[axis] > 1 else { continue }
            extentsAboveOne += 1
            least = min(least, Double(extents[axis]))
        }
        logElements = ScalarMath.log(max(elements, 1))
        logLeastExtent = extentsAboveOne > 0 ? ScalarMath.log(least) : 0
        logWidth = ScalarMath.log(max(elements, 1) / greatest)
    }
}

/// What a tensor's steps leave for the next ones, beside the accumulators. Checkpoints hold it.
struct TensorProgress {
    /// Steps taken; the t of the rule is this number before the step.
    var steps: Int64 = 0
    var stepsSkipped: Int64 = 0
    /// Gradient elements seen that were not finite.
    var nonfinite: Int64 = 0
    /// Of the last step that was not idle: nominal_stepsize exp(n), without the caller's scales. 0 before the first.
    var stepSize = 0.0
    /// Of weights of kind pooled.
    var pooled = PooledState()
    /// Steps that the average has taken in.
    var averaged: Int64 = 0
}

/// What `lopt_stats` tells of a tensor beside its progress; no step depends on it.
struct TensorReport {
    /// Of the last step.
    var sums = StepSums()
    /// Which of the optimizer's steps it was, `Optimizer.lastStep`; 0 before the first.
    var lastStep = 0
    /// In it the tensor was idle.
    var wasIdle = false
    /// Steps in which the gradient was 0 everywhere and the tensor rested.
    var stepsIdle: Int64 = 0
    /// Updates that the guard made smaller, see `UpdateLimit`.
    var updatesLimited: Int64 = 0
    /// Up to this row the shards read last have given the tensor.
    var restoredRows = 0
}

/// Where a tensor's parameter is, and where the tensor is in the orders of names and of memory.
struct TensorPlace {
    /// `Optimizer.memoryChanges` when this tensor's memory was last found good for a step.
    var boundAt = 0
    var span = Span.none
    /// While the tensor is bound to other memory: that, its number among those that are bound, and, for a step that may fail, what
    /// there was before.
    var next = Binding(0, parameter: nil, gradient: nil), previous = Binding(0, parameter: nil, gradient: nil)
    var number = 0
    /// For `OrderedIndex`.
    var links = SIMD4<Int32>(repeating: -1)
}

/// What is known of a tensor within one step.
struct StepScratch {
    /// The tensor is frozen, or its gradient was not finite.
    var isSkipped = false
    /// The gradient is 0 everywhere, and the weights have the tensor rest then.
    var isIdle = false
    /// What the extensions add to the nominal log-step.
    var logStepShift = 0.0
    /// Means of heads, once a pass has measured them.
    var magnitude = 0.0, regularization = 0.0
    /// What the guard multiplies the update by; 0: the step leaves the tensor as it is.
    var limit = 1.0
    /// What the pass at hand does.
    var apply = lopt_apply()
    /// The same with weights of kind pooled.
    var pooled = lopt_pooled()
    /// The pass at hand goes over the memory; one before it has taken in the gradient.
    var isPassNeeded = false, hasTakenIn = false
    /// The sum of g^2, with weights of kind pooled.
    var gradientSquares = 0.0
}

/// Sums of squares over the elements of a tensor in a step.
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
