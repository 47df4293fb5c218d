/* Elements of a caller's tensors that are not f32, as f32 and back, rounded to nearest with ties to even. Scalar and by bits: the
 * processor's own conversions are not on every x86-64, and denormal f16 numbers are to count although denormal f32 do not.
 * Types are those of lopt_element; any alignment. */
#ifndef LOPT_ELEMENTS_H
#define LOPT_ELEMENTS_H

#include <stdint.h>
#include <string.h>

enum { LOPT_TYPE_F32 = 0, LOPT_TYPE_F64 = 1, LOPT_TYPE_BF16 = 2, LOPT_TYPE_F16 = 3 };

static inline uint32_t lopt_bits_of(float x) {
    uint32_t bits;
    memcpy(&bits, &x, 4);
    return bits;
}
static inline float lopt_of_bits(uint32_t bits) {
    float x;
    memcpy(&x, &bits, 4);
    return x;
}

static inline float lopt_of_f16(uint32_t half) {
    const uint32_t sign = (half & 0x8000u) << 16, size = half & 0x7fffu;
    if (size < 0x400u) return lopt_of_bits(sign | lopt_bits_of((float)size * 0x1p-24f));
    return lopt_of_bits(sign | ((size << 13) + (size < 0x7c00u ? 112u << 23 : 224u << 23)));
}

static inline uint32_t lopt_to_f16(float x) {
    const uint32_t bits = lopt_bits_of(x), sign = bits >> 16 & 0x8000u, size = bits & 0x7fffffffu;
    if (size > 0x7f800000u) return sign | 0x7e00u;
    if (size >= 0x477ff000u) return sign | 0x7c00u;
    /* Below 2^-14 f16 has multiples of 2^-24; adding 2^23 rounds to them. */
    if (size < 0x38800000u) return sign | (lopt_bits_of(lopt_of_bits(size) * 0x1p24f + 0x1p23f) - lopt_bits_of(0x1p23f));
    return sign | ((size + 0xfffu + (size >> 13 & 1u) - (112u << 23)) >> 13);
}

static inline uint32_t lopt_to_bf16(float x) {
    const uint32_t bits = lopt_bits_of(x);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return bits >> 16 | 0x40u;
    return (bits + 0x7fffu + (bits >> 16 & 1u)) >> 16;
}

static inline float lopt_element_load(const void *elements, long i, int type) {
    double wide;
    uint16_t half;
    float x;
    switch (type) {
    case LOPT_TYPE_F64: memcpy(&wide, (const char *)elements + 8 * i, 8); return (float)wide;
    case LOPT_TYPE_BF16: memcpy(&half, (const char *)elements + 2 * i, 2); return lopt_of_bits((uint32_t)half << 16);
    case LOPT_TYPE_F16: memcpy(&half, (const char *)elements + 2 * i, 2); return lopt_of_f16(half);
    default: memcpy(&x, (const char *)elements + 4 * i, 4); return x;
    }
}

/* What an element would be after a store and a load: whether two are the same for the type. */
static inline float lopt_element_rounded(float x, int type) {
    switch (type) {
    case LOPT_TYPE_BF16: return lopt_of_bits(lopt_to_bf16(x) << 16);
    case LOPT_TYPE_F16: return lopt_of_f16(lopt_to_f16(x));
    default: return x;
    }
}

static inline void lopt_element_store(void *elements, long i, int type, float x) {
    const double wide = x;
    const uint16_t half = (uint16_t)(type == LOPT_TYPE_BF16 ? lopt_to_bf16(x) : lopt_to_f16(x));
    switch (type) {
    case LOPT_TYPE_F64: memcpy((char *)elements + 8 * i, &wide, 8); break;
    case LOPT_TYPE_F32: memcpy((char *)elements + 4 * i, &x, 4); break;
    default: memcpy((char *)elements + 2 * i, &half, 2); break;
    }
}

#endif
