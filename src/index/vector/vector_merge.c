/* SPDX-License-Identifier: Apache-2.0 */
/* Merging: the space (mean, M, rotation) that most rows share is kept, so their 8-bit codes are copied; the lists of the largest input of that
 * space are kept while they fit, and rows of the others are assigned to them.  New centroids and the 1-bit side come from the codes. */
#include "index/vector/vector_internal.h"

#include <math.h>

#define FIT_SAMPLE 1024
/* When lists no longer fit (vector-index.md §9). */
#define SHRUNK    8    /* times fewer */
#define IMBALANCE 2.0f /* and this much worse than at training: */
#define WORSE     1.4f
/* Share of the rows whose lists are kept, so that calibration is; of a part on the way to a larger one. */
#define KEPT_LEAST            0.7
#define KEPT_LEAST_ON_THE_WAY 0.5
#define LISTS_MORE(now, then) (10 * (uint64_t)(now) > 16 * (uint64_t)(then) && (now) >= 16)

/* ---- which space ---- */

static bool is_same_space(const struct vector_index *a, const struct vector_index *b)
{
    return a->metric == b->metric && a->dimension == b->dimension && a->seed == b->seed &&
           memcmp(&a->big2, &b->big2, sizeof(a->big2)) == 0 &&
           memcmp(a->mean, b->mean, 4 * (size_t)a->wide) == 0;
}

static bool is_usable(const struct vector_build *build, const struct vector_index *index)
{
    return index && index->metric == build->space.metric && index->dimension == build->space.dim;
}

static void keep_space(struct vector_build *build, const struct vector_index *index, uint32_t input)
{
    build->kept_space = true;
    build->space_of = input;
    build->space.seed = index->seed;
    build->space.big2 = index->big2;
    /* rows longer than ip's lift knows are nearer than their list seems to be, and likely to be asked for */
    build->space.limit2 = index->metric == METRIC_IP ? index->big2 : vector_limit_of(index);
    memcpy(build->mean.at, index->mean, 4 * (size_t)index->wide);
}

void vector_drop_space(struct vector_build *build)
{
    build->kept_space = build->rotated = false;
    build->same_space = NULL;
    build->base = VECTOR_NO_INPUT;
    build->width = build->space.wide;
    build->space.seed = VECTOR_SEED;
    build->space.big2 = build->space.limit2 = 0;
    build->coded = build->outside = 0;
    memset(build->mean.at, 0, 4 * (size_t)build->space.wide);
}

och_code vector_choose_space(struct vector_build *build, och_error *err)
{
    const struct vector_options *options = &build->options;
    const struct vector_index *const *inputs = options->inputs;
    uint64_t best = 0, lists_of = 0;
    uint32_t chosen = VECTOR_NO_INPUT;
    if (!options->input_count) {
        if (is_usable(build, options->like))
            keep_space(build, options->like, 0);
        return OCH_OK;
    }
    assert(build->rows.place && build->rows.code8);
    for (uint32_t i = 0; i < options->input_count; i++) {
        uint64_t rows = 0;
        if (!is_usable(build, inputs[i]))
            continue;
        for (uint32_t j = 0; j < options->input_count; j++)
            if (is_usable(build, inputs[j]) && is_same_space(inputs[i], inputs[j]))
                rows += inputs[j]->coded;
        /* of those that share it, the largest names it */
        if (rows > best || (rows == best && inputs[i]->coded > inputs[chosen]->coded)) {
            best = rows;
            chosen = i;
        }
    }
    if (chosen == VECTOR_NO_INPUT || best < build->rows.count / 4)
        return OCH_OK;
    TRY(vector_alloc(options->budget, options->input_count, sizeof(bool), "inputs", &build->same,
                     err));
    bool *same = build->same.at;
    for (uint32_t i = 0; i < options->input_count; i++) {
        same[i] = is_usable(build, inputs[i]) && is_same_space(inputs[chosen], inputs[i]);
        if (same[i] && inputs[i]->lists > 1 && inputs[i]->coded > lists_of) {
            lists_of = inputs[i]->coded;
            build->base = i;
        }
    }
    keep_space(build, inputs[chosen], chosen);
    build->same_space = same;
    build->rotated = true;
    build->width = build->space.code_dim;
    return OCH_OK;
}

