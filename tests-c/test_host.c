/* Manners towards the host: no output, no threads but those that were asked for, no signals taken, small stacks, fork,
 * unloading. */
#define _GNU_SOURCE
#include "files.h"
#include "weights.h"

#include <limits.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>

enum { STEPS = 5 };

static const char *program;
static snapshot expected; /* of STEPS steps of the large problem */

static int tasks(void) { return files_count("/proc/self/task"); }

/* A thread that has been joined may still be listed for a moment, which is long on a busy machine. */
static int tasks_settled(int wanted) {
    for (int i = 0; i < 12000 && tasks() != wanted; i++) nanosleep(&(struct timespec){0, 5000000}, NULL);
    return tasks();
}

static lopt_optimizer *make(problem *p, int32_t threads) {
    lopt_options options = problem_options();
    lopt_optimizer *opt;
    options.threads = threads;
    CHECK_OK(lopt_create(NULL, &options, &opt));
    problem_register(p, opt);
    return opt;
}

/* Creates, trains, checks, destroys. */
static void train_whole(int32_t threads) {
    problem p;
    problem_large(&p);
    lopt_optimizer *opt = make(&p, threads);
    problem_train(&p, opt, 0, STEPS);
    CHECK_SAME_STATE(opt, &expected);
    lopt_destroy(opt);
    problem_free(&p);
}

/* ---- Output ------------------------------------------------------------------------------------------------------ */

/* Calls that work and calls that do not. */
static void many_calls(void) {
    problem p;
    lopt_weights *weights;
    lopt_optimizer *opt;
    problem_large(&p);
    opt = make(&p, 3);
    problem_train(&p, opt, 0, 2);
    p.tensors[2].gradient[0] = NAN;
    CHECK_STATUS(lopt_step(opt), LOPT_SKIPPED_NONFINITE);
    CHECK_STATUS(lopt_step_tensor(opt, 99), LOPT_ERROR_INVALID_ARGUMENT);
    CHECK_STATUS(lopt_add_tensor(opt, "wide", NULL, NULL, NULL, 0, NULL), LOPT_ERROR_INVALID_ARGUMENT);
    CHECK_OK(lopt_save(opt, files_path("saved"), 1));
    CHECK_OK(lopt_restore(opt, files_path("saved"), 1));
    CHECK_STATUS(lopt_restore(opt, files_path("missing"), 1), LOPT_ERROR_IO);
    CHECK_STATUS(lopt_weights_load(files_path("saved"), NULL, &weights), LOPT_ERROR_WEIGHTS);
    CHECK_STATUS(lopt_weights_from_memory("no weights at all", 17, NULL, &weights), LOPT_ERROR_WEIGHTS);
    lopt_destroy(opt);
    problem_free(&p);
    remove(files_path("saved"));
}

static void test_nothing_is_printed(void) {
    size_t size = 1;
    fflush(stdout), fflush(stderr);
    int saved[2] = {dup(1), dup(2)}, file = open(files_path("output"), O_CREAT | O_TRUNC | O_RDWR, 0600);
    CHECK(saved[0] >= 0 && saved[1] >= 0 && file >= 0);
    dup2(file, 1), dup2(file, 2);
    long failed = check_failed;
    many_calls();
    fflush(stdout), fflush(stderr);
    dup2(saved[0], 1), dup2(saved[1], 2);
    close(saved[0]), close(saved[1]), close(file);
    void *text = files_read(files_path("output"), &size);
    CHECK_INT(check_failed, failed);
    CHECK_INT(size, 0);
    if (size > 0) printf("%.*s\n", (int)size, (char *)text);
    free(text);
    remove(files_path("output"));
}

/* ---- Threads ----------------------------------------------------------------------------------------------------- */

/* Whether every signal that can be blocked is, in a thread of this process. */
static int blocks_signals(const char *task) {
    char path[300], line[256];
    unsigned long long mask = 0;
    snprintf(path, sizeof path, "/proc/self/task/%s/status", task);
    FILE *f = fopen(path, "r");
    if (!f) return 1; /* it has ended */
    while (fgets(line, sizeof line, f)) sscanf(line, "SigBlk: %llx", &mask);
    fclose(f);
    for (int s = 1; s < 32; s++) {
        if (s != SIGKILL && s != SIGSTOP && !(mask >> (s - 1) & 1)) return 0;
    }
    return 1;
}

