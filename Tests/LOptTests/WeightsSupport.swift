import Foundation
import LOptMeta

@testable import LOptCore

/// A weights file to be changed piece by piece.
struct WeightsFile {
    var metadata: [String: String] = ["kind": "star"]
    var tensors: [String: (type: String, shape: [Int], data: [UInt8])] = [:]

    /// The tensors that an architecture needs; value i of each is `value(i)`.
    init(_ architecture: Architecture = Architecture(), value: (Int) -> Float = { Float($0) / 64 }) {
        metadata["kind"] = architecture.kind == .star ? "star" : "small_fc"
        let momenta = architecture.momenta
        set("momentum_decays", [momenta], value)
        set("rms_decays", [1], value)
        set("adafactor_decays", [momenta], value)
        for layer in 0...architecture.hiddenLayers {
            let rows = layer == 0 ? 4 + 8 * momenta + 11 : architecture.hiddenSize
            let outputs = architecture.kind == .star ? 4 : 2
            let columns = layer == architecture.hiddenLayers ? outputs : architecture.hiddenSize
            set("w\(layer)", [rows, columns], value)
            set("b\(layer)", [columns], value)
        }
        if architecture.tensorScale { set("tensor_scale", [3 + 2 * momenta], value) }
        if architecture.tensorCount { set("tensor_count", [2], value) }
        if architecture.tensorRanges { set("tensor_ranges", [2, 6 + 2 * momenta], value) }
        if architecture.tensorSchedule { set("tensor_schedule", [6 + 2 * momenta], value) }
    }

    mutating func set(_ name: String, _ shape: [Int], _ value: (Int) -> Float) {
        let values = (0..<shape.reduce(1, *)).map(value)
        tensors[name] = ("F32", shape, values.withUnsafeBytes { Array($0) })
    }

    var bytes: [UInt8] {
        var data: [UInt8] = []
        var entries: [String] = []
        let pairs = metadata.sorted { $0.key < $1.key }.map { "\(quoted($0.key)):\(quoted($0.value))" }
        for (name, tensor) in tensors.sorted(by: { $0.key < $1.key }) {
            let end = data.count + tensor.data.count
            let offsets = [data.count, end]
            entries.append(
                "\(quoted(name)):{\"dtype\":\"\(tensor.type)\",\"shape\":\(tensor.shape),\"data_offsets\":\(offsets)}")
            data += tensor.data
        }
        let header = (["\"__metadata__\":{\(pairs.joined(separator: ","))}"] + entries).joined(separator: ",")
        return safeTensorsFile(Array("{\(header)}".utf8), data: data)
    }

    private func quoted(_ text: String) -> String {
        let characters = text.unicodeScalars.map { scalar in
            let isPlain = scalar.value >= 0x20 && scalar != "\"" && scalar != "\\"
            return isPlain ? String(scalar) : String(format: "\\u%04x", scalar.value)
        }
        return "\"\(characters.joined())\""
    }
}

/// What weights are, as Swift values.
struct WeightsContents {
    var architecture: Architecture
    var theta: [Float]
    var digest: UInt64
    var digestWithoutSafeguards: UInt64

    init(_ weights: borrowing Weights) {
        architecture = weights.architecture
        theta = (0..<weights.architecture.metaParameters).map { weights.theta[$0] }
        digest = weights.digest
        digestWithoutSafeguards = weights.digestWithoutSafeguards
    }

    /// One tensor's values.
    func values(_ offset: Int, _ count: Int) -> [Float] { Array(theta[offset..<(offset + count)]) }
}

func weights(of file: [UInt8], allocator: Allocator = .system) throws(LOptError) -> WeightsContents {
    // A copy of the exact size: a read behind the end shows under a sanitizer.
    let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: file.count, alignment: 1)
    defer { memory.deallocate() }
    memory.copyBytes(from: file)
    return WeightsContents(try Weights(bytes: UnsafeRawBufferPointer(memory), allocator: allocator))
}

func weights(_ architecture: Architecture, theta: [Float]? = nil) throws(LOptError) -> WeightsContents {
    WeightsContents(
        try Weights(architecture: architecture, theta: theta ?? (0..<architecture.metaParameters).map { Float($0) / 64 }))
}

/// Their metadata's value of a key.
func metadata(_ weights: borrowing Weights, _ key: String) -> String? {
    weights.metadata(key: key).map { String(cString: $0) }
}
