/* Options out of range are refused by name, structs of other sizes are understood or refused, what is allowed works. */
#define _GNU_SOURCE
#include "files.h"
#include "problem.h"

#include <limits.h>

static int never_an_address;
#define GARBAGE ((void *)&never_an_address)

static void set_other_message(void) {
    lopt_weights *weights;
    (void)!lopt_weights_builtin("unrelated", NULL, &weights);
}

/* lopt_create refuses these options, names the field and what is allowed, and hands out nothing. */
static void check_create_refused(const lopt_options *options, const char *field, const char *allowed, int line) {
    lopt_optimizer *opt = GARBAGE;
    set_other_message();
    lopt_status status = lopt_create(NULL, options, &opt);
    check_that(status == LOPT_ERROR_INVALID_ARGUMENT, __FILE__, line, "%s: status %d", field, (int)status);
    check_that(opt == NULL, __FILE__, line, "%s: *out is not NULL", field);
    check_message(field, __FILE__, line);
    check_message(allowed, __FILE__, line);
}

#define CREATE_REFUSED(options, field, allowed) check_create_refused(options, field, allowed, __LINE__)

static void check_create_works(const lopt_options *options, const char *what, int line) {
    lopt_optimizer *opt = NULL;
    float parameter[3] = {1, 2, 3}, gradient[3] = {1, -1, 0.5f};
    lopt_status status = lopt_create(NULL, options, &opt);
    if (!check_that(status == LOPT_OK && opt, __FILE__, line, "%s: status %d, \"%s\"", what, (int)status,
                    lopt_last_error())) {
        return;
    }
    CHECK_OK(lopt_add_tensor(opt, "a", parameter, gradient, (int64_t[]){3}, 1, NULL));
    CHECK_OK(lopt_step(opt));
    lopt_destroy(opt);
}

#define CREATE_WORKS(options, what) check_create_works(options, what, __LINE__)

