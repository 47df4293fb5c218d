/* A text as numbers, one for each different character of it, and windows of it for a model to train on. */
#ifndef TEXT_H
#define TEXT_H

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gru.h"
#include "rng.h"

typedef struct text {
    int *character;          /* numbers below vocab                        */
    int size, vocab;         /* characters, and how many are different     */
    unsigned char byte[256]; /* of a number                                */
} text;

/* Reads all of the file and closes it. Returns NULL, or what is wrong; free t->character in the end. */
static inline const char *text_read(text *t, FILE *file) {
    size_t capacity = 1 << 16, size = 0, count;
    const size_t most = 1u << 30;
    unsigned char *bytes = malloc(capacity);
    memset(t, 0, sizeof *t);
    while (bytes && size <= most && (count = fread(bytes + size, 1, capacity - size, file)) > 0) {
        size += count;
        if (size < capacity) continue;
        unsigned char *more = realloc(bytes, capacity *= 2);
        if (!more) free(bytes);
        bytes = more;
    }
    const char *wrong = ferror(file) ? strerror(errno) : size > most ? "is larger than 1 GiB" : NULL;
    fclose(file);
    if (!wrong) t->character = malloc((size + 1) * sizeof(int));
    if (!wrong && (!bytes || !t->character)) wrong = "not enough memory";

    int number[256] = {0};
    for (size_t i = 0; i < size && !wrong; i++) number[bytes[i]] = 1;
    for (int b = 0; b < 256; b++)
        if (number[b]) number[b] = t->vocab, t->byte[t->vocab++] = (unsigned char)b;
    for (size_t i = 0; i < size && !wrong; i++) t->character[i] = number[bytes[i]];
    t->size = (int)size;
    free(bytes);
    return wrong;
}

/* Fills the pass with windows that start at random places of characters first ... end - 1, which follow from `seed`. */
static inline void text_draw(const text *t, gru_pass *pass, int first, int end, uint64_t seed) {
    for (int i = 0; i < pass->batch; i++) {
        const int *window = t->character + first + rng_below(&seed, end - first - pass->length);
        for (int k = 0; k < pass->length; k++) {
            pass->input[k * pass->batch + i] = window[k];
            pass->target[k * pass->batch + i] = window[k + 1];
        }
    }
}

#endif
