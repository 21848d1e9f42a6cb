/* SPDX-License-Identifier: Apache-2.0 */
/* Heap, budgets, arenas, buffers: counting is exact, and no failing allocation leaks or crashes. */
#include "base/buf.h"
#include "base/bytes.h"
#include "base/map.h"
#include "base/sched.h"
#include "base/vec.h"

#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static void allocations_are_counted(void **state)
{
    (void)state;
    uint64_t live = mem_count_live(), made = mem_count_allocations();
    char *a = mem_alloc(10), *b = mem_zalloc(0);
    void *c = mem_alloc_aligned(4096, 5000);
    assert_non_null(a);
    assert_non_null(b);
    assert_int_equal((uintptr_t)c % 4096, 0);
    assert_int_equal(mem_count_live() - live, 3);
    assert_int_equal(mem_count_allocations() - made, 3);
    a = mem_realloc(a, 100000);
    assert_int_equal(mem_count_live() - live, 3);
    mem_free(a);
    mem_free(b);
    mem_free_aligned(c);
    mem_free(NULL);
    mem_free_aligned(NULL);
    assert_int_equal(mem_count_live(), live);
    // through a volatile, so that the compiler does not judge it
    volatile size_t huge = SIZE_MAX - 8;
    assert_null(mem_alloc(huge));
    assert_null(mem_zalloc(huge));
    assert_null(mem_alloc_aligned(64, huge));
    assert_null(mem_copy_text("x", huge));
    assert_int_equal(mem_count_live(), live);
}

static void the_nth_allocation_fails_and_only_that_one(void **state)
{
    (void)state;
    uint64_t live = mem_count_live();
    mem_fail_at(2);
    void *a = mem_alloc(1), *b = mem_alloc(1), *c = mem_alloc(1);
    assert_non_null(a);
    assert_null(b);
    assert_non_null(c);
    mem_fail_at(1);
    assert_null(mem_realloc(a, 50)); // and a is still ours
    mem_free(a);
    mem_free(c);
    mem_fail_at(1);
    mem_fail_at(0);
    a = mem_alloc(1);
    assert_non_null(a);
    mem_free(a);
    assert_int_equal(mem_count_live(), live);
}

static size_t hook_calls;

static void *host_alloc(void *user, void *old, size_t size)
{
    assert_ptr_equal(user, &hook_calls);
    hook_calls++;
    if (size)
        return realloc(old, size);
    free(old);
    return NULL;
}

static void a_host_may_bring_its_allocator(void **state)
{
    (void)state;
    mem_set_allocator(host_alloc, &hook_calls);
    for (size_t align = 1; align <= 4096; align *= 2) {
        uint8_t *at = mem_alloc_aligned(align, 100);
        assert_non_null(at);
        assert_int_equal((uintptr_t)at % align, 0);
        memset(at, 1, 100);
        mem_free_aligned(at);
    }
    uint8_t *at = mem_zalloc(64);
    assert_int_equal(at[63], 0);
    at = mem_realloc(at, 128);
    mem_free(at);
    mem_set_allocator(NULL, NULL);
    assert_int_equal(hook_calls, 2 * 13 + 3);
}

static void a_cleanup_local_frees_or_is_taken(void **state)
{
    (void)state;
    uint64_t live = mem_count_live();
    char *kept;
    {
        CLEANUP(mem_cleanup) char *gone = mem_copy_text("abc", 3);
        CLEANUP(mem_cleanup) char *owned = mem_copy_text("def", 3);
        assert_string_equal(gone, "abc");
        kept = take(&owned);
    }
    assert_string_equal(kept, "def");
    mem_free(kept);
    assert_int_equal(mem_count_live(), live);
}

static void a_budget_refuses_with_figures_and_takes_nothing(void **state)
{
    (void)state;
    struct budget whole, part;
    och_error err = {0};
    budget_init(&whole, 4ll << 30, NULL);
    budget_init(&part, 0, &whole);
    assert_int_equal(budget_take(&part, 3689348814u, "x", NULL), OCH_OK);
    int64_t used = budget_used(&whole);
    assert_int_equal(budget_used(&part), used);
    assert_int_equal(budget_take(&part, 2040109466u, "query", &err), OCH_BUSY);
    assert_string_equal(err.message,
                        "query needs 1.9 GiB, 0.6 GiB of the memory limit (4.0 GiB) is free");
    assert_int_equal(budget_used(&part), used);
    assert_int_equal(budget_used(&whole), used);
}

