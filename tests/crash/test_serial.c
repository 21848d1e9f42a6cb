/* SPDX-License-Identifier: Apache-2.0 */
/* Transactions are serialisable: many threads read, think and commit on one collection while it is flushed, merged and written to by others, and what
 * holds after each transaction by itself holds always.  Counters lose no increment, transfers keep the sum, of each group somebody stays on (write
 * skew through filters), and no place is taken twice (phantoms).  Meant for tsan too.
 * OCHRE_CRASH_SECONDS or OCHRE_SOAK_MINUTES: how long; OCHRE_CRASH_FIRST: seed. */
#include "base/io_sim.h"
#include "mode/database.h"
#include "model/filter.h"

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define HANDS    4
#define COUNTERS 4
#define ACCOUNTS 6
#define MONEY    100
#define GROUPS   3
#define MEMBERS  3
#define PLACES   5

struct world {
    struct io *io;
    struct settings settings;
    struct database *database;
    uuid collection;
    _Atomic uint64_t name; /* of the next record */
    _Atomic bool stop, failed;
    _Atomic uint64_t increments, commits, conflicts, stale, others;
    char failure[600];
};
struct hand {
    struct world *world;
    struct thread thread;
    struct random random;
};

static const struct gateway_scope scope = {.tenant = {(const uint8_t *)"default_tenant", 14},
                                           .database = {(const uint8_t *)"default_database", 16}};

PRINTF_LIKE(2, 3) static void broken(struct world *w, const char *format, ...)
{
    if (atomic_exchange(&w->failed, true))
        return;
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(w->failure, sizeof(w->failure), format, arguments);
    va_end(arguments);
    atomic_store(&w->stop, true);
}

/* ---- one transaction ---- */

#define WRITES_MOST 4
struct txn {
    struct world *world;
    struct arena arena;
    uint64_t token;
    struct batch_input_row rows[WRITES_MOST];
    float vectors[WRITES_MOST][2];
    uint32_t count;
    bool sound; /* every read went well */
};

static void txn_begin(struct txn *t, struct world *w)
{
    memset(t, 0, sizeof(*t));
    t->world = w;
    t->sound = true;
    arena_init(&t->arena, NULL, 0);
}

struct row {
    char id[32];
    int64_t n;
};

/* Rows that match, by insertion.  Stale tokens and a busy database end the transaction; all else is wrong. */
static size_t txn_read(struct txn *t, const char *where, uint64_t limit, struct row *rows,
                       size_t most)
{
    struct filter_node *node = NULL;
    struct json_value value;
    struct json_fault fault;
    struct query_result result;
    och_error err = {0};
    if (!t->sound)
        return 0;
    och_code code = json_read(slice_of(where), NULL, &t->arena, &value, &fault, &err);
    if (code == OCH_OK)
        code = filter_parse_where(&value, &t->arena, &node, &err);
    struct plan plan = {.kind = PLAN_GET,
                        .collection = t->world->collection,
                        .filter = node,
                        .fields = RECORD_METADATA,
                        .limit = limit};
    if (code == OCH_OK)
        code = gateway_read_conditional(database_gateway(t->world->database), &scope, &plan,
                                        &t->arena, &t->token, &result, &err);
    t->sound = code == OCH_OK;
    if (code == OCH_STALE)
        atomic_fetch_add(&t->world->stale, 1);
    else if (code != OCH_OK && code != OCH_BUSY)
        broken(t->world, "read: %s", err.message);
    if (!t->sound)
        return 0;
    size_t count = result.hits->count;
    if (count > most)
        broken(t->world, "%s: %zu rows", where, count);
    for (size_t i = 0; i < count && i < most; i++) {
        const struct record *record = &result.hits->rows[i].record;
        struct meta_entry entry;
        memset(&rows[i], 0, sizeof(rows[i]));
        memcpy(rows[i].id, record->id.at, record->id.len < 31 ? record->id.len : 31);
        rows[i].n = meta_find(record->metadata, SLICE("n"), &entry) ? meta_int(&entry) : -1;
    }
    query_result_done(&result);
    return count;
}

