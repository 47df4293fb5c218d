/// One pass over the memory of a tensor. It leaves sums over the tensor, and what follows from them is decided before the
/// next begins.
struct Pass {
    enum Kind {
        /// A: the gradient goes into the accumulators.
        case accumulate
        /// N: terms of the update that need the network, and others beside them.
        case network
        /// E: terms that do not.
        case elements
        /// P: all at once, of weights of kind pooled.
        case pooled
    }
    /// Of the update, as far as the rule has them.
    enum Terms { case none, all, nominal, allButNominal }
    /// What later passes are scaled by.
    enum Measured {
        case nothing
        /// Means of squares of parameters, gradient and accumulators.
        case moments
        /// Means of heads; that of the nominal one, and nothing else is needed.
        case heads, nominalHead
        /// The size of the update, what passes before have measured included: for the guard.
        case update
    }

    let kind: Kind
    let terms: Terms
    let measures: Measured
    /// Parameters are written.
    let writes: Bool
}

/// The passes of a step in their order.
struct PassList {
    private(set) var count = 0
    private var passes = [4 of Pass](repeating: Pass(kind: .accumulate, terms: .none, measures: .moments, writes: false))

    mutating func append(_ kind: Pass.Kind, _ terms: Pass.Terms, _ measures: Pass.Measured, writes: Bool) {
        passes[count] = Pass(kind: kind, terms: terms, measures: measures, writes: writes)
        count += 1
    }

    subscript(index: Int) -> Pass { passes[index] }
}
