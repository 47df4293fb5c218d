/* Tensors of every rank, size and alignment: no byte beside them is touched, and how they lie in memory makes no
 * difference. */
#define _GNU_SOURCE
#include "problem.h"

#include <sys/mman.h>
#include <unistd.h>

/* Trains one tensor for `steps` steps on gradients that depend on element and step alone. */
static void train(const char *name, int32_t rank, const int64_t *shape, int64_t elements, float *parameter,
                  float *gradient, int steps) {
    lopt_options options = problem_options();
    lopt_optimizer *opt;
    CHECK_OK(lopt_create(NULL, &options, &opt));
    if (CHECK_OK(lopt_add_tensor(opt, name, parameter, gradient, shape, rank, NULL))) {
        for (int step = 0; step < steps; step++) {
            for (int64_t j = 0; j < elements; j++) {
                float g = 0.1f * problem_random(50 + (uint64_t)step, (uint64_t)j);
                memcpy((char *)gradient + 4 * j, &g, 4);
            }
            CHECK_OK(lopt_step(opt));
        }
    }
    lopt_destroy(opt);
}

static void start(float *parameter, int64_t elements) {
    for (int64_t j = 0; j < elements; j++) {
        float p = 0.5f * problem_random(7, (uint64_t)j);
        memcpy((char *)parameter + 4 * j, &p, 4);
    }
}

/* The parameters after three steps; the caller frees them. */
static float *trained(int32_t rank, const int64_t *shape) {
    int64_t elements = 1;
    for (int32_t axis = 0; axis < rank; axis++) elements *= shape[axis];
    float *parameter = check_memory(4 * (size_t)elements), *gradient = check_memory(4 * (size_t)elements);
    start(parameter, elements);
    train("t", rank, shape, elements, parameter, gradient, 3);
    free(gradient);
    return parameter;
}

/* Parameter and gradient at each of 64 byte offsets, with bytes around them that must stay. */
static void test_any_alignment_gives_the_same_bits(void) {
    static const struct { int32_t rank; int64_t shape[2]; } cases[] = {
        {0, {0}}, {1, {3}}, {1, {100}}, {2, {3, 5}}, {2, {19, 33}}, {2, {5, 128}}, {2, {70, 2}},
    };
    static unsigned char memory[2][4096];
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        int64_t elements = cases[c].rank == 0 ? 1 : cases[c].shape[0] * (cases[c].rank == 2 ? cases[c].shape[1] : 1);
        size_t size = 4 * (size_t)elements;
        float *expected = trained(cases[c].rank, cases[c].shape);
        for (size_t offset = 0; offset < 64; offset++) {
            size_t at[2] = {64 + offset, 64 + offset * 37 % 64};
            check_context("case %zu, offsets %zu and %zu", c, at[0], at[1]);
            memset(memory, 0xa5, sizeof memory);
            float *parameter = (float *)(void *)(memory[0] + at[0]), *gradient = (float *)(void *)(memory[1] + at[1]);
            start(parameter, elements);
            train("t", cases[c].rank, cases[c].shape, elements, parameter, gradient, 3);
            CHECK_BITS(parameter, expected, elements);
            int touched = 0;
            for (int m = 0; m < 2; m++) {
                for (size_t i = 0; i < sizeof memory[m]; i++) {
                    touched += (i < at[m] || i >= at[m] + size) && memory[m][i] != 0xa5;
                }
            }
            CHECK_INT(touched, 0);
        }
        free(expected);
    }
    check_context("");
}

/* Memory that ends at a page that may not be touched: a read or write past the end would be a segmentation fault. */
static void *at_page_end(size_t size, void **mapping, size_t *mapped) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE), data = (size + page - 1) / page * page;
    *mapped = data + page;
    *mapping = mmap(NULL, *mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (*mapping == MAP_FAILED || mprotect((char *)*mapping + data, page, PROT_NONE) != 0) {
        printf("the test cannot map memory\n");
        exit(2);
    }
    return (char *)*mapping + data - size;
}

