/* What gradients and parameters may do without wrecking a tensor, with the built-in weights: gradients that vanish, come now and
 * then, come to a few rows, are tiny for long, or spike in one element; parameters that are not finite, masks, offsets; extents
 * of 1. Bounds are those of a plain Adam at the best of seven rates on the same gradients, or the start. */
#include "problem.h"

enum { RATES = 7 };

/* ---- Patterns ------------------------------------------------------------------------------------------------------ */

typedef enum pattern { VANISHES, NOW_AND_THEN, TINY_BETWEEN, ROWS, PATTERNS } pattern;
static const char *const pattern_names[] = {"vanishes", "one step in 50", "times 1e-3 but one step in 50", "one row in 100"};

typedef struct run {
    int64_t shape[2];
    int32_t rank;
    double scale; /* of the gradient */
    pattern pattern;
    int warm, steps;
} run;

static const double targets[13] = {-0.3, 0.05, -0.25, 0.1, -0.2, 0.15, -0.15, 0.2, -0.1, 0.25, -0.05, 0.3, 0};

static double size_in(const run *r, int64_t step, int64_t row) {
    if (r->pattern == ROWS) return problem_random(9 + (uint64_t)step, (uint64_t)row) > 1 - 2.0f / 100;
    if (step < r->warm || (r->pattern != VANISHES && step % 50 == 0)) return 1;
    return r->pattern == TINY_BETWEEN ? 1e-3 : 0;
}

/* A quadratic with noise: returns the distance to its optimum. */
static double gradients(const run *r, int64_t step, const float *w, float *g, int64_t count) {
    int64_t columns = r->rank < 2 ? 1 : r->shape[1];
    double distance = 0;
    int t = 0;
    for (int64_t i = 0; i < count;) {
        double size = size_in(r, step, i / columns);
        for (int64_t end = i + columns; i < end; i++) {
            double away = w[i] - targets[t];
            double noise = size > 0 ? 0.1 * problem_random(1000 + (uint64_t)step, (uint64_t)i) : 0;
            g[i] = (float)(r->scale * size * (away + noise));
            distance += away * away;
            t = t == 12 ? 0 : t + 1;
        }
    }
    return sqrt(distance / (double)count);
}

static const char *const bounded[] = {"pooled", "star"};
static const char *weights_name;

/* The largest distance to the optimum from the end of the warm-up on; *start: at first, *warm: then. rate 0: lopt. */
static double worst_distance(const run *r, double rate, double *start, double *warm) {
    int64_t count = r->rank < 2 ? r->shape[0] : r->shape[0] * r->shape[1];
    float *memory = check_memory(16 * (size_t)count), *w = memory, *g = w + count, *m = g + count, *v = m + count;
    double worst = 0, power1 = 1, power2 = 1;
    lopt_options options = problem_options();
    lopt_optimizer *opt = rate == 0 ? problem_create(weights_name, &options) : NULL;
    for (int64_t i = 0; i < count; i++) w[i] = 0.5f * problem_random(3, (uint64_t)i), m[i] = v[i] = 0;
    if (opt) CHECK_OK(lopt_add_tensor(opt, "w", w, g, r->shape, r->rank, NULL));
    for (int step = 0; step <= r->steps; step++) {
        double distance = gradients(r, step, w, g, count);
        if (step == 0) *start = distance;
        if (step == r->warm) *warm = distance;
        if (step >= r->warm && !(distance <= worst)) worst = distance;
        if (opt) {
            CHECK_OK(lopt_step(opt));
            continue;
        }
        power1 *= 0.9, power2 *= 0.999;
        const float size = (float)(rate / (1 - power1)), unbiased = (float)(1 / (1 - power2));
        for (int64_t i = 0; i < count; i++) {
            m[i] = 0.9f * m[i] + 0.1f * g[i], v[i] = 0.999f * v[i] + 0.001f * g[i] * g[i];
            if (fabsf(m[i]) < 1e-30f) m[i] = 0; /* denormal numbers take ten times as long */
            w[i] -= size * m[i] / (sqrtf(v[i] * unbiased) + 1e-8f);
        }
    }
    lopt_destroy(opt);
    free(memory);
    return worst;
}

