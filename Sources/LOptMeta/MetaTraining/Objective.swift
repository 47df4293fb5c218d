import Foundation

/// What an unroll is worth: a number that is lower for a better run, 0 for one that learns nothing.
///
/// The run is cut into `segments` equal parts. A part's value is log((L/L0 + floor) / (1 + floor)) of its mean loss L and the
/// first loss L0, at most `cap`; a diverged part has `cap`. The objective is
/// trajectoryWeight * mean over all parts + (1 - trajectoryWeight) * mean over the last tenth of them.
///
/// The logarithm needs no baseline: what is common to a pair of unrolls cancels in their difference.
public struct Objective: Codable, Equatable, Sendable {
    public var trajectoryWeight = 0.3
    /// Losses below this part of the first one count as no better.
    public var floor = 1e-5
    public var cap = 1.4
    public var segments = 20

    public init() {}

    public func value(meanLoss: Double, first: Double) -> Double {
        let ratio = meanLoss / first
        guard ratio.isFinite, ratio >= 0 else { return cap }
        return min(log((ratio + floor) / (1 + floor)), cap)
    }

    /// Segment of step `step` of `horizon`.
    func segment(_ step: Int, of horizon: Int) -> Int { min(step * segments / horizon, segments - 1) }

    /// Of all segments' values.
    public func combine(_ values: [Double]) -> Double {
        let last = max(values.count / 10, 1)
        let mean = values.reduce(0, +) / Double(values.count)
        let end = values.suffix(last).reduce(0, +) / Double(last)
        return trajectoryWeight * mean + (1 - trajectoryWeight) * end
    }

    /// What segment `index` adds to `combine` of `count` values for each unit of its own value.
    func weight(_ index: Int) -> Double {
        let last = max(segments / 10, 1)
        let end = index >= segments - last ? (1 - trajectoryWeight) / Double(last) : 0
        return trajectoryWeight / Double(segments) + end
    }
}
