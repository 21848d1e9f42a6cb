/* SPDX-License-Identifier: Apache-2.0 */
/* The System Database: tenants, databases, collections, schemas, versions, parts, files, log segments (DESIGN §7).
 * SQLite here; PostgreSQL gives the same calls.  Every rule that must hold under races is a constraint or a conditional update.
 * Calls block; any thread.  Results live in the caller's arena unless counted.  Error messages of tenants, databases and
 * collections are the wire's texts (http-api.md §4, 5). */
#ifndef SYSDB_SYSDB_H
#define SYSDB_SYSDB_H

#include "base/io.h"
#include "base/trace.h"
#include "model/batch.h"
#include "model/schema.h"
#include "model/uuid.h"

struct sysdb;
struct sysdb_options {
    struct io *io;
    const char *path; /* the catalogue file, e.g. "data/catalogue.sqlite" */
    struct clock *clock;
    struct trace *trace;
    bool read_only;
    bool create; /* make it if missing, with default_tenant / default_database */
    int64_t
        retention_ms; /* how long superseded versions are kept, unless a collection says otherwise; 0: not */
    struct budget *
        budget; /* SQLite's page cache and the cached snapshots are charged to it (D24); NULL: uncounted */
};
/** Errors: OCH_NOT_FOUND (missing and !create), OCH_CORRUPT (D8: counts, XORs, integrity), OCH_IO, OCH_INVALID (newer format: names the version). */
MUST_USE och_code sysdb_open(const struct sysdb_options *options, struct sysdb **ret_sysdb,
                             och_error *err);
/** Every row of every table against its crc; for `ochre check`.  Appends one line per fault to `report`. */
MUST_USE och_code sysdb_verify(struct sysdb *sysdb, struct buf *report, uint64_t *ret_faults,
                               och_error *err);
/** Checkpoints and closes; free follows. */
MUST_USE och_code sysdb_close(struct sysdb *sysdb, och_error *err);
void sysdb_free(struct sysdb *sysdb);
/** Bumped by every transaction; log groups carry it (D1, D8). */
uint64_t sysdb_generation(struct sysdb *sysdb);

/* ---- tenants, databases ---- */
struct sysdb_tenant {
    slice name, resource_name; /* resource_name.at NULL: none */
};
struct sysdb_database {
    uuid id;
    slice name, tenant;
};
MUST_USE och_code sysdb_tenant_create(struct sysdb *sysdb, slice name, och_error *err);
MUST_USE och_code sysdb_tenant_get(struct sysdb *sysdb, slice name, struct arena *arena,
                                   struct sysdb_tenant *ret_tenant, och_error *err);
/** Sets the resource name. OCH_NOT_FOUND; OCH_EXISTS when another value is set or another tenant has it. */
MUST_USE och_code sysdb_tenant_set_resource(struct sysdb *sysdb, slice name, slice resource_name,
                                            och_error *err);
MUST_USE och_code sysdb_database_create(struct sysdb *sysdb, slice tenant, slice name, uuid id,
                                        och_error *err);
MUST_USE och_code sysdb_database_get(struct sysdb *sysdb, slice tenant, slice name,
                                     struct arena *arena, struct sysdb_database *ret_database,
                                     och_error *err);
/** Creation order. limit PLAN_NO_LIMIT-like UINT64_MAX = all. Unknown tenant: no rows. */
MUST_USE och_code sysdb_database_list(struct sysdb *sysdb, slice tenant, uint64_t limit,
                                      uint64_t offset, struct arena *arena,
                                      struct sysdb_database **ret_rows, size_t *ret_count,
                                      och_error *err);
/** Only when it has no active collections left (drop those first, through gateway rules). OCH_NOT_FOUND; OCH_CONFLICT when some are left. */
MUST_USE och_code sysdb_database_drop(struct sysdb *sysdb, slice tenant, slice name,
                                      och_error *err);
/** Remove all tenants, databases and collections (collections become tombstones) and make the defaults again: one transaction. */
MUST_USE och_code sysdb_reset(struct sysdb *sysdb, och_error *err);

