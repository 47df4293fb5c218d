import CLOptShims

/// Where memory comes from: the caller's functions or the C library's. An allocation that fails is an error, never a trap.
public struct Allocator {
    public typealias Allocate = @convention(c) (UnsafeMutableRawPointer?, Int, Int) -> UnsafeMutableRawPointer?
    public typealias Deallocate = @convention(c) (UnsafeMutableRawPointer?, UnsafeMutableRawPointer?, Int) -> Void

    let allocateBytes: Allocate
    let deallocateBytes: Deallocate
    let context: UnsafeMutableRawPointer?

    /// A cache line, and the width of an AVX-512 register.
    static let alignment = 64

    public init(allocate: Allocate, deallocate: Deallocate, context: UnsafeMutableRawPointer?) {
        allocateBytes = allocate
        deallocateBytes = deallocate
        self.context = context
    }

    /// `aligned_alloc` and `free`.
    public static var system: Allocator {
        Allocator(
            allocate: { _, size, alignment in lopt_system_allocate(size, alignment) },
            deallocate: { _, pointer, _ in lopt_system_free(pointer) },
            context: nil)
    }

    /// Memory for `count` values, not initialised; at least one byte is asked for, so that a pointer comes back.
    public func allocate<T: ~Copyable>(_ type: T.Type, _ count: Int) throws(LOptError) -> UnsafeMutablePointer<T> {
        let (size, overflow) = count.multipliedReportingOverflow(by: MemoryLayout<T>.stride)
        guard !overflow, size <= Int.max - Allocator.alignment,
            let memory = allocateBytes(context, Allocator.rounded(size), Allocator.alignment)
        else { throw LOptError(.noMemory, "an allocation of \(count) values of \(MemoryLayout<T>.stride) bytes failed") }
        return memory.bindMemory(to: type, capacity: max(count, 1))
    }

    /// The same, filled with zero bytes; `T` must be a type for which that is a value.
    func allocateZeroed<T>(_ type: T.Type, _ count: Int) throws(LOptError) -> UnsafeMutablePointer<T> {
        let memory = try allocate(type, count)
        lopt_system_zero(memory, count * MemoryLayout<T>.stride)
        return memory
    }

    public func deallocate<T: ~Copyable>(_ pointer: UnsafeMutablePointer<T>?, _ count: Int) {
        guard let pointer else { return }
        deallocateBytes(context, pointer, Allocator.bytes(T.self, count))
    }

    /// Bytes that memory for `count` values takes.
    public static func bytes<T: ~Copyable>(_ type: T.Type, _ count: Int) -> Int { rounded(count * MemoryLayout<T>.stride) }

    /// Bytes really asked for: a multiple of the alignment, as `aligned_alloc` wants it.
    static func rounded(_ size: Int) -> Int {
        (max(size, 1) + alignment - 1) / alignment * alignment
    }
}
