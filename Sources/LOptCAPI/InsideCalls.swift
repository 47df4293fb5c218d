import CLOpt
import CLOptShims
import LOptCore

/// Writes a struct whose first field, set by the caller, says how much of it the program knows.
private func deliver<T>(
    _ value: T, to out: UnsafeMutablePointer<T>, size: Int, first: Int, _ name: StaticString
) throws(LOptError) {
    let known = MemoryLayout<T>.size
    guard isSize(size, from: first) && size <= 4096 else {
        throw LOptError(
            .invalidArgument, "\(name)->struct_size is \(size); set it to sizeof of the struct (\(known)) before the call")
    }
    withUnsafePointer(to: value) { from in lopt_system_copy(out, from, min(size, known)) }
}

@implementation @_cdecl("lopt_stats")
public func lopt_stats(
    _ handle: OpaquePointer!, _ index: Int32, _ statistics: UnsafeMutablePointer<lopt_statistics>!
) -> lopt_status {
    status { () throws(LOptError) in
        let opt = try optimizer(handle)
        guard let statistics else { throw missing("statistics") }
        let s = try opt.pointee.optimizer.statistics(index == -1 ? nil : Int(index))
        let size = statistics.pointee.struct_size
        let value = lopt_statistics(
            struct_size: size, steps: s.steps, steps_skipped: s.stepsSkipped, nonfinite: s.nonfinite,
            gradient_rms: s.gradientRMS, update_rms: s.updateRMS, parameter_rms: s.parameterRMS,
            blackbox_share: s.blackboxShare, updates_limited: s.updatesLimited,
            steps_idle: s.stepsIdle, nonfinite_parameters: s.nonfiniteParameters,
            step_size: s.stepSize, gradient_norm: s.gradientNorm, steps_clipped: s.stepsClipped)
        try deliver(value, to: statistics, size: size, first: firstStatistics, "statistics")
        return LOPT_OK
    }
}

@implementation @_cdecl("lopt_inspect_gradients")
public func lopt_inspect_gradients(
    _ handle: OpaquePointer!, _ index: Int32, _ gradients: UnsafeMutablePointer<lopt_gradients>!
) -> lopt_status {
    status { (host: UInt64) throws(LOptError) in
        guard let gradients else { throw missing("gradients") }
        let size = gradients.pointee.struct_size
        let found = try changing(handle) { opt throws(LOptError) in
            try opt.pointee.optimizer.inspectGradients(index == -1 ? nil : Int(index), hostFloat: host)
        }
        let value = lopt_gradients(struct_size: size, nonfinite: found.nonfinite, norm_squared: found.squares)
        try deliver(value, to: gradients, size: size, first: MemoryLayout<lopt_gradients>.size, "gradients")
        return LOPT_OK
    }
}

@implementation @_cdecl("lopt_info")
public func lopt_info(_ handle: OpaquePointer!, _ information: UnsafeMutablePointer<lopt_information>!) -> lopt_status {
    status { () throws(LOptError) in
        let opt = try optimizer(handle)
        guard let information else { throw missing("information") }
        let size = information.pointee.struct_size
        var value = lopt_information()
        value.struct_size = size
        value.isa = opt.pointee.optimizer.isa.rawValue
        value.threads = Int32(opt.pointee.optimizer.threads)
        value.tensors = Int32(opt.pointee.optimizer.count)
        value.uses_total_steps = opt.pointee.optimizer.usesTotalSteps ? 1 : 0
        value.parameters = Int64(opt.pointee.optimizer.parameters)
        value.state_bytes = Int64(opt.pointee.optimizer.stateBytes)
        value.memory_bytes = Int64(opt.pointee.optimizer.memoryBytes + Allocator.bytes(OptimizerHandle.self, 1))
        value.kernel = cString(opt.pointee.optimizer.kernelName)
        value.total_steps = opt.pointee.optimizer.totalSteps
        value.tensors_elsewhere = Int32(opt.pointee.optimizer.elsewhere)
        value.tensors_restored = Int32(opt.pointee.optimizer.restored)
        try deliver(value, to: information, size: size, first: firstInformation, "information")
        return LOPT_OK
    }
}
