import CLOpt
import CLOptShims
import LOptCore

/// What a `lopt_optimizer *` points to.
struct OptimizerHandle: ~Copyable {
    var optimizer: Optimizer
    let log: lopt_log
    /// A warning about the tensors has been given, or was not needed, when they were first stepped.
    var hasLookedAtTensors = false
    /// 1: in the middle of a call that changes it.
    var isChanging: Int64 = 0
}

func optimizer(_ handle: OpaquePointer?) throws(LOptError) -> UnsafeMutablePointer<OptimizerHandle> {
    guard let handle else { throw missing("opt") }
    return UnsafeMutablePointer(handle)
}

/// For calls that need the optimizer as it is between two steps: not from a callback or a signal handler in the middle of one
/// (nor from another thread, as far as that can be seen).
func settled(_ handle: OpaquePointer?) throws(LOptError) -> UnsafeMutablePointer<OptimizerHandle> {
    let opt = try optimizer(handle)
    guard lopt_atomic_load(&opt.pointee.isChanging) == 0 else { throw inUse() }
    return opt
}

/// For calls that leave it half done until they return.
func changing<T>(
    _ handle: OpaquePointer?, _ body: (UnsafeMutablePointer<OptimizerHandle>) throws(LOptError) -> T
) throws(LOptError) -> T {
    let opt = try optimizer(handle)
    guard lopt_atomic_exchange(&opt.pointee.isChanging, 1) == 0 else { throw inUse() }
    defer { lopt_atomic_store(&opt.pointee.isChanging, 0) }
    return try body(opt)
}

private func inUse() -> LOptError {
    LOptError(.invalidArgument, "opt is in the middle of another call; an optimizer is used by one call at a time")
}

func say(_ log: lopt_log, _ level: lopt_log_level, _ message: Message) {
    guard let call = log.message else { return }
    message.withCString { text in call(log.context, level, text) }
}

@implementation @_cdecl("lopt_create")
public func lopt_create(
    _ handle: OpaquePointer!, _ options: UnsafePointer<lopt_options>!, _ out: UnsafeMutablePointer<OpaquePointer?>!
) -> lopt_status {
    status { () throws(LOptError) in
        guard let out else { throw missing("out") }
        out.pointee = nil
        let given = try checked(options)
        let translated = try translate(given)
        let allocator = translated.allocator
        let memory = try allocator.allocate(OptimizerHandle.self, 1)
        do throws(LOptError) {
            memory.initialize(to: OptimizerHandle(optimizer: try make(handle, translated), log: given.log))
        } catch {
            allocator.deallocate(memory, 1)
            throw error
        }
        out.pointee = OpaquePointer(memory)
        say(
            given.log, LOPT_LOG_INFO,
            "lopt \(lopt_version_text()): \(isaName(memory.pointee.optimizer.isa)), up to \(memory.pointee.optimizer.threads) threads")
        if memory.pointee.optimizer.lacksBLAS {
            say(given.log, LOPT_LOG_WARNING, "libopenblas.so.0 cannot be loaded; with it a network this wide is faster")
        }
        return LOPT_OK
    }
}

private func make(_ handle: OpaquePointer?, _ options: OptimizerOptions) throws(LOptError) -> Optimizer {
    if let handle { return try Optimizer(weights(handle).pointee.weights, options) }
    return try Optimizer(try Weights(builtin: nil, allocator: options.allocator), options)
}

func isaName(_ isa: InstructionSet) -> StaticString {
    switch isa {
    case .baseline: "baseline"
    case .avx2: "AVX2"
    case .avx512: "AVX-512"
    }
}

@implementation @_cdecl("lopt_destroy")
public func lopt_destroy(_ handle: OpaquePointer!) {
    guard let handle else { return }
    _ = status { () throws(LOptError) in
        let memory = try settled(handle)
        let allocator = memory.pointee.optimizer.options.allocator
        memory.deinitialize(count: 1)
        allocator.deallocate(memory, 1)
        return LOPT_OK
    }
}

@implementation @_cdecl("lopt_add_tensor")
public func lopt_add_tensor(
    _ handle: OpaquePointer!, _ name: UnsafePointer<CChar>!, _ parameter: UnsafeMutablePointer<Float>!,
    _ gradient: UnsafePointer<Float>!, _ shape: UnsafePointer<Int64>!, _ rank: Int32,
    _ index: UnsafeMutablePointer<Int32>!
) -> lopt_status {
    add(handle, name, parameter, gradient, shape, rank, index, LOPT_F32, LOPT_F32)
}

