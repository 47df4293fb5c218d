/// One constructor value as the metadata of a weights file hold it: text under the name that the authors' constructors
/// and docs/update-rule.md give it. Whole numbers, truth values (0, 1) and estimators (their number) are kept as doubles, so
/// that one form serves reading, checking, writing and the digest.
struct ConstructorValue {
    enum Form {
        case integer, number, list, flag, estimator
    }

    let key: StaticString
    let form: Form
    let bounds: Bounds
    /// How many numbers a list may have.
    let lengths: ClosedRange<Int>
    var values: SIMD8<Double>
    var count: Int

    /// Joined after the first checkpoints were written: left out of the digest while it has its default, 0.
    var isLeftOutOfDigest: Bool {
        UnsafeRawBufferPointer(key).hasBytes(of: "skip_idle_tensors") && values[0] == 0
    }
}

/// The numbers from `least` to `most`.
struct Bounds {
    let least: Double
    let most: Double
    /// For messages: "a number {text}".
    let text: StaticString

    func contains(_ value: Double) -> Bool { value >= least && value <= most }

    private static var largest: Double { Double(Float.greatestFiniteMagnitude) }

    /// beta0 of a moving average; 1 would never take anything in.
    static var decay: Bounds { Bounds(least: 0, most: 1.0.nextDown, text: "of at least 0 and below 1") }
    /// What the kernels compute in f32.
    static var finite: Bounds { Bounds(least: -largest, most: largest, text: "that f32 can hold") }
    static var nonnegative: Bounds { Bounds(least: 0, most: largest, text: "of at least 0 that f32 can hold") }
    /// Kernels flush denormals, and rsqrt(0) would be infinite.
    static var epsilon: Bounds {
        Bounds(least: Double(Float.leastNormalMagnitude), most: largest, text: "of at least 1.2e-38 that f32 can hold")
    }
}

extension Architecture {
    /// Calls `body` with each constructor value that this kind has, and takes over what it leaves there. The order is
    /// part of the digest. The extensions tensor_scale and tensor_schedule are declared by their tensors and not
    /// among them, nor are tensor_count and tensor_ranges.
    mutating func forEachValue(_ body: (inout ConstructorValue) throws(LOptError) -> Void) throws(LOptError) {
        try Architecture.integer("hidden_size", &hiddenSize, Architecture.maximumHiddenSize, body)
        try Architecture.integer("hidden_layers", &hiddenLayers, Architecture.maximumHiddenLayers, body)
        try forEachDecay(body)
        try forEachMultiplier(body)
        guard kind == .star else { return }
        try Architecture.number("nominal_stepsize", &nominalStepsize, .nonnegative, body)
        try Architecture.number("weight_decay", &weightDecay, .nonnegative, body)
        try Architecture.flag("nominal_controller", &nominalController, body)
        try Architecture.flag("regularization_controller", &regularizationController, body)
        try Architecture.estimator("nominal_grad_estimator", &nominalEstimator, body)
        try Architecture.flag("aggregate_magnitude", &aggregateMagnitude, body)
        try Architecture.flag("aggregate_nom_magnitude", &aggregateNominalMagnitude, body)
        try Architecture.flag("aggregate_reg_magnitude", &aggregateRegularizationMagnitude, body)
        try Architecture.flag("normalize_blackbox", &normalizeBlackbox, body)
        try Architecture.flag("selfnormalize_blackbox", &selfnormalizeBlackbox, body)
        try Architecture.number("nominal_epsilon", &nominalEpsilon, .epsilon, body)
        try Architecture.flag("skip_idle_tensors", &skipIdleTensors, body)
    }

    /// Throws for a key that is none of this kind's but would be one with one or two letters changed: a misspelt value would else
    /// be left out without a word, and the weights compute something else. Any other key is provenance.
    func checkSpelling(of key: UnsafeRawBufferPointer, _ status: LOptStatus) throws(LOptError) {
        var copy = self
        for changes in 0...2 {
            var near: StaticString?
            try copy.forEachValue { item throws(LOptError) in
                if near == nil, key.isNear(UnsafeRawBufferPointer(item.key), within: changes) { near = item.key }
            }
            guard let near else { continue }
            guard changes > 0 else { return }
            throw LOptError(status, "there is no key '\(key)' in the metadata of weights; is '\(near)' meant?")
        }
    }

    /// The rule pairs momenta and factored accumulators, so their lists must be equally long.
    private mutating func forEachDecay(_ body: (inout ConstructorValue) throws(LOptError) -> Void) throws(LOptError) {
        let lengths = 1...Architecture.maximumMomenta
        guard lengths.contains(momenta) else {
            throw LOptError(.weights, "momenta is \(momenta); allowed are 1 to \(Architecture.maximumMomenta)")
        }
        var factored = momenta
        try Architecture.list("initial_momentum_decays", &initialMomentumDecays, &momenta, lengths, .decay, body)
        try Architecture.list("initial_adafactor_decays", &initialAdafactorDecays, &factored, lengths, .decay, body)
        guard momenta == factored else {
            throw LOptError(
                .weights,
                "initial_momentum_decays has \(momenta) values, initial_adafactor_decays \(factored); they must be equal")
        }
        var rms = SIMD8<Double>(repeating: 0)
        var one = 1
        rms[0] = initialRMSDecay
        try Architecture.list("initial_rms_decays", &rms, &one, 1...1, .decay, body)
        initialRMSDecay = rms[0]
    }

    private mutating func forEachMultiplier(
        _ body: (inout ConstructorValue) throws(LOptError) -> Void
    ) throws(LOptError) {
        var multipliers = SIMD8<Double>(repeating: 0)
        var count = kind == .star ? 3 : 1
        for i in 0..<count { multipliers[i] = expMult[i] }
        try Architecture.list("exp_mult", &multipliers, &count, count...count, .finite, body)
        for i in 0..<count { expMult[i] = multipliers[i] }
        try Architecture.number("step_mult", &stepMult, .finite, body)
    }
}

