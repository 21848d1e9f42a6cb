/* SPDX-License-Identifier: Apache-2.0 */
/* A collection as NDJSON, a route of our own (docs/extras.md): one view from the first line to the last, read page by page while it is sent, so that
 * it takes the memory of one page.  Callers that cannot take an answer in pieces get it whole. */
#include "gateway/http/exchange.h"

#include "model/limits.h"

#include <inttypes.h>

#define PAGE_BYTES    (1u << 20) /* about so much text a page */
#define PAGE_ROWS_MAX 1024u
#define PAGE_MS       60000u /* deadline of one page; the whole has none but the client's patience */
#define EXPORT_FIELDS \
    (RECORD_VECTOR | RECORD_DOCUMENT | RECORD_URI | RECORD_METADATA | RECORD_EXPIRY)

struct export
{
    struct http_stream stream; /* first */
    struct gateway *gateway;
    const struct cancel *cancel;
    struct view *view;
    struct arena arena; /* of the plan */
    struct buf encoded; /* what the plan points into */
    struct plan plan;
};

static void write_text_member(struct buf *out, const char *name, slice text)
{
    if (!text.at)
        return;
    buf_printf(out, ",\"%s\":", name);
    json_write_string(out, text);
}

static void write_line(struct buf *out, const struct record *record, uint32_t dimension)
{
    buf_text(out, "{\"id\":");
    json_write_string(out, record->id);
    if (record->vector) {
        buf_text(out, ",\"embedding\":");
        json_write_f32_array(out, record->vector, dimension);
    }
    write_text_member(out, "document", record->document);
    write_text_member(out, "uri", record->uri);
    if (record->metadata.at) {
        buf_text(out, ",\"metadata\":");
        meta_to_json(record->metadata, out);
    }
    if (record->expires_ms)
        buf_printf(out, ",\"expires_at\":%" PRId64, record->expires_ms);
    buf_text(out, "}\n");
}

static och_code write_page(struct export *e, struct buf *out, bool *ret_more, och_error *err)
{
    struct arena arena;
    arena_init(&arena, e->gateway->options.budget, 0);
    struct limits_of_work limits = {
        .deadline_mono_ns = sched_mono_ns() + PAGE_MS * UINT64_C(1000000), .cancel = e->cancel};
    struct query_result result = {0};
    och_code code =
        query_run_view(e->gateway->options.query, &e->plan, e->view, &limits, &arena, &result, err);
    if (code == OCH_OK) {
        for (size_t i = 0; result.hits && i < result.hits->count; i++)
            write_line(out, &result.hits->rows[i].record, result.dimension);
        code = buf_check(out, "an export", err);
        *ret_more = result.has_last;
        e->plan.has_after = result.has_last;
        e->plan.after = (struct plan_key){.seq = result.last.seq};
    }
    query_result_done(&result);
    arena_done(&arena);
    return code;
}

static och_code next_page(struct http_stream *stream, struct buf *body, bool *ret_more)
{
    struct export *e = (struct export *)(void *)stream;
    och_error err = {0};
    och_code code = write_page(e, body, ret_more, &err);
    if (code != OCH_OK)
        trace_line(e->gateway->options.trace, TRACE_WARN, "gateway", "an export was cut off", "why",
                   err.message, NULL);
    return code;
}

static void export_free(struct http_stream *stream)
{
    struct export *e = (struct export *)(void *)stream;
    view_release(e->view);
    arena_done(&e->arena);
    buf_done(&e->encoded);
    mem_free(e);
}

/* The stream outlives the request: its plan is a copy that points to nothing of it. */
static och_code export_new(struct exchange *x, const struct plan *plan, struct export **ret_export,
                           och_error *err)
{
    struct export *e = mem_zalloc(sizeof(*e));
    if (!e)
        return FAIL_NO_MEMORY(err, "an export");
    e->stream = (struct http_stream){next_page, export_free};
    e->gateway = x->gateway;
    e->cancel = x->request->limits.cancel;
    arena_init(&e->arena, x->gateway->options.budget, 0);
    buf_init(&e->encoded, BUF_MAX_NONE);
    plan_encode(plan, &e->encoded);
    och_code code = buf_check(&e->encoded, "an export", err);
    if (code == OCH_OK)
        code = plan_decode(buf_view(&e->encoded), &e->arena, &e->plan, err);
    if (code == OCH_OK)
        code = view_acquire(x->gateway->options.views, plan->collection, READ_INDEX_AND_WAL,
                            &e->view, err);
    if (code != OCH_OK) {
        export_free(&e->stream);
        return code;
    }
    uint64_t row_bytes = 1024 + 12ull * view_info(e->view)->dimension,
             rows = PAGE_BYTES / row_bytes;
    e->plan.limit = rows < 16 ? 16 : rows > PAGE_ROWS_MAX ? PAGE_ROWS_MAX : rows;
    *ret_export = e;
    return OCH_OK;
}

struct export_body {
    const struct json_value *where, *where_document;
};

static och_code read_plan(struct exchange *x, const struct sysdb_collection *collection,
                          const struct export_body *body, struct plan *plan, och_error *err)
{
    struct filter_node *where, *document, *both;
    *plan = (struct plan){.kind = PLAN_GET,
                          .level = READ_INDEX_AND_WAL,
                          .collection = collection->id,
                          .fields = EXPORT_FIELDS,
                          .limit = PLAN_NO_LIMIT};
    x->error_root = "where";
    TRY(filter_parse_where(body->where, &x->arena, &where, err));
    x->error_root = "where_document";
    TRY(filter_parse_document(body->where_document, &x->arena, &document, err));
    x->error_root = NULL;
    TRY(filter_join(where, document, &x->arena, &both, err));
    plan->filter = both;
    return schema_gate(&collection->schema, both, err);
}

och_code handle_export(struct exchange *x, och_error *err)
{
    static const struct wire_member members[] = {
        {"where", WIRE_ANY, false, false, .at = offsetof(struct export_body, where)},
        {"where_document", WIRE_ANY, false, false,
         .at = offsetof(struct export_body, where_document)},
    };
    static const struct wire_body shape = {"ExportPayload", members, COUNT_OF(members), true};
    struct export_body body = {0};
    struct plan plan;
    if (x->request->body.len || x->request->body_size_refused)
        TRY(wire_read(x, &shape, &body, err));
    const struct sysdb_collection *collection CLEANUP(sysdb_collection_cleanup) = NULL;
    TRY(exchange_collection(x, &collection, err));
    TRY(read_plan(x, collection, &body, &plan, err));
    struct export *e = NULL;
    TRY(export_new(x, &plan, &e, err));
    bool more = true;
    och_code code = OCH_OK;
    do { /* the first page here, so that its errors have their status */
        code = write_page(e, &x->reply->body, &more, err);
    } while (code == OCH_OK && more && !x->request->streams);
    if (code == OCH_OK && more)
        x->reply->stream = &e->stream;
    else
        export_free(&e->stream);
    if (code == OCH_OK)
        x->reply->content_type = SLICE("application/x-ndjson");
    return code;
}
