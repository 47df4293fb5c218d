import CLOptShims

/// The phases of a step over a range of tensors. Each is cut into items that any worker may take; a phase begins when the
/// one before has ended, because a pass needs the sums of the pass before it over the whole tensor.
enum Phase {
    /// What is not f32 is copied, see Elements.swift.
    case takeIn
    /// The gradient pass: sums of g^2, and whether all gradients are finite. Writes no state.
    case look
    /// One item for each tensor. A small one: all the rest, while it is in cache. An idle one: the caller's decay. A large one:
    /// what the first pass needs.
    case open
    /// The rest is for large tensors. A pass of the plan, chunk by chunk; then, one item for each tensor, what follows from it.
    case pass(Int)
    case settle(Int)
    /// At the end, the parameters go into their averages, and to callers who have them in another type.
    case finish
}

/// All that the items of a phase look at. A kilobyte, which no call is to copy.
struct Work: ~Copyable {
    let tensors: UnsafeMutablePointer<Tensor>
    let rule: Rule
    let kernels: lopt_kernels
    let scratch: UnsafeMutablePointer<Float>
    let scratchStride: Int
    let learningRateScale: Double
    let weightDecay: Double
    let weightDecayForm: WeightDecayForm
    let weightDecayTensors: WeightDecayTensors
    let maxUpdateRatio: Double
    let learnedDecayScale: Double
    let average: ParameterAverage
    let isInline: Bool
    let hasOtherTypes: Bool
    /// Of the first tensor's step; most often all tensors are at the same.
    let constants: StepConstants
    /// The number of the first item of each tensor of the range.
    let starts: UnsafeMutablePointer<Int>
    /// Of the optimizer, not of the range.
    let tensorCount: Int
    let shape: NetworkShape
    /// Steps the training will take; 0: not known.
    let totalSteps: Int64
    var range = 0..<0
    var phase = Phase.look
    /// The number of an item is that of its tensor in the range: each has one, as in most phases of small tensors.
    var isOneEach = false

    private var isFinished: Bool { average.kind != .none || hasOtherTypes }

    static let batchElements = 8 * Geometry.chunkElements

    /// The phases after the gradient pass.
    mutating func stepBatch(_ range: Range<Int>, on pool: borrowing ThreadPool) {
        run(.open, range, on: pool)
        guard range.contains(where: { !tensors[$0].isSmall }) else { return }
        for i in 0..<rule.plan.passes.count {
            run(.pass(i), range, on: pool)
            run(.settle(i), range, on: pool)
        }
        if isFinished { run(.finish, range, on: pool) }
    }

    /// The same for a small tensor.
    private func stepWhole(_ t: UnsafeMutablePointer<Tensor>, _ scratch: UnsafeMutablePointer<Float>) {
        for i in 0..<rule.plan.passes.count {
            for chunk in 0..<chunks(i, t) { execute(i, t, chunk, scratch) }
            settle(i, t)
        }
        // One chunk of rows may have more elements than one of them has.
        for chunk in 0..<(isFinished ? t.pointee.geometry.flatChunks : 0) { finish(t, chunk) }
    }

    private func items(_ t: UnsafeMutablePointer<Tensor>) -> Int {
        if case .takeIn = phase { return t.pointee.isPassedOver || t.pointee.memory.types.areF32 ? 0 : t.pointee.geometry.flatChunks }
        if case .look = phase { return t.pointee.isPassedOver ? 0 : t.pointee.geometry.sumChunks }
        if t.pointee.step.isSkipped { return 0 }
        if case .open = phase { return 1 }
        if t.pointee.isSmall || t.pointee.step.isIdle { return 0 }
        if case .pass(let pass) = phase { return chunks(pass, t) }
        if case .finish = phase { return t.pointee.geometry.flatChunks }
        return 1
    }

    @inline(never)
    mutating func run(_ phase: Phase, _ range: Range<Int>, on pool: borrowing ThreadPool) {
        self.phase = phase
        self.range = range
        var total = 0
        isOneEach = true
        for i in range {
            starts[i - range.lowerBound] = total
            let own = items(tensors + i)
            if own != 1 { isOneEach = false }
            total += own
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
        if isOneEach { return perform(tensors + range.lowerBound + item, 0, scratch + worker * scratchStride) }
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
        case .takeIn:
            t.pointee.memory.takeInParameters(t.pointee.geometry.flatChunk(item))
            t.pointee.memory.takeInGradient(t.pointee.geometry.flatChunk(item))
        case .look: look(t, item, scratch)
        case .open: open(t, scratch)
        case .pass(let pass): execute(pass, t, item, scratch)
        case .settle(let pass): settle(pass, t)
        case .finish: finish(t, item)
        }
    }

    private func look(_ t: UnsafeMutablePointer<Tensor>, _ index: Int, _ scratch: UnsafeMutablePointer<Float>) {
        if t.pointee.geometry.isFactored {
            var chunk = t.pointee.geometry.sumChunk(index)
            t.pointee.memory.largest[index] = kernels.gradient_pass(&t.pointee.memory.view, &chunk, scratch)
        } else {
            let elements = t.pointee.geometry.flatChunk(index)
            t.pointee.memory.largest[index] = kernels.largest_magnitude(
                &t.pointee.memory.view, Int64(elements.lowerBound), Int64(elements.upperBound), t.pointee.memory.momentSums + index)
        }
    }

    private func open(_ t: UnsafeMutablePointer<Tensor>, _ scratch: UnsafeMutablePointer<Float>) {
        if t.pointee.step.isIdle { return rest(t, scratch) }
        if t.pointee.elements == 0 { return record(t) }
        t.pointee.step.limit = 1
        prepare(0, t)
        if t.pointee.isSmall { stepWhole(t, scratch) }
    }

    /// A step of a tensor whose gradient is 0 everywhere, with weights that rest then: the caller's decay, nothing else.
    private func rest(_ t: UnsafeMutablePointer<Tensor>, _ scratch: UnsafeMutablePointer<Float>) {
        Optimizer.count(&t.pointee.report.stepsIdle, 1)
        t.pointee.report.wasIdle = true
        t.pointee.report.sums.gradient = 0
        t.pointee.report.sums.dropUpdate()
        t.pointee.step.apply = rule.idleApply(t.pointee, scales(t))
        guard t.pointee.step.apply.decay_keep != 1 else { return }
        for index in 0..<t.pointee.geometry.flatChunks { elementPass(t, index, scratch) }
        t.pointee.memory.putOutParameters(0..<t.pointee.geometry.count)
    }

    /// Of a chunk of the tensor; its steps are already counted.
    @inline(never)
    private func finish(_ t: UnsafeMutablePointer<Tensor>, _ index: Int) {
        let elements = t.pointee.geometry.flatChunk(index), begin = elements.lowerBound, end = elements.upperBound
        t.pointee.memory.putOutParameters(elements)
        guard let a = t.pointee.memory.average, let p = t.pointee.memory.view.parameter else { return }
        let rate = average.rate(t.pointee.progress.averaged - 1)
        if rate == 1 { return lopt_system_copy(a + begin, p + begin, 4 * (end - begin)) }
        kernels.average(p + begin, a + begin, Int64(end - begin), rate)
    }

    /// The end of a step.
    func record(_ t: UnsafeMutablePointer<Tensor>) {
        Optimizer.count(&t.pointee.progress.steps, 1)
        if average.kind != .none { Optimizer.count(&t.pointee.progress.averaged, 1) }
        t.pointee.report.wasIdle = false
        if t.pointee.step.limit == 0 { t.pointee.report.sums.dropUpdate() }
    }
}
