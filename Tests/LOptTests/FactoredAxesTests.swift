import Testing

@testable import LOptCore

@Suite struct FactoredAxesTests {
    private func axes(_ shape: [Int]) -> (d1: Int, d0: Int)? {
        shape.map { Int64($0) }.withUnsafeBufferPointer { factoredAxes(shape: $0) }
    }

    @Test(arguments: [[], [1], [7], [0]])
    func `ranks below two are not factored`(shape: [Int]) {
        #expect(axes(shape) == nil)
    }

    @Test(arguments: [
        ([5, 3], 1, 0), ([3, 5], 0, 1), ([4, 4], 0, 1), ([2, 3, 4], 1, 2), ([3, 3, 8, 16], 2, 3),
        ([16, 8, 3, 3], 1, 0), ([4, 2, 4], 0, 2), ([4, 4, 2], 0, 1), ([4, 4, 4], 1, 2), ([8, 8, 1, 1], 0, 1),
        ([1, 1, 8, 8, 1, 1, 8, 1], 3, 6),
    ])
    func `the two largest extents are factored, and the later of equal ones`(shape: [Int], d1: Int, d0: Int) throws {
        let found = try #require(axes(shape))
        #expect(found == (d1, d0))
    }

    /// All shapes of rank 2 to 5 with extents of 0 to 3: every order and every tie.
    @Test(arguments: 2...5)
    func `a stable ascending argsort gives the same axes`(rank: Int) throws {
        var shape = [Int](repeating: 0, count: rank)
        while true {
            let sorted = shape.indices.sorted { (shape[$0], $0) < (shape[$1], $1) }
            let found = try #require(axes(shape))
            #expect(found == (sorted[rank - 2], sorted[rank - 1]), "\(shape)")
            guard let axis = shape.lastIndex(where: { $0 < 3 }) else { break }
            shape[axis] += 1
            for later in shape.indices where later > axis { shape[later] = 0 }
        }
    }

    /// The authors' own axes, but for the one tensor which an unstable sort treated differently.
    @Test func `golden tensors have the axes of the manifest`() throws {
        var unstable: [String] = []
        for inputs in try GoldenManifest.read().inputs.values {
            for (name, tensor) in inputs.tensors {
                let found = axes(tensor.shape).map { [$0.d1, $0.d0] }
                #expect(found == tensor.stable_argsort_d1_d0, "\(name)")
                if found != tensor.factored_dims_d1_d0 { unstable.append(name) }
            }
        }
        #expect(unstable == ["u10_8x8x1x1"])
    }
}
