/* A tensor whose gradient is 0 everywhere is idle in that step: with the built-in weights it stays as it is, to the bit, however
 * long that lasts, and what follows is as if the steps had not been. The authors' rule steps it, as their code does. */
#include "problem.h"

static lopt_optimizer *make(const char *weights_name, int threads, double decay, problem *p) {
    lopt_options options = problem_options();
    options.threads = threads, options.weight_decay = decay;
    return problem_optimizer(p, weights_name, &options);
}

static void rest(problem *p, int i, int denormal) {
    for (int64_t j = 0; j < p->tensors[i].elements; j++) {
        p->tensors[i].gradient[j] = denormal ? 1e-40f * problem_random(5, (uint64_t)j) : j % 2 ? -0.0f : 0;
    }
}

/* Tensors that are idle now and then, in one lopt_step, come out as if lopt_step_tensor had been called for the others alone:
 * heads in turn, experts, unused branches. */
static void test_idle_step_is_as_if_not_taken(int threads, double guard) {
    problem p, q;
    problem_large(&p), problem_large(&q);
    lopt_options options = problem_options();
    lopt_optimizer *whole, *single;
    options.threads = threads, options.max_update_ratio = guard;
    CHECK_OK(lopt_create(NULL, &options, &whole)), CHECK_OK(lopt_create(NULL, &options, &single));
    problem_register(&p, whole), problem_register(&q, single);
    int64_t idle = 0;
    for (int step = 0; step < 12; step++) {
        problem_gradient(&p, step), problem_gradient(&q, step);
        for (int i = 0; i < p.count; i++) {
            /* The first step of some, stretches of several steps, single steps, all of them at once. */
            int is_idle = step == 7 || (step / (1 + i % 3) + i) % 3 == 0;
            if (is_idle) rest(&p, i, step % 2), idle++;
            if (!is_idle) CHECK_OK(lopt_step_tensor(single, i));
        }
        CHECK_OK(lopt_step(whole));
    }
    CHECK_INT(statistics_of(whole, -1).steps_idle, idle);
    CHECK_INT(statistics_of(single, -1).steps_idle, 0);
    snapshot s = snapshot_of(single, LOPT_WITH_PARAMETERS);
    CHECK_SAME_STATE(whole, &s);
    snapshot_free(&s);
    lopt_destroy(whole), lopt_destroy(single);
    problem_free(&p), problem_free(&q);
}

/* Zeros before, in the middle and at the end of a training change nothing of it. */
static void test_any_number_of_zeros_changes_nothing(void) {
    problem p, q;
    problem_small(&p), problem_small(&q);
    lopt_optimizer *opt = make("star", 1, 0, &p), *plain = make("star", 1, 0, &q);
    for (int part = 0; part < 3; part++) {
        for (int i = 0; i < p.count; i++) rest(&p, i, 0);
        for (int step = 0; step < check_repetitions(5000, 200); step++) CHECK_OK(lopt_step(opt));
        if (part < 2) problem_train(&p, opt, 10 * part, 10 * part + 10), problem_train(&q, plain, 10 * part, 10 * part + 10);
    }
    snapshot s = snapshot_of(plain, LOPT_WITH_PARAMETERS);
    CHECK_SAME_STATE(opt, &s);
    lopt_statistics now = statistics_of(opt, 0);
    CHECK_INT(now.steps, 20);
    CHECK_NEAR(now.gradient_rms, 0, 0), CHECK_NEAR(now.update_rms, 0, 0);
    CHECK(now.parameter_rms > 0 && now.step_size > 0);
    snapshot_free(&s);
    lopt_destroy(opt), lopt_destroy(plain);
    problem_free(&p), problem_free(&q);
}

/* The caller's weight decay goes on, by the step size of the tensor's last step; before the first there is none. */
static void test_decay_of_the_caller_goes_on(void) {
    problem p;
    problem_large(&p);
    lopt_optimizer *opt = make("star", 3, 0.5, &p);
    for (int i = 0; i < p.count; i++) rest(&p, i, 0);
    snapshot s = snapshot_of(opt, LOPT_WITH_PARAMETERS);
    CHECK_OK(lopt_step(opt));
    CHECK_SAME_STATE(opt, &s);
    snapshot_free(&s);
    problem_train(&p, opt, 0, 3);
    for (int i = 0; i < p.count; i++) {
        int64_t n = p.tensors[i].elements;
        float *before = check_memory(4 * (size_t)n);
        memcpy(before, p.tensors[i].parameter, 4 * (size_t)n);
        rest(&p, i, 0);
        for (int step = 0; step < 3; step++) CHECK_OK(lopt_step_tensor(opt, i));
        double keep = pow(1 - 0.5 * statistics_of(opt, i).step_size, 3), worst = 0;
        for (int64_t j = 0; j < n; j++) worst = fmax(worst, fabs(p.tensors[i].parameter[j] - keep * before[j]));
        check_context("tensor %s", p.tensors[i].name);
        CHECK(keep < 1);
        CHECK_NEAR(worst, 0, 3e-7);
        free(before);
    }
    check_context("");
    lopt_destroy(opt);
    problem_free(&p);
}

/* The authors' rule is the authors' rule: momenta decay and go on moving the parameters. */
static void test_authors_rule_steps_idle_tensors(void) {
    problem p;
    problem_small(&p);
    lopt_optimizer *opt = make("star-authors-rule", 1, 0, &p);
    problem_train(&p, opt, 0, 3);
    float before = p.tensors[1].parameter[0];
    for (int i = 0; i < p.count; i++) rest(&p, i, 0);
    CHECK_OK(lopt_step(opt));
    CHECK(p.tensors[1].parameter[0] != before);
    CHECK_INT(statistics_of(opt, 1).steps, 4), CHECK_INT(statistics_of(opt, 1).steps_idle, 0);
    lopt_destroy(opt);
    problem_free(&p);
}

int main(void) {
    test_idle_step_is_as_if_not_taken(1, 0), test_idle_step_is_as_if_not_taken(3, 0), test_idle_step_is_as_if_not_taken(1, 0.01);
    test_any_number_of_zeros_changes_nothing();
    test_decay_of_the_caller_goes_on();
    test_authors_rule_steps_idle_tensors();
    return check_end();
}
