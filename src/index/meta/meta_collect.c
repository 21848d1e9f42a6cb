/* SPDX-License-Identifier: Apache-2.0 */
/* Values of a column as rows bring them: images of numbers, ids of strings in the order in which they were met. */
#include "index/meta/meta_build.h"

#define STRING_COST 96u /* bytes a distinct string takes besides itself */
#define SLOTS_FIRST 64u
#define DENSE_LEAST 4096u /* so many values in half of the rows: it will go on */

/* Room for one more value; a column that cannot have it is no longer COLLECTING. */
static NO_INLINE och_code reserve(struct meta_build *build, struct column *column, och_error *err)
{
    bool strings = meta_type_is_string(column->type);
    size_t room = column->rows.cap, unit = strings ? 8 : 12, limit = build->options.rows;
    if (column->rows.len >= UINT32_MAX / 2) { /* arrays */
        meta_column_clear(build, column);
        column->state = FAILED;
        return OCH_OK;
    }
    bool dense = column->rows.len >= DENSE_LEAST && column->rows.len >= build->row / 2;
    size_t wanted = room ? room * (dense ? 8 : 2) : 16;
    wanted = room < limit && wanted > limit ? limit : wanted;
    if (!meta_column_charge(build, column, (wanted - room) * unit))
        return OCH_OK;
    bool fine =
        VEC_RESERVE(&column->rows, wanted) &&
        (strings ? VEC_RESERVE(&column->ids, wanted) : VEC_RESERVE(&column->images, wanted));
    return fine ? OCH_OK : FAIL_NO_MEMORY(err, "a metadata index");
}

static ALWAYS_INLINE bool has_room(const struct column *column)
{
    return LIKELY(column->rows.len < column->rows.cap);
}

static ALWAYS_INLINE void note_row(const struct meta_build *build, struct column *column)
{
    column->rows.at[column->rows.len++] = build->row;
    column->present += column->last_row != build->row + 1;
    column->last_row = build->row + 1;
}

static ALWAYS_INLINE och_code add_image(struct meta_build *build, struct column *column,
                                        uint64_t image, och_error *err)
{
    if (!has_room(column)) {
        TRY(reserve(build, column, err));
        if (column->state != COLLECTING)
            return OCH_OK;
    }
    column->images.at[column->images.len++] = image;
    note_row(build, column);
    return OCH_OK;
}

/* ---- strings ---- */

/* Twice the slots; at most half of them are taken. */
static bool grow_slots(struct column *column)
{
    uint64_t cap = column->slots ? 2 * (column->slot_mask + 1) : SLOTS_FIRST, mask = cap - 1;
    uint64_t *slots = mem_zalloc((size_t)cap * sizeof(*slots));
    if (!slots)
        return false;
    for (uint64_t i = 0; column->slots && i <= column->slot_mask; i++) {
        if (!column->slots[i])
            continue;
        uint64_t to = column->slots[i] >> 32 & mask;
        while (slots[to])
            to = (to + 1) & mask;
        slots[to] = column->slots[i];
    }
    mem_free(column->slots);
    column->slots = slots;
    column->slot_mask = mask;
    return true;
}

static och_code id_new(struct meta_build *build, struct column *column, slice text, uint32_t half,
                       uint32_t *ret, och_error *err)
{
    if (!meta_column_charge(build, column, STRING_COST + text.len))
        return OCH_OK;
    slice copy = arena_copy(&column->text, text);
    if (!copy.at || !VEC_PUSH(&column->strings, copy))
        return FAIL_NO_MEMORY(err, "a metadata index");
    if ((!column->slots || column->strings.len > column->slot_mask / 2) && !grow_slots(column))
        return FAIL_NO_MEMORY(err, "a metadata index");
    uint64_t at = half & column->slot_mask;
    while (column->slots[at])
        at = (at + 1) & column->slot_mask;
    column->slots[at] = (uint64_t)half << 32 | column->strings.len;
    *ret = (uint32_t)column->strings.len - 1;
    return OCH_OK;
}

/* The next slot at or behind *at with that half of a hash; 0: a free one came first. */
static ALWAYS_INLINE uint32_t next_id(const struct column *column, uint64_t *at, uint32_t half)
{
    if (UNLIKELY(!column->slots))
        return 0;
    for (;; ++*at) {
        uint64_t slot = column->slots[*at & column->slot_mask];
        if (!slot || slot >> 32 == half)
            return (uint32_t)slot;
    }
}

static och_code id_of(struct meta_build *build, struct column *column, slice text, uint32_t half,
                      uint32_t *ret, och_error *err)
{
    uint64_t at = half;
    for (uint32_t id; (id = next_id(column, &at, half)) != 0; at++) {
        if (meta_same(column->strings.at[id - 1], text)) {
            *ret = id - 1;
            return OCH_OK;
        }
    }
    return id_new(build, column, text, half, ret, err);
}

