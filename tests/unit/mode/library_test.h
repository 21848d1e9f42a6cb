/* SPDX-License-Identifier: Apache-2.0 */
/* What the tests of the C library share: a collection of three records, rows as text, folders. */
#ifndef LIBRARY_TEST_H
#define LIBRARY_TEST_H

#include "ochre/ochre.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define OK(call)                                                       \
    do {                                                               \
        err = (och_error)OCH_ERROR;                                    \
        if ((call) != OCH_OK)                                          \
            fail_msg("line %d: %s: %s", __LINE__, #call, err.message); \
    } while (0)
#define FAILS(code_, call)                                                             \
    do {                                                                               \
        err = (och_error)OCH_ERROR;                                                    \
        och_code got_ = (call);                                                        \
        if (got_ != (code_))                                                           \
            fail_msg("line %d: %s gives %d, not %d: %s", __LINE__, #call, got_, code_, \
                     err.message);                                                     \
        assert_int_equal(err.code, code_);                                             \
        assert_true(err.message[0] != '\0');                                           \
    } while (0)
#define SAYS(part)                                                                        \
    do {                                                                                  \
        if (!strstr(err.message, part))                                                   \
            fail_msg("line %d: \"%s\" does not say \"%s\"", __LINE__, err.message, part); \
    } while (0)

static och_error err;

static const float test_vectors[] = {1, 0, 0, /**/ 0, 1, 0, /**/ 0, 0, 1};
static const char *const test_ids[] = {"a", "b", "c"};
static const char *const test_metadatas[] = {"{\"n\": 1, \"s\": \"x\"}", "{\"n\": 2}", NULL};
static const char *const test_documents[] = {"one treaty", NULL, ""};

struct test_rows {
    och_bytes ids[3], metadatas[3], documents[3];
    och_records records;
};
static inline och_records *test_records(struct test_rows *rows)
{
    rows->records = (och_records)OCH_RECORDS;
    for (size_t i = 0; i < 3; i++) {
        rows->ids[i] = och_text(test_ids[i]);
        rows->metadatas[i] = och_text(test_metadatas[i]);
        rows->documents[i] = och_text(test_documents[i]);
    }
    rows->records.count = 3;
    rows->records.dimension = 3;
    rows->records.ids = rows->ids;
    rows->records.vectors = test_vectors;
    rows->records.documents = rows->documents;
    rows->records.metadatas_json = rows->metadatas;
    return &rows->records;
}

static inline och_collection *test_create(och_database *database, const char *name)
{
    och_collection_spec spec = OCH_COLLECTION_SPEC;
    och_collection *collection;
    spec.name = och_text(name);
    OK(och_collection_create(database, &spec, &collection, &err));
    return collection;
}

static inline och_database *test_open(const char *path)
{
    och_open_options options = OCH_OPEN_OPTIONS;
    options.thread_count = 2;
    options.memory_limit_bytes = 256u << 20;
    och_database *database;
    OK(och_database_open(path, &options, &database, &err));
    return database;
}

/* In memory; what is written becomes parts soon. */
static inline och_database *test_open_restless(void)
{
    och_database *database;
    och_open_options options = OCH_OPEN_OPTIONS;
    options.settings_yaml = och_text("compact_idle_ms: 20\n");
    OK(och_database_open(NULL, &options, &database, &err));
    return database;
}

/* Wait until all of it is in parts: a minute at most. */
static inline void test_settle(och_collection *collection)
{
    och_indexing indexing = OCH_INDEXING;
    OK(och_collection_indexing(collection, &indexing, &err));
    for (int i = 0; i < 6000 && indexing.indexed < indexing.operations; i++) {
        (void)usleep(10000);
        OK(och_collection_indexing(collection, &indexing, &err));
    }
    assert_int_equal(indexing.indexed, indexing.operations);
}

static inline void test_close(och_database *database)
{
    OK(och_database_close(database, &err));
    och_database_free(database);
}

/* A collection with the three records. */
static inline och_collection *test_filled(och_database *database, const char *name)
{
    och_collection *collection = test_create(database, name);
    struct test_rows rows;
    OK(och_collection_add(collection, test_records(&rows), NULL, &err));
    return collection;
}

/* One of records "id-0", "id-1", .. with random vectors, which are left in ret_vectors[count x dimension]. */
static inline och_collection *test_many(och_database *database, const char *name, size_t count,
                                        size_t dimension, float *ret_vectors)
{
    och_collection *collection = test_create(database, name);
    och_bytes *ids = calloc(count + 1, sizeof(*ids));
    char(*names)[16] = calloc(count + 1, sizeof(*names));
    assert_true(ids && names);
    for (size_t i = 0; i < count; i++) {
        (void)snprintf(names[i], sizeof(names[i]), "id-%zu", i);
        ids[i] = och_text(names[i]);
    }
    uint32_t seed = 1;
    for (size_t i = 0; i < count * dimension; i++) {
        seed = seed * 1664525 + 1013904223;
        ret_vectors[i] = (float)(seed >> 8) / 16777216.0f;
    }
    och_records records = OCH_RECORDS;
    records.count = count;
    records.dimension = dimension;
    records.ids = ids;
    records.vectors = ret_vectors;
    if (count)
        OK(och_collection_add(collection, &records, NULL, &err));
    free(ids);
    free(names);
    return collection;
}

/* What most tests begin with: a database in memory that has such a collection. */
struct test_things {
    och_database *database;
    och_collection *collection;
};
static inline int test_set_up(void **state)
{
    struct test_things *f = calloc(1, sizeof(*f));
    assert_non_null(f);
    f->database = test_open(NULL);
    f->collection = test_filled(f->database, "things");
    *state = f;
    return 0;
}
static inline int test_tear_down(void **state)
{
    struct test_things *f = *state;
    och_collection_free(f->collection);
    test_close(f->database);
    free(f);
    return 0;
}

/* "a b c": the ids left in a result; frees it. */
static inline const char *test_text(och_result *result)
{
    static char text[4096];
    size_t at = 0;
    och_row row = OCH_ROW;
    bool more;
    text[0] = '\0';
    for (;;) {
        OK(och_result_next(result, &row, &more, &err));
        if (!more)
            break;
        at += (size_t)snprintf(text + at, sizeof(text) - at, "%s%.*s", at ? " " : "",
                               (int)row.id.len, (const char *)row.id.at);
        assert_true(at < sizeof(text));
    }
    och_result_free(result);
    return text;
}

static inline const char *test_get(och_collection *collection, const och_select *which)
{
    och_result *result;
    OK(och_collection_get(collection, which, &result, &err));
    return test_text(result);
}

static inline och_filter *test_filter(const char *where, const char *where_document)
{
    och_filter *filter;
    OK(och_filter_parse(och_text(where), och_text(where_document), &filter, &err));
    return filter;
}

static inline const char *test_folder(void)
{
    static char path[64];
    (void)snprintf(path, sizeof(path), "/tmp/ochre-library-XXXXXX");
    assert_non_null(mkdtemp(path));
    return path;
}

static inline void test_remove(const char *path)
{
    char command[128];
    (void)snprintf(command, sizeof(command), "rm -r '%s'", path);
    assert_int_equal(system(command), 0);
}
#endif
