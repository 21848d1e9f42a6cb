/* SPDX-License-Identifier: Apache-2.0 */
/* Room out of regions: nobody gets another's bytes, memory goes back, refusals change nothing. */
#include "base/clock.h"
#include "base/pages.h"
#include "base/pool.h"

#include <setjmp.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define KIB ((size_t)1024)

struct held {
    uint8_t *at;
    size_t size;
    uint8_t mark;
};

static void fill(struct held *held, size_t size, uint8_t mark)
{
    *held = (struct held){pages_alloc(size), size, mark};
    assert_non_null(held->at);
    assert_int_equal((uintptr_t)held->at % 64, 0);
    memset(held->at, mark, size);
}

static void let_go(struct held *held)
{
    for (size_t i = 0; i < held->size; i += 61)
        assert_int_equal(held->at[i], held->mark);
    assert_int_equal(held->at[held->size - 1], held->mark);
    pages_free(held->at, held->size, 0);
    held->at = NULL;
}

/* Each 250 KiB. */
static void fill_all(struct held *held, size_t count, struct pages_stats *ret_full)
{
    for (size_t i = 0; i < count; i++)
        fill(&held[i], 250 * KIB, (uint8_t)i);
    pages_stats(ret_full);
}

/* Sizes of all kinds come and go at random. */
static void come_and_go(uint64_t seed, size_t steps)
{
    enum { HELD = 200 };
    static const size_t most[] = {20 * 1024, 300 * 1024, 1024 * 1024, 2100 * 1024};
    struct held held[HELD] = {0};
    struct random random;
    random_seed(&random, seed);
    for (size_t step = 0; step < steps; step++) {
        struct held *one = &held[random_below(&random, HELD)];
        if (one->at)
            let_go(one);
        else
            fill(one, 1 + random_below(&random, most[random_below(&random, 4)]),
                 (uint8_t)random_below(&random, 256));
    }
    for (size_t i = 0; i < HELD; i++)
        if (held[i].at)
            let_go(&held[i]);
}

static void nobody_gets_anothers_bytes(void **state)
{
    (void)state;
    uint64_t live = mem_count_live();
    for (uint64_t seed = 1; seed <= 3; seed++)
        come_and_go(seed, 2500);
    struct pages_stats stats;
    pages_stats(&stats);
    assert_int_equal(stats.used_bytes, 0);
    assert_int_equal(stats.regions, 0);
    assert_int_equal(mem_count_live(), live);
}

static void what_is_given_back_leaves_memory(void **state)
{
    (void)state;
    enum { COUNT = 400 };
    struct held held[COUNT];
    struct pages_stats full, stats;
    fill_all(held, COUNT, &full);
    assert_true(full.used_bytes <= full.regions * 2048 * KIB);
    for (size_t i = 0; i < COUNT; i += 2) /* no region is empty then */
        let_go(&held[i]);
    pages_stats(&stats);
    assert_true(stats.idle_bytes <= 4096 * KIB + full.used_bytes / 16);
    for (size_t i = 0; i < COUNT; i += 2) /* the same places again */
        fill(&held[i], 250 * KIB, (uint8_t)(i + 1));
    pages_stats(&stats);
    assert_int_equal(stats.regions, full.regions);
    assert_int_equal(stats.used_bytes, full.used_bytes);
    for (size_t i = 0; i < COUNT; i++)
        let_go(&held[i]);
    pages_stats(&stats);
    assert_int_equal(stats.regions, 0);
}

/* Who frees may let more stay for who comes next; a trim takes it when nobody has come. */
static void what_may_stay_serves_the_next_ones(void **state)
{
    (void)state;
    enum { COUNT = 200 };
    struct held held[COUNT];
    struct pages_stats full, stats;
    fill_all(held, COUNT, &full);
    for (size_t i = 0; i < COUNT / 2; i++) { /* whole regions, 24 MiB */
        pages_free(held[i].at, held[i].size, SIZE_MAX);
        held[i].at = NULL;
    }
    pages_stats(&stats);
    assert_int_equal(stats.regions, full.regions);
    assert_true(stats.idle_bytes >= full.used_bytes / 2);
    pages_trim(); /* something was freed since the last */
    pages_stats(&stats);
    assert_int_equal(stats.regions, full.regions);
    for (size_t i = 0; i < COUNT / 4; i++)
        fill(&held[i], 250 * KIB, (uint8_t)i);
    pages_stats(&stats);
    assert_int_equal(stats.regions, full.regions);
    pages_trim();
    pages_stats(&stats);
    assert_true(stats.regions < full.regions || full.regions == 0); /* 0: all from the heap */
    assert_true(stats.idle_bytes <= 4096 * KIB + stats.used_bytes / 16);
    for (size_t i = 0; i < COUNT; i++)
        if (held[i].at)
            let_go(&held[i]);
    pages_stats(&stats);
    assert_int_equal(stats.regions, 0);
}

static void a_refusal_changes_nothing(void **state)
{
    (void)state;
    struct held held;
    struct pages_stats before, after;
    uint64_t first = mem_count_live();
    fill(&held, 300 * KIB, 7);
    pages_stats(&before);
    uint64_t live = mem_count_live();
    mem_fail_at(1);
    assert_null(pages_alloc(200 * KIB));
    mem_fail_at(0);
    pages_stats(&after);
    assert_int_equal(mem_count_live(), live);
    assert_memory_equal(&before, &after, sizeof(before));
    let_go(&held);
    assert_int_equal(mem_count_live(), first);
    pages_free(NULL, 100 * KIB, 0);
}

static void task(void *context, size_t i)
{
    (void)context;
    come_and_go(100 + i, 1500);
}

static void threads_share_the_regions(void **state)
{
    (void)state;
    struct pool *pool;
    struct pool_options options = {.name = "pages", .thread_count = 3};
    assert_int_equal(pool_new(&options, &pool, NULL), OCH_OK);
    pool_for(pool, 4, task, NULL);
    pool_free(pool);
    struct pages_stats stats;
    pages_stats(&stats);
    assert_int_equal(stats.used_bytes, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nobody_gets_anothers_bytes),
        cmocka_unit_test(what_is_given_back_leaves_memory),
        cmocka_unit_test(what_may_stay_serves_the_next_ones),
        cmocka_unit_test(a_refusal_changes_nothing),
        cmocka_unit_test(threads_share_the_regions),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
