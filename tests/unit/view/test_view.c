/* SPDX-License-Identifier: Apache-2.0 */
/* Views over parts and tail: what a reader holds never changes, what is acknowledged is seen (DESIGN §3: 2, 3, 4; D12, D20). */
#include "support/stack.h"

#define L2 "l2"

static struct view *acquire(struct stack *s, uuid id)
{
    struct view *view = NULL;
    OK(view_acquire(s->views, id, READ_INDEX_AND_WAL, &view, err));
    return view;
}

static void expect_view(struct stack *s, struct view *view, const char *expected)
{
    struct arena arena;
    arena_init(&arena, NULL, 0);
    assert_string_equal(stack_show(s, view, &arena), expected);
    arena_done(&arena);
}

static bool finds(struct view *view, const char *id)
{
    struct view_place place;
    bool found;
    OK(view_find(view, slice_of(id), &place, &found, err));
    return found;
}

static void a_held_view_never_changes(void **state)
{
    (void)state;
    struct stack s = {0};
    stack_open(&s);
    uuid id = stack_collection(&s, "held", L2);
    stack_add(&s, id, "a", 1);
    stack_add(&s, id, "b", 2);
    struct view *first = acquire(&s, id);
    stack_write(&s, id, &(struct stack_row){.op = BATCH_UPDATE, .id = "a", .value = 10}, 1);
    stack_delete(&s, id, "b");
    struct view *second = acquire(&s, id);
    stack_flush(&s, id);
    stack_add(&s, id, "c", 3);
    stack_delete(&s, id, "a");
    struct view *third = acquire(&s, id);
    stack_flush(&s, id);
    stack_write(&s, id, &(struct stack_row){.op = BATCH_UPSERT, .id = "c", .value = 30}, 1);
    expect_view(&s, first, "a:1,b:2");
    expect_view(&s, second, "a:10");
    expect_view(&s, third, "c:3");
    stack_expect(&s, id, "c:30");
    assert_int_equal(view_info(first)->live_rows, 2);
    assert_int_equal(view_info(second)->live_rows, 1);
    assert_int_equal(view_info(third)->live_rows, 1);
    assert_true(finds(first, "b") && !finds(second, "b") && !finds(third, "a"));
    view_release(first);
    view_release(second);
    view_release(third);
    stack_done(&s);
}

static void masks_over_parts_count_by_offset(void **state)
{
    (void)state;
    struct stack s = {0};
    stack_open(&s);
    uuid id = stack_collection(&s, "masks", L2);
    stack_add_many(&s, id, 0, 4);
    stack_flush(&s, id);
    uint64_t at[4];
    struct view *views[5];
    for (int i = 0; i < 4; i++) {
        char name[16];
        views[i] = acquire(&s, id);
        (void)snprintf(name, sizeof(name), "id%d", i);
        at[i] = stack_delete(&s, id, name);
    }
    views[4] = acquire(&s, id);
    for (size_t i = 0; i < 5; i++) {
        const struct bitset *dead = NULL;
        OK(view_dead(views[i], 0, &dead, err));
        assert_int_equal(dead ? bitset_count(dead) : 0, i);
        for (size_t j = 0; j <= i; j++) {
            struct bitset upto = {0};
            OK(view_dead_upto(views[i], 0, j < 4 ? at[j] : UINT64_MAX, &upto, err));
            assert_int_equal(bitset_count(&upto), j);
            bitset_done(&upto);
        }
    }
    for (size_t i = 0; i < 5; i++)
        view_release(views[i]);
    stack_done(&s);
}

static void a_reader_of_the_index_alone_sees_no_tail(void **state)
{
    (void)state;
    struct stack s = {0};
    stack_open(&s);
    uuid id = stack_collection(&s, "index", L2);
    stack_add_many(&s, id, 0, 3);
    stack_flush(&s, id);
    stack_delete(&s, id, "id1");
    stack_add(&s, id, "new", 9);
    struct view *view = NULL;
    OK(view_acquire(s.views, id, READ_INDEX_ONLY, &view, err));
    expect_view(&s, view, "id0:0,id1:1,id2:2");
    assert_int_equal(view_info(view)->live_rows, 3);
    assert_true(finds(view, "id1") && !finds(view, "new"));
    view_release(view);
    stack_done(&s);
}

