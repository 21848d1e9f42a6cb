/* SPDX-License-Identifier: Apache-2.0 */
/* Several collections, each beside its model, and steps that may fail: a world knows the state before and after the step in flight, so that a
 * test can say after a crash that the database shows exactly one of the two.  Included once by each crash test. */
#ifndef SUPPORT_WORLD_H
#define SUPPORT_WORLD_H

#ifndef MODEL_IDS
#define MODEL_IDS 160
#endif
#define MODEL_ROWS_MAX (MODEL_IDS + 8)
#include "support/model.h"

#include <inttypes.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define WORLD_SLOW 8 /* by how much less is tried by default */
#else
#define WORLD_SLOW 1
#endif

#define WORLD_COLLECTIONS 4
#define WORLD_NAMES       6

struct world_collection {
    int name; /* "c<name>" */
    enum metric metric;
    struct model model;
};
struct world_state { /* collections in creation order */
    size_t count;
    struct world_collection at[WORLD_COLLECTIONS];
};
struct world {
    struct bench bench;
    uuid ids[WORLD_COLLECTIONS];    /* beside now.at */
    struct world_state now, before; /* before: as it was when the last step began */
    bool unsure;                    /* the last step failed: now or before */
    uint64_t seed, steps, acknowledged;
    const char *last; /* what the last step was */
};

static const char *world_name(int name, char text[16])
{
    (void)snprintf(text, 16, "c%d-name", name);
    return text;
}

/* The environment's, else the default. */
static uint64_t number_from(const char *name, uint64_t fallback)
{
    const char *text = getenv(name);
    return text ? strtoull(text, NULL, 10) : fallback;
}

/* How long: as the environment says, as long as a soak, else the default. */
__attribute__((unused)) static uint64_t seconds_from(uint64_t fallback)
{
    uint64_t minutes = number_from("OCHRE_SOAK_MINUTES", 0);
    return number_from("OCHRE_CRASH_SECONDS", minutes ? minutes * 60 : fallback);
}

/* How many: as the environment says, no limit but time in a soak, else the default. */
__attribute__((unused)) static uint64_t count_from(uint64_t fallback)
{
    bool soak = getenv("OCHRE_SOAK_MINUTES") != NULL;
    return number_from("OCHRE_CRASH_SEEDS", soak ? UINT64_MAX / 2 : fallback);
}

static struct world *world_new(uint64_t seed, struct io *io)
{
    struct world *w = calloc(1, sizeof(*w));
    assert_non_null(w);
    w->seed = seed;
    random_seed(&w->bench.random, seed);
    w->bench.io = io;
    bench_settings(&w->bench, "24");
    w->bench.settings.log_segment_bytes = 64 << 10;
    w->bench.settings.threads = 1;
    w->bench.settings.background_threads = 1;
    return w;
}

static void world_free(struct world *w)
{
    settings_done(&w->bench.settings);
    io_sim_free(w->bench.io);
    free(w);
}

/* ---- texts of the two sides, to tell states apart ---- */

static void row_text(struct buf *out, int id, const float *vector, slice document, slice uri,
                     slice metadata)
{
    buf_printf(out, " id%d", id);
    for (int i = 0; i < MODEL_DIM; i++)
        buf_printf(out, " %g", vector ? (double)vector[i] : 99.0);
    buf_printf(out, " | %.*s | %.*s | %.*s\n", SLICE_ARG(document), SLICE_ARG(uri),
               SLICE_ARG(metadata));
}

static void collection_text(const struct world_collection *c, struct buf *out)
{
    char document[64], uri[32];
    for (size_t i = 0; i < c->model.count; i++) {
        const struct model_record *row = &c->model.rows[i];
        struct buf json;
        buf_init(&json, BUF_MAX_NONE);
        for (int k = 0; k < MODEL_KEYS; k++) {
            if (row->values[k].kind == VALUE_NONE)
                continue;
            buf_printf(&json, "%s\"k%d\":", json.len ? "," : "{", k);
            value_json(&row->values[k], &json);
        }
        if (json.len)
            buf_byte(&json, '}');
        document_text(row->document, document);
        (void)snprintf(uri, sizeof(uri), "u%d", row->uri);
        row_text(out, row->id, row->vector, slice_of(row->document >= 0 ? document : ""),
                 slice_of(row->uri >= 0 ? uri : ""), buf_view(&json));
        buf_done(&json);
    }
}

