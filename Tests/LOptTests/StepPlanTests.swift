import Testing

@testable import LOptCore

/// The passes of a step, for every combination of what decides them.
@Suite struct StepPlanTests {
    private static func plan(_ bits: Int, isGuarded: Bool) -> StepPlan {
        var a = KernelReferenceTests.star(bits)
        if bits & 64 != 0 { a.nominalStepsize = 0 }
        if bits & 128 != 0 { a.weightDecay = 0 }
        if bits & 256 != 0 { a.kind = .smallFC }
        return StepPlan(a, KernelReferenceTests.theta(a, seed: 1), isGuarded: isGuarded)
    }

    @Test(arguments: 0..<512, [false, true])
    func `each term is applied once, after all that scales it has been measured`(_ bits: Int, _ isGuarded: Bool) {
        let plan = Self.plan(bits, isGuarded: isGuarded)
        var hasMoments = false, hasMeans = false, hasUpdate = !isGuarded
        var nominal = 0, others = 0, networks = 0
        for i in 0..<plan.passes.count {
            let pass = plan.passes[i]
            #expect(hasMoments == (i > 0), "the gradient is taken in first, and once")
            if pass.kind == .network { networks += 1 }
            if pass.writes {
                #expect(hasUpdate, "an update is written before the guard has seen its size")
                let isNominal = pass.terms == .all || pass.terms == .nominal, isOther = pass.terms != .nominal
                if isNominal {
                    nominal += 1
                    #expect(plan.nominal != .mean || hasMeans)
                }
                if isOther {
                    others += 1
                    #expect((plan.blackbox != .mean && plan.decay != .mean) || hasMeans)
                }
                let needsNetwork = (isOther && plan.blackbox != .off) || (isOther && plan.decay == .perElement)
                    || (isNominal && plan.nominal == .perElement)
                #expect(!needsNetwork || pass.kind == .network)
            }
            switch pass.measures {
            case .nothing: break
            case .moments: hasMoments = true
            case .heads: hasMeans = true
            case .nominalHead:
                #expect(plan.decay != .mean && plan.blackbox != .mean && !pass.writes)
                hasMeans = true
            case .update: hasUpdate = true
            }
        }
        #expect(nominal == 1 && others == 1)
        #expect((networks > 0) == plan.usesNetwork && networks <= (isGuarded ? 3 : 2))
    }

    @Test func `the lists are those of architecture.md`() {
        let lists = Set((0..<512).map { [Self.plan($0, isGuarded: false).letters, Self.plan($0, isGuarded: true).letters] })
        #expect(lists == [
            ["A E", "A E' E"], ["A N", "A N' N"], ["A N' E", "A N' E' E"], ["A N E", "A N' E' N"],
            ["A N' N", "A N' N' N"],
        ])
    }

    /// What the update is scaled by, the size that statistics say or the guard, is measured in a pass before.
    @Test func `kind pooled measures before it writes`() {
        let a = Architecture(.pooled), theta = [Double](repeating: 0, count: a.metaParameters)
        #expect(StepPlan(a, theta).letters == "P' P")
        #expect(StepPlan(a, theta, isGuarded: true).letters == "P' P' P")
    }
}

extension StepPlan {
    init(_ a: Architecture, _ theta: [Double], isGuarded: Bool = false) {
        self = theta.map { Float($0) }.withUnsafeBufferPointer { StepPlan(a, theta: $0.baseAddress!, isGuarded: isGuarded) }
    }

    /// The passes of a step as docs/architecture.md writes them: N' and E' measure only.
    var letters: String {
        (0..<passes.count).map { i in
            let prime = passes[i].writes ? "" : "'"
            return switch passes[i].kind {
            case .accumulate: "A"
            case .network: "N" + prime
            case .elements: "E" + prime
            case .pooled: "P" + prime
            }
        }.joined(separator: " ")
    }
}
