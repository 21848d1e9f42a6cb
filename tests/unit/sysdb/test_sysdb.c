/* SPDX-License-Identifier: Apache-2.0 */
/* Every call of the catalogue, with the wire's texts. */
#include "sysdb/sqlite_vfs.h"
#include "sysdb_test.h"

static void a_new_catalogue_has_the_defaults(void **state)
{
    struct test *t = *state;
    struct sysdb_tenant tenant;
    struct sysdb_database database;
    ok(sysdb_tenant_get(t->sysdb, TENANT, &t->arena, &tenant, &err));
    assert_true(slice_equal(tenant.name, TENANT));
    assert_null(tenant.resource_name.at);
    ok(sysdb_database_get(t->sysdb, TENANT, DATABASE, &t->arena, &database, &err));
    assert_true(uuid_is_zero(database.id));
    assert_true(slice_equal(database.tenant, TENANT));
    assert_int_equal(sysdb_generation(t->sysdb), 1);
    verify_clean(t->sysdb);
}

static void a_collection_can_be_made_found_and_read_again(void **state)
{
    struct test *t = *state;
    ok(create(t, t->sysdb, 1, "one"));
    const struct sysdb_collection *c;
    ok(sysdb_collection_get(t->sysdb, TENANT, DATABASE, id_of(1), &c, &err));
    assert_true(slice_equal(c->name, SLICE("one")));
    sysdb_collection_unref(c);
    reopen(t);
    ok(sysdb_collection_find(t->sysdb, TENANT, DATABASE, SLICE("one"), &c, &err));
    assert_true(uuid_equal(c->id, id_of(1)));
    assert_true(slice_equal(c->schema_json, t->schema));
    sysdb_collection_unref(c);
    verify_clean(t->sysdb);
}

static void tenants_are_made_once_and_named_once(void **state)
{
    struct test *t = *state;
    struct sysdb_tenant tenant;
    slice odd = slice_make("a\0b \xe2\x82\xac'\"%s", 11);
    ok(sysdb_tenant_create(t->sysdb, SLICE("acme"), &err));
    ok(sysdb_tenant_create(t->sysdb, odd, &err));
    fails(OCH_EXISTS, "Tenant [acme] already exists",
          sysdb_tenant_create(t->sysdb, SLICE("acme"), &err));
    fails(OCH_NOT_FOUND, "Tenant [nobody] not found",
          sysdb_tenant_get(t->sysdb, SLICE("nobody"), &t->arena, &tenant, &err));
    fails(OCH_NOT_FOUND, "Tenant [nobody] not found",
          sysdb_tenant_set_resource(t->sysdb, SLICE("nobody"), SLICE("r"), &err));
    ok(sysdb_tenant_set_resource(t->sysdb, SLICE("acme"), SLICE("r"), &err));
    ok(sysdb_tenant_set_resource(t->sysdb, SLICE("acme"), SLICE("r"), &err));
    fails(OCH_EXISTS, "already has a resource name",
          sysdb_tenant_set_resource(t->sysdb, SLICE("acme"), SLICE("other"), &err));
    fails(OCH_EXISTS, "taken by another tenant",
          sysdb_tenant_set_resource(t->sysdb, odd, SLICE("r"), &err));
    reopen(t);
    ok(sysdb_tenant_get(t->sysdb, SLICE("acme"), &t->arena, &tenant, &err));
    assert_true(slice_equal(tenant.resource_name, SLICE("r")));
    ok(sysdb_tenant_get(t->sysdb, odd, &t->arena, &tenant, &err));
    assert_true(slice_equal(tenant.name, odd));
    fails(OCH_NOT_FOUND, "",
          sysdb_tenant_get(t->sysdb, slice_make("a", 1), &t->arena, &tenant, &err));
    verify_clean(t->sysdb);
}

