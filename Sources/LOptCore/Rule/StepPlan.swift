/// Where the size of a term of the update comes from.
enum TermSize {
    /// The rule has no such term.
    case off
    /// A number that needs no pass: a constant, or an output of the network that sees nothing but the step.
    case known
    /// A head of the network, of each element.
    case perElement
    /// The mean of a head over the tensor, which is known only after the network has seen all of it.
    case mean
}

/// What is decided once for a rule: which terms there are, and in which passes over a tensor a step is taken.
struct StepPlan {
    /// The learned direction, the nominal term, the rule's own weight decay.
    let blackbox, nominal, decay: TermSize
    /// A pass evaluates the network.
    let usesNetwork: Bool
    let passes: PassList

    init(_ a: Architecture, theta: UnsafePointer<Float>, isGuarded: Bool) {
        let isStar = a.kind == .star
        blackbox = a.stepMult == 0 ? .off : isStar && a.aggregateMagnitude ? .mean : .perElement
        if !isStar || a.nominalStepsize == 0 {
            nominal = .off
        } else if !a.nominalController || !a.readsFeatures(output: Architecture.nominalOutput, theta) {
            nominal = .known
        } else {
            nominal = a.aggregateNominalMagnitude ? .mean : .perElement
        }
        if !isStar || a.weightDecay == 0 {
            decay = .off
        } else {
            decay = !a.regularizationController ? .known : a.aggregateRegularizationMagnitude ? .mean : .perElement
        }

        let needsElements = blackbox != .off || nominal == .perElement || decay == .perElement
        let onlyNominalWaits = nominal == .mean && blackbox != .mean && decay != .mean
        let needsMeans = nominal == .mean || blackbox == .mean || decay == .mean
        usesNetwork = needsElements || needsMeans

        var passes = PassList()
        if a.kind == .pooled {
            // The first is of a tensor's first step alone, see Work+Pooled.swift.
            passes.append(.pooled, .none, .moments, writes: false)
            if isGuarded { passes.append(.pooled, .all, .update, writes: false) }
            passes.append(.pooled, .all, .moments, writes: true)
            self.passes = passes
            return
        }
        passes.append(.accumulate, .none, .moments, writes: false)
        let kind: Pass.Kind = needsElements ? .network : .elements, last: Pass.Measured = isGuarded ? .update : .nothing
        if needsElements && onlyNominalWaits {
            // While the mean is taken, what does not wait for it is applied: the network runs once.
            passes.append(.network, .allButNominal, .heads, writes: !isGuarded)
            passes.append(.elements, .nominal, last, writes: !isGuarded)
        } else {
            if needsMeans { passes.append(.network, .none, onlyNominalWaits ? .nominalHead : .heads, writes: false) }
            passes.append(kind, .all, last, writes: !isGuarded)
        }
        // With the guard they have measured the update; now it is written, as small as it has to be.
        if isGuarded { passes.append(kind, .all, .nothing, writes: true) }
        self.passes = passes
    }
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
