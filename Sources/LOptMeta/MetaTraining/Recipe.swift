import LOptCore

/// The configurations that this project's own weights are made with.
public enum Recipe: String, CaseIterable, Sendable {
    /// The rule of the default weights, which came from its twin in meta-jax/.
    case pooled
    /// STAR with the extensions tensor_scale, tensor_schedule, tensor_count and nominal_epsilon.
    case star
    /// STAR as the authors' code has it: the ablation.
    case starAuthorsRule = "star-authors-rule"
    /// The baseline.
    case smallFC = "small_fc"
    /// The paper's comparison of the two rules: all numbers of each, on one task of 2,000 steps, alike but for the learning rate, of which each
    /// has the one that suits it.
    case starOneTask = "star-one-task"
    case smallFCOneTask = "small_fc-one-task"

    /// `effort` multiplies the outer steps of all stages.
    public func configuration(effort: Double = 1, seed: UInt64 = 1) -> MetaTrainingConfiguration {
        func steps(_ count: Double) -> Int { max(Int((count * effort).rounded()), 1) }
        var configuration: MetaTrainingConfiguration
        switch self {
        case .pooled:
            // Many pairs that live long, each taken a little further in every outer step; the objective is that of meta-jax/.
            var stage = MetaTrainingConfiguration.Stage(
                "pooled", outerSteps: steps(30_000), groups: MetaParameters.Group.ofPooled)
            (stage.method, stage.pairs, stage.rounds, stage.sigma, stage.learningRate) = (.nres, 32, 2, 0.05, 6e-3)
            stage.clip = 10
            (stage.unrolls.shortestHorizon, stage.unrolls.longestHorizon, stage.unrolls.freeCost) = (100, 12_000, 30_000)
            (stage.unrolls.scheduled, stage.unrolls.reparameterized) = (0.3, 0.4)
            var episodes = Episodes()
            (episodes.training, episodes.heldOut, episodes.trainingEnd, episodes.heldOutEnd) = (0.03, 0.5, 0.05, 1.5)
            stage.episodes = episodes
            configuration = MetaTrainingConfiguration(stages: [stage])
            (configuration.rule, configuration.delay, configuration.averaging) = (.pooled, 1, 0.995)
        case .star, .starAuthorsRule:
            // The nominal term alone, which few numbers describe: first its size, then its late decay, which only long unrolls
            // see, then both. The network's hundreds made it worse each time (docs/meta-training.md).
            func stage(
                _ name: String, _ count: Double, _ groups: [MetaParameters.Group], pairs: Int, sigma: Double, learningRate: Double,
                horizons: ClosedRange<Int>, freeCost: Double
            ) -> MetaTrainingConfiguration.Stage {
                var stage = MetaTrainingConfiguration.Stage(name, outerSteps: steps(count), groups: groups)
                (stage.pairs, stage.sigma, stage.learningRate, stage.clip) = (pairs, sigma, learningRate, 2)
                (stage.unrolls.shortestHorizon, stage.unrolls.longestHorizon) = (horizons.lowerBound, horizons.upperBound)
                (stage.unrolls.freeCost, stage.unrolls.scheduled, stage.unrolls.heldOut) = (freeCost, 0.35, 0.3)
                return stage
            }
            configuration = MetaTrainingConfiguration(stages: [
                stage(
                    "nominal", 1500, [.decays, .nominal], pairs: 12, sigma: 0.05, learningRate: 1e-2, horizons: 50...4000,
                    freeCost: 3000),
                stage(
                    "late", 300, [.decays, .nominal, .lateDecay], pairs: 8, sigma: 0.05, learningRate: 5e-3,
                    horizons: 1000...12_000, freeCost: 100_000),
                stage(
                    "long", 700, [.decays, .nominal, .lateDecay], pairs: 12, sigma: 0.04, learningRate: 4e-3,
                    horizons: 100...15_000, freeCost: 100_000),
            ])
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
        case .starOneTask, .smallFCOneTask:
            let isStar = self == .starOneTask
            var stage = MetaTrainingConfiguration.Stage(
                "task", outerSteps: steps(750), groups: isStar ? [.decays, .nominal, .lateDecay, .network] : [.decays, .network])
            (stage.method, stage.pairs, stage.rounds, stage.sigma, stage.learningRate, stage.clip) = (.nres, 8, 4, 0.05, isStar ? 5e-3 : 1e-2, 2)
            (stage.unrolls.shortestHorizon, stage.unrolls.longestHorizon, stage.unrolls.freeCost) = (2000, 2000, 0)
            (stage.unrolls.scheduled, stage.unrolls.reparameterized, stage.unrolls.heldOut) = (0, 0, 0)
            // Training losses alone, along the way and at the end.
            var episodes = Episodes()
            (episodes.known, episodes.gated) = (0, 0)
            (episodes.training, episodes.heldOut, episodes.trainingEnd, episodes.heldOutEnd) = (0.7, 0, 0.3, 0)
            stage.episodes = episodes
            configuration = MetaTrainingConfiguration(stages: [stage])
            configuration.rule = isStar ? .star(extensions: false) : .smallFC
        }
        configuration.seed = seed
        return configuration
    }
}
