/* SPDX-License-Identifier: Apache-2.0 */
/* `ochre check` on folders that the library made and that something has damaged since. */
#include "admin/check.h"
#include "library_test.h"
#include "mode/library_internal.h"

#include <dirent.h>
#include <fcntl.h>

#define RECORDS 300

struct fixture {
    char path[64];
    char blob[256], segment[256]; /* one of each */
    off_t blob_size;
    char report[65536]; /* of the last check */
};

/* The largest file below a folder whose name ends so; its size, -1: none. */
static off_t find_file(const char *folder, const char *suffix, char path[256])
{
    DIR *dir = opendir(folder);
    off_t most = -1;
    if (!dir)
        return most;
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;) {
        size_t len = strlen(entry->d_name);
        if (entry->d_name[0] == '.')
            continue;
        char inner[256], found[256];
        struct stat info;
        (void)snprintf(inner, sizeof(inner), "%.120s/%.100s", folder, entry->d_name);
        off_t size = -1;
        memcpy(found, inner, sizeof(found));
        if (len <= strlen(suffix) || strcmp(entry->d_name + len - strlen(suffix), suffix) != 0)
            size = find_file(inner, suffix, found);
        else if (stat(inner, &info) == 0)
            size = info.st_size;
        if (size > most) {
            most = size;
            memcpy(path, found, sizeof(found));
        }
    }
    (void)closedir(dir);
    return most;
}

static void add(och_collection *collection, int from, int count)
{
    char texts[RECORDS][3][64];
    och_bytes ids[RECORDS], documents[RECORDS], metadatas[RECORDS];
    static float vectors[RECORDS * 8];
    for (int i = 0; i < count; i++) {
        (void)snprintf(texts[i][0], 64, "id-%d", from + i);
        (void)snprintf(texts[i][1], 64, "the text of record %d", from + i);
        (void)snprintf(texts[i][2], 64, "{\"n\": %d, \"k\": \"%c\"}", from + i, 'a' + i % 3);
        ids[i] = och_text(texts[i][0]);
        documents[i] = och_text(texts[i][1]);
        metadatas[i] = och_text(texts[i][2]);
        for (int j = 0; j < 8; j++)
            vectors[i * 8 + j] = (float)((from + i) * (j + 3) % 101);
    }
    och_records records = OCH_RECORDS;
    records.count = (size_t)count;
    records.dimension = 8;
    records.ids = ids;
    records.vectors = vectors;
    records.documents = documents;
    records.metadatas_json = metadatas;
    OK(och_collection_add(collection, &records, NULL, &err));
}

/* One part with dead rows, and a tail in the log. */
static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    (void)snprintf(f->path, sizeof(f->path), "%s", test_folder());
    och_database *database = test_open(f->path);
    och_collection *collection = test_create(database, "docs");
    add(collection, 0, RECORDS);
    OK(compactor_run(database_compactor(database->database), NULL, true, &err));
    och_filter *filter = test_filter("{\"n\": {\"$lt\": 20}}", NULL);
    och_select which = OCH_SELECT;
    which.filter = filter;
    OK(och_collection_delete(collection, &which, NULL, &err));
    OK(compactor_run(database_compactor(database->database), NULL, false, &err));
    add(collection, 1000, 50);
    och_filter_free(filter);
    och_collection_free(collection);
    test_close(database);
    char folder[80];
    (void)snprintf(folder, sizeof(folder), "%s/blobs", f->path);
    f->blob_size = find_file(folder, ".blob", f->blob);
    assert_true(f->blob_size > 4096);
    (void)snprintf(folder, sizeof(folder), "%s/log", f->path);
    assert_true(find_file(folder, ".log", f->segment) > 4096);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    test_remove(f->path);
    free(f);
    return 0;
}

