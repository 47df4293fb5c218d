import Foundation
import LOptCore

/// In which ranges the statistics of tensors, and the nominal log-step, lie while weights train the tasks of meta-training:
/// what the extension tensor_ranges clamps to.
///
/// Runs are drawn as meta-training draws them. Each is looked at after steps 1, 2, 3, 5, 8, ... (its first steps count as much as
/// its last), every tensor that was not idle once. Of all values the part `tail` at either end is left out: runs that diverge, and
/// tensors whose units have died. Not so of the numbers of elements and of tensors, which are the tasks' own.
public struct StatisticRanges: Sendable {
    public var runs = 400
    public var tail = 0.003
    public var seed: UInt64 = 1

    public init() {}

    /// Values of one run: for each look and tensor, the statistics and the log-step.
    private typealias Samples = [[Float]]

    /// Weights of the same numbers whose ranges are those measured, and in whose steps idle tensors rest.
    ///
    /// - Parameter progress: told how many runs are done.
    /// - Throws: `LOptMetaError` for weights without the extension tensor_scale.
    public func bounded(
        _ weights: NamedWeights, _ tasks: some TaskSource, unrolls: UnrollDistribution, threads: Int,
        progress: (Int) -> Void = { _ in }
    ) async throws -> NamedWeights {
        let old = weights.weights.architecture
        guard old.tensorScale else {
            throw LOptMetaError("'\(weights.name)' has no extension tensor_scale, and so nothing to clamp")
        }
        var rule = old
        (rule.tensorRanges, rule.skipIdleTensors) = (true, true)
        var done = 0
        let samples = try await concurrentMap(
            (0..<runs).map { Random.mix(seed ^ Random.mix(UInt64($0))) }, threads: threads,
            { try StatisticRanges.samples(unrolls.draw(tasks, seed: $0), weights) },
            done: { _, _ in
                done += 1
                progress(done)
            }
        ).flatMap { $0 }
        var theta = MetaParameters(continuing: weights.weights, extendedBy: rule).base
        let least = rule.offset(of: .tensorRanges), most = least + rule.statistics + 1
        for i in 0...rule.statistics {
            let values = samples.map { $0[i] }.filter(\.isFinite).sorted()
            guard let last = values.indices.last else { continue }
            let isOfTask = i == 1 + 2 * rule.momenta || i == rule.statistics - 1
            let cut = isOfTask ? 0 : Int((tail * Double(values.count)).rounded(.down))
            theta[least + i] = values[cut]
            theta[most + i] = values[last - cut]
        }
        // Whether a tensor is a vector is no measurement.
        theta[least + 2 + 2 * rule.momenta] = 0
        theta[most + 2 + 2 * rule.momenta] = 1
        return try NamedWeights(name: weights.name, architecture: rule, theta: theta)
    }

    private static func samples(_ settings: RunSettings, _ weights: NamedWeights) throws -> Samples {
        var unroll = try Unroll(settings, Objective(), weights: weights.weights)
        var samples: Samples = []
        var next = 1, afterNext = 2
        while !unroll.isFinished {
            _ = unroll.run(next - unroll.step)
            (next, afterNext) = (afterNext, next + afterNext)
            for tensor in settings.task.tensors.indices {
                if let sample = try unroll.lastStatistics(tensor) { samples.append(sample) }
            }
        }
        return samples
    }
}
