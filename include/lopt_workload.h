/* lopt_workload.h: a training workload of your own in C, for `lopt specialise` and `lopt meta-train`.
 *
 * Copyright 2026 the lopt authors. SPDX-License-Identifier: Apache-2.0
 *
 * Define three functions, and those of the others that you have, in a shared library, and the command lopt makes weights that train
 * it better than the built-in ones do:
 *
 *     cc -O3 -shared -fPIC task.c -o libtask.so -lm
 *     lopt specialise --workload ./libtask.so --steps 2000 --minutes 10 --out specialised
 *
 * lopt_weights_load takes what is in specialised/weights.safetensors. The library needs neither liblopt nor an optimizer of its own: the
 * tool trains it some thousands of times, for a part of `--steps` each. examples-c/workload.c is one.
 *
 * EVERYTHING IS A FUNCTION OF ITS ARGUMENTS.  The same seed gives the same start, the same seed and step the same minibatch, bit for bit,
 * whatever was called before: training runs go on side by side, and meta-training compares pairs of them that differ in nothing but the
 * weights. The tool tries this out before it begins, and ends with what was not so.
 *
 * THREADS.  Calls come from several threads, but one at a time, unless lopt_workload_is_thread_safe returns 1. Then they may overlap, and
 * what the functions write to is no static variable (_Thread_local, or on the stack). That is worth it: the tool then keeps all
 * processors busy.
 *
 * ERRORS.  A loss that is not finite is a run that has diverged, which is allowed, but not at the start. The functions return: an exception,
 * longjmp or crash ends the tool.
 */
#ifndef LOPT_WORKLOAD_H
#define LOPT_WORKLOAD_H

#include <stdint.h>

#define LOPT_WORKLOAD_MAX_RANK 8

/* Found by the tool even where a library is compiled with -fvisibility=hidden. */
#if defined(__GNUC__)
#define LOPT_WORKLOAD_EXPORT __attribute__((__visibility__("default")))
#else
#define LOPT_WORKLOAD_EXPORT
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* As the arguments of lopt_add_tensor: f32, row-major, extents of at least 1. */
typedef struct lopt_workload_tensor {
    const char *name; /* unique */
    int32_t rank;     /* 0 to LOPT_WORKLOAD_MAX_RANK */
    int64_t shape[LOPT_WORKLOAD_MAX_RANK];
} lopt_workload_tensor;

/* ---- To be defined ----------------------------------------------------------------------------------------------- */

/* The tensors, `*count` of them in the order of the layers; always the same. The memory is the library's and stays as it is. */
LOPT_WORKLOAD_EXPORT const lopt_workload_tensor *lopt_workload_tensors(int32_t *count);

/* Writes the start of a training run: every element of parameters[i], tensor i. */
LOPT_WORKLOAD_EXPORT void lopt_workload_init(uint64_t seed, float *const *parameters);

/* Returns the loss of minibatch `step`, from 0, of the training run `seed`, and writes its gradient: every element of gradients[i], those
 * that are 0 too (what is there before is undefined). A seed stands for all that differs between two runs: the order of the data,
 * noise, dropout. Loss and gradient are means over the minibatch or sums, as your training has them. */
LOPT_WORKLOAD_EXPORT float lopt_workload_loss_and_gradient(uint64_t seed, int64_t step, const float *const *parameters,
                                                           float *const *gradients);

/* ---- May be defined ---------------------------------------------------------------------------------------------- */

/* The mean loss on data that are in no minibatch, always the same ones. With it the weights are trained, in part, for this loss, and
 * judged by it too. */
LOPT_WORKLOAD_EXPORT float lopt_workload_held_out_loss(const float *const *parameters);

/* Names the workload in reports, in at most 60 letters, digits, '_', '-' and '.'; without it the library's file does. */
LOPT_WORKLOAD_EXPORT const char *lopt_workload_name(void);

/* 1: calls may overlap (see THREADS); 0, as without it: one at a time. */
LOPT_WORKLOAD_EXPORT int32_t lopt_workload_is_thread_safe(void);

#ifdef __cplusplus
}
#endif

#endif /* LOPT_WORKLOAD_H */
