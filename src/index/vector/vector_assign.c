/* SPDX-License-Identifier: Apache-2.0 */
/* Rows to lists: a row looks at the lists of its eight nearest cells only. */
#include "index/vector/vector_internal.h"

#include <math.h>

#define BATCH_BYTES (8u << 20)

/* ---- centroids, packed ---- */

static och_code pack(struct budget *budget, const float *centroids, uint32_t lists, uint32_t width,
                     struct vector_memory *ret_packed, struct vector_memory *ret_norms,
                     och_error *err)
{
    TRY(vector_alloc(budget, code_packed_floats(lists, width), 4, "centroids", ret_packed, err));
    TRY(vector_alloc(budget, code_packed_norms(lists), 4, "centroids", ret_norms, err));
    code_pack_f32(centroids, width, lists, width, ret_packed->at, ret_norms->at);
    return OCH_OK;
}

och_code vector_book_cells(struct vector_build *build, struct vector_codebook *book,
                           const float *centroids, och_error *err)
{
    return pack(build->options.budget, centroids, book->cells, book->width, &book->cell_packed,
                &book->cell_norms, err);
}

och_code vector_book_lists(struct vector_build *build, struct vector_codebook *book,
                           const float *centroids, och_error *err)
{
    struct budget *budget = build->options.budget;
    uint32_t width = book->width;
    const uint32_t *first = book->cell_first.at;
    uint64_t floats = 0;
    TRY(vector_alloc(budget, book->cells, 8, "centroids", &book->packed_at, err));
    uint64_t *packed_at = book->packed_at.at;
    for (uint32_t c = 0; c < book->cells; c++) {
        packed_at[c] = floats;
        floats += code_packed_floats(first[c + 1] - first[c], width);
    }
    TRY(vector_alloc(budget, floats, 4, "centroids", &book->list_packed, err));
    TRY(vector_alloc(budget, floats / width, 4, "centroids", &book->list_norms, err));
    for (uint32_t c = 0; c < book->cells; c++)
        code_pack_f32(centroids + (size_t)first[c] * width, width, first[c + 1] - first[c], width,
                      (float *)book->list_packed.at + packed_at[c],
                      (float *)book->list_norms.at + packed_at[c] / width);
    return OCH_OK;
}

void vector_book_done(struct vector_build *build, struct vector_codebook *book)
{
    struct vector_memory *const all[] = {&book->cell_packed, &book->cell_norms, &book->list_packed,
                                         &book->list_norms,  &book->cell_first, &book->packed_at};
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
    *b = (struct vector_batch){.build = build, .book = book, .room = vector_batch_room(build)};
    TRY(vector_alloc(budget, b->room, (size_t)build->width * 4, "vectors", &b->rows, err));
    TRY(vector_alloc(budget, b->room, 4, "vectors", &b->sources, err));
    TRY(vector_alloc(budget, b->room, 4, "vectors", &b->best, err));
    TRY(vector_alloc(budget, b->room, 4, "vectors", &b->score, err));
    TRY(vector_alloc(budget, b->room, 4 * VECTOR_NEAR_CELLS, "vectors", &b->near, err));
    TRY(vector_alloc(budget, b->room, 4, "vectors", &b->picked, err));
    TRY(vector_alloc(budget, b->room, 4, "vectors", &b->picked_best, err));
    TRY(vector_alloc(budget, b->room, 4, "vectors", &b->picked_score, err));
    TRY(vector_alloc(budget, b->room, sizeof(float *), "vectors", &b->pointers, err));
    return vector_alloc(budget, 64 * code_packed_norms(book->cells), 4, "vectors", &b->cell_scores,
                        err);
}

void vector_batch_done(struct vector_batch *b)
{
    if (!b->build)
        return;
    struct vector_memory *const all[] = {
        &b->rows,   &b->sources,     &b->best,         &b->score,    &b->near,
        &b->picked, &b->picked_best, &b->picked_score, &b->pointers, &b->cell_scores};
    for (size_t i = 0; i < COUNT_OF(all); i++)
        vector_release(b->build->options.budget, all[i]);
}

/* The nearest cells of a row, by its scores; fewer cells: UINT32_MAX. */
static void nearest_cells(const float *scores, uint32_t cells, uint32_t *near)
{
    float best[VECTOR_NEAR_CELLS];
    for (unsigned i = 0; i < VECTOR_NEAR_CELLS; i++) {
        best[i] = INFINITY;
        near[i] = UINT32_MAX;
    }
    for (uint32_t c = 0; c < cells; c++) {
        float score = scores[c];
        if (!(score < best[VECTOR_NEAR_CELLS - 1]))
            continue;
        unsigned at = VECTOR_NEAR_CELLS - 1;
        for (; at > 0 && score < best[at - 1]; at--) {
            best[at] = best[at - 1];
            near[at] = near[at - 1];
        }
        best[at] = score;
        near[at] = c;
    }
}

void vector_batch_cells(struct vector_batch *b)
{
    const struct vector_codebook *book = b->book;
    const struct kernel_code *kernel = kernel_code_get();
    const float **pointers = b->pointers.at;
    size_t stride = code_packed_norms(book->cells);
    float *scores = b->cell_scores.at;
    for (uint32_t at = 0; at < b->count; at += 64) {
        uint32_t count = b->count - at < 64 ? b->count - at : 64;
        for (uint32_t i = 0; i < count; i++)
            pointers[i] = vector_batch_row(b, at + i);
        kernel->scores_f32(pointers, count, book->cell_packed.at, book->cell_norms.at, book->cells,
                           book->width, scores);
        for (uint32_t i = 0; i < count; i++)
            nearest_cells(scores + i * stride, book->cells,
                          (uint32_t *)b->near.at + (size_t)(at + i) * VECTOR_NEAR_CELLS);
    }
}

/* Rows that have a cell among their nearest, against the lists of that cell. */
static void batch_cell_lists(struct vector_batch *b, uint32_t cell)
{
    const struct vector_codebook *book = b->book;
    uint32_t first = ((const uint32_t *)book->cell_first.at)[cell],
             lists = ((const uint32_t *)book->cell_first.at)[cell + 1] - first;
    uint64_t packed_at = ((const uint64_t *)book->packed_at.at)[cell];
    uint32_t width = book->width, picked = 0;
    const uint32_t *near = b->near.at;
    const float **pointers = b->pointers.at;
    uint32_t *index = b->picked.at, *best = b->best.at, *picked_best = b->picked_best.at;
    float *score = b->score.at, *picked_score = b->picked_score.at;
    if (!lists)
        return;
    for (uint32_t i = 0; i < b->count; i++) {
        const uint32_t *mine = near + (size_t)i * VECTOR_NEAR_CELLS;
        bool has = false;
        for (unsigned n = 0; n < VECTOR_NEAR_CELLS; n++)
            has |= mine[n] == cell;
        if (!has)
            continue;
        index[picked] = i;
        pointers[picked] = vector_batch_row(b, i);
        picked_best[picked] = best[i];
        picked_score[picked++] = score[i];
    }
    kernel_code_get()->assign_f32(pointers, picked, (const float *)book->list_packed.at + packed_at,
                                  (const float *)book->list_norms.at + packed_at / width, lists,
                                  width, first, picked_best, picked_score);
    for (uint32_t p = 0; p < picked; p++) {
        best[index[p]] = picked_best[p];
        score[index[p]] = picked_score[p];
    }
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
    for (uint32_t cell = 0; cell < b->book->cells; cell++)
        batch_cell_lists(b, cell);
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
