/* Checkpoints of rows: each part saves its own, and any number of parts goes on from them with the bits of one optimizer that has the
 * whole, one that has the tensors whole too. */
#define _GNU_SOURCE
#include "files.h"
#include "rows.h"

typedef struct shards {
    int count;
    snapshot of[MOST_PARTS];
} shards;

static lopt_status save_body(team *t, int part, void *context) {
    snapshot *s = &((shards *)context)->of[part];
    const lopt_status status = lopt_state_size(t->opt[part], LOPT_WITH_PARAMETERS, &s->size);
    if (status != LOPT_OK) return status;
    s->bytes = malloc(s->size);
    return lopt_state_write(t->opt[part], LOPT_WITH_PARAMETERS, s->bytes, s->size);
}
static shards save_team(team *t) {
    shards s = {t->parts, {{0, NULL}}};
    CHECK_TEAM(t, save_body, &s, LOPT_OK, NULL);
    return s;
}
static void free_shards(shards *s) {
    for (int part = 0; part < s->count; part++) snapshot_free(&s->of[part]);
}

/* All of them, in the order of the parts; those of one part without LOPT_SHARD. Returns how many tensors there were. */
static int read_shards(lopt_optimizer *opt, const shards *s) {
    int restored = 0;
    for (int part = 0; part < s->count; part++) {
        CHECK_OK(lopt_state_read(opt, LOPT_WITH_PARAMETERS | (s->count > 1 ? LOPT_SHARD : 0), s->of[part].bytes, s->of[part].size));
        restored += information_of(opt).tensors_restored;
    }
    return restored;
}

static void step_team(team *t, int step) {
    rows_gradient(t->p, step);
    team_copy_gradients(t);
    CHECK_TEAM(t, step_body, NULL, LOPT_OK, NULL);
}

static void scramble(problem *p) {
    for (int i = 0; i < p->count; i++) memset(p->tensors[i].parameter, 0x3d, 4 * (size_t)p->tensors[i].elements);
}

static void test_rows_restore_on_any_number_of_parts(int from, int to, int before) {
    problem p, q, r;
    team first, second;
    lopt_options options = rows_options();
    rows_problem(&p), rows_problem(&q), rows_problem(&r);
    lopt_optimizer *whole = problem_optimizer(&q, "pooled", &options);
    team_create(&first, &p, "pooled", &options, from, 1);
    for (int step = 0; step < before; step++) step_team(&first, step);
    check_context("from %d to %d parts after %d steps", from, to, before);
    shards saved = save_team(&first);
    step_team(&first, 50); /* it goes on, elsewhere */
    options.weight_decay = 0, options.gradient_scale = 1, options.total_steps = 0;
    scramble(&r);
    team_create(&second, &r, "pooled", &options, to, 1);
    step_team(&second, 77);
    for (int part = 0; part < to; part++)
        CHECK_INT(read_shards(second.opt[part], &saved), r.count - information_of(second.opt[part]).tensors_elsewhere);
    for (int step = 0; step < before + 4; step++) {
        rows_gradient(&q, step);
        CHECK_OK(lopt_step(whole));
        if (step >= before) step_team(&second, step);
    }
    check_same_parameters(&r, &q);
    /* One that has all tensors whole. */
    scramble(&p);
    options = rows_options();
    lopt_optimizer *one = problem_optimizer(&p, "pooled", &options);
    CHECK_INT(read_shards(one, &saved), p.count);
    for (int step = before; step < before + 4; step++) {
        rows_gradient(&p, step);
        CHECK_OK(lopt_step(one));
    }
    check_same_parameters(&p, &q);
    /* And from its checkpoint back to parts. */
    shards all = {1, {snapshot_of(one, LOPT_WITH_PARAMETERS)}};
    scramble(&r);
    for (int part = 0; part < to; part++)
        CHECK_INT(read_shards(second.opt[part], &all), r.count - information_of(second.opt[part]).tensors_elsewhere);
    check_same_parameters(&r, &q);
    step_team(&second, 30), rows_gradient(&q, 30);
    CHECK_OK(lopt_step(whole));
    check_same_parameters(&r, &q);
    check_context("");
    free_shards(&saved), free_shards(&all);
    team_free(&first), team_free(&second), lopt_destroy(whole), lopt_destroy(one);
    problem_free(&p), problem_free(&q), problem_free(&r);
}

/* Saving and going on gives what going on gives, and two in a row are one. */
static void test_saving_changes_nothing(void) {
    problem p, q;
    team t;
    lopt_options options = rows_options();
    rows_problem(&p), rows_problem(&q);
    lopt_optimizer *whole = problem_optimizer(&q, "pooled", &options);
    team_create(&t, &p, "pooled", &options, 3, 1);
    for (int step = 0; step < 6; step++) {
        step_team(&t, step);
        rows_gradient(&q, step);
        CHECK_OK(lopt_step(whole));
        if (step % 2) continue;
        shards one = save_team(&t), two = save_team(&t);
        for (int part = 0; part < 3; part++) CHECK_INT(one.of[part].size, two.of[part].size), CHECK_BYTES(one.of[part].bytes, two.of[part].bytes, one.of[part].size);
        free_shards(&one), free_shards(&two);
    }
    check_same_parameters(&p, &q);
    team_free(&t), lopt_destroy(whole);
    problem_free(&p), problem_free(&q);
}

static lopt_status file_body(team *t, int part, void *context) {
    char path[320];
    snprintf(path, sizeof path, "%s/%d", (const char *)context, part);
    return lopt_save(t->opt[part], path, LOPT_WITH_PARAMETERS);
}

