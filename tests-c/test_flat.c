/* lopt_add_flat and lopt_add_flat_typed: the tensors of a table are those that lopt_add_tensor or lopt_add_typed would have added one by
 * one, or none of them is there. And the log says so when what should be a table comes as one vector. */
#define _GNU_SOURCE
#include "problem.h"

enum { ENTRIES = 7, SIZE = 19 * 33 + 33 + 1 + 105 + 200 * 300 + 9 };
static const lopt_flat_entry table[ENTRIES] = {
    {"weight", 0, 2, {19, 33}}, {"bias", 19 * 33, 1, {33}}, {"scale", 19 * 33 + 33, 0, {0}}, {"nothing", 3, 2, {0, 5}},
    {"large", 19 * 33 + 34 + 105, 2, {200, 300}}, {"cube", 19 * 33 + 34, 3, {5, 7, 3}}, {"end", SIZE - 9, 2, {9, 1}},
};
static float parameters[SIZE], gradients[SIZE];

static void start(float *p) {
    for (int j = 0; j < SIZE; j++) p[j] = 0.5f * problem_random(1, (uint64_t)j);
}

static void set_gradients(float *g, int step) {
    for (int j = 0; j < SIZE; j++) g[j] = problem_random(2 + (uint64_t)step, (uint64_t)j);
}

/* ---- Elements of any type ------------------------------------------------------------------------------------------- */

enum { TYPES = 4 };
static const size_t size_of[TYPES] = {4, 8, 2, 2};
/* At an odd address. */
static char typed_parameters[8 * SIZE + 1], typed_gradients[8 * SIZE + 1], typed_others[8 * SIZE + 1], typed_other_gradients[8 * SIZE + 1];

static void *element(char *memory, int type, int64_t i) { return memory + 1 + i * (int64_t)size_of[type]; }

/* Numbers that are small and finite in each type; in 16 bits just some. */
static void put(char *memory, int type, const float *values) {
    for (int j = 0; j < SIZE; j++) {
        double wide = values[j];
        uint32_t bits;
        memcpy(&bits, values + j, 4);
        uint16_t half = (uint16_t)(type == LOPT_BF16 ? bits >> 16 : (bits >> 31 << 15) | (0x2800 + (bits & 0xfff)));
        memcpy(element(memory, type, j), type == LOPT_F32 ? (const void *)&values[j] : type == LOPT_F64 ? (const void *)&wide : (const void *)&half,
               size_of[type]);
    }
}

static lopt_status add_flat(lopt_optimizer *opt, int is_late, int p, int g, const lopt_flat_entry *entries, int32_t count) {
    if (is_late) return lopt_add_flat_typed(opt, NULL, (lopt_element)p, NULL, (lopt_element)g, entries, count);
    if (p == LOPT_F32 && g == LOPT_F32) return lopt_add_flat(opt, element(typed_parameters, p, 0), element(typed_gradients, g, 0), entries, count);
    return lopt_add_flat_typed(opt, element(typed_parameters, p, 0), (lopt_element)p, element(typed_gradients, g, 0), (lopt_element)g, entries, count);
}

/* With the buffers at once, or bound later; beside tensors that were there before. p and g: the types of parameters and gradients. */
static void test_table_adds_what_single_calls_add(int is_late, int threads, int p, int g) {
    lopt_options options = problem_options();
    lopt_optimizer *opt, *other;
    static float first[6], first_gradient[6] = {1, 2, 3, 4, 5, 6}, second[6];
    check_context("%s, %d threads, types %d and %d", is_late ? "late" : "at once", threads, p, g);
    options.threads = threads;
    start(parameters), put(typed_parameters, p, parameters), put(typed_others, p, parameters);
    memset(first, 0, sizeof first), memset(second, 0, sizeof second);
    CHECK_OK(lopt_create(NULL, &options, &opt)), CHECK_OK(lopt_create(NULL, &options, &other));
    CHECK_OK(lopt_add_tensor(opt, "first", first, first_gradient, (int64_t[]){6}, 1, NULL));
    CHECK_OK(lopt_add_tensor(other, "first", second, first_gradient, (int64_t[]){6}, 1, NULL));
    CHECK_OK(add_flat(opt, is_late, p, g, table, ENTRIES));
    CHECK_OK(add_flat(opt, is_late, p, g, NULL, 0));
    for (int i = 0; i < ENTRIES; i++) {
        int32_t index;
        CHECK_OK(lopt_add_typed(other, table[i].name, element(typed_others, p, table[i].offset), (lopt_element)p,
                                element(typed_other_gradients, g, table[i].offset), (lopt_element)g, table[i].shape, table[i].rank, &index));
        CHECK_INT(index, 1 + i);
    }
    if (is_late) {
        CHECK_STATUS(lopt_step(opt), LOPT_ERROR_INVALID_ARGUMENT);
        for (int i = 0; i < ENTRIES; i++) {
            CHECK_OK(lopt_bind(opt, 1 + i, element(typed_parameters, p, table[i].offset), element(typed_gradients, g, table[i].offset)));
        }
    }
    for (int step = 0; step < 4; step++) {
        set_gradients(gradients, step), put(typed_gradients, g, gradients), put(typed_other_gradients, g, gradients);
        CHECK_OK(lopt_step(opt)), CHECK_OK(lopt_step(other));
    }
    CHECK_BYTES(typed_parameters, typed_others, 1 + SIZE * size_of[p]);
    snapshot s = snapshot_of(other, LOPT_WITH_PARAMETERS);
    CHECK_SAME_STATE(opt, &s);
    CHECK_INT(information_of(opt).memory_bytes, information_of(other).memory_bytes);
    put(typed_others, p, parameters);
    for (int i = 0; i < ENTRIES; i++) {
        CHECK(memcmp(element(typed_parameters, p, table[i].offset), element(typed_others, p, table[i].offset), size_of[p]) != 0);
    }
    check_context("");
    snapshot_free(&s);
    lopt_destroy(opt), lopt_destroy(other);
}

