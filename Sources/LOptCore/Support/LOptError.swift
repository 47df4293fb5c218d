/// Why a call failed. The raw values are those of `lopt_status` in lopt.h.
public enum LOptStatus: Int32, Sendable {
    case ok = 0
    case skippedNonfinite = 1
    case invalidArgument = -1
    case noMemory = -2
    case io = -3
    case weights = -4
    case checkpoint = -5
    case mismatch = -6
    case nonfinite = -7
}

/// What every throwing call of this module throws: a status and one line that names the value and what is allowed.
///
/// It carries its text inline, so that reporting a failed allocation allocates nothing.
public struct LOptError: Error {
    public let status: LOptStatus
    public let message: Message

    @inline(never)
    public init(_ status: LOptStatus, _ message: Message) {
        self.status = status
        self.message = message
    }
}

/// A line of at most 255 bytes, built by string interpolation without touching the heap:
/// `"rank is \(rank); allowed are 0 to 8"`. What does not fit is cut, between two characters, and ends in "...". Nothing is
/// inlined: there are hundreds of messages, and each would bring its own copy of all this into the library.
public struct Message: ExpressibleByStringInterpolation, Sendable {
    public static let capacity = 255
    private var bytes: InlineArray<256, UInt8>
    public private(set) var count: Int

    @inline(never)
    public init() {
        bytes = InlineArray(repeating: 0)
        count = 0
    }

    @inline(never)
    public init(stringLiteral value: StaticString) {
        self.init()
        append(literal: value)
    }

    @inline(never)
    public init(stringInterpolation: Interpolation) {
        self = stringInterpolation.message
    }

    public struct Interpolation: StringInterpolationProtocol {
        var message = Message()

        public init(literalCapacity: Int, interpolationCount: Int) {}
        @inline(never)
        public mutating func appendLiteral(_ literal: StaticString) { message.append(literal: literal) }
        @inline(never)
        public mutating func appendInterpolation(_ value: Int) { message.append(value) }
        @inline(never)
        public mutating func appendInterpolation(_ value: Int64) { message.append(Int(value)) }
        @inline(never)
        public mutating func appendInterpolation(_ value: Int32) { message.append(Int(value)) }
        @inline(never)
        public mutating func appendInterpolation(_ value: UInt64) { message.append(unsigned: value) }
        @inline(never)
        public mutating func appendInterpolation(_ value: UInt32) { message.append(unsigned: UInt64(value)) }
        @inline(never)
        public mutating func appendInterpolation(_ value: Double) { message.append(value) }
        @inline(never)
        public mutating func appendInterpolation(_ value: StaticString) { message.append(literal: value) }
        @inline(never)
        public mutating func appendInterpolation(_ value: Message) { message.append(message: value) }
        /// A text that came from outside: see `Message.append(untrusted:)`.
        @inline(never)
        public mutating func appendInterpolation(_ value: UnsafeRawBufferPointer) { message.append(untrusted: value) }
        /// A C string that came from outside.
        @inline(never)
        public mutating func appendInterpolation(_ value: UnsafePointer<CChar>) { message.append(cString: value) }
    }

    /// Calls `body` with the text, terminated by 0.
    public func withCString<R>(_ body: (UnsafePointer<CChar>) -> R) -> R {
        withUnsafePointer(to: bytes) { pointer in
            body(UnsafeRawPointer(pointer).assumingMemoryBound(to: CChar.self))
        }
    }

    @inline(never)
    public mutating func append(byte: UInt8) {
        if count < Message.capacity {
            bytes[count] = byte
            count += 1
        } else {
            // Once it is there, this changes it no more.
            var end = Message.capacity - 3
            while bytes[end] & 0xc0 == 0x80 { end -= 1 }
            for i in end..<Message.capacity { bytes[i] = UInt8(ascii: ".") }
        }
    }

    @inline(never)
    mutating func append(literal text: StaticString) {
        let start = text.utf8Start
        for i in 0..<text.utf8CodeUnitCount { append(byte: start[i]) }
    }

    @inline(never)
    mutating func append(message other: Message) {
        for i in 0..<other.count { append(byte: other.bytes[i]) }
    }

    @inline(never)
    mutating func append(_ value: Int) {
        if value < 0 { append(byte: UInt8(ascii: "-")) }
        append(unsigned: UInt64(value.magnitude))
    }

    @inline(never)
    mutating func append(unsigned value: UInt64) {
        var divisor: UInt64 = 1
        while value / divisor >= 10 { divisor *= 10 }
        while divisor > 0 {
            append(byte: UInt8(ascii: "0") + UInt8(value / divisor % 10))
            divisor /= 10
        }
    }

    /// Six significant digits: enough to recognise a value in an error message.
    @inline(never)
    mutating func append(_ value: Double) {
        if value.isNaN { return append(literal: "nan") }
        if value < 0 { append(byte: UInt8(ascii: "-")) }
        var magnitude = value.magnitude
        if magnitude.isInfinite { return append(literal: "inf") }
        if magnitude == 0 { return append(literal: "0") }
        var exponent = 0
        while magnitude >= 10 { magnitude /= 10; exponent += 1 }
        while magnitude < 1 { magnitude *= 10; exponent -= 1 }
        var digits = UInt64((magnitude * 100_000).rounded(.toNearestOrEven))
        if digits >= 1_000_000 { digits /= 10; exponent += 1 }
        if exponent >= -4 && exponent < 6 {
            appendFixed(digits, pointAfter: exponent + 1)
        } else {
            appendFixed(digits, pointAfter: 1)
            append(byte: UInt8(ascii: "e"))
            append(exponent)
        }
    }

    /// Six digits with the point after `pointAfter` of them (0 and less: leading zeros), without trailing zeros.
    private mutating func appendFixed(_ digits: UInt64, pointAfter: Int) {
        var digits = digits
        var length = 6
        while length > max(pointAfter, 1) && digits % 10 == 0 { digits /= 10; length -= 1 }
        if pointAfter <= 0 {
            append(literal: "0.")
            for _ in 0..<(-pointAfter) { append(byte: UInt8(ascii: "0")) }
        }
        var divisor: UInt64 = 1
        for _ in 1..<length { divisor *= 10 }
        for position in 0..<length {
            if position == pointAfter && position > 0 { append(byte: UInt8(ascii: ".")) }
            append(byte: UInt8(ascii: "0") + UInt8(digits / divisor % 10))
            divisor = max(divisor / 10, 1)
        }
    }
}

#if !hasFeature(Embedded)
extension LOptError: CustomStringConvertible {
    public var description: String { message.withCString { String(cString: $0) } }
}
#endif
