/* The caller's floating-point environment (rounding, flags, traps, denormals) is after every call as it was before, and
 * what it is makes no difference to what lopt computes. */
#define _GNU_SOURCE
#include "files.h"
#include "problem.h"

#include <fenv.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

/* ---- Environments ------------------------------------------------------------------------------------------------ */

typedef struct environment {
    const char *name;
    int rounding, flags, traps, flush;
} environment;

static const environment environments[] = {
    {"default", FE_TONEAREST, 0, 0, 0},
    {"all flags set", FE_TONEAREST, FE_ALL_EXCEPT, 0, 0},
    {"rounding up", FE_UPWARD, 0, 0, 0},
    {"rounding down", FE_DOWNWARD, 0, 0, 0},
    {"rounding to zero", FE_TOWARDZERO, 0, 0, 0},
    {"denormals flushed", FE_TONEAREST, 0, 0, 1},
    {"rounding up, denormals flushed", FE_UPWARD, 0, 0, 1},
    {"traps of invalid, overflow, division", FE_TONEAREST, 0, FE_INVALID | FE_OVERFLOW | FE_DIVBYZERO, 0},
    {"all traps", FE_TONEAREST, 0, FE_ALL_EXCEPT, 0},
};
enum { ENVIRONMENTS = sizeof environments / sizeof *environments };

static void enter(const environment *e) {
    fesetenv(FE_DFL_ENV);
    fesetround(e->rounding);
#if defined(__x86_64__)
    if (e->flags) _mm_setcsr(_mm_getcsr() | 0x3f);
    if (e->flush) _mm_setcsr(_mm_getcsr() | 0x8040); /* FTZ, DAZ */
#else
    feraiseexcept(e->flags);
#endif
    if (e->traps) feenableexcept(e->traps);
}

/* memcheck computes with the default environment whatever the program sets. */
static int is_emulated(const environment *e) {
    return check_mode("valgrind") && (e->rounding != FE_TONEAREST || e->traps || e->flush || e->flags);
}

/* ---- Every call -------------------------------------------------------------------------------------------------- */

/* A fresh optimizer and what the calls need. */
typedef struct fixture {
    problem p;
    lopt_optimizer *opt, *made;
    lopt_weights *weights, *loaded;
    lopt_statistics statistics;
    lopt_information information;
    lopt_options options;
    lopt_tensor_options tensor_options;
    snapshot state;
    void *file;
    size_t file_size;
    float more[2][8];
} fixture;

static fixture f;

static void set_up(void) {
    memset(&f, 0, sizeof f);
    problem_small(&f.p);
    f.statistics.struct_size = sizeof f.statistics;
    f.information.struct_size = sizeof f.information;
    f.options = problem_options();
    CHECK_OK(lopt_tensor_options_init(&f.tensor_options, sizeof f.tensor_options));
    f.tensor_options.lr_scale = 0.3;
    CHECK_OK(lopt_weights_builtin("star-authors-rule", NULL, &f.weights));
    CHECK_OK(lopt_create(f.weights, &f.options, &f.opt));
    problem_register(&f.p, f.opt);
    problem_train(&f.p, f.opt, 0, 2);
    f.state = snapshot_of(f.opt, LOPT_WITH_PARAMETERS);
    f.file = files_read(files_source("weights/star.safetensors"), &f.file_size);
    CHECK(f.file != NULL);
    CHECK_OK(lopt_save(f.opt, files_path("saved"), 0));
}

static void tear_down(void) {
    lopt_destroy(f.opt), lopt_destroy(f.made);
    lopt_weights_free(f.weights), lopt_weights_free(f.loaded);
    snapshot_free(&f.state);
    free(f.file);
    problem_free(&f.p);
}

static lopt_status put(int32_t tensor, uint32_t bits) {
    memcpy(&f.p.tensors[tensor].gradient[0], &bits, 4);
    return LOPT_OK;
}

