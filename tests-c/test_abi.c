/* The binary interface is the one that programs were built against: struct sizes, offsets, enum values and the symbols
 * of the library are those of tests-c/abi.txt. Additions are made there by hand, from what `test_abi --print` prints; a
 * line that changes or goes is a new major version. */
#define _GNU_SOURCE
#include "files.h"

#include <dlfcn.h>
#include <elf.h>
#include <stddef.h>

static char lines[400][96];
static int line_count;

static void line(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    if (line_count < 400) vsnprintf(lines[line_count++], sizeof lines[0], format, arguments);
    va_end(arguments);
}

/* ---- Types ------------------------------------------------------------------------------------------------------- */

#define VALUE(name) line("value %s %lld", #name, (long long)name)
#define SIZE(type) line("struct %s %zu", #type, sizeof(type))
#define FIELD(type, field) \
    line("field %s.%s at %zu, %zu bytes", #type, #field, offsetof(type, field), sizeof(((type *)0)->field))

static void types(void) {
    VALUE(LOPT_MAX_RANK), VALUE(LOPT_WITH_PARAMETERS), VALUE(LOPT_SHARD);
    VALUE(LOPT_OK), VALUE(LOPT_SKIPPED_NONFINITE), VALUE(LOPT_ERROR_INVALID_ARGUMENT), VALUE(LOPT_ERROR_NO_MEMORY);
    VALUE(LOPT_ERROR_IO), VALUE(LOPT_ERROR_WEIGHTS), VALUE(LOPT_ERROR_CHECKPOINT), VALUE(LOPT_ERROR_MISMATCH);
    VALUE(LOPT_ERROR_NONFINITE);
    VALUE(LOPT_ISA_AUTO), VALUE(LOPT_ISA_BASELINE), VALUE(LOPT_ISA_AVX2), VALUE(LOPT_ISA_AVX512);
    VALUE(LOPT_NONFINITE_SKIP_STEP), VALUE(LOPT_NONFINITE_SKIP_TENSOR), VALUE(LOPT_NONFINITE_ERROR);
    VALUE(LOPT_DECAY_BY_STEP_SIZE), VALUE(LOPT_DECAY_PER_STEP), VALUE(LOPT_DECAY_ALL), VALUE(LOPT_DECAY_MATRICES);
    VALUE(LOPT_AVERAGE_NONE), VALUE(LOPT_AVERAGE_GROWING), VALUE(LOPT_AVERAGE_EMA);
    VALUE(LOPT_LOG_INFO), VALUE(LOPT_LOG_WARNING);
    VALUE(LOPT_F32), VALUE(LOPT_F64), VALUE(LOPT_BF16), VALUE(LOPT_F16);
    SIZE(lopt_element);
    SIZE(lopt_status), SIZE(lopt_isa), SIZE(lopt_nonfinite), SIZE(lopt_weight_decay_form), SIZE(lopt_log_level), SIZE(lopt_task);
    SIZE(lopt_weight_decay_tensors), SIZE(lopt_average);
    SIZE(lopt_allocator);
    FIELD(lopt_allocator, allocate), FIELD(lopt_allocator, deallocate), FIELD(lopt_allocator, context);
    SIZE(lopt_parallel_for);
    FIELD(lopt_parallel_for, run), FIELD(lopt_parallel_for, context);
    SIZE(lopt_binding);
    FIELD(lopt_binding, index), FIELD(lopt_binding, parameter), FIELD(lopt_binding, gradient);
    SIZE(lopt_flat_entry);
    FIELD(lopt_flat_entry, name), FIELD(lopt_flat_entry, offset), FIELD(lopt_flat_entry, rank), FIELD(lopt_flat_entry, shape);
    SIZE(lopt_log);
    FIELD(lopt_log, message), FIELD(lopt_log, context);
    SIZE(lopt_gather);
    FIELD(lopt_gather, run), FIELD(lopt_gather, context), FIELD(lopt_gather, part), FIELD(lopt_gather, parts);
    SIZE(lopt_rows);
    FIELD(lopt_rows, first), FIELD(lopt_rows, count);
    SIZE(lopt_options);
    FIELD(lopt_options, struct_size), FIELD(lopt_options, threads), FIELD(lopt_options, max_isa);
    FIELD(lopt_options, nonfinite), FIELD(lopt_options, reserved), FIELD(lopt_options, lr_scale);
    FIELD(lopt_options, weight_decay), FIELD(lopt_options, total_steps), FIELD(lopt_options, allocator);
    FIELD(lopt_options, parallel_for), FIELD(lopt_options, log), FIELD(lopt_options, max_update_ratio);
    FIELD(lopt_options, weight_decay_form), FIELD(lopt_options, reserved2), FIELD(lopt_options, gradient_scale);
    FIELD(lopt_options, max_gradient_norm), FIELD(lopt_options, weight_decay_tensors);
    FIELD(lopt_options, learned_decay_scale), FIELD(lopt_options, gather);
    FIELD(lopt_options, average), FIELD(lopt_options, average_span);
    FIELD(lopt_options, momentum_type), FIELD(lopt_options, reserved3);
    SIZE(lopt_tensor_options);
    FIELD(lopt_tensor_options, struct_size), FIELD(lopt_tensor_options, lr_scale);
    FIELD(lopt_tensor_options, weight_decay_scale), FIELD(lopt_tensor_options, frozen);
    FIELD(lopt_tensor_options, reserved);
    SIZE(lopt_statistics);
    FIELD(lopt_statistics, struct_size), FIELD(lopt_statistics, steps), FIELD(lopt_statistics, steps_skipped);
    FIELD(lopt_statistics, nonfinite), FIELD(lopt_statistics, gradient_rms), FIELD(lopt_statistics, update_rms);
    FIELD(lopt_statistics, parameter_rms), FIELD(lopt_statistics, blackbox_share);
    FIELD(lopt_statistics, updates_limited), FIELD(lopt_statistics, steps_idle);
    FIELD(lopt_statistics, nonfinite_parameters), FIELD(lopt_statistics, step_size);
    FIELD(lopt_statistics, gradient_norm), FIELD(lopt_statistics, steps_clipped);
    SIZE(lopt_information);
    FIELD(lopt_information, struct_size), FIELD(lopt_information, isa), FIELD(lopt_information, threads);
    FIELD(lopt_information, tensors), FIELD(lopt_information, uses_total_steps), FIELD(lopt_information, parameters);
    FIELD(lopt_information, state_bytes), FIELD(lopt_information, memory_bytes), FIELD(lopt_information, kernel);
    FIELD(lopt_information, total_steps), FIELD(lopt_information, tensors_elsewhere);
    FIELD(lopt_information, tensors_restored);
    SIZE(lopt_gradients);
    FIELD(lopt_gradients, struct_size), FIELD(lopt_gradients, nonfinite), FIELD(lopt_gradients, norm_squared);
}

/* ---- Symbols ----------------------------------------------------------------------------------------------------- */

static int compare_lines(const void *a, const void *b) { return strcmp(a, b); }

/* What the library's file defines for others, from its table of dynamic symbols, with their versions. */
static void symbols(void) {
    Dl_info info;
    size_t size = 0;
    void *function;
    *(int32_t (**)(void)) & function = lopt_version;
    if (!CHECK(dladdr(function, &info) != 0)) return;
    char *file = files_read(info.dli_fname, &size);
    if (!CHECK(file != NULL && size > sizeof(Elf64_Ehdr) && memcmp(file, ELFMAG, SELFMAG) == 0)) return;
    const Elf64_Ehdr *header = (const Elf64_Ehdr *)(void *)file;
    const Elf64_Shdr *sections = (const Elf64_Shdr *)(void *)(file + header->e_shoff);
    const Elf64_Half *versions = NULL;
    const char *definitions = NULL;
    const char *definition_names = NULL;
    for (int i = 0; i < header->e_shnum; i++) {
        if (sections[i].sh_type == SHT_GNU_versym) versions = (const Elf64_Half *)(void *)(file + sections[i].sh_offset);
        if (sections[i].sh_type != SHT_GNU_verdef) continue;
        definitions = file + sections[i].sh_offset;
        definition_names = file + sections[sections[i].sh_link].sh_offset;
    }
    CHECK(versions && definitions);
    int first = line_count;
    for (int i = 0; i < header->e_shnum && versions && definitions; i++) {
        if (sections[i].sh_type != SHT_DYNSYM) continue;
        const Elf64_Sym *table = (const Elf64_Sym *)(void *)(file + sections[i].sh_offset);
        const char *names = file + sections[sections[i].sh_link].sh_offset;
        for (size_t s = 1; s < sections[i].sh_size / sizeof *table; s++) {
            if (table[s].st_shndx == SHN_UNDEF || table[s].st_shndx == SHN_ABS) continue;
            const char *version = "(none)";
            for (const char *at = definitions;;) {
                const Elf64_Verdef *d = (const Elf64_Verdef *)(const void *)at;
                const Elf64_Verdaux *name = (const Elf64_Verdaux *)(const void *)(at + d->vd_aux);
                if (d->vd_ndx == (versions[s] & 0x7fff)) version = definition_names + name->vda_name;
                if (d->vd_next == 0) break;
                at += d->vd_next;
            }
            line("symbol %s %s", names + table[s].st_name, version);
        }
    }
    qsort(lines[first], (size_t)(line_count - first), sizeof lines[0], compare_lines);
    free(file);
}

/* ---- Comparison -------------------------------------------------------------------------------------------------- */

static void compare(const char *path) {
    char text[128];
    int seen[400] = {0};
    FILE *f = fopen(path, "r");
    if (!check_that(f != NULL, __FILE__, __LINE__, "cannot open %s", path)) return;
    while (fgets(text, sizeof text, f)) {
        text[strcspn(text, "\n")] = 0;
        if (text[0] == '#' || text[0] == 0) continue;
        int found = 0;
        for (int i = 0; i < line_count; i++) {
            if (strcmp(lines[i], text) == 0) found = seen[i] = 1;
        }
        check_that(found, __FILE__, __LINE__, "no longer so: %s", text);
    }
    fclose(f);
    for (int i = 0; i < line_count; i++) check_that(seen[i], __FILE__, __LINE__, "not in %s: %s", path, lines[i]);
}

static void test_versions_of_header_and_library_agree(void) {
    char text[32];
    CHECK_INT(LOPT_VERSION, LOPT_VERSION_MAJOR * 1000000 + LOPT_VERSION_MINOR * 1000 + LOPT_VERSION_PATCH);
    CHECK_INT(lopt_version(), LOPT_VERSION);
    snprintf(text, sizeof text, "%d.%d.%d", LOPT_VERSION_MAJOR, LOPT_VERSION_MINOR, LOPT_VERSION_PATCH);
    CHECK_TEXT(lopt_version_string(), text);
    CHECK(lopt_version_string() == lopt_version_string());
}

int main(int count, char **arguments) {
    types();
    symbols();
    if (count > 1 && strcmp(arguments[1], "--print") == 0) {
        for (int i = 0; i < line_count; i++) puts(lines[i]);
        return 0;
    }
    compare(files_source("tests-c/abi.txt"));
    test_versions_of_header_and_library_agree();
    return check_end();
}
