/* SPDX-License-Identifier: Apache-2.0 */
/* Attached functions over a disk in memory: what each kind writes, when it runs, what flushes wait for, and that nothing is counted twice. */
#include "function_test.h"

#include <errno.h>

static void flush(struct stack *s, uuid id)
{
    OK(compactor_run(s->compactor, &id, false, err));
}

static uint64_t tail_from(struct stack *s, uuid id)
{
    struct view *view = NULL;
    OK(view_acquire(s->views, id, READ_INDEX_AND_WAL, &view, err));
    uint64_t from = view_info(view)->from;
    view_release(view);
    return from;
}

static struct functions_stats stats_of(struct stack *s)
{
    struct functions_stats stats;
    functions_stats(s->functions, &stats);
    return stats;
}

static void records_are_counted(void **state)
{
    (void)state;
    struct stack s = {.tail_rows_max = 100};
    stack_open(&s);
    uuid input = stack_collection(&s, "input", "l2");
    stack_add_many(&s, input, 0, 3);
    struct sysdb_function f = attach_to(&s, input, "count", "record_counter", "{}");
    run_all(&s);
    EXPECT_DUMP(&s, f.output, true,
                "function_output {\"total_count\":3} Last processed 3 records (total: 3)");
    stack_delete(&s, input, "id1");
    stack_add(&s, input, "more", 1);
    stack_add(&s, input, "more", 1); /* is there already */
    stack_write(&s, input, &(struct stack_row){.op = BATCH_UPDATE, .id = "id0", .value = 5}, 1);
    stack_delete(&s, input, "nobody");
    stack_add(&s, input, "again", 1);
    run_all(&s);
    EXPECT_DUMP(&s, f.output, true,
                "function_output {\"total_count\":4} Last processed 6 records (total: 4)");
    assert_int_equal(completion_of(&s, input, "count"), 9);
    run_all(&s);
    assert_int_equal(stats_of(&s).runs, 2);
    stack_done(&s);
}

static void values_are_counted_by_key_type_and_value(void **state)
{
    (void)state;
    struct stack s = {.tail_rows_max = 100};
    stack_open(&s);
    uuid input = stack_collection(&s, "input", "l2");
    struct sysdb_function f = attach_to(&s, input, "stats", "statistics", "{}");
    write_one(&s, input, BATCH_ADD, "a", "{\"b\":true,\"i\":-7,\"f\":1.5,\"s\":\"x\",\"e\":[]}");
    write_one(&s, input, BATCH_ADD, "b", "{\"i\":-7,\"f\":-1e-300,\"l\":[\"x\",\"y\",\"x\"]}");
    write_one(&s, input, BATCH_ADD, "c",
              "{\"v\":{\"#type\":\"sparse_vector\",\"indices\":[3,70000],\"values\":[1.0,2.0],"
              "\"tokens\":[\"three\",\"many\"]},\"n\":[1,2]}");
    write_one(&s, input, BATCH_ADD, "d", NULL);
    run_all(&s);
    EXPECT_DUMP(
        &s, f.output, true,
        "b::b:true {\"count\":1,\"key\":\"b\",\"type\":\"bool\",\"value\":\"true\"} "
        "statistics about b for b:true",
        "f::f:-1.0000000000000000e-300 {\"count\":1,\"key\":\"f\",\"type\":\"float\",\"value\":\""
        "-1.0000000000000000e-300\"} statistics about f for f:-1.0000000000000000e-300",
        "f::f:1.5000000000000000e0 {\"count\":1,\"key\":\"f\",\"type\":\"float\",\"value\":\"1."
        "5000000000000000e0\"} statistics about f for f:1.5000000000000000e0",
        "i::i:-7 {\"count\":2,\"key\":\"i\",\"type\":\"int\",\"value\":\"-7\"} statistics about i "
        "for i:-7",
        "l::s:x {\"count\":2,\"key\":\"l\",\"type\":\"str\",\"value\":\"x\"} statistics about l "
        "for "
        "s:x",
        "l::s:y {\"count\":1,\"key\":\"l\",\"type\":\"str\",\"value\":\"y\"} statistics about l "
        "for "
        "s:y",
        "n::i:1 {\"count\":1,\"key\":\"n\",\"type\":\"int\",\"value\":\"1\"} statistics about n "
        "for "
        "i:1",
        "n::i:2 {\"count\":1,\"key\":\"n\",\"type\":\"int\",\"value\":\"2\"} statistics about n "
        "for "
        "i:2",
        "s::s:x {\"count\":1,\"key\":\"s\",\"type\":\"str\",\"value\":\"x\"} statistics about s "
        "for "
        "s:x",
        "summary::s:total_count "
        "{\"count\":4,\"key\":\"summary\",\"type\":\"str\",\"value\":\"total_"
        "count\"} statistics about summary for s:total_count",
        "v::sv:3 {\"count\":1,\"key\":\"v\",\"type\":\"sparse\",\"value\":\"3\",\"value_label\":"
        "\"three\"} statistics about v for sv:3",
        "v::sv:70000 {\"count\":1,\"key\":\"v\",\"type\":\"sparse\",\"value\":\"70000\",\"value_"
        "label\":\"many\"} statistics about v for sv:70000");
    /* What no record has any more is gone; the summary stays. */
    write_one(&s, input, BATCH_UPDATE, "a", "{\"b\":false,\"i\":null}");
    stack_delete(&s, input, "b");
    stack_delete(&s, input, "c");
    stack_delete(&s, input, "d");
    run_all(&s);
    EXPECT_DUMP(&s, f.output, false,
                "b::b:false {\"count\":1,\"key\":\"b\",\"type\":\"bool\",\"value\":\"false\"}",
                "f::f:1.5000000000000000e0 {\"count\":1,\"key\":\"f\",\"type\":\"float\",\"value\":"
                "\"1.5000000000000000e0\"}",
                "s::s:x {\"count\":1,\"key\":\"s\",\"type\":\"str\",\"value\":\"x\"}",
                "summary::s:total_count "
                "{\"count\":1,\"key\":\"summary\",\"type\":\"str\",\"value\":\"total_count\"}");
    stack_delete(&s, input, "a");
    run_all(&s);
    EXPECT_DUMP(&s, f.output, false,
                "summary::s:total_count "
                "{\"count\":0,\"key\":\"summary\",\"type\":\"str\",\"value\":\"total_count\"}");
    assert_int_equal(stats_of(&s).rebuilds, 0);
    stack_done(&s);
}

