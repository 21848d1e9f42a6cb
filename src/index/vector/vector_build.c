/* SPDX-License-Identifier: Apache-2.0 */
/* Building an index: a look at all rows, training, then list by list the codes.  Memory: centroids, 8 bytes a row, the 1-bit codes, and what
 * training may hold; 8-bit codes are made again when they are written. */
#include "index/vector/vector_internal.h"

#include <math.h>

#define CHUNK_BYTES (8u << 20) /* rotated rows of one list held at once */
#define CHUNK_ROWS  2048
#define MEAN_ROWS   65536 /* sampled for the mean */

bool vector_wanted(uint64_t vectors, uint32_t dimension)
{
    return dimension && dimension < CODE_DIM_MAX && vectors >= VECTOR_CODES_MIN &&
           vectors < LIST_OUTSIDE;
}

/* ---- a look at all rows ---- */

static och_code survey(struct vector_build *build, och_error *err)
{
    uint32_t *list_of = build->list_of.at;
    for (uint32_t i = 0; i < build->rows.count; i++) {
        const float *x;
        float norm2;
        if (i % 1024 == 0)
            TRY(work_check(&build->limits, err));
        TRY(vector_fetch(build, i, &x, err));
        if (!x) {
            list_of[i] = LIST_NONE;
        } else if (vector_norm2(&build->space, x, &norm2)) {
            list_of[i] = 0;
            build->coded++;
            if (build->space.metric == METRIC_IP && norm2 > build->space.big2)
                build->space.big2 = norm2;
        } else {
            list_of[i] = LIST_OUTSIDE;
            build->outside++;
        }
    }
    return OCH_OK;
}

static och_code find_mean(struct vector_build *build, och_error *err)
{
    struct budget *budget = build->options.budget;
    uint32_t wide = build->space.wide, taken = 0, seen = 0;
    uint32_t want = build->coded < MEAN_ROWS ? build->coded : MEAN_ROWS;
    const uint32_t *list_of = build->list_of.at;
    struct vector_memory sum = {0}, row = {0};
    och_code code = vector_alloc(budget, wide, 8, "a mean", &sum, err);
    if (code == OCH_OK)
        code = vector_alloc(budget, wide, 4, "a mean", &row, err);
    double *sums = sum.at;
    float *out = row.at;
    for (uint32_t i = 0; code == OCH_OK && i < build->rows.count && taken < want; i++) {
        if (list_of[i] >= LIST_OUTSIDE)
            continue;
        if ((uint64_t)seen++ * want / build->coded < taken)
            continue;
        const float *x;
        float norm2, shift;
        code = vector_fetch(build, i, &x, err);
        if (code != OCH_OK || !x)
            break;
        (void)vector_norm2(&build->space, x, &norm2);
        vector_row(&build->space, x, norm2, out, wide, &shift); /* the mean is still 0 */
        for (uint32_t j = 0; j < wide; j++)
            sums[j] += (double)out[j];
        taken++;
    }
    float *mean = build->mean.at;
    for (uint32_t j = 0; code == OCH_OK && j < wide && taken; j++)
        mean[j] = (float)(sums[j] / taken);
    vector_release(budget, &sum);
    vector_release(budget, &row);
    return code;
}

/* ---- rows in list order ---- */

struct list_place {
    uint32_t row_start, rows;
    uint64_t block_start;
};

