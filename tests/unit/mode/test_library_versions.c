/* SPDX-License-Identifier: Apache-2.0 */
/* ochre.h: versions that are kept, read, come back to and given up. */
#include "library_test.h"

#include <pthread.h>
#include <stdatomic.h>

struct fixture {
    och_database *database;
    och_collection *things; /* "first": a b c; "second": a c with b deleted; now: c d */
};

static och_version_ref named(const char *name)
{
    och_version_ref ref = OCH_VERSION_REF;
    ref.name = och_text(name);
    return ref;
}

static och_version_ref numbered(uint64_t number)
{
    och_version_ref ref = OCH_VERSION_REF;
    ref.number = number;
    return ref;
}

static och_version_ref of_time(int64_t time_ms)
{
    och_version_ref ref = OCH_VERSION_REF;
    ref.time_ms = time_ms;
    return ref;
}

static void add_one(och_collection *collection, const char *id)
{
    och_bytes ids = och_text(id);
    och_records records = OCH_RECORDS;
    records.count = 1;
    records.dimension = 3;
    records.ids = &ids;
    records.vectors = test_vectors;
    OK(och_collection_add(collection, &records, NULL, &err));
}

static void delete_one(och_collection *collection, const char *id)
{
    och_bytes ids = och_text(id);
    och_select which = OCH_SELECT;
    which.ids = &ids;
    which.id_count = 1;
    OK(och_collection_delete(collection, &which, NULL, &err));
}

static void keep(och_collection *collection, const char *name)
{
    OK(och_collection_keep(collection, och_text(name), NULL, &err));
}

static uint64_t drop(och_collection *collection, och_version_ref which)
{
    uint64_t dropped;
    OK(och_collection_drop_version(collection, &which, &dropped, &err));
    return dropped;
}

static och_collection *at(och_collection *collection, och_version_ref which)
{
    och_collection *past;
    OK(och_collection_at(collection, &which, &past, &err));
    return past;
}

static void reads(och_collection *collection, och_version_ref which, const char *ids)
{
    och_collection *past = at(collection, which);
    assert_string_equal(test_get(past, NULL), ids);
    och_collection_free(past);
}

static void make_states(och_collection *things)
{
    struct test_rows rows;
    OK(och_collection_add(things, test_records(&rows), NULL, &err));
    keep(things, "first");
    delete_one(things, "b");
    keep(things, "second");
    delete_one(things, "a");
    add_one(things, "d");
}

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    f->database = test_open(NULL);
    f->things = test_create(f->database, "things");
    make_states(f->things);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    och_collection_free(f->things);
    test_close(f->database);
    free(f);
    return 0;
}

static void what_is_kept_is_listed_and_the_present_state_comes_last(void **state)
{
    struct fixture *f = *state;
    och_result *result;
    OK(och_collection_versions(f->things, &result, &err));
    assert_int_equal(och_result_count(result), 3);
    static const struct {
        const char *name;
        uint64_t number, records;
    } wanted[] = {{"first", 3, 3}, {"second", 4, 2}, {NULL, 6, 2}};
    int64_t before = 1;
    for (size_t i = 0; i < 3; i++) {
        och_version_info version = OCH_VERSION_INFO;
        OK(och_result_version(result, i, &version, &err));
        assert_int_equal(version.number, wanted[i].number);
        assert_int_equal(version.records, wanted[i].records);
        assert_int_equal(version.current, i == 2);
        assert_int_equal(version.kept_until_ms, 0);
        assert_true(version.time_ms >= before);
        before = version.time_ms;
        assert_int_equal(version.name.len, wanted[i].name ? strlen(wanted[i].name) : 0);
        assert_int_equal(version.name.at != NULL, wanted[i].name != NULL);
        if (wanted[i].name)
            assert_memory_equal(version.name.at, wanted[i].name, version.name.len);
        och_row row = OCH_ROW;
        bool more;
        OK(och_result_next(result, &row, &more, &err));
        assert_true(more);
        assert_int_equal(row.seq, version.number);
        assert_ptr_equal(row.id.at, version.name.at);
    }
    assert_string_equal(test_text(result), "");
}

