import CLOptShims

// Tensors whose rows several optimizers have between them (`SharedRows`). Sums are taken within chunks, and chunks are those of the
// whole tensor wherever they are: so everybody gets everybody's chunks and adds them up in their order, to the bits of one optimizer.
//
// One exchange serves a step. It comes after the gradient pass and before anything is written, and carries what this pass has found
// and the sums of the step before, which no step needs sooner: they become its statistics only now. In a tensor's first step, which
// needs statistics at once, the measuring pass is followed by an exchange of its own, before any tensor is stepped.

/// What an exchange has found beside what is noted with the tensors.
struct Exchanged {
    /// Somebody has a gradient that is not finite, of a tensor that is not shared.
    var isBadElsewhere = false
    /// Everybody's tensors that are not shared have gradients of the same size; with `maxGradientNorm` alone.
    var isNormTheSame = true
}

extension Optimizer {
    /// What an exchange is for: optimizers that are in different calls are told apart.
    enum Purpose: UInt64 { case step, inspection, firstStep, checkpoint }

    private static let headNumbers = 3, refusal = 2.0

    @inline(never)
    func hasShared(_ range: Range<Int>) -> Bool { shared > 0 && range.contains { tensors[$0].memory.shared != nil } }

    /// Room for the exchanges of one tensor more.
    @inline(never)
    mutating func makeExchangeRoom(_ shape: UnsafeBufferPointer<Int64>) throws(LOptError) {
        guard let gather = options.gather else { return }
        let needed = Optimizer.headNumbers + exchangeNumbers + SharedRows(try RowDivision(shape), gather).numbers
        guard needed > exchangeRoom else { return }
        let room = max(needed, 2 * exchangeRoom), larger = try options.allocator.allocate(Double.self, room * (1 + gather.parts))
        freeExchangeRoom()
        (exchange, exchangeRoom) = (larger, room)
    }

    /// Tensor `i`, of this shape, is one of those.
    @inline(never)
    mutating func share(_ i: Int, _ shape: UnsafeBufferPointer<Int64>) throws(LOptError) {
        guard let gather = options.gather else { return }
        let rows = SharedRows(try RowDivision(shape), gather)
        tensors[i].memory.shared?.initialize(to: rows)
        shared += 1
        exchangeNumbers += rows.numbers
    }

    mutating func freeExchangeRoom() { options.allocator.deallocate(exchange, exchangeBytes / 8) }

    /// A multiple of 8.
    var exchangeBytes: Int { exchangeRoom * (1 + (options.gather?.parts ?? 0)) * 8 }

    /// After the gradient pass.
    @inline(never)
    func exchangeGradients(_ range: Range<Int>, _ purpose: Purpose) throws(LOptError) -> Exchanged {
        guard hasShared(range) else { return Exchanged() }
        noteOwnGradients(range)
        return try exchangeSums(range, purpose)
    }

    /// What the gradient pass has left of the shared tensors, for the exchange.
    @inline(never)
    private func noteOwnGradients(_ range: Range<Int>) {
        for i in range {
            guard let s = tensors[i].memory.shared else { continue }
            let t = tensors[i], isLooked = !t.isPassedOver
            tensors[i].step.hasTakenIn = false
            for chunk in 0..<t.geometry.sumChunks {
                let to = t.memory.chunkSums + chunk * SharedRows.slots
                to[0] = isLooked ? t.memory.momentSums[chunk] : 0
                to[1] = isLooked ? Double(UInt32(bitPattern: t.memory.largest[chunk])) : 0
            }
            s.pointee.ownSquares = isLooked ? Optimizer.ownGradientSquares(tensors + i) : 0
            s.pointee.ownNonfinite = isLooked && t.ownLargestGradient > Optimizer.largestGradientBits ? countNonfinite(i) : 0
        }
    }

    /// Whether this optimizer can do it; else the others are told. Of a checkpoint the size, which there is to be room for.
    @inline(never)
    func checkReady(
        _ range: Range<Int>, _ purpose: Purpose, _ contents: CheckpointContents = [], room: Int = 0
    ) throws(LOptError) -> Int {
        do throws(LOptError) {
            if purpose == .checkpoint {
                let size = try checkpointSize(contents)
                guard room >= size else { throw LOptError(.invalidArgument, "size is \(room); the checkpoint has \(size) bytes") }
                return size
            }
            if purpose == .step { try checkSwap() }
            for i in range where !tensors[i].isPassedOver { try checkBound(i) }
            return 0
        } catch {
            refuse(range, purpose)
            throw error
        }
    }

    /// This optimizer cannot do what it was asked for: the others are told, who would wait for its numbers.
    @inline(never)
    func refuse(_ range: Range<Int>, _ purpose: Purpose) {
        guard hasShared(range) else { return }
        do throws(LOptError) { _ = try exchangeSums(range, purpose, isRefused: true) } catch {}
    }

