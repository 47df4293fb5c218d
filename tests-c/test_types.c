/* Parameters and gradients of other types than f32: a training has the bits of one in f32 with the same gradients, its parameters
 * rounded; conversions are those of IEEE 754 for every number there is; what the caller writes counts; checkpoints go from type to type. */
#include "weights.h"

enum { TYPES = 4 };
static const size_t size_of[TYPES] = {4, 8, 2, 2};
static const char *const name_of[TYPES] = {"f32", "f64", "bf16", "f16"};

/* ---- The types once more, by their definition ----------------------------------------------------------------------- */

static double computed_value(int type, unsigned bits) {
    int digits = type == LOPT_BF16 ? 7 : 10, most = type == LOPT_BF16 ? 255 : 31, bias = most / 2;
    int exponent = (int)(bits >> digits) & most, fraction = (int)(bits & ((1u << digits) - 1));
    double size = exponent == most ? (fraction ? NAN : INFINITY)
        : exponent == 0 ? ldexp(fraction, 1 - bias - digits) : ldexp(fraction + (1 << digits), exponent - bias - digits);
    return bits >> 15 ? -size : size;
}

/* The same from a table. */
static double value_of_bits(int type, unsigned bits) {
    static double table[2][65536];
    static int is_there[2];
    double *values = table[type - LOPT_BF16];
    if (!is_there[type - LOPT_BF16]) {
        for (unsigned i = 0; i < 65536; i++) values[i] = computed_value(type, i);
        is_there[type - LOPT_BF16] = 1;
    }
    return values[bits];
}

static double get(const void *memory, int64_t i, int type) {
    uint16_t half;
    double wide;
    float x;
    memcpy(type == LOPT_F64 ? (void *)&wide : type == LOPT_F32 ? (void *)&x : (void *)&half,
           (const char *)memory + (size_t)i * size_of[type], size_of[type]);
    return type == LOPT_F64 ? wide : type == LOPT_F32 ? (double)x : value_of_bits(type, half);
}

/* The number of the type that is nearest to x, of two as near that with an even last bit: by bisection over all that there are. */
static unsigned nearest_bits(int type, double x) {
    unsigned low = 0, high = type == LOPT_BF16 ? 0x7f80 : 0x7c00;
    double size = fabs(x), beyond = type == LOPT_BF16 ? ldexp(1, 128) : ldexp(1, 16); /* what the largest would be followed by */
    while (high - low > 1) {
        unsigned middle = (low + high) / 2;
        if (value_of_bits(type, middle) <= size) low = middle; else high = middle;
    }
    double above = value_of_bits(type, high), below = value_of_bits(type, low);
    if (isinf(above)) above = beyond;
    unsigned best = size - below < above - size || (size - below == above - size && low % 2 == 0) ? low : high;
    return best | (signbit(x) ? 0x8000u : 0);
}

static void put(void *memory, int64_t i, int type, double x) {
    uint16_t half = 0;
    float single = (float)x;
    if (type >= LOPT_BF16) half = (uint16_t)nearest_bits(type, x);
    memcpy((char *)memory + (size_t)i * size_of[type], type == LOPT_F64 ? (void *)&x : type == LOPT_F32 ? (void *)&single : (void *)&half,
           size_of[type]);
}

/* ---- A problem in two types ------------------------------------------------------------------------------------------ */

typedef struct twin {
    problem f32;
    int parameter_type, gradient_type;
    void *parameter[PROBLEM_MOST], *gradient[PROBLEM_MOST];
    lopt_optimizer *plain, *typed;
} twin;

static int is_large = 1;

/* Numbers with few digits, so that every type has them. */
static float coarse(float x) { return ldexpf(rintf(ldexpf(x, 6)), -6); }

static lopt_status add(twin *t, int i, lopt_optimizer *opt) {
    const problem_tensor *p = &t->f32.tensors[i];
    return lopt_add_typed(opt, p->name, t->parameter[i], (lopt_element)t->parameter_type, t->gradient[i],
                          (lopt_element)t->gradient_type, p->shape, p->rank, NULL);
}

static lopt_options some_options(int threads) {
    lopt_options options = problem_options();
    options.threads = threads, options.weight_decay = 0.02, options.average = LOPT_AVERAGE_EMA, options.average_span = 4;
    return options;
}

static lopt_optimizer *typed_optimizer(twin *t, const char *weights, const lopt_options *options) {
    problem none = {.count = 0};
    lopt_optimizer *opt = weights_optimizer(&none, weights, options);
    for (int i = 0; i < t->f32.count; i++) CHECK_OK(add(t, i, opt));
    return opt;
}