static void state_text(const struct world_state *s, struct buf *out)
{
    char name[16];
    for (size_t c = 0; c < s->count; c++) {
        buf_printf(out, "%s:\n", world_name(s->at[c].name, name));
        collection_text(&s->at[c], out);
    }
}

static och_code rows_text(struct database *d, uuid collection, struct buf *out, och_error *err)
{
    struct arena arena;
    arena_init(&arena, NULL, 0);
    struct plan plan = {
        .kind = PLAN_GET, .collection = collection, .fields = RECORD_ALL, .limit = PLAN_NO_LIMIT};
    struct query_result result = {0};
    och_code code = gateway_read(database_gateway(d), &bench_scope, &plan, &arena, &result, err);
    for (size_t i = 0; code == OCH_OK && i < result.hits->count; i++) {
        const struct record *row = &result.hits->rows[i].record;
        struct buf json;
        char id[32] = {0};
        buf_init(&json, BUF_MAX_NONE);
        if (row->metadata.at)
            meta_to_json(row->metadata, &json);
        memcpy(id, row->id.at, row->id.len < 31 ? row->id.len : 31);
        row_text(out, id[0] && id[1] ? atoi(id + 2) : -1, row->vector, row->document, row->uri,
                 buf_view(&json));
        buf_done(&json);
    }
    query_result_done(&result);
    arena_done(&arena);
    return code;
}

/* What the database shows, collections in creation order; remembers their ids. */
static och_code shown_text(struct world *w, struct buf *out, och_error *err)
{
    struct arena arena;
    arena_init(&arena, NULL, 0);
    const struct sysdb_collection **rows = NULL;
    size_t count = 0;
    och_code code =
        sysdb_collection_list(database_sysdb(w->bench.database), bench_scope.tenant,
                              bench_scope.database, UINT64_MAX, 0, &arena, &rows, &count, err);
    for (size_t i = 0; i < count; i++) {
        buf_printf(out, "%.*s:\n", SLICE_ARG(rows[i]->name));
        if (i < WORLD_COLLECTIONS)
            w->ids[i] = rows[i]->id;
        if (code == OCH_OK)
            code = rows_text(w->bench.database, rows[i]->id, out, err);
        if (code != OCH_OK)
            error_context(err, "%.*s", SLICE_ARG(rows[i]->name));
        sysdb_collection_unref(rows[i]);
    }
    arena_done(&arena);
    return code;
}

static void text_save(const char *path, const struct buf *text)
{
    FILE *file = fopen(path, "w");
    if (file) {
        (void)fwrite(text->at, 1, text->len, file);
        (void)fclose(file);
    }
}

/* The database must show the state after the last step; or, when that step failed, after or before it: then we know which.  True: after. */
__attribute__((unused)) static bool world_settle(struct world *w)
{
    struct buf shown, now, before;
    buf_init(&shown, BUF_MAX_NONE);
    buf_init(&now, BUF_MAX_NONE);
    buf_init(&before, BUF_MAX_NONE);
    och_error err = {0};
    if (shown_text(w, &shown, &err) != OCH_OK)
        fail_msg("seed %" PRIu64 " after %s: reading: %s (%s:%d)", w->seed, w->last, err.message,
                 err.file, err.line);
    state_text(&w->now, &now);
    state_text(&w->before, &before);
    bool same = slice_equal(buf_view(&shown), buf_view(&now));
    bool older = w->unsure && slice_equal(buf_view(&shown), buf_view(&before));
    if (!same && !older) {
        text_save("/tmp/ochre-world-shown.txt", &shown);
        text_save("/tmp/ochre-world-now.txt", &now);
        text_save("/tmp/ochre-world-before.txt", &before);
        fail_msg("seed %" PRIu64 ", step %" PRIu64 " (%s%s): the database shows another state; see "
                 "/tmp/ochre-world-{shown,now,before}.txt",
                 w->seed, w->steps, w->last, w->unsure ? ", failed" : "");
    }
    if (!same)
        w->now = w->before;
    w->unsure = false;
    buf_done(&shown);
    buf_done(&now);
    buf_done(&before);
    return same;
}

/* ---- steps ---- */

static void world_use(struct world *w, size_t i)
{
    w->bench.collection = w->ids[i];
    w->bench.metric = w->now.at[i].metric;
}