static void databases_live_under_their_tenant(void **state)
{
    struct test *t = *state;
    struct sysdb_database database, *rows;
    size_t count;
    fails(OCH_NOT_FOUND, "Tenant [none] not found",
          sysdb_database_create(t->sysdb, SLICE("none"), SLICE("lost"), id_of(9), &err));
    ok(sysdb_database_create(t->sysdb, TENANT, SLICE("zeta"), id_of(10), &err));
    ok(sysdb_database_create(t->sysdb, TENANT, SLICE("alpha"), id_of(11), &err));
    fails(OCH_EXISTS, "Database [zeta] already exists",
          sysdb_database_create(t->sysdb, TENANT, SLICE("zeta"), id_of(12), &err));
    fails(OCH_EXISTS, "Database id [",
          sysdb_database_create(t->sysdb, TENANT, SLICE("beta"), id_of(11), &err));
    ok(sysdb_tenant_create(t->sysdb, SLICE("acme"), &err));
    ok(sysdb_database_create(t->sysdb, SLICE("acme"), SLICE("zeta"), id_of(13), &err));
    ok(sysdb_database_list(t->sysdb, TENANT, ALL, 0, &t->arena, &rows, &count, &err));
    assert_int_equal(count, 3);
    assert_true(slice_equal(rows[1].name, SLICE("zeta"))); // creation order, X24
    assert_true(slice_equal(rows[2].name, SLICE("alpha")));
    assert_true(uuid_equal(rows[1].id, id_of(10)));
    assert_true(slice_equal(rows[1].tenant, TENANT));
    ok(sysdb_database_list(t->sysdb, TENANT, 1, 1, &t->arena, &rows, &count, &err));
    assert_int_equal(count, 1);
    assert_true(slice_equal(rows[0].name, SLICE("zeta")));
    ok(sysdb_database_list(t->sysdb, TENANT, ALL, ALL, &t->arena, &rows, &count, &err));
    assert_int_equal(count, 0);
    ok(sysdb_database_list(t->sysdb, TENANT, 0, 0, &t->arena, &rows, &count, &err));
    assert_int_equal(count, 0);
    ok(sysdb_database_list(t->sysdb, SLICE("none"), ALL, 0, &t->arena, &rows, &count, &err));
    assert_int_equal(count, 0);
    fails(OCH_NOT_FOUND, "Database [x] not found. Are you sure it exists?",
          sysdb_database_get(t->sysdb, TENANT, SLICE("x"), &t->arena, &database, &err));
    fails(OCH_NOT_FOUND, "Database [zeta] not found. Are you sure it exists?",
          sysdb_database_get(t->sysdb, SLICE("none"), SLICE("zeta"), &t->arena, &database, &err));
    fails(OCH_NOT_FOUND, "Database [x] not found",
          sysdb_database_drop(t->sysdb, TENANT, SLICE("x"), &err));
    ok(create(t, t->sysdb, 1, "one"));
    fails(OCH_CONFLICT, "Database [default_database] still has collections",
          sysdb_database_drop(t->sysdb, TENANT, DATABASE, &err));
    ok(sysdb_collection_drop(t->sysdb, id_of(1), &err));
    ok(sysdb_database_drop(t->sysdb, TENANT, DATABASE, &err));
    fails(OCH_NOT_FOUND, "Are you sure",
          sysdb_database_get(t->sysdb, TENANT, DATABASE, &t->arena, &database, &err));
    ok(sysdb_database_create(t->sysdb, TENANT, DATABASE, id_of(14), &err));
    verify_clean(t->sysdb);
}

static const struct sysdb_collection *got(struct test *t, uint64_t number)
{
    const struct sysdb_collection *c;
    ok(sysdb_collection_get(t->sysdb, SLICE_NONE, SLICE_NONE, id_of(number), &c, &err));
    return c;
}

