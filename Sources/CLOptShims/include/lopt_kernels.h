/* What the core and the kernels say to each other.
 *
 * The kernels are compiled once for each instruction set and reached through one C function each, never through a Swift
 * import: an import would let the compiler inline code for a wide machine into the core, or the linker pick a wide copy of
 * a shared function for a narrow machine.
 *
 * A tensor of rank >= 2 is seen as
 *
 *     [outer, rows, middle, columns, inner]
 *
 * where rows and columns are the two factored axes in the order in which they lie in memory. A plane is one (outer,
 * middle); within it, each row is a contiguous run of columns * inner elements. The rule keeps two means of g^2: `lead`,
 * over the columns, one value per (outer, row, middle, inner); and `trail`, over the rows, one value per (plane, column,
 * inner). Which of them update-rule.md calls row and which col depends on which of the two axes is larger.
 */
#ifndef LOPT_KERNELS_H
#define LOPT_KERNELS_H

#include <stdint.h>

/* Heads of the network. */
enum { LOPT_HEAD_DIRECTION, LOPT_HEAD_MAGNITUDE, LOPT_HEAD_NOMINAL, LOPT_HEAD_REGULARIZATION, LOPT_HEADS };

/* Slots of the sums of the accumulator pass; the K slots of each momentum follow from LOPT_SUM_MOMENTA on. Parameters that are not
 * finite count as 0 in P2. A live element has had a gradient (v > 0) and has a finite parameter: LIVE counts them, LIVE_P2
 * is p^2 over them. NONFINITE counts the parameters that are not finite. */
enum { LOPT_SUM_G, LOPT_SUM_G2, LOPT_SUM_P2, LOPT_SUM_V2, LOPT_SUM_RSQRT_V2, LOPT_SUM_LIVE, LOPT_SUM_LIVE_P2,
       LOPT_SUM_NONFINITE, LOPT_SUM_MOMENTA };
/* Of one momentum: m^2, (m rsqrt v)^2, (factored g)^2, (factored m)^2, and for rank < 2 diag^2, rsqrt(diag + 1e-8)^2. For
 * rank >= 2 the last two slots stay 0. */
enum { LOPT_SUM_M2, LOPT_SUM_M_RSQRT_V2, LOPT_SUM_FACTORED_G2, LOPT_SUM_FACTORED_M2, LOPT_SUM_DIAGONAL2,
       LOPT_SUM_RSQRT_DIAGONAL2, LOPT_SUMS_PER_MOMENTUM };
enum { LOPT_MAX_MOMENTA = 8, LOPT_SUMS_MOMENTS = LOPT_SUM_MOMENTA + LOPT_MAX_MOMENTA * LOPT_SUMS_PER_MOMENTUM };

/* Slots of the sums of the network pass and the element pass: of the heads, of u^2, u w and w^2 (u blackbox, w nominal). */
enum { LOPT_SUM_MAGNITUDE, LOPT_SUM_NOMINAL, LOPT_SUM_REGULARIZATION, LOPT_SUM_U2, LOPT_SUM_UW, LOPT_SUM_W2,
       LOPT_SUMS_UPDATE };

/* Slots of the sums of the pooled pass: with r = rsqrt(v + epsilon), h = g r and a_k = m_k r, and u what is taken off the
 * parameters; H is of |h|. LIVE_P2 is of the parameters as the pass leaves them, P2 as it finds them. The pass leaves G2 alone: the core
 * puts there what the gradient pass has summed. */
enum { LOPT_POOLED_LIVE, LOPT_POOLED_LIVE_P2, LOPT_POOLED_P2, LOPT_POOLED_NONFINITE, LOPT_POOLED_G2, LOPT_POOLED_U2,
       LOPT_POOLED_H2, LOPT_POOLED_H, LOPT_POOLED_A2, LOPT_POOLED_HA = LOPT_POOLED_A2 + 2,
       LOPT_SUMS_POOLED = LOPT_POOLED_HA + 2 };

/* Elements that a kernel handles at a time: small enough for the per-column channels to stay in the first-level cache. */
enum { LOPT_TILE = 512 };
/* Floats past the end of every array of ours that a vector load may touch. */
enum { LOPT_PADDING = 16 };

/* How the network is evaluated. */
enum { LOPT_PATH_WIDTH4, LOPT_PATH_WIDTH8, LOPT_PATH_WIDTH16, LOPT_PATH_WIDTH32, LOPT_PATH_ANY_WIDTH, LOPT_PATH_BLAS };

/* cblas_sgemm: order and the two transpositions are enumerations of cblas.h. */
typedef void (*lopt_sgemm)(int order, int transpose_a, int transpose_b, int m, int n, int k, float alpha, const float *a,
                           int lda, const float *b, int ldb, float beta, float *c, int ldc);