@implementation @_cdecl("lopt_add_elsewhere")
public func lopt_add_elsewhere(
    _ handle: OpaquePointer!, _ name: UnsafePointer<CChar>!, _ shape: UnsafePointer<Int64>!, _ rank: Int32,
    _ index: UnsafeMutablePointer<Int32>!
) -> lopt_status {
    add(handle, name, nil, nil, shape, rank, index, LOPT_F32, LOPT_F32, isElsewhere: true)
}

@implementation @_cdecl("lopt_add_typed")
public func lopt_add_typed(
    _ handle: OpaquePointer!, _ name: UnsafePointer<CChar>!, _ parameter: UnsafeMutableRawPointer!, _ parameterType: lopt_element,
    _ gradient: UnsafeRawPointer!, _ gradientType: lopt_element, _ shape: UnsafePointer<Int64>!, _ rank: Int32,
    _ index: UnsafeMutablePointer<Int32>!
) -> lopt_status {
    add(
        handle, name, parameter?.assumingMemoryBound(to: Float.self), gradient?.assumingMemoryBound(to: Float.self), shape, rank, index,
        parameterType, gradientType)
}

@implementation @_cdecl("lopt_rows_of")
public func lopt_rows_of(
    _ shape: UnsafePointer<Int64>!, _ rank: Int32, _ part: Int32, _ parts: Int32, _ rows: UnsafeMutablePointer<lopt_rows>!
) -> lopt_status {
    status { () throws(LOptError) in
        try checkRank(rank)
        guard rank == 0 || shape != nil else { throw missing("shape") }
        guard let rows else { throw missing("rows") }
        let division = try RowDivision(UnsafeBufferPointer(start: shape, count: rank == 0 ? 0 : Int(rank)))
        try Gather.check(part: Int(part), parts: Int(parts))
        let own = division.rows(of: Int(part), in: Int(parts))
        rows.pointee = lopt_rows(first: Int64(own.lowerBound), count: Int64(own.count))
        return LOPT_OK
    }
}

@implementation @_cdecl("lopt_add_rows")
public func lopt_add_rows(
    _ handle: OpaquePointer!, _ name: UnsafePointer<CChar>!, _ rows: UnsafePointer<lopt_rows>!, _ parameter: UnsafeMutableRawPointer!,
    _ parameterType: lopt_element, _ gradient: UnsafeRawPointer!, _ gradientType: lopt_element, _ shape: UnsafePointer<Int64>!,
    _ rank: Int32, _ index: UnsafeMutablePointer<Int32>!
) -> lopt_status {
    guard let rows else { return status { () throws(LOptError) in throw missing("rows") } }
    return add(
        handle, name, parameter?.assumingMemoryBound(to: Float.self), gradient?.assumingMemoryBound(to: Float.self), shape, rank, index,
        parameterType, gradientType, rows: rows.pointee)
}

private func range(_ rows: lopt_rows) throws(LOptError) -> Range<Int> {
    let (end, overflow) = rows.first.addingReportingOverflow(rows.count)
    guard rows.first >= 0, rows.count >= 0, !overflow else {
        throw LOptError(.invalidArgument, "rows are \(rows.count) from \(rows.first) on; neither may be negative")
    }
    return Int(rows.first)..<Int(end)
}

private func elementType(_ type: lopt_element, _ name: StaticString) throws(LOptError) -> ElementType {
    guard let type = ElementType(rawValue: Int32(truncatingIfNeeded: type.rawValue)) else {
        throw LOptError(.invalidArgument, "\(name) is \(Int32(truncatingIfNeeded: type.rawValue)); allowed are 0 to 3, see lopt_element")
    }
    return type
}

private func elementTypes(_ parameter: lopt_element, _ gradient: lopt_element) throws(LOptError) -> ElementTypes {
    ElementTypes(parameter: try elementType(parameter, "parameter_type"), gradient: try elementType(gradient, "gradient_type"))
}

