/* Gradients that are not finite: each policy does what it says, the counters count, and nothing is poisoned. */
#define _GNU_SOURCE
#include "problem.h"

typedef struct bad_number {
    const char *name;
    uint32_t bits;
} bad_number;

static const bad_number bad_numbers[] = {
    {"NaN", 0x7fc00000}, {"-NaN", 0xffc00000}, {"a signalling NaN", 0x7f800001}, {"a NaN of all ones", 0xffffffff},
    {"infinity", 0x7f800000}, {"-infinity", 0xff800000}, {"2^51", 0x59000000}, {"-2^51", 0xd9000000},
    {"the next above 2^50", 0x58800001}, {"the largest", 0x7f7fffff}, {"the least", 0xff7fffff},
};
enum { BAD_NUMBERS = sizeof bad_numbers / sizeof *bad_numbers };

static void put(float *at, uint32_t bits) { memcpy(at, &bits, 4); }

static lopt_optimizer *make(int32_t policy, int32_t threads, problem *p) {
    lopt_options options = problem_options();
    lopt_optimizer *opt;
    options.nonfinite = policy;
    options.threads = threads;
    CHECK_OK(lopt_create(NULL, &options, &opt));
    problem_register(p, opt);
    return opt;
}

/* Where in a tensor a bad element is put: in the first and last vector, and around the borders of chunks. */
static int64_t place(int64_t elements, int which) {
    static const int64_t places[] = {0, 1, 15, 16, 17, 32767, 32768, 65535};
    int64_t at = which < 8 ? places[which] : elements - 1 - (which - 8);
    return at >= 0 && at < elements ? at : elements / 2;
}
enum { PLACES = 12 };

/* Every bad number somewhere, every place with some bad number. Two gradients in three are bad. */
static void test_bad_gradient_skips_the_whole_step(int32_t threads) {
    problem p, q;
    problem_large(&p), problem_large(&q);
    lopt_optimizer *opt = make(LOPT_NONFINITE_SKIP_STEP, threads, &p);
    lopt_optimizer *never = make(LOPT_NONFINITE_SKIP_STEP, 1, &q);
    int bad_steps = 0;
    int64_t bad_elements[PROBLEM_MOST] = {0};
    for (int step = 0; step < 6; step++) {
        problem_gradient(&p, step);
        for (int repeat = 0; repeat < 14; repeat++) {
            int which = bad_steps % p.count;
            problem_tensor *t = &p.tensors[which];
            int64_t at = place(t->elements, bad_steps % PLACES);
            const bad_number *bad = &bad_numbers[bad_steps % BAD_NUMBERS];
            float good = t->gradient[at];
            char element[32];
            check_context("%s in %s at %d", bad->name, t->name, (int)at);
            put(&t->gradient[at], bad->bits);
            CHECK_STATUS(lopt_step(opt), LOPT_SKIPPED_NONFINITE);
            snprintf(element, sizeof element, "element %d;", (int)at);
            CHECK_MESSAGE(t->name);
            CHECK_MESSAGE(element);
            CHECK_MESSAGE("2^50");
            t->gradient[at] = good;
            bad_elements[which]++, bad_steps++;
        }
        CHECK_OK(lopt_step(opt));
    }
    problem_train(&q, never, 0, 6);
    int64_t all = 0;
    for (int i = 0; i < p.count; i++) {
        check_context("tensor %s, %d threads", p.tensors[i].name, threads);
        CHECK_BITS(p.tensors[i].parameter, q.tensors[i].parameter, p.tensors[i].elements);
        lopt_statistics s = statistics_of(opt, i);
        CHECK_INT(s.steps, 6);
        CHECK_INT(s.steps_skipped, bad_steps);
        CHECK_INT(s.nonfinite, bad_elements[i]);
        all += bad_elements[i];
    }
    CHECK_INT(statistics_of(opt, -1).steps_skipped, bad_steps);
    CHECK_INT(statistics_of(opt, -1).nonfinite, all);
    check_context("");
    lopt_destroy(opt), lopt_destroy(never);
    problem_free(&p), problem_free(&q);
}

