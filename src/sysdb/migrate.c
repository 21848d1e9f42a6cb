/* SPDX-License-Identifier: Apache-2.0 */
/* The catalogue's SQL, as numbered steps that only go forward: step n brings format n to n + 1. */
#include "sysdb/sysdb_internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* Tables without rowid name their key columns first: SQLite 3.40's integrity check mixes up columns otherwise. */
static const char *const steps[CATALOGUE_MAJOR] = {
    // format 0, an empty file, to 1
    "CREATE TABLE meta("
    " one INTEGER PRIMARY KEY CHECK(one=1),"
    " crc INTEGER NOT NULL, format INTEGER NOT NULL, generation INTEGER NOT NULL,"
    " next INTEGER NOT NULL, sums BLOB NOT NULL) STRICT;"
    "INSERT INTO meta VALUES(1,0,0,0,1,x'');"
    "CREATE TABLE tenant("
    " ord INTEGER PRIMARY KEY, crc INTEGER NOT NULL,"
    " name TEXT NOT NULL UNIQUE, resource_name TEXT UNIQUE) STRICT;"
    "CREATE TABLE db("
    " ord INTEGER PRIMARY KEY, crc INTEGER NOT NULL,"
    " id BLOB NOT NULL UNIQUE CHECK(length(id)=16),"
    " tenant INTEGER NOT NULL REFERENCES tenant(ord),"
    " name TEXT NOT NULL, UNIQUE(tenant,name)) STRICT;"
    "CREATE TABLE schema("
    " ord INTEGER PRIMARY KEY, crc INTEGER NOT NULL,"
    " hash INTEGER NOT NULL, json TEXT NOT NULL) STRICT;"
    "CREATE INDEX schema_hash ON schema(hash);"
    "CREATE TABLE collection("
    " ord INTEGER PRIMARY KEY, crc INTEGER NOT NULL,"
    " id BLOB NOT NULL UNIQUE CHECK(length(id)=16),"
    " db INTEGER REFERENCES db(ord), name TEXT NOT NULL,"
    " state TEXT NOT NULL CHECK(state IN ('active','tombstone')),"
    " schema INTEGER REFERENCES schema(ord),"
    " cur_version INTEGER NOT NULL CHECK(cur_version>=0),"
    " log_offset INTEGER NOT NULL, dimension INTEGER NOT NULL CHECK(dimension>=0),"
    " last_created_at INTEGER NOT NULL, created_at INTEGER NOT NULL, metadata BLOB,"
    " CHECK((state='active')=(db IS NOT NULL)), CHECK((db IS NULL)=(schema IS NULL))) STRICT;"
    "CREATE UNIQUE INDEX collection_name ON collection(db,name) WHERE state='active';"
    "CREATE INDEX collection_db ON collection(db) WHERE db IS NOT NULL;"
    "CREATE INDEX collection_schema ON collection(schema) WHERE schema IS NOT NULL;"
    "CREATE INDEX collection_tombstone ON collection(id) WHERE state='tombstone';"
    "CREATE TABLE schema_key("
    " collection INTEGER NOT NULL REFERENCES collection(ord), key TEXT NOT NULL,"
    " type INTEGER NOT NULL, crc INTEGER NOT NULL,"
    " PRIMARY KEY(collection,key,type)) STRICT, WITHOUT ROWID;"
    "CREATE TABLE file("
    " id BLOB NOT NULL PRIMARY KEY CHECK(length(id)=16), crc INTEGER NOT NULL,"
    " state TEXT NOT NULL CHECK(state IN ('uploading','live','doomed')),"
    " UNIQUE(id,state)) STRICT, WITHOUT ROWID;"
    "CREATE INDEX file_doomed ON file(id) WHERE state='doomed';"
    "CREATE INDEX file_uploading ON file(id) WHERE state='uploading';"
    "CREATE TABLE version_part("
    " collection INTEGER NOT NULL REFERENCES collection(ord), ordinal INTEGER NOT NULL,"
    " crc INTEGER NOT NULL, file BLOB NOT NULL,"
    " ref_state TEXT NOT NULL DEFAULT 'live' CHECK(ref_state='live'),"
    " off INTEGER NOT NULL, len INTEGER NOT NULL, dir_off INTEGER NOT NULL,"
    " dir_len INTEGER NOT NULL, dir_crc INTEGER NOT NULL, head_len INTEGER NOT NULL,"
    " lineage BLOB NOT NULL CHECK(length(lineage)=16), rows INTEGER NOT NULL,"
    " deleted INTEGER NOT NULL CHECK(deleted BETWEEN 0 AND rows),"
    " log_from INTEGER NOT NULL, log_to INTEGER NOT NULL CHECK(log_to>=log_from),"
    " dead BLOB NOT NULL, PRIMARY KEY(collection,ordinal),"
    " FOREIGN KEY(file,ref_state) REFERENCES file(id,state)) STRICT, WITHOUT ROWID;"
    "CREATE INDEX version_part_file ON version_part(file,off);"
    "CREATE TABLE hole("
    " file BLOB NOT NULL REFERENCES file(id), off INTEGER NOT NULL, crc INTEGER NOT NULL,"
    " len INTEGER NOT NULL, PRIMARY KEY(file,off)) STRICT, WITHOUT ROWID;"
    "CREATE TABLE segment("
    " id INTEGER PRIMARY KEY, crc INTEGER NOT NULL,"
    " salt INTEGER NOT NULL, size INTEGER NOT NULL) STRICT;"
    "CREATE TABLE batch_id("
    " collection INTEGER NOT NULL REFERENCES collection(ord),"
    " batch_id BLOB NOT NULL CHECK(length(batch_id)=16), crc INTEGER NOT NULL,"
    " request_hash INTEGER NOT NULL, first INTEGER NOT NULL, count INTEGER NOT NULL,"
    " inserted INTEGER NOT NULL, updated INTEGER NOT NULL, skipped INTEGER NOT NULL,"
    " deleted INTEGER NOT NULL, created_at INTEGER NOT NULL,"
    " PRIMARY KEY(collection,batch_id)) STRICT, WITHOUT ROWID;"
    "CREATE INDEX batch_id_age ON batch_id(created_at);"
    "CREATE TABLE log_end("
    " one INTEGER PRIMARY KEY CHECK(one=1), crc INTEGER NOT NULL,"
    " segment INTEGER NOT NULL, byte INTEGER NOT NULL, sequence INTEGER NOT NULL) STRICT;",
    // format 1 to 2: what a table refers to stands in it, so that tables of format 1 stay as they are
    "CREATE TABLE fork("
    " collection INTEGER PRIMARY KEY REFERENCES collection(ord), crc INTEGER NOT NULL,"
    " tree BLOB NOT NULL CHECK(length(tree)=16),"
    " ancestors BLOB NOT NULL CHECK(length(ancestors)>=16 AND length(ancestors)%16=0)) STRICT;"
    "CREATE INDEX fork_tree ON fork(tree);"
    "CREATE TABLE function("
    " id BLOB NOT NULL CHECK(length(id)=16), input INTEGER NOT NULL REFERENCES collection(ord),"
    " crc INTEGER NOT NULL, output INTEGER NOT NULL REFERENCES collection(ord),"
    " name TEXT NOT NULL, function TEXT NOT NULL, is_async INTEGER NOT NULL CHECK(is_async IN "
    "(0,1)),"
    " output_name TEXT NOT NULL, params TEXT NOT NULL,"
    " completion INTEGER NOT NULL CHECK(completion>=0), built INTEGER NOT NULL CHECK(built IN "
    "(0,1)),"
    " min_records INTEGER NOT NULL, created_at INTEGER NOT NULL,"
    " PRIMARY KEY(id,input), UNIQUE(input,is_async), UNIQUE(input,name)) STRICT, WITHOUT ROWID;"
    "CREATE INDEX function_output ON function(output);"
    "CREATE TABLE alias("
    " db INTEGER NOT NULL REFERENCES db(ord), name TEXT NOT NULL, crc INTEGER NOT NULL,"
    " target INTEGER NOT NULL REFERENCES collection(ord), created_at INTEGER NOT NULL,"
    " PRIMARY KEY(db,name)) STRICT, WITHOUT ROWID;"
    "CREATE INDEX alias_target ON alias(target);",
    // format 2 to 3: versions that are kept, and what they refer to
    "CREATE TABLE version("
    " ord INTEGER PRIMARY KEY, crc INTEGER NOT NULL,"
    " id BLOB NOT NULL UNIQUE CHECK(length(id)=16),"
    " collection INTEGER NOT NULL REFERENCES collection(ord), name TEXT,"
    " log_offset INTEGER NOT NULL, dimension INTEGER NOT NULL CHECK(dimension>=0),"
    " last_created_at INTEGER NOT NULL, taken_at INTEGER NOT NULL,"
    " keep_until INTEGER NOT NULL, rows INTEGER NOT NULL CHECK(rows>=0),"
    " UNIQUE(collection,name), CHECK((name IS NULL)=(keep_until>0))) STRICT;"
    "CREATE INDEX version_order ON version(collection,log_offset);"
    "CREATE INDEX version_keep ON version(keep_until) WHERE keep_until>0;"
    "CREATE TABLE kept_part("
    " version INTEGER NOT NULL REFERENCES version(ord), ordinal INTEGER NOT NULL,"
    " crc INTEGER NOT NULL, file BLOB NOT NULL,"
    " ref_state TEXT NOT NULL DEFAULT 'live' CHECK(ref_state='live'),"
    " off INTEGER NOT NULL, len INTEGER NOT NULL, dir_off INTEGER NOT NULL,"
    " dir_len INTEGER NOT NULL, dir_crc INTEGER NOT NULL, head_len INTEGER NOT NULL,"
    " lineage BLOB NOT NULL CHECK(length(lineage)=16), rows INTEGER NOT NULL,"
    " deleted INTEGER NOT NULL CHECK(deleted BETWEEN 0 AND rows),"
    " log_from INTEGER NOT NULL, log_to INTEGER NOT NULL CHECK(log_to>=log_from),"
    " dead BLOB NOT NULL, PRIMARY KEY(version,ordinal),"
    " FOREIGN KEY(file,ref_state) REFERENCES file(id,state)) STRICT, WITHOUT ROWID;"
    "CREATE INDEX kept_part_file ON kept_part(file,off);",
};

