/* SPDX-License-Identifier: Apache-2.0 */
/* Tenants and databases.  Messages are the wire's (http-api.md §4). */
#include "sysdb/sysdb_internal.h"

static och_code tenant_missing(slice name, och_error *err)
{
    return FAIL(err, OCH_NOT_FOUND, "Tenant [%.*s] not found", SLICE_ARG(name));
}

och_code sysdb_scope_find(struct session *session, slice tenant, slice database,
                          struct arena *arena, struct row *ret_tenant, struct row *ret_db,
                          bool *ret_found, och_error *err)
{
    struct value name = value_text(tenant);
    TRY(table_row_find(session, QUERY_TENANT_BY_NAME, &name, 1, arena, ret_tenant, ret_found, err));
    if (!*ret_found)
        return OCH_OK;
    struct value names[] = {ret_tenant->at[TENANT_ORD], value_text(database)};
    return table_row_find(session, QUERY_DB_BY_NAME, names, 2, arena, ret_db, ret_found, err);
}

/* ---- tenants ---- */

static och_code run_tenant_create(struct session *session, void *arg, och_error *err)
{
    slice name = *(const slice *)arg;
    struct row row = {
        .table = TABLE_TENANT,
        .at = {value_int(session->sysdb->sums.next++), value_text(name), value_null()}};
    och_code code = table_row_insert(session, &row, err);
    if (code == OCH_EXISTS)
        return FAIL(err, OCH_EXISTS, "Tenant [%.*s] already exists", SLICE_ARG(name));
    return code;
}

och_code sysdb_tenant_create(struct sysdb *sysdb, slice name, och_error *err)
{
    return sysdb_write_run(sysdb, run_tenant_create, &name, err);
}

och_code sysdb_tenant_get(struct sysdb *sysdb, slice name, struct arena *arena,
                          struct sysdb_tenant *ret_tenant, och_error *err)
{
    CLEANUP(session_turn_cleanup) struct session *session = NULL;
    TRY(session_turn_enter(sysdb, &session, err));
    struct value key = value_text(name);
    struct row row;
    bool found;
    TRY(table_row_find(session, QUERY_TENANT_BY_NAME, &key, 1, arena, &row, &found, err));
    if (!found)
        return tenant_missing(name, err);
    *ret_tenant = (struct sysdb_tenant){.name = row.at[TENANT_NAME].bytes,
                                        .resource_name = row.at[TENANT_RESOURCE].bytes};
    return OCH_OK;
}

struct set_resource {
    slice name, resource_name;
};

static och_code run_set_resource(struct session *session, void *arg, och_error *err)
{
    const struct set_resource *set = arg;
    struct value key = value_text(set->name);
    struct row row;
    bool found;
    TRY(table_row_find(session, QUERY_TENANT_BY_NAME, &key, 1, &session->scratch, &row, &found,
                       err));
    if (!found)
        return tenant_missing(set->name, err);
    if (row.at[TENANT_RESOURCE].kind != SQLITE_NULL) {
        if (slice_equal(row.at[TENANT_RESOURCE].bytes, set->resource_name))
            return OCH_OK;
        return FAIL(err, OCH_EXISTS, "Tenant [%.*s] already has a resource name",
                    SLICE_ARG(set->name));
    }
    row.at[TENANT_RESOURCE] = value_text(set->resource_name);
    och_code code = table_row_update(session, &row, err);
    if (code == OCH_EXISTS)
        return FAIL(err, OCH_EXISTS, "Resource name [%.*s] is taken by another tenant",
                    SLICE_ARG(set->resource_name));
    return code;
}

och_code sysdb_tenant_set_resource(struct sysdb *sysdb, slice name, slice resource_name,
                                   och_error *err)
{
    struct set_resource set = {name, resource_name};
    return sysdb_write_run(sysdb, run_set_resource, &set, err);
}

/* ---- databases ---- */

struct database_create {
    slice tenant, name;
    uuid id;
};

static och_code run_database_create(struct session *session, void *arg, och_error *err)
{
    const struct database_create *create = arg;
    struct row tenant, taken;
    bool found;
    struct value key = value_text(create->tenant);
    TRY(table_row_find(session, QUERY_TENANT_BY_NAME, &key, 1, &session->scratch, &tenant, &found,
                       err));
    if (!found)
        return tenant_missing(create->tenant, err);
    struct row row = {.table = TABLE_DB,
                      .at = {value_int(session->sysdb->sums.next++), value_id(&create->id),
                             tenant.at[TENANT_ORD], value_text(create->name)}};
    och_code code = table_row_insert(session, &row, err);
    if (code != OCH_EXISTS)
        return code;
    TRY(table_row_find(session, QUERY_DB_BY_NAME, &row.at[DB_TENANT], 2, &session->scratch, &taken,
                       &found, err));
    if (found)
        return FAIL(err, OCH_EXISTS, "Database [%.*s] already exists", SLICE_ARG(create->name));
    char text[UUID_TEXT_SIZE];
    return FAIL(err, OCH_EXISTS, "Database id [%s] is taken", uuid_format(create->id, text));
}

