/* The file at the path is the old checkpoint or the new one, whole: a save that fails leaves the old file and nothing
 * beside it, whatever it fails of. Paths that cannot be read are refused with the system's reason. */
#define _GNU_SOURCE
#include "files.h"
#include "problem.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <sys/wait.h>

static lopt_optimizer *opt;
static problem host;
static snapshot before;
static char old_file[] = "what was here before";

static void start(void) {
    lopt_options options = problem_options();
    problem_small(&host);
    CHECK_OK(lopt_create(NULL, &options, &opt));
    problem_register(&host, opt);
    problem_train(&host, opt, 0, 2);
    before = snapshot_of(opt, LOPT_WITH_PARAMETERS);
}

/* There is one file in the directory, and it holds this. */
static void check_only_file(const char *path, const void *bytes, size_t size) {
    size_t found_size = 0;
    void *found = files_read(path, &found_size);
    CHECK_INT(files_count(files_directory), 1);
    CHECK(found != NULL);
    CHECK_INT(found_size, size);
    if (found && found_size == size) CHECK_BYTES(found, bytes, size);
    free(found);
}

static void test_save_replaces_the_file_whole(void) {
    const char *path = files_path("checkpoint");
    files_write(path, old_file, sizeof old_file);
    CHECK_OK(lopt_save(opt, path, LOPT_WITH_PARAMETERS));
    check_only_file(path, before.bytes, before.size);
    problem_train(&host, opt, 2, 3);
    CHECK_OK(lopt_save(opt, path, 0));
    snapshot state = snapshot_of(opt, 0);
    check_only_file(path, state.bytes, state.size);
    CHECK_OK(lopt_save(opt, path, LOPT_WITH_PARAMETERS));
    snapshot_free(&before), snapshot_free(&state);
    before = snapshot_of(opt, LOPT_WITH_PARAMETERS);
    check_only_file(path, before.bytes, before.size);
    remove(path);
    /* A path without a directory means the working directory. */
    char *here = getcwd(NULL, 0);
    CHECK(here && chdir(files_directory) == 0);
    CHECK_OK(lopt_save(opt, "plain", LOPT_WITH_PARAMETERS));
    check_only_file(path = files_path("plain"), before.bytes, before.size);
    CHECK_OK(lopt_restore(opt, "plain", LOPT_WITH_PARAMETERS));
    CHECK(chdir(here) == 0);
    free(here);
    remove(path);
}

static void check_save_fails(const char *path, const char *reason) {
    CHECK_STATUS(lopt_save(opt, path, LOPT_WITH_PARAMETERS), LOPT_ERROR_IO);
    CHECK_MESSAGE(reason);
    CHECK_SAME_STATE(opt, &before);
}

static void test_bad_targets_are_refused(void) {
    char name[400];
    check_save_fails(files_path("missing/checkpoint"), strerror(ENOENT));
    check_save_fails("", strerror(ENOENT));
    CHECK_INT(mkdir(files_path("directory"), 0755), 0);
    check_save_fails(files_path("directory"), strerror(EISDIR));
    check_save_fails(files_path("directory/"), "");
    CHECK_INT(files_count(files_path("directory")), 0);
    CHECK_INT(files_count(files_directory), 1);
    rmdir(files_path("directory"));
    files_write(files_path("file"), old_file, sizeof old_file);
    check_save_fails(files_path("file/checkpoint"), strerror(ENOTDIR));
    memset(name, 'n', sizeof name - 1), name[sizeof name - 1] = 0;
    check_save_fails(files_path(name), strerror(ENAMETOOLONG));
    check_only_file(files_path("file"), old_file, sizeof old_file);
    remove(files_path("file"));

    /* The longest name that a file may have, and a path that is too long for the system. */
    name[255] = 0;
    CHECK_OK(lopt_save(opt, files_path(name), LOPT_WITH_PARAMETERS));
    check_only_file(files_path(name), before.bytes, before.size);
    remove(files_path(name));
    char *path = check_memory(6000);
    memset(path, '/', 5999);
    lopt_status status = lopt_save(opt, path, 0);
    CHECK(status == LOPT_ERROR_INVALID_ARGUMENT || status == LOPT_ERROR_IO);
    CHECK(lopt_last_error()[0] != 0);
    status = lopt_restore(opt, path, 0);
    CHECK(status == LOPT_ERROR_INVALID_ARGUMENT || status == LOPT_ERROR_IO);
    free(path);
}