static void budgets_nest_and_roll_back(void **state)
{
    (void)state;
    struct budget whole, part;
    budget_init(&whole, 1000, NULL);
    budget_init(&part, 600, &whole);
    assert_int_equal(budget_take(&part, 500, "x", NULL), OCH_OK);
    assert_int_equal(budget_free(&part), 100);
    assert_int_equal(budget_take(&part, 101, "x", NULL), OCH_BUSY);
    assert_int_equal(budget_take(&whole, 450, "x", NULL), OCH_OK);
    assert_int_equal(budget_free(&part), 50);
    assert_int_equal(budget_take(&part, 60, "x", NULL), OCH_BUSY); // the parent's limit
    assert_int_equal(budget_used(&part), 500);
    assert_int_equal(budget_used(&whole), 950);
    budget_force(&part, 200);
    assert_int_equal(budget_free(&part), -150);
    assert_int_equal(budget_take(&part, 0, "x", NULL), OCH_BUSY);
    budget_give(&part, 700);
    assert_int_equal(budget_used(&whole), 450);
    assert_int_equal(budget_take(&part, SIZE_MAX, "x", NULL), OCH_BUSY);
    struct budget open;
    budget_init(&open, 0, NULL);
    assert_int_equal(budget_take(&open, SIZE_MAX, "x", NULL), OCH_OK);
    assert_int_equal(budget_take(&open, 1, "x", NULL), OCH_BUSY); // no wrap
    assert_int_equal(budget_take(NULL, SIZE_MAX, "x", NULL), OCH_OK);
    assert_int_equal(budget_free(NULL), INT64_MAX);
}

struct race {
    struct budget *budget;
    _Atomic int64_t *over;
};

static void take_and_give(void *arg)
{
    struct race *race = arg;
    for (size_t i = 0; i < 20000; i++) {
        size_t bytes = i % 50 + 1;
        if (budget_take(race->budget, bytes, "x", NULL) != OCH_OK)
            continue;
        if (budget_used(race->budget->parent) > 100 || budget_used(race->budget) > 70)
            atomic_fetch_add(race->over, 1);
        budget_give(race->budget, bytes);
    }
}

static void a_budget_is_exact_among_threads(void **state)
{
    (void)state;
    struct budget whole, parts[2];
    _Atomic int64_t over = 0;
    budget_init(&whole, 100, NULL);
    budget_init(&parts[0], 70, &whole);
    budget_init(&parts[1], 70, &whole);
    struct thread threads[4];
    struct race races[4];
    for (size_t i = 0; i < 4; i++) {
        races[i] = (struct race){&parts[i % 2], &over};
        assert_int_equal(thread_start(&threads[i], "race", 0, take_and_give, &races[i], NULL),
                         OCH_OK);
    }
    for (size_t i = 0; i < 4; i++)
        thread_join(&threads[i]);
    assert_int_equal(over, 0);
    assert_int_equal(budget_used(&whole), 0);
    assert_int_equal(budget_used(&parts[0]), 0);
}

static void an_arena_hands_out_aligned_room_and_gives_all_back(void **state)
{
    (void)state;
    uint64_t live = mem_count_live();
    struct budget budget;
    struct arena arena;
    budget_init(&budget, 10 << 20, NULL);
    arena_init(&arena, &budget, 0);
    uint8_t *before = NULL;
    for (size_t i = 0; i < 5000; i++) {
        size_t size = i % 37 == 0 ? 9000 : i % 130;
        uint8_t *at = arena_alloc(&arena, size);
        assert_non_null(at);
        assert_ptr_not_equal(at, before);
        assert_int_equal((uintptr_t)at % 16, 0);
        memset(at, 0xEE, size);
        before = at;
    }
    for (size_t align = 1; align <= 4096; align *= 2)
        assert_int_equal((uintptr_t)arena_alloc_aligned(&arena, align, 33) % align, 0);
    const uint8_t *zeros = arena_array(&arena, 100, 7);
    for (size_t i = 0; i < 700; i++)
        assert_int_equal(zeros[i], 0);
    assert_null(arena_array(&arena, SIZE_MAX / 2, 3));
    assert_null(arena_alloc(&arena, SIZE_MAX));
    assert_null(arena_alloc_aligned(&arena, 4096, SIZE_MAX - 100));
    assert_int_equal(budget_used(&budget), (int64_t)arena.used_bytes);
    assert_true(arena.used_bytes > 1000000);
    arena_done(&arena);
    assert_int_equal(budget_used(&budget), 0);
    assert_non_null(arena_alloc(&arena, 1)); // it can be used again
    arena_done(&arena);
    assert_int_equal(mem_count_live(), live);
}

