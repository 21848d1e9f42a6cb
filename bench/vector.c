/* SPDX-License-Identifier: Apache-2.0 */
/* The vector index in process, one thread, codes in memory and rows mapped from the data set's file: CPU time of the build, then recall@k and
 * queries a second at several targets beside an exact scan of the same rows.  Ten million rows of 96 take 5.6 GB, page cache included.
 *
 *     vector [options] [folder]
 *       folder            a data set: shape.txt ("rows dim queries"), base.f32, query.f32; else clusters are made
 *       --rows N --dim D  of the rows made (200000, 384), or at most so many of the folder's
 *       --k K,K...        10; one set of figures each
 *       --space S         l2, cosine, ip
 *       --queries Q       at most (1000)
 *       --held Q          so many rows at the folder's end are the queries and in no index: like the data, and as many as one wants
 *       --flat            one list
 *       --threads T       that build (1)
 *       --merge P         also: an index of all rows but a share P, these as parts of 16,384 rows, and all merged; beside the build of all
 *       --unseen          what --merge adds is other topics (of 64) than those that the lists were made for
 *       --lists L         so many lists for each query instead of what a recall takes, whatever their reach
 *       --share P         only every row with chance P passes a filter
 *       --recall R        this target alone
 *       --rounds N        of the queries, the best counts (2)
 *
 * peak_mb: of the memory that the build charges, as seen when it reads rows; the rows themselves are not in it.
 * One JSON line for the build and one for each target; error: the standard error of its recall, from how the queries differ. */
#include "index/vector/vector.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/pool.h"
#include "kernel/kernel.h"

#include <fcntl.h>
#include <math.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define KS_MOST 8

struct bench {
    uint32_t rows, dim, queries, k, threads, held;
    uint32_t ks[KS_MOST], k_count, k_most; /* k is one of them */
    struct pool *pool;
    struct budget budget;
    _Atomic int64_t peak_bytes; /* of a build */
    double build_s, merge;
    float recall;
    uint32_t lists; /* 0: as the plan says */
    bool unseen;
    int rounds;
    enum metric metric;
    bool flat;
    double share;
    const float *base, *query;
    const uint32_t *order; /* row of the index -> row of base; NULL: the same */
    struct vector_build *build;
    struct vector_index index;
    struct vector_built built;
    struct buf code8;
    uint32_t *truth; /* k_most rows of base a query */
    bool has_truth;
    uint64_t *mask, *in_base; /* by row of the index, by row of base; NULL: all */
    uint64_t survivors;
};

static double cpu(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static double wall(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

__attribute__((noreturn)) static void die(const char *what)
{
    (void)fprintf(stderr, "vector: %s\n", what);
    exit(1);
}

static void *need(size_t count, size_t size)
{
    void *at = aligned_alloc(64, (count * size + 64) / 64 * 64);
    if (!at)
        die("no memory");
    return at;
}

static float normal(struct random *random)
{
    double u = random_unit(random) + 1e-12, v = random_unit(random);
    return (float)(sqrt(-2 * log(u)) * cos(6.283185307179586 * v));
}

/* Clusters, each with directions of its own: rows differ in about 24 of them. */
static void make_rows(const struct bench *b, uint64_t seed, uint32_t rows, float *out)
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
    }
    free(centers);
    free(basis);
}

static const float *map_floats(const char *folder, const char *name, size_t count)
{
    char path[512];
    struct stat info;
    (void)snprintf(path, sizeof(path), "%s/%s", folder, name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &info) != 0 || (size_t)info.st_size < count * 4)
        die(path);
    void *at = mmap(NULL, count * 4, PROT_READ, MAP_SHARED, fd, 0);
    if (at == MAP_FAILED)
        die(path);
    (void)close(fd);
    return at;
}

