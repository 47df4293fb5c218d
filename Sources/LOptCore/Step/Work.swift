import CLOptShims

/// The phases of a step over a range of tensors. Each is cut into items that any worker may take; a phase begins when the
/// one before has ended, because a sweep needs the sums of the sweep before it over the whole tensor.
enum Phase {
    /// Sums of g^2, and whether all gradients are finite. Writes no state.
    case sweepA
    /// A small tensor: all the rest, while it is in cache. A large one: its factors. An idle one: the caller's decay. One item
    /// each.
    case prepare
    /// The rest is for large tensors, chunk by chunk but for `fold` and `means`.
    case sweepB
    case fold
    case sweepC
    /// The means of the heads, for the pass after sweep C.
    case means
    case secondSweepC
    case sweepD
    /// With a guard: the passes so far have only measured the update; whether it is to be smaller.
    case limit
    case record
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
    var phase = Phase.sweepA

    static let batchElements = 8 * Geometry.chunkElements

    private func items(_ t: UnsafePointer<Tensor>) -> Int {
        if phase == .sweepA { return t.pointee.options.isFrozen ? 0 : t.pointee.geometry.sumChunks }
        if t.pointee.isSkipped { return 0 }
        if phase == .prepare { return 1 }
        if t.pointee.isSmall || t.pointee.isIdle { return 0 }
        switch phase {
        case .sweepB, .sweepC, .secondSweepC: return t.pointee.geometry.chunks
        case .sweepD: return t.pointee.geometry.flatChunks
        default: return 1
        }
    }

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
        run(phase, t, item - starts[low], scratch + worker * scratchStride)
    }

    private func run(_ phase: Phase, _ t: UnsafeMutablePointer<Tensor>, _ chunk: Int, _ scratch: UnsafeMutablePointer<Float>) {
        switch phase {
        case .sweepA: sweepA(t, chunk, scratch)
        case .prepare: prepare(t, scratch)
        case .sweepB: sweepB(t, chunk, scratch)
        case .fold: fold(t)
        case .sweepC, .secondSweepC: sweepC(t, chunk, scratch)
        case .means: takeMeans(t)
        case .sweepD: sweepD(t, chunk, scratch)
        case .limit: limitUpdate(t)
        case .record: record(t)
        }
    }

    /// The phases after sweep A.
    mutating func stepBatch(_ range: Range<Int>, on pool: borrowing ThreadPool) {
        run(.prepare, range, on: pool)
        run(.sweepB, range, on: pool)
        run(.fold, range, on: pool)
        if rule.plan.usesNetwork { run(.sweepC, range, on: pool) }
        if rule.plan.usesMeans { run(.means, range, on: pool) }
        if rule.plan.passes == .meansThenNetwork { run(.secondSweepC, range, on: pool) }
        if rule.plan.usesSweepD { run(.sweepD, range, on: pool) }
        if isGuarded {
            run(.limit, range, on: pool)
            if rule.plan.writesInSweepC { run(.secondSweepC, range, on: pool) }
            if rule.plan.passes == .networkThenNominal { run(.means, range, on: pool) }
            if rule.plan.usesSweepD { run(.sweepD, range, on: pool) }
        }
        run(.record, range, on: pool)
    }

    private func prepare(_ t: UnsafeMutablePointer<Tensor>, _ scratch: UnsafeMutablePointer<Float>) {
        guard !t.pointee.isIdle else { return rest(t, scratch) }
        if t.pointee.geometry.isFactored {
            var kernelRule = rule.kernel
            kernels.update_factors(&kernelRule, &t.pointee.view, t.pointee.means)
        }
        guard t.pointee.isSmall else { return }
        if t.pointee.geometry.count > 0 {
            sweepB(t, 0, scratch)
            fold(t)
            if rule.plan.usesNetwork { sweepC(t, 0, scratch) }
            if rule.plan.usesMeans { takeMeans(t) }
            if rule.plan.passes == .meansThenNetwork { sweepC(t, 0, scratch) }
            if rule.plan.usesSweepD { wholeSweepD(t, scratch) }
            if isGuarded {
                limitUpdate(t)
                if rule.plan.writesInSweepC { sweepC(t, 0, scratch) }
                if rule.plan.passes == .networkThenNominal { takeMeans(t) }
                if rule.plan.usesSweepD { wholeSweepD(t, scratch) }
            }
        }
        record(t)
    }

    private func sweepA(_ t: UnsafeMutablePointer<Tensor>, _ index: Int, _ scratch: UnsafeMutablePointer<Float>) {
        var chunk = t.pointee.geometry.sumChunk(index)
        if t.pointee.geometry.isFactored {
            t.pointee.largest[index] = kernels.sweep_a(&t.pointee.view, &chunk, scratch)
        } else if let gradient = t.pointee.view.gradient {
            t.pointee.largest[index] = kernels.largest_magnitude(
                gradient + Int(chunk.column0), chunk.column1 - chunk.column0)
        }
    }

    private func sweepB(_ t: UnsafeMutablePointer<Tensor>, _ index: Int, _ scratch: UnsafeMutablePointer<Float>) {
        var chunk = t.pointee.geometry.chunk(index)
        var kernelRule = rule.kernel
        let sums = t.pointee.sumsB + index * Int(LOPT_SUMS_B)
        for slot in 0..<Int(LOPT_SUMS_B) { sums[slot] = 0 }
        kernels.sweep_b(&kernelRule, &t.pointee.view, &chunk, sums, scratch)
    }

    private func fold(_ t: UnsafeMutablePointer<Tensor>) {
        let sums = TensorSums(adding: t.pointee)
        t.pointee.limit = isGuarded ? .unknown : .none
        let scales = scales(t.pointee)
        // Where it waits for the mean of a head, `takeMeans` does it.
        if !rule.plan.usesMeans { t.pointee.stepSize = rule.stepSize(t.pointee, sums, scales, mean: 0) }
        if rule.plan.usesNetwork { rule.foldFirstLayer(t.pointee, sums, scales.step) }
        t.pointee.apply = rule.firstApply(t.pointee, sums, scales)
    }

    private func scales(_ t: Tensor) -> StepScales {
        StepScales(
            learningRate: t.options.learningRate(learningRateScale), weightDecay: t.options.weightDecay(weightDecay),
            decayForm: weightDecayForm, limit: t.limit,
            step: t.steps == stepFeatures.step ? stepFeatures : StepFeatures(step: t.steps), tensors: tensorCount)
    }

    /// Whether updates are measured before they are applied.
    private var isGuarded: Bool { maxUpdateRatio > 0 }

    /// The passes so far have summed the update, and written nothing; now they are to write it, as small as it has to be.
    private func limitUpdate(_ t: UnsafeMutablePointer<Tensor>) {
        keepSums(t)
        let sums = TensorSums(t.pointee)
        let limit = UpdateLimit(
            ratio: maxUpdateRatio, update: t.pointee.last.update / sums.count,
            parameter: sums.mean(Int(LOPT_SUM_P2)))
        t.pointee.limit = limit
        if limit.factor < 1 { Optimizer.count(&t.pointee.updatesLimited, 1) }
        if rule.plan.passes == .networkThenNominal {
            t.pointee.apply = rule.firstApply(t.pointee, sums, scales(t.pointee))
        } else {
            t.pointee.apply.blackbox_scale *= Float(limit.factor)
            t.pointee.apply.nominal_scale *= Float(limit.factor)
            t.pointee.apply.write = scales(t.pointee).writes
        }
    }

    private func sweepC(_ t: UnsafeMutablePointer<Tensor>, _ index: Int, _ scratch: UnsafeMutablePointer<Float>) {
        var chunk = t.pointee.geometry.chunk(index)
        var kernelRule = rule.kernel
        let sums = t.pointee.sumsC + index * Int(LOPT_SUMS_C)
        for slot in 0..<Int(LOPT_SUMS_C) { sums[slot] = 0 }
        kernels.sweep_c(&kernelRule, &t.pointee.view, &t.pointee.apply, &chunk, sums, scratch)
    }

    private func takeMeans(_ t: UnsafeMutablePointer<Tensor>) {
        let sums = Work.total(t.pointee.sumsC, t.pointee.geometry.chunks), count = Double(t.pointee.geometry.count)
        let scales = scales(t.pointee), own = TensorSums(t.pointee)
        t.pointee.stepSize = rule.stepSize(t.pointee, own, scales, mean: sums[Int(LOPT_SUM_NOMINAL)] / count)
        let second = rule.secondApply(
            t.pointee, own, scales, magnitude: sums[Int(LOPT_SUM_MAGNITUDE)] / count,
            regularization: sums[Int(LOPT_SUM_REGULARIZATION)] / count)
        t.pointee.apply = second
        t.pointee.last.blackbox = sums[Int(LOPT_SUM_U2)]
        // Sweep C saw the direction without its scale.
        t.pointee.last.cross = sums[Int(LOPT_SUM_UW)] * Double(second.nominal_scale)
    }

    private func sweepD(_ t: UnsafeMutablePointer<Tensor>, _ index: Int, _ scratch: UnsafeMutablePointer<Float>) {
        let begin = index * Geometry.chunkElements
        let end = min(t.pointee.geometry.count, begin + Geometry.chunkElements)
        var kernelRule = rule.kernel
        let sums = t.pointee.sumsD + index * Int(LOPT_SUMS_C)
        for slot in 0..<Int(LOPT_SUMS_C) { sums[slot] = 0 }
        kernels.sweep_d(&kernelRule, &t.pointee.view, &t.pointee.apply, Int64(begin), Int64(end), sums, scratch)
    }

    /// Of a small tensor. Its one chunk of rows may be a little more than one of sweep D, which knows no rows.
    private func wholeSweepD(_ t: UnsafeMutablePointer<Tensor>, _ scratch: UnsafeMutablePointer<Float>) {
        for index in 0..<t.pointee.geometry.flatChunks { sweepD(t, index, scratch) }
    }

    /// A step of a tensor whose gradient is 0 everywhere, with weights that rest then: the caller's decay, nothing else.
    private func rest(_ t: UnsafeMutablePointer<Tensor>, _ scratch: UnsafeMutablePointer<Float>) {
        Optimizer.count(&t.pointee.stepsIdle, 1)
        t.pointee.wasIdle = true
        t.pointee.last.gradient = 0
        t.pointee.last.dropUpdate()
        t.pointee.limit = .none
        t.pointee.apply = rule.idleApply(t.pointee, scales(t.pointee))
        if t.pointee.apply.decay_keep != 1 { wholeSweepD(t, scratch) }
    }

    /// The end of a tensor's step: counts it and keeps the sums that `statistics` reports.
    private func record(_ t: UnsafeMutablePointer<Tensor>) {
        Optimizer.count(&t.pointee.steps, 1)
        t.pointee.wasIdle = false
        guard t.pointee.geometry.count > 0 else { return }
        let b = TensorSums(t.pointee)
        t.pointee.last.gradient = b.sum(Int(LOPT_SUM_G2))
        t.pointee.last.parameter = b.sum(Int(LOPT_SUM_P2))
        t.pointee.last.nonfiniteParameters = b.sum(Int(LOPT_SUM_NONFINITE))
        keepSums(t)
        if t.pointee.limit.factor == 0 { t.pointee.last.dropUpdate() }
    }

    /// The sums of the update, from the passes that made it.
    private func keepSums(_ t: UnsafeMutablePointer<Tensor>) {
        switch rule.plan.passes {
        case .network, .meansThenNetwork:
            let sums = Work.total(t.pointee.sumsC, t.pointee.geometry.chunks)
            t.pointee.last.blackbox = sums[Int(LOPT_SUM_U2)]
            t.pointee.last.cross = sums[Int(LOPT_SUM_UW)]
            t.pointee.last.nominal = sums[Int(LOPT_SUM_W2)]
        case .simple, .meansThenSimple, .networkThenNominal:
            let sums = Work.total(t.pointee.sumsD, t.pointee.geometry.flatChunks)
            t.pointee.last.nominal = sums[Int(LOPT_SUM_W2)]
        }
    }

    private static func total(_ sums: UnsafePointer<Double>, _ chunks: Int) -> [6 of Double] {
        var total = [6 of Double](repeating: 0)
        for chunk in 0..<chunks {
            for slot in 0..<Int(LOPT_SUMS_C) { total[slot] += sums[chunk * Int(LOPT_SUMS_C) + slot] }
        }
        return total
    }
}