@inline(never)
private func add(
    _ handle: OpaquePointer?, _ name: UnsafePointer<CChar>?, _ parameter: UnsafeMutablePointer<Float>?,
    _ gradient: UnsafePointer<Float>?, _ shape: UnsafePointer<Int64>?, _ rank: Int32, _ index: UnsafeMutablePointer<Int32>?,
    _ parameterType: lopt_element, _ gradientType: lopt_element, isElsewhere: Bool = false, rows: lopt_rows? = nil
) -> lopt_status {
    status { () throws(LOptError) in
        guard let name else { throw missing("name") }
        try checkRank(rank)
        guard rank == 0 || shape != nil else { throw missing("shape") }
        let types = try elementTypes(parameterType, gradientType)
        let length = lopt_system_length(name, Optimizer.longestName + 1), own = try rows.map { given throws(LOptError) in try range(given) }
        let added = try adding(handle) { opt throws(LOptError) in
            try opt.pointee.optimizer.addTensor(
                name: UnsafeRawBufferPointer(start: name, count: length), parameter: parameter, gradient: gradient,
                shape: UnsafeBufferPointer(start: shape, count: rank == 0 ? 0 : Int(rank)), types: types,
                isElsewhere: isElsewhere, rows: own, startsThreads: false)
        }
        index?.pointee = Int32(added)
        return LOPT_OK
    }
}

/// A call that adds tensors, and may start threads.
private func adding(
    _ handle: OpaquePointer?, _ body: (UnsafeMutablePointer<OptimizerHandle>) throws(LOptError) -> Int
) throws(LOptError) -> Int {
    let opt = try optimizer(handle), refusal = opt.pointee.optimizer.threadRefusal
    let added = try changing(handle) { opt throws(LOptError) in
        let added = try body(opt)
        opt.pointee.optimizer.startThreads()
        return added
    }
    if refusal == 0, let message = opt.pointee.optimizer.threadRefusalMessage() { say(opt.pointee.log, LOPT_LOG_WARNING, message) }
    return added
}

@implementation @_cdecl("lopt_add_flat")
public func lopt_add_flat(
    _ handle: OpaquePointer!, _ parameters: UnsafeMutablePointer<Float>!, _ gradients: UnsafePointer<Float>!,
    _ table: UnsafePointer<lopt_flat_entry>!, _ count: Int32
) -> lopt_status {
    lopt_add_flat_typed(handle, parameters, LOPT_F32, gradients, LOPT_F32, table, count)
}

@implementation @_cdecl("lopt_add_flat_typed")
public func lopt_add_flat_typed(
    _ handle: OpaquePointer!, _ parameters: UnsafeMutableRawPointer!, _ parameterType: lopt_element,
    _ gradients: UnsafeRawPointer!, _ gradientType: lopt_element, _ table: UnsafePointer<lopt_flat_entry>!, _ count: Int32
) -> lopt_status {
    status { () throws(LOptError) in
        guard count >= 0 else { throw LOptError(.invalidArgument, "count is \(count); it must not be negative") }
        guard count == 0 || table != nil else { throw missing("table") }
        let types = try elementTypes(parameterType, gradientType)
        _ = try adding(handle) { opt throws(LOptError) in
            for i in 0..<Int(count) {
                do throws(LOptError) {
                    try add(table + i, parameters, gradients, types, to: &opt.pointee.optimizer)
                } catch {
                    opt.pointee.optimizer.removeLastTensors(i)
                    throw LOptError(error.status, "table[\(i)]: \(error.message)")
                }
            }
            return Int(count)
        }
        return LOPT_OK
    }
}

private func add(
    _ entry: UnsafePointer<lopt_flat_entry>, _ parameters: UnsafeMutableRawPointer?, _ gradients: UnsafeRawPointer?,
    _ types: ElementTypes, to optimizer: inout Optimizer
) throws(LOptError) {
    guard let name = entry.pointee.name else { throw missing("name") }
    try checkRank(entry.pointee.rank)
    let offset = entry.pointee.offset
    guard offset >= 0 && offset <= 1 << 48 else {
        throw LOptError(.invalidArgument, "offset is \(offset); allowed are 0 to 2^48 elements")
    }
    let parameterBytes = Int(offset) * types.parameter.bytes, gradientBytes = Int(offset) * types.gradient.bytes
    guard UInt(bitPattern: parameters) <= UInt.max - UInt(parameterBytes), UInt(bitPattern: gradients) <= UInt.max - UInt(gradientBytes)
    else {
        throw LOptError(.invalidArgument, "offset \(offset) reaches past the end of the address space")
    }
    // The last field.
    let shape = UnsafeRawPointer(entry + 1) - Int(LOPT_MAX_RANK) * 8
    _ = try optimizer.addTensor(
        name: UnsafeRawBufferPointer(start: name, count: lopt_system_length(name, Optimizer.longestName + 1)),
        parameter: parameters.map { ($0 + parameterBytes).assumingMemoryBound(to: Float.self) },
        gradient: gradients.map { ($0 + gradientBytes).assumingMemoryBound(to: Float.self) },
        shape: UnsafeBufferPointer(start: shape.assumingMemoryBound(to: Int64.self), count: Int(entry.pointee.rank)),
        types: types, startsThreads: false)
}

