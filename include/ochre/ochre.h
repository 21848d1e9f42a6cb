/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Ochre as a library: a vector database inside your process.
 *
 *     och_error err = OCH_ERROR;
 *     och_database *database;
 *     if (och_database_open("./data", NULL, &database, &err) != OCH_OK)
 *         puts(err.message);
 *
 * Reading order: bytes and structs, a database, collections, writing, filters, reading, versions, rows, transactions, HTTP without a
 * socket.
 *
 * Ownership.  What goes in is borrowed until the call returns.  What comes out (`ret_` parameters of pointer type) is yours until its
 * `_free`, which takes NULL.  `ret_` parameters are written on success only.
 *
 * Threads.  Databases, collections and filters: any thread, at the same time.  A result or a response: one thread at a time.  An
 * och_error: the caller's own.  Handles are counted: a database freed early lives until its last collection and result are freed.
 * In a forked child every call but the `_free` ones gives OCH_FORKED.  The library has no state of its own beside the allocator, installs
 * no signal handlers, and leaves no threads behind after och_database_close.
 *
 * Errors.  A call that can fail returns a code and fills *err, which may be NULL; the code says how to react (ochre/error.h), the message
 * says what is wrong, where, and a way out.  Each declaration names the codes that matter; any call may also give OCH_CLOSED, OCH_FORKED,
 * OCH_NO_MEMORY, OCH_IO, OCH_CORRUPT (bytes on disk are damaged: the message names them) and OCH_BUSY (over the memory limit, or writers are
 * ahead of compaction: try again later).
 *
 * Growth.  Structs that may grow begin with their size: start them from the macro of the same name (`och_select which = OCH_SELECT;`), and
 * a program compiled today goes on working with every later 1.x.
 */
#ifndef OCHRE_OCHRE_H
#define OCHRE_OCHRE_H

#include "ochre/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__GNUC__)
#define OCH_API __attribute__((visibility("default")))
#else
#define OCH_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

/** Version of this header; major * 10000 + minor * 100 + patch. */
#define OCH_VERSION        "1.0.0"
#define OCH_VERSION_NUMBER 10000u
/** Version of the library that is loaded: works with headers of the same major and not above it. */
OCH_API uint32_t och_version_number(void);

/* ---- bytes and structs ---- */

typedef struct och_database och_database;
typedef struct och_collection och_collection;
typedef struct och_filter och_filter;
typedef struct och_result och_result;
typedef struct och_response och_response;
typedef struct och_cancel och_cancel;
typedef struct och_transaction och_transaction;

/** Borrowed bytes.  {NULL, 0} is absent, {"", 0} is empty.  Text is UTF-8. */
typedef struct och_bytes {
    const void *at;
    size_t len;
} och_bytes;

#define OCH_NO_BYTES \
    {                \
        NULL, 0      \
    }
#define OCH_NO_LIMIT UINT64_MAX
#define OCH_ERROR                           \
    {                                       \
        OCH_OK, 0, NULL, 0, {'\0'}, 0, 0, 0 \
    }

/** The bytes of a C string; NULL is absent. */
static inline och_bytes och_text(const char *text)
{
    och_bytes bytes = OCH_NO_BYTES;
    if (text) {
        bytes.at = text;
        bytes.len = strlen(text);
    }
    return bytes;
}

/**
 * Bring your own allocator, for the whole process: `alloc(user, old, size)` is realloc, and free when size is 0.
 *
 * Call it before anything else of the library, or not at all.  Memory must be 16-byte aligned.  Libraries below this one (SQLite, the
 * C++ runtime) go on using malloc for their own needs.
 */
OCH_API void och_set_allocator(void *(*alloc)(void *user, void *old, size_t size), void *user);

/* ---- a database ---- */

typedef struct och_open_options {
    uint32_t struct_size;
    uint32_t thread_count; /* that search beside the caller; 0: one for each CPU */
    bool read_only;        /* shared with other readers, not with a writer */
    bool create_missing;   /* make the folder if there is none */
    uint64_t
        memory_limit_bytes; /* caches, tails, requests and builds together; 0: half of the machine's */
    och_bytes settings_yaml; /* any other setting, as in the server's configuration file */
    /* A line of diagnostics without its newline.  Level 0 error, 1 warning, 2 information, 3 debug.  Called from any thread, also during
     * other calls: it must not call the library.  NULL: diagnostics are dropped. */
    void (*log)(void *user, int level, och_bytes line);
    void *log_user;
} och_open_options;
#define OCH_OPEN_OPTIONS                                                      \
    {                                                                         \
        sizeof(och_open_options), 0, false, true, 0, OCH_NO_BYTES, NULL, NULL \
    }

