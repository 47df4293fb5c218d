import LOptCore

/// The configurations that this project's own weights are made with.
public enum Recipe: String, CaseIterable, Sendable {
    /// STAR with the extensions tensor_scale, tensor_schedule and nominal_epsilon: the default weights.
    case star
    /// STAR as the authors' code has it: the ablation.
    case starAuthorsRule = "star-authors-rule"
    /// The baseline.
    case smallFC = "small_fc"

    /// `effort` multiplies the outer steps of all stages.
    public func configuration(effort: Double = 1, seed: UInt64 = 1) -> MetaTrainingConfiguration {
        func steps(_ count: Double) -> Int { max(Int((count * effort).rounded()), 1) }
        var configuration: MetaTrainingConfiguration
        switch self {
        case .star, .starAuthorsRule:
            // The nominal term alone, which few numbers describe: first its size, then its late decay, which only long unrolls
            // see, then both. The network's hundreds made it worse each time (docs/meta-training.md).
            var nominal = MetaTrainingConfiguration.Stage("nominal", outerSteps: steps(1500), groups: [.decays, .nominal])
            nominal.sigma = 0.05
            nominal.learningRate = 1e-2
            nominal.pairs = 12
            nominal.clip = 2
            nominal.unrolls.longestHorizon = 4000
            nominal.unrolls.scheduled = 0.35
            nominal.unrolls.heldOut = 0.3
            var late = nominal
            late.name = "late"
            late.outerSteps = steps(300)
            late.groups = [.decays, .nominal, .lateDecay]
            late.learningRate = 5e-3
            late.pairs = 8
            late.unrolls.shortestHorizon = 1000
            late.unrolls.longestHorizon = 12_000
            late.unrolls.freeCost = 100_000
            var long = late
            long.name = "long"
            long.outerSteps = steps(700)
            long.sigma = 0.04
            long.learningRate = 4e-3
            long.pairs = 12
            long.unrolls.shortestHorizon = 100
            long.unrolls.longestHorizon = 15_000
            configuration = MetaTrainingConfiguration(stages: [nominal, late, long])
            configuration.rule = .star(extensions: self == .star)
        case .smallFC:
            var short = MetaTrainingConfiguration.Stage("short", outerSteps: steps(3000), groups: [.decays, .network])
            short.learningRate = 5e-3
            short.unrolls.longestHorizon = 500
            var network = short
            network.name = "network"
            network.outerSteps = steps(8000)
            network.learningRate = 2e-3
            network.unrolls.shortestHorizon = 100
            network.unrolls.longestHorizon = 6000
            configuration = MetaTrainingConfiguration(stages: [short, network])
            configuration.rule = .smallFC
        }
        configuration.seed = seed
        return configuration
    }
}
