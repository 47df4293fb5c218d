/* Momenta in bf16 (momentum_type): they are the averages rounded as docs/update-rule.md says, to the bit; slow averages are kept, which
 * rounding to nearest would lose; threads, order and instruction sets change no bit; memory is what the header says. */
#include "weights.h"

/* ---- Rounding once more, by its definition ----------------------------------------------------------------------------- */

static uint32_t bits_of(float x) {
    uint32_t bits;
    memcpy(&bits, &x, 4);
    return bits;
}

/* The noise of element j of a tensor in the step after t steps, for momentum k, 0 or 1. */
static uint32_t noise(uint64_t t, uint64_t j, int k) {
    uint64_t key = t * 0x9e3779b97f4a7c15u + j / 32768 * 0xd1b54a32d192ed03u;
    key = (key ^ key >> 30) * 0xbf58476d1ce4e5b9u;
    key = (key ^ key >> 27) * 0x94d049bb133111ebu;
    uint32_t x = (uint32_t)(j % 32768) * 0x9e3779b1u + (uint32_t)(key ^ key >> 31);
    x = (x ^ x >> 14) * 0xc2b2ae35u;
    x ^= x >> 16;
    return k == 0 ? x & 0xffff : x >> 16;
}

static uint16_t rounded(float m, uint32_t noise) { return (uint16_t)((bits_of(m) + noise) >> 16); }

static float nearest(float m) {
    const uint32_t bits = (bits_of(m) + 0x7fff + (bits_of(m) >> 16 & 1)) & 0xffff0000u;
    float x;
    memcpy(&x, &bits, 4);
    return x;
}

static float of_bf16(const void *elements, int64_t i) {
    uint16_t half;
    float x;
    memcpy(&half, (const char *)elements + 2 * i, 2);
    const uint32_t bits = (uint32_t)half << 16;
    memcpy(&x, &bits, 4);
    return x;
}

/* ---- What an optimizer holds ---------------------------------------------------------------------------------------- */

/* Where the momenta of a tensor lie in a checkpoint, which has them in this type. */
static const char *momenta_in(const snapshot *s, const char *name, const char *type) {
    char entry[160], text[16384] = {0};
    const char *bytes = s->bytes;
    uint64_t header = 0;
    size_t begin = 0;
    memcpy(&header, bytes, 8);
    memcpy(text, bytes + 8, header < sizeof text ? (size_t)header : sizeof text - 1);
    snprintf(entry, sizeof entry, "\"%s/momentum\":{\"dtype\":\"%s\",", name, type);
    const char *at = strstr(text, entry);
    if (!check_that(at != NULL, __FILE__, __LINE__, "no %s in %.300s", entry, text)) exit(1);
    CHECK(sscanf(strstr(at, "data_offsets"), "data_offsets\":[%zu", &begin) == 1);
    return bytes + 8 + header + begin;
}

static lopt_options typed_options(int32_t momentum_type, int threads) {
    lopt_options options = problem_options();
    options.momentum_type = momentum_type, options.threads = threads, options.weight_decay = 0.02;
    return options;
}

static void restore(lopt_optimizer *opt, const snapshot *s) {
    CHECK_OK(lopt_state_read(opt, LOPT_WITH_PARAMETERS, s->bytes, s->size));
}

/* ---- Tests ----------------------------------------------------------------------------------------------------------- */

/* What is to be rounded is what an optimizer with f32 momenta, restored from the same numbers, has after the same step. */
static void test_momenta_are_averages_rounded_by_the_definition(const char *weights, double ratio) {
    problem p, q;
    lopt_options options = typed_options(LOPT_BF16, 2);
    options.max_update_ratio = ratio;
    problem_large(&p), problem_large(&q);
    lopt_optimizer *half = weights_optimizer(&p, weights, &options);
    options.momentum_type = LOPT_F32;
    lopt_optimizer *whole = weights_optimizer(&q, weights, &options);
    snapshot before = snapshot_of(half, LOPT_WITH_PARAMETERS);
    int64_t up = 0, inexact = 0;
    for (int64_t step = 0; step < 5; step++) {
        check_context("%s, guard %g, step %d", weights, ratio, (int)step);
        restore(whole, &before);
        problem_gradient(&p, step), problem_gradient(&q, step);
        CHECK_OK(lopt_step(half)), CHECK_OK(lopt_step(whole));
        snapshot_free(&before);
        before = snapshot_of(half, LOPT_WITH_PARAMETERS);
        snapshot plain = snapshot_of(whole, LOPT_WITH_PARAMETERS);
        for (int i = 0; i < p.count; i++) {
            const int64_t n = p.tensors[i].elements;
            const char *found = momenta_in(&before, p.tensors[i].name, "BF16"), *expected = momenta_in(&plain, p.tensors[i].name, "F32");
            for (int64_t j = 0; j < 2 * n; j++) {
                uint16_t half_bits;
                float m;
                memcpy(&half_bits, found + 2 * j, 2), memcpy(&m, expected + 4 * j, 4);
                const uint16_t right = rounded(m, noise((uint64_t)step, (uint64_t)(j % n), j >= n));
                if (half_bits != right) check_that(0, __FILE__, __LINE__, "'%s' %lld: %04x for %04x", p.tensors[i].name, (long long)j, half_bits, right);
                up += right > bits_of(m) >> 16, inexact += (bits_of(m) & 0xffff) != 0;
            }
        }
        snapshot_free(&plain);
    }
    /* As often to the one side as to the other, in the mean. */
    CHECK_NEAR((double)up / (double)inexact, 0.5, 3 / sqrt((double)inexact));
    check_context("");
    snapshot_free(&before);
    lopt_destroy(half), lopt_destroy(whole);
    problem_free(&p), problem_free(&q);
}

