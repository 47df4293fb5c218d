#include "mlp.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "rng.h"
#include "sgemm.h"

bool mlp_create(mlp *net, const int *width, int layers, int batch) {
    memset(net, 0, sizeof *net);
    net->layers = layers;
    net->batch = batch;
    for (int l = 0; l <= layers; l++) net->width[l] = width[l];
    for (int l = 0; l < layers; l++) net->size += (size_t)width[l + 1] * ((size_t)width[l] + 1);
    net->params = malloc(net->size * sizeof(float));
    net->grads = malloc(net->size * sizeof(float));
    bool ok = net->params && net->grads;
    for (int l = 0; l <= layers; l++) {
        size_t bytes = (size_t)batch * (size_t)width[l] * sizeof(float);
        net->act[l] = malloc(bytes);
        net->delta[l] = l > 0 ? malloc(bytes) : NULL;
        if (!net->act[l] || (l > 0 && !net->delta[l])) ok = false;
    }
    if (!ok) {
        mlp_destroy(net);
        return false;
    }
    size_t offset = 0;
    for (int l = 0; l < layers; l++) {
        size_t outputs = (size_t)width[l + 1], weights = outputs * (size_t)width[l];
        net->w[l] = net->params + offset;
        net->dw[l] = net->grads + offset;
        net->b[l] = net->w[l] + weights;
        net->db[l] = net->dw[l] + weights;
        offset += weights + outputs;
    }
    return true;
}

void mlp_destroy(mlp *net) {
    free(net->params);
    free(net->grads);
    for (int l = 0; l <= net->layers; l++) {
        free(net->act[l]);
        free(net->delta[l]);
    }
    memset(net, 0, sizeof *net);
}

void mlp_initialize(mlp *net, uint64_t seed) {
    for (int l = 0; l < net->layers; l++) {
        int inputs = net->width[l], outputs = net->width[l + 1];
        float limit = sqrtf((l + 1 < net->layers ? 6.0f : 3.0f) / (float)inputs); /* variance: limit^2 / 3 */
        for (int i = 0; i < outputs * inputs; i++) net->w[l][i] = limit * (2 * rng_uniform(&seed) - 1);
        memset(net->b[l], 0, (size_t)outputs * sizeof(float));
    }
}

static void forward(mlp *net, int rows) {
    for (int l = 0; l < net->layers; l++) {
        int in = net->width[l], out = net->width[l + 1];
        float *y = net->act[l + 1];
        for (int r = 0; r < rows; r++) memcpy(y + (size_t)r * (size_t)out, net->b[l], (size_t)out * sizeof(float));
        sgemm(false, true, rows, out, in, 1, net->act[l], in, net->w[l], in, 1, y, out);
        if (l + 1 < net->layers)
            for (int i = 0; i < rows * out; i++) y[i] = y[i] > 0 ? y[i] : 0;
    }
}

double mlp_loss(mlp *net, const unsigned char *labels, int rows, int *correct) {
    int classes = net->width[net->layers];
    double loss = 0;
    *correct = 0;
    forward(net, rows);
    for (int r = 0; r < rows; r++) {
        const float *logits = net->act[net->layers] + r * classes;
        float *delta = net->delta[net->layers] + r * classes;
        int best = 0;
        for (int c = 1; c < classes; c++)
            if (logits[c] > logits[best]) best = c;
        *correct += best == labels[r];

        double others = 0; /* sum of exp(logit - largest) without the largest itself: keeps tiny losses exact */
        for (int c = 0; c < classes; c++) {
            delta[c] = expf(logits[c] - logits[best]);
            if (c != best) others += delta[c];
        }
        loss += log1p(others) + (logits[best] - logits[labels[r]]);
        for (int c = 0; c < classes; c++) delta[c] /= (float)(1 + others);
        delta[labels[r]] -= 1;
    }
    return loss;
}

void mlp_backward(mlp *net, int rows) {
    float mean = 1.0f / (float)rows;
    for (int l = net->layers - 1; l >= 0; l--) {
        int in = net->width[l], out = net->width[l + 1];
        float *delta = net->delta[l + 1];
        sgemm(true, false, out, in, rows, mean, delta, out, net->act[l], in, 0, net->dw[l], in);
        for (int o = 0; o < out; o++) net->db[l][o] = 0;
        for (int r = 0; r < rows; r++)
            for (int o = 0; o < out; o++) net->db[l][o] += mean * delta[r * out + o];
        if (l == 0) break;
        sgemm(false, false, rows, in, out, 1, delta, out, net->w[l], in, 0, net->delta[l], in);
        for (int i = 0; i < rows * in; i++)
            if (net->act[l][i] <= 0) net->delta[l][i] = 0;
    }
}