static void read_folder(struct bench *b, const char *folder)
{
    char path[512];
    unsigned rows, dim, queries;
    (void)snprintf(path, sizeof(path), "%s/shape.txt", folder);
    FILE *file = fopen(path, "r");
    if (!file || fscanf(file, "%u %u %u", &rows, &dim, &queries) != 3)
        die(path);
    (void)fclose(file);
    if (b->held >= rows)
        die("more queries than rows");
    b->rows = b->rows && b->rows < rows - b->held ? b->rows : rows - b->held;
    b->dim = dim;
    if (b->held) {
        b->queries = b->held;
        b->base = map_floats(folder, "base.f32", (size_t)rows * dim);
        b->query = b->base + (size_t)(rows - b->held) * dim;
        return;
    }
    b->queries = b->queries < queries ? b->queries : queries;
    b->base = map_floats(folder, "base.f32", (size_t)b->rows * dim);
    b->query = map_floats(folder, "query.f32", (size_t)b->queries * dim);
}

static och_code row_at(void *context, uint32_t i, const float **ret_vector, och_error *err)
{
    struct bench *b = context;
    (void)err;
    int64_t used = budget_used(&b->budget);
    if (used > atomic_load_explicit(&b->peak_bytes, memory_order_relaxed))
        atomic_store_explicit(&b->peak_bytes, used, memory_order_relaxed);
    *ret_vector = b->base + (size_t)i * b->dim;
    return OCH_OK;
}

static och_code emit(void *context, const void *at, size_t len, och_error *err)
{
    buf_append(context, at, len);
    return buf_check(context, "codes", err);
}

static och_code page(void *context, enum vector_section section, uint64_t unit,
                     const uint8_t **ret_base, uint64_t *ret_first, uint64_t *ret_units,
                     och_error *err)
{
    const struct bench *b = context;
    (void)unit;
    (void)err;
    *ret_base = section == VECTOR_CODE ? b->built.code.at : b->code8.at;
    *ret_first = 0;
    *ret_units = section == VECTOR_CODE ? b->index.blocks : b->index.coded;
    return OCH_OK;
}

static float distance(const struct bench *b, const float *q, const float *x)
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
    uint32_t row;
};
static int compare_items(const void *a, const void *b)
{
    const struct item *x = a, *y = b;
    int order = (x->distance > y->distance) - (x->distance < y->distance);
    return order ? order : (x->row > y->row) - (x->row < y->row);
}

static const float *row_of(const struct bench *b, uint32_t row)
{
    return b->base + (size_t)row * b->dim;
}

/* What an exact scan costs: CPU seconds of a query by the kernels, over a few of them. */
static double scan_cost(const struct bench *b)
{
    enum { BLOCK = 1024 };
    float out[BLOCK];
    uint32_t queries = b->queries < 8 ? b->queries : 8;
    double start = cpu();
    for (uint32_t q = 0; q < queries; q++) {
        const float *query = b->query + (size_t)q * b->dim;
        for (uint32_t at = 0; at < b->rows; at += BLOCK) {
            uint32_t count = b->rows - at < BLOCK ? b->rows - at : BLOCK;
            (b->metric == METRIC_L2 ? kernel_get()->l2_rows_f32 : kernel_get()->dot_rows_f32)(
                query, row_of(b, at), b->dim, b->dim, count, out);
        }
    }
    return (cpu() - start) / queries;
}

/* A block of rows against one query, into its k nearest in order. */
static void nearest_of_block(const struct bench *b, const float *query, float norm2, uint32_t at,
                             uint32_t count, const float *norms, struct item *best)
{
    float out[256];
    (b->metric == METRIC_L2 ? kernel_get()->l2_rows_f32 : kernel_get()->dot_rows_f32)(
        query, row_of(b, at), b->dim, b->dim, count, out);
    for (uint32_t i = 0; i < count; i++) {
        uint32_t row = at + i, place = b->k_most - 1;
        float own = b->metric == METRIC_L2   ? out[i]
                    : b->metric == METRIC_IP ? kernel_ip_distance(out[i])
                                             : kernel_cosine_distance(out[i], norm2, norms[i]);
        if (!(own < best[place].distance))
            continue;
        if (b->in_base && !(b->in_base[row / 64] >> row % 64 & 1))
            continue;
        for (; place > 0 && best[place - 1].distance > own; place--)
            best[place] = best[place - 1];
        best[place] = (struct item){own, row};
    }
}

