/* SPDX-License-Identifier: Apache-2.0 */
/* Versions, references and what becomes garbage (D10, D15, D17). */
#include "sysdb_test.h"

static const uint8_t bitmap[] = "a roaring bitmap";

static struct sysdb_part part(uint64_t file, uint64_t offset, uint64_t from, uint64_t to)
{
    return (struct sysdb_part){.file = id_of(file),
                               .offset = offset,
                               .size = 4096,
                               .dir_offset = 4000,
                               .dir_len = 96,
                               .dir_crc = 0xfedcba98,
                               .head_len = 512,
                               .lineage = id_of(777),
                               .rows = 10,
                               .deleted = 1,
                               .log_from = from,
                               .log_to = to,
                               .dead = slice_make(bitmap, sizeof(bitmap))};
}

/* One collection's commit; whether it was taken. */
static bool commit(struct test *t, uint64_t collection, int64_t expected, struct sysdb_part *parts,
                   size_t count)
{
    struct sysdb_commit item = {.collection = id_of(collection),
                                .expected_version = expected,
                                .next = {.log_offset = (uint64_t)(expected + 1) * 10,
                                         .dimension = 3,
                                         .last_created_at = 5000 + expected,
                                         .parts = parts,
                                         .part_count = count}};
    ok(sysdb_commit_versions(t->sysdb, &item, 1, &err));
    return item.ret_committed;
}

static size_t garbage(struct test *t, bool uploading, struct sysdb_garbage **ret_rows)
{
    size_t count;
    ok(sysdb_garbage_list(t->sysdb, uploading, &t->arena, ret_rows, &count, &err));
    return count;
}

static size_t live(struct test *t)
{
    uuid *files;
    size_t count;
    ok(sysdb_file_list(t->sysdb, &t->arena, &files, &count, &err));
    return count;
}

static void a_version_comes_back_as_it_was_committed(void **state)
{
    struct test *t = *state;
    struct sysdb_version version;
    ok(create(t, t->sysdb, 1, "one"));
    ok(sysdb_version_get(t->sysdb, id_of(1), &t->arena, &version, &err));
    assert_true(version.version == 0 && version.part_count == 0 && version.log_offset == 0);
    ok(sysdb_file_announce(t->sysdb, id_of(100), &err));
    ok(sysdb_file_announce(t->sysdb, id_of(101), &err));
    struct sysdb_part parts[] = {part(100, 0, 0, 10), part(101, 1ull << 40, 10, UINT64_MAX >> 1)};
    parts[1].dead = SLICE_NONE;
    assert_true(commit(t, 1, 0, parts, 2));
    for (int again = 0; again < 2; again++) {
        ok(sysdb_version_get(t->sysdb, id_of(1), &t->arena, &version, &err));
        assert_int_equal(version.version, 1);
        assert_int_equal(version.log_offset, 10);
        assert_int_equal(version.dimension, 3);
        assert_int_equal(version.last_created_at, 5000);
        assert_int_equal(version.part_count, 2);
        for (size_t i = 0; i < 2; i++) {
            const struct sysdb_part *p = &version.parts[i], *q = &parts[i];
            assert_true(uuid_equal(p->file, q->file) && p->offset == q->offset &&
                        p->size == q->size && p->dir_offset == q->dir_offset &&
                        p->dir_len == q->dir_len && p->dir_crc == q->dir_crc &&
                        p->head_len == q->head_len && uuid_equal(p->lineage, q->lineage) &&
                        p->rows == q->rows && p->deleted == q->deleted &&
                        p->log_from == q->log_from && p->log_to == q->log_to &&
                        slice_equal(p->dead, q->dead));
        }
        const struct sysdb_collection *c;
        ok(sysdb_collection_get(t->sysdb, TENANT, DATABASE, id_of(1), &c, &err));
        assert_true(c->version == 1 && c->dimension == 3 && c->log_offset == 10 &&
                    c->last_created_at == 5000);
        sysdb_collection_unref(c);
        reopen(t);
    }
    fails(OCH_NOT_FOUND, "does not exist.",
          sysdb_version_get(t->sysdb, id_of(2), &t->arena, &version, &err));
    verify_clean(t->sysdb);
}

