import Foundation
import LOptCore
import Testing

@testable import LOptMeta

@Suite("Ranges of statistics")
struct StatisticRangesTests {
    static func short() -> (StatisticRanges, MetaTrainingConfiguration.Stage) {
        var ranges = StatisticRanges(), stage = MetaTrainingConfiguration.Stage("short", outerSteps: 1, groups: [.step])
        (ranges.runs, ranges.tail) = (6, 0)
        (stage.unrolls.shortestHorizon, stage.unrolls.longestHorizon, stage.unrolls.freeCost) = (10, 30, 0)
        return (ranges, stage)
    }

    /// Of statistics that stand in a tensor's shape, the range is that of the tensors in the runs.
    @Test func `of kind pooled they become those of the runs, never wider, and nothing else changes`() async throws {
        var (ranges, stage) = Self.short(), episodes = Episodes()
        let tasks = try TaskDistribution(), named = try NamedWeights("pooled")
        (episodes.known, episodes.gated) = (0.5, 0.5)
        stage.episodes = episodes
        let a = named.weights.architecture, least = a.statisticsRangesOffset, most = least + PooledTerm.statistics + 2
        let bounded = try await ranges.bounded(named, tasks, stage: stage, threads: 2)
        let again = try await ranges.bounded(named, tasks, stage: stage, threads: 1)
        #expect(again.digest == bounded.digest && bounded.digest != named.digest)
        for i in 0..<a.metaParameters where !(least..<least + 2 * (PooledTerm.statistics + 2)).contains(i) {
            #expect(bounded.weights.theta[i] == named.weights.theta[i])
        }
        for i in 0..<(PooledTerm.statistics + 2) {
            let before = named.weights.theta[least + i]...named.weights.theta[most + i]
            let now = bounded.weights.theta[least + i]...bounded.weights.theta[most + i]
            #expect(before.contains(now.lowerBound) && before.contains(now.upperBound), "statistic \(i)")
        }
        var sizes: [Float] = []
        for run in 0..<ranges.runs {
            let task = stage.unrolls.draw(tasks, seed: Random.mix(ranges.seed ^ Random.mix(UInt64(run)))).task
            for tensor in task.tensors { sizes.append(Float(log(Double(tensor.count)) / 5 - 1)) }
        }
        let before = named.weights.theta[least + PooledTerm.elements]...named.weights.theta[most + PooledTerm.elements]
        let smallest = try #require(sizes.min()), largest = try #require(sizes.max())
        let expected = (smallest...largest).clamped(to: before)
        #expect(abs(bounded.weights.theta[least + PooledTerm.elements] - expected.lowerBound) < 1e-6)
        #expect(abs(bounded.weights.theta[most + PooledTerm.elements] - expected.upperBound) < 1e-6)
    }

    @Test func `of star they join the weights, in whose steps idle tensors rest`() async throws {
        let (ranges, stage) = Self.short(), tasks = try TaskDistribution()
        let bounded = try await ranges.bounded(try NamedWeights("star"), tasks, stage: stage, threads: 2)
        let a = bounded.weights.architecture, least = a.offset(of: .tensorRanges), most = least + a.statistics + 1
        #expect(a.tensorRanges && a.skipIdleTensors)
        for i in 0...a.statistics { #expect(bounded.weights.theta[least + i] <= bounded.weights.theta[most + i]) }
        #expect(bounded.weights.theta[least + a.statistics] > -10 && bounded.weights.theta[most + a.statistics] < 10)
    }

    @Test func `weights with nothing to clamp are refused by name`() async throws {
        let (ranges, stage) = Self.short(), tasks = try TaskDistribution(), named = try NamedWeights("star-authors-rule")
        await #expect { try await ranges.bounded(named, tasks, stage: stage, threads: 1) } throws: {
            "\($0)" == "'star-authors-rule' has no extension tensor_scale, and so nothing to clamp"
        }
    }
}
