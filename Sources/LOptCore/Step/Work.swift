import CLOptShims

/// The phases of a step over a range of tensors. Each is cut into items that any worker may take; a phase begins when the
/// one before has ended, because a pass needs the sums of the pass before it over the whole tensor.
enum Phase {
    /// Sweep A: sums of g^2, and whether all gradients are finite. Writes no state.
    case look
    /// One item for each tensor. A small one: all the rest, while it is in cache. An idle one: the caller's decay. A large one:
    /// what the first pass needs.
    case open
    /// The rest is for large tensors. A pass of the plan, chunk by chunk; then, one item for each tensor, what follows from it.
    case sweep(Int)
    case settle(Int)
}

/// All that the items of a phase look at.
struct Work {
    let tensors: UnsafeMutablePointer<Tensor>
    let rule: Rule
    let kernels: lopt_kernels
    let scratch: UnsafeMutablePointer<Float>
    let scratchStride: Int
    let learningRateScale: Double
    let weightDecay: Double
    let weightDecayForm: WeightDecayForm
    let maxUpdateRatio: Double
    let isInline: Bool
    /// Of the first tensor's step; most often all tensors are at the same.
    let stepFeatures: StepFeatures
    /// The number of the first item of each tensor of the range.
    let starts: UnsafeMutablePointer<Int>
    /// Of the optimizer, not of the range.
    let tensorCount: Int
    var range = 0..<0
    var phase = Phase.look

    static let batchElements = 8 * Geometry.chunkElements

    /// The phases after sweep A.
    mutating func stepBatch(_ range: Range<Int>, on pool: borrowing ThreadPool) {
        run(.open, range, on: pool)
        for i in 0..<rule.plan.passes.count {
            run(.sweep(i), range, on: pool)
            run(.settle(i), range, on: pool)
        }
    }

    /// The same for a small tensor.
    private func stepWhole(_ t: UnsafeMutablePointer<Tensor>, _ scratch: UnsafeMutablePointer<Float>) {
        for i in 0..<rule.plan.passes.count {
            for chunk in 0..<chunks(i, t.pointee.geometry) { sweep(i, t, chunk, scratch) }
            settle(i, t)
        }
    }

    private func items(_ t: UnsafePointer<Tensor>) -> Int {
        if case .look = phase { return t.pointee.options.isFrozen ? 0 : t.pointee.geometry.sumChunks }
        if t.pointee.step.isSkipped { return 0 }
        if case .open = phase { return 1 }
        if t.pointee.isSmall || t.pointee.step.isIdle { return 0 }
        if case .sweep(let pass) = phase { return chunks(pass, t.pointee.geometry) }
        return 1
    }

    @inline(never)
    mutating func run(_ phase: Phase, _ range: Range<Int>, on pool: borrowing ThreadPool) {
        self.phase = phase
        self.range = range
        var total = 0
        for i in range {
            starts[i - range.lowerBound] = total
            total += items(tensors + i)
        }
        guard total > 0 else { return }
        let isInline = self.isInline
        withUnsafeMutablePointer(to: &self) { work in
            pool.run(total, inline: isInline, work) { context, item, worker in
                context.assumingMemoryBound(to: Work.self).pointee.runItem(item, worker)
            }
        }
    }

    private func runItem(_ item: Int, _ worker: Int) {
        // The last tensor that starts at or before the item; those without items start where the next does.
        var low = 0, high = range.count
        while high - low > 1 {
            let middle = (low + high) / 2
            if starts[middle] <= item { low = middle } else { high = middle }
        }
        let t = tensors + range.lowerBound + low
        perform(t, item - starts[low], scratch + worker * scratchStride)
    }

    private func perform(_ t: UnsafeMutablePointer<Tensor>, _ item: Int, _ scratch: UnsafeMutablePointer<Float>) {
        switch phase {
        case .look: look(t, item, scratch)
        case .open: open(t, scratch)
        case .sweep(let pass): sweep(pass, t, item, scratch)
        case .settle(let pass): settle(pass, t)
        }
    }

