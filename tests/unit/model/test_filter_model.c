/* SPDX-License-Identifier: Apache-2.0 */
/* Whole answers of filters against a second, slow evaluator that reads the rules of
 * query-language.md §2.3 and §3 straight off the JSON of clause and record. */
#include "model_test.h"
#include "support/exact.h"

#include "base/clock.h"
#include "model/filter.h"
#include "support/text_rules.h"

/* ---- the slow evaluator ---- */

struct record {
    slice id;
    const struct json_value *metadata; /* NULL: none */
    slice document;                    /* at NULL: none */
    slice encoded;
};

static bool is(slice text, const char *word)
{
    return slice_equal(text, slice_of(word));
}

static bool is_number(const struct json_value *v)
{
    return v->kind == JSON_INT || v->kind == JSON_FLOAT;
}

static exact_number real(const struct json_value *v)
{
    return v->kind == JSON_INT ? (exact_number)v->integer : (exact_number)v->number;
}

/* Equal as scalars: same class, same value. */
static bool equal(const struct json_value *v, const struct json_value *x)
{
    if (is_number(v) && is_number(x))
        return real(v) == real(x);
    if (v->kind == JSON_STRING && x->kind == JSON_STRING)
        return slice_equal(v->string, x->string);
    return v->kind == JSON_BOOL && x->kind == JSON_BOOL && v->boolean == x->boolean;
}

static bool contains(slice text, slice part)
{
    for (size_t at = 0; at + part.len <= text.len; at++) {
        if (part.len == 0 || memcmp(text.at + at, part.at, part.len) == 0)
            return true;
    }
    return false;
}

/* Only the few patterns that the generator makes. */
static bool regex(slice text, slice pattern)
{
    if (is(pattern, ""))
        return true;
    if (is(pattern, "."))
        return text.len > 0;
    if (is(pattern, "^$"))
        return text.len == 0;
    if (is(pattern, "^ab"))
        return text.len >= 2 && memcmp(text.at, "ab", 2) == 0;
    if (is(pattern, "b$"))
        return text.len && text.at[text.len - 1] == 'b';
    if (is(pattern, "a.b")) {
        for (size_t i = 0; i + 3 <= text.len; i++) {
            if (text.at[i] == 'a' && text.at[i + 2] == 'b')
                return true;
        }
        return false;
    }
    assert_true(is(pattern, "ba|c"));
    return contains(text, SLICE("ba")) || contains(text, SLICE("c"));
}

static bool array_has(const struct json_value *array, const struct json_value *x)
{
    bool floats = false;
    for (uint32_t i = 0; i < array->count; i++)
        floats = floats || array->items[i].kind == JSON_FLOAT;
    for (uint32_t i = 0; i < array->count; i++) {
        struct json_value item = array->items[i];
        if (item.kind == JSON_INT && floats) /* stored as such */
            item = (struct json_value){.kind = JSON_FLOAT, .number = (double)item.integer};
        if (item.kind == x->kind && equal(&item, x))
            return true;
    }
    return false;
}

static bool in_list(const struct json_value *v, const struct json_value *list)
{
    for (uint32_t i = 0; i < list->count; i++) {
        if (equal(v, &list->items[i]))
            return true;
    }
    return false;
}

/* v NULL: the key is missing. */
static bool leaf(const struct json_value *v, slice op, const struct json_value *x)
{
    if (is(op, "$ne"))
        return !leaf(v, SLICE("$eq"), x);
    if (is(op, "$nin"))
        return !leaf(v, SLICE("$in"), x);
    if (is(op, "$not_contains"))
        return !leaf(v, SLICE("$contains"), x);
    if (is(op, "$not_regex"))
        return !leaf(v, SLICE("$regex"), x);
    if (is(op, "$exists"))
        return (v != NULL) == x->boolean;
    if (!v)
        return false;
    if (is(op, "$eq"))
        return equal(v, x);
    if (is(op, "$in"))
        return in_list(v, x);
    if (is(op, "$contains"))
        return v->kind == JSON_ARRAY && array_has(v, x);
    if (is(op, "$prefix"))
        return v->kind == JSON_STRING && slice_starts_with(v->string, x->string);
    if (is(op, "$like"))
        return v->kind == JSON_STRING && rule_like(v->string, x->string);
    if (is(op, "$icontains"))
        return v->kind == JSON_STRING && rule_icontains(v->string, x->string);
    if (is(op, "$regex"))
        return v->kind == JSON_STRING && regex(v->string, x->string);
    if (!is_number(v))
        return false;
    if (is(op, "$gt"))
        return real(v) > real(x);
    if (is(op, "$gte"))
        return real(v) >= real(x);
    if (is(op, "$lt"))
        return real(v) < real(x);
    assert_true(is(op, "$lte"));
    return real(v) <= real(x);
}

