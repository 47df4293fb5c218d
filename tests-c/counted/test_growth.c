/* What calls cost as tensors become many: n log n, as lopt.h says. Counted are the comparisons of the library's core, which the
 * library made with SANITIZE=fuzzer reports one by one, so that nothing depends on how busy the machine is. */
#include "problem.h"

/* ---- Counting: what libFuzzer would be told ------------------------------------------------------------------------ */

static int64_t comparisons;

#define COUNTED(type, bits)                                                                   \
    void __sanitizer_cov_trace_cmp##bits(type a, type b);                                     \
    void __sanitizer_cov_trace_const_cmp##bits(type a, type b);                               \
    void __sanitizer_cov_trace_cmp##bits(type a, type b) { (void)a, (void)b, comparisons++; } \
    void __sanitizer_cov_trace_const_cmp##bits(type a, type b) { (void)a, (void)b, comparisons++; }
COUNTED(uint8_t, 1)
COUNTED(uint16_t, 2)
COUNTED(uint32_t, 4)
COUNTED(uint64_t, 8)
void __sanitizer_cov_trace_switch(uint64_t value, uint64_t *cases);
void __sanitizer_cov_trace_switch(uint64_t value, uint64_t *cases) { (void)value, (void)cases, comparisons++; }
void __sanitizer_cov_trace_pc_indir(uintptr_t callee);
void __sanitizer_cov_trace_pc_indir(uintptr_t callee) { (void)callee; }
void __sanitizer_cov_8bit_counters_init(char *start, char *end);
void __sanitizer_cov_8bit_counters_init(char *start, char *end) { (void)start, (void)end; }
void __sanitizer_cov_pcs_init(const uintptr_t *start, const uintptr_t *end);
void __sanitizer_cov_pcs_init(const uintptr_t *start, const uintptr_t *end) { (void)start, (void)end; }

/* ---- The calls ----------------------------------------------------------------------------------------------------- */

enum { ADD, ADD_SHUFFLED, ADD_FLAT, REFUSE, STEP, STEP_WITH, BIND, BIND_MANY, STATE, STATE_SHUFFLED, KINDS };
static const char *const kinds[KINDS] = {
    "lopt_add_tensor in order", "lopt_add_tensor in no order", "lopt_add_flat", "names that are there, memory that is taken",
    "lopt_step", "lopt_step_with", "lopt_bind", "lopt_bind_many", "lopt_state_read in order", "lopt_state_read in another order"};
enum { EACH = 3 };

/* Numbers 0 to n - 1 in an order without any pattern that matters. */
static int64_t shuffled(int64_t i, int64_t n) { return (i * 48271 + 11) % n; }
static void name_of(char *name, int64_t i) { snprintf(name, 64, "blocks.%lld.attention.weight", (long long)i); }

static void count(int64_t n, int64_t found[KINDS]) {
    size_t count = (size_t)n;
    float *p = check_memory(4 * EACH * count), *g = check_memory(4 * EACH * count);
    float **parameters = check_memory(sizeof *parameters * count), **gradients = check_memory(sizeof *gradients * count);
    lopt_binding *bindings = check_memory(sizeof *bindings * count);
    lopt_flat_entry *table = check_memory(sizeof *table * count);
    char (*names)[64] = check_memory(64 * count);
    lopt_options options = problem_options();
    lopt_optimizer *opt, *other, *flat;
    options.threads = 1;
    CHECK_OK(lopt_create(NULL, &options, &opt)), CHECK_OK(lopt_create(NULL, &options, &other));
    CHECK_OK(lopt_create(NULL, &options, &flat));
    for (int64_t i = 0; i < EACH * n; i++) g[i] = problem_random(1, (uint64_t)i);
    for (int64_t i = 0; i < n; i++) {
        name_of(names[i], i);
        int64_t j = shuffled(i, n), moved = (j + 1) % n;
        parameters[i] = p + EACH * j, gradients[i] = g + EACH * i;
        bindings[i] = (lopt_binding){(int32_t)j, p + EACH * moved, g + EACH * i};
        table[i] = (lopt_flat_entry){names[i], EACH * j, 1, {EACH}};
    }
#define ONCE(kind, call) found[kind] = -comparisons, CHECK_OK(call), found[kind] += comparisons
#define EACH_TIME(kind, body) found[kind] = -comparisons; for (int64_t i = 0; i < n; i++) { body; } found[kind] += comparisons
    EACH_TIME(ADD, CHECK_OK(lopt_add_tensor(opt, names[i], p + EACH * i, g + EACH * i, (int64_t[]){EACH}, 1, NULL)));
    EACH_TIME(ADD_SHUFFLED, const char *name = names[shuffled(i, n)];
              CHECK_OK(lopt_add_tensor(other, name, parameters[i], gradients[i], (int64_t[]){EACH}, 1, NULL)));
    ONCE(ADD_FLAT, lopt_add_flat(flat, p, g, table, (int32_t)n));
    EACH_TIME(REFUSE, CHECK_STATUS(lopt_add_tensor(other, names[i], NULL, NULL, NULL, 0, NULL), LOPT_ERROR_INVALID_ARGUMENT);
              CHECK_STATUS(lopt_bind(opt, 0, p, p + EACH * i), LOPT_ERROR_INVALID_ARGUMENT));
    ONCE(STEP, lopt_step(opt));
    ONCE(STEP_WITH, lopt_step_with(opt, (int32_t)n, parameters, gradients));
    EACH_TIME(BIND, CHECK_OK(lopt_bind(other, (int32_t)i, parameters[i], gradients[n - 1 - i])));
    ONCE(BIND_MANY, lopt_bind_many(opt, (int32_t)n, bindings));
    snapshot state = snapshot_of(opt, 0);
    ONCE(STATE, lopt_state_read(opt, 0, state.bytes, state.size));
    ONCE(STATE_SHUFFLED, lopt_state_read(other, 0, state.bytes, state.size));
    snapshot_free(&state);
    lopt_destroy(opt), lopt_destroy(other), lopt_destroy(flat);
    free(p), free(g), free(parameters), free(gradients), free(bindings), free(table), free(names);
}

/* Four times as many tensors cost 4.7 times as much if the costs are n log n, and 16 times if they are n^2. */
static void test_cost_grows_as_n_log_n(void) {
    int64_t few[KINDS], many[KINDS];
    count(2000, few), count(8000, many);
    for (int kind = 0; kind < KINDS; kind++) {
        double ratio = (double)many[kind] / (double)few[kind];
        printf("%s: %.1f comparisons a tensor of 2000, %.1f of 8000\n", kinds[kind], few[kind] / 2000.0, many[kind] / 8000.0);
        check_context("%s", kinds[kind]);
        CHECK(few[kind] > 2000);
        check_that(ratio < 4.8, __FILE__, __LINE__, "the cost is %.2f times as large with 4 times as many tensors", ratio);
    }
    check_context("");
}

int main(void) {
    test_cost_grows_as_n_log_n();
    return check_end();
}
