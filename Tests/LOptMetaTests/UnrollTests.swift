import Foundation
import LOptCore
import LOptReference
import Testing

@testable import LOptMeta

@Suite struct UnrollTests {
    static func weights(_ change: (inout [Double]) -> Void = { _ in }) throws -> Weights {
        let parameters = MetaParameters(
            structuredStartOf: Architecture.star(extensions: true), seed: 3)
        var z = [Double](repeating: 0, count: parameters.count)
        change(&z)
        return try parameters.weights(z)
    }

    static func settings(scaled: Bool = false, schedule: Schedule = .constant) -> RunSettings {
        var settings = RunSettings(task: NoisyBowl(), horizon: 97, seed: 5)
        if scaled { settings.tensorScales = [2, 0.5] }
        settings.schedule = schedule
        return settings
    }

    @Test(arguments: [false, true], Schedule.allCases)
    func `a run in pieces, or through a snapshot, is the run in one`(_ scaled: Bool, _ schedule: Schedule) throws {
        let settings = Self.settings(scaled: scaled, schedule: schedule)
        let weights = try Self.weights()
        var whole = try Unroll(settings, Objective(), weights: weights)
        let taken = whole.run(1000)
        #expect(taken == 97)
        var pieces = try Unroll(settings, Objective(), weights: weights)
        let begun = [1, 5, 30].map { pieces.run($0) }
        #expect(begun == [1, 5, 30])
        let snapshot = try JSONDecoder().decode(
            Unroll.Snapshot.self, from: JSONEncoder().encode(pieces.snapshot()))
        let rest = pieces.run(1000)
        var resumed = try Unroll(settings, Objective(), weights: weights)
        try resumed.resume(snapshot)
        let resumedRest = resumed.run(1000)
        #expect(rest == 61)
        #expect(resumedRest == 61)
        let values = (whole: whole.value(), pieces: pieces.value(), resumed: resumed.value())
        #expect(values.whole == values.pieces)
        #expect(values.whole == values.resumed)
        #expect(values.whole < -0.1)
    }

    /// Weights of kind pooled, which know their horizon, with tensors whose gradients come and go.
    @Test(arguments: [Schedule.constant, .known])
    func `an episode in chunks, or through a snapshot, is the episode in one, chunk values included`(_ schedule: Schedule) throws {
        var settings = Self.settings(scaled: true, schedule: schedule)
        settings.gates = [GradientGate(period: 9, closed: 4, factor: 0), GradientGate(period: 7, closed: 2, factor: 1e-3)]
        let parameters = MetaParameters(structuredStartOf: .pooled, seed: 3)
        let weights = try parameters.weights([Double](repeating: 0, count: parameters.count))
        var whole = try Unroll(settings, Objective(), weights: weights), pieces = try Unroll(settings, Objective(), weights: weights)
        _ = whole.run(50)
        let first = whole.takeChunkValues()
        _ = whole.run(1000)
        let second = whole.takeChunkValues()
        _ = (pieces.run(20), pieces.run(30))
        let ofPieces = pieces.takeChunkValues()
        #expect(ofPieces == first)
        let snapshot = try JSONDecoder().decode(Unroll.Snapshot.self, from: JSONEncoder().encode(pieces.snapshot()))
        var resumed = try Unroll(settings, Objective(), weights: weights)
        try resumed.resume(snapshot)
        _ = resumed.run(1000)
        let ofResumed = resumed.takeChunkValues()
        #expect(ofResumed == second)
        #expect(second.training < first.training && second.end < second.training)
    }

    @Test func `a gate multiplies the gradients of its tensor in the first steps of every period`() {
        let gate = GradientGate(period: 5, closed: 2, factor: 0.25)
        #expect((0..<7).map { gate.factor(at: $0) } == [0.25, 0.25, 1, 1, 1, 0.25, 0.25])
    }

    @Test func `a reparameterised run differs, its task does not`() throws {
        let weights = try Self.weights()
        var plain = try Unroll(Self.settings(), Objective(), weights: weights)
        var scaled = try Unroll(Self.settings(scaled: true), Objective(), weights: weights)
        _ = plain.run(97)
        _ = scaled.run(97)
        let first = (plain.firstLoss, scaled.firstLoss), values = (plain.value(), scaled.value())
        #expect(first.0 == first.1)
        #expect(values.0 != values.1)
    }

