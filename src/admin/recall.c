/* SPDX-License-Identifier: Apache-2.0 */
/* `ochre recall`: draw stored rows (or take given vectors), ask exactly, ask as everybody asks, compare. */
#include "admin/recall_internal.h"

#include "base/clock.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#define TARGET_EXACT 1.0

struct probe {
    const struct recall_options *options;
    const struct recall_collection *of;
    struct arena arena;   /* of the collection */
    struct arena request; /* of one exchange; emptied by each */
    uint32_t count, dimension;
    const float *vectors; /* count x dimension */
    slice *ids;       /* of stored rows, to be left out of their own answers; NULL: given vectors */
    uint32_t *wanted; /* how many rows the exact answer has, at most k */
    double *bounds;   /* the farthest distance among them */
};
struct answer { /* one query's, without the row itself */
    uint32_t count;
    double distances[RECALL_K_MAX];
    double time_us, lists, rows_coded, parts;
};

/* ---- one query ---- */

static och_code write_query(const struct probe *p, uint32_t q, double target, struct buf *body,
                            och_error *err)
{
    buf_text(body, "{\"query_embeddings\":[");
    json_write_f32_array(body, p->vectors + (size_t)q * p->dimension, p->dimension);
    buf_printf(body, "],\"n_results\":%" PRIu32 ",\"include\":[\"distances\"],\"explain\":true",
               p->options->k + (p->ids ? 1 : 0));
    if (target > 0)
        buf_printf(body, ",\"recall\":%.9g", target);
    buf_byte(body, '}');
    return buf_check(body, "a query", err);
}

/* The first element of a member that holds one array a query. */
static const struct json_value *only_row(const struct json_value *answer, const char *name)
{
    const struct json_value *rows = json_get(answer, slice_of(name));
    bool sound =
        rows && rows->kind == JSON_ARRAY && rows->count == 1 && rows->items[0].kind == JSON_ARRAY;
    return sound ? &rows->items[0] : NULL;
}

static och_code read_answer(const struct probe *p, uint32_t q, const struct json_value *value,
                            struct answer *ret_answer, och_error *err)
{
    const struct json_value *ids = only_row(value, "ids"),
                            *distances = only_row(value, "distances"),
                            *explain = json_get(value, SLICE("explain"));
    if (!ids || !distances || ids->count != distances->count)
        return FAIL(err, OCH_UNAVAILABLE, "an answer without ids or distances");
    if (!explain || explain->kind != JSON_OBJECT)
        return FAIL(err, OCH_UNSUPPORTED,
                    "the server does not tell how it answers: only Ochre can be probed");
    ret_answer->count = 0;
    for (uint32_t i = 0; i < ids->count && ret_answer->count < p->options->k; i++) {
        const struct json_value *id = &ids->items[i], *distance = &distances->items[i];
        if (p->ids && id->kind == JSON_STRING && slice_equal(id->string, p->ids[q]))
            continue;
        double number = distance->kind == JSON_INT     ? (double)distance->integer
                        : distance->kind == JSON_FLOAT ? distance->number
                                                       : (double)INFINITY;
        ret_answer->distances[ret_answer->count++] = number;
    }
    ret_answer->time_us = recall_number(explain, "time_us");
    ret_answer->lists = recall_number(explain, "lists_probed");
    ret_answer->rows_coded = recall_number(explain, "rows_coded");
    ret_answer->parts = recall_number(explain, "parts");
    return OCH_OK;
}

static och_code ask(struct probe *p, uint32_t q, double target, struct answer *ret_answer,
                    och_error *err)
{
    struct json_value value;
    CLEANUP(buf_cleanup) struct buf body;
    buf_init(&body, BUF_MAX_NONE);
    arena_done(&p->request);
    arena_init(&p->request, NULL, 0);
    TRY(write_query(p, q, target, &body, err));
    const char *path = arena_printf(&p->request, "/collections/%.*s/query", SLICE_ARG(p->of->id));
    if (!path)
        return FAIL_NO_MEMORY(err, "a path");
    TRY(recall_ask(p->options, "POST", path, buf_view(&body), "query", &p->request, &value, err));
    return read_answer(p, q, &value, ret_answer, err);
}

/* ---- which vectors are asked ---- */

