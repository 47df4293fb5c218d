#include "gru.h"

#include <math.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "rng.h"

/* y += x w, where y is rows x columns, w is inner x columns, and element (i, k) of x is x[i * row_stride + k * stride],
 * so that x may also be a transposed matrix. Four rows of w at a time: y is loaded and stored once for four products. */
static void matmul_add(float *restrict y, const float *restrict x, int row_stride, int stride, const float *restrict w,
                       int rows, int inner, int columns) {
    for (int i = 0; i < rows; i++) {
        float *restrict out = y + (ptrdiff_t)i * columns;
        const float *in = x + (ptrdiff_t)i * row_stride;
        int k = 0;
        for (; k + 4 <= inner; k += 4) {
            float a = in[(ptrdiff_t)k * stride], b = in[(ptrdiff_t)(k + 1) * stride];
            float c = in[(ptrdiff_t)(k + 2) * stride], d = in[(ptrdiff_t)(k + 3) * stride];
            const float *w0 = w + (ptrdiff_t)k * columns, *w1 = w0 + columns, *w2 = w1 + columns, *w3 = w2 + columns;
            for (int j = 0; j < columns; j++) out[j] += a * w0[j] + b * w1[j] + c * w2[j] + d * w3[j];
        }
        for (; k < inner; k++) {
            float a = in[(ptrdiff_t)k * stride];
            const float *w0 = w + (ptrdiff_t)k * columns;
            for (int j = 0; j < columns; j++) out[j] += a * w0[j];
        }
    }
}

static void transpose(float *to, const float *from, int rows, int columns) {
    for (int i = 0; i < rows; i++)
        for (int j = 0; j < columns; j++) to[(ptrdiff_t)j * rows + i] = from[(ptrdiff_t)i * columns + j];
}

static void zero(float *x, int64_t count) { memset(x, 0, (size_t)count * sizeof(float)); }

/* ---- Memory ------------------------------------------------------------------------------------------------------ */

static float *floats(int64_t count) { return calloc((size_t)count, sizeof(float)); }

bool gru_create(gru *model, int vocab, int hidden) {
    const gru_tensor tensors[GRU_TENSORS] = {
        [GRU_W] = {.name = "gates.input", .rank = 2, .shape = {vocab, 3 * hidden}},
        [GRU_U] = {.name = "gates.state", .rank = 2, .shape = {hidden, 3 * hidden}},
        [GRU_B] = {.name = "gates.bias", .rank = 1, .shape = {3 * hidden, 1}},
        [GRU_OUT] = {.name = "output.weight", .rank = 2, .shape = {hidden, vocab}},
        [GRU_OUT_B] = {.name = "output.bias", .rank = 1, .shape = {vocab, 1}},
    };
    model->vocab = vocab;
    model->hidden = hidden;
    model->u_transposed = floats((int64_t)hidden * 3 * hidden);
    model->out_transposed = floats((int64_t)hidden * vocab);
    bool ok = model->u_transposed && model->out_transposed;
    for (int i = 0; i < GRU_TENSORS; i++) {
        gru_tensor *tensor = &model->tensor[i];
        *tensor = tensors[i];
        tensor->size = tensor->shape[0] * tensor->shape[1];
        tensor->param = floats(tensor->size);
        tensor->grad = floats(tensor->size);
        if (!tensor->param || !tensor->grad) ok = false;
    }
    if (!ok) gru_destroy(model);
    return ok;
}

void gru_destroy(gru *model) {
    for (int i = 0; i < GRU_TENSORS; i++) {
        free(model->tensor[i].param);
        free(model->tensor[i].grad);
    }
    free(model->u_transposed);
    free(model->out_transposed);
    memset(model, 0, sizeof *model);
}

bool gru_pass_create(gru_pass *pass, const gru *model, int batch, int length) {
    int64_t rows = (int64_t)batch * length, hidden = model->hidden;
    pass->batch = batch;
    pass->length = length;
    pass->input = calloc((size_t)rows, sizeof(int));
    pass->target = calloc((size_t)rows, sizeof(int));
    pass->h = floats((rows + batch) * hidden);
    pass->gates = floats(rows * 3 * hidden);
    pass->hu = floats(rows * 3 * hidden);
    pass->logits = floats(rows * model->vocab);
    pass->dh = floats(batch * hidden);
    pass->dh_next = floats(batch * hidden);
    bool ok = pass->input && pass->target && pass->h && pass->gates && pass->hu && pass->logits;
    ok = ok && pass->dh && pass->dh_next;
    if (!ok) gru_pass_destroy(pass);
    return ok;
}

void gru_pass_destroy(gru_pass *pass) {
    free(pass->input);
    free(pass->target);
    free(pass->h);
    free(pass->gates);
    free(pass->hu);
    free(pass->logits);
    free(pass->dh);
    free(pass->dh_next);
    memset(pass, 0, sizeof *pass);
}

void gru_initialize(gru *model, uint64_t seed) {
    float limit = sqrtf(3.0f / (float)model->hidden); /* variance: limit^2 / 3 */
    for (int i = 0; i < GRU_TENSORS; i++) {
        gru_tensor *tensor = &model->tensor[i];
        zero(tensor->param, tensor->size);
        for (int64_t k = 0; tensor->rank == 2 && k < tensor->size; k++)
            tensor->param[k] = limit * (2 * rng_uniform(&seed) - 1);
    }
}

/* ---- Forward ----------------------------------------------------------------------------------------------------- */

static float sigmoid(float x) { return 1 / (1 + expf(-x)); }

