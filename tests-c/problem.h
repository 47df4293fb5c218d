/* Tensors to train: a few shapes, a quadratic loss with known gradients, and snapshots of what an optimizer holds. */
#ifndef LOPT_PROBLEM_H
#define LOPT_PROBLEM_H

#include "check.h"

enum { PROBLEM_MOST = 16 };

typedef struct problem_tensor {
    const char *name;
    int32_t rank;
    int64_t shape[8];
    int64_t elements;
    float *parameter, *gradient;
} problem_tensor;

typedef struct problem {
    int count;
    problem_tensor tensors[PROBLEM_MOST];
} problem;

/* A number in [-1, 1) that depends on the seed and the index alone. */
static inline float problem_random(uint64_t seed, uint64_t index) {
    uint64_t x = seed * 0x9e3779b97f4a7c15u + index * 0xbf58476d1ce4e5b9u + 0x94d049bb133111ebu;
    x ^= x >> 30, x *= 0xbf58476d1ce4e5b9u;
    x ^= x >> 27, x *= 0x94d049bb133111ebu;
    x ^= x >> 31;
    return (float)((int32_t)(x >> 40) - (1 << 23)) / (float)(1 << 23);
}

static inline int problem_add(problem *p, const char *name, int32_t rank, const int64_t *shape) {
    problem_tensor *t = &p->tensors[p->count];
    t->name = name;
    t->rank = rank;
    t->elements = 1;
    for (int32_t axis = 0; axis < rank; axis++) t->shape[axis] = shape[axis], t->elements *= shape[axis];
    t->parameter = check_memory(4 * (size_t)t->elements);
    t->gradient = check_memory(4 * (size_t)t->elements);
    return p->count++;
}

/* Where element j of tensor i starts: at a number of its own. */
static inline float problem_start_value(int i, int64_t j) { return 0.5f * problem_random((uint64_t)i + 1, (uint64_t)j); }

static inline void problem_start(problem *p) {
    for (int i = 0; i < p->count; i++) {
        problem_tensor *t = &p->tensors[i];
        for (int64_t j = 0; j < t->elements; j++) t->parameter[j] = problem_start_value(i, j);
    }
}

/* Ranks 0 to 4 and sizes that are no multiple of 16, all in one chunk of work each. */
static inline void problem_small(problem *p) {
    memset(p, 0, sizeof *p);
    problem_add(p, "scalar", 0, NULL);
    problem_add(p, "bias", 1, (int64_t[]){37});
    problem_add(p, "matrix", 2, (int64_t[]){19, 33});
    problem_add(p, "cube", 3, (int64_t[]){5, 7, 3});
    problem_add(p, "filter", 4, (int64_t[]){6, 4, 3, 3});
    problem_start(p);
}

/* The small ones, and two that are worth several threads: a matrix and a vector of more than one chunk. */
static inline void problem_large(problem *p) {
    problem_small(p);
    problem_add(p, "wide", 2, (int64_t[]){check_repetitions(211, 110), check_repetitions(533, 303)});
    problem_add(p, "long", 1, (int64_t[]){check_repetitions(70001, 33001)});
    problem_start(p);
}

/* The gradient of a quadratic whose curvatures span three orders of magnitude, with noise that depends on the step: what
 * one step gets wrong, the next ones see. */
static inline void problem_gradient(problem *p, int64_t step) {
    for (int i = 0; i < p->count; i++) {
        problem_tensor *t = &p->tensors[i];
        uint64_t seed = 1000 + 64 * (uint64_t)step + (uint64_t)i;
        for (int64_t j = 0; j < t->elements; j++) {
            float curvature = 1.0f / (float)(1 + (j * 7 + i) % 997);
            t->gradient[j] = curvature * t->parameter[j] + 0.01f * problem_random(seed, (uint64_t)j);
        }
    }
}

/* The greatest difference of two runs in tensor i, relative to the way that the tensor has gone in b from where problem_start put it;
 * infinite if a number is none. */
