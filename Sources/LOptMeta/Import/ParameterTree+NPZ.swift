// What numpy.savez writes: a zip archive of .npy files, stored as they are. The formats are those of PKWARE's APPNOTE and of
// numpy.lib.format.

extension ParameterTree {
    static func npzLeaves(_ bytes: [UInt8]) throws -> [Leaf] {
        var directory = ByteReader(bytes, try zipDirectory(bytes))
        var leaves: [Leaf] = []
        while directory.left > 0 {
            let member = try ZipMember(&directory)
            guard member.name.hasSuffix(".npy") else { throw LOptMetaError("'\(member.name)' in the archive is no .npy file") }
            let name = String(member.name.dropLast(4))
            leaves.append(try npyLeaf(name, bytes, member.data(bytes)))
        }
        return leaves
    }

    /// Where the table of an archive's members is, which its last record tells.
    private static func zipDirectory(_ bytes: [UInt8]) throws -> Range<Int> {
        let signature: [UInt8] = [0x50, 0x4b, 5, 6]
        // A comment of at most 65,535 bytes may follow the record of 22.
        var start = bytes.count - 22
        while start >= max(bytes.count - 22 - 65_535, 0), !bytes[start...].starts(with: signature) { start -= 1 }
        guard start >= 0, bytes[start...].starts(with: signature) else {
            throw LOptMetaError("the archive is cut short: its table of members, at the end, is missing")
        }
        var record = ByteReader(bytes, (start + 12)..<bytes.count)
        let size = try record.little(4), offset = try record.little(4)
        guard offset <= start, size <= start - offset else {
            throw LOptMetaError("the archive is damaged: its table of members lies at \(offset), of \(size) bytes, in \(bytes.count)")
        }
        return offset..<(offset + size)
    }

    private struct ZipMember {
        let name: String
        private let method: Int, flags: Int, crc: Int, size: Int, place: Int

        /// The next entry of the table.
        init(_ table: inout ByteReader) throws {
            guard try table.little(4) == 0x0201_4b50 else {
                throw LOptMetaError("the archive is damaged: no entry of its table of members at byte \(table.position - 4)")
            }
            _ = try table.take(4)
            flags = try table.little(2)
            method = try table.little(2)
            _ = try table.take(4)
            crc = try table.little(4)
            size = try table.little(4)
            _ = try table.take(4)
            let (nameSize, extraSize, commentSize) = (try table.little(2), try table.little(2), try table.little(2))
            _ = try table.take(8)
            place = try table.little(4)
            name = try table.text(nameSize)
            _ = try table.take(extraSize + commentSize)
        }

        func data(_ bytes: [UInt8]) throws -> Range<Int> {
            guard flags & 1 == 0 else { throw LOptMetaError("'\(name)' is encrypted") }
            guard method == 0 else {
                throw LOptMetaError("'\(name)' is compressed; save with numpy.savez, not numpy.savez_compressed")
            }
            guard place <= bytes.count else { throw LOptMetaError("the archive is damaged: '\(name)' lies at byte \(place)") }
            var local = ByteReader(bytes, place..<bytes.count)
            guard try local.little(4) == 0x0403_4b50 else {
                throw LOptMetaError("the archive is damaged: '\(name)' does not begin at byte \(place)")
            }
            _ = try local.take(22)
            let (nameSize, extraSize) = (try local.little(2), try local.little(2))
            _ = try local.take(nameSize + extraSize)
            let data = try local.take(size)
            let found = ZipMember.crc(bytes[data])
            guard found == crc else { throw LOptMetaError("the archive is damaged: the checksum of '\(name)' is not that of its bytes") }
            return data
        }

        /// CRC-32 of IEEE 802.3, reflected.
        private static func crc(_ bytes: ArraySlice<UInt8>) -> Int {
            var crc = ~UInt32(0)
            for byte in bytes { crc = crcTable[Int(UInt8(truncatingIfNeeded: crc) ^ byte)] ^ (crc >> 8) }
            return Int(~crc)
        }

        private static let crcTable: [UInt32] = (0..<256).map { byte in
            var crc = UInt32(byte)
            for _ in 0..<8 { crc = crc & 1 == 0 ? crc >> 1 : (crc >> 1) ^ 0xedb8_8320 }
            return crc
        }
    }

    /// One array: the magic, a version, a Python dictionary as text, the elements.
    private static func npyLeaf(_ name: String, _ bytes: [UInt8], _ range: Range<Int>) throws -> Leaf {
        var file = ByteReader(bytes, range)
        guard try bytes[file.take(6)].elementsEqual([0x93] + Array("NUMPY".utf8)) else {
            throw LOptMetaError("'\(name)' in the archive is no .npy file")
        }
        let major = try file.little(1)
        _ = try file.take(1)
        guard (1...3).contains(major) else { throw LOptMetaError("'\(name)' is of version \(major) of the .npy format; known are 1 to 3") }
        let header = try file.text(file.little(major == 1 ? 2 : 4))
        guard let order = header.firstMatch(of: /'fortran_order': *(True|False)/)?.1,
            let extents = header.firstMatch(of: /'shape': *\(([0-9, ]*)\)/)?.1
        else { throw LOptMetaError("'\(name)' has a header that is not that of an .npy file") }
        let descriptor = header.firstMatch(of: /'descr': *'([^']*)'/).map { String($0.1) } ?? "structured"
        guard !descriptor.hasSuffix("O") else {
            throw LOptMetaError("'\(name)' holds Python objects; save each array under a path of its own: numpy.savez(file, **leaves)")
        }
        guard let type = ArrayType(descriptor: descriptor) else {
            throw LOptMetaError("'\(name)' has elements of type \(descriptor); floating-point numbers are needed")
        }
        let shape = extents.split(separator: ",").compactMap { Int($0.filter { $0 != " " }) }
        return Leaf(
            name: name, type: type, shape: try checked(shape, name), isColumnMajor: order == "True", data: bytes[try file.take(file.left)])
    }

    /// A shape whose elements can be counted.
    static func checked(_ shape: [Int], _ name: String) throws -> [Int] {
        var count = 1
        for extent in shape {
            let (product, overflow) = count.multipliedReportingOverflow(by: extent)
            guard extent >= 0, !overflow, product <= maximumSize else { throw LOptMetaError("'\(name)' has the shape \(shape)") }
            count = product
        }
        return shape
    }
}
