/* SPDX-License-Identifier: Apache-2.0 */
/* Opening after every kind of end and damage (D1, D8, D10, D15, D16). */
#include "unit/wal/log_fixture.h"

static const uuid A = {{1, 1}}, B = {{2, 2}};

/* A second machine with a copy of the disk and the catalogue. */
static void log_clone(struct log *copy, const struct log *log)
{
    memset(copy, 0, sizeof(*copy));
    mutex_init(&copy->lock, RANK_LEAF);
    clock_manual_init(&copy->clock, 1700000001000000000u);
    copy->io = io_sim_copy(log->io);
    copy->db = fake_copy(log->db);
    copy->options = log->options;
    log_options(copy);
}

struct spot {
    uint64_t byte, size, frame, payload, payload_size;
};

/* Groups with frames of the n-th segment on disk. */
static size_t groups_of(struct log *log, size_t n, struct spot *spots, size_t max)
{
    struct file *file;
    struct wal_walk walk;
    wal_found_list frames = {0};
    uint64_t size, byte = 0;
    size_t count = 0;
    char *path = log_file(log, n);
    struct wal_name name;
    assert_true(wal_name_parse(strrchr(path, '/') + 1, &name));
    OK(log, io_open(log->io, path, 0, &file, &log->err));
    OK(log, file_size(file, &size, &log->err));
    OK(log, wal_walk_init(&walk, file, name, size, &log->err));
    for (;;) {
        struct wal_group group;
        bool sound;
        frames.len = 0;
        OK(log, wal_walk_group(&walk, byte, &group, &frames, &sound, &log->err));
        if (!sound)
            break;
        if (frames.len) {
            assert_true(count < max);
            spots[count++] =
                (struct spot){byte, group.size, frames.at[0].byte,
                              frames.at[0].byte + WAL_HEADER_SIZE, frames.at[0].frame.payload_size};
        }
        byte += group.size;
    }
    VEC_DONE(&frames);
    wal_walk_done(&walk);
    file_close(file);
    return count;
}

static uint64_t size_of(struct log *log, const char *path)
{
    struct io_entry entry;
    OK(log, io_stat(log->io, path, &entry, &log->err));
    return entry.size;
}

static void zero_from(struct log *log, const char *path, uint64_t from)
{
    static const uint8_t zeros[4096];
    uint64_t size = size_of(log, path);
    while (from < size) {
        size_t some = size - from < sizeof(zeros) ? (size_t)(size - from) : sizeof(zeros);
        OK(log, io_sim_poke(log->io, path, from, zeros, some, &log->err));
        from += some;
    }
}

static void flip(struct log *log, const char *path, uint64_t byte)
{
    struct file *file;
    uint8_t value;
    OK(log, io_open(log->io, path, 0, &file, &log->err));
    OK(log, file_read_all(file, byte, &value, 1, &log->err));
    file_close(file);
    value ^= 0x40;
    OK(log, io_sim_poke(log->io, path, byte, &value, 1, &log->err));
}

static void D1_a_torn_flush_is_cut_wherever_it_tore(void **state)
{
    (void)state;
    struct log log;
    struct spot spots[8];
    log_init(&log, false);
    fake_add(log.db, A);
    log_open(&log);
    log_add(&log, A, 1, 2, 50, 0);
    log_add(&log, A, 2, 2, 50, 2);
    log_add(&log, A, 3, 1, 1500, 4);
    log_kill(&log);
    assert_int_equal(groups_of(&log, 0, spots, 8), 3);
    for (uint64_t cut = 0; cut < spots[2].size; cut += 32) {
        struct log copy;
        log_clone(&copy, &log);
        char *path = log_file(&copy, 0);
        zero_from(&copy, path, spots[2].byte + cut);
        log_open(&copy);
        struct tail tail = log_tail(&copy, A, 0);
        bool padding = spots[2].byte + cut >= spots[2].payload + spots[2].payload_size;
        assert_int_equal(tail.len, padding ? 3 : 2);
        log_batch_is(tail.at[1], 2, 2, 50, 2);
        tail_done(&tail);
        if (!padding) {
            log_add(&copy, A, 9, 1, 20, 4);
            log_kill(&copy);
            log_open(&copy);
            tail = log_tail(&copy, A, 0);
            assert_int_equal(tail.len, 3);
            log_batch_is(tail.at[2], 9, 1, 20, 4);
            tail_done(&tail);
        }
        log_done(&copy);
    }
    log_done(&log);
}

