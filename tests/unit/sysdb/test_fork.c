/* SPDX-License-Identifier: Apache-2.0 */
/* Forks in the catalogue (D16): what the copy has and has not, files that two versions share, trees and their limit. */
#include "sysdb_test.h"

#define EDGES 5

static struct sysdb_part part(uint64_t file, uint64_t offset, uint64_t from, uint64_t to)
{
    return (struct sysdb_part){.file = id_of(file),
                               .offset = offset,
                               .size = 4096,
                               .dir_offset = 4000,
                               .dir_len = 96,
                               .head_len = 512,
                               .lineage = id_of(777),
                               .rows = 10,
                               .log_from = from,
                               .log_to = to};
}

/* A flush of a collection to `log_offset`, with these parts. */
static void commit(struct test *t, uint64_t collection, uint64_t log_offset,
                   struct sysdb_part *parts, size_t count)
{
    const struct batch_pair pair = {SLICE("color"), 1};
    const struct sysdb_batch_id batch = {
        .batch_id = id_of(500), .created_at = (int64_t)(clock_wall_ns(&t->clock.clock) / 1000000)};
    const struct sysdb_collection *now CLEANUP(sysdb_collection_cleanup) = NULL;
    ok(sysdb_collection_get(t->sysdb, TENANT, DATABASE, id_of(collection), &now, &err));
    struct sysdb_commit item = {.collection = id_of(collection),
                                .expected_version = now->version,
                                .next = {.log_offset = log_offset,
                                         .dimension = 3,
                                         .last_created_at = 5000,
                                         .parts = parts,
                                         .part_count = count},
                                .pairs = &pair,
                                .pair_count = 1,
                                .batch_ids = &batch,
                                .batch_id_count = 1};
    for (size_t i = 0; i < count; i++) {
        och_error known = {0};
        IGNORE(sysdb_file_announce(t->sysdb, parts[i].file, &known));
    }
    ok(sysdb_commit_versions(t->sysdb, &item, 1, &err));
    assert_true(item.ret_committed);
}

static och_code fork_as(struct test *t, const struct sysdb_collection *source, uint64_t to,
                        const char *name, uint64_t upto)
{
    struct sysdb_fork fork = {.source = source,
                              .id = id_of(to),
                              .name = slice_of(name),
                              .upto = upto,
                              .edges_max = EDGES};
    const struct sysdb_collection *made CLEANUP(sysdb_collection_cleanup) = NULL;
    err = (och_error){0};
    och_code code = sysdb_fork(t->sysdb, &fork, &made, &err);
    if (code == OCH_OK)
        assert_true(uuid_equal(made->id, id_of(to)) && slice_equal(made->name, slice_of(name)));
    return code;
}

static och_code fork_of(struct test *t, uint64_t from, uint64_t to, const char *name)
{
    const struct sysdb_collection *source CLEANUP(sysdb_collection_cleanup) = NULL;
    TRY(sysdb_collection_get(t->sysdb, TENANT, DATABASE, id_of(from), &source, &err));
    return fork_as(t, source, to, name, source->log_offset);
}

static uint64_t edges(struct test *t, uint64_t collection)
{
    uint64_t count;
    ok(sysdb_fork_count(t->sysdb, id_of(collection), &count, &err));
    return count;
}

static size_t garbage(struct test *t, struct sysdb_garbage **ret_rows)
{
    size_t count;
    ok(sysdb_garbage_list(t->sysdb, true, &t->arena, ret_rows, &count, &err));
    return count;
}