/* Three elements of one tensor are bad; the others are stepped as if each had been stepped by itself. */
static void test_bad_gradient_skips_its_tensor_alone(int32_t threads) {
    problem p, q;
    problem_large(&p), problem_large(&q);
    lopt_optimizer *opt = make(LOPT_NONFINITE_SKIP_TENSOR, threads, &p);
    lopt_optimizer *expected = make(LOPT_NONFINITE_SKIP_STEP, 1, &q);
    int skipped[PROBLEM_MOST] = {0};
    for (int step = 0; step < 2 * BAD_NUMBERS; step++) {
        int bad = step % p.count;
        problem_tensor *t = &p.tensors[bad];
        problem_gradient(&p, step), problem_gradient(&q, step);
        put(&t->gradient[0], bad_numbers[step % BAD_NUMBERS].bits);
        put(&t->gradient[t->elements - 1], bad_numbers[step % BAD_NUMBERS].bits);
        put(&t->gradient[t->elements / 2], 0x7f800000);
        check_context("step %d", step);
        CHECK_STATUS(lopt_step(opt), LOPT_SKIPPED_NONFINITE);
        CHECK_MESSAGE(t->name);
        skipped[bad]++;
        for (int i = 0; i < q.count; i++) {
            if (i != bad) CHECK_OK(lopt_step_tensor(expected, i));
        }
    }
    for (int i = 0; i < p.count; i++) {
        check_context("tensor %s, %d threads", p.tensors[i].name, threads);
        CHECK_BITS(p.tensors[i].parameter, q.tensors[i].parameter, p.tensors[i].elements);
        lopt_statistics s = statistics_of(opt, i);
        int64_t bad_each = p.tensors[i].elements >= 3 ? 3 : 1;
        CHECK_INT(s.steps, 2 * BAD_NUMBERS - skipped[i]);
        CHECK_INT(s.steps_skipped, skipped[i]);
        CHECK_INT(s.nonfinite, bad_each * skipped[i]);
    }
    check_context("");
    lopt_destroy(opt), lopt_destroy(expected);
    problem_free(&p), problem_free(&q);
}

/* Under the policy of errors nothing changes at all, not even a counter. */
static void test_bad_gradient_is_an_error_that_changes_nothing(int32_t threads) {
    problem p;
    problem_large(&p);
    lopt_optimizer *opt = make(LOPT_NONFINITE_ERROR, threads, &p);
    problem_train(&p, opt, 0, 2);
    snapshot before = snapshot_of(opt, LOPT_WITH_PARAMETERS);
    for (int i = 0; i < p.count * BAD_NUMBERS; i++) {
        problem_tensor *t = &p.tensors[i % p.count];
        int64_t at = place(t->elements, i % PLACES);
        const bad_number *bad = &bad_numbers[i % BAD_NUMBERS];
        float good = t->gradient[at];
        check_context("%s in %s at %d", bad->name, t->name, (int)at);
        put(&t->gradient[at], bad->bits);
        CHECK_STATUS(lopt_step(opt), LOPT_ERROR_NONFINITE);
        CHECK_MESSAGE(t->name);
        CHECK_STATUS(lopt_step_tensor(opt, i % p.count), LOPT_ERROR_NONFINITE);
        CHECK_MESSAGE(t->name);
        t->gradient[at] = good;
        if (i % 11 == 0) CHECK_SAME_STATE(opt, &before);
    }
    CHECK_SAME_STATE(opt, &before);
    check_context("");
    snapshot_free(&before);
    lopt_destroy(opt);
    problem_free(&p);
}