static void forward_row(const gru *model, int character, const float *h, const float *hu, float *gates, float *h_new) {
    int H = model->hidden;
    const float *w = model->tensor[GRU_W].param + (ptrdiff_t)character * 3 * H, *bias = model->tensor[GRU_B].param;
    float *z = gates, *r = gates + H, *n = gates + 2 * H;
    for (int j = 0; j < H; j++) {
        z[j] = sigmoid(w[j] + hu[j] + bias[j]);
        r[j] = sigmoid(w[H + j] + hu[H + j] + bias[H + j]);
        n[j] = tanhf(w[2 * H + j] + r[j] * hu[2 * H + j] + bias[2 * H + j]);
        h_new[j] = (1 - z[j]) * n[j] + z[j] * h[j];
    }
}

void gru_forward(const gru *model, gru_pass *pass) {
    int H = model->hidden, V = model->vocab, batch = pass->batch, rows = batch * pass->length;
    zero(pass->hu, (int64_t)rows * 3 * H);
    for (int t = 0; t < pass->length; t++) {
        const float *h = pass->h + (ptrdiff_t)t * batch * H;
        float *hu = pass->hu + (ptrdiff_t)t * batch * 3 * H;
        matmul_add(hu, h, H, 1, model->tensor[GRU_U].param, batch, H, 3 * H);
        for (int i = 0; i < batch; i++) {
            ptrdiff_t row = (ptrdiff_t)t * batch + i;
            forward_row(model, pass->input[row], h + i * H, hu + i * 3 * H, pass->gates + row * 3 * H,
                        pass->h + (row + batch) * H);
        }
    }
    for (int row = 0; row < rows; row++)
        memcpy(pass->logits + (ptrdiff_t)row * V, model->tensor[GRU_OUT_B].param, (size_t)V * sizeof(float));
    matmul_add(pass->logits, pass->h + (ptrdiff_t)batch * H, H, 1, model->tensor[GRU_OUT].param, rows, H, V);
}

double gru_loss(const gru *model, gru_pass *pass) {
    int V = model->vocab, rows = pass->batch * pass->length;
    double loss = 0;
    for (int row = 0; row < rows; row++) {
        float *logits = pass->logits + (ptrdiff_t)row * V, largest = logits[0], sum = 0;
        for (int c = 1; c < V; c++) largest = fmaxf(largest, logits[c]);
        float target = logits[pass->target[row]] - largest; /* shifted, so that exp cannot overflow */
        for (int c = 0; c < V; c++) sum += logits[c] = expf(logits[c] - largest);
        loss += (double)(logf(sum) - target) / rows;
        for (int c = 0; c < V; c++) logits[c] /= sum * (float)rows;
        logits[pass->target[row]] -= 1 / (float)rows;
    }
    return loss;
}

/* ---- Backward ---------------------------------------------------------------------------------------------------- */

/* From dh, the gradient of the new state: adds to the gradients of W's row and b, turns hu into the gradient of h U, and
 * writes the part of the old state's gradient that comes through z. */
static void backward_row(gru *model, int character, const float *h, float *hu, const float *gates, const float *dh,
                         float *dh_old) {
    int H = model->hidden;
    const float *z = gates, *r = gates + H, *n = gates + 2 * H;
    float *dw = model->tensor[GRU_W].grad + (ptrdiff_t)character * 3 * H, *db = model->tensor[GRU_B].grad;
    for (int j = 0; j < H; j++) {
        float dn = dh[j] * (1 - z[j]) * (1 - n[j] * n[j]);
        float dz = dh[j] * (h[j] - n[j]) * z[j] * (1 - z[j]);
        float dr = dn * hu[2 * H + j] * r[j] * (1 - r[j]);
        dw[j] += dz, dw[H + j] += dr, dw[2 * H + j] += dn;
        db[j] += dz, db[H + j] += dr, db[2 * H + j] += dn;
        hu[j] = dz, hu[H + j] = dr, hu[2 * H + j] = dn * r[j];
        dh_old[j] = dh[j] * z[j];
    }
}

void gru_backward(gru *model, gru_pass *pass) {
    int H = model->hidden, V = model->vocab, batch = pass->batch;
    for (int i = 0; i < GRU_TENSORS; i++) zero(model->tensor[i].grad, model->tensor[i].size);
    transpose(model->u_transposed, model->tensor[GRU_U].param, H, 3 * H);
    transpose(model->out_transposed, model->tensor[GRU_OUT].param, H, V);
    zero(pass->dh_next, (int64_t)batch * H);

    for (int t = pass->length - 1; t >= 0; t--) {
        const float *dlogits = pass->logits + (ptrdiff_t)t * batch * V;
        const float *h = pass->h + (ptrdiff_t)t * batch * H, *h_new = h + (ptrdiff_t)batch * H;
        float *hu = pass->hu + (ptrdiff_t)t * batch * 3 * H, *dh = pass->dh_next;

        matmul_add(model->tensor[GRU_OUT].grad, h_new, 1, H, dlogits, H, batch, V);
        for (int i = 0; i < batch; i++)
            for (int c = 0; c < V; c++) model->tensor[GRU_OUT_B].grad[c] += dlogits[i * V + c];
        matmul_add(dh, dlogits, V, 1, model->out_transposed, batch, V, H);

        for (int i = 0; i < batch; i++) {
            ptrdiff_t row = (ptrdiff_t)t * batch + i;
            backward_row(model, pass->input[row], h + i * H, hu + i * 3 * H, pass->gates + row * 3 * H, dh + i * H,
                         pass->dh + i * H);
        }
        matmul_add(pass->dh, hu, 3 * H, 1, model->u_transposed, batch, 3 * H, H);
        matmul_add(model->tensor[GRU_U].grad, h, 1, H, hu, H, batch, 3 * H);

        pass->dh_next = pass->dh; /* the old state is the new state of t - 1 */
        pass->dh = dh;
    }
}
