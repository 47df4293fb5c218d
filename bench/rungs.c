/* One step of kind pooled, written four times; ladder.c says what each adds. Compiled once for each instruction set. */
#include "ladder.h"
#include <math.h>

#define JOIN2(a, b) a##_##b
#define JOIN(a, b) JOIN2(a, b)
#define NAME(rung) JOIN(rung, ISA)
#define LANES for (int l = 0; l < RUNG_LANES; l++)

/* ---- An element at a time: sums in f64, in the order of the elements, which no compiler may do in vectors ---------------- */

void NAME(rung_elements)(const rung_step *s, const float *g, float *p, float *v, float *m, int64_t plane, int64_t count,
                         double *sums) {
    for (int64_t i = 0; i < count; i++) {
        float a[2], d = 0;
        v[i] = s->rms_beta * v[i] + s->rms_rate * (g[i] * g[i]);
        float r = 1 / sqrtf(v[i] + s->epsilon), h = g[i] * r;
        for (int k = 0; k < 2; k++) {
            float *mk = m + k * plane + i;
            *mk = s->beta[k] * *mk + s->rate[k] * g[i];
            a[k] = *mk * r;
            d += s->mix[k] * a[k];
        }
        float u = (s->gradient * h + d) * (h * d < 0 ? s->apart : s->scale), before = p[i];
        p[i] = before * (v[i] > 0 ? s->keep : s->idle) - u;
        sums[0] += v[i] > 0;
        sums[1] += v[i] > 0 ? p[i] * p[i] : 0;
        sums[2] += before * before;
        sums[3] += u * u;
        sums[4] += h * h;
        sums[5] += fabsf(h);
        for (int k = 0; k < 2; k++) sums[6 + k] += a[k] * a[k], sums[8 + k] += h * a[k];
    }
}

/* ---- Sixteen at a time ------------------------------------------------------------------------------------------------- */

typedef struct lanes { float at[RUNG_LANES]; } lanes;

static inline lanes root(const rung_step *s, const float *restrict g, const float *restrict v, lanes *updated) {
    lanes r;
    LANES updated->at[l] = s->rms_beta * v[l] + s->rms_rate * (g[l] * g[l]);
    LANES r.at[l] = 1 / sqrtf(updated->at[l] + s->epsilon);
    return r;
}

/* The rest of sixteen elements; h and a_k go to `out`, `stride` apart. */
static inline void finish(const rung_step *s, const float *restrict g, float *restrict p, float *restrict v, float *restrict m,
                          int64_t plane, const lanes *updated, const lanes *r, float *restrict out, int stride, lanes *sums) {
    float *restrict m1 = m, *restrict m2 = m + plane;
    LANES {
        float vl = updated->at[l], rl = r->at[l], gl = g[l], before = p[l];
        v[l] = vl;
        m1[l] = s->beta[0] * m1[l] + s->rate[0] * gl;
        m2[l] = s->beta[1] * m2[l] + s->rate[1] * gl;
        float h = gl * rl, a1 = m1[l] * rl, a2 = m2[l] * rl, d = s->mix[0] * a1 + s->mix[1] * a2;
        out[l] = h;
        out[stride + l] = a1;
        out[2 * stride + l] = a2;
        float u = (s->gradient * h + d) * (h * d < 0 ? s->apart : s->scale);
        float after = before * (vl > 0 ? s->keep : s->idle) - u;
        p[l] = after;
        sums[0].at[l] += vl > 0 ? 1.0f : 0.0f;
        sums[1].at[l] += vl > 0 ? after * after : 0.0f;
        sums[2].at[l] += before * before;
        sums[3].at[l] += u * u;
    }
}

static inline void correlate(const float *restrict x, int stride, lanes *sums) {
    LANES {
        float h = x[l], a1 = x[stride + l], a2 = x[2 * stride + l];
        sums[4].at[l] += h * h;
        sums[5].at[l] += fabsf(h);
        sums[6].at[l] += a1 * a1, sums[7].at[l] += a2 * a2;
        sums[8].at[l] += h * a1, sums[9].at[l] += h * a2;
    }
}

static void flush(const lanes *from, double *sums) {
    for (int i = 0; i < RUNG_SUMS; i++) {
        float sum = 0;
        LANES sum += from[i].at[l];
        sums[i] += (double)sum;
    }
}

/* All in one loop. */
void NAME(rung_vectors)(const rung_step *s, const float *g, float *p, float *v, float *m, int64_t plane, int64_t count,
                        double *sums) {
    for (int64_t tile = 0; tile < count; tile += RUNG_TILE) {
        lanes own[RUNG_SUMS] = {0};
        int64_t end = tile + RUNG_TILE < count ? tile + RUNG_TILE : count;
        for (int64_t i = tile; i < end; i += RUNG_LANES) {
            float x[3 * RUNG_LANES];
            lanes updated, r = root(s, g + i, v + i, &updated);
            finish(s, g + i, p + i, v + i, m + i, plane, &updated, &r, x, RUNG_LANES, own);
            correlate(x, RUNG_LANES, own);
        }
        flush(own, sums);
    }
}

/* ---- A tile in two loops ------------------------------------------------------------------------------------------------ */

static inline void tiles(const rung_step *s, const float *g, float *p, float *v, float *m, int64_t plane, int64_t count,
                         double *sums, int ahead) {
    float x[3 * RUNG_TILE];
    for (int64_t tile = 0; tile < count; tile += RUNG_TILE) {
        lanes own[RUNG_SUMS] = {0};
        int n = (int)(count - tile < RUNG_TILE ? count - tile : RUNG_TILE);
        lanes next, updated, r = root(s, g + tile, v + tile, &updated);
        for (int i = 0; i < n; i += RUNG_LANES) {
            int64_t at = tile + i, then = tile + (i + RUNG_LANES < n ? i + RUNG_LANES : i);
            lanes soon = r;
            if (ahead) soon = root(s, g + then, v + then, &next);
            finish(s, g + at, p + at, v + at, m + at, plane, &updated, &r, x + i, RUNG_TILE, own);
            if (!ahead) soon = root(s, g + then, v + then, &next);
            updated = next, r = soon;
        }
        for (int i = 0; i < n; i += RUNG_LANES) correlate(x + i, RUNG_TILE, own);
        flush(own, sums);
    }
}

void NAME(rung_tiles)(const rung_step *s, const float *g, float *p, float *v, float *m, int64_t plane, int64_t count,
                      double *sums) {
    tiles(s, g, p, v, m, plane, count, sums, 0);
}
void NAME(rung_ahead)(const rung_step *s, const float *g, float *p, float *v, float *m, int64_t plane, int64_t count,
                      double *sums) {
    tiles(s, g, p, v, m, plane, count, sums, 1);
}
