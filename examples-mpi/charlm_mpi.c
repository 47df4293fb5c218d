/* Trains the character model of ../examples-c on several MPI ranks: each computes the gradient of its part of a batch, and has the
 * optimizer's state of a part of the tensors (lopt_mpi.h).
 *
 *     mpirun -n 1 ./charlm_mpi
 *     mpirun -n 2 ./charlm_mpi                      the same numbers, with a part of the state on each
 *     mpirun -n 4 --oversubscribe ./charlm_mpi      if there are fewer processors
 *
 * A batch is made of --parts parts, whatever the number of ranks, and the gradients of its parts are added up in pairs, then pairs of
 * pairs. lopt_mpi.h goes on in the same order over the ranks. So the sums have the same bits on any number of ranks that divides the
 * parts, and so have the parameters: the digest at the end is the same.
 */
#include <errno.h>
#include <lopt_mpi.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gru.h"
#include "text.h"

static const char help[] =
    "Trains a character-level language model on several MPI ranks.\n"
    "\n"
    "usage: mpirun -n RANKS charlm_mpi [options] [TEXT]     (default: data/text/shakespeare.txt, here or in ..)\n"
    "\n"
    "  --steps N          train up to this step                          (default 200)\n"
    "  --hidden N         size of the state                              (64)\n"
    "  --parts N          of a batch, a power of 2; ranks divide them    (4)\n"
    "  --windows N        of text in a part                              (8)\n"
    "  --length N         characters per window                          (64)\n"
    "  --checkpoint PATH  written at the end; without it there is none\n"
    "  --resume           continue from the checkpoint, on whatever number of ranks\n"
    "  --help             this text\n";

typedef struct settings {
    const char *text, *checkpoint;
    int steps, hidden, parts, windows, length, resume;
} settings;

static int rank, ranks;

/* Ends all ranks. */
static void end(int status, const char *what, const char *why) {
    fprintf(stderr, "charlm_mpi: %s%s%s\n", what, why ? ": " : "", why ? why : "");
    MPI_Abort(MPI_COMM_WORLD, status);
    exit(status);
}
/* The same everywhere, so one says it. */
static void end_all(int status, const char *what, const char *why) {
    if (rank == 0) fprintf(stderr, "charlm_mpi: %s: %s\n", what, why);
    MPI_Finalize();
    exit(status);
}

static void check(const lopt_mpi *mpi, lopt_status status) {
    if (status != LOPT_OK) end_all(EXIT_FAILURE, lopt_status_string(status), lopt_mpi_error(mpi));
}

static settings parse_options(int argc, char **argv) {
    settings s = {.steps = 200, .hidden = 64, .parts = 4, .windows = 8, .length = 64};
    const struct { const char *name; int *value, lowest, highest; } numbers[] = {
        {"--steps", &s.steps, 0, 100000000}, {"--hidden", &s.hidden, 1, 2048}, {"--parts", &s.parts, 1, 1024},
        {"--windows", &s.windows, 1, 1024}, {"--length", &s.length, 1, 1024},
    };
    for (int i = 1; i < argc; i++) {
        size_t n = 0;
        while (n < sizeof numbers / sizeof *numbers && strcmp(argv[i], numbers[n].name) != 0) n++;
        if (n < sizeof numbers / sizeof *numbers) {
            char *rest = NULL;
            long value = i + 1 < argc ? strtol(argv[i + 1], &rest, 10) : 0;
            if (!rest || rest == argv[i + 1] || *rest || value < numbers[n].lowest || value > numbers[n].highest)
                end_all(2, argv[i], "a number is missing, or out of range (--help)");
            *numbers[n].value = (int)value;
            i++;
        } else if (strcmp(argv[i], "--checkpoint") == 0 && i + 1 < argc) s.checkpoint = argv[++i];
        else if (strcmp(argv[i], "--resume") == 0) s.resume = 1;
        else if (strcmp(argv[i], "--help") == 0) {
            if (rank == 0) fputs(help, stdout);
            MPI_Finalize();
            exit(EXIT_SUCCESS);
        } else if (argv[i][0] == '-' || s.text) end_all(2, argv[i], "unknown option (--help)");
        else s.text = argv[i];
    }
    if (s.parts & (s.parts - 1)) end_all(2, "--parts", "is to be a power of 2");
    if (s.parts % ranks) end_all(2, "--parts", "is to be a multiple of the number of ranks");
    if (s.resume && !s.checkpoint) end_all(2, "--resume", "--checkpoint is missing");
    return s;
}

