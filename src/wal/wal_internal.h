/* SPDX-License-Identifier: Apache-2.0 */
/* The local Log's insides; shared inside this folder only.  Locks and crash rules: README.md. */
#ifndef WAL_WAL_INTERNAL_H
#define WAL_WAL_INTERNAL_H

#include "base/buf.h"
#include "base/map.h"
#include "base/trace.h"
#include "model/limits.h"
#include "wal/wal.h"
#include "wal/wal_segment.h"

#define WAL_SEGMENT_BYTES     (64ull << 20)
#define WAL_SEGMENT_MIN_BYTES (4ull << 20) /* the first; each next one is twice as large */
#define WAL_RESERVE_BYTES     (1ull << 20)
#define WAL_RESCUE_BYTES      (256ull << 10) /* segment for deletes on a full disk */
#define WAL_GROUP_BYTES       (16ull << 20)  /* a flush takes no more batches beyond this */
#define WAL_ID_MS             (15 * 60 * 1000)
#define WAL_IDLE_NS           1000000ull   /* queue empty that long: note what is durable */
#define WAL_RETRY_NS          100000000ull /* between tries to find room on a full disk */
#define WAL_TRIM_NS           100000000ull /* trims so close together are one */
#define WAL_EVICT_COUNT       8192         /* collections kept without any frame */
#define WAL_PAGE              4096ull
#define FIRST_BYTES           (WAL_HEADER_SIZE * 2) /* a group's header, and room for the LAST one */

/** For a failure that changes nothing; says so at the call. */
static inline void wal_ignore(och_code code)
{
    (void)code;
}

enum wal_segment_state {
    SEGMENT_USED,   /* has groups, or is being written */
    SEGMENT_UNUSED, /* the spare */
    SEGMENT_VOID    /* no group in it counts */
};
struct wal_segment {
    uint32_t refs; /* guarded by wal.lock: one of the list, one per reader */
    enum wal_segment_state state;
    struct wal_name name;
    uint64_t size;
    struct file *file;
    uint64_t live_frames;
    bool closed; /* its last group says so: its end is known without the next segment */
};

/** Where a live frame stands: what wal_tail needs to read it. */
struct wal_entry {
    struct wal_segment *segment;
    uint64_t byte;
    uint64_t first;
    int64_t created_at;
    uint32_t count, dimension;
    uint32_t payload_size, payload_crc;
};

/** A remembered batch id (D17). */
struct wal_id {
    struct wal_id *next; /* of its collection, in log order; only when not in flight */
    uuid batch_id;
    uint64_t request_hash, first;
    uint32_t count;
    int64_t created_at;
    bool in_flight;
};

/** What the log knows of a collection.  All guarded by wal.lock. */
struct wal_collection {
    uuid id;
    uint32_t pins; /* calls that hold it outside the lock */
    uint32_t slot;
    bool sealed, forgotten;
    bool turn;              /* somebody decides */
    uint32_t in_flight;     /* requests queued or being flushed or delivered */
    uint32_t flight_frames; /* in the group being flushed */
    uint64_t trimmed;       /* everything before is in the parts */
    /* durable, and with what is being flushed */
    uint64_t head, next_head;
    uint32_t dimension, next_dimension;
    int64_t last_created_at, next_created_at;
    VEC(struct wal_entry) entries; /* the live ones from `start` on, without a gap */
    size_t start;
    uint64_t live_bytes;
    struct map ids; /* batch id -> struct wal_id */
    struct wal_id *ids_first, **ids_last;
};

struct wal_draft { /* a batch on its way, and what of its frame is known before it has a place */
    struct wal_batch *batch;
    uint32_t payload_crc, kinds;
};
/** A unit of the queue: lands in one group. */
struct wal_request {
    struct wal_request *next;
    struct wal_collection *collection; /* pinned by the waiting call */
    struct wal_draft *drafts;
    size_t draft_count;
    uint64_t bytes;
    uint32_t dimension;
    bool fixes_dimension;
    int64_t as_of_ms; /* 0: the clock's */
    bool placed;      /* offsets and times are given: a fork */
    bool deletes;     /* nothing but deletes: may use what is kept for a full disk */
    struct wal_id *id;
    och_code code;
    och_error *err;
    struct mutex lock; /* guards `done` */
    struct cond wake;
    bool done;
};

