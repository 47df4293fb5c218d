/* Prints a digest of everything that training computes, for weights of every kind and tensors of every form: lines
 * "name digest", the same ones on every instruction set with a fused multiply-add (AVX2, AVX-512, NEON), whatever the number
 * of threads.
 *
 * Such lines are kept in digests.txt, and test_digest.c compares with them, so that no change of the code changes the
 * numbers unseen. Whoever means to change them (other built-in weights, another order of a sum) writes the list anew on a
 * processor with AVX2
 *
 *     make && cc -std=c99 -O1 -Iinclude -o build/digest tests-c/digest.c build/liblopt.so -Wl,-rpath,$PWD/build
 *     { grep '^#' tests-c/digests.txt; build/digest; } > build/digests.txt && mv build/digests.txt tests-c/digests.txt
 *
 * and looks at what that changes in the file. `digest N` uses N threads. None of the networks is wide enough to be handed to
 * OpenBLAS, whose bits are not ours.
 *
 * Parameters and gradients are made by integer arithmetic and exact scaling: no compiler can round them differently. */
#include <lopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { DIGEST_STEPS = 3 };

/* Called with every line. */
typedef void (*digest_line)(void *context, const char *name, uint64_t digest);

/* ---- Tensors ------------------------------------------------------------------------------------------------------- */

typedef struct digest_shape {
    const char *name;
    int32_t rank;
    int64_t extent[5];
    int large; /* more than one chunk of work */
} digest_shape;

static const digest_shape digest_shapes[] = {
    {"scalar", 0, {0}, 0},
    {"1", 1, {1}, 0},
    {"7", 1, {7}, 0},
    {"1000", 1, {1000}, 0},
    {"1x1", 2, {1, 1}, 0},
    {"1x9", 2, {1, 9}, 0},
    {"9x1", 2, {9, 1}, 0},
    {"100x10", 2, {100, 10}, 0}, /* several rows in a vector */
    {"10x100", 2, {10, 100}, 0},
    {"19x33", 2, {19, 33}, 0},
    {"64x64", 2, {64, 64}, 0},
    {"5x1031", 2, {5, 1031}, 0},       /* two tiles and a rest */
    {"16x8x3x3", 4, {16, 8, 3, 3}, 0}, /* output, input, height, width: nine columns of statistics side by side */
    {"3x3x8x24", 4, {3, 3, 8, 24}, 0}, /* height, width, input, output: nine planes */
    {"12x5x20", 3, {12, 5, 20}, 0},    /* an axis between the factored ones */
    {"6x2x7x3", 4, {6, 2, 7, 3}, 0},   /* and one after them */
    {"40x30x17", 3, {40, 30, 17}, 0},
    {"2x3x2x5x4", 5, {2, 3, 2, 5, 4}, 0},
    {"40001", 1, {40001}, 1},
    {"300x257", 2, {300, 257}, 1},
    {"9x4100", 2, {9, 4100}, 1}, /* a row in two chunks */
};

enum { DIGEST_SHAPES = sizeof digest_shapes / sizeof *digest_shapes };

static void *digest_memory(size_t size) {
    void *memory = calloc(1, size);
    if (!memory) {
        fprintf(stderr, "digest: no memory for %lu bytes\n", (unsigned long)size);
        exit(2);
    }
    return memory;
}

static void digest_require(lopt_status status, const char *what) {
    if (status == LOPT_OK) return;
    fprintf(stderr, "digest: %s: %s: %s\n", what, lopt_status_string(status), lopt_last_error());
    exit(2);
}

static uint64_t digest_random(uint64_t seed, uint64_t index) {
    uint64_t x = seed * 0x9e3779b97f4a7c15u + index * 0xd1342543de82ef95u + 0x632be59bd9b4e019u;
    x ^= x >> 32, x *= 0xe9846af9b1a615du;
    x ^= x >> 32, x *= 0xe9846af9b1a615du;
    return x ^ x >> 28;
}

/* 24 bits of `random` as a number in [-1, 1), divided by 2^halvings (which may be below 0). Exact: the product of a 24-bit integer and powers of
 * two, but for results below 2^-126, which lose bits in the same way everywhere. */
