/* SPDX-License-Identifier: Apache-2.0 */
/* Every typed call of ochre.h, as a C program would use it. */
#include "library_test.h"

/* ---- writing ---- */

static void adding_counts_what_is_new_and_what_is_there(void **state)
{
    struct test_things *f = *state;
    struct test_rows rows;
    och_records *records = test_records(&rows);
    rows.ids[2] = och_text("d");
    och_counts counts = OCH_COUNTS;
    OK(och_collection_add(f->collection, records, &counts, &err));
    assert_int_equal(counts.inserted, 1);
    assert_int_equal(counts.skipped, 2);
    assert_int_equal(counts.updated + counts.deleted, 0);
    assert_string_equal(test_get(f->collection, NULL), "a b c d");
}

static void an_upsert_keeps_what_is_absent_and_lays_metadata_over(void **state)
{
    struct test_things *f = *state;
    och_bytes id = och_text("a"), metadata = och_text("{\"n\": 5, \"s\": null}");
    och_records records = OCH_RECORDS;
    const float vector[] = {9, 9, 9};
    records.count = 1;
    records.dimension = 3;
    records.ids = &id;
    records.vectors = vector;
    records.metadatas_json = &metadata;
    och_counts counts = OCH_COUNTS;
    OK(och_collection_upsert(f->collection, &records, &counts, &err));
    assert_int_equal(counts.updated, 1);
    och_select which = OCH_SELECT;
    which.ids = &id;
    which.id_count = 1;
    which.include = OCH_DOCUMENT | OCH_METADATA | OCH_VECTOR;
    och_result *result;
    OK(och_collection_get(f->collection, &which, &result, &err));
    assert_int_equal(och_result_count(result), 1);
    och_row row = OCH_ROW;
    bool more;
    OK(och_result_next(result, &row, &more, &err));
    assert_true(more);
    assert_memory_equal(row.document.at, "one treaty", row.document.len);
    assert_int_equal(row.metadata_json.len, strlen("{\"n\":5}"));
    assert_memory_equal(row.metadata_json.at, "{\"n\":5}", row.metadata_json.len);
    assert_int_equal(row.dimension, 3);
    assert_memory_equal(row.vector, vector, sizeof(vector));
    och_result_free(result);
}

static void an_update_skips_unknown_ids_and_may_leave_vectors_alone(void **state)
{
    struct test_things *f = *state;
    och_bytes ids[] = {och_text("b"), och_text("nobody")};
    och_bytes uris[] = {och_text("file:b"), och_text("file:n")};
    och_records records = OCH_RECORDS;
    records.count = 2;
    records.ids = ids;
    records.uris = uris;
    och_counts counts = OCH_COUNTS;
    OK(och_collection_update(f->collection, &records, &counts, &err));
    assert_int_equal(counts.updated, 1);
    assert_int_equal(counts.skipped, 1);
    och_select which = OCH_SELECT;
    which.ids = ids;
    which.id_count = 2;
    which.include = OCH_URI | OCH_VECTOR;
    och_result *result;
    och_row row = OCH_ROW;
    bool more;
    OK(och_collection_get(f->collection, &which, &result, &err));
    OK(och_result_next(result, &row, &more, &err));
    assert_memory_equal(row.uri.at, "file:b", 6);
    assert_memory_equal(row.vector, test_vectors + 3, 3 * sizeof(float));
    OK(och_result_next(result, &row, &more, &err));
    assert_false(more);
    och_result_free(result);
}

static void vectors_may_lie_apart(void **state)
{
    struct test_things *f = *state;
    const float spaced[] = {1, 2, 3, -1, -1, 4, 5, 6, -1, -1};
    och_bytes ids[] = {och_text("s1"), och_text("s2")};
    och_records records = OCH_RECORDS;
    records.count = 2;
    records.dimension = 3;
    records.vector_stride = 5;
    records.ids = ids;
    records.vectors = spaced;
    OK(och_collection_add(f->collection, &records, NULL, &err));
    och_select which = OCH_SELECT;
    which.ids = &ids[1];
    which.id_count = 1;
    which.include = OCH_VECTOR;
    och_result *result;
    och_row row = OCH_ROW;
    bool more;
    OK(och_collection_get(f->collection, &which, &result, &err));
    OK(och_result_next(result, &row, &more, &err));
    assert_memory_equal(row.vector, spaced + 5, 3 * sizeof(float));
    och_result_free(result);
}

