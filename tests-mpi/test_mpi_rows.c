/* Tensors with LOPT_MPI_ROWS on the ranks that mpiexec starts, and on the first 1, 2, ... of them: the steps have the bits of one
 * optimizer that has the whole, gradients that are not finite and mistakes on one rank are everybody's, and checkpoints go from any
 * number of ranks to any other. Each rank computes the whole by itself, and compares its rows. */
#define _GNU_SOURCE
#include "ranks.h"

enum { WITH_ROWS = 3 }; /* the first tensors */

static void rows_problem(problem *p) {
    memset(p, 0, sizeof *p);
    problem_add(p, "embedding", 2, (int64_t[]){20001, 8});
    problem_add(p, "odd", 2, (int64_t[]){40000, 3});
    problem_add(p, "little", 1, (int64_t[]){99});
    problem_add(p, "matrix", 2, (int64_t[]){19, 33});
    problem_add(p, "bias", 1, (int64_t[]){37});
    problem_start(p);
}

static lopt_options some_options(void) {
    lopt_options options = problem_options();
    options.weight_decay = 0.05, options.average = LOPT_AVERAGE_EMA, options.average_span = 5;
    options.gradient_scale = 0.75, options.total_steps = 40;
    return options;
}

/* Where the rank's rows begin, and how many elements they have. */
static int64_t place(const problem_tensor *t, MPI_Comm comm, int64_t *elements) {
    lopt_rows rows = {0, 0};
    CHECK_OK(lopt_mpi_rows(t->shape, t->rank, comm, &rows));
    *elements = rows.count * (t->elements / t->shape[0]);
    return rows.first * (t->elements / t->shape[0]);
}

static void table_of(const problem *p, MPI_Comm comm, lopt_mpi_tensor *table) {
    for (int i = 0; i < p->count; i++) {
        const problem_tensor *t = &p->tensors[i];
        int64_t elements = 0;
        const int64_t begin = i < WITH_ROWS ? place(t, comm, &elements) : 0;
        table[i] = (lopt_mpi_tensor){t->name, t->parameter + begin, t->gradient + begin, t->rank, {t->shape[0], t->shape[1]}};
        if (i < WITH_ROWS) table[i].rank += LOPT_MPI_ROWS;
        if (i < WITH_ROWS && elements == 0) table[i].parameter = table[i].gradient = NULL;
    }
}

static lopt_status create(lopt_mpi *m, MPI_Comm comm, const lopt_options *options, const problem *p) {
    lopt_mpi_tensor table[PROBLEM_MOST];
    table_of(p, comm, table);
    return lopt_mpi_create(m, comm, NULL, options, table, p->count);
}

/* The gradient of step `number`; of what all ranks sum it is on rank 0 alone. */
static void gradient(const lopt_mpi *m, problem *p, int64_t number) {
    problem_gradient(p, number);
    for (int i = WITH_ROWS; m->rank > 0 && i < p->count; i++) memset(p->tensors[i].gradient, 0, 4 * (size_t)p->tensors[i].elements);
}

/* Own rows, and all of the others; problem_gradient looks at the rest too. */
static void check_same(const lopt_mpi *m, problem *p, const problem *q) {
    for (int i = 0; i < p->count; i++) {
        int64_t elements = p->tensors[i].elements;
        const int64_t begin = i < WITH_ROWS ? place(&p->tensors[i], m->comm, &elements) : 0;
        CHECK_BITS(p->tensors[i].parameter + begin, q->tensors[i].parameter + begin, elements);
        memcpy(p->tensors[i].parameter, q->tensors[i].parameter, 4 * (size_t)p->tensors[i].elements);
    }
}