static void steps_compare_with_what_parts_hold(void **state)
{
    (void)state;
    struct stack s = {.tail_rows_max = 100};
    stack_open(&s);
    uuid input = stack_collection(&s, "input", "l2");
    struct sysdb_function f = attach_to(&s, input, "stats", "statistics", "{}");
    write_one(&s, input, BATCH_ADD, "a", "{\"k\":1}");
    write_one(&s, input, BATCH_ADD, "b", "{\"k\":1}");
    run_all(&s);
    flush(&s, input);
    flush(&s, f.output);
    assert_int_equal(tail_from(&s, input), 2);
    write_one(&s, input, BATCH_UPDATE, "a", "{\"k\":2}");
    write_one(&s, input, BATCH_UPDATE, "a", "{\"k\":3}");
    stack_delete(&s, input, "b");
    write_one(&s, input, BATCH_ADD, "b", "{\"k\":3}");
    run_all(&s);
    EXPECT_DUMP(&s, f.output, false,
                "k::i:3 {\"count\":2,\"key\":\"k\",\"type\":\"int\",\"value\":\"3\"}",
                "summary::s:total_count "
                "{\"count\":2,\"key\":\"summary\",\"type\":\"str\",\"value\":\"total_count\"}");
    assert_int_equal(stats_of(&s).rebuilds, 0);
    stack_done(&s);
}

static void flushes_wait_for_what_is_not_consumed(void **state)
{
    (void)state;
    struct stack s = {.tail_rows_max = 100};
    stack_open(&s);
    uuid input = stack_collection(&s, "input", "l2");
    attach_to(&s, input, "stats", "statistics", "{}");
    write_one(&s, input, BATCH_ADD, "a", "{\"k\":1}");
    flush(&s, input);
    assert_int_equal(tail_from(&s, input), 0);
    run_all(&s);
    write_one(&s, input, BATCH_ADD, "b", "{\"k\":1}");
    flush(&s, input);
    assert_int_equal(tail_from(&s, input), 1); /* up to where it is */
    run_all(&s);
    flush(&s, input);
    assert_int_equal(tail_from(&s, input), 2);
    /* A counter needs no more than the number of records. */
    uuid other = stack_collection(&s, "other", "l2");
    attach_to(&s, other, "count", "record_counter", "{}");
    write_one(&s, other, BATCH_ADD, "a", "{\"k\":1}");
    flush(&s, other);
    assert_int_equal(tail_from(&s, other), 1);
    stack_done(&s);
}

