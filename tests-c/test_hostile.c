/* A weights file may come from anywhere: whatever is wrong with it is refused with a message that says what, and nothing
 * that it declares makes the library ask for memory that it does not fill. */
#define _GNU_SOURCE
#include "files.h"
#include "weights.h"

static int marker;
static made_weights base; /* small_fc, width 4, two layers: good */

static long allocated, largest;

static void *count_allocate(void *context, size_t size, size_t alignment) {
    (void)context;
    allocated += (long)size;
    if ((long)size > largest) largest = (long)size;
    return aligned_alloc(alignment, (size + alignment - 1) / alignment * alignment);
}

static void count_deallocate(void *context, void *pointer, size_t size) {
    (void)context;
    allocated -= (long)size;
    free(pointer);
}

static const lopt_allocator counting = {count_allocate, count_deallocate, NULL};

/* Refused as weights, with this in the message; memory in proportion to the file, and all of it given back. */
static void check_refused(const void *bytes, size_t size, const char *part) {
    lopt_weights *weights = (lopt_weights *)(void *)&marker;
    allocated = largest = 0;
    CHECK_STATUS(lopt_weights_from_memory(bytes, size, &counting, &weights), LOPT_ERROR_WEIGHTS);
    CHECK_MESSAGE(part);
    CHECK(lopt_last_error()[0] != 0);
    CHECK(weights == NULL);
    CHECK_INT(allocated, 0);
    CHECK(largest <= 8192 + 16 * (long)size);
}

static void check_header(const char *header, size_t header_size, const void *data, size_t data_size, const char *part) {
    size_t size = 0;
    void *bytes = weights_file(header, header_size, data, data_size, &size);
    check_refused(bytes, size, part);
    free(bytes);
}

/* The good weights with one piece of text in the header replaced. */
static void check_edited(const char *from, const char *to, const char *part) {
    char header[16384];
    const char *at = strstr(base.header, from);
    check_context("%s becomes %s", from, to);
    if (CHECK(at != NULL)) {
        snprintf(header, sizeof header, "%.*s%s%s", (int)(at - base.header), base.header, to, at + strlen(from));
        check_header(header, strlen(header), base.data, base.data_size, part);
    }
    check_context("");
}

static void test_bad_values_are_refused_by_name(void) {
    static const struct { const char *key, *old; const char *bad[16]; } values[] = {
        {"kind", "small_fc", {"adam", "", "Star", "small_fc ", "STAR"}},
        {"format_version", "1", {"2", "0", "", "1.0", " 1"}},
        {"hidden_size", "4",
         {"0", "-4", "513", "4.5", "", " 4", "4 ", "+4", "0x4", "four", "1e1", "99999999999999999999"}},
        {"hidden_layers", "2", {"0", "-1", "5", "2.0", "", "1000000000000"}},
        {"initial_momentum_decays", "[0.9, 0.99, 0.999]",
         {"[]", "", "0.9", "[0.9, 0.99]", "[0.9, 0.99, 1]", "[0.9, 0.99, -0.1]", "[0.9, 0.99, nan]", "[0.9, 0.99, NaN]",
          "[0.9, 0.99, 0.999", "[0.9,, 0.99]", "[0.9, 0.99, 0.999]]", "[0.1,0.1,0.1,0.1,0.1,0.1,0.1,0.1,0.1]",
          "[[0.9], 0.99, 0.999]", "[0.9 0.99 0.999]"}},
        {"initial_adafactor_decays", "[0.9, 0.99, 0.999]", {"[0.9]", "[1.5, 0.99, 0.999]", "[0.9, 0.99, 0.999,]"}},
        {"initial_rms_decays", "[0.999]", {"[]", "[0.9, 0.9]", "[1]", "[-1]", "[inf]", "x"}},
        {"step_mult", "0.01",
         {"", "x", "nan", "inf", "-inf", "1e39", "-1e39", "1e999", "1e", "--1", ".", "0x1p3", "1,5"}},
    };
    for (size_t v = 0; v < sizeof values / sizeof *values; v++) {
        for (int i = 0; i < 16 && values[v].bad[i]; i++) {
            char from[128], to[256];
            snprintf(from, sizeof from, "\"%s\":\"%s\"", values[v].key, values[v].old);
            snprintf(to, sizeof to, "\"%s\":\"%s\"", values[v].key, values[v].bad[i]);
            check_edited(from, to, values[v].key);
        }
    }
    check_edited("\"step_mult\":\"0.01\"", "\"exp_mult\":\"[1, 2, 3]\"", "exp_mult");
    check_edited("\"kind\":\"small_fc\",", "", "kind");
    check_edited("\"kind\"", "\"Kind\"", "kind");
    /* A number where the format has text. */
    check_edited("\"hidden_size\":\"4\"", "\"hidden_size\":4", "");
    check_edited("\"hidden_size\":\"4\"", "\"hidden_size\":null", "");
    check_edited("\"hidden_size\":\"4\"", "\"hidden_size\":\"4\",\"hidden_size\":\"4\"", "hidden_size");
    /* The architecture and the tensors must agree. */
    check_edited("\"hidden_size\":\"4\"", "\"hidden_size\":\"5\"", "needs F32");
    check_edited("\"hidden_size\":\"4\"", "\"hidden_size\":\"512\"", "needs F32");
    check_edited("\"hidden_layers\":\"2\"", "\"hidden_layers\":\"3\"", "needs F32");
    check_edited("\"hidden_layers\":\"2\"", "\"hidden_layers\":\"1\"", "");
    check_edited("\"kind\":\"small_fc\"", "\"kind\":\"star\"", "w2");
}