static void a_taken_name_is_refused_or_given_back(void **state)
{
    struct test *t = *state;
    const struct sysdb_collection *c = NULL;
    bool created = true;
    uint8_t metadata[] = {0};
    struct sysdb_collection_new spec = {.id = id_of(1),
                                        .tenant = TENANT,
                                        .database = DATABASE,
                                        .name = SLICE("docs"),
                                        .metadata = slice_make(metadata, 1),
                                        .schema_json = t->schema};
    ok(sysdb_collection_create(t->sysdb, &spec, &c, &created, &err));
    assert_true(created);
    assert_true(slice_equal(c->metadata, slice_make(metadata, 1)));
    assert_int_equal(c->version, 0);
    assert_int_equal(c->dimension, 0);
    assert_int_equal(c->log_offset, 0);
    assert_true(uuid_is_zero(c->database_id));
    assert_int_equal(c->schema.metric, METRIC_L2);
    sysdb_collection_unref(c);
    spec.id = id_of(2);
    spec.metadata = SLICE_NONE;
    fails(OCH_EXISTS, "Collection [docs] already exists",
          sysdb_collection_create(t->sysdb, &spec, &c, &created, &err));
    spec.get_or_create = true;
    ok(sysdb_collection_create(t->sysdb, &spec, &c, &created, &err));
    assert_false(created);
    assert_true(uuid_equal(c->id, id_of(1)));
    assert_true(slice_equal(c->metadata, slice_make(metadata, 1))); // unchanged
    sysdb_collection_unref(c);
    spec.id = id_of(1);
    spec.name = SLICE("other");
    fails(OCH_EXISTS, "Collection id [",
          sysdb_collection_create(t->sysdb, &spec, &c, &created, &err));
    spec.database = SLICE("nowhere");
    fails(OCH_INVALID, "Database [nowhere] does not exist",
          sysdb_collection_create(t->sysdb, &spec, &c, &created, &err));
    spec.tenant = SLICE("nobody");
    fails(OCH_INVALID, "Database [nowhere] does not exist",
          sysdb_collection_create(t->sysdb, &spec, &c, &created, &err));
    verify_clean(t->sysdb);
}

static void other_scopes_do_not_see_a_collection(void **state)
{
    struct test *t = *state;
    const struct sysdb_collection *c;
    uint64_t count;
    ok(create(t, t->sysdb, 1, "one"));
    ok(sysdb_tenant_create(t->sysdb, SLICE("acme"), &err));
    ok(sysdb_database_create(t->sysdb, SLICE("acme"), DATABASE, id_of(20), &err));
    char text[UUID_TEXT_SIZE], dotted[100];
    (void)snprintf(dotted, sizeof(dotted), "Collection [%s] does not exist.",
                   uuid_format(id_of(1), text));
    for (int cached = 0; cached < 2; cached++) {
        if (!cached)
            reopen(t);
        fails(OCH_NOT_FOUND, dotted,
              sysdb_collection_get(t->sysdb, SLICE("acme"), DATABASE, id_of(1), &c, &err));
        fails(OCH_NOT_FOUND, dotted,
              sysdb_collection_get(t->sysdb, TENANT, SLICE("db2"), id_of(1), &c, &err));
        fails(OCH_NOT_FOUND, "Collection [one] does not exist",
              sysdb_collection_find(t->sysdb, SLICE("acme"), DATABASE, SLICE("one"), &c, &err));
        ok(sysdb_collection_get(t->sysdb, TENANT, DATABASE, id_of(1), &c, &err));
        sysdb_collection_unref(c);
    }
    fails(OCH_NOT_FOUND, "does not exist.",
          sysdb_collection_get(t->sysdb, TENANT, DATABASE, id_of(77), &c, &err));
    fails(OCH_NOT_FOUND, "Collection [One] does not exist",
          sysdb_collection_find(t->sysdb, TENANT, DATABASE, SLICE("One"), &c, &err));
    assert_false(err.message[strlen(err.message) - 1] == '.'); // by name: no dot
    ok(sysdb_collection_count(t->sysdb, SLICE("acme"), DATABASE, &count, &err));
    assert_int_equal(count, 0);
    ok(sysdb_collection_count(t->sysdb, SLICE("none"), DATABASE, &count, &err));
    assert_int_equal(count, 0);
    ok(sysdb_tenant_set_resource(t->sysdb, TENANT, SLICE("crn"), &err));
    ok(sysdb_collection_find_resource(t->sysdb, SLICE("crn"), DATABASE, SLICE("one"), &c, &err));
    assert_true(uuid_equal(c->id, id_of(1)));
    sysdb_collection_unref(c);
    fails(OCH_NOT_FOUND, "Collection [one] does not exist",
          sysdb_collection_find_resource(t->sysdb, SLICE("no"), DATABASE, SLICE("one"), &c, &err));
    fails(
        OCH_NOT_FOUND, "Collection [one] does not exist",
        sysdb_collection_find_resource(t->sysdb, SLICE("crn"), SLICE("x"), SLICE("one"), &c, &err));
}

