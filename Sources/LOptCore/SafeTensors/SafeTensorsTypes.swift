extension SafeTensors {
    /// The types of element that the format has.
    public enum ElementType: UInt8, Sendable {
        case bool, f4, f6E2M3, f6E3M2, u8, i8, f8E5M2, f8E4M3, f8E8M0, i16, u16, f16, bf16, i32, u32, f32
        case c64, f64, i64, u64

        /// As the header spells it.
        public var name: StaticString {
            switch self {
            case .bool: "BOOL"
            case .f4: "F4"
            case .f6E2M3: "F6_E2M3"
            case .f6E3M2: "F6_E3M2"
            case .u8: "U8"
            case .i8: "I8"
            case .f8E5M2: "F8_E5M2"
            case .f8E4M3: "F8_E4M3"
            case .f8E8M0: "F8_E8M0"
            case .i16: "I16"
            case .u16: "U16"
            case .f16: "F16"
            case .bf16: "BF16"
            case .i32: "I32"
            case .u32: "U32"
            case .f32: "F32"
            case .c64: "C64"
            case .f64: "F64"
            case .i64: "I64"
            case .u64: "U64"
            }
        }

        /// The size of an element. Types narrower than a byte are packed.
        public var bits: Int {
            switch self {
            case .f4: 4
            case .f6E2M3, .f6E3M2: 6
            case .bool, .u8, .i8, .f8E5M2, .f8E4M3, .f8E8M0: 8
            case .i16, .u16, .f16, .bf16: 16
            case .i32, .u32, .f32: 32
            case .c64, .f64, .i64, .u64: 64
            }
        }

        init?(name: UnsafeRawBufferPointer) {
            var code: UInt8 = 0
            while let type = ElementType(rawValue: code) {
                if name.hasBytes(of: type.name) {
                    self = type
                    return
                }
                code += 1
            }
            return nil
        }

        /// The bytes of a tensor, or nil if they are no whole number or its bits are above 2^63 - 1.
        public func size(_ shape: Shape) -> Int? {
            guard let elements = shape.elements else { return nil }
            let (bits, overflow) = elements.multipliedReportingOverflow(by: bits)
            return overflow || bits % 8 != 0 ? nil : bits / 8
        }
    }

    /// The extents of a tensor; rank 0 is a single number.
    public struct Shape: Equatable, Sendable {
        public private(set) var rank = 0
        private var extents = InlineArray<16, Int>(repeating: 0)

        public init() {}

        public init(_ extent: Int) { append(extent) }

        public init(_ rows: Int, _ columns: Int) {
            append(rows)
            append(columns)
        }

        /// Adds an axis behind the others; false if there are `maximumRank` already.
        @discardableResult
        public mutating func append(_ extent: Int) -> Bool {
            guard rank < SafeTensors.maximumRank else { return false }
            extents[rank] = extent
            rank += 1
            return true
        }

        /// `axis` must be in 0 ..< `rank`.
        public subscript(axis: Int) -> Int { extents[axis] }

        /// The number of elements, or nil if it is above 2^63 - 1.
        public var elements: Int? {
            var product = 1
            for axis in 0..<rank {
                let (next, overflow) = product.multipliedReportingOverflow(by: extents[axis])
                guard !overflow else { return nil }
                product = next
            }
            return product
        }

        public static func == (a: Shape, b: Shape) -> Bool {
            guard a.rank == b.rank else { return false }
            for axis in 0..<a.rank where a[axis] != b[axis] { return false }
            return true
        }

        /// As in "[39, 4]".
        var text: Message {
            var text: Message = "["
            for axis in 0..<rank { text.append(message: axis == 0 ? "\(extents[axis])" : ", \(extents[axis])") }
            text.append(literal: "]")
            return text
        }
    }
}
