/* SPDX-License-Identifier: Apache-2.0 */
/* Rows with an end of life in merges (D20): gone once no operation can find them any more, and nobody sees the difference. */
#define STACK_COMPACT
#include "support/stack.h"

#include "compact/compact_internal.h"

#define MS 1000000ull

static void add_until(struct stack *s, uuid id, const char *name, float value, int64_t expires_ms)
{
    struct stack_row row = {.op = BATCH_ADD, .id = name, .value = value, .expires_ms = expires_ms};
    stack_write(s, id, &row, 1);
}

static void flush(struct stack *s, uuid id)
{
    OK(compact_flush(s->compactor, &id, 1, false, err));
}

static uint64_t rows_in_parts(struct stack *s, uuid id, size_t *ret_parts)
{
    struct arena arena;
    struct sysdb_version version;
    uint64_t rows = 0;
    arena_init(&arena, NULL, 0);
    OK(sysdb_version_get(s->sysdb, id, &arena, &version, err));
    for (size_t i = 0; i < version.part_count; i++)
        rows += version.parts[i].rows - version.parts[i].deleted;
    *ret_parts = version.part_count;
    arena_done(&arena);
    return rows;
}

/* Which of some names a reader finds now, and their values: "b:2,c:3". */
static void found(struct stack *s, uuid id, const char *const *names, size_t count,
                  const char *expected)
{
    struct view *view;
    struct arena arena;
    struct part_reads reads;
    struct buf text;
    arena_init(&arena, NULL, 0);
    buf_init(&text, BUF_MAX_NONE);
    part_reads_init(&reads, s->cache, &arena);
    OK(view_acquire(s->views, id, READ_INDEX_AND_WAL, &view, err));
    for (size_t i = 0; i < count; i++) {
        struct view_place place;
        struct record record;
        bool there = false;
        OK(view_find(view, slice_of(names[i]), &place, &there, err));
        if (!there)
            continue;
        OK(view_read(view, place, &reads, RECORD_ALL, &record, err));
        buf_printf(&text, "%s%s:%g", text.len ? "," : "", names[i], (double)record.vector[0]);
    }
    buf_byte(&text, 0);
    assert_string_equal((const char *)text.at, expected);
    part_reads_done(&reads);
    view_release(view);
    buf_done(&text);
    arena_done(&arena);
}
#define FOUND(s, id, expected, ...)                  \
    found(s, id, (const char *const[]){__VA_ARGS__}, \
          COUNT_OF(((const char *const[]){__VA_ARGS__})), (expected))

static void expired_rows_go_with_the_next_merge(void **state)
{
    (void)state;
    struct stack s = {.tail_rows_max = 100};
    size_t parts;
    bool merged;
    stack_open(&s);
    uuid id = stack_collection(&s, "expiring", "l2");
    add_until(&s, id, "a", 1, STACK_NOW_MS + 10);
    add_until(&s, id, "b", 2, STACK_NOW_MS + 1000);
    add_until(&s, id, "c", 3, 0);
    flush(&s, id);
    stack_add(&s, id, "d", 4);
    flush(&s, id);
    /* The clock alone is no reason while something waits to be flushed: its operations judge by their own time. */
    stack_add(&s, id, "e", 5);
    clock_manual_advance(&s.clock, 20 * MS);
    FOUND(&s, id, "b:2,c:3,d:4,e:5", "a", "b", "c", "d", "e");
    OK(compact_merge(s.compactor, id, true, &merged, err));
    assert_true(merged);
    assert_int_equal(rows_in_parts(&s, id, &parts), 4);
    FOUND(&s, id, "b:2,c:3,d:4,e:5", "a", "b", "c", "d", "e");
    /* A later batch in the parts is, and so is that there is none. */
    flush(&s, id);
    OK(compact_merge(s.compactor, id, true, &merged, err));
    assert_true(merged);
    assert_int_equal(rows_in_parts(&s, id, &parts), 4);
    assert_int_equal(parts, 1);
    FOUND(&s, id, "b:2,c:3,d:4,e:5", "a", "b", "c", "d", "e");
    stack_close(&s);
    stack_open(&s);
    FOUND(&s, id, "b:2,c:3,d:4,e:5", "a", "b", "c", "d", "e");
    stack_done(&s);
}