static int others_block_signals(void) {
    DIR *d = opendir("/proc/self/task");
    struct dirent *entry;
    int all = 1;
    while (d && (entry = readdir(d))) {
        if (entry->d_name[0] != '.' && atoi(entry->d_name) != (int)getpid()) all &= blocks_signals(entry->d_name);
    }
    if (d) closedir(d);
    return all;
}

static void test_threads_come_and_go_with_the_optimizer(int at_start) {
    problem small, large;
    problem_small(&small);
    lopt_optimizer *opt = make(&small, 8);
    problem_train(&small, opt, 0, 5);
    CHECK_INT(tasks(), at_start);
    lopt_destroy(opt);
    problem_free(&small);
    for (int32_t threads = 1; threads <= 4; threads++) {
        for (int repeat = 0; repeat < 5; repeat++) {
            check_context("%d threads", threads);
            problem_large(&large);
            opt = make(&large, threads);
            problem_train(&large, opt, 0, 1);
            CHECK_INT(tasks(), at_start + threads - 1);
            if (at_start == 1 && check_mode("plain")) CHECK(others_block_signals());
            lopt_destroy(opt);
            CHECK_INT(tasks_settled(at_start), at_start);
            problem_free(&large);
        }
    }
    check_context("");
}

static int is_mapped(const char *path) {
    char line[1024];
    int found = 0;
    FILE *f = fopen("/proc/self/maps", "r");
    while (f && fgets(line, sizeof line, f)) found |= strstr(line, path) != NULL;
    if (f) fclose(f);
    return found;
}

/* OpenBLAS comes with a wide network and goes with it, threads and all; what it starts gets no signals. */
static void test_openblas_comes_and_goes_with_a_wide_network(int at_start) {
    made_weights m = weights_make("small_fc", 264, 1, "");
    lopt_weights *weights = weights_of(&m);
    CHECK(!is_mapped("libopenblas"));
    for (int repeat = 0; repeat < 3; repeat++) {
        lopt_options options = problem_options();
        lopt_optimizer *opt[2];
        problem p;
        for (int i = 0; i < 2; i++) CHECK_OK(lopt_create(weights, &options, &opt[i]));
        problem_small(&p);
        problem_register(&p, opt[1]);
        if (at_start == 1 && check_mode("plain")) CHECK(others_block_signals());
        lopt_destroy(opt[0]);
        problem_train(&p, opt[1], 0, 1);
        lopt_destroy(opt[1]);
        problem_free(&p);
        CHECK_INT(tasks_settled(at_start), at_start);
        CHECK(!is_mapped("libopenblas"));
    }
    lopt_weights_free(weights);
    weights_release(&m);
}

/* ---- Signals ----------------------------------------------------------------------------------------------------- */

static volatile sig_atomic_t alarms, alarms_elsewhere;
static void on_alarm(int signal_number) {
    (void)signal_number;
    alarms++;
    if (syscall(SYS_gettid) != getpid()) alarms_elsewhere++;
}

/* A timer that fires all the time, with a handler that does not restart system calls. */
static void test_signals_go_to_the_hosts_threads(void) {
    struct sigaction action, old;
    struct itimerval often = {{0, 300}, {0, 300}}, never = {{0, 0}, {0, 0}};
    if (check_mode("valgrind")) often.it_interval.tv_usec = often.it_value.tv_usec = 20000;
    memset(&action, 0, sizeof action);
    action.sa_handler = on_alarm;
    CHECK_INT(sigaction(SIGALRM, &action, &old), 0);
    CHECK_INT(setitimer(ITIMER_REAL, &often, NULL), 0);
    for (int i = 0; i < check_repetitions(8, 2) || alarms <= 10; i++) train_whole(1 + i % 4);
    problem p;
    problem_large(&p);
    lopt_optimizer *opt = make(&p, 2);
    problem_train(&p, opt, 0, STEPS);
    for (int i = 0; i < check_repetitions(8, 2); i++) {
        CHECK_OK(lopt_save(opt, files_path("stormy"), 1));
        CHECK_OK(lopt_restore(opt, files_path("stormy"), 1));
    }
    CHECK_INT(setitimer(ITIMER_REAL, &never, NULL), 0);
    CHECK_INT(sigaction(SIGALRM, &old, NULL), 0);
    CHECK_SAME_STATE(opt, &expected);
    CHECK_INT(alarms_elsewhere, 0);
    remove(files_path("stormy"));
    lopt_destroy(opt);
    problem_free(&p);
}

/* The host keeps its signal mask, and a host that blocks a signal everywhere and waits for it gets it: no thread of the
 * library may take it, or the default action would end the process. Run in a process of its own. */
