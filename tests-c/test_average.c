/* Averages of the parameters: what their formulas say, beside parameters that have the bits of training without; they rest where a
 * tensor does, come and go with the parameters, to the bit, and live through checkpoints. */
#define _GNU_SOURCE
#include "weights.h"

static const char *weights = "star";

static lopt_optimizer *make(problem *p, int32_t average, double span, int threads) {
    lopt_options options = problem_options();
    options.threads = threads, options.average = average, options.average_span = span;
    return weights_optimizer(p, weights, &options);
}

static double rate(int32_t average, double span, int64_t t) {
    return average == LOPT_AVERAGE_GROWING ? span / ((double)t + span) : 1 / fmin((double)t + 1, span);
}

static float *average_of(const lopt_optimizer *opt, const problem *p, int i) {
    float *average = check_memory(4 * (size_t)p->tensors[i].elements);
    CHECK_OK(lopt_average_get(opt, i, average, p->tensors[i].elements));
    return average;
}

/* f64 beside f32, which rounds once in a step. Some tensors rest in some steps, in three ways. */
static void test_average_follows_its_formula(int32_t kind, double span, int threads) {
    enum { STEPS = 25 };
    problem p, q;
    problem_large(&p), problem_large(&q);
    lopt_optimizer *opt = make(&p, kind, span, threads), *plain = make(&q, LOPT_AVERAGE_NONE, 0, 1);
    double *expected[PROBLEM_MOST], k = span != 0 ? span : kind == LOPT_AVERAGE_GROWING ? 10 : 1000;
    int64_t t[PROBLEM_MOST] = {0};
    for (int i = 0; i < p.count; i++) {
        expected[i] = check_memory(8 * (size_t)p.tensors[i].elements);
        for (int64_t j = 0; j < p.tensors[i].elements; j++) expected[i][j] = p.tensors[i].parameter[j];
        float *first = average_of(opt, &p, i);
        CHECK_BITS(first, p.tensors[i].parameter, p.tensors[i].elements);
        free(first);
    }
    for (int step = 0; step < STEPS; step++) {
        int idle = 2 + step % 6, frozen = 2 + (step + 2) % 6, is_lost = step % 5 == 3;
        problem_gradient(&p, step), problem_gradient(&q, step);
        lopt_tensor_options options;
        CHECK_OK(lopt_tensor_options_init(&options, sizeof options));
        for (int i = 0; i < p.count; i++) {
            options.frozen = i == frozen;
            CHECK_OK(lopt_set_tensor_options(opt, i, &options)), CHECK_OK(lopt_set_tensor_options(plain, i, &options));
            if (i != idle) continue;
            memset(p.tensors[i].gradient, 0, 4 * (size_t)p.tensors[i].elements);
            memset(q.tensors[i].gradient, 0, 4 * (size_t)q.tensors[i].elements);
        }
        if (is_lost) p.tensors[0].gradient[0] = q.tensors[0].gradient[0] = NAN;
        CHECK_STATUS(lopt_step(opt), is_lost ? LOPT_SKIPPED_NONFINITE : LOPT_OK);
        CHECK_STATUS(lopt_step(plain), is_lost ? LOPT_SKIPPED_NONFINITE : LOPT_OK);
        for (int i = 0; i < p.count; i++) {
            check_context("%s, kind %d, span %g, %d threads, step %d, tensor %s", weights, (int)kind, span, threads, step, p.tensors[i].name);
            CHECK_BITS(p.tensors[i].parameter, q.tensors[i].parameter, p.tensors[i].elements);
            float *average = average_of(opt, &p, i);
            double apart = 0;
            for (int64_t j = 0; j < p.tensors[i].elements; j++) {
                double difference = p.tensors[i].parameter[j] - expected[i][j];
                if (!is_lost && i != idle && i != frozen) expected[i][j] += difference * rate(kind, k, t[i]);
                apart = fmax(apart, fabs(average[j] - expected[i][j]));
            }
            t[i] += !is_lost && i != idle && i != frozen;
            CHECK_NEAR(apart, 0, 1e-6);
            free(average);
        }
    }
    check_context("");
    for (int i = 0; i < p.count; i++) free(expected[i]);
    lopt_destroy(opt), lopt_destroy(plain);
    problem_free(&p), problem_free(&q);
}

