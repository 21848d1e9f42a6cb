/* SPDX-License-Identifier: Apache-2.0 */
/* The C library: progress of indexing, forks counted, what a delete would delete, and when records expire. */
#include "library_test.h"

#define LATER INT64_C(99999999999999) /* the year 5138 */

static void progress_of_indexing_is_told(void **state)
{
    (void)state;
    och_database *database = test_open_restless();
    och_collection *docs = test_create(database, "docs");
    och_indexing indexing = OCH_INDEXING;
    OK(och_collection_indexing(docs, &indexing, &err));
    assert_int_equal(indexing.operations, 0);
    struct test_rows rows;
    OK(och_collection_add(docs, test_records(&rows), NULL, &err));
    OK(och_collection_indexing(docs, &indexing, &err));
    assert_int_equal(indexing.operations, 3);
    assert_true(indexing.indexed <= 3);
    test_settle(docs);
    indexing.struct_size = 4;
    FAILS(OCH_INVALID, och_collection_indexing(docs, &indexing, &err));
    FAILS(OCH_INVALID, och_collection_indexing(docs, NULL, &err));
    FAILS(OCH_INVALID, och_collection_indexing(NULL, &(och_indexing)OCH_INDEXING, &err));
    och_collection_spec spec = OCH_COLLECTION_SPEC;
    spec.name = och_text("docs");
    OK(och_collection_drop(database, &spec, &err));
    indexing = (och_indexing)OCH_INDEXING;
    FAILS(OCH_NOT_FOUND, och_collection_indexing(docs, &indexing, &err));
    och_collection_free(docs);
    test_close(database);
}

static void forks_of_a_tree_are_counted(void **state)
{
    (void)state;
    och_database *database = test_open_restless();
    och_collection *docs = test_create(database, "docs"), *copy, *second;
    uint64_t count = 9;
    OK(och_collection_fork_count(docs, &count, &err));
    assert_int_equal(count, 0);
    OK(och_collection_fork(docs, och_text("copy"), &copy, &err));
    OK(och_collection_fork(copy, och_text("second"), &second, &err));
    OK(och_collection_fork_count(docs, &count, &err));
    assert_int_equal(count, 2);
    OK(och_collection_fork_count(second, &count, &err));
    assert_int_equal(count, 2);
    och_collection_spec spec = OCH_COLLECTION_SPEC;
    spec.name = och_text("second");
    OK(och_collection_drop(database, &spec, &err));
    OK(och_collection_fork_count(docs, &count, &err));
    assert_int_equal(count, 1);
    FAILS(OCH_NOT_FOUND, och_collection_fork_count(second, &count, &err));
    FAILS(OCH_INVALID, och_collection_fork_count(docs, NULL, &err));
    FAILS(OCH_INVALID, och_collection_fork_count(NULL, &count, &err));
    och_collection_free(docs);
    och_collection_free(copy);
    och_collection_free(second);
    test_close(database);
}

static void a_delete_is_counted_before_it_is_done(void **state)
{
    (void)state;
    och_database *database = test_open_restless();
    och_collection *docs = test_filled(database, "docs");
    och_filter *filter;
    och_select which = OCH_SELECT;
    uint64_t count = 9;
    OK(och_filter_parse(och_text("{\"n\": {\"$gte\": 1}}"), (och_bytes)OCH_NO_BYTES, &filter,
                        &err));
    which.filter = filter;
    OK(och_collection_delete_count(docs, &which, &count, &err));
    assert_int_equal(count, 2);
    which.limit = 1;
    OK(och_collection_delete_count(docs, &which, &count, &err));
    assert_int_equal(count, 1);
    which = (och_select)OCH_SELECT;
    which.ids = (const och_bytes[]){och_text("c"), och_text("nobody")};
    which.id_count = 2;
    OK(och_collection_delete_count(docs, &which, &count, &err));
    assert_int_equal(count, 1);
    OK(och_collection_count(docs, NULL, &count, &err)); /* nothing went */
    assert_int_equal(count, 3);
    OK(och_collection_delete_count(docs, NULL, &count, &err)); /* as the delete: nothing said */
    assert_int_equal(count, 0);
    count = 7;
    which.limit = 1;
    FAILS(OCH_INVALID, och_collection_delete_count(docs, &which, &count, &err));
    SAYS("limit");
    assert_int_equal(count, 7);
    FAILS(OCH_INVALID, och_collection_delete_count(docs, &which, NULL, &err));
    FAILS(OCH_INVALID, och_collection_delete_count(NULL, &which, &count, &err));
    och_filter_free(filter);
    och_collection_free(docs);
    test_close(database);
}

