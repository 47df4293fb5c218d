import Foundation

/// Processes that meta-train together, each the pairs whose number in a batch is its rank's modulo their count. All of them make the
/// same updates from the same estimates, so the result is that of one process alone.
public protocol Ranks: Sendable {
    /// From 0 on.
    var rank: Int { get }
    var count: Int { get }
    /// What each rank gives, in the order of the ranks. All ranks call it, in the same order.
    func gather(_ bytes: [UInt8]) -> [[UInt8]]
}

extension Ranks {
    /// What rank 0 wishes.
    public func decide(_ wish: Bool) -> Bool { count == 1 ? wish : gather([wish ? 1 : 0]).first == [1] }

    /// The largest of all.
    func largest(_ value: Int) -> Int {
        guard count > 1 else { return value }
        let all = gather(withUnsafeBytes(of: Int64(value)) { Array($0) })
        return all.map { $0.withUnsafeBytes { Int($0.loadUnaligned(as: Int64.self)) } }.max() ?? value
    }

    func owns(_ pair: Int) -> Bool { pair % count == rank }

    /// `values` with those that other ranks own.
    func complete<Value: Codable>(_ values: [Value?], isOwn: (Int) -> Bool) throws -> [Value] {
        guard count > 1 else { return values.compactMap { $0 } }
        let own = values.indices.filter(isOwn).compactMap { i in values[i].map { Numbered(index: i, value: $0) } }
        let encoder = PropertyListEncoder()
        encoder.outputFormat = .binary
        var all = values
        for bytes in gather(Array(try encoder.encode(own))) {
            for one in try PropertyListDecoder().decode([Numbered<Value>].self, from: Data(bytes)) where all.indices.contains(one.index) {
                all[one.index] = one.value
            }
        }
        let complete = all.compactMap { $0 }
        guard complete.count == all.count else { throw LOptMetaError("the ranks do not work on the same run") }
        return complete
    }
}

private struct Numbered<Value: Codable>: Codable {
    var index: Int
    var value: Value
}

/// One process.
public struct OneRank: Ranks {
    public let rank = 0, count = 1
    public init() {}
    public func gather(_ bytes: [UInt8]) -> [[UInt8]] { [bytes] }
}