static void collections_are_listed_in_creation_order(void **state)
{
    struct test *t = *state;
    enum { COUNT = 600 }; // more than one chunk
    for (uint64_t i = 0; i < COUNT; i++) {
        char name[20];
        (void)snprintf(name, sizeof(name), "c%d", (int)(COUNT - i));
        ok(create(t, t->sysdb, i, name));
    }
    static const struct {
        uint64_t limit, offset, first, count;
    } cases[] = {{ALL, 0, 0, 600},  {0, 0, 0, 0},     {10, 0, 0, 10},
                 {10, 595, 595, 5}, {256, 0, 0, 256}, {257, 1, 1, 257},
                 {ALL, 600, 0, 0},  {ALL, ALL, 0, 0}, {ALL, 300, 300, 300}};
    for (int again = 0; again < 2; again++) {
        for (size_t i = 0; i < COUNT_OF(cases); i++) {
            const struct sysdb_collection **rows;
            size_t count;
            ok(sysdb_collection_list(t->sysdb, TENANT, DATABASE, cases[i].limit, cases[i].offset,
                                     &t->arena, &rows, &count, &err));
            assert_int_equal(count, cases[i].count);
            for (size_t k = 0; k < count; k++) {
                assert_true(uuid_equal(rows[k]->id, id_of(cases[i].first + k)));
                sysdb_collection_unref(rows[k]);
            }
        }
        reopen(t);
    }
    const struct sysdb_collection **rows;
    size_t count;
    ok(sysdb_collection_list(t->sysdb, TENANT, SLICE("x"), ALL, 0, &t->arena, &rows, &count, &err));
    assert_int_equal(count, 0);
    uuid ids[100];
    int64_t cursor = 0;
    uint64_t seen = 0;
    do {
        ok(sysdb_collection_walk(t->sysdb, &cursor, 100, ids, &count, &err));
        for (size_t i = 0; i < count; i++)
            assert_true(uuid_equal(ids[i], id_of(seen + i)));
        seen += count;
    } while (count);
    assert_int_equal(seen, COUNT);
}

static void a_change_is_seen_by_the_next_read_and_not_by_older_ones(void **state)
{
    struct test *t = *state;
    ok(create(t, t->sysdb, 1, "one"));
    ok(create(t, t->sysdb, 2, "two"));
    const struct sysdb_collection *before = got(t, 1), *c;
    uint8_t metadata[] = {0};
    struct sysdb_collection_change change = {.set_name = true,
                                             .name = SLICE("uno"),
                                             .set_metadata = true,
                                             .metadata = slice_make(metadata, 1)};
    ok(sysdb_collection_update(t->sysdb, id_of(1), &change, &err));
    c = got(t, 1);
    assert_true(slice_equal(c->name, SLICE("uno")));
    assert_int_equal(c->metadata.len, 1);
    assert_int_equal(c->ord, before->ord);
    sysdb_collection_unref(c);
    assert_true(slice_equal(before->name, SLICE("one")));
    sysdb_collection_unref(before);
    fails(OCH_NOT_FOUND, "",
          sysdb_collection_find(t->sysdb, TENANT, DATABASE, SLICE("one"), &c, &err));
    ok(sysdb_collection_find(t->sysdb, TENANT, DATABASE, SLICE("uno"), &c, &err));
    sysdb_collection_unref(c);
    change = (struct sysdb_collection_change){.set_name = true, .name = SLICE("two")};
    fails(OCH_EXISTS, "Collection [two] already exists",
          sysdb_collection_update(t->sysdb, id_of(1), &change, &err));
    change.name = SLICE("uno"); // to itself
    ok(sysdb_collection_update(t->sysdb, id_of(1), &change, &err));
    change = (struct sysdb_collection_change){.set_metadata = true};
    ok(sysdb_collection_update(t->sysdb, id_of(1), &change, &err));
    c = got(t, 1);
    assert_null(c->metadata.at);
    sysdb_collection_unref(c);
    change = (struct sysdb_collection_change){0};
    uint64_t generation = sysdb_generation(t->sysdb);
    ok(sysdb_collection_update(t->sysdb, id_of(1), &change, &err));
    assert_int_equal(sysdb_generation(t->sysdb), generation);
    fails(OCH_NOT_FOUND, "does not exist.",
          sysdb_collection_update(t->sysdb, id_of(3), &change, &err));
    verify_clean(t->sysdb);
}

