/* SPDX-License-Identifier: Apache-2.0 */
/* From lists to codes, wave by wave: the 8-bit codes of some lists in memory, from these the centroids and the 1-bit side, then the
 * calibration's queries look at them.  8-bit codes are made or taken over; everything else follows from them, so a merge that copies them
 * ends with what a build of the same lists would have made. */
#include "index/vector/vector_internal.h"

#include <math.h>

#define WAVE_BYTES (16u << 20) /* 8-bit codes held at once */
#define PIECE_ROWS 2048        /* of one list, encoded at once; whole blocks */
#define SUM_BYTES  (4u << 20)  /* sums of the pieces of a wave */

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
    if (!build->order.at)
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
    build->permuted = false;
    for (uint32_t i = 0; i < n && !build->permuted; i++)
        build->permuted = order[i] != i;
    if (blocks > UINT32_MAX)
        return FAIL(err, OCH_TOO_LARGE, "a vector index of %u rows", n);
    *ret_blocks = blocks;
    return OCH_OK;
}

/* ---- a wave ---- */

struct piece {               /* rows of one list, whole blocks but for the list's last */
    uint32_t list, at, rows; /* at: the first one's number in the list */
    uint32_t slot;           /* of its first row in the wave's buffer */
    double spread, kappa, norm2;
};

struct encoder {
    struct vector_build *build;
    struct vector_calibration calibration;
    const struct list_place *places;
    struct vector_memory rows8;     /* of the wave */
    struct vector_memory pieces;    /* struct piece */
    struct vector_memory sums;      /* f64[code_dim], by piece */
    struct vector_memory centroids; /* f32[code_dim], by piece: that of its list */
    struct vector_memory cent8;     /* of all lists */
    uint32_t room, pieces_max, piece_count, row_count;
    bool whole;                  /* one wave held all rows */
    double kappa, norm2, spread; /* spread: of the list being summed up */
};

static const struct list_place *place_of(const struct encoder *e, const struct piece *piece)
{
    return &e->places[piece->list];
}

static uint8_t *rows8_of(const struct encoder *e, const struct piece *piece)
{
    return (uint8_t *)e->rows8.at + piece->slot * code_row_size(e->build->space.code_dim);
}

static float *centroid_of(const struct encoder *e, uint32_t piece)
{
    return (float *)e->centroids.at + (size_t)piece * e->build->space.code_dim;
}

static och_code scratch_begin(void *context, void *state, och_error *err)
{
    const struct encoder *e = context;
    uint64_t floats = e->build->space.code_dim; /* a vector, or the pieces' distances */
    return vector_alloc(e->build->options.budget, floats > e->pieces_max ? floats : e->pieces_max,
                        4, "a vector", state, err);
}

static void scratch_end(void *context, void *state)
{
    const struct encoder *e = context;
    vector_release(e->build->options.budget, state);
}

/* The 8-bit rows of a piece and the sum of what they stand for. */
static och_code code_piece(void *context, void *reader, void *state, uint32_t item, och_error *err)
{
    struct encoder *e = context;
    struct vector_build *build = e->build;
    const struct piece *piece = (const struct piece *)e->pieces.at + item;
    uint32_t dim = build->space.code_dim;
    const uint32_t *order = (const uint32_t *)build->order.at + place_of(e, piece)->row_start;
    double *sums = (double *)e->sums.at + (size_t)item * dim;
    float *y = ((struct vector_memory *)state)->at;
    uint8_t *rows8 = rows8_of(e, piece);
    memset(sums, 0, dim * sizeof(double));
    for (uint32_t i = 0; i < piece->rows; i++) {
        uint8_t *row8 = rows8 + i * code_row_size(dim);
        if (i % 256 == 0)
            TRY(work_check(&build->limits, err));
        TRY(vector_read_code8(build, reader, order[piece->at + i], y, row8, err));
        kernel_code_get()->decode8(row8, NULL, dim, y);
        for (uint32_t j = 0; j < dim; j++)
            sums[j] += (double)y[j];
    }
    return OCH_OK;
}