/* One entry is wrong, wherever it stands: none is added, their names and memory are free, and the table without it is. */
static void test_wrong_entry_adds_no_tensor(int p, int g) {
    static const struct { lopt_flat_entry entry; const char *message; } wrong[] = {
        {{NULL, 0, 1, {1}}, "name is NULL"},
        {{"", 0, 1, {1}}, "name has 0 bytes"},
        {{"first", 0, 1, {1}}, "is taken by tensor 0"},
        {{"weight", SIZE, 1, {1}}, "is taken by tensor"},
        {{"n", 0, -1, {1}}, "rank is -1"},
        {{"n", 0, 9, {1}}, "rank is 9"},
        {{"n", 0, 2, {3, -1}}, "shape[1] is -1"},
        {{"n", -1, 1, {1}}, "offset is -1"},
        {{"n", ((int64_t)1 << 48) + 1, 1, {1}}, "offset is"},
        {{"n", INT64_MIN, 1, {1}}, "offset is"},
        {{"n", 5, 1, {1}}, "overlaps the parameter of tensor 'weight'"},
    };
    static float first[6], first_gradient[6] = {1, 2, 3, 4, 5, 6};
    start(parameters), put(typed_parameters, p, parameters);
    set_gradients(gradients, 1), put(typed_gradients, g, gradients);
    for (size_t w = 0; w < sizeof wrong / sizeof *wrong; w++) {
        for (int at = 1; at <= ENTRIES; at++) {
            lopt_flat_entry entries[ENTRIES + 1];
            lopt_options options = problem_options();
            lopt_optimizer *opt;
            char place[24];
            for (int i = 0; i < ENTRIES; i++) entries[i + (i >= at)] = table[i];
            entries[at] = wrong[w].entry;
            CHECK_OK(lopt_create(NULL, &options, &opt));
            CHECK_OK(lopt_add_tensor(opt, "first", first, first_gradient, (int64_t[]){6}, 1, NULL));
            CHECK_OK(lopt_step(opt));
            snapshot s = snapshot_of(opt, LOPT_WITH_PARAMETERS);
            lopt_information before = information_of(opt);
            check_context("types %d and %d, wrong %zu at %d", p, g, w, at);
            CHECK_STATUS(add_flat(opt, 0, p, g, entries, ENTRIES + 1), LOPT_ERROR_INVALID_ARGUMENT);
            snprintf(place, sizeof place, "table[%d]: ", at);
            CHECK_MESSAGE(place), CHECK_MESSAGE(wrong[w].message);
            lopt_information after = information_of(opt);
            CHECK_BYTES(&after, &before, sizeof after);
            CHECK_SAME_STATE(opt, &s);
            CHECK_OK(lopt_step(opt));
            CHECK_OK(add_flat(opt, 0, p, g, table, ENTRIES));
            CHECK_OK(lopt_step(opt));
            CHECK_INT(information_of(opt).tensors, 1 + ENTRIES);
            snapshot_free(&s);
            lopt_destroy(opt);
        }
    }
    check_context("");
}

/* A tensor that would begin beyond it; the sizes of elements count. */
static void test_end_of_the_address_space_is_not_passed(void) {
    lopt_optimizer *opt;
    CHECK_OK(lopt_create(NULL, NULL, &opt));
    check_context("the end of the address space");
    CHECK_STATUS(lopt_add_flat(opt, (float *)(UINTPTR_MAX - 63), gradients, table, 1), LOPT_ERROR_INVALID_ARGUMENT);
    CHECK_MESSAGE("address space");
    CHECK_STATUS(lopt_add_flat(opt, parameters, (float *)(UINTPTR_MAX - 63), table + 1, 1), LOPT_ERROR_INVALID_ARGUMENT);
    CHECK_MESSAGE("address space");
    static const lopt_flat_entry nothing = {"nothing", 100, 2, {0, 5}};
    for (int type = 0; type < TYPES; type++) {
        char *last = (char *)(UINTPTR_MAX - 100 * size_of[type]);
        check_context("the end of the address space, type %d", type);
        CHECK_STATUS(lopt_add_flat_typed(opt, last + 1, (lopt_element)type, gradients, LOPT_F32, &nothing, 1), LOPT_ERROR_INVALID_ARGUMENT);
        CHECK_MESSAGE("address space");
        CHECK_STATUS(lopt_add_flat_typed(opt, parameters, LOPT_F32, last + 1, (lopt_element)type, &nothing, 1), LOPT_ERROR_INVALID_ARGUMENT);
        CHECK_MESSAGE("address space");
    }
    CHECK_INT(information_of(opt).tensors, 0);
    check_context("");
    lopt_destroy(opt);
}

