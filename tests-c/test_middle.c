/* In the middle of a call: its thread is cancelled, a callback or a signal handler calls lopt. The program's own fsync stands
 * before the C library's. */
#define _GNU_SOURCE
#include "files.h"
#include "problem.h"

#include <pthread.h>
#include <signal.h>
#include <sys/syscall.h>

enum { STEPS = 6 };

static snapshot expected; /* of STEPS steps of the large problem, made by one thread */
static float more[2][3];
static int cancels; /* the next fsync cancels its thread */

int fsync(int file) {
    if (cancels) {
        cancels = 0;
        pthread_cancel(pthread_self());
        pthread_testcancel(); /* as the C library's does */
    }
    return (int)syscall(SYS_fsync, file);
}

/* ---- Cancelled ---------------------------------------------------------------------------------------------------- */

static int returned;

static void *save_cancelled(void *opt) {
    cancels = 1;
    returned = lopt_save(opt, files_path("saved"), 1) == LOPT_OK ? 1 : -1;
    (void)!lopt_save(opt, files_path("never"), 1);
    returned = 2;
    return NULL;
}

static void run_cancelled(void *context, int32_t count, lopt_task task, void *task_context) {
    (void)context;
    pthread_cancel(pthread_self());
    pthread_testcancel();
    for (int32_t i = 0; i < count; i++) task(task_context, i);
}

static void *step_cancelled(void *opt) {
    returned = lopt_step(opt) == LOPT_OK ? 1 : -1;
    (void)!lopt_step(opt);
    returned = 2;
    return NULL;
}

/* A thread that is cancelled in a call ends at the beginning of the next: the first is whole, with nothing left behind. */
static void test_cancelled_thread_finishes_its_call(void) {
    problem p;
    pthread_t thread;
    void *result = NULL;
    lopt_options options = problem_options();
    lopt_optimizer *opt;
    problem_large(&p);
    options.threads = 3;
    CHECK_OK(lopt_create(NULL, &options, &opt));
    problem_register(&p, opt);
    problem_train(&p, opt, 0, STEPS);
    int files = files_count("/proc/self/fd");
    returned = 0;
    CHECK_INT(pthread_create(&thread, NULL, save_cancelled, opt), 0);
    CHECK_INT(pthread_join(thread, &result), 0);
    CHECK(result == PTHREAD_CANCELED);
    CHECK_INT(returned, 1);
    CHECK_INT(files_count("/proc/self/fd"), files);
    CHECK_INT(files_count(files_directory), 1);
    CHECK_OK(lopt_restore(opt, files_path("saved"), 1));
    CHECK_SAME_STATE(opt, &expected);
    remove(files_path("saved"));
    lopt_destroy(opt);
    problem_free(&p);
    problem_large(&p);
    options.parallel_for.run = run_cancelled;
    CHECK_OK(lopt_create(NULL, &options, &opt));
    problem_register(&p, opt);
    for (int step = 0; step < STEPS; step++) {
        problem_gradient(&p, step);
        returned = 0;
        CHECK_INT(pthread_create(&thread, NULL, step_cancelled, opt), 0);
        CHECK_INT(pthread_join(thread, &result), 0);
        CHECK(result == PTHREAD_CANCELED);
        CHECK_INT(returned, 1);
    }
    CHECK_SAME_STATE(opt, &expected);
    lopt_destroy(opt);
    problem_free(&p);
}

/* ---- In the middle of a call -------------------------------------------------------------------------------------- */

static struct {
    lopt_optimizer *opt;
    problem *p;
    void *state;
    size_t size;
    int calls;
} middle;

#define CHECK_IN_USE(call) \
    do { \
        CHECK_STATUS(call, LOPT_ERROR_INVALID_ARGUMENT); \
        CHECK_MESSAGE("in the middle"); \
    } while (0)

static void use_in_the_middle(int signal_number) {
    lopt_optimizer *opt = middle.opt;
    (void)signal_number;
    middle.calls++;
    CHECK_IN_USE(lopt_state_write(opt, 1, middle.state, middle.size));
    CHECK_IN_USE(lopt_state_read(opt, 1, middle.state, middle.size));
    CHECK_IN_USE(lopt_save(opt, files_path("torn"), 1));
    CHECK_IN_USE(lopt_restore(opt, files_path("torn"), 1));
    CHECK_IN_USE(lopt_step(opt));
    CHECK_IN_USE(lopt_step_tensor(opt, 0));
    CHECK_IN_USE(lopt_add_tensor(opt, "more", more[0], more[1], (int64_t[]){3}, 1, NULL));
    CHECK_IN_USE(lopt_bind(opt, 0, middle.p->tensors[0].parameter, middle.p->tensors[0].gradient));
    lopt_destroy(opt);
}

static void run_signalled(void *context, int32_t count, lopt_task task, void *task_context) {
    (void)context;
    for (int32_t i = 0; i < count; i++) {
        raise(SIGUSR1);
        task(task_context, i);
    }
    use_in_the_middle(0);
}

static void test_calls_in_the_middle_of_another_are_refused(void) {
    problem p;
    lopt_options options = problem_options();
    lopt_optimizer *opt;
    struct sigaction action, old;
    memset(&action, 0, sizeof action);
    action.sa_handler = use_in_the_middle;
    CHECK_INT(sigaction(SIGUSR1, &action, &old), 0);
    problem_large(&p);
    options.threads = 2, options.parallel_for.run = run_signalled;
    CHECK_OK(lopt_create(NULL, &options, &opt));
    problem_register(&p, opt);
    CHECK_OK(lopt_state_size(opt, 1, &middle.size));
    middle.state = check_memory(middle.size);
    middle.opt = opt, middle.p = &p, middle.calls = 0;
    problem_train(&p, opt, 0, STEPS);
    CHECK(middle.calls >= 3 * STEPS);
    CHECK_INT(files_count(files_directory), 0);
    CHECK_SAME_STATE(opt, &expected);
    /* Afterwards all is as ever, also after a step that was refused. */
    p.tensors[2].gradient[0] = NAN;
    CHECK_STATUS(lopt_step(opt), LOPT_SKIPPED_NONFINITE);
    CHECK_OK(lopt_state_write(opt, 1, middle.state, middle.size));
    CHECK_OK(lopt_state_read(opt, 1, middle.state, middle.size));
    CHECK_OK(lopt_add_tensor(opt, "more", more[0], more[1], (int64_t[]){3}, 1, NULL));
    CHECK_INT(sigaction(SIGUSR1, &old, NULL), 0);
    lopt_destroy(opt);
    free(middle.state);
    problem_free(&p);
}

int main(void) {
    lopt_options options = problem_options();
    lopt_optimizer *opt;
    problem p;
    files_start();
    problem_large(&p);
    CHECK_OK(lopt_create(NULL, &options, &opt));
    problem_register(&p, opt);
    problem_train(&p, opt, 0, STEPS);
    expected = snapshot_of(opt, LOPT_WITH_PARAMETERS);
    lopt_destroy(opt);
    problem_free(&p);
    test_cancelled_thread_finishes_its_call();
    test_calls_in_the_middle_of_another_are_refused();
    snapshot_free(&expected);
    files_end();
    return check_end();
}
