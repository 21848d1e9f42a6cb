/* SPDX-License-Identifier: Apache-2.0 */
/* The Compactor: batches -> immutable parts -> merged parts -> garbage gone (DESIGN §5, D10, D18, D19, D31). */
#ifndef COMPACT_COMPACT_H
#define COMPACT_COMPACT_H

#include "view/view.h"

struct compactor;
struct compactor_options {
    struct views *views;
    struct wal *wal;
    struct sysdb *sysdb;
    struct store *store;
    struct part_env parts;
    struct budget *budget;
    struct clock *clock;
    struct trace *trace;
    unsigned thread_count; /* that build one merged part, as nice as the merge; 0 = 1 */
    uint32_t tail_rows_max, part_rows_max;
    uint64_t tail_bytes_max, slow_bytes;
    uint32_t
        idle_ms; /* a collection untouched so long is flushed and merged to one part; 0 = a default */
    /** Asked before the tail [from, to) of a collection, of so many bytes, is flushed: it becomes a part up to this offset at most.  UINT64_MAX: all of
     *  it.  Whoever says less kicks when there is more.  NULL: nobody minds. */
    uint64_t (*hold)(void *context, uuid collection, uint64_t from, uint64_t to, uint64_t bytes);
    void *hold_context;
};
/** Does not start work by itself: compactor_start. */
MUST_USE och_code compactor_new(const struct compactor_options *options,
                                struct compactor **ret_compactor, och_error *err);
/** Something else that wants doing now and then, about every idle_ms, short; set before the start. */
void compactor_set_tick(struct compactor *compactor, void (*tick)(void *context), void *context);
/** Remove announced-but-never-live and doomed files (open, D10), then start the workers. */
MUST_USE och_code compactor_start(struct compactor *compactor, och_error *err);
/** Finish or give up what is running (≤ a second), join. */
void compactor_stop(struct compactor *compactor);
void compactor_free(struct compactor *compactor);
/** This collection wants work; cheap, any thread, may be called with locks of view/ held. */
void compactor_kick(void *compactor, uuid collection);
/** Some rows of this collection may expire: look when enough of them will have.  Cheap, any thread. */
void compactor_note_expiry(void *compactor, uuid collection);
/** Bring one collection (or all: NULL) to rest: tail flushed, merged as the policy allows; garbage gone.  Blocks. */
MUST_USE och_code compactor_run(struct compactor *compactor, const uuid *collection,
                                bool merge_to_one, och_error *err);
/** Flush one collection's tail, as long as it is now: all but what attached functions hold back.  Blocks. */
MUST_USE och_code compactor_flush(struct compactor *compactor, uuid collection, och_error *err);
/** For writers (D18): how long one should wait before appending `count` operations, 0 = not at all; OCH_BUSY when refused.  Writers that have to wait
 *  go on one behind the other, so that together they are no faster than compaction. */
MUST_USE och_code compactor_throttle(struct compactor *compactor, uuid collection, uint32_t count,
                                     uint64_t *ret_wait_ns, och_error *err);
struct compactor_stats {
    uint64_t flushes, merges, rows_written, failures, bytes_reclaimed;
};
void compactor_stats(struct compactor *compactor, struct compactor_stats *ret_stats);
#endif
