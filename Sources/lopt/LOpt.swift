import ArgumentParser

@main
struct LOpt: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "lopt",
        abstract: "Meta-trains, evaluates and inspects the weights of learned optimizers.",
        subcommands: [MetaTrain.self, Evaluate.self, Inspect.self, Stability.self, Curves.self, Ranges.self])
}