static void what_was_there_before_is_counted_too(void **state)
{
    (void)state;
    struct stack s = {.tail_rows_max = 100};
    stack_open(&s);
    uuid input = stack_collection(&s, "input", "l2");
    write_one(&s, input, BATCH_ADD, "a", "{\"k\":1}");
    write_one(&s, input, BATCH_ADD, "b", "{\"k\":2}");
    flush(&s, input);
    write_one(&s, input, BATCH_ADD, "c", "{\"k\":2}");
    struct sysdb_function f = attach_to(&s, input, "stats", "statistics", "{}");
    run_all(&s);
    EXPECT_DUMP(&s, f.output, false,
                "k::i:1 {\"count\":1,\"key\":\"k\",\"type\":\"int\",\"value\":\"1\"}",
                "k::i:2 {\"count\":2,\"key\":\"k\",\"type\":\"int\",\"value\":\"2\"}",
                "summary::s:total_count "
                "{\"count\":3,\"key\":\"summary\",\"type\":\"str\",\"value\":\"total_count\"}");
    assert_int_equal(stats_of(&s).rebuilds, 1);
    write_one(&s, input, BATCH_UPSERT, "a", "{\"k\":2}");
    run_all(&s);
    EXPECT_DUMP(&s, f.output, false,
                "k::i:2 {\"count\":3,\"key\":\"k\",\"type\":\"int\",\"value\":\"2\"}",
                "summary::s:total_count "
                "{\"count\":3,\"key\":\"summary\",\"type\":\"str\",\"value\":\"total_count\"}");
    assert_int_equal(stats_of(&s).rebuilds, 1);
    stack_done(&s);
}

static void what_was_flushed_unseen_is_rebuilt(void **state)
{
    (void)state;
    struct stack s = {.tail_rows_max = 100, .hold_rows = 3};
    stack_open(&s);
    uuid input = stack_collection(&s, "input", "l2");
    struct sysdb_function f = attach_to(&s, input, "stats", "statistics", "{}");
    write_one(&s, input, BATCH_ADD, "a", "{\"k\":1,\"old\":1}");
    run_all(&s);
    write_one(&s, input, BATCH_UPDATE, "a", "{\"k\":2,\"old\":null}");
    stack_add_many(&s, input, 0, 3);
    flush(&s, input); /* four wait: more than are held */
    assert_int_equal(tail_from(&s, input), 5);
    /* A record of a client is no statistic. */
    stack_write(
        &s, f.output,
        &(struct stack_row){
            .op = BATCH_ADD, .id = "mine", .no_vector = true, .metadata_json = "{\"key\":1}"},
        1);
    run_all(&s);
    EXPECT_DUMP(&s, f.output, false,
                "k::i:2 {\"count\":1,\"key\":\"k\",\"type\":\"int\",\"value\":\"2\"}",
                "mine {\"key\":1}",
                "summary::s:total_count "
                "{\"count\":4,\"key\":\"summary\",\"type\":\"str\",\"value\":\"total_count\"}");
    assert_int_equal(stats_of(&s).rebuilds, 1);
    stack_done(&s);
}

static void records_that_expire_are_counted_while_they_live(void **state)
{
    (void)state;
    struct stack s = {.tail_rows_max = 100};
    stack_open(&s);
    uuid input = stack_collection(&s, "input", "l2"), other = stack_collection(&s, "other", "l2");
    struct sysdb_function f = attach_to(&s, input, "stats", "statistics", "{}");
    struct sysdb_function g = attach_to(&s, input, "dummy", "dummy_async", "{}");
    struct sysdb_function h = attach_to(&s, other, "count", "record_counter", "{}");
    struct stack_row row = {.op = BATCH_ADD,
                            .id = "a",
                            .value = 1,
                            .metadata_json = "{\"k\":1}",
                            .expires_ms = STACK_NOW_MS + 1000};
    stack_write(&s, input, &row, 1);
    stack_write(&s, other, &row, 1);
    write_one(&s, input, BATCH_ADD, "b", "{\"k\":1}");
    write_one(&s, other, BATCH_ADD, "b", "{\"k\":1}");
    run_all(&s);
    EXPECT_DUMP(&s, f.output, false,
                "k::i:1 {\"count\":2,\"key\":\"k\",\"type\":\"int\",\"value\":\"1\"}",
                "summary::s:total_count "
                "{\"count\":2,\"key\":\"summary\",\"type\":\"str\",\"value\":\"total_count\"}");
    clock_manual_advance(&s.clock, 2000000000u);
    write_one(&s, input, BATCH_ADD, "c", "{\"k\":1}");
    write_one(&s, other, BATCH_ADD, "c", "{\"k\":1}");
    write_one(&s, other, BATCH_ADD, "d", "{\"k\":1}");
    run_all(&s);
    EXPECT_DUMP(&s, f.output, false,
                "k::i:1 {\"count\":2,\"key\":\"k\",\"type\":\"int\",\"value\":\"1\"}",
                "summary::s:total_count "
                "{\"count\":2,\"key\":\"summary\",\"type\":\"str\",\"value\":\"total_count\"}");
    EXPECT_DUMP(&s, h.output, false, "function_output {\"total_count\":3}");
    expect_dump(&s, g.output, false, NULL, 0);
    stack_done(&s);
}

