/* Learning-rate scales and the numbers of lopt_stats and lopt_info mean what the header says. */
#include "problem.h"

#include <float.h>

static const char *weights_name = "star";

static lopt_optimizer *make(double lr_scale, double weight_decay, problem *p) {
    lopt_options options = problem_options();
    options.lr_scale = lr_scale;
    options.weight_decay = weight_decay;
    problem_small(p);
    return problem_optimizer(p, weights_name, &options);
}

static void set_tensor(lopt_optimizer *opt, int32_t index, double lr_scale, double weight_decay_scale) {
    lopt_tensor_options options;
    CHECK_OK(lopt_tensor_options_init(&options, sizeof options));
    options.lr_scale = lr_scale;
    options.weight_decay_scale = weight_decay_scale;
    CHECK_OK(lopt_set_tensor_options(opt, index, &options));
}

static void check_same(const problem *a, const problem *b, const char *what) {
    for (int i = 0; i < a->count; i++) {
        check_context("%s, tensor %s", what, a->tensors[i].name);
        CHECK_BITS(a->tensors[i].parameter, b->tensors[i].parameter, a->tensors[i].elements);
    }
    check_context("");
}

/* A scale of 0 leaves parameters as they are, bit for bit, whatever they are, and decays nothing; time goes on. */
static void check_zero_scale(int of_tensor, double weight_decay) {
    static const float special[] = {0.0f, -0.0f, FLT_MAX, -FLT_MAX, FLT_MIN, 1e-42f, -1e-45f, 1e30f, -3e-39f};
    problem p, before;
    lopt_optimizer *opt = make(of_tensor ? 1 : 0, weight_decay, &p);
    problem_small(&before);
    for (int i = 0; i < p.count; i++) {
        problem_tensor *t = &p.tensors[i];
        for (int64_t j = 0; j < t->elements; j += 3) t->parameter[j] = special[j / 3 % 9];
        memcpy(before.tensors[i].parameter, t->parameter, 4 * (size_t)t->elements);
        if (of_tensor) set_tensor(opt, i, 0, 1);
    }
    for (int step = 0; step < 3; step++) {
        for (int i = 0; i < p.count; i++) {
            problem_tensor *t = &p.tensors[i];
            for (int64_t j = 0; j < t->elements; j++) t->gradient[j] = problem_random((uint64_t)step, (uint64_t)j);
        }
        CHECK_OK(lopt_step(opt));
    }
    check_same(&p, &before, of_tensor ? "scale 0 of the tensor" : "scale 0");
    CHECK_INT(statistics_of(opt, -1).steps, 3);
    lopt_destroy(opt);
    problem_free(&p), problem_free(&before);
}

/* The scales of optimizer and tensor are multiplied: powers of two that cancel give the same bits. */
static void test_scales_are_multiplied(void) {
    problem p, q;
    lopt_optimizer *opt = make(0.5, 0.25, &p), *plain = make(1, 0.25, &q);
    for (int i = 0; i < p.count; i++) set_tensor(opt, i, 2, 1);
    problem_train(&p, opt, 0, 3), problem_train(&q, plain, 0, 3);
    check_same(&p, &q, "0.5 times 2");
    CHECK_OK(lopt_set_lr_scale(opt, 4));
    CHECK_OK(lopt_set_lr_scale(plain, 2));
    for (int i = 0; i < p.count; i++) set_tensor(opt, i, 0.25, 4), set_tensor(plain, i, 0.5, 4);
    problem_train(&p, opt, 3, 6), problem_train(&q, plain, 3, 6);
    check_same(&p, &q, "4 times 0.25");
    lopt_destroy(opt), lopt_destroy(plain);
    problem_free(&p), problem_free(&q);
}

/* The first step moves by a multiple of the scale. */
static void test_step_is_proportional_to_the_scale(void) {
    problem p, q, start;
    lopt_optimizer *opt = make(0.25, 0, &p), *plain = make(1, 0, &q);
    problem_small(&start);
    problem_train(&p, opt, 0, 1), problem_train(&q, plain, 0, 1);
    for (int i = 0; i < p.count; i++) {
        double worst = 0, most = 0;
        for (int64_t j = 0; j < p.tensors[i].elements; j++) {
            double from = start.tensors[i].parameter[j];
            double moved = p.tensors[i].parameter[j] - from, expected = 0.25 * (q.tensors[i].parameter[j] - from);
            worst = fmax(worst, fabs(moved - expected));
            most = fmax(most, fabs(expected));
        }
        check_context("tensor %s", p.tensors[i].name);
        CHECK(most > 1e-5);
        CHECK_NEAR(worst, 0, 1e-7); /* parameters of up to 0.5 are rounded to 2^-25 */
    }
    check_context("");
    lopt_destroy(opt), lopt_destroy(plain);
    problem_free(&p), problem_free(&q), problem_free(&start);
}

static double rms(const float *values, int64_t count) {
    double sum = 0;
    for (int64_t j = 0; j < count; j++) sum += (double)values[j] * values[j];
    return sqrt(sum / (double)count);
}

