import ArgumentParser
import CLOpt
@preconcurrency import Foundation

/// What `NamedWeights` takes.
let weightsKinds = "A weights file, a folder of lopt meta-train or the name of built-in weights"

@main
struct LOpt: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "lopt",
        abstract: "Meta-trains, evaluates and inspects the weights of learned optimizers.",
        discussion: "Ends with 0, with 1 and a line on what failed, or with 2 for a mistake on the command line.",
        version: "\(LOPT_VERSION_MAJOR).\(LOPT_VERSION_MINOR).\(LOPT_VERSION_PATCH)",
        subcommands: [
            MetaTrain.self, Specialise.self, Convert.self, Evaluate.self, Stress.self, Inspect.self, Stability.self, Curves.self, Ranges.self,
        ])

    static func main() async {
        OpenBLASKernels.choose()
        do {
            var command = try parseAsRoot()
            if var command = command as? any AsyncParsableCommand { try await command.run() } else { try command.run() }
            end(0)
        } catch {
            // Help and version come this way too, with a code of success.
            let code = exitCode(for: error), message = fullMessage(for: error)
            if code.isSuccess { print(message) } else { standardError(message) }
            end(code == .validationFailure ? 2 : code.rawValue)
        }
    }

    /// What was printed may still lie in a buffer, and the disk may be full: not to be passed over.
    private static func end(_ code: Int32) -> Never {
        if fflush(stdout) != 0 || ferror(stdout) != 0 {
            standardError("Error: the output cannot be written")
            Foundation.exit(code == 0 ? 1 : code)
        }
        Foundation.exit(code)
    }
}
