/* Any sequence of calls, with arguments good and bad: an input is read as a program. Each call returns a named status; one
 * that fails changes nothing and leaves a message; memory runs out where the input says; at the end nothing is out. */
#define _GNU_SOURCE
#include "fuzz.h"

#include <math.h>
#include <unistd.h>

enum { OPTIMIZERS = 2, WEIGHTS = 2, SAVED = 2, POOL = 2048, MOST_CALLS = 64 };

/* A tensor of POOL elements, of up to 8 bytes each, may begin anywhere in the first third, and some bytes beside a float. */
enum { FLOATS = 3 * POOL + 1 };
static float parameters[FLOATS], gradients[FLOATS], parameters_before[FLOATS], gradients_before[FLOATS];
static char directory[64], paths[3][96];

typedef struct host {
    const uint8_t *at, *end;
    fuzz_books books;
    lopt_optimizer *opt[OPTIMIZERS];
    int is_swapped[OPTIMIZERS]; /* averages are where parameters were */
    lopt_weights *weights[WEIGHTS];
    struct { void *bytes; size_t size; uint32_t contents; } saved[SAVED];
    int gather_fails;
} host;

/* ---- Arguments ---------------------------------------------------------------------------------------------------- */

static unsigned next(host *h) { return h->at < h->end ? *h->at++ : 0; }
#define PICK(h, table) ((table)[next(h) % (sizeof(table) / sizeof *(table))])

/* Valid ones are as often as not; every bad one is one that some caller will pass one day. */
static double a_number(host *h) {
    static const double numbers[] = {1, 0, 0.5, 1, 2, 1e-3, 10, 1e30, -1, -0.0, 1e31, 5e-324, NAN, INFINITY, -INFINITY, 1e300};
    return PICK(h, numbers);
}

static float an_element(host *h) {
    static const float elements[] = {0, 1, -1, 0.01f, -0.3f, 100, 1e-40f, -1e-45f, 3e38f, -3e38f, 1e15f, 1e16f, NAN,
                                     INFINITY, -INFINITY, -0.0f};
    return PICK(h, elements);
}

static const char *a_name(host *h) {
    static const char *const names[] = {"a", "b", "c", "layer/0.weight", "\xc3\xa9\"\\", "", NULL, "\n", "\xff\xfe",
                                        "__metadata__", "d", "e"};
    return PICK(h, names);
}

static int32_t an_index(host *h) {
    static const int32_t indices[] = {0, 1, 2, 3, 4, 0, -1, INT32_MIN, INT32_MAX, 1 << 20};
    return PICK(h, indices);
}

static int64_t an_extent(host *h) {
    static const int64_t extents[] = {1, 2, 3, 5, 16, 17, 4, 7, 33, 0, 64, -1, INT64_MIN, INT64_MAX, (int64_t)1 << 31,
                                      (int64_t)1 << 47};
    return PICK(h, extents);
}

static uint32_t some_contents(host *h) {
    static const uint32_t contents[] = {0, LOPT_WITH_PARAMETERS, LOPT_WITH_PARAMETERS | LOPT_SHARD, 0, LOPT_SHARD, 0x80000001u};
    return PICK(h, contents);
}

static const char *a_path(host *h) {
    static const char *const choices[] = {paths[0], paths[1], paths[0], paths[2], "", "/", NULL};
    return PICK(h, choices);
}

static lopt_optimizer *an_optimizer(host *h) {
    unsigned i = next(h) % (OPTIMIZERS + 1);
    return i < OPTIMIZERS ? h->opt[i] : h->opt[0];
}

static void run_tasks(void *context, int32_t count, lopt_task task, void *task_context) {
    (void)context;
    for (int32_t i = count; i-- > 0;) task(task_context, i);
}

/* Of one part. */
static int gather(void *context, const double *own, double *all, int64_t count) {
    const host *h = context;
    if (h->gather_fails) return 5;
    memcpy(all, own, 8 * (size_t)count);
    return 0;
}

