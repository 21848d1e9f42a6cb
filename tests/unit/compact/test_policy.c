/* SPDX-License-Identifier: Apache-2.0 */
/* Which parts are merged (D18), as a pure function. */
#include "compact/compact_internal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static const struct policy usual = {.tail_rows = 100, .part_rows_max = 1000000, .tiers = 3};

static void expect(const struct policy *policy, const struct policy_part *parts, size_t count,
                   size_t first, size_t merged)
{
    size_t got_first, got_count;
    policy_choose(policy, parts, count, &got_first, &got_count);
    assert_int_equal(got_count, merged);
    if (merged)
        assert_int_equal(got_first, first);
}

static void nothing_to_do_is_nothing_done(void **state)
{
    (void)state;
    expect(&usual, NULL, 0, 0, 0);
    expect(&usual, (struct policy_part[]){{.rows = 5000}}, 1, 0, 0);
    expect(&usual,
           (struct policy_part[]){{.rows = 5000}, {.rows = 100}, {.rows = 100}, {.rows = 90}}, 4, 0,
           0);
}

static void four_adjacent_small_parts_become_one(void **state)
{
    (void)state;
    const struct policy_part parts[] = {
        {.rows = 5000}, {.rows = 100}, {.rows = 150}, {.rows = 1}, {.rows = 100}};
    expect(&usual, parts, 5, 1, 4);
    const struct policy_part split[] = {
        {.rows = 100}, {.rows = 100}, {.rows = 5000}, {.rows = 100}, {.rows = 100}};
    expect(&usual, split, 5, 0, 0); /* not adjacent */
}

static void tiers_leave_each_other_alone(void **state)
{
    (void)state;
    const struct policy small = {.tail_rows = 100, .part_rows_max = 1000000, .tiers = 1};
    const struct policy large = {.tail_rows = 100, .part_rows_max = 1000000, .tiers = 2};
    struct policy_part parts[14] = {{.rows = 9000}, {.rows = 400}, {.rows = 500},
                                    {.rows = 300},  {.rows = 700}, {.rows = 100}};
    for (int i = 6; i < 14; i++)
        parts[i] = parts[5];
    expect(&large, parts, 14, 2, 2); /* 500 and 300; not a large one with a small one */
    expect(&small, parts, 14, 5, 8); /* a backlog in steps */
    for (int i = 5; i < 13; i++)
        parts[i].busy = true;
    expect(&small, parts, 14, 0, 0);
    parts[2].busy = true;
    expect(&large, parts, 14, 3, 2);
    const struct policy one = {
        .tail_rows = 100, .part_rows_max = 1000000, .to_one = true, .tiers = 2};
    expect(&one, parts, 2, 0, 2);
    expect(&one, parts, 3, 0, 0); /* waits for what is being merged */
}

static void a_part_more_than_30_per_cent_dead_is_rewritten(void **state)
{
    (void)state;
    expect(&usual, (struct policy_part[]){{.rows = 1000, .deleted = 300}}, 1, 0, 0);
    expect(&usual, (struct policy_part[]){{.rows = 1000, .deleted = 301}}, 1, 0, 1);
    expect(&usual, (struct policy_part[]){{.rows = 9000}, {.rows = 1000, .deleted = 1000}}, 2, 1,
           1);
}

static void a_damaged_part_is_rewritten(void **state)
{
    (void)state;
    expect(&usual, (struct policy_part[]){{.rows = 9000}, {.rows = 9000, .damaged = true}}, 2, 1,
           1);
}

static void at_most_four_large_parts_stay(void **state)
{
    (void)state;
    const struct policy_part four[] = {{.rows = 9000}, {.rows = 400}, {.rows = 500}, {.rows = 300}};
    expect(&usual, four, 4, 0, 0);
    const struct policy_part five[] = {
        {.rows = 9000}, {.rows = 4000}, {.rows = 500}, {.rows = 300}, {.rows = 3000}};
    expect(&usual, five, 5, 2, 2); /* the cheapest adjacent pair */
    const struct policy capped = {.tail_rows = 100, .part_rows_max = 700, .tiers = 3};
    expect(&capped, five, 5, 0, 0); /* none fits */
}

