/* SPDX-License-Identifier: Apache-2.0 */
/* What a careless or hostile host may hand to ochre.h: every refusal has a code and says where. */
#include "library_test.h"

#include <math.h>

static int tear_down(void **state)
{
    struct test_things *f = *state;
    /* whatever was refused changed nothing */
    uint64_t count;
    OK(och_collection_count(f->collection, NULL, &count, &err));
    assert_int_equal(count, 3);
    return test_tear_down(state);
}

static void null_handles_are_refused_and_freeing_them_is_fine(void **state)
{
    struct test_things *f = *state;
    och_collection *collection;
    och_result *result;
    uint64_t count;
    size_t found;
    bool more;
    och_row row = OCH_ROW;
    struct test_rows rows;
    FAILS(OCH_INVALID, och_database_close(NULL, &err));
    FAILS(OCH_INVALID, och_database_open(NULL, NULL, NULL, &err));
    FAILS(OCH_INVALID, och_collection_add(NULL, test_records(&rows), NULL, &err));
    FAILS(OCH_INVALID, och_collection_add(f->collection, NULL, NULL, &err));
    FAILS(OCH_INVALID, och_collection_delete(NULL, NULL, NULL, &err));
    FAILS(OCH_INVALID, och_collection_get(NULL, NULL, &result, &err));
    FAILS(OCH_INVALID, och_collection_get(f->collection, NULL, NULL, &err));
    FAILS(OCH_INVALID, och_collection_query(NULL, NULL, 0, 0, 1, NULL, &result, &err));
    FAILS(OCH_INVALID, och_collection_query(f->collection, NULL, 1, 3, 1, NULL, &result, &err));
    FAILS(OCH_INVALID,
          och_collection_query(f->collection, test_vectors, 1, 3, 1, NULL, NULL, &err));
    FAILS(OCH_INVALID,
          och_collection_nearest(f->collection, NULL, 3, 1, NULL, NULL, NULL, &found, &err));
    FAILS(OCH_INVALID,
          och_collection_nearest(f->collection, test_vectors, 3, 1, NULL, NULL, NULL, NULL, &err));
    FAILS(OCH_INVALID, och_collection_count(NULL, NULL, &count, &err));
    FAILS(OCH_INVALID, och_collection_count(f->collection, NULL, NULL, &err));
    FAILS(OCH_INVALID, och_collection_list(NULL, NULL, &result, &err));
    FAILS(OCH_INVALID, och_collection_drop(f->database, NULL, &err));
    FAILS(OCH_INVALID, och_collection_fork(NULL, och_text("fork"), &collection, &err));
    FAILS(OCH_INVALID, och_collection_fork(f->collection, och_text("fork"), NULL, &err));
    FAILS(OCH_INVALID, och_collection_fork(f->collection, och_text(NULL), &collection, &err));
    FAILS(OCH_INVALID, och_filter_parse(och_text("{}"), och_text(NULL), NULL, &err));
    FAILS(OCH_INVALID, och_result_next(NULL, &row, &more, &err));
    FAILS(OCH_INVALID, och_cancel_new(NULL, &err));
    assert_int_equal(och_collection_add(NULL, NULL, NULL, NULL), OCH_INVALID); /* no err either */
    assert_null(och_collection_id(NULL).at);
    assert_int_equal(och_result_count(NULL), 0);
    assert_null(och_result_explain_json(NULL).at);
    och_database_free(NULL);
    och_collection_free(NULL);
    och_filter_free(NULL);
    och_result_free(NULL);
    och_response_free(NULL);
    och_cancel_free(NULL);
}

static void a_struct_from_nowhere_or_from_the_future_is_noticed(void **state)
{
    struct test_things *f = *state;
    och_result *result;
    och_select which = {0};
    FAILS(OCH_INVALID, och_collection_get(f->collection, &which, &result, &err));
    SAYS("struct_size is 0");
    struct {
        och_select known;
        uint64_t later;
    } future = {OCH_SELECT, 0};
    future.known.struct_size = sizeof(future);
    OK(och_collection_get(f->collection, &future.known, &result, &err));
    och_result_free(result);
    future.later = 1;
    FAILS(OCH_UNSUPPORTED, och_collection_get(f->collection, &future.known, &result, &err));
    SAYS("does not know");

    struct {
        och_row known;
        uint64_t later;
    } row = {OCH_ROW, 42};
    row.known.struct_size = sizeof(row);
    OK(och_collection_get(f->collection, NULL, &result, &err));
    bool more;
    OK(och_result_next(result, &row.known, &more, &err));
    assert_int_equal(row.later, 42);
    assert_int_equal(row.known.struct_size, sizeof(row));
    row.known.struct_size = 4;
    FAILS(OCH_INVALID, och_result_next(result, &row.known, &more, &err));
    och_result_free(result);
    och_counts counts = {0};
    struct test_rows rows;
    FAILS(OCH_INVALID, och_collection_add(f->collection, test_records(&rows), &counts, &err));
}

