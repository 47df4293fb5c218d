#include "adam.h"

#include <math.h>
#include <stdlib.h>

bool adam_create(adam *opt, size_t size, double lr, double weight_decay) {
    opt->size = size;
    opt->m = calloc(size, sizeof(float));
    opt->v = calloc(size, sizeof(float));
    opt->step = 0;
    opt->lr = lr;
    opt->weight_decay = weight_decay;
    if (opt->m && opt->v) return true;
    adam_destroy(opt);
    return false;
}

void adam_step(adam *opt, float *restrict params, const float *restrict grads, double lr_scale) {
    float *restrict m = opt->m, *restrict v = opt->v;
    opt->step++;
    /* m / (1 - beta1^t) and v / (1 - beta2^t), with the two divisions moved out of the loop. */
    float lr = (float)(lr_scale * opt->lr / (1 - pow(0.9, (double)opt->step)));
    float keep = (float)(1 - lr_scale * opt->lr * opt->weight_decay);
    float correction = (float)(1 / sqrt(1 - pow(0.999, (double)opt->step)));
    for (size_t i = 0; i < opt->size; i++) {
        float g = grads[i];
        m[i] = 0.9f * m[i] + 0.1f * g;
        v[i] = 0.999f * v[i] + 0.001f * g * g;
        params[i] = keep * params[i] - lr * m[i] / (correction * sqrtf(v[i]) + 1e-8f);
    }
}

void adam_destroy(adam *opt) {
    free(opt->m);
    free(opt->v);
    opt->m = opt->v = NULL;
}
