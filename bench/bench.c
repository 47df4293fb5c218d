#include "bench.h"
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct settings {
    int full, repetitions, most_threads, startup, denormals, only_shapes, serial;
    int32_t max_isa;
    double sample_seconds;
    const char *json, *problems, *rules, *startup_program, *startup_library, *torch_script;
} settings;

static const char usage[] =
    "bench [options]: speed of lopt beside a fused AdamW loop\n"
    "    --quick             under a minute (the default)\n"
    "    --full              all rules and problems, more repetitions: several minutes\n"
    "    --json FILE         the figures for a program too\n"
    "    --problems A,B,...  these problems only; --rules A,B,... these rules only; --list says which there are\n"
    "    --shape AxB         a tensor of this shape only, or 50*AxB: 50 of them; can be given several times\n"
    "    --threads N         up to N threads (1 and N are measured; default 2)\n"
    "    --isa NAME          baseline, avx2 or avx512 at most\n"
    "    --repetitions N\n"
    "    --no-extras         neither zero gradients nor start-up\n"
    "    --serial            instead of all else: what of a step threads cannot share, and what they gain at most by Amdahl's law\n"
    "    --startup PROGRAM LIBRARY, --torch SCRIPT: set by make bench\n"
    "torch's AdamW is measured too where python3 can import torch (pip install torch).\n";

/* A mistake on the command line: what it is, how it should be, and status 2. */
void misused(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    fputs("bench: ", stderr);
    vfprintf(stderr, format, arguments);
    fprintf(stderr, "\n%s", usage);
    va_end(arguments);
    exit(2);
}

static void finish_output(void) {
    if (fflush(stdout) != 0 || ferror(stdout)) fail("the output cannot be written");
}

/* ---- One pair: lopt and AdamW on the same problem ----------------------------------------------------------------------- */

lopt_optimizer *make_optimizer(const rule *r, arrays *a, int threads, int32_t max_isa, const lopt_parallel_for *parallel_for) {
    lopt_weights *weights = rule_weights(r);
    lopt_options options;
    require(lopt_options_init(&options, sizeof options), "lopt_options_init");
    options.threads = threads;
    options.max_isa = max_isa;
    if (parallel_for) options.parallel_for = *parallel_for;
    options.momentum_type = r->bf16_momenta ? LOPT_BF16 : LOPT_F32;
    lopt_optimizer *opt;
    require(lopt_create(weights, &options, &opt), "lopt_create");
    lopt_weights_free(weights);
    for (int i = 0; i < a->problem->tensors; i++) {
        char name[16];
        snprintf(name, sizeof name, "t%d", i);
        const tensor *t = &a->problem->tensor[i];
        require(lopt_add_tensor(opt, name, a->parameter + a->offset[i], a->gradient + a->offset[i], t->shape, t->rank,
                                NULL), "lopt_add_tensor");
    }
    return opt;
}

/* Seconds for `steps` steps, after one that brings the tensors into the caches or, cold, after they were emptied. */
static double time_lopt(lopt_optimizer *opt, int threads, int steps, int cold) {
    if (cold) flush_caches();
    else require(lopt_step(opt), "lopt_step");
    double t = clock_of(threads);
    for (int i = 0; i < steps; i++) require(lopt_step(opt), "lopt_step");
    return clock_of(threads) - t;
}

static double time_adamw(adamw *o, int threads, int steps, int cold) {
    if (cold) flush_caches();
    else adamw_step(o);
    double t = clock_of(threads);
    for (int i = 0; i < steps; i++) adamw_step(o);
    return clock_of(threads) - t;
}

static int steps_for(double one, double seconds) {
    double steps = ceil(seconds / (one > 1e-9 ? one : 1e-9));
    return steps < 1 ? 1 : steps > 1e6 ? 1000000 : (int)steps;
}

