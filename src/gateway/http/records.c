/* SPDX-License-Identifier: Apache-2.0 */
/* Records: add, upsert, update, delete, get, query, count (http-api.md §6, 7). */
#include "base/bytes.h"
#include "gateway/http/exchange.h"

#include "model/limits.h"

#include <inttypes.h>

#define MEMBER(type_, member_) .at = offsetof(type_, member_)

/* ---- writes ---- */

struct write_body {
    const struct json_value *ids, *embeddings, *documents, *uris, *metadatas, *clear, *counts;
};

static const struct wire_member add_members[] = {
    {"ids", WIRE_STRINGS, true, true, MEMBER(struct write_body, ids)},
    {"embeddings", WIRE_EMBEDDINGS, true, true, MEMBER(struct write_body, embeddings)},
    {"documents", WIRE_NULLABLE_STRINGS, false, false, MEMBER(struct write_body, documents)},
    {"uris", WIRE_NULLABLE_STRINGS, false, false, MEMBER(struct write_body, uris)},
    {"metadatas", WIRE_METADATAS, false, false, MEMBER(struct write_body, metadatas)},
    {"counts", WIRE_BOOL, false, false, MEMBER(struct write_body, counts)},
};
static const struct wire_member update_members[] = {
    {"ids", WIRE_STRINGS, true, true, MEMBER(struct write_body, ids)},
    {"embeddings", WIRE_NULLABLE_EMBEDDINGS, false, false, MEMBER(struct write_body, embeddings)},
    {"documents", WIRE_NULLABLE_STRINGS, false, false, MEMBER(struct write_body, documents)},
    {"uris", WIRE_NULLABLE_STRINGS, false, false, MEMBER(struct write_body, uris)},
    {"metadatas", WIRE_METADATAS, false, false, MEMBER(struct write_body, metadatas)},
    {"counts", WIRE_BOOL, false, false, MEMBER(struct write_body, counts)},
    {"clear", WIRE_CLEAR, false, false, MEMBER(struct write_body, clear)},
};

/* What one write request means, put together step by step in the order of http-api.md §2.3. */
struct write_request {
    struct write_body body;
    slice *metadatas; /* encoded, at NULL: none */
    och_code later;   /* a bad metadata key: judged after the collection is known */
    och_error later_error;
    struct wire_vectors vectors;
};

/* Encode all metadata at once: wrong value types are 422 now, bad keys 400 later. */
static och_code encode_metadatas(struct exchange *x, struct write_request *w, unsigned flags,
                                 och_error *err)
{
    const struct json_value *metadatas = w->body.metadatas;
    if (!metadatas)
        return OCH_OK;
    struct buf all;
    buf_init(&all, BUF_MAX_NONE);
    size_t *starts = ARENA_ARRAY(&x->arena, size_t, (size_t)metadatas->count + 1);
    w->metadatas = ARENA_ARRAY(&x->arena, slice, (size_t)metadatas->count + 1);
    och_code code = starts && w->metadatas ? OCH_OK : FAIL_NO_MEMORY(err, "metadata");
    for (uint32_t i = 0; i < metadatas->count && code == OCH_OK; i++) {
        starts[i] = all.len;
        if (metadatas->items[i].kind == JSON_NULL)
            continue;
        och_error reason = {0};
        code = meta_from_json(&metadatas->items[i], flags, &all, &reason);
        if (code == OCH_INVALID) {
            all.len = starts[i];
            if (w->later == OCH_OK)
                w->later = FAIL(&w->later_error, OCH_INVALID,
                                "Validation error: metadatas: Invalid metadata at index %" PRIu32
                                ": %.600s",
                                i, reason.message);
            code = OCH_OK;
        } else if (code == OCH_SHAPE) {
            code = wire_fail(x, &metadatas->items[i], err,
                             arena_printf(&x->arena, "metadatas[%" PRIu32 "]", i), "%.400s",
                             reason.message);
        } else if (code != OCH_OK) {
            code = FAIL(err, code, "%.600s", reason.message);
        }
    }
    if (code == OCH_OK)
        code = buf_check(&all, "metadata", err);
    slice copy = code == OCH_OK ? arena_copy(&x->arena, buf_view(&all)) : SLICE_NONE;
    if (code == OCH_OK && !copy.at)
        code = FAIL_NO_MEMORY(err, "metadata");
    if (code == OCH_OK) {
        starts[metadatas->count] = all.len;
        for (uint32_t i = 0; i < metadatas->count; i++) {
            size_t len = starts[i + 1] - starts[i];
            w->metadatas[i] = len ? slice_make(copy.at + starts[i], len) : SLICE_NONE;
        }
    }
    buf_done(&all);
    return code;
}