static void check_at_page_end(int32_t rank, const int64_t *shape) {
    int64_t elements = 1;
    void *mappings[2];
    size_t mapped[2];
    for (int32_t axis = 0; axis < rank; axis++) elements *= shape[axis];
    float *expected = trained(rank, shape);
    float *parameter = at_page_end(4 * (size_t)elements, &mappings[0], &mapped[0]);
    float *gradient = at_page_end(4 * (size_t)elements, &mappings[1], &mapped[1]);
    start(parameter, elements);
    train("t", rank, shape, elements, parameter, gradient, 3);
    CHECK_BITS(parameter, expected, elements);
    int moved = 0;
    for (int64_t j = 0; j < elements; j++) {
        moved += isfinite(parameter[j]) && parameter[j] != 0.5f * problem_random(7, (uint64_t)j);
    }
    /* Momenta that nearly cancel may leave an element where it was. */
    check_that(moved >= elements - elements / 100, __FILE__, __LINE__, "%d of %d elements moved", moved, (int)elements);
    for (int i = 0; i < 2; i++) munmap(mappings[i], mapped[i]);
    free(expected);
}

/* Sizes around the width of vectors and of chunks of work, up to the last byte. */
static void test_every_size_is_stepped_to_its_last_byte(void) {
    int stride = check_repetitions(1, 5);
    for (int64_t n = 1; n <= 70; n += stride) {
        check_context("[%d]", (int)n);
        check_at_page_end(1, (int64_t[]){n});
    }
    static const int64_t extents[] = {1, 2, 3, 4, 7, 8, 15, 16, 17, 24, 31, 33, 63, 64, 65, 80, 100, 129};
    int count = sizeof extents / sizeof *extents;
    for (int r = 0; r < count; r += stride) {
        for (int c = 0; c < count; c += stride) {
            check_context("[%d, %d]", (int)extents[r], (int)extents[c]);
            check_at_page_end(2, (int64_t[]){extents[r], extents[c]});
        }
    }
    static const int64_t large[][3] = {
        {32767, 1, 1}, {32768, 1, 1}, {32769, 1, 1}, {8, 4096, 1}, {7, 4097, 1}, {9, 4111, 1}, {4100, 9, 1},
        {40000, 1, 1}, {1, 40000, 1}, {300, 5, 40}, {3, 200, 90}, {90, 3, 200}, {2, 181, 182}, {64, 33, 17},
    };
    for (size_t i = 0; i < sizeof large / sizeof *large; i++) {
        check_context("large shape %zu", i);
        check_at_page_end(3, large[i]);
    }
    check_at_page_end(1, (int64_t[]){32769});
    check_context("");
}

/* Extents of 1 may be put anywhere as long as two larger ones remain. */
static void test_extents_of_one_change_no_bit(void) {
    static const struct { int32_t rank; int64_t shape[8]; } same[][5] = {
        {{0, {0}}, {1, {1}}},
        {{2, {5, 7}}, {3, {1, 5, 7}}, {3, {5, 1, 7}}, {4, {5, 7, 1, 1}}, {8, {1, 1, 5, 1, 1, 7, 1, 1}}},
        {{2, {7, 5}}, {3, {7, 5, 1}}, {8, {1, 7, 1, 1, 1, 1, 1, 5}}},
        {{3, {6, 3, 4}}, {4, {6, 1, 3, 4}}, {5, {1, 6, 3, 1, 4}}, {6, {6, 3, 1, 1, 4, 1}},
         {8, {1, 6, 1, 3, 1, 4, 1, 1}}},
        {{4, {2, 9, 3, 8}}, {5, {2, 9, 1, 3, 8}}, {6, {1, 2, 1, 9, 3, 8}}, {8, {1, 2, 9, 1, 3, 1, 8, 1}}},
        {{5, {2, 3, 5, 4, 3}}, {6, {2, 3, 5, 4, 1, 3}}, {8, {1, 2, 3, 1, 5, 4, 3, 1}}},
        {{6, {2, 3, 2, 3, 2, 3}}, {7, {2, 3, 1, 2, 3, 2, 3}}, {8, {2, 3, 2, 1, 3, 2, 1, 3}}},
    };
    for (size_t group = 0; group < sizeof same / sizeof *same; group++) {
        int64_t elements = 1;
        for (int32_t axis = 0; axis < same[group][0].rank; axis++) elements *= same[group][0].shape[axis];
        float *expected = trained(same[group][0].rank, same[group][0].shape);
        for (int i = 1; i < 5 && (same[group][i].rank > 0); i++) {
            check_context("group %zu, shape %d", group, i);
            float *found = trained(same[group][i].rank, same[group][i].shape);
            CHECK_BITS(found, expected, elements);
            free(found);
        }
        free(expected);
    }
    int64_t ones[8] = {1, 1, 1, 1, 1, 1, 1, 1}, twos[8] = {2, 2, 2, 2, 2, 2, 2, 2};
    for (int32_t rank = 0; rank <= 8; rank++) {
        check_context("rank %d", rank);
        check_at_page_end(rank, ones);
        check_at_page_end(rank, twos);
    }
    check_context("");
}

