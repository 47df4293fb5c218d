/* The few calls of libc, libm and pthreads that the core needs, in a form that Swift imports without the Glibc module
 * (Embedded Swift has none): one-liners over the system's own functions. */
#ifndef LOPT_SYSTEM_H
#define LOPT_SYSTEM_H

/* No _GNU_SOURCE: Swift's Glibc module is built without it, and the two would disagree about system types. */
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* ---- Memory ---------------------------------------------------------------------------------------------------- */

static inline void *lopt_system_allocate(long size, long alignment) {
    return aligned_alloc((size_t)alignment, (size_t)size);
}
static inline void lopt_system_free(void *p) { free(p); }
static inline void lopt_system_zero(void *p, long size) { memset(p, 0, (size_t)size); }
static inline void lopt_system_copy(void *to, const void *from, long size) { memcpy(to, from, (size_t)size); }
static inline int lopt_system_compare(const void *a, const void *b, long size) { return memcmp(a, b, (size_t)size); }
static inline long lopt_system_length(const char *s, long most) { return (long)strnlen(s, (size_t)most); }
static inline const char *lopt_system_getenv(const char *name) { return getenv(name); }

/* ---- Scalar maths, for the reference --------------------------------------------------------------------------- */

static inline double lopt_system_exp(double x) { return exp(x); }
static inline double lopt_system_log(double x) { return log(x); }
static inline double lopt_system_tanh(double x) { return tanh(x); }
static inline float lopt_system_expf(float x) { return expf(x); }
static inline float lopt_system_logf(float x) { return logf(x); }
static inline float lopt_system_tanhf(float x) { return tanhf(x); }

/* ---- Files ----------------------------------------------------------------------------------------------------- */

static inline int lopt_system_create_exclusive(const char *path) {
    return open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
}
static inline int lopt_system_open_directory(const char *path) { return open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC); }
/* write, for which a limit on the size of files is an error like any other (EFBIG): SIGXFSZ, which would end the process, is
 * held back, and the one that came of this call is taken off. One that was waiting already is the host's. */
static inline long lopt_system_write(int file, const void *p, long size) {
    sigset_t limit, old, waiting;
    sigemptyset(&limit);
    sigemptyset(&waiting);
    sigaddset(&limit, SIGXFSZ);
    pthread_sigmask(SIG_BLOCK, &limit, &old);
    sigpending(&waiting);
    long count = (long)write(file, p, (size_t)size);
    int error = errno;
    if (count < 0 && error == EFBIG && !sigismember(&waiting, SIGXFSZ)) {
        const struct timespec now = {0, 0};
        while (sigtimedwait(&limit, NULL, &now) < 0 && errno == EINTR) {}
    }
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    errno = error;
    return count;
}
static inline int lopt_system_sync(int file) { return fsync(file); }
static inline int lopt_system_close(int file) { return close(file); }
static inline int lopt_system_rename(const char *from, const char *to) { return rename(from, to); }
static inline int lopt_system_unlink(const char *path) { return unlink(path); }
static inline int64_t lopt_system_process(void) { return (int64_t)getpid(); }
/* The size of a regular file, -1 on an error (errno is set), -2 if it is no regular file. */
static inline int64_t lopt_system_file_size(int file) {
    struct stat s;
    if (fstat(file, &s) != 0) return -1;
    return S_ISREG(s.st_mode) ? (int64_t)s.st_size : -2;
}
/* Gives the file the permissions of the regular file at `path`, if there is one; -1 if the system does not let it. */
static inline int lopt_system_copy_permissions(int file, const char *path) {
    struct stat s;
    return lstat(path, &s) == 0 && S_ISREG(s.st_mode) ? fchmod(file, s.st_mode & 0777) : 0;
}
/* What at `path` may not give way to a file, as the system would put it; NULL if it may. A symbolic link may, where it does
 * not lead to a device or the like, as /dev/stdout does. */