static int wait_for_signal(void) {
    sigset_t set, now;
    problem p;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1), sigaddset(&set, SIGTERM);
    if (sigprocmask(SIG_BLOCK, &set, NULL) != 0) return 2;
    problem_large(&p);
    lopt_optimizer *opt = make(&p, 3);
    problem_train(&p, opt, 0, 2);
    kill(getpid(), SIGUSR1);
    nanosleep(&(struct timespec){0, 50000000}, NULL);
    if (sigtimedwait(&set, NULL, &(struct timespec){5, 0}) != SIGUSR1) return 3;
    if (sigprocmask(SIG_BLOCK, NULL, &now) != 0) return 4;
    for (int s = 1; s < 32; s++) {
        if (sigismember(&now, s) != sigismember(&set, s)) return 5;
    }
    lopt_destroy(opt);
    problem_free(&p);
    return check_failed == 0 ? 0 : 1;
}

static void test_host_that_waits_for_a_signal_gets_it(void) {
    int status = 0;
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        execl(program, program, "wait", (char *)NULL);
        _exit(127);
    }
    CHECK(child > 0 && waitpid(child, &status, 0) == child);
    check_that(WIFEXITED(status) && WEXITSTATUS(status) == 0, __FILE__, __LINE__,
               "a host that blocks SIGUSR1 and waits for it: signal %d, exit status %d, expected 0 and 0",
               WIFSIGNALED(status) ? WTERMSIG(status) : 0, WIFEXITED(status) ? WEXITSTATUS(status) : 0);
}

/* ---- Stacks, fork, unloading ------------------------------------------------------------------------------------- */

static void *on_small_stack(void *nothing) {
    lopt_weights *weights = NULL;
    train_whole(1);
    train_whole(3);
    many_calls();
    CHECK_OK(lopt_weights_load(files_source("weights/star.safetensors"), NULL, &weights));
    lopt_weights_free(weights);
    return nothing;
}

static void test_small_stack_is_enough(void) {
    pthread_attr_t attributes;
    pthread_t thread;
    /* 64 KiB; instrumented code needs a multiple. */
    size_t size = check_mode("plain") ? 65536 : 1 << 20;
    CHECK_INT(pthread_attr_init(&attributes), 0);
    CHECK_INT(pthread_attr_setstacksize(&attributes, size), 0);
    /* One thread checks at a time: the counters of check.h are plain numbers. */
    int created = pthread_create(&thread, &attributes, on_small_stack, NULL);
    if (created == 0) CHECK_INT(pthread_join(thread, NULL), 0);
    CHECK_INT(created, 0);
    pthread_attr_destroy(&attributes);
}

/* A child of a process in which lopt has threads makes an optimizer of its own; the parent's goes on. */
static void test_child_of_a_fork_makes_its_own_optimizer(void) {
    problem p;
    int status = 0;
    problem_large(&p);
    lopt_optimizer *opt = make(&p, 3);
    /* So that a leak checker finds the parent's optimizer in the child too. */
    static lopt_optimizer *volatile inherited;
    inherited = opt;
    (void)inherited;
    problem_train(&p, opt, 0, 2);
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        alarm(600);
        check_failed = 0;
        train_whole(3);
        many_calls();
        check_leave();
    }
    CHECK(child > 0 && waitpid(child, &status, 0) == child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    problem_train(&p, opt, 2, STEPS);
    CHECK_SAME_STATE(opt, &expected);
    lopt_destroy(opt);
    problem_free(&p);
}

static long resident_kilobytes(void) {
    long total = 0, resident = 0;
    FILE *f = fopen("/proc/self/statm", "r");
    CHECK(f && fscanf(f, "%ld %ld", &total, &resident) == 2);
    if (f) fclose(f);
    return resident * (sysconf(_SC_PAGESIZE) / 1024);
}

