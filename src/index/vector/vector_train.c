/* SPDX-License-Identifier: Apache-2.0 */
/* From rows to lists: k-means over a sample into about sqrt(K) cells, k-means inside each cell, then every row to its list.  Lists of one
 * cell have neighbouring numbers. */
#include "index/vector/vector_internal.h"

#include <math.h>

#define CELL_SAMPLE 256 /* rows a cell, for the cells */
#define LIST_SAMPLE 64  /* rows a list, for the lists */
#define LIST_LEAST  24  /* rows a list on average, at least */
#define LIST_ROWS \
    96 /* the same with LISTS_MANY lists and more: shorter ones cost a build time and save a query none */
#define LISTS_MANY  640
#define ROUNDS      8
#define GATHER_STEP 512
#define WORK_BYTES  (128u << 20)

uint32_t vector_sample(const struct vector_build *build, uint32_t want, uint32_t *sources)
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

struct training {
    struct vector_build *build;
    struct vector_codebook book;
    struct vector_memory rows, sources, cells, cell_of;
    struct vector_memory centroids; /* of all lists, width floats each */
    uint32_t wanted;                /* lists */
    size_t work_rows;               /* that may be in memory at once */
};

/* ---- rows into memory ---- */

struct gathering {
    struct vector_build *build;
    const uint32_t *sources,
        *places; /* places: where each goes, UINT32_MAX: nowhere; NULL: in order */
    uint32_t count;
    float *out;
};

static och_code gather_step(void *context, void *reader, void *state, uint32_t item, och_error *err)
{
    const struct gathering *g = context;
    size_t width = g->build->width;
    (void)state;
    for (uint32_t i = item * GATHER_STEP; i < g->count && i < (item + 1) * GATHER_STEP; i++) {
        uint32_t place = g->places ? g->places[i] : i;
        if (place != UINT32_MAX)
            TRY(vector_read_row(g->build, reader, g->sources[i], g->out + place * width, err));
    }
    return OCH_OK;
}

static och_code gather(struct training *t, const uint32_t *sources, const uint32_t *places,
                       uint32_t count, float *out, och_error *err)
{
    struct gathering g = {t->build, sources, places, count, NULL};
    g.out = out;
    struct vector_job job = {.build = t->build,
                             .pool = t->build->options.pool,
                             .limits = &t->build->limits,
                             .context = &g,
                             .run = gather_step,
                             .items = (count + GATHER_STEP - 1) / GATHER_STEP};
    return vector_for(&job, err);
}

/* ---- cells ---- */

static och_code train_cells(struct training *t, och_error *err)
{
    struct vector_build *build = t->build;
    struct budget *budget = build->options.budget;
    uint32_t width = build->width, cells = t->book.cells;
    uint64_t want = (uint64_t)cells * CELL_SAMPLE;
    want = want < build->coded ? want : build->coded;
    want = want < t->work_rows ? want : t->work_rows;
    TRY(vector_alloc(budget, want, (size_t)width * 4, "a sample", &t->rows, err));
    TRY(vector_alloc(budget, want, 4, "a sample", &t->sources, err));
    TRY(vector_alloc(budget, cells, (size_t)width * 4, "centroids", &t->cells, err));
    uint32_t count = vector_sample(build, (uint32_t)want, t->sources.at);
    TRY(gather(t, t->sources.at, NULL, count, t->rows.at, err));
    struct vector_kmeans job = {.rows = t->rows.at,
                                .count = count,
                                .dim = width,
                                .centers = cells,
                                .rounds = ROUNDS,
                                .seed = build->space.seed,
                                .budget = budget,
                                .pool = build->options.pool,
                                .limits = &build->limits};
    TRY(vector_kmeans_run(&job, t->cells.at, err));
    vector_release(budget, &t->rows);
    vector_release(budget, &t->sources);
    return vector_book_cells(build, &t->book, t->cells.at, err);
}

/* ---- the nearest cell of each row of the sample ---- */

struct sampled {
    struct training *training;
    uint32_t count;
};

static och_code cells_begin(void *context, void *state, och_error *err)
{
    const struct training *t = ((struct sampled *)context)->training;
    return vector_batch_init(state, t->build, &t->book, err);
}

static void cells_end(void *context, void *state)
{
    (void)context;
    vector_batch_done(state);
}