static bool document_leaf(slice document, slice op, const struct json_value *operand)
{
    slice text = operand->kind == JSON_STRING ? operand->string : SLICE_NONE;
    if (is(op, "$exists"))
        return (document.at != NULL) == operand->boolean;
    if (is(op, "$not_contains") || is(op, "$not_regex"))
        return !document_leaf(document, is(op, "$not_regex") ? SLICE("$regex") : SLICE("$contains"),
                              operand);
    if (!document.at)
        return false;
    struct json_value value = {.kind = JSON_STRING, .string = document};
    if (is(op, "$prefix") || is(op, "$like") || is(op, "$icontains"))
        return leaf(&value, op, operand);
    return is(op, "$contains") ? contains(document, text) : regex(document, text);
}

static bool truth(const struct record *record, const struct json_value *clause)
{
    slice name = clause->members[0].name;
    const struct json_value *value = &clause->members[0].value;
    if (is(name, "$and") || is(name, "$or")) {
        bool any = false, all = true;
        for (uint32_t i = 0; i < value->count; i++) {
            bool child = truth(record, &value->items[i]);
            any = any || child;
            all = all && child;
        }
        return is(name, "$and") ? all : any;
    }
    if (is(name, "$not"))
        return !truth(record, value);
    slice op = value->kind == JSON_OBJECT ? value->members[0].name : SLICE("$eq");
    const struct json_value *x = value->kind == JSON_OBJECT ? &value->members[0].value : value;
    if (is(name, "#document"))
        return document_leaf(record->document, op, x);
    if (is(name, "#id")) {
        struct json_value id = {.kind = JSON_STRING, .string = record->id};
        return leaf(&id, op, x);
    }
    if (name.len == 0 || name.at[0] == '#' || slice_starts_with(name, SLICE("chroma:")))
        return leaf(NULL, op, x);
    return leaf(record->metadata ? json_get(record->metadata, name) : NULL, op, x);
}

/* ---- random clauses and records as JSON text ---- */

struct writer {
    struct random random;
    struct buf text;
};

static uint64_t below(struct writer *w, uint64_t count)
{
    return random_below(&w->random, count);
}
#define PICK(w, table) ((table)[below((w), COUNT_OF(table))])

static const char *const ints[] = {"0", "1", "2", "-1", "9007199254740993", "9223372036854775807"};
static const char *const floats[] = {"0.0",  "-0.0", "1.0",  "1.5", "9007199254740992.0",
                                     "1e19", "2.0",  "-1e-3"};
static const char *const strings[] = {"\"\"",  "\"a\"",         "\"ab\"", "\"aXb\"",      "\"bac\"",
                                      "\"A\"", "\"a\\u0000b\"", "\"1\"",  "\"\xc3\xa9\"", "\"cb\""};
static const char *const bools[] = {"true", "false"};
static const char *const keys[] = {"a", "b", "c", "ab", "zz"};
static const char *const patterns[] = {"\"\"",   "\".\"",   "\"^$\"",  "\"^ab\"",
                                       "\"b$\"", "\"a.b\"", "\"ba|c\""};

static const char *const text_ops[] = {"$prefix", "$like", "$icontains"};
static const char *const likes[] = {
    "\"\"",   "\"%\"",      "\"_\"",        "\"a%\"", "\"%b\"",    "\"a_b\"", "\"%a%\"",
    "\"__\"", "\"a\\\\%\"", "\"\xc3\xa9\"", "\"A\"",  "\"%%b%%\"", "\"b_%\"", "\"\xc3\x89\""};

static const char *scalar(struct writer *w, unsigned kind)
{
    switch (kind) {
    case 0:
        return PICK(w, ints);
    case 1:
        return PICK(w, floats);
    case 2:
        return PICK(w, strings);
    default:
        return PICK(w, bools);
    }
}

/* One kind, or ints and floats together. */
static void write_list(struct writer *w, uint64_t count)
{
    unsigned kind = (unsigned)below(w, 5);
    buf_byte(&w->text, '[');
    for (uint64_t i = 0; i < count; i++)
        buf_printf(&w->text, "%s%s", i ? "," : "",
                   scalar(w, kind == 4 ? (unsigned)below(w, 2) : kind));
    buf_byte(&w->text, ']');
}

