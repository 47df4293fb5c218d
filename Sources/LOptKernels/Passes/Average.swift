import CLOptShims

/// a <- a + rate (p - a). Where that is not finite, p: an element that was NaN for a while does not stay so.
func updateAverage(_ parameter: Floats, _ average: MutableFloats, _ count: Int, _ rate: Float) {
    forEachVectorOnce(count) { i, n in
        let p = load(parameter + i, n), a = lopt_load(average + i), difference = p - a
        store(average + i, lopt_where_finite(difference, lopt_fma(difference, lopt_splat(rate), a), p), n)
    }
}