static void retention_keeps_what_flushes_replace(void **state)
{
    struct fixture *f = *state;
    och_collection_spec spec = OCH_COLLECTION_SPEC;
    och_collection *short_lived;
    spec.name = och_text("retained");
    spec.metadata_json = och_text("{\"ochre:version_retention_seconds\": 3600}");
    OK(och_collection_create(f->database, &spec, &short_lived, &err));
    add_one(short_lived, "a");
    keep(short_lived, "one"); /* flushes */
    add_one(short_lived, "b");
    keep(short_lived, "two");
    och_result *result;
    och_version_info version = OCH_VERSION_INFO;
    size_t retained = 0;
    OK(och_collection_versions(short_lived, &result, &err));
    for (size_t i = 0; i < och_result_count(result); i++) {
        OK(och_result_version(result, i, &version, &err));
        retained += version.kept_until_ms > 0 && !version.name.at && version.number == 1;
    }
    och_result_free(result);
    assert_int_equal(retained, 1);
    assert_int_equal(drop(short_lived, numbered(1)), 2); /* the named one, too */
    och_collection_free(short_lived);
}

static void a_name_and_a_number_is_given_up_once(void **state)
{
    struct fixture *f = *state;
    och_version_ref second = named("second"), first = numbered(3);
    assert_int_equal(drop(f->things, second), 1);
    uint64_t dropped = 7;
    FAILS(OCH_NOT_FOUND, och_collection_drop_version(f->things, &second, &dropped, &err));
    SAYS("second");
    assert_int_equal(dropped, 7);
    OK(och_collection_drop_version(f->things, &first, NULL, &err));
    FAILS(OCH_NOT_FOUND, och_collection_drop_version(f->things, &first, NULL, &err));
    FAILS(OCH_NOT_FOUND,
          (first = numbered(6), och_collection_drop_version(f->things, &first, NULL, &err)));
    assert_string_equal(test_get(f->things, NULL), "c d");
}

static void names_are_checked_and_taken_once(void **state)
{
    struct fixture *f = *state;
    och_version_info version = OCH_VERSION_INFO;
    och_bytes name = och_text("third");
    OK(och_collection_keep(f->things, name, &version, &err));
    assert_int_equal(version.number, 6);
    assert_int_equal(version.records, 2);
    assert_ptr_equal(version.name.at, name.at);
    FAILS(OCH_EXISTS, och_collection_keep(f->things, name, NULL, &err));
    FAILS(OCH_INVALID, och_collection_keep(f->things, och_text("12345"), NULL, &err));
    FAILS(OCH_INVALID, och_collection_keep(f->things, och_text("-"), NULL, &err));
    FAILS(OCH_INVALID, och_collection_keep(f->things, och_text(""), NULL, &err));
    FAILS(OCH_INVALID, och_collection_keep(f->things, och_text(NULL), NULL, &err));
    FAILS(OCH_INVALID, och_collection_keep(f->things, och_text("\xff\xfe\xfd"), NULL, &err));
    FAILS(OCH_INVALID, och_collection_keep(f->things, (och_bytes){NULL, 3}, NULL, &err));
    FAILS(OCH_INVALID, och_collection_keep(NULL, och_text("fourth"), NULL, &err));
    version.struct_size = 4;
    FAILS(OCH_INVALID, och_collection_keep(f->things, och_text("fourth"), &version, &err));
    och_version_ref fourth = named("fourth"); /* the refused call kept nothing */
    FAILS(OCH_NOT_FOUND, och_collection_drop_version(f->things, &fourth, NULL, &err));
}

