/* SPDX-License-Identifier: Apache-2.0 */
/* Workers take two kinds of work under one lock: loops that a caller is in the middle of, which come
 * first, and jobs from a ring.  A loop lives on its caller's stack: it is in the list only while
 * pool_for runs, and a worker that joined is counted in it, so nothing of it outlives the call. */
#include "base/pool.h"

#include "base/mem.h"

#include <stdio.h>

struct job {
    void (*run)(void *arg);
    void *arg;
};

struct loop {
    struct loop *next;
    _Atomic size_t claimed; /* indices given out; may pass count */
    size_t count;
    void (*run)(void *arg, size_t i);
    void *arg;
    size_t helpers; /* workers inside; guarded by the pool's mutex */
    struct cond left;
};

struct pool {
    struct mutex mutex; /* guards: all below but options */
    struct cond work;
    struct pool_options options;
    char name[16];
    struct job *ring; /* ring_cap jobs, a power of two */
    size_t ring_cap, ring_at, queued;
    struct loop *loops;
    struct thread *threads; /* room for thread_count */
    size_t started, busy;
    size_t waiting; /* busy ones that wait inside a job, or are long at it */
    bool stopping;
};

/* What a worker's waits tell its pool.  On the worker's stack. */
struct place {
    struct sched_watch watch; /* first */
    struct pool *pool;
};

och_code pool_new(const struct pool_options *options, struct pool **ret_pool, och_error *err)
{
    assert(options->thread_count > 0);
    struct pool *pool = MEM_NEW(struct pool);
    size_t bytes = 0;
    if (pool && !mul_overflows(options->thread_count, sizeof(struct thread), &bytes))
        pool->threads = mem_zalloc(bytes);
    if (!pool || !pool->threads) {
        mem_free(pool);
        return FAIL_NO_MEMORY(err, "a thread pool");
    }
    pool->options = *options;
    (void)snprintf(pool->name, sizeof(pool->name), "%s", options->name ? options->name : "pool");
    pool->options.name = pool->name;
    // waits tell us of themselves under whatever locks they hold; we take none
    mutex_init(&pool->mutex, pool->options.running_max ? RANK_NONE : RANK_POOL);
    cond_init(&pool->work);
    *ret_pool = pool;
    return OCH_OK;
}

/* Run indices until none is left to claim. */
static void loop_work(struct loop *loop)
{
    for (;;) {
        size_t i = atomic_fetch_add_explicit(&loop->claimed, 1, memory_order_relaxed);
        if (i >= loop->count)
            return;
        loop->run(loop->arg, i);
    }
}

static struct loop *loop_find(struct pool *pool)
{
    for (struct loop *loop = pool->loops; loop; loop = loop->next) {
        if (atomic_load_explicit(&loop->claimed, memory_order_relaxed) < loop->count)
            return loop;
    }
    return NULL;
}

static struct job ring_pop(struct pool *pool)
{
    assert(pool->queued > 0);
    struct job job = pool->ring[pool->ring_at];
    pool->ring_at = (pool->ring_at + 1) & (pool->ring_cap - 1);
    pool->queued--;
    return job;
}

static bool ring_push(struct pool *pool, struct job job)
{
    if (pool->queued == pool->ring_cap) {
        size_t cap = pool->ring_cap ? pool->ring_cap * 2 : 16, bytes;
        struct job *ring = mul_overflows(cap, sizeof(*ring), &bytes) ? NULL : mem_alloc(bytes);
        if (!ring)
            return false;
        for (size_t i = 0; i < pool->queued; i++)
            ring[i] = pool->ring[(pool->ring_at + i) & (pool->ring_cap - 1)];
        mem_free(pool->ring);
        pool->ring = ring;
        pool->ring_cap = cap;
        pool->ring_at = 0;
    }
    pool->ring[(pool->ring_at + pool->queued) & (pool->ring_cap - 1)] = job;
    pool->queued++;
    return true;
}

static och_code start_worker(struct pool *pool, och_error *err);

static void wake_one(struct pool *pool);

/* Under the mutex: how many more jobs may run. */
static size_t free_places(const struct pool *pool)
{
    bool bounded = pool->options.running_max && !pool->stopping;
    size_t most = bounded ? pool->options.running_max : SIZE_MAX;
    size_t running = pool->busy - pool->waiting;
    return running < most ? most - running : 0;
}

static void begin_wait(struct sched_watch *watch)
{
    struct pool *pool = ((struct place *)watch)->pool;
    mutex_lock(&pool->mutex);
    pool->waiting++;
    size_t free = free_places(pool);
    if (free && pool->queued >= free) // fewer jobs than places: somebody is on the way for each
        wake_one(pool);
    mutex_unlock(&pool->mutex);
}

static void end_wait(struct sched_watch *watch)
{
    struct pool *pool = ((struct place *)watch)->pool;
    mutex_lock(&pool->mutex);
    pool->waiting--;
    mutex_unlock(&pool->mutex);
}

static void run_job(struct pool *pool, struct job job)
{
    struct place place = {{begin_wait, end_wait, 0, false}, pool};
    if (pool->options.running_max) {
        place.watch.since_ns = sched_mono_ns();
        sched_set_watch(&place.watch);
    }
    job.run(job.arg);
    sched_set_watch(NULL);
    mutex_lock(&pool->mutex);
    pool->busy--;
    pool->waiting -= place.watch.is_long;
}

