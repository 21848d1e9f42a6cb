/* SPDX-License-Identifier: Apache-2.0 */
/* Looking into an open index: dictionary, lists, slices.  Bytes are believed as little as possible: whatever they are, answers lie within the
 * rows of the part or OCH_CORRUPT comes back. */
#include "index/meta/meta_internal.h"

#define WALK_BLOCKS 64u /* of a dictionary that are pinned at a time */

och_code meta_fault(struct meta_reader *reader, const struct meta_column *column, const char *what,
                    och_error *err)
{
    reader->damaged = true;
    return FAIL(err, OCH_CORRUPT, "metadata index, key \"%.*s\", type %u: %s",
                SLICE_ARG(column->key), column->type, what);
}

och_code meta_read(struct meta_reader *reader, uint64_t offset, uint64_t len,
                   const uint8_t **ret_at, och_error *err)
{
    assert(offset <= reader->index->blocks_len && len <= reader->index->blocks_len - offset);
    och_error failure = {0};
    och_code code =
        reader->pages->at(reader->pages->context, offset, (size_t)len, ret_at, &failure);
    if (code == OCH_OK)
        return OCH_OK;
    reader->damaged = true; /* if it is damage at all: the part knows */
    if (err)
        *err = failure;
    return code;
}

/* ---- dictionary ---- */

static const uint8_t *top_at(const struct meta_column *column, uint32_t block)
{
    return column->tops + (size_t)block * META_TOP_SIZE;
}

static slice separator_at(const struct meta_column *column, uint32_t block)
{
    const uint8_t *top = top_at(column, block);
    return slice_make(column->separators.at + load_u32(top), load_u32(top + 4));
}

static och_code cursor_load(struct meta_cursor *cursor, uint32_t block, och_error *err)
{
    const struct meta_column *column = cursor->column;
    uint32_t per_block = meta_dict_block(column->type, column->ordinals);
    const uint8_t *top = top_at(column, block), *at;
    if (cursor->count && cursor->block == block && cursor->release == cursor->reader->release)
        return OCH_OK;
    uint64_t from = (uint64_t)load_u32(top + 8) * 8,
             len = (uint64_t)load_u32(top + META_TOP_SIZE + 8) * 8 - from;
    cursor->count = 0;
    if (len < META_DICT_HEADER)
        return meta_fault(cursor->reader, column, "a dictionary block is too short", err);
    TRY(meta_read(cursor->reader, column->dict_offset + from, len, &at, err));
    uint32_t first = block * per_block + 1, left = column->ordinals - first + 1;
    uint32_t count = left < per_block ? left : per_block;
    cursor->width = at[0];
    cursor->excess_width = at[1];
    uint64_t values = meta_packed_size(count, cursor->width),
             excess = meta_packed_size(count, cursor->excess_width), strings = load_u32(at + 4);
    if (cursor->width > 64 || cursor->excess_width > 32 ||
        values + excess + strings > len - META_DICT_HEADER)
        return meta_fault(cursor->reader, column, "a dictionary block's figures do not fit", err);
    cursor->block = block;
    cursor->release = cursor->reader->release;
    cursor->first = first;
    cursor->base = load_u32(top + 12);
    cursor->image = load_u64(top);
    cursor->values = at + META_DICT_HEADER;
    cursor->excess = cursor->values + values;
    cursor->strings = slice_make(cursor->excess + excess, (size_t)strings);
    cursor->count = count;
    return OCH_OK;
}

och_code meta_find_image(struct meta_cursor *cursor, uint64_t image, uint32_t *ret, och_error *err)
{
    const struct meta_column *column = cursor->column;
    uint32_t low = 0, high = column->dict_blocks; /* blocks below low begin with less */
    if (image > column->max) {
        *ret = column->ordinals + 1;
        return OCH_OK;
    }
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (load_u64(top_at(column, middle)) < image)
            low = middle + 1;
        else
            high = middle;
    }
    if (low == 0) {
        *ret = 1;
        return OCH_OK;
    }
    TRY(cursor_load(cursor, low - 1, err));
    low = 1;
    high = cursor->count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (cursor->image + meta_packed_get(cursor->values, middle, cursor->width) < image)
            low = middle + 1;
        else
            high = middle;
    }
    *ret = cursor->first + low;
    return OCH_OK;
}

och_code meta_image_at(struct meta_cursor *cursor, uint32_t ordinal, uint64_t *ret, och_error *err)
{
    const struct meta_column *column = cursor->column;
    uint32_t per_block = meta_dict_block(column->type, column->ordinals);
    assert(ordinal >= 1 && ordinal <= column->ordinals);
    TRY(cursor_load(cursor, (ordinal - 1) / per_block, err));
    *ret =
        cursor->image + meta_packed_get(cursor->values, (ordinal - 1) % per_block, cursor->width);
    return OCH_OK;
}

