#include "bench.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

double clock_of(int threads) {
    if (threads > 1) return now();
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

void fail(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    fputs("bench: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    exit(1);
}

void require(lopt_status status, const char *call) {
    if (status != LOPT_OK) fail("%s: %s: %s", call, lopt_status_string(status), lopt_last_error());
}

static int ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double median(double *x, int count) {
    qsort(x, (size_t)count, sizeof *x, ascending);
    return count % 2 ? x[count / 2] : 0.5 * (x[count / 2 - 1] + x[count / 2]);
}

void cpu_name(char *text, size_t size) {
    snprintf(text, size, "unknown processor");
    FILE *file = fopen("/proc/cpuinfo", "r");
    if (!file) return;
    char line[512], family[16] = "?", model[16] = "?";
    while (fgets(line, sizeof line, file)) {
        char *value = strchr(line, ':');
        if (!value) {
            if (line[0] == '\n') break;
            continue;
        }
        value += value[1] == ' ' ? 2 : 1;
        value[strcspn(value, "\n")] = 0;
        if (strncmp(line, "model name", 10) == 0) snprintf(text, size, "%s", value);
        if (strncmp(line, "cpu family", 10) == 0) snprintf(family, sizeof family, "%.15s", value);
        if (strncmp(line, "model\t", 6) == 0) snprintf(model, sizeof model, "%.15s", value);
    }
    fclose(file);
    /* A virtual machine often hides the name; family and model do not lie. */
    size_t used = strlen(text);
    if (family[0] != '?') snprintf(text + used, size - used, " (family %s, model %s)", family, model);
}

const char *isa_name(int32_t isa) {
    switch (isa) {
    case LOPT_ISA_BASELINE: return "baseline";
    case LOPT_ISA_AVX2: return "avx2";
    case LOPT_ISA_AVX512: return "avx512";
    default: return "unknown";
    }
}

/* The system's own figure: what sysconf computes from the processor's can be that of a whole socket of which a virtual
 * machine has a part. */
int64_t cache_size(void) {
    long kibibytes = 0;
    FILE *file = fopen("/sys/devices/system/cpu/cpu0/cache/index3/size", "r");
    if (file) {
        if (fscanf(file, "%ldK", &kibibytes) != 1) kibibytes = 0;
        fclose(file);
    }
    return kibibytes > 0 ? (int64_t)kibibytes << 10 : 32 << 20;
}

void flush_caches(void) {
    static float *buffer;
    int64_t count = 2 * cache_size() / (int64_t)sizeof(float);
    if (!buffer) buffer = allocate_floats(count);
    for (int64_t i = 0; i < count; i += 16) buffer[i] += 1;
}

/* ---- Memory bandwidth ------------------------------------------------------------------------------------------------- */

typedef struct triad {
    float *a, *b;
    int64_t count;
} triad;

/* An optimizer updates in place, so the triad does too: unlike STREAM's, it reads no line only to overwrite it. */
static void triad_share(void *context, int thread, int threads) {
    triad *t = context;
    int64_t begin = t->count / 16 * thread / threads * 16, end = t->count / 16 * (thread + 1) / threads * 16;
    float *restrict a = t->a;
    const float *restrict b = t->b;
    for (int64_t i = begin; i < end; i++) a[i] += 0.5f * b[i];
}

static double measure_bandwidth(int threads, double seconds) {
    triad t = {.count = 4 * cache_size() / (int64_t)sizeof(float)};
    t.a = allocate_floats(t.count);
    t.b = allocate_floats(t.count);
    team *team = team_make(threads);
    double best = 0, start = now();
    team_run(team, triad_share, &t);
    do {
        double begin = clock_of(threads);
        team_run(team, triad_share, &t);
        double rate = 12.0 * (double)t.count / ((clock_of(threads) - begin) * 1e9);
        if (rate > best) best = rate;
    } while (now() - start < seconds);
    team_free(team);
    free(t.a);
    free(t.b);
    return best;
}

/* ---- Multiply-adds ----------------------------------------------------------------------------------------------------- */

typedef struct fma_rates {
    double (*measure)(double seconds);
    double seconds, rate[257];
} fma_rates;

static void fma_share(void *context, int thread, int threads) {
    fma_rates *r = context;
    (void)threads;
    r->rate[thread] = r->measure(r->seconds);
}

peaks measure_peaks(lopt_isa isa, int threads, double seconds) {
    fma_rates rates = {.measure = peak_fma_baseline, .seconds = seconds};
#if defined(__x86_64__)
    if (isa == LOPT_ISA_AVX2) rates.measure = peak_fma_avx2;
    if (isa == LOPT_ISA_AVX512) rates.measure = peak_fma_avx512;
#else
    (void)isa;
#endif
    team *team = team_make(threads);
    team_run(team, fma_share, &rates);
    team_free(team);
    peaks p = {.bandwidth = measure_bandwidth(threads, seconds)};
    for (int i = 0; i < threads; i++) p.fma += rates.rate[i];
    return p;
}
