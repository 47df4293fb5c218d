import Foundation
import Testing

@testable import LOptCore

/// Weights that are not as they should be are refused with a line that names the key or tensor, the value and what is
/// allowed.
@Suite struct WeightsFaultTests {
    private func expect(_ file: WeightsFile, _ message: String) {
        let ledger = MemoryLedger()
        let bytes = file.bytes
        let error = failure { () throws(LOptError) in _ = try weights(of: bytes, allocator: ledger.allocator) }
        #expect(error?.status == .weights, "\(message)")
        #expect(error?.description.contains(message) == true, "\(error?.description ?? "accepted: \(message)")")
        #expect(ledger.isBalanced)
    }

    @Test func `kind must be known`() {
        var file = WeightsFile()
        file.metadata["kind"] = nil
        expect(file, "the metadata have no 'kind'")
        for kind in ["", "Star", "star ", "adam", "small_fc_lopt"] {
            file.metadata["kind"] = kind
            expect(file, "kind is '\(kind)'; this library knows star, small_fc and pooled")
        }
    }

    @Test func `format version must be known`() {
        var file = WeightsFile()
        for version in ["", "0", "2", "1.0", "01", " 1"] {
            file.metadata["format_version"] = version
            expect(file, "format_version is '\(version)'; this library knows 1")
        }
    }

    private static let values: [(key: String, allowed: String, wrong: [String])] = [
        ("hidden_size", "a whole number of 1 to 512",
         ["", "0", "513", "-4", "4.0", "4e0", "04", " 4", "four", "9999999999999999999999", "[4]"]),
        ("hidden_layers", "a whole number of 1 to 4", ["0", "5", "2.5", "true"]),
        ("initial_momentum_decays", "a list of 1 to 8, each a number of at least 0 and below 1",
         ["", "0.9", "[]", "[0.9, 1.0, 0.9]", "[0.9, -0.1, 0.9]", "[nan, 0, 0]", "[0.9, 0.99, 0.999", "[[0.9], 0, 0]",
          "[0,0,0,0,0,0,0,0,0]", "0.9, 0.99, 0.999", "(0.9, 0.99)", "[0.99999999999999999, 0, 0]"]),
        ("initial_adafactor_decays", "a list of 1 to 8, each a number of at least 0 and below 1",
         ["[1e0, 0, 0]", "[Infinity]"]),
        ("initial_rms_decays", "a list of 1, each a number of at least 0 and below 1",
         ["[0.9, 0.99]", "[]", "[1]", "1", "null"]),
        ("exp_mult", "a list of 3, each a number that f32 can hold",
         ["1", "[1]", "[1, 1]", "[1, 1, 1, 1]", "[1e39, 1, 1]", "[1, 1, -1e39]", "[NaN, 1, 1]"]),
        ("step_mult", "a number that f32 can hold",
         ["", "0,001", "inf", "-inf", "nan", "1e39", "1e999", "0x1", "[0.1]", "1 "]),
        ("nominal_stepsize", "a number of at least 0 that f32 can hold", ["-0.01", "1e39", "none"]),
        ("weight_decay", "a number of at least 0 that f32 can hold", ["-1e-9", "1e999"]),
        ("nominal_epsilon", "a number of at least 1.2e-38 that f32 can hold", ["0", "-1", "1e-39", "1e-400", "nan"]),
        ("nominal_grad_estimator", "SGD, SGDM, AggMo, Adam or AdamAggMo", ["", "adam", "AdamW", "Adam "]),
        ("nominal_controller", "true or false", ["", "True", "1", "yes", "true "]),
        ("regularization_controller", "true or false", ["FALSE"]),
        ("aggregate_magnitude", "true or false", ["0"]),
        ("aggregate_nom_magnitude", "true or false", ["[true]"]),
        ("aggregate_reg_magnitude", "true or false", ["null"]),
        ("normalize_blackbox", "true or false", ["\"true\""]),
        ("selfnormalize_blackbox", "true or false", ["tru"]),
    ]