    /// Everybody's numbers of the shared tensors of the range. They are noted with the tensors; if it throws nothing has changed.
    @inline(never)
    func exchangeSums(_ range: Range<Int>, _ purpose: Purpose, isRefused: Bool = false) throws(LOptError) -> Exchanged {
        var result = Exchanged()
        guard let gather = options.gather, let own = exchange else { return result }
        let all = own + exchangeRoom, count = fill(own, range, purpose)
        if isRefused { own[1] = Optimizer.refusal }
        // What the call leaves alone is nobody's digest.
        for part in 0..<gather.parts { all[part * count] = -1 }
        let floatState = lopt_system_enter_default_float()
        let failure = gather.run(gather.context, own, all, Int64(count))
        lopt_system_restore_float(floatState)
        guard failure == 0 else { throw LOptError(.io, "gather returned \(failure): nothing has been changed here") }
        for part in 0..<gather.parts {
            let theirs = all + part * count
            guard theirs[0] == own[0] else {
                throw LOptError(
                    .mismatch,
                    "part \(part) is in another call than part \(gather.part), or has other tensors, options or numbers of steps")
            }
            guard theirs[1] != Optimizer.refusal else {
                throw LOptError(.mismatch, "part \(part) cannot do this, and says why; nothing has been changed")
            }
            if part != gather.part && theirs[1] != 0 { result.isBadElsewhere = true }
            if theirs[2] != own[2] { result.isNormTheSame = false }
        }
        var at = Optimizer.headNumbers
        for i in range {
            guard let s = tensors[i].memory.shared else { continue }
            add(i, s, gather.parts, all + at, count)
            at += s.pointee.numbers
        }
        return result
    }

    /// The own numbers; returns how many.
    @inline(never)
    private func fill(_ own: UnsafeMutablePointer<Double>, _ range: Range<Int>, _ purpose: Purpose) -> Int {
        var count = Optimizer.headNumbers, isBad = false, squares = 0.0
        for i in range {
            guard let s = tensors[i].memory.shared else {
                guard !tensors[i].isPassedOver, purpose == .step || purpose == .inspection else { continue }
                if tensors[i].largestGradient > Optimizer.largestGradientBits { isBad = true }
                if options.maxGradientNorm > 0 { squares += Optimizer.gradientSquares(tensors + i) }
                continue
            }
            let used = tensors[i].geometry.flatChunks * SharedRows.slots, to = own + count + 1
            own[count] = Double(s.pointee.ownNonfinite)
            if used > 0 { lopt_system_copy(to, tensors[i].memory.chunkSums, 8 * used) }
            lopt_system_zero(to + used, 8 * (s.pointee.numbers - 1 - used))
            count += s.pointee.numbers
        }
        own[0] = Double(exchangeDigest(range, purpose) >> 12)
        own[1] = isBad ? 1 : 0
        own[2] = squares.isFinite ? squares : 0
        return count
    }

    /// Of all that has to be the same everywhere.
    @inline(never)
    private func exchangeDigest(_ range: Range<Int>, _ purpose: Purpose) -> UInt64 {
        var d = Digest()
        d.update(digest)
        let choices = UInt64(options.momentumType.rawValue) << 16 | UInt64(weightDecayForm.rawValue) << 8 | UInt64(weightDecayTensors.rawValue) << 4 | UInt64(options.nonfinite.rawValue)
        withUnsafeBytes(
            of: SIMD16<UInt64>(
                purpose.rawValue, UInt64(count), UInt64(range.lowerBound), UInt64(range.count), UInt64(totalSteps), choices,
                learningRateScale.bitPattern, weightDecay.bitPattern, gradientScale.bitPattern, options.maxGradientNorm.bitPattern,
                options.learnedDecayScale.bitPattern, 0, 0, 0, 0, 0)
        ) { d.update($0) }
        for i in range {
            guard let s = tensors[i].memory.shared else { continue }
            let t = tensors + i, isKnown = s.pointee.isPending || t.pointee.progress.pooled.isKnown
            d.update(t.pointee.identity.name)
            withUnsafeBytes(of: t.pointee.identity.shape) { d.update($0) }
            withUnsafeBytes(
                of: SIMD4<UInt64>(
                    UInt64(i) << 2 | (t.pointee.options.isFrozen ? 2 : 0) | (isKnown ? 1 : 0), UInt64(t.pointee.progress.steps),
                    t.pointee.options.learningRateScale.bitPattern, t.pointee.options.weightDecayScale.bitPattern)
            ) { d.update($0) }
        }
        return d.value
    }

