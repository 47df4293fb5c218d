import Testing

@testable import LOptMeta

@Suite struct RandomTests {
    /// The reference implementation's first outputs for the state {1, 2, 3, 4} cannot be had through the seeding; the
    /// moments of a long stream can.
    @Test func `normal draws have the moments of a standard normal`() {
        var random = Random(1, 2)
        let n = 200_000
        var moments: [Double] = [0, 0, 0, 0]
        for _ in 0..<n {
            let x = random.normal()
            for k in 0..<4 { moments[k] += [x, x * x, x * x * x, x * x * x * x][k] / Double(n) }
        }
        for (moment, (expected, tolerance)) in zip(moments, [(0.0, 0.01), (1.0, 0.015), (0.0, 0.04), (3.0, 0.12)]) {
            #expect(abs(moment - expected) < tolerance)
        }
    }

    @Test func `streams of other numbers, or of the same in another order, differ`() {
        var first: Set<UInt64> = []
        for a in 0..<20 as Range<UInt64> { for b in 0..<20 as Range<UInt64> {
            var random = Random(a, b)
            first.insert(random.next())
        } }
        #expect(first.count == 400)
        var again = Random(3, 4), once = Random(3, 4)
        #expect((0..<10).allSatisfy { _ in again.next() == once.next() })
    }

    @Test func `an index is in range and every value comes up`() {
        var random = Random(5)
        var counts = [Int](repeating: 0, count: 7)
        for _ in 0..<7000 { counts[random.index(7)] += 1 }
        #expect(counts.allSatisfy { $0 > 850 && $0 < 1150 })
    }
}
