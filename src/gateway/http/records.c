/* SPDX-License-Identifier: Apache-2.0 */
/* Records: delete, get, query, count (http-api.md §6.4, 7). */
#include "gateway/http/exchange.h"

#include "model/limits.h"

#include <inttypes.h>

#define MEMBER(type_, member_) .at = offsetof(type_, member_)

/* ---- what reads and deletes share ---- */

struct read_body {
    const struct json_value *ids, *where, *where_document, *limit, *offset, *include,
        *query_embeddings, *n_results, *counts, *dry_run, *explain, *recall, *order_by, *cursor,
        *max_distance, *mmr, *as_of, *read_token;
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
    x->error_root = "where";
    TRY(filter_parse_where(body->where, &x->arena, &where, err));
    x->error_root = "where_document";
    TRY(filter_parse_document(body->where_document, &x->arena, &document, err));
    x->error_root = NULL;
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
    slice explain;
    TRY(exchange_key(x, BATCH_DELETE, plan.collection, &once, err));
    och_code code = gateway_delete_explained(x->gateway, &x->scope, &plan, &once,
                                             body.dry_run && body.dry_run->boolean, &x->arena,
                                             &deleted, &explain, err);
    if (code == OCH_CONFLICT)
        x->error_status = 422; /* as in handle_write */
    TRY(code);
    if (body.counts && body.counts->boolean)
        buf_printf(&x->reply->body,
                   "{\"inserted\":0,\"updated\":0,\"skipped\":0,\"deleted\":%" PRIu64, deleted);
    else
        buf_printf(&x->reply->body, "{\"deleted\":%" PRIu64, deleted);
    if (explain.len) {
        buf_text(&x->reply->body, ",\"explain\":");
        buf_slice(&x->reply->body, explain);
    }
    buf_byte(&x->reply->body, '}');
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
static void write_expiry(struct buf *out, const struct query_row *row, uint32_t dimension)
{
    (void)dimension;
    if (row->record.expires_ms)
        buf_printf(out, "%" PRId64, row->record.expires_ms);
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

#define INCLUDE_GET   "[\"documents\",\"metadatas\"]"
#define INCLUDE_QUERY "[\"documents\",\"metadatas\",\"distances\"]"

/* `conditional`: one of a transaction's reads (§10). */
static och_code run_get(struct exchange *x, const struct wire_body *shape, bool conditional,
                        och_error *err)
{
    struct read_body body = {0};
    struct plan plan;
    TRY(wire_read(x, shape, &body, err));
    const struct sysdb_collection *collection CLEANUP(sysdb_collection_cleanup) = NULL;
    uint64_t token = 0;
    TRY(exchange_read_token(x, body.read_token, &token, err));
    TRY(exchange_as_of(x, body.as_of, err));
    TRY(exchange_collection(x, &collection, err));
    TRY(plan_begin(x, &body, PLAN_GET, &plan, err));
    TRY(read_filter(x, &body, &plan, err));
    unsigned include = wire_include(body.include, RECORD_DOCUMENT | RECORD_METADATA);
    plan.fields = include & ~WIRE_DISTANCES;
    plan.limit = body.limit ? (uint64_t)body.limit->integer : PLAN_NO_LIMIT;
    plan.offset = body.offset ? (uint64_t)body.offset->integer : 0;
    x->ask_less = body.limit ? arena_printf(&x->arena, "lower limit (now %" PRIu64 ")", plan.limit)
                             : "set a limit";
    TRY(exchange_order(body.order_by, &plan, err));
    TRY(exchange_cursor(x, body.cursor, &plan, err));
    struct query_result result;
    if (conditional)
        TRY(gateway_read_conditional(x->gateway, &x->scope, &plan, &x->arena, &token, &result,
                                     err));
    else
        TRY(gateway_read(x->gateway, &x->scope, &plan, &x->arena, &result, err));
    buf_byte(&x->reply->body, '{');
    write_columns(x, &result, false, "ids", true, write_id);
    write_columns(x, &result, false, "embeddings", include & RECORD_VECTOR, write_embedding);
    write_columns(x, &result, false, "documents", include & RECORD_DOCUMENT, write_document);
    write_columns(x, &result, false, "uris", include & RECORD_URI, write_uri);
    write_columns(x, &result, false, "metadatas", include & RECORD_METADATA, write_metadata);
    if (include & RECORD_EXPIRY)
        write_columns(x, &result, false, "expires_at", true, write_expiry);
    write_include(x, body.include, INCLUDE_GET);
    och_code code = exchange_next(x, body.cursor, &plan, &result, err);
    if (conditional)
        buf_printf(&x->reply->body, ",\"read_token\":%" PRIu64, token);
    write_extras(x, &result);
    query_result_done(&result);
    return code;
}

/* The first is for transactions alone, the last three are not for them: what a page of another order depends on is not kept. */
static const struct wire_member get_members[] = {
    {"read_token", WIRE_ANY, false, false, MEMBER(struct read_body, read_token)},
    {"ids", WIRE_STRINGS, false, false, MEMBER(struct read_body, ids)},
    {"where", WIRE_ANY, false, false, MEMBER(struct read_body, where)},
    {"where_document", WIRE_ANY, false, false, MEMBER(struct read_body, where_document)},
    {"limit", WIRE_U32, false, false, MEMBER(struct read_body, limit)},
    {"offset", WIRE_U32, false, false, MEMBER(struct read_body, offset)},
    {"include", WIRE_INCLUDE, false, true, MEMBER(struct read_body, include)},
    {"explain", WIRE_BOOL, false, false, MEMBER(struct read_body, explain)},
    {"order_by", WIRE_ANY, false, false, MEMBER(struct read_body, order_by)},
    {"cursor", WIRE_STRING, false, false, MEMBER(struct read_body, cursor)},
    {"as_of", WIRE_ANY, false, false, MEMBER(struct read_body, as_of)},
};

och_code handle_get(struct exchange *x, och_error *err)
{
    static const struct wire_body shape = {"GetRequestPayload", get_members + 1,
                                           COUNT_OF(get_members) - 1, false};
    return run_get(x, &shape, false, err);
}

och_code handle_conditional_get(struct exchange *x, och_error *err)
{
    static const struct wire_body shape = {"ConditionalGetRequestPayload", get_members,
                                           COUNT_OF(get_members) - 3, false};
    return run_get(x, &shape, true, err);
}

static och_code check_query_dimension(struct exchange *x, const struct sysdb_collection *collection,
                                      const struct wire_vectors *vectors, och_error *err)
{
    och_code code = gateway_check_dimension(x->gateway, collection, vectors->dimension, err);
    if (code == OCH_INVALID) {
        exchange_at(x, "query_embeddings[0]");
        error_hint(err, "Query with the model that filled collection \"%.*s\".",
                   (int)min_size(collection->name.len, 40), (const char *)collection->name.at);
    }
    return code;
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
        {"max_distance", WIRE_ANY, false, false, MEMBER(struct read_body, max_distance)},
        {"mmr", WIRE_ANY, false, false, MEMBER(struct read_body, mmr)},
        {"as_of", WIRE_ANY, false, false, MEMBER(struct read_body, as_of)},
    };
    static const struct wire_body shape = {"QueryRequestPayload", members, COUNT_OF(members),
                                           false};
    struct read_body body = {0};
    struct plan plan;
    TRY(wire_read(x, &shape, &body, err));
    TRY(exchange_as_of(x, body.as_of, err));
    const struct sysdb_collection *collection CLEANUP(sysdb_collection_cleanup) = NULL;
    TRY(exchange_collection(x, &collection, err));
    TRY(plan_begin(x, &body, PLAN_QUERY, &plan, err));
    struct wire_vectors vectors;
    x->vectors_name = "query_embeddings";
    TRY(wire_vectors(x, body.query_embeddings, true, &vectors, err));
    TRY(read_filter(x, &body, &plan, err));
    TRY(check_query_dimension(x, collection, &vectors, err));
    unsigned include =
        wire_include(body.include, RECORD_DOCUMENT | RECORD_METADATA | WIRE_DISTANCES);
    plan.fields = include & ~WIRE_DISTANCES;
    plan.vectors = vectors.matrix;
    plan.vector_count = vectors.count;
    plan.dimension = vectors.dimension;
    plan.k = body.n_results ? (uint32_t)body.n_results->integer : LIMIT_QUERY_N_RESULTS_DEFAULT;
    x->ask_less = arena_printf(&x->arena, "lower n_results (now %" PRIu32 ")", plan.k);
    x->error_root = "recall";
    TRY(exchange_recall(body.recall, &plan, err));
    x->error_root = NULL;
    TRY(exchange_bounds(body.max_distance, body.mmr, &plan, err));
    struct query_result result;
    och_code code = gateway_read(x->gateway, &x->scope, &plan, &x->arena, &result, err);
    if (code == OCH_INVALID && vectors.count && !vectors.dimension)
        exchange_at(x, "query_embeddings[0]");
    TRY(code);
    buf_byte(&x->reply->body, '{');
    write_columns(x, &result, true, "ids", true, write_id);
    write_columns(x, &result, true, "embeddings", include & RECORD_VECTOR, write_embedding);
    write_columns(x, &result, true, "documents", include & RECORD_DOCUMENT, write_document);
    write_columns(x, &result, true, "uris", include & RECORD_URI, write_uri);
    write_columns(x, &result, true, "metadatas", include & RECORD_METADATA, write_metadata);
    if (include & RECORD_EXPIRY)
        write_columns(x, &result, true, "expires_at", true, write_expiry);
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
        {"as_of", WIRE_ANY, false, false, MEMBER(struct read_body, as_of)},
    };
    static const struct wire_body shape = {"CountRequestPayload", members, COUNT_OF(members), true};
    struct read_body body = {0};
    struct plan plan;
    TRY(wire_read(x, &shape, &body, err));
    TRY(exchange_as_of(x, body.as_of, err));
    const struct sysdb_collection *collection CLEANUP(sysdb_collection_cleanup) = NULL;
    TRY(exchange_collection(x, &collection, err));
    TRY(plan_begin(x, &body, PLAN_COUNT, &plan, err));
    TRY(read_filter(x, &body, &plan, err));
    return run_count(x, &plan, err);
}

/* ---- what other files read ---- */

och_code exchange_plan(struct exchange *x, const struct json_value *ids,
                       const struct json_value *where, const struct json_value *where_document,
                       enum plan_kind kind, struct plan *ret_plan, och_error *err)
{
    const struct read_body body = {.ids = ids, .where = where, .where_document = where_document};
    TRY(plan_begin(x, &body, kind, ret_plan, err));
    return read_filter(x, &body, ret_plan, err);
}