/* One stored row at a place in order of insertion; *ret_any false: it has no vector, or is gone meanwhile. */
static och_code read_row(struct probe *p, uint64_t offset, float *ret_vector, slice *ret_id,
                         bool *ret_any, och_error *err)
{
    arena_done(&p->request);
    arena_init(&p->request, NULL, 0);
    const char *path = arena_printf(&p->request, "/collections/%.*s/get", SLICE_ARG(p->of->id));
    const char *body = arena_printf(
        &p->request, "{\"offset\":%" PRIu64 ",\"limit\":1,\"include\":[\"embeddings\"]}", offset);
    if (!path || !body)
        return FAIL_NO_MEMORY(err, "a request");
    struct json_value value;
    TRY(recall_ask(p->options, "POST", path, slice_of(body), "get", &p->request, &value, err));
    const struct json_value *ids = json_get(&value, SLICE("ids")),
                            *rows = json_get(&value, SLICE("embeddings"));
    *ret_any = ids && ids->kind == JSON_ARRAY && ids->count == 1 &&
               ids->items[0].kind == JSON_STRING && rows && rows->kind == JSON_ARRAY &&
               rows->count == 1 && rows->items[0].kind == JSON_FLOATS &&
               rows->items[0].count == p->dimension;
    if (!*ret_any)
        return OCH_OK;
    memcpy(ret_vector, rows->items[0].floats, p->dimension * sizeof(float));
    *ret_id = arena_copy(&p->arena, ids->items[0].string);
    return ret_id->at ? OCH_OK : FAIL_NO_MEMORY(err, "an id");
}

/* Rows from all over the collection: one from each of as many equal stretches. */
static och_code draw_rows(struct probe *p, och_error *err)
{
    uint64_t records = p->of->records;
    uint32_t wanted = (uint32_t)min_size(p->options->queries, (size_t)records);
    size_t floats;
    bool overflows = mul_overflows(wanted, p->dimension, &floats);
    float *vectors = overflows ? NULL : ARENA_ARRAY(&p->arena, float, floats + 1);
    p->ids = ARENA_ARRAY(&p->arena, slice, (size_t)wanted + 1);
    if (!vectors || !p->ids)
        return FAIL_NO_MEMORY(err, "the rows drawn");
    struct random random;
    random_seed(&random, p->options->seed);
    p->vectors = vectors;
    for (uint32_t i = 0; i < wanted; i++) {
        uint64_t offset = (uint64_t)(((double)i + random_unit(&random)) * (double)records / wanted);
        bool any = false;
        if (offset >= records)
            offset = records - 1;
        TRY(read_row(p, offset, vectors + (size_t)p->count * p->dimension, &p->ids[p->count], &any,
                     err));
        p->count += any;
    }
    return OCH_OK;
}

static och_code take_vectors(struct probe *p, och_error *err)
{
    const struct recall_options *o = p->options;
    bool bare = o->dimension == 0;
    if (bare ? o->vector_count % p->dimension != 0 : o->dimension != p->dimension)
        return FAIL(err, OCH_INVALID,
                    bare ? "%" PRIu32 " floats are no vectors of dimension %" PRIu32
                         : "vectors of dimension %" PRIu32 ", the collection has %" PRIu32,
                    bare ? o->vector_count : o->dimension, p->dimension);
    uint32_t count = bare ? o->vector_count / p->dimension : o->vector_count;
    p->count = (uint32_t)min_size(count, o->queries);
    p->vectors = o->vectors;
    return OCH_OK;
}

/* ---- measuring ---- */

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static uint64_t percentile(const double *sorted, uint32_t count, double share)
{
    return count ? (uint64_t)sorted[(size_t)((double)(count - 1) * share)] : 0;
}

/* Every query exactly; what its k-th neighbour's distance is. */
static och_code ask_exactly(struct probe *p, struct answer *answer, double *times, och_error *err)
{
    for (uint32_t q = 0; q < p->count; q++) {
        TRY(ask(p, q, TARGET_EXACT, answer, err));
        p->wanted[q] = answer->count;
        p->bounds[q] = answer->count ? answer->distances[answer->count - 1] : 0;
        times[q] = answer->time_us;
    }
    qsort(times, p->count, sizeof(*times), by_value);
    return OCH_OK;
}