static int allowed, live;
static void *allocate(void *context, size_t size, size_t alignment) {
    (void)context;
    void *pointer = allowed-- > 0 ? aligned_alloc(alignment, (size + alignment - 1) / alignment * alignment) : NULL;
    live += pointer != NULL;
    return pointer;
}
static void deallocate(void *context, void *pointer, size_t size) { (void)context, (void)size, live--, free(pointer); }

/* Whichever allocation fails. */
static void test_lack_of_memory_adds_no_tensor(int p, int g) {
    int refused = 0;
    for (int after = 0; after < 100; after++) {
        lopt_options options = problem_options();
        lopt_optimizer *opt;
        options.allocator.allocate = allocate, options.allocator.deallocate = deallocate;
        allowed = 1000, live = 0;
        CHECK_OK(lopt_create(NULL, &options, &opt));
        int before = live;
        allowed = after;
        lopt_status status = add_flat(opt, 0, p, g, table, ENTRIES);
        if (status == LOPT_OK) {
            lopt_destroy(opt);
            CHECK_INT(live, 0);
            break;
        }
        refused++;
        check_context("after %d allocations", after);
        CHECK_INT(status, LOPT_ERROR_NO_MEMORY);
        CHECK_INT(live, before);
        CHECK_INT(information_of(opt).tensors, 0), CHECK_INT(information_of(opt).parameters, 0);
        allowed = 1000;
        CHECK_OK(add_flat(opt, 0, p, g, table, ENTRIES));
        CHECK_OK(lopt_step(opt));
        lopt_destroy(opt);
        CHECK_INT(live, 0);
    }
    check_context("");
    CHECK(refused >= ENTRIES);
}

/* ---- One vector --------------------------------------------------------------------------------------------------- */

static int warnings;
static char warning[512];
static void note(void *context, lopt_log_level level, const char *text) {
    (void)context;
    if (level != LOPT_LOG_WARNING) return;
    warnings++;
    snprintf(warning, sizeof warning, "%s", text);
}

/* Said once, at the first step, of a large vector that is alone. */
static void test_large_vector_alone_is_warned_of_once(void) {
    static const struct { int32_t rank; int64_t shape[3]; int is_alone, is_warned; } cases[] = {
        {1, {10001}, 1, 1}, {2, {20000, 1}, 1, 1}, {3, {1, 20000, 1}, 1, 1}, {1, {10000}, 1, 0}, {2, {200, 100}, 1, 0}, 
        {1, {20000}, 0, 0},
    };
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        lopt_options options = problem_options();
        lopt_optimizer *opt;
        float one = 1, its_gradient = 1;
        options.log.message = note;
        warnings = 0;
        set_gradients(gradients, 1), start(parameters);
        CHECK_OK(lopt_create(NULL, &options, &opt));
        CHECK_OK(lopt_add_tensor(opt, "all", parameters, gradients, cases[c].shape, cases[c].rank, NULL));
        if (!cases[c].is_alone) CHECK_OK(lopt_add_tensor(opt, "one", &one, &its_gradient, NULL, 0, NULL));
        check_context("case %zu", c);
        CHECK_INT(warnings, 0);
        for (int step = 0; step < 3; step++) CHECK_OK(lopt_step(opt));
        CHECK_INT(warnings, cases[c].is_warned);
        if (cases[c].is_warned) CHECK(strstr(warning, "lopt_add_flat") != NULL);
        lopt_destroy(opt);
    }
    check_context("");
}

int main(void) {
    for (int p = 0; p < TYPES; p++) {
        for (int g = 0; g < TYPES; g++) test_table_adds_what_single_calls_add((p + g) % 2, 1 + 2 * (p == g), p, g);
        test_table_adds_what_single_calls_add(p % 2 == 0, 1, p, p);
        test_wrong_entry_adds_no_tensor(p, TYPES - 1 - p), test_lack_of_memory_adds_no_tensor(p, TYPES - 1 - p);
    }
    test_table_adds_what_single_calls_add(0, 1, LOPT_F32, LOPT_F32);
    test_wrong_entry_adds_no_tensor(LOPT_F32, LOPT_F32), test_lack_of_memory_adds_no_tensor(LOPT_F32, LOPT_F32);
    test_end_of_the_address_space_is_not_passed();
    test_large_vector_alone_is_warned_of_once();
    return check_end();
}