static void test_values_out_of_range_are_refused(void) {
    lopt_options good = problem_options(), o;
    static const int32_t bad_threads[] = {-1, 257, INT32_MAX, INT32_MIN}, good_threads[] = {0, 1, 2, 255, 256};
    static const double no_scales[] = {-1, -1e-300, NAN, INFINITY, 1.000001e30};
    for (int i = 0; i < 4; i++) o = good, o.threads = bad_threads[i], CREATE_REFUSED(&o, "threads", "256");
    for (int i = 0; i < 5; i++) o = good, o.threads = good_threads[i], CREATE_WORKS(&o, "threads");
    for (int i = 0; i < 5; i++) o = good, o.lr_scale = no_scales[i], CREATE_REFUSED(&o, "lr_scale", "finite");
    for (int i = 0; i < 5; i++) o = good, o.weight_decay = no_scales[i], CREATE_REFUSED(&o, "weight_decay", "0 to 1e30");
    for (int32_t form = -1; form <= 2; form += 3) {
        o = good, o.weight_decay_form = form, CREATE_REFUSED(&o, "weight_decay_form", "lopt_weight_decay_form");
    }
    for (int32_t which = -1; which <= 2; which += 3) {
        o = good, o.weight_decay_tensors = which, CREATE_REFUSED(&o, "weight_decay_tensors", "lopt_weight_decay_tensors");
    }
    o = good, o.weight_decay_tensors = LOPT_DECAY_MATRICES, CREATE_WORKS(&o, "weight_decay_tensors");
    for (int32_t which = -1; which <= 3; which += 4) o = good, o.average = which, CREATE_REFUSED(&o, "average is", "lopt_average");
    for (int i = 0; i < 5; i++) o = good, o.average_span = no_scales[i], CREATE_REFUSED(&o, "average_span", "1 to 1e30");
    o = good, o.average_span = 0.999, CREATE_REFUSED(&o, "average_span", "1 to 1e30");
    for (int32_t which = 0; which <= 2; which++) {
        o = good, o.average = which, CREATE_WORKS(&o, "average");
        o.average_span = 1, CREATE_WORKS(&o, "average_span 1"), o.average_span = 1e30, CREATE_WORKS(&o, "average_span 1e30");
    }
    for (int i = 0; i < 5; i++) o = good, o.learned_decay_scale = no_scales[i], CREATE_REFUSED(&o, "learned_decay_scale", "finite");
    o = good, o.learned_decay_scale = 0, CREATE_WORKS(&o, "learned_decay_scale 0");
    o = good, o.learned_decay_scale = 1e30, CREATE_WORKS(&o, "learned_decay_scale 1e30");
    o = good, o.weight_decay_form = LOPT_DECAY_PER_STEP, CREATE_WORKS(&o, "weight_decay_form");
    o = good, o.lr_scale = 0, CREATE_WORKS(&o, "lr_scale 0");
    o = good, o.lr_scale = 1e30, CREATE_WORKS(&o, "lr_scale 1e30");
    o = good, o.weight_decay = 1, CREATE_WORKS(&o, "weight_decay 1");
    for (int i = 0; i < 5; i++) o = good, o.max_gradient_norm = no_scales[i], CREATE_REFUSED(&o, "max_gradient_norm is", "1e-30 to 1e30");
    o = good, o.max_gradient_norm = 9e-31, CREATE_REFUSED(&o, "max_gradient_norm is", "1e-30 to 1e30");
    o = good, o.max_gradient_norm = 1, CREATE_WORKS(&o, "max_gradient_norm");
    static const double no_factors[] = {0, NAN, INFINITY, -INFINITY, 9e-31, -9e-31, 1.000001e30, -1e31, 5e-324};
    for (int i = 0; i < 9; i++) o = good, o.gradient_scale = no_factors[i], CREATE_REFUSED(&o, "gradient_scale", "1e-30 to 1e30");
    static const double factors[] = {-1, 0.125, 1e-30, -1e-30};
    for (int i = 0; i < 4; i++) o = good, o.gradient_scale = factors[i], CREATE_WORKS(&o, "gradient_scale");
    o = good, o.total_steps = -1, CREATE_REFUSED(&o, "total_steps", "negative");
    o = good, o.total_steps = INT64_MIN, CREATE_REFUSED(&o, "total_steps", "negative");
    o = good, o.total_steps = INT64_MAX, CREATE_WORKS(&o, "total_steps");
    for (int32_t isa = 0; isa <= 3; isa++) o = good, o.max_isa = isa, CREATE_WORKS(&o, "max_isa");
    o = good, o.max_isa = 4, CREATE_REFUSED(&o, "max_isa", "0 to 3");
    o = good, o.max_isa = -1, CREATE_REFUSED(&o, "max_isa", "0 to 3");
    for (int32_t policy = 0; policy <= 2; policy++) o = good, o.nonfinite = policy, CREATE_WORKS(&o, "nonfinite");
    o = good, o.nonfinite = 3, CREATE_REFUSED(&o, "nonfinite", "0 to 2");
    o = good, o.nonfinite = INT32_MIN, CREATE_REFUSED(&o, "nonfinite", "0 to 2");
    o = good, o.reserved = 1, CREATE_REFUSED(&o, "reserved", "0");
    o = good, o.reserved2 = 1, CREATE_REFUSED(&o, "reserved", "0");
    o = good, o.reserved3 = 1, CREATE_REFUSED(&o, "reserved", "0");
    static const int32_t no_types[] = {-1, LOPT_F64, LOPT_F16, 4, INT32_MIN};
    for (int i = 0; i < 5; i++) o = good, o.momentum_type = no_types[i], CREATE_REFUSED(&o, "momentum_type", "LOPT_F32 and LOPT_BF16");
    o = good, o.momentum_type = LOPT_BF16, CREATE_WORKS(&o, "momentum_type");
    CREATE_WORKS(NULL, "no options");
}

static void *some_allocate(void *context, size_t size, size_t alignment) {
    (void)context;
    return aligned_alloc(alignment, (size + alignment - 1) / alignment * alignment);
}

static void some_deallocate(void *context, void *pointer, size_t size) {
    (void)context, (void)size;
    free(pointer);
}

