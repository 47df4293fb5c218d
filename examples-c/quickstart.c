/* Fits a network with one hidden layer to z = sin(3 x) y. There is no learning rate to choose. C99, and C++ too.
 *
 *     cc quickstart.c $(pkg-config --cflags --libs lopt) -lm && ./a.out
 */
#include <lopt.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { SAMPLES = 512, HIDDEN = 32, STEPS = 2000 };

static float x[SAMPLES][2], z[SAMPLES];                     /* the data: two inputs, one output */
static float w1[HIDDEN][2], b1[HIDDEN], w2[HIDDEN], b2;     /* the parameters                   */
static float dw1[HIDDEN][2], db1[HIDDEN], dw2[HIDDEN], db2; /* the gradient of the loss         */

static void check(lopt_status status) {
    if (status == LOPT_OK) return;
    fprintf(stderr, "lopt: %s: %s\n", lopt_status_string(status), lopt_last_error());
    exit(EXIT_FAILURE);
}

static float uniform(void) { return 2.0f * (float)rand() / (float)RAND_MAX - 1.0f; }

/* Adds the squared error of one sample, divided by SAMPLES, to the gradient; returns it. */
static float forward_backward(const float in[2], float target) {
    float h[HIDDEN], out = b2;
    for (int j = 0; j < HIDDEN; j++) {
        h[j] = tanhf(w1[j][0] * in[0] + w1[j][1] * in[1] + b1[j]);
        out += w2[j] * h[j];
    }
    float error = out - target, dout = 2 * error / (float)SAMPLES;
    for (int j = 0; j < HIDDEN; j++) {
        float dh = dout * w2[j] * (1 - h[j] * h[j]);
        dw1[j][0] += dh * in[0], dw1[j][1] += dh * in[1], db1[j] += dh, dw2[j] += dout * h[j];
    }
    db2 += dout;
    return error * error / (float)SAMPLES;
}

int main(int argc, char **argv) {
    if (argc > 1) return fprintf(stderr, "usage: %s (it has no options)\n", argv[0]), 2;
    for (int i = 0; i < SAMPLES; i++) x[i][0] = uniform(), x[i][1] = uniform(), z[i] = sinf(3 * x[i][0]) * x[i][1];
    for (int j = 0; j < HIDDEN; j++) w1[j][0] = uniform(), w1[j][1] = uniform(), w2[j] = 0.2f * uniform();

    const int64_t w1_shape[] = {HIDDEN, 2}, b1_shape[] = {HIDDEN}, w2_shape[] = {1, HIDDEN}, b2_shape[] = {1};
    lopt_optimizer *opt;
    check(lopt_create(NULL, NULL, &opt));
    check(lopt_add_tensor(opt, "w1", &w1[0][0], &dw1[0][0], w1_shape, 2, NULL));
    check(lopt_add_tensor(opt, "b1", b1, db1, b1_shape, 1, NULL));
    check(lopt_add_tensor(opt, "w2", w2, dw2, w2_shape, 2, NULL));
    check(lopt_add_tensor(opt, "b2", &b2, &db2, b2_shape, 1, NULL));
    for (int step = 0; step <= STEPS; step++) {
        float loss = db2 = 0;
        for (int j = 0; j < HIDDEN; j++) dw1[j][0] = dw1[j][1] = db1[j] = dw2[j] = 0;
        for (int i = 0; i < SAMPLES; i++) loss += forward_backward(x[i], z[i]);
        if (step % 200 == 0) printf("step %4d   loss %.6f\n", step, loss);
        check(lopt_step(opt)); /* reads dw1 ... db2, updates w1 ... b2 in place */
    }
    lopt_destroy(opt);
    if (fflush(stdout) != 0 || ferror(stdout)) return fputs("the output cannot be written\n", stderr), EXIT_FAILURE;
    return EXIT_SUCCESS;
}
