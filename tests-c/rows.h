/* Optimizers in threads that have the rows of some tensors between them and gather through memory, beside one that has all. */
#ifndef LOPT_ROWS_H
#define LOPT_ROWS_H

#include <pthread.h>

#include "weights.h"

enum { MOST_PARTS = 5, SHARED = 5 }; /* parts; the first tensors of a problem whose rows they share */

typedef struct team {
    int parts;
    int32_t rank_of_call, fail_call, fail_part; /* how many gathers there were; the one that fails, on one part or (-1) on all */
    problem *p;                                  /* memory of the shared tensors, and of part 0 for the others */
    problem own[MOST_PARTS];                     /* the other tensors of the other parts */
    lopt_optimizer *opt[MOST_PARTS];
    lopt_status status[MOST_PARTS];
    lopt_gradients found[MOST_PARTS];
    char message[MOST_PARTS][256];
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    int arrived;
    long turn;
    int64_t count[MOST_PARTS];
    const double *from[MOST_PARTS];
} team;

/* Returns when all parts have come here. */
static inline void team_meet(team *t) {
    pthread_mutex_lock(&t->mutex);
    long turn = t->turn;
    if (++t->arrived == t->parts) {
        t->arrived = 0, t->turn++;
        pthread_cond_broadcast(&t->changed);
    }
    while (turn == t->turn) pthread_cond_wait(&t->changed, &t->mutex);
    pthread_mutex_unlock(&t->mutex);
}

typedef struct team_place {
    team *t;
    int part;
} team_place;

static inline int team_gather(void *context, const double *own, double *all, int64_t count) {
    const team_place *place = context;
    team *t = place->t;
    int failure = 0;
    t->from[place->part] = own, t->count[place->part] = count;
    team_meet(t);
    for (int part = 0; part < t->parts; part++) {
        if (t->count[part] != count) failure = 3;
    }
    if (t->rank_of_call == t->fail_call && (t->fail_part < 0 || t->fail_part == place->part)) failure = 7;
    for (int part = 0; part < t->parts && failure == 0; part++) memcpy(all + part * count, t->from[part], 8 * (size_t)count);
    team_meet(t);
    if (place->part == 0) t->rank_of_call++;
    team_meet(t);
    return failure;
}

/* Each part does `body` in a thread of its own. What it returns and the last message are left in status and message. */
typedef lopt_status (*team_body)(team *t, int part, void *context);

typedef struct team_task {
    team_place place;
    team_body body;
    void *context;
} team_task;

static inline void *team_thread(void *argument) {
    team_task *task = argument;
    team *t = task->place.t;
    const int part = task->place.part;
    t->status[part] = task->body(t, part, task->context);
    snprintf(t->message[part], sizeof t->message[part], "%s", lopt_last_error());
    return NULL;
}

static inline void team_do(team *t, team_body body, void *context) {
    pthread_t threads[MOST_PARTS];
    team_task tasks[MOST_PARTS];
    for (int part = 0; part < t->parts; part++) {
        tasks[part] = (team_task){{t, part}, body, context};
        CHECK_INT(pthread_create(&threads[part], NULL, team_thread, &tasks[part]), 0);
    }
    for (int part = 0; part < t->parts; part++) CHECK_INT(pthread_join(threads[part], NULL), 0);
}

static inline void check_team(const team *t, lopt_status expected, const char *text, const char *file, int line) {
    for (int part = 0; part < t->parts; part++) {
        check_that(t->status[part] == expected, file, line, "part %d returned %d (\"%s\"), expected %d", part, t->status[part],
                   t->message[part], expected);
        if (text) check_that(strstr(t->message[part], text) != NULL, file, line, "part %d: the message \"%s\" lacks \"%s\"", part,
                             t->message[part], text);
    }
}
#define CHECK_TEAM(t, body, context, expected, text) \
    do { team_do(t, body, context); check_team(t, expected, text, __FILE__, __LINE__); } while (0)

static inline lopt_status step_body(team *t, int part, void *context) {
    (void)context;
    return lopt_step(t->opt[part]);
}

/* Three units of rows for 3 parts and more; one row a unit; two units; a vector; all in one unit. Then tensors that are not shared. */
static inline void rows_problem(problem *p) {
    memset(p, 0, sizeof *p);
    problem_add(p, "embedding", 2, (int64_t[]){20001, 8});
    problem_add(p, "cube", 3, (int64_t[]){5, 128, 256});
    problem_add(p, "odd", 2, (int64_t[]){40000, 3});
    problem_add(p, "vector", 1, (int64_t[]){100001});
    problem_add(p, "little", 4, (int64_t[]){6, 4, 3, 3});
    problem_add(p, "matrix", 2, (int64_t[]){19, 33});
    problem_add(p, "bias", 1, (int64_t[]){37});
    problem_start(p);
}

static inline lopt_rows rows_of(const problem_tensor *t, int part, int parts) {
    lopt_rows rows = {-1, -1};
    CHECK_OK(lopt_rows_of(t->shape, t->rank, part, parts, &rows));
    return rows;
}

