/* SPDX-License-Identifier: Apache-2.0 */
/* The Compactor over a disk in memory: flushes, merges, packs, garbage, and what may come between (D10, D15, D17, D18, D19, D31). */
#define STACK_COMPACT
#include "support/stack.h"

#include "compact/compact_internal.h"
#include "part/part_internal.h"

static void flush(struct stack *s, uuid id)
{
    OK(compact_flush(s->compactor, &id, 1, false, err));
}

static struct sysdb_version version_of(struct stack *s, uuid id, struct arena *arena)
{
    struct sysdb_version version;
    OK(sysdb_version_get(s->sysdb, id, arena, &version, err));
    return version;
}

static size_t part_count(struct stack *s, uuid id)
{
    struct arena arena;
    arena_init(&arena, NULL, 0);
    size_t count = version_of(s, id, &arena).part_count;
    arena_done(&arena);
    return count;
}

static size_t object_count(struct stack *s)
{
    struct arena arena;
    arena_init(&arena, NULL, 0);
    object_id *ids;
    size_t count;
    OK(store_list(s->store, &arena, &ids, &count, err));
    arena_done(&arena);
    return count;
}

static void collect(struct stack *s)
{
    bool more;
    OK(compact_garbage(s->compactor, false, &more, err));
}

static uint64_t log_rows(struct stack *s)
{
    size_t cursor = 0;
    uuid id;
    uint64_t all = 0, rows, bytes;
    int64_t oldest;
    while (wal_next_collection(s->wal, &cursor, &id, &rows, &bytes, &oldest))
        all += rows;
    return all;
}

static void what_is_flushed_and_merged_is_what_was_written(void **state)
{
    (void)state;
    struct stack s = {.tail_rows_max = 100};
    stack_open(&s);
    uuid id = stack_collection(&s, "sequence", "l2");
    stack_add_many(&s, id, 0, 3);
    flush(&s, id);
    stack_write(&s, id, &(struct stack_row){.op = BATCH_UPDATE, .id = "id0", .value = 50}, 1);
    stack_delete(&s, id, "id1");
    flush(&s, id);
    stack_add(&s, id, "id1", 11);
    flush(&s, id);
    stack_expect(&s, id, "id2:2,id0:50,id1:11");
    assert_int_equal(part_count(&s, id), 3);
    OK(compactor_run(s.compactor, &id, true, err));
    assert_int_equal(part_count(&s, id), 1);
    stack_expect(&s, id, "id0:50,id2:2,id1:11"); /* by seq: updates keep their place */
    assert_int_equal(object_count(&s), 1);
    assert_int_equal(log_rows(&s), 0);
    /* All gone: no part, no object, nothing in the log. */
    stack_delete(&s, id, "id0");
    stack_delete(&s, id, "id1");
    stack_delete(&s, id, "id2");
    OK(compactor_run(s.compactor, &id, true, err));
    stack_expect(&s, id, "");
    assert_int_equal(part_count(&s, id), 0);
    assert_int_equal(object_count(&s), 0);
    stack_close(&s);
    stack_open(&s);
    stack_expect(&s, id, "");
    stack_done(&s);
}

static void a_tail_that_came_to_nothing_moves_the_offset_alone(void **state)
{
    (void)state;
    struct stack s = {.tail_rows_max = 100};
    stack_open(&s);
    uuid id = stack_collection(&s, "nothing", "l2");
    stack_add(&s, id, "a", 1);
    stack_delete(&s, id, "a");
    flush(&s, id);
    assert_int_equal(part_count(&s, id), 0);
    assert_int_equal(object_count(&s), 0);
    assert_int_equal(log_rows(&s), 0);
    stack_done(&s);
}

