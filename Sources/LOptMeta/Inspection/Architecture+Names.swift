import LOptCore

/// Architectures in the words of a weights file's metadata.
extension Architecture {
    var kindName: String { kind == .star ? "star" : "small_fc" }

    var estimatorName: String {
        switch nominalEstimator {
        case .sgd: "SGD"
        case .sgdm: "SGDM"
        case .aggMo: "AggMo"
        case .adam: "Adam"
        case .adamAggMo: "AdamAggMo"
        }
    }

    /// The constructor values that this kind has.
    var constructorValues: [WeightsInspection.Value] {
        func list(_ values: SIMD8<Double>) -> String {
            "[" + (0..<momenta).map { "\(values[$0])" }.joined(separator: ", ") + "]"
        }
        var values = [
            ("hidden_size", "\(hiddenSize)"), ("hidden_layers", "\(hiddenLayers)"),
            ("initial_momentum_decays", list(initialMomentumDecays)), ("initial_rms_decays", "[\(initialRMSDecay)]"),
            ("initial_adafactor_decays", list(initialAdafactorDecays)),
            ("exp_mult", kind == .star ? "[\(expMult[0]), \(expMult[1]), \(expMult[2])]" : "\(expMult[0])"),
            ("step_mult", "\(stepMult)"),
        ]
        if kind == .star {
            values += [
                ("nominal_stepsize", "\(nominalStepsize)"), ("weight_decay", "\(weightDecay)"),
                ("nominal_controller", "\(nominalController)"),
                ("regularization_controller", "\(regularizationController)"),
                ("nominal_grad_estimator", estimatorName), ("aggregate_magnitude", "\(aggregateMagnitude)"),
                ("aggregate_nom_magnitude", "\(aggregateNominalMagnitude)"),
                ("aggregate_reg_magnitude", "\(aggregateRegularizationMagnitude)"),
                ("normalize_blackbox", "\(normalizeBlackbox)"), ("selfnormalize_blackbox", "\(selfnormalizeBlackbox)"),
                ("nominal_epsilon", "\(nominalEpsilon)"), ("skip_idle_tensors", "\(skipIdleTensors)"),
            ]
        }
        return values.map { WeightsInspection.Value(key: $0.0, value: $0.1) }
    }

    /// The inputs phi of the extension tensor_scale, in the order of its weights.
    var tensorScaleInputs: [String] {
        ["log RMS(p)"] + (1...momenta).map { "log RMS(m\($0)) / RMS(g)" }
            + (1...momenta).map { "log RMS(m\($0) rsqrt(v))" } + ["log elements", "rank < 2"]
    }

    /// The columns of tensor_ranges.
    var rangeNames: [String] {
        tensorScaleInputs + ["log RMS(g) / sqrt(RMS(v))", "log tensors", "log-step"]
    }
}
