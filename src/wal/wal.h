/* SPDX-License-Identifier: Apache-2.0 */
/* The Log: every write durable before it is acknowledged, atomic batches, replay by offset (DESIGN §4, D33).
 * A handle and its calls, the same whether the log is in this process or not. */
#ifndef WAL_WAL_H
#define WAL_WAL_H

#include "base/sched.h"
#include "model/batch.h"
#include "sysdb/sysdb.h"

struct wal;

/** A batch that is in the log: durable, ordered, immutable, counted. */
struct wal_batch {
    _Atomic uint32_t refs;
    uuid collection;
    uint64_t first; /* offset of its first row operation; the next batch starts at first + count */
    uint32_t count;
    uint32_t dimension; /* of the collection after this batch, 0 = not fixed yet */
    int64_t created_at; /* ms since 1970, never falls within a collection */
    uuid batch_id;      /* zero: none was sent */
    uint64_t request_hash;
    struct payload *payload;
    struct batch rows; /* decoded, points into payload */
};
struct wal_batch *wal_batch_ref(struct wal_batch *batch);
void wal_batch_unref(struct wal_batch *batch);

/** Told of every batch after its flush and before its acknowledgement, in offset order within a collection. Must be quick and not fail: push, no work. */
struct wal_sink {
    void *context;
    void (*deliver)(void *context,
                    struct wal_batch *batch); /* takes a reference of its own if it keeps it */
};

enum wal_durability { WAL_ALWAYS, WAL_INTERVAL, WAL_OS };
struct wal_options {
    struct io *io;
    const char *folder;
    struct sysdb *sysdb;
    struct clock *clock;
    struct trace *trace;
    struct budget *budget;
    struct wal_sink sink;
    enum wal_durability durability;
    uint32_t interval_ms;            /* WAL_INTERVAL */
    uint64_t segment_bytes;          /* default 16 MiB (decision 0006) */
    uint64_t slow_bytes, stop_bytes; /* backlog: writers slowed, refused with OCH_BUSY; limits.h */
    bool read_only;
    uint64_t seed; /* of the segments' salts: for simulation; 0 = the system's entropy */
};
/** Recover (D1) and be ready.  Errors: OCH_CORRUPT naming segment and byte; OCH_IO. */
MUST_USE och_code wal_open(const struct wal_options *options, struct wal **ret_wal, och_error *err);
/** No appends any more; flush, sync the end, note it in the catalogue. */
MUST_USE och_code wal_close(struct wal *wal, och_error *err);
void wal_free(struct wal *wal);

struct wal_append;
/**
 * Decide inside the collection's append turn: nothing can get in between, all batches before `head` are delivered to the sink.  Fill in the
 * request's payload, count, dimension; *ret_append false: append nothing, wal_append answers OK with count 0.  May be called again.
 *
 * Whether it appends or not, no later batch of the collection has a created_at before the as_of_ms that it set, as long as this process lives.
 */
typedef och_code (*wal_decide)(void *context, uint64_t head, struct wal_append *request,
                               bool *ret_append, och_error *err);

struct wal_appended {
    uint64_t first;
    uint32_t count;
    bool repeated; /* this batch id was applied before: `first` and `count` are from then */
};
/** The batch of a decision is durable and delivered, and it is still the collection's append turn.  An error is that of wal_append; the batch stays. */
typedef och_code (*wal_after)(void *context, const struct wal_appended *appended,
                              int64_t created_at, och_error *err);

struct wal_append {
    uuid collection;
    struct payload *payload; /* borrowed: the log takes its own reference */
    uint32_t count;
    uint32_t dimension; /* of the vectors in it; 0 = none */
    bool
        fixes_dimension; /* add and upsert: fixes the collection's dimension if none is fixed; else a vector is only checked against it */
    uuid batch_id;       /* zero = none.  Otherwise applied once (15 minutes) */
    uint64_t request_hash; /* same batch_id with another hash is OCH_CONFLICT (422) */
    int64_t
        as_of_ms; /* set by decide: what it judged expiry by.  The batch's created_at, if not before the last one's; 0: the clock's */
    wal_decide decide; /* NULL: plain append */
    wal_after after;   /* beside decide; NULL: nothing to do */
    void *context;
    struct limits_of_work limits;
};
/**
 * Append one batch; returns when it is durable and delivered.
 * Errors: OCH_INVALID "Collection expecting embedding with dimension of D, got d"; OCH_NOT_FOUND (sealed or unknown collection);
 * OCH_BUSY (backlog, memory); OCH_UNAVAILABLE (flush failed, outcome unknown, D11; or read-only after that failed twice); OCH_CONFLICT.
 */
