/* Several optimizers at once, each on a host thread of its own, with 1, 2 and 8 threads of lopt's and with the caller's
 * parallel-for, of one lopt_weights: every one computes the bits that it computes alone. For ThreadSanitizer above all
 * (scripts/test-c thread). */
#define _GNU_SOURCE
#include "files.h"
#include "problem.h"

#include <pthread.h>

enum { HOSTS = 8, STEPS = 4 };

typedef struct item {
    pthread_t thread;
    lopt_task task;
    void *context;
    int32_t i;
} item;

static void *run_item(void *argument) {
    item *it = argument;
    it->task(it->context, it->i);
    return NULL;
}

/* A thread for each task, as a careless host has it. */
static void run_on_threads(void *context, int32_t count, lopt_task task, void *task_context) {
    item items[16];
    (void)context;
    for (int32_t i = 0; i < count; i++) {
        items[i] = (item){.task = task, .context = task_context, .i = i};
        if (pthread_create(&items[i].thread, NULL, run_item, &items[i]) != 0) abort();
    }
    for (int32_t i = 0; i < count; i++) pthread_join(items[i].thread, NULL);
}

typedef struct host {
    int32_t threads;
    int parallel_for;
    double max_update_ratio;
    const lopt_weights *weights;
    char path[300];
    int failures;
    snapshot state;
} host;

/* A whole use of the library: every call, several rounds. */
static void *use(void *argument) {
    host *h = argument;
    lopt_options options;
    lopt_optimizer *opt = NULL;
    lopt_statistics s = {.struct_size = sizeof s};
    lopt_information information = {.struct_size = sizeof information};
    problem p;
    size_t size = 0;
    h->failures += lopt_options_init(&options, sizeof options) != LOPT_OK;
    options.threads = h->threads;
    options.max_update_ratio = h->max_update_ratio;
    if (h->parallel_for) options.parallel_for.run = run_on_threads;
    problem_large(&p);
    h->failures += lopt_create(h->weights, &options, &opt) != LOPT_OK;
    for (int i = 0; i < p.count; i++) h->failures += problem_register_one(&p, i, opt) != LOPT_OK;
    for (int step = 0; step < STEPS; step++) {
        problem_gradient(&p, step);
        h->failures += lopt_set_lr_scale(opt, 1 - 0.1 * step) != LOPT_OK;
        if (step == 2) {
            for (int i = 0; i < p.count; i++) h->failures += lopt_step_tensor(opt, i) != LOPT_OK;
        } else {
            h->failures += lopt_step(opt) != LOPT_OK;
        }
        h->failures += lopt_stats(opt, -1, &s) != LOPT_OK || lopt_info(opt, &information) != LOPT_OK;
        h->failures += lopt_save(opt, h->path, LOPT_WITH_PARAMETERS) != LOPT_OK;
        h->failures += lopt_restore(opt, h->path, LOPT_WITH_PARAMETERS) != LOPT_OK;
        /* An error of this thread's own. */
        h->failures += lopt_step_tensor(opt, 1000 + h->threads) != LOPT_ERROR_INVALID_ARGUMENT;
        char number[16];
        snprintf(number, sizeof number, "%d", 1000 + h->threads);
        h->failures += strstr(lopt_last_error(), number) == NULL;
    }
    h->failures += lopt_state_size(opt, LOPT_WITH_PARAMETERS, &size) != LOPT_OK;
    h->state.size = size, h->state.bytes = check_memory(size);
    h->failures += lopt_state_write(opt, LOPT_WITH_PARAMETERS, h->state.bytes, size) != LOPT_OK;
    lopt_destroy(opt);
    problem_free(&p);
    return NULL;
}

static void test_optimizers_at_once_compute_what_one_does(const char *weights_name, double max_update_ratio) {
    static const int32_t threads[HOSTS] = {1, 2, 8, 1, 2, 8, 2, 8};
    host alone = {.threads = 1, .max_update_ratio = max_update_ratio}, hosts[HOSTS];
    pthread_t handles[HOSTS];
    lopt_weights *weights = NULL;
    CHECK_OK(lopt_weights_builtin(weights_name, NULL, &weights));
    alone.weights = weights;
    snprintf(alone.path, sizeof alone.path, "%s", files_path("alone"));
    use(&alone);
    CHECK_INT(alone.failures, 0);
    for (int i = 0; i < HOSTS; i++) {
        hosts[i] = (host){.threads = threads[i], .parallel_for = i >= 4, .weights = weights};
        hosts[i].max_update_ratio = max_update_ratio;
        snprintf(hosts[i].path, sizeof hosts[i].path, "%s/host-%d", files_directory, i);
        CHECK_INT(pthread_create(&handles[i], NULL, use, &hosts[i]), 0);
    }
    for (int i = 0; i < HOSTS; i++) {
        pthread_join(handles[i], NULL);
        check_context("%s, host %d: %d threads%s", weights_name, i, threads[i], i >= 4 ? " of the caller" : "");
        CHECK_INT(hosts[i].failures, 0);
        if (CHECK_INT(hosts[i].state.size, alone.state.size)) {
            CHECK_BYTES(hosts[i].state.bytes, alone.state.bytes, alone.state.size);
        }
        snapshot_free(&hosts[i].state);
    }
    check_context("");
    snapshot_free(&alone.state);
    lopt_weights_free(weights);
}

int main(void) {
    files_start();
    test_optimizers_at_once_compute_what_one_does("star", 0);
    test_optimizers_at_once_compute_what_one_does("star-authors-rule", 0);
    test_optimizers_at_once_compute_what_one_does("star-authors-rule", 1e-4);
    files_end();
    return check_end();
}