static void test_rows_on_ranks_take_the_steps_of_the_whole(MPI_Comm comm, int ranks, lopt_nonfinite policy) {
    static const lopt_status expected[] = {LOPT_SKIPPED_NONFINITE, LOPT_SKIPPED_NONFINITE, LOPT_ERROR_NONFINITE};
    problem p, q;
    lopt_mpi m;
    lopt_options options = some_options();
    options.nonfinite = policy;
    rows_problem(&p), rows_problem(&q);
    lopt_optimizer *whole = problem_optimizer(&q, "pooled", &options);
    CHECK_STATUS(create(&m, comm, &options, &p), LOPT_OK);
    for (int number = 0; number < 9; number++) {
        check_context("policy %d on %d ranks, step %d", policy, ranks, number);
        const int bad = number == 3 ? 0 : number == 5 ? 4 : number == 7 ? 1 : -1;
        problem_gradient(&q, number), gradient(&m, &p, number);
        if (number == 4) memset(p.tensors[0].gradient, 0, 4 * 20001 * 8), memset(q.tensors[0].gradient, 0, 4 * 20001 * 8);
        if (bad >= 0) q.tensors[bad].gradient[q.tensors[bad].elements - 1] = NAN;
        if (bad >= 0 && (bad < WITH_ROWS || m.rank == 0)) p.tensors[bad].gradient[q.tensors[bad].elements - 1] = NAN;
        CHECK_STATUS(lopt_step(whole), bad < 0 ? LOPT_OK : expected[policy]);
        CHECK_STATUS(lopt_mpi_step(&m), bad < 0 ? LOPT_OK : expected[policy]);
        if (bad >= 0) check_error(&m, p.tensors[bad].name);
        check_same(&m, &p, &q);
    }
    check_context("");
    int64_t bytes = 0;
    lopt_information own = {.struct_size = sizeof own};
    CHECK_OK(lopt_info(m.optimizer, &own));
    MPI_Allreduce(&own.state_bytes, &bytes, 1, MPI_INT64_T, MPI_SUM, comm);
    CHECK_INT(bytes, information_of(whole).state_bytes);
    lopt_mpi_destroy(&m), lopt_destroy(whole);
    problem_free(&p), problem_free(&q);
}

/* A quarter of the norm is an exact factor. */
static void test_rows_count_in_the_norm_of_all(MPI_Comm comm, int ranks) {
    problem p, q;
    lopt_mpi m;
    lopt_options options = some_options();
    options.max_gradient_norm = 1e30;
    rows_problem(&p), rows_problem(&q);
    lopt_optimizer *whole = problem_optimizer(&q, "pooled", &options);
    check_context("%d ranks", ranks);
    CHECK_STATUS(create(&m, comm, &options, &p), LOPT_OK);
    for (int number = 0; number < 3; number++) {
        problem_gradient(&q, number), gradient(&m, &p, number);
        CHECK_OK(lopt_step(whole));
        CHECK_STATUS(lopt_mpi_step(&m), LOPT_OK);
        CHECK_NEAR(m.gradient_norm, statistics_of(whole, -1).gradient_norm, 0);
        check_same(&m, &p, &q);
    }
    m.max_gradient_norm = 0;
    problem_gradient(&q, 3), gradient(&m, &p, 3);
    CHECK_OK(lopt_step(whole));
    CHECK_STATUS(lopt_mpi_step(&m), LOPT_OK);
    check_same(&m, &p, &q);
    check_context("");
    lopt_mpi_destroy(&m), lopt_destroy(whole);
    problem_free(&p), problem_free(&q);
}

static void test_mistakes_on_one_rank_are_everybodys(MPI_Comm comm, int ranks) {
    problem p;
    lopt_mpi m;
    lopt_options options = some_options();
    lopt_weights *star = NULL;
    lopt_mpi_tensor table[PROBLEM_MOST];
    lopt_rows rows;
    rows_problem(&p), table_of(&p, comm, table);
    check_context("%d ranks", ranks);
    CHECK_STATUS(lopt_mpi_rows(p.tensors[0].shape, 0, comm, &rows), LOPT_ERROR_INVALID_ARGUMENT);
    CHECK_OK(lopt_weights_builtin("star", NULL, &star));
    CHECK_STATUS(lopt_mpi_create(&m, comm, star, &options, table, p.count), LOPT_ERROR_INVALID_ARGUMENT);
    check_error(&m, "kind pooled");
    lopt_weights_free(star);
    options.max_update_ratio = 0.1;
    CHECK_STATUS(lopt_mpi_create(&m, comm, NULL, &options, table, p.count), LOPT_ERROR_INVALID_ARGUMENT);
    check_error(&m, "max_update_ratio");
    options.max_update_ratio = 0;
    CHECK_STATUS(create(&m, comm, &options, &p), LOPT_OK);
    gradient(&m, &p, 0);
    int last = m.rank == ranks - 1;
    const float before = p.tensors[4].parameter[3];
    if (m.rank == 0) CHECK_OK(lopt_bind(m.optimizer, 0, NULL, NULL));
    CHECK_STATUS(lopt_mpi_step(&m), LOPT_ERROR_INVALID_ARGUMENT);
    check_error(&m, "'embedding' is NULL");
    if (m.rank == 0) CHECK_OK(lopt_bind(m.optimizer, 0, table[0].parameter, table[0].gradient));
    if (last && ranks > 1) CHECK_OK(lopt_set_lr_scale(m.optimizer, 0.5));
    if (ranks > 1) {
        CHECK_STATUS(lopt_mpi_step(&m), LOPT_ERROR_MISMATCH);
        check_error(&m, "is in another call than");
    }
    CHECK(p.tensors[4].parameter[3] == before);
    CHECK_OK(lopt_set_lr_scale(m.optimizer, 1));
    gradient(&m, &p, 0);
    CHECK_STATUS(lopt_mpi_step(&m), LOPT_OK);
    check_context("");
    lopt_mpi_destroy(&m);
    problem_free(&p);
}

