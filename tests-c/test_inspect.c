/* lopt_inspect_gradients: what a step would see of the gradients, and nothing changes. */
#include "weights.h"

static lopt_gradients look(lopt_optimizer *opt, int32_t index) {
    lopt_gradients g = {.struct_size = sizeof g, .nonfinite = -1, .norm_squared = -1};
    CHECK_OK(lopt_inspect_gradients(opt, index, &g));
    CHECK_INT(g.struct_size, sizeof g);
    return g;
}

static double squares(const problem_tensor *t, double scale) {
    double sum = 0;
    for (int64_t j = 0; j < t->elements; j++) sum += pow(scale * t->gradient[j], 2);
    return sum;
}

/* Of every tensor and of all, on any threads; a training with looks in between has the bits and statistics of one without. */
static void test_looking_changes_nothing(const char *weights, double scale) {
    problem p, q;
    lopt_options options = problem_options();
    options.gradient_scale = scale, options.max_gradient_norm = 3;
    problem_large(&p), problem_large(&q);
    lopt_optimizer *plain = weights_optimizer(&p, weights, &options);
    options.threads = 3;
    lopt_optimizer *opt = weights_optimizer(&q, weights, &options);
    for (int step = 0; step < 5; step++) {
        double sum = 0;
        check_context("%s, step %d", weights, step);
        problem_gradient(&p, step), problem_gradient(&q, step);
        snapshot before = snapshot_of(opt, LOPT_WITH_PARAMETERS);
        lopt_statistics seen = statistics_of(opt, -1);
        for (int i = 0; i < q.count; i++) {
            lopt_gradients g = look(opt, i);
            CHECK_NEAR(g.norm_squared / squares(&q.tensors[i], scale), 1, 1e-6), CHECK_INT(g.nonfinite, 0);
            CHECK_NEAR(look(plain, i).norm_squared, g.norm_squared, 0);
            sum += g.norm_squared;
        }
        CHECK_NEAR(look(opt, -1).norm_squared, sum, 0);
        lopt_statistics now = statistics_of(opt, -1);
        CHECK_BYTES(&now, &seen, sizeof now);
        CHECK_SAME_STATE(opt, &before);
        CHECK_OK(lopt_step(opt)), CHECK_OK(lopt_step(plain));
        /* It is the norm that max_gradient_norm goes by. */
        CHECK_NEAR(statistics_of(opt, -1).gradient_norm, sqrt(sum), 0);
        for (int i = 0; i < q.count; i++) {
            CHECK_BITS(q.tensors[i].parameter, p.tensors[i].parameter, q.tensors[i].elements);
            lopt_statistics a = statistics_of(opt, i), b = statistics_of(plain, i);
            CHECK_BYTES(&a, &b, sizeof a);
        }
        snapshot_free(&before);
    }
    check_context("");
    lopt_destroy(plain), lopt_destroy(opt);
    problem_free(&p), problem_free(&q);
}

/* What is not finite for a step: NaN, infinities, and what is too large with its scale. What is frozen or elsewhere is not looked at. */
static void test_what_is_not_finite_is_found(void) {
    static const float bad[] = {NAN, INFINITY, -INFINITY, 2e15f, -3e38f};
    problem p;
    lopt_options options = problem_options();
    lopt_tensor_options frozen;
    problem_large(&p);
    lopt_optimizer *opt = weights_optimizer(&p, NULL, &options);
    CHECK_OK(lopt_add_elsewhere(opt, "elsewhere", (int64_t[]){9}, 1, NULL));
    CHECK_OK(lopt_tensor_options_init(&frozen, sizeof frozen));
    frozen.frozen = 1;
    for (size_t b = 0; b < sizeof bad / sizeof *bad; b++) {
        check_context("value %g", bad[b]);
        problem_gradient(&p, 0);
        p.tensors[2].gradient[5] = bad[b];
        p.tensors[6].gradient[1] = p.tensors[6].gradient[p.tensors[6].elements - 1] = bad[b];
        snapshot before = snapshot_of(opt, LOPT_WITH_PARAMETERS);
        CHECK_INT(look(opt, -1).nonfinite, 3), CHECK(look(opt, -1).norm_squared == INFINITY);
        CHECK_INT(look(opt, 6).nonfinite, 2), CHECK_INT(look(opt, 2).nonfinite, 1);
        CHECK_INT(look(opt, 1).nonfinite, 0), CHECK(look(opt, 1).norm_squared < 1e9);
        CHECK_SAME_STATE(opt, &before);
        CHECK_INT(statistics_of(opt, -1).nonfinite, 0);
        CHECK_OK(lopt_set_tensor_options(opt, 6, &frozen));
        CHECK_INT(look(opt, -1).nonfinite, 1), CHECK_INT(look(opt, 6).nonfinite, 0), CHECK(look(opt, 6).norm_squared == 0);
        CHECK_INT(look(opt, 7).nonfinite, 0), CHECK(look(opt, 7).norm_squared == 0);
        CHECK_OK(lopt_set_gradient_scale(opt, 1e-6)); /* the large ones fit then */
        CHECK_INT(look(opt, -1).nonfinite, fabsf(bad[b]) < 1e20f ? 0 : 1);
        CHECK_OK(lopt_set_gradient_scale(opt, 1));
        frozen.frozen = 0;
        CHECK_OK(lopt_set_tensor_options(opt, 6, &frozen));
        frozen.frozen = 1;
        snapshot_free(&before);
    }
    check_context("");
    /* After a look that found nothing good a step is as if there had been none. */
    problem_gradient(&p, 0);
    CHECK_OK(lopt_step(opt));
    CHECK_INT(statistics_of(opt, -1).steps, 1), CHECK_INT(statistics_of(opt, -1).steps_skipped, 0);
    lopt_destroy(opt);

    opt = problem_create(NULL, &options);
    lopt_gradients g = look(opt, -1);
    CHECK(g.norm_squared == 0 && g.nonfinite == 0);
    lopt_destroy(opt), problem_free(&p);
}

int main(void) {
    test_looking_changes_nothing("pooled", 1), test_looking_changes_nothing("star", -1.0 / 3), test_looking_changes_nothing("star-authors-rule", 7), test_looking_changes_nothing("made pooled", 0.125);
    test_what_is_not_finite_is_found();
    return check_end();
}