och_code session_connect(struct session *session, const char *path, bool create, och_error *err)
{
    int flags = session->sysdb->read_only ? SQLITE_OPEN_READONLY : SQLITE_OPEN_READWRITE;
    flags |= create ? SQLITE_OPEN_CREATE : 0;
    int rc = sqlite3_open_v2(path, &session->connection,
                             flags | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE,
                             sqlite_vfs_name(session->vfs));
    if (rc != SQLITE_OK)
        return sql_fail(session, rc, err);
    static const struct {
        int option, value;
    } settings[] = {
        {SQLITE_DBCONFIG_DEFENSIVE, 1},   {SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0},
        {SQLITE_DBCONFIG_ENABLE_FKEY, 1}, {SQLITE_DBCONFIG_ENABLE_TRIGGER, 0},
        {SQLITE_DBCONFIG_ENABLE_VIEW, 0}, {SQLITE_DBCONFIG_DQS_DDL, 0},
        {SQLITE_DBCONFIG_DQS_DML, 0},     {SQLITE_DBCONFIG_ENABLE_LOAD_EXTENSION, 0},
    };
    for (size_t i = 0; i < COUNT_OF(settings); i++) {
        rc = sqlite3_db_config(session->connection, settings[i].option, settings[i].value, NULL);
        if (rc != SQLITE_OK)
            return sql_fail(session, rc, err);
    }
    int reserved = (int)CATALOGUE_RESERVED; // taken by a new file only
    (void)sqlite3_file_control(session->connection, "main", SQLITE_FCNTL_RESERVE_BYTES, &reserved);
    char text[400];
    unsigned cache_bytes =
        session == &session->sysdb->writer ? WRITER_CACHE_BYTES : READER_CACHE_BYTES;
    (void)snprintf(text, sizeof(text),
                   "PRAGMA page_size=%u; PRAGMA journal_mode=%s;"
                   "PRAGMA synchronous=FULL; PRAGMA temp_store=MEMORY; PRAGMA cache_size=-%u;"
                   "PRAGMA cell_size_check=ON; PRAGMA secure_delete=FAST;"
                   "PRAGMA journal_size_limit=16777216;",
                   CATALOGUE_PAGE, create ? "MEMORY" : "WAL", cache_bytes / 1024);
    return sql_run(session, text, err);
}