static void test_half_an_allocator_is_refused(void) {
    lopt_allocator halves[2] = {{some_allocate, NULL, NULL}, {NULL, some_deallocate, NULL}}, none = {NULL, NULL, NULL};
    for (int i = 0; i < 2; i++) {
        lopt_options o = problem_options();
        lopt_weights *weights = GARBAGE;
        check_context("half %d", i);
        o.allocator = halves[i];
        CREATE_REFUSED(&o, "allocator", "both");
        set_other_message();
        CHECK_STATUS(lopt_weights_builtin("star", &halves[i], &weights), LOPT_ERROR_INVALID_ARGUMENT);
        CHECK_MESSAGE("allocator");
        CHECK(weights == NULL);
        weights = GARBAGE;
        CHECK_STATUS(lopt_weights_load(files_source("weights/star.safetensors"), &halves[i], &weights),
                     LOPT_ERROR_INVALID_ARGUMENT);
        CHECK(weights == NULL);
        weights = GARBAGE;
        CHECK_STATUS(lopt_weights_from_memory("x", 1, &halves[i], &weights), LOPT_ERROR_INVALID_ARGUMENT);
        CHECK(weights == NULL);
    }
    lopt_weights *weights = NULL;
    CHECK_OK(lopt_weights_builtin("star", &none, &weights));
    lopt_weights_free(weights);
    check_context("");
}

/* A struct of an older program is shorter (there is none older than this one: refused), of a newer one longer; what the
 * library does not know must be 0. */
static void test_structs_of_other_versions_are_understood(void) {
    static const size_t bad[] = {0, 1, 8, sizeof(lopt_options) - 1, SIZE_MAX, SIZE_MAX / 2, (size_t)1 << 40};
    struct { lopt_options known; unsigned char more[64]; } newer;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        lopt_options o = problem_options();
        check_context("struct_size %zu", bad[i]);
        o.struct_size = bad[i];
        CREATE_REFUSED(&o, "struct_size", "initialised");
    }
    check_context("");
    memset(&newer, 0xff, sizeof newer);
    CHECK_OK(lopt_options_init(&newer.known, sizeof newer));
    CHECK_INT(newer.known.struct_size, sizeof newer);
    for (size_t i = 0; i < sizeof newer.more; i++) CHECK_INT(newer.more[i], 0);
    CREATE_WORKS(&newer.known, "a newer struct");
    for (size_t i = 0; i < sizeof newer.more; i++) {
        newer.more[i] = 1;
        CREATE_REFUSED(&newer.known, "options", "does not know");
        newer.more[i] = 0;
    }
}

static void test_tensor_structs_of_other_versions_are_understood(void) {
    static const size_t bad[] = {0, 8, sizeof(lopt_tensor_options) - 1, SIZE_MAX, (size_t)1 << 40};
    struct { lopt_tensor_options known; unsigned char more[16]; } newer;
    lopt_optimizer *opt;
    float parameter[3] = {1, 2, 3}, gradient[3] = {1, -1, 0.5f};
    CHECK_OK(lopt_create(NULL, NULL, &opt));
    CHECK_OK(lopt_add_tensor(opt, "a", parameter, gradient, (int64_t[]){3}, 1, NULL));
    snapshot before = snapshot_of(opt, LOPT_WITH_PARAMETERS);
    memset(&newer, 0xff, sizeof newer);
    CHECK_OK(lopt_tensor_options_init(&newer.known, sizeof newer));
    for (size_t i = 0; i < sizeof newer.more; i++) CHECK_INT(newer.more[i], 0);
    newer.known.frozen = 1;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        lopt_tensor_options o = newer.known;
        check_context("struct_size %zu", bad[i]);
        o.struct_size = bad[i];
        CHECK_STATUS(lopt_set_tensor_options(opt, 0, &o), LOPT_ERROR_INVALID_ARGUMENT);
        CHECK_MESSAGE("struct_size");
        CHECK_SAME_STATE(opt, &before);
    }
    check_context("");
    newer.more[15] = 1;
    CHECK_STATUS(lopt_set_tensor_options(opt, 0, &newer.known), LOPT_ERROR_INVALID_ARGUMENT);
    CHECK_SAME_STATE(opt, &before);
    newer.more[15] = 0;
    CHECK_OK(lopt_set_tensor_options(opt, 0, &newer.known));
    snapshot_free(&before);
    lopt_destroy(opt);
}

