/* SPDX-License-Identifier: Apache-2.0 */
/* Rows with a checksum each, and per table a count and the XOR of the checksums that change in the same transaction (D8).
 * Every write of a row goes through here, so the two cannot come apart. */
#include "sysdb/sysdb_internal.h"

#include "base/bytes.h"
#include "kernel/kernel.h"

#include <inttypes.h>
#include <stdio.h>

const struct table sysdb_tables[TABLE_COUNT] = {
    [TABLE_TENANT] = {"tenant", "ord,name,resource_name", 1, 3},
    [TABLE_DB] = {"db", "ord,id,tenant,name", 1, 4},
    [TABLE_SCHEMA] = {"schema", "ord,hash,json", 1, 3},
    [TABLE_COLLECTION] = {"collection",
                          "ord,id,db,name,state,schema,cur_version,log_offset,dimension,"
                          "last_created_at,created_at,metadata",
                          1, 12},
    [TABLE_SCHEMA_KEY] = {"schema_key", "collection,key,type", 3, 3},
    [TABLE_FILE] = {"file", "id,state", 1, 2},
    [TABLE_VERSION_PART] = {"version_part",
                            "collection,ordinal,file,off,len,dir_off,dir_len,dir_crc,head_len,"
                            "lineage,rows,deleted,log_from,log_to,dead",
                            2, 15},
    [TABLE_HOLE] = {"hole", "file,off,len", 2, 3},
    [TABLE_SEGMENT] = {"segment", "id,salt,size", 1, 3},
    [TABLE_BATCH_ID] = {"batch_id",
                        "collection,batch_id,request_hash,first,count,inserted,updated,skipped,"
                        "deleted,created_at",
                        2, 10},
    [TABLE_LOG_END] = {"log_end", "one,segment,byte,sequence", 1, 4},
    [TABLE_FORK] = {"fork", "collection,tree,ancestors", 1, 3},
    [TABLE_FUNCTION] = {"function",
                        "id,input,output,name,function,is_async,output_name,params,completion,"
                        "built,min_records,created_at",
                        2, 12},
    [TABLE_ALIAS] = {"alias", "db,name,target,created_at", 2, 4},
    [TABLE_VERSION] = {"version",
                       "ord,id,collection,name,log_offset,dimension,last_created_at,taken_at,"
                       "keep_until,rows",
                       1, 10},
    [TABLE_KEPT_PART] = {"kept_part",
                         "version,ordinal,file,off,len,dir_off,dir_len,dir_crc,head_len,"
                         "lineage,rows,deleted,log_from,log_to,dead",
                         2, 15},
};

/* crc32c over the table's number, then of each column its kind, length and bytes. */
uint32_t table_row_crc(const struct row *row)
{
    const struct kernel *kernel = kernel_get();
    uint8_t head[9] = {(uint8_t)row->table};
    uint32_t crc = kernel->crc32c(0, head, 1);
    for (size_t i = 0; i < sysdb_tables[row->table].column_count; i++) {
        const struct value *value = &row->at[i];
        bool is_bytes = value->kind == SQLITE_TEXT || value->kind == SQLITE_BLOB;
        head[0] = (uint8_t)value->kind;
        store_u64(head + 1, is_bytes ? value->bytes.len : (uint64_t)value->number);
        crc = kernel->crc32c(crc, head, value->kind == SQLITE_NULL ? 1 : sizeof(head));
        if (is_bytes && value->bytes.len)
            crc = kernel->crc32c(crc, value->bytes.at, value->bytes.len);
    }
    return crc;
}

static och_code read_value(sqlite3_stmt *statement, int column, struct arena *arena,
                           struct value *ret_value, och_error *err)
{
    *ret_value = (struct value){.kind = sqlite3_column_type(statement, column)};
    if (ret_value->kind == SQLITE_INTEGER) {
        ret_value->number = sqlite3_column_int64(statement, column);
    } else if (ret_value->kind == SQLITE_TEXT || ret_value->kind == SQLITE_BLOB) {
        const void *at = sqlite3_column_blob(statement, column);
        int len = sqlite3_column_bytes(statement, column);
        ret_value->bytes = arena_copy(arena, slice_make(len ? at : "", (size_t)len));
        if (!ret_value->bytes.at || (len && !at))
            return FAIL_NO_MEMORY(err, "a row of the catalogue");
    }
    return OCH_OK;
}

