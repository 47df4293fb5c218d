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
    /// tensor.
    public struct StepSize: Codable, Sendable {
        public let t: Int
        /// nominal_stepsize exp(n exp_mult1), which multiplies the nominal direction; nil for small_fc.
        public let nominal: Double?
        /// d exp(a exp_mult0) step_mult, the blackbox term.
        public let blackbox: Double
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

    public static let times = [0, 1, 3, 10, 30, 100, 300, 1000, 3000, 10000, 30000, 100_000]

    public init(_ named: NamedWeights) {
        let a = named.weights.architecture
        let theta = (0..<a.metaParameters).map { Double(named.weights.theta[$0]) }
        name = named.name
        kind = a.kindName
        digest = named.digest
        metaParameters = a.metaParameters
        let values = a.constructorValues
        self.values = values
        extensions = (a.tensorScale ? ["tensor_scale"] : []) + (a.tensorSchedule ? ["tensor_schedule"] : [])
            + (a.tensorCount ? ["tensor_count"] : []) + (a.tensorRanges ? ["tensor_ranges"] : [])
            + (a.skipIdleTensors ? ["skip_idle_tensors"] : [])
            + (a.nominalEpsilon != 1e-6 ? ["nominal_epsilon"] : [])
        notes = named.notes
        decays = WeightsInspection.decays(a, theta)
        let rule = ReferenceOptimizer(architecture: a, theta: theta)
        stepSizes = WeightsInspection.times.map { WeightsInspection.stepSize(rule, t: $0) }
        tensorScales = WeightsInspection.tensorScales(a, theta)
        ranges = (a.tensorScale ? a.rangeNames : []).enumerated().map { i, name in
            let range = a.statisticRange(i, named.weights.theta)
            return Range(input: name, least: range.least, most: range.most)
        }
        layers = (0..<a.layers).flatMap { l in
            [
                Layer("w\(l)", [a.fanIn(l), a.fanOut(l)], theta[a.weightOffset(l)...]),
                Layer("b\(l)", [a.fanOut(l)], theta[a.biasOffset(l)...]),
            ]
        }
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
        let u = theta[a.tensorScaleOffset..<a.tensorScheduleOffset], w = Array(theta[a.tensorScheduleOffset..<a.tensorCountOffset])
        var scales = zip(a.tensorScaleInputs, u).enumerated().map { i, input in
            TensorScale(input: input.0, weight: input.1, perTau: a.tensorSchedule ? w[1 + i] : nil)
        }
        if a.tensorSchedule {
            scales.append(TensorScale(input: "log RMS(g) / sqrt(RMS(v))", weight: w[0], perTau: w[w.count - 2]))
            scales.append(TensorScale(input: "1", weight: 0, perTau: w[w.count - 1]))
        }
        if a.tensorCount {
            let c = theta[a.tensorCountOffset...]
            scales.append(TensorScale(input: "log tensors", weight: c[c.startIndex], perTau: c[c.startIndex + 1]))
        }
        return scales
    }

    private static func stepSize(_ rule: ReferenceOptimizer<Double>, t: Int) -> StepSize {
        let a = rule.architecture
        let outputs = rule.network([Double](repeating: 0, count: a.features) + rule.stepFeatures(t: t))
        let drift = a.tensorSchedule ? rule.theta[a.tensorCountOffset - 1] * Architecture.scheduleTime(Int64(t)) : 0
        let n = a.kind == .star ? (a.nominalController ? outputs[2] : 1) + drift : nil
        return StepSize(
            t: t, nominal: n.map { a.nominalStepsize * exp($0 * a.expMult[1]) },
            blackbox: outputs[0] * exp(outputs[1] * a.expMult[0]) * a.stepMult)
    }
}

extension WeightsInspection.Layer {
    /// - Parameter values: begins with the tensor's.
    init(_ name: String, _ shape: [Int], _ values: ArraySlice<Double>) {
        let tensor = values.prefix(shape.reduce(1, *))
        self.init(
            name: name, shape: shape, rms: (tensor.reduce(0) { $0 + $1 * $1 } / Double(max(tensor.count, 1))).squareRoot(),
            largest: tensor.reduce(0) { max($0, abs($1)) })
    }
}

extension NamedWeights {
    /// The metadata of the file that are no constructor values, by key.
    public var notes: [WeightsInspection.Value] {
        let reserved = Set(weights.architecture.constructorValues.map(\.key) + ["kind", "format_version"])
        return metadata.filter { !reserved.contains($0.key) }.sorted { $0.key < $1.key }
    }

    /// All pairs of the file's metadata.
    var metadata: [WeightsInspection.Value] {
        var pairs: [WeightsInspection.Value] = []
        while let pair = weights.metadata(at: pairs.count) {
            pairs.append(
                WeightsInspection.Value(
                    key: String(decoding: pair.key, as: UTF8.self), value: String(decoding: pair.value, as: UTF8.self)))
        }
        return pairs
    }
}