static void many_collections_share_an_object_and_leave_holes(void **state)
{
    (void)state;
    struct stack s = {.tail_rows_max = 100};
    stack_open(&s);
    uuid ids[8];
    for (int i = 0; i < 8; i++) {
        char name[16];
        (void)snprintf(name, sizeof(name), "pack-%d", i);
        ids[i] = stack_collection(&s, name, "l2");
        stack_add_many(&s, ids[i], i * 100, 5);
    }
    OK(compact_flush(s.compactor, ids, 8, false, err));
    assert_int_equal(object_count(&s), 1);
    assert_int_equal(log_rows(&s), 0);
    struct arena arena;
    arena_init(&arena, NULL, 0);
    struct sysdb_part second = version_of(&s, ids[1], &arena).parts[0];
    for (int i = 0; i < 8; i++)
        assert_true(uuid_equal(version_of(&s, ids[i], &arena).parts[0].file, second.file));
    /* One goes while a view reads it: the hole waits. */
    struct view *held = NULL;
    OK(view_acquire(s.views, ids[1], READ_INDEX_AND_WAL, &held, err));
    OK(wal_seal(s.wal, ids[1], err));
    OK(sysdb_collection_drop(s.sysdb, ids[1], err));
    wal_forget(s.wal, ids[1]);
    views_forget(s.views, ids[1]);
    bool more;
    OK(compact_garbage(s.compactor, false, &more, err));
    assert_true(more);
    assert_string_equal(stack_show(&s, held, &arena),
                        "id100:100,id101:101,id102:102,id103:103,id104:104");
    view_release(held);
    OK(compact_garbage(s.compactor, false, &more, err));
    assert_false(more);
    struct sysdb_garbage *rows;
    size_t count;
    OK(sysdb_garbage_list(s.sysdb, false, &arena, &rows, &count, err));
    assert_int_equal(count, 0);
    /* A whole page inside the range reads as zeros; its neighbours are untouched. */
    object_id object;
    uint8_t byte[16], none[16] = {0};
    memcpy(object.bytes, second.file.bytes, 16);
    OK(store_read(s.store, object, (second.offset + 4096) & ~4095ull, byte, 16, err));
    if (second.size > 8192)
        assert_memory_equal(byte, none, 16);
    stack_expect(&s, ids[0], "id0:0,id1:1,id2:2,id3:3,id4:4");
    stack_expect(&s, ids[2], "id200:200,id201:201,id202:202,id203:203,id204:204");
    /* The last one takes the object with it. */
    for (int i = 0; i < 8; i++) {
        if (i == 1)
            continue;
        OK(wal_seal(s.wal, ids[i], err));
        OK(sysdb_collection_drop(s.sysdb, ids[i], err));
        wal_forget(s.wal, ids[i]);
        views_forget(s.views, ids[i]);
    }
    collect(&s);
    assert_int_equal(object_count(&s), 0);
    arena_done(&arena);
    stack_done(&s);
}

/* D19: records only; nobody sees a difference, and a merge makes a whole part of it again. */
static void a_plain_part_answers_like_any_other(void **state)
{
    (void)state;
    struct stack s = {.tail_rows_max = 100};
    stack_open(&s);
    uuid id = stack_collection(&s, "plain", "cosine");
    stack_add_many(&s, id, 0, 5);
    OK(compact_flush(s.compactor, &id, 1, true, err));
    stack_expect(&s, id, "id0:0,id1:1,id2:2,id3:3,id4:4");
    stack_delete(&s, id, "id3");
    stack_write(&s, id, &(struct stack_row){.op = BATCH_UPDATE, .id = "id1", .value = 11}, 1);
    stack_expect(&s, id, "id0:0,id2:2,id4:4,id1:11");
    OK(compact_flush(s.compactor, &id, 1, true, err));
    stack_close(&s);
    stack_open(&s);
    stack_expect(&s, id, "id0:0,id2:2,id4:4,id1:11");
    OK(compactor_run(s.compactor, &id, true, err));
    stack_expect(&s, id, "id0:0,id1:11,id2:2,id4:4");
    stack_done(&s);
}