static och_code make_order(struct vector_build *build, struct vector_memory *ret_places,
                           uint64_t *ret_blocks, och_error *err)
{
    struct budget *budget = build->options.budget;
    uint32_t n = build->rows.count, lists = build->lists;
    const uint32_t *list_of = build->list_of.at;
    TRY(vector_alloc(budget, (uint64_t)lists, sizeof(struct list_place), "lists", ret_places, err));
    TRY(vector_alloc(budget, n, 4, "row order", &build->order, err));
    struct list_place *places = ret_places->at;
    for (uint32_t i = 0; i < n; i++)
        if (list_of[i] < LIST_OUTSIDE)
            places[list_of[i]].rows++;
    uint64_t blocks = 0;
    uint32_t row = 0;
    for (uint32_t j = 0; j < lists; j++) {
        places[j].row_start = row;
        places[j].block_start = blocks;
        row += places[j].rows;
        blocks += (places[j].rows + CODE_BLOCK_ROWS - 1) / CODE_BLOCK_ROWS;
        places[j].rows = 0;
    }
    uint32_t outside = row, none = row + build->outside, *order = build->order.at;
    for (uint32_t i = 0; i < n; i++) {
        if (list_of[i] == LIST_NONE) {
            order[none++] = i;
        } else if (list_of[i] == LIST_OUTSIDE) {
            order[outside++] = i;
        } else {
            struct list_place *place = &places[list_of[i]];
            order[place->row_start + place->rows++] = i;
        }
    }
    for (uint32_t i = 0; i < n && !build->permuted; i++)
        build->permuted = order[i] != i;
    if (blocks > UINT32_MAX)
        return FAIL(err, OCH_TOO_LARGE, "a vector index of %u rows", n);
    *ret_blocks = blocks;
    return OCH_OK;
}

/* ---- codes ---- */

struct encoder {
    struct vector_build *build;
    struct vector_calibration calibration;
    const struct list_place *places;
    struct vector_memory rows;   /* room x code_dim, rotated */
    struct vector_memory shifts; /* f32 */
    struct vector_memory rows8;  /* room 8-bit rows */
    struct vector_memory centroid, sums, cent8;
    uint32_t room;
    double kappa, norm2; /* sums over all rows */
};

/* Rows [first, first + count) of the order, rotated; shifts may be NULL. */
static och_code rotate_rows(struct vector_build *build, uint32_t first, uint32_t count, float *out,
                            float *shifts, och_error *err)
{
    const struct kernel_code *kernel = kernel_code_get();
    const uint32_t *order = build->order.at;
    uint32_t dim = build->space.code_dim;
    for (uint32_t i = 0; i < count; i++) {
        const float *x;
        float norm2;
        if (i % 256 == 0)
            TRY(work_check(&build->limits, err));
        TRY(vector_fetch(build, order[first + i], &x, err));
        if (!x)
            return FAIL(err, OCH_INTERNAL, "a row lost its vector while its part was built");
        (void)vector_norm2(&build->space, x, &norm2);
        vector_row(&build->space, x, norm2, out + (size_t)i * dim, dim, &shifts[i]);
        kernel->rotate_f32(out + (size_t)i * dim, dim, build->space.seed);
    }
    return OCH_OK;
}

static void quantise_rows(const struct vector_build *build, const float *rows, const float *shifts,
                          uint32_t count, uint8_t *out)
{
    const struct kernel_code *kernel = kernel_code_get();
    uint32_t dim = build->space.code_dim;
    for (uint32_t i = 0; i < count; i++) {
        uint8_t *row = out + (size_t)i * code_row_size(dim);
        kernel->quant8(rows + (size_t)i * dim, dim, row);
        if (shifts[i] != 0) {
            float norm2 = code_row_norm2(row, dim) + shifts[i];
            memcpy(row + dim + 4, &norm2, sizeof(norm2));
        }
    }
}

static void add_rows(const float *rows, uint32_t count, uint32_t dim, double *sums)
{
    for (uint32_t i = 0; i < count; i++)
        for (uint32_t j = 0; j < dim; j++)
            sums[j] += (double)rows[(size_t)i * dim + j];
}

static och_code find_centroid(struct encoder *e, const struct list_place *place, och_error *err)
{
    uint32_t dim = e->build->space.code_dim;
    double *sums = e->sums.at;
    float *centroid = e->centroid.at;
    memset(sums, 0, dim * sizeof(double));
    for (uint32_t at = 0; at < place->rows; at += e->room) {
        uint32_t count = place->rows - at < e->room ? place->rows - at : e->room;
        TRY(rotate_rows(e->build, place->row_start + at, count, e->rows.at, e->shifts.at, err));
        add_rows(e->rows.at, count, dim, sums);
    }
    for (uint32_t j = 0; j < dim; j++)
        centroid[j] = (float)(sums[j] / place->rows);
    return OCH_OK;
}

