/// 3 x 3, zero padding of 1, as a matrix product over patches.
struct Convolution {
    let side: Int, inputs: Int, outputs: Int, stride: Int, hasBias: Bool, examples: Int
    private var outputSide: Int { side / stride }
    private var patches: Int { examples * outputSide * outputSide }
    private var patchWidth: Int { 9 * inputs }

    init(_ side: Int, _ inputs: Int, _ outputs: Int, _ stride: Int, hasBias: Bool, _ rows: Int) {
        (self.side, self.inputs, self.outputs, self.stride, self.hasBias) = (side, inputs, outputs, stride, hasBias)
        examples = rows / (side * side)
    }

    func forward<S: NetworkScalar>(
        _ p: UnsafePointer<S>, _ x: UnsafePointer<S>, _ y: UnsafeMutablePointer<S>, _ saved: UnsafeMutablePointer<S>
    ) {
        forEachRow { patch, pixel, before, behind in
            var to = saved + patch
            for _ in 0..<before * inputs { (to.pointee, to) = (0, to + 1) }
            let count = (3 - before - behind) * inputs, from = x + pixel * inputs
            for j in 0..<count { to[j] = from[j] }
            for j in 0..<behind * inputs { to[count + j] = 0 }
        }
        Dense.forward(p, saved, y, patches, patchWidth, outputs, hasBias: hasBias)
    }

    func backward<S: NetworkScalar>(
        _ p: UnsafePointer<S>, _ dy: UnsafePointer<S>, _ dp: UnsafeMutablePointer<S>, _ dx: UnsafeMutablePointer<S>?,
        _ saved: UnsafeMutablePointer<S>
    ) {
        let patchGradient = saved + patches * patchWidth
        Dense.backward(p, saved, dy, dp, dx == nil ? nil : patchGradient, patches, patchWidth, outputs, hasBias: hasBias)
        guard let dx else { return }
        dx.update(repeating: 0, count: examples * side * side * inputs)
        forEachRow { patch, pixel, before, behind in
            let to = dx + pixel * inputs, from = patchGradient + patch + before * inputs
            for j in 0..<(3 - before - behind) * inputs { to[j] += from[j] }
        }
    }

    /// Each row of three pixels of each patch: where its numbers lie among all patches, its first pixel inside the image, and how many of the
    /// three are outside before and behind that.
    @inline(__always)
    private func forEachRow(_ body: (_ patch: Int, _ pixel: Int, _ before: Int, _ behind: Int) -> Void) {
        for e in 0..<examples {
            for row in 0..<outputSide {
                for column in 0..<outputSide {
                    let patch = ((e * outputSide + row) * outputSide + column) * patchWidth, c = column * stride - 1
                    for i in 0..<3 {
                        let r = row * stride + i - 1, isInside = r >= 0 && r < side
                        let before = isInside ? max(-c, 0) : 3, behind = isInside ? max(c + 3 - side, 0) : 0
                        body(patch + 3 * i * inputs, isInside ? (e * side + r) * side + c + before : 0, before, behind)
                    }
                }
            }
        }
    }
}
