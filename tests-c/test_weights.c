/* Weights: the built-in ones are those of the files, weights of any width and kind train with the same bits on any
 * number of threads, and one lopt_weights serves many optimizers. */
#define _GNU_SOURCE
#include "files.h"
#include "weights.h"

#include <dlfcn.h>
#include <pthread.h>

/* Stands before the system's dlopen, so that OpenBLAS can be made to be missing. */
static int blas_is_hidden, blas_asked, blas_loaded;

void *dlopen(const char *name, int flags) {
    void *(*system_dlopen)(const char *, int);
    *(void **)&system_dlopen = dlsym(RTLD_NEXT, "dlopen");
    int is_blas = name && strstr(name, "openblas");
    void *library = is_blas && blas_is_hidden ? NULL : system_dlopen(name, flags);
    if (is_blas) blas_asked++, blas_loaded += library != NULL;
    return library;
}

/* Trains and returns all that the optimizer holds. */
static snapshot train(const lopt_weights *weights, int32_t threads, int is_large, int steps) {
    lopt_options options = problem_options();
    lopt_optimizer *opt = NULL;
    snapshot state = {0, NULL};
    problem p;
    options.threads = threads;
    if (is_large) {
        problem_large(&p);
    } else {
        problem_small(&p);
    }
    if (CHECK_OK(lopt_create(weights, &options, &opt))) {
        problem_register(&p, opt);
        problem_train(&p, opt, 0, steps);
        state = snapshot_of(opt, LOPT_WITH_PARAMETERS);
        int64_t bad = 0;
        for (int i = 0; i < p.count; i++) {
            for (int64_t j = 0; j < p.tensors[i].elements; j++) bad += !isfinite(p.tensors[i].parameter[j]);
        }
        CHECK_INT(bad, 0);
    }
    lopt_destroy(opt);
    problem_free(&p);
    return state;
}

static void check_same(const snapshot *found, const snapshot *expected) {
    CHECK_INT(found->size, expected->size);
    if (found->size == expected->size) CHECK_BYTES(found->bytes, expected->bytes, found->size);
}

static void test_builtin_weights_are_found_by_name(void) {
    static const char *names[][2] = {
        {"pooled", "weights/pooled.safetensors"},
        {"star", "weights/star.safetensors"},
        {"star-authors-rule", "weights/star-authors-rule.safetensors"}};
    snapshot by_default = train(NULL, 1, 1, 4), first = {0, NULL};
    for (int i = 0; i < 3; i++) {
        lopt_weights *builtin, *loaded, *copied;
        size_t size = 0;
        check_context("%s", names[i][0]);
        void *bytes = files_read(files_source(names[i][1]), &size);
        if (!CHECK(bytes != NULL)) continue;
        CHECK_OK(lopt_weights_builtin(names[i][0], NULL, &builtin));
        CHECK_OK(lopt_weights_load(files_source(names[i][1]), NULL, &loaded));
        CHECK_OK(lopt_weights_from_memory(bytes, size, NULL, &copied));
        memset(bytes, 0xff, size);
        free(bytes);
        snapshot a = train(builtin, 1, 1, 4), b = train(loaded, 2, 1, 4), c = train(copied, 3, 1, 4);
        check_same(&b, &a), check_same(&c, &a);
        if (i == 0) {
            check_same(&by_default, &a);
            first = a;
        } else {
            CHECK(a.size != first.size || memcmp(a.bytes, first.bytes, a.size) != 0);
            snapshot_free(&a);
        }
        snapshot_free(&b), snapshot_free(&c);
        CHECK_TEXT(lopt_weights_metadata(builtin, "kind"), i == 0 ? "pooled" : "star");
        CHECK_TEXT(lopt_weights_metadata(builtin, i == 0 ? "nominal_stepsize" : "hidden_size"), i == 0 ? "0.01" : "4");
        CHECK_TEXT(lopt_weights_metadata(loaded, "format_version"), "1");
        const char *provenance = lopt_weights_metadata(builtin, "provenance");
        CHECK(provenance && strlen(provenance) > 10);
        if (provenance) CHECK_TEXT(lopt_weights_metadata(loaded, "provenance"), provenance);
        CHECK(lopt_weights_metadata(builtin, "no such key") == NULL);
        CHECK(lopt_weights_metadata(builtin, "") == NULL);
        CHECK(lopt_weights_metadata(builtin, "kin") == NULL && lopt_weights_metadata(builtin, "kind ") == NULL);
        lopt_weights_free(builtin), lopt_weights_free(loaded), lopt_weights_free(copied);
    }
    check_context("");
    snapshot_free(&by_default), snapshot_free(&first);

    static const char *unknown[] = {"", "Star", "star ", "star-", "adam", "star-authors-rule-2"};
    for (int i = 0; i < 6; i++) {
        lopt_weights *weights = (lopt_weights *)&unknown;
        check_context("built-in '%s'", unknown[i]);
        CHECK_STATUS(lopt_weights_builtin(unknown[i], NULL, &weights), LOPT_ERROR_INVALID_ARGUMENT);
        CHECK_MESSAGE("pooled, star, star-authors-rule");
        CHECK(weights == NULL);
    }
    check_context("");
}

