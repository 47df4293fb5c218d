/* One network in several optimizers: each has some of the tensors, the others are elsewhere. Steps have the bits of one optimizer that
 * has all of them; checkpoints hold what an optimizer has, and go from any division of the tensors to any other. */
#include "weights.h"

enum { MOST_PARTS = 8 };

/* A division of the problem's tensors: tensor i is of part owner[i]. */
typedef struct parts {
    int count;
    const int *owner;
    lopt_optimizer *opt[MOST_PARTS];
} parts;

static lopt_options some_options(void) {
    lopt_options options = problem_options();
    options.weight_decay = 0.05, options.average = LOPT_AVERAGE_EMA, options.average_span = 5;
    options.gradient_scale = 0.75, options.total_steps = 40;
    return options;
}

static lopt_optimizer *empty_optimizer(const char *weights, const lopt_options *options) {
    problem none = {.count = 0};
    return weights_optimizer(&none, weights, options);
}

static lopt_status add_elsewhere(const problem *p, int i, lopt_optimizer *opt, int32_t *index) {
    return lopt_add_elsewhere(opt, p->tensors[i].name, p->tensors[i].shape, p->tensors[i].rank, index);
}

static parts divide(problem *p, const char *weights, const lopt_options *options, int count, const int *owner) {
    parts all = {count, owner, {NULL}};
    for (int part = 0; part < count; part++) {
        all.opt[part] = empty_optimizer(weights, options);
        for (int i = 0; i < p->count; i++) {
            int32_t index = -1;
            if (owner[i] == part) CHECK_OK(problem_register_one(p, i, all.opt[part]));
            else if (CHECK_OK(add_elsewhere(p, i, all.opt[part], &index))) CHECK_INT(index, i);
        }
    }
    return all;
}

static void step_all(parts *all, problem *p, int64_t step) {
    problem_gradient(p, step);
    for (int part = 0; part < all->count; part++) CHECK_OK(lopt_step(all->opt[part]));
}

static void destroy_all(parts *all) {
    for (int part = 0; part < all->count; part++) lopt_destroy(all->opt[part]);
}

static int same_parameters(const problem *p, const problem *q) {
    int same = 1;
    for (int i = 0; i < p->count; i++) {
        same &= memcmp(p->tensors[i].parameter, q->tensors[i].parameter, 4 * (size_t)p->tensors[i].elements) == 0;
    }
    return same;
}

static const int alone[] = {0, 1, 2, 3, 4, 5, 6}, two[] = {1, 0, 0, 1, 1, 0, 1}, three[] = {2, 1, 0, 2, 1, 2, 0},
                 one_of_four[] = {3, 3, 3, 3, 3, 3, 3};

/* ---- Steps ------------------------------------------------------------------------------------------------------- */

static void test_optimizers_that_share_a_network_give_the_bits_of_one(const char *weights, int threads, double ratio, int count, const int *owner) {
    problem p, q;
    lopt_options options = some_options();
    options.max_update_ratio = ratio, options.threads = threads;
    problem_large(&p), problem_large(&q);
    lopt_optimizer *whole = weights_optimizer(&p, weights, &options);
    parts all = divide(&q, weights, &options, count, owner);
    for (int step = 0; step < check_repetitions(30, 6); step++) {
        check_context("%s, %d threads, %d parts, step %d", weights, threads, count, step);
        problem_gradient(&p, step);
        CHECK_OK(lopt_step(whole));
        step_all(&all, &q, step);
        if (!CHECK(same_parameters(&p, &q))) break;
    }
    int64_t state_bytes = 0, parameters = 0;
    for (int part = 0; part < count; part++) {
        lopt_information i = information_of(all.opt[part]);
        int own = 0;
        state_bytes += i.state_bytes, parameters += i.parameters;
        for (int t = 0; t < q.count; t++) {
            lopt_statistics here = statistics_of(all.opt[part], t), there = statistics_of(whole, t), none = {.struct_size = sizeof none};
            CHECK_BYTES(&here, owner[t] == part ? &there : &none, sizeof here);
            own += owner[t] == part;
        }
        CHECK_INT(i.tensors, q.count), CHECK_INT(i.tensors_elsewhere, q.count - own), CHECK_INT(i.tensors_restored, 0);
    }
    /* Each state is in one place. */
    CHECK_INT(state_bytes, information_of(whole).state_bytes), CHECK_INT(parameters, information_of(whole).parameters);
    check_context("");
    lopt_destroy(whole), destroy_all(&all);
    problem_free(&p), problem_free(&q);
}

