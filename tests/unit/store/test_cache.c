/* SPDX-License-Identifier: Apache-2.0 */
/* The extent cache: one load per key, never over the budget, a scan does not push out what is used. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/sched.h"
#include "store/cache.h"

#define MUST(call)                                                              \
    do {                                                                        \
        och_error must_err_ = {0};                                              \
        och_error *err = &must_err_;                                            \
        if ((call) != OCH_OK)                                                   \
            fail_msg("%s:%d: %s: %s", __FILE__, __LINE__, #call, err->message); \
    } while (0)

#define LEN 4000u

static uint8_t fill_of(struct cache_key key)
{
    return (uint8_t)(key.owner * 31 + key.section * 7 + key.index);
}

static och_code fill(void *context, struct cache_key key, uint8_t *at, size_t len, och_error *err)
{
    (void)err;
    if (context)
        atomic_fetch_add((_Atomic uint32_t *)context, 1);
    assert((uintptr_t)at % 64 == 0);
    memset(at, fill_of(key), len);
    return OCH_OK;
}

static bool touch(struct cache *cache, struct cache_key key, bool hot, _Atomic uint32_t *loads)
{
    const struct extent *extent;
    uint32_t before = atomic_load(loads);
    MUST(cache_pin(cache, key, LEN, hot, fill, loads, &extent, err));
    assert_int_equal(extent->len, LEN);
    assert_int_equal(extent->at[0], fill_of(key));
    assert_int_equal(extent->at[LEN - 1], fill_of(key));
    cache_unpin(cache, extent);
    return atomic_load(loads) == before; // it was there
}

static void extents_are_loaded_once_and_counted(void **state)
{
    (void)state;
    struct budget budget;
    struct cache *cache;
    struct cache_stats stats;
    _Atomic uint32_t loads = 0;
    budget_init(&budget, 0, NULL);
    MUST(cache_new(1 << 20, &budget, &cache, err));
    uint64_t a = cache_owner_new(cache), b = cache_owner_new(cache);
    for (uint32_t i = 0; i < 50; i++) {
        assert_false(touch(cache, (struct cache_key){a, 1, i}, false, &loads));
        assert_true(touch(cache, (struct cache_key){a, 1, i}, false, &loads));
        assert_false(touch(cache, (struct cache_key){b, 1, i}, i % 2, &loads));
    }
    cache_stats(cache, &stats);
    assert_int_equal(stats.misses, 100);
    assert_int_equal(stats.hits, 50);
    assert_int_equal(stats.pinned_bytes, 0);
    assert_int_equal(stats.used_bytes, budget_used(&budget));
    assert_true(stats.used_bytes >= 100 * LEN);

    const struct extent *pinned, *again;
    // so does a single one
    MUST(cache_pin(cache, (struct cache_key){b, 1, 4}, LEN, false, fill, &loads, &pinned, err));
    cache_drop(cache, (struct cache_key){b, 1, 3});
    cache_drop(cache, (struct cache_key){b, 1, 4});
    cache_drop(cache, (struct cache_key){b, 1, 4}); // not there any more
    assert_int_equal(pinned->at[3], fill_of((struct cache_key){b, 1, 4}));
    cache_unpin(cache, pinned);
    assert_false(touch(cache, (struct cache_key){b, 1, 3}, true, &loads));
    assert_false(touch(cache, (struct cache_key){b, 1, 4}, true, &loads));

    // an owner's extents go at once, the pinned one at its last unpin
    MUST(cache_pin(cache, (struct cache_key){a, 1, 7}, LEN, false, fill, &loads, &pinned, err));
    MUST(cache_pin(cache, (struct cache_key){a, 1, 7}, LEN, false, fill, &loads, &again, err));
    cache_owner_drop(cache, a);
    cache_stats(cache, &stats);
    assert_true(stats.pinned_bytes >= LEN && stats.pinned_bytes < 2 * LEN);
    assert_true(stats.used_bytes < 52 * (LEN + 300));
    assert_int_equal(pinned->at[3], fill_of((struct cache_key){a, 1, 7}));
    assert_false(touch(cache, (struct cache_key){a, 1, 7}, false, &loads)); // loaded anew
    cache_unpin(cache, pinned);
    assert_int_equal(again->at[3], fill_of((struct cache_key){a, 1, 7}));
    cache_unpin(cache, again);
    cache_unpin(cache, NULL);
    cache_shrink(cache, 20 * LEN);
    cache_stats(cache, &stats);
    assert_true(stats.used_bytes <= 20 * LEN);
    cache_shrink(cache, 0);
    assert_int_equal(budget_used(&budget), 0);
    cache_free(cache);
}

static void a_scan_does_not_push_out_what_is_used(void **state)
{
    (void)state;
    struct cache *cache;
    _Atomic uint32_t loads = 0;
    MUST(cache_new(400 * (LEN + 200), NULL, &cache, err));
    uint64_t owner = cache_owner_new(cache);
    // 100 that are used again and again, a scan of 5000 going by
    uint32_t lost = 0;
    for (uint32_t i = 0; i < 5000; i++) {
        (void)touch(cache, (struct cache_key){owner, 2, i}, false, &loads);
        bool hit = touch(cache, (struct cache_key){owner, 1, i % 100}, false, &loads);
        lost += !hit && i >= 100;
    }
    assert_true(lost < 30);
    cache_free(cache);
}

static void hot_extents_go_last(void **state)
{
    (void)state;
    struct cache *cache;
    _Atomic uint32_t loads = 0;
    MUST(cache_new(100 * (LEN + 200), NULL, &cache, err));
    uint64_t owner = cache_owner_new(cache);
    for (uint32_t i = 0; i < 40; i++)
        (void)touch(cache, (struct cache_key){owner, 1, i}, true, &loads);
    for (uint32_t i = 0; i < 1000; i++) {
        (void)touch(cache, (struct cache_key){owner, 2, i}, false, &loads);
        (void)touch(cache, (struct cache_key){owner, 2, i}, false, &loads);
        (void)touch(cache, (struct cache_key){owner, 2, i}, false, &loads);
    }
    for (uint32_t i = 0; i < 40; i++)
        assert_true(touch(cache, (struct cache_key){owner, 1, i}, true, &loads));
    // but they do go when nothing else can
    const struct extent *extent;
    MUST(cache_pin(cache, (struct cache_key){owner, 3, 0}, 99 * LEN, false, fill, NULL, &extent,
                   err));
    cache_unpin(cache, extent);
    cache_free(cache);
}

static void what_is_pinned_stays_and_the_rest_is_refused(void **state)
{
    (void)state;
    struct budget budget;
    struct cache *cache;
    const struct extent *pins[10], *extent;
    _Atomic uint32_t loads = 0;
    budget_init(&budget, 100000, NULL);
    MUST(cache_new(10 * (LEN + 250), &budget, &cache, err));
    uint64_t owner = cache_owner_new(cache);
    for (uint32_t i = 0; i < 10; i++)
        MUST(cache_pin(cache, (struct cache_key){owner, 1, i}, LEN, i % 2, fill, &loads, &pins[i],
                       err));
    och_error failure = {0};
    assert_int_equal(cache_pin(cache, (struct cache_key){owner, 1, 10}, LEN, false, fill, &loads,
                               &extent, &failure),
                     OCH_BUSY);
    assert_non_null(strstr(failure.message, "memory limit"));
    cache_unpin(cache, pins[4]);
    assert_false(touch(cache, (struct cache_key){owner, 1, 10}, false, &loads));
    assert_false(touch(cache, (struct cache_key){owner, 1, 11}, false, &loads));
    for (uint32_t i = 0; i < 10; i++) {
        if (i == 4)
            continue;
        assert_int_equal(pins[i]->at[9], fill_of((struct cache_key){owner, 1, i}));
        cache_unpin(cache, pins[i]);
    }
    // what never fits throws nothing out
    assert_int_equal(cache_pin(cache, (struct cache_key){owner, 5, 0}, 1 << 20, false, fill, &loads,
                               &extent, NULL),
                     OCH_BUSY);
    assert_true(touch(cache, (struct cache_key){owner, 1, 11}, false, &loads));
    cache_free(cache);
    assert_int_equal(budget_used(&budget), 0);
}

/* ---- threads ---- */

