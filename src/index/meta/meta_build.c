/* SPDX-License-Identifier: Apache-2.0 */
/* Collecting columns from rows in part order: 12 bytes a value, and what distinct strings there are.  All columns at once as far as the memory
 * goes; those met last wait for another pass over the rows.  Columns are written in the order in which they were met, so the bytes do not
 * tell how many passes it took. */
#include "index/meta/meta_tree.h"

#include "base/map.h"
#include "base/vec.h"

#include <stdlib.h>

#define STRING_COST   96u /* bytes a distinct string takes besides itself */
#define COLUMN_COST   512u
#define KEY_BYTES_MAX (64u << 20)

enum column_state { COLLECTING, DEFERRED, DONE, FAILED };

struct column {
    slice key; /* of the build's arena */
    uint8_t type, state;
    uint32_t present, last_row; /* rows with a value; the last of them + 1 */
    VEC(uint64_t) images;
    VEC(uint32_t) ids; /* of strings, as met */
    VEC(uint32_t) rows;
    VEC(slice) strings; /* by id */
    struct map map;     /* string -> id */
    struct arena text;
    size_t charged;
};
struct key {
    uint32_t columns[META_SPARSE + 1]; /* + 1; 0: none */
};

struct meta_build {
    struct meta_build_options options;
    struct arena arena; /* keys */
    struct map keys;    /* key -> its place in key_columns */
    VEC(struct key) key_columns;
    VEC(struct column *) columns;
    VEC(uint32_t) hints; /* columns of the row before, by position: rows are much alike */
    size_t collected;    /* bytes of columns being collected */
    size_t key_bytes;    /* charged for columns as such */
    uint32_t row, pass;
    bool abandoned, incomplete;
    struct meta_writer writer;
};

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

/* Forget what was collected, not the column. */
static void column_clear(struct meta_build *build, struct column *column)
{
    VEC_DONE(&column->images);
    VEC_DONE(&column->ids);
    VEC_DONE(&column->rows);
    VEC_DONE(&column->strings);
    map_done(&column->map);
    map_init(&column->map);
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
        column_clear(build, build->columns.at[i]);
        map_done(&build->columns.at[i]->map);
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
        column_clear(build, column);
        column->state = DEFERRED;
        return true;
    }
    return false;
}

