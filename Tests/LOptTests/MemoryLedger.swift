import Foundation

@testable import LOptCore

/// An allocator that keeps the books: what is out, how much was out at most, and which call is to fail.
final class MemoryLedger {
    private var sizes: [UnsafeMutableRawPointer: Int] = [:]
    private(set) var calls = 0
    private(set) var live = 0
    private(set) var peak = 0
    /// Frees of what was never given out, or with another size.
    private(set) var faults = 0
    /// The number of the call that fails, from 0; nil: none.
    var failing: Int?
    /// Requests of more bytes fail.
    var limit = Int.max

    init(failing: Int? = nil) { self.failing = failing }

    var isBalanced: Bool { live == 0 && sizes.isEmpty && faults == 0 }

    /// The ledger must outlive it.
    var allocator: Allocator {
        Allocator(
            allocate: { context, size, alignment in
                MemoryLedger.of(context).allocate(size, alignment)
            },
            deallocate: { context, pointer, size in MemoryLedger.of(context).deallocate(pointer, size) },
            context: Unmanaged.passUnretained(self).toOpaque())
    }

    private static func of(_ context: UnsafeMutableRawPointer?) -> MemoryLedger {
        Unmanaged<MemoryLedger>.fromOpaque(context!).takeUnretainedValue()
    }

    private func allocate(_ size: Int, _ alignment: Int) -> UnsafeMutableRawPointer? {
        calls += 1
        guard calls - 1 != failing, size <= limit, let memory = aligned_alloc(alignment, size) else { return nil }
        // What is read before it is written must not happen to be 0.
        memset(memory, 0xa5, size)
        sizes[memory] = size
        live += size
        peak = max(peak, live)
        return memory
    }

    private func deallocate(_ pointer: UnsafeMutableRawPointer?, _ size: Int) {
        guard let pointer, sizes.removeValue(forKey: pointer) == size else {
            faults += 1
            return
        }
        live -= size
        free(pointer)
    }
}

/// The error that `body` throws, or nil if it returns.
func failure(_ body: () throws(LOptError) -> Void) -> LOptError? {
    do {
        try body()
        return nil
    } catch {
        return error
    }
}

/// A directory that goes with its owner.
final class TemporaryDirectory {
    let url: URL

    init() throws {
        url = FileManager.default.temporaryDirectory.appendingPathComponent("lopt-tests-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: url, withIntermediateDirectories: true)
    }

    deinit { try? FileManager.default.removeItem(at: url) }

    func path(_ name: String) -> String { url.appendingPathComponent(name).path }

    /// What is in it, hidden files too.
    var names: [String] { (try? FileManager.default.contentsOfDirectory(atPath: url.path).sorted()) ?? [] }
}