/* The same operations over an expired row and over one that a merge left behind. */
static void operations_see_no_difference(void **state)
{
    (void)state;
    for (int merge = 0; merge < 2; merge++) {
        struct stack s = {.tail_rows_max = 100};
        size_t parts;
        bool merged;
        stack_open(&s);
        uuid id = stack_collection(&s, "same", "l2");
        for (int i = 0; i < 5; i++) {
            char name[8];
            (void)snprintf(name, sizeof(name), "x%d", i);
            add_until(&s, id, name, (float)i, STACK_NOW_MS + 10);
        }
        stack_add(&s, id, "stays", 9);
        flush(&s, id);
        clock_manual_advance(&s.clock, 20 * MS);
        stack_add(&s, id, "later", 10);
        flush(&s, id);
        /* In the tail while the merge runs, and after it. */
        struct stack_row before[] = {{.op = BATCH_ADD, .id = "x0", .value = 20},
                                     {.op = BATCH_UPDATE, .id = "x1", .value = 21},
                                     {.op = BATCH_DELETE, .id = "x2"}};
        stack_write(&s, id, before, 3);
        if (merge) {
            OK(compact_merge(s.compactor, id, true, &merged, err));
            assert_true(merged);
            assert_int_equal(rows_in_parts(&s, id, &parts), 2);
        }
        struct stack_row after[] = {{.op = BATCH_UPSERT, .id = "x3", .value = 23},
                                    {.op = BATCH_UPDATE, .id = "x4", .value = 24},
                                    {.op = BATCH_ADD, .id = "x1", .value = 25}};
        uint64_t first = stack_write(&s, id, after, 3);
        struct view *view;
        struct view_counts counts;
        OK(view_acquire(s.views, id, READ_INDEX_AND_WAL, &view, err));
        OK(view_batch_counts(view, first, 3, &counts, err));
        assert_int_equal(counts.inserted, 2);
        assert_int_equal(counts.skipped, 1);
        view_release(view);
        FOUND(&s, id, "x0:20,x1:25,x3:23,stays:9,later:10", "x0", "x1", "x2", "x3", "x4", "stays",
              "later");
        OK(compactor_run(s.compactor, &id, true, err));
        FOUND(&s, id, "x0:20,x1:25,x3:23,stays:9,later:10", "x0", "x1", "x2", "x3", "x4", "stays",
              "later");
        stack_done(&s);
    }
}

/* D3: while an older part lives, its rows of these ids are told dead by KILL, too. */
static void their_ids_stay_noted_while_an_older_part_lives(void **state)
{
    (void)state;
    struct stack s = {.tail_rows_max = 10};
    stack_open(&s);
    uuid id = stack_collection(&s, "kills", "l2");
    stack_add_many(&s, id, 0, 40); /* large: merges of small parts leave it alone */
    flush(&s, id);
    for (int i = 0; i < 4; i++) {
        char name[8];
        (void)snprintf(name, sizeof(name), "id%d", i);
        struct stack_row row = {.op = BATCH_UPDATE,
                                .id = name,
                                .value = 100,
                                .expires_ms = i < 3 ? STACK_NOW_MS + 5 : 0};
        stack_write(&s, id, &row, 1);
        clock_manual_advance(&s.clock, i < 3 ? 0 : 10 * MS);
        if (i == 3)
            stack_add(&s, id, "last", 1);
        flush(&s, id);
    }
    bool merged;
    OK(compact_merge(s.compactor, id, false, &merged, err));
    assert_true(merged);
    struct view *view = NULL;
    struct arena arena;
    slice *kills;
    size_t count;
    arena_init(&arena, NULL, 0);
    OK(view_acquire(s.views, id, READ_INDEX_AND_WAL, &view, err));
    assert_int_equal(view_part_count(view), 2);
    assert_int_equal(part_rows(view_part(view, 1)), 2);
    OK(part_kills(view_part(view, 1), &arena, &kills, &count, err));
    assert_int_equal(count, 3);
    assert_int_equal(view_info(view)->live_rows, 38);
    view_release(view);
    arena_done(&arena);
    stack_done(&s);
}

/* ---- nobody writes ---- */

static void add_ten(struct stack *s, uuid id, int count, int64_t expires_ms)
{
    for (int i = 0; i < 10; i++) {
        char name[8];
        (void)snprintf(name, sizeof(name), "x%d", i);
        add_until(s, id, name, (float)i, i < count ? expires_ms : 0);
    }
    flush(s, id);
}

static uint64_t rows_after_merge(struct stack *s, uuid id)
{
    bool merged;
    size_t parts;
    OK(compact_merge_tier(s->compactor, id, MERGE_LARGE, true, &merged, err));
    return rows_in_parts(s, id, &parts);
}

