/* SPDX-License-Identifier: Apache-2.0 */
/* One leaf of a filter against one part: operands become ranges of ordinals, exact counts of rows come with them, before any list is read. */
#include "index/meta/meta_tree.h"

#include <math.h>
#include <stdlib.h>

/* ---- numbers: an operand as a place among the images of a column ---- */

struct bound {
    uint64_t image;
    bool beyond; /* all values are below */
};

static struct bound bound_of(uint64_t image)
{
    return (struct bound){image, false};
}
static struct bound bound_after(uint64_t image)
{
    return (struct bound){image + 1, image == UINT64_MAX};
}

/* Where values begin that are not below the operand, and where those that are above; exact for ints against floats at every magnitude.
 * False: the operand is not a number, nothing compares with it. */
static bool bounds_of(uint8_t type, const struct filter_value *operand, struct bound *not_below,
                      struct bound *above)
{
    bool ints = type == META_INT || type == META_INTS;
    if (operand->kind == FILTER_INT && ints) {
        uint64_t image = meta_image_int(operand->integer);
        *not_below = bound_of(image);
        *above = bound_after(image);
        return true;
    }
    if (operand->kind ==
        FILTER_INT) { /* the nearest float, and on which side of it the operand is */
        double nearest = (double)operand->integer;
        int order = filter_compare_int_float(operand->integer, nearest);
        uint64_t image = meta_image_float(nearest);
        *not_below = order > 0 ? bound_after(image) : bound_of(image);
        *above = order < 0 ? bound_of(image) : bound_after(image);
        return true;
    }
    double value = operand->number;
    if (isnan(value))
        return false;
    if (!ints) {
        uint64_t image = meta_image_float(value);
        *not_below = bound_of(image);
        *above = bound_after(image);
        return true;
    }
    if (value >= 9223372036854775808.0 || value < -9223372036854775808.0) {
        *not_below = *above = (struct bound){0, value > 0};
        return true;
    }
    double whole = floor(value);
    uint64_t image = meta_image_int((int64_t)whole);
    *not_below = whole == value ? bound_of(image) : bound_after(image);
    *above = bound_after(image);
    return true;
}

static och_code place_of(struct meta_cursor *cursor, struct bound bound, uint32_t *ret,
                         och_error *err)
{
    if (!bound.beyond)
        return meta_find_image(cursor, bound.image, ret, err);
    *ret = cursor->column->ordinals + 1;
    return OCH_OK;
}

/* Behind the last value that compares with anything: a float that is no number comes last. */
static och_code end_of(struct meta_cursor *cursor, uint32_t *ret, och_error *err)
{
    const struct meta_column *column = cursor->column;
    bool floats = column->type == META_FLOAT || column->type == META_FLOATS;
    return place_of(
        cursor, floats ? bound_after(meta_image_float((double)INFINITY)) : (struct bound){0, true},
        ret, err);
}

och_code meta_order_span(struct meta_cursor *cursor, uint8_t op, const struct filter_value *operand,
                         struct meta_span *ret, och_error *err)
{
    struct bound not_below, above;
    *ret = (struct meta_span){.from = 1, .to = 1};
    if (!bounds_of(cursor->column->type, operand, &not_below, &above))
        return OCH_OK;
    switch (op) {
    case FILTER_GT:
    case FILTER_GTE:
        TRY(place_of(cursor, op == FILTER_GT ? above : not_below, &ret->from, err));
        return end_of(cursor, &ret->to, err);
    case FILTER_LT:
    case FILTER_LTE:
        return place_of(cursor, op == FILTER_LTE ? above : not_below, &ret->to, err);
    default:
        TRY(place_of(cursor, not_below, &ret->from, err));
        return place_of(cursor, above, &ret->to, err);
    }
}

/* ---- sets ---- */