static void test_rare_gradients_leave_no_tensor_far_off(void) {
    static const struct { int64_t shape[2]; int32_t rank; } tensors[] = {{{3, 1}, 1}, {{64, 1}, 1}, {{64, 16}, 2}, {{400, 8}, 2}};
    static const double scales[] = {1, 1e-3, 1e-6};
    static const int lengths[] = {300, 2000};
    const int fewer = check_repetitions(1, 0) == 0 || check_mode("sanitize");
    for (int t = 0; t < (fewer ? 2 : 4); t++) {
        for (int c = 0; c < 3 * PATTERNS * 2; c++) {
            run r = {{tensors[t].shape[0], tensors[t].shape[1]}, tensors[t].rank, scales[c % 3], c / 3 % PATTERNS, 0, 0};
            r.warm = r.pattern == ROWS ? 0 : 200, r.steps = lengths[c / (3 * PATTERNS)];
            double start, warm, ignored, best = INFINITY;
            for (int i = 0; i < RATES; i++) best = fmin(best, worst_distance(&r, 1e-4 * pow(10, 0.5 * i), &start, &ignored));
            for (int i = 0; i < 2; i++) {
                weights_name = bounded[i];
                double found = worst_distance(&r, 0, &start, &warm);
                check_context("%s, [%d, %d], gradient %s, scale %g, %d steps", weights_name, (int)r.shape[0], (int)r.shape[1],
                              pattern_names[r.pattern], r.scale, r.steps);
                double bound = 2 * fmax(best, warm);
                if (r.pattern == VANISHES) bound = warm; /* it stays where it was */
                if (i == 1) { /* star */
                    if (r.pattern == ROWS) bound = 1.001 * start;
                    /* Gradients that are tiny for long still move these weights more than Adam: no farther than where they came from,
                     * and where the features' 1e-6 hides the gradient four times as far (docs/guarantees.md, what is left). */
                    if (r.pattern == TINY_BETWEEN) bound = r.scale < 1e-3 ? 4 * start : start;
                } else {
                    if (r.pattern == ROWS) bound = 1.1 * start; /* a row goes on for some forty steps after its gradient */
                    if (r.pattern == TINY_BETWEEN) bound *= 1.5; /* 1.2 times it with three elements */
                }
                check_that(found <= bound, __FILE__, __LINE__, "distance %g, bound %g, start %g", found, bound, start);
            }
        }
    }
    check_context("");
}

/* One element of the gradient is 1e3 to 1e12 times as large in one step: the others end where they end without it, twice as far
 * at most. */
static void test_spike_leaves_the_other_elements(void) {
    double plain = 0;
    for (double spike = 1; spike < 1e13; spike *= 1e3) {
        float w[256], g[256];
        double worst = 0;
        lopt_options options = problem_options();
        lopt_optimizer *opt = problem_create(weights_name, &options);
        for (int i = 0; i < 256; i++) w[i] = 0.1f * problem_random(1, (uint64_t)i);
        CHECK_OK(lopt_add_tensor(opt, "w", w, g, (int64_t[]){16, 16}, 2, NULL));
        for (int step = 1; step <= 600; step++) {
            double error = 0;
            for (int i = 0; i < 256; i++) {
                double away = w[i] - (i % 7 - 3);
                if (i > 0) error += fabs(away) / 255;
                g[i] = (float)((away + 0.3 * problem_random(2 + (uint64_t)step, (uint64_t)i)) / 256);
            }
            if (step > 301 && error > worst) worst = error;
            if (step == 300) g[0] *= (float)spike;
            CHECK_OK(lopt_step(opt));
        }
        if (spike == 1) plain = worst;
        check_that(worst <= 2 * plain, __FILE__, __LINE__, "%s: error %g after a spike of %g, %g without", weights_name, worst, spike, plain);
        lopt_destroy(opt);
    }
}

/* ---- Parameters ---------------------------------------------------------------------------------------------------- */

/* One parameter that is not finite, or a mask that never gets a gradient: the other elements make the steps that they make
 * without it, within a few per cent; it is counted and left alone. */
static void test_strange_parameter_leaves_the_other_elements(const char *name) {
    static const float strange[] = {NAN, -NAN, INFINITY, -INFINITY, -1e4f, -1e9f, 3e38f};
    for (int c = 0; c < 7 * 4; c++) {
        float value = strange[c % 7], w[2][96], g[2][96];
        int with_gradient = c / 7 % 2, is_finite = isfinite(value);
        int64_t shape[] = {8, 12}, flat = 96;
        double moved = 0, difference = 0;
        lopt_options options = problem_options();
        lopt_weights *weights;
        if (is_finite && (with_gradient || strcmp(name, "star-authors-rule") == 0)) continue;
        options.max_update_ratio = c / 14 ? 10 : 0;
        CHECK_OK(lopt_weights_builtin(name, NULL, &weights));
        for (int k = 0; k < 2; k++) {
            lopt_optimizer *opt;
            for (int i = 0; i < 96; i++) w[k][i] = 0.5f * problem_random(1, (uint64_t)i);
            if (k) w[k][5] = value;
            CHECK_OK(lopt_create(weights, &options, &opt));
            CHECK_OK(lopt_add_tensor(opt, "w", w[k], g[k], c / 14 ? &flat : shape, c / 14 ? 1 : 2, NULL));
            for (int step = 0; step < 10; step++) {
                for (int i = 0; i < 96; i++) g[k][i] = 0.1f + 0.1f * problem_random(2 + (uint64_t)step, (uint64_t)i);
                if (!with_gradient) g[k][5] = 0;
                CHECK_OK(lopt_step(opt));
            }
            lopt_statistics s = {.struct_size = sizeof s};
            CHECK_OK(lopt_stats(opt, 0, &s));
            check_context("%s, parameter %g %s gradient", name, (double)value, with_gradient ? "with" : "without");
            CHECK_INT(s.nonfinite_parameters, k && !is_finite);
            CHECK(isfinite(s.parameter_rms) || is_finite);
            lopt_destroy(opt);
        }
        for (int i = 0; i < 96; i++) {
            if (i == 5) continue;
            moved = fmax(moved, fabs(w[0][i] - 0.5f * problem_random(1, (uint64_t)i)));
            difference = fmax(difference, fabs(w[1][i] - w[0][i]));
            CHECK(isfinite(w[1][i]));
        }
        CHECK_NEAR(difference / moved, 0, 0.05);
        if (!with_gradient) CHECK_BYTES(&w[1][5], &value, 4);
        lopt_weights_free(weights);
    }
    check_context("");
}