static void worker(void *arg)
{
    struct pool *pool = arg;
    if (pool->options.low_priority)
        thread_lower_priority();
    if (pool->options.prompt)
        thread_be_prompt();
    mutex_lock(&pool->mutex);
    for (;;) {
        struct loop *loop = loop_find(pool);
        if (loop) {
            loop->helpers++;
            pool->busy++;
            // a job that was submitted while this worker counted as idle must not wait for the loop
            if (pool->queued > pool->started - pool->busy &&
                pool->started < pool->options.thread_count)
                (void)start_worker(pool, NULL);
            mutex_unlock(&pool->mutex);
            loop_work(loop);
            mutex_lock(&pool->mutex);
            pool->busy--;
            if (--loop->helpers == 0)
                cond_signal(&loop->left);
        } else if (pool->queued && free_places(pool)) {
            struct job job = ring_pop(pool);
            pool->busy++;
            mutex_unlock(&pool->mutex);
            run_job(pool, job);
        } else if (pool->stopping) {
            break;
        } else {
            cond_wait(&pool->work, &pool->mutex);
        }
    }
    mutex_unlock(&pool->mutex);
}

/* Under the mutex: start a worker if that is still allowed. */
static och_code start_worker(struct pool *pool, och_error *err)
{
    assert(pool->started < pool->options.thread_count);
    TRY(thread_start(&pool->threads[pool->started], pool->name, pool->options.stack_bytes, worker,
                     pool, err));
    pool->started++;
    return OCH_OK;
}

/* Under the mutex: workers that wait or are about to look for work, and are not spoken for. */
static size_t idle_count(const struct pool *pool)
{
    size_t idle = pool->started - pool->busy;
    return idle > pool->queued ? idle - pool->queued : 0;
}

/* Under the mutex: a place got free, for the last of free_places() jobs. */
static void wake_one(struct pool *pool)
{
    size_t on_their_way = free_places(pool) - 1;
    if (pool->started - pool->busy > on_their_way)
        cond_signal(&pool->work);
    else if (pool->started < pool->options.thread_count)
        (void)start_worker(pool, NULL); // else who ends a job takes the next
}

static och_code submit(struct pool *pool, struct job job, och_error *err)
{
    bool queue_only = free_places(pool) <= pool->queued;
    if (!queue_only && idle_count(pool) == 0 && pool->started < pool->options.thread_count) {
        och_code code = start_worker(pool, err);
        if (code != OCH_OK && pool->started == 0)
            return code;
        if (code != OCH_OK)
            error_clear(err); // the job waits for a worker that there is
    }
    size_t spoken_for = pool->started - pool->busy;
    if (pool->options.queue_max && idle_count(pool) == 0 &&
        pool->queued - spoken_for >= pool->options.queue_max)
        return FAIL(err, OCH_BUSY, "%u jobs wait for the %u threads of \"%s\" already",
                    pool->options.queue_max, pool->options.thread_count, pool->name);
    if (!ring_push(pool, job))
        return FAIL_NO_MEMORY(err, "a queue of jobs");
    if (!queue_only)
        cond_signal(&pool->work);
    return OCH_OK;
}

och_code pool_submit(struct pool *pool, void (*run)(void *arg), void *arg, och_error *err)
{
    mutex_lock(&pool->mutex);
    och_code code = submit(pool, (struct job){run, arg}, err);
    mutex_unlock(&pool->mutex);
    return code;
}

/* Under the mutex: wake or start up to `wanted` workers. */
static void call_helpers(struct pool *pool, size_t wanted)
{
    size_t idle = idle_count(pool);
    for (size_t i = 0; i < min_size(wanted, idle); i++)
        cond_signal(&pool->work);
    while (wanted > idle && pool->started < pool->options.thread_count) {
        if (start_worker(pool, NULL) != OCH_OK)
            return; // the caller does what is left
        idle++;
    }
}

void pool_for(struct pool *pool, size_t count, void (*run)(void *arg, size_t i), void *arg)
{
    if (!pool || count < 2) {
        for (size_t i = 0; i < count; i++)
            run(arg, i);
        return;
    }
    struct loop loop = {.count = count, .run = run, .arg = arg};
    atomic_init(&loop.claimed, 0);
    cond_init(&loop.left);
    mutex_lock(&pool->mutex);
    loop.next = pool->loops;
    pool->loops = &loop;
    call_helpers(pool, count - 1);
    mutex_unlock(&pool->mutex);

    loop_work(&loop);

    mutex_lock(&pool->mutex);
    struct loop **link = &pool->loops;
    while (*link != &loop)
        link = &(*link)->next;
    *link = loop.next;
    while (loop.helpers) // each of them is inside its last index
        cond_wait(&loop.left, &pool->mutex);
    mutex_unlock(&pool->mutex);
    cond_done(&loop.left);
}

void pool_free(struct pool *pool)
{
    if (!pool)
        return;
    mutex_lock(&pool->mutex);
    pool->stopping = true;
    cond_broadcast(&pool->work);
    mutex_unlock(&pool->mutex);
    // a last job may still start workers, so `started` is read anew each time
    for (size_t i = 0;; i++) {
        mutex_lock(&pool->mutex);
        bool more = i < pool->started;
        mutex_unlock(&pool->mutex);
        if (!more)
            break;
        thread_join(&pool->threads[i]);
    }
    assert(!pool->loops && pool->queued == 0);
    cond_done(&pool->work);
    mutex_done(&pool->mutex);
    mem_free(pool->ring);
    mem_free(pool->threads);
    mem_free(pool);
}