static void find_or_fail(struct stack *s, uuid id, const char *name, bool *ret_warned)
{
    struct view *view;
    struct view_place place;
    struct buf warning;
    bool found = false;
    OK(view_acquire(s->views, id, READ_INDEX_AND_WAL, &view, err));
    OK(view_find(view, slice_of(name), &place, &found, err));
    assert_true(found);
    buf_init(&warning, 4096);
    *ret_warned = view_warning(view, &warning);
    buf_done(&warning);
    view_release(view);
}

/* Where the first part's id index lies in its object's file. */
static uint64_t locate_id_index(struct stack *s, uuid id, char path[80])
{
    struct arena arena;
    struct view *view;
    arena_init(&arena, NULL, 0);
    struct sysdb_part row = version_of(s, id, &arena).parts[0];
    arena_done(&arena);
    OK(view_acquire(s->views, id, READ_INDEX_AND_WAL, &view, err));
    const struct part_section *section = &view_part(view, 0)->sections[SECTION_IDHASH];
    assert_true(section->size > 0);
    uint64_t at = row.offset + section->offset;
    view_release(view);
    int len = snprintf(path, 80, "blobs/%02x/", row.file.bytes[0]);
    for (size_t i = 0; i < 16; i++)
        len += snprintf(path + len, 80 - (size_t)len, "%02x", row.file.bytes[i]);
    (void)snprintf(path + len, 80 - (size_t)len, ".blob");
    return at;
}

/* Derived sections cost speed when damaged, then a rewriting of their part (D4). */
static void a_damaged_index_section_is_announced_and_rebuilt(void **state)
{
    (void)state;
    struct stack s = {.tail_rows_max = 100};
    char path[80];
    bool warned, merged;
    stack_open(&s);
    uuid id = stack_collection(&s, "damaged", "l2");
    stack_add_many(&s, id, 0, 40);
    flush(&s, id);
    uint64_t at = locate_id_index(&s, id, path);
    find_or_fail(&s, id, "id7", &warned);
    assert_false(warned);
    stack_close(&s);
    OK(io_sim_poke(s.io, path, at, "\xde\xad\xbe\xef", 4, err));
    stack_open(&s);
    find_or_fail(&s, id, "id7", &warned);
    assert_true(warned);
    OK(compact_merge(s.compactor, id, false, &merged, err));
    assert_true(merged);
    find_or_fail(&s, id, "id7", &warned);
    assert_false(warned);
    assert_int_equal(part_count(&s, id), 1);
    stack_done(&s);
}

static void dead_space_stays_below_thirty_percent(void **state)
{
    (void)state;
    struct stack s = {.tail_rows_max = 64};
    stack_open(&s);
    uuid id = stack_collection(&s, "dead", "l2");
    for (int round = 0; round < 12; round++) {
        stack_add_many(&s, id, round * 100, 100);
        for (int i = 0; i < 45; i++) {
            char name[16];
            (void)snprintf(name, sizeof(name), "id%d", round * 100 + i * 2);
            stack_delete(&s, id, name);
        }
        OK(compactor_run(s.compactor, &id, false, err));
        struct arena arena;
        arena_init(&arena, NULL, 0);
        struct sysdb_version version = version_of(&s, id, &arena);
        assert_true(version.part_count <= 12);
        for (size_t i = 0; i < version.part_count; i++)
            assert_true(version.parts[i].deleted * 10 <= version.parts[i].rows * 3);
        assert_int_equal(object_count(&s), version.part_count);
        arena_done(&arena);
    }
    struct view *view = NULL;
    OK(view_acquire(s.views, id, READ_INDEX_AND_WAL, &view, err));
    assert_int_equal(view_info(view)->live_rows, 12 * 55);
    view_release(view);
    stack_done(&s);
}