MUST_USE och_code wal_append(struct wal *wal, struct wal_append *request,
                             struct wal_appended *ret_appended, och_error *err);

/** Head (next offset) and dimension of a collection; durable batches only. */
MUST_USE och_code wal_head(struct wal *wal, uuid collection, uint64_t *ret_head,
                           uint32_t *ret_dimension, och_error *err);

/**
 * All batches with first ≥ from, decoded, ascending, without a gap; each counted.  Batches acknowledged during the call may be missing: they were delivered.
 * Errors: OCH_CORRUPT (payload damaged: that collection's alone, D19), OCH_STALE (from was trimmed), OCH_IO.
 */
MUST_USE och_code wal_tail(struct wal *wal, uuid collection, uint64_t from,
                           struct wal_batch ***ret_batches /* mem_free */, size_t *ret_count,
                           och_error *err);

/** Everything before `to` is in the parts, committed.  Frees segments that nobody needs, later, in the background or in this call. */
MUST_USE och_code wal_trim(struct wal *wal, uuid collection, uint64_t to, och_error *err);

/** Refuse appends from now on and wait for the one in flight (before a drop, D15).  Undone by wal_unseal if the drop failed. */
MUST_USE och_code wal_seal(struct wal *wal, uuid collection, och_error *err);
void wal_unseal(struct wal *wal, uuid collection);
/** The drop is committed: forget the collection, punch its payloads, let its segments go. */
void wal_forget(struct wal *wal, uuid collection);
/** Where the log of a collection begins that the catalogue does not show yet. */
struct wal_origin {
    uuid collection;
    uint64_t offset;
    uint32_t dimension; /* as of there, 0 = not fixed */
    int64_t created_at; /* of the last batch before */
};
/**
 * Copy the unflushed batches of a collection from `to->offset` to `upto` into the log of a new one (D16): one group, with their offsets and times, without batch
 * ids.  The catalogue must have a row for the copy, be it a tombstone: a crash leaves its frames.  Given up (also after an error): wal_forget.
 *
 * Errors: OCH_STALE: `to->offset` was trimmed; OCH_NOT_FOUND; OCH_CONFLICT: the copy has a log already; OCH_BUSY; OCH_UNAVAILABLE as wal_append.
 */
MUST_USE och_code wal_fork(struct wal *wal, uuid from, const struct wal_origin *to, uint64_t upto,
                           och_error *err);

struct wal_stats {
    uint64_t backlog_bytes, backlog_batches, segments, flushes, appends;
    uint64_t oldest_segment;
    bool read_only; /* writing failed for good until reopened */
    bool failing;   /* waiting for room: disk full */
};
void wal_stats(struct wal *wal, struct wal_stats *ret_stats);
/** Collections with unflushed batches in the oldest segments, oldest first, up to max: whom to flush so that segments can go. */
size_t wal_oldest_collections(struct wal *wal, uuid *ret_ids, size_t max);
/** All collections that have unflushed batches: count and bytes, for compaction at open.  Cursor starts at 0. */
bool wal_next_collection(struct wal *wal, size_t *cursor, uuid *ret_id, uint64_t *ret_rows,
                         uint64_t *ret_bytes, int64_t *ret_oldest_ms);
/** Offline verification for `ochre check`: every header and payload; a line per fault. */
MUST_USE och_code wal_verify(const struct wal_options *options, struct buf *report,
                             uint64_t *ret_faults, uint64_t *ret_frames, och_error *err);
#endif