static lopt_options some_options(host *h) {
    static const int32_t threads[] = {1, 1, 1, 2, 1, 0, -1, 257};
    static const int32_t choices[] = {0, 1, 2, 3, 0, -1, 4};
    static const int64_t totals[] = {0, 1000, -1, INT64_MAX};
    lopt_options o;
    PROMISE(lopt_options_init(&o, sizeof o) == LOPT_OK);
    unsigned which = next(h);
    o.threads = 1;
    if (which & 1) o.threads = PICK(h, threads);
    if (which & 2) o.max_isa = PICK(h, choices);
    if (which & 4) o.nonfinite = PICK(h, choices);
    if (which & 8) o.lr_scale = a_number(h), o.weight_decay = a_number(h), o.gradient_scale = a_number(h);
    if (which & 16) o.total_steps = PICK(h, totals), o.max_update_ratio = a_number(h), o.max_gradient_norm = a_number(h);
    if (which & 32) o.parallel_for.run = run_tasks, o.threads = o.threads == 0 ? 1 : o.threads;
    if (which & 64) o.struct_size = next(h);
    o.allocator = fuzz_allocator(&h->books);
    o.gather = (lopt_gather){gather, h, 0, 1};
    if ((which & 192) == 192) o.allocator.deallocate = NULL;
    if ((which & 192) == 128) {
        unsigned choice = next(h);
        o.average = choices[choice % 7], o.average_span = a_number(h);
        if (choice >= 128) o.momentum_type = choice & 1 ? choices[choice / 2 % 7] : LOPT_BF16;
    }
    return o;
}

/* ---- One call ----------------------------------------------------------------------------------------------------- */

static int *swapped(host *h, const lopt_optimizer *opt) { return &h->is_swapped[opt == h->opt[0] ? 0 : 1]; }

/* Bytes of what the optimizer holds, with memory that does not fail. Parameters only if all are bound; nothing of averages that
 * are where parameters were. */
static void *held(host *h, const lopt_optimizer *opt, size_t *size) {
    if (opt && *swapped(h, opt)) return NULL;
    fuzz_books before = h->books;
    int fails = h->gather_fails;
    h->books.fail_at = h->gather_fails = 0;
    int bound = opt && lopt_state_size(opt, LOPT_WITH_PARAMETERS, size) == LOPT_OK;
    void *bytes = opt ? fuzz_state(opt, bound ? LOPT_WITH_PARAMETERS : 0, size) : NULL;
    h->books = before, h->gather_fails = fails;
    return bytes;
}

static void create(host *h) {
    unsigned slot = next(h) % OPTIMIZERS;
    lopt_options options = some_options(h);
    unsigned of = next(h) % (WEIGHTS + 2);
    lopt_optimizer *made = (lopt_optimizer *)(uintptr_t)1;
    lopt_status status = lopt_create(of < WEIGHTS ? h->weights[of] : NULL, &options, &made);
    PROMISE(fuzz_is_status(status) && (status == LOPT_OK) == (made != NULL));
    if (status != LOPT_OK) {
        fuzz_check_message();
        return;
    }
    lopt_destroy(h->opt[slot]);
    h->opt[slot] = made, h->is_swapped[slot] = 0;
}

static void make_weights(host *h) {
    static const char *const names[] = {NULL, "star", "star-authors-rule", "", "no such"};
    static const char *const files[] = {"weights/star.safetensors", "no/such", "", "/dev/null", NULL};
    unsigned slot = next(h) % WEIGHTS, how = next(h);
    lopt_allocator allocator = fuzz_allocator(&h->books), *given = how & 8 ? NULL : &allocator;
    lopt_weights *made = (lopt_weights *)(uintptr_t)1;
    lopt_status status;
    if (how & 1) {
        size_t size = (size_t)(h->end - h->at);
        status = lopt_weights_from_memory(how & 2 ? NULL : h->at, how & 4 ? 0 : size, given, &made);
    } else if (how & 2) {
        status = lopt_weights_load(PICK(h, files), given, &made);
    } else {
        status = lopt_weights_builtin(PICK(h, names), given, &made);
    }
    PROMISE(fuzz_is_status(status) && (status == LOPT_OK) == (made != NULL));
    if (status != LOPT_OK) {
        fuzz_check_message();
        return;
    }
    lopt_weights_free(h->weights[slot]);
    h->weights[slot] = made;
}

