/* A code whose arrays are column-major passes extents in reverse: the same tensor transposed, which trains the same to rounding. With
 * the authors' rule so do those whose two largest extents differ; where they do not it tells rows from columns by their order. */
#include "problem.h"

typedef struct form {
    int32_t rank;
    int64_t shape[5];
    int is_tied;
} form;

static const form forms[] = {
    {2, {19, 33}, 0}, {2, {1, 40}, 0}, {2, {3, 500}, 0}, {2, {300, 200}, 0}, {2, {32, 32}, 1}, {3, {5, 7, 3}, 0}, {3, {20, 30, 70}, 0},
    {3, {9, 4, 9}, 1}, {4, {6, 4, 3, 2}, 0}, {4, {16, 8, 3, 3}, 0}, {4, {3, 3, 8, 16}, 0}, {4, {3, 3, 3, 3}, 1}, {5, {2, 5, 3, 4, 7}, 0},
};
enum { FORMS = sizeof forms / sizeof *forms, STEPS = 25 };

/* Where element j of the tensor is in the one with its axes in reverse. */
static int64_t reversed(const form *f, int64_t j) {
    int64_t to = 0, index[5];
    for (int32_t axis = f->rank; axis-- > 0;) index[axis] = j % f->shape[axis], j /= f->shape[axis];
    for (int32_t axis = f->rank; axis-- > 0;) to = to * f->shape[axis] + index[axis];
    return to;
}

/* How far apart the two are at the end, beside how far they have come. */
static double difference(const char *weights, const form *f, int noisy) {
    problem p = {.count = 0}, q = {.count = 0};
    lopt_options options = problem_options();
    int64_t other[5];
    double apart = 0, way = 0;
    for (int32_t axis = 0; axis < f->rank; axis++) other[axis] = f->shape[f->rank - 1 - axis];
    problem_add(&p, "w", f->rank, f->shape), problem_add(&q, "w", f->rank, other);
    problem_start(&p);
    problem_tensor *a = &p.tensors[0], *b = &q.tensors[0];
    for (int64_t j = 0; j < a->elements; j++) b->parameter[reversed(f, j)] = a->parameter[j];
    lopt_optimizer *opt = problem_optimizer(&p, weights, &options), *transposed = problem_optimizer(&q, weights, &options);
    for (int step = 0; step < STEPS; step++) {
        problem_gradient(&p, step);
        for (int64_t j = 0; j < a->elements; j++) {
            /* Rows and columns of very different sizes. */
            a->gradient[j] *= powf(10, (float)(j % f->shape[f->rank - 1] % 3));
            if (noisy) a->gradient[j] *= 1 + problem_random(9, (uint64_t)(j / 7));
            b->gradient[reversed(f, j)] = a->gradient[j];
        }
        CHECK_OK(lopt_step(opt)), CHECK_OK(lopt_step(transposed));
    }
    for (int64_t j = 0; j < a->elements; j++) {
        apart += pow((double)a->parameter[j] - b->parameter[reversed(f, j)], 2);
        way += pow((double)a->parameter[j] - 0.5 * problem_random(1, (uint64_t)j), 2);
    }
    lopt_destroy(opt), lopt_destroy(transposed);
    problem_free(&p), problem_free(&q);
    return sqrt(apart / way);
}

int main(void) {
    for (int i = 0; i < FORMS; i++) {
        for (int noisy = 0; noisy < 2; noisy++) {
            check_context("form %d, noisy %d", i, noisy);
            double star = difference("star", &forms[i], noisy), authors = difference("star-authors-rule", &forms[i], noisy);
            printf("form %d: %.2g, authors' rule %.2g\n", i, star, authors);
            CHECK_NEAR(star, 0, 2e-6);
            CHECK_NEAR(authors, 0, forms[i].is_tied ? 0.15 : 2e-6);
        }
    }
    return check_end();
}
