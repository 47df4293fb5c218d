/* lopt_mpi.h on the ranks that mpiexec starts, and on the first 1, 2, ... of them: training divided among ranks has the bits of one
 * optimizer with the same sums of gradients, every rank knows of what goes wrong on one, and checkpoints go from any number of ranks
 * to any other. Each rank computes by itself what the others have, and compares. */
#define _GNU_SOURCE
#include "ranks.h"

enum { MOST_RANKS = 8 };

/* ---- One process that does what all do ---------------------------------------------------------------------------- */

/* The gradient of a rank's part of the batch. */
static void part_of_gradient(problem *p, int64_t step, int rank) {
    problem_gradient(p, step);
    for (int i = 0; i < p->count; i++) {
        for (int64_t j = 0; j < p->tensors[i].elements; j++) {
            p->tensors[i].gradient[j] += 0.3f * problem_random(7000 + 16 * (uint64_t)step + (uint64_t)rank, (uint64_t)(j + 1000 * i));
        }
    }
}

/* Sums of pairs, then of pairs of pairs; ranks beyond the last power of two belong to those so much before them. */
static void whole_gradient(problem *p, int64_t step, int ranks) {
    float *parts[MOST_RANKS];
    size_t total = 0;
    int corners = 1;
    while (2 * corners <= ranks) corners *= 2;
    for (int i = 0; i < p->count; i++) total += (size_t)p->tensors[i].elements;
    for (int r = 0; r < ranks; r++) {
        float *to = parts[r] = check_memory(4 * total);
        part_of_gradient(p, step, r);
        for (int i = 0; i < p->count; to += p->tensors[i++].elements) memcpy(to, p->tensors[i].gradient, 4 * (size_t)p->tensors[i].elements);
    }
    for (int r = corners; r < ranks; r++) {
        for (size_t j = 0; j < total; j++) parts[r - corners][j] += parts[r][j];
    }
    for (int apart = 1; apart < corners; apart *= 2) {
        for (int r = 0; r < corners; r += 2 * apart) {
            for (size_t j = 0; j < total; j++) parts[r][j] += parts[r + apart][j];
        }
    }
    const float *from = parts[0];
    for (int i = 0; i < p->count; from += p->tensors[i++].elements) memcpy(p->tensors[i].gradient, from, 4 * (size_t)p->tensors[i].elements);
    for (int r = 0; r < ranks; r++) free(parts[r]);
}

static int same_parameters(const problem *p, const problem *q) {
    int same = 1;
    for (int i = 0; i < p->count; i++) {
        same &= memcmp(p->tensors[i].parameter, q->tensors[i].parameter, 4 * (size_t)p->tensors[i].elements) == 0;
    }
    return same;
}

static lopt_options some_options(int ranks) {
    lopt_options options = problem_options();
    options.weight_decay = 0.05, options.average = LOPT_AVERAGE_EMA, options.average_span = 5;
    options.gradient_scale = 1.0 / ranks, options.total_steps = 40;
    return options;
}

static int table_of(const problem *p, lopt_mpi_tensor *table) {
    for (int i = 0; i < p->count; i++) {
        const problem_tensor *t = &p->tensors[i];
        table[i] = (lopt_mpi_tensor){t->name, t->parameter, t->gradient, t->rank, {0}};
        memcpy(table[i].shape, t->shape, sizeof table[i].shape);
    }
    return p->count;
}

static lopt_status create(lopt_mpi *m, MPI_Comm comm, const char *name, const lopt_options *options, const problem *p) {
    lopt_mpi_tensor table[PROBLEM_MOST];
    lopt_weights *weights = NULL;
    int count = table_of(p, table);
    CHECK_OK(lopt_weights_builtin(name, NULL, &weights));
    lopt_status status = lopt_mpi_create(m, comm, weights, options, table, count);
    lopt_weights_free(weights);
    return status;
}

static lopt_status step(lopt_mpi *m, problem *p, int64_t number) {
    part_of_gradient(p, number, m->rank);
    return lopt_mpi_step(m);
}

