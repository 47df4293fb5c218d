import CLOptWorkload
import Foundation

/// A workload in C: a shared library with the functions of lopt_workload.h.
public final class CWorkload: TrainingTask, @unchecked Sendable {
    public let name: String
    public let tensors: [TensorSpec]
    /// Whether the library has a held-out loss.
    public var hasHeldOutLoss: Bool { functions.heldOutLoss != nil }
    fileprivate let functions: Functions
    /// Held during each call where the library wants one at a time.
    private let lock: NSLock?

    /// `float *const *` and `const float *const *` are the same to the processor.
    struct Functions {
        let tensors: @convention(c) (UnsafeMutablePointer<Int32>?) -> UnsafePointer<lopt_workload_tensor>?
        let initialize: @convention(c) (UInt64, UnsafePointer<UnsafeMutablePointer<Float>?>?) -> Void
        let lossAndGradient: @convention(c) (
            UInt64, Int64, UnsafePointer<UnsafeMutablePointer<Float>?>?, UnsafePointer<UnsafeMutablePointer<Float>?>?
        ) -> Float
        let heldOutLoss: (@convention(c) (UnsafePointer<UnsafeMutablePointer<Float>?>?) -> Float)?
        let name: (@convention(c) () -> UnsafePointer<CChar>?)?
        let isThreadSafe: (@convention(c) () -> Int32)?
    }

    /// Loads the library, which stays loaded, and tries out whether it does what lopt_workload.h says.
    ///
    /// Throws an `LOptMetaError` that names the library and what is wrong.
    public init(contentsOf url: URL) throws {
        do {
            functions = try CWorkload.load(url)
            tensors = try CWorkload.tensors(functions)
            let file = url.deletingPathExtension().lastPathComponent.replacing(/^lib/, with: "")
            name = functions.name?().map { String(cString: $0) } ?? file
            lock = functions.isThreadSafe?() == 1 ? nil : NSLock()
            guard name.wholeMatch(of: /[A-Za-z0-9_.\-]{1,60}/) != nil else {
                throw LOptMetaError("its name is '\(name)'; allowed are 1 to 60 letters, digits, '_', '-' and '.'")
            }
            try tryOut()
        } catch let error as LOptMetaError {
            throw LOptMetaError("the workload '\(url.path)': \(error)")
        }
    }

    public func initialize(_ parameters: UnsafeMutablePointer<Float>, seed: UInt64) {
        call(parameters) { functions.initialize(seed, $0) }
    }

    public func makeWorker() -> any TaskWorker { CWorkloadWorker(self) }
}

private final class CWorkloadWorker: TaskWorker {
    private let workload: CWorkload

    init(_ workload: CWorkload) { self.workload = workload }

    func loss(_ parameters: UnsafePointer<Float>, gradient: UnsafeMutablePointer<Float>, seed: UInt64, step: Int) -> Float {
        workload.call(UnsafeMutablePointer(mutating: parameters)) { p in
            workload.pointers(gradient) { g in workload.functions.lossAndGradient(seed, Int64(step), p, g) }
        }
    }

    func heldOutLoss(_ parameters: UnsafePointer<Float>) -> Float? {
        guard let heldOutLoss = workload.functions.heldOutLoss else { return nil }
        return workload.call(UnsafeMutablePointer(mutating: parameters)) { heldOutLoss($0) }
    }
}

extension CWorkload {
    /// Calls a function of the library, with where each tensor begins in `buffer`.
    fileprivate func call<Result>(
        _ buffer: UnsafeMutablePointer<Float>, _ body: (UnsafePointer<UnsafeMutablePointer<Float>?>) -> Result
    ) -> Result {
        lock?.lock()
        defer { lock?.unlock() }
        return pointers(buffer, body)
    }

    fileprivate func pointers<Result>(
        _ buffer: UnsafeMutablePointer<Float>, _ body: (UnsafePointer<UnsafeMutablePointer<Float>?>) -> Result
    ) -> Result {
        withUnsafeTemporaryAllocation(of: UnsafeMutablePointer<Float>?.self, capacity: tensors.count) { pointers in
            var offset = 0
            for (i, tensor) in tensors.enumerated() {
                pointers.initializeElement(at: i, to: buffer + offset)
                offset += tensor.count
            }
            return body(UnsafePointer(pointers.baseAddress.unsafelyUnwrapped))
        }
    }
}

// MARK: - Loading