static void only_the_expected_version_is_replaced(void **state)
{
    struct test *t = *state;
    struct sysdb_garbage *rows;
    ok(create(t, t->sysdb, 1, "one"));
    ok(sysdb_file_announce(t->sysdb, id_of(100), &err));
    ok(sysdb_file_announce(t->sysdb, id_of(101), &err));
    struct sysdb_part a = part(100, 0, 0, 10), b = part(101, 0, 0, 20);
    assert_true(commit(t, 1, 0, &a, 1));
    assert_false(commit(t, 1, 0, &b, 1));  // moved on
    assert_false(commit(t, 99, 0, &b, 1)); // not there
    assert_int_equal(garbage(t, false, &rows), 0);
    assert_int_equal(garbage(t, true, &rows), 1); // 101 never went live
    assert_true(rows[0].whole && uuid_equal(rows[0].file, id_of(101)));
    assert_int_equal(live(t), 1);
    assert_true(commit(t, 1, 1, &b, 1));
    assert_int_equal(garbage(t, true, &rows), 1);
    assert_true(rows[0].whole && uuid_equal(rows[0].file, id_of(100)));
    uuid gone = id_of(100), stays = id_of(101);
    ok(sysdb_file_forget(t->sysdb, &gone, 1, &err));
    ok(sysdb_file_forget(t->sysdb, &gone, 1, &err));
    fails(OCH_CONFLICT, "is live", sysdb_file_forget(t->sysdb, &stays, 1, &err));
    assert_int_equal(garbage(t, true, &rows), 0);
    ok(sysdb_collection_drop(t->sysdb, id_of(1), &err));
    assert_false(commit(t, 1, 2, &a, 1)); // dropped
    assert_int_equal(garbage(t, false, &rows), 1);
    assert_int_equal(live(t), 0);
    verify_clean(t->sysdb);
}

static void items_of_one_commit_fail_alone(void **state)
{
    struct test *t = *state;
    ok(create(t, t->sysdb, 1, "one"));
    ok(create(t, t->sysdb, 2, "two"));
    ok(sysdb_file_announce(t->sysdb, id_of(100), &err));
    struct sysdb_part parts[] = {part(100, 0, 0, 10), part(100, 4096, 0, 10)};
    struct sysdb_commit items[] = {
        {.collection = id_of(1),
         .expected_version = 5,
         .next = {.parts = &parts[0], .part_count = 1}},
        {.collection = id_of(2),
         .expected_version = 0,
         .next = {.parts = &parts[1], .part_count = 1}},
        {.collection = id_of(3), .expected_version = 0},
    };
    uint64_t generation = sysdb_generation(t->sysdb);
    ok(sysdb_commit_versions(t->sysdb, items, 3, &err));
    assert_false(items[0].ret_committed);
    assert_true(items[1].ret_committed);
    assert_false(items[2].ret_committed);
    assert_int_equal(sysdb_generation(t->sysdb), generation + 1);
    assert_int_equal(live(t), 1);
    verify_clean(t->sysdb);
}

static void a_file_that_was_not_announced_cannot_be_referred_to(void **state)
{
    struct test *t = *state;
    struct sysdb_version version;
    struct sysdb_garbage *rows;
    ok(create(t, t->sysdb, 1, "one"));
    ok(create(t, t->sysdb, 2, "two"));
    ok(sysdb_file_announce(t->sysdb, id_of(100), &err));
    fails(OCH_EXISTS, "announced before", sysdb_file_announce(t->sysdb, id_of(100), &err));
    struct sysdb_part good = part(100, 0, 0, 10), bad = part(101, 0, 0, 10);
    struct sysdb_commit items[] = {
        {.collection = id_of(1), .next = {.parts = &good, .part_count = 1}},
        {.collection = id_of(2), .next = {.parts = &bad, .part_count = 1}},
    };
    fails(OCH_CONFLICT, "never announced", sysdb_commit_versions(t->sysdb, items, 2, &err));
    assert_false(items[0].ret_committed); // one transaction: nothing of it happened
    ok(sysdb_version_get(t->sysdb, id_of(1), &t->arena, &version, &err));
    assert_int_equal(version.version, 0);
    assert_true(commit(t, 1, 0, &good, 1));
    assert_true(commit(t, 1, 1, NULL, 0));
    assert_int_equal(garbage(t, false, &rows), 1);
    verify_clean(t->sysdb);
}

