/* SPDX-License-Identifier: Apache-2.0 */
/* Which lists a query looks at at all: all of them, or, when there are very many, those of the nearest cells. */
#include "index/vector/vector_internal.h"

#include <stdlib.h>

#define SCORED_MORE 4 /* times the lists that will be visited, at least */

struct near_cell {
    float delta;
    uint32_t cell;
};

static int compare_cells(const void *a, const void *b)
{
    const struct near_cell *x = a, *y = b;
    int order = (x->delta > y->delta) - (x->delta < y->delta);
    return order ? order : (x->cell > y->cell) - (x->cell < y->cell);
}

static int compare_ranges(const void *a, const void *b)
{
    const struct vector_range *x = a, *y = b;
    return (x->from > y->from) - (x->from < y->from);
}

static void score_range(const struct vector_index *index, const struct code_query8 *query,
                        struct vector_range range, float *deltas)
{
    uint32_t from = range.from / CODE_LISTS, to = (range.to + CODE_LISTS - 1) / CODE_LISTS;
    kernel_code_get()->coarse16(index->centq + from * code_coarse_size(index->code_dim), to - from,
                                query, index->code_dim, deltas + (size_t)from * CODE_LISTS);
}

och_code vector_coarse(const struct vector_index *index, const struct code_query8 *query,
                       uint32_t visited, struct arena *arena, float *deltas,
                       struct vector_range **ret_ranges, uint32_t *ret_count, och_error *err)
{
    uint64_t want = (uint64_t)visited * SCORED_MORE;
    bool few = index->lists > index->super_from && index->super_cells &&
               index->super_cells <= index->cells / 2 && want < index->lists;
    uint32_t cells = few ? index->cells : 1, blocks = (cells + CODE_LISTS - 1) / CODE_LISTS;
    struct vector_range *ranges = ARENA_ARRAY(arena, struct vector_range, cells);
    if (!ranges)
        return FAIL_NO_MEMORY(err, "a search");
    *ret_ranges = ranges;
    if (!few) {
        ranges[0] = (struct vector_range){0, index->lists};
        *ret_count = 1;
        score_range(index, query, ranges[0], deltas);
        return OCH_OK;
    }
    struct near_cell *order = ARENA_ARRAY(arena, struct near_cell, cells);
    float *far = arena_alloc_aligned(arena, 64, sizeof(float) * CODE_LISTS * blocks);
    if (!order || !far)
        return FAIL_NO_MEMORY(err, "a search");
    kernel_code_get()->coarse16(index->super, blocks, query, index->code_dim, far);
    for (uint32_t c = 0; c < cells; c++)
        order[c] = (struct near_cell){far[c], c};
    qsort(order, cells, sizeof(*order), compare_cells);
    uint32_t count = 0;
    for (uint64_t scored = 0; count < cells && (count < index->super_cells || scored < want);
         count++) {
        const uint8_t *first = index->cell_first + 4 * (size_t)order[count].cell;
        ranges[count] = (struct vector_range){load_u32(first), load_u32(first + 4)};
        scored += ranges[count].to - ranges[count].from;
    }
    /* ascending: what two cells share of a block is written twice, with the same figures */
    qsort(ranges, count, sizeof(*ranges), compare_ranges);
    for (uint32_t i = 0; i < count; i++)
        score_range(index, query, ranges[i], deltas);
    *ret_count = count;
    return OCH_OK;
}
