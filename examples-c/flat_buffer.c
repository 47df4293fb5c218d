/* All parameters in one buffer, all gradients in another, as many C training codes have them: how to hand them to lopt.
 *
 *     cc flat_buffer.c $(pkg-config --cflags --libs lopt) -lm && ./a.out
 *
 * A table of names, offsets and shapes goes to lopt_add_flat.
 *
 * WHY NOT ADD THE WHOLE BUFFER AS ONE LONG VECTOR?  Training is much worse then, and the log says so. The rule looks at tensors, not
 * at numbers alone, and its weights were meta-trained on the tensors of networks:
 *   - step size and weight decay are chosen for each tensor, from the size of its parameters and from how its gradients agree with
 *     one another. In one vector, biases near 0 and large weights get one common choice, the average of both;
 *   - a vector is stepped and decayed as vectors are, and the first and the last layer are not seen;
 *   - weights of kind star keep second moments per row and per column of a matrix; of a vector three more per element instead,
 *     28 bytes of state per parameter in place of 16;
 *   - learning-rate scale, weight decay and freezing are set per tensor, and statistics are reported per tensor.
 */
#include <lopt.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { POINTS = 200, HIDDEN = 32, STEPS = 1000 };

/* The order of the table is the order of the buffers. */
enum { W1, B1, W2, B2, W3, B3, TENSORS };
static lopt_flat_entry table[TENSORS] = {
    {"fc1.weight", 0, 2, {HIDDEN, 2}},      {"fc1.bias", 0, 1, {HIDDEN}},
    {"fc2.weight", 0, 2, {HIDDEN, HIDDEN}}, {"fc2.bias", 0, 1, {HIDDEN}},
    {"fc3.weight", 0, 2, {1, HIDDEN}},      {"fc3.bias", 0, 1, {1}},
};
static int64_t offset[TENSORS + 1]; /* those of the table; the last is the size of a buffer */

static float inputs[POINTS][2], labels[POINTS]; /* two spirals, labelled 0 and 1 */

static void check(lopt_status status) {
    if (status == LOPT_OK) return;
    fprintf(stderr, "lopt: %s: %s\n", lopt_status_string(status), lopt_last_error());
    exit(EXIT_FAILURE);
}

static void compute_offsets(void) {
    for (int i = 0; i < TENSORS; i++) {
        int64_t size = 1;
        for (int axis = 0; axis < table[i].rank; axis++) size *= table[i].shape[axis];
        table[i].offset = offset[i];
        offset[i + 1] = offset[i] + size;
    }
}

static void make_spirals(void) {
    for (int i = 0; i < POINTS; i++) {
        float t = (float)(i / 2) / (POINTS / 2), angle = 9.0f * t + 3.14159265f * (float)(i % 2);
        inputs[i][0] = (0.1f + t) * cosf(angle);
        inputs[i][1] = (0.1f + t) * sinf(angle);
        labels[i] = (float)(i % 2);
    }
}

/* Weights uniform with variance 1 / columns, biases 0. */
static void initialize(float *params) {
    srand(1);
    memset(params, 0, (size_t)offset[TENSORS] * sizeof(float));
    for (int i = 0; i < TENSORS; i += 2) {
        float limit = sqrtf(3.0f / (float)table[i].shape[1]);
        for (int64_t k = offset[i]; k < offset[i + 1]; k++)
            params[k] = limit * (2.0f * (float)rand() / (float)RAND_MAX - 1.0f);
    }
}

/* out[i] = tanh(sum_j w[i][j] in[j] + b[i]) */
static void layer(float *out, const float *in, const float *w, const float *b, int columns) {
    for (int i = 0; i < HIDDEN; i++) {
        float sum = b[i];
        for (int j = 0; j < columns; j++) sum += w[i * columns + j] * in[j];
        out[i] = tanhf(sum);
    }
}

/* From dout, the gradient with respect to out, adds to dw and db, and to din unless it is NULL. */
static void layer_backward(float *din, float *dw, float *db, const float *dout, const float *out, const float *in,
                           const float *w, int columns) {
    for (int i = 0; i < HIDDEN; i++) {
        float d = dout[i] * (1 - out[i] * out[i]);
        db[i] += d;
        for (int j = 0; j < columns; j++) dw[i * columns + j] += d * in[j];
        for (int j = 0; din && j < columns; j++) din[j] += d * w[i * columns + j];
    }
}

/* Returns the mean cross-entropy and writes its gradient. */
static float forward_backward(const float *p, float *g) {
    float loss = 0;
    memset(g, 0, (size_t)offset[TENSORS] * sizeof(float));
    for (int n = 0; n < POINTS; n++) {
        float h1[HIDDEN], h2[HIDDEN], dh1[HIDDEN] = {0}, dh2[HIDDEN], logit = p[offset[B3]];
        layer(h1, inputs[n], p + offset[W1], p + offset[B1], 2);
        layer(h2, h1, p + offset[W2], p + offset[B2], HIDDEN);
        for (int i = 0; i < HIDDEN; i++) logit += p[offset[W3] + i] * h2[i];

        float sign = 1 - 2 * labels[n]; /* the loss is log(1 + exp(logit)) for label 0, log(1 + exp(-logit)) for 1 */
        loss += (sign * logit > 0 ? sign * logit : 0) + log1pf(expf(-fabsf(logit)));
        float dlogit = (1 / (1 + expf(-logit)) - labels[n]) / POINTS;
        g[offset[B3]] += dlogit;
        for (int i = 0; i < HIDDEN; i++) {
            g[offset[W3] + i] += dlogit * h2[i];
            dh2[i] = dlogit * p[offset[W3] + i];
        }
        layer_backward(dh1, g + offset[W2], g + offset[B2], dh2, h2, h1, p + offset[W2], HIDDEN);
        layer_backward(NULL, g + offset[W1], g + offset[B1], dh1, h1, inputs[n], p + offset[W1], 2);
    }
    return loss / POINTS;
}

int main(int argc, char **argv) {
    if (argc > 1) {
        fprintf(stderr, "usage: %s (it has no options)\n", argv[0]);
        return 2;
    }
    compute_offsets();
    make_spirals();
    float *params = malloc((size_t)offset[TENSORS] * sizeof(float));
    float *grads = malloc((size_t)offset[TENSORS] * sizeof(float));
    if (!params || !grads) {
        fprintf(stderr, "out of memory\n");
        return EXIT_FAILURE;
    }
    initialize(params);

    lopt_optimizer *opt;
    check(lopt_create(NULL, NULL, &opt));
    check(lopt_add_flat(opt, params, grads, table, TENSORS));
    lopt_information info = {.struct_size = sizeof info};
    check(lopt_info(opt, &info));
    printf("%d tensors, %d parameters, %d bytes of state\n", (int)info.tensors, (int)info.parameters,
           (int)info.state_bytes);

    for (int step = 0; step <= STEPS; step++) {
        float loss = forward_backward(params, grads);
        if (step % 200 == 0) printf("step %4d   loss %.5f\n", step, loss);
        check(lopt_step(opt));
    }
    lopt_destroy(opt);
    free(params);
    free(grads);
    if (fflush(stdout) != 0 || ferror(stdout)) {
        fputs("the output cannot be written\n", stderr);
        return EXIT_FAILURE;
    }
    return EXIT_SUCCESS;
}
