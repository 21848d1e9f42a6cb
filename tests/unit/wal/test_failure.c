/* SPDX-License-Identifier: Apache-2.0 */
/* A disk, a catalogue and a memory that fail: what was acknowledged stays, what was not is taken back (D11). */
#include "unit/wal/log_fixture.h"

static const uuid A = {{1, 1}}, B = {{2, 2}};

static void D11_after_a_failed_flush_offsets_and_dimension_are_as_before(void **state)
{
    (void)state;
    enum io_sim_operation kinds[] = {IO_SIM_WRITE, IO_SIM_SYNC};
    for (size_t k = 0; k < 2; k++) {
        struct log log;
        struct wal_appended got;
        uint64_t head;
        uint32_t dimension;
        log_init(&log, false);
        fake_add(log.db, A);
        fake_add(log.db, B);
        log_reserve(&log);
        log_open(&log);
        log_add(&log, B, 1, 1, 5, 0);
        log_settle(&log, 2);
        io_sim_fail_at(log.io, kinds[k], 1, EIO, false);
        assert_int_equal(log_put(&log, A, 1, 2, 3, 5, &got, &log.err), OCH_UNAVAILABLE);
        assert_non_null(strstr(log.err.message, "unknown"));
        OK(&log, wal_head(log.wal, A, &head, &dimension, &log.err));
        assert_int_equal(head, 0);
        assert_int_equal(dimension, 0);
        struct wal_stats stats;
        wal_stats(log.wal, &stats);
        assert_false(stats.read_only || stats.failing);
        assert_int_equal(stats.segments, 2);
        log_add(&log, A, 2, 2, 5, 0); // another dimension
        assert_int_equal(log.told.len, 2);
        log_kill(&log);
        log_open(&log);
        struct tail tail = log_tail(&log, A, 0);
        assert_int_equal(tail.len, 1);
        log_batch_is(tail.at[0], 2, 2, 5, 0);
        tail_done(&tail);
        log_done(&log);
    }
}

static void D11_failing_twice_means_read_only_until_reopened(void **state)
{
    (void)state;
    struct log log;
    struct wal_appended got;
    struct wal_stats stats;
    log_init(&log, false);
    fake_add(log.db, A);
    log_reserve(&log);
    log_open(&log);
    log_add(&log, A, 1, 1, 5, 0);
    log_settle(&log, 2);
    io_sim_fail_at(log.io, IO_SIM_SYNC, 1, EIO, true);
    assert_int_equal(log_put(&log, A, 2, 1, 4, 5, &got, &log.err), OCH_UNAVAILABLE);
    wal_stats(log.wal, &stats);
    assert_true(stats.read_only);
    io_sim_fail_at(log.io, IO_SIM_SYNC, 0, 0, false);
    log.err = (och_error){0};
    assert_int_equal(log_put(&log, A, 2, 1, 4, 5, &got, &log.err), OCH_UNAVAILABLE);
    assert_non_null(strstr(log.err.message, "reopened"));
    struct tail tail = log_tail(&log, A, 0); // reads go on
    assert_int_equal(tail.len, 1);
    tail_done(&tail);
    log_close(&log);
    assert_false(log.db->end.has);
    log_open(&log);
    uint64_t head;
    uint32_t dimension;
    OK(&log, wal_head(log.wal, A, &head, &dimension, &log.err));
    assert_true(head == 1 || head == 2);
    log_add(&log, A, 3, 1, 5, head);
    log_done(&log);
}

static och_code put_delete(struct log *log)
{
    struct payload *payload = log_delete_payload("x");
    struct wal_append ask = {.collection = A, .payload = payload, .count = 1};
    struct wal_appended got;
    log->err = (och_error){0};
    och_code code = wal_append(log->wal, &ask, &got, &log->err);
    payload_unref(payload);
    return code;
}

static void D11_a_full_disk_refuses_lets_deletes_through_and_writing_resumes(void **state)
{
    (void)state;
    struct log log;
    struct wal_appended got;
    struct wal_stats stats;
    log_init(&log, false);
    log.options.segment_bytes = 1 << 20;
    fake_add(log.db, A);
    log_open(&log);
    io_sim_set_capacity(log.io, (5 << 20) + 100000);
    uint64_t count = 0;
    struct io_entry reserve;
    log_add(&log, A, count++, 1, 100000, 0);
    for (int i = 0; i < 2000 && io_stat(log.io, "log/reserve", &reserve, NULL) != OCH_OK; i++)
        sched_sleep_ns(1000000); // the helper makes it
    OK(&log, io_stat(log.io, "log/reserve", &reserve, &log.err));
    assert_int_equal(reserve.size, 1 << 20);
    och_code code;
    while ((code = log_put(&log, A, count, 1, 4, 100000, &got, &log.err)) == OCH_OK)
        count++;
    assert_int_equal(code, OCH_BUSY);
    assert_non_null(strstr(log.err.message, "space"));
    assert_true(count > 15);
    assert_int_equal(io_stat(log.io, "log/reserve", &reserve, NULL), OCH_NOT_FOUND);
    wal_stats(log.wal, &stats);
    assert_true(stats.failing && !stats.read_only);
    assert_int_equal(log_put(&log, A, count, 1, 4, 100000, &got, &log.err), OCH_BUSY);
    uint64_t deletes = 0;
    for (int i = 0; i < 50; i++) {
        deletes += put_delete(&log) == OCH_OK;
        sched_sleep_ns(10000000);
    }
    assert_true(deletes > 30);
    wal_stats(log.wal, &stats);
    assert_true(stats.failing);
    /* compaction makes room */
    fake_commit(log.db, A, count + deletes, 4, 1);
    OK(&log, wal_trim(log.wal, A, count + deletes, &log.err));
    sched_sleep_ns(150000000);
    OK(&log, log_put(&log, A, 500, 1, 4, 100000, &got, &log.err));
    assert_int_equal(got.first, count + deletes);
    wal_stats(log.wal, &stats);
    assert_false(stats.failing);
    log_kill(&log);
    log_open(&log);
    struct tail tail = log_tail(&log, A, count + deletes);
    assert_int_equal(tail.len, 1);
    log_batch_is(tail.at[0], 500, 1, 100000, count + deletes);
    tail_done(&tail);
    log_done(&log);
}