static void one_way_of_saying_which_is_wanted(void **state)
{
    struct fixture *f = *state;
    och_collection *past = NULL;
    och_version_ref both = named("first"), none = OCH_VERSION_REF, zero = {0}, before = of_time(-1),
                    time = of_time(1), bad = named("first");
    both.number = 3;
    bad.name = (och_bytes){NULL, 3};
    FAILS(OCH_INVALID, och_collection_at(f->things, &both, &past, &err));
    SAYS("one of name, number and time_ms");
    FAILS(OCH_INVALID, och_collection_at(f->things, &none, &past, &err));
    FAILS(OCH_INVALID, och_collection_at(f->things, &zero, &past, &err));
    SAYS("struct_size is 0");
    FAILS(OCH_INVALID, och_collection_at(f->things, &before, &past, &err));
    FAILS(OCH_INVALID, och_collection_at(f->things, &bad, &past, &err));
    FAILS(OCH_INVALID, och_collection_at(f->things, NULL, &past, &err));
    FAILS(OCH_INVALID, och_collection_at(f->things, &both, NULL, &err));
    FAILS(OCH_INVALID, och_collection_at(NULL, &both, &past, &err));
    FAILS(OCH_NOT_FOUND, och_collection_at(f->things, &time, &past, &err));
    FAILS(OCH_NOT_FOUND, (time = numbered(5), och_collection_at(f->things, &time, &past, &err)));
    FAILS(OCH_NOT_FOUND, (time = named("3"), och_collection_at(f->things, &time, &past, &err)));
    FAILS(OCH_NOT_FOUND, (time = named(""), och_collection_at(f->things, &time, &past, &err)));
    assert_null(past);
    time = of_time(1);
    FAILS(OCH_INVALID, och_collection_drop_version(f->things, &time, NULL, &err));
    SAYS("by its name or its number");
    FAILS(OCH_INVALID, och_collection_drop_version(f->things, &none, NULL, &err));
    FAILS(OCH_INVALID, och_collection_drop_version(f->things, NULL, NULL, &err));
    FAILS(OCH_INVALID, och_collection_drop_version(NULL, &both, NULL, &err));
    och_result *result;
    FAILS(OCH_INVALID, och_collection_versions(NULL, &result, &err));
    FAILS(OCH_INVALID, och_collection_versions(f->things, NULL, &err));
}

static void only_lists_of_versions_have_versions(void **state)
{
    struct fixture *f = *state;
    och_result *result;
    och_version_info version = OCH_VERSION_INFO, small = OCH_VERSION_INFO;
    small.struct_size = 8;
    OK(och_collection_versions(f->things, &result, &err));
    FAILS(OCH_INVALID, och_result_version(result, 3, &version, &err));
    FAILS(OCH_INVALID, och_result_version(result, SIZE_MAX, &version, &err));
    FAILS(OCH_INVALID, och_result_version(result, 0, NULL, &err));
    FAILS(OCH_INVALID, och_result_version(result, 0, &small, &err));
    FAILS(OCH_INVALID, och_result_version(NULL, 0, &version, &err));
    och_result_free(result);
    OK(och_collection_get(f->things, NULL, &result, &err));
    FAILS(OCH_INVALID, och_result_version(result, 0, &version, &err));
    och_result_free(result);
}

static void a_version_is_read_by_name_number_and_time(void **state)
{
    struct fixture *f = *state;
    reads(f->things, named("first"), "a b c");
    reads(f->things, numbered(3), "a b c");
    reads(f->things, named("second"), "a c");
    reads(f->things, numbered(6), "c d");
    reads(f->things, of_time(INT64_MAX), "c d");
    char name[] = "first"; /* the handle has a copy */
    och_collection *past = at(f->things, named(name));
    memset(name, 'x', sizeof(name) - 1);
    assert_string_equal(test_get(past, NULL), "a b c");
    assert_string_equal(och_collection_id(past).at, och_collection_id(f->things).at);
    och_collection_free(past);
}

