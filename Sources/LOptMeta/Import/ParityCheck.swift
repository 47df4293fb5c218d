import Foundation
import LOptCore
import LOptReference

/// Steps that the authors' code took, to be taken again with converted weights: `init/NAME`, the gradients `grads/NAME`, with an axis of
/// steps before the tensor's own, and `traj/NAME`, the parameters after each step.
///
/// Where the trajectory is of f64 the rule is computed in f64 (`ReferenceOptimizer`), and to differ by more than rounding something must be
/// wrong with weights or values. The runtime takes the steps of any, in f32.
public struct ParityCheck: Sendable {
    /// f64: of the largest parameter of the tensor. Seen is 1.5e-12.
    public static let toleranceF64 = 1e-9
    /// f32: of the largest parameter of the tensor or 1. The authors' code in f32 computes 1 - beta through a difference that cancels;
    /// that alone makes 1e-5.
    public static let toleranceF32 = 2e-5

    public struct Tensor: Sendable {
        public let name: String
        public let shape: [Int]
        let start: [Double]
        /// [steps][n]
        let gradients: [Double]
        let trajectory: [Double]
        let isF64: Bool
        public var count: Int { start.count }
        public var steps: Int { count == 0 ? 0 : gradients.count / count }
    }

    /// The largest difference, and where it is.
    public struct Difference: Sendable {
        public var size = 0.0
        public var tensor = ""
        /// From 1.
        public var step = 0

        fileprivate mutating func see(_ found: [Double], _ tensor: Tensor, after step: Int, leastScale: Double) {
            let expected = tensor.trajectory[(step * tensor.count)..<((step + 1) * tensor.count)]
            let scale = expected.reduce(leastScale) { $1.isFinite ? max($0, abs($1)) : $0 }
            for (a, b) in zip(found, expected) where a.bitPattern != b.bitPattern && a != b && !(a.isNaN && b.isNaN) {
                let difference = abs(a - b) / scale
                let size = difference.isNaN ? .infinity : difference
                if size > self.size { (self.size, self.tensor, self.step) = (size, tensor.name, step + 1) }
            }
        }
    }

    public let tensors: [Tensor]
    public var steps: Int { tensors.map(\.steps).max() ?? 0 }
    public var isF64: Bool { tensors.allSatisfy(\.isF64) }

    /// - Parameter files: together have the leaves; others are passed over.
    /// - Throws: an `LOptMetaError` where they have no trajectory, or one whose shapes do not fit.
    public init(_ files: [ParameterTree]) throws {
        let leaves = Dictionary(files.flatMap(\.leaves).map { ($0.name, $0) }) { first, _ in first }
        let names = leaves.keys.filter { $0.hasPrefix("traj/") }.map { String($0.dropFirst(5)) }.sorted()
        guard !names.isEmpty else {
            throw LOptMetaError("the trajectory has no leaf traj/NAME; it needs init/NAME, grads/NAME and traj/NAME of every tensor")
        }
        tensors = try names.map { name in
            guard let start = leaves["init/\(name)"], let gradients = leaves["grads/\(name)"], let trajectory = leaves["traj/\(name)"] else {
                throw LOptMetaError("the trajectory has a leaf traj/\(name), but not both init/\(name) and grads/\(name)")
            }
            guard let steps = gradients.shape.first, steps > 0, gradients.shape == [steps] + start.shape,
                trajectory.shape == gradients.shape
            else {
                throw LOptMetaError(
                    "init/\(name) is \(start.shape), grads/\(name) \(gradients.shape), traj/\(name) \(trajectory.shape); the latter two need an axis "
                        + "of all steps before those of the first")
            }
            return Tensor(
                name: name, shape: start.shape, start: try start.values(), gradients: try gradients.values(),
                trajectory: try trajectory.values(), isF64: trajectory.type.number == .f64)
        }
    }

    /// The rule in f64, tensor after tensor.
    public func reference(_ weights: borrowing Weights) -> Difference {
        let theta = (0..<weights.architecture.metaParameters).map { Double(weights.theta[$0]) }
        let optimizer = ReferenceOptimizer<Double>(architecture: weights.architecture, theta: theta)
        var worst = Difference()
        for tensor in tensors where tensor.count > 0 {
            var p = tensor.start, state = optimizer.makeState(shape: tensor.shape)
            for step in 0..<tensor.steps {
                let gradient = Array(tensor.gradients[(step * tensor.count)..<((step + 1) * tensor.count)])
                optimizer.step(parameters: &p, gradient: gradient, state: &state, tensors: tensors.count)
                worst.see(p, tensor, after: step, leastScale: .leastNormalMagnitude)
            }
        }
        return worst
    }

    /// What the library computes.
    public func runtime(_ weights: borrowing Weights) throws -> Difference {
        var worst = Difference()
        // One after another: no number of tensors is in the rule of these weights, and those of different lengths need no rests.
        for tensor in tensors where tensor.count > 0 {
            let memory = UnsafeMutablePointer<Float>.allocate(capacity: 2 * tensor.count)
            defer { memory.deallocate() }
            for i in 0..<tensor.count { (memory + i).initialize(to: Float(tensor.start[i])) }
            (memory + tensor.count).initialize(repeating: 0, count: tensor.count)
            do throws(LOptError) {
                var options = OptimizerOptions()
                options.threads = 1
                options.nonfinite = .error
                var optimizer = try Optimizer(weights, options)
                let shape = tensor.shape.map { Int64($0) }, name = Array("p".utf8)
                try name.withUnsafeBufferPointer { name throws(LOptError) in
                    try shape.withUnsafeBufferPointer { shape throws(LOptError) in
                        _ = try optimizer.addTensor(
                            name: UnsafeRawBufferPointer(name), parameter: memory, gradient: memory + tensor.count, shape: shape)
                    }
                }
                for step in 0..<tensor.steps {
                    for i in 0..<tensor.count { memory[tensor.count + i] = Float(tensor.gradients[step * tensor.count + i]) }
                    _ = try optimizer.step()
                    worst.see((0..<tensor.count).map { Double(memory[$0]) }, tensor, after: step, leastScale: 1)
                }
            } catch {
                throw LOptMetaError("tensor '\(tensor.name)' of the trajectory: \(error)")
            }
        }
        return worst
    }
}