static void deleting_takes_ids_or_a_filter_and_counts(void **state)
{
    struct test_things *f = *state;
    och_bytes ids[] = {och_text("a"), och_text("nobody")};
    och_select which = OCH_SELECT;
    och_counts counts = OCH_COUNTS;
    which.ids = ids;
    which.id_count = 2;
    OK(och_collection_delete(f->collection, &which, &counts, &err));
    assert_int_equal(counts.deleted, 1);
    och_filter *filter = test_filter("{\"n\": {\"$gte\": 1}}", NULL);
    which = (och_select)OCH_SELECT;
    which.filter = filter;
    OK(och_collection_delete(f->collection, &which, &counts, &err));
    assert_int_equal(counts.deleted, 1);
    assert_string_equal(test_get(f->collection, NULL), "c");
    OK(och_collection_delete(f->collection, NULL, &counts, &err));
    assert_int_equal(counts.deleted, 0);
    och_filter_free(filter);
}

static void an_update_by_filter_changes_all_it_matches(void **state)
{
    struct test_things *f = *state;
    och_filter *filter = test_filter("{\"n\": {\"$gte\": 1}}", NULL);
    och_select which = OCH_SELECT, by_filter = OCH_SELECT;
    which.filter = by_filter.filter = filter;
    och_change change = OCH_CHANGE;
    och_counts counts = OCH_COUNTS;
    change.metadata_json = och_text("{\"n\": null, \"m\": 7}");
    change.uri = och_text("u");
    change.clear = OCH_DOCUMENT;
    change.dry_run = true;
    OK(och_collection_update_where(f->collection, &which, &change, &counts, &err));
    assert_int_equal(counts.updated, 2);
    assert_string_equal(test_get(f->collection, &by_filter), "a b");
    change.dry_run = false;
    which.limit = 1;
    OK(och_collection_update_where(f->collection, &which, &change, &counts, &err));
    assert_int_equal(counts.updated, 1);
    assert_string_equal(test_get(f->collection, &by_filter), "b");
    och_filter_free(filter);
    by_filter.filter = filter = test_filter("{\"m\": 7}", NULL);
    assert_string_equal(test_get(f->collection, &by_filter), "a");
    och_filter_free(filter);
    which.filter = NULL;
    change.document = och_text("x");
    FAILS(OCH_INVALID, och_collection_update_where(f->collection, &which, &change, &counts, &err));
    change = (och_change)OCH_CHANGE;
    FAILS(OCH_INVALID, och_collection_update_where(f->collection, NULL, &change, NULL, &err));
    change.expires_ms = -1;
    which = (och_select)OCH_SELECT;
    FAILS(OCH_INVALID, och_collection_update_where(f->collection, &which, &change, NULL, &err));
}

static void records_expire_and_lose_fields(void **state)
{
    struct test_things *f = *state;
    och_bytes ids[] = {och_text("a"), och_text("b")};
    const int64_t times[] = {1, OCH_NEVER};
    const uint32_t clear[] = {0, OCH_METADATA};
    och_records records = OCH_RECORDS;
    records.count = 2;
    records.ids = ids;
    records.expires_ms = times;
    records.clear = clear;
    OK(och_collection_update(f->collection, &records, NULL, &err));
    assert_string_equal(test_get(f->collection, NULL), "b c");
    uint64_t count;
    OK(och_collection_count(f->collection, NULL, &count, &err));
    assert_int_equal(count, 2);
    och_filter *filter = test_filter("{\"n\": 2}", NULL);
    och_select by_filter = OCH_SELECT;
    by_filter.filter = filter;
    assert_string_equal(test_get(f->collection, &by_filter), "");
    och_filter_free(filter);
    records.vectors = test_vectors;
    records.dimension = 3;
    FAILS(OCH_INVALID, och_collection_add(f->collection, &records, NULL, &err));
}

