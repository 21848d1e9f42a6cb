/* SPDX-License-Identifier: Apache-2.0 */
/* Opening, closing, reopening, sharing and forking of databases. */
#include "library_test.h"

#include <dirent.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/wait.h>

static size_t thread_count(void)
{
    DIR *tasks = opendir("/proc/self/task");
    assert_non_null(tasks);
    size_t count = 0;
    for (struct dirent *entry; (entry = readdir(tasks)) != NULL;)
        count += entry->d_name[0] != '.';
    (void)closedir(tasks);
    return count;
}

/* A thread that was joined may be listed for a moment longer. */
static void expect_threads(size_t wanted)
{
    for (int i = 0; i < 200 && thread_count() > wanted; i++)
        (void)usleep(1000);
    assert_int_equal(thread_count(), wanted);
}

static void what_was_written_is_there_after_reopening(void **state)
{
    (void)state;
    const char *path = test_folder();
    struct test_rows rows;
    for (int round = 0; round < 3; round++) {
        och_database *database = test_open(path);
        och_collection_spec spec = OCH_COLLECTION_SPEC;
        och_collection *collection;
        spec.name = och_text("docs");
        spec.get_or_create = true;
        OK(och_collection_create(database, &spec, &collection, &err));
        if (round == 0) {
            OK(och_collection_add(collection, test_records(&rows), NULL, &err));
        } else {
            assert_string_equal(test_get(collection, NULL), "a b c");
            size_t found;
            OK(och_collection_nearest(collection, test_vectors, 3, 2, NULL, NULL, NULL, &found,
                                      &err));
            assert_int_equal(found, 2);
        }
        och_collection_free(collection);
        if (round == 1)
            och_database_free(database); /* closes by itself */
        else
            test_close(database);
    }
    test_remove(path);
}

static void a_folder_is_open_once_and_free_after_close(void **state)
{
    (void)state;
    const char *path = test_folder();
    och_database *database = test_open(path), *second;
    FAILS(OCH_IN_USE, och_database_open(path, NULL, &second, &err));
    SAYS("is in use by pid");
    och_collection *child = test_create(database, "child");
    OK(och_database_close(database, &err));
    /* Closed, not yet freed, and a child lives: the folder is free all the same. */
    second = test_open(path);
    test_close(second);
    och_collection_free(child);
    och_database_free(database);
    test_remove(path);
}

static void readers_share_a_folder(void **state)
{
    (void)state;
    const char *path = test_folder();
    och_database *database = test_open(path), *readers[2];
    struct test_rows rows;
    och_collection *collection = test_create(database, "docs");
    OK(och_collection_add(collection, test_records(&rows), NULL, &err));
    och_collection_free(collection);
    test_close(database);
    och_open_options options = OCH_OPEN_OPTIONS;
    options.read_only = true;
    for (int i = 0; i < 2; i++)
        OK(och_database_open(path, &options, &readers[i], &err));
    FAILS(OCH_IN_USE, och_database_open(path, NULL, &database, &err));
    for (int i = 0; i < 2; i++) {
        och_collection_spec spec = OCH_COLLECTION_SPEC;
        spec.name = och_text("docs");
        OK(och_collection_open(readers[i], &spec, &collection, &err));
        assert_string_equal(test_get(collection, NULL), "a b c");
        assert_int_not_equal(och_collection_add(collection, test_records(&rows), NULL, &err),
                             OCH_OK);
        assert_int_not_equal(och_collection_drop(readers[i], &spec, &err), OCH_OK);
        och_collection_free(collection);
    }
    for (int i = 0; i < 2; i++)
        test_close(readers[i]);
    test_remove(path);
}

static void children_outlive_a_closed_database(void **state)
{
    (void)state;
    size_t threads = thread_count();
    och_database *database = test_open(NULL);
    och_collection *collection = test_create(database, "docs");
    struct test_rows rows;
    OK(och_collection_add(collection, test_records(&rows), NULL, &err));
    och_select which = OCH_SELECT;
    which.include = OCH_DOCUMENT | OCH_METADATA | OCH_VECTOR;
    och_result *result, *list, *none;
    OK(och_collection_get(collection, &which, &result, &err));
    OK(och_collection_list(database, NULL, &list, &err));
    OK(och_database_close(database, &err));
    expect_threads(threads);
    FAILS(OCH_CLOSED, och_database_close(database, &err));
    och_database_free(database);
    och_row row = OCH_ROW;
    bool more;
    uint64_t count;
    OK(och_result_next(result, &row, &more, &err));
    assert_memory_equal(row.document.at, "one treaty", 10);
    assert_memory_equal(row.vector, test_vectors, 3 * sizeof(float));
    FAILS(OCH_CLOSED, och_result_next(list, &row, &more, &err));
    FAILS(OCH_CLOSED, och_collection_count(collection, NULL, &count, &err));
    FAILS(OCH_CLOSED, och_collection_get(collection, NULL, &none, &err));
    FAILS(OCH_CLOSED, och_collection_add(collection, test_records(&rows), NULL, &err));
    FAILS(OCH_CLOSED, och_collection_delete(collection, NULL, NULL, &err));
    och_result_free(list);
    och_collection_free(collection);
    och_result_free(result);
}