/* ---- collections ---- */
/** An immutable snapshot, counted; shared by all readers until something changes. */
struct sysdb_collection {
    _Atomic uint32_t refs;
    uuid id, database_id;
    slice tenant, database, name;
    slice metadata;                 /* encoded (meta.h); at NULL: none */
    slice schema_json;              /* canonical text */
    const struct batch_pair *pairs; /* evolved (key, type) pairs that the catalogue knows */
    size_t pair_count;
    const uuid *owners; /* whose parts it may refer to: itself, then those it was forked from */
    size_t owner_count;
    struct schema schema; /* parsed schema_json */
    uint32_t dimension;   /* as of log_offset; 0 = not fixed in the parts */
    int64_t version;
    uint64_t log_offset;
    int64_t last_created_at; /* ms, of the last batch in the parts */
    int64_t ord;             /* creation order */
    bool
        kept; /* a kept version, under an id of its own: everything else is its collection's, `id` included */
};
struct sysdb_collection_new {
    uuid id;
    slice tenant, database, name, metadata, schema_json;
    bool get_or_create;
};
/** OCH_EXISTS "Collection [x] already exists" (unless get_or_create: *ret_created false and the stored one), OCH_INVALID "Database [x] does not exist". */
MUST_USE och_code sysdb_collection_create(struct sysdb *sysdb,
                                          const struct sysdb_collection_new *spec,
                                          const struct sysdb_collection **ret_collection,
                                          bool *ret_created, och_error *err);
/** By id within its scope; tenant.at NULL = any scope (internal callers).  OCH_NOT_FOUND "Collection [uuid] does not exist." (X13).  Hot: from memory. */
MUST_USE och_code sysdb_collection_get(struct sysdb *sysdb, slice tenant, slice database, uuid id,
                                       const struct sysdb_collection **ret_collection,
                                       och_error *err);
/** OCH_NOT_FOUND "Collection [x] does not exist". */
MUST_USE och_code sysdb_collection_find(struct sysdb *sysdb, slice tenant, slice database,
                                        slice name, const struct sysdb_collection **ret_collection,
                                        och_error *err);
/** By tenant resource name (CRN). */
MUST_USE och_code sysdb_collection_find_resource(struct sysdb *sysdb, slice resource_name,
                                                 slice database, slice name,
                                                 const struct sysdb_collection **ret_collection,
                                                 och_error *err);
void sysdb_collection_unref(const struct sysdb_collection *collection); /* NULL is fine */
void sysdb_collection_cleanup(const struct sysdb_collection **collection);
/** Creation order; each row is counted: unref all.  Unknown scope: no rows. */
MUST_USE och_code sysdb_collection_list(struct sysdb *sysdb, slice tenant, slice database,
                                        uint64_t limit, uint64_t offset, struct arena *arena,
                                        const struct sysdb_collection ***ret_rows,
                                        size_t *ret_count, och_error *err);
MUST_USE och_code sysdb_collection_count(struct sysdb *sysdb, slice tenant, slice database,
                                         uint64_t *ret_count, och_error *err);
struct sysdb_collection_change {
    bool set_name, set_metadata, set_schema;
    slice name, metadata /* at NULL: becomes none */, schema_json;
};
/** One transaction. OCH_EXISTS when the name is taken (X6). */
MUST_USE och_code sysdb_collection_update(struct sysdb *sysdb, uuid id,
                                          const struct sysdb_collection_change *change,
                                          och_error *err);
/** active -> tombstone: the name is free at once; its parts lose their references (files nobody refers to become doomed) in the same transaction (D15). */
MUST_USE och_code sysdb_collection_drop(struct sysdb *sysdb, uuid id, och_error *err);
/** Walk ids of active collections in `ord` order, from `*cursor` (start 0); up to `max` ids. For open, check, compactor. */
MUST_USE och_code sysdb_collection_walk(struct sysdb *sysdb, int64_t *cursor, size_t max,
                                        uuid *ret_ids, size_t *ret_count, och_error *err);
/** Tombstones: replay drops their frames. Arena array. */
MUST_USE och_code sysdb_tombstones(struct sysdb *sysdb, struct arena *arena, uuid **ret_ids,
                                   size_t *ret_count, och_error *err);
/** Forget tombstones whose last segment is gone. */
MUST_USE och_code sysdb_tombstones_remove(struct sysdb *sysdb, const uuid *ids, size_t count,
                                          och_error *err);

