import Dispatch
import Foundation

/// Tells of the first SIGINT or SIGTERM by a call and a flag; the second one ends the process as usual.
final class Interrupt: @unchecked Sendable {
    private let lock = NSLock()
    private var pending = false
    private var sources: [any DispatchSourceSignal] = []

    /// - Parameter whenFirst: called on a thread of its own.
    init(_ whenFirst: @escaping @Sendable () -> Void) {
        for number in [SIGINT, SIGTERM] {
            signal(number, SIG_IGN)
            let source = DispatchSource.makeSignalSource(signal: number, queue: .global())
            source.setEventHandler { [weak self] in
                signal(number, SIG_DFL)
                if self?.setPending() == true { whenFirst() }
            }
            source.resume()
            sources.append(source)
        }
    }

    /// True for the first one.
    private func setPending() -> Bool {
        lock.withLock {
            defer { pending = true }
            return !pending
        }
    }

    var isPending: Bool { lock.withLock { pending } }
}

func standardError(_ line: String) { try? FileHandle.standardError.write(contentsOf: Data((line + "\n").utf8)) }
