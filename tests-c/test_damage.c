/* A damaged checkpoint never changes anything: every byte of a small one is flipped, it is cut at every length, grown,
 * and forged with a checksum that is right. */
#define _GNU_SOURCE
#include "files.h"
#include "problem.h"

/* The checkpoint, and an optimizer of the same tensors at another place of its training. */
static snapshot good, live;
static lopt_optimizer *opt;
static problem host;

static lopt_optimizer *make(problem *p, int steps) {
    lopt_options options = problem_options();
    memset(p, 0, sizeof *p);
    problem_add(p, "a", 2, (int64_t[]){2, 3});
    problem_add(p, "b", 1, (int64_t[]){3});
    problem_start(p);
    lopt_optimizer *made = problem_optimizer(p, "star", &options); /* which has arrays of every kind */
    problem_train(p, made, 0, steps);
    return made;
}

static void start(void) {
    problem p;
    lopt_optimizer *other = make(&p, 5);
    good = snapshot_of(other, LOPT_WITH_PARAMETERS);
    lopt_destroy(other);
    problem_free(&p);
    opt = make(&host, 2);
    live = snapshot_of(opt, LOPT_WITH_PARAMETERS);
}

static size_t data_start(const void *bytes) {
    const unsigned char *b = bytes;
    size_t length = 0;
    for (int i = 0; i < 8; i++) length |= (size_t)b[i] << 8 * i;
    return 8 + length;
}

/* Reads a changed checkpoint: refused without a trace, or, where `may_pass`, read as if it had not been changed. */
static void check_changed(const void *bytes, size_t size, int may_pass) {
    lopt_status status = lopt_state_read(opt, LOPT_WITH_PARAMETERS, bytes, size);
    if (status == LOPT_OK && may_pass) {
        CHECK_SAME_STATE(opt, &good);
        CHECK_OK(lopt_state_read(opt, LOPT_WITH_PARAMETERS, live.bytes, live.size));
    } else {
        CHECK(status == LOPT_ERROR_CHECKPOINT || status == LOPT_ERROR_MISMATCH);
        CHECK(lopt_last_error()[0] != 0 && strlen(lopt_last_error()) <= 255);
    }
    CHECK_SAME_STATE(opt, &live);
}

/* A memory of exactly this size, so that ASan and memcheck see a read past its end. */
static char *copy_of(size_t size) {
    char *bytes = check_memory(size);
    memcpy(bytes, good.bytes, size < good.size ? size : good.size);
    return bytes;
}

static void test_every_changed_byte_is_refused(void) {
    static const unsigned char masks[] = {0xff, 0x01, 0x80, 0x20, 0x02, 0x04, 0x08, 0x10, 0x40};
    char *bytes = copy_of(good.size);
    size_t data = data_start(bytes);
    int count = check_repetitions((int)sizeof masks, 1);
    for (size_t i = 0; i < good.size; i++) {
        for (int m = 0; m < count; m++) {
            check_context("byte %zu of %zu, data from %zu, mask %02x", i, good.size, data, masks[m]);
            bytes[i] = (char)(bytes[i] ^ masks[m]);
            check_changed(bytes, good.size, i < data);
            if (i >= data) {
                CHECK_STATUS(lopt_state_read(opt, 0, bytes, good.size), LOPT_ERROR_CHECKPOINT);
                CHECK_SAME_STATE(opt, &live);
            }
            bytes[i] = (char)(bytes[i] ^ masks[m]);
        }
    }
    check_context("");
    free(bytes);
}

static void test_every_other_length_is_refused(void) {
    for (size_t size = 0; size < good.size; size++) {
        char *bytes = copy_of(size);
        check_context("cut at %zu of %zu", size, good.size);
        check_changed(bytes, size, 0);
        free(bytes);
    }
    for (size_t more = 1; more < 40; more++) {
        char *bytes = copy_of(good.size + more);
        check_context("grown by %zu", more);
        check_changed(bytes, good.size + more, 0);
        free(bytes);
    }
    check_context("");
}

/* The same through files; a few, because each is written first. */
static void test_damaged_files_are_refused(void) {
    char *bytes = copy_of(good.size);
    const char *path = files_path("damaged");
    for (size_t i = 0; i < good.size; i += 29) {
        bytes[i] = (char)~bytes[i];
        files_write(path, bytes, good.size);
        check_context("file, byte %zu", i);
        CHECK(lopt_restore(opt, path, LOPT_WITH_PARAMETERS) < 0);
        CHECK_SAME_STATE(opt, &live);
        bytes[i] = (char)~bytes[i];
        files_write(path, bytes, i);
        check_context("file, cut at %zu", i);
        CHECK(lopt_restore(opt, path, LOPT_WITH_PARAMETERS) < 0);
        CHECK_SAME_STATE(opt, &live);
    }
    check_context("");
    remove(path);
    free(bytes);
}

