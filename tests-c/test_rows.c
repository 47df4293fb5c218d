/* Rows of tensors on several parts: the steps have the bits of one optimizer that has the whole, whatever the number of parts, idle
 * stretches, gradients that are not finite and gathers that fail. What parts cannot do is refused. */
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

static void check_counters(const team *t, lopt_optimizer *whole) {
    for (int part = 0; part < t->parts; part++) {
        for (int i = 0; i < SHARED; i++) {
            const lopt_statistics here = statistics_of(t->opt[part], i), there = statistics_of(whole, i);
            CHECK_INT(here.steps, there.steps), CHECK_INT(here.steps_idle, there.steps_idle), CHECK_INT(here.nonfinite, there.nonfinite);
            CHECK_INT(here.steps_skipped, there.steps_skipped), CHECK_NEAR(here.step_size, there.step_size, 0);
        }
    }
}

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

static lopt_gradients found[MOST_PARTS];
static lopt_status inspect_body(team *t, int part, void *context) {
    found[part] = (lopt_gradients){.struct_size = sizeof found[part]};
    return lopt_inspect_gradients(t->opt[part], *(int32_t *)context, &found[part]);
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
            for (int part = 0; part < 3; part++) CHECK_BYTES(&found[part], &all, sizeof all);
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
    for (int part = 0; part < 3; part++) CHECK_INT(found[part].nonfinite, 3), CHECK(isinf(found[part].norm_squared));
    team_free(&t), lopt_destroy(whole);
    problem_free(&p), problem_free(&q);
}

/* ---- Gathers that fail ------------------------------------------------------------------------------------------- */

/* Each gather once, those of first steps and of later ones: what was called off is taken when it is called again. */
static void test_failing_gather_changes_nothing(void) {
    problem p, q;
    team t;
    lopt_options options = rows_options();
    options.nonfinite = LOPT_NONFINITE_SKIP_TENSOR, options.max_gradient_norm = 5;
    rows_problem(&p), rows_problem(&q);
    lopt_optimizer *whole = problem_optimizer(&q, "pooled", &options);
    team_create(&t, &p, "pooled", &options, 3, 0);
    for (int step = 0; step < 5; step++) {
        rows_gradient(&q, step), rows_gradient(&p, step);
        if (step == 1) p.tensors[3].gradient[7] = q.tensors[3].gradient[7] = INFINITY;
        team_copy_gradients(&t);
        problem before;
        rows_problem(&before);
        for (int i = 0; i < p.count; i++) memcpy(before.tensors[i].parameter, p.tensors[i].parameter, 4 * (size_t)p.tensors[i].elements);
        const lopt_statistics s = statistics_of(t.opt[1], -1);
        /* In the first steps of tensors there are two. */
        for (int gather = 0; gather < (step < 2 ? 2 : 1); gather++) {
            check_context("step %d, gather %d", step, gather);
            t.fail_call = t.rank_of_call + gather;
            CHECK_TEAM(&t, step_body, NULL, LOPT_ERROR_IO, "gather returned 7");
            check_same_parameters(&p, &before);
            const lopt_statistics now = statistics_of(t.opt[1], -1);
            CHECK_BYTES(&now, &s, sizeof s);
        }
        t.fail_call = -1;
        CHECK_STATUS(lopt_step(whole), step == 1 ? LOPT_SKIPPED_NONFINITE : LOPT_OK);
        CHECK_TEAM(&t, step_body, NULL, step == 1 ? LOPT_SKIPPED_NONFINITE : LOPT_OK, NULL);
        check_same_parameters(&p, &q), check_counters(&t, whole);
        problem_free(&before);
    }
    check_context("");
    team_free(&t), lopt_destroy(whole);
    problem_free(&p), problem_free(&q);
}

static lopt_status mixed_body(team *t, int part, void *context) {
    int32_t all = -1;
    (void)context;
    return part == 1 ? inspect_body(t, part, &all) : lopt_step(t->opt[part]);
}