/* Programs that were built with 1.0 have shorter structs: what lies behind them is not ours. */
static void the_structs_of_1_0_are_taken(void **state)
{
    struct test_things *f = *state;
    struct test_rows rows;
    och_records *old = test_records(&rows);
    old->struct_size = 72;
    old->clear = (const uint32_t *)(uintptr_t)8; // would crash
    old->expires_ms = (const int64_t *)(uintptr_t)8;
    OK(och_collection_upsert(f->collection, old, NULL, &err));
    och_select which = OCH_SELECT;
    och_result *result;
    assert_true(offsetof(och_select, order_by) == 64 && offsetof(och_records, clear) == 72);
    which.struct_size = 64;
    which.order_by.len = SIZE_MAX;
    which.cursor = (och_bytes){(const uint8_t *)"no cursor", 9};
    which.max_distance = (const float *)(uintptr_t)8;
    OK(och_collection_get(f->collection, &which, &result, &err));
    och_result_free(result);
    which.struct_size = 63;
    FAILS(OCH_INVALID, och_collection_get(f->collection, &which, &result, &err));
}

static void vectors_of_a_wrong_shape_are_refused(void **state)
{
    struct test_things *f = *state;
    struct test_rows rows;
    och_records *r = test_records(&rows);
    r->dimension = 2;
    FAILS(OCH_INVALID, och_collection_add(f->collection, r, NULL, &err));
    SAYS("Collection expecting embedding with dimension of 3, got 2");
    r->dimension = 0;
    FAILS(OCH_INVALID, och_collection_add(f->collection, r, NULL, &err));
    SAYS("at least 1 dimension");
    r->dimension = 1u << 20;
    FAILS(OCH_QUOTA, och_collection_add(f->collection, r, NULL, &err));
    r->dimension = 3;
    r->vector_stride = 2;
    FAILS(OCH_INVALID, och_collection_add(f->collection, r, NULL, &err));
    SAYS("vector_stride");
    r->vector_stride = SIZE_MAX / 2;
    FAILS(OCH_TOO_LARGE, och_collection_add(f->collection, r, NULL, &err));
    r->vector_stride = 0;
    r->count = SIZE_MAX;
    FAILS(OCH_TOO_LARGE, och_collection_add(f->collection, r, NULL, &err));
    r->count = 3;
    r->vectors = NULL;
    FAILS(OCH_INVALID, och_collection_add(f->collection, r, NULL, &err));
    FAILS(OCH_INVALID, och_collection_upsert(f->collection, r, NULL, &err));
    static const float bad[][3] = {{0, NAN, 0}, {INFINITY, 0, 0}, {0, 0, -INFINITY}};
    r->count = 1;
    rows.ids[0] = och_text("new");
    och_result *result;
    size_t found;
    for (size_t i = 0; i < 3; i++) {
        r->vectors = bad[i];
        FAILS(OCH_INVALID, och_collection_add(f->collection, r, NULL, &err));
        SAYS("must not contain NaN or Infinity");
        FAILS(OCH_INVALID, och_collection_update(f->collection, r, NULL, &err));
        FAILS(OCH_INVALID,
              och_collection_query(f->collection, bad[i], 1, 3, 1, NULL, &result, &err));
        FAILS(OCH_INVALID,
              och_collection_nearest(f->collection, bad[i], 3, 1, NULL, NULL, NULL, &found, &err));
    }
    static const float far_off[3] = {3e38f, -3e38f,
                                     1}; /* its length is no float, it is one itself */
    uint64_t seq;
    OK(och_collection_nearest(f->collection, far_off, 3, 1, NULL, &seq, NULL, &found, &err));
}

