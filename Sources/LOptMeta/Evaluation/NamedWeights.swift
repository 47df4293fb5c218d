import Foundation
import LOptCore

/// Weights of a learned optimizer and what they are called in a report.
///
/// Weights never change, and any number of threads may read them at once.
public final class NamedWeights: @unchecked Sendable {
    /// The built-in name, or the file's name without its extension.
    public let name: String
    public let weights: Weights
    /// Tells weights of one name apart: the digest of everything they compute with.
    public var digest: String { String(format: "%016llx", weights.digest) }

    public init(name: String, weights: consuming Weights) {
        self.name = name
        self.weights = weights
    }

    /// Weights from a file if there is one at `argument` or it looks like a path, else the built-in weights of that name.
    ///
    /// Throws an `EvaluationError` that names the argument and what is wrong.
    public convenience init(_ argument: String) throws {
        let isFile = argument.contains("/") || argument.hasSuffix(".safetensors")
            || FileManager.default.fileExists(atPath: argument)
        do throws(LOptError) {
            if isFile {
                let name = URL(fileURLWithPath: argument).deletingPathExtension().lastPathComponent
                self.init(name: name, weights: try Weights(path: argument, allocator: .system))
            } else {
                self.init(name: argument, weights: try Weights(builtin: argument, allocator: .system))
            }
        } catch {
            throw EvaluationError("weights '\(argument)': \(error)")
        }
    }

    /// Weights from their values; throws what `Weights.init(architecture:theta:allocator:)` throws.
    public convenience init(name: String, architecture: Architecture, theta: [Float]) throws {
        let values = UnsafeMutableBufferPointer<Float>.allocate(capacity: theta.count)
        defer { values.deallocate() }
        _ = values.initialize(from: theta)
        self.init(
            name: name,
            weights: try Weights(architecture: architecture, theta: UnsafeBufferPointer(values), allocator: .system))
    }
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
