/* SPDX-License-Identifier: Apache-2.0 */
/* Random histories against an obvious model: arrays of batches per collection. */
#include "unit/wal/log_fixture.h"

#define COLLECTIONS 5
#define BATCHES     400

struct model_batch {
    uint64_t number, first;
    uint32_t count;
    uint64_t id, hash; /* 0: none */
};
struct model {
    uuid id;
    bool there;
    struct model_batch at[BATCHES];
    size_t count, start; /* trimmed before `start` */
    uint64_t head;
};

static uint64_t seed_now;

#define SAME(a, b)                                                                               \
    do {                                                                                         \
        if ((a) != (b))                                                                          \
            fail_msg("seed %llu, line %d: %llu != %llu", (unsigned long long)seed_now, __LINE__, \
                     (unsigned long long)(a), (unsigned long long)(b));                          \
    } while (0)

static size_t bytes_of(uint64_t number)
{
    return number % 9 == 0 ? 20000 : number % 400;
}

static void model_put(struct log *log, struct model *m, uint64_t number, uint64_t id, uint64_t hash)
{
    uint32_t count = 1 + (uint32_t)(number % 4);
    struct payload *payload = log_payload(number, count, 4, bytes_of(number));
    struct wal_append ask = {.collection = m->id,
                             .payload = payload,
                             .count = count,
                             .dimension = 4,
                             .fixes_dimension = true,
                             .batch_id = id ? log_uuid(id) : (uuid){{0}},
                             .request_hash = hash};
    struct wal_appended got;
    och_error err = {0};
    och_code code = wal_append(log->wal, &ask, &got, &err);
    payload_unref(payload);
    const struct model_batch *known = NULL;
    for (size_t i = m->start; id && i < m->count;
         i++) // the small catalogue remembers none of the trimmed
        known = m->at[i].id == id ? &m->at[i] : known;
    if (!m->there) {
        SAME(code, OCH_NOT_FOUND);
    } else if (known && known->hash != hash) {
        SAME(code, OCH_CONFLICT);
    } else if (known) {
        SAME(code, OCH_OK);
        SAME(got.repeated, true);
        SAME(got.first, known->first);
        SAME(got.count, known->count);
    } else {
        SAME(code, OCH_OK);
        SAME(got.repeated, false);
        SAME(got.first, m->head);
        SAME(got.count, count);
        m->at[m->count++] = (struct model_batch){number, m->head, count, id, hash};
        m->head += count;
    }
}

static void model_trim(struct log *log, struct model *m, struct random *random)
{
    if (!m->there || m->start == m->count)
        return;
    size_t to = m->start + 1 + (size_t)random_below(random, m->count - m->start);
    uint64_t offset = to == m->count ? m->head : m->at[to].first;
    fake_commit(log->db, m->id, offset, 4, 1);
    if (random_below(random, 4)) // else the process ends before it trims
        OK(log, wal_trim(log->wal, m->id, offset, &log->err));
    else {
        log_kill(log);
        log_open(log);
    }
    m->start = to;
}

static void model_check(struct log *log, const struct model *m)
{
    struct wal_batch **none;
    size_t count;
    uint64_t from = m->start == m->count ? m->head : m->at[m->start].first, head;
    uint32_t dimension;
    if (!m->there) {
        SAME(wal_tail(log->wal, m->id, 0, &none, &count, NULL), OCH_NOT_FOUND);
        return;
    }
    OK(log, wal_head(log->wal, m->id, &head, &dimension, &log->err));
    SAME(head, m->head);
    SAME(dimension, m->count ? 4 : 0);
    if (from > 0)
        SAME(wal_tail(log->wal, m->id, from - 1, &none, &count, NULL), OCH_STALE);
    struct tail tail = log_tail(log, m->id, from);
    SAME(tail.len, m->count - m->start);
    for (size_t i = 0; i < tail.len; i++) {
        const struct model_batch *want = &m->at[m->start + i];
        log_batch_is(tail.at[i], want->number, want->count, bytes_of(want->number), want->first);
    }
    tail_done(&tail);
}

