/* SPDX-License-Identifier: Apache-2.0 */
/* Slices, maps, bitsets, the k best, random numbers: against slow, obvious models. */
#include "base/bitset.h"
#include "base/clock.h"
#include "base/map.h"
#include "base/slice.h"
#include "base/topk.h"

#include <math.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

/* Ids are hashed on disk with it: it must never change. */
static void the_hash_is_xxh3_of_64_bits(void **state)
{
    (void)state;
    assert_int_equal(slice_hash(SLICE_NONE), 0x2D06800538D394C2ull);
    assert_int_equal(slice_hash(SLICE("")), 0x2D06800538D394C2ull);
    assert_int_equal(slice_hash(SLICE("a")), 0xE6C632B61E964E1Full);
    assert_int_equal(slice_hash(SLICE("abc")), 0x78AF5F94892F3950ull);
}

static void slices_compare_by_bytes_then_length(void **state)
{
    (void)state;
    assert_true(slice_compare(SLICE("a"), SLICE("ab")) < 0);
    assert_true(slice_compare(SLICE("b"), SLICE("ab")) > 0);
    assert_true(slice_compare(SLICE("\xff"), SLICE("a")) > 0);
    assert_int_equal(slice_compare(SLICE_NONE, SLICE("")), 0);
    assert_true(slice_equal_nocase(SLICE("Content-LENGTH"), SLICE("content-length")));
    assert_false(slice_equal_nocase(SLICE("a["), SLICE("a{")));
    assert_false(slice_equal_nocase(SLICE("ab"), SLICE("a")));
    assert_true(slice_starts_with(SLICE("abc"), SLICE("ab")));
    assert_false(slice_starts_with(SLICE("a"), SLICE("ab")));
    assert_true(slice_equal(slice_from(SLICE("abc"), 2), SLICE("c")));
}

#define KEYS 700

/* Random insertions and removals; few keys, so that probes run into one another. */
static void a_map_agrees_with_an_array(uint64_t seed)
{
    struct random random;
    struct map map;
    char keys[KEYS][16];
    bool held[KEYS] = {0};
    uint64_t values[KEYS] = {0};
    size_t len = 0;
    random_seed(&random, seed);
    map_init(&map);
    for (size_t i = 0; i < KEYS; i++)
        (void)snprintf(keys[i], sizeof(keys[i]), "%zu", i);
    for (size_t step = 0; step < 40000; step++) {
        // phases of growth and of decline
        bool grow = random_below(&random, 10) < (step / 4000 % 2 ? 3 : 7);
        size_t i = random_below(&random, KEYS);
        slice key = slice_of(keys[i]);
        if (grow) {
            bool is_new = false;
            uint64_t *value = map_at(&map, key, &is_new);
            assert_non_null(value);
            assert_int_equal(is_new, !held[i]);
            assert_int_equal(*value, held[i] ? values[i] : 0);
            len += is_new;
            held[i] = true;
            *value = values[i] = random_u64(&random);
        } else {
            assert_int_equal(map_remove(&map, key), held[i]);
            len -= held[i];
            held[i] = false;
        }
        assert_int_equal(map.len, len);
        i = random_below(&random, KEYS);
        const uint64_t *found = map_find(&map, slice_of(keys[i]));
        assert_int_equal(found != NULL, held[i]);
        assert_true(!found || *found == values[i]);
    }
    size_t cursor = 0, seen = 0;
    slice key;
    uint64_t value;
    while (map_next(&map, &cursor, &key, &value)) {
        size_t i = (size_t)strtoul((const char *)key.at, NULL, 10);
        assert_true(held[i] && values[i] == value);
        seen++;
    }
    assert_int_equal(seen, len);
    map_done(&map);
}

static void maps_agree_with_a_model(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 4; seed++) {
        map_set_seed(seed % 2 ? 0 : seed);
        a_map_agrees_with_an_array(seed);
    }
    map_set_seed(0);
}