/* "table row (1, 2)": for messages. */
static void name_row(const struct row *row, char *out, size_t size)
{
    int used = snprintf(out, size, "table %s row (", sysdb_tables[row->table].name);
    for (size_t i = 0; i < sysdb_tables[row->table].key_count && used > 0 && (size_t)used < size;
         i++) {
        const struct value *value = &row->at[i];
        const char *comma = i ? ", " : "";
        char id[UUID_TEXT_SIZE];
        if (value->kind == SQLITE_BLOB && value->bytes.len == 16) {
            uuid key;
            memcpy(key.bytes, value->bytes.at, 16);
            used += snprintf(out + used, size - (size_t)used, "%s%s", comma, uuid_format(key, id));
        } else if (value->kind == SQLITE_TEXT) {
            used += snprintf(out + used, size - (size_t)used, "%s'%.60s'", comma,
                             (const char *)value->bytes.at);
        } else {
            used += snprintf(out + used, size - (size_t)used, "%s%" PRId64, comma, value->number);
        }
    }
    if (used > 0 && (size_t)used < size)
        (void)snprintf(out + used, size - (size_t)used, ")");
}

static och_code read_row(struct cursor *cursor, struct arena *arena, struct row *row,
                         och_error *err)
{
    row->table = (enum table_id)cursor->table;
    row->crc = (uint32_t)sqlite3_column_int64(cursor->statement, 0);
    for (int i = 0; i < sysdb_tables[row->table].column_count; i++)
        TRY(read_value(cursor->statement, i + 1, arena, &row->at[i], err));
    if (row->crc == table_row_crc(row) && sqlite3_column_int64(cursor->statement, 0) == row->crc)
        return OCH_OK;
    char name[300];
    name_row(row, name, sizeof(name));
    return FAIL(err, OCH_CORRUPT, "catalogue %s: %s does not match its checksum",
                cursor->session->sysdb->path, name);
}

och_code table_row_next(struct cursor *cursor, struct arena *arena, struct row *ret_row,
                        bool *ret_more, och_error *err)
{
    assert(cursor->table >= 0);
    bool more;
    TRY(sql_query_next(cursor, &more, err));
    if (more)
        TRY(read_row(cursor, arena, ret_row, err));
    *ret_more = more;
    return OCH_OK;
}

och_code table_row_find(struct session *session, enum query_id query, const struct value *values,
                        size_t count, struct arena *arena, struct row *ret_row, bool *ret_found,
                        och_error *err)
{
    CLEANUP(sql_cursor_done) struct cursor cursor = {0};
    TRY(sql_query_begin(session, query, values, count, &cursor, err));
    return table_row_next(&cursor, arena, ret_row, ret_found, err);
}

och_code table_rows_collect(struct session *session, enum query_id query,
                            const struct value *values, size_t count, struct arena *arena,
                            row_list *list, och_error *err)
{
    CLEANUP(sql_cursor_done) struct cursor cursor = {0};
    TRY(sql_query_begin(session, query, values, count, &cursor, err));
    for (;;) {
        struct row row;
        bool more;
        TRY(table_row_next(&cursor, arena, &row, &more, err));
        if (!more)
            return OCH_OK;
        if (!VEC_PUSH(list, row))
            return FAIL_NO_MEMORY(err, "rows of the catalogue");
    }
}

och_code table_rows_delete(struct session *session, enum query_id query, const struct value *values,
                           size_t count, och_error *err)
{
    row_list list = {0};
    och_code code =
        table_rows_collect(session, query, values, count, &session->scratch, &list, err);
    for (size_t i = 0; code == OCH_OK && i < list.len; i++)
        code = table_row_delete(session, &list.at[i], err);
    VEC_DONE(&list);
    return code;
}

static int bind_value(sqlite3_stmt *statement, int at, const struct value *value)
{
    switch (value->kind) {
    case SQLITE_INTEGER:
        return sqlite3_bind_int64(statement, at, value->number);
    case SQLITE_TEXT:
        return sqlite3_bind_text64(statement, at,
                                   value->bytes.len ? (const char *)value->bytes.at : "",
                                   value->bytes.len, SQLITE_STATIC, SQLITE_UTF8);
    case SQLITE_BLOB:
        return sqlite3_bind_blob64(statement, at,
                                   value->bytes.len ? (const void *)value->bytes.at : "",
                                   value->bytes.len, SQLITE_STATIC);
    default:
        return sqlite3_bind_null(statement, at);
    }
}

