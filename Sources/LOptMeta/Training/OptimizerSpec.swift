import Foundation

/// An optimizer with everything set: what a run is made with.
public struct OptimizerSpec: Hashable, Sendable {
    public enum Method: Hashable, Sendable {
        /// Kingma and Ba 2015: decays 0.9 and 0.999, epsilon 1e-8, bias correction; decoupled weight decay (Loshchilov and Hutter 2019).
        case adamW(learningRate: Double, weightDecay: Double)
        /// AlgoPerf's one configuration; it belongs to `Schedule.warmupCosine`.
        case nadamW
        /// Defazio et al. 2024, without weight decay and warm-up.
        case scheduleFreeAdamW(learningRate: Double)
        /// Mishchenko and Defazio 2024, of rate 1.
        case prodigy
        /// Heavy ball: m <- 0.9 m + g, p <- p - rate m.
        case sgdm(learningRate: Double)
        case lopt(NamedWeights)
    }

    public let method: Method
    public let schedule: Schedule
    /// Whether held-out data are judged at an average of the parameters (`AveragedRule`).
    public let isAveraged: Bool

    public init(_ method: Method, _ schedule: Schedule, isAveraged: Bool = false) {
        (self.method, self.schedule, self.isAveraged) = (method, schedule, isAveraged)
    }

    /// Names it for good in stored results: `adamw 0.003 0.01 cosine`, `lopt star 0123456789abcdef constant`.
    public var id: String {
        let name = switch method {
        case .adamW(let rate, let decay): "adamw \(rate) \(decay)"
        case .nadamW: "nadamw"
        case .scheduleFreeAdamW(let rate): "schedule-free adamw \(rate)"
        case .prodigy: "prodigy"
        case .sgdm(let rate): "sgdm \(rate)"
        case .lopt(let weights): "lopt \(weights.name) \(weights.digest)"
        }
        return "\(name) \(schedule.rawValue)\(isAveraged ? " averaged" : "")"
    }

    /// Names it for a reader: `AdamW 0.003 (decay 0.01), cosine`, `lopt star, known horizon`.
    public var label: String {
        let name = switch method {
        case .adamW(let rate, let decay): "AdamW \(rate) (decay \(decay))"
        case .nadamW: "NAdamW"
        case .scheduleFreeAdamW(let rate): "schedule-free AdamW \(rate)"
        case .prodigy: "Prodigy"
        case .sgdm(let rate): "SGDM \(rate)"
        case .lopt(let weights): "lopt \(weights.name)"
        }
        return name + Mode(schedule, isAveraged).suffix
    }

    /// How an optimizer is run, whichever it is.
    struct Mode: Hashable {
        let schedule: Schedule
        let isAveraged: Bool

        init(_ schedule: Schedule, _ isAveraged: Bool) { (self.schedule, self.isAveraged) = (schedule, isAveraged) }

        /// Behind the name of an optimizer.
        var suffix: String {
            let schedule = switch schedule {
            case .constant: ""
            case .known: ", known horizon"
            default: ", \(schedule.rawValue)"
            }
            return schedule + (isAveraged ? ", averaged" : "")
        }

        /// Of learned optimizers in an evaluation: nothing known, the number of steps known, a cosine of the caller's, and judged at
        /// an average.
        static let learned = [Mode(.constant, false), Mode(.known, false), Mode(.cosine, false), Mode(.constant, true)]
    }
}

/// What learned optimizers are compared with: one optimizer, or a grid, of which the best stands for it on each task, horizon and
/// measure.
public struct Baseline: Hashable, Sendable {
    public let name: String
    public let specs: [OptimizerSpec]
    public var isTuned: Bool { specs.count > 1 }

    /// Half decades from 1e-4 to 1e-1, of AdamW.
    public static let rates = [1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1]
    public static let decays = [0.01, 0.1]
    /// Two more, because the best rates of plain gradients reach further up than Adam's.
    public static let sgdmRates = rates + [3e-1, 1]

    /// As PyTorch has it, nothing given.
    public static let untunedAdamW = Baseline("AdamW 0.001", .adamW(learningRate: 1e-3, weightDecay: 0.01), .constant)
    public static let untunedCosineAdamW = Baseline("AdamW 0.001, cosine", .adamW(learningRate: 1e-3, weightDecay: 0.01), .cosine)
    public static let nadamW = Baseline("NAdamW", .nadamW, .warmupCosine)
    public static let scheduleFreeAdamW = Baseline("schedule-free AdamW", .scheduleFreeAdamW(learningRate: 0.0025), .constant)
    public static let prodigy = Baseline("Prodigy", .prodigy, .constant)
    public static let adamW = Baseline("AdamW tuned", grid, .constant)
    public static let cosineAdamW = Baseline("AdamW tuned, cosine", grid, .cosine)
    public static let sgdm = Baseline("SGDM tuned", sgdmRates.map { .sgdm(learningRate: $0) }, .constant)
    public static let cosineSGDM = Baseline("SGDM tuned, cosine", sgdmRates.map { .sgdm(learningRate: $0) }, .cosine)

    /// The tuned ones first, then those at their library's defaults.
    public static let all = [adamW, cosineAdamW, sgdm, cosineSGDM] + untuned
    public static let untuned = [untunedAdamW, untunedCosineAdamW, nadamW, scheduleFreeAdamW, prodigy]

    private static let grid = decays.flatMap { decay in rates.map { OptimizerSpec.Method.adamW(learningRate: $0, weightDecay: decay) } }

    private init(_ name: String, _ methods: [OptimizerSpec.Method], _ schedule: Schedule) {
        self.name = name
        specs = methods.map { OptimizerSpec($0, schedule) }
    }

    private init(_ name: String, _ method: OptimizerSpec.Method, _ schedule: Schedule) { self.init(name, [method], schedule) }
}
