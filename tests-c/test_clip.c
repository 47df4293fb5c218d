/* max_gradient_norm: gradients whose norm over all tensors is above it take the step of gradients that a caller has scaled down to
 * it, others the step that they would take without it; tensors that take no part in a step do not count. */
#include "weights.h"

static lopt_optimizer *make(problem *p, const char *weights, int threads, double scale, double most) {
    lopt_options options = problem_options();
    options.threads = threads, options.gradient_scale = scale, options.max_gradient_norm = most;
    return weights_optimizer(p, weights, &options);
}

/* Every way in which passes go through memory: rows and columns anywhere, short runs, large inner axes, many chunks. */
static void shapes(problem *p) {
    problem_large(p);
    problem_add(p, "inner", 3, (int64_t[]){20, 30, 70}), problem_add(p, "middle", 3, (int64_t[]){40, 3, 50});
    problem_add(p, "short", 2, (int64_t[]){900, 5}), problem_add(p, "row", 2, (int64_t[]){1, 300});
    problem_add(p, "runs", 2, (int64_t[]){3, 9000}), problem_add(p, "empty", 2, (int64_t[]){0, 4});
    problem_start(p);
}

static double norm_of(const problem *p, double scale) {
    double sum = 0;
    for (int i = 0; i < p->count; i++) {
        for (int64_t j = 0; j < p->tensors[i].elements; j++) sum += pow(scale * p->tensors[i].gradient[j], 2);
    }
    return sqrt(sum);
}

/* With a limit of a quarter of the norm the factor is a power of 2: the bits are those of gradients that are a quarter. */
static void test_clipping_multiplies_gradients(const char *weights, int threads, double scale) {
    problem p, q;
    shapes(&p), shapes(&q);
    problem_gradient(&p, 0), problem_gradient(&q, 0);
    check_context("%s, %d threads, scale %g", weights, threads, scale);
    lopt_optimizer *measuring = make(&p, weights, 1, scale, 1e30);
    CHECK_OK(lopt_set_lr_scale(measuring, 0));
    CHECK_OK(lopt_step(measuring));
    double norm = statistics_of(measuring, -1).gradient_norm;
    CHECK_NEAR(norm / norm_of(&p, scale), 1, 3e-7);
    CHECK_INT(statistics_of(measuring, -1).steps_clipped, 0);
    lopt_optimizer *opt = make(&p, weights, threads, scale, norm / 4), *plain = make(&q, weights, 1, scale / 4, 0);
    CHECK_OK(lopt_step(opt)), CHECK_OK(lopt_step(plain));
    CHECK_OK(lopt_set_gradient_scale(opt, 1)), CHECK_OK(lopt_set_gradient_scale(plain, 1));
    snapshot s = snapshot_of(plain, LOPT_WITH_PARAMETERS);
    CHECK_SAME_STATE(opt, &s);
    lopt_statistics of = statistics_of(opt, -1), of_plain = statistics_of(plain, -1);
    CHECK_NEAR(of.gradient_norm, norm, 0), CHECK_INT(of.steps_clipped, 1);
    CHECK_NEAR(of.gradient_rms, of_plain.gradient_rms, 0);
    CHECK_NEAR(statistics_of(opt, 2).gradient_norm, norm, 0);
    CHECK_NEAR(of_plain.gradient_norm, 0, 0);
    snapshot_free(&s);
    lopt_destroy(measuring), lopt_destroy(opt), lopt_destroy(plain);
    problem_free(&p), problem_free(&q);
    check_context("");
}

/* A limit that is seldom reached: steps below it have the bits of no limit, those above are near what a caller who clips gets. */
static void test_steps_below_the_limit_are_not_touched(const char *weights, int threads) {
    problem p, q;
    shapes(&p), shapes(&q);
    double most = 0;
    lopt_optimizer *opt = NULL, *plain = make(&q, weights, 1, 1, 0);
    int clipped = 0, untouched = 1;
    for (int step = 0; step < 8; step++) {
        problem_gradient(&p, step), problem_gradient(&q, step);
        if (step == 0) most = 1.5 * norm_of(&p, 1), opt = make(&p, weights, threads, 1, most);
        double norm = norm_of(&q, 1), burst = step == 3 || step == 6 ? 10 : 1;
        double factor = burst * norm > most ? most / norm : 1;
        for (int i = 0; i < p.count; i++) {
            for (int64_t j = 0; j < p.tensors[i].elements; j++) {
                p.tensors[i].gradient[j] *= (float)burst, q.tensors[i].gradient[j] *= (float)factor;
            }
        }
        clipped += factor != 1, untouched &= factor == 1;
        check_context("%s, %d threads, step %d", weights, threads, step);
        CHECK_OK(lopt_step(opt)), CHECK_OK(lopt_step(plain));
        CHECK_NEAR(statistics_of(opt, -1).gradient_norm / (burst * norm), 1, 1e-5);
        for (int i = 0; i < p.count; i++) {
            const float *a = p.tensors[i].parameter, *b = q.tensors[i].parameter;
            if (untouched) CHECK_BITS(a, b, p.tensors[i].elements);
            double apart = 0;
            for (int64_t j = 0; j < p.tensors[i].elements; j++) apart = fmax(apart, fabs(a[j] - b[j]));
            CHECK_NEAR(apart, 0, 2e-5);
        }
    }
    CHECK_INT(clipped, 2);
    CHECK_INT(statistics_of(opt, -1).steps_clipped, 2);
    check_context("");
    lopt_destroy(opt), lopt_destroy(plain);
    problem_free(&p), problem_free(&q);
}

