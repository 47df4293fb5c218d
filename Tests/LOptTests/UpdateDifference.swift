/// How wrong an update is, relative to the largest of its tensor: a parameter of 1 would hide much of a small step. Taken off first
/// is what rounding of the parameters explains: what decays leave of p, each product with it and each difference is rounded to f32.
/// Infinite if a number has become none, or none a number.
///
/// - Parameters:
///   - steps: from `before` to `expected`.
///   - moved: the largest update; that of these steps together if it is not given.
func updateDifference(
    _ found: [Float], _ expected: [Double], from before: [Double], steps: Int = 1, relativeTo moved: Double? = nil
) -> Double {
    guard found.count == expected.count, before.count == expected.count else { return .infinity }
    var worst = 0.0
    for i in expected.indices where expected[i].isFinite || found[i].isFinite {
        let rounding = Double(steps) * 2 * 0x1p-23 * max(abs(expected[i]), abs(before[i]))
        let difference = abs(Double(found[i]) - expected[i]) - rounding
        worst = difference.isNaN ? .infinity : max(worst, difference)
    }
    return worst == 0 ? 0 : worst / (moved ?? largestMove(before, expected))
}

func largestMove(_ before: [Double], _ after: [Double]) -> Double {
    zip(before, after).reduce(0) { $1.0.isFinite && $1.1.isFinite ? max($0, abs($1.1 - $1.0)) : $0 }
}

/// Ten roundings of f32 and more, a hundredth of what a wrong digit in a formula changes.
let updateTolerance = 2e-5
