/* SPDX-License-Identifier: Apache-2.0 */
/* D19: an index builder that fails on a batch again and again.  The linker puts this file's builder before the real one (CMakeLists.txt), so that
 * exactly the vector index fails, as often as a test says; the compactor's threads run on a clock that the test moves. */
#define STACK_COMPACT
#include "support/stack.h"

#include "compact/compact_internal.h"
#include "index/vector/vector.h"
#include "part/part_internal.h"

#define MS   1000000ull
#define ROWS 2100u /* enough for an index */

static _Atomic unsigned builds, builds_to_fail;
static _Atomic int how; /* och_code */

och_code __real_vector_build_new(const struct vector_options *options,
                                 const struct vector_rows *rows, struct vector_build **ret_build,
                                 och_error *err);
och_code __wrap_vector_build_new(const struct vector_options *options,
                                 const struct vector_rows *rows, struct vector_build **ret_build,
                                 och_error *err);

och_code __wrap_vector_build_new(const struct vector_options *options,
                                 const struct vector_rows *rows, struct vector_build **ret_build,
                                 och_error *err)
{
    if (atomic_fetch_add(&builds, 1) < atomic_load(&builds_to_fail))
        return FAIL(err, (och_code)atomic_load(&how), "the builder does not like these vectors");
    return __real_vector_build_new(options, rows, ret_build, err);
}

static void fail_builds(unsigned count, och_code code)
{
    atomic_store(&builds, 0);
    atomic_store(&builds_to_fail, count);
    atomic_store(&how, (int)code);
}

struct seen {
    size_t parts;
    uint64_t log_offset, log_rows, failures;
    bool plain; /* the first part */
};

static struct seen look(struct stack *s, uuid id)
{
    struct seen seen = {0};
    struct arena arena;
    struct sysdb_version version;
    struct compactor_stats stats;
    arena_init(&arena, NULL, 0);
    OK(sysdb_version_get(s->sysdb, id, &arena, &version, err));
    seen.parts = version.part_count;
    seen.log_offset = version.log_offset;
    arena_done(&arena);
    compactor_stats(s->compactor, &stats);
    seen.failures = stats.failures;
    size_t cursor = 0;
    uuid other;
    uint64_t rows, bytes;
    int64_t oldest;
    while (wal_next_collection(s->wal, &cursor, &other, &rows, &bytes, &oldest))
        seen.log_rows += rows;
    struct view *view;
    OK(view_acquire(s->views, id, READ_INDEX_ONLY, &view, err));
    seen.plain =
        view_part_count(view) > 0 && !part_has(view_part(view, 0), SECTION_IDHASH) && seen.parts;
    view_release(view);
    return seen;
}

static void expect_rows(struct stack *s, uuid id, uint32_t count)
{
    struct view *view;
    struct arena arena;
    struct part_reads reads;
    arena_init(&arena, NULL, 0);
    part_reads_init(&reads, s->cache, &arena);
    OK(view_acquire(s->views, id, READ_INDEX_AND_WAL, &view, err));
    assert_int_equal(view_info(view)->live_rows, count);
    for (uint32_t i = 0; i < count; i += 97) {
        char name[16];
        struct view_place place;
        struct record record;
        bool found = false;
        (void)snprintf(name, sizeof(name), "id%u", i);
        OK(view_find(view, slice_of(name), &place, &found, err));
        assert_true(found);
        OK(view_read(view, place, &reads, RECORD_ALL, &record, err));
        assert_non_null(record.vector);
        assert_true(record.vector[0] == (float)i);
    }
    part_reads_done(&reads);
    view_release(view);
    arena_done(&arena);
}

/* Wait, without moving the clock, until `done` builds were tried and their outcome noted. */
static bool settled(struct stack *s, uuid id, unsigned tried, uint64_t failures)
{
    for (int i = 0; i < 5000; i++) {
        if (atomic_load(&builds) >= tried && look(s, id).failures >= failures)
            return true;
        sched_sleep_ns(1 * MS);
    }
    return false;
}