struct gate {
    struct mutex mutex;
    struct cond cond;
    unsigned loading, loads;
    bool open;
    och_code code;
};
struct waiter {
    struct thread thread;
    struct cache *cache;
    struct gate *gate;
    struct cache_key key;
    och_code code;
    bool same, told;
};

static och_code slow_fill(void *context, struct cache_key key, uint8_t *at, size_t len,
                          och_error *err)
{
    struct gate *gate = context;
    mutex_lock(&gate->mutex);
    gate->loads++;
    gate->loading++;
    cond_broadcast(&gate->cond);
    while (!gate->open)
        cond_wait(&gate->cond, &gate->mutex);
    och_code code = gate->code;
    mutex_unlock(&gate->mutex);
    memset(at, fill_of(key), len);
    return code == OCH_OK ? OCH_OK : FAIL(err, code, "the loader failed");
}

static void wait_run(void *arg)
{
    struct waiter *waiter = arg;
    const struct extent *extent;
    och_error failure = {0};
    waiter->code = cache_pin(waiter->cache, waiter->key, LEN, false, slow_fill, waiter->gate,
                             &extent, &failure);
    if (waiter->code == OCH_OK) {
        waiter->same = extent->at[5] == fill_of(waiter->key);
        cache_unpin(waiter->cache, extent);
    } else {
        waiter->told = strcmp(failure.message, "the loader failed") == 0;
    }
}