static void an_alias_opens_its_collection(void **state)
{
    struct test_things *f = *state;
    och_collection_spec spec = OCH_COLLECTION_SPEC;
    och_collection *opened;
    spec.name = och_text("live");
    OK(och_alias_set(f->database, &spec, och_text("things"), &err));
    OK(och_collection_open(f->database, &spec, &opened, &err));
    assert_string_equal(och_collection_id(opened).at, och_collection_id(f->collection).at);
    och_collection_free(opened);
    FAILS(OCH_INVALID, och_collection_drop(f->database, &spec, &err));
    const och_bytes none = OCH_NO_BYTES;
    OK(och_alias_set(f->database, &spec, none, &err));
    FAILS(OCH_NOT_FOUND, och_collection_open(f->database, &spec, &opened, &err));
    FAILS(OCH_NOT_FOUND, och_alias_set(f->database, &spec, none, &err));
    FAILS(OCH_NOT_FOUND, och_alias_set(f->database, &spec, och_text("nobody"), &err));
}

static void a_fork_goes_on_by_itself(void **state)
{
    struct test_things *f = *state;
    och_collection *fork, *again;
    och_collection_spec spec = OCH_COLLECTION_SPEC;
    uint64_t before, count;
    OK(och_collection_count(f->collection, NULL, &before, &err));
    OK(och_collection_fork(f->collection, och_text("copy"), &fork, &err));
    och_records records = OCH_RECORDS;
    const och_bytes id = och_text("only here");
    records.count = 1;
    records.ids = &id;
    records.vectors = test_vectors;
    records.dimension = 3;
    OK(och_collection_add(fork, &records, NULL, &err));
    OK(och_collection_count(fork, NULL, &count, &err));
    assert_int_equal(count, before + 1);
    OK(och_collection_count(f->collection, NULL, &count, &err));
    assert_int_equal(count, before);
    FAILS(OCH_EXISTS, och_collection_fork(fork, och_text("copy"), &again, &err));
    FAILS(OCH_INVALID, och_collection_fork(fork, och_text("-"), &again, &err));
    spec.name = och_text("copy");
    OK(och_collection_drop(f->database, &spec, &err));
    FAILS(OCH_NOT_FOUND, och_collection_fork(fork, och_text("more"), &again, &err));
    och_collection_free(fork);
}

static void a_delete_limited_takes_the_oldest(void **state)
{
    struct test_things *f = *state;
    och_filter *filter = test_filter("{\"n\": {\"$gte\": 0}}", NULL);
    och_select which = OCH_SELECT;
    which.filter = filter;
    which.limit = 1;
    OK(och_collection_delete(f->collection, &which, NULL, &err));
    assert_string_equal(test_get(f->collection, NULL), "b c");
    och_filter_free(filter);
    which.filter = NULL;
    FAILS(OCH_INVALID, och_collection_delete(f->collection, &which, NULL, &err));
    SAYS("limit can only be specified when a where clause");
    och_bytes none = OCH_NO_BYTES;
    which = (och_select)OCH_SELECT;
    which.ids = &none;
    FAILS(OCH_INVALID, och_collection_delete(f->collection, &which, NULL, &err));
    SAYS("Either ids or where");
}

/* ---- reading ---- */

