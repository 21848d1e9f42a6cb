/* SPDX-License-Identifier: Apache-2.0 */
/* How many lists a recall takes: some of the part's own rows ask for their nearest neighbours, all lists answer, and the lists that held them
 * are ranked in the order in which a search would have come to them. */
#include "index/vector/vector_internal.h"

#include <math.h>
#include <stdlib.h>

#define NEIGHBOURS       100u
#define REACH_NEIGHBOURS 10 /* the nearest reach farthest, and a tight threshold is about them */
#define SUPER_MISSED     0.001
#define EPSILON          2.5f
#define KAPPA            0.603f /* sqrt(1 - 2/pi), before it is measured */

struct neighbour {
    float distance;
    uint32_t list;
};

och_code vector_calibration_init(struct vector_calibration *c, struct vector_build *build,
                                 och_error *err)
{
    struct budget *budget = build->options.budget;
    const struct kernel_code *kernel = kernel_code_get();
    const uint32_t *order = build->order.at;
    size_t dim = build->space.code_dim;
    *c = (struct vector_calibration){.build = build, .kappa = KAPPA};
    uint32_t queries =
        build->coded / 32 < CALIBRATION_QUERIES ? build->coded / 32 + 1 : CALIBRATION_QUERIES;
    TRY(vector_alloc(budget, queries, 4, "calibration", &c->sources, err));
    TRY(vector_alloc(budget, queries, 4 * dim, "calibration", &c->rotated, err));
    TRY(vector_alloc(budget, queries, dim, "calibration", &c->q8, err));
    TRY(vector_alloc(budget, queries, code_table_size(dim), "calibration", &c->tables, err));
    TRY(vector_alloc(budget, queries, sizeof(struct code_query8), "calibration", &c->query8, err));
    TRY(vector_alloc(budget, queries, sizeof(struct code_table), "calibration", &c->table_factors,
                     err));
    TRY(vector_alloc(budget, queries, NEIGHBOURS * sizeof(struct neighbour), "calibration",
                     &c->heaps, err));
    TRY(vector_alloc(budget, queries, 4, "calibration", &c->heap_len, err));
    for (uint32_t q = 0; q < queries; q++) {
        uint32_t source = order[(uint64_t)q * build->coded / queries];
        const float *x;
        float norm2, shift, *y = (float *)c->rotated.at + q * dim;
        TRY(vector_fetch(build, build->reader, source, &x, err));
        if (!x)
            return FAIL(err, OCH_INTERNAL, "a row lost its vector while its part was built");
        ((uint32_t *)c->sources.at)[q] = source;
        (void)vector_norm2(&build->space, x, &norm2);
        vector_row(&build->space, x, norm2, y, dim, &shift);
        if (build->space.metric == METRIC_IP) /* as a query has it */
            y[build->space.dim] = 0 - build->space.mean[build->space.dim];
        kernel->rotate_f32(y, dim, build->space.seed);
        kernel->quant8_query(y, dim, (int8_t *)c->q8.at + q * dim,
                             (struct code_query8 *)c->query8.at + q);
        ((struct code_table *)c->table_factors.at)[q] =
            kernel->table_u8(y, dim, (uint8_t *)c->tables.at + q * code_table_size(dim));
    }
    c->queries = queries;
    return OCH_OK;
}

void vector_calibration_done(struct vector_calibration *c)
{
    if (!c->build)
        return;
    struct vector_memory *const all[] = {&c->sources, &c->rotated,       &c->q8,    &c->tables,
                                         &c->query8,  &c->table_factors, &c->heaps, &c->heap_len};
    for (size_t i = 0; i < COUNT_OF(all); i++)
        vector_release(c->build->options.budget, all[i]);
}

/* A max-heap of the nearest so far. */
static void keep(struct neighbour *heap, uint32_t *len, struct neighbour item)
{
    uint32_t at;
    if (*len < NEIGHBOURS) {
        at = (*len)++;
        while (at && heap[(at - 1) / 2].distance < item.distance) {
            heap[at] = heap[(at - 1) / 2];
            at = (at - 1) / 2;
        }
    } else {
        at = 0;
        for (uint32_t child; (child = 2 * at + 1) < NEIGHBOURS; at = child) {
            if (child + 1 < NEIGHBOURS && heap[child + 1].distance > heap[child].distance)
                child++;
            if (heap[child].distance <= item.distance)
                break;
            heap[at] = heap[child];
        }
    }
    heap[at] = item;
}