/* What is no file is not replaced by one, nor is what a link to such a thing stands for; other links are replaced. */
static void test_what_is_no_file_is_not_replaced(void) {
    struct stat was, is;
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    const char *path = files_path("special"), *target = files_path("target");
    int listener = socket(AF_UNIX, SOCK_STREAM, 0);
    for (int kind = 0; kind < 8; kind++) {
        static const char *const reasons[] = {"pipe", "pipe", "socket", "socket", "device", "device", "directory", NULL};
        int is_link = kind % 2, made = -1;
        const char *at = is_link ? target : path;
        check_context("%s%s", is_link ? "link to " : "", reasons[kind] ? reasons[kind] : "a directory");
        if (kind < 2) made = mkfifo(at, 0600);
        if (kind / 2 == 1) {
            snprintf(address.sun_path, sizeof address.sun_path, "%s", at);
            made = strlen(at) < sizeof address.sun_path ? bind(listener, (struct sockaddr *)&address, sizeof address) : -1;
            close(listener), listener = socket(AF_UNIX, SOCK_STREAM, 0);
        }
        if (kind / 2 == 3) made = mkdir(at, 0700);
        if (kind == 4) made = mknod(at, S_IFCHR | 0600, makedev(1, 7)); /* /dev/full, which takes a superuser */
        if (kind == 5) made = 0, at = "/dev/null";
        if (made != 0) {
            CHECK(kind / 2 != 3 && kind >= 2);
            continue;
        }
        if (is_link) CHECK_INT(symlink(at, path), 0);
        CHECK_INT(lstat(path, &was), 0);
        if (reasons[kind]) {
            check_save_fails(path, reasons[kind]);
            CHECK_INT(lstat(path, &is), 0);
            CHECK(is.st_ino == was.st_ino && is.st_mode == was.st_mode && is.st_rdev == was.st_rdev);
        } else {
            CHECK_OK(lopt_save(opt, path, LOPT_WITH_PARAMETERS));
            CHECK(lstat(path, &is) == 0 && S_ISREG(is.st_mode));
            CHECK_INT(files_count(target), 0);
        }
        CHECK_INT(files_count(files_directory), 1 + (access(target, F_OK) == 0));
        remove(path), remove(target);
    }
    check_context("");
    close(listener);
    CHECK_INT(symlink(files_path("nowhere"), path), 0);
    CHECK_OK(lopt_save(opt, path, LOPT_WITH_PARAMETERS));
    check_only_file(path, before.bytes, before.size);
    remove(path);
}

static volatile sig_atomic_t signals;

static void count_signal(int number) { signals += number == SIGXFSZ; }

/* Saves where a file may have so many bytes: the old file stays, and nothing is left of the attempt. */
static void check_no_space(size_t size) {
    struct rlimit limit, old;
    sigset_t mask_before, mask_after;
    CHECK_INT(getrlimit(RLIMIT_FSIZE, &old), 0);
    limit = old, limit.rlim_cur = size;
    CHECK_INT(pthread_sigmask(SIG_SETMASK, NULL, &mask_before), 0);
    CHECK_INT(setrlimit(RLIMIT_FSIZE, &limit), 0);
    lopt_status status = lopt_save(opt, files_path("old"), LOPT_WITH_PARAMETERS);
    CHECK_INT(setrlimit(RLIMIT_FSIZE, &old), 0);
    CHECK_INT(status, LOPT_ERROR_IO);
    CHECK_MESSAGE(strerror(EFBIG));
    check_only_file(files_path("old"), old_file, sizeof old_file);
    CHECK_INT(pthread_sigmask(SIG_SETMASK, NULL, &mask_after), 0);
    for (int s = 1; s < 32; s++) CHECK_INT(sigismember(&mask_after, s), sigismember(&mask_before, s));
}

