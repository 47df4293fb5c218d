/* C <- alpha A B + beta C, row-major, A is m x k and B is k x n, each transposed if so said: OpenBLAS's, or with
 * -DPLAIN_SGEMM plain loops, which need no library and are several times slower on large matrices. */
#ifndef SGEMM_H
#define SGEMM_H

#include <stdbool.h>
#include <stddef.h>

#ifndef PLAIN_SGEMM
#include <cblas.h>
#endif

static inline void sgemm(bool transpose_a, bool transpose_b, int m, int n, int k, float alpha, const float *a, int lda,
                         const float *b, int ldb, float beta, float *c, int ldc) {
#ifndef PLAIN_SGEMM
    cblas_sgemm(CblasRowMajor, transpose_a ? CblasTrans : CblasNoTrans, transpose_b ? CblasTrans : CblasNoTrans, m, n, k,
                alpha, a, lda, b, ldb, beta, c, ldc);
#else
    enum { LANES = 16 }; /* partial sums that a compiler may put into a vector */
    for (int i = 0; i < m; i++) {
        float *row = c + (size_t)i * (size_t)ldc;
        for (int j = 0; j < n; j++) row[j] = beta == 0 ? 0 : beta * row[j];
        if (transpose_b && !transpose_a) {
            const float *x = a + (size_t)i * (size_t)lda;
            for (int j = 0; j < n; j++) {
                const float *y = b + (size_t)j * (size_t)ldb;
                float part[LANES] = {0}, sum = 0;
                int l = 0;
                for (; l + LANES <= k; l += LANES)
                    for (int lane = 0; lane < LANES; lane++) part[lane] += x[l + lane] * y[l + lane];
                for (; l < k; l++) sum += x[l] * y[l];
                for (int lane = 0; lane < LANES; lane++) sum += part[lane];
                row[j] += alpha * sum;
            }
            continue;
        }
        for (int l = 0; l < k; l++) {
            float scale = alpha * (transpose_a ? a[(size_t)l * (size_t)lda + i] : a[(size_t)i * (size_t)lda + l]);
            for (int j = 0; j < n; j++)
                row[j] += scale * (transpose_b ? b[(size_t)j * (size_t)ldb + l] : b[(size_t)l * (size_t)ldb + j]);
        }
    }
#endif
}

#endif