void vector_calibration_rows(struct vector_calibration *c, uint32_t q, uint32_t list,
                             const float *centroid, const uint8_t *blocks, const uint8_t *rows8,
                             const uint32_t *sources, uint32_t count)
{
    const struct kernel_code *kernel = kernel_code_get();
    size_t dim = c->build->space.code_dim;
    struct neighbour *heap = (struct neighbour *)c->heaps.at + (size_t)q * NEIGHBOURS;
    uint32_t *len = (uint32_t *)c->heap_len.at + q, own = ((const uint32_t *)c->sources.at)[q];
    const struct code_table *factors = (const struct code_table *)c->table_factors.at + q;
    const struct code_query8 *query8 = (const struct code_query8 *)c->query8.at + q;
    const uint8_t *table = (const uint8_t *)c->tables.at + q * code_table_size(dim);
    float delta = kernel_get()->l2_f32((const float *)c->rotated.at + q * dim, centroid, dim);
    struct code_bound bound = {.scale = factors->a,
                               .offset = factors->c + EPSILON * c->kappa * sqrtf(delta),
                               .delta = delta};
    for (uint32_t at = 0; at < count; at += CODE_BLOCK_ROWS) {
        float low[CODE_BLOCK_ROWS], distances[CODE_BLOCK_ROWS];
        uint32_t rows[CODE_BLOCK_ROWS], found = 0;
        bound.limit = *len == NEIGHBOURS ? heap[0].distance : INFINITY;
        uint32_t mask = kernel->scan1(blocks + at / CODE_BLOCK_ROWS * code_block_size(dim), table,
                                      dim, &bound, low);
        for (; mask; mask &= mask - 1) {
            uint32_t row = at + (uint32_t)__builtin_ctz(mask);
            if (row < count && sources[row] != own)
                rows[found++] = row;
        }
        if (!found)
            continue;
        kernel->distance8(rows8, rows, found, query8, dim, distances);
        for (uint32_t i = 0; i < found; i++)
            if (*len < NEIGHBOURS || distances[i] < heap[0].distance)
                keep(heap, len, (struct neighbour){distances[i], list});
    }
}

static int compare_neighbours(const void *a, const void *b)
{
    const struct neighbour *x = a, *y = b;
    int order = (x->distance > y->distance) - (x->distance < y->distance);
    return order ? order : (x->list > y->list) - (x->list < y->list);
}

/* How many lists come before `list`. */
static uint32_t rank_of(const float *keys, uint32_t lists, uint32_t list)
{
    float own = keys[list];
    uint32_t before = 0;
    for (uint32_t j = 0; j < lists; j++)
        before += keys[j] < own;
    return before;
}

struct ranking {
    struct vector_calibration *c;
    float gamma;
    uint32_t *ranks; /* [queries x NEIGHBOURS]: the place of the list that holds each neighbour */
};

static och_code keys_begin(void *context, void *state, och_error *err)
{
    const struct vector_build *build = ((struct ranking *)context)->c->build;
    return vector_alloc(build->options.budget, (uint64_t)build->lists + CODE_LISTS, 4,
                        "calibration", state, err);
}

static void keys_end(void *context, void *state)
{
    vector_release(((struct ranking *)context)->c->build->options.budget, state);
}

static och_code rank_query(void *context, void *reader, void *state, uint32_t q, och_error *err)
{
    const struct ranking *r = context;
    const struct vector_build *build = r->c->build;
    const struct neighbour *heap =
        (const struct neighbour *)r->c->heaps.at + (size_t)q * NEIGHBOURS;
    float *keys = ((struct vector_memory *)state)->at;
    uint32_t len = ((const uint32_t *)r->c->heap_len.at)[q], lists = build->lists;
    uint32_t last = VECTOR_NO_LIST, rank = 0;
    (void)reader;
    (void)err;
    kernel_code_get()->coarse16(build->centq.at, (lists + CODE_LISTS - 1) / CODE_LISTS,
                                (const struct code_query8 *)r->c->query8.at + q,
                                build->space.code_dim, keys);
    for (uint32_t j = 0; j < lists; j++)
        keys[j] += r->gamma *
                   load_f32((const uint8_t *)build->list.at + (size_t)j * VECTOR_LIST_SIZE + 12);
    for (uint32_t i = 0; i < len; i++) {
        if (heap[i].list != last)
            rank = rank_of(keys, lists, heap[i].list);
        last = heap[i].list;
        r->ranks[(size_t)q * NEIGHBOURS + i] = rank;
    }
    return OCH_OK;
}