static och_code cells_step(void *context, void *reader, void *state, uint32_t item, och_error *err)
{
    const struct sampled *s = context;
    struct training *t = s->training;
    struct vector_batch *b = state;
    const uint32_t *sources = t->sources.at;
    uint32_t *cell_of = t->cell_of.at, at = item * b->room;
    b->count = s->count - at < b->room ? s->count - at : b->room;
    for (uint32_t i = 0; i < b->count; i++)
        TRY(vector_read_row(t->build, reader, sources[at + i], vector_batch_row(b, i), err));
    vector_batch_cells(b);
    for (uint32_t i = 0; i < b->count; i++) {
        uint32_t cell = ((const uint32_t *)b->near.at)[(size_t)i * VECTOR_NEAR_CELLS];
        cell_of[at + i] = cell < t->book.cells ? cell : 0;
    }
    return OCH_OK;
}

static och_code sample_cells(struct training *t, uint32_t count, och_error *err)
{
    struct sampled sampled = {t, count};
    uint32_t room = vector_batch_room(t->build);
    struct vector_job job = {.build = t->build,
                             .pool = t->build->options.pool,
                             .limits = &t->build->limits,
                             .context = &sampled,
                             .state_size = sizeof(struct vector_batch),
                             .begin = cells_begin,
                             .run = cells_step,
                             .end = cells_end,
                             .items = (count + room - 1) / room};
    return vector_for(&job, err);
}

/* ---- lists inside the cells ---- */

struct
    group { /* cells [from, ...) whose rows lie in memory: start[c - from] up to start[c - from + 1] */
    struct training *training;
    uint32_t from;
    const uint32_t *start;
};

static och_code group_step(void *context, void *reader, void *state, uint32_t item, och_error *err)
{
    const struct group *g = context;
    struct training *t = g->training;
    const uint32_t *cell_first = t->book.cell_first.at;
    uint32_t c = g->from + item, lists = cell_first[c + 1] - cell_first[c],
             members = g->start[item + 1] - g->start[item];
    size_t width = t->build->width;
    (void)reader;
    (void)state;
    if (!lists)
        return OCH_OK;
    struct vector_kmeans job = {.rows = (const float *)t->rows.at + g->start[item] * width,
                                .count = members,
                                .dim = t->build->width,
                                .centers = lists,
                                .rounds = ROUNDS,
                                .seed = t->build->space.seed + c + 1,
                                .budget = t->build->options.budget,
                                .limits = &t->build->limits};
    return vector_kmeans_run(&job, (float *)t->centroids.at + cell_first[c] * width, err);
}

/* Cells [from, to), whose sampled rows fit in memory together: k-means inside each.  `start` and `fill` have room for cells + 1,
 * `places` for the sample. */
