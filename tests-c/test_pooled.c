/* Weights of kind pooled through lopt.h: they know their horizon if they are told it, and keep the promises that all weights
 * keep. */
#include "weights.h"

enum { STEPS = 14 };

static lopt_weights *made(float horizon) {
    made_weights m = weights_make_pooled(horizon);
    lopt_weights *weights = weights_of(&m);
    weights_release(&m);
    return weights;
}

static lopt_optimizer *make(problem *p, const lopt_options *options, float horizon) {
    lopt_weights *weights = made(horizon);
    lopt_optimizer *opt = NULL;
    CHECK_OK(lopt_create(weights, options, &opt));
    lopt_weights_free(weights);
    problem_register(p, opt);
    return opt;
}

static void test_information_tells_of_the_horizon(void) {
    problem p;
    lopt_options options = problem_options();
    int64_t elements = 0;
    problem_small(&p);
    for (int i = 0; i < p.count; i++) elements += p.tensors[i].elements;
    options.total_steps = 77;
    lopt_optimizer *opt = make(&p, &options, 1), *without = make(&p, &options, 0);
    lopt_information i = information_of(opt);
    CHECK_INT(i.uses_total_steps, 1);
    CHECK_INT(information_of(without).uses_total_steps, 0);
    CHECK_INT(i.total_steps, 77);
    CHECK_TEXT(i.kernel, "none");
    /* Three momenta and a second moment, whatever the shape. */
    CHECK_INT(i.state_bytes, 12 * elements);
    CHECK_STATUS(lopt_set_total_steps(opt, -1), LOPT_ERROR_INVALID_ARGUMENT);
    CHECK_INT(information_of(opt).total_steps, 77);
    CHECK_OK(lopt_set_total_steps(opt, 0));
    CHECK_INT(information_of(opt).total_steps, 0);
    CHECK_OK(lopt_set_total_steps(opt, INT64_MAX));
    CHECK_INT(information_of(opt).total_steps, INT64_MAX);
    problem_train(&p, opt, 0, 2);
    /* Programs built before total_steps was among the information. */
    lopt_information older = {.struct_size = offsetof(lopt_information, total_steps), .total_steps = -5};
    CHECK_OK(lopt_info(opt, &older));
    CHECK_INT(older.uses_total_steps, 1);
    CHECK_INT(older.total_steps, -5);
    lopt_destroy(opt), lopt_destroy(without);
    problem_free(&p);
}

/* Threads, single steps in any order and AVX2 for AVX-512 change no bit. */
static void test_threads_order_and_isa_change_no_bit(void) {
    problem p;
    lopt_options options = problem_options();
    options.total_steps = 10;
    problem_large(&p);
    lopt_optimizer *opt = make(&p, &options, 1);
    problem_train(&p, opt, 0, STEPS);
    snapshot expected = snapshot_of(opt, LOPT_WITH_PARAMETERS);
    int32_t isa = information_of(opt).isa;
    for (int variant = 0; variant < 3; variant++) {
        problem q;
        problem_large(&q);
        options.threads = variant == 0 ? 3 : 1;
        options.max_isa = variant == 1 && isa == LOPT_ISA_AVX512 ? LOPT_ISA_AVX2 : 0;
        lopt_optimizer *other = make(&q, &options, 1);
        for (int64_t step = 0; step < STEPS; step++) {
            problem_gradient(&q, step);
            if (variant < 2) {
                CHECK_OK(lopt_step(other));
            } else {
                for (int i = q.count - 1; i >= 0; i--) CHECK_OK(lopt_step_tensor(other, (int32_t)((i + step) % q.count)));
            }
        }
        check_context("variant %d", variant);
        CHECK_SAME_STATE(other, &expected);
        lopt_destroy(other);
        problem_free(&q);
    }
    check_context("");
    snapshot_free(&expected);
    lopt_destroy(opt);
    problem_free(&p);
}

/* A tensor whose gradient is 0 everywhere stays bit for bit as it is, in its first step and later; when its gradients come
 * back it goes on as if nothing had been. */
