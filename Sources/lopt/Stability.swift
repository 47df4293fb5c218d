import ArgumentParser
import Foundation
import LOptMeta

struct Stability: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Linear stability of weights in the noisy quadratic model, beside Adam and SGD.",
        discussion: """
            The optimizer rests at a minimum and is driven by gradient noise for some steps; then its answer to small \
            deviations of parameters, gradient and momenta is measured. From that follow the spectral radius in a direction \
            of any curvature, and the largest curvature at which it stays below 1: for the whole rule, and with the nominal \
            term, the preconditioning or the blackbox off.
            """)

    @Option(help: ArgumentHelp("\(weightsKinds); may be given several times."))
    var weights: [String] = ["pooled"]

    @Option(help: "Steps taken before, separated by commas.")
    var steps = "1000"

    @Option(help: "Standard deviations of the gradient's elements, separated by commas.")
    var noise = "1e-4,1e-3,1e-2,1e-1,1"

    @Option(help: "Root mean square of the parameters.")
    var parameterSize = 0.1

    @Option(help: "Directory for the same as JSON, which scripts/plot draws; none is written without it.")
    var out: String?

    func validate() throws {
        _ = try (stepList(), noiseList())
        guard parameterSize > 0, parameterSize.isFinite else {
            throw ValidationError("--parameter-size is \(parameterSize); it must be above 0")
        }
    }

    func run() throws {
        var probe = ResponseProbe()
        probe.parameterSize = parameterSize
        for named in try NamedWeights.all(weights) {
            for steps in try stepList() {
                let report = try StabilityReport(named, steps: steps, noises: noiseList(), probe: probe)
                print(report.text)
                if let out { try report.write(to: URL(fileURLWithPath: out, isDirectory: true)) }
            }
        }
    }

    private func stepList() throws -> [Int] {
        try splitList(steps).map { text in
            guard let number = Int(text), (1...1_000_000).contains(number) else {
                throw ValidationError("--steps has '\(text)'; allowed are whole numbers from 1 to 1000000")
            }
            return number
        }
    }

    private func noiseList() throws -> [Double] {
        try splitList(noise).map { text in
            guard let number = Double(text), number >= 1e-12, number <= 1e12 else {
                throw ValidationError("--noise has '\(text)'; allowed are numbers from 1e-12 to 1e12")
            }
            return number
        }
    }
}
