import Foundation

/// A row for each item, and in it a dot for each series on a logarithmic axis around 1.
struct DotChart {
    struct Series {
        let label: String
        let color: String
        /// One for each row; a hollow dot stands for a bound.
        let values: [(value: Double, isBound: Bool)]
        /// Over the rows; not positive where it is beyond every bound.
        let summary: Interval?
    }

    let title: String
    let xLabel: String
    /// What lies left and right of 1.
    let sides: (left: String, right: String)
    let rows: [String]
    let series: [Series]
    /// What the summaries are.
    let summary: String

    func svg() -> SVGDocument {
        let rowHeight = 24.0
        let left = 24 + 6.8 * Double(max(rows.map(\.count).max() ?? 0, 14))
        let (right, top) = (left + 560, 86.0)
        let meansTop = top + rowHeight * Double(rows.count) + 14
        let bottom = meansTop + rowHeight * Double(series.count) + 4
        var svg = SVGDocument(width: right + 40, height: bottom + 62)
        let all = series.flatMap { $0.values.map(\.value) + [$0.summary?.low, $0.summary?.high].compactMap { $0 } }
        let x = LogAxis(covering: all + [0.8, 1.25], start: left + 8, end: right - 8)
        svg.text(16, 26, title, size: 15, color: "#111111", isBold: true)
        drawLegend(&svg)
        for tick in x.ticks {
            svg.line(x.position(tick), top, x.position(tick), bottom, "#e8e8e8")
            svg.text(x.position(tick), bottom + 18, LogAxis.label(tick), anchor: .middle)
        }
        svg.line(x.position(1), top - 6, x.position(1), bottom, "#555555", width: 1.5)
        svg.text(x.position(1) - 8, top - 8, "\(sides.left) \u{2190}", color: "#666666", anchor: .end)
        svg.text(x.position(1) + 8, top - 8, "\u{2192} \(sides.right)", color: "#666666")
        for (i, row) in rows.enumerated() {
            let middle = top + rowHeight * (Double(i) + 0.5)
            svg.line(left, middle, right, middle, "#f0f0f0")
            svg.text(left - 8, middle + 4, row, anchor: .end)
            for (j, series) in series.enumerated() {
                let (value, isBound) = series.values[i]
                // A little above one another, so that none hides another.
                let y = middle + 3 * (Double(j) - Double(self.series.count - 1) / 2)
                svg.circle(
                    x.position(value), y, radius: 4.5, fill: isBound ? "#ffffff" : series.color,
                    stroke: isBound ? series.color : "#ffffff")
            }
        }
        svg.line(left, meansTop - 7, right, meansTop - 7, "#555555")
        for (i, series) in series.enumerated() {
            guard let interval = series.summary else { continue }
            let middle = meansTop + rowHeight * (Double(i) + 0.5)
            svg.text(left - 8, middle + 4, i == 0 ? summary : "", anchor: .end, isBold: true)
            let (low, value, high) = (x.position(interval.low), x.position(interval.value), x.position(interval.high))
            svg.line(low, middle, high, middle, series.color, width: 3)
            svg.circle(value, middle, radius: 6, fill: series.color)
            let label = interval.value > 0 ? String(format: "%.2f", interval.value) : "not reached"
            svg.text(value, middle - 9, label, size: 11, color: series.color, anchor: .middle, isBold: true)
        }
        svg.text((left + right) / 2, bottom + 42, xLabel, size: 13, anchor: .middle)
        return svg
    }

    private func drawLegend(_ svg: inout SVGDocument) {
        var x = 22.0
        for series in series {
            svg.circle(x, 48, radius: 4.5, fill: series.color)
            svg.text(x + 10, 52, series.label)
            x += 34 + 7 * Double(series.label.count)
        }
    }
}