/* ---- Steps ------------------------------------------------------------------------------------------------------- */

static void test_division(MPI_Comm comm, int ranks) {
    static const int64_t sizes[] = {5, 900, 0, 30, 900, 1, 450, 449, 3, 3};
    int owner[10], from_first[10];
    int64_t load[MOST_RANKS] = {0}, most = 0, sum = 0;
    CHECK(lopt_mpi_divide(sizes, 10, ranks, owner));
    for (int i = 0; i < 10; i++) load[owner[i]] += sizes[i], sum += sizes[i];
    for (int r = 0; r < ranks; r++) most = load[r] > most ? load[r] : most;
    CHECK(most <= (900 > 1.34 * (double)sum / ranks ? 900 : 1.34 * (double)sum / ranks));
    memcpy(from_first, owner, sizeof owner);
    MPI_Bcast(from_first, 10, MPI_INT, 0, comm);
    CHECK_BYTES(from_first, owner, sizeof owner);
}

static void test_same_bits(MPI_Comm comm, int ranks, const char *weights) {
    problem p, q;
    lopt_mpi m;
    lopt_options options = some_options(ranks);
    problem_large(&p), problem_large(&q);
    lopt_optimizer *whole = problem_optimizer(&q, weights, &options);
    /* The parameters of rank 0 count. */
    if (world_rank > 0) memset(p.tensors[2].parameter, 0x40, 4 * (size_t)p.tensors[2].elements);
    check_context("%s on %d ranks", weights, ranks);
    CHECK_STATUS(create(&m, comm, weights, &options, &p), LOPT_OK);
    CHECK(same_parameters(&p, &q));
    for (int number = 0; number < 8; number++) {
        whole_gradient(&q, number, ranks);
        CHECK_OK(lopt_step(whole));
        CHECK_STATUS(step(&m, &p, number), LOPT_OK);
        CHECK(same_parameters(&p, &q));
    }
    CHECK_STATUS(lopt_mpi_average_swap(&m), LOPT_OK), CHECK_OK(lopt_average_swap(whole));
    CHECK(same_parameters(&p, &q));
    CHECK_STATUS(lopt_mpi_step(&m), LOPT_ERROR_INVALID_ARGUMENT);
    check_error(&m, "lopt_average_swap");
    CHECK_STATUS(lopt_mpi_average_swap(&m), LOPT_OK), CHECK_OK(lopt_average_swap(whole));
    CHECK(same_parameters(&p, &q));
    /* Together they have the state of one. */
    lopt_information own = {.struct_size = sizeof own}, all = {.struct_size = sizeof all};
    int64_t bytes = 0;
    CHECK_OK(lopt_info(m.optimizer, &own)), CHECK_OK(lopt_info(whole, &all));
    MPI_Allreduce(&own.state_bytes, &bytes, 1, MPI_INT64_T, MPI_SUM, comm);
    CHECK_INT(bytes, all.state_bytes);
    CHECK(ranks == 1 || own.state_bytes < 3 * all.state_bytes / 4);
    check_context("");
    lopt_mpi_destroy(&m), lopt_destroy(whole);
    problem_free(&p), problem_free(&q);
}

