/* SPDX-License-Identifier: Apache-2.0 */
/* Search payloads: what is taken, what is refused and how, expressions by their table of defaults, bytes and back. */
#include "model_test.h"

#include "base/clock.h"
#include "model/limits.h"
#include "model/plan.h"
#include "model/record.h"

#include <float.h>
#include <math.h>

static och_code parse(struct arena *arena, const char *text, struct search_request *ret,
                      och_error *err)
{
    const struct json_value *body = json_of(arena, text);
    return search_parse(body, slice_of(text), arena, ret, err);
}

static struct search *parsed(struct arena *arena, const char *text, struct search_request *ret)
{
    och_error err = {0};
    if (parse(arena, text, ret, &err) != OCH_OK || search_check(ret, &err) != OCH_OK)
        fail_msg("%s in %s", err.message, text);
    return ret->searches;
}

static void an_empty_payload_means_everything(void **state)
{
    (void)state;
    struct arena arena;
    struct search_request request;
    arena_init(&arena, NULL, 0);
    struct search *search = parsed(&arena, "[]", &request);
    assert_int_equal(request.count, 0);
    static const char *const same[] = {
        "[{}]",
        "[{\"filter\":null,\"rank\":null}]",
        "[{\"filter\":{}}]",
        "[{\"where\":{}}]",
        "[{\"group_by\":{},\"limit\":{},\"select\":{}}]",
        "[{\"select\":{\"keys\":[]}}]",
        "[{\"group_by\":{\"keys\":[],\"aggregate\":null},\"limit\":{\"limit\":null}}]"};
    for (size_t i = 0; i < COUNT_OF(same); i++) {
        search = parsed(&arena, same[i], &request);
        assert_int_equal(request.count, 1);
        assert_null(search->filter);
        assert_false(search->has_rank);
        assert_int_equal(search->limit, PLAN_NO_LIMIT);
        assert_int_equal(search->offset, 0);
        assert_int_equal(search->fields, 0);
        assert_int_equal(search->group.aggregate, SEARCH_UNGROUPED);
        assert_int_equal(request.selects[0].count, 0);
    }
    arena_done(&arena);
}

static void all_members_are_read(void **state)
{
    (void)state;
    struct arena arena;
    struct search_request request;
    arena_init(&arena, NULL, 0);
    const struct search *search = parsed(
        &arena,
        "[{\"where\":{\"a\":1},\"rank\":{\"$knn\":{\"query\":[1,2.5],\"key\":\"k\",\"limit\":7,"
        "\"default\":3,\"return_rank\":true}},\"group_by\":{\"keys\":[\"c\",\"#id\"],\"aggregate\":"
        "{\"$max_k\":{\"keys\":[\"#score\",\"n\"],\"k\":2}}},\"limit\":{\"offset\":4,\"limit\":5},"
        "\"select\":{\"keys\":[\"z\",\"#score\",\"b\",\"#document\",\"b\",\"#embedding\"]}}]",
        &request);
    assert_non_null(search->filter);
    assert_int_equal(search->knn_count, 1);
    const struct search_knn *knn = &search->knns[0];
    assert_false(knn->sparse);
    assert_int_equal(knn->count, 2);
    assert_true(knn->values[0] == 1.0f && knn->values[1] == 2.5f);
    assert_int_equal(knn->limit, 7);
    assert_true(knn->has_fallback && knn->fallback == 3.0f && knn->return_rank);
    assert_int_equal(search->group.aggregate, SEARCH_MAX_K);
    assert_int_equal(search->group.key_count, 2);
    assert_int_equal(search->group.order_count, 2);
    assert_int_equal(search->group.k, 2);
    assert_int_equal(search->offset, 4);
    assert_int_equal(search->limit, 5);
    assert_int_equal(search->fields, RECORD_DOCUMENT | RECORD_VECTOR | RECORD_METADATA);
    static const char *const echo[] = {"#document", "#embedding", "#score", "b", "z"};
    const struct search_select *select = &request.selects[0];
    assert_int_equal(select->count, COUNT_OF(echo));
    for (size_t i = 0; i < COUNT_OF(echo); i++)
        assert_slice(select->keys[i], echo[i]);
    assert_true(select->score && select->some_metadata && !select->whole_metadata);
    search = parsed(&arena, "[{\"rank\":{\"$knn\":{\"query\":[]}}}]", &request);
    assert_int_equal(search->knns[0].limit, 16);
    assert_false(search->knns[0].has_fallback);
    search =
        parsed(&arena,
               "[{\"rank\":{\"$knn\":{\"query\":{\"#type\":\"sparse_vector\",\"indices\":[3,9],"
               "\"values\":[1,2],\"tokens\":null},\"key\":\"sp\"}}}]",
               &request);
    assert_true(search->knns[0].sparse);
    assert_int_equal(search->knns[0].indices[1], 9);
    assert_slice(search->knns[0].key, "sp");
    arena_done(&arena);
}