static inline lopt_status add_rows(lopt_optimizer *opt, const problem_tensor *t, int part, int parts) {
    const lopt_rows rows = rows_of(t, part, parts);
    const int64_t begin = rows.first * (t->elements / t->shape[0]);
    return lopt_add_rows(opt, t->name, &rows, t->parameter + begin, LOPT_F32, t->gradient + begin, LOPT_F32, t->shape, t->rank, NULL);
}

/* Of this part alone momenta are in bf16; -1: of none. */
static int part_with_bf16_momenta = -1;

/* Parts with the shared tensors of p; the others are whole on each part, or with `divided` part i has the i-th, i + parts-th ... of them. */
static inline void team_create(team *t, problem *p, const char *weights, const lopt_options *options, int parts, int divided) {
    static team_place places[8][MOST_PARTS];
    static int next;
    problem none = {.count = 0};
    team_place *place = places[next++ % 8];
    memset(t, 0, sizeof *t);
    t->parts = parts, t->p = p, t->fail_call = t->fail_part = -1;
    pthread_mutex_init(&t->mutex, NULL), pthread_cond_init(&t->changed, NULL);
    for (int part = 0; part < parts; part++) {
        lopt_options own = *options;
        place[part] = (team_place){t, part};
        own.gather = (lopt_gather){team_gather, &place[part], part, parts};
        if (part == part_with_bf16_momenta) own.momentum_type = LOPT_BF16;
        t->opt[part] = weights_optimizer(&none, weights, &own);
        rows_problem(&t->own[part]);
        for (int i = 0; i < p->count; i++) {
            problem_tensor *tensor = &p->tensors[i];
            if (i < SHARED) CHECK_OK(add_rows(t->opt[part], tensor, part, parts));
            else if (!divided) CHECK_OK(problem_register_one(part == 0 ? p : &t->own[part], i, t->opt[part]));
            else if (i % parts == part) CHECK_OK(problem_register_one(p, i, t->opt[part]));
            else CHECK_OK(lopt_add_elsewhere(t->opt[part], tensor->name, tensor->shape, tensor->rank, NULL));
        }
    }
}

/* After the gradients of p have been written. */
static inline void team_copy_gradients(team *t) {
    for (int part = 1; part < t->parts; part++) {
        for (int i = SHARED; i < t->p->count; i++)
            memcpy(t->own[part].tensors[i].gradient, t->p->tensors[i].gradient, 4 * (size_t)t->p->tensors[i].elements);
    }
}

static inline void team_free(team *t) {
    for (int part = 0; part < t->parts; part++) lopt_destroy(t->opt[part]), problem_free(&t->own[part]);
    pthread_mutex_destroy(&t->mutex), pthread_cond_destroy(&t->changed);
}

static inline int check_same_parameters(const problem *p, const problem *q) {
    int same = 1;
    for (int i = 0; i < p->count; i++) same &= CHECK_BITS(p->tensors[i].parameter, q->tensors[i].parameter, q->tensors[i].elements);
    return same;
}

static int32_t rows_momentum_type = LOPT_F32;

/* Weight decay, an average and all scales. */
static inline lopt_options rows_options(void) {
    lopt_options options = problem_options();
    options.momentum_type = rows_momentum_type;
    options.weight_decay = 0.05, options.average = LOPT_AVERAGE_EMA, options.average_span = 5;
    options.gradient_scale = 0.75, options.total_steps = 40;
    return options;
}

/* The gradient of a step, with stretches in which tensors are idle, wholly or but for the last element. */
static inline void rows_gradient(problem *p, int64_t step) {
    problem_gradient(p, step);
    for (int i = 0; i < SHARED; i++) {
        problem_tensor *t = &p->tensors[i];
        const float last = t->gradient[t->elements - 1];
        if ((step + i) % 5 != 0) continue;
        memset(t->gradient, 0, 4 * (size_t)t->elements);
        if (step % 2 == 1) t->gradient[t->elements - 1] = last;
    }
}

/* Into `found` of the team. */
static inline lopt_status inspect_body(team *t, int part, void *context) {
    t->found[part] = (lopt_gradients){.struct_size = sizeof t->found[part]};
    return lopt_inspect_gradients(t->opt[part], *(int32_t *)context, &t->found[part]);
}

static inline void check_counters(const team *t, lopt_optimizer *whole) {
    for (int part = 0; part < t->parts; part++) {
        for (int i = 0; i < SHARED; i++) {
            const lopt_statistics here = statistics_of(t->opt[part], i), there = statistics_of(whole, i);
            CHECK_INT(here.steps, there.steps), CHECK_INT(here.steps_idle, there.steps_idle), CHECK_INT(here.nonfinite, there.nonfinite);
            CHECK_INT(here.steps_skipped, there.steps_skipped), CHECK_NEAR(here.step_size, there.step_size, 0);
        }
    }
}

#endif
