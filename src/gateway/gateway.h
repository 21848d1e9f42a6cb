/* SPDX-License-Identifier: Apache-2.0 */
/* The Gateway: identity, quota, rate limits, validation, routing.  Two faces over one set of rules: the HTTP handler (http/), used by
 * sockets and by the embedded exchange, and the typed calls below, used by http/ itself and by the C library. */
#ifndef GATEWAY_GATEWAY_H
#define GATEWAY_GATEWAY_H

#include "compact/compact.h"
#include "function/function.h"
#include "net/http.h"
#include "query/query.h"

struct gateway;
struct gateway_options {
    struct sysdb *sysdb;
    struct wal *wal;
    struct views *views;
    struct query *query;
    struct compactor *compactor;
    struct functions *functions; /* NULL: none are attached */
    uint64_t function_records;   /* that wait before one runs; 0: FUNCTION_MIN_RECORDS */
    uint64_t forks_max;          /* in a tree of them; 0: LIMIT_FORK_EDGES */
    struct budget *budget;
    struct clock *clock;
    struct trace *trace;
    bool allow_reset;
    bool log_requests; /* a line of each, at info */
    uint64_t body_bytes_max;
    unsigned thread_count; /* num_threads of default schemas */
    const slice *cors_origins;
    size_t cors_origin_count;
    const char *version; /* of the product */
    /** Add the figures of the components to GET /metrics, as base/metric.h writes them.  NULL: only those of the gateway. */
    void (*write_metrics)(void *context, struct buf *out);
    void *metrics_context;
};
MUST_USE och_code gateway_new(const struct gateway_options *options, struct gateway **ret_gateway,
                              och_error *err);
void gateway_free(struct gateway *gateway);
/** What the HTTP server and the embedded exchange call. */
struct http_handler gateway_handler(struct gateway *gateway);

/** On whose behalf and where. */
struct gateway_scope {
    slice tenant, database;
    struct limits_of_work limits;
    uint64_t as_of; /* gateway_read, gateway_export_new: at the state of this read token; 0: now */
    const struct gateway_version_ref *version; /* the same: or at this version; NULL: now */
};
/** Which version of a collection is meant. */
struct gateway_version_ref {
    enum { GATEWAY_BY_NUMBER, GATEWAY_BY_NAME, GATEWAY_BY_TIME } by;
    uint64_t number;
    slice name;
    int64_t time_ms; /* the newest one of then or before */
};
struct gateway_counts {
    uint64_t inserted, updated, skipped, deleted;
};
/** A key under which a request is applied once (D17). */
struct gateway_once {
    uuid batch_id; /* zero = none */
    uint64_t request_hash;
};
/** Most seconds that a record can be given to live: some ten thousand years. */
#define GATEWAY_TTL_MAX INT64_C(315360000000)
/** When a record of now expires, in ms since 1970, by the gateway's clock.  Seconds: 1 to GATEWAY_TTL_MAX. */
int64_t gateway_expiry_after(struct gateway *gateway, int64_t ttl_seconds);
/** A write: rows as of batch.h with one op; rows of add and upsert that say nothing of expiry get the collection's default.  want_counts: ret_counts exact (costs a turn), else zeros. */
struct gateway_write {
    uuid collection;
    struct batch_input input;
    bool want_counts;
    struct gateway_once once;
};
/** Would a vector of this dimension be taken?  OCH_INVALID "Collection expecting embedding with dimension of D, got d" (early, http-api.md §2.3; the log checks again). */
MUST_USE och_code gateway_check_dimension(struct gateway *gateway,
                                          const struct sysdb_collection *collection,
                                          uint32_t dimension, och_error *err);
/** Current dimension, 0 = not fixed. */
MUST_USE och_code gateway_dimension(struct gateway *gateway, uuid collection,
                                    uint32_t *ret_dimension, och_error *err);
/** add, upsert, update.  Rules on ids, metadata keys, dimensions are checked here and in wal. */
MUST_USE och_code gateway_write(struct gateway *gateway, const struct gateway_scope *scope,
                                const struct gateway_write *write,
                                struct gateway_counts *ret_counts, och_error *err);
/** Records as lines of JSON (docs/extras.md), written as they come. */
struct gateway_import;
#define GATEWAY_IMPORT_LINES_MAX 16384u /* a batch */
struct gateway_import_options {
    uuid collection;
    enum batch_op op;     /* add, upsert or update */
    uint32_t batch_lines; /* so many lines are one atomic batch, 1 to GATEWAY_IMPORT_LINES_MAX */
    struct gateway_once
        key; /* batches are applied once under keys made of it (D17); its request_hash is not looked at */
    size_t line_bytes_max; /* more is OCH_TOO_LARGE */
};
MUST_USE och_code gateway_import_new(struct gateway *gateway, const struct gateway_scope *scope,
                                     const struct gateway_import_options *options,
                                     struct gateway_import **ret_import, och_error *err);
