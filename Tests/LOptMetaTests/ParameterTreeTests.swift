import Foundation
import Testing

@testable import LOptMeta

/// Reading of .npz, safetensors and flax's checkpoints: what is in them comes out, and no file does harm.
@Suite struct ParameterTreeTests {
    @Test func `numpy's archive and flax's checkpoint of one tree have the same leaves`() throws {
        let archive = try ParameterTree(contentsOf: Trees.url("star.npz")).leaves
        let checkpoint = try ParameterTree(contentsOf: Trees.url("star.checkpoint")).leaves
        #expect(archive.count == 9)
        for leaf in archive {
            let other = try #require(checkpoint.first { $0.name == "params/\(leaf.name)" })
            #expect(other.shape == leaf.shape)
            #expect(try other.values() == leaf.values())
        }
        let w0 = try #require(archive.first { $0.name == "nn/~/w0" })
        #expect(w0.shape == [39, 4])
        #expect(try w0.values().contains { $0 != 0 })
    }

    /// A pattern of bits of each type and its value.
    static let elements: [(descriptor: String, bytes: [UInt8], value: Double)] = [
        ("<f4", [0, 0, 0xa0, 0xc0], -5), (">f4", [0xc0, 0xa0, 0, 0], -5), ("<f8", [0, 0, 0, 0, 0, 0, 0xf8, 0x3f], 1.5),
        ("<f2", [0, 0x3e], 1.5), ("<f2", [1, 0], 0x1p-24), ("<f2", [0, 0xfc], -.infinity),
    ]

    @Test(arguments: elements)
    func `elements are read in every floating-point type`(descriptor: String, bytes: [UInt8], value: Double) throws {
        let member = Trees.NPY("a", "{'descr': '\(descriptor)', 'fortran_order': False, 'shape': (1,), }", bytes)
        let leaf = try #require(try ParameterTree.leaves(of: Trees.archive([member])).first)
        #expect(try leaf.values() == [value])
    }

    @Test func `arrays in Fortran's order are put into that of C`() throws {
        var member = Trees.NPY(Trees.leaf("a", [2, 3]) { Float($0) })
        member.header = member.header.replacing("False", with: "True")
        let leaf = try #require(try ParameterTree.leaves(of: Trees.archive([member])).first)
        #expect(try leaf.values() == [0, 2, 4, 1, 3, 5])
    }

    @Test func `what is not read is named, with what to do`() {
        let member = Trees.NPY(Trees.leaf("a", [2]))
        func changed(_ header: String, _ data: [UInt8]) -> [UInt8] { Trees.archive([Trees.NPY("a", header, data)]) }
        let head = "{'descr': '<f4', 'fortran_order': False, 'shape': "
        let cases: [(bytes: [UInt8], line: String)] = [
            ([], "neither .npz nor safetensors nor a checkpoint of flax"),
            (Array("nonsense".utf8), "neither .npz nor safetensors nor a checkpoint of flax"),
            ([0x80, 4, 0x95, 0], "a pickle, which can hold code and is not read"),
            (member.bytes, "one array (.npy) is no tree"),
            (Trees.archive([member], method: 8), "'a.npy' is compressed; save with numpy.savez, not numpy.savez_compressed"),
            (Trees.archive([member], flags: 1), "'a.npy' is encrypted"),
            (Trees.archive([member, member]), "two leaves have the path 'a'"),
            (changed("{'descr': '|O', 'fortran_order': False, 'shape': (), }", [0x80, 4]), "'a' holds Python objects"),
            (changed(head + "(3,), }", Array(member.data)), "'a' has 8 bytes; [3] of float32 has 12"),
            (changed(head + "(4611686018427387904, 4), }", []), "'a' has the shape"),
            (changed("{}", []), "'a' has a header that is not that of an .npy file"),
        ]
        for (bytes, line) in cases {
            let found = failure { _ = try ParameterTree.leaves(of: bytes) }
            #expect(found.contains(line), "'\(found)' in place of '\(line)'")
        }
        let integers = changed("{'descr': '<i8', 'fortran_order': False, 'shape': (1,), }", [1, 0, 0, 0, 0, 0, 0, 0])
        #expect(failure { _ = try ParameterTree.leaves(of: integers).first?.values() } == "'a' is int64; floating-point numbers are needed")
    }

    @Test(arguments: ["star.npz", "star.checkpoint"])
    func `a file that is cut anywhere is refused`(name: String) throws {
        let whole = Array(try Data(contentsOf: Trees.url(name)))
        for count in 0..<whole.count {
            let found = failure { _ = try ParameterTree.leaves(of: Array(whole.prefix(count))) }
            #expect(!found.isEmpty, "\(count) of \(whole.count) bytes are read as a tree")
        }
    }

    /// An archive has checksums: what is read has the numbers of the whole file, if perhaps other names.
    @Test func `a damaged byte of an archive changes no number`() throws {
        let whole = Array(try Data(contentsOf: Trees.url("star.npz")))
        let numbers = try ParameterTree.leaves(of: whole).map { try $0.values() }
        var refused = 0
        for place in whole.indices {
            var bytes = whole
            bytes[place] ^= 1 << (place % 8)
            do {
                let found = try ParameterTree.leaves(of: bytes).map { try $0.values() }
                #expect(found == numbers, "byte \(place) is changed")
            } catch {
                refused += 1
            }
        }
        #expect(refused > whole.count / 2)
    }

    /// A checkpoint has none: another number is what can be expected of it, but no harm.
    @Test func `a damaged byte of a checkpoint is an error or another number`() throws {
        let whole = Array(try Data(contentsOf: Trees.url("star.checkpoint")))
        var refused = 0
        for place in whole.indices {
            for change in UInt8(1)...8 {
                var bytes = whole
                bytes[place] ^= 1 << (change - 1)
                if !failure({ for leaf in try ParameterTree.leaves(of: bytes) { _ = try leaf.values() } }).isEmpty { refused += 1 }
            }
        }
        #expect(refused > 500)
    }
}
