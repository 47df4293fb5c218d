import Foundation

extension WeightsInspection {
    /// For the terminal.
    public var text: String {
        var parts = ["\(name): \(kind), \(metaParameters) meta-parameters, digest \(digest)"]
        if !notes.isEmpty { parts.append(WeightsInspection.list("metadata", notes.map { ($0.key, $0.value) })) }
        parts.append(WeightsInspection.list("constructor values", values.map { ($0.key, $0.value) }))
        parts.append("extensions: " + (extensions.isEmpty ? "none" : extensions.joined(separator: ", ")))
        var decayTable = TextTable(header: ["decays", "initial", "learned", "averages over"])
        for decay in decays {
            decayTable.add([
                decay.accumulator, "\(decay.initial)", String(format: "%.6g", decay.learned),
                decay.learned < 1 ? String(format: "%.4g steps", 1 / (1 - decay.learned)) : "-",
            ])
        }
        parts.append(decayTable.text)
        parts.append(stepSizeText)
        if !tensorScales.isEmpty {
            let hasSchedule = tensorScales.contains { $0.perTau != nil }
            var table = TextTable(header: ["tensor_scale", "weight"] + (hasSchedule ? ["times log(1 + min(t, 30000) / 30) / 5"] : []))
            for scale in tensorScales {
                table.add([scale.input, String(format: "%.4f", scale.weight)]
                    + (hasSchedule ? [scale.perTau.map { String(format: "%.4f", $0) } ?? "0"] : []))
            }
            parts.append(table.text)
        }
        if let pooled { parts.append(pooled.text) }
        if !ranges.isEmpty { parts.append(rangesText) }
        var layerTable = TextTable(header: [pooled == nil ? "network" : "tensor", "shape", "RMS", "largest"])
        for layer in layers {
            layerTable.add([
                layer.name, layer.shape.map { "\($0)" }.joined(separator: " x "), Format.short(layer.rms),
                Format.short(layer.largest),
            ])
        }
        parts.append(layerTable.text)
        return parts.joined(separator: "\n\n") + "\n"
    }

    /// Where statistics and log-step are clamped.
    public var rangesText: String {
        var table = TextTable(header: ["clamped to", "least", "most"])
        for range in ranges {
            table.add([range.input, String(format: "%.4f", range.least), String(format: "%.4f", range.most)])
        }
        return table.text
    }

    /// Bars on a logarithmic scale, of the nominal step or, for small_fc, of the blackbox term; for pooled of the step.
    private var stepSizeText: String {
        let isNominal = stepSizes.contains { $0.nominal != nil }
        let sizes = stepSizes.map { isNominal ? $0.nominal ?? 0 : abs($0.blackbox ?? 0) }
        let logs = sizes.map { $0 > 0 ? log10($0) : -.infinity }
        let top = logs.max() ?? 0
        let bottom = min(logs.filter(\.isFinite).min() ?? top, top - 1)
        let header = ["step size at t"] + (isNominal ? ["nominal"] : []) + [pooled == nil ? "blackbox" : "learned decay", ""]
        var table = TextTable(header: header)
        for (i, size) in stepSizes.enumerated() {
            let share = logs[i].isFinite ? (logs[i] - bottom) / (top - bottom) : 0
            let bar = logs[i].isFinite ? String(repeating: "#", count: 2 + Int((38 * share).rounded())) : ""
            let nominal = isNominal ? [Format.short(size.nominal ?? 0)] : []
            table.add([Format.count(size.t)] + nominal + [Format.short(size.blackbox ?? size.decay ?? 0), bar.padding(toLength: 40, withPad: " ", startingAt: 0)])
        }
        return table.text + "\n(all \(pooled == nil ? "features" : "statistics") but t are 0; bars are logarithmic, of the "
            + (isNominal ? "nominal step size)" : "blackbox term)")
    }

    private static func list(_ title: String, _ pairs: [(String, String)]) -> String {
        let width = pairs.map(\.0.count).max() ?? 0
        return ([title] + pairs.map { "  " + $0.0.padding(toLength: width + 2, withPad: " ", startingAt: 0) + $0.1 })
            .joined(separator: "\n")
    }
}
