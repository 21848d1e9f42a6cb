/* SPDX-License-Identifier: Apache-2.0 */
/* Rows in the order of their values under one key, from either end of each column's dictionary, as far as the caller wants. */
#include "index/meta/meta_tree.h"

#define STEP_ENTRIES 64u /* of small values that are given together, at least */
#define STEP_MOST    META_LIST_BLOCK
#define KEEP_STEPS   64u /* after which pages are let go */

struct walk {
    const struct meta_order_options *options;
    struct meta_reader reader;
    struct meta_column column;
    uint32_t rows[STEP_MOST];
    uint32_t steps;
    uint64_t bits[META_CHUNK_WORDS];
};

static och_code go_on(struct walk *w, och_error *err)
{
    if (w->steps++ % KEEP_STEPS == 0) {
        w->options->pages->release(w->options->pages->context);
        w->reader.release++;
    }
    return w->options->limits ? work_check(w->options->limits, err) : OCH_OK;
}

/* ---- where it begins ---- */

/* As plan_compare has it: bools, numbers, strings. */
static int rank_of(uint8_t type)
{
    return type == META_BOOL ? 1 : type == META_STRING ? 3 : 2;
}

static och_code number_place(struct meta_cursor *cursor, bool descending,
                             const struct filter_value *bound, uint32_t *ret, och_error *err)
{
    struct meta_span span;
    TRY(meta_order_span(cursor, descending ? FILTER_LTE : FILTER_GTE, bound, &span, err));
    *ret = descending ? span.to - 1 : span.from;
    return OCH_OK;
}

/* The first ordinal, in the walk's direction, whose value is not before the bound; earlier ones do no harm.  0 or beyond all: none. */
static och_code first_ordinal(struct walk *w, uint32_t *ret, och_error *err)
{
    const struct filter_value *bound = w->options->from;
    bool descending = w->options->descending;
    struct meta_cursor cursor = {.reader = &w->reader, .column = &w->column};
    uint8_t room[META_STRING_MAX + 1];
    *ret = descending ? w->column.ordinals : 1;
    if (!bound)
        return OCH_OK;
    int place = rank_of(w->column.type) - (bound->kind == FILTER_BOOL     ? 1
                                           : bound->kind == FILTER_STRING ? 3
                                                                          : 2);
    if (descending ? place > 0 : place < 0) { /* all of it is before */
        *ret = 0;
        return OCH_OK;
    }
    bool number = bound->kind == FILTER_INT ||
                  (bound->kind == FILTER_FLOAT && bound->number == bound->number);
    if (number && (w->column.type == META_INT || (w->column.type == META_FLOAT && !descending)))
        return number_place(&cursor, descending, bound, ret, err);
    if (number && w->column.type == META_FLOAT) {
        uint32_t last = *ret; /* what is no number comes first then, and is before the bound */
        TRY(number_place(&cursor, descending, bound, ret, err));
        assert(*ret <= last);
        return OCH_OK;
    }
    if (bound->kind != FILTER_STRING || w->column.type != META_STRING)
        return OCH_OK;
    TRY(meta_find_place(&cursor, meta_cut(bound->string, room), ret, err));
    if (descending &&
        *ret >
            w->column
                .ordinals) /* the place of a value that is not there is the next one's: not yet before */
        *ret = w->column.ordinals;
    return OCH_OK;
}

/* ---- steps ---- */

static och_code is_cut(void *context, uint32_t ordinal, slice text, och_error *err)
{
    (void)ordinal, (void)err;
    *(bool *)context = meta_string_is_cut(text);
    return OCH_OK;
}

/* Where rows ascend as they were inserted ties are in order, and the rest of a value's rows can be left out; strings that were cut are no ties. */
static och_code can_stop(struct walk *w, uint32_t ordinal, bool *ret, och_error *err)
{
    struct meta_cursor cursor = {.reader = &w->reader, .column = &w->column};
    bool cut = false;
    if (w->options->rows_in_order && w->column.type == META_STRING)
        TRY(meta_walk_strings(&cursor, ordinal, ordinal + 1, is_cut, &cut, err));
    *ret = w->options->rows_in_order && !cut;
    return OCH_OK;
}

/* Rows of one value that many have, ascending. */
static och_code give_many(struct walk *w, uint32_t ordinal, uint32_t from, uint32_t to,
                          bool *ret_enough, och_error *err)
{
    bool enough = false, stops;
    TRY(can_stop(w, ordinal, &stops, err));
    for (; from < to && !(enough && stops); from += STEP_MOST) {
        uint32_t count = to - from < STEP_MOST ? to - from : STEP_MOST;
        TRY(go_on(w, err));
        TRY(meta_list_rows(&w->reader, &w->column, from, from + count, w->rows, err));
        TRY(w->options->give(w->options->context, w->rows, count, &enough, err));
    }
    *ret_enough = enough;
    return OCH_OK;
}

