/* lopt_mpi.h: data-parallel training over MPI ranks that divide the optimizer's state among them.
 *
 * Copyright 2026 the lopt authors. SPDX-License-Identifier: Apache-2.0
 *
 *     lopt_mpi_tensor table[] = {{"fc1.weight", w, dw, 2, {128, 64}}, {"fc1.bias", b, db, 1, {128}}};
 *     lopt_mpi mpi;
 *     options.gradient_scale = 1.0 / ranks;            // gradients are summed: so their mean counts
 *     if (lopt_mpi_create(&mpi, MPI_COMM_WORLD, NULL, &options, table, 2) < 0) fail(lopt_mpi_error(&mpi));
 *     for (int i = 0; i < steps; i++) {
 *         forward(); backward();                       // yours, of this rank's part of the batch: writes dw and db
 *         if (lopt_mpi_step(&mpi) < 0) fail(lopt_mpi_error(&mpi));
 *     }
 *     lopt_mpi_destroy(&mpi);
 *
 * Compile with mpicc or CMake's MPI::MPI_C, and -lm. C99 and C++. The library knows nothing of MPI; all of it is here.
 *
 * Every rank has all parameters and gradients, and the state of the tensors that it owns: whole tensors, the largest first to the rank
 * that has fewest elements. A step sums each gradient to its owner, which steps, and sends the parameters to all. The steps are those
 * of one optimizer that has all tensors, to the bit, given the same sums (lopt_add_elsewhere). Sums are taken in pairs of ranks, 0 and
 * 1, 2 and 3, then of pairs, whoever the owner is and whatever MPI does: a program that adds its parts of a batch in the same order
 * gets the same bits on 1, 2, 4, ... ranks.
 *
 * A tensor that is too large for one rank is divided by rows, if its rank in the table says so. An embedding of 8 million rows:
 *
 *     lopt_mpi_rows((int64_t[]){8000000, 4}, 2, MPI_COMM_WORLD, &rows);           // e and de: rows.count * 4 elements
 *     lopt_mpi_tensor table[] = {{"embedding", e, de, LOPT_MPI_ROWS + 2, {8000000, 4}}, ...
 *
 * Parameters, gradients and state of a row are on one rank alone, and the program brings it the sum of the row's gradients. The steps are
 * those of the whole tensor, to the bit; lopt_add_rows in lopt.h tells what that needs: weights of kind pooled, no max_update_ratio.
 *
 * All functions but lopt_mpi_error are collective, and return the same status on every rank: if a rank cannot, none does, and the
 * message says which. What happens when MPI itself fails is up to the communicator's error handler; one that returns makes it
 * LOPT_ERROR_IO. MPI is called by the calling thread alone (MPI_THREAD_FUNNELED). lopt starts threads on each rank as on a
 * process alone, by the processors that the process is bound to: set options.threads where ranks share them.
 */
#ifndef LOPT_MPI_H
#define LOPT_MPI_H