/**
 * Take the next piece of the text, cut anywhere; 64 readable bytes behind it.
 *
 * Batches that become full are durable before this goes on.  limits: of this piece.  Memory: one batch and one line.
 * Errors: as gateway_write, OCH_INVALID (no record), OCH_TOO_LARGE; the message names the line and how many before it are written; no call but free follows.
 */
MUST_USE och_code gateway_import_feed(struct gateway_import *import, slice text,
                                      const struct limits_of_work *limits, och_error *err);
/** No more comes: the last line and batch.  *ret_counts: of all.  `broken`: the text ends in the middle, for this reason, which is returned; NULL: at its end. */
MUST_USE och_code gateway_import_end(struct gateway_import *import,
                                     const struct limits_of_work *limits, const och_error *broken,
                                     struct gateway_counts *ret_counts, och_error *err);
/** NULL is fine.  Batches that were written stay. */
void gateway_import_free(struct gateway_import *import);
/** Records as lines of JSON, page by page over one view: what plan (a get: ids, filter, fields) chooses at this moment, or at scope's version, in order of insertion. */
struct gateway_export;
#define GATEWAY_EXPORT_FIELDS \
    (RECORD_VECTOR | RECORD_DOCUMENT | RECORD_URI | RECORD_METADATA | RECORD_EXPIRY)
/** Keeps nothing of scope and plan but the cancel flag.  OCH_NOT_FOUND, OCH_INVALID (a filter that the schema bars). */
MUST_USE och_code gateway_export_new(struct gateway *gateway, const struct gateway_scope *scope,
                                     const struct plan *plan, struct gateway_export **ret_export,
                                     och_error *err);
/** Append the next page, about a MiB; *ret_more false: it was the last. */
MUST_USE och_code gateway_export_next(struct gateway_export *page, struct buf *out, bool *ret_more,
                                      och_error *err);
void gateway_export_free(struct gateway_export *page); /* NULL is fine */
/** How many operations on a collection are in parts, and of how many. */
MUST_USE och_code gateway_indexing(struct gateway *gateway,
                                   const struct sysdb_collection *collection, uint64_t *ret_indexed,
                                   uint64_t *ret_total, och_error *err);
/** Load what searches of a collection look at; sums over its parts. */
struct gateway_warmed {
    uint64_t parts, bytes, wanted_bytes;
};
MUST_USE och_code gateway_warm(struct gateway *gateway, const struct gateway_scope *scope,
                               uuid collection, enum part_warmth level,
                               struct gateway_warmed *ret_warmed, och_error *err);
/** delete by ids and/or filter (D14): plan's ids, filter and limit; *ret_deleted exact (X10), also when it was done before under `once` (NULL: none). */
MUST_USE och_code gateway_delete(struct gateway *gateway, const struct gateway_scope *scope,
                                 const struct plan *which, const struct gateway_once *once,
                                 bool dry_run, uint64_t *ret_deleted, och_error *err);
/** The same; with which->explain how the records were found, JSON in the arena.  len 0: not asked for, or nobody looked (nothing was chosen, or it was done before). */
MUST_USE och_code gateway_delete_explained(struct gateway *gateway,
                                           const struct gateway_scope *scope,
                                           const struct plan *which,
                                           const struct gateway_once *once, bool dry_run,
                                           struct arena *arena, uint64_t *ret_deleted,
                                           slice *ret_explain, och_error *err);
/**
 * Update all records that ids and filter choose alike, in one batch: `set` is a row with op BATCH_UPDATE, without id and vector.
 *
 * Otherwise as gateway_delete.  Errors: OCH_TOO_LARGE when the rows, each with its copy of what is set, pass 2 GiB; OCH_BUSY over the memory limit.
 */
MUST_USE och_code gateway_update_chosen(struct gateway *gateway, const struct gateway_scope *scope,
                                        const struct plan *which, const struct batch_input_row *set,
                                        const struct gateway_once *once, bool dry_run,
                                        uint64_t *ret_updated, och_error *err);
/** get, query, search, count, facets.  Checks scope, schema gate, dimension.  OCH_STALE: scope->as_of names a state that is not kept (any more). */
MUST_USE och_code gateway_read(struct gateway *gateway, const struct gateway_scope *scope,
                               const struct plan *plan, struct arena *arena,
                               struct query_result *ret_result, och_error *err);