static lopt_element a_type(host *h) {
    static const int types[] = {LOPT_F16, LOPT_BF16, LOPT_F64, LOPT_F32, LOPT_F16, LOPT_F64, LOPT_BF16, LOPT_F32, 4, -1};
    return (lopt_element)PICK(h, types);
}

/* At addresses of any alignment. */
static lopt_status add_typed(host *h, lopt_optimizer *opt, float *p, const float *g, const int64_t *shape, int32_t rank, int is_odd) {
    lopt_element parameter = a_type(h), gradient = a_type(h);
    unsigned odd = is_odd ? next(h) : 0;
    return lopt_add_typed(opt, a_name(h), p ? (char *)p + odd % 4 : NULL, parameter,
                          g ? (const char *)g + odd / 4 % 4 : NULL, gradient, shape, rank, NULL);
}

static lopt_status add(host *h, lopt_optimizer *opt) {
    int64_t shape[9];
    static const int32_t ranks[] = {0, 1, 2, 2, 3, 4, 8, 9, -1, 2};
    int32_t rank = PICK(h, ranks), index = -7;
    const int64_t most = 1 << 30;
    int64_t elements = 1;
    for (int i = 0; i < 9; i++) shape[i] = 1;
    for (int32_t i = 0; i < rank && i < 9; i++) {
        shape[i] = an_extent(h);
        if (shape[i] == 0) elements = 0;
        if (elements > 0) elements = shape[i] < 0 || shape[i] > most || elements * shape[i] > most ? most : elements * shape[i];
    }
    size_t place = next(h) * 8u, place_gradient = next(h) & 1 ? place : (place + 3) % POOL;
    int null = next(h) % 16;
    if (null == 5) return lopt_add_elsewhere(opt, a_name(h), shape, rank, &index);
    float *p = null == 1 ? NULL : parameters + place;
    const float *g = null == 2 ? NULL : null == 3 ? p : gradients + place_gradient;
    if (elements <= POOL && (place + (size_t)elements > POOL || place_gradient + (size_t)elements > POOL)) {
        p = null == 1 ? NULL : parameters, g = null == 2 ? NULL : gradients;
    }
    /* More than the pool has is asked for only where it must be refused, for the shape or for the memory of its state. */
    if (elements > POOL && elements < (int64_t)1 << 22) return LOPT_OK;
    if (elements > POOL) {
        lopt_status status = lopt_add_tensor(opt, a_name(h), p, g, shape, rank, &index);
        PROMISE(status != LOPT_OK);
        return status;
    }
    if (null == 6 || null == 7) return add_typed(h, opt, p, g, shape, rank, null == 6);
    const char *name = a_name(h);
    if (null == 6) {
        lopt_rows rows = {place & 8 ? an_extent(h) : 0, shape[0]};
        return lopt_add_rows(opt, name, &rows, p, LOPT_F32, g, LOPT_F32, shape, rank, &index);
    }
    return lopt_add_tensor(opt, name, p, g, null == 4 ? NULL : shape, rank, null & 8 ? NULL : &index);
}