#include <lopt.h>
#include <math.h>
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifdef __cplusplus
extern "C" {
#else
/* With -std=c99 the system's headers leave these out. */
int fileno(FILE *);
int fsync(int);
#endif

typedef struct lopt_mpi_tensor {
    const char *name;
    float *parameter;
    float *gradient;    /* written too: partial sums pass through it                                              */
    int32_t rank;       /* plus LOPT_MPI_ROWS for one whose rows the ranks have between them; `parameter` and
                           `gradient` are then of this rank's rows, and NULL is allowed where these are none       */
    int64_t shape[LOPT_MAX_RANK]; /* the first `rank` extents, of the whole tensor                                 */
} lopt_mpi_tensor;

typedef struct lopt_mpi {
    lopt_optimizer *optimizer; /* of this rank, with all tensors under the numbers of the table, those of other ranks elsewhere: for
                                  lopt_info, lopt_stats, lopt_set_lr_scale, lopt_set_tensor_options, ... on every rank alike */
    double gradient_scale;     /* as in the options; may be changed between steps. (lopt_set_gradient_scale may not, and a
                                  checkpoint's is not taken.)                                                      */
    double max_gradient_norm;  /* likewise                                                                          */
    double gradient_norm;      /* of the last step that was taken, before clipping                                  */
    MPI_Comm comm;             /* a duplicate of the caller's                                                       */
    int rank, ranks;
    int32_t count;
    int32_t nonfinite;
    lopt_mpi_tensor *tensors;
    int64_t *elements;
    int32_t with_rows;         /* how many of the tensors all ranks have rows of; `elements` of those are 0          */
    int *owner;                /* the rank that steps each tensor; LOPT_MPI_ALL: each its rows                      */
    double *numbers;
    float *piece;
    char message[320];
} lopt_mpi;

enum { LOPT_MPI_PIECE = 1 << 18 }; /* elements of a message */
enum { LOPT_MPI_ROWS = 1 << 8 };   /* see lopt_mpi_tensor */
enum { LOPT_MPI_ALL = -1 };        /* the owner of rows */

/* What was wrong in the last call that did not return LOPT_OK: of the first rank that had it. */
static inline const char *lopt_mpi_error(const lopt_mpi *m) { return m->message; }

/* ---- What the calls share ---------------------------------------------------------------------------------------- */

/* A status of this rank with a message of its own. */
static inline lopt_status lopt_mpi_refuse(lopt_mpi *m, lopt_status status, const char *text, const char *more) {
    snprintf(m->message, sizeof m->message, "%.200s%.100s", text, more);
    return status;
}

static inline lopt_status lopt_mpi_failed(lopt_mpi *m) {
    return lopt_mpi_refuse(m, LOPT_ERROR_IO, "a call of MPI failed", "");
}

/* One of lopt.h, with its message. */
static inline lopt_status lopt_mpi_note(lopt_mpi *m, lopt_status status) {
    return status == LOPT_OK ? status : lopt_mpi_refuse(m, status, lopt_last_error(), "");
}

/* The worst status of all ranks, errors before remarks, and the message of the first rank that has it. A mismatch comes last: where
 * another rank has another error, it follows from that. */
static inline lopt_status lopt_mpi_agree(lopt_mpi *m, lopt_status status) {
    struct { int badness, rank; } own, worst;
    char text[256];
    own.badness = status == LOPT_ERROR_MISMATCH ? 1000 : status < 0 ? 1000 - (int)status : (int)status, own.rank = m->rank;
    worst = own;
    if (MPI_Allreduce(&own, &worst, 1, MPI_2INT, MPI_MAXLOC, m->comm) != MPI_SUCCESS) return lopt_mpi_failed(m);
    if (worst.badness == 0) return LOPT_OK;
    snprintf(text, sizeof text, "%.255s", m->message);
    if (MPI_Bcast(text, (int)sizeof text, MPI_CHAR, worst.rank, m->comm) != MPI_SUCCESS) return lopt_mpi_failed(m);
    snprintf(m->message, sizeof m->message, "rank %d: %.255s", worst.rank, text);
    return worst.badness == 1000 ? LOPT_ERROR_MISMATCH : (lopt_status)(worst.badness > 1000 ? 1000 - worst.badness : worst.badness);
}

/* The rows that this rank of `comm` has of a tensor with LOPT_MPI_ROWS. Not collective. Errors: as lopt_rows_of. */
static inline lopt_status lopt_mpi_rows(const int64_t *shape, int32_t rank, MPI_Comm comm, lopt_rows *rows) {
    int part = 0, parts = 0;
    if (MPI_Comm_rank(comm, &part) != MPI_SUCCESS || MPI_Comm_size(comm, &parts) != MPI_SUCCESS) return LOPT_ERROR_IO;
    return lopt_rows_of(shape, rank, part, parts, rows);
}

/* The all-gather of lopt_gather; `context` points to the communicator. For a program without lopt_mpi too. */
static inline int lopt_mpi_gather(void *context, const double *own, double *all, int64_t count) {
    if (count > 1 << 30) return MPI_ERR_COUNT;
    return MPI_Allgather(own, (int)count, MPI_DOUBLE, all, (int)count, MPI_DOUBLE, *(MPI_Comm *)context);
}

typedef struct lopt_mpi_size {
    int64_t elements;
    int32_t index;
} lopt_mpi_size;

static inline int lopt_mpi_larger(const void *a, const void *b) {
    const lopt_mpi_size *x = (const lopt_mpi_size *)a, *y = (const lopt_mpi_size *)b;
    if (x->elements != y->elements) return x->elements > y->elements ? -1 : 1;
    return x->index < y->index ? -1 : 1;
}

/* Who owns which tensor: the largest first, to the rank that has fewest elements. 0 if there is no memory. */
static inline int lopt_mpi_divide(const int64_t *elements, int32_t count, int ranks, int *owner) {
    lopt_mpi_size *order = (lopt_mpi_size *)malloc(((size_t)count + 1) * sizeof *order);
    int64_t *load = (int64_t *)calloc((size_t)ranks, sizeof *load);
    if (order && load) {
        for (int32_t i = 0; i < count; i++) order[i].elements = elements[i], order[i].index = i;
        qsort(order, (size_t)count, sizeof *order, lopt_mpi_larger);
        for (int32_t i = 0; i < count; i++) {
            int least = 0;
            for (int r = 1; r < ranks; r++) {
                if (load[r] < load[least]) least = r;
            }
            owner[order[i].index] = least;
            load[least] += order[i].elements;
        }
    }
    const int done = order && load;
    free(order);
    free(load);
    return done;
}

static inline int lopt_mpi_receive_sum(lopt_mpi *m, float *to, int n, int from) {
    if (MPI_Recv(m->piece, n, MPI_FLOAT, from, 0, m->comm, MPI_STATUS_IGNORE) != MPI_SUCCESS) return 0;
    for (int i = 0; i < n; i++) to[i] += m->piece[i];
    return 1;
}

/* Adds up n numbers at the owner. Ranks are summed as the corners of a cube, along one axis after the other: which pairs meet does not
 * depend on where the sum ends. Ranks beyond the last power of two come first, each to the one that is so much before it. */
static inline int lopt_mpi_sum(lopt_mpi *m, float *x, int n, int owner) {
    int corners = 1;
    while (2 * corners <= m->ranks) corners *= 2;
    const int r = m->rank, end = owner & (corners - 1);
    if (r >= corners) {
        if (MPI_Send(x, n, MPI_FLOAT, r - corners, 0, m->comm) != MPI_SUCCESS) return 0;
    } else {
        if (r + corners < m->ranks && !lopt_mpi_receive_sum(m, x, n, r + corners)) return 0;
        for (int axis = 1; axis < corners; axis *= 2) {
            if ((r ^ end) & axis) {
                if (MPI_Send(x, n, MPI_FLOAT, r ^ axis, 0, m->comm) != MPI_SUCCESS) return 0;
                break;
            }
            if (!lopt_mpi_receive_sum(m, x, n, r ^ axis)) return 0;
        }
    }
    if (owner == end) return 1;
    if (r == end) return MPI_Send(x, n, MPI_FLOAT, owner, 0, m->comm) == MPI_SUCCESS;
    return r != owner || MPI_Recv(x, n, MPI_FLOAT, end, 0, m->comm, MPI_STATUS_IGNORE) == MPI_SUCCESS;
}

/* Gradients to their owners, or parameters from them (from rank 0, if `first`). */
static inline int lopt_mpi_move(lopt_mpi *m, int gradients, int first) {
    for (int32_t i = 0; i < m->count; i++) {
        for (int64_t at = 0; at < m->elements[i]; at += LOPT_MPI_PIECE) {
            const int64_t left = m->elements[i] - at;
            const int n = left < LOPT_MPI_PIECE ? (int)left : LOPT_MPI_PIECE;
            if (gradients) {
                if (!lopt_mpi_sum(m, m->tensors[i].gradient + at, n, m->owner[i])) return 0;
            } else if (MPI_Bcast(m->tensors[i].parameter + at, n, MPI_FLOAT, first ? 0 : m->owner[i], m->comm) != MPI_SUCCESS) {
                return 0;
            }
        }
    }
    return 1;
}

/* ---- Creating ---------------------------------------------------------------------------------------------------- */

/* NULL pointers in a struct that lopt_mpi_create has filled, or has begun to fill, are allowed. */
static inline void lopt_mpi_destroy(lopt_mpi *m) {
    lopt_destroy(m->optimizer);
    free(m->tensors);
    free(m->elements);
    free(m->owner);
    free(m->numbers);
    free(m->piece);
    if (m->comm != MPI_COMM_NULL) MPI_Comm_free(&m->comm);
    m->optimizer = NULL, m->tensors = NULL, m->elements = NULL, m->owner = NULL, m->numbers = NULL, m->piece = NULL;
}

/* The rank's own part: memory, the table, the optimizer. */
static inline lopt_status lopt_mpi_prepare(lopt_mpi *m, const lopt_weights *weights, const lopt_options *options,
                                           const lopt_mpi_tensor *table, uint64_t *digest) {
    lopt_options own;
    const size_t count = (size_t)m->count;
    m->tensors = (lopt_mpi_tensor *)malloc((count + 1) * sizeof *m->tensors);
    m->elements = (int64_t *)malloc((count + 1) * sizeof *m->elements);
    m->owner = (int *)malloc((count + 1) * sizeof *m->owner);
    m->numbers = (double *)malloc((count + 2) * sizeof *m->numbers);
    m->piece = (float *)malloc(LOPT_MPI_PIECE * sizeof *m->piece);
    if (!m->tensors || !m->elements || !m->owner || !m->numbers || !m->piece)
        return lopt_mpi_refuse(m, LOPT_ERROR_NO_MEMORY, "no memory for the table of tensors", "");
    if (count && !table) return lopt_mpi_refuse(m, LOPT_ERROR_INVALID_ARGUMENT, "table is NULL", "");
    lopt_status status = lopt_options_init(&own, sizeof own);
    if (options) own = *options;
    own.gather.run = lopt_mpi_gather, own.gather.context = &m->comm, own.gather.part = m->rank, own.gather.parts = m->ranks;
    m->gradient_scale = own.gradient_scale, m->max_gradient_norm = own.max_gradient_norm, m->nonfinite = own.nonfinite;
    /* Which is checked there; what clips is here. */
    if (status == LOPT_OK) status = lopt_create(weights, &own, &m->optimizer);
    if (status == LOPT_OK && own.max_gradient_norm > 0) {
        lopt_destroy(m->optimizer);
        own.max_gradient_norm = 0;
        status = lopt_create(weights, &own, &m->optimizer);
    }
    if (status != LOPT_OK) return lopt_mpi_note(m, status);
    for (size_t i = 0; i < count; i++) {
        const lopt_mpi_tensor *t = &table[i];
        const int has_rows = (t->rank & LOPT_MPI_ROWS) != 0;
        if (!t->name || (!has_rows && (!t->parameter || !t->gradient)))
            return lopt_mpi_refuse(m, LOPT_ERROR_INVALID_ARGUMENT, "name, parameter or gradient is NULL: ", t->name ? t->name : "");
        m->tensors[i] = *t;
        m->tensors[i].rank &= ~LOPT_MPI_ROWS;
        m->elements[i] = has_rows ? 0 : 1;
        m->with_rows += has_rows;
        for (const char *c = t->name; *c; c++) *digest = (*digest ^ (unsigned char)*c) * 0x100000001b3u;
        *digest = (*digest ^ (uint64_t)t->rank) * 0x100000001b3u;
        for (int32_t axis = 0; axis < m->tensors[i].rank && axis < LOPT_MAX_RANK; axis++) {
            *digest = (*digest ^ (uint64_t)t->shape[axis]) * 0x100000001b3u;
            /* lopt_add_tensor refuses what does not fit, and negative extents. */
            m->elements[i] = t->shape[axis] < 0 || (double)m->elements[i] * (double)t->shape[axis] > 281474976710656.0
                                 ? 0 : m->elements[i] * t->shape[axis];
        }
    }
    return LOPT_OK;
}

/* Makes the optimizers of all ranks of `comm`, for the tensors of the table, which is copied (but for the names, which are looked
 * at here alone); all ranks pass the same, in the same order. The parameters of rank 0 become those of all (but of rows). `m` stays where it is. `weights` and `options`
 * as for lopt_create, the same on all ranks but for what concerns the rank (threads, allocator, log). max_gradient_norm counts for all
 * tensors together; what it does with one optimizer, but for rounding.
 *
 * Errors: as lopt_create and lopt_add_tensor; INVALID_ARGUMENT (a NULL in the table); MISMATCH (the ranks have different tensors);
 * after one there is nothing to destroy. */
static inline lopt_status lopt_mpi_create(lopt_mpi *m, MPI_Comm comm, const lopt_weights *weights, const lopt_options *options,
                                          const lopt_mpi_tensor *table, int32_t count) {
    uint64_t digest = 0xcbf29ce484222325u ^ (uint64_t)count, least = 0, most = 0;
    memset(m, 0, sizeof *m);
    m->comm = MPI_COMM_NULL;
    m->count = count > 0 ? count : 0;
    if (MPI_Comm_dup(comm, &m->comm) != MPI_SUCCESS || MPI_Comm_rank(m->comm, &m->rank) != MPI_SUCCESS ||
        MPI_Comm_size(m->comm, &m->ranks) != MPI_SUCCESS)
        return lopt_mpi_failed(m);
    lopt_status status = count < 0 ? lopt_mpi_refuse(m, LOPT_ERROR_INVALID_ARGUMENT, "count is negative", "")
                                   : lopt_mpi_prepare(m, weights, options, table, &digest);
    status = lopt_mpi_agree(m, status);
    if (status == LOPT_OK && (MPI_Allreduce(&digest, &least, 1, MPI_UINT64_T, MPI_MIN, m->comm) != MPI_SUCCESS ||
                              MPI_Allreduce(&digest, &most, 1, MPI_UINT64_T, MPI_MAX, m->comm) != MPI_SUCCESS))
        status = lopt_mpi_failed(m);
    if (status == LOPT_OK && least != most)
        status = lopt_mpi_refuse(m, LOPT_ERROR_MISMATCH, "the ranks have different tensors", "");
    if (status == LOPT_OK) {
        if (!lopt_mpi_divide(m->elements, m->count, m->ranks, m->owner))
            status = lopt_mpi_refuse(m, LOPT_ERROR_NO_MEMORY, "no memory for the table of tensors", "");
        for (int32_t i = 0; i < m->count && status == LOPT_OK; i++) {
            lopt_mpi_tensor *t = &m->tensors[i];
            lopt_rows rows = {0, 0};
            if (table[i].rank != t->rank) {
                m->owner[i] = LOPT_MPI_ALL;
                status = lopt_mpi_note(m, lopt_mpi_rows(t->shape, t->rank, m->comm, &rows));
                if (status == LOPT_OK)
                    status = lopt_mpi_note(m, lopt_add_rows(m->optimizer, t->name, &rows, t->parameter, LOPT_F32, t->gradient, LOPT_F32,
                                                            t->shape, t->rank, NULL));
            } else status = lopt_mpi_note(m, m->owner[i] == m->rank
                ? lopt_add_tensor(m->optimizer, t->name, t->parameter, t->gradient, t->shape, t->rank, NULL)
                : lopt_add_elsewhere(m->optimizer, t->name, t->shape, t->rank, NULL));
            t->name = NULL;
        }
        status = lopt_mpi_agree(m, status);
    }
    if (status == LOPT_OK && !lopt_mpi_move(m, 0, 1)) status = lopt_mpi_failed(m);
    if (status < 0) lopt_mpi_destroy(m);
    return status;
}

/* ---- Steps ------------------------------------------------------------------------------------------------------- */

/* Sums the gradients of all ranks, steps, and leaves the same parameters on all of them. Gradients are undefined afterwards.
 *
 * A sum that is not finite anywhere decides for all, by options.nonfinite: with LOPT_NONFINITE_SKIP_STEP, the default, no rank steps and
 * all return LOPT_SKIPPED_NONFINITE. (It is counted where it was: steps_skipped of lopt_stats on the owner's rank.) */
static inline lopt_status lopt_mpi_step(lopt_mpi *m) {
    int nonfinite = 0, own = 0;
    double squares = 0, factor = 1;
    if (!lopt_mpi_move(m, 1, 0)) return lopt_mpi_failed(m);
    lopt_status status = lopt_mpi_note(m, lopt_set_gradient_scale(m->optimizer, m->gradient_scale));
    for (int32_t i = 0; i < m->count; i++) {
        lopt_gradients found;
        memset(&found, 0, sizeof found);
        found.struct_size = sizeof found;
        if (status == LOPT_OK && m->owner[i] == m->rank)
            status = lopt_mpi_note(m, lopt_inspect_gradients(m->optimizer, i, &found));
        m->numbers[i] = found.norm_squared;
        own |= found.nonfinite > 0;
    }
    if (m->with_rows > 0) {
        if ((status = lopt_mpi_agree(m, status)) < 0) return status;
        for (int32_t i = 0; status == LOPT_OK && m->max_gradient_norm > 0 && i < m->count; i++) {
            lopt_gradients found;
            memset(&found, 0, sizeof found);
            found.struct_size = sizeof found;
            if (m->owner[i] != LOPT_MPI_ALL) continue;
            status = lopt_mpi_note(m, lopt_inspect_gradients(m->optimizer, i, &found));
            own |= found.nonfinite > 0;
            /* All know the whole of it. */
            if (m->rank == 0) m->numbers[i] = found.norm_squared;
        }
    }
    /* Of each tensor one rank has a number: the sums are exact, and in the order of the tensors the same on any ranks. */
    m->numbers[m->count] = status < 0;
    if (MPI_Allreduce(MPI_IN_PLACE, m->numbers, (int)m->count + 1, MPI_DOUBLE, MPI_SUM, m->comm) != MPI_SUCCESS)
        return lopt_mpi_failed(m);
    if (m->numbers[m->count] > 0) return lopt_mpi_agree(m, status);
    for (int32_t i = 0; i < m->count; i++) {
        if (m->numbers[i] <= 1e300) squares += m->numbers[i];
        else nonfinite = 1;
    }
    if (nonfinite && m->nonfinite != LOPT_NONFINITE_SKIP_TENSOR) {
        /* Those who have it count it, and say what it is; a step with rows is called off by all together. */
        if (own || m->with_rows > 0) status = lopt_mpi_note(m, lopt_step(m->optimizer));
        return lopt_mpi_agree(m, own || (status != LOPT_SKIPPED_NONFINITE && status != LOPT_ERROR_NONFINITE) ? status : LOPT_OK);
    }
    if (m->max_gradient_norm > 0 && sqrt(squares) > m->max_gradient_norm) {
        factor = m->max_gradient_norm / sqrt(squares);
        if (fabs(m->gradient_scale * factor) < 1e-30) factor = 1e-30 / fabs(m->gradient_scale);
        status = lopt_mpi_note(m, lopt_set_gradient_scale(m->optimizer, m->gradient_scale * factor));
    }
    if (status == LOPT_OK && m->count > 0) status = lopt_mpi_note(m, lopt_step(m->optimizer));
    if (factor != 1) (void)!lopt_set_gradient_scale(m->optimizer, m->gradient_scale);
    status = lopt_mpi_agree(m, status);
    if (status < 0) return status;
    m->gradient_norm = sqrt(squares);
    return lopt_mpi_move(m, 0, 0) ? status : lopt_mpi_failed(m);
}

/* lopt_average_swap on all ranks, for all tensors. */
static inline lopt_status lopt_mpi_average_swap(lopt_mpi *m) {
    const lopt_status status = lopt_mpi_agree(m, lopt_mpi_note(m, lopt_average_swap(m->optimizer)));
    if (status < 0) return status;
    return lopt_mpi_move(m, 0, 0) ? status : lopt_mpi_failed(m);
}

/* ---- Checkpoints --------------------------------------------------------------------------------------------------
 *
 * Each rank writes a shard, PATH.NUMBER.RANK, and rank 0 then PATH, a line that says which number counts and how many shards it has; the
 * shards of the number before go last. So there is a whole checkpoint at every moment. All ranks need the same file system.
 * Any number of ranks restores it. */

/* The shards that count: their number and how many. 0 if there is no such file, -1 if it is no list of shards. */
static inline int lopt_mpi_shards(const char *path, long long shards[2]) {
    FILE *file = fopen(path, "r");
    shards[0] = shards[1] = 0;
    if (!file) return 0;
    const int found = fscanf(file, "lopt shards %lld %lld", &shards[0], &shards[1]);
    fclose(file);
    return found == 2 && shards[0] > 0 && shards[1] > 0 && shards[1] <= 1 << 24 ? 1 : -1;
}

static inline char *lopt_mpi_shard(const char *path, long long number, long long rank) {
    const size_t size = strlen(path) + 48;
    char *name = (char *)malloc(size);
    if (name) snprintf(name, size, rank < 0 ? "%s.new" : "%s.%lld.%lld", path, number, rank);
    return name;
}

/* Errors: as lopt_save; all ranks return the same, and what was there before still counts. */
static inline lopt_status lopt_mpi_save(lopt_mpi *m, const char *path, uint32_t contents) {
    long long before[2] = {0, 0};
    if (m->rank == 0 && path) (void)lopt_mpi_shards(path, before);
    if (MPI_Bcast(before, 2, MPI_LONG_LONG, 0, m->comm) != MPI_SUCCESS) return lopt_mpi_failed(m);
    char *name = path ? lopt_mpi_shard(path, before[0] + 1, m->rank) : NULL, *list = path ? lopt_mpi_shard(path, 0, -1) : NULL;
    lopt_status status = !path ? lopt_mpi_refuse(m, LOPT_ERROR_INVALID_ARGUMENT, "path is NULL", "")
        : !name || !list ? lopt_mpi_refuse(m, LOPT_ERROR_NO_MEMORY, "no memory for a file name", "") : LOPT_OK;
    status = lopt_mpi_agree(m, status);
    if (status == LOPT_OK) status = lopt_mpi_agree(m, lopt_mpi_note(m, lopt_save(m->optimizer, name, contents)));
    if (status == LOPT_OK) {
        if (m->rank == 0) {
            FILE *file = fopen(list, "w");
            int done = file && fprintf(file, "lopt shards %lld %d\n", before[0] + 1, m->ranks) > 0 && fflush(file) == 0 &&
                       fsync(fileno(file)) == 0;
            if (file && fclose(file) != 0) done = 0;
            if (!done || rename(list, path) != 0) {
                (void)remove(list);
                status = lopt_mpi_refuse(m, LOPT_ERROR_IO, "cannot be written: ", path);
            }
        }
        status = lopt_mpi_agree(m, status);
    }
    if (status < 0 && name) (void)remove(name);
    for (long long k = m->rank; status == LOPT_OK && k < before[1]; k += m->ranks) {
        char *old = lopt_mpi_shard(path, before[0], k);
        if (old) (void)remove(old);
        free(old);
    }
    free(name);
    free(list);
    return status;
}

/* Reads those shards that have tensors of this rank, as many ranks as wrote them divided theirs, and the first. */
static inline lopt_status lopt_mpi_read(lopt_mpi *m, const char *path, uint32_t contents, const long long shards[2]) {
    int *wrote = (int *)malloc(((size_t)m->count + 1) * sizeof *wrote);
    int32_t own = 0, restored = 0;
    if (!wrote || !lopt_mpi_divide(m->elements, m->count, (int)shards[1], wrote)) {
        free(wrote);
        return lopt_mpi_refuse(m, LOPT_ERROR_NO_MEMORY, "no memory for the table of tensors", "");
    }
    lopt_status status = LOPT_OK;
    for (long long k = 0; k < shards[1] && status == LOPT_OK; k++) {
        int wanted = k == 0;
        for (int32_t i = 0; i < m->count; i++) {
            lopt_rows here = {0, 0}, there = {0, 0};
            wanted |= m->owner[i] == m->rank && wrote[i] == k;
            if (m->owner[i] != LOPT_MPI_ALL) continue;
            (void)!lopt_mpi_rows(m->tensors[i].shape, m->tensors[i].rank, m->comm, &here);
            (void)!lopt_rows_of(m->tensors[i].shape, m->tensors[i].rank, (int32_t)k, (int32_t)shards[1], &there);
            wanted |= there.first < here.first + here.count && here.first < there.first + there.count;
        }
        if (!wanted) continue;
        lopt_information information;
        memset(&information, 0, sizeof information);
        information.struct_size = sizeof information;
        char *name = lopt_mpi_shard(path, shards[0], k);
        status = !name ? lopt_mpi_refuse(m, LOPT_ERROR_NO_MEMORY, "no memory for a file name", "")
                       : lopt_mpi_note(m, lopt_restore(m->optimizer, name, contents | LOPT_SHARD));
        free(name);
        if (lopt_info(m->optimizer, &information) == LOPT_OK) restored += information.tensors_restored;
    }
    for (int32_t i = 0; i < m->count; i++) own += m->owner[i] == m->rank || m->owner[i] == LOPT_MPI_ALL;
    free(wrote);
    if (status == LOPT_OK && restored != own)
        status = lopt_mpi_refuse(m, LOPT_ERROR_MISMATCH, "a tensor is missing in the shards of ", path);
    return status;
}

/* Restores what lopt_mpi_save wrote, with whatever number of ranks. With LOPT_WITH_PARAMETERS all ranks have the parameters then.
 * Errors: as lopt_restore, with nothing changed on any rank; a call needs the size of the rank's own state in memory for that,
 * beside that of a shard. */
static inline lopt_status lopt_mpi_restore(lopt_mpi *m, const char *path, uint32_t contents) {
    long long shards[2] = {0, 0};
    size_t size = 0;
    void *before = NULL;
    int found = 0;
    if (m->rank == 0) found = path ? lopt_mpi_shards(path, shards) : 0;
    lopt_status status = m->rank != 0 || found > 0 ? LOPT_OK
        : !path ? lopt_mpi_refuse(m, LOPT_ERROR_INVALID_ARGUMENT, "path is NULL", "")
        : found == 0 ? lopt_mpi_refuse(m, LOPT_ERROR_IO, "cannot be read: ", path)
        : lopt_mpi_refuse(m, LOPT_ERROR_CHECKPOINT, "no list of shards: ", path);
    if (status == LOPT_OK) status = lopt_mpi_note(m, lopt_state_size(m->optimizer, contents, &size));
    if (status == LOPT_OK && !(before = malloc(size)))
        status = lopt_mpi_refuse(m, LOPT_ERROR_NO_MEMORY, "no memory for the state as it is", "");
    status = lopt_mpi_agree(m, status);
    if (status == LOPT_OK) status = lopt_mpi_agree(m, lopt_mpi_note(m, lopt_state_write(m->optimizer, contents, before, size)));
    if (status == LOPT_OK && MPI_Bcast(shards, 2, MPI_LONG_LONG, 0, m->comm) != MPI_SUCCESS) status = lopt_mpi_failed(m);
    if (status == LOPT_OK) {
        status = lopt_mpi_agree(m, lopt_mpi_read(m, path, contents, shards));
        if (status < 0) (void)!lopt_state_read(m->optimizer, contents, before, size);
    }
    free(before);
    if (status == LOPT_OK && (contents & LOPT_WITH_PARAMETERS) && !lopt_mpi_move(m, 0, 0)) status = lopt_mpi_failed(m);
    return status;
}

#ifdef __cplusplus
}
#endif

#endif /* LOPT_MPI_H */
