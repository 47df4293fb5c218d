/* Sixteen f32 lanes as one value, for Swift.
 *
 * Swift's own SIMD16<Float> arithmetic is fine for + - * /, but its fused multiply-add falls apart into 128-bit pieces and
 * its square root into scalar libm calls. The clang builtins over an ext_vector_type compile to the instructions one would
 * write by hand on every target, and the type is imported as SIMD16<Float>. Everything here is inlined whole.
 *
 * Loads and stores take any alignment.
 */
#ifndef LOPT_VECTOR_H
#define LOPT_VECTOR_H

#include <stdint.h>

typedef float lopt_f32x16 __attribute__((ext_vector_type(16)));
typedef int32_t lopt_i32x16 __attribute__((ext_vector_type(16)));

#define LOPT_INLINE static inline __attribute__((always_inline))

typedef struct { lopt_f32x16 v; } __attribute__((packed, aligned(1), may_alias)) lopt_f32x16_unaligned;
typedef struct { float v; } __attribute__((packed, aligned(1), may_alias)) lopt_f32_unaligned;

LOPT_INLINE lopt_f32x16 lopt_load(const float *p) { return ((const lopt_f32x16_unaligned *)p)->v; }
LOPT_INLINE void lopt_store(float *p, lopt_f32x16 v) { ((lopt_f32x16_unaligned *)p)->v = v; }
LOPT_INLINE float lopt_load1(const float *p) { return ((const lopt_f32_unaligned *)p)->v; }
LOPT_INLINE void lopt_store1(float *p, float v) { ((lopt_f32_unaligned *)p)->v = v; }

/* Asks for the cache line of p in the second-level cache. Any address will do: one that is not mapped has no effect. */
LOPT_INLINE void lopt_prefetch(const float *p) { __builtin_prefetch(p, 0, 2); }

LOPT_INLINE lopt_f32x16 lopt_splat(float x) { return (lopt_f32x16)(x); }

/* What there is of 16 lanes and of 32 (below).
 *
 * lopt_fma: a * b + c, with one rounding where the target has the instruction and two where it has not: there a fused result
 * would cost a call of libm for each lane. lopt_max and lopt_min as the x86 instructions have them: the second argument if
 * either is NaN. lopt_finite: the lanes of a that are finite, 0 in the others. lopt_relu: max(x, 0), as an integer maximum of
 * the bits: one instruction, where a comparison with 0 becomes two. */
#if defined(__FMA__) || defined(__aarch64__)
#define LOPT_FMA(a, b, c) __builtin_elementwise_fma(a, b, c)
#else
#define LOPT_FMA(a, b, c) ((a) * (b) + (c))
#endif
#define LOPT_OVERLOADED static inline __attribute__((always_inline, overloadable))
#define LOPT_OPERATIONS(F, I) \
    LOPT_OVERLOADED F lopt_fma(F a, F b, F c) { return LOPT_FMA(a, b, c); } \
    LOPT_OVERLOADED F lopt_rsqrt(F a) { return (F)(1.0f) / __builtin_elementwise_sqrt(a); } \
    LOPT_OVERLOADED F lopt_max(F a, F b) { return a > b ? a : b; } \
    LOPT_OVERLOADED F lopt_min(F a, F b) { return a < b ? a : b; } \
    LOPT_OVERLOADED F lopt_relu(F a) { return (F)__builtin_elementwise_max((I)a, (I)(0)); } \
    LOPT_OVERLOADED F lopt_finite(F a) { return (F)((I)a & (((I)a & (I)(0x7fffffff)) < (I)(0x7f800000))); } \
    LOPT_OVERLOADED I lopt_bits(F a) { return (I)a; } \
    LOPT_OVERLOADED F lopt_from_bits(I a) { return (F)a; } \
    LOPT_OVERLOADED I lopt_iadd(I a, int32_t b) { return a + (I)(b); } \
    LOPT_OVERLOADED I lopt_ishift_left23(I a) { return a << 23; }
LOPT_OPERATIONS(lopt_f32x16, lopt_i32x16)

LOPT_INLINE lopt_i32x16 lopt_isplat(int32_t x) { return (lopt_i32x16)(x); }
LOPT_INLINE lopt_i32x16 lopt_iand(lopt_i32x16 a, lopt_i32x16 b) { return a & b; }
LOPT_INLINE lopt_i32x16 lopt_imax(lopt_i32x16 a, lopt_i32x16 b) { return __builtin_elementwise_max(a, b); }
LOPT_INLINE int32_t lopt_imax_lanes(lopt_i32x16 a) { return __builtin_reduce_max(a); }

