/* SPDX-License-Identifier: Apache-2.0 */
/* Threads and waiting over pthread.  Condition variables run on the monotonic clock by their
 * attribute, since ThreadSanitizer does not know the _clock calls.  A failing pthread call on a sound
 * object is a bug of ours, so those are asserted, not returned. */
#include "base/sched.h"

#include "base/clock.h"
#include "base/mem.h"

#include <errno.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define NS_PER_SECOND 1000000000ull
#define PROMPT_NS     100000u

static _Thread_local struct sched_hook *hook;

void sched_set_hook(struct sched_hook *new_hook)
{
    hook = new_hook;
}

struct sched_hook *sched_get_hook(void)
{
    return hook;
}

static _Thread_local struct sched_watch *watch;

void sched_set_watch(struct sched_watch *new_watch)
{
    watch = new_watch;
}

void sched_block_begin(void)
{
    if (watch && !watch->is_long)
        watch->begin(watch);
}

void sched_block_end(void)
{
    if (watch && !watch->is_long)
        watch->end(watch);
}

uint64_t sched_mono_ns(void)
{
    return UNLIKELY(hook != NULL) ? hook->mono_ns(hook) : clock_mono_ns(clock_system());
}

#ifdef OCHRE_DEBUG
/* The ranked locks this thread holds, in the order taken. */
#define HELD_MAX 32
static _Thread_local const struct mutex *held[HELD_MAX];
static _Thread_local size_t held_len;

static void rank_check(const struct mutex *mutex)
{
    if (mutex->rank == RANK_NONE)
        return;
    for (size_t i = 0; i < held_len; i++) {
        if (held[i]->rank < mutex->rank)
            continue;
        (void)fprintf(stderr, "lock of rank %d wanted while holding rank %d\n", mutex->rank,
                      held[i]->rank);
        assert(held[i]->rank < mutex->rank && "lock ranks only rise");
    }
}

static void rank_push(const struct mutex *mutex)
{
    if (mutex->rank == RANK_NONE)
        return;
    assert(held_len < HELD_MAX);
    held[held_len++] = mutex;
}

static void rank_pop(const struct mutex *mutex)
{
    if (mutex->rank == RANK_NONE)
        return;
    size_t i = held_len;
    while (i > 0 && held[i - 1] != mutex)
        i--;
    assert(i > 0 && "unlocked by a thread that does not hold it");
    memmove(&held[i - 1], &held[i], (held_len - i) * sizeof(held[0]));
    held_len--;
}
#else
static void rank_check(const struct mutex *mutex)
{
    (void)mutex;
}
static void rank_push(const struct mutex *mutex)
{
    (void)mutex;
}
static void rank_pop(const struct mutex *mutex)
{
    (void)mutex;
}
#endif

static void must(int rc)
{
    assert(rc == 0);
    (void)rc;
}

void mutex_init(struct mutex *mutex, int rank)
{
    must(pthread_mutex_init(&mutex->system, NULL));
    mutex->rank = rank;
}

void mutex_done(struct mutex *mutex)
{
    if (mutex)
        must(pthread_mutex_destroy(&mutex->system));
}

void mutex_lock(struct mutex *mutex)
{
    // only these are held while their holder waits
    bool may_last = watch && mutex->rank != RANK_NONE && mutex->rank <= RANK_GATEWAY;
    rank_check(mutex);
    if (may_last)
        sched_block_begin();
    if (UNLIKELY(hook != NULL))
        hook->lock(hook, mutex);
    else
        must(pthread_mutex_lock(&mutex->system));
    if (may_last)
        sched_block_end();
    rank_push(mutex);
}

/* A lock that is only tried cannot deadlock, so its rank is not checked; it still counts as held. */
bool mutex_try_lock(struct mutex *mutex)
{
    bool taken;
    if (UNLIKELY(hook != NULL)) {
        taken = hook->try_lock(hook, mutex);
    } else {
        int rc = pthread_mutex_trylock(&mutex->system);
        assert(rc == 0 || rc == EBUSY);
        taken = rc == 0;
    }
    if (taken)
        rank_push(mutex);
    return taken;
}

