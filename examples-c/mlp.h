/* A multilayer perceptron for classification: ReLU between the layers, softmax and cross-entropy at the end. */
#ifndef MLP_H
#define MLP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { MLP_MAX_LAYERS = 16 };

typedef struct mlp {
    int layers;                     /* of weights                                                             */
    int width[MLP_MAX_LAYERS + 1];  /* inputs, hidden layers, classes                                         */
    int batch;                      /* the most rows that one call takes                                      */
    size_t size;                    /* parameters in all                                                      */
    float *params, *grads;          /* every layer's weight and bias, one after the other                     */
    float *w[MLP_MAX_LAYERS], *b[MLP_MAX_LAYERS];   /* into params: w[l] is width[l + 1] x width[l]           */
    float *dw[MLP_MAX_LAYERS], *db[MLP_MAX_LAYERS]; /* into grads                                             */
    float *act[MLP_MAX_LAYERS + 1];   /* activations, batch x width[l]; act[0] is where the caller puts inputs  */
    float *delta[MLP_MAX_LAYERS + 1]; /* the gradient of the loss with respect to act[l], for l >= 1           */
} mlp;

/* Returns false if there is no memory. */
bool mlp_create(mlp *net, const int *width, int layers, int batch);
void mlp_destroy(mlp *net);

/* Weights uniform with variance 2 / inputs (He et al. 2015; 1 / inputs in the last layer), biases 0. */
void mlp_initialize(mlp *net, uint64_t seed);

/* From act[0] computes the logits, act[layers], and the sum of the cross-entropy over the rows; *correct receives the
 * number of rows whose largest logit is the label's. */
double mlp_loss(mlp *net, const unsigned char *labels, int rows, int *correct);

/* After mlp_loss: writes grads, the gradient of the mean cross-entropy over the rows. */
void mlp_backward(mlp *net, int rows);

#endif
