import CLOpt
import CLOptShims
import LOptCore

// Every function here is one line of lopt.h: check the arguments, translate, call LOptCore. `@implementation` has the
// compiler compare each signature with the header's.

/// Runs the body of a call in the default floating-point environment, with pthread_cancel put off; a thrown error becomes its
/// status, and its message the thread's last.
@inline(__always)
func status(_ body: () throws(LOptError) -> lopt_status) -> lopt_status {
    status { (_: UInt64) throws(LOptError) in try body() }
}

/// The same; the body gets the caller's floating-point environment.
@inline(__always)
func status(_ body: (UInt64) throws(LOptError) -> lopt_status) -> lopt_status {
    let thread = ThreadState()
    defer { thread.restore() }
    do {
        return try body(thread.float)
    } catch {
        keep(error.message)
        return lopt_status(rawValue: error.status.rawValue)
    }
}

/// What a call changes of the thread it is made on, and puts back. Not inlined: every call has it.
private struct ThreadState {
    let float: UInt64
    private let cancellation: Int32

    @inline(never)
    init() {
        cancellation = lopt_thread_hold_cancellation()
        float = lopt_system_enter_default_float()
    }

    @inline(never)
    func restore() {
        lopt_system_restore_float(float)
        lopt_thread_release_cancellation(cancellation)
    }
}

/// Makes `message` what lopt_last_error returns.
@inline(never)
func keep(_ message: Message) {
    let text = lopt_thread_message()
    message.withCString { source in lopt_system_copy(text, source, message.count + 1) }
}

func missing(_ argument: StaticString) -> LOptError { LOptError(.invalidArgument, "\(argument) is NULL") }

/// The NUL-terminated bytes of a literal.
func cString(_ text: StaticString) -> UnsafePointer<CChar> {
    UnsafeRawPointer(text.utf8Start).assumingMemoryBound(to: CChar.self)
}

@implementation @_cdecl("lopt_status_string")
public func lopt_status_string(_ status: lopt_status) -> UnsafePointer<CChar> {
    switch status {
    case LOPT_OK: cString("ok")
    case LOPT_SKIPPED_NONFINITE: cString("skipped: a gradient was not finite")
    case LOPT_ERROR_INVALID_ARGUMENT: cString("invalid argument")
    case LOPT_ERROR_NO_MEMORY: cString("out of memory")
    case LOPT_ERROR_IO: cString("input or output failed")
    case LOPT_ERROR_WEIGHTS: cString("bad weights")
    case LOPT_ERROR_CHECKPOINT: cString("bad checkpoint")
    case LOPT_ERROR_MISMATCH: cString("checkpoint does not match")
    case LOPT_ERROR_NONFINITE: cString("a gradient was not finite")
    default: cString("unknown status")
    }
}

@implementation @_cdecl("lopt_last_error")
public func lopt_last_error() -> UnsafePointer<CChar> { UnsafePointer(lopt_thread_message()) }

@implementation @_cdecl("lopt_version")
public func lopt_version() -> Int32 {
    LOPT_VERSION_MAJOR * 1_000_000 + LOPT_VERSION_MINOR * 1000 + LOPT_VERSION_PATCH
}

@implementation @_cdecl("lopt_version_string")
public func lopt_version_string() -> UnsafePointer<CChar> { lopt_version_text() }