/* The 1-bit side of a piece. */
static och_code sign_piece(void *context, void *reader, void *state, uint32_t item, och_error *err)
{
    struct encoder *e = context;
    const struct kernel_code *kernel = kernel_code_get();
    struct piece *piece = (struct piece *)e->pieces.at + item;
    size_t dim = e->build->space.code_dim;
    const float *centroid = centroid_of(e, item);
    const uint8_t *rows8 = rows8_of(e, piece);
    float *y = ((struct vector_memory *)state)->at;
    uint8_t *blocks =
        (uint8_t *)e->build->code.at + place_of(e, piece)->block_start * code_block_size(dim);
    (void)reader;
    (void)err;
    piece->spread = piece->kappa = piece->norm2 = 0;
    for (uint32_t i = 0; i < piece->rows; i++) {
        uint32_t v = piece->at + i;
        const uint8_t *row8 = rows8 + i * code_row_size(dim);
        uint8_t *block = blocks + v / CODE_BLOCK_ROWS * code_block_size(dim);
        if (v % CODE_BLOCK_ROWS == 0)
            code_block_clear(block, dim);
        struct code_sums sums;
        float a, b;
        kernel->decode8(row8, NULL, dim, y);
        kernel->sign_encode(y, centroid, dim, block, v % CODE_BLOCK_ROWS, &sums);
        code_factors_of(&sums, &a, &b);
        /* what rounding took from the row's length, and its shift (docs/formats/vector.md) */
        float norm2 = kernel_get()->dot_f32(y, y, dim);
        code_factors_set(block, dim, v % CODE_BLOCK_ROWS, a + (code_row_norm2(row8, dim) - norm2),
                         b);
        piece->spread += (double)sums.norm2;
        piece->norm2 += (double)norm2;
        if (sums.norm2 > 0) {
            double share =
                (double)sums.norm1 * (double)sums.norm1 / ((double)sums.norm2 * (double)dim);
            piece->kappa += share < 1 ? sqrt(1 - share) : 0;
        }
    }
    return OCH_OK;
}

/* The nearest lists of the wave first: behind them the threshold is about as tight as it will be. */
#define ASKED_FIRST 8

static void ask_piece(struct encoder *e, uint32_t query, uint32_t p, float delta)
{
    struct vector_build *build = e->build;
    const struct piece *piece = (const struct piece *)e->pieces.at + p;
    const struct list_place *place = place_of(e, piece);
    uint64_t block = place->block_start + piece->at / CODE_BLOCK_ROWS;
    if (vector_calibration_passes_by(&e->calibration, query, delta,
                                     (float)(piece->spread / piece->rows)))
        return;
    vector_calibration_rows(
        &e->calibration, query, piece->list, delta, block,
        (const uint8_t *)build->code.at + block * code_block_size(build->space.code_dim),
        rows8_of(e, piece), (const uint32_t *)build->order.at + place->row_start + piece->at,
        piece->rows);
}

/* A query looks at the wave. */
static och_code ask_wave(void *context, void *reader, void *state, uint32_t query, och_error *err)
{
    struct encoder *e = context;
    float *deltas = ((struct vector_memory *)state)->at, best[ASKED_FIRST];
    uint32_t first[ASKED_FIRST], count = 0;
    (void)reader;
    (void)err;
    for (uint32_t p = 0; p < e->piece_count; p++) {
        float delta = vector_calibration_delta(&e->calibration, query, centroid_of(e, p));
        deltas[p] = delta;
        if (count == ASKED_FIRST && !(delta < best[count - 1]))
            continue;
        uint32_t at = count < ASKED_FIRST ? count++ : count - 1;
        for (; at > 0 && delta < best[at - 1]; at--) {
            best[at] = best[at - 1];
            first[at] = first[at - 1];
        }
        best[at] = delta;
        first[at] = p;
    }
    for (uint32_t i = 0; i < count; i++) {
        ask_piece(e, query, first[i], deltas[first[i]]);
        deltas[first[i]] = -1; /* done */
    }
    for (uint32_t p = 0; p < e->piece_count; p++)
        if (!(deltas[p] < 0))
            ask_piece(e, query, p, deltas[p]);
    return OCH_OK;
}

