/* SPDX-License-Identifier: Apache-2.0 */
/* Aliases: found like names, one name space with them, moved in one transaction, gone with their collection. */
#include "sysdb_test.h"

static void make(struct test *t, const char *name, uuid id)
{
    struct sysdb_collection_new spec = {.tenant = TENANT,
                                        .database = DATABASE,
                                        .name = slice_of(name),
                                        .schema_json = t->schema,
                                        .id = id};
    const struct sysdb_collection *c;
    bool created;
    ok(sysdb_collection_create(t->sysdb, &spec, &c, &created, &err));
    sysdb_collection_unref(c);
}

static uuid found(struct test *t, const char *name)
{
    const struct sysdb_collection *c;
    ok(sysdb_collection_find(t->sysdb, TENANT, DATABASE, slice_of(name), &c, &err));
    uuid id = c->id;
    sysdb_collection_unref(c);
    return id;
}

static void nothing_named(struct test *t, const char *name)
{
    const struct sysdb_collection *c;
    fails(OCH_NOT_FOUND, "does not exist",
          sysdb_collection_find(t->sysdb, TENANT, DATABASE, slice_of(name), &c, &err));
}

static och_code set(struct test *t, const char *alias, uuid target)
{
    struct sysdb_alias_change change = {slice_of(alias), target};
    return sysdb_alias_change(t->sysdb, TENANT, DATABASE, &change, 1, &err);
}

static size_t listed(struct test *t)
{
    struct sysdb_alias *rows;
    size_t count;
    ok(sysdb_alias_list(t->sysdb, TENANT, DATABASE, &t->arena, &rows, &count, &err));
    return count;
}

static void an_alias_is_found_like_a_name(void **state)
{
    struct test *t = *state;
    make(t, "first", id_of(1));
    make(t, "second", id_of(2));
    ok(set(t, "live", id_of(1)));
    assert_true(uuid_equal(found(t, "live"), id_of(1)));
    assert_true(uuid_equal(found(t, "first"), id_of(1)));
    ok(set(t, "live", id_of(2)));
    assert_true(uuid_equal(found(t, "live"), id_of(2)));
    reopen(t);
    assert_true(uuid_equal(found(t, "live"), id_of(2)));
    struct sysdb_alias alias;
    ok(sysdb_alias_get(t->sysdb, TENANT, DATABASE, SLICE("live"), &t->arena, &alias, &err));
    assert_true(uuid_equal(alias.collection, id_of(2)));
    assert_true(slice_equal(alias.collection_name, SLICE("second")));
    ok(set(t, "live", (uuid){0}));
    nothing_named(t, "live");
    fails(OCH_NOT_FOUND, "Alias [live] does not exist", set(t, "live", (uuid){0}));
    fails(OCH_NOT_FOUND, "Alias [live] does not exist",
          sysdb_alias_get(t->sysdb, TENANT, DATABASE, SLICE("live"), &t->arena, &alias, &err));
    verify_clean(t->sysdb);
}

static void changes_are_made_together_or_not_at_all(void **state)
{
    struct test *t = *state;
    make(t, "first", id_of(1));
    make(t, "second", id_of(2));
    ok(set(t, "live", id_of(1)));
    ok(set(t, "test", id_of(2)));
    struct sysdb_alias_change swap[] = {{SLICE("live"), id_of(2)}, {SLICE("test"), id_of(1)}};
    ok(sysdb_alias_change(t->sysdb, TENANT, DATABASE, swap, 2, &err));
    assert_true(uuid_equal(found(t, "live"), id_of(2)));
    assert_true(uuid_equal(found(t, "test"), id_of(1)));
    struct sysdb_alias_change bad[] = {{SLICE("live"), id_of(1)}, {SLICE("test"), id_of(9)}};
    fails(OCH_NOT_FOUND, "does not exist",
          sysdb_alias_change(t->sysdb, TENANT, DATABASE, bad, 2, &err));
    assert_true(uuid_equal(found(t, "live"), id_of(2)));
    fails(OCH_INVALID, "Database [nowhere] does not exist",
          sysdb_alias_change(t->sysdb, TENANT, SLICE("nowhere"), swap, 2, &err));
    assert_int_equal(listed(t), 2);
    verify_clean(t->sysdb);
}

static void names_and_aliases_are_one_name_space(void **state)
{
    struct test *t = *state;
    const struct sysdb_collection *c;
    bool created;
    make(t, "first", id_of(1));
    make(t, "second", id_of(2));
    ok(set(t, "live", id_of(1)));
    fails(OCH_EXISTS, "Collection [second] already exists", set(t, "second", id_of(1)));
    fails(OCH_EXISTS, "Collection [first] already exists", set(t, "first", id_of(1)));
    struct sysdb_collection_new spec = {.tenant = TENANT,
                                        .database = DATABASE,
                                        .name = SLICE("live"),
                                        .schema_json = t->schema,
                                        .id = id_of(3)};
    fails(OCH_EXISTS, "it is an alias",
          sysdb_collection_create(t->sysdb, &spec, &c, &created, &err));
    spec.get_or_create = true;
    ok(sysdb_collection_create(t->sysdb, &spec, &c, &created, &err));
    assert_false(created);
    assert_true(uuid_equal(c->id, id_of(1)));
    sysdb_collection_unref(c);
    struct sysdb_collection_change rename = {.set_name = true, .name = SLICE("live")};
    fails(OCH_EXISTS, "it is an alias", sysdb_collection_update(t->sysdb, id_of(2), &rename, &err));
    rename.name = SLICE("renamed");
    ok(sysdb_collection_update(t->sysdb, id_of(1), &rename, &err));
    assert_true(uuid_equal(found(t, "live"), id_of(1)));
    ok(set(t, "live", (uuid){0}));
    rename.name = SLICE("live");
    ok(sysdb_collection_update(t->sysdb, id_of(2), &rename, &err));
    assert_true(uuid_equal(found(t, "live"), id_of(2)));
    verify_clean(t->sysdb);
}

static void a_dropped_collection_takes_its_aliases(void **state)
{
    struct test *t = *state;
    make(t, "first", id_of(1));
    make(t, "second", id_of(2));
    ok(set(t, "live", id_of(1)));
    ok(set(t, "other", id_of(1)));
    ok(set(t, "third", id_of(2)));
    ok(sysdb_collection_drop(t->sysdb, id_of(1), &err));
    nothing_named(t, "live");
    assert_int_equal(listed(t), 1);
    make(t, "live", id_of(4));
    reopen(t);
    assert_true(uuid_equal(found(t, "live"), id_of(4)));
    ok(sysdb_reset(t->sysdb, &err));
    assert_int_equal(listed(t), 0);
    nothing_named(t, "third");
    verify_clean(t->sysdb);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(an_alias_is_found_like_a_name, test_begin_open, test_end),
        cmocka_unit_test_setup_teardown(changes_are_made_together_or_not_at_all, test_begin_open,
                                        test_end),
        cmocka_unit_test_setup_teardown(names_and_aliases_are_one_name_space, test_begin_open,
                                        test_end),
        cmocka_unit_test_setup_teardown(a_dropped_collection_takes_its_aliases, test_begin_open,
                                        test_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
