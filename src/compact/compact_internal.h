/* SPDX-License-Identifier: Apache-2.0 */
/* Shared inside compact/ only. */
#ifndef COMPACT_INTERNAL_H
#define COMPACT_INTERNAL_H

#include "base/map.h"
#include "compact/compact.h"

#include <sys/queue.h>

/* Locks by rank; RANK_COMPACT is the queue's.  Flushes and merges of small and of large parts run beside each other (D31), each kind one at a time;
 * commits one at a time. */
#define RANK_FLUSH       25
#define RANK_MERGE_SMALL 26
#define RANK_MERGE_LARGE 27
#define RANK_COMMIT      28

enum merge_tier {
    MERGE_SMALL, /* runs of tail-sized parts: soon, as each costs every query a little */
    MERGE_LARGE, /* large ones, those with many dead rows or damage, idle ones to one: takes its time */
    MERGE_TIERS
};

/* A note about one collection, in up to four queues. */
struct note {
    uuid id;
    bool in_flush;              /* its tail is large */
    bool in_merge[MERGE_TIERS]; /* its parts may want merging */
    bool in_idle;               /* goes down to one part once nobody wrote for a while */
    bool in_expiry;             /* rows are going to expire, or it is not known when */
    TAILQ_ENTRY(note) flush_link, merge_link[MERGE_TIERS], idle_link, expiry_link;
    unsigned failures;   /* in a row */
    uint64_t not_before; /* mono ns */
    uint64_t idle_since; /* mono ns; the idle queue is in this order */
    int64_t expiry_ms;   /* since 1970: when to look for expired rows */
    uint64_t rows_seen;  /* unflushed rows at the last sweep */
};
TAILQ_HEAD(note_list, note);

/* What is known to take so long for one tail's worth of rows. */
enum pace {
    PACE_FLUSH,
    PACE_MERGE /* of tail-sized parts */,
    PACE_LARGE /* of large ones */,
    PACES
};

/* The parts that a tier is merging: [from, to) of this collection's log. */
struct running {
    uuid id;
    uint64_t from, to; /* equal: nothing */
};

struct compactor {
    struct compactor_options options;
    void (*tick)(void *context);
    void *tick_context;
    struct mutex flush_lock, merge_locks[MERGE_TIERS], commit_lock;
    struct mutex lock; /* RANK_LEAF; guards the following */
    struct cond flush_wake, merge_wake[MERGE_TIERS];
    struct map notes; /* id -> struct note * */
    struct note_list flush_queue, merge_queue[MERGE_TIERS], idle_queue;
    struct note_list expiry_list; /* in no order */
    int64_t expiry_ms;            /* the earliest of it, or earlier */
    struct running running[MERGE_TIERS];
    struct random random;
    bool stopping, garbage;
    bool pressed; /* tails of all collections take too much memory: flush the oldest */
    struct compactor_stats stats;
    uint64_t tail_ns[PACES]; /* lately */
    uint64_t admit_ns;  /* mono ns: writers that are slowed go on one behind the other from here */
    uint64_t slowed_ns; /* mono ns: writers were last slowed by the number of parts; 0: never */
    struct thread flusher, mergers[MERGE_TIERS];
    struct cancel cancel;
};

static inline uint64_t now_ns(const struct compactor *c)
{
    return clock_mono_ns(c->options.clock);
}
static inline int64_t compact_wall_ms(const struct compactor *c)
{
    return (int64_t)(clock_wall_ns(c->options.clock) / 1000000);
}
uuid compact_new_id(struct compactor *c);
/** Under lock: the note about a collection.  NULL: no memory; the sweep will come by again. */
struct note *compact_note_take(struct compactor *c, uuid id);
bool compact_stopping(struct compactor *c);
void compact_learn_pace(struct compactor *c, enum pace which, uint64_t tail_ns);
/** The version now has several parts or dead rows. */
void compact_want_merge(struct compactor *c, uuid id);

/* ---- compact_flush.c ---- */
/** Flush the tails of some collections, as long as they are when asked for; of those that are no longer than usual the parts lie in one object and are
 *  committed in one transaction.  Collections without a tail, or gone, are passed over.  plain: records only (D19). */
MUST_USE och_code compact_flush(struct compactor *c, const uuid *ids, size_t count, bool plain,
                                och_error *err);

/** The oldest part of one tail, about as much as usually becomes a part. */
MUST_USE och_code compact_flush_step(struct compactor *c, uuid id, bool plain, och_error *err);