private func checkRank(_ rank: Int32) throws(LOptError) {
    guard rank >= 0 && rank <= LOPT_MAX_RANK else { throw LOptError(.invalidArgument, "rank is \(rank); allowed are 0 to 8") }
}

@implementation @_cdecl("lopt_bind")
public func lopt_bind(
    _ handle: OpaquePointer!, _ index: Int32, _ parameter: UnsafeMutablePointer<Float>!,
    _ gradient: UnsafePointer<Float>!
) -> lopt_status {
    withUnsafePointer(to: lopt_binding(index: index, parameter: parameter, gradient: gradient)) { binding in
        lopt_bind_many(handle, 1, binding)
    }
}

@implementation @_cdecl("lopt_bind_many")
public func lopt_bind_many(
    _ handle: OpaquePointer!, _ count: Int32, _ bindings: UnsafePointer<lopt_binding>!
) -> lopt_status {
    status { () throws(LOptError) in
        guard count >= 0 else { throw LOptError(.invalidArgument, "count is \(count); it must not be negative") }
        if count == 0 {
            _ = try optimizer(handle)
            return LOPT_OK
        }
        guard let bindings else { throw missing("bindings") }
        try changing(handle) { opt throws(LOptError) in
            try opt.pointee.optimizer.bind(Int(count)) { k in
                Binding(Int(bindings[k].index), parameter: bindings[k].parameter, gradient: bindings[k].gradient)
            }
        }
        return LOPT_OK
    }
}

@implementation @_cdecl("lopt_step")
public func lopt_step(_ handle: OpaquePointer!) -> lopt_status {
    status { (host: UInt64) throws(LOptError) in
        report(try changing(handle) { opt throws(LOptError) in try opt.pointee.optimizer.step(hostFloat: host) }, handle)
    }
}

@implementation @_cdecl("lopt_step_with")
public func lopt_step_with(
    _ handle: OpaquePointer!, _ count: Int32, _ parameters: UnsafePointer<UnsafeMutablePointer<Float>?>!,
    _ gradients: UnsafePointer<UnsafeMutablePointer<Float>?>!
) -> lopt_status {
    status { (host: UInt64) throws(LOptError) in
        guard let parameters else { throw missing("parameters") }
        guard let gradients else { throw missing("gradients") }
        return report(
            try changing(handle) { opt throws(LOptError) in
                try opt.pointee.optimizer.step(Int(count), parameters: parameters, gradients: gradients, hostFloat: host)
            }, handle)
    }
}

@implementation @_cdecl("lopt_step_tensor")
public func lopt_step_tensor(_ handle: OpaquePointer!, _ index: Int32) -> lopt_status {
    status { (host: UInt64) throws(LOptError) in
        report(
            try changing(handle) { opt throws(LOptError) in try opt.pointee.optimizer.step(Int(index), hostFloat: host) }, handle)
    }
}

@implementation @_cdecl("lopt_average_get")
public func lopt_average_get(
    _ handle: OpaquePointer!, _ index: Int32, _ out: UnsafeMutablePointer<Float>!, _ count: Int64
) -> lopt_status {
    status { () throws(LOptError) in
        let opt = try settled(handle)
        guard let out else { throw missing("out") }
        try opt.pointee.optimizer.getAverage(Int(index), into: out, count: Int(count))
        return LOPT_OK
    }
}

@implementation @_cdecl("lopt_average_swap")
public func lopt_average_swap(_ handle: OpaquePointer!) -> lopt_status {
    status { () throws(LOptError) in
        try changing(handle) { opt throws(LOptError) in try opt.pointee.optimizer.swapAverages() }
        return LOPT_OK
    }
}

private func report(_ outcome: StepOutcome, _ handle: OpaquePointer) -> lopt_status {
    let opt = UnsafeMutablePointer<OptimizerHandle>(handle)
    if !opt.pointee.hasLookedAtTensors {
        opt.pointee.hasLookedAtTensors = true
        if let message = opt.pointee.optimizer.flatVectorMessage() { say(opt.pointee.log, LOPT_LOG_WARNING, message) }
    }
    switch outcome {
    case .done: return LOPT_OK
    case .skipped(let first, _):
        let message = opt.pointee.optimizer.nonfiniteMessage(first)
        keep(message)
        say(opt.pointee.log, LOPT_LOG_WARNING, "skipped: \(message)")
        return LOPT_SKIPPED_NONFINITE
    }
}
