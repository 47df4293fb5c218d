/* Two questions that a table of times per parameter does not answer. */
#include "bench.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- Does an idle tensor become slow? ---------------------------------------------------------------------------------- */

/* Averages of gradients that have become zero decay through the denormal numbers, on which arithmetic is many times slower:
 * 0.9^t leaves the normal range of f32 after 830 steps, 0.99^t after 8,700. */
enum { ZERO_STEPS = 20000, WINDOW = 1000, FIRST_STEPS = 100 };

typedef struct stepper {
    void (*step)(void *context);
    void *context;
} stepper;

static void step_lopt(void *context) { require(lopt_step(context), "lopt_step"); }
static void step_adamw(void *context) { adamw_step(context); }

/* Steps per second over `steps`, and in the slowest window. */
static double rate(stepper s, int steps, double *slowest) {
    double start = now(), longest = 0;
    for (int done = 0; done < steps; done += WINDOW) {
        double t = now();
        for (int i = 0; i < WINDOW; i++) s.step(s.context);
        t = now() - t;
        if (t > longest) longest = t;
    }
    if (slowest) *slowest = WINDOW / longest;
    return steps / (now() - start);
}

void measure_denormals(report *r, int32_t max_isa) {
    arrays a = arrays_make(problem_at(0));
    arrays_reset_parameters(&a);
    lopt_options options;
    require(lopt_options_init(&options, sizeof options), "lopt_options_init");
    options.threads = 1;
    options.max_isa = max_isa;
    lopt_optimizer *opt;
    require(lopt_create(NULL, &options, &opt), "lopt_create");
    const tensor *t = &a.problem->tensor[0];
    require(lopt_add_tensor(opt, "w", a.parameter, a.gradient, t->shape, t->rank, NULL), "lopt_add_tensor");
    adamw o = adamw_make(&a, (lopt_isa)r->isa, 1);
    stepper lopt = {step_lopt, opt}, adam = {step_adamw, &o};

    rate(lopt, WINDOW, NULL);
    r->random_steps_per_s = rate(lopt, 5 * WINDOW, NULL);
    r->adamw_random_steps_per_s = rate(adam, 5 * WINDOW, NULL);
    for (int i = 0; i < FIRST_STEPS; i++) lopt.step(opt), adam.step(&o);
    memset(a.gradient, 0, (size_t)a.size * sizeof(float));
    r->zero_steps_per_s = rate(lopt, ZERO_STEPS, &r->slowest_zero_steps_per_s);
    r->adamw_zero_steps_per_s = rate(adam, ZERO_STEPS, NULL);
    adamw_free(&o);
    lopt_destroy(opt);
    arrays_free(&a);
}

/* ---- How long until the first step? ------------------------------------------------------------------------------------- */

/* One run of the program startup: milliseconds for opening lopt, creating, the first step. */
static void run_startup(const char *program, const char *library, double ms[3]) {
    char command[2048];
    int read = 0;
    FILE *pipe = NULL;
    if (snprintf(command, sizeof command, "'%s' '%s'", program, library) < (int)sizeof command) pipe = popen(command, "r");
    if (pipe) read = fscanf(pipe, "%lf %lf %lf", &ms[0], &ms[1], &ms[2]);
    if (!pipe || pclose(pipe) != 0 || read != 3) fail("%s failed", program);
}

void measure_startup(report *r, const char *program, const char *library, int repetitions) {
    double all[3][64], one[3];
    if (repetitions > 64) repetitions = 64;
    run_startup(program, library, one); /* the first fills the page cache */
    for (int i = 0; i < repetitions; i++) {
        run_startup(program, library, one);
        for (int j = 0; j < 3; j++) all[j][i] = one[j];
    }
    r->startup_open_ms = median(all[0], repetitions);
    r->startup_create_ms = median(all[1], repetitions);
    r->startup_step_ms = median(all[2], repetitions);
}