static void a_doomed_file_stays_doomed(void **state)
{
    struct test *t = *state;
    ok(create(t, t->sysdb, 1, "one"));
    ok(sysdb_file_announce(t->sysdb, id_of(100), &err));
    struct sysdb_part p = part(100, 0, 0, 10);
    assert_true(commit(t, 1, 0, &p, 1));
    assert_true(commit(t, 1, 1, NULL, 0));
    struct sysdb_commit item = {
        .collection = id_of(1), .expected_version = 2, .next = {.parts = &p, .part_count = 1}};
    fails(OCH_CONFLICT, "is doomed", sysdb_commit_versions(t->sysdb, &item, 1, &err));
    verify_clean(t->sysdb);
}

static void packs_get_holes_and_go_with_their_last_part(void **state)
{
    struct test *t = *state;
    struct sysdb_garbage *rows;
    for (uint64_t i = 1; i <= 3; i++) {
        char name[8];
        (void)snprintf(name, sizeof(name), "c%d", (int)i);
        ok(create(t, t->sysdb, i, name));
    }
    ok(sysdb_file_announce(t->sysdb, id_of(100), &err));
    struct sysdb_part p[] = {part(100, 0, 0, 10), part(100, 4096, 0, 10), part(100, 8192, 0, 10)};
    for (uint64_t i = 0; i < 3; i++)
        assert_true(commit(t, i + 1, 0, &p[i], 1));
    ok(sysdb_collection_drop(t->sysdb, id_of(2), &err));
    reopen(t);
    assert_int_equal(garbage(t, false, &rows), 1);
    assert_true(!rows[0].whole && rows[0].offset == 4096 && rows[0].size == 4096 &&
                uuid_equal(rows[0].file, id_of(100)));
    // the same part with other deletions is no garbage
    p[0].dead = SLICE_NONE;
    assert_true(commit(t, 1, 1, &p[0], 1));
    assert_int_equal(garbage(t, false, &rows), 1);
    ok(sysdb_hole_forget(t->sysdb, id_of(100), 4096, &err));
    ok(sysdb_hole_forget(t->sysdb, id_of(100), 4096, &err));
    assert_int_equal(garbage(t, false, &rows), 0);
    assert_true(commit(t, 1, 2, NULL, 0));
    assert_int_equal(garbage(t, false, &rows), 1);
    verify_clean(t->sysdb);
    ok(sysdb_collection_drop(t->sysdb, id_of(3), &err));
    assert_int_equal(garbage(t, false, &rows), 1);
    assert_true(rows[0].whole); // its holes went with it
    uuid file = id_of(100);
    ok(sysdb_file_forget(t->sysdb, &file, 1, &err));
    assert_int_equal(garbage(t, true, &rows), 0);
    verify_clean(t->sysdb);
}

static void a_file_handed_from_one_collection_to_another_lives(void **state)
{
    struct test *t = *state;
    struct sysdb_garbage *rows;
    ok(create(t, t->sysdb, 1, "one"));
    ok(create(t, t->sysdb, 2, "two"));
    ok(sysdb_file_announce(t->sysdb, id_of(100), &err));
    struct sysdb_part p = part(100, 0, 0, 10);
    assert_true(commit(t, 1, 0, &p, 1));
    struct sysdb_commit items[] = {
        {.collection = id_of(1), .expected_version = 1},
        {.collection = id_of(2), .next = {.parts = &p, .part_count = 1}},
    };
    ok(sysdb_commit_versions(t->sysdb, items, 2, &err));
    assert_true(items[0].ret_committed && items[1].ret_committed);
    assert_int_equal(garbage(t, true, &rows), 0);
    assert_int_equal(live(t), 1);
    verify_clean(t->sysdb);
}

