/* SPDX-License-Identifier: Apache-2.0 */
/* Grammar, messages, encoding and edges of filters; test_filter_model.c compares whole answers. */
#include "model_test.h"
#include "support/exact.h"

#include "base/clock.h"
#include "model/filter.h"

#include <math.h>

static int set_up(void **state)
{
    static struct arena arena;
    arena_init(&arena, NULL, 0);
    *state = &arena;
    return 0;
}
static int tear_down(void **state)
{
    arena_done(*state);
    return 0;
}

static och_code parse(struct arena *arena, bool document, const char *text,
                      struct filter_node **ret_node, och_error *err)
{
    const struct json_value *value = json_of(arena, text);
    return document ? filter_parse_document(value, arena, ret_node, err)
                    : filter_parse_where(value, arena, ret_node, err);
}

static struct filter *compiled(struct arena *arena, bool document, const char *text)
{
    struct filter_node *node;
    struct filter *filter = NULL;
    och_error err = {0};
    if (parse(arena, document, text, &node, &err) != OCH_OK ||
        filter_compile(node, &filter, &err) != OCH_OK)
        fail_msg("%s: %s", text, err.message);
    return filter;
}

struct refusal {
    const char *where, *says;
};

static const struct refusal where_refusals[] = {
    {"{}", "Invalid where clause: expected one key or operator, got an empty object"},
    {"[]", "Invalid where clause: a clause needs an object, got an empty list"},
    {"\"x\"", "Invalid where clause: a clause needs an object, got the string \"x\""},
    {"5", "Invalid where clause: a clause needs an object, got the number 5"},
    {"true", "Invalid where clause: a clause needs an object, got true"},
    {"{\"a\":1,\"b\":2}",
     "Invalid where clause: expected one key or operator, got \"a\" and \"b\""},
    {"{\"v\":null}", "Invalid where clause: v: a key needs a value or an operator, got null"},
    {"{\"v\":[1]}", "Invalid where clause: v: a key needs a value or an operator, got a list"},
    {"{\"v\":{}}", "Invalid where clause: v: expected one operator, got an empty object"},
    {"{\"v\":{\"$gte\":1,\"$lte\":2}}",
     "Invalid where clause: v: expected one operator, got \"$gte\" and \"$lte\""},
    {"{\"v\":{\"$bad\":1}}", "Invalid where clause: v: unknown operator \"$bad\". Use one of $eq"},
    {"{\"v\":{\"eq\":1}}", "Invalid where clause: v: unknown operator \"eq\""},
    {"{\"v\":{\"$EQ\":1}}", "Invalid where clause: v: unknown operator"},
    {"{\"v\":{\"$and\":[{\"$gt\":1}]}}", "Invalid where clause: v: unknown operator \"$and\""},
    {"{\"a\":{\"b\":2}}", "Invalid where clause: a: unknown operator \"b\""},
    {"{\"v\":{\"$eq\":null}}",
     "Invalid where clause: v: $eq needs a string, a boolean or a number"},
    {"{\"v\":{\"$eq\":[1]}}", "Invalid where clause: v: $eq needs a string, a boolean or a number, "
                              "got a list. Write {\"v\": {\"$in\": [1, 2]}}."},
    {"{\"v\":{\"$eq\":{\"$eq\":1}}}", "Invalid where clause: v: $eq needs"},
    {"{\"v\":{\"$ne\":{}}}", "Invalid where clause: v: $ne needs"},
    {"{\"price\":{\"$gt\":\"12\"}}",
     "Invalid where clause: price: $gt needs a number, got the string "
     "\"12\". Write {\"price\": {\"$gt\": 12}}."},
    {"{\"$and\":[{\"a\":1},{\"price\":{\"$gt\":\"x\"}}]}",
     "Invalid where clause: $and[1].price: $gt needs a number, got the string \"x\""},
    {"{\"$or\":[{\"$not\":{\"$and\":[{\"k\":{\"$lt\":true}}]}}]}",
     "Invalid where clause: $or[0].$not.$and[0].k: $lt needs a number, got true"},
    {"{\"v\":{\"$in\":[]}}",
     "Invalid where clause: v: $in needs a list of at least one value, got an "
     "empty list"},
    {"{\"v\":{\"$in\":1}}", "Invalid where clause: v: $in needs a list"},
    {"{\"v\":{\"$nin\":{}}}", "Invalid where clause: v: $nin needs a list"},
    {"{\"v\":{\"$in\":[\"1\",1]}}",
     "Invalid where clause: v: $in needs values of one type, got the "
     "number 1"},
    {"{\"v\":{\"$in\":[true,1]}}", "Invalid where clause: v: $in needs values of one type"},
    {"{\"v\":{\"$nin\":[null]}}",
     "Invalid where clause: v: $nin needs strings, booleans or numbers"},
    {"{\"v\":{\"$in\":[[1]]}}", "Invalid where clause: v: $in needs"},
    {"{\"l\":{\"$contains\":null}}", "Invalid where clause: l: $contains needs"},
    {"{\"l\":{\"$not_contains\":[1]}}", "Invalid where clause: l: $not_contains needs"},
    {"{\"v\":{\"$regex\":1}}", "Invalid where clause: v: $regex needs a string"},
    {"{\"v\":{\"$exists\":1}}", "Invalid where clause: v: $exists needs true or false"},
    {"{\"v\":9223372036854775808}",
     "Invalid where clause: v: an integer beyond 9223372036854775807"},
    {"{\"v\":18446744073709551615}", "Invalid where clause: v: an integer beyond"},
    {"{\"v\":{\"$gt\":9223372036854775808}}", "Invalid where clause: v: an integer beyond"},
    {"{\"v\":{\"$in\":[1,9223372036854775808]}}", "Invalid where clause: v: an integer beyond"},
    {"{\"$and\":{}}",
     "Invalid where clause: $and: $and needs a list of clauses, got an empty object"},
    {"{\"$or\":null}", "Invalid where clause: $or: $or needs a list of clauses, got null"},
    {"{\"$and\":[5]}", "Invalid where clause: $and[0]: a clause needs an object, got the number 5"},
    {"{\"$and\":[{\"v\":1},{}]}", "Invalid where clause: $and[1]: expected one key or operator"},
    {"{\"$and\":[{\"v\":1}],\"$or\":[{\"v\":1}]}", "Invalid where clause: expected one"},
    {"{\"$nor\":[{\"v\":1}]}", "Invalid where clause: unknown operator \"$nor\". Use one of $and"},
    {"{\"$k\":1}", "Invalid where clause: unknown operator \"$k\""},
    {"{\"$eq\":1}", "Invalid where clause: $eq stands without a key"},
    {"{\"$contains\":\"one\"}", "Invalid where clause: $contains stands without a key"},
    {"{\"#document\":{\"$contains\":1}}",
     "Invalid where clause: #document: $contains needs a string"},
    {"{\"#document\":\"x\"}",
     "Cannot filter using metadata key '#document' with type 'Str' because "
     "indexing is disabled"},
    {"{\"$or\":[{\"a\":1},{\"#document\":{\"$in\":[\"x\"]}}]}",
     "Cannot filter using metadata key "},
    {"{\"$or\":[{\"#document\":\"x\"},{}]}", "Invalid where clause: $or[1]: "},
    {"{\"a\":{\"$prefix\":1}}",
     "Invalid where clause: a: $prefix needs a string, got the number 1"},
    {"{\"a\":{\"$like\":[\"x\"]}}", "Invalid where clause: a: $like needs a string"},
    {"{\"#document\":{\"$icontains\":true}}",
     "Invalid where clause: #document: $icontains needs a string"},
    {"{\"#document\":{\"$exists\":1}}",
     "Invalid where clause: #document: $exists needs true or false"},
    {"{\"#id\":{\"$prefix\":\"x\"}}",
     "Invalid where clause: #id: $prefix works on metadata and documents."},
    {"{\"$like\":\"x\"}", "Invalid where clause: $like stands without a key"},
};