/* The transposed matrix on the transposed gradient: rows become columns. Not the same bits, because sums over the tensor
 * are taken in the order of memory. */
static void test_transposed_matrix_takes_the_same_steps(void) {
    static const int64_t shapes[][2] = {{3, 5}, {16, 48}, {40, 33}, {7, 129}, {200, 301}};
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++) {
        int64_t m = shapes[s][0], n = shapes[s][1], elements = m * n;
        size_t size = 4 * (size_t)elements;
        float *p = check_memory(size), *g = check_memory(size), *pt = check_memory(size), *gt = check_memory(size);
        lopt_options options = problem_options();
        lopt_optimizer *opt;
        check_context("[%d, %d]", (int)m, (int)n);
        start(p, elements);
        for (int64_t i = 0; i < m; i++) {
            for (int64_t j = 0; j < n; j++) pt[j * m + i] = p[i * n + j];
        }
        opt = problem_create("star", &options); /* the first and the last layer are alike to it */
        CHECK_OK(lopt_add_tensor(opt, "as it is", p, g, (int64_t[]){m, n}, 2, NULL));
        CHECK_OK(lopt_add_tensor(opt, "transposed", pt, gt, (int64_t[]){n, m}, 2, NULL));
        double difference = 0, moved = 0;
        float *begin = check_memory(size);
        memcpy(begin, p, size);
        for (int step = 0; step < 5; step++) {
            for (int64_t i = 0; i < m; i++) {
                for (int64_t j = 0; j < n; j++) {
                    g[i * n + j] = gt[j * m + i] = problem_random((uint64_t)step + 3, (uint64_t)(i * n + j));
                }
            }
            CHECK_OK(lopt_step(opt));
        }
        for (int64_t i = 0; i < m; i++) {
            for (int64_t j = 0; j < n; j++) {
                moved = fmax(moved, fabs((double)p[i * n + j] - begin[i * n + j]));
                difference = fmax(difference, fabs((double)p[i * n + j] - pt[j * m + i]));
            }
        }
        CHECK_NEAR(difference / moved, 0, 2e-5);
        lopt_destroy(opt);
        free(p), free(g), free(pt), free(gt), free(begin);
    }
    check_context("");
}

/* The axes but the two largest are batches: wherever they lie, each of their indices has a matrix with statistics of its own. The
 * same tensor with all of them in front takes the same steps, but for the order of sums; and any number of threads the same bits. The
 * tensors are around and above the sizes at which they are cut into pieces of work, along rows, columns and inner axes. */
