/* SPDX-License-Identifier: Apache-2.0 */
/* From rows to lists: k-means over a sample into about sqrt(K) cells, k-means inside each cell, then every row to the nearest list of its
 * eight nearest cells.  Lists of one cell have neighbouring numbers. */
#include "index/vector/vector_internal.h"

#include <math.h>
#include <stdlib.h>

#define CELL_SAMPLE  256 /* rows a cell, for the cells */
#define LIST_SAMPLE  64  /* rows a list, for the lists */
#define ROUNDS       8
#define NEAR_CELLS   8
#define BATCH_BYTES  (8u << 20)
#define WORK_BYTES   (128u << 20)
#define SPLIT_FACTOR 8 /* lists this much above the average are split */
#define SPLIT_SAMPLE 64
#define SPLIT_MAX    256

och_code vector_alloc(struct budget *budget, uint64_t count, size_t size, const char *what,
                      struct vector_memory *ret, och_error *err)
{
    size_t bytes;
    if (count > SIZE_MAX / 2 || mul_overflows((size_t)count + 1, size, &bytes))
        return FAIL(err, OCH_TOO_LARGE, "%s: too many", what);
    TRY(budget_take(budget, bytes, what, err));
    void *at = mem_alloc_aligned(64, bytes);
    if (!at) {
        budget_give(budget, bytes);
        return FAIL_NO_MEMORY(err, what);
    }
    memset(at, 0, bytes);
    *ret = (struct vector_memory){at, bytes};
    return OCH_OK;
}

void vector_release(struct budget *budget, struct vector_memory *memory)
{
    if (memory->at)
        budget_give(budget, memory->bytes);
    mem_free_aligned(memory->at);
    *memory = (struct vector_memory){0};
}

/* ---- samples ---- */

/* Source indexes of `want` coded rows, evenly spread. */
static uint32_t sample(const struct vector_build *build, uint32_t want, uint32_t *sources)
{
    const uint32_t *list_of = build->list_of.at;
    uint32_t taken = 0, seen = 0;
    for (uint32_t i = 0; i < build->rows.count && taken < want; i++) {
        if (list_of[i] >= LIST_OUTSIDE)
            continue;
        if ((uint64_t)seen * want / build->coded >= taken)
            sources[taken++] = i;
        seen++;
    }
    return taken;
}

static och_code read_row(struct vector_build *build, uint32_t source, float *out, och_error *err)
{
    const float *x;
    float norm2, shift;
    TRY(vector_fetch(build, source, &x, err));
    if (!x)
        return FAIL(err, OCH_INTERNAL, "a row lost its vector while its part was built");
    (void)vector_norm2(&build->space, x, &norm2);
    vector_row(&build->space, x, norm2, out, build->space.wide, &shift);
    return OCH_OK;
}

/* ---- batches of rows, to their cells and lists ---- */

struct batch {
    struct vector_build *build;
    const struct vector_codebook *book;
    uint32_t room, count;
    struct vector_memory rows; /* room x wide */
    struct vector_memory sources, best, score, near, cell_scores;
    struct vector_memory pointers, picked, picked_best, picked_score;
};

static och_code batch_init(struct batch *b, struct vector_build *build,
                           const struct vector_codebook *book, och_error *err)
{
    struct budget *budget = build->options.budget;
    *b = (struct batch){.build = build, .book = book};
    size_t row_bytes = (size_t)build->space.wide * 4;
    b->room = (uint32_t)max_size(64, min_size(4096, BATCH_BYTES / row_bytes));
    TRY(vector_alloc(budget, b->room, row_bytes, "vectors", &b->rows, err));
    TRY(vector_alloc(budget, b->room, 4, "vectors", &b->sources, err));
    TRY(vector_alloc(budget, b->room, 4, "vectors", &b->best, err));
    TRY(vector_alloc(budget, b->room, 4, "vectors", &b->score, err));
    TRY(vector_alloc(budget, b->room, 4 * NEAR_CELLS, "vectors", &b->near, err));
    TRY(vector_alloc(budget, b->room, 4, "vectors", &b->picked, err));
    TRY(vector_alloc(budget, b->room, 4, "vectors", &b->picked_best, err));
    TRY(vector_alloc(budget, b->room, 4, "vectors", &b->picked_score, err));
    TRY(vector_alloc(budget, b->room, sizeof(float *), "vectors", &b->pointers, err));
    return vector_alloc(budget, 64 * code_packed_norms(book->cells), 4, "vectors", &b->cell_scores,
                        err);
}

