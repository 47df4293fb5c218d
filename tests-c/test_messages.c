/* Messages are for people: names and paths stand in them as they are, in whatever script, and long ones keep both ends; bytes
 * that are no text, and characters that would break the line or turn it round, are written as \x1b is here. At most 255 bytes
 * of UTF-8 in one line, whatever the text was. */
#define _GNU_SOURCE
#include "problem.h"

enum { WHOLE = 96 }; /* what is kept of a text in any case */

static float parameter[2], gradient[2];
static lopt_optimizer *opt;

/* The length of the UTF-8 sequence at `s`, or 0 if it is none or is not to be in a message. */
static int sequence(const unsigned char *s) {
    static const unsigned long least[] = {0, 0, 0x80, 0x800, 0x10000};
    int length = s[0] < 0x80 ? 1 : s[0] >= 0xf0 ? 4 : s[0] >= 0xe0 ? 3 : s[0] >= 0xc0 ? 2 : 0;
    unsigned long code = length == 1 ? s[0] : s[0] & (0xffu >> (length + 1));
    if (length == 0 || s[0] > 0xf7) return 0;
    for (int i = 1; i < length; i++) {
        if ((s[i] & 0xc0) != 0x80) return 0;
        code = code << 6 | (s[i] & 0x3fu);
    }
    int is_character = code >= least[length] && code <= 0x10ffff && (code < 0xd800 || code > 0xdfff);
    int is_control = code < 0x20 || (code >= 0x7f && code < 0xa0) || (code >= 0x2028 && code <= 0x202e) ||
                     (code >= 0x2066 && code <= 0x2069);
    return is_character && !is_control ? length : 0;
}

static void check_legible(void) {
    const unsigned char *text = (const unsigned char *)lopt_last_error();
    size_t at = 0, size = strlen((const char *)text);
    CHECK(size > 0 && size <= 255);
    for (int length = 1; at < size && length > 0; at += (size_t)length) length = sequence(text + at);
    check_that(at == size, __FILE__, __LINE__, "\"%s\" is no line of UTF-8", (const char *)text);
}

/* Two texts that are the same to as many bytes, or whose ends are: the message has to show both ends. */
static void check_shown(const char *text) {
    size_t size = strlen(text);
    check_legible();
    if (size <= WHOLE) {
        CHECK_MESSAGE(text);
        return;
    }
    char head[32], tail[64]; /* no character has more than four bytes */
    snprintf(head, sizeof head, "'%.*s", 24, text);
    for (size_t n = strlen(head); n > 1 && sequence((unsigned char *)head + n - 1) == 0;) head[--n] = 0;
    const char *end = text + size - 52;
    while (((unsigned char)*end & 0xc0) == 0x80) end++;
    snprintf(tail, sizeof tail, "%s'", end);
    CHECK_MESSAGE(head);
    CHECK_MESSAGE("...");
    CHECK_MESSAGE(tail);
}

/* Names of every length in scripts of one to four bytes a character. */
static void test_long_names_are_cut_at_characters(void) {
    static const char *const letters[] = {"n", "ß", "重", "🧠"};
    for (size_t l = 0; l < sizeof letters / sizeof *letters; l++) {
        char name[256] = "";
        size_t step = strlen(letters[l]);
        for (size_t size = step; size <= 255; size += step) {
            memcpy(name + size - step, letters[l], step), name[size] = 0;
            check_context("%zu bytes of %s", size, letters[l]);
            lopt_optimizer *one = NULL;
            CHECK_OK(lopt_create(NULL, NULL, &one));
            CHECK_OK(lopt_add_tensor(one, name, parameter, gradient, NULL, 0, NULL));
            CHECK_STATUS(lopt_add_tensor(one, name, parameter + 1, gradient, NULL, 0, NULL), LOPT_ERROR_INVALID_ARGUMENT);
            check_shown(name);
            CHECK_STATUS(lopt_add_tensor(one, "other", parameter, gradient, NULL, 0, NULL), LOPT_ERROR_INVALID_ARGUMENT);
            check_shown(name);
            gradient[0] = NAN;
            CHECK_STATUS(lopt_step(one), LOPT_SKIPPED_NONFINITE);
            check_shown(name);
            gradient[0] = 0;
            lopt_destroy(one);
        }
    }
    check_context("");
}

