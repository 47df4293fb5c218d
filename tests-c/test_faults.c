/* Every system call that a save or a restore makes fails in turn, with every error, or is interrupted, or does half of what
 * it was asked for: the file at the path is the old one or the new one, nothing else is left, and the optimizer is as it
 * was. The program's own open, write, ... stand before the C library's. */
#define _GNU_SOURCE
#include "files.h"
#include "problem.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/syscall.h>
#include <sys/time.h>

/* ---- System calls that can be told to fail ----------------------------------------------------------------------- */

enum { OPEN, WRITE, FSYNC, CLOSE, RENAME, PREAD, FSTAT, KINDS };

static struct {
    int armed;
    int calls, fail_at, times, error; /* calls number fail_at .. fail_at + times - 1, from 1, return `error` */
    int failed, failed_kind, renamed;
    size_t most;                      /* bytes a read or write does at most, 0: as asked */
    void (*before_read)(void);        /* called before the pread number `fail_at` */
    int by_kind[KINDS];
} faults;

/* Whether this call is to fail; errno is set then. */
static int fault(int kind) {
    if (!faults.armed) return 0;
    faults.calls++, faults.by_kind[kind]++;
    if (faults.calls < faults.fail_at || faults.calls >= faults.fail_at + faults.times) return 0;
    faults.failed = 1, faults.failed_kind = kind;
    errno = faults.error;
    return 1;
}

int open(const char *path, int flags, ...) {
    va_list arguments;
    va_start(arguments, flags);
    int mode = flags & O_CREAT ? va_arg(arguments, int) : 0;
    va_end(arguments);
    if (fault(OPEN)) return -1;
    return (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
}

ssize_t write(int file, const void *bytes, size_t size) {
    if (fault(WRITE)) return faults.error == 0 ? 0 : -1;
    return syscall(SYS_write, file, bytes, faults.armed && faults.most > 0 && size > faults.most ? faults.most : size);
}

int fsync(int file) { return fault(FSYNC) ? -1 : (int)syscall(SYS_fsync, file); }

/* As Linux does it: the descriptor is gone even if the call fails. */
int close(int file) {
    int fails = fault(CLOSE), result = (int)syscall(SYS_close, file);
    if (fails) errno = faults.error;
    return fails ? -1 : result;
}

int rename(const char *from, const char *to) {
    if (fault(RENAME)) return -1;
    int result = (int)syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0);
    if (faults.armed && result == 0) faults.renamed = 1;
    return result;
}

ssize_t pread(int file, void *bytes, size_t size, off_t offset) {
    if (faults.armed && faults.before_read && faults.by_kind[PREAD] + 1 == faults.fail_at) {
        faults.armed = 0;
        faults.before_read();
        faults.armed = 1;
    }
    if (!faults.before_read && fault(PREAD)) return faults.error == 0 ? 0 : -1;
    if (faults.armed && faults.before_read) faults.by_kind[PREAD]++;
    return syscall(SYS_pread64, file, bytes, faults.armed && faults.most > 0 && size > faults.most ? faults.most : size,
                   offset);
}

int fstat(int file, struct stat *result) {
    if (fault(FSTAT)) return -1;
    return fstatat(file, "", result, AT_EMPTY_PATH);
}

static void arm(int fail_at, int times, int error) {
    memset(&faults, 0, sizeof faults);
    faults.fail_at = fail_at, faults.times = times, faults.error = error;
}

/* ---- The optimizer and its files --------------------------------------------------------------------------------- */

static lopt_optimizer *opt;
static problem host;
static snapshot old_state, new_state;
static const char *path;
static char target[512];

static void start(void) {
    lopt_options options = problem_options();
    problem_small(&host);
    problem_add(&host, "large", 2, (int64_t[]){150, 120}); /* of more than one buffer */
    problem_start(&host);
    CHECK_OK(lopt_create(NULL, &options, &opt));
    problem_register(&host, opt);
    problem_train(&host, opt, 0, 2);
    old_state = snapshot_of(opt, LOPT_WITH_PARAMETERS);
    problem_train(&host, opt, 2, 4);
    new_state = snapshot_of(opt, LOPT_WITH_PARAMETERS);
    snprintf(target, sizeof target, "%s", files_path("checkpoint"));
    path = target;
}

