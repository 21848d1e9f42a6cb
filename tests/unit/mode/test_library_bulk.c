/* SPDX-License-Identifier: Apache-2.0 */
/* Facets, lines of JSON and warming up by typed calls: the same as over HTTP. */
#include "library_test.h"

static const char lines[] =
    "{\"id\":\"a\",\"embedding\":[1.0,2.0],\"document\":\"one\",\"metadata\":{\"c\":\"red\",\"n\":"
    "1}}\n"
    "{\"id\":\"b\",\"embedding\":[2.0,2.0],\"metadata\":{\"c\":\"blue\",\"n\":2.5}}\n"
    "{\"id\":\"c\",\"embedding\":[3.0,2.0],\"uri\":\"u\",\"metadata\":{\"c\":\"red\"}}\n";

struct text {
    char at[4096];
    size_t len, step; /* bytes of a piece; 0: gives up */
    size_t taken;
};

static bool take_text(void *user, och_bytes piece)
{
    struct text *text = user;
    if (!text->step)
        return false;
    assert_true(text->len + piece.len < sizeof(text->at));
    memcpy(text->at + text->len, piece.at, piece.len);
    text->len += piece.len;
    text->at[text->len] = '\0';
    return true;
}

static bool give_text(void *user, void *room, size_t size, size_t *ret_len)
{
    struct text *text = user;
    *ret_len = text->len - text->taken < text->step ? text->len - text->taken : text->step;
    assert_true(*ret_len <= size);
    memcpy(room, text->at + text->taken, *ret_len);
    text->taken += *ret_len;
    return text->step > 0;
}

static och_counts import_text(och_collection *collection, uint32_t operation, const char *all)
{
    och_import from = OCH_IMPORT;
    och_counts counts = OCH_COUNTS;
    from.operation = operation;
    from.text = och_text(all);
    OK(och_collection_import(collection, &from, &counts, &err));
    return counts;
}

static void lines_go_in_and_come_out_as_they_were(void **state)
{
    (void)state;
    och_database *database = test_open(NULL);
    och_collection *collection = test_create(database, "docs");
    assert_int_equal(import_text(collection, OCH_ADD, lines).inserted, 3);
    assert_int_equal(import_text(collection, OCH_ADD, lines).skipped, 3);
    assert_int_equal(import_text(collection, OCH_UPSERT, lines).updated, 3);
    assert_int_equal(import_text(collection, OCH_UPDATE, "{\"id\":\"z\"}").skipped, 1);
    struct text out = {.step = 1};
    OK(och_collection_export(collection, NULL, take_text, &out, &err));
    assert_string_equal(out.at, lines);
    /* chosen ones, chosen fields */
    och_select which = OCH_SELECT;
    och_filter *filter = test_filter("{\"c\": \"red\"}", NULL);
    which.filter = filter;
    which.include = OCH_DOCUMENT;
    out = (struct text){.step = 1};
    OK(och_collection_export(collection, &which, take_text, &out, &err));
    assert_string_equal(out.at, "{\"id\":\"a\",\"document\":\"one\"}\n{\"id\":\"c\"}\n");
    out.step = 0;
    assert_int_equal(och_collection_export(collection, NULL, take_text, &out, &err), OCH_CANCELLED);
    which.limit = 1;
    assert_int_equal(och_collection_export(collection, &which, take_text, &out, &err), OCH_INVALID);
    assert_int_equal(och_collection_export(collection, NULL, NULL, NULL, &err), OCH_INVALID);
    och_filter_free(filter);
    och_collection_free(collection);
    test_close(database);
}

static void an_import_reads_piece_by_piece(void **state)
{
    (void)state;
    och_database *database = test_open(NULL);
    for (size_t step = 1; step < 60; step += 9) {
        och_collection *collection = test_create(database, "docs");
        och_import from = OCH_IMPORT;
        och_counts counts = OCH_COUNTS;
        struct text text = {.len = sizeof(lines) - 1, .step = step};
        memcpy(text.at, lines, sizeof(lines));
        from.read = give_text;
        from.user = &text;
        from.batch_lines = 2;
        OK(och_collection_import(collection, &from, &counts, &err));
        assert_int_equal(counts.inserted, 3);
        struct text out = {.step = 1};
        OK(och_collection_export(collection, NULL, take_text, &out, &err));
        assert_string_equal(out.at, lines);
        och_collection_spec spec = OCH_COLLECTION_SPEC;
        spec.name = och_text("docs");
        OK(och_collection_drop(database, &spec, &err));
        och_collection_free(collection);
    }
    och_collection *collection = test_create(database, "faults");
    och_import from = OCH_IMPORT;
    from.batch_lines = 1;
    from.text = och_text("{\"id\":\"a\",\"embedding\":[1]}\n{\"id\":5}\n");
    assert_int_equal(och_collection_import(collection, &from, NULL, &err), OCH_INVALID);
    assert_string_equal(err.message,
                        "line 2: id: integer `5`, expected a string; line 1 is written");
    struct text gives_up = {.step = 0};
    from.text = (och_bytes)OCH_NO_BYTES;
    assert_int_equal(och_collection_import(collection, &from, NULL, &err), OCH_INVALID);
    from.read = give_text;
    from.user = &gives_up;
    assert_int_equal(och_collection_import(collection, &from, NULL, &err), OCH_CANCELLED);
    from.operation = 3;
    assert_int_equal(och_collection_import(collection, &from, NULL, &err), OCH_INVALID);
    assert_int_equal(och_collection_import(collection, NULL, NULL, &err), OCH_INVALID);
    uint64_t count;
    OK(och_collection_count(collection, NULL, &count, &err));
    assert_int_equal(count, 1);
    och_collection_free(collection);
    test_close(database);
}

