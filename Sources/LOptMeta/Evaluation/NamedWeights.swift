import Foundation
import LOptCore

/// Weights of a learned optimizer and what they are called in a report.
///
/// Weights never change, and any number of threads may read them at once.
public final class NamedWeights: @unchecked Sendable {
    /// The built-in name, or the file's name without its extension; of `weights.safetensors`, which every run of meta-training
    /// has, the name of its folder.
    public let name: String
    public let weights: Weights
    /// Tells weights of one name apart: the digest of everything they compute with.
    public var digest: String { String(format: "%016llx", weights.digest) }

    public init(name: String, weights: consuming Weights) {
        self.name = name
        self.weights = weights
    }

    /// Weights from a file, or from the folder of a run of meta-training, if there is one at `argument` or it looks like a path; else
    /// the built-in weights of that name.
    ///
    /// Throws an `LOptMetaError` that names the argument and what is wrong.
    public convenience init(_ argument: String) throws { try self.init(WeightsArgument(argument), nameParts: 1) }

    /// The same of several, with names of their own: where two would have one name, as many folders as it takes stand before it
    /// (`runs/a/x.safetensors` and `runs/b/x.safetensors` are `a-x` and `b-x`).
    public static func all(_ arguments: [String]) throws -> [NamedWeights] {
        let arguments = arguments.map { WeightsArgument($0) }
        var parts = arguments.map { _ in 1 }
        while true {
            let names = zip(arguments, parts).map { $0.name($1) }
            let clashes = names.indices.filter { i in
                parts[i] < arguments[i].path.count && names.indices.contains { $0 != i && names[$0] == names[i] }
            }
            if clashes.isEmpty { break }
            for i in clashes { parts[i] += 1 }
        }
        return try zip(arguments, parts).map { try NamedWeights($0, nameParts: $1) }
    }

    private convenience init(_ argument: WeightsArgument, nameParts: Int) throws {
        do throws(LOptError) {
            let weights = argument.file.isEmpty
                ? try Weights(builtin: argument.text, allocator: .system) : try Weights(path: argument.file, allocator: .system)
            self.init(name: argument.name(nameParts), weights: weights)
        } catch {
            throw LOptMetaError("weights '\(argument.text)': \(error)")
        }
    }

    /// Weights from their values; throws what that of `Weights` throws.
    public convenience init(name: String, architecture: Architecture, theta: [Float]) throws {
        self.init(name: name, weights: try Weights(architecture: architecture, theta: theta))
    }
}

/// What names weights on the command line.
private struct WeightsArgument {
    let text: String
    /// "" for built-in weights.
    let file: String
    /// What its name is taken from, from the right: folders and the file without its extension.
    let path: [String]

    init(_ text: String) {
        self.text = text
        var isFolder: ObjCBool = false
        let isThere = FileManager.default.fileExists(atPath: text, isDirectory: &isFolder)
        guard isThere || text.contains("/") || text.hasSuffix(".safetensors") else {
            (file, path) = ("", [text])
            return
        }
        file = isFolder.boolValue ? "\(text)/\(RunDirectory.weightsName)" : text
        let url = URL(filePath: file).standardizedFileURL
        var path = url.deletingPathExtension().pathComponents.filter { $0 != "/" }
        if path.count > 1 && url.lastPathComponent == RunDirectory.weightsName { path.removeLast() }
        self.path = path
    }

    func name(_ parts: Int) -> String { path.suffix(parts).joined(separator: "-") }
}

extension NamedWeights: Hashable {
    public static func == (a: NamedWeights, b: NamedWeights) -> Bool {
        a.name == b.name && a.weights.digest == b.weights.digest
    }
    public func hash(into hasher: inout Hasher) {
        hasher.combine(name)
        hasher.combine(weights.digest)
    }
}