static void D11_a_disk_that_fills_up_inside_a_write_is_survived(void **state)
{
    (void)state;
    struct log log;
    struct wal_appended got;
    log_init(&log, false);
    fake_add(log.db, A);
    log_reserve(&log);
    log_open(&log);
    log_add(&log, A, 1, 1, 5, 0);
    log_settle(&log, 2);
    io_sim_fail_at(log.io, IO_SIM_WRITE, 1, ENOSPC, true);
    assert_int_equal(log_put(&log, A, 2, 1, 4, 5, &got, &log.err), OCH_UNAVAILABLE);
    struct wal_stats stats;
    wal_stats(log.wal, &stats);
    assert_true(stats.failing && !stats.read_only);
    assert_int_equal(log_put(&log, A, 2, 1, 4, 5, &got, &log.err), OCH_BUSY);
    io_sim_fail_at(log.io, IO_SIM_WRITE, 0, 0, false);
    sched_sleep_ns(120000000);
    log_add(&log, A, 3, 1, 5, 1);
    log_kill(&log);
    log_open(&log);
    struct tail tail = log_tail(&log, A, 0);
    assert_int_equal(tail.len, 2);
    log_batch_is(tail.at[1], 3, 1, 5, 1);
    tail_done(&tail);
    log_done(&log);
}

/* A history of everything; true when nothing failed on the way. */
struct story {
    uint64_t kept[64]; /* numbers of the acknowledged batches of A, in order */
    size_t count;
    uint64_t trimmed;
    bool unknown; /* some outcome is */
    bool clean;
};

static void story_put(struct log *log, struct story *story, uint64_t number, size_t bytes)
{
    struct wal_appended got;
    och_error err = {0};
    och_code code = log_put(log, A, number, 1, 4, bytes, &got, &err);
    if (code == OCH_OK) {
        assert_int_equal(got.first, story->count);
        story->kept[story->count++] = number;
        return;
    }
    story->clean = false;
    story->unknown |= code == OCH_UNAVAILABLE;
    if (code != OCH_UNAVAILABLE && code != OCH_BUSY && code != OCH_NO_MEMORY && code != OCH_IO)
        fail_msg("%s: %s", error_code_name(code), err.message);
}

static void story_check(struct log *log, const struct story *story)
{
    struct tail tail = log_tail(log, A, story->trimmed);
    assert_true(tail.len >= story->count - story->trimmed);
    assert_true(tail.len == story->count - story->trimmed || story->unknown);
    for (size_t i = 0; i < story->count - story->trimmed; i++) {
        size_t n = story->trimmed + i;
        log_batch_is(tail.at[i], story->kept[n], 1, story->kept[n] % 3 ? 200 : 20000, n);
    }
    tail_done(&tail);
}

static void story_tell(struct log *log, struct story *story)
{
    och_error err = {0};
    story->clean = true;
    for (int round = 0; round < 2; round++) {
        och_code code = log_try_open(log);
        if (code != OCH_OK) {
            story->clean = false;
            if (code == OCH_CORRUPT)
                fail_msg("%s", log->err.message);
            mem_fail_at(0);
            io_sim_fail_at(log->io, IO_SIM_ANY, 0, 0, false);
            log->db->fail_at = 0;
            log_open(log);
        }
        for (uint64_t i = 0; i < 8; i++)
            story_put(log, story, (uint64_t)round * 99 + i, i % 3 ? 200 : 20000);
        if (round == 0 && story->count > 4) {
            fake_commit(log->db, A, 4, 4, 1);
            story->trimmed = 4;
            if (wal_trim(log->wal, A, 4, &err) != OCH_OK)
                story->clean = false;
        }
        if (round == 0)
            story->clean &= wal_close(log->wal, &err) == OCH_OK;
        log_kill(log);
        if (round == 0 && story->unknown)
            break; // what follows it has unknown offsets
    }
}