static och_code over_wave(struct encoder *e,
                          och_code (*run)(void *context, void *reader, void *state, uint32_t item,
                                          och_error *err),
                          uint32_t items, och_error *err)
{
    struct vector_job job = {.build = run == code_piece ? e->build : NULL,
                             .pool = e->build->options.pool,
                             .limits = &e->build->limits,
                             .context = e,
                             .state_size = sizeof(struct vector_memory),
                             .begin = scratch_begin,
                             .run = run,
                             .end = scratch_end,
                             .items = items};
    return vector_for(&job, err);
}

static void write_list(struct encoder *e, uint32_t list, const float *centroid, double spread)
{
    const struct list_place *place = &e->places[list];
    size_t dim = e->build->space.code_dim;
    uint8_t *entry = (uint8_t *)e->build->list.at + (size_t)list * VECTOR_LIST_SIZE;
    float rms2 = (float)(spread / place->rows);
    store_u32(entry, place->row_start);
    store_u32(entry + 4, place->rows);
    store_u32(entry + 8, (uint32_t)place->block_start);
    memcpy(entry + 12, &rms2, 4);
    kernel_code_get()->quant8(centroid, dim, (uint8_t *)e->cent8.at + list * code_row_size(dim));
}

/* Centroids of lists that lie in the wave whole. */
static void find_centroids(struct encoder *e)
{
    const struct piece *pieces = e->pieces.at;
    size_t dim = e->build->space.code_dim;
    for (uint32_t p = 0, end; p < e->piece_count; p = end) {
        double *sums = (double *)e->sums.at + p * dim;
        for (end = p + 1; end < e->piece_count && pieces[end].list == pieces[p].list; end++)
            for (size_t j = 0; j < dim; j++)
                sums[j] += ((const double *)e->sums.at)[end * dim + j];
        float *centroid = centroid_of(e, p);
        for (size_t j = 0; j < dim; j++)
            centroid[j] = (float)(sums[j] / place_of(e, &pieces[p])->rows);
        for (uint32_t other = p + 1; other < end; other++)
            memcpy(centroid_of(e, other), centroid, dim * sizeof(float));
    }
}

/* 1-bit side and calibration of the wave; LIST entries of lists that end in it. */
static och_code finish_wave(struct encoder *e, och_error *err)
{
    const struct piece *pieces = e->pieces.at;
    TRY(over_wave(e, sign_piece, e->piece_count, err));
    for (uint32_t p = 0; p < e->piece_count; p++) {
        e->kappa += pieces[p].kappa;
        e->norm2 += pieces[p].norm2;
        e->spread += pieces[p].spread;
        if (pieces[p].at + pieces[p].rows < place_of(e, &pieces[p])->rows)
            continue;
        write_list(e, pieces[p].list, centroid_of(e, p), e->spread);
        e->spread = 0;
    }
    if (e->build->lists > 1)
        TRY(over_wave(e, ask_wave, e->calibration.queries, err));
    e->piece_count = e->row_count = 0;
    return OCH_OK;
}

static och_code run_wave(struct encoder *e, och_error *err)
{
    if (!e->piece_count)
        return OCH_OK;
    TRY(over_wave(e, code_piece, e->piece_count, err));
    find_centroids(e);
    e->whole = e->row_count == e->build->coded;
    return finish_wave(e, err);
}

/* Pieces of a list from row `at` on, as long as there is room; returns where it stopped. */
static uint32_t add_pieces(struct encoder *e, uint32_t list, uint32_t at)
{
    uint32_t rows = e->places[list].rows;
    while (at < rows && e->piece_count < e->pieces_max) {
        uint32_t count = rows - at < PIECE_ROWS ? rows - at : PIECE_ROWS;
        if (count > e->room - e->row_count)
            count = (e->room - e->row_count) / CODE_BLOCK_ROWS * CODE_BLOCK_ROWS;
        if (!count)
            break;
        ((struct piece *)e->pieces.at)[e->piece_count++] =
            (struct piece){.list = list, .at = at, .rows = count, .slot = e->row_count};
        e->row_count += count;
        at += count;
    }
    return at;
}