static void counts_kills_pairs_and_touches_are_told(void **state)
{
    (void)state;
    struct stack s = {0};
    stack_open(&s);
    uuid id = stack_collection(&s, "facts", L2);
    stack_add_many(&s, id, 0, 3);
    stack_flush(&s, id);
    struct stack_row rows[] = {
        {.op = BATCH_ADD, .id = "id0", .value = 7},       /* skipped: it is there */
        {.op = BATCH_UPSERT, .id = "id1", .value = 8},    /* updated */
        {.op = BATCH_UPDATE, .id = "nobody", .value = 9}, /* skipped */
        {.op = BATCH_DELETE, .id = "id2"},                /* deleted */
        {.op = BATCH_ADD, .id = "id9", .value = 9, .metadata_json = "{\"k\":1,\"t\":\"x\"}"},
        {.op = BATCH_ADD, .id = "id8", .value = 9, .metadata_json = "{\"k\":2}"},
        {.op = BATCH_DELETE, .id = "id9"}, /* was never in a part: no kill */
    };
    uint64_t first = stack_write(&s, id, rows, COUNT_OF(rows));
    uint64_t later = stack_delete(&s, id, "id8");
    struct view *view = acquire(&s, id);
    struct view_counts counts;
    OK(view_batch_counts(view, first, COUNT_OF(rows), &counts, err));
    assert_int_equal(counts.inserted, 2);
    assert_int_equal(counts.updated, 1);
    assert_int_equal(counts.skipped, 2);
    assert_int_equal(counts.deleted, 2);
    FAILS(OCH_STALE, "", view_batch_counts(view, first + 1, 1, &counts, err));
    struct arena arena;
    arena_init(&arena, NULL, 0);
    slice *kills;
    size_t kill_count, pair_count;
    OK(view_kills(view, &arena, &kills, &kill_count, err));
    assert_int_equal(kill_count, 1);
    assert_true(slice_equal(kills[0], SLICE("id2")));
    struct batch_pair *pairs;
    OK(view_pairs(view, &arena, &pairs, &pair_count, err));
    assert_int_equal(pair_count, 2);
    assert_true(view_touched(view, SLICE("id1"), first));
    assert_false(view_touched(view, SLICE("id0"), first)); /* the add did nothing */
    assert_false(view_touched(view, SLICE("id1"), later));
    assert_true(view_touched(view, SLICE("id8"), later));
    assert_true(view_touched(view, SLICE("id0"), 0)); /* before the tail: nobody knows */
    arena_done(&arena);
    view_release(view);
    stack_done(&s);
}

static void expired_records_are_absent_for_operations_and_counted_once(void **state)
{
    (void)state;
    struct stack s = {0};
    stack_open(&s);
    uuid id = stack_collection(&s, "expiry", L2);
    int64_t soon = STACK_NOW_MS + 1000;
    struct stack_row rows[] = {
        {.op = BATCH_ADD, .id = "a", .value = 1, .expires_ms = soon},
        {.op = BATCH_ADD, .id = "b", .value = 2, .expires_ms = soon},
        {.op = BATCH_ADD, .id = "c", .value = 3},
    };
    stack_write(&s, id, rows, 3);
    stack_flush(&s, id);
    stack_write(&s, id,
                &(struct stack_row){.op = BATCH_ADD, .id = "d", .value = 4, .expires_ms = soon}, 1);
    stack_expect(&s, id, "a:1,b:2,c:3,d:4");
    clock_manual_advance(&s.clock, 2000 * 1000000ull);
    struct view *view = acquire(&s, id);
    const struct tail_slot *slot = view_slot(view, 0);
    assert_false(view_slot_live(view, slot));
    assert_true(
        view_slot_stands(view, slot)); /* an operation before its time may still be coming */
    assert_false(finds(view, "a") || finds(view, "d"));
    assert_true(finds(view, "c"));
    view_release(view);
    /* Each is there to be added again; the dead one is not counted beside the new one. */
    stack_add(&s, id, "a", 10);
    stack_add(&s, id, "d", 40);
    stack_write(&s, id, &(struct stack_row){.op = BATCH_UPDATE, .id = "b", .value = 20}, 1);
    view = acquire(&s, id);
    assert_int_equal(view_info(view)->live_rows, 4); /* a, b (expired), c, d */
    assert_false(view_slot_stands(view, view_slot(view, 0)));
    view_release(view);
    stack_flush(&s, id);
    view = acquire(&s, id);
    assert_int_equal(view_info(view)->live_rows, 4);
    assert_false(finds(view, "b"));
    assert_true(finds(view, "a") && finds(view, "d"));
    view_release(view);
    stack_done(&s);
}

