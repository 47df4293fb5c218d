extension Architecture {
    /// What the metadata of a weights file declare. A key that is absent has the constructor's default, one that is not
    /// known is ignored unless it looks like a misspelt one, a value that does not parse or is out of its bounds is an error.
    init(metadataOf file: borrowing SafeTensors) throws(LOptError) {
        self.init()
        var i = 0
        while let pair = file.metadata(at: i) {
            i += 1
            guard !pair.key.hasZero(), !pair.value.hasZero() else {
                throw LOptError(.weights, "the metadata have a character U+0000 at the key '\(pair.key)'")
            }
        }
        if let version = file.metadata("format_version"), !version.hasBytes(of: "1") {
            throw LOptError(.weights, "format_version is '\(version)'; this library knows 1")
        }
        guard let kind = file.metadata("kind") else {
            throw LOptError(.weights, "the metadata have no 'kind': these are no weights of a learned optimizer")
        }
        guard kind.hasBytes(of: "star") || kind.hasBytes(of: "small_fc") else {
            throw LOptError(.weights, "kind is '\(kind)'; this library knows star and small_fc")
        }
        self.kind = kind.hasBytes(of: "star") ? .star : .smallFC
        i = 0
        while let pair = file.metadata(at: i) {
            try checkSpelling(of: pair.key, .weights)
            i += 1
        }
        try readValues(of: file)
        tensorScale = self.kind == .star && file.index(of: "tensor_scale") != nil
        tensorSchedule = self.kind == .star && file.index(of: "tensor_schedule") != nil
        tensorCount = self.kind == .star && file.index(of: "tensor_count") != nil
        tensorRanges = self.kind == .star && file.index(of: "tensor_ranges") != nil
        guard tensorScale || !tensorRanges else {
            throw LOptError(.weights, "there is a tensor 'tensor_ranges' but no 'tensor_scale', which it needs")
        }
        guard tensorScale || !tensorSchedule else {
            throw LOptError(.weights, "there is a tensor 'tensor_schedule' but no 'tensor_scale', which it needs")
        }
        guard tensorScale || !tensorCount else {
            throw LOptError(.weights, "there is a tensor 'tensor_count' but no 'tensor_scale', which it needs")
        }
    }

    private mutating func readValues(of file: borrowing SafeTensors) throws(LOptError) {
        try forEachValue { item throws(LOptError) in
            guard let text = file.metadata(UnsafeRawBufferPointer(item.key)) else { return }
            guard item.parse(text) else {
                throw LOptError(.weights, "\(item.key) is '\(text)'; allowed is \(item.expectation)")
            }
        }
    }

    /// This architecture if its values are what a weights file could declare, with unused lanes of the decays 0.
    func checked() throws(LOptError) -> Architecture {
        var result = self
        try result.forEachValue { item throws(LOptError) in
            guard item.isValid else {
                throw LOptError(.weights, "\(item.key) is \(item.text); allowed is \(item.expectation)")
            }
            for i in item.count..<8 { item.values[i] = 0 }
        }
        guard tensorScale || !tensorSchedule else {
            throw LOptError(.invalidArgument, "tensorSchedule is set without tensorScale, which it needs")
        }
        guard tensorScale || !tensorCount else {
            throw LOptError(.invalidArgument, "tensorCount is set without tensorScale, which it needs")
        }
        guard tensorScale || !tensorRanges else {
            throw LOptError(.invalidArgument, "tensorRanges is set without tensorScale, which it needs")
        }
        if kind == .smallFC {
            // What small_fc has no name for must not change what it computes.
            var plain = Architecture()
            plain.kind = kind
            (plain.hiddenSize, plain.hiddenLayers, plain.momenta) = (hiddenSize, hiddenLayers, momenta)
            plain.initialMomentumDecays = result.initialMomentumDecays
            plain.initialAdafactorDecays = result.initialAdafactorDecays
            plain.initialRMSDecay = initialRMSDecay
            (plain.expMult[0], plain.stepMult) = (expMult[0], stepMult)
            guard result == plain else {
                throw LOptError(.invalidArgument, "a value that only star has is set for small_fc")
            }
        }
        return result
    }

    /// Of the kind, the extensions that are tensors, every constructor value as the number of its numbers and their bits, and the bits of
    /// the meta-parameters. Checkpoints hold it: a value that joins later must be left out while it has its default.
    func digest(_ theta: UnsafePointer<Float>) -> UInt64 {
        var digest = Digest()
        digest.update(kind == .star ? 0 : 1)
        digest.update(
            (tensorScale ? 1 : 0) + (tensorSchedule ? 2 : 0) + (tensorCount ? 4 : 0) + (tensorRanges ? 8 : 0))
        var copy = self
        // The body throws nothing, and the values have been checked.
        try? copy.forEachValue { item throws(LOptError) in
            guard !item.isLeftOutOfDigest else { return }
            digest.update(UInt64(item.count))
            for i in 0..<item.count { digest.update(item.values[i].bitPattern) }
        }
        digest.update(UnsafeRawBufferPointer(start: theta, count: metaParameters * MemoryLayout<Float>.stride))
        return digest.value
    }
}

