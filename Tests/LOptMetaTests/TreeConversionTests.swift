import Foundation
import LOptCore
import Testing

@testable import LOptMeta

/// `lopt convert`: trees of the authors' code become weights that take the authors' steps, or a line says why not.
@Suite struct TreeConversionTests {
    private static let starValues = [
        "exp_mult": "(0.1, 0.2, 0.3)", "nominal_stepsize": "0.01", "weight_decay": "0.001", "nominal_controller": "True",
        "regularization_controller": "true",
    ]

    private func convert(_ leaves: [ParameterTree.Leaf], _ values: [String: String] = [:], defaults: Bool = true) throws -> NamedWeights {
        let conversion = try TreeConversion(ParameterTree(leaves: leaves), name: "t")
        return NamedWeights(name: "t", weights: try conversion.weights(values, withDefaults: defaults))
    }

    // MARK: - Parity

    @Test(arguments: ["star.npz", "star.checkpoint"])
    func `a tree as the authors' code saves it takes the steps that it took`(name: String) throws {
        let weights = try convert(ParameterTree(contentsOf: Trees.url(name)).leaves, Self.starValues)
        let check = try ParityCheck([ParameterTree(contentsOf: Trees.url("star_steps.npz"))])
        #expect(check.tensors.map(\.name) == ["b", "s", "w"])
        #expect(check.steps == 15 && !check.isF64)
        // The f32 run's own 1 - beta has an error of 6e-5; 15 steps of 0.01.
        #expect(try check.runtime(weights.weights).size <= 2e-6)
    }

    /// A golden case whose gradients are given, as a tree, the constructor's flags and its trajectory.
    private struct Golden: Decodable {
        let name: String
        let inputs: String
        let steps: Int
        let tensors: [String]
        let trajectory_steps: [String: [Int]]
    }

    private static func goldens() throws -> [(golden: Golden, flags: [String: String])] {
        struct Manifest: Decodable { let cases: [Golden] }
        let data = try Data(contentsOf: Trees.folder.appending(path: "Goldens/manifest.json"))
        let plain = try #require(try JSONSerialization.jsonObject(with: data) as? [String: Any])
        let cases = try #require(plain["cases"] as? [[String: Any]])
        return try zip(JSONDecoder().decode(Manifest.self, from: data).cases, cases).map { golden, plain in
            let flags = try #require(plain["flags"] as? [String: Any])
            return (golden, flags.filter { $0.key != "hidden_size" }.mapValues(Self.text))
        }
    }

    /// As Python prints it.
    private static func text(_ value: Any) -> String {
        if let list = value as? [Any] { return "(" + list.map(text).joined(separator: ", ") + ")" }
        if let number = value as? NSNumber, CFBooleanGetTypeIDIsBool(number) { return number.boolValue ? "True" : "False" }
        return "\(value)"
    }

    private static func CFBooleanGetTypeIDIsBool(_ number: NSNumber) -> Bool { String(cString: number.objCType) == "c" }

    /// Trees of every golden case, with nothing but the constructor's own arguments named: in f64 as close as the reference is in
    /// its own test, and the runtime in f32 (5e-6 where rsqrt(1e-6) multiplies the roundings of a network).
    @Test func `converted trees take the authors' steps in every golden case`() throws {
        var compared = 0
        for (golden, flags) in try Self.goldens() where golden.inputs != "mlp" {
            let file = try Trees.golden("\(golden.name).f64.safetensors"), inputs = try Trees.golden("inputs_\(golden.inputs).safetensors")
            let leaves = file.leaves.filter { $0.name.hasPrefix("theta/") }
            let weights = try convert(leaves, flags)
            // Those whose trajectory is thinned, and the one with axes of an unstable sort, are no trajectories here.
            let isWhole = { (name: String) in golden.trajectory_steps[name] == nil && name != "u10_8x8x1x1" }
            let steps = file.leaves.filter { leaf in golden.tensors.contains { isWhole($0) && leaf.name == "traj/\($0)" } }
            let check = try ParityCheck([ParameterTree(leaves: steps), inputs])
            #expect(check.isF64)
            let (reference, runtime) = (check.reference(weights.weights), try check.runtime(weights.weights))
            #expect(reference.size <= ParityCheck.toleranceF64, "\(golden.name): \(reference)")
            #expect(runtime.size <= (golden.name.hasSuffix("_zero") ? 5e-6 : 2e-6), "\(golden.name): \(runtime)")
            compared += check.tensors.count
        }
        #expect(compared > 200)
    }

