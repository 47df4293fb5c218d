import CLOptShims
import Foundation
import Testing

@testable import LOptCore

/// What weights files say, and the weights that come of it.
@Suite struct WeightsTests {
    private func file(_ name: String) throws -> [UInt8] {
        Array(try Data(contentsOf: repository.appendingPathComponent("weights/\(name).safetensors")))
    }

    /// The architecture of both shipped files, by their metadata.
    private var shipped: Architecture {
        var architecture = Architecture()
        architecture.expMult = [1, 1, 1]
        architecture.nominalStepsize = 0.01
        architecture.nominalController = true
        architecture.aggregateNominalMagnitude = true
        return architecture
    }

    @Test func `star is read value for value`() throws {
        let star = try weights(of: file("star"))
        var expected = shipped
        expected.stepMult = 0
        expected.nominalEpsilon = 1e-16
        (expected.tensorScale, expected.tensorSchedule, expected.tensorCount) = (true, true, true)
        (expected.tensorRanges, expected.skipIdleTensors) = (true, true)
        #expect(star.architecture == expected)
        #expect(star.theta.count == 3 + 1 + 3 + 40 * 4 + 5 * 4 + 5 * 4 + 9 + 12 + 2 + 2 * 12)
        try expectTensors(star, "star")
    }

    @Test func `star-authors-rule is read value for value`() throws {
        let star = try weights(of: file("star-authors-rule"))
        var expected = shipped
        expected.stepMult = 0.0002
        #expect(star.architecture == expected)
        try expectTensors(star, "star-authors-rule")
    }

    /// Every tensor of the file lies where the offsets of the architecture say.
    private func expectTensors(_ weights: WeightsContents, _ name: String) throws {
        let bytes = try file(name)
        let golden = try contents(of: bytes).tensors
        let a = weights.architecture
        var places = [
            "momentum_decays": a.momentumDecaysOffset, "rms_decays": a.rmsDecayOffset,
            "adafactor_decays": a.adafactorDecaysOffset, "tensor_scale": a.offset(of: .tensorScale),
            "tensor_schedule": a.offset(of: .tensorSchedule), "tensor_count": a.offset(of: .tensorCount),
            "tensor_ranges": a.offset(of: .tensorRanges),
        ]
        for layer in 0..<3 {
            places["w\(layer)"] = a.weightOffset(layer)
            places["b\(layer)"] = a.biasOffset(layer)
        }
        #expect(golden.values.reduce(0) { $0 + $1.data.count } == 4 * weights.theta.count)
        for (name, tensor) in golden {
            let offset = try #require(places[name])
            let values = weights.values(offset, tensor.data.count / 4)
            #expect(values.withUnsafeBytes { Array($0) } == Array(bytes[tensor.data]), "\(name)")
        }
    }

    @Test func `metadata are kept`() throws {
        let bytes = try file("star")
        try bytes.withUnsafeBytes { bytes in
            let star = try Weights(bytes: bytes, allocator: .system)
            #expect(metadata(star, "kind") == "star")
            #expect(metadata(star, "initial_momentum_decays") == "[0.9, 0.99, 0.999]")
            #expect(metadata(star, "provenance")?.hasPrefix("lopt meta-train, commit ") == true)
            #expect(metadata(star, "absent") == nil)
            #expect(metadata(star, "") == nil)
            #expect(metadata(star, String(repeating: "k", count: 5000)) == nil)
        }
    }
}

// MARK: - Built-in weights

extension WeightsTests {
    private var builtin: [(name: String, bytes: [UInt8])] {
        var list: [(name: String, bytes: [UInt8])] = []
        var bytes: UnsafePointer<UInt8>?
        var size = 0
        while let name = lopt_builtin_weights(Int32(list.count), &bytes, &size) {
            list.append((String(cString: name), Array(UnsafeBufferPointer(start: bytes, count: size))))
        }
        return list
    }

    /// `scripts/embed-weights` has been run since the files changed.
    @Test func `built-in weights are those of the files`() throws {
        let names = try FileManager.default
            .contentsOfDirectory(atPath: repository.appendingPathComponent("weights").resolvingSymlinksInPath().path)
            .filter { $0.hasSuffix(".safetensors") }.map { String($0.dropLast(12)) }
        #expect(builtin.first?.name == "pooled")
        #expect(builtin.map { $0.name }.sorted() == names.sorted())
        for (name, bytes) in builtin { #expect(try bytes == file(name)) }
    }

    @Test func `built-in weights are found by name`() throws {
        for (name, bytes) in builtin {
            let found = WeightsContents(try Weights(builtin: name, allocator: .system))
            #expect(try found.digest == weights(of: bytes).digest)
        }
        let first = WeightsContents(try Weights(builtin: nil, allocator: .system))
        #expect(try first.digest == weights(of: file("pooled")).digest)
    }

    @Test func `an unknown name lists those there are`() {
        for name in ["", "sta", "star ", "Star", "starr"] {
            let error = failure { () throws(LOptError) in _ = try Weights(builtin: name, allocator: .system) }
            #expect(error?.status == .invalidArgument)
            #expect(error?.description == "no built-in weights are named '\(name)'; there are pooled, star, star-authors-rule")
        }
    }
}

// MARK: - Constructor values

extension WeightsTests {
    /// The metadata say the kind and nothing else: every value is the constructor's default.
    @Test func `absent keys have the constructor's defaults`() throws {
        let star = try weights(of: WeightsFile().bytes)
        #expect(star.architecture == Architecture())
        #expect(star.architecture.stepMult == 0.001 && star.architecture.nominalStepsize == 0)
        var small = Architecture()
        small.kind = .smallFC
        let found = try weights(of: WeightsFile(small).bytes)
        #expect(found.architecture == small)
        #expect(found.theta.count == 7 + 40 * 4 + 5 * 4 + 5 * 2)
    }

