/* What of a step no other thread can share, and what so many threads gain at most: for machines with more cores than one has. lopt is given
 * threads of the caller's that are none: a loop on the calling thread, which takes the time of all that threads would share. */
#include "bench.h"
#include <stdio.h>

enum { THREADS = 16 };

static void run_here(void *context, int32_t count, lopt_task task, void *task_context) {
    double *shared = context, t = now();
    for (int32_t i = 0; i < count; i++) task(task_context, i);
    *shared += now() - t;
}

/* Medians of the seconds of a step and of what of it is shared, one step after the other. */
static double shared_part(const rule *r, const problem *p, int32_t max_isa, int repetitions, double *seconds) {
    arrays a = arrays_make(p);
    double shared = 0, steps[256], parts[256], until = 0;
    lopt_parallel_for here = {run_here, &shared};
    lopt_optimizer *opt = make_optimizer(r, &a, THREADS, max_isa, &here);
    for (int i = 0; i < repetitions; i++) {
        int count = 0;
        double start = now();
        for (shared = 0, until = start + 0.02; now() < until || count < 2; count++) require(lopt_step(opt), "lopt_step");
        steps[i] = (now() - start) / count;
        parts[i] = shared / count / steps[i];
    }
    lopt_destroy(opt);
    arrays_free(&a);
    *seconds = median(steps, repetitions);
    return median(parts, repetitions);
}

void measure_serial(const rule *r, const problem *p, int32_t max_isa, int repetitions) {
    static int has_head;
    if (!has_head++) printf("%-12s %-18s %10s %9s   %s\n", "problem", "rule", "us a step", "serial %", "at most, with 2, 4, 8, 16 threads");
    double seconds, part = shared_part(r, p, max_isa, repetitions, &seconds);
    printf("%-12s %-18s %10.1f ", p->name, r->name, 1e6 * seconds);
    if (part <= 0) {
        printf("%9s   (too small to be shared)\n", "100");
        return;
    }
    printf("%9.2f  ", 100 * (1 - part));
    for (int threads = 2; threads <= THREADS; threads *= 2) printf(" %5.2f", 1 / (1 - part + part / threads));
    printf("\n");
}