/* Bits of a chunk's rows that have the value. */
static och_code find_bits(struct walk *w, uint32_t chunk, uint32_t ordinal, uint32_t words,
                          och_error *err)
{
    uint32_t rows = meta_chunk_rows(w->options->rows, chunk);
    struct meta_zone zone;
    const uint8_t *body;
    TRY(meta_chunk_body(&w->reader, &w->column, chunk, &zone, &body, err));
    bool has = zone.max && zone.min <= ordinal && ordinal <= zone.max;
    memset(w->bits, has && !body ? 0xff : 0, words * sizeof(*w->bits));
    if (has && body) {
        uint32_t code = ordinal - zone.min + zone.missing;
        kernel_bits_get()->range(body, zone.width, (rows + BITS_ROWS - 1) / BITS_ROWS, code, code,
                                 w->bits);
    }
    if (rows % 64)
        w->bits[words - 1] &= (1ull << rows % 64) - 1;
    return OCH_OK;
}

/* The same of a column that has slices alone. */
static och_code give_slices(struct walk *w, uint32_t ordinal, bool *ret_enough, och_error *err)
{
    bool enough = false, stops;
    TRY(can_stop(w, ordinal, &stops, err));
    for (uint32_t chunk = 0; chunk < w->options->index->chunks && !(enough && stops); chunk++) {
        uint32_t words = (meta_chunk_rows(w->options->rows, chunk) + 63) / 64, count = 0;
        TRY(go_on(w, err));
        TRY(find_bits(w, chunk, ordinal, words, err));
        for (uint32_t i = 0; i < words && !(enough && stops); i++) {
            for (uint64_t left = w->bits[i]; left; left &= left - 1)
                w->rows[count++] = chunk * META_CHUNK + i * 64 + (uint32_t)__builtin_ctzll(left);
            if (count && (count > STEP_MOST - 64 || i + 1 == words)) {
                TRY(w->options->give(w->options->context, w->rows, count, &enough, err));
                count = 0;
            }
        }
    }
    *ret_enough = enough;
    return OCH_OK;
}

/* Whole values from `ordinal` on, in the walk's direction; *ordinal becomes the next one. */
static och_code give_step(struct walk *w, struct meta_cursor *cursor, uint32_t *ordinal,
                          bool *ret_enough, och_error *err)
{
    bool descending = w->options->descending;
    uint32_t first = *ordinal, next, from, to, begin, end;
    TRY(go_on(w, err));
    TRY(meta_entries_before(cursor, first, &from, err));
    TRY(meta_entries_before(cursor, first + 1, &to, err));
    if (to < from)
        return meta_fault(&w->reader, &w->column, "counts do not ascend", err);
    next = descending ? first - 1 : first + 1;
    if (!(w->column.has & META_HAS_LIST)) {
        *ordinal = next;
        return give_slices(w, first, ret_enough, err);
    }
    if (to - from > STEP_MOST) {
        *ordinal = next;
        return give_many(w, first, from, to, ret_enough, err);
    }
    while (to - from < STEP_ENTRIES && next >= 1 && next <= w->column.ordinals) {
        TRY(meta_entries_before(cursor, next, &begin, err));
        TRY(meta_entries_before(cursor, next + 1, &end, err));
        if (end < begin || begin != (descending ? begin : to) || end != (descending ? from : end))
            return meta_fault(&w->reader, &w->column, "counts do not ascend", err);
        if ((descending ? to - begin : end - from) > STEP_MOST)
            break;
        from = descending ? begin : from;
        to = descending ? to : end;
        next = descending ? next - 1 : next + 1;
    }
    *ordinal = next;
    TRY(meta_list_rows(&w->reader, &w->column, from, to, w->rows, err));
    return w->options->give(w->options->context, w->rows, to - from, ret_enough, err);
}

static och_code walk_column(struct walk *w, och_error *err)
{
    struct meta_cursor cursor = {.reader = &w->reader, .column = &w->column};
    uint32_t ordinal;
    bool enough = false;
    TRY(w->options->column(w->options->context, err));
    TRY(first_ordinal(w, &ordinal, err));
    while (!enough && ordinal >= 1 && ordinal <= w->column.ordinals)
        TRY(give_step(w, &cursor, &ordinal, &enough, err));
    return OCH_OK;
}

/* ---- columns ---- */

/* Can all columns of the key be walked? */
static bool is_known(const struct meta_index *index, uint32_t first, uint32_t count)
{
    bool all = !index->incomplete;
    for (uint32_t i = 0; i < count && all; i++) {
        struct meta_column column = meta_column_at(index, first + i);
        all = column.type <= META_STRING && !(column.has & META_UNINDEXED);
    }
    return all;
}

static och_code walk_all(struct walk *w, uint32_t first, uint32_t count, och_error *err)
{
    for (uint32_t i = 0; i < count; i++) {
        w->column = meta_column_at(w->options->index, first + i);
        TRY(walk_column(w, err));
    }
    return OCH_OK;
}

och_code meta_walk_order(const struct meta_order_options *options, bool *ret_known,
                         bool *ret_damaged, och_error *err)
{
    uint32_t count, first = meta_columns_of(options->index, options->key, &count);
    *ret_damaged = false;
    *ret_known = is_known(options->index, first, count);
    if (!*ret_known)
        return OCH_OK;
    struct walk *w = mem_zalloc(sizeof(*w));
    if (!w)
        return FAIL_NO_MEMORY(err, "rows in order");
    w->options = options;
    assert(options->rows == options->index->rows);
    w->reader = (struct meta_reader){.index = options->index, .pages = options->pages};
    och_code code = walk_all(w, first, count, err);
    options->pages->release(options->pages->context);
    *ret_damaged = code != OCH_OK && w->reader.damaged;
    mem_free(w);
    return code;
}
