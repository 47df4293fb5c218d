import CLOptShims

/// What a step did.
public enum StepOutcome: Sendable {
    case done
    /// Gradients of `tensors` tensors were not finite, the first of them `first`; they were skipped, or all were. -1: it is that of
    /// another optimizer, which shares a tensor with this one.
    case skipped(first: Int, tensors: Int)
}

extension Optimizer {
    /// One step of every tensor that is not frozen. `hostFloat` is the floating-point environment for the caller's parallel-for,
    /// if it is not the present one.
    public mutating func step(hostFloat: UInt64? = nil) throws(LOptError) -> StepOutcome {
        guard count > 0 else { throw LOptError(.invalidArgument, "no tensor has been added") }
        return try step(0..<count, isWhole: true, hostFloat)
    }

    /// One step of one tensor.
    public mutating func step(_ index: Int, hostFloat: UInt64? = nil) throws(LOptError) -> StepOutcome {
        try checkIndex(index)
        guard options.maxGradientNorm == 0 else { throw Optimizer.noNorm() }
        return try step(index..<(index + 1), isWhole: false, hostFloat)
    }

    static func noNorm() -> LOptError {
        LOptError(
            .invalidArgument, "max_gradient_norm needs all gradients at once: lopt_step. By parts, lopt_set_gradient_scale clips")
    }

    @inline(never)
    private static func noSameNorm() -> LOptError {
        LOptError(
            .mismatch, "max_gradient_norm needs gradients that are the same on all parts, but of tensors that they share; they differ")
    }

    private mutating func step(_ range: Range<Int>, isWhole: Bool, _ hostFloat: UInt64?) throws(LOptError) -> StepOutcome {
        _ = try checkReady(range, .step)
        let floatState = enterFloat(hostFloat)
        rule.holdBLAS()
        defer {
            rule.releaseBLAS()
            lopt_system_restore_float(floatState)
        }
        var work = look(range)
        let found = try exchangeGradients(range, .step)
        let outcome = judge(range, isBadElsewhere: found.isBadElsewhere)
        if case .skipped(let first, _) = outcome {
            if options.nonfinite == .error { throw LOptError(.nonfinite, nonfiniteMessage(first)) }
            if options.nonfinite == .skipStep {
                countSkipped(range)
                return outcome
            }
        }
        guard found.isNormTheSame else { throw Optimizer.noSameNorm() }
        let before = (gradientNorm, stepsClipped)
        if options.maxGradientNorm > 0 { clip(range) }
        try measureFirstSteps(&work, range, before)
        if case .skipped = outcome { countSkipped(range) }
        noteStep(range, isWhole: isWhole)
        // Batches are so large that waiting at their end costs little, and so small that a batch stays in cache.
        var begin = range.lowerBound
        while begin < range.upperBound {
            var end = begin, elements = 0
            while end < range.upperBound && (end == begin || elements < Work.batchElements) {
                elements += tensors[end].geometry.count
                end += 1
            }
            work.stepBatch(begin..<end, on: pool)
            begin = end
        }
        return outcome
    }

    /// Of one tensor, or of all with nil, that a step would take: how many elements are not finite, and the sum of the squares as the
    /// step would see them, infinite if there are any. Changes nothing.
    public mutating func inspectGradients(
        _ index: Int?, hostFloat: UInt64? = nil
    ) throws(LOptError) -> (nonfinite: Int64, squares: Double) {
        if let index { try checkIndex(index) }
        let range = index.map { $0..<($0 + 1) } ?? 0..<count
        _ = try checkReady(range, .inspection)
        guard !range.isEmpty else { return (0, 0) }
        let floatState = enterFloat(hostFloat)
        defer { lopt_system_restore_float(floatState) }
        _ = look(range)
        _ = try exchangeGradients(range, .inspection)
        var nonfinite: Int64 = 0, squares = 0.0
        for i in range where !tensors[i].isPassedOver {
            if tensors[i].largestGradient > Optimizer.largestGradientBits { nonfinite += nonfiniteElements(i) }
            squares += Optimizer.gradientSquares(tensors + i)
        }
        return (nonfinite, nonfinite > 0 ? .infinity : squares)
    }

    /// The floating-point environment of a step; returns that of before.
    private mutating func enterFloat(_ hostFloat: UInt64?) -> UInt64 {
        let floatState = lopt_system_enter_float()
        pool.hostFloat = hostFloat ?? floatState
        return floatState
    }

