import Foundation
import LOptCore

extension Unroll {
    /// A run as it stands, to be gone on with in another process.
    public struct Snapshot: Codable, Sendable {
        var step: Int
        var hasDiverged: Bool
        var firstLoss: Double?
        var segmentSums: [Double]
        var segmentSteps: [Int]
        /// A checkpoint of the runtime, with the parameters.
        var optimizer: Data
    }

    public func snapshot() throws(LOptError) -> Snapshot {
        let totals = segmentTotals
        return Snapshot(
            step: step, hasDiverged: hasDiverged, firstLoss: firstLoss.isFinite ? firstLoss : nil,
            segmentSums: totals.sums, segmentSteps: totals.steps, optimizer: try checkpoint())
    }
}