och_code session_disconnect(struct session *session, och_error *err)
{
    if (!session->connection)
        return OCH_OK;
    sql_close_statements(session);
    int rc = sqlite3_close(session->connection);
    if (rc != SQLITE_OK)
        return sql_fail(session, rc, err);
    session->connection = NULL;
    return OCH_OK;
}

och_code session_open(struct sysdb *sysdb, struct session *session, och_error *err)
{
    session->sysdb = sysdb;
    arena_init(&session->scratch, NULL, 0);
    return sqlite_vfs_new(sysdb->io, sysdb->clock, sysdb->read_only, sysdb->shared, &session->vfs,
                          err);
}

och_code session_close(struct session *session, och_error *err)
{
    och_code code = session_disconnect(session, err);
    sqlite_vfs_free(session->vfs);
    session->vfs = NULL;
    schema_objects_done(session);
    arena_done(&session->scratch);
    return code;
}

static och_code add_row(struct session *session, struct row row, och_error *err)
{
    return table_row_insert(session, &row, err);
}

och_code defaults_create(struct session *session, och_error *err)
{
    const uuid zero = {{0}}; // the id that clients know
    int64_t tenant = session->sysdb->sums.next++, db = session->sysdb->sums.next++;
    TRY(add_row(
        session,
        (struct row){.table = TABLE_TENANT,
                     .at = {value_int(tenant), value_text(DEFAULT_TENANT_NAME), value_null()}},
        err));
    return add_row(session,
                   (struct row){.table = TABLE_DB,
                                .at = {value_int(db), value_id(&zero), value_int(tenant),
                                       value_text(DEFAULT_DATABASE_NAME)}},
                   err);
}

