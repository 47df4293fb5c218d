import ArgumentParser
import LOptMeta

struct Curves: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Compares meta-training runs: validation objective over inner steps.",
        discussion: """
            Reads RUN/run.json of every folder given and prints where each run stands. Runs must have the same objective. Lower \
            is better. scripts/plot draws the curves into one picture.

              lopt curves runs/star runs/small_fc
            """)

    @Argument(help: "Folders of lopt meta-train.")
    var runs: [String]

    func run() throws {
        print(try MetaTrainingCurves(runs.map { RunDirectory($0) }).text)
    }
}
