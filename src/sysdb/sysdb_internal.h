/* SPDX-License-Identifier: Apache-2.0 */
/* Inside sysdb/ only: the connection, its rows with their checksums, requests to the writer, snapshots. */
#ifndef SYSDB_SYSDB_INTERNAL_H
#define SYSDB_SYSDB_INTERNAL_H

#include "base/map.h"
#include "base/sched.h"
#include "base/vec.h"
#include "sysdb/sqlite_vfs.h"
#include "sysdb/sysdb.h"

#define CATALOGUE_MAJOR       3 /* a newer one is refused (D9) */
#define BATCH_ID_KEEP_MS      (15 * 60 * 1000)
#define SNAPSHOT_COUNT_MAX    65536u
#define SNAPSHOT_BYTES_MAX    (64u << 20)
#define WRITER_CACHE_BYTES    (12u << 20)
#define READER_CACHE_BYTES    (4u << 20)
#define JOURNAL_FRAMES        1000 /* of the write-ahead log before they are copied into the catalogue */
#define JOURNAL_FRAMES_MAX    8000 /* ... before readers are held up for it */
#define JOURNAL_FRAMES_FEW    32   /* ... before they are copied on a disk with less room than: */
#define JOURNAL_ROOM          (4ull << 20)
#define SCHEMA_OBJECT_MAX     64u
#define STATE_ACTIVE          SLICE("active")
#define STATE_TOMBSTONE       SLICE("tombstone")
#define FILE_UPLOADING        SLICE("uploading")
#define FILE_LIVE             SLICE("live")
#define FILE_DOOMED           SLICE("doomed")
#define DEFAULT_TENANT_NAME   SLICE("default_tenant")
#define DEFAULT_DATABASE_NAME SLICE("default_database")

struct session;

/* ---- rows (row.c) ---- */

/* The order is the order of their sums on disk: append only. */
enum table_id {
    TABLE_TENANT,
    TABLE_DB,
    TABLE_SCHEMA,
    TABLE_COLLECTION,
    TABLE_SCHEMA_KEY,
    TABLE_FILE,
    TABLE_VERSION_PART,
    TABLE_HOLE,
    TABLE_SEGMENT,
    TABLE_BATCH_ID,
    TABLE_LOG_END,
    // since format 2
    TABLE_FORK,
    TABLE_FUNCTION,
    TABLE_ALIAS,
    // since format 3
    TABLE_VERSION,
    TABLE_KEPT_PART,
    TABLE_COUNT
};
#define COLUMN_MAX 16

struct table {
    const char *name, *columns; /* key columns first; crc stands before them */
    uint8_t key_count, column_count;
};
extern const struct table sysdb_tables[TABLE_COUNT];

/* Columns by number: the order in sysdb_tables[]. */
enum { TENANT_ORD, TENANT_NAME, TENANT_RESOURCE };
enum { DB_ORD, DB_ID, DB_TENANT, DB_NAME };
enum { SCHEMA_ORD, SCHEMA_HASH, SCHEMA_JSON };
enum {
    COLLECTION_ORD,
    COLLECTION_ID,
    COLLECTION_DB,
    COLLECTION_NAME,
    COLLECTION_STATE,
    COLLECTION_SCHEMA,
    COLLECTION_VERSION,
    COLLECTION_LOG_OFFSET,
    COLLECTION_DIMENSION,
    COLLECTION_LAST_CREATED,
    COLLECTION_CREATED,
    COLLECTION_METADATA
};
enum { KEY_COLLECTION, KEY_KEY, KEY_TYPE };
enum { FILE_ID, FILE_STATE };
enum {
    PART_COLLECTION,
    PART_ORDINAL,
    PART_FILE,
    PART_OFF,
    PART_LEN,
    PART_DIR_OFF,
    PART_DIR_LEN,
    PART_DIR_CRC,
    PART_HEAD_LEN,
    PART_LINEAGE,
    PART_ROWS,
    PART_DELETED,
    PART_LOG_FROM,
    PART_LOG_TO,
    PART_DEAD
};
enum { HOLE_FILE, HOLE_OFF, HOLE_LEN };
enum { SEGMENT_ID, SEGMENT_SALT, SEGMENT_SIZE };
enum {
    BATCH_COLLECTION,
    BATCH_BATCH_ID,
    BATCH_HASH,
    BATCH_FIRST,
    BATCH_COUNT,
    BATCH_INSERTED,
    BATCH_UPDATED,
    BATCH_SKIPPED,
    BATCH_DELETED,
    BATCH_CREATED
};
enum { END_ONE, END_SEGMENT, END_BYTE, END_SEQUENCE };
enum { FORK_COLLECTION, FORK_TREE, FORK_ANCESTORS };
enum {
    FUNCTION_ID,
    FUNCTION_INPUT,
    FUNCTION_OUTPUT,
    FUNCTION_NAME,
    FUNCTION_FUNCTION,
    FUNCTION_ASYNC,
    FUNCTION_OUTPUT_NAME,
    FUNCTION_PARAMS,
    FUNCTION_COMPLETION,
    FUNCTION_BUILT,
    FUNCTION_MIN_RECORDS,
    FUNCTION_CREATED
};
enum { ALIAS_DB, ALIAS_NAME, ALIAS_TARGET, ALIAS_CREATED };
enum {
    VERSION_ORD,
    VERSION_ID,
    VERSION_COLLECTION,
    VERSION_NAME,
    VERSION_LOG_OFFSET,
    VERSION_DIMENSION,
    VERSION_LAST_CREATED,
    VERSION_TAKEN,
    VERSION_KEEP_UNTIL,
    VERSION_ROWS
}; /* columns of kept_part are those of version_part but for the first, PART_COLLECTION: the version's ord */

