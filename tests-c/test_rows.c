/* Rows of tensors on several parts: the steps have the bits of one optimizer that has the whole, whatever the number of parts, idle
 * stretches, gradients that are not finite on one of them. */
#define _GNU_SOURCE
#include "rows.h"

/* ---- Who has which rows ------------------------------------------------------------------------------------------ */

static void test_parts_have_all_rows_in_whole_chunks(void) {
    static const struct { int32_t rank; int64_t shape[4], unit; } cases[] = {
        {1, {100001}, 32768}, {2, {8000000, 4}, 8192}, {2, {50257, 768}, 128}, {2, {50257, 1001}, 32768}, {3, {5, 128, 256}, 1},
        {2, {7, 1 << 20}, 1}, {4, {6, 4, 3, 3}, 8192}, {2, {(int64_t)1 << 46, 4}, 8192}, {2, {1, 1}, 32768},
    };
    for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
        const int64_t all = cases[k].shape[0], unit = cases[k].unit;
        for (int parts = 1; parts <= 1 << 20; parts = parts < 9 ? parts + 1 : 37 * parts > 1 << 20 && parts < 1 << 20 ? 1 << 20 : 37 * parts) {
            int64_t most = 0, least = INT64_MAX, next = 0;
            check_context("case %zu, %d parts", k, parts);
            for (int part = 0; part < parts; part++) {
                lopt_rows rows = {-1, -1};
                if (parts > 1000 && part == 500) part = parts - 500; /* and the ends of many */
                if (lopt_rows_of(cases[k].shape, cases[k].rank, part, parts, &rows) != LOPT_OK) CHECK(!"rows");
                if (parts <= 1000 && rows.first != next) CHECK_INT(rows.first, next);
                if (rows.first % unit && rows.first != all) CHECK_INT(rows.first % unit, 0);
                next = rows.first + rows.count;
                if (part == 0) CHECK_INT(rows.first, 0), most = rows.count;
                if (rows.count > most) CHECK(!"part 0 has most");
                if (next < all && rows.count < least) least = rows.count;
            }
            CHECK_INT(next, all);
            CHECK(least == INT64_MAX || most - least <= unit);
        }
    }
    check_context("");
}

/* ---- Steps ------------------------------------------------------------------------------------------------------- */

/* Sizes are of the rows that are here. */
static void check_sizes(const team *t, lopt_optimizer *whole) {
    for (int i = 0; i < SHARED; i++) {
        const int64_t row = t->p->tensors[i].elements / t->p->tensors[i].shape[0];
        double squares[3] = {0};
        for (int part = 0; part < t->parts; part++) {
            const lopt_statistics s = statistics_of(t->opt[part], i);
            const double own = (double)(rows_of(&t->p->tensors[i], part, t->parts).count * row);
            squares[0] += own * s.gradient_rms * s.gradient_rms, squares[1] += own * s.update_rms * s.update_rms;
            squares[2] += own * s.parameter_rms * s.parameter_rms;
        }
        const lopt_statistics all = statistics_of(whole, i);
        const double elements = (double)t->p->tensors[i].elements;
        CHECK_NEAR(sqrt(squares[0] / elements), all.gradient_rms, 1e-6 * all.gradient_rms);
        CHECK_NEAR(sqrt(squares[1] / elements), all.update_rms, 1e-6 * all.update_rms);
        CHECK_NEAR(sqrt(squares[2] / elements), all.parameter_rms, 1e-6 * all.parameter_rms);
    }
}

static void check_averages(const team *t, lopt_optimizer *whole) {
    for (int i = 0; i < SHARED; i++) {
        const problem_tensor *tensor = &t->p->tensors[i];
        float *all = check_memory(4 * (size_t)tensor->elements), *own = check_memory(4 * (size_t)tensor->elements);
        CHECK_OK(lopt_average_get(whole, i, all, tensor->elements));
        for (int part = 0; part < t->parts; part++) {
            const lopt_rows rows = rows_of(tensor, part, t->parts);
            const int64_t row = tensor->elements / tensor->shape[0];
            CHECK_OK(lopt_average_get(t->opt[part], i, own + rows.first * row, rows.count * row));
        }
        CHECK_BITS(own, all, tensor->elements);
        free(all), free(own);
    }
}