/* D3: ids deleted in a part's range stay noted while an older part lives. */
static void kills_stay_while_an_older_part_lives(void **state)
{
    (void)state;
    struct stack s = {.tail_rows_max = 10};
    stack_open(&s);
    uuid id = stack_collection(&s, "kills", "l2");
    stack_add_many(&s, id, 0, 40); /* large: merges of small parts leave it alone */
    flush(&s, id);
    for (int i = 0; i < 4; i++) {
        char name[16];
        (void)snprintf(name, sizeof(name), "id%d", i);
        stack_delete(&s, id, name);
        stack_add(&s, id, i % 2 ? "x" : "y", (float)i);
        flush(&s, id);
    }
    bool merged;
    OK(compact_merge(s.compactor, id, false, &merged, err));
    assert_true(merged);
    assert_int_equal(part_count(&s, id), 2);
    struct view *view = NULL;
    struct arena arena;
    slice *kills;
    size_t count;
    arena_init(&arena, NULL, 0);
    OK(view_acquire(s.views, id, READ_INDEX_AND_WAL, &view, err));
    OK(part_kills(view_part(view, 1), &arena, &kills, &count, err));
    assert_int_equal(count, 4);
    view_release(view);
    OK(compactor_run(s.compactor, &id, true, err));
    OK(view_acquire(s.views, id, READ_INDEX_AND_WAL, &view, err));
    OK(part_kills(view_part(view, 0), &arena, &kills, &count, err));
    assert_int_equal(count, 0);
    assert_int_equal(view_info(view)->live_rows, 38);
    view_release(view);
    arena_done(&arena);
    stack_done(&s);
}

/* ---- what happens meanwhile ---- */

/* The disk calls back in the middle of a flush or merge: a collection changes or goes under it. */
struct meddle {
    struct stack *s;
    uuid id;
    int what; /* 1: delete a row; 2: drop; 3: flush another way */
};

static struct meddle meddle;
static struct store_ops meddling_ops;
static const struct store_ops *real_ops;

static och_code meddling_finish(struct store_writer *writer, och_error *why)
{
    struct meddle m = meddle;
    meddle.what = 0;
    if (m.what == 1)
        stack_delete(m.s, m.id, "id2");
    if (m.what == 2) {
        OK(wal_seal(m.s->wal, m.id, err));
        OK(sysdb_collection_drop(m.s->sysdb, m.id, err));
        wal_forget(m.s->wal, m.id);
        views_forget(m.s->views, m.id);
    }
    if (m.what == 3)
        stack_flush(m.s, m.id);
    return real_ops->finish(writer, why);
}

static void meddle_with(struct stack *s)
{
    real_ops = s->store->ops;
    meddling_ops = *real_ops;
    meddling_ops.finish = meddling_finish;
    s->store->ops = &meddling_ops;
}

static void rows_that_die_during_a_merge_are_dead_in_its_output(void **state)
{
    (void)state;
    struct stack s = {.tail_rows_max = 100};
    stack_open(&s);
    uuid id = stack_collection(&s, "mapped", "l2");
    for (int i = 0; i < 4; i++) {
        stack_add_many(&s, id, i * 3, 3);
        flush(&s, id);
    }
    meddle_with(&s);
    meddle = (struct meddle){&s, id, 1};
    bool merged;
    OK(compact_merge(s.compactor, id, false, &merged, err));
    assert_true(merged);
    stack_expect(&s, id, "id0:0,id1:1,id3:3,id4:4,id5:5,id6:6,id7:7,id8:8,id9:9,id10:10,id11:11");
    /* A flush beside it: then the row is dead in the version. */
    stack_add_many(&s, id, 100, 1);
    flush(&s, id);
    stack_write(&s, id, &(struct stack_row){.op = BATCH_UPDATE, .id = "id4", .value = 44}, 1);
    meddle = (struct meddle){&s, id, 3};
    OK(compact_merge(s.compactor, id, true, &merged, err));
    assert_true(merged);
    assert_int_equal(part_count(&s, id), 2);
    stack_expect(
        &s, id, "id0:0,id1:1,id3:3,id5:5,id6:6,id7:7,id8:8,id9:9,id10:10,id11:11,id100:100,id4:44");
    OK(compactor_run(s.compactor, &id, true, err));
    stack_expect(
        &s, id, "id0:0,id1:1,id3:3,id4:44,id5:5,id6:6,id7:7,id8:8,id9:9,id10:10,id11:11,id100:100");
    stack_done(&s);
}

