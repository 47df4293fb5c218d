/* gradient_scale: a step with gradients that the rule sees multiplied has the bits of a step whose caller has multiplied them, and
 * does not write them. What counts as not finite is the product. */
#include "weights.h"

static const double factors[] = {-1, 1.0 / 32, 3, -0.1, 1 / 65536.0, 1e4};
enum { FACTORS = sizeof factors / sizeof *factors };

/* What a caller would multiply, multiplied. */
static void multiply(problem *p, double factor) {
    for (int i = 0; i < p->count; i++) {
        for (int64_t j = 0; j < p->tensors[i].elements; j++) p->tensors[i].gradient[j] *= (float)factor;
    }
}

/* The gradients of both are those of `q` before it multiplies its own. */
static void gradients(problem *p, problem *q, int64_t step, double factor) {
    problem_gradient(q, step);
    for (int i = 0; i < p->count; i++) memcpy(p->tensors[i].gradient, q->tensors[i].gradient, 4 * (size_t)q->tensors[i].elements);
    multiply(q, factor);
}

/* The factor changes from step to step; the first is that of the options. */
static void test_scaled_gradients_give_the_bits_of_products(const char *weights, int threads, double guard, int by_tensor) {
    problem p, q;
    lopt_options options = problem_options();
    options.threads = threads, options.max_update_ratio = guard, options.weight_decay = 0.1;
    problem_large(&p), problem_large(&q);
    lopt_optimizer *plain = weights_optimizer(&q, weights, &options);
    options.gradient_scale = factors[0];
    lopt_optimizer *opt = weights_optimizer(&p, weights, &options);
    for (int step = 0; step < FACTORS; step++) {
        check_context("%s, %d threads, guard %g, by tensor %d, step %d", weights, threads, guard, by_tensor, step);
        if (step > 0) CHECK_OK(lopt_set_gradient_scale(opt, factors[step]));
        gradients(&p, &q, step, factors[step]);
        for (int i = 0; i < p.count && by_tensor; i++) CHECK_OK(lopt_step_tensor(opt, i)), CHECK_OK(lopt_step_tensor(plain, i));
        if (!by_tensor) CHECK_OK(lopt_step(opt)), CHECK_OK(lopt_step(plain));
        multiply(&p, factors[step]);
        for (int i = 0; i < p.count; i++) {
            int64_t n = p.tensors[i].elements;
            CHECK_BITS(p.tensors[i].parameter, q.tensors[i].parameter, n);
            /* Still what they were. */
            CHECK_BITS(p.tensors[i].gradient, q.tensors[i].gradient, n);
            lopt_statistics of = statistics_of(opt, i), of_plain = statistics_of(plain, i);
            CHECK_BYTES(&of, &of_plain, sizeof of);
        }
    }
    /* All that checkpoints hold is the same, once the factor is. */
    CHECK_OK(lopt_set_gradient_scale(opt, 1));
    snapshot s = snapshot_of(plain, LOPT_WITH_PARAMETERS);
    CHECK_SAME_STATE(opt, &s);
    snapshot_free(&s);
    check_context("");
    lopt_destroy(opt), lopt_destroy(plain);
    problem_free(&p), problem_free(&q);
}