/* Exact answers: all queries for a block of rows while it is in the cache. */
static void exact(struct bench *b)
{
    enum { BLOCK = 256 };
    float norms[BLOCK], *norm2 = need(b->queries, 4);
    struct item *best = need((size_t)b->queries * b->k_most, sizeof(*best));
    for (uint32_t q = 0; q < b->queries; q++)
        norm2[q] = kernel_get()->dot_f32(b->query + (size_t)q * b->dim,
                                         b->query + (size_t)q * b->dim, b->dim);
    for (size_t i = 0; i < (size_t)b->queries * b->k_most; i++)
        best[i] = (struct item){INFINITY, UINT32_MAX};
    for (uint32_t at = 0; at < b->rows; at += BLOCK) {
        uint32_t count = b->rows - at < BLOCK ? b->rows - at : BLOCK;
        for (uint32_t i = 0; i < count; i++)
            norms[i] = kernel_get()->dot_f32(row_of(b, at + i), row_of(b, at + i), b->dim);
        for (uint32_t q = 0; q < b->queries; q++)
            nearest_of_block(b, b->query + (size_t)q * b->dim, norm2[q], at, count, norms,
                             best + (size_t)q * b->k_most);
    }
    for (size_t i = 0; i < (size_t)b->queries * b->k_most; i++)
        b->truth[i] = best[i].row;
    free(best);
    free(norm2);
}

/* What a build made becomes what is asked. */
static void put_in_order(struct bench *b)
{
    b->order = vector_build_order(b->build);
    if (!vector_index_open(b->built.mean, b->built.list, b->built.centq, b->built.code.len,
                           b->code8.len, b->rows, b->dim, b->metric, &b->index))
        die("the index does not open");
    if (!vector_index_super(&b->index, b->built.super))
        die("SUPER does not open");
}

static struct vector_options options_of(struct bench *b)
{
    return (struct vector_options){.dimension = b->dim,
                                   .metric = b->metric,
                                   .budget = &b->budget,
                                   .pool = b->pool,
                                   .flat_rows = b->flat ? UINT32_MAX : 0};
}

static void make(struct bench *b)
{
    struct vector_rows rows = {.context = b, .count = b->rows, .row = row_at};
    struct vector_options options = options_of(b);
    och_error err = {0};
    double start = cpu(), begin = wall();
    if (vector_build_new(&options, &rows, &b->build, &err) != OCH_OK)
        die(err.message);
    b->built = vector_build_result(b->build);
    buf_init(&b->code8, BUF_MAX_NONE);
    double middle = cpu();
    if (!buf_reserve(&b->code8, b->built.code8_bytes))
        die("no memory");
    if (vector_build_code8(b->build, emit, &b->code8, &err) != OCH_OK)
        die(err.message);
    double end = cpu(), finish = wall();
    put_in_order(b);
    b->build_s = end - start;
    double hot = (double)(b->built.mean.len + b->built.list.len + b->built.centq.len +
                          b->built.super.len + b->built.code.len) /
                 b->rows;
    printf("{\"bench\":\"vector build\",\"rows\":%u,\"dimension\":%u,\"lists\":%u,\"gamma\":%.2f,"
           "\"kappa\":%.3f,\"hot_bytes_a_row\":%.1f,\"cpu_s\":%.2f,\"code8_cpu_s\":%.2f,"
           "\"threads\":%u,\"wall_s\":%.2f,\"peak_mb\":%.1f}\n",
           b->rows, b->dim, b->index.lists, (double)b->index.gamma, (double)b->index.kappa, hot,
           end - start, end - middle, b->threads, finish - begin,
           (double)atomic_load(&b->peak_bytes) / 1e6);
    (void)fflush(stdout);
}

/* ---- topics ---- */

#define TOPICS 64u

static uint32_t nearest_topic(const struct bench *b, const float *centres, const float *x)
{
    float out[TOPICS], norm2 = kernel_get()->dot_f32(x, x, b->dim);
    uint32_t best = 0;
    (b->metric == METRIC_L2 ? kernel_get()->l2_rows_f32
                            : kernel_get()->dot_rows_f32)(x, centres, b->dim, b->dim, TOPICS, out);
    for (uint32_t t = 0; t < TOPICS; t++) {
        const float *c = centres + (size_t)t * b->dim;
        if (b->metric != METRIC_L2)
            out[t] = kernel_cosine_distance(out[t], norm2, kernel_get()->dot_f32(c, c, b->dim));
        best = out[t] < out[best] ? t : best;
    }
    return best;
}