/* hits[k][rank]: neighbours found in the list that comes at that place, over all queries. */
static och_code count_hits(struct vector_calibration *c, float gamma, uint32_t *ranks,
                           uint32_t *hits, uint64_t total[VECTOR_KS], och_error *err)
{
    uint32_t lists = c->build->lists;
    struct ranking ranking = {c, gamma, ranks};
    struct vector_job job = {.pool = c->build->options.pool,
                             .limits = &c->build->limits,
                             .context = &ranking,
                             .state_size = sizeof(struct vector_memory),
                             .begin = keys_begin,
                             .run = rank_query,
                             .end = keys_end,
                             .items = c->queries};
    TRY(vector_for(&job, err));
    total[0] = total[1] = 0;
    memset(hits, 0, (size_t)lists * VECTOR_KS * sizeof(*hits));
    for (uint32_t q = 0; q < c->queries; q++) {
        uint32_t len = ((const uint32_t *)c->heap_len.at)[q];
        for (uint32_t i = 0; i < len; i++) {
            for (unsigned k = 0; k < VECTOR_KS; k++) {
                if (i < vector_ks[k]) {
                    hits[k * (size_t)lists + ranks[(size_t)q * NEIGHBOURS + i]]++;
                    total[k]++;
                }
            }
        }
    }
    return OCH_OK;
}

static uint32_t lists_for(const uint32_t *hits, uint32_t lists, uint64_t total, float recall)
{
    /* a little more than asked: bound and stop rule lose some, too */
    double need = (double)total * (1 - 0.8 * (1 - (double)recall)), sum = 0;
    for (uint32_t j = 0; j < lists; j++) {
        sum += hits[j];
        if (sum >= need)
            return j + 1;
    }
    return lists;
}