/**
 * Open a folder, or with path NULL a database in memory that is gone when it is closed.
 *
 * Settings come from `options` and from nowhere else: no file and no environment is read.  options NULL: OCH_OPEN_OPTIONS.
 *
 * Errors:  OCH_IN_USE names who has the folder; OCH_NOT_FOUND (nothing there, create_missing false); OCH_SETTING; OCH_CORRUPT.
 */
OCH_API och_code och_database_open(const char *path, const och_open_options *options,
                                   och_database **ret_database, och_error *err);
/**
 * Wait for calls at work, flush, stop all threads, release the folder.  och_database_free follows, whatever this returns.
 *
 * Collections and results stay valid as handles: rows that a result holds can still be read, everything else gives OCH_CLOSED.
 * What was acknowledged is durable also without this call.
 *
 * Errors:  OCH_CLOSED when it was closed before.
 */
OCH_API och_code och_database_close(och_database *database, och_error *err);
/** Give up the handle; closes when it is the last one of the database and nobody closed it before. */
OCH_API void och_database_free(och_database *database);

/* ---- collections ---- */

typedef struct och_collection_spec {
    uint32_t struct_size;
    bool get_or_create;         /* create: an existing one is fine and returned unchanged */
    och_bytes tenant, database; /* absent: default_tenant, default_database */
    och_bytes name;             /* 3 to 512 of [a-zA-Z0-9._-] */
    och_bytes metadata_json;    /* create: of the collection; absent: none */
    och_bytes
        configuration_json; /* create: {"hnsw": {"space": "cosine"}} and the like, as over HTTP */
    och_bytes schema_json;  /* create: as over HTTP */
} och_collection_spec;
#define OCH_COLLECTION_SPEC                                                           \
    {                                                                                 \
        sizeof(och_collection_spec), false, OCH_NO_BYTES, OCH_NO_BYTES, OCH_NO_BYTES, \
            OCH_NO_BYTES, OCH_NO_BYTES, OCH_NO_BYTES                                  \
    }

/**
 * Make a collection.  Its dimension is that of the first vector stored.
 *
 * Errors:  OCH_EXISTS; OCH_INVALID and OCH_SHAPE (name, JSON); OCH_INVALID, too, when the database named is not there.
 */
OCH_API och_code och_collection_create(och_database *database, const och_collection_spec *spec,
                                       och_collection **ret_collection, och_error *err);
/** Find a collection by tenant, database and name.  Errors: OCH_NOT_FOUND. */
OCH_API och_code och_collection_open(och_database *database, const och_collection_spec *named,
                                     och_collection **ret_collection, och_error *err);
/** Delete a collection with all its records.  Handles on it stay, their calls give OCH_NOT_FOUND.  Errors: OCH_NOT_FOUND. */
OCH_API och_code och_collection_drop(och_database *database, const och_collection_spec *named,
                                     och_error *err);
/**
 * Make a collection of another name in the same database that holds what `collection` holds at this moment, configuration and metadata included.  Both go on
 * by themselves.
 *
 * Cost:    nothing is copied but what is not compacted yet.
 * Errors:  OCH_EXISTS, OCH_INVALID (name), OCH_NOT_FOUND, OCH_QUOTA (setting fork_edges_max).
 */
OCH_API och_code och_collection_fork(och_collection *collection, och_bytes name,
                                     och_collection **ret_collection, och_error *err);
/** How many forks there are in the tree that the collection belongs to, forks of forks included; dropped ones do not count.  Errors: OCH_NOT_FOUND (dropped). */
OCH_API och_code och_collection_fork_count(och_collection *collection, uint64_t *ret_count,
                                           och_error *err);
/** How far what was written to a collection is in parts, with their indexes.  Reads see all of it either way. */
typedef struct och_indexing {
    uint32_t struct_size;
    uint64_t operations, indexed; /* since it was made; of these in parts */
} och_indexing;
#define OCH_INDEXING               \
    {                              \
        sizeof(och_indexing), 0, 0 \
    }
/** Errors:  OCH_NOT_FOUND (dropped). */
OCH_API och_code och_collection_indexing(och_collection *collection, och_indexing *ret_indexing,
                                         och_error *err);
/**
 * List the collections of a tenant's database, oldest first; within NULL: the default ones.
 *
 * Rows:  id = name, metadata_json = its metadata or absent, dimension (0: no vector yet), seq = place in the order of creation,
 *        document = the whole collection as JSON, as GET .../collections/{name} answers it.
 */