extension Architecture {
    /// What checkpoints from before the safeguards know. The ranges are the last of the meta-parameters.
    var withoutSafeguards: Architecture {
        var result = self
        (result.tensorRanges, result.skipIdleTensors) = (false, false)
        return result
    }

    /// Every range has its least number at or below its most.
    func checkRanges(_ theta: UnsafePointer<Float>) throws(LOptError) {
        guard tensorRanges else { return }
        for i in 0...statistics {
            let range = statisticRange(i, theta)
            guard range.least <= range.most else {
                throw LOptError(
                    .weights, "tensor 'tensor_ranges', column \(i), is from \(range.least) to \(range.most); that is no range")
            }
        }
    }
}

// MARK: - Writing

extension Weights {
    /// Provenance: what a weights file says beside the values, such as where it comes from. UTF-8 C strings.
    public struct Note {
        public let key: UnsafePointer<CChar>
        public let value: UnsafePointer<CChar>

        public init(_ key: UnsafePointer<CChar>, _ value: UnsafePointer<CChar>) {
            (self.key, self.value) = (key, value)
        }
    }

    /// Writes a weights file, which reads back as weights of the same digest. Its metadata are the constructor values,
    /// the notes, and of the notes of the file that these weights come from those whose keys are not among them.
    ///
    /// Throws `.invalidArgument` for a note whose key is empty, occurs twice, is that of a constructor value or nearly, that is
    /// not UTF-8, or for notes beyond 1 MB; `.io`: the file at `path` is as it was then; `.noMemory`.
    public func write(
        path: UnsafePointer<CChar>, notes: UnsafeBufferPointer<Note>, allocator: Allocator
    ) throws(LOptError) {
        try check(notes)
        let size = try SafeTensorsWriter.size { writer throws(LOptError) in try describe(to: &writer, notes) }
        let headerSize = size - 8 - architecture.metaParameters * MemoryLayout<Float>.stride
        guard headerSize <= Weights.maximumHeaderSize else {
            throw LOptError(
                .invalidArgument,
                "the notes make a header of \(headerSize) bytes; at most \(Weights.maximumHeaderSize) are read again")
        }
        try write(to: ByteSink(replacing: path, allocator), notes)
    }

    private func write(to sink: consuming ByteSink, _ notes: UnsafeBufferPointer<Note>) throws(LOptError) {
        try SafeTensorsWriter.write(
            to: sink,
            describe: { writer throws(LOptError) in try describe(to: &writer, notes) },
            data: { writer throws(LOptError) in
                for i in 0..<architecture.fileTensors {
                    let tensor = architecture.tensor(i)
                    try writer.data(UnsafeRawBufferPointer(
                        UnsafeBufferPointer(start: theta + tensor.offset, count: tensor.shape.elements ?? 0)))
                }
            })
    }

    private func describe(to writer: inout SafeTensorsWriter, _ notes: UnsafeBufferPointer<Note>) throws(LOptError) {
        try writer.metadata("format_version", "1")
        var kind: Message = ""
        kind.append(literal: architecture.kind.name)
        try writer.metadata("kind", kind)
        var copy = architecture
        try copy.forEachValue { item throws(LOptError) in try writer.metadata(item.key, item.text) }
        for note in notes {
            try writer.metadata(UnsafeRawBufferPointer(cString: note.key), UnsafeRawBufferPointer(cString: note.value))
        }
        try describeOldNotes(to: &writer, notes)
        for i in 0..<architecture.fileTensors {
            let tensor = architecture.tensor(i)
            try tensor.name.withBytes { name throws(LOptError) in try writer.tensor(name, .f32, tensor.shape) }
        }
    }

    private func describeOldNotes(
        to writer: inout SafeTensorsWriter, _ notes: UnsafeBufferPointer<Note>
    ) throws(LOptError) {
        var i = 0
        while let pair = file?.metadata(at: i) {
            var isOurs = try isReserved(pair.key)
            for note in notes where pair.key.hasBytes(of: UnsafeRawBufferPointer(cString: note.key)) { isOurs = true }
            if !isOurs { try writer.metadata(pair.key, pair.value) }
            i += 1
        }
    }

    private func check(_ notes: UnsafeBufferPointer<Note>) throws(LOptError) {
        for i in 0..<notes.count {
            let key = UnsafeRawBufferPointer(cString: notes[i].key)
            guard !key.isEmpty else { throw LOptError(.invalidArgument, "a note has an empty key") }
            guard try !isReserved(key) else {
                throw LOptError(.invalidArgument, "a note has the key '\(key)', which is that of a constructor value")
            }
            try architecture.checkSpelling(of: key, .invalidArgument)
            for j in 0..<i where key.hasBytes(of: UnsafeRawBufferPointer(cString: notes[j].key)) {
                throw LOptError(.invalidArgument, "two notes have the key '\(key)'")
            }
        }
    }

    /// Whether a file says the key for the weights themselves.
    private func isReserved(_ key: UnsafeRawBufferPointer) throws(LOptError) -> Bool {
        var isReserved = key.hasBytes(of: "kind") || key.hasBytes(of: "format_version")
        var copy = architecture
        try copy.forEachValue { item throws(LOptError) in
            if key.hasBytes(of: item.key) { isReserved = true }
        }
        return isReserved
    }
}