enum { LOPT_CBLAS_ROW_MAJOR = 101, LOPT_CBLAS_NO_TRANSPOSE = 111, LOPT_CBLAS_TRANSPOSE = 112 };

/* The part of the rule that is the same for all tensors and steps. 1 - beta is called rate. */
typedef struct lopt_rule {
    int32_t momenta;          /* K */
    int32_t hidden;           /* width, rounded up to a multiple of 8 but for 4 */
    int32_t hidden_layers;
    int32_t path;             /* LOPT_PATH_* */
    int32_t reads_features;   /* 0: no step needs the network, and the accumulator pass need not measure features that it alone reads */
    const float *momentum_beta, *momentum_rate; /* K */
    const float *factored_beta, *factored_rate; /* K */
    float rms_beta, rms_rate;
    const float *hidden_weights; /* for each layer after the first: hidden x hidden, then hidden biases */
    const float *head_weights;   /* hidden x LOPT_HEADS, then LOPT_HEADS biases */
    const float *first_weights;  /* BLAS path: features x hidden */
    const float *direction_weights; /* K: the nominal direction is sum_k direction_weights[k] m_k + gradient_weight g */
    float gradient_weight;
    int32_t direction_normalized;   /* the direction is multiplied by rsqrt(v + nominal_epsilon) */
    int32_t nominal_epsilon_is_own; /* it differs from the 1e-6 of the features */
    float nominal_epsilon;
    int32_t normalize_blackbox;
    float exp_mult_magnitude, exp_mult_nominal, exp_mult_regularization;
    lopt_sgemm sgemm;         /* BLAS path */
} lopt_rule;

/* One tensor. Arrays of ours are followed by LOPT_PADDING floats. */
typedef struct lopt_tensor_view {
    float *parameter;
    const float *gradient;
    int64_t count;
    int32_t factored;         /* rank >= 2 */
    float gradient_scale;     /* the g of the rule is this times what gradient points to */
    float *second_moment;     /* count */
    float *momentum;          /* K planes of count, plane_stride elements apart; bf16 where lopt_pooled says so */
    float *diagonal;          /* rank < 2: the same */
    int64_t plane_stride;
    /* rank >= 2 */
    int64_t planes, rows, middle, run, inner, columns;
    int64_t lead_count, trail_count;
    int32_t lead_is_row;      /* update-rule.md's row is lead, its col trail; or the other way round */
    int32_t short_runs;       /* runs so short that several rows share a vector; only with middle = inner = 1 */
    int64_t row_chunks, column_chunks; /* of the gradient pass */
    float *lead, *trail;                 /* K x lead_count, K x trail_count */
    float *lead_factor, *trail_factor;   /* the same: R_k and C_k of update-rule.md */
    float *lead_partial, *trail_partial; /* sums of g^2: column_chunks x lead_count, row_chunks x trail_count */
    double partial_scale;                /* what they are still to be multiplied by: gradient_scale has changed since by its root */
    /* The first layer, with the second-moment normalisers and the step features folded in. */
    const float *element_weights; /* (g p v rsqrt(v), then for each k: m, m rsqrt(v), factored g, factored m and, for rank
                                     < 2, diag, rsqrt(diag)) x hidden, without the rows that are 0 */
    uint64_t live_features;       /* bit i: the i-th of these has a row */
    const float *lead_weights;    /* for each k: lead, rsqrt(lead); x hidden */
    const float *trail_weights;
    const float *bias;            /* hidden */
    const float *feature_scale;   /* BLAS path: 1 / size of each feature, in the order of update-rule.md */
} lopt_tensor_view;

/* Part of a tensor. Rank < 2: elements column0 ..< column1. Rank >= 2: elements column0 ..< column1 of the runs of some rows. */
typedef struct lopt_chunk {
    int64_t plane0, plane1, row0, row1, column0, column1;
    int64_t row_chunk, column_chunk;
    /* The gradient pass, if inner1 is not 0: of the columns (not elements) column0 ..< column1 the inner indices inner0 ..< inner1. */
    int64_t inner0, inner1;
} lopt_chunk;

/* How large a term of the step is: it is not there; one number for the tensor; a head for each element; (nominal term) one
 * number, and the term is only measured, another pass subtracts it. */
enum { LOPT_TERM_OFF, LOPT_TERM_NUMBER, LOPT_TERM_PER_ELEMENT, LOPT_TERM_MEASURED };
/* Whose sums a network pass takes: of no head; of the nominal one, and no other head or term is needed; of all. */
enum { LOPT_HEAD_SUMS_NONE, LOPT_HEAD_SUMS_NOMINAL, LOPT_HEAD_SUMS_ALL };