/* What is not finite on the last rank alone is known to all. */
static void test_nonfinite(MPI_Comm comm, int ranks, lopt_nonfinite policy) {
    static const lopt_status expected[] = {LOPT_SKIPPED_NONFINITE, LOPT_SKIPPED_NONFINITE, LOPT_ERROR_NONFINITE};
    problem p, q;
    lopt_mpi m;
    lopt_options options = some_options(ranks);
    options.nonfinite = policy;
    problem_large(&p), problem_large(&q);
    lopt_optimizer *whole = problem_optimizer(&q, "pooled", &options);
    check_context("policy %d on %d ranks", policy, ranks);
    CHECK_STATUS(create(&m, comm, "pooled", &options, &p), LOPT_OK);
    for (int number = 0; number < 6; number++) {
        int is_bad = number == 2 || number == 4, bad = number == 2 ? 5 : 0;
        whole_gradient(&q, number, ranks);
        part_of_gradient(&p, number, m.rank);
        if (is_bad && m.rank == ranks - 1) p.tensors[bad].gradient[p.tensors[bad].elements - 1] = INFINITY;
        if (is_bad) q.tensors[bad].gradient[q.tensors[bad].elements - 1] = INFINITY;
        CHECK_STATUS(lopt_mpi_step(&m), is_bad ? expected[policy] : LOPT_OK);
        if (is_bad) check_error(&m, p.tensors[bad].name), check_error(&m, "rank ");
        CHECK_STATUS(lopt_step(whole), is_bad ? expected[policy] : LOPT_OK);
        CHECK(same_parameters(&p, &q));
    }
    lopt_statistics here = {.struct_size = sizeof here}, there = {.struct_size = sizeof there};
    for (int i = 0; i < p.count; i++) {
        if (m.owner[i] != m.rank) continue;
        CHECK_OK(lopt_stats(m.optimizer, i, &here)), CHECK_OK(lopt_stats(whole, i, &there));
        CHECK_INT(here.steps, there.steps), CHECK_INT(here.nonfinite, there.nonfinite);
    }
    check_context("");
    lopt_mpi_destroy(&m), lopt_destroy(whole);
    problem_free(&p), problem_free(&q);
}

/* The norm of all gradients, on whatever ranks: with a quarter of it as the limit, the factor is exact. */
static void test_clipping(MPI_Comm comm, int ranks) {
    problem p, q;
    lopt_mpi m;
    lopt_options options = some_options(ranks);
    options.max_gradient_norm = 1e30;
    problem_large(&p), problem_large(&q);
    lopt_optimizer *whole = problem_optimizer(&q, "star", &options);
    lopt_statistics statistics = {.struct_size = sizeof statistics};
    check_context("%d ranks", ranks);
    CHECK_STATUS(create(&m, comm, "star", &options, &p), LOPT_OK);
    for (int number = 0; number < 2; number++) {
        whole_gradient(&q, number, ranks);
        CHECK_OK(lopt_step(whole)), CHECK_OK(lopt_stats(whole, -1, &statistics));
        CHECK_STATUS(step(&m, &p, number), LOPT_OK);
        CHECK_NEAR(m.gradient_norm, statistics.gradient_norm, 0);
        CHECK(same_parameters(&p, &q));
    }
    whole_gradient(&q, 2, ranks);
    CHECK_OK(lopt_set_lr_scale(whole, 0)), CHECK_OK(lopt_step(whole));
    lopt_destroy(whole);
    double norm = 0;
    for (int i = 0; i < q.count; i++) {
        for (int64_t j = 0; j < q.tensors[i].elements; j++) norm += pow(q.tensors[i].gradient[j] / (double)ranks, 2);
    }
    m.max_gradient_norm = sqrt(norm) / 4;
    CHECK_STATUS(step(&m, &p, 2), LOPT_OK);
    CHECK_NEAR(m.gradient_norm / sqrt(norm), 1, 1e-6);
    double squares = 0, sum = 0;
    for (int i = 0; i < p.count; i++) {
        if (m.owner[i] != m.rank) continue;
        CHECK_OK(lopt_stats(m.optimizer, i, &statistics));
        squares += pow(statistics.gradient_rms, 2) * (double)p.tensors[i].elements;
    }
    MPI_Allreduce(&squares, &sum, 1, MPI_DOUBLE, MPI_SUM, comm);
    CHECK_NEAR(4 * sqrt(sum) / m.gradient_norm, 1, 1e-5);
    /* It was for that step alone. */
    m.max_gradient_norm = 0;
    CHECK_STATUS(step(&m, &p, 3), LOPT_OK);
    squares = 0, sum = 0;
    for (int i = 0; i < p.count; i++) {
        if (m.owner[i] != m.rank) continue;
        CHECK_OK(lopt_stats(m.optimizer, i, &statistics));
        squares += pow(statistics.gradient_rms, 2) * (double)p.tensors[i].elements;
    }
    MPI_Allreduce(&squares, &sum, 1, MPI_DOUBLE, MPI_SUM, comm);
    CHECK_NEAR(sqrt(sum) / m.gradient_norm, 1, 1e-5);
    check_context("");
    lopt_mpi_destroy(&m);
    problem_free(&p), problem_free(&q);
}

