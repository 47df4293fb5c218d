import Foundation

extension StabilityReport {
    /// Writes `stability-NAME-STEPS.json`, `.svg` (largest stable curvature) and `-radius.svg` into the directory.
    public func write(to directory: URL) throws {
        try directory.makeFolder()
        let name = "stability-\(weights)-\(steps)"
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
        encoder.nonConformingFloatEncodingStrategy = .convertToString(
            positiveInfinity: "inf", negativeInfinity: "-inf", nan: "nan")
        try directory.appendingPathComponent("\(name).json").writeFile(encoder.encode(self))
        try limitChart.svg().write(to: directory.appendingPathComponent("\(name).svg"))
        try radiusChart.write(to: directory.appendingPathComponent("\(name)-radius.svg"))
    }

    private var limitChart: LineChart {
        let styles: [Variant: (color: String, dash: String?)] = [
            .whole: ("#d55e00", nil), .blackboxOff: ("#0072b2", "8 4"), .nominalOff: ("#009e73", "8 4"),
            .preconditioningOff: ("#cc79a7", "8 4"),
        ]
        var lines = variants.map { variant in
            LineChart.Line(
                label: variant == .whole ? weights : "  \(variant.rawValue)", color: styles[variant]?.color ?? "#000000",
                dash: styles[variant]?.dash, width: variant == .whole ? 3 : 2,
                points: noises.compactMap { noise in
                    entry(variant, noise: noise)?.largestStableCurvature.map { (x: noise, y: $0) }
                })
        }
        for (i, other) in StabilityReport.comparisons.enumerated() {
            lines.append(
                LineChart.Line(
                    label: other.label, color: ["#333333", "#888888", "#bbbbbb"][i], width: 1.5,
                    points: noises.compactMap { noise in
                        other.response(noise).largestStableCurvature.map { (x: noise, y: $0) }
                    }))
        }
        return LineChart(
            title: "\(weights): largest stable curvature after \(Format.count(steps)) steps",
            xLabel: "noise of the gradient, standard deviation", yLabel: "curvature", lines: lines)
    }

    /// A cell for each curvature and noise: blue where deviations shrink, red where they grow, paler the slower.
    private var radiusChart: SVGDocument {
        let (left, top, cell) = (92.0, 56.0, (width: 20.0, height: 34.0))
        let right = left + cell.width * Double(curvatures.count)
        let bottom = top + cell.height * Double(noises.count)
        var svg = SVGDocument(width: right + 170, height: bottom + 70)
        svg.text(left, 28, "\(weights) after \(Format.count(steps)) steps: spectral radius", size: 15, color: "#111111", isBold: true)
        for (row, noise) in noises.reversed().enumerated() {
            let y = top + cell.height * Double(row)
            svg.text(left - 8, y + cell.height / 2 + 4, LogAxis.label(noise), anchor: .end)
            for (column, radius) in (entry(.whole, noise: noise)?.spectralRadii ?? []).enumerated() {
                svg.rectangle(
                    left + cell.width * Double(column), y, cell.width - 1, cell.height - 1,
                    fill: StabilityReport.color(radius))
            }
        }
        for (column, curvature) in curvatures.enumerated() where abs(log10(curvature) - log10(curvature).rounded()) < 1e-9 {
            let x = left + cell.width * (Double(column) + 0.5)
            svg.line(x, bottom, x, bottom + 5, "#555555")
            svg.text(x, bottom + 19, LogAxis.label(curvature), anchor: .middle)
        }
        svg.text((left + right) / 2, bottom + 46, "curvature", size: 13, anchor: .middle)
        svg.text(22, (top + bottom) / 2, "noise of the gradient", size: 13, anchor: .middle, isVertical: true)
        for (i, radius) in [0.9, 0.99, 0.999, 1.002, 1.01, 1.1, 2].enumerated() {
            let y = top + 22 * Double(i)
            svg.rectangle(right + 24, y, 26, 16, fill: StabilityReport.color(radius))
            svg.text(right + 58, y + 13, i == 6 ? "2 and more" : i == 0 ? "0.9 and less" : "\(radius)")
        }
        return svg
    }

    /// By the logarithm of the rate at which deviations shrink or grow.
    private static func color(_ radius: Double) -> String {
        let rate = log(min(max(radius, 1e-3), 1e3))
        let strength = min(max((log10(max(abs(rate), 1e-9)) + 4) / 4, 0), 1)
        let full = rate <= log(1 + LinearResponse.tolerance) ? (33.0, 102.0, 172.0) : (202.0, 45.0, 38.0)
        let channel = { (c: Double) in Int((245 + (c - 245) * (0.15 + 0.85 * strength)).rounded()) }
        return String(format: "#%02x%02x%02x", channel(full.0), channel(full.1), channel(full.2))
    }
}
