/* SPDX-License-Identifier: Apache-2.0 */
/* The figures of MEAN and LIST, checked once against one another and the sizes of the other sections: docs/formats/vector.md. */
#include "index/vector/vector_internal.h"

#include <math.h>

const float vector_targets[VECTOR_TARGETS] = {0.80f, 0.90f, 0.95f, 0.975f, 0.99f, 0.995f};
const float vector_probes[VECTOR_PROBES] = {0.90f, 0.95f, 0.99f, 0.995f};
const uint32_t vector_ks[VECTOR_KS] = {10, 100}, vector_placed_ks[VECTOR_PLACED] = {2, 10, 100};

static bool is_sound(float x)
{
    return isfinite(x) && x >= 0;
}

static bool lists_fit(const struct vector_index *index, slice list, uint64_t code_bytes)
{
    uint64_t row = 0, block = 0;
    for (uint32_t j = 0; j < index->lists; j++) {
        const uint8_t *at = list.at + (size_t)j * VECTOR_LIST_SIZE;
        uint32_t rows = load_u32(at + 4);
        if (load_u32(at) != row || load_u32(at + 8) != block || !rows ||
            !is_sound(load_f32(at + 12)))
            return false;
        row += rows;
        block += (rows + CODE_BLOCK_ROWS - 1) / CODE_BLOCK_ROWS;
        if (row > index->coded)
            return false;
    }
    return row == index->coded && block == index->blocks &&
           code_bytes == block * code_block_size(index->code_dim);
}

bool vector_index_open(slice mean, slice list, slice centq, uint64_t code_bytes,
                       uint64_t code8_bytes, uint32_t part_rows, uint32_t dimension,
                       enum metric metric, struct vector_index *ret_index)
{
    const uint8_t *at = mean.at;
    if (mean.len < VECTOR_HEADER_SIZE || load_u32(at) != VECTOR_MAGIC ||
        load_u16(at + 4) != VECTOR_MAJOR)
        return false;
    struct vector_index index = {.metric = metric,
                                 .dimension = dimension,
                                 .wide = vector_wide(metric, dimension),
                                 .seed = load_u64(at + 24),
                                 .coded = load_u32(at + 32),
                                 .outside = load_u32(at + 36),
                                 .lists = load_u32(at + 40),
                                 .blocks = load_u32(at + 44),
                                 .big2 = load_f32(at + 48),
                                 .gamma = load_f32(at + 52),
                                 .kappa = load_f32(at + 56),
                                 .rms = load_f32(at + 60),
                                 .fall = load_f32(at + VECTOR_FALL_AT),
                                 .nearer =
                                     (int16_t)load_u16(at + VECTOR_NEARER_AT) / VECTOR_PLACED_UNIT,
                                 .far = load_f32(at + VECTOR_FAR_AT),
                                 .list = list.at,
                                 .centq = centq.at,
                                 .trained_rows = load_u32(at + VECTOR_TRAINED_AT),
                                 .trained_lists = load_u32(at + VECTOR_TRAINED_AT + 4),
                                 .trained_098 = load_u32(at + VECTOR_TRAINED_AT + 8),
                                 .trained_rms = load_f32(at + VECTOR_TRAINED_AT + 12),
                                 .trained_imbalance = load_f32(at + VECTOR_TRAINED_AT + 16),
                                 .lists_098 = load_u32(at + VECTOR_TRAINED_AT + 20),
                                 .budgets = at + VECTOR_BUDGETS_AT};
    index.code_dim = vector_code_dim(index.wide);
    uint64_t coarse_blocks = ((uint64_t)index.lists + CODE_LISTS - 1) / CODE_LISTS;
    if (load_u32(at + 8) != dimension || load_u32(at + 12) != index.code_dim ||
        load_u32(at + 16) != (uint32_t)metric || index.coded > part_rows ||
        index.outside > part_rows - index.coded || !index.lists || index.lists > index.coded ||
        !is_sound(index.big2) || !is_sound(index.gamma) || !is_sound(index.kappa) ||
        !is_sound(index.rms) || !is_sound(index.fall) || !is_sound(index.far) ||
        !is_sound(index.trained_rms) || !is_sound(index.trained_imbalance) ||
        index.code_dim > CODE_DIM_MAX ||
        mean.len != VECTOR_HEADER_SIZE + 4 * (uint64_t)index.wide ||
        list.len != (uint64_t)index.lists * VECTOR_LIST_SIZE ||
        centq.len != coarse_blocks * code_coarse_size(index.code_dim) ||
        code8_bytes != index.coded * (uint64_t)code_row_size(index.code_dim))
        return false;
    index.mean = (const float *)(const void *)(at + VECTOR_HEADER_SIZE); // aligned: extents are
    for (unsigned i = 0; i < VECTOR_KS * (VECTOR_TARGETS + VECTOR_PROBES); i++)
        if (!is_sound(load_f32(at + VECTOR_REACH_AT + 4 * i)))
            return false;
    if (!lists_fit(&index, list, code_bytes))
        return false;
    *ret_index = index;
    return true;
}

bool vector_index_super(struct vector_index *index, slice super)
{
    const uint8_t *mean = (const uint8_t *)(const void *)index->mean - VECTOR_HEADER_SIZE;
    uint32_t cells = load_u32(mean + VECTOR_TRAINED_AT + 24);
    if (!cells && !super.len)
        return true;
    if (!cells || cells > index->lists || super.len != vector_super_size(cells, index->code_dim))
        return false;
    const uint8_t *first = super.at + super.len - 4 * ((size_t)cells + 1);
    for (uint32_t c = 0; c < cells; c++)
        if (load_u32(first + 4 * (size_t)c) >= load_u32(first + 4 * ((size_t)c + 1)))
            return false;
    if (load_u32(first) != 0 || load_u32(first + 4 * (size_t)cells) != index->lists)
        return false;
    index->cells = cells;
    index->super_cells = load_u32(mean + VECTOR_TRAINED_AT + 28);
    index->super_from = VECTOR_SUPER_LISTS;
    index->super = super.at;
    index->cell_first = first;
    return true;
}
