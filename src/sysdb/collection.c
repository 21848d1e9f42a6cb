/* SPDX-License-Identifier: Apache-2.0 */
/* Collections: their rows, and reads through the snapshot cache.  Messages are the wire's (http-api.md §5). */
#include "sysdb/sysdb_internal.h"

#define LIST_CHUNK 256 /* rows per turn, so that a long list does not hold up writers */

och_code collection_missing(uuid id, och_error *err)
{
    char text[UUID_TEXT_SIZE];
    return FAIL(err, OCH_NOT_FOUND, "Collection [%s] does not exist.", uuid_format(id, text));
}

static och_code name_missing(slice name, och_error *err)
{
    return FAIL(err, OCH_NOT_FOUND, "Collection [%.*s] does not exist", SLICE_ARG(name));
}

och_code collection_name_taken(slice name, och_error *err)
{
    return FAIL(err, OCH_EXISTS, "Collection [%.*s] already exists", SLICE_ARG(name));
}

/* The row of an active collection, in the turn. */
och_code collection_row(struct session *session, uuid id, struct row *ret_row, och_error *err)
{
    struct value key = value_id(&id);
    bool found;
    TRY(table_row_find(session, QUERY_COLLECTION_BY_ID, &key, 1, &session->scratch, ret_row, &found,
                       err));
    if (!found || !slice_equal(ret_row->at[COLLECTION_STATE].bytes, STATE_ACTIVE))
        return collection_missing(id, err);
    return OCH_OK;
}

/* The row that holds this text, made if there is none. */
static och_code schema_row(struct session *session, slice json, int64_t *ret_ord, och_error *err)
{
    struct value hash = value_u64(slice_hash(json));
    row_list list = {0};
    int64_t ord = 0;
    och_code code =
        table_rows_collect(session, QUERY_SCHEMA_BY_HASH, &hash, 1, &session->scratch, &list, err);
    for (size_t i = 0; code == OCH_OK && i < list.len; i++) {
        if (slice_equal(list.at[i].at[SCHEMA_JSON].bytes, json))
            ord = list.at[i].at[SCHEMA_ORD].number;
    }
    VEC_DONE(&list);
    TRY(code);
    if (ord == 0) {
        ord = session->sysdb->sums.next++;
        struct row row = {.table = TABLE_SCHEMA, .at = {value_int(ord), hash, value_text(json)}};
        TRY(table_row_insert(session, &row, err));
    }
    *ret_ord = ord;
    return OCH_OK;
}

/* Forget a schema that no collection has any more. */
static och_code schema_release(struct session *session, struct value ord, och_error *err)
{
    int64_t number;
    bool used, found;
    struct row row;
    TRY(sql_query_number(session, QUERY_SCHEMA_USED, &ord, 1, &number, &used, err));
    if (used)
        return OCH_OK;
    TRY(table_row_get(session, TABLE_SCHEMA, &ord, &session->scratch, &row, &found, err));
    return found ? table_row_delete(session, &row, err) : OCH_OK;
}

/* ---- create ---- */

struct create {
    const struct sysdb_collection_new *spec;
    const struct sysdb_collection *collection;
    bool created;
};

static struct row new_row(struct session *session, const struct sysdb_collection_new *spec,
                          int64_t db, int64_t schema, uint32_t dimension)
{
    int64_t now = (int64_t)(clock_wall_ns(session->sysdb->clock) / 1000000);
    struct row row = {.table = TABLE_COLLECTION,
                      .at = {[COLLECTION_ORD] = value_int(session->sysdb->sums.next++),
                             [COLLECTION_ID] = value_id(&spec->id),
                             [COLLECTION_DB] = value_int(db),
                             [COLLECTION_NAME] = value_text(spec->name),
                             [COLLECTION_STATE] = value_text(STATE_ACTIVE),
                             [COLLECTION_SCHEMA] = value_int(schema),
                             [COLLECTION_VERSION] = value_int(0),
                             [COLLECTION_LOG_OFFSET] = value_int(0),
                             [COLLECTION_DIMENSION] = value_int(dimension),
                             [COLLECTION_LAST_CREATED] = value_int(0),
                             [COLLECTION_CREATED] = value_int(now),
                             [COLLECTION_METADATA] = value_null()}};
    if (spec->metadata.at)
        row.at[COLLECTION_METADATA] = value_blob(spec->metadata);
    return row;
}

