import ArgumentParser
import Foundation

/// Of commands that run on all processors unless told otherwise.
struct ThreadOptions: ParsableArguments {
    @Option(help: "Threads, under mpirun of each rank; 0 is one for each processor that it may use.")
    var threads = 0

    var count: Int { threads == 0 ? ProcessInfo.processInfo.activeProcessorCount : threads }

    func validate() throws {
        guard (0...1024).contains(threads) else { throw ValidationError("--threads is \(threads); allowed are 0 to 1024") }
    }
}
