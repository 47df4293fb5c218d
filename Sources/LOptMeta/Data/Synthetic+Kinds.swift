import Foundation

extension Synthetic {
    /// Rings, chequers or level sets of waves in a plane, `classes` in turn; without noise, so that a network that fits them all is right.
    static func figures(_ count: Int, classes: Int, seed: UInt64) -> Dataset {
        var random = Random(seed, 7), x: [Float] = [], labels: [Float] = []
        let kind = random.index(3), size = random.logUniform(0.7...3), turn = random.uniform(0...Double.pi)
        let centre = (random.uniform(-0.5...0.5), random.uniform(-0.5...0.5))
        let across = random.uniform(1...3), along = random.uniform(1...3), ring = random.uniform(1.5...5)
        let waves = (0..<4).map { _ in
            (random.uniform(1...4) * random.normal(), random.uniform(1...4) * random.normal(), random.uniform(0...6.3), random.normal())
        }
        for _ in 0..<count {
            let a = random.uniform(-1...1), b = random.uniform(-1...1)
            let level = switch kind {
            case 0: ring * hypot(a - centre.0, b - centre.1)
            case 1:
                floor(across * (a * cos(turn) + b * sin(turn)) + 9) + floor(along * (b * cos(turn) - a * sin(turn)) + 9)
            default: waves.reduce(20) { $0 + $1.3 * sin($1.0 * a + $1.1 * b + $1.2) }
            }
            x += [Float(size * a), Float(size * b)]
            labels.append(Float(Int(floor(level)) % classes))
        }
        return Dataset.generated("figures\(classes)", source: "figures", x, labels, count: count)
    }

    /// Small images: smooth prototypes, some for each class, moved by a pixel, of unlike contrast, in noise.
    static func images(_ count: Int, side: Int, classes: Int, seed: UInt64) -> Dataset {
        var random = Random(seed, 8), x: [Float] = [], labels: [Float] = []
        let prototypes = 1 + random.index(5), big = side + 2, rounds = 1 + random.index(4), noise = random.logUniform(0.7...4)
        let fields = (0..<classes * prototypes).map { _ in
            smooth((0..<big * big).map { _ in random.normal() }, side: big, rounds: rounds)
        }
        for _ in 0..<count {
            let label = random.index(classes), field = fields[label * prototypes + random.index(prototypes)]
            let dx = random.index(3), dy = random.index(3), shade = exp(0.3 * random.normal())
            for r in 0..<side {
                for c in 0..<side { x.append(Float(shade * field[(r + dy) * big + c + dx] + noise * random.normal())) }
            }
            labels.append(Float(label))
        }
        return Dataset.generated("images\(side)to\(classes)", source: "prototype images", x, labels, count: count)
    }

    /// Means over neighbours, on a torus, to deviation 1.
    private static func smooth(_ field: [Double], side: Int, rounds: Int) -> [Double] {
        var field = field
        for _ in 0..<rounds {
            for step in [1, side] {
                let old = field
                for i in field.indices {
                    let line = step == 1 ? i / side * side : i % side, at = step == 1 ? i % side : i / side
                    let before = line + (at + side - 1) % side * step, after = line + (at + 1) % side * step
                    field[i] = (old[before] + old[i] + old[after]) / 3
                }
            }
        }
        let mean = field.reduce(0, +) / Double(field.count)
        let deviation = (field.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / Double(field.count)).squareRoot()
        return field.map { ($0 - mean) / max(deviation, 1e-9) }
    }