static och_code check_lengths(const struct write_body *body, och_error *err)
{
    const struct json_value *columns[] = {body->embeddings, body->documents, body->uris,
                                          body->metadatas};
    for (size_t i = 0; i < COUNT_OF(columns); i++) {
        if (columns[i] && columns[i]->count != body->ids->count)
            return FAIL(err, OCH_INVALID,
                        "Inconsistent number of IDs, embeddings, documents, URIs and metadatas");
    }
    if (body->clear && body->clear->count != body->ids->count)
        return FAIL(err, OCH_INVALID, "Inconsistent number of IDs and clear lists");
    return OCH_OK;
}

static void set_text(const struct json_value *column, uint32_t i, uint8_t *state, slice *text)
{
    if (!column || column->items[i].kind != JSON_STRING)
        return;
    *state = FIELD_VALUE;
    *text = column->items[i].string;
}

static och_code set_clear(const struct json_value *clear, struct batch_input_row *row, uint32_t i,
                          och_error *err)
{
    if (!clear || clear->items[i].kind == JSON_NULL)
        return OCH_OK;
    for (uint32_t j = 0; j < clear->items[i].count; j++) {
        slice name = clear->items[i].items[j].string;
        uint8_t *state = slice_equal(name, SLICE("document")) ? &row->document_state
                         : slice_equal(name, SLICE("uri"))    ? &row->uri_state
                                                              : &row->metadata_state;
        if (*state == FIELD_VALUE)
            return FAIL(err, OCH_INVALID,
                        "clear[%" PRIu32 "]: the same request sets %.*s of that record", i,
                        SLICE_ARG(name));
        *state = FIELD_CLEAR;
    }
    return OCH_OK;
}

static och_code make_rows(struct exchange *x, struct write_request *w, enum batch_op op,
                          struct batch_input *ret_input, och_error *err)
{
    uint32_t count = w->body.ids->count;
    struct batch_input_row *rows =
        ARENA_ARRAY(&x->arena, struct batch_input_row, (size_t)count + 1);
    if (!rows)
        return FAIL_NO_MEMORY(err, "records");
    for (uint32_t i = 0; i < count; i++) {
        struct batch_input_row *row = &rows[i];
        row->op = (uint8_t)op;
        row->id = w->body.ids->items[i].string;
        if (w->vectors.matrix && (!w->vectors.present || w->vectors.present[i]))
            row->vector = w->vectors.matrix + (size_t)i * w->vectors.dimension;
        set_text(w->body.documents, i, &row->document_state, &row->document);
        set_text(w->body.uris, i, &row->uri_state, &row->uri);
        if (w->metadatas && w->metadatas[i].at) {
            row->metadata_state = FIELD_VALUE;
            row->metadata = w->metadatas[i];
        }
        TRY(set_clear(w->body.clear, row, i, err));
    }
    *ret_input =
        (struct batch_input){.count = count, .dimension = w->vectors.dimension, .rows = rows};
    return OCH_OK;
}