static void test_idle_tensor_stays_as_it_is(void) {
    problem p, q;
    lopt_options options = problem_options();
    problem_small(&p), problem_small(&q);
    lopt_optimizer *opt = make(&p, &options, 1), *resting = make(&q, &options, 1);
    for (int64_t step = 0; step < STEPS; step++) {
        for (int rest = 0; rest < (step % 5 == 0 ? 3 : 0); rest++) {
            snapshot before = snapshot_of(resting, LOPT_WITH_PARAMETERS);
            for (int i = 0; i < q.count; i++) {
                for (int64_t j = 0; j < q.tensors[i].elements; j++) q.tensors[i].gradient[j] = rest == 1 ? -1e-42f : 0;
            }
            CHECK_OK(lopt_step(resting));
            CHECK_SAME_STATE(resting, &before);
            snapshot_free(&before);
        }
        problem_train(&p, opt, step, step + 1), problem_train(&q, resting, step, step + 1);
    }
    snapshot expected = snapshot_of(opt, LOPT_WITH_PARAMETERS);
    CHECK_SAME_STATE(resting, &expected);
    snapshot_free(&expected);
    lopt_destroy(opt), lopt_destroy(resting);
    problem_free(&p), problem_free(&q);
}

/* With the total known steps are others; past it they are those of its end. What is not known any more changes nothing. */
static void test_total_steps_change_the_steps(void) {
    static const int64_t totals[] = {0, 1000, 30};
    problem p[3], reference;
    lopt_optimizer *opt[3];
    lopt_options options = problem_options();
    problem_small(&reference);
    lopt_optimizer *start = make(&reference, &options, 1);
    problem_train(&reference, start, 0, 3);
    snapshot s = snapshot_of(start, LOPT_WITH_PARAMETERS);
    for (int i = 0; i < 3; i++) {
        problem_small(&p[i]);
        opt[i] = make(&p[i], &options, 1);
        CHECK_OK(lopt_state_read(opt[i], LOPT_WITH_PARAMETERS, s.bytes, s.size));
        CHECK_OK(lopt_set_total_steps(opt[i], totals[i]));
        problem_train(&p[i], opt[i], 3, 5);
    }
    for (int i = 0; i < 3; i++) {
        for (int j = 0; j < i; j++) CHECK(memcmp(p[i].tensors[2].parameter, p[j].tensors[2].parameter, 4 * 19 * 33) != 0);
    }
    CHECK_OK(lopt_state_read(opt[1], LOPT_WITH_PARAMETERS, s.bytes, s.size));
    CHECK_OK(lopt_set_total_steps(opt[1], 30));
    CHECK_OK(lopt_set_total_steps(opt[1], 0));
    problem_train(&p[1], opt[1], 3, 5);
    CHECK_BITS(p[1].tensors[2].parameter, p[0].tensors[2].parameter, 19 * 33);
    for (int i = 0; i < 3; i++) lopt_destroy(opt[i]), problem_free(&p[i]);
    snapshot_free(&s);
    lopt_destroy(start);
    problem_free(&reference);
}

/* The step size past the end is that at it, but for what changes with the step alone: with a step size that the horizon alone
 * decides it stays, to the bit. */
static void test_step_size_past_the_end_is_that_of_the_end(void) {
    made_weights m = weights_make_pooled(1);
    /* Behind direction, horizon_decay and horizon_step: schedule_step, statistics_decay; statistics_step is the last. */
    size_t schedule = 8 + 8 + 16 + 2 + 1, step = schedule + 11 + 57 + 40;
    for (size_t i = 0; i < 11; i++) m.data[schedule + i] = 0;
    for (size_t i = 0; i < 57; i++) m.data[step + i] = 0;
    lopt_weights *weights = weights_of(&m);
    lopt_options options = problem_options();
    lopt_optimizer *opt = NULL;
    problem p;
    double sizes[12];
    options.total_steps = 6;
    CHECK_OK(lopt_create(weights, &options, &opt));
    problem_small(&p);
    problem_register(&p, opt);
    for (int64_t t = 0; t < 12; t++) {
        lopt_statistics statistics = {.struct_size = sizeof statistics};
        problem_train(&p, opt, t, t + 1);
        CHECK_OK(lopt_stats(opt, 2, &statistics));
        sizes[t] = statistics.step_size;
    }
    for (int t = 7; t < 12; t++) CHECK(sizes[t] == sizes[6]);
    for (int t = 1; t < 7; t++) CHECK(sizes[t] != sizes[t - 1]);
    lopt_destroy(opt);
    lopt_weights_free(weights);
    weights_release(&m);
    problem_free(&p);
}

