import Foundation
import LOptCore

extension Weights {
    /// Writes a weights file with these notes beside the values; throws a `LOptMetaError` with its path and what failed.
    public borrowing func write(to url: URL, notes: [(key: String, value: String)]) throws {
        var strings: [UnsafeMutablePointer<CChar>] = []
        defer { for string in strings { free(string) } }
        func copy(_ text: String) throws -> UnsafeMutablePointer<CChar> {
            guard let string = strdup(text) else { throw LOptMetaError("'\(url.path)': no memory") }
            strings.append(string)
            return string
        }
        let table = UnsafeMutableBufferPointer<Note>.allocate(capacity: notes.count)
        defer { table.deallocate() }
        for (i, note) in notes.enumerated() { table.initializeElement(at: i, to: Note(try copy(note.key), try copy(note.value))) }
        let path = try copy(url.path)
        do throws(LOptError) {
            try write(path: path, notes: UnsafeBufferPointer(table), allocator: .system)
        } catch {
            throw LOptMetaError("'\(url.path)': \(error)")
        }
    }
}
