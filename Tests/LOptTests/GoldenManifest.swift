import Foundation

@testable import LOptCore

/// Tests/Goldens/manifest.json; scripts/subset-goldens writes it.
struct GoldenManifest: Decodable {
    enum Failure: Error {
        case unknownCase(String)
        case unknownTensor(String)
        case unknownFlag(String)
    }

    struct Tensor: Decodable {
        let shape: [Int]
        let factored_dims_d1_d0: [Int]?
        let stable_argsort_d1_d0: [Int]?
    }

    struct Inputs: Decodable {
        let file: String
        let tensors: [String: Tensor]
    }

    struct File: Decodable {
        let file: String
    }

    struct Case: Decodable {
        let name: String
        let inputs: String
        let steps: Int
        let tensors: [String]
        /// Of tensors whose trajectory is thinned: the steps the file has.
        let trajectory_steps: [String: [Int]]
        let files: [String: File]
        let architecture: Architecture
    }

    let inputs: [String: Inputs]
    let cases: [Case]

    static func read() throws -> GoldenManifest {
        let data = try Data(contentsOf: GoldenCase.directory.appendingPathComponent("manifest.json"))
        return try JSONDecoder().decode(GoldenManifest.self, from: data)
    }
}

extension GoldenManifest.Case {
    private enum Key: String, CodingKey {
        case name, inputs, steps, tensors, trajectory_steps, files, cls, flags, hidden_size, hidden_layers
    }

    init(from decoder: any Decoder) throws {
        let values = try decoder.container(keyedBy: Key.self)
        name = try values.decode(String.self, forKey: .name)
        inputs = try values.decode(String.self, forKey: .inputs)
        steps = try values.decode(Int.self, forKey: .steps)
        tensors = try values.decode([String].self, forKey: .tensors)
        trajectory_steps = try values.decode([String: [Int]].self, forKey: .trajectory_steps)
        files = try values.decode([String: GoldenManifest.File].self, forKey: .files)

        var architecture = Architecture()
        let kinds: [String: Architecture.Kind] = ["MLPNomLOpt": .star, "AdafacMLPLOpt": .smallFC]
        architecture.kind = try Self.known(kinds, try values.decode(String.self, forKey: .cls))
        architecture.hiddenSize = try values.decode(Int.self, forKey: .hidden_size)
        architecture.hiddenLayers = try values.decode(Int.self, forKey: .hidden_layers)
        for (name, flag) in try values.decode([String: Flag].self, forKey: .flags) {
            try Self.set(name, flag, in: &architecture)
        }
        self.architecture = architecture
    }

    /// The constructor's arguments. One that is not known is an error, so that no flag goes untested unseen.
    private static func set(_ name: String, _ flag: Flag, in architecture: inout Architecture) throws {
        switch (name, flag) {
        case ("hidden_size", .number(let size)): architecture.hiddenSize = Int(size)
        case ("exp_mult", .number(let x)): architecture.expMult = [x, x, x]
        case ("exp_mult", .numbers(let x)) where x.count == 3: architecture.expMult = [x[0], x[1], x[2]]
        case ("step_mult", .number(let x)): architecture.stepMult = x
        case ("nominal_stepsize", .number(let x)): architecture.nominalStepsize = x
        case ("weight_decay", .number(let x)): architecture.weightDecay = x
        case ("nominal_controller", .bool(let x)): architecture.nominalController = x
        case ("regularization_controller", .bool(let x)): architecture.regularizationController = x
        case ("aggregate_magnitude", .bool(let x)): architecture.aggregateMagnitude = x
        case ("aggregate_nom_magnitude", .bool(let x)): architecture.aggregateNominalMagnitude = x
        case ("aggregate_reg_magnitude", .bool(let x)): architecture.aggregateRegularizationMagnitude = x
        case ("normalize_blackbox", .bool(let x)): architecture.normalizeBlackbox = x
        case ("selfnormalize_blackbox", .bool(let x)): architecture.selfnormalizeBlackbox = x
        case ("nominal_grad_estimator", .text(let x)): architecture.nominalEstimator = try known(estimators, x)
        default: throw GoldenManifest.Failure.unknownFlag(name)
        }
    }

    private static let estimators: [String: Architecture.NominalEstimator] = [
        "SGD": .sgd, "SGDM": .sgdm, "AggMo": .aggMo, "Adam": .adam, "AdamAggMo": .adamAggMo,
    ]

    private static func known<T>(_ values: [String: T], _ name: String) throws -> T {
        guard let value = values[name] else { throw GoldenManifest.Failure.unknownFlag(name) }
        return value
    }
}

/// A constructor argument of the authors' classes.
private enum Flag: Decodable {
    case bool(Bool)
    case number(Double)
    case numbers([Double])
    case text(String)

    init(from decoder: any Decoder) throws {
        let value = try decoder.singleValueContainer()
        if let x = try? value.decode(Bool.self) {
            self = .bool(x)
        } else if let x = try? value.decode(Double.self) {
            self = .number(x)
        } else if let x = try? value.decode([Double].self) {
            self = .numbers(x)
        } else {
            self = .text(try value.decode(String.self))
        }
    }
}
