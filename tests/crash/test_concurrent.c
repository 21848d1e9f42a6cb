/* SPDX-License-Identifier: Apache-2.0 */
/* Writers, readers, a compactor with tiny tails, and collections that come and go, all at once (invariants 2, 3, 12).  Each batch writes all rows of a
 * group under one number, which stands in id order, metadata and vector of every row: no read may show half a batch, two versions of a row, or an
 * id twice; a collection that only grows never shrinks; writers read what they wrote.  Meant for tsan too.
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

#define DIM       4
#define WRITERS   3
#define READERS   3
#define GROUPS    16 /* per writer */
#define SIZE_MOST 40
#define GROWTH    7 /* rows of a batch of the collection that only grows */

struct world {
    struct io *io;
    struct settings settings;
    struct database *database;
    uuid shared, growing;
    _Atomic uint64_t number; /* of the last batch; exact in a float */
    _Atomic uint64_t grown;  /* acknowledged batches of the growing one */
    _Atomic bool stop, failed;
    _Atomic uint64_t writes, reads, comings;
    char failure[600];
};
struct hand {
    struct world *world;
    struct thread thread;
    struct random random;
    int index;
    uint64_t state[GROUPS]; /* writers: the number of each group, 0: deleted */
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

static uint32_t size_of(int writer, int group)
{
    static const uint32_t sizes[] = {1, 2, 5, 13, SIZE_MOST};
    return sizes[(unsigned)(writer + group) % COUNT_OF(sizes)];
}

/* ---- calls ---- */

static slice metadata_of(struct arena *arena, uint64_t number, int group)
{
    struct json_value value;
    struct json_fault fault;
    struct buf encoded;
    buf_init(&encoded, BUF_MAX_NONE);
    const char *text = arena_printf(arena, "{\"batch\":%" PRIu64 ",\"group\":%d}", number, group);
    slice ret = SLICE_NONE;
    if (json_read(slice_of(text), NULL, arena, &value, &fault, NULL) == OCH_OK &&
        meta_from_json(&value, 0, &encoded, NULL) == OCH_OK)
        ret = arena_copy(arena, buf_view(&encoded));
    buf_done(&encoded);
    return ret;
}

/* All rows "<prefix><group>-<i>" under one number. */
static och_code put(struct world *w, uuid collection, uint8_t op, const char *prefix, int group,
                    uint32_t size, uint64_t number, och_error *err)
{
    struct arena arena;
    arena_init(&arena, NULL, 0);
    struct batch_input_row rows[SIZE_MOST];
    float vectors[SIZE_MOST][DIM];
    slice metadata = op == BATCH_DELETE ? SLICE_NONE : metadata_of(&arena, number, group);
    for (uint32_t i = 0; i < size; i++) {
        vectors[i][0] = (float)number;
        vectors[i][1] = (float)group;
        vectors[i][2] = (float)i;
        vectors[i][3] = 1;
        rows[i] = (struct batch_input_row){
            .op = op, .id = slice_of(arena_printf(&arena, "%s%d-%u", prefix, group, i))};
        if (op == BATCH_DELETE)
            continue;
        rows[i].vector = vectors[i];
        rows[i].metadata = metadata;
        rows[i].metadata_state = FIELD_VALUE;
    }
    struct gateway_write write = {
        .collection = collection,
        .input = {.count = size, .dimension = op == BATCH_DELETE ? 0 : DIM, .rows = rows}};
    struct gateway_counts counts;
    och_code code;
    for (;;) {
        code = gateway_write(database_gateway(w->database), &scope, &write, &counts, err);
        if (code != OCH_BUSY || atomic_load(&w->stop))
            break;
        error_clear(err);
        sched_sleep_ns(5000000);
    }
    atomic_fetch_add(&w->writes, code == OCH_OK);
    arena_done(&arena);
    return code;
}

static och_code read_plan(struct world *w, struct plan *plan, const char *filter,
                          struct arena *arena, struct query_result *ret_result, och_error *err)
{
    struct filter_node *node = NULL;
    struct json_value value;
    struct json_fault fault;
    *ret_result = (struct query_result){0};
    if (filter) {
        TRY(json_read(slice_of(filter), NULL, arena, &value, &fault, err));
        TRY(filter_parse_where(&value, arena, &node, err));
        plan->filter = node;
    }
    if (plan->kind != PLAN_COUNT)
        plan->fields = RECORD_ALL;
    if (plan->limit == 0)
        plan->limit = PLAN_NO_LIMIT;
    atomic_fetch_add(&w->reads, 1);
    return gateway_read(database_gateway(w->database), &scope, plan, arena, ret_result, err);
}

/* ---- what must hold of rows ---- */

/* The batch of a row; 0 when its parts are not of one. */
static uint64_t number_of(const struct record *row, int *ret_group)
{
    struct buf text;
    buf_init(&text, 256);
    uint64_t number = 0;
    int group = -1;
    meta_to_json(row->metadata, &text);
    buf_byte(&text, 0);
    if (row->metadata.at && row->vector &&
        sscanf((const char *)text.at, "{\"batch\":%" SCNu64 ",\"group\":%d}", &number, &group) ==
            2 &&
        ((float)number != row->vector[0] || (float)group != row->vector[1]))
        number = 0;
    buf_done(&text);
    *ret_group = group;
    return number;
}

struct seen { /* of one group in one answer */
    uint64_t number, rows, bits;
};

static void note_row(struct world *w, struct seen seen[WRITERS][GROUPS], const struct record *row,
                     const char *what)
{
    char id[32] = {0};
    int writer, id_group, group;
    unsigned i;
    memcpy(id, row->id.at, row->id.len < 31 ? row->id.len : 31);
    uint64_t number = number_of(row, &group);
    if (sscanf(id, "w%d-%d-%u", &writer, &id_group, &i) != 3 || writer < 0 || writer >= WRITERS ||
        id_group != group || group < 0 || group >= GROUPS || i >= SIZE_MOST || number == 0 ||
        (unsigned)row->vector[2] != i) {
        broken(w, "%s: row %s is a mixture (group %d, batch %" PRIu64 ")", what, id, group, number);
        return;
    }
    struct seen *s = &seen[writer][group];
    if (s->rows && s->number != number)
        broken(w, "%s: group %d of writer %d shows batches %" PRIu64 " and %" PRIu64, what, group,
               writer, s->number, number);
    if (s->bits & 1ull << i)
        broken(w, "%s: row %s is there twice", what, id);
    s->number = number;
    s->bits |= 1ull << i;
    s->rows++;
}

static void check_seen(struct world *w, struct seen seen[WRITERS][GROUPS], const char *what)
{
    for (int writer = 0; writer < WRITERS; writer++) {
        for (int group = 0; group < GROUPS; group++) {
            const struct seen *s = &seen[writer][group];
            if (s->rows && s->rows != size_of(writer, group))
                broken(w,
                       "%s: group %d of writer %d shows %" PRIu64 " of %u rows of batch %" PRIu64,
                       what, group, writer, s->rows, size_of(writer, group), s->number);
        }
    }
}

/* Everything, by get or by query; optionally of one group. */
static void read_groups(struct world *w, struct random *random, uint64_t *last_at)
{
    struct arena arena;
    arena_init(&arena, NULL, 0);
    struct seen seen[WRITERS][GROUPS] = {0};
    const float query[DIM] = {(float)random_below(random, 5000), 3, 2, 1};
    struct plan plan = {.kind = PLAN_GET, .collection = w->shared};
    const char *filter = NULL, *what = "get";
    bool by_query = random_below(random, 2);
    if (by_query) {
        what = "query";
        plan = (struct plan){.kind = PLAN_QUERY,
                             .collection = w->shared,
                             .vectors = query,
                             .vector_count = 1,
                             .dimension = DIM,
                             .k = WRITERS * GROUPS * SIZE_MOST};
    }
    if (random_below(random, 2))
        filter = arena_printf(&arena, "{\"group\":%d}", (int)random_below(random, GROUPS));
    struct query_result result;
    och_error err = {0};
    if (read_plan(w, &plan, filter, &arena, &result, &err) != OCH_OK) {
        broken(w, "%s: %s", what, err.message);
    } else {
        for (size_t i = 0; i < result.hits[0].count; i++)
            note_row(w, seen, &result.hits[0].rows[i].record, what);
        check_seen(w, seen, what);
        if (result.at < *last_at)
            broken(w, "%s: offset %" PRIu64 " after %" PRIu64, what, result.at, *last_at);
        *last_at = result.at;
    }
    query_result_done(&result);
    arena_done(&arena);
}

static uint64_t count_of(struct world *w, uuid collection, const char *filter)
{
    struct arena arena;
    arena_init(&arena, NULL, 0);
    struct plan plan = {.kind = PLAN_COUNT, .collection = collection};
    struct query_result result;
    och_error err = {0};
    if (read_plan(w, &plan, filter, &arena, &result, &err) != OCH_OK)
        broken(w, "count: %s", err.message);
    uint64_t count = result.count;
    query_result_done(&result);
    arena_done(&arena);
    return count;
}

/* What this writer acknowledged is what it sees. */
static void read_own(struct hand *hand, int group)
{
    struct world *w = hand->world;
    struct arena arena;
    arena_init(&arena, NULL, 0);
    slice ids[SIZE_MOST];
    uint32_t size = size_of(hand->index, group);
    for (uint32_t i = 0; i < size; i++)
        ids[i] = slice_of(arena_printf(&arena, "w%d-%d-%u", hand->index, group, i));
    struct plan plan = {
        .kind = PLAN_GET, .collection = w->shared, .has_ids = true, .ids = ids, .id_count = size};
    struct query_result result;
    och_error err = {0};
    if (read_plan(w, &plan, NULL, &arena, &result, &err) != OCH_OK) {
        broken(w, "get of own rows: %s", err.message);
    } else {
        uint64_t expected = hand->state[group] ? size : 0;
        if (result.hits->count != expected)
            broken(w, "writer %d sees %zu of its %" PRIu64 " rows", hand->index, result.hits->count,
                   expected);
        for (size_t i = 0; i < result.hits->count; i++) {
            int of;
            uint64_t number = number_of(&result.hits->rows[i].record, &of);
            if (number != hand->state[group])
                broken(w, "writer %d sees batch %" PRIu64 " instead of its %" PRIu64, hand->index,
                       number, hand->state[group]);
        }
    }
    query_result_done(&result);
    arena_done(&arena);
}

/* ---- hands ---- */

static och_code delete_group(struct world *w, int writer, int group, och_error *err)
{
    struct arena arena;
    arena_init(&arena, NULL, 0);
    uint32_t size = size_of(writer, group);
    slice ids[SIZE_MOST];
    for (uint32_t i = 0; i < size; i++)
        ids[i] = slice_of(arena_printf(&arena, "w%d-%d-%u", writer, group, i));
    struct filter_node *node = NULL;
    struct json_value value;
    struct json_fault fault;
    uint64_t deleted = 0;
    struct plan plan = {.collection = w->shared,
                        .has_ids = true,
                        .ids = ids,
                        .id_count = size,
                        .limit = PLAN_NO_LIMIT};
    const char *text = arena_printf(&arena, "{\"group\":{\"$gte\":%d}}", group);
    och_code code = json_read(slice_of(text), NULL, &arena, &value, &fault, err);
    if (code == OCH_OK)
        code = filter_parse_where(&value, &arena, &node, err);
    plan.filter = node;
    if (code == OCH_OK)
        code = gateway_delete(database_gateway(w->database), &scope, &plan, NULL, false, &deleted,
                              err);
    if (code == OCH_OK && deleted != size)
        broken(w, "a delete by filter found %" PRIu64 " of %u rows", deleted, size);
    arena_done(&arena);
    return code;
}

static void write_some(struct hand *hand)
{
    struct world *w = hand->world;
    int group = (int)random_below(&hand->random, GROUPS);
    uint64_t number = atomic_fetch_add(&w->number, 1) + 1, dice = random_below(&hand->random, 10);
    char prefix[16];
    (void)snprintf(prefix, sizeof(prefix), "w%d-", hand->index);
    och_error err = {0};
    och_code code;
    if (hand->state[group] && dice < 2) {
        code = dice ? delete_group(w, hand->index, group, &err)
                    : put(w, w->shared, BATCH_DELETE, prefix, group, size_of(hand->index, group), 0,
                          &err);
        number = 0;
    } else {
        uint8_t op = hand->state[group] ? (dice < 6 ? BATCH_UPDATE : BATCH_UPSERT)
                                        : (dice < 6 ? BATCH_ADD : BATCH_UPSERT);
        code = put(w, w->shared, op, prefix, group, size_of(hand->index, group), number, &err);
    }
    if (code == OCH_OK)
        hand->state[group] = number;
    else if (code != OCH_BUSY && code != OCH_UNAVAILABLE)
        broken(w, "write: %s", err.message);
    read_own(hand, group);
}

static void run_writer(void *arg)
{
    struct hand *hand = arg;
    while (!atomic_load(&hand->world->stop))
        write_some(hand);
}

static void run_reader(void *arg)
{
    struct hand *hand = arg;
    struct world *w = hand->world;
    uint64_t last_at = 0, last_count = 0;
    while (!atomic_load(&w->stop)) {
        read_groups(w, &hand->random, &last_at);
        uint64_t acknowledged = atomic_load(&w->grown) * GROWTH;
        uint64_t count =
            count_of(w, w->growing, random_below(&hand->random, 2) ? "{\"group\":1}" : NULL);
        if (count % GROWTH || count < last_count || count < acknowledged)
            broken(w, "count is %" PRIu64 " after %" PRIu64 ", acknowledged %" PRIu64, count,
                   last_count, acknowledged);
        last_count = count;
        uint64_t number = atomic_load(&w->number);
        number -= number > 20 ? random_below(&hand->random, 20) : 0;
        char text[64];
        (void)snprintf(text, sizeof(text), "{\"batch\":%" PRIu64 "}", number);
        count = count_of(w, w->shared, text);
        if (count != 0 && count != 1 && count != 2 && count != 5 && count != 13 &&
            count != SIZE_MOST)
            broken(w, "%" PRIu64 " rows of batch %" PRIu64, count, number);
    }
}

static void run_grower(void *arg)
{
    struct hand *hand = arg;
    struct world *w = hand->world;
    for (int batch = 0; !atomic_load(&w->stop) && batch < 20000; batch++) {
        char prefix[24];
        (void)snprintf(prefix, sizeof(prefix), "g%d-", batch);
        och_error err = {0};
        och_code code = put(w, w->growing, BATCH_ADD, prefix, 1, GROWTH, 1, &err);
        if (code == OCH_OK)
            atomic_fetch_add(&w->grown, 1);
        else if (code != OCH_BUSY)
            broken(w, "growing: %s", err.message);
        sched_sleep_ns(200000);
    }
}

static och_code create(struct world *w, const char *name, uuid *ret_id, och_error *err)
{
    const struct sysdb_collection *row = NULL;
    struct gateway_collection_new spec = {.name = slice_of(name), .get_or_create = true};
    TRY(gateway_collection_create(database_gateway(w->database), &scope, &spec, &row, err));
    *ret_id = row->id;
    sysdb_collection_unref(row);
    return OCH_OK;
}

/* A collection comes, is filled, read by two, and goes while it may be flushed. */
static void run_comer(void *arg)
{
    struct hand *hand = arg;
    struct world *w = hand->world;
    while (!atomic_load(&w->stop)) {
        char name[32];
        uuid id;
        och_error err = {0};
        (void)snprintf(name, sizeof(name), "comes-%d-%d", hand->index,
                       (int)random_below(&hand->random, 3));
        uint64_t batches = random_below(&hand->random, 30);
        if (create(w, name, &id, &err) != OCH_OK) {
            broken(w, "create: %s", err.message);
            return;
        }
        for (uint64_t batch = 0; batch < batches && !atomic_load(&w->stop); batch++) {
            char prefix[24];
            (void)snprintf(prefix, sizeof(prefix), "c%" PRIu64 "-", batch);
            if (put(w, id, BATCH_ADD, prefix, 2, 13, 1, &err) != OCH_OK && !atomic_load(&w->stop))
                broken(w, "filling a new collection: %s", err.message);
        }
        if (!atomic_load(&w->stop) && count_of(w, id, NULL) != batches * 13)
            broken(w, "a new collection does not hold its %" PRIu64 " batches", batches);
        if (gateway_collection_drop(database_gateway(w->database), &scope, slice_of(name), &err) !=
            OCH_OK)
            broken(w, "drop: %s", err.message);
        struct arena arena;
        arena_init(&arena, NULL, 0);
        struct plan plan = {.kind = PLAN_COUNT, .collection = id};
        struct query_result result;
        if (read_plan(w, &plan, NULL, &arena, &result, &err) != OCH_NOT_FOUND)
            broken(w, "a dropped collection answers");
        query_result_done(&result);
        arena_done(&arena);
        atomic_fetch_add(&w->comings, 1);
    }
}

/* ---- the whole ---- */

static uint64_t number_from(const char *name, uint64_t fallback)
{
    const char *text = getenv(name);
    return text ? strtoull(text, NULL, 10) : fallback;
}

static void world_open(struct world *w)
{
    const struct setting_flag flags[] = {{"tail_rows_max", "150"},
                                         {"memory_limit", "512MiB"},
                                         {"log_segment_bytes", "1MiB"},
                                         {"compact_idle_ms", "20"}};
    struct settings_input input = {.flags = flags, .flag_count = COUNT_OF(flags)};
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
        create(w, "shared", &w->shared, &err) != OCH_OK ||
        create(w, "growing", &w->growing, &err) != OCH_OK)
        fail_msg("open: %s", err.message);
}

