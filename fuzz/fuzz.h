/* What the fuzz targets share: promises that end the process when they are broken, an allocator that keeps count, and the
 * optimizer that checkpoints are read into. */
#ifndef LOPT_FUZZ_H
#define LOPT_FUZZ_H

#include <lopt.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A broken promise is a crash, which the fuzzer keeps the input of. */
#define PROMISE(condition) \
    do { \
        if (!(condition)) { \
            fprintf(stderr, "%s:%d: broken: %s (last error: %s)\n", __FILE__, __LINE__, #condition, lopt_last_error()); \
            abort(); \
        } \
    } while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Counts what is out; refuses the allocation number `fail_at` (from 1; 0: none) and what is beyond `limit`. */
typedef struct fuzz_books {
    size_t live, bytes, most, limit;
    long made, fail_at;
    int refused;
} fuzz_books;

static inline void *fuzz_allocate(void *context, size_t size, size_t alignment) {
    fuzz_books *b = context;
    void *pointer = NULL;
    b->made++;
    if (b->made == b->fail_at || size > b->limit - b->bytes ||
        posix_memalign(&pointer, alignment < sizeof(void *) ? sizeof(void *) : alignment, size) != 0) {
        b->refused = 1;
        return NULL;
    }
    memset(pointer, 0xa5, size);
    b->live++, b->bytes += size;
    if (b->bytes > b->most) b->most = b->bytes;
    return pointer;
}

static inline void fuzz_deallocate(void *context, void *pointer, size_t size) {
    fuzz_books *b = context;
    PROMISE(b->live > 0 && b->bytes >= size);
    b->live--, b->bytes -= size;
    free(pointer);
}

static inline lopt_allocator fuzz_allocator(fuzz_books *b) {
    return (lopt_allocator){fuzz_allocate, fuzz_deallocate, b};
}

static inline int fuzz_is_status(lopt_status status) {
    return status <= LOPT_SKIPPED_NONFINITE && status >= LOPT_ERROR_NONFINITE;
}

/* One line of at most 255 bytes, and not empty. */
static inline void fuzz_check_message(void) {
    const char *text = lopt_last_error();
    PROMISE(text && text[0] && strlen(text) <= 255 && !strchr(text, '\n'));
}

/* ---- A small problem ---------------------------------------------------------------------------------------------- */

enum { FUZZ_ELEMENTS = 10 };

typedef struct fuzz_problem {
    lopt_optimizer *opt;
    float parameters[FUZZ_ELEMENTS], gradients[FUZZ_ELEMENTS];
} fuzz_problem;

/* A matrix, a vector and a number; NULL weights are the built-in ones. */
static inline void fuzz_start(fuzz_problem *p, const lopt_weights *weights, const lopt_allocator *allocator, int32_t momentum_type) {
    static const int64_t matrix[] = {2, 3}, vector[] = {3};
    lopt_options options;
    PROMISE(lopt_options_init(&options, sizeof options) == LOPT_OK);
    options.threads = 1;
    options.momentum_type = momentum_type;
    if (allocator) options.allocator = *allocator;
    for (int i = 0; i < FUZZ_ELEMENTS; i++) p->parameters[i] = 0.1f * (float)(i - 4), p->gradients[i] = 0.03f * (float)(i - 5);
    PROMISE(lopt_create(weights, &options, &p->opt) == LOPT_OK);
    PROMISE(lopt_add_tensor(p->opt, "a", p->parameters, p->gradients, matrix, 2, NULL) == LOPT_OK);
    PROMISE(lopt_add_tensor(p->opt, "b", p->parameters + 6, p->gradients + 6, vector, 1, NULL) == LOPT_OK);
    PROMISE(lopt_add_tensor(p->opt, "c", p->parameters + 9, p->gradients + 9, NULL, 0, NULL) == LOPT_OK);
}

/* All that an optimizer holds; the caller frees it. */
static inline void *fuzz_state(const lopt_optimizer *opt, uint32_t contents, size_t *size) {
    PROMISE(lopt_state_size(opt, contents, size) == LOPT_OK);
    void *bytes = malloc(*size);
    PROMISE(bytes && lopt_state_write(opt, contents, bytes, *size) == LOPT_OK);
    return bytes;
}

#endif
