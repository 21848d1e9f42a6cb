/* SPDX-License-Identifier: Apache-2.0 */
/* How many lists a recall takes, first half: some of the part's own rows ask for their nearest neighbours while the codes are made, and all
 * lists answer.  vector_budget.c ranks the lists that held them.
 *
 * Each query sees every other block of rows, and half as many neighbours: what it finds is as far away as in all of them, and twice as many
 * queries can ask.  Neighbours of one query lie in the same lists, so more queries say more than more neighbours. */
#include "index/vector/vector_internal.h"

#include <math.h>

#define EPSILON 1.2f /* who is missed for it is followed by one hardly farther */
#define REACH \
    0.6f /* lists farther off than this lets them be are not asked: no figure changed for it, with .5 the third digit of some */

/* A row as a query; without direction, where it lies itself. */
static void place_row(const struct vector_space *space, const float *x, float *out)
{
    float norm2, shift;
    if (vector_query_row(space, x, vector_usual_stretch(space, x), out))
        return;
    (void)vector_norm2(space, x, &norm2);
    vector_row(space, x, norm2, out, space->code_dim, &shift);
}

och_code vector_calibration_init(struct vector_calibration *c, struct vector_build *build,
                                 och_error *err)
{
    struct budget *budget = build->options.budget;
    const struct kernel_code *kernel = kernel_code_get();
    const uint32_t *order = build->order.at;
    size_t dim = build->space.code_dim;
    *c = (struct vector_calibration){.build = build, .kappa = VECTOR_KAPPA};
    bool fresh = build->base == VECTOR_NO_INPUT && !build->options.list_rows;
    uint32_t most = fresh            ? CALIBRATION_QUERIES
                    : build->carried ? CALIBRATION_CHECKED
                                     : CALIBRATION_MERGED,
             queries = build->coded / 32 < most ? build->coded / 32 + 1 : most,
             fit = CALIBRATION_BYTES / (uint32_t)(5 * dim + code_table_size(dim));
    fit = fit > CALIBRATION_QUERIES / 2 ? fit : CALIBRATION_QUERIES / 2;
    queries = queries < fit ? queries : fit;
    TRY(vector_alloc(budget, queries, 4, "calibration", &c->sources, err));
    TRY(vector_alloc(budget, queries, 4 * dim, "calibration", &c->rotated, err));
    TRY(vector_alloc(budget, queries, dim, "calibration", &c->q8, err));
    TRY(vector_alloc(budget, queries, code_table_size(dim), "calibration", &c->tables, err));
    TRY(vector_alloc(budget, queries, sizeof(struct code_query8), "calibration", &c->query8, err));
    TRY(vector_alloc(budget, queries, sizeof(struct code_table), "calibration", &c->table_factors,
                     err));
    TRY(vector_alloc(budget, queries, CALIBRATION_NEIGHBOURS * sizeof(struct vector_neighbour),
                     "calibration", &c->heaps, err));
    TRY(vector_alloc(budget, queries, 4, "calibration", &c->heap_len, err));
    for (uint32_t q = 0; q < queries; q++) {
        uint32_t source = order[(uint64_t)q * build->coded / queries];
        const float *x;
        float *y = (float *)c->rotated.at + q * dim;
        TRY(vector_fetch(build, build->reader, source, &x, err));
        if (!x)
            return FAIL(err, OCH_INTERNAL, "a row lost its vector while its part was built");
        ((uint32_t *)c->sources.at)[q] = source;
        place_row(&build->space, x, y);
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
static void keep(struct vector_neighbour *heap, uint32_t *len, struct vector_neighbour item)
{
    uint32_t at;
    if (*len < CALIBRATION_NEIGHBOURS) {
        at = (*len)++;
        while (at && heap[(at - 1) / 2].distance < item.distance) {
            heap[at] = heap[(at - 1) / 2];
            at = (at - 1) / 2;
        }
    } else {
        at = 0;
        for (uint32_t child; (child = 2 * at + 1) < CALIBRATION_NEIGHBOURS; at = child) {
            if (child + 1 < CALIBRATION_NEIGHBOURS &&
                heap[child + 1].distance > heap[child].distance)
                child++;
            if (heap[child].distance <= item.distance)
                break;
            heap[at] = heap[child];
        }
    }
    heap[at] = item;
}

/* The rows of one block that may be nearer than what is known. */
static void ask_block(struct vector_calibration *c, uint32_t q, uint32_t list,
                      const struct code_bound *bound, const uint8_t *block, const uint8_t *rows8,
                      const uint32_t *sources, uint32_t count)
{
    const struct kernel_code *kernel = kernel_code_get();
    size_t dim = c->build->space.code_dim;
    struct vector_neighbour *heap = vector_neighbours(c, q);
    uint32_t *len = (uint32_t *)c->heap_len.at + q, own = ((const uint32_t *)c->sources.at)[q];
    const uint8_t *table = (const uint8_t *)c->tables.at + q * code_table_size(dim);
    float low[CODE_BLOCK_ROWS], distances[CODE_BLOCK_ROWS];
    uint32_t rows[CODE_BLOCK_ROWS], found = 0;
    for (uint32_t mask = kernel->scan1(block, table, dim, bound, low); mask; mask &= mask - 1) {
        uint32_t row = (uint32_t)__builtin_ctz(mask);
        if (row < count && sources[row] != own)
            rows[found++] = row;
    }
    if (!found)
        return;
    kernel->distance8(rows8, rows, found, (const struct code_query8 *)c->query8.at + q, dim,
                      distances);
    for (uint32_t i = 0; i < found; i++)
        if (*len < CALIBRATION_NEIGHBOURS || distances[i] < heap[0].distance)
            keep(heap, len, (struct vector_neighbour){distances[i], list});
}

bool vector_calibration_passes_by(const struct vector_calibration *c, uint32_t q, float delta,
                                  float rms2)
{
    return ((const uint32_t *)c->heap_len.at)[q] == CALIBRATION_NEIGHBOURS &&
           vector_nearest(delta, rms2, REACH) > vector_neighbours(c, q)[0].distance;
}

void vector_calibration_rows(struct vector_calibration *c, uint32_t q, uint32_t list, float delta,
                             uint64_t first_block, const uint8_t *blocks, const uint8_t *rows8,
                             const uint32_t *sources, uint32_t count)
{
    size_t dim = c->build->space.code_dim;
    const struct vector_neighbour *heap = vector_neighbours(c, q);
    const uint32_t *len = (const uint32_t *)c->heap_len.at + q;
    const struct code_table *factors = (const struct code_table *)c->table_factors.at + q;
    struct code_bound bound = {.scale = factors->a,
                               .offset = factors->c + EPSILON * c->kappa * sqrtf(delta),
                               .delta = delta};
    uint32_t block = (uint32_t)((first_block + q) % CALIBRATION_SHARE);
    for (; block * CODE_BLOCK_ROWS < count; block += CALIBRATION_SHARE) {
        uint32_t at = block * CODE_BLOCK_ROWS;
        bound.limit = *len == CALIBRATION_NEIGHBOURS ? heap[0].distance : INFINITY;
        ask_block(c, q, list, &bound, blocks + block * code_block_size(dim),
                  rows8 + at * code_row_size(dim), sources + at,
                  count - at < CODE_BLOCK_ROWS ? count - at : CODE_BLOCK_ROWS);
    }
}

float vector_calibration_delta(const struct vector_calibration *c, uint32_t q,
                               const float *centroid)
{
    size_t dim = c->build->space.code_dim;
    return kernel_get()->l2_f32((const float *)c->rotated.at + q * dim, centroid, dim);
}
