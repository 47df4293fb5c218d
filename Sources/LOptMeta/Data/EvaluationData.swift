import Foundation

/// Real data that meta-training never sees.
public struct EvaluationData: Sendable {
    /// 5,000 images of 14 x 14, pixels from 0 to 1; every fifth in the shuffled order is held out.
    public let fashion: Dataset
    let images: BundledData.Images
    public let shakespeare: BundledData.Text
    let iris: Table
    let wine: Table
    let breastCancer: Table
    let doctorVisits: Table
    /// Grey values, of mean 0 and deviation 1, of 64 x 64 pixels over two coordinates in -1 ... 1; every fifth pixel in the
    /// shuffled order is held out.
    let picture: Dataset

    init(_ folder: DataFolder) throws {
        images = try BundledData.Images(folder, "fashion", side: 14, white: 255, seed: 0xfa51)
        fashion = images.labelled("fashion")
        shakespeare = try BundledData.Text(folder, "shakespeare", source: "shakespeare")
        iris = try Table(folder, "iris")
        wine = try Table(folder, "wine")
        breastCancer = try Table(folder, "breast-cancer")
        doctorVisits = try Table(folder, "doctor-visits")
        picture = try EvaluationData.picture(folder)
    }

    private static func picture(_ folder: DataFolder) throws -> Dataset {
        let header = Array("P5\n64 64\n255\n".utf8), bytes = try folder.read("picture/temple-64.pgm"), side = 64
        guard bytes.starts(with: header), bytes.count == header.count + side * side else {
            throw LOptMetaError("picture/temple-64.pgm is no PGM file of 64 x 64 pixels")
        }
        let pixels = standardized(bytes.dropFirst(header.count).map { Float($0) }, columns: 1)
        var order = Array(0..<side * side), random = Random(0x71c)
        order.shuffle(using: &random)
        func coordinate(_ i: Int) -> Float { (2 * Float(i) + 1) / Float(side) - 1 }
        return Dataset(
            "picture", source: "picture", inputs: order.flatMap { [coordinate($0 / side), coordinate($0 % side)] },
            targets: order.map { pixels[$0] }, count: order.count, trainCount: order.count * 4 / 5)
    }

    /// A table of numbers, its rows shuffled; a fifth is held out.
    struct Table: Sendable {
        let name: String
        let columns: Int
        let inputs: [Float]
        let targets: [Float]
        var classes: Int { Int(targets.max() ?? 0) + 1 }

        init(_ folder: DataFolder, _ name: String) throws {
            let text = String(decoding: try folder.read("tabular/\(name).csv"), as: UTF8.self)
            var rows = try text.split(separator: "\n").dropFirst().map { line in
                try line.split(separator: ",").map { cell in
                    guard let number = Float(cell) else { throw LOptMetaError("tabular/\(name).csv has '\(cell)', which is no number") }
                    return number
                }
            }
            guard let width = rows.first?.count, width > 1, rows.allSatisfy({ $0.count == width }) else {
                throw LOptMetaError("tabular/\(name).csv has rows of different lengths")
            }
            var random = Random(0x7ab1e)
            rows.shuffle(using: &random)
            self.name = name
            columns = width - 1
            inputs = rows.flatMap { $0.dropLast() }
            targets = rows.map { $0[width - 1] }
        }

        /// Columns of mean 0 and deviation 1.
        var dataset: Dataset { make(name, standardized(inputs, columns: columns), targets) }
        /// Columns in the units of the table, thousands beside thousandths.
        var unscaled: Dataset { make("\(name)-unscaled", inputs, targets) }
        /// Of standardised columns and a target of mean 0 and deviation 1.
        var regression: Dataset { make(name, standardized(inputs, columns: columns), standardized(targets, columns: 1)) }
        var oneHot: Dataset {
            make("\(name)-onehot", standardized(inputs, columns: columns), oneHotTargets(targets, classes: classes), isOneHot: true)
        }
        var mirror: Dataset {
            let count = targets.count
            return Dataset(
                name, source: name, mirroring: standardized(inputs, columns: columns), count: count, trainCount: count * 4 / 5)
        }

        private func make(_ name: String, _ inputs: [Float], _ targets: [Float], isOneHot: Bool = false) -> Dataset {
            let count = self.targets.count
            return Dataset(
                name, source: self.name, inputs: inputs, targets: targets, count: count, trainCount: count * 4 / 5,
                isOneHot: isOneHot)
        }
    }
}

/// Each column less its mean and over its deviation; rows lie one after the other.
private func standardized(_ values: [Float], columns: Int) -> [Float] {
    let rows = values.count / columns
    var result = values
    for column in 0..<columns {
        let numbers = (0..<rows).map { Double(values[$0 * columns + column]) }
        let mean = numbers.reduce(0, +) / Double(rows)
        let deviation = (numbers.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / Double(rows)).squareRoot()
        for row in 0..<rows { result[row * columns + column] = Float((numbers[row] - mean) / max(deviation, 1e-12)) }
    }
    return result
}