/* The sizes that lopt_stats reports against those computed here. */
static void test_statistics_are_those_of_the_numbers(void) {
    problem p, before;
    lopt_optimizer *opt = make(1, 0, &p);
    problem_small(&before);
    problem_add(&p, "large", 2, (int64_t[]){200, 400}), problem_add(&before, "large", 2, (int64_t[]){200, 400});
    problem_start(&p);
    CHECK_OK(problem_register_one(&p, p.count - 1, opt));
    lopt_statistics none = statistics_of(opt, -1);
    CHECK_INT(none.steps, 0);
    CHECK(none.gradient_rms == 0 && none.update_rms == 0 && none.parameter_rms == 0 && none.blackbox_share == 0);
    problem_train(&p, opt, 0, 3);
    double gradient = 0, update = 0, parameter = 0;
    int64_t all = 0;
    for (int i = 0; i < p.count; i++) {
        memcpy(before.tensors[i].parameter, p.tensors[i].parameter, 4 * (size_t)p.tensors[i].elements);
    }
    problem_gradient(&p, 3);
    CHECK_OK(lopt_step(opt));
    for (int i = 0; i < p.count; i++) {
        problem_tensor *t = &p.tensors[i];
        float *moved = check_memory(4 * (size_t)t->elements);
        for (int64_t j = 0; j < t->elements; j++) moved[j] = t->parameter[j] - before.tensors[i].parameter[j];
        double g = rms(t->gradient, t->elements), u = rms(moved, t->elements);
        double w = rms(before.tensors[i].parameter, t->elements);
        lopt_statistics s = statistics_of(opt, i);
        check_context("%s, tensor %s", weights_name, t->name);
        CHECK_INT(s.struct_size, sizeof s);
        CHECK_INT(s.steps, 4);
        CHECK_NEAR(s.gradient_rms, g, 1e-5 * g);
        CHECK_NEAR(s.parameter_rms, w, 1e-5 * w);
        CHECK_NEAR(s.update_rms, u, 1e-3 * u + 1e-8);
        CHECK(s.blackbox_share >= 0 && s.blackbox_share <= 1);
        gradient += g * g * (double)t->elements, update += u * u * (double)t->elements;
        parameter += w * w * (double)t->elements, all += t->elements;
        free(moved);
    }
    check_context("%s, all tensors", weights_name);
    lopt_statistics s = statistics_of(opt, -1);
    CHECK_NEAR(s.gradient_rms, sqrt(gradient / (double)all), 1e-5 * s.gradient_rms);
    CHECK_NEAR(s.parameter_rms, sqrt(parameter / (double)all), 1e-5 * s.parameter_rms);
    CHECK_NEAR(s.update_rms, sqrt(update / (double)all), 1e-3 * s.update_rms);
    if (strcmp(weights_name, "star") != 0) CHECK(s.blackbox_share > 0 && s.blackbox_share < 1);
    check_context("");
    lopt_destroy(opt);
    problem_free(&p), problem_free(&before);
}

static void test_information_counts_what_was_added(void) {
    problem p;
    lopt_optimizer *opt = make(1, 0, &p);
    lopt_information i = {.struct_size = sizeof i}, empty = {.struct_size = sizeof empty};
    int64_t elements = 0, state = 0;
    CHECK_OK(lopt_info(opt, &i));
    for (int k = 0; k < p.count; k++) elements += p.tensors[k].elements;
    CHECK_INT(i.tensors, p.count);
    CHECK_INT(i.parameters, elements);
    CHECK_INT(i.threads, 1);
    CHECK(i.isa >= LOPT_ISA_BASELINE && i.isa <= LOPT_ISA_AVX512);
    CHECK_INT(i.uses_total_steps, 0);
    CHECK_TEXT(i.kernel, "none");
    /* K = 3: 16 bytes per parameter for rank 2 and more and 12 per row and column of the two largest extents, 28 bytes
     * per parameter below. scalar 1, bias 37, matrix 19 x 33, cube 5 x 7 x 3 (rows and columns of 5 x 7, for each of 3),
     * filter 6 x 4 x 3 x 3 (6 x 4, for each of 9). */
    state += 28 * (1 + 37) + 16 * (19 * 33 + 5 * 7 * 3 + 6 * 4 * 3 * 3);
    state += 12 * (19 + 33 + 3 * (5 + 7) + 9 * (6 + 4));
    CHECK_INT(i.state_bytes, state);
    CHECK(i.memory_bytes > i.state_bytes);
    lopt_destroy(opt);
    CHECK_OK(lopt_create(NULL, NULL, &opt));
    CHECK_OK(lopt_info(opt, &empty));
    CHECK_INT(empty.tensors, 0);
    CHECK_INT(empty.parameters, 0);
    CHECK_INT(empty.state_bytes, 0);
    CHECK(empty.threads >= 1 && empty.threads <= 256);
    CHECK(empty.memory_bytes > 0);
    lopt_destroy(opt);
    problem_free(&p);
}

int main(void) {
    static const char *names[] = {"star", "star-authors-rule"};
    for (int i = 0; i < 2; i++) {
        weights_name = names[i];
        check_zero_scale(0, 0);
        check_zero_scale(0, 0.5);
        check_zero_scale(1, 0.5);
        test_scales_are_multiplied();
        test_step_is_proportional_to_the_scale();
        test_statistics_are_those_of_the_numbers();
    }
    weights_name = "star";
    test_information_counts_what_was_added();
    return check_end();
}