static void write_metadata(struct writer *w)
{
    buf_byte(&w->text, '{');
    bool first = true;
    for (size_t i = 0; i < COUNT_OF(keys); i++) {
        if (below(w, 3) == 0)
            continue;
        buf_printf(&w->text, "%s\"%s\":", first ? "" : ",", keys[i]);
        first = false;
        uint64_t form = below(w, 12);
        if (form == 0)
            buf_text(&w->text, "{\"indices\":[1],\"values\":[1]}");
        else if (form < 4)
            write_list(w, below(w, 4));
        else
            buf_text(&w->text, scalar(w, (unsigned)below(w, 4)));
    }
    buf_byte(&w->text, '}');
}

static void write_leaf(struct writer *w)
{
    static const char *const orders[] = {"$gt", "$gte", "$lt", "$lte"};
    static const char *const others[] = {"#other", "", "chroma:document"};
    if (below(w, 12) == 0) {
        buf_printf(&w->text, "{\"#document\":{\"%s\":%s}}", PICK(w, text_ops), PICK(w, likes));
        return;
    }
    if (below(w, 24) == 0) {
        buf_printf(&w->text, "{\"#document\":{\"$exists\":%s}}", PICK(w, bools));
        return;
    }
    if (below(w, 6) == 0) {
        bool is_regex = below(w, 2), negative = below(w, 2);
        buf_printf(&w->text, "{\"#document\":{\"$%s%s\":%s}}", negative ? "not_" : "",
                   is_regex ? "regex" : "contains",
                   is_regex ? PICK(w, patterns) : PICK(w, strings));
        return;
    }
    if (below(w, 8) == 0) {
        if (below(w, 2)) {
            buf_printf(&w->text, "{\"#id\":{\"%s\":\"r%d\"}}", below(w, 2) ? "$eq" : "$ne",
                       (int)below(w, 50));
            return;
        }
        buf_printf(&w->text, "{\"#id\":{\"%s\":[", below(w, 2) ? "$in" : "$nin");
        uint64_t count = 1 + below(w, 30);
        for (uint64_t i = 0; i < count; i++)
            buf_printf(&w->text, "%s\"r%d\"", i ? "," : "", (int)below(w, 60));
        buf_text(&w->text, "]}}");
        return;
    }
    buf_printf(&w->text, "{\"%s\":", below(w, 12) ? PICK(w, keys) : PICK(w, others));
    switch (below(w, 8)) {
    case 0:
        buf_text(&w->text, scalar(w, (unsigned)below(w, 4)));
        break;
    case 1:
        buf_printf(&w->text, "{\"%s\":%s}", below(w, 2) ? "$eq" : "$ne",
                   scalar(w, (unsigned)below(w, 4)));
        break;
    case 2:
        buf_printf(&w->text, "{\"%s\":%s}", PICK(w, orders), scalar(w, (unsigned)below(w, 2)));
        break;
    case 3:
        buf_printf(&w->text, "{\"%s\":", below(w, 2) ? "$in" : "$nin");
        write_list(w, 1 + below(w, below(w, 4) ? 4 : 40));
        buf_byte(&w->text, '}');
        break;
    case 4:
        buf_printf(&w->text, "{\"%s\":%s}", below(w, 2) ? "$contains" : "$not_contains",
                   scalar(w, (unsigned)below(w, 4)));
        break;
    case 5:
        buf_printf(&w->text, "{\"%s\":%s}", below(w, 2) ? "$regex" : "$not_regex",
                   PICK(w, patterns));
        break;
    case 6:
        buf_printf(&w->text, "{\"%s\":%s}", PICK(w, text_ops),
                   below(w, 3) ? PICK(w, likes) : PICK(w, strings));
        break;
    default:
        buf_printf(&w->text, "{\"$exists\":%s}", PICK(w, bools));
        break;
    }
    buf_byte(&w->text, '}');
}

static void write_clause(struct writer *w, unsigned depth)
{
    uint64_t form = depth ? below(w, 5) : 4;
    if (form >= 3) {
        write_leaf(w);
    } else if (form == 2) {
        buf_text(&w->text, "{\"$not\":");
        write_clause(w, depth - 1);
        buf_byte(&w->text, '}');
    } else {
        buf_text(&w->text, form ? "{\"$and\":[" : "{\"$or\":[");
        uint64_t count = below(w, 4);
        for (uint64_t i = 0; i < count; i++) {
            if (i)
                buf_byte(&w->text, ',');
            write_clause(w, depth - 1);
        }
        buf_text(&w->text, "]}");
    }
}