static float digest_number(uint64_t random, int halvings) {
    float x = (float)((int32_t)(random >> 40) - (1 << 23)) / 8388608.0f;
    for (; halvings >= 16; halvings -= 16) x *= 1.0f / 65536;
    for (; halvings > 0; halvings--) x *= 0.5f;
    for (; halvings < 0; halvings++) x *= 2;
    return x;
}

static int64_t digest_elements(const digest_shape *s) {
    int64_t n = 1;
    for (int32_t i = 0; i < s->rank; i++) n *= s->extent[i];
    return n;
}

static void digest_parameters(int shape, float *parameter) {
    int64_t n = digest_elements(&digest_shapes[shape]);
    for (int64_t i = 0; i < n; i++) parameter[i] = digest_number(digest_random(1 + (uint64_t)shape, (uint64_t)i), 2);
}

/* Every tensor has a scale of its own. Every other one also has elements that are 0, whose square underflows, that are
 * denormal, or that are a thousand times larger than the rest. */
static void digest_gradients(int shape, int step, float *gradient) {
    int64_t n = digest_elements(&digest_shapes[shape]);
    uint64_t seed = 1000 * (1 + (uint64_t)step) + (uint64_t)shape;
    int scale = 4 + shape * 5 % 14;
    for (int64_t i = 0; i < n; i++) {
        uint64_t r = digest_random(seed, (uint64_t)i);
        int halvings = scale;
        switch (shape % 2 == 0 ? 5 : (int)(r % 61)) {
            case 0: gradient[i] = 0; continue;
            case 1: halvings = 80; break;
            case 2: halvings = 126; break;
            case 3: halvings = scale - 10; break;
            default: break;
        }
        gradient[i] = digest_number(r, halvings);
    }
}

/* ---- Weights ------------------------------------------------------------------------------------------------------- */

typedef struct digest_rule {
    const char *name;
    const char *metadata; /* NULL: built in */
    int hidden, layers, momenta, heads;
    int tensor_scale; /* 2: tensor_schedule too; 3: tensor_count too; 4: tensor_ranges too */
    int large;        /* weight decay too, per step; 2: by step size; 3: that, and momenta in bf16, of built-in "pooled" */
} digest_rule;

#define DIGEST_STAR "\"kind\":\"star\",\"exp_mult\":\"[0.125, 0.25, 0.5]\",\"nominal_stepsize\":\"0.125\","
#define DIGEST_SMALL_FC "\"kind\":\"small_fc\",\"exp_mult\":\"[0.1]\",\"step_mult\":\"0.125\""

