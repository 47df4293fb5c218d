/// The table of contents of a safetensors file: which tensors it holds, of which type and shape, and where their data
/// lie; and its metadata, text under text keys.
///
/// The format: 8 bytes, the header's length N as a little-endian integer; N bytes of JSON
///
///     {"__metadata__": {"key": "value", ...}, "name": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}, ...}
///
/// and the data, row-major and little-endian, to which the offsets refer. The file may come from anywhere, so all of this
/// is checked, as strictly as the format puts it: the tensors cover the data without overlap or hole, no key occurs
/// twice, and nothing else is in the header. What the values of a tensor are is not looked at.
///
/// The data are neither copied nor kept, so a file of any size can be read: parse the header, then read each `data` range
/// where it is wanted. The table itself takes at most 6 bytes of memory for each byte of the header.
public struct SafeTensors: ~Copyable {
    /// As in the authors' library. A header of 50,000 tensors has about 6 MB. Reading one takes n log n time: 50,000
    /// tensors 0.3 s, the worst of 100 MB (9 million pairs of metadata) a minute.
    public static let maximumHeaderSize = 100_000_000
    /// Rank 8, an axis of accumulators, and room.
    public static let maximumRank = 16

    /// One tensor of the file.
    public struct Entry {
        /// UTF-8, decoded; lives as long as the table.
        public let name: UnsafeRawBufferPointer
        public let type: ElementType
        public let shape: Shape
        /// The bytes of the file that hold the tensor, counted from the file's first.
        public let data: Range<Int>
    }

    /// One pair of the metadata: UTF-8, decoded, a 0 after each; lives as long as the table.
    public struct Pair {
        public let key: UnsafeRawBufferPointer
        public let value: UnsafeRawBufferPointer
    }

    private let text: Allocation<UInt8>
    private let entries: Allocation<Entry>
    private let pairs: Allocation<Pair>
    /// Numbers of entries, then of pairs, in the order of their names.
    private let order: Allocation<UInt32>

    /// The number of tensors.
    public var count: Int { entries.count }
    /// The number of pairs of metadata.
    public var metadataCount: Int { pairs.count }

    /// The tensors are numbered as the header lists them. `index` must be in 0 ..< `count`.
    public subscript(index: Int) -> Entry { entries.pointer[index] }
    /// nil behind the last.
    public func metadata(at index: Int) -> Pair? { index < pairs.count ? pairs.pointer[index] : nil }
}

// MARK: - Reading

extension SafeTensors {
    /// Reads the table of a file that is in memory.
    ///
    /// - Parameters:
    ///   - status: what a file that is not as it should be is reported as: `.weights` or `.checkpoint`.
    ///   - headerLimit: the longest header that is read.
    /// - Throws: `status`, with a line that says what is wrong and at which byte; `.noMemory`.
    public init(
        bytes: UnsafeRawBufferPointer, status: LOptStatus, headerLimit: Int = maximumHeaderSize, allocator: Allocator
    ) throws(LOptError) {
        let size = try SafeTensors.headerSize(bytes, fileSize: bytes.count, limit: headerLimit, status: status)
        try self.init(
            header: UnsafeRawBufferPointer(rebasing: bytes[8..<(8 + size)]), dataSize: bytes.count - 8 - size,
            status: status, allocator: allocator)
    }

    /// The same for an open file, of which only the header is read into memory. Also throws `.io`.
    public init(file: borrowing InputFile, status: LOptStatus, allocator: Allocator) throws(LOptError) {
        var prefix: UInt64 = 0
        let fileSize = file.size
        let size = try withUnsafeMutableBytes(of: &prefix) { prefix throws(LOptError) in
            let present = UnsafeMutableRawBufferPointer(rebasing: prefix[..<min(fileSize, 8)])
            try file.read(into: present, at: 0)
            return try SafeTensors.headerSize(
                UnsafeRawBufferPointer(present), fileSize: fileSize, limit: SafeTensors.maximumHeaderSize,
                status: status)
        }
        let header = try Allocation<UInt8>(size, allocator)
        try file.read(into: header.mutableBytes, at: 8)
        try self.init(header: header.bytes, dataSize: fileSize - 8 - size, status: status, allocator: allocator)
    }

