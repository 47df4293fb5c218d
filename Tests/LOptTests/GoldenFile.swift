import Foundation

/// A safetensors file read whole, every value as f64, which holds f32 and i32 exactly.
struct GoldenFile: Sendable {
    struct Tensor: Sendable {
        let shape: [Int]
        /// Row-major.
        let values: [Double]
    }

    enum Failure: Error {
        case tooShort(URL)
        case unknownType(String)
        case missing(String, URL)
    }

    let url: URL
    let tensors: [String: Tensor]

    init(contentsOf url: URL) throws {
        struct Entry: Decodable {
            let dtype: String
            let shape: [Int]
            let data_offsets: [Int]
        }
        let data = try Data(contentsOf: url)
        guard data.count >= 8 else { throw Failure.tooShort(url) }
        let length = data.withUnsafeBytes { Int(UInt64(littleEndian: $0.loadUnaligned(as: UInt64.self))) }
        guard data.count >= 8 + length else { throw Failure.tooShort(url) }
        let header = try JSONDecoder().decode([String: Entry].self, from: data[8..<(8 + length)])
        self.url = url
        tensors = try header.mapValues { entry in
            let range = (8 + length + entry.data_offsets[0])..<(8 + length + entry.data_offsets[1])
            guard data.count >= range.upperBound else { throw Failure.tooShort(url) }
            return Tensor(shape: entry.shape, values: try GoldenFile.values(of: data[range], type: entry.dtype))
        }
    }

    /// The tensor of this name; throws if the file has none.
    func tensor(_ name: String) throws -> Tensor {
        guard let tensor = tensors[name] else { throw Failure.missing(name, url) }
        return tensor
    }

    func values(_ name: String) throws -> [Double] { try tensor(name).values }

    private static func values(of data: Data, type: String) throws -> [Double] {
        func read<T>(_: T.Type, _ value: (T) -> Double) -> [Double] {
            data.withUnsafeBytes { bytes in
                stride(from: 0, to: bytes.count, by: MemoryLayout<T>.size).map {
                    value(bytes.loadUnaligned(fromByteOffset: $0, as: T.self))
                }
            }
        }
        switch type {
        case "F64": return read(Double.self) { $0 }
        case "F32": return read(Float.self) { Double($0) }
        case "I32": return read(Int32.self) { Double($0) }
        default: throw Failure.unknownType(type)
        }
    }
}
