import LOptCore

/// Weights from the parameter tree of a learned optimizer of google/learned_optimization: its `AdafacMLPLOpt` (small_fc) or
/// `MLPNomLOpt` (star), trees as haiku makes them.
///
/// A tree tells how wide and deep the network is, how many momenta there are, and by its outputs which of the two it is for. What
/// else the constructor was given is in no tree.
public struct TreeConversion: Sendable {
    /// With what the tree tells; all else at the constructor's defaults.
    public let architecture: Architecture
    public let theta: [Float]
    /// Leaves whose numbers f32 cannot hold.
    public let rounded: [String]
    private let name: String

    /// - Parameter name: of the tree, for messages.
    /// - Throws: an `LOptMetaError` for leaves that are missing, unknown, of another shape or no floating-point numbers, and for trees of
    ///   other learned optimizers.
    public init(_ tree: ParameterTree, name: String) throws {
        do {
            self.name = name
            try TreeConversion.refuseOthers(tree)
            let leaves = try TreeConversion.byName(tree)
            architecture = try TreeConversion.architecture(leaves)
            var theta = [Float](repeating: 0, count: architecture.metaParameters), rounded: [String] = []
            for block in architecture.blocks {
                guard let leaf = leaves[String(block.name)] else { continue }
                let shape = (0..<block.shape.rank).map { block.shape[$0] }
                guard leaf.shape == shape else {
                    throw LOptMetaError("'\(leaf.name)' is \(leaf.shape); beside the other leaves it must be \(shape)")
                }
                for (i, value) in leaf.values.enumerated() {
                    guard value.isFinite else { throw LOptMetaError("'\(leaf.name)', element \(i) is \(value); finite numbers are needed") }
                    guard Float(value).isFinite else { throw LOptMetaError("'\(leaf.name)', element \(i) is \(value), too large for f32") }
                    theta[block.offset + i] = Float(value)
                    if Double(Float(value)) != value, rounded.last != leaf.name { rounded.append(leaf.name) }
                }
            }
            (self.theta, self.rounded) = (theta, rounded)
        } catch let error as LOptMetaError {
            throw LOptMetaError("'\(name)': \(error)")
        }
    }

    // MARK: - What the tree does not tell

    /// The keys of the constructor's values that are in no tree, with its defaults.
    public var unknownValues: [(key: String, usual: String)] {
        architecture.values().filter { $0.origin == .authors && !TreeConversion.told.contains("\($0.key)") }.map { item in
            ("\(item.key)", Architecture(architecture.kind).values().first { "\($0.key)" == "\(item.key)" }?.text ?? item.text)
        }
    }

    private static let told: Set = ["hidden_size", "hidden_layers"]
    private static let perMomentum: Set = ["initial_momentum_decays", "initial_adafactor_decays"]

    /// - Parameters:
    ///   - values: of the constructor by their keys, in the words of a weights file or of Python.
    ///   - withDefaults: whether those that are not given have the constructor's defaults; else they are an error.
    public func weights(_ values: [String: String], withDefaults: Bool) throws -> Weights {
        let unknown = unknownValues
        if let key = values.keys.sorted().first(where: { key in !unknown.contains { $0.key == key } }) {
            let reason = TreeConversion.told.contains(key) ? "the tree tells it" : "\(architecture.kind.name) has no such value"
            throw LOptMetaError("\(option(key)) is given, but \(reason)")
        }
        // The constructor's default decays are three.
        let missing = unknown.filter { item in
            values[item.key] == nil && (!withDefaults || architecture.momenta != 3 && TreeConversion.perMomentum.contains(item.key))
        }
        guard missing.isEmpty else {
            let list = missing.map { "\(option($0.key)) (\($0.usual))" }.joined(separator: ", ")
            throw LOptMetaError(
                "'\(name)' does not say what the constructor of \(architecture.kind.name) was given: name \(list); in brackets are its "
                    + "defaults, which --defaults takes for what is not named, but for decays that are not three")
        }
        do throws(LOptError) {
            var rule = architecture
            try rule.forEachValue { item throws(LOptError) in
                guard let text = values["\(item.key)"].map(TreeConversion.plain) else { return }
                let isParsed = Array(text.utf8).withUnsafeBytes { item.parse($0) }
                guard isParsed else { throw LOptError(.invalidArgument, "\(item.key) is '\(text)'; allowed is \(item.expectation)") }
            }
            // With other numbers of decays theta would not be this rule's.
            guard rule.momenta == architecture.momenta else {
                throw LOptError(
                    .invalidArgument,
                    "initial_momentum_decays has \(rule.momenta) values; the tree's momentum_decays has \(architecture.momenta)")
            }
            return try Weights(architecture: rule, theta: theta)
        } catch {
            throw LOptMetaError("\(error)")
        }
    }