static void batch_done(struct batch *b)
{
    struct vector_memory *const all[] = {
        &b->rows,   &b->sources,     &b->best,         &b->score,    &b->near,
        &b->picked, &b->picked_best, &b->picked_score, &b->pointers, &b->cell_scores};
    for (size_t i = 0; i < COUNT_OF(all); i++)
        vector_release(b->build->options.budget, all[i]);
}

static float *batch_row(const struct batch *b, uint32_t i)
{
    return (float *)b->rows.at + (size_t)i * b->build->space.wide;
}

/* The nearest cells of a row, by its scores; fewer cells: UINT32_MAX. */
static void nearest_cells(const float *scores, uint32_t cells, uint32_t *near)
{
    float best[NEAR_CELLS];
    for (unsigned i = 0; i < NEAR_CELLS; i++) {
        best[i] = INFINITY;
        near[i] = UINT32_MAX;
    }
    for (uint32_t c = 0; c < cells; c++) {
        float score = scores[c];
        if (!(score < best[NEAR_CELLS - 1]))
            continue;
        unsigned at = NEAR_CELLS - 1;
        for (; at > 0 && score < best[at - 1]; at--) {
            best[at] = best[at - 1];
            near[at] = near[at - 1];
        }
        best[at] = score;
        near[at] = c;
    }
}

static void batch_cells(struct batch *b)
{
    const struct vector_codebook *book = b->book;
    const struct kernel_code *kernel = kernel_code_get();
    const float **pointers = b->pointers.at;
    size_t width = code_packed_norms(book->cells);
    float *scores = b->cell_scores.at;
    for (uint32_t at = 0; at < b->count; at += 64) {
        uint32_t count = b->count - at < 64 ? b->count - at : 64;
        for (uint32_t i = 0; i < count; i++)
            pointers[i] = batch_row(b, at + i);
        kernel->scores_f32(pointers, count, book->cell_packed.at, book->cell_norms.at, book->cells,
                           b->build->space.wide, scores);
        for (uint32_t i = 0; i < count; i++)
            nearest_cells(scores + i * width, book->cells,
                          (uint32_t *)b->near.at + (size_t)(at + i) * NEAR_CELLS);
    }
}

/* Rows that have a cell among their nearest, against the lists of that cell. */
static void batch_cell_lists(struct batch *b, uint32_t cell)
{
    const struct vector_codebook *book = b->book;
    uint32_t first = ((const uint32_t *)book->cell_first.at)[cell],
             lists = ((const uint32_t *)book->cell_first.at)[cell + 1] - first;
    uint64_t packed_at = ((const uint64_t *)book->packed_at.at)[cell];
    uint32_t wide = b->build->space.wide, picked = 0;
    const uint32_t *near = b->near.at;
    const float **pointers = b->pointers.at;
    uint32_t *index = b->picked.at, *best = b->best.at, *picked_best = b->picked_best.at;
    float *score = b->score.at, *picked_score = b->picked_score.at;
    if (!lists)
        return;
    for (uint32_t i = 0; i < b->count; i++) {
        const uint32_t *mine = near + (size_t)i * NEAR_CELLS;
        bool has = false;
        for (unsigned n = 0; n < NEAR_CELLS; n++)
            has |= mine[n] == cell;
        if (!has)
            continue;
        index[picked] = i;
        pointers[picked] = batch_row(b, i);
        picked_best[picked] = best[i];
        picked_score[picked++] = score[i];
    }
    kernel_code_get()->assign_f32(pointers, picked, (const float *)book->list_packed.at + packed_at,
                                  (const float *)book->list_norms.at + packed_at / wide, lists,
                                  wide, first, picked_best, picked_score);
    for (uint32_t p = 0; p < picked; p++) {
        best[index[p]] = picked_best[p];
        score[index[p]] = picked_score[p];
    }
}

