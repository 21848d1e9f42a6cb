/* SPDX-License-Identifier: Apache-2.0 */
/* Warming up stops where the cache is full, the hottest sections first. */
#include "part_fixture.h"

static struct part_warmed warm(struct fixture *f, enum part_warmth level)
{
    struct part_warmed warmed = {0};
    struct limits_of_work limits = {0};
    MUST(part_warm(f->part, level, &limits, &warmed, err));
    return warmed;
}

static void a_full_cache_ends_it(void **state)
{
    (void)state;
    struct rows_options options = {.count = 20000,
                                   .dimension = 32,
                                   .metric = METRIC_COSINE,
                                   .document_bytes = 100,
                                   .seq_step = 1};
    struct fixture f;
    fixture_init(&f, &options, 7);
    fixture_build(&f);
    struct part_warmed all = warm(&f, PART_WARM_VECTORS);
    assert_false(all.full);
    assert_true(all.bytes == all.wanted_bytes && all.bytes > 20000u * 32 * 4);
    uint64_t hot = warm(&f, PART_WARM_HOT).wanted_bytes;
    assert_true(hot > 0 && hot < warm(&f, PART_WARM_INDEXES).wanted_bytes);

    /* Half of the vectors fit: they end it, what is hot is there. */
    part_unref(f.part);
    f.part = NULL;
    cache_free(f.cache);
    MUST(cache_new(all.wanted_bytes * 3 / 5, &f.budget, &f.cache, err));
    MUST(fixture_open(&f, &f.part, err));
    struct part_warmed some = warm(&f, PART_WARM_VECTORS);
    assert_true(some.full && some.bytes < some.wanted_bytes && some.bytes > hot);
    struct cache_stats before, after;
    cache_stats(f.cache, &before);
    assert_int_equal(warm(&f, PART_WARM_HOT).bytes, hot);
    cache_stats(f.cache, &after);
    assert_int_equal(after.heat[CACHE_HOT].misses, before.heat[CACHE_HOT].misses);
    fixture_done(&f);
}

static void a_request_that_is_over_ends_it(void **state)
{
    (void)state;
    struct rows_options options = {
        .count = 2000, .dimension = 8, .metric = METRIC_L2, .seq_step = 1};
    struct fixture f;
    fixture_init(&f, &options, 8);
    fixture_build(&f);
    struct cancel cancel = {.fired = true};
    struct limits_of_work limits = {.cancel = &cancel};
    struct part_warmed warmed = {0};
    assert_int_equal(part_warm(f.part, PART_WARM_VECTORS, &limits, &warmed, NULL), OCH_CANCELLED);
    fixture_done(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_full_cache_ends_it),
        cmocka_unit_test(a_request_that_is_over_ends_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