static void test_other_axes_are_batches_wherever_they_lie(void) {
    static const struct { int32_t rank; int64_t shape[6]; } cases[] = {
        {3, {41, 37, 20}}, {3, {37, 41, 20}}, {4, {41, 37, 5, 4}}, {4, {41, 37, 19, 19}}, {4, {37, 41, 19, 19}},
        {3, {70, 65, 64}}, {3, {35, 34, 33}}, {3, {90, 280, 17}}, {5, {2, 23, 3, 22, 21}}, {6, {2, 23, 3, 22, 12, 13}},
        {5, {9, 8, 7, 7, 7}}, {6, {7, 9, 7, 8, 7, 7}}, {3, {300, 40, 16}}, {3, {40, 300, 33}},
    };
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        int32_t rank = cases[c].rank, first = 0, second = 0, order[6], count = 0;
        int64_t elements = 1, permuted[6];
        if (c % (size_t)check_repetitions(1, 4) != 0) continue;
        for (int32_t axis = 0; axis < rank; axis++) {
            elements *= cases[c].shape[axis];
            if (cases[c].shape[axis] > cases[c].shape[first]) first = axis;
        }
        second = first == 0;
        for (int32_t axis = 0; axis < rank; axis++) {
            if (axis != first && cases[c].shape[axis] > cases[c].shape[second]) second = axis;
        }
        for (int32_t axis = 0; axis < rank; axis++) {
            if (axis != first && axis != second) order[count++] = axis;
        }
        order[count++] = first < second ? first : second;
        order[count++] = first < second ? second : first;
        for (int32_t axis = 0; axis < rank; axis++) permuted[axis] = cases[c].shape[order[axis]];
        check_context("case %zu", c);
        size_t size = 4 * (size_t)elements;
        float *p[3], *g[3];
        int64_t *from = check_memory(8 * (size_t)elements); /* of each element of the permuted tensor */
        for (int64_t j = 0; j < elements; j++) {
            int64_t index[6], rest = j, offset = 0;
            for (int32_t axis = rank; axis-- > 0;) index[order[axis]] = rest % permuted[axis], rest /= permuted[axis];
            for (int32_t axis = 0; axis < rank; axis++) offset = offset * cases[c].shape[axis] + index[axis];
            from[j] = offset;
        }
        lopt_weights *weights;
        lopt_optimizer *opt[3];
        CHECK_OK(lopt_weights_builtin("star-authors-rule", NULL, &weights));
        for (int o = 0; o < 3; o++) {
            lopt_options options = problem_options();
            options.threads = o == 1 ? 3 : 1;
            p[o] = check_memory(size), g[o] = check_memory(size);
            CHECK_OK(lopt_create(weights, &options, &opt[o]));
            CHECK_OK(lopt_add_tensor(opt[o], "t", p[o], g[o], o < 2 ? cases[c].shape : permuted, rank, NULL));
        }
        lopt_weights_free(weights);
        start(p[0], elements), start(p[1], elements);
        for (int64_t j = 0; j < elements; j++) p[2][j] = p[0][from[j]];
        double difference = 0, moved = 0;
        for (int step = 0; step < 3; step++) {
            for (int64_t j = 0; j < elements; j++) {
                /* Every row and column has a size of its own, a quarter of them small. */
                double random = problem_random((uint64_t)step + 70, (uint64_t)j);
                g[0][j] = g[1][j] = (float)(random * (j % 7 + 1) * (j / 11 % 4 ? 1 : 0.01));
            }
            for (int64_t j = 0; j < elements; j++) g[2][j] = g[0][from[j]];
            for (int o = 0; o < 3; o++) CHECK_OK(lopt_step(opt[o]));
        }
        CHECK_BITS(p[1], p[0], elements);
        for (int64_t j = 0; j < elements; j++) {
            double was = 0.5f * problem_random(7, (uint64_t)from[j]);
            moved = fmax(moved, fabs((double)p[0][from[j]] - was));
            difference = fmax(difference, fabs((double)p[2][j] - p[0][from[j]]));
        }
        CHECK(moved > 0);
        CHECK_NEAR(difference / moved, 0, 2e-5);
        for (int o = 0; o < 3; o++) lopt_destroy(opt[o]), free(p[o]), free(g[o]);
        free(from);
    }
    check_context("");
}

/* Tensors of 0 elements are there, have no memory, and count their steps. */
static void test_empty_tensors_count_their_steps(void) {
    static const struct { int32_t rank; int64_t shape[4]; } shapes[] = {
        {1, {0}}, {2, {0, 5}}, {2, {5, 0}}, {2, {0, 0}}, {4, {3, 0, 2, 1 << 20}}, {3, {1 << 20, 1 << 20, 0}},
    };
    int count = sizeof shapes / sizeof *shapes;
    lopt_options options = problem_options();
    lopt_optimizer *opt;
    lopt_statistics statistics = {.struct_size = sizeof statistics};
    float parameter[3] = {1, 2, 3}, gradient[3] = {1, 2, 3}, unread = 5;
    options.threads = 2;
    CHECK_OK(lopt_create(NULL, &options, &opt));
    for (int i = 0; i < count; i++) {
        char name[16];
        snprintf(name, sizeof name, "empty %d", i);
        float *given = i % 2 == 0 ? NULL : &unread;
        CHECK_OK(lopt_add_tensor(opt, name, given, given, shapes[i].shape, shapes[i].rank, NULL));
    }
    CHECK_OK(lopt_step(opt));
    for (int i = 0; i < count; i++) CHECK_OK(lopt_step_tensor(opt, i));
    CHECK_OK(lopt_bind(opt, 0, &unread, NULL));
    CHECK_OK(lopt_stats(opt, -1, &statistics));
    CHECK_INT(statistics.steps, 2);
    CHECK_NEAR(statistics.gradient_rms, 0, 0);
    CHECK_OK(lopt_add_tensor(opt, "not empty", parameter, gradient, (int64_t[]){3}, 1, NULL));
    CHECK_OK(lopt_step(opt));
    CHECK(parameter[0] != 1 && parameter[1] != 2 && parameter[2] != 3);
    CHECK_NEAR(unread, 5, 0);
    snapshot state = snapshot_of(opt, LOPT_WITH_PARAMETERS);
    CHECK_OK(lopt_step(opt));
    CHECK_OK(lopt_state_read(opt, LOPT_WITH_PARAMETERS, state.bytes, state.size));
    CHECK_SAME_STATE(opt, &state);
    snapshot_free(&state);
    lopt_destroy(opt);
}

