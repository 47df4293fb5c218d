import CLOptShims

// The one door of this module. It is compiled once for each instruction set, under a name of its own.

#if LOPT_AVX512
@_cdecl("lopt_kernels_avx512")
public func kernelsAVX512(_ kernels: UnsafeMutablePointer<lopt_kernels>, _ path: Int32) { fill(kernels, path) }
#elseif LOPT_AVX2
@_cdecl("lopt_kernels_avx2")
public func kernelsAVX2(_ kernels: UnsafeMutablePointer<lopt_kernels>, _ path: Int32) { fill(kernels, path) }
#else
@_cdecl("lopt_kernels_baseline")
public func kernelsBaseline(_ kernels: UnsafeMutablePointer<lopt_kernels>, _ path: Int32) { fill(kernels, path) }
#endif

private func fill(_ kernels: UnsafeMutablePointer<lopt_kernels>, _ path: Int32) {
    kernels.pointee = lopt_kernels(
        scratch_floats: { rule in Int64(Scratch.floats(rule!.pointee)) },
        largest_magnitude: { t, begin, end, squares in
            largestMagnitude(t!.pointee, Int(begin), Int(end), &squares!.pointee)
        },
        gradient_pass: { t, chunk, scratch in gradientPass(t!.pointee, chunk!.pointee, scratch!) },
        update_factors: { rule, t, means in updateFactors(rule!.pointee, t!.pointee, means!) },
        accumulator_pass: { rule, t, chunk, sums, scratch in
            accumulatorPass(rule!.pointee, t!.pointee, chunk!.pointee, sums!, scratch!)
        },
        network_pass: networkPass(path),
        element_pass: { rule, t, apply, begin, end, sums, scratch in
            elementPass(rule!.pointee, t!.pointee, apply!.pointee, Int(begin), Int(end), sums!, scratch!)
        },
        pooled: { rule, t, step, begin, end, sums, scratch in
            pooledPass(rule!.pointee, t!.pointee, step!.pointee, Int(begin), Int(end), sums!, scratch!)
        },
        average: { parameter, average, count, rate in updateAverage(parameter!, average!, Int(count), rate) })
}

private typealias NetworkPass = @convention(c) (
    UnsafePointer<lopt_rule>?, UnsafePointer<lopt_tensor_view>?, UnsafePointer<lopt_apply>?,
    UnsafePointer<lopt_chunk>?, UnsafeMutablePointer<Double>?, UnsafeMutablePointer<Float>?
) -> Void

/// The kernel for a path. Baseline x86-64, where speed is lost anyway, has no code of its own for narrow networks.
private func networkPass(_ path: Int32) -> NetworkPass {
    switch Int(path) {
    #if !LOPT_BASELINE || arch(arm64)
    case LOPT_PATH_WIDTH4:
        { r, t, a, c, s, m in networkPass(Width4.self, r!.pointee, t!.pointee, a!.pointee, c!.pointee, s!, m!) }
    case LOPT_PATH_WIDTH8:
        { r, t, a, c, s, m in networkPass(Blocked<Eight>.self, r!.pointee, t!.pointee, a!.pointee, c!.pointee, s!, m!) }
    case LOPT_PATH_WIDTH16:
        { r, t, a, c, s, m in networkPass(Blocked<Sixteen>.self, r!.pointee, t!.pointee, a!.pointee, c!.pointee, s!, m!) }
    case LOPT_PATH_WIDTH32:
        { r, t, a, c, s, m in networkPass(Blocked<ThirtyTwo>.self, r!.pointee, t!.pointee, a!.pointee, c!.pointee, s!, m!) }
    #endif
    case LOPT_PATH_BLAS:
        { r, t, a, c, s, m in networkPass(MatrixProducts.self, r!.pointee, t!.pointee, a!.pointee, c!.pointee, s!, m!) }
    default:
        { r, t, a, c, s, m in networkPass(Blocked<AnyWidth>.self, r!.pointee, t!.pointee, a!.pointee, c!.pointee, s!, m!) }
    }
}