void mutex_unlock(struct mutex *mutex)
{
    rank_pop(mutex);
    if (UNLIKELY(hook != NULL))
        hook->unlock(hook, mutex);
    else
        must(pthread_mutex_unlock(&mutex->system));
}

void cond_init(struct cond *cond)
{
    pthread_condattr_t attr;
    must(pthread_condattr_init(&attr));
    must(pthread_condattr_setclock(&attr, CLOCK_MONOTONIC));
    must(pthread_cond_init(&cond->system, &attr));
    must(pthread_condattr_destroy(&attr));
}

void cond_done(struct cond *cond)
{
    if (cond)
        must(pthread_cond_destroy(&cond->system));
}

void cond_wait(struct cond *cond, struct mutex *mutex)
{
    sched_block_begin();
    if (UNLIKELY(hook != NULL))
        (void)hook->wait(hook, cond, mutex, UINT64_MAX);
    else
        must(pthread_cond_wait(&cond->system, &mutex->system));
    sched_block_end();
}

static bool wait_until(struct cond *cond, struct mutex *mutex, uint64_t mono_ns)
{
    if (UNLIKELY(hook != NULL))
        return hook->wait(hook, cond, mutex, mono_ns);
    struct timespec until = {.tv_sec = (time_t)(mono_ns / NS_PER_SECOND),
                             .tv_nsec = (long)(mono_ns % NS_PER_SECOND)};
    int rc = pthread_cond_timedwait(&cond->system, &mutex->system, &until);
    assert(rc == 0 || rc == ETIMEDOUT);
    return rc == 0;
}

bool cond_wait_until(struct cond *cond, struct mutex *mutex, uint64_t mono_ns)
{
    sched_block_begin();
    bool woken = wait_until(cond, mutex, mono_ns);
    sched_block_end();
    return woken;
}

void cond_signal(struct cond *cond)
{
    if (UNLIKELY(hook != NULL))
        hook->wake(hook, cond, false);
    else
        must(pthread_cond_signal(&cond->system));
}

void cond_broadcast(struct cond *cond)
{
    if (UNLIKELY(hook != NULL))
        hook->wake(hook, cond, true);
    else
        must(pthread_cond_broadcast(&cond->system));
}

static void sleep_ns(uint64_t ns)
{
    if (UNLIKELY(hook != NULL)) {
        hook->sleep(hook, ns ? ns : 1);
        return;
    }
    struct timespec left = {.tv_sec = (time_t)(ns / NS_PER_SECOND),
                            .tv_nsec = (long)(ns % NS_PER_SECOND)};
    while (nanosleep(&left, &left) != 0 && errno == EINTR)
        ;
}

void sched_sleep_ns(uint64_t ns)
{
    sched_block_begin();
    sleep_ns(ns);
    sched_block_end();
}

void sched_yield_now(void)
{
    if (UNLIKELY(hook != NULL))
        hook->sleep(hook, 0);
    else
        (void)sched_yield();
}

struct thread_args {
    void (*run)(void *arg);
    void *arg;
    struct sched_hook *hook;
    char name[16];
};

static void *thread_main(void *pointer)
{
    struct thread_args args = *(struct thread_args *)pointer;
    mem_free(pointer);
    if (args.name[0])
        (void)pthread_setname_np(pthread_self(), args.name);
    hook = args.hook;
    if (hook)
        hook->thread_begin(hook);
    args.run(args.arg);
    if (hook)
        hook->thread_end(hook);
    return NULL;
}

