import ArgumentParser
import Foundation
import LOptCore
import LOptMeta

struct Convert: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Makes a weights file of parameter trees of google/learned_optimization.",
        discussion: """
            Takes the trees of AdafacMLPLOpt (small_fc) and MLPNomLOpt (star) as .npz of numpy.savez, as safetensors, with a leaf \
            for each path (nn/~/w0, momentum_decays, ...), or as a checkpoint of the authors' own code. Pickles are not read. VeLO is another \
            rule and not supported.

            A tree does not say what the constructor was given beside the network's size: every value is to be named, or --defaults \
            takes the constructor's own for the others. A trajectory of the authors' code proves that all of it is right; where it \
            does not agree, nothing is written. docs/weights-file.md tells how to save both.

              lopt convert theta.npz --out star.safetensors --nominal-stepsize 0.001 --exp-mult 0.1,0.2,0.3 --defaults
              lopt convert theta.npz --out fc.safetensors --defaults --trajectory steps.npz
            """)

    @Argument(help: "The tree.")
    var tree: String
    @Option(help: "The weights file to write; without it what was found is only printed.")
    var out: String?
    @Flag(help: "Values that are not named are those of the constructor's defaults.")
    var defaults = false
    @Option(help: ArgumentHelp(
        "Steps of the authors' code, leaves init/NAME, grads/NAME and traj/NAME; in several files if given several times.", valueName: "file"))
    var trajectory: [String] = []
    @OptionGroup(title: "Values of the constructor")
    var constructor: ConstructorOptions

    func run() throws {
        let conversion = try TreeConversion(ParameterTree(contentsOf: URL(filePath: tree)), name: tree)
        let weights = try conversion.weights(constructor.values, withDefaults: defaults)
        let rule = weights.architecture
        print(
            "\(rule.kind.name): \(rule.hiddenLayers) hidden layers of \(rule.hiddenSize) units, \(rule.momenta) momenta, "
                + "\(rule.metaParameters) numbers")
        if !conversion.rounded.isEmpty { print("rounded to f32: \(conversion.rounded.joined(separator: ", "))") }
        var notes = [("provenance", "lopt convert, tree \(URL(filePath: tree).lastPathComponent)")]
        if !trajectory.isEmpty { notes.append(("parity", try checkParity(weights))) }
        guard let out else { return }
        try weights.write(to: URL(filePath: out), notes: notes)
        print("wrote \(out)")
    }

    /// What it found, in a line.
    private func checkParity(_ weights: borrowing Weights) throws -> String {
        let check = try ParityCheck(trajectory.map { try ParameterTree(contentsOf: URL(filePath: $0)) })
        var findings: [String] = []
        func hold(_ found: ParityCheck.Difference, _ what: String, to most: Double) throws {
            let size = String(format: "%.1e", found.size)
            guard found.size <= most else {
                throw LOptMetaError(
                    "the trajectory is of other weights or other constructor values: \(what), '\(found.tensor)' after step \(found.step) is off by "
                        + "\(size) of its largest parameter, and \(most) is allowed")
            }
            findings.append("\(what) off by \(size) at most")
        }
        if check.isF64 { try hold(check.reference(weights), "the rule in f64", to: ParityCheck.toleranceF64) }
        try hold(check.runtime(weights), "the runtime in f32", to: ParityCheck.toleranceF32)
        let line = "\(check.tensors.count) tensors, \(check.steps) steps: \(findings.joined(separator: ", "))"
        print("trajectory agrees: \(line)")
        return line
    }
}

/// By the names that the authors' constructors have.
struct ConstructorOptions: ParsableArguments {
    @Option(help: "Of magnitude, nominal and regularisation magnitude: three numbers; small_fc: one.")
    var expMult: String?
    @Option(help: "Of the blackbox term.")
    var stepMult: String?
    @Option(help: "As many as the tree's momentum_decays.")
    var initialMomentumDecays: String?
    @Option(help: "One.")
    var initialRmsDecays: String?
    @Option(help: "As many as the momenta.")
    var initialAdafactorDecays: String?
    @Option(help: "0: no nominal term.")
    var nominalStepsize: String?
    @Option(help: "0: none.")
    var weightDecay: String?
    @Option(help: "true or false.")
    var nominalController: String?
    @Option(help: "true or false.")
    var regularizationController: String?
    @Option(help: "SGD, SGDM, AggMo, Adam or AdamAggMo.")
    var nominalGradEstimator: String?
    @Option(help: "true or false.")
    var aggregateMagnitude: String?
    @Option(help: "true or false.")
    var aggregateNomMagnitude: String?
    @Option(help: "true or false.")
    var aggregateRegMagnitude: String?
    @Option(help: "true or false.")
    var normalizeBlackbox: String?
    @Option(help: "true or false.")
    var selfnormalizeBlackbox: String?

    /// Those given, by their keys in a weights file. Lists may stand without brackets.
    var values: [String: String] {
        func list(_ text: String?) -> String? { text.map { $0.hasPrefix("[") || $0.hasPrefix("(") ? $0 : "[\($0)]" } }
        return [
            "exp_mult": list(expMult), "step_mult": stepMult, "initial_momentum_decays": list(initialMomentumDecays),
            "initial_rms_decays": list(initialRmsDecays), "initial_adafactor_decays": list(initialAdafactorDecays),
            "nominal_stepsize": nominalStepsize, "weight_decay": weightDecay, "nominal_controller": nominalController,
            "regularization_controller": regularizationController, "nominal_grad_estimator": nominalGradEstimator,
            "aggregate_magnitude": aggregateMagnitude, "aggregate_nom_magnitude": aggregateNomMagnitude,
            "aggregate_reg_magnitude": aggregateRegMagnitude, "normalize_blackbox": normalizeBlackbox,
            "selfnormalize_blackbox": selfnormalizeBlackbox,
        ].compactMapValues { $0 }
    }
}
