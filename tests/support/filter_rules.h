/* SPDX-License-Identifier: Apache-2.0 */
/* Random filters, and a second, slow evaluator that reads the rules of query-language.md §2.3 and §3 straight off the JSON of clause and record. */
#ifndef SUPPORT_FILTER_RULES_H
#define SUPPORT_FILTER_RULES_H

#include "support/exact.h"
#include "support/regex_rules.h"

#include "json/json.h"
#include <math.h>

/* ---- the slow evaluator ---- */

/* A record as the rules see it. */
struct ruled {
    slice id;
    const struct json_value *metadata; /* NULL: none */
    slice document;                    /* at NULL: none */
};

static inline bool rule_is(slice text, const char *word)
{
    return slice_equal(text, slice_of(word));
}

static inline bool rule_is_number(const struct json_value *v)
{
    return v->kind == JSON_INT || v->kind == JSON_FLOAT;
}

static inline exact_number rule_real(const struct json_value *v)
{
    return v->kind == JSON_INT ? (exact_number)v->integer : (exact_number)v->number;
}

/* Equal as scalars: same class, same value. */
static inline bool rule_equal(const struct json_value *v, const struct json_value *x)
{
    if (rule_is_number(v) && rule_is_number(x))
        return rule_real(v) == rule_real(x);
    if (v->kind == JSON_STRING && x->kind == JSON_STRING)
        return slice_equal(v->string, x->string);
    return v->kind == JSON_BOOL && x->kind == JSON_BOOL && v->boolean == x->boolean;
}

static inline bool rule_contains(slice text, slice part)
{
    for (size_t at = 0; at + part.len <= text.len; at++) {
        if (part.len == 0 || memcmp(text.at + at, part.at, part.len) == 0)
            return true;
    }
    return false;
}

static inline bool rule_array_has(const struct json_value *array, const struct json_value *x)
{
    bool floats = false;
    for (uint32_t i = 0; i < array->count; i++)
        floats = floats || array->items[i].kind == JSON_FLOAT;
    for (uint32_t i = 0; i < array->count; i++) {
        struct json_value item = array->items[i];
        if (item.kind == JSON_INT && floats) /* stored as such */
            item = (struct json_value){.kind = JSON_FLOAT, .number = (double)item.integer};
        if (item.kind == x->kind && rule_equal(&item, x))
            return true;
    }
    return false;
}

static inline bool rule_in_list(const struct json_value *v, const struct json_value *list)
{
    for (uint32_t i = 0; i < list->count; i++) {
        if (rule_equal(v, &list->items[i]))
            return true;
    }
    return false;
}

/* v NULL: the key is missing. */
static inline bool rule_leaf(const struct json_value *v, slice op, const struct json_value *x)
{
    if (rule_is(op, "$ne"))
        return !rule_leaf(v, SLICE("$eq"), x);
    if (rule_is(op, "$nin"))
        return !rule_leaf(v, SLICE("$in"), x);
    if (rule_is(op, "$not_contains"))
        return !rule_leaf(v, SLICE("$contains"), x);
    if (rule_is(op, "$not_regex"))
        return !rule_leaf(v, SLICE("$regex"), x);
    if (rule_is(op, "$exists"))
        return (v != NULL) == x->boolean;
    if (!v)
        return false;
    if (rule_is(op, "$eq"))
        return rule_equal(v, x);
    if (rule_is(op, "$in"))
        return rule_in_list(v, x);
    if (rule_is(op, "$contains"))
        return v->kind == JSON_ARRAY && rule_array_has(v, x);
    if (rule_is(op, "$prefix"))
        return v->kind == JSON_STRING && slice_starts_with(v->string, x->string);
    if (rule_is(op, "$like"))
        return v->kind == JSON_STRING && rule_like(v->string, x->string);
    if (rule_is(op, "$icontains"))
        return v->kind == JSON_STRING && rule_icontains(v->string, x->string);
    if (rule_is(op, "$regex"))
        return v->kind == JSON_STRING && rule_regex(v->string, x->string);
    if (!rule_is_number(v))
        return false;
    if (rule_is(op, "$gt"))
        return rule_real(v) > rule_real(x);
    if (rule_is(op, "$gte"))
        return rule_real(v) >= rule_real(x);
    if (rule_is(op, "$lt"))
        return rule_real(v) < rule_real(x);
    assert_true(rule_is(op, "$lte"));
    return rule_real(v) <= rule_real(x);
}