// MARK: - Forms

extension Architecture {
    private typealias Body = (inout ConstructorValue) throws(LOptError) -> Void

    private static func single(
        _ key: StaticString, _ form: ConstructorValue.Form, _ bounds: Bounds, _ value: Double, _ body: Body
    ) throws(LOptError) -> Double {
        var values = SIMD8<Double>(repeating: 0)
        values[0] = value
        var item = ConstructorValue(key: key, form: form, bounds: bounds, lengths: 1...1, values: values, count: 1)
        try body(&item)
        return item.values[0]
    }

    private static func number(
        _ key: StaticString, _ value: inout Double, _ bounds: Bounds, _ body: Body
    ) throws(LOptError) {
        value = try single(key, .number, bounds, value, body)
    }

    private static func integer(
        _ key: StaticString, _ value: inout Int, _ most: Int, _ body: Body
    ) throws(LOptError) {
        let bounds = Bounds(least: 1, most: Double(most), text: most == maximumHiddenSize ? "of 1 to 512" : "of 1 to 4")
        value = Int(try single(key, .integer, bounds, Double(value), body))
    }

    private static func flag(_ key: StaticString, _ value: inout Bool, _ body: Body) throws(LOptError) {
        value = try single(key, .flag, Bounds(least: 0, most: 1, text: ""), value ? 1 : 0, body) == 1
    }

    private static func estimator(
        _ key: StaticString, _ value: inout NominalEstimator, _ body: Body
    ) throws(LOptError) {
        let number = try single(key, .estimator, Bounds(least: 0, most: 4, text: ""), Double(value.number), body)
        value = NominalEstimator(number: Int(number)) ?? value
    }

    private static func list(
        _ key: StaticString, _ values: inout SIMD8<Double>, _ count: inout Int, _ lengths: ClosedRange<Int>,
        _ bounds: Bounds, _ body: Body
    ) throws(LOptError) {
        var item = ConstructorValue(
            key: key, form: .list, bounds: bounds, lengths: lengths, values: values, count: count)
        try body(&item)
        (values, count) = (item.values, item.count)
    }
}

extension Architecture.Kind {
    /// As the metadata spell it.
    var name: StaticString { self == .star ? "star" : "small_fc" }
}

extension Architecture.NominalEstimator {
    /// As the authors' constructor spells it, by its number in the digest.
    static func name(_ number: Int) -> StaticString {
        switch number {
        case 0: "SGD"
        case 1: "SGDM"
        case 2: "AggMo"
        case 3: "Adam"
        default: "AdamAggMo"
        }
    }

    var number: Int {
        switch self {
        case .sgd: 0
        case .sgdm: 1
        case .aggMo: 2
        case .adam: 3
        case .adamAggMo: 4
        }
    }

    init?(number: Int) {
        switch number {
        case 0: self = .sgd
        case 1: self = .sgdm
        case 2: self = .aggMo
        case 3: self = .adam
        case 4: self = .adamAggMo
        default: return nil
        }
    }
}

// MARK: - Text

extension ConstructorValue {
    /// Takes the value from its text; false if it is none of its form and bounds.
    mutating func parse(_ text: UnsafeRawBufferPointer) -> Bool {
        switch form {
        case .integer, .number:
            if form == .integer { for byte in text where byte < 0x30 || byte > 0x39 { return false } }
            guard let value = DecimalScanner.number(text) else { return false }
            values[0] = value
        case .list:
            // A single number may stand without brackets: small_fc's exp_mult is one in its constructor.
            if lengths.upperBound == 1, let value = DecimalScanner.number(text) {
                values[0] = value
            } else {
                guard let list = DecimalScanner.list(text) else { return false }
                (values, count) = list
            }
        case .flag:
            guard text.hasBytes(of: "true") || text.hasBytes(of: "false") else { return false }
            values[0] = text.hasBytes(of: "true") ? 1 : 0
        case .estimator:
            var number = 0
            while number < 5, !text.hasBytes(of: Architecture.NominalEstimator.name(number)) { number += 1 }
            values[0] = Double(number)
        }
        return isValid
    }

    var isValid: Bool {
        guard lengths.contains(count) else { return false }
        for i in 0..<count where !bounds.contains(values[i]) { return false }
        return true
    }

    /// As a weights file spells it.
    var text: Message {
        var text: Message = ""
        switch form {
        case .integer:
            if let value = Int(exactly: values[0]) { text.append(value) } else { text.append(values[0]) }
        case .number: text.append(decimal: values[0])
        case .flag: text.append(literal: values[0] == 1 ? "true" : "false")
        case .estimator: text.append(literal: Architecture.NominalEstimator.name(Int(values[0])))
        case .list:
            text.append(literal: "[")
            for i in 0..<count {
                if i > 0 { text.append(literal: ", ") }
                text.append(decimal: values[i])
            }
            text.append(literal: "]")
        }
        return text
    }

    /// What is allowed, for messages.
    var expectation: Message {
        switch form {
        case .integer: return "a whole number \(bounds.text)"
        case .number: return "a number \(bounds.text)"
        case .flag: return "true or false"
        case .estimator: return "SGD, SGDM, AggMo, Adam or AdamAggMo"
        case .list:
            if lengths.lowerBound == lengths.upperBound {
                return "a list of \(lengths.lowerBound), each a number \(bounds.text)"
            }
            return "a list of \(lengths.lowerBound) to \(lengths.upperBound), each a number \(bounds.text)"
        }
    }
}
