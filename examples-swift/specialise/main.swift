// Specialises the shipped weights to one workload, and shows what that gained.
//
//     swift run -c release specialise [MINUTES] [FOLDER]
//
// The workload is in Arm.swift; to take one of your own, write a TrainingTask like it and name it here. A workload in C needs no
// Swift: `lopt specialise` takes it.
import Foundation
import LOptMeta

/// Ends the process with a line on standard error.
func end(_ line: String, _ code: Int32) -> Never {
    try? FileHandle.standardError.write(contentsOf: Data((line + "\n").utf8))
    exit(code)
}

let arguments = CommandLine.arguments
guard let minutes = arguments.count > 1 ? Double(arguments[1]) : 10, minutes > 0, minutes.isFinite, arguments.count <= 3 else {
    end("usage: specialise [MINUTES] [FOLDER]     (MINUTES is a number above 0, 10 if not given; FOLDER is specialised)", 2)
}
do {
    try await specialise(Arm(), minutes: minutes, directory: RunDirectory(arguments.count > 2 ? arguments[2] : "specialised"))
} catch {
    end("specialise: \(error)", 1)
}
if fflush(nil) != 0 { end("specialise: the output cannot be written", 1) }

func specialise(_ workload: some TrainingTask, minutes: Double, directory: RunDirectory) async throws {
    // From the shipped weights on, for training runs of 2,000 steps and less.
    let specialisation = try Specialisation(of: workload, from: NamedWeights("pooled"), steps: 2000)
    print("specialising 'pooled' to \(workload.name), \(workload.parameterCount) parameters, for \(minutes) minutes")
    var clock = ProgressClock(every: .seconds(10))
    let specialised = try await specialisation.train(minutes: minutes, into: directory, commit: "unknown") { state, share in
        if let left = clock.tick(share)?.left {
            print("  outer step \(state.outerStep), objective \(String(format: "%.3f", state.recentObjective)), \(left) left")
            fflush(nil)
        }
        return .goOn
    }
    // Before and after, and tuned AdamW, on starts and minibatches that were in no unroll.
    clock = ProgressClock()
    print(
        try await specialisation.compare(specialised, in: directory.url) { progress in
            if let left = clock.tick(progress.share)?.left { print("  comparing: \(Int(100 * progress.share)) %, \(left) left") }
        })
    print("weights: \(directory.weightsURL.path); scripts/plot \(directory.url.path) draws the curves")
}