/* ---- Forgery ----------------------------------------------------------------------------------------------------- */

static char *find(const char *text) { return memmem(good.bytes, data_start(good.bytes), text, strlen(text)); }

/* Where the data of an array lie. */
static size_t data_of(const char *array) {
    unsigned long begin = 0;
    char *at = find(array);
    if (CHECK(at != NULL)) at = strstr(at, "data_offsets");
    if (CHECK(at != NULL)) CHECK(sscanf(at, "data_offsets\":[%lu", &begin) == 1);
    return data_start(good.bytes) + begin;
}

/* Puts the right checksum in, which the library itself says, unless it finds something else wrong before. */
static void sign(char *bytes) {
    CHECK_STATUS(lopt_state_read(opt, 0, bytes, good.size), LOPT_ERROR_CHECKPOINT);
    const char *actual = strstr(lopt_last_error(), "checksum ");
    char *place = find("\"checksum\":\"");
    if (!actual || !CHECK(place != NULL)) return;
    memcpy(bytes + (place - (char *)good.bytes) + strlen("\"checksum\":\""), actual + strlen("checksum "), 16);
}

static void check_forged(const char *array, int index, const void *value, const char *message) {
    char *bytes = copy_of(good.size);
    memcpy(bytes + data_of(array) + 8 * (size_t)index, value, 8);
    check_context("%s[%d]", array, index);
    sign(bytes);
    if (CHECK_STATUS(lopt_state_read(opt, LOPT_WITH_PARAMETERS, bytes, good.size), LOPT_ERROR_CHECKPOINT)) {
        CHECK_MESSAGE(message);
        CHECK_SAME_STATE(opt, &live);
    } else {
        CHECK_OK(lopt_state_read(opt, LOPT_WITH_PARAMETERS, live.bytes, live.size));
    }
    check_context("");
    free(bytes);
}

static void test_values_that_cannot_be_are_refused(void) {
    static const double bad[] = {-1, -1e-300, NAN, INFINITY};
    int64_t negative = -1, least = INT64_MIN;
    double above = 1.5, beyond = 2e30;
    for (int i = 0; i < 4; i++) {
        check_forged("\"/options\"", 0, &bad[i], "lr_scale");
        check_forged("\"/options\"", 1, &bad[i], "weight_decay");
        check_forged("\"a/options\"", 0, &bad[i], "lr_scale");
        check_forged("\"b/options\"", 1, &bad[i], "weight_decay_scale");
    }
    check_forged("\"/options\"", 1, &beyond, "weight_decay");
    check_forged("\"/options\"", 2, &above, "weight_decay_form");
    check_forged("\"a/options\"", 2, &above, "frozen");
    check_forged("\"a/options\"", 3, &bad[2], "step size");
    for (int index = 0; index < 3; index++) {
        check_forged("\"a/step\"", index, &negative, "step");
        check_forged("\"b/step\"", index, &least, "step");
    }
}

/* Reads it, steps, skips a step. */
static void go_on(void *bytes) {
    lopt_statistics statistics = {.struct_size = sizeof statistics};
    (void)!lopt_state_read(opt, LOPT_WITH_PARAMETERS, bytes, good.size);
    lopt_stats(opt, -1, &statistics);
    problem_gradient(&host, 9);
    (void)!lopt_step(opt);
    host.tensors[0].gradient[0] = NAN;
    (void)!lopt_step(opt);
    lopt_stats(opt, -1, &statistics);
}

/* Counters as large as the file can say must not end the process, now or in the steps that follow. */
static void test_largest_counters_end_no_process(void) {
    static const char *arrays[] = {"\"a/step\"", "\"b/step\""};
    for (int index = 0; index < 3; index++) {
        char *bytes = copy_of(good.size);
        int64_t largest = INT64_MAX;
        for (int i = 0; i < 2; i++) memcpy(bytes + data_of(arrays[i]) + 8 * (size_t)index, &largest, 8);
        check_context("counter %d at 2^63 - 1", index);
        sign(bytes);
        CHECK_SURVIVES(go_on, bytes);
        free(bytes);
    }
    check_context("");
}