/* Over 20,000 steps: of each momentum the mean, and its product with the other one's, with that of other elements and of the next steps. */
static void test_noise_is_uniform_and_independent(void) {
    static const int64_t others[] = {1, 2, 3, 8, 16, 28, 64, 100, 512, 784, 1024, 10946, 32767, 32768, 65536, 1 << 20};
    enum { STEPS = 20000, OTHERS = sizeof others / sizeof *others };
    const double bound = 4.5 / sqrt(STEPS);
    double mean[2] = {0}, square[2] = {0}, halves = 0, next[2] = {0}, apart[OTHERS][4] = {{0}}, before[2] = {0};
    for (uint64_t t = 0; t < STEPS; t++) {
        double u[2]; /* of mean 0 and variance 1 */
        for (int k = 0; k < 2; k++) {
            u[k] = ((noise(t, 5, k) + 0.5) / 65536 - 0.5) * sqrt(12);
            mean[k] += u[k] / STEPS, square[k] += u[k] * u[k] / STEPS, next[k] += u[k] * before[k] / STEPS;
        }
        halves += u[0] * u[1] / STEPS;
        before[0] = u[0], before[1] = u[1];
        for (size_t i = 0; i < OTHERS; i++) {
            for (int k = 0; k < 4; k++)
                apart[i][k] += u[k / 2] * ((noise(t, 5 + (uint64_t)others[i], k % 2) + 0.5) / 65536 - 0.5) * sqrt(12) / STEPS;
        }
    }
    for (int k = 0; k < 2; k++) CHECK_NEAR(mean[k], 0, bound), CHECK_NEAR(square[k], 1, bound), CHECK_NEAR(next[k], 0, bound);
    CHECK_NEAR(halves, 0, bound);
    for (size_t i = 0; i < OTHERS; i++) {
        check_context("%d elements apart", (int)others[i]);
        for (int k = 0; k < 4; k++) CHECK_NEAR(apart[i][k], 0, bound);
    }
    check_context("");
}

/* A step goes on from what was rounded, so a pass that measures first, and a restore between any two, change no bit. */
static void test_a_guard_that_limits_nothing_changes_no_bit(void) {
    problem p, q;
    lopt_options options = typed_options(LOPT_BF16, 1);
    problem_large(&p), problem_large(&q);
    lopt_optimizer *plain = problem_optimizer(&p, "pooled", &options);
    options.max_update_ratio = 1e20;
    lopt_optimizer *guarded = problem_optimizer(&q, "pooled", &options);
    problem_train(&p, plain, 0, 6), problem_train(&q, guarded, 0, 6);
    for (int i = 0; i < p.count; i++) CHECK_BITS(q.tensors[i].parameter, p.tensors[i].parameter, p.tensors[i].elements);
    lopt_destroy(plain), lopt_destroy(guarded);
    problem_free(&p), problem_free(&q);
}

/* A small constant beside small noise, in momenta of about 19 and 1000 steps. Of both the mean over elements and the last half of the steps is
 * that of f32 momenta; rounded to nearest they would stand still short of it: that the bound would not allow. */
