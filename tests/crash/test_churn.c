/* SPDX-License-Identifier: Apache-2.0 */
/* Nearest rows while everything moves: one writer adds, updates, deletes and adds back, flushes and merges of parts with a vector index run beside it, two
 * readers ask.  The writer notes each operation before it sends it, and an answer says up to which offset it counts, so each is judged against exactly
 * the rows of its moment: none that was deleted, none in an older version, none twice, distances to the bit, recall.  In the end nothing moves:
 * the answers before and after merging to one part are as good, and those of the churned collection as good as those of one written afresh.
 * OCHRE_CRASH_FIRST: seed; OCHRE_CRASH_ROWS. */
#include "kernel/kernel.h"
#include "mode/database.h"

#include "base/io_sim.h"

#include <inttypes.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define DIM      16
#define K        10
#define READERS  2
#define BATCH    100
#define CLUSTERS 60
#define OPS_MAX  400000
#define FINAL    200  /* queries at rest */
#define LEAST    0.95 /* while things move */
#define REST     0.98 /* the default effort's target is 0.99 */
#define SAME     0.01

struct op {
    uint32_t row;
    uint32_t version; /* 0: deleted */
};
struct state { /* what stands at an offset */
    uint64_t upto;
    uint32_t *versions; /* by row; 0: not there */
};
struct world {
    struct io *io;
    struct settings settings;
    struct database *database;
    uuid collection;
    uint32_t rows;
    struct op *ops;    /* by offset; written before it is sent */
    uint64_t op_count; /* the writer's */
    struct state now;  /* the writer's */
    struct state seen[READERS];
    _Atomic bool stop, failed;
    _Atomic uint64_t answers, hits, wanted;
    char failure[400];
};
struct hand {
    struct world *world;
    struct thread thread;
    struct random random;
    int index;
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

static uint64_t number_from(const char *name, uint64_t fallback)
{
    const char *text = getenv(name);
    return text ? strtoull(text, NULL, 10) : fallback;
}

static void vector_of(uint32_t row, uint32_t version, float *out)
{
    struct random random, center;
    random_seed(&random, ((uint64_t)row << 20) + version);
    random_seed(&center, random_below(&random, CLUSTERS));
    for (int i = 0; i < DIM; i++)
        out[i] = (float)(random_unit(&center) * 4 + random_unit(&random));
}

static void apply(struct state *state, const struct op *ops, uint64_t upto)
{
    for (; state->upto < upto; state->upto++)
        state->versions[ops[state->upto].row] = ops[state->upto].version;
}

/* ---- the writer ---- */

/* A batch of rows that are noted as the last `count` operations. */
static void send(struct world *w, uint8_t op, uint32_t count)
{
    struct arena arena;
    arena_init(&arena, NULL, 0);
    struct batch_input_row rows[BATCH];
    float vectors[BATCH][DIM];
    const struct op *ops = &w->ops[w->op_count];
    for (uint32_t i = 0; i < count; i++) {
        rows[i] = (struct batch_input_row){
            .op = op, .id = slice_of(arena_printf(&arena, "r%" PRIu32, ops[i].row))};
        if (op == BATCH_DELETE)
            continue;
        vector_of(ops[i].row, ops[i].version, vectors[i]);
        rows[i].vector = vectors[i];
    }
    struct gateway_write write = {
        .collection = w->collection,
        .input = {.count = count, .dimension = op == BATCH_DELETE ? 0 : DIM, .rows = rows}};
    struct gateway_counts counts;
    och_error err = {0};
    och_code code = OCH_BUSY;
    while (code == OCH_BUSY && !atomic_load(&w->stop)) {
        error_clear(&err);
        code = gateway_write(database_gateway(w->database), &scope, &write, &counts, &err);
        if (code == OCH_BUSY)
            sched_sleep_ns(5000000);
    }
    if (code != OCH_OK && code != OCH_BUSY)
        broken(w, "write: %s", err.message);
    w->op_count += count;
    apply(&w->now, w->ops, w->op_count);
    arena_done(&arena);
}

/* Up to BATCH of the rows from `first` on, `step` apart, that are there or not. */
static void change(struct world *w, uint8_t op, uint32_t first, uint32_t step, bool there)
{
    uint32_t count = 0;
    struct op *ops = &w->ops[w->op_count];
    for (uint32_t row = first; row < w->rows && count < BATCH; row += step) {
        uint32_t version = w->now.versions[row];
        if ((version != 0) != there)
            continue;
        /* numbers of versions never return, so an old one cannot look like the new one */
        ops[count++] = (struct op){row, op == BATCH_DELETE ? 0 : (uint32_t)w->op_count + 1};
    }
    if (count > 0 && w->op_count + BATCH < OPS_MAX)
        send(w, op, count);
}

static void run_writer(void *arg)
{
    struct hand *hand = arg;
    struct world *w = hand->world;
    uint32_t rows = w->rows;
    for (uint32_t added = 0; added < rows && !atomic_load(&w->stop); added += BATCH) {
        uint64_t dice = random_below(&hand->random, 10);
        uint32_t some = (uint32_t)random_below(&hand->random, added + 1);
        change(w, BATCH_ADD, added, 1, false);
        if (dice < 3)
            change(w, dice ? BATCH_UPDATE : BATCH_UPSERT, some, 7, true);
        else if (dice < 5)
            change(w, BATCH_DELETE, some, 11, true);
        else if (dice == 5)
            change(w, BATCH_ADD, some, 1, false);
    }
    /* 30 % updated, 50 % deleted, added back */
    for (uint32_t row = 0; row < rows && !atomic_load(&w->stop); row += BATCH * 10 / 3)
        change(w, BATCH_UPDATE, row, 3, true);
    for (uint32_t row = 0; row < rows && !atomic_load(&w->stop); row += BATCH * 2)
        change(w, BATCH_DELETE, row, 2, true);
    for (uint32_t row = 0; row < rows && !atomic_load(&w->stop); row += BATCH) {
        change(w, BATCH_ADD, row, 1, false);
    }
    atomic_store(&w->stop, true);
}

/* ---- the readers ---- */

/* The K-th smallest distance among the rows that stand; INFINITY when there are fewer. */
static float bound_of(const struct world *w, const struct state *state, const float *query,
                      uint32_t *ret_count)
{
    float best[K];
    uint32_t count = 0;
    const struct kernel *kernel = kernel_get();
    for (uint32_t row = 0; row < w->rows; row++) {
        if (state->versions[row] == 0)
            continue;
        float vector[DIM];
        vector_of(row, state->versions[row], vector);
        float d = kernel->l2_f32(query, vector, DIM);
        if (count == K && d >= best[K - 1])
            continue;
        uint32_t place = count < K ? count++ : K - 1;
        for (; place > 0 && best[place - 1] > d; place--)
            best[place] = best[place - 1];
        best[place] = d;
    }
    *ret_count = count;
    return count == K ? best[K - 1] : INFINITY;
}

static void judge(struct world *w, const struct state *state, const float *query,
                  const struct query_hits *hits, uint64_t *ret_hits, uint64_t *ret_wanted)
{
    uint32_t wanted, found = 0;
    float bound = bound_of(w, state, query, &wanted);
    for (size_t i = 0; i < hits->count; i++) {
        const struct record *record = &hits->rows[i].record;
        float expected[DIM];
        uint32_t row = 0;
        for (size_t at = 1; at < record->id.len; at++)
            row = row * 10 + (record->id.at[at] - '0');
        if (row >= w->rows || state->versions[row] == 0) {
            broken(w, "row %" PRIu32 " was deleted before %" PRIu64, row, state->upto);
            return;
        }
        vector_of(row, state->versions[row], expected);
        if (!record->vector || memcmp(record->vector, expected, sizeof(expected)) != 0) {
            broken(w, "row %" PRIu32 " is not in its version at %" PRIu64, row, state->upto);
            return;
        }
        float d = kernel_get()->l2_f32(query, expected, DIM);
        if (d != hits->rows[i].distance)
            broken(w, "row %" PRIu32 " has another distance", row);
        for (size_t j = 0; j < i; j++)
            if (slice_equal(hits->rows[j].record.id, record->id))
                broken(w, "row %" PRIu32 " is there twice", row);
        found += d <= bound;
    }
    if (hits->count != wanted)
        broken(w, "%zu rows instead of %" PRIu32, hits->count, wanted);
    *ret_hits += found < wanted ? found : wanted;
    *ret_wanted += wanted;
}

static void ask(struct world *w, struct state *state, const float *query, uint64_t *ret_hits,
                uint64_t *ret_wanted)
{
    struct arena arena;
    arena_init(&arena, NULL, 0);
    struct plan plan = {.kind = PLAN_QUERY,
                        .collection = w->collection,
                        .vectors = query,
                        .vector_count = 1,
                        .dimension = DIM,
                        .k = K,
                        .limit = PLAN_NO_LIMIT,
                        .fields = RECORD_ALL};
    struct query_result result = {0};
    och_error err = {0};
    if (gateway_read(database_gateway(w->database), &scope, &plan, &arena, &result, &err) !=
        OCH_OK) {
        broken(w, "query: %s", err.message);
    } else if (result.at < state->upto) {
        broken(w, "offset %" PRIu64 " after %" PRIu64, result.at, state->upto);
    } else {
        apply(state, w->ops, result.at);
        judge(w, state, query, &result.hits[0], ret_hits, ret_wanted);
    }
    query_result_done(&result);
    arena_done(&arena);
}

static void run_reader(void *arg)
{
    struct hand *hand = arg;
    struct world *w = hand->world;
    while (!atomic_load(&w->stop)) {
        float query[DIM];
        uint64_t hits = 0, wanted = 0;
        vector_of((uint32_t)random_below(&hand->random, w->rows), 0, query);
        ask(w, &w->seen[hand->index], query, &hits, &wanted);
        atomic_fetch_add(&w->hits, hits);
        atomic_fetch_add(&w->wanted, wanted);
        atomic_fetch_add(&w->answers, 1);
    }
}

/* ---- the whole ---- */

static och_code create(struct world *w, const char *name, och_error *err)
{
    const struct sysdb_collection *row = NULL;
    struct gateway_collection_new spec = {.name = slice_of(name), .get_or_create = true};
    TRY(gateway_collection_create(database_gateway(w->database), &scope, &spec, &row, err));
    w->collection = row->id;
    sysdb_collection_unref(row);
    return OCH_OK;
}

static void world_open(struct world *w)
{
    const struct setting_flag flags[] = {{"tail_rows_max", "2200"}, /* parts with codes */
                                         {"memory_limit", "1GiB"},
                                         {"log_segment_bytes", "4MiB"},
                                         {"compact_idle_ms", "100"}};
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
        create(w, "churned", &err) != OCH_OK)
        fail_msg("open: %s", err.message);
    w->ops = mem_zalloc((OPS_MAX + BATCH) * sizeof(*w->ops));
    w->now.versions = mem_zalloc(w->rows * sizeof(uint32_t));
    for (int i = 0; i < READERS; i++)
        w->seen[i].versions = mem_zalloc(w->rows * sizeof(uint32_t));
    assert_true(w->ops && w->now.versions && w->seen[0].versions && w->seen[1].versions);
}