enum made { MADE_INSERT, MADE_UPDATE, MADE_DELETE, MADE_GET };

/* The text of a table's own four statements, from its columns. */
static void make_text(const struct table *table, enum made made, struct buf *out)
{
    struct reader names = reader_of(slice_of(table->columns));
    slice column[COLUMN_MAX] = {{0}};
    for (size_t i = 0; i < table->column_count; i++) {
        const uint8_t *from = names.at;
        while (names.at < names.end && *names.at != ',')
            names.at++;
        column[i] = slice_make(from, (size_t)(names.at - from));
        names.at += names.at < names.end;
    }
    if (made == MADE_INSERT) {
        buf_printf(out, "INSERT INTO %s(crc,%s) VALUES(?1", table->name, table->columns);
        for (int i = 0; i < table->column_count; i++)
            buf_printf(out, ",?%d", i + 2);
        buf_text(out, ")");
    } else if (made == MADE_UPDATE) {
        buf_printf(out, "UPDATE %s SET crc=?1", table->name);
        for (int i = table->key_count; i < table->column_count; i++)
            buf_printf(out, ",%.*s=?%d", SLICE_ARG(column[i]), i + 2);
    } else if (made == MADE_DELETE) {
        buf_printf(out, "DELETE FROM %s", table->name);
    } else {
        buf_printf(out, "SELECT crc,%s FROM %s", table->columns, table->name);
    }
    for (int i = 0; i < table->key_count && made != MADE_INSERT; i++)
        buf_printf(out, "%s %.*s=?%d", i ? " AND" : " WHERE", SLICE_ARG(column[i]), i + 2);
    buf_byte(out, 0);
}

static och_code statement_of(struct session *session, enum table_id table, enum made made,
                             sqlite3_stmt **ret_statement, och_error *err)
{
    sqlite3_stmt **places[] = {session->inserts, session->updates, session->deletes, session->gets};
    sqlite3_stmt **place = &places[made][table];
    if (!*place) {
        CLEANUP(buf_cleanup) struct buf text;
        buf_init(&text, BUF_MAX_NONE);
        make_text(&sysdb_tables[table], made, &text);
        TRY(buf_check(&text, "a statement", err));
        int rc = sqlite3_prepare_v3(session->connection, (const char *)text.at, -1,
                                    SQLITE_PREPARE_PERSISTENT, place, NULL);
        if (rc != SQLITE_OK)
            return sql_fail(session, rc, err);
    }
    *ret_statement = *place;
    return OCH_OK;
}

och_code table_row_get(struct session *session, enum table_id table, const struct value *key,
                       struct arena *arena, struct row *ret_row, bool *ret_found, och_error *err)
{
    CLEANUP(sql_cursor_done) struct cursor cursor = {.session = session, .table = (int)table};
    *ret_found = false;
    if (table >= session->sysdb->table_count)
        return OCH_OK;
    TRY(statement_of(session, table, MADE_GET, &cursor.statement, err));
    for (int i = 0; i < sysdb_tables[table].key_count; i++) {
        int rc = bind_value(cursor.statement, i + 2, &key[i]);
        if (rc != SQLITE_OK)
            return sql_fail(session, rc, err);
    }
    return table_row_next(&cursor, arena, ret_row, ret_found, err);
}

/* Bind and run one of a table's own writing statements; exactly one row changes. */
static och_code run_write(struct session *session, const struct row *row, enum made made,
                          och_error *err)
{
    CLEANUP(sql_cursor_done) struct cursor cursor = {.session = session, .table = -1};
    TRY(statement_of(session, row->table, made, &cursor.statement, err));
    const struct table *table = &sysdb_tables[row->table];
    int rc = SQLITE_OK;
    if (made != MADE_DELETE)
        rc = sqlite3_bind_int64(cursor.statement, 1, row->crc);
    int count = made == MADE_DELETE ? table->key_count : table->column_count;
    for (int i = 0; rc == SQLITE_OK && i < count; i++)
        rc = bind_value(cursor.statement, i + 2, &row->at[i]);
    if (rc == SQLITE_OK)
        rc = sqlite3_step(cursor.statement);
    if (rc != SQLITE_DONE)
        return sql_fail(session, rc, err);
    if (sqlite3_changes(session->connection) != 1) {
        char name[300];
        name_row(row, name, sizeof(name));
        return FAIL(err, OCH_CORRUPT, "catalogue %s: %s is not where its index says",
                    session->sysdb->path, name);
    }
    session->sysdb->changed = true;
    return OCH_OK;
}

