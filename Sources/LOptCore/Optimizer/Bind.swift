import CLOptShims

/// Memory for a tensor; nil: none for now.
public struct Binding {
    let index: Int
    let parameter: UnsafeMutablePointer<Float>?
    let gradient: UnsafePointer<Float>?

    public init(_ index: Int, parameter: UnsafeMutablePointer<Float>?, gradient: UnsafePointer<Float>?) {
        (self.index, self.parameter, self.gradient) = (index, parameter, gradient)
    }
}

extension Optimizer {
    /// Gives `count` tensors other memory: to all of them, or to none if it throws. Parameters may take each other's place.
    public mutating func bind(_ count: Int, _ binding: (Int) -> Binding) throws(LOptError) {
        for k in 0..<count {
            try checkIndex(binding(k).index)
            starts[binding(k).index] = k
        }
        for k in 0..<count {
            let b = binding(k)
            guard starts[b.index] == k else {
                throw LOptError(.invalidArgument, "tensor index \(b.index) is given twice; each tensor can be bound once")
            }
        }
        for k in 0..<count { takeOut(binding(k).index) }
        do throws(LOptError) {
            for k in 0..<count { try place(binding(k)) }
            for k in 0..<count { try checkGradient(binding(k)) }
        } catch {
            for k in 0..<count { takeOut(binding(k).index) }
            for k in 0..<count {
                let index = binding(k).index
                try place(Binding(index, parameter: tensors[index].memory.view.parameter, gradient: nil))
            }
            throw error
        }
        for k in 0..<count {
            let b = binding(k)
            tensors[b.index].memory.view.parameter = b.parameter
            tensors[b.index].memory.view.gradient = b.gradient
        }
    }

    @inline(never)
    private mutating func place(_ b: Binding) throws(LOptError) {
        let t = tensors[b.index]
        let span = try Span(b.parameter, t.geometry.count, "parameter")
        try checkFree(span, "parameter of tensor '\(t.identity.name)'")
        put(b.index, at: span)
    }

    /// Notes where the parameter of a tensor is, which is nobody else's memory.
    mutating func put(_ index: Int, at span: Span) {
        memoryChanges += 1
        tensors[index].place.span = span
        if !span.isEmpty { parameterMemory.insert(index, tensors) { $0.place.span.start < span.start } }
    }

    private mutating func takeOut(_ index: Int) {
        let span = tensors[index].place.span
        if !span.isEmpty { parameterMemory.remove(index, tensors) { $0.place.span.start < span.start } }
        tensors[index].place.span = .none
    }

    @inline(never)
    private func checkGradient(_ b: Binding) throws(LOptError) {
        let t = tensors[b.index]
        let span = try Span(b.gradient, t.geometry.count, "gradient")
        try checkFree(span, "gradient of tensor '\(t.identity.name)'")
    }

    /// A step of this tensor can be taken: its memory is there, and what it reads is nobody's parameter. Memory of a gradient
    /// that has been read is free: that a parameter has been put there only matters when it is to be read again.
    mutating func checkBound(_ index: Int) throws(LOptError) {
        guard tensors[index].place.boundAt != memoryChanges else { return }
        let t = tensors[index]
        if t.geometry.count > 0 {
            guard t.memory.view.parameter != nil else { throw unbound("parameter", t) }
            guard t.memory.view.gradient != nil else { throw unbound("gradient", t) }
            try checkGradient(Binding(index, parameter: nil, gradient: t.memory.view.gradient))
        }
        tensors[index].place.boundAt = memoryChanges
    }

    /// Parameters of all tensors are there, for a checkpoint that holds them.
    func checkParameters() throws(LOptError) {
        for i in 0..<count where tensors[i].geometry.count > 0 && tensors[i].memory.view.parameter == nil {
            throw unbound("parameter", tensors[i])
        }
    }

    private func unbound(_ what: StaticString, _ t: Tensor) -> LOptError {
        LOptError(.invalidArgument, "\(what) of tensor '\(t.identity.name)' is NULL; lopt_bind gives it memory")
    }
}
