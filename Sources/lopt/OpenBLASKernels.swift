import COpenBLAS
import Foundation
import LOptCore

/// OpenBLAS takes its kernels by the processor's model. One that its version does not know, as many virtual machines show, gets the oldest ones
/// (Prescott), with which meta-training took twice as long on a Xeon with AVX-512. `OPENBLAS_CORETYPE`, which is read while the library
/// is loaded, says better.
enum OpenBLASKernels {
    private static let variable = "OPENBLAS_CORETYPE"

    /// Starts this process anew with kernels for the processor's instruction set, if those are not: before anything else. With the variable set,
    /// to whatever, nothing happens.
    static func choose() {
        guard getenv(variable) == nil, let name = openblas_get_corename(), String(cString: name) == "Prescott" else { return }
        let better: String
        switch InstructionSet.available {
        case .avx512: better = "SkylakeX"
        case .avx2: better = "Haswell"
        default: return
        }
        setenv(variable, better, 1)
        execv("/proc/self/exe", CommandLine.unsafeArgv)
        // It could not be: slower, as before.
        unsetenv(variable)
    }
}