/* A list that no wave holds: once for its centroid, once for the rest. */
static och_code encode_giant(struct encoder *e, uint32_t list, och_error *err)
{
    size_t dim = e->build->space.code_dim;
    uint32_t rows = e->places[list].rows;
    struct vector_memory total = {0}, mean = {0};
    och_code code = vector_alloc(e->build->options.budget, dim, 8, "centroids", &total, err);
    if (code == OCH_OK)
        code = vector_alloc(e->build->options.budget, dim, 4, "centroids", &mean, err);
    double *sums = total.at;
    float *centroid = mean.at;
    for (uint32_t at = 0; code == OCH_OK && at < rows;) {
        at = add_pieces(e, list, at);
        code = over_wave(e, code_piece, e->piece_count, err);
        for (uint32_t p = 0; code == OCH_OK && p < e->piece_count; p++)
            for (size_t j = 0; j < dim; j++)
                sums[j] += ((const double *)e->sums.at)[p * dim + j];
        e->piece_count = e->row_count = 0;
    }
    for (size_t j = 0; code == OCH_OK && j < dim; j++)
        centroid[j] = (float)(sums[j] / rows);
    for (uint32_t at = 0; code == OCH_OK && at < rows;) {
        at = add_pieces(e, list, at);
        code = over_wave(e, code_piece, e->piece_count, err);
        for (uint32_t p = 0; p < e->piece_count; p++)
            memcpy(centroid_of(e, p), centroid, dim * sizeof(float));
        if (code == OCH_OK)
            code = finish_wave(e, err);
    }
    vector_release(e->build->options.budget, &total);
    vector_release(e->build->options.budget, &mean);
    return code;
}

static och_code encode_lists(struct encoder *e, och_error *err)
{
    for (uint32_t list = 0; list < e->build->lists; list++) {
        uint32_t rows = e->places[list].rows, pieces = (rows + PIECE_ROWS - 1) / PIECE_ROWS;
        assert(rows);
        if (rows > e->room - e->row_count || pieces > e->pieces_max - e->piece_count)
            TRY(run_wave(e, err));
        if (rows > e->room || pieces > e->pieces_max)
            TRY(encode_giant(e, list, err));
        else
            (void)add_pieces(e, list, 0);
    }
    return run_wave(e, err);
}

/* ---- the small sections ---- */

static void store_float(uint8_t *at, float value)
{
    memcpy(at, &value, sizeof(value));
}

static void store_placed(uint8_t *at, float reach)
{
    float whole = reach * VECTOR_PLACED_UNIT;
    whole = whole < -INT16_MAX ? -INT16_MAX : whole < INT16_MAX ? whole : INT16_MAX;
    store_u16(at, (uint16_t)(int16_t)lrintf(whole));
}

/* The file has reach by place for 10 and 50: the latter on the line from 10 to 100. */
static void write_placed(uint8_t *at, const struct vector_calibrated *calibrated)
{
    const float *few = calibrated->placed[1], *many = calibrated->placed[2];
    for (unsigned t = 0; t < VECTOR_TARGETS; t++) {
        store_placed(at + VECTOR_PLACED_AT + 2 * t, few[t]);
        store_placed(at + VECTOR_PLACED_AT + 2 * (VECTOR_TARGETS + t),
                     few[t] + log10f(5) * (many[t] - few[t]));
    }
    store_placed(at + VECTOR_NEARER_AT, calibrated->nearer);
}