struct value {
    int kind; /* SQLITE_INTEGER, SQLITE_TEXT, SQLITE_BLOB, SQLITE_NULL */
    int64_t number;
    slice bytes;
};
struct row {
    enum table_id table;
    uint32_t crc;
    struct value at[COLUMN_MAX];
};
static inline struct value value_int(int64_t number)
{
    return (struct value){.kind = SQLITE_INTEGER, .number = number};
}
static inline struct value value_u64(uint64_t number)
{
    return value_int((int64_t)number);
}
static inline struct value value_text(slice text)
{
    return (struct value){.kind = SQLITE_TEXT, .bytes = text};
}
static inline struct value value_blob(slice bytes)
{
    return (struct value){.kind = SQLITE_BLOB, .bytes = bytes};
}
static inline struct value value_id(const uuid *id)
{
    return value_blob(uuid_slice(id));
}
static inline struct value value_null(void)
{
    return (struct value){.kind = SQLITE_NULL};
}

/* What changes in every transaction besides rows, kept in `meta`. */
struct sums {
    uint64_t count[TABLE_COUNT];
    uint32_t xor_crc[TABLE_COUNT];
    uint64_t generation;
    int64_t next; /* the next `ord` of any table */
};

/* ---- statements (sql.c) ---- */

enum query_id { /* each one prepared once, on its first use */
                QUERY_TENANT_BY_NAME,
                QUERY_TENANT_BY_RESOURCE,
                QUERY_TENANT_ALL,
                QUERY_DB_BY_NAME,
                QUERY_DB_BY_TENANT,
                QUERY_DB_ALL,
                QUERY_SCHEMA_BY_HASH,
                QUERY_COLLECTION_BY_ID,
                QUERY_COLLECTION_BY_NAME,
                QUERY_COLLECTION_AFTER,
                QUERY_COLLECTION_TOMBSTONES,
                QUERY_COLLECTION_ACTIVE,
                QUERY_KEYS,
                QUERY_FILE_LIVE,
                QUERY_FILE_DOOMED,
                QUERY_FILE_UPLOADING,
                QUERY_PARTS,
                QUERY_HOLES,
                QUERY_HOLES_OF_FILE,
                QUERY_SEGMENTS,
                QUERY_BATCHES_OF_COLLECTION,
                QUERY_BATCHES_BEFORE,
                QUERY_LOG_END,
                QUERY_FORK,
                QUERY_FUNCTIONS,
                QUERY_FUNCTIONS_OF_INPUT,
                QUERY_FUNCTIONS_OF_OUTPUT,
                QUERY_FUNCTION_BY_NAME,
                QUERY_ALIASES,
                QUERY_ALIASES_OF,
                QUERY_ALIAS_BY_NAME,
                QUERY_KEPT,
                QUERY_KEPT_BY_ID,
                QUERY_KEPT_UNTIL,
                QUERY_KEPT_PARTS,
                QUERY_ROW_COUNT, /* the ones above give rows of a table */
                QUERY_COLLECTION_COUNT = QUERY_ROW_COUNT,
                QUERY_COLLECTION_WALK,
                QUERY_SCHEMA_USED,
                QUERY_FILE_USED,
                QUERY_RANGE_USED,
                QUERY_FORK_COUNT,
                QUERY_META,
                QUERY_META_SET,
                QUERY_BEGIN,
                QUERY_COMMIT,
                QUERY_BEGIN_READ,
                QUERY_ROLLBACK,
                QUERY_SAVE,
                QUERY_SAVE_RELEASE,
                QUERY_SAVE_ROLLBACK,
                QUERY_COUNT
};
/* A running statement; reset at the end of its scope. */
struct cursor {
    sqlite3_stmt *statement;
    struct session *session;
    int table; /* of the rows it gives, or -1 */
};
void sql_cursor_done(struct cursor *cursor);
MUST_USE och_code sql_query_begin(struct session *session, enum query_id query,
                                  const struct value *values, size_t count,
                                  struct cursor *ret_cursor, och_error *err);