OCH_API och_code och_collection_list(och_database *database, const och_collection_spec *within,
                                     och_result **ret_result, och_error *err);
/**
 * Make `alias` (its tenant, database and name) a further name of a collection of that database, or move it there at once; och_collection_open finds by
 * it.  With `collection` absent the alias goes.  Handles stay on the collection that they were opened on.
 *
 * Errors:  OCH_NOT_FOUND (no such collection; no such alias to remove), OCH_EXISTS (the name of a collection), OCH_INVALID (the name).
 */
OCH_API och_code och_alias_set(och_database *database, const och_collection_spec *alias,
                               och_bytes collection, och_error *err);
/**
 * Attach a function to `collection`: it consumes what is written there, also before, and maintains the collection `output`, which is made.  In the background,
 * once 100 operations wait or nobody has written for a while.
 *
 * Functions: "record_counter", "statistics", "revision_history" (one of them at a collection), "dummy_async".  params_json: an object, or absent.
 *
 * ret_created (may be NULL): false when the same was attached already.
 * Errors:  OCH_EXISTS (another function, the output's name), OCH_NOT_FOUND, OCH_INVALID, OCH_UNSUPPORTED.
 */
OCH_API och_code och_function_attach(och_collection *collection, och_bytes name, och_bytes function,
                                     och_bytes output, och_bytes params_json, bool *ret_created,
                                     och_error *err);
/** How many operations on `collection` the function has consumed.  Errors: OCH_NOT_FOUND. */
OCH_API och_code och_function_progress(och_collection *collection, och_bytes name,
                                       uint64_t *ret_operations, och_error *err);
/** Detach it; delete_output: its output is dropped, too.  Errors: OCH_NOT_FOUND. */
OCH_API och_code och_function_detach(och_collection *collection, och_bytes name, bool delete_output,
                                     och_error *err);
/** The collection's UUID as text, for paths of och_database_exchange; holds as long as the handle. */
OCH_API och_bytes och_collection_id(const och_collection *collection);
OCH_API void och_collection_free(och_collection *collection);

/* ---- writing ---- */

typedef struct och_records {
    uint32_t struct_size;
    size_t count;
    size_t dimension;
    size_t vector_stride;       /* floats from one vector to the next; 0: dimension */
    const och_bytes *ids;       /* count of them, not empty, UTF-8 */
    const float *vectors;       /* count x dimension, finite */
    const och_bytes *documents; /* columns may be NULL, single entries absent */
    const och_bytes *uris;      /**/
    const och_bytes
        *metadatas_json; /* objects of strings, numbers, booleans, arrays of one of these */
    const uint32_t
        *clear; /* upsert, update: fields that go, OCH_DOCUMENT | OCH_URI | OCH_METADATA each */
    const int64_t *expires_ms; /* since 1970; 0: as before, or as the collection says; OCH_NEVER */
} och_records;
#define OCH_RECORDS                                                            \
    {                                                                          \
        sizeof(och_records), 0, 0, 0, NULL, NULL, NULL, NULL, NULL, NULL, NULL \
    }
/** A record with this expiry stays, whatever it had before and whatever its collection's default (metadata `ochre:ttl_seconds`) is. */
#define OCH_NEVER INT64_MAX

/** What a write did.  Asking for it makes the write look up each id first; without it ret_counts is NULL. */
typedef struct och_counts {
    uint32_t struct_size;
    uint64_t inserted, updated, skipped, deleted;
} och_counts;
#define OCH_COUNTS                     \
    {                                  \
        sizeof(och_counts), 0, 0, 0, 0 \
    }

/**
 * Add records to a collection: all of them, or none.
 *
 * The call returns once the batch is durable, and every read from then on sees it.  Records whose id is there already are skipped.
 *
 * Errors:  OCH_INVALID (empty or malformed id, another dimension than the collection's, values that are not finite, metadata keys), OCH_SHAPE
 *          (metadata of a wrong shape), OCH_QUOTA (more than 65,535 dimensions), OCH_TOO_LARGE, OCH_NOT_FOUND (dropped); OCH_UNAVAILABLE: the disk failed, the outcome is unknown.
 * Threads: any; batches of one collection are ordered as the calls return.
 */
OCH_API och_code och_collection_add(och_collection *collection, const och_records *records,
                                    och_counts *ret_counts, och_error *err);
/** Like add, but records whose id is there already are changed: what is absent stays, metadata is laid over, null deletes a key. */
OCH_API och_code och_collection_upsert(och_collection *collection, const och_records *records,
                                       och_counts *ret_counts, och_error *err);