static void check_file(const snapshot *expected) {
    size_t size = 0;
    void *bytes = files_read(path, &size);
    CHECK_INT(files_count(files_directory), 1);
    if (CHECK(bytes != NULL) && CHECK_INT(size, expected->size)) CHECK_BYTES(bytes, expected->bytes, size);
    free(bytes);
}

static int descriptors(void) { return files_count("/proc/self/fd"); }

static lopt_status armed_save(void) {
    faults.armed = 1;
    lopt_status status = lopt_save(opt, path, LOPT_WITH_PARAMETERS);
    faults.armed = 0;
    return status;
}

static lopt_status armed_restore(void) {
    faults.armed = 1;
    lopt_status status = lopt_restore(opt, path, LOPT_WITH_PARAMETERS);
    faults.armed = 0;
    return status;
}

/* ---- Saving ------------------------------------------------------------------------------------------------------ */

static const int errors[] = {EIO, ENOSPC, EDQUOT, EROFS, EACCES, ENOMEM, EBADF, EMFILE};

/* The n-th call fails, for every n. From the rename on, the new file is there and the save has succeeded. */
static void test_failed_save_leaves_the_old_file(void) {
    int failures = 0, by_kind[KINDS] = {0};
    for (size_t e = 0; e < sizeof errors / sizeof *errors; e++) {
        for (int n = 1;; n++) {
            files_write(path, old_state.bytes, old_state.size);
            int open_before = descriptors();
            check_context("call %d fails with %s", n, strerror(errors[e]));
            arm(n, 1, errors[e]);
            lopt_status status = armed_save();
            CHECK_INT(descriptors(), open_before);
            CHECK_SAME_STATE(opt, &new_state);
            if (!faults.failed) {
                CHECK_INT(status, LOPT_OK);
                check_file(&new_state);
                break;
            }
            failures++, by_kind[faults.failed_kind]++;
            CHECK_INT(status, faults.renamed ? LOPT_OK : LOPT_ERROR_IO);
            if (status == LOPT_ERROR_IO) CHECK_MESSAGE(strerror(errors[e]));
            check_file(faults.renamed ? &new_state : &old_state);
            /* And when the trouble is over, it works. */
            CHECK_OK(lopt_save(opt, path, LOPT_WITH_PARAMETERS));
            check_file(&new_state);
        }
    }
    check_context("");
    for (int kind = OPEN; kind <= RENAME; kind++) CHECK(by_kind[kind] > 0);
    printf("%d system calls of a save failed in turn\n", failures);
}

/* Everything from the n-th call on fails, the cleaning up too (but for unlink, without which nobody could). */
static void test_save_on_a_dead_disk_leaves_the_old_file(void) {
    for (int n = 1;; n++) {
        files_write(path, old_state.bytes, old_state.size);
        check_context("call %d and all after it fail", n);
        arm(n, 1 << 20, EIO);
        lopt_status status = armed_save();
        if (!faults.failed) break;
        CHECK_INT(status, faults.renamed ? LOPT_OK : LOPT_ERROR_IO);
        check_file(faults.renamed ? &new_state : &old_state);
        CHECK_SAME_STATE(opt, &new_state);
    }
    check_context("");
}

/* Every call is interrupted by a signal, once and ten times. A rename is not (rename(2) knows no EINTR). */
static void test_interrupted_calls_are_taken_up_again(void) {
    for (int times = 1; times <= 10; times += 9) {
        for (int n = 1;; n++) {
            files_write(path, old_state.bytes, old_state.size);
            check_context("call %d interrupted, %d times", n, times);
            arm(n, times, EINTR);
            lopt_status status = armed_save();
            if (!faults.failed) break;
            if (faults.failed_kind == RENAME || (status == LOPT_ERROR_IO && !faults.renamed && times > 1)) {
                CHECK_INT(status, LOPT_ERROR_IO);
                check_file(&old_state);
                continue;
            }
            CHECK_INT(status, LOPT_OK);
            check_file(&new_state);
        }
    }
    check_context("");
}

