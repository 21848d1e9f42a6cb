/* SPDX-License-Identifier: Apache-2.0 */
/* Rows to lists: a row looks at the lists of its eight nearest cells only, by 8 bits while these can tell. */
#include "index/vector/vector_internal.h"

#include <math.h>

#define BATCH_BYTES    (8u << 20)
#define SCORED_AT_ONCE 64u
#define NEAR_ERROR \
    1.75f /* three standard errors of a distance by two roundings, by what they are proportional to */
#define NEAR_SHARE \
    0.25f /* of the distance to the nearest list: its roundings choose one that is hardly farther */

/* ---- centroids, packed ---- */

och_code vector_book_cells(struct vector_build *build, struct vector_codebook *book,
                           const float *centroids, och_error *err)
{
    struct budget *budget = build->options.budget;
    TRY(vector_alloc(budget, vector_near_size(book->cells, book->width), 1, "centroids",
                     &book->cell_near, err));
    return vector_near_pack(budget, centroids, NULL, book->cells, book->width, book->cell_near.at,
                            err);
}

/* Where the lists of each cell begin, in floats and by 8 bits. */
static och_code place_cells(struct budget *budget, struct vector_codebook *book,
                            uint64_t *ret_floats, uint64_t *ret_bytes, och_error *err)
{
    const uint32_t *first = book->cell_first.at;
    *ret_floats = *ret_bytes = 0;
    TRY(vector_alloc(budget, book->cells, 8, "centroids", &book->packed_at, err));
    TRY(vector_alloc(budget, book->cells, 8, "centroids", &book->near_at, err));
    for (uint32_t c = 0; c < book->cells; c++) {
        uint32_t lists = first[c + 1] - first[c];
        ((uint64_t *)book->packed_at.at)[c] = *ret_floats;
        ((uint64_t *)book->near_at.at)[c] = *ret_bytes;
        *ret_floats += code_packed_floats(lists, book->width);
        *ret_bytes += vector_near_size(lists, book->width);
    }
    return OCH_OK;
}

och_code vector_book_lists(struct vector_build *build, struct vector_codebook *book,
                           const float *centroids, och_error *err)
{
    struct budget *budget = build->options.budget;
    uint32_t width = book->width;
    uint64_t floats, bytes;
    TRY(place_cells(budget, book, &floats, &bytes, err));
    TRY(vector_alloc(budget, floats, 4, "centroids", &book->list_packed, err));
    TRY(vector_alloc(budget, floats / width, 4, "centroids", &book->list_norms, err));
    TRY(vector_alloc(budget, bytes, 1, "centroids", &book->list_near, err));
    const uint32_t *first = book->cell_first.at;
    const uint64_t *packed_at = book->packed_at.at, *near_at = book->near_at.at;
    for (uint32_t c = 0; c < book->cells; c++) {
        const float *own = centroids + (size_t)first[c] * width;
        uint32_t lists = first[c + 1] - first[c];
        code_pack_f32(own, width, lists, width, (float *)book->list_packed.at + packed_at[c],
                      (float *)book->list_norms.at + packed_at[c] / width);
        TRY(vector_near_pack(budget, own, NULL, lists, width,
                             (uint8_t *)book->list_near.at + near_at[c], err));
    }
    for (uint32_t j = 0; j < book->lists; j++) {
        float norm2 = 0, most = 0;
        for (uint32_t i = 0; i < width; i++) {
            float value = fabsf(centroids[(size_t)j * width + i]);
            norm2 += value * value;
            most = value > most ? value : most;
        }
        book->length = sqrtf(norm2) > book->length ? sqrtf(norm2) : book->length;
        book->scale = most / 127 > book->scale ? most / 127 : book->scale;
    }
    return OCH_OK;
}

void vector_book_done(struct vector_build *build, struct vector_codebook *book)
{
    struct vector_memory *const all[] = {&book->cell_near,  &book->list_near,  &book->list_packed,
                                         &book->list_norms, &book->cell_first, &book->packed_at,
                                         &book->near_at};
    for (size_t i = 0; i < COUNT_OF(all); i++)
        vector_release(build->options.budget, all[i]);
}

/* ---- batches ---- */