static void a_collection_dropped_during_its_flush_leaves_nothing(void **state)
{
    (void)state;
    struct stack s = {.tail_rows_max = 100};
    stack_open(&s);
    uuid ids[2] = {stack_collection(&s, "stays", "l2"), stack_collection(&s, "goes", "l2")};
    stack_add_many(&s, ids[0], 0, 2);
    stack_add_many(&s, ids[1], 0, 2000);
    meddle_with(&s);
    meddle = (struct meddle){&s, ids[1], 2};
    OK(compact_flush(s.compactor, ids, 2, false, err)); /* one object, one of two commits */
    collect(&s);
    assert_int_equal(object_count(&s), 1);
    stack_expect(&s, ids[0], "id0:0,id1:1");
    struct arena arena;
    arena_init(&arena, NULL, 0);
    struct sysdb_part part = version_of(&s, ids[0], &arena).parts[0];
    object_id object;
    uint64_t size;
    uint8_t block[4096], none[4096] = {0};
    memcpy(object.bytes, part.file.bytes, 16);
    OK(store_size(s.store, object, &size, err));
    uint64_t middle = (part.offset + part.size + (size - part.offset - part.size) / 2) & ~4095ull;
    OK(store_read(s.store, object, middle, block, sizeof(block), err));
    assert_memory_equal(block, none, sizeof(block)); /* the other's range holds no data any more */
    /* Alone in its object: the object goes, too. */
    uuid last = stack_collection(&s, "last", "l2");
    stack_add_many(&s, last, 0, 10);
    meddle = (struct meddle){&s, last, 2};
    OK(compact_flush(s.compactor, &last, 1, false, err));
    assert_int_equal(object_count(&s), 1);
    arena_done(&arena);
    stack_done(&s);
}

static void a_merge_whose_inputs_changed_commits_nothing(void **state)
{
    (void)state;
    struct stack s = {.tail_rows_max = 100};
    stack_open(&s);
    uuid id = stack_collection(&s, "lost", "l2");
    for (int i = 0; i < 4; i++) {
        stack_add_many(&s, id, i * 3, 3);
        flush(&s, id);
    }
    meddle_with(&s);
    meddle = (struct meddle){&s, id, 2};
    bool merged;
    OK(compact_merge(s.compactor, id, false, &merged, err));
    assert_false(merged);
    collect(&s);
    assert_int_equal(object_count(&s), 0);
    stack_done(&s);
}

/* ---- failures ---- */

static void each_failing_allocation_leaves_a_sound_state(void **state)
{
    (void)state;
    struct stack s = {.tail_rows_max = 100};
    stack_open(&s);
    uuid id = stack_collection(&s, "failing", "l2");
    stack_add_many(&s, id, 0, 3);
    flush(&s, id);
    unsigned failures = 0, row = 0;
    for (uint64_t n = 1, passes = 0; passes < 20 && n < 3000; n++) {
        char name[16];
        (void)snprintf(name, sizeof(name), "n%u", row++);
        stack_add(&s, id, name, 1);
        mem_fail_at(n);
        och_code code = compact_flush(s.compactor, &id, 1, false, NULL);
        mem_fail_at(0);
        failures += code != OCH_OK;
        passes = code == OCH_OK ? passes + 1 : 0;
        struct view *view = NULL;
        OK(view_acquire(s.views, id, READ_INDEX_AND_WAL, &view, err));
        assert_int_equal(view_info(view)->live_rows, 3 + row);
        view_release(view);
        if (part_count(&s, id) > 3) {
            mem_fail_at(n);
            bool merged;
            failures += compact_merge(s.compactor, id, true, &merged, NULL) != OCH_OK;
            mem_fail_at(0);
        }
    }
    assert_true(failures > 50);
    OK(compactor_run(s.compactor, &id, true, err));
    assert_int_equal(part_count(&s, id), 1);
    assert_int_equal(log_rows(&s), 0); /* also when a failure came between commit and trim */
    stack_close(&s);
    stack_open(&s);
    OK(compactor_start(s.compactor, err)); /* what was announced and never came goes now */
    assert_int_equal(object_count(&s), 1);
    struct view *view = NULL;
    OK(view_acquire(s.views, id, READ_INDEX_AND_WAL, &view, err));
    assert_int_equal(view_info(view)->live_rows, 3 + row);
    view_release(view);
    stack_done(&s);
}

