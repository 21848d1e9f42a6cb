/* SPDX-License-Identifier: Apache-2.0 */
/* Opening: every figure of the directory is checked once, so that searching computes places without looking again. */
#include "index/meta/meta_internal.h"

uint32_t meta_dict_block(uint8_t type, uint32_t ordinals)
{
    uint32_t block = meta_type_is_string(type) ? META_DICT_STRINGS : META_DICT_NUMBERS;
    for (unsigned i = 0; i < META_GROWTH && ordinals / block > META_BLOCKS_AIM; i++)
        block *= 2;
    return block;
}

struct meta_column meta_column_at(const struct meta_index *index, uint32_t i)
{
    const uint8_t *head = index->head.at;
    const uint8_t *at = head + META_DIR_SIZE + (size_t)i * META_ENTRY_SIZE;
    const uint8_t *keys = head + META_DIR_SIZE + (size_t)index->columns * META_ENTRY_SIZE;
    return (struct meta_column){
        .key = slice_make(keys + load_u32(at), load_u32(at + 4)),
        .type = at[8],
        .has = at[9],
        .ordinals = load_u32(at + 12),
        .entries = load_u32(at + 16),
        .dict_blocks = load_u32(at + 20),
        .dict_offset = load_u64(at + 24),
        .list_offset = load_u64(at + 32),
        .tops = head + load_u32(at + 40),
        .separators = slice_make(head + load_u32(at + 44), load_u32(at + 48)),
        .zones = head + load_u32(at + 52),
        .max = load_u64(at + 56),
    };
}

static bool within(uint64_t offset, uint64_t len, uint64_t limit)
{
    return offset <= limit && len <= limit - offset;
}

/* Places of one entry, as numbers: pointers are made afterwards. */
static bool places_fit(const struct meta_index *index, const uint8_t *at, uint64_t keys_len)
{
    uint32_t ordinals = load_u32(at + 12), entries = load_u32(at + 16), blocks = load_u32(at + 20);
    uint8_t type = at[8], has = at[9];
    uint64_t head = index->head.len;
    if (!within(load_u32(at), load_u32(at + 4), keys_len) || type < META_BOOL ||
        type > META_SPARSE || has > 7)
        return false;
    if (has & META_UNINDEXED)
        return has == META_UNINDEXED && within(load_u32(at + 40), 0, head) &&
               within(load_u32(at + 44), load_u32(at + 48), head) &&
               within(load_u32(at + 52), 0, head);
    uint32_t per_block = meta_dict_block(type, ordinals);
    bool array = meta_type_is_array(type);
    if (!has || !ordinals || ordinals > entries || (array && has != META_HAS_LIST) ||
        (!array && entries > index->rows) ||
        blocks != ((uint64_t)ordinals + per_block - 1) / per_block)
        return false;
    if ((has & META_HAS_LIST) &&
        !within(load_u64(at + 32), meta_packed_size(entries, meta_row_bits(index->rows)),
                index->blocks_len))
        return false;
    uint64_t zones = has & META_HAS_SLICES ? (uint64_t)index->chunks * META_ZONE_SIZE : 0;
    return load_u64(at + 24) <= index->blocks_len &&
           within(load_u32(at + 40), ((uint64_t)blocks + 1) * META_TOP_SIZE, head) &&
           within(load_u32(at + 44), load_u32(at + 48), head) &&
           within(load_u32(at + 52), zones, head);
}

/* Dictionary blocks lie one behind the other, their counts ascend. */
static bool tops_fit(const struct meta_index *index, const struct meta_column *column)
{
    uint64_t room = index->blocks_len - column->dict_offset;
    for (uint32_t i = 0; i <= column->dict_blocks; i++) {
        const uint8_t *top = column->tops + (size_t)i * META_TOP_SIZE;
        uint64_t end = (uint64_t)load_u32(top + 8) * 8;
        uint32_t base = load_u32(top + 12);
        if (end > room || base > column->entries || (i == 0 && base) ||
            (i == column->dict_blocks && base != column->entries))
            return false;
        if (i && (load_u32(top + 8) < load_u32(top - META_TOP_SIZE + 8) ||
                  base < load_u32(top - META_TOP_SIZE + 12)))
            return false;
        if (meta_type_is_string(column->type) && i < column->dict_blocks &&
            !within(load_u32(top), load_u32(top + 4), column->separators.len))
            return false;
    }
    return true;
}

static bool zones_fit(const struct meta_index *index, const struct meta_column *column)
{
    for (uint32_t i = 0; i < index->chunks; i++) {
        struct meta_zone zone = meta_zone_at(column->zones, i);
        uint64_t codes = zone.max ? (uint64_t)zone.max - zone.min + 1 + zone.missing : 1;
        if (zone.min > zone.max || zone.max > column->ordinals || (zone.max && !zone.min) ||
            zone.width != meta_bits_of(codes - 1) ||
            !within(zone.offset, meta_zone_size(meta_chunk_rows(index->rows, i), zone.width),
                    index->blocks_len))
            return false;
    }
    return true;
}

static int order_of(const struct meta_column *column, slice key, uint8_t type)
{
    int order = slice_compare(column->key, key);
    return order ? order : (column->type > type) - (column->type < type);
}

bool meta_index_open(slice head, uint64_t section_len, uint32_t rows, struct meta_index *ret_index)
{
    if (head.len < META_DIR_SIZE || head.len > section_len || head.len > UINT32_MAX || !rows)
        return false;
    struct meta_index index = {.head = head,
                               .blocks_len = section_len - head.len,
                               .rows = rows,
                               .columns = load_u32(head.at + 12),
                               .chunks = meta_chunks(rows),
                               .incomplete = load_u16(head.at + 6) & META_INCOMPLETE};
    uint64_t keys_at = META_DIR_SIZE + (uint64_t)index.columns * META_ENTRY_SIZE;
    if (load_u32(head.at) != META_MAGIC || load_u16(head.at + 4) != META_VERSION ||
        load_u32(head.at + 8) != rows || !within(keys_at, load_u32(head.at + 16), head.len))
        return false;
    struct meta_column before = {0};
    for (uint32_t i = 0; i < index.columns; i++) {
        const uint8_t *at = head.at + META_DIR_SIZE + (size_t)i * META_ENTRY_SIZE;
        if (!places_fit(&index, at, load_u32(head.at + 16)))
            return false;
        struct meta_column column = meta_column_at(&index, i);
        if (i && order_of(&before, column.key, column.type) >= 0)
            return false;
        if (!(column.has & META_UNINDEXED) && !tops_fit(&index, &column))
            return false;
        if ((column.has & META_HAS_SLICES) && !zones_fit(&index, &column))
            return false;
        before = column;
    }
    *ret_index = index;
    return true;
}

uint32_t meta_columns_of(const struct meta_index *index, slice key, uint32_t *ret_count)
{
    uint32_t low = 0, high = index->columns;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (slice_compare(meta_column_at(index, middle).key, key) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    for (high = low; high < index->columns; high++) {
        if (!slice_equal(meta_column_at(index, high).key, key))
            break;
    }
    *ret_count = high - low;
    return low;
}

bool meta_index_has_gaps(const struct meta_index *index)
{
    for (uint32_t i = 0; i < index->columns; i++) {
        if (meta_column_at(index, i).has & META_UNINDEXED)
            return true;
    }
    return false;
}
