import LOptCore

extension Architecture {
    /// STAR as this project meta-trains it: a nominal term with one learned log-step for each tensor and, without extensions, a
    /// small blackbox term, which with them never paid; `extensions` adds tensor_scale, tensor_schedule,
    /// tensor_count, skip_idle_tensors and nominal_epsilon.
    public static func star(extensions: Bool) -> Architecture {
        var rule = Architecture()
        rule.expMult = [1, 1, 1]
        rule.stepMult = extensions ? 0 : 2e-4
        rule.nominalStepsize = 1e-2
        rule.nominalController = true
        rule.aggregateNominalMagnitude = true
        (rule.tensorScale, rule.tensorSchedule, rule.tensorCount) = (extensions, extensions, extensions)
        rule.skipIdleTensors = extensions
        if extensions { rule.nominalEpsilon = 1e-16 }
        return rule
    }

    /// A step of one pass whose size is log-linear in pooled statistics of the tensor.
    public static var pooled: Architecture {
        var rule = Architecture(.pooled)
        rule.initialMomentumDecays = [0.8, 0.95, 0, 0, 0, 0, 0, 0]
        rule.initialRMSDecay = 0.95
        return rule
    }

    /// small_fc_lopt with the constructor values of its authors.
    public static var smallFC: Architecture { Architecture(.smallFC) }
}
