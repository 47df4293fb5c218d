import LOptMeta

@testable import LOptCore

/// An optimizer with fused kernels and the memory of its tensors, for comparison with the reference.
final class FusedRun {
    private(set) var optimizer: Optimizer
    private var parameters: [UnsafeMutableBufferPointer<Float>] = []
    private var gradients: [UnsafeMutableBufferPointer<Float>] = []

    /// - Parameter theta: rounded to f32, as weights files hold it.
    init(
        _ architecture: Architecture, theta: [Double], isa: InstructionSet = .avx512, threads: Int = 1,
        configure: (inout OptimizerOptions) -> Void = { _ in }
    ) throws {
        var options = OptimizerOptions()
        options.maximumISA = isa
        options.threads = threads
        // Tests are small; the threads are to be used all the same.
        options.leastParallelElements = 0
        configure(&options)
        let weights = try Weights(
            architecture: architecture.kind == .smallFC ? architecture.withoutStar : architecture, theta: theta.map { Float($0) })
        optimizer = try Optimizer(weights, options)
    }

    deinit {
        for buffer in parameters + gradients { buffer.deallocate() }
    }

    /// The instruction sets that can run here.
    static var instructionSets: [InstructionSet] {
        [.baseline, .avx2, .avx512].filter { $0 <= InstructionSet.available }
    }

    @discardableResult
    func add(_ name: String, shape: [Int], initial: [Double]) throws -> Int {
        let p = UnsafeMutableBufferPointer<Float>.allocate(capacity: initial.count)
        let g = UnsafeMutableBufferPointer<Float>.allocate(capacity: initial.count)
        _ = p.initialize(from: initial.map { Float($0) })
        g.initialize(repeating: 0)
        parameters.append(p)
        gradients.append(g)
        let extents = UnsafeMutableBufferPointer<Int64>.allocate(capacity: shape.count)
        defer { extents.deallocate() }
        _ = extents.initialize(from: shape.map { Int64($0) })
        let bytes = UnsafeMutableRawBufferPointer.allocate(byteCount: name.utf8.count, alignment: 1)
        defer { bytes.deallocate() }
        bytes.copyBytes(from: Array(name.utf8))
        return try optimizer.addTensor(
            name: UnsafeRawBufferPointer(bytes), parameter: p.baseAddress, gradient: g.baseAddress.map { UnsafePointer($0) },
            shape: UnsafeBufferPointer(extents))
    }

    func parameters(_ tensor: Int) -> [Float] { Array(parameters[tensor]) }

    func setParameters(_ tensor: Int, _ values: [Float]) {
        precondition(values.count == parameters[tensor].count)
        for i in values.indices { parameters[tensor][i] = values[i] }
    }

    func setGradient(_ tensor: Int, _ values: [Float]) {
        precondition(values.count == gradients[tensor].count)
        for i in values.indices { gradients[tensor][i] = values[i] }
    }

    @discardableResult
    func step() throws -> StepOutcome { try optimizer.step() }

    func step(_ tensor: Int) throws { _ = try optimizer.step(tensor) }

    func setTotalSteps(_ steps: Int64) throws { try optimizer.setTotalSteps(steps) }
}

extension Architecture {
    /// The values that small_fc has, those of STAR alone at their defaults, as a small_fc file gives them.
    var withoutStar: Architecture {
        var a = Architecture()
        a.kind = .smallFC
        a.hiddenSize = hiddenSize
        a.hiddenLayers = hiddenLayers
        a.momenta = momenta
        a.initialMomentumDecays = initialMomentumDecays
        a.initialRMSDecay = initialRMSDecay
        a.initialAdafactorDecays = initialAdafactorDecays
        a.expMult[0] = expMult[0]
        a.stepMult = stepMult
        return a
    }
}