/* The flusher waits for the clock it is given, so it looks again when somebody kicks it. */
static void nothing_happens(struct stack *s, uuid id, unsigned tried)
{
    for (int i = 0; i < 20; i++) {
        compactor_kick(s->compactor, id);
        sched_sleep_ns(1 * MS);
        assert_int_equal(atomic_load(&builds), tried);
    }
}

static void three_failures_make_a_plain_part_that_a_merge_takes_back(void **state)
{
    (void)state;
    struct stack s = {.tail_rows_max = ROWS};
    stack_open(&s);
    uuid id = stack_collection(&s, "poison", "l2");
    uint64_t first = stack_add_many(&s, id, 0, ROWS);
    fail_builds(3, OCH_INTERNAL);
    OK(compactor_start(s.compactor, err));

    compactor_kick(s.compactor, id);
    assert_true(settled(&s, id, 1, 1));
    struct seen seen = look(&s, id);
    assert_int_equal(seen.parts, 0);
    assert_int_equal(seen.log_offset, first); /* it never passes a batch that is in no part */
    assert_int_equal(seen.log_rows, ROWS);
    expect_rows(&s, id, ROWS);

    nothing_happens(&s, id, 1); /* 0.2 s after the first failure … */
    clock_manual_advance(&s.clock, 199 * MS);
    nothing_happens(&s, id, 1);
    clock_manual_advance(&s.clock, 2 * MS);
    compactor_kick(s.compactor, id);
    assert_true(settled(&s, id, 2, 2));
    assert_int_equal(look(&s, id).log_offset, first);

    clock_manual_advance(&s.clock, 390 * MS); /* … 0.4 s after the second */
    nothing_happens(&s, id, 2);
    clock_manual_advance(&s.clock, 15 * MS);
    compactor_kick(s.compactor, id);
    for (int i = 0; i < 5000 && look(&s, id).log_rows; i++)
        sched_sleep_ns(1 * MS);
    assert_int_equal(atomic_load(&builds), 3); /* a plain part asks for no index */
    seen = look(&s, id);
    assert_int_equal(seen.parts, 1);
    assert_int_equal(seen.log_offset, first + ROWS);
    assert_int_equal(seen.log_rows, 0);
    assert_true(seen.plain);
    expect_rows(&s, id, ROWS);

    /* More rows, whose builder works; then a merge makes a whole part of both. */
    stack_add_many(&s, id, ROWS, 10);
    OK(compactor_run(s.compactor, &id, true, err));
    assert_true(atomic_load(&builds) > 3);
    seen = look(&s, id);
    assert_int_equal(seen.parts, 1);
    assert_false(seen.plain);
    struct view *view;
    OK(view_acquire(s.views, id, READ_INDEX_ONLY, &view, err));
    assert_true(part_has(view_part(view, 0), SECTION_MEAN));
    view_release(view);
    expect_rows(&s, id, ROWS + 10);
    stack_done(&s);
}

/* A lack of memory is no poison: it is tried again for as long as it lasts, and the part is a whole one. */
static void lack_of_memory_is_waited_for(void **state)
{
    (void)state;
    struct stack s = {.tail_rows_max = ROWS};
    stack_open(&s);
    uuid id = stack_collection(&s, "memory", "l2");
    uint64_t first = stack_add_many(&s, id, 0, ROWS);
    fail_builds(5, OCH_NO_MEMORY);
    OK(compactor_start(s.compactor, err));
    for (unsigned tries = 1; tries <= 5; tries++) {
        compactor_kick(s.compactor, id);
        assert_true(settled(&s, id, tries, tries));
        assert_int_equal(look(&s, id).log_offset, first);
        nothing_happens(&s, id, tries);
        clock_manual_advance(&s.clock, (200 * MS << (tries - 1)) + MS);
    }
    compactor_kick(s.compactor, id);
    for (int i = 0; i < 5000 && look(&s, id).log_rows; i++)
        sched_sleep_ns(1 * MS);
    struct seen seen = look(&s, id);
    assert_int_equal(seen.log_offset, first + ROWS);
    assert_int_equal(seen.parts, 1);
    assert_false(seen.plain);
    expect_rows(&s, id, ROWS);
    stack_done(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(three_failures_make_a_plain_part_that_a_merge_takes_back),
        cmocka_unit_test(lack_of_memory_is_waited_for),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
