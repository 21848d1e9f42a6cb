/* SPDX-License-Identifier: Apache-2.0 */
/* Rank expressions at work: one record at a time on a small stack, so that memory does not grow with expression times records.  The order of
 * metadata, and what a payload shows of it. */
#include "model/search.h"

#include "json/json.h"

#include <float.h>
#include <math.h>

static int stack_change(uint8_t op)
{
    if (op == RANK_VAL || op == RANK_KNN)
        return 1;
    return op >= RANK_ABS ? 0 : -1;
}

bool rank_sound(const struct rank_step *steps, uint32_t count, uint32_t knn_count)
{
    int depth = 0;
    for (uint32_t i = 0; i < count; i++) {
        uint8_t op = steps[i].op;
        if (op < RANK_VAL || op > RANK_LOG || (op == RANK_KNN && steps[i].knn >= knn_count))
            return false;
        int change = stack_change(op);
        if ((change == 0 && depth < 1) || (change < 0 && depth < 2))
            return false;
        depth += change;
        if (depth > RANK_STACK_MAX)
            return false;
    }
    return depth == 1;
}

static float tidy(float value)
{
    return isnan(value) ? NAN
                        : value; /* the sign of an invalid operation's NaN differs by machine */
}

static float apply_two(uint8_t op, float a, float b)
{
    switch (op) {
    case RANK_ADD:
        return a + b;
    case RANK_MUL:
        return a * b;
    case RANK_MAX:
        return fmaxf(a, b);
    case RANK_MIN:
        return fminf(a, b);
    case RANK_SUB:
        return a - b;
    default:
        return a / b; /* RANK_DIV */
    }
}

static float apply_one(uint8_t op, float a)
{
    switch (op) {
    case RANK_ABS:
        return fabsf(a);
    case RANK_EXP:
        return expf(a);
    default:
        return logf(a); /* RANK_LOG */
    }
}

/* Which records have a value: where both sides have a default, those of either; where one has, those of the other; else those of both. */
static struct rank_value join(uint8_t op, const struct rank_value *a, const struct rank_value *b)
{
    struct rank_value out = {.has_fallback = a->has_fallback && b->has_fallback};
    out.has = (a->has || a->has_fallback) && (b->has || b->has_fallback) && (a->has || b->has);
    if (out.has)
        out.value =
            tidy(apply_two(op, a->has ? a->value : a->fallback, b->has ? b->value : b->fallback));
    if (out.has_fallback)
        out.fallback = tidy(apply_two(op, a->fallback, b->fallback));
    return out;
}

struct rank_value rank_evaluate(const struct rank_step *steps, uint32_t count,
                                const struct rank_value *knns)
{
    struct rank_value stack[RANK_STACK_MAX];
    uint32_t depth = 0;
    for (uint32_t i = 0; i < count; i++) {
        const struct rank_step *step = &steps[i];
        if (step->op == RANK_VAL) {
            stack[depth++] = (struct rank_value){.fallback = step->value, .has_fallback = true};
        } else if (step->op == RANK_KNN) {
            stack[depth++] = knns[step->knn];
        } else if (step->op >= RANK_ABS) {
            assert(depth >= 1);
            struct rank_value *top = &stack[depth - 1];
            if (top->has)
                top->value = tidy(apply_one(step->op, top->value));
            if (top->has_fallback)
                top->fallback = tidy(apply_one(step->op, top->fallback));
        } else {
            assert(depth >= 2);
            depth--;
            stack[depth - 1] = join(step->op, &stack[depth - 1], &stack[depth]);
        }
    }
    assert(depth == 1);
    return stack[0];
}

/* Bits as a number that orders like the float. */
static int32_t ordinal(float value)
{
    int32_t bits;
    value = tidy(value);
    memcpy(&bits, &value, sizeof(bits));
    return bits < 0 ? INT32_MIN - bits : bits;
}

