/* Numbers at their limits: parameters and gradients of every size that f32 has, gradients of nearly zero for very long, step
 * counters as large as they get, scales that are nothing. Nothing becomes NaN that was finite, nothing becomes denormal,
 * which is slow, nothing ends. */
#define _GNU_SOURCE
#include "problem.h"

#include <float.h>

static int slow(void) { return getenv("LOPT_SLOW") != NULL; }

static int64_t steps_of(const lopt_optimizer *opt) {
    lopt_statistics s = {.struct_size = sizeof s};
    CHECK_OK(lopt_stats(opt, -1, &s));
    return s.steps;
}

static lopt_optimizer *make(const char *weights_name, problem *p, double max_update_ratio) {
    lopt_options options = problem_options();
    options.max_update_ratio = max_update_ratio;
    return problem_optimizer(p, weights_name, &options);
}

static void check_finite(const problem *p) {
    for (int i = 0; i < p->count; i++) {
        int64_t bad = 0;
        for (int64_t j = 0; j < p->tensors[i].elements; j++) bad += !isfinite(p->tensors[i].parameter[j]);
        check_that(bad == 0, __FILE__, __LINE__, "%lld of %lld parameters of '%s' are not finite", (long long)bad,
                   (long long)p->tensors[i].elements, p->tensors[i].name);
    }
}

static const char *const names[] = {"star", "star-authors-rule"};

/* Every combination of size of parameter and of gradient. A parameter of FLT_MAX may grow to infinity when the step goes
 * that way: the guard, or a gradient that points inwards, keeps it finite, and NaN it never becomes. */
static void test_sizes_of_all_kinds_make_no_nan(void) {
    static const float parameters[] = {0, 1e-45f, 1e-40f, FLT_MIN, 1e-10f, 1, 1e10f, 1e19f, 1e30f, FLT_MAX};
    static const float gradients[] = {0, 1e-45f, 1e-39f, FLT_MIN, 1e-20f, 1e-6f, 1, 1e6f, 1e12f, 0x1p50f};
    for (int w = 0; w < 2; w++) {
        for (size_t a = 0; a < sizeof parameters / sizeof *parameters; a++) {
            for (size_t b = 0; b < sizeof gradients / sizeof *gradients; b++) {
                problem p;
                problem_small(&p);
                for (int i = 0; i < p.count; i++) {
                    for (int64_t j = 0; j < p.tensors[i].elements; j++) {
                        float sign = j % 3 == 0 ? -1.0f : 1.0f;
                        p.tensors[i].parameter[j] = sign * parameters[a];
                        p.tensors[i].gradient[j] = sign * gradients[b];
                    }
                }
                lopt_optimizer *opt = make(names[w], &p, 0);
                check_context("%s, parameters %g, gradients %g", names[w], (double)parameters[a], (double)gradients[b]);
                for (int step = 0; step < 5; step++) CHECK_OK(lopt_step(opt));
                if (parameters[a] < 1e19f) check_finite(&p);
                lopt_statistics s = {.struct_size = sizeof s};
                CHECK_OK(lopt_stats(opt, -1, &s));
                CHECK(!isnan(s.gradient_rms) && !isnan(s.parameter_rms));
                for (int i = 0; i < p.count; i++) {
                    int64_t bad = 0;
                    for (int64_t j = 0; j < p.tensors[i].elements; j++) bad += isnan(p.tensors[i].parameter[j]);
                    CHECK_INT(bad, 0);
                }
                lopt_destroy(opt);
                problem_free(&p);
            }
        }
    }
    check_context("");
}