/* The system takes and gives fewer bytes than it is asked to. */
static void test_short_reads_and_writes_are_continued(void) {
    static const size_t most[] = {1, 7, 4096, 65535};
    for (size_t i = check_repetitions(0, 1); i < sizeof most / sizeof *most; i++) {
        check_context("at most %zu bytes a call", most[i]);
        files_write(path, old_state.bytes, old_state.size);
        arm(0, 0, 0);
        faults.most = most[i];
        CHECK_INT(armed_save(), LOPT_OK);
        check_file(&new_state);
        CHECK_OK(lopt_state_read(opt, LOPT_WITH_PARAMETERS, old_state.bytes, old_state.size));
        arm(0, 0, 0);
        faults.most = most[i];
        CHECK_INT(armed_restore(), LOPT_OK);
        CHECK_SAME_STATE(opt, &new_state);
    }
    check_context("");
}

/* A disk that takes nothing and says so with 0 must not be waited for. */
static void test_disk_that_takes_nothing_is_not_waited_for(void) {
    files_write(path, old_state.bytes, old_state.size);
    for (int n = 1; n < 40; n++) {
        check_context("call %d does nothing", n);
        arm(n, 1, 0);
        lopt_status status = armed_save();
        if (!faults.failed || faults.failed_kind != WRITE) continue;
        CHECK_INT(status, LOPT_ERROR_IO);
        check_file(&old_state);
    }
    check_context("");
}

static volatile sig_atomic_t signals;
static void on_signal(int number) { (void)number, signals++; }

/* Real signals, without SA_RESTART, a thousand times a second. */
static void test_signals_disturb_no_save_or_restore(void) {
    struct sigaction action = {.sa_handler = on_signal};
    struct itimerval often = {{0, 997}, {0, 997}}, never = {{0, 0}, {0, 0}};
    CHECK_INT(sigaction(SIGALRM, &action, NULL), 0);
    CHECK_INT(setitimer(ITIMER_REAL, &often, NULL), 0);
    arm(0, 0, 0);
    for (int i = 0; i < 1000 && (i < 20 || signals < 50); i++) {
        CHECK_OK(lopt_save(opt, path, LOPT_WITH_PARAMETERS));
        CHECK_OK(lopt_restore(opt, path, LOPT_WITH_PARAMETERS));
    }
    CHECK_INT(setitimer(ITIMER_REAL, &never, NULL), 0);
    /* One that is still on its way (valgrind keeps some) must not end the process. */
    action.sa_handler = SIG_IGN;
    CHECK_INT(sigaction(SIGALRM, &action, NULL), 0);
    CHECK(signals > 0);
    CHECK_SAME_STATE(opt, &new_state);
    check_file(&new_state);
}

/* ---- Restoring --------------------------------------------------------------------------------------------------- */

static void test_failed_restore_changes_nothing(void) {
    int by_kind[KINDS] = {0};
    files_write(path, old_state.bytes, old_state.size);
    for (size_t e = 0; e < sizeof errors / sizeof *errors; e++) {
        for (int n = 1;; n++) {
            int open_before = descriptors();
            check_context("call %d fails with %s", n, strerror(errors[e]));
            arm(n, 1, errors[e]);
            lopt_status status = armed_restore();
            CHECK_INT(descriptors(), open_before);
            if (!faults.failed) break;
            by_kind[faults.failed_kind]++;
            if (faults.failed_kind == CLOSE) {
                CHECK_INT(status, LOPT_OK);
                CHECK_OK(lopt_state_read(opt, LOPT_WITH_PARAMETERS, new_state.bytes, new_state.size));
                continue;
            }
            CHECK_INT(status, LOPT_ERROR_IO);
            CHECK_MESSAGE(strerror(errors[e]));
            CHECK_SAME_STATE(opt, &new_state);
        }
        CHECK_SAME_STATE(opt, &old_state);
        CHECK_OK(lopt_state_read(opt, LOPT_WITH_PARAMETERS, new_state.bytes, new_state.size));
    }
    check_context("");
    CHECK(by_kind[OPEN] > 0 && by_kind[PREAD] > 0 && by_kind[FSTAT] > 0 && by_kind[CLOSE] > 0);
}

