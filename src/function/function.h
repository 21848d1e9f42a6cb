/* SPDX-License-Identifier: Apache-2.0 */
/* Attached functions: a collection that follows another (http-api.md §9).  A function consumes the writes of its input collections and maintains
 * its output collection; what it wrote is a collection like any other.  What is attached is in the catalogue, this runs it. */
#ifndef FUNCTION_FUNCTION_H
#define FUNCTION_FUNCTION_H

#include "compact/compact.h"
#include "sysdb/sysdb.h"
#include "view/view.h"
#include "wal/wal.h"

#define FUNCTION_MIN_RECORDS 100 /* operations that wait before a run begins by itself */

/** What can be attached, by the name that requests call function_id. */
struct function_kind {
    const char *name;
    bool
        is_async; /* may have several inputs; a collection has at most one function of either mode */
    bool needs_reset;    /* only where the database may be reset: a helper of tests */
    const char *missing; /* NULL: it runs here.  Else why not, for the error */
};
/** NULL: there is none of this name. */
const struct function_kind *function_kind_find(slice name);

struct functions;
struct functions_options {
    struct sysdb *sysdb;
    struct views *views;
    struct cache *cache;
    struct budget *budget;
    struct clock *clock;
    struct trace *trace;
    uint64_t hold_rows,
        hold_bytes; /* a tail up to this long waits for functions before it becomes a part */
};
MUST_USE och_code functions_new(const struct functions_options *options,
                                struct functions **ret_functions, och_error *err);
/** Between the log and the views: passes every batch on, and learns from it who has work. */
struct wal_sink functions_sink(struct functions *functions, struct wal_sink next);
/** Both open after the sink: hand them over here, once, then load what is attached. */
MUST_USE och_code functions_load(struct functions *functions, struct wal *wal,
                                 struct compactor *compactor, och_error *err);
/** Run in the background from now on. */
MUST_USE och_code functions_start(struct functions *functions, och_error *err);
/** Finish or give up what is running, join. */
void functions_stop(struct functions *functions);
void functions_free(struct functions *functions); /* NULL is fine */

/** struct compactor_options.hold: the offset up to which the tail [from, to) of a collection may become a part; UINT64_MAX: all of it.
 *  A function compares what is in the tail with what was before it, so it must have consumed what leaves it. */
uint64_t functions_hold(void *functions, uuid collection, uint64_t from, uint64_t to,
                        uint64_t bytes);

/** The catalogue has this row now. */
MUST_USE och_code functions_attached(struct functions *functions, const struct sysdb_function *row,
                                     och_error *err);
void functions_detached(struct functions *functions, uuid id, uuid input);
/** The collection is gone, and with it what read from it or wrote to it. */
void functions_forget(struct functions *functions, uuid collection);

/** Run whatever has consumed less than its input holds, in the calling thread, until none has: for tests and tools; not beside functions_start.
 *  The first error, when the others have had their turn. */
MUST_USE och_code functions_run(struct functions *functions, och_error *err);

struct functions_stats {
    uint64_t attached; /* pairs of function and input */
    uint64_t waiting;  /* operations of inputs that are not consumed yet, of all */
    uint64_t failing;  /* whose last run failed */
    uint64_t runs, rebuilds, failures, consumed, written;
};
void functions_stats(struct functions *functions, struct functions_stats *ret_stats);
#endif