/* The 1-bit side of rows at hand; at: the first one's number in the list. */
static double sign_rows(struct encoder *e, const struct list_place *place, uint32_t at,
                        uint32_t count)
{
    const struct kernel_code *kernel = kernel_code_get();
    uint32_t dim = e->build->space.code_dim;
    const float *rows = e->rows.at, *centroid = e->centroid.at, *shifts = e->shifts.at;
    uint8_t *code = e->build->code.at;
    double spread = 0;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t v = at + i;
        uint8_t *block = code + (place->block_start + v / CODE_BLOCK_ROWS) * code_block_size(dim);
        if (v % CODE_BLOCK_ROWS == 0)
            code_block_clear(block, dim);
        const float *y = rows + (size_t)i * dim;
        struct code_sums sums;
        float a, b;
        kernel->sign_encode(y, centroid, dim, block, v % CODE_BLOCK_ROWS, &sums);
        code_factors_of(&sums, &a, &b);
        code_factors_set(block, dim, v % CODE_BLOCK_ROWS, a + shifts[i], b);
        spread += (double)sums.norm2;
        if (sums.norm2 > 0) {
            double share = (double)sums.norm1 * (double)sums.norm1 / ((double)sums.norm2 * dim);
            e->kappa += share < 1 ? sqrt(1 - share) : 0;
        }
        e->norm2 += (double)code_row_norm2((uint8_t *)e->rows8.at + i * code_row_size(dim), dim) -
                    (double)shifts[i];
    }
    return spread;
}

static och_code encode_list(struct encoder *e, uint32_t list, och_error *err)
{
    struct vector_build *build = e->build;
    const struct list_place *place = &e->places[list];
    const uint32_t *order = build->order.at;
    uint32_t dim = build->space.code_dim;
    double spread = 0;
    assert(place->rows);
    TRY(find_centroid(e, place, err));
    for (uint32_t at = 0; at < place->rows; at += e->room) {
        uint32_t count = place->rows - at < e->room ? place->rows - at : e->room;
        if (place->rows > e->room) /* else they are still there */
            TRY(rotate_rows(build, place->row_start + at, count, e->rows.at, e->shifts.at, err));
        quantise_rows(build, e->rows.at, e->shifts.at, count, e->rows8.at);
        spread += sign_rows(e, place, at, count);
        const uint8_t *blocks = (const uint8_t *)build->code.at +
                                (place->block_start + at / CODE_BLOCK_ROWS) * code_block_size(dim);
        if (build->lists > 1)
            vector_calibration_rows(&e->calibration, list, e->centroid.at, blocks, e->rows8.at,
                                    order + place->row_start + at, count);
    }
    uint8_t *entry = (uint8_t *)build->list.at + (size_t)list * VECTOR_LIST_SIZE;
    float rms2 = (float)(spread / place->rows);
    store_u32(entry, place->row_start);
    store_u32(entry + 4, place->rows);
    store_u32(entry + 8, (uint32_t)place->block_start);
    memcpy(entry + 12, &rms2, 4);
    kernel_code_get()->quant8(e->centroid.at, dim,
                              (uint8_t *)e->cent8.at + (size_t)list * code_row_size(dim));
    return OCH_OK;
}

static void store_float(uint8_t *at, float value)
{
    memcpy(at, &value, sizeof(value));
}

