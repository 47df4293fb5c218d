import Foundation
import LOptCore
import LOptMeta

/// 1/2 sum_i h_i (x_i - xi_i)^2, from x = 1, with xi uniform in -noise ... noise; the loss is not finite from step
/// `breaksAt` on.
struct Bowl: TrainingTask {
    var name = "bowl"
    var curvatures: [Float] = [1, 0.1]
    var noise = 0.0
    var breaksAt = Int.max
    var hasHeldOutLoss = true
    var tensors: [TensorSpec] { [TensorSpec("x", [curvatures.count])] }

    func initialize(_ parameters: UnsafeMutablePointer<Float>, seed: UInt64) {
        for i in curvatures.indices { parameters[i] = 1 }
    }

    func makeWorker() -> any TaskWorker { BowlWorker(bowl: self) }
}

private final class BowlWorker: TaskWorker {
    let bowl: Bowl
    init(bowl: Bowl) { self.bowl = bowl }

    func loss(
        _ parameters: UnsafePointer<Float>, gradient: UnsafeMutablePointer<Float>, seed: UInt64, step: Int
    ) -> Float {
        guard step < bowl.breaksAt else { return .nan }
        var random = Random(seed, UInt64(step))
        var loss: Float = 0
        for i in bowl.curvatures.indices {
            let offset = parameters[i] - Float(bowl.noise * random.uniform(-1...1))
            gradient[i] = bowl.curvatures[i] * offset
            loss += bowl.curvatures[i] * offset * offset / 2
        }
        return loss
    }

    func heldOutLoss(_ parameters: UnsafePointer<Float>) -> Float? {
        guard bowl.hasHeldOutLoss else { return nil }
        return bowl.curvatures.indices.reduce(0) { $0 + bowl.curvatures[$1] * parameters[$1] * parameters[$1] / 2 }
    }
}

/// A directory of its own, removed with the value's last use.
final class ScratchDirectory {
    let url = FileManager.default.temporaryDirectory.appendingPathComponent("lopt-\(UUID().uuidString)")
    deinit { try? FileManager.default.removeItem(at: url) }
}