extension CWorkload {
    private static func load(_ url: URL) throws -> Functions {
        guard url.isFile else { throw LOptMetaError("there is no such file") }
        guard let library = dlopen(url.path, RTLD_NOW | RTLD_LOCAL) else {
            throw LOptMetaError("it cannot be loaded: \(dlerror().map { String(cString: $0) } ?? "no reason was given")")
        }
        func find(_ function: String) -> UnsafeMutableRawPointer? { dlsym(library, "lopt_workload_\(function)") }
        let needed = ["tensors", "init", "loss_and_gradient"]
        let missing = needed.filter { find($0) == nil }
        guard missing.isEmpty, let tensors = find("tensors"), let initialize = find("init"), let loss = find("loss_and_gradient") else {
            let list = missing.map { "lopt_workload_\($0)" }.joined(separator: ", ")
            throw LOptMetaError(
                "it does not define \(list); lopt_workload.h says what \(missing.count == 1 ? "it does" : "they do") (C++ needs that header for the names)")
        }
        return Functions(
            tensors: unsafeBitCast(tensors, to: (@convention(c) (UnsafeMutablePointer<Int32>?) -> UnsafePointer<lopt_workload_tensor>?).self),
            initialize: unsafeBitCast(
                initialize, to: (@convention(c) (UInt64, UnsafePointer<UnsafeMutablePointer<Float>?>?) -> Void).self),
            lossAndGradient: unsafeBitCast(
                loss, to: (@convention(c) (
                    UInt64, Int64, UnsafePointer<UnsafeMutablePointer<Float>?>?, UnsafePointer<UnsafeMutablePointer<Float>?>?
                ) -> Float).self),
            heldOutLoss: find("held_out_loss").map {
                unsafeBitCast($0, to: (@convention(c) (UnsafePointer<UnsafeMutablePointer<Float>?>?) -> Float).self)
            },
            name: find("name").map { unsafeBitCast($0, to: (@convention(c) () -> UnsafePointer<CChar>?).self) },
            isThreadSafe: find("is_thread_safe").map { unsafeBitCast($0, to: (@convention(c) () -> Int32).self) })
    }

    private static func tensors(_ functions: Functions) throws -> [TensorSpec] {
        var count: Int32 = 0
        guard let table = functions.tensors(&count), count > 0 else {
            throw LOptMetaError("lopt_workload_tensors returns NULL or a count of \(count); at least one tensor is needed")
        }
        var tensors: [TensorSpec] = [], names: Set<String> = [], sum = 0
        for i in 0..<Int(count) {
            guard let text = table[i].name else { throw LOptMetaError("tensor \(i) has no name") }
            let name = String(cString: text), rank = Int(table[i].rank)
            guard (1...255).contains(name.utf8.count), names.insert(name).inserted else {
                throw LOptMetaError("tensor \(i) has the name '\(name)'; names have 1 to 255 bytes, each another")
            }
            guard (0...Int(LOPT_WORKLOAD_MAX_RANK)).contains(rank) else {
                throw LOptMetaError("tensor '\(name)' has rank \(rank); allowed are 0 to \(LOPT_WORKLOAD_MAX_RANK)")
            }
            let shape = withUnsafeBytes(of: table[i].shape) { Array($0.bindMemory(to: Int64.self).prefix(rank)) }
            for extent in shape {
                guard extent >= 1, extent <= 1 << 30 else { throw LOptMetaError("tensor '\(name)' has an extent of \(extent); allowed are 1 to 2^30") }
            }
            let size = shape.reduce(1.0) { $0 * Double($1) }
            guard size + Double(sum) <= 0x1p30 else { throw LOptMetaError("the tensors up to '\(name)' have more than 2^30 elements") }
            tensors.append(TensorSpec(name, shape.map { Int($0) }))
            sum += Int(size)
        }
        return tensors
    }
}

// MARK: - Trying it out

