// What flax.serialization.to_bytes writes: MessagePack of nested dictionaries, an array as an extension of type 1 that holds (shape, name
// of the type, bytes) in MessagePack again. The checkpoints of learned_optimization are such files.

extension ParameterTree {
    static func flaxLeaves(_ bytes: [UInt8]) throws -> [Leaf] {
        var reader = ByteReader(bytes)
        var leaves: [Leaf] = []
        try collect(try MessagePack(&reader), bytes, path: [], into: &leaves)
        guard reader.left == 0 else { throw LOptMetaError("\(reader.left) bytes follow the checkpoint's end at byte \(reader.position)") }
        return leaves
    }

    /// Numbers and texts that are no arrays, as the step of a checkpoint, are passed over.
    private static func collect(_ value: MessagePack, _ bytes: [UInt8], path: [String], into leaves: inout [Leaf]) throws {
        switch value {
        case .map(let pairs):
            for (key, value) in pairs { try collect(value, bytes, path: path + [key], into: &leaves) }
        case .array(let items):
            for (i, item) in items.enumerated() { try collect(item, bytes, path: path + ["\(i)"], into: &leaves) }
        case .extended(1, let range):
            let name = path.joined(separator: "/")
            var reader = ByteReader(bytes, range)
            guard case .array(let parts) = try MessagePack(&reader), parts.count == 3, case .array(let extents) = parts[0],
                case .text(let word) = parts[1], case .bytes(let data) = parts[2]
            else { throw LOptMetaError("'\(name)' is no array of flax") }
            let shape = try extents.map { extent in
                guard case .integer(let extent) = extent else { throw LOptMetaError("'\(name)' is no array of flax") }
                return extent
            }
            guard let type = ArrayType(numpy: word) else {
                throw LOptMetaError("'\(name)' has elements of type \(word); floating-point numbers are needed")
            }
            leaves.append(Leaf(name: name, type: type, shape: try checked(shape, name), data: bytes[data]))
        default: return
        }
    }

    /// A value of MessagePack (https://github.com/msgpack/msgpack/blob/master/spec.md); bytes as their place in the file.
    private indirect enum MessagePack {
        case map([(String, MessagePack)])
        case array([MessagePack])
        case text(String)
        case bytes(Range<Int>)
        case integer(Int)
        case extended(Int, Range<Int>)
        case other

        init(_ reader: inout ByteReader, depth: Int = 0) throws {
            guard depth < 64 else { throw LOptMetaError("the checkpoint is nested more than 64 deep") }
            let first = try reader.big(1)
            switch first {
            case 0x00...0x7f: self = .integer(first)
            case 0x80...0x8f: self = try .map(&reader, first & 15, depth)
            case 0x90...0x9f: self = try .array(&reader, first & 15, depth)
            case 0xa0...0xbf: self = .text(try reader.text(first & 31))
            case 0xc4...0xc6: self = .bytes(try reader.take(reader.big(1 << (first - 0xc4))))
            case 0xc7...0xc9: self = try .extended(&reader, size: reader.big(1 << (first - 0xc7)))
            case 0xca, 0xcb:
                _ = try reader.take(first == 0xca ? 4 : 8)
                self = .other
            case 0xcc...0xcf: self = .integer(try reader.big(1 << (first - 0xcc)))
            case 0xd0...0xd3:
                _ = try reader.take(1 << (first - 0xd0))
                self = .other
            case 0xd4...0xd8: self = try .extended(&reader, size: 1 << (first - 0xd4))
            case 0xd9...0xdb: self = .text(try reader.text(reader.big(1 << (first - 0xd9))))
            case 0xdc, 0xdd: self = try .array(&reader, reader.big(first == 0xdc ? 2 : 4), depth)
            case 0xde, 0xdf: self = try .map(&reader, reader.big(first == 0xde ? 2 : 4), depth)
            // nil, false, true, one that is not used, and negative numbers of one byte.
            default: self = .other
            }
        }

        private static func map(_ reader: inout ByteReader, _ count: Int, _ depth: Int) throws -> MessagePack {
            var pairs: [(String, MessagePack)] = []
            for _ in 0..<count {
                guard case .text(let key) = try MessagePack(&reader, depth: depth + 1) else {
                    throw LOptMetaError("a key of the checkpoint, before byte \(reader.position), is no text")
                }
                pairs.append((key, try MessagePack(&reader, depth: depth + 1)))
            }
            return .map(pairs)
        }

        private static func array(_ reader: inout ByteReader, _ count: Int, _ depth: Int) throws -> MessagePack {
            var items: [MessagePack] = []
            for _ in 0..<count { items.append(try MessagePack(&reader, depth: depth + 1)) }
            return .array(items)
        }

        private static func extended(_ reader: inout ByteReader, size: Int) throws -> MessagePack {
            let type = try reader.big(1)
            return .extended(type, try reader.take(size))
        }
    }
}