static void test_tensors_that_do_not_fit_are_refused(void) {
    check_edited("\"b0\"", "\"c0\"", "b0");
    check_edited("\"b1\"", "\"b0\"", "b0");
    check_edited("\"b1\":{", "\"\":{", "b1");
    check_edited("\"rms_decays\"", "\"rms_decayz\"", "rms_decays");
    check_edited("\"dtype\":\"F32\"", "\"dtype\":\"I32\"", "I32");
    check_edited("\"dtype\":\"F32\"", "\"dtype\":\"f32\"", "f32");
    check_edited("\"dtype\":\"F32\"", "\"dtype\":\"F64\"", "");
    check_edited("\"dtype\":\"F32\"", "\"dtype\":32", "");
    check_edited("\"dtype\":\"F32\",", "", "dtype");
    check_edited("\"dtype\":\"F32\"", "\"dtype\":\"F32\",\"dtype\":\"F32\"", "dtype");
    check_edited("\"dtype\":\"F32\"", "\"dtype\":\"F32\",\"more\":\"F32\"", "more");
    check_edited("\"shape\":[39,4]", "\"shape\":[4,39]", "w0");
    check_edited("\"shape\":[39,4]", "\"shape\":[156]", "w0");
    check_edited("\"shape\":[39,4]", "\"shape\":[39,4,1]", "w0");
    check_edited("\"shape\":[39,4]", "\"shape\":[39,-4]", "");
    check_edited("\"shape\":[39,4]", "\"shape\":[39,4.0]", "");
    check_edited("\"shape\":[39,4]", "\"shape\":[39,5]", "w0");
    check_edited("\"shape\":[39,4]", "\"shape\":[4294967296,4294967296]", "w0");
    check_edited("\"shape\":[39,4]", "\"shape\":[9223372036854775807,9223372036854775807]", "w0");
    check_edited("\"shape\":[39,4]", "\"shape\":[18446744073709551616,1]", "");
    check_edited("\"shape\":[39,4]", "\"shape\":[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,39,4]", "rank");
    check_edited("\"shape\":[39,4]", "\"shape\":156", "");
    check_edited("\"data_offsets\":[0,624]", "\"data_offsets\":[624,0]", "data_offsets");
    check_edited("\"data_offsets\":[0,624]", "\"data_offsets\":[0,620]", "w0");
    check_edited("\"data_offsets\":[0,624]", "\"data_offsets\":[4,628]", "");
    check_edited("\"data_offsets\":[0,624]", "\"data_offsets\":[-4,620]", "");
    check_edited("\"data_offsets\":[0,624]", "\"data_offsets\":[0,624,0]", "");
    check_edited("\"data_offsets\":[0,624]", "\"data_offsets\":[0]", "");
    check_edited("\"data_offsets\":[0,624]", "\"data_offsets\":[0,6240000]", "data_offsets");
    check_edited("\"data_offsets\":[0,624]", "\"data_offsets\":[9223372036854775184,9223372036854775807]",
                 "data_offsets");
    check_edited("\"data_offsets\":[0,624]", "\"data_offsets\":[0,18446744073709551615]", "");
    check_edited("\"data_offsets\":[0,624]", "\"data_offsets\":[0,6.24e2]", "");
    check_edited("\"data_offsets\":[624,640]", "\"data_offsets\":[0,16]", "overlap");
}

