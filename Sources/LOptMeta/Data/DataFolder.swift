import Foundation

/// The folder `data` of the repository: `LOPT_DATA` if set, else `data` in the working directory, or beside or above the
/// executable.
public struct DataFolder: Sendable {
    let url: URL

    /// Throws `ConfigurationError` that names the places looked at.
    public static func find() throws -> DataFolder {
        let files = FileManager.default
        if let given = ProcessInfo.processInfo.environment["LOPT_DATA"] {
            let url = URL(filePath: given, directoryHint: .isDirectory)
            guard isData(url) else {
                throw ConfigurationError("LOPT_DATA is '\(given)', which has no digits/images-idx3-ubyte")
            }
            return DataFolder(url: url)
        }
        var places = [URL(filePath: files.currentDirectoryPath, directoryHint: .isDirectory)]
        var above = URL(filePath: CommandLine.arguments[0]).resolvingSymlinksInPath()
        while above.path != "/" && above.path != "" && places.count < 12 {
            above.deleteLastPathComponent()
            places.append(above)
        }
        for place in places {
            let url = place.appending(path: "data", directoryHint: .isDirectory)
            if isData(url) { return DataFolder(url: url) }
        }
        throw ConfigurationError(
            "the data folder was not found in '\(files.currentDirectoryPath)' nor beside or above the program; set LOPT_DATA to it")
    }

    private static func isData(_ url: URL) -> Bool {
        FileManager.default.fileExists(atPath: url.appending(path: "digits/images-idx3-ubyte").path)
    }

    func read(_ path: String) throws -> [UInt8] {
        do {
            return [UInt8](try Data(contentsOf: url.appending(path: path)))
        } catch {
            throw ConfigurationError("'\(url.appending(path: path).path)' cannot be read: \(error.localizedDescription)")
        }
    }
}

/// The bundled real data, each loaded once.
public struct BundledData: Sendable {
    /// 1,797 images of 8 x 8, pixels from 0 to 1; every fifth in the shuffled order is held out.
    public let digits: Dataset
    public let digitsMirror: Dataset
    /// Of the text: the number of different characters, and the characters as tokens in the order of their bytes.
    public let tokens: [Float]
    public let alphabet: Int

    public init(_ folder: DataFolder) throws {
        (digits, digitsMirror) = try BundledData.readDigits(folder)
        let bytes = try folder.read("text/persuasion-volume-one.txt")
        let letters = Set(bytes).sorted()
        var token = [Float](repeating: 0, count: 256)
        for (i, letter) in letters.enumerated() { token[Int(letter)] = Float(i) }
        tokens = bytes.map { token[Int($0)] }
        alphabet = letters.count
    }

    public func text(length: Int) -> Dataset { Dataset("text\(length)", tokens: tokens, length: length) }

    private static func readDigits(_ folder: DataFolder) throws -> (Dataset, Dataset) {
        let images = try folder.read("digits/images-idx3-ubyte"), labels = try folder.read("digits/labels-idx1-ubyte")
        let count = labels.count - 8
        guard count > 0, images.count == 16 + 64 * count else {
            throw ConfigurationError("the digits have \(images.count) bytes of images and \(labels.count) of labels")
        }
        var order = Array(0..<count), random = Random(0xd161)
        order.shuffle(using: &random)
        let inputs = order.flatMap { i in images[(16 + 64 * i)..<(80 + 64 * i)].map { Float($0) / 16 } }
        let targets = order.map { Float(labels[8 + $0]) }
        let train = count * 4 / 5
        return (
            Dataset("digits", inputs: inputs, targets: targets, count: count, trainCount: train),
            Dataset("digits", mirroring: inputs, count: count, trainCount: train)
        )
    }
}