och_code table_row_insert(struct session *session, struct row *row, och_error *err)
{
    row->crc = table_row_crc(row);
    TRY(run_write(session, row, MADE_INSERT, err));
    session->sysdb->sums.count[row->table]++;
    session->sysdb->sums.xor_crc[row->table] ^= row->crc;
    return OCH_OK;
}

och_code table_row_update(struct session *session, struct row *row, och_error *err)
{
    uint32_t before = row->crc;
    row->crc = table_row_crc(row);
    TRY(run_write(session, row, MADE_UPDATE, err));
    session->sysdb->sums.xor_crc[row->table] ^= before ^ row->crc;
    return OCH_OK;
}

och_code table_row_delete(struct session *session, const struct row *row, och_error *err)
{
    TRY(run_write(session, row, MADE_DELETE, err));
    session->sysdb->sums.count[row->table]--;
    session->sysdb->sums.xor_crc[row->table] ^= row->crc;
    return OCH_OK;
}

/* ---- sums ---- */

/* Read every row against its crc; what does not hold becomes a line of the report. */
static och_code sum_full(struct cursor *cursor, struct buf *report, uint64_t *count, uint32_t *sum,
                         uint64_t *faults, och_error *err)
{
    for (;;) {
        struct arena arena;
        arena_init(&arena, NULL, 0);
        struct row row = {0};
        bool more;
        och_error fault = {0};
        och_code code = sql_query_next(cursor, &more, &fault);
        if (code == OCH_OK && more) {
            code = read_row(cursor, &arena, &row, &fault);
            *count += 1;
            *sum ^= row.crc;
        }
        arena_done(&arena);
        if (code != OCH_OK && code != OCH_CORRUPT) {
            if (err)
                *err = fault;
            return code;
        }
        if (code == OCH_CORRUPT) {
            buf_printf(report, "%s\n", fault.message);
            *faults += 1;
        }
        if (!more)
            return OCH_OK;
    }
}

och_code table_sum(struct session *session, enum table_id table, bool full, struct buf *report,
                   uint64_t *ret_count, uint32_t *ret_xor, uint64_t *ret_faults, och_error *err)
{
    CLEANUP(sql_cursor_done) struct cursor cursor = {.session = session, .table = (int)table};
    CLEANUP(buf_cleanup) struct buf text;
    buf_init(&text, BUF_MAX_NONE);
    // "NOT INDEXED" walks the table itself
    buf_printf(&text, "SELECT crc%s%s FROM %s NOT INDEXED", full ? "," : "",
               full ? sysdb_tables[table].columns : "", sysdb_tables[table].name);
    buf_byte(&text, 0);
    TRY(buf_check(&text, "a statement", err));
    sqlite3_stmt *statement = NULL;
    int rc = sqlite3_prepare_v2(session->connection, (const char *)text.at, -1, &statement, NULL);
    if (rc != SQLITE_OK)
        return sql_fail(session, rc, err);
    cursor.statement = statement;
    uint64_t count = 0, faults = 0;
    uint32_t sum = 0;
    och_code code = OCH_OK;
    if (full) {
        code = sum_full(&cursor, report, &count, &sum, &faults, err);
    } else {
        while ((rc = sqlite3_step(statement)) == SQLITE_ROW) {
            count++;
            sum ^= (uint32_t)sqlite3_column_int64(statement, 0);
        }
        if (rc != SQLITE_DONE)
            code = sql_fail(session, rc, err);
    }
    cursor.statement = NULL;
    (void)sqlite3_finalize(statement);
    TRY(code);
    *ret_count = count;
    *ret_xor = sum;
    *ret_faults = faults;
    return OCH_OK;
}

#define SUM_BYTES 12u /* per table: count u64, xor u32 */

static uint32_t meta_crc(const uint8_t *at, size_t len)
{
    return kernel_get()->crc32c(0, at, len);
}