/* How many numbers of the state and the parameters are denormal: they make a step ten to a hundred times slower. */
static int64_t denormals_of(const lopt_optimizer *opt) {
    snapshot s = snapshot_of(opt, LOPT_WITH_PARAMETERS);
    const char *bytes = s.bytes;
    uint64_t header = 0;
    int64_t count = 0;
    memcpy(&header, bytes, 8);
    for (const char *at = bytes; (at = memmem(at, (size_t)(bytes + 8 + header - at), "{\"dtype\":\"F32\"", 14)); at++) {
        size_t begin = 0, end = 0;
        const char *offsets = strstr(at, "data_offsets");
        if (!CHECK(offsets && sscanf(offsets, "data_offsets\":[%zu,%zu", &begin, &end) == 2)) break;
        for (; begin < end; begin += 4) {
            uint32_t bits = 0;
            memcpy(&bits, bytes + 8 + header + begin, 4);
            count += (bits & 0x7f800000) == 0 && (bits & 0x007fffff) != 0;
        }
    }
    snapshot_free(&s);
    return count;
}

/* Gradients that are all but zero after real ones: the averages decay through all of f32 to nothing. No denormal number is
 * left on the way, and the tensor can go on. (One element is the least normal number: else the tensor would rest.) */
static void test_vanishing_gradients_leave_no_denormal(void) {
    const int steps = check_repetitions(100000, 3000);
    for (int w = 0; w < 2; w++) {
        problem p;
        problem_small(&p);
        lopt_optimizer *opt = make(names[w], &p, 0);
        problem_train(&p, opt, 0, 3);
        for (int i = 0; i < p.count; i++) {
            memset(p.tensors[i].gradient, 0, 4 * (size_t)p.tensors[i].elements);
            p.tensors[i].gradient[0] = FLT_MIN;
        }
        /* Averages that decay by 0.9 or slower pass the denormal numbers in 150 steps or more. */
        int64_t found = 0;
        for (int step = 0; step < steps; step++) {
            CHECK_OK(lopt_step(opt));
            if (step % 20 == 0) found += denormals_of(opt);
        }
        check_context("%s", names[w]);
        check_finite(&p);
        CHECK_INT(found, 0);
        CHECK_INT(steps_of(opt), 3 + steps);
        problem_train(&p, opt, 3, 20);
        check_finite(&p);
        lopt_destroy(opt);
        problem_free(&p);
    }
    check_context("");
}

/* A noisy quadratic for far longer than the weights were meta-trained on: the parameters stay bounded. */
static void test_long_training_stays_bounded(void) {
    const int64_t steps = slow() ? check_repetitions(1000000, 2000) : check_repetitions(30000, 2000);
    for (int w = 0; w < 2; w++) {
        problem p;
        memset(&p, 0, sizeof p);
        problem_add(&p, "matrix", 2, (int64_t[]){4, 5});
        problem_add(&p, "vector", 1, (int64_t[]){7});
        problem_start(&p);
        lopt_optimizer *opt = make(names[w], &p, 0);
        double worst = 0;
        for (int64_t step = 0; step < steps; step++) {
            problem_gradient(&p, step);
            if (!CHECK_OK(lopt_step(opt))) break;
            for (int i = 0; i < p.count && step % 100 == 0; i++) {
                for (int64_t j = 0; j < p.tensors[i].elements; j++) worst = fmax(worst, fabs(p.tensors[i].parameter[j]));
            }
        }
        check_context("%s, %lld steps", names[w], (long long)steps);
        check_finite(&p);
        check_that(worst < 100, __FILE__, __LINE__, "parameters that start below 0.5 reached %g", worst);
        printf("%s: %lld steps, the largest parameter on the way %.3g\n", names[w], (long long)steps, worst);
        lopt_destroy(opt);
        problem_free(&p);
    }
    check_context("");
}

/* ---- Counters ---------------------------------------------------------------------------------------------------- */

