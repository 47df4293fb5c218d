import Foundation
import Testing

@testable import LOptCore

/// A damaged weights file gives weights or an error: never a trap, a leak, or memory beyond bounds.
@Suite struct WeightsDamageTests {
    private let star: [UInt8]

    init() throws {
        star = Array(try Data(contentsOf: repository.appendingPathComponent("weights/star.safetensors")))
    }

    /// Reads it with the books kept; true if there are weights.
    private func isAccepted(_ file: [UInt8]) -> Bool {
        let ledger = MemoryLedger()
        let error = failure { () throws(LOptError) in
            let found = try weights(of: file, allocator: ledger.allocator)
            #expect(found.theta.allSatisfy { $0.isFinite })
        }
        if let error {
            #expect(error.status == .weights)
            #expect(!error.description.isEmpty)
        }
        #expect(ledger.isBalanced)
        // The table, and the values of an architecture whose tensors were found in the file.
        #expect(ledger.peak <= 7 * file.count + 8 * 64, "\(ledger.peak)")
        return error == nil
    }

    @Test func `every prefix is refused`() {
        #expect(isAccepted(star))
        for count in 0..<star.count { #expect(!isAccepted(Array(star.prefix(count))), "\(count) bytes") }
        #expect(!isAccepted(star + [0]))
    }

    /// A change in the data is another value (or no number); one in the header is mostly an error.
    @Test func `every bit may be wrong`() {
        var accepted = 0
        var file = star
        for i in star.indices {
            for bit in 0..<8 {
                file[i] ^= 1 << UInt8(bit)
                if isAccepted(file) { accepted += 1 }
                file[i] = star[i]
            }
        }
        // 216 values, of whose 32 bits at most one makes a number infinite or none; and text that is not read.
        #expect(accepted > 216 * 31 && accepted < star.count * 8 * 3 / 4, "\(accepted)")
    }

    /// Pieces cut out, doubled, swapped and filled with characters of JSON, the length of the header put right.
    @Test func `headers may be shuffled`() {
        var noise = Noise(state: 17)
        let length = 8 + Int(star[0]) + Int(star[1]) << 8
        let (header, data) = (Array(star[8..<length]), Array(star[length...]))
        let characters = Array("{}[],:\"\\u09aeE+-. \u{80}".utf8)
        var accepted = 0
        for _ in 0..<4000 {
            var text = header
            for _ in 0..<Int.random(in: 1...3, using: &noise) {
                let from = Int.random(in: 0..<text.count, using: &noise)
                let to = min(from + Int.random(in: 0...20, using: &noise), text.count)
                switch Int.random(in: 0..<4, using: &noise) {
                case 0: text.removeSubrange(from..<to)
                case 1: text.insert(contentsOf: text[from..<to], at: Int.random(in: 0...text.count, using: &noise))
                case 2: text.insert(characters.randomElement(using: &noise) ?? 0, at: from)
                default: text[from] = characters.randomElement(using: &noise) ?? 0
                }
            }
            if isAccepted(safeTensorsFile(text, data: data)) { accepted += 1 }
        }
        #expect(accepted < 4000)
    }

    @Test func `every failed allocation is reported`() throws {
        let counting = MemoryLedger()
        let path = repository.appendingPathComponent("weights/star.safetensors").path
        _ = WeightsContents(try Weights(path: path, allocator: counting.allocator))
        #expect(counting.isBalanced)
        // The file, four of its table, the values.
        #expect(counting.calls == 6)
        for n in 0..<counting.calls {
            let ledger = MemoryLedger(failing: n)
            let error = failure { () throws(LOptError) in _ = try Weights(path: path, allocator: ledger.allocator) }
            #expect(error?.status == .noMemory)
            #expect(ledger.isBalanced)
            #expect(ledger.calls == n + 1)
        }
    }

    /// Metadata that declare the widest network ask for no memory unless its tensors are in the file.
    @Test func `declared sizes ask for no memory`() {
        var file = WeightsFile()
        file.metadata["hidden_size"] = "512"
        file.metadata["hidden_layers"] = "4"
        let ledger = MemoryLedger()
        let bytes = file.bytes
        let error = failure { () throws(LOptError) in _ = try weights(of: bytes, allocator: ledger.allocator) }
        #expect(error?.status == .weights)
        #expect(ledger.peak <= 7 * bytes.count)
    }
}