/* One row: crc over format, generation, next and the sums of the tables. */
och_code sums_store(struct session *session, och_error *err)
{
    uint8_t image[24 + TABLE_COUNT * SUM_BYTES];
    store_u64(image, CATALOGUE_MAJOR);
    store_u64(image + 8, session->sysdb->sums.generation);
    store_u64(image + 16, (uint64_t)session->sysdb->sums.next);
    for (size_t i = 0; i < TABLE_COUNT; i++) {
        store_u64(image + 24 + i * SUM_BYTES, session->sysdb->sums.count[i]);
        store_u32(image + 24 + i * SUM_BYTES + 8, session->sysdb->sums.xor_crc[i]);
    }
    CLEANUP(sql_cursor_done) struct cursor cursor = {0};
    struct value values[] = {value_int(meta_crc(image, sizeof(image))), value_int(CATALOGUE_MAJOR),
                             value_u64(session->sysdb->sums.generation),
                             value_int(session->sysdb->sums.next),
                             value_blob(slice_make(image + 24, sizeof(image) - 24))};
    bool more;
    TRY(sql_query_begin(session, QUERY_META_SET, values, COUNT_OF(values), &cursor, err));
    return sql_query_next(&cursor, &more, err);
}

och_code sums_load(struct session *session, struct sums *ret_sums, size_t *ret_tables,
                   och_error *err)
{
    CLEANUP(sql_cursor_done) struct cursor cursor = {0};
    bool more;
    TRY(sql_query_begin(session, QUERY_META, NULL, 0, &cursor, err));
    TRY(sql_query_next(&cursor, &more, err));
    if (!more)
        return FAIL(err, OCH_CORRUPT, "catalogue %s: table meta has lost its row",
                    session->sysdb->path);
    sqlite3_stmt *statement = cursor.statement;
    uint8_t image[24 + TABLE_COUNT * SUM_BYTES] = {0};
    const uint8_t *sums = sqlite3_column_blob(statement, 4);
    int len = sqlite3_column_bytes(statement, 4);
    store_u64(image, (uint64_t)sqlite3_column_int64(statement, 1));
    store_u64(image + 8, (uint64_t)sqlite3_column_int64(statement, 2));
    store_u64(image + 16, (uint64_t)sqlite3_column_int64(statement, 3));
    bool sound = len > 0 && (size_t)len <= sizeof(image) - 24 && (size_t)len % SUM_BYTES == 0;
    if (sound && sums) {
        memcpy(image + 24, sums, (size_t)len); // an older format has fewer tables
        sound = sqlite3_column_int64(statement, 0) == meta_crc(image, 24 + (size_t)len);
    }
    if (!sound)
        return FAIL(err, OCH_CORRUPT,
                    "catalogue %s: table meta row (1) does not match its checksum",
                    session->sysdb->path);
    ret_sums->generation = load_u64(image + 8);
    ret_sums->next = (int64_t)load_u64(image + 16);
    for (size_t i = 0; i < TABLE_COUNT; i++) {
        ret_sums->count[i] = load_u64(image + 24 + i * SUM_BYTES);
        ret_sums->xor_crc[i] = load_u32(image + 24 + i * SUM_BYTES + 8);
    }
    *ret_tables = (size_t)len / SUM_BYTES;
    return OCH_OK;
}

och_code sums_check(struct session *session, const struct sums *sums, bool full, struct buf *report,
                    uint64_t *ret_faults, och_error *err)
{
    for (size_t i = 0; i < session->sysdb->table_count; i++) {
        uint64_t count = 0, faults = 0;
        uint32_t sum = 0;
        TRY(table_sum(session, (enum table_id)i, full, report, &count, &sum, &faults, err));
        bool same = count == sums->count[i] && sum == sums->xor_crc[i];
        if (!full && !same)
            return FAIL(err, OCH_CORRUPT,
                        "catalogue %s: table %s has %" PRIu64 " rows with checksum %08" PRIx32
                        ", expected %" PRIu64 " with %08" PRIx32,
                        session->sysdb->path, sysdb_tables[i].name, count, sum, sums->count[i],
                        sums->xor_crc[i]);
        if (full && !same)
            buf_printf(report,
                       "catalogue %s: table %s has %" PRIu64 " rows with checksum %08" PRIx32
                       ", expected %" PRIu64 " with %08" PRIx32 "\n",
                       session->sysdb->path, sysdb_tables[i].name, count, sum, sums->count[i],
                       sums->xor_crc[i]);
        *ret_faults += faults + (full && !same);
    }
    return OCH_OK;
}