static const struct refusal document_refusals[] = {
    {"{}", "Invalid where document clause: expected one operator, got an empty object"},
    {"[]", "Invalid where document clause: a clause needs an object"},
    {"{\"$contains\":1}", "Invalid where document clause: $contains: $contains needs a string"},
    {"{\"$contains\":[\"x\"]}",
     "Invalid where document clause: $contains: $contains needs a string"},
    {"{\"$bad\":\"x\"}",
     "Invalid where document clause: unknown operator \"$bad\". Use one of $and"},
    {"{\"contains\":\"x\"}", "Invalid where document clause: unknown operator"},
    {"{\"$eq\":\"x\"}", "Invalid where document clause: unknown operator \"$eq\""},
    {"{\"v\":{\"$contains\":\"x\"}}", "Invalid where document clause: unknown operator \"v\""},
    {"{\"$contains\":\"a\",\"$not_contains\":\"b\"}",
     "Invalid where document clause: expected one"},
    {"{\"$and\":{}}", "Invalid where document clause: $and: $and needs a list"},
    {"{\"$and\":[\"x\"]}", "Invalid where document clause: $and[0]: a clause needs an object"},
    {"{\"$and\":[{\"$or\":[{}]}]}", "Invalid where document clause: $and[0].$or[0]: expected one"},
    {"{\"$prefix\":null}", "Invalid where document clause: $prefix: $prefix needs a string"},
    {"{\"$exists\":\"x\"}", "Invalid where document clause: $exists: $exists needs true or false"},
    {"{\"$regex\":null}", "Invalid where document clause: $regex: $regex needs a string"},
};

static void check_refusals(struct arena *arena, bool document, const struct refusal *cases,
                           size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct filter_node *node = NULL;
        och_error err = {0};
        och_code code = parse(arena, document, cases[i].where, &node, &err);
        if (code != OCH_INVALID ||
            strncmp(err.message, cases[i].says, strlen(cases[i].says)) != 0 || node)
            fail_msg("%s: got %d \"%s\"", cases[i].where, code, err.message);
    }
}

static void what_the_grammar_forbids_is_refused_with_place_and_reason(void **state)
{
    check_refusals(*state, false, where_refusals, COUNT_OF(where_refusals));
    check_refusals(*state, true, document_refusals, COUNT_OF(document_refusals));
}