/* Idempotency-Key: batch id = hash of collection and key (D17); the body's hash tells whether it is the same request. */
static och_code read_key(struct exchange *x, enum batch_op op, uuid collection,
                         struct gateway_once *ret_once, och_error *err)
{
    slice key = http_request_header(x->request, SLICE("idempotency-key"));
    if (!key.at || key.len == 0)
        return OCH_OK;
    struct buf text;
    buf_init(&text, BUF_MAX_NONE);
    buf_append(&text, collection.bytes, 16);
    buf_slice(&text, key);
    uint64_t low = slice_hash(buf_view(&text));
    buf_byte(&text, 1);
    uint64_t high = slice_hash(buf_view(&text));
    och_code code = buf_check(&text, "an idempotency key", err);
    buf_done(&text);
    TRY(code);
    store_u64(ret_once->batch_id.bytes, low);
    store_u64(ret_once->batch_id.bytes + 8, high);
    ret_once->batch_id.bytes[0] |= 1; /* zero means none */
    /* The same body sent to another operation is another request. */
    ret_once->request_hash = slice_hash(x->request->body) + (uint64_t)op;
    return OCH_OK;
}

static void write_counts(struct buf *out, const struct gateway_counts *counts)
{
    buf_printf(out,
               "{\"inserted\":%" PRIu64 ",\"updated\":%" PRIu64 ",\"skipped\":%" PRIu64
               ",\"deleted\":%" PRIu64 "}",
               counts->inserted, counts->updated, counts->skipped, counts->deleted);
}

static och_code handle_write(struct exchange *x, const struct wire_body *shape, enum batch_op op,
                             int status, och_error *err)
{
    struct write_request w = {0};
    TRY(wire_read(x, shape, &w.body, err));
    TRY(encode_metadatas(x, &w, op == BATCH_ADD ? 0 : META_ALLOW_DELETE, err));
    const struct sysdb_collection *collection CLEANUP(sysdb_collection_cleanup) = NULL;
    TRY(exchange_collection(x, &collection, err));
    if (w.body.embeddings)
        TRY(wire_vectors(x, w.body.embeddings, false, &w.vectors, err));
    if (w.later != OCH_OK)
        return FAIL(err, w.later, "%s", w.later_error.message);
    TRY(gateway_check_dimension(x->gateway, collection, w.vectors.dimension, err));
    TRY(check_lengths(&w.body, err));
    struct gateway_write write = {.collection = collection->id,
                                  .want_counts = w.body.counts && w.body.counts->boolean};
    TRY(make_rows(x, &w, op, &write.input, err));
    TRY(read_key(x, op, write.collection, &write.once, err));
    struct gateway_counts counts;
    och_code code = gateway_write(x->gateway, &x->scope, &write, &counts, err);
    if (code == OCH_CONFLICT)
        x->error_status = 422; /* another request under the same Idempotency-Key (D17) */
    TRY(code);
    x->reply->status = status;
    if (write.want_counts)
        write_counts(&x->reply->body, &counts);
    else
        buf_text(&x->reply->body, "{}");
    return OCH_OK;
}

och_code handle_add(struct exchange *x, och_error *err)
{
    static const struct wire_body shape = {"AddCollectionRecordsPayload", add_members,
                                           COUNT_OF(add_members), false};
    return handle_write(x, &shape, BATCH_ADD, 201, err);
}

och_code handle_upsert(struct exchange *x, och_error *err)
{
    static const struct wire_body shape = {"UpsertCollectionRecordsPayload", add_members,
                                           COUNT_OF(add_members), false};
    return handle_write(x, &shape, BATCH_UPSERT, 200, err);
}

och_code handle_update(struct exchange *x, och_error *err)
{
    static const struct wire_body shape = {"UpdateCollectionRecordsPayload", update_members,
                                           COUNT_OF(update_members), false};
    return handle_write(x, &shape, BATCH_UPDATE, 200, err);
}

/* ---- what reads and deletes share ---- */