och_code collection_insert(struct session *session, const struct sysdb_collection_new *spec,
                           int64_t db, uint32_t dimension, struct row *ret_row, och_error *err)
{
    int64_t schema;
    TRY(schema_row(session, spec->schema_json, &schema, err));
    TRY(alias_check_free(session, value_int(db), spec->name, err));
    *ret_row = new_row(session, spec, db, schema, dimension);
    snapshot_touch(session, spec->id);
    och_code code = table_row_insert(session, ret_row, err);
    if (code != OCH_EXISTS)
        return code;
    // the name, or else the id
    struct value key[] = {value_int(db), value_text(spec->name)};
    struct row taken;
    bool found;
    TRY(table_row_find(session, QUERY_COLLECTION_BY_NAME, key, 2, &session->scratch, &taken, &found,
                       err));
    if (found)
        return collection_name_taken(spec->name, err);
    char text[UUID_TEXT_SIZE];
    return FAIL(err, OCH_EXISTS, "Collection id [%s] is taken", uuid_format(spec->id, text));
}

static och_code run_create(struct session *session, void *arg, och_error *err)
{
    struct create *create = arg;
    const struct sysdb_collection_new *spec = create->spec;
    struct row tenant, db, row;
    bool found;
    TRY(sysdb_scope_find(session, spec->tenant, spec->database, &session->scratch, &tenant, &db,
                         &found, err));
    if (!found)
        return FAIL(err, OCH_INVALID, "Database [%.*s] does not exist", SLICE_ARG(spec->database));
    struct value key[] = {db.at[DB_ORD], value_text(spec->name)};
    if (spec->get_or_create) {
        TRY(table_row_find(session, QUERY_COLLECTION_BY_NAME, key, 2, &session->scratch, &row,
                           &found, err));
        struct row alias;
        bool aliased = false;
        if (!found)
            TRY(alias_find(session, db.at[DB_ORD], spec->name, &alias, &aliased, err));
        if (aliased)
            TRY(alias_target(session, &alias, &row, err));
        if (found || aliased)
            return snapshot_build(session, &row, &db, &tenant, &create->collection, err);
    }
    TRY(collection_insert(session, spec, db.at[DB_ORD].number, 0, &row, err));
    TRY(snapshot_build(session, &row, &db, &tenant, &create->collection, err));
    create->created = true;
    snapshot_publish_later(session, create->collection);
    return OCH_OK;
}

och_code sysdb_collection_create(struct sysdb *sysdb, const struct sysdb_collection_new *spec,
                                 const struct sysdb_collection **ret_collection, bool *ret_created,
                                 och_error *err)
{
    struct create create = {.spec = spec};
    och_code code = sysdb_write_run(sysdb, run_create, &create, err);
    if (code != OCH_OK) { // also when the commit failed after all
        sysdb_collection_unref(create.collection);
        return code;
    }
    *ret_collection = create.collection;
    *ret_created = create.created;
    return OCH_OK;
}

/* ---- reads ---- */

static och_code load(struct sysdb *sysdb, uuid id, const struct sysdb_collection **ret_collection,
                     och_error *err)
{
    CLEANUP(session_turn_cleanup) struct session *session = NULL;
    TRY(session_turn_enter(sysdb, &session, err));
    const struct sysdb_collection *collection = snapshot_cache_get(&sysdb->cache, id);
    if (!collection) {
        struct row row, kept;
        bool is_kept;
        TRY(row_of_id(session, id, &row, &kept, &is_kept, err));
        TRY(snapshot_build(session, &row, NULL, NULL, &collection, err));
        if (is_kept) // not cached: it changes with its collection's name, metadata and schema
            snapshot_mark_kept(collection);
        else
            snapshot_cache_put(&sysdb->cache, collection, session->epoch);
    }
    *ret_collection = collection;
    return OCH_OK;
}

och_code sysdb_collection_get(struct sysdb *sysdb, slice tenant, slice database, uuid id,
                              const struct sysdb_collection **ret_collection, och_error *err)
{
    const struct sysdb_collection *collection = snapshot_cache_get(&sysdb->cache, id);
    if (!collection)
        TRY(load(sysdb, id, &collection, err));
    if (tenant.at && !(!collection->kept && slice_equal(collection->tenant, tenant) &&
                       slice_equal(collection->database, database))) {
        sysdb_collection_unref(collection);
        return collection_missing(id, err); // X13
    }
    *ret_collection = collection;
    return OCH_OK;
}