/* A file that may not grow past so many bytes, as on a full disk. The SIGXFSZ of it, which by default ends a process, is the
 * library's own: no handler sees it, and none is left waiting. One that the host has waiting stays. */
static void test_full_disk_leaves_the_old_file(void) {
    sigset_t limit, waiting;
    sigemptyset(&limit), sigaddset(&limit, SIGXFSZ);
    files_write(files_path("old"), old_file, sizeof old_file);
    for (size_t size = 0; size < before.size; size += size < 100 ? 33 : 4099) {
        check_context("files of at most %zu bytes", size);
        check_no_space(size);
    }
    void (*const actions[])(int) = {SIG_DFL, SIG_IGN, count_signal};
    for (int i = 0; i < 9; i++) {
        int is_blocked = i / 3 > 0, is_waiting = i / 3 > 1;
        check_context("action %d%s%s", i % 3, is_blocked ? ", blocked" : "", is_waiting ? ", one is waiting" : "");
        signal(SIGXFSZ, actions[i % 3]);
        if (is_blocked) pthread_sigmask(SIG_BLOCK, &limit, NULL);
        if (is_waiting) pthread_kill(pthread_self(), SIGXFSZ);
        check_no_space(100);
        CHECK_INT(sigpending(&waiting), 0);
        CHECK_INT(sigismember(&waiting, SIGXFSZ), is_waiting);
        signal(SIGXFSZ, SIG_IGN); /* which takes off what waits */
        pthread_sigmask(SIG_UNBLOCK, &limit, NULL);
        CHECK_INT(signals, 0);
    }
    signal(SIGXFSZ, SIG_DFL);
    check_context("");
    remove(files_path("old"));
}

/* memcheck plays the limit itself, after the file has been created. */
static void test_lack_of_descriptors_is_an_error(void) {
    struct rlimit limit, old;
    files_write(files_path("old"), old_file, sizeof old_file);
    CHECK_INT(getrlimit(RLIMIT_NOFILE, &old), 0);
    limit = old, limit.rlim_cur = 0;
    CHECK_INT(setrlimit(RLIMIT_NOFILE, &limit), 0);
    lopt_status saved = lopt_save(opt, files_path("old"), LOPT_WITH_PARAMETERS);
    lopt_status restored = lopt_restore(opt, files_path("old"), LOPT_WITH_PARAMETERS);
    CHECK_INT(setrlimit(RLIMIT_NOFILE, &old), 0);
    CHECK_INT(saved, LOPT_ERROR_IO);
    CHECK_INT(restored, LOPT_ERROR_IO);
    CHECK_MESSAGE(strerror(EMFILE));
    check_only_file(files_path("old"), old_file, sizeof old_file);
    remove(files_path("old"));
}

/* A directory that may not be written. The superuser may write everywhere, so it becomes somebody else. */
static void test_read_only_directory_is_an_error(void) {
    enum { NOBODY = 65534 };
    char directory[512];
    snprintf(directory, sizeof directory, "%s", files_path("fixed"));
    CHECK_INT(chmod(files_directory, 0755), 0);
    CHECK_INT(mkdir(directory, 0755), 0);
    files_write(files_path("fixed/old"), old_file, sizeof old_file);
    CHECK_INT(chmod(directory, 0555), 0);
    int is_root = geteuid() == 0;
    if (is_root) CHECK_INT(seteuid(NOBODY), 0);
    check_save_fails(files_path("fixed/old"), strerror(EACCES));
    check_save_fails(files_path("fixed/new"), strerror(EACCES));
    if (is_root) CHECK_INT(seteuid(0), 0);
    CHECK_INT(chmod(directory, 0755), 0);
    CHECK_INT(files_count(directory), 1);
    size_t size = 0;
    void *bytes = files_read(files_path("fixed/old"), &size);
    CHECK(bytes && size == sizeof old_file && memcmp(bytes, old_file, size) == 0);
    free(bytes);
    remove(files_path("fixed/old"));
    rmdir(directory);
}

