import Testing

@testable import LOptMeta

struct LossCurveTests {
    @Test func `points are all of the first dozen, then 8 % apart, with every horizon`() {
        let points = LossCurve.points(horizons: [200, 5000])
        #expect(Array(points.prefix(12)) == Array(1...12))
        #expect(points.contains(200) && points.last == 5000)
        for (a, b) in zip(points, points.dropFirst()) { #expect(b <= max(a + 1, a * 27 / 25), "from \(a) to \(b)") }
    }

    @Test func `a value is the mean of the last 5 %, and of ten steps at least`() {
        let losses = (1...400).map { Float($0) }
        #expect(LossCurve.value(of: losses, at: 400) == 390.5)
        #expect(LossCurve.value(of: losses, at: 100) == 95.5)
        #expect(LossCurve.value(of: losses, at: 3) == 2)
    }

    @Test func `a loss is reached where it stays, not where it dips`() {
        var curve = LossCurve()
        curve.steps = [1, 2, 4, 8, 16, 32]
        curve.losses = [9, 1, 5, 2, 2, 1]
        #expect(curve.stepsToReach(2) == 8)
        #expect(curve.stepsToReach(1) == 32)
        #expect(curve.stepsToReach(0.5) == nil)
        #expect(curve.stepsToReach(5, within: 4) == 2)
        #expect(curve.stepsToReach(2, within: 4) == nil)
        #expect(curve.stepsToReach(1, within: 2) == 2, "the last point within the limit has no next one")
    }

    @Test func `a curve that ended counts as its cap in a mean`() {
        var (a, b) = (LossCurve(), LossCurve())
        (a.steps, a.losses) = ([1, 2, 3], [4, 2, 99])
        (b.steps, b.losses) = ([1], [2])
        let mean = LossCurve.mean([(a, 10), (b, 20)], at: [1, 2, 3])
        #expect(mean.losses == [3, 11, 15])
    }

    @Test func `a bootstrap interval surrounds its mean and narrows to it`() throws {
        let spread = try #require(Interval.geometricMean([0.5, 2, 1, 4, 0.25]))
        #expect(abs(spread.value - 1) < 1e-12)
        #expect(spread.low < 0.6 && spread.high > 1.6, "\(spread)")
        let same = try #require(Interval.geometricMean([3, 3, 3]))
        #expect(abs(same.low - 3) < 1e-12 && abs(same.high - 3) < 1e-12, "\(same)")
        #expect(Interval.count([true, false, true])?.value == 2)
        #expect(Interval.geometricMean([]) == nil)
    }
}