/* The status is not looked at here: some of these are refused. */
typedef enum lopt_status (*call)(void);
#define CALL(name, expression) static lopt_status call_##name(void) { return expression; }
CALL(create, lopt_create(NULL, NULL, &f.made))
CALL(create_from, lopt_create(f.weights, &f.options, &f.made))
CALL(create_refused, (f.options.weight_decay = NAN, lopt_create(NULL, &f.options, &f.made)))
CALL(destroy, (lopt_destroy(f.opt), f.opt = NULL, LOPT_OK))
CALL(add_tensor, lopt_add_tensor(f.opt, "more", f.more[0], f.more[1], (int64_t[]){2, 4}, 2, NULL))
CALL(bind, lopt_bind(f.opt, 0, f.more[0], f.more[1]))
CALL(step, lopt_step(f.opt))
CALL(step_nan, (put(2, 0x7fc00000), lopt_step(f.opt)))
CALL(step_signalling_nan, (put(2, 0x7f800001), lopt_step(f.opt)))
CALL(step_infinity, (put(2, 0xff800000), lopt_step(f.opt)))
CALL(step_denormal, (put(2, 0x00000123), lopt_step(f.opt)))
CALL(step_huge, (put(2, 0x58800000), lopt_step(f.opt)))
CALL(step_tensor, lopt_step_tensor(f.opt, 1))
CALL(set_lr_scale, lopt_set_lr_scale(f.opt, 0.3))
CALL(set_lr_scale_refused, lopt_set_lr_scale(f.opt, -0.3))
CALL(set_lr_scale_denormal, lopt_set_lr_scale(f.opt, -1e-310))
CALL(set_tensor_options, lopt_set_tensor_options(f.opt, 1, &f.tensor_options))
CALL(stats, lopt_stats(f.opt, -1, &f.statistics))
CALL(stats_of_one, lopt_stats(f.opt, 2, &f.statistics))
CALL(info, lopt_info(f.opt, &f.information))
CALL(state_size, lopt_state_size(f.opt, 1, &f.state.size))
CALL(state_write, lopt_state_write(f.opt, 1, f.state.bytes, f.state.size))
CALL(state_read, lopt_state_read(f.opt, 1, f.state.bytes, f.state.size))
CALL(save, lopt_save(f.opt, files_path("saved"), 1))
CALL(restore, lopt_restore(f.opt, files_path("saved"), 0))
CALL(weights_builtin, lopt_weights_builtin("star", NULL, &f.loaded))
CALL(weights_load, lopt_weights_load(files_source("weights/star-authors-rule.safetensors"), NULL, &f.loaded))
CALL(weights_from_memory, lopt_weights_from_memory(f.file, f.file_size, NULL, &f.loaded))
CALL(weights_metadata, (lopt_weights_metadata(f.weights, "kind"), LOPT_OK))
CALL(weights_free, (lopt_weights_free(f.weights), f.weights = NULL, LOPT_OK))
CALL(options_init, lopt_options_init(&f.options, sizeof f.options))
CALL(tensor_options_init, lopt_tensor_options_init(&f.tensor_options, sizeof f.tensor_options))
CALL(texts, (lopt_version(), lopt_version_string(), lopt_last_error(), lopt_status_string(LOPT_ERROR_IO), LOPT_OK))

#define ENTRY(name) {#name, call_##name}
static const struct { const char *name; call function; } calls[] = {
    ENTRY(create), ENTRY(create_from), ENTRY(create_refused), ENTRY(destroy), ENTRY(add_tensor), ENTRY(bind),
    ENTRY(step), ENTRY(step_nan), ENTRY(step_signalling_nan), ENTRY(step_infinity), ENTRY(step_denormal),
    ENTRY(step_huge), ENTRY(step_tensor), ENTRY(set_lr_scale), ENTRY(set_lr_scale_refused), ENTRY(set_lr_scale_denormal),
    ENTRY(set_tensor_options), ENTRY(stats), ENTRY(stats_of_one), ENTRY(info), ENTRY(state_size), ENTRY(state_write),
    ENTRY(state_read), ENTRY(save), ENTRY(restore), ENTRY(weights_builtin), ENTRY(weights_load),
    ENTRY(weights_from_memory), ENTRY(weights_metadata), ENTRY(weights_free), ENTRY(options_init),
    ENTRY(tensor_options_init), ENTRY(texts),
};

