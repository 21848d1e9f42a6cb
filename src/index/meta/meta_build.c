/* SPDX-License-Identifier: Apache-2.0 */
/* Collecting columns from rows in part order: 12 bytes a value, and what distinct strings there are.  All columns at once as far as the memory
 * goes; those met last wait for another pass over the rows.  Columns are written in the order in which they were met, so the bytes do not
 * tell how many passes it took. */
#include "index/meta/meta_build.h"

#include <stdlib.h>

#define COLUMN_COST   512u
#define KEY_BYTES_MAX (64u << 20)

och_code meta_build_new(const struct meta_build_options *options, struct meta_build **ret_build,
                        och_error *err)
{
    struct meta_build *build = MEM_NEW(struct meta_build);
    if (!build)
        return FAIL_NO_MEMORY(err, "a metadata index");
    build->options = *options;
    arena_init(&build->arena, NULL, 0); /* charged by hand */
    map_init(&build->keys);
    build->writer.rows = options->rows;
    buf_init(&build->writer.tail, BUF_MAX_NONE);
    buf_init(&build->writer.entries, BUF_MAX_NONE);
    buf_init(&build->writer.keys, BUF_MAX_NONE);
    buf_init(&build->writer.block, BUF_MAX_NONE);
    *ret_build = build;
    return OCH_OK;
}

void meta_column_clear(struct meta_build *build, struct column *column)
{
    VEC_DONE(&column->images);
    VEC_DONE(&column->ids);
    VEC_DONE(&column->rows);
    VEC_DONE(&column->strings);
    mem_free(column->slots);
    column->slots = NULL;
    arena_done(&column->text);
    if (build->options.budget)
        budget_give(build->options.budget, column->charged);
    build->collected -= column->charged;
    column->charged = 0;
    column->present = column->last_row = 0;
}

void meta_build_free(struct meta_build *build)
{
    if (!build)
        return;
    for (size_t i = 0; i < build->columns.len; i++) {
        meta_column_clear(build, build->columns.at[i]);
        mem_free(build->columns.at[i]);
    }
    if (build->options.budget)
        budget_give(build->options.budget, build->key_bytes);
    VEC_DONE(&build->columns);
    VEC_DONE(&build->key_columns);
    VEC_DONE(&build->hints);
    map_done(&build->keys);
    arena_done(&build->arena);
    buf_done(&build->writer.tail);
    buf_done(&build->writer.entries);
    buf_done(&build->writer.keys);
    buf_done(&build->writer.block);
    mem_free(build);
}

bool meta_build_wanted(const struct meta_build *build)
{
    return !build->abandoned && (build->columns.len || build->incomplete);
}

/* ---- memory ---- */

static bool put_off_last(struct meta_build *build, const struct column *but)
{
    for (size_t i = build->columns.len; i-- > 0;) {
        struct column *column = build->columns.at[i];
        if (column == but || column->state != COLLECTING || !column->charged)
            continue;
        meta_column_clear(build, column);
        column->state = DEFERRED;
        return true;
    }
    return false;
}

bool meta_column_charge(struct meta_build *build, struct column *column, size_t bytes)
{
    while (build->options.budget &&
           budget_take(build->options.budget, bytes, "a metadata index", NULL) != OCH_OK) {
        if (put_off_last(build, column))
            continue;
        meta_column_clear(build, column);
        column->state = FAILED;
        return false;
    }
    column->charged += bytes;
    build->collected += bytes;
    return true;
}

/* Over the room for one pass: the columns met last go, this one perhaps among them, but never the only one. */
static void keep_to_room(struct meta_build *build)
{
    while (build->collected > build->options.work_bytes) {
        struct column *first = NULL;
        for (size_t i = 0; i < build->columns.len && !first; i++) {
            if (build->columns.at[i]->state == COLLECTING && build->columns.at[i]->charged)
                first = build->columns.at[i];
        }
        if (!put_off_last(build, first))
            return;
    }
}

/* ---- rows ---- */

/* False: the part goes without an index. */
static bool charge_key(struct meta_build *build, slice key)
{
    size_t bytes = key.len + COLUMN_COST;
    build->abandoned = build->options.budget && budget_take(build->options.budget, bytes,
                                                            "a metadata index", NULL) != OCH_OK;
    build->key_bytes += build->abandoned ? 0 : bytes;
    return !build->abandoned;
}

