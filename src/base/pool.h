/* SPDX-License-Identifier: Apache-2.0 */
/* Worker threads: jobs from a bounded queue, and loops cut over the workers. */
#ifndef BASE_POOL_H
#define BASE_POOL_H

#include "base/sched.h"

struct pool;
struct pool_options {
    const char *name;
    unsigned thread_count; /* at most; threads start as jobs wait, and stay */
    unsigned queue_max;    /* jobs waiting; 0 = no bound */
    size_t stack_bytes;    /* 0 = 256 KiB */
    bool low_priority;
    bool prompt; /* thread_be_prompt() */
    /* Jobs that run at a time; those that wait or are long at it (struct sched_watch) are not counted.  Few that run undisturbed end sooner than
     * many that take turns.  Who goes on after a wait does so at once, so there may be more for a moment.  0 = thread_count. */
    unsigned running_max;
};
MUST_USE och_code pool_new(const struct pool_options *options, struct pool **ret_pool,
                           och_error *err);
/** Runs what is queued, then joins all threads. */
void pool_free(struct pool *pool);
/** Errors: OCH_BUSY when the queue is full; then nothing happened. */
MUST_USE och_code pool_submit(struct pool *pool, void (*run)(void *arg), void *arg, och_error *err);
/** Call run(arg, i) for all i < count, spread over idle workers and the caller; returns when all are done.
 *  Never waits for a busy worker: the caller does what is left.  pool NULL = the caller does all. */
void pool_for(struct pool *pool, size_t count, void (*run)(void *arg, size_t i), void *arg);
#endif