static void a_trim_that_was_left_undone_is_made_up_for(void **state)
{
    (void)state;
    struct stack s = {.tail_rows_max = 100};
    stack_open(&s);
    uuid id = stack_collection(&s, "untrimmed", "l2");
    stack_add_many(&s, id, 0, 5);
    stack_commit(&s, id); /* as after a crash of the thread right behind the commit */
    OK(views_install(s.views, id, err));
    assert_int_equal(log_rows(&s), 5);
    flush(&s, id);
    assert_int_equal(log_rows(&s), 0);
    assert_int_equal(part_count(&s, id), 1);
    stack_done(&s);
}

static void a_full_disk_does_not_fill_the_catalogue_with_objects(void **state)
{
    (void)state;
    struct stack s = {.tail_rows_max = 100};
    stack_open(&s);
    uuid id = stack_collection(&s, "full", "l2");
    stack_add_many(&s, id, 0, 5);
    for (int i = 0; i < 5; i++) {
        io_sim_fail_at(s.io, IO_SIM_OPEN, 1, 28, true);
        assert_int_not_equal(compact_flush(s.compactor, &id, 1, false, NULL), OCH_OK);
        io_sim_fail_at(s.io, IO_SIM_OPEN, 0, 0, false);
    }
    struct arena arena;
    arena_init(&arena, NULL, 0);
    struct sysdb_garbage *rows;
    size_t count;
    OK(sysdb_garbage_list(s.sysdb, true, &arena, &rows, &count, err));
    assert_int_equal(count, 0);
    flush(&s, id);
    assert_int_equal(part_count(&s, id), 1);
    arena_done(&arena);
    stack_done(&s);
}

static och_code refusing_remove(struct store *store, object_id id, och_error *err)
{
    static object_id refused;
    static bool chosen;
    if (!chosen) {
        refused = id;
        chosen = true;
    }
    if (memcmp(&refused, &id, sizeof(id)) == 0)
        return FAIL(err, OCH_IO, "this one stays");
    return real_ops->remove(store, id, err);
}

static void an_object_that_will_not_go_does_not_keep_the_others(void **state)
{
    (void)state;
    struct stack s = {.tail_rows_max = 100};
    stack_open(&s);
    uuid id = stack_collection(&s, "stuck", "l2");
    for (int i = 0; i < 4; i++) {
        stack_add_many(&s, id, i * 3, 3);
        flush(&s, id);
    }
    bool merged, more;
    OK(compact_merge(s.compactor, id, true, &merged, err));
    real_ops = s.store->ops;
    meddling_ops = *real_ops;
    meddling_ops.remove = refusing_remove;
    s.store->ops = &meddling_ops;
    FAILS(OCH_IO, "this one stays", compact_garbage(s.compactor, false, &more, err));
    assert_int_equal(object_count(&s), 2);
    s.store->ops = real_ops;
    collect(&s);
    assert_int_equal(object_count(&s), 1);
    stack_done(&s);
}

/* ---- the threads ---- */

static bool wait_for_flush(struct stack *s, uint64_t flushes)
{
    for (int i = 0; i < 2000; i++) {
        struct compactor_stats stats;
        compactor_stats(s->compactor, &stats);
        if (stats.flushes >= flushes && log_rows(s) == 0)
            return true;
        clock_manual_advance(&s->clock, 50 * 1000000ull);
        sched_sleep_ns(2 * 1000000ull);
    }
    return false;
}

static uint32_t lists_of_the_only_part(struct stack *s, uuid id)
{
    assert_int_equal(part_count(s, id), 1);
    struct view *view = NULL;
    const struct vector_index *index;
    OK(view_acquire(s->views, id, READ_INDEX_AND_WAL, &view, err));
    OK(part_vector_index(view_part(view, 0), &index, err));
    assert_non_null(index);
    uint32_t lists = index->lists;
    view_release(view);
    return lists;
}