/* Payload, code, how the message begins. */
static const struct {
    const char *text;
    och_code code;
    const char *message;
} refused[] = {
    {"[5]", OCH_SHAPE,
     "searches[0]: invalid type: integer `5`, expected struct SearchPayload at line 1 column 2"},
    {"[{},null]", OCH_SHAPE, "searches[1]: invalid type: null, expected struct SearchPayload"},
    {"[[1]]", OCH_SHAPE, "searches[0]: invalid type: sequence"},
    {"[{\"filters\":{}}]", OCH_SHAPE,
     "searches[0]: unknown field `filters`, expected one of `filter`"},
    {"[{\"rank\":null,\"rank\":null}]", OCH_SHAPE, "searches[0]: duplicate field `rank`"},
    {"[{\"filter\":null,\"where\":null}]", OCH_SHAPE, "searches[0]: duplicate field `filter`"},
    {"[{\"filter\":5}]", OCH_SHAPE, "searches[0].filter: Invalid where clause"},
    {"[{\"filter\":{\"a\":1,\"b\":2}}]", OCH_SHAPE, "searches[0].filter: Invalid where clause"},
    {"[{\"where\":{\"a\":{\"$gt\":\"x\"}}}]", OCH_SHAPE, "searches[0].where: Invalid where clause"},
    {"[{\"group_by\":null}]", OCH_SHAPE,
     "searches[0].group_by: invalid type: null, expected struct GroupBy"},
    {"[{\"group_by\":{\"key\":[]}}]", OCH_SHAPE, "searches[0].group_by: unknown field `key`"},
    {"[{\"group_by\":{\"keys\":\"a\"}}]", OCH_SHAPE,
     "searches[0].group_by.keys: invalid type: string"},
    {"[{\"group_by\":{\"keys\":[1]}}]", OCH_SHAPE,
     "searches[0].group_by.keys[0]: invalid type: integer `1`, expected a string"},
    {"[{\"group_by\":{\"aggregate\":5}}]", OCH_SHAPE,
     "searches[0].group_by.aggregate: invalid type"},
    {"[{\"group_by\":{\"aggregate\":{}}}]", OCH_INVALID,
     "Failed to parse the request body as JSON: searches[0].group_by.aggregate"},
    {"[{\"group_by\":{\"aggregate\":{\"$avg\":{}}}}]", OCH_SHAPE,
     "searches[0].group_by.aggregate: unknown variant `$avg`, expected one of `$min_k`, `$max_k`"},
    {"[{\"group_by\":{\"aggregate\":{\"$min_k\":{\"k\":1}}}}]", OCH_SHAPE,
     "searches[0].group_by.aggregate.$min_k: missing field `keys`"},
    {"[{\"group_by\":{\"aggregate\":{\"$max_k\":{\"keys\":[]}}}}]", OCH_SHAPE,
     "searches[0].group_by.aggregate.$max_k: missing field `k`"},
    {"[{\"group_by\":{\"aggregate\":{\"$min_k\":{\"keys\":[],\"k\":-1}}}}]", OCH_SHAPE,
     "searches[0].group_by.aggregate.$min_k.k: invalid value: integer `-1`, expected u32"},
    {"[{\"limit\":null}]", OCH_SHAPE,
     "searches[0].limit: invalid type: null, expected struct Limit"},
    {"[{\"limit\":-1}]", OCH_SHAPE,
     "searches[0].limit: invalid type: integer `-1`, expected struct Limit"},
    {"[{\"limit\":{\"offset\":null}}]", OCH_SHAPE,
     "searches[0].limit.offset: invalid type: null, expected u32"},
    {"[{\"limit\":{\"limit\":4294967296}}]", OCH_SHAPE, "searches[0].limit.limit: invalid value"},
    {"[{\"limit\":{\"limit\":1.5}}]", OCH_SHAPE,
     "searches[0].limit.limit: invalid type: floating point `1.5`, expected u32"},
    {"[{\"select\":null}]", OCH_SHAPE,
     "searches[0].select: invalid type: null, expected struct Select"},
    {"[{\"select\":{\"keys\":[null]}}]", OCH_SHAPE,
     "searches[0].select.keys[0]: invalid type: null, expected a string"},
    {"[{\"select\":{\"keys\":null}}]", OCH_SHAPE, "searches[0].select.keys: invalid type: null"},
    {"[{\"rank\":{}}]", OCH_INVALID,
     "Failed to parse the request body as JSON: searches[0].rank: expected one operator"},
    {"[{\"rank\":{\"$val\":1,\"$sum\":[]}}]", OCH_INVALID,
     "Failed to parse the request body as JSON: searches[0].rank"},
    {"[{\"rank\":5}]", OCH_SHAPE,
     "searches[0].rank: invalid type: integer `5`, expected enum RankExpr"},
    {"[{\"rank\":{\"$bad\":1}}]", OCH_SHAPE,
     "searches[0].rank: unknown variant `$bad`, expected one of `$abs`, `$div`, `$exp`, `$knn`, "
     "`$log`, `$max`, `$min`, `$mul`, `$sub`, `$sum`, `$val` at line 1 column 10. One more is "
     "`$bm25`."},
    {"[{\"rank\":{\"$rrf\":{}}}]", OCH_SHAPE, "searches[0].rank: unknown variant `$rrf`"},
    {"[{\"rank\":{\"$val\":\"x\"}}]", OCH_SHAPE, "searches[0].rank.$val: invalid type: string"},
    {"[{\"rank\":{\"$val\":null}}]", OCH_SHAPE, "searches[0].rank.$val: invalid type: null"},
    {"[{\"rank\":{\"$sum\":{}}}]", OCH_SHAPE,
     "searches[0].rank.$sum: invalid type: map, expected a sequence"},
    {"[{\"rank\":{\"$sum\":[{\"$val\":1},{\"$sub\":{\"left\":{\"$val\":1},\"right\":{\"$no\":1}}}]}"
     "}]",
     OCH_SHAPE, "searches[0].rank.$sum[1].$sub.right: unknown variant `$no`"},
    {"[{\"rank\":{\"$abs\":[1]}}]", OCH_SHAPE, "searches[0].rank.$abs: invalid type: sequence"},
    {"[{\"rank\":{\"$div\":{\"left\":{\"$val\":1}}}}]", OCH_SHAPE,
     "searches[0].rank.$div: missing field `right`"},
    {"[{\"rank\":{\"$div\":{\"right\":{\"$val\":1}}}}]", OCH_SHAPE,
     "searches[0].rank.$div: missing field `left`"},
    {"[{\"rank\":{\"$sub\":[{\"$val\":1},{\"$val\":1}]}}]", OCH_SHAPE,
     "searches[0].rank.$sub: invalid type: sequence"},
    {"[{\"rank\":{\"$knn\":{}}}]", OCH_SHAPE, "searches[0].rank.$knn: missing field `query`"},
    {"[{\"rank\":{\"$knn\":[]}}]", OCH_SHAPE, "searches[0].rank.$knn: invalid type: sequence"},
    {"[{\"rank\":{\"$knn\":{\"query\":\"text\"}}}]", OCH_SHAPE,
     "searches[0].rank.$knn.query: data did not match any variant of untagged enum QueryVector"},
    {"[{\"rank\":{\"$knn\":{\"query\":[\"1\"]}}}]", OCH_SHAPE,
     "searches[0].rank.$knn.query: data did not match"},
    {"[{\"rank\":{\"$knn\":{\"query\":{\"indices\":[1]}}}}]", OCH_SHAPE,
     "searches[0].rank.$knn.query: data did not match"},
    {"[{\"rank\":{\"$knn\":{\"query\":{\"indices\":[-1],\"values\":[1]}}}}]", OCH_SHAPE,
     "searches[0].rank.$knn.query: data did not match"},
    {"[{\"rank\":{\"$knn\":{\"query\":{\"indices\":[1],\"values\":[1],\"tokens\":[1]}}}}]",
     OCH_SHAPE, "searches[0].rank.$knn.query: data did not match"},
    {"[{\"rank\":{\"$knn\":{\"query\":[1],\"limit\":null}}}]", OCH_SHAPE,
     "searches[0].rank.$knn.limit: invalid type: null, expected u32"},
    {"[{\"rank\":{\"$knn\":{\"query\":[1],\"key\":null}}}]", OCH_SHAPE,
     "searches[0].rank.$knn.key: invalid type: null, expected a string"},
    {"[{\"rank\":{\"$knn\":{\"query\":[1],\"default\":\"1\"}}}]", OCH_SHAPE,
     "searches[0].rank.$knn.default: invalid type: string"},
    {"[{\"rank\":{\"$knn\":{\"query\":[1],\"return_rank\":null}}}]", OCH_SHAPE,
     "searches[0].rank.$knn.return_rank: invalid type: null, expected a boolean"},
    {"[{\"rank\":{\"$knn\":{\"query\":[1],\"k\":3}}}]", OCH_SHAPE,
     "searches[0].rank.$knn: unknown field `k`"},
    /* what is judged once the collection is there */
    {"[{\"filter\":{\"#document\":{\"$gt\":1}}}]", OCH_INVALID,
     "Cannot filter using metadata key '#document'"},
    {"[{\"group_by\":{\"keys\":[\"a\"],\"aggregate\":{\"$min_k\":{\"keys\":[\"b\"],\"k\":1}}}}]",
     OCH_INVALID,
     "Validation error: searches[0].__all__: group_by requires rank expression to be specified"},
    {"[{\"rank\":{\"$val\":1},\"group_by\":{\"keys\":[\"a\"]}}]", OCH_INVALID,
     "Validation error: searches[0].group_by: group_by keys and aggregate must both be specified "
     "or both be omitted"},
    {"[{\"rank\":{\"$val\":1},\"group_by\":{\"aggregate\":{\"$min_k\":{\"keys\":[\"b\"],\"k\":1}}}}"
     "]",
     OCH_INVALID, "Validation error: searches[0].group_by: group_by keys and aggregate must both"},
    {"[{},{\"rank\":{\"$val\":1},\"group_by\":{\"keys\":[\"#metadata\"],\"aggregate\":{\"$min_k\":{"
     "\"keys\":[\"b\"],\"k\":1}}}}]",
     OCH_INVALID,
     "Validation error: searches[1].group_by: group_by keys must be metadata fields (cannot use "
     "#score, #document, #embedding, or #metadata)"},
    {"[{\"rank\":{\"$val\":1},\"group_by\":{\"keys\":[\"a\"],\"aggregate\":{\"$min_k\":{\"keys\":[]"
     ",\"k\":1}}}}]",
     OCH_INVALID, "Validation error: searches[0].group_by: aggregate keys must not be empty"},
    {"[{\"rank\":{\"$val\":1},\"group_by\":{\"keys\":[\"a\"],\"aggregate\":{\"$min_k\":{\"keys\":["
     "\"b\"],\"k\":0}}}}]",
     OCH_INVALID, "Validation error: searches[0].group_by: aggregate k must be greater than 0"},
    {"[{\"rank\":{\"$val\":1},\"group_by\":{\"keys\":[\"a\"],\"aggregate\":{\"$max_k\":{\"keys\":["
     "\"#embedding\"],\"k\":1}}}}]",
     OCH_INVALID,
     "Validation error: searches[0].group_by: aggregate keys must be metadata fields or #score "
     "(cannot use #document, #embedding, or #metadata)"},
    {"[{\"rank\":{\"$knn\":{\"query\":{\"indices\":[2,2],\"values\":[1,1]}}}}]", OCH_INVALID,
     "Validation error: searches[0].rank: Invalid sparse vector in KNN query: Sparse vector "
     "indices must be sorted in strictly ascending order (no duplicates)"},
    {"[{\"rank\":{\"$knn\":{\"query\":{\"indices\":[2],\"values\":[1,1]}}}}]", OCH_INVALID,
     "Validation error: searches[0].rank: Invalid sparse vector in KNN query: Sparse vector "
     "indices, values, and tokens (when present) must have the same length"},
    {"[{\"rank\":{\"$knn\":{\"query\":{\"indices\":[2],\"values\":[1],\"tokens\":[]}}}}]",
     OCH_INVALID,
     "Validation error: searches[0].rank: Invalid sparse vector in KNN query: Sparse vector "
     "indices, values"},
    {"[{\"rank\":{\"$knn\":{\"query\":[1e300]}}}]", OCH_INVALID,
     "Validation error: searches[0].rank: query vectors must not contain NaN or Infinity"},
};