/* Paths of every length keep the name of their file, whatever the call. */
static void test_long_paths_keep_the_name_of_their_file(void) {
    static const char *const files[] = {"step-001000.ckpt", "größe-重み-🧠-0000000001.safetensors"};
    char *path = check_memory(4096);
    for (size_t f = 0; f < 2; f++) {
        size_t name = strlen(files[f]);
        for (size_t size = name + 3; size < 4096; size += size < 300 ? 1 : 97) {
            for (size_t i = 0; i < size - name; i++) path[i] = "/nowhere/größe"[i % 16];
            path[size - name - 1] = '/';
            memcpy(path + size - name, files[f], name + 1);
            check_context("a path of %zu bytes", size);
            lopt_weights *weights = NULL;
            CHECK(lopt_save(opt, path, 0) < 0);
            check_legible(), CHECK_MESSAGE(files[f]);
            CHECK(lopt_restore(opt, path, 0) < 0);
            check_legible(), CHECK_MESSAGE(files[f]);
            CHECK(lopt_weights_load(path, NULL, &weights) < 0);
            check_legible(), CHECK_MESSAGE(files[f]);
        }
    }
    check_context("");
    free(path);
}

/* What is no text, or would act on a terminal, can be told from the message. */
static void test_what_is_no_text_is_escaped(void) {
    static const struct { const char *text, *shown; } cases[] = {
        {"a\x1b[31mb", "'a\\x1b[31mb'"}, {"line\nline\ttab\x7f", "'line\\x0aline\\x09tab\\x7f'"},
        {"caf\xe9", "'caf\\xe9'"},       {"\xc0\xaf", "'\\xc0\\xaf'"},
        {"\xe9\x87", "'\\xe9\\x87'"},    {"\xed\xa0\x80x", "'\\xed\\xa0\\x80x'"},
        {"\xc2\x9b", "'\\xc2\\x9b'"},    {"\xc2\xa0", "'\xc2\xa0'"},
        {"\u202egnp", "'\\xe2\\x80\\xaegnp'"}, {"\u2066x\u2069", "'\\xe2\\x81\\xa6x\\xe2\\x81\\xa9'"},
        {"\u2028", "'\\xe2\\x80\\xa8'"}, {"\u2027\u202f\u2065", "'\u2027\u202f\u2065'"},
        {"\\x41 \"", "'\\x41 \"'"},
    };
    char path[3] = {'/', 0, 0};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        lopt_weights *weights = NULL;
        check_context("case %zu", i);
        CHECK_STATUS(lopt_restore(opt, cases[i].text, 0), LOPT_ERROR_IO);
        check_legible(), CHECK_MESSAGE(cases[i].shown);
        CHECK_STATUS(lopt_weights_builtin(cases[i].text, NULL, &weights), LOPT_ERROR_INVALID_ARGUMENT);
        check_legible(), CHECK_MESSAGE(cases[i].shown);
    }
    for (int byte = 1; byte < 256; byte++) {
        char shown[8];
        path[1] = (char)byte;
        snprintf(shown, sizeof shown, byte >= 0x20 && byte < 0x7f ? "'/%c'" : "'/\\x%02x'", byte);
        check_context("byte %02x", byte);
        if (byte == '/' || byte == '.') continue;
        CHECK(lopt_restore(opt, path, 0) < 0);
        check_legible(), CHECK_MESSAGE(shown);
    }
    check_context("");
}

/* Any bytes in any place: names of tensors in a checkpoint, and paths. */
static void test_any_bytes_make_one_line(void) {
    unsigned char text[301];
    for (int round = 0; round < check_repetitions(20000, 500); round++) {
        size_t size = 1 + (size_t)(149 * (1 + problem_random(7, (uint64_t)round)));
        for (size_t i = 0; i < size; i++) {
            uint32_t random = (uint32_t)(1e6f * (1 + problem_random(11 + (uint64_t)round, i)));
            static const unsigned char some[] = {0xc2, 0xe2, 0x80, 0x81, 0xa8, 0xf0, 0x9f, 0xa7, 0xa0, 'a', 0x1b, 0xff};
            text[i] = round % 2 ? some[random % sizeof some] : (unsigned char)(1 + random % 255);
        }
        text[size] = 0;
        check_context("round %d", round);
        CHECK(lopt_restore(opt, (const char *)text, 0) < 0);
        check_legible();
    }
    check_context("");
}

int main(void) {
    CHECK_OK(lopt_create(NULL, NULL, &opt));
    CHECK_OK(lopt_add_tensor(opt, "x", parameter, gradient, NULL, 0, NULL));
    test_long_names_are_cut_at_characters();
    test_long_paths_keep_the_name_of_their_file();
    test_what_is_no_text_is_escaped();
    test_any_bytes_make_one_line();
    lopt_destroy(opt);
    return check_end();
}
