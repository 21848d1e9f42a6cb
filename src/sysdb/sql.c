/* SPDX-License-Identifier: Apache-2.0 */
/* Statements, each prepared once, and SQLite's errors as ours.  All in the turn. */
#include "sysdb/sysdb_internal.h"

#include <errno.h>
#include <inttypes.h>

#define NO_TABLE (-1)

/* For rows of a table only what follows "SELECT crc,<columns> FROM <table>". */
static const struct {
    int table;
    const char *text;
} texts[QUERY_COUNT] = {
    [QUERY_TENANT_BY_NAME] = {TABLE_TENANT, "WHERE name=?1"},
    [QUERY_TENANT_BY_RESOURCE] = {TABLE_TENANT, "WHERE resource_name=?1"},
    [QUERY_TENANT_ALL] = {TABLE_TENANT, "ORDER BY ord"},
    [QUERY_DB_BY_NAME] = {TABLE_DB, "WHERE tenant=?1 AND name=?2"},
    [QUERY_DB_BY_TENANT] = {TABLE_DB, "WHERE tenant=?1 ORDER BY ord LIMIT ?2 OFFSET ?3"},
    [QUERY_DB_ALL] = {TABLE_DB, "ORDER BY ord"},
    [QUERY_SCHEMA_BY_HASH] = {TABLE_SCHEMA, "WHERE hash=?1 ORDER BY ord"},
    [QUERY_COLLECTION_BY_ID] = {TABLE_COLLECTION, "WHERE id=?1"},
    [QUERY_COLLECTION_BY_NAME] = {TABLE_COLLECTION, "WHERE db=?1 AND name=?2 AND state='active'"},
    [QUERY_COLLECTION_AFTER] = {TABLE_COLLECTION,
                                "WHERE db=?1 AND ord>?2 ORDER BY ord LIMIT ?3 OFFSET ?4"},
    [QUERY_COLLECTION_TOMBSTONES] = {TABLE_COLLECTION, "WHERE state='tombstone' ORDER BY id"},
    [QUERY_COLLECTION_ACTIVE] = {TABLE_COLLECTION,
                                 "WHERE ord>?1 AND state='active' ORDER BY ord LIMIT ?2"},
    [QUERY_KEYS] = {TABLE_SCHEMA_KEY, "WHERE collection=?1 ORDER BY key,type"},
    // literal states, so that the partial indexes serve
    [QUERY_FILE_LIVE] = {TABLE_FILE, "WHERE state='live' ORDER BY id"},
    [QUERY_FILE_DOOMED] = {TABLE_FILE, "WHERE state='doomed' ORDER BY id"},
    [QUERY_FILE_UPLOADING] = {TABLE_FILE, "WHERE state='uploading' ORDER BY id"},
    [QUERY_PARTS] = {TABLE_VERSION_PART, "WHERE collection=?1 ORDER BY ordinal"},
    [QUERY_HOLES] = {TABLE_HOLE, "ORDER BY file,off"},
    [QUERY_HOLES_OF_FILE] = {TABLE_HOLE, "WHERE file=?1 ORDER BY off"},
    [QUERY_SEGMENTS] = {TABLE_SEGMENT, "ORDER BY id"},
    [QUERY_BATCHES_OF_COLLECTION] = {TABLE_BATCH_ID, "WHERE collection=?1"},
    [QUERY_BATCHES_BEFORE] = {TABLE_BATCH_ID, "WHERE created_at<?1 LIMIT 4096"},
    [QUERY_LOG_END] = {TABLE_LOG_END, "WHERE one=1"},
    [QUERY_FORK] = {TABLE_FORK, "WHERE collection=?1"},
    [QUERY_FUNCTIONS] = {TABLE_FUNCTION, "ORDER BY id,input"},
    [QUERY_FUNCTIONS_OF_INPUT] = {TABLE_FUNCTION, "WHERE input=?1 ORDER BY is_async"},
    [QUERY_FUNCTIONS_OF_OUTPUT] = {TABLE_FUNCTION, "WHERE output=?1 ORDER BY id,input"},
    [QUERY_FUNCTION_BY_NAME] = {TABLE_FUNCTION, "WHERE input=?1 AND name=?2"},
    [QUERY_ALIASES] = {TABLE_ALIAS, "WHERE db=?1 ORDER BY name"},
    [QUERY_ALIASES_OF] = {TABLE_ALIAS, "WHERE target=?1 ORDER BY db,name"},
    [QUERY_ALIAS_BY_NAME] = {TABLE_ALIAS, "WHERE db=?1 AND name=?2"},
    [QUERY_KEPT] = {TABLE_VERSION, "WHERE collection=?1 ORDER BY log_offset,taken_at,ord"},
    [QUERY_KEPT_BY_ID] = {TABLE_VERSION, "WHERE id=?1"},
    [QUERY_KEPT_UNTIL] = {TABLE_VERSION,
                          "WHERE keep_until>0 AND keep_until<?1 ORDER BY keep_until LIMIT ?2"},
    [QUERY_KEPT_PARTS] = {TABLE_KEPT_PART, "WHERE version=?1 ORDER BY ordinal"},
    [QUERY_COLLECTION_COUNT] = {NO_TABLE, "SELECT count(*) FROM collection WHERE db=?1"},
    [QUERY_COLLECTION_WALK] = {NO_TABLE, "SELECT ord,id FROM collection NOT INDEXED WHERE ord>?1 "
                                         "AND state='active' ORDER BY ord LIMIT ?2"},
    [QUERY_SCHEMA_USED] = {NO_TABLE, "SELECT 1 FROM collection WHERE schema=?1 LIMIT 1"},
    [QUERY_FILE_USED] = {NO_TABLE, "SELECT 1 FROM version_part WHERE file=?1 UNION ALL "
                                   "SELECT 1 FROM kept_part WHERE file=?1 LIMIT 1"},
    [QUERY_RANGE_USED] = {NO_TABLE, "SELECT 1 FROM version_part WHERE file=?1 AND off=?2 UNION ALL "
                                    "SELECT 1 FROM kept_part WHERE file=?1 AND off=?2 LIMIT 1"},
    [QUERY_FORK_COUNT] = {NO_TABLE, "SELECT count(*) FROM fork WHERE tree=?1"},
    [QUERY_META] = {NO_TABLE, "SELECT crc,format,generation,next,sums FROM meta WHERE one=1"},
    [QUERY_META_SET] = {NO_TABLE, "UPDATE meta SET crc=?1,format=?2,generation=?3,next=?4,sums=?5 "
                                  "WHERE one=1"},
    [QUERY_BEGIN] = {NO_TABLE, "BEGIN IMMEDIATE"},
    [QUERY_COMMIT] = {NO_TABLE, "COMMIT"},
    [QUERY_BEGIN_READ] = {NO_TABLE, "BEGIN"},
    [QUERY_ROLLBACK] = {NO_TABLE, "ROLLBACK"},
    [QUERY_SAVE] = {NO_TABLE, "SAVEPOINT request"},
    [QUERY_SAVE_RELEASE] = {NO_TABLE, "RELEASE request"},
    [QUERY_SAVE_ROLLBACK] = {NO_TABLE, "ROLLBACK TO request"},
};

