import CLOptShims

/// What a step does about gradients that are not finite.
public enum NonfinitePolicy: Int32, Sendable {
    case skipStep = 0
    case skipTensor = 1
    case error = 2
}

/// Instruction sets, in order; the raw values are those of `lopt_isa`.
public enum InstructionSet: Int32, Sendable, Comparable {
    case baseline = 1
    case avx2 = 2
    case avx512 = 3

    public static func < (a: InstructionSet, b: InstructionSet) -> Bool { a.rawValue < b.rawValue }

    /// The widest that this processor has.
    public static var available: InstructionSet { InstructionSet(rawValue: lopt_system_isa()) ?? .baseline }
}

/// What a caller's weight decay wd takes off a parameter in a step; the raw values are those of `lopt_weight_decay_form`.
public enum WeightDecayForm: Int32, Sendable {
    /// wd times the tensor's step size times the learning-rate scales, as in AdamW.
    case byStepSize = 0
    /// wd times the learning-rate scales, whatever the step.
    case perStep = 1
}

/// Which tensors a caller's weight decay is for; the raw values are those of `lopt_weight_decay_tensors`.
public enum WeightDecayTensors: Int32, Sendable {
    case all = 0
    /// With two extents above 1 or more.
    case matrices = 1
}

public struct OptimizerOptions {
    /// 0: one per processor this process may use, see lopt_processors.h.
    public var threads = 0
    public var maximumISA = InstructionSet.avx512
    public var nonfinite = NonfinitePolicy.skipStep
    public var learningRateScale = 1.0
    public var weightDecay = 0.0
    public var weightDecayForm = WeightDecayForm.byStepSize
    public var weightDecayTensors = WeightDecayTensors.all
    /// What the rule sees of a gradient is this times what it is.
    public var gradientScale = 1.0
    /// The norm of all gradients of a step together is kept to this; 0: no limit.
    public var maxGradientNorm = 0.0
    /// The RMS of a tensor's update is kept to this times that of the tensor, see `UpdateLimit`; 0: no limit.
    public var maxUpdateRatio = 0.0
    /// Multiplies the weight decay that weights of kind pooled choose.
    public var learnedDecayScale = 1.0
    public var average = ParameterAverage(.none, span: 0)
    /// What momenta are kept in, f32 or, with weights of kind pooled, bf16: see MomentumNoise.swift.
    public var momentumType = ElementType.f32
    /// For weights that know their horizon: the steps the training will take; 0: not known.
    public var totalSteps: Int64 = 0
    public var allocator = Allocator.system
    /// For tensors whose rows several optimizers have between them.
    public var gather: Gather?
    /// The caller's own threads.
    public var parallelFor: ParallelFor?

    public static let mostThreads = 256

    /// Elements from which threads are worth waking: about 0.1 ms of work. Tests set it to 0.
    var leastParallelElements = 2 * Geometry.chunkElements / 3

    public init() {}
}

