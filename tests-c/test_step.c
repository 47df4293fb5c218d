/* A step computes the same bits whatever the threads, the instruction set, the order of the tensors and the way in which
 * they are stepped; scales, freezing, weight decay and binding do what the header says. */
#define _GNU_SOURCE
#include "problem.h"

#include <pthread.h>
#include <sys/mman.h>

enum { STEPS = 6 };

/* Trains the large problem with these options; the caller frees both. */
static snapshot train(const lopt_options *options, problem *p) {
    lopt_optimizer *opt;
    problem_large(p);
    CHECK_OK(lopt_create(NULL, options, &opt));
    problem_register(p, opt);
    problem_train(p, opt, 0, STEPS);
    snapshot result = snapshot_of(opt, LOPT_WITH_PARAMETERS);
    lopt_destroy(opt);
    return result;
}

/* What one thread computes. */
static problem reference;
static snapshot reference_state;

static void check_as_reference(const lopt_options *options) {
    problem p;
    snapshot state = train(options, &p);
    for (int i = 0; i < p.count; i++) {
        CHECK_BITS(p.tensors[i].parameter, reference.tensors[i].parameter, p.tensors[i].elements);
    }
    CHECK_INT(state.size, reference_state.size);
    CHECK_BYTES(state.bytes, reference_state.bytes, state.size);
    snapshot_free(&state);
    problem_free(&p);
}

static void test_threads_change_no_bit(void) {
    static const int32_t threads[] = {1, 2, 3, 4, 5, 6, 7, 8, 0};
    for (size_t i = 0; i < sizeof threads / sizeof *threads; i++) {
        lopt_options options = problem_options();
        check_context("%d threads", threads[i]);
        options.threads = threads[i];
        check_as_reference(&options);
    }
    check_context("");
}

/* ---- Instruction sets -------------------------------------------------------------------------------------------- */

static int32_t widest_isa(void) {
    lopt_optimizer *opt;
    lopt_information information = {.struct_size = sizeof information};
    CHECK_OK(lopt_create(NULL, NULL, &opt));
    CHECK_OK(lopt_info(opt, &information));
    lopt_destroy(opt);
    return information.isa;
}

/* AVX2 and AVX-512 give the same bits; the baseline has no fused multiply-add, so it gives others, close to them. */
static void test_avx2_and_avx512_give_the_same_bits(void) {
    const char *given = getenv("LOPT_MAX_ISA");
    char *saved = given ? strdup(given) : NULL;
    unsetenv("LOPT_MAX_ISA");
    int32_t widest = widest_isa();
    problem p[4];
    snapshot states[4];
    for (int32_t isa = 1; isa <= widest; isa++) {
        lopt_options options = problem_options();
        options.max_isa = isa;
        states[isa] = train(&options, &p[isa]);
    }
    if (widest >= LOPT_ISA_AVX512) {
        CHECK_BYTES(states[LOPT_ISA_AVX512].bytes, states[LOPT_ISA_AVX2].bytes, states[LOPT_ISA_AVX2].size);
    } else {
        printf("this processor has no AVX-512: nothing to compare with AVX2\n");
    }
    const problem *baseline = &p[LOPT_ISA_BASELINE];
    for (int i = 0; i < baseline->count && widest >= LOPT_ISA_AVX2; i++) {
        check_context("tensor %s", baseline->tensors[i].name);
        CHECK_NEAR(problem_difference(baseline, &p[LOPT_ISA_AVX2], i), 0, 2e-5);
    }
    check_context("");
    for (int32_t isa = 1; isa <= widest; isa++) {
        problem_free(&p[isa]);
        snapshot_free(&states[isa]);
    }
    if (saved) setenv("LOPT_MAX_ISA", saved, 1);
    free(saved);
}

/* ---- The caller's parallel-for ----------------------------------------------------------------------------------- */

typedef struct caller {
    int mode; /* 0: in order, 1: in reverse, 2: threads */
    int32_t most;
    int in_step, calls;
} caller;

typedef struct item {
    pthread_t thread;
    lopt_task task;
    void *context;
    int32_t i;
} item;

static void *run_item(void *argument) {
    item *it = argument;
    it->task(it->context, it->i);
    return NULL;
}

static void run_caller(void *context, int32_t count, lopt_task task, void *task_context) {
    caller *c = context;
    c->calls++;
    CHECK(c->in_step);
    CHECK(count >= 1 && count <= c->most);
    item items[256];
    for (int32_t k = 0; k < count; k++) {
        int32_t i = c->mode == 1 ? count - 1 - k : k;
        items[k] = (item){.task = task, .context = task_context, .i = i};
        if (c->mode != 2) {
            task(task_context, i);
        } else {
            CHECK_INT(pthread_create(&items[k].thread, NULL, run_item, &items[k]), 0);
        }
    }
    for (int32_t k = 0; k < count && c->mode == 2; k++) pthread_join(items[k].thread, NULL);
}

