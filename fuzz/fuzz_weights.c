/* Weights from anywhere: any bytes are accepted or refused with a message, with no more memory than their size explains, and
 * what was accepted can be trained with. */
#define _GNU_SOURCE
#include "fuzz.h"

static const char *const keys[] = {"kind", "provenance", "hidden_size", "", "__metadata__", "no such key"};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    /* Generous: a header is scanned in place, numbers are copied once or twice. */
    fuzz_books books = {.limit = (size_t)1 << 40};
    lopt_allocator allocator = fuzz_allocator(&books);
    lopt_weights *weights = (lopt_weights *)(uintptr_t)1;
    lopt_status status = lopt_weights_from_memory(data, size, &allocator, &weights);
    PROMISE(status == LOPT_OK || status == LOPT_ERROR_WEIGHTS);
    PROMISE((status == LOPT_OK) == (weights != NULL));
    PROMISE(books.most <= 65536 + 8 * size);
    if (status != LOPT_OK) {
        fuzz_check_message();
        PROMISE(books.live == 0);
        return 0;
    }
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        const char *value = lopt_weights_metadata(weights, keys[i]);
        if (value) PROMISE(strlen(value) <= size);
    }
    fuzz_problem p;
    fuzz_start(&p, weights, &allocator, LOPT_F32);
    for (int step = 0; step < 2; step++) PROMISE(lopt_step(p.opt) == LOPT_OK);
    size_t state_size = 0;
    void *state = fuzz_state(p.opt, LOPT_WITH_PARAMETERS, &state_size);
    PROMISE(lopt_step(p.opt) == LOPT_OK);
    PROMISE(lopt_state_read(p.opt, LOPT_WITH_PARAMETERS, state, state_size) == LOPT_OK);
    free(state);
    lopt_destroy(p.opt);
    lopt_weights_free(weights);
    PROMISE(books.live == 0 && books.bytes == 0);
    return 0;
}