static void D1_a_torn_flush_with_any_page_missing_is_cut(void **state)
{
    (void)state;
    struct log log;
    struct spot spots[8];
    static const uint8_t zeros[512];
    log_init(&log, false);
    fake_add(log.db, A);
    log_open(&log);
    log_add(&log, A, 1, 2, 50, 0);
    log_add(&log, A, 3, 1, 3000, 2);
    log_kill(&log);
    assert_int_equal(groups_of(&log, 0, spots, 8), 2);
    for (uint64_t at = spots[1].byte; at < spots[1].payload + spots[1].payload_size; at += 512) {
        struct log copy;
        log_clone(&copy, &log);
        char *path = log_file(&copy, 0);
        zero_from(&copy, path, spots[1].byte + spots[1].size); // the note of what is durable
        size_t some = 512;
        if (at + some > spots[1].byte + spots[1].size)
            some = (size_t)(spots[1].byte + spots[1].size - at);
        OK(&copy, io_sim_poke(copy.io, path, at, zeros, some, &copy.err));
        log_open(&copy);
        struct tail tail = log_tail(&copy, A, 0);
        assert_int_equal(tail.len, 1);
        tail_done(&tail);
        log_add(&copy, A, 4, 1, 10, 2);
        log_done(&copy);
    }
    log_done(&log);
}

static void D1_what_was_cut_never_comes_back(void **state)
{
    (void)state;
    struct log log;
    struct spot spots[8];
    log_init(&log, false);
    fake_add(log.db, A);
    log_open(&log);
    log_add(&log, A, 1, 2, 50, 0);
    log_add(&log, A, 2, 2, 50, 2);
    log_kill(&log);
    assert_int_equal(groups_of(&log, 0, spots, 8), 2);
    zero_from(&log, log_file(&log, 0), spots[1].byte + spots[1].size);
    flip(&log, log_file(&log, 0), spots[1].payload + 3);
    log_open(&log);
    struct tail tail = log_tail(&log, A, 0);
    assert_int_equal(tail.len, 1);
    tail_done(&tail);
    log_kill(&log);
    flip(&log, log_file(&log, 0), spots[1].payload + 3); // the disk thinks better of it
    log_open(&log);
    tail = log_tail(&log, A, 0);
    assert_int_equal(tail.len, 1);
    tail_done(&tail);
    log_add(&log, A, 5, 1, 1, 2);
    log_kill(&log);
    log_open(&log);
    tail = log_tail(&log, A, 0);
    assert_int_equal(tail.len, 2);
    log_batch_is(tail.at[1], 5, 1, 1, 2);
    tail_done(&tail);
    log_done(&log);
}

static void D1_damage_below_what_was_durable_is_named_and_nothing_is_touched(void **state)
{
    (void)state;
    struct log log;
    struct spot spots[8];
    log_init(&log, false);
    fake_add(log.db, A);
    log_open(&log);
    for (uint64_t i = 0; i < 4; i++)
        log_add(&log, A, i, 2, 50, i * 2);
    log_kill(&log);
    assert_int_equal(groups_of(&log, 0, spots, 8), 4);
    for (size_t i = 1; i < 3; i++) {
        uint64_t places[] = {spots[i].byte, spots[i].byte + 5, spots[i].byte + 100, spots[i].frame,
                             spots[i].frame + 90};
        for (size_t j = 0; j < COUNT_OF(places); j++) {
            struct log copy;
            char text[64];
            log_clone(&copy, &log);
            flip(&copy, log_file(&copy, 0), places[j]);
            uint64_t writes = io_sim_count(copy.io, IO_SIM_WRITE);
            assert_int_equal(log_try_open(&copy), OCH_CORRUPT);
            (void)snprintf(text, sizeof(text), "byte %llu", (unsigned long long)spots[i].byte);
            assert_non_null(strstr(copy.err.message, text));
            assert_non_null(strstr(copy.err.message, log_file(&copy, 0)));
            assert_int_equal(writes, io_sim_count(copy.io, IO_SIM_WRITE));
            log_done(&copy);
        }
    }
    log_done(&log);
}

