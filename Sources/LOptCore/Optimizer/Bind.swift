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
        for k in 0..<count { try list(k, binding(k)) }
        try bindListed(count)
    }

    /// A step of all tensors with this memory, which stays theirs; if it throws, they have that of before.
    public mutating func step(
        _ count: Int, parameters: UnsafePointer<UnsafeMutablePointer<Float>?>,
        gradients: UnsafePointer<UnsafeMutablePointer<Float>?>, hostFloat: UInt64? = nil
    ) throws(LOptError) -> StepOutcome {
        do throws(LOptError) {
            guard count == self.count else {
                throw LOptError(.invalidArgument, "count is \(count); there are \(self.count) tensors, and each is to have its memory")
            }
            for i in 0..<count {
                tensors[i].place.previous = present(i)
                try list(i, Binding(i, parameter: parameters[i], gradient: UnsafePointer(gradients[i])))
            }
            try bindListed(count)
        } catch {
            refuse(0..<self.count, .step)
            throw error
        }
        do throws(LOptError) {
            return try step(hostFloat: hostFloat)
        } catch {
            for i in 0..<count { try list(i, tensors[i].place.previous) }
            try bindListed(count)
            throw error
        }
    }

    /// Notes the `number`-th of some bindings; `starts` has the tensors in their order.
    @inline(never)
    private mutating func list(_ number: Int, _ b: Binding) throws(LOptError) {
        try checkIndex(b.index)
        let other = tensors[b.index].place.number
        guard other >= number || starts[other] != b.index else {
            throw LOptError(.invalidArgument, "tensor index \(b.index) is given twice; each tensor can be bound once")
        }
        starts[number] = b.index
        tensors[b.index].place.number = number
        tensors[b.index].place.next = b
    }

    /// Parameters that stay where they are need no look at where the others are.
    @inline(never)
    private mutating func bindListed(_ count: Int) throws(LOptError) {
        func isMove(_ index: Int) -> Bool { tensors[index].place.next.parameter != tensors[index].memory.callerParameter }
        for k in 0..<count where isMove(starts[k]) { takeOut(starts[k]) }
        do throws(LOptError) {
            for k in 0..<count where isMove(starts[k]) { try place(tensors[starts[k]].place.next) }
            for k in 0..<count { try checkGradient(tensors[starts[k]].place.next) }
        } catch {
            for k in 0..<count where isMove(starts[k]) { takeOut(starts[k]) }
            for k in 0..<count where isMove(starts[k]) { try place(present(starts[k])) }
            throw error
        }
        for k in 0..<count {
            let b = tensors[starts[k]].place.next
            tensors[b.index].memory.bind(b.parameter, b.gradient)
            tensors[b.index].place.boundAt = 0
        }
    }

    private func present(_ index: Int) -> Binding {
        Binding(index, parameter: tensors[index].memory.callerParameter, gradient: tensors[index].memory.callerGradient)
    }

    @inline(never)
    private mutating func place(_ b: Binding) throws(LOptError) {
        let t = tensors[b.index]
        let span = try Span(b.parameter, t.geometry.count, t.memory.types.parameter, "parameter")
        try checkFree(span, "parameter of tensor '\(t.identity.name)'")
        put(b.index, at: span)
    }

    /// Notes where the parameter of a tensor is, which is nobody else's memory.
    mutating func put(_ index: Int, at span: Span) {
        memoryChanges += 1
        tensors[index].place.span = span
        if !span.isEmpty { parameterMemory.insert(index, tensors) { $0.place.span.start < span.start } }
    }

    mutating func takeOut(_ index: Int) {
        let span = tensors[index].place.span
        if !span.isEmpty { parameterMemory.remove(index, tensors) { $0.place.span.start < span.start } }
        tensors[index].place.span = .none
    }

    @inline(never)
    private func checkGradient(_ b: Binding) throws(LOptError) {
        let t = tensors[b.index]
        let span = try Span(b.gradient, t.geometry.count, t.memory.types.gradient, "gradient")
        try checkFree(span, "gradient of tensor '\(t.identity.name)'")
    }

    /// A step of this tensor can be taken: its memory is there, and what it reads is nobody's parameter. Memory of a gradient
    /// that has been read is free: that a parameter has been put there only matters when it is to be read again.
    @inline(never)
    func checkBound(_ index: Int) throws(LOptError) {
        guard tensors[index].place.boundAt != memoryChanges else { return }
        let t = tensors[index]
        if t.geometry.count > 0 {
            guard t.memory.callerParameter != nil else { throw unbound("parameter", t) }
            guard t.memory.callerGradient != nil else { throw unbound("gradient", t) }
            try checkGradient(Binding(index, parameter: nil, gradient: t.memory.callerGradient))
        }
        tensors[index].place.boundAt = memoryChanges
    }

    /// Parameters of all tensors are there, for a checkpoint that holds them.
    @inline(never)
    func checkParameters() throws(LOptError) {
        for i in 0..<count where tensors[i].geometry.count > 0 && tensors[i].memory.callerParameter == nil {
            throw unbound("parameter", tensors[i])
        }
    }

    func unbound(_ what: StaticString, _ t: Tensor) -> LOptError {
        LOptError(.invalidArgument, "\(what) of tensor '\(t.identity.name)' is NULL; lopt_bind gives it memory")
    }
}