static void test_slow_averages_are_kept(void) {
    enum { ELEMENTS = 4096 };
    const int steps = check_repetitions(6000, 3000);
    made_weights m = weights_make_pooled_of(0, "[0.948, 0.999]", "[0.999]");
    lopt_weights *weights = weights_of(&m);
    weights_release(&m);
    problem p = {.count = 0}, q = {.count = 0};
    problem_add(&p, "a", 1, (int64_t[]){ELEMENTS}), problem_add(&q, "a", 1, (int64_t[]){ELEMENTS});
    lopt_optimizer *half = NULL, *whole = NULL;
    lopt_options options = typed_options(LOPT_BF16, 1);
    CHECK_OK(lopt_create(weights, &options, &half)), problem_register(&p, half);
    options.momentum_type = LOPT_F32;
    CHECK_OK(lopt_create(weights, &options, &whole)), problem_register(&q, whole);
    double sum[3][2] = {{0}}; /* bf16, f32, f32 rounded to nearest in each step; of the two momenta */
    float *to_nearest = check_memory(8 * ELEMENTS), *decay = check_memory(8);
    for (int step = 0; step < steps; step++) {
        for (int64_t j = 0; j < ELEMENTS; j++)
            p.tensors[0].gradient[j] = q.tensors[0].gradient[j] = 1e-3f * (1 + 0.02f * problem_random((uint64_t)step, (uint64_t)j));
        CHECK_OK(lopt_step(half)), CHECK_OK(lopt_step(whole));
        const int is_looked = step >= steps / 2 && step % 100 == 99;
        if (step > 0 && !is_looked) goto round;
        snapshot one = snapshot_of(half, 0), other = snapshot_of(whole, 0);
        const char *found = momenta_in(&one, "a", "BF16"), *expected = momenta_in(&other, "a", "F32");
        for (int64_t j = 0; j < 2 * ELEMENTS; j++) {
            float value;
            memcpy(&value, expected + 4 * j, 4);
            /* After the first step a momentum is 1 - beta of the gradient. */
            if (step == 0) decay[j / ELEMENTS] = 1 - value / p.tensors[0].gradient[j % ELEMENTS];
            if (!is_looked) continue;
            sum[0][j / ELEMENTS] += of_bf16(found, j), sum[1][j / ELEMENTS] += value, sum[2][j / ELEMENTS] += to_nearest[j];
        }
        snapshot_free(&one), snapshot_free(&other);
    round:
        for (int64_t j = 0; j < 2 * ELEMENTS; j++) {
            const float beta = decay[j / ELEMENTS];
            to_nearest[j] = nearest(beta * to_nearest[j] + (1 - beta) * p.tensors[0].gradient[j % ELEMENTS]);
        }
    }
    for (int k = 0; k < 2; k++) {
        const double bias = sum[0][k] / sum[1][k] - 1, of_nearest = sum[2][k] / sum[1][k] - 1, bound = k == 0 ? 3e-4 : 1e-3;
        check_context("momentum %d: bias %g, rounded to nearest %g", k, bias, of_nearest);
        CHECK(fabs(bias) < bound && fabs(of_nearest) > 10 * bound);
    }
    check_context("");
    free(to_nearest), free(decay);
    lopt_destroy(half), lopt_destroy(whole), lopt_weights_free(weights);
    problem_free(&p), problem_free(&q);
}

static void test_threads_order_and_instruction_set_change_no_bit(void) {
    problem p, q;
    lopt_options options = typed_options(LOPT_BF16, 1);
    problem_large(&p);
    lopt_optimizer *one = problem_optimizer(&p, "pooled", &options);
    problem_train(&p, one, 0, 8);
    /* The baseline has no fused multiply-add, and other bits. */
    const int32_t most = information_of(one).isa;
    for (int threads = 1; threads <= 3; threads++) {
        for (int32_t isa = most < LOPT_ISA_AVX2 ? most : LOPT_ISA_AVX2; isa <= most; isa++) {
            check_context("%d threads, isa %d", threads, isa);
            options.threads = threads, options.max_isa = isa;
            problem_large(&q);
            lopt_optimizer *other = problem_optimizer(&q, "pooled", &options);
            for (int64_t step = 0; step < 8; step++) {
                problem_gradient(&q, step);
                if (step % 2) CHECK_OK(lopt_step(other));
                for (int32_t i = q.count - 1; i >= 0 && step % 2 == 0; i--) CHECK_OK(lopt_step_tensor(other, i));
            }
            for (int i = 0; i < p.count; i++) CHECK_BITS(q.tensors[i].parameter, p.tensors[i].parameter, p.tensors[i].elements);
            lopt_destroy(other);
            problem_free(&q);
        }
    }
    check_context("");
    lopt_destroy(one);
    problem_free(&p);
}

