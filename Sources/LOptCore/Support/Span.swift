/// A range of addresses.
struct Span {
    let start: UInt, end: UInt

    /// Of no bytes.
    static var none: Span { Span(start: 0, end: 0) }

    private init(start: UInt, end: UInt) { (self.start, self.end) = (start, end) }

    /// Of `elements` numbers; of none for nil.
    init(_ pointer: UnsafeRawPointer?, _ elements: Int, _ type: ElementType, _ name: StaticString) throws(LOptError) {
        start = UInt(bitPattern: pointer)
        let (end, overflow) = start.addingReportingOverflow(pointer == nil ? 0 : UInt(elements * type.bytes))
        guard !overflow else { throw LOptError(.invalidArgument, "\(name) reaches past the end of the address space") }
        self.end = end
    }

    var isEmpty: Bool { start == end }

    func overlaps(_ other: Span) -> Bool { start < other.end && other.start < end }
}
