import CLOptShims

/// The caller's multipliers of one tensor in one step.
struct CallerScales {
    /// Of the whole step. With 0 nothing is written: denormal parameters would else be flushed.
    let learningRate: Double
    /// As in AdamW: what is taken off the parameter is this times the tensor's step size, or this alone.
    let weightDecay: Double
    let decayForm: WeightDecayForm
    /// Of the decay that the weights choose.
    let learnedDecay: Double

    /// The part of the parameter that the caller's decay takes off, beside what the rule takes. A parameter does not change
    /// its sign by decay.
    var decayPerStep: Double { decayForm == .perStep ? min(learningRate * weightDecay, 1) : 0 }
    var decayByStepSize: Double { decayForm == .byStepSize ? learningRate * weightDecay : 0 }
}

/// What is the same for all tensors at a step.
struct StepConstants {
    let features: StepFeatures
    /// The nominal head where no pass takes its mean: a number or, where each element has a head of its own, 0.
    let nominalHead: Double
    /// The logarithm of the number of tensors, for weights of kind pooled, which have `Rule.time` beside it.
    let logTensors: Double
}

extension Rule {
    /// What a network or element pass does, with what is known of the tensor by then.
    func apply(_ pass: Pass, _ t: Tensor, _ caller: CallerScales) -> lopt_apply {
        var apply = lopt_apply()
        apply.write = pass.writes && caller.learningRate > 0 && t.step.limit > 0 ? 1 : 0
        apply.decay_keep = 1
        apply.caller_keep = 1
        switch pass.measures {
        case .heads: apply.head_sums = Int32(LOPT_HEAD_SUMS_ALL)
        case .nominalHead: apply.head_sums = Int32(LOPT_HEAD_SUMS_NOMINAL)
        case .nothing, .moments, .update: apply.head_sums = Int32(LOPT_HEAD_SUMS_NONE)
        }
        switch pass.terms {
        case .none: break
        case .nominal: setNominal(&apply, t, caller)
        case .all:
            setBlackbox(&apply, t, caller)
            setNominal(&apply, t, caller)
            setDecay(&apply, t, caller)
        case .allButNominal:
            setBlackbox(&apply, t, caller)
            // The direction as it is: sums of u G, to be scaled when the scale is known.
            if plan.blackbox != .off { apply.nominal = Int32(LOPT_TERM_MEASURED) }
            apply.nominal_scale = 1
            setDecay(&apply, t, caller)
        }
        return apply
    }

    /// What the element pass does to a tensor without a gradient: the caller's decay, by the step size of its last step.
    func idleApply(_ t: Tensor, _ caller: CallerScales) -> lopt_apply {
        var apply = lopt_apply()
        apply.write = caller.learningRate > 0 ? 1 : 0
        apply.decay_keep = Float(max(1 - caller.decayPerStep - caller.decayByStepSize * t.progress.stepSize, 0))
        apply.caller_keep = 1
        return apply
    }

    private func setBlackbox(_ apply: inout lopt_apply, _ t: Tensor, _ caller: CallerScales) {
        guard plan.blackbox != .off else { return }
        let selfNormalizer = architecture.selfnormalizeBlackbox ? TensorSums(t).mean(Int(LOPT_SUM_G)) : 1
        apply.blackbox = Int32(plan.blackbox == .mean ? LOPT_TERM_NUMBER : LOPT_TERM_PER_ELEMENT)
        apply.blackbox_magnitude = Float(t.step.magnitude)
        apply.blackbox_scale = finite(caller.learningRate * architecture.stepMult * selfNormalizer) * Float(t.step.limit)
    }

    /// w = step_size G. The caller's decay goes with the step size: caller_keep = 1 - step_size weight_decay.
    private func setNominal(_ apply: inout lopt_apply, _ t: Tensor, _ caller: CallerScales) {
        if plan.nominal != .off { apply.nominal = Int32(LOPT_TERM_NUMBER) }
        guard plan.nominal == .perElement else {
            apply.nominal_scale = finite(caller.learningRate * t.progress.stepSize) * Float(t.step.limit)
            apply.caller_keep = Float(max(1 - caller.decayByStepSize * t.progress.stepSize, 0))
            return
        }
        let limits = logStepLimits
        apply.nominal = Int32(LOPT_TERM_PER_ELEMENT)
        apply.nominal_offset = Float(t.step.logStepShift)
        apply.nominal_least = Float(limits.least)
        apply.nominal_most = Float(limits.most)
        apply.nominal_scale = finite(caller.learningRate * architecture.nominalStepsize) * Float(t.step.limit)
        apply.caller_decay = finite(caller.decayByStepSize * architecture.nominalStepsize)
    }

    /// keep = 1 - weight_decay exp(r exp_mult) - the caller's decay, if that does not go with the step size.
    private func setDecay(_ apply: inout lopt_apply, _ t: Tensor, _ caller: CallerScales) {
        let a = architecture
        var keep = 1 - caller.decayPerStep
        switch plan.decay {
        case .off: break
        case .known, .mean:
            let r = plan.decay == .mean ? t.step.regularization : 0
            keep -= caller.learningRate * a.weightDecay * ScalarMath.exp(min(max(r * a.expMult[2], -87.3), 88.3))
        case .perElement:
            apply.decay = Int32(LOPT_TERM_PER_ELEMENT)
            apply.decay_scale = finite(caller.learningRate * a.weightDecay)
        }
        apply.decay_keep = finite(keep)
    }

    func constants(step: Int64, tensors: Int) -> StepConstants {
        guard architecture.kind != .pooled else {
            return StepConstants(features: StepFeatures(), nominalHead: 0, logTensors: ScalarMath.log(Double(max(tensors, 1))))
        }
        let features = StepFeatures(step: step)
        guard plan.nominal == .known else { return StepConstants(features: features, nominalHead: 0, logTensors: 0) }
        let head = architecture.nominalController
            ? architecture.constantOutput(Architecture.nominalOutput, theta, features) : 1
        return StepConstants(features: features, nominalHead: head, logTensors: 0)
    }

    /// nominal_stepsize exp(n exp_mult), the caller's scales not included: n is the head, or its mean, plus what the extensions
    /// add. Without a nominal term, the blackbox term's multiplier.
    func stepSize(head n: Double, shift: Double) -> Double {
        let a = architecture
        guard plan.nominal != .off else { return abs(a.stepMult) }
        let size = a.nominalStepsize * ScalarMath.exp(min(max(logStep(head: n, shift: shift) * a.expMult[1], -87.3), 88.3))
        // What checkpoints may hold. Weights that compute no number take no step.
        return size.isFinite ? min(size, Optimizer.largestScale) : 0
    }
}

/// The nearest number that f32 has: infinity times a direction of 0 would be NaN.
private func finite(_ value: Double) -> Float {
    let most = Double(Float.greatestFiniteMagnitude)
    return Float(min(max(value, -most), most))
}
