/* Where the memory of tensors may be: they can take each other's, what has been read is free, what is not there yet is said
 * when it is needed. A call that refuses leaves everything where it was. */
#include "problem.h"

enum { N = 24 };

static lopt_optimizer *make(void) {
    lopt_options options = problem_options();
    lopt_optimizer *opt;
    CHECK_OK(lopt_create(NULL, &options, &opt));
    return opt;
}

static void add(lopt_optimizer *opt, const char *name, float *parameter, const float *gradient) {
    CHECK_OK(lopt_add_tensor(opt, name, parameter, gradient, (int64_t[]){N}, 1, NULL));
}

static void fill(float *to, uint64_t seed) {
    for (int j = 0; j < N; j++) to[j] = problem_random(seed, (uint64_t)j);
}

/* ---- Many at once ------------------------------------------------------------------------------------------------- */

/* Tensors go round in a ring of places, with their values: every step gives the bits of tensors that stay where they are. */
static void test_ring(void) {
    enum { TENSORS = 5, TURNS = 7 };
    static float places[TENSORS][N], read[TENSORS][N], still[TENSORS][N], gradients[TENSORS][N], carried[TENSORS][N];
    lopt_optimizer *moving = make(), *staying = make();
    char name[16];
    for (int i = 0; i < TENSORS; i++) {
        fill(places[i], 7 + (uint64_t)i);
        memcpy(still[i], places[i], sizeof still[i]);
        snprintf(name, sizeof name, "t%d", i);
        add(moving, name, places[i], read[i]), add(staying, name, still[i], gradients[i]);
    }
    for (int turn = 1; turn <= TURNS; turn++) {
        lopt_binding bindings[TENSORS];
        for (int i = 0; i < TENSORS; i++) memcpy(carried[i], places[(i + turn - 1) % TENSORS], sizeof carried[i]);
        for (int i = 0; i < TENSORS; i++) {
            int to = (i + turn) % TENSORS, k = (3 * i + turn) % TENSORS;
            bindings[k] = (lopt_binding){i, places[to], read[to]};
            memcpy(places[to], carried[i], sizeof carried[i]);
            fill(gradients[i], (uint64_t)(100 * turn + i));
            memcpy(read[to], gradients[i], sizeof gradients[i]);
        }
        CHECK_OK(lopt_bind_many(moving, TENSORS, bindings));
        CHECK_OK(lopt_step(moving)), CHECK_OK(lopt_step(staying));
        for (int i = 0; i < TENSORS; i++) {
            check_context("turn %d, tensor %d", turn, i);
            CHECK_BITS(places[(i + turn) % TENSORS], still[i], N);
        }
        check_context("");
    }
    CHECK_OK(lopt_bind_many(moving, 0, NULL));
    lopt_destroy(moving), lopt_destroy(staying);
}

static int touches(size_t a, size_t a_size, size_t b, size_t b_size) { return a < b + b_size && b < a + a_size; }

/* Hundreds of random bindings of tensors of many sizes: each is refused or done as the rule says that is checked here pair by
 * pair, and after a refusal every tensor is where it was: the optimizer refuses and allows the same things then. */