static och_code train_group(struct training *t, uint32_t from, uint32_t to, uint32_t count,
                            const uint32_t *members, uint32_t *start, uint32_t *fill,
                            uint32_t *places, och_error *err)
{
    const uint32_t *cell_of = t->cell_of.at;
    start[0] = 0;
    for (uint32_t c = from; c < to; c++) {
        fill[c - from] = start[c - from];
        start[c - from + 1] = start[c - from] + members[c];
    }
    for (uint32_t i = 0; i < count; i++)
        places[i] = cell_of[i] >= from && cell_of[i] < to ? fill[cell_of[i] - from]++ : UINT32_MAX;
    TRY(gather(t, t->sources.at, places, count, t->rows.at, err));
    struct group g = {t, from, start};
    struct vector_job job = {.pool = t->build->options.pool,
                             .limits = &t->build->limits,
                             .context = &g,
                             .run = group_step,
                             .items = to - from};
    return vector_for(&job, err);
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

struct scratch {
    struct vector_memory members, start, fill, places;
};

static och_code scratch_init(struct training *t, uint32_t count, struct scratch *s, och_error *err)
{
    struct budget *budget = t->build->options.budget;
    uint64_t cells = t->book.cells;
    TRY(vector_alloc(budget, cells, 4, "a sample", &s->members, err));
    TRY(vector_alloc(budget, cells + 1, 4, "a sample", &s->start, err));
    TRY(vector_alloc(budget, cells + 1, 4, "a sample", &s->fill, err));
    return vector_alloc(budget, count, 4, "a sample", &s->places, err);
}

static och_code train_groups(struct training *t, uint32_t count, struct scratch *s, och_error *err)
{
    struct vector_build *build = t->build;
    struct budget *budget = build->options.budget;
    uint32_t cells = t->book.cells, *members = s->members.at, largest = 0;
    for (uint32_t i = 0; i < count; i++)
        members[((const uint32_t *)t->cell_of.at)[i]]++;
    for (uint32_t c = 0; c < cells; c++)
        largest = members[c] > largest ? members[c] : largest;
    size_t room = max_size(largest, min_size(t->work_rows, count)), row_bytes = 4 * build->width;
    TRY(share_lists(t, members, count, err));
    TRY(vector_alloc(budget, room, row_bytes, "a sample", &t->rows, err));
    TRY(vector_alloc(budget, t->book.lists, row_bytes, "centroids", &t->centroids, err));
    for (uint32_t from = 0, to; from < cells; from = to) {
        size_t rows = 0;
        for (to = from; to < cells && rows + members[to] <= room; to++)
            rows += members[to];
        TRY(train_group(t, from, to, count, members, s->start.at, s->fill.at, s->places.at, err));
    }
    return OCH_OK;
}

static och_code train_lists(struct training *t, och_error *err)
{
    struct vector_build *build = t->build;
    struct budget *budget = build->options.budget;
    struct scratch s = {0};
    uint64_t want = (uint64_t)t->wanted * LIST_SAMPLE;
    want = want < build->coded ? want : build->coded;
    TRY(vector_alloc(budget, want, 4, "a sample", &t->sources, err));
    TRY(vector_alloc(budget, want, 4, "a sample", &t->cell_of, err));
    uint32_t count = vector_sample(build, (uint32_t)want, t->sources.at);
    TRY(sample_cells(t, count, err));
    och_code code = scratch_init(t, count, &s, err);
    if (code == OCH_OK)
        code = train_groups(t, count, &s, err);
    struct vector_memory *const all[] = {&s.members, &s.start,    &s.fill,    &s.places,
                                         &t->rows,   &t->sources, &t->cell_of};
    for (size_t i = 0; i < COUNT_OF(all); i++)
        vector_release(budget, all[i]);
    return code;
}

static void training_done(struct training *t)
{
    struct vector_memory *const all[] = {&t->rows, &t->sources, &t->cells, &t->cell_of,
                                         &t->centroids};
    for (size_t i = 0; i < COUNT_OF(all); i++)
        vector_release(t->build->options.budget, all[i]);
    vector_book_done(t->build, &t->book);
}

static uint32_t lists_wanted(const struct vector_build *build)
{
    uint32_t rows = build->coded, most = rows / LIST_LEAST, many = rows / LIST_ROWS,
             wanted = (uint32_t)lround(VECTOR_LISTS_ROOT * sqrt((double)rows));
    many = many > LISTS_MANY ? many : LISTS_MANY;
    if (build->options.list_rows)
        many = rows / build->options.list_rows;
    wanted = wanted < most ? wanted : most;
    wanted = wanted < many ? wanted : many;
    return wanted > 16 ? wanted : 16;
}

och_code vector_train(struct vector_build *build, och_error *err)
{
    struct training t = {.build = build, .wanted = lists_wanted(build)};
    t.book.cells = (uint32_t)lround(sqrt((double)t.wanted));
    t.book.width = build->width;
    size_t work_bytes = build->options.work_bytes ? build->options.work_bytes : WORK_BYTES;
    t.work_rows = max_size(1024, work_bytes / ((size_t)build->width * 4));
    och_code code = train_cells(&t, err);
    if (code == OCH_OK)
        code = train_lists(&t, err);
    if (code == OCH_OK)
        code = vector_book_lists(build, &t.book, t.centroids.at, err);
    vector_release(build->options.budget, &t.centroids);
    if (code == OCH_OK)
        code = vector_assign(build, &t.book, false, err);
    if (code == OCH_OK) {
        build->lists = t.book.lists;
        build->cells = t.book.cells;
        vector_release(build->options.budget, &build->cell_first);
        build->cell_first = t.book.cell_first;
        t.book.cell_first = (struct vector_memory){0};
    }
    training_done(&t);
    return code;
}