/** Change records; ids that are not there are skipped.  Vectors may be NULL: kept. */
OCH_API och_code och_collection_update(och_collection *collection, const och_records *records,
                                       och_counts *ret_counts, och_error *err);

/* ---- filters ---- */

/**
 * Read a filter: `where` on metadata, e.g. {"year": {"$gte": 2020}}, and `where_document` on text, e.g. {"$contains": "treaty"}.
 *
 * Either may be absent.  A filter is immutable and belongs to no database: read once, share.
 *
 * Errors:  OCH_INVALID naming the place and what was expected.
 */
OCH_API och_code och_filter_parse(och_bytes where_json, och_bytes where_document_json,
                                  och_filter **ret_filter, och_error *err);
OCH_API void och_filter_free(och_filter *filter);

/** A flag by which a call is given up.  Free it after the last call that was given it has returned. */
OCH_API och_code och_cancel_new(och_cancel **ret_cancel, och_error *err);
/** From any thread, from signal handlers too.  Calls that have it return OCH_CANCELLED soon. */
OCH_API void och_cancel_fire(och_cancel *cancel);
OCH_API void och_cancel_free(och_cancel *cancel);

/* ---- reading ---- */

/** Which fields a result carries; the id always comes. */
enum {
    OCH_DOCUMENT = 1,
    OCH_URI = 2,
    OCH_METADATA = 4,
    OCH_VECTOR = 8,
    OCH_EXPLAIN = 16, /* how it was found: och_result_explain_json */
    OCH_EXPIRY = 32   /* when it expires: och_row.expires_ms */
};

/** Which records, and what of them. */
typedef struct och_select {
    uint32_t struct_size;
    uint32_t include;         /* OCH_DOCUMENT | ... */
    uint32_t deadline_ms;     /* OCH_DEADLINE after it; 0: none */
    const och_bytes *ids;     /* only these; unknown ones are passed over; NULL: all */
    size_t id_count;          /**/
    const och_filter *filter; /* only what it matches; NULL: all */
    uint64_t offset, limit;   /* get, in order of insertion; delete: limit, with a filter */
    och_cancel *cancel;       /* NULL: none */
    och_bytes order_by; /* get: a key of metadata, "#id" or "#insertion"; at NULL: by insertion */
    och_bytes cursor;   /* get: och_result_cursor of the page before; at NULL: the first */
    bool descending;    /* in order_by's order */
    const float *max_distance; /* query: what is farther is no hit; NULL: no bound */
    uint32_t
        mmr_candidates; /* query: the k hits are chosen among so many nearest, to be unlike each other; 0: the k nearest */
    float mmr_lambda; /* with it: 1 nearness alone, 0 unlikeness alone */
    float recall; /* query: share of neighbours to find, 0.5 to 1 (exact); 0: as the collection */
} och_select;
#define OCH_SELECT                                                                            \
    {                                                                                         \
        sizeof(och_select), 0, 0, NULL, 0, NULL, 0, OCH_NO_LIMIT, NULL, {NULL, 0}, {NULL, 0}, \
            false, NULL, 0, 0.5f, 0                                                           \
    }

/** Count records that a filter matches; filter NULL: all. */
OCH_API och_code och_collection_count(och_collection *collection, const och_filter *filter,
                                      uint64_t *ret_count, och_error *err);
/**
 * Delete records by ids, by filter, or what is in both: all of them at once.
 *
 * With neither ids nor filter nothing is deleted.  *ret_counts (may be NULL) has the exact number in `deleted`.
 *
 * Errors:  OCH_INVALID for an empty list of ids or a limit, without a filter.
 */
OCH_API och_code och_collection_delete(och_collection *collection, const och_select *which,
                                       och_counts *ret_counts, och_error *err);
/** Count what och_collection_delete would delete now, without doing it.  Errors: the same. */
OCH_API och_code och_collection_delete_count(och_collection *collection, const och_select *which,
                                             uint64_t *ret_count, och_error *err);
/** What records get that och_collection_update_where chooses: all of them alike. */
typedef struct och_change {
    uint32_t struct_size;
    uint32_t clear;          /* fields that go: OCH_DOCUMENT | OCH_URI | OCH_METADATA */
    och_bytes metadata_json; /* laid over each record's; null deletes a key; absent: kept */
    och_bytes document, uri; /* absent: kept */
    int64_t expires_ms;      /* since 1970; 0: kept; OCH_NEVER */
    bool dry_run;            /* count only */
} och_change;
#define OCH_CHANGE                                                                \
    {                                                                             \
        sizeof(och_change), 0, OCH_NO_BYTES, OCH_NO_BYTES, OCH_NO_BYTES, 0, false \
    }