static void schema_pairs_add_up(void **state)
{
    struct test *t = *state;
    ok(create(t, t->sysdb, 1, "one"));
    struct batch_pair pairs[] = {{SLICE("year"), SCHEMA_INT}, {SLICE("#document"), SCHEMA_STRING}};
    struct sysdb_commit item = {.collection = id_of(1), .pairs = pairs, .pair_count = 2};
    ok(sysdb_commit_versions(t->sysdb, &item, 1, &err));
    pairs[1] = (struct batch_pair){SLICE("year"), SCHEMA_FLOAT};
    item.expected_version = 1;
    ok(sysdb_commit_versions(t->sysdb, &item, 1, &err));
    for (int again = 0; again < 2; again++) {
        const struct sysdb_collection *c;
        ok(sysdb_collection_get(t->sysdb, TENANT, DATABASE, id_of(1), &c, &err));
        assert_int_equal(c->pair_count, 3);
        assert_true(slice_equal(c->pairs[0].key, SLICE("#document")));
        assert_true(slice_equal(c->pairs[1].key, SLICE("year")) && c->pairs[1].type == SCHEMA_INT);
        assert_true(c->pairs[2].type == SCHEMA_FLOAT);
        sysdb_collection_unref(c);
        reopen(t);
    }
    ok(sysdb_collection_drop(t->sysdb, id_of(1), &err));
    verify_clean(t->sysdb);
}

static void batch_ids_are_remembered_for_fifteen_minutes(void **state)
{
    struct test *t = *state;
    struct sysdb_batch_id found;
    bool there;
    int64_t now = (int64_t)(clock_wall_ns(&t->clock.clock) / 1000000);
    struct sysdb_batch_id ids[] = {{id_of(501), UINT64_MAX, 10, 5, 1, 2, 3, 4, now},
                                   {id_of(502), 6, 15, 1, 1, 0, 0, 0, now - 16 * 60000}};
    ok(create(t, t->sysdb, 1, "one"));
    struct sysdb_commit item = {.collection = id_of(1), .batch_ids = ids, .batch_id_count = 2};
    ok(sysdb_commit_versions(t->sysdb, &item, 1, &err));
    item.expected_version = 1; // told again: the same
    ok(sysdb_commit_versions(t->sysdb, &item, 1, &err));
    reopen(t);
    ok(sysdb_batch_id_get(t->sysdb, id_of(1), id_of(501), &found, &there, &err));
    assert_true(there);
    assert_true(found.request_hash == UINT64_MAX && found.first == 10 && found.count == 5 &&
                found.inserted == 1 && found.updated == 2 && found.skipped == 3 &&
                found.deleted == 4 && found.created_at == now);
    ok(sysdb_batch_id_get(t->sysdb, id_of(1), id_of(502), &found, &there, &err));
    assert_false(there);
    ok(sysdb_batch_id_get(t->sysdb, id_of(1), id_of(503), &found, &there, &err));
    assert_false(there);
    clock_manual_advance(&t->clock, 16ull * 60 * 1000000000);
    ok(sysdb_batch_id_get(t->sysdb, id_of(1), id_of(501), &found, &there, &err));
    assert_false(there);
    item = (struct sysdb_commit){.collection = id_of(1), .expected_version = 2};
    ok(sysdb_commit_versions(t->sysdb, &item, 1, &err)); // sweeps the old ones
    verify_clean(t->sysdb);
    ok(sysdb_collection_drop(t->sysdb, id_of(1), &err));
    verify_clean(t->sysdb);
}

#define T(name) cmocka_unit_test_setup_teardown(name, test_begin_open, test_end)
int main(void)
{
    const struct CMUnitTest tests[] = {
        T(a_version_comes_back_as_it_was_committed),
        T(only_the_expected_version_is_replaced),
        T(items_of_one_commit_fail_alone),
        T(a_file_that_was_not_announced_cannot_be_referred_to),
        T(a_doomed_file_stays_doomed),
        T(packs_get_holes_and_go_with_their_last_part),
        T(a_file_handed_from_one_collection_to_another_lives),
        T(schema_pairs_add_up),
        T(batch_ids_are_remembered_for_fifteen_minutes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