static och_code write_mean(struct vector_build *build, uint64_t blocks, float kappa,
                           const struct vector_calibrated *calibrated, och_error *err)
{
    uint32_t wide = build->space.wide;
    if (!build->mean_section.at)
        TRY(vector_alloc(build->options.budget, VECTOR_HEADER_SIZE + 4 * (uint64_t)wide, 1,
                         "a mean", &build->mean_section, err));
    uint8_t *at = build->mean_section.at, *trained = at + VECTOR_TRAINED_AT;
    store_u32(at, VECTOR_MAGIC);
    store_u16(at + 4, VECTOR_MAJOR);
    store_u32(at + 8, build->space.dim);
    store_u32(at + 12, build->space.code_dim);
    store_u32(at + 16, (uint32_t)build->space.metric);
    store_float(at + VECTOR_FAR_AT, calibrated->far);
    store_u64(at + 24, build->space.seed);
    store_u32(at + 32, build->coded);
    store_u32(at + 36, build->outside);
    store_u32(at + 40, build->lists);
    store_u32(at + 44, (uint32_t)blocks);
    store_float(at + 48, build->space.big2);
    store_float(at + 52, calibrated->gamma);
    store_float(at + 56, kappa);
    store_float(at + 60, build->rms);
    store_float(at + VECTOR_FALL_AT, calibrated->fall);
    store_u32(trained, build->trained.rows);
    store_u32(trained + 4, build->trained.lists);
    store_u32(trained + 8, build->trained.lists_098);
    store_float(trained + 12, build->trained.rms);
    store_float(trained + 16, build->trained.imbalance);
    store_u32(trained + 20, build->lists_098);
    store_u32(trained + 24, build->super.at ? build->cells : 0);
    store_u32(trained + 28, build->super.at ? calibrated->super_cells : 0);
    for (unsigned k = 0; k < VECTOR_KS; k++)
        for (unsigned t = 0; t < VECTOR_TARGETS; t++) {
            unsigned place = 4 * (k * VECTOR_TARGETS + t);
            store_u32(at + VECTOR_BUDGETS_AT + place, calibrated->budgets[k][t]);
            store_float(at + VECTOR_REACH_AT + place, calibrated->reach[k][t]);
        }
    write_placed(at, calibrated);
    for (unsigned k = 0; k < VECTOR_KS; k++)
        for (unsigned t = 0; t < VECTOR_PROBES; t++)
            store_float(at + VECTOR_PROBE_AT + 4 * (k * VECTOR_PROBES + t),
                        calibrated->probe[k][t]);
    memcpy(at + VECTOR_HEADER_SIZE, build->mean.at, 4 * (size_t)wide);
    return OCH_OK;
}

/* Means of the cells' rows as coarse blocks, then where their lists begin.  Cells that lost all lists are left out. */
static och_code write_super(struct encoder *e, och_error *err)
{
    struct vector_build *build = e->build;
    struct budget *budget = build->options.budget;
    size_t dim = build->space.code_dim;
    uint32_t *first = build->cell_first.at, cells = 0;
    vector_release(budget, &build->super);
    if (build->lists < 2 || !first)
        return OCH_OK;
    for (uint32_t c = 0; c < build->cells; c++)
        if (first[c] < first[c + 1])
            first[cells++] = first[c];
    first[cells] = build->lists;
    build->cells = cells;
    uint64_t blocks = (cells + CODE_LISTS - 1) / CODE_LISTS;
    struct vector_memory rows8 = {0}, mean = {0}, y = {0};
    och_code code = vector_alloc(budget, cells, code_row_size(dim), "centroids", &rows8, err);
    if (code == OCH_OK)
        code = vector_alloc(budget, dim, 4, "centroids", &mean, err);
    if (code == OCH_OK)
        code = vector_alloc(budget, dim, 4, "centroids", &y, err);
    if (code == OCH_OK)
        code = vector_alloc(budget, blocks * code_coarse_size(dim) + 4 * ((uint64_t)cells + 1), 1,
                            "centroids", &build->super, err);
    for (uint32_t c = 0; code == OCH_OK && c < cells; c++) {
        float *sum = mean.at, *own = y.at, rows = 0;
        memset(sum, 0, dim * sizeof(float));
        for (uint32_t j = first[c]; j < first[c + 1]; j++) {
            float weight = (float)e->places[j].rows;
            kernel_code_get()->decode8((const uint8_t *)e->cent8.at + j * code_row_size(dim), NULL,
                                       dim, own);
            for (size_t i = 0; i < dim; i++)
                sum[i] += weight * own[i];
            rows += weight;
        }
        for (size_t i = 0; i < dim; i++)
            sum[i] /= rows;
        kernel_code_get()->quant8(sum, dim, (uint8_t *)rows8.at + c * code_row_size(dim));
    }
    if (code == OCH_OK) {
        uint8_t *at = build->super.at;
        code_pack_coarse(rows8.at, cells, dim, at);
        for (uint32_t c = 0; c <= cells; c++)
            store_u32(at + blocks * code_coarse_size(dim) + 4 * (size_t)c, first[c]);
    }
    vector_release(budget, &rows8);
    vector_release(budget, &mean);
    vector_release(budget, &y);
    return code;
}