static void a_database_freed_early_lives_until_its_last_child(void **state)
{
    (void)state;
    size_t threads = thread_count();
    och_database *database = test_open(NULL);
    och_collection *collection = test_create(database, "docs");
    och_database_free(database);
    struct test_rows rows;
    OK(och_collection_add(collection, test_records(&rows), NULL, &err));
    och_result *result;
    OK(och_collection_get(collection, NULL, &result, &err));
    och_collection_free(collection);
    assert_string_equal(test_text(result), "a b c");
    expect_threads(threads);
}

static void databases_in_one_process_know_nothing_of_each_other(void **state)
{
    (void)state;
    const char *path = test_folder();
    och_database *one = test_open(path), *two = test_open(NULL), *three = test_open(NULL);
    och_collection *a = test_create(one, "docs"), *b = test_create(two, "docs");
    struct test_rows rows;
    OK(och_collection_add(a, test_records(&rows), NULL, &err));
    assert_string_equal(test_get(b, NULL), "");
    och_result *list;
    OK(och_collection_list(three, NULL, &list, &err));
    assert_string_equal(test_text(list), "");
    test_close(three);
    och_collection_free(a);
    test_close(one);
    OK(och_collection_add(b, test_records(&rows), NULL, &err));
    assert_string_equal(test_get(b, NULL), "a b c");
    och_collection_free(b);
    test_close(two);
    test_remove(path);
}

/* ---- threads ---- */

#define THREADS 4
#define ROUNDS  40

struct worker {
    och_database *database;
    och_collection *collection;
    const och_filter *filter;
    int number;
    pthread_t thread;
    uint64_t inserted;
    bool closed_under_it;
};

static void *work(void *arg)
{
    struct worker *w = arg;
    char ids[2][32];
    for (int i = 0; i < ROUNDS; i++) {
        och_error mine = OCH_ERROR;
        (void)snprintf(ids[0], sizeof(ids[0]), "own-%d-%d", w->number, i);
        (void)snprintf(ids[1], sizeof(ids[1]), "shared-%d", i);
        och_bytes id[2] = {och_text(ids[0]), och_text(ids[1])};
        och_records records = OCH_RECORDS;
        records.count = 2;
        records.dimension = 3;
        records.ids = id;
        records.vectors = test_vectors;
        och_counts counts = OCH_COUNTS;
        och_code code = och_collection_add(w->collection, &records, &counts, &mine);
        och_result *result = NULL;
        if (code == OCH_OK) {
            w->inserted += counts.inserted;
            och_select which = OCH_SELECT;
            which.ids = id;
            which.id_count = 2;
            which.filter = w->filter;
            code = och_collection_get(w->collection, &which, &result, &mine);
        }
        if (code == OCH_OK && och_result_count(result) != 2)
            abort(); /* one's own write is always seen */
        och_result_free(result);
        size_t found;
        if (code == OCH_OK)
            code = och_collection_nearest(w->collection, test_vectors, 3, 3, w->filter, NULL, NULL,
                                          &found, &mine);
        if (code == OCH_CLOSED) {
            w->closed_under_it = true;
            return NULL;
        }
        if (code != OCH_OK) {
            (void)fprintf(stderr, "%s\n", mine.message);
            abort();
        }
    }
    return NULL;
}

static void start_workers(struct worker *workers, och_database *database,
                          och_collection *collection, const och_filter *filter)
{
    for (int i = 0; i < THREADS; i++) {
        workers[i] = (struct worker){
            .database = database, .collection = collection, .filter = filter, .number = i};
        assert_int_equal(pthread_create(&workers[i].thread, NULL, work, &workers[i]), 0);
    }
}

static void threads_share_one_collection(void **state)
{
    (void)state;
    och_database *database = test_open(NULL);
    och_collection *collection = test_create(database, "docs");
    och_filter *filter = test_filter("{\"n\": {\"$nin\": [7]}}", NULL);
    struct worker workers[THREADS];
    start_workers(workers, database, collection, filter);
    uint64_t inserted = 0, count;
    for (int i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_join(workers[i].thread, NULL), 0);
        inserted += workers[i].inserted;
    }
    OK(och_collection_count(collection, NULL, &count, &err));
    assert_int_equal(count, THREADS * ROUNDS + ROUNDS);
    assert_int_equal(inserted, count);
    och_filter_free(filter);
    och_collection_free(collection);
    test_close(database);
}

