/* SPDX-License-Identifier: Apache-2.0 */
/* The storage below views, on a disk in memory, with a clock that tests move: catalogue, store, cache, views, log.  Queries, the Compactor and
 * the Gateway join in where a test defines STACK_QUERY, STACK_COMPACT, STACK_GATEWAY before.  Included once by each test. */
#ifndef SUPPORT_STACK_H
#define SUPPORT_STACK_H

#include "base/io_sim.h"
#include "model/batch.h"
#include "view/view.h"
#ifdef STACK_GATEWAY
#define STACK_QUERY
#define STACK_FUNCTION
#include "gateway/gateway.h"
#endif
#ifdef STACK_QUERY
#include "query/query.h"
#endif
#ifdef STACK_FUNCTION
#define STACK_COMPACT
#include "function/function.h"
#endif
#ifdef STACK_COMPACT
#include "compact/compact.h"
#endif

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define STACK_DIM     4
#define STACK_WALL_NS 1700000000000000000ull
#define STACK_NOW_MS  ((int64_t)(STACK_WALL_NS / 1000000))

struct stack {
    struct io *io;
    struct clock_manual clock;
    struct trace trace;
    struct budget budget;
    struct sysdb *sysdb;
    struct store *store;
    struct cache *cache;
    struct views *views;
    struct wal *wal;
    struct random random;
    size_t idle_max;        /* set these before stack_open */
    uint32_t tail_rows_max; /* 0: so many that nobody asks for compaction */
    int64_t memory_limit;
    void (*wants)(void *context, uuid collection);
    void *wants_context;
#ifdef STACK_QUERY
    struct query *query;
    struct pool *pool;
    unsigned threads;
#endif
#ifdef STACK_COMPACT
    struct compactor *compactor;
    uint32_t part_rows_max;
#endif
#ifdef STACK_FUNCTION
    struct functions *functions;
    uint64_t hold_rows; /* 0: as many as there are */
#endif
#ifdef STACK_GATEWAY
    struct gateway *gateway;
    bool allow_reset, log_requests;
    uint64_t forks_max;
    const slice *cors_origins;
    size_t cors_origin_count;
#endif
};

