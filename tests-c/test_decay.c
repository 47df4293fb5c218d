/* Weight decay: by default as in AdamW, lr * step_size * weight_decay of the parameter, step_size the tensor's own; or a part of
 * the parameter in each step, as version 0.1.0 had it. It never turns a parameter's sign, goes with the steps as they get smaller,
 * and comes back from checkpoints in the form in which it was written. Learned decay stays beside it. */
#include "weights.h"

static lopt_optimizer *make(const char *weights_name, double lr_scale, double decay, int32_t form, problem *p) {
    lopt_options options = problem_options();
    options.lr_scale = lr_scale, options.weight_decay = decay, options.weight_decay_form = form;
    problem_small(p);
    return weights_optimizer(p, weights_name, &options);
}

static void set_tensor(lopt_optimizer *opt, int32_t index, double lr_scale, double weight_decay_scale) {
    lopt_tensor_options options;
    CHECK_OK(lopt_tensor_options_init(&options, sizeof options));
    options.lr_scale = lr_scale, options.weight_decay_scale = weight_decay_scale;
    CHECK_OK(lopt_set_tensor_options(opt, index, &options));
}

static double most(double a, double b) { return a > b ? a : b; }
static double least(double a, double b) { return a < b ? a : b; }

/* One step with decay beside the same without: what is missing is the part that the form says, of the parameter before the
 * step (star) or of what the blackbox term left of it (star-authors-rule, whose blackbox term is tiny). */
static void test_decay_takes_off_what_its_form_says(const char *name, int32_t form) {
    static const struct { double lr, decay, tensor_lr, tensor_decay; } cases[] = {
        {1, 0.01, 1, 1}, {1, 1, 1, 1}, {0.5, 0.1, 1, 1}, {1, 0.1, 0.5, 1}, {1, 0.1, 1, 2}, {0.5, 0.1, 3, 0.25},
        {1, 1e4, 1, 1}, {1e10, 1e10, 1, 1},
    };
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        problem p, q, start;
        lopt_optimizer *opt = make(name, cases[c].lr, cases[c].decay, form, &p);
        lopt_optimizer *plain = make(name, cases[c].lr, 0, form, &q);
        problem_small(&start);
        for (int i = 0; i < p.count; i++) {
            set_tensor(opt, i, cases[c].tensor_lr, cases[c].tensor_decay);
            set_tensor(plain, i, cases[c].tensor_lr, cases[c].tensor_decay);
        }
        problem_train(&p, opt, 0, 1), problem_train(&q, plain, 0, 1);
        for (int i = 0; i < p.count; i++) {
            double lr = cases[c].lr * cases[c].tensor_lr, size = statistics_of(opt, i).step_size;
            double part = least(cases[c].decay * cases[c].tensor_decay * (form == LOPT_DECAY_PER_STEP ? lr : size), 1);
            double worst = 0, largest = 0;
            for (int64_t j = 0; j < p.tensors[i].elements; j++) {
                double decayed = (double)q.tensors[i].parameter[j] - p.tensors[i].parameter[j];
                worst = most(worst, fabs(decayed - part * start.tensors[i].parameter[j]));
                largest = most(largest, fabs(q.tensors[i].parameter[j]));
            }
            check_context("%s, form %d, case %zu, tensor %s", name, (int)form, c, p.tensors[i].name);
            CHECK(size > 0 && part > 0);
            /* Rounding, and the authors' rule: the part of its small blackbox update. */
            CHECK_NEAR(worst / most(largest, 0.5), 0, strcmp(name, "star") ? part * 4e-4 * lr + 4e-7 : 4e-7);
            /* What the rule does is not decay: it is not counted. */
            CHECK_NEAR(statistics_of(opt, i).update_rms, statistics_of(plain, i).update_rms, 1e-12 * lr);
        }
        check_context("");
        lopt_destroy(opt), lopt_destroy(plain);
        problem_free(&p), problem_free(&q), problem_free(&start);
    }
}