static void every_fault_has_its_code_and_text(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(refused); i++) {
        struct arena arena;
        struct search_request request;
        och_error err = {0};
        arena_init(&arena, NULL, 0);
        och_code code = parse(&arena, refused[i].text, &request, &err);
        if (code == OCH_OK)
            code = search_check(&request, &err);
        if (code != refused[i].code ||
            strncmp(err.message, refused[i].message, strlen(refused[i].message)) != 0)
            fail_msg("%s: code %d, \"%s\"", refused[i].text, (int)code, err.message);
        arena_done(&arena);
    }
}

/* ---- limits ---- */

static char *repeated(const char *head, const char *unit, size_t count, const char *separator,
                      const char *tail)
{
    size_t room = strlen(head) + strlen(tail) + 1 + count * (strlen(unit) + strlen(separator));
    char *text = malloc(room), *at = text;
    assert_non_null(text);
    at += sprintf(at, "%s", head);
    for (size_t i = 0; i < count; i++)
        at += sprintf(at, "%s%s", i ? separator : "", unit);
    (void)sprintf(at, "%s", tail);
    return text;
}

static void assert_too_much(char *text, const char *message)
{
    struct arena arena;
    struct search_request request;
    och_error err = {0};
    arena_init(&arena, NULL, 0);
    assert_int_equal(parse(&arena, text, &request, &err), OCH_QUOTA);
    if (!strstr(err.message, message) || strncmp(err.message, "Quota exceeded: ", 16) != 0)
        fail_msg("%s", err.message);
    arena_done(&arena);
    free(text);
}

