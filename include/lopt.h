/* lopt: train with a learned optimizer from C or C++.
 *
 * Copyright 2026 the lopt authors. SPDX-License-Identifier: Apache-2.0
 *
 * lopt applies STAR, the stabilised learned optimizer of Harrison, Metz and Sohl-Dickstein ("A Closer Look at Learned
 * Optimization: Stability, Robustness, and Inductive Biases", NeurIPS 2022): a tiny neural network, meta-trained once
 * and frozen, looks at every parameter's gradient and history and decides its step. There is no learning rate to tune.
 *
 * This header is the manual. It has four parts, from the few calls that every program needs to those that few do:
 *
 *     1. The simple API        create, add tensors, step, destroy
 *     2. Errors                what a call returns, and what holds after one that failed
 *     3. Checkpoints           save and resume, bit for bit
 *     4. Options               weights, threads, schedules, statistics, memory, logging
 *
 * A whole program:
 *
 *     const int64_t w_shape[] = {128, 64}, b_shape[] = {128};
 *     lopt_optimizer *opt;
 *     if (lopt_create(NULL, NULL, &opt) != LOPT_OK ||
 *         lopt_add_tensor(opt, "fc1.weight", w, dw, w_shape, 2, NULL) != LOPT_OK ||
 *         lopt_add_tensor(opt, "fc1.bias", b, db, b_shape, 1, NULL) != LOPT_OK)
 *         fail(lopt_last_error());           // yours: prints and ends
 *     for (int i = 0; i < steps; i++) {
 *         forward(); backward();             // yours: writes dw and db
 *         if (lopt_step(opt) < 0)            // reads dw and db, updates w and b in place
 *             fail(lopt_last_error());
 *     }
 *     lopt_destroy(opt);
 *
 * Build it with:  cc program.c $(pkg-config --cflags --libs lopt)
 * At run time the library needs a C library that has the calls it was built with: built with glibc 2.34 or newer it needs
 * 2.34, built with an older glibc that one.
 * Beside this file lie lopt.hpp for C++17, lopt.f90 for Fortran 2018, lopt_openmp.h for codes with OpenMP, and lopt_mpi.h for
 * training over MPI ranks.
 *
 * THREADS.  An optimizer is used by one thread at a time. Different optimizers may be used at the same time, and one
 * lopt_weights may be shared by all of them. Signals are blocked in the threads that lopt starts; these may run on all
 * of the process's processors where the caller is bound to fewer than there are threads. They belong to their process:
 * the child of a fork goes on with an inherited optimizer on the calling thread alone (the next tensor added starts
 * threads anew), or may destroy it, also while it exits. pthread_cancel ends a thread at the beginning of a call of
 * lopt, never within one.
 *
 * CALLBACKS.  Allocators, both `run` and `message` (part 4) are called from inside a call, with its floating-point environment
 * the default one, but that of lopt_parallel_for, which has the caller's. They return: a C++ exception, longjmp or pthread_exit that leaves
 * one is beyond what lopt can catch (an exception ends the program). They do not use the optimizer that is in that
 * call, nor do signal handlers, which are for no call of lopt at all: set a flag there, and save when lopt_step has
 * returned. A call that meets an optimizer in the middle of another returns INVALID_ARGUMENT where it would see or make
 * half a step; lopt_destroy does nothing then.
 *
 * NUMBERS.  Tensors are IEEE 754 binary32 ("f32") unless they are added with another type (lopt_add_typed, lopt_add_flat_typed). For given weights, shapes and gradients the result has the same
 * bits whatever the number of threads, and on AVX2, AVX-512 and Arm NEON alike; the baseline x86-64 path has no fused
 * multiply-add and rounds differently. (Networks wider than 256 units go to OpenBLAS, whose bits depend on the processor it
 * finds, and Arm flushes to 0 what rounds up to the least normal number.) Denormal numbers count as 0 in a step. The caller's
 * floating-point environment is the same after a call as before it.
 *
 * STABILITY.  Within a major version, 0 among them, functions, enum values and struct fields are only ever added, and structs
 * carry their size: a program built against an older header runs with a newer library of the same major version, which its
 * SONAME names (liblopt.so.0). A minor version may bring other built-in weights under a name, and so other numbers: the
 * checkpoints of the older ones then need those as a file (lopt_weights_load). CHANGELOG.md says so where it happens.
 */
#ifndef LOPT_H
#define LOPT_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define LOPT_VERSION_MAJOR 0
#define LOPT_VERSION_MINOR 1
#define LOPT_VERSION_PATCH 0
/* MAJOR * 1000000 + MINOR * 1000 + PATCH */
#define LOPT_VERSION (LOPT_VERSION_MAJOR * 1000000 + LOPT_VERSION_MINOR * 1000 + LOPT_VERSION_PATCH)

/* The largest rank of a tensor. */
#define LOPT_MAX_RANK 8

/* What compilers that can (gcc, clang) check of a program: a status that it does not look at ((void)!lopt_step(opt) says that this
 * is meant), an array that is shorter than the size passed with it, what is never NULL. For others these are empty. No argument
 * is declared nonnull: a call returns an error for a NULL that it does not take, and compilers would leave out that check. */
#if defined(__has_attribute)
#if __has_attribute(warn_unused_result)
#define LOPT_NODISCARD __attribute__((__warn_unused_result__))
#endif
#if __has_attribute(returns_nonnull)
#define LOPT_NEVER_NULL __attribute__((__returns_nonnull__))
#endif
#if __has_attribute(access)
#define LOPT_READS(pointer, size) __attribute__((__access__(read_only, pointer, size)))
#define LOPT_WRITES(pointer, size) __attribute__((__access__(write_only, pointer, size)))
#endif
#endif
#ifndef LOPT_NODISCARD
#define LOPT_NODISCARD
#endif
#ifndef LOPT_NEVER_NULL
#define LOPT_NEVER_NULL
#endif
#ifndef LOPT_READS
#define LOPT_READS(pointer, size)
#define LOPT_WRITES(pointer, size)
#endif

typedef struct lopt_optimizer lopt_optimizer; /* opaque: the tensors and their state */
typedef struct lopt_weights lopt_weights;     /* opaque: frozen meta-trained weights */
typedef struct lopt_options lopt_options;     /* part 4 */

