import CLOpt
import CLOptShims
import LOptCore

/// Bytes of the structs that have grown since the first header, as programs built with that one have them. They grow by eights
/// of bytes.
private let firstOptions = MemoryLayout<lopt_options>.size - 88
let firstStatistics = MemoryLayout<lopt_statistics>.size - 48
let firstInformation = MemoryLayout<lopt_information>.size - 16

/// Whether a struct of this size is one that some header had or will have.
func isSize(_ size: Int, from first: Int) -> Bool { size >= first && size % 8 == 0 }

/// The defaults, as lopt_options_init gives them.
private var defaults: lopt_options {
    var options = lopt_options()
    options.struct_size = MemoryLayout<lopt_options>.size
    options.lr_scale = 1
    options.gradient_scale = 1
    options.learned_decay_scale = 1
    return options
}

/// Copies a struct that begins with its own size and may come from an older or a newer header: what the program does not
/// know keeps its default; what the library does not know must be 0.
private func copy<T>(
    _ source: UnsafePointer<T>, size: Int, into result: inout T, first: Int, _ name: StaticString
) throws(LOptError) {
    let known = MemoryLayout<T>.size
    guard isSize(size, from: first) else {
        throw LOptError(.invalidArgument, "\(name).struct_size is \(size), not \(known); was it initialised?")
    }
    let bytes = UnsafeRawPointer(source).assumingMemoryBound(to: UInt8.self)
    guard size <= 4096 else {
        throw LOptError(.invalidArgument, "\(name).struct_size is \(size), more than 4096; was it initialised?")
    }
    var i = known
    while i < size {
        guard bytes[i] == 0 else {
            throw LOptError(.invalidArgument, "\(name) has a field that this version of lopt does not know")
        }
        i += 1
    }
    withUnsafeMutablePointer(to: &result) { to in lopt_system_copy(to, source, min(size, known)) }
}

func checked(_ options: UnsafePointer<lopt_options>?) throws(LOptError) -> lopt_options {
    var result = defaults
    guard let options else { return result }
    try copy(options, size: options.pointee.struct_size, into: &result, first: firstOptions, "options")
    return result
}

func translate(_ given: lopt_options) throws(LOptError) -> OptimizerOptions {
    var options = OptimizerOptions()
    options.threads = Int(given.threads)
    if given.max_isa != 0 {
        guard let isa = InstructionSet(rawValue: given.max_isa) else {
            throw LOptError(.invalidArgument, "max_isa is \(given.max_isa); allowed are 0 to 3, see lopt_isa")
        }
        options.maximumISA = isa
    }
    guard let policy = NonfinitePolicy(rawValue: given.nonfinite) else {
        throw LOptError(.invalidArgument, "nonfinite is \(given.nonfinite); allowed are 0 to 2, see lopt_nonfinite")
    }
    guard given.reserved == 0, given.reserved2 == 0, given.reserved3 == 0 else {
        throw LOptError(
            .invalidArgument,
            "reserved is \(given.reserved), reserved2 is \(given.reserved2), reserved3 is \(given.reserved3); they must be 0")
    }
    options.nonfinite = policy
    options.learningRateScale = given.lr_scale
    options.weightDecay = given.weight_decay
    guard let form = WeightDecayForm(rawValue: given.weight_decay_form) else {
        throw LOptError(
            .invalidArgument,
            "weight_decay_form is \(given.weight_decay_form); allowed are 0 and 1, see lopt_weight_decay_form")
    }
    options.weightDecayForm = form
    guard let decaying = WeightDecayTensors(rawValue: given.weight_decay_tensors) else {
        throw LOptError(
            .invalidArgument,
            "weight_decay_tensors is \(given.weight_decay_tensors); allowed are 0 and 1, see lopt_weight_decay_tensors")
    }
    options.weightDecayTensors = decaying
    guard let average = ParameterAverage.Kind(rawValue: given.average) else {
        throw LOptError(.invalidArgument, "average is \(given.average); allowed are 0 to 2, see lopt_average")
    }
    options.average = ParameterAverage(average, span: given.average_span)
    guard let momentumType = ElementType(rawValue: given.momentum_type), momentumType == .f32 || momentumType == .bf16 else {
        throw LOptError(
            .invalidArgument, "momentum_type is \(given.momentum_type); allowed are 0 and 2, LOPT_F32 and LOPT_BF16 of lopt_element")
    }
    options.momentumType = momentumType
    options.gradientScale = given.gradient_scale
    options.maxGradientNorm = given.max_gradient_norm
    options.totalSteps = given.total_steps
    options.learnedDecayScale = given.learned_decay_scale
    options.maxUpdateRatio = given.max_update_ratio
    options.allocator = try allocator(given.allocator)
    options.parallelFor = given.parallel_for.run.map { ParallelFor(run: $0, context: given.parallel_for.context) }
    if let run = given.gather.run {
        options.gather = try Gather(
            run: run, context: given.gather.context, part: Int(given.gather.part), parts: Int(given.gather.parts))
    }
    return options
}

