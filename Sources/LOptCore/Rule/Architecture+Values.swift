// The table of constructor values: key, where it is kept, what is allowed, and whether it is the authors' or an extension. What an
// `Architecture` begins with is the default. The table of tensors is in MetaParameterBlock.swift.

extension Architecture {
    /// The order is part of the digest: another value joins at the end.
    ///
    /// - Parameter kind: nil: of all.
    private mutating func visit(_ row: inout ConstructorValueRow, of kind: Kind?) {
        let isStar = kind == nil || kind == .star, isPooled = kind == .pooled
        if !isPooled {
            row.integer("hidden_size", &hiddenSize, .hiddenSize)
            row.integer("hidden_layers", &hiddenLayers, .hiddenLayers)
        }
        let lengths = isPooled ? 2...2 : 1...Architecture.maximumMomenta
        var factored = momenta, one = 1
        row.list("initial_momentum_decays", &initialMomentumDecays, &momenta, lengths, .decay)
        if !isPooled { row.list("initial_adafactor_decays", &initialAdafactorDecays, &factored, lengths, .decay) }
        var list = SIMD8<Double>(initialRMSDecay, 0, 0, 0, 0, 0, 0, 0)
        row.list("initial_rms_decays", &list, &one, 1...1, .decay)
        initialRMSDecay = list[0]
        if isPooled { return row.number("nominal_stepsize", &nominalStepsize, .nonnegative) }
        var multipliers = isStar ? 3 : 1
        list = SIMD8(expMult[0], isStar ? expMult[1] : 0, isStar ? expMult[2] : 0, 0, 0, 0, 0, 0)
        row.list("exp_mult", &list, &multipliers, multipliers...multipliers, .finite)
        for i in 0..<multipliers { expMult[i] = list[i] }
        row.number("step_mult", &stepMult, .finite)
        guard isStar else { return }
        row.number("nominal_stepsize", &nominalStepsize, .nonnegative)
        row.number("weight_decay", &weightDecay, .nonnegative)
        row.flag("nominal_controller", &nominalController)
        row.flag("regularization_controller", &regularizationController)
        row.estimator("nominal_grad_estimator", &nominalEstimator)
        row.flag("aggregate_magnitude", &aggregateMagnitude)
        row.flag("aggregate_nom_magnitude", &aggregateNominalMagnitude)
        row.flag("aggregate_reg_magnitude", &aggregateRegularizationMagnitude)
        row.flag("normalize_blackbox", &normalizeBlackbox)
        row.flag("selfnormalize_blackbox", &selfnormalizeBlackbox)
        row.number("nominal_epsilon", &nominalEpsilon, .epsilon, .ours)
        row.flag("skip_idle_tensors", &skipIdleTensors, .oursLater)
    }

    /// Value `index` of those that this kind has; nil behind the last.
    ///
    /// - Parameter ofEveryKind: of all, those too that only star has.
    public func value(_ index: Int, ofEveryKind: Bool = false) -> ConstructorValue? {
        var copy = self
        var row = ConstructorValueRow(index)
        copy.visit(&row, of: ofEveryKind ? nil : kind)
        return row.found
    }

    /// Calls `body` with each value, and takes over what it leaves there.
    public mutating func forEachValue(
        ofEveryKind: Bool = false, _ body: (inout ConstructorValue) throws(LOptError) -> Void
    ) throws(LOptError) {
        let before = self
        guard (1...Architecture.maximumMomenta).contains(momenta) else {
            throw LOptError(.weights, "momenta is \(momenta); allowed are 1 to \(Architecture.maximumMomenta)")
        }
        var i = 0, factored = momenta
        while var item = before.value(i, ofEveryKind: ofEveryKind) {
            try body(&item)
            var row = ConstructorValueRow(i, setting: item)
            visit(&row, of: ofEveryKind ? nil : before.kind)
            if item.has(key: "initial_adafactor_decays") { factored = item.count }
            i += 1
        }
        // The rule pairs momenta and factored accumulators.
        guard momenta == factored else {
            throw LOptError(
                .weights,
                "initial_momentum_decays has \(momenta) values, initial_adafactor_decays \(factored); they must be equal")
        }
    }
}

/// The keys of the values that a kind has: taken down once, to look at any number of others.
public struct ConstructorKeys {
    private var keys = InlineArray<32, StaticString>(repeating: "")
    private var count = 0

    public init(of architecture: Architecture) {
        while count < keys.count, let item = architecture.value(count) {
            keys[count] = item.key
            count += 1
        }
    }

    /// Throws for a key that is none of these but would be one with one or two letters changed: a misspelt value would else
    /// be left out without a word, and the weights compute something else. Any other key is provenance.
    public func checkSpelling(of key: UnsafeRawBufferPointer, _ status: LOptStatus) throws(LOptError) {
        for changes in 0...2 {
            for i in 0..<count where key.isNear(UnsafeRawBufferPointer(keys[i]), within: changes) {
                guard changes > 0 else { return }
                throw LOptError(status, "there is no key '\(key)' in the metadata of weights; is '\(keys[i])' meant?")
            }
        }
    }
}

/// A walk over the table that reads the row of a number, or writes it.
private struct ConstructorValueRow {
    private var left: Int
    private let new: ConstructorValue?
    private(set) var found: ConstructorValue?

    init(_ number: Int, setting new: ConstructorValue? = nil) { (left, self.new) = (number, new) }

    mutating func list(
        _ key: StaticString, _ values: inout SIMD8<Double>, _ count: inout Int, _ lengths: ClosedRange<Int>,
        _ bounds: ConstructorValue.Bounds, form: ConstructorValue.Form = .list, _ origin: ConstructorValue.Origin = .authors
    ) {
        left -= 1
        guard left == -1 else { return }
        if let new {
            (values, count) = (new.values, new.count)
        } else {
            found = ConstructorValue(
                key: key, form: form, origin: origin, bounds: bounds, lengths: lengths, values: values, count: count)
        }
    }

    private mutating func single(
        _ key: StaticString, _ value: Double, _ bounds: ConstructorValue.Bounds, _ form: ConstructorValue.Form,
        _ origin: ConstructorValue.Origin
    ) -> Double {
        var values = SIMD8<Double>(value, 0, 0, 0, 0, 0, 0, 0), one = 1
        list(key, &values, &one, 1...1, bounds, form: form, origin)
        return values[0]
    }

    mutating func number(
        _ key: StaticString, _ value: inout Double, _ bounds: ConstructorValue.Bounds,
        _ origin: ConstructorValue.Origin = .authors
    ) {
        value = single(key, value, bounds, .number, origin)
    }

    mutating func integer(_ key: StaticString, _ value: inout Int, _ bounds: ConstructorValue.Bounds) {
        value = Int(exactly: single(key, Double(value), bounds, .integer, .authors)) ?? value
    }

    mutating func flag(_ key: StaticString, _ value: inout Bool, _ origin: ConstructorValue.Origin = .authors) {
        value = single(key, value ? 1 : 0, .flag, .flag, origin) == 1
    }

    mutating func estimator(_ key: StaticString, _ value: inout Architecture.NominalEstimator) {
        let number = single(key, Double(value.rawValue), .estimator, .estimator, .authors)
        value = UInt8(exactly: number).flatMap { Architecture.NominalEstimator(rawValue: $0) } ?? value
    }
}
