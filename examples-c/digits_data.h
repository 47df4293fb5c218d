/* Images of digits from IDX files (the format of MNIST). */
#ifndef DIGITS_DATA_H
#define DIGITS_DATA_H

#include <stdbool.h>
#include <stdint.h>

typedef struct dataset {
    int count;             /* images                                           */
    int pixels;            /* of one image                                     */
    float scale;           /* multiplies a pixel, so that inputs are in [0, 1] */
    unsigned char *images; /* count x pixels                                   */
    unsigned char *labels; /* count, each 0 to 9                               */
} dataset;

/* These return false after a message on stderr. */

/* The 8 x 8 digits in `folder`. There is one set of 1,797; digits_split makes two. */
bool digits_load(const char *folder, dataset *all);

/* MNIST, uncompressed, in `folder`. */
bool mnist_load(const char *folder, dataset *train, dataset *test);

/* A seeded random fifth of `all` becomes `test`, the rest `train`. */
bool digits_split(const dataset *all, uint64_t seed, dataset *train, dataset *test);

void dataset_free(dataset *data);

#endif
