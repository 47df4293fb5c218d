import CLOptShims

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
        var number: UInt8 = 0
        while let one = Kind(rawValue: number), !kind.hasBytes(of: one.name) { number += 1 }
        guard let known = Kind(rawValue: number) else {
            throw LOptError(.weights, "kind is '\(kind)'; this library knows star, small_fc and pooled")
        }
        self.init(known)
        let keys = ConstructorKeys(of: self)
        i = 0
        while let pair = file.metadata(at: i) {
            try keys.checkSpelling(of: pair.key, .weights)
            i += 1
        }
        try readValues(of: file)
        try readExtensions(of: file)
    }

    private mutating func readValues(of file: borrowing SafeTensors) throws(LOptError) {
        try forEachValue { item throws(LOptError) in
            guard let text = file.metadata(UnsafeRawBufferPointer(item.key)) else { return }
            guard item.parse(text) else {
                throw LOptError(.weights, "\(item.key) is '\(text)'; allowed is \(item.expectation)")
            }
        }
    }

    /// An extension is on if the file has its tensor.
    private mutating func readExtensions(of file: borrowing SafeTensors) throws(LOptError) {
        guard kind == .star else { return }
        var i = 0
        while let which = Extension(rawValue: i) {
            self[which] = file.index(of: block(of: which)) != nil
            i += 1
        }
        try forEachBlock { block throws(LOptError) in
            guard let needed = block.needs, !self[needed] else { return }
            throw LOptError(
                .weights, "there is a tensor '\(block.name)' but no '\(self.block(of: needed).name)', which it needs")
        }
    }
}

// MARK: - Tensors

extension Architecture {
    /// The file must have the tensors of this architecture and no others.
    func checkTensors(of file: borrowing SafeTensors) throws(LOptError) {
        var count = 0
        try forEachBlock { block throws(LOptError) in
            guard let index = file.index(of: block) else { throw LOptError(.weights, "there is no tensor '\(block.name)'") }
            let entry = file[index]
            guard entry.type == .f32, entry.shape == block.shape else {
                throw LOptError(
                    .weights,
                    """
                    tensor '\(block.name)' is \(entry.type.name) \(entry.shape.text); the architecture in the metadata \
                    needs F32 \(block.shape.text)
                    """)
            }
            count += 1
        }
        if file.count > count { try refuseOthers(in: file) }
    }

    private func refuseOthers(in file: borrowing SafeTensors) throws(LOptError) {
        for i in 0..<file.count {
            var isKnown = false
            try forEachBlock { block throws(LOptError) in
                try block.name.withBytes { name throws(LOptError) in isKnown = isKnown || file[i].name.hasBytes(of: name) }
            }
            guard isKnown else {
                var message: Message = "tensor '\(file[i].name)' is none of kind \(kind.name)"
                if layers > 0 { message.append(message: " with \(hiddenLayers) hidden layers") }
                throw LOptError(.weights, message)
            }
        }
    }

    /// Copies every tensor to its place in `theta`.
    func readTensors(
        of file: borrowing SafeTensors, _ bytes: UnsafeRawBufferPointer, into theta: UnsafeMutablePointer<Float>
    ) throws(LOptError) {
        try forEachBlock { block throws(LOptError) in
            guard let index = file.index(of: block) else { return }
            let data = UnsafeRawBufferPointer(rebasing: bytes[file[index].data])
            lopt_system_copy(theta + block.offset, data.baseAddress, data.count)
        }
    }

    func checkValues(_ theta: UnsafePointer<Float>) throws(LOptError) {
        try forEachBlock { block throws(LOptError) in
            for i in 0..<block.count where !theta[block.offset + i].isFinite {
                throw LOptError(
                    .weights,
                    "tensor '\(block.name)', element \(i) is \(Double(theta[block.offset + i])); finite numbers are needed")
            }
        }
        // Every range has its least number at or below its most.
        try forEachBlock { block throws(LOptError) in
            guard block.isRanges else { return }
            let columns = block.count / 2
            for i in 0..<columns {
                let least = theta[block.offset + i], most = theta[block.offset + columns + i]
                guard least <= most else {
                    throw LOptError(
                        .weights,
                        "tensor '\(block.name)', column \(i), is from \(Double(least)) to \(Double(most)); that is no range")
                }
            }
        }
    }
}

extension SafeTensors {
    fileprivate func index(of block: MetaParameterBlock) -> Int? {
        let name = block.name
        return name.withCString { index(of: UnsafeRawBufferPointer(start: $0, count: name.count)) }
    }
}

// MARK: - Digest

extension Architecture {
    /// Of the kind, the extensions that are tensors, every constructor value as the number of its numbers and their bits, and the bits of
    /// the meta-parameters. Checkpoints hold it: a value that joins later must be left out while it has its default.
    ///
    /// - Parameter whole: `theta` is laid out as it says; it has what this architecture has, and may have more extensions.
    func digest(_ theta: UnsafePointer<Float>, laidOutBy whole: Architecture) -> UInt64 {
        var digest = Digest()
        digest.update(UInt64(kind.rawValue))
        digest.update(extensionBits)
        var i = 0
        while let item = value(i) {
            i += 1
            guard !item.isLeftOutOfDigest else { continue }
            digest.update(UInt64(item.count))
            for i in 0..<item.count { digest.update(item.values[i].bitPattern) }
        }
        // The body throws nothing.
        try? whole.forEachBlock { block throws(LOptError) in
            if case .extension(let which) = block.owner, !self[which] { return }
            digest.update(UnsafeRawBufferPointer(UnsafeBufferPointer(start: theta + block.offset, count: block.count)))
        }
        return digest.value
    }

    /// What checkpoints from before the safeguards know.
    var withoutSafeguards: Architecture {
        var result = self
        (result.tensorRanges, result.skipIdleTensors) = (false, false)
        return result
    }
}