/* A host may have saved a state that is not finite; reading it and going on must not end the process either. */
static void test_state_that_is_not_finite_ends_no_process(void) {
    static const char *arrays[] = {"\"a/parameter\"", "\"a/momentum\"", "\"a/second_moment\"", "\"a/row\"",
                                   "\"a/column\"", "\"b/momentum\"", "\"b/second_moment\"", "\"b/diagonal\""};
    static const uint32_t numbers[] = {0x7fc00000, 0x7f800000, 0xff800000, 0x7f7fffff, 0xbf800000};
    for (size_t a = 0; a < sizeof arrays / sizeof *arrays; a++) {
        for (size_t n = 0; n < sizeof numbers / sizeof *numbers; n++) {
            char *bytes = copy_of(good.size);
            memcpy(bytes + data_of(arrays[a]), &numbers[n], 4);
            check_context("%s with %08x", arrays[a], (unsigned)numbers[n]);
            sign(bytes);
            CHECK_SURVIVES(go_on, bytes);
            free(bytes);
        }
    }
    check_context("");
}

/* Words of the header that say what kind of file this is. */
static void check_replaced(const char *from, const char *to, lopt_status expected, const char *message) {
    char *bytes = copy_of(good.size), *at = find(from);
    check_context("%s becomes %s", from, to);
    CHECK_INT(strlen(from), strlen(to));
    if (CHECK(at != NULL)) {
        memcpy(bytes + (at - (char *)good.bytes), to, strlen(to));
        CHECK_STATUS(lopt_state_read(opt, LOPT_WITH_PARAMETERS, bytes, good.size), expected);
        CHECK_MESSAGE(message);
        CHECK_SAME_STATE(opt, &live);
    }
    check_context("");
    free(bytes);
}

static void test_damaged_headers_are_refused(void) {
    check_replaced("lopt-checkpoint", "LOPT-checkpoint", LOPT_ERROR_CHECKPOINT, "format");
    check_replaced("\"format_version\":\"1\"", "\"format_version\":\"2\"", LOPT_ERROR_CHECKPOINT, "format_version");
    check_replaced("\"format_version\"", "\"format_Version\"", LOPT_ERROR_CHECKPOINT, "format_version");
    check_replaced("\"checksum\":\"", "\"checksun\":[", LOPT_ERROR_CHECKPOINT, "string");
    check_replaced("\"weights\":\"", "\"wEIGHTs\":\"", LOPT_ERROR_CHECKPOINT, "weights");
    check_replaced("\"a/momentum\"", "\"c/momentum\"", LOPT_ERROR_MISMATCH, "a/momentum");
    check_replaced("\"a/row\"", "\"a/raw\"", LOPT_ERROR_MISMATCH, "a/row");
    check_replaced("\"b/step\"", "\"b/stop\"", LOPT_ERROR_MISMATCH, "b/step");
    check_replaced("\"F32\"", "\"I32\"", LOPT_ERROR_MISMATCH, "I32");
    check_replaced("\"F64\"", "\"I64\"", LOPT_ERROR_MISMATCH, "/options");
    check_replaced("\"F32\"", "\"X32\"", LOPT_ERROR_CHECKPOINT, "X32");
}

/* Files that are no checkpoint at all. */
static void test_other_files_are_refused(void) {
    static char zeros[4096], ones[4096];
    memset(ones, 0xff, sizeof ones);
    check_changed(zeros, sizeof zeros, 0);
    check_changed(ones, sizeof ones, 0);
    check_changed("", 0, 0);
    check_changed("{}", 2, 0);
    check_changed("\2\0\0\0\0\0\0\0{}", 10, 0);
    CHECK(lopt_restore(opt, files_source("weights/star.safetensors"), LOPT_WITH_PARAMETERS) < 0);
    CHECK_SAME_STATE(opt, &live);
}

int main(void) {
    files_start();
    start();
    CHECK_OK(lopt_state_read(opt, LOPT_WITH_PARAMETERS, good.bytes, good.size));
    CHECK_SAME_STATE(opt, &good);
    CHECK_OK(lopt_state_read(opt, LOPT_WITH_PARAMETERS, live.bytes, live.size));
    test_every_changed_byte_is_refused();
    test_every_other_length_is_refused();
    test_damaged_files_are_refused();
    test_values_that_cannot_be_are_refused();
    test_largest_counters_end_no_process();
    test_state_that_is_not_finite_ends_no_process();
    test_damaged_headers_are_refused();
    test_other_files_are_refused();
    snapshot_free(&good), snapshot_free(&live);
    lopt_destroy(opt);
    problem_free(&host);
    files_end();
    return check_end();
}