/* Lists of the rows gathered: b->best. */
static void batch_assign(struct batch *b)
{
    uint32_t *best = b->best.at;
    float *score = b->score.at;
    for (uint32_t i = 0; i < b->count; i++) {
        best[i] = UINT32_MAX;
        score[i] = INFINITY;
    }
    batch_cells(b);
    for (uint32_t cell = 0; cell < b->book->cells; cell++)
        batch_cell_lists(b, cell);
    for (uint32_t i = 0; i < b->count; i++)
        if (best[i] >= b->book->lists) /* beyond all numbers */
            best[i] = 0;
}

/* ---- training ---- */

struct training {
    struct vector_build *build;
    struct vector_codebook book;
    struct vector_memory rows, sources, cells, cell_of;
    struct vector_memory centroids; /* of all lists, wide floats each */
    uint32_t wanted;                /* lists */
    size_t work_rows;               /* that may be in memory at once */
};

static och_code gather(struct training *t, const uint32_t *sources, uint32_t count, float *out,
                       och_error *err)
{
    struct vector_build *build = t->build;
    for (uint32_t i = 0; i < count; i++) {
        if (i % 256 == 0)
            TRY(work_check(&build->limits, err));
        TRY(read_row(build, sources[i], out + (size_t)i * build->space.wide, err));
    }
    return OCH_OK;
}

static och_code pack(struct budget *budget, const float *centroids, uint32_t lists, uint32_t wide,
                     struct vector_memory *ret_packed, struct vector_memory *ret_norms,
                     och_error *err)
{
    TRY(vector_alloc(budget, code_packed_floats(lists, wide), 4, "centroids", ret_packed, err));
    TRY(vector_alloc(budget, code_packed_norms(lists), 4, "centroids", ret_norms, err));
    code_pack_f32(centroids, wide, lists, wide, ret_packed->at, ret_norms->at);
    return OCH_OK;
}

static och_code train_cells(struct training *t, och_error *err)
{
    struct vector_build *build = t->build;
    struct budget *budget = build->options.budget;
    uint32_t wide = build->space.wide, cells = t->book.cells;
    uint64_t want = (uint64_t)cells * CELL_SAMPLE;
    want = want < build->coded ? want : build->coded;
    want = want < t->work_rows ? want : t->work_rows;
    TRY(vector_alloc(budget, want, (size_t)wide * 4, "a sample", &t->rows, err));
    TRY(vector_alloc(budget, want, 4, "a sample", &t->sources, err));
    TRY(vector_alloc(budget, cells, (size_t)wide * 4, "centroids", &t->cells, err));
    uint32_t count = sample(build, (uint32_t)want, t->sources.at);
    TRY(gather(t, t->sources.at, count, t->rows.at, err));
    struct vector_kmeans job = {.rows = t->rows.at,
                                .count = count,
                                .dim = wide,
                                .centers = cells,
                                .rounds = ROUNDS,
                                .seed = build->space.seed,
                                .limits = &build->limits};
    TRY(vector_kmeans_run(&job, t->cells.at, err));
    vector_release(budget, &t->rows);
    vector_release(budget, &t->sources);
    return pack(budget, t->cells.at, cells, wide, &t->book.cell_packed, &t->book.cell_norms, err);
}