/**
 * Change records chosen by ids, by filter, or what is in both: all of them at once.
 *
 * `which` as in och_collection_delete; *ret_counts (may be NULL) has the exact number in `updated`.
 *
 * Errors:  OCH_INVALID (neither ids nor filter, a field both set and cleared, metadata keys), OCH_SHAPE, OCH_TOO_LARGE (use a limit).
 */
OCH_API och_code och_collection_update_where(och_collection *collection, const och_select *which,
                                             const och_change *change, och_counts *ret_counts,
                                             och_error *err);
/**
 * Read records in order of insertion, or of which->order_by; which NULL: all, ids only.
 *
 * By a key: bools, numbers, strings, others; records without it last, ascending or descending; among equals the one inserted first comes first.
 *
 * Errors:  OCH_INVALID (a cursor of another request or none at all, offset beside a cursor), OCH_DEADLINE, OCH_CANCELLED.
 */
OCH_API och_code och_collection_get(och_collection *collection, const och_select *which,
                                    och_result **ret_result, och_error *err);
/**
 * Find the k nearest records to each vector, nearest first; among NULL: among all, ids and distances only.
 *
 * Exactly min(k, matching records) rows a vector; distances on the stored vectors; ties in order of insertion.
 *
 * Shapes:  vectors[vector_count x dimension], row by row.
 * Errors:  OCH_INVALID (another dimension than the collection's, values that are not finite, offset or limit given, a bound or recall out of
 *          range), OCH_DEADLINE, OCH_CANCELLED.
 */
OCH_API och_code och_collection_query(och_collection *collection, const float *vectors,
                                      size_t vector_count, size_t dimension, size_t k,
                                      const och_select *among, och_result **ret_result,
                                      och_error *err);
/**
 * Search: filters, rank expressions over vectors, sparse vectors and words, groups, a page, chosen fields; as POST .../search over HTTP.
 *
 * search_json: a payload, {"filter": .., "rank": .., "group_by": .., "limit": .., "select": {"keys": [..]}}, or an array of them, all answered from
 * one state of the collection.
 *
 * Rows:    those of each payload in its order; query_index = which payload, distance = the score, and what its `select` names: #document, #embedding,
 *          #uri, #metadata or single keys of it; without `select` id and score alone.
 * Errors:  OCH_SHAPE and OCH_INVALID naming the place in search_json.
 */
OCH_API och_code och_collection_search(och_collection *collection, och_bytes search_json,
                                       och_result **ret_result, och_error *err);
/**
 * The k nearest to one vector, as numbers only, for tight loops: no handle to free.
 *
 * Shapes:  ret_seqs[k], ret_distances[k], either may be NULL; the first *ret_count are filled.  A seq names a record as och_row has it.
 */
OCH_API och_code och_collection_nearest(och_collection *collection, const float *vector,
                                        size_t dimension, size_t k, const och_filter *filter,
                                        uint64_t *ret_seqs, float *ret_distances, size_t *ret_count,
                                        och_error *err);

/* ---- facets ---- */

/** Which keys of metadata, and how many values of each. */
typedef struct och_facets {
    uint32_t struct_size;
    uint32_t limit; /* values of each key that are told */
    const och_bytes *keys;
    size_t key_count;
    bool by_value; /* those first in the order of values; else those that most records have */
} och_facets;
#define OCH_FACETS                             \
    {                                          \
        sizeof(och_facets), 10, NULL, 0, false \
    }
/** What there is of one key.  Values are JSON: true, 3, 2.5, "text"; absent: no record has the key. */
typedef struct och_facet {
    uint32_t struct_size;
    uint64_t records;  /* that have the key */
    uint64_t distinct; /* values there are */
    size_t value_count;
    och_bytes least_json, most_json;
} och_facet;
#define OCH_FACET                                              \
    {                                                          \
        sizeof(och_facet), 0, 0, 0, OCH_NO_BYTES, OCH_NO_BYTES \
    }
/**
 * Count the records by value of keys, exactly; `among` (ids, filter) as in och_collection_get, NULL: all.
 *
 * Rows:    one a value, key by key: query_index = place of the key, metadata_json = the value, seq = how many records have it.
 * Errors:  OCH_INVALID (no key, one twice, more than 64, a name that is no key), OCH_DEADLINE, OCH_CANCELLED.
 */