/* By name within a database, in the turn. */
static och_code find_in(struct session *session, const struct row *tenant, const struct row *db,
                        slice name, const struct sysdb_collection **ret_collection, och_error *err)
{
    struct value key[] = {db->at[DB_ORD], value_text(name)};
    struct row row;
    bool found;
    uuid id;
    TRY(table_row_find(session, QUERY_COLLECTION_BY_NAME, key, 2, &session->scratch, &row, &found,
                       err));
    if (!found) {
        struct row alias;
        TRY(alias_find(session, db->at[DB_ORD], name, &alias, &found, err));
        if (!found)
            return name_missing(name, err);
        TRY(alias_target(session, &alias, &row, err));
    }
    memcpy(id.bytes, row.at[COLLECTION_ID].bytes.at, 16);
    *ret_collection = snapshot_cache_get(&session->sysdb->cache, id);
    if (!*ret_collection) {
        TRY(snapshot_build(session, &row, db, tenant, ret_collection, err));
        snapshot_cache_put(&session->sysdb->cache, *ret_collection, session->epoch);
    }
    return OCH_OK;
}

och_code sysdb_collection_find(struct sysdb *sysdb, slice tenant, slice database, slice name,
                               const struct sysdb_collection **ret_collection, och_error *err)
{
    *ret_collection = snapshot_cache_find(&sysdb->cache, tenant, database, name);
    if (*ret_collection)
        return OCH_OK;
    CLEANUP(session_turn_cleanup) struct session *session = NULL;
    TRY(session_turn_enter(sysdb, &session, err));
    struct row tenant_row, db_row;
    bool found;
    TRY(sysdb_scope_find(session, tenant, database, &session->scratch, &tenant_row, &db_row, &found,
                         err));
    if (!found)
        return name_missing(name, err);
    return find_in(session, &tenant_row, &db_row, name, ret_collection, err);
}

och_code sysdb_collection_find_resource(struct sysdb *sysdb, slice resource_name, slice database,
                                        slice name, const struct sysdb_collection **ret_collection,
                                        och_error *err)
{
    CLEANUP(session_turn_cleanup) struct session *session = NULL;
    TRY(session_turn_enter(sysdb, &session, err));
    struct value key = value_text(resource_name);
    struct row tenant, db;
    bool found;
    TRY(table_row_find(session, QUERY_TENANT_BY_RESOURCE, &key, 1, &session->scratch, &tenant,
                       &found, err));
    if (found) {
        struct value names[] = {tenant.at[TENANT_ORD], value_text(database)};
        TRY(table_row_find(session, QUERY_DB_BY_NAME, names, 2, &session->scratch, &db, &found,
                           err));
    }
    if (!found)
        return name_missing(name, err);
    return find_in(session, &tenant, &db, name, ret_collection, err);
}

/* ---- lists ---- */

struct list {
    slice tenant, database;
    int64_t after;         /* the last row's ord */
    uint64_t left, offset; /* the offset only for the first chunk */
    bool more;
    VEC(const struct sysdb_collection *) rows;
};

static och_code list_row(struct session *session, struct list *list, const struct row *tenant,
                         const struct row *db, const struct row *row, och_error *err)
{
    uuid id;
    memcpy(id.bytes, row->at[COLLECTION_ID].bytes.at, 16);
    const struct sysdb_collection *collection = snapshot_cache_get(&session->sysdb->cache, id);
    if (!collection) {
        TRY(snapshot_build(session, row, db, tenant, &collection, err));
        snapshot_cache_put(&session->sysdb->cache, collection, session->epoch);
    }
    if (!VEC_PUSH(&list->rows, collection)) {
        sysdb_collection_unref(collection);
        return FAIL_NO_MEMORY(err, "a list of collections");
    }
    list->after = row->at[COLLECTION_ORD].number;
    return OCH_OK;
}

static och_code list_chunk(struct sysdb *sysdb, struct list *list, och_error *err)
{
    CLEANUP(session_turn_cleanup) struct session *session = NULL;
    TRY(session_turn_enter(sysdb, &session, err));
    struct row tenant, db;
    bool found;
    TRY(sysdb_scope_find(session, list->tenant, list->database, &session->scratch, &tenant, &db,
                         &found, err));
    list->more = false;
    if (!found)
        return OCH_OK;
    uint64_t want = list->left < LIST_CHUNK ? list->left : LIST_CHUNK;
    struct value values[] = {db.at[DB_ORD], value_int(list->after), value_u64(want),
                             value_u64(list->offset)};
    row_list rows = {0};
    och_code code = table_rows_collect(session, QUERY_COLLECTION_AFTER, values, 4,
                                       &session->scratch, &rows, err);
    for (size_t i = 0; code == OCH_OK && i < rows.len; i++)
        code = list_row(session, list, &tenant, &db, &rows.at[i], err);
    list->more = rows.len == want;
    list->left -= rows.len;
    list->offset = 0;
    VEC_DONE(&rows);
    return code;
}