static void start(struct world *w, struct hand *hand, int index, void (*run)(void *))
{
    och_error err = {0};
    *hand = (struct hand){.world = w, .index = index};
    random_seed(&hand->random, number_from("OCHRE_CRASH_FIRST", 1) * 100 + (uint64_t)index);
    if (thread_start(&hand->thread, "hand", 1u << 20, run, hand, &err) != OCH_OK)
        fail_msg("thread: %s", err.message);
}

static double recall_at_rest(struct world *w)
{
    uint64_t hits = 0, wanted = 0;
    w->seen[0].upto = 0; /* another collection may have begun */
    for (uint32_t i = 0; i < FINAL && !atomic_load(&w->failed); i++) {
        float query[DIM];
        vector_of(i * 37 % w->rows, 0, query);
        ask(w, &w->seen[0], query, &hits, &wanted);
    }
    if (atomic_load(&w->failed))
        fail_msg("%s", w->failure);
    return (double)hits / (double)wanted;
}

static double compacted(struct world *w, bool to_one)
{
    och_error err = {0};
    if (compactor_run(database_compactor(w->database), &w->collection, to_one, &err) != OCH_OK)
        fail_msg("compaction: %s", err.message);
    return recall_at_rest(w);
}

/* The rows as they now stand, written into a new collection in one go. */
static double recall_afresh(struct world *w)
{
    och_error err = {0};
    uint32_t *versions = w->now.versions;
    if (create(w, "fresh", &err) != OCH_OK)
        fail_msg("create: %s", err.message);
    w->op_count = w->now.upto = 0;
    w->now.versions = mem_zalloc(w->rows * sizeof(uint32_t));
    memset(w->seen[0].versions, 0, w->rows * sizeof(uint32_t));
    assert_non_null(w->now.versions);
    for (uint32_t first = 0; first < w->rows; first += BATCH) {
        uint32_t count = 0;
        for (uint32_t row = first; row < first + BATCH && row < w->rows; row++)
            if (versions[row])
                w->ops[w->op_count + count++] = (struct op){row, versions[row]};
        if (count)
            send(w, BATCH_ADD, count);
    }
    mem_free(versions);
    return compacted(w, true);
}