static inline bool rule_document(slice document, slice op, const struct json_value *operand)
{
    slice text = operand->kind == JSON_STRING ? operand->string : SLICE_NONE;
    if (rule_is(op, "$exists"))
        return (document.at != NULL) == operand->boolean;
    if (rule_is(op, "$not_contains") || rule_is(op, "$not_regex"))
        return !rule_document(
            document, rule_is(op, "$not_regex") ? SLICE("$regex") : SLICE("$contains"), operand);
    if (!document.at)
        return false;
    struct json_value value = {.kind = JSON_STRING, .string = document};
    if (rule_is(op, "$prefix") || rule_is(op, "$like") || rule_is(op, "$icontains"))
        return rule_leaf(&value, op, operand);
    return rule_is(op, "$contains") ? rule_contains(document, text) : rule_regex(document, text);
}

/* A clause of where, or one of where_document, whose operators stand by themselves. */
static inline bool rule_truth(const struct ruled *record, const struct json_value *clause)
{
    slice name = clause->members[0].name;
    const struct json_value *value = &clause->members[0].value;
    if (rule_is(name, "$and") || rule_is(name, "$or")) {
        bool any = false, all = true;
        for (uint32_t i = 0; i < value->count; i++) {
            bool child = rule_truth(record, &value->items[i]);
            any = any || child;
            all = all && child;
        }
        return rule_is(name, "$and") ? all : any;
    }
    if (rule_is(name, "$not"))
        return !rule_truth(record, value);
    if (name.len && name.at[0] == '$')
        return rule_document(record->document, name, value);
    slice op = value->kind == JSON_OBJECT ? value->members[0].name : SLICE("$eq");
    const struct json_value *x = value->kind == JSON_OBJECT ? &value->members[0].value : value;
    if (rule_is(name, "#document"))
        return rule_document(record->document, op, x);
    if (rule_is(name, "#id")) {
        struct json_value id = {.kind = JSON_STRING, .string = record->id};
        return rule_leaf(&id, op, x);
    }
    if (name.len == 0 || name.at[0] == '#' || slice_starts_with(name, SLICE("chroma:")))
        return rule_leaf(NULL, op, x);
    return rule_leaf(record->metadata ? json_get(record->metadata, name) : NULL, op, x);
}

/* ---- order ---- */

/* bool < int < float < string < sparse < [] < bool[] < int[] < float[] < string[] */
static inline int rule_class(const struct json_value *v)
{
    bool floats = false;
    if (v->kind == JSON_BOOL)
        return 1;
    if (rule_is_number(v))
        return v->kind == JSON_INT ? 2 : 3;
    if (v->kind == JSON_STRING)
        return 4;
    if (v->kind == JSON_OBJECT)
        return 5;
    if (!v->count)
        return 6;
    for (uint32_t i = 0; i < v->count; i++)
        floats = floats || v->items[i].kind == JSON_FLOAT;
    return v->items[0].kind == JSON_BOOL ? 7 : floats ? 9 : v->items[0].kind == JSON_INT ? 8 : 10;
}

/* The order of group_by: by type, then by value, -0.0 before 0.0; elements of arrays one after another.  `mixed`: that of order_by, where numbers are by
 * value whatever they are.  Sparse vectors of tests are all the same. */
static inline int rule_compare(const struct json_value *a, const struct json_value *b, bool mixed)
{
    int x = rule_class(a), y = rule_class(b), order = x - y;
    bool numbers = rule_is_number(a) && rule_is_number(b);
    if (order == 0 && x == 1)
        return a->boolean - b->boolean;
    if (numbers && (order == 0 || mixed)) {
        order = (rule_real(a) > rule_real(b)) - (rule_real(a) < rule_real(b));
        return order || mixed || x != 3 ? order : !!signbit(b->number) - !!signbit(a->number);
    }
    if (order == 0 && x == 4)
        return slice_compare(a->string, b->string);
    if (order || x < 7)
        return order;
    for (uint32_t i = 0; i < a->count && i < b->count && order == 0; i++) {
        struct json_value left = a->items[i], right = b->items[i];
        if (x == 9) { /* floats, all of them */
            left.number = left.kind == JSON_INT ? (double)left.integer : left.number;
            right.number = right.kind == JSON_INT ? (double)right.integer : right.number;
            left.kind = right.kind = JSON_FLOAT;
        }
        order = rule_compare(&left, &right, false);
    }
    return order ? order : (a->count > b->count) - (a->count < b->count);
}

/* ---- random clauses and records as JSON text ---- */

struct rule_writer {
    struct random random;
    struct buf text;
    int ids; /* how many there are, r0 and on */
};

static inline uint64_t rule_below(struct rule_writer *w, uint64_t count)
{
    return random_below(&w->random, count);
}
#define RULE_PICK(w, table) ((table)[rule_below((w), COUNT_OF(table))])