/* A step that one part has not taken, another scale, another call: found out before anything is written. */
static void test_parts_that_differ_are_told(void) {
    problem p, q;
    team t;
    lopt_options options = rows_options();
    rows_problem(&p), rows_problem(&q);
    team_create(&t, &p, "pooled", &options, 3, 1);
    problem_gradient(&p, 0);
    CHECK_TEAM(&t, step_body, NULL, LOPT_OK, NULL);
    for (int i = 0; i < p.count; i++) memcpy(q.tensors[i].parameter, p.tensors[i].parameter, 4 * (size_t)p.tensors[i].elements);
    CHECK_TEAM(&t, mixed_body, NULL, LOPT_ERROR_MISMATCH, "another call");
    CHECK_OK(lopt_set_lr_scale(t.opt[2], 0.5));
    CHECK_TEAM(&t, step_body, NULL, LOPT_ERROR_MISMATCH, NULL);
    CHECK(strstr(t.message[0], "part 2")), CHECK(strstr(t.message[2], "part 0"));
    check_same_parameters(&p, &q);
    CHECK_OK(lopt_set_lr_scale(t.opt[2], 1));
    t.fail_call = t.rank_of_call, t.fail_part = 1;
    team_do(&t, step_body, NULL);
    CHECK_INT(t.status[0], LOPT_OK), CHECK_INT(t.status[1], LOPT_ERROR_IO), CHECK_INT(t.status[2], LOPT_OK);
    CHECK_TEAM(&t, step_body, NULL, LOPT_ERROR_MISMATCH, NULL);
    team_free(&t);
    problem_free(&p), problem_free(&q);
}

/* ---- Misuse ------------------------------------------------------------------------------------------------------ */

#define REFUSED(call, text) (CHECK_STATUS(call, LOPT_ERROR_INVALID_ARGUMENT), CHECK_MESSAGE(text))

static lopt_optimizer *alone(lopt_gather gather, const char *weights, double ratio) {
    lopt_options options = problem_options();
    options.gather = gather, options.max_update_ratio = ratio;
    return problem_create(weights, &options);
}

static int gather_alone(void *context, const double *own, double *all, int64_t count) {
    if (context) CHECK_STATUS(lopt_step(*(lopt_optimizer **)context), LOPT_ERROR_INVALID_ARGUMENT);
    memcpy(all, own, 8 * (size_t)count);
    return 0;
}