    private func look(_ t: UnsafeMutablePointer<Tensor>, _ index: Int, _ scratch: UnsafeMutablePointer<Float>) {
        var chunk = t.pointee.geometry.sumChunk(index)
        if t.pointee.geometry.isFactored {
            t.pointee.memory.largest[index] = kernels.sweep_a(&t.pointee.memory.view, &chunk, scratch)
        } else if let gradient = t.pointee.memory.view.gradient {
            t.pointee.memory.largest[index] = kernels.largest_magnitude(
                gradient + Int(chunk.column0), chunk.column1 - chunk.column0)
        }
    }

    private func open(_ t: UnsafeMutablePointer<Tensor>, _ scratch: UnsafeMutablePointer<Float>) {
        if t.pointee.step.isIdle { return rest(t, scratch) }
        if t.pointee.geometry.count == 0 { return record(t) }
        t.pointee.step.limit = 1
        prepare(0, t)
        if t.pointee.isSmall { stepWhole(t, scratch) }
    }

    // MARK: A pass

    private func chunks(_ pass: Int, _ geometry: Geometry) -> Int {
        rule.plan.passes[pass].sweep == .elements ? geometry.flatChunks : geometry.chunks
    }

    /// What a pass needs of the whole tensor before it begins.
    @inline(never)
    private func prepare(_ pass: Int, _ t: UnsafeMutablePointer<Tensor>) {
        let pass = rule.plan.passes[pass]
        if pass.sweep != .accumulate {
            t.pointee.step.apply = rule.apply(pass, t.pointee, scales(t.pointee.options))
        } else if t.pointee.geometry.isFactored {
            var kernelRule = rule.kernel
            kernels.update_factors(&kernelRule, &t.pointee.memory.view, t.pointee.memory.factorMeans)
        }
    }

    @inline(never)
    private func sweep(_ pass: Int, _ t: UnsafeMutablePointer<Tensor>, _ index: Int, _ scratch: UnsafeMutablePointer<Float>) {
        let sweep = rule.plan.passes[pass].sweep
        guard sweep != .elements else { return sweepD(t, index, scratch) }
        var chunk = t.pointee.geometry.chunk(index), kernelRule = rule.kernel
        if sweep == .accumulate {
            let sums = zeroed(t.pointee.memory.momentSums, index, Int(LOPT_SUMS_B))
            kernels.sweep_b(&kernelRule, &t.pointee.memory.view, &chunk, sums, scratch)
        } else {
            let sums = zeroed(t.pointee.memory.stepSums, index, Int(LOPT_SUMS_C))
            kernels.sweep_c(&kernelRule, &t.pointee.memory.view, &t.pointee.step.apply, &chunk, sums, scratch)
        }
    }

    private func sweepD(_ t: UnsafeMutablePointer<Tensor>, _ index: Int, _ scratch: UnsafeMutablePointer<Float>) {
        let begin = index * Geometry.chunkElements
        let end = min(t.pointee.geometry.count, begin + Geometry.chunkElements)
        var kernelRule = rule.kernel
        let sums = zeroed(t.pointee.memory.stepSums, index, Int(LOPT_SUMS_C))
        kernels.sweep_d(&kernelRule, &t.pointee.memory.view, &t.pointee.step.apply, Int64(begin), Int64(end), sums, scratch)
    }

    /// The sums of a chunk.
    private func zeroed(_ sums: UnsafeMutablePointer<Double>, _ chunk: Int, _ slots: Int) -> UnsafeMutablePointer<Double> {
        let own = sums + chunk * slots
        for slot in 0..<slots { own[slot] = 0 }
        return own
    }

    /// What follows from the sums of a pass: for the next one or, after the last, for the caller.
    @inline(never)
    private func settle(_ index: Int, _ t: UnsafeMutablePointer<Tensor>) {
        let pass = rule.plan.passes[index]
        if pass.sweep == .accumulate { settleMoments(t) } else { settle(pass, chunks(index, t.pointee.geometry), t) }
        if index + 1 < rule.plan.passes.count { prepare(index + 1, t) } else { record(t) }
    }