static const digest_rule digest_rules[] = {
    {"pooled", NULL, 0, 0, 0, 0, 0, 2},
    {"star", NULL, 0, 0, 0, 0, 0, 2},
    {"star-authors-rule", NULL, 0, 0, 0, 0, 0, 1},
    {"star-full",
     DIGEST_STAR "\"step_mult\":\"0.0001\",\"nominal_grad_estimator\":\"AdamAggMo\",\"nominal_controller\":\"true\","
                 "\"weight_decay\":\"0.001\",\"regularization_controller\":\"true\",\"normalize_blackbox\":\"true\"",
     4, 2, 3, 4, 0, 1},
    {"star-means",
     DIGEST_STAR "\"step_mult\":\"4.0\",\"nominal_grad_estimator\":\"SGDM\",\"nominal_controller\":\"true\","
                 "\"weight_decay\":\"0.001\",\"regularization_controller\":\"true\",\"selfnormalize_blackbox\":\"true\","
                 "\"aggregate_magnitude\":\"true\",\"aggregate_nom_magnitude\":\"true\",\"aggregate_reg_magnitude\":\"true\"",
     4, 2, 3, 4, 0, 1},
    {"star-extended",
     DIGEST_STAR "\"step_mult\":\"0.125\",\"nominal_grad_estimator\":\"Adam\",\"nominal_controller\":\"true\","
                 "\"nominal_epsilon\":\"1e-12\",\"aggregate_nom_magnitude\":\"true\"",
     4, 2, 3, 4, 1, 0},
    {"star-scheduled",
     DIGEST_STAR "\"step_mult\":\"0.125\",\"nominal_grad_estimator\":\"AdamAggMo\",\"nominal_controller\":\"true\","
                 "\"nominal_epsilon\":\"1e-16\"",
     4, 2, 3, 4, 2, 0},
    {"star-counted",
     DIGEST_STAR "\"step_mult\":\"0.125\",\"nominal_grad_estimator\":\"AdamAggMo\",\"nominal_controller\":\"true\","
                 "\"nominal_epsilon\":\"1e-16\"",
     4, 2, 3, 4, 3, 0},
    {"star-ranged",
     DIGEST_STAR "\"step_mult\":\"0.125\",\"nominal_grad_estimator\":\"AdamAggMo\",\"nominal_controller\":\"true\","
                 "\"nominal_epsilon\":\"1e-16\",\"skip_idle_tensors\":\"true\"",
     4, 2, 3, 4, 4, 2},
    {"star-1-layer", DIGEST_STAR "\"step_mult\":\"0.125\",\"nominal_grad_estimator\":\"SGD\"", 4, 1, 1, 4, 0, 0},
    {"star-3-layers",
     DIGEST_STAR "\"step_mult\":\"0.125\",\"nominal_grad_estimator\":\"AggMo\",\"nominal_controller\":\"true\"",
     5, 3, 5, 4, 0, 0},
    {"star-8", DIGEST_STAR "\"step_mult\":\"0.0001\",\"nominal_controller\":\"true\",\"normalize_blackbox\":\"true\"",
     8, 2, 3, 4, 0, 0},
    {"small-fc-4", DIGEST_SMALL_FC, 4, 2, 3, 2, 0, 0},
    {"small-fc-8", DIGEST_SMALL_FC, 8, 2, 3, 2, 0, 1},
    {"small-fc-16", DIGEST_SMALL_FC, 16, 2, 3, 2, 0, 0},
    {"small-fc-24", DIGEST_SMALL_FC, 24, 2, 3, 2, 0, 0},
    {"small-fc-32", DIGEST_SMALL_FC, 32, 2, 3, 2, 0, 0},
    {"small-fc-40", DIGEST_SMALL_FC, 40, 2, 3, 2, 0, 0},
    {"pooled-bf16-momenta", NULL, 0, 0, 0, 0, 0, 3},
};

enum { DIGEST_RULES = sizeof digest_rules / sizeof *digest_rules };

/* A weights file in memory, its parts as they grow. */
typedef struct digest_file {
    char header[4096];
    int length;
    float data[8192];
    int floats;
} digest_file;

static void digest_put(digest_file *f, const char *name, int rows, int columns, int halvings) {
    char shape[32];
    int count = rows * (columns ? columns : 1);
    sprintf(shape, columns ? "%d,%d" : "%d", rows, columns);
    f->length += sprintf(f->header + f->length, ",\"%s\":{\"dtype\":\"F32\",\"shape\":[%s],\"data_offsets\":[%d,%d]}", name,
                         shape, 4 * f->floats, 4 * (f->floats + count));
    for (int i = 0; i < count; i++, f->floats++) {
        f->data[f->floats] = digest_number(digest_random(77, (uint64_t)f->floats), halvings);
    }
}

/* Decays 0.9, 0.99, ...; in one case there are fewer or more than three. */
static const char *digest_decays(int momenta) {
    return momenta == 1 ? "[0.9]" : momenta == 3 ? "[0.9, 0.99, 0.999]" : "[0.5, 0.9, 0.95, 0.99, 0.999]";
}