static void a_big_allocation_leaves_the_open_block_in_use(void **state)
{
    (void)state;
    uint64_t live = mem_count_live();
    struct arena arena;
    arena_init(&arena, NULL, 0);
    uint8_t *small = arena_alloc(&arena, 16);
    uint8_t *bigs[3];
    for (size_t i = 0; i < 3; i++) {
        bigs[i] = arena_alloc(&arena, 3000000);
        memset(bigs[i], (int)i, 3000000);
    }
    assert_ptr_equal(arena_alloc(&arena, 16), small + 16);
    assert_int_equal(mem_count_live() - live, 4);
    assert_int_equal(bigs[0][2999999], 0);
    arena_done(&arena);
    assert_int_equal(mem_count_live(), live);
}

static void an_arena_keeps_to_its_limit_and_budget(void **state)
{
    (void)state;
    struct budget budget;
    struct arena arena;
    arena_init(&arena, NULL, 100000);
    size_t got = 0;
    while (arena_alloc(&arena, 1000))
        got += 1000;
    assert_in_range(got, 90000, 100000);
    assert_true(arena.used_bytes <= 100000);
    arena_done(&arena);
    budget_init(&budget, 50000, NULL);
    arena_init(&arena, &budget, 0);
    for (got = 0; arena_alloc(&arena, 1000); got += 1000)
        assert_true(budget_used(&budget) <= 50000);
    assert_in_range(got, 40000, 50000);
    arena_done(&arena);
    assert_int_equal(budget_used(&budget), 0);
}

static void an_arena_copies_and_formats(void **state)
{
    (void)state;
    struct arena arena;
    arena_init(&arena, NULL, 0);
    slice copy = arena_copy(&arena, SLICE("hello"));
    assert_true(slice_equal(copy, SLICE("hello")));
    assert_int_equal(copy.at[5], 0);
    assert_non_null(arena_copy(&arena, SLICE_NONE).at);
    assert_string_equal(arena_printf(&arena, "%d-%s", 5, "x"), "5-x");
    arena_done(&arena);
}

static void a_buffer_appends_all_kinds(void **state)
{
    (void)state;
    struct buf buf;
    buf_init(&buf, BUF_MAX_NONE);
    buf_u16(&buf, 0x0102);
    buf_u32(&buf, 0x03040506);
    buf_u64(&buf, 0x0708090A0B0C0D0Eull);
    buf_f32(&buf, 1.5f);
    buf_f64(&buf, -2.25);
    buf_align(&buf, 16);
    assert_int_equal(buf.len, 32);
    const uint64_t numbers[] = {0, 1, 127, 128, 16383, 16384, UINT32_MAX, UINT64_MAX};
    for (size_t i = 0; i < COUNT_OF(numbers); i++)
        buf_varint(&buf, numbers[i]);
    buf_sized(&buf, SLICE("sized"));
    buf_printf(&buf, "%0300d", 1);
    buf_text(&buf, "!");
    assert_int_equal(buf_check(&buf, "x", NULL), OCH_OK);
    struct reader r = reader_of(buf_view(&buf));
    assert_int_equal(reader_u16(&r), 0x0102);
    assert_int_equal(reader_u32(&r), 0x03040506);
    assert_int_equal(reader_u64(&r), 0x0708090A0B0C0D0Eull);
    assert_true(load_f32(reader_skip(&r, 4)) == 1.5f);
    assert_true(load_f64(reader_skip(&r, 8)) == -2.25);
    (void)reader_skip(&r, 6);
    for (size_t i = 0; i < COUNT_OF(numbers); i++)
        assert_int_equal(reader_varint(&r), numbers[i]);
    assert_true(slice_equal(reader_sized(&r), SLICE("sized")));
    assert_int_equal(reader_left(&r), 301);
    assert_false(r.failed);
    (void)reader_bytes(&r, 302);
    assert_true(r.failed);
    assert_int_equal(reader_u8(&r), 0);
    buf_done(&buf);
}

static void a_buffer_that_would_pass_its_maximum_fails_once_and_for_all(void **state)
{
    (void)state;
    och_error err = {0};
    CLEANUP(buf_cleanup) struct buf buf;
    buf_init(&buf, 100);
    for (size_t i = 0; i < 100; i++)
        buf_byte(&buf, (uint8_t)i);
    assert_false(buf.failed);
    buf_byte(&buf, 1);
    buf_text(&buf, "");
    assert_true(buf.failed);
    assert_null(buf_reserve(&buf, 0));
    assert_int_equal(buf_check(&buf, "reply", &err), OCH_TOO_LARGE);
    assert_string_equal(err.message, "reply is larger than its limit of 100 bytes");
    assert_int_equal(buf.len, 100);
    buf_clear(&buf);
    buf_printf(&buf, "%s", "fits");
    assert_true(slice_equal(buf_view(&buf), SLICE("fits")));
    assert_null(buf_reserve(&buf, SIZE_MAX));
}