struct read_body {
    const struct json_value *ids, *where, *where_document, *limit, *offset, *include,
        *query_embeddings, *n_results, *counts, *dry_run, *explain, *recall;
};

static och_code read_ids(struct exchange *x, const struct json_value *ids, struct plan *plan,
                         och_error *err)
{
    if (!ids)
        return OCH_OK;
    slice *list = ARENA_ARRAY(&x->arena, slice, (size_t)ids->count + 1);
    if (!list)
        return FAIL_NO_MEMORY(err, "ids");
    for (uint32_t i = 0; i < ids->count; i++)
        list[i] = ids->items[i].string;
    plan->has_ids = true;
    plan->ids = list;
    plan->id_count = ids->count;
    return OCH_OK;
}

static och_code read_filter(struct exchange *x, const struct read_body *body, struct plan *plan,
                            och_error *err)
{
    struct filter_node *where, *document, *both;
    TRY(filter_parse_where(body->where, &x->arena, &where, err));
    TRY(filter_parse_document(body->where_document, &x->arena, &document, err));
    TRY(filter_join(where, document, &x->arena, &both, err));
    plan->filter = both;
    return OCH_OK;
}

static och_code plan_begin(struct exchange *x, const struct read_body *body, enum plan_kind kind,
                           struct plan *plan, och_error *err)
{
    *plan = (struct plan){.kind = (uint8_t)kind,
                          .limit = PLAN_NO_LIMIT,
                          .explain = body->explain && body->explain->boolean};
    if (!uuid_parse(x->target, &plan->collection))
        return FAIL(err, OCH_INVALID, "Collection ID is not a valid UUIDv4");
    return read_ids(x, body->ids, plan, err);
}

/* ---- delete ---- */

och_code handle_delete(struct exchange *x, och_error *err)
{
    static const struct wire_member members[] = {
        {"ids", WIRE_STRINGS, false, false, MEMBER(struct read_body, ids)},
        {"where", WIRE_ANY, false, false, MEMBER(struct read_body, where)},
        {"where_document", WIRE_ANY, false, false, MEMBER(struct read_body, where_document)},
        {"limit", WIRE_U32, false, false, MEMBER(struct read_body, limit)},
        {"counts", WIRE_BOOL, false, false, MEMBER(struct read_body, counts)},
        {"dry_run", WIRE_BOOL, false, false, MEMBER(struct read_body, dry_run)},
        {"explain", WIRE_BOOL, false, false, MEMBER(struct read_body, explain)},
    };
    static const struct wire_body shape = {"DeleteCollectionRecordsPayload", members,
                                           COUNT_OF(members), true};
    struct read_body body = {0};
    struct plan plan;
    TRY(wire_read(x, &shape, &body, err));
    const struct sysdb_collection *collection CLEANUP(sysdb_collection_cleanup) = NULL;
    TRY(exchange_collection(x, &collection, err));
    TRY(plan_begin(x, &body, PLAN_GET, &plan, err));
    TRY(read_filter(x, &body, &plan, err));
    bool filtered = body.where || body.where_document;
    if (body.limit && !filtered)
        return FAIL(err, OCH_INVALID,
                    "Validation error: limit, where: limit can only be specified when a where "
                    "clause is provided");
    if (plan.has_ids && plan.id_count == 0 && !filtered)
        return FAIL(err, OCH_INVALID,
                    "Validation error: ids, where: Either ids or where must be specified");
    if (body.limit)
        plan.limit = (uint64_t)body.limit->integer;
    struct gateway_once once = {0};
    uint64_t deleted;
    TRY(read_key(x, BATCH_DELETE, plan.collection, &once, err));
    och_code code = gateway_delete(x->gateway, &x->scope, &plan, &once,
                                   body.dry_run && body.dry_run->boolean, &deleted, err);
    if (code == OCH_CONFLICT)
        x->error_status = 422; /* as in handle_write */
    TRY(code);
    if (body.counts && body.counts->boolean)
        buf_printf(&x->reply->body,
                   "{\"inserted\":0,\"updated\":0,\"skipped\":0,\"deleted\":%" PRIu64 "}", deleted);
    else
        buf_printf(&x->reply->body, "{\"deleted\":%" PRIu64 "}", deleted);
    return OCH_OK;
}