static void queries_of_a_wrong_shape_are_refused(void **state)
{
    struct test_things *f = *state;
    och_result *result;
    size_t found;
    FAILS(OCH_INVALID,
          och_collection_query(f->collection, test_vectors, 1, 2, 1, NULL, &result, &err));
    SAYS("Collection expecting embedding with dimension of 3, got 2");
    FAILS(OCH_INVALID,
          och_collection_query(f->collection, test_vectors, 1, 0, 1, NULL, &result, &err));
    FAILS(OCH_INVALID, och_collection_nearest(f->collection, test_vectors, 9, 1, NULL, NULL, NULL,
                                              &found, &err));
    FAILS(OCH_TOO_LARGE,
          och_collection_query(f->collection, test_vectors, SIZE_MAX, 3, 1, NULL, &result, &err));
    FAILS(OCH_TOO_LARGE,
          och_collection_query(f->collection, test_vectors, 1, 3, SIZE_MAX, NULL, &result, &err));
    och_select among = OCH_SELECT;
    among.limit = 2;
    FAILS(OCH_INVALID,
          och_collection_query(f->collection, test_vectors, 1, 3, 1, &among, &result, &err));
    among = (och_select)OCH_SELECT;
    among.include = 64;
    FAILS(OCH_INVALID, och_collection_get(f->collection, &among, &result, &err));
    SAYS("0x40");
    among = (och_select)OCH_SELECT;
    among.id_count = 3;
    FAILS(OCH_INVALID, och_collection_get(f->collection, &among, &result, &err));
    among.ids = (const och_bytes *)test_vectors;
    among.id_count = SIZE_MAX;
    FAILS(OCH_NO_MEMORY, och_collection_get(f->collection, &among, &result, &err));
}

static void text_must_be_utf8_wherever_it_goes(void **state)
{
    struct test_things *f = *state;
    static const och_bytes bad[] = {{"\xff", 1}, {"a\xc3", 2}, {"\xed\xa0\x80", 3}, {NULL, 3}};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct test_rows rows;
        och_records *r = test_records(&rows);
        rows.ids[1] = bad[i];
        FAILS(OCH_INVALID, och_collection_add(f->collection, r, NULL, &err));
        SAYS("record 1");
        r = test_records(&rows);
        rows.documents[2] = bad[i];
        FAILS(OCH_INVALID, och_collection_upsert(f->collection, r, NULL, &err));
        SAYS("record 2");
        r = test_records(&rows);
        r->uris = rows.documents;
        rows.documents[0] = bad[i];
        FAILS(OCH_INVALID, och_collection_update(f->collection, r, NULL, &err));
        r = test_records(&rows);
        rows.metadatas[0] = bad[i];
        FAILS(OCH_INVALID, och_collection_upsert(f->collection, r, NULL, &err));
        SAYS("index 0");
        och_select which = OCH_SELECT;
        och_result *result;
        which.ids = &bad[i];
        which.id_count = 1;
        FAILS(OCH_INVALID, och_collection_get(f->collection, &which, &result, &err));
        FAILS(OCH_INVALID, och_collection_delete(f->collection, &which, NULL, &err));
        och_collection_spec spec = OCH_COLLECTION_SPEC;
        och_collection *collection;
        spec.name = bad[i];
        FAILS(OCH_INVALID, och_collection_create(f->database, &spec, &collection, &err));
        FAILS(OCH_INVALID, och_collection_open(f->database, &spec, &collection, &err));
        spec.name = och_text("sound");
        spec.tenant = bad[i];
        if (bad[i].at)
            FAILS(OCH_INVALID, och_collection_list(f->database, &spec, &result, &err));
        och_filter *filter;
        FAILS(OCH_INVALID, och_filter_parse(bad[i], och_text(NULL), &filter, &err));
    }
}

static void empty_ids_and_unsound_metadata_are_refused_with_their_place(void **state)
{
    struct test_things *f = *state;
    struct test_rows rows;
    och_records *r = test_records(&rows);
    rows.ids[2] = och_text("");
    FAILS(OCH_INVALID, och_collection_add(f->collection, r, NULL, &err));
    SAYS("Empty ID");
    r = test_records(&rows);
    rows.ids[2] = och_text(NULL);
    FAILS(OCH_INVALID, och_collection_add(f->collection, r, NULL, &err));
    static const struct {
        const char *json, *says;
        och_code code;
    } cases[] = {
        {"{\"a\":", "not JSON", OCH_INVALID},
        {"", "not JSON", OCH_INVALID},
        {"[1]", "expected an object", OCH_SHAPE},
        {"3", "expected an object", OCH_SHAPE},
        {"{\"\": 1}", "index 1", OCH_INVALID},
        {"{\"chroma:x\": 1}", "index 1", OCH_INVALID},
        {"{\"a\": {\"b\": 1}}", "index 1", OCH_SHAPE},
        {"{\"a\": [1, \"x\"]}", "index 1", OCH_SHAPE},
        {"{\"a\": null}", "index 1", OCH_SHAPE}, /* add: nothing is there to delete */
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        r = test_records(&rows);
        rows.metadatas[1] = och_text(cases[i].json);
        err = (och_error)OCH_ERROR;
        och_code code = och_collection_add(f->collection, r, NULL, &err);
        if (code != cases[i].code)
            fail_msg("%s gives %d: %s", cases[i].json, code, err.message);
        SAYS(cases[i].says);
    }
}

