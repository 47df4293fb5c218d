/// A task in training: the one loop of meta-training and evaluation.
///
/// It goes on from where it stands by any number of steps. The same settings and optimizer give the same losses, bit for bit, in
/// however many pieces. One thread at a time.
///
/// A run has diverged when the loss of a minibatch is not finite or is above `divergenceFactor` times that of the first one (10^-6 at
/// least), or when the optimizer refuses a gradient that is not finite. It goes no further then.
public final class TrainingRun {
    public let parameters: TaskParameters
    public var settings: RunSettings { parameters.settings }
    /// Minibatches seen: steps taken, and the one at which the run diverged.
    public private(set) var step = 0
    public private(set) var hasDiverged = false
    /// Of the first minibatch, before any step; NaN until it is seen.
    public private(set) var firstLoss = Double.nan
    private let worker: any TaskWorker
    private let rule: any UpdateRule

    /// - Parameter rule: changes just these parameters.
    public init(_ parameters: TaskParameters, _ rule: any UpdateRule) {
        (self.parameters, self.rule) = (parameters, rule)
        precondition(rule.evaluationPoint == nil || parameters.settings.tensorScales.isEmpty, "a reparameterised run is judged where it is")
        worker = parameters.settings.task.makeWorker()
    }

    public var isFinished: Bool { step >= settings.horizon || hasDiverged }

    /// Sees up to `steps` more minibatches, and fewer at the horizon and where the run diverges.
    ///
    /// - Parameter report: told the loss of each before its step, and the number of that step from 0; not of a loss that is a divergence.
    /// - Returns: how many it has seen.
    @discardableResult
    public func advance(_ steps: Int, _ report: (_ step: Int, _ loss: Float) -> Void = { _, _ in }) -> Int {
        let begin = step, end = step + min(steps, settings.horizon - step)
        while step < end && !hasDiverged {
            takeStep(report)
            step += 1
        }
        return step - begin
    }

    private func takeStep(_ report: (Int, Float) -> Void) {
        let loss = worker.loss(parameters.taskParameters, gradient: parameters.taskGradient, seed: settings.seed, step: step)
        if step == 0 { firstLoss = Double(loss) }
        guard loss.isFinite, Double(loss) <= settings.divergenceFactor * max(abs(firstLoss), 1e-6) else {
            hasDiverged = true
            return
        }
        report(step, loss)
        parameters.passGradient(at: step)
        do throws(GradientRefused) {
            try rule.step(learningRateScale: settings.schedule.scale(at: step, of: settings.horizon))
        } catch {
            hasDiverged = true
        }
        parameters.takeParameters()
    }

    /// nil where the task has none.
    public var heldOutLoss: Float? { worker.heldOutLoss(evaluationPoint) }
    public var heldOutScore: HeldOutScore? { worker.heldOutScore(evaluationPoint) }

    private var evaluationPoint: UnsafePointer<Float> { rule.evaluationPoint ?? UnsafePointer(parameters.taskParameters) }

    /// `TaskWorker.state`.
    var workerState: [Float] { worker.state }

    /// Stands where another run of these settings stood, whose optimizer's state and parameters have been read back.
    func resume(step: Int, hasDiverged: Bool, firstLoss: Double, workerState: [Float]) {
        (self.step, self.hasDiverged, self.firstLoss) = (step, hasDiverged, firstLoss)
        worker.state = workerState
        parameters.takeParameters()
    }
}

extension TrainingRun {
    /// At the task's start. Throws what `Optimizer` throws.
    ///
    /// - Parameter averaged: whether held-out data are judged at an average of the parameters (`AveragedRule`).
    public convenience init(_ settings: RunSettings, _ method: OptimizerSpec.Method, averaged: Bool = false) throws {
        let parameters = TaskParameters(settings)
        let rule: any UpdateRule = switch method {
        case .adamW(let rate, let decay): Adam(rate: rate, weightDecay: decay, parameters)
        case .nadamW: NAdamW(parameters)
        case .scheduleFreeAdamW(let rate): ScheduleFreeAdamW(rate: rate, parameters)
        case .prodigy: Prodigy(parameters)
        case .sgdm(let rate): MomentumSGD(rate: rate, parameters)
        case .lopt(let weights): try LearnedOptimizer(weights.weights, parameters)
        }
        self.init(parameters, averaged ? AveragedRule(rule, parameters) : rule)
    }
}
