import CLOptShims
import Foundation
import LOptCore

/// The leaves of a tree of arrays, as JAX and numpy programs keep parameters, from a file that holds arrays and no code.
///
/// Read are .npz (`numpy.savez` with a path for each leaf), safetensors, and what flax's `to_bytes` writes, as the checkpoints of
/// learned_optimization. Pickles are refused: reading one runs whatever it says.
public struct ParameterTree: Sendable {
    public let leaves: [Leaf]
    /// A file is read whole.
    static let maximumSize = 1 << 30

    /// One array.
    public struct Leaf: Sendable {
        /// As the file spells it: `nn/~/w0`.
        public let name: String
        let type: ArrayType
        public let shape: [Int]
        /// Whether the first index runs fastest, as Fortran has it.
        var isColumnMajor = false
        /// Of the elements.
        let data: ArraySlice<UInt8>

        public var count: Int { shape.reduce(1, *) }
    }

    public init(leaves: [Leaf]) { self.leaves = leaves }

    /// Throws an `LOptMetaError` with the path and what is wrong.
    public init(contentsOf url: URL) throws {
        let data = try url.readFile()
        guard data.count <= ParameterTree.maximumSize else {
            throw LOptMetaError("'\(url.path)' has \(data.count) bytes; a tree has at most \(ParameterTree.maximumSize)")
        }
        do {
            leaves = try ParameterTree.leaves(of: Array(data))
        } catch let error as LOptMetaError {
            throw LOptMetaError("'\(url.path)': \(error)")
        }
    }

    /// By what the file begins with, not by its name.
    static func leaves(of bytes: [UInt8]) throws -> [Leaf] {
        let leaves: [Leaf]
        if bytes.starts(with: Array("PK".utf8)) {
            leaves = try npzLeaves(bytes)
        } else if bytes.starts(with: Array("\u{93}NUMPY".unicodeScalars.map { UInt8($0.value) })) {
            throw LOptMetaError("one array (.npy) is no tree; save all leaves under their paths with numpy.savez(file, **leaves)")
        } else if bytes.count > 1, bytes[0] == 0x80, (2...5).contains(bytes[1]) {
            throw LOptMetaError("this is a pickle, which can hold code and is not read; save the leaves with numpy.savez(file, **leaves)")
        } else if bytes.count > 8, bytes[8] == UInt8(ascii: "{") {
            leaves = try safeTensorsLeaves(bytes)
        } else if let first = bytes.first, first & 0xf0 == 0x80 || first == 0xde || first == 0xdf {
            leaves = try flaxLeaves(bytes)
        } else {
            throw LOptMetaError("neither .npz nor safetensors nor a checkpoint of flax")
        }
        for leaf in leaves where leaf.data.count != leaf.count * leaf.type.size {
            throw LOptMetaError(
                "'\(leaf.name)' has \(leaf.data.count) bytes; \(leaf.shape) of \(leaf.type.name) has \(leaf.count * leaf.type.size)")
        }
        let names = leaves.map(\.name).sorted()
        if let twice = zip(names, names.dropFirst()).first(where: { $0 == $1 })?.0 {
            throw LOptMetaError("two leaves have the path '\(twice)'")
        }
        return leaves
    }

    private static func safeTensorsLeaves(_ bytes: [UInt8]) throws -> [Leaf] {
        try bytes.withUnsafeBytes { memory in
            do throws(LOptError) {
                let file = try SafeTensors(bytes: memory, status: .invalidArgument, allocator: .system)
                var leaves: [Leaf] = []
                for i in 0..<file.count {
                    let entry = file[i]
                    leaves.append(
                        Leaf(
                            name: String(decoding: entry.name, as: UTF8.self), type: ArrayType(safeTensors: entry.type),
                            shape: (0..<entry.shape.rank).map { entry.shape[$0] }, data: bytes[entry.data]))
                }
                return leaves
            } catch {
                throw LOptMetaError("\(error)")
            }
        }
    }
}

/// The type of an array's elements.
struct ArrayType: Equatable, Sendable {
    enum Number: Sendable { case f16, bf16, f32, f64, other }

    /// As messages have it.
    let name: String
    /// In bytes.
    let size: Int
    let number: Number
    var isBigEndian = false

    private init(_ name: String, _ size: Int, _ number: Number = .other) { (self.name, self.size, self.number) = (name, size, number) }

    /// As numpy names it: `float32`, `int64`. nil if the size of an element cannot be known.
    init?(numpy name: String) {
        switch name {
        case "float16": self.init(name, 2, .f16)
        case "bfloat16": self.init(name, 2, .bf16)
        case "float32": self.init(name, 4, .f32)
        case "float64": self.init(name, 8, .f64)
        case "bool": self.init(name, 1)
        default:
            guard let bits = Int(name.drop { !$0.isNumber }), bits > 0, bits % 8 == 0 else { return nil }
            self.init(name, bits / 8)
        }
    }

    /// As an .npy file has it: `<f4`.
    init?(descriptor: String) {
        let names: [Character: String] = ["f": "float", "i": "int", "u": "uint", "c": "complex"]
        guard let order = descriptor.first, let kind = descriptor.dropFirst().first, let size = Int(descriptor.dropFirst(2)),
            "<>|=".contains(order), size > 0, size <= 1 << 20
        else { return nil }
        if let word = names[kind] {
            self.init(numpy: "\(word)\(8 * size)")
        } else {
            // Texts have 4 bytes a character.
            self.init(descriptor, kind == "U" ? 4 * size : size)
        }
        isBigEndian = order == ">"
    }

    init(safeTensors type: SafeTensors.ElementType) {
        let number: Number = switch type {
        case .f16: .f16
        case .bf16: .bf16
        case .f32: .f32
        case .f64: .f64
        default: .other
        }
        self.init("\(type.name)", type.bits / 8, number)
    }
}

extension ParameterTree.Leaf {
    /// Row-major. Throws for what is no array of floating-point numbers.
    func values() throws -> [Double] {
        let bits = (0..<count).map { i in
            let element = data[(data.startIndex + i * type.size)..<(data.startIndex + (i + 1) * type.size)]
            return (type.isBigEndian ? Array(element) : element.reversed()).reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
        }
        let values: [Double]
        switch type.number {
        case .f16: values = bits.map { Double(lopt_of_f16(UInt32($0))) }
        case .bf16: values = bits.map { Double(Float(bitPattern: UInt32($0) << 16)) }
        case .f32: values = bits.map { Double(Float(bitPattern: UInt32($0))) }
        case .f64: values = bits.map { Double(bitPattern: $0) }
        case .other: throw LOptMetaError("'\(name)' is \(type.name); floating-point numbers are needed")
        }
        guard isColumnMajor, shape.count > 1 else { return values }
        var strides: [Int] = [], stride = 1
        for extent in shape {
            strides.append(stride)
            stride *= extent
        }
        return values.indices.map { i in
            var rest = i, place = 0
            for axis in shape.indices.reversed() {
                place += rest % shape[axis] * strides[axis]
                rest /= shape[axis]
            }
            return values[place]
        }
    }
}
