import Foundation
import LOptCore

extension Weights {
    /// Writes a weights file with these notes beside the values; throws what `write(path:notes:allocator:)` throws.
    public borrowing func write(to url: URL, notes: [(key: String, value: String)]) throws(LOptError) {
        var strings: [UnsafeMutablePointer<CChar>] = []
        defer { for string in strings { free(string) } }
        func copy(_ text: String) throws(LOptError) -> UnsafeMutablePointer<CChar> {
            guard let string = strdup(text) else { throw LOptError(.noMemory, "no memory for a note") }
            strings.append(string)
            return string
        }
        let table = UnsafeMutableBufferPointer<Note>.allocate(capacity: notes.count)
        defer { table.deallocate() }
        for (i, note) in notes.enumerated() { table.initializeElement(at: i, to: Note(try copy(note.key), try copy(note.value))) }
        try write(path: copy(url.path), notes: UnsafeBufferPointer(table), allocator: .system)
    }
}
