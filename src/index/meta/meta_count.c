/* SPDX-License-Identifier: Apache-2.0 */
/* How many rows have each value of a key, from dictionaries, lists and slices alone. */
#include "index/meta/meta_internal.h"

#define CHECK_VALUES 4096u

struct counting {
    const struct meta_count_options *options;
    struct meta_reader reader;
    struct meta_column column;
    uint32_t *counts; /* by ordinal; NULL: all rows count, the dictionary knows */
    uint32_t looked_at;
    bool emits, cut;
};

static och_code go_on(struct counting *c, och_error *err)
{
    const struct limits_of_work *limits = c->options->limits;
    return limits && ++c->looked_at % CHECK_VALUES == 0 ? work_check(limits, err) : OCH_OK;
}

/* ---- rows of the mask by ordinal ---- */

static och_code count_slices(struct counting *c, och_error *err)
{
    uint32_t rows = c->options->rows;
    for (uint32_t chunk = 0; chunk < meta_chunks(rows); chunk++) {
        struct meta_zone zone;
        const uint8_t *body;
        const uint64_t *mask = c->options->mask + (size_t)chunk * META_CHUNK_WORDS;
        TRY(meta_chunk_body(&c->reader, &c->column, chunk, &zone, &body, err));
        for (uint32_t w = 0; w * 64 < meta_chunk_rows(rows, chunk); w++) {
            TRY(go_on(c, err));
            for (uint64_t left = mask[w]; left; left &= left - 1) {
                uint32_t row = w * 64 + (uint32_t)__builtin_ctzll(left), ordinal = zone.min;
                if (body) {
                    uint32_t code = bits_code(body, zone.width, row);
                    if (zone.missing && !code)
                        continue;
                    ordinal = zone.min + code - zone.missing;
                }
                if (ordinal > c->column.ordinals)
                    return meta_fault(&c->reader, &c->column, "a code is too large", err);
                c->counts[ordinal]++;
            }
        }
        c->options->pages->release(c->options->pages->context);
    }
    return OCH_OK;
}

static och_code count_lists(struct counting *c, och_error *err)
{
    struct meta_cursor cursor = {.reader = &c->reader, .column = &c->column};
    uint32_t *rows = ARENA_ARRAY(c->options->arena, uint32_t, META_LIST_BLOCK);
    uint32_t read = 0; /* entries [.., read) were, the last of them lie in rows */
    if (!rows)
        return FAIL_NO_MEMORY(err, "counting values");
    for (uint32_t ordinal = 1, at = 0; ordinal <= c->column.ordinals; ordinal++) {
        uint32_t end;
        TRY(go_on(c, err));
        TRY(meta_entries_before(&cursor, ordinal + 1, &end, err));
        for (; at < end; at++) {
            if (at == read) {
                uint32_t next = c->column.entries - read < META_LIST_BLOCK ? c->column.entries
                                                                           : read + META_LIST_BLOCK;
                TRY(meta_list_rows(&c->reader, &c->column, read, next, rows, err));
                read = next;
            }
            uint32_t row = rows[at % META_LIST_BLOCK];
            c->counts[ordinal] += (uint32_t)(c->options->mask[row / 64] >> row % 64 & 1);
        }
    }
    return OCH_OK;
}

/* ---- values ---- */

static och_code count_of(struct counting *c, struct meta_cursor *cursor, uint32_t ordinal,
                         uint32_t *ret, och_error *err)
{
    uint32_t before, end;
    if (c->counts) {
        *ret = c->counts[ordinal];
        return OCH_OK;
    }
    TRY(meta_entries_before(cursor, ordinal, &before, err));
    TRY(meta_entries_before(cursor, ordinal + 1, &end, err));
    if (end < before)
        return meta_fault(&c->reader, &c->column, "counts do not ascend", err);
    *ret = end - before;
    return OCH_OK;
}

struct string_context {
    struct counting *c;
    struct meta_cursor *before; /* of its own: a walk moves on */
};

