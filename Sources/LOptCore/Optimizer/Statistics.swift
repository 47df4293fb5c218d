import CLOptShims

/// What the last step did to a tensor, or to all of them; sizes are root mean squares over the elements.
public struct Statistics: Sendable {
    /// Steps taken; of several tensors the largest.
    public var steps: Int64 = 0
    public var stepsSkipped: Int64 = 0
    /// Gradient elements seen that were not finite.
    public var nonfinite: Int64 = 0
    public var gradientRMS = 0.0
    /// Of the change of the parameters, weight decay not counted.
    public var updateRMS = 0.0
    /// Before the step, elements that are not finite left out of the sum.
    public var parameterRMS = 0.0
    /// Elements of the parameters that were not finite before the step.
    public var nonfiniteParameters: Int64 = 0
    /// Of one tensor: what its weights chose in the last step that was not idle, the learning-rate scales included; of several 0.
    public var stepSize = 0.0
    /// Steps in which the gradient was 0 everywhere and the tensor rested; of several tensors their sum.
    public var stepsIdle: Int64 = 0
    /// RMS(blackbox) / (RMS(blackbox) + RMS(nominal)); 0 before the first step.
    public var blackboxShare = 0.0
    /// Updates that `maxUpdateRatio` made smaller.
    public var updatesLimited: Int64 = 0
    /// Of all tensors together, see `Optimizer.clip`.
    public var gradientNorm = 0.0
    public var stepsClipped: Int64 = 0
}

extension Optimizer {
    /// Of one tensor, or of all with nil.
    public func statistics(_ index: Int?) throws(LOptError) -> Statistics {
        if let index { try checkIndex(index) }
        var result = Statistics()
        var sums = StepSums()
        var elements = 0
        (result.gradientNorm, result.stepsClipped) = (gradientNorm, stepsClipped)
        for i in index.map({ $0..<($0 + 1) }) ?? 0..<count {
            result.steps = max(result.steps, tensors[i].progress.steps)
            result.stepsSkipped = max(result.stepsSkipped, tensors[i].progress.stepsSkipped)
            result.nonfinite += tensors[i].progress.nonfinite
            result.updatesLimited += tensors[i].report.updatesLimited
            result.stepsIdle += tensors[i].report.stepsIdle
            if index == nil, tensors[i].report.lastStep != lastStep || tensors[i].report.wasIdle { continue }
            sums = sums + tensors[i].report.sums
            elements += tensors[i].geometry.count
        }
        if let index {
            result.stepSize = tensors[index].progress.stepSize * tensors[index].options.learningRate(learningRateScale)
        }
        result.nonfiniteParameters = Int64(sums.nonfiniteParameters)
        guard elements > 0 else { return result }
        func rms(_ sum: Double) -> Double { (max(sum, 0) / Double(elements)).squareRoot() }
        result.gradientRMS = rms(sums.gradient)
        result.parameterRMS = rms(sums.parameter)
        result.updateRMS = rms(sums.update)
        let both = rms(sums.blackbox) + rms(sums.nominal)
        if both > 0 { result.blackboxShare = rms(sums.blackbox) / both }
        return result
    }

    /// Threads a step may use, the calling one included.
    public var threads: Int { pool.usable }

    /// The system's reason why a step uses fewer threads than were asked for; 0 if it does not.
    public var threadRefusal: Int32 { pool.refusal }

    /// What to say of that, if anything.
    public func threadRefusalMessage() -> Message? {
        guard pool.refusal != 0 else { return nil }
        let reason = LOptError.reason(pool.refusal)
        return "the system gives no more threads (\(reason)): a step uses \(threads), not \(pool.workers)"
    }

    /// What to say of an optimizer that has one large vector and nothing else, if it has.
    public func flatVectorMessage() -> Message? {
        guard count == 1, tensors[0].identity.extentsAboveOne < 2, parameters > Optimizer.mostOfOneVector else { return nil }
        return "there is one tensor, a vector of \(parameters) elements: a network trains better with each of its tensors (lopt_add_flat)"
    }

    private static let mostOfOneVector = 10_000

    /// Bytes of accumulators.
    public var stateBytes: Int {
        var bytes = 0
        for i in 0..<count { bytes += tensors[i].stateBytes(momenta: rule.architecture.momenta) }
        return bytes
    }

    /// All bytes allocated.
    public var memoryBytes: Int {
        var bytes = rule.memoryBytes + pool.memoryBytes + Allocator.bytes(Float.self, pool.workers * scratchStride)
            + Allocator.bytes(Tensor.self, capacity) + Allocator.bytes(Int.self, capacity)
            + (exchange == nil ? 0 : Allocator.bytes(Double.self, exchangeBytes / 8))
        for i in 0..<count { bytes += tensors[i].memory.bytes }
        return bytes
    }

    public var architecture: Architecture { rule.architecture }

    /// The weights know their horizon.
    public var usesTotalSteps: Bool { rule.architecture.usesTotalSteps(rule.theta) }

    /// The network is wide enough for OpenBLAS, which could not be loaded.
    public var lacksBLAS: Bool {
        #if LOPT_NO_BLAS
        false
        #else
        Rule.wantsBLAS(rule.architecture) && !rule.usesBLAS
        #endif
    }

    /// How the network is evaluated for each element: "fused" (a width of 4, 8, 16 or 32), "blas" or "general"; "none" where
    /// its outputs depend on the step alone, or are not used.
    public var kernelName: StaticString {
        guard rule.plan.usesNetwork else { return "none" }
        return switch Int(rule.kernel.path) {
        case LOPT_PATH_BLAS: "blas"
        case LOPT_PATH_ANY_WIDTH: "general"
        default: "fused"
        }
    }
}
