#include "bench.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The built-in weights; STAR with everything per element (blackbox, and a nominal controller that is not aggregated),
 * which is the most work that STAR can be; small_fc_lopt, the baseline of the paper. Weights that are made here are random:
 * the work does not depend on their values. */
static const rule rules[] = {
    {.name = "star", .builtin = 1, .hidden = 4, .heads = 1},
    {.name = "pooled", .builtin = 1, .pooled = 1},
    {.name = "pooled-bf16", .builtin = 1, .pooled = 1, .bf16_momenta = 1, .full_only = 1},
    {.name = "star-authors-rule", .builtin = 1, .hidden = 4, .heads = 3},
    {.name = "star-full", .hidden = 4, .heads = 3},
    {.name = "small-fc-4", .small_fc = 1, .hidden = 4, .heads = 2},
    {.name = "small-fc-32", .small_fc = 1, .hidden = 32, .heads = 2},
    {.name = "star-full-8", .hidden = 8, .heads = 3, .full_only = 1},
    {.name = "star-full-16", .hidden = 16, .heads = 3, .full_only = 1},
    {.name = "star-full-64", .hidden = 64, .heads = 3, .full_only = 1},
};

int rule_count(void) { return sizeof rules / sizeof *rules; }
const rule *rule_at(int i) { return &rules[i]; }

/* ---- A safetensors file in memory ---------------------------------------------------------------------------------- */

static const char star_metadata[] =
    "\"kind\":\"star\",\"exp_mult\":\"[1.0, 1.0, 1.0]\",\"step_mult\":\"0.0001\",\"nominal_stepsize\":\"0.0001\","
    "\"nominal_grad_estimator\":\"AdamAggMo\",\"nominal_controller\":\"true\",\"regularization_controller\":\"false\","
    "\"weight_decay\":\"0.0\",\"aggregate_magnitude\":\"false\",\"aggregate_nom_magnitude\":\"false\","
    "\"aggregate_reg_magnitude\":\"false\",\"normalize_blackbox\":\"true\",\"selfnormalize_blackbox\":\"false\"";
static const char small_fc_metadata[] = "\"kind\":\"small_fc\",\"exp_mult\":\"[0.001]\",\"step_mult\":\"0.001\"";

typedef struct blob {
    char header[4096];
    int length;
    float data[32768];
    int floats;
} blob;

static void put_tensor(blob *b, const char *name, int rows, int columns, float scale) {
    int count = rows * (columns ? columns : 1);
    if (b->floats + count > (int)(sizeof b->data / sizeof *b->data)) fail("weights too large");
    char shape[32];
    snprintf(shape, sizeof shape, columns ? "%d,%d" : "%d", rows, columns);
    b->length += snprintf(b->header + b->length, sizeof b->header - (size_t)b->length,
                          ",\"%s\":{\"dtype\":\"F32\",\"shape\":[%s],\"data_offsets\":[%d,%d]}", name, shape,
                          4 * b->floats, 4 * (b->floats + count));
    fill_random(b->data + b->floats, count, (uint64_t)b->floats + 7);
    for (int i = 0; i < count; i++) b->data[b->floats + i] *= scale;
    b->floats += count;
}

static void put_metadata(blob *b, const rule *r) {
    b->length = snprintf(b->header, sizeof b->header,
                         "{\"__metadata__\":{\"format_version\":\"1\",%s,\"hidden_size\":\"%d\",\"hidden_layers\":\"2\","
                         "\"initial_momentum_decays\":\"[0.9, 0.99, 0.999]\",\"initial_rms_decays\":\"[0.999]\","
                         "\"initial_adafactor_decays\":\"[0.9, 0.99, 0.999]\"}",
                         r->small_fc ? small_fc_metadata : star_metadata, r->hidden);
}

static lopt_weights *made_weights(const rule *r) {
    blob *b = calloc(1, sizeof *b);
    if (!b) fail("out of memory");
    const int h = r->hidden, heads = r->small_fc ? 2 : 4;
    put_metadata(b, r);
    put_tensor(b, "w0", 39, h, 0.16f);
    put_tensor(b, "b0", h, 0, 0.1f);
    put_tensor(b, "w1", h, h, 0.3f);
    put_tensor(b, "b1", h, 0, 0.1f);
    put_tensor(b, "w2", h, heads, 0.3f);
    put_tensor(b, "b2", heads, 0, 0.1f);
    put_tensor(b, "momentum_decays", 3, 0, 0.0f);
    put_tensor(b, "rms_decays", 1, 0, 0.0f);
    put_tensor(b, "adafactor_decays", 3, 0, 0.0f);
    b->header[b->length++] = '}';
    while (b->length % 8) b->header[b->length++] = ' ';

    size_t data = (size_t)b->floats * sizeof(float), header = (size_t)b->length;
    char *file = malloc(8 + header + data);
    if (!file) fail("out of memory");
    uint64_t length = header; /* little-endian, as the format has it */
    memcpy(file, &length, 8);
    memcpy(file + 8, b->header, header);
    memcpy(file + 8 + header, b->data, data);
    lopt_weights *w;
    require(lopt_weights_from_memory(file, 8 + header + data, NULL, &w), "lopt_weights_from_memory");
    free(file);
    free(b);
    return w;
}

lopt_weights *rule_weights(const rule *r) {
    if (!r->builtin) return made_weights(r);
    lopt_weights *w;
    require(lopt_weights_builtin(r->bf16_momenta ? "pooled" : r->name, NULL, &w), "lopt_weights_builtin");
    return w;
}

/* ---- Arithmetic ----------------------------------------------------------------------------------------------------- */

/* 39 inputs, of which 11 are the same for all elements and 12 depend on the row or the column alone for rank >= 2 (folded
 * into vectors per row and column); for rank < 2 the row and column features are equal in pairs, which leaves 22. Two hidden
 * layers. */
double rule_network_fmas(const rule *r, const problem *p) {
    double factored = (double)problem_factored_elements(p) / (double)problem_elements(p);
    double inputs = 16 * factored + 22 * (1 - factored);
    return inputs * r->hidden + r->hidden * r->hidden + r->hidden * r->heads;
}

/* f32: parameter, three momenta and the second moment are read and written, the gradient is read; for rank < 2 three
 * diagonal accumulators are read and written too. Weights of kind pooled have two momenta, of 2 bytes each in bf16, and no such
 * accumulators. */
double rule_compulsory_bytes(const rule *r, const problem *p) {
    if (r->pooled) return r->bf16_momenta ? 28 : 36;
    double factored = (double)problem_factored_elements(p) / (double)problem_elements(p);
    return 44 + 24 * (1 - factored);
}