/* Loss scaling: gradients beyond 2^50 that the factor brings back are taken, those that it takes beyond are not. */
static void test_products_decide_what_is_finite(const char *weights) {
    static const struct { float element; double factor; int is_finite; } cases[] = {
        {0x1p60f, 0x1p-20, 1}, {0x1p60f, -0x1p-10, 1}, {0x1p60f, 0x1.000002p-10, 0}, {0x1p40f, 0x1p20, 0}, {-0x1p30f, 0x1p20, 1},
        {3e38f, 1e-30, 1}, {3e38f, 1e30, 0}, {INFINITY, 1e-30, 0}, {NAN, 1e-30, 0}, {-INFINITY, -1, 0}, {0x1p50f, 1, 1},
    };
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        for (int which = 0; which < 3; which++) {
            problem p;
            lopt_options options = problem_options();
            options.gradient_scale = cases[c].factor;
            problem_small(&p);
            lopt_optimizer *opt = weights_optimizer(&p, weights, &options);
            p.tensors[which].gradient[p.tensors[which].elements / 2] = cases[c].element;
            snapshot before = snapshot_of(opt, LOPT_WITH_PARAMETERS);
            check_context("%s, case %zu, tensor %d", weights, c, which);
            CHECK_STATUS(lopt_step(opt), cases[c].is_finite ? LOPT_OK : LOPT_SKIPPED_NONFINITE);
            CHECK_INT(statistics_of(opt, which).nonfinite, !cases[c].is_finite);
            CHECK_INT(statistics_of(opt, which).steps, cases[c].is_finite);
            if (!cases[c].is_finite) CHECK_MESSAGE(p.tensors[which].name), CHECK_MESSAGE("2^50");
            if (!cases[c].is_finite && cases[c].factor != -1) CHECK_MESSAGE("gradient_scale included");
            snapshot_free(&before);
            lopt_destroy(opt);
            problem_free(&p);
        }
    }
    check_context("");
}

/* A product that is 0, or a denormal number, makes a tensor idle. */
static void test_product_of_zero_is_idle(const char *weights) {
    problem p;
    lopt_options options = problem_options();
    options.gradient_scale = 1e-30;
    problem_small(&p);
    lopt_optimizer *opt = weights_optimizer(&p, weights, &options);
    for (int i = 0; i < p.count; i++) {
        for (int64_t j = 0; j < p.tensors[i].elements; j++) p.tensors[i].gradient[j] = 1e-9f * problem_random(3, (uint64_t)j);
    }
    snapshot before = snapshot_of(opt, LOPT_WITH_PARAMETERS);
    CHECK_OK(lopt_step(opt));
    CHECK_SAME_STATE(opt, &before);
    CHECK_INT(statistics_of(opt, -1).steps_idle, p.count);
    snapshot_free(&before);
    lopt_destroy(opt);
    problem_free(&p);
}

/* A checkpoint brings the factor back, also one of 1. */
static void test_resuming_keeps_the_factor(const char *weights, double factor) {
    problem p, q;
    lopt_options options = problem_options();
    problem_small(&p), problem_small(&q);
    options.gradient_scale = 7;
    lopt_optimizer *other = weights_optimizer(&q, weights, &options);
    options.gradient_scale = factor;
    lopt_optimizer *opt = weights_optimizer(&p, weights, &options);
    problem_train(&p, opt, 0, 3);
    snapshot s = snapshot_of(opt, LOPT_WITH_PARAMETERS);
    CHECK_OK(lopt_state_read(other, LOPT_WITH_PARAMETERS, s.bytes, s.size));
    problem_train(&p, opt, 3, 5), problem_train(&q, other, 3, 5);
    snapshot after = snapshot_of(opt, LOPT_WITH_PARAMETERS);
    CHECK_SAME_STATE(other, &after);
    snapshot_free(&s), snapshot_free(&after);
    lopt_destroy(opt), lopt_destroy(other);
    problem_free(&p), problem_free(&q);
}

int main(void) {
    for (int r = 0; r < 2; r++) {
        const char *weights = r == 0 ? "star" : "made pooled";
        test_scaled_gradients_give_the_bits_of_products(weights, 1, 0, 0);
        test_scaled_gradients_give_the_bits_of_products(weights, 3, 0, 0);
        test_scaled_gradients_give_the_bits_of_products(weights, 1, 0, 1);
        test_scaled_gradients_give_the_bits_of_products(weights, 1, 0.01, 0);
        test_products_decide_what_is_finite(weights);
        test_product_of_zero_is_idle(weights);
        test_resuming_keeps_the_factor(weights, -0.125), test_resuming_keeps_the_factor(weights, 1);
    }
    test_scaled_gradients_give_the_bits_of_products("star-authors-rule", 1, 0, 0);
    test_scaled_gradients_give_the_bits_of_products("star-authors-rule", 2, 0.01, 1);
    return check_end();
}
