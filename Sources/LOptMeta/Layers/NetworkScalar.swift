import COpenBLAS
import Foundation

/// What networks compute with: Float for use, Double to check the gradients.
public protocol NetworkScalar: BinaryFloatingPoint, SIMDScalar, Codable, Sendable {
    /// C = beta C + op(A) op(B), row-major: op(A) is m x k, op(B) k x n. `lda` and the others are the distances of rows.
    static func multiply(
        _ m: Int, _ n: Int, _ k: Int, _ a: UnsafePointer<Self>, _ lda: Int, transposed: Bool, _ b: UnsafePointer<Self>,
        _ ldb: Int, transposed: Bool, beta: Self, _ c: UnsafeMutablePointer<Self>, _ ldc: Int)
    /// y_i = exp(x_i); x and y may be the same.
    static func exp(_ x: UnsafePointer<Self>, _ y: UnsafeMutablePointer<Self>, _ count: Int)
    static func log(_ x: Self) -> Self
}

/// OpenBLAS keeps to the thread that calls it: each unroll has one.
private let oneThread: Void = openblas_set_num_threads(1)

extension Float: NetworkScalar {
    public static func multiply(
        _ m: Int, _ n: Int, _ k: Int, _ a: UnsafePointer<Float>, _ lda: Int, transposed ta: Bool, _ b: UnsafePointer<Float>,
        _ ldb: Int, transposed tb: Bool, beta: Float, _ c: UnsafeMutablePointer<Float>, _ ldc: Int
    ) {
        _ = oneThread
        cblas_sgemm(
            CblasRowMajor, ta ? CblasTrans : CblasNoTrans, tb ? CblasTrans : CblasNoTrans, blasint(m), blasint(n),
            blasint(k), 1, a, blasint(lda), b, blasint(ldb), beta, c, blasint(ldc))
    }

    /// Vectors of eight: 2^n times the Taylor polynomial of degree 6 in [-ln 2 / 2, ln 2 / 2], 2e-7 relative. Arguments are
    /// clamped to +-87.
    public static func exp(_ x: UnsafePointer<Float>, _ y: UnsafeMutablePointer<Float>, _ count: Int) {
        var i = 0
        while i + 8 <= count {
            exp8(UnsafeRawPointer(x + i).loadUnaligned(as: SIMD8<Float>.self)).store(y + i)
            i += 8
        }
        if i < count {
            var rest = SIMD8<Float>()
            for j in i..<count { rest[j - i] = x[j] }
            rest = exp8(rest)
            for j in i..<count { y[j] = rest[j - i] }
        }
    }

    public static func log(_ x: Float) -> Float { Foundation.log(x) }

    @inline(__always)
    private static func exp8(_ argument: SIMD8<Float>) -> SIMD8<Float> {
        // Not `clamped`: it is a call for each bound, which costs as much as all the rest.
        let x = argument.replacing(with: -87, where: argument .< -87).replacing(with: 87, where: argument .> 87)
        // Adding 1.5 * 2^23 rounds to a whole number, whose low bits are those of the sum.
        let shift = SIMD8<Float>(repeating: 12_582_912)
        let shifted = x * 1.442695 + shift
        let n = shifted - shift
        let f = (x - n * 0.693145752) - n * 1.42860677e-6
        var p = f * (1 / 720) + 1 / 120
        p = p * f + 1 / 24
        p = p * f + 1 / 6
        p = p * f + 0.5
        p = p * f + 1
        p = p * f + 1
        let bits = unsafeBitCast(shifted, to: SIMD8<Int32>.self) &- unsafeBitCast(shift, to: SIMD8<Int32>.self)
        return p * unsafeBitCast((bits &+ 127) &<< 23, to: SIMD8<Float>.self)
    }
}

extension SIMD8<Float> {
    @inline(__always)
    fileprivate func store(_ to: UnsafeMutablePointer<Float>) {
        UnsafeMutableRawPointer(to).storeBytes(of: self, as: SIMD8<Float>.self)
    }
}

extension Double: NetworkScalar {
    public static func multiply(
        _ m: Int, _ n: Int, _ k: Int, _ a: UnsafePointer<Double>, _ lda: Int, transposed ta: Bool,
        _ b: UnsafePointer<Double>, _ ldb: Int, transposed tb: Bool, beta: Double, _ c: UnsafeMutablePointer<Double>,
        _ ldc: Int
    ) {
        _ = oneThread
        cblas_dgemm(
            CblasRowMajor, ta ? CblasTrans : CblasNoTrans, tb ? CblasTrans : CblasNoTrans, blasint(m), blasint(n),
            blasint(k), 1, a, blasint(lda), b, blasint(ldb), beta, c, blasint(ldc))
    }

    public static func exp(_ x: UnsafePointer<Double>, _ y: UnsafeMutablePointer<Double>, _ count: Int) {
        for i in 0..<count { y[i] = Foundation.exp(x[i]) }
    }

    public static func log(_ x: Double) -> Double { Foundation.log(x) }
}