/* One call for all, one for each, with any number of threads: the same bits. */
static void test_threads_and_single_steps_change_no_bit(void) {
    problem p, q;
    problem_large(&p), problem_large(&q);
    lopt_optimizer *opt = make(&p, LOPT_AVERAGE_GROWING, 3, 3), *other = make(&q, LOPT_AVERAGE_GROWING, 3, 1);
    for (int step = 0; step < 5; step++) {
        problem_gradient(&p, step), problem_gradient(&q, step);
        CHECK_OK(lopt_step(opt));
        for (int i = q.count; i-- > 0;) CHECK_OK(lopt_step_tensor(other, i));
    }
    snapshot s = snapshot_of(other, LOPT_WITH_PARAMETERS);
    CHECK_SAME_STATE(opt, &s);
    snapshot_free(&s);
    lopt_destroy(opt), lopt_destroy(other);
    problem_free(&p), problem_free(&q);
}

/* In and out, at any address of floats: the bits of both, whatever they are. In between nothing that would mix them up. */
static void test_swapping_twice_gives_the_bits_back(void) {
    static float unaligned[64 + 1], gradient[64], average[64], parameter[64], now[64], *parameters[2], *gradients[2];
    float *w = (float *)(void *)((char *)unaligned + 1), late[3] = {1, 2, 3}, late_gradient[3] = {1, 1, 1};
    lopt_options options = problem_options();
    lopt_optimizer *opt;
    options.average = LOPT_AVERAGE_GROWING;
    CHECK_OK(lopt_create(NULL, &options, &opt));
    for (int j = 0; j < 64; j++) {
        float start = j == 5 ? NAN : j == 6 ? -INFINITY : j == 7 ? 1e-42f : problem_random(1, (uint64_t)j);
        memcpy((char *)w + 4 * j, &start, 4), gradient[j] = problem_random(2, (uint64_t)j);
    }
    CHECK_OK(lopt_add_tensor(opt, "w", w, gradient, (int64_t[]){8, 8}, 2, NULL));
    for (int step = 0; step < 3; step++) CHECK_OK(lopt_step(opt));
    CHECK_OK(lopt_add_tensor(opt, "late", late, late_gradient, (int64_t[]){3}, 1, NULL));
    memcpy(parameter, (char *)w, sizeof parameter);
    CHECK_OK(lopt_average_get(opt, 0, average, 64));
    snapshot before = snapshot_of(opt, LOPT_WITH_PARAMETERS);

    CHECK_OK(lopt_average_swap(opt));
    CHECK_BYTES(w, average, sizeof average);
    CHECK(memcmp(parameter, average, sizeof average) != 0 && late[0] == 1 && late[2] == 3);
    memset(now, 0, sizeof now);
    CHECK_OK(lopt_average_get(opt, 0, now, 64));
    CHECK_BYTES(now, average, sizeof average);
    parameters[0] = w, parameters[1] = late, gradients[0] = gradient, gradients[1] = late_gradient;
    size_t size = 7;
    const lopt_status refusals[] = {
        lopt_step(opt), lopt_step_tensor(opt, 0), lopt_step_tensor(opt, 1), lopt_step_with(opt, 2, parameters, gradients),
        lopt_save(opt, "never-written", 0), lopt_restore(opt, "never-written", 0), lopt_state_size(opt, 0, &size),
        lopt_state_write(opt, 0, before.bytes, before.size), lopt_state_read(opt, 1, before.bytes, before.size),
    };
    for (size_t r = 0; r < sizeof refusals / sizeof *refusals; r++) {
        check_context("refusal %zu", r);
        CHECK_INT(refusals[r], r == 5 ? LOPT_ERROR_IO : LOPT_ERROR_INVALID_ARGUMENT); /* there is no such file */
    }
    check_context("");
    CHECK_MESSAGE("lopt_average_swap"), CHECK_INT(size, 7);
    CHECK_BYTES(w, average, sizeof average);

    CHECK_OK(lopt_average_swap(opt));
    CHECK_BYTES(w, parameter, sizeof parameter);
    CHECK_SAME_STATE(opt, &before);
    CHECK_OK(lopt_step(opt));

    /* Where a parameter is not there nothing is swapped. */
    memcpy(parameter, (char *)w, sizeof parameter);
    CHECK_OK(lopt_bind(opt, 1, NULL, NULL));
    CHECK_STATUS(lopt_average_swap(opt), LOPT_ERROR_INVALID_ARGUMENT);
    CHECK_MESSAGE("parameter of tensor 'late' is NULL");
    CHECK_BYTES(w, parameter, sizeof parameter);
    CHECK_OK(lopt_bind(opt, 1, late, late_gradient));

    /* A training that ends so ends with the averages. */
    CHECK_OK(lopt_average_get(opt, 0, average, 64));
    CHECK_OK(lopt_average_swap(opt));
    snapshot_free(&before);
    lopt_destroy(opt);
    CHECK_BYTES(w, average, sizeof average);
}