/* A benchmark of an optimizer that did not optimize would be worth nothing. */
static void check_progress(lopt_optimizer *opt, const arrays *a, const rule *r) {
    lopt_statistics st = {.struct_size = sizeof st};
    require(lopt_stats(opt, -1, &st), "lopt_stats");
    double sum = 0;
    for (int64_t i = 0; i < a->size; i++) sum += fabs((double)a->parameter[i]);
    if (!isfinite(sum) || st.steps < 1 || st.nonfinite != 0 || !(st.update_rms > 0))
        fail("%s on %s: %lld steps, update %g, parameters %g: this is no run to measure", r->name, a->problem->name,
             (long long)st.steps, st.update_rms, sum / (double)a->size);
}

static result measure_pair(const settings *s, const rule *r, arrays *a, adamw *o, int threads, int cold) {
    arrays_reset_parameters(a);
    lopt_optimizer *opt = make_optimizer(r, a, threads, s->max_isa, NULL);
    int repetitions = s->repetitions;
    double lopt_time[256], adamw_time[256], ratio[256], elements = (double)problem_elements(a->problem);
    int lopt_steps = 1, adamw_steps = 1;
    if (!cold) {
        time_lopt(opt, threads, 1, 0);
        lopt_steps = steps_for(time_lopt(opt, threads, 1, 0), s->sample_seconds);
        adamw_steps = steps_for(time_adamw(o, threads, 1, 0), s->sample_seconds);
    }
    for (int i = 0; i < repetitions; i++) {
        lopt_time[i] = time_lopt(opt, threads, lopt_steps, cold) / lopt_steps;
        adamw_time[i] = time_adamw(o, threads, adamw_steps, cold) / adamw_steps;
        ratio[i] = lopt_time[i] / adamw_time[i];
    }
    double lopt_median = median(lopt_time, repetitions), adamw_median = median(adamw_time, repetitions); /* sorts */
    check_progress(opt, a, r);
    lopt_information info = {.struct_size = sizeof info};
    require(lopt_info(opt, &info), "lopt_info");
    lopt_destroy(opt);
    return (result){
        .problem = a->problem, .rule = r, .label = r->name, .threads = threads, .cold = cold,
        .ns = 1e9 * lopt_median / elements,
        .adamw_ns = 1e9 * adamw_median / elements,
        .best_ns = 1e9 * lopt_time[0] / elements, .best_adamw_ns = 1e9 * adamw_time[0] / elements,
        .ratio = median(ratio, repetitions),
        .fmas = strcmp(info.kernel, "none") ? rule_network_fmas(r, a->problem) : 0, .bytes = rule_compulsory_bytes(r, a->problem),
        .state_bytes = (double)info.state_bytes / elements, .memory_bytes = (double)info.memory_bytes / elements,
        .kernel = info.kernel,
    };
}

/* ---- The plan ------------------------------------------------------------------------------------------------------------ */

/* Is `name` in the list "a,b,c"? NULL lists everything. */
static int selected(const char *list, const char *name) {
    if (!list) return 1;
    size_t length = strlen(name);
    for (const char *at = list; (at = strstr(at, name)); at += length)
        if ((at == list || at[-1] == ',') && (at[length] == ',' || at[length] == 0)) return 1;
    return 0;
}

static int planned(const settings *s, const problem *p, const rule *r) {
    if (!selected(s->problems, p->name) || !selected(s->rules, r->name)) return 0;
    if (s->full || s->rules) return 1;
    if (r->full_only) return 0;
    return !(r->small_fc && (p->full_only || problem_elements(p) > 1 << 22));
}

static void measure_torch(report *r, torch *t, const problem *p, int threads, const result *adamw, double seconds) {
    const char *forms[] = {"fused", "forloop"}, *labels[] = {"torch AdamW fused", "torch AdamW loop"};
    for (int i = 0; i < 2; i++) {
        double least, ns = torch_measure(t, p, forms[i], threads, seconds, &least);
        if (ns < 0) continue;
        result row = {.problem = p, .label = labels[i], .threads = threads, .ns = ns, .adamw_ns = adamw->adamw_ns,
                      .ratio = ns / adamw->adamw_ns, .best_ns = least, .best_adamw_ns = adamw->best_adamw_ns};
        report_add(r, row);
        report_row(r, &row);
    }
}

