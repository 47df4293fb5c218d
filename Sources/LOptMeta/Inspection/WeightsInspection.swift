import Foundation
import LOptCore
import LOptReference

/// What is in weights, as numbers to be read or compared.
public struct WeightsInspection: Codable, Sendable {
    public struct Value: Codable, Sendable {
        /// As the metadata of a weights file have it.
        public let key: String
        public let value: String
    }
    public struct Decay: Codable, Sendable {
        public let accumulator: String
        /// The constructor's beta0.
        public let initial: Double
        /// beta = 1 - (1 - beta0) exp(10 theta).
        public let learned: Double
    }
    /// With every feature but the step features 0, at t steps taken. Without the tensor scales, whose inputs depend on the
    /// tensor; of kind pooled with every statistic 0, and no horizon known.
    public struct StepSize: Codable, Sendable {
        public let t: Int
        /// nominal_stepsize exp(n exp_mult1), which multiplies the nominal direction; nil for small_fc.
        public let nominal: Double?
        /// d exp(a exp_mult0) step_mult, the blackbox term; nil for pooled.
        public let blackbox: Double?
        /// What a step takes off a parameter of 1, of kind pooled.
        public let decay: Double?
    }
    public struct TensorScale: Codable, Sendable {
        public let input: String
        public let weight: Double
        /// Added to the weight for each unit of tau = log(1 + min(t, 30000) / 30) / 5; nil if nothing is.
        public let perTau: Double?
    }
    public struct Range: Codable, Sendable {
        /// A statistic of a tensor, or the log-step.
        public let input: String
        /// Where it is clamped.
        public let least: Double
        public let most: Double
    }
    public struct Layer: Codable, Sendable {
        public let name: String
        public let shape: [Int]
        public let rms: Double
        public let largest: Double
    }

    public let name: String
    public let kind: String
    public let digest: String
    public let metaParameters: Int
    /// Constructor values, the file's or the defaults.
    public let values: [Value]
    /// Extensions of the authors' rule that are on.
    public let extensions: [String]
    /// All other metadata of the file.
    public let notes: [Value]
    public let decays: [Decay]
    public let stepSizes: [StepSize]
    /// Empty if the extension is off.
    public let tensorScales: [TensorScale]
    /// Likewise.
    public let ranges: [Range]
    public let layers: [Layer]
    /// Of kind pooled; nil otherwise.
    public let pooled: Pooled?

    public static let times = [0, 1, 3, 10, 30, 100, 300, 1000, 3000, 10000, 30000, 100_000]

    public init(_ named: NamedWeights) {
        let a = named.weights.architecture
        let theta = (0..<a.metaParameters).map { Double(named.weights.theta[$0]) }
        name = named.name
        kind = "\(a.kind.name)"
        digest = named.digest
        metaParameters = a.metaParameters
        values = a.values().map { Value(key: "\($0.key)", value: $0.text) }
        extensions = Architecture.Extension.all.filter { a[$0] }.map { String(a.block(of: $0).name) }
            + a.values().filter { $0.origin != .authors && !$0.isDefault }.map { "\($0.key)" }
        notes = named.notes
        if a.kind == .pooled {
            let rule = ReferencePooled(architecture: a, theta: theta)
            decays = WeightsInspection.decays(rule)
            stepSizes = WeightsInspection.times.map { WeightsInspection.stepSize(rule, t: $0) }
            ranges = WeightsInspection.ranges(rule)
            pooled = Pooled(rule)
        } else {
            decays = WeightsInspection.decays(a, theta)
            let rule = ReferenceOptimizer(architecture: a, theta: theta)
            stepSizes = WeightsInspection.times.map { WeightsInspection.stepSize(rule, t: $0) }
            ranges = (a.tensorScale ? a.rangeNames : []).enumerated().map { i, name in
                let range = a.statisticRange(i, named.weights.theta)
                return Range(input: name, least: range.least, most: range.most)
            }
            pooled = nil
        }
        tensorScales = WeightsInspection.tensorScales(a, theta)
        layers = a.blocks.filter { $0.isShownAsLayer }.map { Layer($0, theta) }
    }