static void a_schema_is_kept_once_and_goes_with_its_last_collection(void **state)
{
    struct test *t = *state;
    ok(create(t, t->sysdb, 1, "one"));
    ok(create(t, t->sysdb, 2, "two"));
    const struct schema_options options = {.thread_count = 7};
    slice other;
    ok(schema_create(NULL, NULL, NULL, &options, &t->arena, &other, &err));
    assert_false(slice_equal(other, t->schema));
    struct sysdb_collection_change change = {.set_schema = true, .schema_json = other};
    ok(sysdb_collection_update(t->sysdb, id_of(1), &change, &err));
    const struct sysdb_collection *c = got(t, 1), *d = got(t, 2);
    assert_true(slice_equal(c->schema_json, other));
    assert_true(slice_equal(d->schema_json, t->schema));
    ok(sysdb_collection_update(t->sysdb, id_of(2), &change, &err));
    ok(sysdb_collection_drop(t->sysdb, id_of(1), &err));
    ok(sysdb_collection_drop(t->sysdb, id_of(2), &err));
    assert_true(slice_equal(d->schema_json, t->schema)); // snapshots outlive rows
    sysdb_collection_unref(c);
    sysdb_collection_unref(d);
    reopen(t);
    ok(create(t, t->sysdb, 3, "one"));
    verify_clean(t->sysdb);
}

static void a_dropped_collection_leaves_a_tombstone_and_its_name(void **state)
{
    struct test *t = *state;
    const struct sysdb_collection *c;
    uuid *ids;
    size_t count;
    ok(create(t, t->sysdb, 1, "one"));
    ok(sysdb_collection_drop(t->sysdb, id_of(1), &err));
    fails(OCH_NOT_FOUND, "does not exist.", sysdb_collection_drop(t->sysdb, id_of(1), &err));
    fails(OCH_NOT_FOUND, "does not exist.",
          sysdb_collection_get(t->sysdb, SLICE_NONE, SLICE_NONE, id_of(1), &c, &err));
    fails(OCH_NOT_FOUND, "",
          sysdb_collection_find(t->sysdb, TENANT, DATABASE, SLICE("one"), &c, &err));
    ok(create(t, t->sysdb, 2, "one"));
    fails(OCH_EXISTS, "Collection id [", create(t, t->sysdb, 1, "again")); // ids are never reused
    reopen(t);
    ok(sysdb_tombstones(t->sysdb, &t->arena, &ids, &count, &err));
    assert_int_equal(count, 1);
    assert_true(uuid_equal(ids[0], id_of(1)));
    int64_t cursor = 0;
    uuid walked[4];
    ok(sysdb_collection_walk(t->sysdb, &cursor, 4, walked, &count, &err));
    assert_int_equal(count, 1);
    uuid gone[] = {id_of(1), id_of(2), id_of(99)}; // an active and an unknown one stay as they are
    ok(sysdb_tombstones_remove(t->sysdb, gone, 3, &err));
    ok(sysdb_tombstones(t->sysdb, &t->arena, &ids, &count, &err));
    assert_int_equal(count, 0);
    sysdb_collection_unref(got(t, 2));
    verify_clean(t->sysdb);
}

static void reset_leaves_tombstones_and_the_defaults(void **state)
{
    struct test *t = *state;
    struct sysdb_tenant tenant;
    struct sysdb_database *rows;
    uuid *ids;
    size_t count;
    uint64_t active;
    ok(sysdb_tenant_create(t->sysdb, SLICE("acme"), &err));
    ok(sysdb_database_create(t->sysdb, SLICE("acme"), SLICE("db1"), id_of(50), &err));
    for (uint64_t i = 0; i < 600; i++) {
        char name[20];
        (void)snprintf(name, sizeof(name), "c%d", (int)i);
        ok(create(t, t->sysdb, i, name));
    }
    ok(sysdb_reset(t->sysdb, &err));
    fails(OCH_NOT_FOUND, "", sysdb_tenant_get(t->sysdb, SLICE("acme"), &t->arena, &tenant, &err));
    ok(sysdb_database_list(t->sysdb, TENANT, ALL, 0, &t->arena, &rows, &count, &err));
    assert_int_equal(count, 1);
    assert_true(uuid_is_zero(rows[0].id));
    ok(sysdb_collection_count(t->sysdb, TENANT, DATABASE, &active, &err));
    assert_int_equal(active, 0);
    ok(sysdb_tombstones(t->sysdb, &t->arena, &ids, &count, &err));
    assert_int_equal(count, 600);
    ok(create(t, t->sysdb, 1000, "c1"));
    reopen(t);
    verify_clean(t->sysdb);
}

