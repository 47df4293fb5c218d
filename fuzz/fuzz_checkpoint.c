/* Checkpoints from anywhere: any bytes are accepted or refused, and refused bytes change nothing. Chance would never find
 * the digests in the metadata of a changed file: inputs whose last byte is odd are signed, with the digests that the library
 * says it expected: of the weights, which may have been others when the input was made, and of the data as they lie. (The last
 * byte is not part of the file. It also says whether parameters are read and whether momenta are kept in bf16.) */
#define _GNU_SOURCE
#include "fuzz.h"

static fuzz_books books = {.limit = (size_t)1 << 40};
static size_t live;
/* With momenta in f32 and in bf16, and which it is. */
static struct subject {
    fuzz_problem problem;
    void *before;
    size_t before_size;
} subjects[2], *now;

static void start(void) {
    lopt_allocator allocator = fuzz_allocator(&books);
    for (int i = 0; i < 2; i++) {
        struct subject *s = &subjects[i];
        fuzz_start(&s->problem, NULL, &allocator, i == 0 ? LOPT_F32 : LOPT_BF16);
        for (int step = 0; step < 3; step++) PROMISE(lopt_step(s->problem.opt) == LOPT_OK);
        s->before = fuzz_state(s->problem.opt, LOPT_WITH_PARAMETERS, &s->before_size);
    }
    live = books.live;
}

static void check_unchanged(void) {
    size_t size = 0;
    void *state = fuzz_state(now->problem.opt, LOPT_WITH_PARAMETERS, &size);
    PROMISE(size == now->before_size && memcmp(state, now->before, size) == 0);
    free(state);
}

/* Puts what the message says behind `said` in behind `key`; whether both are there. */
static int put_right(uint8_t *bytes, size_t size, const char *key, const char *said) {
    const char *right = strstr(lopt_last_error(), said);
    uint8_t *place = memmem(bytes, size, key, strlen(key));
    if (!right || strlen(right) < strlen(said) + 16 || !place) return 0;
    place += strlen(key);
    if ((size_t)(bytes + size - place) < 16) return 0;
    memcpy(place, right + strlen(said), 16);
    return 1;
}

/* Reads it; refused for a digest alone, it gets the right one. */
static lopt_status read_signed(uint32_t contents, uint8_t *bytes, size_t size) {
    lopt_status status = lopt_state_read(now->problem.opt, contents, bytes, size);
    if (status == LOPT_ERROR_MISMATCH && put_right(bytes, size, "\"weights\":\"", "this optimizer has ")) {
        status = lopt_state_read(now->problem.opt, contents, bytes, size);
    }
    if (status == LOPT_ERROR_CHECKPOINT && put_right(bytes, size, "\"checksum\":\"", "the data have checksum ")) {
        status = lopt_state_read(now->problem.opt, contents, bytes, size);
    }
    return status;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (!now) start();
    now = &subjects[0];
    if (size == 0) return 0;
    now = &subjects[data[size - 1] >> 2 & 1];
    uint32_t contents = data[size - 1] & 2 ? 0 : LOPT_WITH_PARAMETERS;
    int is_signed = data[size - 1] & 1;
    size--;
    uint8_t *bytes = malloc(size > 0 ? size : 1);
    memcpy(bytes, data, size);
    books.most = books.bytes;
    size_t held = books.bytes;
    lopt_status status = is_signed ? read_signed(contents, bytes, size) : lopt_state_read(now->problem.opt, contents, bytes, size);
    PROMISE(status == LOPT_OK || status == LOPT_ERROR_CHECKPOINT || status == LOPT_ERROR_MISMATCH);
    PROMISE(books.most - held <= 65536 + 8 * size);
    PROMISE(books.live == live);
    free(bytes);
    if (status != LOPT_OK) {
        fuzz_check_message();
        check_unchanged();
        return 0;
    }
    /* What was accepted can be written, read again and trained with, and that again. */
    for (int step = 0; step < 2; step++) {
        size_t again_size = 0;
        void *again = fuzz_state(now->problem.opt, LOPT_WITH_PARAMETERS, &again_size);
        PROMISE(lopt_state_read(now->problem.opt, LOPT_WITH_PARAMETERS, again, again_size) == LOPT_OK);
        free(again);
        PROMISE(fuzz_is_status(lopt_step(now->problem.opt)));
    }
    PROMISE(lopt_state_read(now->problem.opt, LOPT_WITH_PARAMETERS, now->before, now->before_size) == LOPT_OK);
    check_unchanged();
    return 0;
}
