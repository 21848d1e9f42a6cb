/* SPDX-License-Identifier: Apache-2.0 */
/* A slow, obvious model of one collection, and a database beside it: the same operations go to both, the answers must be equal.
 * Shared by property and crash tests; included once by each. */
#ifndef SUPPORT_MODEL_H
#define SUPPORT_MODEL_H

#include "base/io_sim.h"
#include "kernel/kernel.h"
#include "mode/database.h"
#include "model/filter.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define MODEL_DIM 5
#ifndef MODEL_IDS
#define MODEL_IDS 160
#endif
#define MODEL_KEYS 3
#ifndef MODEL_ROWS_MAX /* a test that copies models may ask for less */
#define MODEL_ROWS_MAX 4096
#endif

enum model_kind { VALUE_NONE, VALUE_INT, VALUE_TEXT, VALUE_BOOL, VALUE_FLOAT };
struct model_value {
    enum model_kind kind;
    int number; /* int; text "t<number>"; bool number & 1; float number + 0.5 */
};
struct model_record {
    int id;
    float vector[MODEL_DIM];
    int document, uri; /* -1: none; document "doc <n> <n * 7>", uri "u<n>" */
    struct model_value values[MODEL_KEYS];
};
struct model {
    struct model_record rows[MODEL_ROWS_MAX]; /* in insertion order */
    size_t count;
};

static struct model_record *model_find(struct model *m, int id)
{
    for (size_t i = 0; i < m->count; i++) {
        if (m->rows[i].id == id)
            return &m->rows[i];
    }
    return NULL;
}

static void model_remove(struct model *m, int id)
{
    struct model_record *row = model_find(m, id);
    if (!row)
        return;
    size_t i = (size_t)(row - m->rows);
    memmove(row, row + 1, (m->count - i - 1) * sizeof(*row));
    m->count--;
}

/* One row of a write: what is carried. patch[k].kind VALUE_NONE = not carried; deletes[k]: the key goes. */
struct model_write {
    uint8_t op;
    int id;
    bool has_vector;
    float vector[MODEL_DIM];
    int document, uri; /* -1: not carried, -2: cleared */
    bool has_metadata;
    struct model_value patch[MODEL_KEYS];
    bool deletes[MODEL_KEYS];
};

static void model_merge(struct model_record *row, const struct model_write *w)
{
    if (w->has_vector)
        memcpy(row->vector, w->vector, sizeof(row->vector));
    if (w->document != -1)
        row->document = w->document == -2 ? -1 : w->document;
    if (w->uri != -1)
        row->uri = w->uri == -2 ? -1 : w->uri;
    for (int k = 0; w->has_metadata && k < MODEL_KEYS; k++) {
        if (w->deletes[k])
            row->values[k].kind = VALUE_NONE;
        else if (w->patch[k].kind != VALUE_NONE)
            row->values[k] = w->patch[k];
    }
}

static void model_apply(struct model *m, const struct model_write *w)
{
    struct model_record *row = model_find(m, w->id);
    if (w->op == BATCH_DELETE) {
        model_remove(m, w->id);
    } else if (row && w->op != BATCH_ADD) {
        model_merge(row, w);
    } else if (!row && w->op != BATCH_UPDATE) {
        assert_true(m->count < MODEL_ROWS_MAX);
        struct model_record fresh = {.id = w->id, .document = -1, .uri = -1};
        model_merge(&fresh, w);
        m->rows[m->count++] = fresh;
    }
}

/* ---- texts ---- */

static void document_text(int n, char text[64])
{
    (void)snprintf(text, 64, "doc %d %d", n, n * 7);
}

static void value_json(const struct model_value *v, struct buf *out)
{
    switch (v->kind) {
    case VALUE_INT:
        buf_printf(out, "%d", v->number);
        break;
    case VALUE_TEXT:
        buf_printf(out, "\"t%d\"", v->number);
        break;
    case VALUE_BOOL:
        buf_text(out, v->number & 1 ? "true" : "false");
        break;
    case VALUE_FLOAT:
        buf_printf(out, "%d.5", v->number);
        break;
    case VALUE_NONE:
        buf_text(out, "null");
        break;
    }
}