/* The structs that the library fills in: never a byte past what the program has. */
static void test_results_never_pass_the_end_of_a_struct(void) {
    static const size_t bad[] = {0, 1, 8, 24, SIZE_MAX, (size_t)1 << 40};
    struct { lopt_statistics known; unsigned char more[16]; } statistics, statistics_before;
    struct { lopt_information known; unsigned char more[16]; } information, information_before;
    lopt_optimizer *opt;
    CHECK_OK(lopt_create(NULL, NULL, &opt));
    memset(&statistics, 0xee, sizeof statistics);
    memset(&information, 0xee, sizeof information);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        check_context("struct_size %zu", bad[i]);
        statistics.known.struct_size = information.known.struct_size = bad[i];
        statistics_before = statistics, information_before = information;
        CHECK_STATUS(lopt_stats(opt, -1, &statistics.known), LOPT_ERROR_INVALID_ARGUMENT);
        CHECK_MESSAGE("struct_size");
        CHECK_STATUS(lopt_info(opt, &information.known), LOPT_ERROR_INVALID_ARGUMENT);
        CHECK_MESSAGE("struct_size");
        CHECK_BYTES(&statistics, &statistics_before, sizeof statistics);
        CHECK_BYTES(&information, &information_before, sizeof information);
    }
    check_context("");
    statistics.known.struct_size = sizeof statistics.known, information.known.struct_size = sizeof information.known;
    CHECK_OK(lopt_stats(opt, -1, &statistics.known));
    CHECK_OK(lopt_info(opt, &information.known));
    CHECK_INT(statistics.known.struct_size, sizeof statistics.known);
    CHECK_INT(information.known.struct_size, sizeof information.known);
    CHECK_BYTES(statistics.more, statistics_before.more, sizeof statistics.more);
    CHECK_BYTES(information.more, information_before.more, sizeof information.more);
    statistics.known.struct_size = sizeof statistics, information.known.struct_size = sizeof information;
    CHECK_OK(lopt_stats(opt, -1, &statistics.known));
    CHECK_OK(lopt_info(opt, &information.known));
    lopt_destroy(opt);
}

static void test_init_never_passes_the_end_of_a_struct(void) {
    static const size_t bad[] = {0, 1, 8, SIZE_MAX, SIZE_MAX / 2};
    lopt_options options, options_before;
    lopt_tensor_options tensor, tensor_before;
    memset(&options, 0xee, sizeof options);
    memset(&tensor, 0xee, sizeof tensor);
    options_before = options, tensor_before = tensor;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        check_context("struct_size %zu", bad[i]);
        CHECK_STATUS(lopt_options_init(&options, bad[i]), LOPT_ERROR_INVALID_ARGUMENT);
        CHECK_MESSAGE("struct_size");
        CHECK_STATUS(lopt_tensor_options_init(&tensor, bad[i]), LOPT_ERROR_INVALID_ARGUMENT);
        CHECK_MESSAGE("struct_size");
        CHECK_BYTES(&options, &options_before, sizeof options);
        CHECK_BYTES(&tensor, &tensor_before, sizeof tensor);
    }
    check_context("");
}

static void test_defaults_are_what_the_header_says(void) {
    lopt_options options;
    lopt_tensor_options tensor;
    CHECK_OK(lopt_options_init(&options, sizeof options));
    CHECK_INT(options.struct_size, sizeof options);
    CHECK_INT(options.threads, 0);
    CHECK_INT(options.max_isa, LOPT_ISA_AUTO);
    CHECK_INT(options.nonfinite, LOPT_NONFINITE_SKIP_STEP);
    CHECK_INT(options.reserved, 0);
    CHECK_INT(options.weight_decay_form, LOPT_DECAY_BY_STEP_SIZE);
    CHECK_INT(options.reserved2, 0);
    CHECK_INT(options.weight_decay_tensors, LOPT_DECAY_ALL);
    CHECK_INT(options.average, LOPT_AVERAGE_NONE);
    CHECK_NEAR(options.average_span, 0, 0);
    CHECK_NEAR(options.lr_scale, 1, 0);
    CHECK_NEAR(options.gradient_scale, 1, 0);
    CHECK_NEAR(options.learned_decay_scale, 1, 0);
    CHECK_NEAR(options.max_gradient_norm, 0, 0);
    CHECK_NEAR(options.weight_decay, 0, 0);
    CHECK_INT(options.total_steps, 0);
    CHECK(!options.allocator.allocate && !options.allocator.deallocate && !options.allocator.context);
    CHECK(!options.parallel_for.run && !options.parallel_for.context);
    CHECK(!options.log.message && !options.log.context);
    CHECK_OK(lopt_tensor_options_init(&tensor, sizeof tensor));
    CHECK_INT(tensor.struct_size, sizeof tensor);
    CHECK_NEAR(tensor.lr_scale, 1, 0);
    CHECK_NEAR(tensor.weight_decay_scale, 1, 0);
    CHECK_INT(tensor.frozen, 0);
    CHECK_INT(tensor.reserved, 0);
}

