/* Writes the first inputs of the fuzz targets into DIRECTORY/weights, checkpoint and calls: files as the library takes them,
 * and a program that makes every call. Run once; fuzz/corpus has what came of it.
 *
 *     cc -Iinclude -Itests-c fuzz/seeds.c -Lbuild -llopt -Wl,-rpath,build -lm -o build/seeds && build/seeds fuzz/corpus */
#include "fuzz.h"
#include "weights.h"

static const char *root;

static void write_seed(const char *kind, const char *name, const void *bytes, size_t size, int last) {
    char path[512];
    snprintf(path, sizeof path, "%s/%s/%s", root, kind, name);
    FILE *f = fopen(path, "wb");
    PROMISE(f && fwrite(bytes, 1, size, f) == size);
    if (last >= 0) fputc(last, f);
    PROMISE(fclose(f) == 0);
}

static void weights_seed(const char *name, const char *kind, int width, int layers, const char *metadata) {
    size_t size = 0;
    made_weights m = weights_make(kind, width, layers, metadata);
    void *bytes = weights_file(m.header, m.header_size, m.data, m.data_size, &size);
    write_seed("weights", name, bytes, size, -1);
    free(bytes);
    weights_release(&m);
}

int main(int count, char **arguments) {
    PROMISE(count == 2);
    root = arguments[1];
    weights_seed("small_fc", "small_fc", 1, 1, "");
    weights_seed("star-network", "star", 1, 1, "\"nominal_stepsize\":\"0.01\",\"nominal_controller\":\"true\"");
    weights_seed("star-aggregates", "star", 2, 1,
                 "\"nominal_stepsize\":\"1e-2\",\"nominal_controller\":\"true\",\"regularization_controller\":\"true\","
                 "\"weight_decay\":\"0.001\",\"aggregate_magnitude\":\"true\",\"aggregate_nom_magnitude\":\"true\","
                 "\"aggregate_reg_magnitude\":\"true\",\"normalize_blackbox\":\"true\",\"selfnormalize_blackbox\":\"true\"");
    weights_seed("star-options", "star", 1, 2,
                 "\"nominal_stepsize\":\"0.01\",\"nominal_grad_estimator\":\"SGDM\",\"exp_mult\":\"[1.0, 0.5, 1e-1]\","
                 "\"provenance\":\"\\u00e9 \\\"quoted\\\" \\n\"");
    for (int is_bf16 = 0; is_bf16 < 2; is_bf16++) {
        fuzz_problem p;
        fuzz_start(&p, NULL, NULL, is_bf16 ? LOPT_BF16 : LOPT_F32);
        for (int step = 0; step < 5; step++) {
            size_t size = 0;
            char name[32];
            uint32_t contents = step % 2 ? LOPT_WITH_PARAMETERS : 0;
            void *bytes = fuzz_state(p.opt, contents, &size);
            snprintf(name, sizeof name, "%sstep-%d", is_bf16 ? "bf16-" : "", step);
            /* Into one with the same momenta, but the first, which goes into one with the others. */
            write_seed("checkpoint", name, bytes, size, 1 + (contents ? 0 : 2) + (is_bf16 == (step > 0) ? 4 : 0));
            free(bytes);
            PROMISE(lopt_step(p.opt) == LOPT_OK);
        }
        lopt_destroy(p.opt);
    }
    static const uint8_t program[] = {
        11, 0, 0, 2,                         /* create */
        0, 0, 2, 1, 2, 0, 0, 0, 0,           /* add [2, 3] "a" */
        0, 0, 1, 4, 10, 0, 0, 1,             /* add [16] "b" */
        0, 0, 0, 40, 0, 0, 2,                /* add a number "c" */
        14, 0, 0, 3, 50, 1, 0, 1, 0,         /* gradients; two steps */
        2, 0, 1, 3, 0, 2, 4, 0, 1, 1, 1,     /* step one tensor, scales */
        5, 0, 0, 1, 1, 0, 6, 0, 0,           /* write, step, read */
        9, 0, 0, 1, 1, 0, 10, 0, 0, 1,       /* save, step, restore */
        7, 0, 0, 13, 0, 0, 1, 11, 1, 0, 0,   /* look; weights, another optimizer */
        20, 3, 12, 0, 0, 2, 15, 1, 16, 0, 8, 0, 0, 0, 0,
    };
    write_seed("calls", "every-call", program, sizeof program, -1);
    static const uint8_t types[] = {
        11, 0, 128, 2, 0, 2,                      /* create, with an average */
        0, 0, 0, 2, 1, 2, 0, 1, 6, 0, 1, 5, 0,    /* add [2, 3] "a", f16 and bf16, at odd addresses */
        0, 0, 0, 1, 4, 4, 1, 7, 2, 2, 1,          /* add [16] "b", f64 */
        0, 0, 0, 0, 40, 1, 7, 1, 3, 2,            /* add a number "c", bf16 and f32 */
        1, 0, 14, 9, 0, 0, 1, 1, 0, 1, 0,         /* steps; a parameter is written */
        3, 0, 3, 0, 1, 0, 3, 0, 3, 0,             /* the average and back */
        3, 0, 3, 1, 0, 2, 5, 0, 0, 1, 1, 0, 6, 0, 0, 2, 0, 1,
        19, 0, 1, 0, 0, 0, 8, 8, 60, 40, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, /* memory that moves */
        19, 0, 0, 2, 0, 5, 6, 8, 0, 0, 0, 0, 1, 0,
    };
    write_seed("calls", "types", types, sizeof types, -1);
    static uint8_t momenta[sizeof types];
    memcpy(momenta, types, sizeof types);
    momenta[3] = 142; /* bf16, and the same average: 142 % 7 is 2 */
    write_seed("calls", "momenta", momenta, sizeof momenta, -1);
    return 0;
}