static uint64_t check(struct fixture *f, bool deep)
{
    struct check_options options = {.path = f->path, .deep = deep};
    struct check_report report;
    OK(check_folder(&options, &report, &err));
    uint64_t faults = report.faults, lines = 0;
    for (size_t i = 0; i < report.lines.len; i++)
        lines += report.lines.at[i] == '\n';
    assert_true(faults == 0 ? lines == 0 : lines >= 1);
    (void)snprintf(f->report, sizeof(f->report), "%.*s", (int)report.lines.len,
                   report.lines.len ? (const char *)report.lines.at : "");
    check_report_done(&report);
    return faults;
}

/* Returns what was there. */
static uint8_t flip(const char *path, off_t at)
{
    uint8_t byte;
    int fd = open(path, O_RDWR);
    assert_true(fd >= 0);
    assert_int_equal(pread(fd, &byte, 1, at), 1);
    byte ^= 0x10;
    assert_int_equal(pwrite(fd, &byte, 1, at), 1);
    (void)close(fd);
    return byte ^ 0x10;
}

static void a_sound_folder_is_sound_and_left_alone(void **state)
{
    struct fixture *f = *state;
    if (check(f, false) != 0 || check(f, true) != 0)
        fail_msg("%s", f->report);
    struct check_options options = {.path = f->path};
    struct check_report report;
    OK(check_folder(&options, &report, &err));
    assert_int_equal(report.collections, 1);
    assert_true(report.parts >= 1);
    assert_true(report.frames >= 1);
    struct buf text;
    buf_init(&text, 65536);
    check_report_write_json(&report, &text);
    assert_non_null(memmem(text.at, text.len, "\"faults\":0", 10));
    buf_clear(&text);
    check_report_write(&report, &text);
    assert_non_null(memmem(text.at, text.len, ": sound\n", 8));
    buf_done(&text);
    check_report_done(&report);
    och_database *database = test_open(f->path);
    test_close(database);
}

static void a_flipped_bit_anywhere_in_a_blob_is_found(void **state)
{
    struct fixture *f = *state;
    unsigned tried = 0, padding = 0;
    for (off_t at = 0; at < f->blob_size; at += 61) {
        uint8_t old = flip(f->blob, at);
        bool found = check(f, tried % 8 == 0) > 0;
        (void)flip(f->blob, at);
        tried++;
        /* Zeros between sections are never read, so nothing covers them. */
        padding += !found && old == 0;
        if (!found && old != 0)
            fail_msg("byte %lld of %lld is not checked", (long long)at, (long long)f->blob_size);
    }
    assert_true(tried > 100 && padding < tried / 2);
    assert_int_equal(check(f, true), 0);
}

static void flipped_bits_in_the_log_are_found_and_never_crash(void **state)
{
    struct fixture *f = *state;
    unsigned found = 0;
    for (off_t at = 0; at < 6000; at += 97) {
        (void)flip(f->segment, at);
        found += check(f, false) > 0;
        (void)flip(f->segment, at);
    }
    assert_true(found > 0);
    assert_int_equal(check(f, false), 0);
}

static void flipped_bits_in_the_catalogue_are_found_and_never_crash(void **state)
{
    struct fixture *f = *state;
    char path[128];
    struct stat info;
    (void)snprintf(path, sizeof(path), "%s/catalogue.sqlite", f->path);
    assert_int_equal(stat(path, &info), 0);
    unsigned found = 0;
    for (off_t at = 0; at < info.st_size; at += 1009) {
        (void)flip(path, at);
        found += check(f, false) > 0;
        (void)flip(path, at);
    }
    assert_true(found > 0);
    assert_int_equal(check(f, false), 0);
}