/* Of frozen tensors nothing is known, and one that is skipped would make the norm infinite. A step that is not taken is no step. */
static void test_frozen_and_skipped_tensors_do_not_count(void) {
    problem p;
    lopt_options options = problem_options();
    lopt_tensor_options frozen;
    options.max_gradient_norm = 1e-3, options.nonfinite = LOPT_NONFINITE_SKIP_TENSOR;
    problem_small(&p);
    CHECK_OK(lopt_tensor_options_init(&frozen, sizeof frozen));
    frozen.frozen = 1;
    lopt_optimizer *opt = weights_optimizer(&p, NULL, &options);
    problem_gradient(&p, 0);
    CHECK_OK(lopt_set_tensor_options(opt, 2, &frozen));
    for (int64_t j = 0; j < p.tensors[2].elements; j++) p.tensors[2].gradient[j] = 1e10f;
    p.tensors[3].gradient[1] = INFINITY;
    CHECK_STATUS(lopt_step(opt), LOPT_SKIPPED_NONFINITE);
    memset(p.tensors[2].gradient, 0, 4 * (size_t)p.tensors[2].elements);
    memset(p.tensors[3].gradient, 0, 4 * (size_t)p.tensors[3].elements);
    double norm = norm_of(&p, 1);
    CHECK_NEAR(statistics_of(opt, -1).gradient_norm / norm, 1, 3e-7);
    /* What is left has the norm that was asked for. */
    double stepped = (double)(p.tensors[0].elements + p.tensors[1].elements + p.tensors[4].elements);
    CHECK_NEAR(statistics_of(opt, -1).gradient_rms * sqrt(stepped) / 1e-3, 1, 1e-6);
    lopt_destroy(opt);

    options.nonfinite = LOPT_NONFINITE_SKIP_STEP;
    opt = weights_optimizer(&p, NULL, &options);
    CHECK_OK(lopt_step(opt));
    p.tensors[3].gradient[1] = NAN;
    CHECK_STATUS(lopt_step(opt), LOPT_SKIPPED_NONFINITE);
    CHECK_NEAR(statistics_of(opt, -1).gradient_norm / norm, 1, 3e-7);
    CHECK_INT(statistics_of(opt, -1).steps_clipped, 1);
    lopt_destroy(opt);
    problem_free(&p);
}

/* One tensor alone does not know the norm: refused, and nothing is touched. */
static void test_step_of_one_tensor_is_refused(void) {
    problem p;
    problem_small(&p);
    lopt_optimizer *opt = make(&p, "star", 1, 1, 1);
    problem_train(&p, opt, 0, 2);
    snapshot before = snapshot_of(opt, LOPT_WITH_PARAMETERS);
    for (int i = 0; i < p.count; i++) {
        CHECK_STATUS(lopt_step_tensor(opt, i), LOPT_ERROR_INVALID_ARGUMENT);
        CHECK_MESSAGE("max_gradient_norm"), CHECK_MESSAGE("lopt_set_gradient_scale");
    }
    CHECK_SAME_STATE(opt, &before);
    CHECK_INT(statistics_of(opt, -1).steps, 2);
    snapshot_free(&before);
    lopt_destroy(opt);
    problem_free(&p);
}

/* Beside one gigantic element the others become less than f32 has: their tensors rest, as those with a gradient of 0 do. */
static void test_tensor_whose_gradient_vanishes_rests(const char *weights) {
    problem p;
    problem_small(&p);
    lopt_optimizer *opt = make(&p, weights, 1, 1, 1e-30);
    for (int step = 0; step < check_repetitions(200, 60); step++) {
        problem_gradient(&p, step);
        p.tensors[2].gradient[7] = 8e7f;
        CHECK_OK(lopt_step(opt));
    }
    for (int i = 0; i < p.count; i++) {
        CHECK_INT(statistics_of(opt, i).steps, i == 2 ? check_repetitions(200, 60) : 0);
        for (int64_t j = 0; j < p.tensors[i].elements && i != 2; j++) {
            CHECK_NEAR(p.tensors[i].parameter[j], problem_start_value(i, j), 0);
        }
    }
    lopt_destroy(opt);
    problem_free(&p);
}

int main(void) {
    test_clipping_multiplies_gradients("star", 1, 1), test_clipping_multiplies_gradients("star", 3, -1.0 / 32);
    test_clipping_multiplies_gradients("star-authors-rule", 2, 1);
    test_clipping_multiplies_gradients("made pooled", 1, 1), test_clipping_multiplies_gradients("made pooled", 3, -1.0 / 32);
    test_steps_below_the_limit_are_not_touched("star", 1), test_steps_below_the_limit_are_not_touched("star", 3);
    test_steps_below_the_limit_are_not_touched("made pooled", 2);
    test_frozen_and_skipped_tensors_do_not_count();
    test_step_of_one_tensor_is_refused();
    test_tensor_whose_gradient_vanishes_rests("star"), test_tensor_whose_gradient_vanishes_rests("made pooled");
    return check_end();
}
