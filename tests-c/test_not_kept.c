/* What is no part of a checkpoint: it stays with its optimizer. */
#include "problem.h"

/* The guard, clipping and the counters of what this optimizer has done are no part of a checkpoint: neither given away nor taken. */
static void test_guards_stay_with_their_optimizer(void) {
    problem p, q;
    lopt_options options = problem_options();
    lopt_statistics statistics = {.struct_size = sizeof statistics};
    problem_small(&p), problem_small(&q);
    lopt_optimizer *plain = problem_optimizer(&p, "star", &options);
    options.max_update_ratio = 1e-9, options.max_gradient_norm = 1e-3;
    lopt_optimizer *guarded = problem_optimizer(&q, "star", &options);
    problem_train(&p, plain, 0, 2), problem_train(&q, guarded, 0, 3);
    for (int64_t i = 0; i < q.tensors[2].elements; i++) q.tensors[2].gradient[i] = 0;
    CHECK_OK(lopt_step(guarded));
    snapshot of_plain = snapshot_of(plain, 0), of_guarded = snapshot_of(guarded, 0);
    CHECK_OK(lopt_state_read(plain, 0, of_guarded.bytes, of_guarded.size));
    CHECK_OK(lopt_state_read(guarded, 0, of_plain.bytes, of_plain.size));

    CHECK_OK(lopt_stats(guarded, -1, &statistics));
    int64_t limited = statistics.updates_limited;
    CHECK(statistics.steps == 2 && limited > 0 && statistics.steps_idle == 1);
    CHECK_INT(statistics.steps_clipped, 4);
    problem_train(&p, plain, 4, 5), problem_train(&q, guarded, 4, 5);
    CHECK_OK(lopt_stats(guarded, -1, &statistics));
    CHECK(statistics.updates_limited == limited + q.count && statistics.steps_clipped == 5 && statistics.gradient_norm > 1e-3);
    CHECK_OK(lopt_stats(plain, -1, &statistics));
    CHECK_INT(statistics.steps, 5);
    CHECK(statistics.updates_limited == 0 && statistics.steps_idle == 0 && statistics.steps_clipped == 0);
    CHECK_NEAR(statistics.gradient_norm, 0, 0);
    snapshot_free(&of_plain), snapshot_free(&of_guarded);
    lopt_destroy(plain), lopt_destroy(guarded);
    problem_free(&p), problem_free(&q);
}

/* Weights that know no horizon ignore total_steps: no bit of a training or a checkpoint is of it, and none brings it back. */
static void test_weights_without_a_horizon_ignore_total_steps(const char *weights) {
    problem p, q;
    lopt_options options = problem_options();
    lopt_information information = {.struct_size = sizeof information};
    problem_small(&p), problem_small(&q);
    lopt_optimizer *plain = problem_optimizer(&p, weights, &options);
    options.total_steps = 5;
    lopt_optimizer *told = problem_optimizer(&q, weights, &options);
    problem_train(&p, plain, 0, 4), problem_train(&q, told, 0, 4);
    CHECK_OK(lopt_set_total_steps(told, 1000));
    problem_train(&p, plain, 4, 8), problem_train(&q, told, 4, 8);
    snapshot s = snapshot_of(plain, LOPT_WITH_PARAMETERS);
    CHECK_SAME_STATE(told, &s);
    CHECK_OK(lopt_state_read(told, LOPT_WITH_PARAMETERS, s.bytes, s.size));
    CHECK_OK(lopt_info(told, &information));
    CHECK_INT(information.uses_total_steps, 0);
    CHECK_INT(information.total_steps, 1000);
    snapshot_free(&s);
    lopt_destroy(plain), lopt_destroy(told);
    problem_free(&p), problem_free(&q);
}

int main(void) {
    test_guards_stay_with_their_optimizer();
    test_weights_without_a_horizon_ignore_total_steps("star");
    test_weights_without_a_horizon_ignore_total_steps("star-authors-rule");
    return check_end();
}
