/* The rungs of ladder.c: a step of kind pooled, of given size, with the sums that it leaves for the next one. */
#ifndef LADDER_H
#define LADDER_H

#include <stdint.h>

enum { RUNG_SUMS = 10, RUNG_TILE = 512, RUNG_LANES = 16 };

typedef struct rung_step {
    float rms_beta, rms_rate, beta[2], rate[2], epsilon, mix[2], gradient, scale, apart, keep, idle;
} rung_step;

/* `m` has two planes, `plane` apart; `count` is a multiple of 16. Adds to `sums`: v > 0, p^2 of those, p^2 before, u^2, h^2, |h|,
 * a_k^2, h a_k. */
typedef void (*rung)(const rung_step *s, const float *g, float *p, float *v, float *m, int64_t plane, int64_t count, double *sums);

#define RUNGS(isa) \
    void rung_elements_##isa(const rung_step *, const float *, float *, float *, float *, int64_t, int64_t, double *); \
    void rung_vectors_##isa(const rung_step *, const float *, float *, float *, float *, int64_t, int64_t, double *); \
    void rung_tiles_##isa(const rung_step *, const float *, float *, float *, float *, int64_t, int64_t, double *); \
    void rung_ahead_##isa(const rung_step *, const float *, float *, float *, float *, int64_t, int64_t, double *);
RUNGS(baseline)
RUNGS(avx2)
RUNGS(avx512)

#endif
