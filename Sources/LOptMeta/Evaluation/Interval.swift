import Foundation

/// A figure over tasks and between which values it lies when the tasks are drawn again: the 95 % interval of the
/// bootstrap, percentiles of 2,000 resamples (Efron 1979).
public struct Interval: Codable, Equatable, Sendable {
    public let value: Double
    public let low: Double
    public let high: Double

    private static let resamples = 2000

    /// Of `statistic` of the sample, which must not be empty. The draws are the same every time.
    static func bootstrap(_ sample: [Double], _ statistic: ([Double]) -> Double) -> Interval {
        var random = Random(0x626f_6f74, UInt64(sample.count))
        var values = (0..<resamples).map { _ in
            statistic(sample.indices.map { _ in sample[random.index(sample.count)] })
        }
        values.sort()
        return Interval(
            value: statistic(sample), low: values[resamples * 25 / 1000], high: values[resamples * 975 / 1000 - 1])
    }

    /// nil for an empty sample; the numbers must be positive.
    static func geometricMean(_ sample: [Double]) -> Interval? {
        guard !sample.isEmpty else { return nil }
        let mean = bootstrap(sample.map { log($0) }) { $0.reduce(0, +) / Double($0.count) }
        return Interval(value: exp(mean.value), low: exp(mean.low), high: exp(mean.high))
    }

    /// nil for an empty sample; of an even number the lower of the two in the middle.
    static func lowerMedian(_ sample: [Double]) -> Interval? {
        sample.isEmpty ? nil : bootstrap(sample) { $0.sorted()[($0.count - 1) / 2] }
    }

    /// How many of the sample hold.
    static func count(_ sample: [Bool]) -> Interval? {
        sample.isEmpty ? nil : bootstrap(sample.map { $0 ? 1 : 0 }) { $0.reduce(0, +) }
    }
}