och_code sysdb_collection_list(struct sysdb *sysdb, slice tenant, slice database, uint64_t limit,
                               uint64_t offset, struct arena *arena,
                               const struct sysdb_collection ***ret_rows, size_t *ret_count,
                               och_error *err)
{
    struct list list = {.tenant = tenant,
                        .database = database,
                        .left = limit,
                        .offset = offset,
                        .more = offset <= INT64_MAX};
    och_code code = OCH_OK;
    while (code == OCH_OK && list.more && list.left > 0)
        code = list_chunk(sysdb, &list, err);
    const struct sysdb_collection **rows = NULL;
    if (code == OCH_OK) {
        rows = arena_array(arena, list.rows.len ? list.rows.len : 1, sizeof(*rows));
        if (!rows)
            code = FAIL_NO_MEMORY(err, "a list of collections");
    }
    for (size_t i = 0; i < list.rows.len; i++) {
        if (code == OCH_OK)
            rows[i] = list.rows.at[i];
        else
            sysdb_collection_unref(list.rows.at[i]);
    }
    if (code == OCH_OK) {
        *ret_rows = rows;
        *ret_count = list.rows.len;
    }
    mem_free(list.rows.at);
    return code;
}

och_code sysdb_collection_count(struct sysdb *sysdb, slice tenant, slice database,
                                uint64_t *ret_count, och_error *err)
{
    CLEANUP(session_turn_cleanup) struct session *session = NULL;
    TRY(session_turn_enter(sysdb, &session, err));
    struct row tenant_row, db;
    bool found;
    int64_t count = 0;
    TRY(sysdb_scope_find(session, tenant, database, &session->scratch, &tenant_row, &db, &found,
                         err));
    if (found)
        TRY(sql_query_number(session, QUERY_COLLECTION_COUNT, &db.at[DB_ORD], 1, &count, &found,
                             err));
    *ret_count = (uint64_t)count;
    return OCH_OK;
}

och_code sysdb_collection_walk(struct sysdb *sysdb, int64_t *cursor, size_t max, uuid *ret_ids,
                               size_t *ret_count, och_error *err)
{
    CLEANUP(session_turn_cleanup) struct session *session = NULL;
    TRY(session_turn_enter(sysdb, &session, err));
    CLEANUP(sql_cursor_done) struct cursor rows = {0};
    struct value values[] = {value_int(*cursor), value_u64(max > INT32_MAX ? INT32_MAX : max)};
    TRY(sql_query_begin(session, QUERY_COLLECTION_WALK, values, 2, &rows, err));
    size_t count = 0;
    int64_t at = *cursor;
    for (;;) {
        bool more;
        TRY(sql_query_next(&rows, &more, err));
        if (!more || count == max)
            break;
        at = sqlite3_column_int64(rows.statement, 0);
        const void *id = sqlite3_column_blob(rows.statement, 1);
        if (!id || sqlite3_column_bytes(rows.statement, 1) != 16)
            return FAIL(err, OCH_CORRUPT, "catalogue %s: table collection row (%lld) has no id",
                        sysdb->path, (long long)at);
        memcpy(ret_ids[count++].bytes, id, 16);
    }
    *cursor = at;
    *ret_count = count;
    return OCH_OK;
}

/* ---- changes ---- */

struct update {
    uuid id;
    const struct sysdb_collection_change *change;
};

static och_code run_update(struct session *session, void *arg, och_error *err)
{
    const struct update *update = arg;
    const struct sysdb_collection_change *change = update->change;
    struct row row;
    TRY(collection_row(session, update->id, &row, err));
    if (!change->set_name && !change->set_metadata && !change->set_schema)
        return OCH_OK;
    struct value schema_before = row.at[COLLECTION_SCHEMA];
    if (change->set_name) {
        TRY(alias_check_free(session, row.at[COLLECTION_DB], change->name, err));
        row.at[COLLECTION_NAME] = value_text(change->name);
    }
    if (change->set_metadata)
        row.at[COLLECTION_METADATA] =
            change->metadata.at ? value_blob(change->metadata) : value_null();
    if (change->set_schema) {
        int64_t schema;
        TRY(schema_row(session, change->schema_json, &schema, err));
        row.at[COLLECTION_SCHEMA] = value_int(schema);
    }
    snapshot_touch(session, update->id);
    och_code code = table_row_update(session, &row, err);
    if (code == OCH_EXISTS)
        return collection_name_taken(change->name, err);
    TRY(code);
    if (row.at[COLLECTION_SCHEMA].number != schema_before.number)
        return schema_release(session, schema_before, err);
    return OCH_OK;
}