static void long_names_and_paths_keep_the_message_whole(void **state)
{
    CLEANUP(buf_cleanup) struct buf text;
    buf_init(&text, BUF_MAX_NONE);
    for (int i = 0; i < 50; i++)
        buf_text(&text, "{\"$and\":[");
    buf_text(&text, "{\"");
    for (int i = 0; i < 500; i++)
        buf_text(&text, "\xc3\xa9");
    buf_text(&text, "\":{\"$gt\":\"");
    for (int i = 0; i < 5000; i++)
        buf_text(&text, "\xc3\xa9");
    buf_text(&text, "\"}}");
    for (int i = 0; i < 50; i++)
        buf_text(&text, "]}");
    buf_byte(&text, 0);
    struct filter_node *node;
    och_error err = {0};
    assert_int_equal(parse(*state, false, (const char *)text.at, &node, &err), OCH_INVALID);
    assert_true(json_utf8_valid(slice_of(err.message)));
    assert_non_null(strstr(err.message, "$gt needs a number"));
    assert_non_null(strstr(err.message, "Write {\"key\": {\"$gt\": 12}}."));
    assert_true(strlen(err.message) < sizeof(err.message) - 1);
}

static void what_is_legal_is_accepted(void **state)
{
    static const char *const legal[] = {
        "null",
        "{\"a\":1}",
        "{\"a\":1,\"a\":2}",
        "{\"\":1}",
        "{\"#other\":1}",
        "{\"chroma:document\":\"x\"}",
        "{\"$and\":[]}",
        "{\"$or\":[]}",
        "{\"$and\":[{\"a\":1}]}",
        "{\"a\":{\"$in\":[1,2.5]}}",
        "{\"a\":{\"$in\":[2.5,1]}}",
        "{\"a\":-9223372036854775808}",
        "{\"a\":-9223372036854775809}",
        "{\"a\":1e300}",
        "{\"a\":{\"$exists\":true}}",
        "{\"a\":{\"$regex\":\"x\"}}",
        "{\"$not\":{\"a\":1}}",
        "{\"#id\":5}",
        "{\"#id\":{\"$gt\":5}}",
        "{\"#document\":{\"$not_regex\":\"x\"}}",
        "{\"#document\":{\"$exists\":false}}",
        "{\"#document\":{\"$prefix\":\"\"}}",
        "{\"a\":{\"$like\":\"a%b_\\\\%\"}}",
        "{\"a\":{\"$icontains\":\"[^$.*+?(){}|&~#-]\"}}",
        "{\"#other\":{\"$prefix\":\"x\"}}",
    };
    for (size_t i = 0; i < COUNT_OF(legal); i++)
        filter_free(compiled(*state, false, legal[i]));
    struct filter_node *node = (void *)1;
    assert_int_equal(filter_parse_where(NULL, *state, &node, NULL), OCH_OK);
    assert_null(node);
    assert_null(compiled(*state, true, "null"));
    filter_free(
        compiled(*state, true, "{\"$not\":{\"$or\":[{\"$contains\":\"\"},{\"$and\":[]}]}}"));
}

static void patterns_are_refused_with_the_engines_reason(void **state)
{
    static const struct refusal cases[] = {
        {"(", "Regex syntax error: regex parse error:\n    (\n    ^\nerror: unclosed group"},
        {"a{2,1}", "Regex syntax error: regex parse error:\n    a{2,1}\n     ^^^^^\nerror: invalid "
                   "repetition count range, the start must be <= the end"},
        {"(?=x)", "Regex syntax error: regex parse error:\n    (?=x)\n    ^^^\nerror: look-around"},
        {"\\\\1", "Regex syntax error: regex parse error:\n    \\1\n    ^^\nerror: backreferences"},
        {"\\\\p{Nope}", "Regex syntax error: regex parse error:"},
        {"x{9999999999}", "Regex syntax error: regex parse error:"},
        {"a{1001}{1001}", "Regex syntax error: "},
        {"\\\\w{1000}{1000}", "Regex syntax error: Compiled regex exceeds size limit"},
        {"(?-u)\\\\w", "Byte pattern is not allowed"},
        {"(?-u)\\\\xff", "Byte pattern is not allowed"},
        {"(?-u).", "Byte pattern is not allowed"},
        {"(?i-u)\\\\x41", "Byte pattern is not allowed"},
        {"(?i-u)\\\\u{6b}", "Byte pattern is not allowed"},
        {"(?-u)[^a]", "Byte pattern is not allowed"},
        {"(?-u)[\\\\w]", "Byte pattern is not allowed"},
        {"(?-u:[a-z])", "Byte pattern is not allowed"},
        {"(?i-u)k", "Byte pattern is not allowed"},
        {"x(?s-u:a(b(\\\\d)))", "Byte pattern is not allowed"},
        {"[(](?-u)\\\\D", "Byte pattern is not allowed"},
        {"[]](?-u).", "Byte pattern is not allowed"},
        {"[^]a](?-u).", "Byte pattern is not allowed"},
        {"[[:alpha:]&&[^b]](?-u)\\\\s", "Byte pattern is not allowed"},
        {"(?x)a # (?u)\\n (?-u) .", "Byte pattern is not allowed"},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        for (int document = 0; document < 2; document++) {
            struct filter_node *node;
            struct filter *filter = NULL;
            och_error err = {0};
            const char *text = arena_printf(
                *state, document ? "{\"$not_regex\":\"%s\"}" : "{\"k\":{\"$regex\":\"%s\"}}",
                cases[i].where);
            assert_int_equal(parse(*state, document, text, &node, &err), OCH_OK);
            och_code code = filter_compile(node, &filter, &err);
            if (code != OCH_INVALID || filter ||
                strncmp(err.message, cases[i].says, strlen(cases[i].says)) != 0)
                fail_msg("%s: got %d \"%s\"", text, code, err.message);
            assert_slice(slice_make(err.message + err.path_at, err.path_len),
                         document ? "where_document.$not_regex" : "where.k");
        }
    }
}

