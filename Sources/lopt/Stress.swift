import ArgumentParser
import Foundation
import LOptMeta

struct Stress: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Runs learned optimizers through trainings that have wrecked optimizers, beside Adam.",
        discussion: """
            Small networks on generated data, 3 seeds each: gradients that vanish, come in bursts or spikes, layers that rest in \
            turns, losses and starts in other units, an optimizer for each layer, the whole network as one vector, sigmoid \
            networks with a squared error. Prints the last loss over the first, in brackets the largest on the way, and marks \
            what rose more than a tenth above its start. It takes half a minute on two cores, and the same numbers come every time.

              lopt stress
              lopt stress --weights runs/a
            """)

    @Option(help: ArgumentHelp("\(weightsKinds); may be given several times."))
    var weights: [String] = ["pooled"]

    @Option(help: "Patterns at a time; the default is the number of processors.")
    var threads = ProcessInfo.processInfo.activeProcessorCount

    func validate() throws {
        guard (1...1024).contains(threads) else { throw ValidationError("--threads is \(threads); allowed are 1 to 1024") }
    }

    func run() async throws {
        print(try await StressTable(weights: NamedWeights.all(weights), threads: threads).text, terminator: "")
    }
}