#define OK(call)                                                                         \
    do {                                                                                 \
        och_error ok_err = {0}, *err = &ok_err;                                          \
        if ((call) != OCH_OK)                                                            \
            fail_msg("%s: %s (%s:%d)", #call, ok_err.message, ok_err.file, ok_err.line); \
    } while (0)
/* A failure with this code, its message starting so ("" = any). */
#define FAILS(code_, prefix_, call)                                                             \
    do {                                                                                        \
        och_error fails_err = {0}, *err = &fails_err;                                           \
        och_code fails_code = (call);                                                           \
        if (fails_code != (code_) || strncmp(fails_err.message, prefix_, strlen(prefix_)) != 0) \
            fail_msg("%s: code %d, message \"%s\"", #call, (int)fails_code, fails_err.message); \
    } while (0)

static void stack_quiet(void *user, enum trace_level level, slice line)
{
    (void)user, (void)level, (void)line;
}

static och_code stack_try_open(struct stack *s, och_error *err)
{
    struct sysdb_options catalogue = {.io = s->io,
                                      .path = "catalogue.sqlite",
                                      .clock = &s->clock.clock,
                                      .trace = &s->trace,
                                      .create = true};
    TRY(sysdb_open(&catalogue, &s->sysdb, err));
    TRY(store_folder_new(s->io, "blobs", &s->store, err));
    TRY(cache_new(64u << 20, &s->budget, &s->cache, err));
    struct views_options views = {.sysdb = s->sysdb,
                                  .parts = {s->store, s->cache, &s->trace},
                                  .budget = &s->budget,
                                  .clock = &s->clock.clock,
                                  .trace = &s->trace,
                                  .idle_max = s->idle_max,
                                  .wants_compaction = s->wants,
                                  .wants_context = s->wants_context,
                                  .tail_rows_max = s->tail_rows_max ? s->tail_rows_max : UINT32_MAX,
                                  .tail_bytes_max = UINT64_MAX};
    TRY(views_new(&views, &s->views, err));
    struct wal_sink sink = views_sink(s->views);
#ifdef STACK_FUNCTION
    struct functions_options functions = {.sysdb = s->sysdb,
                                          .views = s->views,
                                          .cache = s->cache,
                                          .budget = &s->budget,
                                          .clock = &s->clock.clock,
                                          .trace = &s->trace,
                                          .hold_rows = s->hold_rows ? s->hold_rows : UINT64_MAX,
                                          .hold_bytes = UINT64_MAX};
    TRY(functions_new(&functions, &s->functions, err));
    sink = functions_sink(s->functions, sink);
#endif
    struct wal_options log = {.io = s->io,
                              .folder = "log",
                              .sysdb = s->sysdb,
                              .clock = &s->clock.clock,
                              .trace = &s->trace,
                              .budget = &s->budget,
                              .sink = sink,
                              .segment_bytes = 1u << 20};
    TRY(wal_open(&log, &s->wal, err));
    views_set_wal(s->views, s->wal);
#ifdef STACK_QUERY
    if (s->threads > 1) {
        struct pool_options pool = {.name = "scan", .thread_count = s->threads - 1};
        TRY(pool_new(&pool, &s->pool, err));
    }
    struct query_options query = {.views = s->views,
                                  .cache = s->cache,
                                  .pool = s->pool,
                                  .clock = &s->clock.clock,
                                  .trace = &s->trace};
    TRY(query_local_new(&query, &s->query, err));
#endif
#ifdef STACK_COMPACT
    struct compactor_options compactor = {.views = s->views,
                                          .wal = s->wal,
                                          .sysdb = s->sysdb,
                                          .store = s->store,
                                          .parts = {s->store, s->cache, &s->trace},
                                          .budget = &s->budget,
                                          .clock = &s->clock.clock,
                                          .trace = &s->trace,
                                          .tail_rows_max = s->tail_rows_max,
                                          .part_rows_max = s->part_rows_max,
#ifdef STACK_FUNCTION
                                          .hold = functions_hold,
                                          .hold_context = s->functions,
#endif
                                          .idle_ms = 20};
    TRY(compactor_new(&compactor, &s->compactor, err));
#endif
#ifdef STACK_FUNCTION
    TRY(functions_load(s->functions, s->wal, s->compactor, err));
#endif
#ifdef STACK_GATEWAY
    struct gateway_options gateway = {.sysdb = s->sysdb,
                                      .wal = s->wal,
                                      .views = s->views,
                                      .query = s->query,
                                      .compactor = s->compactor,
                                      .functions = s->functions,
                                      .budget = &s->budget,
                                      .clock = &s->clock.clock,
                                      .trace = &s->trace,
                                      .allow_reset = s->allow_reset,
                                      .log_requests = s->log_requests,
                                      .forks_max = s->forks_max,
                                      .body_bytes_max = 1u << 20,
                                      .thread_count = 2,
                                      .cors_origins = s->cors_origins,
                                      .cors_origin_count = s->cors_origin_count,
                                      .version = "1.0.0"};
    TRY(gateway_new(&gateway, &s->gateway, err));
#endif
    return OCH_OK;
}

__attribute__((unused)) static void stack_open(struct stack *s)
{
    if (!s->io) {
        s->io = io_sim_new(false);
        clock_manual_init(&s->clock, STACK_WALL_NS);
        random_seed(&s->random, 1);
        s->trace = (struct trace){.level = TRACE_ERROR, .write = stack_quiet};
        budget_init(&s->budget, s->memory_limit, NULL);
    }
    OK(stack_try_open(s, err));
}

/* Everything goes; the disk stays for the next stack_open. */
static void stack_close(struct stack *s)
{
#ifdef STACK_FUNCTION
    if (s->functions)
        functions_stop(s->functions);
#endif
#ifdef STACK_COMPACT
    if (s->compactor)
        compactor_stop(s->compactor);
#endif
    if (s->wal)
        OK(wal_close(s->wal, err));
    if (s->sysdb)
        OK(sysdb_close(s->sysdb, err));
#ifdef STACK_GATEWAY
    gateway_free(s->gateway);
    s->gateway = NULL;
#endif
#ifdef STACK_QUERY
    query_free(s->query);
    s->query = NULL;
    if (s->pool)
        pool_free(s->pool);
    s->pool = NULL;
#endif
#ifdef STACK_FUNCTION
    functions_free(s->functions);
    s->functions = NULL;
#endif
#ifdef STACK_COMPACT
    compactor_free(s->compactor);
    s->compactor = NULL;
#endif
    wal_free(s->wal);
    views_free(s->views);
    cache_free(s->cache); /* asserts that nothing is pinned */
    store_free(s->store);
    sysdb_free(s->sysdb);
    s->wal = NULL;
    s->views = NULL;
    s->cache = NULL;
    s->store = NULL;
    s->sysdb = NULL;
}

/* Closes for good.  Whoever took from the budget must have given it back. */
__attribute__((unused)) static void stack_done(struct stack *s)
{
    stack_close(s);
    if (budget_used(&s->budget) != 0)
        fail_msg("%lld bytes are still counted", (long long)budget_used(&s->budget));
    io_sim_free(s->io);
    s->io = NULL;
}

__attribute__((unused)) static uuid stack_collection(struct stack *s, const char *name,
                                                     const char *space)
{
    struct arena arena;
    arena_init(&arena, NULL, 0);
    const char *text = arena_printf(&arena, "{\"hnsw\":{\"space\":\"%s\"}}", space);
    struct json_value configuration;
    struct json_fault fault;
    OK(json_read(slice_of(text), NULL, &arena, &configuration, &fault, err));
    struct schema_options options = {.thread_count = 1};
    struct sysdb_collection_new spec = {.id = uuid_random(&s->random),
                                        .tenant = SLICE("default_tenant"),
                                        .database = SLICE("default_database"),
                                        .name = slice_of(name)};
    OK(schema_create(&configuration, NULL, NULL, &options, &arena, &spec.schema_json, err));
    const struct sysdb_collection *row = NULL;
    bool created;
    OK(sysdb_collection_create(s->sysdb, &spec, &row, &created, err));
    uuid id = row->id;
    sysdb_collection_unref(row);
    arena_done(&arena);
    return id;
}

/* ---- writing: one row each, or many ---- */

struct stack_row {
    uint8_t op;
    const char *id;
    float value; /* the vector is {value, 1, 0, 0} */
    bool no_vector;
    const char *document, *uri, *metadata_json;
    int64_t expires_ms;
    bool clear_document;
};

static och_code stack_try_write(struct stack *s, uuid collection, const struct stack_row *rows,
                                uint32_t count, struct wal_appended *ret, och_error *why)
{
    struct arena arena;
    arena_init(&arena, NULL, 0);
    struct batch_input_row *input = ARENA_ARRAY(&arena, struct batch_input_row, count);
    assert_non_null(input);
    bool vectors = false;
    for (uint32_t i = 0; i < count; i++) {
        const struct stack_row *row = &rows[i];
        input[i] = (struct batch_input_row){
            .op = row->op, .id = slice_of(row->id), .expires_ms = row->expires_ms};
        if (row->op != BATCH_DELETE && !row->no_vector) {
            float *vector = ARENA_ARRAY(&arena, float, STACK_DIM);
            vector[0] = row->value;
            vector[1] = 1;
            input[i].vector = vector;
            vectors = true;
        }
        if (row->document) {
            input[i].document_state = FIELD_VALUE;
            input[i].document = slice_of(row->document);
        } else if (row->clear_document) {
            input[i].document_state = FIELD_CLEAR;
        }
        if (row->uri) {
            input[i].uri_state = FIELD_VALUE;
            input[i].uri = slice_of(row->uri);
        }
        if (row->metadata_json) {
            struct json_value value;
            struct json_fault fault;
            struct buf encoded;
            buf_init(&encoded, BUF_MAX_NONE);
            OK(json_read(slice_of(row->metadata_json), NULL, &arena, &value, &fault, err));
            OK(meta_from_json(&value, META_ALLOW_DELETE, &encoded, err));
            input[i].metadata_state = FIELD_VALUE;
            input[i].metadata = arena_copy(&arena, buf_view(&encoded));
            buf_done(&encoded);
        }
    }
    struct batch_input batch = {
        .count = count, .dimension = vectors ? STACK_DIM : 0, .rows = input};
    struct payload *payload = NULL;
    och_code code = batch_encode(&batch, &s->budget, &payload, why);
    arena_done(&arena);
    struct wal_append request = {.collection = collection,
                                 .payload = payload,
                                 .count = count,
                                 .dimension = batch.dimension,
                                 .fixes_dimension = batch.dimension != 0};
    if (code == OCH_OK)
        code = wal_append(s->wal, &request, ret, why);
    payload_unref(payload);
    return code;
}

static uint64_t stack_write(struct stack *s, uuid collection, const struct stack_row *rows,
                            uint32_t count)
{
    struct wal_appended appended;
    OK(stack_try_write(s, collection, rows, count, &appended, err));
    return appended.first;
}

__attribute__((unused)) static uint64_t stack_add(struct stack *s, uuid collection, const char *id,
                                                  float value)
{
    return stack_write(s, collection,
                       &(struct stack_row){.op = BATCH_ADD, .id = id, .value = value}, 1);
}

__attribute__((unused)) static uint64_t stack_delete(struct stack *s, uuid collection,
                                                     const char *id)
{
    return stack_write(s, collection, &(struct stack_row){.op = BATCH_DELETE, .id = id}, 1);
}

/* id<first> … id<first + count - 1>, value = the number. */
__attribute__((unused)) static uint64_t stack_add_many(struct stack *s, uuid collection, int first,
                                                       uint32_t count)
{
    struct stack_row *rows = calloc(count, sizeof(*rows));
    char(*ids)[16] = calloc(count, sizeof(*ids));
    assert_true(rows && ids);
    for (uint32_t i = 0; i < count; i++) {
        (void)snprintf(ids[i], sizeof(ids[i]), "id%d", first + (int)i);
        rows[i] =
            (struct stack_row){.op = BATCH_ADD, .id = ids[i], .value = (float)(first + (int)i)};
    }
    uint64_t offset = stack_write(s, collection, rows, count);
    free(rows);
    free(ids);
    return offset;
}

/* ---- a flush without the Compactor: what tests of views and queries need to have parts ---- */

struct stack_source {
    struct view *view;
    uint32_t slots[65536];
    uint32_t count;
    struct part_reads reads;
    struct arena arena;
};

static och_code stack_source_row(void *context, uint32_t i, unsigned fields, struct arena *arena,
                                 struct record *ret_record, och_error *err)
{
    struct stack_source *source = context;
    (void)arena;
    return view_slot_read(source->view, view_slot(source->view, source->slots[i]), &source->reads,
                          fields, ret_record, err);
}

static int stack_slot_compare(const void *a, const void *b, void *view)
{
    int64_t x = view_slot(view, *(const uint32_t *)a)->record.seq,
            y = view_slot(view, *(const uint32_t *)b)->record.seq;
    return (x > y) - (x < y);
}

/* The commit alone: views are not told. */
static void stack_commit(struct stack *s, uuid collection)
{
    struct stack_source *source = calloc(1, sizeof(*source));
    assert_non_null(source);
    arena_init(&source->arena, NULL, 0);
    part_reads_init(&source->reads, s->cache, &source->arena);
    OK(view_acquire(s->views, collection, READ_INDEX_AND_WAL, &source->view, err));
    for (uint32_t i = 0; i < view_slot_count(source->view); i++) {
        if (!view_slot_stands(source->view, view_slot(source->view, i)))
            continue;
        assert_true(source->count < COUNT_OF(source->slots));
        source->slots[source->count++] = i;
    }
    qsort_r(source->slots, source->count, sizeof(uint32_t), stack_slot_compare, source->view);
    uuid file = uuid_random(&s->random);
    object_id object;
    memcpy(object.bytes, file.bytes, 16);
    OK(sysdb_file_announce(s->sysdb, file, err));
    struct store_writer *writer = NULL;
    OK(store_create(s->store, object, &writer, err));
    const struct view_info *info = view_info(source->view);
    slice *kills;
    size_t kill_count;
    OK(view_kills(source->view, &source->arena, &kills, &kill_count, err));
    struct part_spec spec = {.collection = collection,
                             .lineage = file,
                             .dimension = info->dimension,
                             .metric = info->metric,
                             .log_from = info->from,
                             .log_to = info->to,
                             .kills = kills,
                             .kill_count = kill_count};
    struct part_source rows = {.context = source, .count = source->count, .row = stack_source_row};
    struct part_build_options options = {.budget = &s->budget};
    struct part_info built;
    OK(part_build(&spec, &rows, &options, writer, NULL, &built, err));
    OK(store_finish(writer, err));
    struct sysdb_version current;
    OK(sysdb_version_get(s->sysdb, collection, &source->arena, &current, err));
    struct sysdb_part *parts =
        ARENA_ARRAY(&source->arena, struct sysdb_part, current.part_count + 1);
    for (size_t i = 0; i < current.part_count; i++) {
        struct bitset dead = {0};
        struct buf encoded;
        buf_init(&encoded, BUF_MAX_NONE);
        parts[i] = current.parts[i];
        OK(view_dead_upto(source->view, i, info->to, &dead, err));
        parts[i].deleted = (uint32_t)bitset_count(&dead);
        OK(part_bitmap_encode(&dead, &encoded, err));
        parts[i].dead =
            parts[i].deleted ? arena_copy(&source->arena, buf_view(&encoded)) : SLICE_NONE;
        buf_done(&encoded);
        bitset_done(&dead);
    }
    parts[current.part_count] = (struct sysdb_part){.file = file,
                                                    .offset = built.ref.offset,
                                                    .size = built.ref.size,
                                                    .dir_offset = built.ref.dir_offset,
                                                    .dir_len = built.ref.dir_len,
                                                    .dir_crc = built.ref.dir_crc,
                                                    .head_len = built.ref.head_len,
                                                    .lineage = built.lineage,
                                                    .rows = built.rows,
                                                    .log_from = built.log_from,
                                                    .log_to = built.log_to};
    struct sysdb_commit item = {.collection = collection, .expected_version = current.version};
    item.next = current;
    item.next.parts = parts;
    item.next.part_count = current.part_count + 1;
    item.next.log_offset = info->to;
    item.next.dimension = info->dimension;
    OK(sysdb_commit_versions(s->sysdb, &item, 1, err));
    assert_true(item.ret_committed);
    part_reads_done(&source->reads);
    view_release(source->view);
    arena_done(&source->arena);
    free(source);
}

__attribute__((unused)) static void stack_flush(struct stack *s, uuid collection)
{
    stack_commit(s, collection);
    OK(views_install(s->views, collection, err));
    uint64_t to = 0;
    struct view *view = NULL;
    OK(view_acquire(s->views, collection, READ_INDEX_ONLY, &view, err));
    to = view_info(view)->from;
    view_release(view);
    OK(wal_trim(s->wal, collection, to, err));
}

/* ---- looking ---- */

/* "id:value,id:value" of a view's live rows, tail last, in the order of parts and slots. */
__attribute__((unused)) static const char *stack_show(struct stack *s, struct view *view,
                                                      struct arena *arena)
{
    struct buf out;
    struct part_reads reads;
    buf_init(&out, BUF_MAX_NONE);
    part_reads_init(&reads, s->cache, arena);
    for (size_t part = 0; part <= view_part_count(view); part++) {
        bool tail = part == view_part_count(view);
        const struct bitset *dead = NULL;
        if (!tail)
            OK(view_dead(view, part, &dead, err));
        uint32_t count = tail ? view_slot_count(view) : part_rows(view_part(view, part));
        for (uint32_t i = 0; i < count; i++) {
            if (tail ? !view_slot_live(view, view_slot(view, i)) : dead && bitset_has(dead, i))
                continue;
            struct record record;
            OK(view_read(view, (struct view_place){tail ? VIEW_NO_PART : (uint32_t)part, i}, &reads,
                         RECORD_ALL, &record, err));
            buf_printf(&out, "%s%.*s:%g", out.len ? "," : "", SLICE_ARG(record.id),
                       record.vector ? (double)record.vector[0] : -1.0);
        }
    }
    part_reads_done(&reads);
    const char *text =
        arena_printf(arena, "%.*s", (int)out.len, out.len ? (const char *)out.at : "");
    buf_done(&out);
    return text;
}

/* What everybody sees now. */
__attribute__((unused)) static void stack_expect(struct stack *s, uuid collection,
                                                 const char *expected)
{
    struct arena arena;
    struct view *view = NULL;
    arena_init(&arena, NULL, 0);
    OK(view_acquire(s->views, collection, READ_INDEX_AND_WAL, &view, err));
    assert_string_equal(stack_show(s, view, &arena), expected);
    view_release(view);
    arena_done(&arena);
}
#endif
