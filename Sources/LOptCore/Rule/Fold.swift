import CLOptShims

/// Sums over a whole tensor, from those of its chunks in their order.
struct TensorSums {
    let count: Double
    private let sums: UnsafePointer<Double>

    /// Adds the chunks up into the first; once a step.
    init(adding t: Tensor) {
        let width = Int(LOPT_SUMS_MOMENTS)
        for chunk in 1..<max(t.geometry.chunks, 1) {
            for slot in 0..<width { t.memory.momentSums[slot] += t.memory.momentSums[chunk * width + slot] }
        }
        self.init(t)
    }

    /// The sums as they were added up before.
    init(_ t: Tensor) {
        count = Double(t.geometry.count)
        sums = UnsafePointer(t.memory.momentSums)
    }

    func mean(_ slot: Int) -> Double { sums[slot] / count }
    func mean(_ k: Int, _ slot: Int) -> Double {
        sums[Int(LOPT_SUM_MOMENTA) + k * Int(LOPT_SUMS_PER_MOMENTUM) + slot] / count
    }
    func sum(_ slot: Int) -> Double { sums[slot] }
    /// The mean of p^2 over the elements that have had a gradient and are finite; 0 if there is none.
    var liveParameter: Double { sums[Int(LOPT_SUM_LIVE_P2)] / max(sums[Int(LOPT_SUM_LIVE)], 1) }
}

extension Rule {
    /// After the accumulator pass: folds the second-moment normalisers into the rows of w0 and the step features into the bias,
    /// for tensor `t` (update-rule.md section 4). f64 until the last rounding. Returns `live_features`.
    func foldFirstLayer(_ t: Tensor, _ sums: TensorSums, _ steps: StepFeatures) -> UInt64 {
        let momenta = architecture.momenta
        writeBias(t, steps)
        var f = FirstLayer(rule: self, t: t)
        f.element(feature: 0, sums.mean(Int(LOPT_SUM_G2)))
        f.element(feature: 1, sums.mean(Int(LOPT_SUM_P2)))
        f.element(feature: 2 + momenta, sums.mean(Int(LOPT_SUM_V2)))
        f.element(feature: 3 + 2 * momenta, sums.mean(Int(LOPT_SUM_RSQRT_V2)))
        for k in 0..<momenta {
            f.element(feature: 2 + k, sums.mean(k, Int(LOPT_SUM_M2)))
            f.element(feature: 3 + momenta + k, sums.mean(k, Int(LOPT_SUM_M_RSQRT_V2)))
            f.element(feature: 4 + 2 * momenta + k, sums.mean(k, Int(LOPT_SUM_FACTORED_G2)))
            f.element(feature: 4 + 7 * momenta + k, sums.mean(k, Int(LOPT_SUM_FACTORED_M2)))
            let rows = 4 + 3 * momenta + k, columns = rows + momenta
            if t.geometry.isFactored {
                let lead = t.geometry.leadIsRow ? rows : columns, trail = t.geometry.leadIsRow ? columns : rows
                f.line(t.memory.view.lead_weights, 2 * k, feature: lead, t.memory.factorMeans[4 * k])
                f.line(t.memory.view.lead_weights, 2 * k + 1, feature: lead + 2 * momenta, t.memory.factorMeans[4 * k + 1])
                f.line(t.memory.view.trail_weights, 2 * k, feature: trail, t.memory.factorMeans[4 * k + 2])
                f.line(t.memory.view.trail_weights, 2 * k + 1, feature: trail + 2 * momenta, t.memory.factorMeans[4 * k + 3])
            } else {
                // Rank < 2: row and column features are the same number, so their weights add up.
                f.element(features: rows, columns, sums.mean(k, Int(LOPT_SUM_DIAGONAL2)))
                f.element(features: rows + 2 * momenta, columns + 2 * momenta, sums.mean(k, Int(LOPT_SUM_RSQRT_DIAGONAL2)))
            }
        }
        return f.live
    }

    private func writeBias(_ t: Tensor, _ steps: StepFeatures) {
        let units = architecture.hiddenSize
        let initial = theta + architecture.biasOffset(0)
        let weights = theta + architecture.weightOffset(0) + architecture.features * units
        guard let bias = UnsafeMutablePointer(mutating: t.memory.view.bias) else { return }
        for j in 0..<units {
            var sum = Double(initial[j])
            for s in 0..<steps.values.count { sum += Double(weights[s * units + j]) * steps.values[s] }
            bias[j] = Float(sum)
        }
    }
}

/// tanh(t / s - 1) for the eleven timescales s.
struct StepFeatures {
    let step: Int64
    let values: [11 of Double]

    /// None.
    init() { (step, values) = (-1, [11 of Double](repeating: 0)) }

    init(step: Int64) {
        var values = [11 of Double](repeating: 0)
        for i in 0..<values.count { values[i] = ScalarMath.tanh(Double(step) / Architecture.timescales[i] - 1) }
        self.values = values
        self.step = step
    }
}

/// Writes rows of the folded first layer.
private struct FirstLayer {
    let rule: Rule
    let t: Tensor
    /// The element-wise features so far, and those of them whose weights are not all 0; only these have a row.
    private var features: UInt64 = 0
    private(set) var live: UInt64 = 0

    init(rule: Rule, t: Tensor) {
        self.rule = rule
        self.t = t
    }

    private static func scale(_ meanSquare: Double) -> Double { 1 / (1e-5 + meanSquare).squareRoot() }

    mutating func element(feature: Int, _ meanSquare: Double) { element(feature, nil, meanSquare) }

    mutating func element(features first: Int, _ second: Int, _ meanSquare: Double) { element(first, second, meanSquare) }

    private mutating func element(_ first: Int, _ second: Int?, _ meanSquare: Double) {
        if write(t.memory.view.element_weights, live.nonzeroBitCount, first, second, FirstLayer.scale(meanSquare)) {
            live |= 1 << features
        }
        features += 1
    }

    func line(_ weights: UnsafePointer<Float>?, _ row: Int, feature: Int, _ meanSquare: Double) {
        _ = write(weights, row, feature, nil, FirstLayer.scale(meanSquare))
    }

    /// Whether any weight is not 0.
    private func write(_ weights: UnsafePointer<Float>?, _ row: Int, _ feature: Int, _ second: Int?, _ scale: Double) -> Bool {
        let a = rule.architecture
        if rule.usesBLAS {
            let scales = UnsafeMutablePointer(mutating: t.memory.view.feature_scale)
            scales?[feature] = Float(scale)
            if let second { scales?[second] = Float(scale) }
            return true
        }
        let to = UnsafeMutablePointer(mutating: weights)
        let w0 = rule.theta + a.weightOffset(0)
        var isLive = false
        for j in 0..<a.hiddenSize {
            var weight = Double(w0[feature * a.hiddenSize + j])
            if let second { weight += Double(w0[second * a.hiddenSize + j]) }
            if weight != 0 { isLive = true }
            to?[row * Int(rule.kernel.hidden) + j] = Float(weight * scale)
        }
        return isLive
    }
}