/* Places that collide as often as not, swaps among them; indices good, bad and repeated. */
static lopt_status bind_many(host *h, lopt_optimizer *opt) {
    static const int32_t counts[] = {0, 1, 2, 2, 3, 4, -1, INT32_MIN};
    lopt_binding bindings[4];
    int32_t count = PICK(h, counts);
    unsigned which = next(h);
    for (int32_t i = 0; i < count; i++) {
        unsigned place = next(h) * 8u % POOL;
        int32_t index = which & 1 ? an_index(h) : i;
        bindings[i] = (lopt_binding){index, which & 4 ? NULL : parameters + place, which & 8 ? NULL : gradients + place};
    }
    return lopt_bind_many(opt, count, which & 2 ? NULL : bindings);
}

static lopt_status set_tensor(host *h, lopt_optimizer *opt) {
    static const int32_t flags[] = {0, 1, 0, 1, 2, -1};
    lopt_tensor_options o;
    PROMISE(lopt_tensor_options_init(&o, sizeof o) == LOPT_OK);
    unsigned which = next(h);
    if (which & 1) o.lr_scale = a_number(h);
    if (which & 2) o.weight_decay_scale = a_number(h);
    if (which & 4) o.frozen = PICK(h, flags);
    if (which & 8) o.reserved = (int32_t)next(h);
    if (which & 16) o.struct_size = next(h);
    return lopt_set_tensor_options(opt, an_index(h), which & 32 ? NULL : &o);
}

static lopt_status read_state(host *h, lopt_optimizer *opt) {
    unsigned which = next(h), slot = which % SAVED;
    size_t size = h->saved[slot].size;
    if (!h->saved[slot].bytes) return lopt_state_read(opt, some_contents(h), NULL, which & 8 ? 0 : 100);
    if (!(which & 2)) return lopt_state_read(opt, h->saved[slot].contents, h->saved[slot].bytes, size);
    /* Damaged: one byte changed, or cut. */
    uint8_t *bytes = malloc(size);
    memcpy(bytes, h->saved[slot].bytes, size);
    size_t place = (next(h) * 256u + next(h)) % size;
    bytes[place] ^= (uint8_t)(which >> 3);
    lopt_status status = lopt_state_read(opt, some_contents(h), bytes, which & 4 ? place : size);
    free(bytes);
    return status;
}

static lopt_status keep_state(host *h, lopt_optimizer *opt) {
    unsigned which = next(h), slot = which % SAVED;
    uint32_t contents = some_contents(h);
    size_t size = 0;
    lopt_status status = lopt_state_size(opt, contents, &size);
    if (status != LOPT_OK) return status;
    void *bytes = malloc(size);
    status = lopt_state_write(opt, contents, bytes, which & 2 ? size - 1 : size);
    if (status != LOPT_OK) {
        free(bytes);
        return status;
    }
    free(h->saved[slot].bytes);
    h->saved[slot].bytes = bytes, h->saved[slot].size = size, h->saved[slot].contents = contents;
    return LOPT_OK;
}

static lopt_status look(host *h, lopt_optimizer *opt) {
    unsigned which = next(h);
    lopt_statistics s = {.struct_size = which & 1 ? next(h) : sizeof s};
    lopt_information i = {.struct_size = which & 2 ? next(h) : sizeof i};
    lopt_status first = lopt_stats(opt, which & 4 ? an_index(h) : -1, which & 8 ? NULL : &s);
    PROMISE(fuzz_is_status(first));
    lopt_gradients g = {.struct_size = which & 32 ? next(h) : sizeof g};
    if (which & 64) return lopt_inspect_gradients(opt, which & 4 ? an_index(h) : -1, which & 128 ? NULL : &g);
    return lopt_info(opt, which & 16 ? NULL : &i);
}

