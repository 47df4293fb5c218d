/* Trains an embedding of 8 million rows of which each MPI rank has a part: parameters, gradients and the optimizer's state (lopt_mpi.h,
 * LOPT_MPI_ROWS). Words of a made-up language, drawn as words are, a few very often and most hardly ever, belong to classes; a
 * word's row, times a small matrix, is to tell its class.
 *
 *     mpirun -n 1 ./embedding_mpi
 *     mpirun -n 2 ./embedding_mpi                   the same numbers, with half of the memory on each
 *     mpirun -n 4 --oversubscribe ./embedding_mpi   if there are fewer processors
 *
 * All ranks draw the same batch. Of its rows each gives those that it has, so that everybody sees all of them and computes the small rest
 * of the model alike; the gradient of a row is then where the row is. A row that several words of a batch share gets the sum
 * of their gradients in the order of the batch. So the parameters have the same bits on any number of ranks, and the digest
 * at the end is the same.
 */
#include <lopt_mpi.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { WIDTH = 4, CLASSES = 10 };

static const char help[] =
    "Trains an embedding whose rows several MPI ranks have between them.\n"
    "\n"
    "usage: mpirun -n RANKS embedding_mpi [options]\n"
    "\n"
    "  --rows N           words, a row for each                  (default 8000000)\n"
    "  --steps N          train up to this step                  (40)\n"
    "  --batch N          words in a step                        (16384)\n"
    "  --checkpoint PATH  written at the end; without it there is none\n"
    "  --resume           continue from the checkpoint, on whatever number of ranks\n"
    "  --help             this text\n";

typedef struct settings {
    const char *checkpoint;
    int rows, steps, batch, resume;
} settings;

static int rank, ranks;

/* The same on all ranks, so one says it. */
static void end_all(int status, const char *what, const char *why) {
    if (rank == 0) fprintf(stderr, "embedding_mpi: %s: %s\n", what, why);
    MPI_Finalize();
    exit(status);
}

static void check(const lopt_mpi *mpi, lopt_status status) {
    if (status != LOPT_OK) end_all(EXIT_FAILURE, lopt_status_string(status), lopt_mpi_error(mpi));
}

/* Ends all ranks if this one has none. */
static void *memory(size_t size) {
    void *pointer = calloc(size > 0 ? size : 1, 1);
    if (pointer) return pointer;
    fprintf(stderr, "embedding_mpi: no memory for %zu bytes\n", size);
    MPI_Abort(MPI_COMM_WORLD, EXIT_FAILURE);
    exit(EXIT_FAILURE);
}

static settings parse_options(int argc, char **argv) {
    settings s = {.rows = 8000000, .steps = 40, .batch = 16384};
    const struct { const char *name; int *value, lowest, highest; } numbers[] = {
        {"--rows", &s.rows, 1, 1000000000}, {"--steps", &s.steps, 0, 100000000}, {"--batch", &s.batch, 1, 1 << 24},
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
        } else end_all(2, argv[i], "unknown option (--help)");
    }
    if (s.resume && !s.checkpoint) end_all(2, "--resume", "--checkpoint is missing");
    return s;
}

static uint64_t hash(uint64_t a, uint64_t b) {
    uint64_t x = a * 0x9e3779b97f4a7c15u + b * 0xbf58476d1ce4e5b9u + 0x94d049bb133111ebu;
    x ^= x >> 30, x *= 0xbf58476d1ce4e5b9u;
    x ^= x >> 27, x *= 0x94d049bb133111ebu;
    return x ^ x >> 31;
}
/* In [0, 1). */
static double uniform(uint64_t a, uint64_t b) { return (double)(hash(a, b) >> 11) / 9007199254740992.0; }

/* ---- The model ---------------------------------------------------------------------------------------------------- */

typedef struct model {
    lopt_rows own;
    float *rows, *rows_gradient;                   /* of own.count rows */
    float weights[CLASSES][WIDTH], bias[CLASSES];  /* the same on all ranks */
    float weights_gradient[CLASSES][WIDTH], bias_gradient[CLASSES];
    int batch;
    int64_t *words;
    float *seen;                                   /* their rows */
} model;