static void a_row_has_what_was_asked_for_and_no_more(void **state)
{
    struct test_things *f = *state;
    och_result *result;
    och_row row = OCH_ROW;
    bool more;
    OK(och_collection_get(f->collection, NULL, &result, &err));
    OK(och_result_next(result, &row, &more, &err));
    assert_true(more);
    assert_memory_equal(row.id.at, "a", 1);
    assert_null(row.document.at);
    assert_null(row.metadata_json.at);
    assert_null(row.uri.at);
    assert_null(row.vector);
    assert_int_equal(row.dimension, 0);
    assert_null(och_result_explain_json(result).at);
    och_result_free(result);

    och_select all = OCH_SELECT;
    all.include = OCH_DOCUMENT | OCH_URI | OCH_METADATA | OCH_VECTOR | OCH_EXPLAIN;
    OK(och_collection_get(f->collection, &all, &result, &err));
    OK(och_result_next(result, &row, &more, &err));
    uint64_t seq = row.seq;
    assert_memory_equal(row.metadata_json.at, "{\"n\":1,\"s\":\"x\"}", row.metadata_json.len);
    OK(och_result_next(result, &row, &more, &err));
    assert_true(row.seq > seq);
    assert_null(row.document.at); /* absent */
    OK(och_result_next(result, &row, &more, &err));
    assert_non_null(row.document.at); /* empty */
    assert_int_equal(row.document.len, 0);
    assert_null(row.metadata_json.at);
    assert_true(och_result_explain_json(result).len > 0);
    OK(och_result_next(result, &row, &more, &err));
    assert_false(more);
    assert_memory_equal(row.id.at, "c", 1); /* untouched */
    OK(och_result_next(result, &row, &more, &err));
    assert_false(more);
    och_result_free(result);
}

static void get_pages_in_order_of_insertion(void **state)
{
    struct test_things *f = *state;
    och_select which = OCH_SELECT;
    which.offset = 1;
    which.limit = 1;
    assert_string_equal(test_get(f->collection, &which), "b");
    which.offset = 3;
    assert_string_equal(test_get(f->collection, &which), "");
    which.offset = 0;
    which.limit = 0;
    assert_string_equal(test_get(f->collection, &which), "");
}

static void get_pages_by_id_backwards_with_cursors(void **state)
{
    struct test_things *f = *state;
    och_result *result = NULL;
    och_select which = OCH_SELECT;
    char cursor[256];
    size_t len = 0, pages = 0;
    which.order_by = (och_bytes){"#id", 3};
    which.descending = true;
    which.limit = 1;
    static const char ids[] = "cba";
    for (bool more = true; more; pages++) {
        och_row row = OCH_ROW;
        OK(och_collection_get(f->collection, &which, &result, &err));
        assert_int_equal(och_result_count(result), ids[pages] != 0);
        if (ids[pages]) {
            OK(och_result_next(result, &row, &more, &err));
            assert_memory_equal(row.id.at, &ids[pages], 1);
        }
        och_bytes next = och_result_cursor(result);
        more = next.at != NULL;
        len = next.len;
        assert_true(len < sizeof(cursor));
        if (more)
            memcpy(cursor, next.at, len);
        which.cursor = (och_bytes){more ? cursor : NULL, len};
        och_result_free(result);
    }
    assert_int_equal(pages, 4); /* the third was full */
    which.cursor = (och_bytes){"nonsense", 8};
    FAILS(OCH_INVALID, och_collection_get(f->collection, &which, &result, &err));
    assert_non_null(strstr(err.message, "cursor: not one"));
    which.cursor = (och_bytes)OCH_NO_BYTES;
    which.order_by = (och_bytes){"#document", 9};
    FAILS(OCH_INVALID, och_collection_get(f->collection, &which, &result, &err));
}