/* Without the others' sums there is nothing to be written. */
static void test_gather_that_fails_writes_no_file(void) {
    problem p;
    team t;
    char folder[] = "/tmp/lopt-rows-XXXXXX", path[64];
    lopt_options options = rows_options();
    rows_problem(&p);
    team_create(&t, &p, "pooled", &options, 2, 1);
    CHECK(mkdtemp(folder) != NULL);
    step_team(&t, 0);
    t.fail_call = t.rank_of_call;
    CHECK_TEAM(&t, file_body, folder, LOPT_ERROR_IO, "gather returned 7");
    for (int part = 0; part < 2; part++) snprintf(path, sizeof path, "%s/%d", folder, part), CHECK(access(path, F_OK) != 0);
    t.fail_call = -1;
    CHECK_TEAM(&t, file_body, folder, LOPT_OK, NULL);
    for (int part = 0; part < 2; part++) {
        snprintf(path, sizeof path, "%s/%d", folder, part);
        CHECK_OK(lopt_restore(t.opt[part], path, 0)); /* its own rows: no shard among others */
        CHECK_INT(information_of(t.opt[part]).tensors_restored, p.count - information_of(t.opt[part]).tensors_elsewhere);
        CHECK_OK(lopt_restore(t.opt[1 - part], path, LOPT_SHARD));
        CHECK_INT(remove(path), 0);
    }
    CHECK_INT(rmdir(folder), 0);
    team_free(&t), problem_free(&p);
}

static void test_rows_that_are_missing_or_strange_are_noticed(void) {
    problem p, q, none = {.count = 0};
    team t, other;
    lopt_options options = rows_options();
    rows_problem(&p), rows_problem(&q);
    team_create(&t, &p, "pooled", &options, 4, 1), team_create(&other, &q, "pooled", &options, 2, 1);
    step_team(&t, 0), step_team(&other, 9);
    shards s = save_team(&t), own = save_team(&other);
    /* Part 0 of 2 has the rows of parts 0 and 1 of 4; of one alone it takes what there is. */
    const uint32_t contents = LOPT_WITH_PARAMETERS | LOPT_SHARD;
    CHECK_STATUS(lopt_state_read(other.opt[0], LOPT_WITH_PARAMETERS, s.of[1].bytes, s.of[1].size), LOPT_ERROR_MISMATCH);
    CHECK_MESSAGE("LOPT_SHARD takes what there is");
    CHECK_OK(lopt_state_read(other.opt[0], contents, s.of[1].bytes, s.of[1].size));
    CHECK_INT(information_of(other.opt[0]).tensors_restored, 0);
    CHECK_OK(lopt_state_read(other.opt[0], contents, own.of[0].bytes, own.of[0].size));
    CHECK_OK(lopt_state_read(other.opt[0], contents, s.of[3].bytes, s.of[3].size));
    CHECK_INT(information_of(other.opt[0]).tensors_restored, 0);
    shards now = save_team(&other);
    CHECK_BYTES(now.of[0].bytes, own.of[0].bytes, own.of[0].size);
    free_shards(&now);
    /* A part that reads something else than the others is told. */
    CHECK_OK(lopt_state_read(other.opt[0], contents, s.of[0].bytes, s.of[0].size));
    CHECK_OK(lopt_set_total_steps(other.opt[1], 7));
    CHECK_TEAM(&other, step_body, NULL, LOPT_ERROR_MISMATCH, NULL);
    /* Another shape of the whole, of the same rows; one that is no tensor of rows. */
    lopt_optimizer *wrong = problem_optimizer(&none, "pooled", &options);
    for (int i = 0; i < p.count; i++) CHECK_OK(lopt_add_elsewhere(wrong, i == 0 ? "-" : p.tensors[i].name, p.tensors[i].shape, p.tensors[i].rank, NULL));
    CHECK_OK(lopt_add_tensor(wrong, "embedding", NULL, NULL, (int64_t[]){20002, 8}, 2, NULL));
    CHECK_STATUS(lopt_state_read(wrong, LOPT_SHARD, s.of[0].bytes, s.of[0].size), LOPT_ERROR_MISMATCH);
    CHECK_MESSAGE("of 20001 rows of 'embedding', which has 20002 rows here");
    lopt_destroy(wrong);
    /* Any damage is found. */
    for (size_t at = 9; at < s.of[0].size; at += s.of[0].size / 97 + 1) {
        unsigned char *bytes = s.of[0].bytes;
        bytes[at] ^= 4;
        const lopt_status status = lopt_state_read(other.opt[0], contents, bytes, s.of[0].size);
        CHECK(status == LOPT_ERROR_CHECKPOINT || status == LOPT_ERROR_MISMATCH);
        bytes[at] ^= 4;
    }
    free_shards(&s), free_shards(&own);
    team_free(&t), team_free(&other);
    problem_free(&p), problem_free(&q);
}

int main(void) {
    static const int ways[][2] = {{1, 3}, {3, 1}, {2, 2}, {2, 3}, {3, 2}, {5, 2}, {2, 5}};
    for (int k = 0; k < check_repetitions(7, 2); k++) test_rows_restore_on_any_number_of_parts(ways[k][0], ways[k][1], 3);
    test_rows_restore_on_any_number_of_parts(3, 2, 0);
    rows_momentum_type = LOPT_BF16;
    test_rows_restore_on_any_number_of_parts(2, 3, 3);
    if (check_repetitions(1, 0)) test_rows_restore_on_any_number_of_parts(5, 2, 2);
    rows_momentum_type = LOPT_F32;
    test_saving_changes_nothing();
    test_gather_that_fails_writes_no_file();
    test_rows_that_are_missing_or_strange_are_noticed();
    return check_end();
}