OCH_API och_code och_collection_facets(och_collection *collection, const och_facets *facets,
                                       const och_select *among, och_result **ret_result,
                                       och_error *err);
/** What och_collection_facets found of key number `key`; its bytes hold until the next call on the result.  Errors: OCH_INVALID. */
OCH_API och_code och_result_facet(och_result *result, size_t key, och_facet *ret_facet,
                                  och_error *err);

/* ---- many records as lines of JSON ---- */

/** Take a piece of text, which holds during the call.  False: give up. */
typedef bool (*och_write_call)(void *user, och_bytes piece);
/** Put at most `size` bytes at `room` and their number into *ret_len; 0: there is no more.  False: give up. */
typedef bool (*och_read_call)(void *user, void *room, size_t size, size_t *ret_len);

/**
 * Write records as lines of JSON, all of one moment, in order of insertion, in pieces of about a MiB that end with a line.
 *
 * which NULL: all records with all fields; else ids, filter, include (OCH_EXPLAIN is not for this) and cancel count.  Lines are as GET .../export has them.
 *
 * Errors:  OCH_CANCELLED when `write` gives up; as och_collection_get.
 */
OCH_API och_code och_collection_export(och_collection *collection, const och_select *which,
                                       och_write_call write, void *user, och_error *err);

/** Operations of an import. */
enum { OCH_ADD = 0, OCH_UPSERT = 1, OCH_UPDATE = 2 };
typedef struct och_import {
    uint32_t struct_size;
    uint32_t operation;   /* OCH_ADD, ... */
    uint32_t batch_lines; /* so many lines are written together, 1 to 16384; 0: 1000 */
    och_bytes text;       /* all lines; or, when absent, */
    och_read_call read;   /* piece by piece */
    void *user;
    och_cancel *cancel; /* NULL: none */
} och_import;
#define OCH_IMPORT                                               \
    {                                                            \
        sizeof(och_import), 0, 0, OCH_NO_BYTES, NULL, NULL, NULL \
    }
/**
 * Write records from lines of JSON, in the memory of one batch, whatever their number.  Each batch is durable before the next is read.
 *
 * ret_counts (may be NULL): of all lines.
 * Errors:  as och_collection_add; OCH_INVALID: a line is no record; OCH_CANCELLED when `read` gives up.  The message names the line and how many
 *          before it are written.
 */
OCH_API och_code och_collection_import(och_collection *collection, const och_import *from,
                                       och_counts *ret_counts, och_error *err);

/* ---- warming up ---- */

/** What och_collection_warm loads: what every search looks at; all indexes besides; vectors besides. */
enum { OCH_WARM_HOT = 0, OCH_WARM_INDEXES = 1, OCH_WARM_VECTORS = 2 };
typedef struct och_warmed {
    uint32_t struct_size;
    uint64_t parts, bytes,
        wanted_bytes; /* bytes < wanted_bytes: not all of it fits into the memory limit */
} och_warmed;
#define OCH_WARMED                  \
    {                               \
        sizeof(och_warmed), 0, 0, 0 \
    }
/** Load a collection before its first query.  ret_warmed may be NULL.  Errors: OCH_INVALID (level), OCH_DEADLINE, OCH_CANCELLED, OCH_CORRUPT. */
OCH_API och_code och_collection_warm(och_collection *collection, uint32_t level,
                                     uint32_t deadline_ms, och_cancel *cancel,
                                     och_warmed *ret_warmed, och_error *err);

/* ---- versions ---- */

/** Which version of a collection: one of the three members says it. */
typedef struct och_version_ref {
    uint32_t struct_size;
    och_bytes name;  /* under which it is kept; absent: not by name */
    uint64_t number; /* OCH_NO_VERSION: not by number */
    int64_t time_ms; /* since 1970: the newest one of then or before; 0: not by time */
} och_version_ref;
#define OCH_NO_VERSION UINT64_MAX
#define OCH_VERSION_REF                                          \
    {                                                            \
        sizeof(och_version_ref), OCH_NO_BYTES, OCH_NO_VERSION, 0 \
    }
/** A state of a collection that can be read and come back to. */
typedef struct och_version_info {
    uint32_t struct_size;
    bool current;          /* the present state: kept only if another version says so */
    uint64_t number;       /* so many operations came before it */
    och_bytes name;        /* absent: kept by retention, or the present state */
    int64_t time_ms;       /* of its last operation, or when it was named; 0: nothing was written */
    int64_t kept_until_ms; /* 0: by its name until that is dropped, or it is the present state */
    uint64_t records;      /* expiry not considered */
} och_version_info;
#define OCH_VERSION_INFO                                          \
    {                                                             \
        sizeof(och_version_info), false, 0, OCH_NO_BYTES, 0, 0, 0 \
    }