    /// Each value that the rule of the tree uses, a little off, and the check says so.
    @Test(arguments: [
        ("exp_mult", "[0.1, 0.21, 0.3]"), ("exp_mult", "[0.11, 0.2, 0.3]"), ("exp_mult", "[0.1, 0.2, 0.5]"), ("step_mult", "0.0011"),
        ("nominal_stepsize", "0.0101"), ("weight_decay", "0.002"), ("nominal_controller", "false"), ("regularization_controller", "false"),
        ("nominal_grad_estimator", "Adam"), ("aggregate_magnitude", "true"), ("aggregate_nom_magnitude", "true"),
        ("normalize_blackbox", "true"), ("selfnormalize_blackbox", "true"), ("initial_momentum_decays", "[0.9, 0.99, 0.9991]"),
        ("initial_rms_decays", "0.99"), ("initial_adafactor_decays", "[0.91, 0.99, 0.999]"),
    ])
    func `a constructor value that is wrong shows in f64`(key: String, text: String) throws {
        let file = try Trees.golden("nom_ctrl_AdamAggMo.f64.safetensors"), inputs = try Trees.golden("inputs_std.safetensors")
        let flags = try #require(try Self.goldens().first { $0.golden.name == "nom_ctrl_AdamAggMo" }?.flags)
        let weights = try convert(file.leaves.filter { $0.name.hasPrefix("theta/") }, flags.merging([key: text]) { $1 })
        let check = try ParityCheck([ParameterTree(leaves: file.leaves.filter { $0.name == "traj/t05_3x5" }), inputs])
        #expect(check.reference(weights.weights).size > 100 * ParityCheck.toleranceF64)
    }

    @Test func `a file of converted weights reads back as the same weights`() throws {
        let weights = try convert(ParameterTree(contentsOf: Trees.url("star.npz")).leaves, Self.starValues)
        let url = FileManager.default.temporaryDirectory.appending(path: "converted-\(UUID().uuidString).safetensors")
        defer { try? FileManager.default.removeItem(at: url) }
        try weights.weights.write(to: url, notes: [("provenance", "a test")])
        #expect(try NamedWeights(url.path).digest == weights.digest)
    }

    // MARK: - Trees

    @Test func `a tree tells kind, width, depth and momenta`() throws {
        for (hidden, layers, momenta, outputs) in [(4, 2, 3, 4), (32, 1, 3, 2), (7, 4, 1, 4), (1, 3, 8, 2)] {
            let tree = Trees.tree(hidden: hidden, layers: layers, momenta: momenta, outputs: outputs)
            let rule = try TreeConversion(ParameterTree(leaves: tree), name: "t").architecture
            #expect(rule.hiddenSize == hidden && rule.hiddenLayers == layers && rule.momenta == momenta)
            #expect(rule.kind == (outputs == 4 ? .star : .smallFC))
        }
    }

    @Test func `paths may be written in any way and lie in a larger tree`() throws {
        let plain = try convert(Trees.tree()).digest
        let ways: [(String) -> String] = [
            { "params/\($0)" }, { "a.b.\($0.replacing("/", with: "."))" }, { $0.replacing("~/", with: "") },
            { "['theta']" + $0.split(separator: "/").map { "['\($0)']" }.joined() },
        ]
        for way in ways {
            let leaves = Trees.tree().map { leaf in Trees.leaf(way(leaf.name), leaf.shape) }
            #expect(try convert(leaves).digest == plain, "\(leaves[3].name)")
        }
        let beside = Trees.tree().map { leaf in Trees.leaf("params/\(leaf.name)", leaf.shape) } + [Trees.leaf("step", []), Trees.leaf("gen_id", [])]
        #expect(try convert(beside).digest == plain)
    }