static void set_frozen(team *t, lopt_optimizer *whole, int i, int frozen) {
    lopt_tensor_options options;
    CHECK_OK(lopt_tensor_options_init(&options, sizeof options));
    options.frozen = frozen, options.lr_scale = 0.5, options.weight_decay_scale = 2;
    CHECK_OK(lopt_set_tensor_options(whole, i, &options));
    for (int part = 0; part < t->parts; part++) CHECK_OK(lopt_set_tensor_options(t->opt[part], i, &options));
}

static void test_rows_on_parts_take_the_steps_of_the_whole(const char *weights, int parts, int threads, int divided) {
    problem p, q;
    team t;
    lopt_options options = rows_options();
    options.threads = threads, options.weight_decay_form = divided ? LOPT_DECAY_PER_STEP : LOPT_DECAY_BY_STEP_SIZE;
    rows_problem(&p), rows_problem(&q);
    lopt_optimizer *whole = weights_optimizer(&q, weights, &options);
    team_create(&t, &p, weights, &options, parts, divided);
    for (int step = 0; step < check_repetitions(17, 6); step++) {
        check_context("%s, %d parts, %d threads, step %d", weights, parts, threads, step);
        rows_gradient(&q, step), rows_gradient(&p, step);
        team_copy_gradients(&t);
        if (step == 3 || step == 5) set_frozen(&t, whole, 0, step == 3);
        if (step == 12) CHECK_OK(lopt_set_lr_scale(whole, 0.1));
        for (int part = 0; step == 12 && part < parts; part++) CHECK_OK(lopt_set_lr_scale(t.opt[part], 0.1));
        CHECK_OK(lopt_step(whole));
        CHECK_TEAM(&t, step_body, NULL, LOPT_OK, NULL);
        if (!check_same_parameters(&p, &q)) break;
        check_counters(&t, whole);
    }
    check_sizes(&t, whole), check_averages(&t, whole);
    int64_t bytes = 0, parameters = 0;
    for (int part = 0; part < parts; part++) {
        const lopt_information own = information_of(t.opt[part]);
        bytes += own.state_bytes, parameters += own.parameters;
        CHECK_INT(own.tensors, q.count);
    }
    if (divided) CHECK_INT(bytes, information_of(whole).state_bytes), CHECK_INT(parameters, information_of(whole).parameters);
    check_context("");
    team_free(&t), lopt_destroy(whole);
    problem_free(&p), problem_free(&q);
}

static lopt_status step_each_body(team *t, int part, void *context) {
    for (int32_t i = *(int *)context - 1; i >= 0; i--) {
        const lopt_status status = lopt_step_tensor(t->opt[part], i);
        if (status != LOPT_OK) return status;
    }
    return LOPT_OK;
}

static void test_tensors_stepped_one_by_one_give_the_same_bits(void) {
    problem p, q;
    team t;
    lopt_options options = rows_options();
    rows_problem(&p), rows_problem(&q);
    lopt_optimizer *whole = problem_optimizer(&q, "pooled", &options);
    team_create(&t, &p, "pooled", &options, 3, 0);
    for (int step = 0; step < 6; step++) {
        rows_gradient(&q, step), rows_gradient(&p, step);
        team_copy_gradients(&t);
        CHECK_OK(lopt_step(whole));
        CHECK_TEAM(&t, step_each_body, &p.count, LOPT_OK, NULL);
        check_same_parameters(&p, &q);
    }
    team_free(&t), lopt_destroy(whole);
    problem_free(&p), problem_free(&q);
}

/* Parameters of bf16 and gradients of f64. */
static void test_rows_of_other_types_are_as_the_whole(void) {
    enum { ROWS = 20000, ROW = 8, PARTS = 3 };
    const int64_t shape[] = {ROWS, ROW}, elements = ROWS * ROW;
    problem none = {.count = 0};
    team t;
    lopt_options options = rows_options();
    uint16_t *p = check_memory(2 * (size_t)elements), *q = check_memory(2 * (size_t)elements);
    double *gradient = check_memory(8 * (size_t)elements);
    for (int64_t j = 0; j < elements; j++) p[j] = q[j] = (uint16_t)(0x3f00 + j % 61);
    lopt_optimizer *whole = problem_create("pooled", &options);
    CHECK_OK(lopt_add_typed(whole, "table", q, LOPT_BF16, gradient, LOPT_F64, shape, 2, NULL));
    team_create(&t, &none, "pooled", &options, PARTS, 0);
    for (int part = 0; part < PARTS; part++) {
        lopt_rows rows;
        CHECK_OK(lopt_rows_of(shape, 2, part, PARTS, &rows));
        CHECK_OK(lopt_add_rows(t.opt[part], "table", &rows, p + rows.first * ROW, LOPT_BF16, gradient + rows.first * ROW, LOPT_F64,
                               shape, 2, NULL));
    }
    for (int step = 0; step < 8; step++) {
        for (int64_t j = 0; j < elements; j++) gradient[j] = 0.1 * problem_random((uint64_t)step + 5, (uint64_t)j);
        CHECK_OK(lopt_step(whole));
        CHECK_TEAM(&t, step_body, NULL, LOPT_OK, NULL);
        CHECK_BYTES(p, q, 2 * (size_t)elements);
    }
    team_free(&t), lopt_destroy(whole);
    free(p), free(q), free(gradient);
}