static void D1_damage_before_a_clean_end_is_damage_even_in_the_last_group(void **state)
{
    (void)state;
    struct log log;
    struct spot spots[8];
    log_init(&log, false);
    fake_add(log.db, A);
    log_open(&log);
    log_add(&log, A, 1, 2, 50, 0);
    log_close(&log);
    assert_int_equal(groups_of(&log, 0, spots, 8), 1);
    uint64_t noted = log.db->end.byte;
    assert_true(log.db->end.has && noted > spots[0].byte + spots[0].size);
    struct log copy;
    log_clone(&copy, &log);
    zero_from(&copy, log_file(&copy, 0), noted - WAL_HEADER_SIZE);
    assert_int_equal(log_try_open(&copy), OCH_CORRUPT);
    log_done(&copy);
    log_done(&log);
}

static void D1_damage_wholly_below_every_log_offset_is_passed(void **state)
{
    (void)state;
    struct log log;
    struct spot spots[8];
    log_init(&log, false);
    fake_add(log.db, A);
    fake_add(log.db, B);
    log_open(&log);
    log_add(&log, B, 1, 1, 50, 0);
    log_add(&log, A, 2, 1, 50, 0);
    log_add(&log, A, 3, 1, 50, 1);
    log_kill(&log);
    assert_int_equal(groups_of(&log, 0, spots, 8), 3);
    flip(&log, log_file(&log, 0), spots[1].byte + 20);
    assert_int_equal(log_try_open(&log), OCH_CORRUPT);
    fake_commit(log.db, A, 1, 4, 1);
    log_open(&log);
    struct tail tail = log_tail(&log, A, 1);
    assert_int_equal(tail.len, 1);
    log_batch_is(tail.at[0], 3, 1, 50, 1);
    tail_done(&tail);
    tail = log_tail(&log, B, 0);
    assert_int_equal(tail.len, 1);
    tail_done(&tail);
    log_add(&log, A, 4, 1, 50, 2);
    log_done(&log);
}

static void D19_a_damaged_payload_is_the_damage_of_its_collection_alone(void **state)
{
    (void)state;
    struct log log;
    struct spot spots[8];
    log_init(&log, false);
    fake_add(log.db, A);
    fake_add(log.db, B);
    log_open(&log);
    log_add(&log, A, 1, 1, 50, 0);
    log_add(&log, B, 2, 1, 50, 0);
    log_add(&log, A, 3, 1, 50, 1);
    log_kill(&log);
    assert_int_equal(groups_of(&log, 0, spots, 8), 3);
    flip(&log, log_file(&log, 0), spots[0].payload + 1);
    log_open(&log);
    struct wal_batch **none;
    size_t count;
    assert_int_equal(wal_tail(log.wal, A, 0, &none, &count, &log.err), OCH_CORRUPT);
    assert_non_null(strstr(log.err.message, "offset 0"));
    struct tail tail = log_tail(&log, A, 1);
    assert_int_equal(tail.len, 1);
    tail_done(&tail);
    tail = log_tail(&log, B, 0);
    assert_int_equal(tail.len, 1);
    tail_done(&tail);
    log_kill(&log);
    struct buf report;
    uint64_t faults, frames;
    buf_init(&report, BUF_MAX_NONE);
    OK(&log, wal_verify(&log.options, &report, &faults, &frames, &log.err));
    assert_int_equal(faults, 1);
    assert_int_equal(frames, 3);
    buf_done(&report);
    log_done(&log);
}

