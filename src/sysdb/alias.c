/* SPDX-License-Identifier: Apache-2.0 */
/* Aliases: further names of collections, in the same name space of a database.  A list of changes is one transaction, so names move from one
 * collection to another at once, for every reader. */
#include "sysdb/sysdb_internal.h"

static struct row alias_new(struct session *session, int64_t db, slice name, int64_t target)
{
    int64_t now = (int64_t)(clock_wall_ns(session->sysdb->clock) / 1000000);
    return (struct row){.table = TABLE_ALIAS,
                        .at = {[ALIAS_DB] = value_int(db),
                               [ALIAS_NAME] = value_text(name),
                               [ALIAS_TARGET] = value_int(target),
                               [ALIAS_CREATED] = value_int(now)}};
}

och_code alias_find(struct session *session, struct value db, slice name, struct row *ret_row,
                    bool *ret_found, och_error *err)
{
    struct value key[] = {db, value_text(name)};
    return table_row_find(session, QUERY_ALIAS_BY_NAME, key, 2, &session->scratch, ret_row,
                          ret_found, err);
}

och_code alias_target(struct session *session, const struct row *alias, struct row *ret_collection,
                      och_error *err)
{
    bool found;
    TRY(table_row_get(session, TABLE_COLLECTION, &alias->at[ALIAS_TARGET], &session->scratch,
                      ret_collection, &found, err));
    if (!found || !slice_equal(ret_collection->at[COLLECTION_STATE].bytes, STATE_ACTIVE))
        return FAIL(err, OCH_CORRUPT, "catalogue %s: the collection of alias %.*s is missing",
                    session->sysdb->path, SLICE_ARG(alias->at[ALIAS_NAME].bytes));
    return OCH_OK;
}

och_code alias_check_free(struct session *session, struct value db, slice name, och_error *err)
{
    struct row row;
    bool found;
    TRY(alias_find(session, db, name, &row, &found, err));
    if (found)
        return FAIL(err, OCH_EXISTS, "Collection [%.*s] already exists: it is an alias",
                    SLICE_ARG(name));
    return OCH_OK;
}

och_code aliases_bury(struct session *session, struct value collection, och_error *err)
{
    return table_rows_delete(session, QUERY_ALIASES_OF, &collection, 1, err);
}

/* ---- changes ---- */

struct changes {
    slice tenant, database;
    const struct sysdb_alias_change *at;
    size_t count;
};

static och_code put(struct session *session, struct value db,
                    const struct sysdb_alias_change *change, const struct row *old, och_error *err)
{
    struct row target, taken;
    TRY(collection_row(session, change->target, &target, err));
    if (target.at[COLLECTION_DB].number != db.number)
        return collection_missing(change->target, err);
    struct value key[] = {db, value_text(change->name)};
    bool found;
    TRY(table_row_find(session, QUERY_COLLECTION_BY_NAME, key, 2, &session->scratch, &taken, &found,
                       err));
    if (found)
        return collection_name_taken(change->name, err);
    struct row row = alias_new(session, db.number, change->name, target.at[COLLECTION_ORD].number);
    if (!old)
        return table_row_insert(session, &row, err);
    row.crc = old->crc;
    return table_row_update(session, &row, err);
}

static och_code run_changes(struct session *session, void *arg, och_error *err)
{
    const struct changes *changes = arg;
    struct row tenant, db;
    bool found;
    TRY(sysdb_scope_find(session, changes->tenant, changes->database, &session->scratch, &tenant,
                         &db, &found, err));
    if (!found)
        return FAIL(err, OCH_INVALID, "Database [%.*s] does not exist",
                    SLICE_ARG(changes->database));
    for (size_t i = 0; i < changes->count; i++) {
        const struct sysdb_alias_change *change = &changes->at[i];
        struct row old;
        TRY(alias_find(session, db.at[DB_ORD], change->name, &old, &found, err));
        if (!uuid_is_zero(change->target))
            TRY(put(session, db.at[DB_ORD], change, found ? &old : NULL, err));
        else if (found)
            TRY(table_row_delete(session, &old, err));
        else
            return FAIL(err, OCH_NOT_FOUND, "Alias [%.*s] does not exist", SLICE_ARG(change->name));
    }
    return OCH_OK;
}

och_code sysdb_alias_change(struct sysdb *sysdb, slice tenant, slice database,
                            const struct sysdb_alias_change *changes, size_t count, och_error *err)
{
    struct changes arg = {tenant, database, changes, count};
    return sysdb_write_run(sysdb, run_changes, &arg, err);
}

/* ---- reads ---- */

static och_code give(struct session *session, const struct row *row, struct arena *arena,
                     struct sysdb_alias *ret, och_error *err)
{
    struct row target;
    TRY(alias_target(session, row, &target, err));
    *ret =
        (struct sysdb_alias){.name = arena_copy(arena, row->at[ALIAS_NAME].bytes),
                             .collection_name = arena_copy(arena, target.at[COLLECTION_NAME].bytes),
                             .created_at = row->at[ALIAS_CREATED].number};
    memcpy(ret->collection.bytes, target.at[COLLECTION_ID].bytes.at, 16);
    return ret->name.at && ret->collection_name.at ? OCH_OK : FAIL_NO_MEMORY(err, "an alias");
}

och_code sysdb_alias_list(struct sysdb *sysdb, slice tenant, slice database, struct arena *arena,
                          struct sysdb_alias **ret_rows, size_t *ret_count, och_error *err)
{
    CLEANUP(session_turn_cleanup) struct session *session = NULL;
    TRY(session_turn_enter(sysdb, &session, err));
    struct row tenant_row, db;
    bool found;
    row_list list = {0};
    TRY(sysdb_scope_find(session, tenant, database, &session->scratch, &tenant_row, &db, &found,
                         err));
    och_code code = OCH_OK;
    if (found)
        code = table_rows_collect(session, QUERY_ALIASES, &db.at[DB_ORD], 1, &session->scratch,
                                  &list, err);
    struct sysdb_alias *rows = NULL;
    if (code == OCH_OK) {
        rows = ARENA_ARRAY(arena, struct sysdb_alias, list.len + 1);
        if (!rows)
            code = FAIL_NO_MEMORY(err, "a list of aliases");
    }
    for (size_t i = 0; code == OCH_OK && i < list.len; i++)
        code = give(session, &list.at[i], arena, &rows[i], err);
    if (code == OCH_OK) {
        *ret_rows = rows;
        *ret_count = list.len;
    }
    VEC_DONE(&list);
    return code;
}

och_code sysdb_alias_get(struct sysdb *sysdb, slice tenant, slice database, slice name,
                         struct arena *arena, struct sysdb_alias *ret_alias, och_error *err)
{
    CLEANUP(session_turn_cleanup) struct session *session = NULL;
    TRY(session_turn_enter(sysdb, &session, err));
    struct row tenant_row, db, row;
    bool found;
    TRY(sysdb_scope_find(session, tenant, database, &session->scratch, &tenant_row, &db, &found,
                         err));
    if (found)
        TRY(alias_find(session, db.at[DB_ORD], name, &row, &found, err));
    if (!found)
        return FAIL(err, OCH_NOT_FOUND, "Alias [%.*s] does not exist", SLICE_ARG(name));
    return give(session, &row, arena, ret_alias, err);
}
