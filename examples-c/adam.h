/* Adam (Kingma and Ba, ICLR 2015), the plain loop: what most C training codes have. */
#ifndef ADAM_H
#define ADAM_H

#include <stdbool.h>
#include <stddef.h>

typedef struct adam {
    size_t size; /* number of parameters               */
    float *m;    /* moving average of the gradient     */
    float *v;    /* moving average of its square       */
    long step;   /* steps taken                        */
    double lr;
} adam;

/* beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8, with bias correction. Returns false if there is no memory. */
bool adam_create(adam *opt, size_t size, double lr);

/* One step; `lr_scale` multiplies the learning rate. */
void adam_step(adam *opt, float *params, const float *grads, double lr_scale);

void adam_destroy(adam *opt);

#endif
