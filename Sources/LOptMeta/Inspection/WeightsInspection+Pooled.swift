import Foundation
import LOptCore
import LOptReference

extension WeightsInspection {
    /// What weights of kind pooled have learned. Log-step and log-decay are sums of these numbers times what stands beside them.
    public struct Pooled: Codable, Sendable {
        public struct Weight: Codable, Sendable {
            /// A statistic of a tensor, or 1.
            public let input: String
            public let step: Double
            /// Added to `step` for each unit of tau = log(1 + min(t, 30000) / 30) / 5; likewise of the decay.
            public let stepPerTau: Double
            /// Added to `step` at the end, and in proportion before it, where the number of steps is known.
            public let stepAtEnd: Double
            public let decay: Double
            public let decayPerTau: Double
            public let decayAtEnd: Double
        }
        public struct Horizon: Codable, Sendable {
            /// t / total_steps.
            public let part: Double
            /// Added to the log-step, and for each unit of log(total_steps) / 2 - 3.4.
            public let step: Double
            public let stepPerLog: Double
            /// Added to the log-decay.
            public let decay: Double
        }
        public struct Direction: Codable, Sendable {
            public let term: String
            public let weight: Double
            public let perTau: Double
        }

        public let statistics: [Weight]
        public let horizon: [Horizon]
        public let direction: [Direction]
    }

    /// The statistics of a tensor, in the order of the columns of statistics_step and statistics_ranges.
    static let statisticNames = ["log RMS(p)"] + (1...2).map { "log RMS(m\($0) rsqrt(v))" } + ["log RMS(g rsqrt(v))"]
        + (1...2).map { "cosine of g and m\($0)" } + ["mean |g rsqrt(v)| / RMS", "log RMS(g) / peak", "log slow RMS(g) / peak"]
        + ["log RMS(update) / RMS(p)", "log elements", "rank < 2", "log least extent", "log tensors"]
        + ["first layer", "last layer", "log width of inputs", "log width of outputs"]

    static func decays(_ rule: ReferencePooled) -> [Decay] {
        (0..<2).map { k in
            Decay(
                accumulator: "momentum \(k + 1)", initial: rule.architecture.initialMomentumDecays[k],
                learned: 1 - rule.momentumRate(k))
        } + [Decay(accumulator: "second moment", initial: rule.architecture.initialRMSDecay, learned: 1 - rule.secondMomentRate)]
    }

    static func stepSize(_ rule: ReferencePooled, t: Int) -> StepSize {
        let logs = rule.logs(t, Array(repeating: 0, count: PooledTerm.statistics))
        let size = rule.architecture.nominalStepsize * exp(logs.step)
        return StepSize(t: t, nominal: size, blackbox: nil, decay: min(size * exp(logs.decay), ReferencePooled.largestDecay))
    }

    static func ranges(_ rule: ReferencePooled) -> [Range] {
        let offset = rule.architecture.statisticsRangesOffset, names = statisticNames + ["log-step", "log-decay"]
        return names.enumerated().map { i, name in
            Range(input: name, least: rule.theta[offset + i], most: rule.theta[offset + names.count + i])
        }
    }
}

extension WeightsInspection.Pooled {
    init(_ rule: ReferencePooled) {
        let a = rule.architecture, theta = rule.theta, terms = PooledTerm.count
        statistics = (WeightsInspection.statisticNames + ["1"]).enumerated().map { i, name in
            Weight(
                input: name, step: theta[a.statisticsStepOffset + i], stepPerTau: theta[a.statisticsStepOffset + terms + i],
                stepAtEnd: theta[a.statisticsStepOffset + 2 * terms + i], decay: theta[a.statisticsDecayOffset + i],
                decayPerTau: theta[a.statisticsDecayOffset + terms + i], decayAtEnd: theta[a.statisticsDecayOffset + 2 * terms + i])
        }
        let parts = Architecture.horizonParts.count
        horizon = (0..<parts).map { i in
            Horizon(
                part: Architecture.horizonParts[i], step: theta[a.horizonStepOffset + i],
                stepPerLog: theta[a.horizonStepOffset + parts + i], decay: theta[a.horizonDecayOffset + i])
        }
        direction = ["m1 rsqrt(v)", "m2 rsqrt(v)", "g rsqrt(v)", "factor where these disagree"].enumerated().map { i, term in
            Direction(
                term: term, weight: theta[a.directionOffset + i],
                perTau: theta[a.directionOffset + Architecture.directionTerms + i])
        }
    }

    var text: String {
        func number(_ x: Double) -> String { String(format: "%.4f", x) }
        var weights = TextTable(header: ["statistic", "log-step", "times tau", "times x", "log-decay", "times tau", "times x"])
        for one in statistics {
            weights.add(
                [one.input] + [one.step, one.stepPerTau, one.stepAtEnd, one.decay, one.decayPerTau, one.decayAtEnd].map(number))
        }
        var ends = TextTable(header: ["t / total_steps", "log-step", "times log(total_steps) / 2 - 3.4", "log-decay"])
        for one in horizon { ends.add([String(format: "%.2f", one.part)] + [one.step, one.stepPerLog, one.decay].map(number)) }
        var terms = TextTable(header: ["direction", "weight", "times tau"])
        for one in direction { terms.add([one.term, number(one.weight), number(one.perTau)]) }
        return weights.text + "\n(tau is log(1 + min(t, 30000) / 30) / 5, x is t / total_steps, 0 where that is not known)\n\n" + ends.text + "\n\n" + terms.text
    }
}
