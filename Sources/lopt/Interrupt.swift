import Dispatch
import Foundation
import Synchronization

/// Tells of the first SIGINT or SIGTERM by a call and a flag; the second one ends the process as usual.
final class Interrupt: @unchecked Sendable {
    private let pending = Atomic(false)
    private var sources: [any DispatchSourceSignal] = []

    /// - Parameter whenFirst: called on a thread of its own.
    init(_ whenFirst: @escaping @Sendable () -> Void) {
        for number in [SIGINT, SIGTERM] {
            signal(number, SIG_IGN)
            let source = DispatchSource.makeSignalSource(signal: number, queue: .global())
            source.setEventHandler { [weak self] in
                signal(number, SIG_DFL)
                if self?.pending.exchange(true, ordering: .relaxed) == false { whenFirst() }
            }
            source.resume()
            sources.append(source)
        }
    }

    var isPending: Bool { pending.load(ordering: .relaxed) }
}

func standardError(_ line: String) { try? FileHandle.standardError.write(contentsOf: Data((line + "\n").utf8)) }