/* An element that was NaN or a mask for a while. */
static void test_strange_element_leaves_nothing_behind(int32_t kind) {
    problem p;
    problem_small(&p);
    lopt_optimizer *opt = make(&p, kind, 0, 1);
    static const float strange[] = {NAN, INFINITY, -INFINITY, 3e38f};
    for (int s = 0; s < 4; s++) {
        float *w = p.tensors[2].parameter, kept = w[11];
        problem_gradient(&p, 2 * s);
        w[11] = strange[s];
        CHECK_OK(lopt_step(opt));
        float *average = average_of(opt, &p, 2);
        if (s < 3) CHECK(memcmp(&average[11], &w[11], 4) == 0);
        for (int64_t j = 0; j < p.tensors[2].elements; j++) CHECK(j == 11 || fabsf(average[j]) < 1);
        free(average);
        w[11] = kept;
        if (s < 3) {
            problem_train(&p, opt, 2 * s + 1, 2 * s + 2);
            average = average_of(opt, &p, 2);
            CHECK_NEAR(average[11], w[11], 0);
            free(average);
        }
    }
    lopt_destroy(opt);
    problem_free(&p);
}

/* Resuming gives the same bits; a checkpoint without averages begins them anew; one with them goes without. */
static void test_resuming_gives_the_same_averages(int32_t kind) {
    problem p, q, r;
    problem_large(&p), problem_large(&q), problem_large(&r);
    lopt_optimizer *opt = make(&p, kind, 5, 1), *other = make(&q, kind, 5, 2), *plain = make(&r, LOPT_AVERAGE_NONE, 0, 1);
    problem_train(&p, opt, 0, 4), problem_train(&q, other, 0, 1);
    snapshot s = snapshot_of(opt, LOPT_WITH_PARAMETERS);
    CHECK_OK(lopt_state_read(other, LOPT_WITH_PARAMETERS, s.bytes, s.size));
    CHECK_SAME_STATE(other, &s);
    CHECK_OK(lopt_state_read(plain, LOPT_WITH_PARAMETERS, s.bytes, s.size));
    problem_train(&p, opt, 4, 6), problem_train(&q, other, 4, 6), problem_train(&r, plain, 4, 6);
    snapshot after = snapshot_of(opt, LOPT_WITH_PARAMETERS), without = snapshot_of(plain, LOPT_WITH_PARAMETERS);
    CHECK_SAME_STATE(other, &after);
    CHECK(without.size < after.size);
    CHECK_OK(lopt_state_read(other, LOPT_WITH_PARAMETERS, without.bytes, without.size));
    for (int step = 0; step < 2; step++) {
        for (int i = 0; i < q.count; i++) {
            float *average = average_of(other, &q, i);
            CHECK_BITS(average, q.tensors[i].parameter, q.tensors[i].elements);
            free(average);
        }
        if (step == 0) problem_train(&q, other, 6, 7);
    }
    snapshot_free(&s), snapshot_free(&after), snapshot_free(&without);
    lopt_destroy(opt), lopt_destroy(other), lopt_destroy(plain);
    problem_free(&p), problem_free(&q), problem_free(&r);
}

static int allowed;
static void *allocate(void *context, size_t size, size_t alignment) {
    (void)context;
    return allowed-- > 0 ? aligned_alloc(alignment, (size + alignment - 1) / alignment * alignment) : NULL;
}
static void deallocate(void *context, void *pointer, size_t size) { (void)context, (void)size, free(pointer); }