static void what_clients_nest_and_list_is_bounded(void **state)
{
    (void)state;
    assert_too_much(
        repeated("[{\"rank\":{\"$sum\":[", "{\"$val\":1}", LIMIT_SEARCH_STEPS, ",", "]}}]"),
        "may hold 16384 operations");
    assert_too_much(repeated("[{\"rank\":{\"$sum\":[", "{\"$knn\":{\"query\":[1]}}",
                             LIMIT_SEARCH_KNN + 1, ",", "]}}]"),
                    "may hold 1000 $knn");
    assert_too_much(repeated("[", "{}", LIMIT_SEARCHES + 1, ",", "]"), "at most 1000");
    assert_too_much(
        repeated("[{\"select\":{\"keys\":[", "\"a\"", LIMIT_SEARCH_KEYS + 1, ",", "]}}]"),
        "at most 1000");
    /* as deep as JSON goes, each kind of node */
    static const char *const kinds[][2] = {
        {"{\"$abs\":", "}"},
        {"{\"$sum\":[{\"$val\":1},", "]}"},
        {"{\"$sub\":{\"left\":{\"$val\":1},\"right\":", "}}"},
        {"{\"$sub\":{\"right\":{\"$val\":1},\"left\":", "}}"},
    };
    for (size_t i = 0; i < COUNT_OF(kinds); i++) {
        struct arena arena;
        struct search_request request;
        arena_init(&arena, NULL, 0);
        size_t depth = i ? 61 : 122;
        char *head = repeated("[{\"rank\":", kinds[i][0], depth, "", "{\"$val\":2}"),
             *text = repeated(head, kinds[i][1], depth, "", "}]");
        const struct search *search = parsed(&arena, text, &request);
        assert_true(rank_sound(search->steps, search->step_count, 0));
        struct rank_value v = rank_evaluate(search->steps, search->step_count, NULL);
        assert_true(v.has_fallback && !v.has);
        free(head);
        free(text);
        arena_done(&arena);
    }
}

