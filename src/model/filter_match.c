/* SPDX-License-Identifier: Apache-2.0 */
/* Does a row pass?  Exact semantics of query-language.md §2.3 and §3, three-valued where a field is
 * not loaded.  Hot: once per row and leaf, no allocation. */
#include "model/filter_internal.h"

#define UNORDERED 2

int filter_compare_int_float(int64_t a, double b)
{
    if (b != b)
        return UNORDERED;
    /* Both bounds are exact as floats; i64 max itself is not, so compare before the conversion. */
    if (b >= 9223372036854775808.0)
        return -1;
    if (b < -9223372036854775808.0)
        return 1;
    int64_t whole = (int64_t)b; /* towards zero */
    if (a != whole)
        return a < whole ? -1 : 1;
    double rest = b - (double)whole; /* exact: beyond 2^53 there is no fraction */
    return (rest < 0) - (rest > 0);
}

static int compare_floats(double a, double b)
{
    if (a != a || b != b)
        return UNORDERED;
    return (a > b) - (a < b);
}

/* A stored number against an operand. */
static int compare_number(const struct meta_entry *entry, const struct filter_value *operand)
{
    bool operand_is_int = operand->kind == FILTER_INT;
    if (entry->type == META_INT) {
        int64_t value = meta_int(entry);
        if (operand_is_int)
            return (value > operand->integer) - (value < operand->integer);
        return filter_compare_int_float(value, operand->number);
    }
    double value = meta_float(entry);
    if (!operand_is_int)
        return compare_floats(value, operand->number);
    int order = filter_compare_int_float(operand->integer, value);
    return order == UNORDERED ? UNORDERED : -order;
}

static bool match_order(const struct rule *rule, const struct meta_entry *entry)
{
    if (entry->type != META_INT && entry->type != META_FLOAT)
        return false;
    int order = compare_number(entry, &rule->value);
    return order != UNORDERED && rule->orders >> (order + 1) & 1;
}

/* ---- lists ---- */

static bool has_integer(const struct rule_set *set, int64_t value)
{
    size_t low = 0, high = set->integer_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (set->integers[middle] < value)
            low = middle + 1;
        else
            high = middle;
    }
    return low < set->integer_count && set->integers[low] == value;
}

static bool has_float(const struct rule_set *set, double value)
{
    if (filter_float_is_int(value))
        return has_integer(set, (int64_t)value);
    size_t low = 0, high = set->float_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (set->floats[middle] < value)
            low = middle + 1;
        else
            high = middle;
    }
    return low < set->float_count && set->floats[low] == value;
}

static bool has_string(const struct rule_set *set, slice value)
{
    if (set->has_map)
        return map_find(&set->map, value) != NULL;
    size_t low = 0, high = set->string_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = slice_compare(set->strings[middle], value);
        if (order == 0)
            return true;
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return false;
}

static bool match_set(const struct rule_set *set, const struct meta_entry *entry)
{
    switch (entry->type) {
    case META_BOOL:
        return set->bools >> meta_bool(entry) & 1;
    case META_INT:
        return has_integer(set, meta_int(entry));
    case META_FLOAT:
        return has_float(set, meta_float(entry));
    case META_STRING:
        return has_string(set, entry->value);
    default:
        return false;
    }
}

/* ---- arrays ---- */

static bool has_element(const struct filter_value *wanted, const struct meta_entry *entry)
{
    slice value = entry->value;
    switch (entry->type) {
    case META_BOOLS:
        return wanted->kind == FILTER_BOOL && value.len > 0 &&
               memchr(value.at, wanted->boolean, value.len) != NULL;
    case META_INTS:
        for (size_t at = 0; wanted->kind == FILTER_INT && at + 8 <= value.len; at += 8) {
            if ((int64_t)load_u64(value.at + at) == wanted->integer)
                return true;
        }
        return false;
    case META_FLOATS:
        for (size_t at = 0; wanted->kind == FILTER_FLOAT && at + 8 <= value.len; at += 8) {
            if (compare_floats(load_f64(value.at + at), wanted->number) == 0)
                return true;
        }
        return false;
    case META_STRINGS: {
        struct reader reader = reader_of(value);
        while (wanted->kind == FILTER_STRING && !reader.failed && reader_left(&reader) > 0) {
            slice element = reader_sized(&reader);
            if (!reader.failed && slice_equal(element, wanted->string))
                return true;
        }
        return false;
    }
    default:
        return false;
    }
}