/* What every call returns: 0 done, positive done with a remark, negative an error after which nothing has changed. */
typedef enum lopt_status {
    LOPT_OK = 0,
    LOPT_SKIPPED_NONFINITE = 1,       /* a gradient was not finite: tensors were skipped as the policy says         */
    LOPT_ERROR_INVALID_ARGUMENT = -1, /* NULL, a size out of range, a duplicate name, overlapping memory, ...       */
    LOPT_ERROR_NO_MEMORY = -2,        /* the allocator returned NULL                                                 */
    LOPT_ERROR_IO = -3,               /* a file could not be read or written; the message has the system's reason    */
    LOPT_ERROR_WEIGHTS = -4,          /* the weights are damaged, or of a kind this library does not know            */
    LOPT_ERROR_CHECKPOINT = -5,       /* the checkpoint is damaged, or of a version this library does not know       */
    LOPT_ERROR_MISMATCH = -6,         /* the checkpoint is of other weights, other names or other shapes; parts differ */
    LOPT_ERROR_NONFINITE = -7         /* a gradient was not finite and the policy is LOPT_NONFINITE_ERROR            */
} lopt_status;

/* ====================================================================================================================
 *  1. THE SIMPLE API
 * ================================================================================================================= */

/* Makes an optimizer.
 *
 *   weights   what lopt_weights_load and its siblings return, or NULL for the built-in default ("pooled"). They are copied:
 *             the caller may free them at once.
 *   options   filled by lopt_options_init and then changed, or NULL for the defaults.
 *   out       receives the optimizer; NULL is stored on an error.
 *
 * Weights whose network is wider than 256 units load OpenBLAS (libopenblas.so.0) and hold it until lopt_destroy; a step holds
 * it to one thread. Without it they work too, more slowly: lopt_info then says "general", and the log has a warning. So it is
 * in a program that was linked with liblopt.a, which never loads it.
 *
 * Errors: INVALID_ARGUMENT (out is NULL, an option out of range, LOPT_MAX_ISA in the environment not understood),
 * NO_MEMORY. */
LOPT_NODISCARD lopt_status lopt_create(const lopt_weights *weights, const lopt_options *options, lopt_optimizer **out);

/* Frees the optimizer, its state and its threads. NULL is allowed and does nothing. */
void lopt_destroy(lopt_optimizer *opt);

/* Adds one tensor of parameters. All memory that its steps will ever need is allocated here.
 *
 *   name       1 to 255 bytes of UTF-8 without control characters, unique within the optimizer. Copied.
 *   parameter  the tensor, contiguous in row-major order ("C order"), f32, at any alignment. lopt_step updates it in place.
 *              Parameters share memory with nothing. NULL: the memory comes later, with lopt_bind.
 *   gradient   the gradient of the loss with respect to it, same shape and order. Only read. Gradients may share memory
 *              with each other, but not with any parameter. NULL likewise; a frozen tensor needs none.
 *   shape      extents, each >= 0. The rule keeps one statistic per row and one per column of the two largest extents, so
 *              pass a matrix as a matrix; of a flat buffer each tensor is added by itself (lopt_add_flat).
 *              Column-major arrays, as of Fortran, Eigen or MATLAB: pass the extents in reverse. That is the tensor transposed, and
 *              as good: the rule goes by the sizes of extents, not by their order. With "pooled" and "star" the steps
 *              are the same but for rounding; with "star-authors-rule" if the two largest extents differ, else nearly.
 *              Where a code does not know a shape, one extent may be enough: weights of n elements that make m outputs
 *              are [m, n / m], or [n / m, m] where the outputs lie side by side. Without that a tensor is [n], by itself.
 *   rank       0 (a single number; shape may be NULL) to LOPT_MAX_RANK.
 *   index      receives the number of the tensor: 0 for the first, then 1, ...; may be NULL.
 *
 * The built-in weights "pooled" and "star" also look at how many tensors the optimizer has, because deep networks need smaller
 * steps, and "pooled" at which layers are the first and the last and how wide they are: add all tensors of one network to one optimizer, each as
 * one tensor, in the order of the layers. Where several optimizers share a network, lopt_add_elsewhere tells each of the rest.
 *
 * A tensor may be added after steps have been taken: its own step counter starts at 0. A tensor of 0 elements is allowed
 * (its pointers are never looked at). State is 12 bytes per parameter with "pooled", 8 with momenta in bf16 (`momentum_type` in the
 * options). With others it is 4 * (2 K + 1) bytes per parameter for rank 0 and 1, K the number of momenta (3 in the built-in weights). For rank 2 and more it is 4 * (K + 1), and 4 K for each statistic: of n
 * parameters whose two largest extents are a and b there are n / a + n / b, few unless other extents are nearly as
 * large and a is small. Steps need 4 K + 4 bytes more per statistic, less than 1 per parameter, and some KiB per
 * tensor.
 *
 * Time grows as n log n with the number of tensors.
 *
 * Errors: INVALID_ARGUMENT (opt, name or shape is NULL, a bad or duplicate name, rank or extent out of range, more than 2^48
 * elements, parameter or gradient overlaps a parameter), NO_MEMORY. */
LOPT_NODISCARD lopt_status lopt_add_tensor(lopt_optimizer *opt, const char *name, float *parameter, const float *gradient,
                            const int64_t *shape, int32_t rank, int32_t *index) LOPT_READS(5, 6);

/* Adds the tensors of a flat buffer: tensor i of the table has its parameter at parameters + offset and its gradient at gradients +
 * offset, in floats. The numbers of the tensors follow in the order of the table on those there are. All of them are added, or on
 * an error none. What the table points to is copied. Of the buffers either may be NULL: the memory comes later.
 *
 *     const lopt_flat_entry table[] = {{"fc1.weight", 0, 2, {128, 64}}, {"fc1.bias", 8192, 1, {128}}};
 *     lopt_add_flat(opt, parameters, gradients, table, 2);
 *
 * A large network that is added as one vector trains much worse: the log has a warning at the first step of an optimizer with
 * one tensor that is a vector of more than 10,000 elements.
 *
 * Errors as lopt_add_tensor, with the number of the entry in the message, and INVALID_ARGUMENT (table is NULL and count is not 0, a
 * negative count, an offset below 0 or above 2^48). */
