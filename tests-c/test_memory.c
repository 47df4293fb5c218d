/* The caller's allocator: every allocation goes through it, on the caller's thread, comes back with the same size, and
 * none is made by a step. When the n-th allocation fails, for every n, the call says so, nothing has changed and nothing
 * is lost. */
#define _GNU_SOURCE
#include "files.h"
#include "problem.h"

#include <pthread.h>

/* ---- An allocator that keeps the books --------------------------------------------------------------------------- */

typedef struct block {
    void *pointer;
    size_t size;
} block;

enum { BLOCKS = 4096, TENSORS_COUNTED = 130 };

typedef struct books {
    block blocks[BLOCKS];
    int live;
    long allocations, bytes;
    long fail_from, fail_to; /* these allocations, counted from 1, return NULL */
    size_t largest;          /* that was asked for, granted or not */
    int refused, faults;
    pthread_t thread;
} books;

static void fault(books *b, const char *what, size_t number) {
    if (b->faults++ < 5) printf("allocator: %s (%zu)\n", what, number);
}

static void *books_allocate(void *context, size_t size, size_t alignment) {
    books *b = context;
    if (!pthread_equal(pthread_self(), b->thread)) fault(b, "called from another thread", 0);
    if (alignment == 0 || alignment > 64 || (alignment & (alignment - 1)) != 0) fault(b, "alignment", alignment);
    if (size == 0) fault(b, "size", size);
    b->allocations++;
    if (size > b->largest) b->largest = size;
    if (b->allocations >= b->fail_from && b->allocations <= b->fail_to) {
        b->refused++;
        return NULL;
    }
    /* Exactly as much as was asked for, so that ASan and memcheck see what goes past it, and no more alignment. */
    void *pointer = NULL;
    if (posix_memalign(&pointer, alignment < sizeof(void *) ? sizeof(void *) : alignment, size) != 0) return NULL;
    memset(pointer, 0xa5, size);
    for (int i = 0; i < BLOCKS; i++) {
        if (!b->blocks[i].pointer) {
            b->blocks[i] = (block){pointer, size};
            b->live++;
            b->bytes += (long)size;
            return pointer;
        }
    }
    fault(b, "more blocks than the test has room for", BLOCKS);
    free(pointer);
    return NULL;
}

static void books_deallocate(void *context, void *pointer, size_t size) {
    books *b = context;
    if (!pthread_equal(pthread_self(), b->thread)) fault(b, "called from another thread", 0);
    for (int i = 0; i < BLOCKS; i++) {
        if (b->blocks[i].pointer != pointer || !pointer) continue;
        if (b->blocks[i].size != size) fault(b, "returned with another size", size);
        memset(pointer, 0x5a, b->blocks[i].size);
        free(pointer);
        b->blocks[i].pointer = NULL;
        b->live--;
        b->bytes -= (long)b->blocks[i].size;
        return;
    }
    fault(b, "a pointer that was never given out, or twice", (size_t)pointer);
}

static books *books_open(lopt_allocator *allocator) {
    books *b = check_memory(sizeof *b);
    b->thread = pthread_self();
    allocator->allocate = books_allocate;
    allocator->deallocate = books_deallocate;
    allocator->context = b;
    return b;
}

static void books_close(books *b) {
    CHECK_INT(b->live, 0);
    CHECK_INT(b->bytes, 0);
    CHECK_INT(b->faults, 0);
    free(b);
}

/* ---- Steps and all that ------------------------------------------------------------------------------------------ */