static void what_expired_in_the_tail_kills_its_older_row(void **state)
{
    (void)state;
    struct stack s = {0};
    stack_open(&s);
    uuid id = stack_collection(&s, "kill", L2);
    stack_add(&s, id, "a", 1);
    stack_flush(&s, id);
    stack_write(&s, id,
                &(struct stack_row){
                    .op = BATCH_UPDATE, .id = "a", .value = 2, .expires_ms = STACK_NOW_MS + 5},
                1);
    clock_manual_advance(&s.clock, 10 * 1000000ull);
    stack_add(&s, id, "b", 1); /* a batch after its time: now it is gone for all */
    struct view *view = acquire(&s, id);
    struct arena arena;
    arena_init(&arena, NULL, 0);
    slice *kills;
    size_t count;
    OK(view_kills(view, &arena, &kills, &count, err));
    assert_int_equal(count, 1);
    assert_true(slice_equal(kills[0], SLICE("a")));
    arena_done(&arena);
    view_release(view);
    stack_done(&s);
}

static void updates_read_through_to_the_part(void **state)
{
    (void)state;
    struct stack s = {0};
    stack_open(&s);
    uuid id = stack_collection(&s, "through", L2);
    stack_write(&s, id,
                &(struct stack_row){.op = BATCH_ADD,
                                    .id = "a",
                                    .value = 1,
                                    .document = "text",
                                    .metadata_json = "{\"k\":1,\"l\":2}"},
                1);
    stack_flush(&s, id);
    stack_write(&s, id,
                &(struct stack_row){.op = BATCH_UPDATE,
                                    .id = "a",
                                    .no_vector = true,
                                    .metadata_json = "{\"k\":null,\"m\":3}"},
                1);
    for (int round = 0; round < 3; round++) {
        struct view *view = acquire(&s, id);
        struct view_place place;
        bool found;
        OK(view_find(view, SLICE("a"), &place, &found, err));
        assert_true(found);
        struct arena arena;
        struct part_reads reads;
        struct record record;
        struct buf json;
        arena_init(&arena, NULL, 0);
        buf_init(&json, BUF_MAX_NONE);
        part_reads_init(&reads, s.cache, &arena);
        OK(view_read(view, place, &reads, RECORD_ALL, &record, err));
        assert_true(record.vector[0] == 1.0f);
        meta_to_json(record.metadata, &json);
        assert_true(slice_equal(buf_view(&json), SLICE("{\"l\":2,\"m\":3}")));
        assert_int_equal(record.document.at != NULL, round < 2);
        part_reads_done(&reads);
        buf_done(&json);
        arena_done(&arena);
        view_release(view);
        if (round == 0)
            stack_flush(&s, id);
        else
            stack_write(
                &s, id,
                &(struct stack_row){
                    .op = BATCH_UPDATE, .id = "a", .no_vector = true, .clear_document = true},
                1);
    }
    stack_done(&s);
}