/* ---- filters: one random shape, its JSON and its meaning ---- */

struct model_filter {
    int shape; /* 0: none */
    int key, number;
    int document_part; /* -1: none; else documents containing " <n>" at their end digits */
};

static void filter_json(const struct model_filter *f, struct buf *out)
{
    static const char *const shapes[] = {
        "",
        "{\"k%d\":{\"$gte\":%d}}",
        "{\"k%d\":\"t%d\"}",
        "{\"k%d\":{\"$ne\":%d}}",
        "{\"k%d\":{\"$in\":[%d,1,2]}}",
        "{\"$or\":[{\"k%d\":{\"$lt\":%d}},{\"k0\":true}]}",
        "{\"$and\":[{\"k%d\":{\"$gt\":%d}},{\"k1\":{\"$ne\":\"t1\"}}]}",
    };
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
    buf_printf(out, shapes[f->shape], f->key, f->number);
#pragma GCC diagnostic pop
}

static bool number_of(const struct model_value *v, double *ret)
{
    *ret = v->kind == VALUE_FLOAT ? v->number + 0.5 : v->number;
    return v->kind == VALUE_INT || v->kind == VALUE_FLOAT;
}

static bool filter_accepts(const struct model_filter *f, const struct model_record *row)
{
    double n = 0;
    const struct model_value *v = &row->values[f->key];
    bool numeric = number_of(v, &n), ok = true;
    bool text1 = row->values[1].kind == VALUE_TEXT && row->values[1].number == 1;
    switch (f->shape) {
    case 1:
        ok = numeric && n >= f->number;
        break;
    case 2:
        ok = v->kind == VALUE_TEXT && v->number == f->number;
        break;
    case 3:
        ok = !(numeric && n == f->number);
        break;
    case 4:
        ok = numeric && (n == f->number || n == 1 || n == 2);
        break;
    case 5:
        ok = (numeric && n < f->number) ||
             (row->values[0].kind == VALUE_BOOL && (row->values[0].number & 1));
        break;
    case 6:
        ok = numeric && n > f->number && !text1;
        break;
    default:
        break;
    }
    if (f->document_part >= 0) {
        char text[64] = "", needle[16];
        if (row->document >= 0)
            document_text(row->document, text);
        (void)snprintf(needle, sizeof(needle), "%d", f->document_part);
        ok = ok && row->document >= 0 && strstr(text, needle) != NULL;
    }
    return ok;
}

/* ---- the database beside it ---- */

struct bench { /* a database under test */
    struct io *io;
    struct settings settings;
    struct database *database;
    uuid collection;
    enum metric metric;
    struct random random;
    void (*enter)(struct bench *b); /* NULL, or called around every call of the database that */
    void (*leave)(struct bench *b); /* may fail: where tests arm and disarm faults */
    bool background;                /* compaction runs by itself, not only by request */
    bool lenient;      /* a read may answer that bytes are damaged, instead of rightly: then it */
    uint64_t refused;  /* counts here */
    och_error refusal; /* the last of them */
};

static void bench_enter(struct bench *b)
{
    if (b->enter)
        b->enter(b);
}
static och_code bench_leave(struct bench *b, och_code code)
{
    if (b->leave)
        b->leave(b);
    return code;
}

static void bench_settings(struct bench *b, const char *tail_rows)
{
    const struct setting_flag flags[] = {
        {"tail_rows_max", tail_rows}, {"memory_limit", "512MiB"}, {"log_segment_bytes", "1MiB"}};
    struct settings_input input = {.flags = flags, .flag_count = COUNT_OF(flags)};
    och_error err = {0};
    if (settings_init(&input, &b->settings, &err) != OCH_OK)
        fail_msg("settings: %s", err.message);
}

static och_code bench_try_open(struct bench *b, och_error *err)
{
    struct database_options options = {.path = "data",
                                       .create = true,
                                       .settings = &b->settings,
                                       .io = b->io,
                                       .start_compactor = b->background};
    bench_enter(b);
    return bench_leave(b, database_open(&options, &b->database, err));
}

