/* Weights made up by the tests: a safetensors file in memory for any kind, width and metadata, random but harmless. */
#ifndef LOPT_WEIGHTS_H
#define LOPT_WEIGHTS_H

#include "problem.h"

typedef struct made_weights {
    char header[8192];
    size_t header_size;
    float *data;
    size_t data_size, data_capacity;
} made_weights;

/* Of [rows, columns], or [columns] for no rows. */
static inline void weights_tensor(made_weights *m, const char *name, int rows, int columns, float scale) {
    size_t count = (size_t)(rows > 0 ? rows : 1) * (size_t)columns, begin = m->data_size;
    char shape[32];
    if (rows > 0) {
        snprintf(shape, sizeof shape, "%d,%d", rows, columns);
    } else {
        snprintf(shape, sizeof shape, "%d", columns);
    }
    if (begin + 4 * count > m->data_capacity) {
        m->data_capacity = 2 * (begin + 4 * count);
        float *larger = check_memory(m->data_capacity);
        if (m->data) memcpy(larger, m->data, begin);
        free(m->data);
        m->data = larger;
    }
    for (size_t i = 0; i < count; i++) m->data[begin / 4 + i] = scale * problem_random(begin + 77, i);
    m->data_size += 4 * count;
    m->header_size += (size_t)snprintf(m->header + m->header_size, sizeof m->header - m->header_size,
                                       ",\"%s\":{\"dtype\":\"F32\",\"shape\":[%s],\"data_offsets\":[%zu,%zu]}", name,
                                       shape, begin, m->data_size);
}

/* `metadata` is added to what is always there: "\"key\":\"value\", ..." or "". The caller calls weights_free. */
static inline made_weights weights_make(const char *kind, int width, int layers, const char *metadata) {
    made_weights m;
    memset(&m, 0, sizeof m);
    int outputs = strcmp(kind, "star") == 0 ? 4 : 2, inputs = 39;
    m.header_size = (size_t)snprintf(
        m.header, sizeof m.header,
        "{\"__metadata__\":{\"kind\":\"%s\",\"format_version\":\"1\",\"hidden_size\":\"%d\",\"hidden_layers\":\"%d\","
        "\"initial_momentum_decays\":\"[0.9, 0.99, 0.999]\",\"initial_adafactor_decays\":\"[0.9, 0.99, 0.999]\","
        "\"initial_rms_decays\":\"[0.999]\",\"step_mult\":\"0.01\"%s%s}",
        kind, width, layers, metadata[0] ? "," : "", metadata);
    for (int l = 0; l <= layers; l++) {
        char name[16];
        int from = l == 0 ? inputs : width, to = l == layers ? outputs : width;
        snprintf(name, sizeof name, "w%d", l);
        weights_tensor(&m, name, from, to, 1.0f / sqrtf((float)from));
        snprintf(name, sizeof name, "b%d", l);
        weights_tensor(&m, name, 0, to, 0.1f);
    }
    weights_tensor(&m, "momentum_decays", 0, 3, 0.01f);
    weights_tensor(&m, "rms_decays", 0, 1, 0.01f);
    weights_tensor(&m, "adafactor_decays", 0, 3, 0.01f);
    m.header[m.header_size++] = '}';
    m.header[m.header_size] = 0;
    return m;
}

/* Of kind pooled, whose meta-parameters are random but for direction and ranges. `horizon` is the size of what they know of
 * their horizon; with 0 they know nothing of it. `decays` are those of the momenta and of the second moment, within some per cent. */
static inline made_weights weights_make_pooled_of(float horizon, const char *momentum_decays, const char *rms_decays) {
    static const float direction[] = {0.5f, 0.4f, 0.1f, 0.6f, 0, 0, 0, 0};
    made_weights m;
    memset(&m, 0, sizeof m);
    m.header_size = (size_t)snprintf(m.header, sizeof m.header,
                                     "{\"__metadata__\":{\"kind\":\"pooled\",\"initial_momentum_decays\":\"%s\","
                                     "\"initial_rms_decays\":\"%s\",\"nominal_stepsize\":\"0.01\"}", momentum_decays, rms_decays);
    weights_tensor(&m, "direction", 2, 4, 1);
    memcpy(m.data, direction, sizeof direction);
    weights_tensor(&m, "horizon_decay", 0, 8, horizon);
    weights_tensor(&m, "horizon_step", 2, 8, horizon);
    weights_tensor(&m, "momentum_decays", 0, 2, 0.01f);
    weights_tensor(&m, "rms_decays", 0, 1, 0.01f);
    weights_tensor(&m, "schedule_step", 0, 11, 0.3f);
    weights_tensor(&m, "statistics_decay", 3, 19, 0.3f);
    for (int i = 1; i <= 19; i++) m.data[m.data_size / 4 - (size_t)i] *= horizon;
    weights_tensor(&m, "statistics_ranges", 2, 20, 1);
    for (int i = 0; i < 40; i++) m.data[m.data_size / 4 - 40 + (size_t)i] = i < 20 ? -3.0f : 3.0f;
    weights_tensor(&m, "statistics_step", 3, 19, 0.3f);
    for (int i = 1; i <= 19; i++) m.data[m.data_size / 4 - (size_t)i] *= horizon;
    m.header[m.header_size++] = '}';
    m.header[m.header_size] = 0;
    return m;
}

static inline made_weights weights_make_pooled(float horizon) { return weights_make_pooled_of(horizon, "[0.8, 0.95]", "[0.95]"); }

static inline void weights_release(made_weights *m) {
    free(m->data);
    m->data = NULL;
}

/* Length, header and data in one piece, which the caller frees. */
static inline void *weights_file(const char *header, size_t header_size, const void *data, size_t data_size,
                                 size_t *size) {
    *size = 8 + header_size + data_size;
    unsigned char *bytes = check_memory(*size);
    for (int i = 0; i < 8; i++) bytes[i] = (unsigned char)((uint64_t)header_size >> 8 * i);
    memcpy(bytes + 8, header, header_size);
    if (data_size > 0) memcpy(bytes + 8 + header_size, data, data_size);
    return bytes;
}

/* The weights themselves. */
static inline lopt_weights *weights_of(const made_weights *m) {
    size_t size = 0;
    lopt_weights *weights = NULL;
    void *bytes = weights_file(m->header, m->header_size, m->data, m->data_size, &size);
    CHECK_OK(lopt_weights_from_memory(bytes, size, NULL, &weights));
    /* They are copied: what becomes of the bytes does not matter. */
    memset(bytes, 0x5a, size);
    free(bytes);
    return weights;
}

/* As problem_optimizer, also with weights that are made: "made pooled". */
static inline lopt_optimizer *weights_optimizer(problem *p, const char *name, const lopt_options *options) {
    if (!name || strcmp(name, "made pooled") != 0) return problem_optimizer(p, name, options);
    made_weights m = weights_make_pooled(1);
    lopt_weights *weights = weights_of(&m);
    lopt_optimizer *opt = NULL;
    weights_release(&m);
    CHECK_OK(lopt_create(weights, options, &opt));
    lopt_weights_free(weights);
    problem_register(p, opt);
    return opt;
}

#endif
