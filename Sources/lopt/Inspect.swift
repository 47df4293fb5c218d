import ArgumentParser
import Foundation
import LOptMeta

struct Inspect: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Prints what is in a weights file: rule, provenance, decays, step sizes.")

    @Argument(help: "A weights file, a folder of lopt meta-train or the name of built-in weights.")
    var weights: String

    @Flag(help: "As JSON.")
    var json = false

    func run() throws {
        let inspection = WeightsInspection(try NamedWeights(weights))
        guard json else { return print(inspection.text, terminator: "") }
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
        encoder.nonConformingFloatEncodingStrategy = .convertToString(
            positiveInfinity: "inf", negativeInfinity: "-inf", nan: "nan")
        print(String(decoding: try encoder.encode(inspection), as: UTF8.self))
    }
}