static och_code write_mean(struct vector_build *build, uint64_t blocks, float kappa,
                           const struct vector_calibrated *calibrated, och_error *err)
{
    uint32_t wide = build->space.wide;
    TRY(vector_alloc(build->options.budget, VECTOR_HEADER_SIZE + 4 * (uint64_t)wide, 1, "a mean",
                     &build->mean_section, err));
    uint8_t *at = build->mean_section.at;
    store_u32(at, VECTOR_MAGIC);
    store_u16(at + 4, VECTOR_MAJOR);
    store_u32(at + 8, build->space.dim);
    store_u32(at + 12, build->space.code_dim);
    store_u32(at + 16, (uint32_t)build->space.metric);
    store_u64(at + 24, build->space.seed);
    store_u32(at + 32, build->coded);
    store_u32(at + 36, build->outside);
    store_u32(at + 40, build->lists);
    store_u32(at + 44, (uint32_t)blocks);
    store_float(at + 48, build->space.big2);
    store_float(at + 52, calibrated->gamma);
    store_float(at + 56, kappa);
    store_float(at + 60, build->rms);
    for (unsigned k = 0; k < VECTOR_KS; k++)
        for (unsigned t = 0; t < VECTOR_TARGETS; t++)
            store_u32(at + VECTOR_BUDGETS_AT + 4 * (k * VECTOR_TARGETS + t),
                      calibrated->budgets[k][t]);
    for (unsigned t = 0; t < VECTOR_TARGETS; t++)
        store_float(at + VECTOR_REACH_AT + 4 * t, calibrated->reach[t]);
    memcpy(at + VECTOR_HEADER_SIZE, build->mean.at, 4 * (size_t)wide);
    return OCH_OK;
}

static och_code encoder_init(struct encoder *e, uint64_t blocks, och_error *err)
{
    struct vector_build *build = e->build;
    struct budget *budget = build->options.budget;
    uint32_t dim = build->space.code_dim, lists = build->lists;
    size_t room = min_size(CHUNK_ROWS, CHUNK_BYTES / (4 * (size_t)dim)) / 32 * 32;
    e->room = (uint32_t)max_size(room, 32);
    TRY(vector_alloc(budget, e->room, 4 * (size_t)dim, "vectors", &e->rows, err));
    TRY(vector_alloc(budget, e->room, 4, "vectors", &e->shifts, err));
    TRY(vector_alloc(budget, e->room, code_row_size(dim), "vectors", &e->rows8, err));
    TRY(vector_alloc(budget, dim, 4, "centroids", &e->centroid, err));
    TRY(vector_alloc(budget, dim, 8, "centroids", &e->sums, err));
    TRY(vector_alloc(budget, lists, code_row_size(dim), "centroids", &e->cent8, err));
    TRY(vector_alloc(budget, (uint64_t)lists * VECTOR_LIST_SIZE, 1, "lists", &build->list, err));
    TRY(vector_alloc(budget, (lists + CODE_LISTS - 1) / CODE_LISTS, code_coarse_size(dim),
                     "centroids", &build->centq, err));
    TRY(vector_alloc(budget, blocks, code_block_size(dim), "codes", &build->code, err));
    return lists > 1 ? vector_calibration_init(&e->calibration, build, err) : OCH_OK;
}

static och_code encode_all(struct encoder *e, uint64_t blocks, och_error *err)
{
    struct vector_build *build = e->build;
    struct vector_calibrated calibrated = {0};
    TRY(encoder_init(e, blocks, err));
    for (uint32_t list = 0; list < build->lists; list++)
        TRY(encode_list(e, list, err));
    code_pack_coarse(e->cent8.at, build->lists, build->space.code_dim, build->centq.at);
    build->rms = (float)sqrt(e->norm2 > 0 ? e->norm2 / build->coded : 0);
    for (unsigned k = 0; k < VECTOR_KS; k++)
        for (unsigned t = 0; t < VECTOR_TARGETS; t++)
            calibrated.budgets[k][t] = 1;
    if (build->lists > 1)
        TRY(vector_calibration_finish(&e->calibration, &calibrated, err));
    return write_mean(build, blocks, (float)(e->kappa / build->coded), &calibrated, err);
}

och_code vector_encode(struct vector_build *build, och_error *err)
{
    struct encoder e = {.build = build};
    struct budget *budget = build->options.budget;
    struct vector_memory places = {0};
    uint64_t blocks = 0;
    och_code code = make_order(build, &places, &blocks, err);
    e.places = places.at;
    vector_release(budget, &build->list_of);
    if (code == OCH_OK)
        code = encode_all(&e, blocks, err);
    vector_calibration_done(&e.calibration);
    struct vector_memory *const all[] = {&e.rows, &e.shifts, &e.rows8, &e.centroid,
                                         &e.sums, &e.cent8,  &places};
    for (size_t i = 0; i < COUNT_OF(all); i++)
        vector_release(budget, all[i]);
    return code;
}