/// A trained learned optimizer at work: the rule, the tensors and their state.
///
/// Owns all its memory, which comes from one `Allocator` that may fail; a call that throws has changed nothing. One thread
/// at a time.
public struct Optimizer: ~Copyable {
    public let options: OptimizerOptions
    /// Of the weights; a checkpoint of others is refused.
    public private(set) var digest: UInt64
    /// Of the weights without the safeguards that joined after version 0.1.0; checkpoints of that time have it.
    private(set) var digestWithoutSafeguards: UInt64
    public let isa: InstructionSet
    public internal(set) var learningRateScale: Double
    public internal(set) var weightDecay: Double
    public internal(set) var weightDecayForm: WeightDecayForm
    /// Steps the training will take, for weights that know their horizon; 0: not known.
    public internal(set) var totalSteps: Int64
    public internal(set) var weightDecayTensors: WeightDecayTensors
    public internal(set) var gradientScale: Double
    private(set) var rule: Rule
    let kernels: lopt_kernels
    var pool: ThreadPool
    let scratch: UnsafeMutablePointer<Float>
    let scratchStride: Int
    var tensors: UnsafeMutablePointer<Tensor>
    /// The tensors in the order of their names.
    private(set) var names = OrderedIndex(slot: 0)
    /// Those with parameters, in the order of their addresses: no two overlap.
    var parameterMemory = OrderedIndex(slot: 2)
    /// How often parameters have been put anywhere, and 1: what was looked up before may no longer hold.
    var memoryChanges = 1
    /// For the phases of a step: as many as there are tensors.
    var starts: UnsafeMutablePointer<Int>
    var capacity: Int
    public internal(set) var count = 0
    /// The number of the last step, or of that which single tensors are at, see `noteStep`.
    var lastStep = 1
    var lastStepIsWhole = false
    private(set) var shape = NetworkShape()
    /// Of the last step, before it was clipped, and how many were; of steps with `maxGradientNorm`.
    var gradientNorm = 0.0
    var stepsClipped: Int64 = 0
    /// The averages are where the parameters should be.
    var areAveragesSwapped = false
    /// Elements of all tensors.
    public private(set) var parameters = 0
    /// Some tensor is not f32, parameter or gradient.
    private(set) var hasOtherTypes = false
    /// How many of the tensors are elsewhere.
    public private(set) var elsewhere = 0
    /// How many have rows elsewhere, and memory for their exchanges: as many numbers as one needs, room for so many, the own ones and everybody's.
    public internal(set) var shared = 0
    var exchangeNumbers = 0
    var exchangeRoom = 0
    var exchange: UnsafeMutablePointer<Double>?
    /// How many tensors the last checkpoint that was restored had for this optimizer.
    public internal(set) var restored = 0

    public init(_ weights: borrowing Weights, _ options: OptimizerOptions) throws(LOptError) {
        try Optimizer.validate(options)
        guard options.momentumType == .f32 || weights.architecture.kind == .pooled else {
            throw LOptError(.invalidArgument, "momentum_type is LOPT_BF16, which weights of kind pooled alone have; with these LOPT_F32 is allowed")
        }
        let allocator = options.allocator
        let isa = min(options.maximumISA, InstructionSet.available, try Optimizer.environmentISA())
        var workers = options.threads
        if workers == 0 { workers = min(Int(lopt_system_processors()), OptimizerOptions.mostThreads) }
        let rule = try Rule(
            weights.architecture, theta: weights.theta, isGuarded: options.maxUpdateRatio > 0, allocator: allocator)
        var kernels = lopt_kernels()
        Optimizer.choose(isa, rule.kernel.path, &kernels)
        var kernelRule = rule.kernel
        let stride = (Int(kernels.scratch_floats(&kernelRule)) + 31) / 16 * 16
        let capacity = 16
        var scratch: UnsafeMutablePointer<Float>?
        var tensors: UnsafeMutablePointer<Tensor>?
        var starts: UnsafeMutablePointer<Int>?
        do {
            let floats = try allocator.allocateZeroed(Float.self, workers * stride)
            scratch = floats
            let table = try allocator.allocate(Tensor.self, capacity)
            tensors = table
            let numbers = try allocator.allocate(Int.self, capacity)
            starts = numbers
            pool = try ThreadPool(workers: workers, parallelFor: options.parallelFor, allocator: allocator)
            (self.scratch, self.tensors, self.starts) = (floats, table, numbers)
        } catch {
            allocator.deallocate(scratch, workers * stride)
            allocator.deallocate(tensors, capacity)
            allocator.deallocate(starts, capacity)
            rule.free(allocator)
            throw error
        }
        self.options = options
        self.isa = isa
        self.rule = rule
        self.kernels = kernels
        self.capacity = capacity
        scratchStride = stride
        digest = weights.digest
        digestWithoutSafeguards = weights.digestWithoutSafeguards
        learningRateScale = options.learningRateScale
        weightDecay = options.weightDecay
        weightDecayForm = options.weightDecayForm
        totalSteps = options.totalSteps
        weightDecayTensors = options.weightDecayTensors
        gradientScale = options.gradientScale
    }

    deinit {
        let allocator = options.allocator
        for i in 0..<count { tensors[i].memory.free(allocator) }
        allocator.deallocate(exchange, exchangeBytes / 8)
        allocator.deallocate(tensors, capacity)
        allocator.deallocate(starts, capacity)
        allocator.deallocate(scratch, pool.workers * scratchStride)
        rule.free(allocator)
    }