static och_code take_string(void *context, uint32_t ordinal, slice text, och_error *err)
{
    struct string_context *s = context;
    struct counting *c = s->c;
    uint32_t count;
    TRY(go_on(c, err));
    TRY(count_of(c, s->before, ordinal, &count, err));
    c->cut = c->cut || (count && meta_string_is_cut(text));
    if (!count || !c->emits)
        return OCH_OK;
    return c->options->counted(c->options->context, META_STRING, text, count, err);
}

static och_code take_numbers(struct counting *c, och_error *err)
{
    struct meta_cursor cursor = {.reader = &c->reader, .column = &c->column};
    bool is_int = c->column.type == META_INT || c->column.type == META_INTS,
         is_bool = c->column.type == META_BOOL || c->column.type == META_BOOLS;
    for (uint32_t ordinal = 1; ordinal <= c->column.ordinals; ordinal++) {
        uint32_t count = 0;
        uint64_t image;
        uint8_t bytes[8];
        TRY(go_on(c, err));
        TRY(count_of(c, &cursor, ordinal, &count, err));
        if (!count)
            continue;
        TRY(meta_image_at(&cursor, ordinal, &image, err));
        if (is_bool)
            bytes[0] = image != 0;
        else if (is_int)
            store_u64(bytes, image ^ 1ull << 63);
        else
            store_u64(bytes, image >> 63 ? image ^ 1ull << 63 : ~image);
        uint8_t type = is_bool ? META_BOOL : is_int ? META_INT : META_FLOAT;
        TRY(c->options->counted(c->options->context, type, slice_make(bytes, is_bool ? 1 : 8),
                                count, err));
    }
    return OCH_OK;
}

static och_code count_column(struct counting *c, och_error *err)
{
    bool slices = c->column.has & META_HAS_SLICES;
    c->counts = NULL;
    if (!c->options->mask)
        return OCH_OK;
    c->counts = ARENA_ARRAY(c->options->arena, uint32_t, (size_t)c->column.ordinals + 1);
    if (!c->counts)
        return FAIL_NO_MEMORY(err, "counting values");
    return slices ? count_slices(c, err) : count_lists(c, err);
}

/* `emits` false: only find out whether values were cut. */
static och_code walk_column(struct counting *c, bool emits, och_error *err)
{
    struct meta_cursor cursor = {.reader = &c->reader, .column = &c->column}, before = cursor;
    struct string_context context = {c, &before};
    c->emits = emits;
    if (meta_type_is_string(c->column.type))
        return meta_walk_strings(&cursor, 1, c->column.ordinals + 1, take_string, &context, err);
    return emits ? take_numbers(c, err) : OCH_OK;
}

static och_code count_all(struct counting *c, uint32_t first, uint32_t columns, bool *ret_known,
                          och_error *err)
{
    uint32_t *counts[META_SPARSE + 1] = {0};
    if (columns > META_SPARSE)
        return OCH_OK; /* a column for each type, at most */
    for (int pass = 0; pass < 2; pass++) {
        for (uint32_t i = 0; i < columns && !c->cut; i++) {
            c->column = meta_column_at(c->options->index, first + i);
            if (c->column.type == META_EMPTY || c->column.type == META_SPARSE)
                continue;
            if (c->column.has & META_UNINDEXED)
                return OCH_OK;
            if (!pass)
                TRY(count_column(c, err));
            else
                c->counts = counts[i];
            counts[i] = c->counts;
            TRY(walk_column(c, pass, err));
            c->options->pages->release(c->options->pages->context);
        }
    }
    *ret_known = !c->cut;
    return OCH_OK;
}

och_code meta_count_values(const struct meta_count_options *options, bool *ret_known,
                           bool *ret_damaged, och_error *err)
{
    struct counting c = {.options = options,
                         .reader = {.index = options->index, .pages = options->pages}};
    uint32_t columns, first = meta_columns_of(options->index, options->key, &columns);
    *ret_known = *ret_damaged = false;
    if (options->index->incomplete)
        return OCH_OK;
    och_code code = count_all(&c, first, columns, ret_known, err);
    options->pages->release(options->pages->context);
    *ret_damaged = code != OCH_OK && c.reader.damaged;
    return code;
}