static void filters_look_at_metadata_and_documents(void **state)
{
    struct test_things *f = *state;
    static const struct {
        const char *where, *where_document, *found;
    } cases[] = {
        {"{\"n\": 2}", NULL, "b"},
        {"{\"$or\": [{\"n\": 1}, {\"n\": 2}]}", NULL, "a b"},
        {NULL, "{\"$contains\": \"treaty\"}", "a"},
        {"{\"n\": 2}", "{\"$contains\": \"treaty\"}", ""},
        {"null", NULL, "a b c"},
        {NULL, NULL, "a b c"},
        {NULL, "{\"$regex\": \"^one\"}", "a"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        och_filter *filter = test_filter(cases[i].where, cases[i].where_document);
        och_select which = OCH_SELECT;
        which.filter = filter;
        assert_string_equal(test_get(f->collection, &which), cases[i].found);
        uint64_t count;
        OK(och_collection_count(f->collection, filter, &count, &err));
        assert_int_equal(count, (strlen(cases[i].found) + 1) / 2);
        och_filter_free(filter);
    }
}

static void a_query_answers_each_vector_by_distance(void **state)
{
    struct test_things *f = *state;
    const float wanted[] = {0.9f, 0.1f, 0, /**/ 0, 0.1f, 0.9f};
    och_select among = OCH_SELECT;
    och_bytes ids[] = {och_text("a"), och_text("c")};
    among.ids = ids;
    among.id_count = 2;
    och_result *result;
    OK(och_collection_query(f->collection, wanted, 2, 3, 5, &among, &result, &err));
    assert_int_equal(och_result_count(result), 4);
    static const char *const expected[] = {"a", "c", "c", "a"};
    och_row row = OCH_ROW;
    bool more;
    float last = 0;
    for (size_t i = 0; i < 4; i++) {
        OK(och_result_next(result, &row, &more, &err));
        assert_true(more);
        assert_memory_equal(row.id.at, expected[i], 1);
        assert_int_equal(row.query_index, i / 2);
        assert_true(i % 2 == 0 || row.distance >= last);
        last = row.distance;
    }
    OK(och_result_next(result, &row, &more, &err));
    assert_false(more);
    och_result_free(result);
}

static void nearest_gives_numbers_that_agree_with_query(void **state)
{
    struct test_things *f = *state;
    const float wanted[] = {0.2f, 0.7f, 0.5f};
    uint64_t seqs[3] = {0};
    float distances[3] = {0};
    size_t count = 99;
    OK(och_collection_nearest(f->collection, wanted, 3, 3, NULL, seqs, distances, &count, &err));
    assert_int_equal(count, 3);
    och_result *result;
    OK(och_collection_query(f->collection, wanted, 1, 3, 3, NULL, &result, &err));
    och_row row = OCH_ROW;
    bool more;
    for (size_t i = 0; i < 3; i++) {
        OK(och_result_next(result, &row, &more, &err));
        assert_int_equal(row.seq, seqs[i]);
        assert_memory_equal(&row.distance, &distances[i], sizeof(float));
    }
    och_result_free(result);
    och_filter *filter = test_filter("{\"n\": 1}", NULL);
    OK(och_collection_nearest(f->collection, wanted, 3, 3, filter, NULL, NULL, &count, &err));
    assert_int_equal(count, 1);
    OK(och_collection_nearest(f->collection, wanted, 3, 0, NULL, NULL, NULL, &count, &err));
    assert_int_equal(count, 0);
    och_filter_free(filter);
}

static void a_cancelled_call_and_a_late_one_say_so(void **state)
{
    struct test_things *f = *state;
    och_cancel *cancel;
    OK(och_cancel_new(&cancel, &err));
    och_select which = OCH_SELECT;
    which.cancel = cancel;
    assert_string_equal(test_get(f->collection, &which), "a b c");
    och_cancel_fire(cancel);
    och_result *result;
    FAILS(OCH_CANCELLED, och_collection_get(f->collection, &which, &result, &err));
    FAILS(OCH_CANCELLED,
          och_collection_query(f->collection, test_vectors, 1, 3, 1, &which, &result, &err));
    och_cancel_free(cancel);
    och_cancel_fire(NULL);
}

/* ---- collections ---- */

static void collections_are_found_by_name_and_listed_in_order(void **state)
{
    struct test_things *f = *state;
    och_collection_spec spec = OCH_COLLECTION_SPEC;
    och_collection *other, *again;
    spec.name = och_text("angles");
    spec.metadata_json = och_text("{\"made\": \"here\"}");
    spec.configuration_json = och_text("{\"hnsw\": {\"space\": \"cosine\"}}");
    OK(och_collection_create(f->database, &spec, &other, &err));
    FAILS(OCH_EXISTS, och_collection_create(f->database, &spec, &again, &err));
    spec.get_or_create = true;
    OK(och_collection_create(f->database, &spec, &again, &err));
    assert_string_equal(och_collection_id(again).at, och_collection_id(other).at);
    och_collection_free(again);
    OK(och_collection_open(f->database, &spec, &again, &err));
    assert_string_equal(och_collection_id(again).at, och_collection_id(other).at);
    och_collection_free(again);

    och_result *list;
    och_row row = OCH_ROW;
    bool more;
    OK(och_collection_list(f->database, NULL, &list, &err));
    assert_int_equal(och_result_count(list), 2);
    OK(och_result_next(list, &row, &more, &err));
    assert_memory_equal(row.id.at, "things", row.id.len);
    assert_int_equal(row.dimension, 3);
    assert_null(row.metadata_json.at);
    OK(och_result_next(list, &row, &more, &err));
    assert_memory_equal(row.id.at, "angles", row.id.len);
    assert_int_equal(row.dimension, 0);
    assert_memory_equal(row.metadata_json.at, "{\"made\":\"here\"}", row.metadata_json.len);
    assert_non_null(strstr(row.document.at, "\"space\":\"cosine\""));
    OK(och_result_next(list, &row, &more, &err));
    assert_false(more);
    och_result_free(list);

    OK(och_collection_drop(f->database, &spec, &err));
    FAILS(OCH_NOT_FOUND, och_collection_open(f->database, &spec, &again, &err));
    FAILS(OCH_NOT_FOUND, och_collection_drop(f->database, &spec, &err));
    uint64_t count;
    FAILS(OCH_NOT_FOUND, och_collection_count(other, NULL, &count, &err));
    struct test_rows rows;
    FAILS(OCH_NOT_FOUND, och_collection_add(other, test_records(&rows), NULL, &err));
    och_collection_free(other);
    spec.tenant = och_text("stranger");
    FAILS(OCH_NOT_FOUND, och_collection_open(f->database, &spec, &again, &err));
    OK(och_collection_list(f->database, &spec, &list, &err));
    assert_string_equal(test_text(list), "");
}

static void a_result_keeps_what_it_was_read_from(void **state)
{
    struct test_things *f = *state;
    och_select which = OCH_SELECT;
    which.include = OCH_DOCUMENT | OCH_VECTOR;
    och_result *result;
    OK(och_collection_get(f->collection, &which, &result, &err));
    och_collection_spec spec = OCH_COLLECTION_SPEC;
    spec.name = och_text("things");
    OK(och_collection_drop(f->database, &spec, &err));
    och_row row = OCH_ROW;
    bool more;
    OK(och_result_next(result, &row, &more, &err));
    assert_true(more);
    assert_memory_equal(row.document.at, "one treaty", 10);
    assert_memory_equal(row.vector, test_vectors, 3 * sizeof(float));
    och_result_free(result);
}

static void an_empty_write_does_nothing(void **state)
{
    struct test_things *f = *state;
    och_records none = OCH_RECORDS;
    och_counts counts = OCH_COUNTS;
    counts.inserted = 7;
    OK(och_collection_add(f->collection, &none, &counts, &err));
    assert_int_equal(counts.inserted, 0);
    OK(och_collection_update(f->collection, &none, NULL, &err));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, test_set_up, test_tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(adding_counts_what_is_new_and_what_is_there),
        TEST(an_upsert_keeps_what_is_absent_and_lays_metadata_over),
        TEST(an_update_skips_unknown_ids_and_may_leave_vectors_alone),
        TEST(vectors_may_lie_apart),
        TEST(deleting_takes_ids_or_a_filter_and_counts),
        TEST(an_update_by_filter_changes_all_it_matches),
        TEST(records_expire_and_lose_fields),
        TEST(an_alias_opens_its_collection),
        TEST(a_fork_goes_on_by_itself),
        TEST(a_delete_limited_takes_the_oldest),
        TEST(a_row_has_what_was_asked_for_and_no_more),
        TEST(get_pages_in_order_of_insertion),
        TEST(get_pages_by_id_backwards_with_cursors),
        TEST(filters_look_at_metadata_and_documents),
        TEST(a_query_answers_each_vector_by_distance),
        TEST(nearest_gives_numbers_that_agree_with_query),
        TEST(a_cancelled_call_and_a_late_one_say_so),
        TEST(collections_are_found_by_name_and_listed_in_order),
        TEST(a_result_keeps_what_it_was_read_from),
        TEST(an_empty_write_does_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
