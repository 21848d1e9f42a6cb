/* SPDX-License-Identifier: Apache-2.0 */
/* ochre.h: transactions, by a program that sees nothing but the header. */
#include "library_test.h"

static size_t count_of(och_transaction *transaction, const och_filter *filter)
{
    och_select which = OCH_SELECT;
    och_result *result;
    which.filter = filter;
    OK(och_transaction_get(transaction, &which, &result, &err));
    size_t count = och_result_count(result);
    och_result_free(result);
    return count;
}

static och_transaction *begin(och_collection *collection)
{
    och_transaction *transaction;
    OK(och_transaction_begin(collection, &transaction, &err));
    return transaction;
}

static void add_one(och_collection *collection, const char *id, const char *metadata)
{
    och_bytes ids[] = {och_text(id)}, metadatas[] = {och_text(metadata)};
    och_records records = OCH_RECORDS;
    records.count = 1;
    records.dimension = 3;
    records.ids = ids;
    records.vectors = test_vectors;
    records.metadatas_json = metadatas;
    OK(och_collection_add(collection, &records, NULL, &err));
}

static void writes_are_noted_and_applied_together(void **state)
{
    (void)state;
    och_database *database = test_open(NULL);
    och_collection *collection = test_create(database, "together");
    struct test_rows rows;
    och_transaction *transaction = begin(collection);
    assert_int_equal(count_of(transaction, NULL), 0);
    OK(och_transaction_add(transaction, test_records(&rows), &err));
    memset(&rows, 0, sizeof(rows)); /* copied */
    och_bytes gone[] = {och_text("b")};
    OK(och_transaction_delete(transaction, gone, 1, &err));
    uint64_t count = 99;
    OK(och_collection_count(collection, NULL, &count, &err));
    assert_int_equal(count, 0);
    assert_int_equal(count_of(transaction, NULL), 0);
    OK(och_transaction_commit(transaction, &count, &err));
    assert_int_equal(count, 4);
    OK(och_collection_count(collection, NULL, &count, &err));
    assert_int_equal(count, 2);
    /* It may be used again, as a new one. */
    assert_int_equal(count_of(transaction, NULL), 2);
    OK(och_transaction_commit(transaction, &count, &err));
    assert_int_equal(count, 0);
    och_transaction_free(transaction);
    och_collection_free(collection);
    test_close(database);
}

static void what_a_filter_would_now_find_is_a_conflict(void **state)
{
    (void)state;
    och_database *database = test_open(NULL);
    och_collection *collection = test_create(database, "conflict");
    och_filter *filter;
    OK(och_filter_parse(och_text("{\"n\": {\"$gte\": 2}}"), och_text(NULL), &filter, &err));
    add_one(collection, "a", "{\"n\": 1}");
    och_transaction *transaction = begin(collection);
    och_bytes gone[] = {och_text("a")};
    assert_int_equal(count_of(transaction, filter), 0);
    add_one(collection, "b", "{\"n\": 1}"); /* nothing to it */
    OK(och_transaction_delete(transaction, gone, 1, &err));
    OK(och_transaction_commit(transaction, NULL, &err));
    assert_int_equal(count_of(transaction, filter), 0);
    add_one(collection, "c", "{\"n\": 2}");
    assert_int_equal(count_of(transaction, filter), 0); /* still of that state */
    gone[0] = och_text("b");
    OK(och_transaction_delete(transaction, gone, 1, &err));
    FAILS(OCH_CONFLICT, och_transaction_commit(transaction, NULL, &err));
    SAYS("conditional write conflict");
    uint64_t count;
    OK(och_collection_count(collection, NULL, &count, &err));
    assert_int_equal(count, 2);
    och_transaction_free(transaction);
    och_filter_free(filter);
    och_collection_free(collection);
    test_close(database);
}

static void arguments_are_checked_when_they_are_given(void **state)
{
    (void)state;
    och_database *database = test_open(NULL);
    och_collection *collection = test_create(database, "arguments");
    och_transaction *transaction;
    och_result *result;
    struct test_rows rows;
    FAILS(OCH_INVALID, och_transaction_begin(NULL, &transaction, &err));
    FAILS(OCH_INVALID, och_transaction_begin(collection, NULL, &err));
    FAILS(OCH_INVALID, och_transaction_get(NULL, NULL, &result, &err));
    FAILS(OCH_INVALID, och_transaction_commit(NULL, NULL, &err));
    FAILS(OCH_INVALID, och_transaction_add(NULL, test_records(&rows), &err));
    och_transaction_free(NULL);
    transaction = begin(collection);
    FAILS(OCH_INVALID, och_transaction_get(transaction, NULL, NULL, &err));
    FAILS(OCH_INVALID, och_transaction_add(transaction, NULL, &err));
    FAILS(OCH_INVALID, och_transaction_delete(transaction, NULL, 1, &err));
    och_bytes empty[] = {{"", 0}}, bad[] = {{"\xff", 1}};
    FAILS(OCH_INVALID, och_transaction_delete(transaction, empty, 1, &err));
    SAYS("Empty ID");
    FAILS(OCH_INVALID, och_transaction_delete(transaction, bad, 1, &err));
    och_select ordered = OCH_SELECT;
    ordered.order_by = och_text("n");
    FAILS(OCH_INVALID, och_transaction_get(transaction, &ordered, &result, &err));
    OK(och_transaction_add(transaction, test_records(&rows), &err));
    rows.records.dimension = 2;
    FAILS(OCH_INVALID, och_transaction_upsert(transaction, &rows.records, &err));
    SAYS("Collection expecting embedding with dimension of 3, got 2");
    uint64_t count;
    OK(och_transaction_commit(transaction, &count, &err));
    assert_int_equal(count, 3);
    /* Freed in any order; closed before it is. */
    (void)count_of(transaction, NULL);
    och_collection_free(collection);
    OK(och_database_close(database, &err));
    och_database_free(database);
    FAILS(OCH_CLOSED, och_transaction_commit(transaction, NULL, &err));
    och_transaction_free(transaction);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(writes_are_noted_and_applied_together),
        cmocka_unit_test(what_a_filter_would_now_find_is_a_conflict),
        cmocka_unit_test(arguments_are_checked_when_they_are_given),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