/* Step by step for all that wait: slots were asked for when they came. */
och_code meta_collect_end(struct meta_build *build, och_error *err)
{
    uint32_t count = build->waiting_count;
    build->waiting_count = 0;
    for (uint32_t i = 0; i < count; i++) {
        struct waiting *w = &build->waiting[i];
        uint64_t at = w->half;
        w->id = w->column->state == COLLECTING ? next_id(w->column, &at, w->half) : 0;
        if (w->id)
            __builtin_prefetch(&w->column->strings.at[w->id - 1]);
    }
    for (uint32_t i = 0; i < count; i++) {
        const struct waiting *w = &build->waiting[i];
        if (w->id)
            __builtin_prefetch(w->column->strings.at[w->id - 1].at);
    }
    for (uint32_t i = 0; i < count; i++) {
        struct waiting *w = &build->waiting[i];
        slice text = slice_make(w->text, w->len);
        if (w->column->state != COLLECTING) /* given up or put off meanwhile */
            continue;
        uint32_t id = w->id - 1;
        if (!w->id || !meta_same(w->column->strings.at[id], text))
            TRY(id_of(build, w->column, text, w->half, &id, err));
        if (w->column->state == COLLECTING)
            w->column->ids.at[w->place] = id;
    }
    return OCH_OK;
}

static ALWAYS_INLINE void copy_short(uint8_t *to, slice text)
{
    if (text.len >= 8 && text.len <= 16) {
        uint64_t low = load_u64(text.at), high = load_u64(text.at + text.len - 8);
        store_u64(to, low);
        store_u64(to + text.len - 8, high);
    } else if (text.len) {
        memcpy(to, text.at, text.len);
    }
}

static och_code add_string(struct meta_build *build, struct column *column, slice text,
                           och_error *err)
{
    if (!has_room(column))
        TRY(reserve(build, column, err));
    if (build->waiting_count == META_WAITING)
        TRY(meta_collect_end(build, err));
    if (column->state != COLLECTING)
        return OCH_OK;
    if (text.len <= META_WAITING_TEXT) {
        struct waiting *w = &build->waiting[build->waiting_count++];
        uint32_t half = (uint32_t)(map_hash(text) >> 32);
        if (column->slots)
            __builtin_prefetch(&column->slots[half & column->slot_mask]);
        w->column = column;
        w->place = (uint32_t)column->ids.len++;
        w->half = half;
        w->len = (uint8_t)text.len;
        copy_short(w->text, text);
        note_row(build, column);
        return OCH_OK;
    }
    uint8_t room[META_STRING_MAX + 1];
    uint32_t id = 0;
    slice cut = meta_cut(text, room);
    TRY(id_of(build, column, cut, (uint32_t)(map_hash(cut) >> 32), &id, err));
    if (column->state != COLLECTING)
        return OCH_OK;
    column->ids.at[column->ids.len++] = id;
    note_row(build, column);
    return OCH_OK;
}

static och_code add_strings(struct meta_build *build, struct column *column, slice value,
                            bool *ret_fine, och_error *err)
{
    struct reader reader = reader_of(value);
    *ret_fine = value.len != 0;
    while (reader_left(&reader)) {
        slice element = reader_sized(&reader);
        if (reader.failed) {
            *ret_fine = false;
            break;
        }
        TRY(add_string(build, column, element, err));
        if (column->state != COLLECTING)
            break;
    }
    return OCH_OK;
}

/* ---- values ---- */

static och_code add_numbers(struct meta_build *build, struct column *column, slice value,
                            bool *ret_fine, och_error *err)
{
    bool floats = column->type == META_FLOAT || column->type == META_FLOATS;
    *ret_fine = value.len % 8 == 0 && value.len;
    for (size_t at = 0; *ret_fine && at < value.len && column->state == COLLECTING; at += 8) {
        uint64_t image = floats ? meta_image_float(load_f64(value.at + at))
                                : meta_image_int((int64_t)load_u64(value.at + at));
        TRY(add_image(build, column, image, err));
    }
    return OCH_OK;
}

och_code meta_collect(struct meta_build *build, struct column *column, slice value, bool *ret_fine,
                      och_error *err)
{
    *ret_fine = true;
    switch (column->type) {
    case META_BOOL:
    case META_BOOLS:
        *ret_fine = value.len != 0;
        for (size_t i = 0; i < value.len && column->state == COLLECTING; i++)
            TRY(add_image(build, column, value.at[i] != 0, err));
        return OCH_OK;
    case META_INT:
    case META_FLOAT:
    case META_INTS:
    case META_FLOATS:
        return add_numbers(build, column, value, ret_fine, err);
    case META_STRING:
        return add_string(build, column, value, err);
    case META_STRINGS:
        return add_strings(build, column, value, ret_fine, err);
    default: /* empty arrays, sparse vectors: only that they are there */
        return add_image(build, column, 0, err);
    }
}