static inline const char *lopt_system_irreplaceable(const char *path) {
    struct stat s;
    if (lstat(path, &s) != 0) return NULL;
    if (S_ISDIR(s.st_mode)) return "Is a directory";
    if (S_ISLNK(s.st_mode) && (stat(path, &s) != 0 || S_ISDIR(s.st_mode))) return NULL;
    return S_ISREG(s.st_mode)    ? NULL
           : S_ISFIFO(s.st_mode) ? "Is a named pipe"
           : S_ISSOCK(s.st_mode) ? "Is a socket"
                                 : "Is a device";
}
static inline int lopt_system_errno(void) { return errno; }
static inline int lopt_system_is_interrupted(int error) { return error == EINTR; }
static inline int lopt_system_file_exists(int error) { return error == EEXIST; }
/* Writes the system's text for an errno value into `text`. */
static inline const char *lopt_system_error_text(int error, char *text, long size) {
    if (strerror_r(error, text, (size_t)size) != 0) snprintf(text, (size_t)size, "error %d", error);
    return text;
}
/* Without O_NONBLOCK opening a named pipe would wait for somebody to write to it; regular files are not affected. */
static inline int lopt_system_open_nonblocking(const char *path) { return open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC); }
static inline long lopt_system_read_at(int file, void *p, long size, int64_t offset) {
    return (long)pread(file, p, (size_t)size, (off_t)offset);
}

/* ---- Processor ------------------------------------------------------------------------------------------------- */

#if defined(__x86_64__)
/* Leaf and subleaf to {eax, ebx, ecx, edx}; the compiler's cpuid.h does not live in the same clang module as libc. */
static inline void lopt_system_cpuid(unsigned leaf, unsigned subleaf, unsigned r[4]) {
    __asm__ volatile("cpuid" : "=a"(r[0]), "=b"(r[1]), "=c"(r[2]), "=d"(r[3]) : "0"(leaf), "2"(subleaf));
}
#endif

/* 1 baseline, 2 AVX2 and FMA (x86-64-v3), 3 AVX-512 (x86-64-v4): what the processor has and the system saves on a context
 * switch. The numbers are those of lopt_isa. */
static inline int lopt_system_isa(void) {
#if defined(__x86_64__)
    unsigned r[4], low, high;
    lopt_system_cpuid(0, 0, r);
    if (r[0] < 7) return 1;
    lopt_system_cpuid(1, 0, r);
    const unsigned v3 = 1u << 12 | 1u << 22 | 1u << 27 | 1u << 28 | 1u << 29; /* FMA MOVBE OSXSAVE AVX F16C */
    if ((r[2] & v3) != v3) return 1;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    (void)high;
    lopt_system_cpuid(7, 0, r);
    const unsigned avx2 = 1u << 3 | 1u << 5 | 1u << 8;                                  /* BMI AVX2 BMI2 */
    const unsigned avx512 = 1u << 16 | 1u << 17 | 1u << 28 | 1u << 30 | 1u << 31; /* F DQ CD BW VL */
    const unsigned leaf7 = r[1];
    lopt_system_cpuid(0x80000001u, 0, r);
    if ((low & 0x6) != 0x6 || (leaf7 & avx2) != avx2 || !(r[2] & 1u << 5 /* LZCNT */)) return 1;
    return (low & 0xe6) == 0xe6 && (leaf7 & avx512) == avx512 ? 3 : 2;
#else
    return 1;
#endif
}

/* The floating-point control word while lopt computes: round to nearest, no traps, denormals flushed to zero (averages
 * of zero gradients decay into denormals, which are many times slower). Returns the old word, for _restore. */
static inline uint64_t lopt_system_enter_float(void) {
#if defined(__x86_64__)
    unsigned old = __builtin_ia32_stmxcsr();
    __builtin_ia32_ldmxcsr(0x9fc0); /* FTZ, all exceptions masked, DAZ */
    return old;
#elif defined(__aarch64__)
    uint64_t control, status, flush = (uint64_t)1 << 24;
    __asm__ volatile("mrs %0, fpcr" : "=r"(control));
    __asm__ volatile("mrs %0, fpsr" : "=r"(status));
    __asm__ volatile("msr fpcr, %0" : : "r"(flush));
    return (control & 0xffffffffu) | status << 32;
#else
    return 0;
#endif
}
/* The same without flushing, for all else: a host's rounding mode or traps change no message, and it finds its status flags as
 * it left them. */
