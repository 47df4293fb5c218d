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
