/* Seeded random numbers, the same on every machine: splitmix64 (Steele, Lea and Flood, "Fast splittable pseudorandom
 * number generators", OOPSLA 2014). The state is any 64-bit number. */
#ifndef RNG_H
#define RNG_H

#include <stdint.h>

static inline uint64_t rng_bits(uint64_t *state) {
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

/* Uniform in [0, 1), a multiple of 2^-24. */
static inline float rng_uniform(uint64_t *state) { return (float)(rng_bits(state) >> 40) * 0x1p-24f; }

/* Uniform in 0 ... limit - 1. The bias, below limit / 2^64, is of no concern here. */
static inline int rng_below(uint64_t *state, int limit) { return (int)(rng_bits(state) % (uint64_t)limit); }

#endif
