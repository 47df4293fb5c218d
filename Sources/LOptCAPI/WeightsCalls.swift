import CLOpt
import CLOptShims
import LOptCore

/// What a `lopt_weights *` points to.
struct WeightsHandle: ~Copyable {
    let weights: Weights
    let allocator: Allocator
}

func weights(_ handle: OpaquePointer) -> UnsafeMutablePointer<WeightsHandle> { UnsafeMutablePointer(handle) }

/// The caller's allocator, or the C library's for NULL and for a struct of NULLs.
func allocator(_ functions: lopt_allocator?) throws(LOptError) -> Allocator {
    guard let functions else { return .system }
    switch (functions.allocate, functions.deallocate) {
    case (nil, nil): return .system
    case (let allocate?, let deallocate?):
        return Allocator(allocate: allocate, deallocate: deallocate, context: functions.context)
    default:
        throw LOptError(.invalidArgument, "allocator has one of allocate and deallocate; set both or neither")
    }
}

/// Makes a handle in memory of its own allocator; `out` holds NULL unless all goes well.
private func makeWeights(
    _ functions: UnsafePointer<lopt_allocator>?, _ out: UnsafeMutablePointer<OpaquePointer?>?,
    _ make: (Allocator) throws(LOptError) -> Weights
) -> lopt_status {
    status { () throws(LOptError) in
        guard let out else { throw missing("out") }
        out.pointee = nil
        let allocator = try allocator(functions?.pointee)
        let memory = try allocator.allocate(WeightsHandle.self, 1)
        do throws(LOptError) {
            memory.initialize(to: WeightsHandle(weights: try make(allocator), allocator: allocator))
        } catch {
            allocator.deallocate(memory, 1)
            throw error
        }
        out.pointee = OpaquePointer(memory)
        return LOPT_OK
    }
}

@implementation @_cdecl("lopt_weights_builtin")
public func lopt_weights_builtin(
    _ name: UnsafePointer<CChar>!, _ allocator: UnsafePointer<lopt_allocator>!,
    _ out: UnsafeMutablePointer<OpaquePointer?>!
) -> lopt_status {
    makeWeights(allocator, out) { (allocator) throws(LOptError) in
        try Weights(builtin: name, allocator: allocator)
    }
}

@implementation @_cdecl("lopt_weights_load")
public func lopt_weights_load(
    _ path: UnsafePointer<CChar>!, _ allocator: UnsafePointer<lopt_allocator>!,
    _ out: UnsafeMutablePointer<OpaquePointer?>!
) -> lopt_status {
    makeWeights(allocator, out) { (allocator) throws(LOptError) in
        guard let path else { throw missing("path") }
        return try Weights(path: path, allocator: allocator)
    }
}

@implementation @_cdecl("lopt_weights_from_memory")
public func lopt_weights_from_memory(
    _ bytes: UnsafeRawPointer!, _ size: Int, _ allocator: UnsafePointer<lopt_allocator>!,
    _ out: UnsafeMutablePointer<OpaquePointer?>!
) -> lopt_status {
    makeWeights(allocator, out) { (allocator) throws(LOptError) in
        guard let bytes else { throw missing("bytes") }
        guard size >= 0 else { throw LOptError(.invalidArgument, "size is beyond the address space") }
        return try Weights(bytes: UnsafeRawBufferPointer(start: bytes, count: size), allocator: allocator)
    }
}

@implementation @_cdecl("lopt_weights_metadata")
public func lopt_weights_metadata(_ handle: OpaquePointer!, _ key: UnsafePointer<CChar>!) -> UnsafePointer<CChar>! {
    guard let handle, let key else { return nil }
    return weights(handle).pointee.weights.metadata(key: key)
}

@implementation @_cdecl("lopt_weights_free")
public func lopt_weights_free(_ handle: OpaquePointer!) {
    guard let handle else { return }
    let memory = weights(handle)
    let allocator = memory.pointee.allocator
    memory.deinitialize(count: 1)
    allocator.deallocate(memory, 1)
}