static och_code step_create(struct world *w, och_error *err)
{
    struct random *r = &w->bench.random;
    int name = (int)random_below(r, WORLD_NAMES);
    for (size_t i = 0; i < w->now.count; i++) {
        if (w->now.at[i].name == name)
            return OCH_OK;
    }
    size_t i = w->now.count++;
    char text[16];
    w->now.at[i].name = name;
    w->now.at[i].metric = random_below(r, 2) ? METRIC_L2 : METRIC_IP;
    w->now.at[i].model.count = 0;
    w->bench.metric = w->now.at[i].metric;
    w->last = "create";
    TRY(bench_create(&w->bench, world_name(name, text), err));
    w->ids[i] = w->bench.collection;
    return OCH_OK;
}

static och_code step_fork(struct world *w, size_t from, och_error *err)
{
    int name = (int)random_below(&w->bench.random, WORLD_NAMES);
    for (size_t i = 0; i < w->now.count; i++) {
        if (w->now.at[i].name == name)
            return OCH_OK;
    }
    size_t i = w->now.count++;
    char text[16];
    w->now.at[i] = w->now.at[from];
    w->now.at[i].name = name;
    w->last = "fork";
    return bench_fork(&w->bench, world_name(name, text), &w->ids[i], err);
}

static och_code step_drop(struct world *w, size_t i, och_error *err)
{
    char text[16];
    slice name = slice_of(world_name(w->now.at[i].name, text));
    for (size_t c = i; c + 1 < w->now.count; c++) {
        w->now.at[c] = w->now.at[c + 1];
        w->ids[c] = w->ids[c + 1];
    }
    w->now.count--;
    w->last = "drop";
    bench_enter(&w->bench);
    return bench_leave(&w->bench, gateway_collection_drop(database_gateway(w->bench.database),
                                                          &bench_scope, name, err));
}

static och_code step_rename(struct world *w, size_t i, och_error *err)
{
    int name = (int)random_below(&w->bench.random, WORLD_NAMES);
    for (size_t c = 0; c < w->now.count; c++) {
        if (w->now.at[c].name == name)
            return OCH_OK;
    }
    char text[16];
    w->now.at[i].name = name;
    w->last = "rename";
    struct arena arena;
    arena_init(&arena, NULL, 0);
    struct json_value value;
    struct json_fault fault;
    och_code code = json_read(slice_of(arena_printf(&arena, "\"%s\"", world_name(name, text))),
                              NULL, &arena, &value, &fault, err);
    bench_enter(&w->bench);
    if (code == OCH_OK)
        code = gateway_collection_update(database_gateway(w->bench.database), &bench_scope,
                                         w->ids[i], &value, NULL, NULL, err);
    code = bench_leave(&w->bench, code);
    arena_done(&arena);
    return code;
}

static och_code step_write(struct world *w, size_t i, och_error *err)
{
    struct model_write writes[24];
    uint32_t count = random_batch(&w->bench.random, writes, COUNT_OF(writes));
    for (uint32_t row = 0; row < count; row++)
        model_apply(&w->now.at[i].model, &writes[row]);
    static const char *const names[] = {[BATCH_ADD] = "add",
                                        [BATCH_UPDATE] = "update",
                                        [BATCH_UPSERT] = "upsert",
                                        [BATCH_DELETE] = "delete"};
    w->last = names[writes[0].op];
    struct gateway_counts counts;
    return bench_write(&w->bench, writes, count, random_below(&w->bench.random, 6) == 0, &counts,
                       err);
}

static och_code step_delete(struct world *w, size_t i, och_error *err)
{
    struct arena arena;
    arena_init(&arena, NULL, 0);
    struct model_filter filter = random_filter(&w->bench.random);
    if (filter.shape == 0)
        filter.shape = 2;
    struct plan plan = {.collection = w->ids[i],
                        .limit = 1 + random_below(&w->bench.random, 12),
                        .filter = filter_node_of(&filter, &arena)};
    struct model *m = &w->now.at[i].model;
    uint64_t deleted = 0, expected = 0;
    for (size_t row = 0; row < m->count && expected < plan.limit;) {
        if (!filter_accepts(&filter, &m->rows[row])) {
            row++;
            continue;
        }
        model_remove(m, m->rows[row].id);
        expected++;
    }
    w->last = "delete by filter";
    bench_enter(&w->bench);
    och_code code = gateway_delete(database_gateway(w->bench.database), &bench_scope, &plan, NULL,
                                   false, &deleted, err);
    code = bench_leave(&w->bench, code);
    if (code == OCH_OK && deleted != expected)
        fail_msg("seed %" PRIu64 ": deleted %" PRIu64 ", expected %" PRIu64, w->seed, deleted,
                 expected);
    arena_done(&arena);
    return code;
}

