/// NAdamW with the one configuration of AlgoPerf's self-tuning baseline; its schedule is `Schedule.warmupCosine`. State in f32.
///
/// Adam with Nesterov's look-ahead: the step is along beta1 m + (1 - beta1) g, with m's correction of the same step
/// (Dozat 2016, as in table 1 of Choi et al. 2019), and decoupled weight decay.
public final class NAdamW: UpdateRule {
    public static let rate = 0.0017486387539278373
    public static let weightDecay = 0.08121616522670176
    private static let (beta1, beta2) = (1 - 0.06733926164, 0.9955159689799007)
    private let memory: TaskParameters
    private var m: [Float]
    private var v: [Float]
    private var (power1, power2) = (1.0, 1.0)

    public init(_ memory: TaskParameters) {
        self.memory = memory
        m = Array(repeating: 0, count: memory.count)
        v = m
    }

    public func step(learningRateScale: Double) {
        power1 *= NAdamW.beta1
        power2 *= NAdamW.beta2
        let rate = NAdamW.rate * learningRateScale, keep = Float(1 - rate * NAdamW.weightDecay)
        let size = Float(rate / (1 - power1)), correction = Float(1 / (1 - power2))
        let (beta1, rest1) = (Float(NAdamW.beta1), Float(1 - NAdamW.beta1))
        let (beta2, rest2) = (Float(NAdamW.beta2), Float(1 - NAdamW.beta2))
        let (p, g, count) = (memory.parameters, memory.gradient, memory.count)
        m.withUnsafeMutableBufferPointer { m in
            v.withUnsafeMutableBufferPointer { v in
                for i in 0..<count {
                    m[i] = beta1 * m[i] + rest1 * g[i]
                    v[i] = beta2 * v[i] + rest2 * g[i] * g[i]
                    let ahead = beta1 * m[i] + rest1 * g[i]
                    p[i] = keep * p[i] - size * ahead / ((v[i] * correction).squareRoot() + 1e-8)
                }
            }
        }
    }
}

/// Schedule-free AdamW (Defazio et al. 2024) with the defaults of its package but for the rate: betas 0.9 and 0.999, no weight
/// decay, no warm-up. State in f32.
///
/// z takes Adam's steps without momentum; x is the average of the z, weighted with the squares of the largest rate so far; gradients
/// are taken at y = 0.9 x + 0.1 z, which is what the parameters are; held-out data are judged at x.
public final class ScheduleFreeAdamW: UpdateRule {
    private let rate: Double
    private let memory: TaskParameters
    private var v: [Float]
    private let z: UnsafeMutablePointer<Float>
    private let x: UnsafeMutablePointer<Float>
    private var (power2, largestRate, weightSum) = (1.0, 0.0, 0.0)

    public init(rate: Double, _ memory: TaskParameters) {
        (self.rate, self.memory) = (rate, memory)
        v = Array(repeating: 0, count: memory.count)
        z = .allocate(capacity: 2 * memory.count)
        x = z + memory.count
        z.initialize(from: memory.parameters, count: memory.count)
        x.initialize(from: memory.parameters, count: memory.count)
    }

    deinit { z.deallocate() }

    public var evaluationPoint: UnsafePointer<Float>? { UnsafePointer(x) }

    public func step(learningRateScale: Double) {
        power2 *= 0.999
        let rate = rate * learningRateScale
        largestRate = max(largestRate, rate)
        weightSum += largestRate * largestRate
        let weight = weightSum > 0 ? Float(largestRate * largestRate / weightSum) : 0
        let size = Float(rate), correction = Float(1 / (1 - power2))
        let (y, g, count) = (memory.parameters, memory.gradient, memory.count)
        v.withUnsafeMutableBufferPointer { v in
            for i in 0..<count {
                v[i] = 0.999 * v[i] + 0.001 * g[i] * g[i]
                z[i] -= size * g[i] / ((v[i] * correction).squareRoot() + 1e-8)
                x[i] += weight * (z[i] - x[i])
                y[i] = 0.9 * x[i] + 0.1 * z[i]
            }
        }
    }
}

/// Prodigy (Mishchenko and Defazio 2024) with the defaults of its package: rate 1, first estimate of the distance d 1e-6, betas 0.9
/// and 0.999, no weight decay, no bias correction. State in f32, sums over the parameters in f64.
public final class Prodigy: UpdateRule {
    private static let firstDistance = 1e-6
    /// sqrt(0.999).
    private static let beta3 = 0.999.squareRoot()
    private let memory: TaskParameters
    private let start: [Float]
    private var m: [Float]
    private var v: [Float]
    private var s: [Float]
    /// The estimate of the distance from the start to a solution.
    private(set) var distance = Prodigy.firstDistance
    private var largest = Prodigy.firstDistance
    private var numerator = 0.0

    public init(_ memory: TaskParameters) {
        self.memory = memory
        start = Array(UnsafeBufferPointer(start: memory.parameters, count: memory.count))
        m = Array(repeating: 0, count: memory.count)
        (v, s) = (m, m)
    }

    public func step(learningRateScale: Double) {
        guard learningRateScale > 0 else { return }
        let d = distance, rate = d * learningRateScale, weight = d / Prodigy.firstDistance * rate
        let (p, g, count) = (memory.parameters, memory.gradient, memory.count)
        let (gain1, gain2, beta3, sum) = (Float(0.1 * d), Float(0.001 * d * d), Float(Prodigy.beta3), Float(weight))
        var (product, size) = (0.0, 0.0)
        for i in 0..<count {
            product += Double(g[i]) * Double(start[i] - p[i])
            m[i] = 0.9 * m[i] + gain1 * g[i]
            v[i] = 0.999 * v[i] + gain2 * g[i] * g[i]
            s[i] = beta3 * s[i] + sum * g[i]
            size += Double(abs(s[i]))
        }
        guard size > 0 else { return }
        numerator = Prodigy.beta3 * numerator + weight * product
        largest = max(largest, numerator / size)
        distance = largest
        let step = Float(rate), epsilon = Float(distance * 1e-8)
        for i in 0..<count { p[i] -= step * m[i] / (v[i].squareRoot() + epsilon) }
    }
}

/// A rule whose parameters are averaged, a <- a + (p - a) 10 / (t + 10) after step t from 1: the average is where held-out data
/// are judged. It forgets the start, needs no horizon, and changes nothing of the training.
public final class AveragedRule: UpdateRule {
    private let rule: any UpdateRule
    private let memory: TaskParameters
    private let average: UnsafeMutablePointer<Float>
    private var steps = 0

    public init(_ rule: any UpdateRule, _ memory: TaskParameters) {
        (self.rule, self.memory) = (rule, memory)
        average = .allocate(capacity: memory.count)
        average.initialize(from: memory.parameters, count: memory.count)
    }

    deinit { average.deallocate() }

    public var evaluationPoint: UnsafePointer<Float>? { UnsafePointer(average) }

    public func step(learningRateScale: Double) throws(GradientRefused) {
        try rule.step(learningRateScale: learningRateScale)
        steps += 1
        let weight = 10 / Float(steps + 10), p = memory.parameters
        for i in 0..<memory.count { average[i] += weight * (p[i] - average[i]) }
    }
}