static void errors_of_patterns_name_their_place(void **state)
{
    static const struct refusal cases[] = {
        {"{\"a\":{\"$regex\":\"(\"}}", "searches[1].filter.a"},
        {"{\"$or\":[{\"b\":2},{\"$not\":{\"é.x\":{\"$like\":\"x\\\\\"}}}]}",
         "searches[1].filter.$or[1].$not.é.x"},
        {"{\"$and\":[{\"#document\":{\"$not_regex\":\"[a\"}}]}",
         "searches[1].filter.$and[0].#document"},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct filter_node *node;
        struct filter *filter = NULL;
        och_error err = {0};
        const struct json_value *where = json_of(*state, cases[i].where);
        assert_int_equal(filter_parse_where_at(where, "searches[1].filter", *state, &node, &err),
                         OCH_OK);
        assert_int_equal(filter_compile(node, &filter, &err), OCH_INVALID);
        assert_slice(slice_make(err.message + err.path_at, err.path_len), cases[i].says);
    }
}

static void the_place_of_a_pattern_far_down_keeps_its_end(void **state)
{
    CLEANUP(buf_cleanup) struct buf text;
    buf_init(&text, BUF_MAX_NONE);
    for (int i = 0; i < 60; i++)
        buf_text(&text, "{\"$and\":[");
    buf_text(&text, "{\"ééééééééééé\":{\"$regex\":\"(\"}}");
    for (int i = 0; i < 60; i++)
        buf_text(&text, "]}");
    buf_byte(&text, 0);
    struct filter_node *node;
    struct filter *filter;
    och_error err = {0};
    assert_int_equal(parse(*state, false, (const char *)buf_view(&text).at, &node, &err), OCH_OK);
    assert_int_equal(filter_compile(node, &filter, &err), OCH_INVALID);
    slice path = slice_make(err.message + err.path_at, err.path_len);
    assert_true(slice_starts_with(path, SLICE("where...")));
    assert_non_null(strstr(err.message, ".$and[0].ééééééééééé)"));
    assert_in_range(path.len, 200, 280);
}

static void patterns_without_a_byte_class_are_accepted(void **state)
{
    static const char *const legal[] = {
        "(?-u)[.][\\\\.][a]",
        "(?i-u)\\\\x{ff}\\\\u00e9(?P<name>)",
        "(?-u)abc",
        "(?-u:abc)\\\\w",
        "(?u)\\\\w",
        "\\\\(?-u\\\\)[a]",
        "[](?-u)]\\\\w",
        "[^](?-u)]\\\\w",
        "[\\\\](?-u:)]\\\\w",
        "[(?-u)]\\\\w",
        "(?P<n>\\\\w)(?<m>.)",
        "(?-u)(?u)\\\\w",
        "(?-u)(?u:\\\\w)",
        "(?-u)\\\\x41\\\\.",
        "(?x)\\\\w # (?-u)",
        "((?-u)a)\\\\d",
    };
    for (size_t i = 0; i < COUNT_OF(legal); i++)
        filter_free(compiled(*state, true, arena_printf(*state, "{\"$regex\":\"%s\"}", legal[i])));
}

static void the_verdict_on_a_long_pattern_is_not_cut_off(void **state)
{
    char *pattern = arena_zalloc(*state, 5001);
    memset(pattern, 'a', 4999);
    pattern[4999] = '(';
    struct filter_node *node;
    struct filter *filter;
    och_error err = {0};
    assert_int_equal(
        parse(*state, true, arena_printf(*state, "{\"$regex\":\"%s\"}", pattern), &node, &err),
        OCH_OK);
    assert_int_equal(filter_compile(node, &filter, &err), OCH_INVALID);
    assert_string_equal(err.message, "Regex syntax error: regex parse error: a pattern of 5000 "
                                     "bytes\nerror: unclosed group (where_document.$regex)");
}

static void a_thousand_patterns_work_and_more_are_refused(void **state)
{
    for (int count = 1024; count <= 1025; count++) {
        CLEANUP(buf_cleanup) struct buf text;
        buf_init(&text, BUF_MAX_NONE);
        buf_text(&text, "{\"$or\":[");
        for (int i = 0; i < count; i++)
            buf_printf(&text, "%s{\"$regex\":\"a(x|y)+[0-9]*=%d$\"}", i ? "," : "", i);
        buf_text(&text, "]}");
        buf_byte(&text, 0);
        struct filter_node *node;
        CLEANUP(filter_cleanup) struct filter *filter = NULL;
        och_error err = {0};
        assert_int_equal(parse(*state, true, (const char *)text.at, &node, &err), OCH_OK);
        och_code code = filter_compile(node, &filter, &err);
        if (count > 1024) {
            assert_int_equal(code, OCH_INVALID);
            assert_non_null(strstr(err.message, "at most 1024 regular expressions"));
            continue;
        }
        assert_int_equal(code, OCH_OK);
        struct filter_row row = {.have = 4, .document = SLICE("axyx77=1023")};
        assert_int_equal(filter_match(filter, &row), FILTER_TRUE);
        row.document = SLICE("axyx77=1024");
        assert_int_equal(filter_match(filter, &row), FILTER_FALSE);
    }
}

/* ---- numbers ---- */