/* ---- versions and files ---- */
struct sysdb_part {
    uuid file;             /* object in the store */
    uint64_t offset, size; /* the part within it */
    uint64_t dir_offset;   /* relative to offset */
    uint32_t dir_len, dir_crc, head_len;
    uuid lineage;
    uint32_t rows, deleted;
    uint64_t log_from, log_to;
    slice dead; /* Roaring portable; len 0: none dead */
};
struct sysdb_version {
    int64_t version;
    uint64_t log_offset;
    uint32_t dimension;
    int64_t last_created_at;
    struct sysdb_part *parts; /* ascending log ranges */
    size_t part_count;
};
/** The current version of an active collection. */
MUST_USE och_code sysdb_version_get(struct sysdb *sysdb, uuid collection, struct arena *arena,
                                    struct sysdb_version *ret_version, och_error *err);

/** A batch id to remember (D17). */
struct sysdb_batch_id {
    uuid batch_id;
    uint64_t request_hash, first;
    uint32_t count;
    uint32_t inserted, updated, skipped, deleted;
    int64_t created_at; /* ms */
};
struct sysdb_commit {
    uuid collection;
    int64_t expected_version; /* commits only if this is current; the new one is + 1 */
    struct sysdb_version next;
    const struct batch_pair *pairs; /* to add to the schema */
    size_t pair_count;
    const struct sysdb_batch_id *batch_ids;
    size_t batch_id_count;
    uuid
        kept; /* under which the version that it replaces is kept, should it be; zero: the state is the same, it is not */
    bool ret_committed; /* false: version moved on, or collection gone */
};
/** A new object is going to be written: state `uploading`. Durable when OK. */
MUST_USE och_code sysdb_file_announce(struct sysdb *sysdb, uuid file, och_error *err);
/** One transaction for all items (D10): files go live if some item committed that refers to them, versions switch, references move; files that
 *  nobody refers to any more become doomed. Items fail alone (ret_committed). */
MUST_USE och_code sysdb_commit_versions(struct sysdb *sysdb, struct sysdb_commit *items,
                                        size_t count, och_error *err);
/** A range of a file that lost its last reference while other parts of the file live on (packs): can be punched. */
struct sysdb_garbage {
    uuid file;
    bool whole; /* doomed or never live: remove the object, then sysdb_file_forget */
    uint64_t offset, size;
};
/** What can go: doomed files, `uploading` files (only when include_uploading: at open). */
MUST_USE och_code sysdb_garbage_list(struct sysdb *sysdb, bool include_uploading,
                                     struct arena *arena, struct sysdb_garbage **ret_rows,
                                     size_t *ret_count, och_error *err);
/** The hole was punched (or need not be): it is not listed again. */
MUST_USE och_code sysdb_hole_forget(struct sysdb *sysdb, uuid file, uint64_t offset,
                                    och_error *err);
/** The object is gone from the store.  OCH_CONFLICT while a version refers to it; unknown ones are fine. */
MUST_USE och_code sysdb_file_forget(struct sysdb *sysdb, const uuid *files, size_t count,
                                    och_error *err);
/** All files the catalogue knows, with state live: for audit. */
MUST_USE och_code sysdb_file_list(struct sysdb *sysdb, struct arena *arena, uuid **ret_files,
                                  size_t *ret_count, och_error *err);
/** Remembered batch of a collection. *ret_found false when unknown or older than 15 minutes. */
MUST_USE och_code sysdb_batch_id_get(struct sysdb *sysdb, uuid collection, uuid batch_id,
                                     struct sysdb_batch_id *ret_batch, bool *ret_found,
                                     och_error *err);

/* ---- forks (D16) ---- */
/** First step, before frames of the copy are in the log: a row that replay takes for a dropped collection's.  Not needed when the
 *  tail is empty.  Errors: OCH_EXISTS. */
MUST_USE och_code sysdb_fork_begin(struct sysdb *sysdb, uuid id, och_error *err);
struct sysdb_fork {
    const struct sysdb_collection
        *source; /* as it was when the copy of its log began at its log_offset */
    uuid id;     /* of the copy */
    slice name;
    uint64_t upto;      /* where the copy of the log ends */
    uint64_t edges_max; /* in the tree */
};
/**
 * Last step, one transaction: the copy is there, with the source's parts, schema, metadata and offsets, but not its batch ids.
 *
 * Errors: OCH_NOT_FOUND (source); OCH_EXISTS "Collection [x] already exists"; OCH_QUOTA; OCH_STALE: the source has another schema or
 * metadata than `source` says, or its parts reach beyond `upto`: begin anew, with another id.
 */
