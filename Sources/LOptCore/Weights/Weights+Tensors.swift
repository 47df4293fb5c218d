import CLOptShims

/// One tensor of a weights file and where its values lie among the meta-parameters.
struct WeightsTensor {
    let name: Message
    let shape: SafeTensors.Shape
    let offset: Int
}

extension Architecture {
    private var extensionTensors: Int {
        (tensorCount ? 1 : 0) + (tensorRanges ? 1 : 0) + (tensorScale ? 1 : 0) + (tensorSchedule ? 1 : 0)
    }
    /// How many a file has.
    var fileTensors: Int { 3 + 2 * layers + extensionTensors }

    /// In the order of their names: adafactor_decays, b0, ..., momentum_decays, rms_decays, tensor_count, tensor_ranges,
    /// tensor_scale, tensor_schedule, w0, ...
    /// `index` must be in 0 ..< `fileTensors`.
    func tensor(_ index: Int) -> WeightsTensor {
        switch index - layers {
        case ..<(-layers + 1):
            return WeightsTensor(
                name: "adafactor_decays", shape: SafeTensors.Shape(momenta), offset: adafactorDecaysOffset)
        case ..<1:
            let layer = index - 1
            return WeightsTensor(
                name: "b\(layer)", shape: SafeTensors.Shape(fanOut(layer)), offset: biasOffset(layer))
        case 1:
            return WeightsTensor(
                name: "momentum_decays", shape: SafeTensors.Shape(momenta), offset: momentumDecaysOffset)
        case 2:
            return WeightsTensor(name: "rms_decays", shape: SafeTensors.Shape(1), offset: rmsDecayOffset)
        case 3..<(3 + extensionTensors):
            return extensionTensor(index - layers - 3)
        default:
            let layer = index - layers - 3 - extensionTensors
            return WeightsTensor(
                name: "w\(layer)", shape: SafeTensors.Shape(fanIn(layer), fanOut(layer)), offset: weightOffset(layer))
        }
    }

    /// The `index`-th of the extensions that are on.
    private func extensionTensor(_ index: Int) -> WeightsTensor {
        var left = index
        if tensorCount {
            if left == 0 {
                return WeightsTensor(
                    name: "tensor_count", shape: SafeTensors.Shape(tensorCounts), offset: tensorCountOffset)
            }
            left -= 1
        }
        if tensorRanges {
            if left == 0 {
                return WeightsTensor(
                    name: "tensor_ranges", shape: SafeTensors.Shape(2, statistics + 1), offset: tensorRangesOffset)
            }
            left -= 1
        }
        if left == 0 {
            return WeightsTensor(name: "tensor_scale", shape: SafeTensors.Shape(tensorScales), offset: tensorScaleOffset)
        }
        return WeightsTensor(
            name: "tensor_schedule", shape: SafeTensors.Shape(tensorSchedules), offset: tensorScheduleOffset)
    }

    /// The file must have the tensors of this architecture and no others.
    func checkTensors(of file: borrowing SafeTensors) throws(LOptError) {
        for i in 0..<fileTensors {
            let tensor = tensor(i)
            let entry = file[try tensor.find(in: file)]
            guard entry.type == .f32, entry.shape == tensor.shape else {
                throw LOptError(
                    .weights,
                    """
                    tensor '\(tensor.name)' is \(entry.type.name) \(entry.shape.text); the architecture in the metadata \
                    needs F32 \(tensor.shape.text)
                    """)
            }
        }
        if file.count > fileTensors { try refuseOthers(in: file) }
    }

    /// Copies every tensor to its place in `theta`.
    func readTensors(
        of file: borrowing SafeTensors, _ bytes: UnsafeRawBufferPointer, into theta: UnsafeMutablePointer<Float>
    ) throws(LOptError) {
        for i in 0..<fileTensors {
            let tensor = tensor(i)
            let data = UnsafeRawBufferPointer(rebasing: bytes[file[try tensor.find(in: file)].data])
            lopt_system_copy(theta + tensor.offset, data.baseAddress, data.count)
            try tensor.checkFinite(theta)
        }
    }

    private func refuseOthers(in file: borrowing SafeTensors) throws(LOptError) {
        for i in 0..<file.count {
            var isKnown = false
            for j in 0..<fileTensors where !isKnown { isKnown = tensor(j).isNamed(file[i].name) }
            guard isKnown else {
                throw LOptError(
                    .weights, "tensor '\(file[i].name)' is none of kind \(kind.name) with \(hiddenLayers) hidden layers")
            }
        }
    }
}

extension WeightsTensor {
    func isNamed(_ text: UnsafeRawBufferPointer) -> Bool {
        name.withCString { text.hasBytes(of: UnsafeRawBufferPointer(start: $0, count: name.count)) }
    }

    func find(in file: borrowing SafeTensors) throws(LOptError) -> Int {
        let index = name.withCString { [count = name.count] text in
            file.index(of: UnsafeRawBufferPointer(start: text, count: count))
        }
        guard let index else { throw LOptError(.weights, "there is no tensor '\(name)'") }
        return index
    }

    func checkFinite(_ theta: UnsafePointer<Float>) throws(LOptError) {
        for i in 0..<(shape.elements ?? 0) where !theta[offset + i].isFinite {
            throw LOptError(
                .weights, "tensor '\(name)', element \(i) is \(Double(theta[offset + i])); finite numbers are needed")
        }
    }
}