/* Text of the metadata comes out as UTF-8, decoded. */
static void test_metadata_comes_out_decoded(void) {
    made_weights m = weights_make("small_fc", 4, 2,
        "\"note\":\"caf\\u00e9 \\ud83c\\udf1f \\\"q\\\" \\\\ \\/ \\n \\t \xe5\xb1\xa4\","
        "\"\":\"no key\",\"k\\u0065y\":\"\"");
    lopt_weights *weights = weights_of(&m);
    CHECK_TEXT(lopt_weights_metadata(weights, "note"), "caf\xc3\xa9 \xf0\x9f\x8c\x9f \"q\" \\ / \n \t \xe5\xb1\xa4");
    CHECK_TEXT(lopt_weights_metadata(weights, ""), "no key");
    CHECK_TEXT(lopt_weights_metadata(weights, "key"), "");
    CHECK_TEXT(lopt_weights_metadata(weights, "kind"), "small_fc");
    lopt_weights_free(weights);
    weights_release(&m);
}

static void check_threads(const made_weights *m, int steps) {
    lopt_weights *weights = weights_of(m);
    if (!weights) return;
    snapshot one = train(weights, 1, 1, steps);
    for (int32_t threads = 2; threads <= 3; threads++) {
        snapshot more = train(weights, threads, 1, steps);
        check_same(&more, &one);
        snapshot_free(&more);
    }
    snapshot_free(&one);
    lopt_weights_free(weights);
}

static const char *kernel_of(const made_weights *m) {
    lopt_weights *weights = weights_of(m);
    lopt_optimizer *opt = NULL;
    lopt_information information = {.struct_size = sizeof information};
    CHECK_OK(lopt_create(weights, NULL, &opt));
    CHECK_OK(lopt_info(opt, &information));
    lopt_weights_free(weights);
    lopt_destroy(opt);
    return information.kernel;
}

/* The widths of the specialised kernels, those beside them, and those that are evaluated by matrix products. */
static void test_networks_of_every_width_step(void) {
    static const int widths[] = {1, 4, 5, 8, 16, 24, 32, 40, 64};
    for (int i = 0; i < 9; i++) {
        for (int layers = 1; layers <= (widths[i] == 8 ? 4 : 2); layers++) {
            if (layers == 1 && widths[i] > 8) continue;
            made_weights m = weights_make("small_fc", widths[i], layers, "");
            const char *kernel = kernel_of(&m);
            check_context("small_fc of width %d, %d layers (%s)", widths[i], layers, kernel);
            check_threads(&m, check_repetitions(3, 1));
            CHECK((strcmp(kernel, "fused") == 0) == (widths[i] <= 16 || widths[i] == 32));
            weights_release(&m);
        }
    }
    check_context("");
}

static void count_warnings(void *context, lopt_log_level level, const char *text) {
    if (level == LOPT_LOG_WARNING && strstr(text, "openblas")) ++*(int *)context;
}

/* So wide that OpenBLAS, where it is, multiplies the matrices; where it is not, lopt does. */
static void check_wide(const lopt_weights *weights, problem *p) {
    lopt_optimizer *opt = NULL;
    lopt_options options = problem_options();
    lopt_information information = {.struct_size = sizeof information};
    int warnings = 0;
    options.log.message = count_warnings, options.log.context = &warnings;
    blas_asked = blas_loaded = 0;
    CHECK_OK(lopt_create(weights, &options, &opt));
    CHECK_OK(lopt_info(opt, &information));
    CHECK_TEXT(information.kernel, blas_loaded ? "blas" : "general");
    CHECK_INT(warnings, blas_asked && !blas_loaded);
    problem_small(p);
    problem_register(p, opt);
    problem_train(p, opt, 0, 3);
    lopt_destroy(opt);
}

static void test_wide_networks_use_openblas(void) {
    made_weights m = weights_make("small_fc", 264, 1, "");
    lopt_weights *weights = weights_of(&m);
    problem with, without;
    check_context("width 264");
    check_wide(weights, &with);
    blas_is_hidden = 1;
    check_context("width 264 without OpenBLAS");
    check_wide(weights, &without);
    blas_is_hidden = 0;
    /* The same sums in another order. */
    for (int i = 0; i < with.count; i++) CHECK_NEAR(problem_difference(&without, &with, i), 0, 2e-5);
    problem_free(&with), problem_free(&without);
    check_context("width 264, threads");
    if (!check_mode("valgrind")) check_threads(&m, 1);
    check_context("");
    lopt_weights_free(weights);
    weights_release(&m);
}