/* The three records, to expire at these times. */
static och_collection *expiring(och_database *database, const int64_t *times_ms)
{
    och_collection *docs = test_create(database, "docs");
    struct test_rows rows;
    och_records *records = test_records(&rows);
    records->expires_ms = times_ms;
    OK(och_collection_add(docs, records, NULL, &err));
    return docs;
}

/* Rows of a result: "a:99999999999999 b:0 ". */
static void expect_times(och_result *result, const char *expected)
{
    char text[200] = "";
    size_t len = 0;
    bool more = true;
    for (;;) {
        och_row row = OCH_ROW;
        OK(och_result_next(result, &row, &more, &err));
        if (!more)
            break;
        len += (size_t)snprintf(text + len, sizeof(text) - len, "%.*s:%lld ", (int)row.id.len,
                                (const char *)row.id.at, (long long)row.expires_ms);
    }
    assert_string_equal(text, expected);
    och_result_free(result);
}

static void rows_tell_when_they_expire(void **state)
{
    (void)state;
    och_database *database = test_open_restless();
    och_collection *docs = expiring(database, (const int64_t[]){LATER, 0, OCH_NEVER});
    och_select which = OCH_SELECT;
    och_result *result;
    och_transaction *transaction;
    for (int in_parts = 0; in_parts < 2; in_parts++) {
        which.include = 0;
        OK(och_collection_get(docs, &which, &result, &err));
        expect_times(result, "a:0 b:0 c:0 "); /* not asked for */
        which.include = OCH_EXPIRY;
        OK(och_collection_get(docs, &which, &result, &err));
        expect_times(result, "a:99999999999999 b:0 c:0 ");
        OK(och_collection_query(docs, test_vectors, 1, 3, 2, &which, &result, &err));
        expect_times(result, "a:99999999999999 b:0 ");
        OK(och_transaction_begin(docs, &transaction, &err));
        OK(och_transaction_get(transaction, &which, &result, &err));
        expect_times(result, "a:99999999999999 b:0 c:0 ");
        och_transaction_free(transaction);
        test_settle(docs);
    }
    which.include = 64;
    FAILS(OCH_INVALID, och_collection_get(docs, &which, &result, &err));
    och_collection_free(docs);
    test_close(database);
}

/* A program of 1.0 knows nothing of the last member: nothing is written there. */
static void rows_of_older_programs_stay_as_long_as_they_were(void **state)
{
    (void)state;
    och_database *database = test_open_restless();
    och_collection *docs = expiring(database, (const int64_t[]){LATER, LATER, LATER});
    och_select which = OCH_SELECT;
    och_result *result;
    och_row row = OCH_ROW;
    bool more;
    which.include = OCH_EXPIRY;
    OK(och_collection_get(docs, &which, &result, &err));
    row.struct_size = offsetof(och_row, expires_ms);
    row.expires_ms = 42;
    OK(och_result_next(result, &row, &more, &err));
    assert_true(more && row.id.len == 1);
    assert_int_equal(row.expires_ms, 42);
    row.struct_size = offsetof(och_row, expires_ms) - 8;
    FAILS(OCH_INVALID, och_result_next(result, &row, &more, &err));
    och_result_free(result);
    och_collection_free(docs);
    test_close(database);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(progress_of_indexing_is_told),
        cmocka_unit_test(forks_of_a_tree_are_counted),
        cmocka_unit_test(a_delete_is_counted_before_it_is_done),
        cmocka_unit_test(rows_tell_when_they_expire),
        cmocka_unit_test(rows_of_older_programs_stay_as_long_as_they_were),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
