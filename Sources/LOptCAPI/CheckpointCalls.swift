import CLOpt
import CLOptShims
import LOptCore

/// To be written; to be read there may be a part of it alone.
@inline(never)
private func checked(_ contents: UInt32, isRead: Bool = false) throws(LOptError) -> CheckpointContents {
    guard contents <= LOPT_WITH_PARAMETERS || isRead && contents <= LOPT_WITH_PARAMETERS | LOPT_SHARD else {
        throw LOptError(
            .invalidArgument, "contents is \(contents); allowed are 0 and LOPT_WITH_PARAMETERS (1), to restore also LOPT_SHARD (2)")
    }
    return CheckpointContents(rawValue: contents)
}

/// For what is to be saved: of rows the others are asked, in a callback. To be followed by `saved`.
@inline(never)
private func saving(_ handle: OpaquePointer?) throws(LOptError) -> UnsafeMutablePointer<OptimizerHandle> {
    let opt = try settled(handle)
    if opt.pointee.optimizer.shared > 0 { lopt_atomic_store(&opt.pointee.isChanging, 1) }
    return opt
}

private func saved(_ opt: UnsafeMutablePointer<OptimizerHandle>) { lopt_atomic_store(&opt.pointee.isChanging, 0) }

@implementation @_cdecl("lopt_save")
public func lopt_save(_ handle: OpaquePointer!, _ path: UnsafePointer<CChar>!, _ contents: UInt32) -> lopt_status {
    status { () throws(LOptError) in
        guard let path else { throw missing("path") }
        let opt = try saving(handle)
        defer { saved(opt) }
        try opt.pointee.optimizer.save(path, checked(contents))
        return LOPT_OK
    }
}

@implementation @_cdecl("lopt_restore")
public func lopt_restore(_ handle: OpaquePointer!, _ path: UnsafePointer<CChar>!, _ contents: UInt32) -> lopt_status {
    status { () throws(LOptError) in
        guard let path else { throw missing("path") }
        try changing(handle) { opt throws(LOptError) in try opt.pointee.optimizer.restore(path, checked(contents, isRead: true)) }
        return LOPT_OK
    }
}

@implementation @_cdecl("lopt_state_size")
public func lopt_state_size(
    _ handle: OpaquePointer!, _ contents: UInt32, _ size: UnsafeMutablePointer<Int>!
) -> lopt_status {
    status { () throws(LOptError) in
        let opt = try optimizer(handle)
        guard let size else { throw missing("size") }
        size.pointee = try opt.pointee.optimizer.checkpointSize(checked(contents))
        return LOPT_OK
    }
}

@implementation @_cdecl("lopt_state_write")
public func lopt_state_write(
    _ handle: OpaquePointer!, _ contents: UInt32, _ memory: UnsafeMutableRawPointer!, _ size: Int
) -> lopt_status {
    status { () throws(LOptError) in
        guard let memory else { throw missing("memory") }
        guard size >= 0 else { throw LOptError(.invalidArgument, "size is beyond the address space") }
        let opt = try saving(handle)
        defer { saved(opt) }
        try opt.pointee.optimizer.write(UnsafeMutableRawBufferPointer(start: memory, count: size), checked(contents))
        return LOPT_OK
    }
}

@implementation @_cdecl("lopt_state_read")
public func lopt_state_read(
    _ handle: OpaquePointer!, _ contents: UInt32, _ memory: UnsafeRawPointer!, _ size: Int
) -> lopt_status {
    status { () throws(LOptError) in
        guard let memory else { throw missing("memory") }
        guard size >= 0 else { throw LOptError(.invalidArgument, "size is beyond the address space") }
        try changing(handle) { opt throws(LOptError) in
            try opt.pointee.optimizer.read(UnsafeRawBufferPointer(start: memory, count: size), checked(contents, isRead: true))
        }
        return LOPT_OK
    }
}