/**
 * List the versions of a collection that are kept, oldest first, then the present state.
 *
 * Rows:    id = name or absent, seq = number; och_result_version has all of each.
 * Errors:  OCH_NOT_FOUND (dropped), OCH_INVALID (a handle of och_collection_at; so in the other calls on versions).
 */
OCH_API och_code och_collection_versions(och_collection *collection, och_result **ret_result,
                                         och_error *err);
/** Version number `index` in the list of och_collection_versions, from 0; its name holds until och_result_free.  Errors: OCH_INVALID. */
OCH_API och_code och_result_version(const och_result *result, size_t index,
                                    och_version_info *ret_version, och_error *err);
/**
 * Keep the present state of a collection, everything acknowledged included, until its name is dropped.
 *
 * name: 3 to 512 of [a-zA-Z0-9._-], not digits alone.  ret_version may be NULL; the name in it is the caller's own bytes.
 *
 * Cost:    a flush; no records are copied.
 * Errors:  OCH_INVALID (the name), OCH_EXISTS, OCH_QUOTA (1,000 names), OCH_NOT_FOUND (dropped).
 */
OCH_API och_code och_collection_keep(och_collection *collection, och_bytes name,
                                     och_version_info *ret_version, och_error *err);
/**
 * Give up what is kept under a name, or all that is kept of a number.  ret_dropped may be NULL.
 *
 * Errors:  OCH_NOT_FOUND, OCH_INVALID (by time).
 */
OCH_API och_code och_collection_drop_version(och_collection *collection,
                                             const och_version_ref *which, uint64_t *ret_dropped,
                                             och_error *err);
/** What a restore did, or with dry_run would do.  Records by the clock of now: those that have expired are not counted. */
typedef struct och_restored {
    uint32_t struct_size;
    uint64_t restored, version; /* the version gone back to; the new version that it is now */
    uint64_t records, records_before;
} och_restored;
#define OCH_RESTORED                     \
    {                                    \
        sizeof(och_restored), 0, 0, 0, 0 \
    }
/**
 * Make the records of a version those of the collection, as a new version, at once and durably.  Name, metadata, schema and dimension stay.
 *
 * keep_as: a name under which the state that it replaces is kept; absent: by retention, if there is one.  dry_run: count only, `version` is the present
 * state's.  ret_restored may be NULL.
 *
 * Errors:  OCH_NOT_FOUND (no such version); OCH_EXISTS (a function is attached to the collection or writes to it; keep_as is taken); OCH_INVALID
 *          (keep_as); as och_collection_add.
 */
OCH_API och_code och_collection_restore(och_collection *collection, const och_version_ref *to,
                                        och_bytes keep_as, bool dry_run, och_restored *ret_restored,
                                        och_error *err);
/**
 * A handle by which the records of a version are read: get, query, search, nearest, count, facets and export take it; every other call gives OCH_INVALID.
 *
 * Expiry is judged by the version's time.  It holds nothing: each call finds the version anew.  A name that is dropped and kept again is the new one, a time
 * means the newest state of then or before that can still be read, and the number of a state that nobody keeps lasts until the collection goes on.  Give it
 * up by och_collection_free.
 *
 * Cost:    a look-up in the catalogue each call.
 * Errors:  OCH_NOT_FOUND: there is no such version; of the handle's calls, too, once the version or the collection is dropped.
 */
OCH_API och_code och_collection_at(och_collection *collection, const och_version_ref *version,
                                   och_collection **ret_collection, och_error *err);

/* ---- rows ---- */

/** One record.  What was not asked for, and what the record does not have, is absent. */
typedef struct och_row {
    uint32_t struct_size;
    uint32_t query_index; /* which of the query vectors it answers */
    uint64_t seq;         /* rises with insertion; kept by updates, new after delete and add */
    och_bytes id, document, uri, metadata_json;
    const float *vector; /* as stored, not copied; NULL: none */
    size_t dimension;    /* of vector; 0 without one */
    float distance;      /* query: to its vector; search: the score */
    int64_t expires_ms;  /* with OCH_EXPIRY: since 1970; 0: never, or not asked for */
} och_row;
#define OCH_ROW                                                                                    \
    {                                                                                              \
        sizeof(och_row), 0, 0, OCH_NO_BYTES, OCH_NO_BYTES, OCH_NO_BYTES, OCH_NO_BYTES, NULL, 0, 0, \
            0                                                                                      \
    }

