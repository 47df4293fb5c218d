/* Misuse is caught: every call refuses what it cannot take with the right status, a message that names the argument and
 * what is allowed, an output handle set to NULL, and changes nothing. */
#define _GNU_SOURCE
#include "problem.h"

#include <limits.h>
#include <pthread.h>

/* gcc sees that sizes and NULLs are wrong, by the attributes in lopt.h. */
#pragma GCC diagnostic ignored "-Wstringop-overflow"
#pragma GCC diagnostic ignored "-Wnonnull"

/* What the calls are made on: two tensors with some steps behind them, and what they held then. */
static problem host;
static lopt_optimizer *opt;
static snapshot before;
static lopt_information information_before;

static lopt_information information(void) {
    lopt_information i;
    memset(&i, 0, sizeof i);
    i.struct_size = sizeof i;
    CHECK_OK(lopt_info(opt, &i));
    return i;
}

static void start(void) {
    lopt_options options = problem_options();
    problem_add(&host, "a", 2, (int64_t[]){4, 3});
    problem_add(&host, "b", 1, (int64_t[]){5});
    problem_start(&host);
    options.weight_decay = 0.01;
    CHECK_OK(lopt_create(NULL, &options, &opt));
    problem_register(&host, opt);
    problem_train(&host, opt, 0, 3);
    before = snapshot_of(opt, LOPT_WITH_PARAMETERS);
    information_before = information();
}

/* Makes the last message one that no call under test gives. */
static void set_other_message(void) {
    lopt_weights *weights;
    (void)!lopt_weights_builtin("unrelated", NULL, &weights);
}

static void check_refusal(lopt_status found, lopt_status expected, const char *argument, const char *allowed,
                          const char *call, int line) {
    const char *text = lopt_last_error();
    check_that(found == expected, __FILE__, line, "%s returned %d, expected %d (\"%s\")", call, (int)found,
               (int)expected, text);
    check_that(!strstr(text, "unrelated"), __FILE__, line, "%s left no message", call);
    check_message(argument, __FILE__, line);
    check_message(allowed, __FILE__, line);
    if (!opt) return;
    check_same_state(opt, &before, call, __FILE__, line);
    lopt_information now = information();
    check_bytes(&now, &information_before, sizeof now, call, __FILE__, line);
}