    @Test func `a diverged run counts as the cap, never as NaN`() throws {
        // A bowl so steep that the first gradients exceed what the runtime takes.
        var settings = RunSettings(task: NoisyBowl(size: 4, condition: 1e20), horizon: 50, seed: 1)
        settings.endsWithHeldOutLoss = true
        var unroll = try Unroll(settings, Objective(), weights: Self.weights())
        _ = unroll.run(50)
        let hasDiverged = unroll.hasDiverged, value = unroll.value()
        #expect(hasDiverged)
        #expect(abs(value - Objective().cap) < 1e-12)
    }

    /// Each optimizer, on a task that breaks at step 30 and on one whose losses grow without bound.
    @Test(arguments: [.adamW(learningRate: 0.1, weightDecay: 0), .sgdm(learningRate: 0.1), .lopt(try! NamedWeights("star"))] as [OptimizerSpec.Method])
    func `a run ends where its loss is not finite, or above its limit, whatever the optimizer`(_ method: OptimizerSpec.Method) throws {
        let broken = try TrainingRun(RunSettings(task: Bowl(breaksAt: 30), horizon: 100, seed: 1), method)
        var losses: [Float] = []
        let pieces = [20, 5, 50, 50].map { broken.advance($0) { losses.append($1) } }
        #expect(pieces == [20, 5, 6, 0] && broken.hasDiverged && broken.isFinished && broken.step == 31)
        #expect(losses.count == 30 && losses.allSatisfy(\.isFinite) && Double(losses[0]) == broken.firstLoss)
        for (factor, end) in [(1e6, 13), (1e3, 7), (.infinity, 20)] {
            var settings = RunSettings(task: Growing(), horizon: 20, seed: 1)
            settings.divergenceFactor = factor
            let growing = try TrainingRun(settings, method)
            growing.advance(1000)
            #expect(growing.step == end && growing.hasDiverged == (factor < .infinity), "\(factor): step \(growing.step)")
        }
    }

    /// Losses -1, 3.5, 12.25, ...: 3.5 to the power of the step, of whatever parameters.
    private struct Growing: TrainingTask {
        let name = "growing", tensors = [TensorSpec("x", [1])]
        func initialize(_ parameters: UnsafeMutablePointer<Float>, seed: UInt64) { parameters[0] = 1 }
        func makeWorker() -> any TaskWorker { Worker() }
        final class Worker: TaskWorker {
            func loss(_ parameters: UnsafePointer<Float>, gradient: UnsafeMutablePointer<Float>, seed: UInt64, step: Int) -> Float {
                gradient[0] = 1
                return step == 0 ? -1 : Float(pow(3.5, Double(step)))
            }
        }
    }

    @Test func `the structured start has one step size, which falls only late`() throws {
        let architecture = Architecture.star(extensions: false)
        let parameters = MetaParameters(structuredStartOf: architecture, seed: 1)
        let theta = parameters.theta([Double](repeating: 0, count: parameters.count)).map(Double.init)
        let reference = ReferenceOptimizer<Double>(architecture: architecture, theta: theta)
        func logStep(_ t: Int) -> Double {
            reference.network([Double](repeating: 0.7, count: architecture.features) + reference.stepFeatures(t: t))[2]
        }
        #expect(abs(logStep(0)) < 0.02)
        #expect(abs(logStep(100)) < 0.1)
        for (early, late) in [(1000, 3000), (3000, 10_000), (10_000, 30_000)] {
            let fall = logStep(early) - logStep(late)
            #expect(fall > 0.5 && fall < 1.3, "the log-step falls by \(fall) from \(early) to \(late)")
        }
    }

    @Test func `the objective weighs segments as it combines them`() {
        let objective = Objective()
        let values = (0..<objective.segments).map { sin(Double($0)) }
        let sum = values.indices.reduce(0) { $0 + objective.weight($1) * values[$1] }
        #expect(abs(objective.combine(values) - sum) < 1e-12)
        #expect(objective.value(meanLoss: .nan, first: 1) == objective.cap)
        #expect(objective.value(meanLoss: 1, first: 1) == 0)
        #expect(abs(objective.value(meanLoss: 0, first: 1) - log(objective.floor / (1 + objective.floor))) < 1e-12)
    }
}