/* Centres of topics: some rounds of k-means over some of the rows. */
static float *find_topics(const struct bench *b)
{
    enum { ROUNDS = 5, SAMPLE = 20000 };
    float *centres = need((size_t)TOPICS * b->dim, 4), *sums = need((size_t)TOPICS * b->dim, 4);
    uint32_t step = b->rows / SAMPLE + 1, counts[TOPICS];
    struct random random;
    random_seed(&random, 11);
    for (uint32_t t = 0; t < TOPICS; t++)
        memcpy(centres + (size_t)t * b->dim, row_of(b, (uint32_t)random_below(&random, b->rows)),
               b->dim * 4);
    for (int round = 0; round < ROUNDS; round++) {
        memset(sums, 0, (size_t)TOPICS * b->dim * 4);
        memset(counts, 0, sizeof(counts));
        for (uint32_t row = 0; row < b->rows; row += step) {
            uint32_t topic = nearest_topic(b, centres, row_of(b, row));
            counts[topic]++;
            for (uint32_t j = 0; j < b->dim; j++)
                sums[(size_t)topic * b->dim + j] += row_of(b, row)[j];
        }
        for (uint32_t t = 0; t < TOPICS; t++)
            for (uint32_t j = 0; counts[t] && j < b->dim; j++)
                centres[(size_t)t * b->dim + j] = sums[(size_t)t * b->dim + j] / (float)counts[t];
    }
    free(sums);
    return centres;
}

/* Rows in another order: first those of topics that make up all but about the share that is merged in. */
static void sort_by_topic(struct bench *b)
{
    float *centres = find_topics(b), *sorted = need((size_t)b->rows * b->dim, 4);
    uint8_t *topic_of = need(b->rows, 1);
    uint32_t counts[TOPICS] = {0}, order[TOPICS], seen = 0, topics = 0, at = 0;
    struct random random;
    random_seed(&random, 12);
    for (uint32_t row = 0; row < b->rows; row++)
        counts[topic_of[row] = (uint8_t)nearest_topic(b, centres, row_of(b, row))]++;
    for (uint32_t t = 0; t < TOPICS; t++) {
        uint32_t other = (uint32_t)random_below(&random, t + 1);
        order[t] = order[other];
        order[other] = t;
    }
    while (topics < TOPICS && seen < (1 - b->merge) * b->rows)
        seen += counts[order[topics++]];
    for (int unseen = 0; unseen < 2; unseen++)
        for (uint32_t row = 0; row < b->rows; row++) {
            bool is_seen = false;
            for (uint32_t t = 0; t < topics; t++)
                is_seen = is_seen || order[t] == topic_of[row];
            if (is_seen != !unseen)
                continue;
            memcpy(sorted + (size_t)at++ * b->dim, row_of(b, row), b->dim * 4);
        }
    b->base = sorted;
    b->merge = 1 - (double)seen / b->rows;
    free(topic_of);
    free(centres);
}

/* ---- merging ---- */

struct input { /* rows [from, from + count) with an index of their own */
    struct bench *bench;
    uint32_t from, count, *row_of;
    struct vector_build *build;
    struct buf code8;
    struct vector_index index;
};
struct inputs {
    struct bench *bench;
    uint32_t count, first, step; /* rows of the first, of each other one */
    struct input *at;
};

static och_code input_row(void *context, uint32_t i, const float **ret_vector, och_error *err)
{
    struct input *input = context;
    return row_at(input->bench, input->from + i, ret_vector, err);
}

static och_code merged_row(void *context, uint32_t i, const float **ret_vector, och_error *err)
{
    return row_at(((struct inputs *)context)->bench, i, ret_vector, err);
}

static void merged_place(const void *context, uint32_t i, uint32_t *ret_input, uint32_t *ret_row)
{
    const struct inputs *inputs = context;
    *ret_input = i < inputs->first ? 0 : 1 + (i - inputs->first) / inputs->step;
    const struct input *input = &inputs->at[*ret_input];
    *ret_row = input->row_of[i - input->from];
}

static och_code merged_code8(void *context, uint32_t input, uint32_t row, const uint8_t **ret_row8,
                             och_error *err)
{
    const struct input *at = &((struct inputs *)context)->at[input];
    (void)err;
    *ret_row8 = (const uint8_t *)at->code8.at + row * code_row_size(at->index.code_dim);
    return OCH_OK;
}