static void test_broken_syntax_is_refused(void) {
    check_edited("{\"__metadata__\"", "{\"__metadata__\":{},\"__metadata__\"", "__metadata__");
    check_edited("\"__metadata__\":{", "\"__metadata__\":[", "");
    check_edited("\"kind\":", "\"kind\"", "");
    check_edited("\"kind\":\"", "\"kind\":\"\\q", "");
    check_edited("\"kind\":\"", "\"kind\":\"\\u12", "");
    check_edited("\"kind\":\"", "\"kind\":\"\\ud800", "");
    check_edited("\"kind\":\"", "\"kind\":\"\\udc00\\ud800", "");
    check_edited("\"kind\":\"", "\"x\":\"\\u0000\",\"kind\":\"", "0000");
    check_edited("\"kind\":\"", "\"x\\u0000\":\"\",\"kind\":\"", "0000");
    check_edited("\"kind\":\"", "\"x\":\"\xff\",\"kind\":\"", "");
    check_edited("\"kind\":\"", "\"x\":\"\xc0\x80\",\"kind\":\"", "");
    check_edited("\"kind\":\"", "\"x\":\"\n\",\"kind\":\"", "");
    check_edited("\"kind\":\"", "'x':\"\",\"kind\":\"", "");
    check_edited("\"kind\":\"", "/**/\"kind\":\"", "");
    check_edited("\"kind\":\"small_fc\",", "\"kind\":\"small_fc\",,", "");
    static const char *headers[] = {
        "", " ", "{", "}", "[]", "null", "\"\"", "0", "{}", "{}x", "{\"__metadata__\":{}}",
        "{\"__metadata__\":{\"a\":\"b\"}", "{\"__metadata__\":{\"kind\":\"star\"}}", "{\"a\":{}}", "{\"a\":1}",
        "{\"a\":[]}", "{\"a\"}", "{,}", "{\"a\":{,}}", "{\"", "{\"a", "{\"\\", "{\"\\u",
        "{\"a\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[0,4]}}", "\xef\xbb\xbf{}",
    };
    for (size_t i = 0; i < sizeof headers / sizeof *headers; i++) {
        check_context("header %s", headers[i]);
        check_header(headers[i], strlen(headers[i]), "\0\0\0\0", 4, "");
        check_header(headers[i], strlen(headers[i]), NULL, 0, "");
    }
    /* As deep as a header can be. */
    size_t size = 200000;
    char *deep = check_memory(size);
    static const char openings[] = "[{\"";
    for (int i = 0; i < 3; i++) {
        check_context("200,000 times %c", openings[i]);
        memset(deep, openings[i], size);
        check_header(deep, size, NULL, 0, "");
        deep[0] = '{', deep[1] = '"', deep[2] = '"', deep[3] = ':';
        check_header(deep, size, NULL, 0, "");
    }
    free(deep);
    check_context("");
}

static void test_lengths_that_lie_are_refused(void) {
    static const uint64_t lengths[] = {0, 1, 7, 9, 100, 100000000, 100000001, (uint64_t)1 << 32, (uint64_t)1 << 62,
                                       (uint64_t)1 << 63, UINT64_MAX, UINT64_MAX - 7, UINT64_MAX - 8};
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        unsigned char bytes[16] = {0};
        check_context("header length %llu", (unsigned long long)lengths[i]);
        for (int k = 0; k < 8; k++) bytes[k] = (unsigned char)(lengths[i] >> 8 * k);
        for (size_t size = 8; size <= 16; size += 4) check_refused(bytes, size, "");
    }
    check_context("");
    lopt_weights *weights = (lopt_weights *)(void *)&marker;
    const volatile size_t everything = SIZE_MAX; /* gcc would warn, by the attributes in lopt.h */
    lopt_status status = lopt_weights_from_memory(base.data, everything, NULL, &weights);
    CHECK(status == LOPT_ERROR_INVALID_ARGUMENT || status == LOPT_ERROR_WEIGHTS);
    CHECK(weights == NULL);
}