static void idle_collections_are_let_go_and_come_back(void **state)
{
    (void)state;
    struct stack s = {.idle_max = 2};
    stack_open(&s);
    uuid ids[6];
    char name[16];
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < 6; i++) {
            (void)snprintf(name, sizeof(name), "c%d-name", i);
            if (round == 0)
                ids[i] = stack_collection(&s, name, L2);
            (void)snprintf(name, sizeof(name), "r%d", round);
            stack_add(&s, ids[i], name, (float)i);
            if (round == 1 && i % 2)
                stack_flush(&s, ids[i]);
        }
        struct views_stats stats;
        views_stats(s.views, &stats);
        assert_true(stats.collections_loaded <= 2);
    }
    for (int i = 0; i < 6; i++) {
        (void)snprintf(name, sizeof(name), "r0:%d,r1:%d,r2:%d", i, i, i);
        char expected[64];
        (void)snprintf(expected, sizeof(expected), "r0:%d,r1:%d,r2:%d", i, i, i);
        stack_expect(&s, ids[i], expected);
    }
    /* A held one stays, whatever comes and goes. */
    struct view *held = acquire(&s, ids[0]);
    for (int i = 1; i < 6; i++)
        view_release(acquire(&s, ids[i]));
    expect_view(&s, held, "r0:0,r1:0,r2:0");
    view_release(held);
    stack_done(&s);
}

static void a_dropped_collection_is_forgotten_once_released(void **state)
{
    (void)state;
    struct stack s = {0};
    stack_open(&s);
    uuid id = stack_collection(&s, "gone", L2);
    stack_add_many(&s, id, 0, 3);
    stack_flush(&s, id);
    stack_add(&s, id, "late", 5);
    struct view *held = acquire(&s, id);
    OK(wal_seal(s.wal, id, err));
    OK(sysdb_collection_drop(s.sysdb, id, err));
    wal_forget(s.wal, id);
    views_forget(s.views, id);
    views_forget(s.views, id);
    struct view *view = NULL;
    FAILS(OCH_NOT_FOUND, "", view_acquire(s.views, id, READ_INDEX_AND_WAL, &view, err));
    expect_view(&s, held, "id0:0,id1:1,id2:2,late:5");
    struct views_stats stats;
    views_stats(s.views, &stats);
    assert_int_equal(stats.tail_rows, 1);
    view_release(held);
    views_stats(s.views, &stats);
    assert_int_equal(stats.tail_rows, 0);
    assert_int_equal(stats.tail_bytes, 0);
    stack_done(&s);
}

static void files_are_in_use_while_a_view_reads_them(void **state)
{
    (void)state;
    struct stack s = {0};
    stack_open(&s);
    uuid id = stack_collection(&s, "files", L2);
    stack_add(&s, id, "a", 1);
    stack_flush(&s, id);
    struct arena arena;
    arena_init(&arena, NULL, 0);
    struct sysdb_version version;
    OK(sysdb_version_get(s.sysdb, id, &arena, &version, err));
    struct sysdb_part part = version.parts[0];
    struct view *view = acquire(&s, id);
    assert_true(views_uses_file(s.views, part.file));
    assert_true(views_uses_part(s.views, part.file, part.offset));
    assert_false(views_uses_part(s.views, part.file, part.offset + 64));
    assert_false(views_uses_file(s.views, (uuid){{9}}));
    views_forget(s.views, id);
    assert_true(views_uses_file(s.views, part.file));
    view_release(view);
    assert_false(views_uses_file(s.views, part.file));
    arena_done(&arena);
    stack_done(&s);
}