static lopt_weights *digest_weights(const digest_rule *r) {
    lopt_weights *weights;
    if (!r->metadata) {
        digest_require(lopt_weights_builtin(r->large == 3 ? "pooled" : r->name, NULL, &weights), r->name);
        return weights;
    }
    digest_file *f = digest_memory(sizeof *f);
    f->length = sprintf(f->header,
                        "{\"__metadata__\":{\"format_version\":\"1\",%s,\"hidden_size\":\"%d\",\"hidden_layers\":\"%d\","
                        "\"initial_momentum_decays\":\"%s\",\"initial_rms_decays\":\"[0.999]\","
                        "\"initial_adafactor_decays\":\"%s\"}",
                        r->metadata, r->hidden, r->layers, digest_decays(r->momenta), digest_decays(r->momenta));
    for (int layer = 0; layer <= r->layers; layer++) {
        char name[16];
        int rows = layer == 0 ? 15 + 8 * r->momenta : r->hidden;
        int columns = layer == r->layers ? r->heads : r->hidden;
        sprintf(name, "w%d", layer);
        digest_put(f, name, rows, columns, layer == 0 ? 1 : 0);
        sprintf(name, "b%d", layer);
        digest_put(f, name, columns, 0, 2);
    }
    digest_put(f, "momentum_decays", r->momenta, 0, 6);
    digest_put(f, "rms_decays", 1, 0, 6);
    digest_put(f, "adafactor_decays", r->momenta, 0, 6);
    if (r->tensor_scale) digest_put(f, "tensor_scale", 3 + 2 * r->momenta, 0, 2);
    if (r->tensor_scale >= 2) digest_put(f, "tensor_schedule", 6 + 2 * r->momenta, 0, 3);
    if (r->tensor_scale >= 3) digest_put(f, "tensor_count", 2, 0, 2);
    if (r->tensor_scale == 4) {
        /* From two random numbers for each statistic: the lower is its least. */
        int width = 6 + 2 * r->momenta, first = f->floats;
        digest_put(f, "tensor_ranges", 2, width, 0);
        for (int i = first; i < first + width; i++) {
            if (f->data[i] <= f->data[i + width]) continue;
            float least = f->data[i + width];
            f->data[i + width] = f->data[i], f->data[i] = least;
        }
    }
    f->header[f->length++] = '}';
    while (f->length % 8) f->header[f->length++] = ' ';

    size_t header = (size_t)f->length, data = 4 * (size_t)f->floats;
    unsigned char *bytes = digest_memory(8 + header + data);
    for (int i = 0; i < 8; i++) bytes[i] = (unsigned char)((uint64_t)header >> 8 * i & 255);
    memcpy(bytes + 8, f->header, header);
    memcpy(bytes + 8 + header, f->data, data);
    digest_require(lopt_weights_from_memory(bytes, 8 + header + data, NULL, &weights), r->name);
    free(bytes);
    free(f);
    return weights;
}

/* ---- Digests ------------------------------------------------------------------------------------------------------- */

#define DIGEST_START 0xcbf29ce484222325u

/* FNV-1a, eight bytes at a time to be quick under an emulator. */
static uint64_t digest_add(uint64_t digest, const void *memory, size_t size) {
    const unsigned char *bytes = memory;
    for (size_t i = 0; i < size; i += 8) {
        uint64_t word = 0;
        memcpy(&word, bytes + i, size - i < 8 ? size - i : 8);
        digest = (digest ^ word) * 0x100000001b3u;
        digest ^= digest >> 29;
    }
    return digest;
}

/* Of the data of a checkpoint, which has the arrays in a fixed order; its header (names, versions) is not looked at. */
static uint64_t digest_state(const lopt_optimizer *opt) {
    size_t size = 0, header = 0;
    digest_require(lopt_state_size(opt, 0, &size), "lopt_state_size");
    unsigned char *bytes = digest_memory(size);
    digest_require(lopt_state_write(opt, 0, bytes, size), "lopt_state_write");
    for (int i = 7; i >= 0; i--) header = header << 8 | bytes[i];
    uint64_t digest = digest_add(DIGEST_START, bytes + 8 + header, size - 8 - header);
    free(bytes);
    return digest;
}