static void chains_follow_one_another(void **state)
{
    (void)state;
    struct stack s = {.tail_rows_max = 100};
    stack_open(&s);
    uuid input = stack_collection(&s, "input", "l2");
    struct sysdb_function f = attach_to(&s, input, "stats", "statistics", "{}");
    struct sysdb_function g = attach_to(&s, f.output, "count", "record_counter", "{}");
    write_one(&s, input, BATCH_ADD, "a", "{\"k\":1,\"l\":1}");
    run_all(&s);
    EXPECT_DUMP(&s, g.output, false, "function_output {\"total_count\":3}");
    stack_done(&s);
}

static void history_keeps_every_version(void **state)
{
    (void)state;
    struct stack s = {.tail_rows_max = 100};
    stack_open(&s);
    uuid input = stack_collection(&s, "input", "l2");
    struct sysdb_function f =
        attach_to(&s, input, "history", "revision_history", "{\"version_key\":\"v\"}");
    struct stack_row row = {
        .op = BATCH_ADD, .id = "p", .value = 1, .document = "one", .metadata_json = "{\"v\":5}"};
    stack_write(&s, input, &row, 1);
    row.op = BATCH_UPDATE;
    row.document = "two";
    row.metadata_json = "{\"v\":6,\"t\":\"x\"}";
    stack_write(&s, input, &row, 1);
    run_all(&s);
    row.metadata_json = "{\"t\":\"y\"}"; /* the same version: no revision */
    stack_write(&s, input, &row, 1);
    stack_delete(&s, input, "p");
    row.op = BATCH_ADD;
    row.document = "new";
    row.metadata_json = "{\"v\":1}";
    stack_write(&s, input, &row, 1);
    run_all(&s);
#define NOW "1700000000"
    EXPECT_DUMP(&s, f.output, true,
                "p::v0 {\"generation_start_pos\":4,\"generation_start_source_ver\":1,\"max_"
                "version\":4,\"original_id\":\"p\"}",
                "p::v1 {\"archived_at\":" NOW ",\"is_delete\":false,\"original_id\":\"p\",\"source_"
                "version\":5,\"v\":5,\"version\":1} one",
                "p::v2 {\"archived_at\":" NOW ",\"is_delete\":false,\"original_id\":\"p\",\"source_"
                "version\":6,\"t\":\"x\",\"v\":6,\"version\":2} two",
                "p::v3 {\"archived_at\":" NOW ",\"is_delete\":true,\"original_id\":\"p\",\"source_"
                "version\":6,\"version\":3}",
                "p::v4 {\"archived_at\":" NOW ",\"is_delete\":false,\"original_id\":\"p\",\"source_"
                "version\":1,\"v\":1,\"version\":4} new");
    assert_int_equal(stats_of(&s).rebuilds, 0);
    stack_done(&s);
}