/* On a terminal one line that changes; in a log one for each problem. */
static void progress(const problem *p, const char *what, int threads) {
    static const problem *last;
    if (isatty(2)) fprintf(stderr, "\r%-12s %-18s %d ...", p->name, what, threads);
    else if (p != last) fprintf(stderr, "bench: %s\n", p->name);
    last = p;
}
static void progress_done(void) {
    if (isatty(2)) fprintf(stderr, "\r%60s\r", "");
}

static void measure_problem(const settings *s, report *r, const problem *p, int threads, torch *t) {
    arrays a = arrays_make(p);
    adamw o = adamw_make(&a, (lopt_isa)r->isa, threads);
    result last = {0};
    for (int i = 0; i < rule_count(); i++) {
        if (!planned(s, p, rule_at(i))) continue;
        progress(p, rule_at(i)->name, threads);
        /* Cold where it matters: sets of tensors, between whose steps a training program touches much other memory. */
        int most_cold = p->tensors > 1 && !rule_at(i)->small_fc;
        for (int cold = 0; cold <= most_cold; cold++) {
            result row = measure_pair(s, rule_at(i), &a, &o, threads, cold);
            if (!cold) last = row;
            progress_done();
            report_add(r, row);
            report_row(r, &row);
        }
    }
    if (t && last.adamw_ns > 0) measure_torch(r, t, p, threads, &last, s->repetitions * s->sample_seconds);
    adamw_free(&o);
    arrays_free(&a);
}

/* What lopt chose is asked of an optimizer that it made. */
static void describe(const settings *s, report *r) {
    lopt_options options;
    require(lopt_options_init(&options, sizeof options), "lopt_options_init");
    options.max_isa = s->max_isa;
    lopt_optimizer *opt;
    require(lopt_create(NULL, &options, &opt), "lopt_create");
    lopt_information info = {.struct_size = sizeof info};
    require(lopt_info(opt, &info), "lopt_info");
    r->isa = info.isa;
    lopt_destroy(opt);
    cpu_name(r->cpu, sizeof r->cpu);
    snprintf(r->library, sizeof r->library, "%s", lopt_version_string());
#ifdef __clang__
    snprintf(r->compiler, sizeof r->compiler, "clang %s", __clang_version__);
    r->compiler[strcspn(r->compiler + 6, " (") + 6] = 0; /* the number alone */
#else
    snprintf(r->compiler, sizeof r->compiler, "gcc %s", __VERSION__);
#endif
    r->processors = (int)sysconf(_SC_NPROCESSORS_ONLN);
    r->mode = s->full ? "full" : "quick";
    r->most_threads = s->most_threads;
}

/* ---- Options ------------------------------------------------------------------------------------------------------------- */

static void list(void) {
    for (int i = 0; i < problem_count(); i++) printf("problem %-18s %s\n", problem_at(i)->name, problem_at(i)->what);
    for (int i = 0; i < rule_count(); i++) printf("rule    %s\n", rule_at(i)->name);
    finish_output();
    exit(0);
}

static int32_t isa_called(const char *name) {
    for (int32_t isa = LOPT_ISA_BASELINE; isa <= LOPT_ISA_AVX512; isa++)
        if (strcmp(name, isa_name(isa)) == 0) return isa;
    misused("--isa %s: allowed are baseline, avx2 and avx512", name);
}

static int whole_number(const char *option, const char *text, int most) {
    char *end;
    long n = strtol(text, &end, 10);
    if (*end || n < 1 || n > most) misused("%s %s: allowed is 1 to %d", option, text, most);
    return (int)n;
}

