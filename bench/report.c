#include "bench.h"
#include <stdio.h>
#include <stdlib.h>

void report_add(report *r, result row) {
    result *grown = realloc(r->results, sizeof *grown * (size_t)(r->count + 1));
    if (!grown) fail("out of memory");
    r->results = grown;
    r->results[r->count++] = row;
}

/* ---- For people ------------------------------------------------------------------------------------------------------- */

void report_machine(const report *r) {
    printf("lopt %s, %s kernels; AdamW compiled by %s for the same instruction set\n", r->library, isa_name(r->isa),
           r->compiler);
    printf("%s, %d processors, last-level cache %.0f MiB\n", r->cpu, r->processors, (double)cache_size() / 1048576);
    for (int t = 1; t <= r->most_threads; t++)
        if (r->peaks[t].fma > 0)
            printf("%d thread%s: %.1f multiply-adds per ns, %.1f GB/s (a += s b, beyond the caches)\n", t,
                   t > 1 ? "s" : "", r->peaks[t].fma, r->peaks[t].bandwidth);
}

void report_head(void) {
    printf("\n%-12s %-18s %3s %-5s %9s %9s %6s %6s %6s %6s %8s\n", "problem", "rule", "thr", "cache", "ns/param",
           "AdamW", "ratio", "best", "FMA %", "mem %", "B/param");
}

/* The share of the machine that a row uses: of its multiply-adds, by the network alone, and of its memory bandwidth. */
static double fma_share(const report *r, const result *row) { return row->fmas / row->ns / r->peaks[row->threads].fma; }
static double memory_share(const report *r, const result *row) {
    return row->bytes / row->ns / r->peaks[row->threads].bandwidth;
}

void report_row(const report *r, const result *row) {
    printf("%-12s %-18s %3d %-5s %9.3f %9.3f %6.2f %6.2f ", row->problem->name, row->label, row->threads,
           row->cold ? "cold" : "warm", row->ns, row->adamw_ns, row->ratio,
           row->best_ns / row->best_adamw_ns);
    if (row->rule)
        printf("%6.1f %6.1f %8.1f\n", 100 * fma_share(r, row), 100 * memory_share(r, row), row->memory_bytes);
    else
        printf("%6s %6s %8s\n", "", "", "");
    fflush(stdout);
}

static void explain_arithmetic(const report *r) {
    printf("\nFMA %% is of the peak above, by the network's multiply-adds alone: for each element of a matrix\n");
    const rule *seen = NULL;
    for (int i = 0; i < r->count; i++) {
        const rule *rule = r->results[i].rule;
        int before = 0;
        for (int j = 0; j < i && !before; j++) before = r->results[j].rule == rule;
        if (!rule || before) continue;
        if (r->results[i].fmas == 0) printf("    %-18s 0: it has no network, or one that sees the step alone, and is no work\n", rule->name);
        else printf("    %-18s 16 x %d + %d x %d + %d x %d = %d\n", rule->name, rule->hidden, rule->hidden, rule->hidden,
               rule->hidden, rule->heads, 16 * rule->hidden + rule->hidden * (rule->hidden + rule->heads));
        seen = rule;
    }
    if (!seen) return;
    printf("(22 in place of 16 for a vector). Accumulators, features and exponentials come on top.\n"
           "mem %% is of the bandwidth above, by the bytes that must move: 44 per element of a matrix (p, three m and v read and\n"
           "written, g read), 68 of a vector, 36 of either with kind pooled (two m); AdamW: %d. Above 100 %%: the tensor stays in a cache.\n"
           "ratio is the median over the repetitions of lopt's time over AdamW's, taken right after one another;\n"
           "best is the ratio of the shortest times of each, which other work on the machine disturbs least.\n"
           "warm: step after step; cold: the caches are emptied before each step. B/param: all that lopt allocated.\n",
           ADAMW_BYTES);
}