/* Without what is elsewhere they are other networks, and take other steps. */
static void test_place_in_the_network_matters(void) {
    problem p, q;
    lopt_options options = some_options();
    problem_large(&p), problem_large(&q);
    lopt_optimizer *whole = problem_optimizer(&p, "pooled", &options), *opt[7];
    for (int i = 0; i < q.count; i++) {
        opt[i] = problem_create("pooled", &options);
        CHECK_OK(problem_register_one(&q, i, opt[i]));
    }
    problem_train(&p, whole, 0, 3);
    for (int step = 0; step < 3; step++) {
        problem_gradient(&q, step);
        for (int i = 0; i < q.count; i++) CHECK_OK(lopt_step(opt[i]));
    }
    CHECK(!same_parameters(&p, &q));
    for (int i = 0; i < q.count; i++) lopt_destroy(opt[i]);
    lopt_destroy(whole), problem_free(&p), problem_free(&q);
}

/* Whatever is done to a tensor that is elsewhere, it has no memory here and takes no part. */
static void test_what_is_elsewhere_has_a_place_and_nothing_else(void) {
    problem p;
    lopt_options options = some_options();
    lopt_tensor_options tensor;
    problem_small(&p);
    lopt_optimizer *opt = problem_create("pooled", &options);
    int64_t before = information_of(opt).memory_bytes;
    CHECK_OK(lopt_add_elsewhere(opt, "gigantic", (int64_t[]){1 << 20, 1 << 20}, 2, NULL));
    CHECK(information_of(opt).memory_bytes - before < 2560);
    CHECK_INT(information_of(opt).state_bytes, 0), CHECK_INT(information_of(opt).parameters, 0);
    CHECK_OK(lopt_step(opt));
    CHECK_OK(problem_register_one(&p, 2, opt));
    problem_gradient(&p, 0);

    float *nowhere = (float *)(uintptr_t)64, *parameters[2] = {nowhere, p.tensors[2].parameter};
    float *gradients[2] = {nowhere, p.tensors[2].gradient}, out[1] = {7};
    CHECK_OK(lopt_bind(opt, 0, nowhere, nowhere));
    CHECK_OK(lopt_step(opt));
    CHECK_OK(lopt_step_tensor(opt, 0));
    CHECK_OK(lopt_step_with(opt, 2, parameters, gradients));
    parameters[0] = gradients[0] = NULL;
    CHECK_OK(lopt_step_with(opt, 2, parameters, gradients));
    CHECK_OK(lopt_tensor_options_init(&tensor, sizeof tensor));
    tensor.frozen = 1;
    CHECK_OK(lopt_set_tensor_options(opt, 0, &tensor));
    CHECK_OK(lopt_average_swap(opt)), CHECK_OK(lopt_average_swap(opt));
    CHECK_STATUS(lopt_average_get(opt, 0, out, 1), LOPT_ERROR_INVALID_ARGUMENT);
    CHECK_MESSAGE("'gigantic' is elsewhere");
    CHECK(out[0] == 7);
    CHECK_INT(statistics_of(opt, 0).steps, 0), CHECK_INT(statistics_of(opt, 1).steps, 3), CHECK_INT(statistics_of(opt, -1).steps, 3);
    p.tensors[2].gradient[3] = NAN;
    CHECK_STATUS(lopt_step(opt), LOPT_SKIPPED_NONFINITE);
    CHECK_INT(statistics_of(opt, 0).steps_skipped, 0), CHECK_INT(statistics_of(opt, 1).steps_skipped, 1);
    lopt_destroy(opt);

    /* The norm of all gradients is known to none of them. */
    options.max_gradient_norm = 1;
    opt = problem_create("pooled", &options);
    CHECK_OK(problem_register_one(&p, 2, opt));
    CHECK_STATUS(add_elsewhere(&p, 1, opt, NULL), LOPT_ERROR_INVALID_ARGUMENT);
    CHECK_MESSAGE("max_gradient_norm"), CHECK_MESSAGE("lopt_set_gradient_scale");
    CHECK_INT(information_of(opt).tensors, 1);
    lopt_destroy(opt), problem_free(&p);
}

