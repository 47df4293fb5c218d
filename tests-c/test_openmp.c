/* lopt_openmp.h: lopt's work runs on OpenMP's threads, each piece once, with the bits that one thread gives; inside a parallel
 * region too. */
#include "problem.h"

#ifndef _OPENMP
int main(void) {
    puts("compiled without OpenMP");
    return 77;
}
#else
#include <lopt_openmp.h>

static int teams, widest, ran[256];

/* Notes on which threads the tasks run. */
static lopt_task inner;
static void *inner_context;
static void noted(void *context, int32_t i) {
    (void)context;
#pragma omp atomic
    ran[i]++;
#pragma omp critical
    if (omp_get_num_threads() > widest) widest = omp_get_num_threads();
    inner(inner_context, i);
}
static void noting_run(void *context, int32_t count, lopt_task task, void *task_context) {
    inner = task, inner_context = task_context;
    memset(ran, 0, sizeof ran);
    teams++;
    lopt_openmp_run(context, count, noted, NULL);
    for (int32_t i = 0; i < 256; i++) CHECK_INT(ran[i], i < count ? 1 : 0);
}

static snapshot train(const lopt_options *options, problem *p, int inside) {
    lopt_optimizer *opt;
    problem_large(p);
    CHECK_OK(lopt_create(NULL, options, &opt));
    problem_register(p, opt);
    if (inside) {
#pragma omp parallel num_threads(2)
#pragma omp single
        problem_train(p, opt, 0, 4);
    } else {
        problem_train(p, opt, 0, 4);
    }
    snapshot state = snapshot_of(opt, LOPT_WITH_PARAMETERS);
    lopt_destroy(opt);
    return state;
}

int main(void) {
    lopt_options options = problem_options();
    problem p;
    options.threads = 1;
    snapshot alone = train(&options, &p, 0);
    problem_free(&p);

    for (int threads = 1; threads <= 5; threads += 2) {
        for (int inside = 0; inside < 2; inside++) {
            omp_set_num_threads(threads);
            options = problem_options();
            lopt_openmp(&options);
            CHECK_INT(options.threads, threads);
            CHECK(options.parallel_for.run == lopt_openmp_run);
            options.parallel_for.run = noting_run;
            teams = widest = 0;
            check_context("%d threads, inside a parallel region: %d", threads, inside);
            snapshot state = train(&options, &p, inside);
            if (threads > 1) CHECK(teams > 0);
            if (threads > 1 && !inside) CHECK_INT(widest, threads);
            CHECK_INT(state.size, alone.size);
            CHECK_BYTES(state.bytes, alone.bytes, alone.size);
            snapshot_free(&state);
            problem_free(&p);
        }
    }
    check_context("");
    omp_set_num_threads(1000);
    lopt_openmp(&options);
    CHECK_INT(options.threads, 256);
    snapshot_free(&alone);
    return check_end();
}
#endif