/* kind, of and n: metadata of the record. */
static void txn_write(struct txn *t, enum batch_op op, const char *id, const char *metadata)
{
    struct batch_input_row *row = &t->rows[t->count];
    assert_true(t->count < WRITES_MOST);
    *row = (struct batch_input_row){.op = (uint8_t)op, .id = arena_copy(&t->arena, slice_of(id))};
    if (op == BATCH_ADD)
        row->vector = t->vectors[t->count];
    if (metadata) {
        struct json_value value;
        struct json_fault fault;
        struct buf encoded;
        buf_init(&encoded, BUF_MAX_NONE);
        if (json_read(slice_of(metadata), NULL, &t->arena, &value, &fault, NULL) != OCH_OK ||
            meta_from_json(&value, 0, &encoded, NULL) != OCH_OK)
            broken(t->world, "metadata %s", metadata);
        row->metadata = arena_copy(&t->arena, buf_view(&encoded));
        row->metadata_state = FIELD_VALUE;
        buf_done(&encoded);
    }
    t->count++;
}

/* True: applied. */
static bool txn_commit(struct txn *t)
{
    struct world *w = t->world;
    struct gateway_commit commit = {.collection = w->collection,
                                    .read_token = t->token,
                                    .input = {.count = t->count, .dimension = 0, .rows = t->rows}};
    struct gateway_committed committed;
    och_error err = {0};
    och_code code = OCH_BUSY;
    for (uint32_t i = 0; i < t->count; i++)
        if (t->rows[i].vector)
            commit.input.dimension = 2;
    if (t->sound && t->count)
        code = gateway_commit(database_gateway(w->database), &scope, &commit, &committed, &err);
    if (code == OCH_OK && committed.count != t->count)
        broken(w, "%u of %u operations", committed.count, t->count);
    atomic_fetch_add(&w->commits, code == OCH_OK);
    atomic_fetch_add(&w->conflicts, code == OCH_CONFLICT);
    atomic_fetch_add(&w->stale, code == OCH_STALE);
    if (code != OCH_OK && code != OCH_CONFLICT && code != OCH_STALE && code != OCH_BUSY)
        broken(w, "commit: %s", err.message);
    if (code != OCH_OK)
        gateway_transaction_end(database_gateway(w->database), t->token);
    arena_done(&t->arena);
    return code == OCH_OK;
}

PRINTF_LIKE(2, 3) static const char *text(struct txn *t, const char *format, ...)
{
    char line[200];
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(line, sizeof(line), format, arguments);
    va_end(arguments);
    return arena_printf(&t->arena, "%s", line);
}

#define WHERE "{\"$and\":[{\"kind\":\"%s\"},{\"of\":%d}]}"
#define ROW   "{\"kind\":\"%s\",\"of\":%d,\"n\":%" PRId64 "}"

/* ---- what hands do ---- */

static void increment(struct hand *hand)
{
    struct txn t;
    struct row row;
    txn_begin(&t, hand->world);
    int counter = (int)random_below(&hand->random, COUNTERS);
    if (txn_read(&t, text(&t, WHERE, "counter", counter), 1, &row, 1) == 1)
        txn_write(&t, BATCH_UPDATE, row.id, text(&t, ROW, "counter", counter, row.n + 1));
    if (txn_commit(&t))
        atomic_fetch_add(&hand->world->increments, 1);
}

static void transfer(struct hand *hand)
{
    struct txn t;
    struct row rows[ACCOUNTS];
    txn_begin(&t, hand->world);
    size_t count = txn_read(&t, "{\"kind\":\"account\"}", 1000, rows, ACCOUNTS);
    if (t.sound) {
        int64_t sum = 0;
        for (size_t i = 0; i < count; i++)
            sum += rows[i].n;
        if (count != ACCOUNTS || sum != ACCOUNTS * MONEY)
            broken(hand->world, "%zu accounts hold %" PRId64, count, sum);
        size_t from = (size_t)random_below(&hand->random, ACCOUNTS),
               to = (from + 1 + (size_t)random_below(&hand->random, ACCOUNTS - 1)) % ACCOUNTS;
        int64_t amount = (int64_t)random_below(&hand->random, 30);
        if (rows[from].n >= amount) {
            txn_write(&t, BATCH_UPDATE, rows[from].id,
                      text(&t, "{\"n\":%" PRId64 "}", rows[from].n - amount));
            txn_write(&t, BATCH_UPDATE, rows[to].id,
                      text(&t, "{\"n\":%" PRId64 "}", rows[to].n + amount));
        }
    }
    (void)txn_commit(&t);
}