static void check_one_loader(och_code code, bool drop)
{
    struct gate gate = {.code = code};
    struct waiter waiters[4];
    struct cache *cache;
    mutex_init(&gate.mutex, RANK_NONE);
    cond_init(&gate.cond);
    MUST(cache_new(1 << 20, NULL, &cache, err));
    uint64_t owner = cache_owner_new(cache);
    for (size_t i = 0; i < COUNT_OF(waiters); i++) {
        waiters[i] = (struct waiter){.cache = cache, .gate = &gate, .key = {owner, 1, 1}};
        MUST(thread_start(&waiters[i].thread, "waiter", 0, wait_run, &waiters[i], err));
    }
    mutex_lock(&gate.mutex);
    while (!gate.loading)
        cond_wait(&gate.cond, &gate.mutex);
    mutex_unlock(&gate.mutex);
    // another key of the cache is not held up
    _Atomic uint32_t loads = 0;
    for (uint32_t i = 0; i < 64; i++)
        (void)touch(cache, (struct cache_key){owner, 2, i}, false, &loads);
    if (drop)
        cache_owner_drop(cache, owner);
    mutex_lock(&gate.mutex);
    gate.open = true;
    cond_broadcast(&gate.cond);
    mutex_unlock(&gate.mutex);
    for (size_t i = 0; i < COUNT_OF(waiters); i++) {
        thread_join(&waiters[i].thread);
        assert_int_equal(waiters[i].code, code);
        assert_true(code == OCH_OK ? waiters[i].same : waiters[i].told);
    }
    // a late one may load again after a failure or drop; all who waited share one load
    if (code == OCH_OK && !drop)
        assert_int_equal(gate.loads, 1);
    if (code != OCH_OK) {
        gate.code = OCH_OK;
        wait_run(&waiters[0]);
        assert_int_equal(waiters[0].code, OCH_OK); // nothing of the failure is kept
    }
    cache_free(cache);
    cond_done(&gate.cond);
    mutex_done(&gate.mutex);
}

static void one_thread_loads_and_the_others_wait(void **state)
{
    (void)state;
    check_one_loader(OCH_OK, false);
    check_one_loader(OCH_CORRUPT, false);
    check_one_loader(OCH_OK, true);
    check_one_loader(OCH_IO, true);
}

struct worker {
    struct thread thread;
    struct cache *cache;
    struct budget *budget;
    uint64_t owners[4], seed, busy;
    int64_t limit;
};

static void work(void *arg)
{
    struct worker *worker = arg;
    struct random random;
    const struct extent *pins[8] = {0};
    struct cache_key keys[8] = {{0, 0, 0}};
    random_seed(&random, worker->seed);
    for (unsigned i = 0; i < 20000; i++) {
        size_t slot = (size_t)random_below(&random, 8);
        if (pins[slot]) {
            if (pins[slot]->at[pins[slot]->len - 1] != fill_of(keys[slot]))
                abort();
            cache_unpin(worker->cache, pins[slot]);
            pins[slot] = NULL;
        }
        uint32_t skew = (uint32_t)random_below(&random, 1 + random_below(&random, 200));
        keys[slot] = (struct cache_key){worker->owners[random_below(&random, 4)],
                                        (uint32_t)random_below(&random, 3), skew};
        size_t len = 500 + 37 * (size_t)skew;
        och_code code = cache_pin(worker->cache, keys[slot], len, keys[slot].section == 0, fill,
                                  NULL, &pins[slot], NULL);
        if (code != OCH_OK) {
            pins[slot] = NULL;
            worker->busy++;
            if (code != OCH_BUSY)
                abort();
        }
        if (budget_used(worker->budget) > worker->limit)
            abort();
        if (i % 3000 == 0)
            cache_shrink(worker->cache, (size_t)worker->limit / 2);
        if (i % 5000 == 77)
            cache_owner_drop(worker->cache, worker->owners[random_below(&random, 4)]);
    }
    for (size_t slot = 0; slot < 8; slot++)
        cache_unpin(worker->cache, pins[slot]);
}

