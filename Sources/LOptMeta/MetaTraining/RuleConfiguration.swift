import LOptCore

/// An `Architecture` that reads and writes as JSON, under the keys of a weights file's metadata. A key that is absent takes
/// the default of the authors' constructor.
public struct RuleConfiguration: Codable, Equatable, Sendable {
    public var kind = "star"
    public var hiddenSize = 4
    public var hiddenLayers = 2
    public var initialMomentumDecays = [0.9, 0.99, 0.999]
    public var initialRMSDecay = 0.999
    public var initialAdafactorDecays = [0.9, 0.99, 0.999]
    public var expMult = [0.001, 0.001, 0.001]
    public var stepMult = 0.001
    public var nominalStepsize = 0.0
    public var weightDecay = 0.0
    public var nominalController = false
    public var regularizationController = false
    public var nominalEstimator = "AdamAggMo"
    public var aggregateMagnitude = false
    public var aggregateNominalMagnitude = false
    public var aggregateRegularizationMagnitude = false
    public var normalizeBlackbox = false
    public var selfnormalizeBlackbox = false
    public var tensorScale = false
    public var tensorSchedule = false
    public var tensorCount = false
    public var tensorRanges = false
    public var skipIdleTensors = false
    public var nominalEpsilon = 1e-6

    public init() {}

    /// STAR as this project meta-trains it: a nominal term with one learned log-step for each tensor and, without extensions, a
    /// small blackbox term, which with them never paid; `extensions` adds tensor_scale, tensor_schedule,
    /// tensor_count, skip_idle_tensors and nominal_epsilon.
    public static func star(extensions: Bool) -> RuleConfiguration {
        var rule = RuleConfiguration()
        rule.expMult = [1, 1, 1]
        rule.stepMult = extensions ? 0 : 2e-4
        rule.nominalStepsize = 1e-2
        rule.nominalController = true
        rule.aggregateNominalMagnitude = true
        rule.tensorScale = extensions
        rule.tensorSchedule = extensions
        rule.tensorCount = extensions
        rule.skipIdleTensors = extensions
        if extensions { rule.nominalEpsilon = 1e-16 }
        return rule
    }

    /// small_fc_lopt with the constructor values of its authors.
    public static var smallFC: RuleConfiguration {
        var rule = RuleConfiguration()
        rule.kind = "small_fc"
        return rule
    }

    enum CodingKeys: String, CodingKey {
        case kind
        case hiddenSize = "hidden_size"
        case hiddenLayers = "hidden_layers"
        case initialMomentumDecays = "initial_momentum_decays"
        case initialRMSDecay = "initial_rms_decay"
        case initialAdafactorDecays = "initial_adafactor_decays"
        case expMult = "exp_mult"
        case stepMult = "step_mult"
        case nominalStepsize = "nominal_stepsize"
        case weightDecay = "weight_decay"
        case nominalController = "nominal_controller"
        case regularizationController = "regularization_controller"
        case nominalEstimator = "nominal_grad_estimator"
        case aggregateMagnitude = "aggregate_magnitude"
        case aggregateNominalMagnitude = "aggregate_nom_magnitude"
        case aggregateRegularizationMagnitude = "aggregate_reg_magnitude"
        case normalizeBlackbox = "normalize_blackbox"
        case selfnormalizeBlackbox = "selfnormalize_blackbox"
        case tensorScale = "tensor_scale"
        case tensorSchedule = "tensor_schedule"
        case tensorCount = "tensor_count"
        case tensorRanges = "tensor_ranges"
        case skipIdleTensors = "skip_idle_tensors"
        case nominalEpsilon = "nominal_epsilon"
    }

    public init(from decoder: any Decoder) throws {
        let container = try decoder.container(keyedBy: CodingKeys.self)
        func read<T: Decodable>(_ key: CodingKeys, _ value: inout T) throws {
            if let given = try container.decodeIfPresent(T.self, forKey: key) { value = given }
        }
        try read(.kind, &kind)
        try read(.hiddenSize, &hiddenSize)
        try read(.hiddenLayers, &hiddenLayers)
        try read(.initialMomentumDecays, &initialMomentumDecays)
        try read(.initialRMSDecay, &initialRMSDecay)
        try read(.initialAdafactorDecays, &initialAdafactorDecays)
        try read(.expMult, &expMult)
        try read(.stepMult, &stepMult)
        try read(.nominalStepsize, &nominalStepsize)
        try read(.weightDecay, &weightDecay)
        try read(.nominalController, &nominalController)
        try read(.regularizationController, &regularizationController)
        try read(.nominalEstimator, &nominalEstimator)
        try read(.aggregateMagnitude, &aggregateMagnitude)
        try read(.aggregateNominalMagnitude, &aggregateNominalMagnitude)
        try read(.aggregateRegularizationMagnitude, &aggregateRegularizationMagnitude)
        try read(.normalizeBlackbox, &normalizeBlackbox)
        try read(.selfnormalizeBlackbox, &selfnormalizeBlackbox)
        try read(.tensorScale, &tensorScale)
        try read(.tensorSchedule, &tensorSchedule)
        try read(.tensorCount, &tensorCount)
        try read(.tensorRanges, &tensorRanges)
        try read(.skipIdleTensors, &skipIdleTensors)
        try read(.nominalEpsilon, &nominalEpsilon)
    }
}