/* `op` on the key "a" and on the document, with an operand of `count` times `piece`. */
static och_code compile_repeated(struct arena *arena, const char *op, bool document,
                                 const char *piece, size_t count, const char *end,
                                 struct filter **ret, och_error *err)
{
    struct filter_node *node = NULL;
    CLEANUP(buf_cleanup) struct buf text;
    buf_init(&text, BUF_MAX_NONE);
    buf_printf(&text, "{\"%s\":{\"%s\":\"", document ? "#document" : "a", op);
    for (size_t i = 0; i < count; i++)
        buf_text(&text, piece);
    buf_printf(&text, "%s\"}}", end);
    buf_byte(&text, 0);
    assert_int_equal(parse(arena, false, (const char *)text.at, &node, err), OCH_OK);
    return filter_compile(node, ret, err);
}

static void hostile_likes_are_refused_or_answered_in_bounded_time(void **state)
{
    static const struct {
        const char *op, *piece, *end, *says; /* says NULL: it compiles */
        size_t count;
    } cases[] = {
        {"$like", "a", "", NULL, 4096},
        {"$like", "_", "", NULL, 4096},
        {"$like", "%_", "%", NULL, 2047},
        {"$like", "%a", "b", NULL, 2047},
        {"$like", "\xf0\x9f\x98\x80", "", NULL, 1024},
        {"$like", "a", "", "$like takes at most 4096 bytes, got 4097", 4097},
        {"$like", "a", "\\\\", "Invalid pattern of $like: it ends in a lone backslash", 3},
        {"$icontains", "k", "", NULL, 4096},
        {"$icontains", "k", "", "$icontains takes at most 4096 bytes, got 5000", 5000},
    };
    enum { LEN = 200000 };
    uint8_t *text = malloc(LEN);
    memset(text, 'a', LEN);
    for (size_t i = 0; i < 2 * COUNT_OF(cases); i++) {
        CLEANUP(filter_cleanup) struct filter *filter = NULL;
        och_error err = {0};
        const char *says = cases[i / 2].says;
        och_code code = compile_repeated(*state, cases[i / 2].op, i % 2, cases[i / 2].piece,
                                         cases[i / 2].count, cases[i / 2].end, &filter, &err);
        if ((code == OCH_OK) != !says || (says && !strstr(err.message, says)))
            fail_msg("case %zu: %d \"%s\"", i, code, err.message);
        struct filter_row row = {.have = FILTER_NEEDS_METADATA | FILTER_NEEDS_DOCUMENT,
                                 .document = slice_make(text, LEN)};
        if (filter)
            (void)filter_match(filter, &row);
    }
    free(text);
}

static void ints_and_floats_compare_as_real_numbers(void **state)
{
    (void)state;
    static const struct {
        int64_t a;
        double b;
        int order;
    } cases[] = {
        {0, 0.0, 0},
        {0, -0.0, 0},
        {0, 5e-324, -1},
        {0, -5e-324, 1},
        {1, 1.5, -1},
        {2, 1.5, 1},
        {-1, -1.5, 1},
        {-2, -1.5, -1},
        {9007199254740993, 9007199254740992.0, 1},
        {9007199254740992, 9007199254740992.0, 0},
        {9007199254740991, 9007199254740992.0, -1},
        {-9007199254740993, -9007199254740992.0, -1},
        {INT64_MAX, 9223372036854775808.0, -1},
        {INT64_MAX, 9223372036854774784.0, 1},
        {INT64_MIN, -9223372036854775808.0, 0},
        {INT64_MIN, -9223372036854777856.0, 1},
        {INT64_MAX, 1.7976931348623157e308, -1},
        {INT64_MIN, -1.7976931348623157e308, 1},
        {INT64_MAX, INFINITY, -1},
        {INT64_MIN, -INFINITY, 1},
        {0, NAN, 2},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++)
        assert_int_equal(filter_compare_int_float(cases[i].a, cases[i].b), cases[i].order);
}

static bool matches(struct arena *arena, const char *where, const char *metadata)
{
    CLEANUP(filter_cleanup) struct filter *filter = compiled(arena, false, where);
    struct filter_row row = {.have = 7, .metadata = meta_of(arena, metadata, 0)};
    enum filter_truth truth = filter_match(filter, &row);
    assert_int_not_equal(truth, FILTER_UNKNOWN);
    return truth == FILTER_TRUE;
}

/* All six operators, both lists and both orders of representation, over the edges of
 * metadata-index.md §6, against numbers that hold i64 and f64 exactly. */
static void every_operator_is_exact_at_the_edges_of_numbers(void **state)
{
    static const char *const numbers[] = {
        "0",
        "0.0",
        "-0.0",
        "1",
        "1.0",
        "1.5",
        "-1",
        "-1.5",
        "5e-324",
        "-5e-324",
        "1.7976931348623157e308",
        "-1.7976931348623157e308",
        "9007199254740991",
        "9007199254740992",
        "9007199254740993",
        "9007199254740992.0",
        "9007199254740994.0",
        "-9007199254740993",
        "-9007199254740992.0",
        "9223372036854775807",
        "9223372036854775806",
        "-9223372036854775808",
        "-9223372036854775807",
        "9223372036854775807.0",
        "9223372036854774784.0",
        "-9223372036854775808.0",
        "1e19",
    };
    static const char *const operators[] = {"$eq", "$ne", "$gt", "$gte", "$lt", "$lte"};
    struct arena arena;
    arena_init(&arena, NULL, 0);
    for (size_t i = 0; i < COUNT_OF(numbers); i++) {
        for (size_t j = 0; j < COUNT_OF(numbers); j++) {
            exact_number a = exact_of(numbers[i]), b = exact_of(numbers[j]);
            const bool expected[] = {a == b, a != b, a > b, a >= b, a < b, a <= b};
            const char *metadata = arena_printf(&arena, "{\"v\":%s}", numbers[i]);
            for (size_t k = 0; k < COUNT_OF(operators); k++) {
                const char *where =
                    arena_printf(&arena, "{\"v\":{\"%s\":%s}}", operators[k], numbers[j]);
                if (matches(&arena, where, metadata) != expected[k])
                    fail_msg("%s on %s", where, metadata);
            }
            const char *in = arena_printf(&arena, "{\"v\":{\"$in\":[77.5,%s,3]}}", numbers[j]);
            const char *nin = arena_printf(&arena, "{\"v\":{\"$nin\":[%s,1e300]}}", numbers[j]);
            if (matches(&arena, in, metadata) != (a == b) ||
                matches(&arena, nin, metadata) != (a != b))
                fail_msg("%s or %s on %s", in, nin, metadata);
        }
        arena_done(&arena);
    }
    arena_done(&arena);
    (void)state;
}

