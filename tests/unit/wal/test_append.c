/* SPDX-License-Identifier: Apache-2.0 */
/* Appending, delivery, turns, dimensions, batch ids, tails and trims on a healthy disk. */
#include "unit/wal/log_fixture.h"

static const uuid A = {{1, 1}}, B = {{2, 2}};

static void an_append_is_delivered_before_it_is_acknowledged(void **state)
{
    (void)state;
    struct log log;
    log_init(&log, false);
    fake_add(log.db, A);
    log_open(&log);
    log_add(&log, A, 1, 3, 10, 0);
    assert_int_equal(log.told.len, 1);
    log_batch_is(log.told.at[0], 1, 3, 10, 0);
    log_add(&log, A, 2, 2, 10, 3);
    assert_int_equal(log.told.len, 2);
    log_batch_is(log.told.at[1], 2, 2, 10, 3);
    assert_true(log.told.at[1]->created_at >= log.told.at[0]->created_at);
    uint64_t head;
    uint32_t dimension;
    OK(&log, wal_head(log.wal, A, &head, &dimension, &log.err));
    assert_int_equal(head, 5);
    assert_int_equal(dimension, 4);
    log_done(&log);
}

static void what_is_appended_comes_back_from_the_tail_and_after_reopening(void **state)
{
    (void)state;
    struct log log;
    log_init(&log, false);
    fake_add(log.db, A);
    fake_add(log.db, B);
    log_open(&log);
    for (uint64_t i = 0; i < 40; i++) {
        log_add(&log, A, i, 2, 100 * i, i * 2);
        log_add(&log, B, 1000 + i, 1, 7, i);
    }
    for (int round = 0; round < 4; round++) {
        struct tail tail = log_tail(&log, A, 20);
        assert_int_equal(tail.len, 30);
        for (uint64_t i = 0; i < 30; i++)
            log_batch_is(tail.at[i], 10 + i, 2, 100 * (10 + i), 20 + i * 2);
        tail_done(&tail);
        tail = log_tail(&log, B, 0);
        assert_int_equal(tail.len, 40);
        for (uint64_t i = 0; i < 40; i++)
            log_batch_is(tail.at[i], 1000 + i, 1, 7, i);
        tail_done(&tail);
        tail = log_tail(&log, B, 40);
        assert_int_equal(tail.len, 0);
        tail_done(&tail);
        if (round % 2)
            log_kill(&log);
        else
            log_close(&log);
        log_open(&log);
    }
    log_add(&log, A, 77, 1, 5, 80);
    log_done(&log);
}

static och_code put_dimension(struct log *log, uuid id, uint32_t dimension, bool fixes)
{
    struct payload *payload = log_payload(5, 1, dimension, 0);
    struct wal_append ask = {.collection = id,
                             .payload = payload,
                             .count = 1,
                             .dimension = dimension,
                             .fixes_dimension = fixes};
    struct wal_appended got;
    log->err = (och_error){0};
    och_code code = wal_append(log->wal, &ask, &got, &log->err);
    payload_unref(payload);
    return code;
}

static void the_first_stored_vector_fixes_the_dimension(void **state)
{
    (void)state;
    struct log log;
    uint64_t head;
    uint32_t dimension;
    log_init(&log, false);
    fake_add(log.db, A);
    log_open(&log);
    OK(&log, put_dimension(&log, A, 3, false)); // an update alone fixes nothing
    OK(&log, wal_head(log.wal, A, &head, &dimension, &log.err));
    assert_int_equal(dimension, 0);
    OK(&log, put_dimension(&log, A, 2, true));
    assert_int_equal(put_dimension(&log, A, 3, true), OCH_INVALID);
    assert_string_equal(log.err.message,
                        "Collection expecting embedding with dimension of 2, got 3");
    assert_int_equal(put_dimension(&log, A, 3, false), OCH_INVALID);
    OK(&log, put_dimension(&log, A, 0, true));
    log_kill(&log);
    log_open(&log);
    OK(&log, wal_head(log.wal, A, &head, &dimension, &log.err));
    assert_int_equal(head, 3);
    assert_int_equal(dimension, 2);
    assert_int_equal(put_dimension(&log, A, 3, true), OCH_INVALID);
    log_done(&log);
}

static void an_unknown_collection_is_not_found(void **state)
{
    (void)state;
    struct log log;
    log_init(&log, false);
    log_open(&log);
    assert_int_equal(put_dimension(&log, A, 2, true), OCH_NOT_FOUND);
    log_done(&log);
}