    @Test(arguments: 0..<18) func `every value must parse`(number: Int) {
        let (key, allowed, wrong) = WeightsFaultTests.values[number]
        for value in wrong {
            var file = WeightsFile()
            file.metadata[key] = value
            expect(file, "\(key) is '\(value)'; allowed is \(allowed)")
        }
    }

    /// A value under a misspelt key would be left out, and the weights compute something else.
    @Test func `keys nearly those of a value are refused`() {
        for key in WeightsFaultTests.values.map(\.key) {
            let letters = Array(key)
            var misspelt: Set<String> = [key + "s", "x" + key, key + "_2", "my" + key, key.uppercased().lowercased() + "__"]
            for i in letters.indices {
                misspelt.insert(String(letters[..<i] + letters[(i + 1)...]))
                misspelt.insert(String(letters[..<i] + "-" + letters[(i + 1)...]))
                misspelt.insert(String(letters[..<i] + "_" + letters[i...]))
                guard i > 0 else { continue }
                misspelt.insert(String(letters[..<(i - 1)]) + String([letters[i], letters[i - 1]]) + String(letters[(i + 1)...]))
                misspelt.insert(String(letters[..<(i - 1)] + letters[(i + 1)...]))
            }
            for wrong in misspelt where wrong != key {
                var file = WeightsFile()
                file.metadata[wrong] = "1"
                // Which one is meant is not sure of a word between two keys.
                expect(file, "there is no key '\(wrong)' in the metadata of weights; is '")
            }
        }
        for (wrong, key) in [
            ("nominal_step_size", "nominal_stepsize"), ("initial_rms_decay", "initial_rms_decays"), ("exp_mul", "exp_mult"),
            ("stepmult", "step_mult"), ("hidden-layers", "hidden_layers"), ("aggregate_magnitudes", "aggregate_magnitude"),
        ] {
            var file = WeightsFile()
            file.metadata[wrong] = "1"
            expect(file, "there is no key '\(wrong)' in the metadata of weights; is '\(key)' meant?")
        }
    }

    /// Whatever else a file says of itself is its own.
    @Test func `other keys are allowed`() throws {
        var file = WeightsFile()
        for key in [
            "format", "id", "date", "name", "seed", "seconds", "outer_steps", "inner_steps", "provenance", "configuration", "size",
            "hidden", "exp", "mult", "steps", "weight_decay_of_the_network", "kinds", "find", "initial", "x", "normalize", "",
        ] { file.metadata[key] = "anything" }
        let told = try weights(of: file.bytes), plain = try weights(of: WeightsFile().bytes)
        #expect(told.architecture == plain.architecture && told.digest == plain.digest)
    }

    @Test func `momenta and factored accumulators must be equally many`() {
        var file = WeightsFile()
        file.metadata["initial_adafactor_decays"] = "[0.9, 0.99]"
        expect(file, "initial_momentum_decays has 3 values, initial_adafactor_decays 2")
        file.metadata["initial_momentum_decays"] = "[0.9]"
        expect(file, "initial_momentum_decays has 1 values, initial_adafactor_decays 2")
        file.metadata["initial_adafactor_decays"] = nil
        expect(file, "initial_momentum_decays has 1 values, initial_adafactor_decays 3")
    }

    /// C strings end at a 0.
    @Test func `metadata hold no zero`() {
        var file = WeightsFile()
        file.metadata["provenance"] = "a\0b"
        expect(file, "the metadata have a character U+0000 at the key 'provenance'")
        file.metadata["provenance"] = nil
        file.metadata["a\0b"] = "c"
        expect(file, "the metadata have a character U+0000 at the key 'a\\x00b'")
    }

    @Test func `every tensor must be there`() {
        for name in WeightsFile().tensors.keys {
            var file = WeightsFile()
            file.tensors[name] = nil
            expect(file, "there is no tensor '\(name)'")
        }
    }