/* Count memory against the column.  False: it cannot be had, and the column is given up. */
static bool charge(struct meta_build *build, struct column *column, size_t bytes)
{
    while (build->options.budget &&
           budget_take(build->options.budget, bytes, "a metadata index", NULL) != OCH_OK) {
        if (put_off_last(build, column))
            continue;
        column_clear(build, column);
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

/* Room for one more value. */
static och_code reserve(struct meta_build *build, struct column *column, och_error *err)
{
    size_t room = column->rows.cap, unit = meta_type_is_string(column->type) ? 8 : 12;
    if (column->rows.len < room)
        return OCH_OK;
    if (column->rows.len >= UINT32_MAX / 2) { /* arrays */
        column_clear(build, column);
        column->state = FAILED;
        return OCH_OK;
    }
    size_t wanted = room ? room * 2 : 16;
    wanted =
        room < build->options.rows && wanted > build->options.rows ? build->options.rows : wanted;
    if (!charge(build, column, (wanted - room) * unit))
        return OCH_OK;
    bool fine = VEC_RESERVE(&column->rows, wanted) &&
                (meta_type_is_string(column->type) ? VEC_RESERVE(&column->ids, wanted)
                                                   : VEC_RESERVE(&column->images, wanted));
    if (!fine)
        return FAIL_NO_MEMORY(err, "a metadata index");
    return OCH_OK;
}

/* ---- values ---- */

static void note_row(struct meta_build *build, struct column *column)
{
    column->rows.at[column->rows.len++] = build->row;
    if (column->last_row != build->row + 1)
        column->present++;
    column->last_row = build->row + 1;
}

static och_code add_image(struct meta_build *build, struct column *column, uint64_t image,
                          och_error *err)
{
    TRY(reserve(build, column, err));
    if (column->state != COLLECTING)
        return OCH_OK;
    column->images.at[column->images.len++] = image;
    note_row(build, column);
    return OCH_OK;
}

static och_code id_of(struct meta_build *build, struct column *column, slice text, uint32_t *ret,
                      och_error *err)
{
    uint64_t *found = map_find(&column->map, text);
    bool is_new;
    if (found) {
        *ret = (uint32_t)*found;
        return OCH_OK;
    }
    if (!charge(build, column, STRING_COST + text.len))
        return OCH_OK;
    slice copy = arena_copy(&column->text, text);
    uint64_t *place = copy.at ? map_at(&column->map, copy, &is_new) : NULL;
    if (!place || !VEC_PUSH(&column->strings, copy))
        return FAIL_NO_MEMORY(err, "a metadata index");
    *ret = (uint32_t)column->strings.len - 1;
    *place = *ret;
    return OCH_OK;
}

static och_code add_string(struct meta_build *build, struct column *column, slice text,
                           och_error *err)
{
    uint8_t room[META_STRING_MAX + 1];
    uint32_t id = 0;
    TRY(reserve(build, column, err));
    if (column->state == COLLECTING)
        TRY(id_of(build, column, meta_cut(text, room), &id, err));
    if (column->state != COLLECTING)
        return OCH_OK;
    column->ids.at[column->ids.len++] = id;
    note_row(build, column);
    return OCH_OK;
}

static bool add_numbers(struct meta_build *build, struct column *column, slice value,
                        och_code *ret_code, och_error *err)
{
    bool floats = column->type == META_FLOAT || column->type == META_FLOATS;
    if (value.len % 8 || !value.len)
        return false;
    for (size_t at = 0; at < value.len && *ret_code == OCH_OK; at += 8) {
        uint64_t image = floats ? meta_image_float(load_f64(value.at + at))
                                : meta_image_int((int64_t)load_u64(value.at + at));
        *ret_code = add_image(build, column, image, err);
    }
    return true;
}

/* False: not a value of that type. */
static bool add_value(struct meta_build *build, struct column *column, slice value,
                      och_code *ret_code, och_error *err)
{
    *ret_code = OCH_OK;
    switch (column->type) {
    case META_BOOL:
    case META_BOOLS:
        for (size_t i = 0; i < value.len && *ret_code == OCH_OK; i++)
            *ret_code = add_image(build, column, value.at[i] != 0, err);
        return value.len != 0;
    case META_INT:
    case META_FLOAT:
    case META_INTS:
    case META_FLOATS:
        return add_numbers(build, column, value, ret_code, err);
    case META_STRING:
        *ret_code = add_string(build, column, value, err);
        return true;
    case META_STRINGS: {
        struct reader reader = reader_of(value);
        while (*ret_code == OCH_OK && reader_left(&reader)) {
            slice element = reader_sized(&reader);
            if (reader.failed)
                return false;
            *ret_code = add_string(build, column, element, err);
        }
        return value.len != 0;
    }
    default: /* empty arrays, sparse vectors: only that they are there */
        *ret_code = add_image(build, column, 0, err);
        return true;
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
    map_init(&column->map);
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

static och_code column_of(struct meta_build *build, size_t position, const struct meta_entry *entry,
                          struct column **ret_column, och_error *err)
{
    if (position < build->hints.len) {
        struct column *guess = build->columns.at[build->hints.at[position]];
        if (guess->type == entry->type && slice_equal(guess->key, entry->key)) {
            *ret_column = guess;
            return OCH_OK;
        }
    }
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

static och_code add_entry(struct meta_build *build, size_t position, const struct meta_entry *entry,
                          och_error *err)
{
    struct column *column;
    och_code code;
    if (entry->type == META_DELETE)
        return OCH_OK;
    if (entry->type < META_BOOL || entry->type > META_SPARSE) {
        build->abandoned = true;
        return OCH_OK;
    }
    TRY(column_of(build, position, entry, &column, err));
    if (!column || column->state != COLLECTING)
        return OCH_OK;
    if (!add_value(build, column, entry->value, &code, err))
        build->abandoned = true;
    return code;
}

och_code meta_build_row(struct meta_build *build, slice metadata, och_error *err)
{
    struct meta_iter iter;
    struct meta_entry entry;
    assert(build->row < build->options.rows);
    slice before = SLICE_NONE;
    meta_iter_init(&iter, metadata);
    for (size_t i = 0; !build->abandoned && meta_iter_next(&iter, &entry); i++) {
        if (i && slice_compare(before, entry.key) >= 0) // a look-up would find but the first
            build->abandoned = true;
        TRY(add_entry(build, i, &entry, err));
        before = entry.key;
    }
    build->abandoned = build->abandoned || iter.reader.failed;
    if (build->collected > build->options.work_bytes)
        keep_to_room(build);
    build->row++;
    return OCH_OK;
}

/* ---- columns in order ---- */

struct pairs {
    uint64_t *images;
    uint32_t *rows;
};

/* Least significant byte first, only bytes in which values differ; stable, so that rows of one value ascend.  False: the result is in `to`. */
static bool radix_sort(struct pairs from, struct pairs to, uint32_t count)
{
    uint32_t starts[256];
    uint64_t differ = 0;
    bool here = true;
    for (uint32_t i = 1; i < count; i++)
        differ |= from.images[i] ^ from.images[0];
    for (unsigned shift = 0; shift < 64; shift += 8) {
        if (!(differ >> shift & 255))
            continue;
        memset(starts, 0, sizeof(starts));
        for (uint32_t i = 0; i < count; i++)
            starts[from.images[i] >> shift & 255]++;
        for (uint32_t i = 0, sum = 0; i < 256; i++) {
            uint32_t next = sum + starts[i];
            starts[i] = sum;
            sum = next;
        }
        for (uint32_t i = 0; i < count; i++) {
            uint32_t place = starts[from.images[i] >> shift & 255]++;
            to.images[place] = from.images[i];
            to.rows[place] = from.rows[i];
        }
        struct pairs other = from;
        from = to;
        to = other;
        here = !here;
    }
    return here;
}

/* Distinct values to the front; a row that repeats a value counts once. */
static void make_distinct(struct meta_values *values, uint64_t *images, uint32_t *rows,
                          uint32_t count, uint32_t *before)
{
    uint32_t ordinals = 0, kept = 0;
    uint64_t last = 0;
    for (uint32_t i = 0; i < count; i++) {
        uint64_t image = images[i];
        bool is_new = !i || image != last;
        if (is_new) {
            images[ordinals] = image;
            before[ordinals++] = kept;
        }
        if (is_new || rows[kept - 1] != rows[i])
            rows[kept++] = rows[i];
        last = image;
    }
    before[ordinals] = kept;
    values->images = images;
    values->rows = rows;
    values->before = before;
    values->ordinals = ordinals;
    values->entries = kept;
}

static och_code write_numbers(struct meta_build *build, struct column *column, uint32_t *codes,
                              och_error *err)
{
    uint32_t count = (uint32_t)column->rows.len;
    struct meta_values values = {
        .key = column->key, .type = column->type, .present = column->present};
    CLEANUP(mem_cleanup) uint64_t *images = mem_alloc((size_t)count * 8);
    CLEANUP(mem_cleanup) uint32_t *rows = mem_alloc((size_t)count * 4);
    CLEANUP(mem_cleanup) uint32_t *before = mem_alloc(((size_t)count + 1) * 4);
    if (!images || !rows || !before)
        return FAIL_NO_MEMORY(err, "a metadata index");
    struct pairs mine = {column->images.at, column->rows.at}, scratch = {images, rows};
    struct pairs sorted = radix_sort(mine, scratch, count) ? mine : scratch;
    make_distinct(&values, sorted.images, sorted.rows, count, before);
    return meta_write_column(&build->writer, &values, codes, err);
}

struct ranked {
    slice text;
    uint32_t id;
};
static int compare_ranked(const void *a, const void *b)
{
    return slice_compare(((const struct ranked *)a)->text, ((const struct ranked *)b)->text);
}

/* Ids become ordinals; then rows by ordinal, in one counting sort. */
static och_code write_strings(struct meta_build *build, struct column *column, uint32_t *codes,
                              och_error *err)
{
    uint32_t count = (uint32_t)column->rows.len, distinct = (uint32_t)column->strings.len;
    CLEANUP(mem_cleanup) struct ranked *ranked = mem_alloc(distinct * sizeof(*ranked));
    CLEANUP(mem_cleanup) uint32_t *ranks = mem_alloc((size_t)distinct * 4);
    CLEANUP(mem_cleanup) uint32_t *before = mem_zalloc(((size_t)distinct + 2) * 4);
    CLEANUP(mem_cleanup) uint32_t *rows = mem_alloc((size_t)count * 4);
    if (!ranked || !ranks || !before || !rows)
        return FAIL_NO_MEMORY(err, "a metadata index");
    for (uint32_t i = 0; i < distinct; i++)
        ranked[i] = (struct ranked){column->strings.at[i], i};
    qsort(ranked, distinct, sizeof(*ranked), compare_ranked);
    for (uint32_t i = 0; i < distinct; i++) {
        ranks[ranked[i].id] = i;
        column->strings.at[i] = ranked[i].text; /* now by rank */
    }
    for (uint32_t i = 0; i < count; i++)
        before[ranks[column->ids.at[i]] + 2]++;
    for (uint32_t i = 0; i < distinct; i++)
        before[i + 2] += before[i + 1];
    for (uint32_t i = 0; i < count; i++) /* before[o + 1] runs to the end of o */
        rows[before[ranks[column->ids.at[i]] + 1]++] = column->rows.at[i];
    uint32_t kept = 0;
    for (uint32_t o = 0, i = 0; o < distinct; o++) { /* a row that repeats a value counts once */
        uint32_t end = before[o + 1], begin = kept;
        before[o] = begin;
        for (; i < end; i++) {
            if (kept == begin || rows[kept - 1] != rows[i])
                rows[kept++] = rows[i];
        }
    }
    before[distinct] = kept;
    struct meta_values values = {.key = column->key,
                                 .type = column->type,
                                 .ordinals = distinct,
                                 .entries = kept,
                                 .strings = column->strings.at,
                                 .before = before,
                                 .rows = rows,
                                 .present = column->present};
    return meta_write_column(&build->writer, &values, codes, err);
}

static och_code write_column(struct meta_build *build, struct column *column, uint32_t *codes,
                             och_error *err)
{
    bool strings = meta_type_is_string(column->type);
    size_t scratch = column->rows.len * (strings ? 4 : 16) + column->strings.len * 40;
    if (column->state == COLLECTING && !column->rows.len)
        return FAIL(err, OCH_INTERNAL, "a metadata key that was met has no values");
    /* Sorting takes as much again. */
    if (column->state == FAILED || !charge(build, column, scratch)) {
        column->state = FAILED;
        return meta_write_unindexed(&build->writer, column->key, column->type, 0, err);
    }
    och_code code = strings ? write_strings(build, column, codes, err)
                            : write_numbers(build, column, codes, err);
    column_clear(build, column);
    column->state = DONE;
    return code;
}

och_code meta_build_pass_end(struct meta_build *build, meta_emit emit, void *context,
                             bool *ret_more, och_error *err)
{
    struct budget *budget = build->options.budget;
    size_t codes_bytes = (size_t)build->options.rows * 4;
    assert(build->row == build->options.rows);
    *ret_more = false;
    build->row = 0;
    build->pass++;
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
            column_clear(build, column);
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