static void make_input(struct bench *b, struct input *input, const struct vector_index *like)
{
    struct vector_rows rows = {.context = input, .count = input->count, .row = input_row};
    struct vector_options options = options_of(b);
    och_error err = {0};
    options.like = like;
    input->bench = b;
    buf_init(&input->code8, BUF_MAX_NONE);
    if (vector_build_new(&options, &rows, &input->build, &err) != OCH_OK ||
        vector_build_code8(input->build, emit, &input->code8, &err) != OCH_OK)
        die(err.message);
    struct vector_built built = vector_build_result(input->build);
    if (!vector_index_open(built.mean, built.list, built.centq, built.code.len, input->code8.len,
                           input->count, b->dim, b->metric, &input->index) ||
        !vector_index_super(&input->index, built.super))
        die("the index does not open");
    const uint32_t *order = vector_build_order(input->build);
    input->row_of = need(input->count, 4);
    for (uint32_t row = 0; row < input->count; row++)
        input->row_of[order ? order[row] : row] = row;
}

static void merge(struct bench *b)
{
    enum { STEP = 16384 };
    uint32_t rest = (uint32_t)(b->merge * b->rows);
    struct inputs inputs = {
        .bench = b, .first = b->rows - rest, .step = STEP, .count = 1 + (rest + STEP - 1) / STEP};
    const struct vector_index **indexes = need(inputs.count, sizeof(*indexes));
    inputs.at = need(inputs.count, sizeof(*inputs.at));
    for (uint32_t i = 0, from = 0; i < inputs.count; i++) {
        uint32_t count = i == 0 ? inputs.first : b->rows - from < STEP ? b->rows - from : STEP;
        inputs.at[i] = (struct input){.from = from, .count = count};
        make_input(b, &inputs.at[i], i ? &inputs.at[0].index : NULL);
        indexes[i] = &inputs.at[i].index;
        from += count;
    }
    vector_build_free(b->build);
    buf_clear(&b->code8);
    struct vector_rows rows = {.context = &inputs,
                               .count = b->rows,
                               .row = merged_row,
                               .place = merged_place,
                               .code8 = merged_code8};
    struct vector_options options = options_of(b);
    och_error err = {0};
    options.inputs = indexes;
    options.input_count = inputs.count;
    double start = cpu();
    if (vector_build_new(&options, &rows, &b->build, &err) != OCH_OK ||
        vector_build_code8(b->build, emit, &b->code8, &err) != OCH_OK)
        die(err.message);
    double spent = cpu() - start;
    b->built = vector_build_result(b->build);
    put_in_order(b);
    printf("{\"bench\":\"vector merge\",\"rows\":%u,\"dimension\":%u,\"parts\":%u,\"new_rows\":%u,"
           "\"lists\":%u,\"lists_kept\":%s,\"cpu_s\":%.2f,\"of_build\":%.3f}\n",
           b->rows, b->dim, inputs.count, rest, b->index.lists,
           b->built.base == VECTOR_NEW_SPACE ? "false" : "true", spent, spent / b->build_s);
    (void)fflush(stdout);
    for (uint32_t i = 0; i < inputs.count; i++) {
        vector_build_free(inputs.at[i].build);
        buf_done(&inputs.at[i].code8);
        free(inputs.at[i].row_of);
    }
    free(inputs.at);
    free(indexes);
}

static uint32_t answer(struct bench *b, const float *query, float recall, struct arena *arena,
                       struct item *items, struct vector_found *found)
{
    struct vector_pages pages = {.context = b, .at = page};
    struct vector_query search = {.index = &b->index,
                                  .pages = &pages,
                                  .vector = query,
                                  .mask = b->mask,
                                  .bound = INFINITY,
                                  .plan = vector_plan_make(&b->index, b->k, recall, b->survivors)};
    bool usable;
    och_error err = {0};
    if (b->lists) {
        search.plan.mode = VECTOR_BUDGET;
        search.plan.lists = b->lists < b->index.lists ? b->lists : b->index.lists;
        search.plan.reach = 1e3f;
        search.plan.fall = 0;
    }
    arena_init(arena, NULL, 0);
    if (vector_search(&search, arena, found, &usable, &err) != OCH_OK || !usable)
        die("search");
    uint32_t count = (uint32_t)min_size(found->count, 8 * b->k + 256);
    for (uint32_t i = 0; i < count; i++) {
        uint32_t row = found->rows[i].row;
        row = b->order ? b->order[row] : row;
        items[i] = (struct item){distance(b, query, row_of(b, row)), row};
    }
    qsort(items, count, sizeof(*items), compare_items);
    arena_done(arena);
    return count < b->k ? count : b->k;
}