static uint64_t digest_statistics(const lopt_optimizer *opt) {
    lopt_statistics s;
    memset(&s, 0, sizeof s);
    s.struct_size = sizeof s;
    digest_require(lopt_stats(opt, -1, &s), "lopt_stats");
    double numbers[4] = {s.gradient_rms, s.update_rms, s.parameter_rms, s.blackbox_share};
    return digest_add(DIGEST_START, numbers, sizeof numbers);
}

static lopt_optimizer *digest_optimizer(const digest_rule *r, int threads) {
    lopt_options options;
    lopt_optimizer *opt;
    lopt_weights *weights = digest_weights(r);
    digest_require(lopt_options_init(&options, sizeof options), "lopt_options_init");
    options.threads = threads;
    options.momentum_type = r->large == 3 ? LOPT_BF16 : LOPT_F32;
    options.weight_decay = r->large ? 0.0009765625 : 0;
    options.weight_decay_form = r->large >= 2 ? LOPT_DECAY_BY_STEP_SIZE : LOPT_DECAY_PER_STEP;
    digest_require(lopt_create(weights, &options, &opt), "lopt_create");
    lopt_weights_free(weights);
    return opt;
}

/* The tensors that a rule is run on. */
typedef struct digest_problem {
    int count, shape[DIGEST_SHAPES];
    size_t size[DIGEST_SHAPES]; /* bytes */
    float *parameter[DIGEST_SHAPES], *gradient[DIGEST_SHAPES];
} digest_problem;

static void digest_begin(digest_problem *p, const digest_rule *r, lopt_optimizer *opt) {
    p->count = 0;
    for (int i = 0; i < (int)DIGEST_SHAPES; i++) {
        const digest_shape *s = &digest_shapes[i];
        if (s->large && !r->large) continue;
        int j = p->count++;
        p->shape[j] = i;
        p->size[j] = sizeof(float) * (size_t)digest_elements(s);
        p->parameter[j] = digest_memory(p->size[j]);
        p->gradient[j] = digest_memory(p->size[j]);
        digest_parameters(i, p->parameter[j]);
        digest_require(lopt_add_tensor(opt, s->name, p->parameter[j], p->gradient[j], s->extent, s->rank, NULL), s->name);
    }
}

static void digest_one(const digest_rule *r, int threads, digest_line line, void *context) {
    char name[80];
    digest_problem p;
    lopt_optimizer *opt = digest_optimizer(r, threads);
    digest_begin(&p, r, opt);
    for (int step = 1; step <= DIGEST_STEPS; step++) {
        uint64_t parameters = DIGEST_START;
        for (int j = 0; j < p.count; j++) digest_gradients(p.shape[j], step, p.gradient[j]);
        digest_require(lopt_step(opt), "lopt_step");
        for (int j = 0; j < p.count; j++) parameters = digest_add(parameters, p.parameter[j], p.size[j]);
        sprintf(name, "%s/step-%d/parameters", r->name, step);
        line(context, name, parameters);
        sprintf(name, "%s/step-%d/state", r->name, step);
        line(context, name, digest_state(opt));
    }
    sprintf(name, "%s/statistics", r->name);
    line(context, name, digest_statistics(opt));
    for (int j = 0; j < p.count; j++) {
        sprintf(name, "%s/%s", r->name, digest_shapes[p.shape[j]].name);
        line(context, name, digest_add(DIGEST_START, p.parameter[j], p.size[j]));
        free(p.parameter[j]);
        free(p.gradient[j]);
    }
    lopt_destroy(opt);
}

static void digest_all(int threads, digest_line line, void *context) {
    for (int i = 0; i < (int)DIGEST_RULES; i++) digest_one(&digest_rules[i], threads, line, context);
}

/* ---- The program --------------------------------------------------------------------------------------------------- */

#ifndef DIGEST_WITHOUT_MAIN
static void print_line(void *context, const char *name, uint64_t digest) {
    (void)context;
    printf("%s %08lx%08lx\n", name, (unsigned long)(digest >> 32), (unsigned long)(digest & 0xffffffffu));
    fflush(stdout);
}

int main(int count, char **arguments) {
    digest_all(count > 1 ? atoi(arguments[1]) : 1, print_line, NULL);
    return 0;
}
#endif
