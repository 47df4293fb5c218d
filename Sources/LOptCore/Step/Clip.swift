import CLOptShims

// Clipping by the norm of all gradients together (Pascanu, Mikolov and Bengio, 2013): a factor on what the passes after the
// gradient pass read, and its square on the sums that this one has taken.

extension Optimizer {
    /// Of the tensors that take this step.
    mutating func clip(_ range: Range<Int>) {
        var squares = 0.0
        for i in range where !tensors[i].step.isSkipped { squares += Optimizer.gradientSquares(tensors + i) }
        gradientNorm = squares.squareRoot()
        guard gradientNorm > options.maxGradientNorm else { return }
        let factor = options.maxGradientNorm / gradientNorm
        Optimizer.count(&stepsClipped, 1)
        for i in range where !tensors[i].step.isSkipped {
            let scale = Float(gradientScale * factor)
            tensors[i].memory.view.gradient_scale = scale
            tensors[i].memory.view.partial_scale = factor * factor
            // So small that f32 takes all of it for 0.
            let largest = Float(bitPattern: tensors[i].largestGradient) * Float(factor)
            if rule.architecture.skipIdleTensors, min(largest, abs(scale)) < Float.leastNormalMagnitude {
                tensors[i].step.isIdle = tensors[i].elements > 0
            }
        }
    }

    /// The sum of g^2 before clipping, from what the gradient pass has left.
    static func gradientSquares(_ t: UnsafePointer<Tensor>) -> Double { t.pointee.memory.shared?.pointee.squares ?? ownGradientSquares(t) }

    /// The same of the rows that are here.
    static func ownGradientSquares(_ t: UnsafePointer<Tensor>) -> Double {
        var sum = 0.0
        if t.pointee.geometry.isFactored {
            let count = t.pointee.geometry.sums.columnChunks * t.pointee.geometry.leadCount
            for i in 0..<count { sum += Double(t.pointee.memory.view.lead_partial[i]) }
        } else {
            for chunk in 0..<t.pointee.geometry.sumChunks { sum += t.pointee.memory.momentSums[chunk] }
        }
        return sum
    }
}
