import Foundation
import LOptCore
import LOptReference

/// The linear response of weights, whole and with parts turned off, over the noise of the gradient, after some steps.
public struct StabilityReport: Codable, Sendable {
    /// What is left on.
    public enum Variant: String, Codable, CaseIterable, Sendable {
        case whole = "whole"
        case blackboxOff = "blackbox off"
        case nominalOff = "nominal off"
        /// The rsqrt(v) of the nominal direction and of a normalised blackbox.
        case preconditioningOff = "preconditioning off"
    }
    public struct Entry: Codable, Sendable {
        public let variant: Variant
        public let noise: Double
        public let response: LinearResponse
        /// nil: none up to 1e12 is unstable.
        public let largestStableCurvature: Double?
        /// For each of `curvatures`.
        public let spectralRadii: [Double]
    }

    public let weights: String
    public let digest: String
    /// t.
    public let steps: Int
    public let noises: [Double]
    public let curvatures: [Double]
    public let entries: [Entry]
    /// What is compared with, and its largest stable curvature for each of `noises`; nil as above.
    public let comparisons: [String: [Double?]]

    public static let noises = [1e-4, 1e-3, 1e-2, 1e-1, 1]
    public static let curvatures = (-8...20).map { pow(10, Double($0) / 4) }

    public init(
        _ named: NamedWeights, steps: Int, noises: [Double] = noises, curvatures: [Double] = curvatures,
        probe: ResponseProbe = ResponseProbe()
    ) {
        let architecture = named.weights.architecture
        let theta = (0..<architecture.metaParameters).map { Double(named.weights.theta[$0]) }
        (weights, digest) = (named.name, named.digest)
        (self.steps, self.noises, self.curvatures) = (steps, noises, curvatures)
        comparisons = Dictionary(
            uniqueKeysWithValues: StabilityReport.comparisons.map { other in
                (other.label, noises.map { other.response($0).largestStableCurvature })
            })
        entries = Variant.allCases.flatMap { variant -> [Entry] in
            guard let left = architecture.with(variant) else { return [] }
            return noises.map { noise in
                let response = left.kind == .pooled
                    ? probe.response(ReferencePooled(architecture: left, theta: theta), noise: noise, steps: steps)
                    : probe.response(ReferenceOptimizer(architecture: left, theta: theta), noise: noise, steps: steps)
                return Entry(
                    variant: variant, noise: noise, response: response,
                    largestStableCurvature: response.largestStableCurvature,
                    spectralRadii: curvatures.map { response.spectralRadius(curvature: $0) })
            }
        }
    }

    public func entry(_ variant: Variant, noise: Double) -> Entry? {
        entries.first { $0.variant == variant && $0.noise == noise }
    }

    /// Writes `stability-NAME-STEPS.json` into the directory: what `scripts/plot` draws.
    public func write(to directory: URL) throws {
        try directory.makeFolder()
        try directory.appending(path: "stability-\(weights)-\(steps).json").writeFile(JSONEncoder.readable.encode(self))
    }

    var variants: [Variant] { Variant.allCases.filter { variant in entries.contains { $0.variant == variant } } }
}

extension Architecture {
    /// nil where turning it off leaves the architecture as it is, or nothing.
    func with(_ variant: StabilityReport.Variant) -> Architecture? {
        var result = self
        let hasNominal = kind == .star && nominalStepsize > 0
        switch variant {
        case .whole: return self
        case .blackboxOff:
            result.stepMult = 0
            return hasNominal && stepMult != 0 ? result : nil
        case .nominalOff:
            result.nominalStepsize = 0
            return hasNominal && stepMult != 0 ? result : nil
        case .preconditioningOff:
            result.normalizeBlackbox = false
            switch nominalEstimator {
            case .adam: result.nominalEstimator = .sgdm
            case .adamAggMo: result.nominalEstimator = .aggMo
            case .sgd, .sgdm, .aggMo: break
            }
            return kind == .star && result != self ? result : nil
        }
    }
}