static void a_copy_has_parts_keys_and_offsets_but_no_batch_ids(void **state)
{
    struct test *t = *state;
    ok(create(t, t->sysdb, 1, "one"));
    struct sysdb_part parts[] = {part(100, 0, 0, 10), part(101, 8192, 10, 20)};
    commit(t, 1, 20, parts, 2);
    ok(sysdb_fork_begin(t->sysdb, id_of(2), &err));
    uuid *tombs;
    size_t count;
    ok(sysdb_tombstones(t->sysdb, &t->arena, &tombs, &count, &err));
    assert_true(count == 1 && uuid_equal(tombs[0], id_of(2))); // what a crash leaves
    ok(fork_of(t, 1, 2, "two"));
    ok(sysdb_tombstones(t->sysdb, &t->arena, &tombs, &count, &err));
    assert_int_equal(count, 0);
    for (int again = 0; again < 2; again++) {
        const struct sysdb_collection *copy CLEANUP(sysdb_collection_cleanup) = NULL,
                                            *from CLEANUP(sysdb_collection_cleanup) = NULL;
        struct sysdb_version version;
        struct sysdb_batch_id batch;
        bool found;
        ok(sysdb_collection_find(t->sysdb, TENANT, DATABASE, SLICE("two"), &copy, &err));
        ok(sysdb_collection_find(t->sysdb, TENANT, DATABASE, SLICE("one"), &from, &err));
        assert_true(copy->log_offset == 20 && copy->dimension == 3 && copy->version == 1 &&
                    copy->last_created_at == 5000 && copy->ord > from->ord);
        assert_true(copy->pair_count == 1 && slice_equal(copy->pairs[0].key, SLICE("color")));
        assert_true(slice_equal(copy->schema_json, from->schema_json));
        assert_true(copy->owner_count == 2 && uuid_equal(copy->owners[0], id_of(2)) &&
                    uuid_equal(copy->owners[1], id_of(1)));
        assert_true(from->owner_count == 1 && uuid_equal(from->owners[0], id_of(1)));
        ok(sysdb_version_get(t->sysdb, id_of(2), &t->arena, &version, &err));
        assert_true(version.part_count == 2 && uuid_equal(version.parts[1].file, id_of(101)));
        ok(sysdb_batch_id_get(t->sysdb, id_of(1), id_of(500), &batch, &found, &err));
        assert_true(found);
        ok(sysdb_batch_id_get(t->sysdb, id_of(2), id_of(500), &batch, &found, &err));
        assert_false(found);
        verify_clean(t->sysdb);
        reopen(t);
    }
}

static void a_file_lives_until_both_let_go_of_it(void **state)
{
    struct test *t = *state;
    struct sysdb_garbage *rows;
    for (int first = 1; first <= 2; first++) {
        uint64_t base = (uint64_t)first * 1000;
        ok(create(t, t->sysdb, base + 1, "one"));
        struct sysdb_part pack[] = {part(base + 101, 0, 0, 10), part(base + 101, 8192, 10, 20)};
        struct sysdb_part both[] = {pack[0], pack[1], part(base + 100, 0, 20, 30)};
        commit(t, base + 1, 30, both, 3);
        ok(fork_of(t, base + 1, base + 2, "two"));
        // one of them merges everything: nothing is garbage
        struct sysdb_part merged = part(base + 102, 0, 0, 30);
        commit(t, base + (uint64_t)first, 30, &merged, 1);
        assert_int_equal(garbage(t, &rows), 0);
        // the other one takes a part of the pack up
        struct sysdb_part rest[] = {pack[1], part(base + 103, 0, 20, 30)};
        commit(t, base + 3 - (uint64_t)first, 40, rest, 2);
        assert_int_equal(garbage(t, &rows), 2);
        for (size_t i = 0; i < 2; i++) {
            bool is_pack = uuid_equal(rows[i].file, id_of(base + 101));
            assert_true(rows[i].whole != is_pack && rows[i].offset == 0);
        }
        ok(sysdb_collection_drop(t->sysdb, id_of(base + 2), &err));
        ok(sysdb_collection_drop(t->sysdb, id_of(base + 1), &err));
        size_t count = garbage(t, &rows), whole_ones = 0;
        uuid gone[8];
        for (size_t i = 0; i < count; i++) {
            if (rows[i].whole)
                gone[whole_ones++] = rows[i].file;
        }
        assert_int_equal(whole_ones, 4);
        ok(sysdb_file_forget(t->sysdb, gone, whole_ones, &err));
        verify_clean(t->sysdb);
    }
}

static void trees_count_and_are_limited(void **state)
{
    struct test *t = *state;
    char name[16];
    ok(create(t, t->sysdb, 1, "name-1"));
    ok(create(t, t->sysdb, 99, "another"));
    assert_int_equal(edges(t, 1), 0);
    for (uint64_t i = 1; i <= EDGES; i++) { // a chain
        (void)snprintf(name, sizeof(name), "name-%d", (int)i + 1);
        ok(fork_of(t, i, i + 1, name));
        for (uint64_t j = 1; j <= i + 1; j++)
            assert_int_equal(edges(t, j), i);
    }
    assert_int_equal(edges(t, 99), 0);
    fails(OCH_QUOTA, "has 5 forks", fork_of(t, 1, 50, "more"));
    reopen(t);
    fails(OCH_QUOTA, "limit is 5", fork_of(t, 3, 50, "more"));
    ok(sysdb_collection_drop(t->sysdb, id_of(3), &err)); // in the middle
    assert_int_equal(edges(t, 6), EDGES - 1);
    fails(OCH_QUOTA, "5 deep", fork_of(t, 6, 50, "more")); // else its row grew without end
    ok(fork_of(t, 1, 50, "more"));
    fails(OCH_NOT_FOUND, "does not exist", fork_of(t, 3, 51, "again"));
    ok(sysdb_collection_drop(t->sysdb, id_of(1), &err)); // the root
    assert_int_equal(edges(t, 6), EDGES);
    ok(sysdb_reset(t->sysdb, &err));
    verify_clean(t->sysdb);
    uuid *tombs;
    size_t count;
    ok(sysdb_tombstones(t->sysdb, &t->arena, &tombs, &count, &err));
    ok(sysdb_tombstones_remove(t->sysdb, tombs, count, &err)); // no row refers to them
    verify_clean(t->sysdb);
}

