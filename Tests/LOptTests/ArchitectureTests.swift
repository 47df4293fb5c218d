import Foundation
import Testing

@testable import LOptCore
@testable import LOptMeta

/// The two tables of an architecture, of tensors and of constructor values, and what is made by them.
@Suite struct ArchitectureTests {
    private static let all = Architecture.Extension.all

    private func blocks(_ a: Architecture) -> [MetaParameterBlock] {
        var blocks: [MetaParameterBlock] = []
        while let block = a.block(blocks.count) { blocks.append(block) }
        return blocks
    }

    private func values(_ a: Architecture, ofEveryKind: Bool = false) -> [ConstructorValue] {
        var values: [ConstructorValue] = []
        while let value = a.value(values.count, ofEveryKind: ofEveryKind) { values.append(value) }
        return values
    }

    private func text(_ message: Message) -> String { message.withCString { String(cString: $0) } }

    /// Some numbers of momenta, every number of layers, and every set of extensions.
    private var every: [Architecture] {
        [1, 3, 8].flatMap { momenta in
            (1...4).flatMap { layers in
                (0..<(1 << Self.all.count)).map { bits in
                    var a = Architecture()
                    (a.momenta, a.hiddenLayers, a.hiddenSize) = (momenta, layers, 2 + layers)
                    for which in Self.all { a[which] = bits >> which.rawValue & 1 == 1 }
                    return a
                }
            }
        }
    }

    @Test func `blocks lie one behind the other`() {
        for a in every + [Architecture(.pooled)] {
            let blocks = blocks(a)
            var end = 0
            for block in blocks {
                #expect(block.offset == end && block.count > 0)
                end += block.count
            }
            #expect(end == a.metaParameters)
            #expect(Set(blocks.map { text($0.name) }).count == blocks.count)
            for which in Self.all {
                let own = blocks.filter { $0.owner == .extension(which) }
                #expect(own.count == (a[which] ? 1 : 0))
                #expect(a.count(of: which) == own.reduce(0) { $0 + $1.count })
            }
        }
    }

    @Test func `a value is set alone under its key`() throws {
        let usual = values(Architecture(), ofEveryKind: true)
        #expect(Set(usual.map { "\($0.key)" }).count == usual.count)
        #expect(usual.allSatisfy { $0.isDefault && $0.isValid })
        for i in usual.indices {
            var a = Architecture(), number = 0
            try a.forEachValue { item throws(LOptError) in
                if number == i { item.values[0] = item.form == .flag ? 1 : item.form == .integer ? 3 : 0.5 }
                if number == i, item.form == .estimator { item.values[0] = 1 }
                number += 1
            }
            let changed = values(a, ofEveryKind: true)
            #expect(usual.indices.filter { usual[$0].values != changed[$0].values } == [i], "\(usual[i].key)")
            #expect(changed.indices.filter { !changed[$0].isDefault } == [i])
        }
    }

    // MARK: - Words elsewhere

    private func lines(_ path: String) throws -> [String] {
        try String(contentsOf: repository.appendingPathComponent(path), encoding: .utf8).components(separatedBy: "\n")
    }

    @Test func `the fuzzer knows every key and extension`() throws {
        let words = try lines("fuzz/safetensors.dict").map { $0.replacing("\\\"", with: "\"") }
        let names = values(Architecture()).map { "\($0.key)" } + Self.all.map { text(Architecture().block(of: $0).name) }
            + blocks(Architecture(.pooled)).map { text($0.name) }
        for name in names {
            #expect(words.contains { $0.contains("\"\(name)\"") }, "\(name)")
        }
    }

    /// The rows of the tables of docs/weights-file.md: the words in its first column, the other columns.
    private func rows() throws -> [(names: [String], second: String, third: String)] {
        try lines("docs/weights-file.md").filter { $0.hasPrefix("| `") }.map { line in
            let cells = line.dropFirst().dropLast().components(separatedBy: " | ").map { $0.trimmingCharacters(in: .whitespaces) }
            let names = cells[0].components(separatedBy: ", ").map { $0.replacing("`", with: "") }
            return (names, cells[1].replacing("`", with: ""), cells.count > 2 ? cells[2] : "")
        }
    }