/**
 * A get within a transaction: at the state of *read_token; 0 takes that of now and gives it a token, to be handed to the transaction's other reads
 * and to its commit.  Remembers what was read, so that the commit can tell whether it still holds.
 *
 * Errors:  OCH_STALE: the token is more than five minutes old, was given up for newer ones, or from before a restart.
 */
MUST_USE och_code gateway_read_conditional(struct gateway *gateway,
                                           const struct gateway_scope *scope,
                                           const struct plan *plan, struct arena *arena,
                                           uint64_t *read_token, struct query_result *ret_result,
                                           och_error *err);
/** The writes of a transaction, in order, with any mixture of ops. */
struct gateway_commit {
    uuid collection;
    uint64_t read_token;   /* 0: nothing was read, there is no condition */
    const slice *read_ids; /* beside what the token remembers */
    size_t read_id_count;
    struct batch_input input;
    struct gateway_once once;
};
struct gateway_committed {
    uint64_t first;  /* offset of the first operation */
    uint32_t count;  /* 0: nothing to write, nothing was checked */
    bool key_reused; /* why it was OCH_CONFLICT: another request had the Idempotency-Key */
};
/**
 * Apply all writes at once, in one batch, if nothing was written since the state of the token that would have changed what its reads saw, or to the ids
 * to be written: the transactions of a collection are serialisable.
 *
 * Errors:  OCH_CONFLICT "conditional write conflict": nothing was applied; OCH_STALE as above.  After OK and OCH_CONFLICT the token is void.
 * Cost:    that of what was written since the reads: a look-up for each operation, and for each filter read two rows looked at.
 */
MUST_USE och_code gateway_commit(struct gateway *gateway, const struct gateway_scope *scope,
                                 const struct gateway_commit *commit,
                                 struct gateway_committed *ret_committed, och_error *err);
/** The transaction is given up; 0 is fine. */
void gateway_transaction_end(struct gateway *gateway, uint64_t read_token);
struct gateway_collection_new {
    slice name;
    bool get_or_create;
    const struct json_value *metadata, *configuration, *schema; /* NULL or JSON null: absent */
};
MUST_USE och_code gateway_collection_create(struct gateway *gateway,
                                            const struct gateway_scope *scope,
                                            const struct gateway_collection_new *spec,
                                            const struct sysdb_collection **ret_collection,
                                            och_error *err);
/** By name or alias.  OCH_NOT_FOUND "Collection [x] does not exist in database ...", with the nearest name there is.  Counted: unref. */
MUST_USE och_code gateway_collection_find(struct gateway *gateway,
                                          const struct gateway_scope *scope, slice name,
                                          const struct sysdb_collection **ret_collection,
                                          och_error *err);
MUST_USE och_code gateway_collection_drop(struct gateway *gateway,
                                          const struct gateway_scope *scope, slice name,
                                          och_error *err);
MUST_USE och_code gateway_collection_update(struct gateway *gateway,
                                            const struct gateway_scope *scope, uuid collection,
                                            const struct json_value *new_name,
                                            const struct json_value *new_metadata,
                                            const struct json_value *new_configuration,
                                            och_error *err);
/**
 * A new collection `name` in the same database that holds what `source` holds at this moment, everything acknowledged included (D16).
 *
 * Both go on by themselves; parts are shared, nothing but the tail is copied.  Batch ids of the source are not known to the copy.
 * Errors: OCH_NOT_FOUND, OCH_EXISTS, OCH_INVALID (name), OCH_QUOTA (forks_max in the tree), OCH_BUSY, OCH_UNAVAILABLE as gateway_write.
 */
MUST_USE och_code gateway_collection_fork(struct gateway *gateway,
                                          const struct gateway_scope *scope, uuid source,
                                          slice name,
                                          const struct sysdb_collection **ret_collection,
                                          och_error *err);
/** A state of a collection that can be read and come back to. */
struct gateway_version {
    uint64_t number; /* its log offset: so many operations came before */
    slice name;      /* at NULL: kept by retention, or the present one */
    int64_t time_ms; /* of its last operation, or when it was named; 0: nothing was written yet */
    int64_t keep_until_ms; /* 0: by its name until that is removed, or it is the present one */
    uint64_t records;      /* expiry not considered */
    bool current;          /* the present state: kept only if another line says so */
};
/** Ascending, the present one last.  In the arena. */
MUST_USE och_code gateway_versions(struct gateway *gateway, const struct gateway_scope *scope,
                                   uuid collection, struct arena *arena,
                                   struct gateway_version **ret_rows, size_t *ret_count,
                                   och_error *err);