    @Test func `no other tensor may be there`() {
        for name in ["", "w3", "b3", "w", "W0", "optimizer", "tensor_scal", "w00"] {
            var file = WeightsFile()
            file.set(name, [4]) { _ in 0 }
            expect(file, "tensor '\(name)' is none of kind star with 2 hidden layers")
        }
        var small = Architecture()
        small.kind = .smallFC
        var file = WeightsFile(small)
        file.set("tensor_scale", [9]) { _ in 0 }
        expect(file, "tensor 'tensor_scale' is none of kind small_fc with 2 hidden layers")
        file = WeightsFile()
        file.set("tensor_schedule", [12]) { _ in 0 }
        expect(file, "there is a tensor 'tensor_schedule' but no 'tensor_scale', which it needs")
        file = WeightsFile()
        file.set("tensor_count", [2]) { _ in 0 }
        expect(file, "there is a tensor 'tensor_count' but no 'tensor_scale', which it needs")
        file = WeightsFile()
        file.set("tensor_ranges", [2, 12]) { _ in 0 }
        expect(file, "there is a tensor 'tensor_ranges' but no 'tensor_scale', which it needs")
    }

    @Test func `ranges have their least below their most`() throws {
        var star = Architecture()
        (star.tensorScale, star.tensorRanges) = (true, true)
        var file = WeightsFile(star)
        file.set("tensor_ranges", [2, 12]) { _ in 0.5 }
        _ = try weights(of: file.bytes)
        file.set("tensor_ranges", [2, 12]) { $0 == 7 ? 1 : 0.5 }
        expect(file, "tensor 'tensor_ranges', column 7, is from 1 to 0.5; that is no range")
    }

    @Test func `shapes must be those of the architecture`() {
        var star = Architecture()
        (star.tensorScale, star.tensorSchedule, star.tensorCount, star.tensorRanges) = (true, true, true, true)
        let shapes: [(String, [Int], String)] = [
            ("w0", [4, 39], "[39, 4]"), ("w0", [39, 5], "[39, 4]"), ("w0", [156], "[39, 4]"), ("w1", [4, 4, 1], "[4, 4]"),
            ("w2", [4, 2], "[4, 4]"), ("b0", [], "[4]"), ("b1", [1, 4], "[4]"), ("b2", [2], "[4]"),
            ("momentum_decays", [4], "[3]"),
            ("rms_decays", [], "[1]"), ("adafactor_decays", [0], "[3]"), ("tensor_scale", [8], "[9]"),
            ("tensor_schedule", [9], "[12]"), ("tensor_count", [3], "[2]"), ("tensor_count", [2, 1], "[2]"),
            ("tensor_ranges", [24], "[2, 12]"), ("tensor_ranges", [12, 2], "[2, 12]"),
        ]
        for (name, shape, right) in shapes {
            var file = WeightsFile(star)
            file.set(name, shape) { _ in 0 }
            expect(file, "tensor '\(name)' is F32 \(shape); the architecture in the metadata needs F32 \(right)")
        }
    }

    @Test func `types must be F32`() {
        for (type, size) in [("F64", 8), ("I32", 4), ("BF16", 2), ("C64", 8)] {
            var file = WeightsFile()
            file.tensors["b1"] = (type, [4], [UInt8](repeating: 0, count: 4 * size))
            expect(file, "tensor 'b1' is \(type) [4]; the architecture in the metadata needs F32 [4]")
        }
    }

    @Test func `every value must be finite`() {
        let wrong: [(Float, String)] = [
            (.nan, "nan"), (-.nan, "nan"), (.signalingNaN, "nan"), (.infinity, "inf"), (-.infinity, "-inf"),
        ]
        for (number, (value, text)) in wrong.enumerated() {
            for (name, tensor) in WeightsFile().tensors {
                let element = number % tensor.shape.reduce(1, *)
                var file = WeightsFile()
                file.set(name, tensor.shape) { $0 == element ? value : 0 }
                expect(file, "tensor '\(name)', element \(element) is \(text); finite numbers are needed")
            }
        }
    }

    @Test func `files that are no weights are refused`() throws {
        let directory = try TemporaryDirectory()
        let path = directory.path("f")
        func fault() -> LOptError? {
            failure { () throws(LOptError) in _ = try Weights(path: path, allocator: .system) }
        }
        #expect(fault()?.status == .io)
        try Data().write(to: URL(fileURLWithPath: path))
        #expect(fault()?.status == .weights)
        #expect(truncate(path, (8 << 20) + 1) == 0)
        #expect(fault()?.description.hasSuffix("has 8388609 bytes; weights have at most 8388608") == true)
    }