static int compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void ask(struct bench *b, float recall, double exact_s)
{
    struct arena arena;
    struct item *items = need(8 * b->k + 512, sizeof(*items));
    double *times = need(b->queries, sizeof(*times)), hits = 0, wanted = 0, lists = 0, coded = 0,
           scored = 0, reranked = 0, spent = 0, square = 0;
    for (int round = 0; round < b->rounds; round++) { /* the first warms */
        hits = wanted = lists = coded = scored = reranked = square = 0;
        double start = cpu(), own_spent;
        for (uint32_t q = 0; q < b->queries; q++) {
            struct vector_found found;
            double own = cpu();
            uint32_t count =
                answer(b, b->query + (size_t)q * b->dim, recall, &arena, items, &found);
            own = cpu() - own;
            times[q] = round && times[q] < own ? times[q] : own;
            lists += (double)found.lists_probed / b->queries;
            coded += (double)found.rows_scanned / b->queries;
            scored += (double)found.rows_scored / b->queries;
            reranked += (double)found.count / b->queries;
            double own_hits = 0, own_wanted = 0;
            for (uint32_t i = 0; i < b->k; i++) {
                uint32_t row = b->truth[(size_t)q * b->k_most + i];
                own_wanted += row != UINT32_MAX;
                for (uint32_t j = 0; j < count; j++)
                    own_hits += items[j].row == row;
            }
            hits += own_hits;
            wanted += own_wanted;
            square += own_wanted > 0 ? own_hits / own_wanted * (own_hits / own_wanted) : 0;
        }
        own_spent = cpu() - start;
        spent = round && spent < own_spent ? spent : own_spent;
    }
    qsort(times, b->queries, sizeof(*times), compare_doubles);
    double mean = hits / wanted, variance = square / b->queries - mean * mean;
    printf("{\"bench\":\"vector\",\"target\":%.3f,\"k\":%u,\"recall\":%.4f,\"error\":%.4f,"
           "\"queries_per_s\":%.0f,"
           "\"p50_us\":%.0f,\"p99_us\":%.0f,\"budget\":%u,\"lists\":%.1f,\"rows_coded\":%.0f,"
           "\"share\":%.4f,"
           "\"rows_scored\":%.0f,\"reranked\":%.1f,\"exact_queries_per_s\":%.0f}\n",
           (double)recall, b->k, mean, sqrt(fmax(variance, 0) / b->queries), b->queries / spent,
           times[b->queries / 2] * 1e6, times[(size_t)(b->queries * 0.99)] * 1e6,
           vector_budget(&b->index, b->k, recall), lists, coded, coded / b->rows, scored, reranked,
           1 / exact_s);
    (void)fflush(stdout);
    free(items);
    free(times);
}

static void ask_all(struct bench *b)
{
    static const float targets[] = {0.8f, 0.9f, 0.95f, 0.975f, 0.99f, 0.995f, 0.999f};
    double exact_s = scan_cost(b);
    if (!b->has_truth || b->in_base) /* a filter's rows are those of an order */
        exact(b);
    b->has_truth = true;
    for (uint32_t i = 0; i < b->k_count; i++) {
        b->k = b->ks[i];
        if (b->recall > 0 || b->lists)
            ask(b, b->recall, exact_s);
        else
            for (size_t t = 0; t < COUNT_OF(targets); t++)
                ask(b, targets[t], exact_s);
    }
}