static void test_numbers_that_are_not_finite_are_refused(void) {
    static const uint32_t bad[] = {0x7fc00000, 0x7f800000, 0xff800000, 0x7f800001};
    for (size_t at = 0; at < base.data_size / 4; at += 13) {
        float old = base.data[at];
        check_context("element %zu", at);
        memcpy(&base.data[at], &bad[at / 13 % 4], 4);
        check_header(base.header, base.header_size, base.data, base.data_size, "finite");
        base.data[at] = old;
    }
    check_context("");
}

/* Weights that were accepted must do no harm, whatever they hold. */
static void use(void *made) {
    lopt_weights *weights = made;
    lopt_options options = problem_options();
    lopt_optimizer *opt = NULL;
    problem p;
    problem_small(&p);
    if (CHECK_OK(lopt_create(weights, &options, &opt))) problem_register(&p, opt);
    for (int step = 0; opt && step < 2; step++) {
        problem_gradient(&p, step);
        for (int i = 0; i < p.count; i++) {
            for (int64_t j = 0; j < p.tensors[i].elements; j++) {
                if (!(fabsf(p.tensors[i].gradient[j]) < 1000)) p.tensors[i].gradient[j] = 1;
            }
        }
        CHECK_OK(lopt_step(opt));
    }
    lopt_destroy(opt);
    problem_free(&p);
}

/* Every byte of a real file changed, and the file cut everywhere. */
static void test_damaged_weights_are_refused_or_harmless(void) {
    static const unsigned char masks[] = {0xff, 0x01, 0x20, 0x40, 0x80};
    size_t size = 0;
    unsigned char *file = files_read(files_source("weights/star.safetensors"), &size);
    if (!CHECK(file != NULL)) return;
    int accepted = 0, refused = 0, count = check_repetitions(5, 1);
    for (size_t i = 0; i < size; i++) {
        for (int m = 0; m < count; m++) {
            lopt_weights *weights = NULL;
            check_context("byte %zu, mask %02x", i, masks[m]);
            file[i] ^= masks[m];
            lopt_status status = lopt_weights_from_memory(file, size, NULL, &weights);
            file[i] ^= masks[m];
            if (status == LOPT_OK) {
                accepted++;
                if (accepted % 7 == 0) CHECK_SURVIVES(use, weights);
            } else {
                refused++;
                CHECK_INT(status, LOPT_ERROR_WEIGHTS);
                CHECK(weights == NULL && lopt_last_error()[0] != 0);
            }
            lopt_weights_free(weights);
        }
    }
    CHECK(accepted > 0 && refused > 0);
    for (size_t cut = 0; cut < size; cut++) {
        char *bytes = check_memory(cut);
        memcpy(bytes, file, cut);
        check_context("cut at %zu", cut);
        check_refused(bytes, cut, "");
        free(bytes);
    }
    check_context("one byte more");
    unsigned char *longer = check_memory(size + 1);
    memcpy(longer, file, size);
    check_refused(longer, size + 1, "");
    check_context("");
    free(longer);
    free(file);
}

/* The largest numbers that f32 can hold, everywhere. */
static void test_extreme_weights_end_no_process(void) {
    static const float extremes[] = {3.4028235e38f, -3.4028235e38f, 1e-45f, 0.0f};
    for (int e = 0; e < 4; e++) {
        size_t size = 0;
        lopt_weights *weights = NULL;
        float *data = check_memory(base.data_size);
        check_context("all weights %g", (double)extremes[e]);
        for (size_t i = 0; i < base.data_size / 4; i++) data[i] = extremes[e];
        void *bytes = weights_file(base.header, base.header_size, data, base.data_size, &size);
        lopt_status status = lopt_weights_from_memory(bytes, size, NULL, &weights);
        CHECK(status == LOPT_OK || status == LOPT_ERROR_WEIGHTS);
        if (status == LOPT_OK) CHECK_SURVIVES(use, weights);
        lopt_weights_free(weights);
        free(bytes);
        free(data);
    }
    check_context("");
}

int main(void) {
    base = weights_make("small_fc", 4, 2, "");
    lopt_weights_free(weights_of(&base));
    test_bad_values_are_refused_by_name();
    test_tensors_that_do_not_fit_are_refused();
    test_broken_syntax_is_refused();
    test_lengths_that_lie_are_refused();
    test_numbers_that_are_not_finite_are_refused();
    test_damaged_weights_are_refused_or_harmless();
    test_extreme_weights_end_no_process();
    weights_release(&base);
    return check_end();
}