/* The same bits with memory that comes filled with rubbish, from threads or not; steps do not allocate. */
static void test_rubbish_in_memory_changes_no_bit(int32_t threads, int32_t momentum_type) {
    lopt_options options = problem_options();
    lopt_optimizer *opt, *plain;
    lopt_information information = {.struct_size = sizeof information};
    lopt_statistics statistics = {.struct_size = sizeof statistics};
    problem p, q;
    problem_large(&p), problem_large(&q);
    options.momentum_type = momentum_type;
    CHECK_OK(lopt_create(NULL, &options, &plain));
    options.threads = threads;
    books *b = books_open(&options.allocator);
    CHECK_OK(lopt_create(NULL, &options, &opt));
    problem_register(&p, opt), problem_register(&q, plain);
    CHECK_OK(lopt_info(opt, &information));
    CHECK(b->bytes >= information.state_bytes);
    CHECK_INT(information.memory_bytes, b->bytes);
    long allocations = b->allocations;
    int live = b->live;
    for (int step = 0; step < 4; step++) {
        problem_gradient(&p, step);
        CHECK_OK(lopt_step(opt));
        CHECK_OK(lopt_stats(opt, -1, &statistics));
        CHECK_OK(lopt_set_lr_scale(opt, 1));
        CHECK_OK(lopt_bind(opt, 0, p.tensors[0].parameter, p.tensors[0].gradient));
    }
    for (int i = 0; i < p.count; i++) CHECK_OK(lopt_step_tensor(opt, i));
    p.tensors[3].gradient[0] = INFINITY;
    CHECK_STATUS(lopt_step(opt), LOPT_SKIPPED_NONFINITE);
    CHECK_STATUS(lopt_step_tensor(opt, 100), LOPT_ERROR_INVALID_ARGUMENT);
    CHECK_INT(b->allocations, allocations);
    CHECK_INT(b->live, live);
    problem_train(&q, plain, 0, 4);
    CHECK_OK(lopt_step(plain));
    for (int i = 0; i < p.count; i++) CHECK_BITS(p.tensors[i].parameter, q.tensors[i].parameter, p.tensors[i].elements);
    lopt_destroy(opt), lopt_destroy(plain);
    books_close(b);
    problem_free(&p), problem_free(&q);
}

/* Weights have their allocator, the optimizer has its own; the weights may go first. */
static void test_weights_and_optimizer_have_their_own_allocators(void) {
    lopt_options options = problem_options();
    lopt_allocator of_weights;
    lopt_weights *weights;
    lopt_optimizer *opt;
    problem p;
    problem_small(&p);
    books *b = books_open(&options.allocator), *w = books_open(&of_weights);
    CHECK_OK(lopt_weights_builtin("star-authors-rule", &of_weights, &weights));
    CHECK(w->live > 0);
    CHECK_OK(lopt_create(weights, &options, &opt));
    lopt_weights_free(weights);
    books_close(w);
    problem_register(&p, opt);
    problem_train(&p, opt, 0, 2);
    lopt_destroy(opt);
    books_close(b);
    problem_free(&p);
}

/* memory_bytes is all that the allocator has given out and not got back, to the byte, for any number of threads and tensors, any
 * weights, after threads have started, steps, and calls that failed. */
static void test_memory_bytes_is_what_is_held(void) {
    static const int32_t threads[] = {1, 3, 64, 256};
    static float parameters[TENSORS_COUNTED][12], gradients[TENSORS_COUNTED][12];
    for (size_t i = 0; i < 2 * sizeof threads / sizeof *threads; i++) {
        lopt_options options = problem_options();
        lopt_weights *weights = NULL;
        lopt_information information = {.struct_size = sizeof information};
        lopt_optimizer *opt;
        problem p;
        options.threads = threads[i / 2];
        CHECK_OK(lopt_weights_builtin(i % 2 ? "star" : "star-authors-rule", NULL, &weights));
        books *b = books_open(&options.allocator);
        CHECK_OK(lopt_create(weights, &options, &opt));
        lopt_weights_free(weights);
        check_context("%d threads, weights %d", options.threads, (int)i % 2);
        CHECK_OK(lopt_info(opt, &information));
        CHECK_INT(information.memory_bytes, b->bytes);
        for (int t = 0; t < TENSORS_COUNTED; t++) {
            char name[200];
            int64_t shape[2] = {t % 3 + 1, t % 5};
            memset(name, 'n', sizeof name);
            snprintf(name + t % 100, 16, "%d", t);
            CHECK_OK(lopt_add_tensor(opt, name, parameters[t], gradients[t], shape, t % 3, NULL));
            CHECK_OK(lopt_info(opt, &information));
            CHECK_INT(information.memory_bytes, b->bytes);
        }
        b->fail_from = b->allocations + 1, b->fail_to = 1L << 60;
        CHECK_STATUS(lopt_add_tensor(opt, "none", parameters[0], gradients[0], (int64_t[]){12}, 1, NULL),
                     LOPT_ERROR_INVALID_ARGUMENT);
        static float more[2][12];
        CHECK_STATUS(lopt_add_tensor(opt, "none", more[0], more[1], (int64_t[]){12}, 1, NULL), LOPT_ERROR_NO_MEMORY);
        b->fail_from = 1L << 60;
        if (options.threads < 64) { /* as many stacks as these the test can do without */
            problem_large(&p);
            problem_register(&p, opt);
            problem_train(&p, opt, 0, 1);
        }
        CHECK_OK(lopt_info(opt, &information));
        CHECK_INT(information.memory_bytes, b->bytes);
        lopt_destroy(opt);
        books_close(b);
        if (options.threads < 64) problem_free(&p);
    }
    check_context("");
}

