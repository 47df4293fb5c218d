/* The command line of digits.c. */
#ifndef DIGITS_OPTIONS_H
#define DIGITS_OPTIONS_H

#include <stdbool.h>

#include "mlp.h"

typedef struct digits_options {
    const char *digits;  /* folder of the 8 x 8 digits, NULL: look in the usual places */
    const char *mnist;   /* folder of MNIST, NULL: train on the 8 x 8 digits           */
    const char *weights; /* lopt's weights, NULL: the built-in default                 */
    const char *csv;     /* where to write loss curves, or NULL                        */
    int steps, batch, seed, seeds, threads;
    double weight_decay; /* of lopt and of Adam */
    double learned_decay; /* lopt's learned_decay_scale */
    int hidden[MLP_MAX_LAYERS - 1], hidden_layers;
    bool cosine, bf16_momenta;
} digits_options;

/* Fills `options` from the command line, or ends the program: with 0 after --help, with 2 after a message on stderr. */
void digits_options_parse(int argc, char **argv, digits_options *options);

#endif
