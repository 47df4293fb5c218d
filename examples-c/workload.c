/* A workload for `lopt specialise`: a small network learns to reach with a planar arm of two joints.
 *
 *     cc -O3 -shared -fPIC workload.c $(pkg-config --cflags lopt) -o libworkload.so -lm
 *     lopt specialise --workload ./libworkload.so
 *
 * The network 2 -> 24 -> 24 -> 2, tanh, turns a target (x, y) into two joint angles; the loss is the mean squared distance between the
 * hand, which the angles put somewhere, and the target. There are no data: targets are drawn anew for each minibatch, from the seed and the
 * step alone. Everything that the functions write to is on the stack or the caller's, so that calls may overlap.
 */
#include <lopt_workload.h>
#include <math.h>
#include <string.h>

#include "rng.h"

enum { HIDDEN = 24, BATCH = 16, HELD_OUT = 256 };
enum { W0, B0, W1, B1, W2, B2, TENSORS };
static const lopt_workload_tensor tensors[TENSORS] = {
    {"w0", 2, {2, HIDDEN}}, {"b0", 1, {HIDDEN}}, {"w1", 2, {HIDDEN, HIDDEN}},
    {"b1", 1, {HIDDEN}},    {"w2", 2, {HIDDEN, 2}}, {"b2", 1, {2}},
};
static const float upper = 1.0f, lower = 0.8f; /* lengths of the arm's two parts */

static int64_t elements(int i) { return tensors[i].shape[0] * (tensors[i].rank == 2 ? tensors[i].shape[1] : 1); }

/* Uniform over the ring that the hand can reach, in front of the shoulder. */
static void draw_target(uint64_t *random, float *x, float *y) {
    float near = (upper - lower) * (upper - lower), far = (upper + lower) * (upper + lower);
    float radius = sqrtf(near + (far - near) * rng_uniform(random)), angle = 2.4f * rng_uniform(random) - 1.2f;
    *x = radius * cosf(angle);
    *y = radius * sinf(angle);
}

/* The squared distance for one target; adds `scale` times its gradient to g, unless that is NULL. */
static float reach(float x, float y, const float *const *p, float *const *g, float scale) {
    float h0[HIDDEN], h1[HIDDEN], d1[HIDDEN], shoulder = p[B2][0], elbow = p[B2][1];
    for (int j = 0; j < HIDDEN; j++) h0[j] = tanhf(p[W0][j] * x + p[W0][HIDDEN + j] * y + p[B0][j]);
    for (int j = 0; j < HIDDEN; j++) h1[j] = p[B1][j];
    for (int i = 0; i < HIDDEN; i++)
        for (int j = 0; j < HIDDEN; j++) h1[j] += h0[i] * p[W1][i * HIDDEN + j];
    for (int j = 0; j < HIDDEN; j++) {
        h1[j] = tanhf(h1[j]);
        shoulder += h1[j] * p[W2][2 * j];
        elbow += h1[j] * p[W2][2 * j + 1];
    }
    float ex = upper * cosf(shoulder) + lower * cosf(shoulder + elbow) - x;
    float ey = upper * sinf(shoulder) + lower * sinf(shoulder + elbow) - y;
    if (!g) return ex * ex + ey * ey;

    float delbow = scale * 2 * lower * (ey * cosf(shoulder + elbow) - ex * sinf(shoulder + elbow));
    float dshoulder = delbow + scale * 2 * upper * (ey * cosf(shoulder) - ex * sinf(shoulder));
    g[B2][0] += dshoulder;
    g[B2][1] += delbow;
    for (int j = 0; j < HIDDEN; j++) {
        g[W2][2 * j] += dshoulder * h1[j];
        g[W2][2 * j + 1] += delbow * h1[j];
        d1[j] = (dshoulder * p[W2][2 * j] + delbow * p[W2][2 * j + 1]) * (1 - h1[j] * h1[j]);
        g[B1][j] += d1[j];
    }
    for (int i = 0; i < HIDDEN; i++) {
        float d = 0;
        for (int j = 0; j < HIDDEN; j++) {
            g[W1][i * HIDDEN + j] += d1[j] * h0[i];
            d += d1[j] * p[W1][i * HIDDEN + j];
        }
        d *= 1 - h0[i] * h0[i];
        g[W0][i] += d * x;
        g[W0][HIDDEN + i] += d * y;
        g[B0][i] += d;
    }
    return ex * ex + ey * ey;
}

/* ---- What lopt_workload.h asks for --------------------------------------------------------------------------------- */

const lopt_workload_tensor *lopt_workload_tensors(int32_t *count) {
    *count = TENSORS;
    return tensors;
}

/* Weights uniform with variance 1 / rows, biases 0. */
void lopt_workload_init(uint64_t seed, float *const *parameters) {
    for (int i = 0; i < TENSORS; i++) {
        float limit = tensors[i].rank == 2 ? sqrtf(3.0f / (float)tensors[i].shape[0]) : 0;
        for (int64_t k = 0; k < elements(i); k++) parameters[i][k] = limit * (2 * rng_uniform(&seed) - 1);
    }
}

float lopt_workload_loss_and_gradient(uint64_t seed, int64_t step, const float *const *parameters, float *const *gradients) {
    uint64_t random = seed * 0x9e3779b97f4a7c15u + (uint64_t)step; /* a stream for each minibatch */
    random = rng_bits(&random);
    float sum = 0;
    for (int i = 0; i < TENSORS; i++) memset(gradients[i], 0, (size_t)elements(i) * sizeof(float));
    for (int n = 0; n < BATCH; n++) {
        float x, y;
        draw_target(&random, &x, &y);
        sum += reach(x, y, parameters, gradients, 1.0f / BATCH);
    }
    return sum / BATCH;
}

float lopt_workload_held_out_loss(const float *const *parameters) {
    uint64_t random = 0x686f6c64; /* the same targets each time */
    float sum = 0;
    for (int n = 0; n < HELD_OUT; n++) {
        float x, y;
        draw_target(&random, &x, &y);
        sum += reach(x, y, parameters, NULL, 0);
    }
    return sum / HELD_OUT;
}

const char *lopt_workload_name(void) { return "two_joint_arm"; }

int32_t lopt_workload_is_thread_safe(void) { return 1; }