och_code sysdb_collection_update(struct sysdb *sysdb, uuid id,
                                 const struct sysdb_collection_change *change, och_error *err)
{
    struct update update = {id, change};
    return sysdb_write_run(sysdb, run_update, &update, err);
}

och_code collection_bury(struct session *session, struct row *row, och_error *err)
{
    struct value ord = row->at[COLLECTION_ORD], schema = row->at[COLLECTION_SCHEMA];
    row_list parts = {0};
    och_code code =
        table_rows_collect(session, QUERY_PARTS, &ord, 1, &session->scratch, &parts, err);
    for (size_t i = 0; code == OCH_OK && i < parts.len; i++)
        code = table_row_delete(session, &parts.at[i], err);
    if (code == OCH_OK)
        code = parts_release(session, parts.at, parts.len, err);
    VEC_DONE(&parts);
    TRY(code);
    TRY(table_rows_delete(session, QUERY_KEYS, &ord, 1, err));
    TRY(table_rows_delete(session, QUERY_BATCHES_OF_COLLECTION, &ord, 1, err));
    TRY(table_rows_delete(session, QUERY_FORK, &ord, 1, err));
    TRY(kept_bury(session, ord, err));
    TRY(functions_bury(session, ord, err));
    TRY(aliases_bury(session, ord, err));
    row->at[COLLECTION_STATE] = value_text(STATE_TOMBSTONE);
    row->at[COLLECTION_DB] = row->at[COLLECTION_SCHEMA] = row->at[COLLECTION_METADATA] =
        value_null();
    row->at[COLLECTION_NAME] = value_text(SLICE(""));
    TRY(table_row_update(session, row, err));
    return schema_release(session, schema, err);
}

static och_code run_drop(struct session *session, void *arg, och_error *err)
{
    uuid id = *(const uuid *)arg;
    struct row row;
    TRY(collection_row(session, id, &row, err));
    snapshot_touch(session, id);
    return collection_bury(session, &row, err);
}

och_code sysdb_collection_drop(struct sysdb *sysdb, uuid id, och_error *err)
{
    return sysdb_write_run(sysdb, run_drop, &id, err);
}

/* ---- tombstones ---- */

och_code sysdb_tombstones(struct sysdb *sysdb, struct arena *arena, uuid **ret_ids,
                          size_t *ret_count, och_error *err)
{
    CLEANUP(session_turn_cleanup) struct session *session = NULL;
    TRY(session_turn_enter(sysdb, &session, err));
    row_list list = {0};
    och_code code = table_rows_collect(session, QUERY_COLLECTION_TOMBSTONES, NULL, 0,
                                       &session->scratch, &list, err);
    uuid *ids = NULL;
    if (code == OCH_OK) {
        ids = ARENA_ARRAY(arena, uuid, list.len ? list.len : 1);
        if (!ids)
            code = FAIL_NO_MEMORY(err, "a list of collections");
    }
    for (size_t i = 0; code == OCH_OK && i < list.len; i++)
        memcpy(ids[i].bytes, list.at[i].at[COLLECTION_ID].bytes.at, 16);
    if (code == OCH_OK) {
        *ret_ids = ids;
        *ret_count = list.len;
    }
    VEC_DONE(&list);
    return code;
}

struct ids {
    const uuid *at;
    size_t count;
};

static och_code run_tombstones_remove(struct session *session, void *arg, och_error *err)
{
    const struct ids *ids = arg;
    for (size_t i = 0; i < ids->count; i++) {
        struct value key = value_id(&ids->at[i]);
        struct row row;
        bool found;
        TRY(table_row_find(session, QUERY_COLLECTION_BY_ID, &key, 1, &session->scratch, &row,
                           &found, err));
        if (found && slice_equal(row.at[COLLECTION_STATE].bytes, STATE_TOMBSTONE))
            TRY(table_row_delete(session, &row, err));
    }
    return OCH_OK;
}

och_code sysdb_tombstones_remove(struct sysdb *sysdb, const uuid *ids, size_t count, och_error *err)
{
    struct ids arg = {ids, count};
    return sysdb_write_run(sysdb, run_tombstones_remove, &arg, err);
}
