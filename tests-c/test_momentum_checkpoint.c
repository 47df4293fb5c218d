/* Checkpoints of momenta in bf16: resuming gives the same bits, one with momenta of the other type restores as the header says, and damaged
 * ones are refused and change nothing. */
#define _GNU_SOURCE
#include <unistd.h>

#include "weights.h"

static lopt_options typed_options(int32_t momentum_type) {
    lopt_options options = problem_options();
    options.momentum_type = momentum_type, options.weight_decay = 0.02;
    options.average = LOPT_AVERAGE_EMA, options.average_span = 4;
    return options;
}

/* Of the problem that `make` makes. */
static lopt_optimizer *typed_optimizer(problem *p, void (*make)(problem *), int32_t momentum_type) {
    const lopt_options options = typed_options(momentum_type);
    make(p);
    return problem_optimizer(p, "pooled", &options);
}

static lopt_status read_state(lopt_optimizer *opt, const snapshot *s, uint32_t contents) {
    return lopt_state_read(opt, contents, s->bytes, s->size);
}

static size_t header_of(const snapshot *s) {
    uint64_t header = 0;
    memcpy(&header, s->bytes, 8);
    return (size_t)header;
}

/* Where an array of a tensor begins; its type is put into `type`, of 5 bytes. */
static unsigned char *array_in(const snapshot *s, const char *name, char *type) {
    static char text[16384];
    char entry[160];
    size_t begin = 0, header = header_of(s);
    CHECK(header < sizeof text);
    memcpy(text, (char *)s->bytes + 8, header), text[header] = 0;
    snprintf(entry, sizeof entry, "\"%s\":{\"dtype\":\"", name);
    const char *at = strstr(text, entry);
    if (!check_that(at != NULL, __FILE__, __LINE__, "no %s", entry)) exit(1);
    CHECK(sscanf(at + strlen(entry), "%4[^\"]", type) == 1 && sscanf(strstr(at, "data_offsets"), "data_offsets\":[%zu", &begin) == 1);
    return (unsigned char *)s->bytes + 8 + header + begin;
}

static uint32_t nearest_bits(uint32_t bits) { return (bits + 0x7fff + (bits >> 16 & 1)) & 0xffff0000u; }

/* Sixteen digits behind `key` become those that the message has behind `said`. */
static void put_right(snapshot *s, const char *key, const char *said) {
    char *text = s->bytes;
    const char *right = strstr(lopt_last_error(), said);
    for (size_t i = 8; right && i + strlen(key) + 16 < 8 + header_of(s); i++) {
        if (memcmp(text + i, key, strlen(key)) == 0) memcpy(text + i + strlen(key), right + strlen(said), 16);
    }
}

/* ---- Tests ----------------------------------------------------------------------------------------------------------- */

static void test_resuming_gives_the_same_bits(void) {
    enum { STEPS = 9 };
    problem p, q;
    lopt_options options = typed_options(LOPT_BF16);
    problem_large(&p);
    lopt_optimizer *opt = problem_optimizer(&p, "pooled", &options);
    snapshot at[STEPS + 1];
    for (int step = 0; step < STEPS; step++) {
        at[step] = snapshot_of(opt, LOPT_WITH_PARAMETERS);
        problem_gradient(&p, step);
        CHECK_OK(lopt_step(opt));
    }
    at[STEPS] = snapshot_of(opt, LOPT_WITH_PARAMETERS);
    const int32_t most = information_of(opt).isa;
    for (int cut = 0; cut < STEPS; cut += check_repetitions(1, 4)) {
        check_context("cut at step %d", cut);
        options.threads = 1 + cut % 3, options.max_isa = cut % 2 && most > LOPT_ISA_AVX2 ? LOPT_ISA_AVX2 : most;
        problem_large(&q);
        lopt_optimizer *other = problem_optimizer(&q, "pooled", &options);
        CHECK_OK(read_state(other, &at[cut], LOPT_WITH_PARAMETERS));
        CHECK_SAME_STATE(other, &at[cut]);
        problem_train(&q, other, cut, STEPS);
        CHECK_SAME_STATE(other, &at[STEPS]);
        lopt_destroy(other);
        problem_free(&q);
    }
    check_context("");
    for (int step = 0; step <= STEPS; step++) snapshot_free(&at[step]);
    lopt_destroy(opt);
    problem_free(&p);
}