static void history_without_versions_is_caught_up(void **state)
{
    (void)state;
    struct stack s = {.tail_rows_max = 100, .hold_rows = 1};
    stack_open(&s);
    uuid input = stack_collection(&s, "input", "l2");
    write_one(&s, input, BATCH_ADD, "a", "{\"k\":1}");
    write_one(&s, input, BATCH_ADD, "b", "{\"k\":1}");
    write_one(&s, input, BATCH_ADD, "c", "{\"k\":1}");
    flush(&s, input);
    struct sysdb_function f = attach_to(&s, input, "history", "revision_history", "{}");
    run_all(&s);
    struct dump dump = dump_of(&s, f.output, false);
    assert_int_equal(dump.count, 6);
    dump_done(&dump);
    write_one(&s, input, BATCH_UPDATE, "a", "{\"k\":2}");
    stack_delete(&s, input, "b");
    flush(&s, input); /* unseen */
    run_all(&s);
    EXPECT_DUMP(&s, f.output, false,
                "a::v0 {\"generation_start_pos\":0,\"generation_start_source_ver\":0,\"max_"
                "version\":2,\"original_id\":\"a\"}",
                "a::v1 {\"archived_at\":" NOW
                ",\"is_delete\":false,\"k\":1,\"original_id\":\"a\",\"version\":1}",
                "a::v2 {\"archived_at\":" NOW
                ",\"is_delete\":false,\"k\":2,\"original_id\":\"a\",\"version\":2}",
                "b::v0 {\"generation_start_pos\":0,\"generation_start_source_ver\":0,\"max_"
                "version\":2,\"original_id\":\"b\"}",
                "b::v1 {\"archived_at\":" NOW
                ",\"is_delete\":false,\"k\":1,\"original_id\":\"b\",\"version\":1}",
                "b::v2 {\"archived_at\":" NOW
                ",\"is_delete\":true,\"original_id\":\"b\",\"version\":2}",
                "c::v0 {\"generation_start_pos\":0,\"generation_start_source_ver\":0,\"max_"
                "version\":1,\"original_id\":\"c\"}",
                "c::v1 {\"archived_at\":" NOW
                ",\"is_delete\":false,\"k\":1,\"original_id\":\"c\",\"version\":1}");
    assert_int_equal(stats_of(&s).rebuilds, 2);
    stack_done(&s);
}

static void a_reopened_database_goes_on(void **state)
{
    (void)state;
    struct stack s = {.tail_rows_max = 100};
    stack_open(&s);
    uuid input = stack_collection(&s, "input", "l2");
    struct sysdb_function f = attach_to(&s, input, "stats", "statistics", "{}");
    write_one(&s, input, BATCH_ADD, "a", "{\"k\":1}");
    run_all(&s);
    write_one(&s, input, BATCH_ADD, "b", "{\"k\":1}");
    uuid output = f.output;
    stack_close(&s);
    stack_open(&s);
    assert_int_equal(stats_of(&s).attached, 1);
    assert_int_equal(stats_of(&s).waiting, 1);
    run_all(&s);
    EXPECT_DUMP(&s, output, false,
                "k::i:1 {\"count\":2,\"key\":\"k\",\"type\":\"int\",\"value\":\"1\"}",
                "summary::s:total_count "
                "{\"count\":2,\"key\":\"summary\",\"type\":\"str\",\"value\":\"total_count\"}");
    assert_int_equal(stats_of(&s).rebuilds, 0);
    stack_done(&s);
}

/* Wherever a run is cut off: what is in the log and not noted is found by its id and not written again. */
static void a_step_that_was_not_noted_is_recognised(void **state)
{
    (void)state;
    unsigned unsure = 0;
    for (uint64_t nth = 1; nth <= 12; nth++) {
        struct stack s = {.tail_rows_max = 100};
        stack_open(&s);
        uuid input = stack_collection(&s, "input", "l2");
        struct sysdb_function f = attach_to(&s, input, "stats", "statistics", "{}");
        uuid output = f.output;
        write_one(&s, input, BATCH_ADD, "a", "{\"k\":1}");
        io_sim_fail_at(s.io, IO_SIM_SYNC, (nth + 1) / 2, EIO, false);
        bool failed = functions_run(s.functions, NULL) != OCH_OK;
        io_sim_fail_at(s.io, IO_SIM_SYNC, 0, 0, false);
        struct dump dump = dump_of(&s, output, false);
        if (failed && dump.count > 0) {
            unsure++;
            flush(&s, output); /* not before it is certain */
            assert_int_equal(tail_from(&s, output), 0);
        }
        dump_done(&dump);
        if (nth % 2) {
            stack_close(&s);
            stack_open(&s);
            flush(&s, output);
            assert_int_equal(tail_from(&s, output), 0);
        }
        write_one(&s, input, BATCH_ADD, "b", "{\"k\":1}");
        run_all(&s);
        EXPECT_DUMP(&s, output, false,
                    "k::i:1 {\"count\":2,\"key\":\"k\",\"type\":\"int\",\"value\":\"1\"}",
                    "summary::s:total_count "
                    "{\"count\":2,\"key\":\"summary\",\"type\":\"str\",\"value\":\"total_count\"}");
        flush(&s, output);
        assert_true(tail_from(&s, output) > 0);
        stack_done(&s);
    }
    assert_true(unsure > 0);
}

