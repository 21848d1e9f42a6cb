/* SPDX-License-Identifier: Apache-2.0 */
/* Rows in memory, an index over them, and the truth about them in f64. */
#ifndef TESTS_UNIT_INDEX_VECTOR_FIXTURE_H
#define TESTS_UNIT_INDEX_VECTOR_FIXTURE_H

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/clock.h"
#include "index/vector/vector.h"
#include "support/slow.h"

#define MUST(call)                                                              \
    do {                                                                        \
        och_error must_err_ = {0};                                              \
        och_error *err = &must_err_;                                            \
        if ((call) != OCH_OK)                                                   \
            fail_msg("%s:%d: %s: %s", __FILE__, __LINE__, #call, err->message); \
    } while (0)

struct fixture {
    uint32_t rows, dim;
    enum metric metric;
    float *vectors; /* rows x dim */
    bool *absent;   /* NULL: none */
    uint32_t flat_rows, list_rows;
    struct pool *pool;
    struct budget budget;
    uint32_t *order; /* row -> source; always there */
    struct buf code8;
    uint8_t *mean, *list, *centq, *super, *code;
    struct vector_built built;
    struct vector_index index;
    uint64_t piece_units; /* cut CODE and CODE8 into pieces of so many units; 0: whole */
    uint64_t code_units;
    bool scattered;
};

static inline float fixture_normal(struct random *random)
{
    double u = random_unit(random) + 1e-12, v = random_unit(random);
    return (float)(sqrt(-2 * log(u)) * cos(6.283185307179586 * v));
}

/* Clusters with a few directions of their own: like text, unlike noise. */
static inline void fixture_clusters(float *out, uint32_t rows, uint32_t dim, uint32_t clusters,
                                    float spread, uint64_t seed, uint64_t row_seed)
{
    struct random random;
    random_seed(&random, seed);
    uint32_t inner = dim < 24 ? dim : 24;
    float *centers = malloc(sizeof(float) * clusters * dim),
          *basis = malloc(sizeof(float) * inner * dim);
    for (size_t i = 0; i < (size_t)clusters * dim; i++)
        centers[i] = fixture_normal(&random);
    for (size_t i = 0; i < (size_t)inner * dim; i++)
        basis[i] = fixture_normal(&random) / sqrtf((float)inner);
    random_seed(&random, row_seed);
    for (uint32_t r = 0; r < rows; r++) {
        uint32_t c = (uint32_t)random_below(&random, clusters);
        float *x = out + (size_t)r * dim;
        for (uint32_t j = 0; j < dim; j++)
            x[j] = centers[(size_t)c * dim + j] + 0.1f * spread * fixture_normal(&random);
        for (uint32_t b = 0; b < inner; b++) {
            float weight = spread * fixture_normal(&random);
            for (uint32_t j = 0; j < dim; j++)
                x[j] += weight * basis[(size_t)b * dim + j];
        }
    }
    free(centers);
    free(basis);
}

static inline och_code fixture_row(void *context, uint32_t i, const float **ret_vector,
                                   och_error *err)
{
    struct fixture *f = context;
    (void)err;
    *ret_vector = f->absent && f->absent[i] ? NULL : f->vectors + (size_t)i * f->dim;
    return OCH_OK;
}

static inline och_code fixture_emit(void *context, const void *at, size_t len, och_error *err)
{
    buf_append(context, at, len);
    return buf_check(context, "codes", err);
}

static inline uint8_t *fixture_copy(slice bytes)
{
    uint8_t *at = mem_alloc_aligned(64, bytes.len + 1);
    if (bytes.len)
        memcpy(at, bytes.at, bytes.len);
    return at;
}

/* Keep all that a build makes, and open it. */
static inline void fixture_build_from(struct fixture *f, const struct vector_options *options,
                                      const struct vector_rows *rows)
{
    struct vector_build *build;
    MUST(vector_build_new(options, rows, &build, err));
    const uint32_t *order = vector_build_order(build);
    f->order = malloc(sizeof(uint32_t) * (f->rows + 1));
    for (uint32_t i = 0; i < f->rows; i++)
        f->order[i] = order ? order[i] : i;
    f->built = vector_build_result(build);
    f->mean = fixture_copy(f->built.mean);
    f->list = fixture_copy(f->built.list);
    f->centq = fixture_copy(f->built.centq);
    f->super = fixture_copy(f->built.super);
    f->code = fixture_copy(f->built.code);
    buf_init(&f->code8, BUF_MAX_NONE);
    MUST(vector_build_code8(build, fixture_emit, &f->code8, err));
    assert_int_equal(f->code8.len, f->built.code8_bytes);
    f->built.mean.at = f->mean;
    f->built.list.at = f->list;
    f->built.centq.at = f->centq;
    f->built.super.at = f->super;
    f->built.code.at = f->code;
    vector_build_free(build);
    assert_int_equal(budget_used(&f->budget), 0);
    if (f->built.coded) {
        assert_true(vector_index_open(f->built.mean, f->built.list, f->built.centq,
                                      f->built.code.len, f->code8.len, f->rows, f->dim, f->metric,
                                      &f->index));
        assert_true(vector_index_super(&f->index, f->built.super));
    }
}

static inline void fixture_build(struct fixture *f)
{
    struct vector_rows rows = {.context = f, .count = f->rows, .row = fixture_row};
    budget_init(&f->budget, 0, NULL);
    struct vector_options options = {.dimension = f->dim,
                                     .metric = f->metric,
                                     .budget = &f->budget,
                                     .pool = f->pool,
                                     .flat_rows = f->flat_rows,
                                     .list_rows = f->list_rows};
    fixture_build_from(f, &options, &rows);
}

static inline void fixture_done(struct fixture *f)
{
    mem_free_aligned(f->mean);
    mem_free_aligned(f->list);
    mem_free_aligned(f->centq);
    mem_free_aligned(f->super);
    mem_free_aligned(f->code);
    buf_done(&f->code8);
    free(f->order);
    free(f->vectors);
    free(f->absent);
}

static inline och_code fixture_page(void *context, enum vector_section section, uint64_t unit,
                                    const uint8_t **ret_base, uint64_t *ret_first,
                                    uint64_t *ret_units, och_error *err)
{
    struct fixture *f = context;
    size_t size = section == VECTOR_CODE ? code_block_size(f->index.code_dim)
                                         : code_row_size(f->index.code_dim);
    const uint8_t *at = section == VECTOR_CODE ? f->code : f->code8.at;
    uint64_t all = section == VECTOR_CODE ? f->index.blocks : f->index.coded;
    (void)err;
    assert_true(unit < all);
    uint64_t units = f->piece_units ? f->piece_units : all, first = unit / units * units;
    *ret_base = at + first * size;
    *ret_first = first;
    *ret_units = all - first < units ? all - first : units;
    return OCH_OK;
}

/* As reported, in f64. */
static inline double fixture_distance(const struct fixture *f, const float *q, const float *x)
{
    double dot = 0, l2 = 0, qq = 0, xx = 0;
    for (uint32_t i = 0; i < f->dim; i++) {
        double a = (double)q[i], b = (double)x[i];
        dot += a * b;
        l2 += (a - b) * (a - b);
        qq += a * a;
        xx += b * b;
    }
    if (f->metric == METRIC_L2)
        return l2;
    if (f->metric == METRIC_IP)
        return 1 - dot;
    return qq == 0 || xx == 0 ? 1 : 1 - dot / sqrt(qq * xx);
}

struct near {
    double distance;
    uint32_t source;
};
static inline int near_compare(const void *a, const void *b)
{
    const struct near *x = a, *y = b;
    int order = (x->distance > y->distance) - (x->distance < y->distance);
    return order ? order : (x->source > y->source) - (x->source < y->source);
}

/* The k nearest of the rows with codes that the mask (by row) allows; returns how many. */
static inline uint32_t fixture_truth(const struct fixture *f, const float *q, const uint64_t *mask,
                                     uint32_t k, struct near *out)
{
    struct near *all = malloc(sizeof(*all) * (f->rows + 1));
    uint32_t count = 0;
    for (uint32_t row = 0; row < f->index.coded; row++) {
        if (mask && !(mask[row / 64] >> row % 64 & 1))
            continue;
        uint32_t source = f->order[row];
        all[count++] =
            (struct near){fixture_distance(f, q, f->vectors + (size_t)source * f->dim), source};
    }
    qsort(all, count, sizeof(*all), near_compare);
    uint32_t found = count < k ? count : k;
    memcpy(out, all, sizeof(*all) * found);
    free(all);
    return found;
}

/* What a search finds, ranked by true distance; *ret_found of them.  Asserts that all are allowed, distinct rows. */
static inline void fixture_search(const struct fixture *f, const float *q, const uint64_t *mask,
                                  struct vector_plan plan, float bound, struct near *out,
                                  uint32_t *ret_found, struct vector_found *ret_stats)
{
    struct arena arena;
    struct vector_pages pages = {.context = (void *)(uintptr_t)f, .at = fixture_page};
    struct vector_query query = {.index = &f->index,
                                 .pages = &pages,
                                 .vector = q,
                                 .mask = mask,
                                 .bound = bound,
                                 .plan = plan};
    struct vector_found found;
    bool usable;
    arena_init(&arena, NULL, 0);
    MUST(vector_search(&query, &arena, &found, &usable, err));
    assert_true(usable);
    struct near *all = malloc(sizeof(*all) * (found.count + 1));
    for (size_t i = 0; i < found.count; i++) {
        uint32_t row = found.rows[i].row, source = f->order[row];
        assert_true(row < f->index.coded);
        assert_true(!i || found.rows[i - 1].row < row);
        assert_true(!mask || (mask[row / 64] >> row % 64 & 1));
        all[i] =
            (struct near){fixture_distance(f, q, f->vectors + (size_t)source * f->dim), source};
    }
    qsort(all, found.count, sizeof(*all), near_compare);
    *ret_found = (uint32_t)(found.count < plan.k ? found.count : plan.k);
    memcpy(out, all, sizeof(*all) * *ret_found);
    if (ret_stats)
        *ret_stats = found;
    free(all);
    arena_done(&arena);
}

/* Share of the true k nearest distances that were found; ties count as found. */
static inline double fixture_recall(const struct near *truth, uint32_t count,
                                    const struct near *found, uint32_t found_count)
{
    if (!count)
        return 1;
    double last = truth[count - 1].distance, slack = 1e-5 * (fabs(last) + 1e-9);
    uint32_t hits = 0;
    for (uint32_t i = 0; i < found_count; i++)
        hits += found[i].distance <= last + slack;
    return (double)(hits < count ? hits : count) / count;
}
/* Codes even where so few rows would be looked at by themselves. */
static inline struct vector_plan fixture_by_codes(struct vector_plan plan)
{
    if (plan.mode != VECTOR_EXACT)
        return plan;
    plan.mode = VECTOR_CODES8;
    plan.keep = 2 * plan.k;
    plan.rerank_max += 192;
    return plan;
}
#endif