    /// The length of the header, from the first 8 bytes of a file of `fileSize`.
    static func headerSize(
        _ prefix: UnsafeRawBufferPointer, fileSize: Int, limit: Int, status: LOptStatus
    ) throws(LOptError) -> Int {
        guard prefix.count >= 8 else {
            throw LOptError(status, "no safetensors file: it has \(fileSize) bytes, and 8 hold the header's length alone")
        }
        let size = UInt64(littleEndian: prefix.loadUnaligned(as: UInt64.self))
        guard size <= UInt64(limit) else {
            throw LOptError(status, "no safetensors file: a header of \(size) bytes, at most \(limit) are allowed")
        }
        guard size <= UInt64(fileSize - 8) else {
            throw LOptError(status, "the file is cut short: a header of \(size) bytes in a file of \(fileSize)")
        }
        return Int(size)
    }

    /// The table from the header's JSON alone, before `dataSize` bytes of data.
    ///
    /// The header is parsed twice, first to count what it holds, so that memory is asked for only when the header has
    /// been found well-formed, and exactly as much as its tensors need.
    init(
        header: UnsafeRawBufferPointer, dataSize: Int, status: LOptStatus, allocator: Allocator
    ) throws(LOptError) {
        let text = try Allocation<UInt8>(header.count, allocator)
        var counter = SafeTensorsParser(header, dataSize: dataSize, text: text.pointer, status: status)
        try counter.parse()
        let entries = try Allocation<Entry>(counter.entryCount, allocator)
        let pairs = try Allocation<Pair>(counter.pairCount, allocator)
        let order = try Allocation<UInt32>(entries.count + pairs.count, allocator)
        var parser = SafeTensorsParser(
            header, dataSize: dataSize, text: text.pointer, status: status,
            entries: entries.pointer, pairs: pairs.pointer)
        try parser.parse()
        let section = (8 + header.count)..<(8 + header.count + dataSize)
        try SafeTensors.checkCoverage(of: section, entries, order, status)
        try SafeTensors.sortNames(entries, order, status)
        try SafeTensors.sortKeys(pairs, order.pointer + entries.count, status)
        self.text = text
        self.entries = entries
        self.pairs = pairs
        self.order = order
    }
}

// MARK: - Order

extension SafeTensors {
    /// The tensors in the order of their data must touch one another and fill the data section.
    private static func checkCoverage(
        of section: Range<Int>, _ table: borrowing Allocation<Entry>, _ order: borrowing Allocation<UInt32>,
        _ status: LOptStatus
    ) throws(LOptError) {
        let (entries, count) = (table.pointer, table.count)
        let byData = order.pointer
        heapSort(byData, count) { a, b in
            let (a, b) = (entries[Int(a)].data, entries[Int(b)].data)
            return a.lowerBound != b.lowerBound ? a.lowerBound < b.lowerBound : a.upperBound < b.upperBound
        }
        var end = section.lowerBound
        for i in 0..<count {
            let entry = entries[Int(byData[i])]
            guard entry.data.lowerBound == end else {
                let fault: StaticString = entry.data.lowerBound < end ? "overlap" : "leave a hole"
                throw LOptError(
                    status,
                    """
                    the data of tensors \(fault): '\(entry.name)' begins at offset \
                    \(entry.data.lowerBound - section.lowerBound), the one before it ends at \(end - section.lowerBound)
                    """)
            }
            end = entry.data.upperBound
        }
        guard end == section.upperBound else {
            throw LOptError(
                status, "\(section.count) bytes of data, but the tensors end at \(end - section.lowerBound)")
        }
    }