static twin make(const char *weights, int parameter_type, int gradient_type, int threads) {
    twin t = {.parameter_type = parameter_type, .gradient_type = gradient_type};
    lopt_options options = some_options(threads);
    problem_small(&t.f32);
    if (is_large) problem_add(&t.f32, "wide", 2, (int64_t[]){check_repetitions(101, 30), check_repetitions(353, 41)});
    if (is_large) problem_add(&t.f32, "one chunk", 2, (int64_t[]){9, check_repetitions(4000, 40)});
    problem_start(&t.f32);
    for (int i = 0; i < t.f32.count; i++) {
        problem_tensor *p = &t.f32.tensors[i];
        /* At odd addresses, too. */
        t.parameter[i] = (char *)check_memory(8 * (size_t)p->elements + 8) + i % 3;
        t.gradient[i] = (char *)check_memory(8 * (size_t)p->elements + 8) + i % 2;
        for (int64_t j = 0; j < p->elements; j++) p->parameter[j] = coarse(p->parameter[j]), put(t.parameter[i], j, parameter_type, p->parameter[j]);
    }
    options.threads = 1;
    t.plain = weights_optimizer(&t.f32, weights, &options);
    options.threads = threads;
    t.typed = typed_optimizer(&t, weights, &options);
    return t;
}

static void set_gradients(twin *t, int step) {
    for (int i = 0; i < t->f32.count; i++) {
        problem_tensor *p = &t->f32.tensors[i];
        int idle = (step + i) % 5 == 4; /* some tensors rest, and decay */
        for (int64_t j = 0; j < p->elements; j++) {
            p->gradient[j] = idle ? 0 : coarse(problem_random(100 * (uint64_t)step + (uint64_t)i, (uint64_t)j) + 0.3f);
            put(t->gradient[i], j, t->gradient_type, p->gradient[j]);
        }
    }
}

/* What the caller sees is the f32 parameter, rounded. */
static int same(const twin *t) {
    for (int i = 0; i < t->f32.count; i++) {
        const problem_tensor *p = &t->f32.tensors[i];
        for (int64_t j = 0; j < p->elements; j++) {
            char expected[8];
            put(expected, 0, t->parameter_type, p->parameter[j]);
            if (memcmp(expected, (char *)t->parameter[i] + (size_t)j * size_of[t->parameter_type], size_of[t->parameter_type]) != 0)
                return check_that(0, __FILE__, __LINE__, "'%s'[%lld] is %.9g for %.9g", p->name, (long long)j,
                                  get(t->parameter[i], j, t->parameter_type), p->parameter[j]);
        }
    }
    return 1;
}

static void step_both(twin *t, int step) {
    set_gradients(t, step);
    CHECK_OK(lopt_step(t->plain)), CHECK_OK(lopt_step(t->typed));
}

static void end(twin *t) {
    lopt_destroy(t->plain), lopt_destroy(t->typed);
    for (int i = 0; i < t->f32.count; i++) free((char *)t->parameter[i] - i % 3), free((char *)t->gradient[i] - i % 2);
    problem_free(&t->f32);
}

/* ---- Tests ----------------------------------------------------------------------------------------------------------- */

static void test_types_step_as_f32_rounded(const char *weights, int parameter_type, int gradient_type, int threads) {
    twin t = make(weights, parameter_type, gradient_type, threads);
    check_context("%s, %s parameters, %s gradients", weights, name_of[parameter_type], name_of[gradient_type]);
    for (int step = 0; step < check_repetitions(12, 5) && same(&t); step++) {
        step_both(&t, step);
        if (step == 5) {
            /* The caller writes some, and adds one more way in for the others. */
            for (int i = 0; i < t.f32.count; i++) t.f32.tensors[i].parameter[0] = 0.75f, put(t.parameter[i], 0, parameter_type, 0.75);
        }
        if (step == 7) {
            float *a = check_memory(4 * (size_t)t.f32.tensors[2].elements), *b = check_memory(4 * (size_t)t.f32.tensors[2].elements);
            CHECK_OK(lopt_average_get(t.plain, 2, a, t.f32.tensors[2].elements)), CHECK_OK(lopt_average_get(t.typed, 2, b, t.f32.tensors[2].elements));
            CHECK_BITS(b, a, t.f32.tensors[2].elements);
            free(a), free(b);
            for (int twice = 0; twice < 2; twice++) CHECK_OK(lopt_average_swap(t.plain)), CHECK_OK(lopt_average_swap(t.typed)), same(&t);
        }
    }
    lopt_information plain = {.struct_size = sizeof plain}, typed = {.struct_size = sizeof typed};
    CHECK_OK(lopt_info(t.plain, &plain)), CHECK_OK(lopt_info(t.typed, &typed));
    CHECK_INT(typed.state_bytes - plain.state_bytes, parameter_type >= LOPT_BF16 ? 4 * plain.parameters : 0);
    int64_t copies = (parameter_type != LOPT_F32) + (gradient_type != LOPT_F32), more = typed.memory_bytes - plain.memory_bytes;
    if (threads == 1) CHECK(more >= 4 * copies * plain.parameters && more <= 4 * copies * plain.parameters + 4 * 32 * 2 * plain.tensors);
    check_context("");
    end(&t);
}

