import Foundation

/// Lines over two logarithmic axes, with a legend on the right.
struct LineChart {
    struct Line {
        let label: String
        let color: String
        var dash: String?
        var width = 2.0
        let points: [(x: Double, y: Double)]
    }

    let title: String
    let xLabel: String
    let yLabel: String
    let lines: [Line]
    /// Vertical dotted lines.
    var marks: [Double] = []
    /// Lines leave the picture below it.
    var leastY = 0.0

    static let size = (width: 860.0, height: 440.0)
    private static let plot = (left: 84.0, right: 610.0, top: 48.0, bottom: 384.0)

    func svg() -> SVGDocument {
        let (plot, size) = (LineChart.plot, LineChart.size)
        var svg = SVGDocument(width: size.width, height: size.height)
        let x = LogAxis(covering: lines.flatMap { $0.points.map(\.x) }, start: plot.left, end: plot.right)
        let y = LogAxis(covering: lines.flatMap { $0.points.map { max($0.y, leastY) } }, start: plot.bottom - 6, end: plot.top + 6)
        svg.text(plot.left, 26, title, size: 15, color: "#111111", isBold: true)
        for tick in x.ticks {
            svg.line(x.position(tick), plot.top, x.position(tick), plot.bottom, "#e8e8e8")
            svg.text(x.position(tick), plot.bottom + 18, LogAxis.label(tick), anchor: .middle)
        }
        for tick in y.ticks {
            svg.line(plot.left, y.position(tick), plot.right, y.position(tick), "#e8e8e8")
            svg.text(plot.left - 8, y.position(tick) + 4, LogAxis.label(tick), anchor: .end)
        }
        for mark in marks where x.range.contains(mark) {
            svg.line(x.position(mark), plot.top, x.position(mark), plot.bottom, "#999999", dash: "2 3")
        }
        svg.line(plot.left, plot.bottom, plot.right, plot.bottom, "#555555")
        svg.line(plot.left, plot.top, plot.left, plot.bottom, "#555555")
        svg.text((plot.left + plot.right) / 2, plot.bottom + 42, xLabel, size: 13, anchor: .middle)
        svg.text(22, (plot.top + plot.bottom) / 2, yLabel, size: 13, anchor: .middle, isVertical: true)
        for line in lines {
            let points = line.points.filter { $0.x > 0 && $0.y > 0 && $0.y.isFinite }
            svg.polyline(points.map { (x.position($0.x), y.position($0.y)) }, line.color, width: line.width, dash: line.dash)
        }
        for (i, line) in lines.enumerated() {
            let middle = plot.top + 10 + 22 * Double(i)
            svg.line(plot.right + 18, middle, plot.right + 46, middle, line.color, width: line.width, dash: line.dash)
            svg.text(plot.right + 54, middle + 4, line.label)
        }
        return svg
    }
}
