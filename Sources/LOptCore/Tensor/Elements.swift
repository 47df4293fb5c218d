import CLOptShims

/// What a caller's elements are; the raw values are those of `lopt_element`.
public enum ElementType: Int32, Sendable {
    case f32 = 0
    case f64 = 1
    case bf16 = 2
    case f16 = 3

    public var bytes: Int {
        switch self {
        case .f32: 4
        case .f64: 8
        case .bf16, .f16: 2
        }
    }
    /// f32 has numbers between its own.
    var isNarrow: Bool { bytes < 4 }
}

public struct ElementTypes: Sendable {
    public let parameter, gradient: ElementType

    public init(parameter: ElementType = .f32, gradient: ElementType = .f32) { (self.parameter, self.gradient) = (parameter, gradient) }

    var areF32: Bool { parameter == .f32 && gradient == .f32 }
}

// Steps work on f32. A tensor whose parameters are of another type has a master copy of them, which steps go on from: in bf16 most
// steps are less than the distance of two numbers. Where the caller's element is not what the master rounds to, the caller has
// written it, and it counts. Gradients of another type are copied to f32 in each step.

/// One NaN is as good as another; it stays as it is.
private func isOther(_ a: Float, _ b: Float) -> Bool { a.bitPattern != b.bitPattern && !(a.isNaN && b.isNaN) }

extension TensorMemory {
    /// Of these elements: what the caller has written goes into the master copy.
    @inline(never)
    func takeInParameters(_ elements: Range<Int>) {
        guard let master, let caller = callerParameter else { return }
        let type = types.parameter.rawValue
        for i in elements {
            let given = lopt_element_load(caller, i, type)
            if isOther(given, lopt_element_rounded(master[i], type)) { master[i] = given }
        }
    }

    @inline(never)
    func takeInGradient(_ elements: Range<Int>) {
        guard let staging = gradientStaging, let caller = callerGradient else { return }
        for i in elements { staging[i] = lopt_element_load(caller, i, types.gradient.rawValue) }
    }

    /// To the caller, where the master copy rounds to another number.
    @inline(never)
    func putOutParameters(_ elements: Range<Int>) {
        guard let master, let caller = callerParameter else { return }
        let type = types.parameter.rawValue
        for i in elements {
            let rounded = lopt_element_rounded(master[i], type)
            if isOther(lopt_element_load(caller, i, type), rounded) { lopt_element_store(caller, i, type, rounded) }
        }
    }
}