#define REFUSED_AS(status, call, argument, allowed) \
    (set_other_message(), check_refusal(call, status, argument, allowed, #call, __LINE__))
#define REFUSED(call, argument, allowed) REFUSED_AS(LOPT_ERROR_INVALID_ARGUMENT, call, argument, allowed)

static void test_null_is_refused_by_name(void) {
    float memory[4] = {0}, gradient[4] = {0};
    int64_t shape[1] = {4};
    lopt_options options;
    lopt_tensor_options tensor_options;
    lopt_statistics statistics = {.struct_size = sizeof statistics};
    lopt_information inside = {.struct_size = sizeof inside};
    size_t size = 7;
    int32_t index = 7;
    char bytes[8];
    CHECK_OK(lopt_tensor_options_init(&tensor_options, sizeof tensor_options));

    REFUSED(lopt_create(NULL, NULL, NULL), "out", "NULL");
    REFUSED(lopt_weights_builtin(NULL, NULL, NULL), "out", "NULL");
    REFUSED(lopt_weights_load("x", NULL, NULL), "out", "NULL");
    REFUSED(lopt_weights_from_memory("x", 1, NULL, NULL), "out", "NULL");
    REFUSED(lopt_add_tensor(NULL, "n", memory, gradient, shape, 1, &index), "opt", "NULL");
    REFUSED(lopt_add_tensor(opt, NULL, memory, gradient, shape, 1, &index), "name", "NULL");
    REFUSED(lopt_add_tensor(opt, "n", memory, gradient, NULL, 1, &index), "shape", "NULL");
    REFUSED(lopt_add_typed(NULL, "n", memory, LOPT_BF16, gradient, LOPT_F64, shape, 1, &index), "opt", "NULL");
    REFUSED(lopt_add_typed(opt, NULL, memory, LOPT_BF16, gradient, LOPT_F64, shape, 1, &index), "name", "NULL");
    REFUSED(lopt_add_typed(opt, "n", memory, LOPT_BF16, gradient, LOPT_F64, NULL, 1, &index), "shape", "NULL");
    REFUSED(lopt_add_typed(opt, "n", memory, (lopt_element)4, gradient, LOPT_F64, shape, 1, &index), "parameter_type is 4", "0 to 3");
    REFUSED(lopt_add_typed(opt, "n", memory, LOPT_F16, gradient, (lopt_element)-1, shape, 1, &index), "gradient_type is -1", "0 to 3");
    REFUSED(lopt_add_elsewhere(NULL, "n", shape, 1, &index), "opt", "NULL");
    REFUSED(lopt_add_elsewhere(opt, NULL, shape, 1, &index), "name", "NULL");
    REFUSED(lopt_add_elsewhere(opt, "n", NULL, 1, &index), "shape", "NULL");
    lopt_gradients gradients = {.struct_size = sizeof gradients}, untouched = gradients;
    REFUSED(lopt_inspect_gradients(NULL, -1, &gradients), "opt", "NULL");
    REFUSED(lopt_inspect_gradients(opt, -1, NULL), "gradients", "NULL");
    gradients.struct_size = untouched.struct_size = 20;
    REFUSED(lopt_inspect_gradients(opt, -1, &gradients), "struct_size is 20", "24");
    CHECK_BYTES(&gradients, &untouched, sizeof gradients);
    lopt_flat_entry entries[2] = {{"n", 0, 1, {2}}, {NULL, 2, 1, {2}}};
    REFUSED(lopt_add_flat(NULL, memory, gradient, entries, 1), "opt", "NULL");
    REFUSED(lopt_add_flat(NULL, memory, gradient, NULL, 0), "opt", "NULL");
    REFUSED(lopt_add_flat(opt, memory, gradient, NULL, 1), "table", "NULL");
    REFUSED(lopt_add_flat(opt, memory, gradient, entries, 2), "table[1]: name", "NULL");
    REFUSED(lopt_add_flat(opt, memory, gradient, entries, -1), "count is -1", "negative");
    REFUSED(lopt_add_flat(opt, memory, gradient, entries, INT32_MIN), "count is", "negative");
    REFUSED(lopt_add_flat_typed(NULL, memory, LOPT_BF16, gradient, LOPT_F64, entries, 1), "opt", "NULL");
    REFUSED(lopt_add_flat_typed(opt, memory, LOPT_BF16, gradient, LOPT_F64, NULL, 1), "table", "NULL");
    REFUSED(lopt_add_flat_typed(opt, memory, LOPT_BF16, gradient, LOPT_F16, entries, 2), "table[1]: name", "NULL");
    REFUSED(lopt_add_flat_typed(opt, memory, LOPT_BF16, gradient, LOPT_F64, entries, -1), "count is -1", "negative");
    REFUSED(lopt_add_flat_typed(opt, memory, (lopt_element)4, gradient, LOPT_F64, entries, 1), "parameter_type is 4", "0 to 3");
    REFUSED(lopt_add_flat_typed(opt, memory, LOPT_F16, gradient, (lopt_element)-1, NULL, 0), "gradient_type is -1", "0 to 3");
    REFUSED(lopt_bind(NULL, 0, memory, gradient), "opt", "NULL");
    REFUSED(lopt_bind_many(NULL, 0, NULL), "opt", "NULL");
    REFUSED(lopt_bind_many(opt, 1, NULL), "bindings", "NULL");
    REFUSED(lopt_step(NULL), "opt", "NULL");
    REFUSED(lopt_step_tensor(NULL, 0), "opt", "NULL");
    float *two[2] = {memory, memory};
    REFUSED(lopt_step_with(NULL, 2, two, two), "opt", "NULL");
    REFUSED(lopt_step_with(opt, 2, NULL, two), "parameters", "NULL");
    REFUSED(lopt_step_with(opt, 2, two, NULL), "gradients", "NULL");
    REFUSED(lopt_average_get(NULL, 0, memory, 4), "opt", "NULL");
    REFUSED(lopt_average_get(opt, 0, NULL, 12), "out", "NULL");
    REFUSED(lopt_average_swap(NULL), "opt", "NULL");
    REFUSED(lopt_average_swap(opt), "no averages", "options.average");
    REFUSED(lopt_save(NULL, "x", 0), "opt", "NULL");
    REFUSED(lopt_save(opt, NULL, 0), "path", "NULL");
    REFUSED(lopt_restore(NULL, "x", 0), "opt", "NULL");
    REFUSED(lopt_restore(opt, NULL, 0), "path", "NULL");
    REFUSED(lopt_state_size(NULL, 0, &size), "opt", "NULL");
    REFUSED(lopt_state_size(opt, 0, NULL), "size", "NULL");
    REFUSED(lopt_state_write(NULL, 0, bytes, 8), "opt", "NULL");
    REFUSED(lopt_state_write(opt, 0, NULL, 1 << 20), "memory", "NULL");
    REFUSED(lopt_state_read(NULL, 0, bytes, 8), "opt", "NULL");
    REFUSED(lopt_state_read(opt, 0, NULL, 1 << 20), "memory", "NULL");
    REFUSED(lopt_options_init(NULL, sizeof options), "options", "NULL");
    REFUSED(lopt_tensor_options_init(NULL, sizeof tensor_options), "options", "NULL");
    REFUSED(lopt_set_lr_scale(NULL, 1), "opt", "NULL");
    REFUSED(lopt_set_total_steps(NULL, 1), "opt", "NULL");
    REFUSED(lopt_set_gradient_scale(NULL, 1), "opt", "NULL");
    REFUSED(lopt_set_tensor_options(NULL, 0, &tensor_options), "opt", "NULL");
    REFUSED(lopt_set_tensor_options(opt, 0, NULL), "options", "NULL");
    REFUSED(lopt_stats(NULL, 0, &statistics), "opt", "NULL");
    REFUSED(lopt_stats(opt, 0, NULL), "statistics", "NULL");
    REFUSED(lopt_info(NULL, &inside), "opt", "NULL");
    REFUSED(lopt_info(opt, NULL), "information", "NULL");
    CHECK_INT(index, 7);
    CHECK_INT(size, 7);

    lopt_weights *weights = (lopt_weights *)memory;
    REFUSED(lopt_weights_load(NULL, NULL, &weights), "path", "NULL");
    CHECK(weights == NULL);
    weights = (lopt_weights *)memory;
    REFUSED(lopt_weights_from_memory(NULL, 8, NULL, &weights), "bytes", "NULL");
    CHECK(weights == NULL);
    CHECK_OK(lopt_weights_builtin(NULL, NULL, &weights));
    CHECK(lopt_weights_metadata(NULL, "kind") == NULL);
    CHECK(lopt_weights_metadata(weights, NULL) == NULL);
    CHECK(lopt_weights_metadata(NULL, NULL) == NULL);
    lopt_weights_free(weights);
    lopt_weights_free(NULL);
    lopt_destroy(NULL);
}

static void test_bad_names_are_refused(void) {
    float memory[1] = {0}, gradient[1] = {0};
    char name[257];
    memset(name, 'n', sizeof name);
    name[256] = 0;
    REFUSED(lopt_add_tensor(opt, "", memory, gradient, NULL, 0, NULL), "name has 0", "1 to 255");
    REFUSED(lopt_add_tensor(opt, name, memory, gradient, NULL, 0, NULL), "name has 256", "1 to 255");
    REFUSED(lopt_add_tensor(opt, "a", memory, gradient, NULL, 0, NULL), "name 'a'", "taken");
    REFUSED(lopt_add_elsewhere(opt, "a", NULL, 0, NULL), "name 'a'", "taken");
    REFUSED(lopt_add_elsewhere(opt, name, NULL, 0, NULL), "name has 256", "1 to 255");
    for (int byte = 1; byte < 256; byte++) {
        if (byte >= 0x20 && byte < 0x7f) continue;
        char bad[4] = {'x', (char)byte, 'y', 0};
        check_context("byte %02x", byte);
        REFUSED(lopt_add_tensor(opt, bad, memory, gradient, NULL, 0, NULL), "name", "UTF-8 without control characters");
    }
    static const char *malformed[] = {
        "\xc3", "x\xe2\x82", "\xf0\x9f\x98", "\xc0\xaf", "\xe0\x80\xaf", "\xf0\x80\x80\xaf", "\xed\xa0\x80",
        "\xf4\x90\x80\x80", "\xf8\x88\x80\x80\x80", "\xc3\xc3\xa9", "\xa9",
    };
    for (size_t i = 0; i < sizeof malformed / sizeof *malformed; i++) {
        check_context("malformed name %zu", i);
        REFUSED(lopt_add_tensor(opt, malformed[i], memory, gradient, NULL, 0, NULL), "name", "UTF-8");
    }
    check_context("");
}

static void test_bad_shapes_are_refused(void) {
    static float memory[16], gradient[16];
    static const int32_t ranks[] = {-1, 9, 64, INT32_MAX, INT32_MIN};
    int64_t shape[9] = {1, 1, 1, 1, 1, 1, 1, 1, 1};
    for (int i = 0; i < 5; i++) {
        check_context("rank %d", ranks[i]);
        REFUSED(lopt_add_tensor(opt, "n", memory, gradient, shape, ranks[i], NULL), "rank is", "0 to 8");
        REFUSED(lopt_add_elsewhere(opt, "n", shape, ranks[i], NULL), "rank is", "0 to 8");
    }
    int64_t past = ((int64_t)1 << 48) + 1, half = (int64_t)1 << 25;
    int64_t bad[][3] = {
        {-1, 1, 1}, {INT64_MIN, 1, 1}, {2, -3, 4}, {0, 1, -1}, {1, INT64_MIN, INT64_MIN}, {past, 1, 1}, {1, 1, past},
        {half, half, 1}, {INT64_MAX, 1, 1}, {INT64_MAX, INT64_MAX, INT64_MAX}, {INT64_MAX / 4, 2, 4},
        {(int64_t)1 << 32, 1, (int64_t)1 << 32}, {3, INT64_MAX / 3, 2}, {1 << 16, 1 << 16, (1 << 16) + 1},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        check_context("shape %zu", i);
        REFUSED(lopt_add_tensor(opt, "n", memory, gradient, bad[i], 3, NULL), "shape[", i < 5 ? "negative" : "2^48");
        REFUSED(lopt_add_elsewhere(opt, "n", bad[i], 3, NULL), "shape[", i < 5 ? "negative" : "2^48");
    }
    check_context("");
    /* The end of the address space comes before the end of the tensor. */
    REFUSED(lopt_add_tensor(opt, "n", (float *)(UINTPTR_MAX - 63), gradient, (int64_t[]){17}, 1, NULL), "parameter",
            "address space");
    REFUSED(lopt_add_tensor(opt, "n", memory, (float *)(UINTPTR_MAX - 63), (int64_t[]){17}, 1, NULL), "gradient",
            "address space");
}

static void test_unknown_indices_are_refused(void) {
    static const int32_t bad[] = {-1, 2, 3, INT32_MAX, INT32_MIN};
    float memory[12] = {0}, gradient[12] = {0};
    lopt_tensor_options options;
    lopt_statistics statistics = {.struct_size = sizeof statistics};
    CHECK_OK(lopt_tensor_options_init(&options, sizeof options));
    for (int i = 0; i < 5; i++) {
        check_context("index %d", bad[i]);
        REFUSED(lopt_bind(opt, bad[i], memory, gradient), "index", "2 tensors");
        REFUSED(lopt_bind_many(opt, 2, (lopt_binding[]){{0, memory, gradient}, {bad[i], NULL, NULL}}), "index", "2 tensors");
        REFUSED(lopt_step_tensor(opt, bad[i]), "index", "2 tensors");
        REFUSED(lopt_average_get(opt, bad[i], memory, 12), "index", "2 tensors");
        REFUSED(lopt_set_tensor_options(opt, bad[i], &options), "index", "2 tensors");
        lopt_gradients gradients = {.struct_size = sizeof gradients};
        if (bad[i] != -1) REFUSED(lopt_stats(opt, bad[i], &statistics), "index", "2 tensors");
        if (bad[i] != -1) REFUSED(lopt_inspect_gradients(opt, bad[i], &gradients), "index", "2 tensors");
    }
    check_context("");
    REFUSED(lopt_average_get(opt, 0, memory, 12), "no averages", "options.average");
    REFUSED(lopt_average_get(opt, 0, memory, 11), "count is 11", "12 elements");
    REFUSED(lopt_average_get(opt, 0, memory, INT64_MIN), "count is", "12 elements");
    REFUSED(lopt_bind_many(opt, -1, (lopt_binding[]){{0, memory, gradient}}), "count is -1", "negative");
    REFUSED(lopt_bind_many(opt, INT32_MIN, NULL), "count is", "negative");
    static const int32_t counts[] = {-1, 0, 1, 3, INT32_MAX, INT32_MIN};
    for (int i = 0; i < 6; i++) {
        float *some[3] = {memory, memory, memory};
        check_context("count %d", counts[i]);
        REFUSED(lopt_step_with(opt, counts[i], some, some), "count is", "2 tensors");
    }
    check_context("");
    REFUSED(lopt_bind_many(opt, 3, (lopt_binding[]){{1, NULL, NULL}, {0, memory, gradient}, {1, NULL, NULL}}), "index 1",
            "once");
}

static int overlaps(int a, int a_size, int b, int b_size) { return a < b + b_size && b < a + a_size; }

/* A tensor of 16 bytes at every pair of places among the parameters and gradients of two others: parameter and gradient may
 * touch no parameter. That its parameter lies in a gradient of theirs is refused when that is to be read, and only then. */
static void test_overlapping_memory_is_refused(void) {
    enum { SIZE = 16, END = 240 };
    static float pool[72], elsewhere[8];
    struct { int at, size, is_parameter; } taken[] = {{0, 48, 1}, {64, 48, 0}, {128, 20, 1}, {160, 20, 0}};
    lopt_optimizer *other;
    float *at[4];
    for (int i = 0; i < 4; i++) at[i] = pool + taken[i].at / 4;
    CHECK_OK(lopt_create(NULL, NULL, &other));
    CHECK_OK(lopt_add_tensor(other, "first", at[0], at[1], (int64_t[]){12}, 1, NULL));
    CHECK_OK(lopt_add_tensor(other, "second", at[2], at[3], (int64_t[]){5}, 1, NULL));
    CHECK_OK(lopt_add_tensor(other, "third", elsewhere, elsewhere + 4, (int64_t[]){4}, 1, NULL));
    CHECK_OK(lopt_add_tensor(other, "empty", at[0], at[0], (int64_t[]){0}, 1, NULL));
    snapshot state = snapshot_of(other, 0);
    int step = check_repetitions(3, 7), accepted = 0, refused = 0, caught = 0;
    for (int p = 0; p + SIZE <= END; p += step) {
        for (int g = 0; g + SIZE <= END; g += step) {
            int allowed = !overlaps(p, SIZE, g, SIZE), can_step[2] = {1, 1};
            for (int i = 0; i < 4; i++) {
                if (!taken[i].is_parameter) {
                    can_step[i / 2] = !overlaps(p, SIZE, taken[i].at, taken[i].size);
                } else if (overlaps(p, SIZE, taken[i].at, taken[i].size) || overlaps(g, SIZE, taken[i].at, taken[i].size)) {
                    allowed = 0;
                }
            }
            check_context("parameter at %d, gradient at %d", p, g);
            float *parameter = (float *)(void *)((char *)pool + p), *gradient = (float *)(void *)((char *)pool + g);
            CHECK_STATUS(lopt_bind(other, 2, parameter, gradient), allowed ? LOPT_OK : LOPT_ERROR_INVALID_ARGUMENT);
            for (int i = 0; i < 2 && allowed; i++) {
                if (can_step[i]) continue;
                caught++;
                CHECK_STATUS(lopt_step_tensor(other, i), LOPT_ERROR_INVALID_ARGUMENT);
                CHECK_STATUS(lopt_step(other), LOPT_ERROR_INVALID_ARGUMENT);
                CHECK_MESSAGE("overlaps the parameter of tensor 'third'");
            }
            CHECK_OK(lopt_bind(other, 2, elsewhere, elsewhere + 4));
            accepted += allowed, refused += !allowed;
            if (allowed) continue;
            set_other_message();
            CHECK_STATUS(lopt_add_tensor(other, "n", parameter, gradient, (int64_t[]){4}, 1, NULL),
                         LOPT_ERROR_INVALID_ARGUMENT);
            CHECK_MESSAGE("overlap");
        }
    }
    check_context("");
    CHECK(accepted > 100 && refused > 100 && caught > 100);
    snapshot now = snapshot_of(other, 0);
    CHECK_INT(now.size, state.size);
    CHECK_BYTES(now.bytes, state.bytes, state.size);
    snapshot_free(&now);
    snapshot_free(&state);
    lopt_destroy(other);
}

static void test_values_out_of_range_are_refused(void) {
    static const double bad[] = {-1, -1e-300, NAN, INFINITY, -INFINITY};
    lopt_tensor_options options, good;
    CHECK_OK(lopt_tensor_options_init(&good, sizeof good));
    REFUSED(lopt_set_total_steps(opt, -1), "total_steps", "negative");
    REFUSED(lopt_set_total_steps(opt, INT64_MIN), "total_steps", "negative");
    for (int i = 0; i < 5; i++) {
        check_context("value %g", bad[i]);
        REFUSED(lopt_set_lr_scale(opt, bad[i]), "lr_scale", "finite");
        options = good, options.lr_scale = bad[i];
        REFUSED(lopt_set_tensor_options(opt, 0, &options), "lr_scale", "finite");
        options = good, options.weight_decay_scale = bad[i];
        REFUSED(lopt_set_tensor_options(opt, 0, &options), "weight_decay_scale", "finite");
    }
    check_context("");
    static const double no_factors[] = {0, -0.0, NAN, INFINITY, -INFINITY, 9e-31, -9e-31, 1.000001e30, -1e31, 5e-324};
    for (int i = 0; i < 10; i++) {
        check_context("value %g", no_factors[i]);
        REFUSED(lopt_set_gradient_scale(opt, no_factors[i]), "gradient_scale is", "1e-30 to 1e30");
    }
    check_context("");
    options = good, options.frozen = 2;
    REFUSED(lopt_set_tensor_options(opt, 0, &options), "frozen", "0 and 1");
    options = good, options.frozen = -1;
    REFUSED(lopt_set_tensor_options(opt, 0, &options), "frozen", "0 and 1");
    options = good, options.reserved = 1;
    REFUSED(lopt_set_tensor_options(opt, 0, &options), "reserved", "0");

    static const uint32_t contents[] = {2, 3, 4, 1u << 31, UINT32_MAX};
    size_t size = 7;
    for (int i = 0; i < 5; i++) {
        check_context("contents %u", contents[i]);
        REFUSED(lopt_state_size(opt, contents[i], &size), "contents", "LOPT_WITH_PARAMETERS");
        REFUSED(lopt_state_write(opt, contents[i], before.bytes, before.size), "contents", "LOPT_WITH_PARAMETERS");
        REFUSED(lopt_save(opt, "/tmp/never-written", contents[i]), "contents", "LOPT_WITH_PARAMETERS");
        if (contents[i] <= 3) continue; /* LOPT_SHARD is for reading alone */
        REFUSED(lopt_state_read(opt, contents[i], before.bytes, before.size), "contents", "LOPT_WITH_PARAMETERS");
        REFUSED(lopt_restore(opt, "/tmp/never-written", contents[i]), "contents", "LOPT_WITH_PARAMETERS");
    }
    check_context("");
    CHECK_INT(size, 7);
    char *memory = check_memory(before.size);
    char *untouched = check_memory(before.size);
    REFUSED(lopt_state_write(opt, 1, memory, 0), "size is 0", "bytes");
    REFUSED(lopt_state_write(opt, 1, memory, before.size - 1), "size is", "bytes");
    CHECK_BYTES(memory, untouched, before.size);
    free(untouched);
    free(memory);
}

static void test_step_without_tensors_is_refused(void) {
    lopt_optimizer *empty;
    lopt_statistics statistics = {.struct_size = sizeof statistics};
    CHECK_OK(lopt_create(NULL, NULL, &empty));
    REFUSED(lopt_step(empty), "no tensor", "added");
    REFUSED(lopt_step_tensor(empty, 0), "index", "0 tensors");
    CHECK_OK(lopt_stats(empty, -1, &statistics));
    CHECK_INT(statistics.steps, 0);
    lopt_destroy(empty);
}

static void test_every_status_has_a_text(void) {
    static const int known[] = {0, 1, -1, -2, -3, -4, -5, -6, -7};
    for (int status = -300; status < 300; status++) {
        const char *text = lopt_status_string((lopt_status)status);
        int is_known = 0;
        for (int i = 0; i < 9; i++) is_known |= known[i] == status;
        check_context("status %d", status);
        if (!CHECK(text != NULL)) continue;
        CHECK((strcmp(text, "unknown status") != 0) == is_known);
        CHECK(text[0] != 0);
    }
    check_context("");
    CHECK_TEXT(lopt_status_string((lopt_status)INT_MIN), "unknown status");
    CHECK_TEXT(lopt_status_string((lopt_status)INT_MAX), "unknown status");
}

static void *first_message(void *result) {
    snprintf(result, 256, "%s", lopt_last_error());
    (void)!lopt_step(NULL);
    return NULL;
}

/* The message is the thread's own, and stays over calls that go well. */
static void test_message_is_the_threads_own(void) {
    char text[256];
    pthread_t thread;
    size_t size;
    set_other_message();
    CHECK_OK(lopt_state_size(opt, 0, &size));
    CHECK_MESSAGE("unrelated");
    CHECK_INT(pthread_create(&thread, NULL, first_message, text), 0);
    pthread_join(thread, NULL);
    CHECK_TEXT(text, "");
    CHECK_MESSAGE("unrelated");
}

int main(void) {
    CHECK_TEXT(lopt_last_error(), "");
    start();
    test_null_is_refused_by_name();
    test_bad_names_are_refused();
    test_bad_shapes_are_refused();
    test_unknown_indices_are_refused();
    test_overlapping_memory_is_refused();
    test_values_out_of_range_are_refused();
    test_step_without_tensors_is_refused();
    test_every_status_has_a_text();
    test_message_is_the_threads_own();
    snapshot_free(&before);
    lopt_destroy(opt);
    problem_free(&host);
    return check_end();
}