/**
 * The next row; *ret_more false: there is none, and *ret_row is untouched.
 *
 * Ownership: metadata_json (and, of a list of collections, all of the row) holds until the next call, the rest until och_result_free.  A
 *            result pins what it was read from: free it soon.
 */
OCH_API och_code och_result_next(och_result *result, och_row *ret_row, bool *ret_more,
                                 och_error *err);
/** How many rows there are in all. */
OCH_API size_t och_result_count(const och_result *result);
/** With OCH_EXPLAIN: how the answer was found, as JSON; else absent.  Its members may change with any version. */
OCH_API och_bytes och_result_explain_json(const och_result *result);
/** Where the next page of an och_collection_get begins, borrowed from the result; absent when this page was not full. */
OCH_API och_bytes och_result_cursor(const och_result *result);
OCH_API void och_result_free(och_result *result);

/* ---- transactions ---- */

/**
 * Begin a transaction on a collection: reads of one state, then writes that are applied together if nothing was written since that those reads
 * would have seen.
 *
 * A record that a filter would now find is seen, too: transactions of a collection are serialisable.  One thread at a time.
 */
OCH_API och_code och_transaction_begin(och_collection *collection,
                                       och_transaction **ret_transaction, och_error *err);
/**
 * Read records in order of insertion, as och_collection_get, of the state that the first read of the transaction found; writes noted are not seen.
 *
 * Errors:  OCH_STALE when the first read is more than five minutes ago or was given up for newer ones: begin again.  OCH_INVALID with order_by
 *          or cursor.
 */
OCH_API och_code och_transaction_get(och_transaction *transaction, const och_select *which,
                                     och_result **ret_result, och_error *err);
/** Note writes, copied, as och_collection_add, _upsert, _update take them; they happen in this order when it is committed. */
OCH_API och_code och_transaction_add(och_transaction *transaction, const och_records *records,
                                     och_error *err);
OCH_API och_code och_transaction_upsert(och_transaction *transaction, const och_records *records,
                                        och_error *err);
OCH_API och_code och_transaction_update(och_transaction *transaction, const och_records *records,
                                        och_error *err);
OCH_API och_code och_transaction_delete(och_transaction *transaction, const och_bytes *ids,
                                        size_t id_count, och_error *err);
/**
 * Apply all writes noted, at once and durably, or none of them.  *ret_count (may be NULL): how many there were.
 *
 * After OCH_OK and OCH_CONFLICT the transaction is over: reads begin a new one, and nothing is noted.
 *
 * Errors:  OCH_CONFLICT: something read or to be written was changed meanwhile; OCH_STALE as above; as och_collection_add.
 */
OCH_API och_code och_transaction_commit(och_transaction *transaction, uint64_t *ret_count,
                                        och_error *err);
/** Give it up, or after a commit just free it. */
OCH_API void och_transaction_free(och_transaction *transaction);

/* ---- HTTP without a socket ---- */

typedef struct och_header {
    och_bytes name, value;
} och_header;

typedef struct och_request {
    uint32_t struct_size;
    uint32_t deadline_ms; /* 0: the setting's default, or the header Ochre-Deadline-Ms */
    och_bytes method;     /* "GET" */
    och_bytes target;     /* "/api/v2/heartbeat?x=1" */
    och_bytes body;
    const och_header *headers;
    size_t header_count;
    och_cancel *cancel; /* NULL: none */
} och_request;
#define OCH_REQUEST                                                                     \
    {                                                                                   \
        sizeof(och_request), 0, OCH_NO_BYTES, OCH_NO_BYTES, OCH_NO_BYTES, NULL, 0, NULL \
    }

/**
 * Perform one HTTP exchange as a server would, in this thread: the whole API without a socket.
 *
 * OCH_OK whenever there is an HTTP answer, be it a 500; an error means that there is none.  Bodies are neither compressed nor chunked,
 * either way.
 *
 * Errors:  OCH_INVALID (method, target or headers that no HTTP message could carry).
 */
OCH_API och_code och_database_exchange(och_database *database, const och_request *request,
                                       och_response **ret_response, och_error *err);
OCH_API int och_response_status(const och_response *response);
OCH_API och_bytes och_response_body(const och_response *response);
/** How many headers; *ret_headers holds until och_response_free. */
OCH_API size_t och_response_headers(const och_response *response, const och_header **ret_headers);
OCH_API void och_response_free(och_response *response);

#ifdef __cplusplus
}
#endif
#endif