__attribute__((unused)) static void bench_open(struct bench *b)
{
    och_error err = {0};
    if (bench_try_open(b, &err) != OCH_OK)
        fail_msg("open: %s", err.message);
}

static void bench_close(struct bench *b)
{
    och_error err = {0};
    if (database_close(b->database, &err) != OCH_OK)
        fail_msg("close: %s", err.message);
    database_free(b->database);
    b->database = NULL;
}

static struct gateway_scope bench_scope = {.tenant = {(const uint8_t *)"default_tenant", 14},
                                           .database = {(const uint8_t *)"default_database", 16}};

static och_code bench_create(struct bench *b, const char *name, och_error *err)
{
    struct arena arena;
    arena_init(&arena, NULL, 0);
    static const char *const spaces[] = {
        [METRIC_L2] = "l2", [METRIC_COSINE] = "cosine", [METRIC_IP] = "ip"};
    const char *text = arena_printf(&arena, "{\"hnsw\":{\"space\":\"%s\"}}", spaces[b->metric]);
    struct json_value configuration;
    struct json_fault fault;
    och_code code = json_read(slice_of(text), NULL, &arena, &configuration, &fault, err);
    const struct sysdb_collection *collection = NULL;
    struct gateway_collection_new spec = {
        .name = slice_of(name), .configuration = &configuration, .get_or_create = true};
    bench_enter(b);
    if (code == OCH_OK)
        code = gateway_collection_create(database_gateway(b->database), &bench_scope, &spec,
                                         &collection, err);
    code = bench_leave(b, code);
    if (code == OCH_OK)
        b->collection = collection->id;
    sysdb_collection_unref(collection);
    arena_done(&arena);
    return code;
}

/* A fork of bench.collection; *ret_id its id. */
__attribute__((unused)) static och_code bench_fork(struct bench *b, const char *name, uuid *ret_id,
                                                   och_error *err)
{
    const struct sysdb_collection *copy = NULL;
    bench_enter(b);
    och_code code =
        bench_leave(b, gateway_collection_fork(database_gateway(b->database), &bench_scope,
                                               b->collection, slice_of(name), &copy, err));
    if (code == OCH_OK)
        *ret_id = copy->id;
    sysdb_collection_unref(copy);
    return code;
}

static void encode_row(const struct model_write *w, struct arena *arena,
                       struct batch_input_row *row)
{
    char text[64];
    (void)snprintf(text, sizeof(text), "id%d", w->id);
    *row = (struct batch_input_row){.op = w->op,
                                    .id = arena_copy(arena, slice_of(text)),
                                    .vector = w->has_vector ? w->vector : NULL};
    if (w->op == BATCH_DELETE)
        return;
    if (w->document >= 0) {
        document_text(w->document, text);
        row->document = arena_copy(arena, slice_of(text));
    }
    row->document_state = w->document >= 0    ? FIELD_VALUE
                          : w->document == -2 ? FIELD_CLEAR
                                              : FIELD_KEEP;
    if (w->uri >= 0) {
        (void)snprintf(text, sizeof(text), "u%d", w->uri);
        row->uri = arena_copy(arena, slice_of(text));
    }
    row->uri_state = w->uri >= 0 ? FIELD_VALUE : w->uri == -2 ? FIELD_CLEAR : FIELD_KEEP;
    if (!w->has_metadata)
        return;
    struct buf json, encoded;
    buf_init(&json, BUF_MAX_NONE);
    buf_init(&encoded, BUF_MAX_NONE);
    buf_byte(&json, '{');
    for (int k = 0; k < MODEL_KEYS; k++) {
        if (w->patch[k].kind == VALUE_NONE && !w->deletes[k])
            continue;
        buf_printf(&json, "%s\"k%d\":", json.len > 1 ? "," : "", k);
        struct model_value none = {VALUE_NONE, 0};
        value_json(w->deletes[k] ? &none : &w->patch[k], &json);
    }
    buf_byte(&json, '}');
    struct json_value value;
    struct json_fault fault;
    och_error err = {0};
    if (json_read(buf_view(&json), NULL, arena, &value, &fault, &err) != OCH_OK ||
        meta_from_json(&value, META_ALLOW_DELETE, &encoded, &err) != OCH_OK)
        fail_msg("metadata: %s", err.message);
    row->metadata = arena_copy(arena, buf_view(&encoded));
    row->metadata_state = FIELD_VALUE;
    buf_done(&json);
    buf_done(&encoded);
}