och_code meta_has_image(struct meta_cursor *cursor, uint64_t image, uint32_t *ret, och_error *err)
{
    const struct meta_column *column = cursor->column;
    uint32_t ordinal, per_block = meta_dict_block(column->type, column->ordinals);
    *ret = 0;
    TRY(meta_find_image(cursor, image, &ordinal, err));
    if (ordinal > column->ordinals)
        return OCH_OK;
    uint32_t block = (ordinal - 1) / per_block, i = (ordinal - 1) % per_block;
    uint64_t value = load_u64(top_at(column, block)); /* a block's first needs no look inside */
    if (i) {
        TRY(cursor_load(cursor, block, err));
        value += meta_packed_get(cursor->values, i, cursor->width);
    }
    if (value == image)
        *ret = ordinal;
    return OCH_OK;
}

static och_code strings_next(struct meta_strings *s, och_error *err)
{
    uint64_t shared = reader_varint(&s->reader);
    slice rest = reader_sized(&s->reader);
    if (s->reader.failed || shared > s->len || rest.len > sizeof(s->text) - shared)
        return meta_fault(s->cursor->reader, s->cursor->column, "a string does not fit", err);
    if (rest.len)
        memcpy(s->text + shared, rest.at, rest.len);
    s->len = (size_t)shared + rest.len;
    return OCH_OK;
}

/* The last block of [low, high) that does not begin behind the text; low if none. */
static uint32_t last_block_upto(const struct meta_column *column, uint32_t low, uint32_t high,
                                slice text)
{
    while (high - low > 1) {
        uint32_t middle = low + (high - low) / 2;
        if (slice_compare(separator_at(column, middle), text) <= 0)
            low = middle;
        else
            high = middle;
    }
    return low;
}

static och_code find_string(struct meta_cursor *cursor, slice text, uint32_t *ret_place,
                            bool *ret_equal, och_error *err)
{
    const struct meta_column *column = cursor->column;
    struct meta_strings strings = {.cursor = cursor};
    *ret_equal = false;
    TRY(cursor_load(cursor, last_block_upto(column, 0, column->dict_blocks, text), err));
    strings.reader = reader_of(cursor->strings);
    *ret_place = cursor->first + cursor->count;
    for (uint32_t i = 0; i < cursor->count; i++) {
        TRY(strings_next(&strings, err));
        int order = slice_compare(slice_make(strings.text, strings.len), text);
        if (order < 0)
            continue;
        *ret_place = cursor->first + i;
        *ret_equal = order == 0;
        break;
    }
    return OCH_OK;
}

och_code meta_find_string(struct meta_cursor *cursor, slice text, uint32_t *ret, och_error *err)
{
    uint32_t place;
    bool equal;
    TRY(find_string(cursor, text, &place, &equal, err));
    *ret = equal ? place : 0;
    return OCH_OK;
}

/* The block to look in, from that of the text before on: most are near. */
static uint32_t seek_block(const struct meta_column *column, uint32_t block, slice text)
{
    uint32_t low = block, high = block + 1, step = 1;
    while (high < column->dict_blocks && slice_compare(separator_at(column, high), text) <= 0) {
        low = high;
        step *= 2;
        high = column->dict_blocks - low > step ? low + step : column->dict_blocks;
    }
    return last_block_upto(column, low, high, text);
}

och_code meta_seek_string(struct meta_strings *s, slice text, uint32_t *ret, och_error *err)
{
    struct meta_cursor *cursor = s->cursor;
    uint32_t block = seek_block(cursor->column, s->block, text);
    *ret = 0;
    if (!s->begun || block != s->block) {
        TRY(cursor_load(cursor, block, err));
        *s = (struct meta_strings){
            .cursor = cursor, .begun = true, .block = block, .reader = reader_of(cursor->strings)};
    }
    for (; s->at < cursor->count; s->at++, s->has_text = false) {
        if (!s->has_text)
            TRY(strings_next(s, err));
        s->has_text = true;
        int order = slice_compare(slice_make(s->text, s->len), text);
        if (order < 0)
            continue;
        *ret = order == 0 ? cursor->first + s->at : 0;
        break;
    }
    return OCH_OK;
}

och_code meta_find_place(struct meta_cursor *cursor, slice text, uint32_t *ret, och_error *err)
{
    bool equal;
    return find_string(cursor, text, ret, &equal, err);
}

och_code meta_walk_strings(struct meta_cursor *cursor, uint32_t from, uint32_t to,
                           meta_string_taker take_string, void *context, och_error *err)
{
    const struct meta_column *column = cursor->column;
    uint32_t per_block = meta_dict_block(column->type, column->ordinals);
    assert(from >= 1 && from <= to && to <= column->ordinals + 1);
    uint32_t loaded = 0;
    for (uint32_t at = from; at < to;) {
        struct meta_strings strings = {.cursor = cursor};
        if (loaded++ % WALK_BLOCKS == 0 && loaded > 1) {
            cursor->reader->pages->release(cursor->reader->pages->context);
            cursor->reader->release++; /* the caller may have a cursor of its own */
        }
        TRY(cursor_load(cursor, (at - 1) / per_block, err));
        strings.reader = reader_of(cursor->strings);
        for (uint32_t i = 0; i < cursor->count && cursor->first + i < to; i++) {
            TRY(strings_next(&strings, err));
            if (cursor->first + i >= at)
                TRY(take_string(context, cursor->first + i, slice_make(strings.text, strings.len),
                                err));
        }
        at = cursor->first + cursor->count;
    }
    return OCH_OK;
}