static och_code column_new(struct meta_build *build, slice key, uint8_t type,
                           struct column **ret_column, och_error *err)
{
    struct column *column = MEM_NEW(struct column);
    if (!column)
        return FAIL_NO_MEMORY(err, "a metadata index");
    *column = (struct column){.key = key, .type = type};
    arena_init(&column->text, NULL, 0); /* charged by hand */
    if (!VEC_PUSH(&build->columns, column)) {
        mem_free(column);
        return FAIL_NO_MEMORY(err, "a metadata index");
    }
    *ret_column = column;
    return OCH_OK;
}

/* *ret_column NULL: there are too many. */
static och_code find_column(struct meta_build *build, slice key, uint8_t type,
                            struct column **ret_column, och_error *err)
{
    bool is_new;
    *ret_column = NULL;
    uint64_t *place = map_find(&build->keys, key);
    uint32_t *number = place ? &build->key_columns.at[*place].columns[type] : NULL;
    if (place && *number) {
        *ret_column = build->columns.at[*number - 1];
        return OCH_OK;
    }
    if (build->columns.len >= META_COLUMNS_MAX || build->key_bytes + key.len > KEY_BYTES_MAX) {
        build->incomplete = true;
        return OCH_OK;
    }
    if (!charge_key(build, key))
        return OCH_OK;
    if (!place) {
        slice copy = arena_copy(&build->arena, key);
        if (!copy.at || !VEC_PUSH(&build->key_columns, (struct key){{0}}))
            return FAIL_NO_MEMORY(err, "a metadata index");
        place = map_at(&build->keys, copy, &is_new);
        if (!place)
            return FAIL_NO_MEMORY(err, "a metadata index");
        *place = build->key_columns.len - 1;
        key = copy;
    } else { /* the key as another column has it */
        const struct key *known = &build->key_columns.at[*place];
        for (unsigned other = 0; other <= META_SPARSE; other++) {
            if (known->columns[other])
                key = build->columns.at[known->columns[other] - 1]->key;
        }
    }
    number = &build->key_columns.at[*place].columns[type];
    TRY(column_new(build, key, type, ret_column, err));
    *number = (uint32_t)build->columns.len;
    return OCH_OK;
}

/* Not as in the row before. */
static NO_INLINE och_code column_of(struct meta_build *build, size_t position,
                                    const struct meta_entry *entry, struct column **ret_column,
                                    och_error *err)
{
    TRY(find_column(build, entry->key, entry->type, ret_column, err));
    if (!*ret_column)
        return OCH_OK;
    uint32_t number =
        build->key_columns.at[*map_find(&build->keys, entry->key)].columns[entry->type] - 1;
    if (position < build->hints.len)
        build->hints.at[position] = number;
    else if (position == build->hints.len && !VEC_PUSH(&build->hints, number))
        return FAIL_NO_MEMORY(err, "a metadata index");
    return OCH_OK;
}

static ALWAYS_INLINE och_code add_entry(struct meta_build *build, size_t position,
                                        const struct meta_entry *entry, och_error *err)
{
    struct column *column =
        position < build->hints.len ? build->columns.at[build->hints.at[position]] : NULL;
    bool fine;
    if (UNLIKELY(!column || column->type != entry->type || !meta_same(column->key, entry->key))) {
        if (entry->type == META_DELETE)
            return OCH_OK;
        if (entry->type < META_BOOL || entry->type > META_SPARSE) {
            build->abandoned = true;
            return OCH_OK;
        }
        TRY(column_of(build, position, entry, &column, err));
        if (!column)
            return OCH_OK;
    }
    if (column->state != COLLECTING)
        return OCH_OK;
    TRY(meta_collect(build, column, entry->value, &fine, err));
    build->abandoned = build->abandoned || !fine;
    return OCH_OK;
}

/* Does the key come behind the other?  Nearly always the first bytes tell. */
static ALWAYS_INLINE bool ascends(slice before, slice key)
{
    if (before.len && key.len && before.at[0] != key.at[0])
        return before.at[0] < key.at[0];
    return slice_compare(before, key) < 0;
}

/* A length and as many bytes; NULL: they are not there.  Lengths below 128 are nearly all there is. */
static ALWAYS_INLINE const uint8_t *sized(const uint8_t *at, const uint8_t *end, slice *ret)
{
    if (LIKELY(at < end && *at < 128)) {
        *ret = slice_make(at + 1, *at);
        return LIKELY(*at < end - at) ? at + 1 + *at : NULL;
    }
    struct reader reader = {at, end, false};
    *ret = reader_sized(&reader);
    return reader.failed ? NULL : reader.at;
}