static int32_t isa_of(lopt_optimizer *opt) {
    lopt_information information = {.struct_size = sizeof information};
    CHECK_OK(lopt_info(opt, &information));
    return information.isa;
}

static int32_t isa_with(const char *environment, int32_t cap) {
    lopt_options options = problem_options();
    lopt_optimizer *opt = NULL;
    if (environment) {
        setenv("LOPT_MAX_ISA", environment, 1);
    } else {
        unsetenv("LOPT_MAX_ISA");
    }
    options.max_isa = cap;
    if (!CHECK_OK(lopt_create(NULL, &options, &opt))) return -1;
    int32_t isa = isa_of(opt);
    lopt_destroy(opt);
    return isa;
}

static int32_t least(int32_t a, int32_t b) { return a < b ? a : b; }

/* The narrowest of processor, option and environment is used; an environment that is not understood is refused. */
static void test_narrowest_cap_of_the_isa_holds(void) {
    static const char *names[] = {"baseline", "avx2", "avx512"};
    const char *given = getenv("LOPT_MAX_ISA");
    char *saved = given ? strdup(given) : NULL;
    int32_t widest = isa_with(NULL, LOPT_ISA_AUTO);
    CHECK(widest >= LOPT_ISA_BASELINE && widest <= LOPT_ISA_AVX512);
    printf("the processor has isa %d\n", widest);
    for (int32_t cap = 1; cap <= 3; cap++) {
        check_context("cap %d", cap);
        CHECK_INT(isa_with(NULL, cap), least(cap, widest));
        CHECK_INT(isa_with(names[cap - 1], LOPT_ISA_AUTO), least(cap, widest));
        for (int32_t both = 1; both <= 3; both++) {
            CHECK_INT(isa_with(names[both - 1], cap), least(least(cap, both), widest));
        }
    }
    static char very_long[10001];
    memset(very_long, 'a', sizeof very_long - 1);
    const char *bad[] = {"avx", "AVX2", "avx2 ", " avx2", "sse2", "0", "3", "avx512f", "baseline,avx2", "\x01",
                         very_long};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        check_context("LOPT_MAX_ISA %zu", i);
        setenv("LOPT_MAX_ISA", bad[i], 1);
        lopt_options options = problem_options();
        CREATE_REFUSED(&options, "LOPT_MAX_ISA", "baseline, avx2, avx512");
        CREATE_REFUSED(NULL, "LOPT_MAX_ISA", "baseline, avx2, avx512");
    }
    check_context("");
    if (saved) {
        setenv("LOPT_MAX_ISA", saved, 1);
    } else {
        unsetenv("LOPT_MAX_ISA");
    }
    free(saved);
}

/* lopt_info and the log say what was chosen. */
static char logged[1024];
static void *log_context;
static void note(void *context, lopt_log_level level, const char *text) {
    log_context = context;
    snprintf(logged, sizeof logged, "%d %s", (int)level, text);
}

static void test_log_says_what_there_is(void) {
    lopt_options options = problem_options();
    lopt_optimizer *opt;
    float parameter[2] = {1, 2}, gradient[2] = {1, NAN};
    int context;
    options.log.message = note;
    options.log.context = &context;
    CHECK_OK(lopt_create(NULL, &options, &opt));
    CHECK(log_context == &context);
    CHECK(logged[0] == '0' && strlen(logged) < 300);
    CHECK_OK(lopt_add_tensor(opt, "weight", parameter, gradient, (int64_t[]){2}, 1, NULL));
    CHECK_STATUS(lopt_step(opt), LOPT_SKIPPED_NONFINITE);
    CHECK(logged[0] == '1' && strstr(logged, "'weight'") && strstr(logged, "element 1"));
    lopt_destroy(opt);
}

int main(void) {
    test_values_out_of_range_are_refused();
    test_half_an_allocator_is_refused();
    test_structs_of_other_versions_are_understood();
    test_tensor_structs_of_other_versions_are_understood();
    test_results_never_pass_the_end_of_a_struct();
    test_init_never_passes_the_end_of_a_struct();
    test_defaults_are_what_the_header_says();
    test_narrowest_cap_of_the_isa_holds();
    test_log_says_what_there_is();
    return check_end();
}
