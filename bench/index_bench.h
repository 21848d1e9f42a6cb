/* SPDX-License-Identifier: Apache-2.0 */
/* Parts of rows in memory with their vector indexes, for benchmarks: rows made or read, parts built, one query asked of several parts as
 * the executor does it (largest first, with what was found so far as a bound). */
#ifndef BENCH_INDEX_BENCH_H
#define BENCH_INDEX_BENCH_H

#include "base/buf.h"
#include "base/clock.h"
#include "index/vector/vector.h"
#include "kernel/kernel.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static inline void die(const char *what)
{
    (void)fprintf(stderr, "%s\n", what);
    exit(1);
}

static inline double cpu(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static inline void *need(size_t count, size_t size)
{
    void *at = aligned_alloc(64, (count * size + 128) / 64 * 64);
    if (!at)
        die("no memory");
    return at;
}

static inline float normal(struct random *random)
{
    double u = random_unit(random) + 1e-12, v = random_unit(random);
    return (float)(sqrt(-2 * log(u)) * cos(6.283185307179586 * v));
}

struct data {
    uint32_t rows, dim, queries;
    enum metric metric;
    float *base, *query;
    uint32_t *cluster; /* of a row made; NULL: read from a folder */
};

/* Clusters, each with directions of its own: rows differ in about 24 of them. */
static inline void make_rows(const struct data *b, uint64_t seed, uint32_t rows, float *out,
                             uint32_t *ret_cluster)
{
    enum { INNER = 24 };
    uint32_t clusters = b->rows / 250 + 1, dim = b->dim;
    struct random random;
    random_seed(&random, 42);
    float *centers = need((size_t)clusters * dim, 4), *basis = need((size_t)INNER * 16 * dim, 4);
    for (size_t i = 0; i < (size_t)clusters * dim; i++)
        centers[i] = normal(&random);
    for (size_t i = 0; i < (size_t)INNER * 16 * dim; i++)
        basis[i] = normal(&random);
    random_seed(&random, seed);
    for (uint32_t r = 0; r < rows; r++) {
        uint32_t c = (uint32_t)random_below(&random, clusters);
        float *x = out + (size_t)r * dim;
        const float *own = basis + (size_t)(c % 16) * INNER * dim;
        for (uint32_t j = 0; j < dim; j++)
            x[j] = centers[(size_t)c * dim + j] + 0.15f * normal(&random);
        for (uint32_t i = 0; i < INNER; i++) {
            float weight = 0.25f * normal(&random);
            for (uint32_t j = 0; j < dim; j++)
                x[j] += weight * own[(size_t)i * dim + j];
        }
        if (ret_cluster)
            ret_cluster[r] = c;
    }
    free(centers);
    free(basis);
}

static inline void read_floats(const char *folder, const char *name, size_t count, float *out)
{
    char path[512];
    (void)snprintf(path, sizeof(path), "%s/%s", folder, name);
    FILE *file = fopen(path, "rb");
    if (!file || fread(out, 4, count, file) != count)
        die(path);
    (void)fclose(file);
}

/* folder: shape.txt ("rows dim queries"), base.f32, query.f32; NULL: clusters are made. */
static inline void data_get(struct data *b, const char *folder)
{
    if (!folder) {
        b->base = need((size_t)b->rows * b->dim, 4);
        b->query = need((size_t)b->queries * b->dim, 4);
        b->cluster = need(b->rows, 4);
        make_rows(b, 1, b->rows, b->base, b->cluster);
        make_rows(b, 2, b->queries, b->query, NULL);
        return;
    }
    char path[512];
    unsigned rows, dim, queries;
    (void)snprintf(path, sizeof(path), "%s/shape.txt", folder);
    FILE *file = fopen(path, "r");
    if (!file || fscanf(file, "%u %u %u", &rows, &dim, &queries) != 3)
        die(path);
    (void)fclose(file);
    b->rows = b->rows < rows ? b->rows : rows;
    b->dim = dim;
    b->queries = b->queries < queries ? b->queries : queries;
    b->base = need((size_t)b->rows * dim, 4);
    b->query = need((size_t)b->queries * dim, 4);
    read_floats(folder, "base.f32", (size_t)b->rows * dim, b->base);
    read_floats(folder, "query.f32", (size_t)b->queries * dim, b->query);
}

struct part_data {
    const struct vector_index *like; /* whose space it takes; NULL: its own */
    const struct data *data;
    const uint32_t *sources;
    uint32_t rows;
    uint32_t *row_source; /* row -> row of the data */
    float *ordered;       /* rows in row order */
    struct vector_build *build;
    struct vector_built built;
    struct buf code8;
    struct vector_index index;
};

static inline och_code part_row(void *context, uint32_t i, const float **ret, och_error *err)
{
    const struct part_data *p = context;
    (void)err;
    *ret = p->data->base + (size_t)p->sources[i] * p->data->dim;
    return OCH_OK;
}

static inline och_code part_emit(void *context, const void *at, size_t len, och_error *err)
{
    buf_append(context, at, len);
    return buf_check(context, "codes", err);
}

static inline och_code part_page(void *context, enum vector_section section, uint64_t unit,
                                 const uint8_t **ret_base, uint64_t *ret_first, uint64_t *ret_units,
                                 och_error *err)
{
    const struct part_data *p = context;
    (void)unit;
    (void)err;
    *ret_base = section == VECTOR_CODE ? p->built.code.at : p->code8.at;
    *ret_first = 0;
    *ret_units = section == VECTOR_CODE ? p->index.blocks : p->index.coded;
    return OCH_OK;
}

static inline void part_make(struct part_data *p)
{
    const struct data *b = p->data;
    struct vector_rows rows = {.context = p, .count = p->rows, .row = part_row};
    struct vector_options options = {.dimension = b->dim, .metric = b->metric, .like = p->like};
    och_error err = {0};
    if (vector_build_new(&options, &rows, &p->build, &err) != OCH_OK)
        die(err.message);
    p->built = vector_build_result(p->build);
    buf_init(&p->code8, BUF_MAX_NONE);
    if (vector_build_code8(p->build, part_emit, &p->code8, &err) != OCH_OK)
        die(err.message);
    const uint32_t *order = vector_build_order(p->build);
    p->ordered = need((size_t)p->rows * b->dim, 4);
    p->row_source = need(p->rows, 4);
    for (uint32_t row = 0; row < p->rows; row++) {
        p->row_source[row] = p->sources[order ? order[row] : row];
        memcpy(p->ordered + (size_t)row * b->dim, b->base + (size_t)p->row_source[row] * b->dim,
               4 * (size_t)b->dim);
    }
    if (!vector_index_open(p->built.mean, p->built.list, p->built.centq, p->built.code.len,
                           p->code8.len, p->rows, b->dim, b->metric, &p->index))
        die("the index does not open");
}

static inline void part_drop(struct part_data *p)
{
    vector_build_free(p->build);
    buf_done(&p->code8);
    free(p->ordered);
    free(p->row_source);
}

static inline float reported(const struct data *b, const float *q, const float *x)
{
    const struct kernel *kernel = kernel_get();
    if (b->metric == METRIC_L2)
        return kernel->l2_f32(q, x, b->dim);
    float dot = kernel->dot_f32(q, x, b->dim);
    if (b->metric == METRIC_IP)
        return kernel_ip_distance(dot);
    return kernel_cosine_distance(dot, kernel->dot_f32(q, q, b->dim),
                                  kernel->dot_f32(x, x, b->dim));
}

struct item {
    float distance;
    uint32_t source;
};
static inline int compare_items(const void *a, const void *b)
{
    const struct item *x = a, *y = b;
    int order = (x->distance > y->distance) - (x->distance < y->distance);
    return order ? order : (x->source > y->source) - (x->source < y->source);
}

/* The k best, ascending. */
struct best {
    struct item items[128];
    uint32_t count, k;
};
static inline void best_push(struct best *best, struct item item)
{
    if (best->count == best->k && compare_items(&item, &best->items[best->k - 1]) >= 0)
        return;
    uint32_t at = best->count < best->k ? best->count++ : best->k - 1;
    for (; at && compare_items(&item, &best->items[at - 1]) < 0; at--)
        best->items[at] = best->items[at - 1];
    best->items[at] = item;
}
static inline float best_bound(const struct best *best)
{
    return best->count < best->k ? INFINITY : best->items[best->k - 1].distance;
}

/* One part, with what is known as a bound. */
static inline void ask_part(struct part_data *p, struct vector_query *search, struct best *best,
                            struct arena *arena, struct vector_found *found)
{
    struct vector_pages pages = {.context = p, .at = part_page};
    bool usable;
    och_error err = {0};
    search->pages = &pages;
    search->bound = best_bound(best);
    if (vector_search(search, arena, found, &usable, &err) != OCH_OK || !usable)
        die("search");
}

/* Its candidates' distances. */
static inline void rerank_part(const struct part_data *p, const float *query,
                               const struct vector_found *found, struct best *best)
{
    const struct data *b = p->data;
    for (size_t i = 0; i < found->count; i++) {
        uint32_t row = found->rows[i].row;
        best_push(best, (struct item){reported(b, query, p->ordered + (size_t)row * b->dim),
                                      p->row_source[row]});
    }
}
#endif