static text read_text(const char *path, int length) {
    text t;
    FILE *file = fopen(path, "rb");
    if (!file) end(EXIT_FAILURE, path, strerror(errno));
    const char *wrong = text_read(&t, file);
    if (wrong) end(EXIT_FAILURE, path, wrong);
    if (t.size < length + 2) end(EXIT_FAILURE, path, "is too short");
    return t;
}

/* ---- The gradient of a batch -------------------------------------------------------------------------------------- */

typedef struct worker {
    gru model;
    gru_pass pass;
    text t;
    int64_t size; /* of all tensors together */
    double loss;
} worker;

/* The gradient of parts first ... first + count - 1 of a step's batch, count a power of 2, in the tensors. */
static void gradient(worker *w, int64_t step, int first, int count) {
    if (count == 1) {
        text_draw(&w->t, &w->pass, 0, w->t.size, ((uint64_t)step << 16) + (uint64_t)first);
        gru_forward(&w->model, &w->pass);
        w->loss += gru_loss(&w->model, &w->pass);
        gru_backward(&w->model, &w->pass);
        return;
    }
    float *half = malloc((size_t)w->size * sizeof(float)), *at = half;
    if (!half) end(EXIT_FAILURE, "not enough memory", NULL);
    gradient(w, step, first, count / 2);
    for (int i = 0; i < GRU_TENSORS; at += w->model.tensor[i++].size) memcpy(at, w->model.tensor[i].grad, (size_t)w->model.tensor[i].size * sizeof(float));
    gradient(w, step, first + count / 2, count / 2);
    at = half;
    for (int i = 0; i < GRU_TENSORS; at += w->model.tensor[i++].size)
        for (int64_t k = 0; k < w->model.tensor[i].size; k++) w->model.tensor[i].grad[k] += at[k];
    free(half);
}

/* ---- The program -------------------------------------------------------------------------------------------------- */

/* What each rank has: the sum is that of one. */
static void print_memory(const lopt_mpi *mpi) {
    lopt_information own = {.struct_size = sizeof own};
    (void)lopt_info(mpi->optimizer, &own);
    int64_t mine[3] = {own.tensors - own.tensors_elsewhere, own.parameters, own.state_bytes};
    int64_t *all = malloc((size_t)ranks * sizeof mine), sum = 0, most = 0;
    if (!all) end(EXIT_FAILURE, "not enough memory", NULL);
    MPI_Gather(mine, 3, MPI_INT64_T, all, 3, MPI_INT64_T, 0, MPI_COMM_WORLD);
    for (int r = 0; r < ranks && rank == 0; r++) {
        printf("rank %d of %d: %lld tensors, %lld parameters, %.0f KiB of state\n", r, ranks, (long long)all[3 * r],
               (long long)all[3 * r + 1], (double)all[3 * r + 2] / 1024);
        sum += all[3 * r + 2];
        if (all[3 * r + 2] > most) most = all[3 * r + 2];
    }
    if (rank == 0) printf("largest state on a rank: %.0f of %.0f KiB\n", (double)most / 1024, (double)sum / 1024);
    free(all);
}