/* ---- evaluating ---- */

/* `a`, `b`: what the first and second $knn of the expression give. */
static struct rank_value value_of(const char *rank, struct rank_value a, struct rank_value b)
{
    struct arena arena;
    struct search_request request;
    arena_init(&arena, NULL, 0);
    const char *text = arena_printf(&arena, "[{\"rank\":%s}]", rank);
    const struct search *search = parsed(&arena, text, &request);
    struct rank_value values[] = {a, b};
    struct rank_value v = rank_evaluate(search->steps, search->step_count, values);
    arena_done(&arena);
    return v;
}
#define KNN "{\"$knn\":{\"query\":[1]}}"

static void which_records_have_a_score_follows_the_table_of_defaults(void **state)
{
    (void)state;
    const struct rank_value has = {.value = 4, .has = true}, lacks = {0},
                            both = {.value = 4, .has = true, .fallback = 9, .has_fallback = true},
                            falls = {.fallback = 9, .has_fallback = true};
    static const char *const sub = "{\"$sub\":{\"left\":" KNN ",\"right\":" KNN "}}";
    const struct {
        struct rank_value a, b;
        bool has;
        float value;
    } cases[] = {
        {has, has, true, 0},      {has, lacks, false, 0},  {lacks, has, false, 0},
        {both, both, true, 0},    {both, falls, true, -5}, {falls, both, true, 5},
        {falls, falls, false, 0}, {has, falls, true, -5},  {falls, has, true, 5},
        {lacks, both, false, 0},  {both, lacks, false, 0}, {lacks, falls, false, 0},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct rank_value v = value_of(sub, cases[i].a, cases[i].b);
        assert_int_equal(v.has, cases[i].has);
        if (v.has)
            assert_true(v.value == cases[i].value);
        assert_int_equal(v.has_fallback, cases[i].a.has_fallback && cases[i].b.has_fallback);
        if (v.has_fallback)
            assert_true(v.fallback == 0);
    }
    /* folds begin at a seed that has a default, so a list alone changes nothing */
    static const char *const lists[] = {"$sum", "$mul", "$max", "$min"};
    static const float seeds[] = {0, 1, -FLT_MAX, FLT_MAX};
    for (size_t i = 0; i < COUNT_OF(lists); i++) {
        char text[128];
        (void)snprintf(text, sizeof(text), "{\"%s\":[" KNN "]}", lists[i]);
        struct rank_value v = value_of(text, has, lacks);
        assert_true(v.has && v.value == 4 && !v.has_fallback);
        assert_false(value_of(text, lacks, lacks).has);
        (void)snprintf(text, sizeof(text), "{\"%s\":[]}", lists[i]);
        v = value_of(text, lacks, lacks);
        assert_true(!v.has && v.has_fallback && v.fallback == seeds[i]);
    }
}