/* Instrumented frames are several times larger. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define STACK_FACTOR 8
#elif defined(__clang__)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define STACK_FACTOR 8
#else
#define STACK_FACTOR 1
#endif
#else
#define STACK_FACTOR 1
#endif

static int create(pthread_t *ret_thread, size_t stack_bytes, void *args)
{
    pthread_attr_t attr;
    int rc = pthread_attr_init(&attr);
    if (rc != 0)
        return rc;
    size_t size = stack_bytes ? stack_bytes : 256 * 1024;
    size = (size_t)round_up(max_size(size, (size_t)PTHREAD_STACK_MIN) * STACK_FACTOR, 4096);
    rc = pthread_attr_setstacksize(&attr, size);
    if (rc == 0) {
        sigset_t all, before;
        (void)sigfillset(&all);
        must(pthread_sigmask(SIG_SETMASK, &all, &before)); // inherited by the new thread
        rc = pthread_create(ret_thread, &attr, thread_main, args);
        must(pthread_sigmask(SIG_SETMASK, &before, NULL));
    }
    must(pthread_attr_destroy(&attr));
    return rc;
}

och_code thread_start(struct thread *thread, const char *name, size_t stack_bytes,
                      void (*run)(void *arg), void *arg, och_error *err)
{
    thread->started = false;
    struct thread_args *args = MEM_NEW(struct thread_args);
    if (!args)
        return FAIL_NO_MEMORY(err, "a thread");
    args->run = run;
    args->arg = arg;
    (void)snprintf(args->name, sizeof(args->name), "%s", name ? name : "");
    if (hook)
        args->hook = hook->thread_new(hook, args->name);
    int rc = create(&thread->system, stack_bytes, args);
    if (rc != 0) {
        och_code code = FAIL_OS(err, OCH_BUSY, rc, "cannot start thread %s", args->name);
        mem_free(args);
        return code;
    }
    thread->started = true;
    return OCH_OK;
}

void thread_join(struct thread *thread)
{
    if (!thread || !thread->started)
        return;
    if (UNLIKELY(hook != NULL))
        hook->before_join(hook, thread);
    must(pthread_join(thread->system, NULL));
    thread->started = false;
}

void thread_be_nice(int nice)
{
    // on Linux `who` 0 is the calling thread; being refused only costs speed elsewhere
    nice += getpriority(PRIO_PROCESS, 0);
    (void)setpriority(PRIO_PROCESS, 0, nice < 19 ? nice : 19);
}

/* As sched_setattr(2) describes it; its header and the C library's do not go together. */
struct sched_attr {
    uint32_t size, sched_policy;
    uint64_t sched_flags;
    int32_t sched_nice;
    uint32_t sched_priority;
    uint64_t sched_runtime, sched_deadline, sched_period;
    uint32_t sched_util_min, sched_util_max;
};

void thread_be_prompt(void)
{
    struct sched_attr attr = {.size = sizeof(attr)};
    if (hook || syscall(SYS_sched_getattr, 0, &attr, sizeof(attr), 0) != 0)
        return;
    attr.sched_runtime = PROMPT_NS; // the rest as it is; being refused only costs speed
    (void)syscall(SYS_sched_setattr, 0, &attr, 0);
}

void thread_lower_priority(void)
{
    thread_be_nice(19);
}

och_code work_check(const struct limits_of_work *limits, och_error *err)
{
    if (!limits)
        return OCH_OK;
    if (limits->cancel && atomic_load_explicit(&limits->cancel->fired, memory_order_relaxed))
        return FAIL(err, OCH_CANCELLED, "the caller gave up");
    if (!limits->deadline_mono_ns && !watch)
        return OCH_OK;
    uint64_t mono_ns = sched_mono_ns();
    if (watch && !watch->is_long && mono_ns - watch->since_ns > SCHED_LONG_NS) {
        watch->begin(watch);
        watch->is_long = true;
    }
    if (limits->deadline_mono_ns && mono_ns >= limits->deadline_mono_ns)
        return FAIL(err, OCH_DEADLINE, "time is up");
    return OCH_OK;
}