    /// As in "4 + 8 K + 11".
    private func number(_ text: String, _ a: Architecture) -> Int {
        text.components(separatedBy: " + ").reduce(0) { sum, term in
            sum + term.split(separator: " ").reduce(1) { $0 * ($1 == "K" ? a.momenta : $1 == "H" ? a.hiddenSize : Int($1) ?? 0) }
        }
    }

    @Test func `the document's table of tensors is that of the code`() throws {
        let all = try rows().filter { $0.second.hasPrefix("[") && !$0.second.contains(".") }
        let ofPooled = all.filter { $0.third.hasPrefix("`pooled`") }, rows = all.filter { !$0.third.hasPrefix("`pooled`") }
        var toldOfPooled: [String: [Int]] = [:]
        for row in ofPooled {
            for name in row.names {
                toldOfPooled[name] = row.second.dropFirst().dropLast().components(separatedBy: ", ").compactMap { Int($0) }
            }
        }
        #expect(toldOfPooled == Dictionary(uniqueKeysWithValues: blocks(Architecture(.pooled)).map {
            (text($0.name), [$0.rows] + ($0.columns.map { [$0] } ?? []))
        }))
        for a in every {
            var told: [String: [Int]] = [:]
            for row in rows {
                let shapes = row.second.dropFirst().dropLast().components(separatedBy: "], [")
                    .map { $0.components(separatedBy: ", ").map { number($0, a) } }
                for (i, name) in row.names.enumerated() where name != "..." {
                    let shape = shapes.count == 1 ? shapes[0] : shapes[i]
                    let isHidden = row.names.last == "..."
                    if isHidden {
                        for layer in 1..<a.hiddenLayers { told["\(name.prefix(1))\(layer)"] = shape }
                    } else if let which = Self.all.first(where: { text(a.block(of: $0).name) == name }) {
                        let needs = a.block(of: which).needs.map { text(a.block(of: $0).name) }
                        #expect(row.third.contains("needs `\(needs ?? "")`") == (needs != nil), "\(name)")
                        if a[which] { told[name] = shape }
                    } else {
                        told[name.replacing("L", with: "\(a.hiddenLayers)")] = shape
                    }
                }
            }
            let found = blocks(a).map { (text($0.name), [$0.rows] + ($0.columns.map { [$0] } ?? [])) }
            #expect(told == Dictionary(uniqueKeysWithValues: found))
        }
    }

    @Test func `the document's table of keys is that of the code`() throws {
        var usual = Dictionary(uniqueKeysWithValues: values(Architecture()).map { ("\($0.key)", $0) })
        for row in try rows() where !row.names.allSatisfy({ usual[$0] == nil }) {
            let parts = row.second.hasPrefix("[") ? [row.second] : row.second.components(separatedBy: ", ")
            for (i, name) in row.names.enumerated() {
                let said = parts.count == 1 ? parts[0] : parts[i]
                var item = try #require(usual[name], "\(name)")
                usual[name] = nil
                #expect(Array(said.utf8).withUnsafeBytes { item.parse($0) } && item.isDefault, "\(name): \(said)")
                #expect(row.third.contains("extension") == (item.origin != .authors), "\(name)")
            }
        }
        #expect(usual.isEmpty, "not in the table: \(usual.keys)")
    }

    // MARK: - JSON

    private static let star = """
        {"kind": "star", "hidden_size": 7, "hidden_layers": 3, "initial_momentum_decays": [0.5, 0.99], "initial_rms_decay": 0.99,
        "initial_adafactor_decays": [0.9, 0.999], "exp_mult": [1, 2, 3], "step_mult": 0, "nominal_stepsize": 0.01,
        "weight_decay": 0.0001, "nominal_controller": true, "regularization_controller": true, "nominal_grad_estimator": "SGDM",
        "aggregate_magnitude": true, "aggregate_nom_magnitude": true, "aggregate_reg_magnitude": true,
        "normalize_blackbox": true, "selfnormalize_blackbox": true, "tensor_scale": true, "tensor_schedule": false,
        "tensor_count": true, "tensor_ranges": true, "skip_idle_tensors": true, "nominal_epsilon": 1e-16}
        """

    @Test func `JSON of pooled has its defaults`() throws {
        var a = Architecture(.pooled)
        #expect(try decode(#"{"kind": "pooled"}"#) == a && a.skipIdleTensors && a.nominalStepsize == 0.01)
        a.initialRMSDecay = 0.5
        #expect(try decode(String(decoding: JSONEncoder().encode(a), as: UTF8.self)) == a)
        a.weightDecay = 0.1
        #expect { try a.checked() } throws: { "\($0)".contains("a value that only star has is set for pooled") }
    }

    private func decode(_ json: String) throws -> Architecture {
        try JSONDecoder().decode(Architecture.self, from: Data(json.utf8))
    }

    /// Of configurations and runs of meta-training, which have all keys whatever the kind.
    @Test func `JSON keeps its keys`() throws {
        var expected = Architecture()
        (expected.hiddenSize, expected.hiddenLayers, expected.momenta) = (7, 3, 2)
        expected.initialMomentumDecays = [0.5, 0.99, 0, 0, 0, 0, 0, 0]
        expected.initialAdafactorDecays = [0.9, 0.999, 0, 0, 0, 0, 0, 0]
        (expected.initialRMSDecay, expected.expMult, expected.stepMult) = (0.99, [1, 2, 3], 0)
        (expected.nominalStepsize, expected.weightDecay, expected.nominalEstimator) = (0.01, 1e-4, .sgdm)
        (expected.nominalController, expected.regularizationController) = (true, true)
        (expected.aggregateMagnitude, expected.aggregateNominalMagnitude) = (true, true)
        (expected.aggregateRegularizationMagnitude, expected.normalizeBlackbox) = (true, true)
        (expected.selfnormalizeBlackbox, expected.skipIdleTensors, expected.nominalEpsilon) = (true, true, 1e-16)
        for which in [Architecture.Extension.tensorScale, .tensorCount, .tensorRanges] { expected[which] = true }
        #expect(try decode(Self.star) == expected)
        for (json, kind) in [(Self.star, "star"), (Self.star.replacing("\"star\"", with: "\"small_fc\""), "small_fc")] {
            var again = try #require(
                JSONSerialization.jsonObject(with: JSONEncoder().encode(decode(json))) as? [String: NSObject])
            for (key, value) in try #require(JSONSerialization.jsonObject(with: Data(json.utf8)) as? [String: NSObject]) {
                #expect(again.removeValue(forKey: key) == value, "\(kind): \(key)")
            }
            // What has joined since is off.
            #expect(again.values.allSatisfy { $0 == false as NSNumber })
        }
        #expect(try decode("{}") == Architecture())
    }

    @Test(arguments: [
        (#"{"kind": "sgd"}"#, "kind is 'sgd'; allowed are star, small_fc"),
        (#"{"initial_momentum_decays": []}"#, "initial_momentum_decays has 0 values; allowed is a list of 1 to 8"),
        (#"{"initial_momentum_decays": [0.5]}"#, "initial_momentum_decays has 1 values, initial_adafactor_decays 3"),
        (#"{"exp_mult": [1]}"#, "exp_mult has 1 values; allowed is a list of 3"),
        (#"{"nominal_grad_estimator": "adam"}"#, "nominal_grad_estimator is 'adam'; allowed is SGD, SGDM, AggMo"),
    ])
    func `JSON that no architecture has is refused`(json: String, message: String) {
        #expect { try decode(json) } throws: { "\($0)".contains(message) }
        #expect(throws: DecodingError.self) { try decode(#"{"hidden_size": "4"}"#) }
        #expect(throws: DecodingError.self) { try decode(#"{"tensor_scale": 1}"#) }
    }
}