static void test_threads_of_the_caller_change_no_bit(void) {
    for (int mode = 0; mode < 3; mode++) {
        for (int32_t threads = 1; threads <= 4; threads += 3) {
            caller c = {.mode = mode, .most = threads};
            lopt_options options = problem_options();
            lopt_optimizer *opt;
            problem p;
            check_context("parallel-for %d, %d threads", mode, threads);
            options.threads = threads;
            options.parallel_for.run = run_caller;
            options.parallel_for.context = &c;
            problem_large(&p);
            CHECK_OK(lopt_create(NULL, &options, &opt));
            problem_register(&p, opt);
            for (int step = 0; step < STEPS; step++) {
                problem_gradient(&p, step);
                c.in_step = 1;
                CHECK_OK(lopt_step(opt));
                c.in_step = 0;
            }
            CHECK_SAME_STATE(opt, &reference_state);
            if (threads > 1) CHECK(c.calls > 0);
            lopt_destroy(opt);
            problem_free(&p);
        }
    }
    check_context("");
}

/* ---- Order ------------------------------------------------------------------------------------------------------- */

/* One by one, each as soon as its gradient is there, forwards and backwards. */
static void test_single_steps_in_any_order_change_no_bit(void) {
    for (int backwards = 0; backwards < 2; backwards++) {
        lopt_options options = problem_options();
        lopt_optimizer *opt;
        problem p;
        check_context(backwards ? "backwards" : "forwards");
        options.threads = 1 + backwards;
        problem_large(&p);
        CHECK_OK(lopt_create(NULL, &options, &opt));
        problem_register(&p, opt);
        for (int step = 0; step < STEPS; step++) {
            problem_gradient(&p, step);
            for (int i = 0; i < p.count; i++) CHECK_OK(lopt_step_tensor(opt, backwards ? p.count - 1 - i : i));
        }
        CHECK_SAME_STATE(opt, &reference_state);
        lopt_destroy(opt);
        problem_free(&p);
    }
    check_context("");
}

/* To star a tensor is a tensor, wherever it stands; pooled looks at which layers are first and last. */
static void test_order_of_adding_changes_no_bit_of_star(void) {
    static const int orders[][7] = {{0, 1, 2, 3, 4, 5, 6}, {6, 5, 4, 3, 2, 1, 0}, {3, 0, 6, 1, 5, 2, 4}};
    problem first;
    for (int o = 0; o < 3; o++) {
        lopt_options options = problem_options();
        problem p;
        options.threads = 1 + o % 2;
        problem_large(&p);
        CHECK_INT(p.count, 7);
        lopt_optimizer *opt = problem_create("star", &options);
        for (int i = 0; i < 7; i++) CHECK_OK(problem_register_one(&p, orders[o][i], opt));
        problem_train(&p, opt, 0, STEPS);
        for (int i = 0; o > 0 && i < p.count; i++) {
            check_context("order %d, tensor %s", o, p.tensors[i].name);
            CHECK_BITS(p.tensors[i].parameter, first.tensors[i].parameter, p.tensors[i].elements);
        }
        lopt_destroy(opt);
        if (o == 0) {
            first = p;
        } else {
            problem_free(&p);
        }
    }
    problem_free(&first);
    check_context("");
}

/* A tensor that joins later starts at t = 0: it ends where it ends beside as many idle tensors, whatever was stepped before. */
static void test_tensor_added_later_starts_at_zero(void) {
    lopt_options options = problem_options();
    lopt_optimizer *opt = problem_create("star", &options), *alone = problem_create("star", &options);
    problem p, q;
    int32_t index = -1;
    problem_small(&p), problem_small(&q);
    for (int i = 0; i < p.count; i++) {
        if (i != 2) CHECK_OK(problem_register_one(&p, i, opt));
    }
    problem_train(&p, opt, 0, 9);
    problem_tensor *t = &p.tensors[2];
    CHECK_OK(lopt_add_tensor(opt, t->name, t->parameter, t->gradient, t->shape, t->rank, &index));
    CHECK_INT(index, p.count - 1);
    problem_register(&q, alone);
    problem_train(&p, opt, 9, 15);
    for (int step = 9; step < 15; step++) {
        problem_gradient(&q, step);
        CHECK_OK(lopt_step_tensor(alone, 2));
    }
    CHECK_BITS(t->parameter, q.tensors[2].parameter, t->elements);
    lopt_statistics statistics = {.struct_size = sizeof statistics};
    CHECK_OK(lopt_stats(opt, index, &statistics));
    CHECK_INT(statistics.steps, 6);
    CHECK_OK(lopt_stats(opt, 0, &statistics));
    CHECK_INT(statistics.steps, 15);
    lopt_destroy(opt), lopt_destroy(alone);
    problem_free(&p), problem_free(&q);
}