/* ---- rows ---- */

bool filter_regex_match(struct rure *regex, slice text)
{
    return rure_is_match(regex, text.len ? text.at : (const uint8_t *)"", text.len, 0);
}

static bool match_metadata(const struct rule *rule, slice metadata)
{
    struct meta_entry entry;
    if (!meta_find(metadata, rule->key, &entry) || entry.type == META_DELETE)
        return false;
    switch (rule->kind) {
    case RULE_EXISTS:
        return true;
    case RULE_BOOL:
        return entry.type == META_BOOL && (rule->bools >> meta_bool(&entry) & 1);
    case RULE_ORDER:
        return match_order(rule, &entry);
    case RULE_STRING:
        return entry.type == META_STRING && slice_equal(entry.value, rule->text);
    case RULE_SET:
        return match_set(rule->set, &entry);
    case RULE_ELEMENT:
        return has_element(&rule->value, &entry);
    case RULE_META_PREFIX:
        return entry.type == META_STRING && slice_starts_with(entry.value, rule->text);
    default:
        assert(rule->kind == RULE_META_REGEX);
        return entry.type == META_STRING && filter_regex_match(rule->regex, entry.value);
    }
}

static bool match_leaf(const struct filter *filter, const struct rule *rule,
                       const struct filter_row *row)
{
    switch (rule->kind) {
    case RULE_CONST:
        return true;
    case RULE_ID:
        return slice_equal(row->id, rule->text);
    case RULE_ID_SET:
        return has_string(rule->set, row->id);
    case RULE_DOC_CONTAINS:
        return row->document.at && filter->kernel->find(row->document.at, row->document.len,
                                                        rule->text.at, rule->text.len) != SIZE_MAX;
    case RULE_DOC_PREFIX:
        return row->document.at && slice_starts_with(row->document, rule->text);
    case RULE_DOC_REGEX:
        return row->document.at && filter_regex_match(rule->regex, row->document);
    default:
        return match_metadata(rule, row->metadata);
    }
}

#define LEAF_BYTES       64         /* what a leaf costs at least */
#define WORK_CHECK_BYTES (8u << 20) /* some milliseconds */

/* Time is looked at by what is read, not by rows: one row may hold thousands of keys, a filter thousands of leaves. */
static bool goes_on(const struct rule *rule, const struct filter_row *row)
{
    struct filter_work *work = row->work;
    if (!work)
        return true;
    bool document = rule->needs & FILTER_NEEDS_DOCUMENT;
    work->bytes += LEAF_BYTES + (document ? row->document.len : row->metadata.len);
    if (UNLIKELY(work->bytes >= WORK_CHECK_BYTES) && !work->stopped) {
        work->bytes = 0;
        work->stopped = work_check(work->limits, NULL) != OCH_OK;
    }
    return !work->stopped;
}

/* Recursion is bounded by FILTER_DEPTH_MAX, which filter_compile keeps. */
static enum filter_truth match_rule(const struct filter *filter, const struct rule *rule,
                                    const struct filter_row *row)
{
    enum filter_truth truth;
    if (rule->kind == RULE_AND || rule->kind == RULE_OR) {
        enum filter_truth decisive = rule->kind == RULE_AND ? FILTER_FALSE : FILTER_TRUE;
        truth = rule->kind == RULE_AND ? FILTER_TRUE : FILTER_FALSE;
        for (uint32_t i = 0; i < rule->child_count; i++) {
            enum filter_truth child = match_rule(filter, &rule->children[i], row);
            if (child == decisive) {
                truth = decisive;
                break;
            }
            if (child == FILTER_UNKNOWN)
                truth = FILTER_UNKNOWN;
        }
    } else if ((rule->needs & ~row->have) != 0 || !goes_on(rule, row)) {
        return FILTER_UNKNOWN;
    } else {
        truth = match_leaf(filter, rule, row) ? FILTER_TRUE : FILTER_FALSE;
    }
    if (truth == FILTER_UNKNOWN || !rule->negate)
        return truth;
    return truth == FILTER_TRUE ? FILTER_FALSE : FILTER_TRUE;
}

enum filter_truth filter_match(const struct filter *filter, const struct filter_row *row)
{
    return filter ? match_rule(filter, &filter->root, row) : FILTER_TRUE;
}