/* 1 in the lanes of a that are not finite, 0 in the others. */
LOPT_INLINE lopt_f32x16 lopt_nonfinite_lanes(lopt_f32x16 a) {
    return lopt_from_bits(
        lopt_bits(lopt_splat(1)) & ((lopt_bits(a) & lopt_isplat(0x7fffffff)) >= lopt_isplat(0x7f800000)));
}
/* The lanes of a where `where` is finite, those of b in the others. */
LOPT_INLINE lopt_f32x16 lopt_where_finite(lopt_f32x16 where, lopt_f32x16 a, lopt_f32x16 b) {
    lopt_i32x16 mask = (lopt_bits(where) & lopt_isplat(0x7fffffff)) < lopt_isplat(0x7f800000);
    return lopt_from_bits((lopt_bits(a) & mask) | (lopt_bits(b) & ~mask));
}
/* The lanes of a where `where` is above 0, 0 in the others. */
LOPT_INLINE lopt_f32x16 lopt_positive(lopt_f32x16 a, lopt_f32x16 where) {
    return lopt_from_bits(lopt_bits(a) & (where > lopt_splat(0)));
}

/* The lanes 0 .. count - 1 of a, 0 in the others. */
LOPT_INLINE lopt_f32x16 lopt_first(lopt_f32x16 a, int32_t count) {
    const lopt_i32x16 lane = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    return lopt_from_bits(lopt_bits(a) & (lane < (lopt_i32x16)(count)));
}

/* The first `count` values at p, 0 in the lanes beyond; the lanes 0 .. count - 1 of a to p. No other memory is touched. */
#if defined(__AVX512F__)
LOPT_INLINE lopt_f32x16 lopt_load_first(const float *p, int32_t count) {
    return __builtin_ia32_loadups512_mask((const float *)p, lopt_splat(0), (uint16_t)((1u << count) - 1));
}
LOPT_INLINE void lopt_store_first(float *p, lopt_f32x16 a, int32_t count) {
    __builtin_ia32_storeups512_mask((float *)p, a, (uint16_t)((1u << count) - 1));
}
#elif defined(__AVX2__)
typedef float lopt_f32x8 __attribute__((ext_vector_type(8)));
typedef int32_t lopt_i32x8 __attribute__((ext_vector_type(8)));
LOPT_INLINE lopt_f32x16 lopt_load_first(const float *p, int32_t count) {
    const lopt_i32x8 lane = {0, 1, 2, 3, 4, 5, 6, 7};
    lopt_f32x16 a;
    a.lo = __builtin_ia32_maskloadps256((const lopt_f32x8 *)p, lane < (lopt_i32x8)(count));
    a.hi = __builtin_ia32_maskloadps256((const lopt_f32x8 *)(p + 8), lane < (lopt_i32x8)(count - 8));
    return a;
}
LOPT_INLINE void lopt_store_first(float *p, lopt_f32x16 a, int32_t count) {
    const lopt_i32x8 lane = {0, 1, 2, 3, 4, 5, 6, 7};
    __builtin_ia32_maskstoreps256((lopt_f32x8 *)p, lane < (lopt_i32x8)(count), a.lo);
    __builtin_ia32_maskstoreps256((lopt_f32x8 *)(p + 8), lane < (lopt_i32x8)(count - 8), a.hi);
}
#endif

/* The sum of the lanes, in one fixed order: halves onto halves. */
LOPT_INLINE float lopt_sum(lopt_f32x16 a) {
    typedef float f32x8 __attribute__((ext_vector_type(8)));
    typedef float f32x4 __attribute__((ext_vector_type(4)));
    f32x8 b = a.lo + a.hi;
    f32x4 c = b.lo + b.hi;
    return (c.x + c.z) + (c.y + c.w);
}

/* What a network works on at a time: enough sums for those of one to be under way while others wait for theirs. With AVX-512 two
 * times sixteen lanes, elsewhere sixteen. The two sixteens are loaded from two places. */