static void unsound_filters_are_refused_when_they_are_read(void **state)
{
    (void)state;
    och_filter *filter;
    static const struct {
        const char *where, *where_document, *says;
    } cases[] = {
        {"{\"a\": ", NULL, "Invalid where clause"},
        {"[]", NULL, "Invalid where clause"},
        {"{\"a\": {\"$gt\": \"x\"}}", NULL, "$gt"},
        {"{\"$and\": 3}", NULL, "$and"},
        {NULL, "{\"$contains\": 3}", "Invalid where document clause"},
        {NULL, "{\"$regex\": \"(\"}", "Regex syntax error"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        err = (och_error)OCH_ERROR;
        och_code code = och_filter_parse(och_text(cases[i].where),
                                         och_text(cases[i].where_document), &filter, &err);
        if (code != OCH_INVALID)
            fail_msg("case %zu gives %d: %s", i, code, err.message);
        SAYS(cases[i].says);
    }
    /* deeper than any sane filter: an error, no overflow of the stack */
    static char deep[200000];
    size_t at = 0;
    while (at < 150000)
        at += (size_t)snprintf(deep + at, sizeof(deep) - at, "{\"$and\":[");
    FAILS(OCH_INVALID, och_filter_parse(och_text(deep), och_text(NULL), &filter, &err));
}

static void collections_need_sound_names_and_configurations(void **state)
{
    struct test_things *f = *state;
    och_collection *collection;
    static const char *const names[] = {"", "ab", "-abc", "a..b", "127.0.0.1", "with blank", NULL};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        och_collection_spec spec = OCH_COLLECTION_SPEC;
        spec.name = och_text(names[i]);
        FAILS(OCH_INVALID, och_collection_create(f->database, &spec, &collection, &err));
    }
    och_collection_spec spec = OCH_COLLECTION_SPEC;
    spec.name = och_text("sound");
    spec.configuration_json = och_text("{\"hnsw\": {\"space\": \"round\"}}");
    assert_int_not_equal(och_collection_create(f->database, &spec, &collection, &err), OCH_OK);
    spec.configuration_json = och_text("3");
    assert_int_not_equal(och_collection_create(f->database, &spec, &collection, &err), OCH_OK);
    spec.configuration_json = och_text(NULL);
    spec.metadata_json = och_text("[]");
    FAILS(OCH_SHAPE, och_collection_create(f->database, &spec, &collection, &err));
    spec.metadata_json = och_text("{}");
    FAILS(OCH_INVALID, och_collection_create(f->database, &spec, &collection, &err));
    SAYS("cannot be empty");
    spec.metadata_json = och_text("{\"a\": 1}");
    spec.database = och_text("elsewhere");
    FAILS(OCH_INVALID, och_collection_create(f->database, &spec, &collection, &err));
    SAYS("elsewhere");
}

static void wrong_settings_are_named(void **state)
{
    (void)state;
    och_database *database;
    och_open_options options = OCH_OPEN_OPTIONS;
    options.settings_yaml = och_text("memory_limt: 1GiB\n");
    FAILS(OCH_SETTING, och_database_open(NULL, &options, &database, &err));
    SAYS("Did you mean \"memory_limit\"?");
    options = (och_open_options)OCH_OPEN_OPTIONS;
    options.memory_limit_bytes = 1;
    FAILS(OCH_SETTING, och_database_open(NULL, &options, &database, &err));
    options = (och_open_options)OCH_OPEN_OPTIONS;
    options.read_only = true;
    FAILS(OCH_INVALID, och_database_open(NULL, &options, &database, &err));
    FAILS(OCH_INVALID, och_database_open("", NULL, &database, &err));
    options = (och_open_options)OCH_OPEN_OPTIONS;
    options.create_missing = false;
    FAILS(OCH_NOT_FOUND,
          och_database_open("/tmp/no-such-folder-of-ochre", &options, &database, &err));
    FAILS(OCH_IO, och_database_open("/dev/null/x", NULL, &database, &err));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, test_set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(null_handles_are_refused_and_freeing_them_is_fine),
        TEST(a_struct_from_nowhere_or_from_the_future_is_noticed),
        TEST(the_structs_of_1_0_are_taken),
        TEST(vectors_of_a_wrong_shape_are_refused),
        TEST(queries_of_a_wrong_shape_are_refused),
        TEST(text_must_be_utf8_wherever_it_goes),
        TEST(empty_ids_and_unsound_metadata_are_refused_with_their_place),
        TEST(unsound_filters_are_refused_when_they_are_read),
        TEST(collections_need_sound_names_and_configurations),
        TEST(wrong_settings_are_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