/* Resuming gives the same bits, total_steps included, wherever the training was cut. */
static void test_resuming_gives_the_same_bits(void) {
    problem p;
    lopt_options options = problem_options();
    options.total_steps = 11;
    problem_small(&p);
    lopt_optimizer *opt = make(&p, &options, 1);
    problem_train(&p, opt, 0, STEPS);
    snapshot expected = snapshot_of(opt, LOPT_WITH_PARAMETERS);
    options.total_steps = 3;
    for (int64_t cut = 0; cut <= STEPS; cut++) {
        problem q, r;
        problem_small(&q), problem_small(&r);
        lopt_optimizer *first = make(&q, &options, 1), *second = make(&r, &options, 1);
        CHECK_OK(lopt_set_total_steps(first, 11));
        problem_train(&q, first, 0, cut);
        snapshot s = snapshot_of(first, LOPT_WITH_PARAMETERS);
        CHECK_OK(lopt_state_read(second, LOPT_WITH_PARAMETERS, s.bytes, s.size));
        check_context("cut at step %d", (int)cut);
        CHECK_INT(information_of(second).total_steps, 11);
        problem_train(&r, second, cut, STEPS);
        CHECK_SAME_STATE(second, &expected);
        snapshot_free(&s);
        lopt_destroy(first), lopt_destroy(second);
        problem_free(&q), problem_free(&r);
    }
    check_context("");
    snapshot_free(&expected);
    lopt_destroy(opt);
    problem_free(&p);
}

/* Gradients that vanish, come back and have spikes: no step is larger than the guard allows, nor any without it than what the
 * weights' ranges allow. */
static void test_wild_gradients_make_no_wild_steps(void) {
    static const float sizes[] = {1, 1e-3f, 1e-30f, 1, 1e10f, 1e-6f, 1e-20f, 1e14f, 1, 1e-12f};
    for (int guarded = 0; guarded < 2; guarded++) {
        problem p;
        lopt_options options = problem_options();
        options.max_update_ratio = guarded ? 1e-3 : 0;
        problem_small(&p);
        lopt_optimizer *opt = make(&p, &options, 1);
        for (int step = 0; step < 200; step++) {
            for (int i = 0; i < p.count; i++) {
                for (int64_t j = 0; j < p.tensors[i].elements; j++) {
                    float size = sizes[step / 20] * (j == 3 && step % 7 == 0 ? 1e6f : 1);
                    p.tensors[i].gradient[j] = fminf(size, 1e15f) * problem_random((uint64_t)step, (uint64_t)j);
                }
            }
            CHECK_OK(lopt_step(opt));
            for (int i = 0; i < p.count; i++) {
                lopt_statistics s = {.struct_size = sizeof s};
                CHECK_OK(lopt_stats(opt, i, &s));
                check_context("step %d, tensor %d", step, i);
                CHECK(s.step_size >= 0.01 * exp(-3) * 0.999 && s.step_size <= 0.01 * exp(3) * 1.001);
                if (guarded) CHECK(s.update_rms <= 1.001e-3 * fmax(s.parameter_rms, 1e-3));
                /* |m_k| rsqrt(v) is at most 1 / sqrt(1 - beta) of v, 10, and so is |g| rsqrt(v). */
                CHECK(s.update_rms <= 10.5 * s.step_size);
            }
        }
        check_context("");
        lopt_destroy(opt);
        problem_free(&p);
    }
}

/* The part of a parameter that its weights' own decay takes off in a second step: with `scale`, beside none. */
static double decay_with(double scale) {
    problem p[2];
    double least = 1, most = 0;
    for (int i = 0; i < 2; i++) {
        lopt_options options = problem_options();
        problem_small(&p[i]);
        lopt_optimizer *opt = make(&p[i], &options, 1);
        problem_train(&p[i], opt, 0, 1);
        snapshot s = snapshot_of(opt, LOPT_WITH_PARAMETERS);
        lopt_destroy(opt);
        options.learned_decay_scale = i == 0 ? 0 : scale;
        opt = make(&p[i], &options, 1);
        CHECK_OK(lopt_state_read(opt, LOPT_WITH_PARAMETERS, s.bytes, s.size));
        problem_train(&p[i], opt, 1, 2);
        snapshot_free(&s);
        lopt_destroy(opt);
    }
    for (int64_t j = 0; j < p[0].tensors[2].elements; j++) {
        /* p (1 - part) - u beside p - u, of parameters that are so large that rounding does not count. */
        double without = (double)p[0].tensors[2].parameter[j], part = (without - (double)p[1].tensors[2].parameter[j]) / without;
        if (fabs(without) > 0.5) least = fmin(least, part), most = fmax(most, part);
    }
    CHECK(most - least <= 0.1 * most + 1e-6);
    for (int i = 0; i < 2; i++) problem_free(&p[i]);
    return most;
}