/* Who is on may leave only while another one is: two who both see the other must not both go. */
static void leave_or_come(struct hand *hand)
{
    struct txn t;
    struct row rows[MEMBERS], off[MEMBERS];
    txn_begin(&t, hand->world);
    int group = (int)random_below(&hand->random, GROUPS);
    size_t on =
        txn_read(&t, text(&t, "{\"$and\":[{\"kind\":\"member\"},{\"of\":%d},{\"n\":1}]}", group),
                 100, rows, MEMBERS);
    if (t.sound && on == 0)
        broken(hand->world, "nobody of group %d is on", group);
    if (on > 1 && random_below(&hand->random, 3)) {
        txn_write(&t, BATCH_UPDATE, rows[random_below(&hand->random, on)].id, "{\"n\":0}");
    } else {
        size_t away = txn_read(
            &t, text(&t, "{\"$and\":[{\"kind\":\"member\"},{\"of\":%d},{\"n\":0}]}", group), 100,
            off, MEMBERS);
        if (t.sound && on + away != MEMBERS)
            broken(hand->world, "group %d has %zu on and %zu off", group, on, away);
        if (away)
            txn_write(&t, BATCH_UPDATE, off[0].id, "{\"n\":1}");
    }
    (void)txn_commit(&t);
}

/* A free place is taken by a record with a name of its own, so only the filter can tell that two want it. */
static void take_or_free(struct hand *hand)
{
    struct txn t;
    struct row rows[4];
    txn_begin(&t, hand->world);
    int place = (int)random_below(&hand->random, PLACES);
    size_t count = txn_read(&t, text(&t, WHERE, "place", place), 3, rows, COUNT_OF(rows));
    if (count > 1)
        broken(hand->world, "place %d is taken by %s and %s", place, rows[0].id, rows[1].id);
    uint64_t name = atomic_fetch_add(&hand->world->name, 1);
    if (count)
        txn_write(&t, BATCH_DELETE, rows[0].id, NULL);
    else
        txn_write(&t, BATCH_ADD, text(&t, "place-%" PRIu64, name),
                  text(&t, ROW, "place", place, (int64_t)0));
    (void)txn_commit(&t);
}

static void run_hand(void *arg)
{
    struct hand *hand = arg;
    static void (*const deeds[])(struct hand * hand) = {increment, transfer, leave_or_come,
                                                        take_or_free};
    while (!atomic_load(&hand->world->stop))
        deeds[random_below(&hand->random, COUNT_OF(deeds))](hand);
}

/* Writes that no transaction reads: they make flushes, and never a conflict. */
static void run_other(void *arg)
{
    struct hand *hand = arg;
    struct world *w = hand->world;
    while (!atomic_load(&w->stop)) {
        struct txn t;
        txn_begin(&t, w);
        for (int i = 0; i < WRITES_MOST; i++)
            txn_write(&t, BATCH_UPSERT, text(&t, "other-%d", (int)random_below(&hand->random, 300)),
                      text(&t, ROW, "other", 1, (int64_t)i));
        for (int i = 0; i < WRITES_MOST; i++)
            t.rows[i].vector = t.vectors[i];
        atomic_fetch_add(&w->others, txn_commit(&t));
    }
}

/* ---- the whole ---- */

static uint64_t number_from(const char *name, uint64_t fallback)
{
    const char *value = getenv(name);
    return value ? strtoull(value, NULL, 10) : fallback;
}

static void fill(struct world *w, const char *kind, int of, int number, int64_t n)
{
    struct txn t;
    txn_begin(&t, w);
    txn_write(&t, BATCH_ADD, text(&t, "%s-%d-%d", kind, of, number), text(&t, ROW, kind, of, n));
    if (!txn_commit(&t))
        fail_msg("%s", w->failure);
}