static void fill(host *h) {
    unsigned which = next(h), begin = next(h) * 8u % POOL;
    float value = an_element(h);
    float *to = which & 1 ? parameters : gradients;
    if (which & 8) h->gather_fails = which & 1;
    unsigned count = which & 2 ? 1 : 1 + next(h) * 8u;
    if (which & 8) { /* one number of another type, several times */
        static const double wide[] = {0.01, 1e300, -1e-300, 0x1p50, 1.0 / 3, -7, NAN, -INFINITY};
        static const uint16_t half[] = {0x3c00, 0x3f80, 1, 0x7bff, 0x7c00, 0x7f80, 0xffff, 0x8000};
        char *bytes = (char *)to;
        size_t size = which & 16 ? 8 : 2;
        for (unsigned i = 0; i < count && begin * 4 + (i + 1) * size <= 4 * FLOATS; i++)
            memcpy(bytes + begin * 4 + i * size, which & 16 ? (const void *)&wide[which >> 5] : (const void *)&half[which >> 5], size);
        return;
    }
    for (unsigned i = begin; i < POOL && i < begin + count; i++) to[i] = which & 4 ? value * (float)(i % 13) : value;
}

static lopt_status add_flat(host *h, lopt_optimizer *opt) {
    static const int64_t offsets[] = {0, 16, 64, 256, 17, -1, INT64_MAX, ((int64_t)1 << 48) + 1};
    static const int32_t ranks[] = {0, 1, 2, 2, 3, 9, -1, 2};
    lopt_flat_entry table[3];
    unsigned which = next(h);
    memset(table, 0, sizeof table);
    for (int i = 0; i < 3; i++) {
        table[i].name = a_name(h), table[i].offset = PICK(h, offsets), table[i].rank = PICK(h, ranks);
        for (int axis = 0; axis < 3; axis++) table[i].shape[axis] = an_extent(h) % 13;
    }
    float *p = which & 1 ? NULL : parameters;
    const float *g = which & 2 ? NULL : gradients;
    int32_t count = (int32_t)(which / 8 % 5) - 1;
    if (which < 128) return lopt_add_flat(opt, p, g, which == 4 ? NULL : table, count);
    lopt_element type = a_type(h);
    return lopt_add_flat_typed(opt, p, type, g, a_type(h), which == 132 ? NULL : table, count);
}

static lopt_status step_with(host *h, lopt_optimizer *opt) {
    lopt_information i = {.struct_size = sizeof i};
    float *p[8], *g[8];
    unsigned which = next(h);
    for (int k = 0; k < 8; k++) p[k] = parameters + next(h) * 8u % POOL, g[k] = gradients + next(h) * 8u % POOL;
    if (which & 1) p[which / 8 % 8] = NULL;
    int32_t count = lopt_info(opt, &i) == LOPT_OK && i.tensors <= 8 ? i.tensors : an_index(h) % 8;
    return lopt_step_with(opt, which & 2 ? an_index(h) % 8 : count, which == 4 ? NULL : p, which == 6 ? NULL : g);
}

static lopt_status average(host *h, lopt_optimizer *opt) {
    static float out[POOL];
    static const int64_t counts[] = {1, 16, 6, 0, -1};
    if (next(h) & 1) return lopt_average_get(opt, an_index(h), out, PICK(h, counts));
    lopt_status status = lopt_average_swap(opt);
    if (status == LOPT_OK) *swapped(h, opt) ^= 1;
    return status;
}

static lopt_status set_number(host *h, lopt_optimizer *opt) {
    switch (next(h) % 4) {
    case 0: return lopt_set_gradient_scale(opt, a_number(h));
    case 2: return lopt_set_total_steps(opt, (int64_t)next(h) % 9 - 1);
    case 3: return average(h, opt);
    default: return lopt_set_lr_scale(opt, a_number(h));
    }
}