struct decider {
    struct log *log;
    uint64_t head;
    bool append;
    unsigned calls;
    och_code code;
};
static och_code decide(void *context, uint64_t head, struct wal_append *request, bool *ret_append,
                       och_error *err)
{
    struct decider *d = context;
    d->head = head;
    d->calls++;
    *ret_append = d->append;
    if (d->code != OCH_OK)
        return FAIL(err, d->code, "decided so");
    uint64_t seen = 0;
    mutex_lock(&d->log->lock);
    for (size_t i = 0; i < d->log->told.len; i++)
        seen += uuid_equal(d->log->told.at[i]->collection, A) ? d->log->told.at[i]->count : 0;
    mutex_unlock(&d->log->lock);
    assert_int_equal(seen, head); // everything before the head was delivered
    request->payload = d->append ? log_payload(9, 2, 4, 3) : NULL;
    request->count = 2;
    request->dimension = 4;
    request->fixes_dimension = true;
    return OCH_OK;
}

static och_code put_decided(struct log *log, struct decider *d, struct wal_appended *got)
{
    struct wal_append ask = {.collection = A, .decide = decide, .context = d};
    och_code code = wal_append(log->wal, &ask, got, &log->err);
    payload_unref(ask.payload);
    return code;
}

static void D33_a_decision_sees_the_head_and_may_append_nothing(void **state)
{
    (void)state;
    struct log log;
    log_init(&log, false);
    fake_add(log.db, A);
    log_open(&log);
    log_add(&log, A, 1, 3, 10, 0);
    struct decider d = {.log = &log, .append = true};
    struct wal_appended got;
    OK(&log, put_decided(&log, &d, &got));
    assert_int_equal(d.head, 3);
    assert_int_equal(got.first, 3);
    assert_int_equal(got.count, 2);
    d.append = false;
    OK(&log, put_decided(&log, &d, &got));
    assert_int_equal(d.head, 5);
    assert_int_equal(got.count, 0);
    d.code = OCH_CONFLICT;
    assert_int_equal(put_decided(&log, &d, &got), OCH_CONFLICT);
    log_add(&log, A, 2, 1, 1, 5); // the turn was given back each time
    log_done(&log);
}

static void created_at_never_falls_though_the_clock_does(void **state)
{
    (void)state;
    struct log log;
    log_init(&log, false);
    fake_add(log.db, A);
    log_open(&log);
    log_add(&log, A, 1, 1, 5, 0);
    int64_t first = log.told.at[0]->created_at;
    assert_int_equal(first, 1700000000000);
    atomic_store(&log.clock.wall_ns, 1600000000000000000u);
    log_add(&log, A, 2, 1, 5, 1);
    assert_int_equal(log.told.at[1]->created_at, first);
    log_kill(&log);
    log_open(&log);
    log_add(&log, A, 3, 1, 5, 2);
    assert_int_equal(log.told.at[0]->created_at, first);
    fake_commit(log.db, A, 3, 4, first);
    OK(&log, wal_trim(log.wal, A, 3, &log.err));
    log_kill(&log);
    log_open(&log); // now only the catalogue knows
    log_add(&log, A, 4, 1, 5, 3);
    assert_int_equal(log.told.at[0]->created_at, first);
    log_done(&log);
}

struct worker {
    struct log *log;
    struct thread thread;
    uint64_t number, rounds, done;
    bool decides;
};
static void work(void *arg)
{
    struct worker *w = arg;
    for (uint64_t i = 0; i < w->rounds; i++) {
        struct wal_appended got;
        och_error err = {0};
        och_code code;
        struct decider d = {.log = w->log, .append = i % 2};
        if (w->decides) {
            struct wal_append ask = {.collection = A, .decide = decide, .context = &d};
            code = wal_append(w->log->wal, &ask, &got, &err);
            payload_unref(ask.payload);
            assert_true(code != OCH_OK || !d.append || got.first == d.head); // nothing got between
        } else {
            code = log_put(w->log, i % 3 ? A : B, w->number * 1000 + i, 1 + (uint32_t)(i % 2), 4,
                           20, &got, &err);
        }
        w->done += code == OCH_OK;
    }
}