static void answers_are_right_while_parts_are_made_and_merged(void **state)
{
    (void)state;
    static struct world world;
    static struct hand writer, readers[READERS];
    struct world *w = &world;
    w->rows = (uint32_t)number_from("OCHRE_CRASH_ROWS", 24000);
    world_open(w);
    start(w, &writer, 9, run_writer);
    for (int i = 0; i < READERS; i++)
        start(w, &readers[i], i, run_reader);
    thread_join(&writer.thread);
    for (int i = 0; i < READERS; i++)
        thread_join(&readers[i].thread);
    if (atomic_load(&w->failed))
        fail_msg("%s", w->failure);
    atomic_store(&w->stop, false);
    double during = (double)atomic_load(&w->hits) / (double)(atomic_load(&w->wanted) + 1);
    double before = recall_at_rest(w), flushed = compacted(w, false), one = compacted(w, true);
    struct compactor_stats stats;
    compactor_stats(database_compactor(w->database), &stats);
    double fresh = recall_afresh(w);
    printf("%" PRIu64 " answers, recall %.4f; at rest %.4f, compacted %.4f, one part %.4f, written "
           "afresh %.4f; %" PRIu64 " flushes, %" PRIu64 " merges\n",
           atomic_load(&w->answers), during, before, flushed, one, fresh, stats.flushes,
           stats.merges);
    assert_true(atomic_load(&w->answers) > 0 && during >= LEAST);
    assert_true(before >= REST && flushed >= REST && one >= REST);
    assert_true(one >= fresh - SAME);
    assert_true(stats.flushes >= 3 && stats.merges > 0);
    assert_int_equal(stats.failures, 0);
    och_error err = {0};
    assert_int_equal(database_close(w->database, &err), OCH_OK);
    database_free(w->database);
    settings_done(&w->settings);
    io_sim_free(w->io);
    mem_free(w->ops);
    mem_free(w->now.versions);
    for (int i = 0; i < READERS; i++)
        mem_free(w->seen[i].versions);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(answers_are_right_while_parts_are_made_and_merged)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
