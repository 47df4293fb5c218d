enum Dense {
    static func forward<S: NetworkScalar>(
        _ p: UnsafePointer<S>, _ x: UnsafePointer<S>, _ y: UnsafeMutablePointer<S>, _ rows: Int, _ inputs: Int,
        _ outputs: Int, hasBias: Bool = true
    ) {
        let bias = p + inputs * outputs
        if hasBias { for r in 0..<rows { (y + r * outputs).update(from: bias, count: outputs) } }
        S.multiply(rows, outputs, inputs, x, inputs, transposed: false, p, outputs, transposed: false, beta: hasBias ? 1 : 0, y, outputs)
    }

    static func backward<S: NetworkScalar>(
        _ p: UnsafePointer<S>, _ x: UnsafePointer<S>, _ dy: UnsafePointer<S>, _ dp: UnsafeMutablePointer<S>,
        _ dx: UnsafeMutablePointer<S>?, _ rows: Int, _ inputs: Int, _ outputs: Int, hasBias: Bool = true
    ) {
        S.multiply(inputs, outputs, rows, x, inputs, transposed: true, dy, outputs, transposed: false, beta: 0, dp, outputs)
        if hasBias { sumRows(dy, dp + inputs * outputs, rows, outputs) }
        guard let dx else { return }
        S.multiply(rows, inputs, outputs, dy, outputs, transposed: false, p, outputs, transposed: true, beta: 0, dx, inputs)
    }

    /// y = the sum of the rows.
    static func sumRows<S: NetworkScalar>(
        _ x: UnsafePointer<S>, _ y: UnsafeMutablePointer<S>, _ rows: Int, _ width: Int
    ) {
        // Eight columns at a time, their sums in registers.
        var j = 0
        while j + 8 <= width {
            var sum = SIMD8<S>(repeating: 0)
            for r in 0..<rows { sum += UnsafeRawPointer(x + r * width + j).loadUnaligned(as: SIMD8<S>.self) }
            for lane in 0..<8 { y[j + lane] = sum[lane] }
            j += 8
        }
        while j < width {
            var sum: S = 0
            for r in 0..<rows { sum += x[r * width + j] }
            y[j] = sum
            j += 1
        }
    }
}

enum Embedding {
    static func forward<S: NetworkScalar>(
        _ p: UnsafePointer<S>, _ x: UnsafePointer<S>, _ y: UnsafeMutablePointer<S>, _ rows: Int, _ tokens: Int, _ width: Int
    ) {
        for r in 0..<rows { (y + r * width).update(from: p + Int(x[r]) * width, count: width) }
    }

    static func backward<S: NetworkScalar>(
        _ x: UnsafePointer<S>, _ dy: UnsafePointer<S>, _ dp: UnsafeMutablePointer<S>, _ rows: Int, _ tokens: Int,
        _ width: Int
    ) {
        dp.update(repeating: 0, count: tokens * width)
        for r in 0..<rows {
            let row = dp + Int(x[r]) * width
            for j in 0..<width { row[j] += dy[r * width + j] }
        }
    }
}

enum MeanOverRows {
    static func forward<S: NetworkScalar>(
        _ x: UnsafePointer<S>, _ y: UnsafeMutablePointer<S>, _ examples: Int, _ rows: Int, _ width: Int
    ) {
        for e in 0..<examples {
            Dense.sumRows(x + e * rows * width, y + e * width, rows, width)
            for j in 0..<width { y[e * width + j] /= S(rows) }
        }
    }

    static func backward<S: NetworkScalar>(
        _ dy: UnsafePointer<S>, _ dx: UnsafeMutablePointer<S>?, _ examples: Int, _ rows: Int, _ width: Int
    ) {
        guard let dx else { return }
        for e in 0..<examples {
            for r in 0..<rows { for j in 0..<width { dx[(e * rows + r) * width + j] = dy[e * width + j] / S(rows) } }
        }
    }
}

enum LayerNorm {
    /// Inside the root, against the variance of a row.
    private static var epsilon: Double { 1e-5 }

    /// Saves mean and 1 / deviation of each row.
    static func forward<S: NetworkScalar>(
        _ p: UnsafePointer<S>, _ x: UnsafePointer<S>, _ y: UnsafeMutablePointer<S>, _ saved: UnsafeMutablePointer<S>,
        _ rows: Int, _ width: Int
    ) {
        for r in 0..<rows {
            let x = x + r * width, y = y + r * width
            var sum: S = 0, squares: S = 0
            for j in 0..<width { sum += x[j] }
            let mean = sum / S(width)
            for j in 0..<width { squares += (x[j] - mean) * (x[j] - mean) }
            let inverse = 1 / (squares / S(width) + S(epsilon)).squareRoot()
            saved[2 * r] = mean
            saved[2 * r + 1] = inverse
            for j in 0..<width { y[j] = (x[j] - mean) * inverse * p[j] + p[width + j] }
        }
    }

    static func backward<S: NetworkScalar>(
        _ p: UnsafePointer<S>, _ x: UnsafePointer<S>, _ dy: UnsafePointer<S>, _ dp: UnsafeMutablePointer<S>,
        _ dx: UnsafeMutablePointer<S>?, _ saved: UnsafePointer<S>, _ rows: Int, _ width: Int
    ) {
        dp.update(repeating: 0, count: 2 * width)
        for r in 0..<rows {
            let x = x + r * width, dy = dy + r * width
            let mean = saved[2 * r], inverse = saved[2 * r + 1]
            var sum: S = 0, product: S = 0
            for j in 0..<width {
                let normal = (x[j] - mean) * inverse
                dp[j] += dy[j] * normal
                dp[width + j] += dy[j]
                sum += dy[j] * p[j]
                product += dy[j] * p[j] * normal
            }
            guard let dx else { continue }
            for j in 0..<width {
                let normal = (x[j] - mean) * inverse
                dx[r * width + j] = inverse * (dy[j] * p[j] - (sum + normal * product) / S(width))
            }
        }
    }
}