typedef struct lopt_flat_entry {
    const char *name;
    int64_t offset;
    int32_t rank;
    int64_t shape[LOPT_MAX_RANK]; /* the first `rank` extents */
} lopt_flat_entry;
LOPT_NODISCARD lopt_status lopt_add_flat(lopt_optimizer *opt, float *parameters, const float *gradients,
                                         const lopt_flat_entry *table, int32_t count) LOPT_READS(4, 5);

/* Adds a tensor whose elements are not f32, parameters or gradient or both, in any combination. All else is as in lopt_add_tensor.
 *
 * Steps compute in f32. Parameters of another type have a master copy in f32, 4 bytes a parameter: in 16 bits most steps are smaller
 * than the distance of two numbers. After a step the caller's memory has the master copy rounded (to nearest, ties to even);
 * an element that the caller has written since is taken in at the next step, one that is still what was rounded to goes on from the
 * master copy. So f64 parameters train with the precision of f32, and those whose f32 value a step does not change keep their bits.
 * A gradient of another type is copied to f32 in each step, 4 bytes a parameter: f64 above 2^50 is not finite as ever, f64 below
 * 1e-38 and f32 denormals are 0, f16 denormals are what they are. The copies cost two or three nanoseconds an element and step on a thread.
 * (16-bit gradients of a scaled loss: lopt_set_gradient_scale.)
 *
 * Calls that take or give memory of the tensor's own (lopt_bind, lopt_step_with, ...) take it as `float *`; averages are f32. In
 * checkpoints parameters are f32 whatever their type, so LOPT_WITH_PARAMETERS restores from one type to another; those of
 * 16 bits have the master copy in every checkpoint, and state_bytes counts it.
 *
 * Errors: as lopt_add_tensor, and INVALID_ARGUMENT (a type out of range). */
typedef enum lopt_element {
    LOPT_F32 = 0,  /* IEEE 754 binary32                                   */
    LOPT_F64 = 1,  /* binary64                                            */
    LOPT_BF16 = 2, /* the upper half of a binary32                        */
    LOPT_F16 = 3   /* binary16                                            */
} lopt_element;
LOPT_NODISCARD lopt_status lopt_add_typed(lopt_optimizer *opt, const char *name, void *parameter, lopt_element parameter_type,
                                          const void *gradient, lopt_element gradient_type, const int64_t *shape, int32_t rank,
                                          int32_t *index) LOPT_READS(7, 8);

/* Adds the tensors of flat buffers whose elements are not f32: all parameters are of one type, all gradients of one. It is lopt_add_flat
 * with what lopt_add_typed says of types, and as many bytes a parameter. An offset counts elements in both buffers, of 8 bytes
 * in one of f64 and of 2 in one of bf16 or f16.
 *
 *     lopt_add_flat_typed(opt, parameters, LOPT_BF16, gradients, LOPT_F32, table, 2);
 *
 * Errors: as lopt_add_flat, and INVALID_ARGUMENT (a type out of range). */
LOPT_NODISCARD lopt_status lopt_add_flat_typed(lopt_optimizer *opt, void *parameters, lopt_element parameter_type,
                                               const void *gradients, lopt_element gradient_type, const lopt_flat_entry *table,
                                               int32_t count) LOPT_READS(6, 7);

/* Adds a tensor of the same network that another optimizer steps: of layers that have an optimizer each, of a rank that owns a part
 * of the tensors (lopt_mpi.h). What a step needs to know of other tensors is their number and their shapes, so optimizers that were
 * given all tensors of a network in the same order, each tensor once with its memory and elsewhere in all others, take steps of
 * the same bits as one optimizer that has them all, and each has the state of its own alone.
 *
 * The tensor takes the next number, and costs about 2 KiB. Steps, checkpoints and lopt_inspect_gradients pass it over, memory that
 * is bound to it is not looked at, its statistics are 0; lopt_info counts it among `tensors` and in tensors_elsewhere. What each
 * optimizer does by itself: LOPT_NONFINITE_SKIP_STEP and _ERROR (lopt_inspect_gradients lets them agree before a step) and
 * max_gradient_norm, which needs all gradients at once and is refused: a program adds up norm_squared of lopt_gradients and passes
 * the factor with lopt_set_gradient_scale.
 *
 * Errors: as lopt_add_tensor, and INVALID_ARGUMENT with max_gradient_norm. */
LOPT_NODISCARD lopt_status lopt_add_elsewhere(lopt_optimizer *opt, const char *name, const int64_t *shape, int32_t rank,
                                              int32_t *index) LOPT_READS(3, 4);

/* Adds some rows of a tensor whose other rows other optimizers have, each in a process of its own: of an embedding that is too large for
 * one. Each optimizer has the state of its own rows alone, and the steps have the bits of one that has the whole tensor, on any number
 * of parts: the optimizers tell each other the sums that the rule needs through options.gather (lopt_mpi.h has one for MPI).
 *
 * A row is an index of the first axis, with all that belongs to it. Which rows a part has follows from the shape and the number of
 * parts: lopt_rows_of tells. They are consecutive, in the order of the parts, in units that make whole chunks of 32768 elements (of
 * 8192 rows for rows of 4 elements, of 64 for 512, of 32768 for an odd number): the parts differ by at most one unit. Part 0 has
 * most, and where there are more parts than units some have none: these add the tensor with 0 rows and take part all the same.
 *
 *     lopt_rows rows;
 *     options.gather = (lopt_gather){all_gather, &context, part, parts};
 *     lopt_rows_of((int64_t[]){8000000, 4}, 2, part, parts, &rows);        // memory for rows.count * 4 elements, then
 *     lopt_add_rows(opt, "embedding", &rows, p, LOPT_F32, dp, LOPT_F32, (int64_t[]){8000000, 4}, 2, NULL);
 *
 *   rows        what lopt_rows_of said for this part.
 *   parameter, gradient, their types   as in lopt_add_typed, of these rows.
 *   shape       of the whole tensor, which has at least one element; rank is 1 to LOPT_MAX_RANK.
 *
 * Collective: lopt_step, lopt_step_with, lopt_save, lopt_state_write and, of such a tensor, lopt_step_tensor and lopt_inspect_gradients
 * (-1 too) are then called on all parts in the same order, with the same tensors under the same numbers (those that are not of this
 * kind whole on each part, or on one and elsewhere on the rest), options, scales and frozen flags. Each calls `run` once, or twice
 * if a tensor takes its first step, from the thread that called lopt and before anything is written. With nothing changed they fail if `run` fails
 * (IO), and if a part is in another call, has other numbers or cannot do what it was called for, which on that part has its own error
 * (MISMATCH). The numbers are fewer than 32 for each 32768 elements that part 0 has of a tensor.
 *
 * A gradient that is not finite on one part is so for all: LOPT_NONFINITE_SKIP_STEP and _ERROR call the step off on all parts, be
 * it of a tensor that is not of this kind. A tensor is idle if its gradient is 0 on all parts. max_gradient_norm counts each such
 * tensor once, whole; it needs the gradients of all others to be the same on all parts (else MISMATCH). Weight decay, averages,
 * element types, frozen tensors and schedules work as with whole tensors. The counters of lopt_stats and what lopt_inspect_gradients
 * tells are of the whole; the sizes of lopt_stats and what lopt_info counts are of the rows that are here.
 *
 * Checkpoints: each part saves its rows in a file of its own. Any number of parts goes on from them, and one optimizer that has the
 * tensor whole: each reads, with LOPT_SHARD, those of all parts or those that have rows of its own, in the order of the parts. tensors_restored
 * counts a tensor with the file that completes its rows here (if there are none here, with that of part 0). What an optimizer with
 * the whole tensor has saved restores on any part, and what a part has saved on the same part, without LOPT_SHARD.
 *
 * Errors: as lopt_add_typed, and INVALID_ARGUMENT (rows is NULL or not those of lopt_rows_of, rank 0, no elements, no options.gather,
 * weights that are not of kind pooled, which need more than sums, max_update_ratio, which would have to wait in the middle of a step). */