MUST_USE och_code sysdb_fork(struct sysdb *sysdb, const struct sysdb_fork *fork,
                             const struct sysdb_collection **ret_collection, och_error *err);
/** Forks in the whole tree that a collection belongs to; dropped ones do not count. */
MUST_USE och_code sysdb_fork_count(struct sysdb *sysdb, uuid id, uint64_t *ret_count,
                                   och_error *err);

/* ---- kept versions (docs/decisions/0023-kept-versions.md) ---- */
#define SYSDB_RETENTION_KEY     "ochre:version_retention_seconds" /* in a collection's metadata */
#define SYSDB_RETENTION_SECONDS INT64_C(3153600000)               /* at most: a hundred years */
/** A state of a collection that is kept, by retention or by a name.  sysdb_collection_get (in any scope) and sysdb_version_get know its id as that of a
 *  collection that never changes and has no tail. */
struct sysdb_kept {
    uuid id;
    slice name; /* at NULL: kept by retention */
    uint64_t log_offset;
    int64_t taken_at;   /* ms: by this clock it is read */
    int64_t last_at;    /* ms, of its last operation; it stood from then to taken_at at least */
    int64_t keep_until; /* ms; 0: until it is given up */
    uint64_t rows;      /* that live in it, expiry not considered */
};
/** Ascending log_offset.  OCH_NOT_FOUND: no such collection. */
MUST_USE och_code sysdb_kept_list(struct sysdb *sysdb, uuid collection, struct arena *arena,
                                  struct sysdb_kept **ret_rows, size_t *ret_count, och_error *err);
struct sysdb_keep {
    uuid collection, id;
    slice name; /* at NULL: until keep_until, in ms */
    int64_t keep_until;
    uint64_t log_offset; /* the version must reach so far */
    int64_t taken_at;
    size_t max; /* names of one collection */
};
/** Keep the current version under a name.  OCH_STALE: it does not reach `log_offset`; OCH_EXISTS: the name; OCH_QUOTA; OCH_NOT_FOUND. */
MUST_USE och_code sysdb_keep(struct sysdb *sysdb, const struct sysdb_keep *keep,
                             struct sysdb_kept *ret_kept, och_error *err);
/** Give one up.  OCH_NOT_FOUND. */
MUST_USE och_code sysdb_kept_drop(struct sysdb *sysdb, uuid collection, uuid id, och_error *err);
/** Give up those whose time is over, some at a time; *ret_more: maybe not all.  No write when there are none. */
MUST_USE och_code sysdb_kept_expire(struct sysdb *sysdb, size_t *ret_count, bool *ret_more,
                                    och_error *err);
struct sysdb_restore {
    uuid collection;
    uuid kept;           /* what it becomes */
    uint64_t from;       /* the log_offset that its version must have */
    uint64_t log_offset; /* of the new version */
    int64_t created_at;  /* of the last operation before that */
    uuid id;    /* under which the replaced version is kept, if retention or `name` say so */
    slice name; /* at NULL: none */
    size_t max;
};
/**
 * A new version of a collection, with the parts of a kept one: one transaction.  Schema, metadata, dimension and batch ids stay those of now.
 *
 * Errors: OCH_NOT_FOUND (either); OCH_STALE: `from`; OCH_EXISTS: a function reads from the collection or writes to it, or the name; OCH_QUOTA.
 */
MUST_USE och_code sysdb_restore(struct sysdb *sysdb, const struct sysdb_restore *restore,
                                och_error *err);
/** Would sysdb_restore be refused for a function? */
MUST_USE och_code sysdb_restore_check(struct sysdb *sysdb, uuid collection, och_error *err);

/* ---- log segments (D1) ---- */
struct sysdb_segment {
    uint64_t id;   /* ascending */
    uint64_t salt; /* in the file's name, seeds its checksums */
    uint64_t size;
};
MUST_USE och_code sysdb_segment_add(struct sysdb *sysdb, const struct sysdb_segment *segment,
                                    och_error *err);
MUST_USE och_code sysdb_segment_list(struct sysdb *sysdb, struct arena *arena,
                                     struct sysdb_segment **ret_rows, size_t *ret_count,
                                     och_error *err);
MUST_USE och_code sysdb_segment_remove(struct sysdb *sysdb, const uint64_t *ids, size_t count,
                                       och_error *err);
