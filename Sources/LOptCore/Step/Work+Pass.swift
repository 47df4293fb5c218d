import CLOptShims

// What a pass of the plan is: its items, what it needs, its way over the memory, and what follows from its sums. One copy of each serves small
// tensors and large ones: inlined into both, they would add 20 KiB to the library.

extension Work {
    func chunks(_ pass: Int, _ t: UnsafeMutablePointer<Tensor>) -> Int {
        switch rule.plan.passes[pass].kind {
        case .accumulate, .network: t.pointee.geometry.chunks
        case .elements: t.pointee.geometry.flatChunks
        case .pooled: t.pointee.step.isPassNeeded ? t.pointee.geometry.flatChunks : 0
        }
    }

    /// What a pass needs of the whole tensor before it begins.
    @inline(never)
    func prepare(_ pass: Int, _ t: UnsafeMutablePointer<Tensor>) {
        let pass = rule.plan.passes[pass]
        switch pass.kind {
        case .accumulate:
            guard t.pointee.geometry.isFactored else { return }
            var kernelRule = rule.kernel
            kernels.update_factors(&kernelRule, &t.pointee.memory.view, t.pointee.memory.factorMeans)
        case .pooled: preparePooled(pass, t)
        case .network, .elements: t.pointee.step.apply = rule.apply(pass, t.pointee, scales(t))
        }
    }

    @inline(never)
    func execute(_ pass: Int, _ t: UnsafeMutablePointer<Tensor>, _ index: Int, _ scratch: UnsafeMutablePointer<Float>) {
        switch rule.plan.passes[pass].kind {
        case .accumulate:
            var kernelRule = rule.kernel, chunk = t.pointee.geometry.chunk(index)
            let sums = zeroed(t.pointee.memory.momentSums, index, Int(LOPT_SUMS_MOMENTS))
            kernels.accumulator_pass(&kernelRule, &t.pointee.memory.view, &chunk, sums, scratch)
        case .network:
            var kernelRule = rule.kernel, chunk = t.pointee.geometry.chunk(index)
            let sums = zeroed(t.pointee.memory.stepSums, index, Int(LOPT_SUMS_UPDATE))
            kernels.network_pass(&kernelRule, &t.pointee.memory.view, &t.pointee.step.apply, &chunk, sums, scratch)
        case .elements: elementPass(t, index, scratch)
        case .pooled: pooledPass(t, index, scratch)
        }
    }

    func elementPass(_ t: UnsafeMutablePointer<Tensor>, _ index: Int, _ scratch: UnsafeMutablePointer<Float>) {
        let elements = t.pointee.geometry.flatChunk(index)
        var kernelRule = rule.kernel, view = t.pointee.memory.view
        // The pass reads momenta also where, as for idle tensors, they count 0 times; bf16 as f32 may be NaN.
        if t.pointee.memory.momentumType == .bf16 { (view.momentum, view.plane_stride) = (view.second_moment, 0) }
        let sums = zeroed(t.pointee.memory.stepSums, index, Int(LOPT_SUMS_UPDATE))
        kernels.element_pass(
            &kernelRule, &view, &t.pointee.step.apply, Int64(elements.lowerBound), Int64(elements.upperBound), sums,
            scratch)
    }

    /// The sums of a chunk.
    func zeroed(_ sums: UnsafeMutablePointer<Double>, _ chunk: Int, _ slots: Int) -> UnsafeMutablePointer<Double> {
        let own = sums + chunk * slots
        for slot in 0..<slots { own[slot] = 0 }
        return own
    }

    /// What follows from the sums of a pass: for the next one or, after the last, for the caller.
    @inline(never)
    func settle(_ index: Int, _ t: UnsafeMutablePointer<Tensor>) {
        let pass = rule.plan.passes[index]
        switch pass.kind {
        case .accumulate: settleMoments(t)
        case .network, .elements: settle(pass, chunks(index, t), t)
        case .pooled: settlePooled(pass, t)
        }
        if index + 1 < rule.plan.passes.count { prepare(index + 1, t) } else { record(t) }
    }

    @inline(never)
    private func settleMoments(_ t: UnsafeMutablePointer<Tensor>) {
        let sums = TensorSums(adding: t.pointee), step = t.pointee.progress.steps
        let constants = step == constants.features.step ? constants : rule.constants(step: step, tensors: tensorCount)
        t.pointee.report.sums.gradient = sums.sum(Int(LOPT_SUM_G2))
        t.pointee.report.sums.parameter = sums.sum(Int(LOPT_SUM_P2))
        t.pointee.report.sums.nonfiniteParameters = sums.sum(Int(LOPT_SUM_NONFINITE))
        t.pointee.step.logStepShift = rule.logStepShift(t.pointee, sums, tensors: tensorCount)
        if rule.plan.nominal != .mean { setStepSize(t, head: constants.nominalHead) }
        if rule.plan.usesNetwork {
            t.pointee.memory.view.live_features = rule.foldFirstLayer(t.pointee, sums, constants.features)
        }
    }

    @inline(never)
    private func settle(_ pass: Pass, _ chunks: Int, _ t: UnsafeMutablePointer<Tensor>) {
        var sums = [6 of Double](repeating: 0)
        for chunk in 0..<chunks {
            for slot in 0..<sums.count { sums[slot] += t.pointee.memory.stepSums[chunk * sums.count + slot] }
        }
        let count = Double(t.pointee.geometry.count)
        t.pointee.report.sums.nominal = sums[Int(LOPT_SUM_W2)]
        if pass.kind == .network {
            t.pointee.report.sums.blackbox = sums[Int(LOPT_SUM_U2)]
            t.pointee.report.sums.cross = sums[Int(LOPT_SUM_UW)]
        } else if pass.terms == .nominal {
            // The network pass saw the direction without its scale.
            t.pointee.report.sums.cross *= Double(t.pointee.step.apply.nominal_scale)
        }
        switch pass.measures {
        case .nothing, .moments: break
        case .heads, .nominalHead:
            t.pointee.step.magnitude = sums[Int(LOPT_SUM_MAGNITUDE)] / count
            t.pointee.step.regularization = sums[Int(LOPT_SUM_REGULARIZATION)] / count
            if rule.plan.nominal == .mean { setStepSize(t, head: sums[Int(LOPT_SUM_NOMINAL)] / count) }
        case .update: limitUpdate(t)
        }
    }

    /// The guard, by the sums that a pass has measured.
    func limitUpdate(_ t: UnsafeMutablePointer<Tensor>) {
        let measured = t.pointee.report.sums, count = Double(t.pointee.geometry.count)
        t.pointee.step.limit = UpdateLimit.factor(
            ratio: maxUpdateRatio, update: measured.update / count, parameter: measured.parameter / count)
        if t.pointee.step.limit < 1 { Optimizer.count(&t.pointee.report.updatesLimited, 1) }
    }

    private func setStepSize(_ t: UnsafeMutablePointer<Tensor>, head: Double) {
        t.pointee.progress.stepSize = rule.stepSize(head: head, shift: t.pointee.step.logStepShift)
    }

    func scales(_ t: UnsafePointer<Tensor>) -> CallerScales {
        let decays = weightDecayTensors == .all || t.pointee.identity.extentsAboveOne > 1
        return CallerScales(
            learningRate: t.pointee.options.learningRate(learningRateScale), weightDecay: decays ? t.pointee.options.weightDecay(weightDecay) : 0,
            decayForm: weightDecayForm, learnedDecay: learnedDecayScale)
    }
}