/* ---- compact_merge.c ---- */
/** One merge of a collection if the policy wants one; *ret_merged says so.  Waits for merges of both tiers that are at work. */
MUST_USE och_code compact_merge(struct compactor *c, uuid id, bool to_one, bool *ret_merged,
                                och_error *err);
/** One merge of this tier, beside one of the other that it leaves alone. */
MUST_USE och_code compact_merge_tier(struct compactor *c, uuid id, enum merge_tier tier,
                                     bool to_one, bool *ret_merged, och_error *err);

/* ---- compact_policy.c: pure ---- */
struct policy_part {
    uint64_t rows, deleted;
    bool damaged;  /* a derived section wants rebuilding (D4) */
    bool busy;     /* being merged */
    bool unlisted; /* has no lists of its vectors, or long ones, as merges on the way make them */
};
struct policy {
    uint64_t tail_rows, part_rows_max;
    bool to_one;
    unsigned tiers; /* bits by enum merge_tier */
};
/** Most rows that a merge makes a part of: `rows_max`, or as many as it can build in its share of the memory limit (0: there is none).  A larger merge would
 *  fail, and only after it has trained its lists. */
uint64_t policy_rows_max(uint64_t rows_max, int64_t limit_bytes, uint32_t dimension);
/** Which adjacent parts [first, first + count) to merge next; count 0: none. */
void policy_choose(const struct policy *policy, const struct policy_part *parts, size_t part_count,
                   size_t *ret_first, size_t *ret_count);

/* ---- compact_expiry.c ---- */
/** What a merge leaves behind of one part. */
struct compact_buried {
    struct bitset *dead; /* added to */
    bool keep_ids;       /* an older part may hold them, which KILL must say (D3) */
    VEC(slice) ids;      /* in the arena; VEC_DONE by the caller */
};
/** Add the rows of a part that had expired at last_ms, before which no operation that is not in the parts can be. */
MUST_USE och_code compact_bury_expired(struct compactor *c, struct part *part, int64_t last_ms,
                                       struct arena *arena, struct compact_buried *buried,
                                       och_error *err);

/** Rows of a part that had expired by then, among those that are not dead. */
MUST_USE och_code compact_count_expired(struct compactor *c, struct part *part,
                                        const struct bitset *dead, int64_t last_ms,
                                        uint64_t *ret_count, och_error *err);
/** Have so many rows of a part gone that it is worth to be written again without them? */
static inline bool compact_is_hollow(uint64_t rows, uint64_t gone)
{
    return gone * 10 > rows * 3;
}
/** If nothing was written from `upto` on: from now on no operation can be of an earlier time, *ret_ms.  0: something was, or the log
 *  takes nothing just now. */
MUST_USE och_code compact_pass_time(struct compactor *c, uuid id, uint64_t upto, int64_t *ret_ms,
                                    och_error *err);
/** Under lock: a collection of which enough rows should have expired by now. */
bool compact_pick_expiry(struct compactor *c, uuid *ret_id);
/** A collection came to rest: note when it is worth looking at it again. */
void compact_plan_expiry(struct compactor *c, uuid id);
/** When, in ms since 1970, expired rows will make a part of a collection hollow that stays as it is; 0: never. */
MUST_USE och_code compact_next_expiry(struct compactor *c, uuid id, int64_t *ret_ms,
                                      och_error *err);

/* ---- compact_commit.c ---- */
/** Begin a new object: announced in the catalogue, then opened for writing. */
MUST_USE och_code compact_object_new(struct compactor *c, uuid *ret_file,
                                     struct store_writer **ret_writer, och_error *err);
/** An announced object that certainly no version refers to: gone, and forgotten.  Left to the next open if that fails. */
void compact_object_drop(struct compactor *c, uuid file);
struct sysdb_part compact_part_row(uuid file, const struct part_info *info);
/** Deletion bitmap of a part into a catalogue row. */
MUST_USE och_code compact_set_dead(const struct bitset *dead, struct arena *arena,
                                   struct sysdb_part *part, och_error *err);

/** Before a build: cached extents make way for it, as queries fill whatever room they find. */
void compact_make_room(struct compactor *c);

/* ---- compact_garbage.c ---- */
/** Give up kept versions whose time is over; *ret_any: there were some. */
MUST_USE och_code compact_expire_kept(struct compactor *c, bool *ret_any, och_error *err);
MUST_USE och_code compact_garbage(struct compactor *c, bool at_open, bool *ret_more,
                                  och_error *err);
#endif