void report_notes(const report *r) {
    explain_arithmetic(r);
    if (r->zero_steps_per_s > 0)
        printf("\nZero gradients (64x64, 20,000 steps after 100 with gradients): lopt %.0f steps/s, %.0f in the slowest "
               "1,000;\nwith random gradients %.0f. AdamW: %.0f and %.0f.\n",
               r->zero_steps_per_s, r->slowest_zero_steps_per_s, r->random_steps_per_s, r->adamw_zero_steps_per_s,
               r->adamw_random_steps_per_s);
    if (r->startup_open_ms > 0) {
        double total = r->startup_open_ms + r->startup_create_ms + r->startup_step_ms;
        printf("\nStart-up in a new process, to the end of the first step of a 256x256 matrix: %.2f ms = %.2f loading the\n"
               "library + %.2f creating + %.2f stepping.\n", total, r->startup_open_ms, r->startup_create_ms,
               r->startup_step_ms);
    }
}

/* ---- For programs ----------------------------------------------------------------------------------------------------- */

static void json_rows(const report *r, FILE *f) {
    fprintf(f, "  \"results\": [");
    for (int i = 0; i < r->count; i++) {
        const result *row = &r->results[i];
        fprintf(f, "%s\n    {\"problem\": \"%s\", \"elements\": %lld, \"tensors\": %d, \"rule\": \"%s\", \"threads\": %d, "
                "\"cold\": %s, \"ns\": %.5g, \"adamw_ns\": %.5g, \"ratio\": %.5g, "
                "\"best_ns\": %.5g, \"best_adamw_ns\": %.5g",
                i ? "," : "", row->problem->name, (long long)problem_elements(row->problem), row->problem->tensors,
                row->label, row->threads, row->cold ? "true" : "false", row->ns, row->adamw_ns, row->ratio,
                row->best_ns, row->best_adamw_ns);
        if (row->rule)
            fprintf(f, ", \"hidden\": %d, \"kernel\": \"%s\", \"network_fmas\": %.5g, \"bytes\": %.5g, "
                    "\"fma_share\": %.4g, \"memory_share\": %.4g, \"state_bytes\": %.5g, \"memory_bytes\": %.5g",
                    row->rule->hidden, row->kernel, row->fmas, row->bytes, fma_share(r, row), memory_share(r, row),
                    row->state_bytes, row->memory_bytes);
        fprintf(f, "}");
    }
    fprintf(f, "\n  ]\n}\n");
}

void report_json(const report *r, const char *path) {
    FILE *f = fopen(path, "w");
    if (!f) fail("%s cannot be written", path);
    fprintf(f, "{\n  \"library\": \"%s\", \"isa\": \"%s\", \"cpu\": \"%s\", \"processors\": %d, \"compiler\": \"%s\", "
            "\"mode\": \"%s\",\n  \"peaks\": [", r->library, isa_name(r->isa), r->cpu, r->processors, r->compiler, r->mode);
    const char *comma = "";
    for (int t = 1; t <= r->most_threads; t++) {
        if (r->peaks[t].fma <= 0) continue;
        fprintf(f, "%s{\"threads\": %d, \"fma_per_ns\": %.5g, \"bytes_per_ns\": %.5g}", comma, t, r->peaks[t].fma,
                r->peaks[t].bandwidth);
        comma = ", ";
    }
    fprintf(f, "],\n");
    if (r->zero_steps_per_s > 0)
        fprintf(f, "  \"zero_gradients\": {\"steps_per_s\": %.5g, \"slowest_steps_per_s\": %.5g, \"random_steps_per_s\": "
                "%.5g, \"adamw_steps_per_s\": %.5g, \"adamw_random_steps_per_s\": %.5g},\n", r->zero_steps_per_s,
                r->slowest_zero_steps_per_s, r->random_steps_per_s, r->adamw_zero_steps_per_s, r->adamw_random_steps_per_s);
    if (r->startup_open_ms > 0)
        fprintf(f, "  \"startup_ms\": {\"open\": %.4g, \"create\": %.4g, \"step\": %.4g},\n", r->startup_open_ms,
                r->startup_create_ms, r->startup_step_ms);
    json_rows(r, f);
    if ((ferror(f) | fclose(f)) != 0) fail("%s cannot be written", path);
}