static void ask_for_codes(struct stack *s, uuid id)
{
    struct view *view = NULL;
    struct view_codes codes;
    OK(view_acquire(s->views, id, READ_INDEX_AND_WAL, &view, err));
    assert_true(view_codes(view, NULL, &codes));
    view_release(view);
}

static void lists_are_few_on_the_way_and_many_at_rest(void **state)
{
    (void)state;
    enum { TAIL = 5500 };
    struct stack s = {.tail_rows_max = TAIL};
    stack_open(&s);
    uuid id = stack_collection(&s, "passing", "l2"), idle = stack_collection(&s, "idle", "l2");
    bool merged;
    for (int i = 0; i < 4; i++) {
        stack_add_many(&s, id, i * TAIL, TAIL);
        flush(&s, id);
        stack_add_many(&s, idle, i * TAIL, TAIL);
        flush(&s, idle);
    }
    stack_add_many(&s, id, 4 * TAIL, TAIL);
    ask_for_codes(&s, id); /* somebody searches */
    OK(compact_merge_tier(s.compactor, id, MERGE_SMALL, false, &merged, err));
    assert_true(merged);
    uint32_t on_the_way = lists_of_the_only_part(&s, id);
    assert_true(on_the_way > 30 && on_the_way < 100);
    OK(compact_merge_tier(s.compactor, idle, MERGE_SMALL, false, &merged, err));
    assert_true(merged);
    assert_int_equal(lists_of_the_only_part(&s, idle), 1);
    OK(compact_merge_tier(s.compactor, id, MERGE_LARGE, true, &merged, err));
    assert_true(merged);
    assert_true(lists_of_the_only_part(&s, id) > 4 * on_the_way);
    OK(compact_merge_tier(s.compactor, id, MERGE_LARGE, true, &merged, err));
    assert_false(merged);
    stack_done(&s);
}

/* What the first query of the newest part would read. */
static uint64_t misses_of_the_newest_part(struct stack *s, uuid id)
{
    struct view *view = NULL;
    struct cache_stats before, after;
    struct part_warmed warmed = {0};
    struct limits_of_work limits = {0};
    OK(view_acquire(s->views, id, READ_INDEX_AND_WAL, &view, err));
    cache_stats(s->cache, &before);
    OK(part_warm(view_part(view, view_part_count(view) - 1), PART_WARM_CODES, &limits, &warmed,
                 err));
    cache_stats(s->cache, &after);
    view_release(view);
    assert_true(warmed.bytes > 0 && warmed.bytes == warmed.wanted_bytes);
    return after.heat[CACHE_HOT].misses + after.heat[CACHE_WARM].misses -
           before.heat[CACHE_HOT].misses - before.heat[CACHE_WARM].misses;
}

/* Where queries look a part comes into use with its codes in memory; one that nobody waits for is not read. */
static void parts_are_read_before_they_come_into_use(void **state)
{
    (void)state;
    enum { TAIL = 3000 };
    struct stack s = {.tail_rows_max = TAIL};
    bool merged;
    stack_open(&s);
    uuid id = stack_collection(&s, "asked", "l2");
    stack_add_many(&s, id, 0, TAIL);
    flush(&s, id);
    assert_true(misses_of_the_newest_part(&s, id) > 0);
    stack_add_many(&s, id, TAIL, TAIL);
    ask_for_codes(&s, id);
    flush(&s, id);
    assert_int_equal(part_count(&s, id), 2);
    assert_int_equal(misses_of_the_newest_part(&s, id), 0);
    stack_add_many(&s, id, 2 * TAIL, TAIL);
    ask_for_codes(&s, id);
    OK(compact_merge_tier(s.compactor, id, MERGE_LARGE, true, &merged, err));
    assert_int_equal(part_count(&s, id), 1);
    assert_int_equal(misses_of_the_newest_part(&s, id), 0);
    stack_done(&s);
}