struct rival {
    struct log *log;
    struct thread thread;
    _Atomic bool done;
    struct wal_appended got;
};
static void rival_run(void *arg)
{
    struct rival *rival = arg;
    och_code code = log_put(rival->log, A, 500, 1, 4, 3, &rival->got, NULL);
    assert_int_equal(code, OCH_OK);
    atomic_store(&rival->done, true);
}
static och_code decide_beside_a_rival(void *context, uint64_t head, struct wal_append *request,
                                      bool *ret_append, och_error *err)
{
    struct rival *rival = context;
    TRY(thread_start(&rival->thread, "rival", 0, rival_run, rival, err));
    sched_sleep_ns(30000000); // ample for it, were it let
    assert_false(atomic_load(&rival->done));
    *ret_append = true;
    request->payload = log_payload(9, 2, 4, 3);
    request->count = 2;
    (void)head;
    return OCH_OK;
}

static void D33_nothing_gets_in_between_a_decision_and_its_append(void **state)
{
    (void)state;
    struct log log;
    struct rival rival = {.log = &log};
    struct wal_appended got;
    log_init(&log, false);
    fake_add(log.db, A);
    log_open(&log);
    struct wal_append ask = {.collection = A, .decide = decide_beside_a_rival, .context = &rival};
    OK(&log, wal_append(log.wal, &ask, &got, &log.err));
    payload_unref(ask.payload);
    thread_join(&rival.thread);
    assert_int_equal(got.first, 0);
    assert_int_equal(rival.got.first, 2);
    log_done(&log);
}

static void check_contiguous(struct log *log, uuid id)
{
    uint64_t next = 0;
    int64_t time = 0;
    for (size_t i = 0; i < log->told.len; i++) {
        const struct wal_batch *batch = log->told.at[i];
        if (!uuid_equal(batch->collection, id))
            continue;
        assert_int_equal(batch->first, next);
        assert_true(batch->created_at >= time);
        time = batch->created_at;
        next += batch->count;
    }
    struct tail tail = log_tail(log, id, 0);
    uint64_t at = 0;
    for (size_t i = 0; i < tail.len; i++) {
        assert_int_equal(tail.at[i]->first, at);
        at += tail.at[i]->count;
    }
    assert_int_equal(at, next);
    tail_done(&tail);
}

static void threads_get_disjoint_offsets_in_the_order_of_delivery(void **state)
{
    (void)state;
    struct log log;
    struct worker workers[6];
    log_init(&log, false);
    fake_add(log.db, A);
    fake_add(log.db, B);
    log_open(&log);
    for (size_t i = 0; i < COUNT_OF(workers); i++) {
        workers[i] = (struct worker){
            .log = &log, .number = i, .rounds = i == 5 ? 40 : 150, .decides = i == 5};
        OK(&log, thread_start(&workers[i].thread, "worker", 0, work, &workers[i], &log.err));
    }
    for (size_t i = 0; i < COUNT_OF(workers); i++) {
        thread_join(&workers[i].thread);
        assert_int_equal(workers[i].done, workers[i].rounds);
    }
    check_contiguous(&log, A);
    check_contiguous(&log, B);
    log_kill(&log);
    log_open(&log);
    struct tail tail = log_tail(&log, A, 0);
    assert_true(tail.len > 400);
    tail_done(&tail);
    log_done(&log);
}

static och_code put_id(struct log *log, uint64_t batch, uint64_t hash, struct wal_appended *got)
{
    struct payload *payload = log_payload(batch, 2, 4, 3);
    struct wal_append ask = {.collection = A,
                             .payload = payload,
                             .count = 2,
                             .dimension = 4,
                             .fixes_dimension = true,
                             .batch_id = log_uuid(batch),
                             .request_hash = hash};
    och_code code = wal_append(log->wal, &ask, got, &log->err);
    payload_unref(payload);
    return code;
}

static void D17_a_batch_id_is_applied_once(void **state)
{
    (void)state;
    struct log log;
    struct wal_appended got;
    log_init(&log, false);
    fake_add(log.db, A);
    log_open(&log);
    log_add(&log, A, 1, 3, 10, 0);
    OK(&log, put_id(&log, 50, 1, &got));
    assert_int_equal(got.first, 3);
    assert_false(got.repeated);
    for (int round = 0; round < 2; round++) {
        OK(&log, put_id(&log, 50, 1, &got));
        assert_int_equal(got.first, 3);
        assert_int_equal(got.count, 2);
        assert_true(got.repeated);
        assert_int_equal(put_id(&log, 50, 2, &got), OCH_CONFLICT);
        log_kill(&log);
        log_open(&log); // and the frames remember it
    }
    OK(&log, put_id(&log, 51, 1, &got));
    assert_int_equal(got.first, 5);
    /* trimmed: the catalogue remembers it */
    fake_remember(log.db, A,
                  (struct sysdb_batch_id){
                      .batch_id = log_uuid(50), .request_hash = 1, .first = 3, .count = 2});
    fake_commit(log.db, A, 7, 4, 1);
    OK(&log, wal_trim(log.wal, A, 7, &log.err));
    OK(&log, put_id(&log, 50, 1, &got));
    assert_true(got.repeated);
    assert_int_equal(put_id(&log, 50, 2, &got), OCH_CONFLICT);
    OK(&log, put_id(&log, 51, 1, &got)); // this one it does not
    assert_false(got.repeated);
    assert_int_equal(got.first, 7);
    log_done(&log);
}

