/// What held-out data said at moments of a run. Empty where a task has none.
public struct HeldOutCurve: Codable, Equatable, Sendable {
    /// Ascending, each a number of steps taken.
    public internal(set) var steps: [Int] = []
    /// nil: not finite.
    public internal(set) var losses: [Double?] = []
    /// Parts of the examples in 0 ... 1; nil where it is no classification.
    public internal(set) var accuracies: [Double]?

    /// In percent of a horizon: every twentieth of it, and some before the first.
    private static let percents = [1, 2, 3, 5, 8] + Array(stride(from: 10, through: 100, by: 5))

    /// The moments that count for a horizon, the last one its end.
    public static func points(horizon: Int) -> [Int] {
        Set(percents.map { max(1, horizon * $0 / 100) }).sorted()
    }

    public static func points(horizons: [Int]) -> [Int] { Set(horizons.flatMap { points(horizon: $0) }).sorted() }

    mutating func add(_ step: Int, _ score: HeldOutScore) {
        steps.append(step)
        losses.append(score.loss.isFinite ? Double(score.loss) : nil)
        if let accuracy = score.accuracy { accuracies = (accuracies ?? []) + [Double(accuracy)] }
    }

    func restricted(to points: [Int]) -> HeldOutCurve {
        let points = Set(points), kept = steps.indices.filter { points.contains(steps[$0]) }
        var result = HeldOutCurve()
        result.steps = kept.map { steps[$0] }
        result.losses = kept.map { losses[$0] }
        result.accuracies = accuracies.map { all in kept.map { all[$0] } }
        return result
    }
}

/// Held-out curves of one optimizer on one task at one horizon, of all seeds.
struct HeldOutSummary {
    let steps: [Int]
    /// Means over the seeds.
    let losses: [Double]
    /// At the last step.
    let end: Double
    /// The mean of each seed's least.
    let best: Double
    /// nil where it is no classification.
    let accuracy: Double?
    let bestAccuracy: Double?

    /// nil for runs without held-out data.
    ///
    /// - Parameter runs: with what a loss counts as where it is not finite, larger or, after a divergence, not there at all.
    init?(_ runs: [(curve: HeldOutCurve, cap: Double)], horizon: Int, hasAccuracy: Bool) {
        let points = HeldOutCurve.points(horizon: horizon), count = Double(runs.count)
        guard !runs.isEmpty else { return nil }
        let curves = runs.map { run -> (losses: [Double], accuracies: [Double]) in
            let place = Dictionary(uniqueKeysWithValues: zip(run.curve.steps, run.curve.steps.indices))
            return (
                points.map { point in min(place[point].flatMap { run.curve.losses[$0] } ?? .infinity, run.cap) },
                points.map { point in place[point].flatMap { run.curve.accuracies?[$0] } ?? 0 })
        }
        steps = points
        losses = points.indices.map { i in curves.reduce(0) { $0 + $1.losses[i] } / count }
        end = losses[losses.count - 1]
        best = curves.reduce(0) { $0 + ($1.losses.min() ?? 0) } / count
        accuracy = hasAccuracy ? curves.reduce(0) { $0 + $1.accuracies[points.count - 1] } / count : nil
        bestAccuracy = hasAccuracy ? curves.reduce(0) { $0 + ($1.accuracies.max() ?? 0) } / count : nil
    }

    /// Steps until the mean loss is first no more than `target`, between two moments on the line that joins them; nil if it
    /// never is.
    func stepsToReach(_ target: Double) -> Double? {
        guard let i = losses.firstIndex(where: { $0 <= target }) else { return nil }
        guard i > 0 else { return Double(steps[0]) }
        let part = (losses[i - 1] - target) / (losses[i - 1] - losses[i])
        return Double(steps[i - 1]) + part * Double(steps[i] - steps[i - 1])
    }
}