/* ---- Checkpoints ------------------------------------------------------------------------------------------------- */

typedef struct shards {
    int count;
    snapshot of[MOST_PARTS];
} shards;

static shards save_all(const parts *all, uint32_t contents) {
    shards s = {all->count, {{0, NULL}}};
    for (int part = 0; part < all->count; part++) s.of[part] = snapshot_of(all->opt[part], contents);
    return s;
}
static void free_shards(shards *s) {
    for (int part = 0; part < s->count; part++) snapshot_free(&s->of[part]);
}

/* Everyone reads every shard, in some order; each tensor is in one of them. */
static void restore_all(parts *all, const shards *s, uint32_t contents, int tensors) {
    int restored = 0;
    for (int part = 0; part < all->count; part++) {
        int own = 0;
        for (int k = s->count - 1; k >= 0; k--) {
            CHECK_OK(lopt_state_read(all->opt[part], contents | LOPT_SHARD, s->of[k].bytes, s->of[k].size));
            own += information_of(all->opt[part]).tensors_restored;
        }
        CHECK_INT(own, tensors - information_of(all->opt[part]).tensors_elsewhere);
        restored += own;
    }
    CHECK_INT(restored, tensors);
}

/* Four steps in one division, four more in another one, from its checkpoint: those of eight in one optimizer. */
static void test_shards_restore_into_another_division(const char *weights, int from, const int *from_owner, int to, const int *to_owner) {
    problem p, q, r;
    lopt_options options = some_options();
    problem_large(&p), problem_large(&q), problem_large(&r);
    lopt_optimizer *whole = weights_optimizer(&p, weights, &options);
    parts first = divide(&q, weights, &options, from, from_owner);
    for (int step = 0; step < 4; step++) step_all(&first, &q, step);
    shards saved = save_all(&first, LOPT_WITH_PARAMETERS);
    options.weight_decay = 0, options.gradient_scale = 1, options.total_steps = 0;
    parts second = divide(&r, weights, &options, to, to_owner);
    step_all(&second, &r, 77); /* it was somewhere else */
    check_context("%s, from %d to %d", weights, from, to);
    restore_all(&second, &saved, LOPT_WITH_PARAMETERS, r.count);
    for (int step = 4; step < 8; step++) step_all(&second, &r, step);
    problem_train(&p, whole, 0, 8);
    CHECK(same_parameters(&p, &r));
    /* A checkpoint of all tensors serves any division without more said, and the one tensor that makes up a network alone. */
    snapshot all = snapshot_of(whole, LOPT_WITH_PARAMETERS);
    for (int part = 0; part < to; part++) {
        CHECK_OK(lopt_state_read(second.opt[part], LOPT_WITH_PARAMETERS, all.bytes, all.size));
        CHECK_INT(information_of(second.opt[part]).tensors_restored, r.count - information_of(second.opt[part]).tensors_elsewhere);
    }
    step_all(&second, &r, 8), problem_train(&p, whole, 8, 9);
    CHECK(same_parameters(&p, &r));
    check_context("");
    snapshot_free(&all), free_shards(&saved);
    lopt_destroy(whole), destroy_all(&first), destroy_all(&second);
    problem_free(&p), problem_free(&q), problem_free(&r);
}