/* Memory that moves with each step, and binds. */
static void test_memory_that_moves_is_taken_in_and_written(int type) {
    twin t = make("pooled", type, type, 2);
    float *parameters[PROBLEM_MOST], *gradients[PROBLEM_MOST];
    check_context("%s", name_of[type]);
    for (int step = 0; step < 4; step++) {
        set_gradients(&t, step);
        CHECK_OK(lopt_step(t.plain));
        for (int i = 0; i < t.f32.count; i++) {
            size_t bytes = size_of[type] * (size_t)t.f32.tensors[i].elements;
            char *other = (char *)check_memory(8 * (size_t)t.f32.tensors[i].elements + 8) + i % 3;
            memcpy(other, t.parameter[i], bytes);
            memset(t.parameter[i], 0x11, bytes);
            if (step % 2) CHECK_OK(lopt_bind(t.typed, i, (float *)(void *)other, t.gradient[i]));
            free((char *)t.parameter[i] - i % 3);
            t.parameter[i] = other;
            parameters[i] = (float *)(void *)other, gradients[i] = t.gradient[i];
        }
        CHECK_OK(step % 2 ? lopt_step(t.typed) : lopt_step_with(t.typed, t.f32.count, parameters, gradients));
        same(&t);
    }
    parameters[2] = NULL;
    CHECK_STATUS(lopt_step_with(t.typed, t.f32.count, parameters, gradients), LOPT_ERROR_INVALID_ARGUMENT);
    CHECK_MESSAGE("'matrix' is NULL");
    step_both(&t, 4), same(&t);
    CHECK_OK(lopt_bind(t.typed, 2, NULL, NULL));
    size_t size;
    CHECK_STATUS(lopt_step(t.typed), LOPT_ERROR_INVALID_ARGUMENT);
    CHECK_STATUS(lopt_state_size(t.typed, LOPT_WITH_PARAMETERS, &size), LOPT_ERROR_INVALID_ARGUMENT);
    /* As many bytes as the type has are the tensor's: what begins in the last of them overlaps, what follows does not. */
    int64_t last = t.f32.tensors[3].elements * (int64_t)size_of[type];
    CHECK_STATUS(lopt_bind(t.typed, 2, (float *)(void *)((char *)t.parameter[3] + last - 1), t.gradient[2]), LOPT_ERROR_INVALID_ARGUMENT);
    CHECK_MESSAGE("overlaps");
    float x[1] = {0};
    CHECK_STATUS(lopt_add_typed(t.typed, "x", (char *)t.parameter[3] + last - 1, LOPT_F16, x, LOPT_F32, NULL, 0, NULL), LOPT_ERROR_INVALID_ARGUMENT);
    CHECK_STATUS(lopt_add_typed(t.typed, "x", (char *)t.parameter[3] - 7, LOPT_F64, x, LOPT_F32, NULL, 0, NULL), LOPT_ERROR_INVALID_ARGUMENT);
    CHECK_STATUS(lopt_add_typed(t.typed, "x", x, LOPT_F32, (char *)t.parameter[3] - 1, LOPT_BF16, NULL, 0, NULL), LOPT_ERROR_INVALID_ARGUMENT);
    CHECK_OK(lopt_add_typed(t.typed, "x", (char *)t.parameter[3] + last, LOPT_BF16, x, LOPT_F32, NULL, 0, NULL));
    check_context("");
    end(&t);
}