/* ---- answers ---- */

typedef void (*cell_writer)(struct buf *out, const struct query_row *row, uint32_t dimension);

static void write_id(struct buf *out, const struct query_row *row, uint32_t dimension)
{
    (void)dimension;
    json_write_string(out, row->record.id);
}
static void write_text(struct buf *out, slice text)
{
    if (text.at)
        json_write_string(out, text);
    else
        buf_text(out, "null");
}
static void write_document(struct buf *out, const struct query_row *row, uint32_t dimension)
{
    (void)dimension;
    write_text(out, row->record.document);
}
static void write_uri(struct buf *out, const struct query_row *row, uint32_t dimension)
{
    (void)dimension;
    write_text(out, row->record.uri);
}
static void write_metadata(struct buf *out, const struct query_row *row, uint32_t dimension)
{
    (void)dimension;
    if (row->record.metadata.at)
        meta_to_json(row->record.metadata, out);
    else
        buf_text(out, "null");
}
static void write_embedding(struct buf *out, const struct query_row *row, uint32_t dimension)
{
    if (row->record.vector)
        json_write_f32_array(out, row->record.vector, dimension);
    else
        buf_text(out, "null");
}
static void write_distance(struct buf *out, const struct query_row *row, uint32_t dimension)
{
    (void)dimension;
    json_write_f32(out, row->distance);
}

static void write_column(struct buf *out, const struct query_hits *hits, uint32_t dimension,
                         cell_writer write)
{
    buf_byte(out, '[');
    for (size_t i = 0; i < hits->count; i++) {
        if (i)
            buf_byte(out, ',');
        write(out, &hits->rows[i], dimension);
    }
    buf_byte(out, ']');
}

/* `nested`: one list per query vector. */
static void write_columns(struct exchange *x, const struct query_result *result, bool nested,
                          const char *name, bool wanted, cell_writer write)
{
    struct buf *out = &x->reply->body;
    buf_printf(out, "%s\"%s\":", out->len > 1 ? "," : "", name);
    if (!wanted) {
        buf_text(out, "null");
    } else if (!nested) {
        static const struct query_hits none;
        write_column(out, result->hits ? &result->hits[0] : &none, result->dimension, write);
    } else {
        buf_byte(out, '[');
        for (size_t i = 0; i < result->hit_count; i++) {
            if (i)
                buf_byte(out, ',');
            write_column(out, &result->hits[i], result->dimension, write);
        }
        buf_byte(out, ']');
    }
}

static void write_include(struct exchange *x, const struct json_value *include,
                          const char *fallback)
{
    struct buf *out = &x->reply->body;
    buf_text(out, ",\"include\":");
    if (include)
        json_write_value(out, include);
    else
        buf_text(out, fallback);
}

static void write_extras(struct exchange *x, const struct query_result *result)
{
    struct buf *out = &x->reply->body;
    if (result->explain.len) {
        buf_text(out, ",\"explain\":");
        buf_slice(out, result->explain);
    }
    buf_byte(out, '}');
    if (result->warning.len)
        http_reply_header(x->reply, "Warning", "199 ochre \"%.*s\"", SLICE_ARG(result->warning));
}

/* Of our own: the share of the true neighbours that a query aims at; 1 scans exactly. */
static och_code read_recall(const struct json_value *recall, float *ret_recall, och_error *err)
{
    *ret_recall = 0;
    if (!recall)
        return OCH_OK;
    bool is_integer = recall->kind == JSON_INT;
    double number = is_integer                   ? (double)recall->integer
                    : recall->kind == JSON_FLOAT ? recall->number
                                                 : -1;
    if (!(number >= 0.5 && number <= 1))
        return FAIL(err, OCH_INVALID, "recall must be a number from 0.5 to 1 (1: exact)");
    *ret_recall = (float)number;
    return OCH_OK;
}

