/// In which passes over a tensor the step is applied. A head that is replaced by its mean over the tensor is known only
/// after the network has seen all of it.
struct StepPlan: Equatable {
    enum Passes {
        /// No head is needed: sweep D alone.
        case simple
        /// Sweep C does it all.
        case network
        /// Sweep C takes means, sweep D applies them: nothing else needs the network.
        case meansThenSimple
        /// Sweep C applies blackbox and decay, sweep D the nominal term.
        case networkThenNominal
        /// Sweep C takes means, a second sweep C applies.
        case meansThenNetwork
    }

    let passes: Passes
    let hasBlackbox: Bool
    let hasNominal: Bool
    let hasDecay: Bool
    /// The nominal magnitude is a head of the network, for each element or as a mean.
    let nominalPerElement: Bool, nominalAggregated: Bool
    let decayPerElement: Bool, decayAggregated: Bool
    let magnitudeAggregated: Bool

    init(_ a: Architecture) {
        let isStar = a.kind == .star
        hasBlackbox = a.stepMult != 0
        hasNominal = isStar && a.nominalStepsize != 0
        hasDecay = isStar && a.weightDecay != 0
        nominalAggregated = hasNominal && a.nominalController && a.aggregateNominalMagnitude
        nominalPerElement = hasNominal && a.nominalController && !a.aggregateNominalMagnitude
        decayAggregated = hasDecay && a.regularizationController && a.aggregateRegularizationMagnitude
        decayPerElement = hasDecay && a.regularizationController && !a.aggregateRegularizationMagnitude
        magnitudeAggregated = isStar && hasBlackbox && a.aggregateMagnitude

        let needsElements = hasBlackbox || nominalPerElement || decayPerElement
        let needsMeans = nominalAggregated || decayAggregated || magnitudeAggregated
        if !needsMeans {
            passes = needsElements ? .network : .simple
        } else if !needsElements {
            passes = .meansThenSimple
        } else if nominalAggregated && !decayAggregated && !magnitudeAggregated {
            passes = .networkThenNominal
        } else {
            passes = .meansThenNetwork
        }
    }

    var usesMeans: Bool { passes != .simple && passes != .network }
    var usesNetwork: Bool { passes != .simple }
    var usesSweepD: Bool { passes == .simple || passes == .meansThenSimple || passes == .networkThenNominal }
    /// Sweep C writes parameters, in its last run.
    var writesInSweepC: Bool { passes == .network || passes == .networkThenNominal || passes == .meansThenNetwork }
    /// Only the mean of the nominal head is wanted from sweep C.
    var nominalHeadOnly: Bool { passes == .meansThenSimple && nominalAggregated && !decayAggregated }
}