uint32_t vector_batch_room(const struct vector_build *build)
{
    return (uint32_t)max_size(64, min_size(4096, BATCH_BYTES / ((size_t)build->width * 4)));
}

och_code vector_batch_init(struct vector_batch *b, struct vector_build *build,
                           const struct vector_codebook *book, och_error *err)
{
    struct budget *budget = build->options.budget;
    size_t near_room = vector_near_room(build->width);
    *b = (struct vector_batch){.build = build, .book = book, .room = vector_batch_room(build)};
    const struct {
        struct vector_memory *memory;
        uint64_t count;
        size_t size;
    } wants[] = {
        {&b->rows, b->room, (size_t)build->width * 4},
        {&b->sources, b->room, 4},
        {&b->best, b->room, 4},
        {&b->score, b->room, 4},
        {&b->near, b->room, 4 * VECTOR_NEAR_CELLS},
        {&b->cell_scores, SCORED_AT_ONCE * round_up(book->cells, CODE_LISTS), 4},
        {&b->q8, b->room, near_room},
        {&b->queries, b->room, sizeof(struct code_query8)},
        {&b->scratch, near_room, 4},
        {&b->by_cell, b->room, 4 * VECTOR_NEAR_CELLS},
        {&b->cell_start, (uint64_t)book->cells + 1, 4},
        {&b->pointers, b->room, sizeof(float *)},
        {&b->picked_queries, b->room, sizeof(struct code_query8)},
        {&b->picked_best, b->room, 4},
        {&b->picked_score, b->room, 4},
        {&b->unsure, b->room, 1},
    };
    for (size_t i = 0; i < COUNT_OF(wants); i++)
        TRY(vector_alloc(budget, wants[i].count, wants[i].size, "vectors", wants[i].memory, err));
    return OCH_OK;
}

void vector_batch_done(struct vector_batch *b)
{
    if (!b->build)
        return;
    struct vector_memory *const all[] = {
        &b->rows,        &b->sources,  &b->best,        &b->score,        &b->near,
        &b->cell_scores, &b->q8,       &b->queries,     &b->scratch,      &b->by_cell,
        &b->cell_start,  &b->pointers, &b->picked_best, &b->picked_score, &b->picked_queries,
        &b->unsure};
    for (size_t i = 0; i < COUNT_OF(all); i++)
        vector_release(b->build->options.budget, all[i]);
}

/* A distance that at least VECTOR_NEAR_CELLS cells do not exceed: as many of the smallest in each of sixteen lanes do not. */
static float limit_of(const float *scores, uint32_t cells)
{
    float lanes[CODE_LISTS], limit[VECTOR_NEAR_CELLS];
    memcpy(lanes, scores, sizeof(lanes));
    for (uint32_t c = CODE_LISTS; c + CODE_LISTS <= cells; c += CODE_LISTS)
        for (uint32_t i = 0; i < CODE_LISTS; i++)
            lanes[i] = scores[c + i] < lanes[i] ? scores[c + i] : lanes[i];
    for (unsigned i = 0; i < VECTOR_NEAR_CELLS; i++)
        limit[i] = INFINITY;
    for (uint32_t i = 0; i < CODE_LISTS; i++) {
        float score = lanes[i];
        for (unsigned at = 0; at < VECTOR_NEAR_CELLS; at++) {
            float less = score < limit[at] ? score : limit[at];
            score = score < limit[at] ? limit[at] : score;
            limit[at] = less;
        }
    }
    return limit[VECTOR_NEAR_CELLS - 1];
}

/* The nearest cells of a row, by its scores; fewer cells: UINT32_MAX.  found: room for all cells. */
static void nearest_cells(const float *scores, uint32_t cells, uint32_t *found, uint32_t *near)
{
    float best[VECTOR_NEAR_CELLS];
    size_t count = kernel_code_get()->keys_upto(
        scores, cells, cells >= CODE_LISTS ? limit_of(scores, cells) : INFINITY, found);
    for (unsigned i = 0; i < VECTOR_NEAR_CELLS; i++) {
        best[i] = INFINITY;
        near[i] = UINT32_MAX;
    }
    for (size_t j = 0; j < count; j++) {
        float score = scores[found[j]];
        if (!(score < best[VECTOR_NEAR_CELLS - 1]))
            continue;
        unsigned at = VECTOR_NEAR_CELLS - 1;
        for (; at > 0 && score < best[at - 1]; at--) {
            best[at] = best[at - 1];
            near[at] = near[at - 1];
        }
        best[at] = score;
        near[at] = found[j];
    }
}

