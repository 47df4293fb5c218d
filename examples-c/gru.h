/* A character-level language model: one layer of gated recurrent units (GRU; Cho et al. 2014, in the variant of cuDNN)
 * and a softmax over the next character. With x one-hot, so that x W is a row of W, and * elementwise:
 *
 *     z = sigmoid(x Wz + h Uz + bz)            how much of the old state stays
 *     r = sigmoid(x Wr + h Ur + br)            how much of it the candidate sees
 *     n = tanh(x Wn + r * (h Un) + bn)         the candidate
 *     h' = (1 - z) * n + z * h
 *     logits = h' O + c
 *
 * W = (Wz Wr Wn), U = (Uz Ur Un) and b = (bz br bn) are stored side by side, 3 H columns each. */
#ifndef GRU_H
#define GRU_H

#include <stdbool.h>
#include <stdint.h>

enum { GRU_W, GRU_U, GRU_B, GRU_OUT, GRU_OUT_B, GRU_TENSORS };

typedef struct gru_tensor {
    const char *name;
    int64_t shape[2];
    int32_t rank;
    int64_t size;
    float *param, *grad;
} gru_tensor;

typedef struct gru {
    int vocab, hidden;
    gru_tensor tensor[GRU_TENSORS];
    float *u_transposed, *out_transposed; /* copies for the backward pass */
} gru;

/* What one pass over `batch` windows of `length` characters needs. Row t * batch + i of every array is character t of
 * window i. */
typedef struct gru_pass {
    int batch, length;
    int *input, *target; /* characters, as numbers below vocab: the caller fills these                               */
    float *h;            /* (length + 1) * batch rows of H: the states; the first `batch` rows are the caller's, zero */
    float *gates;        /* rows of 3 H: z, r, n                                                                     */
    float *hu;           /* rows of 3 H: h U; the backward pass turns it into its gradient                           */
    float *logits;       /* rows of vocab; gru_loss turns them into their gradient                                   */
    float *dh, *dh_next; /* batch rows of H                                                                          */
} gru_pass;

/* These return false if there is no memory. */
bool gru_create(gru *model, int vocab, int hidden);
bool gru_pass_create(gru_pass *pass, const gru *model, int batch, int length);

void gru_destroy(gru *model);
void gru_pass_destroy(gru_pass *pass);

/* Matrices uniform with variance 1 / H, biases 0. */
void gru_initialize(gru *model, uint64_t seed);

/* From input and the first states computes the other states and the logits. */
void gru_forward(const gru *model, gru_pass *pass);

/* After gru_forward: returns the mean cross-entropy in nats and turns the logits into their gradient. */
double gru_loss(const gru *model, gru_pass *pass);

/* After gru_loss: writes the gradient of every tensor. */
void gru_backward(gru *model, gru_pass *pass);

#endif
