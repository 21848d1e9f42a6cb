/* SPDX-License-Identifier: Apache-2.0 */
/* Building an index: a look at all rows, a mean, lists (trained, or those of an input), then the codes.  Memory: centroids, 8 bytes a row, the
 * 1-bit codes, a wave of 8-bit ones, and what training may hold; 8-bit codes are made or copied again when they are written. */
#include "index/vector/vector_internal.h"

#include <math.h>

#define SURVEY_STEP 16384
#define MEAN_ROWS   65536 /* sampled for the mean */
#define MEAN_STEP   1024
#define EMIT_STEP   128        /* 8-bit rows made at once */
#define EMIT_BYTES  (4u << 20) /* made before they are written */

bool vector_wanted(uint64_t vectors, uint32_t dimension)
{
    /* numbers: sums of their squares are coarser than they lie apart, and a scan reads less */
    return dimension > 1 && dimension < CODE_DIM_MAX && vectors >= VECTOR_CODES_MIN &&
           vectors < LIST_UNKNOWN;
}

uint64_t vector_build_row_bytes(uint32_t dimension)
{
    /* its list, its place, its share of a block; lists fill their last block by half */
    uint64_t block = code_block_size(vector_code_dim(dimension + 1)) / CODE_BLOCK_ROWS;
    return 8 + block + block / 5;
}

/* ---- one row ---- */

static och_code fetch_known(struct vector_build *build, void *reader, uint32_t source,
                            const float **ret, float *ret_norm2, och_error *err)
{
    TRY(vector_fetch(build, reader, source, ret, err));
    if (!*ret)
        return FAIL(err, OCH_INTERNAL, "a row lost its vector while its part was built");
    (void)vector_norm2(&build->space, *ret, ret_norm2);
    return OCH_OK;
}

/* The code that the source's part holds; NULL: none of this space. */
static och_code known_code8(struct vector_build *build, void *reader, uint32_t source,
                            const uint8_t **ret_row8, och_error *err)
{
    uint32_t input, row;
    *ret_row8 = NULL;
    if (!build->same_space)
        return OCH_OK;
    build->rows.place(build->rows.context, source, &input, &row);
    if (!build->same_space[input] || row >= build->options.inputs[input]->coded)
        return OCH_OK;
    return build->rows.code8(reader, input, row, ret_row8, err);
}

och_code vector_read_row(struct vector_build *build, void *reader, uint32_t source, float *out,
                         och_error *err)
{
    const float *x;
    float norm2, shift;
    const uint8_t *row8;
    TRY(known_code8(build, reader, source, &row8, err));
    if (row8) {
        kernel_code_get()->decode8(row8, NULL, build->space.code_dim, out);
        return OCH_OK;
    }
    TRY(fetch_known(build, reader, source, &x, &norm2, err));
    vector_row(&build->space, x, norm2, out, build->width, &shift);
    if (build->rotated)
        kernel_code_get()->rotate_f32(out, build->space.code_dim, build->space.seed);
    return OCH_OK;
}

och_code vector_read_code8(struct vector_build *build, void *reader, uint32_t source,
                           float *scratch, uint8_t *out, och_error *err)
{
    const struct kernel_code *kernel = kernel_code_get();
    uint32_t dim = build->space.code_dim;
    const float *x;
    float norm2, shift;
    const uint8_t *row8;
    TRY(known_code8(build, reader, source, &row8, err));
    if (row8) {
        memcpy(out, row8, code_row_size(dim));
        return OCH_OK;
    }
    TRY(fetch_known(build, reader, source, &x, &norm2, err));
    vector_row(&build->space, x, norm2, scratch, dim, &shift);
    kernel->rotate_f32(scratch, dim, build->space.seed);
    kernel->quant8(scratch, dim, out);
    if (shift != 0) {
        norm2 = code_row_norm2(out, dim) + shift;
        memcpy(out + dim + 4, &norm2, sizeof(norm2));
    }
    return OCH_OK;
}

/* ---- a look at all rows ---- */

struct survey_part {
    uint32_t coded, outside;
    float big2;
    uint32_t lengths[VECTOR_LENGTHS]; /* of rows that are new to the space */
};
struct surveying {
    struct vector_build *build;
    struct survey_part *parts;
};

