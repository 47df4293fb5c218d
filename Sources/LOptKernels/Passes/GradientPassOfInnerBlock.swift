import CLOptShims

/// The gradient pass of a block of inner indices of one plane: for each of them a matrix of some rows and columns, side by side
/// in memory. The sums are of as many numbers as the block has columns or rows, each taken in the order of memory.
func gradientPassOfInnerBlock(_ t: lopt_tensor_view, _ chunk: lopt_chunk) -> Int32 {
    let inner = Int(t.inner), run = Int(t.run), middle = Int(t.middle), rows = Int(t.rows)
    let first = Int(chunk.inner0), count = Int(chunk.inner1) - first
    let leadPartial = t.lead_partial + Int(chunk.column_chunk) * Int(t.lead_count)
    let trailPartial = t.trail_partial + Int(chunk.row_chunk) * Int(t.trail_count)
    let magnitude = lopt_isplat(0x7fff_ffff)
    var largest = lopt_isplat(0)

    let plane = Int(chunk.plane0), outer = plane / middle, m = plane % middle
    for row in Int(chunk.row0)..<Int(chunk.row1) {
        let line = (outer * rows + row) * middle + m
        let lead = leadPartial + line * inner + first
        zero(lead, count)
        for column in Int(chunk.column0)..<Int(chunk.column1) {
            let gradient = Gradient(t, line * run + column * inner + first)
            let trail = trailPartial + plane * run + column * inner + first
            if row == Int(chunk.row0) { zero(trail, count) }
            forEachVectorOnce(count) { i, n in
                let g = gradient.vector(i, n)
                let q = g * g
                largest = lopt_imax(largest, lopt_iand(lopt_bits(g), magnitude))
                store(trail + i, load(trail + i, n) + q, n)
                store(lead + i, load(lead + i, n) + q, n)
            }
        }
    }
    return lopt_imax_lanes(largest)
}

@inline(never)
private func zero(_ sums: MutableFloats, _ count: Int) {
    forEachVectorOnce(count) { i, n in store(sums + i, lopt_splat(0), n) }
}