static void world_open(struct world *w)
{
    const struct setting_flag flags[] = {{"tail_rows_max", "150"},
                                         {"memory_limit", "512MiB"},
                                         {"log_segment_bytes", "1MiB"},
                                         {"compact_idle_ms", "20"}};
    struct settings_input input = {.flags = flags, .flag_count = COUNT_OF(flags)};
    const struct sysdb_collection *row = NULL;
    struct gateway_collection_new spec = {.name = SLICE("serial")};
    och_error err = {0};
    if (settings_init(&input, &w->settings, &err) != OCH_OK)
        fail_msg("settings: %s", err.message);
    w->io = io_sim_new(false);
    struct database_options options = {.path = "data",
                                       .create = true,
                                       .settings = &w->settings,
                                       .io = w->io,
                                       .start_compactor = true};
    if (database_open(&options, &w->database, &err) != OCH_OK ||
        gateway_collection_create(database_gateway(w->database), &scope, &spec, &row, &err) !=
            OCH_OK)
        fail_msg("open: %s", err.message);
    w->collection = row->id;
    sysdb_collection_unref(row);
    for (int i = 0; i < COUNTERS; i++)
        fill(w, "counter", i, 0, 0);
    for (int i = 0; i < ACCOUNTS; i++)
        fill(w, "account", i, 0, MONEY);
    for (int i = 0; i < GROUPS * MEMBERS; i++)
        fill(w, "member", i / MEMBERS, i % MEMBERS, 1);
}

static void start(struct world *w, struct hand *hand, uint64_t index, void (*run)(void *))
{
    och_error err = {0};
    hand->world = w;
    random_seed(&hand->random, number_from("OCHRE_CRASH_FIRST", 1) * 100 + index);
    if (thread_start(&hand->thread, "hand", 1u << 20, run, hand, &err) != OCH_OK)
        fail_msg("thread: %s", err.message);
}

static int64_t sum_of_counters(struct world *w)
{
    struct txn t;
    struct row rows[COUNTERS];
    int64_t sum = 0;
    txn_begin(&t, w);
    size_t count = txn_read(&t, "{\"kind\":\"counter\"}", COUNTERS, rows, COUNTERS);
    for (size_t i = 0; i < count; i++)
        sum += rows[i].n;
    (void)txn_commit(&t);
    return sum;
}

static void what_holds_after_each_transaction_holds_always(void **state)
{
    (void)state;
    static struct world world;
    static struct hand hands[HANDS], other;
    struct world *w = &world;
    uint64_t minutes = number_from("OCHRE_SOAK_MINUTES", 0);
    uint64_t seconds = number_from("OCHRE_CRASH_SECONDS", minutes ? minutes * 60 : 5);
    world_open(w);
    for (uint64_t i = 0; i < HANDS; i++)
        start(w, &hands[i], i, run_hand);
    start(w, &other, HANDS, run_other);
    uint64_t end = sched_mono_ns() + seconds * 1000000000u;
    while (!atomic_load(&w->stop) && sched_mono_ns() < end)
        sched_sleep_ns(10000000);
    atomic_store(&w->stop, true);
    for (int i = 0; i < HANDS; i++)
        thread_join(&hands[i].thread);
    thread_join(&other.thread);
    int64_t sum = sum_of_counters(w);
    if (!w->failed && sum != (int64_t)w->increments)
        broken(w, "counters stand at %" PRId64 " after %" PRIu64 " increments", sum,
               (uint64_t)w->increments);
    struct compactor_stats stats;
    compactor_stats(database_compactor(w->database), &stats);
    och_error err = {0};
    och_code code = database_close(w->database, &err);
    database_free(w->database);
    settings_done(&w->settings);
    io_sim_free(w->io);
    if (atomic_load(&w->failed))
        fail_msg("%s", w->failure);
    assert_int_equal(code, OCH_OK);
    printf("%" PRIu64 " s: %" PRIu64 " commits, %" PRIu64 " of them others', %" PRIu64
           " conflicts, %" PRIu64 " stale, %" PRIu64 " flushes, %" PRIu64 " merges\n",
           seconds, (uint64_t)w->commits, (uint64_t)w->others, (uint64_t)w->conflicts,
           (uint64_t)w->stale, stats.flushes, stats.merges);
    assert_true(w->increments > 0 && w->conflicts > 0 && stats.flushes > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_holds_after_each_transaction_holds_always)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