static void test_scale_of_zero_is_no_decay(int32_t form) {
    problem p, q;
    lopt_optimizer *opt = make("star", 1, 0.3, form, &p), *plain = make("star", 1, 0, form, &q);
    for (int i = 0; i < p.count; i++) set_tensor(opt, i, 1, 0);
    problem_train(&p, opt, 0, 4), problem_train(&q, plain, 0, 4);
    for (int i = 0; i < p.count; i++) CHECK_BITS(p.tensors[i].parameter, q.tensors[i].parameter, p.tensors[i].elements);
    lopt_destroy(opt), lopt_destroy(plain);
    problem_free(&p), problem_free(&q);
}

/* A regression on minibatches of 8 for 10,000 steps: the steps get smaller and smaller, and so does AdamW's decay; the form of
 * 0.1.0 with the 0.003 that its README recommended takes off what the steps no longer put back. */
static double regression_loss(double decay, int32_t form) {
    enum { N = 256, D = 16, BATCH = 8 };
    float w[D] = {0}, dw[D], x[N][D], y[N];
    lopt_options options = problem_options();
    lopt_optimizer *opt;
    double loss = 0;
    options.weight_decay = decay, options.weight_decay_form = form;
    for (int i = 0; i < N; i++) {
        y[i] = problem_random(3, (uint64_t)i);
        for (int d = 0; d < D; d++) {
            x[i][d] = problem_random(1, (uint64_t)(i * D + d));
            y[i] += x[i][d] * 3 * problem_random(2, (uint64_t)d);
        }
    }
    CHECK_OK(lopt_create(NULL, &options, &opt));
    CHECK_OK(lopt_add_tensor(opt, "w", w, dw, (int64_t[]){D}, 1, NULL));
    for (int step = 0; step < check_repetitions(10000, 4000); step++) {
        memset(dw, 0, sizeof dw);
        for (int b = 0; b < BATCH; b++) {
            int i = (int)(problem_random(4, (uint64_t)(step * BATCH + b)) * (N / 2) + N / 2);
            double error = -y[i];
            for (int d = 0; d < D; d++) error += w[d] * x[i][d];
            for (int d = 0; d < D; d++) dw[d] += (float)(error * x[i][d] / BATCH);
        }
        CHECK_OK(lopt_step(opt));
    }
    for (int i = 0; i < N; i++) {
        double error = -y[i];
        for (int d = 0; d < D; d++) error += w[d] * x[i][d];
        loss += error * error / N;
    }
    lopt_destroy(opt);
    return loss;
}

static void test_decay_ends_with_the_steps(void) {
    double none = regression_loss(0, LOPT_DECAY_BY_STEP_SIZE), old = regression_loss(0.003, LOPT_DECAY_PER_STEP);
    double usual[] = {regression_loss(0.01, LOPT_DECAY_BY_STEP_SIZE), regression_loss(0.1, LOPT_DECAY_BY_STEP_SIZE)};
    printf("regression: loss %.4g without decay; 0.003 per step %.4g; by step size 0.01 %.4g, 0.1 %.4g\n", none, old, usual[0],
           usual[1]);
    CHECK(usual[0] < 1.01 * none && usual[1] < 1.1 * none && old > (check_repetitions(1, 0) ? 1.2 : 1.04) * none);
}