/* ---- Reading ----------------------------------------------------------------------------------------------------- */

static void check_restore_fails(const char *path, lopt_status expected, const char *reason) {
    check_context("%s", path);
    CHECK_STATUS(lopt_restore(opt, path, 0), expected);
    CHECK_MESSAGE(reason);
    CHECK_SAME_STATE(opt, &before);
    lopt_weights *weights = (lopt_weights *)&before;
    lopt_status status = lopt_weights_load(path, NULL, &weights);
    CHECK(status == LOPT_ERROR_IO || status == LOPT_ERROR_WEIGHTS);
    CHECK(weights == NULL);
    check_context("");
}

static void test_unreadable_files_are_an_error(void) {
    check_restore_fails("", LOPT_ERROR_IO, strerror(ENOENT));
    check_restore_fails(files_path("missing"), LOPT_ERROR_IO, strerror(ENOENT));
    check_restore_fails(files_path("missing/x"), LOPT_ERROR_IO, strerror(ENOENT));
    check_restore_fails(files_directory, LOPT_ERROR_IO, "not a regular file");
    check_restore_fails("/dev/zero", LOPT_ERROR_IO, "not a regular file");
    check_restore_fails("/dev/null", LOPT_ERROR_IO, "not a regular file");
    /* Nobody writes to this pipe: opening it must not wait, or the test never ends. */
    CHECK_INT(mkfifo(files_path("pipe"), 0600), 0);
    check_restore_fails(files_path("pipe"), LOPT_ERROR_IO, "not a regular file");
    remove(files_path("pipe"));
    files_write(files_path("empty"), "", 0);
    check_restore_fails(files_path("empty"), LOPT_ERROR_CHECKPOINT, "");
    remove(files_path("empty"));
    /* Sixteen gigabytes of hole are not read into memory. */
    int file = open(files_path("sparse"), O_WRONLY | O_CREAT, 0600);
    if (file >= 0 && ftruncate(file, (off_t)1 << 34) == 0) {
        check_restore_fails(files_path("sparse"), LOPT_ERROR_MISMATCH, "");
    }
    if (file >= 0) close(file);
    remove(files_path("sparse"));
    CHECK_INT(symlink(files_path("loop"), files_path("loop")), 0);
    check_restore_fails(files_path("loop"), LOPT_ERROR_IO, strerror(ELOOP));
    remove(files_path("loop"));
}

/* Of the descriptors that a call opens none is left. */
static void test_no_descriptor_is_left_open(void) {
    CHECK_OK(lopt_save(opt, files_path("a"), LOPT_WITH_PARAMETERS));
    int count = files_count("/proc/self/fd");
    for (int i = 0; i < 20; i++) {
        lopt_weights *weights;
        CHECK_OK(lopt_save(opt, files_path("a"), LOPT_WITH_PARAMETERS));
        CHECK_OK(lopt_restore(opt, files_path("a"), LOPT_WITH_PARAMETERS));
        CHECK_STATUS(lopt_restore(opt, files_source("weights/star.safetensors"), 0), LOPT_ERROR_CHECKPOINT);
        CHECK_STATUS(lopt_save(opt, files_directory, 0), LOPT_ERROR_IO);
        CHECK_STATUS(lopt_restore(opt, files_directory, 0), LOPT_ERROR_IO);
        CHECK_OK(lopt_weights_load(files_source("weights/star.safetensors"), NULL, &weights));
        lopt_weights_free(weights);
        CHECK_STATUS(lopt_weights_load(files_path("a"), NULL, &weights), LOPT_ERROR_WEIGHTS);
    }
    CHECK_INT(files_count("/proc/self/fd"), count);
    remove(files_path("a"));
}

/* ---- At the same time -------------------------------------------------------------------------------------------- */

/* A reader never sees half a file while another process saves again and again; killed in the middle of it, the writer
 * leaves a whole file. */