static och_code stored_format(struct session *session, int64_t *ret_format, och_error *err)
{
    sqlite3_stmt *statement = NULL;
    int rc =
        sqlite3_prepare_v2(session->connection, "SELECT format FROM meta", -1, &statement, NULL);
    if (rc == SQLITE_ERROR) // no such table
        return FAIL(err, OCH_CORRUPT, "catalogue %s: table meta is missing", session->sysdb->path);
    och_code code = OCH_OK;
    if (rc == SQLITE_OK) {
        rc = sqlite3_step(statement);
        if (rc == SQLITE_ROW)
            *ret_format = sqlite3_column_int64(statement, 0);
        else if (rc == SQLITE_DONE)
            code = FAIL(err, OCH_CORRUPT, "catalogue %s: table meta has lost its row",
                        session->sysdb->path);
    }
    if (rc != SQLITE_OK && rc != SQLITE_ROW && rc != SQLITE_DONE)
        code = sql_fail(session, rc, err);
    (void)sqlite3_finalize(statement);
    return code;
}

/* One step, with the format number, in one transaction. */
static och_code run_steps(struct session *session, int64_t from, och_error *err)
{
    TRY(sql_run(session, "BEGIN IMMEDIATE", err));
    for (int64_t i = from; i < CATALOGUE_MAJOR; i++)
        TRY(sql_run(session, steps[i], err));
    return OCH_OK;
}

