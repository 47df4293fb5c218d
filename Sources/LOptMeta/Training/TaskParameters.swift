/// Parameters and gradient of a task, tensor after tensor: at the task's start of a seed, to be trained.
///
/// The optimizer of a reparameterised run sees others than the task, and what one writes is rescaled for the other.
public final class TaskParameters {
    public let settings: RunSettings
    public let count: Int
    /// As the optimizer sees them: `count` values each, which live as long as this.
    public let parameters: UnsafeMutablePointer<Float>
    public let gradient: UnsafeMutablePointer<Float>
    /// As the task sees them.
    let taskParameters: UnsafeMutablePointer<Float>
    let taskGradient: UnsafeMutablePointer<Float>
    private let tensorCounts: [Int]
    private var isScaled: Bool { taskParameters != parameters }

    public init(_ settings: RunSettings) {
        self.settings = settings
        tensorCounts = settings.task.tensors.map(\.count)
        count = tensorCounts.reduce(0, +)
        let isScaled = !settings.tensorScales.isEmpty, size = max((isScaled ? 4 : 2) * count, 1)
        taskParameters = .allocate(capacity: size)
        taskParameters.initialize(repeating: 0, count: size)
        taskGradient = taskParameters + count
        parameters = taskParameters + (isScaled ? 2 * count : 0)
        gradient = parameters + count
        settings.task.initialize(taskParameters, seed: settings.seed)
        if isScaled { rescale(taskParameters, to: parameters) { 1 / $0 } }
    }

    deinit { taskParameters.deallocate() }

    /// `count` values of the task.
    public var values: UnsafeBufferPointer<Float> { UnsafeBufferPointer(start: taskParameters, count: count) }

    // Both ways it is a product: parameter = scale * what the optimizer sees, and so is the gradient that it sees.
    func passGradient(at step: Int) {
        closeGates(at: step)
        if isScaled { rescale(taskGradient, to: gradient) { $0 } }
    }
    func takeParameters() { if isScaled { rescale(parameters, to: taskParameters) { $0 } } }

    private func closeGates(at step: Int) {
        var offset = 0
        for (i, gate) in settings.gates.enumerated() {
            let factor = gate.factor(at: step)
            if factor != 1 { for j in offset..<(offset + tensorCounts[i]) { taskGradient[j] *= factor } }
            offset += tensorCounts[i]
        }
    }

    private func rescale(_ from: UnsafePointer<Float>, to: UnsafeMutablePointer<Float>, _ factor: (Float) -> Float) {
        var offset = 0
        for i in tensorCounts.indices {
            let factor = factor(settings.tensorScales[i])
            for j in offset..<(offset + tensorCounts[i]) { to[j] = from[j] * factor }
            offset += tensorCounts[i]
        }
    }
}