/* ---- the whole ---- */

static och_code build_all(struct vector_build *build, och_error *err)
{
    struct budget *budget = build->options.budget;
    uint32_t flat = build->options.flat_rows ? build->options.flat_rows : VECTOR_FLAT_ROWS;
    TRY(vector_alloc(budget, build->space.wide, 4, "a mean", &build->mean, err));
    build->space.mean = build->mean.at;
    TRY(vector_alloc(budget, build->rows.count, 4, "lists", &build->list_of, err));
    TRY(survey(build, err));
    if (!build->coded)
        return OCH_OK;
    TRY(find_mean(build, err));
    build->lists = 1;
    if (build->coded > flat) {
        TRY(vector_train(build, err));
        TRY(vector_split(build, err));
    }
    return vector_encode(build, err);
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
    if (options->limits)
        build->limits = *options->limits;
    build->space = (struct vector_space){.metric = options->metric,
                                         .dim = options->dimension,
                                         .wide = vector_wide(options->metric, options->dimension),
                                         .seed = VECTOR_SEED};
    build->space.code_dim = vector_code_dim(build->space.wide);
    och_code code = build_all(build, err);
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
                                         &build->order, &build->list,         &build->centq,
                                         &build->code};
    for (size_t i = 0; i < COUNT_OF(all); i++)
        vector_release(build->options.budget, all[i]);
    mem_free(build);
}

const uint32_t *vector_build_order(const struct vector_build *build)
{
    return build->permuted ? build->order.at : NULL;
}

struct vector_built vector_build_result(const struct vector_build *build)
{
    uint32_t dim = build->space.code_dim, lists = build->lists;
    struct vector_built ret = {.coded = build->coded, .lists = lists};
    if (!build->coded)
        return ret;
    /* each was taken with room for one more unit */
    uint64_t blocks = load_u32((const uint8_t *)build->mean_section.at + 44);
    ret.mean =
        slice_make(build->mean_section.at, VECTOR_HEADER_SIZE + 4 * (size_t)build->space.wide);
    ret.list = slice_make(build->list.at, (size_t)lists * VECTOR_LIST_SIZE);
    ret.centq =
        slice_make(build->centq.at, (lists + CODE_LISTS - 1) / CODE_LISTS * code_coarse_size(dim));
    ret.code = slice_make(build->code.at, (size_t)blocks * code_block_size(dim));
    ret.code8_bytes = (uint64_t)build->coded * code_row_size(dim);
    ret.lists_098 = build->lists_098;
    ret.rms = build->rms;
    return ret;
}

och_code vector_build_code8(struct vector_build *build,
                            och_code (*emit)(void *context, const void *at, size_t len,
                                             och_error *err),
                            void *context, och_error *err)
{
    enum { ROOM = 64 };
    struct budget *budget = build->options.budget;
    uint32_t dim = build->space.code_dim;
    struct vector_memory rows = {0}, rows8 = {0};
    float shifts[ROOM];
    och_code code = vector_alloc(budget, ROOM, 4 * (size_t)dim, "vectors", &rows, err);
    if (code == OCH_OK)
        code = vector_alloc(budget, ROOM, code_row_size(dim), "vectors", &rows8, err);
    for (uint32_t at = 0; code == OCH_OK && at < build->coded; at += ROOM) {
        uint32_t count = build->coded - at < ROOM ? build->coded - at : ROOM;
        code = rotate_rows(build, at, count, rows.at, shifts, err);
        if (code != OCH_OK)
            break;
        quantise_rows(build, rows.at, shifts, count, rows8.at);
        code = emit(context, rows8.at, count * code_row_size(dim), err);
    }
    vector_release(budget, &rows);
    vector_release(budget, &rows8);
    return code;
}
