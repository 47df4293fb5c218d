/* AdamW with decoupled weight decay and bias correction, fused: one pass over p, g, m and v. Compiled once for each
 * instruction set; ADAMW is the name of the function. */
#include "bench.h"
#include <math.h>

void ADAMW(const adamw_constants *c, float *restrict p, const float *restrict g, float *restrict m, float *restrict v,
           int64_t count) {
    const adamw_constants k = *c;
    for (int64_t i = 0; i < count; i++) {
        m[i] = k.beta1 * m[i] + k.one_minus_beta1 * g[i];
        v[i] = k.beta2 * v[i] + k.one_minus_beta2 * (g[i] * g[i]);
        p[i] = k.keep * p[i] - k.step * m[i] / (sqrtf(v[i]) * k.root_correction + k.epsilon);
    }
}
