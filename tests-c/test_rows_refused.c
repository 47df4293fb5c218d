/* Rows of tensors on several parts: a gather that fails, or a part that cannot do what it is called for or differs from the others,
 * changes nothing anywhere. What parts cannot do is refused, and allocations that fail change nothing. */
#define _GNU_SOURCE
#include "rows.h"

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

static void test_parts_with_other_momenta_are_told(void) {
    problem p;
    team t;
    lopt_options options = rows_options();
    rows_problem(&p);
    part_with_bf16_momenta = 1;
    team_create(&t, &p, "pooled", &options, 2, 0);
    part_with_bf16_momenta = -1;
    problem_gradient(&p, 0);
    CHECK_TEAM(&t, step_body, NULL, LOPT_ERROR_MISMATCH, "other tensors, options");
    team_free(&t), problem_free(&p);
}

static float *parameters_of[MOST_PARTS][8], *gradients_of[MOST_PARTS][8];
static lopt_status step_with_body(team *t, int part, void *context) {
    (void)context;
    return lopt_step_with(t->opt[part], t->p->count, parameters_of[part], gradients_of[part]);
}
static lopt_status write_body(team *t, int part, void *context) {
    size_t size = 0;
    (void)context;
    if (lopt_state_size(t->opt[part], 0, &size) != LOPT_OK) return LOPT_ERROR_NO_MEMORY;
    void *memory = malloc(size);
    const lopt_status status = lopt_state_write(t->opt[part], 0, memory, part == 1 ? size - 1 : size);
    free(memory);
    return status;
}

static void check_only_part_1_says_why(team *t, team_body body, const char *why) {
    int32_t all = -1;
    team_do(t, body, &all);
    for (int part = 0; part < t->parts; part++) {
        CHECK_INT(t->status[part], part == 1 ? LOPT_ERROR_INVALID_ARGUMENT : LOPT_ERROR_MISMATCH);
        CHECK(strstr(t->message[part], part == 1 ? why : "part 1 cannot do this") != NULL);
    }
}