static void odd_numbers_are_no_errors(void **state)
{
    (void)state;
    const struct rank_value zero = {.value = 0, .has = true};
    struct rank_value v = value_of("{\"$div\":{\"left\":" KNN ",\"right\":" KNN "}}", zero, zero);
    assert_true(v.has && isnan(v.value) && !signbit(v.value));
    v = value_of("{\"$log\":" KNN "}", zero, zero);
    assert_true(v.has && isinf(v.value) && v.value < 0);
    v = value_of("{\"$log\":{\"$val\":-1}}", zero, zero);
    assert_true(isnan(v.fallback) && !signbit(v.fallback));
    v = value_of("{\"$exp\":{\"$val\":1000}}", zero, zero);
    assert_true(isinf(v.fallback));
    assert_true(value_of("{\"$exp\":{\"$val\":1}}", zero, zero).fallback == 2.7182817f);
    assert_true(value_of("{\"$abs\":{\"$val\":-2}}", zero, zero).fallback == 2);
    assert_true(value_of("{\"$max\":[{\"$val\":3},{\"$val\":7}]}", zero, zero).fallback == 7);
    assert_true(value_of("{\"$min\":[{\"$val\":3},{\"$val\":7}]}", zero, zero).fallback == 3);
    static const float order[] = {-INFINITY, -FLT_MAX, -1,      -1e-40f,  -0.0f, 0.0f,
                                  1e-40f,    1,        FLT_MAX, INFINITY, NAN};
    for (size_t i = 0; i < COUNT_OF(order); i++)
        for (size_t j = 0; j < COUNT_OF(order); j++)
            assert_int_equal(rank_compare(order[i], order[j]), (i > j) - (i < j));
    assert_int_equal(rank_compare(-(float)NAN, INFINITY), 1);
}

