/* SPDX-License-Identifier: Apache-2.0 */
/* Attached functions in the catalogue: what is one, what is in the way, how far chains go, and who takes whom along. */
#include "sysdb_test.h"

static uint64_t numbers;

static uuid make(struct test *t, const char *name)
{
    uint64_t number = ++numbers;
    ok(create(t, t->sysdb, number, name));
    return id_of(number);
}

static och_code attach(struct test *t, uuid input, const char *name, const char *function,
                       bool is_async, const char *output, struct sysdb_function *ret,
                       bool *ret_created)
{
    uuid id = id_of(++numbers), output_id = id_of(++numbers);
    struct sysdb_function_new spec = {.id = id,
                                      .input = input,
                                      .name = slice_of(name),
                                      .function = slice_of(function),
                                      .output_name = slice_of(output),
                                      .params = SLICE("{}"),
                                      .is_async = is_async,
                                      .min_records = 100,
                                      .output = {.id = output_id,
                                                 .tenant = TENANT,
                                                 .database = DATABASE,
                                                 .name = slice_of(output),
                                                 .schema_json = t->schema}};
    return sysdb_function_attach(t->sysdb, &spec, &t->arena, ret, ret_created, &err);
}

static void the_same_again_is_not_made_twice(void **state)
{
    struct test *t = *state;
    uuid input = make(t, "input");
    struct sysdb_function first, second, read;
    bool created;
    ok(attach(t, input, "count", "record_counter", false, "counts", &first, &created));
    assert_true(created);
    ok(attach(t, input, "count", "record_counter", false, "counts", &second, &created));
    assert_false(created);
    assert_true(uuid_equal(first.id, second.id));
    ok(sysdb_function_get(t->sysdb, input, SLICE("count"), &t->arena, &read, &err));
    assert_true(uuid_equal(read.output, first.output) && read.built && read.completion == 0);
    const struct sysdb_collection *output = NULL;
    ok(sysdb_collection_find(t->sysdb, TENANT, DATABASE, SLICE("counts"), &output, &err));
    assert_int_equal(output->dimension, 1);
    sysdb_collection_unref(output);
    fails(OCH_NOT_FOUND, "Attached function not found",
          sysdb_function_get(t->sysdb, input, SLICE("other"), &t->arena, &read, &err));
}

static void a_collection_has_one_function_of_either_mode(void **state)
{
    struct test *t = *state;
    uuid input = make(t, "input");
    struct sysdb_function row;
    bool created;
    ok(attach(t, input, "one", "record_counter", false, "out1", &row, &created));
    fails(OCH_EXISTS,
          "collection already has an attached function with the same execution mode: "
          "name=one, function=record_counter, output_collection=out1",
          attach(t, input, "two", "statistics", false, "out2", &row, &created));
    fails(OCH_EXISTS, "collection already has an attached function named one",
          attach(t, input, "one", "dummy_async", true, "out2", &row, &created));
    ok(attach(t, input, "two", "dummy_async", true, "out2", &row, &created));
    fails(OCH_EXISTS, "", attach(t, input, "three", "dummy_async", true, "out3", &row, &created));
    make(t, "taken");
    uuid other = make(t, "other");
    fails(OCH_EXISTS, "Output collection [taken] already exists",
          attach(t, other, "one", "record_counter", false, "taken", &row, &created));
    fails(OCH_EXISTS, "Output collection [other] already exists",
          attach(t, other, "one", "record_counter", false, "other", &row, &created));
    /* What failed left nothing. */
    fails(OCH_NOT_FOUND, "",
          sysdb_function_get(t->sysdb, other, SLICE("one"), &t->arena, &row, &err));
}

static void chains_end_at_five_and_have_no_cycle(void **state)
{
    struct test *t = *state;
    uuid at[7] = {make(t, "depth0")};
    struct sysdb_function row;
    bool created;
    for (int i = 1; i <= 5; i++) {
        char output[16];
        (void)snprintf(output, sizeof(output), "depth%d", i);
        ok(attach(t, at[i - 1], "next", "dummy_async", true, output, &row, &created));
        at[i] = row.output;
    }
    fails(OCH_INVALID, "attached function depth exceeds maximum of 5",
          attach(t, at[5], "next", "record_counter", false, "depth6", &row, &created));
    ok(attach(t, at[4], "beside", "record_counter", false, "beside", &row, &created));
    /* An input of its own output, directly or on the way. */
    uuid x = make(t, "xxx");
    ok(attach(t, x, "f", "dummy_async", true, "yyy", &row, &created));
    uuid y = row.output;
    fails(OCH_INVALID, "cannot attach function to an output collection",
          sysdb_function_add_input(t->sysdb, x, SLICE("f"), y, &t->arena, &row, &created, &err));
    ok(attach(t, y, "g", "dummy_async", true, "zzz", &row, &created));
    fails(OCH_INVALID, "cannot attach function to an output collection",
          sysdb_function_add_input(t->sysdb, x, SLICE("f"), row.output, &t->arena, &row, &created,
                                   &err));
    /* Two chains that together are too long. */
    fails(
        OCH_INVALID, "attached function depth exceeds maximum of 5",
        sysdb_function_add_input(t->sysdb, x, SLICE("f"), at[5], &t->arena, &row, &created, &err));
}

