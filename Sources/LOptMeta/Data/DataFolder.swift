import Foundation

/// The folder `data` of the repository: `LOPT_DATA` if set, else `data` in the working directory, or beside or above the
/// executable, or where `make install` puts it below the executable's prefix.
public struct DataFolder: Sendable {
    let url: URL

    /// Throws `LOptMetaError` that names the places looked at.
    public static func find() throws -> DataFolder {
        let files = FileManager.default
        if let given = ProcessInfo.processInfo.environment["LOPT_DATA"] {
            let url = URL(filePath: given, directoryHint: .isDirectory)
            guard isData(url) else {
                throw LOptMetaError("LOPT_DATA is '\(given)', which has no digits/images-idx3-ubyte")
            }
            return DataFolder(url: url)
        }
        var places = [URL(filePath: files.currentDirectoryPath, directoryHint: .isDirectory)]
        // A program found through PATH has only its name as its first argument.
        let program = (try? files.destinationOfSymbolicLink(atPath: "/proc/self/exe")) ?? CommandLine.arguments[0]
        var above = URL(filePath: program).resolvingSymlinksInPath()
        while above.path != "/" && above.path != "" && places.count < 12 {
            above.deleteLastPathComponent()
            places.append(above)
        }
        for place in places {
            for path in ["data", "share/doc/lopt/data"] {
                let url = place.appending(path: path, directoryHint: .isDirectory)
                if isData(url) { return DataFolder(url: url) }
            }
        }
        throw LOptMetaError(
            "the data folder was not found in '\(files.currentDirectoryPath)' nor beside or above the program; set LOPT_DATA to it")
    }

    private static func isData(_ url: URL) -> Bool {
        FileManager.default.fileExists(atPath: url.appending(path: "digits/images-idx3-ubyte").path)
    }

    func read(_ path: String) throws -> [UInt8] { [UInt8](try url.appending(path: path).readFile()) }
}

/// The bundled real data, each loaded once.
public struct BundledData: Sendable {
    /// 1,797 images of 8 x 8, pixels from 0 to 1; every fifth in the shuffled order is held out.
    public let digits: Dataset
    public let digitsMirror: Dataset
    /// 5,000 images of 14 x 14, pixels from 0 to 1; every fifth in the shuffled order is held out. For evaluation alone.
    public let fashion: Dataset
    /// Of the text: the number of different characters, and the characters as tokens in the order of their bytes.
    public let tokens: [Float]
    public let alphabet: Int

    public init(_ folder: DataFolder) throws {
        let images = try BundledData.readImages(folder, "digits", side: 8, white: 16, seed: 0xd161)
        digits = images.labelled("digits")
        digitsMirror = images.mirrored("digits")
        fashion = try BundledData.readImages(folder, "fashion", side: 14, white: 255, seed: 0xfa51).labelled("fashion")
        let bytes = try folder.read("text/persuasion-volume-one.txt")
        let letters = Set(bytes).sorted()
        var token = [Float](repeating: 0, count: 256)
        for (i, letter) in letters.enumerated() { token[Int(letter)] = Float(i) }
        tokens = bytes.map { token[Int($0)] }
        alphabet = letters.count
    }

    public func text(length: Int) -> Dataset { Dataset("text\(length)", source: "persuasion", tokens: tokens, length: length) }

    /// `folder`/`name`/images-idx3-ubyte and labels-idx1-ubyte in a shuffled order, pixels divided by `white`.
    private static func readImages(
        _ folder: DataFolder, _ name: String, side: Int, white: Float, seed: UInt64
    ) throws -> Images {
        let images = try folder.read("\(name)/images-idx3-ubyte"), labels = try folder.read("\(name)/labels-idx1-ubyte")
        let count = labels.count - 8, pixels = side * side
        guard count > 0, images.count == 16 + pixels * count else {
            throw LOptMetaError("the \(name) have \(images.count) bytes of images and \(labels.count) of labels")
        }
        var order = Array(0..<count), random = Random(seed)
        order.shuffle(using: &random)
        return Images(
            inputs: order.flatMap { i in images[(16 + pixels * i)..<(16 + pixels * (i + 1))].map { Float($0) / white } },
            targets: order.map { Float(labels[8 + $0]) })
    }

    private struct Images {
        let inputs: [Float]
        let targets: [Float]
        private var trainCount: Int { targets.count * 4 / 5 }

        func labelled(_ name: String) -> Dataset {
            Dataset(name, source: name, inputs: inputs, targets: targets, count: targets.count, trainCount: trainCount)
        }
        func mirrored(_ name: String) -> Dataset {
            Dataset(name, source: name, mirroring: inputs, count: targets.count, trainCount: trainCount)
        }
    }
}