static void an_empty_map_is_harmless(void **state)
{
    (void)state;
    struct map map;
    size_t cursor = 0;
    map_init(&map);
    assert_null(map_find(&map, SLICE("x")));
    assert_false(map_remove(&map, SLICE("x")));
    assert_false(map_next(&map, &cursor, NULL, NULL));
    assert_false(map_reserve(&map, SIZE_MAX));
    assert_true(map_reserve(&map, 1000));
    size_t cap = map.cap;
    bool is_new;
    char keys[1000][8];
    for (size_t i = 0; i < 1000; i++) {
        (void)snprintf(keys[i], sizeof(keys[i]), "%zu", i);
        assert_non_null(map_at(&map, slice_of(keys[i]), &is_new));
    }
    assert_int_equal(map.cap, cap); // reserved means no growth
    map_done(&map);
    map_done(NULL);
}

static void bitsets_agree_with_a_model(void **state)
{
    (void)state;
    struct random random;
    random_seed(&random, 3);
    for (size_t bits = 0; bits < 200; bits++) {
        struct bitset a, b, c;
        bool model[200] = {0}, other[200] = {0};
        assert_true(bitset_init(&a, bits));
        assert_true(bitset_init(&b, bits));
        for (size_t i = 0; i < bits; i++) {
            model[i] = random_below(&random, 3) == 0;
            other[i] = random_below(&random, 2);
            if (model[i])
                bitset_add(&a, i);
            if (other[i])
                bitset_add(&b, i);
        }
        assert_true(bitset_copy(&c, &a));
        unsigned how = (unsigned)random_below(&random, 5);
        for (size_t i = 0; i < bits; i++)
            model[i] = how == 0   ? model[i] && other[i]
                       : how == 1 ? model[i] || other[i]
                       : how == 2 ? model[i] && !other[i]
                       : how == 3 ? !model[i]
                                  : true;
        if (how == 0)
            bitset_and(&c, &b);
        else if (how == 1)
            bitset_or(&c, &b);
        else if (how == 2)
            bitset_and_not(&c, &b);
        else if (how == 3)
            bitset_not(&c);
        else
            bitset_fill(&c);
        size_t count = 0, next = bits;
        for (size_t i = bits; i-- > 0;) {
            assert_int_equal(bitset_has(&c, i), model[i]);
            count += model[i];
            next = model[i] ? i : next;
            assert_int_equal(bitset_next(&c, i), next);
        }
        assert_int_equal(bitset_count(&c), count);
        assert_int_equal(bitset_next(&c, bits), bits);
        if (bits) {
            bitset_remove(&c, bits - 1);
            assert_false(bitset_has(&c, bits - 1));
        }
        bitset_done(&a);
        bitset_done(&b);
        bitset_done(&c);
    }
    struct bitset huge;
    assert_false(bitset_init(&huge, SIZE_MAX));
    bitset_done(&huge);
}

static int by_rank(const void *a, const void *b)
{
    return topk_compare(a, b);
}

static void the_k_best_are_the_first_k_of_a_sort(void **state)
{
    (void)state;
    static const float odd[] = {INFINITY, NAN, -INFINITY, 0.0f, -0.0f};
    struct random random;
    random_seed(&random, 11);
    for (size_t round = 0; round < 300; round++) {
        struct arena arena;
        struct topk top;
        struct topk_item items[200];
        size_t count = random_below(&random, 200), k = random_below(&random, 60);
        arena_init(&arena, NULL, 0);
        assert_int_equal(topk_init(&top, k, &arena, NULL), OCH_OK);
        for (size_t i = 0; i < count; i++) {
            items[i] = (struct topk_item){.distance = (float)random_below(&random, 20),
                                          .source = (uint32_t)random_below(&random, 3),
                                          .row = i,
                                          .seq = (int64_t)random_below(&random, 100)};
            if (random_below(&random, 8) == 0)
                items[i].distance = odd[random_below(&random, COUNT_OF(odd))];
            float bound = topk_bound(&top);
            assert_true(top.len < k ? bound == INFINITY : k == 0 || bound == bound);
            topk_push(&top, items[i]);
        }
        topk_sort(&top);
        qsort(items, count, sizeof(items[0]), by_rank);
        assert_int_equal(top.len, min_size(count, k));
        for (size_t i = 0; i < top.len; i++) {
            assert_int_equal(topk_compare(&top.items[i], &items[i]), 0);
            assert_int_equal(top.items[i].row, items[i].row);
        }
        arena_done(&arena);
    }
}