    @inline(never)
    private func settleMoments(_ t: UnsafeMutablePointer<Tensor>) {
        let sums = TensorSums(adding: t.pointee), step = t.pointee.progress.steps
        let features = step == stepFeatures.step ? stepFeatures : StepFeatures(step: step)
        t.pointee.report.sums.gradient = sums.sum(Int(LOPT_SUM_G2))
        t.pointee.report.sums.parameter = sums.sum(Int(LOPT_SUM_P2))
        t.pointee.report.sums.nonfiniteParameters = sums.sum(Int(LOPT_SUM_NONFINITE))
        t.pointee.step.logStepShift = rule.logStepShift(t.pointee, sums, tensors: tensorCount)
        if rule.plan.nominal != .mean { setStepSize(t, head: rule.nominalHead(features)) }
        if rule.plan.usesNetwork { rule.foldFirstLayer(t.pointee, sums, features) }
    }

    @inline(never)
    private func settle(_ pass: Pass, _ chunks: Int, _ t: UnsafeMutablePointer<Tensor>) {
        var sums = [6 of Double](repeating: 0)
        for chunk in 0..<chunks {
            for slot in 0..<sums.count { sums[slot] += t.pointee.memory.stepSums[chunk * sums.count + slot] }
        }
        let count = Double(t.pointee.geometry.count)
        t.pointee.report.sums.nominal = sums[Int(LOPT_SUM_W2)]
        if pass.sweep == .network {
            t.pointee.report.sums.blackbox = sums[Int(LOPT_SUM_U2)]
            t.pointee.report.sums.cross = sums[Int(LOPT_SUM_UW)]
        } else if pass.terms == .nominal {
            // Sweep C saw the direction without its scale.
            t.pointee.report.sums.cross *= Double(t.pointee.step.apply.nominal_scale)
        }
        switch pass.measures {
        case .nothing, .moments: break
        case .heads, .nominalHead:
            t.pointee.step.magnitude = sums[Int(LOPT_SUM_MAGNITUDE)] / count
            t.pointee.step.regularization = sums[Int(LOPT_SUM_REGULARIZATION)] / count
            if rule.plan.nominal == .mean { setStepSize(t, head: sums[Int(LOPT_SUM_NOMINAL)] / count) }
        case .update:
            let measured = t.pointee.report.sums
            t.pointee.step.limit = UpdateLimit.factor(
                ratio: maxUpdateRatio, update: measured.update / count, parameter: measured.parameter / count)
            if t.pointee.step.limit < 1 { Optimizer.count(&t.pointee.report.updatesLimited, 1) }
        }
    }

    private func setStepSize(_ t: UnsafeMutablePointer<Tensor>, head: Double) {
        t.pointee.progress.stepSize = rule.stepSize(head: head, shift: t.pointee.step.logStepShift)
    }

    private func scales(_ options: TensorOptions) -> CallerScales {
        CallerScales(
            learningRate: options.learningRate(learningRateScale), weightDecay: options.weightDecay(weightDecay),
            decayForm: weightDecayForm)
    }

    // MARK: Ends

    /// A step of a tensor whose gradient is 0 everywhere, with weights that rest then: the caller's decay, nothing else.
    private func rest(_ t: UnsafeMutablePointer<Tensor>, _ scratch: UnsafeMutablePointer<Float>) {
        Optimizer.count(&t.pointee.report.stepsIdle, 1)
        t.pointee.report.wasIdle = true
        t.pointee.report.sums.gradient = 0
        t.pointee.report.sums.dropUpdate()
        t.pointee.step.apply = rule.idleApply(t.pointee, scales(t.pointee.options))
        guard t.pointee.step.apply.decay_keep != 1 else { return }
        for index in 0..<t.pointee.geometry.flatChunks { sweepD(t, index, scratch) }
    }

    private func record(_ t: UnsafeMutablePointer<Tensor>) {
        Optimizer.count(&t.pointee.progress.steps, 1)
        t.pointee.report.wasIdle = false
        if t.pointee.step.limit == 0 { t.pointee.report.sums.dropUpdate() }
    }
}