static void make_mask(struct bench *b)
{
    struct random random;
    random_seed(&random, 7);
    b->survivors = b->index.coded;
    if (b->share >= 1)
        return;
    size_t words = b->rows / 64 + 2;
    free(b->mask);
    free(b->in_base);
    b->mask = need(words, 8);
    b->in_base = need(words, 8);
    memset(b->mask, 0, words * 8);
    memset(b->in_base, 0, words * 8);
    b->survivors = 0;
    for (uint32_t row = 0; row < b->rows; row++) {
        bool in = random_unit(&random) < b->share;
        uint32_t in_base = b->order ? b->order[row] : row;
        b->mask[row / 64] |= (uint64_t)in << row % 64;
        b->in_base[in_base / 64] |= (uint64_t)in << in_base % 64;
        b->survivors += in && row < b->index.coded;
    }
}

static void read_ks(struct bench *b, const char *list)
{
    b->k_count = b->k_most = 0;
    for (char *end; *list && b->k_count < KS_MOST; list = *end ? end + 1 : end) {
        uint32_t k = (uint32_t)strtoul(list, &end, 10);
        if (!k)
            die("--k");
        b->ks[b->k_count++] = k;
        b->k_most = k > b->k_most ? k : b->k_most;
    }
}

int main(int argc, char **argv)
{
    struct bench b = {
        .queries = 1000, .metric = METRIC_COSINE, .share = 1, .threads = 1, .rounds = 2};
    read_ks(&b, "10");
    const char *folder = NULL;
    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : "";
        if (strcmp(argv[i], "--flat") == 0) {
            b.flat = true;
            continue;
        }
        if (strcmp(argv[i], "--unseen") == 0) {
            b.unseen = true;
            continue;
        }
        if (argv[i][0] != '-') {
            folder = argv[i];
            continue;
        }
        i++;
        if (strcmp(argv[i - 1], "--rows") == 0)
            b.rows = (uint32_t)strtoul(value, NULL, 10);
        else if (strcmp(argv[i - 1], "--dim") == 0)
            b.dim = (uint32_t)strtoul(value, NULL, 10);
        else if (strcmp(argv[i - 1], "--k") == 0)
            read_ks(&b, value);
        else if (strcmp(argv[i - 1], "--lists") == 0)
            b.lists = (uint32_t)strtoul(value, NULL, 10);
        else if (strcmp(argv[i - 1], "--held") == 0)
            b.held = (uint32_t)strtoul(value, NULL, 10);
        else if (strcmp(argv[i - 1], "--queries") == 0)
            b.queries = (uint32_t)strtoul(value, NULL, 10);
        else if (strcmp(argv[i - 1], "--threads") == 0)
            b.threads = (uint32_t)strtoul(value, NULL, 10);
        else if (strcmp(argv[i - 1], "--merge") == 0)
            b.merge = strtod(value, NULL);
        else if (strcmp(argv[i - 1], "--share") == 0)
            b.share = strtod(value, NULL);
        else if (strcmp(argv[i - 1], "--recall") == 0)
            b.recall = strtof(value, NULL);
        else if (strcmp(argv[i - 1], "--rounds") == 0)
            b.rounds = (int)strtol(value, NULL, 10);
        else if (strcmp(argv[i - 1], "--space") == 0)
            b.metric = strcmp(value, "l2") == 0   ? METRIC_L2
                       : strcmp(value, "ip") == 0 ? METRIC_IP
                                                  : METRIC_COSINE;
        else
            die("unknown option");
    }
    if (b.threads > 1) {
        struct pool_options pool = {.name = "build", .thread_count = b.threads - 1};
        if (pool_new(&pool, &b.pool, NULL) != OCH_OK)
            die("no threads");
    }
    if (folder) {
        read_folder(&b, folder);
    } else {
        b.rows = b.rows ? b.rows : 200000;
        b.dim = b.dim ? b.dim : 384;
        float *base = need((size_t)b.rows * b.dim, 4), *query = need((size_t)b.queries * b.dim, 4);
        make_rows(&b, 1, b.rows, base);
        make_rows(&b, 2, b.queries, query);
        b.base = base;
        b.query = query;
    }
    if (b.unseen && b.merge > 0)
        sort_by_topic(&b);
    budget_init(&b.budget, 0, NULL);
    b.truth = need((size_t)b.queries * b.k_most, 4);
    make(&b);
    make_mask(&b);
    ask_all(&b);
    if (b.merge > 0) {
        merge(&b);
        make_mask(&b);
        ask_all(&b);
    }
    pool_free(b.pool);
    return 0;
}
