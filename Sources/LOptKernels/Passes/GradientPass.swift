import CLOptShims

/// The largest bit pattern of |g|. Infinities and NaN lie above every finite number, so one comparison finds them all, and
/// the maximum does not depend on any order. Also the sum of g^2.
func largestMagnitude(_ t: lopt_tensor_view, _ begin: Int, _ end: Int, _ squares: inout Double) -> Int32 {
    var largest = lopt_isplat(0)
    var offset = begin
    squares = 0
    while offset < end {
        let count = min(4 * LOPT_TILE, end - offset)
        // A factor of 1 is left out: this pass has hardly more to do than to read.
        if t.gradient_scale == 1 {
            look(t.gradient + offset, count, &largest, &squares) { $0 }
        } else {
            let scale = lopt_splat(t.gradient_scale)
            look(t.gradient + offset, count, &largest, &squares) { $0 * scale }
        }
        offset += count
    }
    return lopt_imax_lanes(largest)
}

/// Four sums, each of which waits for its own addition alone.
@inline(__always)
private func look(
    _ gradient: Floats, _ count: Int, _ largest: inout SIMD16<Int32>, _ squares: inout Double, _ scaled: (Vector) -> Vector
) {
    let magnitude = lopt_isplat(0x7fff_ffff)
    var sums = (lopt_splat(0), lopt_splat(0), lopt_splat(0), lopt_splat(0))
    @inline(__always) func take(_ g: Vector, _ sum: inout Vector) {
        largest = lopt_imax(largest, lopt_iand(lopt_bits(g), magnitude))
        sum = lopt_fma(g, g, sum)
    }
    var i = 0
    while i + 4 * lanes <= count {
        take(scaled(lopt_load(gradient + i)), &sums.0)
        take(scaled(lopt_load(gradient + (i + lanes))), &sums.1)
        take(scaled(lopt_load(gradient + (i + 2 * lanes))), &sums.2)
        take(scaled(lopt_load(gradient + (i + 3 * lanes))), &sums.3)
        i += 4 * lanes
    }
    while i < count {
        take(scaled(load(gradient + i, min(lanes, count - i))), &sums.0)
        i += lanes
    }
    squares += Double(lopt_sum((sums.0 + sums.1) + (sums.2 + sums.3)))
}

/// The gradient pass: the sums of g^2 over the rows and over the columns of a chunk, into the tensor's partial sums, and the largest
/// |g|. Writes no state, so that the step can still be called off.
func gradientPass(_ t: lopt_tensor_view, _ chunk: lopt_chunk, _ scratch: MutableFloats) -> Int32 {
    if chunk.inner1 > 0 { return gradientPassOfInnerBlock(t, chunk) }
    let inner = Int(t.inner), run = Int(t.run), middle = Int(t.middle), rows = Int(t.rows)
    let column0 = Int(chunk.column0), width = Int(chunk.column1 - chunk.column0)
    let leadPartial = t.lead_partial + Int(chunk.column_chunk) * Int(t.lead_count)
    let trailPartial = t.trail_partial + Int(chunk.row_chunk) * Int(t.trail_count)
    var largest: Int32 = 0

    for plane in Int(chunk.plane0)..<Int(chunk.plane1) {
        let outer = plane / middle, m = plane % middle
        let trail = trailPartial + plane * run + column0
        for x in 0..<width { trail[x] = 0 }
        for row in Int(chunk.row0)..<Int(chunk.row1) {
            let line = (outer * rows + row) * middle + m
            let gradient = Gradient(t, line * run + column0)
            if inner == 1 {
                let (sum, magnitude) = addRow(gradient, trail, width)
                leadPartial[line] = sum
                largest = max(largest, magnitude)
            } else {
                let lead = leadPartial + line * inner
                largest = max(largest, addRow(gradient, trail, width, inner, column0, lead, scratch))
            }
        }
    }
    return largest
}

/// One run with inner = 1: adds g^2 to the trailing sums, returns their sum and the largest |g|.
@inline(__always)
private func addRow(_ gradient: Gradient, _ trail: MutableFloats, _ width: Int) -> (Float, Int32) {
    let magnitude = lopt_isplat(0x7fff_ffff)
    var sum = lopt_splat(0)
    var largest = lopt_isplat(0)
    forEachVector(width) { i, n in
        let g = gradient.vector(i, n)
        let q = g * g
        largest = lopt_imax(largest, lopt_iand(lopt_bits(g), magnitude))
        store(trail + i, load(trail + i, n) + q, n)
        sum += q
    }
    return (lopt_sum(sum), lopt_imax_lanes(largest))
}

/// One run with inner > 1: element x belongs to the leading statistic x mod inner. Vectors whose first elements agree
/// modulo inner share an accumulator; there are inner / gcd(inner, 16) of them, spread over the statistics at the end.
@inline(__always)
private func addRow(
    _ gradient: Gradient, _ trail: MutableFloats, _ width: Int, _ inner: Int, _ column0: Int, _ lead: MutableFloats,
    _ accumulators: MutableFloats
) -> Int32 {
    let magnitude = lopt_isplat(0x7fff_ffff)
    var largest = lopt_isplat(0)
    let period = min(inner / greatestPowerOfTwo(inner), (width + lanes - 1) / lanes)
    for i in 0..<period { lopt_store(accumulators + i * lanes, lopt_splat(0)) }
    var turn = 0
    forEachVectorOnce(width) { i, n in
        let g = gradient.vector(i, n)
        let q = g * g
        largest = lopt_imax(largest, lopt_iand(lopt_bits(g), magnitude))
        store(trail + i, load(trail + i, n) + q, n)
        let accumulator = accumulators + turn * lanes
        lopt_store(accumulator, lopt_load(accumulator) + q)
        turn += 1
        if turn == period { turn = 0 }
    }
    for i in 0..<inner { lead[i] = 0 }
    var k = column0 % inner
    for i in 0..<(period * lanes) {
        lead[k] += accumulators[i]
        k += 1
        if k == inner { k = 0 }
    }
    return lopt_imax_lanes(largest)
}

/// gcd(n, 16).
@inline(__always)
private func greatestPowerOfTwo(_ n: Int) -> Int {
    min(n & -n, lanes)
}