/* Of what gives no rows of a table: a table since format 2, without which there is nothing to find.  0: none. */
static const uint8_t needs[QUERY_COUNT] = {[QUERY_FORK_COUNT] = TABLE_FORK};

static och_code code_of(int extended)
{
    switch (extended) {
    case SQLITE_IOERR_DATA:
    case SQLITE_IOERR_CORRUPTFS:
        return OCH_CORRUPT;
    case SQLITE_IOERR_NOMEM:
        return OCH_NO_MEMORY;
    case SQLITE_CONSTRAINT_UNIQUE:
    case SQLITE_CONSTRAINT_PRIMARYKEY:
    case SQLITE_CONSTRAINT_ROWID:
        return OCH_EXISTS;
    case SQLITE_CONSTRAINT_FOREIGNKEY:
        return OCH_CONFLICT;
    default:
        break;
    }
    switch (extended & 0xff) {
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
    case SQLITE_FORMAT:
    case SQLITE_MISMATCH:
        return OCH_CORRUPT;
    case SQLITE_IOERR:
    case SQLITE_FULL:
    case SQLITE_CANTOPEN:
    case SQLITE_READONLY:
        return OCH_IO;
    case SQLITE_NOMEM:
        return OCH_NO_MEMORY;
    case SQLITE_TOOBIG:
        return OCH_TOO_LARGE;
    default:
        return OCH_INTERNAL;
    }
}

och_code sql_fail(struct session *session, int rc, och_error *err)
{
    int extended = session->connection ? sqlite3_extended_errcode(session->connection) : rc;
    if ((extended & 0xff) != (rc & 0xff))
        extended = rc;
    och_error disk = sqlite_vfs_take_error(session->vfs);
    och_code code = code_of(extended);
    bool from_disk = disk.code != OCH_OK && (code == OCH_IO || code == OCH_CORRUPT);
    if (from_disk)
        return FAIL_OS(err, code, disk.os_errno, "catalogue %s: %s", session->sysdb->path,
                       disk.message);
    return FAIL(err, code, "catalogue %s: %s", session->sysdb->path,
                session->connection ? sqlite3_errmsg(session->connection) : sqlite3_errstr(rc));
}