static void blobs_too_few_too_many_and_too_short_are_named(void **state)
{
    struct fixture *f = *state;
    char away[300], command[700];
    (void)snprintf(away, sizeof(away), "%s.away", f->blob);
    assert_int_equal(rename(f->blob, away), 0);
    assert_int_equal(check(f, false), 1);
    assert_non_null(strstr(f->report, "missing"));
    assert_int_equal(rename(away, f->blob), 0);

    char extra[300];
    (void)snprintf(extra, sizeof(extra), "%s", f->blob);
    char *last = strrchr(extra, '.') - 1;
    *last = *last == '0' ? '1' : '0';
    (void)snprintf(command, sizeof(command), "cp '%s' '%s'", f->blob, extra);
    assert_int_equal(system(command), 0);
    assert_int_equal(check(f, false), 1);
    assert_non_null(strstr(f->report, "the catalogue does not know it"));
    assert_int_equal(unlink(extra), 0);

    assert_int_equal(truncate(f->blob, f->blob_size / 2), 0);
    assert_true(check(f, false) > 0);
    assert_true(check(f, true) > 0);
}

/* Let the catalogue say something else of the first part, with sound checksums. */
static void commit_lie(struct fixture *f, void (*change)(struct sysdb_version *version))
{
    och_database *database = test_open(f->path);
    struct sysdb *sysdb = database_sysdb(database->database);
    struct arena arena;
    arena_init(&arena, NULL, 0);
    int64_t cursor = 0;
    uuid id;
    size_t count;
    OK(sysdb_collection_walk(sysdb, &cursor, 1, &id, &count, &err));
    assert_int_equal(count, 1);
    struct sysdb_commit commit = {.collection = id};
    OK(sysdb_version_get(sysdb, id, &arena, &commit.next, &err));
    assert_true(commit.next.part_count > 0);
    commit.expected_version = commit.next.version;
    commit.next.version++;
    change(&commit.next);
    OK(sysdb_commit_versions(sysdb, &commit, 1, &err));
    assert_true(commit.ret_committed);
    arena_done(&arena);
    test_close(database);
}

static void more_rows(struct sysdb_version *version)
{
    version->parts[0].rows++;
}
static void more_dead(struct sysdb_version *version)
{
    version->parts[0].deleted++;
}
static void later_log(struct sysdb_version *version)
{
    version->parts[0].log_to += 1000;
}
static void other_dimension(struct sysdb_version *version)
{
    version->dimension = 7;
}
static void a_catalogue_that_says_something_else_is_caught(void **state)
{
    struct fixture *f = *state;
    static const struct {
        void (*change)(struct sysdb_version *version);
        const char *says;
    } lies[] = {
        {more_rows, "the catalogue says"},
        {more_dead, "rows deleted, the catalogue says"},
        {later_log, "does not follow the part before it"},
        {other_dimension, "dimension 8, the catalogue says 7"},
    };
    for (size_t i = 0; i < COUNT_OF(lies); i++) {
        char copy[100], command[256];
        (void)snprintf(copy, sizeof(copy), "%s.copy", f->path);
        (void)snprintf(command, sizeof(command), "cp -r '%s' '%s'", f->path, copy);
        assert_int_equal(system(command), 0);
        commit_lie(f, lies[i].change);
        if (check(f, true) == 0 || !strstr(f->report, lies[i].says))
            fail_msg("lie %zu: %s", i, f->report);
        (void)snprintf(command, sizeof(command), "rm -r '%s' && mv '%s' '%s'", f->path, copy,
                       f->path);
        assert_int_equal(system(command), 0);
    }
}

static void parts_that_forks_share_are_sound_in_each_of_them(void **state)
{
    struct fixture *f = *state;
    och_collection_spec spec = OCH_COLLECTION_SPEC;
    och_collection *docs, *copy, *second;
    och_database *database = test_open(f->path);
    spec.name = och_text("docs");
    OK(och_collection_open(database, &spec, &docs, &err));
    OK(och_collection_fork(docs, och_text("copy"), &copy, &err));
    OK(och_collection_fork(copy, och_text("second"), &second, &err));
    add(copy, 2000, 50);
    och_collection_free(docs);
    och_collection_free(copy);
    och_collection_free(second);
    test_close(database);
    if (check(f, true) != 0)
        fail_msg("%s", f->report);
    (void)flip(f->blob, f->blob_size / 2);
    assert_true(check(f, false) >= 3);
    (void)flip(f->blob, f->blob_size / 2);
    database = test_open(f->path);
    OK(och_collection_drop(database, &spec, &err));
    test_close(database);
    if (check(f, true) != 0)
        fail_msg("%s", f->report);
    database = test_open(f->path); // one of them has parts of its own now
    OK(compactor_run(database_compactor(database->database), NULL, true, &err));
    test_close(database);
    if (check(f, true) != 0)
        fail_msg("%s", f->report);
}

