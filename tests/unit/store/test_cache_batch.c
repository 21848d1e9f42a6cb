/* SPDX-License-Identifier: Apache-2.0 */
/* Many extents at once: each loaded once whoever wants it, nobody waits for who waits, and what is hot stays longest. */
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

static och_code load(void *context, struct cache_key key, uint8_t *at, size_t len, och_error *err)
{
    (void)err;
    if (context)
        atomic_fetch_add((_Atomic uint32_t *)context, 1);
    memset(at, fill_of(key), len);
    return OCH_OK;
}

static struct cache_want want_of(uint64_t owner, uint32_t index, enum cache_heat heat)
{
    return (struct cache_want){.key = {owner, 1, index}, .len = LEN, .heat = heat};
}

static void a_batch_pins_what_is_there_and_fills_the_rest(void **state)
{
    (void)state;
    struct budget budget;
    struct cache *cache;
    const struct extent *extent;
    budget_init(&budget, 0, NULL);
    MUST(cache_new(1 << 20, &budget, &cache, err));
    uint64_t owner = cache_owner_new(cache);
    MUST(cache_pin(cache, (struct cache_key){owner, 1, 1}, LEN, CACHE_COLD, load, NULL, &extent,
                   err));
    cache_unpin(cache, extent);
    // 1 is there, 2 is new, 2 again is ours already, 3 will fail
    struct cache_want wants[] = {want_of(owner, 1, CACHE_COLD), want_of(owner, 2, CACHE_COLD),
                                 want_of(owner, 2, CACHE_COLD), want_of(owner, 3, CACHE_COLD)};
    cache_begin(cache, wants, COUNT_OF(wants));
    static const enum cache_want_state states[] = {WANT_PINNED, WANT_FILL, WANT_WAIT, WANT_FILL};
    for (size_t i = 0; i < COUNT_OF(wants); i++)
        assert_int_equal(wants[i].state, states[i]);
    memset(wants[1].at, fill_of(wants[1].key), LEN);
    cache_filled(cache, &wants[1], OCH_OK, NULL);
    cache_filled(cache, &wants[3], OCH_CORRUPT, NULL);
    cache_await(cache, &wants[2]);
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(wants[i].state, WANT_PINNED);
        assert_int_equal(wants[i].extent->at[LEN - 1], fill_of(wants[i].key));
    }
    assert_ptr_equal(wants[1].extent, wants[2].extent);
    assert_int_equal(wants[3].state, WANT_FAILED);
    assert_int_equal(wants[3].code, OCH_CORRUPT);
    assert_null(wants[3].extent);
    struct cache_stats stats;
    cache_stats(cache, &stats);
    assert_int_equal(stats.pinned_bytes, stats.used_bytes); // 3 left nothing
    for (size_t i = 0; i < 3; i++)
        cache_unpin(cache, wants[i].extent);
    assert_false(cache_peek(cache, wants[3].key, &extent));
    assert_true(cache_peek(cache, wants[1].key, &extent));
    cache_unpin(cache, extent);
    cache_free(cache);
    assert_int_equal(budget_used(&budget), 0);
}

static void what_has_no_room_fails_and_holds_nothing(void **state)
{
    (void)state;
    struct cache *cache;
    MUST(cache_new(3 * (LEN + 300), NULL, &cache, err));
    uint64_t owner = cache_owner_new(cache);
    struct cache_want wants[8];
    size_t full = 0;
    for (uint32_t i = 0; i < COUNT_OF(wants); i++)
        wants[i] = want_of(owner, i, CACHE_COLD);
    cache_begin(cache, wants, COUNT_OF(wants));
    for (size_t i = 0; i < COUNT_OF(wants); i++) {
        if (wants[i].state == WANT_FILL) {
            memset(wants[i].at, 1, LEN);
            cache_filled(cache, &wants[i], OCH_OK, NULL);
            full++;
        } else {
            assert_int_equal(wants[i].state, WANT_FAILED);
            assert_int_equal(wants[i].code, OCH_BUSY);
        }
    }
    assert_int_equal(full, 3);
    for (size_t i = 0; i < COUNT_OF(wants); i++)
        cache_unpin(cache, wants[i].extent);
    cache_free(cache);
}

struct waiter {
    struct thread thread;
    struct cache *cache;
    struct cache_key key;
    och_code code;
    bool told;
    _Atomic bool began;
};

static void wait_run(void *arg)
{
    struct waiter *waiter = arg;
    const struct extent *extent;
    och_error failure = {0};
    atomic_store(&waiter->began, true);
    waiter->code =
        cache_pin(waiter->cache, waiter->key, LEN, CACHE_COLD, load, NULL, &extent, &failure);
    waiter->told = strcmp(failure.message, "bad page") == 0;
    if (waiter->code == OCH_OK)
        cache_unpin(waiter->cache, extent);
}

static void who_waits_for_a_batch_is_told_how_it_ended(void **state)
{
    (void)state;
    for (int sound = 0; sound < 2; sound++) {
        struct cache *cache;
        MUST(cache_new(1 << 20, NULL, &cache, err));
        struct cache_want want = want_of(cache_owner_new(cache), 1, CACHE_COLD);
        cache_begin(cache, &want, 1);
        struct waiter waiter = {.cache = cache, .key = want.key};
        MUST(thread_start(&waiter.thread, "waiter", 0, wait_run, &waiter, err));
        while (!atomic_load(&waiter.began))
            sched_yield_now();
        sched_sleep_ns(20000000); // else it loads by itself, which is right too
        och_error failure = {0};
        och_code code = sound ? OCH_OK : FAIL(&failure, OCH_CORRUPT, "bad page");
        memset(want.at, 1, LEN);
        cache_filled(cache, &want, code, &failure);
        thread_join(&waiter.thread);
        assert_true(waiter.code == OCH_OK || (waiter.code == OCH_CORRUPT && waiter.told));
        if (sound) {
            assert_int_equal(waiter.code, OCH_OK);
            cache_unpin(cache, want.extent);
        }
        cache_free(cache);
    }
}