/* ---- The n-th allocation fails ----------------------------------------------------------------------------------- */

enum { TENSORS = 40 };

typedef struct scenario {
    books *b;
    lopt_options options;
    lopt_weights *builtin, *loaded, *copied;
    lopt_optimizer *opt;
    float parameters[TENSORS][12], gradients[TENSORS][12];
    void *file, *state;
    size_t file_size, state_size;
    int persistent, failures;
} scenario;

/* What the optimizer holds, taken without letting allocations fail. */
static snapshot held(scenario *s) {
    long from = s->b->fail_from, allocations = s->b->allocations;
    s->b->fail_from = 1L << 60;
    snapshot state = snapshot_of(s->opt, LOPT_WITH_PARAMETERS);
    s->b->fail_from = from, s->b->allocations = allocations;
    return state;
}

/* Whether the allocation that is to fail may be one of the next call, which makes fewer than 64. */
static int is_near(const scenario *s) {
    long ahead = s->b->fail_from - s->b->allocations;
    return s->opt && ahead > 0 && ahead < 64;
}

/* Makes a call; if its allocation failed, sees that nothing happened and makes it again, with memory this time. */
#define TRY(s, call, out) \
    do { \
        snapshot before = {0, NULL}; \
        int live = (s)->b->live, refused = (s)->b->refused; \
        if (is_near(s)) before = held(s); \
        lopt_status status = call; \
        if ((s)->b->refused > refused) { \
            (s)->failures++; \
            CHECK_INT(status, LOPT_ERROR_NO_MEMORY); \
            CHECK(lopt_last_error()[0] != 0); \
            CHECK((out) == NULL); \
            CHECK_INT((s)->b->live, live); \
            (s)->b->fail_from = 1L << 60; \
            if ((s)->opt && CHECK(before.bytes != NULL)) CHECK_SAME_STATE((s)->opt, &before); \
            status = call; \
        } \
        CHECK_INT(status, LOPT_OK); \
        if (before.bytes) snapshot_free(&before); \
    } while (0)

/* `fail` is the allocation that fails, or the first of all that fail until the call has returned; 0: none. Returns
 * whether it was reached. */