static int compare_images(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* A string and the eight bytes behind what all of them begin with, which tell most apart. */
struct headed {
    uint64_t head;
    slice text;
};

static int compare_headed(const void *a, const void *b)
{
    const struct headed *x = a, *y = b;
    return x->head != y->head ? (x->head > y->head) - (x->head < y->head)
                              : slice_compare(x->text, y->text);
}

static void sort_strings(struct headed *texts, uint32_t count)
{
    size_t shared = count ? texts[0].text.len : 0;
    for (uint32_t i = 1; i < count && shared; i++) {
        size_t at = 0, end = shared < texts[i].text.len ? shared : texts[i].text.len;
        while (at < end && texts[i].text.at[at] == texts[0].text.at[at])
            at++;
        shared = at;
    }
    for (uint32_t i = 0; i < count; i++)
        texts[i].head = meta_eight_bytes(texts[i].text, shared);
    qsort(texts, count, sizeof(*texts), compare_headed);
}

static void add_ordinal(struct meta_spans *spans, uint32_t ordinal)
{
    assert(spans->at);
    struct meta_span *last = spans->count ? &spans->at[spans->count - 1] : NULL;
    if (!ordinal || (last && ordinal < last->to))
        return;
    if (last && ordinal == last->to)
        last->to++;
    else
        spans->at[spans->count++] = (struct meta_span){.from = ordinal, .to = ordinal + 1};
}

/* The image an operand has if a value of the column can equal it. */
static bool image_in(uint8_t type, const struct filter_value *operand, uint64_t *ret)
{
    struct bound not_below, above;
    if (operand->kind == FILTER_BOOL) {
        *ret = operand->boolean;
        return type == META_BOOL || type == META_BOOLS;
    }
    if (operand->kind == FILTER_STRING || type == META_BOOL || type == META_BOOLS ||
        !bounds_of(type, operand, &not_below, &above) || not_below.beyond ||
        not_below.image == above.image)
        return false;
    *ret = not_below.image;
    return true;
}

static och_code number_set(struct meta_cursor *cursor, const struct filter_node *node,
                           struct meta_spans *spans, och_error *err)
{
    CLEANUP(mem_cleanup) uint64_t *images = mem_alloc((size_t)node->value_count * 8 + 1);
    uint32_t count = 0, ordinal;
    if (!images)
        return FAIL_NO_MEMORY(err, "a filter");
    for (uint32_t i = 0; i < node->value_count; i++)
        count += image_in(cursor->column->type, &node->values[i], &images[count]);
    qsort(images, count, sizeof(*images), compare_images);
    for (uint32_t i = 0; i < count; i++) {
        TRY(meta_has_image(cursor, images[i], &ordinal, err));
        add_ordinal(spans, ordinal);
    }
    return OCH_OK;
}

/* Long strings are cut in the dictionary, so rows of one are candidates; those are asked for apart: `cut_ones`. */
static och_code string_set(struct meta_cursor *cursor, const struct filter_node *node,
                           bool cut_ones, struct meta_spans *spans, och_error *err)
{
    CLEANUP(mem_cleanup)
    struct headed *texts = mem_alloc((size_t)node->value_count * sizeof(*texts) + 1);
    uint32_t count = 0, ordinal;
    uint8_t room[META_STRING_MAX + 1];
    if (!texts)
        return FAIL_NO_MEMORY(err, "a filter");
    for (uint32_t i = 0; i < node->value_count; i++) {
        const struct filter_value *value = &node->values[i];
        if (value->kind == FILTER_STRING && (value->string.len > META_STRING_MAX) == cut_ones)
            texts[count++].text = value->string;
    }
    sort_strings(texts, count);
    struct meta_strings strings = {.cursor = cursor};
    for (uint32_t i = 0; i < count; i++) {
        if (cut_ones)
            TRY(meta_find_string(cursor, meta_cut(texts[i].text, room), &ordinal, err));
        else
            TRY(meta_seek_string(&strings, texts[i].text, &ordinal, err));
        add_ordinal(spans, ordinal);
    }
    return OCH_OK;
}

/* ---- which columns ---- */

#define TYPE(type) (1u << (type))
#define NUMBERS    (TYPE(META_INT) | TYPE(META_FLOAT))
#define EVERY_TYPE ((1u << (META_SPARSE + 1)) - (1u << META_BOOL))

static uint32_t scalar_types(const struct filter_value *value)
{
    return value->kind == FILTER_STRING ? TYPE(META_STRING)
           : value->kind == FILTER_BOOL ? TYPE(META_BOOL)
                                        : NUMBERS;
}

/* Types of columns whose values can make the leaf true. */
static uint32_t types_of(const struct filter_node *node)
{
    uint32_t types = 0;
    switch (node->op) {
    case FILTER_EQ:
    case FILTER_NE:
    case FILTER_IN:
    case FILTER_NIN:
        for (uint32_t i = 0; i < node->value_count; i++)
            types |= scalar_types(&node->values[i]);
        return types;
    case FILTER_CONTAINS:
    case FILTER_NOT_CONTAINS:
        switch (node->values[0].kind) { /* strictly by type */
        case FILTER_STRING:
            return TYPE(META_STRINGS);
        case FILTER_BOOL:
            return TYPE(META_BOOLS);
        case FILTER_INT:
            return TYPE(META_INTS);
        default:
            return TYPE(META_FLOATS);
        }
    case FILTER_EXISTS:
        return EVERY_TYPE;
    case FILTER_META_REGEX:
    case FILTER_META_NOT_REGEX:
    case FILTER_META_PREFIX:
    case FILTER_META_LIKE:
    case FILTER_META_ICONTAINS:
        return TYPE(META_STRING);
    default:
        return NUMBERS;
    }
}

static och_code spans_of(struct meta_cursor *cursor, const struct filter_node *node, bool cut_ones,
                         struct meta_spans *spans, och_error *err)
{
    const struct meta_column *column = cursor->column;
    switch (node->op) {
    case FILTER_EXISTS:
    case FILTER_META_REGEX:
    case FILTER_META_NOT_REGEX:
    case FILTER_META_ICONTAINS:
        spans->at[spans->count++] = (struct meta_span){.from = 1, .to = column->ordinals + 1};
        return OCH_OK;
    case FILTER_META_PREFIX:
    case FILTER_META_LIKE:
        return meta_text_span(cursor, node, spans, err);
    case FILTER_GT:
    case FILTER_GTE:
    case FILTER_LT:
    case FILTER_LTE:
        TRY(meta_order_span(cursor, node->op, &node->values[0], &spans->at[0], err));
        spans->count = spans->at[0].from < spans->at[0].to;
        return OCH_OK;
    default:
        return meta_type_is_string(column->type) ? string_set(cursor, node, cut_ones, spans, err)
                                                 : number_set(cursor, node, spans, err);
    }
}

och_code meta_leaf_count(struct meta_eval *eval, struct meta_leaf *leaf, och_error *err)
{
    uint64_t total = 0;
    leaf->counted = true;
    for (uint32_t i = 0; i < leaf->column_count; i++) {
        struct meta_spans *spans = &leaf->columns[i];
        struct meta_cursor cursor = {.reader = &eval->reader, .column = &spans->column};
        uint64_t count = 0;
        for (uint32_t s = 0; s < spans->count; s++) {
            struct meta_span *span = &spans->at[s];
            TRY(meta_entries_before(&cursor, span->from, &span->first_entry, err));
            TRY(meta_entries_before(&cursor, span->to, &span->end_entry, err));
            if (span->end_entry < span->first_entry)
                return meta_fault(&eval->reader, &spans->column, "counts do not ascend", err);
            count += span->end_entry - span->first_entry;
        }
        spans->entries = count < UINT32_MAX ? (uint32_t)count : UINT32_MAX;
        total += count;
        /* One row may have several elements. */
        bool several =
            spans->count > 1 || (spans->count && spans->at[0].to - spans->at[0].from > 1);
        if (meta_type_is_array(spans->column.type) && several)
            leaf->counted = false;
    }
    leaf->count = total < eval->rows ? (uint32_t)total : eval->rows;
    return OCH_OK;
}

static och_code add_column(struct meta_eval *eval, struct meta_leaf *leaf,
                           const struct filter_node *node, const struct meta_column *column,
                           bool cut_ones, och_error *err)
{
    struct meta_spans *spans = &leaf->columns[leaf->column_count];
    struct meta_cursor cursor = {.reader = &eval->reader, .column = &spans->column};
    *spans = (struct meta_spans){.column = *column};
    spans->at = ARENA_ARRAY(eval->arena, struct meta_span, (size_t)node->value_count + 1);
    if (!spans->at)
        return FAIL_NO_MEMORY(err, "a filter");
    TRY(spans_of(&cursor, node, cut_ones, spans, err));
    leaf->column_count += spans->count != 0;
    return OCH_OK;
}

och_code meta_leaf_init(struct meta_eval *eval, const struct filter_node *node, bool cut_ones,
                        struct meta_leaf *leaf, bool *ret_known, och_error *err)
{
    const struct meta_index *index = eval->reader.index;
    uint32_t wanted = types_of(node), met = 0, count = 0, first;
    *ret_known = false;
    *leaf = (struct meta_leaf){.key = node->key};
    if (!index)
        return OCH_OK;
    first = meta_columns_of(index, node->key, &count);
    leaf->columns = ARENA_ARRAY(eval->arena, struct meta_spans, (size_t)count + 1);
    if (!leaf->columns)
        return FAIL_NO_MEMORY(err, "a filter");
    for (uint32_t i = 0; i < count; i++) {
        struct meta_column column = meta_column_at(index, first + i);
        if (!(wanted >> column.type & 1))
            continue;
        if (column.has & META_UNINDEXED)
            return OCH_OK;
        met |= TYPE(column.type);
        if (cut_ones && !meta_type_is_string(column.type))
            continue;
        TRY(add_column(eval, leaf, node, &column, cut_ones, err));
    }
    if (index->incomplete && met != wanted)
        return OCH_OK;
    *ret_known = true;
    leaf->unsure = cut_ones || meta_leaf_is_pattern(node) ||
                   (node->op == FILTER_META_PREFIX && node->values[0].string.len > META_STRING_MAX);
    return meta_leaf_count(eval, leaf, err);
}

bool meta_leaf_has_cut(const struct filter_node *node)
{
    if (node->op != FILTER_EQ && node->op != FILTER_NE && node->op != FILTER_IN &&
        node->op != FILTER_NIN && node->op != FILTER_CONTAINS && node->op != FILTER_NOT_CONTAINS)
        return false;
    for (uint32_t i = 0; i < node->value_count; i++) {
        if (node->values[i].kind == FILTER_STRING && node->values[i].string.len > META_STRING_MAX)
            return true;
    }
    return false;
}