static void idle_collections_go_down_to_one_part(void **state)
{
    (void)state;
    const struct policy idle = {
        .tail_rows = 100, .part_rows_max = 1000, .to_one = true, .tiers = 3};
    expect(&idle, (struct policy_part[]){{.rows = 500}, {.rows = 10}}, 2, 0, 2);
    expect(&idle, (struct policy_part[]){{.rows = 500, .deleted = 1}}, 1, 0, 1);
    expect(&idle, (struct policy_part[]){{.rows = 500}}, 1, 0, 0);
    expect(&idle, (struct policy_part[]){{.rows = 500, .unlisted = true}}, 1, 0, 1);
    expect(&usual, (struct policy_part[]){{.rows = 500, .unlisted = true}}, 1, 0, 0);
    expect(&idle, (struct policy_part[]){{.rows = 900}, {.rows = 200}}, 2, 0,
           0); /* too large together */
}

/* Whatever comes, repeating the policy ends, and leaves no more parts than the rules allow. */
static void merging_always_comes_to_rest(void **state)
{
    (void)state;
    struct random random;
    random_seed(&random, 7);
    for (int round = 0; round < 2000; round++) {
        struct policy_part parts[40];
        size_t count = random_below(&random, 40);
        for (size_t i = 0; i < count; i++) {
            parts[i].rows = random_below(&random, 3) ? random_below(&random, 150)
                                                     : random_below(&random, 100000);
            parts[i].deleted = random_below(&random, parts[i].rows + 1);
            parts[i].damaged = parts[i].busy = false;
        }
        for (int steps = 0;; steps++) {
            size_t first, merged;
            policy_choose(&usual, parts, count, &first, &merged);
            if (merged == 0)
                break;
            assert_true(steps < 200);
            uint64_t live = 0;
            for (size_t i = first; i < first + merged; i++)
                live += parts[i].rows - parts[i].deleted;
            parts[first] = (struct policy_part){.rows = live};
            for (size_t i = first + merged; i < count; i++)
                parts[i - merged + 1] = parts[i];
            count -= merged - 1;
        }
        assert_true(count <= 12);
    }
}

static void parts_are_no_larger_than_memory_can_build(void **state)
{
    (void)state;
    const int64_t mib = 1 << 20;
    assert_int_equal(policy_rows_max(20000000, 0, 768), 20000000); /* no limit */
    assert_int_equal(policy_rows_max(20000000, 12 * 1024 * mib, 768), 20000000);
    assert_int_equal(policy_rows_max(1000, 64 * mib, 768), 1000);
    /* what grows with the rows is at most a third; the rest of a build, tails and the cache have the others */
    assert_in_range(policy_rows_max(20000000, 64 * mib, 0), 1000000, 3000000);
    for (uint32_t dimension = 1; dimension <= 65535; dimension += 13) {
        uint64_t rows = policy_rows_max(20000000, 64 * mib, dimension);
        assert_true(rows >= 1000);
        assert_true(rows * (dimension / 8 + 20) <= 64 * (uint64_t)mib / 3);
    }
    assert_in_range(policy_rows_max(20000000, 64 * mib, 768), 120000, 180000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_to_do_is_nothing_done),
        cmocka_unit_test(four_adjacent_small_parts_become_one),
        cmocka_unit_test(tiers_leave_each_other_alone),
        cmocka_unit_test(a_part_more_than_30_per_cent_dead_is_rewritten),
        cmocka_unit_test(a_damaged_part_is_rewritten),
        cmocka_unit_test(at_most_four_large_parts_stay),
        cmocka_unit_test(parts_are_no_larger_than_memory_can_build),
        cmocka_unit_test(idle_collections_go_down_to_one_part),
        cmocka_unit_test(merging_always_comes_to_rest),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
