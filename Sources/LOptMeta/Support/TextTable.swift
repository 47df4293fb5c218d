import Foundation

/// Columns of text for the terminal, as wide as what they hold; the first is flush left, the others right.
struct TextTable {
    private var rows: [[String]]

    init(header: [String]) { rows = [header] }

    mutating func add(_ row: [String]) { rows.append(row) }

    var text: String {
        let columns = rows.map(\.count).max() ?? 0
        let widths = (0..<columns).map { column in rows.map { column < $0.count ? $0[column].count : 0 }.max() ?? 0 }
        let lines = rows.map { row in
            row.indices.map { i in
                let space = String(repeating: " ", count: widths[i] - row[i].count)
                return i == 0 ? row[i] + space : space + row[i]
            }.joined(separator: "  ")
        }
        let rule = String(repeating: "-", count: widths.reduce(0, +) + 2 * max(columns - 1, 0))
        return ([lines[0], rule] + lines.dropFirst()).joined(separator: "\n")
    }
}

/// Numbers as tables show them.
enum Format {
    /// Three significant digits, as 0.0123, 12.3 and 1.23e-07.
    static func short(_ x: Double) -> String {
        guard x != 0 else { return "0" }
        guard x.isFinite, abs(x) >= 1e-3, abs(x) < 1e5 else { return String(format: "%.2e", x) }
        let decimals = max(0, 2 - Int(floor(log10(abs(x)))))
        return String(format: "%.\(decimals)f", x)
    }

    /// 20000 as 20,000.
    static func count(_ n: Int) -> String {
        let digits = Array(String(n.magnitude))
        var text = n < 0 ? "-" : ""
        for (i, digit) in digits.enumerated() {
            if i > 0, (digits.count - i) % 3 == 0 { text += "," }
            text.append(digit)
        }
        return text
    }

    /// A round number: 1, 20, 1,000, 0.05, 1e-6.
    static func round(_ value: Double) -> String {
        if value == 0 { return "0" }
        if value >= 0.9999, value < 1e6, abs(value - value.rounded()) < 1e-6 * value { return count(Int(value.rounded())) }
        if value >= 9.99e-4, value < 1e6 { return String(format: "%.3g", value) }
        return String(format: "%.0e", value).replacing("e-0", with: "e-").replacing("e+0", with: "e")
    }

    /// 0.62 [0.55, 0.71]
    static func interval(_ interval: Interval?) -> String {
        guard let interval else { return "-" }
        return "\(short(interval.value)) [\(short(interval.low)), \(short(interval.high))]"
    }

    /// 18 [15, 21]
    static func count(_ interval: Interval?) -> String {
        guard let interval else { return "-" }
        return "\(Int(interval.value)) [\(Int(interval.low)), \(Int(interval.high))]"
    }
}
