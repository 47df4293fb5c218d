import Foundation

/// An optimizer with everything set: what a run is made with.
public struct OptimizerSpec: Hashable, Sendable {
    public enum Method: Hashable, Sendable {
        /// Kingma and Ba 2015: decays 0.9 and 0.999, epsilon 1e-8, bias correction.
        case adam(learningRate: Double)
        /// Heavy ball: m <- 0.9 m + g, p <- p - rate m.
        case sgdm(learningRate: Double)
        case lopt(NamedWeights)
    }

    public let method: Method
    public let schedule: Schedule

    public init(_ method: Method, _ schedule: Schedule) {
        (self.method, self.schedule) = (method, schedule)
    }

    /// Names it for good in stored results: `adam 0.003 cosine`, `lopt star 0123456789abcdef constant`.
    public var id: String {
        switch method {
        case .adam(let rate): "adam \(rate) \(schedule.rawValue)"
        case .sgdm(let rate): "sgdm \(rate) \(schedule.rawValue)"
        case .lopt(let weights): "lopt \(weights.name) \(weights.digest) \(schedule.rawValue)"
        }
    }

    /// Names it for a reader: `Adam 0.003, cosine`.
    public var label: String {
        let name = switch method {
        case .adam(let rate): "Adam \(rate)"
        case .sgdm(let rate): "SGDM \(rate)"
        case .lopt(let weights): "lopt \(weights.name)"
        }
        return schedule == .constant ? name : "\(name), \(schedule.rawValue)"
    }
}

/// A baseline with its grid of learning rates; the best of them stands for it on each task and horizon.
public struct Baseline: Hashable, Sendable {
    public let name: String
    public let specs: [OptimizerSpec]

    /// Half decades from 1e-4 to 1e-1.
    public static let adamRates = [1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1]
    /// Two more, because the best rates of plain gradients reach further up than Adam's.
    public static let sgdmRates = adamRates + [3e-1, 1]

    public static let untunedAdam = Baseline(name: "Adam 0.001", specs: [OptimizerSpec(.adam(learningRate: 1e-3), .constant)])
    public static let adam = Baseline(
        name: "Adam tuned", specs: adamRates.map { OptimizerSpec(.adam(learningRate: $0), .constant) })
    public static let cosineAdam = Baseline(
        name: "Adam tuned, cosine", specs: adamRates.map { OptimizerSpec(.adam(learningRate: $0), .cosine) })
    public static let sgdm = Baseline(
        name: "SGDM tuned", specs: sgdmRates.map { OptimizerSpec(.sgdm(learningRate: $0), .constant) })
    public static let cosineSGDM = Baseline(
        name: "SGDM tuned, cosine", specs: sgdmRates.map { OptimizerSpec(.sgdm(learningRate: $0), .cosine) })
    /// Of all of the above, the best on the task and horizon at hand.
    public static let best = Baseline(
        name: "best of all", specs: adam.specs + cosineAdam.specs + sgdm.specs + cosineSGDM.specs)

    public static let all = [untunedAdam, adam, cosineAdam, sgdm, cosineSGDM, best]
}