// MARK: - To and from the runtime's description

extension RuleConfiguration {
    private static let estimators: [(String, Architecture.NominalEstimator)] = [
        ("SGD", .sgd), ("SGDM", .sgdm), ("AggMo", .aggMo), ("Adam", .adam), ("AdamAggMo", .adamAggMo),
    ]

    public init(_ a: Architecture) {
        kind = a.kind == .star ? "star" : "small_fc"
        hiddenSize = a.hiddenSize
        hiddenLayers = a.hiddenLayers
        initialMomentumDecays = (0..<a.momenta).map { a.initialMomentumDecays[$0] }
        initialRMSDecay = a.initialRMSDecay
        initialAdafactorDecays = (0..<a.momenta).map { a.initialAdafactorDecays[$0] }
        expMult = [a.expMult[0], a.expMult[1], a.expMult[2]]
        stepMult = a.stepMult
        nominalStepsize = a.nominalStepsize
        weightDecay = a.weightDecay
        nominalController = a.nominalController
        regularizationController = a.regularizationController
        nominalEstimator = RuleConfiguration.estimators.first { $0.1 == a.nominalEstimator }?.0 ?? "AdamAggMo"
        aggregateMagnitude = a.aggregateMagnitude
        aggregateNominalMagnitude = a.aggregateNominalMagnitude
        aggregateRegularizationMagnitude = a.aggregateRegularizationMagnitude
        normalizeBlackbox = a.normalizeBlackbox
        selfnormalizeBlackbox = a.selfnormalizeBlackbox
        tensorScale = a.tensorScale
        tensorSchedule = a.tensorSchedule
        tensorCount = a.tensorCount
        tensorRanges = a.tensorRanges
        skipIdleTensors = a.skipIdleTensors
        nominalEpsilon = a.nominalEpsilon
    }

    /// Throws `LOptMetaError` for what cannot be written in an `Architecture` at all; whether its values are allowed is
    /// checked by `Weights`.
    public func architecture() throws -> Architecture {
        var a = Architecture()
        switch kind {
        case "star": a.kind = .star
        case "small_fc": a.kind = .smallFC
        default: throw LOptMetaError("kind is '\(kind)'; allowed are star and small_fc")
        }
        let momenta = initialMomentumDecays.count
        guard (1...Architecture.maximumMomenta).contains(momenta), initialAdafactorDecays.count == momenta else {
            throw LOptMetaError(
                "initial_momentum_decays has \(momenta) values and initial_adafactor_decays "
                    + "\(initialAdafactorDecays.count); allowed are 1 to \(Architecture.maximumMomenta), equally many")
        }
        guard expMult.count == 3 else { throw LOptMetaError("exp_mult has \(expMult.count) values; 3 are needed") }
        guard let estimator = RuleConfiguration.estimators.first(where: { $0.0 == nominalEstimator }) else {
            throw LOptMetaError(
                "nominal_grad_estimator is '\(nominalEstimator)'; allowed are "
                    + RuleConfiguration.estimators.map(\.0).joined(separator: ", "))
        }
        guard (1...Architecture.maximumHiddenSize).contains(hiddenSize),
            (1...Architecture.maximumHiddenLayers).contains(hiddenLayers)
        else {
            throw LOptMetaError(
                "hidden_size is \(hiddenSize) and hidden_layers \(hiddenLayers); allowed are 1 to "
                    + "\(Architecture.maximumHiddenSize) and 1 to \(Architecture.maximumHiddenLayers)")
        }
        a.hiddenSize = hiddenSize
        a.hiddenLayers = hiddenLayers
        a.momenta = momenta
        a.initialMomentumDecays = .zero
        a.initialAdafactorDecays = .zero
        for k in 0..<momenta {
            a.initialMomentumDecays[k] = initialMomentumDecays[k]
            a.initialAdafactorDecays[k] = initialAdafactorDecays[k]
        }
        a.initialRMSDecay = initialRMSDecay
        a.expMult = SIMD3(expMult[0], expMult[1], expMult[2])
        a.stepMult = stepMult
        a.nominalStepsize = nominalStepsize
        a.weightDecay = weightDecay
        a.nominalController = nominalController
        a.regularizationController = regularizationController
        a.nominalEstimator = estimator.1
        a.aggregateMagnitude = aggregateMagnitude
        a.aggregateNominalMagnitude = aggregateNominalMagnitude
        a.aggregateRegularizationMagnitude = aggregateRegularizationMagnitude
        a.normalizeBlackbox = normalizeBlackbox
        a.selfnormalizeBlackbox = selfnormalizeBlackbox
        a.tensorScale = tensorScale
        a.tensorSchedule = tensorSchedule
        a.tensorCount = tensorCount
        a.tensorRanges = tensorRanges
        a.skipIdleTensors = skipIdleTensors
        a.nominalEpsilon = nominalEpsilon
        return a
    }
}