    private func option(_ key: String) -> String { "--" + key.replacing("_", with: "-") }

    /// Python's (0.9, 0.99), True and "Adam" in the words of a weights file.
    private static func plain(_ text: String) -> String {
        var text = text.replacing("(", with: "[").replacing(")", with: "]").replacing(/,\s*\]/, with: "]")
        text = text.replacing(/^["']|["']$/, with: "")
        return ["True": "true", "False": "false"][text] ?? text
    }
}

// MARK: - Leaves

extension TreeConversion {
    /// A leaf with its numbers, under the name that a weights file has for it.
    private struct Leaf {
        let name: String
        let shape: [Int]
        let values: [Double]
    }

    /// Trees that are known and cannot be.
    private static func refuseOthers(_ tree: ParameterTree) throws {
        let keys = Set(tree.leaves.flatMap { path($0.name) })
        if keys.contains("ff_mod_stack") {
            throw LOptMetaError(
                "this is a tree of VeLO (HyperV2), in which an LSTM for each tensor mixes the networks; lopt has no such rule. It takes "
                    + "trees of AdafacMLPLOpt and MLPNomLOpt")
        }
        if keys.contains("lstm_init_state") || keys.contains("rnn_params") {
            throw LOptMetaError(
                "this is a tree of RNNMLPLOpt, which has an LSTM for each tensor; lopt has no such rule. It takes trees of AdafacMLPLOpt and "
                    + "MLPNomLOpt")
        }
    }

    /// The keys on the way to a leaf. Programs write paths as nn/~/w0, nn.~.w0 or ['nn']['~']['w0'], as they like; ~ is what
    /// haiku calls parameters outside of any module.
    private static func path(_ name: String) -> [String] {
        name.split { "/.[]'\"".contains($0) }.map(String.init).filter { $0 != "~" }
    }

    /// Leaves by their names in a weights file, whatever folder of a larger tree they lie in.
    private static func byName(_ tree: ParameterTree) throws -> [String: Leaf] {
        // What a ParameterCheckpoint has beside its parameters.
        var leaves = tree.leaves.map { (path: path($0.name), leaf: $0) }.filter { $0.path != ["gen_id"] && $0.path != ["step"] }
        guard let first = leaves.first else { throw LOptMetaError("there are no leaves") }
        while let root = leaves[0].path.first, leaves.allSatisfy({ $0.path.count > 1 && $0.path[0] == root }) {
            for i in leaves.indices { leaves[i].path.removeFirst() }
        }
        var found: [String: Leaf] = [:], unknown: [String] = []
        var scalars: [String: [(place: [Int], leaf: ParameterTree.Leaf)]] = [:]
        for (path, leaf) in leaves {
            let name = path.last ?? "", isInNetwork = path.count == 1 || path.dropLast() == ["nn"]
            if path.count == 1, ["momentum_decays", "rms_decays", "adafactor_decays"].contains(name) {
                found[name] = Leaf(name: leaf.name, shape: leaf.shape, values: try leaf.values())
            } else if isInNetwork, name.wholeMatch(of: /[wb][0-9]/) != nil {
                guard found[name] == nil else { throw LOptMetaError("'\(leaf.name)' and '\(found[name]?.name ?? "")' are both \(name)") }
                found[name] = Leaf(name: leaf.name, shape: leaf.shape, values: try leaf.values())
            } else if isInNetwork, name.wholeMatch(of: /w[0-9]_[0-9]{1,4}_[0-9]{1,4}|b[0-9]_[0-9]{1,4}/) != nil {
                let parts = name.split(separator: "_")
                scalars[String(parts[0]), default: []].append((parts.dropFirst().compactMap { Int($0) }, leaf))
            } else {
                unknown.append("'\(leaf.name)'")
            }
        }
        guard !found.isEmpty || !scalars.isEmpty else {
            throw LOptMetaError(
                "no leaf is of AdafacMLPLOpt or MLPNomLOpt, which have momentum_decays, rms_decays, adafactor_decays and nn/~/w0, b0, ...; the "
                    + "first is '\(first.leaf.name)'")
        }
        guard unknown.isEmpty else {
            throw LOptMetaError(
                "\(unknown.prefix(4).joined(separator: ", "))\(unknown.count > 4 ? " and \(unknown.count - 4) more" : "") are no leaves of "
                    + "AdafacMLPLOpt or MLPNomLOpt, which have momentum_decays, rms_decays, adafactor_decays and nn/~/w0, b0, ...")
        }
        for (name, parts) in scalars {
            guard found[name] == nil else { throw LOptMetaError("'\(name)' is there as a whole and in parts") }
            found[name] = try joined(name, parts)
        }
        return found
    }

