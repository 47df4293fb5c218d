import Testing

@testable import LOptCore

@Suite struct DigestTests {
    private func digest(_ bytes: [UInt8]) -> UInt64 {
        var digest = Digest()
        bytes.withUnsafeBytes { digest.update($0) }
        return digest.value
    }

    /// Values of another program written from the definition. They must never change: checkpoints hold digests.
    @Test(arguments: [
        (0, 0x02c44a6d152a6d63),
        (1, 0x99f8dfad75d1d1eb),
        (7, 0x8a5ab53bba2c4fd3),
        (8, 0xdc02410eab34fa9e),
        (9, 0x25b6c739f39e21dc),
        (31, 0x53288295507f7f90),
        (32, 0x472434bbb0fd56e5),
        (33, 0x39933bea6ad3bd8c),
        (63, 0x4511fc744e18fc2e),
        (64, 0x446c854447a6a4a5),
        (65, 0xceaa1b348ef41ca5),
        (1000, 0x471b7278efe9ad77),
    ])
    func `values are those of the definition`(count: Int, value: UInt64) {
        #expect(digest((0..<count).map { UInt8(truncatingIfNeeded: 7 * $0 + 1) }) == value)
    }

    @Test func `cuts make no difference`() {
        let bytes = (0..<200).map { UInt8(truncatingIfNeeded: $0 &* 37) }
        let whole = digest(bytes)
        for first in 0...100 {
            for second in [0, 1, 7, 8, 31, 32, 33, 64, 100] {
                var parts = Digest()
                for part in [bytes[..<first], bytes[first..<(first + second)], bytes[(first + second)...]] {
                    Array(part).withUnsafeBytes { parts.update($0) }
                }
                #expect(parts.value == whole)
            }
        }
    }

    @Test func `the value may be taken on the way`() {
        var running = Digest()
        for n in 0..<100 {
            #expect(running.value == digest([UInt8](repeating: 5, count: n)))
            withUnsafeBytes(of: UInt8(5)) { running.update($0) }
        }
    }

    @Test func `words are little-endian bytes`() {
        var words = Digest()
        words.update(0x0807_0605_0403_0201)
        #expect(words.value == digest([1, 2, 3, 4, 5, 6, 7, 8]))
    }

    /// Zeros at the end count, and no two of many small changes agree.
    @Test func `every change shows`() {
        var seen: Set<UInt64> = []
        for count in 0..<100 { seen.insert(digest([UInt8](repeating: 0, count: count))) }
        #expect(seen.count == 100)
        let bytes = (0..<100).map { UInt8($0) }
        seen = [digest(bytes)]
        for bit in 0..<800 {
            var changed = bytes
            changed[bit / 8] ^= 1 << UInt8(bit % 8)
            seen.insert(digest(changed))
        }
        for i in 0..<99 {
            var changed = bytes
            changed.swapAt(i, i + 1)
            seen.insert(digest(changed))
        }
        #expect(seen.count == 1 + 800 + 99)
    }
}
