/* Threads that come late, that the system refuses, that a fork leaves behind, that are bound to one processor. The program's own
 * pthread_create and open stand before the C library's. */
#define _GNU_SOURCE
#include "files.h"
#include "problem.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdarg.h>
#include <sys/syscall.h>

enum { STEPS = 6 };

/* ---- System calls that do as they are told ------------------------------------------------------------------------ */

static int allowed = 1 << 20, created; /* threads that may be made, and have been */
static const char *groups;             /* where the files of control groups are read instead of /proc and /sys */

typedef int (*create_function)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
/* The sanitizers' own, which must see every thread. */
int __interceptor_pthread_create(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *) __attribute__((weak));

int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*body)(void *), void *argument) {
    create_function real = __interceptor_pthread_create;
    if (!real) *(void **)&real = dlsym(RTLD_NEXT, "pthread_create");
    if (created >= allowed) return EAGAIN;
    created++;
    return real(thread, attributes, body, argument);
}

int open(const char *path, int flags, ...) {
    char instead[600];
    va_list arguments;
    va_start(arguments, flags);
    int mode = flags & O_CREAT ? va_arg(arguments, int) : 0;
    va_end(arguments);
    if (groups && (strncmp(path, "/sys/fs/cgroup", 14) == 0 || strcmp(path, "/proc/self/cgroup") == 0)) {
        snprintf(instead, sizeof instead, "%s/", groups);
        size_t length = strlen(instead);
        for (const char *c = path + 1; *c && length < sizeof instead - 1; c++) instead[length++] = *c == '/' ? '-' : *c;
        instead[length] = 0;
        path = instead;
    }
    return (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
}

/* ---- Optimizers --------------------------------------------------------------------------------------------------- */

static snapshot expected; /* of STEPS steps of the large problem, made by one thread */
static int warnings;
static char warning[300];

static void on_message(void *context, lopt_log_level level, const char *text) {
    (void)context;
    if (level != LOPT_LOG_WARNING) return;
    warnings++;
    snprintf(warning, sizeof warning, "%s", text);
}

static int32_t threads_of(const lopt_optimizer *opt) {
    lopt_information information = {.struct_size = sizeof information};
    CHECK_OK(lopt_info(opt, &information));
    return information.threads;
}

static lopt_optimizer *make(problem *p, int32_t threads) {
    lopt_options options = problem_options();
    lopt_optimizer *opt;
    options.threads = threads;
    options.log.message = on_message;
    problem_large(p);
    CHECK_OK(lopt_create(NULL, &options, &opt));
    problem_register(p, opt);
    return opt;
}

static float more[2][4][3];

static lopt_status add_one(lopt_optimizer *opt, int number) {
    char name[16];
    snprintf(name, sizeof name, "more %d", number);
    return lopt_add_tensor(opt, name, more[0][number], more[1][number], (int64_t[]){3}, 1, NULL);
}

/* ---- Late and refused --------------------------------------------------------------------------------------------- */

/* Of four threads wanted, the system gives few at first and more later, after steps that those did not see. Each time the
 * log says so once, and lopt_info how many there are. */
static void test_threads_that_start_late_are_used(void) {
    for (int first = 0; first < 4; first++) {
        for (int then = first; then < 4; then++) {
            problem p, q;
            check_context("%d of 3 threads start at once, %d later", first, then);
            created = warnings = 0, allowed = first;
            lopt_optimizer *opt = make(&p, 4);
            CHECK_INT(threads_of(opt), 1 + first);
            CHECK_INT(warnings, first < 3);
            if (first < 3) CHECK(strstr(warning, "threads") && strstr(warning, strerror(EAGAIN)));
            problem_train(&p, opt, 0, STEPS / 2);
            allowed = then;
            CHECK_OK(add_one(opt, 0));
            CHECK_INT(threads_of(opt), 1 + then);
            CHECK_INT(warnings, first < 3);
            problem_train(&p, opt, STEPS / 2, STEPS);
            allowed = 3;
            CHECK_OK(add_one(opt, 1));
            CHECK_INT(threads_of(opt), 4);
            CHECK_INT(warnings, first < 3);
            problem_train(&p, opt, STEPS, STEPS + 2);
            lopt_destroy(opt);
            /* The same with one thread. */
            allowed = 1 << 20;
            opt = make(&q, 1);
            problem_train(&q, opt, 0, STEPS / 2);
            CHECK_OK(add_one(opt, 0));
            problem_train(&q, opt, STEPS / 2, STEPS);
            CHECK_OK(add_one(opt, 1));
            problem_train(&q, opt, STEPS, STEPS + 2);
            for (int i = 0; i < p.count; i++) {
                CHECK_BITS(p.tensors[i].parameter, q.tensors[i].parameter, p.tensors[i].elements);
            }
            lopt_destroy(opt);
            problem_free(&p), problem_free(&q);
        }
    }
    check_context("");
}

/* ---- Fork --------------------------------------------------------------------------------------------------------- */

static lopt_optimizer *inherited;
static problem of_inherited;
static int children; /* of children to come */

static void destroy_inherited(void) {
    lopt_destroy(inherited);
    inherited = NULL;
}

static void train_inherited(void) {
    CHECK_INT(threads_of(inherited), 1);
    problem_train(&of_inherited, inherited, 2, STEPS);
    CHECK_SAME_STATE(inherited, &expected);
}

static void child_destroys(void *nothing) { (void)nothing, destroy_inherited(); }
static void child_steps(void *nothing) { (void)nothing, train_inherited(), destroy_inherited(); }
static void child_leaves_it(void *nothing) { (void)nothing, train_inherited(); }
static void child_exits(void *nothing) {
    (void)nothing;
    train_inherited();
    atexit(destroy_inherited);
    exit(check_failed == 0 ? 0 : 1);
}
/* A tensor more, and the child has threads of its own; its child again has none. */
static void child_adds(void *nothing) {
    (void)nothing;
    problem_train(&of_inherited, inherited, 2, STEPS);
    CHECK_OK(add_one(inherited, 0));
    CHECK_INT(threads_of(inherited), 3);
    CHECK_OK(lopt_step(inherited));
    if (children-- > 0) CHECK_SURVIVES(child_destroys, NULL);
    destroy_inherited();
}
static void child_saves(void *nothing) {
    (void)nothing;
    CHECK_OK(lopt_save(inherited, files_path("of child"), 1));
    CHECK_OK(lopt_step(inherited));
    CHECK_OK(lopt_restore(inherited, files_path("of child"), 1));
    train_inherited();
    remove(files_path("of child"));
    destroy_inherited();
}

static void test_child_of_a_fork_goes_on_alone(void) {
    static void (*const bodies[])(void *) = {child_destroys, child_steps, child_leaves_it, child_exits, child_adds,
                                             child_saves};
    children = 1;
    for (size_t i = 0; i < sizeof bodies / sizeof *bodies; i++) {
        inherited = make(&of_inherited, 3);
        problem_train(&of_inherited, inherited, 0, 2);
        check_context("child %zu", i);
        CHECK_SURVIVES(bodies[i], NULL);
        CHECK_INT(threads_of(inherited), 3);
        problem_train(&of_inherited, inherited, 2, STEPS);
        CHECK_SAME_STATE(inherited, &expected);
        destroy_inherited();
        problem_free(&of_inherited);
    }
    check_context("");
}

/* ---- Processors --------------------------------------------------------------------------------------------------- */

static int32_t automatic_threads(void) {
    lopt_options options = problem_options();
    lopt_optimizer *opt;
    options.threads = 0;
    CHECK_OK(lopt_create(NULL, &options, &opt));
    int32_t threads = threads_of(opt);
    lopt_destroy(opt);
    return threads;
}

static void bind_to(pid_t thread, const cpu_set_t *set) {
    CHECK_INT(syscall(SYS_sched_setaffinity, thread, sizeof *set, set), 0);
}

static pthread_barrier_t barrier;
static cpu_set_t second;

static void *wait_on_second(void *nothing) {
    bind_to(0, &second);
    pthread_barrier_wait(&barrier);
    pthread_barrier_wait(&barrier);
    return nothing;
}

/* Whether every other thread of the process may run on all of these. */
static int others_may_run_on(const cpu_set_t *set, int *count) {
    DIR *d = opendir("/proc/self/task");
    struct dirent *entry;
    int all = 1;
    *count = 0;
    while (d && (entry = readdir(d))) {
        cpu_set_t own, both;
        pid_t thread = atoi(entry->d_name);
        if (thread <= 0 || thread == getpid()) continue;
        CPU_ZERO(&own);
        CHECK(syscall(SYS_sched_getaffinity, thread, sizeof own, &own) > 0);
        CPU_AND(&both, &own, set);
        all &= CPU_EQUAL(&both, set);
        ++*count;
    }
    if (d) closedir(d);
    return all;
}

/* As OpenMP does it with OMP_PROC_BIND: the calling thread on one processor, another thread on another. */
static void bound_threads(void *nothing) {
    cpu_set_t all, first;
    pthread_t other;
    problem p;
    int count = 0;
    (void)nothing;
    CPU_ZERO(&all);
    CPU_ZERO(&first);
    CPU_ZERO(&second);
    CHECK(syscall(SYS_sched_getaffinity, 0, sizeof all, &all) > 0);
    CHECK_INT(automatic_threads(), CPU_COUNT(&all) < 256 ? CPU_COUNT(&all) : 256);
    for (int i = 0; i < CPU_SETSIZE && CPU_COUNT(&second) == 0; i++) {
        if (CPU_ISSET(i, &all)) CPU_SET(i, CPU_COUNT(&first) == 0 ? &first : &second);
    }
    bind_to(0, &first);
    CHECK_INT(automatic_threads(), 1); /* a process of one thread on one processor */
    if (CPU_COUNT(&second) == 0) return;
    pthread_barrier_init(&barrier, NULL, 2);
    CHECK_INT(pthread_create(&other, NULL, wait_on_second, NULL), 0);
    pthread_barrier_wait(&barrier);
    CHECK_INT(automatic_threads(), 2);
    lopt_optimizer *opt = make(&p, 2);
    problem_train(&p, opt, 0, STEPS);
    pthread_barrier_wait(&barrier);
    CHECK_INT(pthread_join(other, NULL), 0);
    cpu_set_t both, own;
    CPU_OR(&both, &first, &second);
    CPU_ZERO(&own);
    do others_may_run_on(&both, &count); /* one that has been joined may still be listed */
    while (count > 1);
    CHECK(others_may_run_on(&both, &count));
    CHECK_INT(count, 1);
    CHECK(syscall(SYS_sched_getaffinity, 0, sizeof own, &own) > 0);
    CHECK(CPU_EQUAL(&own, &first)); /* the caller stays where it was */
    CHECK_SAME_STATE(opt, &expected);
    lopt_destroy(opt);
    problem_free(&p);
}

static void write_text(const char *name, const char *text) {
    char path[600];
    snprintf(path, sizeof path, "%s/%s", files_directory, name);
    files_write(path, text, strlen(text));
}

/* Quotas of control groups, of both versions, of the group itself, one above it, or one that only the container sees. The
 * names are those of files in the test's directory, '-' for '/'. */
static void test_quotas_bound_the_threads(void) {
    int32_t all = automatic_threads();
    static const struct { const char *group, *file, *text, *file2, *text2; int processors; } cases[] = {
        {"0::/\n", "sys-fs-cgroup--cpu.max", "max 100000\n", NULL, NULL, 0},
        {"0::/\n", "sys-fs-cgroup--cpu.max", "100000 100000\n", NULL, NULL, 1},
        {"0::/\n", "sys-fs-cgroup-cpu.max", "50000 100000\n", NULL, NULL, 1},
        {"0::/a/b\n", "sys-fs-cgroup-a-b-cpu.max", "150000 100000\n", NULL, NULL, 1},
        {"0::/a/b\n", "sys-fs-cgroup-a-cpu.max", "199999 100000\n", "sys-fs-cgroup-a-b-cpu.max", "max 100000\n", 1},
        {"0::/a/b\n", "sys-fs-cgroup-cpu.max", "100000 100000\n", NULL, NULL, 1},
        {"0::/a/b\n", "sys-fs-cgroup-a-b-cpu.max", "10000000000 100000\n", NULL, NULL, 0},
        {"0::/a/b\n", "sys-fs-cgroup-a-b-cpu.max", "rubbish", NULL, NULL, 0},
        {"0::/a/b\n", "sys-fs-cgroup-a-b-cpu.max", "100000 0", NULL, NULL, 0},
        {"5:memory:/x\n4:cpu,cpuacct:/x\n0::/\n", "sys-fs-cgroup-cpu-x-cpu.cfs_quota_us", "100000\n",
         "sys-fs-cgroup-cpu-x-cpu.cfs_period_us", "100000\n", 1},
        {"4:cpuacct,cpu:/x\n", "sys-fs-cgroup-cpu-cpu.cfs_quota_us", "100000\n", "sys-fs-cgroup-cpu-cpu.cfs_period_us",
         "100000\n", 1},
        {"4:cpu:/x\n", "sys-fs-cgroup-cpu-x-cpu.cfs_quota_us", "-1\n", "sys-fs-cgroup-cpu-x-cpu.cfs_period_us", "100000\n", 0},
        {"4:cpuset:/x\n", "sys-fs-cgroup-cpu-x-cpu.cfs_quota_us", "100000\n", "sys-fs-cgroup-cpu-x-cpu.cfs_period_us",
         "100000\n", 0},
        {"", "unused", "", NULL, NULL, 0}, {"rubbish", "unused", "", NULL, NULL, 0}, {":\n", "unused", "", NULL, NULL, 0},
        {"0:", "unused", "", NULL, NULL, 0}, {"0::", "unused", "", NULL, NULL, 0}, {"::::\n\n:", "unused", "", NULL, NULL, 0},
    };
    groups = files_directory;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        write_text("proc-self-cgroup", cases[i].group);
        write_text(cases[i].file, cases[i].text);
        if (cases[i].file2) write_text(cases[i].file2, cases[i].text2);
        check_context("group %zu", i);
        CHECK_INT(automatic_threads(), cases[i].processors > 0 ? cases[i].processors : all);
        remove(files_path("proc-self-cgroup")), remove(files_path(cases[i].file));
        if (cases[i].file2) remove(files_path(cases[i].file2));
    }
    /* A long list of groups, and a path longer than any. */
    static char text[4096];
    memset(text, 'x', sizeof text - 1);
    memcpy(text, "0::/", 4);
    write_text("proc-self-cgroup", text);
    CHECK_INT(automatic_threads(), all);
    remove(files_path("proc-self-cgroup"));
    groups = NULL;
    check_context("");
}

int main(void) {
    problem p;
    files_start();
    lopt_optimizer *opt = make(&p, 1);
    problem_train(&p, opt, 0, STEPS);
    expected = snapshot_of(opt, LOPT_WITH_PARAMETERS);
    lopt_destroy(opt);
    problem_free(&p);

    test_threads_that_start_late_are_used();
    test_quotas_bound_the_threads();
    /* ThreadSanitizer allows no threads after a fork. */
    if (!check_mode("thread")) test_child_of_a_fork_goes_on_alone(), CHECK_SURVIVES(bound_threads, NULL);
    snapshot_free(&expected);
    files_end();
    return check_end();
}
