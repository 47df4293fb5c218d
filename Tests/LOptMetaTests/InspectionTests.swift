import Foundation
import LOptCore
import Testing

@testable import LOptMeta

struct InspectionTests {
    @Test(arguments: ["star", "star-authors-rule"])
    func `what a file says comes out again, value for value`(name: String) throws {
        let weights = try NamedWeights(name)
        let inspection = WeightsInspection(weights)
        let said = Dictionary(uniqueKeysWithValues: weights.weights.metadata.map { ($0.key, $0.value) })
        #expect(said.count > 10)
        for value in inspection.values {
            guard let text = said[value.key], let file = Double(text) else { continue }
            #expect(Double(value.value) == file, "\(value.key) is \(value.value), the file has \(text)")
        }
        let shown = Set(inspection.values.map(\.key) + inspection.notes.map(\.key) + ["kind", "format_version"])
        #expect(Set(said.keys).subtracting(shown).isEmpty)
        #expect(inspection.notes.contains { $0.key == "provenance" })
    }

    @Test func `the step size is what the optimizer takes where features are 0`() throws {
        // Nominal direction SGD and a bias alone: a step is nominal_stepsize exp(b) g whatever the features.
        var architecture = Architecture()
        architecture.nominalStepsize = 0.02
        architecture.nominalController = true
        architecture.nominalEstimator = .sgd
        architecture.expMult = [1, 1, 1]
        architecture.stepMult = 0
        var theta = [Float](repeating: 0, count: architecture.metaParameters)
        theta[architecture.biasOffset(2) + 2] = -0.7
        let named = try NamedWeights(name: "bias", architecture: architecture, theta: theta)
        let run = try TrainingRun(RunSettings(task: Bowl(curvatures: [1]), horizon: 1, seed: 1), .lopt(named))
        run.advance(1)
        let step = 1 - Double(run.parameters.values[0])
        for size in WeightsInspection(named).stepSizes {
            let nominal = try #require(size.nominal)
            #expect(abs(nominal / step - 1) < 1e-4, "\(nominal) at \(size.t), the step was \(step)")
        }
    }

    @Test func `of kind pooled every number is shown, under the name of what it is multiplied by`() throws {
        let a = Architecture.pooled
        var theta = (0..<a.metaParameters).map { Float($0) / 256 }
        for i in 0..<(PooledTerm.statistics + 2) { theta[a.statisticsRangesOffset + i] = -theta[a.statisticsRangesOffset + i] }
        let inspection = try WeightsInspection(NamedWeights(name: "p", architecture: a, theta: theta)), text = inspection.text
        let pooled = try #require(inspection.pooled)
        #expect(pooled.statistics.count == PooledTerm.count && inspection.ranges.count == PooledTerm.statistics + 2)
        #expect(Set(pooled.statistics.map(\.input)).count == PooledTerm.count)
        let numbers = pooled.statistics.flatMap { [$0.step, $0.stepPerTau, $0.stepAtEnd, $0.decay, $0.decayPerTau, $0.decayAtEnd] }
            + pooled.horizon.flatMap { [$0.step, $0.stepPerLog, $0.decay] } + pooled.direction.flatMap { [$0.weight, $0.perTau] }
            + inspection.ranges.flatMap { [$0.least, $0.most] }
        // All but the decays of accumulators and the schedule, which is in the step sizes.
        #expect(numbers.count == a.metaParameters - 3 - 11)
        #expect(Set(numbers).isSubset(of: Set(theta.map(Double.init))) && Set(numbers).count == numbers.count)
        for number in numbers { #expect(text.contains(String(format: "%.4f", number))) }
        #expect(inspection.decays.count == 3 && !text.contains("blackbox"))
    }

    @Test func `decays are those of the formula`() throws {
        let weights = try NamedWeights("star")
        let theta = Double(weights.weights.theta[1])
        let decay = try #require(WeightsInspection(weights).decays.first { $0.accumulator == "momentum 2" })
        #expect(decay.initial == 0.99)
        let expected: Double = 1 - 0.01 * exp(10 * theta)
        #expect(abs(decay.learned - expected) < 1e-12, "\(decay.learned), not \(expected)")
    }

    @Test func `small_fc has no nominal step, and its text none either`() throws {
        var architecture = Architecture()
        architecture.kind = .smallFC
        let theta = [Float](repeating: 0.1, count: architecture.metaParameters)
        let inspection = try WeightsInspection(NamedWeights(name: "small", architecture: architecture, theta: theta))
        #expect(inspection.kind == "small_fc")
        #expect(inspection.stepSizes.allSatisfy { $0.nominal == nil && $0.blackbox != 0 })
        #expect(inspection.tensorScales.isEmpty && !inspection.text.contains("nominal_"))
    }
}