static void test_random(void) {
    enum { TENSORS = 30, POOL = 1200 };
    static float parameters[POOL], gradients[POOL];
    struct { size_t at, gradient_at, size; int bound; } now[TENSORS], next[TENSORS];
    lopt_optimizer *opt = make();
    int64_t seed = 0, done = 0, refused = 0;
    char name[16];
    for (int i = 0; i < TENSORS; i++) {
        now[i].size = (size_t)(i * 7 % 13), now[i].bound = 0, now[i].at = now[i].gradient_at = 0;
        snprintf(name, sizeof name, "%d", i * 17 % TENSORS);
        CHECK_OK(lopt_add_tensor(opt, name, NULL, NULL, (int64_t[]){(int64_t)now[i].size}, 1, NULL));
    }
    for (int round = 0; round < check_repetitions(20000, 2000); round++) {
        lopt_binding bindings[4];
        int count = 1 + round % 4;
        memcpy(next, now, sizeof now);
        for (int k = 0; k < count; k++) {
            int i = (int)((problem_random(1, (uint64_t)seed++) + 1) / 2 * (TENSORS / 4)) * 4 + k;
            if (i >= TENSORS) i = k;
            next[i].bound = problem_random(2, (uint64_t)seed++) < 0.8f;
            next[i].at = (size_t)((problem_random(3, (uint64_t)seed++) + 1) / 2 * (POOL - 13));
            /* Gradients lie among the parameters as well. */
            next[i].gradient_at = (size_t)((problem_random(4, (uint64_t)seed++) + 1) / 2 * (POOL - 13));
            int among = problem_random(5, (uint64_t)seed++) < 0 && round % 3 == 0;
            float *gradient = among ? parameters + next[i].gradient_at : gradients + next[i].gradient_at;
            if (!among) next[i].gradient_at += POOL;
            bindings[k] = (lopt_binding){i, next[i].bound ? parameters + next[i].at : NULL, gradient};
        }
        int allowed = 1;
        for (int k = 0; k < count; k++) {
            int i = bindings[k].index;
            for (int j = 0; j < TENSORS; j++) {
                if (!next[j].bound || next[j].size == 0 || next[i].size == 0) continue;
                if (touches(next[i].gradient_at, next[i].size, next[j].at, next[j].size)) allowed = 0;
                if (i != j && next[i].bound && touches(next[i].at, next[i].size, next[j].at, next[j].size)) allowed = 0;
            }
        }
        check_context("round %d", round);
        if (!CHECK_STATUS(lopt_bind_many(opt, count, bindings), allowed ? LOPT_OK : LOPT_ERROR_INVALID_ARGUMENT)) break;
        if (allowed) memcpy(now, next, sizeof now);
        done += allowed, refused += !allowed;
    }
    check_context("");
    check_that(done > 100 && refused > 100, __FILE__, __LINE__, "%d done, %d refused", (int)done, (int)refused);
    lopt_destroy(opt);
}

/* ---- What has been read is free ----------------------------------------------------------------------------------- */

/* A backward pass in an arena: the gradient of each layer is read, and then its memory becomes another tensor's gradient, or its
 * parameter. The same bits as with memory of its own for each. A gradient that is to be read again is looked at again. */
static void test_arena(void) {
    static float arena[2 * N], first[N], own[2][N], own_gradients[2][N];
    lopt_optimizer *opt = make(), *other = make();
    float *gradient = arena, *reused = arena + N;
    fill(first, 1), fill(own[0], 1), fill(gradient, 2), fill(own_gradients[0], 2);
    add(opt, "a", first, gradient), add(other, "a", own[0], own_gradients[0]);
    CHECK_OK(lopt_step_tensor(opt, 0)), CHECK_OK(lopt_step_tensor(other, 0));

    /* "b" comes to lie where a's gradient was. */
    fill(gradient, 3), fill(own[1], 3), fill(reused, 4), fill(own_gradients[1], 4);
    add(opt, "b", gradient, reused), add(other, "b", own[1], own_gradients[1]);
    CHECK_OK(lopt_step_tensor(opt, 1)), CHECK_OK(lopt_step_tensor(other, 1));
    CHECK_BITS(gradient, own[1], N);
    snapshot before = snapshot_of(opt, LOPT_WITH_PARAMETERS);
    CHECK_STATUS(lopt_step_tensor(opt, 0), LOPT_ERROR_INVALID_ARGUMENT);
    CHECK_MESSAGE("gradient of tensor 'a' overlaps the parameter of tensor 'b'");
    CHECK_STATUS(lopt_step(opt), LOPT_ERROR_INVALID_ARGUMENT);
    CHECK_SAME_STATE(opt, &before);

    /* With its new gradient where b's has been read it goes on. */
    CHECK_OK(lopt_bind(opt, 0, first, reused));
    fill(reused, 5), fill(own_gradients[0], 5);
    CHECK_OK(lopt_step_tensor(opt, 0)), CHECK_OK(lopt_step_tensor(other, 0));
    CHECK_BITS(first, own[0], N);
    CHECK_STATUS(lopt_bind(opt, 0, first, gradient), LOPT_ERROR_INVALID_ARGUMENT);
    CHECK_MESSAGE("gradient of tensor 'a' overlaps the parameter of tensor 'b'");
    CHECK_STATUS(lopt_bind(opt, 0, first, first + 1), LOPT_ERROR_INVALID_ARGUMENT);
    CHECK_OK(lopt_step(opt));
    snapshot_free(&before);
    lopt_destroy(opt), lopt_destroy(other);
}