static och_code ask_at(struct probe *p, double target, struct answer *answer, double *times,
                       struct recall_line *line, och_error *err)
{
    double sum = 0, least = 1, lists = 0, rows_coded = 0;
    uint32_t judged = 0;
    for (uint32_t q = 0; q < p->count; q++) {
        uint32_t hits = 0;
        TRY(ask(p, q, target, answer, err));
        for (uint32_t i = 0; i < answer->count; i++)
            hits += answer->distances[i] <= p->bounds[q];
        times[q] = answer->time_us;
        lists += answer->lists;
        rows_coded += answer->rows_coded;
        line->parts = (uint64_t)answer->parts;
        if (p->wanted[q] == 0)
            continue; /* the only row there is */
        double recall = fmin(1, (double)hits / p->wanted[q]);
        sum += recall;
        least = fmin(least, recall);
        judged++;
    }
    qsort(times, p->count, sizeof(*times), by_value);
    line->target = target;
    line->recall = judged ? sum / judged : 1;
    line->least = least;
    line->p50_us = percentile(times, p->count, 0.5);
    line->p99_us = percentile(times, p->count, 0.99);
    line->lists = p->count ? lists / p->count : 0;
    line->rows_coded = p->count ? rows_coded / p->count : 0;
    return OCH_OK;
}

static och_code probe_collection(struct probe *p, recall_sink sink, void *context, och_error *err)
{
    const struct recall_options *o = p->options;
    TRY(o->vectors ? take_vectors(p, err) : draw_rows(p, err));
    size_t room = (size_t)p->count + 1;
    struct answer *answer = ARENA_NEW(&p->arena, struct answer);
    double *times = ARENA_ARRAY(&p->arena, double, room);
    p->wanted = ARENA_ARRAY(&p->arena, uint32_t, room);
    p->bounds = ARENA_ARRAY(&p->arena, double, room);
    if (!answer || !times || !p->wanted || !p->bounds)
        return FAIL_NO_MEMORY(err, "what is measured");
    TRY(ask_exactly(p, answer, times, err));
    struct recall_line line = {.collection = p->of->name,
                               .records = p->of->records,
                               .dimension = p->dimension,
                               .k = o->k,
                               .queries = p->count,
                               .exact_p50_us = percentile(times, p->count, 0.5)};
    for (size_t t = 0; t < (o->target_count ? o->target_count : 1); t++) {
        TRY(ask_at(p, o->target_count ? o->targets[t] : 0, answer, times, &line, err));
        sink(context, &line);
    }
    return OCH_OK;
}

och_code recall_probe(const struct recall_options *options, recall_sink sink, void *context,
                      och_error *err)
{
    if (options->k == 0 || options->k > RECALL_K_MAX)
        return FAIL(err, OCH_INVALID, "k is from 1 to %d", RECALL_K_MAX);
    if (options->queries == 0 || options->queries > RECALL_QUERIES_MAX)
        return FAIL(err, OCH_INVALID, "queries are from 1 to %d", RECALL_QUERIES_MAX);
    struct arena arena;
    struct recall_collection *found = NULL;
    size_t count = 0;
    arena_init(&arena, NULL, 0);
    och_code code = recall_find(options, &arena, &found, &count, err);
    for (size_t i = 0; i < count && code == OCH_OK; i++) {
        struct probe probe = {.options = options, .of = &found[i], .dimension = found[i].dimension};
        arena_init(&probe.arena, NULL, 0);
        arena_init(&probe.request, NULL, 0);
        code = probe_collection(&probe, sink, context, err);
        if (code != OCH_OK)
            error_context(err, "collection \"%.*s\"", (int)min_size(found[i].name.len, 40),
                          (const char *)found[i].name.at);
        arena_done(&probe.request);
        arena_done(&probe.arena);
    }
    arena_done(&arena);
    return code;
}

void recall_line_write_json(const struct recall_line *line, struct buf *out)
{
    buf_text(out, "{\"collection\":");
    json_write_string(out, line->collection);
    buf_printf(out,
               ",\"records\":%" PRIu64 ",\"dimension\":%" PRIu32 ",\"parts\":%" PRIu64
               ",\"k\":%" PRIu32 ",\"queries\":%" PRIu32 ",\"target\":",
               line->records, line->dimension, line->parts, line->k, line->queries);
    if (line->target > 0)
        buf_printf(out, "%.9g", line->target);
    else
        buf_text(out, "null");
    buf_printf(out,
               ",\"recall\":%.4f,\"least\":%.4f,\"p50_us\":%" PRIu64 ",\"p99_us\":%" PRIu64
               ",\"exact_p50_us\":%" PRIu64 ",\"lists\":%.1f,\"rows_coded\":%.0f}\n",
               line->recall, line->least, line->p50_us, line->p99_us, line->exact_p50_us,
               line->lists, line->rows_coded);
}