static void not_a_number_and_infinity_sort_last_and_tie_by_seq(void **state)
{
    (void)state;
    struct topk_item nan_early = {.distance = NAN, .seq = 1},
                     inf = {.distance = INFINITY, .seq = 2};
    struct topk_item nan_late = {.distance = -NAN, .seq = 3}, one = {.distance = 1, .seq = 9};
    assert_true(topk_compare(&nan_early, &inf) < 0);
    assert_true(topk_compare(&inf, &nan_late) < 0);
    assert_true(topk_compare(&one, &nan_early) < 0);
}

static void too_many_best_are_no_memory_not_a_crash(void **state)
{
    (void)state;
    struct arena arena;
    struct topk top;
    och_error err = {0};
    arena_init(&arena, NULL, 10000);
    assert_int_equal(topk_init(&top, SIZE_MAX / 2, &arena, &err), OCH_NO_MEMORY);
    assert_int_equal(topk_init(&top, 1000, &arena, &err), OCH_NO_MEMORY);
    arena_done(&arena);
}

static void random_numbers_repeat_by_seed_and_keep_their_range(void **state)
{
    (void)state;
    struct random a, b;
    random_seed(&a, 5);
    random_seed(&b, 5);
    size_t counts[7] = {0};
    for (size_t i = 0; i < 70000; i++) {
        assert_int_equal(random_u64(&a), random_u64(&b));
        counts[random_below(&a, 7)]++;
        (void)random_below(&b, 7);
        double unit = random_unit(&a);
        assert_true(unit >= 0 && unit < 1);
        (void)random_unit(&b);
    }
    for (size_t i = 0; i < 7; i++)
        assert_in_range(counts[i], 9500, 10500);
    assert_int_equal(random_below(&a, 1), 0);
    (void)random_below(&a, UINT64_MAX);
    uint8_t bytes[13] = {0}, again[13] = {0};
    random_seed(&a, 6);
    random_seed(&b, 6);
    random_fill(&a, bytes, 13);
    random_fill(&b, again, 13);
    assert_memory_equal(bytes, again, 13);
    assert_int_equal(random_secret(bytes, 13, NULL), OCH_OK);
    assert_int_equal(random_secret(again, 13, NULL), OCH_OK);
    assert_memory_not_equal(bytes, again, 13);
    random_seed_system(&a);
    random_seed_system(&b);
    assert_true(random_u64(&a) != random_u64(&b));
}

/* xoshiro256** seeded by splitmix64(0), as in its authors' reference code. */
static void the_generator_is_the_published_one(void **state)
{
    (void)state;
    struct random random;
    random_seed(&random, 0);
    assert_int_equal(random.state[0], 0xE220A8397B1DCDAFull);
    assert_int_equal(random.state[1], 0x6E789E6AA1B965F4ull);
    assert_int_equal(random_u64(&random), 0x99EC5F36CB75F2B4ull);
}

static void a_manual_clock_moves_when_told(void **state)
{
    (void)state;
    struct clock_manual manual;
    clock_manual_init(&manual, 1000);
    uint64_t mono = clock_mono_ns(&manual.clock);
    clock_manual_advance(&manual, 500);
    assert_int_equal(clock_wall_ns(&manual.clock), 1500);
    assert_int_equal(clock_mono_ns(&manual.clock) - mono, 500);
    uint64_t before = clock_mono_ns(clock_system());
    assert_true(clock_mono_ns(clock_system()) >= before);
    assert_true(clock_wall_ns(clock_system()) > 1600000000ull * 1000000000ull);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_hash_is_xxh3_of_64_bits),
        cmocka_unit_test(slices_compare_by_bytes_then_length),
        cmocka_unit_test(maps_agree_with_a_model),
        cmocka_unit_test(an_empty_map_is_harmless),
        cmocka_unit_test(bitsets_agree_with_a_model),
        cmocka_unit_test(the_k_best_are_the_first_k_of_a_sort),
        cmocka_unit_test(not_a_number_and_infinity_sort_last_and_tie_by_seq),
        cmocka_unit_test(too_many_best_are_no_memory_not_a_crash),
        cmocka_unit_test(random_numbers_repeat_by_seed_and_keep_their_range),
        cmocka_unit_test(the_generator_is_the_published_one),
        cmocka_unit_test(a_manual_clock_moves_when_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