static void model_drop(struct log *log, struct model *m, struct random *random)
{
    if (!m->there)
        return;
    OK(log, wal_seal(log->wal, m->id, &log->err));
    if (random_below(random, 3) == 0) { // the drop itself failed
        wal_unseal(log->wal, m->id);
        return;
    }
    fake_drop(log->db, m->id);
    m->there = false;
    if (random_below(random, 3)) {
        wal_forget(log->wal, m->id);
    } else {
        log_kill(log);
        log_open(log);
    }
}

/* Into a collection that is new: the model's copy begins where the source's parts end. */
static void model_fork(struct log *log, const struct model *from, struct model *to, uint64_t id)
{
    if (!from->there || to->there)
        return;
    uint64_t start = from->start == from->count ? from->head : from->at[from->start].first;
    to->id = log_uuid(id);
    fake_add(log->db, to->id);
    fake_commit(log->db, to->id, start, from->count ? 4 : 0, 1);
    struct wal_origin origin = {to->id, start, from->count ? 4 : 0, 1};
    OK(log, wal_fork(log->wal, from->id, &origin, from->head, &log->err));
    to->there = true;
    to->start = to->count = 0;
    to->head = from->head;
    for (size_t i = from->start; i < from->count; i++) {
        to->at[to->count] = from->at[i];
        to->at[to->count++].id = 0;
    }
    if (!to->count && from->count) // something, so that the model knows of a dimension
        to->at[to->count++] = (struct model_batch){.first = start}, to->start = 1;
}

static void model_count(struct log *log, const struct model *models)
{
    struct wal_stats stats;
    uint64_t rows, bytes, sum = 0, live = 0;
    int64_t oldest;
    size_t cursor = 0, want = 0;
    uuid id;
    for (size_t i = 0; i < COLLECTIONS; i++) {
        want += models[i].there && models[i].start < models[i].count;
        live += models[i].there ? models[i].count - models[i].start : 0;
    }
    while (wal_next_collection(log->wal, &cursor, &id, &rows, &bytes, &oldest)) {
        want--;
        sum += bytes;
    }
    SAME(want, 0);
    wal_stats(log->wal, &stats);
    SAME(stats.backlog_batches, live);
    SAME(stats.backlog_bytes, sum);
}

static void run(uint64_t seed)
{
    static struct model models[COLLECTIONS];
    struct log log;
    struct random random;
    uint64_t number = 1, ids = 1000;
    seed_now = seed;
    memset(models, 0, sizeof(models));
    random_seed(&random, seed);
    log_init(&log, false);
    log.options.segment_bytes = 16384ull << random_below(&random, 4);
    for (size_t i = 0; i < COLLECTIONS - 1; i++) {
        models[i].id = log_uuid(100 + i);
        models[i].there = true;
        fake_add(log.db, models[i].id);
    }
    models[COLLECTIONS - 1].id = log_uuid(99);
    log_open(&log);
    for (int step = 0; step < 150; step++) {
        struct model *m = &models[random_below(&random, COLLECTIONS)];
        uint64_t what = random_below(&random, 100);
        if (what < 60) {
            uint64_t id = random_below(&random, 3) ? 0 : 1 + random_below(&random, 12);
            model_put(&log, m, number++, id, 1 + random_below(&random, 5) / 4);
        } else if (what < 75) {
            model_trim(&log, m, &random);
        } else if (what < 85) {
            model_check(&log, m);
        } else if (what < 90) {
            log_kill(&log);
            log_open(&log);
        } else if (what < 95) {
            log_close(&log);
            log_open(&log);
        } else if (what < 97) {
            model_drop(&log, m, &random);
        } else {
            model_fork(&log, &models[random_below(&random, COLLECTIONS)], m, ids++);
        }
    }
    for (size_t i = 0; i < COLLECTIONS; i++)
        model_check(&log, &models[i]);
    model_count(&log, models);
    struct buf report;
    uint64_t faults, frames;
    buf_init(&report, BUF_MAX_NONE);
    log_close(&log);
    OK(&log, wal_verify(&log.options, &report, &faults, &frames, &log.err));
    SAME(faults, 0);
    buf_done(&report);
    log_done(&log);
}

static void the_log_does_what_arrays_do(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 300; seed++)
        run(seed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_log_does_what_arrays_do),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
