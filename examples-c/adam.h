/* Adam (Kingma and Ba, ICLR 2015), the plain loop: what most C training codes have. With weight decay it is AdamW
 * (Loshchilov and Hutter, ICLR 2019): a step also takes lr * weight_decay of the parameter off. */
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
    double weight_decay;
} adam;

/* beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8, with bias correction. Returns false if there is no memory. */
bool adam_create(adam *opt, size_t size, double lr, double weight_decay);

/* One step; `lr_scale` multiplies the learning rate. */
void adam_step(adam *opt, float *params, const float *grads, double lr_scale);

void adam_destroy(adam *opt);

#endif