static inline uint64_t lopt_system_enter_default_float(void) {
    uint64_t old = lopt_system_enter_float();
#if defined(__x86_64__)
    __builtin_ia32_ldmxcsr(0x1f80);
#elif defined(__aarch64__)
    uint64_t none = 0;
    __asm__ volatile("msr fpcr, %0" : : "r"(none));
#endif
    return old;
}
static inline void lopt_system_restore_float(uint64_t old) {
#if defined(__x86_64__)
    __builtin_ia32_ldmxcsr((unsigned)old);
#elif defined(__aarch64__)
    __asm__ volatile("msr fpcr, %0" : : "r"(old & 0xffffffffu));
    __asm__ volatile("msr fpsr, %0" : : "r"(old >> 32));
#else
    (void)old;
#endif
}

static inline void lopt_system_pause(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/* ---- Atomics --------------------------------------------------------------------------------------------------- */

static inline int64_t lopt_atomic_load(const int64_t *p) { return __atomic_load_n(p, __ATOMIC_ACQUIRE); }
static inline void lopt_atomic_store(int64_t *p, int64_t v) { __atomic_store_n(p, v, __ATOMIC_RELEASE); }
/* Stores and returns the value before. */
static inline int64_t lopt_atomic_exchange(int64_t *p, int64_t v) { return __atomic_exchange_n(p, v, __ATOMIC_ACQ_REL); }
/* Adds and returns the value before. */
static inline int64_t lopt_atomic_add(int64_t *p, int64_t v) { return __atomic_fetch_add(p, v, __ATOMIC_ACQ_REL); }

/* ---- Threads --------------------------------------------------------------------------------------------------- */

typedef struct {
    pthread_mutex_t mutex;
    pthread_cond_t condition;
} lopt_monitor;

static inline int lopt_monitor_init(lopt_monitor *m) {
    if (pthread_mutex_init(&m->mutex, NULL) != 0) return -1;
    if (pthread_cond_init(&m->condition, NULL) != 0) {
        pthread_mutex_destroy(&m->mutex);
        return -1;
    }
    return 0;
}
static inline void lopt_monitor_destroy(lopt_monitor *m) {
    pthread_cond_destroy(&m->condition);
    pthread_mutex_destroy(&m->mutex);
}
static inline void lopt_monitor_lock(lopt_monitor *m) { pthread_mutex_lock(&m->mutex); }
static inline void lopt_monitor_unlock(lopt_monitor *m) { pthread_mutex_unlock(&m->mutex); }
static inline void lopt_monitor_wait(lopt_monitor *m) { pthread_cond_wait(&m->condition, &m->mutex); }
static inline void lopt_monitor_broadcast(lopt_monitor *m) { pthread_cond_broadcast(&m->condition); }

typedef pthread_t lopt_thread;
/* Starts a thread that receives no signals: they stay with the host's threads. */
static inline int lopt_thread_start(lopt_thread *thread, void *(*body)(void *), void *argument) {
    pthread_attr_t attributes;
    if (pthread_attr_init(&attributes) != 0) return -1;
    pthread_attr_setstacksize(&attributes, 512 * 1024);
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    int result = pthread_create(thread, &attributes, body, argument);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    pthread_attr_destroy(&attributes);
    return result;
}
static inline void lopt_thread_join(lopt_thread thread) { pthread_join(thread, NULL); }

/* Before a call of lopt pthread_cancel may end the thread, within it not: it would leave open files and held locks. Returns what
 * to give to _release. */
static inline int lopt_thread_hold_cancellation(void) {
    int old = PTHREAD_CANCEL_ENABLE;
    pthread_testcancel();
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &old);
    return old;
}
static inline void lopt_thread_release_cancellation(int old) { pthread_setcancelstate(old, &old); }

/* ---- The message of lopt_last_error ----------------------------------------------------------------------------- */

__attribute__((returns_nonnull)) static inline char *lopt_thread_message(void) {
    static _Thread_local char text[256];
    return text;
}

#endif
