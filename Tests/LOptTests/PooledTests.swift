import Foundation
import LOptReference
import Testing

@testable import LOptCore

/// Weights of kind pooled: the fused pass computes what the plain program computes.
struct PooledTests {
    static func weights(_ seed: UInt64) -> (architecture: Architecture, theta: [Float]) {
        var a = Architecture()
        a.kind = .pooled
        (a.stepMult, a.nominalStepsize, a.skipIdleTensors) = (0, 0.01, true)
        a.initialMomentumDecays = [0.6, 0.95, 0.99, 0, 0, 0, 0, 0]
        a.initialRMSDecay = 0.99
        var noise = Noise(state: seed)
        var theta = (0..<a.metaParameters).map { _ in Float(0.2 * normal(&noise)) }
        for i in 0..<4 { theta[i] *= 0.1 }
        for i in 0..<5 { theta[a.directionOffset + i] = [0.4, 0.3, 0.2, 0.1, 0.6][i] }
        for i in 0..<20 {
            let range = Architecture.defaultPooledRange(i)
            theta[a.statisticsRangesOffset + i] = Float(range.least)
            theta[a.statisticsRangesOffset + 20 + i] = Float(range.most)
        }
        return (a, theta)
    }

    @Test(arguments: [[1], [7], [5, 9], [64, 3], [40, 1000], [3, 4, 5, 6]], [Int64(0), 30])
    func kernelsFollowTheReference(shape: [Int], totalSteps: Int64) throws {
        let (architecture, theta) = PooledTests.weights(UInt64(shape.reduce(1, *)))
        let reference = ReferencePooled(architecture: architecture, theta: theta.map(Double.init))
        let count = shape.reduce(1, *)
        var noise = Noise(state: 5)
        let start = (0..<count).map { _ in Float(normal(&noise)) }
        let p = UnsafeMutablePointer<Float>.allocate(capacity: count), g = UnsafeMutablePointer<Float>.allocate(capacity: count)
        defer { p.deallocate(); g.deallocate() }
        for i in 0..<count { p[i] = start[i] }
        let weights = try theta.withUnsafeBufferPointer { try Weights(architecture: architecture, theta: $0, allocator: .system) }
        var options = OptimizerOptions()
        (options.threads, options.totalSteps) = (2, totalSteps)
        var optimizer = try Optimizer(weights, options)
        try "tensor".withCString { name in
            try shape.map(Int64.init).withUnsafeBufferPointer {
                _ = try optimizer.addTensor(name: UnsafeRawBufferPointer(start: name, count: 6), parameter: p, gradient: g, shape: $0)
            }
        }
        var state = ReferencePooled.State(shape: shape)
        var expected = start.map(Double.init)
        for step in 0..<40 {
            // Gradients that persist, vanish for a while, and are 0 for one step.
            let size: Float = step == 20 ? 0 : (25..<30).contains(step) ? 1e-4 : 1
            for i in 0..<count { g[i] = size * (Float(normal(&noise)) + 0.3 * p[i]) }
            let before = expected
            reference.step(
                parameters: &expected, gradient: (0..<count).map { Double(g[$0]) }, state: &state,
                totalSteps: Int(totalSteps))
            _ = try optimizer.step()
            let moved = zip(expected, before).map { abs($0 - $1) }.max() ?? 0
            for i in 0..<count {
                // The rounding of p, and a part of the largest update.
                #expect(abs(Double(p[i]) - expected[i]) <= 1e-6 * abs(expected[i]) + 2e-4 * moved, "step \(step), element \(i)")
                expected[i] = Double(p[i])
            }
        }
        #expect(state.t == 39)
    }

    @Test func theUnitOfTheGradientsDoesNotMatter() throws {
        let plain = try PooledTests.train(unit: 1)
        for unit: Float in [1e-9, 1e-4, 1e4, 1e9] {
            let other = try PooledTests.train(unit: unit)
            for (a, b) in zip(plain, other) { #expect(abs(a - b) <= 1e-4 * (1 + abs(a)), "unit \(unit)") }
        }
    }

    /// 100 noisy steps on a bowl whose loss is `unit` times as large.
    static func train(unit: Float) throws -> [Float] {
        let (architecture, theta) = weights(3)
        let count = 96
        let p = UnsafeMutablePointer<Float>.allocate(capacity: count), g = UnsafeMutablePointer<Float>.allocate(capacity: count)
        defer { p.deallocate(); g.deallocate() }
        var noise = Noise(state: 9)
        for i in 0..<count { p[i] = Float(normal(&noise)) }
        let weights = try theta.withUnsafeBufferPointer { try Weights(architecture: architecture, theta: $0, allocator: .system) }
        var optimizer = try Optimizer(weights, OptimizerOptions())
        try "t".withCString { name in
            try [Int64(8), 12].withUnsafeBufferPointer {
                _ = try optimizer.addTensor(name: UnsafeRawBufferPointer(start: name, count: 1), parameter: p, gradient: g, shape: $0)
            }
        }
        for _ in 0..<100 {
            for i in 0..<count { g[i] = unit * (p[i] + 0.3 * Float(normal(&noise))) }
            _ = try optimizer.step()
        }
        return (0..<count).map { p[$0] }
    }
}

private func normal(_ noise: inout Noise) -> Double {
    (-2 * log(Double.random(in: Double.leastNonzeroMagnitude..<1, using: &noise))).squareRoot()
        * cos(2 * Double.pi * Double.random(in: 0..<1, using: &noise))
}
