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
static void test_parameters_may_take_each_others_place(void) {
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
static void test_bindings_are_refused_by_the_rule_alone(void) {
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
static void test_gradient_is_free_memory_once_read(void) {
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
static void test_missing_memory_is_refused_when_it_matters(void) {
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

/* ---- Given at each step --------------------------------------------------------------------------------------------- */

enum { MANY = 6 };
static float pool[4][MANY * N], *given[MANY], *gradients_given[MANY], resting[MANY][N], resting_gradients[MANY][N];

/* Where tensor i is in a turn: other buffers, other orders within them; gradients may share memory. */
static void place_all(int turn) {
    for (int i = 0; i < MANY; i++) {
        given[i] = pool[turn % 2] + (turn % 3 == 2 ? i : (i + turn) % MANY) * N;
        gradients_given[i] = pool[2 + turn / 2 % 2] + (i + turn) % MANY * N;
    }
}

static lopt_optimizer *make_many(int bound, lopt_nonfinite policy) {
    lopt_options options = problem_options();
    lopt_optimizer *opt;
    options.nonfinite = policy;
    CHECK_OK(lopt_create(NULL, &options, &opt));
    for (int i = 0; i < MANY; i++) {
        char name[2] = {(char)('a' + (i * 5) % MANY), 0};
        add(opt, name, bound ? resting[i] : NULL, bound ? resting_gradients[i] : NULL);
    }
    return opt;
}

/* Memory that moves at every step, or now and then, gives the bits of memory that stays; between the calls the old is free. */
static void test_memory_passed_to_a_step_is_bound(void) {
    lopt_optimizer *opt = make_many(0, LOPT_NONFINITE_SKIP_STEP), *other = make_many(1, LOPT_NONFINITE_SKIP_STEP);
    for (int i = 0; i < MANY; i++) fill(resting[i], 40 + (uint64_t)i);
    for (int turn = 0; turn < 24; turn++) {
        memset(pool, 0x7f, sizeof pool);
        place_all(turn / (turn < 12 ? 1 : 3));
        for (int i = 0; i < MANY; i++) {
            memcpy(given[i], resting[i], sizeof resting[i]);
            fill(resting_gradients[i], 100 + (uint64_t)(turn * MANY + i));
            memcpy(gradients_given[i], resting_gradients[i], sizeof resting[i]);
        }
        check_context("turn %d", turn);
        CHECK_OK(lopt_step_with(opt, MANY, given, gradients_given));
        CHECK_OK(lopt_step(other));
        for (int i = 0; i < MANY; i++) CHECK_BITS(given[i], resting[i], N);
    }
    /* The memory of the last call is the tensors'. */
    snapshot s = snapshot_of(other, LOPT_WITH_PARAMETERS);
    CHECK_SAME_STATE(opt, &s);
    CHECK_OK(lopt_step(opt)), CHECK_OK(lopt_step(other));
    for (int i = 0; i < MANY; i++) CHECK_BITS(given[i], resting[i], N);
    snapshot_free(&s);
    check_context("");
    lopt_destroy(opt), lopt_destroy(other);
}

/* Whatever is wrong with whichever tensor, in memory that is otherwise good and elsewhere: nothing is written there, and the
 * tensors are where they were. */
static void test_refused_step_leaves_memory_where_it_was(void) {
    enum { NO_PARAMETER, NO_GRADIENT, SAME_PARAMETERS, GRADIENT_IN_PARAMETER, BEYOND, NONFINITE, WRONGS };
    for (int wrong = 0; wrong < WRONGS; wrong++) {
        for (int which = 0; which < MANY; which++) {
            lopt_optimizer *opt = make_many(1, LOPT_NONFINITE_ERROR);
            static float before[4][MANY * N];
            int next = (which + 1) % MANY;
            check_context("wrong %d, tensor %d", wrong, which);
            for (int i = 0; i < MANY; i++) fill(resting[i], 40 + (uint64_t)i), fill(resting_gradients[i], 50 + (uint64_t)i);
            for (int j = 0; j < 4 * MANY * N; j++) pool[j / (MANY * N)][j % (MANY * N)] = problem_random(60, (uint64_t)j);
            CHECK_OK(lopt_step(opt));
            place_all(1);
            switch (wrong) {
            case NO_PARAMETER: given[which] = NULL; break;
            case NO_GRADIENT: gradients_given[which] = NULL; break;
            case SAME_PARAMETERS: given[which] = given[next] + 1; break;
            case GRADIENT_IN_PARAMETER: gradients_given[which] = given[next]; break;
            case BEYOND: gradients_given[which] = (float *)(UINTPTR_MAX - 15); break;
            case NONFINITE: gradients_given[which][3] = NAN; break;
            }
            memcpy(before, pool, sizeof before);
            snapshot s = snapshot_of(opt, LOPT_WITH_PARAMETERS);
            CHECK_STATUS(lopt_step_with(opt, MANY, given, gradients_given),
                         wrong == NONFINITE ? LOPT_ERROR_NONFINITE : LOPT_ERROR_INVALID_ARGUMENT);
            CHECK_BYTES(pool, before, sizeof before);
            CHECK_SAME_STATE(opt, &s);
            /* Still with the old gradients, at the old place. */
            lopt_optimizer *other = make_many(0, LOPT_NONFINITE_ERROR);
            static float elsewhere[MANY][N];
            lopt_binding bindings[MANY];
            memcpy(elsewhere, resting, sizeof elsewhere);
            for (int i = 0; i < MANY; i++) bindings[i] = (lopt_binding){i, elsewhere[i], resting_gradients[i]};
            CHECK_OK(lopt_bind_many(other, MANY, bindings));
            CHECK_OK(lopt_state_read(other, 0, s.bytes, s.size));
            CHECK_OK(lopt_step(opt)), CHECK_OK(lopt_step(other));
            for (int i = 0; i < MANY; i++) CHECK_BITS(resting[i], elsewhere[i], N);
            CHECK_BYTES(pool, before, sizeof before);
            snapshot_free(&s);
            lopt_destroy(opt), lopt_destroy(other);
        }
    }
    check_context("");
}

int main(void) {
    test_memory_passed_to_a_step_is_bound();
    test_refused_step_leaves_memory_where_it_was();
    test_parameters_may_take_each_others_place();
    test_bindings_are_refused_by_the_rule_alone();
    test_gradient_is_free_memory_once_read();
    test_missing_memory_is_refused_when_it_matters();
    return check_end();
}