static void a_missing_segment_or_catalogue_is_named(void **state)
{
    struct fixture *f = *state;
    char away[300], catalogue[128];
    (void)snprintf(away, sizeof(away), "%s.away", f->segment);
    assert_int_equal(rename(f->segment, away), 0);
    assert_true(check(f, false) > 0);
    assert_int_equal(rename(away, f->segment), 0);
    (void)snprintf(catalogue, sizeof(catalogue), "%s/catalogue.sqlite", f->path);
    assert_int_equal(unlink(catalogue), 0);
    assert_int_equal(check(f, false), 1);
    assert_non_null(strstr(f->report, "no catalogue.sqlite"));
}

static void a_folder_in_use_or_empty_is_an_error(void **state)
{
    struct fixture *f = *state;
    struct check_options options = {.path = f->path};
    struct check_report report;
    och_database *database = test_open(f->path);
    FAILS(OCH_IN_USE, check_folder(&options, &report, &err));
    SAYS("is in use by pid");
    test_close(database);
    options.path = "/tmp/no-such-folder-of-ochre";
    FAILS(OCH_NOT_FOUND, check_folder(&options, &report, &err));
    const char *empty = test_folder();
    options.path = empty;
    FAILS(OCH_NOT_FOUND, check_folder(&options, &report, &err));
    SAYS("holds no database");
    test_remove(empty);
}

/* What only an older version refers to is looked at as well, and named by that version. */
static void versions_that_are_kept_are_checked(void **state)
{
    struct fixture *f = *state;
    och_database *database = test_open(f->path);
    och_collection *collection;
    och_collection_spec spec = OCH_COLLECTION_SPEC;
    spec.name = och_text("docs");
    OK(och_collection_open(database, &spec, &collection, &err));
    struct gateway_version version;
    struct gateway_scope scope = {.tenant = SLICE("default_tenant"),
                                  .database = SLICE("default_database")};
    uuid id = collection->id;
    OK(gateway_version_keep(database_gateway(database->database), &scope, id, SLICE("early"),
                            &version, &err));
    och_filter *filter = test_filter("{\"n\": {\"$gte\": 0}}", NULL);
    och_select which = OCH_SELECT;
    which.filter = filter;
    OK(och_collection_delete(collection, &which, NULL, &err));
    OK(compactor_run(database_compactor(database->database), NULL, true, &err));
    och_filter_free(filter);
    och_collection_free(collection);
    test_close(database);
    if (check(f, false) != 0 || check(f, true) != 0)
        fail_msg("%s", f->report);
    (void)flip(f->blob, f->blob_size / 2);
    assert_true(check(f, false) > 0);
    assert_int_equal(check(f, false), 1); /* once, however many versions have it */
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_sound_folder_is_sound_and_left_alone),
        TEST(a_flipped_bit_anywhere_in_a_blob_is_found),
        TEST(flipped_bits_in_the_log_are_found_and_never_crash),
        TEST(flipped_bits_in_the_catalogue_are_found_and_never_crash),
        TEST(blobs_too_few_too_many_and_too_short_are_named),
        TEST(a_catalogue_that_says_something_else_is_caught),
        TEST(parts_that_forks_share_are_sound_in_each_of_them),
        TEST(versions_that_are_kept_are_checked),
        TEST(a_missing_segment_or_catalogue_is_named),
        TEST(a_folder_in_use_or_empty_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