/* ---- What is not there yet ---------------------------------------------------------------------------------------- */

static void set_frozen(lopt_optimizer *opt, int32_t index, int frozen) {
    lopt_tensor_options options;
    CHECK_OK(lopt_tensor_options_init(&options, sizeof options));
    options.frozen = frozen;
    CHECK_OK(lopt_set_tensor_options(opt, index, &options));
}

/* Every combination of what "b" lacks and of being frozen: steps refuse when it matters, naming it, and change nothing. */
static void test_missing(void) {
    static float a[N], da[N], b[N], db[N];
    for (int lacks = 0; lacks < 4; lacks++) {
        for (int frozen = 0; frozen < 2; frozen++) {
            for (int by_bind = 0; by_bind < 2; by_bind++) {
                lopt_optimizer *opt = make();
                float *parameter = lacks & 1 ? NULL : b, *gradient = lacks & 2 ? NULL : db;
                check_context("lacks %d, frozen %d, bind %d", lacks, frozen, by_bind);
                fill(a, 1), fill(da, 2), fill(b, 3), fill(db, 4);
                add(opt, "a", a, da);
                add(opt, "b", by_bind ? b : parameter, by_bind ? db : gradient);
                if (by_bind) CHECK_OK(lopt_bind(opt, 1, parameter, gradient));
                set_frozen(opt, 1, frozen);
                int refused = lacks && !frozen;
                lopt_status expected = refused ? LOPT_ERROR_INVALID_ARGUMENT : LOPT_OK;
                snapshot before = snapshot_of(opt, 0);
                float start = a[0];
                CHECK_STATUS(lopt_step(opt), expected);
                if (refused) CHECK_MESSAGE(lacks & 1 ? "parameter of tensor 'b' is NULL" : "gradient of tensor 'b' is NULL");
                CHECK_STATUS(lopt_step_tensor(opt, 1), expected);
                CHECK((a[0] == start) == refused);
                if (refused) {
                    snapshot now = snapshot_of(opt, 0);
                    CHECK_INT(now.size, before.size);
                    CHECK_BYTES(now.bytes, before.bytes, before.size);
                    snapshot_free(&now);
                }
                CHECK_OK(lopt_step_tensor(opt, 0));

                /* The state is kept without parameters; with them only if there are any. */
                size_t size = 7;
                lopt_status whole = lacks & 1 ? LOPT_ERROR_INVALID_ARGUMENT : LOPT_OK;
                CHECK_STATUS(lopt_state_size(opt, LOPT_WITH_PARAMETERS, &size), whole);
                if (lacks & 1) {
                    CHECK_MESSAGE("parameter of tensor 'b' is NULL");
                    CHECK_INT(size, 7);
                    char *memory = check_memory(1 << 16);
                    CHECK_STATUS(lopt_state_write(opt, LOPT_WITH_PARAMETERS, memory, 1 << 16), whole);
                    CHECK_STATUS(lopt_save(opt, "never-written", LOPT_WITH_PARAMETERS), whole);
                    CHECK(access("never-written", F_OK) != 0);
                    CHECK_STATUS(lopt_state_read(opt, LOPT_WITH_PARAMETERS, before.bytes, before.size), whole);
                    CHECK_MESSAGE("parameter of tensor 'b' is NULL");
                    free(memory);
                }
                CHECK_OK(lopt_state_read(opt, 0, before.bytes, before.size));
                CHECK_OK(lopt_bind(opt, 1, b, db));
                set_frozen(opt, 1, 0);
                CHECK_OK(lopt_step(opt));
                CHECK(b[0] != problem_random(3, 0));
                snapshot_free(&before);
                lopt_destroy(opt);
            }
        }
    }
    check_context("");
}

int main(void) {
    test_ring();
    test_random();
    test_arena();
    test_missing();
    return check_end();
}