typedef struct lopt_rows {
    int64_t first;
    int64_t count;
} lopt_rows;
LOPT_NODISCARD lopt_status lopt_add_rows(lopt_optimizer *opt, const char *name, const lopt_rows *rows, void *parameter,
                                         lopt_element parameter_type, const void *gradient, lopt_element gradient_type,
                                         const int64_t *shape, int32_t rank, int32_t *index) LOPT_READS(8, 9);

/* The rows of a tensor of this shape that part `part` of `parts` has, 0 to parts - 1. Errors: INVALID_ARGUMENT (shape or rows is NULL,
 * rank or an extent out of range, no elements, parts not 1 to 1048576, no such part). */
LOPT_NODISCARD lopt_status lopt_rows_of(const int64_t *shape, int32_t rank, int32_t part, int32_t parts, lopt_rows *rows)
    LOPT_READS(1, 2);

/* Gives a tensor new memory, of the same shape; the state stays. NULL: none until the next lopt_bind.
 *
 * A parameter or a gradient that overlaps a parameter is refused. A gradient that has been read is free memory: other tensors'
 * gradients and parameters may be put there. Should a gradient still lie in a parameter when it is to be read again, the step
 * refuses. Errors: INVALID_ARGUMENT. */
LOPT_NODISCARD lopt_status lopt_bind(lopt_optimizer *opt, int32_t index, float *parameter, const float *gradient);

/* Binds `count` tensors at once, all of them or, on an error, none: so they may take each other's memory. `bindings` may be NULL
 * if count is 0.
 *
 *     lopt_bind_many(opt, 2, (lopt_binding[]){{0, b, db}, {1, a, da}});
 *
 * Errors: INVALID_ARGUMENT (as lopt_bind, a negative count, an index that is there twice). */
typedef struct lopt_binding {
    int32_t index;
    float *parameter;
    const float *gradient;
} lopt_binding;
LOPT_NODISCARD lopt_status lopt_bind_many(lopt_optimizer *opt, int32_t count, const lopt_binding *bindings) LOPT_READS(3, 2);

/* Takes one step: reads every gradient, updates every parameter in place. Does no I/O, allocates nothing, takes no lock
 * that a caller could hold.
 *
 * Gradients are looked at before anything is written. A gradient element that is NaN, infinite or of magnitude above
 * 2^50 (its square would not fit f32 sums), gradient_scale included, counts as not finite, and the policy in the options decides:
 * by default no tensor is changed and the call returns LOPT_SKIPPED_NONFINITE.
 *
 * A tensor whose gradient is 0 in all elements is idle in that step: it stays as it is, with its state and its step counter,
 * as if lopt_step_tensor had been called for the others only. So heads that are trained in turn, experts, unused branches and a
 * loss that reaches 0 cost nothing and lose nothing. weight_decay still applies, with the step size of the tensor's last step;
 * max_update_ratio has nothing to do. (The built-in weights "pooled" and "star" do this; "star-authors-rule" steps such a
 * tensor, as the authors' rule does. Denormal numbers count as 0.)
 *
 * A parameter that is NaN or infinite keeps its element to itself: the other elements take their ordinary steps, and
 * lopt_stats counts it. With "pooled" and "star" an element that has never had a gradient, say a mask of -1e9, does not count
 * as part of the tensor's size either.
 *
 * Errors: INVALID_ARGUMENT (opt is NULL, no tensor has been added, a tensor that is not frozen has a parameter or gradient that
 * is NULL or a gradient that overlaps a parameter), NONFINITE (only under that policy). */
LOPT_NODISCARD lopt_status lopt_step(lopt_optimizer *opt);

/* Takes one step with the memory that is passed: parameters[i] and gradients[i] are those of tensor i, for codes in which they move
 * from step to step. For all tensors, or the call fails and they have the memory of before. It stays theirs, as after
 * lopt_bind_many with the same pointers: that of gradients is free when the call has returned, that of parameters is where
 * checkpoints find them. Tensors may be added with NULL for both. Gradients are only read.
 *
 * Takes no longer than lopt_step where parameters have not moved but for a look at where gradients are, else n log n steps of n
 * tensors. Errors as lopt_step, and INVALID_ARGUMENT (an array is NULL, count is not the number of tensors, as lopt_bind). */
LOPT_NODISCARD lopt_status lopt_step_with(lopt_optimizer *opt, int32_t count, float *const *parameters, float *const *gradients)
    LOPT_READS(3, 2) LOPT_READS(4, 2);

