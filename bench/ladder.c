/* The ladder from a plain loop to the step with the default weights: each rung is timed beside AdamW and checked against the first.
 *
 *     elements   an element at a time
 *     vectors    sixteen at a time, all sums in one loop: more than AVX2 has registers for
 *     tiles      512 elements in two loops, h and a_k in between in the first-level cache
 *     ahead      and the reciprocal root of sixteen elements is under way while the sixteen before use theirs
 *     lopt_step  the library: the look at the gradients before, the statistics after, and everything that lopt.h promises
 *
 * `ladder [ELEMENTS...]`: default 4096 65536 1048576. */
#include "bench.h"
#include "ladder.h"
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CHECK_STEPS = 5, ROUNDS = 15 };

void misused(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    fputs("ladder: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    exit(2);
}

static const rung_step step = {
    .rms_beta = 0.9963f, .rms_rate = 0.0037f, .beta = {0.6f, 0.967f}, .rate = {0.4f, 0.033f}, .epsilon = 1e-12f,
    .mix = {0.5f, 0.6f}, .gradient = 0.1f, .scale = 1e-3f, .apart = 0.8e-3f, .keep = 0.9999f, .idle = 1};

typedef struct named_rung {
    const char *name;
    rung run[4]; /* by lopt_isa */
} named_rung;
#if defined(__x86_64__)
#define RUNG(name) {#name, {NULL, rung_##name##_baseline, rung_##name##_avx2, rung_##name##_avx512}}
#else
#define RUNG(name) {#name, {NULL, rung_##name##_baseline}}
#endif
static const named_rung ladder[] = {RUNG(elements), RUNG(vectors), RUNG(tiles), RUNG(ahead)};
enum { LADDER = sizeof ladder / sizeof *ladder };

/* What a rung works on. */
typedef struct memory {
    float *g, *p, *v, *m;
    int64_t count, plane;
    double sums[RUNG_SUMS];
} memory;

static memory memory_make(const arrays *a) {
    int64_t plane = a->size + 208;
    memory x = {a->gradient, allocate_floats(a->size), allocate_floats(a->size), allocate_floats(2 * plane), a->size, plane, {0}};
    memcpy(x.p, a->parameter, (size_t)a->size * sizeof(float));
    return x;
}
static void memory_free(memory *x) { free(x->p), free(x->v), free(x->m); }

static void climb(const named_rung *r, int32_t isa, memory *x, int steps) {
    for (int i = 0; i < steps; i++) r->run[isa](&step, x->g, x->p, x->v, x->m, x->plane, x->count, x->sums);
}

/* The greatest difference of parameters and sums from the first rung's, relative to the update and to the sum. */
static double difference(const memory *x, const memory *first, const float *before) {
    double most = 0, update = 0;
    for (int64_t i = 0; i < x->count; i++) {
        update = fmax(update, fabs((double)first->p[i] - before[i]));
        most = fmax(most, fabs((double)x->p[i] - first->p[i]));
    }
    most /= update;
    for (int i = 0; i < RUNG_SUMS; i++) {
        double size = i < 8 ? first->sums[i] : sqrt(first->sums[4] * first->sums[i - 2]);
        most = fmax(most, fabs(x->sums[i] - first->sums[i]) / size);
    }
    return most;
}

/* ---- Times -------------------------------------------------------------------------------------------------------------- */

typedef struct timed { void *context; const named_rung *rung; int32_t isa; } timed;

static double seconds(timed t, int steps, void (*other)(void *)) {
    double start = clock_of(1);
    if (t.rung) climb(t.rung, t.isa, t.context, steps);
    else for (int i = 0; i < steps; i++) other(t.context);
    return clock_of(1) - start;
}
static void step_lopt(void *context) { require(lopt_step(context), "lopt_step"); }
static void step_adamw(void *context) { adamw_step(context); }

static void row(const char *name, timed t, void (*other)(void *), adamw *o, int64_t count, double error) {
    double own[ROUNDS], theirs[ROUNDS], ratio[ROUNDS];
    seconds(t, 2, other);
    double once = seconds(t, 3, other) / 3;
    int steps = once < 0.001 ? (int)(0.001 / once) + 1 : 1;
    timed a = {o, NULL, 0};
    for (int i = 0; i < ROUNDS; i++) {
        own[i] = seconds(t, steps, other) / steps;
        theirs[i] = seconds(a, steps, step_adamw) / steps;
        ratio[i] = own[i] / theirs[i];
    }
    double ns = 1e9 * median(own, ROUNDS) / (double)count, adamw_ns = 1e9 * median(theirs, ROUNDS) / (double)count;
    printf("%10lld %-10s %8.3f %8.3f %7.2f %7.2f ", (long long)count, name, ns, adamw_ns, median(ratio, ROUNDS), own[0] / theirs[0]);
    if (error >= 0) printf("%10.1e\n", error);
    else printf("%10s\n", "");
    fflush(stdout);
}

static lopt_optimizer *make_lopt(arrays *a) {
    lopt_options options;
    require(lopt_options_init(&options, sizeof options), "lopt_options_init");
    options.threads = 1;
    lopt_optimizer *opt;
    require(lopt_create(NULL, &options, &opt), "lopt_create");
    require(lopt_add_tensor(opt, "w", a->parameter, a->gradient, &a->size, 1, NULL), "lopt_add_tensor");
    return opt;
}

static int32_t isa_in_use(void) {
    lopt_optimizer *opt;
    require(lopt_create(NULL, NULL, &opt), "lopt_create");
    lopt_information info = {.struct_size = sizeof info};
    require(lopt_info(opt, &info), "lopt_info");
    lopt_destroy(opt);
    return info.isa;
}

/* 1 if a rung does not what the first does. */
static int measure(const problem *p, int32_t isa) {
    arrays a = arrays_make(p);
    arrays_reset_parameters(&a);
    memory first = memory_make(&a);
    climb(&ladder[0], isa, &first, CHECK_STEPS);
    adamw o = adamw_make(&a, (lopt_isa)isa, 1);
    int wrong = 0;
    for (int i = 0; i < LADDER; i++) {
        memory x = memory_make(&a);
        climb(&ladder[i], isa, &x, CHECK_STEPS);
        double error = difference(&x, &first, a.parameter);
        if (!(error < 1e-4)) wrong = 1;
        row(ladder[i].name, (timed){&x, &ladder[i], isa}, NULL, &o, a.size, error);
        memory_free(&x);
    }
    lopt_optimizer *opt = make_lopt(&a);
    row("lopt_step", (timed){opt, NULL, 0}, step_lopt, &o, a.size, -1);
    lopt_statistics st = {.struct_size = sizeof st};
    require(lopt_stats(opt, -1, &st), "lopt_stats");
    if (!(st.update_rms > 0) || st.nonfinite != 0) wrong = 1;
    lopt_destroy(opt);
    adamw_free(&o);
    memory_free(&first);
    arrays_free(&a);
    return wrong;
}

int main(int argc, char **argv) {
    static const char *const usual[] = {"4096", "65536", "1048576"};
    int count = argc > 1 ? argc - 1 : 3, wrong = 0;
    int32_t isa = isa_in_use();
    char cpu[128];
    cpu_name(cpu, sizeof cpu);
    printf("%s, %s; medians of %d, one thread; `wrong` is the greatest difference from the first rung after %d steps\n", cpu,
           isa_name(isa), ROUNDS, CHECK_STEPS);
    printf("%10s %-10s %8s %8s %7s %7s %10s\n", "elements", "rung", "ns", "AdamW", "ratio", "best", "wrong");
    for (int i = 0; i < count; i++) wrong |= measure(problem_of_shape(argc > 1 ? argv[i + 1] : usual[i]), isa);
    if (wrong) puts("a rung does not do what the first does");
    return wrong;
}
