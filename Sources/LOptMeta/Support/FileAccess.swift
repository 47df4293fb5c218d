import Foundation

extension LOptMetaError {
    /// A file or folder that the system would not give: its path, what was to be done with it, and the system's reason.
    fileprivate init(_ url: URL, _ verb: String, _ error: any Error) {
        self.init("'\(url.path)' cannot be \(verb): \(LOptMetaError.reason(error))")
    }

    /// What Foundation wraps is the system's error number, as a rule; its own words name no path, or several.
    private static func reason(_ error: any Error) -> String {
        var cause: (any Error)? = error
        while let one = cause {
            if let system = one as? POSIXError { return String(cString: strerror(system.code.rawValue)) }
            let wrapper = one as NSError
            if wrapper.domain == NSPOSIXErrorDomain { return String(cString: strerror(Int32(wrapper.code))) }
            cause = wrapper.userInfo[NSUnderlyingErrorKey] as? any Error
        }
        return error.localizedDescription.replacingOccurrences(of: "\n", with: " ")
    }
}

/// Every file and folder of meta-training and evaluation is read and written through these; what fails is an `LOptMetaError`.
extension URL {
    func access<Result>(_ verb: String, _ body: (URL) throws -> Result) throws -> Result {
        do { return try body(self) } catch let error as LOptMetaError { throw error } catch { throw LOptMetaError(self, verb, error) }
    }

    func readFile() throws -> Data { try access("read") { try Data(contentsOf: $0) } }

    /// In the place of the file there is, at once or not at all, if that is one; a device or a pipe gets the bytes.
    func writeFile(_ data: Data) throws {
        var status = stat()
        let isOther = stat(path, &status) == 0 && status.st_mode & S_IFMT != S_IFREG
        try access("written") { try data.write(to: $0, options: isOther ? [] : .atomic) }
    }

    func makeFolder() throws {
        try access("made") { try FileManager.default.createDirectory(at: $0, withIntermediateDirectories: true) }
    }

    var isFile: Bool { FileManager.default.fileExists(atPath: path) }
}