static void nan_matches_only_negatives(void **state)
{
    static const uint8_t encoded[] = {1, 1, 'v', META_FLOAT, 8, 0, 0, 0, 0, 0, 0, 0xf8, 0x7f};
    static const struct {
        const char *where;
        bool match;
    } cases[] = {
        {"{\"v\":1}", false},
        {"{\"v\":{\"$ne\":1}}", true},
        {"{\"v\":{\"$ne\":1.5}}", true},
        {"{\"v\":{\"$gt\":1}}", false},
        {"{\"v\":{\"$gte\":1.5}}", false},
        {"{\"v\":{\"$lt\":1}}", false},
        {"{\"v\":{\"$lte\":1.5}}", false},
        {"{\"v\":{\"$in\":[1,1.5]}}", false},
        {"{\"v\":{\"$nin\":[1,1.5]}}", true},
        {"{\"v\":{\"$exists\":true}}", true},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        CLEANUP(filter_cleanup) struct filter *filter = compiled(*state, false, cases[i].where);
        struct filter_row row = {.have = 7, .metadata = slice_make(encoded, sizeof(encoded))};
        assert_int_equal(filter_match(filter, &row), cases[i].match);
    }
}

/* ---- the rest ---- */

static void reserved_keys_behave_as_absent(void **state)
{
    /* By hand: "" , "#x" and "chroma:document" as stored keys, which JSON refuses. */
    static const uint8_t encoded[] = {3,         0,   META_BOOL, 1,   1,         2,   '#', 'x',
                                      META_BOOL, 1,   1,         8,   'c',       'h', 'r', 'o',
                                      'm',       'a', ':',       'x', META_BOOL, 1,   1};
    assert_int_equal(meta_validate(slice_make(encoded, sizeof(encoded)), NULL), OCH_OK);
    static const char *const keys[] = {"", "#x", "chroma:x"};
    for (size_t i = 0; i < COUNT_OF(keys); i++) {
        static const struct {
            const char *operator;
            bool match;
        } cases[] = {
            {"{\"$eq\":true}", false},     {"{\"$ne\":true}", true},
            {"{\"$in\":[true]}", false},   {"{\"$nin\":[true]}", true},
            {"{\"$exists\":true}", false}, {"{\"$exists\":false}", true},
            {"{\"$regex\":\"x\"}", false}, {"{\"$not_regex\":\"x\"}", true},
            {"{\"$contains\":1}", false},  {"{\"$not_contains\":1}", true},
            {"{\"$gt\":1}", false},
        };
        for (size_t j = 0; j < COUNT_OF(cases); j++) {
            const char *where = arena_printf(*state, "{\"%s\":%s}", keys[i], cases[j].operator);
            CLEANUP(filter_cleanup) struct filter *filter = compiled(*state, false, where);
            struct filter_row row = {.have = 7, .metadata = slice_make(encoded, sizeof(encoded))};
            if (filter_match(filter, &row) != (enum filter_truth)cases[j].match)
                fail_msg("%s", where);
        }
    }
}

static void what_is_not_loaded_is_unknown_unless_it_does_not_matter(void **state)
{
    static const struct {
        const char *where;
        unsigned have, needs;
        enum filter_truth truth;
    } cases[] = {
        {"{\"#document\":{\"$contains\":\"x\"}}", 3, 4, FILTER_UNKNOWN},
        {"{\"#document\":{\"$contains\":\"x\"}}", 4, 4, FILTER_TRUE},
        {"{\"$and\":[{\"#document\":{\"$regex\":\"x\"}},{\"k\":2}]}", 2, 6, FILTER_FALSE},
        {"{\"$and\":[{\"#document\":{\"$regex\":\"x\"}},{\"k\":1}]}", 2, 6, FILTER_UNKNOWN},
        {"{\"$or\":[{\"#document\":{\"$regex\":\"x\"}},{\"k\":1}]}", 2, 6, FILTER_TRUE},
        {"{\"$or\":[{\"#document\":{\"$regex\":\"x\"}},{\"k\":2}]}", 2, 6, FILTER_UNKNOWN},
        {"{\"$not\":{\"#document\":{\"$regex\":\"x\"}}}", 3, 4, FILTER_UNKNOWN},
        {"{\"$not\":{\"$and\":[{\"k\":2},{\"#id\":\"a\"}]}}", 2, 3, FILTER_TRUE},
        {"{\"#id\":\"a\"}", 1, 1, FILTER_TRUE},
        {"{\"#id\":{\"$in\":[\"b\",\"a\"]}}", 1, 1, FILTER_TRUE},
        {"{\"#id\":{\"$nin\":[\"b\",\"c\"]}}", 0, 1, FILTER_UNKNOWN},
        {"{\"#id\":{\"$ne\":\"a\"}}", 1, 1, FILTER_FALSE},
        {"{\"#nobody\":1}", 0, 0, FILTER_FALSE},
        {"{\"$and\":[]}", 0, 0, FILTER_TRUE},
        {"{\"$or\":[]}", 0, 0, FILTER_FALSE},
        {"null", 0, 0, FILTER_TRUE},
    };
    slice metadata = meta_of(*state, "{\"k\":1}", 0);
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        CLEANUP(filter_cleanup) struct filter *filter = compiled(*state, false, cases[i].where);
        struct filter_row row = {cases[i].have, SLICE("a"), metadata, SLICE("x"), NULL};
        if (filter_match(filter, &row) != cases[i].truth)
            fail_msg("%s with %u", cases[i].where, cases[i].have);
        assert_int_equal(filter_needs(filter), cases[i].needs);
    }
}