    /// Everybody's numbers of tensor `i`, `stride` apart, in the order of the chunks of the whole.
    @inline(never)
    private func add(
        _ i: Int, _ s: UnsafeMutablePointer<SharedRows>, _ parts: Int, _ numbers: UnsafePointer<Double>, _ stride: Int
    ) {
        let slots = Int(LOPT_SUMS_POOLED), sums = tensors[i].memory.chunkSums + tensors[i].geometry.flatChunks * SharedRows.slots
        var largest = 0.0, squares = 0.0, nonfinite = 0.0
        for slot in 0..<slots { sums[slot] = 0 }
        for part in 0..<parts {
            let theirs = numbers + part * stride
            nonfinite += theirs[0]
            for chunk in 0..<s.pointee.division.chunks(of: part, in: parts) {
                let from = theirs + 1 + chunk * SharedRows.slots
                squares += from[0]
                largest = max(largest, from[1])
                for slot in 0..<slots { sums[slot] += from[2 + slot] }
            }
        }
        s.pointee.squares = squares
        s.pointee.largest = UInt32(min(largest, Double(UInt32.max)))
        s.pointee.nonfinite = Int64(min(max(0, nonfinite), 0x1p52))
        guard s.pointee.isPending else { return }
        s.pointee.isPending = false
        sums[Int(LOPT_POOLED_G2)] = s.pointee.gradientSquares
        rule.notePooled(&tensors[i], sums, scale: s.pointee.scale)
    }

    /// The measuring passes of shared tensors that take their first step, and the exchange of what they have found. `clipping` is what
    /// there was before this step.
    @inline(never)
    mutating func measureFirstSteps(_ work: inout Work, _ range: Range<Int>, _ clipping: (Double, Int64)) throws(LOptError) {
        guard shared > 0 else { return }
        var first = range.upperBound
        for i in range where isFirstStep(i) {
            first = min(first, i)
            work.measureFirst(i, on: pool)
        }
        guard first < range.upperBound else { return }
        do throws(LOptError) {
            _ = try exchangeSums(range, .firstStep)
        } catch {
            // They have taken in the gradient. Before their first step they were 0.
            for i in range where tensors[i].memory.shared?.pointee.isPending == true { forget(i) }
            (gradientNorm, stepsClipped) = clipping
            throw error
        }
    }

    /// A checkpoint can be written, of this size; the statistics of the last step are known.
    @inline(never)
    func prepareCheckpoint(_ contents: CheckpointContents, room: Int) throws(LOptError) -> Int {
        let size = try checkReady(0..<count, .checkpoint, contents, room: room)
        guard shared > 0 else { return size }
        let floatState = lopt_system_enter_float()
        defer { lopt_system_restore_float(floatState) }
        _ = try exchangeSums(0..<count, .checkpoint)
        return size
    }

    private func isFirstStep(_ i: Int) -> Bool {
        let t = tensors[i]
        return t.memory.shared != nil && !t.step.isSkipped && !t.step.isIdle && !t.progress.pooled.isKnown
    }

    @inline(never)
    private func forget(_ i: Int) {
        let view = tensors[i].memory.view, count = tensors[i].geometry.count
        lopt_system_zero(view.second_moment, 4 * count)
        let size = tensors[i].memory.momentumType.bytes, stride = Int(view.plane_stride) * size
        for k in 0..<rule.architecture.momenta { lopt_system_zero(UnsafeMutableRawPointer(view.momentum) + k * stride, size * count) }
        tensors[i].memory.shared?.pointee.isPending = false
        tensors[i].progress.stepSize = 0
    }
}

extension Work {
    /// The first pass of tensor `i`, before the phases of the step.
    @inline(never)
    mutating func measureFirst(_ i: Int, on pool: borrowing ThreadPool) {
        let t = tensors + i
        t.pointee.step.limit = 1
        prepare(0, t)
        if t.pointee.isSmall {
            for chunk in 0..<chunks(0, t) { execute(0, t, chunk, scratch) }
        } else {
            run(.pass(0), i..<(i + 1), on: pool)
        }
        settlePooled(rule.plan.passes[0], t)
    }

    /// The sums of a pass, which wait for the next exchange; and what the caller may know of it, of the rows that are here.
    @inline(never)
    func settleShared(_ pass: Pass, _ t: UnsafeMutablePointer<Tensor>, _ s: UnsafeMutablePointer<SharedRows>) {
        let slots = Int(LOPT_SUMS_POOLED), sums = t.pointee.memory.momentSums
        var own = StepSums()
        own.gradient = s.pointee.ownSquares * t.pointee.memory.view.partial_scale
        for chunk in 0..<t.pointee.geometry.flatChunks {
            let from = sums + chunk * slots
            lopt_system_copy(t.pointee.memory.chunkSums + (chunk * SharedRows.slots + 2), from, 8 * slots)
            own.parameter += from[Int(LOPT_POOLED_P2)]
            own.nonfiniteParameters += from[Int(LOPT_POOLED_NONFINITE)]
            own.nominal += from[Int(LOPT_POOLED_U2)]
        }
        s.pointee.isPending = true
        s.pointee.scale = Double(t.pointee.step.pooled.scale)
        s.pointee.gradientSquares = t.pointee.step.gradientSquares
        if pass.writes { t.pointee.report.sums = own }
    }
}