/* From f32 momenta are rounded to nearest, from bf16 they are what they were. All else is the same, and training goes on. */
static void test_momenta_of_the_other_type_are_converted(int32_t from, int32_t to) {
    problem p, q;
    lopt_optimizer *one = typed_optimizer(&p, problem_large, from), *other = typed_optimizer(&q, problem_large, to);
    problem_train(&p, one, 0, 5), problem_train(&q, other, 0, 2);
    snapshot before = snapshot_of(one, LOPT_WITH_PARAMETERS);
    CHECK_OK(read_state(other, &before, LOPT_WITH_PARAMETERS));
    snapshot after = snapshot_of(other, LOPT_WITH_PARAMETERS);
    check_context("from %d to %d", from, to);
    for (int i = 0; i < p.count; i++) {
        const int64_t n = p.tensors[i].elements;
        char name[64], type[2][5];
        CHECK_BITS(q.tensors[i].parameter, p.tensors[i].parameter, n);
        snprintf(name, sizeof name, "%s/momentum", p.tensors[i].name);
        const unsigned char *old = array_in(&before, name, type[0]), *new = array_in(&after, name, type[1]);
        CHECK_TEXT(type[from == LOPT_F32 ? 0 : 1], "F32"), CHECK_TEXT(type[from == LOPT_F32 ? 1 : 0], "BF16");
        for (int64_t j = 0; j < 2 * n; j++) {
            uint32_t wide;
            uint16_t half;
            memcpy(&wide, (from == LOPT_F32 ? old : new) + 4 * j, 4), memcpy(&half, (from == LOPT_F32 ? new : old) + 2 * j, 2);
            if ((from == LOPT_F32 ? nearest_bits(wide) : wide) != (uint32_t)half << 16) CHECK(!"a momentum is another");
        }
        snprintf(name, sizeof name, "%s/second_moment", p.tensors[i].name);
        CHECK_BYTES(array_in(&after, name, type[1]), array_in(&before, name, type[0]), 4 * (size_t)n);
        snprintf(name, sizeof name, "%s/pooled", p.tensors[i].name);
        CHECK_BYTES(array_in(&after, name, type[1]), array_in(&before, name, type[0]), 8 * 13);
    }
    problem_train(&q, other, 5, 7);
    CHECK_INT(statistics_of(other, -1).steps, 7);
    /* The size of the file is no reason to refuse it. */
    char path[] = "/tmp/lopt-momentum-XXXXXX";
    const int descriptor = mkstemp(path);
    CHECK(descriptor >= 0 && close(descriptor) == 0);
    CHECK_OK(lopt_save(one, path, 0)), CHECK_OK(lopt_restore(other, path, 0)), CHECK_INT(remove(path), 0);
    check_context("");
    snapshot_free(&before), snapshot_free(&after);
    lopt_destroy(one), lopt_destroy(other);
    problem_free(&p), problem_free(&q);
}

static void check_refused(lopt_optimizer *opt, const snapshot *bad, const snapshot *before, const char *what, size_t at) {
    check_context("%s %zu", what, at);
    const lopt_status status = read_state(opt, bad, LOPT_WITH_PARAMETERS);
    CHECK(status == LOPT_ERROR_CHECKPOINT || status == LOPT_ERROR_MISMATCH);
    CHECK_SAME_STATE(opt, before);
    check_context("");
}

