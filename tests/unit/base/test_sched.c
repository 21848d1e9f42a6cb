/* SPDX-License-Identifier: Apache-2.0 */
/* Threads, waiting, the pool, and the hook of a simulator. */
#include "base/clock.h"
#include "base/mem.h"
#include "base/pool.h"
#include "base/trace.h"

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

struct gate {
    struct mutex mutex;
    struct cond changed;
    size_t waiting;
    bool open;
};

static void gate_init(struct gate *gate)
{
    *gate = (struct gate){0};
    mutex_init(&gate->mutex, RANK_NONE);
    cond_init(&gate->changed);
}

static void gate_done(struct gate *gate)
{
    cond_done(&gate->changed);
    mutex_done(&gate->mutex);
}

static void gate_pass(void *arg)
{
    struct gate *gate = arg;
    mutex_lock(&gate->mutex);
    gate->waiting++;
    cond_broadcast(&gate->changed);
    while (!gate->open)
        cond_wait(&gate->changed, &gate->mutex);
    gate->waiting--;
    mutex_unlock(&gate->mutex);
}

static void gate_await(struct gate *gate, size_t waiting)
{
    mutex_lock(&gate->mutex);
    while (gate->waiting < waiting)
        cond_wait(&gate->changed, &gate->mutex);
    mutex_unlock(&gate->mutex);
}

static void gate_open(struct gate *gate)
{
    mutex_lock(&gate->mutex);
    gate->open = true;
    cond_broadcast(&gate->changed);
    mutex_unlock(&gate->mutex);
}

static void waiting_ends_when_the_time_is_up(void **state)
{
    (void)state;
    struct gate gate;
    gate_init(&gate);
    mutex_lock(&gate.mutex);
    uint64_t until = sched_mono_ns() + 20000000;
    while (cond_wait_until(&gate.changed, &gate.mutex, until))
        ;
    assert_true(sched_mono_ns() >= until);
    assert_false(cond_wait_until(&gate.changed, &gate.mutex, 1)); // long past
    mutex_unlock(&gate.mutex);
    uint64_t before = sched_mono_ns();
    sched_sleep_ns(5000000);
    assert_true(sched_mono_ns() - before >= 5000000);
    sched_yield_now();
    gate_done(&gate);
}

static void note_signals(void *arg)
{
    sigset_t mask;
    (void)pthread_sigmask(SIG_BLOCK, NULL, &mask);
    *(bool *)arg = sigismember(&mask, SIGTERM) == 1 && sigismember(&mask, SIGINT) == 1;
    thread_lower_priority();
}

static void threads_block_signals_and_the_starter_does_not(void **state)
{
    (void)state;
    bool blocked = false;
    struct thread thread;
    assert_int_equal(
        thread_start(&thread, "a very long thread name", 0, note_signals, &blocked, NULL), OCH_OK);
    thread_join(&thread);
    thread_join(&thread); // again is fine
    assert_true(blocked);
    sigset_t mask;
    (void)pthread_sigmask(SIG_BLOCK, NULL, &mask);
    assert_int_equal(sigismember(&mask, SIGTERM), 0);
    mem_fail_at(1);
    assert_int_equal(thread_start(&thread, "x", 0, note_signals, &blocked, NULL), OCH_NO_MEMORY);
    mem_fail_at(0);
    thread_join(&thread);
}

static void a_try_lock_does_not_wait(void **state)
{
    (void)state;
    struct mutex mutex;
    mutex_init(&mutex, RANK_WAL);
    assert_true(mutex_try_lock(&mutex));
    mutex_unlock(&mutex);
    mutex_lock(&mutex);
    mutex_unlock(&mutex);
    mutex_done(&mutex);
}

static void work_stops_at_its_deadline_and_on_cancel(void **state)
{
    (void)state;
    struct cancel cancel = {false};
    struct limits_of_work limits = {0};
    assert_int_equal(work_check(NULL, NULL), OCH_OK);
    assert_int_equal(work_check(&limits, NULL), OCH_OK);
    limits.deadline_mono_ns = sched_mono_ns() + 3600ull * 1000000000u;
    limits.cancel = &cancel;
    assert_int_equal(work_check(&limits, NULL), OCH_OK);
    cancel.fired = true;
    assert_int_equal(work_check(&limits, NULL), OCH_CANCELLED);
    cancel.fired = false;
    limits.deadline_mono_ns = 1;
    assert_int_equal(work_check(&limits, NULL), OCH_DEADLINE);
}