static void a_name_or_an_id_that_is_taken_is_refused(void **state)
{
    struct test *t = *state;
    ok(create(t, t->sysdb, 1, "one"));
    ok(create(t, t->sysdb, 2, "two"));
    fails(OCH_EXISTS, "Collection [two] already exists", fork_of(t, 1, 3, "two"));
    fails(OCH_EXISTS, "is taken", fork_of(t, 1, 2, "three"));
    ok(sysdb_fork_begin(t->sysdb, id_of(3), &err));
    fails(OCH_EXISTS, "", sysdb_fork_begin(t->sysdb, id_of(3), &err));
    fails(OCH_EXISTS, "Collection [two] already exists", fork_of(t, 1, 3, "two"));
    ok(fork_of(t, 1, 3, "three"));
    ok(fork_of(t, 2, 4, "four"));
    verify_clean(t->sysdb);
}

static void a_source_that_changed_is_told(void **state)
{
    struct test *t = *state;
    const struct sysdb_collection *then CLEANUP(sysdb_collection_cleanup) = NULL;
    ok(create(t, t->sysdb, 1, "one"));
    ok(sysdb_collection_get(t->sysdb, TENANT, DATABASE, id_of(1), &then, &err));
    struct sysdb_part first = part(100, 0, 0, 10), second = part(101, 0, 0, 20);
    commit(t, 1, 10, &first, 1);
    ok(fork_as(t, then, 2, "two", 15)); // flushed meanwhile: the copy of the log goes further
    const struct sysdb_collection *copy CLEANUP(sysdb_collection_cleanup) = NULL;
    ok(sysdb_collection_get(t->sysdb, TENANT, DATABASE, id_of(2), &copy, &err));
    assert_int_equal(copy->log_offset, 10);
    commit(t, 1, 20, &second, 1);
    fails(OCH_STALE, "changed", fork_as(t, then, 3, "three", 15)); // flushed beyond the copy
    ok(fork_as(t, then, 3, "three", 20));
    struct sysdb_collection_change rename = {.set_name = true, .name = SLICE("renamed")};
    ok(sysdb_collection_update(t->sysdb, id_of(1), &rename, &err));
    ok(fork_as(t, then, 4, "four", 20)); // the copy has a name of its own
    uint8_t bytes[] = {0};
    struct sysdb_collection_change change = {.set_metadata = true,
                                             .metadata = slice_make(bytes, 1)};
    ok(sysdb_collection_update(t->sysdb, id_of(1), &change, &err));
    fails(OCH_STALE, "changed", fork_as(t, then, 5, "five", 20));
    ok(sysdb_collection_drop(t->sysdb, id_of(1), &err));
    fails(OCH_NOT_FOUND, "does not exist", fork_as(t, then, 5, "five", 20));
    verify_clean(t->sysdb);
}

static void a_schema_that_a_copy_has_stays(void **state)
{
    struct test *t = *state;
    ok(create(t, t->sysdb, 1, "one"));
    ok(fork_of(t, 1, 2, "two"));
    ok(sysdb_collection_drop(t->sysdb, id_of(1), &err));
    reopen(t);
    const struct sysdb_collection *copy CLEANUP(sysdb_collection_cleanup) = NULL;
    ok(sysdb_collection_find(t->sysdb, TENANT, DATABASE, SLICE("two"), &copy, &err));
    assert_true(slice_equal(copy->schema_json, t->schema));
    ok(create(t, t->sysdb, 3, "one")); // the name is free
    verify_clean(t->sysdb);
}

#define T(name) cmocka_unit_test_setup_teardown(name, test_begin_open, test_end)
int main(void)
{
    const struct CMUnitTest tests[] = {
        T(a_copy_has_parts_keys_and_offsets_but_no_batch_ids),
        T(a_file_lives_until_both_let_go_of_it),
        T(trees_count_and_are_limited),
        T(a_name_or_an_id_that_is_taken_is_refused),
        T(a_source_that_changed_is_told),
        T(a_schema_that_a_copy_has_stays),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