static void metadata_orders_across_types(void **state)
{
    (void)state;
    static const char *const ascending[] = {
        "false",
        "true",
        "-5",
        "7",
        "9007199254740993",
        "-1.5",
        "-0.0",
        "0.0",
        "2.5",
        "\"\"",
        "\"a\"",
        "\"ab\"",
        "\"b\"",
        "{\"#type\":\"sparse_vector\",\"indices\":[1],\"values\":[1]}",
        "[]",
        "[false]",
        "[false,true]",
        "[true]",
        "[-5]",
        "[7]",
        "[7,1]",
        "[-1.5]",
        "[0.5]",
        "[\"\"]",
        "[\"a\"]",
        "[\"a\",\"\"]",
        "[\"b\"]"};
    struct arena arena;
    arena_init(&arena, NULL, 0);
    struct meta_entry entries[COUNT_OF(ascending)];
    for (size_t i = 0; i < COUNT_OF(ascending); i++) {
        const char *text = arena_printf(&arena, "{\"k\":%s}", ascending[i]);
        assert_true(meta_find(meta_of(&arena, text, 0), SLICE("k"), &entries[i]));
    }
    for (size_t i = 0; i < COUNT_OF(ascending); i++) {
        assert_true(search_compare_meta(NULL, &entries[i]) < 0);
        assert_true(search_compare_meta(&entries[i], NULL) > 0);
        for (size_t j = 0; j < COUNT_OF(ascending); j++) {
            int order = search_compare_meta(&entries[i], &entries[j]);
            if ((order > 0) - (order < 0) != (i > j) - (i < j))
                fail_msg("%s and %s: %d", ascending[i], ascending[j], order);
        }
    }
    assert_int_equal(search_compare_meta(NULL, NULL), 0);
    arena_done(&arena);
}

/* ---- bytes ---- */

static const char *const whole = "[{},{\"filter\":{\"a\":1},\"rank\":{\"$sum\":[{\"$knn\":{"
                                 "\"query\":[1,2],\"limit\":3,\"default\":"
                                 "0.5}},{\"$div\":{\"left\":{\"$val\":2},\"right\":{\"$knn\":{"
                                 "\"query\":{\"indices\":[1,7],\"values\":[1,"
                                 "2]},\"key\":\"sp\",\"return_rank\":true}}}}]},\"group_by\":{"
                                 "\"keys\":[\"c\"],\"aggregate\":{\"$min_k\":{"
                                 "\"keys\":[\"#score\",\"n\"],\"k\":4}}},\"limit\":{\"limit\":9,"
                                 "\"offset\":1},\"select\":{\"keys\":[\"x\",\"#embedding\"]}}]";

static void encode(const struct search_request *request, struct buf *out)
{
    struct plan plan = {
        .kind = PLAN_SEARCH, .searches = request->searches, .search_count = request->count};
    buf_init(out, BUF_MAX_NONE);
    plan_encode(&plan, out);
}

static void plans_of_searches_survive_their_bytes(void **state)
{
    (void)state;
    struct arena arena;
    struct search_request request;
    struct plan plan;
    och_error err = {0};
    arena_init(&arena, NULL, 0);
    parsed(&arena, whole, &request);
    CLEANUP(buf_cleanup) struct buf first, second;
    encode(&request, &first);
    assert_int_equal(plan_decode(buf_view(&first), &arena, &plan, &err), OCH_OK);
    assert_int_equal(plan.search_count, 2);
    const struct search *search = &plan.searches[1];
    assert_int_equal(search->knn_count, 2);
    assert_true(search->knns[1].sparse && search->knns[1].return_rank);
    assert_slice(search->knns[1].key, "sp");
    assert_int_equal(search->step_count, request.searches[1].step_count);
    assert_int_equal(search->group.k, 4);
    assert_int_equal(search->fields, RECORD_VECTOR | RECORD_METADATA);
    buf_init(&second, BUF_MAX_NONE);
    plan_encode(&plan, &second);
    assert_true(slice_equal(buf_view(&first), buf_view(&second)));
    arena_done(&arena);
}

