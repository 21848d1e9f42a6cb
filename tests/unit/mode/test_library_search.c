/* SPDX-License-Identifier: Apache-2.0 */
/* Search by a typed call: rows, scores and fields are those that the same payload gets over HTTP. */
#include "library_test.h"

static och_result *search(och_collection *collection, const char *json)
{
    och_result *result;
    OK(och_collection_search(collection, och_text(json), &result, &err));
    return result;
}

static och_row next(och_result *result)
{
    och_row row = OCH_ROW;
    bool more = false;
    OK(och_result_next(result, &row, &more, &err));
    assert_true(more);
    return row;
}

static void assert_bytes(och_bytes bytes, const char *text)
{
    if (!text) {
        assert_null(bytes.at);
        return;
    }
    assert_int_equal(bytes.len, strlen(text));
    assert_memory_equal(bytes.at, text, bytes.len);
}

static void a_payload_ranks_and_shows_what_it_selects(void **state)
{
    (void)state;
    och_database *database = test_open(NULL);
    och_collection *docs = test_filled(database, "docs");
    och_result *result =
        search(docs, "{\"rank\": {\"$knn\": {\"query\": [1, 0, 0]}}, \"limit\": {\"limit\": 2},"
                     " \"select\": {\"keys\": [\"#document\", \"#score\", \"n\"]}}");
    assert_int_equal(och_result_count(result), 2);
    och_row row = next(result);
    assert_bytes(row.id, "a");
    assert_true(row.distance == 0);
    assert_bytes(row.document, "one treaty");
    assert_bytes(row.metadata_json, "{\"n\":1}"); /* "s" was not asked for */
    assert_null(row.vector);
    row = next(result);
    assert_bytes(row.id, "b");
    assert_true(row.distance == 2);
    assert_bytes(row.document, NULL);
    assert_bytes(row.metadata_json, "{\"n\":2}");
    och_result_free(result);

    result = search(docs, "{\"filter\": {\"s\": \"x\"}, \"select\": {\"keys\": [\"#metadata\","
                          " \"#embedding\"]}}");
    row = next(result);
    assert_bytes(row.metadata_json, "{\"n\":1,\"s\":\"x\"}");
    assert_int_equal(row.dimension, 3);
    assert_memory_equal(row.vector, test_vectors, 3 * sizeof(float));
    assert_string_equal(test_text(result), "");

    result = search(docs, "{\"select\": {\"keys\": [\"nobody has it\"]}}");
    assert_bytes(next(result).metadata_json, NULL);
    assert_string_equal(test_text(result), "b c");
    och_collection_free(docs);
    test_close(database);
}

static void several_payloads_are_told_apart(void **state)
{
    (void)state;
    och_database *database = test_open(NULL);
    och_collection *docs = test_filled(database, "docs");
    och_result *result = search(
        docs,
        "[{\"rank\": {\"$bm25\": {\"query\": \"treaty\"}}, \"select\": {\"keys\": [\"#uri\"]}},"
        " {\"filter\": {\"n\": 9}}, {\"where\": {\"n\": {\"$gt\": 1}},"
        " \"select\": {\"keys\": [\"#metadata\"]}}]");
    och_row row = next(result);
    assert_bytes(row.id, "a");
    assert_int_equal(row.query_index, 0);
    assert_bytes(row.metadata_json, NULL);
    row = next(result);
    assert_bytes(row.id, "b");
    assert_int_equal(row.query_index, 2);
    assert_bytes(row.metadata_json, "{\"n\":2}");
    assert_string_equal(test_text(result), "");
    assert_string_equal(test_text(search(docs, "[]")), "");
    och_collection_free(docs);
    test_close(database);
}

static void wrong_payloads_are_refused_by_place(void **state)
{
    (void)state;
    och_database *database = test_open(NULL);
    och_collection *docs = test_filled(database, "docs");
    och_result *result = NULL;
    static const struct {
        och_code code;
        const char *json, *says;
    } cases[] = {
        {OCH_SHAPE, "{\"rnak\": 1}", "rnak"},
        {OCH_SHAPE, "7", "search_json"},
        {OCH_SHAPE, "null", "search_json"},
        {OCH_SHAPE, NULL, "search_json"},
        {OCH_INVALID, "{", "line 1"},
        {OCH_INVALID, "{\"rank\": {\"$knn\": {\"query\": [1, 0]}}}", "dimension of 3, got 2"},
        {OCH_SHAPE, "{\"filter\": {\"n\": {\"$gt\": \"x\"}}}", "searches[0]"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        FAILS(cases[i].code, och_collection_search(docs, och_text(cases[i].json), &result, &err));
        SAYS(cases[i].says);
        assert_null(result);
    }
    FAILS(OCH_INVALID, och_collection_search(docs, och_text("{}"), NULL, &err));
    FAILS(OCH_INVALID, och_collection_search(NULL, och_text("{}"), &result, &err));
    test_close(database);
    FAILS(OCH_CLOSED, och_collection_search(docs, och_text("{}"), &result, &err));
    och_collection_free(docs);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_payload_ranks_and_shows_what_it_selects),
        cmocka_unit_test(several_payloads_are_told_apart),
        cmocka_unit_test(wrong_payloads_are_refused_by_place),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