/* Are rows about as far from the mean as those that it was made for?  8-bit codes are as fine as rows are long. */
och_code vector_space_fits(struct vector_build *build, bool *ret_fits, och_error *err)
{
    struct budget *budget = build->options.budget;
    const struct vector_index *of =
        build->options.input_count ? build->options.inputs[build->space_of] : build->options.like;
    struct vector_memory sums = {0}, row = {0}, sources = {0};
    uint32_t width = build->width, count = 0;
    och_code code = vector_alloc(budget, width, 8, "a mean", &sums, err);
    if (code == OCH_OK)
        code = vector_alloc(budget, build->space.code_dim, 4, "a mean", &row, err);
    if (code == OCH_OK)
        code = vector_alloc(budget, FIT_SAMPLE, 4, "a mean", &sources, err);
    if (code == OCH_OK)
        count =
            vector_sample(build, build->coded < FIT_SAMPLE ? build->coded : FIT_SAMPLE, sources.at);
    double *sum = sums.at, square = 0, offset = 0;
    float *y = row.at;
    for (uint32_t i = 0; code == OCH_OK && i < count; i++) {
        code = vector_read_row(build, build->reader, ((const uint32_t *)sources.at)[i], y, err);
        for (uint32_t j = 0; code == OCH_OK && j < width; j++) {
            sum[j] += (double)y[j];
            square += (double)y[j] * (double)y[j];
        }
    }
    for (uint32_t j = 0; code == OCH_OK && j < width; j++)
        offset += sum[j] / count * (sum[j] / count);
    double then = (double)(of->trained_rms > 0 ? of->trained_rms : of->rms);
    square /= count;
    *ret_fits = square <= 4 * then * then && (!build->rotated || offset <= 0.9 * square);
    vector_release(budget, &sums);
    vector_release(budget, &row);
    vector_release(budget, &sources);
    return code;
}

/* ---- the base's lists ---- */

static struct vector_trained trained_of(const struct vector_index *index)
{
    if (index->trained_rows)
        return (struct vector_trained){index->trained_rows, index->trained_lists,
                                       index->trained_098, index->trained_rms,
                                       index->trained_imbalance};
    /* written before this was noted */
    uint32_t lists = vector_budget(index, vector_ks[0], 0.98f);
    return (struct vector_trained){index->coded, index->lists, lists, index->rms, 1};
}

static uint32_t list_of_row(const struct vector_index *index, uint32_t row)
{
    uint32_t low = 0, high = index->lists;
    while (high - low > 1) {
        uint32_t middle = low + (high - low) / 2;
        if (load_u32(index->list + (size_t)middle * VECTOR_LIST_SIZE) <= row)
            low = middle;
        else
            high = middle;
    }
    return low;
}

/* Centroids as the coarse blocks have them, rotated. */
static void unpack_centroids(const struct vector_index *index, float *out)
{
    size_t dim = index->code_dim;
    for (uint32_t j = 0; j < index->lists; j++) {
        const uint8_t *block = index->centq + j / CODE_LISTS * code_coarse_size(dim);
        uint32_t lane = j % CODE_LISTS;
        float scale = load_f32(block + CODE_LISTS * dim + 4 * (size_t)lane);
        for (size_t i = 0; i < dim; i++)
            out[j * dim + i] =
                scale * (float)((int)block[i / 4 * 64 + 4 * (size_t)lane + i % 4] - 128);
    }
}

/* Cells of the lists: as SUPER says, or neighbours by number. */
static och_code take_cells(struct vector_build *build, const struct vector_index *index,
                           struct vector_memory *ret_first, uint32_t *ret_cells, och_error *err)
{
    uint32_t step = (uint32_t)lround(sqrt((double)index->lists));
    uint32_t cells = index->cells ? index->cells : (index->lists + step - 1) / step;
    TRY(vector_alloc(build->options.budget, (uint64_t)cells + 1, 4, "centroids", ret_first, err));
    uint32_t *first = ret_first->at;
    for (uint32_t c = 0; c < cells; c++)
        first[c] = index->cells ? load_u32(index->cell_first + 4 * (size_t)c) : c * step;
    first[cells] = index->lists;
    *ret_cells = cells;
    return OCH_OK;
}