static void test_what_parts_cannot_do_is_refused(void) {
    const int64_t shape[9] = {20000, 8}, negative[] = {3, -1}, empty[] = {3, 0}, *volatile nothing = NULL; /* which compilers see */
    static float p[160000], g[160000];
    lopt_rows rows, whole = {0, 20000}, wrong[] = {{0, 8193}, {0, 20000}, {4096, 8192}, {-1, 8192}, {0, -8192}, {INT64_MAX, 2}};
    const lopt_gather two = {gather_alone, NULL, 0, 2}, one = {gather_alone, NULL, 0, 1}, none = {NULL, NULL, 0, 0};
    REFUSED(lopt_rows_of(nothing, 2, 0, 1, &rows), "shape is NULL");
    REFUSED(lopt_rows_of(shape, 2, 0, 1, NULL), "rows is NULL");
    REFUSED(lopt_rows_of(shape, 2, 2, 2, &rows), "part is 2");
    REFUSED(lopt_rows_of(shape, 2, -1, 2, &rows), "part is -1");
    REFUSED(lopt_rows_of(shape, 2, 0, 0, &rows), "parts is 0; allowed are 1 to 1048576");
    REFUSED(lopt_rows_of(shape, 0, 0, 1, &rows), "rank is 0");
    REFUSED(lopt_rows_of(shape, 9, 0, 1, &rows), "rank is 9");
    REFUSED(lopt_rows_of(negative, 2, 0, 1, &rows), "negative");
    REFUSED(lopt_rows_of(empty, 2, 0, 1, &rows), "without elements");
    lopt_options options = problem_options();
    lopt_optimizer *opt = NULL;
    options.gather = (lopt_gather){gather_alone, NULL, 3, 3};
    REFUSED(lopt_create(NULL, &options, &opt), "gather.part is 3");
    options.gather.parts = -1;
    REFUSED(lopt_create(NULL, &options, &opt), "gather.parts is -1");

    opt = alone(two, "pooled", 0);
    for (size_t k = 0; k < sizeof wrong / sizeof *wrong; k++)
        REFUSED(lopt_add_rows(opt, "table", &wrong[k], p, LOPT_F32, g, LOPT_F32, shape, 2, NULL), "rows are ");
    REFUSED(lopt_add_rows(opt, "table", &wrong[0], p, LOPT_F32, g, LOPT_F32, shape, 2, NULL), "part 0 of 2 has 12288 from 0 on (lopt_rows_of)");
    CHECK_OK(lopt_rows_of(shape, 2, 0, 2, &rows));
    REFUSED(lopt_add_rows(NULL, "table", &rows, p, LOPT_F32, g, LOPT_F32, shape, 2, NULL), "opt is NULL");
    REFUSED(lopt_add_rows(opt, NULL, &rows, p, LOPT_F32, g, LOPT_F32, shape, 2, NULL), "name is NULL");
    REFUSED(lopt_add_rows(opt, "table", NULL, p, LOPT_F32, g, LOPT_F32, shape, 2, NULL), "rows is NULL");
    REFUSED(lopt_add_rows(opt, "table", &rows, p, LOPT_F32, g, LOPT_F32, nothing, 2, NULL), "shape is NULL");
    REFUSED(lopt_add_rows(opt, "table", &rows, p, (lopt_element)4, g, LOPT_F32, shape, 2, NULL), "parameter_type");
    REFUSED(lopt_add_rows(opt, "table", &rows, p, LOPT_F32, p, LOPT_F32, shape, 2, NULL), "overlap");
    REFUSED(lopt_add_rows(opt, "table", &rows, p, LOPT_F32, g, LOPT_F32, shape, 0, NULL), "rank is 0");
    REFUSED(lopt_add_rows(opt, "table", &rows, p, LOPT_F32, g, LOPT_F32, empty, 2, NULL), "without elements");
    CHECK_INT(information_of(opt).tensors, 0);
    CHECK_OK(lopt_add_rows(opt, "table", &rows, NULL, LOPT_F32, NULL, LOPT_F32, shape, 2, NULL));
    REFUSED(lopt_add_rows(opt, "table", &rows, p, LOPT_F32, g, LOPT_F32, shape, 2, NULL), "taken");
    REFUSED(lopt_step(opt), "is NULL");
    lopt_destroy(opt);

    opt = alone(none, "pooled", 0);
    REFUSED(lopt_add_rows(opt, "table", &whole, p, LOPT_F32, g, LOPT_F32, shape, 2, NULL), "options.gather is not set");
    lopt_destroy(opt), opt = alone(one, "star", 0);
    REFUSED(lopt_add_rows(opt, "table", &whole, p, LOPT_F32, g, LOPT_F32, shape, 2, NULL), "kind pooled");
    lopt_destroy(opt), opt = alone(one, "pooled", 0.1);
    REFUSED(lopt_add_rows(opt, "table", &whole, p, LOPT_F32, g, LOPT_F32, shape, 2, NULL), "max_update_ratio is 0.1");
    lopt_destroy(opt);
    /* A gather cannot use the optimizer that is in it. */
    lopt_optimizer *self = NULL;
    self = opt = alone((lopt_gather){gather_alone, &self, 0, 1}, "pooled", 0);
    g[5] = 1;
    CHECK_OK(lopt_add_rows(opt, "table", &whole, p, LOPT_F32, g, LOPT_F32, shape, 2, NULL));
    CHECK_OK(lopt_step(opt));
    snapshot s = snapshot_of(opt, 0);
    snapshot_free(&s), lopt_destroy(opt);
}

int main(void) {
    test_parts_have_all_rows_in_whole_chunks();
    for (int parts = 1; parts <= MOST_PARTS; parts++) test_rows_on_parts_take_the_steps_of_the_whole("pooled", parts, 1, parts % 2);
    test_rows_on_parts_take_the_steps_of_the_whole("pooled", 2, 3, 1);
    test_rows_on_parts_take_the_steps_of_the_whole("made pooled", 3, 2, 0);
    test_tensors_stepped_one_by_one_give_the_same_bits();
    test_rows_of_other_types_are_as_the_whole();
    for (int parts = 1; parts <= 3; parts++) {
        test_nonfinite_on_one_part_is_so_for_all(LOPT_NONFINITE_SKIP_STEP, parts);
        test_nonfinite_on_one_part_is_so_for_all(LOPT_NONFINITE_SKIP_TENSOR, parts);
        test_nonfinite_on_one_part_is_so_for_all(LOPT_NONFINITE_ERROR, parts);
    }
    test_norms_are_those_of_the_whole();
    test_failing_gather_changes_nothing();
    test_parts_that_differ_are_told();
    test_what_parts_cannot_do_is_refused();
    return check_end();
}