/* Half way to the end, saved, and gone on with in another optimizer of the same type and of another. */
static void test_checkpoints_restore_between_types(const char *weights, int from, int to, uint32_t contents) {
    twin t = make(weights, from, LOPT_F32, 1), u = make(weights, to, LOPT_BF16, 2);
    check_context("%s, from %s to %s, contents %u", weights, name_of[from], name_of[to], contents);
    for (int step = 0; step < 4; step++) step_both(&t, step);
    step_both(&u, 17);
    snapshot s = snapshot_of(t.typed, contents);
    for (int i = 0; i < t.f32.count && !contents; i++) /* the caller keeps what it sees */
        memcpy(u.parameter[i], t.parameter[i], size_of[from] * (size_t)t.f32.tensors[i].elements);
    CHECK_OK(lopt_state_read(u.typed, contents, s.bytes, s.size));
    if (contents) CHECK_OK(lopt_state_read(u.plain, contents, s.bytes, s.size)), same(&u);
    for (int step = 4; step < 7; step++) {
        step_both(&t, step), set_gradients(&u, step);
        CHECK_OK(lopt_step(u.typed));
    }
    for (int i = 0; i < t.f32.count; i++) {
        for (int64_t j = 0; j < t.f32.tensors[i].elements; j++) u.f32.tensors[i].parameter[j] = t.f32.tensors[i].parameter[j];
    }
    same(&t), same(&u);
    /* All that a checkpoint has comes back to the bit. */
    snapshot first = snapshot_of(u.typed, LOPT_WITH_PARAMETERS);
    step_both(&u, 9);
    CHECK_OK(lopt_state_read(u.typed, LOPT_WITH_PARAMETERS, first.bytes, first.size));
    CHECK_SAME_STATE(u.typed, &first);
    check_context("");
    snapshot_free(&s), snapshot_free(&first);
    end(&t), end(&u);
}

/* Every number of 16 bits, read, left alone, and met by rounding from everywhere around it. */
static void test_every_number_is_converted_right(int type) {
    enum { COUNT = 65536 };
    uint16_t *all = check_memory(2 * COUNT);
    float *gradient = check_memory(4 * COUNT), *wide = check_memory(4 * COUNT);
    int64_t shape[1] = {COUNT};
    lopt_options options = some_options(1);
    lopt_optimizer *opt = problem_create("pooled", &options), *f32 = problem_create("pooled", &options);
    for (unsigned i = 0; i < COUNT; i++) all[i] = (uint16_t)i;
    CHECK_OK(lopt_add_typed(opt, "w", all, (lopt_element)type, gradient, LOPT_F32, shape, 1, NULL));
    CHECK_OK(lopt_average_get(opt, 0, wide, COUNT));
    int wrong = 0, changed = 0;
    for (unsigned i = 0; i < COUNT; i++) {
        float expected = (float)value_of_bits(type, i);
        wrong += isnan(expected) ? !isnan(wide[i]) : memcmp(&expected, &wide[i], 4) != 0;
    }
    CHECK_INT(wrong, 0);
    CHECK_OK(lopt_step(opt));
    CHECK_OK(lopt_set_lr_scale(opt, 0));
    for (unsigned i = 0; i < COUNT; i++) gradient[i] = 1;
    CHECK_OK(lopt_step(opt));
    for (unsigned i = 0; i < COUNT; i++) changed += all[i] != i;
    CHECK_INT(changed, 0);

    CHECK_OK(lopt_add_tensor(f32, "w", wide, gradient, shape, 1, NULL));
    for (int round = 0; round < check_repetitions(6, 2); round++) {
        for (unsigned i = 0; i < COUNT; i++) {
            /* Near the middle between two, at it, one f32 to either side of it, and anywhere. */
            double here = value_of_bits(type, i), next = value_of_bits(type, (i & 0x7fff) < (type == LOPT_BF16 ? 0x7f7fu : 0x7bffu) ? i + 1 : i);
            float middle = isfinite(here) ? (float)((here + next) / 2) : problem_random(1, i) * (type == LOPT_BF16 ? 3e38f : 7e4f);
            wide[i] = round == 0 ? middle : round == 1 ? nextafterf(middle, INFINITY) : round == 2 ? nextafterf(middle, -INFINITY)
                : round == 3 ? ldexpf(problem_random(2, i), (int)(i % 60) - 40) : round == 4 ? problem_random(3, i) * 7e4f : problem_random(4, i);
        }
        if (round == 0) wide[0] = 65519.996f, wide[1] = 65520, wide[2] = -65520, wide[3] = 3.4e38f, wide[4] = INFINITY, wide[5] = ldexpf(1, -25), wide[6] = nextafterf(wide[5], 1);
        snapshot s = snapshot_of(f32, LOPT_WITH_PARAMETERS);
        CHECK_OK(lopt_state_read(opt, LOPT_WITH_PARAMETERS, s.bytes, s.size));
        snapshot_free(&s);
        wrong = 0;
        for (unsigned i = 0; i < COUNT; i++) {
            unsigned expected = isinf(wide[i]) ? (type == LOPT_BF16 ? 0x7f80 : 0x7c00) | (wide[i] < 0 ? 0x8000 : 0) : nearest_bits(type, wide[i]);
            if (all[i] != expected && wrong++ < 3) check_that(0, __FILE__, __LINE__, "%s: %.9g is %04x, expected %04x (round %d)", name_of[type], wide[i], all[i], expected, round);
        }
        CHECK_INT(wrong, 0);
    }
    lopt_destroy(opt), lopt_destroy(f32);
    free(all), free(gradient), free(wide);
}