/* Nobody waits for a part that cannot. */
static void test_what_one_part_cannot_do_none_does(void) {
    problem p, q;
    team t;
    lopt_options options = rows_options();
    rows_problem(&p), rows_problem(&q);
    team_create(&t, &p, "pooled", &options, 3, 0);
    problem_gradient(&p, 0), team_copy_gradients(&t);
    float *parameter = t.own[1].tensors[6].parameter, *gradient = t.own[1].tensors[6].gradient;
    CHECK_OK(lopt_bind(t.opt[1], 6, NULL, gradient));
    check_only_part_1_says_why(&t, step_body, "'bias' is NULL");
    check_only_part_1_says_why(&t, inspect_body, "'bias' is NULL");
    CHECK_OK(lopt_bind(t.opt[1], 6, parameter, gradient));
    check_only_part_1_says_why(&t, write_body, "size is");
    CHECK_OK(lopt_average_swap(t.opt[1]));
    check_only_part_1_says_why(&t, step_body, "lopt_average_swap");
    CHECK_OK(lopt_average_swap(t.opt[1]));
    for (int part = 0; part < 3; part++) {
        for (int i = 0; i < p.count; i++) {
            problem_tensor *tensor = part == 0 || i < SHARED ? &p.tensors[i] : &t.own[part].tensors[i];
            const int64_t begin = i < SHARED ? rows_of(tensor, part, 3).first * (tensor->elements / tensor->shape[0]) : 0;
            parameters_of[part][i] = tensor->parameter + begin, gradients_of[part][i] = tensor->gradient + begin;
        }
    }
    parameters_of[1][6] = parameters_of[1][5];
    check_only_part_1_says_why(&t, step_with_body, "overlaps");
    check_same_parameters(&p, &q);
    parameters_of[1][6] = parameter;
    lopt_optimizer *whole = problem_optimizer(&q, "pooled", &options);
    problem_gradient(&q, 0);
    CHECK_OK(lopt_step(whole));
    CHECK_TEAM(&t, step_with_body, NULL, LOPT_OK, NULL);
    check_same_parameters(&p, &q);
    team_free(&t), lopt_destroy(whole);
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
    volatile float tiny = 1e-40f, one = 1; /* the floating-point environment is the default one: a step's would flush it */
    CHECK(tiny * one > 0);
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
    REFUSED(lopt_rows_of(shape, 2, 2, 2, &rows), "part is 2 of 2");
    REFUSED(lopt_rows_of(shape, 2, -1, 2, &rows), "part is -1 of 2");
    REFUSED(lopt_rows_of(shape, 2, 0, 0, &rows), "part is 0 of 0; parts may be 1 to 1048576");
    REFUSED(lopt_rows_of(shape, 0, 0, 1, &rows), "rank is 0");
    REFUSED(lopt_rows_of(shape, 9, 0, 1, &rows), "rank is 9");
    REFUSED(lopt_rows_of(negative, 2, 0, 1, &rows), "negative");
    REFUSED(lopt_rows_of(empty, 2, 0, 1, &rows), "without elements");
    lopt_options options = problem_options();
    lopt_optimizer *opt = NULL;
    options.gather = (lopt_gather){gather_alone, NULL, 3, 3};
    REFUSED(lopt_create(NULL, &options, &opt), "part is 3 of 3");
    options.gather.parts = -1;
    REFUSED(lopt_create(NULL, &options, &opt), "part is 3 of -1");

    opt = alone(two, "pooled", 0);
    for (size_t k = 0; k < sizeof wrong / sizeof *wrong; k++)
        REFUSED(lopt_add_rows(opt, "table", &wrong[k], p, LOPT_F32, g, LOPT_F32, shape, 2, NULL), "rows are ");
    REFUSED(lopt_add_rows(opt, "table", &wrong[0], p, LOPT_F32, g, LOPT_F32, shape, 2, NULL), "this part has 12288 from 0 on (lopt_rows_of)");
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
    REFUSED(lopt_add_rows(opt, "table", &whole, p, LOPT_F32, g, LOPT_F32, shape, 2, NULL), "max_update_ratio must be 0");
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

/* Counts what it holds, and refuses one allocation. */
typedef struct books {
    size_t held;
    int until_refusal;
} books;
static void *books_allocate(void *context, size_t size, size_t alignment) {
    books *b = context;
    if (b->until_refusal-- == 0) return NULL;
    b->held += size;
    return aligned_alloc(alignment, size);
}
static void books_free(void *context, void *pointer, size_t size) {
    ((books *)context)->held -= size;
    free(pointer);
}

static void test_failing_allocations_change_nothing(void) {
    static float p[160000], g[160000];
    const int64_t shape[] = {20000, 8};
    books b = {0, -1};
    lopt_options options = problem_options();
    lopt_optimizer *opt = NULL;
    options.gather = (lopt_gather){gather_alone, NULL, 0, 1};
    options.allocator = (lopt_allocator){books_allocate, books_free, &b};
    CHECK_OK(lopt_create(NULL, &options, &opt));
    g[7] = 3;
    for (int i = 0; i < 40; i++) {
        char name[8];
        const int64_t begin = 4000 * i;
        lopt_rows rows = {0, 4000};
        snprintf(name, sizeof name, "%d", i);
        int refusals = 0;
        for (lopt_status status = LOPT_ERROR_NO_MEMORY; status != LOPT_OK; refusals++) {
            const lopt_information before = information_of(opt);
            b.until_refusal = refusals;
            status = lopt_add_rows(opt, name, &rows, p + begin, LOPT_F32, g + begin, LOPT_F32, (int64_t[]){4000}, 1, NULL);
            if (status != LOPT_OK) CHECK_INT(status, LOPT_ERROR_NO_MEMORY), CHECK_INT(information_of(opt).tensors, before.tensors);
            CHECK_INT(information_of(opt).memory_bytes, b.held);
        }
        CHECK(refusals > 1);
        b.until_refusal = 0; /* steps allocate nothing */
        CHECK_OK(lopt_step(opt));
        b.until_refusal = -1;
    }
    lopt_rows rows = {0, 20000};
    CHECK_OK(lopt_add_rows(opt, "table", &rows, NULL, LOPT_F32, NULL, LOPT_F32, shape, 2, NULL));
    CHECK_INT(information_of(opt).memory_bytes, b.held);
    lopt_destroy(opt);
    CHECK_INT(b.held, 0);
}

int main(void) {
    test_failing_gather_changes_nothing();
    rows_momentum_type = LOPT_BF16;
    test_failing_gather_changes_nothing();
    rows_momentum_type = LOPT_F32;
    test_parts_that_differ_are_told();
    test_parts_with_other_momenta_are_told();
    test_what_one_part_cannot_do_none_does();
    test_what_parts_cannot_do_is_refused();
    test_failing_allocations_change_nothing();
    return check_end();
}