static och_code bench_write(struct bench *b, const struct model_write *writes, uint32_t count,
                            bool want_counts, struct gateway_counts *ret_counts, och_error *err)
{
    struct arena arena;
    arena_init(&arena, NULL, 0);
    struct batch_input_row *rows = ARENA_ARRAY(&arena, struct batch_input_row, count);
    bool vectors = false;
    for (uint32_t i = 0; i < count; i++) {
        encode_row(&writes[i], &arena, &rows[i]);
        vectors |= writes[i].has_vector;
    }
    struct gateway_write write = {
        .collection = b->collection,
        .input = {.count = count, .dimension = vectors ? MODEL_DIM : 0, .rows = rows},
        .want_counts = want_counts};
    bench_enter(b);
    och_code code =
        gateway_write(database_gateway(b->database), &bench_scope, &write, ret_counts, err);
    arena_done(&arena);
    return bench_leave(b, code);
}

/* ---- random work ---- */

static struct model_value random_value(struct random *r)
{
    return (struct model_value){(enum model_kind)(1 + random_below(r, 4)), (int)random_below(r, 8)};
}

static void random_write(struct random *r, uint8_t op, struct model_write *w)
{
    *w = (struct model_write){
        .op = op, .id = (int)random_below(r, MODEL_IDS), .document = -1, .uri = -1};
    if (op == BATCH_DELETE)
        return;
    w->has_vector = op != BATCH_UPDATE || random_below(r, 2);
    for (int i = 0; i < MODEL_DIM; i++)
        w->vector[i] = (float)random_below(r, 5) - 2.0f; /* few values: many ties */
    if (random_below(r, 2))
        w->document = (int)random_below(r, 1000);
    else if (op != BATCH_ADD && random_below(r, 4) == 0)
        w->document = -2;
    if (random_below(r, 3) == 0)
        w->uri = (int)random_below(r, 1000);
    w->has_metadata = random_below(r, 3) != 0;
    for (int k = 0; w->has_metadata && k < MODEL_KEYS; k++) {
        if (random_below(r, 2))
            w->patch[k] = random_value(r);
        else if (op != BATCH_ADD && random_below(r, 4) == 0)
            w->deletes[k] = true;
    }
}

static uint32_t random_batch(struct random *r, struct model_write *writes, uint32_t most)
{
    static const uint8_t ops[] = {BATCH_ADD, BATCH_ADD, BATCH_UPSERT, BATCH_UPDATE, BATCH_DELETE};
    uint8_t op = ops[random_below(r, COUNT_OF(ops))];
    uint32_t count = 1 + (uint32_t)random_below(r, most);
    for (uint32_t i = 0; i < count; i++)
        random_write(r, op, &writes[i]);
    return count;
}

static struct model_filter random_filter(struct random *r)
{
    return (struct model_filter){.shape = (int)random_below(r, 7),
                                 .key = (int)random_below(r, MODEL_KEYS),
                                 .number = (int)random_below(r, 8),
                                 .document_part =
                                     random_below(r, 4) ? -1 : (int)random_below(r, 40)};
}

/* ---- comparing ---- */

