import CLOptShims

/// An average of a tensor's parameters over its steps, t = 0, 1, ... The first step's parameters are the first average.
public struct ParameterAverage: Sendable {
    /// The raw values are those of `lopt_average`.
    public enum Kind: Int32, Sendable {
        case none = 0
        /// a += (p - a) k / (t + k): over a part of the steps that grows with them.
        case growing = 1
        /// a += (p - a) / w, and the mean of all until there are w.
        case exponential = 2
    }

    public let kind: Kind
    private let span: Double

    /// `span` is k or w; 0: 10 or 1000.
    public init(_ kind: Kind, span: Double) {
        self.kind = kind
        self.span = span != 0 ? span : kind == .growing ? 10 : 1000
    }

    func rate(_ t: Int64) -> Float {
        Float(kind == .growing ? span / (Double(t) + span) : 1 / min(Double(t) + 1, span))
    }

    func check() throws(LOptError) {
        guard span >= 1 && span <= Optimizer.largestScale else {
            throw LOptError(.invalidArgument, "average_span is \(span); allowed are 0 (the default) and 1 to 1e30")
        }
    }
}

extension Optimizer {
    /// Copies the average of a tensor. Before its first step that is the parameter.
    public func getAverage(_ index: Int, into out: UnsafeMutablePointer<Float>, count: Int) throws(LOptError) {
        try checkIndex(index)
        let t = tensors[index]
        guard !t.isElsewhere else { throw LOptError(.invalidArgument, "tensor '\(t.identity.name)' is elsewhere") }
        guard count == t.geometry.count else {
            throw LOptError(.invalidArgument, "count is \(count); tensor '\(t.identity.name)' has \(t.geometry.count) elements")
        }
        guard let average = t.memory.average else { throw noAverage() }
        guard count > 0 else { return }
        takeInParameters(index..<(index + 1))
        let isInPlace = areAveragesSwapped || t.progress.averaged == 0
        guard !isInPlace || t.memory.callerParameter != nil, let source = isInPlace ? t.memory.view.parameter : average
        else { throw unbound("parameter", t) }
        lopt_system_copy(out, source, 4 * count)
    }

    /// Puts the averages in the place of the parameters, or the parameters back. In between nothing is stepped, saved or restored.
    public mutating func swapAverages() throws(LOptError) {
        guard options.average.kind != .none else { throw noAverage() }
        try checkParameters()
        takeInParameters(0..<count)
        for i in 0..<count where tensors[i].progress.averaged > 0 {
            guard let average = tensors[i].memory.average, let parameter = tensors[i].memory.view.parameter else { continue }
            for j in 0..<tensors[i].geometry.count {
                let value = average[j]
                average[j] = lopt_load1(parameter + j)
                lopt_store1(parameter + j, value)
            }
            tensors[i].memory.putOutParameters(0..<tensors[i].geometry.count)
        }
        areAveragesSwapped = !areAveragesSwapped
    }

    /// What callers have written into parameters that have a master copy.
    @inline(never)
    func takeInParameters(_ range: Range<Int>) {
        for i in range { tensors[i].memory.takeInParameters(0..<tensors[i].geometry.count) }
    }

    @inline(never)
    func checkSwap() throws(LOptError) {
        guard !areAveragesSwapped else {
            throw LOptError(
                .invalidArgument, "averages are in the place of the parameters; lopt_average_swap puts the parameters back first")
        }
    }

    private func noAverage() -> LOptError { LOptError(.invalidArgument, "there are no averages; options.average asks for them") }
}
