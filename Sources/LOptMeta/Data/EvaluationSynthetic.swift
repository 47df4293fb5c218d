import Foundation

/// Generated data for evaluation alone, a function of the seed. Four fifths are for training.
enum EvaluationSynthetic {
    /// Friedman's function of ten uniform variables, of which five count (Friedman 1991), with noise of deviation 1; about
    /// of mean 0 and deviation 1.
    static func friedman(_ count: Int, seed: UInt64) -> Dataset {
        var random = Random(seed, 21), x: [Float] = [], y: [Float] = []
        for _ in 0..<count {
            let u = (0..<10).map { _ in random.uniform() }
            let value = 10 * sin(Double.pi * u[0] * u[1]) + 20 * (u[2] - 0.5) * (u[2] - 0.5) + 10 * u[3] + 5 * u[4] + random.normal()
            x += u.map { Float(2 * $0 - 1) }
            y.append(Float((value - 14.4) / 5))
        }
        return Dataset.generated("friedman", source: "friedman", x, y, count: count)
    }

    /// Where a damped spring is, and how fast over its frequency, after a time: of frequency, damping, start, speed and
    /// time, each in -1 ... 1. `noise` is the deviation of the measurements, `scale` their unit.
    static func oscillator(_ count: Int, noise: Double = 0, scale: Double = 1, seed: UInt64) -> Dataset {
        var random = Random(seed, 22), x: [Float] = [], y: [Float] = []
        for _ in 0..<count {
            let u = (0..<5).map { _ in random.uniform(-1...1) }
            let frequency = 2 * pow(1.6, u[0]), damping = 0.08 * pow(4, u[1]), time = 2 + 1.5 * u[4]
            let (start, speed) = (u[2], u[3] * frequency)
            let damped = frequency * (1 - damping * damping).squareRoot(), decay = damping * frequency
            let sine = (speed + decay * start) / damped
            let (c, s, e) = (cos(damped * time), sin(damped * time), exp(-decay * time))
            let velocity = e * ((sine * damped - decay * start) * c - (start * damped + decay * sine) * s)
            x += u.map { Float($0) }
            y += [e * (start * c + sine * s), velocity / frequency].map { Float(scale * ($0 + noise * random.normal())) }
        }
        return Dataset.generated("oscillator", source: "oscillator", x, y, count: count)
    }

    /// Arms of spirals in the plane, a class each, one and a half turns.
    static func spirals(_ count: Int, arms: Int, noise: Double, seed: UInt64) -> Dataset {
        var random = Random(seed, 23), x: [Float] = [], y: [Float] = []
        for _ in 0..<count {
            let arm = random.index(arms), radius = random.uniform(0.1...1)
            let angle = 2 * Double.pi * (1.5 * radius + Double(arm) / Double(arms))
            x += [radius * cos(angle), radius * sin(angle)].map { Float($0 + noise * random.normal()) }
            y.append(Float(arm))
        }
        return Dataset.generated("spirals\(arms)", source: "spirals", x, y, count: count)
    }

    /// Classes by the distance from a plane, in bands, as unit vectors.
    static func bands(_ count: Int, classes: Int, seed: UInt64) -> Dataset {
        var random = Random(seed, 27), x: [Float] = [], labels: [Float] = []
        for _ in 0..<count {
            let u = (0..<8).map { _ in random.uniform(-1...1) }
            x += u.map { Float($0) }
            let height = (u[0] + u[1] - u[2] + 0.5 * u[3] + 2) / 4
            labels.append(Float(min(max(Int(height * Double(classes)), 0), classes - 1)))
        }
        return Dataset.generated(
            "bands\(classes)", source: "bands", x, oneHotTargets(labels, classes: classes), count: count, isOneHot: true)
    }

    /// The adding problem (Hochreiter and Schmidhuber 1997): of a sequence of numbers in -1 ... 1, each beside a mark, the
    /// sum of the two that are marked.
    static func adding(_ count: Int, length: Int, seed: UInt64) -> Dataset {
        var random = Random(seed, 24), x: [Float] = [], y: [Float] = []
        for _ in 0..<count {
            let values = (0..<length).map { _ in random.uniform(-1...1) }
            let first = random.index(length / 2), second = length / 2 + random.index(length - length / 2)
            for i in 0..<length { x += [Float(values[i]), i == first || i == second ? 1 : 0] }
            y.append(Float(values[first] + values[second]))
        }
        return Dataset.generated("adding\(length)", source: "adding", x, y, count: count)
    }

    /// Ratings of items by users, both as tokens, items behind the users: products of hidden vectors, with noise. Some rate
    /// much more often than others.
    static func ratings(_ count: Int, users: Int, items: Int, rank: Int, seed: UInt64) -> Dataset {
        var random = Random(seed, 25), x: [Float] = [], y: [Float] = []
        let vectors = (0..<users + items).map { _ in (0..<rank).map { _ in random.normal() } }
        for _ in 0..<count {
            let user = Int(Double(users) * pow(random.uniform(), 2)), item = Int(Double(items) * pow(random.uniform(), 2))
            let product = zip(vectors[user], vectors[users + item]).reduce(0) { $0 + $1.0 * $1.1 }
            x += [Float(user), Float(users + item)]
            y.append(Float(product / Double(rank).squareRoot() + 0.3 * random.normal()))
        }
        return Dataset.generated("ratings\(users)by\(items)", source: "ratings", x, y, count: count)
    }

    /// u'' = -f on 0 ... 1 with u = 0 at both ends, at random places, for a network N with u = x (1 - x) N(2 x - 1) and the second
    /// difference in place of the derivative: three inputs, and as targets the coefficients of the three outputs and what
    /// their sum has to be (`NetworkLoss.linearEquation`).
    static func poisson(_ count: Int, seed: UInt64) -> Dataset {
        var random = Random(seed, 26), x: [Float] = [], y: [Float] = []
        let step = 0.05, scale = 0.1, amplitudes = [1, -0.6, 0.4]
        for _ in 0..<count {
            let at = random.uniform(step...(1 - step))
            let places = [at - step, at, at + step]
            x += places.map { Float(2 * $0 - 1) }
            y += zip(places, [1.0, -2, 1]).map { Float(scale * $1 * $0 * (1 - $0) / (step * step)) }
            let f = amplitudes.enumerated().reduce(0.0) { sum, term in
                let wave = Double(term.offset + 1) * Double.pi
                return sum + term.element * wave * wave * sin(wave * at)
            }
            y.append(Float(-scale * f))
        }
        return Dataset.generated("poisson", source: "poisson", x, y, count: count)
    }
}