    /// A table with few rows: one or two normal clouds for each class, columns standardised or as they were measured: in units of their own,
    /// the mean up to sixteen deviations from 0 and above it mostly.
    static func table(
        _ count: Int, _ inputs: Int, _ classes: Int, separation: Double, isRaw: Bool, isOneHot: Bool = false, seed: UInt64
    ) -> Dataset {
        var random = Random(seed, 9), x: [Float] = [], labels: [Float] = []
        let clouds = 1 + random.index(2), spread = separation / Double(inputs).squareRoot()
        let centres = (0..<classes * clouds * inputs).map { _ in spread * random.normal() }
        let deviation = 2 * (spread * spread + 0.25).squareRoot()
        let units = (0..<inputs).map { _ -> (unit: Double, mean: Double) in
            guard isRaw else { return (1, 0) }
            return (pow(10, random.uniform(-2...1.5)), (random.bool(0.85) ? 1 : -1) * random.logUniform(0.3...16) * deviation)
        }
        for _ in 0..<count {
            let label = random.index(classes), cloud = label * clouds + random.index(clouds)
            for i in 0..<inputs {
                x.append(Float(units[i].unit * (2 * (centres[cloud * inputs + i] + 0.5 * random.normal()) + units[i].mean)))
            }
            labels.append(Float(label))
        }
        let name = "table\(count)x\(inputs)to\(classes)" + (isRaw ? "-raw" : "")
        return Dataset.generated(
            isOneHot ? name + "-onehot" : name, source: "tables", x, isOneHot ? oneHotTargets(labels, classes: classes) : labels,
            count: count, isOneHot: isOneHot)
    }

    /// A wave of the phases of two tokens, the second behind the first ones: a function for embeddings. Some tokens are rare.
    static func phases(_ count: Int, tokens: Int, noise: Double, seed: UInt64) -> Dataset {
        var random = Random(seed, 10), x: [Float] = [], y: [Float] = []
        let phases = (0..<2 * tokens).map { _ in (random.uniform(0...6.3), random.normal()) }
        for _ in 0..<count {
            let a = Int(Double(tokens) * pow(random.uniform(), 2)), b = tokens + Int(Double(tokens) * pow(random.uniform(), 2))
            x += [Float(a), Float(b)]
            y.append(Float(sin(phases[a].0 + phases[b].0) + 0.5 * phases[a].1 * phases[b].1 + noise * random.normal()))
        }
        return Dataset.generated("phases\(tokens)", source: "phases", x, y, count: count)
    }

    /// A number that a sequence of numbers adds up to with weights that fade with their age, bent: what a recurrent network has to keep.
    static func fading(_ count: Int, length: Int, seed: UInt64) -> Dataset {
        var random = Random(seed, 11), x: [Float] = [], y: [Float] = []
        let rate = random.uniform(0.5...0.95), sign = random.uniform(-1...1)
        for _ in 0..<count {
            var sum = 0.0
            for _ in 0..<length {
                let value = random.uniform(-1...1), mark = random.uniform(-1...1)
                sum = rate * sum + value * (mark > sign ? 1 : -1)
                x += [Float(value), Float(mark)]
            }
            y.append(Float(tanh(sum)))
        }
        return Dataset.generated("fading\(length)", source: "fading", x, y, count: count)
    }

    /// u' + k u = f on 0 ... 1 with u(0) = 0, at random places, for a network N with u = x N(2 x - 1), the derivative a difference of two
    /// places: three rows, of which the middle one has k (`NetworkLoss.linearEquation`).
    static func relaxation(_ count: Int, seed: UInt64) -> Dataset {
        var random = Random(seed, 12), x: [Float] = [], y: [Float] = []
        let step = 0.05, rate = random.uniform(1...10), scale = 0.1
        let waves = (0..<3).map { (random.normal(), random.uniform(0...6.3), Double($0 + 1) * random.uniform(1...4)) }
        for _ in 0..<count {
            let at = random.uniform(step...(1 - step)), places = [at - step, at, at + step]
            x += places.map { Float(2 * $0 - 1) }
            y += zip(places, [-0.5 / step, rate, 0.5 / step]).map { Float(scale * $1 * $0) }
            y.append(Float(scale * waves.reduce(0) { $0 + 3 * $1.0 * sin($1.2 * at + $1.1) }))
        }
        return Dataset.generated("relaxation", source: "relaxation", x, y, count: count)
    }
}