/* What kind of row it is, without its vector if its input says so. */
static och_code survey_row(struct vector_build *build, void *reader, uint32_t i,
                           struct survey_part *part, och_error *err)
{
    uint32_t *list_of = build->list_of.at, input, row;
    const float *x;
    float norm2;
    if (build->same_space) {
        build->rows.place(build->rows.context, i, &input, &row);
        if (build->same_space[input]) {
            const struct vector_index *index = build->options.inputs[input];
            bool coded = row < index->coded,
                 outside = !coded && row - index->coded < index->outside;
            list_of[i] = coded ? 0 : outside ? LIST_OUTSIDE : LIST_NONE;
            part->coded += coded;
            part->outside += outside;
            return OCH_OK;
        }
    }
    TRY(vector_fetch(build, reader, i, &x, err));
    if (!x) {
        list_of[i] = LIST_NONE;
    } else if (vector_norm2(&build->space, x, &norm2)) {
        list_of[i] = 0;
        part->coded++;
        part->big2 = norm2 > part->big2 ? norm2 : part->big2;
        part->lengths[vector_length_class(norm2)]++;
    } else {
        list_of[i] = LIST_OUTSIDE;
        part->outside++;
    }
    return OCH_OK;
}

static och_code survey_step(void *context, void *reader, void *state, uint32_t item, och_error *err)
{
    const struct surveying *s = context;
    uint64_t from = (uint64_t)item * SURVEY_STEP, to = from + SURVEY_STEP;
    to = to < s->build->rows.count ? to : s->build->rows.count;
    (void)state;
    for (uint32_t i = (uint32_t)from; i < to; i++) {
        if (i % 1024 == 0)
            TRY(work_check(&s->build->limits, err));
        TRY(survey_row(s->build, reader, i, &s->parts[item], err));
    }
    return OCH_OK;
}

static void add_up(struct survey_part *sum, const struct survey_part *part)
{
    sum->coded += part->coded;
    sum->outside += part->outside;
    sum->big2 = part->big2 > sum->big2 ? part->big2 : sum->big2;
    for (unsigned i = 0; i < VECTOR_LENGTHS; i++)
        sum->lengths[i] += part->lengths[i];
}

static och_code survey_once(struct vector_build *build, struct survey_part *ret_sum, och_error *err)
{
    struct vector_memory parts = {0};
    uint32_t items = (uint32_t)(((uint64_t)build->rows.count + SURVEY_STEP - 1) / SURVEY_STEP);
    *ret_sum = (struct survey_part){0};
    TRY(vector_alloc(build->options.budget, items, sizeof(struct survey_part), "a survey", &parts,
                     err));
    struct surveying s = {build, parts.at};
    struct vector_job job = {.build = build,
                             .pool = build->options.pool,
                             .limits = &build->limits,
                             .context = &s,
                             .run = survey_step,
                             .items = items};
    och_code code = vector_for(&job, err);
    for (uint32_t i = 0; code == OCH_OK && i < items; i++)
        add_up(ret_sum, &s.parts[i]);
    build->coded = ret_sum->coded;
    build->outside = ret_sum->outside;
    build->strangers = 0;
    for (unsigned i = 0; i < VECTOR_LENGTHS; i++)
        build->strangers += ret_sum->lengths[i];
    vector_release(build->options.budget, &parts);
    return code;
}

static och_code survey(struct vector_build *build, bool *ret_fits, och_error *err)
{
    struct survey_part sum;
    TRY(survey_once(build, &sum, err));
    if (build->kept_space) {
        *ret_fits = build->outside <= vector_outside_most(build->coded);
        return OCH_OK;
    }
    *ret_fits = true;
    build->space.limit2 = vector_limit_among(sum.lengths, sum.coded, build->space.metric);
    if (build->space.limit2 > 0)
        TRY(survey_once(build, &sum, err));
    if (build->space.metric == METRIC_IP)
        build->space.big2 = sum.big2;
    return OCH_OK;
}

/* ---- mean ---- */

struct averaging {
    struct vector_build *build;
    const uint32_t *sources;
    uint32_t count;
    double *sums; /* wide, by step */
};

