/// Which two axes of a tensor of rank 2 and more the factored accumulators keep: `d0` is the axis of the largest extent,
/// `d1` that of the second largest. "Rows" lack axis d0, "columns" lack axis d1; every other axis is a batch axis, in
/// both. nil for rank 0 and 1, which are not factored.
///
/// The rule is (d1, d0) = argsort(shape)[-2], argsort(shape)[-1] with a stable ascending sort, so of equal extents the
/// later axis counts as the larger: (4, 4) gives (0, 1) and (8, 8, 1, 1) gives (0, 1). The authors call numpy's default
/// sort, which is unstable for rank >= 4 on some processors; this project fixes the order.
///
/// The extents are those of the caller's tensor in row-major order, each >= 0.
public func factoredAxes(shape: UnsafeBufferPointer<Int64>) -> (d1: Int, d0: Int)? {
    guard shape.count >= 2 else { return nil }
    var (d1, d0) = shape[1] >= shape[0] ? (0, 1) : (1, 0)
    for axis in 2..<shape.count {
        if shape[axis] >= shape[d0] {
            (d1, d0) = (d0, axis)
        } else if shape[axis] >= shape[d1] {
            d1 = axis
        }
    }
    return (d1, d0)
}