struct wal_tomb { /* a dropped collection whose frames may still be in segments up to `last` */
    uuid id;
    uint64_t last;
};
struct wal_range { /* to be punched */
    struct wal_segment *segment;
    uint64_t byte, len;
};
enum wal_spare { SPARE_NONE, SPARE_WANTED, SPARE_MAKING, SPARE_READY };

struct wal {
    struct wal_options options;
    char *folder;
    struct random random; /* writer and helper, under lock */

    struct mutex reap_lock; /* RANK_WAL - 1: one removal of segments at a time */
    struct mutex lock;      /* RANK_WAL; guards all below unless said otherwise */
    struct cond work;       /* the writer's */
    struct cond chore;      /* the helper's */
    struct cond changed;    /* turn, in_flight, batch ids, spare */
    uint32_t changed_waiting;
    struct thread writer, helper;
    bool stopping, helper_stopping, closed;

    struct wal_request *queue, **queue_end;
    struct map collections;             /* uuid -> struct wal_collection */
    VEC(struct wal_collection *) slots; /* NULL = free */
    VEC(uint32_t) free_slots;
    uint64_t epoch;                     /* changes when a collection is removed from the table */
    VEC(struct wal_segment *) segments; /* ascending */
    VEC(struct wal_tomb) tombs;
    VEC(struct wal_range) punches;
    struct wal_segment *spare;
    enum wal_spare spare_state;
    uint64_t next_id;       /* of segments */
    uint64_t segment_bytes; /* of the next one */
    uint64_t used;          /* bytes in `current` */
    bool started_seen;      /* `started`, for other threads */
    uint64_t spare_retry_ns;
    bool reap_wanted, roll_wanted, reserve_wanted, reserve_there;
    bool reserve_given_up; /* the disk was full, and it was not made again yet */
    bool read_only, failing;
    uint64_t retry_mono_ns; /* failing: not before */
    och_error failure;      /* why */
    /* Trims that made the backlog smaller: when the last ones began, bytes since; lately, how long from one to the next and how much each. */
    uint64_t trimmed_mono_ns, trimmed_bytes, trim_ns, trim_bytes;
    struct wal_stats stats;

    /* Only the writer touches these (and open and close, when it does not run); `current` is changed under lock. */
    struct wal_segment *current; /* NULL: the next write begins a segment */
    uint64_t byte;               /* where the next group goes in it */
    bool started;   /* `current` has a durable first group: chained to what was before */
    bool rescue;    /* `current` is small and kept for deletes: the disk is full */
    bool must_mark; /* D11 or a cut: the end of the log must be made known before anything else */
    struct wal_place end;      /* of the last segment with groups */
    struct wal_place synced;   /* everything before is durable */
    struct wal_place noted;    /* the highest `synced` that a group says */
    struct wal_place data_end; /* of the last group with frames */
    uint64_t sequence;         /* of the next group */
    bool end_noted;            /* the catalogue holds an end: remove it before writing */
    uint64_t sync_mono_ns;     /* of the last sync (WAL_INTERVAL) */
    VEC(struct wal_request *) flight;
    VEC(struct iovec) parts;
    VEC(uint8_t) heads;
};

/* wal_collection.c: the table.  `lock` is held by the caller; collection_get gives it up while it asks the catalogue. */
MUST_USE och_code wal_collection_get(struct wal *wal, uuid id, struct wal_collection **ret,
                                     och_error *err);
/** The table's entry, or one made without asking the catalogue. */
MUST_USE och_code wal_collection_begin(struct wal *wal, const struct wal_origin *origin,
                                       struct wal_collection **ret, och_error *err);
/** To look only: the table's entry, or `scratch` filled from the catalogue.  Good while `lock` is held. */
MUST_USE och_code wal_collection_peek(struct wal *wal, uuid id, struct wal_collection *scratch,
                                      const struct wal_collection **ret, och_error *err);