/* Takes one step of one tensor, as soon as its gradient is there: a training code can so free or reuse gradient memory
 * during its backward pass. Every tensor counts its own steps; stepping each tensor once gives the same bits as one
 * lopt_step. Errors as lopt_step, and INVALID_ARGUMENT for an unknown index, or with max_gradient_norm: the norm of all gradients
 * together is not known here, and steps that are clipped otherwise than was asked for are not taken. A program that knows the norm
 * passes the factor with lopt_set_gradient_scale. */
LOPT_NODISCARD lopt_status lopt_step_tensor(lopt_optimizer *opt, int32_t index);

/* Looks at gradients as the next step would see them, and changes nothing: for several optimizers that step together, or to call a
 * step off. index -1: all tensors that a step would take, so none that is frozen or elsewhere. Reads every gradient, on the same
 * threads, with the same gradient_scale. Errors: as lopt_step (but for having no tensor, which is all 0) and lopt_stats. */
typedef struct lopt_gradients {
    size_t struct_size;  /* set by the caller: sizeof(lopt_gradients)                                              */
    int64_t nonfinite;   /* elements that are not finite, as lopt_step counts them                                 */
    double norm_squared; /* the sum of their squares, of f32 sums as for max_gradient_norm; infinite if nonfinite is not 0 */
} lopt_gradients;
LOPT_NODISCARD lopt_status lopt_inspect_gradients(lopt_optimizer *opt, int32_t index, lopt_gradients *gradients);

/* ====================================================================================================================
 *  2. ERRORS
 *
 *  After a call that returned a negative status nothing has changed: not the optimizer, not the parameters, not the
 *  outputs (an output handle is set to NULL). No argument, file or failed allocation ends the process; a pointer that
 *  is neither NULL nor valid is beyond what any C library can catch.
 * ================================================================================================================= */

/* A short static text such as "invalid argument"; "unknown status" for numbers that are none. Never NULL. */
LOPT_NEVER_NULL const char *lopt_status_string(lopt_status status);

/* What was wrong in the last call of this thread that did not return LOPT_OK: the argument, its value and what is
 * allowed, in one line of at most 255 bytes of UTF-8. Names and paths stand in it as they are, those of more than 96 bytes
 * with "..." in the middle; control characters and bytes that are not UTF-8 look like \x1b. "" if there was none. Valid until
 * the next such call of this thread. Never NULL. */
LOPT_NEVER_NULL const char *lopt_last_error(void);

/* The version of the library that is running: the number as LOPT_VERSION has it, and "major.minor.patch". */
int32_t lopt_version(void);
LOPT_NEVER_NULL const char *lopt_version_string(void);

/* ====================================================================================================================
 *  3. CHECKPOINTS
 *
 *  A checkpoint holds the accumulators, step counters, learning-rate scales, weight decay, gradient scale, frozen flags,
 *  averages, and total_steps of weights that know their horizon; with LOPT_WITH_PARAMETERS the parameters too, so that one
 *  file is a consistent whole. Resuming from it gives the same bits as never having stopped. The format is safetensors (f32, f64,
 *  i64 and, with momentum_type, bf16 tensors "<name>/momentum", ... and two digests in the metadata, "checksum" of the data as they lie, "content" of names and arrays in any order); any tool that reads
 *  safetensors opens it. One of the digests has to be right: a file restores that a tool has written anew with the same
 *  metadata, or in whose header tensors were renamed, but not both, and not one whose numbers were changed.
 *
 *  To resume: create the optimizer with the same weights, add the same tensors, restore. Tensors are found by their names:
 *  the order in which they are added may differ, and so may the number of threads and the instruction set.
 *
 *  `contents` is 0 (state alone) or LOPT_WITH_PARAMETERS: then no tensor's parameter may be NULL (INVALID_ARGUMENT).
 *
 *  Optimizers with tensors elsewhere (lopt_add_elsewhere) save what is theirs, a shard. From a checkpoint of more an optimizer takes
 *  its own tensors; the others have to be known to it. To restore from several shards, whoever saved them, each is read with
 *  LOPT_SHARD beside it in `contents`: tensors that it has not stay as they are. tensors_restored of lopt_info is how many it had
 *  for this optimizer: the sum over the shards shows whether none was missing.
 * ================================================================================================================= */

#define LOPT_WITH_PARAMETERS 1u
#define LOPT_SHARD 2u

/* Writes a checkpoint. It is written whole to a temporary file beside `path`, synced and renamed, so that the file at
 * `path` is at every moment the old checkpoint or the new one. The new one has the permissions of the old one, as far as the
 * system lets it; its owner is who saves. A symbolic link at `path` is replaced, not followed. What is neither a regular file
 * nor such a link is left alone (IO): a directory, a pipe, a socket, a device, a link to one of the last three (/dev/stdout).
 * So is the old file where the new one does not fit: a limit on the size of files sends no SIGXFSZ. Errors: INVALID_ARGUMENT,
 * IO, NO_MEMORY. */
LOPT_NODISCARD lopt_status lopt_save(const lopt_optimizer *opt, const char *path, uint32_t contents);

/* Reads a checkpoint; with LOPT_WITH_PARAMETERS also overwrites the bound parameters. Everything is checked before
 * anything is changed: the file is held in memory for that, so a call needs as many bytes more as it has
 * (lopt_state_read needs the table of its contents alone, lopt_save a buffer). A file of twice the size that the tensors here
 * explain is not read (MISMATCH), unless there are others elsewhere. Errors: INVALID_ARGUMENT, IO, NO_MEMORY,
 * CHECKPOINT (damaged), MISMATCH (the message names the first difference). */
LOPT_NODISCARD lopt_status lopt_restore(lopt_optimizer *opt, const char *path, uint32_t contents);

/* The same to and from memory: lopt_state_size says how many bytes lopt_state_write will write at this moment. Errors of
 * write: INVALID_ARGUMENT (size is less than lopt_state_size), NO_MEMORY; of read: as lopt_restore without IO. */
LOPT_NODISCARD lopt_status lopt_state_size(const lopt_optimizer *opt, uint32_t contents, size_t *size);
LOPT_NODISCARD lopt_status lopt_state_write(const lopt_optimizer *opt, uint32_t contents, void *memory, size_t size)
    LOPT_WRITES(3, 4);
LOPT_NODISCARD lopt_status lopt_state_read(lopt_optimizer *opt, uint32_t contents, const void *memory, size_t size)
    LOPT_READS(3, 4);