/* ---- the whole ---- */

static och_code encoder_init(struct encoder *e, uint64_t blocks, och_error *err)
{
    struct vector_build *build = e->build;
    struct budget *budget = build->options.budget;
    uint32_t dim = build->space.code_dim, lists = build->lists;
    size_t room = max_size(WAVE_BYTES / code_row_size(dim), CODE_BLOCK_ROWS);
    room = min_size(room, (size_t)build->coded + CODE_BLOCK_ROWS);
    e->room = (uint32_t)(room / CODE_BLOCK_ROWS * CODE_BLOCK_ROWS);
    e->pieces_max = (uint32_t)min_size(SUM_BYTES / (8 * (size_t)dim) + 16, room);
    TRY(vector_alloc(budget, e->room, code_row_size(dim), "codes", &e->rows8, err));
    TRY(vector_alloc(budget, e->pieces_max, sizeof(struct piece), "codes", &e->pieces, err));
    TRY(vector_alloc(budget, e->pieces_max, 8 * (size_t)dim, "centroids", &e->sums, err));
    TRY(vector_alloc(budget, e->pieces_max, 4 * (size_t)dim, "centroids", &e->centroids, err));
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
    float imbalance = 1;
    TRY(encoder_init(e, blocks, err));
    TRY(encode_lists(e, err));
    code_pack_coarse(e->cent8.at, build->lists, build->space.code_dim, build->centq.at);
    TRY(write_super(e, err));
    build->rms = (float)sqrt(e->norm2 > 0 ? e->norm2 / build->coded : 0);
    for (unsigned k = 0; k < VECTOR_KS; k++)
        for (unsigned t = 0; t < VECTOR_TARGETS; t++)
            calibrated.budgets[k][t] = 1;
    build->lists_098 = 1;
    if (build->lists > 1)
        TRY(vector_calibration_finish(&e->calibration, &calibrated, err));
    if (build->base == VECTOR_NO_INPUT) {
        if (build->lists > 1)
            TRY(vector_imbalance(build, &imbalance, err)); /* list_of is still there */
        double root = build->lists / VECTOR_LISTS_ROOT;
        bool longer = build->options.list_rows && build->lists > 1 && root * root < build->coded;
        build->trained =
            (struct vector_trained){longer ? (uint32_t)(root * root) : build->coded, build->lists,
                                    build->lists_098, build->rms, imbalance};
    }
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
    if (code == OCH_OK)
        code = encode_all(&e, blocks, err);
    if (code == OCH_OK && e.whole) {
        build->rows8 = e.rows8;
        e.rows8 = (struct vector_memory){0};
    }
    vector_calibration_done(&e.calibration);
    struct vector_memory *const all[] = {&e.rows8,     &e.pieces, &e.sums,
                                         &e.centroids, &e.cent8,  &places};
    for (size_t i = 0; i < COUNT_OF(all); i++)
        vector_release(budget, all[i]);
    return code;
}