/** Keep the present state, everything acknowledged included, until its name is removed.  ret_version->name is `name`.
 *  Errors: OCH_INVALID (name), OCH_EXISTS, OCH_QUOTA, OCH_BUSY: attached functions hold it up. */
MUST_USE och_code gateway_version_keep(struct gateway *gateway, const struct gateway_scope *scope,
                                       uuid collection, slice name,
                                       struct gateway_version *ret_version, och_error *err);
/** Give up what is kept under a name or of a number.  OCH_NOT_FOUND. */
MUST_USE och_code gateway_version_drop(struct gateway *gateway, const struct gateway_scope *scope,
                                       uuid collection, const struct gateway_version_ref *ref,
                                       uint64_t *ret_dropped, och_error *err);
struct gateway_restore {
    struct gateway_version_ref to;
    slice
        keep; /* name under which the present state is kept; at NULL: by retention, if that is set */
    bool dry_run;
};
struct gateway_restored {
    uint64_t restored, version;       /* what was gone back to, and the new version that it is */
    uint64_t records, records_before; /* by the clock of now */
};
/**
 * Make the records of a version those of the collection, as a new version, at once and durably.  Name, metadata, schema and dimension stay; conditional
 * commits that have read before it fail.
 *
 * Errors: OCH_NOT_FOUND; OCH_EXISTS: an attached function reads from the collection or writes to it, or `keep` is taken; OCH_BUSY; as gateway_write.
 */
MUST_USE och_code gateway_restore(struct gateway *gateway, const struct gateway_scope *scope,
                                  uuid collection, const struct gateway_restore *restore,
                                  struct gateway_restored *ret_restored, och_error *err);
/** The Collection object as JSON (http-api.md §5.1), with schema pairs of the tail. */
MUST_USE och_code gateway_collection_write(struct gateway *gateway,
                                           const struct sysdb_collection *collection,
                                           struct arena *arena, struct buf *out, och_error *err);
struct gateway_alias_change {
    slice name;
    slice collection; /* its name, or an alias of it; at NULL: the alias goes */
};
/** Make, move and remove aliases, all in one transaction.  Errors as sysdb_alias_change, OCH_INVALID for names. */
MUST_USE och_code gateway_alias_change(struct gateway *gateway, const struct gateway_scope *scope,
                                       const struct gateway_alias_change *changes, size_t count,
                                       och_error *err);
/** Name rules of §4.3; the message is the bare text, callers put their prefix before it. */
MUST_USE och_code gateway_check_name(slice name, och_error *err);
MUST_USE och_code gateway_database_create(struct gateway *gateway, slice tenant, slice name,
                                          och_error *err);
/** With its collections. */
MUST_USE och_code gateway_database_drop(struct gateway *gateway, slice tenant, slice name,
                                        och_error *err);
MUST_USE och_code gateway_reset(struct gateway *gateway, och_error *err);

/* ---- attached functions (http-api.md §9) ---- */
struct gateway_function_new {
    slice name, function, output; /* function: its kind, what requests call function_id */
    slice params;                 /* JSON text */
};
/** *ret_created false: it was there already, with the same settings.  Errors: OCH_NOT_FOUND (collection, kind), OCH_EXISTS (see sysdb_function_attach),
 *  OCH_FORBIDDEN, OCH_UNSUPPORTED (a kind that needs a service outside).  Strings in the arena, here and below. */
MUST_USE och_code gateway_function_attach(struct gateway *gateway,
                                          const struct gateway_scope *scope, uuid collection,
                                          const struct gateway_function_new *spec,
                                          struct arena *arena, struct sysdb_function *ret_function,
                                          bool *ret_created, och_error *err);
MUST_USE och_code gateway_function_get(struct gateway *gateway, const struct gateway_scope *scope,
                                       uuid collection, slice name, struct arena *arena,
                                       struct sysdb_function *ret_function, och_error *err);
MUST_USE och_code gateway_function_add_input(struct gateway *gateway,
                                             const struct gateway_scope *scope, uuid collection,
                                             slice name, uuid input, struct arena *arena,
                                             struct sysdb_function *ret_function, bool *ret_created,
                                             och_error *err);
/** delete_output: the collection it wrote to is dropped, and with it all functions that read from it. */
MUST_USE och_code gateway_function_detach(struct gateway *gateway,
                                          const struct gateway_scope *scope, uuid collection,
                                          slice name, bool delete_output, och_error *err);
#endif
