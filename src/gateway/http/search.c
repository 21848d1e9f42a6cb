/* SPDX-License-Identifier: Apache-2.0 */
/* Search (http-api.md §7.5, query-language.md §4): several payloads, one list of hits each. */
#include "gateway/http/exchange.h"

#include "model/limits.h"

struct search_body {
    const struct json_value *searches, *read_level, *as_of, *explain;
};

/* One member of the answer: an array with an entry per payload, null where its column was not selected. */
struct column {
    const char *name;
    bool (*wanted)(const struct search *search, const struct search_select *select);
    void (*write)(struct buf *out, const struct query_row *row, const struct search_select *select,
                  uint32_t dimension);
};

static bool wants_id(const struct search *search, const struct search_select *select)
{
    (void)search;
    (void)select;
    return true;
}
static bool wants_document(const struct search *search, const struct search_select *select)
{
    (void)select;
    return search->fields & RECORD_DOCUMENT;
}
static bool wants_embedding(const struct search *search, const struct search_select *select)
{
    (void)select;
    return search->fields & RECORD_VECTOR;
}
static bool wants_metadata(const struct search *search, const struct search_select *select)
{
    (void)select;
    return search->fields & RECORD_METADATA;
}
static bool wants_uri(const struct search *search, const struct search_select *select)
{
    (void)select;
    return search->fields & RECORD_URI;
}
static bool wants_score(const struct search *search, const struct search_select *select)
{
    (void)search;
    return select->score;
}

static void write_text(struct buf *out, slice text)
{
    if (text.at)
        json_write_string(out, text);
    else
        buf_text(out, "null");
}
static void write_id(struct buf *out, const struct query_row *row,
                     const struct search_select *select, uint32_t dimension)
{
    (void)select;
    (void)dimension;
    json_write_string(out, row->record.id);
}
static void write_document(struct buf *out, const struct query_row *row,
                           const struct search_select *select, uint32_t dimension)
{
    (void)select;
    (void)dimension;
    write_text(out, row->record.document);
}
static void write_uri(struct buf *out, const struct query_row *row,
                      const struct search_select *select, uint32_t dimension)
{
    (void)select;
    (void)dimension;
    write_text(out, row->record.uri);
}
static void write_embedding(struct buf *out, const struct query_row *row,
                            const struct search_select *select, uint32_t dimension)
{
    (void)select;
    if (row->record.vector)
        json_write_f32_array(out, row->record.vector, dimension);
    else
        buf_text(out, "null");
}
static void write_score(struct buf *out, const struct query_row *row,
                        const struct search_select *select, uint32_t dimension)
{
    (void)select;
    (void)dimension;
    json_write_f32(out, row->distance);
}

static void write_metadata(struct buf *out, const struct query_row *row,
                           const struct search_select *select, uint32_t dimension)
{
    (void)dimension;
    if (!search_metadata_to_json(row->record.metadata, select, out))
        buf_text(out, "null");
}

static const struct column columns[] = {
    {"ids", wants_id, write_id},
    {"documents", wants_document, write_document},
    {"embeddings", wants_embedding, write_embedding},
    {"metadatas", wants_metadata, write_metadata},
    {"scores", wants_score, write_score},
};
static const struct column uri_column = {"uris", wants_uri, write_uri};

static void write_column(struct buf *out, const struct search_request *request,
                         const struct query_result *result, const struct column *column)
{
    buf_printf(out, "%s\"%s\":[", out->len > 1 ? "," : "", column->name);
    for (uint32_t i = 0; i < request->count; i++) {
        const struct search_select *select = &request->selects[i];
        const struct query_hits *hits = &result->hits[i];
        buf_text(out, i ? "," : "");
        if (!column->wanted(&request->searches[i], select)) {
            buf_text(out, "null");
            continue;
        }
        buf_byte(out, '[');
        for (size_t j = 0; j < hits->count; j++) {
            if (j)
                buf_byte(out, ',');
            column->write(out, &hits->rows[j], select, result->dimension);
        }
        buf_byte(out, ']');
    }
    buf_byte(out, ']');
}

static void write_selects(struct buf *out, const struct search_request *request)
{
    buf_text(out, ",\"select\":[");
    for (uint32_t i = 0; i < request->count; i++) {
        buf_text(out, i ? ",[" : "[");
        for (uint32_t j = 0; j < request->selects[i].count; j++) {
            buf_text(out, j ? "," : "");
            json_write_string(out, request->selects[i].keys[j]);
        }
        buf_byte(out, ']');
    }
    buf_byte(out, ']');
}

static void write_answer(struct exchange *x, const struct search_request *request,
                         const struct query_result *result)
{
    struct buf *out = &x->reply->body;
    bool uris = false;
    buf_byte(out, '{');
    for (size_t i = 0; i < COUNT_OF(columns); i++)
        write_column(out, request, result, &columns[i]);
    for (uint32_t i = 0; i < request->count; i++)
        uris |= (request->searches[i].fields & RECORD_URI) != 0;
    if (uris) /* of our own, so only for those who ask */
        write_column(out, request, result, &uri_column);
    write_selects(out, request);
    if (result->explain.len) {
        buf_text(out, ",\"explain\":");
        buf_slice(out, result->explain);
    }
    buf_byte(out, '}');
    if (result->warning.len)
        http_reply_header(x->reply, "Warning", "199 ochre \"%.*s\"", SLICE_ARG(result->warning));
}

och_code handle_search(struct exchange *x, och_error *err)
{
    static const struct wire_member members[] = {
        {"searches", WIRE_SEQUENCE, true, true, offsetof(struct search_body, searches)},
        {"read_level", WIRE_STRING, false, true, offsetof(struct search_body, read_level)},
        {"as_of", WIRE_ANY, false, false, offsetof(struct search_body, as_of)},
        {"explain", WIRE_BOOL, false, false, offsetof(struct search_body, explain)},
    };
    static const struct wire_body shape = {"SearchRequestPayload", members, COUNT_OF(members),
                                           false};
    struct search_body body = {0};
    struct search_request request;
    struct plan plan = {.kind = PLAN_SEARCH, .limit = PLAN_NO_LIMIT};
    TRY(wire_read(x, &shape, &body, err));
    TRY(exchange_as_of(x, body.as_of, err));
    TRY(search_parse(body.searches, x->request->body, &x->arena, &request, err));
    /* One process: every level sees everything, as on the original's single node. */
    uint8_t read_level;
    if (body.read_level && !wire_read_level(body.read_level->string, &read_level))
        return wire_fail(x, body.read_level, err, "read_level",
                         "unknown variant `%.*s`, expected one of `index_and_wal`, `index_only`, "
                         "`index_and_bounded_wal`",
                         (int)min_size(body.read_level->string.len, 40),
                         (const char *)body.read_level->string.at);
    const struct sysdb_collection *collection CLEANUP(sysdb_collection_cleanup) = NULL;
    TRY(exchange_collection(x, &collection, err));
    if (!uuid_parse(x->target, &plan.collection))
        return FAIL(err, OCH_INVALID, "Collection ID is not a valid UUIDv4");
    TRY(search_check(&request, err));
    plan.searches = request.searches;
    plan.search_count = request.count;
    plan.explain = body.explain && body.explain->boolean;
    struct query_result result;
    TRY(gateway_read(x->gateway, &x->scope, &plan, &x->arena, &result, err));
    write_answer(x, &request, &result);
    query_result_done(&result);
    return OCH_OK;
}
