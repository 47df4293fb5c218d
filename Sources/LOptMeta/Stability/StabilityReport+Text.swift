import Foundation

extension StabilityReport {
    /// What is compared with, at its usual learning rates.
    static let comparisons: [(label: String, response: @Sendable (_ noise: Double) -> LinearResponse)] = [
        ("Adam 0.001", { .adam(rate: 1e-3, noise: $0) }),
        ("SGDM 0.1", { _ in .sgdm(rate: 0.1) }),
        ("SGD 0.1", { _ in .sgd(rate: 0.1) }),
    ]

    /// For the terminal.
    public var text: String {
        """
        \(weights) after \(Format.count(steps)) steps

        Least curvature at which a deviation grows (by e in 1,000 steps or faster), in a direction whose gradient has this noise

        \(limits)

        Step for each unit of a gradient that stays (alpha of the nominal term and P of the blackbox), 2 over it, which bounds
        the curvature of an optimizer without momentum, and drift of a parameter back to 0

        \(gains)

        Spectral radius by curvature (across) and noise of the gradient (down)

        \(radii)

        """
    }

    private var limits: String {
        var table = TextTable(
            header: ["noise"] + variants.map(\.rawValue) + StabilityReport.comparisons.map(\.label))
        for noise in noises {
            let ours = variants.map { Format.limit(entry($0, noise: noise)?.largestStableCurvature) }
            let theirs = StabilityReport.comparisons.map { Format.limit($0.response(noise).largestStableCurvature) }
            table.add([Format.short(noise)] + ours + theirs)
        }
        return table.text
    }

    private var gains: String {
        var table = TextTable(header: ["noise"] + variants.map(\.rawValue) + ["2 / whole", "drift of whole"])
        for noise in noises {
            let gains = variants.map { Format.short(entry($0, noise: noise)?.response.settled ?? .nan) }
            guard let whole = entry(.whole, noise: noise)?.response else { continue }
            table.add([Format.short(noise)] + gains + [Format.short(2 / whole.settled), Format.short(whole.drift)])
        }
        return table.text
    }

    private var radii: String {
        let columns = stride(from: 0, to: curvatures.count, by: max(1, curvatures.count / 8)).map { $0 }
        var table = TextTable(header: ["noise"] + columns.map { Format.round(curvatures[$0]) })
        for noise in noises {
            guard let radii = entry(.whole, noise: noise)?.spectralRadii else { continue }
            table.add([Format.short(noise)] + columns.map { String(format: radii[$0] < 10 ? "%.4f" : "%.3g", radii[$0]) })
        }
        return table.text
    }
}

extension Format {
    fileprivate static func limit(_ curvature: Double?) -> String { curvature.map { short($0) } ?? "> 1e12" }
}