static void a_number_that_nobody_keeps_lasts_until_the_collection_goes_on(void **state)
{
    struct fixture *f = *state;
    och_collection *present = at(f->things, numbered(6));
    assert_string_equal(test_get(present, NULL), "c d");
    add_one(f->things, "e");
    uint64_t count;
    FAILS(OCH_NOT_FOUND, och_collection_count(present, NULL, &count, &err));
    SAYS("6");
    och_collection_free(present);
}

static bool take_text(void *user, och_bytes piece)
{
    char *text = user;
    size_t at = strlen(text);
    assert_true(at + piece.len < 4096);
    memcpy(text + at, piece.at, piece.len);
    text[at + piece.len] = '\0';
    return true;
}

static void every_read_sees_the_version(void **state)
{
    struct fixture *f = *state;
    och_collection *past = at(f->things, named("first"));
    och_filter *filter = test_filter("{\"n\": {\"$gte\": 1}}", NULL);
    uint64_t count;
    OK(och_collection_count(past, NULL, &count, &err));
    assert_int_equal(count, 3);
    OK(och_collection_count(past, filter, &count, &err));
    assert_int_equal(count, 2);
    OK(och_collection_count(f->things, filter, &count, &err));
    assert_int_equal(count, 0);

    och_select page = OCH_SELECT;
    och_result *result;
    page.limit = 2;
    page.order_by = och_text("#id");
    page.descending = true;
    OK(och_collection_get(past, &page, &result, &err));
    char cursor[512];
    och_bytes next = och_result_cursor(result);
    assert_true(next.len > 0 && next.len < sizeof(cursor));
    memcpy(cursor, next.at, next.len);
    assert_string_equal(test_text(result), "c b");
    page.cursor = (och_bytes){cursor, next.len};
    assert_string_equal(test_get(past, &page), "a");

    OK(och_collection_query(past, test_vectors, 2, 3, 1, NULL, &result, &err));
    assert_string_equal(test_text(result), "a b");
    float distance = -1;
    size_t found;
    OK(och_collection_nearest(past, test_vectors + 3, 3, 1, filter, NULL, &distance, &found, &err));
    assert_int_equal(found, 1);
    assert_float_equal(distance, 0, 0);
    OK(och_collection_nearest(f->things, test_vectors + 3, 3, 1, NULL, NULL, &distance, &found,
                              &err));
    assert_true(distance > 0);

    och_bytes key = och_text("n");
    och_facets facets = OCH_FACETS;
    och_facet facet = OCH_FACET;
    facets.keys = &key;
    facets.key_count = 1;
    OK(och_collection_facets(past, &facets, NULL, &result, &err));
    OK(och_result_facet(result, 0, &facet, &err));
    assert_int_equal(facet.records, 2);
    och_result_free(result);

    char text[4096] = "";
    OK(och_collection_export(past, NULL, take_text, text, &err));
    assert_non_null(strstr(text, "{\"id\":\"b\",\"embedding\":[0.0,1.0,0.0]"));
    assert_null(strstr(text, "\"d\""));
    och_filter_free(filter);
    och_collection_free(past);
}

#define REFUSED(name_, call)                                     \
    do {                                                         \
        FAILS(OCH_INVALID, call);                                \
        SAYS(name_ " is not for a handle of och_collection_at"); \
    } while (0)

