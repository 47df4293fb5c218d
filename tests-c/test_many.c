/* Many tensors, in any order, keep their numbers, names and memory. What that costs is counted in tests-c/counted. */
#include "problem.h"

/* Numbers 0 to n - 1 in an order without any pattern that matters. */
static int64_t shuffled(int64_t i, int64_t n) { return (i * 48271 + 11) % n; }

static void name_of(char *name, int64_t i) { snprintf(name, 64, "blocks.%lld.attention.weight", (long long)i); }

int main(void) {
    int64_t n = check_repetitions(20000, 2000);
    enum { EACH = 3 };
    float *parameters = check_memory(4 * EACH * (size_t)n), *gradients = check_memory(4 * EACH * (size_t)n);
    lopt_binding *bindings = check_memory(sizeof *bindings * (size_t)n);
    lopt_options options = problem_options();
    lopt_optimizer *opt, *other;
    char name[64];
    CHECK_OK(lopt_create(NULL, &options, &opt));
    CHECK_OK(lopt_create(NULL, &options, &other));

    /* Names and memory in order in the one, in none in the other. */
    for (int64_t i = 0; i < n; i++) {
        int64_t j = shuffled(i, n);
        int32_t index = -1;
        name_of(name, i);
        lopt_status status = lopt_add_tensor(opt, name, parameters + EACH * i, gradients + EACH * i, (int64_t[]){EACH}, 1, &index);
        if (!CHECK_OK(status)) return check_end();
        CHECK_INT(index, i);
        name_of(name, j);
        CHECK_OK(lopt_add_tensor(other, name, NULL, NULL, (int64_t[]){EACH}, 1, NULL));
        bindings[i] = (lopt_binding){(int32_t)j, parameters + EACH * ((j + 1) % n), gradients + EACH * i};
    }
    for (int64_t i = 0; i < n; i++) {
        name_of(name, shuffled(i, n));
        check_context("tensor %d", (int)i);
        CHECK_STATUS(lopt_add_tensor(other, name, NULL, NULL, NULL, 0, NULL), LOPT_ERROR_INVALID_ARGUMENT);
        float *taken = parameters + EACH * i + i % EACH;
        CHECK_STATUS(lopt_add_tensor(opt, "new", taken, gradients, NULL, 0, NULL), LOPT_ERROR_INVALID_ARGUMENT);
        CHECK_STATUS(lopt_bind(opt, 0, parameters, taken), LOPT_ERROR_INVALID_ARGUMENT);
    }
    check_context("");
    for (int64_t i = 0; i < EACH * n; i++) gradients[i] = problem_random(1, (uint64_t)i);
    CHECK_OK(lopt_step(opt));
    for (int64_t i = 0; i < n; i++) {
        int64_t j = shuffled(i, n);
        CHECK_OK(lopt_bind(opt, (int32_t)j, parameters + EACH * j, gradients + EACH * ((j + 1) % n)));
        CHECK_OK(lopt_bind(other, (int32_t)j, parameters + EACH * i, gradients + EACH * i));
    }
    /* All at once, each to where another one is; then all but one, which comes to lie where the last has stayed. */
    CHECK_OK(lopt_bind_many(opt, (int32_t)n, bindings));
    for (int64_t i = 0; i < n; i++) bindings[i].parameter = parameters + EACH * bindings[i].index;
    CHECK_STATUS(lopt_bind_many(opt, (int32_t)n - 1, bindings), LOPT_ERROR_INVALID_ARGUMENT);
    CHECK_OK(lopt_bind_many(opt, (int32_t)n, bindings));
    CHECK_OK(lopt_step(opt));

    /* Restoring finds each by its name, in the order in which they are in the checkpoint and in another. */
    snapshot state = snapshot_of(opt, 0);
    CHECK_OK(lopt_step(opt));
    CHECK_OK(lopt_state_read(opt, 0, state.bytes, state.size));
    snapshot again = snapshot_of(opt, 0);
    CHECK_INT(again.size, state.size);
    CHECK_BYTES(again.bytes, state.bytes, state.size);
    CHECK_OK(lopt_state_read(other, 0, state.bytes, state.size));
    lopt_statistics statistics = {.struct_size = sizeof statistics};
    for (int64_t i = 0; i < n; i += 997) {
        CHECK_OK(lopt_stats(other, (int32_t)i, &statistics));
        CHECK_INT(statistics.steps, 2);
    }
    snapshot_free(&state), snapshot_free(&again);
    lopt_destroy(opt), lopt_destroy(other);
    free(parameters), free(gradients), free(bindings);
    return check_end();
}
