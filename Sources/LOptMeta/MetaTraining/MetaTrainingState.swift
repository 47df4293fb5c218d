/// Where meta-training stands between two outer steps: with it, a run goes on bit for bit.
public struct MetaTrainingState: Codable, Sendable {
    public internal(set) var configuration: MetaTrainingConfiguration
    /// Updates made.
    public internal(set) var outerStep = 0
    /// z after the last updates, oldest first: as many as the delay asks for, and one.
    var iterates: [[Double]]
    public internal(set) var average: [Double]
    var outer: OuterOptimizer
    /// Estimates of outer steps that are ahead, by outer step.
    var pending: [[PairEstimate]] = []
    /// PES: the pairs that live.
    var persistent: [PersistentPairSnapshot] = []
    public internal(set) var innerSteps = 0
    /// Of all processes that worked on it.
    public internal(set) var seconds = 0.0
    public internal(set) var curve: [MetaTrainingPoint] = []
    /// Sums since the last point of the curve.
    var recent = Recent()

    struct Recent: Codable, Sendable {
        var value = 0.0
        var pairs = 0
        var diverged = 0
    }

    /// Of the next outer step.
    public var currentStage: MetaTrainingConfiguration.Stage {
        configuration.stages[configuration.stage(of: outerStep).index]
    }
    /// Inner steps that are left, given what an outer step of each stage takes.
    public func innerStepsLeft(_ expected: [Double]) -> Double {
        let (index, step) = configuration.stage(of: outerStep)
        var left = Double(configuration.stages[index].outerSteps - step) * expected[index]
        for later in configuration.stages.indices.dropFirst(index + 1) {
            left += Double(configuration.stages[later].outerSteps) * expected[later]
        }
        return left
    }
    /// Means since the last point of the curve.
    public var recentObjective: Double { recent.value / Double(max(recent.pairs, 1)) }
    public var recentDiverged: Double { Double(recent.diverged) / Double(max(2 * recent.pairs, 1)) }

    init(_ configuration: MetaTrainingConfiguration, count: Int) {
        self.configuration = configuration
        iterates = [[Double](repeating: 0, count: count)]
        average = iterates[0]
        outer = OuterOptimizer(count: count)
    }

    /// The iterate after `updates` updates; none are before the first.
    func iterate(after updates: Int) -> [Double] {
        iterates[max(iterates.count - 1 - (outerStep - max(updates, 0)), 0)]
    }
}

/// A point of the meta-training curve: means over the outer steps since the one before.
public struct MetaTrainingPoint: Codable, Sendable {
    public var outerStep: Int
    public var seconds: Double
    public var innerSteps: Int
    /// The objective of the perturbed unrolls.
    public var objective: Double
    /// Part of the unrolls that diverged.
    public var diverged: Double
    /// The objective of the averaged weights on the validation unrolls, where it was computed.
    public var validation: Double?
}