/* meta_iter_next, unrolled into the loop below. */
static ALWAYS_INLINE const uint8_t *next_entry(const uint8_t *at, const uint8_t *end,
                                               struct meta_entry *ret)
{
    at = sized(at, end, &ret->key);
    if (UNLIKELY(!at || at == end))
        return NULL;
    ret->type = *at++;
    return sized(at, end, &ret->value);
}

och_code meta_build_row(struct meta_build *build, slice metadata, och_error *err)
{
    struct meta_iter iter;
    struct meta_entry entry;
    slice before = SLICE_NONE;
    assert(build->row < build->options.rows);
    meta_iter_init(&iter, metadata);
    const uint8_t *at = iter.reader.at, *end = iter.reader.end;
    build->abandoned = build->abandoned || iter.reader.failed;
    for (size_t i = 0; !build->abandoned && i < iter.left; i++) {
        at = next_entry(at, end, &entry);
        if (!at || (i && !ascends(before, entry.key))) { // a look-up would find but the first
            build->abandoned = true;
            break;
        }
        TRY(add_entry(build, i, &entry, err));
        before = entry.key;
    }
    if (build->collected > build->options.work_bytes)
        keep_to_room(build);
    build->row++;
    return OCH_OK;
}

/* ---- columns in order ---- */

static och_code write_column(struct meta_build *build, struct column *column, uint32_t *codes,
                             och_error *err)
{
    if (column->state == COLLECTING && !column->rows.len)
        return FAIL(err, OCH_INTERNAL, "a metadata key that was met has no values");
    if (column->state == FAILED || !meta_column_charge(build, column, meta_sort_bytes(column))) {
        column->state = FAILED;
        return meta_write_unindexed(&build->writer, column->key, column->type, 0, err);
    }
    och_code code = meta_sort_column(build, column, codes, err);
    meta_column_clear(build, column);
    column->state = DONE;
    return code;
}

och_code meta_build_pass_end(struct meta_build *build, meta_emit emit, void *context,
                             bool *ret_more, och_error *err)
{
    struct budget *budget = build->options.budget;
    size_t codes_bytes = meta_codes_bytes(build->options.rows);
    assert(build->row == build->options.rows);
    *ret_more = false;
    build->row = 0;
    build->pass++;
    TRY(meta_collect_end(build, err));
    if (!meta_build_wanted(build))
        return OCH_OK;
    if (budget && budget_take(budget, codes_bytes, "a metadata index", NULL) != OCH_OK) {
        build->abandoned = true;
        return OCH_OK;
    }
    uint32_t *codes = mem_alloc(codes_bytes);
    och_code code = codes ? OCH_OK : FAIL_NO_MEMORY(err, "a metadata index");
    build->writer.emit = emit;
    build->writer.context = context;
    bool wrote_all = true; /* so far: what comes behind a column put off waits for it */
    for (size_t i = 0; i < build->columns.len && code == OCH_OK; i++) {
        struct column *column = build->columns.at[i];
        if (column->state == DEFERRED)
            wrote_all = false;
        if (!wrote_all && column->state == COLLECTING) {
            meta_column_clear(build, column);
            column->state = DEFERRED;
        }
        bool unwritten = column->state == COLLECTING || (column->state == FAILED && wrote_all);
        if (unwritten && !(column->state == FAILED && column->last_row == UINT32_MAX)) {
            code = write_column(build, column, codes, err);
            if (column->state == FAILED)
                column->last_row = UINT32_MAX; /* written as such */
        }
        if (code == OCH_OK && build->options.limits)
            code = work_check(build->options.limits, err);
    }
    mem_free(codes);
    if (budget)
        budget_give(budget, codes_bytes);
    for (size_t i = 0; i < build->columns.len; i++) {
        struct column *column = build->columns.at[i];
        if (column->state == DEFERRED) {
            column->state = COLLECTING;
            *ret_more = true;
        }
    }
    return code;
}

och_code meta_build_finish(struct meta_build *build, meta_emit emit, void *context,
                           uint64_t *ret_len, och_error *err)
{
    build->writer.emit = emit;
    build->writer.context = context;
    return meta_write_directory(&build->writer, build->incomplete, ret_len, err);
}