/* What another process does to the file while it is read: puts another in its place, cuts it, lets it grow, writes into it. */
static void replace(void) {
    files_write(files_path("other"), new_state.bytes, new_state.size);
    CHECK_INT(rename(files_path("other"), path), 0);
}
static void cut(void) { CHECK_INT(truncate(path, (off_t)old_state.size / 2), 0); }
static void grow(void) { CHECK_INT(truncate(path, (off_t)old_state.size + 9), 0); }
static void remove_it(void) { CHECK_INT(unlink(path), 0); }
static void overwrite(void) {
    int file = open(path, O_WRONLY);
    CHECK(pwrite(file, new_state.bytes, new_state.size, 0) == (ssize_t)new_state.size);
    close(file);
}
static void overwrite_half(void) {
    int file = open(path, O_WRONLY);
    size_t half = new_state.size / 2;
    CHECK(pwrite(file, (char *)new_state.bytes + half, half, (off_t)half) == (ssize_t)half);
    close(file);
}

static void test_file_changed_while_read_is_whole_or_refused(void) {
    static void (*const changes[])(void) = {replace, cut, grow, remove_it, overwrite, overwrite_half};
    problem_train(&host, opt, 4, 5);
    snapshot current = snapshot_of(opt, LOPT_WITH_PARAMETERS);
    CHECK_INT(old_state.size, new_state.size);
    for (size_t c = 0; c < sizeof changes / sizeof *changes; c++) {
        int refused = 0;
        /* Reads of at most a page, so that there is something between them. */
        for (int n = 1; n < 30; n++) {
            files_write(path, old_state.bytes, old_state.size);
            check_context("change %zu before read %d", c, n);
            arm(n, 0, 0);
            faults.before_read = changes[c];
            faults.most = old_state.size / 20;
            lopt_status status = armed_restore();
            snapshot now = snapshot_of(opt, LOPT_WITH_PARAMETERS);
            if (status == LOPT_OK) {
                /* One of the two, whole. */
                CHECK(memcmp(now.bytes, old_state.bytes, now.size) == 0 ||
                      memcmp(now.bytes, new_state.bytes, now.size) == 0);
            } else {
                refused++;
                CHECK(status == LOPT_ERROR_IO || status == LOPT_ERROR_CHECKPOINT);
                CHECK_BYTES(now.bytes, current.bytes, now.size);
            }
            if (c == 0 || c == 3) CHECK_INT(status, LOPT_OK);
            snapshot_free(&now);
            CHECK_OK(lopt_state_read(opt, LOPT_WITH_PARAMETERS, current.bytes, current.size));
        }
        if (c != 0 && c != 3) CHECK(refused > 0);
    }
    check_context("");
    snapshot_free(&current);
}

int main(void) {
    files_start();
    start();
    test_failed_save_leaves_the_old_file();
    test_save_on_a_dead_disk_leaves_the_old_file();
    test_interrupted_calls_are_taken_up_again();
    test_short_reads_and_writes_are_continued();
    test_disk_that_takes_nothing_is_not_waited_for();
    test_signals_disturb_no_save_or_restore();
    test_failed_restore_changes_nothing();
    test_file_changed_while_read_is_whole_or_refused();
    arm(0, 0, 0);
    snapshot_free(&old_state), snapshot_free(&new_state);
    lopt_destroy(opt);
    problem_free(&host);
    files_end();
    return check_end();
}
