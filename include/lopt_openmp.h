/* lopt_openmp.h: lopt's work on the threads that OpenMP already has, for codes whose loops are OpenMP's: a second set of threads
 * beside them would wait for the same processors.
 *
 * Copyright 2026 the lopt authors. SPDX-License-Identifier: Apache-2.0
 *
 *     lopt_options options;
 *     lopt_options_init(&options, sizeof options);
 *     lopt_openmp(&options);
 *     lopt_create(NULL, &options, &opt);
 *
 * Compile with -fopenmp. C and C++. The bits of a result are the same as with any other threads. Inside a parallel region
 * lopt_step runs on the one thread that calls it, unless nested regions are switched on.
 */
#ifndef LOPT_OPENMP_H
#define LOPT_OPENMP_H

#ifndef _OPENMP
#error "lopt_openmp.h needs OpenMP: compile with -fopenmp"
#endif

#include <lopt.h>
#include <omp.h>

/* The hook; `context` is not used. */
static inline void lopt_openmp_run(void *context, int32_t count, lopt_task task, void *task_context) {
    (void)context;
#pragma omp parallel for schedule(static, 1) num_threads(count)
    for (int32_t i = 0; i < count; i++) task(task_context, i);
}

/* Fills in `parallel_for` and `threads`: as many as OpenMP would use now (omp_set_num_threads, OMP_NUM_THREADS), at most 256. */
static inline void lopt_openmp(lopt_options *options) {
    const int threads = omp_get_max_threads();
    options->parallel_for.run = lopt_openmp_run;
    options->parallel_for.context = NULL;
    options->threads = threads < 256 ? threads : 256;
}

#endif /* LOPT_OPENMP_H */
