import CLOptShims

/// The caller's multipliers of one tensor in one step.
struct StepScales {
    /// Of the whole step. With 0 nothing is written: denormal parameters would else be flushed.
    let learningRate: Double
    /// As in AdamW: what is taken off the parameter is this times the tensor's step size, or this alone.
    let weightDecay: Double
    let decayForm: WeightDecayForm
    /// Of u and w alone.
    let limit: UpdateLimit
    /// What the network may know of the tensor's step.
    let step: StepFeatures
    /// How many tensors the optimizer has.
    let tensors: Int

    /// The part of the parameter that the caller's decay takes off, beside what the rule takes. A parameter does not change
    /// its sign by decay.
    var decayPerStep: Double { decayForm == .perStep ? min(learningRate * weightDecay, 1) : 0 }
    var decayByStepSize: Double { decayForm == .byStepSize ? learningRate * weightDecay : 0 }

    /// Of u and w.
    var update: Double { learningRate * limit.factor }
    var writes: Int32 { learningRate > 0 && limit.isKnown && limit.factor > 0 ? 1 : 0 }
}

/// A guard against steps that would wreck a tensor: RMS(u + w) <= ratio max(RMS(p), 1e-3), kept by scaling u and w, the
/// learning-rate scale included, with one number for the tensor. Decay is neither counted nor scaled. p is that before the
/// step. The least parameter size is that of Adafactor's relative step (Shazeer and Stern, 2018, section 8), so that
/// tensors that start at 0 can move.
///
/// With a guard the passes that apply a step run twice: the first time they only sum u and w. An update that is not finite
/// is not applied at all, and the tensor stays as it is.
public struct UpdateLimit: Sendable {
    /// Multiplies u and w; 0: the step leaves the tensor as it is.
    public private(set) var factor = 1.0
    /// The update has been measured, or there is no guard.
    private(set) var isKnown = true

    static let leastParameterRMS = 1e-3
    static var none: UpdateLimit { UpdateLimit() }
    static var unknown: UpdateLimit {
        var limit = UpdateLimit()
        limit.isKnown = false
        return limit
    }

    private init() {}

    /// `update` and `parameter` are mean squares.
    public init(ratio: Double, update: Double, parameter: Double) {
        let size = max(update, 0).squareRoot(), most = ratio * max(parameter.squareRoot(), UpdateLimit.leastParameterRMS)
        if !size.isFinite || !update.isFinite {
            factor = 0
        } else if size > most {
            factor = most / size
        }
    }
}

extension Rule {
    /// What sweep C, or sweep D if it is alone, does; the means of the heads are not known yet.
    func firstApply(_ t: Tensor, _ sums: TensorSums, _ scales: StepScales) -> lopt_apply {
        var apply = lopt_apply()
        apply.caller_keep = 1
        switch plan.passes {
        case .meansThenSimple, .meansThenNetwork:
            apply.sum_heads = 1
            apply.nominal_head_only = plan.nominalHeadOnly ? 1 : 0
            return apply
        case .simple, .network:
            setNominal(&apply, t, sums, scales)
            apply.nominal = apply.direction
        case .networkThenNominal:
            apply.sum_heads = 1
            // The direction as it is: sums of u G, to be scaled when the scale is known.
            apply.direction = plan.hasBlackbox ? 1 : 0
            apply.nominal_scale = 1
        }
        setBlackbox(&apply, sums, scales)
        setDecay(&apply, scales, mean: 0)
        if plan.passes == .simple { foldCallerKeep(&apply) }
        apply.write = scales.writes
        return apply
    }

    /// What the pass after sweep C does, given the means of the heads; that of the nominal one is in the tensor's step size.
    func secondApply(
        _ t: Tensor, _ sums: TensorSums, _ scales: StepScales, magnitude: Double, regularization: Double
    ) -> lopt_apply {
        var apply = lopt_apply()
        apply.write = scales.writes
        apply.decay_keep = 1
        apply.caller_keep = 1
        setNominal(&apply, t, sums, scales)
        apply.nominal = apply.direction
        if plan.passes != .networkThenNominal {
            setBlackbox(&apply, sums, scales)
            apply.blackbox_aggregated = plan.magnitudeAggregated ? 1 : 0
            apply.blackbox_magnitude = Float(magnitude)
            setDecay(&apply, scales, mean: regularization)
        }
        if plan.passes != .meansThenNetwork { foldCallerKeep(&apply) }
        return apply
    }