#define INCLUDE_GET   "[\"documents\",\"metadatas\"]"
#define INCLUDE_QUERY "[\"documents\",\"metadatas\",\"distances\"]"

och_code handle_get(struct exchange *x, och_error *err)
{
    static const struct wire_member members[] = {
        {"ids", WIRE_STRINGS, false, false, MEMBER(struct read_body, ids)},
        {"where", WIRE_ANY, false, false, MEMBER(struct read_body, where)},
        {"where_document", WIRE_ANY, false, false, MEMBER(struct read_body, where_document)},
        {"limit", WIRE_U32, false, false, MEMBER(struct read_body, limit)},
        {"offset", WIRE_U32, false, false, MEMBER(struct read_body, offset)},
        {"include", WIRE_INCLUDE, false, true, MEMBER(struct read_body, include)},
        {"explain", WIRE_BOOL, false, false, MEMBER(struct read_body, explain)},
    };
    static const struct wire_body shape = {"GetRequestPayload", members, COUNT_OF(members), false};
    struct read_body body = {0};
    struct plan plan;
    TRY(wire_read(x, &shape, &body, err));
    const struct sysdb_collection *collection CLEANUP(sysdb_collection_cleanup) = NULL;
    TRY(exchange_collection(x, &collection, err));
    TRY(plan_begin(x, &body, PLAN_GET, &plan, err));
    TRY(read_filter(x, &body, &plan, err));
    unsigned include = wire_include(body.include, RECORD_DOCUMENT | RECORD_METADATA);
    plan.fields = include & ~WIRE_DISTANCES;
    plan.limit = body.limit ? (uint64_t)body.limit->integer : PLAN_NO_LIMIT;
    plan.offset = body.offset ? (uint64_t)body.offset->integer : 0;
    struct query_result result;
    TRY(gateway_read(x->gateway, &x->scope, &plan, &x->arena, &result, err));
    buf_byte(&x->reply->body, '{');
    write_columns(x, &result, false, "ids", true, write_id);
    write_columns(x, &result, false, "embeddings", include & RECORD_VECTOR, write_embedding);
    write_columns(x, &result, false, "documents", include & RECORD_DOCUMENT, write_document);
    write_columns(x, &result, false, "uris", include & RECORD_URI, write_uri);
    write_columns(x, &result, false, "metadatas", include & RECORD_METADATA, write_metadata);
    write_include(x, body.include, INCLUDE_GET);
    write_extras(x, &result);
    query_result_done(&result);
    return OCH_OK;
}