static void test_shards_that_do_not_fit_are_refused(void) {
    problem p, q;
    lopt_options options = some_options();
    problem_large(&p), problem_large(&q);
    parts all = divide(&p, "pooled", &options, 2, two), other = divide(&q, "pooled", &options, 3, three);
    for (int step = 0; step < 2; step++) step_all(&all, &p, step), step_all(&other, &q, 9 + step);
    shards saved = save_all(&all, LOPT_WITH_PARAMETERS);
    snapshot before = snapshot_of(other.opt[2], LOPT_WITH_PARAMETERS);
    uint32_t contents = LOPT_WITH_PARAMETERS | LOPT_SHARD;
    unsigned char *bytes = saved.of[0].bytes;

    CHECK_OK(lopt_state_read(other.opt[2], LOPT_SHARD, before.bytes, before.size));
    CHECK_INT(information_of(other.opt[2]).tensors_restored, 3);
    /* That a tensor is missing is an error unless the caller knows of shards. */
    CHECK_STATUS(lopt_state_read(other.opt[2], LOPT_WITH_PARAMETERS, bytes, saved.of[0].size), LOPT_ERROR_MISMATCH);
    CHECK_MESSAGE("has no 'scalar/");
    bytes[saved.of[0].size - 9] ^= 1;
    CHECK_STATUS(lopt_state_read(other.opt[2], contents, bytes, saved.of[0].size), LOPT_ERROR_CHECKPOINT);
    CHECK_MESSAGE("damaged");
    bytes[saved.of[0].size - 9] ^= 1;
    CHECK_SAME_STATE(other.opt[2], &before);
    CHECK_INT(information_of(other.opt[2]).tensors_restored, 3);
    /* A tensor of no network that is known here, and one of another shape, if it is to come here. */
    lopt_optimizer *stranger = problem_create("pooled", &options);
    CHECK_OK(problem_register_one(&p, 0, stranger));
    CHECK_STATUS(lopt_state_read(stranger, contents, saved.of[1].bytes, saved.of[1].size), LOPT_ERROR_MISMATCH);
    CHECK_MESSAGE("this optimizer has not");
    CHECK_INT(information_of(stranger).tensors_restored, 0);
    lopt_destroy(stranger);
    p.tensors[5].shape[0]--;
    parts wrong = divide(&p, "pooled", &options, 2, two);
    p.tensors[5].shape[0]++;
    CHECK_STATUS(lopt_state_read(wrong.opt[0], contents, bytes, saved.of[0].size), LOPT_ERROR_MISMATCH);
    CHECK_MESSAGE("'wide/parameter'");
    CHECK_OK(lopt_state_read(wrong.opt[1], contents, bytes, saved.of[0].size));
    CHECK_INT(information_of(wrong.opt[1]).tensors_restored, 0);
    /* To be written there are no parts. */
    size_t size = 7;
    CHECK_STATUS(lopt_state_size(all.opt[0], LOPT_SHARD, &size), LOPT_ERROR_INVALID_ARGUMENT);
    CHECK_STATUS(lopt_state_write(all.opt[0], LOPT_SHARD, bytes, saved.of[0].size), LOPT_ERROR_INVALID_ARGUMENT);
    CHECK_STATUS(lopt_save(all.opt[0], "never-written", contents), LOPT_ERROR_INVALID_ARGUMENT);
    CHECK_INT(size, 7);
    snapshot_free(&before), free_shards(&saved);
    destroy_all(&all), destroy_all(&other), destroy_all(&wrong);
    problem_free(&p), problem_free(&q);
}

int main(void) {
    static const char *weights[] = {"pooled", "star", "star-authors-rule", "made pooled"};
    for (int w = 0; w < 4; w++) {
        test_optimizers_that_share_a_network_give_the_bits_of_one(weights[w], 1, 0, 7, alone);
        test_optimizers_that_share_a_network_give_the_bits_of_one(weights[w], 3, 0, 2, two);
        test_shards_restore_into_another_division(weights[w], 3, three, 2, two);
    }
    test_optimizers_that_share_a_network_give_the_bits_of_one("pooled", 2, 0.01, 4, one_of_four);
    test_optimizers_that_share_a_network_give_the_bits_of_one("star", 2, 0.01, 3, three);
    test_place_in_the_network_matters();
    test_what_is_elsewhere_has_a_place_and_nothing_else();
    test_shards_restore_into_another_division("pooled", 7, alone, 1, (int[]){0, 0, 0, 0, 0, 0, 0});
    test_shards_restore_into_another_division("pooled", 1, (int[]){0, 0, 0, 0, 0, 0, 0}, 4, one_of_four);
    test_shards_that_do_not_fit_are_refused();
    return check_end();
}
