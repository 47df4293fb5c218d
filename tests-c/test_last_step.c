/* lopt_stats of all tensors is of the last step alone: of those that were stepped in it, whatever the others did before. */
#include "problem.h"

enum { TENSORS = 4, N = 12 };

static float parameters[TENSORS][N], gradients[TENSORS][N];

static lopt_optimizer *make(lopt_nonfinite policy) {
    lopt_options options = problem_options();
    lopt_optimizer *opt;
    char name[8];
    options.nonfinite = (int32_t)policy;
    CHECK_OK(lopt_create(NULL, &options, &opt));
    for (int i = 0; i < TENSORS; i++) {
        snprintf(name, sizeof name, "%d", i);
        for (int j = 0; j < N; j++) parameters[i][j] = (float)(i + 1), gradients[i][j] = 10.0f * (float)(i + 1);
        CHECK_OK(lopt_add_tensor(opt, name, parameters[i], gradients[i], (int64_t[]){N / (1 + i % 2)}, 1, NULL));
    }
    return opt;
}

/* The last step was that of these tensors: their numbers as they are one by one, weighted by their sizes. */
static void check_last(const lopt_optimizer *opt, unsigned members, int line) {
    lopt_statistics all = statistics_of(opt, -1);
    double gradient = 0, update = 0, parameter = 0, elements = 0;
    for (int i = 0; i < TENSORS; i++) {
        if (!(members >> i & 1)) continue;
        lopt_statistics s = statistics_of(opt, i);
        double count = N / (1 + i % 2);
        gradient += count * s.gradient_rms * s.gradient_rms, update += count * s.update_rms * s.update_rms;
        parameter += count * s.parameter_rms * s.parameter_rms, elements += count;
    }
    if (elements == 0) elements = 1;
    check_context("line %d, members %u", line, members);
    CHECK_NEAR(all.gradient_rms, sqrt(gradient / elements), 1e-9 * sqrt(gradient));
    CHECK_NEAR(all.update_rms, sqrt(update / elements), 1e-9 * sqrt(update));
    CHECK_NEAR(all.parameter_rms, sqrt(parameter / elements), 1e-9 * sqrt(parameter));
    CHECK((all.gradient_rms > 0) == (members != 0));
    check_context("");
}

#define CHECK_LAST(opt, members) check_last(opt, members, __LINE__)

static void set(int i, float value) {
    for (int j = 0; j < N; j++) gradients[i][j] = value;
}

static void set_frozen(lopt_optimizer *opt, int32_t index, int frozen) {
    lopt_tensor_options options;
    CHECK_OK(lopt_tensor_options_init(&options, sizeof options));
    options.frozen = frozen;
    CHECK_OK(lopt_set_tensor_options(opt, index, &options));
}

/* Tensors that are frozen, idle or skipped, in every combination, after a step of all. */
static void test_numbers_are_of_what_was_stepped(void) {
    for (unsigned left_out = 0; left_out < 81; left_out++) {
        lopt_optimizer *opt = make(LOPT_NONFINITE_SKIP_TENSOR);
        unsigned members = 15, code = left_out;
        int skipped = 0;
        CHECK_LAST(opt, 0);
        CHECK_OK(lopt_step(opt));
        CHECK_LAST(opt, 15);
        for (int i = 0; i < TENSORS; i++, code /= 3) {
            if (code % 3 == 0) continue;
            members &= ~(1u << i);
            if (i % 2 == 0) {
                code % 3 == 1 ? set(i, 0) : set_frozen(opt, i, 1);
            } else {
                code % 3 == 1 ? set(i, NAN) : set_frozen(opt, i, 1);
                skipped |= code % 3 == 1;
            }
        }
        CHECK_STATUS(lopt_step(opt), skipped ? LOPT_SKIPPED_NONFINITE : LOPT_OK);
        CHECK_LAST(opt, members);
        lopt_destroy(opt);
    }
}

/* A step that was not taken leaves the numbers of the one before. */
static void test_step_not_taken_leaves_the_numbers(void) {
    for (int policy = 0; policy < 3; policy++) {
        if (policy == LOPT_NONFINITE_SKIP_TENSOR) continue;
        lopt_optimizer *opt = make((lopt_nonfinite)policy);
        CHECK_OK(lopt_step(opt));
        set_frozen(opt, 3, 1);
        CHECK_OK(lopt_step(opt));
        CHECK_LAST(opt, 7);
        set_frozen(opt, 3, 0), set(1, INFINITY), set(0, 0);
        CHECK(lopt_step(opt) != LOPT_OK);
        CHECK(lopt_step_tensor(opt, 1) != LOPT_OK);
        CHECK_STATUS(lopt_step_tensor(opt, 99), LOPT_ERROR_INVALID_ARGUMENT);
        CHECK_LAST(opt, 7);
        lopt_destroy(opt);
    }
}

/* Tensor by tensor: what the turn has stepped so far, which ends where a tensor comes again. */
static void test_turn_ends_where_a_tensor_comes_again(void) {
    lopt_optimizer *opt = make(LOPT_NONFINITE_SKIP_STEP);
    static const int order[] = {0, 1, 2, 3, 3, 1, 3, 0, 2, 1, 1, 1, 0};
    static const unsigned turn[] = {1, 3, 7, 15, 8, 10, 8, 9, 13, 15, 2, 2, 3};
    CHECK_OK(lopt_step(opt));
    for (size_t i = 0; i < sizeof order / sizeof *order; i++) {
        set(order[i], (float)(i + 3));
        CHECK_OK(lopt_step_tensor(opt, order[i]));
        CHECK_LAST(opt, turn[i]);
    }
    /* What is frozen takes no part; what is idle does, without numbers. */
    set_frozen(opt, 2, 1);
    CHECK_OK(lopt_step_tensor(opt, 2));
    CHECK_LAST(opt, 3);
    set(3, 0);
    CHECK_OK(lopt_step_tensor(opt, 3));
    CHECK_LAST(opt, 3);
    CHECK_OK(lopt_step_tensor(opt, 3));
    CHECK_LAST(opt, 0);
    CHECK_OK(lopt_step(opt));
    CHECK_LAST(opt, 3);
    CHECK_OK(lopt_step_tensor(opt, 1));
    CHECK_LAST(opt, 2);
    CHECK_OK(lopt_step(opt));
    CHECK_LAST(opt, 3);
    lopt_destroy(opt);
}

int main(void) {
    test_numbers_are_of_what_was_stepped();
    test_step_not_taken_leaves_the_numbers();
    test_turn_ends_where_a_tensor_comes_again();
    return check_end();
}