static struct filter_node *filter_node_of(const struct model_filter *f, struct arena *arena)
{
    och_error err = {0};
    struct filter_node *where = NULL, *document = NULL, *both = NULL;
    struct json_value value;
    struct json_fault fault;
    if (f->shape) {
        struct buf text;
        buf_init(&text, 4096);
        filter_json(f, &text);
        if (json_read(buf_view(&text), NULL, arena, &value, &fault, &err) != OCH_OK ||
            filter_parse_where(&value, arena, &where, &err) != OCH_OK)
            fail_msg("filter: %s", err.message);
        buf_done(&text);
    }
    if (f->document_part >= 0) {
        const char *text = arena_printf(arena, "{\"$contains\":\"%d\"}", f->document_part);
        if (json_read(slice_of(text), NULL, arena, &value, &fault, &err) != OCH_OK ||
            filter_parse_document(&value, arena, &document, &err) != OCH_OK)
            fail_msg("filter: %s", err.message);
    }
    if (filter_join(where, document, arena, &both, &err) != OCH_OK)
        fail_msg("filter: %s", err.message);
    return both;
}

static void compare_text(slice got, const char *expected, const char *what, int id)
{
    if (!expected ? got.at != NULL : !got.at || !slice_equal(got, slice_of(expected)))
        fail_msg("%s of id%d: got %.*s, expected %s", what, id, got.at ? (int)got.len : 4,
                 got.at ? (const char *)got.at : "none", expected ? expected : "none");
}

static void compare_record(const struct record *got, const struct model_record *row)
{
    char text[64];
    (void)snprintf(text, sizeof(text), "id%d", row->id);
    compare_text(got->id, text, "id", row->id);
    if (!got->vector || memcmp(got->vector, row->vector, sizeof(row->vector)) != 0)
        fail_msg("vector of id%d differs", row->id);
    document_text(row->document, text);
    compare_text(got->document, row->document >= 0 ? text : NULL, "document", row->id);
    (void)snprintf(text, sizeof(text), "u%d", row->uri);
    compare_text(got->uri, row->uri >= 0 ? text : NULL, "uri", row->id);
    struct buf expected, shown;
    buf_init(&expected, BUF_MAX_NONE);
    buf_init(&shown, BUF_MAX_NONE);
    buf_byte(&expected, '{');
    for (int k = 0; k < MODEL_KEYS; k++) {
        if (row->values[k].kind == VALUE_NONE)
            continue;
        buf_printf(&expected, "%s\"k%d\":", expected.len > 1 ? "," : "", k);
        value_json(&row->values[k], &expected);
    }
    buf_byte(&expected, '}');
    buf_byte(&expected, '\0');
    if (got->metadata.at)
        meta_to_json(got->metadata, &shown);
    compare_text(got->metadata.at ? buf_view(&shown) : SLICE_NONE,
                 expected.len > 3 ? (const char *)expected.at : NULL, "metadata", row->id);
    buf_done(&expected);
    buf_done(&shown);
}

/* True when a read may and did refuse. */
static bool read_refused(struct bench *b, och_code code, const och_error *err)
{
    if (code == OCH_OK)
        return false;
    bool damage = code == OCH_CORRUPT || code == OCH_IO || code == OCH_NOT_FOUND;
    if (!b->lenient || !damage || !err->message[0])
        fail_msg("read: %s (%s:%d)", err->message, err->file, err->line);
    b->refused++;
    b->refusal = *err;
    return true;
}

