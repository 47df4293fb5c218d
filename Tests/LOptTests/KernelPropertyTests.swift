import Testing

@testable import LOptCore
import LOptReference

/// What must hold whatever the weights compute.
@Suite struct KernelPropertyTests {
    static let shapes: [[Int]] = [[70_000], [300, 300], [5000, 10], [64, 64, 3, 3], [40, 30, 50], [17], [33, 47]]

    /// The parameters after some steps, as bits.
    private func bits(
        _ a: Architecture, _ shapes: [[Int]], isa: InstructionSet = .avx512, threads: Int, steps: Int = 3
    ) throws -> [[UInt32]] {
        let run = try FusedRun(a, theta: KernelReferenceTests.theta(a, seed: 3), isa: isa, threads: threads)
        for (i, shape) in shapes.enumerated() {
            let initial = noise(shape.reduce(1, *), seed: UInt64(shape.count * 1000 + shape.reduce(0, +)))
            try run.add("t\(i)", shape: shape, initial: initial)
        }
        for step in 0..<steps {
            for (i, shape) in shapes.enumerated() {
                let seed = UInt64(shape.reduce(7, +) + step)
                run.setGradient(i, noise(shape.reduce(1, *), seed: seed).map { Float($0) })
            }
            try run.step()
        }
        return shapes.indices.map { run.parameters($0).map(\.bitPattern) }
    }

    private static var rules: [Architecture] {
        var aggregated = KernelReferenceTests.star
        aggregated.aggregateNominalMagnitude = true
        aggregated.tensorScale = true
        var wide = KernelReferenceTests.star
        wide.hiddenSize = 40
        wide.hiddenLayers = 1
        var all = KernelReferenceTests.star
        all.aggregateMagnitude = true
        return [KernelReferenceTests.star, aggregated, all, wide]
    }

    @Test(arguments: 0..<4)
    func `the number of threads changes no bit`(_ rule: Int) throws {
        let a = Self.rules[rule]
        for isa in FusedRun.instructionSets {
            let one = try bits(a, Self.shapes, isa: isa, threads: 1)
            for threads in [2, 3, 5, 8] {
                #expect(try bits(a, Self.shapes, isa: isa, threads: threads) == one, "\(isa), \(threads) threads")
            }
        }
    }

    @Test(.enabled(if: InstructionSet.available == .avx512), arguments: 0..<3)
    func `AVX2 and AVX-512 give the same bits`(_ rule: Int) throws {
        for width in [4, 8, 16, 32] {
            var a = Self.rules[rule]
            a.hiddenSize = width
            let narrow = try bits(a, Self.shapes, isa: .avx2, threads: 2)
            #expect(try bits(a, Self.shapes, isa: .avx512, threads: 2) == narrow, "width \(width)")
        }
    }

    @Test func `the order of the tensors changes no bit`() throws {
        let a = KernelReferenceTests.star
        let there = try bits(a, Self.shapes, threads: 2)
        let back = try bits(a, Self.shapes.reversed(), threads: 2)
        #expect(there == back.reversed())
    }

    @Test(arguments: [[64, 64], [33, 47], [47, 33], [300, 9], [9, 300]])
    func `a matrix and its transpose make the same step`(_ shape: [Int]) throws {
        // Not the same bits: row and column sums are taken in other orders. For a square matrix the rule's rows are the
        // other axis of the transpose (ties go to the later axis), and rows and columns have weights of their own: their
        // rows of w0 are made equal here, so that the exchange shows nothing else.
        var a = KernelReferenceTests.star
        a.hiddenLayers = 1
        var theta = KernelReferenceTests.theta(a, seed: 5)
        let w0 = a.weightOffset(0), width = a.hiddenSize
        if shape[0] == shape[1] {
            for feature in [13, 14, 15, 19, 20, 21] {
                for j in 0..<width { theta[w0 + (feature + 3) * width + j] = theta[w0 + feature * width + j] }
            }
        }
        let rows = shape[0], columns = shape[1]
        func transposed<T>(_ x: [T]) -> [T] {
            (0..<(rows * columns)).map { x[$0 % rows * columns + $0 / rows] }
        }
        let run = try FusedRun(a, theta: theta), other = try FusedRun(a, theta: theta)
        let initial = noise(rows * columns, seed: 1)
        try run.add("w", shape: shape, initial: initial)
        try other.add("w", shape: [columns, rows], initial: transposed(initial))
        for step in 0..<4 {
            let gradient = noise(rows * columns, seed: UInt64(20 + step)).map { Float($0) }
            run.setGradient(0, gradient)
            other.setGradient(0, transposed(gradient))
            try run.step()
            try other.step()
        }
        let difference = updateDifference(
            other.parameters(0), transposed(run.parameters(0)).map(Double.init), from: transposed(initial), steps: 4)
        #expect(difference <= updateTolerance)
    }

    @Test func `a tensor without gradients stays finite and, once its momenta are gone, where it is`() throws {
        var a = KernelReferenceTests.star
        a.stepMult = 0
        a.weightDecay = 0
        a.nominalEpsilon = 1e-12
        for shape in [[130], [33, 47]] {
            let count = shape.reduce(1, *)
            let run = try FusedRun(a, theta: KernelReferenceTests.theta(a, seed: 6))
            try run.add("idle", shape: shape, initial: noise(count, seed: 1))
            let start = run.parameters(0)
            for _ in 0..<500 { try run.step() }
            #expect(run.parameters(0) == start, "never a gradient: no step at all")
            run.setGradient(0, noise(count, seed: 2).map { Float($0) })
            try run.step()
            run.setGradient(0, [Float](repeating: 0, count: count))
            for _ in 0..<30_000 { try run.step() }
            let later = run.parameters(0)
            try run.step()
            #expect(run.parameters(0) == later)
            #expect(later.allSatisfy { $0.isFinite })
        }
    }
}
