import ArgumentParser
import Foundation
import LOptMeta

struct Curves: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Compares meta-training runs: validation objective over inner steps.",
        discussion: """
            Reads RUN/run.json of every folder given, prints where each run stands and draws the curves into one picture. \
            Runs must have the same objective. Lower is better.

              lopt curves runs/star runs/small_fc --out curves.svg
            """)

    @Argument(help: "Folders of lopt meta-train.")
    var runs: [String]

    @Option(help: "The picture.")
    var out = "curves.svg"

    func run() throws {
        let curves = try MetaTrainingCurves(runs.map { RunDirectory($0) })
        try curves.writeChart(to: URL(filePath: out))
        print(curves.text)
        print("\nwritten to \(out)")
    }
}