/* ---- Mistakes ---------------------------------------------------------------------------------------------------- */

static void test_refusals(MPI_Comm comm, int ranks) {
    problem p;
    lopt_mpi m;
    lopt_options options = some_options(ranks);
    lopt_mpi_tensor table[PROBLEM_MOST];
    int count, last;
    MPI_Comm_rank(comm, &last);
    last = last == ranks - 1;
    problem_small(&p);
    count = table_of(&p, table);
    check_context("%d ranks", ranks);
    CHECK_STATUS(lopt_mpi_create(&m, comm, NULL, &options, table, -1), LOPT_ERROR_INVALID_ARGUMENT);
    check_error(&m, "count");
    CHECK_STATUS(lopt_mpi_create(&m, comm, NULL, &options, NULL, 1), LOPT_ERROR_INVALID_ARGUMENT);
    check_error(&m, "table");
    if (last) table[3].gradient = NULL;
    CHECK_STATUS(lopt_mpi_create(&m, comm, NULL, &options, table, count), LOPT_ERROR_INVALID_ARGUMENT);
    check_error(&m, p.tensors[3].name);
    CHECK(m.optimizer == NULL && m.comm == MPI_COMM_NULL);
    table[3].gradient = p.tensors[3].gradient;
    if (last) options.lr_scale = -1;
    CHECK_STATUS(lopt_mpi_create(&m, comm, NULL, &options, table, count), LOPT_ERROR_INVALID_ARGUMENT);
    check_error(&m, "lr_scale");
    options.lr_scale = 1;
    options.max_gradient_norm = NAN;
    CHECK_STATUS(lopt_mpi_create(&m, comm, NULL, &options, table, count), LOPT_ERROR_INVALID_ARGUMENT);
    check_error(&m, "max_gradient_norm");
    options.max_gradient_norm = 0;
    table[4].shape[1] = -1;
    CHECK_STATUS(lopt_mpi_create(&m, comm, NULL, &options, table, count), LOPT_ERROR_INVALID_ARGUMENT);
    check_error(&m, "negative");
    table[4].shape[1] = 4;
    table[2].rank = LOPT_MAX_RANK + 1;
    CHECK_STATUS(lopt_mpi_create(&m, comm, NULL, &options, table, count), LOPT_ERROR_INVALID_ARGUMENT);
    check_error(&m, "rank is 9");
    table[2].rank = 2;
    if (ranks > 1) {
        if (last) table[2].shape[0] = 33, table[2].shape[1] = 19;
        CHECK_STATUS(lopt_mpi_create(&m, comm, NULL, &options, table, count), LOPT_ERROR_MISMATCH);
        check_error(&m, "different tensors");
        table[2].shape[0] = 19, table[2].shape[1] = 33;
        CHECK_STATUS(lopt_mpi_create(&m, comm, NULL, &options, table, last ? count - 1 : count), LOPT_ERROR_MISMATCH);
    }
    /* A step that one of them cannot take is taken by none. */
    CHECK_STATUS(lopt_mpi_create(&m, comm, NULL, NULL, table, count), LOPT_OK);
    CHECK_STATUS(step(&m, &p, 0), LOPT_OK);
    float before = p.tensors[2].parameter[7];
    if (m.owner[2] == m.rank) CHECK_OK(lopt_bind(m.optimizer, 2, NULL, NULL));
    CHECK_STATUS(step(&m, &p, 1), LOPT_ERROR_INVALID_ARGUMENT);
    check_error(&m, "'matrix' is NULL"), check_error(&m, "rank ");
    CHECK(p.tensors[2].parameter[7] == before);
    if (m.owner[2] == m.rank) CHECK_OK(lopt_bind(m.optimizer, 2, p.tensors[2].parameter, p.tensors[2].gradient));
    lopt_statistics statistics = {.struct_size = sizeof statistics};
    for (int i = 0; i < p.count; i++) {
        CHECK_OK(lopt_stats(m.optimizer, i, &statistics));
        CHECK_INT(statistics.steps, m.owner[i] == m.rank);
    }
    m.gradient_scale = NAN;
    CHECK_STATUS(step(&m, &p, 1), LOPT_ERROR_INVALID_ARGUMENT);
    m.gradient_scale = 1;
    CHECK_STATUS(step(&m, &p, 1), LOPT_OK);
    lopt_mpi_destroy(&m);
    lopt_mpi_destroy(&m);
    /* A network of nothing, and one that one rank has all of. */
    CHECK_STATUS(lopt_mpi_create(&m, comm, NULL, NULL, NULL, 0), LOPT_OK);
    CHECK_STATUS(lopt_mpi_step(&m), LOPT_OK);
    lopt_mpi_destroy(&m);
    CHECK_STATUS(lopt_mpi_create(&m, comm, NULL, NULL, table, 1), LOPT_OK);
    CHECK_STATUS(step(&m, &p, 0), LOPT_OK);
    lopt_mpi_destroy(&m);
    check_context("");
    problem_free(&p);
}