int rank_compare(float a, float b)
{
    int32_t left = ordinal(a), right = ordinal(b);
    if (left == 0 && right == 0) /* -0.0 is INT32_MIN: ordinal 0 like 0.0 */
        return (signbit(b) != 0) - (signbit(a) != 0);
    return (left > right) - (left < right);
}

/* ---- metadata ---- */

static int type_rank(const struct meta_entry *entry)
{
    static const uint8_t ranks[] = {
        [META_BOOL] = 1,   [META_INT] = 2,    [META_FLOAT] = 3, [META_STRING] = 4,
        [META_SPARSE] = 5, [META_EMPTY] = 6,  [META_BOOLS] = 6, [META_INTS] = 7,
        [META_FLOATS] = 8, [META_STRINGS] = 9};
    return entry && entry->type < COUNT_OF(ranks) ? ranks[entry->type] : 0;
}

static int compare_f64(const uint8_t *a, const uint8_t *b)
{
    double x = load_f64(a), y = load_f64(b);
    if (x == y)
        return (signbit(y) != 0) - (signbit(x) != 0);
    return isnan(x) || isnan(y) ? isnan(x) - isnan(y) : (x > y) - (x < y);
}

static int compare_i64(const uint8_t *a, const uint8_t *b)
{
    int64_t x = (int64_t)load_u64(a), y = (int64_t)load_u64(b);
    return (x > y) - (x < y);
}

/* Elements of `size` bytes one behind the other. */
static int compare_fixed(slice a, slice b, size_t size,
                         int (*compare)(const uint8_t *a, const uint8_t *b))
{
    for (size_t at = 0; at + size <= a.len && at + size <= b.len; at += size) {
        int order = compare(a.at + at, b.at + at);
        if (order)
            return order;
    }
    return (a.len > b.len) - (a.len < b.len);
}

static int compare_strings(slice a, slice b)
{
    struct reader left = reader_of(a), right = reader_of(b);
    while (reader_left(&left) && reader_left(&right) && !left.failed && !right.failed) {
        int order = slice_compare(reader_sized(&left), reader_sized(&right));
        if (order)
            return order;
    }
    return (reader_left(&left) > 0) - (reader_left(&right) > 0);
}

int search_compare_meta(const struct meta_entry *a, const struct meta_entry *b)
{
    int left = type_rank(a), right = type_rank(b);
    if (left != right || left == 0)
        return left - right;
    switch (a->type) {
    case META_INT:
    case META_INTS:
        return compare_fixed(a->value, b->value, 8, compare_i64);
    case META_FLOAT:
    case META_FLOATS:
        return compare_fixed(a->value, b->value, 8, compare_f64);
    case META_STRINGS:
        return compare_strings(a->value, b->value);
    default: /* bools, strings, and sparse vectors, whose order means nothing but is one */
        return slice_compare(a->value, b->value);
    }
}

/* Keys and entries are in order of bytes, but for the system keys, which come first and are no metadata. */
static bool write_chosen(slice metadata, const struct search_select *select, struct buf *out)
{
    struct meta_iter iter;
    struct meta_entry entry;
    bool any = false;
    uint32_t at = 0;
    meta_iter_init(&iter, metadata);
    while (at < select->count && meta_iter_next(&iter, &entry)) {
        while (at < select->count && (filter_key_is_reserved(select->keys[at]) ||
                                      slice_compare(select->keys[at], entry.key) < 0))
            at++;
        if (at == select->count || !slice_equal(select->keys[at], entry.key))
            continue;
        buf_byte(out, any ? ',' : '{');
        json_write_string(out, entry.key);
        buf_byte(out, ':');
        meta_value_to_json(&entry, out);
        any = true;
    }
    if (any)
        buf_byte(out, '}');
    return any;
}

bool search_metadata_to_json(slice metadata, const struct search_select *select, struct buf *out)
{
    if (!metadata.at)
        return false;
    if (!select->whole_metadata)
        return write_chosen(metadata, select, out);
    meta_to_json(metadata, out);
    return true;
}