/* 4 bytes a parameter, counted; where they are not to be had the tensor is not added. */
static void test_memory_is_four_bytes_a_parameter(void) {
    problem p, q;
    problem_large(&p), problem_large(&q);
    lopt_optimizer *opt = make(&p, LOPT_AVERAGE_EMA, 0, 1), *plain = make(&q, LOPT_AVERAGE_NONE, 0, 1);
    lopt_information with = information_of(opt), without = information_of(plain);
    CHECK_INT(with.state_bytes - without.state_bytes, 4 * with.parameters);
    CHECK(with.memory_bytes - without.memory_bytes >= 4 * with.parameters);
    CHECK(with.memory_bytes - without.memory_bytes <= 4 * with.parameters + 256 * p.count);
    lopt_destroy(opt), lopt_destroy(plain);

    lopt_options options = problem_options();
    options.average = LOPT_AVERAGE_GROWING;
    options.allocator.allocate = allocate, options.allocator.deallocate = deallocate;
    allowed = 1000;
    CHECK_OK(lopt_create(NULL, &options, &opt));
    CHECK_OK(problem_register_one(&p, 2, opt));
    CHECK_OK(lopt_step(opt));
    snapshot s = snapshot_of(opt, LOPT_WITH_PARAMETERS);
    with = information_of(opt);
    allowed = 0;
    CHECK_STATUS(problem_register_one(&p, 5, opt), LOPT_ERROR_NO_MEMORY);
    allowed = 1000;
    lopt_information now = information_of(opt);
    CHECK_BYTES(&now, &with, sizeof now);
    CHECK_SAME_STATE(opt, &s);
    snapshot_free(&s);
    lopt_destroy(opt);
    problem_free(&p), problem_free(&q);
}

/* Every element has one, however a tensor is cut: after the first step it is the parameter. */
static void test_every_element_has_an_average(void) {
    static const int64_t shapes[][3] = {{9, 4000, 1}, {13, 2600, 1}, {1, 32769, 1}, {32768, 1, 1}, {5, 3, 2500}, {3, 9000, 2}, {2, 2, 17000}};
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++) {
        for (int threads = 1; threads <= 2; threads++) {
            problem p = {.count = 0};
            problem_add(&p, "w", 3, shapes[s]);
            problem_start(&p);
            lopt_optimizer *opt = make(&p, LOPT_AVERAGE_EMA, 0, threads);
            problem_gradient(&p, 0);
            CHECK_OK(lopt_step(opt));
            float *average = average_of(opt, &p, 0);
            check_context("%s, shape %zu", weights, s);
            CHECK_BITS(average, p.tensors[0].parameter, p.tensors[0].elements);
            free(average);
            lopt_destroy(opt), problem_free(&p);
        }
    }
    check_context("");
}

int main(void) {
    test_average_follows_its_formula(LOPT_AVERAGE_GROWING, 0, 1), test_average_follows_its_formula(LOPT_AVERAGE_GROWING, 1, 3);
    test_average_follows_its_formula(LOPT_AVERAGE_EMA, 4, 2);
    test_average_follows_its_formula(LOPT_AVERAGE_EMA, 0, 1), test_average_follows_its_formula(LOPT_AVERAGE_EMA, 1, 1);
    test_threads_and_single_steps_change_no_bit();
    test_every_element_has_an_average();
    test_swapping_twice_gives_the_bits_back();
    test_strange_element_leaves_nothing_behind(LOPT_AVERAGE_GROWING);
    test_strange_element_leaves_nothing_behind(LOPT_AVERAGE_EMA);
    test_resuming_gives_the_same_averages(LOPT_AVERAGE_GROWING), test_resuming_gives_the_same_averages(LOPT_AVERAGE_EMA);
    test_memory_is_four_bytes_a_parameter();
    weights = "made pooled";
    test_every_element_has_an_average();
    test_average_follows_its_formula(LOPT_AVERAGE_GROWING, 0, 2), test_average_follows_its_formula(LOPT_AVERAGE_EMA, 4, 1);
    test_threads_and_single_steps_change_no_bit();
    test_strange_element_leaves_nothing_behind(LOPT_AVERAGE_GROWING);
    test_resuming_gives_the_same_averages(LOPT_AVERAGE_EMA);
    test_memory_is_four_bytes_a_parameter();
    return check_end();
}