static sigjmp_buf trapped;
static void on_trap(int signal_number) { siglongjmp(trapped, signal_number); }

static void test_every_call_leaves_the_environment(void) {
    for (size_t c = 0; c < sizeof calls / sizeof *calls; c++) {
        for (int e = 0; e < ENVIRONMENTS; e++) {
            fenv_t before, after;
            if (is_emulated(&environments[e])) continue;
            set_up();
            problem_gradient(&f.p, 7);
            if (sigsetjmp(trapped, 1) != 0) {
                fesetenv(FE_DFL_ENV);
                check_context("lopt_%s under: %s", calls[c].name, environments[e].name);
                CHECK(!"SIGFPE");
                check_context("");
                tear_down();
                continue;
            }
            enter(&environments[e]);
            memset(&before, 0, sizeof before), memset(&after, 0, sizeof after);
            fegetenv(&before);
            fesetenv(&before); /* on x86 reading the environment masks the traps of the x87 */
            calls[c].function();
            fegetenv(&after);
            fesetenv(FE_DFL_ENV);
            check_context("lopt_%s under: %s", calls[c].name, environments[e].name);
            CHECK_BYTES(&after, &before, sizeof after);
            check_context("");
            tear_down();
        }
    }
}

/* ---- The same bits ----------------------------------------------------------------------------------------------- */

/* Everything from the file of the weights to the end of training under an environment; gradients under the default. */
static snapshot train(const environment *e, int32_t threads, lopt_statistics *statistics) {
    lopt_options options = problem_options();
    lopt_weights *weights = NULL;
    lopt_optimizer *opt = NULL;
    snapshot state;
    problem p;
    int failures = 0;
    problem_large(&p);
    options.threads = threads;
    options.lr_scale = 0.7, options.weight_decay = 0.01;
    enter(e);
    failures += lopt_weights_load(files_source("weights/star-authors-rule.safetensors"), NULL, &weights) != LOPT_OK;
    failures += lopt_create(weights, &options, &opt) != LOPT_OK;
    lopt_weights_free(weights);
    for (int i = 0; i < p.count; i++) failures += problem_register_one(&p, i, opt) != LOPT_OK;
    for (int step = 0; step < 5; step++) {
        fesetenv(FE_DFL_ENV);
        problem_gradient(&p, step);
        enter(e);
        failures += lopt_step(opt) != LOPT_OK;
    }
    statistics->struct_size = sizeof *statistics;
    failures += lopt_stats(opt, -1, statistics) != LOPT_OK;
    fesetenv(FE_DFL_ENV);
    CHECK_INT(failures, 0);
    state = snapshot_of(opt, LOPT_WITH_PARAMETERS);
    lopt_destroy(opt);
    problem_free(&p);
    return state;
}

static void test_environment_of_the_caller_changes_no_bit(void) {
    lopt_statistics expected_statistics, statistics;
    snapshot expected = train(&environments[0], 1, &expected_statistics);
    for (int i = 0; i < 2 * ENVIRONMENTS; i++) {
        const environment *e = &environments[i / 2];
        snapshot state;
        if (is_emulated(e)) continue;
        if (sigsetjmp(trapped, 1) != 0) {
            fesetenv(FE_DFL_ENV);
            check_context("training under: %s", e->name);
            CHECK(!"SIGFPE");
            continue;
        }
        state = train(e, 1 + i % 2 * 2, &statistics);
        check_context("training under: %s", e->name);
        CHECK_INT(state.size, expected.size);
        CHECK_BYTES(state.bytes, expected.bytes, state.size);
        CHECK_BYTES(&statistics, &expected_statistics, sizeof statistics);
        snapshot_free(&state);
    }
    check_context("");
    snapshot_free(&expected);
}