static void D17_a_batch_id_is_forgotten_after_fifteen_minutes(void **state)
{
    (void)state;
    struct log log;
    struct wal_appended got;
    log_init(&log, false);
    fake_add(log.db, A);
    log_open(&log);
    OK(&log, put_id(&log, 50, 1, &got));
    OK(&log, put_id(&log, 60, 1, &got));
    clock_manual_advance(&log.clock, 14 * 60 * 1000000000ull);
    OK(&log, put_id(&log, 50, 1, &got));
    assert_true(got.repeated);
    clock_manual_advance(&log.clock, 61 * 1000000000ull);
    OK(&log, put_id(&log, 50, 9, &got));
    assert_false(got.repeated);
    assert_int_equal(got.first, 4);
    log_kill(&log);
    log_open(&log);
    OK(&log, put_id(&log, 50, 9, &got)); // the newer one counts
    assert_true(got.repeated);
    assert_int_equal(got.first, 4);
    log_done(&log);
}

struct sender {
    struct log *log;
    struct thread thread;
    struct wal_appended got;
    och_code code;
};
static void send_same_id(void *arg)
{
    struct sender *s = arg;
    struct payload *payload = log_payload(70, 2, 4, 3);
    struct wal_append ask = {.collection = A,
                             .payload = payload,
                             .count = 2,
                             .dimension = 4,
                             .batch_id = log_uuid(70),
                             .request_hash = 5};
    s->code = wal_append(s->log->wal, &ask, &s->got, NULL);
    payload_unref(payload);
}

static void D17_the_same_id_sent_by_several_at_once_is_applied_once(void **state)
{
    (void)state;
    struct log log;
    struct sender senders[6];
    size_t fresh = 0;
    log_init(&log, false);
    fake_add(log.db, A);
    log_open(&log);
    for (size_t i = 0; i < COUNT_OF(senders); i++) {
        senders[i] = (struct sender){.log = &log};
        OK(&log, thread_start(&senders[i].thread, "s", 0, send_same_id, &senders[i], &log.err));
    }
    for (size_t i = 0; i < COUNT_OF(senders); i++) {
        thread_join(&senders[i].thread);
        assert_int_equal(senders[i].code, OCH_OK);
        assert_int_equal(senders[i].got.first, 0);
        assert_int_equal(senders[i].got.count, 2);
        fresh += !senders[i].got.repeated;
    }
    assert_int_equal(fresh, 1);
    assert_int_equal(log.told.len, 1);
    log_done(&log);
}

static void a_trim_lets_segments_go_and_the_tail_begins_later(void **state)
{
    (void)state;
    struct log log;
    struct wal_stats stats;
    log_init(&log, false);
    fake_add(log.db, A);
    fake_add(log.db, B);
    log_open(&log);
    log_add(&log, B, 999, 1, 10, 0);
    for (uint64_t i = 0; i < 60; i++)
        log_add(&log, A, i, 1, 8000, i);
    wal_stats(log.wal, &stats);
    uint64_t before = stats.segments;
    assert_true(before > 6);
    fake_commit(log.db, A, 50, 4, 1);
    OK(&log, wal_trim(log.wal, A, 50, &log.err));
    wal_stats(log.wal, &stats);
    assert_true(stats.segments < before - 4); // B holds the first one, not those between
    assert_int_equal(stats.backlog_batches, 11);
    for (int i = 0; i < 2000 && fake_segments(log.db) != stats.segments; i++) {
        sched_sleep_ns(1000000); // the helper is at a spare
        wal_stats(log.wal, &stats);
    }
    assert_int_equal(fake_segments(log.db), stats.segments);
    struct wal_batch **none;
    size_t count;
    assert_int_equal(wal_tail(log.wal, A, 49, &none, &count, &log.err), OCH_STALE);
    for (int round = 0; round < 2; round++) {
        struct tail tail = log_tail(&log, A, 50);
        assert_int_equal(tail.len, 10);
        log_batch_is(tail.at[0], 50, 1, 8000, 50);
        tail_done(&tail);
        tail = log_tail(&log, B, 0);
        assert_int_equal(tail.len, 1);
        tail_done(&tail);
        log_kill(&log);
        log_open(&log);
    }
    log_done(&log);
}