och_code handle_query(struct exchange *x, och_error *err)
{
    static const struct wire_member members[] = {
        {"query_embeddings", WIRE_EMBEDDINGS, true, true,
         MEMBER(struct read_body, query_embeddings)},
        {"n_results", WIRE_U32, false, false, MEMBER(struct read_body, n_results)},
        {"ids", WIRE_STRINGS, false, false, MEMBER(struct read_body, ids)},
        {"where", WIRE_ANY, false, false, MEMBER(struct read_body, where)},
        {"where_document", WIRE_ANY, false, false, MEMBER(struct read_body, where_document)},
        {"include", WIRE_INCLUDE, false, true, MEMBER(struct read_body, include)},
        {"explain", WIRE_BOOL, false, false, MEMBER(struct read_body, explain)},
        {"recall", WIRE_ANY, false, false, MEMBER(struct read_body, recall)},
    };
    static const struct wire_body shape = {"QueryRequestPayload", members, COUNT_OF(members),
                                           false};
    struct read_body body = {0};
    struct plan plan;
    TRY(wire_read(x, &shape, &body, err));
    const struct sysdb_collection *collection CLEANUP(sysdb_collection_cleanup) = NULL;
    TRY(exchange_collection(x, &collection, err));
    TRY(plan_begin(x, &body, PLAN_QUERY, &plan, err));
    struct wire_vectors vectors;
    TRY(wire_vectors(x, body.query_embeddings, true, &vectors, err));
    TRY(read_filter(x, &body, &plan, err));
    TRY(gateway_check_dimension(x->gateway, collection, vectors.dimension, err));
    unsigned include =
        wire_include(body.include, RECORD_DOCUMENT | RECORD_METADATA | WIRE_DISTANCES);
    plan.fields = include & ~WIRE_DISTANCES;
    plan.vectors = vectors.matrix;
    plan.vector_count = vectors.count;
    plan.dimension = vectors.dimension;
    plan.k = body.n_results ? (uint32_t)body.n_results->integer : LIMIT_QUERY_N_RESULTS_DEFAULT;
    TRY(read_recall(body.recall, &plan.recall, err));
    struct query_result result;
    TRY(gateway_read(x->gateway, &x->scope, &plan, &x->arena, &result, err));
    buf_byte(&x->reply->body, '{');
    write_columns(x, &result, true, "ids", true, write_id);
    write_columns(x, &result, true, "embeddings", include & RECORD_VECTOR, write_embedding);
    write_columns(x, &result, true, "documents", include & RECORD_DOCUMENT, write_document);
    write_columns(x, &result, true, "uris", include & RECORD_URI, write_uri);
    write_columns(x, &result, true, "metadatas", include & RECORD_METADATA, write_metadata);
    write_columns(x, &result, true, "distances", include & WIRE_DISTANCES, write_distance);
    write_include(x, body.include, INCLUDE_QUERY);
    write_extras(x, &result);
    query_result_done(&result);
    return OCH_OK;
}

/* ---- count ---- */

static och_code run_count(struct exchange *x, const struct plan *plan, och_error *err)
{
    struct query_result result;
    TRY(gateway_read(x->gateway, &x->scope, plan, &x->arena, &result, err));
    buf_printf(&x->reply->body, "%" PRIu64, result.count);
    query_result_done(&result);
    return OCH_OK;
}

och_code handle_count(struct exchange *x, och_error *err)
{
    slice level;
    struct read_body body = {0};
    struct plan plan;
    TRY(wire_query_text(x, "read_level", &level, err));
    uint8_t read_level = READ_INDEX_AND_WAL;
    if (level.at && !wire_read_level(level, &read_level))
        return FAIL(err, OCH_INVALID,
                    "Failed to deserialize query string: read_level: unknown variant `%.*s`, "
                    "expected one of `index_and_wal`, `index_only`, `index_and_bounded_wal`",
                    (int)min_size(level.len, 40), (const char *)level.at);
    TRY(plan_begin(x, &body, PLAN_COUNT, &plan, err));
    (void)
        read_level; /* one process: every level sees everything, as on the original's single node */
    return run_count(x, &plan, err);
}

och_code handle_count_where(struct exchange *x, och_error *err)
{
    static const struct wire_member members[] = {
        {"ids", WIRE_STRINGS, false, false, MEMBER(struct read_body, ids)},
        {"where", WIRE_ANY, false, false, MEMBER(struct read_body, where)},
        {"where_document", WIRE_ANY, false, false, MEMBER(struct read_body, where_document)},
    };
    static const struct wire_body shape = {"CountRequestPayload", members, COUNT_OF(members), true};
    struct read_body body = {0};
    struct plan plan;
    TRY(wire_read(x, &shape, &body, err));
    const struct sysdb_collection *collection CLEANUP(sysdb_collection_cleanup) = NULL;
    TRY(exchange_collection(x, &collection, err));
    TRY(plan_begin(x, &body, PLAN_COUNT, &plan, err));
    TRY(read_filter(x, &body, &plan, err));
    return run_count(x, &plan, err);
}