static slice text_in(struct writer *w, struct arena *arena)
{
    slice text = arena_copy(arena, buf_view(&w->text));
    assert_false(w->text.failed);
    buf_clear(&w->text);
    return text;
}

static void random_records(struct writer *w, struct arena *arena, struct record *records,
                           size_t count)
{
    for (size_t i = 0; i < count; i++) {
        records[i] = (struct record){.id = slice_of(arena_printf(arena, "r%zu", i))};
        if (below(w, 10)) {
            write_metadata(w);
            slice text = text_in(w, arena);
            records[i].metadata = json_in(arena, text);
            records[i].encoded = meta_of(arena, (const char *)text.at, 0);
        }
        if (below(w, 4))
            records[i].document = json_of(arena, PICK(w, strings))->string;
        if (records[i].document.len == 0 && below(w, 2))
            records[i].document = SLICE("");
    }
}

/* ---- the comparison ---- */

static struct filter *compile(struct arena *arena, slice text)
{
    struct filter_node *node, *again;
    struct filter *filter;
    och_error err = {0};
    if (filter_parse_where(json_in(arena, text), arena, &node, &err) != OCH_OK)
        fail_msg("%.*s: %s", SLICE_ARG(text), err.message);
    /* Through the bytes, and the same bytes again. */
    CLEANUP(buf_cleanup) struct buf first, second;
    buf_init(&first, BUF_MAX_NONE);
    buf_init(&second, BUF_MAX_NONE);
    filter_encode(node, &first);
    struct reader reader = reader_of(buf_view(&first));
    assert_int_equal(filter_decode(&reader, arena, &again, &err), OCH_OK);
    assert_int_equal(reader_left(&reader), 0);
    filter_encode(again, &second);
    assert_true(slice_equal(buf_view(&first), buf_view(&second)));
    if (filter_compile(again, &filter, &err) != OCH_OK)
        fail_msg("%.*s: %s", SLICE_ARG(text), err.message);
    return filter;
}

static void compare(const struct filter *filter, const struct json_value *clause, slice text,
                    const struct record *record)
{
    struct filter_row row = {7, record->id, record->encoded, record->document, NULL};
    enum filter_truth got = filter_match(filter, &row);
    bool expected = truth(record, clause);
    if (got != (expected ? FILTER_TRUE : FILTER_FALSE))
        fail_msg("%.*s on record %.*s: got %d", SLICE_ARG(text), SLICE_ARG(record->id), got);
    for (unsigned have = 0; have < 7; have++) {
        row.have = have;
        enum filter_truth partial = filter_match(filter, &row);
        if (partial != FILTER_UNKNOWN && partial != got)
            fail_msg("%.*s with %u alone: got %d", SLICE_ARG(text), have, partial);
        if (partial == FILTER_UNKNOWN && (filter_needs(filter) & ~have) == 0)
            fail_msg("%.*s with %u: unknown though all is there", SLICE_ARG(text), have);
    }
}

static void answers_are_those_of_the_rules_read_aloud(void **state)
{
    (void)state;
    enum { ROUNDS = 100, RECORDS = 50, CLAUSES = 60 };
    struct writer w;
    random_seed(&w.random, 20);
    buf_init(&w.text, BUF_MAX_NONE);
    struct arena arena, clause_arena;
    arena_init(&arena, NULL, 0);
    arena_init(&clause_arena, NULL, 0);
    for (int round = 0; round < ROUNDS; round++) {
        struct record records[RECORDS];
        random_records(&w, &arena, records, RECORDS);
        for (int i = 0; i < CLAUSES; i++) {
            write_clause(&w, (unsigned)below(&w, 7));
            slice text = text_in(&w, &clause_arena);
            const struct json_value *clause = json_in(&clause_arena, text);
            CLEANUP(filter_cleanup) struct filter *filter = compile(&clause_arena, text);
            for (size_t r = 0; r < RECORDS; r++)
                compare(filter, clause, text, &records[r]);
            arena_done(&clause_arena);
        }
        arena_done(&arena);
    }
    buf_done(&w.text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(answers_are_those_of_the_rules_read_aloud),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