    private static func decays(_ a: Architecture, _ theta: [Double]) -> [Decay] {
        let learned = ReferenceDecays(architecture: a, theta: theta)
        func decay(_ name: String, _ initial: Double, _ oneMinusBeta: Double) -> Decay {
            Decay(accumulator: name, initial: initial, learned: 1 - oneMinusBeta)
        }
        return (0..<a.momenta).map { decay("momentum \($0 + 1)", a.initialMomentumDecays[$0], learned.momentum[$0]) }
            + [decay("second moment", a.initialRMSDecay, learned.secondMoment)]
            + (0..<a.momenta).map { decay("factored \($0 + 1)", a.initialAdafactorDecays[$0], learned.factored[$0]) }
    }

    private static func tensorScales(_ a: Architecture, _ theta: [Double]) -> [TensorScale] {
        guard a.tensorScale else { return [] }
        func values(_ which: Architecture.Extension) -> [Double] {
            let block = a.block(of: which)
            return Array(theta[block.offset..<(block.offset + a.count(of: which))])
        }
        let u = values(.tensorScale), w = values(.tensorSchedule), c = values(.tensorCount)
        var scales = zip(a.tensorScaleInputs, u).enumerated().map { i, input in
            TensorScale(input: input.0, weight: input.1, perTau: a.tensorSchedule ? w[1 + i] : nil)
        }
        if a.tensorSchedule {
            scales.append(TensorScale(input: "log RMS(g) / sqrt(RMS(v))", weight: w[0], perTau: w[w.count - 2]))
            scales.append(TensorScale(input: "1", weight: 0, perTau: w[w.count - 1]))
        }
        if a.tensorCount { scales.append(TensorScale(input: "log tensors", weight: c[0], perTau: c[1])) }
        return scales
    }

    private static func stepSize(_ rule: ReferenceOptimizer<Double>, t: Int) -> StepSize {
        let a = rule.architecture
        let outputs = rule.network([Double](repeating: 0, count: a.features) + rule.stepFeatures(t: t))
        let drift = a.tensorSchedule ? rule.theta[a.offset(of: .tensorCount) - 1] * Architecture.scheduleTime(Int64(t)) : 0
        let n = a.kind == .star ? (a.nominalController ? outputs[2] : 1) + drift : nil
        return StepSize(
            t: t, nominal: n.map { a.nominalStepsize * exp($0 * a.expMult[1]) },
            blackbox: outputs[0] * exp(outputs[1] * a.expMult[0]) * a.stepMult, decay: nil)
    }
}

extension MetaParameterBlock {
    /// Decays, and what the text of scales and ranges explains value by value, have tables of their own.
    fileprivate var isShownAsLayer: Bool {
        switch owner {
        case .accumulators, .extension(.tensorScale), .extension(.tensorSchedule), .extension(.tensorCount),
            .extension(.tensorRanges): false
        default: true
        }
    }
}

extension WeightsInspection.Layer {
    init(_ block: MetaParameterBlock, _ theta: [Double]) {
        let values = theta[block.offset..<(block.offset + block.count)]
        self.init(
            name: String(block.name), shape: [block.rows] + (block.columns.map { [$0] } ?? []),
            rms: (values.reduce(0) { $0 + $1 * $1 } / Double(max(values.count, 1))).squareRoot(),
            largest: values.reduce(0) { max($0, abs($1)) })
    }
}

extension NamedWeights {
    /// The metadata of the file that are no constructor values, by key.
    public var notes: [WeightsInspection.Value] {
        weights.notes.map { WeightsInspection.Value(key: $0.key, value: $0.value) }.sorted { $0.key < $1.key }
    }
}