void vector_batch_cells(struct vector_batch *b)
{
    const struct vector_codebook *book = b->book;
    struct code_query8 *queries = b->queries.at;
    size_t stride = (size_t)round_up(book->cells, CODE_LISTS), room = vector_near_room(book->width);
    float *scores = b->cell_scores.at;
    for (uint32_t i = 0; i < b->count; i++)
        vector_near_query(vector_batch_row(b, i), NULL, book->width, b->scratch.at,
                          (int8_t *)b->q8.at + i * room, &queries[i]);
    for (uint32_t at = 0; at < b->count; at += SCORED_AT_ONCE) {
        uint32_t count = b->count - at < SCORED_AT_ONCE ? b->count - at : SCORED_AT_ONCE;
        kernel_code_get()->coarse16_rows(book->cell_near.at, stride / CODE_LISTS, queries + at,
                                         count, vector_near_dim(book->width), scores);
        for (uint32_t i = 0; i < count; i++)
            nearest_cells(scores + i * stride, book->cells, b->cell_start.at,
                          (uint32_t *)b->near.at + (size_t)(at + i) * VECTOR_NEAR_CELLS);
    }
}

/* ---- lists ---- */

/* by_cell: the rows that have a cell among their nearest, cell_start: where those of each begin; all rows, or those that are unsure. */
static void sort_by_cell(struct vector_batch *b, bool unsure_only)
{
    uint32_t *start = b->cell_start.at, *by_cell = b->by_cell.at, sum = 0;
    const uint32_t *near = b->near.at;
    const bool *unsure = b->unsure.at;
    uint32_t entries = b->count * VECTOR_NEAR_CELLS;
    memset(start, 0, ((size_t)b->book->cells + 1) * sizeof(*start));
    for (uint32_t e = 0; e < entries; e++)
        if (near[e] != UINT32_MAX && !(unsure_only && !unsure[e / VECTOR_NEAR_CELLS]))
            start[near[e]]++;
    for (uint32_t c = 0; c <= b->book->cells; c++) {
        uint32_t own = start[c];
        start[c] = sum;
        sum += own;
    }
    for (uint32_t e = 0; e < entries; e++)
        if (near[e] != UINT32_MAX && !(unsure_only && !unsure[e / VECTOR_NEAR_CELLS]))
            by_cell[start[near[e]]++] = e / VECTOR_NEAR_CELLS;
    for (uint32_t c = b->book->cells; c > 0; c--) /* starts have become ends */
        start[c] = start[c - 1];
    start[0] = 0;
}

/* Rows that have a cell among their nearest, against the lists of that cell. */
static void batch_cell_lists(struct vector_batch *b, uint32_t cell, bool exact)
{
    const struct vector_codebook *book = b->book;
    const struct kernel_code *kernel = kernel_code_get();
    const uint32_t *cell_first = book->cell_first.at, *start = b->cell_start.at,
                   *rows = (const uint32_t *)b->by_cell.at + start[cell];
    uint32_t first = cell_first[cell], lists = cell_first[cell + 1] - first,
             count = start[cell + 1] - start[cell];
    const struct code_query8 *queries = b->queries.at;
    struct code_query8 *picked = b->picked_queries.at;
    const float **pointers = b->pointers.at;
    uint32_t *best = b->best.at, *picked_best = b->picked_best.at;
    float *score = b->score.at, *picked_score = b->picked_score.at;
    if (!lists || !count)
        return;
    for (uint32_t i = 0; i < count; i++) {
        pointers[i] = vector_batch_row(b, rows[i]);
        picked[i] = queries[rows[i]];
        picked_best[i] = best[rows[i]];
        picked_score[i] = score[rows[i]];
    }
    if (exact) {
        uint64_t at = ((const uint64_t *)book->packed_at.at)[cell];
        kernel->assign_f32(pointers, count, (const float *)book->list_packed.at + at,
                           (const float *)book->list_norms.at + at / book->width, lists,
                           book->width, first, picked_best, picked_score);
    } else {
        uint64_t at = ((const uint64_t *)book->near_at.at)[cell];
        kernel->nearest16((const uint8_t *)book->list_near.at + at,
                          (lists + CODE_LISTS - 1) / CODE_LISTS, picked, count,
                          vector_near_dim(book->width), first, picked_best, picked_score);
    }
    for (uint32_t i = 0; i < count; i++) {
        best[rows[i]] = picked_best[i];
        score[rows[i]] = picked_score[i];
    }
}