static int compare_floats(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

/* How far each neighbour reached out of its list: what vector_nearest must allow for most of them not to be missed. */
static och_code measure_reach(struct vector_calibration *c, float *keys,
                              float ret_reach[VECTOR_TARGETS], och_error *err)
{
    const struct vector_build *build = c->build;
    struct vector_memory memory = {0};
    TRY(vector_alloc(build->options.budget, (uint64_t)c->queries * NEIGHBOURS, 4, "calibration",
                     &memory, err));
    float *reach = memory.at;
    uint32_t count = 0;
    for (uint32_t q = 0; q < c->queries; q++) {
        const struct neighbour *heap =
            (const struct neighbour *)c->heaps.at + (size_t)q * NEIGHBOURS;
        kernel_code_get()->coarse16(build->centq.at, (build->lists + CODE_LISTS - 1) / CODE_LISTS,
                                    (const struct code_query8 *)c->query8.at + q,
                                    build->space.code_dim, keys);
        uint32_t len = ((const uint32_t *)c->heap_len.at)[q];
        for (uint32_t i = 0; i < len && i < REACH_NEIGHBOURS; i++) { /* sorted by now */
            float delta = keys[heap[i].list],
                  rms2 = load_f32((const uint8_t *)build->list.at +
                                  (size_t)heap[i].list * VECTOR_LIST_SIZE + 12);
            float scale = 2 * sqrtf((delta > 0 ? delta : 0) * rms2);
            if (scale > 0)
                reach[count++] = (delta + rms2 - heap[i].distance) / scale;
        }
    }
    qsort(reach, count, sizeof(*reach), compare_floats);
    for (unsigned t = 0; t < VECTOR_TARGETS; t++) {
        double share = 1 - 0.25 * (1 - (double)vector_targets[t]);
        float own = count ? reach[(size_t)(share * (count - 1))] : 1;
        ret_reach[t] = own > 0 ? own : 0;
    }
    vector_release(build->options.budget, &memory);
    return OCH_OK;
}

static och_code choose_gamma(struct vector_calibration *c, uint32_t *ranks, uint32_t *hits,
                             struct vector_calibrated *ret, och_error *err)
{
    static const float gammas[] = {0, 0.25f, 0.5f};
    struct vector_build *build = c->build;
    uint32_t lists = build->lists, best = UINT32_MAX;
    for (uint32_t q = 0; q < c->queries; q++)
        qsort((struct neighbour *)c->heaps.at + (size_t)q * NEIGHBOURS,
              ((const uint32_t *)c->heap_len.at)[q], sizeof(struct neighbour), compare_neighbours);
    for (size_t g = COUNT_OF(gammas); g-- > 0;) {
        uint64_t total[VECTOR_KS];
        TRY(count_hits(c, gammas[g], ranks, hits, total, err));
        uint32_t at_975 = lists_for(hits, lists, total[0], 0.975f);
        if (at_975 >= best)
            continue;
        best = at_975;
        ret->gamma = gammas[g];
        for (unsigned k = 0; k < VECTOR_KS; k++)
            for (unsigned t = 0; t < VECTOR_TARGETS; t++)
                ret->budgets[k][t] =
                    lists_for(hits + k * (size_t)lists, lists, total[k], vector_targets[t]);
        build->lists_098 = lists_for(hits, lists, total[0], 0.98f);
    }
    return OCH_OK;
}

/* How many of the nearest cells hold the lists of nearly all neighbours. */
static och_code count_cells(struct vector_calibration *c, uint32_t *ret_cells, och_error *err)
{
    const struct vector_build *build = c->build;
    const uint32_t *first = build->cell_first.at;
    uint32_t cells = build->cells, blocks = (cells + CODE_LISTS - 1) / CODE_LISTS;
    struct vector_memory distances = {0}, hits = {0};
    *ret_cells = 0;
    if (!build->super.at)
        return OCH_OK;
    TRY(vector_alloc(build->options.budget, (uint64_t)blocks * CODE_LISTS, 4, "calibration",
                     &distances, err));
    och_code code = vector_alloc(build->options.budget, cells, 4, "calibration", &hits, err);
    uint32_t *at_rank = hits.at, total = 0, sum = 0;
    float *far = distances.at;
    for (uint32_t q = 0; code == OCH_OK && q < c->queries; q++) {
        const struct neighbour *heap =
            (const struct neighbour *)c->heaps.at + (size_t)q * NEIGHBOURS;
        uint32_t len = ((const uint32_t *)c->heap_len.at)[q];
        kernel_code_get()->coarse16(build->super.at, blocks,
                                    (const struct code_query8 *)c->query8.at + q,
                                    build->space.code_dim, far);
        for (uint32_t i = 0; i < len && i < REACH_NEIGHBOURS; i++) { /* sorted by now */
            uint32_t cell = 0;
            while (cell + 1 < cells && first[cell + 1] <= heap[i].list)
                cell++;
            at_rank[rank_of(far, cells, cell)]++;
            total++;
        }
    }
    for (uint32_t rank = 0; code == OCH_OK && rank < cells; rank++) {
        sum += at_rank[rank];
        *ret_cells = rank + 1;
        if ((double)sum >= (1 - SUPER_MISSED) * total)
            break;
    }
    vector_release(build->options.budget, &distances);
    vector_release(build->options.budget, &hits);
    return code;
}

och_code vector_calibration_finish(struct vector_calibration *c, struct vector_calibrated *ret,
                                   och_error *err)
{
    struct budget *budget = c->build->options.budget;
    uint32_t lists = c->build->lists;
    struct vector_memory keys = {0}, hits = {0}, ranks = {0};
    och_code code =
        vector_alloc(budget, (uint64_t)lists + CODE_LISTS, 4, "calibration", &keys, err);
    if (code == OCH_OK)
        code = vector_alloc(budget, (uint64_t)lists * VECTOR_KS, 4, "calibration", &hits, err);
    if (code == OCH_OK)
        code =
            vector_alloc(budget, (uint64_t)c->queries * NEIGHBOURS, 4, "calibration", &ranks, err);
    if (code == OCH_OK)
        code = choose_gamma(c, ranks.at, hits.at, ret, err);
    if (code == OCH_OK)
        code = measure_reach(c, keys.at, ret->reach, err);
    if (code == OCH_OK)
        code = count_cells(c, &ret->super_cells, err);
    vector_release(budget, &keys);
    vector_release(budget, &hits);
    vector_release(budget, &ranks);
    return code;
}