    /// Sorts the names for `index(of:)`; two that are equal lie side by side then.
    private static func sortNames(
        _ table: borrowing Allocation<Entry>, _ order: borrowing Allocation<UInt32>, _ status: LOptStatus
    ) throws(LOptError) {
        let (entries, count) = (table.pointer, table.count)
        let byName = order.pointer
        heapSort(byName, count) { a, b in entries[Int(a)].name.compare(with: entries[Int(b)].name) < 0 }
        for i in 1..<max(count, 1) {
            let name = entries[Int(byName[i])].name
            guard !name.hasBytes(of: entries[Int(byName[i - 1])].name) else {
                throw LOptError(status, "two tensors have the name '\(name)'")
            }
        }
    }

    private static func sortKeys(
        _ table: borrowing Allocation<Pair>, _ byKey: UnsafeMutablePointer<UInt32>, _ status: LOptStatus
    ) throws(LOptError) {
        let (pairs, count) = (table.pointer, table.count)
        heapSort(byKey, count) { a, b in pairs[Int(a)].key.compare(with: pairs[Int(b)].key) < 0 }
        for i in 1..<max(count, 1) {
            let key = pairs[Int(byKey[i])].key
            guard !key.hasBytes(of: pairs[Int(byKey[i - 1])].key) else {
                throw LOptError(status, "the key '\(key)' is twice in the metadata")
            }
        }
    }
}

/// Puts the numbers 0 ..< count into order, in n log n steps whatever it is: a file from anywhere may have the worst one.
private func heapSort(_ a: UnsafeMutablePointer<UInt32>, _ count: Int, _ precedes: (UInt32, UInt32) -> Bool) {
    for i in 0..<count { a[i] = UInt32(i) }
    func sift(_ start: Int, _ count: Int) {
        let value = a[start]
        var hole = start
        while 2 * hole + 1 < count {
            var child = 2 * hole + 1
            if child + 1 < count, precedes(a[child], a[child + 1]) { child += 1 }
            guard precedes(value, a[child]) else { break }
            a[hole] = a[child]
            hole = child
        }
        a[hole] = value
    }
    var start = count / 2
    while start > 0 {
        start -= 1
        sift(start, count)
    }
    var end = count - 1
    while end > 0 {
        (a[0], a[end]) = (a[end], a[0])
        sift(0, end)
        end -= 1
    }
}

// MARK: - Looking up

extension SafeTensors {
    /// The number of the tensor of this name. `near` is looked at first: who asks for the tensors in the order in which
    /// they were written finds each at once.
    public func index(of name: UnsafeRawBufferPointer, near: Int = 0) -> Int? {
        if near >= 0, near < count, entries.pointer[near].name.hasBytes(of: name) { return near }
        let entries = entries.pointer
        return search(order.pointer, count) { entries[$0].name.compare(with: name) }
    }

    public func index(of name: StaticString, near: Int = 0) -> Int? {
        index(of: UnsafeRawBufferPointer(name), near: near)
    }

    /// The value under a key of the metadata: UTF-8 with a 0 after it, which lives as long as the table.
    public func metadata(_ key: UnsafeRawBufferPointer) -> UnsafeRawBufferPointer? {
        let pairs = pairs.pointer
        return search(order.pointer + count, metadataCount) { pairs[$0].key.compare(with: key) }.map { pairs[$0].value }
    }

    public func metadata(_ key: StaticString) -> UnsafeRawBufferPointer? { metadata(UnsafeRawBufferPointer(key)) }

    private func search(_ order: UnsafePointer<UInt32>, _ count: Int, _ compare: (Int) -> Int) -> Int? {
        var (low, high) = (0, count)
        while low < high {
            let middle = low + (high - low) / 2
            let order = compare(Int(order[middle]))
            if order < 0 { low = middle + 1 } else { high = middle }
        }
        guard low < count, compare(Int(order[low])) == 0 else { return nil }
        return Int(order[low])
    }
}