static och_code row_begin(void *context, void *state, och_error *err)
{
    const struct vector_build *build = ((struct averaging *)context)->build;
    return vector_alloc(build->options.budget, build->space.code_dim, 4, "a vector", state, err);
}

static void row_end(void *context, void *state)
{
    vector_release(((struct averaging *)context)->build->options.budget, state);
}

static och_code mean_step(void *context, void *reader, void *state, uint32_t item, och_error *err)
{
    const struct averaging *a = context;
    struct vector_build *build = a->build;
    uint32_t wide = build->space.wide;
    double *sums = a->sums + (size_t)item * wide;
    float *out = ((struct vector_memory *)state)->at;
    for (uint32_t i = item * MEAN_STEP; i < a->count && i < (item + 1) * MEAN_STEP; i++) {
        const float *x;
        float norm2, shift;
        TRY(fetch_known(build, reader, a->sources[i], &x, &norm2, err));
        vector_row(&build->space, x, norm2, out, wide, &shift); /* the mean is still 0 */
        for (uint32_t j = 0; j < wide; j++)
            sums[j] += (double)out[j];
    }
    return OCH_OK;
}

static och_code find_mean(struct vector_build *build, och_error *err)
{
    struct budget *budget = build->options.budget;
    uint32_t wide = build->space.wide;
    uint32_t want = build->coded < MEAN_ROWS ? build->coded : MEAN_ROWS,
             items = (want + MEAN_STEP - 1) / MEAN_STEP;
    struct vector_memory sums = {0}, sources = {0};
    och_code code = vector_alloc(budget, items, (size_t)wide * 8, "a mean", &sums, err);
    if (code == OCH_OK)
        code = vector_alloc(budget, want, 4, "a mean", &sources, err);
    struct averaging a = {build, sources.at, 0, sums.at};
    if (code == OCH_OK) {
        a.count = vector_sample(build, want, sources.at);
        struct vector_job job = {.build = build,
                                 .pool = build->options.pool,
                                 .limits = &build->limits,
                                 .context = &a,
                                 .state_size = sizeof(struct vector_memory),
                                 .begin = row_begin,
                                 .run = mean_step,
                                 .end = row_end,
                                 .items = items};
        code = vector_for(&job, err);
    }
    float *mean = build->mean.at;
    for (uint32_t j = 0; code == OCH_OK && j < wide; j++) {
        double sum = 0;
        for (uint32_t i = 0; i < items; i++)
            sum += a.sums[(size_t)i * wide + j];
        mean[j] = (float)(sum / a.count);
    }
    vector_release(budget, &sums);
    vector_release(budget, &sources);
    return code;
}

/* ---- the whole ---- */

/* Lists from rows; what an earlier attempt left is gone first. */
static och_code make_lists(struct vector_build *build, och_error *err)
{
    uint32_t flat = build->options.flat_rows ? build->options.flat_rows : VECTOR_FLAT_ROWS;
    build->base = VECTOR_NO_INPUT;
    build->carried = false;
    build->lists = 1;
    build->cells = 0;
    vector_release(build->options.budget, &build->cell_first);
    if (build->coded <= flat) {
        uint32_t *list_of = build->list_of.at;
        for (uint32_t i = 0; i < build->rows.count; i++)
            list_of[i] = list_of[i] < LIST_OUTSIDE ? 0 : list_of[i];
        return OCH_OK;
    }
    TRY(vector_train(build, err));
    return vector_split(build, err);
}

static och_code encode(struct vector_build *build, och_error *err)
{
    struct vector_memory *const sections[] = {&build->list, &build->centq, &build->code,
                                              &build->rows8};
    for (size_t i = 0; i < COUNT_OF(sections); i++)
        vector_release(build->options.budget, sections[i]);
    return vector_encode(build, err);
}

/* No codes: all rows are looked at. */
static void leave_outside(struct vector_build *build)
{
    uint32_t *list_of = build->list_of.at;
    for (uint32_t i = 0; i < build->rows.count; i++)
        list_of[i] = list_of[i] < LIST_OUTSIDE ? LIST_OUTSIDE : list_of[i];
    build->outside += build->coded;
    build->coded = 0;
}