    /// Goes on with other weights of the same architecture and the state as it stands, as truncated meta-training does.
    ///
    /// Throws `.mismatch` for another architecture, `.noMemory`.
    public mutating func setWeights(_ weights: borrowing Weights) throws(LOptError) {
        guard weights.architecture == rule.architecture else {
            throw LOptError(.mismatch, "the weights have another architecture than the optimizer")
        }
        let other = try Rule(
            weights.architecture, theta: weights.theta, isGuarded: options.maxUpdateRatio > 0, allocator: options.allocator)
        rule.free(options.allocator)
        rule = other
        digest = weights.digest
        digestWithoutSafeguards = weights.digestWithoutSafeguards
    }

    private static func validate(_ options: OptimizerOptions) throws(LOptError) {
        guard options.threads >= 0 && options.threads <= OptimizerOptions.mostThreads else {
            throw LOptError(.invalidArgument, "threads is \(options.threads); allowed are 0 (all processors) to 256")
        }
        try checkScale(options.learningRateScale, "lr_scale")
        try checkScale(options.weightDecay, "weight_decay")
        try checkGradientScale(options.gradientScale)
        let norm = options.maxGradientNorm
        guard norm == 0 || norm >= 1 / largestScale && norm <= largestScale else {
            throw LOptError(.invalidArgument, "max_gradient_norm is \(norm); allowed are 0 (no clipping) and 1e-30 to 1e30")
        }
        try checkScale(options.maxUpdateRatio, "max_update_ratio")
        try checkScale(options.learnedDecayScale, "learned_decay_scale")
        try options.average.check()
        guard options.totalSteps >= 0 else {
            throw LOptError(.invalidArgument, "total_steps is \(options.totalSteps); it must not be negative")
        }
    }

    /// Of a caller's scale, and of the product of two.
    public static let largestScale = 1e30

    static func checkScale(_ value: Double, _ name: StaticString) throws(LOptError) {
        guard value >= 0 && value <= largestScale else {
            throw LOptError(.invalidArgument, "\(name) is \(value); allowed are finite numbers, 0 to 1e30")
        }
    }

    /// With 0, or what f32 takes for it, nothing would ever be trained: that is a mistake.
    static func checkGradientScale(_ value: Double) throws(LOptError) {
        guard abs(value) >= 1 / largestScale && abs(value) <= largestScale else {
            throw LOptError(.invalidArgument, "gradient_scale is \(value); allowed are finite numbers, 1e-30 to 1e30 or negative ones")
        }
    }

    /// The cap that the environment variable LOPT_MAX_ISA sets.
    private static func environmentISA() throws(LOptError) -> InstructionSet {
        guard let value = lopt_system_getenv("LOPT_MAX_ISA"), value[0] != 0 else { return .avx512 }
        func isEqual(_ name: StaticString) -> Bool {
            lopt_system_length(value, 32) == name.utf8CodeUnitCount
                && lopt_system_compare(value, name.utf8Start, name.utf8CodeUnitCount) == 0
        }
        if isEqual("baseline") { return .baseline }
        if isEqual("avx2") { return .avx2 }
        if isEqual("avx512") { return .avx512 }
        throw LOptError(
            .invalidArgument, "environment variable LOPT_MAX_ISA is '\(value)'; allowed are baseline, avx2, avx512")
    }

    private static func choose(_ isa: InstructionSet, _ path: Int32, _ kernels: inout lopt_kernels) {
        #if arch(x86_64)
        switch isa {
        case .baseline: lopt_kernels_baseline(&kernels, path)
        case .avx2: lopt_kernels_avx2(&kernels, path)
        case .avx512: lopt_kernels_avx512(&kernels, path)
        }
        #else
        lopt_kernels_baseline(&kernels, path)
        #endif
    }

    // MARK: Tensors

