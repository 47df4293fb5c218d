import Foundation

/// Finished runs, kept as one line of JSON each, so that an evaluation that was stopped goes on where it was.
///
/// Lines are added in the order in which runs finish, each as a whole; `sort` puts them into the order of an evaluation.
public final class RunLog {
    public let url: URL
    private var results: [RunResult.Key: RunResult] = [:]
    private var file: FileHandle

    /// Opens or makes `runs.jsonl` in the directory, which is made if need be. A last line that was cut short is dropped;
    /// any other that does not parse is an error.
    public init(directory: URL) throws {
        try directory.makeFolder()
        url = directory.appendingPathComponent("runs.jsonl")
        if url.isFile {
            let data = try url.readFile()
            let decoder = JSONDecoder()
            let lines = data.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false)
            for (number, line) in lines.enumerated() where !line.isEmpty {
                if number == lines.count - 1 { break }
                guard let result = try? decoder.decode(RunResult.self, from: line) else {
                    throw LOptMetaError("\(url.path): line \(number + 1) is no result of a run; move the file away")
                }
                results[result.key] = result
            }
        }
        try RunLog.write(Array(results.values), to: url)
        file = try RunLog.open(url)
    }

    /// At its end.
    private static func open(_ url: URL) throws -> FileHandle {
        try url.access("written") {
            let file = try FileHandle(forWritingTo: $0)
            try file.seekToEnd()
            return file
        }
    }

    /// Finished runs in the file of a log, as it is now.
    public static func count(in url: URL) -> Int {
        (try? Data(contentsOf: url))?.count { $0 == UInt8(ascii: "\n") } ?? 0
    }

    func result(_ key: RunResult.Key) -> RunResult? { results[key] }

    func add(_ result: RunResult) throws {
        let line = try RunLog.line(result)
        try url.access("written") { _ in
            let end = try file.offset()
            do { try file.write(contentsOf: line) } catch {
                // No part of a line stays between those of others.
                try? file.truncate(atOffset: end)
                throw error
            }
        }
        results[result.key] = result
    }

    /// Writes the file anew: the lines in the order of task, optimizer, seed and horizon, whatever order they came in.
    func sort() throws {
        try file.close()
        try RunLog.write(Array(results.values), to: url)
        file = try RunLog.open(url)
    }

    private static func line(_ result: RunResult) throws -> Data {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        return try encoder.encode(result) + Data([UInt8(ascii: "\n")])
    }

    private static func write(_ results: [RunResult], to url: URL) throws {
        let sorted = results.map(\.key).indices.sorted { i, j in
            let (a, b) = (results[i].key, results[j].key)
            return (a.task, a.optimizer, a.seed, a.horizon) < (b.task, b.optimizer, b.seed, b.horizon)
        }
        var data = Data()
        for i in sorted { data += try line(results[i]) }
        try url.writeFile(data)
    }
}