/* Step to the next row of any query. */
MUST_USE och_code sql_query_next(struct cursor *cursor, bool *ret_more, och_error *err);
/* Run a query that gives no rows (its result may be dropped when cleaning up). */
och_code sql_query_run(struct session *session, enum query_id query, och_error *err);
/* The first column of the first row; *ret_found false if there is none. */
MUST_USE och_code sql_query_number(struct session *session, enum query_id query,
                                   const struct value *values, size_t count, int64_t *ret_number,
                                   bool *ret_found, och_error *err);
/* Several statements that give nothing. */
och_code sql_run(struct session *session, const char *text, och_error *err);
och_code sql_fail(struct session *session, int rc, och_error *err);
void sql_close_statements(struct session *session);

/* Rows live in the arena.  Each is checked against its crc: OCH_CORRUPT names table and key.  A table that a catalogue of
 * an older format, open for reading only, does not have yet gives no rows. */
MUST_USE och_code table_row_next(struct cursor *cursor, struct arena *arena, struct row *ret_row,
                                 bool *ret_more, och_error *err);
MUST_USE och_code table_row_find(struct session *session, enum query_id query,
                                 const struct value *values, size_t count, struct arena *arena,
                                 struct row *ret_row, bool *ret_found, och_error *err);
MUST_USE och_code table_row_get(struct session *session, enum table_id table,
                                const struct value *key, struct arena *arena, struct row *ret_row,
                                bool *ret_found, och_error *err);
/* Errors: OCH_EXISTS (unique), OCH_CONFLICT (foreign key), with messages that the caller replaces. */
MUST_USE och_code table_row_insert(struct session *session, struct row *row, och_error *err);
/* `row` was read in this transaction; its key columns are unchanged. */
MUST_USE och_code table_row_update(struct session *session, struct row *row, och_error *err);
MUST_USE och_code table_row_delete(struct session *session, const struct row *row, och_error *err);
/* Delete all rows that a query finds. */
MUST_USE och_code table_rows_delete(struct session *session, enum query_id query,
                                    const struct value *values, size_t count, och_error *err);
uint32_t table_row_crc(const struct row *row);
/* Count and XOR of a table's crcs as the rows say; full: every row against its crc, faults appended to report. */
MUST_USE och_code table_sum(struct session *session, enum table_id table, bool full,
                            struct buf *report, uint64_t *ret_count, uint32_t *ret_xor,
                            uint64_t *ret_faults, och_error *err);
/* *ret_tables: how many tables this catalogue has; the others' sums are zero. */
MUST_USE och_code sums_load(struct session *session, struct sums *ret_sums, size_t *ret_tables,
                            och_error *err);
MUST_USE och_code sums_store(struct session *session, och_error *err);
MUST_USE och_code sums_check(struct session *session, const struct sums *sums, bool full,
                             struct buf *report, uint64_t *ret_faults, och_error *err);

/* ---- migrations (migrate.c) ---- */

/* Make a whole new catalogue under a temporary name and rename it into place. */
MUST_USE och_code catalogue_create(const struct sysdb_options *options, och_error *err);
/* Read the format and bring it up to date; refuse a newer one. */
MUST_USE och_code catalogue_migrate(struct session *session, och_error *err);
MUST_USE och_code session_connect(struct session *session, const char *path, bool create,
                                  och_error *err);