/* Many tensors, more than the optimizer makes room for at first, get the numbers 0, 1, 2, ... and names of any kind. */
static void test_many_tensors_are_numbered_in_order(void) {
    enum { COUNT = 300 };
    static float parameters[COUNT][3], gradients[COUNT][3];
    char name[256];
    lopt_optimizer *opt;
    CHECK_OK(lopt_create(NULL, NULL, &opt));
    for (int i = 0; i < COUNT; i++) {
        int32_t index = -1;
        static const char *forms[] = {"layer/%d", "\"%d\\", "\xe5\xb1\xa4 %d \xf0\x9f\x8c\x9f"};
        snprintf(name, sizeof name, forms[i % 3], i);
        if (i == 17) memset(name, 'n', 255), name[255] = 0;
        gradients[i][1] = 1;
        CHECK_OK(lopt_add_tensor(opt, name, parameters[i], gradients[i], (int64_t[]){3}, 1, &index));
        CHECK_INT(index, i);
    }
    CHECK_OK(lopt_step(opt));
    for (int i = 1; i < COUNT; i++) CHECK_BITS(parameters[i], parameters[0], 3);
    CHECK(parameters[0][1] < 0);
    snapshot state = snapshot_of(opt, LOPT_WITH_PARAMETERS);
    CHECK_OK(lopt_step(opt));
    CHECK_OK(lopt_state_read(opt, LOPT_WITH_PARAMETERS, state.bytes, state.size));
    CHECK_SAME_STATE(opt, &state);
    snapshot_free(&state);
    lopt_destroy(opt);
}

/* No element is left out, whatever the shape: around the sizes at which a tensor is cut into pieces of work. */
static void test_no_element_is_left_out(void) {
    static const int64_t runs[] = {1, 15, 17, 33, 250, 1000, 2600, 4000, 4095, 4096, 4097, 8200};
    lopt_options options = problem_options();
    for (size_t r = 0; r < sizeof runs / sizeof *runs; r++) {
        int64_t around = 32768 / runs[r], rows[] = {1, around - 1, around, around + 1, 9 * around / 8, 2 * around + 1};
        for (size_t i = 0; i < sizeof rows / sizeof *rows; i += (size_t)check_repetitions(1, 3)) {
            if (rows[i] < 1) continue;
            for (int turned = 0; turned < 2; turned++) {
                int64_t shape[2] = {turned ? runs[r] : rows[i], turned ? rows[i] : runs[r]};
                int64_t elements = shape[0] * shape[1], left = 0;
                lopt_optimizer *opt;
                float *parameter = check_memory(4 * (size_t)elements), *gradient = check_memory(4 * (size_t)elements);
                for (int64_t j = 0; j < elements; j++) parameter[j] = 1, gradient[j] = 0.1f;
                CHECK_OK(lopt_create(NULL, &options, &opt));
                CHECK_OK(lopt_add_tensor(opt, "a", parameter, gradient, shape, 2, NULL));
                CHECK_OK(lopt_step(opt));
                for (int64_t j = 0; j < elements; j++) left += parameter[j] == 1.0f;
                check_context("[%d, %d]", (int)shape[0], (int)shape[1]);
                CHECK_INT(left, 0);
                lopt_destroy(opt);
                free(parameter), free(gradient);
            }
        }
    }
    check_context("");
}

int main(void) {
    test_any_alignment_gives_the_same_bits();
    test_every_size_is_stepped_to_its_last_byte();
    test_extents_of_one_change_no_bit();
    test_transposed_matrix_takes_the_same_steps();
    test_other_axes_are_batches_wherever_they_lie();
    test_empty_tensors_count_their_steps();
    test_many_tensors_are_numbered_in_order();
    test_no_element_is_left_out();
    return check_end();
}
