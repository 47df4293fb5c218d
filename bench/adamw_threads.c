/* AdamW over all tensors of a problem with several threads, which stay: a step starts none. */
#include "bench.h"
#include <math.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

/* ---- A team of threads ----------------------------------------------------------------------------------------------- */

enum { MOST_THREADS = 256, SPINS = 20000 };

struct team {
    int threads;
    pthread_t thread[MOST_THREADS];
    pthread_mutex_t mutex;
    pthread_cond_t wake;
    atomic_int generation, running, stop;
    void (*task)(void *context, int thread, int threads);
    void *context;
};

typedef struct member {
    team *team;
    int index;
} member;

/* A worker spins for some microseconds before it sleeps, as in any training loop that steps again and again. */
static void wait_for(team *t, int seen) {
    for (int i = 0; i < SPINS; i++) {
        if (atomic_load(&t->generation) != seen) return;
#if defined(__x86_64__)
        __builtin_ia32_pause();
#endif
    }
    pthread_mutex_lock(&t->mutex);
    while (atomic_load(&t->generation) == seen) pthread_cond_wait(&t->wake, &t->mutex);
    pthread_mutex_unlock(&t->mutex);
}

static void *work(void *argument) {
    member me = *(member *)argument;
    free(argument);
    for (int seen = 0;; seen++) {
        wait_for(me.team, seen);
        if (atomic_load(&me.team->stop)) return NULL;
        me.team->task(me.team->context, me.index, me.team->threads);
        atomic_fetch_sub(&me.team->running, 1);
    }
}

static void next_generation(team *t) {
    pthread_mutex_lock(&t->mutex);
    atomic_fetch_add(&t->generation, 1);
    pthread_cond_broadcast(&t->wake);
    pthread_mutex_unlock(&t->mutex);
}

team *team_make(int threads) {
    team *t = calloc(1, sizeof *t);
    if (!t || threads > MOST_THREADS) fail("no team of %d threads", threads);
    t->threads = threads;
    pthread_mutex_init(&t->mutex, NULL);
    pthread_cond_init(&t->wake, NULL);
    for (int i = 1; i < threads; i++) {
        member *m = malloc(sizeof *m);
        if (!m) fail("out of memory");
        *m = (member){t, i};
        if (pthread_create(&t->thread[i], NULL, work, m) != 0) fail("a thread could not be started");
    }
    return t;
}

void team_run(team *t, void (*task)(void *, int, int), void *context) {
    t->task = task;
    t->context = context;
    if (t->threads > 1) {
        atomic_store(&t->running, t->threads - 1);
        next_generation(t);
    }
    task(context, 0, t->threads);
    for (int i = 0; atomic_load(&t->running) > 0; i++) {
#if defined(__x86_64__)
        __builtin_ia32_pause();
#endif
        if (i > SPINS) sched_yield(); /* the others may be waiting for this processor */
    }
}

void team_free(team *t) {
    atomic_store(&t->stop, 1);
    next_generation(t);
    for (int i = 1; i < t->threads; i++) pthread_join(t->thread[i], NULL);
    free(t);
}

/* ---- AdamW ------------------------------------------------------------------------------------------------------------ */

adamw adamw_make(arrays *a, lopt_isa isa, int threads) {
    adamw o = {.arrays = a, .threads = threads, .team = team_make(threads), .loop = adamw_baseline};
#if defined(__x86_64__)
    if (isa == LOPT_ISA_AVX2) o.loop = adamw_avx2;
    if (isa == LOPT_ISA_AVX512) o.loop = adamw_avx512;
#else
    (void)isa;
#endif
    o.parameter = allocate_floats(a->size);
    o.m = allocate_floats(a->size);
    o.v = allocate_floats(a->size);
    fill_random(o.parameter, a->size, 2);
    for (int64_t i = 0; i < a->size; i++) o.parameter[i] *= 0.05f;
    return o;
}

/* The tensors lie one after the other; each thread takes an equal share of the whole, cut at multiples of 64 bytes. */
static void share(void *context, int thread, int threads) {
    adamw *o = context;
    const arrays *a = o->arrays;
    int64_t begin = a->size / 16 * thread / threads * 16, end = a->size / 16 * (thread + 1) / threads * 16;
    for (int i = 0; i < a->problem->tensors; i++) {
        int64_t from = a->offset[i], to = from + tensor_elements(&a->problem->tensor[i]);
        if (from < begin) from = begin;
        if (to > end) to = end;
        if (from < to)
            o->loop(&o->constants, o->parameter + from, a->gradient + from, o->m + from, o->v + from, to - from);
    }
}

void adamw_step(adamw *o) {
    const double lr = 1e-3, beta1 = 0.9, beta2 = 0.999, decay = 0.01;
    double t = (double)++o->steps;
    o->constants = (adamw_constants){
        .beta1 = (float)beta1, .beta2 = (float)beta2,
        .one_minus_beta1 = (float)(1 - beta1), .one_minus_beta2 = (float)(1 - beta2),
        .keep = (float)(1 - lr * decay), .step = (float)(lr / (1 - pow(beta1, t))),
        .root_correction = (float)(1 / sqrt(1 - pow(beta2, t))), .epsilon = 1e-8f,
    };
    team_run(o->team, share, o);
}

void adamw_free(adamw *o) {
    team_free(o->team);
    free(o->parameter);
    free(o->m);
    free(o->v);
}