/* ====================================================================================================================
 *  4. OPTIONS
 * ================================================================================================================= */

/* ---- Memory ----------------------------------------------------------------------------------------------------- */

/* Where memory comes from. `allocate` returns `size` bytes aligned to `alignment` (a power of two, at most 64) or NULL;
 * `deallocate` gets the pointer and the same size back. Both may be called only from the thread that calls lopt. Both
 * NULL: the C library's. An allocator must outlive what was made with it. */
typedef struct lopt_allocator {
    void *(*allocate)(void *context, size_t size, size_t alignment);
    void (*deallocate)(void *context, void *pointer, size_t size);
    void *context;
} lopt_allocator;

/* ---- Weights ---------------------------------------------------------------------------------------------------- */

/* Weights compiled into the library: "pooled" (the default), "star", "star-authors-rule". NULL means "pooled". `allocator` may be
 * NULL. Errors: INVALID_ARGUMENT (unknown name; the message lists those there are), NO_MEMORY. */
LOPT_NODISCARD lopt_status lopt_weights_builtin(const char *name, const lopt_allocator *allocator, lopt_weights **out);

/* Weights from a safetensors file, or from the bytes of one (copied). The content is checked in full and may come from
 * anywhere. Errors: INVALID_ARGUMENT, IO, NO_MEMORY, WEIGHTS (the message says what is wrong with them). */
LOPT_NODISCARD lopt_status lopt_weights_load(const char *path, const lopt_allocator *allocator, lopt_weights **out);
LOPT_NODISCARD lopt_status lopt_weights_from_memory(const void *bytes, size_t size, const lopt_allocator *allocator,
                                     lopt_weights **out) LOPT_READS(1, 2);

/* The value of a key in the weights' metadata, e.g. "kind", "provenance", or NULL if there is none (or an argument is
 * NULL). Valid as long as the weights are. */
const char *lopt_weights_metadata(const lopt_weights *weights, const char *key);

/* NULL is allowed and does nothing. */
void lopt_weights_free(lopt_weights *weights);

/* ---- Creating --------------------------------------------------------------------------------------------------- */

/* Instruction sets. On Arm there is LOPT_ISA_BASELINE (NEON) alone. */
typedef enum lopt_isa {
    LOPT_ISA_AUTO = 0,     /* the widest that the processor has   */
    LOPT_ISA_BASELINE = 1, /* SSE2 on x86-64, NEON on aarch64     */
    LOPT_ISA_AVX2 = 2,     /* AVX2 and FMA (x86-64-v3)            */
    LOPT_ISA_AVX512 = 3    /* AVX-512 F, BW, CD, DQ, VL (x86-64-v4) */
} lopt_isa;

/* What a step takes off the parameters for weight_decay, with all learning-rate scales as lr. */
typedef enum lopt_weight_decay_form {
    LOPT_DECAY_BY_STEP_SIZE = 0, /* lr * step_size * weight_decay * parameter: as the steps get smaller, so does the decay.
                                    step_size is nominal_stepsize * exp(n) of the weights' rule; for rules without a
                                    nominal term, step_mult                                                           */
    LOPT_DECAY_PER_STEP = 1      /* lr * weight_decay * parameter, but no more than the parameter: as version 0.1.0 had it,
                                    where 0.003 wears a long training down. For its checkpoints, which restore to it      */
} lopt_weight_decay_form;

/* Which tensors weight_decay is for. */
typedef enum lopt_weight_decay_tensors {
    LOPT_DECAY_ALL = 0,
    LOPT_DECAY_MATRICES = 1      /* those with two or more extents above 1: not biases and the gains of normalisations, as recipes
                                    with AdamW often have it. [64, 1] is a vector                                      */
} lopt_weight_decay_tensors;

/* An average a of the parameters p over the steps t = 0, 1, 2, ... of a tensor. */
typedef enum lopt_average {
    LOPT_AVERAGE_NONE = 0,
    LOPT_AVERAGE_GROWING = 1, /* a += (p - a) k / (t + k): of about the last 1 / k of all steps, however many there will be   */
    LOPT_AVERAGE_EMA = 2      /* a += (p - a) / w: exponential, of about the last w steps; of the first w steps the mean       */
} lopt_average;

/* What a step does about gradients that are not finite (see lopt_step). */
typedef enum lopt_nonfinite {
    LOPT_NONFINITE_SKIP_STEP = 0,   /* no tensor is stepped; returns LOPT_SKIPPED_NONFINITE                     */
    LOPT_NONFINITE_SKIP_TENSOR = 1, /* the other tensors are stepped; returns LOPT_SKIPPED_NONFINITE            */
    LOPT_NONFINITE_ERROR = 2        /* no tensor is stepped; returns LOPT_ERROR_NONFINITE                       */
} lopt_nonfinite;

/* A caller's own threads. `run` calls task(task_context, i) exactly once for every i in 0 .. count - 1, in any order, on
 * any threads, and returns when all have returned. It is called from inside lopt_step with count <= options.threads. A
 * task leaves the floating-point environment of its thread as it was. */
typedef void (*lopt_task)(void *task_context, int32_t i);
typedef struct lopt_parallel_for {
    void (*run)(void *context, int32_t count, lopt_task task, void *task_context);
    void *context;
} lopt_parallel_for;

/* What lopt_add_rows needs: an all-gather of doubles over the `parts` processes, or threads, that have rows of a tensor; this is number
 * `part` of them, 0 to parts - 1. `run` gets `count` numbers of this part, count the same on all parts, puts those of part p at all +
 * p * count for every p, its own too, and returns 0. Any other return says that it could not, and the call that called it fails;
 * it is to fail on all parts or on none. `run` NULL: none. */
typedef struct lopt_gather {
    int (*run)(void *context, const double *own, double *all, int64_t count);
    void *context;
    int32_t part;
    int32_t parts;   /* 1 to 1048576 */
} lopt_gather;

typedef enum lopt_log_level { LOPT_LOG_INFO = 0, LOPT_LOG_WARNING = 1 } lopt_log_level;

/* lopt itself never writes to stdout or stderr. `text` is valid during the call. */
typedef struct lopt_log {
    void (*message)(void *context, lopt_log_level level, const char *text);
    void *context;
} lopt_log;