/* Longer than the index of metadata keeps, and the same where it cuts. */
#define RULE_LONG_10 "abababababb"
#define RULE_LONG_50 RULE_LONG_10 RULE_LONG_10 RULE_LONG_10 RULE_LONG_10 RULE_LONG_10
#define RULE_LONG    RULE_LONG_50 RULE_LONG_50 RULE_LONG_50 RULE_LONG_50 RULE_LONG_50

static const char *const rule_ints[] = {
    "0", "1", "2", "-1", "9007199254740993", "9223372036854775807", "7", "30"};
static const char *const rule_floats[] = {"0.0",  "-0.0", "1.0",   "1.5", "9007199254740992.0",
                                          "1e19", "2.0",  "-1e-3", "7.5", "5e-324"};
static const char *const rule_strings[] = {"\"\"",
                                           "\"a\"",
                                           "\"ab\"",
                                           "\"aXb\"",
                                           "\"bac\"",
                                           "\"A\"",
                                           "\"a\\u0000b\"",
                                           "\"1\"",
                                           "\"\xc3\xa9\"",
                                           "\"e\xcc\x81\"",
                                           "\"cb\"",
                                           "\"a b\\nc\"",
                                           "\"\xe6\x96\x87k\"",
                                           "\"%_\"",
                                           "\"" RULE_LONG "a\"",
                                           "\"" RULE_LONG "b\""};
static const char *const rule_bools[] = {"true", "false"};
static const char *const rule_keys[] = {"a", "b", "c", "ab", "zz"};
static const char *const rule_orders[] = {"$gt", "$gte", "$lt", "$lte"};
static const char *const rule_text_ops[] = {"$prefix", "$like", "$icontains"};
static const char *const rule_likes[] = {"\"\"",      "\"%\"",      "\"_\"",        "\"a%\"",
                                         "\"%b\"",    "\"a_b\"",    "\"%a%\"",      "\"%\\\\_\"",
                                         "\"__\"",    "\"a\\\\%\"", "\"\xc3\xa9\"", "\"A\"",
                                         "\"%%b%%\"", "\"b_%\"",    "\"\xc3\x89\""};

static inline const char *rule_scalar(struct rule_writer *w, unsigned kind)
{
    switch (kind) {
    case 0:
        return RULE_PICK(w, rule_ints);
    case 1:
        return RULE_PICK(w, rule_floats);
    case 2:
        return RULE_PICK(w, rule_strings);
    default:
        return RULE_PICK(w, rule_bools);
    }
}

/* One kind, or ints and floats together. */
static inline void rule_write_list(struct rule_writer *w, uint64_t count)
{
    unsigned kind = (unsigned)rule_below(w, 5);
    buf_byte(&w->text, '[');
    for (uint64_t i = 0; i < count; i++)
        buf_printf(&w->text, "%s%s", i ? "," : "",
                   rule_scalar(w, kind == 4 ? (unsigned)rule_below(w, 2) : kind));
    buf_byte(&w->text, ']');
}

/* Of every type that metadata have. */
static inline void rule_write_value(struct rule_writer *w)
{
    uint64_t form = rule_below(w, 12);
    if (form == 0)
        buf_text(&w->text, "{\"indices\":[1],\"values\":[1]}");
    else if (form < 4)
        rule_write_list(w, rule_below(w, 4));
    else
        buf_text(&w->text, rule_scalar(w, (unsigned)rule_below(w, 4)));
}

static inline void rule_write_metadata(struct rule_writer *w)
{
    buf_byte(&w->text, '{');
    bool first = true;
    for (size_t i = 0; i < COUNT_OF(rule_keys); i++) {
        if (rule_below(w, 3) == 0)
            continue;
        buf_printf(&w->text, "%s\"%s\":", first ? "" : ",", rule_keys[i]);
        first = false;
        rule_write_value(w);
    }
    buf_byte(&w->text, '}');
}

/* A few characters of those that patterns are made of, in quotes. */
static inline void rule_write_text(struct rule_writer *w)
{
    static const char *const others[] = {" ", "\\n", "-", "\\u0000", "\xc5\xbf", "_"};
    buf_byte(&w->text, '"');
    for (uint64_t i = rule_below(w, 6); i > 0; i--)
        buf_text(&w->text, rule_below(w, 8) ? RULE_PICK(w, regex_alphabet) : RULE_PICK(w, others));
    buf_byte(&w->text, '"');
}

static inline void rule_write_pattern(struct rule_writer *w)
{
    struct buf pattern;
    buf_init(&pattern, BUF_MAX_NONE);
    if (!regex_random(&w->random, (unsigned)rule_below(w, 4), &pattern))
        regex_known(&pattern);
    json_write_string(&w->text, buf_view(&pattern));
    buf_done(&pattern);
}