static void varints_that_are_too_long_are_refused(void **state)
{
    (void)state;
    uint8_t bytes[11];
    memset(bytes, 0x80, sizeof(bytes));
    struct reader r = reader_of(slice_make(bytes, sizeof(bytes)));
    (void)reader_varint(&r);
    assert_true(r.failed);
    bytes[9] = 2; // bit 64
    r = reader_of(slice_make(bytes, 10));
    (void)reader_varint(&r);
    assert_true(r.failed);
    bytes[0] = 5;
    r = reader_of(slice_make(bytes, 1)); // says 5 bytes follow
    assert_null(reader_sized(&r).at);
    assert_true(r.failed);
}

static void vectors_grow(void **state)
{
    (void)state;
    VEC(int) numbers = {0};
    for (int i = 0; i < 1000; i++)
        assert_true(VEC_PUSH(&numbers, i));
    for (int i = 0; i < 1000; i++)
        assert_int_equal(numbers.at[i], i);
    assert_false(VEC_RESERVE(&numbers, SIZE_MAX / 2));
    assert_int_equal(numbers.len, 1000);
    VEC_DONE(&numbers);
    assert_null(numbers.at);
}

/* One run over everything here; false when an allocation failed, and then all must be sound. */
static bool run_all(void)
{
    bool done = true;
    struct arena arena;
    struct buf buf;
    struct map map;
    VEC(uint64_t) numbers = {0};
    struct budget budget;
    budget_init(&budget, 0, NULL);
    arena_init(&arena, &budget, 0);
    buf_init(&buf, BUF_MAX_NONE);
    map_init(&map);
    for (uint64_t i = 0; i < 300; i++) {
        bool is_new;
        const char *text = arena_printf(&arena, "key %d with some more text", (int)i);
        uint64_t *value = text ? map_at(&map, slice_of(text), &is_new) : NULL;
        if (value)
            *value = i;
        done = done && value && VEC_PUSH(&numbers, i);
        if (text)
            buf_text(&buf, text);
        if (!map_reserve(&map, map.len + 1))
            done = false;
        size_t cursor = 0, count = 0;
        while (i % 50 == 0 && map_next(&map, &cursor, NULL, NULL))
            count++;
        assert_true(i % 50 != 0 || count == map.len);
    }
    buf_printf(&buf, "%0400d", 1);
    done = done && !buf.failed;
    if (buf.failed)
        assert_int_equal(buf_check(&buf, "x", NULL), OCH_NO_MEMORY);
    VEC_DONE(&numbers);
    map_done(&map);
    buf_done(&buf);
    arena_done(&arena);
    assert_int_equal(budget_used(&budget), 0);
    return done;
}

static void every_single_allocation_may_fail(void **state)
{
    (void)state;
    uint64_t live = mem_count_live();
    size_t failures = 0;
    for (uint64_t nth = 1;; nth++) {
        uint64_t before = mem_count_allocations();
        mem_fail_at(nth);
        failures += !run_all();
        bool reached = mem_count_allocations() - before >= nth;
        mem_fail_at(0);
        assert_int_equal(mem_count_live(), live);
        if (!reached)
            break;
    }
    assert_true(failures > 10);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(allocations_are_counted),
        cmocka_unit_test(the_nth_allocation_fails_and_only_that_one),
        cmocka_unit_test(a_host_may_bring_its_allocator),
        cmocka_unit_test(a_cleanup_local_frees_or_is_taken),
        cmocka_unit_test(a_budget_refuses_with_figures_and_takes_nothing),
        cmocka_unit_test(budgets_nest_and_roll_back),
        cmocka_unit_test(a_budget_is_exact_among_threads),
        cmocka_unit_test(an_arena_hands_out_aligned_room_and_gives_all_back),
        cmocka_unit_test(a_big_allocation_leaves_the_open_block_in_use),
        cmocka_unit_test(an_arena_keeps_to_its_limit_and_budget),
        cmocka_unit_test(an_arena_copies_and_formats),
        cmocka_unit_test(a_buffer_appends_all_kinds),
        cmocka_unit_test(a_buffer_that_would_pass_its_maximum_fails_once_and_for_all),
        cmocka_unit_test(varints_that_are_too_long_are_refused),
        cmocka_unit_test(vectors_grow),
        cmocka_unit_test(every_single_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
