/* SPDX-License-Identifier: Apache-2.0 */
/* ochre.h: functions attached through the library, run by its threads. */
#include "library_test.h"

static uint64_t progress(och_collection *collection, const char *name)
{
    uint64_t operations;
    OK(och_function_progress(collection, och_text(name), &operations, &err));
    return operations;
}

static void add_many(och_collection *collection, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        char id[16];
        (void)snprintf(id, sizeof(id), "id%zu", i);
        och_bytes ids = och_text(id);
        och_records records = OCH_RECORDS;
        records.count = 1;
        records.dimension = 3;
        records.ids = &ids;
        records.vectors = test_vectors;
        OK(och_collection_add(collection, &records, NULL, &err));
    }
}

static void a_function_follows_its_collection(void **state)
{
    (void)state;
    och_database *database = test_open(NULL);
    och_collection *input = test_create(database, "input");
    bool created;
    OK(och_function_attach(input, och_text("count"), och_text("record_counter"), och_text("counts"),
                           och_text(NULL), &created, &err));
    assert_true(created);
    OK(och_function_attach(input, och_text("count"), och_text("record_counter"), och_text("counts"),
                           och_text(" { } "), &created, &err));
    assert_false(created);
    assert_int_equal(progress(input, "count"), 0);
    add_many(input, 120);
    for (int i = 0; i < 1000 && progress(input, "count") < 100; i++)
        usleep(10000);
    assert_true(progress(input, "count") >= 100);
    och_collection *output;
    och_collection_spec spec = OCH_COLLECTION_SPEC;
    spec.name = och_text("counts");
    OK(och_collection_open(database, &spec, &output, &err));
    uint64_t count;
    OK(och_collection_count(output, NULL, &count, &err));
    assert_int_equal(count, 1);
    och_collection_free(output);
    OK(och_function_detach(input, och_text("count"), true, &err));
    FAILS(OCH_NOT_FOUND, och_collection_open(database, &spec, &output, &err));
    uint64_t operations;
    FAILS(OCH_NOT_FOUND, och_function_progress(input, och_text("count"), &operations, &err));
    FAILS(OCH_NOT_FOUND, och_function_detach(input, och_text("count"), false, &err));
    och_collection_free(input);
    OK(och_database_close(database, &err));
    och_database_free(database);
}

static void what_is_wrong_is_said(void **state)
{
    (void)state;
    och_database *database = test_open(NULL);
    och_collection *input = test_create(database, "input");
    och_bytes name = och_text("f"), kind = och_text("statistics"), output = och_text("out");
    FAILS(OCH_INVALID, och_function_attach(NULL, name, kind, output, och_text(NULL), NULL, &err));
    FAILS(OCH_INVALID,
          och_function_attach(input, och_text(NULL), kind, output, och_text(NULL), NULL, &err));
    FAILS(OCH_INVALID,
          och_function_attach(input, name, och_text(NULL), output, och_text(NULL), NULL, &err));
    FAILS(OCH_INVALID,
          och_function_attach(input, name, kind, och_text(NULL), och_text(NULL), NULL, &err));
    FAILS(OCH_INVALID, och_function_attach(input, name, kind, output, och_text("{"), NULL, &err));
    FAILS(OCH_NOT_FOUND, och_function_attach(input, name, och_text("nothing"), output,
                                             och_text(NULL), NULL, &err));
    FAILS(OCH_UNSUPPORTED, och_function_attach(input, name, och_text("http_generate"), output,
                                               och_text(NULL), NULL, &err));
    FAILS(OCH_EXISTS,
          och_function_attach(input, name, kind, och_text("input"), och_text(NULL), NULL, &err));
    OK(och_function_attach(input, name, kind, output, och_text(NULL), NULL, &err));
    FAILS(OCH_INVALID, och_function_progress(input, name, NULL, &err));
    FAILS(OCH_INVALID, och_function_detach(NULL, name, false, &err));
    FAILS(OCH_INVALID, och_function_detach(input, och_text(NULL), false, &err));
    OK(och_function_detach(input, name, false, &err));
    och_collection_free(input);
    OK(och_database_close(database, &err));
    och_database_free(database);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_function_follows_its_collection),
        cmocka_unit_test(what_is_wrong_is_said),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