    @Test func `headers that are long are refused`() {
        var file = WeightsFile()
        file.metadata["provenance"] = String(repeating: "x", count: 1_046_000)
        let bytes = file.bytes
        #expect(failure { () throws(LOptError) in _ = try weights(of: bytes) } == nil)
        file.metadata["provenance"] = String(repeating: "x", count: 1 << 20)
        expect(file, "bytes, at most 1048576 are allowed")
    }
}

// MARK: - Weights from values

extension WeightsFaultTests {
    private func fault(theta: [Float]? = nil, _ change: (inout Architecture) -> Void) -> LOptError? {
        var architecture = Architecture()
        change(&architecture)
        let given = architecture
        return failure { () throws(LOptError) in _ = try weights(given, theta: theta ?? []) }
    }

    @Test func `values are checked like those of a file`() {
        let count = Architecture().metaParameters
        #expect(fault(theta: [Float](repeating: 0, count: count)) { _ in } == nil)
        let changes: [(String, (inout Architecture) -> Void)] = [
            ("hidden_size is 0;", { $0.hiddenSize = 0 }), ("hidden_size is 513;", { $0.hiddenSize = 513 }),
            ("hidden_layers is 5;", { $0.hiddenLayers = 5 }),
            ("hidden_layers is -9223372036854775808;", { $0.hiddenLayers = .min }),
            ("hidden_size is 9.223372036854776e18;", { $0.hiddenSize = .max }),
            ("momenta is -1; allowed are 1 to 8", { $0.momenta = -1 }),
            ("momenta is 0; allowed are 1 to 8", { $0.momenta = 0 }), ("momenta is 9;", { $0.momenta = 9 }),
            ("initial_momentum_decays is [0.9, 0.99, 0.999, nan]",
             { $0.momenta = 4; $0.initialMomentumDecays[3] = .nan; $0.initialAdafactorDecays[3] = 0.5 }),
            ("initial_momentum_decays is [0.9, 1.0, 0.999]", { $0.initialMomentumDecays[1] = 1 }),
            ("initial_adafactor_decays is [0.9, -0.5, 0.999]", { $0.initialAdafactorDecays[1] = -0.5 }),
            ("initial_rms_decays is [1.5]", { $0.initialRMSDecay = 1.5 }),
            ("nominal_epsilon is 0.0;", { $0.nominalEpsilon = 0 }),
            ("weight_decay is -1.0;", { $0.weightDecay = -1 }), ("step_mult is 1e39;", { $0.stepMult = 1e39 }),
            ("exp_mult is ", { $0.expMult[2] = .nan }), ("nominal_stepsize is ", { $0.nominalStepsize = .infinity }),
        ]
        for (message, change) in changes {
            let error = fault(change)
            #expect(error?.status == .weights)
            #expect(error?.description.hasPrefix(message) == true, "\(error?.description ?? "accepted: \(message)")")
        }
        var theta = [Float](repeating: 0, count: count)
        theta[8] = .nan
        #expect(fault(theta: theta) { _ in }?.description == "tensor 'w0', element 1 is nan; finite numbers are needed")
        for wrong in [0, count - 1, count + 1] {
            let error = fault(theta: [Float](repeating: 0, count: wrong)) { _ in }
            #expect(error?.status == .invalidArgument)
            #expect(error?.description == "theta has \(wrong) values, its architecture \(count)")
        }
    }

    @Test func `small_fc has no values of star`() {
        let changes: [(inout Architecture) -> Void] = [
            { $0.nominalStepsize = 1 }, { $0.normalizeBlackbox = true }, { $0.tensorScale = true },
            { $0.expMult[1] = 1 }, { $0.aggregateMagnitude = true }, { $0.nominalEstimator = .sgd },
            { $0.nominalEpsilon = 1 }, { $0.weightDecay = 1 },
        ]
        for change in changes {
            let error = fault {
                $0.kind = .smallFC
                change(&$0)
            }
            #expect(error?.status == .invalidArgument)
            #expect(error?.description == "a value that only star has is set for small_fc")
        }
    }
}