static void story_run(void (*arm)(struct log *log, uint64_t nth), const char *what)
{
    for (uint64_t nth = 1;; nth++) {
        struct log log;
        struct story story = {0};
        log_init(&log, false);
        fake_add(log.db, A);
        arm(&log, nth);
        story_tell(&log, &story);
        mem_fail_at(0);
        io_sim_fail_at(log.io, IO_SIM_ANY, 0, 0, false);
        io_sim_fail_at(log.io, IO_SIM_WRITE, 0, 0, false);
        bool done = story.clean && nth > 150;
        log.db->fail_at = 0;
        log_open(&log);
        story_check(&log, &story);
        log_done(&log);
        if (done)
            return;
        if (nth > 3000)
            fail_msg("%s never passes clean", what);
    }
}

static void arm_io(struct log *log, uint64_t nth)
{
    io_sim_fail_at(log->io, IO_SIM_ANY, nth, EIO, false);
}
static void arm_full(struct log *log, uint64_t nth)
{
    io_sim_fail_at(log->io, IO_SIM_WRITE, nth, ENOSPC, false);
}
static void arm_io_stuck(struct log *log, uint64_t nth)
{
    io_sim_fail_at(log->io, IO_SIM_ANY, nth, EIO, true);
}
static void arm_memory(struct log *log, uint64_t nth)
{
    (void)log;
    mem_fail_at(nth * 3);
}
static void arm_catalogue(struct log *log, uint64_t nth)
{
    log->db->fail_at = nth;
}
static void arm_catalogue_after(struct log *log, uint64_t nth)
{
    log->db->fail_at = nth;
    log->db->fail_after = true;
}

static void any_one_failing_call_of_the_disk_loses_nothing_acknowledged(void **state)
{
    (void)state;
    story_run(arm_io, "io");
}
static void a_disk_that_fails_from_some_call_on_loses_nothing_acknowledged(void **state)
{
    (void)state;
    story_run(arm_io_stuck, "stuck io");
}
static void any_one_write_without_room_loses_nothing_acknowledged(void **state)
{
    (void)state;
    story_run(arm_full, "full");
}
static void any_one_failing_allocation_loses_nothing_acknowledged(void **state)
{
    (void)state;
    story_run(arm_memory, "memory");
}
static void any_one_failing_call_of_the_catalogue_loses_nothing_acknowledged(void **state)
{
    (void)state;
    story_run(arm_catalogue, "catalogue");
    story_run(arm_catalogue_after, "catalogue, after");
}

static void relaxed_durability_survives_a_kill_and_loses_only_an_end_without_power(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 200; seed++) {
        struct log log;
        log_init(&log, true);
        log.options.durability = seed % 2 ? WAL_OS : WAL_INTERVAL;
        log.options.interval_ms = seed % 4 == 1 ? 1 : 1000;
        fake_add(log.db, A);
        log_open(&log);
        uint64_t count = 5 + seed % 20;
        for (uint64_t i = 0; i < count; i++)
            log_add(&log, A, i, 1, 9000, i);
        mutex_lock(&log.db->lock); // no segment comes in between
        struct sysdb *db = fake_copy_locked(log.db);
        struct io *cut = io_sim_power_cut(log.io, seed);
        mutex_unlock(&log.db->lock);
        log_kill(&log);
        log_open(&log);
        struct tail tail = log_tail(&log, A, 0);
        assert_int_equal(tail.len, count);
        tail_done(&tail);
        log_kill(&log);
        io_sim_free(log.io);
        fake_free(log.db);
        log.io = cut;
        log.db = db;
        log_options(&log);
        och_code code = log_try_open(&log);
        if (code != OCH_OK)
            fail_msg("seed %llu: %s", (unsigned long long)seed, log.err.message);
        tail = log_tail(&log, A, 0);
        assert_true(tail.len <= count);
        for (size_t i = 0; i < tail.len; i++)
            log_batch_is(tail.at[i], i, 1, 9000, i);
        log_add(&log, A, 3, 1, 9000, tail.len);
        tail_done(&tail);
        log_done(&log);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(D11_after_a_failed_flush_offsets_and_dimension_are_as_before),
        cmocka_unit_test(D11_failing_twice_means_read_only_until_reopened),
        cmocka_unit_test(D11_a_full_disk_refuses_lets_deletes_through_and_writing_resumes),
        cmocka_unit_test(D11_a_disk_that_fills_up_inside_a_write_is_survived),
        cmocka_unit_test(any_one_failing_call_of_the_disk_loses_nothing_acknowledged),
        cmocka_unit_test(a_disk_that_fails_from_some_call_on_loses_nothing_acknowledged),
        cmocka_unit_test(any_one_write_without_room_loses_nothing_acknowledged),
        cmocka_unit_test(any_one_failing_allocation_loses_nothing_acknowledged),
        cmocka_unit_test(any_one_failing_call_of_the_catalogue_loses_nothing_acknowledged),
        cmocka_unit_test(relaxed_durability_survives_a_kill_and_loses_only_an_end_without_power),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