static och_code step_compact(struct world *w, och_error *err)
{
    size_t pick = w->now.count ? random_below(&w->bench.random, w->now.count + 1) : 0;
    bool to_one = random_below(&w->bench.random, 4) == 0;
    w->last = "compact";
    bench_enter(&w->bench);
    return bench_leave(&w->bench,
                       compactor_run(database_compactor(w->bench.database),
                                     pick < w->now.count ? &w->ids[pick] : NULL, to_one, err));
}

static och_code step_restart(struct world *w, och_error *err)
{
    w->last = "close";
    bench_enter(&w->bench);
    och_code code = bench_leave(&w->bench, database_close(w->bench.database, err));
    database_free(w->bench.database);
    w->bench.database = NULL;
    TRY(code);
    w->last = "open";
    return bench_try_open(&w->bench, err);
}

/* One step that changes something.  An error leaves the world unsure; without a database when a restart failed. */
__attribute__((unused)) static och_code world_step(struct world *w, och_error *err)
{
    uint64_t dice = random_below(&w->bench.random, 100);
    w->before = w->now;
    w->steps++;
    och_code code;
    size_t i = w->now.count ? random_below(&w->bench.random, w->now.count) : 0;
    bool room = w->now.count < WORLD_COLLECTIONS;
    if (w->now.count == 0 || (dice < 2 && room)) {
        code = step_create(w, err);
    } else if (dice < 6 && room) {
        world_use(w, i);
        code = step_fork(w, i, err);
    } else if (dice < 9) {
        code = step_drop(w, i, err);
    } else if (dice < 11) {
        code = step_rename(w, i, err);
    } else if (dice < 13) {
        code = step_restart(w, err);
    } else if (dice < 30) {
        code = step_compact(w, err);
    } else {
        world_use(w, i);
        code = dice < 38 ? step_delete(w, i, err) : step_write(w, i, err);
    }
    w->unsure = code != OCH_OK;
    w->acknowledged += code == OCH_OK;
    if (code == OCH_BUSY) { // refused: nothing happened
        w->now = w->before;
        w->unsure = false;
    }
    return code;
}

/* Filters, pages and queries of every collection. */
__attribute__((unused)) static void world_check_reads(struct world *w, unsigned rounds)
{
    for (size_t i = 0; i < w->now.count; i++) {
        struct model *m = &w->now.at[i].model;
        world_use(w, i);
        check_all(&w->bench, m);
        for (unsigned round = 0; round < rounds; round++) {
            struct model_filter filter = random_filter(&w->bench.random);
            check_get(&w->bench, m, &filter, round & 1, 0, PLAN_NO_LIMIT);
            check_query(&w->bench, m, &filter, 1 + (uint32_t)random_below(&w->bench.random, 12));
        }
    }
}

/* Invariant 6: once at rest, the store holds exactly what the catalogue names. */
__attribute__((unused)) static void world_audit(struct world *w)
{
    och_error err = {0};
    struct arena arena;
    struct io_entry *entries = NULL;
    size_t count = 0, known = 0;
    uuid *files = NULL;
    arena_init(&arena, NULL, 0);
    if (compactor_run(database_compactor(w->bench.database), NULL, true, &err) != OCH_OK)
        fail_msg("seed %" PRIu64 ": coming to rest: %s", w->seed, err.message);
    if (compactor_start(database_compactor(w->bench.database), &err) != OCH_OK)
        fail_msg("seed %" PRIu64 ": clearing up: %s", w->seed, err.message);
    compactor_stop(database_compactor(w->bench.database)); // what was only announced is gone now
    if (io_list(w->bench.io, "data/blobs", &arena, &entries, &count, &err) != OCH_OK &&
        err.code != OCH_NOT_FOUND)
        fail_msg("blobs: %s", err.message);
    size_t blobs = 0;
    for (size_t i = 0; i < count; i++) {
        struct io_entry *inner = NULL;
        size_t inner_count = 0;
        if (!entries[i].is_folder) {
            blobs++;
        } else if (io_list(w->bench.io, arena_printf(&arena, "data/blobs/%s", entries[i].name),
                           &arena, &inner, &inner_count, &err) == OCH_OK) {
            blobs += inner_count;
        }
    }
    if (sysdb_file_list(database_sysdb(w->bench.database), &arena, &files, &known, &err) != OCH_OK)
        fail_msg("files: %s", err.message);
    if (blobs != known)
        fail_msg("seed %" PRIu64 ": the store holds %zu blobs, the catalogue knows %zu", w->seed,
                 blobs, known);
    arena_done(&arena);
}
#endif
