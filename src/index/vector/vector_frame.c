/* SPDX-License-Identifier: Apache-2.0 */
/* Codes without a part: one mean, one rotation, rows as they come. */
#include "index/vector/vector_frame.h"

#include "index/vector/vector_internal.h"

static struct vector_space space_of(const struct vector_frame *frame)
{
    const struct vector_index *index = &frame->index;
    return (struct vector_space){.metric = index->metric,
                                 .dim = index->dimension,
                                 .wide = index->wide,
                                 .code_dim = index->code_dim,
                                 .seed = index->seed,
                                 .big2 = index->big2,
                                 .mean = frame->mean,
                                 .limit2 = frame->limit2};
}

/* The rows of the sample by length: a few that are far longer than the others would blur them. */
static void own_limit(struct vector_frame *frame, const float *const *rows, uint32_t count)
{
    struct vector_space space = space_of(frame);
    uint32_t lengths[VECTOR_LENGTHS] = {0}, taken = 0;
    float norm2;
    for (uint32_t i = 0; i < count; i++) {
        if (!rows[i] || !vector_norm2(&space, rows[i], &norm2))
            continue;
        lengths[vector_length_class(norm2)]++;
        taken++;
    }
    frame->limit2 = vector_limit_among(lengths, taken, space.metric);
}

/* The longest row of the sample first: with ip the mean depends on it. */
static void own_mean(struct vector_frame *frame, const float *const *rows, uint32_t count,
                     double *sums, float *out)
{
    uint32_t wide = frame->index.wide, taken = 0;
    struct vector_space space = space_of(frame);
    float norm2, shift;
    for (uint32_t i = 0; i < count && space.metric == METRIC_IP; i++)
        if (rows[i] && vector_norm2(&space, rows[i], &norm2) && norm2 > frame->index.big2)
            frame->index.big2 = norm2;
    space = space_of(frame);
    for (uint32_t i = 0; i < count; i++) {
        if (!rows[i] || !vector_norm2(&space, rows[i], &norm2))
            continue;
        vector_row(&space, rows[i], norm2, out, wide, &shift); /* the mean is still 0 */
        for (uint32_t j = 0; j < wide; j++)
            sums[j] += (double)out[j];
        taken++;
    }
    for (uint32_t j = 0; j < wide && taken; j++)
        frame->mean[j] = (float)(sums[j] / taken);
}

och_code vector_frame_init(struct vector_frame *frame, enum metric metric, uint32_t dimension,
                           const struct vector_index *like, const float *const *rows,
                           uint32_t count, struct budget *budget, och_error *err)
{
    uint32_t wide = vector_wide(metric, dimension);
    *frame = (struct vector_frame){.index = {.metric = metric,
                                             .dimension = dimension,
                                             .wide = wide,
                                             .code_dim = vector_code_dim(wide),
                                             .lists = 1,
                                             .seed = VECTOR_SEED,
                                             .kappa = VECTOR_KAPPA},
                                   .budget = budget};
    struct vector_memory mean = {0}, sums = {0}, out = {0};
    TRY(vector_alloc(budget, 2 * (uint64_t)frame->index.code_dim, sizeof(float), "a mean", &mean,
                     err));
    frame->mean = mean.at;
    frame->bytes = mean.bytes;
    frame->index.mean = frame->mean;
    if (like && like->metric == metric && like->dimension == dimension) {
        frame->index.seed = like->seed;
        frame->index.big2 = like->big2;
        memcpy(frame->mean, like->mean, wide * sizeof(float));
        frame->limit2 = vector_limit_of(like);
        return OCH_OK;
    }
    och_code code = vector_alloc(budget, wide, sizeof(double), "a mean", &sums, err);
    if (code == OCH_OK)
        code = vector_alloc(budget, wide, sizeof(float), "a mean", &out, err);
    if (code == OCH_OK)
        own_limit(frame, rows, count);
    if (code == OCH_OK)
        own_mean(frame, rows, count, sums.at, out.at);
    vector_release(budget, &sums);
    vector_release(budget, &out);
    if (code != OCH_OK)
        vector_frame_done(frame);
    return code;
}

void vector_frame_done(struct vector_frame *frame)
{
    struct vector_memory mean = {frame->mean, frame->bytes};
    if (mean.at)
        vector_release(frame->budget, &mean);
    *frame = (struct vector_frame){0};
}

bool vector_frame_code(const struct vector_frame *frame, const float *vector, float *scratch,
                       uint8_t *row, uint8_t *block, uint32_t v)
{
    const struct kernel_code *kernel = kernel_code_get();
    struct vector_space space = space_of(frame);
    struct code_sums sums;
    float norm2, shift, a, b;
    if (!vector_norm2(&space, vector, &norm2))
        return false;
    vector_row(&space, vector, norm2, scratch, space.code_dim, &shift);
    kernel->rotate_f32(scratch, space.code_dim, space.seed);
    kernel->quant8(scratch, space.code_dim, row);
    kernel->sign_encode(scratch, frame->mean + space.code_dim, space.code_dim, block, v, &sums);
    code_factors_of(&sums, &a, &b);
    code_factors_set(block, space.code_dim, v, a + shift, b);
    if (shift != 0) {
        norm2 = code_row_norm2(row, space.code_dim) + shift;
        memcpy(row + space.code_dim + 4, &norm2, sizeof(norm2));
    }
    return true;
}