static void they_go_when_they_are_many_and_nothing_is_written(void **state)
{
    (void)state;
    for (int expiring = 3; expiring <= 4; expiring++) {
        struct stack s = {.tail_rows_max = 100};
        stack_open(&s);
        uuid id = stack_collection(&s, "quiet", "l2");
        add_ten(&s, id, expiring, STACK_NOW_MS + 10);
        assert_int_equal(rows_after_merge(&s, id), 10);
        clock_manual_advance(&s.clock, 9 * MS);
        assert_int_equal(rows_after_merge(&s, id), 10);
        clock_manual_advance(&s.clock, 1 * MS);
        assert_int_equal(rows_after_merge(&s, id), expiring == 3 ? 10 : 6);
        int64_t next_ms;
        OK(compact_next_expiry(s.compactor, id, &next_ms, err));
        assert_int_equal(next_ms, 0); /* three of ten never are enough */
        FOUND(&s, id, expiring == 3 ? "x3:3,x4:4,x9:9" : "x4:4,x9:9", "x0", "x2", "x3", "x4", "x9");
        stack_done(&s);
    }
}

/* What was told to the log holds: neither a clock that goes back nor a restart brings a time at which the rows were there. */
static void no_later_operation_finds_them(void **state)
{
    (void)state;
    for (int restart = 0; restart < 2; restart++) {
        struct stack s = {.tail_rows_max = 100};
        stack_open(&s);
        uuid id = stack_collection(&s, "back", "l2");
        add_ten(&s, id, 4, STACK_NOW_MS + 10);
        clock_manual_advance(&s.clock, 20 * MS);
        assert_int_equal(rows_after_merge(&s, id), 6);
        if (restart) {
            stack_close(&s);
            stack_open(&s);
        }
        atomic_fetch_sub(&s.clock.wall_ns, 15 * MS);
        struct stack_row rows[] = {{.op = BATCH_UPDATE, .id = "x0", .value = 20},
                                   {.op = BATCH_ADD, .id = "x1", .value = 21},
                                   {.op = BATCH_UPDATE, .id = "x9", .value = 29}};
        uint64_t first = stack_write(&s, id, rows, 3);
        struct view *view;
        struct view_counts counts;
        OK(view_acquire(s.views, id, READ_INDEX_AND_WAL, &view, err));
        OK(view_batch_counts(view, first, 3, &counts, err));
        assert_int_equal(counts.inserted, 1);
        assert_int_equal(counts.updated, 1);
        assert_true(view_batch(view, 0)->created_at >= STACK_NOW_MS + 20);
        view_release(view);
        FOUND(&s, id, "x1:21,x9:29", "x0", "x1", "x2", "x9");
        stack_done(&s);
    }
}

/* Let an hour pass in minutes until so many rows are left. */
static bool wait_for_rows(struct stack *s, uuid id, uint64_t rows)
{
    size_t parts;
    for (int tries = 0; tries < 5000; tries++) {
        if (rows_in_parts(s, id, &parts) == rows)
            return true;
        clock_manual_advance(&s->clock, 60000 * MS);
        sched_sleep_ns(2 * MS);
    }
    return false;
}

static void the_compactor_looks_when_it_is_time(void **state)
{
    (void)state;
    for (int restart = 0; restart < 2; restart++) {
        struct stack s = {.tail_rows_max = 100};
        struct compactor_stats stats;
        stack_open(&s);
        uuid id = stack_collection(&s, "timed", "l2"), plain = stack_collection(&s, "plain", "l2");
        add_ten(&s, id, 10, STACK_NOW_MS + 3600000);
        add_ten(&s, plain, 0, 0);
        if (restart) { /* a reader loads it, and the Compactor hears of it */
            stack_close(&s);
            stack_open(&s);
            views_set_wants(s.views, compactor_kick, compactor_note_expiry, s.compactor);
            FOUND(&s, id, "x0:0", "x0");
            FOUND(&s, plain, "x0:0", "x0");
        } else {
            compact_want_merge(s.compactor, id);
            compact_want_merge(s.compactor, plain);
        }
        OK(compactor_start(s.compactor, err));
        assert_true(wait_for_rows(&s, id, 0));
        size_t notes = 1;
        for (int tries = 0; tries < 5000 && notes; tries++) { /* nobody is looked at again */
            clock_manual_advance(&s.clock, 60000 * MS);
            sched_sleep_ns(2 * MS);
            mutex_lock(&s.compactor->lock);
            notes = s.compactor->notes.len;
            mutex_unlock(&s.compactor->lock);
        }
        assert_int_equal(notes, 0);
        compactor_stats(s.compactor, &stats);
        assert_int_equal(stats.merges, 1); /* once, not for each row, and none of the other */
        stack_done(&s);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(expired_rows_go_with_the_next_merge),
        cmocka_unit_test(operations_see_no_difference),
        cmocka_unit_test(their_ids_stay_noted_while_an_older_part_lives),
        cmocka_unit_test(they_go_when_they_are_many_and_nothing_is_written),
        cmocka_unit_test(no_later_operation_finds_them),
        cmocka_unit_test(the_compactor_looks_when_it_is_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