/* One tensor at a time: its gradient alone is looked at. */
static void test_step_of_one_tensor_looks_at_its_gradient_alone(int32_t policy) {
    problem p, q;
    problem_small(&p), problem_small(&q);
    lopt_optimizer *opt = make(policy, 1, &p), *never = make(policy, 1, &q);
    for (int step = 0; step < 4; step++) {
        problem_gradient(&p, step), problem_gradient(&q, step);
        problem_tensor *t = &p.tensors[2];
        float good = t->gradient[5];
        put(&t->gradient[5], 0x7fc00000);
        for (int i = 0; i < p.count; i++) {
            CHECK_STATUS(lopt_step_tensor(opt, i), i == 2 ? LOPT_SKIPPED_NONFINITE : LOPT_OK);
        }
        t->gradient[5] = good;
        CHECK_OK(lopt_step_tensor(opt, 2));
        CHECK_OK(lopt_step(never));
    }
    for (int i = 0; i < p.count; i++) {
        check_context("policy %d, tensor %s", policy, p.tensors[i].name);
        CHECK_BITS(p.tensors[i].parameter, q.tensors[i].parameter, p.tensors[i].elements);
        lopt_statistics s = statistics_of(opt, i);
        CHECK_INT(s.steps, 4);
        CHECK_INT(s.steps_skipped, i == 2 ? 4 : 0);
        CHECK_INT(s.nonfinite, i == 2 ? 4 : 0);
    }
    check_context("");
    lopt_destroy(opt), lopt_destroy(never);
    problem_free(&p), problem_free(&q);
}

/* All elements of all tensors at once. */
static void test_gradients_all_bad_are_skipped(void) {
    for (int32_t policy = 0; policy <= 1; policy++) {
        problem p;
        problem_large(&p);
        lopt_optimizer *opt = make(policy, 2, &p);
        problem_train(&p, opt, 0, 1);
        snapshot parameters = snapshot_of(opt, LOPT_WITH_PARAMETERS);
        int64_t all = 0;
        for (int i = 0; i < p.count; i++) {
            problem_tensor *t = &p.tensors[i];
            for (int64_t j = 0; j < t->elements; j++) put(&t->gradient[j], bad_numbers[j % BAD_NUMBERS].bits);
            all += t->elements;
        }
        check_context("policy %d", policy);
        CHECK_STATUS(lopt_step(opt), LOPT_SKIPPED_NONFINITE);
        CHECK_INT(statistics_of(opt, -1).nonfinite, all);
        CHECK_INT(statistics_of(opt, -1).steps, 1);
        CHECK_INT(statistics_of(opt, -1).steps_skipped, 1);
        /* The counters are part of the state: reading the old one back must put them back too, and nothing else. */
        CHECK_OK(lopt_state_read(opt, 0, parameters.bytes, parameters.size));
        CHECK_SAME_STATE(opt, &parameters);
        snapshot_free(&parameters);
        lopt_destroy(opt);
        problem_free(&p);
    }
    check_context("");
}

/* 2^50 itself and everything below counts as finite: the step is taken, and parameters and state stay finite. */
static void test_largest_allowed_gradient_is_taken(void) {
    static const uint32_t allowed[] = {0x58800000, 0xd8800000, 0x5a000000 - 0x02000000, 0x00000001, 0x80000001, 0};
    for (size_t k = 0; k < sizeof allowed / sizeof *allowed; k++) {
        problem p;
        problem_large(&p);
        lopt_optimizer *opt = make(LOPT_NONFINITE_ERROR, 2, &p);
        check_context("gradient bits %08x", (unsigned)allowed[k]);
        for (int step = 0; step < 3; step++) {
            problem_gradient(&p, step);
            for (int i = 0; i < p.count; i++) {
                problem_tensor *t = &p.tensors[i];
                for (int64_t j = 0; j < t->elements && step == 1; j += 1 + (int64_t)(k % 2) * 7) {
                    put(&t->gradient[j], allowed[k]);
                }
            }
            CHECK_OK(lopt_step(opt));
        }
        for (int i = 0; i < p.count; i++) {
            int64_t finite = 0;
            for (int64_t j = 0; j < p.tensors[i].elements; j++) finite += isfinite(p.tensors[i].parameter[j]) != 0;
            CHECK_INT(finite, p.tensors[i].elements);
            lopt_statistics s = statistics_of(opt, i);
            CHECK_INT(s.nonfinite, 0);
            CHECK(isfinite(s.gradient_rms) && isfinite(s.update_rms) && isfinite(s.parameter_rms));
        }
        lopt_destroy(opt);
        problem_free(&p);
    }
    check_context("");
}