/* list_of of all rows, and a space that fits them: the one that was chosen, else their own. */
static och_code try_space(struct vector_build *build, bool *ret_fits, och_error *err)
{
    bool kept = build->kept_space;
    TRY(survey(build, ret_fits, err));
    if (kept && build->coded && *ret_fits)
        TRY(vector_space_fits(build, ret_fits, err));
    if (!kept && build->coded)
        TRY(find_mean(build, err));
    if (*ret_fits && build->strangers) /* codes that are taken over were looked at */
        TRY(vector_codes_see(build, ret_fits, err));
    return OCH_OK;
}

static och_code find_space(struct vector_build *build, och_error *err)
{
    bool fits;
    TRY(vector_choose_space(build, err));
    TRY(try_space(build, &fits, err));
    if (!fits && build->kept_space) {
        vector_drop_space(build);
        TRY(try_space(build, &fits, err));
    }
    if (!fits)
        leave_outside(build);
    return OCH_OK;
}

static och_code build_all(struct vector_build *build, och_error *err)
{
    struct budget *budget = build->options.budget;
    bool fits = false;
    TRY(vector_alloc(budget, build->space.wide, 4, "a mean", &build->mean, err));
    build->space.mean = build->mean.at;
    TRY(vector_alloc(budget, build->rows.count, 4, "lists", &build->list_of, err));
    TRY(find_space(build, err));
    if (!build->coded)
        return OCH_OK;
    if (build->base != VECTOR_NO_INPUT)
        TRY(vector_merge_lists(build, &fits, err));
    if (!fits)
        TRY(make_lists(build, err));
    TRY(encode(build, err));
    if (build->disagrees) { /* asked in earnest, it may be that lists are to be trained anew */
        build->carried = build->disagrees = false;
        TRY(encode(build, err));
    }
    if (fits && vector_has_drifted(build)) {
        TRY(make_lists(build, err));
        TRY(encode(build, err));
    }
    vector_release(budget, &build->list_of);
    return OCH_OK;
}

och_code vector_build_new(const struct vector_options *options, const struct vector_rows *rows,
                          struct vector_build **ret_build, och_error *err)
{
    struct vector_build *build = MEM_NEW(struct vector_build);
    if (!build)
        return FAIL_NO_MEMORY(err, "a vector index");
    assert(options->dimension);
    build->options = *options;
    build->rows = *rows;
    build->base = VECTOR_NO_INPUT;
    if (options->limits)
        build->limits = *options->limits;
    build->space = (struct vector_space){.metric = options->metric,
                                         .dim = options->dimension,
                                         .wide = vector_wide(options->metric, options->dimension),
                                         .seed = VECTOR_SEED};
    build->space.code_dim = vector_code_dim(build->space.wide);
    build->width = build->space.wide;
    och_code code = OCH_OK;
    build->reader = rows->context;
    if (rows->reader_new)
        code = rows->reader_new(rows->context, &build->reader, err);
    if (code != OCH_OK) {
        mem_free(build);
        return code;
    }
    code = build_all(build, err);
    if (code != OCH_OK) {
        vector_build_free(build);
        return code;
    }
    *ret_build = build;
    return OCH_OK;
}

void vector_build_free(struct vector_build *build)
{
    if (!build)
        return;
    struct vector_memory *const all[] = {&build->mean,  &build->mean_section, &build->list_of,
                                         &build->order, &build->list,         &build->same,
                                         &build->centq, &build->cell_first,   &build->super,
                                         &build->code,  &build->rows8};
    for (size_t i = 0; i < COUNT_OF(all); i++)
        vector_release(build->options.budget, all[i]);
    if (build->rows.reader_free)
        build->rows.reader_free(build->reader);
    mem_free(build);
}

const uint32_t *vector_build_order(const struct vector_build *build)
{
    return build->permuted ? build->order.at : NULL;
}