/* The nearest cell of each row of the sample. */
static och_code sample_cells(struct training *t, uint32_t count, och_error *err)
{
    struct batch b;
    const uint32_t *sources = t->sources.at;
    uint32_t *cell_of = t->cell_of.at;
    och_code code = batch_init(&b, t->build, &t->book, err);
    for (uint32_t at = 0; code == OCH_OK && at < count; at += b.count) {
        b.count = count - at < b.room ? count - at : b.room;
        code = gather(t, sources + at, b.count, b.rows.at, err);
        if (code != OCH_OK)
            break;
        batch_cells(&b);
        for (uint32_t i = 0; i < b.count; i++) {
            uint32_t cell = ((const uint32_t *)b.near.at)[(size_t)i * NEAR_CELLS];
            cell_of[at + i] = cell < t->book.cells ? cell : 0;
        }
    }
    batch_done(&b);
    return code;
}

/* Cells [from, to) whose sampled rows fit in memory together: k-means inside each. */
static och_code train_group(struct training *t, uint32_t from, uint32_t to, uint32_t count,
                            uint32_t *fill, och_error *err)
{
    struct vector_build *build = t->build;
    uint32_t wide = build->space.wide;
    const uint32_t *sources = t->sources.at, *cell_of = t->cell_of.at;
    const uint32_t *cell_first = t->book.cell_first.at;
    float *rows = t->rows.at;
    /* fill[c]: where the cell's next row goes */
    for (uint32_t i = 0; i < count; i++) {
        if (cell_of[i] < from || cell_of[i] >= to)
            continue;
        if (i % 256 == 0)
            TRY(work_check(&build->limits, err));
        TRY(read_row(build, sources[i], rows + (size_t)fill[cell_of[i]]++ * wide, err));
    }
    size_t start = 0;
    for (uint32_t c = from; c < to; c++) {
        size_t members = fill[c] - start;
        uint32_t lists = cell_first[c + 1] - cell_first[c];
        struct vector_kmeans job = {.rows = rows + start * wide,
                                    .count = members,
                                    .dim = wide,
                                    .centers = lists,
                                    .rounds = ROUNDS,
                                    .seed = build->space.seed + c + 1,
                                    .limits = &build->limits};
        if (lists)
            TRY(vector_kmeans_run(&job, (float *)t->centroids.at + (size_t)cell_first[c] * wide,
                                  err));
        start = fill[c];
    }
    return OCH_OK;
}

static och_code share_lists(struct training *t, const uint32_t *members, uint32_t count,
                            och_error *err)
{
    uint32_t cells = t->book.cells, sum = 0;
    assert(count > 0); /* the sample is not empty */
    TRY(vector_alloc(t->build->options.budget, (uint64_t)cells + 1, 4, "centroids",
                     &t->book.cell_first, err));
    uint32_t *first = t->book.cell_first.at;
    for (uint32_t c = 0; c < cells; c++) {
        uint64_t share = ((uint64_t)members[c] * t->wanted + count / 2) / count;
        if (!share && members[c])
            share = 1;
        share = share < members[c] ? share : members[c];
        first[c] = sum;
        sum += (uint32_t)share;
    }
    first[cells] = sum;
    t->book.lists = sum;
    return OCH_OK;
}