static void segments_and_the_log_end_are_kept(void **state)
{
    struct test *t = *state;
    struct sysdb_segment *rows;
    struct sysdb_log_end end;
    size_t count;
    for (uint64_t i = 3; i > 0; i--)
        ok(sysdb_segment_add(t->sysdb, &(struct sysdb_segment){i, UINT64_MAX - i, i << 26}, &err));
    fails(OCH_EXISTS, "log segment 2",
          sysdb_segment_add(t->sysdb, &(struct sysdb_segment){2, 1, 1}, &err));
    ok(sysdb_log_end_get(t->sysdb, &end, &err));
    assert_false(end.has);
    ok(sysdb_log_end_set(t->sysdb, &(struct sysdb_log_end){true, 3, 4096, UINT64_MAX}, &err));
    ok(sysdb_log_end_set(t->sysdb, &(struct sysdb_log_end){true, 3, 8192, UINT64_MAX}, &err));
    reopen(t);
    ok(sysdb_segment_list(t->sysdb, &t->arena, &rows, &count, &err));
    assert_int_equal(count, 3);
    assert_int_equal(rows[0].id, 1);
    assert_int_equal(rows[2].salt, UINT64_MAX - 3);
    assert_int_equal(rows[2].size, 3ull << 26);
    ok(sysdb_log_end_get(t->sysdb, &end, &err));
    assert_true(end.has && end.segment == 3 && end.byte == 8192 && end.sequence == UINT64_MAX);
    ok(sysdb_log_end_set(t->sysdb, &(struct sysdb_log_end){0}, &err));
    ok(sysdb_log_end_set(t->sysdb, &(struct sysdb_log_end){0}, &err));
    ok(sysdb_log_end_get(t->sysdb, &end, &err));
    assert_false(end.has);
    uint64_t ids[] = {1, 7, 2};
    ok(sysdb_segment_remove(t->sysdb, ids, 3, &err));
    ok(sysdb_segment_list(t->sysdb, &t->arena, &rows, &count, &err));
    assert_int_equal(count, 1);
    verify_clean(t->sysdb);
}

static void every_change_bumps_the_generation(void **state)
{
    struct test *t = *state;
    uint64_t before = sysdb_generation(t->sysdb);
    ok(create(t, t->sysdb, 1, "one"));
    assert_int_equal(sysdb_generation(t->sysdb), before + 1);
    fails(OCH_EXISTS, "", create(t, t->sysdb, 2, "one"));
    assert_int_equal(sysdb_generation(t->sysdb), before + 1);
    reopen(t);
    assert_int_equal(sysdb_generation(t->sysdb), before + 1);
}

static void reading_only_changes_nothing(void **state)
{
    struct test *t = *state;
    struct sysdb *reader;
    ok(create(t, t->sysdb, 1, "one"));
    struct io *cut = io_sim_power_cut(t->io, 1); // with a write-ahead log to read
    uint64_t writes = io_sim_count(cut, IO_SIM_WRITE) + io_sim_count(cut, IO_SIM_SYNC);
    struct sysdb_options options = {
        .io = cut, .path = CATALOGUE, .clock = &t->clock.clock, .read_only = true, .create = true};
    for (int i = 0; i < 2; i++) {
        ok(sysdb_open(&options, &reader, &err));
        const struct sysdb_collection *c;
        ok(sysdb_collection_find(reader, TENANT, DATABASE, SLICE("one"), &c, &err));
        sysdb_collection_unref(c);
        fails(OCH_UNSUPPORTED, "reading only", sysdb_tenant_create(reader, SLICE("x"), &err));
        verify_clean(reader);
        ok(sysdb_close(reader, &err));
        sysdb_free(reader);
        assert_int_equal(io_sim_count(cut, IO_SIM_WRITE) + io_sim_count(cut, IO_SIM_SYNC), writes);
        if (i == 0) { // and once more without a log
            struct sysdb *writer;
            ok(open_on(t, cut, false, &writer));
            ok(sysdb_close(writer, &err));
            sysdb_free(writer);
            writes = io_sim_count(cut, IO_SIM_WRITE) + io_sim_count(cut, IO_SIM_SYNC);
        }
    }
    io_sim_free(cut);
}