    @Test func `every key is read`() throws {
        var a = Architecture()
        (a.hiddenSize, a.hiddenLayers, a.momenta) = (6, 3, 2)
        a.initialMomentumDecays = [0.5, 0.25, 0, 0, 0, 0, 0, 0]
        a.initialAdafactorDecays = [0, 0.125, 0, 0, 0, 0, 0, 0]
        a.initialRMSDecay = 0.75
        (a.expMult, a.stepMult, a.nominalStepsize, a.weightDecay) = ([-1, 0, 1e-3], -2.5e-3, 1e-2, 3)
        (a.nominalController, a.regularizationController) = (true, true)
        a.nominalEstimator = .sgdm
        (a.aggregateMagnitude, a.aggregateNominalMagnitude, a.aggregateRegularizationMagnitude) = (true, true, true)
        (a.normalizeBlackbox, a.selfnormalizeBlackbox) = (true, true)
        (a.tensorScale, a.tensorSchedule, a.tensorCount, a.nominalEpsilon) = (true, true, true, 1e-9)
        (a.tensorRanges, a.skipIdleTensors) = (true, true)
        var file = WeightsFile(a)
        file.metadata.merge([
            "hidden_size": "6", "hidden_layers": "3", "initial_momentum_decays": "[5e-1,0.25]",
            "initial_adafactor_decays": "[0.0, 0.125]", "initial_rms_decays": "[0.75]", "exp_mult": "[-1.0, 0, 0.001]",
            "step_mult": "-0.0025", "nominal_stepsize": "0.01", "weight_decay": "3", "nominal_controller": "true",
            "regularization_controller": "true", "nominal_grad_estimator": "SGDM", "aggregate_magnitude": "true",
            "aggregate_nom_magnitude": "true", "aggregate_reg_magnitude": "true", "normalize_blackbox": "true",
            "selfnormalize_blackbox": "true", "nominal_epsilon": "1e-9", "skip_idle_tensors": "true",
            "format_version": "1", "unknown": "key",
        ]) { $1 }
        #expect(try weights(of: file.bytes).architecture == a)
        let flags = [
            "nominal_controller", "regularization_controller", "aggregate_magnitude", "aggregate_nom_magnitude",
            "aggregate_reg_magnitude", "normalize_blackbox", "selfnormalize_blackbox", "skip_idle_tensors",
        ]
        for key in flags {
            var other = file
            other.metadata[key] = "false"
            #expect(try weights(of: other.bytes).architecture != a, "\(key)")
        }
    }

    @Test func `every estimator is read`() throws {
        let names: [(String, Architecture.NominalEstimator)] = [
            ("SGD", .sgd), ("SGDM", .sgdm), ("AggMo", .aggMo), ("Adam", .adam), ("AdamAggMo", .adamAggMo),
        ]
        for (name, estimator) in names {
            var file = WeightsFile()
            file.metadata["nominal_grad_estimator"] = name
            #expect(try weights(of: file.bytes).architecture.nominalEstimator == estimator)
        }
    }

    /// small_fc has no nominal term: keys of one are not read, and exp_mult is one number, in brackets or not.
    @Test func `small_fc reads its own keys`() throws {
        var expected = Architecture()
        expected.kind = .smallFC
        (expected.hiddenSize, expected.hiddenLayers) = (32, 1)
        (expected.expMult[0], expected.stepMult) = (0.01, 0.02)
        for text in ["0.01", "[0.01]"] {
            var file = WeightsFile(expected)
            file.metadata.merge([
                "hidden_size": "32", "hidden_layers": "1", "exp_mult": text, "step_mult": "0.02",
                "nominal_stepsize": "none", "weight_decay": "-1", "nominal_grad_estimator": "?",
                "normalize_blackbox": "maybe", "nominal_epsilon": "0",
            ]) { $1 }
            #expect(try weights(of: file.bytes).architecture == expected)
        }
    }

    @Test(arguments: [(1, 1, 1), (512, 4, 8), (7, 2, 5), (1, 4, 3)])
    func `every size is read`(hiddenSize: Int, hiddenLayers: Int, momenta: Int) throws {
        for kind in [Architecture.Kind.star, .smallFC] {
            var a = Architecture()
            (a.kind, a.hiddenSize, a.hiddenLayers, a.momenta) = (kind, hiddenSize, hiddenLayers, momenta)
            (a.tensorScale, a.tensorSchedule, a.tensorCount) = (kind == .star, kind == .star, kind == .star && momenta > 1)
            a.tensorRanges = kind == .star && momenta > 3
            var decays = SIMD8<Double>(repeating: 0)
            for k in 0..<momenta { decays[k] = Double(k) / 10 }
            (a.initialMomentumDecays, a.initialAdafactorDecays) = (decays, decays)
            var file = WeightsFile(a) { Float($0 % 1000) }
            let list = "\((0..<momenta).map { Double($0) / 10 })"
            file.metadata.merge([
                "hidden_size": "\(hiddenSize)", "hidden_layers": "\(hiddenLayers)", "initial_momentum_decays": list,
                "initial_adafactor_decays": list,
            ]) { $1 }
            let found = try weights(of: file.bytes)
            #expect(found.architecture == a)
            #expect(found.theta.count == a.metaParameters)
            #expect(found.values(a.biasOffset(hiddenLayers), a.outputs) == (kind == .star ? [0, 1, 2, 3] : [0, 1]))
            #expect(found.values(a.adafactorDecaysOffset, momenta) == (0..<momenta).map { Float($0) })
        }
    }
}
