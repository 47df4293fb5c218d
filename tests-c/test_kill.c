/* Training that saves every few steps is killed at any moment, again and again: the file is always a whole checkpoint, the
 * old one or the new one, never older than the last save that was reported, and training goes on from it to the bits of a
 * run that was never stopped. */
#define _GNU_SOURCE
#include "files.h"
#include "problem.h"

#include <signal.h>
#include <sys/mman.h>
#include <time.h>

enum { STEPS = 3000, EVERY = 3 };

/* What the child has done, seen by the parent after its death. */
typedef struct progress {
    volatile int64_t saved; /* the step of the last save that returned */
    volatile int64_t restored;
} progress;

static progress *shared;
static char path[512];
static uint64_t expected[STEPS + 1]; /* of the state after each step, never stopped */

static lopt_optimizer *make(problem *p) {
    lopt_options options = problem_options();
    lopt_optimizer *opt = NULL;
    problem_small(p);
    CHECK_OK(lopt_create(NULL, &options, &opt));
    problem_register(p, opt);
    return opt;
}

static int64_t steps_of(const lopt_optimizer *opt) {
    lopt_statistics s = {.struct_size = sizeof s};
    CHECK_OK(lopt_stats(opt, -1, &s));
    return s.steps;
}

static uint64_t digest_of(const lopt_optimizer *opt) {
    snapshot s = snapshot_of(opt, LOPT_WITH_PARAMETERS);
    uint64_t digest = 14695981039346656037u;
    for (size_t i = 0; i < s.size; i++) digest = (digest ^ ((unsigned char *)s.bytes)[i]) * 1099511628211u;
    snapshot_free(&s);
    return digest;
}

/* The child: resumes if there is something to resume, trains, saves. */
static void train(void) {
    problem p;
    lopt_optimizer *opt = make(&p);
    if (access(path, F_OK) == 0 && lopt_restore(opt, path, LOPT_WITH_PARAMETERS) != LOPT_OK) _exit(3);
    int64_t step = steps_of(opt);
    shared->restored = step;
    while (step < STEPS) {
        problem_gradient(&p, step);
        if (lopt_step(opt) != LOPT_OK) _exit(4);
        step++;
        if (step % EVERY != 0) continue;
        if (lopt_save(opt, path, LOPT_WITH_PARAMETERS) != LOPT_OK) _exit(5);
        shared->saved = step;
    }
    /* However fast the machine is, the parent kills it. */
    alarm(600);
    for (;;) pause();
}

static void remove_temporaries(void) {
    DIR *d = opendir(files_directory);
    struct dirent *entry;
    while (d && (entry = readdir(d))) {
        if (strncmp(entry->d_name, ".lopt-", 6) == 0) remove(files_path(entry->d_name));
    }
    if (d) closedir(d);
}

static void test_killed_save_leaves_a_whole_checkpoint(int times) {
    int torn = 0;
    int64_t last = 0;
    for (int i = 0; i < times; i++) {
        int status = 0;
        fflush(stdout);
        shared->saved = last;
        pid_t child = fork();
        if (child == 0) train();
        if (!CHECK(child > 0)) return;
        /* From before the first step to many saves later. */
        double wait_ms = 0.2 + 12 * fabs((double)problem_random(77, (uint64_t)i));
        nanosleep(&(struct timespec){0, (long)(1e6 * wait_ms)}, NULL);
        kill(child, SIGKILL);
        CHECK(waitpid(child, &status, 0) == child);
        check_context("kill %d after %.1f ms", i, wait_ms);
        CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
        int files = files_count(files_directory);
        torn += files > 1;
        CHECK(files <= 2);
        remove_temporaries();
        if (access(path, F_OK) != 0) {
            CHECK_INT(shared->saved, 0);
            continue;
        }
        problem p;
        lopt_optimizer *opt = make(&p);
        if (CHECK_OK(lopt_restore(opt, path, LOPT_WITH_PARAMETERS))) {
            int64_t step = steps_of(opt);
            /* The last that was reported, or the one after, of which the report was cut off. */
            CHECK(step >= shared->saved && step <= shared->saved + EVERY && step % EVERY == 0);
            CHECK(digest_of(opt) == expected[step]);
            last = step;
        }
        lopt_destroy(opt);
        problem_free(&p);
        if (last >= STEPS) remove(path), last = 0;
    }
    check_context("");
    printf("%d killed, %d in the middle of a save, at step %lld\n", times, torn, (long long)last);
}

int main(void) {
    problem p;
    files_start();
    snprintf(path, sizeof path, "%s", files_path("checkpoint"));
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (!CHECK(shared != MAP_FAILED)) return check_end();
    lopt_optimizer *opt = make(&p);
    for (int64_t step = 0; step <= STEPS; step++) {
        expected[step] = digest_of(opt);
        if (step < STEPS) problem_train(&p, opt, step, step + 1);
    }
    lopt_destroy(opt);
    problem_free(&p);
    test_killed_save_leaves_a_whole_checkpoint(check_repetitions(200, 12));
    munmap(shared, sizeof *shared);
    files_end();
    return check_end();
}