    /// Adds a tensor, t = 0, and returns its index. `parameter` and `gradient` hold as many numbers (f32, or of `types`) as the shape says,
    /// row-major, at any alignment; they may be nil if that is none. One that is elsewhere takes its place in the network alone; of one that is
    /// shared these rows are here.
    public mutating func addTensor(
        name: UnsafeRawBufferPointer, parameter: UnsafeMutablePointer<Float>?, gradient: UnsafePointer<Float>?,
        shape: UnsafeBufferPointer<Int64>, types: ElementTypes = ElementTypes(), isElsewhere: Bool = false, rows: Range<Int>? = nil,
        startsThreads: Bool = true
    ) throws(LOptError) -> Int {
        try checkName(name)
        var elements = try Geometry.elements(shape)
        if isElsewhere {
            guard options.maxGradientNorm == 0 else { throw Optimizer.noNorm() }
            elements = 0
        }
        if let rows { elements = try checkRows(rows, shape) }
        let span = try checkMemory(parameter, gradient, elements, types)
        guard count < Int(Int32.max) else { throw LOptError(.invalidArgument, "there are 2^31 - 1 tensors already") }
        try makeRoom()
        if rows != nil { try makeExchangeRoom(shape) }
        let tensor = try Tensor(
            name: name, shape: shape, parameter: parameter, gradient: gradient, rule: rule.kernel,
            architecture: rule.architecture, isAveraged: options.average.kind != .none, isElsewhere: isElsewhere, types: types,
            momentumType: options.momentumType, rows: rows == nil ? nil : elements, allocator: options.allocator)
        (tensors + count).initialize(to: tensor)
        names.insert(count, tensors) { $0.identity.name.compare(with: name) < 0 }
        put(count, at: span)
        self.shape.add(tensor.identity, count)
        count += 1
        if isElsewhere { elsewhere += 1 }
        if rows != nil { try share(count - 1, shape) }
        if !types.areF32 { hasOtherTypes = true }
        parameters += elements
        if startsThreads { startThreads() }
        return count - 1
    }

    /// Own threads, once the tensors are worth them.
    public mutating func startThreads() {
        if parameters >= options.leastParallelElements { pool.start() }
    }

    /// Takes the tensors that were added last out again, as long as nothing has been done with them.
    public mutating func removeLastTensors(_ removed: Int) {
        for _ in 0..<removed { removeLastTensor() }
        shape = NetworkShape(tensors, count)
    }

    private mutating func removeLastTensor() {
        count -= 1
        let last = tensors[count]
        names.remove(count, tensors) { $0.identity.name.compare(with: last.identity.name) < 0 }
        takeOut(count)
        parameters -= last.geometry.count
        last.memory.free(options.allocator)
    }

    private mutating func makeRoom() throws(LOptError) {
        guard count == capacity else { return }
        let allocator = options.allocator
        let larger = try allocator.allocate(Tensor.self, 2 * capacity)
        let largerStarts: UnsafeMutablePointer<Int>
        do {
            largerStarts = try allocator.allocate(Int.self, 2 * capacity)
        } catch {
            allocator.deallocate(larger, 2 * capacity)
            throw error
        }
        for i in 0..<count { (larger + i).initialize(to: tensors[i]) }
        allocator.deallocate(tensors, capacity)
        allocator.deallocate(starts, capacity)
        tensors = larger
        starts = largerStarts
        capacity *= 2
    }

    public mutating func setTensorOptions(_ index: Int, _ options: TensorOptions) throws(LOptError) {
        try checkIndex(index)
        try Optimizer.checkScale(options.learningRateScale, "lr_scale")
        try Optimizer.checkScale(options.weightDecayScale, "weight_decay_scale")
        tensors[index].options = options
    }

    /// The step counters of the tensors count towards it; beyond it steps go on as at its end.
    public mutating func setTotalSteps(_ value: Int64) throws(LOptError) {
        guard value >= 0 else { throw LOptError(.invalidArgument, "total_steps is \(value); it must not be negative") }
        totalSteps = value
    }

    public mutating func setLearningRateScale(_ value: Double) throws(LOptError) {
        try Optimizer.checkScale(value, "lr_scale")
        learningRateScale = value
    }

    public mutating func setGradientScale(_ value: Double) throws(LOptError) {
        try Optimizer.checkGradientScale(value)
        gradientScale = value
    }

    func checkIndex(_ index: Int) throws(LOptError) {
        guard index >= 0 && index < count else {
            throw LOptError(.invalidArgument, "tensor index is \(index); there are \(count) tensors")
        }
    }
}