static void a_missing_catalogue_is_made_only_when_asked(void **state)
{
    struct test *t = *state;
    struct sysdb *sysdb;
    fails(OCH_NOT_FOUND, CATALOGUE, open_on(t, t->io, false, &sysdb));
    ok(open_on(t, t->io, true, &sysdb));
    ok(sysdb_close(sysdb, &err));
    fails(OCH_CLOSED, "closed", create(t, sysdb, 1, "one"));
    uint64_t count;
    fails(OCH_CLOSED, "closed", sysdb_collection_count(sysdb, TENANT, DATABASE, &count, &err));
    sysdb_free(sysdb);
    struct io_entry *entries;
    size_t files;
    ok(io_list(t->io, "data", &t->arena, &entries, &files, &err));
    assert_int_equal(files, 1); // nothing beside it after a clean close
}

/* What a newer program would leave: the format stands where every version reads it. */
static void set_format(const struct sysdb_options *options, int format)
{
    struct sqlite_vfs *vfs;
    struct sqlite_shared *shared;
    sqlite3 *connection;
    char text[200];
    ok(sqlite_shared_new(&shared, &err));
    ok(sqlite_vfs_new(options->io, options->clock, false, shared, &vfs, &err));
    assert_int_equal(
        sqlite3_open_v2(options->path, &connection, SQLITE_OPEN_READWRITE, sqlite_vfs_name(vfs)),
        SQLITE_OK);
    (void)snprintf(text, sizeof(text), "UPDATE meta SET format=%d", format);
    assert_int_equal(sqlite3_exec(connection, text, NULL, NULL, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_close(connection), SQLITE_OK);
    sqlite_vfs_free(vfs);
    sqlite_shared_free(shared);
}

static void a_newer_format_is_named_and_refused(void **state)
{
    struct test *t = *state;
    struct sysdb *sysdb;
    ok(open_on(t, t->io, true, &sysdb));
    ok(sysdb_close(sysdb, &err));
    sysdb_free(sysdb);
    struct sysdb_options options = {.io = t->io, .path = CATALOGUE, .clock = &t->clock.clock};
    set_format(&options, 7);
    fails(OCH_INVALID, "format 7", open_on(t, t->io, true, &sysdb));
}

static void memory_is_charged_and_given_back(void **state)
{
    struct test *t = *state;
    struct budget budget;
    budget_init(&budget, 0, NULL);
    struct sysdb_options options = {.io = t->io,
                                    .path = CATALOGUE,
                                    .clock = &t->clock.clock,
                                    .create = true,
                                    .budget = &budget};
    ok(sysdb_open(&options, &t->sysdb, &err));
    int64_t empty = budget_used(&budget);
    assert_true(empty >= 16 << 20);
    ok(create(t, t->sysdb, 1, "one"));
    assert_true(budget_used(&budget) > empty);
    const struct sysdb_collection *c = got(t, 1);
    ok(sysdb_close(t->sysdb, &err));
    sysdb_free(t->sysdb);
    t->sysdb = NULL;
    assert_int_equal(budget_used(&budget), 0);
    assert_true(slice_equal(c->name, SLICE("one"))); // outlives the catalogue
    sysdb_collection_unref(c);
}

#define T(name)     cmocka_unit_test_setup_teardown(name, test_begin_open, test_end)
#define FRESH(name) cmocka_unit_test_setup_teardown(name, test_begin, test_end)
int main(void)
{
    const struct CMUnitTest tests[] = {
        T(a_new_catalogue_has_the_defaults),
        T(a_collection_can_be_made_found_and_read_again),
        T(tenants_are_made_once_and_named_once),
        T(databases_live_under_their_tenant),
        T(a_taken_name_is_refused_or_given_back),
        T(other_scopes_do_not_see_a_collection),
        T(collections_are_listed_in_creation_order),
        T(a_change_is_seen_by_the_next_read_and_not_by_older_ones),
        T(a_schema_is_kept_once_and_goes_with_its_last_collection),
        T(a_dropped_collection_leaves_a_tombstone_and_its_name),
        T(reset_leaves_tombstones_and_the_defaults),
        T(segments_and_the_log_end_are_kept),
        T(every_change_bumps_the_generation),
        T(reading_only_changes_nothing),
        FRESH(a_missing_catalogue_is_made_only_when_asked),
        FRESH(a_newer_format_is_named_and_refused),
        FRESH(memory_is_charged_and_given_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
