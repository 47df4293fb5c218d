/* startup LIBRARY: the time from a running process that has nothing of lopt to the end of a first step, in parts. Prints
 * milliseconds: loading lopt, creating an optimizer with one 256x256 matrix, the first step. */
#include <dlfcn.h>
#include <lopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static double milliseconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return 1e3 * (double)t.tv_sec + 1e-6 * (double)t.tv_nsec;
}

static void *function(void *library, const char *name) {
    void *f = dlsym(library, name);
    if (!f) {
        fprintf(stderr, "startup: %s\n", dlerror());
        exit(1);
    }
    return f;
}

int main(int argc, char **argv) {
    if (argc != 2) return fprintf(stderr, "usage: startup LIBRARY\n"), 2;
    enum { SIDE = 256 };
    float *p = calloc(SIDE * SIDE, sizeof *p), *g = calloc(SIDE * SIDE, sizeof *g);
    if (!p || !g) return 1;
    for (int i = 0; i < SIDE * SIDE; i++) g[i] = (float)(i % 17 - 8);

    double start = milliseconds();
    void *library = dlopen(argv[1], RTLD_NOW);
    if (!library) {
        fprintf(stderr, "startup: %s\n", dlerror());
        return 1;
    }
    double open = milliseconds();
    __typeof__(&lopt_create) create = (__typeof__(&lopt_create))function(library, "lopt_create");
    __typeof__(&lopt_add_tensor) add = (__typeof__(&lopt_add_tensor))function(library, "lopt_add_tensor");
    __typeof__(&lopt_step) step = (__typeof__(&lopt_step))function(library, "lopt_step");
    lopt_optimizer *opt;
    if (create(NULL, NULL, &opt) != LOPT_OK) return 1;
    if (add(opt, "w", p, g, (int64_t[]){SIDE, SIDE}, 2, NULL) != LOPT_OK) return 1;
    double created = milliseconds();
    if (step(opt) != LOPT_OK) return 1;
    double stepped = milliseconds();
    printf("%.4f %.4f %.4f\n", open - start, created - open, stepped - created);
    return 0;
}