och_code sysdb_database_create(struct sysdb *sysdb, slice tenant, slice name, uuid id,
                               och_error *err)
{
    struct database_create create = {tenant, name, id};
    return sysdb_write_run(sysdb, run_database_create, &create, err);
}

static void read_database(const struct row *row, slice tenant, struct sysdb_database *database)
{
    memcpy(database->id.bytes, row->at[DB_ID].bytes.at, 16);
    database->name = row->at[DB_NAME].bytes;
    database->tenant = tenant;
}

och_code sysdb_database_get(struct sysdb *sysdb, slice tenant, slice name, struct arena *arena,
                            struct sysdb_database *ret_database, och_error *err)
{
    CLEANUP(session_turn_cleanup) struct session *session = NULL;
    TRY(session_turn_enter(sysdb, &session, err));
    struct row tenant_row, row;
    bool found;
    TRY(sysdb_scope_find(session, tenant, name, arena, &tenant_row, &row, &found, err));
    if (!found)
        return FAIL(err, OCH_NOT_FOUND, "Database [%.*s] not found. Are you sure it exists?",
                    SLICE_ARG(name));
    read_database(&row, tenant_row.at[TENANT_NAME].bytes, ret_database);
    return OCH_OK;
}

och_code sysdb_database_list(struct sysdb *sysdb, slice tenant, uint64_t limit, uint64_t offset,
                             struct arena *arena, struct sysdb_database **ret_rows,
                             size_t *ret_count, och_error *err)
{
    CLEANUP(session_turn_cleanup) struct session *session = NULL;
    TRY(session_turn_enter(sysdb, &session, err));
    struct value key = value_text(tenant);
    struct row tenant_row;
    bool found;
    TRY(table_row_find(session, QUERY_TENANT_BY_NAME, &key, 1, arena, &tenant_row, &found, err));
    *ret_rows = NULL;
    *ret_count = 0;
    if (!found || offset > INT64_MAX)
        return OCH_OK;
    struct value values[] = {tenant_row.at[TENANT_ORD],
                             value_int(limit > INT64_MAX ? -1 : (int64_t)limit), value_u64(offset)};
    row_list list = {0};
    och_code code = table_rows_collect(session, QUERY_DB_BY_TENANT, values, 3, arena, &list, err);
    struct sysdb_database *rows = NULL;
    if (code == OCH_OK) {
        rows = ARENA_ARRAY(arena, struct sysdb_database, list.len ? list.len : 1);
        if (!rows)
            code = FAIL_NO_MEMORY(err, "a list of databases");
    }
    for (size_t i = 0; code == OCH_OK && i < list.len; i++)
        read_database(&list.at[i], tenant_row.at[TENANT_NAME].bytes, &rows[i]);
    if (code == OCH_OK) {
        *ret_rows = rows;
        *ret_count = list.len;
    }
    VEC_DONE(&list);
    return code;
}

static och_code run_database_drop(struct session *session, void *arg, och_error *err)
{
    const struct database_create *drop = arg;
    struct row tenant, row;
    bool found;
    TRY(sysdb_scope_find(session, drop->tenant, drop->name, &session->scratch, &tenant, &row,
                         &found, err));
    if (!found)
        return FAIL(err, OCH_NOT_FOUND, "Database [%.*s] not found", SLICE_ARG(drop->name));
    och_code code = table_row_delete(session, &row, err);
    if (code == OCH_CONFLICT)
        return FAIL(err, OCH_CONFLICT, "Database [%.*s] still has collections",
                    SLICE_ARG(drop->name));
    return code;
}

och_code sysdb_database_drop(struct sysdb *sysdb, slice tenant, slice name, och_error *err)
{
    struct database_create drop = {.tenant = tenant, .name = name};
    return sysdb_write_run(sysdb, run_database_drop, &drop, err);
}

/* ---- reset ---- */

static och_code bury_all(struct session *session, och_error *err)
{
    int64_t after = 0;
    for (;;) {
        struct value values[] = {value_int(after), value_int(256)};
        row_list list = {0};
        arena_done(&session->scratch);
        och_code code = table_rows_collect(session, QUERY_COLLECTION_ACTIVE, values, 2,
                                           &session->scratch, &list, err);
        for (size_t i = 0; code == OCH_OK && i < list.len; i++) {
            after = list.at[i].at[COLLECTION_ORD].number;
            code = collection_bury(session, &list.at[i], err);
        }
        size_t count = list.len;
        VEC_DONE(&list);
        if (code != OCH_OK || count == 0)
            return code;
    }
}

static och_code run_reset(struct session *session, void *arg, och_error *err)
{
    (void)arg;
    snapshot_touch_all(session);
    TRY(bury_all(session, err));
    TRY(table_rows_delete(session, QUERY_DB_ALL, NULL, 0, err));
    TRY(table_rows_delete(session, QUERY_TENANT_ALL, NULL, 0, err));
    return defaults_create(session, err);
}

och_code sysdb_reset(struct sysdb *sysdb, och_error *err)
{
    return sysdb_write_run(sysdb, run_reset, NULL, err);
}