void sql_cursor_done(struct cursor *cursor)
{
    if (!cursor->statement)
        return;
    (void)sqlite3_reset(cursor->statement); // repeats the error that step gave
    (void)sqlite3_clear_bindings(cursor->statement);
    cursor->statement = NULL;
}

static och_code prepare(struct session *session, enum query_id query, och_error *err)
{
    CLEANUP(buf_cleanup) struct buf text;
    buf_init(&text, BUF_MAX_NONE);
    int table = texts[query].table;
    if (table != NO_TABLE)
        buf_printf(&text, "SELECT crc,%s FROM %s ", sysdb_tables[table].columns,
                   sysdb_tables[table].name);
    buf_text(&text, texts[query].text);
    buf_byte(&text, 0);
    TRY(buf_check(&text, "a statement", err));
    int rc = sqlite3_prepare_v3(session->connection, (const char *)text.at, -1,
                                SQLITE_PREPARE_PERSISTENT, &session->queries[query], NULL);
    return rc == SQLITE_OK ? OCH_OK : sql_fail(session, rc, err);
}

och_code sql_query_begin(struct session *session, enum query_id query, const struct value *values,
                         size_t count, struct cursor *ret_cursor, och_error *err)
{
    int table = texts[query].table;
    size_t table_needed = table == NO_TABLE ? needs[query] : (size_t)table;
    *ret_cursor = (struct cursor){NULL, session, table};
    if (table_needed && table_needed >= session->sysdb->table_count)
        return OCH_OK;
    if (!session->queries[query])
        TRY(prepare(session, query, err));
    sqlite3_stmt *statement = session->queries[query];
    int rc = SQLITE_OK;
    for (size_t i = 0; rc == SQLITE_OK && i < count; i++) {
        const struct value *value = &values[i];
        const void *at = value->bytes.len ? (const void *)value->bytes.at : "";
        int place = (int)i + 1;
        if (value->kind == SQLITE_INTEGER)
            rc = sqlite3_bind_int64(statement, place, value->number);
        else if (value->kind == SQLITE_TEXT)
            rc = sqlite3_bind_text64(statement, place, at, value->bytes.len, SQLITE_STATIC,
                                     SQLITE_UTF8);
        else if (value->kind == SQLITE_BLOB)
            rc = sqlite3_bind_blob64(statement, place, at, value->bytes.len, SQLITE_STATIC);
    }
    if (rc != SQLITE_OK)
        return sql_fail(session, rc, err);
    ret_cursor->statement = statement;
    return OCH_OK;
}

och_code sql_query_next(struct cursor *cursor, bool *ret_more, och_error *err)
{
    *ret_more = false;
    if (!cursor->statement) // of a table that is not there yet
        return OCH_OK;
    int rc = sqlite3_step(cursor->statement);
    if (rc != SQLITE_ROW && rc != SQLITE_DONE)
        return sql_fail(cursor->session, rc, err);
    *ret_more = rc == SQLITE_ROW;
    return OCH_OK;
}

och_code sql_query_run(struct session *session, enum query_id query, och_error *err)
{
    CLEANUP(sql_cursor_done) struct cursor cursor = {0};
    bool more = false;
    TRY(sql_query_begin(session, query, NULL, 0, &cursor, err));
    return sql_query_next(&cursor, &more, err);
}

och_code sql_query_number(struct session *session, enum query_id query, const struct value *values,
                          size_t count, int64_t *ret_number, bool *ret_found, och_error *err)
{
    CLEANUP(sql_cursor_done) struct cursor cursor = {0};
    bool more = false;
    TRY(sql_query_begin(session, query, values, count, &cursor, err));
    TRY(sql_query_next(&cursor, &more, err));
    if (more)
        *ret_number = sqlite3_column_int64(cursor.statement, 0);
    *ret_found = more;
    return OCH_OK;
}

och_code sql_run(struct session *session, const char *text, och_error *err)
{
    int rc = sqlite3_exec(session->connection, text, NULL, NULL, NULL);
    return rc == SQLITE_OK ? OCH_OK : sql_fail(session, rc, err);
}

void sql_close_statements(struct session *session)
{
    for (size_t i = 0; i < QUERY_COUNT; i++) {
        (void)sqlite3_finalize(session->queries[i]);
        session->queries[i] = NULL;
    }
    sqlite3_stmt **places[] = {session->inserts, session->updates, session->deletes, session->gets};
    for (size_t made = 0; made < COUNT_OF(places); made++) {
        for (size_t i = 0; i < TABLE_COUNT; i++) {
            (void)sqlite3_finalize(places[made][i]);
            places[made][i] = NULL;
        }
    }
}