static void a_hundred_thousand_values_and_clauses_work(void **state)
{
    enum { COUNT = 100000 };
    CLEANUP(buf_cleanup) struct buf in, or, strings;
    buf_init(&in, BUF_MAX_NONE);
    buf_init(& or, BUF_MAX_NONE);
    buf_init(&strings, BUF_MAX_NONE);
    buf_text(&in, "{\"n\":{\"$in\":[");
    buf_text(& or, "{\"$or\":[");
    buf_text(&strings, "{\"s\":{\"$nin\":[");
    for (int i = 0; i < COUNT; i++) {
        buf_printf(&in, "%s%d", i ? "," : "", i * 2);
        buf_printf(& or, "%s{\"n\":%d}", i ? "," : "", i * 2);
        buf_printf(&strings, "%s\"%d\"", i ? "," : "", i * 2);
    }
    buf_text(&in, "]}}");
    buf_text(& or, "]}");
    buf_text(&strings, "]}}");
    buf_byte(&in, 0), buf_byte(& or, 0), buf_byte(&strings, 0);
    CLEANUP(filter_cleanup) struct filter *in_filter = compiled(*state, false, (const char *)in.at);
    CLEANUP(filter_cleanup)
    struct filter *or_filter = compiled(*state, false, (const char *) or.at);
    CLEANUP(filter_cleanup)
    struct filter *nin_filter = compiled(*state, false, (const char *)strings.at);
    for (int i = 0; i < COUNT * 2 + 2; i += 4999) {
        struct filter_row row = {.have = 2};
        row.metadata = meta_of(*state, arena_printf(*state, "{\"n\":%d,\"s\":\"%d\"}", i, i), 0);
        bool even = i % 2 == 0 && i < COUNT * 2;
        assert_int_equal(filter_match(in_filter, &row), even);
        assert_int_equal(filter_match(or_filter, &row), even);
        assert_int_equal(filter_match(nin_filter, &row), !even);
    }
}

/* One row of many keys against a filter of many leaves: the limits are looked at within it. */
static void a_row_that_takes_long_is_given_up_in_time(void **state)
{
    CLEANUP(buf_cleanup) struct buf text, meta;
    buf_init(&text, BUF_MAX_NONE), buf_init(&meta, BUF_MAX_NONE);
    buf_text(&text, "{\"$and\":[");
    for (int i = 0; i < 20000; i++)
        buf_printf(&text, "%s{\"x%d\":{\"$ne\":%d}}", i ? "," : "", i, i);
    buf_text(&text, "]}"), buf_byte(&text, 0);
    for (int i = 0; i < 5000; i++)
        buf_printf(&meta, "%s\"k%d\":%d", i ? "," : "{", i, i);
    buf_text(&meta, "}"), buf_byte(&meta, 0);
    CLEANUP(filter_cleanup) struct filter *filter = compiled(*state, false, (const char *)text.at);
    struct cancel cancel = {true};
    struct limits_of_work limits = {.cancel = &cancel};
    struct filter_work work = {.limits = &limits};
    struct filter_row row = {
        .have = 2, .metadata = meta_of(*state, (const char *)meta.at, 0), .work = &work};
    uint64_t began = clock_mono_ns(clock_system());
    (void)filter_match(filter, &row);
    assert_true(work.stopped);
    uint64_t took = clock_mono_ns(clock_system()) - began;
    row.work = NULL;
    began = clock_mono_ns(clock_system());
    assert_int_equal(filter_match(filter, &row), FILTER_TRUE);
    assert_true(took * 4 < clock_mono_ns(clock_system()) - began);
}