    /// What sweep D does to a tensor without a gradient: the caller's decay, by the step size of its last step.
    func idleApply(_ t: Tensor, _ scales: StepScales) -> lopt_apply {
        var apply = lopt_apply()
        apply.write = scales.writes
        apply.decay_keep = Float(max(1 - scales.decayPerStep - scales.decayByStepSize * t.stepSize, 0))
        return apply
    }

    /// For sweep D, which has one factor.
    private func foldCallerKeep(_ apply: inout lopt_apply) {
        apply.decay_keep *= apply.caller_keep
        apply.caller_keep = 1
    }

    private func setBlackbox(_ apply: inout lopt_apply, _ sums: TensorSums, _ scales: StepScales) {
        guard plan.hasBlackbox else { return }
        let selfNormalizer = architecture.selfnormalizeBlackbox ? sums.mean(Int(LOPT_SUM_G)) : 1
        apply.blackbox = 1
        apply.blackbox_scale = finite(scales.update * architecture.stepMult * selfNormalizer)
    }

    /// w = step_size G. The caller's decay goes with the step size: caller_keep = 1 - step_size weight_decay.
    private func setNominal(_ apply: inout lopt_apply, _ t: Tensor, _ sums: TensorSums, _ scales: StepScales) {
        if plan.hasNominal { apply.direction = 1 }
        if plan.nominalPerElement {
            let limits = logStepLimits
            apply.nominal_per_element = 1
            apply.nominal_offset = Float(logStepShift(t, sums, tensors: scales.tensors))
            apply.nominal_least = Float(limits.least)
            apply.nominal_most = Float(limits.most)
            apply.nominal_scale = finite(scales.update * architecture.nominalStepsize)
            apply.caller_decay = finite(scales.decayByStepSize * architecture.nominalStepsize)
            return
        }
        apply.nominal_scale = finite(scales.update * t.stepSize)
        apply.caller_keep = Float(max(1 - scales.decayByStepSize * t.stepSize, 0))
    }

    /// nominal_stepsize exp(n exp_mult), the caller's scales not included: n is the mean of the head, a function of the step or 1,
    /// plus what the extensions add. Where each element has a head of its own, that of a head of 0; without a nominal term, the
    /// blackbox term's multiplier.
    func stepSize(_ t: Tensor, _ sums: TensorSums, _ scales: StepScales, mean: Double) -> Double {
        let a = architecture
        guard plan.hasNominal else { return abs(a.stepMult) }
        var n = a.nominalController ? mean : 1
        if plan.nominalConstant { n = a.constantOutput(Architecture.nominalOutput, theta, scales.step) }
        let limits = logStepLimits
        n = min(max(n + logStepShift(t, sums, tensors: scales.tensors), limits.least), limits.most)
        let size = a.nominalStepsize * ScalarMath.exp(min(max(n * a.expMult[1], -87.3), 88.3))
        // What checkpoints may hold. Weights that compute no number take no step.
        return size.isFinite ? min(size, Optimizer.largestScale) : 0
    }

    /// Where the nominal log-step is clamped; the authors' rule knows no limits.
    private var logStepLimits: (least: Double, most: Double) {
        architecture.tensorScale ? architecture.statisticRange(architecture.statistics, theta) : (-.infinity, .infinity)
    }

    /// keep = 1 - weight_decay exp(r exp_mult) - the caller's decay, if that does not go with the step size.
    private func setDecay(_ apply: inout lopt_apply, _ scales: StepScales, mean: Double) {
        let a = architecture
        var keep = 1 - scales.decayPerStep
        if plan.decayPerElement {
            apply.decay_per_element = 1
            apply.decay_scale = finite(scales.learningRate * a.weightDecay)
        } else if plan.hasDecay {
            let r = plan.decayAggregated ? mean : 0
            keep -= scales.learningRate * a.weightDecay * ScalarMath.exp(min(max(r * a.expMult[2], -87.3), 88.3))
        }
        apply.decay_keep = finite(keep)
    }
}

/// The nearest number that f32 has: infinity times a direction of 0 would be NaN.
private func finite(_ value: Double) -> Float {
    let most = Double(Float.greatestFiniteMagnitude)
    return Float(min(max(value, -most), most))
}
