#include "bench.h"
#include <stdlib.h>
#include <string.h>

static problem problems[40];
static int count;

static problem *add(const char *name, const char *what) {
    if (count == sizeof problems / sizeof *problems) misused("--shape: at most %d problems", count);
    problems[count].name = name;
    problems[count].what = what;
    return &problems[count++];
}

static void put(problem *p, int32_t rank, int64_t a, int64_t b, int64_t c, int64_t d) {
    if (p->tensors == MOST_TENSORS) fail("problem %s has too many tensors", p->name);
    p->tensor[p->tensors++] = (tensor){rank, {a, b, c, d}};
}
static void matrix(problem *p, int64_t rows, int64_t columns) { put(p, 2, rows, columns, 0, 0); }
static void vector(problem *p, int64_t length) { put(p, 1, length, 0, 0, 0); }
static void conv(problem *p, int64_t out, int64_t in, int64_t size) { put(p, 4, out, in, size, size); }

/* Tensors that are done before a thread could be woken. */
static void make_small(void) {
    problem *p = add("small50", "50 tensors of 64 to 4,096 elements");
    for (int i = 0; i < 10; i++) matrix(p, 64, 64), vector(p, 64), matrix(p, 16, 16), vector(p, 512), matrix(p, 32, 64);
}

/* A small language model: 4 layers of width 256, a vocabulary of 8,192. */
static void make_transformer(void) {
    problem *p = add("transformer", "52 tensors: 4 layers of width 256, vocabulary 8,192");
    matrix(p, 8192, 256);
    matrix(p, 256, 256);
    for (int layer = 0; layer < 4; layer++) {
        vector(p, 256), vector(p, 256);
        matrix(p, 768, 256), vector(p, 768);
        matrix(p, 256, 256), vector(p, 256);
        vector(p, 256), vector(p, 256);
        matrix(p, 1024, 256), vector(p, 1024);
        matrix(p, 256, 1024), vector(p, 256);
    }
    vector(p, 256), vector(p, 256);
}

static void conv_norm(problem *p, int64_t out, int64_t in, int64_t size) {
    conv(p, out, in, size);
    vector(p, out), vector(p, out);
}

/* ResNet-18 as it is used on images of 32 x 32, ten classes. */
static void make_resnet(void) {
    problem *p = add("resnet18", "62 tensors: ResNet-18, OIHW convolutions, batch norms, one classifier");
    p->full_only = 1;
    conv_norm(p, 64, 3, 3);
    int64_t in = 64;
    for (int64_t out = 64; out <= 512; out *= 2) {
        for (int block = 0; block < 2; block++) {
            conv_norm(p, out, in, 3);
            conv_norm(p, out, out, 3);
            if (in != out) conv_norm(p, out, in, 1);
            in = out;
        }
    }
    matrix(p, 10, 512), vector(p, 10);
}

int problem_count(void) {
    if (count == 0) {
        matrix(add("64x64", "one matrix"), 64, 64);
        matrix(add("256x256", "one matrix"), 256, 256);
        matrix(add("1024x1024", "one matrix"), 1024, 1024);
        matrix(add("4096x4096", "one matrix"), 4096, 4096);
        vector(add("3", "one vector of 3 elements"), 3);
        make_small();
        vector(add("vector1m", "one vector of 1,048,576 elements"), 1 << 20);
        conv(add("conv256", "one convolution, OIHW 256x256x3x3"), 256, 256, 3);
        make_transformer();
        make_resnet();
    }
    return count;
}

const problem *problem_of_shape(const char *text) {
    if (count == (int)(sizeof problems / sizeof *problems)) fail("too many shapes");
    problem *p = add(text, "from the command line");
    const char *at = text;
    char *end;
    long copies = 1;
    if (strchr(text, '*')) {
        copies = strtol(text, &end, 10);
        if (*end != '*' || copies < 1 || copies > MOST_TENSORS) misused("--shape %s: at most %d tensors, like 50*64x64", text, MOST_TENSORS);
        at = end + 1;
    }
    for (tensor t = {0}; t.rank < 4; at++) {
        t.shape[t.rank++] = strtoll(at, &end, 10);
        if (end == at || t.shape[t.rank - 1] < 1) break;
        if (*end == 0) {
            while (p->tensors < copies) p->tensor[p->tensors++] = t;
            return p;
        }
        if (*end != 'x') break;
        at = end;
    }
    misused("--shape %s: write 1 to 4 extents like 1000x300", text);
}

const problem *problem_at(int i) { return &problems[i]; }

int64_t tensor_elements(const tensor *t) {
    int64_t n = 1;
    for (int i = 0; i < t->rank; i++) n *= t->shape[i];
    return n;
}

int64_t problem_elements(const problem *p) {
    int64_t n = 0;
    for (int i = 0; i < p->tensors; i++) n += tensor_elements(&p->tensor[i]);
    return n;
}

int64_t problem_factored_elements(const problem *p) {
    int64_t n = 0;
    for (int i = 0; i < p->tensors; i++)
        if (p->tensor[i].rank >= 2) n += tensor_elements(&p->tensor[i]);
    return n;
}

float *allocate_floats(int64_t size) {
    size_t bytes = ((size_t)size * sizeof(float) + 63) / 64 * 64;
    float *x = aligned_alloc(64, bytes);
    if (!x) fail("%zu bytes could not be allocated", bytes);
    memset(x, 0, bytes);
    return x;
}

/* The sum of four uniform numbers is close enough to a normal one, and fast. */
void fill_random(float *x, int64_t size, uint64_t seed) {
    uint64_t s = seed * 0x9e3779b97f4a7c15u + 1;
    for (int64_t i = 0; i < size; i++) {
        s ^= s << 13, s ^= s >> 7, s ^= s << 17;
        int32_t sum = (int32_t)((s & 0xffff) + (s >> 16 & 0xffff) + (s >> 32 & 0xffff) + (s >> 48)) - 2 * 0xffff;
        x[i] = (float)sum * (1.7320508f / 65536);
    }
}

arrays arrays_make(const problem *p) {
    arrays a = {.problem = p};
    for (int i = 0; i < p->tensors; i++) {
        a.offset[i] = a.size;
        a.size += (tensor_elements(&p->tensor[i]) + 15) / 16 * 16;
    }
    a.parameter = allocate_floats(a.size);
    a.gradient = allocate_floats(a.size);
    fill_random(a.gradient, a.size, 1);
    for (int64_t i = 0; i < a.size; i++) a.gradient[i] *= 0.01f;
    return a;
}

void arrays_reset_parameters(arrays *a) {
    fill_random(a->parameter, a->size, 2);
    for (int64_t i = 0; i < a->size; i++) a->parameter[i] *= 0.05f;
}

void arrays_free(arrays *a) {
    free(a->parameter);
    free(a->gradient);
}
