/* OpenBLAS, and a way to hold it to one thread while lopt's own threads call it: a small matrix product of each worker
 * would otherwise wake a pool of its own. The number of threads belongs to the process, so it is put back as soon as the
 * last optimizer has ended its step. */
#ifndef LOPT_OPENBLAS_H
#define LOPT_OPENBLAS_H

#include <cblas.h>
#include <pthread.h>

typedef struct {
    pthread_mutex_t mutex;
    int users;
    int threads_before;
} lopt_blas_hold;

/* One for the process; this header is used by LOptCore alone. */
static inline lopt_blas_hold *lopt_blas_shared(void) {
    static lopt_blas_hold hold = {PTHREAD_MUTEX_INITIALIZER, 0, 0};
    return &hold;
}

static inline void lopt_blas_hold_to_one_thread(void) {
    lopt_blas_hold *hold = lopt_blas_shared();
    pthread_mutex_lock(&hold->mutex);
    if (hold->users++ == 0) {
        hold->threads_before = openblas_get_num_threads();
        if (hold->threads_before != 1) openblas_set_num_threads(1);
    }
    pthread_mutex_unlock(&hold->mutex);
}

static inline void lopt_blas_release(void) {
    lopt_blas_hold *hold = lopt_blas_shared();
    pthread_mutex_lock(&hold->mutex);
    if (--hold->users == 0 && hold->threads_before != 1) openblas_set_num_threads(hold->threads_before);
    pthread_mutex_unlock(&hold->mutex);
}

#endif
