import Foundation
import Testing

@testable import LOptCore
@testable import LOptMeta

/// Weights that are written read back as the same weights; what computes the same has the same digest.
@Suite struct WeightsWritingTests {
    private let directory: TemporaryDirectory

    init() throws { directory = try TemporaryDirectory() }

    private func write(_ weights: borrowing Weights, _ notes: [(key: String, value: String)] = []) throws {
        try weights.write(to: URL(filePath: directory.path("w")), notes: notes)
    }

    @Test func `shipped weights read back`() throws {
        for name in ["star", "star-authors-rule"] {
            let shipped = repository.appendingPathComponent("weights/\(name).safetensors").path
            let old = try Weights(path: shipped, allocator: .system)
            try write(old, [("seed", "7 \"quoted\" é\n")])
            let new = try Weights(path: directory.path("w"), allocator: .system)
            let (a, b) = (WeightsContents(old), WeightsContents(new))
            #expect(a.architecture == b.architecture)
            #expect(a.theta.map { $0.bitPattern } == b.theta.map { $0.bitPattern })
            #expect(a.digest == b.digest)
            #expect(metadata(new, "provenance") == metadata(old, "provenance"))
            #expect(metadata(new, "seed") == "7 \"quoted\" é\n")
            // The spellings are those of the file.
            for key in ["format_version", "exp_mult", "initial_adafactor_decays", "nominal_grad_estimator", "hidden_size",
                        "step_mult", "nominal_stepsize", "weight_decay", "nominal_controller", "initial_rms_decays"] {
                #expect(metadata(new, key) == metadata(old, key), "\(key)")
            }
        }
        #expect(directory.names == ["w"])
    }

    @Test func `numbers are spelled as one would`() throws {
        let numbers: [(Double, String)] = [
            (0, "0.0"), (1, "1.0"), (0.9, "0.9"), (-0.0002, "-0.0002"), (1e-4, "0.0001"), (1e-5, "1e-5"), (1e-6, "1e-6"),
            (1.5e-7, "1.5e-7"), (1e-12, "1e-12"), (0.1 + 0.2, "0.30000000000000004"), (1e15, "1000000000000000.0"),
            (1e16, "1e16"), (1e30, "1e30"), (1.0 / 3, "0.3333333333333333"), (1.0.nextUp, "1.0000000000000002"),
        ]
        for (number, text) in numbers {
            var a = Architecture()
            a.stepMult = number
            let weights = try Weights(architecture: a, theta: [Float](repeating: 0, count: a.metaParameters))
            #expect(a.values().first { $0.has(key: "step_mult") }?.text == text)
            #expect(weights.architecture.stepMult.bitPattern == number.bitPattern)
        }
    }

    @Test func `every architecture reads back`() throws {
        var noise = Noise(state: 5)
        for round in 0..<40 {
            var a = Architecture()
            a.kind = round % 2 == 0 ? .star : .smallFC
            a.hiddenSize = Int.random(in: 1...9, using: &noise)
            a.hiddenLayers = Int.random(in: 1...4, using: &noise)
            a.momenta = Int.random(in: 1...8, using: &noise)
            for k in 0..<8 {
                a.initialMomentumDecays[k] = k < a.momenta ? Double.random(in: 0..<1, using: &noise) : 0
                a.initialAdafactorDecays[k] = k < a.momenta ? Double.random(in: 0..<1, using: &noise) : 0
            }
            a.initialRMSDecay = Double.random(in: 0..<1, using: &noise)
            a.expMult[0] = Double.random(in: -1e9...1e9, using: &noise)
            a.stepMult = Double.random(in: -1e-9...1e-9, using: &noise)
            if a.kind == .star { randomise(&a, &noise) }
            if round % 5 == 4 {
                let (rms, decays, size) = (a.initialRMSDecay, a.initialMomentumDecays, a.stepMult)
                a = Architecture(.pooled)
                (a.initialRMSDecay, a.nominalStepsize) = (rms, abs(size))
                a.initialMomentumDecays = [decays[0], decays[1], 0, 0, 0, 0, 0, 0]
            }
            var theta = (0..<a.metaParameters).map { _ in Float.random(in: -9...9, using: &noise) }
            if a.kind == .pooled { for i in 0..<(PooledTerm.statistics + 2) { theta[a.statisticsRangesOffset + i] = -9 } }
            let weights = try Weights(architecture: a, theta: theta)
            try write(weights)
            let read = WeightsContents(try Weights(path: directory.path("w"), allocator: .system))
            #expect(read.architecture == a)
            #expect(read.theta == theta)
            #expect(read.digest == weights.digest)
        }
    }