static void a_version_that_was_not_installed_is_seen_after_the_next_load(void **state)
{
    (void)state;
    struct stack s = {.idle_max = 1};
    stack_open(&s);
    uuid id = stack_collection(&s, "uninstalled", L2), other = stack_collection(&s, "other", L2);
    stack_add_many(&s, id, 0, 3);
    struct view *before = acquire(&s, id);
    stack_commit(&s, id); /* and then nobody tells the views */
    stack_delete(&s, id, "id1");
    stack_expect(&s, id, "id0:0,id2:2");
    expect_view(&s, before, "id0:0,id1:1,id2:2");
    view_release(before);
    view_release(acquire(&s, other)); /* the first is let go */
    stack_expect(&s, id, "id0:0,id2:2");
    struct view *after = acquire(&s, id);
    assert_int_equal(view_info(after)->from, 3);
    assert_int_equal(view_part_count(after), 1);
    view_release(after);
    stack_done(&s);
}

/* While a version is loaded the next one is committed and the old one's file goes: no damage, the load begins anew. */
static struct stack *replaced;
static uuid replaced_id;
static const struct store_ops *real_ops;

static och_code replacing_read(struct store *store, object_id id, uint64_t offset, void *at,
                               size_t len, och_error *why)
{
    struct stack *s = replaced;
    replaced = NULL;
    if (s) {
        struct arena arena;
        arena_init(&arena, NULL, 0);
        struct sysdb_version current;
        OK(sysdb_version_get(s->sysdb, replaced_id, &arena, &current, err));
        struct sysdb_commit item = {
            .collection = replaced_id, .expected_version = current.version, .next = current};
        item.next.part_count = 0;
        OK(sysdb_commit_versions(s->sysdb, &item, 1, err));
        OK(real_ops->remove(store, id, err));
        arena_done(&arena);
    }
    return real_ops->read(store, id, offset, at, len, why);
}

static void a_version_replaced_while_it_is_loaded_is_no_damage(void **state)
{
    (void)state;
    struct stack s = {.idle_max = 1};
    stack_open(&s);
    uuid id = stack_collection(&s, "replaced", L2), other = stack_collection(&s, "other", L2);
    stack_add_many(&s, id, 0, 3);
    stack_flush(&s, id);
    view_release(acquire(&s, other)); /* the first is let go */
    struct store_ops ops = *s.store->ops;
    real_ops = s.store->ops;
    ops.read = replacing_read;
    s.store->ops = &ops;
    replaced = &s;
    replaced_id = id;
    stack_expect(&s, id, "");
    s.store->ops = real_ops;
    /* A file that is really missing is told. */
    stack_add_many(&s, id, 10, 3);
    stack_flush(&s, id);
    struct arena arena;
    arena_init(&arena, NULL, 0);
    struct sysdb_version version;
    OK(sysdb_version_get(s.sysdb, id, &arena, &version, err));
    object_id object;
    memcpy(object.bytes, version.parts[0].file.bytes, 16);
    view_release(acquire(&s, other));
    OK(store_remove(s.store, object, err));
    struct view *view = NULL;
    och_error err = {0};
    och_code code = view_acquire(s.views, id, READ_INDEX_AND_WAL, &view, &err);
    assert_true(code != OCH_OK && code != OCH_STALE && err.message[0]);
    arena_done(&arena);
    stack_done(&s);
}

/* ---- failing allocations ---- */

static void each_allocation_of_a_read_or_an_install_may_fail(void **state)
{
    (void)state;
    struct stack s = {.idle_max = 1};
    stack_open(&s);
    uuid id = stack_collection(&s, "failing", L2), other = stack_collection(&s, "other", L2);
    stack_add_many(&s, id, 0, 20);
    stack_flush(&s, id);
    stack_write(&s, id,
                &(struct stack_row){
                    .op = BATCH_UPDATE, .id = "id3", .value = 33, .metadata_json = "{\"a\":1}"},
                1);
    stack_delete(&s, id, "id4");
    bool passed = false;
    for (uint64_t n = 1; !passed && n < 2000; n++) { /* loading */
        view_release(acquire(&s, other));
        struct view *view = NULL;
        mem_fail_at(n);
        passed = view_acquire(s.views, id, READ_INDEX_AND_WAL, &view, NULL) == OCH_OK;
        const struct bitset *dead;
        passed = passed && view_dead(view, 0, &dead, NULL) == OCH_OK;
        mem_fail_at(0);
        view_release(view);
    }
    assert_true(passed);
    passed = false;
    for (uint64_t n = 1; !passed && n < 2000; n++) { /* installing the same version again */
        view_release(acquire(&s, id));
        mem_fail_at(n);
        passed = views_install(s.views, id, NULL) == OCH_OK;
        mem_fail_at(0);
        struct view *view = acquire(&s, id);
        assert_int_equal(view_info(view)->live_rows, 19);
        assert_true(finds(view, "id3") && !finds(view, "id4"));
        view_release(view);
    }
    assert_true(passed);
    stack_done(&s);
}