static void a_handle_on_a_version_takes_no_other_call(void **state)
{
    struct fixture *f = *state;
    och_collection *past = at(f->things, named("first")), *other = NULL;
    och_result *result = NULL;
    och_transaction *transaction = NULL;
    och_change change = OCH_CHANGE;
    och_import import = OCH_IMPORT;
    och_version_ref first = named("first");
    och_bytes name = och_text("copy"), kind = och_text("record_counter");
    struct test_rows rows;
    uint64_t number;
    och_records *records = test_records(&rows);
    REFUSED("och_collection_add", och_collection_add(past, records, NULL, &err));
    REFUSED("och_collection_upsert", och_collection_upsert(past, records, NULL, &err));
    REFUSED("och_collection_update", och_collection_update(past, records, NULL, &err));
    REFUSED("och_collection_delete", och_collection_delete(past, NULL, NULL, &err));
    REFUSED("och_collection_update_where",
            och_collection_update_where(past, NULL, &change, NULL, &err));
    REFUSED("och_collection_import", och_collection_import(past, &import, NULL, &err));
    REFUSED("och_collection_warm", och_collection_warm(past, OCH_WARM_HOT, 0, NULL, NULL, &err));
    REFUSED("och_collection_fork", och_collection_fork(past, name, &other, &err));
    REFUSED("och_function_attach",
            och_function_attach(past, name, kind, name, och_text(NULL), NULL, &err));
    REFUSED("och_function_progress", och_function_progress(past, name, &number, &err));
    REFUSED("och_function_detach", och_function_detach(past, name, false, &err));
    REFUSED("och_transaction_begin", och_transaction_begin(past, &transaction, &err));
    REFUSED("och_collection_versions", och_collection_versions(past, &result, &err));
    REFUSED("och_collection_keep", och_collection_keep(past, name, NULL, &err));
    REFUSED("och_collection_drop_version", och_collection_drop_version(past, &first, NULL, &err));
    REFUSED("och_collection_restore",
            och_collection_restore(past, &first, och_text(NULL), false, NULL, &err));
    REFUSED("och_collection_at", och_collection_at(past, &first, &other, &err));
    assert_true(!other && !result && !transaction);
    assert_string_equal(test_get(past, NULL), "a b c");
    assert_string_equal(test_get(f->things, NULL), "c d");
    och_collection_free(past);
}

static void once_the_version_is_dropped_its_handle_says_so(void **state)
{
    struct fixture *f = *state;
    och_collection *past = at(f->things, named("first"));
    och_result *before, *result = NULL;
    och_bytes key = och_text("n");
    och_facets facets = OCH_FACETS;
    uint64_t count;
    size_t found;
    char text[4096] = "";
    facets.keys = &key;
    facets.key_count = 1;
    OK(och_collection_get(past, NULL, &before, &err));
    (void)drop(f->things, named("first"));
    FAILS(OCH_NOT_FOUND, och_collection_get(past, NULL, &result, &err));
    SAYS("Version [first] of collection [things] does not exist");
    FAILS(OCH_NOT_FOUND, och_collection_query(past, test_vectors, 1, 3, 1, NULL, &result, &err));
    FAILS(OCH_NOT_FOUND,
          och_collection_nearest(past, test_vectors, 3, 1, NULL, NULL, NULL, &found, &err));
    FAILS(OCH_NOT_FOUND, och_collection_count(past, NULL, &count, &err));
    FAILS(OCH_NOT_FOUND, och_collection_facets(past, &facets, NULL, &result, &err));
    FAILS(OCH_NOT_FOUND, och_collection_export(past, NULL, take_text, text, &err));
    assert_null(result);
    assert_string_equal(test_text(before), "a b c"); /* a result holds what it shows */
    keep(f->things, "first");
    assert_string_equal(test_get(past, NULL), "c d"); /* the name is found anew */
    och_collection_free(past);
}

/* Counts of a version that comes and goes; assertions are for the thread of the test. */
struct reader {
    och_collection *past;
    atomic_bool stop;
    atomic_uint found, missed;
    och_error wrong;
};

static void *read_on(void *context)
{
    struct reader *r = context;
    while (!atomic_load(&r->stop)) {
        och_error failed = OCH_ERROR;
        uint64_t count = 0;
        och_code code = och_collection_count(r->past, NULL, &count, &failed);
        if (code == OCH_OK && count >= 2)
            atomic_fetch_add(&r->found, 1);
        else if (code == OCH_NOT_FOUND && strstr(failed.message, "Version [moving]"))
            atomic_fetch_add(&r->missed, 1);
        else
            r->wrong = failed;
    }
    return NULL;
}