och_code session_disconnect(struct session *session, och_error *err);
/* Ready for session_connect; session_close frees all of it, also a half-built one. */
MUST_USE och_code session_open(struct sysdb *sysdb, struct session *session, och_error *err);
och_code session_close(struct session *session, och_error *err);
/* Tenant and database that every catalogue begins with. */
MUST_USE och_code defaults_create(struct session *session, och_error *err);

/* ---- the writer (writer.c) ---- */

/* One write: `run` is called in a transaction on the writer's thread and may fail alone. */
struct request {
    och_code (*run)(struct session *session, void *arg, och_error *err);
    void *arg;
    och_code code;
    och_error error;
    bool done;
    struct cond cond;
    struct request *next;
};
MUST_USE och_code sysdb_writer_start(struct sysdb *sysdb, och_error *err);
void sysdb_writer_stop(struct sysdb *sysdb);
/* Runs the request and waits until it is durable or failed. */
MUST_USE och_code sysdb_write_run(struct sysdb *sysdb,
                                  och_code (*run)(struct session *session, void *arg,
                                                  och_error *err),
                                  void *arg, och_error *err);
/* The reading session belongs to one caller at a time, first come, first served; within a turn all statements see one
 * state of the catalogue. */
MUST_USE och_code session_turn_take(struct sysdb *sysdb, och_error *err);
void session_turn_give(struct sysdb *sysdb);
/* CLEANUP(session_turn_cleanup) struct session *session = NULL; TRY(session_turn_enter(sysdb, &session, err)); */
MUST_USE och_code session_turn_enter(struct sysdb *sysdb, struct session **ret_session,
                                     och_error *err);
void session_turn_cleanup(struct session **session);

/* ---- snapshots (snapshot.c) ---- */

struct snapshot_cache {
    struct mutex mutex; /* guards: all below.  RANK_SYSDB + 1 */
    struct map by_id, by_name;
    struct snapshot *newest, *oldest; /* least recently used last */
    size_t count, bytes;
    size_t count_max, bytes_max;
    struct budget *budget;
    uint64_t epoch; /* grows when something is removed */
};
struct schema_object;
void snapshot_cache_init(struct snapshot_cache *cache);
void snapshot_cache_done(struct snapshot_cache *cache);
const struct sysdb_collection *snapshot_cache_get(struct snapshot_cache *cache, uuid id);
const struct sysdb_collection *snapshot_cache_find(struct snapshot_cache *cache, slice tenant,
                                                   slice database, slice name);
uint64_t snapshot_cache_epoch(struct snapshot_cache *cache);
/* Does nothing when something was removed since `epoch`: the snapshot may be older than that change. */
void snapshot_cache_put(struct snapshot_cache *cache, const struct sysdb_collection *collection,
                        uint64_t epoch);
void snapshot_cache_remove(struct snapshot_cache *cache, uuid id);
void snapshot_cache_clear(struct snapshot_cache *cache);
/* From a row that is active, in the turn.  db and tenant may be NULL: then they are read. */
MUST_USE och_code snapshot_build(struct session *session, const struct row *collection,
                                 const struct row *db, const struct row *tenant,
                                 const struct sysdb_collection **ret_collection, och_error *err);
/* A snapshot that nobody else has yet is one of a kept version. */
void snapshot_mark_kept(const struct sysdb_collection *collection);
void schema_objects_done(struct session *session);
/* A change of this collection is part of the transaction under way. */
void snapshot_touch(struct session *session, uuid id);
void snapshot_touch_all(struct session *session);
/* Give this snapshot to the cache when the transaction commits. */
void snapshot_publish_later(struct session *session, const struct sysdb_collection *collection);

/* ---- shared pieces ---- */

/* The row of a tenant or database by name, in the turn. */
MUST_USE och_code sysdb_scope_find(struct session *session, slice tenant, slice database,
                                   struct arena *arena, struct row *ret_tenant, struct row *ret_db,
                                   bool *ret_found, och_error *err);
MUST_USE och_code collection_row(struct session *session, uuid id, struct row *ret_row,
                                 och_error *err);
och_code collection_missing(uuid id, och_error *err);
och_code collection_name_taken(slice name, och_error *err);
/* The row of a collection in the tree of forks; one that is no fork is the root of its own. */
MUST_USE och_code fork_row(struct session *session, const struct row *collection,
                           struct row *ret_row, och_error *err);
