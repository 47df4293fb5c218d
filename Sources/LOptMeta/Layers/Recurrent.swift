/// A gated recurrent unit (Cho et al. 2014): z = sigmoid(x Wz + h Uz + bz), r = sigmoid(x Wr + h Ur + br),
/// c = tanh(x Wc + r (h Uc) + bc), h <- (1 - z) h + z c, from h = 0. Columns of W, U and b: z, r, c.
struct Recurrent {
    let inputs: Int, width: Int, length: Int, rows: Int
    private var examples: Int { rows / length }

    init(_ inputs: Int, _ width: Int, _ length: Int, _ rows: Int) {
        (self.inputs, self.width, self.length, self.rows) = (inputs, width, length, rows)
    }

    /// Gates z, r, c (3 each row); h U (3); gradients of the arguments of z, r, c (3), of h U (3), of h (1).
    private func parts<S>(_ saved: UnsafeMutablePointer<S>) -> (
        gates: UnsafeMutablePointer<S>, state: UnsafeMutablePointer<S>, dgates: UnsafeMutablePointer<S>,
        dstate: UnsafeMutablePointer<S>, dh: UnsafeMutablePointer<S>
    ) {
        let plane = 3 * rows * width
        return (saved, saved + plane, saved + 2 * plane, saved + 3 * plane, saved + 4 * plane)
    }

    func forward<S: NetworkScalar>(
        _ p: UnsafePointer<S>, _ x: UnsafePointer<S>, _ y: UnsafeMutablePointer<S>, _ saved: UnsafeMutablePointer<S>
    ) {
        let at = parts(saved), w3 = 3 * width
        let u = p + inputs * w3, bias = u + width * w3
        for r in 0..<rows { (at.gates + r * w3).update(from: bias, count: w3) }
        S.multiply(rows, w3, inputs, x, inputs, transposed: false, p, w3, transposed: false, beta: 1, at.gates, w3)
        for t in 0..<length {
            if t == 0 {
                for e in 0..<examples { (at.state + e * length * w3).update(repeating: 0, count: w3) }
            } else {
                // Row t of every example: rows of the matrix are a sequence apart.
                S.multiply(
                    examples, w3, width, y + (t - 1) * width, length * width, transposed: false, u, w3, transposed: false,
                    beta: 0, at.state + t * w3, length * w3)
            }
            for e in 0..<examples {
                let row = e * length + t
                let g = at.gates + row * w3, s = at.state + row * w3, h = y + row * width
                for j in 0..<2 * width { g[j] += s[j] }
                ActivationLayer.sigmoid(g, g, 2 * width, scale: 1)
                for j in 0..<width { g[2 * width + j] += g[width + j] * s[2 * width + j] }
                ActivationLayer.tanh(g + 2 * width, g + 2 * width, width)
                for j in 0..<width {
                    let before = t > 0 ? (h - width)[j] : 0
                    h[j] = before + g[j] * (g[2 * width + j] - before)
                }
            }
        }
    }

    func backward<S: NetworkScalar>(
        _ p: UnsafePointer<S>, _ x: UnsafePointer<S>, _ y: UnsafePointer<S>, _ dy: UnsafePointer<S>,
        _ dp: UnsafeMutablePointer<S>, _ dx: UnsafeMutablePointer<S>?, _ saved: UnsafeMutablePointer<S>
    ) {
        let at = parts(saved), w3 = 3 * width
        let u = p + inputs * w3
        at.dh.update(from: dy, count: rows * width)
        for t in (0..<length).reversed() {
            for e in 0..<examples { gateGradients(at.gates, at.state, at.dgates, at.dstate, at.dh, y, e * length + t, t) }
            guard t > 0 else { continue }
            S.multiply(
                examples, width, w3, at.dstate + t * w3, length * w3, transposed: false, u, w3, transposed: true, beta: 1,
                at.dh + (t - 1) * width, length * width)
        }
        S.multiply(inputs, w3, rows, x, inputs, transposed: true, at.dgates, w3, transposed: false, beta: 0, dp, w3)
        let du = dp + inputs * w3
        du.update(repeating: 0, count: width * w3)
        for e in 0..<examples where length > 1 {
            let first = e * length
            S.multiply(
                width, w3, length - 1, y + first * width, width, transposed: true, at.dstate + (first + 1) * w3, w3,
                transposed: false, beta: 1, du, w3)
        }
        Dense.sumRows(at.dgates, du + width * w3, rows, w3)
        guard let dx else { return }
        S.multiply(rows, inputs, w3, at.dgates, w3, transposed: false, p, w3, transposed: true, beta: 0, dx, inputs)
    }

    /// Of one row, from the gradient of its h; adds what reaches the h before without going through U.
    @inline(__always)
    private func gateGradients<S: NetworkScalar>(
        _ gates: UnsafePointer<S>, _ state: UnsafePointer<S>, _ dgates: UnsafeMutablePointer<S>,
        _ dstate: UnsafeMutablePointer<S>, _ dh: UnsafeMutablePointer<S>, _ y: UnsafePointer<S>, _ row: Int, _ t: Int
    ) {
        let w3 = 3 * width, w2 = 2 * width
        let g = gates + row * w3, s = state + row * w3, dg = dgates + row * w3, ds = dstate + row * w3
        let d = dh + row * width
        for j in 0..<width {
            let before = t > 0 ? y[(row - 1) * width + j] : 0
            let z = g[j], r = g[width + j], c = g[w2 + j]
            let dc = d[j] * z * (1 - c * c)
            let dr = dc * s[w2 + j] * r * (1 - r)
            let dz = d[j] * (c - before) * z * (1 - z)
            dg[j] = dz
            dg[width + j] = dr
            dg[w2 + j] = dc
            ds[j] = dz
            ds[width + j] = dr
            ds[w2 + j] = dc * r
            if t > 0 { (d - width)[j] += d[j] * (1 - z) }
        }
    }
}