/* ---- Gradients of all together ----------------------------------------------------------------------------------- */

static void test_nonfinite_on_one_part_is_so_for_all(lopt_nonfinite policy, int parts) {
    static const lopt_status expected[] = {LOPT_SKIPPED_NONFINITE, LOPT_SKIPPED_NONFINITE, LOPT_ERROR_NONFINITE};
    static const int bad[] = {1, 0, 6, 3}; /* in step 1, 3, 5, 7: two of them in a tensor's first step */
    problem p, q;
    team t;
    lopt_options options = rows_options();
    options.nonfinite = policy;
    rows_problem(&p), rows_problem(&q);
    lopt_optimizer *whole = problem_optimizer(&q, "pooled", &options);
    team_create(&t, &p, "pooled", &options, parts, 1);
    for (int step = 0; step < 9; step++) {
        check_context("policy %d, %d parts, step %d", policy, parts, step);
        problem_gradient(&q, step), problem_gradient(&p, step);
        const int i = step % 2 ? bad[step / 2] : -1;
        if (i >= 0) q.tensors[i].gradient[q.tensors[i].elements - 3] = p.tensors[i].gradient[q.tensors[i].elements - 3] = NAN;
        /* A tensor that one part has concerns the others where a step is called off. */
        const int known = i < 6 || policy != LOPT_NONFINITE_SKIP_TENSOR;
        CHECK_STATUS(lopt_step(whole), i < 0 ? LOPT_OK : expected[policy]);
        team_do(&t, step_body, NULL);
        for (int part = 0; part < parts; part++)
            CHECK_INT(t.status[part], i < 0 || (!known && 6 % parts != part) ? LOPT_OK : expected[policy]);
        if (i >= 0 && i < SHARED) check_team(&t, expected[policy], p.tensors[i].name, __FILE__, __LINE__);
        if (i == 0) CHECK(strstr(t.message[parts - 1], "element 160005")), CHECK(parts == 1 || strstr(t.message[0], "rows of another part"));
        if (i == 6 && known && parts > 1) CHECK(strstr(t.message[(6 + 1) % parts], "another part"));
        check_same_parameters(&p, &q), check_counters(&t, whole);
    }
    check_context("");
    team_free(&t), lopt_destroy(whole);
    problem_free(&p), problem_free(&q);
}

/* A part without rows, and without memory, says what it is too. */
static void test_parts_without_rows_take_part(void) {
    const int64_t shape[] = {100, 3};
    problem none = {.count = 0}, q;
    team t;
    lopt_options options = rows_options();
    memset(&q, 0, sizeof q);
    problem_add(&q, "table", 2, shape);
    problem_start(&q);
    float *p = check_memory(1200);
    memcpy(p, q.tensors[0].parameter, 1200);
    lopt_optimizer *whole = problem_optimizer(&q, "pooled", &options);
    team_create(&t, &none, "pooled", &options, 3, 0);
    for (int part = 0; part < 3; part++) {
        const lopt_rows rows = rows_of(&q.tensors[0], part, 3);
        CHECK_INT(rows.count, part == 0 ? 100 : 0);
        CHECK_OK(lopt_add_rows(t.opt[part], "table", &rows, part == 0 ? p : NULL, LOPT_F32, part == 0 ? q.tensors[0].gradient : NULL, LOPT_F32,
                               shape, 2, NULL));
    }
    for (int step = 0; step < 6; step++) {
        problem_gradient(&q, step);
        if (step == 3) q.tensors[0].gradient[5] = NAN;
        CHECK_TEAM(&t, step_body, NULL, step == 3 ? LOPT_SKIPPED_NONFINITE : LOPT_OK, step == 3 ? "'table'" : NULL);
        CHECK_STATUS(lopt_step(whole), step == 3 ? LOPT_SKIPPED_NONFINITE : LOPT_OK);
        CHECK_BITS(p, q.tensors[0].parameter, 300);
        for (int part = 0; part < 3; part++) CHECK_NEAR(statistics_of(t.opt[part], 0).step_size, statistics_of(whole, 0).step_size, 0);
    }
    team_free(&t), lopt_destroy(whole), free(p), problem_free(&q);
}