extension CWorkload {
    /// What lopt_workload.h asks for and a few calls can show.
    private func tryOut() throws {
        let count = parameterCount, worker = makeWorker(), guarded = 16
        let memory = UnsafeMutablePointer<Float>.allocate(capacity: 5 * (count + 2 * guarded))
        defer { memory.deallocate() }
        memory.initialize(repeating: .nan, count: 5 * (count + 2 * guarded))
        // Each between two strips that nobody writes to.
        let buffers = (0..<5).map { memory + guarded + $0 * (count + 2 * guarded) }
        let (p, again, gradient, second, kept) = (buffers[0], buffers[1], buffers[2], buffers[3], buffers[4])

        initialize(p, seed: 1)
        initialize(again, seed: 1)
        try check(p, "lopt_workload_init", "parameter")
        try same(p, again, "lopt_workload_init with the same seed writes another start: it must depend on the seed alone")
        kept.update(from: p, count: count)

        let loss = worker.loss(p, gradient: gradient, seed: 1, step: 0)
        guard loss.isFinite else { throw LOptMetaError("the loss at the start, of seed 1 and step 0, is \(loss)") }
        try check(gradient, "lopt_workload_loss_and_gradient", "gradient")
        try same(p, kept, "lopt_workload_loss_and_gradient changes the parameters, which it may only read")
        _ = worker.loss(p, gradient: second, seed: 2, step: 5)
        second.update(repeating: .nan, count: count)
        let secondLoss = worker.loss(p, gradient: second, seed: 1, step: 0)
        try same(
            gradient, second,
            "lopt_workload_loss_and_gradient gives another gradient for the same seed, step and parameters; minibatches must depend on these alone")
        guard secondLoss.bitPattern == loss.bitPattern else {
            throw LOptMetaError("the loss of the same seed, step and parameters is \(loss), then \(secondLoss); it must depend on these alone")
        }
        if let heldOut = worker.heldOutLoss(p), !heldOut.isFinite { throw LOptMetaError("the held-out loss at the start is \(heldOut)") }
        try same(p, kept, "lopt_workload_held_out_loss changes the parameters, which it may only read")
        for (buffer, what) in zip(buffers, ["parameters", "parameters", "gradient", "gradient"]) {
            guard (-guarded..<0).allSatisfy({ buffer[$0].isNaN }), (count..<(count + guarded)).allSatisfy({ buffer[$0].isNaN }) else {
                throw LOptMetaError("it writes outside of its tensors, beside the \(what)")
            }
        }
        guard try CWorkload.tensors(functions) == tensors else {
            throw LOptMetaError("lopt_workload_tensors gives other tensors than before; names and shapes are the same as long as it is loaded")
        }
    }

    private func check(_ values: UnsafePointer<Float>, _ function: String, _ what: String) throws {
        var offset = 0
        for tensor in tensors {
            for i in 0..<tensor.count where !values[offset + i].isFinite {
                throw LOptMetaError("\(function) leaves element \(i) of the \(what) '\(tensor.name)' as it was, or writes \(values[offset + i])")
            }
            offset += tensor.count
        }
    }

    private func same(_ a: UnsafePointer<Float>, _ b: UnsafePointer<Float>, _ otherwise: String) throws {
        for i in 0..<parameterCount where a[i].bitPattern != b[i].bitPattern { throw LOptMetaError(otherwise) }
    }

    /// How far the gradient at the start is from the slope of the loss along it: 1 where it is that, -1 where it is the negative, the size
    /// of the minibatch where one of the two is a sum. Of a loss that is no smooth function it says little.
    public var gradientOverSlope: Double {
        let count = parameterCount, worker = makeWorker()
        let memory = UnsafeMutablePointer<Float>.allocate(capacity: 4 * count)
        defer { memory.deallocate() }
        memory.initialize(repeating: 0, count: 4 * count)
        let (p, g, moved, scratch) = (memory, memory + count, memory + 2 * count, memory + 3 * count)
        initialize(p, seed: 1)
        _ = worker.loss(p, gradient: g, seed: 1, step: 0)
        let squares = (0..<count).reduce(0) { $0 + Double(g[$1]) * Double(g[$1]) }
        guard squares > 0 else { return 1 }
        let size = (0..<count).reduce(0) { $0 + Double(p[$1]) * Double(p[$1]) }.squareRoot()
        // f32 has seven digits: of several step lengths one tells most.
        let ratios = [1e-2, 1e-3, 1e-4].map { part in
            let distance = part * max(size, 1e-3)
            func loss(_ sign: Double) -> Double {
                for i in 0..<count { moved[i] = Float(Double(p[i]) + sign * distance * Double(g[i]) / squares.squareRoot()) }
                return Double(worker.loss(moved, gradient: scratch, seed: 1, step: 0))
            }
            return squares.squareRoot() / ((loss(1) - loss(-1)) / (2 * distance))
        }
        return ratios.filter(\.isFinite).min { abs($0 - 1) < abs($1 - 1) } ?? 1
    }
}