/** The log's end at a clean close; cleared (has = false) by the next open's first write. */
struct sysdb_log_end {
    bool has;
    uint64_t segment, byte, sequence;
};
MUST_USE och_code sysdb_log_end_set(struct sysdb *sysdb, const struct sysdb_log_end *end,
                                    och_error *err);
MUST_USE och_code sysdb_log_end_get(struct sysdb *sysdb, struct sysdb_log_end *ret_end,
                                    och_error *err);

/* ---- aliases ---- */
/** A further name of a collection, in the name space of its database's collections: sysdb_collection_find finds by it, nothing can be made with it. */
struct sysdb_alias {
    slice name, collection_name;
    uuid collection;
    int64_t created_at; /* ms since 1970: when it was last set */
};
struct sysdb_alias_change {
    slice name;
    uuid target; /* it is, from now on, an alias of this collection; zero: it goes */
};
/** All changes in order, in one transaction.  OCH_INVALID: no such database; OCH_NOT_FOUND: no such collection there, no such alias to remove; OCH_EXISTS: a
 *  collection's name.  A collection that is dropped takes its aliases with it. */
MUST_USE och_code sysdb_alias_change(struct sysdb *sysdb, slice tenant, slice database,
                                     const struct sysdb_alias_change *changes, size_t count,
                                     och_error *err);
/** By name; none when there is no such database.  Strings in the arena, here and below. */
MUST_USE och_code sysdb_alias_list(struct sysdb *sysdb, slice tenant, slice database,
                                   struct arena *arena, struct sysdb_alias **ret_rows,
                                   size_t *ret_count, och_error *err);
/** OCH_NOT_FOUND "Alias [x] does not exist". */
MUST_USE och_code sysdb_alias_get(struct sysdb *sysdb, slice tenant, slice database, slice name,
                                  struct arena *arena, struct sysdb_alias *ret_alias,
                                  och_error *err);

/* ---- attached functions (http-api.md §9) ---- */
/** A function at one of its inputs; those with several inputs have a row for each, with the same id. */
struct sysdb_function {
    uuid id, input, output;
    slice name, function; /* what the user calls it; the kind */
    slice output_name;    /* as given when it was attached */
    slice params;         /* JSON text */
    bool is_async;
    bool
        built; /* the output is what it is for the operations before `completion`; else it is made anew */
    uint64_t completion, min_records;
};
struct sysdb_function_new {
    uuid id, input;
    slice name, function, output_name, params;
    bool is_async;
    uint64_t min_records;
    struct sysdb_collection_new
        output; /* made in the same transaction, in the database of the input, with dimension 1 */
};
/** One that says the same: *ret_created false and the stored one.  OCH_EXISTS: another one of its mode or name at this input, a collection of the
 *  output's name; OCH_INVALID: a chain of more than five; OCH_NOT_FOUND: no input.  Strings in the arena, here and below. */
MUST_USE och_code sysdb_function_attach(struct sysdb *sysdb, const struct sysdb_function_new *spec,
                                        struct arena *arena, struct sysdb_function *ret_function,
                                        bool *ret_created, och_error *err);
/** The function of this name at `input` gets one more input.  OCH_INVALID: not an asynchronous one, a cycle, a chain of more than five; else as attach. */
MUST_USE och_code sysdb_function_add_input(struct sysdb *sysdb, uuid input, slice name,
                                           uuid new_input, struct arena *arena,
                                           struct sysdb_function *ret_function, bool *ret_created,
                                           och_error *err);
/** OCH_NOT_FOUND "Attached function not found". */
MUST_USE och_code sysdb_function_get(struct sysdb *sysdb, uuid input, slice name,
                                     struct arena *arena, struct sysdb_function *ret_function,
                                     och_error *err);
MUST_USE och_code sysdb_function_list(struct sysdb *sysdb, struct arena *arena,
                                      struct sysdb_function **ret_rows, size_t *ret_count,
                                      och_error *err);
/** Its output stays.  A collection that is dropped takes the functions with it that read from it or write to it. */
MUST_USE och_code sysdb_function_detach(struct sysdb *sysdb, uuid input, slice name,
                                        och_error *err);
/** Operations before `completion` are consumed.  OCH_NOT_FOUND: detached meanwhile. */
MUST_USE och_code sysdb_function_progress(struct sysdb *sysdb, uuid id, uuid input,
                                          uint64_t completion, bool built, och_error *err);
#endif