static void test_readers_see_whole_files(void) {
    const char *path = files_path("shared");
    int status = 0, read_count = 0;
    CHECK_OK(lopt_save(opt, path, LOPT_WITH_PARAMETERS));
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        pid_t parent = getppid();
        while (getppid() == parent) (void)!lopt_save(opt, path, LOPT_WITH_PARAMETERS);
    }
    CHECK(child > 0);
    for (int i = 0; i < check_repetitions(200, 10); i++) {
        read_count += CHECK_OK(lopt_restore(opt, path, LOPT_WITH_PARAMETERS));
    }
    CHECK(read_count > 0);
    CHECK_SAME_STATE(opt, &before);
    kill(child, SIGKILL);
    waitpid(child, &status, 0);
    CHECK_OK(lopt_restore(opt, path, LOPT_WITH_PARAMETERS));
    /* Killed, it cannot clean up: at most its one temporary file is left, under a name of its own. */
    CHECK(files_count(files_directory) <= 2);
}

typedef struct saver {
    const char *path;
    int failures;
} saver;

static void *save_many(void *argument) {
    saver *s = argument;
    lopt_optimizer *mine = NULL;
    problem p;
    lopt_options options;
    lopt_options_init(&options, sizeof options);
    options.threads = 1;
    problem_small(&p);
    s->failures += lopt_create(NULL, &options, &mine) != LOPT_OK;
    for (int i = 0; i < p.count; i++) s->failures += problem_register_one(&p, i, mine) != LOPT_OK;
    for (int i = 0; i < check_repetitions(30, 5); i++) {
        s->failures += lopt_save(mine, s->path, LOPT_WITH_PARAMETERS) != LOPT_OK;
        s->failures += lopt_restore(mine, s->path, LOPT_WITH_PARAMETERS) != LOPT_OK;
    }
    lopt_destroy(mine);
    problem_free(&p);
    return NULL;
}

/* Several optimizers may save to one path at once: the last wins, no temporary name is taken twice. */
static void test_savers_at_once_do_not_disturb_each_other(void) {
    pthread_t threads[4];
    saver savers[4];
    const char *path = files_path("common");
    int left = files_count(files_directory);
    for (int i = 0; i < 4; i++) {
        savers[i] = (saver){path, 0};
        CHECK_INT(pthread_create(&threads[i], NULL, save_many, &savers[i]), 0);
    }
    for (int i = 0; i < 4; i++) {
        pthread_join(threads[i], NULL);
        CHECK_INT(savers[i].failures, 0);
    }
    CHECK_INT(files_count(files_directory), left + 1);
}

/* A checkpoint that others may not read, or may, stays so; a new one gets what the process gives every new file. */
static void test_permissions_stay_as_they_are(void) {
    static const mode_t modes[] = {0600, 0640, 0444, 0666, 0755};
    const char *path = files_path("guarded");
    struct stat found;
    mode_t mask = umask(027);
    CHECK_OK(lopt_save(opt, path, 0));
    CHECK_INT(stat(path, &found), 0);
    CHECK_INT(found.st_mode & 07777, 0640);
    for (int i = 0; i < 5; i++) {
        CHECK_INT(chmod(path, modes[i]), 0);
        CHECK_OK(lopt_save(opt, path, 0));
        CHECK_INT(stat(path, &found), 0);
        CHECK_INT(found.st_mode & 07777, modes[i]);
    }
    umask(mask);
    remove(path);
}

int main(void) {
    files_start();
    start();
    test_save_replaces_the_file_whole();
    test_permissions_stay_as_they_are();
    test_bad_targets_are_refused();
    test_what_is_no_file_is_not_replaced();
    test_full_disk_leaves_the_old_file();
    if (!check_mode("valgrind")) test_lack_of_descriptors_is_an_error();
    test_read_only_directory_is_an_error();
    test_unreadable_files_are_an_error();
    test_no_descriptor_is_left_open();
    test_readers_see_whole_files();
    test_savers_at_once_do_not_disturb_each_other();
    snapshot_free(&before);
    lopt_destroy(opt);
    problem_free(&host);
    files_end();
    return check_end();
}