och_code catalogue_migrate(struct session *session, och_error *err)
{
    int64_t format = 0;
    uint64_t faults = 0;
    TRY(stored_format(session, &format, err));
    if (format > CATALOGUE_MAJOR)
        return FAIL(err, OCH_INVALID,
                    "catalogue %s has format %" PRId64 ", this program reads up to %d: use a newer "
                    "one",
                    session->sysdb->path, format, CATALOGUE_MAJOR);
    if (format < 1)
        return FAIL(err, OCH_CORRUPT, "catalogue %s has format %" PRId64, session->sysdb->path,
                    format);
    TRY(sums_load(session, &session->sysdb->sums, &session->sysdb->table_count, err));
    if (format == CATALOGUE_MAJOR || session->sysdb->read_only)
        return OCH_OK;
    TRY(sums_check(session, &session->sysdb->sums, false, NULL, &faults, err));
    och_code code = run_steps(session, format, err);
    session->sysdb->table_count = TABLE_COUNT;
    session->sysdb->sums.generation++;
    if (code == OCH_OK)
        code = sums_store(session, err);
    if (code == OCH_OK)
        code = sql_run(session, "COMMIT", err);
    if (code != OCH_OK) {
        (void)sql_run(session, "ROLLBACK", NULL);
        return code;
    }
    return sums_load(session, &session->sysdb->sums, &session->sysdb->table_count, err);
}

static och_code fill(struct session *session, const char *path, och_error *err)
{
    TRY(session_connect(session, path, true, err));
    TRY(run_steps(session, 0, err));
    session->sysdb->sums = (struct sums){.generation = 1, .next = 1};
    session->sysdb->table_count = TABLE_COUNT;
    TRY(defaults_create(session, err));
    TRY(sums_store(session, err));
    TRY(sql_run(session, "COMMIT", err));
    // the last step: from here on the file asks for a write-ahead log
    TRY(sql_run(session, "PRAGMA journal_mode=WAL", err));
    return session_disconnect(session, err);
}

static och_code sync_folder_of(struct io *io, const char *path, och_error *err)
{
    const char *slash = strrchr(path, '/');
    if (!slash)
        return io_sync_folder(io, ".", err);
    CLEANUP(mem_cleanup) char *folder = mem_copy_text(path, (size_t)(slash - path));
    if (!folder)
        return FAIL_NO_MEMORY(err, "a path");
    return io_sync_folder(io, folder[0] ? folder : "/", err);
}

static och_code remove_if_there(struct io *io, const char *path, och_error *err)
{
    och_error failed = {0};
    och_code code = io_remove(io, path, &failed);
    if (code == OCH_OK || code == OCH_NOT_FOUND)
        return OCH_OK;
    if (err)
        *err = failed;
    return code;
}

och_code catalogue_create(const struct sysdb_options *options, och_error *err)
{
    CLEANUP(buf_cleanup) struct buf path;
    buf_init(&path, BUF_MAX_NONE);
    buf_printf(&path, "%s.new", options->path);
    buf_byte(&path, 0);
    buf_printf(&path, "%s.new-wal", options->path);
    buf_byte(&path, 0);
    TRY(buf_check(&path, "a path", err));
    const char *made = (const char *)path.at, *made_wal = made + strlen(made) + 1;
    TRY(remove_if_there(options->io, made, err)); // left by an earlier try
    TRY(remove_if_there(options->io, made_wal, err));
    struct sysdb *sysdb = MEM_NEW(struct sysdb); // as much of one as writing takes
    if (!sysdb)
        return FAIL_NO_MEMORY(err, "the catalogue");
    sysdb->path = (char *)path.at;
    sysdb->io = options->io;
    sysdb->clock = options->clock;
    och_code code = sqlite_shared_new(&sysdb->shared, err);
    if (code == OCH_OK)
        code = session_open(sysdb, &sysdb->writer, err);
    if (code == OCH_OK)
        code = fill(&sysdb->writer, made, err);
    (void)session_close(&sysdb->writer, NULL);
    sqlite_shared_free(sysdb->shared);
    mem_free(sysdb);
    TRY(code);
    CLEANUP(file_cleanup) struct file *file = NULL;
    TRY(io_open(options->io, made, IO_WRITE, &file, err));
    TRY(file_sync(file, err));
    TRY(io_rename(options->io, made, options->path, err));
    return sync_folder_of(options->io, options->path, err);
}