static const char *problem_name(int i) { return i < problem_count() ? problem_at(i)->name : NULL; }
static const char *rule_name(int i) { return i < rule_count() ? rule_at(i)->name : NULL; }

/* Every name of the list "a,b,c" must be one of those that `name` gives. */
static void check_names(const char *option, const char *list, const char *(*name)(int)) {
    for (const char *at = list; at; at = *at ? at + 1 : NULL) {
        int length = (int)strcspn(at, ","), i = 0;
        while (name(i) && (strncmp(name(i), at, (size_t)length) != 0 || name(i)[length] != 0)) i++;
        if (!name(i)) misused("%s: there is no '%.*s'; --list says which there are", option, length, at);
        at += length;
    }
}

static settings parse(int argc, char **argv) {
    settings s = {.startup = 1, .denormals = 1, .most_threads = 2};
    for (int i = 1; i < argc; i++) {
        const char *option = argv[i];
#define IS(text) (strcmp(option, text) == 0)
#define VALUE (i + 1 < argc ? argv[++i] : (misused("%s needs a value", option), ""))
        if (IS("--help")) fputs(usage, stdout), finish_output(), exit(0);
        else if (IS("--list")) list();
        else if (IS("--quick")) s.full = 0;
        else if (IS("--full")) s.full = 1;
        else if (IS("--json")) s.json = VALUE;
        else if (IS("--problems")) s.problems = VALUE;
        else if (IS("--shape")) problem_of_shape(VALUE), s.only_shapes = 1;
        else if (IS("--rules")) s.rules = VALUE;
        else if (IS("--threads")) s.most_threads = whole_number(option, VALUE, 256);
        else if (IS("--isa")) s.max_isa = isa_called(VALUE);
        else if (IS("--repetitions")) s.repetitions = whole_number(option, VALUE, 256);
        else if (IS("--no-extras")) s.startup = s.denormals = 0;
        else if (IS("--serial")) s.serial = 1;
        else if (IS("--startup")) s.startup_program = VALUE, s.startup_library = VALUE;
        else if (IS("--torch")) s.torch_script = VALUE;
        else misused("there is no option %s", option);
    }
    check_names("--problems", s.problems, problem_name);
    check_names("--rules", s.rules, rule_name);
    if (s.repetitions == 0) s.repetitions = s.full ? 15 : 5;
    s.sample_seconds = s.full ? 0.02 : 0.005;
    return s;
}

/* One thread, then the most. */
static int threads_after(int threads, const settings *s) { return threads < s->most_threads ? s->most_threads : 0; }

int main(int argc, char **argv) {
    const int named = problem_count(); /* those from the command line follow */
    const settings s = parse(argc, argv);
    report r = {0};
    if (s.serial) {
        for (int i = s.only_shapes ? named : 0; i < problem_count(); i++)
            for (int j = 0; j < rule_count(); j++)
                if (planned(&s, problem_at(i), rule_at(j))) measure_serial(rule_at(j), problem_at(i), s.max_isa, s.repetitions);
        finish_output();
        return 0;
    }
    describe(&s, &r);
    for (int threads = 1; threads; threads = threads_after(threads, &s))
        r.peaks[threads] = measure_peaks((lopt_isa)r.isa, threads, s.full ? 1 : 0.2);
    report_machine(&r);
    torch *t = s.torch_script ? torch_start(s.torch_script) : NULL;
    report_head();
    for (int i = s.only_shapes ? named : 0; i < problem_count(); i++)
        for (int threads = 1; threads; threads = threads_after(threads, &s))
            if (selected(s.problems, problem_at(i)->name)) measure_problem(&s, &r, problem_at(i), threads, t);
    if (t) torch_stop(t);
    if (s.denormals) measure_denormals(&r, s.max_isa);
    if (s.startup && s.startup_program) measure_startup(&r, s.startup_program, s.startup_library, s.full ? 31 : 11);
    report_notes(&r);
    if (s.json) report_json(&r, s.json);
    finish_output();
    free(r.results);
    return 0;
}