/* get: filter, ids, page. */
static void check_get(struct bench *b, struct model *m, const struct model_filter *f, bool use_ids,
                      uint64_t offset, uint64_t limit)
{
    struct arena arena;
    arena_init(&arena, NULL, 0);
    bool wanted[MODEL_IDS] = {false};
    slice ids[20];
    struct plan plan = {.kind = PLAN_GET,
                        .collection = b->collection,
                        .fields = RECORD_ALL,
                        .limit = limit,
                        .offset = offset,
                        .filter = filter_node_of(f, &arena)};
    if (use_ids) {
        plan.has_ids = true;
        plan.ids = ids;
        plan.id_count = random_below(&b->random, COUNT_OF(ids) + 1);
        for (uint64_t i = 0; i < plan.id_count; i++) {
            int id = (int)random_below(&b->random, MODEL_IDS);
            wanted[id] = true;
            ids[i] = slice_of(arena_printf(&arena, "id%d", id));
        }
    }
    struct query_result result;
    och_error err = {0};
    if (read_refused(
            b,
            gateway_read(database_gateway(b->database), &bench_scope, &plan, &arena, &result, &err),
            &err)) {
        arena_done(&arena);
        return;
    }
    size_t got = 0;
    uint64_t skip = offset;
    for (size_t i = 0; i < m->count; i++) {
        const struct model_record *row = &m->rows[i];
        if (!filter_accepts(f, row) || (use_ids && !wanted[row->id]))
            continue;
        if (skip > 0) {
            skip--;
            continue;
        }
        if (got == limit)
            break;
        if (got >= result.hits->count)
            fail_msg("get returned %zu rows, more are expected (shape %d)", got, f->shape);
        compare_record(&result.hits->rows[got++].record, row);
    }
    assert_int_equal(got, result.hits ? result.hits->count : 0);
    query_result_done(&result);
    plan.kind = PLAN_COUNT;
    if (read_refused(
            b,
            gateway_read(database_gateway(b->database), &bench_scope, &plan, &arena, &result, &err),
            &err)) {
        arena_done(&arena);
        return;
    }
    uint64_t expected = 0;
    for (size_t i = 0; i < m->count; i++)
        expected += filter_accepts(f, &m->rows[i]) && (!use_ids || wanted[m->rows[i].id]);
    assert_int_equal(result.count, expected);
    query_result_done(&result);
    arena_done(&arena);
}

static float model_distance(enum metric metric, const float *a, const float *b)
{
    const struct kernel *k = kernel_get();
    if (metric == METRIC_L2)
        return k->l2_f32(a, b, MODEL_DIM);
    float dot = k->dot_f32(a, b, MODEL_DIM);
    if (metric == METRIC_IP)
        return kernel_ip_distance(dot);
    return kernel_cosine_distance(dot, k->dot_f32(a, a, MODEL_DIM), k->dot_f32(b, b, MODEL_DIM));
}

static void check_query(struct bench *b, struct model *m, const struct model_filter *f, uint32_t k)
{
    struct arena arena;
    arena_init(&arena, NULL, 0);
    float query[MODEL_DIM];
    for (int i = 0; i < MODEL_DIM; i++)
        query[i] = (float)random_below(&b->random, 5) - 2.0f;
    struct plan plan = {.kind = PLAN_QUERY,
                        .collection = b->collection,
                        .fields = RECORD_ALL,
                        .limit = PLAN_NO_LIMIT,
                        .filter = filter_node_of(f, &arena),
                        .vectors = query,
                        .vector_count = 1,
                        .dimension = MODEL_DIM,
                        .k = k};
    struct query_result result;
    och_error err = {0};
    if (read_refused(
            b,
            gateway_read(database_gateway(b->database), &bench_scope, &plan, &arena, &result, &err),
            &err)) {
        arena_done(&arena);
        return;
    }
    bool taken[MODEL_ROWS_MAX] = {false};
    for (size_t rank = 0; rank < k; rank++) {
        size_t best = SIZE_MAX;
        float least = 0;
        for (size_t i = 0; i < m->count; i++) {
            if (taken[i] || !filter_accepts(f, &m->rows[i]))
                continue;
            float distance = model_distance(b->metric, query, m->rows[i].vector);
            if (best == SIZE_MAX || distance < least) {
                best = i;
                least = distance;
            }
        }
        if (best == SIZE_MAX) {
            assert_int_equal(result.hits[0].count, rank);
            break;
        }
        taken[best] = true;
        if (rank >= result.hits[0].count)
            fail_msg("query returned %zu hits of %u", rank, k);
        compare_record(&result.hits[0].rows[rank].record, &m->rows[best]);
        if (memcmp(&least, &result.hits[0].rows[rank].distance, sizeof(least)) != 0)
            fail_msg("distance of id%d: got %.9g, expected %.9g", m->rows[best].id,
                     (double)result.hits[0].rows[rank].distance, (double)least);
    }
    query_result_done(&result);
    arena_done(&arena);
}

static void check_all(struct bench *b, struct model *m)
{
    struct model_filter none = {.document_part = -1};
    check_get(b, m, &none, false, 0, PLAN_NO_LIMIT);
}
#endif