/* {op: operand} of those that look at text. */
static inline void rule_write_text_leaf(struct rule_writer *w)
{
    const char *op;
    switch (rule_below(w, 4)) {
    case 0:
        op = RULE_PICK(w, rule_text_ops);
        buf_printf(&w->text, "{\"%s\":", op);
        if (rule_below(w, 3))
            buf_text(&w->text, RULE_PICK(w, rule_likes));
        else
            rule_write_text(w);
        break;
    case 1:
        buf_printf(&w->text, "{\"$%sregex\":", rule_below(w, 2) ? "not_" : "");
        rule_write_pattern(w);
        break;
    case 2:
        buf_printf(&w->text, "{\"$%scontains\":", rule_below(w, 2) ? "not_" : "");
        if (rule_below(w, 2))
            buf_text(&w->text, RULE_PICK(w, rule_strings));
        else
            rule_write_text(w);
        break;
    default:
        buf_printf(&w->text, "{\"$exists\":%s", RULE_PICK(w, rule_bools));
        break;
    }
    buf_byte(&w->text, '}');
}

static inline void rule_write_id_leaf(struct rule_writer *w)
{
    uint64_t ids = (uint64_t)w->ids * 6 / 5;
    if (rule_below(w, 2)) {
        buf_printf(&w->text, "{\"#id\":{\"%s\":\"r%d\"}}", rule_below(w, 2) ? "$eq" : "$ne",
                   (int)rule_below(w, ids));
        return;
    }
    buf_printf(&w->text, "{\"#id\":{\"%s\":[", rule_below(w, 2) ? "$in" : "$nin");
    uint64_t count = 1 + rule_below(w, 30);
    for (uint64_t i = 0; i < count; i++)
        buf_printf(&w->text, "%s\"r%d\"", i ? "," : "", (int)rule_below(w, ids));
    buf_text(&w->text, "]}}");
}

/* What stands under a key of metadata. */
static inline void rule_write_condition(struct rule_writer *w)
{
    switch (rule_below(w, 8)) {
    case 0:
        buf_text(&w->text, rule_scalar(w, (unsigned)rule_below(w, 4)));
        return;
    case 1:
        buf_printf(&w->text, "{\"%s\":%s}", rule_below(w, 2) ? "$eq" : "$ne",
                   rule_scalar(w, (unsigned)rule_below(w, 4)));
        return;
    case 2:
        buf_printf(&w->text, "{\"%s\":%s}", RULE_PICK(w, rule_orders),
                   rule_scalar(w, (unsigned)rule_below(w, 2)));
        return;
    case 3:
        buf_printf(&w->text, "{\"%s\":", rule_below(w, 2) ? "$in" : "$nin");
        rule_write_list(w, 1 + rule_below(w, rule_below(w, 4) ? 4 : 40));
        buf_byte(&w->text, '}');
        return;
    case 4:
        buf_printf(&w->text, "{\"%s\":%s}", rule_below(w, 2) ? "$contains" : "$not_contains",
                   rule_scalar(w, (unsigned)rule_below(w, 4)));
        return;
    default:
        rule_write_text_leaf(w);
    }
}

static inline void rule_write_leaf(struct rule_writer *w)
{
    static const char *const others[] = {"#other", "", "chroma:document"};
    uint64_t form = rule_below(w, 8);
    if (form < 2) {
        buf_text(&w->text, "{\"#document\":");
        rule_write_text_leaf(w);
    } else if (form == 2) {
        rule_write_id_leaf(w);
        return;
    } else {
        buf_printf(&w->text,
                   "{\"%s\":", rule_below(w, 12) ? RULE_PICK(w, rule_keys) : RULE_PICK(w, others));
        rule_write_condition(w);
    }
    buf_byte(&w->text, '}');
}

/* document: a clause of where_document, else of where.  Recursion as deep as `depth` says. */
static inline void rule_write_clause(struct rule_writer *w, unsigned depth, bool document)
{
    uint64_t form = depth ? rule_below(w, 5) : 4;
    if (form >= 3 && document) {
        rule_write_text_leaf(w);
    } else if (form >= 3) {
        rule_write_leaf(w);
    } else if (form == 2) {
        buf_text(&w->text, "{\"$not\":");
        rule_write_clause(w, depth - 1, document);
        buf_byte(&w->text, '}');
    } else {
        buf_text(&w->text, form ? "{\"$and\":[" : "{\"$or\":[");
        uint64_t count = rule_below(w, 4);
        for (uint64_t i = 0; i < count; i++) {
            if (i)
                buf_byte(&w->text, ',');
            rule_write_clause(w, depth - 1, document);
        }
        buf_text(&w->text, "]}");
    }
}
#endif