static void D1_a_missing_or_short_segment_is_damage(void **state)
{
    (void)state;
    struct log log, copy;
    log_init(&log, false);
    fake_add(log.db, A);
    log_open(&log);
    for (uint64_t i = 0; i < 20; i++)
        log_add(&log, A, i, 1, 8000, i);
    log_close(&log);
    for (size_t n = 0; n < 3; n++) {
        log_clone(&copy, &log);
        OK(&copy, io_remove(copy.io, log_file(&copy, n), &copy.err));
        assert_int_equal(log_try_open(&copy), OCH_CORRUPT);
        assert_non_null(strstr(copy.err.message, "missing"));
        log_done(&copy);
        log_clone(&copy, &log);
        struct file *file;
        OK(&copy, io_open(copy.io, log_file(&copy, n), IO_WRITE, &file, &copy.err));
        OK(&copy, file_truncate(file, 60000, &copy.err));
        file_close(file);
        assert_int_equal(log_try_open(&copy), OCH_CORRUPT);
        log_done(&copy);
    }
    log_done(&log);
}

static void D8_a_catalogue_older_than_the_log_is_refused(void **state)
{
    (void)state;
    struct log log;
    log_init(&log, false);
    fake_add(log.db, A);
    log_open(&log);
    log_add(&log, A, 1, 1, 50, 0);
    log_close(&log);
    struct sysdb *old = fake_copy(log.db);
    log_open(&log);
    fake_add(log.db, B);
    log_add(&log, A, 2, 1, 50, 1);
    log_close(&log);
    fake_free(log.db);
    log.db = old;
    log_options(&log);
    assert_int_equal(log_try_open(&log), OCH_CORRUPT);
    old->end.has = false; // the generation alone tells it too
    assert_int_equal(log_try_open(&log), OCH_CORRUPT);
    assert_non_null(strstr(log.err.message, "older"));
    log_done(&log);
}

static void D1_a_file_without_a_row_is_a_leftover_or_a_newer_log(void **state)
{
    (void)state;
    struct log log;
    struct arena arena;
    struct file *file;
    size_t count;
    arena_init(&arena, NULL, 0);
    log_init(&log, false);
    fake_add(log.db, A);
    log_open(&log);
    for (uint64_t i = 0; i < 20; i++)
        log_add(&log, A, i, 1, 8000, i);
    log_close(&log);
    size_t before;
    (void)log_files(&log, &arena, &before);
    /* a crash between creating and announcing: never written to */
    OK(&log, io_open(log.io, "log/00000000000000ff-0000000000000001.log", IO_WRITE | IO_CREATE,
                     &file, &log.err));
    OK(&log, file_allocate(file, 0, 65536, &log.err));
    file_close(file);
    /* a crash between the row's removal and the file's */
    fake_commit(log.db, A, 19, 4, 1);
    log.db->segments.at[0] = log.db->segments.at[--log.db->segments.len];
    log_open(&log);
    (void)log_files(&log, &arena, &count);
    assert_int_equal(count, before - 1);
    struct tail tail = log_tail(&log, A, 19);
    assert_int_equal(tail.len, 1);
    tail_done(&tail);
    log_close(&log);
    /* written segments, and no row: an old catalogue */
    log.db->segments.len = 0;
    log.db->end.has = false;
    uint64_t removals = io_sim_count(log.io, IO_SIM_REMOVE);
    assert_int_equal(log_try_open(&log), OCH_CORRUPT);
    assert_int_equal(removals, io_sim_count(log.io, IO_SIM_REMOVE));
    assert_non_null(strstr(log.err.message, "not in the catalogue"));
    arena_done(&arena);
    log_done(&log);
}

static void D10_frames_must_reach_from_the_log_offset_without_a_gap(void **state)
{
    (void)state;
    struct log log;
    log_init(&log, false);
    fake_add(log.db, A);
    fake_commit(log.db, A, 5, 4, 1);
    log_open(&log);
    log_add(&log, A, 1, 2, 50, 5);
    log_add(&log, A, 2, 2, 50, 7);
    log_kill(&log);
    fake_commit(log.db, A, 4, 4, 1);
    assert_int_equal(log_try_open(&log), OCH_CORRUPT);
    fake_commit(log.db, A, 7, 4, 1);
    log_open(&log);
    struct tail tail = log_tail(&log, A, 7);
    assert_int_equal(tail.len, 1);
    tail_done(&tail);
    log_kill(&log);
    fake_commit(log.db, A, 20, 4, 1); // the parts are ahead: the next offset follows them
    log_open(&log);
    log_add(&log, A, 3, 1, 1, 20);
    log_done(&log);
}