static int run_scenario(long fail, int persistent, float *result) {
    static scenario s;
    const char *path = files_path("scenario");
    memset(&s, 0, sizeof s);
    s.options = problem_options();
    s.b = books_open(&s.options.allocator);
    s.b->fail_from = fail > 0 ? fail : 1L << 60;
    s.b->fail_to = persistent ? 1L << 60 : fail;
    s.file = files_read(files_source("weights/star.safetensors"), &s.file_size);
    CHECK(s.file != NULL);
    TRY(&s, lopt_weights_builtin("star", &s.options.allocator, &s.builtin), s.builtin);
    TRY(&s, lopt_weights_from_memory(s.file, s.file_size, &s.options.allocator, &s.copied), s.copied);
    TRY(&s, lopt_weights_load(files_source("weights/star.safetensors"), &s.options.allocator, &s.loaded), s.loaded);
    TRY(&s, lopt_create(s.loaded, &s.options, &s.opt), s.opt);
    for (int i = 0; i < TENSORS; i++) {
        char name[16];
        int64_t shape[2] = {3, 4};
        int32_t rank = i % 3, index = -1;
        snprintf(name, sizeof name, "tensor %d", i);
        for (int j = 0; j < 12; j++) s.gradients[i][j] = problem_random((uint64_t)i, (uint64_t)j);
        TRY(&s, lopt_add_tensor(s.opt, name, s.parameters[i], s.gradients[i], shape, rank, &index), (void *)NULL);
        CHECK_INT(index, i);
    }
    TRY(&s, lopt_add_elsewhere(s.opt, "elsewhere", (int64_t[]){1 << 20, 7}, 2, NULL), (void *)NULL);
    long before_steps = s.b->allocations;
    for (int step = 0; step < 3; step++) CHECK_OK(lopt_step(s.opt));
    CHECK_INT(s.b->allocations, before_steps);
    TRY(&s, lopt_state_size(s.opt, 1, &s.state_size), (void *)NULL);
    s.state = check_memory(s.state_size);
    TRY(&s, lopt_state_write(s.opt, 1, s.state, s.state_size), (void *)NULL);
    TRY(&s, lopt_save(s.opt, path, 1), (void *)NULL);
    CHECK_INT(files_count(files_directory), 1);
    CHECK_OK(lopt_step(s.opt));
    TRY(&s, lopt_restore(s.opt, path, 1), (void *)NULL);
    CHECK_OK(lopt_step(s.opt));
    TRY(&s, lopt_state_read(s.opt, 1, s.state, s.state_size), (void *)NULL);
    CHECK_OK(lopt_step(s.opt));
    memcpy(result, s.parameters, sizeof s.parameters);
    int reached = s.b->refused > 0;
    CHECK_INT(s.failures, reached);
    lopt_destroy(s.opt);
    lopt_weights_free(s.builtin), lopt_weights_free(s.copied), lopt_weights_free(s.loaded);
    books_close(s.b);
    free(s.file), free(s.state);
    remove(path);
    return reached;
}

static void test_failed_allocation_changes_nothing(int persistent) {
    static float expected[TENSORS * 12], found[TENSORS * 12];
    int stride = check_repetitions(1, 19);
    long n = 1;
    CHECK_INT(run_scenario(0, 0, expected), 0);
    for (;; n += stride) {
        check_context("allocation %ld fails%s", n, persistent ? " and all after it" : "");
        memset(found, 0, sizeof found);
        if (!run_scenario(n, persistent, found)) break;
        CHECK_BITS(found, expected, TENSORS * 12);
    }
    check_context("");
    printf("%ld allocations failed in turn\n", (n - 1) / stride);
    CHECK(n > 100);
}

/* Memory for a tensor that no allocator has. */
static void test_tensor_too_large_for_memory_is_refused(void) {
    lopt_options options = problem_options();
    lopt_optimizer *opt;
    books *b = books_open(&options.allocator);
    float *parameter = (float *)(void *)((uintptr_t)1 << 44), *gradient = (float *)(void *)((uintptr_t)1 << 45);
    CHECK_OK(lopt_create(NULL, &options, &opt));
    snapshot before = snapshot_of(opt, LOPT_WITH_PARAMETERS);
    static const int64_t shapes[][2] = {{(int64_t)1 << 40, 1}, {1 << 20, 1 << 20}, {1, (int64_t)1 << 40}, {1 << 30, 3}};
    int live = b->live;
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        for (int32_t rank = 1; rank <= 2; rank++) {
            if (rank == 1 && shapes[i][0] < (1 << 30)) continue;
            /* The allocation of a tensor is refused. Its memory is never touched. */
            b->fail_from = b->allocations + 1, b->fail_to = 1L << 60;
            check_context("shape %zu, rank %d", i, rank);
            CHECK_STATUS(lopt_add_tensor(opt, "huge", parameter, gradient, shapes[i], rank, NULL), LOPT_ERROR_NO_MEMORY);
            CHECK_INT(b->live, live);
            b->fail_from = 1L << 60;
            CHECK_SAME_STATE(opt, &before);
        }
    }
    check_context("");
    snapshot_free(&before);
    lopt_destroy(opt);
    books_close(b);
}

