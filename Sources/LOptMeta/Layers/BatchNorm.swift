/// Ioffe and Szegedy 2015: each column of a minibatch's rows to mean 0 and variance 1, then times a scale and plus a shift. In training
/// mean and variance are the minibatch's, which the gradient goes through; held-out rows are judged with running averages of these.
struct BatchNorm {
    let rows: Int, width: Int
    /// Inside the root, against the variance of a column.
    private static var epsilon: Double { 1e-5 }
    /// Part of a minibatch in the running averages, as PyTorch has it.
    private static var momentum: Double { 0.1 }

    init(_ rows: Int, _ width: Int) { (self.rows, self.width) = (rows, width) }

    /// What is saved: mean and 1 / deviation of the minibatch's columns, two sums over a column, and the running averages.
    private func parts<S>(_ saved: UnsafeMutablePointer<S>) -> (
        mean: UnsafeMutablePointer<S>, inverse: UnsafeMutablePointer<S>, sums: UnsafeMutablePointer<S>, running: UnsafeMutablePointer<S>
    ) {
        (saved, saved + width, saved + 2 * width, saved + 4 * width)
    }

    /// Running means, behind them running variances: 2 `width` numbers that outlive a minibatch.
    func running<S>(_ saved: UnsafeMutablePointer<S>) -> UnsafeMutableBufferPointer<S> {
        UnsafeMutableBufferPointer(start: parts(saved).running, count: 2 * width)
    }

    /// Means of 0 and variances of 1.
    func begin<S: NetworkScalar>(_ saved: UnsafeMutablePointer<S>) {
        let running = running(saved)
        for j in 0..<width { (running[j], running[width + j]) = (0, 1) }
    }

    /// Of a minibatch of the training, which the running averages take in: their variances are without bias, n / (n - 1) times the
    /// minibatch's.
    func forward<S: NetworkScalar>(
        _ p: UnsafePointer<S>, _ x: UnsafePointer<S>, _ y: UnsafeMutablePointer<S>, _ saved: UnsafeMutablePointer<S>
    ) {
        let at = parts(saved), variance = at.inverse
        Dense.sumRows(x, at.mean, rows, width)
        for j in 0..<width { at.mean[j] /= S(rows) }
        variance.update(repeating: 0, count: width)
        for r in 0..<rows {
            let x = x + r * width
            for j in 0..<width { variance[j] += (x[j] - at.mean[j]) * (x[j] - at.mean[j]) }
        }
        let part = S(BatchNorm.momentum)
        for j in 0..<width {
            at.running[j] += part * (at.mean[j] - at.running[j])
            at.running[width + j] += part * (variance[j] / S(max(rows - 1, 1)) - at.running[width + j])
            at.inverse[j] = 1 / (variance[j] / S(rows) + S(BatchNorm.epsilon)).squareRoot()
        }
        for r in 0..<rows {
            let x = x + r * width, y = y + r * width
            for j in 0..<width { y[j] = (x[j] - at.mean[j]) * at.inverse[j] * p[j] + p[width + j] }
        }
    }

    /// Of held-out rows, each by itself.
    func judge<S: NetworkScalar>(
        _ p: UnsafePointer<S>, _ x: UnsafePointer<S>, _ y: UnsafeMutablePointer<S>, _ saved: UnsafeMutablePointer<S>
    ) {
        let at = parts(saved), variance = at.running + width
        for j in 0..<width { at.inverse[j] = p[j] / (variance[j] + S(BatchNorm.epsilon)).squareRoot() }
        for r in 0..<rows {
            let x = x + r * width, y = y + r * width
            for j in 0..<width { y[j] = (x[j] - at.running[j]) * at.inverse[j] + p[width + j] }
        }
    }

    /// After `forward`.
    func backward<S: NetworkScalar>(
        _ p: UnsafePointer<S>, _ x: UnsafePointer<S>, _ dy: UnsafePointer<S>, _ dp: UnsafeMutablePointer<S>,
        _ dx: UnsafeMutablePointer<S>?, _ saved: UnsafeMutablePointer<S>
    ) {
        let at = parts(saved), product = at.sums, sum = at.sums + width
        at.sums.update(repeating: 0, count: 2 * width)
        for r in 0..<rows {
            let x = x + r * width, dy = dy + r * width
            for j in 0..<width {
                product[j] += dy[j] * (x[j] - at.mean[j]) * at.inverse[j]
                sum[j] += dy[j]
            }
        }
        dp.update(from: at.sums, count: 2 * width)
        guard let dx else { return }
        for r in 0..<rows {
            let x = x + r * width, dy = dy + r * width, dx = dx + r * width
            for j in 0..<width {
                let normal = (x[j] - at.mean[j]) * at.inverse[j]
                dx[j] = p[j] * at.inverse[j] * (dy[j] - (sum[j] + normal * product[j]) / S(rows))
            }
        }
    }
}