/* Clipping goes by the norm of the whole; inspecting tells of the whole. */
static void test_norms_are_those_of_the_whole(void) {
    problem p, q;
    team t;
    lopt_options options = rows_options();
    options.max_gradient_norm = 2;
    rows_problem(&p), rows_problem(&q);
    lopt_optimizer *whole = problem_optimizer(&q, "pooled", &options);
    team_create(&t, &p, "pooled", &options, 3, 0);
    for (int step = 0; step < 5; step++) {
        problem_gradient(&q, step), problem_gradient(&p, step);
        team_copy_gradients(&t);
        for (int32_t index = -1; index < 2; index++) {
            lopt_gradients all = {.struct_size = sizeof all};
            CHECK_OK(lopt_inspect_gradients(whole, index, &all));
            CHECK_TEAM(&t, inspect_body, &index, LOPT_OK, NULL);
            for (int part = 0; part < 3; part++) CHECK_BYTES(&t.found[part], &all, sizeof all);
        }
        CHECK_OK(lopt_step(whole));
        CHECK_TEAM(&t, step_body, NULL, LOPT_OK, NULL);
        check_same_parameters(&p, &q);
        const lopt_statistics s = statistics_of(whole, -1);
        CHECK(s.gradient_norm > 2), CHECK_INT(s.steps_clipped, step + 1);
        for (int part = 0; part < 3; part++)
            CHECK_NEAR(statistics_of(t.opt[part], -1).gradient_norm, s.gradient_norm, 0), CHECK_INT(statistics_of(t.opt[part], -1).steps_clipped, step + 1);
    }
    /* The factor would be another on each part. */
    t.own[1].tensors[6].gradient[2] += 1;
    CHECK_TEAM(&t, step_body, NULL, LOPT_ERROR_MISMATCH, "max_gradient_norm");
    check_same_parameters(&p, &q);
    t.own[1].tensors[6].gradient[2] = p.tensors[6].gradient[2];
    CHECK_OK(lopt_step(whole));
    CHECK_TEAM(&t, step_body, NULL, LOPT_OK, NULL);
    check_same_parameters(&p, &q);
    /* And all that is not finite is counted. */
    int32_t index = 0;
    p.tensors[0].gradient[1] = p.tensors[0].gradient[160000] = p.tensors[0].gradient[2] = INFINITY;
    CHECK_TEAM(&t, inspect_body, &index, LOPT_OK, NULL);
    for (int part = 0; part < 3; part++) CHECK_INT(t.found[part].nonfinite, 3), CHECK(isinf(t.found[part].norm_squared));
    team_free(&t), lopt_destroy(whole);
    problem_free(&p), problem_free(&q);
}

int main(void) {
    test_parts_have_all_rows_in_whole_chunks();
    for (int parts = 1; parts <= check_repetitions(MOST_PARTS, 3); parts += check_repetitions(1, 2)) test_rows_on_parts_take_the_steps_of_the_whole("pooled", parts, 1, parts % 2);
    test_rows_on_parts_take_the_steps_of_the_whole("pooled", 2, 3, 1);
    test_rows_on_parts_take_the_steps_of_the_whole("made pooled", 3, 2, 0);
    test_tensors_stepped_one_by_one_give_the_same_bits();
    test_rows_of_other_types_are_as_the_whole();
    for (int parts = check_repetitions(1, 3); parts <= 3; parts++) {
        test_nonfinite_on_one_part_is_so_for_all(LOPT_NONFINITE_SKIP_STEP, parts);
        test_nonfinite_on_one_part_is_so_for_all(LOPT_NONFINITE_SKIP_TENSOR, parts);
        test_nonfinite_on_one_part_is_so_for_all(LOPT_NONFINITE_ERROR, parts);
    }
    test_parts_without_rows_take_part();
    test_norms_are_those_of_the_whole();
    /* Momenta are rounded by where an element is in the whole. */
    rows_momentum_type = LOPT_BF16;
    for (int parts = 1; parts <= check_repetitions(MOST_PARTS, 3); parts += 2) test_rows_on_parts_take_the_steps_of_the_whole("pooled", parts, 2, parts % 2);
    test_tensors_stepped_one_by_one_give_the_same_bits();
    return check_end();
}