/* Loads a copy of the library, trains with it, has it refuse something, and unloads it. `file` has wide weights. */
static void load_once(const char *path, problem *p, const void *file, size_t size) {
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!check_that(library != NULL, __FILE__, __LINE__, "%s", library ? "" : dlerror())) return;
    lopt_status (*create)(const lopt_weights *, const lopt_options *, lopt_optimizer **);
    lopt_status (*add)(lopt_optimizer *, const char *, float *, const float *, const int64_t *, int32_t, int32_t *);
    lopt_status (*step)(lopt_optimizer *);
    void (*destroy)(lopt_optimizer *);
    lopt_status (*from_memory)(const void *, size_t, const lopt_allocator *, lopt_weights **);
    void (*weights_free)(lopt_weights *);
    *(void **)&from_memory = dlsym(library, "lopt_weights_from_memory");
    *(void **)&weights_free = dlsym(library, "lopt_weights_free");
    *(void **)&create = dlsym(library, "lopt_create");
    *(void **)&add = dlsym(library, "lopt_add_tensor");
    *(void **)&step = dlsym(library, "lopt_step");
    *(void **)&destroy = dlsym(library, "lopt_destroy");
    lopt_options options = problem_options();
    lopt_optimizer *opt = NULL;
    options.threads = 3;
    problem_start(p);
    CHECK_INT(create(NULL, &options, &opt), LOPT_OK);
    for (int i = 0; i < p->count; i++) {
        problem_tensor *t = &p->tensors[i];
        CHECK_INT(add(opt, t->name, t->parameter, t->gradient, t->shape, t->rank, NULL), LOPT_OK);
    }
    problem_gradient(p, 0);
    CHECK_INT(step(opt), LOPT_OK);
    CHECK_INT(step(NULL), LOPT_ERROR_INVALID_ARGUMENT);
    destroy(opt);
    lopt_weights *weights = NULL;
    float number = 1;
    CHECK_INT(from_memory(file, size, NULL, &weights), LOPT_OK);
    CHECK_INT(create(weights, &options, &opt), LOPT_OK);
    weights_free(weights);
    CHECK_INT(add(opt, "number", &number, &(const float){1}, NULL, 0, NULL), LOPT_OK);
    CHECK_INT(step(opt), LOPT_OK);
    destroy(opt);
    CHECK_INT(dlclose(library), 0);
    CHECK(!is_mapped(path));
}

static void test_unloading_leaves_nothing(void) {
    Dl_info info;
    size_t size = 0, wide_size = 0;
    problem p;
    void *function;
    made_weights m = weights_make("small_fc", 264, 1, "");
    void *wide = weights_file(m.header, m.header_size, m.data, m.data_size, &wide_size);
    *(lopt_status (**)(lopt_optimizer *))&function = lopt_step;
    weights_release(&m);
    if (!CHECK(dladdr(function, &info) != 0)) return;
    void *bytes = files_read(info.dli_fname, &size);
    if (!CHECK(bytes != NULL)) return;
    /* Under a name of its own it is loaded anew, beside the one that this program is linked with. */
    files_write(files_path("copy.so"), bytes, size);
    free(bytes);
    problem_large(&p);
    int before = tasks(), count = check_repetitions(50, 10);
    for (int i = 0; i < 5; i++) load_once(files_path("copy.so"), &p, wide, wide_size);
    /* The C library may take a few MiB once, at any moment; what every loading leaves behind shows in all three parts. */
    long grown = LONG_MAX;
    for (int part = 0; part < 3; part++) {
        long early = resident_kilobytes();
        for (int i = 0; i < count / 3; i++) load_once(files_path("copy.so"), &p, wide, wide_size);
        long more = resident_kilobytes() - early;
        if (more < grown) grown = more;
    }
    CHECK_INT(tasks_settled(before), before);
    if (check_mode("plain")) check_that(grown < 640, __FILE__, __LINE__, "resident memory grew by %ld KiB at least in each third", grown);
    problem_free(&p);
    free(wide);
    remove(files_path("copy.so"));
}

int main(int count, char **arguments) {
    int at_start = tasks();
    program = arguments[0];
    if (count == 2 && strcmp(arguments[1], "wait") == 0) return wait_for_signal();
    files_start();
    /* A sanitizer may have a thread of its own. */
    if (check_mode("plain")) CHECK_INT(at_start, 1);
    problem p;
    problem_large(&p);
    lopt_optimizer *opt = make(&p, 1);
    problem_train(&p, opt, 0, STEPS);
    expected = snapshot_of(opt, LOPT_WITH_PARAMETERS);
    lopt_destroy(opt);
    problem_free(&p);

    test_nothing_is_printed();
    if (!check_mode("thread")) {
        test_threads_come_and_go_with_the_optimizer(at_start);
        test_openblas_comes_and_goes_with_a_wide_network(at_start);
    }
    test_signals_go_to_the_hosts_threads();
    test_host_that_waits_for_a_signal_gets_it();
    test_small_stack_is_enough();
    /* ThreadSanitizer allows no threads after a fork; ASan in the library, no second copy of its globals. */
    if (!check_mode("thread")) test_child_of_a_fork_makes_its_own_optimizer();
    if (!check_mode("thread") && !check_mode("address")) test_unloading_leaves_nothing();
    snapshot_free(&expected);
    files_end();
    return check_end();
}
