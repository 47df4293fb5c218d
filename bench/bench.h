/* The benchmark measures lopt through lopt.h alone, side by side with a fused AdamW loop compiled for the same instruction
 * set. Times are in nanoseconds per parameter and step. */
#ifndef BENCH_H
#define BENCH_H

#include <lopt.h>
#include <stddef.h>
#include <stdint.h>

/* ---- problems.c: sets of tensors ---------------------------------------------------------------------------------- */

typedef struct tensor {
    int32_t rank;
    int64_t shape[4];
} tensor;

enum { MOST_TENSORS = 1000 };

typedef struct problem {
    const char *name;
    const char *what;
    int full_only; /* too slow for the quick mode but for the STAR rules */
    int tensors;
    tensor tensor[MOST_TENSORS];
} problem;

int problem_count(void);
/* A new problem of one tensor, from a text like 1000x300, or of equal ones, from 50*1000x300. */
const problem *problem_of_shape(const char *text);
const problem *problem_at(int i);
int64_t tensor_elements(const tensor *t);
int64_t problem_elements(const problem *p);
/* Elements of the tensors of rank 2 and more: their state and features differ from those of the others. */
int64_t problem_factored_elements(const problem *p);

/* Parameters and gradients of a problem, one after the other, each tensor at a multiple of 64 bytes. */
typedef struct arrays {
    const problem *problem;
    int64_t size; /* floats, with the gaps */
    int64_t offset[MOST_TENSORS];
    float *parameter, *gradient;
} arrays;

arrays arrays_make(const problem *p);
void arrays_reset_parameters(arrays *a);
void arrays_free(arrays *a);
/* `count` numbers of mean 0 and variance 1, nearly normal. */
void fill_random(float *x, int64_t count, uint64_t seed);
float *allocate_floats(int64_t count);

/* ---- rules.c: weights --------------------------------------------------------------------------------------------- */

typedef struct rule {
    const char *name;
    int builtin;   /* the name of built-in weights; else they are made here */
    int small_fc;  /* else STAR */
    int pooled;    /* no rows, no columns, no network */
    int bf16_momenta; /* built-in "pooled" with momentum_type */
    int hidden;
    int heads;     /* that the rule needs for every element */
    int full_only;
} rule;

int rule_count(void);
const rule *rule_at(int i);
lopt_weights *rule_weights(const rule *r);
/* Multiply-adds of the network, mean over the elements of the problem. */
double rule_network_fmas(const rule *r, const problem *p);
/* Bytes that must pass between memory and processor in a step, mean over the elements: the parameter and the state read
 * and written once, the gradient read once. */
double rule_compulsory_bytes(const rule *r, const problem *p);
enum { ADAMW_BYTES = 28 };

/* ---- adamw.c, adamw_threads.c -------------------------------------------------------------------------------------- */

typedef struct adamw_constants {
    float beta1, beta2, one_minus_beta1, one_minus_beta2, keep, step, root_correction, epsilon;
} adamw_constants;
typedef void (*adamw_loop)(const adamw_constants *c, float *p, const float *g, float *m, float *v, int64_t count);
void adamw_baseline(const adamw_constants *c, float *p, const float *g, float *m, float *v, int64_t count);
void adamw_avx2(const adamw_constants *c, float *p, const float *g, float *m, float *v, int64_t count);
void adamw_avx512(const adamw_constants *c, float *p, const float *g, float *m, float *v, int64_t count);

typedef struct team team; /* threads that stay, adamw_threads.c */
team *team_make(int threads);
void team_run(team *t, void (*task)(void *context, int thread, int threads), void *context);
void team_free(team *t);

typedef struct adamw {
    arrays *arrays;
    float *m, *v, *parameter;
    int64_t steps;
    adamw_loop loop;
    team *team;
    int threads;
    adamw_constants constants;
} adamw;

adamw adamw_make(arrays *a, lopt_isa isa, int threads);
void adamw_step(adamw *a);
void adamw_free(adamw *a);

/* ---- peaks.c, machine.c: what the machine can do --------------------------------------------------------------------- */

/* Multiply-adds per nanosecond of one thread; `seconds` to measure for. */
double peak_fma_baseline(double seconds);
double peak_fma_avx2(double seconds);
double peak_fma_avx512(double seconds);

typedef struct peaks {
    double fma;       /* multiply-adds per nanosecond */
    double bandwidth; /* bytes per nanosecond */
} peaks;

peaks measure_peaks(lopt_isa isa, int threads, double seconds);
double now(void); /* seconds */
/* Seconds of the calling thread's own for one thread: what else the machine does stays out of it. Else those of the clock. */
double clock_of(int threads);
void cpu_name(char *text, size_t size);
const char *isa_name(int32_t isa);
int64_t cache_size(void); /* bytes of the last level */
/* Pushes everything else out of the caches. */
void flush_caches(void);
_Noreturn void fail(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* bench.c: the same for the command line, with the usage. */
_Noreturn void misused(const char *format, ...) __attribute__((format(printf, 1, 2)));
void require(lopt_status status, const char *call);

/* ---- report.c ------------------------------------------------------------------------------------------------------ */

typedef struct result {
    const problem *problem;
    const rule *rule;   /* NULL: torch */
    const char *label;
    int threads, cold;
    double ns, adamw_ns, ratio, best_ns, best_adamw_ns;
    double fmas, bytes;
    double state_bytes, memory_bytes; /* per parameter */
    const char *kernel;
} result;

typedef struct report {
    char cpu[128], library[32], compiler[64];
    const char *mode;
    int32_t isa;
    int processors, most_threads;
    peaks peaks[257]; /* by number of threads */
    result *results;
    int count;
    double random_steps_per_s, zero_steps_per_s, slowest_zero_steps_per_s, adamw_zero_steps_per_s, adamw_random_steps_per_s;
    double startup_open_ms, startup_create_ms, startup_step_ms;
} report;

void report_machine(const report *r);
void report_head(void);
void report_row(const report *r, const result *row);
void report_notes(const report *r);
void report_add(report *r, result row);
void report_json(const report *r, const char *path);

/* ---- special.c, serial.c, torch.c -------------------------------------------------------------------------------------------- */

/* serial.c: prints a line. */
void measure_serial(const rule *r, const problem *p, int32_t max_isa, int repetitions);
/* bench.c. NULL for lopt's own threads. */
lopt_optimizer *make_optimizer(const rule *r, arrays *a, int threads, int32_t max_isa, const lopt_parallel_for *parallel_for);

void measure_denormals(report *r, int32_t max_isa);
void measure_startup(report *r, const char *program, const char *library, int repetitions);

typedef struct torch torch; /* a Python process that measures torch's AdamW */
torch *torch_start(const char *script); /* NULL if torch cannot be imported */
/* Nanoseconds per parameter and step, or a negative number; and the least. `form` is "fused" or "forloop". */
double torch_measure(torch *t, const problem *p, const char *form, int threads, double seconds, double *least);
void torch_stop(torch *t);

double median(double *x, int count);

#endif