static void start(struct world *w, struct hand *hand, int index, const char *name,
                  void (*run)(void *))
{
    och_error err = {0};
    hand->world = w;
    hand->index = index;
    random_seed(&hand->random, number_from("OCHRE_CRASH_FIRST", 1) * 100 + (uint64_t)index +
                                   (uint64_t)name[0] * 1000);
    if (thread_start(&hand->thread, name, 1u << 20, run, hand, &err) != OCH_OK)
        fail_msg("thread: %s", err.message);
}

static void no_read_shows_half_a_batch_or_two_versions_of_a_row(void **state)
{
    (void)state;
    static struct world world;
    static struct hand writers[WRITERS], readers[READERS], others[3];
    struct world *w = &world;
    uint64_t minutes = number_from("OCHRE_SOAK_MINUTES", 0);
    uint64_t seconds = number_from("OCHRE_CRASH_SECONDS", minutes ? minutes * 60 : 5);
    world_open(w);
    for (int i = 0; i < WRITERS; i++)
        start(w, &writers[i], i, "writer", run_writer);
    for (int i = 0; i < READERS; i++)
        start(w, &readers[i], i, "reader", run_reader);
    start(w, &others[0], 0, "grower", run_grower);
    start(w, &others[1], 1, "comer", run_comer);
    start(w, &others[2], 2, "comer", run_comer);
    uint64_t end = sched_mono_ns() + seconds * 1000000000u;
    while (!atomic_load(&w->stop) && sched_mono_ns() < end)
        sched_sleep_ns(10000000);
    atomic_store(&w->stop, true);
    for (int i = 0; i < WRITERS; i++)
        thread_join(&writers[i].thread);
    for (int i = 0; i < READERS; i++)
        thread_join(&readers[i].thread);
    for (int i = 0; i < 3; i++)
        thread_join(&others[i].thread);
    for (int i = 0; i < WRITERS && !w->failed; i++) {
        for (int group = 0; group < GROUPS; group++)
            read_own(&writers[i], group);
    }
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
    printf("%" PRIu64 " s: %" PRIu64 " batches, %" PRIu64 " reads, %" PRIu64 " flushes, %" PRIu64
           " merges, %" PRIu64 " collections came and went, %" PRIu64
           " failures of the compactor\n",
           seconds, atomic_load(&w->writes), atomic_load(&w->reads), stats.flushes, stats.merges,
           atomic_load(&w->comings), stats.failures);
    assert_true(stats.flushes > 0 && stats.merges > 0);
    assert_int_equal(stats.failures, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_read_shows_half_a_batch_or_two_versions_of_a_row)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