static och_code train_lists(struct training *t, och_error *err)
{
    struct vector_build *build = t->build;
    struct budget *budget = build->options.budget;
    uint32_t wide = build->space.wide, cells = t->book.cells;
    uint64_t want = (uint64_t)t->wanted * LIST_SAMPLE;
    want = want < build->coded ? want : build->coded;
    TRY(vector_alloc(budget, want, 4, "a sample", &t->sources, err));
    TRY(vector_alloc(budget, want, 4, "a sample", &t->cell_of, err));
    uint32_t count = sample(build, (uint32_t)want, t->sources.at);
    TRY(sample_cells(t, count, err));
    struct vector_memory members = {0}, fill = {0};
    och_code code = vector_alloc(budget, cells, 4, "a sample", &members, err);
    if (code == OCH_OK)
        code = vector_alloc(budget, cells, 4, "a sample", &fill, err);
    uint32_t *member_count = members.at, largest = 0;
    for (uint32_t i = 0; code == OCH_OK && i < count; i++)
        member_count[((const uint32_t *)t->cell_of.at)[i]]++;
    for (uint32_t c = 0; code == OCH_OK && c < cells; c++)
        largest = member_count[c] > largest ? member_count[c] : largest;
    size_t room = max_size(largest, min_size(t->work_rows, count));
    if (code == OCH_OK)
        code = share_lists(t, member_count, count, err);
    if (code == OCH_OK)
        code = vector_alloc(budget, room, (size_t)wide * 4, "a sample", &t->rows, err);
    if (code == OCH_OK)
        code =
            vector_alloc(budget, t->book.lists, (size_t)wide * 4, "centroids", &t->centroids, err);
    for (uint32_t from = 0, to; code == OCH_OK && from < cells; from = to) {
        size_t rows = 0;
        for (to = from; to < cells && rows + member_count[to] <= room; to++) {
            ((uint32_t *)fill.at)[to] = (uint32_t)rows;
            rows += member_count[to];
        }
        code = train_group(t, from, to, count, fill.at, err);
    }
    vector_release(budget, &members);
    vector_release(budget, &fill);
    vector_release(budget, &t->rows);
    vector_release(budget, &t->sources);
    vector_release(budget, &t->cell_of);
    return code;
}

/* Each cell's lists packed for themselves. */
static och_code pack_lists(struct training *t, och_error *err)
{
    struct vector_codebook *book = &t->book;
    struct budget *budget = t->build->options.budget;
    uint32_t wide = t->build->space.wide;
    const uint32_t *first = book->cell_first.at;
    uint64_t floats = 0;
    TRY(vector_alloc(budget, book->cells, 8, "centroids", &book->packed_at, err));
    uint64_t *packed_at = book->packed_at.at;
    for (uint32_t c = 0; c < book->cells; c++) {
        packed_at[c] = floats;
        floats += code_packed_floats(first[c + 1] - first[c], wide);
    }
    TRY(vector_alloc(budget, floats, 4, "centroids", &book->list_packed, err));
    TRY(vector_alloc(budget, floats / wide, 4, "centroids", &book->list_norms, err));
    for (uint32_t c = 0; c < book->cells; c++)
        code_pack_f32((const float *)t->centroids.at + (size_t)first[c] * wide, wide,
                      first[c + 1] - first[c], wide, (float *)book->list_packed.at + packed_at[c],
                      (float *)book->list_norms.at + packed_at[c] / wide);
    vector_release(budget, &t->centroids);
    return OCH_OK;
}

static och_code assign_all(struct training *t, och_error *err)
{
    struct vector_build *build = t->build;
    uint32_t *list_of = build->list_of.at;
    struct batch b;
    och_code code = batch_init(&b, build, &t->book, err);
    for (uint32_t i = 0; code == OCH_OK && i <= build->rows.count; i++) {
        bool end = i == build->rows.count;
        if (b.count == b.room || (end && b.count)) {
            batch_assign(&b);
            for (uint32_t j = 0; j < b.count; j++)
                list_of[((const uint32_t *)b.sources.at)[j]] = ((const uint32_t *)b.best.at)[j];
            b.count = 0;
            code = work_check(&build->limits, err);
        }
        if (code == OCH_OK && !end && list_of[i] < LIST_OUTSIDE) {
            ((uint32_t *)b.sources.at)[b.count] = i;
            code = read_row(build, i, batch_row(&b, b.count++), err);
        }
    }
    batch_done(&b);
    return code;
}

static void training_done(struct training *t)
{
    struct vector_codebook *book = &t->book;
    struct vector_memory *const all[] = {&book->cell_packed, &book->cell_norms, &book->list_packed,
                                         &book->list_norms,  &book->cell_first, &book->packed_at,
                                         &t->rows,           &t->sources,       &t->cells,
                                         &t->cell_of,        &t->centroids};
    for (size_t i = 0; i < COUNT_OF(all); i++)
        vector_release(t->build->options.budget, all[i]);
}