    private func randomise(_ a: inout Architecture, _ noise: inout Noise) {
        for i in 1..<3 { a.expMult[i] = Double.random(in: -1...1, using: &noise) }
        a.nominalStepsize = Double.random(in: 0...1, using: &noise)
        a.weightDecay = Double.random(in: 0...1, using: &noise)
        a.nominalEpsilon = Double.random(in: 1e-30...1e-20, using: &noise)
        a.nominalEstimator = [.sgd, .sgdm, .aggMo, .adam, .adamAggMo].randomElement(using: &noise) ?? .sgd
        for flag in [\Architecture.nominalController, \.regularizationController, \.aggregateMagnitude,
                     \.aggregateNominalMagnitude, \.aggregateRegularizationMagnitude, \.normalizeBlackbox,
                     \.selfnormalizeBlackbox, \.tensorScale] {
            a[keyPath: flag] = Bool.random(using: &noise)
        }
        a.tensorSchedule = a.tensorScale && Bool.random(using: &noise)
        a.tensorCount = a.tensorScale && Bool.random(using: &noise)
        a.skipIdleTensors = Bool.random(using: &noise)
    }

    @Test func `notes replace those of the file`() throws {
        try write(Weights(builtin: "star", allocator: .system), [("provenance", "new")])
        let new = try Weights(path: directory.path("w"), allocator: .system)
        #expect(metadata(new, "provenance") == "new")
    }

    @Test func `notes are checked`() throws {
        let weights = try Weights(builtin: "star", allocator: .system)
        let wrong: [([(key: String, value: String)], String)] = [
            ([("", "x")], "a note has an empty key"),
            ([("kind", "small_fc")], "a note has the key 'kind', which is that of a constructor value"),
            ([("format_version", "2")], "a note has the key 'format_version'"),
            ([("seed", "1"), ("exp_mult", "1")], "a note has the key 'exp_mult'"),
            ([("seed", "1"), ("exp_mul", "1")], "there is no key 'exp_mul' in the metadata of weights; is 'exp_mult' meant?"),
            ([("seed", "1"), ("steps", "2"), ("seed", "3")], "two notes have the key 'seed'"),
            ([("a\0b", "1")], "the note 'a\\x00b' has a character U+0000"), ([("a", "\0")], "the note 'a' has a character U+0000"),
            ([("log", String(repeating: "x", count: 1 << 20))], "the notes make a header of 105"),
        ]
        for (notes, message) in wrong {
            let error = #expect(throws: LOptMetaError.self) { try write(weights, notes) }
            #expect(error?.description.hasPrefix("'\(directory.path("w"))': \(message)") == true, "\(error?.description ?? "")")
        }
        #expect(directory.names == [])
    }

    /// Only what is new is looked at: a file may have come with stranger notes.
    @Test func `notes of the file stay`() throws {
        var file = WeightsFile()
        (file.metadata[""], file.metadata["seed"]) = ("empty", "1")
        try file.bytes.withUnsafeBytes { try write(Weights(bytes: $0, allocator: .system), [("seed", "2")]) }
        let new = try Weights(path: directory.path("w"), allocator: .system)
        #expect(metadata(new, "") == "empty" && metadata(new, "seed") == "2")
    }
}