/* ---- Memory ------------------------------------------------------------------------------------------------------ */

/* New memory with the same numbers in the middle of training makes no difference; gradients are only read. */
static void test_new_memory_changes_no_bit(void) {
    lopt_options options = problem_options();
    lopt_optimizer *opt;
    problem p;
    problem_large(&p);
    CHECK_OK(lopt_create(NULL, &options, &opt));
    problem_register(&p, opt);
    for (int step = 0; step < STEPS; step++) {
        problem_tensor *t = &p.tensors[step % p.count];
        size_t size = 4 * (size_t)t->elements;
        float *parameter = check_memory(size), *gradient = check_memory(size);
        memcpy(parameter, t->parameter, size);
        CHECK_OK(lopt_bind(opt, step % p.count, parameter, gradient));
        memset(t->parameter, 0xff, size), memset(t->gradient, 0xff, size);
        free(t->parameter), free(t->gradient);
        t->parameter = parameter, t->gradient = gradient;
        problem_gradient(&p, step);
        float *copy = check_memory(size);
        memcpy(copy, gradient, size);
        CHECK_OK(lopt_step(opt));
        CHECK_BITS(gradient, copy, t->elements);
        free(copy);
    }
    CHECK_SAME_STATE(opt, &reference_state);
    lopt_destroy(opt);
    problem_free(&p);
}

/* A frozen tensor is passed over: its parameters, state and counters stay, and its gradient is not even read. */
static void test_frozen_tensor_is_passed_over(void) {
    lopt_options options = problem_options();
    lopt_tensor_options frozen, moving;
    lopt_statistics statistics = {.struct_size = sizeof statistics};
    lopt_optimizer *opt, *without;
    problem p, q;
    problem_small(&p), problem_small(&q);
    CHECK_OK(lopt_tensor_options_init(&frozen, sizeof frozen));
    moving = frozen;
    frozen.frozen = 1;
    CHECK_OK(lopt_create(NULL, &options, &opt));
    CHECK_OK(lopt_create(NULL, &options, &without));
    problem_register(&p, opt), problem_register(&q, without);
    CHECK_OK(lopt_set_tensor_options(opt, 2, &frozen));
    problem_tensor *t = &p.tensors[2];
    float *forbidden = mmap(NULL, 65536, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(forbidden != MAP_FAILED);
    CHECK_OK(lopt_bind(opt, 2, t->parameter, forbidden));
    problem_train(&p, opt, 0, 4);
    CHECK_BITS(t->parameter, q.tensors[2].parameter, t->elements);
    CHECK_OK(lopt_step_tensor(opt, 2));
    CHECK_BITS(t->parameter, q.tensors[2].parameter, t->elements);
    CHECK_OK(lopt_stats(opt, 2, &statistics));
    CHECK_INT(statistics.steps, 0);
    CHECK_INT(statistics.steps_skipped, 0);

    /* Thawed, it goes on as one that has just been added; the others never noticed. */
    CHECK_OK(lopt_set_tensor_options(opt, 2, &moving));
    CHECK_OK(lopt_bind(opt, 2, t->parameter, t->gradient));
    problem_train(&p, opt, 4, 6);
    for (int step = 0; step < 6; step++) {
        problem_gradient(&q, step);
        for (int i = 0; i < q.count; i++) {
            if (i != 2 || step >= 4) CHECK_OK(lopt_step_tensor(without, i));
        }
    }
    snapshot expected = snapshot_of(without, LOPT_WITH_PARAMETERS);
    CHECK_SAME_STATE(opt, &expected);
    snapshot_free(&expected);
    munmap(forbidden, 65536);
    lopt_destroy(opt), lopt_destroy(without);
    problem_free(&p), problem_free(&q);
}

int main(void) {
    lopt_options options = problem_options();
    reference_state = train(&options, &reference);
    test_threads_change_no_bit();
    test_avx2_and_avx512_give_the_same_bits();
    test_threads_of_the_caller_change_no_bit();
    test_single_steps_in_any_order_change_no_bit();
    test_order_of_adding_changes_no_bit_of_star();
    test_tensor_added_later_starts_at_zero();
    test_new_memory_changes_no_bit();
    test_frozen_tensor_is_passed_over();
    snapshot_free(&reference_state);
    problem_free(&reference);
    return check_end();
}
