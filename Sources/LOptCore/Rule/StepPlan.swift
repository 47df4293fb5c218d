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
    /// The nominal magnitude is a head of the network that sees nothing but the step: one number, which needs no pass.
    let nominalConstant: Bool
    /// The nominal magnitude is a head of the network, for each element or as a mean.
    let nominalPerElement: Bool, nominalAggregated: Bool
    let decayPerElement: Bool, decayAggregated: Bool
    let magnitudeAggregated: Bool

    init(_ a: Architecture, theta: UnsafePointer<Float>) {
        let isStar = a.kind == .star
        hasBlackbox = a.stepMult != 0
        hasNominal = isStar && a.nominalStepsize != 0
        hasDecay = isStar && a.weightDecay != 0
        let hasNominalHead = hasNominal && a.nominalController
        nominalConstant = hasNominalHead && !a.readsFeatures(output: Architecture.nominalOutput, theta)
        nominalAggregated = hasNominalHead && !nominalConstant && a.aggregateNominalMagnitude
        nominalPerElement = hasNominalHead && !nominalConstant && !a.aggregateNominalMagnitude
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

extension Architecture {
    static let nominalOutput = 2

    /// Whether an output of the network depends on any feature but those of the step: whether a path of weights that are not 0
    /// leads there.
    func readsFeatures(output: Int, _ theta: UnsafePointer<Float>) -> Bool {
        // The units of the layer at hand that the output depends on.
        var isLive = [512 of Bool](repeating: false)
        isLive[output] = true
        for layer in stride(from: hiddenLayers, through: 0, by: -1) {
            let w = theta + weightOffset(layer), width = fanOut(layer)
            var isLiveBelow = [512 of Bool](repeating: false)
            for i in 0..<(layer == 0 ? features : hiddenSize) {
                for j in 0..<width where isLive[j] && w[i * width + j] != 0 {
                    if layer == 0 { return true }
                    isLiveBelow[i] = true
                }
            }
            isLive = isLiveBelow
        }
        return false
    }

    /// An output that reads no features, at a step.
    func constantOutput(_ output: Int, _ theta: UnsafePointer<Float>, _ steps: StepFeatures) -> Double {
        var x = [512 of Double](repeating: 0)
        for i in 0..<steps.values.count { x[i] = steps.values[i] }
        for layer in 0..<layers {
            let w = theta + weightOffset(layer), width = fanOut(layer), first = layer == 0 ? features : 0
            var y = [512 of Double](repeating: 0)
            for j in 0..<width {
                var sum = Double(theta[biasOffset(layer) + j])
                for i in first..<fanIn(layer) { sum += x[i - first] * Double(w[i * width + j]) }
                y[j] = layer < hiddenLayers ? max(sum, 0) : sum
            }
            x = y
        }
        return x[output]
    }
}