struct vector_built vector_build_result(const struct vector_build *build)
{
    uint32_t dim = build->space.code_dim, lists = build->lists;
    struct vector_built ret = {
        .coded = build->coded, .lists = lists, .space_of = VECTOR_NEW_SPACE, .base = build->base};
    if (!build->coded)
        return ret;
    /* each was taken with room for one more unit */
    uint64_t blocks = load_u32((const uint8_t *)build->mean_section.at + 44);
    ret.mean =
        slice_make(build->mean_section.at, VECTOR_HEADER_SIZE + 4 * (size_t)build->space.wide);
    ret.list = slice_make(build->list.at, (size_t)lists * VECTOR_LIST_SIZE);
    ret.centq =
        slice_make(build->centq.at, (lists + CODE_LISTS - 1) / CODE_LISTS * code_coarse_size(dim));
    if (build->super.at)
        ret.super = slice_make(build->super.at, vector_super_size(build->cells, dim));
    ret.code = slice_make(build->code.at, (size_t)blocks * code_block_size(dim));
    ret.code8_bytes = (uint64_t)build->coded * code_row_size(dim);
    ret.lists_098 = build->lists_098;
    ret.rms = build->rms;
    ret.trained_rows = build->trained.rows;
    ret.trained_lists = build->trained.lists;
    ret.trained_098 = build->trained.lists_098;
    ret.trained_rms = build->trained.rms;
    ret.space_of = build->kept_space ? build->space_of : VECTOR_NEW_SPACE;
    return ret;
}

/* ---- 8-bit codes, to be written ---- */

struct emission {
    struct vector_build *build;
    uint32_t at, count; /* rows of the window */
    uint8_t *rows8;
};

static och_code emit_begin(void *context, void *state, och_error *err)
{
    const struct vector_build *build = ((struct emission *)context)->build;
    return vector_alloc(build->options.budget, build->space.code_dim, 4, "a vector", state, err);
}

static void emit_end(void *context, void *state)
{
    vector_release(((struct emission *)context)->build->options.budget, state);
}

static och_code emit_step(void *context, void *reader, void *state, uint32_t item, och_error *err)
{
    const struct emission *e = context;
    const uint32_t *order = (const uint32_t *)e->build->order.at + e->at;
    size_t size = code_row_size(e->build->space.code_dim);
    for (uint32_t i = item * EMIT_STEP; i < e->count && i < (item + 1) * EMIT_STEP; i++)
        TRY(vector_read_code8(e->build, reader, order[i], ((struct vector_memory *)state)->at,
                              e->rows8 + i * size, err));
    return OCH_OK;
}

/* Those that the one wave left. */
static och_code emit_made(struct vector_build *build,
                          och_code (*emit)(void *context, const void *at, size_t len,
                                           och_error *err),
                          void *context, och_error *err)
{
    const uint8_t *rows8 = build->rows8.at;
    size_t bytes = build->coded * code_row_size(build->space.code_dim);
    for (size_t at = 0; at < bytes; at += EMIT_BYTES) {
        TRY(work_check(&build->limits, err));
        TRY(emit(context, rows8 + at, min_size(bytes - at, EMIT_BYTES), err));
    }
    vector_release(build->options.budget, &build->rows8);
    return OCH_OK;
}

och_code vector_build_code8(struct vector_build *build,
                            och_code (*emit)(void *context, const void *at, size_t len,
                                             och_error *err),
                            void *context, och_error *err)
{
    struct budget *budget = build->options.budget;
    size_t size = code_row_size(build->space.code_dim);
    uint32_t room = (uint32_t)(EMIT_BYTES / size / EMIT_STEP + 1) * EMIT_STEP;
    struct vector_memory rows8 = {0};
    if (build->rows8.at)
        return emit_made(build, emit, context, err);
    TRY(vector_alloc(budget, room, size, "codes", &rows8, err));
    struct emission e = {.build = build, .rows8 = rows8.at};
    och_code code = OCH_OK;
    for (; code == OCH_OK && e.at < build->coded; e.at += e.count) {
        e.count = build->coded - e.at < room ? build->coded - e.at : room;
        struct vector_job job = {.build = build,
                                 .pool = build->options.pool,
                                 .limits = &build->limits,
                                 .context = &e,
                                 .state_size = sizeof(struct vector_memory),
                                 .begin = emit_begin,
                                 .run = emit_step,
                                 .end = emit_end,
                                 .items = (e.count + EMIT_STEP - 1) / EMIT_STEP};
        code = vector_for(&job, err);
        if (code == OCH_OK)
            code = emit(context, rows8.at, e.count * size, err);
    }
    vector_release(budget, &rows8);
    return code;
}
