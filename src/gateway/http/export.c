/* SPDX-License-Identifier: Apache-2.0 */
/* A collection as NDJSON, a route of our own (docs/extras.md): one view from the first line to the last, read page by page while it is sent, so that
 * it takes the memory of one page.  Callers that cannot take an answer in pieces get it whole. */
#include "gateway/http/exchange.h"
#include "gateway/rule/version.h"

#include "model/limits.h"

#include <inttypes.h>

#define PAGE_BYTES    (1u << 20) /* about so much text a page */
#define PAGE_ROWS_MAX 1024u
#define PAGE_MS       60000u /* deadline of one page; the whole has none but the client's patience */

struct gateway_export {
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

static void write_line(struct buf *out, const struct record *record, unsigned fields,
                       uint32_t dimension)
{
    buf_text(out, "{\"id\":");
    json_write_string(out, record->id);
    if ((fields & RECORD_VECTOR) && record->vector) {
        buf_text(out, ",\"embedding\":");
        json_write_f32_array(out, record->vector, dimension);
    }
    write_text_member(out, "document", fields & RECORD_DOCUMENT ? record->document : SLICE_NONE);
    write_text_member(out, "uri", fields & RECORD_URI ? record->uri : SLICE_NONE);
    if ((fields & RECORD_METADATA) && record->metadata.at) {
        buf_text(out, ",\"metadata\":");
        meta_to_json(record->metadata, out);
    }
    if (record->expires_ms)
        buf_printf(out, ",\"expires_at\":%" PRId64, record->expires_ms);
    buf_text(out, "}\n");
}

och_code gateway_export_next(struct gateway_export *e, struct buf *out, bool *ret_more,
                             och_error *err)
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
            write_line(out, &result.hits->rows[i].record, e->plan.fields, result.dimension);
        code = buf_check(out, "an export", err);
        *ret_more = result.has_last;
        e->plan.has_after = result.has_last;
        e->plan.after = (struct plan_key){.seq = result.last.seq};
    }
    query_result_done(&result);
    arena_done(&arena);
    return code;
}

void gateway_export_free(struct gateway_export *e)
{
    if (!e)
        return;
    view_release(e->view);
    arena_done(&e->arena);
    buf_done(&e->encoded);
    mem_free(e);
}

/* It outlives the request: its plan is a copy that points to nothing of it. */
static och_code export_begin(struct gateway_export *e, const struct gateway_scope *scope,
                             const struct plan *plan, och_error *err)
{
    /* Patterns are tried out now: the copy does not know where in the request they stand. */
    struct filter *compiled CLEANUP(filter_cleanup) = NULL;
    TRY(filter_compile(plan->filter, &compiled, err));
    plan_encode(plan, &e->encoded);
    TRY(buf_check(&e->encoded, "an export", err));
    TRY(plan_decode(buf_view(&e->encoded), &e->arena, &e->plan, err));
    TRY(gateway_view(e->gateway, scope, plan->collection, &e->view, err));
    uint64_t row_bytes = 1024 + 12ull * view_info(e->view)->dimension,
             rows = PAGE_BYTES / row_bytes;
    e->plan.limit = rows < 16 ? 16 : rows > PAGE_ROWS_MAX ? PAGE_ROWS_MAX : rows;
    return OCH_OK;
}

och_code gateway_export_new(struct gateway *gateway, const struct gateway_scope *scope,
                            const struct plan *plan, struct gateway_export **ret_export,
                            och_error *err)
{
    const struct sysdb_collection *collection CLEANUP(sysdb_collection_cleanup) = NULL;
    TRY(sysdb_collection_get(gateway->options.sysdb, scope->tenant, scope->database,
                             plan->collection, &collection, err));
    TRY(schema_gate(&collection->schema, plan->filter, err));
    struct gateway_export *e = MEM_NEW(struct gateway_export);
    if (!e)
        return FAIL_NO_MEMORY(err, "an export");
    e->gateway = gateway;
    e->cancel = scope->limits.cancel;
    arena_init(&e->arena, gateway->options.budget, 0);
    buf_init(&e->encoded, BUF_MAX_NONE);
    och_code code = export_begin(e, scope, plan, err);
    if (code == OCH_OK)
        *ret_export = e;
    else
        gateway_export_free(e);
    return code;
}

/* ---- over HTTP ---- */

struct export_stream {
    struct http_stream stream; /* first */
    struct gateway_export *export;
};

static och_code next_page(struct http_stream *stream, struct buf *body, bool *ret_more)
{
    struct gateway_export *e = ((struct export_stream *)(void *)stream)->export;
    och_error err = {0};
    och_code code = gateway_export_next(e, body, ret_more, &err);
    if (code != OCH_OK)
        trace_line(e->gateway->options.trace, TRACE_WARN, "gateway", "an export was cut off", "why",
                   err.message, NULL);
    return code;
}

static void stream_free(struct http_stream *stream)
{
    gateway_export_free(((struct export_stream *)(void *)stream)->export);
    mem_free(stream);
}

struct export_body {
    const struct json_value *where, *where_document, *as_of;
};

static och_code read_plan(struct exchange *x, const struct sysdb_collection *collection,
                          const struct export_body *body, struct plan *plan, och_error *err)
{
    struct filter_node *where, *document, *both;
    *plan = (struct plan){.kind = PLAN_GET,
                          .level = READ_INDEX_AND_WAL,
                          .collection = collection->id,
                          .fields = GATEWAY_EXPORT_FIELDS,
                          .limit = PLAN_NO_LIMIT};
    x->error_root = "where";
    TRY(filter_parse_where(body->where, &x->arena, &where, err));
    x->error_root = "where_document";
    TRY(filter_parse_document(body->where_document, &x->arena, &document, err));
    x->error_root = NULL;
    TRY(filter_join(where, document, &x->arena, &both, err));
    plan->filter = both;
    return OCH_OK;
}

och_code handle_export(struct exchange *x, och_error *err)
{
    static const struct wire_member members[] = {
        {"where", WIRE_ANY, false, false, .at = offsetof(struct export_body, where)},
        {"where_document", WIRE_ANY, false, false,
         .at = offsetof(struct export_body, where_document)},
        {"as_of", WIRE_ANY, false, false, .at = offsetof(struct export_body, as_of)},
    };
    static const struct wire_body shape = {"ExportPayload", members, COUNT_OF(members), true};
    struct export_body body = {0};
    struct plan plan;
    if (x->request->body.len || x->request->body_size_refused)
        TRY(wire_read(x, &shape, &body, err));
    TRY(exchange_as_of(x, body.as_of, err));
    const struct sysdb_collection *collection CLEANUP(sysdb_collection_cleanup) = NULL;
    TRY(exchange_collection(x, &collection, err));
    TRY(read_plan(x, collection, &body, &plan, err));
    struct export_stream *e = MEM_NEW(struct export_stream);
    if (!e)
        return FAIL_NO_MEMORY(err, "an export");
    e->stream = (struct http_stream){next_page, stream_free};
    x->scope.limits = x->request->limits;
    och_code code = gateway_export_new(x->gateway, &x->scope, &plan, &e->export, err);
    bool more = code == OCH_OK, whole = !x->request->streams;
    for (bool first = true; more && (first || whole); first = false) {
        /* the first page here, so that its errors have their status */
        code = gateway_export_next(e->export, &x->reply->body, &more, err);
        more = more && code == OCH_OK;
    }
    if (more)
        x->reply->stream = &e->stream;
    else
        stream_free(&e->stream);
    if (code == OCH_OK)
        x->reply->content_type = SLICE("application/x-ndjson");
    return code;
}
