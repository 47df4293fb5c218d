import Foundation

/// A small square matrix, row-major.
struct SquareMatrix {
    let size: Int
    var values: [Double]

    init(size: Int) {
        self.size = size
        values = Array(repeating: 0, count: size * size)
    }

    subscript(i: Int, j: Int) -> Double {
        get { values[i * size + j] }
        set { values[i * size + j] = newValue }
    }

    static func * (a: SquareMatrix, b: SquareMatrix) -> SquareMatrix {
        var c = SquareMatrix(size: a.size)
        for i in 0..<a.size {
            for j in 0..<a.size {
                c[i, j] = (0..<a.size).reduce(0) { $0 + a[i, $1] * b[$1, j] }
            }
        }
        return c
    }

    /// The largest magnitude of an eigenvalue, as the limit of ||A^k||^(1/k) (Gelfand), k = 2^40 by repeated squaring. It
    /// needs no care for complex or repeated eigenvalues.
    var spectralRadius: Double {
        var power = self
        var (logarithm, weight) = (0.0, 1.0)
        for _ in 0...40 {
            let norm = power.values.reduce(0) { $0 + $1 * $1 }.squareRoot()
            guard norm > 0 else { return 0 }
            guard norm.isFinite else { return .infinity }
            logarithm += weight * log(norm)
            for i in power.values.indices { power.values[i] /= norm }
            power = power * power
            weight /= 2
        }
        return exp(logarithm)
    }
}