/* In a write: a new collection in a database (by its ord), of this dimension, 0: not fixed.  OCH_EXISTS: the name, or else the id. */
MUST_USE och_code collection_insert(struct session *session,
                                    const struct sysdb_collection_new *spec, int64_t db,
                                    uint32_t dimension, struct row *ret_row, och_error *err);
/* In a write: the functions that read from a collection or write to it. */
MUST_USE och_code functions_bury(struct session *session, struct value collection, och_error *err);
/* An alias by name, in the turn; its collection's row; OCH_EXISTS when a collection's new name is one; all of a collection, in a write. */
MUST_USE och_code alias_find(struct session *session, struct value db, slice name,
                             struct row *ret_row, bool *ret_found, och_error *err);
MUST_USE och_code alias_target(struct session *session, const struct row *alias,
                               struct row *ret_collection, och_error *err);
MUST_USE och_code alias_check_free(struct session *session, struct value db, slice name,
                                   och_error *err);
MUST_USE och_code aliases_bury(struct session *session, struct value collection, och_error *err);
/* A kept version by its id, in the turn. */
MUST_USE och_code kept_find(struct session *session, uuid id, struct row *ret_row, bool *ret_found,
                            och_error *err);
/* The row of a collection, or for the id of a kept version that with the version's offsets and dimension, and the version's own row. */
MUST_USE och_code row_of_id(struct session *session, uuid id, struct row *ret_row,
                            struct row *ret_kept, bool *ret_is_kept, och_error *err);
/* In a write: keep the version that a collection has, as its row says; the row of what is kept, which refers to `id`, may be NULL. */
MUST_USE och_code kept_add(struct session *session, const struct row *collection, const uuid *id,
                           struct value name, int64_t taken_at, int64_t keep_until,
                           struct row *ret_row, och_error *err);
/* In a write: keep it for as long as the collection's metadata or the database says, if at all; it is about to be replaced. */
MUST_USE och_code kept_retain(struct session *session, const struct row *collection, uuid id,
                              och_error *err);
/* In a write: all that a collection keeps. */
MUST_USE och_code kept_bury(struct session *session, struct value collection, och_error *err);
/* In a write: turn an active collection into a tombstone and give up all it refers to. */
MUST_USE och_code collection_bury(struct session *session, struct row *row, och_error *err);
/* Parts that lost a reference: doom their files or note holes. */
MUST_USE och_code parts_release(struct session *session, const struct row *parts, size_t count,
                                och_error *err);
typedef VEC(struct row) row_list;
MUST_USE och_code table_rows_collect(struct session *session, enum query_id query,
                                     const struct value *values, size_t count, struct arena *arena,
                                     row_list *list, och_error *err);

/* A connection and what belongs to it. */
struct session {
    struct sysdb *sysdb;
    struct sqlite_vfs *vfs;
    sqlite3 *connection;
    sqlite3_stmt *queries[QUERY_COUNT];
    sqlite3_stmt *inserts[TABLE_COUNT], *updates[TABLE_COUNT], *deletes[TABLE_COUNT],
        *gets[TABLE_COUNT];
    struct arena scratch; /* emptied at the start of each turn and request */
    struct schema_object *schemas[SCHEMA_OBJECT_MAX];
    size_t schema_hand;
    uint64_t epoch; /* of the cache when the turn began */
};

struct sysdb {
    struct io *io;
    struct clock *clock;
    struct trace *trace;
    char *path;
    bool read_only;
    int64_t retention_ms; /* of superseded versions */
    size_t table_count; /* set at open: less than TABLE_COUNT if read_only and of an older format */
    struct sqlite_shared *shared;

    struct mutex mutex; /* guards: turns, queue, states.  RANK_SYSDB */
    struct cond turn_cond, queue_cond;
    uint64_t turn_next, turn_now;
    struct request *queue_first, *queue_last;
    bool stopping, closed;
    struct thread thread;

    struct session reader; /* in the turn only */
    struct session writer; /* on the writer's thread only, as all below */
    struct sums sums, committed;
    bool changed;         /* by the request under way */
    bool restart_journal; /* the log's end may hold a torn commit: start the log anew first */
    int journal_frames;
    VEC(uuid) touched;
    bool touched_all;
    VEC(const struct sysdb_collection *) published;

    struct snapshot_cache cache;
    _Atomic uint64_t generation;
};
#endif
