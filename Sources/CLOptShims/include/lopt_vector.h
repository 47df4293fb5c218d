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

/* a * b + c, with one rounding where the target has the instruction and two where it has not: there a fused result would
 * cost a call of libm for each lane. */
LOPT_INLINE lopt_f32x16 lopt_fma(lopt_f32x16 a, lopt_f32x16 b, lopt_f32x16 c) {
#if defined(__FMA__) || defined(__aarch64__)
    return __builtin_elementwise_fma(a, b, c);
#else
    return a * b + c;
#endif
}

LOPT_INLINE lopt_f32x16 lopt_sqrt(lopt_f32x16 a) { return __builtin_elementwise_sqrt(a); }
LOPT_INLINE lopt_f32x16 lopt_rsqrt(lopt_f32x16 a) { return lopt_splat(1.0f) / __builtin_elementwise_sqrt(a); }

/* max and min as the x86 instructions have them: the second argument if either is NaN. */
LOPT_INLINE lopt_f32x16 lopt_max(lopt_f32x16 a, lopt_f32x16 b) { return a > b ? a : b; }
LOPT_INLINE lopt_f32x16 lopt_min(lopt_f32x16 a, lopt_f32x16 b) { return a < b ? a : b; }

LOPT_INLINE lopt_i32x16 lopt_bits(lopt_f32x16 a) { return (lopt_i32x16)a; }
LOPT_INLINE lopt_f32x16 lopt_from_bits(lopt_i32x16 a) { return (lopt_f32x16)a; }
LOPT_INLINE lopt_i32x16 lopt_isplat(int32_t x) { return (lopt_i32x16)(x); }
LOPT_INLINE lopt_i32x16 lopt_iadd(lopt_i32x16 a, lopt_i32x16 b) { return a + b; }
LOPT_INLINE lopt_i32x16 lopt_ishift_left23(lopt_i32x16 a) { return a << 23; }
LOPT_INLINE lopt_i32x16 lopt_iand(lopt_i32x16 a, lopt_i32x16 b) { return a & b; }
LOPT_INLINE lopt_i32x16 lopt_imax(lopt_i32x16 a, lopt_i32x16 b) { return __builtin_elementwise_max(a, b); }
LOPT_INLINE int32_t lopt_imax_lanes(lopt_i32x16 a) { return __builtin_reduce_max(a); }

/* The lanes of a that are finite, 0 in the others. */
LOPT_INLINE lopt_f32x16 lopt_finite(lopt_f32x16 a) {
    return lopt_from_bits(lopt_bits(a) & ((lopt_bits(a) & lopt_isplat(0x7fffffff)) < lopt_isplat(0x7f800000)));
}
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

/* The sum of the lanes, in one fixed order: halves onto halves. */
LOPT_INLINE float lopt_sum(lopt_f32x16 a) {
    typedef float f32x8 __attribute__((ext_vector_type(8)));
    typedef float f32x4 __attribute__((ext_vector_type(4)));
    f32x8 b = a.lo + a.hi;
    f32x4 c = b.lo + b.hi;
    return (c.x + c.z) + (c.y + c.w);
}

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