static void close_waits_for_calls_at_work(void **state)
{
    (void)state;
    for (int round = 0; round < 5; round++) {
        const char *path = test_folder();
        och_database *database = test_open(path);
        och_collection *collection = test_create(database, "docs");
        struct worker workers[THREADS];
        start_workers(workers, database, collection, NULL);
        (void)usleep(3000u * (unsigned)round);
        test_close(database); /* frees the handle, too, while others are in calls */
        uint64_t inserted = 0, count;
        for (int i = 0; i < THREADS; i++) {
            assert_int_equal(pthread_join(workers[i].thread, NULL), 0);
            inserted += workers[i].inserted;
        }
        och_collection_free(collection);
        database = test_open(path);
        och_collection_spec spec = OCH_COLLECTION_SPEC;
        spec.name = och_text("docs");
        OK(och_collection_open(database, &spec, &collection, &err));
        OK(och_collection_count(collection, NULL, &count, &err));
        assert_true(count >= inserted); /* what was acknowledged is there */
        och_collection_free(collection);
        test_close(database);
        test_remove(path);
    }
}

/* ---- fork ---- */

/* In the child: 0 when every call is refused as it should be. */
static int try_in_child(och_database *database, och_collection *collection, och_result *result)
{
    och_error mine = OCH_ERROR;
    och_row row = OCH_ROW;
    och_collection *other;
    och_result *none;
    bool more;
    uint64_t count;
    och_collection_spec spec = OCH_COLLECTION_SPEC;
    spec.name = och_text("docs");
    if (och_collection_count(collection, NULL, &count, &mine) != OCH_FORKED)
        return 1;
    if (och_collection_open(database, &spec, &other, &mine) != OCH_FORKED)
        return 2;
    if (och_collection_get(collection, NULL, &none, &mine) != OCH_FORKED)
        return 3;
    if (och_result_next(result, &row, &more, &mine) != OCH_FORKED)
        return 4;
    if (och_database_close(database, &mine) != OCH_FORKED)
        return 5;
    if (!strstr(mine.message, "parent"))
        return 6;
    och_result_free(result);
    och_collection_free(collection);
    och_database_free(database);
    return 0;
}

static void a_forked_child_is_refused_and_lets_go_of_the_folder(void **state)
{
    (void)state;
    const char *path = test_folder();
    och_database *database = test_open(path);
    och_collection *collection = test_create(database, "docs");
    och_result *result;
    OK(och_collection_get(collection, NULL, &result, &err));
    int ready[2], go[2];
    assert_int_equal(pipe(ready), 0);
    assert_int_equal(pipe(go), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        char byte = (char)try_in_child(database, collection, result);
        if (write(ready[1], &byte, 1) != 1 || read(go[0], &byte, 1) != 1)
            _exit(9);
        _exit(0);
    }
    char byte = 99;
    assert_int_equal(read(ready[0], &byte, 1), 1);
    assert_int_equal(byte, 0);
    /* The parent goes on, and when it has closed, the living child does not hold the folder. */
    struct test_rows rows;
    OK(och_collection_add(collection, test_records(&rows), NULL, &err));
    och_result_free(result);
    och_collection_free(collection);
    test_close(database);
    database = test_open(path);
    test_close(database);
    assert_int_equal(write(go[1], &byte, 1), 1);
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    for (int i = 0; i < 2; i++) {
        (void)close(ready[i]);
        (void)close(go[i]);
    }
    test_remove(path);
}

/* ---- diagnostics ---- */

static void count_line(void *user, int level, och_bytes line)
{
    assert_true(level >= 0 && level <= 3);
    assert_true(line.len > 0);
    (void)atomic_fetch_add((atomic_uint *)user, 1);
}

static void lines_of_diagnostics_go_to_the_host(void **state)
{
    (void)state;
    atomic_uint lines = 0;
    const char *path = test_folder();
    och_open_options options = OCH_OPEN_OPTIONS;
    options.log = count_line;
    options.log_user = &lines;
    options.settings_yaml = och_text("log_level: debug\n");
    och_database *database;
    OK(och_database_open(path, &options, &database, &err));
    och_collection *collection = test_create(database, "docs");
    och_collection_free(collection);
    test_close(database);
    test_remove(path);
}

static void the_header_and_the_library_are_one_version(void **state)
{
    (void)state;
    assert_int_equal(och_version_number(), OCH_VERSION_NUMBER);
    char text[16];
    (void)snprintf(text, sizeof(text), "%u.%u.%u", OCH_VERSION_NUMBER / 10000,
                   OCH_VERSION_NUMBER / 100 % 100, OCH_VERSION_NUMBER % 100);
    assert_string_equal(text, OCH_VERSION);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_written_is_there_after_reopening),
        cmocka_unit_test(a_folder_is_open_once_and_free_after_close),
        cmocka_unit_test(readers_share_a_folder),
        cmocka_unit_test(children_outlive_a_closed_database),
        cmocka_unit_test(a_database_freed_early_lives_until_its_last_child),
        cmocka_unit_test(databases_in_one_process_know_nothing_of_each_other),
        cmocka_unit_test(threads_share_one_collection),
        cmocka_unit_test(close_waits_for_calls_at_work),
        cmocka_unit_test(a_forked_child_is_refused_and_lets_go_of_the_folder),
        cmocka_unit_test(lines_of_diagnostics_go_to_the_host),
        cmocka_unit_test(the_header_and_the_library_are_one_version),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
