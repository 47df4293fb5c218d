import Foundation
import Testing

@testable import LOptMeta

@Suite struct MetaTrainingCurvesTests {
    /// A run of a few outer steps in a folder of its own, with two validations.
    private func run(_ folder: URL, _ name: String, floor: Double = 1e-3) async throws -> RunDirectory {
        var configuration = MetaTrainingTests.configuration(.full)
        configuration.objective.floor = floor
        let trainer = try MetaTrainingTests.trainer(configuration, threads: 2)
        var value = -1.0
        while !trainer.isFinished {
            let stop = trainer.state.outerStep + 7
            try await trainer.run { $0.outerStep < stop ? .goOn : .stop }
            trainer.record(validation: value)
            value -= 0.5
        }
        let directory = RunDirectory(folder.appending(path: name).path)
        try directory.create()
        let checkpoint = RunDirectory.Checkpoint(
            state: try trainer.checkpoint(), start: trainer.parameters.base, startName: "structured", tasks: "bowls",
            commit: "none", dataSources: ["bowls"])
        try directory.write(checkpoint, weights: trainer.weights())
        return directory
    }

    @Test func `runs are shown beside each other, with their last and best validation`() async throws {
        let scratch = ScratchDirectory()
        let curves = try MetaTrainingCurves([await run(scratch.url, "one"), await run(scratch.url, "two")])
        #expect(curves.runs.map(\.name) == ["one", "two"])
        #expect(curves.runs.allSatisfy { $0.points.map(\.objective) == [-1, -1.5] && $0.outerSteps == 14 })
        #expect(curves.text.contains("-1.5000"))
    }

    @Test func `runs that cannot be compared are refused by name`() async throws {
        let scratch = ScratchDirectory()
        let one = try await run(scratch.url, "one"), other = try await run(scratch.url, "other", floor: 1e-6)
        #expect { try MetaTrainingCurves([one, other]) } throws: { "\($0)".contains("'other' has another objective") }
        let missing = RunDirectory(scratch.url.appending(path: "missing").path)
        #expect { try MetaTrainingCurves([missing]) } throws: { "\($0)".contains("run.json' cannot be read: No such file") }
    }
}
