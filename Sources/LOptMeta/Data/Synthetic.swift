import Foundation

/// Generated data, a function of the seed. Four fifths are for training.
enum Synthetic {
    /// Normal inputs whose components fall as i^-power, mixed by a random rotation-like matrix.
    private static func inputs(_ count: Int, _ width: Int, power: Double, _ random: inout Random) -> [Float] {
        var values = [Float](repeating: 0, count: count * width)
        let deviations = (0..<width).map { pow(Double($0 + 1), -power) }
        if power == 0 {
            for i in values.indices { values[i] = Float(random.normal()) }
            return values
        }
        let mixing = matrix(width, width, 1, &random)
        var latent = [Float](repeating: 0, count: width)
        for r in 0..<count {
            for j in 0..<width { latent[j] = Float(deviations[j] * random.normal()) }
            multiply(latent, mixing, width, into: &values, at: r * width)
        }
        return values
    }

    private static func matrix(_ rows: Int, _ columns: Int, _ gain: Double, _ random: inout Random) -> [Float] {
        (0..<rows * columns).map { _ in Float(gain * random.normal() / Double(rows).squareRoot()) }
    }

    private static func multiply(_ x: [Float], _ w: [Float], _ outputs: Int, into y: inout [Float], at begin: Int) {
        for i in x.indices { for j in 0..<outputs { y[begin + j] += x[i] * w[i * outputs + j] } }
    }

    /// Outputs of a random tanh network of one hidden layer.
    private static func teacher(
        _ x: [Float], _ count: Int, _ inputs: Int, _ outputs: Int, _ random: inout Random
    ) -> [Float] {
        let hidden = 16
        let first = matrix(inputs, hidden, 2, &random), second = matrix(hidden, outputs, 1.5, &random)
        var y = [Float](repeating: 0, count: count * outputs)
        for r in 0..<count {
            var h = [Float](repeating: 0, count: hidden)
            multiply(Array(x[(r * inputs)..<((r + 1) * inputs)]), first, hidden, into: &h, at: 0)
            multiply(h.map { Foundation.tanh($0) }, second, outputs, into: &y, at: r * outputs)
        }
        return y
    }

    /// A teacher's outputs with normal noise, times `scale`.
    static func regression(
        _ count: Int, _ inputs: Int, _ outputs: Int, power: Double, noise: Double, scale: Double, seed: UInt64
    ) -> Dataset {
        var random = Random(seed, 1)
        let x = Synthetic.inputs(count, inputs, power: power, &random)
        let y = teacher(x, count, inputs, outputs, &random).map { Float(scale * (Double($0) + noise * random.normal())) }
        return Dataset.generated("regression\(inputs)to\(outputs)", source: "teacher regression", x, y, count: count)
    }

    /// The largest of a teacher's outputs; a part of the labels is drawn at random.
    static func classification(
        _ count: Int, _ inputs: Int, _ classes: Int, power: Double, labelNoise: Double, seed: UInt64
    ) -> Dataset {
        var random = Random(seed, 2)
        let x = Synthetic.inputs(count, inputs, power: power, &random)
        let y = teacher(x, count, inputs, classes, &random)
        let labels = (0..<count).map { r -> Float in
            if random.bool(labelNoise) { return Float(random.index(classes)) }
            return Float((0..<classes).max { y[r * classes + $0] < y[r * classes + $1] } ?? 0)
        }
        return Dataset.generated("teacher\(inputs)to\(classes)", source: "teacher labels", x, labels, count: count)
    }

    /// Normal clouds around random centres of length `separation`.
    static func mixture(
        _ count: Int, _ inputs: Int, _ classes: Int, separation: Double, labelNoise: Double, seed: UInt64
    ) -> Dataset {
        var random = Random(seed, 3)
        let centres = matrix(inputs, classes, separation, &random)
        var x: [Float] = [], labels: [Float] = []
        x.reserveCapacity(count * inputs)
        for _ in 0..<count {
            let label = random.index(classes)
            for i in 0..<inputs { x.append(centres[i * classes + label] + Float(0.5 * random.normal())) }
            labels.append(Float(random.bool(labelNoise) ? random.index(classes) : label))
        }
        return Dataset.generated("mixture\(inputs)to\(classes)", source: "mixture", x, labels, count: count)
    }

    /// Inputs of low rank with a power-law spectrum and a little noise, to be reproduced.
    static func lowRank(_ count: Int, _ width: Int, rank: Int, power: Double, seed: UInt64) -> Dataset {
        var random = Random(seed, 4)
        let mixing = matrix(rank, width, Double(rank).squareRoot(), &random)
        var x = [Float](repeating: 0, count: count * width)
        for r in 0..<count {
            let latent = (0..<rank).map { Float(pow(Double($0 + 1), -power) * random.normal()) }
            multiply(latent, mixing, width, into: &x, at: r * width)
            for j in 0..<width { x[r * width + j] += Float(0.05 * random.normal()) }
        }
        return Dataset("lowrank\(rank)in\(width)", source: "low rank", mirroring: x, count: count, trainCount: count * 4 / 5)
    }

    /// Two classes, features whose scales spread over `decades` powers of ten.
    static func scaledFeatures(_ count: Int, _ inputs: Int, decades: Double, seed: UInt64) -> Dataset {
        var random = Random(seed, 5)
        let scales = (0..<inputs).map { pow(10, decades * (Double($0) / Double(max(inputs - 1, 1)) - 0.5)) }
        let direction = (0..<inputs).map { _ in random.normal() / Double(inputs).squareRoot() }
        var x: [Float] = [], labels: [Float] = []
        for _ in 0..<count {
            var logit = 0.0
            for i in 0..<inputs {
                let value = random.normal()
                logit += 3 * direction[i] * value
                x.append(Float(scales[i] * value))
            }
            labels.append(random.uniform() < 1 / (1 + exp(-logit)) ? 1 : 0)
        }
        return Dataset.generated("scaled\(inputs)by\(Int(decades))", source: "scaled features", x, labels, count: count)
    }

    /// A smooth random function of two coordinates in [-1, 1], a sum of waves.
    static func surface(_ count: Int, waves: Int, outputs: Int, seed: UInt64) -> Dataset {
        var random = Random(seed, 6)
        let terms = (0..<waves * outputs).map { _ in
            (6 * random.normal(), 6 * random.normal(), random.uniform(0...6.3), random.normal() / Double(waves).squareRoot())
        }
        var x: [Float] = [], y: [Float] = []
        for _ in 0..<count {
            let a = random.uniform(-1...1), b = random.uniform(-1...1)
            x += [Float(a), Float(b)]
            for o in 0..<outputs {
                y.append(Float(terms[(o * waves)..<((o + 1) * waves)].reduce(0) { $0 + $1.3 * sin($1.0 * a + $1.1 * b + $1.2) }))
            }
        }
        return Dataset.generated("surface\(waves)", source: "surface", x, y, count: count)
    }
}
