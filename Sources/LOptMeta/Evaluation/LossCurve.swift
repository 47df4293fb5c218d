/// Training loss over the steps of a run, thinned out to points about 8 % apart.
///
/// The value of a point t is the mean loss of the minibatches of the last 5 % of the t steps, and of 10 at least. At a
/// horizon that is the final training loss.
public struct LossCurve: Codable, Equatable, Sendable {
    /// Ascending, each a number of steps taken, from 1.
    public internal(set) var steps: [Int] = []
    public internal(set) var losses: [Double] = []

    /// 1, 2, ... and from then on 8 % apart, with the horizons among them, up to the last of these.
    public static func points(horizons: [Int]) -> [Int] {
        let last = horizons.max() ?? 0
        var points = Set(horizons)
        var t = 1
        while t <= last {
            points.insert(t)
            t = max(t + 1, t * 27 / 25)
        }
        return points.sorted()
    }

    func restricted(to points: [Int]) -> LossCurve {
        var (result, wanted) = (LossCurve(), Set(points))
        for i in steps.indices where wanted.remove(steps[i]) != nil {
            result.steps.append(steps[i])
            result.losses.append(losses[i])
        }
        return result
    }

    /// Of the first `t` of these losses, the mean of the last 5 %, 10 at least if there are so many.
    static func value(of losses: [Float], at t: Int) -> Double {
        let window = min(t, max(10, (t + 19) / 20))
        return losses[(t - window)..<t].reduce(0) { $0 + Double($1) } / Double(window)
    }

    /// The steps after which the loss is no more than `target`, at this point and the next, so that one lucky minibatch
    /// does not count. nil if that never happens within `limit` steps.
    public func stepsToReach(_ target: Double, within limit: Int = .max) -> Int? {
        let count = steps.firstIndex { $0 > limit } ?? steps.count
        for i in 0..<count where losses[i] <= target && (i + 1 == count || losses[i + 1] <= target) {
            return steps[i]
        }
        return nil
    }

    /// The mean at `points` of curves over these points; of one that ends early, having diverged, the value is `cap` from
    /// there on. Values above `cap` count as `cap`.
    static func mean(_ curves: [(curve: LossCurve, cap: Double)], at points: [Int]) -> LossCurve {
        var result = LossCurve()
        result.steps = points
        result.losses = points.indices.map { i in
            curves.reduce(0) { sum, item in
                sum + (i < item.curve.losses.count ? min(item.curve.losses[i], item.cap) : item.cap)
            } / Double(curves.count)
        }
        return result
    }
}