    @Test func `numbers that stand by themselves are put together`() throws {
        let plain = try convert(Trees.tree(outputs: 2)).digest
        let leaves = try Trees.tree(outputs: 2).flatMap { leaf in
            guard leaf.name.hasPrefix("nn") else { return [leaf] }
            let columns = leaf.shape.last ?? 1, values = try leaf.values()
            return values.indices.map { i in
                let place = leaf.shape.count == 2 ? "\(i / columns)_\(i % columns)" : "\(i)"
                return Trees.leaf("\(leaf.name)_\(place)", []) { _ in Float(values[i]) }
            }
        }
        #expect(try convert(leaves).digest == plain)
        #expect(failure { _ = try convert(leaves.filter { $0.name != "nn/~/w0_3_1" }) }.contains("'w0' is there in 155 parts; their numbers are those of [39, 4]"))
    }

    @Test func `what is wrong with a tree is named`() {
        func with(_ name: String, _ shape: [Int]?, _ value: @escaping (Int) -> Float = { _ in 0 }) -> [ParameterTree.Leaf] {
            Trees.tree().filter { $0.name != name } + (shape.map { [Trees.leaf(name, $0, value)] } ?? [])
        }
        let integers = ParameterTree.Leaf(
            name: "rms_decays", type: ArrayType(numpy: "int32")!, shape: [1], data: [0, 0, 0, 0])
        let cases: [(leaves: [ParameterTree.Leaf], line: String)] = [
            ([], "there are no leaves"),
            (with("rms_decays", nil), "there are no leaves rms_decays"),
            (with("nn/~/b1", nil).filter { $0.name != "momentum_decays" }, "there are no leaves momentum_decays, b1"),
            (Trees.tree().filter { !$0.name.hasSuffix("1") }, "there are no leaves w1, b1"),
            (with("nn/~/w1", [4, 5]), "'nn/~/w1' is [4, 5]; beside the other leaves it must be [4, 4]"),
            (with("nn/~/w0", [38, 4]), "'nn/~/w0' is [38, 4]; beside the other leaves it must be [39, 4]"),
            (with("adafactor_decays", [2]), "'adafactor_decays' is [2]; beside the other leaves it must be [3]"),
            (with("rms_decays", [2]), "'rms_decays' is [2]; beside the other leaves it must be [1]"),
            (with("momentum_decays", [9]), "'momentum_decays' is [9]; allowed are 1 to 8 decays"),
            (with("nn/~/w2", [4, 3]), "'nn/~/w2' has 3 outputs; AdafacMLPLOpt has 2 (small_fc), MLPNomLOpt 4 (star)"),
            (with("nn/~/w0", [39]), "'nn/~/w0' is [39]"),
            (with("nn/~/b0", [4]) { $0 == 2 ? .nan : 0 }, "'nn/~/b0', element 2 is nan; finite numbers are needed"),
            (with("extra", [1]), "'extra' are no leaves of AdafacMLPLOpt or MLPNomLOpt"),
            (Trees.tree().filter { $0.name != "rms_decays" } + [integers], "'rms_decays' is int32; floating-point numbers are needed"),
            (Trees.tree(hidden: 513), "hidden layers of 513 units; allowed are 4 layers of 512"),
            (Trees.tree(layers: 5), "the network has 5 hidden layers"),
            ([Trees.leaf("mlp/~/linear_0/w", [19, 32])], "no leaf is of AdafacMLPLOpt or MLPNomLOpt"),
            ([Trees.leaf("ff_mod_stack/~/b0", [1]), Trees.leaf("lstm_init_state/hidden", [1])], "a tree of VeLO (HyperV2)"),
            ([Trees.leaf("rnn_params/lstm/w", [1]), Trees.leaf("lstm_init_state/hidden", [1])], "a tree of RNNMLPLOpt"),
        ]
        for (leaves, line) in cases {
            let found = failure { _ = try convert(leaves) }
            #expect(found.hasPrefix("'t': ") && found.contains(line), "'\(found)' in place of '\(line)'")
        }
    }