struct wal_collection *wal_collection_find(struct wal *wal, uuid id);
void wal_collection_pin(struct wal_collection *c);
void wal_collection_unpin(struct wal *wal, struct wal_collection *c);
/** Take it out of the table; freed with the last pin. */
void wal_collection_remove(struct wal *wal, struct wal_collection *c);
void wal_collection_free(struct wal_collection *c);
/** Drop entries that end at or before `to`; true when a segment lost its last live frame. */
bool wal_collection_trim(struct wal *wal, struct wal_collection *c, uint64_t to);
void wal_id_free(struct wal_collection *c, struct wal_id *id); /* in flight */
void wal_id_drop(struct wal_collection *c, struct wal_id *id); /* done */
void wal_id_done(struct wal_collection *c, struct wal_id *id, uint64_t first, uint32_t count,
                 int64_t created_at);
void wal_wake_changed(struct wal *wal);
/** Wait for `changed`.  OCH_DEADLINE, OCH_CANCELLED. */
MUST_USE och_code wal_wait_changed(struct wal *wal, const struct limits_of_work *limits,
                                   och_error *err);
int64_t wal_now_ms(struct wal *wal);

/** What a batch has in it, enum wal_kinds. */
uint32_t wal_kinds_of(const struct batch *rows);

/* wal_writer.c */
void wal_writer_run(void *arg);
void wal_request_init(struct wal_request *request);
void wal_request_done(struct wal_request *request);
void wal_request_push(struct wal *wal, struct wal_request *request); /* under lock */
och_code wal_request_wait(struct wal_request *request);

/* wal_group.c: the writer's, or where nobody else runs. */
/**
 * Write one group whose header is parts[0] (filled in here).  On success the log ends behind it, on failure nothing is
 * known of the segment any more (D11): `must_mark`.
 */
MUST_USE och_code wal_group_put(struct wal *wal, struct iovec *parts, size_t part_count,
                                struct wal_group *group, bool sync, och_error *err);
/** The catalogue's note of the log's end does not hold once something is written. */
MUST_USE och_code wal_end_forget(struct wal *wal, och_error *err);
MUST_USE och_code wal_data_sync(struct wal *wal, och_error *err);
void wal_current_set(struct wal *wal, struct wal_segment *segment);
/** Leave `current`: everything in it durable, then a group that says it was the last. */
void wal_current_close(struct wal *wal);
/** Begin a segment with an empty group that says where the log ends now, synced. */
MUST_USE och_code wal_writer_mark(struct wal *wal, och_error *err);
/** An empty group with what is durable; `sync` it. */
MUST_USE och_code wal_writer_note(struct wal *wal, bool sync, och_error *err);
void wal_set_failing(struct wal *wal, const och_error *why, bool for_good);
void wal_set_working(struct wal *wal, bool fresh_segment);
/** Nothing of ours is at fault and it may pass: no room, no memory, no descriptors. */
bool wal_may_pass(const och_error *why);
/** After a failed flush: go on in a new segment that says where the last one ends (D11). */
void wal_resume(struct wal *wal);

/* wal_keep.c: segments come and go; the helper thread. */
void wal_helper_run(void *arg);
/** Create, reserve, sync and catalogue a segment.  No lock held. */
MUST_USE och_code wal_segment_new(struct wal *wal, uint64_t size, struct wal_segment **ret_segment,
                                  och_error *err);
/** The spare if it is large enough, else a new one; it is in the list then.  On a full disk the reserve is given up, and
 *  with `may_rescue` a small segment is tried.  Writer only. */
MUST_USE och_code wal_segment_next(struct wal *wal, uint64_t needed, bool may_rescue,
                                   struct wal_segment **ret_segment, och_error *err);
void wal_segment_unref(struct wal *wal, struct wal_segment *segment); /* under lock */
/** Remove what nobody needs: catalogue rows, then files.  No lock held. */
MUST_USE och_code wal_reap(struct wal *wal, och_error *err);
bool wal_is_full(const och_error *err); /* the error says: no space left */
MUST_USE och_code wal_path(struct wal *wal, const char *name, char **ret_path, och_error *err);

/* wal_append.c */
/** Slow writers down, then refuse them, before the backlog can hurt; no lock held. */
MUST_USE och_code wal_throttle(struct wal *wal, const struct limits_of_work *limits,
                               och_error *err);

/* wal_tail.c */
/** Read, check and decode one frame. */
MUST_USE och_code wal_batch_read(struct wal *wal, const struct wal_entry *entry, uuid collection,
                                 struct wal_batch **ret_batch, och_error *err);

/* wal_recover.c */
MUST_USE och_code wal_recover(struct wal *wal, och_error *err);
#endif