/* Adds a tensor for which there is no memory; whether what was asked for it is as lopt.h has it for star: K = 3. */
static void check_size(lopt_optimizer *opt, books *b, int32_t rank, const int64_t *shape) {
    float *parameter = (float *)(void *)((uintptr_t)1 << 52), *gradient = (float *)(void *)((uintptr_t)1 << 53);
    double n = 1, first = 1, second = 1;
    char text[160] = "";
    for (int32_t axis = 0; axis < rank; axis++) {
        double extent = (double)shape[axis];
        n *= extent;
        if (extent >= first) {
            second = first, first = extent;
        } else if (extent > second) {
            second = extent;
        }
        snprintf(text + strlen(text), sizeof text - strlen(text), "%s%lld", axis ? ", " : "", (long long)shape[axis]);
    }
    check_context("[%s]", text);
    b->fail_from = b->allocations + 1, b->fail_to = 1L << 60, b->largest = 0;
    CHECK_STATUS(lopt_add_tensor(opt, "huge", parameter, gradient, shape, rank, NULL), LOPT_ERROR_NO_MEMORY);
    b->fail_from = 1L << 60;
    double state = rank < 2 ? 28 * n : 16 * n + 12 * (n / first + n / second);
    double most = state + n + (rank < 2 ? 0 : 16 * (n / first + n / second)) + 65536;
    check_that((double)b->largest >= state && (double)b->largest <= most, __FILE__, __LINE__,
               "%.0f bytes asked for, %.2f per parameter; expected are %.2f to %.2f", (double)b->largest,
               (double)b->largest / n, state / n, most / n);
}

/* Every shape that is allowed is either given memory or refused for want of it, and what it needs is what lopt.h says, whatever
 * axes lie between and behind the two largest. */
static void test_state_is_as_large_as_the_header_says(void) {
    static const struct { int32_t rank; int64_t shape[8]; } shapes[] = {
        {2, {2048, 2048}}, {2, {1 << 24, 1}}, {2, {1, 1 << 24}}, {2, {2, (int64_t)1 << 46}}, {2, {(int64_t)1 << 46, 2}},
        {4, {64, 64, 32, 32}}, {4, {64, 64, 60, 60}}, {5, {40, 40, 25, 25, 25}}, {5, {32, 32, 16, 16, 16}},
        {5, {25, 40, 25, 40, 25}}, {5, {25, 25, 25, 40, 40}}, {8, {64, 64, 63, 63, 63, 63, 63, 63}},
        {8, {63, 63, 63, 64, 64, 63, 63, 63}}, {8, {4, 4, 4, 4, 4, 4, 4, 4}}, {8, {17, 17, 17, 17, 17, 17, 17, 17}},
        {8, {18, 18, 17, 17, 17, 17, 17, 17}}, {4, {512, 512, 3, 3}}, {4, {33, 33, 32, 32}}, {3, {17, 16, 15}},
        {3, {1 << 16, 1 << 16, 1 << 15}}, {3, {1 << 16, 1 << 16, 1 << 16}},
    };
    lopt_options options = problem_options();
    lopt_optimizer *opt;
    books *b = books_open(&options.allocator);
    opt = problem_create("star", &options);
    int live = b->live;
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) check_size(opt, b, shapes[i].rank, shapes[i].shape);
    /* Ranks 1 to 8 of up to 2^48 elements: extents of every size, all alike, or two larger ones somewhere among the others. */
    for (uint64_t i = 0; i < (uint64_t)check_repetitions(20000, 500); i++) {
        int64_t shape[8];
        int32_t rank = 1 + (int32_t)(i % 8);
        double left = 48 * fabs((double)problem_random(900, i)), each = left / rank;
        for (int32_t axis = 0; axis < rank; axis++) {
            double random = fabs((double)problem_random(901, 8 * i + (uint64_t)axis));
            double bits = i / 8 % 3 == 0 ? random * left : each - (i / 8 % 3 == 1 ? 0 : 0.1 * random);
            shape[axis] = (int64_t)exp2(fmax(bits, 0));
            left -= bits;
        }
        check_size(opt, b, rank, shape);
    }
    check_context("");
    CHECK_INT(b->live, live);
    lopt_destroy(opt);
    books_close(b);
}

int main(void) {
    files_start();
    test_rubbish_in_memory_changes_no_bit(1, LOPT_F32);
    test_rubbish_in_memory_changes_no_bit(4, LOPT_F32);
    test_rubbish_in_memory_changes_no_bit(2, LOPT_BF16);
    test_weights_and_optimizer_have_their_own_allocators();
    test_memory_bytes_is_what_is_held();
    test_failed_allocation_changes_nothing(0);
    test_failed_allocation_changes_nothing(1);
    test_tensor_too_large_for_memory_is_refused();
    test_state_is_as_large_as_the_header_says();
    files_end();
    return check_end();
}