static void test_damaged_checkpoints_change_nothing(int32_t here, int32_t there) {
    problem p, q;
    lopt_optimizer *opt = typed_optimizer(&p, problem_small, here), *other = typed_optimizer(&q, problem_small, there);
    problem_train(&p, opt, 0, 3), problem_train(&q, other, 0, 2);
    snapshot before = snapshot_of(opt, LOPT_WITH_PARAMETERS), bad = snapshot_of(other, LOPT_WITH_PARAMETERS);
    unsigned char *bytes = bad.bytes;
    for (size_t i = 8 + header_of(&bad); i < bad.size; i += (size_t)check_repetitions(31, 211)) {
        bytes[i] ^= 0x20;
        check_refused(opt, &bad, &before, "byte", i);
        bytes[i] ^= 0x20;
    }
    const size_t size = bad.size;
    for (size_t i = 0; i < size; i += 311) {
        bad.size = i;
        check_refused(opt, &bad, &before, "length", i);
    }
    bad.size = size;
    /* 16-bit numbers of another kind are none of ours. */
    char *dtype = (char *)array_in(&bad, "matrix/momentum", (char[5]){0});
    for (char *at = bad.bytes; at < dtype; at++) {
        if (there != LOPT_BF16 || memcmp(at, "BF16", 4) != 0) continue;
        memcpy(at, "I16\"", 4), at[4] = ' ';
        check_refused(opt, &bad, &before, "I16", (size_t)(at - (char *)bad.bytes));
        memcpy(at, "BF16\"", 5);
    }
    CHECK_OK(read_state(opt, &bad, LOPT_WITH_PARAMETERS));
    snapshot_free(&before), snapshot_free(&bad);
    lopt_destroy(opt), lopt_destroy(other);
    problem_free(&p), problem_free(&q);
}

/* Whoever forges a digest gets the numbers that are in there, and steps that end. */
static void test_forged_momenta_end_no_process(int32_t here, int32_t there) {
    static const uint16_t strange[] = {0x7f80, 0xff80, 0x7fc0, 0xffff, 0x7fff, 0x7f7f, 0xff7f, 1, 0x8001, 0x8000};
    problem p, q;
    lopt_optimizer *opt = typed_optimizer(&p, problem_small, here), *other = typed_optimizer(&q, problem_small, there);
    problem_train(&q, other, 0, 2);
    snapshot forged = snapshot_of(other, LOPT_WITH_PARAMETERS);
    char type[5];
    unsigned char *momenta = array_in(&forged, "matrix/momentum", type);
    for (int j = 0; j < 10; j++) {
        const uint32_t wide = (uint32_t)strange[j] << 16 | 0xffff;
        if (there == LOPT_BF16) memcpy(momenta + 2 * j, &strange[j], 2);
        else memcpy(momenta + 4 * j, &wide, 4);
    }
    CHECK_STATUS(read_state(opt, &forged, LOPT_WITH_PARAMETERS), LOPT_ERROR_CHECKPOINT);
    put_right(&forged, "\"checksum\":\"", "the data have checksum ");
    CHECK_OK(read_state(opt, &forged, LOPT_WITH_PARAMETERS));
    snapshot first = snapshot_of(opt, 0);
    CHECK_OK(read_state(opt, &first, 0)), CHECK_OK(read_state(opt, &forged, LOPT_WITH_PARAMETERS));
    for (int step = 2; step < 4; step++) {
        problem_gradient(&p, step);
        CHECK(lopt_step(opt) >= 0); /* the parameters, and so the gradients, may no longer be finite */
    }
    snapshot_free(&forged), snapshot_free(&first);
    lopt_destroy(opt), lopt_destroy(other);
    problem_free(&p), problem_free(&q);
}

int main(void) {
    test_resuming_gives_the_same_bits();
    test_momenta_of_the_other_type_are_converted(LOPT_F32, LOPT_BF16);
    test_momenta_of_the_other_type_are_converted(LOPT_BF16, LOPT_F32);
    test_damaged_checkpoints_change_nothing(LOPT_BF16, LOPT_BF16);
    test_damaged_checkpoints_change_nothing(LOPT_BF16, LOPT_F32);
    test_damaged_checkpoints_change_nothing(LOPT_F32, LOPT_BF16);
    test_forged_momenta_end_no_process(LOPT_BF16, LOPT_BF16);
    test_forged_momenta_end_no_process(LOPT_BF16, LOPT_F32);
    test_forged_momenta_end_no_process(LOPT_F32, LOPT_BF16);
    return check_end();
}