static void a_delivery_that_was_lost_is_read_from_the_log(void **state)
{
    (void)state;
    struct stack s = {0};
    stack_open(&s);
    uuid id = stack_collection(&s, "lost", L2);
    view_release(acquire(&s, id));
    uint64_t acknowledged = 0;
    for (uint64_t n = 1; n < 60; n++) {
        char name[16];
        (void)snprintf(name, sizeof(name), "n%d", (int)n);
        struct stack_row row = {.op = BATCH_ADD, .id = name, .value = (float)n};
        struct wal_appended appended;
        mem_fail_at(n % 30);
        och_code code = stack_try_write(&s, id, &row, 1, &appended, NULL);
        mem_fail_at(0);
        acknowledged += code == OCH_OK;
        struct view *view = acquire(&s, id);
        assert_int_equal(view_info(view)->live_rows, acknowledged);
        assert_int_equal(finds(view, name), code == OCH_OK);
        view_release(view);
    }
    stack_done(&s);
}

/* ---- threads ---- */

struct crowd {
    struct stack *s;
    uuid id;
    int number;
    uint32_t rounds;
    _Atomic bool *stop;
    struct thread thread;
};

#define WRITE_ROWS 400 /* so many that resolving them takes a while */

/* Whatever another reader is in the middle of, an acknowledged write is seen (invariant 3). */
static void run_writer(void *arg)
{
    struct crowd *me = arg;
    for (uint32_t i = 0; i < me->rounds; i++) {
        char name[32];
        int first = me->number * 1000000 + (int)i * WRITE_ROWS;
        (void)snprintf(name, sizeof(name), "id%d", first + WRITE_ROWS - 1);
        uint64_t offset = stack_add_many(me->s, me->id, first, WRITE_ROWS);
        struct view *view = acquire(me->s, me->id);
        if (view_info(view)->to < offset + WRITE_ROWS)
            fail_msg("offset %d was acknowledged, a view after it ends at %d", (int)offset,
                     (int)view_info(view)->to);
        if (view_info(view)->live_rows != view_info(view)->to)
            fail_msg("%d rows at offset %d", (int)view_info(view)->live_rows,
                     (int)view_info(view)->to);
        assert_true(finds(view, name));
        view_release(view);
    }
}

static void run_reader(void *arg)
{
    struct crowd *me = arg;
    uint64_t last = 0;
    while (!atomic_load(me->stop)) {
        struct view *view = acquire(me->s, me->id);
        assert_true(view_info(view)->to >= last);
        last = view_info(view)->to;
        uint64_t live = 0;
        for (uint32_t i = 0; i < view_slot_count(view); i++)
            live += view_slot_live(view, view_slot(view, i));
        for (size_t i = 0; i < view_part_count(view); i++) {
            const struct bitset *dead;
            OK(view_dead(view, i, &dead, err));
            live += part_rows(view_part(view, i)) - (dead ? bitset_count(dead) : 0);
        }
        assert_int_equal(live, view_info(view)->live_rows);
        if (view_slot_count(view)) {
            const struct tail_slot *slot = view_slot(view, view_slot_count(view) - 1);
            struct view_place place;
            bool found;
            OK(view_find(view, slot->record.id, &place, &found, err));
            assert_true(found && place.row == view_slot_count(view) - 1);
        }
        view_release(view);
    }
}