/* Puts `step` into the checkpoint as every tensor's step counter, and the checksum that the library asks for. */
static void set_steps(snapshot *s, lopt_optimizer *opt, int64_t step) {
    char *bytes = s->bytes;
    uint64_t header = 0;
    memcpy(&header, bytes, 8);
    for (char *at = bytes; (at = memmem(at, (size_t)(bytes + 8 + header - at), "/step\":", 7)); at++) {
        unsigned long begin = 0;
        char *offsets = strstr(at, "data_offsets\":[");
        if (!CHECK(offsets != NULL)) return;
        CHECK(sscanf(offsets, "data_offsets\":[%lu", &begin) == 1);
        memcpy(bytes + 8 + header + begin, &step, 8);
    }
    CHECK_STATUS(lopt_state_read(opt, LOPT_WITH_PARAMETERS, bytes, s->size), LOPT_ERROR_CHECKPOINT);
    const char *actual = strstr(lopt_last_error(), "checksum ");
    char *place = memmem(bytes, 8 + header, "\"checksum\":\"", 12);
    if (CHECK(actual && place)) memcpy(place + 12, actual + 9, 16);
}

/* Steps around the borders of i32, f32 and f64 counting: they count on, and what is saved then can be read. The features of
 * time are the same at all of them (tanh of more than 20 is 1), so that the bits of the step are. */
static void test_counters_count_on_past_every_border(void) {
    static const int64_t counts[] = {((int64_t)1 << 24) - 2, ((int64_t)1 << 31) - 2, ((int64_t)1 << 32) - 2,
                                     ((int64_t)1 << 53) - 2};
    snapshot first = {0, NULL};
    for (int w = 0; w < 2; w++) {
        for (size_t c = 0; c < sizeof counts / sizeof *counts; c++) {
            problem p;
            problem_small(&p);
            lopt_optimizer *opt = make(names[w], &p, 0);
            problem_train(&p, opt, 0, 3);
            snapshot s = snapshot_of(opt, LOPT_WITH_PARAMETERS);
            check_context("%s from step %lld", names[w], (long long)counts[c]);
            set_steps(&s, opt, counts[c]);
            CHECK_OK(lopt_state_read(opt, LOPT_WITH_PARAMETERS, s.bytes, s.size));
            CHECK_INT(steps_of(opt), counts[c]);
            for (int step = 0; step < 4; step++) {
                problem_gradient(&p, step);
                CHECK_OK(lopt_step(opt));
                snapshot now = snapshot_of(opt, LOPT_WITH_PARAMETERS);
                CHECK_OK(lopt_state_read(opt, LOPT_WITH_PARAMETERS, now.bytes, now.size));
                CHECK_SAME_STATE(opt, &now);
                snapshot_free(&now);
            }
            /* 2^53, the largest that a checkpoint holds, is not passed. */
            int64_t expected = counts[c] + 4, most = (int64_t)1 << 53;
            CHECK_INT(steps_of(opt), expected < most ? expected : most);
            snapshot_free(&s);
            s.size = 0;
            for (int i = 0; i < p.count; i++) s.size += 4 * (size_t)p.tensors[i].elements;
            float *all = s.bytes = check_memory(s.size);
            for (int i = 0; i < p.count; i++) {
                memcpy(all, p.tensors[i].parameter, 4 * (size_t)p.tensors[i].elements);
                all += p.tensors[i].elements;
            }
            if (c == 0) {
                snapshot_free(&first);
                first = s;
            } else {
                CHECK_BITS((float *)s.bytes, (float *)first.bytes, s.size / 4);
                snapshot_free(&s);
            }
            lopt_destroy(opt);
            problem_free(&p);
        }
    }
    check_context("");
    snapshot_free(&first);
}

/* ---- Scales and guards ------------------------------------------------------------------------------------------- */