static void wait_for(atomic_uint *count)
{
    for (int i = 0; i < 10000 && !atomic_load(count); i++)
        usleep(1000);
    assert_true(atomic_load(count) > 0);
}

static void a_version_dropped_while_it_is_read_is_there_or_not(void **state)
{
    struct fixture *f = *state;
    keep(f->things, "moving");
    struct reader reader = {.past = at(f->things, named("moving")), .wrong = OCH_ERROR};
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, read_on, &reader), 0);
    for (int i = 0; i < 60; i++) {
        char id[16];
        (void)snprintf(id, sizeof(id), "id%d", i);
        (void)drop(f->things, named("moving"));
        add_one(f->things, id);
        keep(f->things, "moving");
    }
    wait_for(&reader.found);
    (void)drop(f->things, named("moving"));
    wait_for(&reader.missed);
    atomic_store(&reader.stop, true);
    assert_int_equal(pthread_join(thread, NULL), 0);
    if (reader.wrong.message[0])
        fail_msg("%d: %s", reader.wrong.code, reader.wrong.message);
    och_collection_free(reader.past);
}

static void once_the_collection_is_dropped_its_handles_say_so(void **state)
{
    struct fixture *f = *state;
    och_collection *past = at(f->things, named("first"));
    och_collection_spec spec = OCH_COLLECTION_SPEC;
    och_version_ref first = named("first");
    och_result *result = NULL;
    uint64_t count;
    spec.name = och_text("things");
    OK(och_collection_drop(f->database, &spec, &err));
    FAILS(OCH_NOT_FOUND, och_collection_count(past, NULL, &count, &err));
    FAILS(OCH_NOT_FOUND, och_collection_get(past, NULL, &result, &err));
    FAILS(OCH_NOT_FOUND, och_collection_query(past, test_vectors, 1, 3, 1, NULL, &result, &err));
    FAILS(OCH_NOT_FOUND, och_collection_versions(f->things, &result, &err));
    FAILS(OCH_NOT_FOUND, och_collection_keep(f->things, och_text("third"), NULL, &err));
    FAILS(OCH_NOT_FOUND, och_collection_drop_version(f->things, &first, NULL, &err));
    FAILS(OCH_NOT_FOUND,
          och_collection_restore(f->things, &first, och_text(NULL), true, NULL, &err));
    och_collection *again;
    FAILS(OCH_NOT_FOUND, och_collection_at(f->things, &first, &again, &err));
    assert_null(result);
    och_collection_free(past);
}

static void a_restore_is_tried_then_done_and_undone(void **state)
{
    struct fixture *f = *state;
    och_version_ref first = named("first"), undo = named("undo");
    och_bytes none = OCH_NO_BYTES;
    och_restored restored = OCH_RESTORED;
    OK(och_collection_restore(f->things, &first, none, true, &restored, &err));
    assert_int_equal(restored.restored, 3);
    assert_int_equal(restored.version, 6);
    assert_int_equal(restored.records, 3);
    assert_int_equal(restored.records_before, 2);
    assert_string_equal(test_get(f->things, NULL), "c d");
    OK(och_collection_restore(f->things, &first, och_text("undo"), false, &restored, &err));
    assert_int_equal(restored.restored, 3);
    assert_true(restored.version > 6);
    assert_int_equal(restored.records, 3);
    assert_string_equal(test_get(f->things, NULL), "a b c");
    reads(f->things, undo, "c d");
    reads(f->things, first, "a b c");
    OK(och_collection_restore(f->things, &undo, none, false, NULL, &err));
    assert_string_equal(test_get(f->things, NULL), "c d");
    add_one(f->things, "e");
    assert_string_equal(test_get(f->things, NULL), "c d e");
}