    // MARK: - Constructor values

    @Test func `what no tree tells is asked for by name, all at once`() throws {
        let line = failure { _ = try convert(Trees.tree(), ["step_mult": "0.1"], defaults: false) }
        for option in [
            "--initial-momentum-decays ([0.9, 0.99, 0.999])", "--initial-adafactor-decays", "--initial-rms-decays ([0.999])", "--exp-mult",
            "--nominal-stepsize (0.0)", "--weight-decay", "--nominal-controller (false)", "--regularization-controller",
            "--nominal-grad-estimator (AdamAggMo)", "--aggregate-magnitude", "--aggregate-nom-magnitude", "--aggregate-reg-magnitude",
            "--normalize-blackbox", "--selfnormalize-blackbox", "--defaults",
        ] { #expect(line.contains(option), "'\(option)' is not in '\(line)'") }
        #expect(!line.contains("--step-mult") && !line.contains("hidden"))
        let all = Dictionary(uniqueKeysWithValues: try TreeConversion(ParameterTree(leaves: Trees.tree()), name: "t").unknownValues)
        #expect(try convert(Trees.tree(), all, defaults: false).digest == convert(Trees.tree()).digest)
    }

    @Test func `values that are wrong are named`() {
        let cases: [(values: [String: String], tree: [ParameterTree.Leaf], line: String)] = [
            (["nominal_controller": "maybe"], Trees.tree(), "nominal_controller is 'maybe'; allowed is true or false"),
            (["exp_mult": "0.1"], Trees.tree(), "exp_mult is '0.1'; allowed is a list of 3"),
            (["nominal_grad_estimator": "'Adam2'"], Trees.tree(), "nominal_grad_estimator is 'Adam2'; allowed is SGD"),
            (["initial_momentum_decays": "[0.9, 0.99]", "initial_adafactor_decays": "[0.9, 0.99]"], Trees.tree(), "the tree's momentum_decays has 3"),
            (["nominal_stepsize": "1"], Trees.tree(outputs: 2), "--nominal-stepsize is given, but small_fc has no such value"),
            (["hidden_size": "4"], Trees.tree(), "--hidden-size is given, but the tree tells it"),
            // The constructor's decays are three.
            ([:], Trees.tree(momenta: 2), "--initial-momentum-decays"),
        ]
        for (values, tree, line) in cases {
            let found = failure { _ = try convert(tree, values) }
            #expect(found.contains(line), "'\(found)' in place of '\(line)'")
        }
    }

    @Test func `numbers that f32 cannot hold are rounded and told`() throws {
        var leaves = Trees.tree()
        let value = withUnsafeBytes(of: 0.1) { Array($0) }
        leaves[1] = ParameterTree.Leaf(name: "rms_decays", type: ArrayType(numpy: "float64")!, shape: [1], data: value[...])
        let conversion = try TreeConversion(ParameterTree(leaves: leaves), name: "t")
        #expect(conversion.rounded == ["rms_decays"])
        #expect(conversion.theta[3] == 0.1)
        #expect(try TreeConversion(ParameterTree(leaves: Trees.tree()), name: "t").rounded.isEmpty)
    }

    @Test func `a trajectory that is none is named`() {
        let (start, steps) = (Trees.leaf("init/a", [2]), Trees.leaf("grads/a", [5, 2]))
        let cases: [(leaves: [ParameterTree.Leaf], line: String)] = [
            ([start, steps], "the trajectory has no leaf traj/NAME"),
            ([start, Trees.leaf("traj/a", [5, 2])], "a leaf traj/a, but not both init/a and grads/a"),
            ([start, steps, Trees.leaf("traj/a", [4, 2])], "init/a is [2], grads/a [5, 2], traj/a [4, 2]"),
            ([Trees.leaf("init/a", []), Trees.leaf("grads/a", []), Trees.leaf("traj/a", [])], "an axis of all steps"),
        ]
        for (leaves, line) in cases {
            let found = failure { _ = try ParityCheck([ParameterTree(leaves: leaves)]) }
            #expect(found.contains(line), "'\(found)' in place of '\(line)'")
        }
    }
}