static void train(worker *w, lopt_mpi *mpi, const settings *s) {
    lopt_statistics statistics = {.struct_size = sizeof statistics};
    long long step = 0;
    const int parts = s->parts / ranks;
    /* A rank may have no tensor; the first one always has. */
    check(mpi, lopt_stats(mpi->optimizer, -1, &statistics));
    step = statistics.steps;
    MPI_Bcast(&step, 1, MPI_LONG_LONG, 0, MPI_COMM_WORLD);
    double start = MPI_Wtime(), loss = 0;
    for (int count = 0; step < s->steps;) {
        w->loss = 0;
        gradient(w, step, rank * parts, parts);
        check(mpi, lopt_mpi_step(mpi));
        loss += w->loss / s->parts;
        step++, count++;
        if (step % 50 && step != s->steps) continue;
        MPI_Allreduce(MPI_IN_PLACE, &loss, 1, MPI_DOUBLE, MPI_SUM, MPI_COMM_WORLD);
        double now = MPI_Wtime();
        if (rank == 0) printf("step %6lld   %.4f bits/char   %.2f ms/step\n", step, loss / count / log(2), 1e3 * (now - start) / count);
        loss = count = 0, start = now;
    }
    if (s->checkpoint) check(mpi, lopt_mpi_save(mpi, s->checkpoint, LOPT_WITH_PARAMETERS));
}

static uint64_t digest_of(const gru *model) {
    uint64_t digest = 0xcbf29ce484222325u;
    for (int i = 0; i < GRU_TENSORS; i++) {
        const unsigned char *bytes = (const unsigned char *)model->tensor[i].param;
        for (size_t k = 0; k < (size_t)model->tensor[i].size * sizeof(float); k++) digest = (digest ^ bytes[k]) * 0x100000001b3u;
    }
    return digest;
}

int main(int argc, char **argv) {
    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &ranks);
    settings s = parse_options(argc, argv);
    const char *here = "data/text/shakespeare.txt", *above = "../data/text/shakespeare.txt";
    FILE *found = s.text ? NULL : fopen(here, "rb");
    if (!s.text) s.text = found ? here : above;
    if (found) fclose(found);

    worker w = {.size = 0};
    w.t = read_text(s.text, s.length);
    if (!gru_create(&w.model, w.t.vocab, s.hidden) || !gru_pass_create(&w.pass, &w.model, s.windows, s.length))
        end(EXIT_FAILURE, "not enough memory", NULL);
    gru_initialize(&w.model, 1);

    lopt_options options;
    lopt_mpi mpi;
    lopt_mpi_tensor table[GRU_TENSORS];
    for (int i = 0; i < GRU_TENSORS; i++) {
        gru_tensor *t = &w.model.tensor[i];
        table[i] = (lopt_mpi_tensor){t->name, t->param, t->grad, t->rank, {t->shape[0], t->shape[1]}};
        w.size += t->size;
    }
    (void)lopt_options_init(&options, sizeof options);
    options.threads = 1;                    /* the ranks are the threads here */
    options.total_steps = s.steps;
    options.gradient_scale = 1.0 / s.parts; /* of the sum the mean */
    options.nonfinite = LOPT_NONFINITE_ERROR;
    check(&mpi, lopt_mpi_create(&mpi, MPI_COMM_WORLD, NULL, &options, table, GRU_TENSORS));
    if (s.resume) check(&mpi, lopt_mpi_restore(&mpi, s.checkpoint, LOPT_WITH_PARAMETERS));
    print_memory(&mpi);
    train(&w, &mpi, &s);
    if (rank == 0) printf("parameters after %d steps: digest %016llx\n", s.steps, (unsigned long long)digest_of(&w.model));

    lopt_mpi_destroy(&mpi);
    gru_pass_destroy(&w.pass);
    gru_destroy(&w.model);
    free(w.t.character);
    int failed = rank == 0 && (fflush(stdout) != 0 || ferror(stdout));
    if (failed) fprintf(stderr, "charlm_mpi: the output cannot be written\n");
    MPI_Finalize();
    return failed;
}