static void create(model *m, const settings *s) {
    const int64_t shape[] = {s->rows, WIDTH};
    memset(m, 0, sizeof *m);
    if (lopt_mpi_rows(shape, 2, MPI_COMM_WORLD, &m->own) != LOPT_OK) end_all(EXIT_FAILURE, "--rows", lopt_last_error());
    const size_t elements = (size_t)m->own.count * WIDTH;
    m->rows = memory(elements * sizeof(float)), m->rows_gradient = memory(elements * sizeof(float));
    for (size_t j = 0; j < elements; j++) m->rows[j] = (float)(uniform(1, (uint64_t)m->own.first * WIDTH + j) - 0.5);
    for (int j = 0; j < CLASSES * WIDTH; j++) m->weights[j / WIDTH][j % WIDTH] = (float)(2 * uniform(2, (uint64_t)j) - 1);
    m->batch = s->batch;
    m->words = memory((size_t)s->batch * sizeof *m->words), m->seen = memory((size_t)s->batch * WIDTH * sizeof(float));
}

/* The row of a word in an array of own rows, NULL if another rank has it. */
static float *row_of(const model *m, float *rows, int64_t word) {
    return word < m->own.first || word >= m->own.first + m->own.count ? NULL : rows + (word - m->own.first) * WIDTH;
}

/* The words of a step, as frequent as 1 / (their number), and their rows from wherever they are: of each a rank has the bits, the others 0. */
static void draw(model *m, const settings *s, int64_t step) {
    for (int i = 0; i < m->batch; i++) { /* the gradient of the batch before goes, which is all there is */
        float *g = row_of(m, m->rows_gradient, m->words[i]);
        if (g) memset(g, 0, WIDTH * sizeof(float));
    }
    memset(m->seen, 0, (size_t)m->batch * WIDTH * sizeof(float));
    for (int i = 0; i < m->batch; i++) {
        m->words[i] = (int64_t)pow((double)s->rows, uniform((uint64_t)step + 100, (uint64_t)i)) % s->rows;
        const float *row = row_of(m, m->rows, m->words[i]);
        if (row) memcpy(m->seen + i * WIDTH, row, WIDTH * sizeof(float));
    }
    MPI_Allreduce(MPI_IN_PLACE, m->seen, m->batch * WIDTH, MPI_UINT32_T, MPI_BOR, MPI_COMM_WORLD);
}

/* The loss of the batch and its gradient: of own rows and, on rank 0, of the rest, where lopt_mpi_step adds up what ranks have. */
static double gradient(model *m) {
    double loss = 0;
    memset(m->weights_gradient, 0, sizeof m->weights_gradient), memset(m->bias_gradient, 0, sizeof m->bias_gradient);
    for (int i = 0; i < m->batch; i++) {
        const float *x = m->seen + i * WIDTH;
        const int label = (int)(hash(3, (uint64_t)m->words[i]) % CLASSES);
        double logit[CLASSES], sum = 0;
        for (int c = 0; c < CLASSES; c++) {
            logit[c] = m->bias[c];
            for (int j = 0; j < WIDTH; j++) logit[c] += (double)m->weights[c][j] * x[j];
            sum += exp(logit[c]);
        }
        loss += log(sum) - logit[label];
        float *g = row_of(m, m->rows_gradient, m->words[i]);
        for (int c = 0; c < CLASSES; c++) {
            const float d = (float)((exp(logit[c]) / sum - (c == label)) / m->batch);
            m->bias_gradient[c] += d;
            for (int j = 0; j < WIDTH; j++) {
                m->weights_gradient[c][j] += d * x[j];
                if (g) g[j] += d * m->weights[c][j];
            }
        }
    }
    if (rank > 0) memset(m->weights_gradient, 0, sizeof m->weights_gradient), memset(m->bias_gradient, 0, sizeof m->bias_gradient);
    return loss / m->batch;
}

/* ---- The program -------------------------------------------------------------------------------------------------- */

