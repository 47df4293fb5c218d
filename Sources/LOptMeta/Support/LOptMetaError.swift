import Foundation
import LOptCore

/// What meta-training and evaluation throw: a line that names the value and what is allowed, or the file and what the system said of it.
public struct LOptMetaError: Error, Equatable, CustomStringConvertible {
    public let description: String
    public init(_ description: String) { self.description = description }
}
