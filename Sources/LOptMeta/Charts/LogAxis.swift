import Foundation

/// A logarithmic axis: values of `range` on pixels from `start` to `end`, either way round.
struct LogAxis {
    let range: ClosedRange<Double>
    let start: Double
    let end: Double

    /// - Parameter values: positive and finite ones count; the range is theirs, and at least a factor of `least`.
    init(covering values: [Double], least: Double = 2, start: Double, end: Double) {
        let usable = values.filter { $0 > 0 && $0.isFinite }
        var (low, high) = (usable.min() ?? 0.1, usable.max() ?? 10)
        if high / low < least {
            let middle = (low * high).squareRoot()
            (low, high) = (middle / least.squareRoot(), middle * least.squareRoot())
        }
        (range, self.start, self.end) = (low...high, start, end)
    }

    /// Values outside the range lie on its ends.
    func position(_ value: Double) -> Double {
        let clamped = min(max(value, range.lowerBound), range.upperBound)
        let share = log(clamped / range.lowerBound) / log(range.upperBound / range.lowerBound)
        return start + share * (end - start)
    }

    /// Powers of ten within the range, thinned to at most 8; with fewer than 3 of them, also 2 and 5 times powers of ten,
    /// and all digits where even these are too few.
    var ticks: [Double] {
        let exponents = Int(floor(log10(range.lowerBound)))...Int(ceil(log10(range.upperBound)))
        func ticks(_ digits: [Double], every stride: Int = 1) -> [Double] {
            exponents.filter { $0 % stride == 0 }.flatMap { e in digits.map { $0 * pow(10, Double(e)) } }
                .filter { $0 >= range.lowerBound * 0.9999 && $0 <= range.upperBound * 1.0001 }
        }
        for digits in [[1], [1, 2, 5], [1, 1.5, 2, 3, 4, 5, 6, 7, 8, 9]] as [[Double]] where ticks(digits).count >= 3 {
            return ticks(digits, every: digits.count == 1 ? (exponents.count + 6) / 8 : 1)
        }
        return [range.lowerBound, range.upperBound]
    }

    /// 1, 20, 1,000, 0.05, 1e-6.
    static func label(_ value: Double) -> String {
        if value >= 0.9999, value < 1e6, abs(value - value.rounded()) < 1e-6 * value { return Format.count(Int(value.rounded())) }
        if value >= 9.99e-4, value < 1e6 { return String(format: "%.3g", value) }
        return String(format: "%.0e", value).replacingOccurrences(of: "e-0", with: "e-").replacingOccurrences(of: "e+0", with: "e")
    }
}
