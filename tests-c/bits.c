/* Prints a digest of the bits of each tensor after some steps. scripts/test-processors runs it on several processors and
 * compares: what lopt.h promises of bits holds between machines, so no one test program can check it. */
#include <lopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TENSORS = 8, STEPS = 60 };

/* Ranks below 2 and above, rows shorter and longer than a vector and than a tile, both orders of the factored axes. */
static const int64_t shapes[TENSORS][4] = {{70, 90}, {513}, {16, 8, 3, 3}, {33, 1100}, {7, 5, 11}, {1}, {1100, 33}, {300, 6}};
static const int32_t ranks[TENSORS] = {2, 1, 4, 2, 3, 1, 2, 2};

typedef struct tensor {
    float *parameter, *gradient;
    int64_t count;
} tensor;

static void check(lopt_status status) {
    if (status == LOPT_OK) return;
    fprintf(stderr, "%s\n", lopt_last_error());
    exit(1);
}

static tensor add(lopt_optimizer *opt, int i) {
    tensor t = {.count = 1};
    for (int j = 0; j < ranks[i]; j++) t.count *= shapes[i][j];
    t.parameter = malloc((size_t)t.count * sizeof(float));
    t.gradient = malloc((size_t)t.count * sizeof(float));
    if (!t.parameter || !t.gradient) exit(1);
    for (int64_t j = 0; j < t.count; j++) t.parameter[j] = (float)(j * 7919 % 1009 - 500) / 1000;
    char name[16];
    snprintf(name, sizeof name, "t%d", i);
    check(lopt_add_tensor(opt, name, t.parameter, t.gradient, shapes[i], ranks[i], NULL));
    return t;
}

/* The gradient depends on the parameters, so that a difference does not stay small. Compiled without contraction. */
static void set_gradient(tensor t, int step) {
    for (int64_t j = 0; j < t.count; j++)
        t.gradient[j] = t.parameter[j] * 0.5f + (float)((j * 31 + step * 17) % 101 - 50) / 500;
}

static uint64_t digest(tensor t) {
    uint64_t h = 0xcbf29ce484222325u; /* FNV-1a */
    for (int64_t j = 0; j < t.count; j++) {
        uint32_t bits;
        memcpy(&bits, &t.parameter[j], sizeof bits);
        h = (h ^ bits) * 0x100000001b3u;
    }
    return h;
}

static void run(const char *name) {
    lopt_weights *weights;
    lopt_optimizer *opt;
    tensor t[TENSORS];
    check(lopt_weights_builtin(name, NULL, &weights));
    check(lopt_create(weights, NULL, &opt));
    for (int i = 0; i < TENSORS; i++) t[i] = add(opt, i);
    for (int step = 0; step < STEPS; step++) {
        for (int i = 0; i < TENSORS; i++) set_gradient(t[i], step);
        check(lopt_step(opt));
    }
    for (int i = 0; i < TENSORS; i++) {
        printf("%s tensor %d %016llx\n", name, i, (unsigned long long)digest(t[i]));
        free(t[i].parameter);
        free(t[i].gradient);
    }
    lopt_destroy(opt);
    lopt_weights_free(weights);
}

int main(int argc, char **argv) {
    if (argc > 1 && strcmp(argv[1], "isa") == 0) {
        lopt_optimizer *opt;
        lopt_information info = {.struct_size = sizeof info};
        check(lopt_create(NULL, NULL, &opt));
        check(lopt_info(opt, &info));
        printf("%d\n", (int)info.isa);
        lopt_destroy(opt);
        return 0;
    }
    run("star");
    run("star-authors-rule");
    return 0;
}