static void threads_share_the_cache_within_its_budget(void **state)
{
    (void)state;
    enum { LIMIT = 300000 };
    struct budget budget;
    struct cache *cache;
    struct worker workers[4];
    struct cache_stats stats;
    // the limit is the parent's: a parent's figure trails its child's for a moment
    budget_init(&budget, LIMIT, NULL);
    MUST(cache_new(2 * LIMIT, &budget, &cache, err));
    for (size_t t = 0; t < COUNT_OF(workers); t++) {
        workers[t] = (struct worker){
            .cache = cache, .budget = &budget, .owners = {1, 2, 3, 4}, .seed = t, .limit = LIMIT};
        MUST(thread_start(&workers[t].thread, "worker", 0, work, &workers[t], err));
    }
    for (size_t t = 0; t < COUNT_OF(workers); t++)
        thread_join(&workers[t].thread);
    cache_stats(cache, &stats);
    assert_int_equal(stats.pinned_bytes, 0);
    assert_true(stats.evictions > 1000);
    assert_true(stats.hits > 1000);
    cache_free(cache);
    assert_int_equal(budget_used(&budget), 0);
}

static void every_failing_allocation_is_survived(void **state)
{
    (void)state;
    for (uint64_t nth = 1; nth < 20; nth++) {
        struct cache *cache;
        const struct extent *extent = NULL;
        uint64_t live = mem_count_live();
        mem_fail_at(nth);
        och_code code = cache_new(1 << 20, NULL, &cache, NULL);
        if (code == OCH_OK) {
            for (uint32_t i = 0; i < 3; i++) {
                code = cache_pin(cache, (struct cache_key){1, 1, i}, LEN, false, fill, NULL,
                                 &extent, NULL);
                if (code == OCH_OK)
                    cache_unpin(cache, extent);
                else
                    assert_int_equal(code, OCH_NO_MEMORY);
            }
            cache_free(cache);
        }
        mem_fail_at(0);
        assert_int_equal(mem_count_live(), live);
    }
}

static void a_pin_is_cheap(void **state)
{
    (void)state;
    struct cache *cache;
    const struct extent *extent;
    _Atomic uint32_t loads = 0;
    enum { KEYS = 1000, ROUNDS = 300 };
    MUST(cache_new(64 << 20, NULL, &cache, err));
    for (uint32_t i = 0; i < KEYS; i++)
        (void)touch(cache, (struct cache_key){1, 1, i}, false, &loads);
    uint64_t begin = clock_mono_ns(clock_system());
    for (uint32_t round = 0; round < ROUNDS; round++) {
        for (uint32_t i = 0; i < KEYS; i++) {
            MUST(cache_pin(cache, (struct cache_key){1, 1, i}, LEN, false, fill, NULL, &extent,
                           err));
            cache_unpin(cache, extent);
        }
    }
    uint64_t ns = clock_mono_ns(clock_system()) - begin;
    printf("pin and unpin: %.1f ns\n", (double)ns / (KEYS * ROUNDS));
    cache_free(cache);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(extents_are_loaded_once_and_counted),
        cmocka_unit_test(a_scan_does_not_push_out_what_is_used),
        cmocka_unit_test(hot_extents_go_last),
        cmocka_unit_test(what_is_pinned_stays_and_the_rest_is_refused),
        cmocka_unit_test(one_thread_loads_and_the_others_wait),
        cmocka_unit_test(threads_share_the_cache_within_its_budget),
        cmocka_unit_test(every_failing_allocation_is_survived),
        cmocka_unit_test(a_pin_is_cheap),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