och_code meta_entries_before(struct meta_cursor *cursor, uint32_t ordinal, uint32_t *ret,
                             och_error *err)
{
    const struct meta_column *column = cursor->column;
    assert(ordinal >= 1 && ordinal <= column->ordinals + 1);
    if (ordinal > column->ordinals || column->ordinals == column->entries) {
        *ret = ordinal > column->ordinals ? column->entries : ordinal - 1;
        return OCH_OK;
    }
    TRY(cursor_load(cursor, (ordinal - 1) / meta_dict_block(column->type, column->ordinals), err));
    uint32_t i = ordinal - cursor->first;
    uint64_t before =
        (uint64_t)cursor->base + i + meta_packed_get(cursor->excess, i, cursor->excess_width);
    if (before > column->entries)
        return meta_fault(cursor->reader, column, "a count is too large", err);
    *ret = (uint32_t)before;
    return OCH_OK;
}

/* ---- lists ---- */

/* A run of entries of one block of the list. */
struct list_run {
    const uint8_t *at;
    uint32_t first, count; /* within the block */
};

static och_code list_run(struct meta_reader *reader, const struct meta_column *column,
                         uint32_t from, uint32_t to, struct list_run *ret, och_error *err)
{
    unsigned bits = meta_row_bits(reader->index->rows);
    uint64_t block = from / META_LIST_BLOCK, size = meta_packed_size(column->entries, bits);
    uint64_t offset = block * (META_LIST_BLOCK / 8) * bits, len = META_LIST_BLOCK / 8 * bits + 8;
    uint32_t end =
        (uint32_t)((block + 1) * META_LIST_BLOCK < to ? (block + 1) * META_LIST_BLOCK : to);
    TRY(meta_read(reader, column->list_offset + offset, len < size - offset ? len : size - offset,
                  &ret->at, err));
    ret->first = from % META_LIST_BLOCK;
    ret->count = end - from;
    return OCH_OK;
}

/* A row number is at most 32 bits: one load holds it. */
static ALWAYS_INLINE uint32_t list_row(const uint8_t *at, uint32_t i, unsigned bits, uint64_t mask)
{
    uint64_t bit = (uint64_t)i * bits;
    return (uint32_t)(load_u64(at + bit / 8) >> bit % 8 & mask);
}

och_code meta_list_rows(struct meta_reader *reader, const struct meta_column *column, uint32_t from,
                        uint32_t to, uint32_t *rows, och_error *err)
{
    unsigned bits = meta_row_bits(reader->index->rows);
    uint64_t mask = (1ull << bits) - 1;
    assert(from <= to && to <= column->entries);
    while (from < to) {
        struct list_run run;
        uint32_t most = 0;
        TRY(list_run(reader, column, from, to, &run, err));
        for (uint32_t i = 0; i < run.count; i++) {
            uint32_t row = list_row(run.at, run.first + i, bits, mask);
            most = row > most ? row : most;
            *rows++ = row;
        }
        if (most >= reader->index->rows)
            return meta_fault(reader, column, "a list names a row that is not there", err);
        from += run.count;
    }
    return OCH_OK;
}

och_code meta_list_bits(struct meta_reader *reader, const struct meta_column *column, uint32_t from,
                        uint32_t to, struct meta_window window, uint64_t *words, och_error *err)
{
    unsigned bits = meta_row_bits(reader->index->rows);
    uint64_t mask = (1ull << bits) - 1;
    uint32_t rows = reader->index->rows;
    assert(from <= to && to <= column->entries);
    while (from < to) {
        struct list_run run;
        TRY(list_run(reader, column, from, to, &run, err));
        for (uint32_t i = 0; i < run.count; i++) {
            uint32_t row = list_row(run.at, run.first + i, bits, mask);
            if (UNLIKELY(row >= rows))
                return meta_fault(reader, column, "a list names a row that is not there", err);
            row -= window.first; /* those before it wrap round */
            if (row < window.count)
                words[row / 64] |= 1ull << row % 64;
        }
        from += run.count;
    }
    return OCH_OK;
}

/* ---- slices ---- */

och_code meta_chunk_body(struct meta_reader *reader, const struct meta_column *column,
                         uint32_t chunk, struct meta_zone *ret_zone, const uint8_t **ret_body,
                         och_error *err)
{
    *ret_zone = meta_zone_at(column->zones, chunk);
    *ret_body = NULL;
    if (!ret_zone->width)
        return OCH_OK;
    uint32_t rows = meta_chunk_rows(reader->index->rows, chunk);
    return meta_read(reader, ret_zone->offset, meta_zone_size(rows, ret_zone->width), ret_body,
                     err);
}