/* Do 8 bits say enough?  Not where their error is a good part of the distance itself: rows that lie in far denser heaps than all of them do. */
static uint32_t find_unsure(struct vector_batch *b)
{
    const struct vector_codebook *book = b->book;
    const struct code_query8 *queries = b->queries.at;
    uint32_t *best = b->best.at, found = 0;
    float *score = b->score.at;
    bool *unsure = b->unsure.at;
    for (uint32_t i = 0; i < b->count; i++) {
        float error =
            NEAR_ERROR * (sqrtf(queries[i].norm2) * book->scale + book->length * queries[i].scale);
        unsure[i] = !(error < NEAR_SHARE * score[i]);
        if (!unsure[i])
            continue;
        best[i] = UINT32_MAX;
        score[i] = INFINITY;
        found++;
    }
    return found;
}

/* Lists of the rows gathered: b->best. */
static void batch_assign(struct vector_batch *b)
{
    uint32_t *best = b->best.at;
    float *score = b->score.at;
    for (uint32_t i = 0; i < b->count; i++) {
        best[i] = UINT32_MAX;
        score[i] = INFINITY;
    }
    vector_batch_cells(b);
    sort_by_cell(b, false);
    for (uint32_t cell = 0; cell < b->book->cells; cell++)
        batch_cell_lists(b, cell, false);
    if (find_unsure(b)) {
        sort_by_cell(b, true);
        for (uint32_t cell = 0; cell < b->book->cells; cell++)
            batch_cell_lists(b, cell, true);
    }
    for (uint32_t i = 0; i < b->count; i++)
        if (best[i] >= b->book->lists) /* beyond all numbers */
            best[i] = 0;
}

/* ---- all rows ---- */

struct assigning {
    struct vector_build *build;
    const struct vector_codebook *book;
    bool unknown_only;
};

static och_code assign_begin(void *context, void *state, och_error *err)
{
    const struct assigning *a = context;
    return vector_batch_init(state, a->build, a->book, err);
}

static void assign_end(void *context, void *state)
{
    (void)context;
    vector_batch_done(state);
}

/* A range of sources; what is taken of it fits in one batch. */
static och_code assign_range(void *context, void *reader, void *state, uint32_t item,
                             och_error *err)
{
    const struct assigning *a = context;
    struct vector_batch *b = state;
    uint32_t *list_of = a->build->list_of.at, *sources = b->sources.at;
    uint64_t from = (uint64_t)item * b->room, to = from + b->room;
    to = to < a->build->rows.count ? to : a->build->rows.count;
    b->count = 0;
    for (uint32_t i = (uint32_t)from; i < to; i++) {
        if (a->unknown_only ? list_of[i] != LIST_UNKNOWN : list_of[i] >= LIST_OUTSIDE)
            continue;
        sources[b->count] = i;
        TRY(vector_read_row(a->build, reader, i, vector_batch_row(b, b->count), err));
        b->count++;
    }
    if (!b->count)
        return OCH_OK;
    batch_assign(b);
    for (uint32_t j = 0; j < b->count; j++)
        list_of[sources[j]] = ((const uint32_t *)b->best.at)[j];
    return OCH_OK;
}

och_code vector_assign(struct vector_build *build, const struct vector_codebook *book,
                       bool unknown_only, och_error *err)
{
    struct assigning a = {build, book, unknown_only};
    uint32_t room = vector_batch_room(build);
    struct vector_job job = {.build = build,
                             .pool = build->options.pool,
                             .limits = &build->limits,
                             .context = &a,
                             .state_size = sizeof(struct vector_batch),
                             .begin = assign_begin,
                             .run = assign_range,
                             .end = assign_end,
                             .items = (uint32_t)(((uint64_t)build->rows.count + room - 1) / room)};
    return vector_for(&job, err);
}