/* What a network pass or an element pass does: p <- (keep p - u) caller_keep - w, for the terms that are on. The element
 * pass knows no u, and no head. */
typedef struct lopt_apply {
    int32_t head_sums;           /* LOPT_HEAD_SUMS_* */
    int32_t write;               /* p is written; 0: the sums are all that is wanted */
    int32_t blackbox;            /* LOPT_TERM_*: u = d exp(a exp_mult) blackbox_scale, a the head or blackbox_magnitude */
    float blackbox_magnitude, blackbox_scale;
    int32_t nominal;             /* LOPT_TERM_*: w = nominal_scale G; per element w = nominal_scale e G with e = exp(N exp_mult),
                                    N = n + nominal_offset between nominal_least and nominal_most */
    float nominal_offset, nominal_least, nominal_most, nominal_scale;
    int32_t decay;               /* LOPT_TERM_*: keep = decay_keep; per element keep = decay_keep - decay_scale exp(r exp_mult) */
    float decay_keep, decay_scale;
    float caller_keep, caller_decay; /* with a nominal term per element max(caller_keep - caller_decay e, 0) in place of
                                        caller_keep */
} lopt_apply;

/* What the pooled pass does: p <- keep p - scale G, G = D + gradient h or, where g D < 0, disagreement times that,
 * D = sum_k momentum_k a_k. */
typedef struct lopt_pooled {
    int32_t updates_state;   /* m and v take in g first; else they are as a pass before left them */
    int32_t writes;          /* p is written */
    float epsilon;
    float momentum1, momentum2, gradient, disagreement;
    float keep, scale;
    float idle_keep;         /* keep of the elements whose v is 0 */
    int32_t momenta_are_bf16;
    uint32_t noise_key;      /* with bf16 momenta: of the elements begin ..< end, the first of which is number 0 of the noise */
} lopt_pooled;

typedef struct lopt_kernels {
    /* Floats of scratch memory that one worker needs. */
    int64_t (*scratch_floats)(const lopt_rule *rule);
    /* The largest bit pattern of |g| of the elements begin ..< end: infinities and NaN are above all finite numbers. Beside it the
     * sum of g^2. */
    int32_t (*largest_magnitude)(const lopt_tensor_view *tensor, int64_t begin, int64_t end, double *squares);
    /* The gradient pass, rank >= 2: sums of g^2 over rows and columns of the chunk; returns the largest bit pattern of |g|. */
    int32_t (*gradient_pass)(const lopt_tensor_view *tensor, const lopt_chunk *chunk, float *scratch);
    /* After the gradient pass: updates lead and trail, makes the factors. means: for each k the means of lead^2, rsqrt(lead)^2,
     * trail^2, rsqrt(trail)^2. */
    void (*update_factors)(const lopt_rule *rule, const lopt_tensor_view *tensor, double *means);
    /* The accumulator pass: updates momenta, second moment and, for rank < 2, the diagonal accumulators; adds to
     * sums[LOPT_SUMS_MOMENTS]. */
    void (*accumulator_pass)(const lopt_rule *rule, const lopt_tensor_view *tensor, const lopt_chunk *chunk, double *sums,
                             float *scratch);
    /* The network pass: features, network, step; adds to sums[LOPT_SUMS_UPDATE]. */
    void (*network_pass)(const lopt_rule *rule, const lopt_tensor_view *tensor, const lopt_apply *apply,
                         const lopt_chunk *chunk, double *sums, float *scratch);
    /* The element pass: the step without the network, of the elements begin ..< end. */
    void (*element_pass)(const lopt_rule *rule, const lopt_tensor_view *tensor, const lopt_apply *apply, int64_t begin,
                         int64_t end, double *sums, float *scratch);
    /* A whole step of the elements begin ..< end with weights of kind pooled; adds to sums[LOPT_SUMS_POOLED]. */
    void (*pooled)(const lopt_rule *rule, const lopt_tensor_view *tensor, const lopt_pooled *step, int64_t begin,
                   int64_t end, double *sums, float *scratch);
    /* a <- a + rate (p - a) of `count` elements, p where that is not finite. */
    void (*average)(const float *parameter, float *average, int64_t count, float rate);
} lopt_kernels;

void lopt_kernels_baseline(lopt_kernels *kernels, int32_t path);
#if defined(__x86_64__)
void lopt_kernels_avx2(lopt_kernels *kernels, int32_t path);
void lopt_kernels_avx512(lopt_kernels *kernels, int32_t path);
#endif

#endif