static void trim_all(void *context)
{
    struct log *log = context;
    OK(log, wal_trim(log->wal, A, 1, &log->err));
}

static void a_trim_in_the_middle_of_a_flush_leaves_the_room_that_it_reserved(void **state)
{
    (void)state;
    struct log log;
    log_init(&log, false);
    fake_add(log.db, A);
    log_open(&log);
    log_add(&log, A, 1, 1, 5, 0);
    log_settle(&log, 2); // the note of what is durable asks for the generation too
    fake_commit(log.db, A, 1, 4, 1);
    log.db->context = &log;
    log.db->on_generation = trim_all;
    log_add(&log, A, 2, 1, 5, 1);
    assert_null(log.db->on_generation);
    struct tail tail = log_tail(&log, A, 1);
    assert_int_equal(tail.len, 1);
    tail_done(&tail);
    log_done(&log);
}

static void a_trim_of_everything_rolls_so_that_the_space_comes_back(void **state)
{
    (void)state;
    struct log log;
    struct wal_stats stats;
    log_init(&log, false);
    log.options.segment_bytes = 1 << 20;
    fake_add(log.db, A);
    log_open(&log);
    for (uint64_t i = 0; i < 10; i++)
        log_add(&log, A, i, 1, 60000, i);
    wal_stats(log.wal, &stats);
    uint64_t oldest = stats.oldest_segment;
    fake_commit(log.db, A, 10, 4, 1);
    OK(&log, wal_trim(log.wal, A, 10, &log.err));
    for (int i = 0; i < 2000; i++) { // the helper does it
        wal_stats(log.wal, &stats);
        if (stats.oldest_segment > oldest)
            break;
        sched_sleep_ns(1000000);
    }
    assert_true(stats.oldest_segment > oldest);
    log_add(&log, A, 11, 1, 5, 10);
    log_kill(&log);
    log_open(&log);
    log_add(&log, A, 12, 1, 5, 11);
    log_done(&log);
}

static void the_oldest_and_all_collections_with_batches_are_told(void **state)
{
    (void)state;
    struct log log;
    uuid ids[4];
    log_init(&log, false);
    fake_add(log.db, A);
    fake_add(log.db, B);
    log_open(&log);
    assert_int_equal(wal_oldest_collections(log.wal, ids, 4), 0);
    log_add(&log, B, 1, 2, 10, 0);
    log_add(&log, A, 2, 3, 10, 0);
    log_add(&log, B, 3, 4, 10, 2);
    assert_int_equal(wal_oldest_collections(log.wal, ids, 4), 2);
    assert_true(uuid_equal(ids[0], B) && uuid_equal(ids[1], A));
    assert_int_equal(wal_oldest_collections(log.wal, ids, 1), 1);
    size_t cursor = 0, seen = 0;
    uint64_t rows, bytes, total = 0;
    int64_t oldest;
    while (wal_next_collection(log.wal, &cursor, &ids[0], &rows, &bytes, &oldest)) {
        assert_int_equal(rows, uuid_equal(ids[0], A) ? 3 : 6);
        assert_true(oldest > 0);
        total += bytes;
        seen++;
    }
    assert_int_equal(seen, 2);
    struct wal_stats stats;
    wal_stats(log.wal, &stats);
    assert_int_equal(stats.backlog_bytes, total);
    log_done(&log);
}

static void the_backlog_slows_and_then_stops_writers(void **state)
{
    (void)state;
    struct log log;
    struct wal_appended got;
    log_init(&log, false);
    log.options.slow_bytes = 50000;
    log.options.stop_bytes = 100000;
    fake_add(log.db, A);
    log_open(&log);
    uint64_t count = 0;
    och_code code;
    while ((code = log_put(&log, A, count, 1, 4, 9000, &got, &log.err)) == OCH_OK)
        count++;
    assert_int_equal(code, OCH_BUSY);
    assert_true(count >= 10 && count <= 12);
    fake_commit(log.db, A, count, 4, 1);
    OK(&log, wal_trim(log.wal, A, count, &log.err));
    log_add(&log, A, 1, 1, 5, count);
    log_done(&log);
}