static void D10_frames_of_an_unknown_collection_are_damage(void **state)
{
    (void)state;
    struct log log;
    log_init(&log, false);
    fake_add(log.db, A);
    fake_add(log.db, B);
    log_open(&log);
    log_add(&log, A, 1, 2, 50, 0);
    log_add(&log, B, 1, 2, 50, 0);
    log_kill(&log);
    log.db->collections.len = 1;
    assert_int_equal(log_try_open(&log), OCH_CORRUPT);
    log_done(&log);
}

static void D15_a_dropped_collection_is_sealed_forgotten_punched_and_dropped_at_replay(void **state)
{
    (void)state;
    struct log log;
    struct wal_appended got;
    log_init(&log, false);
    fake_add(log.db, A);
    fake_add(log.db, B);
    log_open(&log);
    log_add(&log, A, 1, 1, 50, 0);
    log_add(&log, B, 2, 1, 30000, 0);
    log_add(&log, A, 3, 1, 50, 1);
    OK(&log, wal_seal(log.wal, B, &log.err));
    assert_int_equal(log_put(&log, B, 3, 1, 4, 5, &got, &log.err), OCH_NOT_FOUND);
    wal_unseal(log.wal, B);
    log_add(&log, B, 3, 1, 5, 1);
    OK(&log, wal_seal(log.wal, B, &log.err));
    fake_drop(log.db, B);
    wal_forget(log.wal, B);
    assert_int_equal(log_put(&log, B, 3, 1, 4, 5, &got, &log.err), OCH_NOT_FOUND);
    struct wal_stats stats;
    wal_stats(log.wal, &stats);
    assert_int_equal(stats.backlog_batches, 2);
    log_kill(&log); // the helper punches before it ends
    struct file *file;
    uint8_t page[4096];
    OK(&log, io_open(log.io, log_file(&log, 0), 0, &file, &log.err));
    OK(&log, file_read_all(file, 8192, page, sizeof(page), &log.err));
    for (size_t i = 0; i < sizeof(page); i++)
        assert_int_equal(page[i], 0);
    file_close(file);
    log_open(&log);
    struct tail tail = log_tail(&log, A, 0);
    assert_int_equal(tail.len, 2);
    log_batch_is(tail.at[1], 3, 1, 50, 1);
    tail_done(&tail);
    assert_true(fake_find(log.db, B) && fake_find(log.db, B)->dropped);
    /* its last segment goes, and the tombstone with it */
    for (uint64_t i = 2; i < 20; i++)
        log_add(&log, A, i, 1, 8000, i);
    fake_commit(log.db, A, 20, 4, 1);
    OK(&log, wal_trim(log.wal, A, 20, &log.err));
    assert_null(fake_find(log.db, B));
    log_kill(&log);
    log_open(&log);
    log_done(&log);
}

static void D15_a_torn_last_flush_with_a_dropped_payload_still_counts(void **state)
{
    (void)state;
    struct log log;
    log_init(&log, false);
    fake_add(log.db, A);
    fake_add(log.db, B);
    log_open(&log);
    log_add(&log, A, 1, 1, 50, 0);
    log_add(&log, B, 2, 1, 30000, 0);
    OK(&log, wal_seal(log.wal, B, &log.err));
    fake_drop(log.db, B);
    wal_forget(log.wal, B);
    log_kill(&log);
    struct spot spots[4];
    assert_int_equal(groups_of(&log, 0, spots, 4), 2);
    zero_from(&log, log_file(&log, 0), spots[1].byte + spots[1].size); // nobody vouches for it
    log_open(&log);
    struct tail tail = log_tail(&log, A, 0);
    assert_int_equal(tail.len, 1);
    tail_done(&tail);
    struct wal_stats stats;
    wal_stats(log.wal, &stats);
    assert_int_equal(stats.segments, 1); // and nothing was cut
    log_add(&log, A, 3, 1, 50, 1);
    log_done(&log);
}