struct lopt_options {
    size_t struct_size;     /* set by lopt_options_init; tells the library which fields the program knows         */
    int32_t threads;        /* 0: one per processor that any thread of the process may run on (so that OpenMP may bind
                               the caller to one), fewer if a control group's quota of processor time (a container's) is
                               less; hosts with a thread per processor pass 1. Else 1 to 256. Own threads start when the
                               tensors added are worth it, so a small problem never starts one. Those that the system
                               refuses are done without: the log has a warning, lopt_info the number          */
    int32_t max_isa;        /* a lopt_isa; the environment variable LOPT_MAX_ISA (baseline, avx2, avx512) caps too */
    int32_t nonfinite;      /* a lopt_nonfinite                                                                    */
    int32_t reserved;       /* 0                                                                                   */
    double lr_scale;        /* multiplies every step; 0 to 1e30; default 1 (see lopt_set_lr_scale)                 */
    double weight_decay;    /* decoupled, as in AdamW, where 0.01 to 0.3 are usual: a step also multiplies the tensor by
                               1 - step_size * weight_decay, at least 0; step_size is the tensor's own learned one, the
                               scales below included (see weight_decay_form); 0 to 1e30; default 0                 */
    int64_t total_steps;    /* steps the training will take, default 0: not known (see lopt_set_total_steps). For weights
                               that were meta-trained to know their horizon; others ignore it, and lopt_info says which  */
    lopt_allocator allocator;       /* default: the C library's                                                    */
    lopt_parallel_for parallel_for; /* default: none, lopt starts its own threads                                  */
    lopt_log log;                   /* default: none                                                               */
    double max_update_ratio; /* a guard: the RMS of a tensor's update is kept to at most this times the RMS of the tensor
                               (or times 0.001 if that is larger), by scaling the update down; finite, >= 0; default 0:
                               no limit. Weight decay is not counted. A step takes up to twice as long with it. Not kept
                               in checkpoints                                                                      */
    int32_t weight_decay_form; /* a lopt_weight_decay_form                                                         */
    int32_t reserved2;         /* 0                                                                                */
    double gradient_scale;     /* what the rule sees is gradient_scale times the gradient, which is not written (see
                                  lopt_set_gradient_scale): 1 / batch for gradients that are summed over a batch, -1 for codes
                                  that store the negative; a number between 1e-30 and 1e30, or between -1e30 and -1e-30;
                                  default 1                                                                        */
    double max_gradient_norm;  /* clipping: if the norm of all gradients of a step together, gradient_scale included, is above
                                  this, the rule sees them multiplied by max_gradient_norm / norm; 1e-30 to 1e30, or 0, the
                                  default: no clipping. Tensors that are frozen or skipped do not count. lopt_step_tensor,
                                  which does not know the norm, refuses. The norm is that of f32 sums, of the same bits with any number
                                  of threads. Not kept in checkpoints. lopt needs no clipping to be stable; where a recipe has
                                  it, this costs no pass over memory                                               */
    int32_t weight_decay_tensors; /* a lopt_weight_decay_tensors; each tensor's own scale counts beside it           */
    int32_t average;           /* a lopt_average: of the parameters, see lopt_average_get; default: none           */
    double average_span;       /* its k or w, 1 to 1e30; 0, the default: 10 for k, 1000 for w                      */
    double learned_decay_scale; /* multiplies the weight decay that the weights choose themselves (kind pooled), which stays below
                                  a tenth of a parameter and half of a gradient's step all the same; 0: none; 0 to 1e30; default 1.
                                  Other weights ignore it. Not kept in checkpoints                                  */
    lopt_gather gather;        /* default: none. For lopt_add_rows                                                 */
    int32_t momentum_type;     /* what momenta are kept in, a lopt_element: LOPT_F32, the default, or LOPT_BF16, for weights of kind
                                  pooled alone: state is then 8 bytes per parameter in place of 12. Each step rounds them to one of
                                  the two nearest bf16 numbers, at random with the probabilities that make the mean right, so that slow averages
                                  are kept. The random numbers follow from the step and the place in the tensor: results have
                                  the same bits wherever those of f32 have. Checkpoints hold momenta as they are; one of the other
                                  type restores too, its momenta rounded to nearest, or as they were, and from there on as this says */
    int32_t reserved3;         /* 0                                                                                */
};

/* Fills `options` with the defaults. struct_size is sizeof(lopt_options). Errors: INVALID_ARGUMENT. */
lopt_status lopt_options_init(lopt_options *options, size_t struct_size);

/* ---- Schedules and per-tensor options ---------------------------------------------------------------------------- */

/* Multiplies every step taken from now on (weight decay included). lopt needs no schedule, but a caller's own works: call
 * it before each step with, say, a cosine from 1 to 0. 0 to 1e30; 0 leaves parameters as they are. Errors:
 * INVALID_ARGUMENT. */
LOPT_NODISCARD lopt_status lopt_set_lr_scale(lopt_optimizer *opt, double lr_scale);

/* Changes total_steps from now on, 0: no longer known. Weights that know their horizon (uses_total_steps in lopt_info)
 * then choose step size and weight decay by the part of it that a tensor has taken: steps (see lopt_stats) / total_steps.
 * Towards the end they get small by themselves, so no schedule is needed. Past it they go on as at the end; with a larger
 * number they rise again. Checkpoints of such weights keep total_steps, so after a restore it is the checkpoint's. Other
 * weights ignore it. 0 to 2^63 - 1. Errors: INVALID_ARGUMENT. */
LOPT_NODISCARD lopt_status lopt_set_total_steps(lopt_optimizer *opt, int64_t total_steps);

/* What every step from now on multiplies gradients by as it reads them: one factor, rounded to f32. The inverse of a loss scale
 * goes in here, whenever that changes. All that a step does with a gradient it does with the product: that is what may be up to
 * 2^50 (see lopt_step), is 0 for an idle tensor, and is in lopt_stats. Range as gradient_scale in the options. Errors:
 * INVALID_ARGUMENT. */
LOPT_NODISCARD lopt_status lopt_set_gradient_scale(lopt_optimizer *opt, double gradient_scale);

