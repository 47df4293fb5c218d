import Foundation

/// An SVG picture under construction: shapes in pixels, from the upper left corner, on a white ground.
struct SVGDocument {
    let width: Double
    let height: Double
    private var elements: [String] = []

    enum Anchor: String { case start, middle, end }

    init(width: Double, height: Double) { (self.width, self.height) = (width, height) }

    mutating func line(
        _ x1: Double, _ y1: Double, _ x2: Double, _ y2: Double, _ color: String, width: Double = 1, dash: String? = nil
    ) {
        elements.append(
            "<line x1=\"\(n(x1))\" y1=\"\(n(y1))\" x2=\"\(n(x2))\" y2=\"\(n(y2))\" stroke=\"\(color)\" "
                + "stroke-width=\"\(n(width))\"\(SVGDocument.dashed(dash))/>")
    }

    mutating func polyline(_ points: [(Double, Double)], _ color: String, width: Double, dash: String? = nil) {
        let path = points.map { "\(n($0.0)),\(n($0.1))" }.joined(separator: " ")
        elements.append(
            "<polyline points=\"\(path)\" fill=\"none\" stroke=\"\(color)\" stroke-width=\"\(n(width))\" "
                + "stroke-linejoin=\"round\"\(SVGDocument.dashed(dash))/>")
    }

    mutating func circle(_ x: Double, _ y: Double, radius: Double, fill: String, stroke: String? = nil) {
        let edge = stroke.map { " stroke=\"\($0)\" stroke-width=\"1.5\"" } ?? ""
        elements.append("<circle cx=\"\(n(x))\" cy=\"\(n(y))\" r=\"\(n(radius))\" fill=\"\(fill)\"\(edge)/>")
    }

    mutating func rectangle(_ x: Double, _ y: Double, _ width: Double, _ height: Double, fill: String) {
        elements.append(
            "<rect x=\"\(n(x))\" y=\"\(n(y))\" width=\"\(n(width))\" height=\"\(n(height))\" fill=\"\(fill)\"/>")
    }

    mutating func text(
        _ x: Double, _ y: Double, _ text: String, size: Double = 12, color: String = "#333333", anchor: Anchor = .start,
        isBold: Bool = false, isVertical: Bool = false
    ) {
        let turn = isVertical ? " transform=\"rotate(-90 \(n(x)) \(n(y)))\"" : ""
        let weight = isBold ? " font-weight=\"bold\"" : ""
        elements.append(
            "<text x=\"\(n(x))\" y=\"\(n(y))\" font-size=\"\(n(size))\" fill=\"\(color)\" "
                + "text-anchor=\"\(anchor.rawValue)\"\(weight)\(turn)>\(SVGDocument.escaped(text))</text>")
    }

    var source: String {
        """
        <svg xmlns="http://www.w3.org/2000/svg" width="\(n(width))" height="\(n(height))" \
        viewBox="0 0 \(n(width)) \(n(height))" font-family="Helvetica, Arial, 'DejaVu Sans', sans-serif">
        <rect width="100%" height="100%" fill="#ffffff"/>
        \(elements.joined(separator: "\n"))
        </svg>

        """
    }

    func write(to url: URL) throws {
        try url.deletingLastPathComponent().makeFolder()
        try url.writeFile(Data(source.utf8))
    }

    private static func dashed(_ dash: String?) -> String { dash.map { " stroke-dasharray=\"\($0)\"" } ?? "" }

    private static func escaped(_ text: String) -> String {
        text.replacingOccurrences(of: "&", with: "&amp;").replacingOccurrences(of: "<", with: "&lt;")
            .replacingOccurrences(of: ">", with: "&gt;")
    }

    /// A tenth of a pixel is enough.
    private func n(_ x: Double) -> String {
        let rounded = (x * 10).rounded() / 10
        return rounded == rounded.rounded() ? "\(Int(rounded))" : "\(rounded)"
    }
}
