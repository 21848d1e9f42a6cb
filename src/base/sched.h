/* SPDX-License-Identifier: Apache-2.0 */
/* Threads and every kind of waiting.  Nothing else in the tree calls pthread, so a simulator can
 * replace waiting for the tasks it runs (D23): each call asks the calling thread's scheduler, which
 * is NULL (the system's) except inside a simulation. */
#ifndef BASE_SCHED_H
#define BASE_SCHED_H

#include "base/error.h"

#include <pthread.h>

/* Locks carry a rank; debug builds assert that a thread takes them in rising order.  Equal ranks may
 * not nest.  Ranks of each folder: see its README. */
enum lock_rank {
    RANK_NONE = 0, /* not checked */
    RANK_MODE = 10,
    RANK_GATEWAY = 20,
    RANK_COMPACT = 30,
    RANK_TURN = 40,       /* a collection's append turn */
    RANK_VIEW_TABLE = 50, /* the table of collections */
    RANK_VIEW = 60,       /* one collection's tail */
    RANK_WAL = 70,
    RANK_SYSDB = 80,
    RANK_PART = 85,
    RANK_CACHE = 90,
    RANK_NET = 95,
    RANK_POOL = 96,
    RANK_LEAF = 100 /* never holds it while taking another */
};

struct mutex {
    pthread_mutex_t system;
    int rank;
};
struct cond {
    pthread_cond_t system;
};
struct thread {
    pthread_t system;
    bool started;
};

/** What a simulator puts in the system's place, for the calling thread and the threads it starts.  Every
 *  wait below asks for it first; NULL members are not allowed.  The simulator lets one thread run at a time. */
struct sched_hook {
    void (*lock)(struct sched_hook *hook, struct mutex *mutex);
    bool (*try_lock)(struct sched_hook *hook, struct mutex *mutex);
    void (*unlock)(struct sched_hook *hook, struct mutex *mutex);
    /* mono_ns UINT64_MAX = no limit; false when time passed first */
    bool (*wait)(struct sched_hook *hook, struct cond *cond, struct mutex *mutex, uint64_t mono_ns);
    void (*wake)(struct sched_hook *hook, struct cond *cond, bool all);
    void (*sleep)(struct sched_hook *hook, uint64_t ns); /* 0 = yield */
    uint64_t (*mono_ns)(struct sched_hook *hook);
    struct sched_hook *(*thread_new)(struct sched_hook *hook,
                                     const char *name); /* by the starter */
    void (*thread_begin)(
        struct sched_hook *hook); /* by the new thread, with what thread_new gave */
    void (*thread_end)(struct sched_hook *hook);
    void (*before_join)(struct sched_hook *hook,
                        struct thread *thread); /* returns when it has ended */
};
void sched_set_hook(struct sched_hook *hook); /* NULL = the system */
struct sched_hook *sched_get_hook(void);
/** The monotonic clock that deadlines of this thread are measured by. */
uint64_t sched_mono_ns(void);

void mutex_init(struct mutex *mutex, int rank);
void mutex_done(struct mutex *mutex);
void mutex_lock(struct mutex *mutex);
bool mutex_try_lock(struct mutex *mutex);
void mutex_unlock(struct mutex *mutex);
void cond_init(struct cond *cond);
void cond_done(struct cond *cond);
void cond_wait(struct cond *cond, struct mutex *mutex);
/** False when `mono_ns` (clock_mono_ns) passed first. */
bool cond_wait_until(struct cond *cond, struct mutex *mutex, uint64_t mono_ns);
void cond_signal(struct cond *cond);
void cond_broadcast(struct cond *cond);
void sched_sleep_ns(uint64_t ns);
void sched_yield_now(void);

/** Who wants to know when the calling thread makes no use of a processor: told by every wait and sleep above and by calls of the system that may
 *  take long (sched_block_begin, _end).  One who works on for SCHED_LONG_NS, as work_check() finds, is told of once, as if it waited from then on.
 *  Both run on the thread itself, perhaps under locks, and must not wait. */
struct sched_watch {
    void (*begin)(struct sched_watch *watch);
    void (*end)(struct sched_watch *watch);
    uint64_t since_ns; /* sched_mono_ns() when it began */
    bool is_long;
};
#define SCHED_LONG_NS 5000000u
void sched_set_watch(struct sched_watch *watch); /* for the calling thread; NULL = nobody */
void sched_block_begin(void);
void sched_block_end(void);

/** Start `run(arg)`.  stack_bytes 0 = 256 KiB.  All signals are blocked in it. `name` ≤ 15 bytes. */
MUST_USE och_code thread_start(struct thread *thread, const char *name, size_t stack_bytes,
                               void (*run)(void *arg), void *arg, och_error *err);
void thread_join(struct thread *thread);
/** Short turns soon rather than long ones late, for the calling thread: who answers in microseconds should not stand behind another's milliseconds.
 *  Linux 6.12 and later (its slice of 0.1 ms, the least there is); nothing happens elsewhere. */
void thread_be_prompt(void);
/** Lowest priority for the calling thread: background work. */
void thread_lower_priority(void);
/** The calling thread is so much nicer than it was, at most 19; it cannot be taken back.  Threads that it starts inherit it. */
void thread_be_nice(int nice);

/** Cancel flag shared by a request and who may give it up; any thread, signal handlers too. */
struct cancel {
    _Atomic bool fired;
};
/** What a long loop checks every so often. */
struct limits_of_work {
    uint64_t deadline_mono_ns; /* 0 = none */
    const struct cancel *cancel;
};
/** OCH_DEADLINE or OCH_CANCELLED, else OCH_OK. */
MUST_USE och_code work_check(const struct limits_of_work *limits, och_error *err);
#endif