@implementation @_cdecl("lopt_options_init")
public func lopt_options_init(_ options: UnsafeMutablePointer<lopt_options>!, _ size: Int) -> lopt_status {
    status { () throws(LOptError) in
        guard let options else { throw missing("options") }
        try initialize(options, to: defaults, size: size, first: firstOptions)
        options.pointee.struct_size = size
        return LOPT_OK
    }
}

@implementation @_cdecl("lopt_tensor_options_init")
public func lopt_tensor_options_init(_ options: UnsafeMutablePointer<lopt_tensor_options>!, _ size: Int) -> lopt_status {
    status { () throws(LOptError) in
        guard let options else { throw missing("options") }
        var value = lopt_tensor_options()
        value.lr_scale = 1
        value.weight_decay_scale = 1
        try initialize(options, to: value, size: size, first: MemoryLayout<lopt_tensor_options>.size)
        options.pointee.struct_size = size
        return LOPT_OK
    }
}

/// Writes no more than the `size` bytes that the program has; what is beyond ours is zeroed.
private func initialize<T>(_ out: UnsafeMutablePointer<T>, to value: T, size: Int, first: Int) throws(LOptError) {
    let known = MemoryLayout<T>.size
    guard isSize(size, from: first) && size <= 4096 else {
        throw LOptError(.invalidArgument, "struct_size is \(size); pass sizeof of the struct, \(known) or more")
    }
    lopt_system_zero(out, size)
    withUnsafePointer(to: value) { from in lopt_system_copy(out, from, min(size, known)) }
}

@implementation @_cdecl("lopt_set_lr_scale")
public func lopt_set_lr_scale(_ handle: OpaquePointer!, _ scale: Double) -> lopt_status {
    status { () throws(LOptError) in
        try optimizer(handle).pointee.optimizer.setLearningRateScale(scale)
        return LOPT_OK
    }
}

@implementation @_cdecl("lopt_set_total_steps")
public func lopt_set_total_steps(_ handle: OpaquePointer!, _ steps: Int64) -> lopt_status {
    status { () throws(LOptError) in
        try optimizer(handle).pointee.optimizer.setTotalSteps(steps)
        return LOPT_OK
    }
}

@implementation @_cdecl("lopt_set_gradient_scale")
public func lopt_set_gradient_scale(_ handle: OpaquePointer!, _ scale: Double) -> lopt_status {
    status { () throws(LOptError) in
        try optimizer(handle).pointee.optimizer.setGradientScale(scale)
        return LOPT_OK
    }
}

@implementation @_cdecl("lopt_set_tensor_options")
public func lopt_set_tensor_options(
    _ handle: OpaquePointer!, _ index: Int32, _ options: UnsafePointer<lopt_tensor_options>!
) -> lopt_status {
    status { () throws(LOptError) in
        let opt = try optimizer(handle)
        guard let options else { throw missing("options") }
        var given = lopt_tensor_options()
        try copy(
            options, size: options.pointee.struct_size, into: &given, first: MemoryLayout<lopt_tensor_options>.size,
            "options")
        guard given.frozen == 0 || given.frozen == 1 else {
            throw LOptError(.invalidArgument, "frozen is \(given.frozen); allowed are 0 and 1")
        }
        guard given.reserved == 0 else {
            throw LOptError(.invalidArgument, "reserved is \(given.reserved); it must be 0")
        }
        var translated = TensorOptions()
        translated.learningRateScale = given.lr_scale
        translated.weightDecayScale = given.weight_decay_scale
        translated.isFrozen = given.frozen == 1
        try opt.pointee.optimizer.setTensorOptions(Int(index), translated)
        return LOPT_OK
    }
}
