/* The most multiply-adds that one thread does in a nanosecond: independent chains in registers, enough of them to cover the
 * latency of the units. Compiled once for each instruction set; PEAK is the name of the function. */
#include "bench.h"

#if defined(__AVX512F__)
typedef float vector __attribute__((vector_size(64)));
#define REGISTER "v"
#elif defined(__AVX__)
typedef float vector __attribute__((vector_size(32)));
#define REGISTER "x"
#elif defined(__x86_64__)
typedef float vector __attribute__((vector_size(16)));
#define REGISTER "x"
#else
typedef float vector __attribute__((vector_size(16)));
#define REGISTER "w"
#endif
enum { LANES = sizeof(vector) / sizeof(float), CHAINS = 12, ROUNDS = 20000 };

/* The empty asm keeps the compiler from proving what the numbers are. */
#define OPAQUE(x) __asm__ volatile("" : "+" REGISTER(x))
#define EACH(DO) DO(x0); DO(x1); DO(x2); DO(x3); DO(x4); DO(x5); DO(x6); DO(x7); DO(x8); DO(x9); DO(x10); DO(x11)
#define STEP(x) x = x * a + b; OPAQUE(x)

static double chains(void) {
    vector a, b, x0, x1, x2, x3, x4, x5, x6, x7, x8, x9, x10, x11;
    for (int i = 0; i < LANES; i++) a[i] = 0.999f, b[i] = 0.001f;
    OPAQUE(a);
    OPAQUE(b);
    x0 = x1 = x2 = x3 = x4 = x5 = x6 = x7 = x8 = x9 = x10 = x11 = a;
    EACH(OPAQUE);
    for (int i = 0; i < ROUNDS; i++) {
        EACH(STEP);
    }
    x0 += x1 + x2 + x3 + x4 + x5 + x6 + x7 + x8 + x9 + x10 + x11;
    return x0[0];
}

double PEAK(double seconds) {
    volatile double sink = 0;
    double best = 0, start = now();
    do {
        double t = now();
        for (int i = 0; i < 8; i++) sink = sink + chains();
        double rate = 8.0 * ROUNDS * CHAINS * LANES / ((now() - t) * 1e9);
        if (rate > best) best = rate;
    } while (now() - start < seconds);
    return best;
}
