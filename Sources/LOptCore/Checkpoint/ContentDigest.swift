/// A digest of named arrays that does not depend on the order in which a file holds them: the sum of one digest for each, of the
/// digest of its bytes and its name. Checkpoints carry it: what this computes must never change.
struct ContentDigest {
    private(set) var value: UInt64 = 0
    private var array = Digest()

    /// The bytes of an array that follow those before.
    mutating func update(_ bytes: UnsafeRawBufferPointer) { array.update(bytes) }

    /// Those were all; the array's name is `name` with `suffix` behind it.
    mutating func end(_ name: UnsafeRawBufferPointer, suffix: StaticString = "") {
        var named = Digest()
        named.update(array.value)
        named.update(name)
        named.update(UnsafeRawBufferPointer(suffix))
        value &+= named.value
        array = Digest()
    }
}

/// The two digests of a checkpoint's data. Either shows that they are those that were written.
struct CheckpointDigests: PieceTaker {
    /// Of the data as they lie in the file: it stays right if tensors are renamed.
    private(set) var data = Digest()
    /// Of the arrays: it stays right if a tool writes them in another order.
    private(set) var content = ContentDigest()

    @inline(never)
    mutating func take(_ bytes: UnsafeRawBufferPointer) {
        data.update(bytes)
        content.update(bytes)
    }

    @inline(never)
    mutating func end(_ name: UnsafeRawBufferPointer, _ suffix: StaticString) { content.end(name, suffix: suffix) }
}
