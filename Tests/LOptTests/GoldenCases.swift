import Foundation

@testable import LOptCore

/// A trajectory of the authors' own JAX code from Tests/Goldens: the optimizer, its tensors, the gradients it was given and
/// what came out.
struct GoldenCase: Sendable {
    /// In which the authors' code ran.
    enum Precision: String, CaseIterable, Sendable {
        case f32, f64
    }

    let name: String
    let precision: Precision
    let architecture: Architecture
    /// Laid out by the offsets of `architecture`; values of f32 in both precisions.
    let theta: [Double]
    /// The decays the run really had. In f32 they differ from those of `theta` by up to 6e-5 relatively, because the
    /// authors' code computes 1 - beta through a difference that cancels.
    let oneMinusDecays: (momentum: [Double], secondMoment: Double, factored: [Double])
    let steps: Int
    let tensors: [GoldenTensor]

    /// All cases, in the order of the manifest.
    static let names: [String] = {
        guard let manifest = try? GoldenManifest.read() else { return [] }
        return manifest.cases.map(\.name)
    }()

    static let directory = URL(fileURLWithPath: #filePath)
        .deletingLastPathComponent().deletingLastPathComponent().appendingPathComponent("Goldens")

    static func load(_ name: String, _ precision: Precision) throws -> GoldenCase {
        let manifest = try GoldenManifest.read()
        guard let entry = manifest.cases.first(where: { $0.name == name }), let inputs = manifest.inputs[entry.inputs],
            let file = entry.files[precision.rawValue]
        else { throw GoldenManifest.Failure.unknownCase(name) }
        return try GoldenCase(
            entry, inputs, precision,
            GoldenFile(contentsOf: directory.appendingPathComponent(file.file)),
            GoldenFile(contentsOf: directory.appendingPathComponent(inputs.file)))
    }

    private init(
        _ entry: GoldenManifest.Case, _ inputs: GoldenManifest.Inputs, _ precision: Precision,
        _ file: GoldenFile, _ inputFile: GoldenFile
    ) throws {
        name = entry.name
        self.precision = precision
        steps = entry.steps
        let architecture = entry.architecture
        self.architecture = architecture
        var theta = try ["momentum_decays", "rms_decays", "adafactor_decays"].flatMap { try file.values("theta/" + $0) }
        for layer in 0..<architecture.layers {
            theta += try file.values("theta/nn/w\(layer)") + file.values("theta/nn/b\(layer)")
        }
        self.theta = theta
        oneMinusDecays = (
            try file.values("one_minus_decay/momentum"),
            try file.values("one_minus_decay/rms")[0],
            try file.values("one_minus_decay/adafactor")
        )
        tensors = try entry.tensors.map { name in
            guard let description = inputs.tensors[name] else { throw GoldenManifest.Failure.unknownTensor(name) }
            return try GoldenTensor(
                name: name, description, steps: entry.trajectory_steps[name] ?? Array(0..<entry.steps),
                momenta: architecture.momenta, file, inputFile)
        }
    }
}

/// One tensor of a golden case.
struct GoldenTensor: Sendable {
    let name: String
    /// [] for rank 0.
    let shape: [Int]
    /// The factored axes the authors' code used; nil for rank 0 and 1.
    let axes: (d1: Int, d0: Int)?
    /// False for the one tensor of which an unstable sort had other axes than this project defines.
    let followsStableOrder: Bool
    let initial: [Double]

    // MARK: Accumulators after the last step

    /// [K][n].
    let momentum: [[Double]]
    /// [n].
    let secondMoment: [Double]
    /// Rank >= 2: [K][n / shape[d0]] and [K][n / shape[d1]]; else empty.
    let row: [[Double]]
    let column: [[Double]]
    /// Rank 0 and 1: [K][n]; else empty.
    let diagonal: [[Double]]

    private enum Gradients: Sendable {
        /// [steps][n].
        case given([Double])
        /// curvature * (p - target).
        case quadratic(curvature: [Double], target: [Double])
    }
    private let gradients: Gradients
    /// Of the steps whose parameters the file has, the place in `trajectory`.
    private let places: [Int: Int]
    /// [kept steps][n].
    private let trajectory: [Double]

    /// What the authors' code was given as the gradient of this step (from 0), for the parameters before it. Where it
    /// depends on the parameters it is computed in their precision, as it was there.
    func gradient<Scalar: BinaryFloatingPoint>(step: Int, parameters: [Scalar]) -> [Scalar] {
        switch gradients {
        case .given(let values):
            return values[(step * initial.count)..<((step + 1) * initial.count)].map { Scalar($0) }
        case .quadratic(let curvature, let target):
            return parameters.indices.map { Scalar(curvature[$0]) * (parameters[$0] - Scalar(target[$0])) }
        }
    }

    /// The parameters after this step (from 0); nil for the steps that the file does not keep.
    func expected(step: Int) -> [Double]? {
        places[step].map { Array(trajectory[($0 * initial.count)..<(($0 + 1) * initial.count)]) }
    }

    fileprivate init(
        name: String, _ description: GoldenManifest.Tensor, steps: [Int], momenta: Int,
        _ file: GoldenFile, _ inputs: GoldenFile
    ) throws {
        /// The files have the decay axis last: [..., K] to [K][...].
        func averages(_ kind: String) throws -> [[Double]] {
            guard let values = file.tensors["\(kind)/\(name)"]?.values else { return [] }
            return (0..<momenta).map { k in stride(from: k, to: values.count, by: momenta).map { values[$0] } }
        }
        self.name = name
        shape = description.shape
        axes = description.factored_dims_d1_d0.map { ($0[0], $0[1]) }
        followsStableOrder = description.factored_dims_d1_d0 == description.stable_argsort_d1_d0
        initial = try inputs.values("init/\(name)")
        if let given = inputs.tensors["grads/\(name)"] {
            gradients = .given(given.values)
        } else {
            gradients = .quadratic(curvature: try inputs.values("A/\(name)"), target: try inputs.values("target/\(name)"))
        }
        places = Dictionary(uniqueKeysWithValues: steps.enumerated().map { ($1, $0) })
        trajectory = try file.values("traj/\(name)")
        momentum = try averages("mom")
        secondMoment = try file.values("rms/\(name)")
        row = try averages("v_row")
        column = try averages("v_col")
        diagonal = try averages("v_diag")
    }
}
