import Foundation

/// What multiplies a learning rate over a run of a known length.
public enum Schedule: String, Codable, Hashable, Sendable, CaseIterable {
    case constant
    /// (1 + cos(pi t / T)) / 2: 1 at the start, 0 after T steps (Loshchilov and Hutter 2017, without restarts).
    case cosine

    /// The factor of step `t`, counted from 0, of a run of `steps` steps.
    public func scale(at t: Int, of steps: Int) -> Double {
        switch self {
        case .constant: 1
        case .cosine: (1 + cos(Double.pi * Double(t) / Double(steps))) / 2
        }
    }
}