/* ---- Threads of the caller's parallel-for -------------------------------------------------------------------------- */

/* What a thread begins with, which it has from the one that made it, and what it has after a task. */
typedef struct worker {
    pthread_t thread;
    lopt_task task;
    void *context;
    int32_t i;
    fenv_t before, after;
    int is_flushing[2];
} worker;

static int is_flushing(void) {
    volatile float tiny = 1e-30f;
    volatile float product = tiny * 1e-12f;
    return product == 0;
}

static void *work(void *argument) {
    worker *w = argument;
    w->is_flushing[0] = is_flushing();
    fegetenv(&w->before);
    fesetenv(&w->before);
    if (w->task) w->task(w->context, w->i);
    fegetenv(&w->after);
    fesetenv(&w->after);
    w->is_flushing[1] = is_flushing();
    return NULL;
}

static worker model; /* made by the host outside of any call */
static int workers_made, workers_same;

static void run_on_new_threads(void *context, int32_t count, lopt_task task, void *task_context) {
    worker workers[8];
    (void)context;
    for (int32_t i = 0; i < count; i++) {
        workers[i] = (worker){.task = task, .context = task_context, .i = i};
        memset(&workers[i].before, 0, sizeof workers[i].before);
        memset(&workers[i].after, 0, sizeof workers[i].after);
        if (pthread_create(&workers[i].thread, NULL, work, &workers[i]) != 0) abort();
    }
    for (int32_t i = 0; i < count; i++) {
        pthread_join(workers[i].thread, NULL);
        workers_made++;
        workers_same += memcmp(&workers[i].before, &model.before, sizeof model.before) == 0 &&
                        memcmp(&workers[i].after, &model.before, sizeof model.before) == 0 &&
                        workers[i].is_flushing[0] == model.is_flushing[0] &&
                        workers[i].is_flushing[1] == model.is_flushing[0];
    }
}

static void test_threads_of_the_host_see_their_own_environment(void) {
    for (int e = 0; e < ENVIRONMENTS; e++) {
        const environment *environment = &environments[e];
        lopt_options options = problem_options();
        lopt_optimizer *opt;
        problem p;
        /* The threads' own products would be trapped. */
        if (is_emulated(environment) || environment->traps) continue;
        problem_large(&p);
        options.threads = 3, options.parallel_for.run = run_on_new_threads;
        CHECK_OK(lopt_create(NULL, &options, &opt));
        problem_register(&p, opt);
        problem_gradient(&p, 0);
        workers_made = workers_same = 0;
        memset(&model, 0, sizeof model);
        enter(environment);
        int created = pthread_create(&model.thread, NULL, work, &model);
        if (created == 0) pthread_join(model.thread, NULL);
        lopt_status status = lopt_step(opt), of_one = lopt_step_tensor(opt, p.count - 1);
        fesetenv(FE_DFL_ENV);
        check_context("under: %s", environment->name);
        CHECK_INT(created, 0);
        CHECK_INT(status, LOPT_OK);
        CHECK_INT(of_one, LOPT_OK);
        CHECK_INT(model.is_flushing[0], environment->flush);
        CHECK(workers_made >= 6);
        CHECK_INT(workers_same, workers_made);
        lopt_destroy(opt);
        problem_free(&p);
    }
    check_context("");
}

int main(void) {
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = on_trap;
    sigaction(SIGFPE, &action, NULL);
    files_start();
    test_every_call_leaves_the_environment();
    test_environment_of_the_caller_changes_no_bit();
    test_threads_of_the_host_see_their_own_environment();
    files_end();
    return check_end();
}
