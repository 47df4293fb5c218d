import CLOptShims

/// The rule of an optimizer as the kernels want it: decays as rates, the layers after the first padded to whole vectors of
/// units, and the meta-parameters themselves for the first layer, which is folded anew for every tensor and step.
struct Rule {
    var kernel = lopt_rule()
    let architecture: Architecture
    let plan: StepPlan
    /// The meta-parameters, laid out as the architecture says.
    let theta: UnsafeMutablePointer<Float>
    private let constants: UnsafeMutablePointer<Float>
    private let constantCount: Int
    /// Of kind pooled: of the step at hand.
    let time: UnsafeMutablePointer<PooledTime>
    /// For wide networks, if it is there.
    private let blas: lopt_blas

    /// Width from which matrix products go to OpenBLAS. Measured with OpenBLAS 0.3.21 on Zen 3 (AVX2), one thread: up to 192
    /// our own path takes 0.35 to 1.0 of the time, to 384 they are even, at 512 OpenBLAS takes 0.6 of ours, because a layer
    /// no longer fits the second-level cache.
    static let leastBLASWidth = 257

    /// - Parameter isGuarded: updates are measured before they are applied, see `UpdateLimit`.
    init(
        _ architecture: Architecture, theta source: UnsafePointer<Float>, isGuarded: Bool, allocator: Allocator
    ) throws(LOptError) {
        self.architecture = architecture
        plan = StepPlan(architecture, theta: source, isGuarded: isGuarded)
        let a = architecture, momenta = a.momenta
        let hidden = Rule.paddedWidth(a.hiddenSize)
        let layers = max(a.layers - 2, 0) * (hidden + 1) * hidden, heads = (hidden + 1) * Int(LOPT_HEADS)
        let blas = Rule.wantsBLAS(a) ? Rule.openBLAS() : lopt_blas()
        let first = blas.library != nil ? a.features * hidden : 0
        constantCount = 5 * momenta + layers + heads + first
        self.blas = blas
        var thetaMemory: UnsafeMutablePointer<Float>?, constantMemory: UnsafeMutablePointer<Float>?
        do {
            let memory = try allocator.allocate(Float.self, a.metaParameters)
            thetaMemory = memory
            constants = try allocator.allocateZeroed(Float.self, constantCount)
            constantMemory = constants
            time = try allocator.allocate(PooledTime.self, 1)
            theta = memory
        } catch {
            allocator.deallocate(thetaMemory, a.metaParameters)
            allocator.deallocate(constantMemory, constantCount)
            lopt_blas_close(blas)
            throw error
        }
        for i in 0..<a.metaParameters { theta[i] = source[i] }
        time.initialize(to: PooledTime())

        kernel.momenta = Int32(momenta)
        kernel.hidden = Int32(hidden)
        kernel.hidden_layers = Int32(a.hiddenLayers)
        kernel.reads_features = plan.usesNetwork ? 1 : 0
        kernel.path = blas.library != nil ? Int32(LOPT_PATH_BLAS) : Rule.path(a)
        let momentumBeta = constants, momentumRate = momentumBeta + momenta
        let factoredBeta = momentumRate + momenta, factoredRate = factoredBeta + momenta
        let direction = factoredRate + momenta
        setDecays(momentumBeta, momentumRate, factoredBeta, factoredRate)
        setDirection(direction)
        let hiddenWeights = direction + momenta, headWeights = hiddenWeights + layers
        let firstWeights = headWeights + heads
        for layer in stride(from: 1, to: a.layers, by: 1) {
            let isLast = layer == a.hiddenLayers
            let to = isLast ? headWeights : hiddenWeights + (layer - 1) * (hidden + 1) * hidden
            copyLayer(layer, to, rows: hidden, columns: isLast ? Int(LOPT_HEADS) : hidden)
        }
        if first > 0 {
            for i in 0..<a.features {
                for j in 0..<a.hiddenSize {
                    firstWeights[i * hidden + j] = theta[a.weightOffset(0) + i * a.hiddenSize + j]
                }
            }
        }
        kernel.hidden_weights = UnsafePointer(hiddenWeights)
        kernel.head_weights = UnsafePointer(headWeights)
        kernel.first_weights = UnsafePointer(firstWeights)
        kernel.normalize_blackbox = a.normalizeBlackbox ? 1 : 0
        kernel.exp_mult_magnitude = Float(a.expMult[0])
        kernel.exp_mult_nominal = Float(a.expMult[1])
        kernel.exp_mult_regularization = Float(a.expMult[2])
        kernel.sgemm = blas.sgemm
    }

    func free(_ allocator: Allocator) {
        allocator.deallocate(theta, architecture.metaParameters)
        allocator.deallocate(constants, constantCount)
        allocator.deallocate(time, 1)
        lopt_blas_close(blas)
    }

    var memoryBytes: Int {
        Allocator.bytes(Float.self, architecture.metaParameters) + Allocator.bytes(Float.self, constantCount)
            + Allocator.bytes(PooledTime.self, 1)
    }

