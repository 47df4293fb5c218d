/// Causal self-attention: softmax(Q K' / sqrt(width / heads)) V, then a product with the output matrix.
struct Attention {
    let width: Int, heads: Int, length: Int, rows: Int
    private var headWidth: Int { width / heads }
    private var examples: Int { rows / length }

    init(_ width: Int, _ heads: Int, _ length: Int, _ rows: Int) {
        (self.width, self.heads, self.length, self.rows) = (width, heads, length, rows)
    }

    /// Queries, keys and values; weights [example, head, length, length]; the mixed values; then the gradients of the three.
    private func parts<S>(_ saved: UnsafeMutablePointer<S>) -> (
        qkv: UnsafeMutablePointer<S>, weights: UnsafeMutablePointer<S>, mixed: UnsafeMutablePointer<S>,
        dqkv: UnsafeMutablePointer<S>, dweights: UnsafeMutablePointer<S>, dmixed: UnsafeMutablePointer<S>
    ) {
        let weights = saved + 3 * rows * width, mixed = weights + rows * heads * length
        let dqkv = mixed + rows * width, dweights = dqkv + 3 * rows * width
        return (saved, weights, mixed, dqkv, dweights, dweights + rows * heads * length)
    }

    func forward<S: NetworkScalar>(
        _ p: UnsafePointer<S>, _ x: UnsafePointer<S>, _ y: UnsafeMutablePointer<S>, _ saved: UnsafeMutablePointer<S>
    ) {
        let at = parts(saved)
        S.multiply(
            rows, 3 * width, width, x, width, transposed: false, p, 3 * width, transposed: false, beta: 0, at.qkv, 3 * width)
        let scale = 1 / S(headWidth).squareRoot()
        forEachHead { row, column, block in
            let q = at.qkv + row * 3 * width + column, w = at.weights + block
            S.multiply(
                length, length, headWidth, q, 3 * width, transposed: false, q + width, 3 * width, transposed: true, beta: 0, w,
                length)
            for i in 0..<length { softmax(w + i * length, i + 1, length, scale) }
            S.multiply(
                length, headWidth, length, w, length, transposed: false, q + 2 * width, 3 * width, transposed: false, beta: 0,
                at.mixed + row * width + column, width)
        }
        S.multiply(
            rows, width, width, at.mixed, width, transposed: false, p + 3 * width * width, width, transposed: false, beta: 0, y,
            width)
    }

    func backward<S: NetworkScalar>(
        _ p: UnsafePointer<S>, _ x: UnsafePointer<S>, _ dy: UnsafePointer<S>, _ dp: UnsafeMutablePointer<S>,
        _ dx: UnsafeMutablePointer<S>?, _ saved: UnsafeMutablePointer<S>
    ) {
        let at = parts(saved), output = 3 * width * width
        S.multiply(width, width, rows, at.mixed, width, transposed: true, dy, width, transposed: false, beta: 0, dp + output, width)
        S.multiply(
            rows, width, width, dy, width, transposed: false, p + output, width, transposed: true, beta: 0, at.dmixed, width)
        let scale = 1 / S(headWidth).squareRoot(), step = 3 * width
        forEachHead { row, column, block in
            let q = at.qkv + row * step + column, dq = at.dqkv + row * step + column
            let w = at.weights + block, dw = at.dweights + block, dm = at.dmixed + row * width + column
            S.multiply(
                length, length, headWidth, dm, width, transposed: false, q + 2 * width, step, transposed: true, beta: 0, dw, length)
            S.multiply(
                length, headWidth, length, w, length, transposed: true, dm, width, transposed: false, beta: 0, dq + 2 * width, step)
            for i in 0..<length {
                let wi = w + i * length, dwi = dw + i * length
                var product: S = 0
                for j in 0...i { product += wi[j] * dwi[j] }
                for j in 0..<length { dwi[j] = wi[j] * (dwi[j] - product) * scale }
            }
            S.multiply(
                length, headWidth, length, dw, length, transposed: false, q + width, step, transposed: false, beta: 0, dq, step)
            S.multiply(
                length, headWidth, length, dw, length, transposed: true, q, step, transposed: false, beta: 0, dq + width, step)
        }
        S.multiply(width, step, rows, x, width, transposed: true, at.dqkv, step, transposed: false, beta: 0, dp, step)
        guard let dx else { return }
        S.multiply(rows, width, step, at.dqkv, step, transposed: false, p, step, transposed: true, beta: 0, dx, width)
    }

    /// First row, first column of the queries and the place of the weights of every example and head.
    @inline(__always)
    private func forEachHead(_ body: (Int, Int, Int) -> Void) {
        for e in 0..<examples {
            for h in 0..<heads { body(e * length, h * headWidth, (e * heads + h) * length * length) }
        }
    }

    /// Of the first `count` numbers times scale; the rest, which lie in the future, become 0.
    private func softmax<S: NetworkScalar>(_ w: UnsafeMutablePointer<S>, _ count: Int, _ length: Int, _ scale: S) {
        var largest = w[0]
        for j in 1..<max(count, 1) where w[j] > largest { largest = w[j] }
        for j in 0..<count { w[j] = (w[j] - largest) * scale }
        S.exp(w, w, count)
        var sum: S = 0
        for j in 0..<count { sum += w[j] }
        for j in 0..<count { w[j] /= sum }
        for j in count..<length { w[j] = 0 }
    }
}
