/// A configuration that cannot be run: the line names the value and what is allowed.
public struct ConfigurationError: Error, CustomStringConvertible {
    public let description: String
    public init(_ description: String) { self.description = description }
}