static void inputs_are_added_to_asynchronous_functions_only(void **state)
{
    struct test *t = *state;
    uuid one = make(t, "one"), two = make(t, "two");
    struct sysdb_function row, again;
    bool created;
    ok(attach(t, one, "sync", "record_counter", false, "out1", &row, &created));
    ok(attach(t, one, "async", "dummy_async", true, "out2", &row, &created));
    fails(OCH_INVALID, "multiple input collections are only supported for async",
          sysdb_function_add_input(t->sysdb, one, SLICE("sync"), two, &t->arena, &again, &created,
                                   &err));
    ok(sysdb_function_progress(t->sysdb, row.id, one, 7, true, &err));
    ok(sysdb_function_add_input(t->sysdb, one, SLICE("async"), two, &t->arena, &again, &created,
                                &err));
    assert_true(created && uuid_equal(again.id, row.id) && uuid_equal(again.input, two));
    assert_int_equal(again.completion, 0);
    ok(sysdb_function_add_input(t->sysdb, two, SLICE("async"), two, &t->arena, &again, &created,
                                &err));
    assert_false(created);
    uuid three = make(t, "three");
    ok(attach(t, three, "mine", "dummy_async", true, "out3", &row, &created));
    fails(OCH_EXISTS, "collection already has an attached function with the same execution mode",
          sysdb_function_add_input(t->sysdb, one, SLICE("async"), three, &t->arena, &again,
                                   &created, &err));
    fails(OCH_NOT_FOUND, "Attached function not found",
          sysdb_function_add_input(t->sysdb, one, SLICE("no"), three, &t->arena, &again, &created,
                                   &err));
    /* One of the inputs leaves. */
    ok(sysdb_function_detach(t->sysdb, two, SLICE("async"), &err));
    ok(sysdb_function_get(t->sysdb, one, SLICE("async"), &t->arena, &again, &err));
    assert_int_equal(again.completion, 7);
}

static void progress_is_kept_and_only_grows(void **state)
{
    struct test *t = *state;
    uuid input = make(t, "input");
    struct sysdb_function row;
    bool created;
    ok(attach(t, input, "count", "statistics", false, "counts", &row, &created));
    ok(sysdb_function_progress(t->sysdb, row.id, input, 120, false, &err));
    fails(OCH_INTERNAL, "completion offset cannot move backwards",
          sysdb_function_progress(t->sysdb, row.id, input, 119, true, &err));
    reopen(t);
    struct sysdb_function *rows;
    size_t count;
    ok(sysdb_function_list(t->sysdb, &t->arena, &rows, &count, &err));
    assert_int_equal(count, 1);
    assert_true(uuid_equal(rows[0].id, row.id) && uuid_equal(rows[0].input, input));
    assert_true(rows[0].completion == 120 && !rows[0].built && rows[0].min_records == 100);
    assert_true(slice_equal(rows[0].function, SLICE("statistics")));
    ok(sysdb_function_detach(t->sysdb, input, SLICE("count"), &err));
    fails(OCH_NOT_FOUND, "Attached function not found",
          sysdb_function_progress(t->sysdb, row.id, input, 121, true, &err));
    fails(OCH_NOT_FOUND, "Attached function not found",
          sysdb_function_detach(t->sysdb, input, SLICE("count"), &err));
}

static void dropped_collections_take_their_functions_along(void **state)
{
    struct test *t = *state;
    struct sysdb_function row, *rows;
    bool created;
    size_t count;
    uuid input = make(t, "input"), more = make(t, "more");
    ok(attach(t, input, "f", "dummy_async", true, "out", &row, &created));
    ok(sysdb_function_add_input(t->sysdb, input, SLICE("f"), more, &t->arena, &row, &created,
                                &err));
    ok(sysdb_collection_drop(t->sysdb, input, &err));
    ok(sysdb_function_get(t->sysdb, more, SLICE("f"), &t->arena, &row, &err));
    ok(sysdb_collection_drop(t->sysdb, row.output, &err));
    fails(OCH_NOT_FOUND, "Attached function not found",
          sysdb_function_get(t->sysdb, more, SLICE("f"), &t->arena, &row, &err));
    ok(attach(t, more, "f", "dummy_async", true, "out", &row, &created));
    ok(sysdb_reset(t->sysdb, &err));
    ok(sysdb_function_list(t->sysdb, &t->arena, &rows, &count, &err));
    assert_int_equal(count, 0);
    verify_clean(t->sysdb);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, test_begin_open, test_end)
int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(the_same_again_is_not_made_twice),
        TEST(a_collection_has_one_function_of_either_mode),
        TEST(chains_end_at_five_and_have_no_cycle),
        TEST(inputs_are_added_to_asynchronous_functions_only),
        TEST(progress_is_kept_and_only_grows),
        TEST(dropped_collections_take_their_functions_along),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
