/* SPDX-License-Identifier: Apache-2.0 */
/* Every call of the catalogue, with the wire's texts. */
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_new_catalogue_has_the_defaults, test_begin_open,
                                        test_end),
        cmocka_unit_test_setup_teardown(a_collection_can_be_made_found_and_read_again,
                                        test_begin_open, test_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