static void D16_a_fork_has_the_tail_with_its_offsets_and_times(void **state)
{
    (void)state;
    struct log log;
    uuid copy = log_uuid(99);
    struct wal_origin to = {copy, 3, 4, 1};
    log_init(&log, false);
    fake_add(log.db, A);
    fake_commit(log.db, A, 3, 4, 1);
    log_open(&log);
    fake_add(log.db, copy);
    fake_drop(log.db, copy); // nobody sees it yet
    for (uint64_t i = 0; i < 6; i++) {
        log_add(&log, A, i, 2, 500, 3 + i * 2);
        clock_manual_advance(&log.clock, 5000000);
    }
    OK(&log, wal_fork(log.wal, A, &to, 11, &log.err));
    assert_int_equal(wal_fork(log.wal, A, &to, 11, &log.err), OCH_CONFLICT);
    fake_revive(log.db, copy);
    fake_commit(log.db, copy, 3, 4, 1);
    log_add(&log, copy, 50, 1, 5, 11);
    log_add(&log, A, 51, 1, 5, 15);
    for (int round = 0; round < 2; round++) {
        struct tail tail = log_tail(&log, copy, 3), from = log_tail(&log, A, 3);
        assert_int_equal(tail.len, 5);
        for (size_t i = 0; i < 4; i++) {
            log_batch_is(tail.at[i], i, 2, 500, 3 + i * 2);
            assert_int_equal(tail.at[i]->created_at, from.at[i]->created_at);
        }
        log_batch_is(tail.at[4], 50, 1, 5, 11);
        tail_done(&tail);
        tail_done(&from);
        log_kill(&log);
        log_open(&log);
    }
    log_done(&log);
}

static void D16_a_fork_given_up_leaves_nothing_when_forgotten_or_after_a_crash(void **state)
{
    (void)state;
    for (int crash = 0; crash < 2; crash++) {
        struct log log;
        struct wal_origin to = {log_uuid(99), 0, 0, 0};
        log_init(&log, false);
        fake_add(log.db, A);
        log_open(&log);
        log_add(&log, A, 0, 2, 500, 0);
        fake_add(log.db, to.collection);
        fake_drop(log.db, to.collection);
        OK(&log, wal_fork(log.wal, A, &to, 2, &log.err));
        if (!crash)
            wal_forget(log.wal, to.collection);
        log_kill(&log);
        log_open(&log);
        struct tail tail = log_tail(&log, A, 0);
        assert_int_equal(tail.len, 1);
        tail_done(&tail);
        struct wal_batch **batches;
        size_t count;
        assert_int_equal(wal_tail(log.wal, to.collection, 0, &batches, &count, &log.err),
                         OCH_NOT_FOUND);
        log_add(&log, A, 1, 1, 50, 2);
        log_done(&log);
    }
}

static void D16_a_fork_of_what_was_trimmed_is_stale(void **state)
{
    (void)state;
    struct log log;
    struct wal_origin to = {log_uuid(99), 0, 0, 0};
    log_init(&log, false);
    fake_add(log.db, A);
    log_open(&log);
    log_add(&log, A, 0, 2, 500, 0);
    log_add(&log, A, 1, 2, 500, 2);
    fake_commit(log.db, A, 2, 4, 1);
    OK(&log, wal_trim(log.wal, A, 2, &log.err));
    fake_add(log.db, to.collection);
    fake_drop(log.db, to.collection);
    assert_int_equal(wal_fork(log.wal, A, &to, 4, &log.err), OCH_STALE);
    log_done(&log);
}

static void a_clean_end_goes_on_in_the_same_segment_and_is_unnoted_by_the_first_write(void **state)
{
    (void)state;
    struct log log;
    struct wal_stats stats;
    log_init(&log, false);
    fake_add(log.db, A);
    log_open(&log);
    log_close(&log);
    assert_false(log.db->end.has); // nothing was ever written
    for (uint64_t i = 0; i < 10; i++) {
        log_open(&log);
        wal_stats(log.wal, &stats);
        assert_true(stats.segments <= 1);
        assert_int_equal(log.db->end.has, i > 0);
        log_add(&log, A, i, 1, 100, i);
        assert_false(log.db->end.has);
        if (i % 3 == 1)
            log_kill(&log); // torn by nothing: no new segment either
        else
            log_close(&log);
        assert_int_equal(log.db->end.has, i % 3 != 1);
        if (i % 3 == 1) {
            log_open(&log);
            log_close(&log);
        }
    }
    log_done(&log);
}