static void acknowledged_writes_are_seen_while_readers_resolve_and_versions_change(void **state)
{
    (void)state;
    struct stack s = {0};
    stack_open(&s);
    uuid id = stack_collection(&s, "crowd", L2);
    _Atomic bool stop = false;
    struct crowd people[5];
    for (int i = 0; i < 5; i++) {
        people[i] = (struct crowd){.s = &s, .id = id, .number = i, .rounds = 40, .stop = &stop};
        OK(thread_start(&people[i].thread, "crowd", 0, i < 3 ? run_writer : run_reader, &people[i],
                        err));
    }
    for (int i = 0; i < 12; i++) {
        sched_sleep_ns(5 * 1000000ull);
        struct view *view = acquire(&s, id);
        bool any = view_info(view)->to > view_info(view)->from;
        view_release(view);
        if (any)
            stack_flush(&s, id);
    }
    for (int i = 0; i < 3; i++)
        thread_join(&people[i].thread);
    atomic_store(&stop, true);
    for (int i = 3; i < 5; i++)
        thread_join(&people[i].thread);
    struct view *view = acquire(&s, id);
    assert_int_equal(view_info(view)->live_rows, 3 * 40 * WRITE_ROWS);
    view_release(view);
    stack_done(&s);
}

/* The id table grows under readers that walk the smaller one. */
static void run_finder(void *arg)
{
    struct crowd *me = arg;
    while (!atomic_load(me->stop)) {
        struct view *view = acquire(me->s, me->id);
        uint32_t count = view_slot_count(view);
        for (uint32_t i = 0; i < count; i += 1 + count / 64) {
            struct view_place place;
            bool found;
            OK(view_find(view, view_slot(view, i)->record.id, &place, &found, err));
            assert_true(found && place.row == i);
        }
        assert_false(finds(view, "nobody"));
        view_release(view);
    }
}

static void ids_are_found_while_the_table_grows(void **state)
{
    (void)state;
    struct stack s = {0};
    stack_open(&s);
    uuid id = stack_collection(&s, "growth", L2);
    _Atomic bool stop = false;
    struct crowd people[3];
    for (int i = 0; i < 3; i++) {
        people[i] = (struct crowd){.s = &s, .id = id, .stop = &stop};
        OK(thread_start(&people[i].thread, "finder", 0, run_finder, &people[i], err));
    }
    for (int i = 0; i < 60; i++)
        stack_add_many(&s, id, i * 100, 100);
    atomic_store(&stop, true);
    for (int i = 0; i < 3; i++)
        thread_join(&people[i].thread);
    struct view *view = acquire(&s, id);
    assert_int_equal(view_info(view)->live_rows, 6000);
    view_release(view);
    stack_done(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_held_view_never_changes),
        cmocka_unit_test(masks_over_parts_count_by_offset),
        cmocka_unit_test(a_reader_of_the_index_alone_sees_no_tail),
        cmocka_unit_test(counts_kills_pairs_and_touches_are_told),
        cmocka_unit_test(expired_records_are_absent_for_operations_and_counted_once),
        cmocka_unit_test(what_expired_in_the_tail_kills_its_older_row),
        cmocka_unit_test(updates_read_through_to_the_part),
        cmocka_unit_test(idle_collections_are_let_go_and_come_back),
        cmocka_unit_test(a_dropped_collection_is_forgotten_once_released),
        cmocka_unit_test(files_are_in_use_while_a_view_reads_them),
        cmocka_unit_test(a_version_that_was_not_installed_is_seen_after_the_next_load),
        cmocka_unit_test(a_version_replaced_while_it_is_loaded_is_no_damage),
        cmocka_unit_test(each_allocation_of_a_read_or_an_install_may_fail),
        cmocka_unit_test(a_delivery_that_was_lost_is_read_from_the_log),
        cmocka_unit_test(acknowledged_writes_are_seen_while_readers_resolve_and_versions_change),
        cmocka_unit_test(ids_are_found_while_the_table_grows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