static void test_checkpoints_go_to_any_number_of_ranks(int from, int to) {
    problem p, q;
    lopt_mpi m;
    lopt_options options = some_options();
    rows_problem(&p), rows_problem(&q);
    lopt_optimizer *whole = problem_optimizer(&q, "pooled", &options);
    MPI_Comm comm = first_ranks(from);
    check_context("from %d to %d ranks", from, to);
    for (int number = 0; number < 3; number++) {
        problem_gradient(&q, number);
        CHECK_OK(lopt_step(whole));
    }
    if (comm != MPI_COMM_NULL) {
        CHECK_STATUS(create(&m, comm, &options, &p), LOPT_OK);
        for (int number = 0; number < 3; number++) {
            gradient(&m, &p, number);
            for (int i = 0; i < WITH_ROWS; i++) { /* the rest of the tensor has not been stepped */
                int64_t elements = 0, begin = place(&p.tensors[i], comm, &elements);
                for (int64_t j = 0; j < p.tensors[i].elements; j++) {
                    if (j < begin || j >= begin + elements) p.tensors[i].gradient[j] = NAN;
                }
            }
            CHECK_STATUS(lopt_mpi_step(&m), LOPT_OK);
        }
        CHECK_STATUS(lopt_mpi_save(&m, checkpoint, LOPT_WITH_PARAMETERS), LOPT_OK);
        CHECK_STATUS(lopt_mpi_save(&m, "no-such-folder/checkpoint", 0), LOPT_ERROR_IO);
        check_same(&m, &p, &q);
        lopt_mpi_destroy(&m);
        MPI_Comm_free(&comm);
    }
    MPI_Barrier(MPI_COMM_WORLD);
    comm = first_ranks(to);
    if (comm != MPI_COMM_NULL) {
        for (int i = 0; i < p.count; i++) memset(p.tensors[i].parameter, 0x3d, 4 * (size_t)p.tensors[i].elements);
        CHECK_STATUS(create(&m, comm, NULL, &p), LOPT_OK);
        gradient(&m, &p, 40);
        CHECK_STATUS(lopt_mpi_step(&m), LOPT_OK);
        CHECK_STATUS(lopt_mpi_restore(&m, "no-such-file", 0), LOPT_ERROR_IO);
        CHECK_STATUS(lopt_mpi_restore(&m, checkpoint, LOPT_WITH_PARAMETERS), LOPT_OK);
        m.gradient_scale = 0.75;
        check_same(&m, &p, &q);
        for (int number = 3; number < 6; number++) {
            problem_gradient(&q, number), gradient(&m, &p, number);
            CHECK_OK(lopt_step(whole));
            CHECK_STATUS(lopt_mpi_step(&m), LOPT_OK);
            check_same(&m, &p, &q);
        }
        lopt_mpi_destroy(&m);
        MPI_Comm_free(&comm);
    }
    remove_checkpoint(1, from);
    check_context("");
    lopt_destroy(whole);
    problem_free(&p), problem_free(&q);
}

int main(int count, char **arguments) {
    ranks_begin(count, arguments, "rows");
    for (int ranks = 1; ranks <= world_size; ranks++) {
        MPI_Comm comm = first_ranks(ranks);
        if (comm == MPI_COMM_NULL) continue;
        test_rows_on_ranks_take_the_steps_of_the_whole(comm, ranks, LOPT_NONFINITE_SKIP_STEP);
        test_rows_on_ranks_take_the_steps_of_the_whole(comm, ranks, LOPT_NONFINITE_SKIP_TENSOR);
        test_rows_on_ranks_take_the_steps_of_the_whole(comm, ranks, LOPT_NONFINITE_ERROR);
        test_rows_count_in_the_norm_of_all(comm, ranks);
        test_mistakes_on_one_rank_are_everybodys(comm, ranks);
        MPI_Comm_free(&comm);
    }
    test_checkpoints_go_to_any_number_of_ranks(1, world_size), test_checkpoints_go_to_any_number_of_ranks(world_size, 1);
    if (world_size > 2) test_checkpoints_go_to_any_number_of_ranks(2, world_size - 1), test_checkpoints_go_to_any_number_of_ranks(world_size - 1, 2);
    return ranks_end();
}