/* A small network is no reason to load OpenBLAS. */
static void test_small_networks_load_no_openblas(void) {
    lopt_optimizer *opt = NULL;
    blas_asked = 0;
    CHECK_OK(lopt_create(NULL, NULL, &opt));
    lopt_destroy(opt);
    CHECK_INT(blas_asked, 0);
}

/* Every way in which a step goes over a tensor: means of heads, with and without blackbox, nominal term and decay. */
static void test_every_plan_of_passes_steps(void) {
    static const char *blackbox[] = {"\"note\":\"\"", "\"normalize_blackbox\":\"true\"",
                                     "\"selfnormalize_blackbox\":\"true\""};
    static const char *estimators[] = {"SGD", "SGDM", "AggMo", "Adam", "AdamAggMo"};
    for (int flags = 0; flags < 32; flags += check_repetitions(1, 5)) {
        char metadata[512];
        snprintf(metadata, sizeof metadata,
                 "%s,\"nominal_stepsize\":\"%s\",\"weight_decay\":\"%s\",\"nominal_controller\":\"true\","
                 "\"regularization_controller\":\"%s\",\"aggregate_magnitude\":\"%s\",\"aggregate_nom_magnitude\":\"%s\","
                 "\"aggregate_reg_magnitude\":\"%s\",\"nominal_grad_estimator\":\"%s\"",
                 blackbox[flags % 3], flags == 0 ? "0" : "0.001", flags & 1 ? "0.01" : "0", flags & 2 ? "true" : "false",
                 flags & 4 ? "true" : "false", flags & 8 ? "true" : "false", flags & 16 ? "true" : "false",
                 estimators[flags % 5]);
        check_context("star with flags %d", flags);
        made_weights m = weights_make("star", flags % 7 == 6 ? 40 : 4, 2, metadata);
        check_threads(&m, 2);
        weights_release(&m);
    }
    check_context("");
}

/* One lopt_weights, many optimizers in several threads at once. */
typedef struct sharer {
    const lopt_weights *weights;
    const snapshot *expected;
    int differing;
} sharer;

static void *train_shared(void *argument) {
    sharer *s = argument;
    for (int i = 0; i < check_repetitions(5, 1); i++) {
        lopt_options options;
        lopt_optimizer *opt = NULL;
        problem p;
        lopt_options_init(&options, sizeof options);
        options.threads = 1;
        problem_small(&p);
        s->differing += lopt_create(s->weights, &options, &opt) != LOPT_OK;
        for (int k = 0; k < p.count; k++) s->differing += problem_register_one(&p, k, opt) != LOPT_OK;
        for (int step = 0; step < 4; step++) {
            problem_gradient(&p, step);
            s->differing += lopt_step(opt) != LOPT_OK;
        }
        char *bytes = malloc(s->expected->size);
        s->differing += lopt_state_write(opt, LOPT_WITH_PARAMETERS, bytes, s->expected->size) != LOPT_OK;
        s->differing += memcmp(bytes, s->expected->bytes, s->expected->size) != 0;
        s->differing += strcmp(lopt_weights_metadata(s->weights, "kind"), "star") != 0;
        free(bytes);
        lopt_destroy(opt);
        problem_free(&p);
    }
    return NULL;
}

static void test_weights_may_be_shared(void) {
    lopt_weights *weights;
    pthread_t threads[6];
    sharer sharers[6];
    CHECK_OK(lopt_weights_builtin("star-authors-rule", NULL, &weights));
    snapshot expected = train(weights, 1, 0, 4);
    for (int i = 0; i < 6; i++) {
        sharers[i] = (sharer){weights, &expected, 0};
        CHECK_INT(pthread_create(&threads[i], NULL, train_shared, &sharers[i]), 0);
    }
    for (int i = 0; i < 6; i++) {
        pthread_join(threads[i], NULL);
        CHECK_INT(sharers[i].differing, 0);
    }
    snapshot_free(&expected);
    lopt_weights_free(weights);
}

/* They are copied by lopt_create: they may be gone before the first step. */
static void test_weights_may_be_freed_at_once(void) {
    lopt_weights *weights;
    lopt_options options = problem_options();
    lopt_optimizer *opt;
    problem p;
    problem_small(&p);
    CHECK_OK(lopt_weights_builtin("star-authors-rule", NULL, &weights));
    snapshot expected = train(weights, 1, 0, 3);
    CHECK_OK(lopt_create(weights, &options, &opt));
    lopt_weights_free(weights);
    problem_register(&p, opt);
    problem_train(&p, opt, 0, 3);
    CHECK_SAME_STATE(opt, &expected);
    snapshot_free(&expected);
    lopt_destroy(opt);
    problem_free(&p);
}

int main(void) {
    test_builtin_weights_are_found_by_name();
    test_metadata_comes_out_decoded();
    test_networks_of_every_width_step();
    test_wide_networks_use_openblas();
    test_small_networks_load_no_openblas();
    test_every_plan_of_passes_steps();
    test_weights_may_be_shared();
    test_weights_may_be_freed_at_once();
    return check_end();
}