static void nesting_as_deep_as_json_allows_works(void **state)
{
    CLEANUP(buf_cleanup) struct buf text;
    buf_init(&text, BUF_MAX_NONE);
    for (int i = 0; i < 126; i++)
        buf_text(&text, "{\"$not\":");
    buf_text(&text, "{\"k\":1}");
    for (int i = 0; i < 126; i++)
        buf_byte(&text, '}');
    buf_byte(&text, 0);
    struct filter_node *node, *joined = NULL, *again;
    och_error err = {0};
    assert_int_equal(parse(*state, false, (const char *)text.at, &node, &err), OCH_OK);
    for (int i = 0; i < 3; i++)
        assert_int_equal(filter_join(joined, node, *state, &joined, &err), OCH_OK);
    CLEANUP(buf_cleanup) struct buf bytes;
    buf_init(&bytes, BUF_MAX_NONE);
    filter_encode(joined, &bytes);
    struct reader reader = reader_of(buf_view(&bytes));
    assert_int_equal(filter_decode(&reader, *state, &again, &err), OCH_OK);
    CLEANUP(filter_cleanup) struct filter *filter = NULL;
    assert_int_equal(filter_compile(again, &filter, &err), OCH_OK);
    struct filter_row row = {.have = 2, .metadata = meta_of(*state, "{\"k\":1}", 0)};
    assert_int_equal(filter_match(filter, &row), FILTER_TRUE);
}

static void deeper_bytes_and_wrong_operands_are_refused(void **state)
{
    uint8_t deep[1000];
    for (size_t i = 0; i < sizeof(deep); i += 2)
        deep[i] = FILTER_NOT, deep[i + 1] = 1;
    struct reader reader = reader_of(slice_make(deep, sizeof(deep)));
    struct filter_node *node;
    assert_int_equal(filter_decode(&reader, *state, &node, NULL), OCH_CORRUPT);
    static const struct {
        const char *bytes;
        size_t len;
    } bad[] = {
        {"", 0},                              /* nothing */
        {"\x03\x00", 2},                      /* NOT without a child */
        {"\x01\x01\x00", 3},                  /* AND of nothing */
        {"\x01\xff\xff\xff\xff\x0f", 6},      /* many children, no bytes */
        {"\x0a\x01k\x00", 4},                 /* EQ without a value */
        {"\x0c\x01k\x01\x01\x01", 6},         /* GT a boolean */
        {"\x0a\x01k\x01\x01\x02", 6},         /* a boolean of 2 */
        {"\x0a\x01k\x01\x04\x02", 6},         /* an unknown kind */
        {"\x28\x01\x01\x01", 4},              /* document contains a boolean */
        {"\x2c\x01\x01\x01", 4},              /* document prefix, a boolean */
        {"\x18\x01k\x02\x00\x00\x00\x00", 8}, /* LIKE with two operands */
        {"\x1a\x01k\x01\x00\x01x", 7},        /* unknown operators */
        {"\x2f\x01\x00\x01x", 5},
        {"\x1e\x02\x00\x01x\x01\x01", 7}, /* ids of two kinds */
    };
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        reader = reader_of(slice_make(bad[i].bytes, bad[i].len));
        assert_int_equal(filter_decode(&reader, *state, &node, NULL), OCH_CORRUPT);
    }
    struct filter_node eq = {.op = FILTER_EQ};
    struct filter *filter;
    assert_int_equal(filter_compile(&eq, &filter, NULL), OCH_INVALID);
}

struct job {
    const struct json_value *where;
};

static och_code all_once(void *user)
{
    struct job *job = user;
    struct arena arena;
    arena_init(&arena, NULL, 0);
    CLEANUP(filter_cleanup) struct filter *filter = NULL;
    struct filter_node *node;
    och_code code = filter_parse_where(job->where, &arena, &node, NULL);
    if (code == OCH_OK)
        code = filter_compile(node, &filter, NULL);
    arena_done(&arena);
    return code;
}

static void no_memory_is_an_error_and_leaks_nothing(void **state)
{
    CLEANUP(buf_cleanup) struct buf text;
    buf_init(&text, BUF_MAX_NONE);
    buf_text(&text, "{\"$and\":[{\"#document\":{\"$regex\":\"^a+b\"}},{\"n\":{\"$in\":[");
    for (int i = 0; i < 300; i++)
        buf_printf(&text, "%s%d", i ? "," : "", i);
    buf_text(&text, "]}},{\"s\":{\"$nin\":[");
    for (int i = 0; i < 300; i++)
        buf_printf(&text, "%s\"%0*d\"", i ? "," : "", 30, i);
    buf_text(&text, "]}},{\"k\":{\"$regex\":\"x\"}}]}");
    buf_byte(&text, 0);
    struct job job = {json_of(*state, (const char *)text.at)};
    for_each_failing_allocation(all_once, &job);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(what_the_grammar_forbids_is_refused_with_place_and_reason),
        TEST(long_names_and_paths_keep_the_message_whole),
        TEST(what_is_legal_is_accepted),
        TEST(patterns_are_refused_with_the_engines_reason),
        TEST(errors_of_patterns_name_their_place),
        TEST(the_place_of_a_pattern_far_down_keeps_its_end),
        TEST(patterns_without_a_byte_class_are_accepted),
        TEST(the_verdict_on_a_long_pattern_is_not_cut_off),
        TEST(a_thousand_patterns_work_and_more_are_refused),
        TEST(hostile_likes_are_refused_or_answered_in_bounded_time),
        TEST(ints_and_floats_compare_as_real_numbers),
        TEST(every_operator_is_exact_at_the_edges_of_numbers),
        TEST(nan_matches_only_negatives),
        TEST(reserved_keys_behave_as_absent),
        TEST(what_is_not_loaded_is_unknown_unless_it_does_not_matter),
        TEST(a_hundred_thousand_values_and_clauses_work),
        TEST(nesting_as_deep_as_json_allows_works),
        TEST(a_row_that_takes_long_is_given_up_in_time),
        TEST(deeper_bytes_and_wrong_operands_are_refused),
        TEST(no_memory_is_an_error_and_leaks_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