/* A checkpoint brings its form back, and goes on with the same bits, idle steps among what follows. */
static void test_resuming_keeps_the_form(const char *weights, int32_t form) {
    problem p, q;
    lopt_optimizer *opt = make(weights, 1, 0.2, form, &p);
    lopt_optimizer *other = make(weights, 0.5, 0.7, form == LOPT_DECAY_PER_STEP ? LOPT_DECAY_BY_STEP_SIZE : LOPT_DECAY_PER_STEP, &q);
    problem_train(&p, opt, 0, 5);
    snapshot s = snapshot_of(opt, LOPT_WITH_PARAMETERS);
    CHECK_OK(lopt_state_read(other, LOPT_WITH_PARAMETERS, s.bytes, s.size));
    for (int step = 0; step < 4; step++) {
        problem_gradient(&p, step), problem_gradient(&q, step);
        if (step == 0) memset(p.tensors[2].gradient, 0, 4 * (size_t)p.tensors[2].elements);
        if (step == 0) memset(q.tensors[2].gradient, 0, 4 * (size_t)q.tensors[2].elements);
        CHECK_OK(lopt_step(opt)), CHECK_OK(lopt_step(other));
    }
    snapshot after = snapshot_of(opt, LOPT_WITH_PARAMETERS);
    CHECK_SAME_STATE(other, &after);
    snapshot_free(&s), snapshot_free(&after);
    lopt_destroy(opt), lopt_destroy(other);
    problem_free(&p), problem_free(&q);
}

/* On matrices alone: these step as with decay, all that is a vector or a number as without, [n, 1] among them; idle steps too. A
 * checkpoint brings that back. */
static void test_vectors_do_not_decay_with_matrices(const char *weights, int32_t form) {
    static const int is_matrix[] = {0, 0, 1, 1, 1, 0, 0, 1};
    problem p, q, r, s;
    problem *all[] = {&p, &q, &r, &s};
    lopt_optimizer *opt[4];
    for (int k = 0; k < 4; k++) {
        lopt_options options = problem_options();
        options.weight_decay = k == 1 ? 0 : 0.3, options.weight_decay_form = form;
        options.weight_decay_tensors = k == 0 ? LOPT_DECAY_MATRICES : LOPT_DECAY_ALL;
        problem_small(all[k]);
        problem_add(all[k], "column", 2, (int64_t[]){64, 1}), problem_add(all[k], "thin", 4, (int64_t[]){1, 1, 30, 1});
        problem_add(all[k], "two", 4, (int64_t[]){1, 9, 1, 2});
        problem_start(all[k]);
        opt[k] = weights_optimizer(all[k], weights, &options);
    }
    for (int step = 0; step < 6; step++) {
        if (step == 3) {
            snapshot state = snapshot_of(opt[0], LOPT_WITH_PARAMETERS);
            CHECK_OK(lopt_state_read(opt[3], LOPT_WITH_PARAMETERS, state.bytes, state.size));
            snapshot_free(&state);
        }
        for (int k = 0; k < 4; k++) {
            problem_gradient(all[k], step);
            for (int i = 0; i < p.count; i++) {
                if ((step + i) % 3 == 0) memset(all[k]->tensors[i].gradient, 0, 4 * (size_t)p.tensors[i].elements);
            }
            CHECK_OK(lopt_step(opt[k]));
        }
        for (int i = 0; i < p.count; i++) {
            int64_t n = p.tensors[i].elements;
            check_context("%s, form %d, step %d, tensor %s", weights, (int)form, step, p.tensors[i].name);
            CHECK_BITS(p.tensors[i].parameter, is_matrix[i] ? r.tensors[i].parameter : q.tensors[i].parameter, n);
            if (step >= 3) CHECK_BITS(s.tensors[i].parameter, p.tensors[i].parameter, n);
        }
    }
    check_context("");
    for (int k = 0; k < 4; k++) lopt_destroy(opt[k]), problem_free(all[k]);
}

int main(void) {
    for (int32_t form = LOPT_DECAY_BY_STEP_SIZE; form <= LOPT_DECAY_PER_STEP; form++) {
        test_decay_takes_off_what_its_form_says("star", form);
        test_decay_takes_off_what_its_form_says("star-authors-rule", form);
        test_scale_of_zero_is_no_decay(form);
        test_resuming_keeps_the_form("star", form), test_resuming_keeps_the_form("made pooled", form);
        test_vectors_do_not_decay_with_matrices("star", form), test_vectors_do_not_decay_with_matrices("made pooled", form);
    }
    test_decay_ends_with_the_steps();
    return check_end();
}