static och_code make_book(struct vector_build *build, const struct vector_index *index,
                          struct vector_codebook *book, och_error *err)
{
    struct budget *budget = build->options.budget;
    size_t dim = index->code_dim;
    struct vector_memory centroids = {0}, means = {0};
    book->width = build->width;
    book->lists = index->lists;
    TRY(take_cells(build, index, &book->cell_first, &book->cells, err));
    och_code code = vector_alloc(budget, index->lists, 4 * dim, "centroids", &centroids, err);
    if (code == OCH_OK)
        code = vector_alloc(budget, book->cells, 4 * dim, "centroids", &means, err);
    if (code == OCH_OK) {
        const uint32_t *first = book->cell_first.at;
        const float *centroid = centroids.at;
        unpack_centroids(index, centroids.at);
        for (uint32_t c = 0; c < book->cells; c++) {
            float *mean = (float *)means.at + c * dim, rows = 0;
            for (uint32_t j = first[c]; j < first[c + 1]; j++) {
                float weight = (float)load_u32(index->list + (size_t)j * VECTOR_LIST_SIZE + 4);
                rows += weight;
                for (size_t i = 0; i < dim; i++)
                    mean[i] += weight * centroid[j * dim + i];
            }
            for (size_t i = 0; rows > 0 && i < dim; i++)
                mean[i] /= rows;
        }
        code = vector_book_cells(build, book, means.at, err);
    }
    if (code == OCH_OK)
        code = vector_book_lists(build, book, centroids.at, err);
    vector_release(budget, &centroids);
    vector_release(budget, &means);
    return code;
}

bool vector_lists_suit(const struct vector_index *index)
{
    if (index->lists == 1)
        return index->coded <= VECTOR_FLAT_ROWS;
    return !index->trained_rows || index->coded <= VECTOR_GROWN * (uint64_t)index->trained_rows;
}

static bool is_trained_for(const struct vector_trained *trained, const struct vector_index *index,
                           uint32_t list_rows, uint64_t rows)
{
    uint64_t of = (uint64_t)index->lists * list_rows;
    of = of > trained->rows ? of : trained->rows;
    return rows <= VECTOR_GROWN * of && rows >= trained->rows / SHRUNK &&
           !(index->lists_098 && trained->lists_098 &&
             LISTS_MORE(index->lists_098, trained->lists_098));
}

och_code vector_merge_lists(struct vector_build *build, bool *ret_fits, och_error *err)
{
    const struct vector_index *index = build->options.inputs[build->base];
    uint32_t flat = build->options.flat_rows ? build->options.flat_rows : VECTOR_FLAT_ROWS;
    uint32_t *list_of = build->list_of.at;
    struct vector_codebook book = {0};
    build->trained = trained_of(index);
    *ret_fits = build->coded > flat &&
                is_trained_for(&build->trained, index, build->options.list_rows, build->coded);
    if (!*ret_fits)
        return OCH_OK;
    uint32_t kept = 0;
    for (uint32_t i = 0; i < build->rows.count; i++) {
        uint32_t input, row;
        if (list_of[i] >= LIST_OUTSIDE)
            continue;
        build->rows.place(build->rows.context, i, &input, &row);
        list_of[i] = input == build->base ? list_of_row(index, row) : LIST_UNKNOWN;
        kept += input == build->base;
    }
    double least = build->options.list_rows ? KEPT_LEAST_ON_THE_WAY : KEPT_LEAST;
    build->carried = index->lists_098 && index->fall > 0 && build->coded != index->coded &&
                     kept >= least * build->coded;
    och_code code = make_book(build, index, &book, err);
    if (code == OCH_OK)
        code = vector_assign(build, &book, true, err);
    build->lists = book.lists;
    build->cells = book.cells;
    build->cell_first = book.cell_first;
    book.cell_first = (struct vector_memory){0};
    vector_book_done(build, &book);
    float imbalance = 1;
    if (code == OCH_OK)
        code = vector_imbalance(build, &imbalance, err);
    *ret_fits = imbalance <= IMBALANCE || imbalance <= WORSE * build->trained.imbalance;
    if (code == OCH_OK && *ret_fits)
        code = vector_split(build, err);
    return code;
}

bool vector_has_drifted(const struct vector_build *build)
{
    return build->trained.lists_098 && LISTS_MORE(build->lists_098, build->trained.lists_098);
}