// MARK: - Digest

extension WeightsWritingTests {
    @Test func `every numerical change changes the digest`() throws {
        var star = Architecture()
        star.tensorScale = true
        var seen: Set<UInt64> = []
        var tried = 0
        func note(_ architecture: Architecture, _ theta: [Float]? = nil) throws {
            seen.insert(try weights(architecture, theta: theta).digest)
            tried += 1
        }
        try note(star)
        let changes: [(inout Architecture) -> Void] = [
            { $0.hiddenSize = 5 }, { $0.hiddenLayers = 1 }, { $0.initialMomentumDecays[2] = 0.9991 },
            { $0.initialAdafactorDecays[0] = 0.9.nextUp }, { $0.initialRMSDecay = 0.9 }, { $0.expMult[0] = 1 },
            { $0.expMult[1] = 1 }, { $0.expMult[2] = 1 }, { $0.stepMult = 0 }, { $0.stepMult = -0.0 },
            { $0.nominalStepsize = 1 }, { $0.weightDecay = 1 }, { $0.nominalController = true },
            { $0.regularizationController = true },
            { $0.nominalEstimator = .adam }, { $0.nominalEstimator = .aggMo }, { $0.nominalEstimator = .sgd },
            { $0.nominalEstimator = .sgdm }, { $0.aggregateMagnitude = true }, { $0.aggregateNominalMagnitude = true },
            { $0.aggregateRegularizationMagnitude = true }, { $0.normalizeBlackbox = true },
            { $0.selfnormalizeBlackbox = true }, { $0.tensorScale = false }, { $0.tensorSchedule = true },
            { $0.tensorCount = true }, { $0.tensorRanges = true }, { $0.skipIdleTensors = true },
            { $0.nominalEpsilon = 1e-7 },
            { $0.momenta = 2 },
            { $0.kind = .smallFC; $0.tensorScale = false },
        ]
        for change in changes {
            var other = star
            change(&other)
            try note(other)
        }
        let theta = (0..<star.metaParameters).map { Float($0) / 64 }
        for i in theta.indices {
            var other = theta
            other[i] = i == 0 ? -0.0 : theta[i].nextUp
            try note(star, other)
        }
        #expect(seen.count == tried)
    }

    @Test func `notes do not change the digest`() throws {
        var file = WeightsFile()
        let plain = try weights(of: file.bytes).digest
        file.metadata["provenance"] = "elsewhere"
        file.metadata["step_mult"] = "1.0e-3"
        #expect(try weights(of: file.bytes).digest == plain)
        file.metadata["step_mult"] = "1.0001e-3"
        #expect(try weights(of: file.bytes).digest != plain)
    }

    /// Checkpoints of weights that had no safeguards yet are those of the same numbers with them.
    @Test func `safeguards leave the digest without them`() throws {
        var plain = Architecture()
        (plain.tensorScale, plain.tensorSchedule, plain.tensorCount) = (true, true, true)
        let theta = (0..<plain.metaParameters).map { Float($0) / 64 }
        let old = try weights(plain, theta: theta)
        var safe = plain
        (safe.tensorRanges, safe.skipIdleTensors) = (true, true)
        let new = try weights(safe, theta: theta + (0..<safe.count(of: .tensorRanges)).map { Float($0) })
        #expect(old.digest == old.digestWithoutSafeguards)
        #expect(new.digest != old.digest && new.digestWithoutSafeguards == old.digest)
    }

    /// Checkpoints hold digests. The values are of another program.
    @Test func `digests stay what they are`() throws {
        var architecture = Architecture()
        #expect(try weights(architecture).digest == 0xa651a5842688b59c)
        architecture.tensorScale = true
        #expect(try weights(architecture).digest == 0x35c37d6fc653c645)
        architecture = Architecture()
        architecture.kind = .smallFC
        #expect(try weights(architecture).digest == 0x2de16a6f78d63ffb)
    }
}