static void a_read_only_log_answers_and_writes_nothing(void **state)
{
    (void)state;
    struct log log;
    struct wal_appended got;
    log_init(&log, false);
    log.options.read_only = true;
    log_open(&log); // no folder yet
    log_close(&log);
    log.options.read_only = false;
    fake_add(log.db, A);
    log_open(&log);
    log_add(&log, A, 1, 1, 100, 0);
    log_kill(&log);
    log.options.read_only = true;
    uint64_t writes = io_sim_count(log.io, IO_SIM_WRITE);
    log_open(&log);
    struct tail tail = log_tail(&log, A, 0);
    assert_int_equal(tail.len, 1);
    tail_done(&tail);
    assert_int_equal(log_put(&log, A, 3, 1, 4, 5, &got, &log.err), OCH_UNSUPPORTED);
    log_close(&log);
    assert_int_equal(writes, io_sim_count(log.io, IO_SIM_WRITE));
    log_done(&log);
}

static void a_damaged_log_is_reported_segment_by_segment(void **state)
{
    (void)state;
    struct log log;
    struct spot spots[8];
    struct buf report;
    uint64_t faults, frames;
    log_init(&log, false);
    fake_add(log.db, A);
    log_open(&log);
    for (uint64_t i = 0; i < 5; i++)
        log_add(&log, A, i, 2, 50, i * 2);
    log_kill(&log);
    buf_init(&report, BUF_MAX_NONE);
    OK(&log, wal_verify(&log.options, &report, &faults, &frames, &log.err));
    assert_int_equal(faults, 0);
    assert_int_equal(frames, 5);
    assert_int_equal(report.len, 0);
    assert_int_equal(groups_of(&log, 0, spots, 8), 5);
    flip(&log, log_file(&log, 0), spots[1].byte + 9);
    flip(&log, log_file(&log, 0), spots[3].frame + 9);
    uint64_t writes = io_sim_count(log.io, IO_SIM_WRITE);
    OK(&log, wal_verify(&log.options, &report, &faults, &frames, &log.err));
    assert_int_equal(faults, 3); // it does not open, and two places
    assert_int_equal(frames, 3);
    assert_int_equal(writes, io_sim_count(log.io, IO_SIM_WRITE));
    buf_done(&report);
    log_done(&log);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(D1_a_torn_flush_is_cut_wherever_it_tore),
        cmocka_unit_test(D1_a_torn_flush_with_any_page_missing_is_cut),
        cmocka_unit_test(D1_what_was_cut_never_comes_back),
        cmocka_unit_test(D1_damage_below_what_was_durable_is_named_and_nothing_is_touched),
        cmocka_unit_test(D1_damage_before_a_clean_end_is_damage_even_in_the_last_group),
        cmocka_unit_test(D1_damage_wholly_below_every_log_offset_is_passed),
        cmocka_unit_test(D19_a_damaged_payload_is_the_damage_of_its_collection_alone),
        cmocka_unit_test(D1_a_missing_or_short_segment_is_damage),
        cmocka_unit_test(D8_a_catalogue_older_than_the_log_is_refused),
        cmocka_unit_test(D1_a_file_without_a_row_is_a_leftover_or_a_newer_log),
        cmocka_unit_test(D10_frames_must_reach_from_the_log_offset_without_a_gap),
        cmocka_unit_test(D10_frames_of_an_unknown_collection_are_damage),
        cmocka_unit_test(
            D15_a_dropped_collection_is_sealed_forgotten_punched_and_dropped_at_replay),
        cmocka_unit_test(D15_a_torn_last_flush_with_a_dropped_payload_still_counts),
        cmocka_unit_test(D16_a_fork_has_the_tail_with_its_offsets_and_times),
        cmocka_unit_test(D16_a_fork_given_up_leaves_nothing_when_forgotten_or_after_a_crash),
        cmocka_unit_test(D16_a_fork_of_what_was_trimmed_is_stale),
        cmocka_unit_test(a_clean_end_goes_on_in_the_same_segment_and_is_unnoted_by_the_first_write),
        cmocka_unit_test(a_damaged_log_is_reported_segment_by_segment),
        cmocka_unit_test(a_read_only_log_answers_and_writes_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
