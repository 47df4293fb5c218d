/// Memory that goes back to its allocator with its owner, so that no path through a throwing initialiser can lose it.
/// For elements that need no deinitialising.
struct Allocation<Element>: ~Copyable {
    let pointer: UnsafeMutablePointer<Element>
    let count: Int
    private let allocator: Allocator

    /// Memory for `count` elements, not initialised. Throws `.noMemory`.
    init(_ count: Int, _ allocator: Allocator) throws(LOptError) {
        pointer = try allocator.allocate(Element.self, count)
        self.count = count
        self.allocator = allocator
    }

    deinit { allocator.deallocate(pointer, count) }

    var bytes: UnsafeRawBufferPointer { UnsafeRawBufferPointer(mutableBytes) }

    var mutableBytes: UnsafeMutableRawBufferPointer {
        UnsafeMutableRawBufferPointer(start: pointer, count: count * MemoryLayout<Element>.stride)
    }
}