static void a_kick_flushes_and_idle_tails_follow(void **state)
{
    (void)state;
    struct stack s = {.tail_rows_max = 100};
    stack_open(&s);
    OK(compactor_start(s.compactor, err));
    uuid id = stack_collection(&s, "kicked", "l2"), idle = stack_collection(&s, "idle", "l2");
    stack_add_many(&s, id, 0, 5);
    compactor_kick(s.compactor, id);
    stack_add_many(&s, idle, 0, 5);
    assert_true(wait_for_flush(&s, 2));
    stack_done(&s);
}

/* One collection's failing flush delays nothing but itself (invariant 12). */
static _Atomic bool poison_hurts;

static och_code poisoned_append(struct store_writer *writer, const void *at, size_t len,
                                och_error *err)
{
    if (atomic_load(&poison_hurts) && memmem(at, len, "POISON", 6))
        return FAIL(err, OCH_INTERNAL, "an index builder that fails");
    return real_ops->append(writer, at, len, err);
}

static void a_failing_flush_delays_nothing_but_itself(void **state)
{
    (void)state;
    struct stack s = {.tail_rows_max = 100};
    stack_open(&s);
    uuid bad = stack_collection(&s, "bad", "l2"), good = stack_collection(&s, "good", "l2");
    real_ops = s.store->ops;
    meddling_ops = *real_ops;
    meddling_ops.append = poisoned_append;
    atomic_store(&poison_hurts, true);
    s.store->ops = &meddling_ops;
    stack_add(&s, bad, "POISON", 1);
    OK(compactor_start(s.compactor, err));
    for (int i = 0; i < 3; i++) {
        stack_add_many(&s, good, i * 10, 10);
        compactor_kick(s.compactor, good);
        compactor_kick(s.compactor, bad);
        bool done = false;
        for (int tries = 0; tries < 2000 && !done; tries++) {
            clock_manual_advance(&s.clock, 50 * 1000000ull);
            sched_sleep_ns(2 * 1000000ull);
            done = log_rows(&s) == 1;
        }
        assert_true(done);
    }
    struct compactor_stats stats;
    compactor_stats(s.compactor, &stats);
    assert_true(stats.failures > 0);
    stack_expect(&s, bad, "POISON:1");
    atomic_store(&poison_hurts, false);
    assert_true(wait_for_flush(&s, stats.flushes + 1)); /* and it goes when it can */
    stack_expect(&s, bad, "POISON:1");
    stack_done(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_flushed_and_merged_is_what_was_written),
        cmocka_unit_test(a_tail_that_came_to_nothing_moves_the_offset_alone),
        cmocka_unit_test(many_collections_share_an_object_and_leave_holes),
        cmocka_unit_test(a_plain_part_answers_like_any_other),
        cmocka_unit_test(a_damaged_index_section_is_announced_and_rebuilt),
        cmocka_unit_test(dead_space_stays_below_thirty_percent),
        cmocka_unit_test(kills_stay_while_an_older_part_lives),
        cmocka_unit_test(rows_that_die_during_a_merge_are_dead_in_its_output),
        cmocka_unit_test(a_collection_dropped_during_its_flush_leaves_nothing),
        cmocka_unit_test(a_merge_whose_inputs_changed_commits_nothing),
        cmocka_unit_test(each_failing_allocation_leaves_a_sound_state),
        cmocka_unit_test(a_trim_that_was_left_undone_is_made_up_for),
        cmocka_unit_test(a_full_disk_does_not_fill_the_catalogue_with_objects),
        cmocka_unit_test(an_object_that_will_not_go_does_not_keep_the_others),
        cmocka_unit_test(lists_are_few_on_the_way_and_many_at_rest),
        cmocka_unit_test(parts_are_read_before_they_come_into_use),
        cmocka_unit_test(a_kick_flushes_and_idle_tails_follow),
        cmocka_unit_test(a_failing_flush_delays_nothing_but_itself),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