    /// With make_separate_weights a tree has every number by itself: w0_3_1 is row 3, column 1 of w0.
    private static func joined(_ name: String, _ parts: [(place: [Int], leaf: ParameterTree.Leaf)]) throws -> Leaf {
        let rank = name.hasPrefix("w") ? 2 : 1
        let shape = (0..<rank).map { axis in 1 + (parts.map { $0.place[axis] }.max() ?? 0) }
        guard parts.count == shape.reduce(1, *), Set(parts.map(\.place)).count == parts.count else {
            throw LOptMetaError("'\(name)' is there in \(parts.count) parts; their numbers are those of \(shape)")
        }
        var values = [Double](repeating: 0, count: parts.count)
        for (place, leaf) in parts {
            guard leaf.count == 1 else { throw LOptMetaError("'\(leaf.name)' is \(leaf.shape); a single number is needed") }
            values[rank == 2 ? place[0] * shape[1] + place[1] : place[0]] = try leaf.values()[0]
        }
        return Leaf(name: name, shape: shape, values: values)
    }

    /// What the tree tells of its rule.
    private static func architecture(_ leaves: [String: Leaf]) throws -> Architecture {
        let layers = (0...9).filter { leaves["w\($0)"] != nil || leaves["b\($0)"] != nil }
        let network = (0...(layers.last ?? 1)).flatMap { ["w\($0)", "b\($0)"] }
        let missing = (["momentum_decays", "rms_decays", "adafactor_decays"] + network).filter { leaves[$0] == nil }
        guard missing.isEmpty, let momenta = leaves["momentum_decays"], let w0 = leaves["w0"], let last = leaves["w\(layers.count - 1)"]
        else { throw LOptMetaError("there are no leaves \(missing.joined(separator: ", "))") }
        guard layers.count > 1, w0.shape.count == 2, last.shape.count == 2 else {
            throw LOptMetaError("'\(w0.name)' is \(w0.shape), '\(last.name)' is \(last.shape); matrices of at least two layers are needed")
        }
        guard momenta.shape.count == 1, (1...Architecture.maximumMomenta).contains(momenta.shape[0]) else {
            throw LOptMetaError("'\(momenta.name)' is \(momenta.shape); allowed are 1 to \(Architecture.maximumMomenta) decays")
        }
        guard let kind = [4: Architecture.Kind.star, 2: .smallFC][last.shape[1]] else {
            throw LOptMetaError(
                "'\(last.name)' has \(last.shape[1]) outputs; AdafacMLPLOpt has 2 (small_fc), MLPNomLOpt 4 (star)")
        }
        guard (1...Architecture.maximumHiddenSize).contains(w0.shape[1]), layers.count - 1 <= Architecture.maximumHiddenLayers else {
            throw LOptMetaError(
                "the network has \(layers.count - 1) hidden layers of \(w0.shape[1]) units; allowed are \(Architecture.maximumHiddenLayers) "
                    + "layers of \(Architecture.maximumHiddenSize)")
        }
        var rule = Architecture(kind)
        (rule.hiddenSize, rule.hiddenLayers, rule.momenta) = (w0.shape[1], layers.count - 1, momenta.shape[0])
        return rule
    }
}