static bool bytes_are(och_bytes bytes, const char *text)
{
    return bytes.len == strlen(text) && memcmp(bytes.at, text, bytes.len) == 0;
}

static void facets_are_counted(void **state)
{
    (void)state;
    och_database *database = test_open(NULL);
    och_collection *collection = test_create(database, "docs");
    (void)import_text(collection, OCH_ADD, lines);
    const och_bytes keys[] = {och_text("c"), och_text("n"), och_text("none")};
    och_facets facets = OCH_FACETS;
    och_result *result;
    facets.keys = keys;
    facets.key_count = 3;
    OK(och_collection_facets(collection, &facets, NULL, &result, &err));
    assert_int_equal(och_result_count(result), 4);
    const struct {
        uint32_t key;
        uint64_t count;
        const char *json;
    } expected[] = {{0, 2, "\"red\""}, {0, 1, "\"blue\""}, {1, 1, "1"}, {1, 1, "2.5"}};
    och_row row = OCH_ROW;
    bool more;
    for (size_t i = 0; i < 4; i++) {
        OK(och_result_next(result, &row, &more, &err));
        assert_true(more && row.query_index == expected[i].key && row.seq == expected[i].count);
        assert_true(bytes_are(row.metadata_json, expected[i].json));
    }
    OK(och_result_next(result, &row, &more, &err));
    assert_false(more);
    och_facet facet = OCH_FACET;
    OK(och_result_facet(result, 1, &facet, &err));
    assert_true(facet.records == 2 && facet.distinct == 2 && facet.value_count == 2);
    assert_true(bytes_are(facet.least_json, "1") && bytes_are(facet.most_json, "2.5"));
    OK(och_result_facet(result, 2, &facet, &err));
    assert_true(facet.records == 0 && facet.least_json.at == NULL);
    assert_int_equal(och_result_facet(result, 3, &facet, &err), OCH_INVALID);
    och_result_free(result);
    /* under a filter, and what is refused */
    och_select among = OCH_SELECT;
    och_filter *filter = test_filter("{\"n\": {\"$gt\": 1}}", NULL);
    among.filter = filter;
    facets.limit = 0;
    OK(och_collection_facets(collection, &facets, &among, &result, &err));
    OK(och_result_facet(result, 0, &facet, &err));
    assert_true(facet.records == 1 && facet.value_count == 0);
    och_result_free(result);
    facets.key_count = 0;
    assert_int_equal(och_collection_facets(collection, &facets, NULL, &result, &err), OCH_INVALID);
    const och_bytes twice[] = {och_text("c"), och_text("c")};
    facets.keys = twice;
    facets.key_count = 2;
    assert_int_equal(och_collection_facets(collection, &facets, NULL, &result, &err), OCH_INVALID);
    och_filter_free(filter);
    och_collection_free(collection);
    test_close(database);
}

static void a_collection_is_warmed(void **state)
{
    (void)state;
    och_database *database = test_open(NULL);
    och_collection *collection = test_create(database, "docs");
    och_warmed warmed = OCH_WARMED;
    (void)import_text(collection, OCH_ADD, lines);
    for (uint32_t level = OCH_WARM_HOT; level <= OCH_WARM_VECTORS; level++)
        OK(och_collection_warm(collection, level, 0, NULL, &warmed, &err));
    assert_true(warmed.bytes == warmed.wanted_bytes);
    OK(och_collection_warm(collection, OCH_WARM_HOT, 1000, NULL, NULL, &err));
    assert_int_equal(och_collection_warm(collection, 3, 0, NULL, NULL, &err), OCH_INVALID);
    och_collection_free(collection);
    test_close(database);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_go_in_and_come_out_as_they_were),
        cmocka_unit_test(an_import_reads_piece_by_piece),
        cmocka_unit_test(facets_are_counted),
        cmocka_unit_test(a_collection_is_warmed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