static void a_batch_larger_than_a_segment_gets_one_of_its_own(void **state)
{
    (void)state;
    struct log log;
    log_init(&log, false);
    fake_add(log.db, A);
    log_open(&log);
    log_add(&log, A, 1, 1, 100, 0);
    log_add(&log, A, 2, 1, 300000, 1);
    log_add(&log, A, 3, 1, 100, 2);
    for (int round = 0; round < 2; round++) {
        struct tail tail = log_tail(&log, A, 0);
        assert_int_equal(tail.len, 3);
        log_batch_is(tail.at[1], 2, 1, 300000, 1);
        tail_done(&tail);
        log_kill(&log);
        log_open(&log);
    }
    log_done(&log);
}

static void one_flush_serves_all_who_wait(void **state)
{
    (void)state;
    struct log log;
    struct worker workers[8];
    struct wal_stats stats;
    log_init(&log, false);
    log.options.io = io_posix();
    log.options.folder = "build/wal-test-log";
    log.options.segment_bytes = 0;
    struct arena arena;
    struct io_entry *entries;
    size_t count;
    arena_init(&arena, NULL, 0);
    if (io_list(io_posix(), log.options.folder, &arena, &entries, &count, NULL) == OCH_OK) {
        for (size_t i = 0; i < count; i++) {
            char path[300];
            (void)snprintf(path, sizeof(path), "%s/%s", log.options.folder, entries[i].name);
            assert_int_equal(io_remove(io_posix(), path, NULL), OCH_OK);
        }
    }
    fake_add(log.db, A);
    fake_add(log.db, B);
    log_open(&log);
    for (size_t i = 0; i < COUNT_OF(workers); i++) {
        workers[i] = (struct worker){.log = &log, .number = i, .rounds = 100};
        OK(&log, thread_start(&workers[i].thread, "worker", 0, work, &workers[i], &log.err));
    }
    for (size_t i = 0; i < COUNT_OF(workers); i++) {
        thread_join(&workers[i].thread);
        assert_int_equal(workers[i].done, 100);
    }
    wal_stats(log.wal, &stats);
    assert_int_equal(stats.appends, 800);
    assert_true(stats.flushes * 2 < stats.appends);
    check_contiguous(&log, A);
    log_close(&log);
    log_open(&log);
    log_close(&log);
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(io_list(io_posix(), log.options.folder, &arena, &entries, &count, NULL),
                         OCH_OK);
        for (size_t j = 0; j < count; j++) {
            char path[300];
            (void)snprintf(path, sizeof(path), "%s/%s", log.options.folder, entries[j].name);
            assert_int_equal(io_remove(io_posix(), path, NULL), OCH_OK);
        }
    }
    assert_int_equal(io_remove(io_posix(), log.options.folder, NULL), OCH_OK);
    arena_done(&arena);
    log_done(&log);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_append_is_delivered_before_it_is_acknowledged),
        cmocka_unit_test(what_is_appended_comes_back_from_the_tail_and_after_reopening),
        cmocka_unit_test(the_first_stored_vector_fixes_the_dimension),
        cmocka_unit_test(an_unknown_collection_is_not_found),
        cmocka_unit_test(D33_a_decision_sees_the_head_and_may_append_nothing),
        cmocka_unit_test(D33_nothing_gets_in_between_a_decision_and_its_append),
        cmocka_unit_test(created_at_never_falls_though_the_clock_does),
        cmocka_unit_test(threads_get_disjoint_offsets_in_the_order_of_delivery),
        cmocka_unit_test(D17_a_batch_id_is_applied_once),
        cmocka_unit_test(D17_a_batch_id_is_forgotten_after_fifteen_minutes),
        cmocka_unit_test(D17_the_same_id_sent_by_several_at_once_is_applied_once),
        cmocka_unit_test(a_trim_lets_segments_go_and_the_tail_begins_later),
        cmocka_unit_test(a_trim_in_the_middle_of_a_flush_leaves_the_room_that_it_reserved),
        cmocka_unit_test(a_trim_of_everything_rolls_so_that_the_space_comes_back),
        cmocka_unit_test(the_oldest_and_all_collections_with_batches_are_told),
        cmocka_unit_test(the_backlog_slows_and_then_stops_writers),
        cmocka_unit_test(a_batch_larger_than_a_segment_gets_one_of_its_own),
        cmocka_unit_test(one_flush_serves_all_who_wait),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