    /// The gradient pass over these tensors; the rest of a step goes on from there.
    @inline(never)
    private mutating func look(_ range: Range<Int>) -> Work {
        var elements = 0
        for i in range {
            elements += tensors[i].geometry.count
            tensors[i].memory.view.gradient_scale = Float(gradientScale)
            tensors[i].memory.view.partial_scale = 1
        }
        if architecture.kind == .pooled {
            rule.time.pointee = rule.pooledTime(tensors[range.lowerBound].progress.steps, totalSteps: totalSteps)
        }
        var work = Work(
            tensors: tensors, rule: rule, kernels: kernels, scratch: scratch, scratchStride: scratchStride,
            learningRateScale: learningRateScale, weightDecay: weightDecay, weightDecayForm: weightDecayForm,
            weightDecayTensors: weightDecayTensors,
            maxUpdateRatio: options.maxUpdateRatio, learnedDecayScale: options.learnedDecayScale, average: options.average,
            isInline: elements < options.leastParallelElements, hasOtherTypes: hasOtherTypes,
            constants: rule.constants(step: tensors[range.lowerBound].progress.steps, tensors: count), starts: starts,
            tensorCount: count, shape: shape, totalSteps: totalSteps)
        if hasOtherTypes { work.run(.takeIn, range, on: pool) }
        work.run(.look, range, on: pool)
        return work
    }

    /// For `statistics`: a step of the whole is a step by itself. Steps of single tensors are one step together, until one
    /// comes for the second time.
    private mutating func noteStep(_ range: Range<Int>, isWhole: Bool) {
        let first = tensors[range.lowerBound]
        if !isWhole && first.step.isSkipped { return }
        if isWhole || lastStepIsWhole || first.report.lastStep == lastStep { lastStep += 1 }
        lastStepIsWhole = isWhole
        for i in range where !tensors[i].step.isSkipped { tensors[i].report.lastStep = lastStep }
    }

    /// Looks at what the gradient pass found, before any state is written; marks what is to be skipped.
    private mutating func judge(_ range: Range<Int>, isBadElsewhere: Bool) -> StepOutcome {
        var first = -1, bad = 0
        for i in range {
            tensors[i].step.isSkipped = tensors[i].isPassedOver
            guard !tensors[i].step.isSkipped else { continue }
            let largest = tensors[i].largestGradient
            tensors[i].step.isIdle = rule.architecture.skipIdleTensors && tensors[i].elements > 0
                && largest < Optimizer.leastGradientBits
            guard largest > Optimizer.largestGradientBits else { continue }
            if first < 0 { first = i }
            bad += 1
            tensors[i].step.isSkipped = true
        }
        guard bad > 0 || isBadElsewhere && options.nonfinite != .skipTensor else { return .done }
        return .skipped(first: first, tensors: bad)
    }

    /// What is skipped, of a step that can no longer fail.
    private mutating func countSkipped(_ range: Range<Int>) {
        for i in range where !tensors[i].isPassedOver {
            if tensors[i].step.isSkipped { Optimizer.count(&tensors[i].progress.nonfinite, nonfiniteElements(i)) }
            if tensors[i].step.isSkipped || options.nonfinite == .skipStep { Optimizer.count(&tensors[i].progress.stepsSkipped, 1) }
        }
    }

    /// Adds to a counter, which stays at what a checkpoint may hold.
    static func count(_ counter: inout Int64, _ more: Int64) { counter = min(counter + more, largestCount) }

    /// Bits of 2^50, the largest magnitude a gradient may have: its square and sums of squares fit f32.
    static let largestGradientBits = Float(0x1p50).bitPattern
    /// Below it a gradient is 0 or a denormal number, which counts as 0.
    static let leastGradientBits = Float.leastNormalMagnitude.bitPattern

    /// An element as the rule sees it.
    private func scaled(_ element: Float) -> Float { element * Float(gradientScale) }

    private func isNonfinite(_ g: Float) -> Bool { g.bitPattern & 0x7fff_ffff > Optimizer.largestGradientBits }

    /// Of the whole tensor.
    private func nonfiniteElements(_ i: Int) -> Int64 { tensors[i].memory.shared?.pointee.nonfinite ?? countNonfinite(i) }

    @inline(never)
    func countNonfinite(_ i: Int) -> Int64 {
        let t = tensors[i]
        guard let gradient = t.memory.view.gradient else { return 0 }
        var count: Int64 = 0
        for i in 0..<t.geometry.count {
            if isNonfinite(scaled(lopt_load1(gradient + i))) { count += 1 }
        }
        return count
    }

    /// Names the first element of the tensor's gradient that is not finite.
    public func nonfiniteMessage(_ index: Int) -> Message {
        guard index >= 0 else { return "a gradient of another part is not finite" }
        let t = tensors[index], first = t.memory.shared.map { $0.pointee.own.lowerBound * $0.pointee.division.rowElements } ?? 0
        for i in 0..<t.geometry.count {
            guard let gradient = t.memory.view.gradient else { break }
            let value = scaled(lopt_load1(gradient + i))
            guard isNonfinite(value) else { continue }
            return gradientScale == 1
                ? "gradient of tensor '\(t.identity.name)' has \(Double(value)) at element \(first + i); allowed is up to 2^50"
                : "gradient of tensor '\(t.identity.name)' has \(Double(value)), gradient_scale included, at element \(first + i); allowed is up to 2^50"
        }
        return t.memory.shared == nil
            ? "gradient of tensor '\(t.identity.name)' is not finite" : "gradient of tensor '\(t.identity.name)' is not finite in rows of another part"
    }
}
