/// A 64-bit digest of a sequence of bytes: it tells files and weights apart and finds damage. It is no defence against
/// somebody who means to forge one.
///
/// The bytes are taken as little-endian words of 64 bits, the last one filled up with zeros, word i by lane i mod 4:
///
///     lane <- rotate((lane ^ word) * 0x9e3779b97f4a7c15, 29) * 0xd6e8feb86659fd93
///     h    <- length * 0x9e3779b97f4a7c15, then for lanes 0 to 3:  h <- (h ^ lane) * 0xd6e8feb86659fd93;  h ^= h >> 32
///
/// Every step maps different words to different lanes and different lanes to different h, so any change within one
/// aligned word changes the digest for certain. The second multiplication is there for changes of two words: without it
/// the highest bit of a word becomes bit 28 of the lane and nothing else, which that bit of word i + 4 takes back.
/// Checkpoints carry digests: what this computes must never change.
public struct Digest {
    /// The fractional parts of the square roots of 2, 3, 5 and 7.
    private var lanes: InlineArray<4, UInt64> = [
        0x6a09_e667_f3bc_c908, 0xbb67_ae85_84ca_a73b, 0x3c6e_f372_fe94_f82b, 0xa54f_f53a_5f1d_36f1,
    ]
    private var length: UInt64 = 0
    /// The bytes since the last whole block of four words.
    private var pending = InlineArray<32, UInt8>(repeating: 0)
    private var pendingCount = 0

    public init() {}

    /// The bytes that follow those before; how they are cut into calls makes no difference.
    public mutating func update(_ bytes: UnsafeRawBufferPointer) {
        length &+= UInt64(bytes.count)
        var position = 0
        while position < bytes.count, pendingCount > 0 || bytes.count - position < 32 {
            pending[pendingCount] = bytes[position]
            pendingCount += 1
            position += 1
            if pendingCount == 32 {
                absorbPending(4)
                pendingCount = 0
            }
        }
        while position + 32 <= bytes.count {
            for lane in 0..<4 {
                absorb(lane, bytes.loadUnaligned(fromByteOffset: position + 8 * lane, as: UInt64.self))
            }
            position += 32
        }
        while position < bytes.count {
            pending[pendingCount] = bytes[position]
            pendingCount += 1
            position += 1
        }
    }

    public mutating func update(_ word: UInt64) {
        withUnsafeBytes(of: word.littleEndian) { update($0) }
    }

    /// The digest of what has been taken so far; more may follow.
    public var value: UInt64 {
        var copy = self
        for i in pendingCount..<32 { copy.pending[i] = 0 }
        copy.absorbPending((pendingCount + 7) / 8)
        var h = length &* 0x9e37_79b9_7f4a_7c15
        for lane in 0..<4 {
            h = (h ^ copy.lanes[lane]) &* 0xd6e8_feb8_6659_fd93
            h ^= h >> 32
        }
        return h
    }

    private mutating func absorb(_ lane: Int, _ word: UInt64) {
        let product = (lanes[lane] ^ UInt64(littleEndian: word)) &* 0x9e37_79b9_7f4a_7c15
        lanes[lane] = (product << 29 | product >> 35) &* 0xd6e8_feb8_6659_fd93
    }

    private mutating func absorbPending(_ words: Int) {
        for lane in 0..<words {
            var word: UInt64 = 0
            for byte in 0..<8 { word |= UInt64(pending[8 * lane + byte]) << UInt64(8 * byte) }
            absorb(lane, word.littleEndian)
        }
    }
}