typedef struct lopt_tensor_options {
    size_t struct_size;        /* set by lopt_tensor_options_init                                          */
    double lr_scale;           /* multiplies the optimizer's; 0 to 1e30; default 1. A product above 1e30 counts as 1e30 */
    double weight_decay_scale; /* multiplies the optimizer's weight decay; 0 to 1e30; default 1. The product likewise  */
    int32_t frozen;            /* 1: steps pass this tensor over (its gradient is not read); default 0     */
    int32_t reserved;          /* 0                                                                        */
} lopt_tensor_options;

lopt_status lopt_tensor_options_init(lopt_tensor_options *options, size_t struct_size);
LOPT_NODISCARD lopt_status lopt_set_tensor_options(lopt_optimizer *opt, int32_t index, const lopt_tensor_options *options);

/* ---- An average of the parameters -------------------------------------------------------------------------------- */

/* With `average` in the options every step also takes the parameters that it leaves into an average, which often does better on
 * unseen data than they do: noise of the last steps is averaged out of it. It costs 4 bytes a parameter, which lopt_info counts,
 * and a pass over 8. Steps, and so the parameters, have the bits that they have without.
 *
 * The first step's parameters are the first average. A step that a tensor does not take (frozen, skipped, idle) leaves its
 * average as it is; after the last step of an idle tensor it so stays a little behind the parameter. An element that is NaN or
 * infinite is so in the average for as long as in the parameter. Checkpoints hold averages; after one that has none they begin
 * anew. The two options are not kept in checkpoints.
 *
 * lopt_average_get copies the average of a tensor to `out`, of `count` elements, as many as the tensor has, in its order. Before
 * the tensor's first step that is the parameter. Errors: INVALID_ARGUMENT (NULL, an unknown index, another count, no average in the
 * options, a parameter that is NULL where it is what is asked for). */
LOPT_NODISCARD lopt_status lopt_average_get(const lopt_optimizer *opt, int32_t index, float *out, int64_t count) LOPT_WRITES(3, 4);

/* Puts the averages of all tensors where the parameters are, to evaluate or keep them, and the parameters where the averages were;
 * the next call puts them back, to the bit. In between what would mix them up is refused (INVALID_ARGUMENT): steps, checkpoints
 * both ways. lopt_destroy leaves what is there. Allocates nothing. Errors: INVALID_ARGUMENT (opt is NULL, no average in the
 * options, a parameter that is NULL). */
LOPT_NODISCARD lopt_status lopt_average_swap(lopt_optimizer *opt);

/* ---- Looking inside ---------------------------------------------------------------------------------------------- */

/* Of the last step that was taken. RMS is the root mean square over the elements.
 *
 * Of one tensor: of its own last step. If it was idle in that, gradient_rms and update_rms are 0, the rest is of the step before.
 *
 * Of all tensors together: of those that were stepped in the last step of the optimizer, which is the last lopt_step, or the
 * lopt_step_tensor calls since then, back to where a tensor comes for the second time: with a call for each tensor in turn,
 * what this turn has stepped so far. Tensors that were frozen, skipped or idle in it are left out, and without any the numbers
 * are 0. A step that was not taken at all (LOPT_SKIPPED_NONFINITE under LOPT_NONFINITE_SKIP_STEP, an error) is none. The counters
 * are over all tensors. Checkpoints keep steps, steps_skipped and nonfinite; the rest is of this optimizer. */
typedef struct lopt_statistics {
    size_t struct_size;       /* set by the caller: sizeof(lopt_statistics)                                         */
    int64_t steps;            /* steps taken; of all tensors: the largest                                           */
    int64_t steps_skipped;    /* steps not taken because of gradients that were not finite                          */
    int64_t nonfinite;        /* gradient elements seen that were not finite, in all                                */
    double gradient_rms;      /* as the rule saw it, gradient_scale and clipping included                             */
    double update_rms;        /* of the change of the parameters, weight decay not counted                          */
    double parameter_rms;     /* before the step, elements that are not finite not counted                          */
    double blackbox_share;    /* RMS(blackbox) / (RMS(blackbox) + RMS(nominal)): 0 all nominal, 1 all blackbox      */
    int64_t updates_limited;  /* updates that max_update_ratio made smaller, of this optimizer since lopt_create    */
    int64_t steps_idle;       /* steps in which a tensor rested (see lopt_step), of this optimizer since lopt_create  */
    int64_t nonfinite_parameters; /* elements of the parameters that were NaN or infinite before the step          */
    double step_size;         /* of one tensor: the step size that its weights chose, the scales included; what
                                 weight_decay is multiplied by. Of all: 0                                            */
    double gradient_norm;     /* with max_gradient_norm, whatever the index: the norm of all gradients together in the last
                                 lopt_step that was taken, before clipping; without it 0                             */
    int64_t steps_clipped;    /* steps in which it was above max_gradient_norm, of this optimizer since lopt_create  */
} lopt_statistics;

/* index -1: all tensors together. Errors: INVALID_ARGUMENT. */
lopt_status lopt_stats(const lopt_optimizer *opt, int32_t index, lopt_statistics *statistics);

typedef struct lopt_information {
    size_t struct_size;       /* set by the caller: sizeof(lopt_information)                                        */
    int32_t isa;              /* the lopt_isa in use                                                                */
    int32_t threads;          /* how many a step may use, the calling one included; once there are own threads, those that
                                 the system gave                                                                   */
    int32_t tensors;          /* those elsewhere included                                                           */
    int32_t uses_total_steps; /* 1 if what the weights do depends on total_steps, once it is known                  */
    int64_t parameters;       /* elements of all tensors                                                            */
    int64_t state_bytes;      /* accumulators: what a checkpoint holds                                              */
    int64_t memory_bytes;     /* all that the allocator was asked for and still holds, state included; not the stacks of own
                                 threads (512 KiB of addresses each), nor OpenBLAS                                 */
    const char *kernel;       /* static: how the network is evaluated for each parameter, "fused" or "blas" or "general",
                                 or "none" if with these weights its outputs depend on the step alone, or there is none */
    int64_t total_steps;      /* what it is now; 0: not known                                                       */
    int32_t tensors_elsewhere;
    int32_t tensors_restored; /* how many the checkpoint that was restored last had for this optimizer; 0: none was  */
} lopt_information;

lopt_status lopt_info(const lopt_optimizer *opt, lopt_information *information);

#ifdef __cplusplus
}
#endif

#endif /* LOPT_H */
