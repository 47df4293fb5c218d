import CLOptShims

/// The caller's multipliers of one tensor in one step.
struct StepScales {
    /// Of the whole step. With 0 nothing is written: denormal parameters would else be flushed.
    let learningRate: Double
    /// The part of the parameter that is taken off, beside what the rule takes.
    let decay: Double
    /// Of u and w alone.
    let limit: UpdateLimit
    /// What the network may know of the tensor's step.
    let step: StepFeatures
    /// How many tensors the optimizer has.
    let tensors: Int

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
        switch plan.passes {
        case .meansThenSimple, .meansThenNetwork:
            apply.sum_heads = 1
            apply.nominal_head_only = plan.nominalHeadOnly ? 1 : 0
            return apply
        case .simple, .network:
            setNominal(&apply, t, sums, scales, mean: 0)
            apply.nominal = apply.direction
        case .networkThenNominal:
            apply.sum_heads = 1
            // The direction as it is: sums of u G, to be scaled when the scale is known.
            apply.direction = plan.hasBlackbox ? 1 : 0
            apply.nominal_scale = 1
        }
        setBlackbox(&apply, sums, scales)
        setDecay(&apply, scales, mean: 0)
        apply.write = scales.writes
        return apply
    }

    /// What the pass after sweep C does, given the means of the heads.
    func secondApply(
        _ t: Tensor, _ sums: TensorSums, _ scales: StepScales, magnitude: Double, nominal: Double, regularization: Double
    ) -> lopt_apply {
        var apply = lopt_apply()
        apply.write = scales.writes
        apply.decay_keep = 1
        setNominal(&apply, t, sums, scales, mean: nominal)
        apply.nominal = apply.direction
        if plan.passes != .networkThenNominal {
            setBlackbox(&apply, sums, scales)
            apply.blackbox_aggregated = plan.magnitudeAggregated ? 1 : 0
            apply.blackbox_magnitude = Float(magnitude)
            setDecay(&apply, scales, mean: regularization)
        }
        return apply
    }

    private func setBlackbox(_ apply: inout lopt_apply, _ sums: TensorSums, _ scales: StepScales) {
        guard plan.hasBlackbox else { return }
        let selfNormalizer = architecture.selfnormalizeBlackbox ? sums.mean(Int(LOPT_SUM_G)) : 1
        apply.blackbox = 1
        apply.blackbox_scale = Float(scales.update * architecture.stepMult * selfNormalizer)
    }

    /// w = stepsize exp(n exp_mult) G; n is the head, its mean, a function of the step or 1, plus what the extensions tensor_scale and
    /// tensor_schedule add.
    private func setNominal(
        _ apply: inout lopt_apply, _ t: Tensor, _ sums: TensorSums, _ scales: StepScales, mean: Double
    ) {
        guard plan.hasNominal else { return }
        let a = architecture
        let offset = a.tensorScale ? tensorScale(t, sums, tensors: scales.tensors) : 0
        apply.direction = 1
        var scale = scales.update * a.nominalStepsize
        if plan.nominalPerElement {
            apply.nominal_per_element = 1
            apply.nominal_offset = Float(offset)
        } else {
            var n = a.nominalController ? mean : 1
            if plan.nominalConstant {
                n = a.constantOutput(Architecture.nominalOutput, theta, scales.step)
            }
            scale *= ScalarMath.exp(min(max((n + offset) * a.expMult[1], -87.3), 88.3))
        }
        apply.nominal_scale = Float(scale)
    }

    /// keep = 1 - weight_decay exp(r exp_mult) - the caller's decay.
    private func setDecay(_ apply: inout lopt_apply, _ scales: StepScales, mean: Double) {
        let a = architecture
        var keep = 1 - scales.decay
        if plan.decayPerElement {
            apply.decay_per_element = 1
            apply.decay_scale = Float(scales.learningRate * a.weightDecay)
        } else if plan.hasDecay {
            let r = plan.decayAggregated ? mean : 0
            keep -= scales.learningRate * a.weightDecay * ScalarMath.exp(min(max(r * a.expMult[2], -87.3), 88.3))
        }
        apply.decay_keep = Float(keep)
    }

    /// sum_i u_i phi_i of the extension tensor_scale, w_0 psi + tau sum_i w_i (phi, psi, 1)_i of tensor_schedule and
    /// (c_0 + tau c_1) (log(tensors) / 2 - 1) of tensor_count: how large the parameters are, how persistent the gradient is, how it
    /// compares with its noise and its history, how many tensors there are.
    private func tensorScale(_ t: Tensor, _ sums: TensorSums, tensors: Int) -> Double {
        let momenta = architecture.momenta
        let u = theta + architecture.tensorScaleOffset, w = theta + architecture.tensorScheduleOffset
        let tau = architecture.tensorSchedule || architecture.tensorCount ? Architecture.scheduleTime(t.steps) : 0
        var n = 0.0
        func add(_ i: Int, _ phi: Double) {
            n += (Double(u[i]) + (architecture.tensorSchedule ? tau * Double(w[1 + i]) : 0)) * phi
        }
        // Sums of f32 squares may overflow; a logarithm of infinity would reach every parameter.
        func rms(_ meanSquare: Double) -> Double { min(meanSquare, 1e60).squareRoot() }
        add(0, ScalarMath.log(rms(sums.mean(Int(LOPT_SUM_P2))) + 1e-3) + 2)
        let gradient = rms(sums.mean(Int(LOPT_SUM_G2)))
        for k in 0..<momenta {
            let persistence = rms(sums.mean(k, Int(LOPT_SUM_M2))) / (gradient + 1e-12)
            add(1 + k, ScalarMath.log(persistence + 1e-3) + 1.5)
            let signalToNoise = rms(sums.mean(k, Int(LOPT_SUM_M_RSQRT_V2)))
            add(1 + momenta + k, ScalarMath.log(signalToNoise + 1e-3) + 1)
        }
        add(1 + 2 * momenta, ScalarMath.log(sums.count) / 5 - 1)
        if t.rank < 2 { add(2 + 2 * momenta, 1) }
        if architecture.tensorCount {
            let c = theta + architecture.tensorCountOffset
            n += (Double(c[0]) + tau * Double(c[1])) * (ScalarMath.log(Double(tensors)) / 2 - 1)
        }
        guard architecture.tensorSchedule else { return n }
        let history = rms(sums.mean(Int(LOPT_SUM_V2))).squareRoot()
        let psi = ScalarMath.log(gradient / (history + 1e-12) + 1e-3)
        let own = w + 1 + architecture.tensorScales
        return n + Double(w[0]) * psi + tau * (Double(own[0]) * psi + Double(own[1]))
    }
}

extension Architecture {
    /// tau = log(1 + min(t, 30,000) / 30) / 5 of the extension tensor_schedule: 0 at first, 0.7 at 1,000 steps. It ends where no
    /// meta-training has been: a step size that goes on as a power of t would end in one that is nothing or far too much.
    public static func scheduleTime(_ step: Int64) -> Double { ScalarMath.log(1 + min(Double(step), lastScheduledStep) / 30) / 5 }
}
