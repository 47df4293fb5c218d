import ArgumentParser
import Foundation
import LOptMeta

struct Inspect: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Prints what is in a weights file: rule, provenance, decays, step sizes.")

    @Argument(help: ArgumentHelp("\(weightsKinds)."))
    var weights: String

    @Flag(help: "As JSON.")
    var json = false

    func run() throws {
        let inspection = WeightsInspection(try NamedWeights(weights))
        guard json else { return print(inspection.text, terminator: "") }
        print(String(decoding: try JSONEncoder.readable.encode(inspection), as: UTF8.self))
    }
}