och_code vector_train(struct vector_build *build, och_error *err)
{
    double root = sqrt((double)build->coded);
    struct training t = {.build = build};
    uint32_t most = build->coded / 24;
    t.wanted = (uint32_t)lround(4 * root);
    t.wanted = t.wanted < most ? t.wanted : most;
    t.wanted = t.wanted > 16 ? t.wanted : 16;
    t.book.cells = (uint32_t)lround(sqrt((double)t.wanted));
    size_t work_bytes = build->options.work_bytes ? build->options.work_bytes : WORK_BYTES;
    t.work_rows = max_size(1024, work_bytes / ((size_t)build->space.wide * 4));
    och_code code = train_cells(&t, err);
    if (code == OCH_OK)
        code = train_lists(&t, err);
    if (code == OCH_OK)
        code = pack_lists(&t, err);
    if (code == OCH_OK)
        code = assign_all(&t, err);
    build->lists = t.book.lists;
    training_done(&t);
    return code;
}

/* ---- lists that are far too long ---- */

struct splitting {
    struct vector_build *build;
    uint32_t list, rows, pieces, next; /* next: the first number that is free */
    struct vector_memory sample, centroids, packed, norms, batch;
};

static och_code split_centroids(struct splitting *s, och_error *err)
{
    struct vector_build *build = s->build;
    struct budget *budget = build->options.budget;
    uint32_t wide = build->space.wide, want = s->pieces * SPLIT_SAMPLE;
    const uint32_t *list_of = build->list_of.at;
    want = want < s->rows ? want : s->rows;
    TRY(vector_alloc(budget, want, (size_t)wide * 4, "a sample", &s->sample, err));
    TRY(vector_alloc(budget, s->pieces, (size_t)wide * 4, "centroids", &s->centroids, err));
    uint32_t taken = 0, seen = 0;
    for (uint32_t i = 0; i < build->rows.count && taken < want; i++) {
        if (list_of[i] != s->list)
            continue;
        if ((uint64_t)seen * want / s->rows >= taken)
            TRY(read_row(build, i, (float *)s->sample.at + (size_t)taken++ * wide, err));
        seen++;
    }
    struct vector_kmeans job = {.rows = s->sample.at,
                                .count = taken,
                                .dim = wide,
                                .centers = s->pieces,
                                .rounds = ROUNDS,
                                .seed = build->space.seed + s->list,
                                .limits = &build->limits};
    TRY(vector_kmeans_run(&job, s->centroids.at, err));
    return pack(budget, s->centroids.at, s->pieces, wide, &s->packed, &s->norms, err);
}

static och_code split_assign(struct splitting *s, och_error *err)
{
    enum { ROOM = 64 };
    struct vector_build *build = s->build;
    uint32_t wide = build->space.wide, *list_of = build->list_of.at;
    const float *pointers[ROOM];
    uint32_t sources[ROOM], best[ROOM], count = 0;
    float score[ROOM];
    TRY(vector_alloc(build->options.budget, ROOM, (size_t)wide * 4, "vectors", &s->batch, err));
    for (uint32_t i = 0; i <= build->rows.count; i++) {
        bool end = i == build->rows.count;
        if (count == ROOM || (end && count)) {
            kernel_code_get()->assign_f32(pointers, count, s->packed.at, s->norms.at, s->pieces,
                                          wide, 0, best, score);
            for (uint32_t j = 0; j < count; j++)
                if (best[j] && best[j] < s->pieces) /* the first piece keeps the number */
                    list_of[sources[j]] = s->next + best[j] - 1;
            count = 0;
            TRY(work_check(&build->limits, err));
        }
        if (end || list_of[i] != s->list)
            continue;
        float *row = (float *)s->batch.at + (size_t)count * wide;
        TRY(read_row(build, i, row, err));
        pointers[count] = row;
        sources[count] = i;
        best[count] = UINT32_MAX;
        score[count++] = INFINITY;
    }
    return OCH_OK;
}

