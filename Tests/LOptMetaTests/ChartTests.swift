import Foundation
import Testing

@testable import LOptMeta

#if canImport(FoundationXML)
import FoundationXML
#endif

struct ChartTests {
    @Test func `a logarithmic axis puts equal ratios at equal distances, either way round`() {
        let axis = LogAxis(covering: [1, 10_000], start: 400, end: 0)
        #expect(axis.position(1) == 400 && axis.position(10_000) == 0)
        #expect(abs(axis.position(100) - 200) < 1e-9, "\(axis.position(100))")
        #expect(axis.position(1e-9) == 400 && axis.position(1e9) == 0, "outside is on the edge")
    }

    @Test(arguments: [(1.0, 1.1), (0.3, 0.7), (1, 20_000), (1e-9, 3), (0.04, 0.9), (1e-40, 1e10)])
    func `every range has some ticks, all within it, none too many`(low: Double, high: Double) {
        let axis = LogAxis(covering: [low, high], start: 0, end: 1)
        #expect((2...12).contains(axis.ticks.count), "\(axis.ticks)")
        #expect(axis.ticks.allSatisfy { axis.range.contains($0 / 1.001) || axis.range.contains($0 * 1.001) })
        #expect(Set(axis.ticks.map(LogAxis.label)).count == axis.ticks.count, "\(axis.ticks.map(LogAxis.label))")
    }

    @Test func `pictures are well-formed XML, whatever a task is called`() throws {
        let points: [(x: Double, y: Double)] = [(1, 2), (10, 0), (100, .infinity), (1000, 0.5)]
        let line = LineChart(
            title: "a <b> & \"c\"", xLabel: "x", yLabel: "y",
            lines: [LineChart.Line(label: "<&>", color: "#000000", points: points)], marks: [50])
        let mean = Interval(value: 1.2, low: 0.9, high: 1.4)
        let dots = DotChart(
            title: "t", xLabel: "x", sides: ("<", ">"), rows: ["a&b"],
            series: [DotChart.Series(label: "s", color: "#000000", values: [(1.5, true)], summary: mean)],
            summary: "median")
        for source in [line.svg().source, dots.svg().source] {
            let parser = XMLParser(data: Data(source.utf8))
            #expect(parser.parse(), "\(String(describing: parser.parserError)): \(source)")
            #expect(!source.contains("inf") && !source.contains("nan"))
        }
    }

    @Test func `an evaluation writes a picture for every task and two for every learned optimizer`() async throws {
        let directory = ScratchDirectory()
        let evaluation = try Evaluation(
            tasks: [Bowl(), Bowl(name: "broken", breaksAt: 5)], weights: [NamedWeights("star")], horizons: [10, 30], seeds: 1)
        let results = try await evaluation.run(log: RunLog(directory: directory.url), threads: 2) { _ in }
        try EvaluationReport(evaluation, results).writeCharts(evaluation, results, to: directory.url)
        let written = try FileManager.default.subpathsOfDirectory(atPath: directory.url.path).filter { $0.hasSuffix(".svg") }
        #expect(
            Set(written) == [
                "curves/bowl.svg", "curves/broken.svg", "ratio-star.svg", "ratio-star-cosine.svg", "speedup-star.svg",
                "speedup-star-cosine.svg",
            ])
    }

    @Test func `the pictures show the rows of the table against tuned Adam, over the tasks of unseen families`() async throws {
        let directory = ScratchDirectory()
        let evaluation = try Evaluation(
            tasks: [Bowl(), Bowl(name: "steep", curvatures: [30, 3]), Bowl(name: "flat", curvatures: [0.1])],
            weights: [NamedWeights("star")], horizons: [10, 30], seeds: 1, unseen: ["steep", "flat"])
        let results = try await evaluation.run(log: RunLog(directory: directory.url), threads: 2) { _ in }
        let report = EvaluationReport(evaluation, results)
        try report.writeCharts(evaluation, results, to: directory.url)
        for (spec, file, baseline) in [
            (evaluation.learned[0], "ratio-star.svg", Baseline.adam), (evaluation.learned[1], "ratio-star-cosine.svg", .cosineAdam),
        ] {
            let svg = try String(contentsOf: directory.url.appending(path: file), encoding: .utf8)
            #expect(svg.contains("\(baseline.name), 2 tasks of families not meta-trained on"), "\(file)")
            #expect(svg.contains(">steep<") && svg.contains(">flat<") && !svg.contains(">bowl<"))
            let rows = report.unseenComparisons.filter { $0.optimizer == spec.id && $0.baseline == baseline.name }
            #expect(rows.map(\.horizon) == [10, 30])
            for row in rows { #expect(svg.contains(String(format: ">%.2f<", row.ratio?.value ?? 0)), "\(file): \(row.horizon)") }
        }
    }

    @Test func `numbers are printed as people write them`() {
        #expect(Format.short(0.012345) == "0.0123" && Format.short(12345.6) == "12346" && Format.short(1e-7) == "1.00e-07")
        #expect(Format.count(20_000) == "20,000" && Format.count(999) == "999" && Format.count(-1_234_567) == "-1,234,567")
        #expect([1, 20, 1000, 0.05, 1e-6].map(LogAxis.label) == ["1", "20", "1,000", "0.05", "1e-6"])
    }
}