static void print_memory(const model *m, const lopt_mpi *mpi) {
    lopt_information own = {.struct_size = sizeof own};
    (void)lopt_info(mpi->optimizer, &own);
    int64_t mine[4] = {m->own.first, m->own.count, 8 * m->own.count * WIDTH, own.memory_bytes}, *all = memory((size_t)ranks * sizeof mine);
    int64_t most = 0;
    MPI_Gather(mine, 4, MPI_INT64_T, all, 4, MPI_INT64_T, 0, MPI_COMM_WORLD);
    for (int r = 0; r < ranks && rank == 0; r++) {
        printf("rank %d of %d: %lld rows from %lld on, %.1f MiB of parameters and gradients, %.1f MiB of optimizer\n", r, ranks,
               (long long)all[4 * r + 1], (long long)all[4 * r], (double)all[4 * r + 2] / 1048576, (double)all[4 * r + 3] / 1048576);
        if (all[4 * r + 2] + all[4 * r + 3] > most) most = all[4 * r + 2] + all[4 * r + 3];
    }
    if (rank == 0) printf("largest memory on a rank: %.0f KiB\n", (double)most / 1024);
    free(all);
}

static void train(model *m, lopt_mpi *mpi, const settings *s) {
    lopt_statistics statistics = {.struct_size = sizeof statistics};
    check(mpi, lopt_stats(mpi->optimizer, 0, &statistics)); /* the embedding's steps are those of all ranks */
    int64_t step = statistics.steps;
    double loss = 0, start = MPI_Wtime();
    for (int count = 0; step < s->steps;) {
        draw(m, s, step);
        loss += gradient(m);
        check(mpi, lopt_mpi_step(mpi));
        step++, count++;
        if (step % 10 && step != s->steps) continue;
        if (rank == 0) printf("step %4lld   loss %.4f   %.0f ms/step\n", (long long)step, loss / count, 1e3 * (MPI_Wtime() - start) / count);
        loss = count = 0, start = MPI_Wtime();
    }
    if (s->checkpoint) check(mpi, lopt_mpi_save(mpi, s->checkpoint, LOPT_WITH_PARAMETERS));
}

/* A sum over all elements, in whatever order. */
static uint64_t digest_of(const model *m) {
    uint64_t own = 0, all = 0;
    for (int64_t j = 0; j < m->own.count * WIDTH; j++) {
        uint32_t bits;
        memcpy(&bits, m->rows + j, sizeof bits);
        own += hash((uint64_t)(m->own.first * WIDTH + j), bits);
    }
    for (int j = 0; rank == 0 && j < CLASSES * WIDTH; j++) {
        uint32_t bits;
        memcpy(&bits, &m->weights[j / WIDTH][j % WIDTH], sizeof bits);
        own += hash(UINT64_MAX - (uint64_t)j, bits);
    }
    MPI_Allreduce(&own, &all, 1, MPI_UINT64_T, MPI_SUM, MPI_COMM_WORLD);
    return all;
}

int main(int argc, char **argv) {
    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &ranks);
    settings s = parse_options(argc, argv);
    model m;
    create(&m, &s);

    lopt_options options;
    lopt_mpi mpi;
    lopt_mpi_tensor table[] = {
        {"embedding", m.rows, m.rows_gradient, LOPT_MPI_ROWS + 2, {s.rows, WIDTH}},
        {"weights", m.weights[0], m.weights_gradient[0], 2, {CLASSES, WIDTH}},
        {"bias", m.bias, m.bias_gradient, 1, {CLASSES}},
    };
    (void)lopt_options_init(&options, sizeof options);
    options.threads = 1; /* the ranks are the threads here */
    options.total_steps = s.steps;
    options.nonfinite = LOPT_NONFINITE_ERROR;
    check(&mpi, lopt_mpi_create(&mpi, MPI_COMM_WORLD, NULL, &options, table, 3));
    if (s.resume) check(&mpi, lopt_mpi_restore(&mpi, s.checkpoint, LOPT_WITH_PARAMETERS));
    print_memory(&m, &mpi);
    train(&m, &mpi, &s);
    const uint64_t digest = digest_of(&m);
    if (rank == 0) printf("parameters after %d steps: digest %016llx\n", s.steps, (unsigned long long)digest);

    lopt_mpi_destroy(&mpi);
    free(m.rows), free(m.rows_gradient), free(m.words), free(m.seen);
    int failed = rank == 0 && (fflush(stdout) != 0 || ferror(stdout));
    if (failed) fprintf(stderr, "embedding_mpi: the output cannot be written\n");
    MPI_Finalize();
    return failed;
}