/* docs/formats/plan.md, the example of a search. */
static void the_example_of_the_format_page_parses(void **state)
{
    (void)state;
    static const uint8_t example[] = {
        0x01, 0x04, 0x00, 0x00,                                     /* version, search */
        0x00, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77,             /* collection */
        0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff, 0x00,       /* fields */
        0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01, /* limit */
        0x00, 0x00, 0x00, 0x00, 0x00, 0x00,                         /* offset, k, recall */
        0x00, 0x00, 0x00,                                           /* filter, vectors */
        0x01, 0x00, 0x00, 0x00,                                     /* one, filter, rank, groups */
        0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01, 0x00, 0x20,
    };
    struct arena arena;
    struct plan plan;
    och_error err = {0};
    arena_init(&arena, NULL, 0);
    if (plan_decode(slice_make(example, sizeof(example)), &arena, &plan, &err) != OCH_OK)
        fail_msg("%s", err.message);
    assert_int_equal(plan.kind, PLAN_SEARCH);
    assert_int_equal(plan.search_count, 1);
    assert_int_equal(plan.searches[0].limit, PLAN_NO_LIMIT);
    assert_int_equal(plan.searches[0].fields, RECORD_METADATA);
    CLEANUP(buf_cleanup) struct buf out;
    buf_init(&out, BUF_MAX_NONE);
    plan_encode(&plan, &out);
    assert_int_equal(out.len, sizeof(example));
    assert_memory_equal(out.at, example, sizeof(example));
    arena_done(&arena);
}

/* Cut anywhere or one byte changed: refused, or a plan that is sound. */
static void damaged_bytes_never_give_an_unsound_program(void **state)
{
    (void)state;
    struct arena arena;
    struct search_request request;
    arena_init(&arena, NULL, 0);
    parsed(&arena, whole, &request);
    CLEANUP(buf_cleanup) struct buf bytes;
    encode(&request, &bytes);
    for (size_t len = 0; len < bytes.len; len++) {
        struct arena scratch;
        struct plan plan;
        arena_init(&scratch, NULL, 0);
        uint8_t *copy = malloc(len ? len : 1); /* so that a read past the end is seen */
        assert_non_null(copy);
        memcpy(copy, bytes.at, len);
        assert_int_equal(plan_decode(slice_make(copy, len), &scratch, &plan, NULL), OCH_CORRUPT);
        free(copy);
        arena_done(&scratch);
    }
    struct random random;
    random_seed(&random, 7);
    for (size_t round = 0; round < 20000; round++) {
        struct arena scratch;
        struct plan plan;
        arena_init(&scratch, NULL, 0);
        size_t at = random_below(&random, (uint32_t)bytes.len);
        uint8_t old = bytes.at[at];
        bytes.at[at] = (uint8_t)random_below(&random, 256);
        if (plan_decode(buf_view(&bytes), &scratch, &plan, NULL) == OCH_OK)
            for (uint32_t i = 0; i < plan.search_count; i++)
                assert_true(!plan.searches[i].has_rank ||
                            rank_sound(plan.searches[i].steps, plan.searches[i].step_count,
                                       plan.searches[i].knn_count));
        bytes.at[at] = old;
        arena_done(&scratch);
    }
    arena_done(&arena);
}

static och_code parse_and_encode(void *user)
{
    (void)user;
    struct arena arena;
    struct json_value body;
    struct json_fault fault;
    struct search_request request;
    struct plan plan = {.kind = PLAN_SEARCH}, again;
    struct buf bytes;
    arena_init(&arena, NULL, 0);
    buf_init(&bytes, BUF_MAX_NONE);
    och_error err = {0};
    och_code code = json_read(slice_of(whole), NULL, &arena, &body, &fault, &err);
    if (code == OCH_OK)
        code = search_parse(&body, slice_of(whole), &arena, &request, &err);
    if (code == OCH_OK) {
        plan.searches = request.searches;
        plan.search_count = request.count;
        plan_encode(&plan, &bytes);
        code = buf_check(&bytes, "a plan", &err);
    }
    if (code == OCH_OK)
        code = plan_decode(buf_view(&bytes), &arena, &again, &err);
    buf_done(&bytes);
    arena_done(&arena);
    return code;
}

static void no_memory_is_an_error_and_leaks_nothing(void **state)
{
    (void)state;
    for_each_failing_allocation(parse_and_encode, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_empty_payload_means_everything),
        cmocka_unit_test(all_members_are_read),
        cmocka_unit_test(every_fault_has_its_code_and_text),
        cmocka_unit_test(what_clients_nest_and_list_is_bounded),
        cmocka_unit_test(which_records_have_a_score_follows_the_table_of_defaults),
        cmocka_unit_test(odd_numbers_are_no_errors),
        cmocka_unit_test(metadata_orders_across_types),
        cmocka_unit_test(plans_of_searches_survive_their_bytes),
        cmocka_unit_test(the_example_of_the_format_page_parses),
        cmocka_unit_test(damaged_bytes_never_give_an_unsound_program),
        cmocka_unit_test(no_memory_is_an_error_and_leaks_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
