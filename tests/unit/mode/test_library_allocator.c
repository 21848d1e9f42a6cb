/* SPDX-License-Identifier: Apache-2.0 */
/* The host's own allocator; and, as it can hold a call in its middle, that close waits for calls at work. */
#include "library_test.h"

#include <pthread.h>
#include <stdatomic.h>

static atomic_long live, calls;
static _Thread_local bool is_held;
static atomic_bool hold, holding;

static void *allocate(void *user, void *old, size_t size)
{
    assert_ptr_equal(user, &live);
    (void)atomic_fetch_add(&calls, 1);
    while (is_held && atomic_load(&hold)) {
        atomic_store(&holding, true);
        (void)usleep(500);
    }
    if (size == 0) {
        (void)atomic_fetch_sub(&live, old ? 1 : 0);
        free(old);
        return NULL;
    }
    if (!old)
        (void)atomic_fetch_add(&live, 1);
    return realloc(old, size);
}

static void all_memory_comes_from_the_host_and_goes_back(void **state)
{
    (void)state;
    for (int round = 0; round < 3; round++) {
        och_database *database = test_open(NULL);
        och_collection *collection = test_create(database, "docs");
        struct test_rows rows;
        OK(och_collection_add(collection, test_records(&rows), NULL, &err));
        assert_string_equal(test_get(collection, NULL), "a b c");
        assert_true(atomic_load(&live) > 10);
        och_collection_free(collection);
        test_close(database);
        assert_int_equal(atomic_load(&live), 0);
    }
    assert_true(atomic_load(&calls) > 100);
}

static void *get_slowly(void *collection)
{
    och_error mine = OCH_ERROR;
    och_result *result = NULL;
    is_held = true;
    och_code code = och_collection_get(collection, NULL, &result, &mine);
    is_held = false;
    if (code != OCH_OK || och_result_count(result) != 3)
        abort();
    och_result_free(result);
    return NULL;
}

static atomic_bool is_closed;

static void *close_it(void *database)
{
    och_error mine = OCH_ERROR;
    if (och_database_close(database, &mine) != OCH_OK)
        abort();
    atomic_store(&is_closed, true);
    och_database_free(database);
    return NULL;
}

static void close_waits_for_a_call_in_its_middle(void **state)
{
    (void)state;
    och_database *database = test_open(NULL);
    och_collection *collection = test_create(database, "docs");
    struct test_rows rows;
    OK(och_collection_add(collection, test_records(&rows), NULL, &err));
    pthread_t reader, closer;
    atomic_store(&hold, true);
    assert_int_equal(pthread_create(&reader, NULL, get_slowly, collection), 0);
    while (!atomic_load(&holding))
        (void)usleep(500);
    assert_int_equal(pthread_create(&closer, NULL, close_it, database), 0);
    /* The closer has begun when new calls are refused, */
    och_result *result;
    och_code code;
    while ((code = och_collection_get(collection, NULL, &result, &err)) == OCH_OK)
        och_result_free(result);
    assert_int_equal(code, OCH_CLOSED);
    (void)usleep(50000);
    assert_false(atomic_load(&is_closed)); /* and has not ended while one is at work. */
    atomic_store(&hold, false);
    assert_int_equal(pthread_join(reader, NULL), 0);
    assert_int_equal(pthread_join(closer, NULL), 0);
    assert_true(atomic_load(&is_closed));
    och_collection_free(collection);
    assert_int_equal(atomic_load(&live), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_memory_comes_from_the_host_and_goes_back),
        cmocka_unit_test(close_waits_for_a_call_in_its_middle),
    };
    och_set_allocator(allocate, &live);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