struct crowd {
    struct thread thread;
    struct cache *cache;
    uint64_t owner, seed;
    _Atomic uint32_t *fills; /* by index */
};
enum { KEYS = 40 };

static void crowd_run(void *arg)
{
    struct crowd *crowd = arg;
    struct random random;
    random_seed(&random, crowd->seed);
    for (unsigned round = 0; round < 400; round++) {
        struct cache_want wants[12];
        for (size_t i = 0; i < COUNT_OF(wants); i++)
            wants[i] = want_of(crowd->owner, (uint32_t)random_below(&random, KEYS), CACHE_WARM);
        cache_begin(crowd->cache, wants, COUNT_OF(wants));
        for (size_t i = 0; i < COUNT_OF(wants); i++) {
            if (wants[i].state != WANT_FILL)
                continue;
            atomic_fetch_add(&crowd->fills[wants[i].key.index], 1);
            sched_yield_now();
            memset(wants[i].at, fill_of(wants[i].key), LEN);
            cache_filled(crowd->cache, &wants[i], OCH_OK, NULL);
        }
        for (size_t i = 0; i < COUNT_OF(wants); i++) {
            if (wants[i].state == WANT_WAIT)
                cache_await(crowd->cache, &wants[i]);
            if (!wants[i].extent || wants[i].extent->at[7] != fill_of(wants[i].key))
                abort();
            cache_unpin(crowd->cache, wants[i].extent);
        }
    }
}

static void batches_that_meet_load_each_once_and_never_block_each_other(void **state)
{
    (void)state;
    struct cache *cache;
    _Atomic uint32_t fills[KEYS] = {0};
    struct crowd crowds[5];
    MUST(cache_new(1 << 20, NULL, &cache, err));
    uint64_t owner = cache_owner_new(cache);
    for (size_t i = 0; i < COUNT_OF(crowds); i++) {
        crowds[i] = (struct crowd){.cache = cache, .owner = owner, .seed = i + 1, .fills = fills};
        MUST(thread_start(&crowds[i].thread, "crowd", 0, crowd_run, &crowds[i], err));
    }
    for (size_t i = 0; i < COUNT_OF(crowds); i++)
        thread_join(&crowds[i].thread);
    for (size_t i = 0; i < KEYS; i++)
        assert_int_equal(atomic_load(&fills[i]), 1);
    cache_free(cache);
}

static void use(struct cache *cache, uint64_t owner, uint32_t section, uint32_t count,
                enum cache_heat heat)
{
    for (uint32_t i = 0; i < count; i++) {
        const struct extent *extent;
        MUST(cache_pin(cache, (struct cache_key){owner, section, i}, LEN, heat, load, NULL, &extent,
                       err));
        cache_unpin(cache, extent);
    }
}

static uint32_t left_of(struct cache *cache, uint64_t owner, uint32_t section)
{
    uint32_t left = 0;
    for (uint32_t i = 0; i < 1000; i++) {
        const struct extent *extent;
        if (cache_peek(cache, (struct cache_key){owner, section, i}, &extent)) {
            left++;
            cache_unpin(cache, extent);
        }
    }
    return left;
}

static void hot_stays_before_warm_before_cold_but_nobody_gets_all(void **state)
{
    (void)state;
    struct cache *cache;
    MUST(cache_new(400 * (LEN + 256), NULL, &cache, err));
    uint64_t owner = cache_owner_new(cache);
    use(cache, owner, 1, 100, CACHE_HOT);
    use(cache, owner, 2, 100, CACHE_WARM);
    use(cache, owner, 3, 1000, CACHE_COLD); // a scan
    assert_int_equal(left_of(cache, owner, 1), 100);
    assert_int_equal(left_of(cache, owner, 2), 100);
    uint32_t cold = left_of(cache, owner, 3);
    assert_true(cold >= 190 && cold <= 215);
    assert_true(cache_room(cache, CACHE_COLD) < 3 * LEN);
    assert_true(cache_room(cache, CACHE_WARM) > 100 * LEN); // of the cold
    use(cache, owner, 4, 1000, CACHE_WARM);
    assert_int_equal(left_of(cache, owner, 1), 100);
    cold = left_of(cache, owner, 3);
    assert_true(cold >= 40 && cold <= 60); // an eighth stays
    use(cache, owner, 5, 1000, CACHE_HOT);
    uint32_t warm = left_of(cache, owner, 2) + left_of(cache, owner, 4);
    assert_true(warm >= 40 && warm <= 60);
    assert_true(left_of(cache, owner, 3) >= 40);
    cache_free(cache);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_batch_pins_what_is_there_and_fills_the_rest),
        cmocka_unit_test(what_has_no_room_fails_and_holds_nothing),
        cmocka_unit_test(who_waits_for_a_batch_is_told_how_it_ended),
        cmocka_unit_test(batches_that_meet_load_each_once_and_never_block_each_other),
        cmocka_unit_test(hot_stays_before_warm_before_cold_but_nobody_gets_all),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
