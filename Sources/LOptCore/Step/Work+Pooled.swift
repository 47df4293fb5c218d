import CLOptShims

// The passes of weights of kind pooled. A step is one, which takes in the gradient, writes, and takes the statistics for the next
// step. In a tensor's first step there are none yet: a pass before it takes in the gradient and them. With a guard, one more
// measures the update.

extension Work {
    func preparePooled(_ pass: Pass, _ t: UnsafeMutablePointer<Tensor>) {
        let isFirst = pass.terms == .none
        if isFirst {
            if t.pointee.memory.shared == nil { t.pointee.step.hasTakenIn = false }
            t.pointee.step.gradientSquares = Optimizer.gradientSquares(t) * t.pointee.memory.view.partial_scale
        }
        t.pointee.step.isPassNeeded = !isFirst || !t.pointee.progress.pooled.isKnown
        guard t.pointee.step.isPassNeeded else { return }
        let steps = t.pointee.progress.steps
        let place = LayerPosition(t - tensors, shape, logTensors: constants.logTensors)
        if steps == rule.time.pointee.steps {
            (t.pointee.progress.stepSize, t.pointee.step.pooled) = rule.pooledStep(t, place, scales(t), rule.time)
        } else {
            var own = rule.pooledTime(steps, totalSteps: totalSteps)
            (t.pointee.progress.stepSize, t.pointee.step.pooled) = rule.pooledStep(t, place, scales(t), &own)
        }
        if !pass.writes { t.pointee.step.pooled.writes = 0 }
        if t.pointee.step.hasTakenIn { t.pointee.step.pooled.updates_state = 0 }
        guard isFirst else { return }
        // The size of the gradients is not known yet; their largest is, before they were clipped. Sums are of a step of size 1.
        let most = Double(Float(bitPattern: t.pointee.largestGradient)) * t.pointee.memory.view.partial_scale.squareRoot()
        t.pointee.step.pooled.epsilon = Float(max(1e-10 * most * most, 1e-36))
        t.pointee.step.pooled.scale = 1
    }

    func pooledPass(_ t: UnsafeMutablePointer<Tensor>, _ index: Int, _ scratch: UnsafeMutablePointer<Float>) {
        let elements = t.pointee.geometry.flatChunk(index)
        var kernelRule = rule.kernel, step = t.pointee.step.pooled
        if t.pointee.memory.momentumType == .bf16 {
            step.momenta_are_bf16 = 1
            step.noise_key = MomentumNoise.key(step: t.pointee.progress.steps, chunk: t.pointee.firstChunk + index)
        }
        let sums = zeroed(t.pointee.memory.momentSums, index, Int(LOPT_SUMS_POOLED))
        kernels.pooled(
            &kernelRule, &t.pointee.memory.view, &step, Int64(elements.lowerBound), Int64(elements.upperBound), sums,
            scratch)
    }

    func settlePooled(_ pass: Pass, _ t: UnsafeMutablePointer<Tensor>) {
        guard t.pointee.step.isPassNeeded else { return }
        t.pointee.step.hasTakenIn = true
        if let shared = t.pointee.memory.shared { return settleShared(pass, t, shared) }
        let slots = Int(LOPT_SUMS_POOLED), sums = t.pointee.memory.momentSums
        for chunk in 1..<max(t.pointee.geometry.flatChunks, 1) {
            for slot in 0..<slots { sums[slot] += sums[chunk * slots + slot] }
        }
        sums[Int(LOPT_POOLED_G2)] = t.pointee.step.gradientSquares
        if pass.measures == .moments { rule.notePooled(&t.pointee, sums, scale: Double(t.pointee.step.pooled.scale)) }
        t.pointee.report.sums.gradient = sums[Int(LOPT_POOLED_G2)]
        t.pointee.report.sums.parameter = sums[Int(LOPT_POOLED_P2)]
        t.pointee.report.sums.nonfiniteParameters = sums[Int(LOPT_POOLED_NONFINITE)]
        t.pointee.report.sums.nominal = sums[Int(LOPT_POOLED_U2)]
        if pass.measures == .update { limitUpdate(t) }
    }
}