/* A frozen tensor's gradient is nobody's concern. */
static void test_gradient_of_a_frozen_tensor_is_not_looked_at(void) {
    for (int32_t policy = 0; policy <= 2; policy++) {
        problem p;
        lopt_tensor_options frozen;
        problem_small(&p);
        lopt_optimizer *opt = make(policy, 1, &p);
        CHECK_OK(lopt_tensor_options_init(&frozen, sizeof frozen));
        frozen.frozen = 1;
        CHECK_OK(lopt_set_tensor_options(opt, 3, &frozen));
        problem_gradient(&p, 0);
        put(&p.tensors[3].gradient[0], 0x7fc00000);
        CHECK_OK(lopt_step(opt));
        CHECK_OK(lopt_step_tensor(opt, 3));
        CHECK_INT(statistics_of(opt, 3).nonfinite, 0);
        put(&p.tensors[1].gradient[0], 0x7fc00000);
        CHECK_STATUS(lopt_step(opt), policy == LOPT_NONFINITE_ERROR ? LOPT_ERROR_NONFINITE : LOPT_SKIPPED_NONFINITE);
        CHECK_MESSAGE(p.tensors[1].name);
        CHECK_INT(statistics_of(opt, 3).steps_skipped, 0);
        lopt_destroy(opt);
        problem_free(&p);
    }
}

static void step_with_parameter(void *bits) {
    problem p;
    problem_large(&p);
    lopt_optimizer *opt = make(LOPT_NONFINITE_SKIP_STEP, 2, &p);
    for (int i = 0; i < p.count; i++) put(&p.tensors[i].parameter[p.tensors[i].elements / 2], *(const uint32_t *)bits);
    for (int step = 0; step < 3; step++) {
        for (int i = 0; i < p.count; i++) {
            for (int64_t j = 0; j < p.tensors[i].elements; j++) p.tensors[i].gradient[j] = 0.01f;
        }
        CHECK_OK(lopt_step(opt));
    }
    CHECK(statistics_of(opt, -1).steps == 3);
    lopt_destroy(opt);
    problem_free(&p);
}

/* Parameters are the host's: ones that are not finite stay so, and do not end the process. */
static void test_strange_parameters_stay_and_end_no_process(void) {
    for (int i = 0; i < BAD_NUMBERS; i++) {
        uint32_t bits = bad_numbers[i].bits;
        check_context("%s among the parameters", bad_numbers[i].name);
        CHECK_SURVIVES(step_with_parameter, &bits);
    }
    check_context("");
}

int main(void) {
    test_bad_gradient_skips_the_whole_step(1);
    test_bad_gradient_skips_the_whole_step(4);
    test_bad_gradient_skips_its_tensor_alone(1);
    test_bad_gradient_skips_its_tensor_alone(3);
    test_bad_gradient_is_an_error_that_changes_nothing(1);
    test_bad_gradient_is_an_error_that_changes_nothing(4);
    test_step_of_one_tensor_looks_at_its_gradient_alone(LOPT_NONFINITE_SKIP_STEP);
    test_step_of_one_tensor_looks_at_its_gradient_alone(LOPT_NONFINITE_SKIP_TENSOR);
    test_gradients_all_bad_are_skipped();
    test_largest_allowed_gradient_is_taken();
    test_gradient_of_a_frozen_tensor_is_not_looked_at();
    if (!check_mode("thread")) test_strange_parameters_stay_and_end_no_process();
    return check_end();
}