static void a_restore_that_cannot_be_changes_nothing(void **state)
{
    struct fixture *f = *state;
    och_version_ref first = named("first"), unknown = named("unknown"), none = OCH_VERSION_REF;
    och_bytes absent = OCH_NO_BYTES;
    och_restored restored = OCH_RESTORED;
    FAILS(OCH_NOT_FOUND,
          och_collection_restore(f->things, &unknown, absent, false, &restored, &err));
    SAYS("unknown");
    assert_int_equal(restored.records, 0);
    FAILS(OCH_INVALID, och_collection_restore(f->things, &none, absent, false, NULL, &err));
    FAILS(OCH_INVALID, och_collection_restore(f->things, NULL, absent, false, NULL, &err));
    FAILS(OCH_INVALID, och_collection_restore(NULL, &first, absent, false, NULL, &err));
    FAILS(OCH_INVALID,
          och_collection_restore(f->things, &first, och_text("77"), false, NULL, &err));
    FAILS(OCH_INVALID, och_collection_restore(f->things, &first, och_text("-"), false, NULL, &err));
    FAILS(OCH_INVALID,
          och_collection_restore(f->things, &first, (och_bytes){NULL, 1}, false, NULL, &err));
    FAILS(OCH_EXISTS,
          och_collection_restore(f->things, &first, och_text("second"), false, NULL, &err));
    restored.struct_size = 12;
    FAILS(OCH_INVALID, och_collection_restore(f->things, &first, absent, false, &restored, &err));
    OK(och_function_attach(f->things, och_text("count"), och_text("record_counter"),
                           och_text("counts"), och_text(NULL), NULL, &err));
    FAILS(OCH_EXISTS, och_collection_restore(f->things, &first, absent, false, NULL, &err));
    assert_string_equal(test_get(f->things, NULL), "c d");
}

static void versions_outlive_the_process(void **state)
{
    (void)state;
    const char *folder = test_folder();
    och_database *database = test_open(folder);
    och_collection *things = test_create(database, "things");
    make_states(things);
    och_collection *past = at(things, named("first"));
    och_result *list;
    och_version_info version = OCH_VERSION_INFO;
    uint64_t count;
    OK(och_collection_versions(things, &list, &err));
    OK(och_database_close(database, &err));
    FAILS(OCH_CLOSED, och_collection_count(past, NULL, &count, &err));
    FAILS(OCH_CLOSED, och_collection_keep(things, och_text("third"), NULL, &err));
    och_collection_free(things);
    och_database_free(database);
    OK(och_result_version(list, 0, &version, &err)); /* a list holds what it shows */
    assert_memory_equal(version.name.at, "first", 5);
    och_result_free(list);
    och_collection_free(past);

    database = test_open(folder);
    och_collection_spec spec = OCH_COLLECTION_SPEC;
    spec.name = och_text("things");
    OK(och_collection_open(database, &spec, &things, &err));
    reads(things, named("first"), "a b c");
    reads(things, numbered(4), "a c");
    assert_string_equal(test_get(things, NULL), "c d");
    och_collection_free(things);
    test_close(database);
    test_remove(folder);
}

int main(void)
{
#define TEST(name_) cmocka_unit_test_setup_teardown(name_, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(what_is_kept_is_listed_and_the_present_state_comes_last),
        TEST(retention_keeps_what_flushes_replace),
        TEST(a_name_and_a_number_is_given_up_once),
        TEST(names_are_checked_and_taken_once),
        TEST(one_way_of_saying_which_is_wanted),
        TEST(only_lists_of_versions_have_versions),
        TEST(a_version_is_read_by_name_number_and_time),
        TEST(a_number_that_nobody_keeps_lasts_until_the_collection_goes_on),
        TEST(every_read_sees_the_version),
        TEST(a_handle_on_a_version_takes_no_other_call),
        TEST(once_the_version_is_dropped_its_handle_says_so),
        TEST(a_version_dropped_while_it_is_read_is_there_or_not),
        TEST(once_the_collection_is_dropped_its_handles_say_so),
        TEST(a_restore_is_tried_then_done_and_undone),
        TEST(a_restore_that_cannot_be_changes_nothing),
        cmocka_unit_test(versions_outlive_the_process),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