#if defined(__AVX512F__)
enum { LOPT_WIDE = 32 };
typedef float lopt_wide __attribute__((ext_vector_type(32)));
typedef int32_t lopt_wide_bits __attribute__((ext_vector_type(32)));
LOPT_OPERATIONS(lopt_wide, lopt_wide_bits)
LOPT_INLINE lopt_wide lopt_add(lopt_wide a, lopt_wide b) { return a + b; }
LOPT_INLINE lopt_wide lopt_multiply(lopt_wide a, lopt_wide b) { return a * b; }
LOPT_INLINE lopt_wide lopt_join(lopt_f32x16 low, lopt_f32x16 high) {
    return __builtin_shufflevector(low, high, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23,
                                   24, 25, 26, 27, 28, 29, 30, 31);
}
LOPT_INLINE lopt_f32x16 lopt_low(lopt_wide a) {
    return __builtin_shufflevector(a, a, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
}
LOPT_INLINE lopt_f32x16 lopt_high(lopt_wide a) {
    return __builtin_shufflevector(a, a, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31);
}
#else
enum { LOPT_WIDE = 16 };
typedef lopt_f32x16 lopt_wide;
LOPT_INLINE lopt_f32x16 lopt_low(lopt_wide a) { return a; }
#endif
LOPT_INLINE lopt_wide lopt_wide_splat(float x) { return (lopt_wide)(x); }

/* A part of the sixteen lanes: as many as let a loop with many sums keep them in registers. What is done part by part has the
 * bits of what is done with all lanes at a time. */
#if defined(__AVX512F__)
enum { LOPT_PART = 16 };
#else
enum { LOPT_PART = 8 };
#endif
typedef float lopt_part __attribute__((ext_vector_type(LOPT_PART)));
typedef struct { lopt_part v; } __attribute__((packed, aligned(1), may_alias)) lopt_part_unaligned;

LOPT_INLINE lopt_part lopt_part_load(const float *p) { return ((const lopt_part_unaligned *)p)->v; }
LOPT_INLINE void lopt_part_store(float *p, lopt_part v) { ((lopt_part_unaligned *)p)->v = v; }
LOPT_INLINE lopt_part lopt_part_splat(float x) { return (lopt_part)(x); }
LOPT_INLINE lopt_part lopt_part_fma(lopt_part a, lopt_part b, lopt_part c) {
#if defined(__FMA__) || defined(__aarch64__)
    return __builtin_elementwise_fma(a, b, c);
#else
    return a * b + c;
#endif
}
/* a * b - c */
LOPT_INLINE lopt_part lopt_part_fms(lopt_part a, lopt_part b, lopt_part c) { return lopt_part_fma(a, b, -c); }
LOPT_INLINE lopt_part lopt_part_abs(lopt_part a) { return __builtin_elementwise_abs(a); }
LOPT_INLINE lopt_part lopt_part_rsqrt(lopt_part a) { return lopt_part_splat(1.0f) / __builtin_elementwise_sqrt(a); }
/* a where `sign` is below or above 0, b elsewhere. */
LOPT_INLINE lopt_part lopt_part_where_negative(lopt_part sign, lopt_part a, lopt_part b) { return sign < lopt_part_splat(0) ? a : b; }
LOPT_INLINE lopt_part lopt_part_where_positive(lopt_part sign, lopt_part a, lopt_part b) { return sign > lopt_part_splat(0) ? a : b; }

/* ---- bf16, the upper half of a binary32 -------------------------------------------------------------------------------- */

typedef uint32_t lopt_upart __attribute__((ext_vector_type(LOPT_PART)));
typedef uint16_t lopt_halves __attribute__((ext_vector_type(LOPT_PART)));
typedef int16_t lopt_signed_halves __attribute__((ext_vector_type(LOPT_PART)));
typedef struct { lopt_halves v; } __attribute__((packed, aligned(1), may_alias)) lopt_halves_unaligned;
typedef struct { lopt_signed_halves v; } __attribute__((packed, aligned(1), may_alias)) lopt_signed_halves_unaligned;

LOPT_INLINE lopt_part lopt_part_load_bf16(const void *p) {
    return (lopt_part)(__builtin_convertvector(((const lopt_halves_unaligned *)p)->v, lopt_upart) << 16);
}
/* Of numbers that bf16 has. Signed, as the instructions of SSE2 that make halves of words are. */
LOPT_INLINE void lopt_part_store_bf16(void *p, lopt_part a) {
    typedef int32_t words __attribute__((ext_vector_type(LOPT_PART)));
    ((lopt_signed_halves_unaligned *)p)->v = __builtin_convertvector((words)a >> 16, lopt_signed_halves);
}
/* One of the two bf16 numbers around a, the one farther from 0 if the lower half of a and `noise`, below 2^16, make 2^16. */
LOPT_INLINE lopt_part lopt_part_bf16(lopt_part a, lopt_upart noise) {
    return (lopt_part)(((lopt_upart)a + noise) & (lopt_upart)(0xffff0000u));
}

/* 32 bits of noise for each of the elements from `element` on, the same for the same `key`. Either half is uniform over the keys and
 * independent of the other, and so nearly are those of two elements (docs/update-rule.md). */
LOPT_INLINE lopt_upart lopt_part_noise(uint32_t key, uint32_t element) {
    const uint32_t step = 0x9e3779b1u;
#if defined(__AVX512F__)
    const lopt_upart lane = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
#else
    const lopt_upart lane = {0, 1, 2, 3, 4, 5, 6, 7};
#endif
    lopt_upart x = lane * step + (lopt_upart)(element * step + key);
    x = (x ^ x >> 14) * 0xc2b2ae35u;
    return x ^ x >> 16;
}
LOPT_INLINE lopt_upart lopt_part_low_half(lopt_upart noise) { return noise & (lopt_upart)(0xffffu); }
LOPT_INLINE lopt_upart lopt_part_high_half(lopt_upart noise) { return noise >> 16; }

#endif