/* f64 keeps what f32 does not have until a step changes the f32; what f32 cannot hold is not finite. */
static void test_f64_keeps_its_bits_elsewhere(void) {
    double w[4] = {1.0 / 3, 1e-300, 0.7, 0.1}, before[4], g[4] = {1, 1, 1, 1};
    lopt_options options = problem_options();
    options.lr_scale = 0;
    lopt_optimizer *opt = problem_create("pooled", &options);
    CHECK_OK(lopt_add_typed(opt, "w", w, LOPT_F64, g, LOPT_F64, (int64_t[]){4}, 1, NULL));
    memcpy(before, w, sizeof w);
    CHECK_OK(lopt_step(opt));
    CHECK_BYTES(w, before, sizeof w);
    CHECK_OK(lopt_set_lr_scale(opt, 1e-12));
    CHECK_OK(lopt_step(opt));
    CHECK(w[0] == before[0] && w[2] == before[2] && w[3] == before[3]); /* less than an f32 away */
    CHECK_OK(lopt_set_lr_scale(opt, 1));
    CHECK_OK(lopt_step(opt));
    for (int i = 0; i < 4; i++) CHECK(w[i] < before[i] && w[i] == (double)(float)w[i] && before[i] - w[i] < 0.5);
    memcpy(before, w, sizeof w);
    static const double bad[] = {NAN, INFINITY, 1e300, -1e39, 1.2e15};
    for (int b = 0; b < 5; b++) {
        g[1] = bad[b];
        CHECK_STATUS(lopt_step(opt), LOPT_SKIPPED_NONFINITE);
        CHECK_MESSAGE("element 1");
        lopt_gradients found = {.struct_size = sizeof found};
        CHECK_OK(lopt_inspect_gradients(opt, 0, &found));
        CHECK_INT(found.nonfinite, 1);
        CHECK_BYTES(w, before, sizeof w);
    }
    lopt_destroy(opt);
    uint16_t h[2] = {0x3c00, 0x3c00}, d[2] = {0x3c00, 0x7c00};
    opt = problem_create("pooled", &options);
    CHECK_OK(lopt_add_typed(opt, "w", h, LOPT_F16, d, LOPT_F16, (int64_t[]){2}, 1, NULL));
    CHECK_STATUS(lopt_step(opt), LOPT_SKIPPED_NONFINITE);
    CHECK(h[0] == 0x3c00 && h[1] == 0x3c00);
    lopt_destroy(opt);
}

int main(void) {
    for (int p = 0; p < TYPES; p++) {
        for (int g = 0; g < TYPES; g++) is_large = p == g, test_types_step_as_f32_rounded("pooled", p, g, 1 + (p + g) % 3);
        test_memory_that_moves_is_taken_in_and_written(p);
    }
    is_large = 0;
    for (int from = 0; from < TYPES; from++) {
        for (int to = 0; to < TYPES; to++) test_checkpoints_restore_between_types("pooled", from, to, LOPT_WITH_PARAMETERS);
        test_checkpoints_restore_between_types("pooled", from, from, 0);
    }
    static const char *others[] = {"star", "star-authors-rule", "made pooled"};
    for (int w = 0; w < 3; w++) {
        test_types_step_as_f32_rounded(others[w], LOPT_BF16, LOPT_F16, 1), test_types_step_as_f32_rounded(others[w], LOPT_F64, LOPT_F64, 2);
        test_types_step_as_f32_rounded(others[w], LOPT_F16, LOPT_F32, 2);
        test_checkpoints_restore_between_types(others[w], LOPT_F16, LOPT_F16, 0);
    }
    is_large = 1;
    test_types_step_as_f32_rounded("star", LOPT_F16, LOPT_F64, 2);
    test_every_number_is_converted_right(LOPT_BF16), test_every_number_is_converted_right(LOPT_F16);
    test_f64_keeps_its_bits_elsewhere();
    return check_end();
}