/* ---- Checkpoints ------------------------------------------------------------------------------------------------- */

/* The first `ranks` of the world, or MPI_COMM_NULL for the others. */
static int exists(const char *end) {
    char path[320];
    snprintf(path, sizeof path, "%s%s", checkpoint, end);
    return access(path, F_OK) == 0;
}

static void damage(const char *end, long place) {
    char path[320];
    snprintf(path, sizeof path, "%s%s", checkpoint, end);
    FILE *file = fopen(path, "r+");
    if (!CHECK(file != NULL)) return;
    fseek(file, place, SEEK_END);
    int byte = fgetc(file);
    fseek(file, place, SEEK_END);
    fputc(byte ^ 1, file);
    fclose(file);
}

/* Three steps on some ranks, three more on others from the checkpoint: those of one optimizer, given the same gradients. */
static void test_checkpoint(int from, int to) {
    problem p, q;
    lopt_mpi m;
    lopt_options options = some_options(1);
    problem_large(&p), problem_large(&q);
    lopt_optimizer *whole = problem_optimizer(&q, "pooled", &options);
    MPI_Comm comm = first_ranks(from);
    check_context("from %d to %d ranks", from, to);
    if (comm != MPI_COMM_NULL) {
        CHECK_STATUS(create(&m, comm, "pooled", &options, &p), LOPT_OK);
        for (int number = 0; number < 3; number++) {
            /* All of the gradient on rank 0: the sum is the same on any ranks. */
            part_of_gradient(&p, number, 0);
            for (int i = 0; m.rank > 0 && i < p.count; i++) memset(p.tensors[i].gradient, 0, 4 * (size_t)p.tensors[i].elements);
            CHECK_STATUS(lopt_mpi_step(&m), LOPT_OK);
            CHECK_STATUS(lopt_mpi_save(&m, checkpoint, LOPT_WITH_PARAMETERS), LOPT_OK);
        }
        CHECK_STATUS(lopt_mpi_save(&m, "no-such-folder/checkpoint", 0), LOPT_ERROR_IO);
        check_error(&m, "no-such-folder");
        CHECK_STATUS(lopt_mpi_save(&m, NULL, 0), LOPT_ERROR_INVALID_ARGUMENT);
        CHECK_STATUS(lopt_mpi_save(&m, checkpoint, 9), LOPT_ERROR_INVALID_ARGUMENT);
        lopt_mpi_destroy(&m);
        MPI_Comm_free(&comm);
    }
    MPI_Barrier(MPI_COMM_WORLD);
    /* Those of the third save alone are left. */
    CHECK(exists("") && exists(".3.0") && !exists(".1.0") && !exists(".2.0") && !exists(".4.0") && !exists(".new"));
    problem_free(&p);
    problem_large(&p);
    memset(p.tensors[2].parameter, 0x41, 4 * (size_t)p.tensors[2].elements);
    comm = first_ranks(to);
    if (comm != MPI_COMM_NULL) {
        CHECK_STATUS(create(&m, comm, "pooled", NULL, &p), LOPT_OK);
        CHECK_STATUS(step(&m, &p, 5), LOPT_OK);
        snapshot before = snapshot_of(m.optimizer, LOPT_WITH_PARAMETERS);
        CHECK_STATUS(lopt_mpi_restore(&m, NULL, 0), LOPT_ERROR_INVALID_ARGUMENT);
        CHECK_STATUS(lopt_mpi_restore(&m, "no-such-file", 0), LOPT_ERROR_IO);
        CHECK_STATUS(lopt_mpi_restore(&m, "README.md", 0), LOPT_ERROR_CHECKPOINT);
        /* Damage on one rank's way is found by all, and then all is as it was. */
        char last[16];
        snprintf(last, sizeof last, ".3.%d", from - 1);
        if (m.rank == 0) damage(last, -5);
        MPI_Barrier(comm);
        CHECK_STATUS(lopt_mpi_restore(&m, checkpoint, LOPT_WITH_PARAMETERS), LOPT_ERROR_CHECKPOINT);
        check_error(&m, "damaged");
        CHECK_SAME_STATE(m.optimizer, &before);
        MPI_Barrier(comm);
        if (m.rank == 0) damage(last, -5);
        MPI_Barrier(comm);
        m.gradient_scale = 1;
        CHECK_STATUS(lopt_mpi_restore(&m, checkpoint, LOPT_WITH_PARAMETERS), LOPT_OK);
        snapshot_free(&before);
    }
    for (int number = 0; number < 3; number++) {
        part_of_gradient(&q, number, 0);
        CHECK_OK(lopt_step(whole));
    }
    if (comm != MPI_COMM_NULL) {
        CHECK(same_parameters(&p, &q));
        for (int number = 3; number < 6; number++) {
            part_of_gradient(&q, number, 0);
            CHECK_OK(lopt_step(whole));
            part_of_gradient(&p, number, 0);
            for (int i = 0; m.rank > 0 && i < p.count; i++) memset(p.tensors[i].gradient, 0, 4 * (size_t)p.tensors[i].elements);
            CHECK_STATUS(lopt_mpi_step(&m), LOPT_OK);
            CHECK(same_parameters(&p, &q));
        }
        lopt_mpi_destroy(&m);
        MPI_Comm_free(&comm);
    }
    remove_checkpoint(3, from);
    check_context("");
    lopt_destroy(whole);
    problem_free(&p), problem_free(&q);
}

int main(int count, char **arguments) {
    ranks_begin(count, arguments, "checkpoint");
    for (int ranks = 1; ranks <= world_size && ranks <= MOST_RANKS; ranks++) {
        MPI_Comm comm = first_ranks(ranks);
        if (comm == MPI_COMM_NULL) continue;
        test_division(comm, ranks);
        test_same_bits(comm, ranks, "pooled"), test_same_bits(comm, ranks, "star");
        test_nonfinite(comm, ranks, LOPT_NONFINITE_SKIP_STEP), test_nonfinite(comm, ranks, LOPT_NONFINITE_SKIP_TENSOR);
        test_nonfinite(comm, ranks, LOPT_NONFINITE_ERROR);
        test_clipping(comm, ranks);
        test_refusals(comm, ranks);
        MPI_Comm_free(&comm);
    }
    test_checkpoint(1, world_size), test_checkpoint(world_size, 1), test_checkpoint(world_size, world_size);
    if (world_size > 2) test_checkpoint(2, world_size - 1), test_checkpoint(world_size - 1, 2);
    return ranks_end();
}
