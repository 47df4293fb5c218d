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
        forEachPixel { patch, pixel in
            let to = saved + patch
            if pixel >= 0 {
                to.update(from: x + pixel * inputs, count: inputs)
            } else {
                to.update(repeating: 0, count: inputs)
            }
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
        forEachPixel { patch, pixel in
            guard pixel >= 0 else { return }
            let to = dx + pixel * inputs, from = patchGradient + patch
            for j in 0..<inputs { to[j] += from[j] }
        }
    }

    /// Each place of each patch: where its `inputs` numbers lie among all patches, and its pixel, -1 outside the image.
    @inline(__always)
    private func forEachPixel(_ body: (Int, Int) -> Void) {
        for e in 0..<examples {
            for row in 0..<outputSide {
                for column in 0..<outputSide {
                    let patch = ((e * outputSide + row) * outputSide + column) * patchWidth
                    for i in 0..<3 {
                        for j in 0..<3 {
                            let r = row * stride + i - 1, c = column * stride + j - 1
                            let isInside = r >= 0 && r < side && c >= 0 && c < side
                            body(patch + (3 * i + j) * inputs, isInside ? (e * side + r) * side + c : -1)
                        }
                    }
                }
            }
        }
    }
}
