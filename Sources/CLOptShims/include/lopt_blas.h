/* OpenBLAS, loaded when the first network that is wide enough for it comes and unloaded with the last one: a host that uses
 * no such network is spared its threads, its memory and the time it takes to load. */
#ifndef LOPT_BLAS_H
#define LOPT_BLAS_H

#include <dlfcn.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>

#include "lopt_kernels.h"

typedef struct lopt_blas {
    void *library; /* NULL if there is none; then nothing else here is set */
    lopt_sgemm sgemm;
    int (*get_threads)(void);
    void (*set_threads)(int);
} lopt_blas;

static inline void lopt_blas_close(lopt_blas blas) {
    if (blas.library) dlclose(blas.library);
}

/* The loader counts: each open is to be followed by a close. What OpenBLAS starts in here gets no signals. */
static inline lopt_blas lopt_blas_open(void) {
    const lopt_blas none = {0};
    lopt_blas blas = {0};
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    blas.library = dlopen("libopenblas.so.0", RTLD_NOW | RTLD_LOCAL);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (blas.library) {
        const char *(*configuration)(void) = (const char *(*)(void))dlsym(blas.library, "openblas_get_config");
        blas.sgemm = (lopt_sgemm)dlsym(blas.library, "cblas_sgemm");
        blas.get_threads = (int (*)(void))dlsym(blas.library, "openblas_get_num_threads");
        blas.set_threads = (void (*)(int))dlsym(blas.library, "openblas_set_num_threads");
        /* A build whose integers have 64 bits usually has a name of its own, but need not. */
        if (configuration && blas.sgemm && blas.get_threads && blas.set_threads && !strstr(configuration(), "USE64BITINT"))
            return blas;
    }
    lopt_blas_close(blas);
    dlerror(); /* the host's next call of it is not to get our message */
    return none;
}

/* Holds OpenBLAS to one thread while lopt's own threads call it: a small matrix product of each worker would otherwise wake a
 * pool of its own. The number of threads belongs to the process, so it is put back as soon as the last step has ended. */
typedef struct lopt_blas_hold {
    pthread_mutex_t mutex;
    int users, threads_before;
} lopt_blas_hold;

/* One for the process: LOptCore alone calls this. */
static inline lopt_blas_hold *lopt_blas_shared(void) {
    static lopt_blas_hold hold = {PTHREAD_MUTEX_INITIALIZER, 0, 0};
    return &hold;
}

static inline void lopt_blas_hold_to_one_thread(lopt_blas blas) {
    if (!blas.library) return;
    lopt_blas_hold *hold = lopt_blas_shared();
    pthread_mutex_lock(&hold->mutex);
    if (hold->users++ == 0) {
        hold->threads_before = blas.get_threads();
        if (hold->threads_before != 1) blas.set_threads(1);
    }
    pthread_mutex_unlock(&hold->mutex);
}

static inline void lopt_blas_release(lopt_blas blas) {
    if (!blas.library) return;
    lopt_blas_hold *hold = lopt_blas_shared();
    pthread_mutex_lock(&hold->mutex);
    if (--hold->users == 0 && hold->threads_before != 1) blas.set_threads(hold->threads_before);
    pthread_mutex_unlock(&hold->mutex);
}

#endif