static void what_is_dropped_or_detached_is_forgotten(void **state)
{
    (void)state;
    struct stack s = {.tail_rows_max = 100};
    stack_open(&s);
    uuid input = stack_collection(&s, "input", "l2");
    struct sysdb_function f = attach_to(&s, input, "stats", "statistics", "{}");
    struct sysdb_function g = attach_to(&s, input, "dummy", "dummy_async", "{}");
    stack_add(&s, input, "a", 1);
    OK(sysdb_function_detach(s.sysdb, input, SLICE("stats"), err));
    functions_detached(s.functions, f.id, input);
    assert_int_equal(stats_of(&s).attached, 1);
    run_all(&s);
    expect_dump(&s, f.output, false, NULL, 0);
    /* Dropped behind its back: the next run finds out. */
    OK(sysdb_collection_drop(s.sysdb, g.output, err));
    wal_forget(s.wal, g.output);
    views_forget(s.views, g.output);
    stack_add(&s, input, "b", 1);
    run_all(&s);
    assert_int_equal(stats_of(&s).attached, 0);
    struct sysdb_function h = attach_to(&s, input, "again", "statistics", "{}");
    functions_forget(s.functions, h.output);
    assert_int_equal(stats_of(&s).attached, 0);
    stack_done(&s);
}

static void threads_run_them_soon(void **state)
{
    (void)state;
    struct stack s = {.tail_rows_max = 100};
    stack_open(&s);
    OK(compactor_start(s.compactor, err));
    OK(functions_start(s.functions, err));
    uuid input = stack_collection(&s, "input", "l2");
    struct sysdb_function f = attach_to(&s, input, "stats", "statistics", "{}");
    struct sysdb_function g = attach_to(&s, input, "dummy", "dummy_async", "{}");
    uuid output = f.output;
    (void)g;
    for (int i = 0; i < 50; i++) {
        char id[16];
        (void)snprintf(id, sizeof(id), "id%d", i);
        write_one(&s, input, BATCH_ADD, id, "{\"k\":1}");
    }
    sched_sleep_ns(20000000u);
    assert_int_equal(stats_of(&s).consumed, 0); /* fewer than a hundred */
    for (int i = 50; i < 250; i++) {
        char id[16];
        (void)snprintf(id, sizeof(id), "id%d", i);
        write_one(&s, input, BATCH_ADD, id, "{\"k\":1}");
    }
    for (int i = 0; i < 500 && stats_of(&s).consumed < 300; i++)
        sched_sleep_ns(10000000u);
    assert_true(stats_of(&s).consumed >= 300); /* of both together */
    functions_stop(s.functions);
    compactor_stop(s.compactor);
    stack_close(&s);
    stack_open(&s);
    run_all(&s);
    EXPECT_DUMP(&s, output, false,
                "k::i:1 {\"count\":250,\"key\":\"k\",\"type\":\"int\",\"value\":\"1\"}",
                "summary::s:total_count "
                "{\"count\":250,\"key\":\"summary\",\"type\":\"str\",\"value\":\"total_count\"}");
    stack_done(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(records_are_counted),
        cmocka_unit_test(values_are_counted_by_key_type_and_value),
        cmocka_unit_test(steps_compare_with_what_parts_hold),
        cmocka_unit_test(flushes_wait_for_what_is_not_consumed),
        cmocka_unit_test(what_was_there_before_is_counted_too),
        cmocka_unit_test(what_was_flushed_unseen_is_rebuilt),
        cmocka_unit_test(records_that_expire_are_counted_while_they_live),
        cmocka_unit_test(chains_follow_one_another),
        cmocka_unit_test(history_keeps_every_version),
        cmocka_unit_test(history_without_versions_is_caught_up),
        cmocka_unit_test(a_reopened_database_goes_on),
        cmocka_unit_test(a_step_that_was_not_noted_is_recognised),
        cmocka_unit_test(what_is_dropped_or_detached_is_forgotten),
        cmocka_unit_test(threads_run_them_soon),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