static och_code split_one(struct vector_build *build, uint32_t list, uint32_t rows, uint32_t pieces,
                          uint32_t next, och_error *err)
{
    struct splitting s = {
        .build = build, .list = list, .rows = rows, .pieces = pieces, .next = next};
    och_code code = split_centroids(&s, err);
    if (code == OCH_OK)
        code = split_assign(&s, err);
    struct vector_memory *const all[] = {&s.sample, &s.centroids, &s.packed, &s.norms, &s.batch};
    for (size_t i = 0; i < COUNT_OF(all); i++)
        vector_release(build->options.budget, all[i]);
    return code;
}

/* Numbers without gaps; pieces of one list lie beside it. */
static och_code renumber(struct vector_build *build, uint32_t lists, const uint32_t *parent,
                         och_error *err)
{
    struct budget *budget = build->options.budget;
    uint32_t *list_of = build->list_of.at, next = 0;
    struct vector_memory used = {0}, number = {0}, chain = {0};
    och_code code = vector_alloc(budget, lists, 4, "lists", &used, err);
    if (code == OCH_OK)
        code = vector_alloc(budget, lists, 4, "lists", &number, err);
    if (code == OCH_OK)
        code = vector_alloc(budget, (uint64_t)lists, 4, "lists", &chain, err);
    if (code == OCH_OK) {
        uint32_t *rows = used.at, *to = number.at, *first_child = chain.at;
        for (uint32_t i = 0; i < build->rows.count; i++)
            if (list_of[i] < LIST_OUTSIDE)
                rows[list_of[i]]++;
        /* children of a list are numbered one behind the other: the chain holds where they begin */
        for (uint32_t j = lists; j-- > build->lists;)
            first_child[parent[j - build->lists]] = j;
        for (uint32_t j = 0; j < build->lists; j++) {
            if (rows[j])
                to[j] = next++;
            for (uint32_t child = first_child[j];
                 child && child < lists && parent[child - build->lists] == j; child++)
                if (rows[child])
                    to[child] = next++;
        }
        for (uint32_t i = 0; i < build->rows.count; i++)
            if (list_of[i] < LIST_OUTSIDE)
                list_of[i] = to[list_of[i]];
        build->lists = next;
    }
    vector_release(budget, &used);
    vector_release(budget, &number);
    vector_release(budget, &chain);
    return code;
}

och_code vector_split(struct vector_build *build, och_error *err)
{
    struct budget *budget = build->options.budget;
    struct vector_memory counts = {0}, parents = {0};
    const uint32_t *list_of = build->list_of.at;
    uint32_t average = build->coded / build->lists + 1, next = build->lists;
    uint64_t room = (uint64_t)build->lists * 2 + SPLIT_MAX;
    TRY(vector_alloc(budget, build->lists, 4, "lists", &counts, err));
    och_code code = vector_alloc(budget, room, 4, "lists", &parents, err);
    uint32_t *rows = counts.at, *parent = parents.at;
    for (uint32_t i = 0; code == OCH_OK && i < build->rows.count; i++)
        if (list_of[i] < LIST_OUTSIDE)
            rows[list_of[i]]++;
    for (uint32_t j = 0; code == OCH_OK && j < build->lists; j++) {
        if (rows[j] <= (uint64_t)average * SPLIT_FACTOR)
            continue;
        uint32_t pieces = rows[j] / average;
        pieces = pieces < SPLIT_MAX ? pieces : SPLIT_MAX;
        if (next - build->lists + pieces > room)
            break;
        code = split_one(build, j, rows[j], pieces, next, err);
        for (uint32_t p = 1; code == OCH_OK && p < pieces; p++)
            parent[next++ - build->lists] = j;
    }
    if (code == OCH_OK)
        code = renumber(build, next, parent, err);
    vector_release(budget, &counts);
    vector_release(budget, &parents);
    return code;
}