static void test_learned_decay_is_scaled_within_its_bounds(void) {
    double one = decay_with(1), half = decay_with(0.5), huge = decay_with(1e30);
    CHECK(one > 1e-4 && huge <= 0.11);
    CHECK(decay_with(0) == 0);
    CHECK(half >= 0.45 * one && half <= one && huge >= one);
}

/* Where a tensor stands in its network counts, but not tensors that were taken out again because lopt_add_flat failed. */
static void test_tensors_taken_out_do_not_count(void) {
    static float parameters[64], gradients[64];
    lopt_flat_entry table[5] = {
        {.name = "flat 1", .rank = 2, .shape = {4, 4}}, {.name = "flat 2", .offset = 16, .rank = 1, .shape = {4}},
        {.name = "flat 3", .offset = 20, .rank = 2, .shape = {3, 4}}, {.name = "flat 4", .offset = 32, .rank = 1, .shape = {4}},
        {.name = "flat 1", .offset = 36, .rank = 2, .shape = {2, 2}},
    };
    problem p;
    lopt_options options = problem_options();
    problem_large(&p);
    lopt_optimizer *opt = make(&p, &options, 1);
    problem_train(&p, opt, 0, 4);
    snapshot expected = snapshot_of(opt, LOPT_WITH_PARAMETERS);
    for (int at = 0; at <= p.count; at++) {
        problem q;
        lopt_weights *weights = made(1);
        lopt_optimizer *other = NULL;
        problem_large(&q);
        CHECK_OK(lopt_create(weights, &options, &other));
        lopt_weights_free(weights);
        for (int i = 0; i <= q.count; i++) {
            if (i == at) CHECK_STATUS(lopt_add_flat(other, parameters, gradients, table, 5), LOPT_ERROR_INVALID_ARGUMENT);
            if (i < q.count) CHECK_OK(problem_register_one(&q, i, other));
        }
        problem_train(&q, other, 0, 4);
        check_context("before tensor %d", at);
        CHECK_SAME_STATE(other, &expected);
        lopt_destroy(other);
        problem_free(&q);
    }
    check_context("");
    snapshot_free(&expected);
    lopt_destroy(opt);
    problem_free(&p);
}

static void refused(made_weights *m, const char *part) {
    size_t size = 0;
    lopt_weights *weights = NULL;
    void *bytes = weights_file(m->header, m->header_size, m->data, m->data_size, &size);
    CHECK_STATUS(lopt_weights_from_memory(bytes, size, NULL, &weights), LOPT_ERROR_WEIGHTS);
    CHECK_MESSAGE(part);
    CHECK(weights == NULL);
    free(bytes);
    weights_release(m);
}

static void replace(made_weights *m, const char *from, const char *to) {
    char *at = strstr(m->header, from);
    if (CHECK(at != NULL && strlen(from) == strlen(to))) memcpy(at, to, strlen(to));
}

static void test_damaged_weights_are_refused_by_name(void) {
    made_weights m = weights_make_pooled(1);
    m.data[8 + 8 + 16 + 2 + 1 + 11 + 57 + 4] = 9;
    refused(&m, "tensor 'statistics_ranges', column 4, is from 9 to 3; that is no range");
    m = weights_make_pooled(1);
    m.data[2] = NAN;
    refused(&m, "tensor 'direction', element 2");
    m = weights_make_pooled(1);
    replace(&m, "\"statistics_decay\":{\"dtype\":\"F32\",\"shape\":[3,19]", "\"statistics_decay\":{\"dtype\":\"F32\",\"shape\":[57]  ");
    refused(&m, "needs F32 [3, 19]");
    m = weights_make_pooled(1);
    replace(&m, "horizon_decay", "horizon_decoy");
    refused(&m, "there is no tensor 'horizon_decay'");
    m = weights_make_pooled(1);
    replace(&m, "[0.8, 0.95]", "[0.8]      ");
    refused(&m, "initial_momentum_decays");
    m = weights_make_pooled(1);
    replace(&m, "pooled", "pooler");
    refused(&m, "kind is 'pooler'; this library knows star, small_fc and pooled");
}

int main(void) {
    test_information_tells_of_the_horizon();
    test_threads_order_and_isa_change_no_bit();
    test_idle_tensor_stays_as_it_is();
    test_total_steps_change_the_steps();
    test_step_size_past_the_end_is_that_of_the_end();
    test_resuming_gives_the_same_bits();
    test_wild_gradients_make_no_wild_steps();
    test_tensors_taken_out_do_not_count();
    test_damaged_weights_are_refused_by_name();
    test_learned_decay_is_scaled_within_its_bounds();
    return check_end();
}