/* Parameters near an offset that must move by 1: the way there is never farther than twice the start. */
static void test_offset_leads_no_parameter_astray(void) {
    for (double offset = 0; offset <= 1e6; offset = offset > 0 ? 10 * offset : 1) {
        for (int32_t rank = 1; rank <= 2; rank++) {
            float w[64], g[64];
            double first = 0, worst = 0, last = 0;
            lopt_options options = problem_options();
            lopt_optimizer *opt = problem_create(weights_name, &options);
            for (int i = 0; i < 64; i++) w[i] = (float)(offset + 0.1 * problem_random(1, (uint64_t)i));
            CHECK_OK(lopt_add_tensor(opt, "w", w, g, rank == 1 ? (int64_t[]){64} : (int64_t[]){8, 8}, rank, NULL));
            for (int step = 0; step <= 1000; step++) {
                last = 0;
                for (int i = 0; i < 64; i++) {
                    double away = w[i] - (offset + 0.1 * problem_random(2, (uint64_t)i) + 1);
                    g[i] = (float)(away / 64), last += fabs(away) / 64;
                }
                if (step == 0) first = last;
                worst = fmax(worst, last);
                CHECK_OK(lopt_step(opt));
            }
            check_context("%s, offset %g, rank %d", weights_name, offset, (int)rank);
            CHECK(worst <= 2 * first && last < 0.1);
            lopt_destroy(opt);
        }
    }
    check_context("");
}

/* ---- Shapes -------------------------------------------------------------------------------------------------------- */

/* Extents of 1 change nothing: a bias as [64, 1] steps as [64] does, [1, 8, 8] as [8, 8]. */
static void test_extents_of_one_change_nothing(void) {
    static const struct { int64_t shape[4]; int32_t rank, like; } tensors[] = {
        {{64}, 1, 0}, {{64, 1}, 2, 0}, {{1, 64}, 2, 0}, {{1, 1, 1, 64}, 4, 0}, {{64, 1, 1, 1}, 4, 0},
        {{8, 8}, 2, 5}, {{1, 8, 8}, 3, 5}, {{8, 1, 8}, 3, 5}, {{8, 8, 1, 1}, 4, 5},
    };
    float w[9][64], g[64];
    for (int t = 0; t < 9; t++) {
        lopt_options options = problem_options();
        lopt_optimizer *opt = problem_create(weights_name, &options);
        for (int i = 0; i < 64; i++) w[t][i] = 0.1f * problem_random(1, (uint64_t)i);
        CHECK_OK(lopt_add_tensor(opt, "w", w[t], g, tensors[t].shape, tensors[t].rank, NULL));
        for (int step = 0; step < 30; step++) {
            for (int i = 0; i < 64; i++) {
                g[i] = (w[t][i] - (float)(i % 5) + 0.1f * problem_random(2 + (uint64_t)step, (uint64_t)i)) / 64;
            }
            CHECK_OK(lopt_step(opt));
        }
        double worst = 0;
        for (int i = 0; i < 64; i++) worst = fmax(worst, fabs(w[t][i] - w[tensors[t].like][i]));
        check_context("%s, tensor %d", weights_name, t);
        CHECK_NEAR(worst, 0, 1e-5); /* of up to 1.2; sums are taken in another order */
        lopt_destroy(opt);
    }
    check_context("");
}

int main(void) {
    test_rare_gradients_leave_no_tensor_far_off();
    for (int i = 0; i < 2; i++) {
        weights_name = bounded[i];
        test_spike_leaves_the_other_elements();
        test_strange_parameter_leaves_the_other_elements(weights_name);
        test_offset_leads_no_parameter_astray();
        test_extents_of_one_change_nothing();
    }
    test_strange_parameter_leaves_the_other_elements("star-authors-rule");
    return check_end();
}