static void test_scale_of_zero_moves_nothing(void) {
    static const double refused[] = {-1, -1e-300, NAN, INFINITY, -INFINITY, 1e31, DBL_MAX};
    problem p;
    problem_small(&p);
    lopt_optimizer *opt = make("star", &p, 0);
    problem_train(&p, opt, 0, 2);
    snapshot before = snapshot_of(opt, LOPT_WITH_PARAMETERS);
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        check_context("lr_scale %g", refused[i]);
        CHECK_STATUS(lopt_set_lr_scale(opt, refused[i]), LOPT_ERROR_INVALID_ARGUMENT);
        CHECK_MESSAGE("lr_scale");
        CHECK_SAME_STATE(opt, &before);
    }
    /* 0 and -0 leave parameters alone, the least denormal nearly; the largest allowed makes no NaN. */
    static const double allowed[] = {0, -0.0, 5e-324, 1e-30};
    for (size_t i = 0; i < sizeof allowed / sizeof *allowed; i++) {
        float kept = p.tensors[2].parameter[7];
        check_context("lr_scale %g", allowed[i]);
        CHECK_OK(lopt_set_lr_scale(opt, allowed[i]));
        problem_train(&p, opt, 2, 4);
        CHECK(memcmp(&kept, &p.tensors[2].parameter[7], 4) == 0);
    }
    check_context("");
    snapshot_free(&before);
    lopt_destroy(opt);
    problem_free(&p);
}

/* The guard from C: refused out of range, off by default, counted, the same after a checkpoint, and a step that would have
 * gone to infinity leaves the tensor as it is. */
static void test_guard_limits_counts_and_refuses(void) {
    static const double refused[] = {-1, NAN, INFINITY, 1e31};
    problem p, q;
    lopt_statistics s = {.struct_size = sizeof s};
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        lopt_options options = problem_options();
        lopt_optimizer *opt = NULL;
        options.max_update_ratio = refused[i];
        check_context("max_update_ratio %g", refused[i]);
        CHECK_STATUS(lopt_create(NULL, &options, &opt), LOPT_ERROR_INVALID_ARGUMENT);
        CHECK_MESSAGE("max_update_ratio");
    }
    for (int w = 0; w < 2; w++) {
        check_context("%s", names[w]);
        problem_large(&p), problem_large(&q);
        lopt_optimizer *guarded = make(names[w], &p, 1e-3), *again = make(names[w], &q, 1e-3);
        for (int step = 0; step < 4; step++) {
            problem_train(&p, guarded, step, step + 1);
            for (int i = 0; i < p.count; i++) {
                CHECK_OK(lopt_stats(guarded, i, &s));
                CHECK(s.update_rms <= 1.0001e-3 * fmax(s.parameter_rms, 1e-3));
                CHECK(s.updates_limited <= step + 1);
            }
        }
        CHECK_OK(lopt_stats(guarded, -1, &s));
        CHECK(s.updates_limited > 0);
        snapshot state = snapshot_of(guarded, LOPT_WITH_PARAMETERS);
        CHECK_OK(lopt_state_read(again, LOPT_WITH_PARAMETERS, state.bytes, state.size));
        problem_train(&p, guarded, 4, 7), problem_train(&q, again, 4, 7);
        snapshot after = snapshot_of(guarded, LOPT_WITH_PARAMETERS);
        CHECK_SAME_STATE(again, &after);
        /* At the largest scale allowed, the update still is a thousandth of the tensor. */
        CHECK_OK(lopt_set_lr_scale(guarded, 1e15));
        problem_train(&p, guarded, 7, 12);
        check_finite(&p);
        CHECK_OK(lopt_set_lr_scale(guarded, 1e30));
        problem_train(&p, guarded, 12, 16);
        check_finite(&p);
        snapshot_free(&state), snapshot_free(&after);
        lopt_destroy(guarded), lopt_destroy(again);
        problem_free(&p), problem_free(&q);
    }
    check_context("");
}

int main(void) {
    test_sizes_of_all_kinds_make_no_nan();
    test_vanishing_gradients_leave_no_denormal();
    test_long_training_stays_bounded();
    test_counters_count_on_past_every_border();
    test_scale_of_zero_moves_nothing();
    test_guard_limits_counts_and_refuses();
    return check_end();
}
