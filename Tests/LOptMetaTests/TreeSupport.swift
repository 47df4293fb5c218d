import Foundation

@testable import LOptMeta

/// Trees, and the files that hold them, to be changed piece by piece.
enum Trees {
    static let folder = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()

    static func url(_ name: String) -> URL { folder.appending(path: "Trees/\(name)") }
    static func golden(_ name: String) throws -> ParameterTree { try ParameterTree(contentsOf: folder.appending(path: "Goldens/\(name)")) }

    static func leaf(_ name: String, _ shape: [Int], _ value: (Int) -> Float = { Float($0) / 64 }) -> ParameterTree.Leaf {
        let values = (0..<shape.reduce(1, *)).map(value)
        return ParameterTree.Leaf(
            name: name, type: ArrayType(numpy: "float32")!, shape: shape, data: values.withUnsafeBytes { Array($0) }[...])
    }

    /// As MLPNomLOpt (4 outputs) or AdafacMLPLOpt (2) has it.
    static func tree(hidden: Int = 4, layers: Int = 2, momenta: Int = 3, outputs: Int = 4) -> [ParameterTree.Leaf] {
        var leaves = [leaf("momentum_decays", [momenta]), leaf("rms_decays", [1]), leaf("adafactor_decays", [momenta])]
        var inputs = 4 + 8 * momenta + 11
        for layer in 0...layers {
            let width = layer == layers ? outputs : hidden
            leaves += [leaf("nn/~/w\(layer)", [inputs, width]), leaf("nn/~/b\(layer)", [width])]
            inputs = width
        }
        return leaves
    }

    /// A file as numpy writes it: a name, the text of its header, its data.
    struct NPY {
        var name: String
        var header: String
        var data: [UInt8]

        init(_ name: String, _ header: String, _ data: [UInt8]) { (self.name, self.header, self.data) = (name, header, data) }

        init(_ leaf: ParameterTree.Leaf) {
            let shape = leaf.shape.map { "\($0)," }.joined(separator: " ")
            self.init(leaf.name, "{'descr': '<f4', 'fortran_order': False, 'shape': (\(shape)), }", Array(leaf.data))
        }

        var bytes: [UInt8] {
            let text = Array((header + "\n").utf8)
            return [0x93] + Array("NUMPY".utf8) + [1, 0] + little(text.count, 2) + text + data
        }
    }

    /// A zip archive, its members stored (method 0), or said to be something else.
    static func archive(_ members: [NPY], method: Int = 0, flags: Int = 0) -> [UInt8] {
        var file: [UInt8] = [], table: [UInt8] = []
        for member in members {
            let name = Array((member.name + ".npy").utf8), data = member.bytes, place = file.count
            let fields = little(20, 2) + little(flags, 2) + little(method, 2) + little(0, 4) + little(crc(data), 4) + little(data.count, 4)
                + little(data.count, 4) + little(name.count, 2) + little(0, 2)
            file += [0x50, 0x4b, 3, 4] + fields + name + data
            table += [0x50, 0x4b, 1, 2] + little(20, 2) + fields + little(0, 2 + 2 + 2 + 4) + little(place, 4) + name
        }
        let start = file.count
        file += table + [0x50, 0x4b, 5, 6] + little(0, 4) + little(members.count, 2) + little(members.count, 2)
        return file + little(table.count, 4) + little(start, 4) + little(0, 2)
    }

    static func little(_ value: Int, _ count: Int) -> [UInt8] { (0..<count).map { UInt8(truncatingIfNeeded: value >> (8 * $0)) } }

    /// Bit by bit, as the standard has it.
    private static func crc(_ bytes: [UInt8]) -> Int {
        var crc = UInt32.max
        for byte in bytes {
            crc ^= UInt32(byte)
            for _ in 0..<8 { crc = crc & 1 == 0 ? crc >> 1 : (crc >> 1) ^ 0xedb8_8320 }
        }
        return Int(~crc)
    }
}

/// The line that it throws; "" if it throws nothing.
func failure(_ body: () throws -> Void) -> String {
    do {
        try body()
        return ""
    } catch {
        return "\(error)"
    }
}