    static func paddedWidth(_ width: Int) -> Int { width <= 4 ? 4 : (width + 7) / 8 * 8 }

    private static func path(_ a: Architecture) -> Int32 {
        if a.kind == .pooled { return Int32(LOPT_PATH_WIDTH4) }
        switch paddedWidth(a.hiddenSize) {
        case 4: return Int32(LOPT_PATH_WIDTH4)
        case 8: return Int32(LOPT_PATH_WIDTH8)
        case 16: return Int32(LOPT_PATH_WIDTH16)
        case 32: return Int32(LOPT_PATH_WIDTH32)
        default: return Int32(LOPT_PATH_ANY_WIDTH)
        }
    }

    // MARK: Parts of init

    /// beta = 1 - (1 - beta0) exp(10 theta); momenta are not clipped to [0, 1], the others are.
    private mutating func setDecays(
        _ momentumBeta: UnsafeMutablePointer<Float>, _ momentumRate: UnsafeMutablePointer<Float>,
        _ factoredBeta: UnsafeMutablePointer<Float>, _ factoredRate: UnsafeMutablePointer<Float>
    ) {
        let a = architecture
        for k in 0..<a.momenta {
            let momentum = Rule.rate(a.initialMomentumDecays[k], theta[a.momentumDecaysOffset + k])
            momentumRate[k] = Float(momentum)
            momentumBeta[k] = Float(1 - momentum)
            guard a.kind != .pooled else { continue }
            let factored = min(max(Rule.rate(a.initialAdafactorDecays[k], theta[a.adafactorDecaysOffset + k]), 0), 1)
            factoredRate[k] = Float(factored)
            factoredBeta[k] = Float(1 - factored)
        }
        let rms = min(max(Rule.rate(a.initialRMSDecay, theta[a.rmsDecayOffset]), 0), 1)
        if a.kind == .pooled {
            // A momentum that outlasts the second moment would grow beside it once gradients vanish: m_k^2 is to fall faster than
            // v. It averages over at most 1 / 0.6 as many steps, and every |a_k| has a bound.
            for k in 0..<a.momenta {
                let rate = min(max(Double(momentumRate[k]), 0.6 * rms), 1)
                (momentumRate[k], momentumBeta[k]) = (Float(rate), Float(1 - rate))
            }
        }
        kernel.rms_rate = Float(rms)
        kernel.rms_beta = Float(1 - rms)
        kernel.momentum_beta = UnsafePointer(momentumBeta)
        kernel.momentum_rate = UnsafePointer(momentumRate)
        kernel.factored_beta = UnsafePointer(factoredBeta)
        kernel.factored_rate = UnsafePointer(factoredRate)
    }

    private static func rate(_ initialDecay: Double, _ offset: Float) -> Double {
        (1 - initialDecay) * ScalarMath.exp(10 * Double(offset))
    }

    private mutating func setDirection(_ weights: UnsafeMutablePointer<Float>) {
        let momenta = architecture.momenta
        switch architecture.nominalEstimator {
        case .sgd: kernel.gradient_weight = 1
        case .sgdm, .adam: weights[momenta - 1] = 1
        case .aggMo, .adamAggMo: for k in 0..<momenta { weights[k] = Float(1 / Double(momenta)) }
        }
        switch architecture.nominalEstimator {
        case .adam, .adamAggMo: kernel.direction_normalized = 1
        case .sgd, .sgdm, .aggMo: kernel.direction_normalized = 0
        }
        kernel.direction_weights = UnsafePointer(weights)
        kernel.nominal_epsilon = Float(architecture.nominalEpsilon)
        kernel.nominal_epsilon_is_own = architecture.nominalEpsilon == 1e-6 ? 0 : 1
    }

    /// Weights and biases of a layer after the first, the units that pad it 0.
    private func copyLayer(_ layer: Int, _ to: UnsafeMutablePointer<Float>, rows: Int, columns: Int) {
        let fanIn = architecture.fanIn(layer), fanOut = architecture.fanOut(layer)
        for j in 0..<fanOut {
            for i in 0..<fanIn {
                to[i * columns + j] = theta[architecture.weightOffset(layer) + i * fanOut + j]
            }
            to[rows * columns + j] = theta[architecture.biasOffset(layer) + j]
        }
    }

    // MARK: OpenBLAS

    /// Whether OpenBLAS is worth loading.
    static func wantsBLAS(_ a: Architecture) -> Bool { a.hiddenSize >= leastBLASWidth }
    var usesBLAS: Bool { blas.library != nil }

    #if LOPT_NO_BLAS
    private static func openBLAS() -> lopt_blas { lopt_blas() }
    func holdBLAS() {}
    func releaseBLAS() {}
    #else
    private static func openBLAS() -> lopt_blas { lopt_blas_open() }
    /// Around a step: OpenBLAS keeps to the thread that calls it.
    func holdBLAS() { lopt_blas_hold_to_one_thread(blas) }
    func releaseBLAS() { lopt_blas_release(blas) }
    #endif
}