static inline double problem_difference(const problem *a, const problem *b, int i) {
    double moved = 0, difference = 0;
    for (int64_t j = 0; j < b->tensors[i].elements; j++) {
        double x = a->tensors[i].parameter[j], y = b->tensors[i].parameter[j];
        if (!isfinite(x) || !isfinite(y)) return INFINITY;
        moved = fmax(moved, fabs(y - problem_start_value(i, j)));
        difference = fmax(difference, fabs(x - y));
    }
    return difference / moved;
}

static inline void problem_free(problem *p) {
    for (int i = 0; i < p->count; i++) {
        free(p->tensors[i].parameter);
        free(p->tensors[i].gradient);
    }
    p->count = 0;
}

static inline lopt_status problem_register_one(problem *p, int i, lopt_optimizer *opt) {
    problem_tensor *t = &p->tensors[i];
    return lopt_add_tensor(opt, t->name, t->parameter, t->gradient, t->shape, t->rank, NULL);
}

static inline void problem_register(problem *p, lopt_optimizer *opt) {
    for (int i = 0; i < p->count; i++) CHECK_OK(problem_register_one(p, i, opt));
}

/* Steps `from` to `to` - 1. */
static inline void problem_train(problem *p, lopt_optimizer *opt, int64_t from, int64_t to) {
    for (int64_t step = from; step < to; step++) {
        problem_gradient(p, step);
        CHECK_OK(lopt_step(opt));
    }
}

static inline lopt_options problem_options(void) {
    lopt_options options;
    CHECK_OK(lopt_options_init(&options, sizeof options));
    options.threads = 1;
    return options;
}

/* An optimizer with these built-in weights and options, and no tensors. */
static inline lopt_optimizer *problem_create(const char *weights_name, const lopt_options *options) {
    lopt_weights *weights = NULL;
    lopt_optimizer *opt = NULL;
    CHECK_OK(lopt_weights_builtin(weights_name, NULL, &weights));
    CHECK_OK(lopt_create(weights, options, &opt));
    lopt_weights_free(weights);
    return opt;
}

/* The same, with the problem's tensors. */
static inline lopt_optimizer *problem_optimizer(problem *p, const char *weights_name, const lopt_options *options) {
    lopt_optimizer *opt = problem_create(weights_name, options);
    problem_register(p, opt);
    return opt;
}

/* Of tensor `index`, or with -1 of all together. */
static inline lopt_statistics statistics_of(const lopt_optimizer *opt, int32_t index) {
    lopt_statistics statistics = {.struct_size = sizeof statistics};
    CHECK_OK(lopt_stats(opt, index, &statistics));
    return statistics;
}

static inline lopt_information information_of(const lopt_optimizer *opt) {
    lopt_information information = {.struct_size = sizeof information};
    CHECK_OK(lopt_info(opt, &information));
    return information;
}

/* State, counters, options and parameters, as one piece of memory. */
typedef struct snapshot {
    size_t size;
    void *bytes;
} snapshot;

static inline snapshot snapshot_of(const lopt_optimizer *opt, uint32_t contents) {
    snapshot s = {0, NULL};
    CHECK_OK(lopt_state_size(opt, contents, &s.size));
    s.bytes = check_memory(s.size);
    CHECK_OK(lopt_state_write(opt, contents, s.bytes, s.size));
    return s;
}

static inline void snapshot_free(snapshot *s) {
    free(s->bytes);
    s->bytes = NULL;
}

#define CHECK_SAME_STATE(opt, expected) check_same_state(opt, expected, #opt, __FILE__, __LINE__)

static inline int check_same_state(const lopt_optimizer *opt, const snapshot *expected, const char *what,
                                   const char *file, int line) {
    snapshot now = snapshot_of(opt, LOPT_WITH_PARAMETERS);
    int same = check_that(now.size == expected->size, file, line, "the state of %s has %zu bytes, expected %zu", what,
                          now.size, expected->size) &&
               check_bytes(now.bytes, expected->bytes, now.size, what, file, line);
    snapshot_free(&now);
    return same;
}

#endif
