/* SPDX-License-Identifier: Apache-2.0 */
/* What codes can tell apart.  An 8-bit code is as fine as its row is long, seen from the mean of all; the lift of ip is as long as the longest.  So
 * a few rows far longer than the rest stay outside, and where codes do not know near from far even so, there are none. */
#include "index/vector/vector_internal.h"

#include <math.h>

#define FAR          12 /* doublings of |x|² above the middle row: so much longer rows stay outside */
#define FAR_IP       6
#define OUTSIDE_MIN  64 /* so many at most, or one row in */
#define OUTSIDE_PART 1024
#define KEPT_FAR     4096.0f /* of |x|² on average, for a space that is taken over */
#define KEPT_FAR_IP  256.0f  /* of the longest */

#define ROWS  512 /* that are compared */
#define BYTES (4u << 20)
#define ASKED 64 /* queries among them */
#define NEAR  8  /* the nearest by code is one of so many */
#define SEEN  0.75

/* ---- rows that stay outside ---- */

uint32_t vector_outside_most(uint32_t rows)
{
    return rows / OUTSIDE_PART > OUTSIDE_MIN ? rows / OUTSIDE_PART : OUTSIDE_MIN;
}

unsigned vector_length_class(float norm2)
{
    uint32_t bits;
    memcpy(&bits, &norm2, sizeof bits);
    return bits >> 23 & 255;
}

float vector_limit_among(const uint32_t lengths[VECTOR_LENGTHS], uint32_t rows, enum metric metric)
{
    uint64_t sum = 0;
    unsigned middle = 0, limit = VECTOR_LENGTHS - 1;
    uint32_t above = 0; /* rows beyond the limit */
    if (metric == METRIC_COSINE || !rows)
        return 0;
    while (middle < limit && (sum += lengths[middle]) * 2 < rows)
        middle++;
    unsigned least = middle + (metric == METRIC_IP ? FAR_IP : FAR);
    while (limit > least && above + lengths[limit] <= vector_outside_most(rows))
        above += lengths[limit--];
    return above ? ldexpf(1, (int)limit + 1 - 127) : 0;
}

float vector_limit_of(const struct vector_index *index)
{
    double typical = 0;
    switch (index->metric) {
    case METRIC_COSINE:
        return 0;
    case METRIC_IP:
        return index->big2 * KEPT_FAR_IP;
    case METRIC_L2:
        break;
    }
    for (uint32_t j = 0; j < index->wide; j++)
        typical += (double)index->mean[j] * (double)index->mean[j];
    typical += (double)index->rms * (double)index->rms;
    return (float)(typical * (double)KEPT_FAR);
}

/* ---- do codes see? ---- */

struct sight {
    struct vector_build *build;
    uint32_t rows;
    struct vector_memory sources, vectors, rows8, scratch, q8, codes;
};

static float distance_of(const struct sight *s, const float *a, const float *b)
{
    const struct kernel *kernel = kernel_get();
    uint32_t dim = s->build->space.dim;
    return s->build->space.metric == METRIC_L2 ? kernel->l2_f32(a, b, dim)
                                               : -kernel->dot_f32(a, b, dim);
}

/* Is the nearest by code among the nearest? */
static bool sees(struct sight *s, uint32_t asked)
{
    const struct kernel_code *kernel = kernel_code_get();
    struct vector_build *build = s->build;
    uint32_t dim = build->space.dim, code_dim = build->space.code_dim, nearer = 0, at = 0;
    const float *vectors = s->vectors.at, *query = vectors + (size_t)asked * dim;
    float *y = s->scratch.at, *codes = s->codes.at, best = INFINITY, own = INFINITY;
    struct code_query8 query8;
    /* not stretched: a filter may leave the short rows alone */
    if (!vector_query_row(&build->space, query, 1, y))
        return true; /* no query for codes */
    kernel->rotate_f32(y, code_dim, build->space.seed);
    kernel->quant8_query(y, code_dim, s->q8.at, &query8);
    for (uint32_t i = 0; i < s->rows; i++) {
        at = i;
        kernel->distance8(s->rows8.at, &at, 1, &query8, code_dim, &codes[i]);
        if (i != asked && codes[i] < best)
            best = codes[i];
    }
    for (uint32_t i = 0; i < s->rows;
         i++) { /* of rows that look the same the one that is nearest */
        float distance = i == asked || codes[i] > best
                             ? INFINITY
                             : distance_of(s, query, vectors + (size_t)i * dim);
        own = distance < own ? distance : own;
    }
    own -= 1e-5f * fabsf(own);
    for (uint32_t i = 0; i < s->rows; i++)
        nearer += i != asked && distance_of(s, query, vectors + (size_t)i * dim) < own;
    return nearer < NEAR;
}

static och_code look(struct sight *s, bool *ret_sees, och_error *err)
{
    struct vector_build *build = s->build;
    struct budget *budget = build->options.budget;
    uint32_t dim = build->space.dim, code_dim = build->space.code_dim;
    size_t size = code_row_size(code_dim);
    const uint32_t *sources = s->sources.at;
    TRY(vector_alloc(budget, s->rows, 4 * (size_t)dim, "a sample", &s->vectors, err));
    TRY(vector_alloc(budget, s->rows, size, "a sample", &s->rows8, err));
    TRY(vector_alloc(budget, code_dim, 4, "a sample", &s->scratch, err));
    TRY(vector_alloc(budget, code_dim, 1, "a sample", &s->q8, err));
    TRY(vector_alloc(budget, s->rows, 4, "a sample", &s->codes, err));
    for (uint32_t i = 0; i < s->rows; i++) {
        const float *x;
        TRY(vector_fetch(build, build->reader, sources[i], &x, err));
        if (!x)
            return FAIL(err, OCH_INTERNAL, "a row lost its vector while its part was built");
        memcpy((float *)s->vectors.at + (size_t)i * dim, x, 4 * (size_t)dim);
        TRY(vector_read_code8(build, build->reader, sources[i], s->scratch.at,
                              (uint8_t *)s->rows8.at + i * size, err));
    }
    uint32_t asked = s->rows < ASKED ? s->rows : ASKED, seen = 0;
    for (uint32_t q = 0; q < asked; q++) {
        TRY(work_check(&build->limits, err));
        seen += sees(s, (uint32_t)((uint64_t)q * s->rows / asked));
    }
    *ret_sees = seen >= SEEN * asked;
    return OCH_OK;
}

och_code vector_codes_see(struct vector_build *build, bool *ret_sees, och_error *err)
{
    struct budget *budget = build->options.budget;
    struct sight s = {.build = build};
    size_t most = BYTES / (4 * (size_t)build->space.code_dim);
    uint32_t want = (uint32_t)(most < ASKED ? ASKED : most < ROWS ? most : ROWS);
    want = want < build->coded ? want : build->coded;
    *ret_sees = true;
    if (build->space.metric == METRIC_COSINE || want < 4 * NEAR)
        return OCH_OK;
    TRY(vector_alloc(budget, want, 4, "a sample", &s.sources, err));
    s.rows = vector_sample(build, want, s.sources.at);
    och_code code = look(&s, ret_sees, err);
    struct vector_memory *const all[] = {&s.sources, &s.vectors, &s.rows8,
                                         &s.scratch, &s.q8,      &s.codes};
    for (size_t i = 0; i < COUNT_OF(all); i++)
        vector_release(budget, all[i]);
    return code;
}