static void take_in_order(int first, int second)
{
    struct mutex a, b;
    mutex_init(&a, first);
    mutex_init(&b, second);
    mutex_lock(&a);
    mutex_lock(&b);
    mutex_unlock(&a); // any order of unlocking is fine
    mutex_unlock(&b);
}

/* Does a child that takes locks of these ranks abort? */
static bool aborts(int first, int second)
{
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        (void)signal(SIGABRT, SIG_DFL);
        if (!freopen("/dev/null", "w", stderr))
            _exit(0);
        take_in_order(first, second);
        _exit(0);
    }
    int status = 0;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    return !(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void lock_ranks_must_rise_in_debug_builds(void **state)
{
    (void)state;
    take_in_order(RANK_WAL, RANK_CACHE);
    take_in_order(RANK_NONE, RANK_CACHE);
    take_in_order(RANK_CACHE, RANK_NONE);
    take_in_order(RANK_NONE, RANK_NONE);
    assert_false(aborts(RANK_WAL, RANK_CACHE));
#ifdef OCHRE_DEBUG
    assert_true(aborts(RANK_CACHE, RANK_WAL));
    assert_true(aborts(RANK_WAL, RANK_WAL));
#else
    assert_false(aborts(RANK_CACHE, RANK_WAL));
#endif
}

/* ---- pool ---- */

static struct pool *new_pool(unsigned threads, unsigned queue_max)
{
    struct pool *pool = NULL;
    struct pool_options options = {.name = "test", .thread_count = threads, .queue_max = queue_max};
    assert_int_equal(pool_new(&options, &pool, NULL), OCH_OK);
    return pool;
}

struct counter {
    _Atomic size_t ran;
};

static void add_one(void *arg)
{
    struct counter *counter = arg;
    atomic_fetch_add(&counter->ran, 1);
}

static void every_submitted_job_runs_once_even_when_the_pool_ends(void **state)
{
    (void)state;
    uint64_t live = mem_count_live();
    struct counter counter = {0};
    struct pool *pool = new_pool(4, 0);
    for (size_t i = 0; i < 20000; i++)
        assert_int_equal(pool_submit(pool, add_one, &counter, NULL), OCH_OK);
    pool_free(pool);
    assert_int_equal(counter.ran, 20000);
    pool_free(new_pool(3, 0)); // without any thread started
    pool_free(NULL);
    assert_int_equal(mem_count_live(), live);
}

static void a_full_queue_refuses_and_nothing_happens(void **state)
{
    (void)state;
    struct gate gate;
    och_error err = {0};
    struct counter counter = {0};
    gate_init(&gate);
    struct pool *pool = new_pool(2, 3);
    // two workers may take a job each, three more may wait, at any speed
    for (size_t i = 0; i < 2; i++)
        assert_int_equal(pool_submit(pool, gate_pass, &gate, NULL), OCH_OK);
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(pool_submit(pool, add_one, &counter, NULL), OCH_OK);
    for (size_t i = 0; i < 10; i++)
        assert_int_equal(pool_submit(pool, add_one, &counter, &err), OCH_BUSY);
    assert_string_equal(err.message, "3 jobs wait for the 2 threads of \"test\" already");
    gate_await(&gate, 2);
    assert_int_equal(counter.ran, 0);
    gate_open(&gate);
    pool_free(pool);
    assert_int_equal(counter.ran, 3);
    gate_done(&gate);
}

struct crowd {
    struct mutex mutex;
    struct cond open;
    bool is_open;
    _Atomic bool long_ones_go;
    _Atomic size_t inside, most, ended;
};

static void crowd_enter(struct crowd *crowd)
{
    size_t inside = atomic_fetch_add(&crowd->inside, 1) + 1, most = atomic_load(&crowd->most);
    while (inside > most && !atomic_compare_exchange_weak(&crowd->most, &most, inside))
        ;
}

static void be_short(void *arg)
{
    struct crowd *crowd = arg;
    crowd_enter(crowd);
    for (volatile int i = 0; i < 20000; i++)
        ;
    atomic_fetch_sub(&crowd->inside, 1);
    atomic_fetch_add(&crowd->ended, 1);
}

static void wait_for_opening(void *arg)
{
    struct crowd *crowd = arg;
    mutex_lock(&crowd->mutex);
    while (!crowd->is_open)
        cond_wait(&crowd->open, &crowd->mutex);
    mutex_unlock(&crowd->mutex);
    atomic_fetch_add(&crowd->ended, 1);
}

static void be_long(void *arg)
{
    struct crowd *crowd = arg;
    struct limits_of_work limits = {0};
    while (!atomic_load(&crowd->long_ones_go))
        assert_int_equal(work_check(&limits, NULL), OCH_OK);
    atomic_fetch_add(&crowd->ended, 1);
}

static void await_ended(struct crowd *crowd, size_t count)
{
    for (int i = 0; i < 60000 && atomic_load(&crowd->ended) < count; i++)
        sched_sleep_ns(1000000);
    assert_int_equal(crowd->ended, count);
}

/* Two jobs at a time, but neither waits nor long ones keep others out. */
static void few_jobs_run_at_a_time_and_none_keeps_others_out(void **state)
{
    (void)state;
    for (int round = 0; round < 20; round++) {
        struct crowd crowd = {0};
        struct pool *pool = NULL;
        struct pool_options options = {.name = "few", .thread_count = 16, .running_max = 2};
        assert_int_equal(pool_new(&options, &pool, NULL), OCH_OK);
        mutex_init(&crowd.mutex, RANK_LEAF);
        cond_init(&crowd.open);
        for (size_t i = 0; i < 200; i++)
            assert_int_equal(pool_submit(pool, be_short, &crowd, NULL), OCH_OK);
        await_ended(&crowd, 200);
        assert_in_range(crowd.most, 1, 2);
        for (size_t i = 0; i < 5; i++)
            assert_int_equal(pool_submit(pool, wait_for_opening, &crowd, NULL), OCH_OK);
        for (size_t i = 0; i < 5; i++)
            assert_int_equal(pool_submit(pool, be_long, &crowd, NULL), OCH_OK);
        for (size_t i = 0; i < 100; i++)
            assert_int_equal(pool_submit(pool, be_short, &crowd, NULL), OCH_OK);
        await_ended(&crowd, 300);
        assert_in_range(crowd.most, 1, 2);
        atomic_store(&crowd.long_ones_go, true);
        await_ended(&crowd, 305);
        if (round % 2) {
            mutex_lock(&crowd.mutex);
            crowd.is_open = true;
            cond_broadcast(&crowd.open);
            mutex_unlock(&crowd.mutex);
            await_ended(&crowd, 310);
        }
        for (size_t i = 0; i < 50; i++)
            assert_int_equal(pool_submit(pool, be_short, &crowd, NULL), OCH_OK);
        mutex_lock(&crowd.mutex);
        crowd.is_open = true;
        cond_broadcast(&crowd.open);
        mutex_unlock(&crowd.mutex);
        pool_free(pool);
        assert_int_equal(crowd.ended, 360);
        cond_done(&crowd.open);
        mutex_done(&crowd.mutex);
    }
}

struct marks {
    _Atomic unsigned char times[10000];
};

static void mark(void *arg, size_t i)
{
    struct marks *marks = arg;
    atomic_fetch_add(&marks->times[i], 1);
}

static void check_marks(struct marks *marks, size_t count)
{
    for (size_t i = 0; i < COUNT_OF(marks->times); i++) {
        assert_int_equal(marks->times[i], i < count);
        marks->times[i] = 0;
    }
}

static void a_loop_runs_every_index_once(void **state)
{
    (void)state;
    static struct marks marks;
    struct pool *pool = new_pool(3, 0);
    const size_t counts[] = {0, 1, 2, 3, 10, 1000, 10000};
    for (size_t round = 0; round < 20; round++) {
        for (size_t i = 0; i < COUNT_OF(counts); i++) {
            pool_for(pool, counts[i], mark, &marks);
            check_marks(&marks, counts[i]);
            pool_for(NULL, counts[i], mark, &marks);
            check_marks(&marks, counts[i]);
        }
    }
    pool_free(pool);
}

static void a_loop_does_not_wait_for_busy_workers(void **state)
{
    (void)state;
    static struct marks marks;
    struct gate gate;
    gate_init(&gate);
    struct pool *pool = new_pool(2, 0);
    for (size_t i = 0; i < 5; i++)
        assert_int_equal(pool_submit(pool, gate_pass, &gate, NULL), OCH_OK);
    gate_await(&gate, 2);
    pool_for(pool, 1000, mark, &marks); // would hang here
    check_marks(&marks, 1000);
    gate_open(&gate);
    pool_free(pool);
    gate_done(&gate);
}

struct nest {
    struct pool *pool;
    struct counter *counter;
};

static void inner(void *arg, size_t i)
{
    (void)i;
    add_one(((struct nest *)arg)->counter);
}

static void outer(void *arg, size_t i)
{
    (void)i;
    pool_for(((struct nest *)arg)->pool, 50, inner, arg);
}

static void outer_job(void *arg)
{
    pool_for(((struct nest *)arg)->pool, 20, outer, arg);
}

static void loops_nest_and_run_beside_jobs(void **state)
{
    (void)state;
    struct counter counter = {0};
    struct pool *pool = new_pool(3, 0);
    struct nest nest = {pool, &counter};
    for (size_t i = 0; i < 20; i++)
        assert_int_equal(pool_submit(pool, outer_job, &nest, NULL), OCH_OK);
    for (size_t i = 0; i < 10; i++)
        outer_job(&nest);
    pool_free(pool);
    assert_int_equal(counter.ran, 30 * 20 * 50);
}

struct meeting {
    struct gate gate;
    size_t wanted;
};

/* Everyone waits for everyone: it ends only if so many threads really run the loop. */
static void meet(void *arg, size_t i)
{
    (void)i;
    struct meeting *meeting = arg;
    mutex_lock(&meeting->gate.mutex);
    meeting->gate.waiting++;
    cond_broadcast(&meeting->gate.changed);
    while (meeting->gate.waiting < meeting->wanted)
        cond_wait(&meeting->gate.changed, &meeting->gate.mutex);
    mutex_unlock(&meeting->gate.mutex);
}

static void a_loop_is_spread_over_idle_workers(void **state)
{
    (void)state;
    struct pool *pool = new_pool(3, 0);
    for (size_t round = 0; round < 50; round++) {
        struct meeting meeting = {.wanted = 4};
        gate_init(&meeting.gate);
        pool_for(pool, 4, meet, &meeting);
        gate_done(&meeting.gate);
    }
    pool_free(pool);
}

static void jobs_get_threads_of_their_own_while_there_are_any(void **state)
{
    (void)state;
    struct gate gate;
    gate_init(&gate);
    struct pool *pool = new_pool(8, 0);
    for (size_t i = 0; i < 8; i++)
        assert_int_equal(pool_submit(pool, gate_pass, &gate, NULL), OCH_OK);
    gate_await(&gate, 8); // all at once
    gate_open(&gate);
    pool_free(pool);
    gate_done(&gate);
}

static void a_pool_survives_every_failing_allocation(void **state)
{
    (void)state;
    uint64_t live = mem_count_live();
    for (uint64_t nth = 1; nth < 40; nth++) {
        struct counter counter = {0};
        size_t accepted = 0;
        struct pool *pool = NULL;
        struct pool_options options = {.name = "test", .thread_count = 2};
        mem_fail_at(nth);
        if (pool_new(&options, &pool, NULL) == OCH_OK) {
            for (size_t i = 0; i < 100; i++)
                accepted += pool_submit(pool, add_one, &counter, NULL) == OCH_OK;
            pool_free(pool);
        }
        mem_fail_at(0);
        assert_int_equal(counter.ran, accepted);
        assert_int_equal(mem_count_live(), live);
    }
}

/* ---- a simulator's hook ---- */

struct counting {
    struct sched_hook hook;
    size_t locks, unlocks, waits, wakes, sleeps, begins, ends, joins;
    uint64_t now;
};

static void hook_lock(struct sched_hook *hook, struct mutex *mutex)
{
    (void)mutex;
    CONTAINER_OF(hook, struct counting, hook)->locks++;
}
static bool hook_try_lock(struct sched_hook *hook, struct mutex *mutex)
{
    hook_lock(hook, mutex);
    return true;
}
static void hook_unlock(struct sched_hook *hook, struct mutex *mutex)
{
    (void)mutex;
    CONTAINER_OF(hook, struct counting, hook)->unlocks++;
}
static bool hook_wait(struct sched_hook *hook, struct cond *cond, struct mutex *mutex, uint64_t ns)
{
    (void)cond;
    (void)mutex;
    struct counting *counting = CONTAINER_OF(hook, struct counting, hook);
    counting->waits++;
    if (ns != UINT64_MAX)
        counting->now = ns;
    return ns == UINT64_MAX;
}
static void hook_wake(struct sched_hook *hook, struct cond *cond, bool all)
{
    (void)cond;
    (void)all;
    CONTAINER_OF(hook, struct counting, hook)->wakes++;
}
static void hook_sleep(struct sched_hook *hook, uint64_t ns)
{
    CONTAINER_OF(hook, struct counting, hook)->sleeps++;
    CONTAINER_OF(hook, struct counting, hook)->now += ns;
}
static uint64_t hook_mono(struct sched_hook *hook)
{
    return CONTAINER_OF(hook, struct counting, hook)->now;
}
static struct sched_hook *hook_thread(struct sched_hook *hook, const char *name)
{
    assert_string_equal(name, "task");
    return hook;
}
static void hook_begin(struct sched_hook *hook)
{
    CONTAINER_OF(hook, struct counting, hook)->begins++;
}
static void hook_end(struct sched_hook *hook)
{
    CONTAINER_OF(hook, struct counting, hook)->ends++;
}
static void hook_join(struct sched_hook *hook, struct thread *thread)
{
    (void)thread;
    CONTAINER_OF(hook, struct counting, hook)->joins++;
}

static void check_hooked(void *arg)
{
    assert(sched_get_hook() == arg);
}

static void a_simulator_sees_every_wait(void **state)
{
    (void)state;
    struct counting counting = {.hook = {hook_lock, hook_try_lock, hook_unlock, hook_wait,
                                         hook_wake, hook_sleep, hook_mono, hook_thread, hook_begin,
                                         hook_end, hook_join},
                                .now = 1000};
    struct mutex mutex;
    struct cond cond;
    struct thread thread;
    mutex_init(&mutex, RANK_LEAF);
    cond_init(&cond);
    sched_set_hook(&counting.hook);
    mutex_lock(&mutex);
    cond_wait(&cond, &mutex);
    assert_false(cond_wait_until(&cond, &mutex, 5000));
    cond_signal(&cond);
    cond_broadcast(&cond);
    mutex_unlock(&mutex);
    assert_true(mutex_try_lock(&mutex));
    mutex_unlock(&mutex);
    sched_sleep_ns(10);
    sched_yield_now();
    assert_int_equal(sched_mono_ns(), 5010);
    struct limits_of_work limits = {.deadline_mono_ns = 5011};
    assert_int_equal(work_check(&limits, NULL), OCH_OK);
    sched_sleep_ns(1);
    assert_int_equal(work_check(&limits, NULL), OCH_DEADLINE);
    assert_int_equal(thread_start(&thread, "task", 0, check_hooked, &counting.hook, NULL), OCH_OK);
    thread_join(&thread);
    sched_set_hook(NULL);
    assert_int_equal(counting.locks, 2);
    assert_int_equal(counting.unlocks, 2);
    assert_int_equal(counting.waits, 2);
    assert_int_equal(counting.wakes, 2);
    assert_int_equal(counting.sleeps, 3);
    assert_int_equal(counting.begins + counting.ends + counting.joins, 3);
    cond_done(&cond);
    mutex_done(&mutex);
}

struct lines {
    char last[512];
    size_t count;
};

static void keep_line(void *user, enum trace_level level, slice line)
{
    (void)level;
    struct lines *lines = user;
    (void)snprintf(lines->last, sizeof(lines->last), "%.*s", SLICE_ARG(line));
    lines->count++;
}

/* With a simulator's clock, since a test does not wait ten seconds. */
static void a_repeated_line_is_dropped_and_counted(void **state)
{
    (void)state;
    struct counting counting = {.hook = {hook_lock, hook_try_lock, hook_unlock, hook_wait,
                                         hook_wake, hook_sleep, hook_mono, hook_thread, hook_begin,
                                         hook_end, hook_join},
                                .now = 1000};
    struct lines lines = {0};
    struct trace trace = {.level = TRACE_DEBUG, .write = keep_line, .user = &lines};
    sched_set_hook(&counting.hook);
    for (size_t i = 0; i < 413; i++)
        trace_line(&trace, TRACE_WARN, "x", "again", "a", "1", NULL);
    assert_int_equal(lines.count, 1);
    assert_null(strstr(lines.last, "repeated"));
    trace_line(&trace, TRACE_WARN, "x", "again", "a", "2", NULL);
    assert_int_equal(lines.count, 2);
    counting.now += 10000000000ull;
    trace_line(&trace, TRACE_WARN, "x", "again", "a", "1", NULL);
    assert_int_equal(lines.count, 3);
    assert_non_null(strstr(lines.last, " a=1 repeated=412"));
    trace.json = true;
    for (size_t i = 0; i < 3; i++)
        trace_line(&trace, TRACE_WARN, "x", "again", NULL);
    assert_int_equal(lines.count, 4);
    for (size_t i = 0; i < 3; i++)
        trace_line(&trace, TRACE_DEBUG, "x", "debug", NULL);
    assert_int_equal(lines.count, 7);
    // more kinds of lines than are remembered, all said once
    for (size_t i = 0; i < 300; i++) {
        char number[8];
        (void)snprintf(number, sizeof(number), "%zu", i);
        trace_line(&trace, TRACE_INFO, "x", "many", "i", number, NULL);
    }
    assert_int_equal(lines.count, 307);
    sched_set_hook(NULL);
}

static void be_nicer(void *arg)
{
    int *seen = arg;
    int before = getpriority(PRIO_PROCESS, 0);
    thread_be_nice(2);
    seen[0] = getpriority(PRIO_PROCESS, 0) - before;
    thread_be_nice(1);
    seen[1] = getpriority(PRIO_PROCESS, 0) - before;
    thread_be_nice(40);
    seen[2] = getpriority(PRIO_PROCESS, 0);
}

/* A server that was started with a priority keeps its threads in their order. */
static void a_thread_is_nicer_than_it_was(void **state)
{
    (void)state;
    int before = getpriority(PRIO_PROCESS, 0), seen[3] = {0};
    struct thread thread;
    assert_int_equal(thread_start(&thread, "nicer", 0, be_nicer, seen, NULL), OCH_OK);
    thread_join(&thread);
    assert_int_equal(seen[0], before + 2 <= 19 ? 2 : 19 - before);
    assert_int_equal(seen[1], before + 3 <= 19 ? 3 : 19 - before);
    assert_int_equal(seen[2], 19);
    assert_int_equal(getpriority(PRIO_PROCESS, 0), before);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(waiting_ends_when_the_time_is_up),
        cmocka_unit_test(threads_block_signals_and_the_starter_does_not),
        cmocka_unit_test(a_try_lock_does_not_wait),
        cmocka_unit_test(a_thread_is_nicer_than_it_was),
        cmocka_unit_test(work_stops_at_its_deadline_and_on_cancel),
        cmocka_unit_test(lock_ranks_must_rise_in_debug_builds),
        cmocka_unit_test(every_submitted_job_runs_once_even_when_the_pool_ends),
        cmocka_unit_test(a_full_queue_refuses_and_nothing_happens),
        cmocka_unit_test(few_jobs_run_at_a_time_and_none_keeps_others_out),
        cmocka_unit_test(a_loop_runs_every_index_once),
        cmocka_unit_test(a_loop_does_not_wait_for_busy_workers),
        cmocka_unit_test(loops_nest_and_run_beside_jobs),
        cmocka_unit_test(a_loop_is_spread_over_idle_workers),
        cmocka_unit_test(jobs_get_threads_of_their_own_while_there_are_any),
        cmocka_unit_test(a_pool_survives_every_failing_allocation),
        cmocka_unit_test(a_simulator_sees_every_wait),
        cmocka_unit_test(a_repeated_line_is_dropped_and_counted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
