import Foundation

extension JSONEncoder {
    /// JSON for people and for `cmp`: on lines of its own, keys in order; what is no number as a string.
    public static var readable: JSONEncoder {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
        encoder.nonConformingFloatEncodingStrategy = .convertToString(positiveInfinity: "inf", negativeInfinity: "-inf", nan: "nan")
        return encoder
    }
}

extension DecodingError {
    /// In one line: where in the JSON, and what is wrong there.
    var line: String {
        if case .keyNotFound(let key, let context) = self {
            return "\(DecodingError.place(context)) the key '\(key.stringValue)' is missing"
        }
        let context = switch self {
        case .typeMismatch(_, let context), .valueNotFound(_, let context), .keyNotFound(_, let context),
            .dataCorrupted(let context): context
        @unknown default: Context(codingPath: [], debugDescription: "it cannot be decoded")
        }
        return "\(DecodingError.place(context)) \(context.debugDescription.replacingOccurrences(of: "\n", with: " "))"
    }

    private static func place(_ context: Context) -> String {
        var path = ""
        for key in context.codingPath { path += key.intValue.map { "[\($0)]" } ?? (path.isEmpty ? "" : ".") + key.stringValue }
        return path.isEmpty ? "at its top" : "at \(path)"
    }
}
