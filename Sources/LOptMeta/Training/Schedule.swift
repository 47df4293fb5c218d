import Foundation

/// What multiplies a learning rate over a run of a known length, as a caller does through `lopt_set_lr_scale`.
public enum Schedule: String, Codable, Hashable, Sendable, CaseIterable {
    case constant
    /// (1 + cos(pi t / T)) / 2: 1 at the start, 0 after T steps (Loshchilov and Hutter 2017, without restarts).
    case cosine
    /// 1 - t / T.
    case linear
    /// Constant, and the learned optimizer is told the number of steps, as a caller does through `total_steps`.
    case known
    /// From 0 to 1 over the first 2 % of the steps, and with a cosine to 0 over the others: AlgoPerf's.
    case warmupCosine = "warm-up and cosine"

    /// The factor of step `t`, counted from 0, of a run of `steps` steps.
    public func scale(at t: Int, of steps: Int) -> Double {
        let t = Double(t), steps = Double(max(steps, 1))
        return switch self {
        case .constant, .known: 1
        case .cosine: (1 + cos(Double.pi * t / steps)) / 2
        case .linear: 1 - t / steps
        case .warmupCosine:
            t < Schedule.warmup(steps)
                ? t / Schedule.warmup(steps) : (1 + cos(Double.pi * (t - Schedule.warmup(steps)) / max(steps - Schedule.warmup(steps), 1))) / 2
        }
    }

    private static func warmup(_ steps: Double) -> Double { (0.02 * steps).rounded(.down) }

    /// Whether a run depends on how long it is to be.
    public var endsWithHorizon: Bool { self != .constant }
}