/* Or decay as the caller says: with the bits of f32 momenta, which do not count then. */
static void test_idle_tensors_decay(void) {
    problem p, q;
    lopt_options options = typed_options(LOPT_BF16, 1);
    problem_large(&p), problem_large(&q);
    lopt_optimizer *half = problem_optimizer(&p, "pooled", &options);
    options.momentum_type = LOPT_F32;
    lopt_optimizer *whole = problem_optimizer(&q, "pooled", &options);
    problem_train(&p, half, 0, 6);
    snapshot s = snapshot_of(half, LOPT_WITH_PARAMETERS);
    restore(whole, &s);
    for (int i = 0; i < p.count; i++) {
        memset(p.tensors[i].gradient, 0, 4 * (size_t)p.tensors[i].elements);
        memset(q.tensors[i].gradient, 0, 4 * (size_t)p.tensors[i].elements);
    }
    for (int step = 0; step < 3; step++) CHECK_OK(lopt_step(half)), CHECK_OK(lopt_step(whole));
    for (int i = 0; i < p.count; i++) CHECK_BITS(p.tensors[i].parameter, q.tensors[i].parameter, p.tensors[i].elements);
    snapshot_free(&s);
    lopt_destroy(half), lopt_destroy(whole);
    problem_free(&p), problem_free(&q);
}

static void test_idle_tensors_stay_as_they_are(void) {
    problem p;
    lopt_options options = typed_options(LOPT_BF16, 1);
    options.weight_decay = 0;
    problem_large(&p);
    lopt_optimizer *opt = problem_optimizer(&p, "pooled", &options);
    problem_train(&p, opt, 0, 4);
    snapshot before = snapshot_of(opt, LOPT_WITH_PARAMETERS);
    for (int i = 0; i < p.count; i++) memset(p.tensors[i].gradient, 0, 4 * (size_t)p.tensors[i].elements);
    for (int step = 0; step < 3; step++) CHECK_OK(lopt_step(opt));
    CHECK_SAME_STATE(opt, &before);
    snapshot_free(&before);
    lopt_destroy(opt);
    problem_free(&p);
}

/* 8 bytes a parameter in place of 12; of flat buffers too, and beside averages and a master copy. */
static void test_memory_is_what_the_header_says(void) {
    static const lopt_element types[] = {LOPT_F32, LOPT_BF16};
    for (int t = 0; t < 2; t++) {
        for (int32_t average = 0; average < 2; average++) {
            lopt_information found[2];
            for (int k = 0; k < 2; k++) {
                lopt_options options = typed_options(k ? LOPT_BF16 : LOPT_F32, 1);
                lopt_optimizer *opt = NULL;
                options.average = average ? LOPT_AVERAGE_EMA : LOPT_AVERAGE_NONE;
                CHECK_OK(lopt_create(NULL, &options, &opt));
                const lopt_flat_entry table[] = {{"a", 0, 2, {301, 333}}, {"b", 301 * 333, 1, {77}}};
                CHECK_OK(lopt_add_flat_typed(opt, NULL, types[t], NULL, LOPT_F32, table, 2));
                CHECK_OK(lopt_add_elsewhere(opt, "c", (int64_t[]){1000, 1000}, 2, NULL));
                found[k] = information_of(opt);
                lopt_destroy(opt);
            }
            const int64_t n = 301 * 333 + 77;
            CHECK_INT(found[0].state_bytes, (12 + 4 * average + 4 * t) * n);
            CHECK_INT(found[1].state_bytes, (8 + 4 * average + 4 * t) * n);
            const int64_t saved = found[0].memory_bytes - found[1].memory_bytes;
            CHECK(saved >= 4 * n && saved <= 4 * n + 2048);
        }
    }
}

static void test_other_kinds_refuse_and_say_so(void) {
    static const char *const names[] = {"star", "star-authors-rule"};
    for (int i = 0; i < 2; i++) {
        lopt_weights *weights = NULL;
        lopt_optimizer *opt = NULL;
        lopt_options options = typed_options(LOPT_BF16, 1);
        CHECK_OK(lopt_weights_builtin(names[i], NULL, &weights));
        CHECK_STATUS(lopt_create(weights, &options, &opt), LOPT_ERROR_INVALID_ARGUMENT);
        CHECK_MESSAGE("momentum_type"), CHECK_MESSAGE("pooled");
        CHECK(opt == NULL);
        lopt_weights_free(weights);
    }
}

int main(void) {
    test_noise_is_uniform_and_independent();
    test_momenta_are_averages_rounded_by_the_definition("pooled", 0);
    test_momenta_are_averages_rounded_by_the_definition("pooled", 1e-3);
    test_momenta_are_averages_rounded_by_the_definition("made pooled", 0);
    test_a_guard_that_limits_nothing_changes_no_bit();
    test_slow_averages_are_kept();
    test_threads_order_and_instruction_set_change_no_bit();
    test_idle_tensors_decay();
    test_idle_tensors_stay_as_they_are();
    test_memory_is_what_the_header_says();
    test_other_kinds_refuse_and_say_so();
    return check_end();
}