/* Calls on an optimizer: when one fails, everything is as it was; gradients are so whatever it returns. */
static void call(host *h, unsigned code) {
    lopt_optimizer *opt = an_optimizer(h);
    size_t size = 0, size_now = 0;
    void *before = held(h, opt, &size);
    memcpy(parameters_before, parameters, sizeof parameters), memcpy(gradients_before, gradients, sizeof gradients);
    lopt_status status = LOPT_OK;
    switch (code) {
    case 0: status = next(h) % 4 == 3 ? add_flat(h, opt) : add(h, opt); break;
    case 1: status = lopt_step(opt); break;
    case 2: status = lopt_step_tensor(opt, an_index(h)); break;
    case 3: status = set_number(h, opt); break;
    case 4: status = set_tensor(h, opt); break;
    case 5: status = keep_state(h, opt); break;
    case 6: status = read_state(h, opt); break;
    case 7: status = look(h, opt); break;
    case 8: status = lopt_bind(opt, an_index(h), next(h) & 1 ? NULL : parameters, next(h) & 1 ? NULL : gradients); break;
    case 9: status = lopt_save(opt, a_path(h), some_contents(h)); break;
    case 10: status = lopt_restore(opt, a_path(h), some_contents(h)); break;
    case 11: status = next(h) & 1 ? step_with(h, opt) : bind_many(h, opt); break;
    }
    PROMISE(fuzz_is_status(status));
    PROMISE(status != LOPT_ERROR_WEIGHTS);
    PROMISE(memcmp(gradients, gradients_before, sizeof gradients) == 0);
    if (status == LOPT_ERROR_NO_MEMORY) PROMISE(h->books.refused);
    if (status < 0) {
        fuzz_check_message();
        void *now = held(h, opt, &size_now);
        PROMISE(size == size_now && (!before || memcmp(before, now, size) == 0));
        PROMISE(memcmp(parameters, parameters_before, sizeof parameters) == 0);
        free(now);
    }
    free(before);
}

static void start(void) {
    const char *parent = getenv("TMPDIR");
    snprintf(directory, sizeof directory, "%.40s/lopt-fuzz-XXXXXX", parent ? parent : "/tmp");
    PROMISE(mkdtemp(directory) != NULL);
    for (int i = 0; i < 2; i++) snprintf(paths[i], sizeof paths[i], "%s/%d", directory, i);
    snprintf(paths[2], sizeof paths[2], "%s/missing/0", directory);
}

static void clear_files(void) { unlink(paths[0]), unlink(paths[1]); }

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    host h = {.at = data, .end = data + size, .books = {.limit = (size_t)1 << 24}};
    if (!directory[0]) {
        start();
        atexit(clear_files);
    }
    clear_files();
    /* With so few digits they are finite for every type. */
    for (int i = 0; i < FLOATS; i++) parameters[i] = 0x1p-7f * (float)(i % 29 - 14), gradients[i] = 0x1p-6f * (float)(i % 23 - 11);
    for (int i = 0; i < MOST_CALLS && h.at < h.end; i++) {
        unsigned code = next(&h) % 24;
        h.books.refused = 0;
        h.books.fail_at = code >= 20 ? h.books.made + 1 + next(&h) % 16 : 0;
        if (code >= 20) code = next(&h) % 20;
        switch (code) {
        case 11: case 12: create(&h); break;
        case 13: make_weights(&h); break;
        case 14: fill(&h); break;
        case 15: {
            unsigned slot = next(&h) % OPTIMIZERS;
            lopt_destroy(h.opt[slot]);
            h.opt[slot] = NULL, h.is_swapped[slot] = 0;
            break;
        }
        case 16: {
            unsigned slot = next(&h) % WEIGHTS;
            lopt_weights_free(h.weights[slot]);
            h.weights[slot] = NULL;
            break;
        }
        default: call(&h, code == 19 ? 11 : code > 16 ? code - 17 : code); break;
        }
    }
    for (int i = 0; i < OPTIMIZERS; i++) lopt_destroy(h.opt[i]);
    for (int i = 0; i < WEIGHTS; i++) lopt_weights_free(h.weights[i]);
    for (int i = 0; i < SAVED; i++) free(h.saved[i].bytes);
    PROMISE(h.books.live == 0 && h.books.bytes == 0);
    return 0;
}
